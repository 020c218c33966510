//! Reading the words of an `ip` command as iproute2 6.1 does.
//!
//! Words may be abbreviated to any prefix and the first entry of a table that fits wins, so the order of the tables is
//! that of iproute2's sources (`ip.c`, `ipaddress.c`, `iplink.c`, `iproute.c`, `ipneigh.c`, `iprule.c`).

use super::prefix::{prefix, prefix_of};
use super::{
    AddrFilter, Family, IpError, NeighFilter, Options, Query, RouteFilter, Table, View, usage,
};
use crate::model::{Proto, RouteKind, Scope};

/// A whole command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// `-n NODE`
    pub node: Option<String>,
    /// Output options.
    pub options: Options,
    /// What to do.
    pub action: Action,
}

/// What an `ip` command asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Show something.
    View(View),
    /// Change something: object and command in full, the rest as given.
    Change(Vec<String>),
    /// Print this to stdout and succeed (`-V`).
    Say(String),
}

/// The words that are left.
struct Words<'a> {
    rest: std::slice::Iter<'a, String>,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        self.rest.next().map(String::as_str)
    }

    /// iproute2's `NEXT_ARG`: a keyword's value.
    fn value(&mut self) -> Result<&'a str, IpError> {
        self.next().ok_or_else(IpError::incomplete)
    }
}

/// iproute2's `matches`: `word` is a prefix of `full`. An empty word fits nothing.
fn fits(word: &str, full: &str) -> bool {
    !word.is_empty() && full.starts_with(word)
}

fn first_fit(word: &str, table: &[&'static str]) -> Option<&'static str> {
    table.iter().find(|full| fits(word, full)).copied()
}

/// Reads the words that follow `podwire ip`.
///
/// # Errors
/// iproute2's usage errors, word for word.
pub fn parse(args: &[String]) -> Result<Invocation, IpError> {
    let mut options = Options::default();
    let mut node = None;
    let mut words = Words { rest: args.iter() };
    let object = loop {
        let Some(word) = words.next() else {
            return Err(IpError::new(255, usage::IP));
        };
        let Some(option) = word.strip_prefix('-') else {
            break word;
        };
        let option = option.strip_prefix('-').unwrap_or(option);
        match option {
            "4" => options.family = Family::Inet,
            "6" => options.family = Family::Inet6,
            "0" => options.family = Family::Link,
            _ => match first_fit(
                option,
                &[
                    "family", "help", "oneline", "Version", "brief", "json", "pretty", "netns",
                ],
            ) {
                Some("family") => options.family = family(words.value()?)?,
                Some("oneline") => options.oneline = true,
                // `-b` alone is `-batch`, which is not offered.
                Some("brief") if option != "b" => options.brief = true,
                Some("json") => options.json = true,
                Some("pretty") => options.pretty = true,
                Some("netns") => node = Some(words.value()?.to_owned()),
                Some("help") => return Err(IpError::new(255, usage::IP)),
                Some("Version") => {
                    let version = env!("CARGO_PKG_VERSION");
                    return Ok(Invocation {
                        node,
                        options,
                        action: Action::Say(format!(
                            "podwire ip utility, podwire-{version}, in the manner of iproute2-6.1.0\n"
                        )),
                    });
                }
                _ => {
                    let text = format!("Option \"{word}\" is unknown, try \"ip -help\".");
                    return Err(IpError::new(255, text));
                }
            },
        }
    };
    let action = match first_fit(
        object,
        &[
            "address",
            "route",
            "rule",
            "neighbor",
            "neighbour",
            "link",
            "help",
        ],
    ) {
        Some("address") => address(&mut words)?,
        Some("route") => route(&mut words)?,
        Some("rule") => rule(&mut words)?,
        Some("neighbor" | "neighbour") => neigh(&mut words)?,
        Some("link") => link(&mut words)?,
        Some(_) => return Err(IpError::new(255, usage::IP)),
        None => {
            let text = format!("Object \"{object}\" is unknown, try \"ip help\".");
            return Err(IpError::new(1, text));
        }
    };
    Ok(Invocation {
        node,
        options,
        action,
    })
}

fn family(word: &str) -> Result<Family, IpError> {
    match word {
        "inet" => Ok(Family::Inet),
        "inet6" => Ok(Family::Inet6),
        "link" => Ok(Family::Link),
        _ => Err(IpError::argument(word, "invalid protocol family")),
    }
}

fn change(object: &str, command: &str, words: Words<'_>) -> Action {
    let head = [object.to_owned(), command.to_owned()];
    Action::Change(head.into_iter().chain(words.rest.cloned()).collect())
}

fn unknown(command: &str, object: &str) -> IpError {
    let text = format!("Command \"{command}\" is unknown, try \"ip {object} help\".");
    IpError::new(255, text)
}

fn take<'a>(words: &mut Words<'a>) -> Words<'a> {
    Words {
        rest: std::mem::take(&mut words.rest),
    }
}

fn address(words: &mut Words<'_>) -> Result<Action, IpError> {
    let Some(command) = words.next() else {
        return Ok(Action::View(View::Addr(AddrFilter::default())));
    };
    match first_fit(
        command,
        &[
            "add", "change", "chg", "replace", "delete", "show", "lst", "list", "flush", "help",
        ],
    ) {
        Some("show" | "lst" | "list") => Ok(Action::View(View::Addr(addr_filter(words)?))),
        Some("help") => Err(IpError::new(255, usage::ADDRESS)),
        Some("chg") => Ok(change("addr", "change", take(words))),
        Some(full) => Ok(change("addr", full, take(words))),
        None => Err(unknown(command, "address")),
    }
}

fn link(words: &mut Words<'_>) -> Result<Action, IpError> {
    let Some(command) = words.next() else {
        return Ok(Action::View(View::Link(AddrFilter::default())));
    };
    match first_fit(
        command,
        &[
            "add", "set", "change", "replace", "delete", "show", "lst", "list", "help",
        ],
    ) {
        Some("show" | "lst" | "list") => Ok(Action::View(View::Link(addr_filter(words)?))),
        Some("help") => Err(IpError::new(255, usage::LINK)),
        Some("change") => Ok(change("link", "set", take(words))),
        Some(full) => Ok(change("link", full, take(words))),
        None => Err(unknown(command, "link")),
    }
}

fn route(words: &mut Words<'_>) -> Result<Action, IpError> {
    let Some(command) = words.next() else {
        return Ok(Action::View(View::Route(RouteFilter::default())));
    };
    let table = [
        "list", "show", "lst", "get", "add", "change", "chg", "replace", "prepend", "append",
        "test", "delete", "flush", "help",
    ];
    match first_fit(command, &table) {
        Some("list" | "show" | "lst") => Ok(Action::View(View::Route(route_filter(words)?))),
        Some("get") => Ok(Action::View(View::RouteGet(route_get(words)?))),
        Some("help") => Err(IpError::new(255, usage::ROUTE)),
        Some("chg") => Ok(change("route", "change", take(words))),
        Some(full) => Ok(change("route", full, take(words))),
        None => Err(unknown(command, "route")),
    }
}

fn rule(words: &mut Words<'_>) -> Result<Action, IpError> {
    let Some(command) = words.next() else {
        return Ok(Action::View(View::Rule));
    };
    match first_fit(
        command,
        &["list", "lst", "show", "add", "delete", "flush", "help"],
    ) {
        Some("list" | "lst" | "show") => match words.next() {
            None => Ok(Action::View(View::Rule)),
            Some(word) => {
                let text = format!("Error: inet prefix is expected rather than \"{word}\".");
                Err(IpError::new(1, text))
            }
        },
        Some("help") => Err(IpError::new(255, usage::RULE)),
        Some(full) => Ok(change("rule", full, take(words))),
        None => Err(unknown(command, "rule")),
    }
}

fn neigh(words: &mut Words<'_>) -> Result<Action, IpError> {
    let Some(command) = words.next() else {
        return Ok(Action::View(View::Neigh(NeighFilter::default())));
    };
    match first_fit(
        command,
        &[
            "add", "change", "chg", "replace", "delete", "show", "lst", "list", "flush", "help",
        ],
    ) {
        Some("show" | "lst" | "list") => Ok(Action::View(View::Neigh(neigh_filter(words)?))),
        Some("help") => Err(IpError::new(255, usage::NEIGH)),
        Some("chg") => Ok(change("neigh", "change", take(words))),
        Some(full) => Ok(change("neigh", full, take(words))),
        None => Err(unknown(command, "neigh")),
    }
}

fn addr_filter(words: &mut Words<'_>) -> Result<AddrFilter, IpError> {
    let mut filter = AddrFilter::default();
    while let Some(word) = words.next() {
        match word {
            "to" => filter.to = Some(prefix(words.value()?)?),
            "scope" => filter.scope = scope(words.value()?)?,
            "up" => filter.up = true,
            "dynamic" => filter.dynamic = Some(true),
            "permanent" => filter.dynamic = Some(false),
            "secondary" => filter.secondary = Some(true),
            "primary" => filter.secondary = Some(false),
            "master" => filter.master = Some(words.value()?.to_owned()),
            "type" => filter.kind = Some(words.value()?.to_owned()),
            "help" => return Err(IpError::new(255, usage::ADDRESS)),
            _ => {
                let name = if word == "dev" { words.value()? } else { word };
                if filter.dev.is_some() {
                    let text =
                        format!("Error: either \"dev\" is duplicate, or \"{name}\" is a garbage.");
                    return Err(IpError::new(255, text));
                }
                filter.dev = Some(name.to_owned());
            }
        }
    }
    Ok(filter)
}

fn scope(word: &str) -> Result<Option<Scope>, IpError> {
    match word {
        "all" => Ok(None),
        "global" | "0" => Ok(Some(Scope::Global)),
        "link" | "253" => Ok(Some(Scope::Link)),
        "host" | "254" => Ok(Some(Scope::Host)),
        _ => Err(IpError::argument(word, "invalid \"scope\"\n")),
    }
}

fn proto(word: &str) -> Result<Proto, IpError> {
    match word {
        "kernel" | "2" => Ok(Proto::Kernel),
        "boot" | "3" => Ok(Proto::Boot),
        "static" | "4" => Ok(Proto::Static),
        "bird" | "12" => Ok(Proto::Bird),
        "dhcp" | "16" => Ok(Proto::Dhcp),
        _ => Err(IpError::argument(word, "invalid \"protocol\"\n")),
    }
}

fn kind(word: &str) -> Result<RouteKind, IpError> {
    [
        ("unicast", RouteKind::Unicast),
        ("blackhole", RouteKind::Blackhole),
        ("unreachable", RouteKind::Unreachable),
        ("prohibit", RouteKind::Prohibit),
        ("throw", RouteKind::Throw),
    ]
    .into_iter()
    .find_map(|(full, kind)| fits(word, full).then_some(kind))
    .ok_or_else(|| IpError::argument(word, "node type value is invalid\n"))
}

fn route_filter(words: &mut Words<'_>) -> Result<RouteFilter, IpError> {
    let mut filter = RouteFilter::default();
    while let Some(word) = words.next() {
        match word {
            "table" => filter.table = table(words.value()?)?,
            "dev" | "oif" => filter.dev = Some(words.value()?.to_owned()),
            "proto" | "protocol" => filter.proto = Some(proto(words.value()?)?),
            "scope" => filter.scope = scope(words.value()?)?,
            "type" => filter.kind = Some(kind(words.value()?)?),
            "via" => filter.via = Some(prefix(words.value()?)?.addr()),
            "src" => filter.src = Some(prefix(words.value()?)?.addr()),
            "metric" | "priority" | "preference" => {
                let word = words.value()?;
                let wrong = || IpError::argument(word, "\"metric\" value is invalid\n");
                filter.metric = Some(word.parse().map_err(|_| wrong())?);
            }
            "root" => filter.root = Some(prefix(words.value()?)?),
            "match" => filter.covers = Some(prefix(words.value()?)?),
            "exact" => filter.exact = Some(prefix(words.value()?)?),
            "to" => match words.value()? {
                "root" => filter.root = Some(prefix(words.value()?)?),
                "match" => filter.covers = Some(prefix(words.value()?)?),
                "exact" => filter.exact = Some(prefix(words.value()?)?),
                word => filter.exact = Some(prefix(word)?),
            },
            "help" => return Err(IpError::new(255, usage::ROUTE)),
            word => filter.exact = Some(prefix(word)?),
        }
    }
    Ok(filter)
}

fn table(word: &str) -> Result<Table, IpError> {
    match word {
        "main" | "254" => Ok(Table::Main),
        "local" | "255" => Ok(Table::Local),
        "all" | "0" | "unspec" => Ok(Table::All),
        "default" | "253" => Ok(Table::Absent),
        _ if word.parse::<u32>().is_ok() => Ok(Table::Absent),
        _ => Err(IpError::argument(word, "table id value is invalid\n")),
    }
}

fn route_get(words: &mut Words<'_>) -> Result<Query, IpError> {
    let mut query = Query::default();
    let mut dst = None;
    while let Some(word) = words.next() {
        match word {
            "from" => query.from = Some(prefix(words.value()?)?.addr()),
            "iif" => query.iif = Some(words.value()?.to_owned()),
            "oif" | "dev" => query.oif = Some(words.value()?.to_owned()),
            "help" => return Err(IpError::new(255, usage::ROUTE)),
            _ => {
                let word = if word == "to" { words.value()? } else { word };
                // Once an IPv4 address was read, iproute2 insists on the family.
                let family = if dst.is_some() { "inet" } else { "any valid" };
                dst = Some(prefix_of(word, family)?.addr());
            }
        }
    }
    query.dst = dst.ok_or_else(|| IpError::new(1, "need at least a destination address"))?;
    Ok(query)
}

fn neigh_filter(words: &mut Words<'_>) -> Result<NeighFilter, IpError> {
    let mut filter = NeighFilter::default();
    while let Some(word) = words.next() {
        match word {
            "dev" => filter.dev = Some(words.value()?.to_owned()),
            "nud" => {
                let word = words.value()?;
                let states = [
                    "permanent",
                    "reachable",
                    "noarp",
                    "none",
                    "stale",
                    "incomplete",
                    "delay",
                    "probe",
                    "failed",
                ];
                if word != "all" {
                    let state = first_fit(word, &states)
                        .ok_or_else(|| IpError::argument(word, "nud state is bad"))?;
                    filter.states.push(state.to_ascii_uppercase());
                }
            }
            "help" => return Err(IpError::new(255, usage::NEIGH)),
            _ => {
                let word = if word == "to" { words.value()? } else { word };
                filter.to = Some(prefix(word)?);
            }
        }
    }
    Ok(filter)
}

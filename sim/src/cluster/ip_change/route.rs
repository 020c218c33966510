//! `ip route add|del|change|replace|append|flush`.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::words::{Words, abbreviates, garbage, prefix};
use super::{find_dev, unknown_command};
use crate::cluster::IpError;
use crate::model::{Hop, Node, Proto, RouteEntry, RouteKind, RouteOwner, Scope};

/// A route as it was written.
#[derive(Default)]
struct Written {
    kind: Option<RouteKind>,
    dst: Option<Ipv4Net>,
    proto: Option<Proto>,
    scope: Option<Scope>,
    src: Option<Ipv4Addr>,
    metric: Option<u32>,
    hop: WrittenHop,
    nexthops: Vec<WrittenHop>,
}

#[derive(Default)]
struct WrittenHop {
    via: Option<Ipv4Addr>,
    dev: Option<String>,
    onlink: bool,
    weight: Option<u8>,
}

pub(super) fn apply(node: &mut Node, command: &str, words: Words<'_>) -> Result<(), IpError> {
    match command {
        _ if abbreviates(command, "add") => add(node, words, Mode::Add),
        _ if abbreviates(command, "change") || command == "chg" => add(node, words, Mode::Change),
        _ if abbreviates(command, "replace") => add(node, words, Mode::Replace),
        _ if abbreviates(command, "append") => add(node, words, Mode::Append),
        _ if abbreviates(command, "delete") => delete(node, words),
        _ if abbreviates(command, "flush") => flush(node, words),
        _ => Err(unknown_command("route", command)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Add,
    Append,
    Change,
    Replace,
}

fn kind_of(word: &str) -> Option<RouteKind> {
    match word {
        "unicast" => Some(RouteKind::Unicast),
        "blackhole" => Some(RouteKind::Blackhole),
        "unreachable" => Some(RouteKind::Unreachable),
        "prohibit" => Some(RouteKind::Prohibit),
        "throw" => Some(RouteKind::Throw),
        _ => None,
    }
}

impl Written {
    fn parse(mut words: Words<'_>) -> Result<Self, IpError> {
        let mut route = Self::default();
        while let Some(word) = words.next() {
            match word {
                "via" => route.hop.via = Some(via(&mut words)?),
                "dev" | "oif" => route.hop.dev = Some(words.value()?.to_owned()),
                "onlink" => route.hop.onlink = true,
                "src" => route.src = Some(words.address()?),
                "metric" | "priority" | "preference" => {
                    route.metric = Some(words.number("metric")?);
                }
                "protocol" | "proto" => route.proto = Some(words.proto()?),
                "scope" => route.scope = Some(words.scope()?),
                "table" => main_table(&mut words)?,
                "nexthop" => route.nexthops.push(nexthop(&mut words)?),
                _ => {
                    let mut target = word;
                    if target == "to" {
                        target = words.value()?;
                    }
                    if let Some(kind) = kind_of(target).filter(|_| route.dst.is_none()) {
                        route.kind = Some(kind);
                        target = words.value()?;
                    }
                    if route.dst.is_some() {
                        return Err(garbage("to", target));
                    }
                    route.dst = Some(prefix(target)?.0);
                }
            }
        }
        Ok(route)
    }
}

/// What a line says, without carrying it out.
pub(super) fn parse(words: Words<'_>) -> Result<super::ParsedRoute, IpError> {
    let written = Written::parse(words)?;
    let Some(dst) = written.dst else {
        return Err(IpError {
            message: "Command line is not complete. Try option \"help\"".into(),
            status: 255,
        });
    };
    if dst.trunc() != dst {
        return Err(IpError::kernel(
            "Error: Invalid prefix for given prefix length.",
        ));
    }
    let hops = written.nexthops.iter().chain([&written.hop]);
    Ok(super::ParsedRoute {
        dst,
        via: written.hop.via,
        src: written.src,
        scope: written.scope,
        devs: hops.filter_map(|hop| hop.dev.clone()).collect(),
        plain: written.nexthops.is_empty()
            && !written.hop.onlink
            && written.metric.is_none()
            && written.proto.is_none()
            && written.kind.is_none_or(|kind| kind == RouteKind::Unicast),
    })
}

/// `ip route add`, but a route that is there is no mistake.
pub(super) fn add_new(node: &mut Node, words: Words<'_>) -> Result<bool, IpError> {
    let written = Written::parse(words)?;
    let (dst, metric) = (written.dst, written.metric.unwrap_or(0));
    let there = |route: &RouteEntry| Some(route.dst) == dst && route.metric == metric;
    if node.routes.iter().any(there) {
        return Ok(false);
    }
    add(node, words, Mode::Add).map(|()| true)
}

fn via(words: &mut Words<'_>) -> Result<Ipv4Addr, IpError> {
    if words.peek() == Some("inet") {
        words.next();
    }
    words.address()
}

fn main_table(words: &mut Words<'_>) -> Result<(), IpError> {
    match words.value()? {
        "main" | "254" => Ok(()),
        _ => Err(IpError::rtnetlink("Operation not supported")),
    }
}

fn nexthop(words: &mut Words<'_>) -> Result<WrittenHop, IpError> {
    let mut hop = WrittenHop::default();
    while let Some(word) = words.peek() {
        match word {
            "via" => {
                words.next();
                hop.via = Some(via(words)?);
            }
            "dev" | "oif" => {
                words.next();
                hop.dev = Some(words.value()?.to_owned());
            }
            "weight" => {
                words.next();
                let weight = words.number("weight")?;
                hop.weight = u8::try_from(weight).ok().filter(|weight| *weight > 0);
                if hop.weight.is_none() {
                    return Err(super::words::wrong(
                        &weight.to_string(),
                        "\"weight\" is invalid",
                    ));
                }
            }
            "onlink" => {
                words.next();
                hop.onlink = true;
            }
            _ => break,
        }
    }
    Ok(hop)
}

/// What the kernel makes of a next hop (`fib_check_nh`): a gateway must be on a link that a route of scope link or narrower
/// leads to (FWD-56), unless `onlink` says otherwise (FWD-55).
fn resolve(node: &Node, hop: &WrittenHop) -> Result<Hop, IpError> {
    let resolved = |dev: &str| Hop {
        via: hop.via,
        dev: dev.to_owned(),
        onlink: hop.onlink,
        weight: hop.weight.unwrap_or(1),
    };
    if let Some(dev) = &hop.dev {
        let iface = find_dev(node, dev)?;
        if !iface.up {
            return Err(if hop.via.is_some() {
                IpError::kernel("Error: Nexthop device is not up.")
            } else {
                IpError::kernel("Error: Device for nexthop is not up.")
            });
        }
    }
    let Some(gateway) = hop.via else {
        return match &hop.dev {
            Some(dev) => Ok(resolved(dev)),
            None => Err(IpError::rtnetlink("No such device")),
        };
    };
    if hop.onlink {
        return match &hop.dev {
            Some(dev) => Ok(resolved(dev)),
            None => Err(IpError::kernel(
                "Error: Nexthop device required for onlink.",
            )),
        };
    }
    node.routes
        .iter()
        .filter(|route| route.kind == RouteKind::Unicast && route.scope != Scope::Global)
        .filter(|route| route.dst.contains(&gateway))
        .filter_map(|route| {
            let on_link =
                |it: &&Hop| it.via.is_none() && hop.dev.as_ref().is_none_or(|dev| *dev == it.dev);
            route
                .hops
                .iter()
                .find(on_link)
                .map(|found| (route.dst.prefix_len(), found))
        })
        .max_by_key(|(length, _)| *length)
        .map(|(_, found)| resolved(&found.dev))
        .ok_or_else(|| IpError::kernel("Error: Nexthop has invalid gateway."))
}

fn add(node: &mut Node, words: Words<'_>, mode: Mode) -> Result<(), IpError> {
    let written = Written::parse(words)?;
    let Some(dst) = written.dst else {
        return Err(IpError {
            message: "Command line is not complete. Try option \"help\"".into(),
            status: 255,
        });
    };
    // iproute2 looks devices up before it asks the kernel.
    for hop in written.nexthops.iter().chain([&written.hop]) {
        if let Some(dev) = &hop.dev {
            find_dev(node, dev)?;
        }
    }
    if dst.trunc() != dst {
        return Err(IpError::kernel(
            "Error: Invalid prefix for given prefix length.",
        ));
    }
    let kind = written.kind.unwrap_or_default();
    let hops = match kind {
        RouteKind::Unicast if written.nexthops.is_empty() => vec![resolve(node, &written.hop)?],
        RouteKind::Unicast => written
            .nexthops
            .iter()
            .map(|hop| resolve(node, hop))
            .collect::<Result<_, _>>()?,
        _ => Vec::new(),
    };
    if let Some(src) = written.src
        && !is_local(node, src)
    {
        return Err(IpError::kernel("Error: Invalid prefsrc address."));
    }
    let direct = written.hop.via.is_none() && written.nexthops.is_empty();
    let scope = match (written.scope, kind) {
        (Some(scope), _) => scope,
        (None, RouteKind::Unicast) if direct => Scope::Link,
        (None, _) => Scope::Global,
    };
    let entry = RouteEntry {
        dst,
        kind,
        hops,
        proto: written.proto.unwrap_or_default(),
        scope,
        src: written.src,
        metric: written.metric.unwrap_or(0),
        owner: RouteOwner::Manual,
    };
    let same = |route: &RouteEntry| route.dst == entry.dst && route.metric == entry.metric;
    let at = node.routes.iter().position(same);
    match (at, mode) {
        (Some(_), Mode::Add) => return Err(IpError::rtnetlink("File exists")),
        (Some(at), Mode::Change | Mode::Replace) => node.routes[at] = entry,
        (None, Mode::Change) => return Err(IpError::rtnetlink("No such file or directory")),
        (None, _) => node.routes.push(entry),
        (Some(_), Mode::Append) => {
            let behind = node.routes.iter().rposition(same).map_or(0, |at| at + 1);
            node.routes.insert(behind, entry);
        }
    }
    Ok(())
}

fn delete(node: &mut Node, words: Words<'_>) -> Result<(), IpError> {
    let written = Written::parse(words)?;
    if let Some(dev) = &written.hop.dev {
        find_dev(node, dev)?;
    }
    let dst = written.dst.unwrap_or_default();
    if dst.trunc() != dst {
        return Err(IpError::kernel(
            "Error: Invalid prefix for given prefix length.",
        ));
    }
    let at = node
        .routes
        .iter()
        .position(|route| route.dst == dst && matches(route, &written))
        .ok_or_else(|| IpError::rtnetlink("No such process"))?;
    node.routes.remove(at);
    Ok(())
}

/// What was written about a route, apart from its destination, holds for this one.
fn matches(route: &RouteEntry, written: &Written) -> bool {
    let hop = &written.hop;
    written.kind.is_none_or(|kind| kind == route.kind)
        && written
            .metric
            .is_none_or(|metric| metric == 0 || metric == route.metric)
        && written.proto.is_none_or(|proto| proto == route.proto)
        && written.scope.is_none_or(|scope| scope == route.scope)
        && written.src.is_none_or(|src| Some(src) == route.src)
        && hop
            .via
            .is_none_or(|via| route.hops.iter().any(|it| it.via == Some(via)))
        && hop
            .dev
            .as_ref()
            .is_none_or(|dev| route.hops.iter().any(|it| it.dev == *dev))
}

fn flush(node: &mut Node, mut words: Words<'_>) -> Result<(), IpError> {
    if words.peek().is_none() {
        return Err(IpError::usage("\"ip route flush\" requires arguments."));
    }
    enum Covers {
        Any,
        Exact(Ipv4Net),
        Root(Ipv4Net),
        Match(Ipv4Net),
    }
    let mut covers = Covers::Any;
    let mut written = Written::default();
    while let Some(word) = words.next() {
        match word {
            "via" => written.hop.via = Some(via(&mut words)?),
            "dev" | "oif" => written.hop.dev = Some(words.value()?.to_owned()),
            "protocol" | "proto" => written.proto = Some(words.proto()?),
            "scope" => written.scope = Some(words.scope()?),
            "src" => written.src = Some(words.address()?),
            "metric" => written.metric = Some(words.number("metric")?),
            "table" => main_table(&mut words)?,
            "type" => {
                let word = words.value()?;
                let kind = kind_of(word)
                    .ok_or_else(|| super::words::wrong(word, "node type value is invalid"))?;
                written.kind = Some(kind);
            }
            "root" => covers = Covers::Root(prefix(words.value()?)?.0),
            "match" => covers = Covers::Match(prefix(words.value()?)?.0),
            "exact" | "to" => covers = Covers::Exact(prefix(words.value()?)?.0),
            _ => covers = Covers::Exact(prefix(word)?.0),
        }
    }
    if let Some(dev) = &written.hop.dev {
        find_dev(node, dev)?;
    }
    node.routes.retain(|route| {
        let covered = match &covers {
            Covers::Any => true,
            Covers::Exact(net) => route.dst == *net,
            Covers::Root(net) => net.contains(&route.dst),
            Covers::Match(net) => route.dst.contains(net),
        };
        !(covered && matches(route, &written))
    });
    Ok(())
}

fn is_local(node: &Node, addr: Ipv4Addr) -> bool {
    node.ifaces
        .iter()
        .flat_map(|iface| &iface.addrs)
        .any(|own| own.net.addr() == addr)
}

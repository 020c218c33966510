//! `ip addr` and `ip link`, with `-br` and `-o`.
//!
//! What a kernel derives from a device (flags, operational state, `@ifN`) is derived here from the model's interface.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Serialize;

use super::{Family, IpError, Options, json};
use crate::model::{IfAddr, Iface, IfaceKind, Node, Scope};

/// Which interfaces and addresses to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddrFilter {
    /// Only this interface.
    pub dev: Option<String>,
    /// Only interfaces that are administratively up.
    pub up: bool,
    /// Only addresses of this scope.
    pub scope: Option<Scope>,
    /// Only addresses in this prefix.
    pub to: Option<Ipv4Net>,
    /// Only ports of this bridge.
    pub master: Option<String>,
    /// Only interfaces of this kind: `veth`, `bridge`, `sit`, `ipip`.
    pub kind: Option<String>,
    /// Only leased addresses (or, if false, only permanent ones).
    pub dynamic: Option<bool>,
    /// Only secondary addresses (or, if false, only primary ones).
    pub secondary: Option<bool>,
}

/// `valid_life_time` of an address without a lease.
const FOREVER: u32 = u32::MAX;

/// `-o addr` has nothing but the addresses.
#[derive(Serialize)]
#[serde(untagged)]
enum EntryJson<'a> {
    Link(Box<LinkJson<'a>>),
    Addresses { addr_info: Vec<AddrJson<'a>> },
}

#[derive(Serialize)]
struct LinkJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    ifindex: Option<u32>,
    /// The inner null is sit0's: a tunnel without an underlying device.
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_index: Option<u32>,
    ifname: &'a str,
    #[serde(flatten)]
    detail: Option<DetailJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operstate: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    linkmode: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    txqlen: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    broadcast: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_netnsid: Option<u32>,
    /// `-br link` has them after the address.
    #[serde(rename = "flags", skip_serializing_if = "Option::is_none")]
    brief_flags: Option<Vec<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    addr_info: Option<Vec<AddrJson<'a>>>,
}

#[derive(Serialize)]
struct DetailJson<'a> {
    flags: Vec<&'static str>,
    mtu: u32,
    qdisc: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    master: Option<&'a str>,
}

#[derive(Default, Serialize)]
struct AddrJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<&'static str>,
    local: String,
    prefixlen: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    broadcast: Option<Ipv4Addr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secondary: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dynamic: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_life_time: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preferred_life_time: Option<u32>,
}

/// An address of either family, ready to print.
struct Shown<'a> {
    family: &'static str,
    local: String,
    prefixlen: u8,
    broadcast: Option<Ipv4Addr>,
    scope: Scope,
    secondary: bool,
    lease: Option<u32>,
    /// The interface's name as the label; IPv6 has none.
    label: Option<&'a str>,
}

pub(super) const fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::Global => "global",
        Scope::Link => "link",
        Scope::Host => "host",
    }
}

/// True when an earlier address of the interface has the same subnet.
pub(super) fn is_secondary(iface: &Iface, addr: &IfAddr) -> bool {
    let same = |other: &&IfAddr| other.net.trunc() == addr.net.trunc();
    let first = iface.addrs.iter().find(same);
    first.is_some_and(|first| !std::ptr::eq(first, addr))
}

pub(super) fn flags(iface: &Iface) -> Vec<&'static str> {
    let mut flags = Vec::new();
    if iface.up && !iface.carrier {
        flags.push("NO-CARRIER");
    }
    match iface.kind {
        IfaceKind::Loopback => flags.push("LOOPBACK"),
        IfaceKind::Sit | IfaceKind::Ipip => flags.push("NOARP"),
        IfaceKind::Ethernet | IfaceKind::Bridge | IfaceKind::Veth { .. } => {
            flags.extend(["BROADCAST", "MULTICAST"]);
            if iface.sysctls.promisc {
                flags.push("PROMISC");
            }
        }
    }
    if iface.up {
        flags.push("UP");
        if iface.carrier {
            flags.push("LOWER_UP");
        }
    }
    flags
}

/// RFC 2863's state as the drivers of these kinds set it: lo and tunnels never leave UNKNOWN while up.
const fn operstate(iface: &Iface) -> &'static str {
    if !iface.up {
        return "DOWN";
    }
    match (&iface.kind, iface.carrier) {
        (IfaceKind::Loopback | IfaceKind::Sit | IfaceKind::Ipip, _) => "UNKNOWN",
        (IfaceKind::Ethernet | IfaceKind::Bridge | IfaceKind::Veth { .. }, true) => "UP",
        (IfaceKind::Ethernet | IfaceKind::Bridge, false) => "DOWN",
        (IfaceKind::Veth { .. }, false) => "LOWERLAYERDOWN",
    }
}

const fn kind_name(kind: &IfaceKind) -> &'static str {
    match kind {
        // lo and a plain Ethernet device have no kind in rtnetlink; an empty filter can't be written.
        IfaceKind::Loopback | IfaceKind::Ethernet => "",
        IfaceKind::Sit => "sit",
        IfaceKind::Ipip => "ipip",
        IfaceKind::Bridge => "bridge",
        IfaceKind::Veth { .. } => "veth",
    }
}

fn full_name(iface: &Iface) -> String {
    match iface.kind {
        IfaceKind::Sit | IfaceKind::Ipip => format!("{}@NONE", iface.name),
        IfaceKind::Veth { peer_index, .. } => format!("{}@if{peer_index}", iface.name),
        IfaceKind::Loopback | IfaceKind::Ethernet | IfaceKind::Bridge => iface.name.clone(),
    }
}

/// Link type, address and broadcast address.
fn link_layer(iface: &Iface) -> (&'static str, String, String) {
    match iface.kind {
        IfaceKind::Loopback => ("loopback", iface.mac.to_string(), iface.mac.to_string()),
        IfaceKind::Sit => ("sit", "0.0.0.0".to_owned(), "0.0.0.0".to_owned()),
        IfaceKind::Ipip => ("ipip", "0.0.0.0".to_owned(), "0.0.0.0".to_owned()),
        IfaceKind::Ethernet | IfaceKind::Bridge | IfaceKind::Veth { .. } => (
            "ether",
            iface.mac.to_string(),
            router_core::Mac::BROADCAST.to_string(),
        ),
    }
}

fn addresses<'a>(filter: &AddrFilter, options: &Options, iface: &'a Iface) -> Vec<Shown<'a>> {
    let mut shown = Vec::new();
    if matches!(options.family, Family::Any | Family::Inet) {
        shown.extend(iface.addrs.iter().map(|addr| Shown {
            family: "inet",
            local: addr.net.addr().to_string(),
            prefixlen: addr.net.prefix_len(),
            broadcast: addr.broadcast,
            scope: addr.scope,
            secondary: is_secondary(iface, addr),
            lease: addr.lease_secs,
            label: Some(&iface.name),
        }));
        // The kernel keeps secondary addresses behind all primary ones.
        shown.sort_by_key(|addr| addr.secondary);
        if let Some(to) = filter.to {
            let inside =
                |shown: &Shown<'_>| shown.local.parse().is_ok_and(|a: Ipv4Addr| to.contains(&a));
            shown.retain(inside);
        }
    }
    if matches!(options.family, Family::Any | Family::Inet6) && filter.to.is_none() {
        shown.extend(iface.link_local.map(|addr| {
            let (prefixlen, scope) = if addr.is_loopback() {
                (128, Scope::Host)
            } else {
                (64, Scope::Link)
            };
            Shown {
                family: "inet6",
                local: addr.to_string(),
                prefixlen,
                broadcast: None,
                scope,
                secondary: false,
                lease: None,
                label: None,
            }
        }));
    }
    shown.retain(|addr| {
        filter.scope.is_none_or(|scope| scope == addr.scope)
            && filter
                .dynamic
                .is_none_or(|dynamic| dynamic == addr.lease.is_some())
            && filter
                .secondary
                .is_none_or(|secondary| secondary == addr.secondary)
    });
    shown
}

fn matches_link(filter: &AddrFilter, iface: &Iface) -> bool {
    filter.dev.as_ref().is_none_or(|dev| *dev == iface.name)
        && (!filter.up || iface.up)
        && filter
            .master
            .as_ref()
            .is_none_or(|m| iface.master.as_ref() == Some(m))
        && filter
            .kind
            .as_ref()
            .is_none_or(|kind| kind == kind_name(&iface.kind))
}

/// `ip addr` with `with_addresses`, else `ip link`.
pub(super) fn print(
    filter: &AddrFilter,
    options: &Options,
    node: &Node,
    with_addresses: bool,
) -> Result<String, IpError> {
    let exists = |name: &String| node.ifaces.iter().any(|iface| iface.name == *name);
    if let Some(dev) = filter.dev.as_ref().filter(|dev| !exists(dev)) {
        return Err(IpError::new(1, format!("Device \"{dev}\" does not exist.")));
    }
    if let Some(master) = filter.master.as_ref().filter(|master| !exists(master)) {
        return Err(IpError::argument(master, "Device does not exist\n"));
    }
    // With -4, -6 or a prefix, iproute2 leaves out what has no such address, and the link-layer line.
    let by_family = with_addresses
        && (matches!(options.family, Family::Inet | Family::Inet6) || filter.to.is_some());
    let narrowed = by_family
        || filter.scope.is_some()
        || filter.dynamic.is_some()
        || filter.secondary.is_some();
    let link_only = with_addresses && options.family == Family::Link;
    let mut text = String::new();
    let mut objects = Vec::new();
    for iface in node
        .ifaces
        .iter()
        .filter(|iface| matches_link(filter, iface))
    {
        let addrs = if with_addresses && !link_only {
            addresses(filter, options, iface)
        } else {
            Vec::new()
        };
        // A filter by scope or lifetime passes over interfaces that have no address to judge by.
        let judged = by_family || !iface.addrs.is_empty() || iface.link_local.is_some();
        if with_addresses && narrowed && judged && addrs.is_empty() {
            continue;
        }
        let show = Show {
            iface,
            addrs,
            link_mode: !with_addresses,
            with_addresses: with_addresses && !link_only,
            by_family,
        };
        if options.json {
            objects.push(show.entry(options));
        } else if options.brief {
            text.push_str(&show.brief());
        } else if options.oneline && with_addresses && !link_only {
            text.push_str(&show.oneline());
        } else {
            text.push_str(&show.full(options));
        }
    }
    if options.json {
        return Ok(json::print(options, &objects));
    }
    Ok(text)
}

/// One interface with what is to be shown of it.
struct Show<'a> {
    iface: &'a Iface,
    addrs: Vec<Shown<'a>>,
    link_mode: bool,
    with_addresses: bool,
    by_family: bool,
}

impl<'a> Show<'a> {
    fn full(&self, options: &Options) -> String {
        let iface = self.iface;
        let separator = options.separator();
        let mut text = format!(
            "{}: {}: <{}> mtu {} ",
            iface.index,
            full_name(iface),
            flags(iface).join(","),
            iface.mtu
        );
        // iproute2's IPv6 dump carries neither qdisc nor group.
        let inet6_dump = self.by_family && options.family == Family::Inet6;
        if !inet6_dump {
            text += &format!("qdisc {} ", iface.qdisc);
        }
        if let Some(master) = &iface.master {
            text += &format!("master {master} ");
        }
        text += &format!("state {} ", operstate(iface));
        if self.link_mode {
            text += "mode DEFAULT ";
        }
        if !inet6_dump {
            text += "group default ";
        }
        if let Some(qlen) = iface.qlen {
            text += &format!("qlen {qlen}");
        }
        if !self.by_family {
            let (kind, address, broadcast) = link_layer(iface);
            text += &format!("{separator}    link/{kind} {address} brd {broadcast}");
        }
        if let IfaceKind::Veth { netnsid, .. } = iface.kind {
            text += &format!(" link-netnsid {netnsid}");
        }
        text.push('\n');
        for addr in &self.addrs {
            text += &format!("    {}\n", addr.text("\n"));
        }
        text
    }

    fn oneline(&self) -> String {
        let line = |addr: &Shown<'_>| {
            format!(
                "{}: {}    {}\n",
                self.iface.index,
                self.iface.name,
                addr.text("\\")
            )
        };
        self.addrs.iter().map(line).collect()
    }

    fn brief(&self) -> String {
        let mut text = format!(
            "{:<16} {:<14} ",
            full_name(self.iface),
            operstate(self.iface)
        );
        if self.link_mode {
            let (_, address, _) = link_layer(self.iface);
            text += &format!("{address} <{}> ", flags(self.iface).join(","));
        }
        for addr in &self.addrs {
            text += &format!("{}/{} ", addr.local, addr.prefixlen);
        }
        text.push('\n');
        text
    }

    fn entry(&self, options: &Options) -> EntryJson<'a> {
        if self.with_addresses && options.oneline && !options.brief {
            let object = |addr| self.addr_object(options, addr);
            return EntryJson::Addresses {
                addr_info: self.addrs.iter().map(object).collect(),
            };
        }
        EntryJson::Link(Box::new(self.object(options)))
    }

    fn object(&self, options: &Options) -> LinkJson<'a> {
        let iface = self.iface;
        let (link, link_index) = match iface.kind {
            IfaceKind::Sit | IfaceKind::Ipip => (Some(None), None),
            IfaceKind::Veth { peer_index, .. } => (None, Some(peer_index)),
            IfaceKind::Loopback | IfaceKind::Ethernet | IfaceKind::Bridge => (None, None),
        };
        let (kind, address, broadcast) = link_layer(iface);
        let full = !options.brief;
        let layer = full && !self.by_family;
        LinkJson {
            ifindex: full.then_some(iface.index),
            link,
            link_index,
            ifname: &iface.name,
            detail: full.then(|| DetailJson {
                flags: flags(iface),
                mtu: iface.mtu,
                qdisc: &iface.qdisc,
                master: iface.master.as_deref(),
            }),
            operstate: Some(operstate(iface)),
            linkmode: (full && self.link_mode).then_some("DEFAULT"),
            group: full.then_some("default"),
            txqlen: iface.qlen.filter(|_| full),
            link_type: layer.then_some(kind),
            address: (layer || (options.brief && self.link_mode)).then_some(address),
            broadcast: layer.then_some(broadcast),
            link_netnsid: match iface.kind {
                IfaceKind::Veth { netnsid, .. } if full => Some(netnsid),
                _ => None,
            },
            brief_flags: (options.brief && self.link_mode).then(|| flags(iface)),
            addr_info: self.with_addresses.then(|| {
                let object = |addr| self.addr_object(options, addr);
                self.addrs.iter().map(object).collect()
            }),
        }
    }

    fn addr_object(&self, options: &Options, addr: &Shown<'_>) -> AddrJson<'a> {
        let short = AddrJson {
            local: addr.local.clone(),
            prefixlen: addr.prefixlen,
            ..AddrJson::default()
        };
        if options.brief {
            return short;
        }
        let life = addr.lease.unwrap_or(FOREVER);
        AddrJson {
            index: options.oneline.then_some(self.iface.index),
            dev: options.oneline.then_some(&self.iface.name),
            family: Some(addr.family),
            broadcast: addr.broadcast,
            scope: Some(scope_name(addr.scope)),
            secondary: addr.secondary.then_some(true),
            dynamic: addr.lease.map(|_| true),
            label: addr.label.map(|_| self.iface.name.as_str()),
            valid_life_time: Some(life),
            preferred_life_time: Some(life),
            ..short
        }
    }
}

impl Shown<'_> {
    fn text(&self, separator: &str) -> String {
        let mut text = format!("{} {}/{} ", self.family, self.local, self.prefixlen);
        if let Some(broadcast) = self.broadcast {
            text += &format!("brd {broadcast} ");
        }
        text += &format!("scope {} ", scope_name(self.scope));
        if self.secondary {
            text += "secondary ";
        }
        if self.lease.is_some() {
            text += "dynamic ";
        }
        text += self.label.unwrap_or_default();
        let life = self
            .lease
            .map_or_else(|| "forever".to_owned(), |left| format!("{left}sec"));
        text + &format!("{separator}       valid_lft {life} preferred_lft {life}")
    }
}

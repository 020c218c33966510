//! `ip route` in the order of the kernel's dump, and `ip route get`.
//!
//! The main table is the model's; the local table is derived from the addresses, as the kernel derives its own.

use std::cmp::Reverse;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Serialize;

use super::addr::{is_secondary, scope_name};
use super::{Family, Found, IpError, Options, Query, json, lookup};
use crate::model::{Iface, Node, Proto, RouteEntry, RouteKind, Scope};

/// A routing table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Table {
    /// 254
    #[default]
    Main,
    /// 255
    Local,
    /// Both.
    All,
    /// A table that holds nothing, as the kernel has none by that number.
    Absent,
}

/// Which routes to show. What a filter pins down is left out of the lines, as iproute2 does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteFilter {
    /// Table.
    pub table: Table,
    /// Only single-path routes by this interface.
    pub dev: Option<String>,
    /// Only this protocol.
    pub proto: Option<Proto>,
    /// Only this scope.
    pub scope: Option<Scope>,
    /// Only this type.
    pub kind: Option<RouteKind>,
    /// Only by this gateway.
    pub via: Option<Ipv4Addr>,
    /// Only with this preferred source.
    pub src: Option<Ipv4Addr>,
    /// Only this metric.
    pub metric: Option<u32>,
    /// Only destinations inside this prefix.
    pub root: Option<Ipv4Net>,
    /// Only destinations around this prefix.
    pub covers: Option<Ipv4Net>,
    /// Only this destination.
    pub exact: Option<Ipv4Net>,
}

/// A route as it is printed, of either table.
struct Row<'a> {
    kind: &'static str,
    dst: Ipv4Net,
    hops: Vec<HopRow<'a>>,
    local_table: bool,
    proto: &'static str,
    scope: Scope,
    src: Option<Ipv4Addr>,
    metric: u32,
}

struct HopRow<'a> {
    via: Option<Ipv4Addr>,
    dev: &'a str,
    weight: u8,
    onlink: bool,
    linkdown: bool,
}

impl HopRow<'_> {
    fn flags(&self) -> Vec<&'static str> {
        let onlink = self.onlink.then_some("onlink");
        let linkdown = self.linkdown.then_some("linkdown");
        onlink.into_iter().chain(linkdown).collect()
    }
}

#[derive(Serialize)]
struct Object<'a> {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    dst: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Ipv4Addr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<Ipv4Addr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefsrc: Option<Ipv4Addr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric: Option<u32>,
    flags: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nexthops: Vec<HopObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<Vec<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iif: Option<&'a str>,
}

#[derive(Serialize)]
struct HopObject<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<Ipv4Addr>,
    dev: &'a str,
    weight: u8,
    flags: Vec<&'static str>,
}

const fn kind_name(kind: RouteKind) -> &'static str {
    match kind {
        RouteKind::Unicast => "unicast",
        RouteKind::Blackhole => "blackhole",
        RouteKind::Unreachable => "unreachable",
        RouteKind::Prohibit => "prohibit",
        RouteKind::Throw => "throw",
    }
}

const fn proto_name(proto: Proto) -> &'static str {
    match proto {
        Proto::Kernel => "kernel",
        Proto::Boot => "boot",
        Proto::Static => "static",
        Proto::Bird => "bird",
        Proto::Dhcp => "dhcp",
    }
}

fn linkdown(iface: Option<&Iface>) -> bool {
    iface.is_some_and(|iface| iface.up && !iface.carrier)
}

fn main_row<'a>(node: &'a Node, route: &'a RouteEntry) -> Row<'a> {
    let hop = |hop: &'a crate::model::Hop| HopRow {
        via: hop.via,
        dev: &hop.dev,
        weight: hop.weight,
        onlink: hop.onlink,
        linkdown: linkdown(node.ifaces.iter().find(|iface| iface.name == hop.dev)),
    };
    Row {
        kind: kind_name(route.kind),
        dst: route.dst,
        hops: route.hops.iter().map(hop).collect(),
        local_table: false,
        proto: proto_name(route.proto),
        scope: route.scope,
        src: route.src,
        metric: route.metric,
    }
}

/// The local table as `fib_add_ifaddr` fills it.
fn local_rows(node: &Node) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    let row = |iface: &'_ Iface, kind: &'static str, dst: Ipv4Net, src: Ipv4Addr| {
        let broadcast = kind == "broadcast";
        (iface.index, kind, dst, src, broadcast)
    };
    for iface in &node.ifaces {
        let mut entries = Vec::new();
        for addr in &iface.addrs {
            let primary = iface
                .addrs
                .iter()
                .find(|p| p.net.trunc() == addr.net.trunc());
            let src = primary.map_or_else(|| addr.net.addr(), |p| p.net.addr());
            entries.push(row(iface, "local", Ipv4Net::from(addr.net.addr()), src));
            if !iface.up {
                continue;
            }
            if let Some(broadcast) = addr.broadcast {
                entries.push(row(iface, "broadcast", Ipv4Net::from(broadcast), src));
            }
            if !is_secondary(iface, addr) && addr.net.prefix_len() < 31 {
                if addr.scope == Scope::Host {
                    entries.push(row(iface, "local", addr.net.trunc(), src));
                }
                entries.push(row(
                    iface,
                    "broadcast",
                    Ipv4Net::from(addr.net.broadcast()),
                    src,
                ));
            }
        }
        for (i, entry) in entries.iter().enumerate() {
            if entries[..i].contains(entry) {
                continue;
            }
            let &(_, kind, dst, src, broadcast) = entry;
            rows.push(Row {
                kind,
                dst,
                hops: vec![HopRow {
                    via: None,
                    dev: &iface.name,
                    weight: 1,
                    onlink: false,
                    linkdown: broadcast && linkdown(Some(iface)),
                }],
                local_table: true,
                proto: "kernel",
                scope: if broadcast { Scope::Link } else { Scope::Host },
                src: Some(src),
                metric: 0,
            });
        }
    }
    rows
}

/// Destination, then the longer prefix, then the lower metric: the order of the kernel's trie.
fn sort(rows: &mut [Row<'_>]) {
    rows.sort_by_key(|row| (row.dst.network(), Reverse(row.dst.prefix_len()), row.metric));
}

fn wanted(filter: &RouteFilter, row: &Row<'_>) -> bool {
    let single = match row.hops.as_slice() {
        [hop] => Some(hop),
        _ => None,
    };
    filter
        .dev
        .as_ref()
        .is_none_or(|dev| single.is_some_and(|hop| hop.dev == dev))
        && filter
            .via
            .is_none_or(|via| single.is_some_and(|hop| hop.via == Some(via)))
        && filter
            .proto
            .is_none_or(|proto| proto_name(proto) == row.proto)
        && filter.scope.is_none_or(|scope| scope == row.scope)
        && filter.kind.is_none_or(|kind| kind_name(kind) == row.kind)
        && filter.src.is_none_or(|src| row.src == Some(src))
        && filter.metric.is_none_or(|metric| metric == row.metric)
        && filter.root.is_none_or(|root| root.contains(&row.dst))
        && filter.covers.is_none_or(|inner| row.dst.contains(&inner))
        && filter.exact.is_none_or(|exact| exact == row.dst)
}

pub(super) fn print(
    filter: &RouteFilter,
    options: &Options,
    node: &Node,
) -> Result<String, IpError> {
    let known = |dev: &String| node.ifaces.iter().any(|iface| iface.name == *dev);
    if let Some(dev) = filter.dev.as_ref().filter(|dev| !known(dev)) {
        return Err(IpError::new(1, format!("Cannot find device \"{dev}\"")));
    }
    match options.family {
        Family::Inet6 => return Ok(print_inet6(options, node)),
        Family::Link => return Err(IpError::new(255, "\"ip route\" has no link-layer view.")),
        Family::Any | Family::Inet => {}
    }
    let mut rows: Vec<Row<'_>> = Vec::new();
    match filter.table {
        Table::Absent => {
            let text = "Error: ipv4: FIB table does not exist.\nDump terminated";
            return Err(IpError::new(2, text));
        }
        Table::Main => rows.extend(node.routes.iter().map(|route| main_row(node, route))),
        Table::Local => rows.extend(local_rows(node)),
        Table::All => {
            rows.extend(node.routes.iter().map(|route| main_row(node, route)));
            sort(&mut rows);
            let mut local = local_rows(node);
            sort(&mut local);
            rows.extend(local);
        }
    }
    if filter.table != Table::All {
        sort(&mut rows);
    }
    rows.retain(|row| wanted(filter, row));
    if options.json {
        let objects: Vec<Object<'_>> = rows.iter().map(|row| object(filter, row)).collect();
        return Ok(json::print(options, &objects));
    }
    Ok(rows.iter().map(|row| line(filter, options, row)).collect())
}

/// The prefix routes of the link-local addresses: all that a node has in IPv6.
fn print_inet6(options: &Options, node: &Node) -> String {
    let with = node.ifaces.iter().filter(|i| i.up && i.carrier);
    let devs: Vec<&str> = with
        .filter(|i| i.link_local.is_some_and(|addr| !addr.is_loopback()))
        .map(|i| i.name.as_str())
        .collect();
    if options.json {
        #[derive(Serialize)]
        struct Object6<'a> {
            dst: &'static str,
            dev: &'a str,
            protocol: &'static str,
            metric: u32,
            flags: [&'static str; 0],
            pref: &'static str,
        }
        let object = |dev| Object6 {
            dst: "fe80::/64",
            dev,
            protocol: "kernel",
            metric: 256,
            flags: [],
            pref: "medium",
        };
        return json::print(options, &devs.into_iter().map(object).collect::<Vec<_>>());
    }
    let line = |dev| format!("fe80::/64 dev {dev} proto kernel metric 256 pref medium\n");
    devs.into_iter().map(line).collect()
}

fn destination(dst: Ipv4Net) -> String {
    match dst.prefix_len() {
        0 => "default".to_owned(),
        32 => dst.addr().to_string(),
        _ => dst.to_string(),
    }
}

/// Flags of the whole route: those of its one hop, or `linkdown` when every path is dead.
fn flags(row: &Row<'_>) -> Vec<&'static str> {
    match row.hops.as_slice() {
        [hop] => hop.flags(),
        [] => Vec::new(),
        hops if hops.iter().all(|hop| hop.linkdown) => vec!["linkdown"],
        _ => Vec::new(),
    }
}

fn line(filter: &RouteFilter, options: &Options, row: &Row<'_>) -> String {
    let mut text = String::new();
    if row.kind != "unicast" {
        text += &format!("{} ", row.kind);
    }
    text += &format!("{} ", destination(row.dst));
    if let [hop] = row.hops.as_slice() {
        if let Some(via) = hop.via.filter(|_| filter.via.is_none()) {
            text += &format!("via {via} ");
        }
        if filter.dev.is_none() {
            text += &format!("dev {} ", hop.dev);
        }
    }
    if row.local_table && filter.table == Table::All {
        text += "table local ";
    }
    if row.proto != "boot" && filter.proto.is_none() {
        text += &format!("proto {} ", row.proto);
    }
    if row.scope != Scope::Global && filter.scope.is_none() {
        text += &format!("scope {} ", scope_name(row.scope));
    }
    if let Some(src) = row.src.filter(|_| filter.src.is_none()) {
        text += &format!("src {src} ");
    }
    if row.metric != 0 && filter.metric.is_none() {
        text += &format!("metric {} ", row.metric);
    }
    for flag in flags(row) {
        text += &format!("{flag} ");
    }
    if row.hops.len() > 1 {
        for hop in &row.hops {
            text += &format!("{}\tnexthop ", options.separator());
            if let Some(via) = hop.via {
                text += &format!("via {via} ");
            }
            text += &format!("dev {} weight {} ", hop.dev, hop.weight);
            for flag in hop.flags() {
                text += &format!("{flag} ");
            }
        }
    }
    text.push('\n');
    text
}

fn object<'a>(filter: &RouteFilter, row: &'a Row<'a>) -> Object<'a> {
    let single = match row.hops.as_slice() {
        [hop] => Some(hop),
        _ => None,
    };
    let many = if single.is_some() {
        &[]
    } else {
        row.hops.as_slice()
    };
    Object {
        kind: (row.kind != "unicast").then_some(row.kind),
        dst: destination(row.dst),
        from: None,
        gateway: single
            .and_then(|hop| hop.via)
            .filter(|_| filter.via.is_none()),
        dev: single.map(|hop| hop.dev).filter(|_| filter.dev.is_none()),
        table: (row.local_table && filter.table == Table::All).then_some("local"),
        protocol: Some(row.proto).filter(|proto| *proto != "boot" && filter.proto.is_none()),
        scope: Some(scope_name(row.scope))
            .filter(|_| row.scope != Scope::Global && filter.scope.is_none()),
        prefsrc: row.src.filter(|_| filter.src.is_none()),
        metric: Some(row.metric).filter(|metric| *metric != 0 && filter.metric.is_none()),
        flags: flags(row),
        nexthops: many
            .iter()
            .map(|hop| HopObject {
                gateway: hop.via,
                dev: hop.dev,
                weight: hop.weight,
                flags: hop.flags(),
            })
            .collect(),
        uid: None,
        cache: None,
        iif: None,
    }
}

/// `ip route get`.
pub(super) fn print_get(query: &Query, options: &Options, node: &Node) -> Result<String, IpError> {
    let known = |dev: &String| node.ifaces.iter().any(|iface| iface.name == *dev);
    for dev in [&query.iif, &query.oif].into_iter().flatten() {
        if !known(dev) {
            return Err(IpError::new(1, format!("Cannot find device \"{dev}\"")));
        }
    }
    if options.family == Family::Inet6 {
        return Err(IpError::kernel("Network is unreachable"));
    }
    let found = lookup(node, query).map_err(|error| IpError::kernel(error.text()))?;
    let (kind, via, dev, src, cache) = match &found {
        Found::Local { src } => (Some("local"), None, "lo", *src, vec!["local"]),
        Found::Broadcast { dev, src } => (
            Some("broadcast"),
            None,
            dev.as_str(),
            *src,
            vec!["local", "brd"],
        ),
        Found::Unicast { via, dev, src } => (None, *via, dev.as_str(), *src, Vec::new()),
    };
    // A packet that has a source keeps it, and one that came in belongs to no user.
    let src = query.from.is_none().then_some(src);
    let uid = query.iif.is_none().then_some(0);
    if options.json {
        let object = Object {
            kind,
            dst: query.dst.to_string(),
            from: query.from,
            gateway: via,
            dev: Some(dev),
            table: None,
            protocol: None,
            scope: None,
            prefsrc: src,
            metric: None,
            flags: Vec::new(),
            nexthops: Vec::new(),
            uid,
            cache: Some(cache),
            iif: query.iif.as_deref(),
        };
        return Ok(json::print(options, &[object]));
    }
    let mut text = kind.map(|kind| format!("{kind} ")).unwrap_or_default();
    text += &format!("{} ", query.dst);
    if let Some(from) = query.from {
        text += &format!("from {from} ");
    }
    if let Some(via) = via {
        text += &format!("via {via} ");
    }
    text += &format!("dev {dev} ");
    if let Some(src) = src {
        text += &format!("src {src} ");
    }
    if let Some(uid) = uid {
        text += &format!("uid {uid} ");
    }
    text += &format!("{}    cache ", options.separator());
    if !cache.is_empty() {
        text += &format!("<{}> ", cache.join(","));
    }
    if let Some(iif) = &query.iif {
        text += &format!("iif {iif} ");
    }
    text.push('\n');
    Ok(text)
}

//! `ip neigh`: the live neighbour table of a node.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Serialize;

use super::{Family, IpError, Options, json};
use crate::model::{NeighbourEntry, Node};

/// Which entries to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NeighFilter {
    /// Only on this interface; its name is then left out.
    pub dev: Option<String>,
    /// Only addresses in this prefix.
    pub to: Option<Ipv4Net>,
    /// Only these states, upper case; empty is all.
    pub states: Vec<String>,
}

#[derive(Serialize)]
struct Object<'a> {
    dst: Ipv4Addr,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lladdr: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<[&'a str; 1]>,
}

/// By interface and address: a kernel's order is that of its hash table, which nobody relies on.
pub(super) fn print(
    filter: &NeighFilter,
    options: &Options,
    node: &Node,
    neighbours: &[NeighbourEntry],
) -> Result<String, IpError> {
    let index = |name: &str| node.ifaces.iter().find(|i| i.name == name).map(|i| i.index);
    if let Some(dev) = filter.dev.as_ref().filter(|dev| index(dev).is_none()) {
        return Err(IpError::new(1, format!("Cannot find device \"{dev}\"")));
    }
    let mut entries: Vec<&NeighbourEntry> = neighbours
        .iter()
        .filter(|_| matches!(options.family, Family::Any | Family::Inet))
        .filter(|entry| filter.dev.as_ref().is_none_or(|dev| *dev == entry.dev))
        .filter(|entry| filter.to.is_none_or(|to| to.contains(&entry.ip)))
        .filter(|entry| filter.states.is_empty() || filter.states.contains(&entry.state))
        .collect();
    entries.sort_by_key(|entry| (index(&entry.dev), entry.ip));
    if options.json {
        let objects: Vec<Object<'_>> = entries
            .iter()
            .map(|entry| Object {
                dst: entry.ip,
                dev: filter.dev.is_none().then_some(&entry.dev),
                lladdr: entry.mac.map(|mac| mac.to_string()),
                state: (!options.brief).then_some([entry.state.as_str()]),
            })
            .collect();
        return Ok(json::print(options, &objects));
    }
    Ok(entries
        .iter()
        .map(|entry| line(filter, options, entry))
        .collect())
}

fn line(filter: &NeighFilter, options: &Options, entry: &NeighbourEntry) -> String {
    let mac = entry.mac.map(|mac| mac.to_string());
    if options.brief {
        let dev = if filter.dev.is_none() {
            format!("{:<16} ", entry.dev)
        } else {
            String::new()
        };
        return format!(
            "{:<39} {dev}{}\n",
            entry.ip.to_string(),
            mac.unwrap_or_default()
        );
    }
    let mut text = format!("{} ", entry.ip);
    if filter.dev.is_none() {
        text += &format!("dev {} ", entry.dev);
    }
    if let Some(mac) = mac {
        text += &format!("lladdr {mac} ");
    }
    text + &entry.state + " \n"
}

//! `ip addr add|del|flush`.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::words::{Words, abbreviates, garbage, prefix};
use super::{find_dev, find_dev_mut, unknown_command};
use crate::cluster::IpError;
use crate::cluster::link::remove_routes_of;
use crate::cluster::node::connected_routes;
use crate::model::{IfAddr, Node, Proto, RouteEntry, Scope};

#[derive(Clone, Copy)]
enum Broadcast {
    None,
    Derived,
    Given(Ipv4Addr),
}

struct Written {
    net: Ipv4Net,
    with_length: bool,
    dev: String,
    broadcast: Broadcast,
    scope: Option<Scope>,
}

pub(super) fn apply(node: &mut Node, command: &str, words: Words<'_>) -> Result<(), IpError> {
    match command {
        _ if abbreviates(command, "add") => add(node, words),
        _ if abbreviates(command, "delete") => delete(node, words),
        _ if abbreviates(command, "flush") => flush(node, words),
        _ => Err(unknown_command("address", command)),
    }
}

fn parse(mut words: Words<'_>) -> Result<Written, IpError> {
    let (mut net, mut dev, mut scope) = (None, None, None);
    let mut broadcast = Broadcast::None;
    while let Some(word) = words.next() {
        match word {
            "dev" => dev = Some(words.value()?.to_owned()),
            "brd" | "broadcast" => {
                broadcast = match words.peek() {
                    Some("+" | "-") => {
                        words.next();
                        Broadcast::Derived
                    }
                    _ => Broadcast::Given(words.address()?),
                };
            }
            "scope" => scope = Some(words.scope()?),
            _ => {
                let word = if word == "local" {
                    words.value()?
                } else {
                    word
                };
                if net.is_some() {
                    return Err(garbage("local", word));
                }
                net = Some(prefix(word)?);
            }
        }
    }
    let dev =
        dev.ok_or_else(|| IpError::usage("Not enough information: \"dev\" argument is required."))?;
    let (net, with_length) =
        net.ok_or_else(|| IpError::kernel("RTNETLINK answers: Invalid argument"))?;
    Ok(Written {
        net,
        with_length,
        dev,
        broadcast,
        scope,
    })
}

fn add(node: &mut Node, words: Words<'_>) -> Result<(), IpError> {
    let written = parse(words)?;
    let iface = find_dev_mut(node, &written.dev)?;
    if iface.addrs.iter().any(|addr| addr.net == written.net) {
        return Err(IpError::kernel("Error: ipv4: Address already assigned."));
    }
    let default_scope = if written.net.addr().is_loopback() {
        Scope::Host
    } else {
        Scope::Global
    };
    iface.addrs.push(IfAddr {
        net: written.net,
        broadcast: match written.broadcast {
            Broadcast::None => None,
            Broadcast::Derived => Some(written.net.broadcast()),
            Broadcast::Given(addr) => Some(addr),
        },
        scope: written.scope.unwrap_or(default_scope),
        lease_secs: None,
        manual: true,
    });
    let connected: Vec<RouteEntry> = connected_routes(iface)
        .into_iter()
        .filter(|route| route.src == Some(written.net.addr()))
        .collect();
    node.routes.extend(connected);
    Ok(())
}

fn delete(node: &mut Node, words: Words<'_>) -> Result<(), IpError> {
    let written = parse(words)?;
    let iface = find_dev(node, &written.dev)?;
    let net = iface
        .addrs
        .iter()
        .map(|addr| addr.net)
        .find(|net| {
            net.addr() == written.net.addr() && (!written.with_length || *net == written.net)
        })
        .ok_or_else(|| IpError::kernel("Error: ipv4: Address not found."))?;
    remove(node, &written.dev, |it| it == net)
}

fn flush(node: &mut Node, mut words: Words<'_>) -> Result<(), IpError> {
    let (mut dev, mut to, mut scope) = (None, None, None);
    if words.peek().is_none() {
        return Err(IpError::usage("Flush requires arguments."));
    }
    while let Some(word) = words.next() {
        match word {
            "to" => to = Some(prefix(words.value()?)?.0),
            "scope" => scope = Some(words.scope()?),
            _ => dev = Some(if word == "dev" { words.value()? } else { word }.to_owned()),
        }
    }
    let names: Vec<String> = match dev {
        Some(dev) if node.ifaces.iter().any(|iface| iface.name == dev) => vec![dev],
        Some(dev) => {
            return Err(IpError::usage(format!("Device \"{dev}\" does not exist.")));
        }
        None => node.ifaces.iter().map(|iface| iface.name.clone()).collect(),
    };
    for name in names {
        let doomed: Vec<Ipv4Net> = find_dev(node, &name)?
            .addrs
            .iter()
            .filter(|addr| scope.is_none_or(|scope| scope == addr.scope))
            .map(|addr| addr.net)
            .filter(|net| to.is_none_or(|to| to.contains(net)))
            .collect();
        remove(node, &name, |net| doomed.contains(&net))?;
    }
    Ok(())
}

/// Removes addresses as the kernel does without `promote_secondaries`: with the first address of a subnet go the others of
/// that subnet, with the last of a subnet its connected route, with an address the routes that prefer it as source, and
/// with the last address of a device every route over it.
pub(super) fn remove(
    node: &mut Node,
    dev: &str,
    doomed: impl Fn(Ipv4Net) -> bool,
) -> Result<(), IpError> {
    let iface = find_dev_mut(node, dev)?;
    let before = iface.addrs.clone();
    let mut primaries: Vec<Ipv4Net> = Vec::new();
    iface.addrs.retain(|addr| {
        let primary = before
            .iter()
            .find(|other| other.net.trunc() == addr.net.trunc())
            .map_or(addr.net, |other| other.net);
        let gone = doomed(addr.net) || doomed(primary);
        if gone && primary == addr.net {
            primaries.push(primary.trunc());
        }
        !gone
    });
    let left = iface.addrs.clone();
    let is_last = left.is_empty() && !before.is_empty();
    let elsewhere = |addr: Ipv4Addr| {
        let mut own = node.ifaces.iter().flat_map(|iface| &iface.addrs);
        own.any(|own| own.net.addr() == addr)
    };
    let gone: Vec<Ipv4Addr> = before
        .iter()
        .filter(|addr| !left.contains(addr))
        .map(|addr| addr.net.addr())
        .filter(|addr| !elsewhere(*addr))
        .collect();
    node.routes.retain(|route| {
        let connected = route.proto == Proto::Kernel
            && primaries.contains(&route.dst)
            && route.hops.iter().any(|hop| hop.dev == dev);
        !connected && !route.src.is_some_and(|src| gone.contains(&src))
    });
    if is_last {
        remove_routes_of(node, dev);
    }
    Ok(())
}

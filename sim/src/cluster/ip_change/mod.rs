//! Changes of a node's links, addresses, routes and neighbours in iproute2's syntax (decision 19).
//!
//! Decides what each command does to the model and what it refuses, with iproute2's texts and exit statuses (compared with
//! iproute2 6.1 on Linux 6.18): 1 and 255 for what the program refuses itself, 2 for what the kernel refuses. The rules for
//! gateways, preferred sources and devices that go down are the kernel's (`fib_semantics`, `devinet`). What the model has no
//! place for is refused as a kernel without that feature does. A command is all or nothing.

mod addr;
mod link;
mod neigh;
mod route;
#[cfg(test)]
mod tests;
mod words;

use std::net::Ipv4Addr;

use router_core::{Mac, PortId};

use super::IpError;
use crate::model::{Iface, Node};
use words::{Words, abbreviates};

/// Learned neighbours to forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flush {
    /// Only on this port.
    pub port: Option<PortId>,
    /// Only this address.
    pub ip: Option<Ipv4Addr>,
}

/// Numbers for what a command makes.
#[derive(Debug)]
pub(crate) struct Ids {
    /// Index of the next interface.
    pub(crate) ifindex: u32,
    /// The next port of the router.
    pub(crate) port: u16,
    /// The lab's seed.
    pub(crate) seed: u64,
}

/// PERMANENT neighbours set by hand: interface, address, MAC.
pub(crate) type Permanent = Vec<(String, Ipv4Addr, Mac)>;

/// Carries out `args` (the words behind `ip`) on `node`. After an error the arguments may be half changed: pass copies.
///
/// # Errors
/// iproute2's message and exit status.
pub(crate) fn apply(
    node: &mut Node,
    neighbours: &mut Permanent,
    ids: &mut Ids,
    args: &[String],
) -> Result<Vec<Flush>, IpError> {
    let mut words = Words::new(args);
    let object = words.next().unwrap_or_default();
    let command = words.next().unwrap_or_default();
    match object {
        _ if abbreviates(object, "address") => addr::apply(node, command, words)?,
        _ if abbreviates(object, "route") => route::apply(node, command, words)?,
        _ if abbreviates(object, "link") => link::apply(node, ids, command, words)?,
        _ if abbreviates(object, "neighbour") || abbreviates(object, "neighbor") => {
            return neigh::apply(node, neighbours, command, words);
        }
        _ => {
            return Err(IpError::usage(format!(
                "Object \"{object}\" is unknown, try \"ip help\"."
            )));
        }
    }
    Ok(Vec::new())
}

fn find_dev<'a>(node: &'a Node, name: &str) -> Result<&'a Iface, IpError> {
    node.ifaces
        .iter()
        .find(|iface| iface.name == name)
        .ok_or_else(|| IpError::usage(format!("Cannot find device \"{name}\"")))
}

fn find_dev_mut<'a>(node: &'a mut Node, name: &str) -> Result<&'a mut Iface, IpError> {
    node.ifaces
        .iter_mut()
        .find(|iface| iface.name == name)
        .ok_or_else(|| IpError::usage(format!("Cannot find device \"{name}\"")))
}

/// What a line in the words of `ip route add` says.
#[derive(Clone, Debug)]
pub(crate) struct ParsedRoute {
    pub(crate) dst: ipnet::Ipv4Net,
    pub(crate) via: Option<Ipv4Addr>,
    pub(crate) src: Option<Ipv4Addr>,
    pub(crate) scope: Option<crate::model::Scope>,
    /// Devices that it names.
    pub(crate) devs: Vec<String>,
    /// It says nothing else.
    pub(crate) plain: bool,
}

/// Reads a line in the words of `ip route add`.
///
/// # Errors
/// iproute2's message.
pub(crate) fn parse_route(line: &str) -> Result<ParsedRoute, IpError> {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    route::parse(Words::new(&words))
}

/// Carries out `ip route add LINE`; false when the route is there already.
///
/// # Errors
/// iproute2's message. The node may be half changed then.
pub(crate) fn add_route(node: &mut Node, line: &str) -> Result<bool, IpError> {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    route::add_new(node, Words::new(&words))
}

/// Takes an address away as the kernel does, with the routes that depend on it.
pub(crate) fn remove_address(node: &mut Node, dev: &str, net: ipnet::Ipv4Net) {
    // The device is there: its address was just seen.
    let _ = addr::remove(node, dev, |it| it == net);
}

fn unknown_command(object: &str, command: &str) -> IpError {
    IpError {
        message: format!("Command \"{command}\" is unknown, try \"ip {object} help\"."),
        status: 255,
    }
}

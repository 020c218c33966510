//! `ip link set DEV up|down|mtu N|address MAC|master BRIDGE|nomaster`, `ip link add NAME type bridge`, `ip link del BRIDGE`; what
//! else iproute2 can do to links the model has no place for.

use super::words::{Words, abbreviates, garbage, wrong};
use super::{Ids, find_dev, find_dev_mut, unknown_command};
use router_core::{Mac, PortId};

use crate::cluster::IpError;
use crate::cluster::bridge;
use crate::cluster::link::remove_routes_of;
use crate::cluster::node::connected_routes;
use crate::model::{IfaceKind, Node};

/// Smallest MTU of an IPv4 device (RFC 791).
const MTU_MIN: u32 = 68;
/// Largest MTU of a device of the model:
/// what a frame of a router holds behind its Ethernet header. More would be lost without a word.
const MTU_MAX: u32 = 1970;

pub(super) fn apply(
    node: &mut Node,
    ids: &mut Ids,
    command: &str,
    words: Words<'_>,
) -> Result<(), IpError> {
    match command {
        _ if abbreviates(command, "set") => set(node, words),
        _ if abbreviates(command, "add") => add(node, ids, words),
        _ if abbreviates(command, "delete") => delete(node, words),
        _ => Err(unknown_command("link", command)),
    }
}

fn set(node: &mut Node, mut words: Words<'_>) -> Result<(), IpError> {
    let (mut dev, mut up, mut mtu) = (None, None, None);
    let (mut master, mut mac): (Option<Option<String>>, Option<Mac>) = (None, None);
    while let Some(word) = words.next() {
        match word {
            "up" => up = Some(true),
            "down" => up = Some(false),
            "mtu" => {
                let word = words.value()?;
                let value: u32 = word
                    .parse()
                    .map_err(|_| wrong(word, "Invalid \"mtu\" value"))?;
                mtu = Some(value);
            }
            "master" => master = Some(Some(words.value()?.to_owned())),
            "nomaster" => master = Some(None),
            "address" => {
                let word = words.value()?;
                let found = word.parse().ok().filter(|mac: &Mac| mac.is_unicast());
                mac = Some(
                    found.ok_or_else(|| IpError::rtnetlink("Cannot assign requested address"))?,
                );
            }
            "dev" => dev = Some(words.value()?.to_owned()),
            _ if dev.is_none() => dev = Some(word.to_owned()),
            _ => return Err(garbage("dev", word)),
        }
    }
    let dev =
        dev.ok_or_else(|| IpError::usage("Not enough information: \"dev\" argument is required."))?;
    if let Some(master) = master {
        enslave(node, &dev, master)?;
    }
    let iface = find_dev_mut(node, &dev)?;
    iface.mac = mac.unwrap_or(iface.mac);
    if let Some(mtu) = mtu {
        if mtu < MTU_MIN {
            return Err(IpError::kernel("Error: mtu less than device minimum."));
        }
        if mtu > MTU_MAX {
            return Err(IpError::kernel("Error: mtu greater than device maximum."));
        }
        iface.mtu = mtu;
    }
    match up {
        Some(true) if !iface.up => {
            iface.up = true;
            if iface.qdisc == "noop" {
                iface.qdisc = "noqueue".into();
            }
            let connected = connected_routes(iface);
            node.routes.extend(connected);
        }
        Some(false) if iface.up => {
            iface.up = false;
            remove_routes_of(node, &dev);
        }
        _ => {}
    }
    bridge::follow_ports(node);
    Ok(())
}

/// Makes a device a port of a bridge, or frees it. Its address stays on it, as in the kernel.
fn enslave(node: &mut Node, dev: &str, master: Option<String>) -> Result<(), IpError> {
    if let Some(name) = &master {
        let bridge = find_dev(node, name)?;
        if bridge.kind != IfaceKind::Bridge {
            return Err(IpError::rtnetlink("Operation not supported"));
        }
        let port = find_dev(node, dev)?;
        match port.kind {
            IfaceKind::Veth { .. } => {}
            IfaceKind::Bridge if port.name == bridge.name => {
                return Err(IpError::rtnetlink("Too many levels of symbolic links"));
            }
            IfaceKind::Bridge => {
                return Err(IpError::kernel(
                    "Error: Can not enslave a bridge to a bridge.",
                ));
            }
            IfaceKind::Loopback => return Err(IpError::rtnetlink("Invalid argument")),
            // The underlay carries the node's own address, and its neighbours know its MAC.
            _ => return Err(IpError::rtnetlink("Operation not supported")),
        }
    }
    find_dev_mut(node, dev)?.master = master;
    Ok(())
}

fn add(node: &mut Node, ids: &mut Ids, mut words: Words<'_>) -> Result<(), IpError> {
    let (mut name, mut kind) = (None, None);
    while let Some(word) = words.next() {
        match word {
            "type" => kind = Some(words.value()?),
            "name" | "dev" => name = Some(words.value()?),
            _ if name.is_none() => name = Some(word),
            _ => return Err(garbage("dev", word)),
        }
    }
    match kind {
        Some("bridge") => {}
        // Ends of links come with the hosts of the lab.
        Some(_) => return Err(IpError::kernel("Error: Unknown device type.")),
        None => {
            return Err(IpError::usage(
                "Not enough information: \"type\" argument is required",
            ));
        }
    }
    let name = match name {
        Some(name) => name.to_owned(),
        None => {
            let taken = |name: &String| node.ifaces.iter().any(|it| it.name == *name);
            let mut names = (0..).map(|n| format!("bridge{n}"));
            names.find(|name| !taken(name)).unwrap_or_default()
        }
    };
    if name.len() > 15 || name.is_empty() || name.contains(['/', ' ']) {
        return Err(IpError {
            message: format!("Error: argument \"{name}\" is wrong: \"name\" not a valid ifname"),
            status: 255,
        });
    }
    if node.ifaces.iter().any(|iface| iface.name == name) {
        return Err(IpError::rtnetlink("File exists"));
    }
    let Some(next) = ids.port.checked_add(1) else {
        return Err(IpError::rtnetlink("No buffer space available"));
    };
    let mut made = bridge::device(&node.name, &name, ids.ifindex, PortId(ids.port), ids.seed);
    made.up = false;
    made.qdisc = "noop".into();
    node.ifaces.push(made);
    ids.ifindex += 1;
    ids.port = next;
    Ok(())
}

fn delete(node: &mut Node, mut words: Words<'_>) -> Result<(), IpError> {
    let mut dev = words.next().ok_or_else(|| IpError {
        message: "Not enough information: \"dev\" argument is required.".into(),
        status: 255,
    })?;
    if dev == "dev" {
        dev = words.value()?;
    }
    if find_dev(node, dev)?.kind != IfaceKind::Bridge {
        return Err(IpError::rtnetlink("Operation not supported"));
    }
    let dev = dev.to_owned();
    node.ifaces.retain(|iface| iface.name != dev);
    for iface in &mut node.ifaces {
        iface.master.take_if(|master| *master == dev);
    }
    remove_routes_of(node, &dev);
    Ok(())
}

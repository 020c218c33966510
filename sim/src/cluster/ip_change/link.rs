//! `ip link set DEV up|down|mtu N`; what else iproute2 can do to links the model has no place for.

use super::words::{Words, abbreviates, garbage, wrong};
use super::{find_dev, find_dev_mut, unknown_command};
use crate::cluster::IpError;
use crate::cluster::link::remove_routes_of;
use crate::cluster::node::connected_routes;
use crate::model::Node;

/// Smallest MTU of an IPv4 device (RFC 791).
const MTU_MIN: u32 = 68;
/// Largest MTU of a device of the model.
const MTU_MAX: u32 = 65535;

pub(super) fn apply(node: &mut Node, command: &str, words: Words<'_>) -> Result<(), IpError> {
    match command {
        _ if abbreviates(command, "set") => set(node, words),
        _ if abbreviates(command, "add") => Err(IpError::kernel("Error: Unknown device type.")),
        _ if abbreviates(command, "delete") => delete(node, words),
        _ => Err(unknown_command("link", command)),
    }
}

fn set(node: &mut Node, mut words: Words<'_>) -> Result<(), IpError> {
    let (mut dev, mut up, mut mtu) = (None, None, None);
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
            "dev" => dev = Some(words.value()?.to_owned()),
            _ if dev.is_none() => dev = Some(word.to_owned()),
            _ => return Err(garbage("dev", word)),
        }
    }
    let dev =
        dev.ok_or_else(|| IpError::usage("Not enough information: \"dev\" argument is required."))?;
    let iface = find_dev_mut(node, &dev)?;
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
            let connected = connected_routes(iface);
            node.routes.extend(connected);
        }
        Some(false) if iface.up => {
            iface.up = false;
            remove_routes_of(node, &dev);
        }
        _ => {}
    }
    crate::cluster::bridge::follow_ports(node);
    Ok(())
}

fn delete(node: &Node, mut words: Words<'_>) -> Result<(), IpError> {
    let mut dev = words.next().ok_or_else(|| IpError {
        message: "Not enough information: \"dev\" argument is required.".into(),
        status: 255,
    })?;
    if dev == "dev" {
        dev = words.value()?;
    }
    find_dev(node, dev)?;
    Err(IpError::rtnetlink("Operation not supported"))
}

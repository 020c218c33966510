//! `uplink` of a node in a lab file: its port on an interface of the host.
//!
//! ```text
//!   nodes: [{name: a, uplink: {interface: enp3s0, address: 192.0.2.10/24, gateway: 192.0.2.1}}]
//! ```
//!
//! Decides keys, syntax and what can't be meant. Whether the host has the interface is seen when the lab is brought up.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use super::conflist::interface_name;
use super::diagnostics::{Pos, Sink};
use super::manual::{addresses_of_one, mtu};
use super::read::{self, Fields};
use super::tree::Value;
use super::written::{NodeFile, mac};
use crate::spec::{NetworkSpec, UplinkSpec};

pub(super) const KEYS: &[&str] = &["interface", "name", "address", "gateway", "mac", "mtu"];

/// What it is called on its node unless it says so.
const NAME: &str = "uplink";

/// Names that interfaces of a node have by themselves, and those that mean something else.
const RESERVED: [&str; 6] = ["lo", "eth0", "docker0", "sit0", "tunl0", "host"];

/// MTU of an Ethernet interface.
const MTU: u16 = 1500;

/// Most uplinks of a lab: their sockets go to the daemon in one message.
const MOST: usize = 31;

/// A node's uplink, with its place.
#[derive(Clone, Debug)]
pub(crate) struct UplinkFile {
    pub(super) pos: Pos,
    pub(crate) spec: UplinkSpec,
}

/// A mapping.
pub(super) fn read(value: &Value, sink: &mut Sink<'_>) -> Option<UplinkFile> {
    let fields = Fields::open(value, "an uplink", KEYS, sink)?;
    let interface = fields
        .want("interface", "an uplink", sink)
        .and_then(|value| interface_name(value, sink));
    let address = fields
        .want("address", "an uplink", sink)
        .and_then(|value| addresses_of_one(value, sink).pop());
    let gateway = fields.get("gateway").and_then(|value| {
        let what = "an IPv4 address (192.0.2.1)";
        read::parse::<Ipv4Addr>(value, what, sink)
    });
    let name = match fields.get("name") {
        None => Some(NAME.to_owned()),
        Some(value) => interface_name(value, sink),
    };
    let own_mac = fields.get("mac").and_then(|value| mac(value, sink));
    let mtu = mtu(&fields, sink).unwrap_or(MTU);
    let (interface, address, name) = (interface?, address?, name?);
    if let Some(at) = &gateway
        && (!address.contains(&at.value) || at.value == address.addr())
    {
        let message = format!("the gateway {} is no neighbour of {address}", at.value);
        sink.error(at.pos, message);
    }
    if RESERVED.contains(&name.as_str()) {
        let message = format!("an uplink can't be called \"{name}\": that is another interface");
        sink.error(fields.pos, message);
    }
    Some(UplinkFile {
        pos: fields.pos,
        spec: UplinkSpec {
            name,
            interface,
            address,
            gateway: gateway.map(|at| at.value),
            mac: own_mac.map(|at| at.value),
            mtu,
        },
    })
}

/// The networks behind uplinks are none of the lab's, and no address is there twice.
pub(super) fn check(nodes: &[NodeFile], network: &NetworkSpec, sink: &mut Sink<'_>) {
    let all = || nodes.iter().filter_map(|node| node.uplink.as_ref());
    if let Some(one) = all().nth(MOST) {
        sink.error(one.pos, format!("a lab has {MOST} uplinks at most"));
    }
    let mut owners: HashMap<Ipv4Addr, Pos> = HashMap::new();
    for UplinkFile { pos, spec } in all() {
        let net = spec.address.trunc();
        for (what, other) in [
            ("nodeSubnet", network.node_subnet),
            ("clusterCIDR", network.cluster_cidr),
        ] {
            if net.contains(&other) || other.contains(&net) {
                let message = format!("the uplink's network {net} overlaps {what} {other}");
                sink.error(*pos, message);
            }
        }
        let addr = spec.address.addr();
        if let Some(first) = owners.get(&addr) {
            let message = format!("a second uplink with address {addr}");
            sink.conflict(Some(*pos), message, Some(*first), "the first is here");
        }
        owners.entry(addr).or_insert(*pos);
    }
}

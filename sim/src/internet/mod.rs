//! The simulated internet behind the nodes' default gateway.
//!
//! A process of its own on the fabric, with two parts: a router that has the gateway's address on eth0, and behind its
//! second port a stack that owns 8.8.8.8, 1.1.1.1 or whatever the lab names. It answers ping, HTTP on port 80 and DNS
//! on UDP port 53, with a TTL that reaches a node's eth0 as `ttl_at_node`: one more leaves the stack, because the
//! gateway's router takes one off. The gateway itself answers ping with 64, as any router. Packets of pods need NAT on
//! their node to get an answer: the gateway knows no route back to pods (decision 18).

mod dns;
mod http;

use ipnet::Ipv4Net;
use router_core::config::{
    LocalAddress, NextHop, PermanentNeighbour, PortConfig, Route, RouteTarget,
};
use router_core::{Mac, PortId, Snapshot};
use smoltcp::iface::SocketSet;

use crate::control::node::Attachment;
use crate::pod::inproc::{Service, Stack, StackConfig};
use crate::spec::InternetSpec;

/// The gateway's port on the underlay.
pub const UPLINK: PortId = PortId(1);
/// The gateway's port towards the stack.
pub const FAR_SIDE: PortId = PortId(2);

// Both ends of the link inside the process: nobody else ever sees them.
const NEAR_MAC: Mac = Mac([0x02, 0, 0, 0, 0, 1]);
const FAR_MAC: Mac = Mac([0x02, 0, 0, 0, 0, 2]);

/// Where the gateway is on the underlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its address with the prefix of the node subnet.
    pub addr: Ipv4Net,
    /// Its MAC.
    pub mac: Mac,
    /// MTU of the underlay, bytes.
    pub mtu: u16,
}

/// The configuration of the gateway's router.
#[must_use]
pub fn snapshot(gateway: &Gateway, spec: &InternetSpec) -> Snapshot {
    let Gateway { addr, mac, mtu } = *gateway;
    let via = |port| {
        RouteTarget::Unicast(vec![NextHop {
            port,
            via: None,
            weight: 1,
        }])
    };
    let to_far_side = spec.addresses.iter().map(|&dst| Route {
        dst: Ipv4Net::from(dst),
        metric: 0,
        src: Some(addr.addr()),
        target: via(FAR_SIDE),
    });
    let connected = Route {
        dst: addr.trunc(),
        metric: 0,
        src: Some(addr.addr()),
        target: via(UPLINK),
    };
    Snapshot {
        epoch: 1,
        forwarding: true,
        ports: vec![
            PortConfig::ethernet(UPLINK.0, "eth0", mac, mtu),
            PortConfig::ethernet(FAR_SIDE.0, "internet", NEAR_MAC, mtu),
        ],
        addresses: vec![LocalAddress {
            addr: addr.addr(),
            prefix_len: addr.prefix_len(),
            broadcast: (addr.prefix_len() < 31).then(|| addr.broadcast()),
            port: UPLINK,
        }],
        routes: to_far_side.chain([connected]).collect(),
        neighbours: spec
            .addresses
            .iter()
            .map(|&ip| PermanentNeighbour {
                port: FAR_SIDE,
                ip,
                mac: FAR_MAC,
            })
            .collect(),
        ..Snapshot::default()
    }
}

/// What is to be attached to [`FAR_SIDE`].
#[must_use]
pub fn attachment(spec: &InternetSpec) -> Attachment {
    Attachment::Internet {
        mac: FAR_MAC,
        gateway_mac: NEAR_MAC,
        addresses: spec.addresses.clone(),
        ttl: spec.ttl_at_node.saturating_add(1),
    }
}

/// The stack with its servers.
#[must_use]
pub fn stack(config: StackConfig, seed: u64) -> Stack {
    let addresses = config.addresses.clone();
    let mut stack = Stack::new(config, seed);
    stack.add_service(http::Http::new);
    stack.add_service(|sockets| dns::Dns::new(sockets, addresses));
    stack
}

#[cfg(test)]
mod tests;

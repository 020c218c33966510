//! A node's model as its router sees it.
//!
//! Decides nothing: interfaces that have a port become ports, addresses local addresses, routes routes with port numbers.
//! Pure, so that the same lab gives the same packets on every back end.

use std::net::Ipv4Addr;

use router_core::config::{
    LocalAddress, NextHop, PermanentNeighbour, PinnedPeer, PortConfig, PortKind, Route,
    RouteTarget, RpFilter,
};
use router_core::{Mac, PortId, Snapshot};

use super::node::{ETH0_PORT, HOST_PORT};
use crate::model::{Iface, IfaceKind, Node, Pod, RouteEntry, RouteKind};
use crate::spec::{GatewaySpec, InternetSpec, NetworkSpec};

/// Router port of the gateway that leads to the simulated internet.
pub const INTERNET_PORT: PortId = PortId(1);

/// What the router of `node` obeys. `host_mac` is the router's MAC towards the node's host namespace.
pub(crate) fn of_node(
    node: &Node,
    pods: &[&Pod],
    neighbours: &[(String, Ipv4Addr, Mac)],
    host_mac: Mac,
    epoch: u32,
) -> Snapshot {
    let port_of = |dev: &str| {
        node.ifaces
            .iter()
            .find(|iface| iface.name == dev)
            .and_then(|iface| iface.port)
    };
    let mut snapshot = Snapshot {
        epoch,
        forwarding: true,
        ..Snapshot::default()
    };
    for iface in &node.ifaces {
        let Some(port) = iface.port else { continue };
        snapshot.ports.push(port_config(iface, port, pods));
        for addr in &iface.addrs {
            snapshot.addresses.push(LocalAddress {
                addr: addr.net.addr(),
                prefix_len: addr.net.prefix_len(),
                broadcast: addr
                    .broadcast
                    .filter(|broadcast| *broadcast != addr.net.addr()),
                port,
            });
        }
        if iface.kind == IfaceKind::Ethernet {
            let mut host = PortConfig::ethernet(HOST_PORT.0, "host", host_mac, mtu(iface));
            host.kind = PortKind::Host {
                peer_mac: iface.mac,
            };
            snapshot.ports.push(host);
        }
    }
    snapshot.routes = node
        .routes
        .iter()
        .filter_map(|entry| route(entry, &port_of))
        .collect();
    snapshot.neighbours = neighbours
        .iter()
        .filter_map(|(dev, ip, mac)| {
            port_of(dev).map(|port| PermanentNeighbour {
                port,
                ip: *ip,
                mac: *mac,
            })
        })
        .collect();
    snapshot
}

/// What the router of the default gateway obeys: the node subnet on one side, everything else on the other.
pub(crate) fn of_gateway(
    network: &NetworkSpec,
    gateway: &GatewaySpec,
    internet: &InternetSpec,
    macs: GatewayMacs,
) -> Snapshot {
    let hop = |port| {
        RouteTarget::Unicast(vec![NextHop {
            port,
            via: None,
            weight: 1,
        }])
    };
    let subnet = network.node_subnet;
    let route = |dst, src, port| Route {
        dst,
        metric: 0,
        src,
        target: hop(port),
    };
    Snapshot {
        epoch: 1,
        forwarding: true,
        ports: vec![
            PortConfig::ethernet(ETH0_PORT.0, "eth0", macs.underlay, network.mtu),
            PortConfig::ethernet(INTERNET_PORT.0, "inet0", macs.upstream, network.mtu),
        ],
        addresses: vec![LocalAddress {
            addr: gateway.addr,
            prefix_len: subnet.prefix_len(),
            broadcast: Some(subnet.broadcast()),
            port: ETH0_PORT,
        }],
        routes: std::iter::once(route(subnet, Some(gateway.addr), ETH0_PORT))
            .chain(
                internet
                    .addresses
                    .iter()
                    .map(|addr| route((*addr).into(), None, INTERNET_PORT)),
            )
            .collect(),
        neighbours: internet
            .addresses
            .iter()
            .map(|addr| PermanentNeighbour {
                port: INTERNET_PORT,
                ip: *addr,
                mac: macs.internet,
            })
            .collect(),
    }
}

/// The MACs of the default gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewayMacs {
    /// On the nodes' segment.
    pub underlay: Mac,
    /// Towards the internet.
    pub upstream: Mac,
    /// The internet's own side.
    pub internet: Mac,
}

fn port_config(iface: &Iface, port: PortId, pods: &[&Pod]) -> PortConfig {
    let mut config = PortConfig::ethernet(port.0, &iface.name, iface.mac, mtu(iface));
    config.up = iface.up;
    config.carrier = iface.carrier;
    config.rp_filter = RpFilter::Off;
    if iface.kind == IfaceKind::Bridge {
        config.kind = PortKind::Dummy;
    }
    config.peer = pods.iter().find_map(|pod| {
        pod.link
            .as_ref()
            .filter(|link| link.port == port)
            .map(|link| PinnedPeer {
                ip: pod.ip,
                mac: link.mac,
            })
    });
    config
}

fn mtu(iface: &Iface) -> u16 {
    u16::try_from(iface.mtu).unwrap_or(u16::MAX)
}

/// None for a route whose devices have no port (lo, sit0): packets never take it.
fn route(entry: &RouteEntry, port_of: &impl Fn(&str) -> Option<PortId>) -> Option<Route> {
    let target = match entry.kind {
        RouteKind::Blackhole => RouteTarget::Blackhole,
        RouteKind::Unreachable => RouteTarget::Unreachable,
        RouteKind::Prohibit => RouteTarget::Prohibit,
        RouteKind::Throw => RouteTarget::Throw,
        RouteKind::Unicast => {
            let hops: Vec<NextHop> = entry
                .hops
                .iter()
                .filter_map(|hop| {
                    port_of(&hop.dev).map(|port| NextHop {
                        port,
                        via: hop.via,
                        weight: hop.weight,
                    })
                })
                .collect();
            if hops.is_empty() {
                return None;
            }
            RouteTarget::Unicast(hops)
        }
    };
    Some(Route {
        dst: entry.dst,
        metric: entry.metric,
        src: entry.src,
        target,
    })
}

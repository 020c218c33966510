//! A node's model as its router sees it.
//!
//! Decides nothing: interfaces that have a port become ports, addresses local addresses, routes routes with port numbers.
//! Pure, so that the same lab gives the same packets on every back end.

use std::net::Ipv4Addr;

use router_core::config::{
    BridgePort, Ipip, LocalAddress, NextHop, PermanentNeighbour, PinnedPeer, PortConfig, PortKind,
    Route, RouteTarget,
};
use router_core::{Mac, PortId, Snapshot};

use super::node::{ETH0_PORT, HOST_PORT};
use crate::model::{Iface, IfaceKind, Node, Pod, RouteEntry, RouteKind};

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
        snapshot
            .ports
            .push(port_config(iface, port, pods, &port_of));
        for addr in &iface.addrs {
            snapshot.addresses.push(LocalAddress {
                addr: addr.net.addr(),
                prefix_len: addr.net.prefix_len(),
                // With or without `brd` the kernel's local table has that of the subnet (BR-20).
                broadcast: addr
                    .broadcast
                    .or_else(|| (addr.net.prefix_len() < 31).then(|| addr.net.broadcast()))
                    .filter(|broadcast| *broadcast != addr.net.addr()),
                port,
            });
        }
        // The one that stands for the node in its host namespace.
        if port == ETH0_PORT {
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

fn port_config(
    iface: &Iface,
    port: PortId,
    pods: &[&Pod],
    port_of: &impl Fn(&str) -> Option<PortId>,
) -> PortConfig {
    let mut config = PortConfig::ethernet(port.0, &iface.name, iface.mac, mtu(iface));
    config.up = iface.up;
    config.carrier = iface.carrier;
    config.rp_filter = iface.sysctls.rp_filter;
    config.proxy_arp = iface.sysctls.proxy_arp;
    config.route_localnet = iface.sysctls.route_localnet;
    config.arp = iface.kind != IfaceKind::Ipip;
    match iface.kind {
        IfaceKind::Bridge => config.kind = PortKind::Bridge,
        IfaceKind::Ipip => config.kind = PortKind::Ipip(Ipip::default()),
        _ => {}
    }
    config.bridge = iface.master.as_deref().and_then(|master| {
        Some(BridgePort {
            bridge: port_of(master)?,
            hairpin: iface.sysctls.hairpin,
        })
    });
    config.peer = pods.iter().find_map(|pod| {
        pod.link
            .as_ref()
            .filter(|link| link.port == port && !link.by_hand)
            .map(|link| PinnedPeer {
                ip: pod.ip,
                mac: link.mac,
            })
    });
    config.shape = pods
        .iter()
        .find(|pod| pod.link.as_ref().is_some_and(|link| link.port == port))
        .map_or_else(Default::default, |pod| pod.bandwidth.shape());
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

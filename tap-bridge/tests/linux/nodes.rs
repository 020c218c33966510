//! The nodes that rows play on.

use std::net::Ipv4Addr;

use router_core::config::{
    LocalAddress, PermanentNeighbour, PortConfig, Route, RouteTarget, RpFilter,
};
use router_core::testing::bridged;
use router_core::testing::topology::*;
use router_core::{Mac, PortId, Snapshot};

/// Link of a third pod, whose MTU is 1400.
pub(crate) const NARROW: PortId = PortId(6);
/// The third pod.
pub(crate) const A3: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 4);
/// MAC of node A's end of its link.
pub(crate) const NARROW_MAC: Mac = Mac([2, 0, 0, 0, 1, 4]);
/// MAC of its eth0.
pub(crate) const A3_MAC: Mac = Mac([2, 0, 0, 0, 2, 4]);
/// An address of the underlay that nobody has.
pub(crate) const ABSENT: Ipv4Addr = Ipv4Addr::new(172, 16, 30, 98);

/// Node A of kindnet with every neighbour known, a third pod behind a smaller MTU, and a route of every special kind.
pub(crate) fn kindnet() -> Snapshot {
    let mut node = resolved(node_a());
    node.ports.push(PortConfig::ethernet(
        NARROW.0,
        "vethnarrow",
        NARROW_MAC,
        1400,
    ));
    node.addresses.push(LocalAddress {
        addr: GW_A,
        prefix_len: 32,
        broadcast: Some(GW_A),
        port: NARROW,
    });
    node.neighbours.push(PermanentNeighbour {
        port: NARROW,
        ip: A3,
        mac: A3_MAC,
    });
    node.routes.extend([
        route("10.244.0.4/32", NARROW, None),
        special("192.0.2.0/28", RouteTarget::Unreachable),
        special("192.0.2.16/28", RouteTarget::Prohibit),
        special("192.0.2.32/28", RouteTarget::Blackhole),
        // A /28 that leads on inside a /27 that does not.
        special("192.0.2.64/27", RouteTarget::Blackhole),
        route("192.0.2.64/28", UPLINK, Some(NODE_B)),
        // Two of the same prefix: the lower metric wins.
        Route {
            metric: 20,
            ..route("198.51.100.0/24", POD2, None)
        },
        Route {
            metric: 10,
            ..route("198.51.100.0/24", UPLINK, Some(NODE_B))
        },
        special("192.0.2.48/28", RouteTarget::Throw),
    ]);
    node
}

/// Node A with nobody known.
pub(crate) fn unresolved() -> Snapshot {
    node_a()
}

/// Node A without a default route, and the throw route with nothing behind it.
pub(crate) fn without_default() -> Snapshot {
    let mut node = kindnet();
    node.routes.retain(|r| r.dst.prefix_len() > 0);
    node
}

/// A node with podman's bridge, the gateway's neighbours known.
pub(crate) fn bridged() -> Snapshot {
    let mut node = bridged::with_known_pods(bridged::bridged_node());
    for port in node.ports.iter_mut().filter(|p| p.bridge.is_some()) {
        port.name = format!("veth{}", port.id.0);
    }
    node
}

/// MAC of every cali port.
pub(crate) const CALI_MAC: Mac = Mac([0xee; 6]);
/// First pod of the Calico node.
pub(crate) const N1: Ipv4Addr = Ipv4Addr::new(10, 244, 205, 193);
/// Second pod of the Calico node.
pub(crate) const N2: Ipv4Addr = Ipv4Addr::new(10, 244, 205, 194);

/// A Calico node without a tunnel (ipipMode Never): pods behind proxy ARP and strict source validation, the own block a
/// blackhole, a peer's block by its node.
pub(crate) fn calico() -> Snapshot {
    let mut node = node_a();
    node.addresses.retain(|a| a.port == UPLINK);
    node.ports.retain(|p| [UPLINK, POD1, POD2].contains(&p.id));
    for port in node.ports.iter_mut().filter(|p| p.id != UPLINK) {
        port.name = format!("cali{}", port.id.0);
        port.mac = CALI_MAC;
        port.mtu = 1480;
        port.proxy_arp = true;
        port.rp_filter = RpFilter::Strict;
        port.route_localnet = true;
    }
    node.routes
        .retain(|r| r.dst.prefix_len() == 0 || r.dst.to_string().starts_with("172.16"));
    node.routes.extend([
        route("10.244.205.193/32", POD1, None),
        route("10.244.205.194/32", POD2, None),
        special("10.244.205.192/26", RouteTarget::Blackhole),
        route("10.244.151.0/26", UPLINK, Some(NODE_B)),
    ]);
    node.neighbours = [
        (POD1, N1, A1_MAC),
        (POD2, N2, A2_MAC),
        (UPLINK, NODE_B, B_MAC),
        (UPLINK, R, R_MAC),
    ]
    .map(|(port, ip, mac)| PermanentNeighbour { port, ip, mac })
    .into();
    node
}

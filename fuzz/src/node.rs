//! The nodes that targets play with: what the presets make, changed by a few bits of the input.

use core::net::Ipv4Addr;

use ipnet::Ipv4Net;
use router_core::config::{
    BridgePort, LocalAddress, NextHop, PermanentNeighbour, PinnedPeer, PortConfig, PortKind, Rate,
    Route, RouteTarget, RpFilter,
};
use router_core::policy::{
    AddressRange, PolicyConfig, PolicyEndpoint, PolicyPeers, PolicyPorts, PolicyProgram, PolicyRule,
};
use router_core::testing::topology::{host_port, masquerading};
use router_core::{Mac, PortId, Snapshot};

use crate::input::Input;

/// The underlay.
pub const ETH0: PortId = PortId(0);
/// Link of a pod, on the bridge of a bridging node.
pub const POD_A: PortId = PortId(1);
/// Link of another pod.
pub const POD_B: PortId = PortId(2);
/// The host namespace, where there is one.
pub const HOST: PortId = PortId(3);
/// docker0, or the bridge of a bridging node.
pub const BRIDGE: PortId = PortId(4);
/// The tunnel of a Calico node.
pub const TUNL0: PortId = PortId(5);

/// MAC of the node on every port.
pub const ROUTER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// MAC of the first pod, and of the host namespace.
pub const POD_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
/// MAC of the peer node.
pub const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 4]);
/// The node.
pub const NODE: Ipv4Addr = Ipv4Addr::new(172, 16, 30, 3);
/// The peer node.
pub const PEER: Ipv4Addr = Ipv4Addr::new(172, 16, 30, 4);
/// Gateway of the first node's pods.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
/// The tunnel's address on a Calico node.
pub const TUNL0_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 64);
/// The first pod.
pub const A: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
/// The second pod.
pub const B: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 3);

/// Which bits of the first byte mean what; the rest of it is free.
mod kind {
    /// A Calico node rather than a kindnet node.
    pub(super) const CALICO: u8 = 1;
    /// Pods on a bridge.
    pub(super) const BRIDGE: u8 = 2;
    /// Ports of the bridge are hairpin ports.
    pub(super) const HAIRPIN: u8 = 4;
    /// NetworkPolicy.
    pub(super) const POLICY: u8 = 8;
    /// Fragments are collected.
    pub(super) const DEFRAGMENT: u8 = 16;
    /// The tunnel takes what comes from nodes alone, and pods may not speak IPIP.
    pub(super) const FILTER: u8 = 32;
    /// The tunnel's MTU is wider than its way.
    pub(super) const WIDE: u8 = 64;
    /// kindnetd's masquerading, and host port 8080 of UDP and TCP for the first pod's port 80.
    pub(super) const NAT: u8 = 128;
}

/// The node that the next three bytes describe.
pub fn snapshot(input: &mut Input<'_>) -> Snapshot {
    let kind = input.byte();
    let flags = input.byte();
    let more = input.byte();
    let is = |bit: u8| kind & bit != 0;
    let on = |bits: u8, n: u8| bits & (1 << n) != 0;

    let mut node = kindnet(flags, more);
    if is(kind::CALICO) {
        let mtu = if is(kind::WIDE) { 1500 } else { 1480 };
        calico(&mut node, mtu, is(kind::FILTER));
    }
    if is(kind::BRIDGE) {
        bridge(&mut node, is(kind::HAIRPIN));
    }
    node.defragment = is(kind::DEFRAGMENT);
    if is(kind::NAT) {
        node = masquerading(node);
        let subnet = "10.244.0.0/24".parse().expect("a literal prefix");
        for protocol in [6, 17] {
            node = host_port(node, (protocol, 8080), (A, 80), subnet);
        }
        node.nat.conntrack.limit = 256;
    }
    if is(kind::POLICY) {
        node.policy = policy(on(more, 5), on(more, 6));
    }
    if on(more, 7) {
        let slow = Some(Rate {
            rate: 20_000,
            burst: 1500,
            limit: 4000,
        });
        for port in &mut node.ports {
            match port.id {
                POD_A => port.shape.rx = slow,
                POD_B => port.shape.tx = slow,
                _ => {}
            }
        }
    }
    node
}

/// A node of a kindnet cluster.
fn kindnet(flags: u8, more: u8) -> Snapshot {
    let on = |bits: u8, n: u8| bits & (1 << n) != 0;
    let mtu = if on(flags, 0) { 576 } else { 1500 };
    let mut ports = vec![
        PortConfig::ethernet(ETH0.0, "eth0", ROUTER_MAC, mtu),
        PortConfig::ethernet(POD_A.0, "veth0000000a", ROUTER_MAC, mtu),
        PortConfig::ethernet(
            POD_B.0,
            "veth0000000b",
            ROUTER_MAC,
            if on(flags, 1) { 68 } else { mtu },
        ),
        PortConfig::ethernet(BRIDGE.0, "docker0", ROUTER_MAC, 1500),
    ];
    ports[0].proxy_arp = on(flags, 2);
    ports[0].rp_filter = match more & 3 {
        0 => RpFilter::Off,
        1 => RpFilter::Strict,
        _ => RpFilter::Loose,
    };
    ports[0].route_localnet = on(flags, 3);
    ports[1].peer = on(flags, 4).then_some(PinnedPeer {
        ip: A,
        mac: POD_MAC,
    });
    ports[1].arp = !on(more, 2);
    ports[2].up = !on(flags, 5);
    ports[3].kind = PortKind::Dummy;
    ports[3].carrier = false;
    if on(flags, 6) {
        let mut host = PortConfig::ethernet(HOST.0, "host", ROUTER_MAC, mtu);
        host.kind = PortKind::Host { peer_mac: POD_MAC };
        ports.push(host);
    }
    let mut routes = vec![
        route("10.244.0.2/32", via(POD_A, None)),
        route("10.244.0.3/32", via(POD_B, None)),
        route("10.244.1.0/24", via(ETH0, Some(PEER))),
        route(
            "10.244.2.0/24",
            via(ETH0, Some(Ipv4Addr::new(172, 16, 30, 5))),
        ),
        route("172.16.30.0/24", via(ETH0, None)),
        route("172.17.0.0/16", via(BRIDGE, None)),
        route("192.0.2.0/26", RouteTarget::Blackhole),
        route("192.0.2.64/26", RouteTarget::Unreachable),
        route("192.0.2.128/26", RouteTarget::Prohibit),
        route("192.0.2.192/26", RouteTarget::Throw),
    ];
    if on(flags, 7) {
        routes.push(route(
            "0.0.0.0/0",
            via(ETH0, Some(Ipv4Addr::new(172, 16, 30, 1))),
        ));
    }
    let mut neighbours = Vec::new();
    if on(more, 3) {
        neighbours.extend([
            PermanentNeighbour {
                port: POD_A,
                ip: A,
                mac: POD_MAC,
            },
            PermanentNeighbour {
                port: ETH0,
                ip: PEER,
                mac: PEER_MAC,
            },
        ]);
    }
    Snapshot {
        forwarding: !on(more, 4),
        ports,
        addresses: vec![
            address(NODE, 24, Some(Ipv4Addr::new(172, 16, 30, 255)), ETH0),
            address(GATEWAY, 32, None, POD_A),
            address(GATEWAY, 32, None, POD_B),
            address(
                Ipv4Addr::new(172, 17, 0, 1),
                16,
                Some(Ipv4Addr::new(172, 17, 255, 255)),
                BRIDGE,
            ),
        ],
        routes,
        neighbours,
        ..Snapshot::default()
    }
}

/// Pods behind proxy ARP and strict source validation, their block a blackhole, the peer's behind a tunnel.
fn calico(node: &mut Snapshot, mtu: u16, filter: bool) {
    for port in node
        .ports
        .iter_mut()
        .filter(|p| p.id == POD_A || p.id == POD_B)
    {
        port.proxy_arp = true;
        port.rp_filter = RpFilter::Strict;
        port.route_localnet = true;
        port.deny_ipip = filter;
        port.peer = None;
    }
    node.addresses.retain(|a| a.addr != GATEWAY);
    node.ports.push(PortConfig::ipip(TUNL0.0, "tunl0", mtu));
    node.addresses.push(address(TUNL0_ADDRESS, 32, None, TUNL0));
    node.routes.retain(|r| r.dst.to_string() != "10.244.1.0/24");
    node.routes.extend([
        route("10.244.0.0/26", RouteTarget::Blackhole),
        route("10.244.1.0/24", via(TUNL0, Some(PEER))),
        // Without a next hop: the tunnel's end is the destination, which is behind the tunnel again.
        route("198.51.100.0/24", via(TUNL0, None)),
    ]);
    node.tunnel_sources = filter.then(|| vec![NODE, PEER]);
}

/// The pods are on a bridge, which has their gateway's address.
fn bridge(node: &mut Snapshot, hairpin: bool) {
    for port in &mut node.ports {
        if port.id == BRIDGE {
            port.kind = PortKind::Bridge;
            port.name = "cni-podman0".into();
            port.carrier = true;
        } else if port.id == POD_A || port.id == POD_B {
            port.bridge = Some(BridgePort {
                bridge: BRIDGE,
                hairpin,
            });
            port.peer = None;
        }
    }
    node.addresses.retain(|a| a.addr != GATEWAY);
    node.addresses.push(address(
        GATEWAY,
        24,
        Some(Ipv4Addr::new(10, 244, 0, 255)),
        BRIDGE,
    ));
    node.routes.retain(|r| r.dst.prefix_len() < 32);
    node.routes.push(route("10.244.0.0/24", via(BRIDGE, None)));
    for neighbour in &mut node.neighbours {
        if neighbour.port == POD_A {
            neighbour.port = BRIDGE;
        }
    }
}

/// The first pod is isolated for ingress, the second for egress; with rules, or with none.
fn policy(rules: bool, ports: bool) -> PolicyConfig {
    let rule = |peers, ports| PolicyRule {
        policy: 0,
        number: 0,
        peers,
        ports,
    };
    let web = PolicyPorts {
        protocol: 6,
        first: 80,
        last: 81,
    };
    let list = if ports { vec![web] } else { Vec::new() };
    let allowed = PolicyProgram {
        policies: vec![0],
        rules: if rules {
            vec![
                rule(PolicyPeers::Set(0), list.clone()),
                rule(PolicyPeers::Any, vec![web]),
            ]
        } else {
            Vec::new()
        },
    };
    let endpoint = |port, ip, ingress, egress| PolicyEndpoint {
        port,
        ip,
        ingress,
        egress,
    };
    PolicyConfig {
        endpoints: vec![
            endpoint(POD_A, A, Some(0), None),
            endpoint(POD_B, B, None, Some(0)),
        ],
        programs: vec![allowed],
        sets: vec![vec![AddressRange {
            first: Ipv4Addr::new(10, 244, 1, 0),
            last: Ipv4Addr::new(10, 244, 1, 127),
        }]],
        policies: vec![Default::default()],
        flush_on_change: false,
    }
}

fn address(
    addr: Ipv4Addr,
    prefix_len: u8,
    broadcast: Option<Ipv4Addr>,
    port: PortId,
) -> LocalAddress {
    LocalAddress {
        addr,
        prefix_len,
        broadcast,
        port,
    }
}

fn route(dst: &str, target: RouteTarget) -> Route {
    Route {
        dst: dst.parse::<Ipv4Net>().expect("a literal prefix"),
        metric: 0,
        src: None,
        target,
    }
}

fn via(port: PortId, via: Option<Ipv4Addr>) -> RouteTarget {
    RouteTarget::Unicast(vec![NextHop {
        port,
        via,
        weight: 1,
    }])
}

//! How a node looks before it has pods: interfaces and routes of seed 000's minikube, or of a plainer host.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv4Net;
use router_core::{Mac, PortId};

use super::naming;
use crate::model::{
    Hop, IfAddr, Iface, IfaceKind, Node, Proto, RouteEntry, RouteKind, RouteOwner, Scope, Sysctls,
};
use crate::spec::{NetworkSpec, NodeSpec};

/// Router port of eth0.
pub const ETH0_PORT: PortId = PortId(0);
/// Router port towards the node's own host namespace.
pub const HOST_PORT: PortId = PortId(1);
/// Router port of docker0.
const DOCKER0_PORT: PortId = PortId(2);
/// First router port of pods.
pub(crate) const FIRST_POD_PORT: u16 = 3;

/// A node as `spec` declares it, with the interfaces and routes that `network` gives to every node.
pub(crate) fn build(spec: &NodeSpec, network: &NetworkSpec, seed: u64, now_ms: u64) -> Node {
    let mut ifaces = vec![loopback(), eth0(spec, network, seed)];
    if network.sit0 {
        ifaces.push(sit0(3));
    }
    if network.docker0 {
        ifaces.push(docker0(if network.sit0 { 4 } else { 3 }, &spec.name, seed));
    }
    let mut node = Node {
        name: spec.name.clone(),
        internal_ip: spec.internal_ip,
        pod_cidr: spec.pod_cidr,
        control_plane: spec.control_plane,
        labels: spec.labels.clone(),
        created_ms: now_ms,
        ifaces,
        routes: Vec::new(),
    };
    node.routes = node.ifaces.iter().flat_map(connected_routes).collect();
    if let Some(gateway) = &network.gateway {
        let primary = spec.addresses.first().map(Ipv4Net::addr);
        let (proto, src, metric) = match gateway.dhcp_metric {
            Some(metric) => (Proto::Dhcp, primary, metric),
            None => (Proto::Boot, None, 0),
        };
        let route = |dst, via, scope| RouteEntry {
            dst,
            kind: RouteKind::Unicast,
            hops: vec![hop("eth0", via)],
            proto,
            scope,
            src,
            metric,
            owner: RouteOwner::Base,
        };
        node.routes
            .push(route(Ipv4Net::default(), Some(gateway.addr), Scope::Global));
        if gateway.dhcp_metric.is_some() {
            node.routes
                .push(route(host_net(gateway.addr), None, Scope::Link));
        }
    }
    node
}

/// The routes that the kernel adds with the addresses of an interface that is up.
pub(crate) fn connected_routes(iface: &Iface) -> Vec<RouteEntry> {
    if !iface.up || iface.kind == IfaceKind::Loopback {
        return Vec::new();
    }
    let mut routes: Vec<RouteEntry> = Vec::new();
    for addr in iface.addrs.iter().filter(|addr| addr.net.prefix_len() < 32) {
        let dst = addr.net.trunc();
        if routes.iter().all(|route| route.dst != dst) {
            routes.push(RouteEntry {
                dst,
                kind: RouteKind::Unicast,
                hops: vec![hop(&iface.name, None)],
                proto: Proto::Kernel,
                scope: Scope::Link,
                src: Some(addr.net.addr()),
                metric: 0,
                owner: RouteOwner::Base,
            });
        }
    }
    routes
}

/// A plain next hop.
pub(crate) fn hop(dev: &str, via: Option<Ipv4Addr>) -> Hop {
    Hop {
        via,
        dev: dev.to_owned(),
        onlink: false,
        weight: 1,
    }
}

/// `addr/32`
pub(crate) fn host_net(addr: Ipv4Addr) -> Ipv4Net {
    Ipv4Net::from(addr)
}

/// The link-local address that IPv6 makes of a MAC (RFC 4291 appendix A: modified EUI-64).
pub(crate) fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        pair(a ^ 2, b),
        pair(c, 0xff),
        pair(0xfe, d),
        pair(e, f),
    )
}

fn loopback() -> Iface {
    Iface {
        index: 1,
        name: "lo".into(),
        kind: IfaceKind::Loopback,
        mac: Mac::ZERO,
        mtu: 65536,
        qdisc: "noqueue".into(),
        qlen: Some(1000),
        up: true,
        carrier: true,
        addrs: vec![IfAddr {
            net: Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 8),
            broadcast: None,
            scope: Scope::Host,
            lease_secs: None,
            manual: false,
        }],
        link_local: None,
        master: None,
        port: None,
        sysctls: Sysctls::default(),
    }
}

fn eth0(spec: &NodeSpec, network: &NetworkSpec, seed: u64) -> Iface {
    let mac = spec
        .mac
        .unwrap_or_else(|| naming::mac(seed, "node", &spec.name));
    Iface {
        index: 2,
        name: "eth0".into(),
        kind: IfaceKind::Ethernet,
        mac,
        mtu: u32::from(network.mtu),
        qdisc: "pfifo_fast".into(),
        qlen: Some(1000),
        up: true,
        carrier: true,
        addrs: spec
            .addresses
            .iter()
            .map(|&net| IfAddr {
                net,
                broadcast: (net.prefix_len() < 31).then(|| net.broadcast()),
                scope: Scope::Global,
                lease_secs: network.dhcp_lease_secs,
                manual: false,
            })
            .collect(),
        link_local: network.ipv6_link_local.then(|| link_local(mac)),
        master: None,
        port: Some(ETH0_PORT),
        sysctls: Sysctls::default(),
    }
}

fn sit0(index: u32) -> Iface {
    Iface {
        index,
        name: "sit0".into(),
        kind: IfaceKind::Sit,
        mac: Mac::ZERO,
        mtu: 1480,
        qdisc: "noop".into(),
        qlen: Some(1000),
        up: false,
        carrier: false,
        addrs: Vec::new(),
        link_local: None,
        master: None,
        port: None,
        sysctls: Sysctls::default(),
    }
}

fn docker0(index: u32, node: &str, seed: u64) -> Iface {
    let Mac([_, _, c, d, e, f]) = naming::mac(seed, "docker0", node);
    let net = Ipv4Net::new_assert(Ipv4Addr::new(172, 17, 0, 1), 16);
    Iface {
        index,
        name: "docker0".into(),
        kind: IfaceKind::Bridge,
        mac: Mac([0x02, 0x42, c, d, e, f]),
        mtu: 1500,
        qdisc: "noqueue".into(),
        qlen: None,
        up: true,
        carrier: false,
        addrs: vec![IfAddr {
            net,
            broadcast: Some(net.broadcast()),
            scope: Scope::Global,
            lease_secs: None,
            manual: false,
        }],
        link_local: None,
        master: None,
        port: Some(DOCKER0_PORT),
        sysctls: Sysctls::default(),
    }
}

//! What the CNI plugin `ptp` does to a node and a pod at ADD and DEL (dataplane 5.2).
//!
//! Decides names, indexes and routes of both ends of a pod's link. Doesn't decide the pod's address (`ipam`) and touches no
//! kernel: the daemon makes the pod's side from [`PodLink`], the router has the other.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use router_core::PortId;

use super::naming;
use super::node::{hop, host_net, link_local};
use crate::model::{
    IfAddr, Iface, IfaceKind, Node, PodLink, PodRoute, Proto, RouteEntry, RouteKind, RouteOwner,
    Scope, Sysctls,
};
use crate::spec::{NetworkSpec, PodSpec};

/// What ADD needs to know besides the node.
pub(crate) struct Add<'a> {
    pub(crate) pod: &'a PodSpec,
    pub(crate) key: &'a str,
    pub(crate) ip: Ipv4Addr,
    pub(crate) subnet: Ipv4Net,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) port: PortId,
    pub(crate) ifindex: u32,
    pub(crate) seed: u64,
}

/// Adds the host side to `node` and returns the pod's side (PTP-1, PTP-2, PTP-3, PTP-5).
pub(crate) fn add(node: &mut Node, network: &NetworkSpec, add: &Add<'_>) -> PodLink {
    let draw_key = format!("{}/{}#{}", node.name, add.key, add.port.0);
    let host_ifname = fresh_name(node, add.seed, &draw_key);
    let mac = add
        .pod
        .mac
        .unwrap_or_else(|| naming::mac(add.seed, "pod", &draw_key));
    let host_mac = naming::mac(add.seed, "veth", &draw_key);
    let eth0_mtu = node
        .ifaces
        .iter()
        .find(|iface| iface.kind == IfaceKind::Ethernet)
        .map_or_else(|| u32::from(network.mtu), |iface| iface.mtu);
    let mtu = u16::try_from(eth0_mtu).unwrap_or(u16::MAX);
    let netnsid = netnsid(node);
    let pod_ifindex = network.pod_ifindex;
    node.ifaces.push(Iface {
        index: add.ifindex,
        name: host_ifname.clone(),
        kind: IfaceKind::Veth {
            peer_index: pod_ifindex,
            netnsid,
            pod: add.key.to_owned(),
        },
        mac: host_mac,
        mtu: eth0_mtu,
        qdisc: "noqueue".into(),
        qlen: None,
        up: true,
        carrier: true,
        addrs: vec![IfAddr {
            net: host_net(add.gateway),
            broadcast: Some(add.gateway),
            scope: Scope::Global,
            lease_secs: None,
            manual: false,
        }],
        link_local: network.ipv6_link_local.then(|| link_local(host_mac)),
        master: None,
        port: Some(add.port),
        sysctls: Sysctls::default(),
    });
    node.routes.push(RouteEntry {
        dst: host_net(add.ip),
        kind: RouteKind::Unicast,
        hops: vec![hop(&host_ifname, None)],
        proto: Proto::Boot,
        scope: Scope::Host,
        src: None,
        metric: 0,
        owner: RouteOwner::Cni {
            pod: add.key.to_owned(),
        },
    });
    let gateway = Some(add.gateway);
    let addr = Ipv4Net::new(add.ip, add.subnet.prefix_len()).unwrap_or_else(|_| host_net(add.ip));
    PodLink {
        ifname: "eth0".into(),
        ifindex: pod_ifindex,
        mac,
        mtu,
        addr,
        broadcast: (addr.prefix_len() < 31).then(|| addr.broadcast()),
        gateway: add.gateway,
        host_ifname,
        host_ifindex: add.ifindex,
        host_mac,
        port: add.port,
        routes: vec![
            PodRoute {
                dst: host_net(add.gateway),
                via: None,
                src: Some(add.ip),
                scope: Scope::Link,
            },
            PodRoute {
                dst: add.subnet,
                via: gateway,
                src: Some(add.ip),
                scope: Scope::Global,
            },
            PodRoute {
                dst: Ipv4Net::default(),
                via: gateway,
                src: None,
                scope: Scope::Global,
            },
        ],
        ipv6_link_local: network.ipv6_link_local,
        bridge: None,
        by_hand: false,
    }
}

/// A name for the host side that no interface of the node has.
pub(crate) fn fresh_name(node: &Node, seed: u64, draw_key: &str) -> String {
    (0..)
        .map(|attempt| naming::veth(seed, draw_key, attempt))
        .find(|name| node.ifaces.iter().all(|iface| iface.name != *name))
        .unwrap_or_default()
}

/// The lowest number that no other pod's namespace has on the node.
pub(crate) fn netnsid(node: &Node) -> u32 {
    let taken = |id: u32| {
        node.ifaces
            .iter()
            .any(|iface| matches!(iface.kind, IfaceKind::Veth { netnsid, .. } if netnsid == id))
    };
    (0..).find(|id| !taken(*id)).unwrap_or_default()
}

/// Takes the host side away with its addresses and with every route over it (PTP-6, FWD-58).
pub(crate) fn delete(node: &mut Node, link: &PodLink) {
    node.ifaces.retain(|iface| iface.name != link.host_ifname);
    remove_routes_of(node, &link.host_ifname);
    super::bridge::follow_ports(node);
}

/// Removes next hops over `dev`, and routes that have none left.
pub(crate) fn remove_routes_of(node: &mut Node, dev: &str) {
    node.routes.retain_mut(|route| {
        if route.kind != RouteKind::Unicast {
            return true;
        }
        route.hops.retain(|hop| hop.dev != dev);
        !route.hops.is_empty()
    });
}

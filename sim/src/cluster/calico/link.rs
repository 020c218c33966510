//! What the CNI plugin `calico` and Felix do to a node and a pod (CAL-20..23), and tunl0.
//!
//! Decides names, indexes, settings and routes of both ends of a pod's link. Doesn't decide the pod's address (`ipam`) and touches
//! no kernel.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use router_core::config::RpFilter;
use router_core::{Mac, PortId};
use sha1::{Digest as _, Sha1};

use crate::cluster::link::{Add, netnsid};
use crate::cluster::naming;
use crate::cluster::node::{hop, host_net};
use crate::model::{
    IfAddr, Iface, IfaceKind, Node, PodLink, PodRoute, Proto, RouteEntry, RouteKind, RouteOwner,
    Scope, Sysctls,
};
use crate::spec::{CalicoSpec, NetworkSpec};

/// The MAC of every host side (CAL-21): nobody learns anything from it, since pods reach everything by proxy ARP.
pub(crate) const HOST_MAC: Mac = Mac([0xee; 6]);

/// The gateway of all pods, an address that no interface has (PARP-2).
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// Name of the host side: "cali" and 11 hexadecimal digits of SHA-1 over `namespace.name` (CAL-20).
pub(crate) fn host_ifname(namespace: &str, name: &str) -> String {
    let digest = Sha1::digest(format!("{namespace}.{name}"));
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("cali{}", hex.get(..11).unwrap_or_default())
}

/// Adds the host side to `node` and returns the pod's side. The host side's name is free; its route is (CAL-22).
pub(crate) fn add(
    node: &mut Node,
    network: &NetworkSpec,
    calico: &CalicoSpec,
    add: &Add<'_>,
) -> PodLink {
    let host_ifname = host_ifname(&add.pod.namespace, &add.pod.name);
    let draw_key = format!("{}/{}#{}", node.name, add.key, add.port.0);
    let mac = add
        .pod
        .mac
        .unwrap_or_else(|| naming::mac(add.seed, "pod", &draw_key));
    let mtu = calico.pod_mtu(network.mtu);
    // The plugin makes both ends in the pod, the host side first, and moves that out.
    let ifindex = network.pod_ifindex + 1;
    node.ifaces.push(Iface {
        index: add.ifindex,
        name: host_ifname.clone(),
        kind: IfaceKind::Veth {
            peer_index: ifindex,
            netnsid: netnsid(node),
            pod: add.key.to_owned(),
        },
        mac: HOST_MAC,
        mtu: u32::from(mtu),
        qdisc: "noqueue".into(),
        qlen: None,
        up: true,
        carrier: true,
        addrs: Vec::new(),
        link_local: None,
        master: None,
        port: Some(add.port),
        sysctls: Sysctls {
            proxy_arp: true,
            rp_filter: RpFilter::Strict,
            route_localnet: true,
            ..Sysctls::default()
        },
    });
    let pod = host_net(add.ip);
    node.routes.push(RouteEntry {
        dst: pod,
        kind: RouteKind::Unicast,
        hops: vec![hop(&host_ifname, None)],
        proto: Proto::Boot,
        scope: Scope::Link,
        src: None,
        metric: 0,
        owner: RouteOwner::Cni {
            pod: add.key.to_owned(),
        },
    });
    let route = |dst: Ipv4Net, via: Option<Ipv4Addr>| PodRoute {
        dst,
        via,
        src: None,
        scope: if via.is_some() {
            Scope::Global
        } else {
            Scope::Link
        },
    };
    PodLink {
        ifname: "eth0".into(),
        ifindex,
        mac,
        mtu,
        addr: pod,
        broadcast: Some(add.ip),
        gateway: GATEWAY,
        host_ifname,
        host_ifindex: add.ifindex,
        host_mac: HOST_MAC,
        port: add.port,
        routes: vec![
            route(host_net(GATEWAY), None),
            route(Ipv4Net::default(), Some(GATEWAY)),
        ],
        ipv6_link_local: false,
        bridge: None,
        by_hand: false,
    }
}

/// tunl0 with its address.
pub(crate) fn tunnel(index: u32, port: PortId, mtu: u16, addr: Ipv4Addr) -> Iface {
    Iface {
        index,
        name: "tunl0".into(),
        kind: IfaceKind::Ipip,
        mac: Mac::ZERO,
        mtu: u32::from(mtu),
        qdisc: "noqueue".into(),
        qlen: Some(1000),
        up: true,
        carrier: true,
        addrs: vec![IfAddr {
            net: host_net(addr),
            broadcast: None,
            scope: Scope::Global,
            lease_secs: None,
            manual: false,
        }],
        link_local: None,
        master: None,
        port: Some(port),
        sysctls: Sysctls::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CAL-20: the names of seed 001.
    #[test]
    fn host_sides_are_named_by_the_pods_hash() {
        assert_eq!(host_ifname("default", "nginx"), "calic440f455693");
        assert_eq!(host_ifname("default", "nginx-manual"), "califba6dd09590");
    }
}

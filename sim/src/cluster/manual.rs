//! Hand-made labs (preset `manual`): interfaces and routes as they were declared, without any CNI.
//!
//! Decides what `ip link add`, `ip addr add` and `ip route add` would leave, in that order, for what the lab file says:
//! addresses without broadcast (BR-23), connected routes of what is up, then the routes by the command's own code. A declared
//! route whose device or gateway comes later is tried again whenever a host comes.

use router_core::PortId;

use super::bridge;
use super::ip_change;
use super::link::{Add, fresh_name, netnsid};
use super::naming;
use super::node::{connected_routes, link_local};
use super::{Cluster, ClusterError, Outcome};
use crate::model::{
    IfAddr, Iface, IfaceKind, Node, Pod, PodBridge, PodLink, PodRoute, Scope, Sysctls,
};
use crate::spec::{InterfaceSpec, LinkSpec, NetworkSpec, NodeSpec, PodSpec, Preset};

/// MTU of a new Ethernet device.
const DEFAULT_MTU: u16 = 1500;

/// Makes a node's declared bridges and sets up its eth0. Returns the next index and port.
pub(super) fn declare(
    node: &mut Node,
    spec: &NodeSpec,
    seed: u64,
    (mut ifindex, mut port): (u32, u16),
) -> Option<(u32, u16)> {
    for interface in &spec.interfaces {
        if interface.bridge {
            let made = bridge::device(&node.name, &interface.name, ifindex, PortId(port), seed);
            node.ifaces.push(made);
            ifindex += 1;
            port = port.checked_add(1)?;
        }
        set_up(node, interface);
    }
    Some((ifindex, port))
}

/// Gives an interface that is there what was declared for it.
fn set_up(node: &mut Node, wanted: &InterfaceSpec) {
    let Some(iface) = node.ifaces.iter_mut().find(|it| it.name == wanted.name) else {
        return;
    };
    iface.mac = wanted.mac.unwrap_or(iface.mac);
    iface.mtu = wanted.mtu.map_or(iface.mtu, u32::from);
    iface.link_local = iface.link_local.map(|_| link_local(iface.mac));
    iface.sysctls = Sysctls {
        proxy_arp: wanted.proxy_arp,
        rp_filter: wanted.rp_filter,
        hairpin: wanted.hairpin,
        ..iface.sysctls
    };
    iface
        .addrs
        .extend(wanted.addresses.iter().map(|&net| IfAddr {
            net,
            broadcast: None,
            scope: Scope::Global,
            lease_secs: None,
            manual: false,
        }));
    let was_up = core::mem::replace(&mut iface.up, wanted.up);
    if wanted.up {
        let connected = connected_routes(iface);
        let fresh: Vec<_> = connected
            .into_iter()
            .filter(|route| !node.routes.contains(route))
            .collect();
        node.routes.extend(fresh);
    } else if was_up {
        super::link::remove_routes_of(node, &wanted.name);
    }
    bridge::follow_ports(node);
}

/// Adds the node's end of a host's link, and returns the host's.
fn attach(
    node: &mut Node,
    network: &NetworkSpec,
    wanted: &LinkSpec,
    spec: &NodeSpec,
    add: &Add<'_>,
) -> PodLink {
    let draw_key = format!("{}/{}#{}", node.name, add.key, add.port.0);
    let host_ifname = match &wanted.peer {
        Some(peer) => peer.clone(),
        None => fresh_name(node, add.seed, &draw_key),
    };
    let mac = add
        .pod
        .mac
        .unwrap_or_else(|| naming::mac(add.seed, "pod", &draw_key));
    let host_mac = naming::mac(add.seed, "veth", &draw_key);
    let mtu = wanted.mtu.unwrap_or(DEFAULT_MTU);
    let netnsid = netnsid(node);
    node.ifaces.push(Iface {
        index: add.ifindex,
        name: host_ifname.clone(),
        kind: IfaceKind::Veth {
            peer_index: network.pod_ifindex,
            netnsid,
            pod: add.key.to_owned(),
        },
        mac: host_mac,
        mtu: mtu.into(),
        qdisc: "noqueue".into(),
        qlen: Some(1000),
        up: true,
        carrier: true,
        addrs: Vec::new(),
        link_local: network.ipv6_link_local.then(|| link_local(host_mac)),
        master: wanted.bridge.clone(),
        port: Some(add.port),
        sysctls: Sysctls::default(),
    });
    if let Some(interface) = spec.interfaces.iter().find(|it| it.name == host_ifname) {
        set_up(node, interface);
    }
    bridge::follow_ports(node);
    let host_mac = node
        .ifaces
        .iter()
        .find(|iface| iface.name == host_ifname)
        .map_or(host_mac, |iface| iface.mac);
    PodLink {
        ifname: wanted.name.clone(),
        ifindex: network.pod_ifindex,
        mac,
        mtu,
        addr: wanted.address.unwrap_or_default(),
        broadcast: None,
        gateway: std::net::Ipv4Addr::UNSPECIFIED,
        host_ifname,
        host_ifindex: add.ifindex,
        host_mac,
        port: add.port,
        routes: wanted.routes.clone(),
        ipv6_link_local: network.ipv6_link_local,
        bridge: wanted.bridge.as_ref().map(|name| PodBridge {
            name: name.clone(),
            gateway_mac: None,
        }),
        by_hand: true,
    }
}

/// A route of a host, from its line in the words of `ip route add`.
///
/// # Errors
/// What a host's namespace can't be given.
pub(crate) fn host_route(line: &str, dev: &str) -> Result<PodRoute, String> {
    let route = ip_change::parse_route(line).map_err(|error| error.to_string())?;
    if !route.plain {
        return Err("a host's routes have via, dev, src and scope alone".to_owned());
    }
    if let Some(other) = route.devs.iter().find(|it| *it != dev) {
        return Err(format!(
            "the host has no interface \"{other}\": its link is \"{dev}\""
        ));
    }
    Ok(PodRoute {
        dst: route.dst,
        via: route.via,
        src: route.src,
        scope: match (route.scope, route.via) {
            (Some(scope), _) => scope,
            (None, Some(_)) => Scope::Global,
            (None, None) => Scope::Link,
        },
    })
}

impl Cluster {
    /// A host's link, if it has one.
    pub(super) fn attach_host(
        &mut self,
        spec: &PodSpec,
        key: &str,
    ) -> Result<(std::net::Ipv4Addr, Option<PodLink>), ClusterError> {
        let none = std::net::Ipv4Addr::UNSPECIFIED;
        let Some(wanted) = &spec.link else {
            return Ok((none, None));
        };
        let network = self.state.network.clone();
        let seed = self.state.seed;
        let Some(state) = self.state.nodes.get_mut(&spec.node) else {
            return Err(self.no_such_node(&spec.node));
        };
        let refused = |message: String| ClusterError::Cni {
            pod: spec.name.clone(),
            node: spec.node.clone(),
            message,
        };
        let Some(next_port) = state.next_port.checked_add(1) else {
            return Err(ClusterError::PortsExhausted(spec.node.clone()));
        };
        let is_bridge = |name: &String| {
            let mut ifaces = state.node.ifaces.iter();
            ifaces.any(|iface| iface.name == *name && iface.kind == IfaceKind::Bridge)
        };
        if let Some(bridge) = wanted.bridge.as_ref().filter(|name| !is_bridge(name)) {
            return Err(refused(format!("there is no bridge \"{bridge}\"")));
        }
        if let Some(peer) = &wanted.peer
            && state.node.ifaces.iter().any(|iface| iface.name == *peer)
        {
            return Err(refused(format!("there is an interface \"{peer}\" already")));
        }
        let address = wanted.address.unwrap_or_default();
        let add = Add {
            pod: spec,
            key,
            ip: address.addr(),
            subnet: address,
            gateway: none,
            port: PortId(state.next_port),
            ifindex: state.next_ifindex,
            seed,
        };
        let link = attach(&mut state.node, &network, wanted, &state.spec, &add);
        state.next_port = next_port;
        state.next_ifindex += 1;
        Ok((address.addr(), Some(link)))
    }

    /// Takes a host's link away.
    pub(super) fn detach_host(&mut self, pod: &Pod, link: &PodLink) {
        if let Some(state) = self.state.nodes.get_mut(&pod.node) {
            super::link::delete(&mut state.node, link);
        }
    }

    /// Adds the declared routes that are missing and can be had now. What can't be had is returned.
    pub(super) fn declared_routes(&mut self, outcome: &mut Outcome) -> Vec<String> {
        let mut failed = Vec::new();
        if self.state.preset != Preset::Manual {
            return failed;
        }
        let mut changed = Vec::new();
        for (name, state) in &mut self.state.nodes {
            for line in &state.spec.routes {
                let mut node = state.node.clone();
                match ip_change::add_route(&mut node, line) {
                    Ok(true) => {
                        state.node = node;
                        changed.push(name.clone());
                    }
                    Ok(false) => {}
                    Err(error) => {
                        failed.push(format!("node \"{name}\": ip route add {line}: {error}"));
                    }
                }
            }
        }
        for name in changed {
            self.reconfigure(&name, outcome);
        }
        failed
    }
}

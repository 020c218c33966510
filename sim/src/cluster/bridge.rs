//! What the CNI plugin `bridge` does to a node and a pod at ADD and DEL (dataplane section 8).
//!
//! Decides the bridge with its address (BR-12 to BR-14), the port and the pod's side of it. Doesn't decide the pod's address
//! (`ipam`). The bridge comes with the first pod and stays after the last, as the plugin leaves it; without ports it has
//! no carrier (BR-24). Its MAC is its own from the start, so that ports come and go without changing it (BR-13).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use router_core::{Mac, PortId};

use super::ip_change;
use super::link::{Add, fresh_name, netnsid};
use super::naming;
use super::node::{connected_routes, host_net, link_local};
use crate::model::{IfAddr, Iface, IfaceKind, Node, PodBridge, PodLink, PodRoute, Scope, Sysctls};
use crate::spec::{BridgeNetwork, NetworkSpec};

/// MTU of a new Ethernet device.
const DEFAULT_MTU: u16 = 1500;

/// The plugin refuses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BridgeError {
    /// The name is taken by something else.
    #[error("\"{0}\" already exists but is not a bridge")]
    NotABridge(String),
    /// BR-14.
    #[error("\"{bridge}\" already has an IP address different from {wanted}")]
    OtherAddress {
        /// Its name.
        bridge: String,
        /// The gateway with the length of the subnet.
        wanted: Ipv4Net,
    },
}

/// The gateway of the pods, and of the bridge if it is one.
pub(crate) fn gateway(conf: &BridgeNetwork) -> Ipv4Addr {
    let first = u32::from(conf.subnet.network()).saturating_add(1);
    conf.gateway.unwrap_or_else(|| first.into())
}

/// True when the bridge has still to be made: it will want an index and a port of its own.
pub(crate) fn is_new(node: &Node, conf: &BridgeNetwork) -> bool {
    node.ifaces.iter().all(|iface| iface.name != conf.bridge)
}

/// A bridge without address and ports, up.
pub(crate) fn device(node: &str, name: &str, index: u32, port: PortId, seed: u64) -> Iface {
    Iface {
        index,
        name: name.to_owned(),
        kind: IfaceKind::Bridge,
        mac: naming::mac(seed, "bridge", &format!("{node}/{name}")),
        mtu: u32::from(DEFAULT_MTU),
        qdisc: "noqueue".into(),
        qlen: Some(1000),
        up: true,
        carrier: false,
        addrs: Vec::new(),
        link_local: None,
        master: None,
        port: Some(port),
        sysctls: Sysctls::default(),
    }
}

/// Makes the bridge, if `new` gives it an index and a port, and gives it its address.
///
/// # Errors
/// [`BridgeError`]. The node may be half changed then: pass a copy.
pub(crate) fn ensure(
    node: &mut Node,
    network: &NetworkSpec,
    conf: &BridgeNetwork,
    new: Option<(u32, PortId)>,
    seed: u64,
) -> Result<(), BridgeError> {
    if let Some((index, port)) = new {
        let mut iface = device(&node.name, &conf.bridge, index, port, seed);
        iface.mtu = conf.mtu.unwrap_or(DEFAULT_MTU).into();
        iface.sysctls.promisc = conf.promisc;
        iface.link_local = network.ipv6_link_local.then(|| link_local(iface.mac));
        node.ifaces.push(iface);
    }
    let net = Ipv4Net::new(gateway(conf), conf.subnet.prefix_len())
        .unwrap_or_else(|_| host_net(gateway(conf)));
    let others: Vec<Ipv4Net> = match node.ifaces.iter().find(|it| it.name == conf.bridge) {
        Some(iface) if iface.kind == IfaceKind::Bridge => {
            iface.addrs.iter().map(|addr| addr.net).collect()
        }
        _ => return Err(BridgeError::NotABridge(conf.bridge.clone())),
    };
    if !conf.is_gateway || others.contains(&net) {
        return Ok(());
    }
    if !others.is_empty() && !conf.force_address {
        return Err(BridgeError::OtherAddress {
            bridge: conf.bridge.clone(),
            wanted: net,
        });
    }
    for other in others {
        ip_change::remove_address(node, &conf.bridge, other);
    }
    if let Some(iface) = node.ifaces.iter_mut().find(|it| it.name == conf.bridge) {
        iface.addrs.push(IfAddr {
            net,
            // The netlink library sets it where it can (BR-23).
            broadcast: (net.prefix_len() < 31).then(|| net.broadcast()),
            scope: Scope::Global,
            lease_secs: None,
            manual: false,
        });
        let connected = connected_routes(iface);
        node.routes.extend(connected);
    }
    Ok(())
}

/// Adds the port to `node`, whose bridge is there, and returns the pod's side (BR-18).
pub(crate) fn add(
    node: &mut Node,
    network: &NetworkSpec,
    conf: &BridgeNetwork,
    add: &Add<'_>,
) -> PodLink {
    let draw_key = format!("{}/{}#{}", node.name, add.key, add.port.0);
    let host_ifname = fresh_name(node, add.seed, &draw_key);
    let mac = add
        .pod
        .mac
        .unwrap_or_else(|| naming::mac(add.seed, "pod", &draw_key));
    let host_mac = naming::mac(add.seed, "veth", &draw_key);
    let mtu = conf.mtu.unwrap_or(DEFAULT_MTU);
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
        qlen: None,
        up: true,
        carrier: true,
        addrs: Vec::new(),
        link_local: network.ipv6_link_local.then(|| link_local(host_mac)),
        master: Some(conf.bridge.clone()),
        port: Some(add.port),
        sysctls: Sysctls {
            hairpin: conf.hairpin,
            ..Sysctls::default()
        },
    });
    follow_ports(node);
    let addr = Ipv4Net::new(add.ip, add.subnet.prefix_len()).unwrap_or_else(|_| host_net(add.ip));
    let mut routes: Vec<PodRoute> = conf
        .routes
        .iter()
        .map(|&(dst, via)| pod_route(dst, via.unwrap_or(add.gateway)))
        .collect();
    let default = Ipv4Net::default();
    if conf.is_default_gateway && routes.iter().all(|route| route.dst != default) {
        routes.push(pod_route(default, add.gateway));
    }
    PodLink {
        ifname: "eth0".into(),
        ifindex: network.pod_ifindex,
        mac,
        mtu,
        addr,
        broadcast: (addr.prefix_len() < 31).then(|| addr.broadcast()),
        gateway: add.gateway,
        host_ifname,
        host_ifindex: add.ifindex,
        host_mac,
        port: add.port,
        routes,
        ipv6_link_local: network.ipv6_link_local,
        bridge: Some(PodBridge {
            name: conf.bridge.clone(),
            gateway_mac: conf
                .is_gateway
                .then(|| mac_of(node, &conf.bridge))
                .flatten(),
        }),
        by_hand: false,
    }
}

fn mac_of(node: &Node, name: &str) -> Option<Mac> {
    let iface = node.ifaces.iter().find(|iface| iface.name == name)?;
    Some(iface.mac)
}

const fn pod_route(dst: Ipv4Net, via: Ipv4Addr) -> PodRoute {
    PodRoute {
        dst,
        via: Some(via),
        src: None,
        scope: Scope::Global,
    }
}

/// A bridge has carrier while one of its ports is up and has it (BR-24).
pub(crate) fn follow_ports(node: &mut Node) {
    let alive: Vec<String> = node
        .ifaces
        .iter()
        .filter(|iface| iface.up && iface.carrier)
        .filter_map(|iface| iface.master.clone())
        .collect();
    for iface in &mut node.ifaces {
        if iface.kind == IfaceKind::Bridge {
            iface.carrier = iface.up && alive.contains(&iface.name);
        }
    }
}

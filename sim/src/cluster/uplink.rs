//! A node's port on an interface of the host.
//!
//! Decides how it looks among the node's interfaces: an Ethernet interface of its own address, behind those that every node has;
//! with a gateway the default route leads there and no longer to the lab's. What pods send there is masqueraded by the rules
//! that the preset has anyway.

use ipnet::Ipv4Net;
use router_core::{Mac, PortId};

use super::Cluster;
use super::naming;
use super::node::{connected_routes, hop};
use crate::model::{
    IfAddr, Iface, IfaceKind, Node, Proto, RouteEntry, RouteKind, RouteOwner, Scope, Sysctls,
};
use crate::spec::UplinkSpec;

/// The node's MAC on its uplink.
#[must_use]
pub fn mac(uplink: &UplinkSpec, seed: u64, node: &str) -> Mac {
    uplink
        .mac
        .unwrap_or_else(|| naming::mac(seed, "uplink", node))
}

/// Gives a node its uplink. Returns the next index and port.
pub(super) fn declare(
    node: &mut Node,
    uplink: &UplinkSpec,
    seed: u64,
    (ifindex, port): (u32, u16),
) -> Option<(u32, u16)> {
    let net = uplink.address;
    let iface = Iface {
        index: ifindex,
        name: uplink.name.clone(),
        kind: IfaceKind::Ethernet,
        mac: mac(uplink, seed, &node.name),
        mtu: uplink.mtu.into(),
        qdisc: "pfifo_fast".into(),
        qlen: Some(1000),
        up: true,
        carrier: true,
        addrs: vec![IfAddr {
            net,
            broadcast: (net.prefix_len() < 31).then(|| net.broadcast()),
            scope: Scope::Global,
            lease_secs: None,
            manual: false,
        }],
        link_local: None,
        master: None,
        port: Some(PortId(port)),
        sysctls: Sysctls::default(),
    };
    node.routes.extend(connected_routes(&iface));
    if let Some(gateway) = uplink.gateway {
        let default = Ipv4Net::default();
        node.routes.retain(|route| route.dst != default);
        node.routes.push(RouteEntry {
            dst: default,
            kind: RouteKind::Unicast,
            hops: vec![hop(&uplink.name, Some(gateway))],
            proto: Proto::Static,
            scope: Scope::Global,
            src: None,
            metric: 0,
            owner: RouteOwner::Base,
        });
    }
    node.ifaces.push(iface);
    Some((ifindex + 1, port.checked_add(1)?))
}

impl Cluster {
    /// A node's uplink and its port.
    #[must_use]
    pub fn uplink(&self, node: &str) -> Option<(PortId, &UplinkSpec)> {
        let state = self.state.nodes.get(node)?;
        let uplink = state.spec.uplink.as_ref()?;
        let mut ifaces = state.node.ifaces.iter();
        let iface = ifaces.find(|iface| iface.name == uplink.name)?;
        Some((iface.port?, uplink))
    }
}

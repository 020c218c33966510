//! What kindnetd does on a node every ten seconds: one route per peer (dataplane 5.3).
//!
//! Decides which peer routes a node has. Repairs missing and wrong ones (KND-2, KND-10), takes away those that it set for
//! nodes or podCIDRs that are gone unless the lab wants upstream's behaviour (KND-3, KND-4, D8), and never touches what
//! somebody else added. Where no connected route leads to a peer, nothing is set and the peer is tried again at the next
//! tick (KND-13); upstream gives up after five tries (KND-6), here there is nothing that a restart would change.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::node::hop;
use crate::model::{Node, Proto, RouteEntry, RouteKind, RouteOwner, Scope};

/// A node as its peers' kindnetd sees it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) internal_ip: Ipv4Addr,
    pub(crate) pod_cidr: Option<Ipv4Net>,
}

/// Brings the peer routes of `node` into order. True when one was added or removed.
pub(crate) fn reconcile(node: &mut Node, peers: &[Peer], keep_stale: bool) -> bool {
    let mut changed = false;
    for peer in peers.iter().filter(|peer| peer.name != node.name) {
        let Some(cidr) = peer.pod_cidr else { continue };
        let right = |route: &RouteEntry| {
            route.kind == RouteKind::Unicast
                && route.hops.len() == 1
                && route
                    .hops
                    .iter()
                    .all(|hop| hop.via == Some(peer.internal_ip))
        };
        let before = node.routes.len();
        node.routes
            .retain(|route| route.dst != cidr || right(route));
        changed |= node.routes.len() != before;
        if node.routes.iter().any(|route| route.dst == cidr) {
            continue;
        }
        let Some(dev) = device_towards(node, peer.internal_ip) else {
            continue;
        };
        node.routes.push(RouteEntry {
            dst: cidr,
            kind: RouteKind::Unicast,
            hops: vec![hop(&dev, Some(peer.internal_ip))],
            proto: Proto::Boot,
            scope: Scope::Global,
            src: None,
            metric: 0,
            owner: RouteOwner::Kindnetd,
        });
        changed = true;
    }
    if !keep_stale {
        let before = node.routes.len();
        node.routes.retain(|route| {
            route.owner != RouteOwner::Kindnetd
                || peers
                    .iter()
                    .any(|peer| peer.name != node.name && peer.pod_cidr == Some(route.dst))
        });
        changed |= node.routes.len() != before;
    }
    changed
}

/// The interface of the longest connected route to `addr`: what the kernel accepts a gateway on (FWD-56).
fn device_towards(node: &Node, addr: Ipv4Addr) -> Option<String> {
    node.routes
        .iter()
        .filter(|route| route.kind == RouteKind::Unicast && route.dst.contains(&addr))
        .filter(|route| route.scope == Scope::Link)
        .filter_map(|route| {
            route
                .hops
                .iter()
                .find(|hop| hop.via.is_none())
                .map(|hop| (route, hop))
        })
        .max_by_key(|(route, _)| route.dst.prefix_len())
        .map(|(_, hop)| hop.dev.clone())
}

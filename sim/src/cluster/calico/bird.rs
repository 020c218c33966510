//! Calico's BIRD: who announces which prefix to whom, and which routes follow (CAL-25..27, CAL-30, CAL-31).
//!
//! Decides the routes `proto bird` of every node out of what all nodes announce. Every node speaks with every other (a full mesh of
//! iBGP, AS 64512); a node announces its confirmed blocks and those of its addresses that lie in none of them; next hop is the
//! announcing node. A session is lost when the other's process is gone, and what it announced is withdrawn after the hold time;
//! a process that comes back before finds everything as it was (graceful restart). A route that somebody else has set stays, and
//! BIRD's is left out as long (EEXIST). Two nodes that announce the same give a route with two next hops (`merge paths`). Doesn't
//! decide which blocks there are. Pure; time is passed in. Sources: Calico's bird_aggr and bird_ipam templates, RFC 4271.
//! Cost: a tick looks at each pair of nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::cluster::node::hop;
use crate::ipam::calico::{Affinity, AffinityState};
use crate::model::{Hop, IfaceKind, Node, Proto, RouteEntry, RouteKind, RouteOwner, Scope};
use crate::spec::IpipMode;

/// BIRD's hold time: how long a session outlives the last sign of life.
pub(crate) const HOLD_MS: u64 = 240_000;

/// The AS of all nodes, as Calico comes.
pub(crate) const AS_NUMBER: u32 = 64_512;

/// The sessions of the mesh, by the node at the other end: since when it has given no sign of life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mesh {
    silent_since: BTreeMap<String, u64>,
}

impl Mesh {
    /// A node's process is gone. Being told again changes nothing.
    pub(crate) fn lost(&mut self, node: &str, now_ms: u64) {
        self.silent_since.entry(node.to_owned()).or_insert(now_ms);
    }

    /// A node's process is there again.
    pub(crate) fn found(&mut self, node: &str) {
        self.silent_since.remove(node);
    }

    /// Whether what a node announced holds.
    pub(crate) fn holds(&self, node: &str, now_ms: u64) -> bool {
        let silent = self.silent_since.get(node);
        silent.is_none_or(|since| now_ms.saturating_sub(*since) < HOLD_MS)
    }
}

/// A node with what its BIRD announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Speaker {
    /// Name.
    pub(crate) name: String,
    /// Next hop of what it announces.
    pub(crate) addr: Ipv4Addr,
    /// Its confirmed blocks.
    pub(crate) blocks: BTreeSet<Ipv4Net>,
    /// What it announces besides: single addresses in others' blocks.
    pub(crate) borrowed: BTreeSet<Ipv4Net>,
}

impl Speaker {
    /// `node` as its BIRD sees it: pods' routes and tunl0's address are announced when they lie in the pool and in no block of
    /// the node's own; nothing inside an own block is.
    pub(crate) fn new<'a>(
        node: &Node,
        pool: Ipv4Net,
        affinities: impl Iterator<Item = &'a Affinity>,
    ) -> Self {
        let blocks: BTreeSet<Ipv4Net> = affinities
            .filter(|it| it.host == node.name && it.state == AffinityState::Confirmed)
            .map(|it| it.cidr)
            .collect();
        let pods = node
            .routes
            .iter()
            .filter(|route| matches!(route.owner, RouteOwner::Cni { .. }))
            .map(|route| route.dst);
        let tunnel = node
            .ifaces
            .iter()
            .filter(|iface| iface.kind == IfaceKind::Ipip)
            .flat_map(|iface| iface.addrs.iter().map(|addr| addr.net));
        let borrowed = pods
            .chain(tunnel)
            .filter(|net| pool.contains(net))
            .filter(|net| !blocks.iter().any(|block| block.contains(net)))
            .collect();
        Self {
            name: node.name.clone(),
            addr: node.internal_ip,
            blocks,
            borrowed,
        }
    }

    fn announces(&self) -> impl Iterator<Item = Ipv4Net> + '_ {
        self.blocks.iter().chain(&self.borrowed).copied()
    }
}

/// Brings the routes `proto bird` of `node` into order. `speakers` are those whose announcements hold, `node` itself among them
/// or not. True when a route was added or removed.
pub(crate) fn reconcile(node: &mut Node, speakers: &[Speaker], mode: IpipMode) -> bool {
    let wanted = wanted(node, speakers, mode);
    let before = node.routes.len();
    node.routes
        .retain(|route| route.owner != RouteOwner::Bird || wanted.contains(route));
    let mut changed = node.routes.len() != before;
    for route in wanted {
        // The kernel refuses a second route with the same destination and priority (EEXIST); one of our own is there already.
        let taken = node
            .routes
            .iter()
            .any(|it| it.dst == route.dst && it.metric == route.metric);
        if !taken {
            node.routes.push(route);
            changed = true;
        }
    }
    changed
}

fn wanted(node: &Node, speakers: &[Speaker], mode: IpipMode) -> Vec<RouteEntry> {
    let mut routes: BTreeMap<Ipv4Net, RouteEntry> = BTreeMap::new();
    let entry = |dst, kind, hops| RouteEntry {
        dst,
        kind,
        hops,
        proto: Proto::Bird,
        scope: Scope::Global,
        src: None,
        metric: 0,
        owner: RouteOwner::Bird,
    };
    // Its own blocks are static routes of BIRD, which it prefers to what it hears.
    for speaker in speakers.iter().filter(|speaker| speaker.name == node.name) {
        for block in &speaker.blocks {
            routes.insert(*block, entry(*block, RouteKind::Blackhole, Vec::new()));
        }
    }
    for speaker in speakers.iter().filter(|speaker| speaker.name != node.name) {
        let Some(hop) = hop_to(node, speaker.addr, mode) else {
            continue;
        };
        for dst in speaker.announces() {
            let route = routes
                .entry(dst)
                .or_insert_with(|| entry(dst, RouteKind::Unicast, Vec::new()));
            if route.kind == RouteKind::Unicast {
                route.hops.push(hop.clone());
            }
        }
    }
    // What the node has itself is nearer than what others announce.
    let own: BTreeSet<Ipv4Net> = speakers
        .iter()
        .filter(|speaker| speaker.name == node.name)
        .flat_map(|speaker| speaker.borrowed.iter().copied())
        .collect();
    routes
        .into_values()
        .filter(|route| !own.contains(&route.dst))
        .collect()
}

/// The next hop `addr`: through the tunnel, or, where the mode allows it, by the subnet that both are in. None while the device
/// that it needs is absent or down.
fn hop_to(node: &Node, addr: Ipv4Addr, mode: IpipMode) -> Option<Hop> {
    let up = |kind: IfaceKind| {
        node.ifaces
            .iter()
            .find(move |iface| iface.kind == kind && iface.up)
    };
    let direct =
        up(IfaceKind::Ethernet).filter(|eth0| eth0.addrs.iter().any(|own| own.net.contains(&addr)));
    let plain = match mode {
        IpipMode::Always => false,
        IpipMode::CrossSubnet => direct.is_some(),
        IpipMode::Never => true,
    };
    if plain {
        return direct.map(|eth0| hop(&eth0.name, Some(addr)));
    }
    let tunnel = up(IfaceKind::Ipip)?;
    Some(Hop {
        onlink: true,
        ..hop(&tunnel.name, Some(addr))
    })
}

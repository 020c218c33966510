//! What the control plane tells a router: an immutable [`Snapshot`].
//!
//! Decides nothing. The control plane builds a new snapshot for every change and the router replaces the old one
//! between two batches ([`Router::apply`](crate::router::Router::apply)); neighbours, counters and held frames of
//! ports that stay survive it. Everything is numbers and addresses, nothing has to be guessed by the router (law 8).

pub mod nat;
mod shape;

use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::addr::Mac;
use crate::policy::PolicyConfig;
pub use nat::NatConfig;
pub use shape::{Rate, Shape};

/// A port of one router: the router's name for one attachment (a pod link, the underlay, the host side).
///
/// The control plane never gives the number of a deleted port to a different one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct PortId(pub u16);

/// The whole configuration of one router at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Snapshot {
    /// Rises with every change; stored flow actions of an older epoch are void.
    pub epoch: u32,
    /// `net.ipv4.ip_forward`: off means local delivery only (FWD-95).
    pub forwarding: bool,
    /// Collects the fragments of a datagram before anything is decided about it (Linux `nf_defrag_ipv4`). It
    /// does in any case where connections are tracked (NAT-FRAG).
    #[cfg_attr(feature = "serde", serde(default))]
    pub defragment: bool,
    /// Tunnel ends whose packets the node takes out of their tunnel: those of the cluster's nodes under Calico (IPIP-22).
    /// None takes them from anybody, as a plain tunl0 does.
    #[cfg_attr(feature = "serde", serde(default))]
    pub tunnel_sources: Option<Vec<Ipv4Addr>>,
    /// Every attachment, in any order, ids unique.
    pub ports: Vec<PortConfig>,
    /// The node's own addresses. One address may stand on several ports (FWD-42); order is preference.
    pub addresses: Vec<LocalAddress>,
    /// The main table. Ties of prefix go to the lowest metric, then to the first (FWD-40).
    pub routes: Vec<Route>,
    /// PERMANENT neighbour entries.
    pub neighbours: Vec<PermanentNeighbour>,
    /// The nat table and connection tracking; empty, and the node pays nothing for them.
    #[cfg_attr(feature = "serde", serde(default))]
    pub nat: NatConfig,
    /// NetworkPolicies that concern the node's pods.
    #[cfg_attr(feature = "serde", serde(default))]
    pub policy: PolicyConfig,
}

/// One port.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PortConfig {
    /// Its number in this router.
    pub id: PortId,
    /// Interface name as the node's `ip link` shows it: for traces and statistics only.
    pub name: String,
    /// What is at the other end.
    pub kind: PortKind,
    /// The router's own MAC on this port.
    pub mac: Mac,
    /// Largest IPv4 total length that may leave here, bytes, Ethernet header not counted (68..=65535).
    pub mtu: u16,
    /// Administratively up.
    pub up: bool,
    /// Carrier present: without it the addresses stay local, but nothing can be sent (docker0 with no ports).
    pub carrier: bool,
    /// False on NOARP devices: next hops are never resolved (NEI-8).
    pub arp: bool,
    /// `proxy_arp` of the interface (PARP-1).
    pub proxy_arp: bool,
    /// With `proxy_arp`: answers for addresses without any route as well, so that a Calico pod finds 169.254.1.1 on a node
    /// without default route (PARP-2; Linux does not).
    #[cfg_attr(feature = "serde", serde(default))]
    pub proxy_arp_unrouted: bool,
    /// `arp_notify` of the interface: addresses that it gains are announced (GARP-6).
    #[cfg_attr(feature = "serde", serde(default))]
    pub arp_notify: bool,
    /// `rp_filter` of the interface (FWD-26).
    pub rp_filter: RpFilter,
    /// `route_localnet` of the interface (FWD-22).
    pub route_localnet: bool,
    /// The one station behind a point-to-point pod link, if it is known (GARP-3): ARP that claims another IPv4 address
    /// on this port is dropped.
    pub peer: Option<PinnedPeer>,
    /// Drops IPIP that comes in here: pods may not make tunnels of their own under Calico (IPIP-24).
    #[cfg_attr(feature = "serde", serde(default))]
    pub deny_ipip: bool,
    /// The bridge that it is a port of: its frames go to the bridge stage and to no other.
    pub bridge: Option<BridgePort>,
    /// Bandwidth limits.
    #[cfg_attr(feature = "serde", serde(default))]
    pub shape: Shape,
}

impl PortConfig {
    /// An Ethernet port that is up, with Linux's defaults: ARP on, no proxy ARP, rp_filter off.
    #[must_use]
    pub fn ethernet(id: u16, name: &str, mac: Mac, mtu: u16) -> Self {
        Self {
            id: PortId(id),
            name: name.into(),
            kind: PortKind::Ethernet,
            mac,
            mtu,
            up: true,
            carrier: true,
            arp: true,
            proxy_arp: false,
            proxy_arp_unrouted: false,
            arp_notify: false,
            rp_filter: RpFilter::Off,
            route_localnet: false,
            peer: None,
            deny_ipip: false,
            bridge: None,
            shape: Shape::default(),
        }
    }

    /// A tunnel device as Calico sets up tunl0: no ARP, TTL inherited, ECN as Linux.
    #[must_use]
    pub fn ipip(id: u16, name: &str, mtu: u16) -> Self {
        Self {
            kind: PortKind::Ipip(Ipip::default()),
            arp: false,
            ..Self::ethernet(id, name, Mac::ZERO, mtu)
        }
    }
}

/// What is at the other end of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum PortKind {
    /// An Ethernet link: destination MACs are checked, next hops are resolved by ARP.
    Ethernet,
    /// The node's own host namespace (decision 5). What arrives here was sent by the node itself: OUTPUT, no TTL
    /// decrement, every ARP request except for the host's own addresses is answered with the port's MAC. What is
    /// delivered locally and not answered by the router (everything but ICMP echo) leaves here, to `peer_mac`.
    /// A router has at most one such port; without it the router answers as FWD-50 says.
    Host {
        /// MAC of eth0 inside the host namespace.
        peer_mac: Mac,
    },
    /// A bridge's own interface (cni-podman0). Its ports are those whose [`PortConfig::bridge`] names it; what they send to
    /// its MAC, to a group or to everybody arrives here, and what leaves here goes to the ports that the forwarding database
    /// names. The MAC is the control plane's choice and stays when ports come and go (BR-13); `carrier` is set when one of
    /// its ports has it (BR-24).
    Bridge,
    /// The wildcard IPIP device, tunl0 (RFC 2003): any local end, any remote end, one for each node. What leaves here is put
    /// into an outer packet to the next hop of its route, or to its destination if the route has none (IPIP-1); what was
    /// taken out of an outer packet to one of the node's addresses arrives here. `mac`, `proxy_arp` and `peer` mean nothing.
    Ipip(Ipip),
    /// An interface that exists but has nothing at its other end: never receives, drops what it is given.
    Dummy,
}

/// How a tunnel device makes its outer headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Ipip {
    /// TTL of outer packets; none inherits that of the inner packet, as Linux does by default (IPIP-4, IPIP-5).
    pub outer_ttl: Option<u8>,
    /// What becomes of congestion marks.
    pub ecn: TunnelEcn,
}

/// Congestion marks at the ends of a tunnel (section 3.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum TunnelEcn {
    /// As Linux: CE goes into the tunnel as ECT(0), and ECT(1) of the outer header is not taken over (ECN-2, ECN-4).
    #[default]
    Linux,
    /// RFC 6040 normal mode: CE goes in as CE, and ECT(1) over ECT(0) comes out as ECT(1).
    Rfc6040,
}

/// What makes a port a port of a bridge (`ip link set DEV master BRIDGE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BridgePort {
    /// The bridge's own interface, a port of kind [`PortKind::Bridge`].
    pub bridge: PortId,
    /// `hairpin`: frames may leave by the port they came by (BR-4).
    pub hairpin: bool,
}

/// Source validation of an interface (RFC 3704, Linux `rp_filter`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum RpFilter {
    /// 0: none.
    #[default]
    Off,
    /// 1: the best route to the source must leave by the ingress port.
    Strict,
    /// 2: some unicast route to the source must exist.
    Loose,
}

/// The station that a point-to-point link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PinnedPeer {
    /// The pod's address.
    pub ip: Ipv4Addr,
    /// The pod's MAC as CNI ADD returned it.
    pub mac: Mac,
}

/// An address of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LocalAddress {
    /// The address.
    pub addr: Ipv4Addr,
    /// Length of its prefix, 0..=32.
    pub prefix_len: u8,
    /// The directed broadcast, where there is one different from `addr` (FWD-43, BR-20).
    pub broadcast: Option<Ipv4Addr>,
    /// The port it stands on.
    pub port: PortId,
}

/// One line of the main routing table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Route {
    /// Destination, host bits zero.
    pub dst: Ipv4Net,
    /// Linux priority: the lowest wins among equal prefixes.
    pub metric: u32,
    /// Preferred source for packets the node originates.
    pub src: Option<Ipv4Addr>,
    /// What happens to packets.
    pub target: RouteTarget,
}

/// What a route does with packets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum RouteTarget {
    /// Forward by one of these next hops (one, unless the route is multipath). Never empty.
    Unicast(Vec<NextHop>),
    /// Silent drop (RT-1).
    Blackhole,
    /// Drop with ICMP 3/1 (RT-2).
    Unreachable,
    /// Drop with ICMP 3/13 (RT-2).
    Prohibit,
    /// As if this table had no such route (RT-2).
    Throw,
}

/// Where a unicast route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NextHop {
    /// Egress port.
    pub port: PortId,
    /// Gateway on that port; none means that the destination itself is on the link.
    pub via: Option<Ipv4Addr>,
    /// Share of flows, 1 unless multipath.
    pub weight: u8,
}

/// A neighbour that never has to be resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PermanentNeighbour {
    /// Port it is on.
    pub port: PortId,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its MAC.
    pub mac: Mac,
}

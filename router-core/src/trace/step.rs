//! The kinds of decision that stages report.

use core::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::Summary;
use crate::addr::Mac;
use crate::config::{PortId, RpFilter};
use crate::neigh::NeighbourState;
use crate::policy::{Direction, Judgement};
use crate::stats::{DropReason, Event, RouteKind};

/// One decision of one stage about one frame. In serialised form the variant's name stands under `step`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(tag = "step", rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Step {
    /// A frame came in by a port.
    Rx {
        /// Ingress port.
        port: PortId,
        /// Bytes, Ethernet header included.
        len: usize,
        /// Source MAC.
        src: Mac,
        /// Destination MAC.
        dst: Mac,
    },
    /// The frame that came in or left before this step stands for several.
    Superframe {
        /// Frames that a wire would carry for it.
        segments: usize,
        /// Payload bytes of each of them but the last.
        size: usize,
    },
    /// A superframe was cut into the frames that it stands for, each of which goes on by itself.
    Segmented {
        /// Their number.
        segments: usize,
    },
    /// One of those frames.
    Segment {
        /// Bytes, Ethernet header included.
        len: usize,
    },
    /// The frame is for this router: by its MAC, or by a group address.
    Accepted {
        /// Ingress port.
        port: PortId,
        /// The destination MAC is a group.
        group: bool,
        /// The node itself sent it (OUTPUT).
        from_host: bool,
    },
    /// The IPv4 header is sound.
    Header {
        /// What it says.
        packet: Summary,
    },
    /// Options were looked at and let pass.
    Options {
        /// Their bytes.
        len: usize,
    },
    /// The source is believable on this port.
    Source {
        /// Source address.
        src: Ipv4Addr,
        /// How strictly the way back was checked.
        rp_filter: RpFilter,
    },
    /// What the tables say about the destination.
    Route {
        /// Destination that was looked up.
        dst: Ipv4Addr,
        /// Kind of the route.
        kind: RouteKind,
        /// Its prefix; none without a route.
        prefix: Option<Ipv4Net>,
        /// Gateway, if it is not on the link itself.
        via: Option<Ipv4Addr>,
        /// Egress port.
        port: Option<PortId>,
        /// Metric of the route in the main table.
        metric: Option<u32>,
        /// Preferred source of the route.
        src: Option<Ipv4Addr>,
    },
    /// It is for the node, and this is who takes it.
    Local {
        /// Who.
        by: Answered,
    },
    /// The time to live, before and after; equal for what the node itself sends.
    Ttl {
        /// As it came.
        before: u8,
        /// As it goes on.
        after: u8,
    },
    /// The length against the egress port's MTU.
    Mtu {
        /// Egress port.
        port: PortId,
        /// Its MTU, bytes of IPv4 packet.
        mtu: u16,
        /// Total length of the packet, bytes; of a superframe that of a segment.
        len: u16,
        /// The result.
        fit: Fit,
    },
    /// What the packet is to the node's connections, on a node that tracks them.
    Tracked {
        /// Its state.
        state: Tracked,
    },
    /// A rule of the nat table decided about the connection that the packet begins.
    NatRule {
        /// Place of the rule's chain in the configuration.
        chain: u32,
        /// Number of the rule in it, from 0.
        rule: u32,
    },
    /// Addresses, ports or an identifier were translated; of an ICMP error also what it quotes.
    Translated {
        /// The packet after that.
        packet: Summary,
    },
    /// NetworkPolicy of a pod at one end.
    Policy {
        /// `ingress`: of the pod that it is for, `egress`: of the pod that it is from.
        direction: Direction,
        /// What was decided, and by which policy.
        judgement: Judgement,
    },
    /// The packet was cut into pieces, each of which goes on by itself.
    Fragmented {
        /// Their number.
        pieces: usize,
    },
    /// One of those pieces.
    Piece {
        /// What it says.
        packet: Summary,
    },
    /// A fragment waits for the others of its datagram.
    Collected,
    /// All fragments of the datagram are there; this one, the first, goes on for all.
    Reassembled {
        /// Their number.
        pieces: usize,
    },
    /// A fragment ended here: the first one of its datagram goes on for it.
    Merged,
    /// A packet was put into another.
    Encap {
        /// Tunnel port.
        port: PortId,
        /// Source of the outer packet.
        src: Ipv4Addr,
        /// Destination of the outer packet.
        dst: Ipv4Addr,
        /// TTL of the outer packet.
        ttl: u8,
        /// DF of the outer packet.
        df: bool,
        /// Total length of the outer packet, bytes.
        len: usize,
    },
    /// A packet was taken out of another.
    Decap {
        /// Tunnel port that it belongs to from here on.
        port: PortId,
        /// Source of the outer packet.
        src: Ipv4Addr,
        /// Destination of the outer packet.
        dst: Ipv4Addr,
    },
    /// A bridge sends the frame to one of its ports.
    Bridged {
        /// The bridge.
        bridge: PortId,
        /// The member it leaves by.
        port: PortId,
        /// Destination MAC.
        dst: Mac,
    },
    /// A bridge hands the frame to its own interface, which takes it as if it had come by a port.
    BridgedUp {
        /// The bridge.
        bridge: PortId,
        /// Destination MAC.
        dst: Mac,
    },
    /// A bridge sends the frame to all of its ports but the one it came by.
    Flooded {
        /// The bridge.
        bridge: PortId,
        /// Destination MAC.
        dst: Mac,
    },
    /// A copy of a flooded frame, which goes on by itself.
    Copied {
        /// Bytes, Ethernet header included.
        len: usize,
    },
    /// The frame waits until the port's bandwidth limit lets it pass.
    Queued {
        /// Port that has the limit.
        port: PortId,
    },
    /// The next hop's MAC is known.
    Neighbour {
        /// Port it is on.
        port: PortId,
        /// Its address.
        ip: Ipv4Addr,
        /// Its MAC.
        mac: Mac,
        /// State of its entry; none where the MAC is part of the configuration.
        state: Option<NeighbourState>,
    },
    /// The packet waits until the next hop's MAC is known.
    Held {
        /// Port of the next hop.
        port: PortId,
        /// Its address.
        ip: Ipv4Addr,
    },
    /// An ARP request was sent for which this packet, the youngest that waits, is the reason.
    Asked {
        /// Port of the next hop.
        port: PortId,
        /// Its address.
        ip: Ipv4Addr,
        /// The station that had it last, when only that one was asked.
        to: Option<Mac>,
    },
    /// It waited long enough: the next hop has answered.
    Released {
        /// Port of the next hop.
        port: PortId,
        /// Its address.
        ip: Ipv4Addr,
    },
    /// The router speaks itself: the packet it made.
    Made {
        /// On what occasion.
        event: Event,
        /// What it says.
        packet: Summary,
    },
    /// The router wanted to speak, but the pool had no frame left.
    NotMade {
        /// On what occasion.
        event: Event,
    },
    /// An ICMP error about the packet is not sent.
    Withheld {
        /// ICMP type.
        kind: u8,
        /// ICMP code.
        code: u8,
        /// Why not.
        why: Withheld,
    },
    /// The frame left by a port.
    Tx {
        /// Egress port.
        port: PortId,
        /// Bytes, Ethernet header included.
        len: usize,
        /// Source MAC.
        src: Mac,
        /// Destination MAC.
        dst: Mac,
    },
    /// Its connection is another worker's of the node, where the frame goes on.
    Handed {
        /// Number of the worker.
        worker: u8,
    },
    /// The frame ended here because it was for the router.
    Consumed,
    /// The frame ended here.
    Dropped {
        /// Why.
        reason: DropReason,
    },
}

/// Who takes a packet for the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Answered {
    /// The router answers an echo request.
    Echo,
    /// The router answers a timestamp request.
    Timestamp,
    /// The router refuses a TCP segment.
    Reset,
    /// The node's host namespace.
    Host,
}

/// What a packet is to the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Tracked {
    /// Nobody looked.
    Untracked,
    /// It belongs to none and begins none.
    Invalid,
    /// It begins one.
    New,
    /// It belongs to one that was not answered yet.
    Unreplied,
    /// It belongs to one that was answered, or is the answer.
    Established {
        /// It travels in the direction of the answers.
        reply: bool,
    },
    /// It is an ICMP error about one.
    Related,
}

/// Whether a packet fits a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Fit {
    /// It does.
    Fits,
    /// It does not, and is going to be cut.
    Fragment,
    /// It does not, and must not be cut.
    TooBig,
}

/// Why an ICMP error is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Withheld {
    /// RFC 1812 4.3.2.7 forbids errors about such packets.
    Forbidden,
    /// A rate limit.
    Limited,
}

impl Step {
    /// True when no more happens to the frame after this step, here. In place of what was cut its pieces go on.
    #[must_use]
    pub const fn is_end(&self) -> bool {
        matches!(
            self,
            Self::Tx { .. }
                | Self::Consumed
                | Self::Merged
                | Self::Dropped { .. }
                | Self::Fragmented { .. }
        )
    }

    /// True when a frame begins with this step, here.
    #[must_use]
    pub const fn is_start(&self) -> bool {
        matches!(
            self,
            Self::Rx { .. } | Self::Made { .. } | Self::Piece { .. } | Self::Copied { .. }
        )
    }
}

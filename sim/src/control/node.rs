//! The protocol between the daemon and a node process, on a socket pair made at the start of the process.
//!
//! Frames as in [`codec`](super::codec). The daemon numbers its requests; the node process answers each exactly once, in the
//! order of arrival, so that the daemon may send many before it waits. A request that can't be carried out changes
//! nothing and is answered with [`NodeReply::Failed`]. The node process ends when the socket closes.
//!
//! Where a request has descriptors, a process with several workers gets as many for each of them, one worker's behind the
//! other's.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use router_core::stats::Stats;
use router_core::trace::Record;
use router_core::{ChainCounts, Filter, Mac, PortId, Session, Snapshot, Tracking};
use serde::{Deserialize, Serialize};

use super::capture::{CaptureCounts, CaptureOrder};
use crate::impair::{ImpairCounts, LinkImpair};

/// A numbered message in either direction: the reply carries the number of its request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Numbered<T> {
    /// Chosen by the daemon, each once.
    pub id: u64,
    /// What is said.
    pub body: T,
}

/// What the daemon asks of a node process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum NodeRequest {
    /// Replaces the router's configuration. Answer: [`NodeReply::Done`].
    Configure {
        /// The new one.
        snapshot: Box<Snapshot>,
    },
    /// Attaches something to a port of the router. One descriptor comes with [`Attachment::Tap`],
    /// [`Attachment::Packet`] and [`Attachment::Fabric`], none with the others. Answer: [`NodeReply::Done`].
    AddPort {
        /// The port's number in the snapshot (which may come before or after).
        id: PortId,
        /// Interface name, for messages.
        name: String,
        /// MTU in bytes.
        mtu: u16,
        /// What it is.
        attachment: Attachment,
    },
    /// Detaches it and closes its descriptor. Answer: [`NodeReply::Done`].
    RemovePort {
        /// Its number.
        id: PortId,
    },
    /// The live neighbour table. Answer: [`NodeReply::Neighbours`].
    Neighbours,
    /// Forgets neighbours; PERMANENT ones stay. Answer: [`NodeReply::Done`].
    FlushNeighbours {
        /// Only on this port.
        port: Option<PortId>,
        /// Only this address.
        ip: Option<Ipv4Addr>,
    },
    /// All counters. Answer: [`NodeReply::Stats`].
    Stats,
    /// Counters of the nat table. Answer: [`NodeReply::NatCounts`].
    NatCounts,
    /// Connections that a filter holds for. Answer: [`NodeReply::Sessions`].
    Sessions {
        /// Which.
        filter: Filter,
    },
    /// Forgets connections. Answer: [`NodeReply::Flushed`].
    FlushSessions {
        /// Which.
        filter: Filter,
    },
    /// Keeps a journal of connections from now on (decision 10), in memory whose descriptor comes along; and takes those
    /// over that an earlier process left in its own, which comes as a second one. To be asked before the ports are there,
    /// and behind the configuration when there is something to take over. Answer: [`NodeReply::Restored`].
    KeepJournal {
        /// Slots of the new memory, of each worker's.
        slots: u32,
        /// Slots of the earlier process's.
        left: Option<u32>,
    },
    /// Opens a raw ICMP channel of an in-process stack. One descriptor comes along: a SOCK_SEQPACKET socket, each message
    /// on it one whole IPv4 packet (see [`IcmpChannel::StackChannel`](super::proto::IcmpChannel)). Answer:
    /// [`NodeReply::Done`].
    OpenIcmp {
        /// The port behind which the stack is: a pod's, or the host port for the node itself.
        port: PortId,
    },
    /// Records what becomes of frames of this trace, from now on. Answer: [`NodeReply::Done`].
    TraceBegin {
        /// Its number, not 0.
        trace: u8,
    },
    /// Hands a frame of a trace in as if it had come by a port. Answer: [`NodeReply::Done`].
    TraceInject {
        /// The trace.
        trace: u8,
        /// The port.
        port: PortId,
        /// The frame, from the destination MAC on.
        frame: Vec<u8>,
    },
    /// What was recorded. Answer: [`NodeReply::Trace`].
    TraceSteps {
        /// The trace.
        trace: u8,
        /// How many steps the daemon has already.
        from: usize,
    },
    /// Records it no longer. Answer: [`NodeReply::Done`], also for a trace that was not begun.
    TraceEnd {
        /// The trace.
        trace: u8,
    },
    /// Does this to the frames of a port from now on, until told otherwise. Answer: [`NodeReply::Done`].
    Impair {
        /// Which.
        port: PortId,
        /// In both directions.
        impair: LinkImpair,
    },
    /// Captures packets into a ring from now on. Two descriptors come along: the ring's memory and its reader's bell. Answer:
    /// [`NodeReply::Done`].
    CaptureBegin {
        /// Chosen by the daemon.
        capture: u32,
        /// What.
        order: CaptureOrder,
    },
    /// Captures no longer. Answer: [`NodeReply::Captured`], without counts for a capture that was not begun.
    CaptureEnd {
        /// Which.
        capture: u32,
    },
    /// End. Answer: [`NodeReply::Done`], then the end of the connection.
    Shutdown,
}

/// What is at the far end of a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Attachment {
    /// A TAP device (a pod's eth0, or the node's host side); its descriptor comes along.
    Tap,
    /// A packet socket at the other end of the same, or on an interface of the host; its descriptor comes along.
    Packet {
        /// It is given superframes and open checksums.
        offload: bool,
    },
    /// The underlay; the member's end of its socket to the hub comes along.
    Fabric {
        /// Its number on the segment; those of further workers follow.
        member: u32,
        /// Its MAC.
        mac: Mac,
    },
    /// A pod that is a network stack inside the node process.
    Pod {
        /// MAC of its eth0.
        mac: Mac,
        /// Its address.
        addr: Ipv4Addr,
        /// MAC of the router's side, which the pod has as a permanent neighbour.
        gateway_mac: Mac,
        /// Subnet that it shares its link with: that of a bridge.
        #[serde(default)]
        on_link: Option<Ipv4Net>,
    },
    /// The node's own host side as a network stack inside the node process. Its MACs, addresses and source addresses
    /// come from the snapshot.
    Host,
    /// The simulated internet as a network stack inside the gateway's process.
    Internet {
        /// MAC of its side.
        mac: Mac,
        /// MAC of the router's side.
        gateway_mac: Mac,
        /// Addresses that answer.
        addresses: Vec<Ipv4Addr>,
        /// TTL of everything that it sends.
        ttl: u8,
    },
}

impl Attachment {
    /// Number of descriptors that come with it.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        match self {
            Self::Tap | Self::Packet { .. } | Self::Fabric { .. } => 1,
            Self::Pod { .. } | Self::Host | Self::Internet { .. } => 0,
        }
    }
}

/// What a node process answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum NodeReply {
    /// It is done.
    Done,
    /// To [`NodeRequest::Neighbours`].
    Neighbours {
        /// In no particular order.
        neighbours: Vec<NodeNeighbour>,
    },
    /// To [`NodeRequest::Stats`].
    Stats {
        /// The counters.
        stats: Box<NodeStats>,
    },
    /// To [`NodeRequest::TraceSteps`].
    Trace {
        /// Steps in their order, from the one that was asked for.
        records: Vec<Record>,
        /// Steps that were not kept.
        lost: u64,
        /// What the ports are called.
        ports: Vec<TracePort>,
    },
    /// To [`NodeRequest::NatCounts`].
    NatCounts {
        /// Chain by chain in the order of the snapshot.
        chains: Vec<ChainCounts>,
    },
    /// To [`NodeRequest::Sessions`].
    Sessions {
        /// In no particular order.
        sessions: Vec<Session>,
    },
    /// To [`NodeRequest::FlushSessions`].
    Flushed {
        /// How many.
        count: usize,
    },
    /// To [`NodeRequest::KeepJournal`].
    Restored {
        /// How many connections were taken over.
        restored: u64,
        /// How many could not be.
        lost: u64,
    },
    /// To [`NodeRequest::CaptureEnd`].
    Captured {
        /// Place by place.
        counts: Vec<CaptureCounts>,
    },
    /// It could not be done; nothing was changed.
    Failed {
        /// Why.
        message: String,
    },
}

/// A port, for the reader of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracePort {
    /// Number.
    pub id: PortId,
    /// Name.
    pub name: String,
    /// It leads to the other nodes, where the trace goes on; elsewhere marks end.
    pub fabric: bool,
}

/// A neighbour as the router knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeNeighbour {
    /// Port.
    pub port: PortId,
    /// Address.
    pub ip: Ipv4Addr,
    /// MAC, where it is known.
    pub mac: Option<Mac>,
    /// NUD state in iproute2's upper case.
    pub state: String,
}

/// Counters of a node process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStats {
    /// The router's, with its drops by reason.
    pub router: Stats,
    /// Frames that wait for address resolution now.
    pub held: usize,
    /// The devices', by rising number of their port.
    pub ports: Vec<PortStats>,
    /// What the in-process stacks lost because a queue, a channel or the pool was full, or because it was malformed.
    pub stack_drops: u64,
    /// How full the table of connections is; none where none are tracked.
    #[serde(default)]
    pub tracking: Option<Tracking>,
    /// Ports whose frames something is or was done to.
    #[serde(default)]
    pub impaired: Vec<ImpairedPort>,
    /// Changes of connections are still to be written into the journal.
    #[serde(default)]
    pub journal_behind: bool,
    /// Frames that were lost on their way from one worker to another, because too many waited.
    #[serde(default)]
    pub lost_between_workers: u64,
}

/// What was done to the frames of one port, as the router sees its directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImpairedPort {
    /// Number.
    pub port: PortId,
    /// On their way to the router.
    pub rx: ImpairCounts,
    /// On their way from it.
    pub tx: ImpairCounts,
}

/// Counters of one port's device, from the router's view; bytes include the Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStats {
    /// Number.
    pub port: PortId,
    /// Frames received.
    pub rx_frames: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames the device could not take.
    pub tx_dropped: u64,
    /// Frames the device handed in broken.
    pub rx_errors: u64,
    /// Frames lost because the device's queue was full, where the device tells.
    #[serde(default)]
    pub rx_missed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every request survives JSON as it is.
    #[test]
    fn requests_round_trip() {
        let requests = [
            NodeRequest::Configure {
                snapshot: Box::default(),
            },
            NodeRequest::AddPort {
                id: PortId(3),
                name: "vethabc".into(),
                mtu: 1500,
                attachment: Attachment::Fabric {
                    member: 7,
                    mac: Mac([2, 0, 0, 0, 0, 1]),
                },
            },
            NodeRequest::FlushNeighbours {
                port: None,
                ip: Some(Ipv4Addr::LOCALHOST),
            },
            NodeRequest::Stats,
        ];
        for (id, body) in (0..).zip(requests) {
            let message = Numbered { id, body };
            let json = serde_json::to_string(&message).unwrap();
            let back: Numbered<NodeRequest> = serde_json::from_str(&json).unwrap();
            assert_eq!(back, message);
        }
    }
}

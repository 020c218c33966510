//! What client, daemon and nodes say to each other about captures.
//!
//! ```text
//!   client ── Capture { places, filter, snaplen } ──► daemon ── CaptureBegin, ring, bell ──► each node concerned
//!          ◄── CaptureBegun, bell ─────────────────
//!          ◄── CaptureRing, ring  (one per node) ──
//!            .. packets: from the nodes' rings, which the client reads itself ..
//!          ── CaptureEnd ─────────────────────────► daemon ── CaptureEnd ──► each node
//!          ◄── Captured ───────────────────────────
//! ```
//!
//! A client that goes away ends its capture. A node process that is started again goes on writing into the same ring.

use router_core::PortId;
use serde::{Deserialize, Serialize};
use tap_bridge::layer::capture;

/// Where a capture looks on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturePlace {
    /// The node; none for what is behind the nodes' default gateway.
    pub node: Option<String>,
    /// Its ports; none for all that there are and will be.
    pub ports: Option<Vec<PortId>>,
    /// Frames that the router drops as well.
    pub drops: bool,
}

/// What a node is to capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureOrder {
    /// Its ports; none for all.
    pub ports: Option<Vec<PortId>>,
    /// Dropped frames as well.
    pub drops: bool,
    /// Which packets, as pcap-filter writes it.
    pub filter: String,
    /// Bytes of each; 0 is all.
    pub snaplen: u32,
    /// Words of the ring.
    pub words: usize,
}

/// A place in a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CapturedAt {
    /// A port.
    Port(PortId),
    /// Where dropped frames end.
    Drop,
}

impl From<capture::Place> for CapturedAt {
    fn from(place: capture::Place) -> Self {
        match place {
            capture::Place::Port(id) => Self::Port(id),
            capture::Place::Drop => Self::Drop,
        }
    }
}

/// What became of the packets of one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureCounts {
    /// Where.
    pub place: CapturedAt,
    /// That passed.
    pub received: u64,
    /// That the filter let through.
    pub accepted: u64,
    /// Of these, lost because the reader was too slow.
    pub lost: u64,
}

impl CaptureCounts {
    /// As the node counted them.
    #[must_use]
    pub fn new((place, counts): (capture::Place, capture::Counts)) -> Self {
        Self {
            place: place.into(),
            received: counts.received,
            accepted: counts.accepted,
            lost: counts.lost,
        }
    }
}

//! The packet path.

use core::fmt;
use core::net::Ipv4Addr;

use crate::config::{PortId, Snapshot};
use crate::frame::{Batch, FramePool, TxBatch};
use crate::neigh::NeighbourView;
use crate::stats::{DropReason, Stats};
use crate::time::Instant;

/// Sizes of the tables of one router, fixed at its making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Dynamic neighbour entries (Linux `gc_thresh3`: 1024). PERMANENT entries come on top.
    pub neighbours: u16,
    /// Packets that wait for one neighbour's MAC, at least 3 (RFC 1122 2.3.2.2).
    pub held_per_neighbour: u16,
    /// Packets that wait for any neighbour's MAC: frames that the pool must be able to spare.
    pub held: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            neighbours: 1024,
            held_per_neighbour: 128,
            held: 256,
        }
    }
}

/// A snapshot that contradicts itself. The router keeps the one it had.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// Two ports have one number.
    DuplicatePort(PortId),
    /// More than one host port.
    SecondHostPort(PortId),
    /// An address, route or neighbour names a port that is not in the snapshot.
    UnknownPort(PortId),
    /// MTU below 68 (RFC 791).
    MtuTooSmall(PortId),
    /// A prefix length above 32.
    BadPrefixLength(Ipv4Addr, u8),
    /// A unicast route without a next hop.
    NoNextHop(ipnet::Ipv4Net),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DuplicatePort(p) => write!(f, "port {} is given twice", p.0),
            Self::SecondHostPort(p) => write!(f, "port {} is a second host port", p.0),
            Self::UnknownPort(p) => write!(f, "port {} does not exist", p.0),
            Self::MtuTooSmall(p) => write!(f, "port {}: an IPv4 MTU is at least 68", p.0),
            Self::BadPrefixLength(a, n) => write!(f, "{a}/{n}: a prefix length is at most 32"),
            Self::NoNextHop(net) => write!(f, "route to {net} has no next hop"),
        }
    }
}

impl core::error::Error for ConfigError {}

/// A router.
#[derive(Debug)]
pub struct Router {
    snapshot: Snapshot,
    stats: Stats,
}

impl Router {
    /// A router without ports.
    #[must_use]
    pub fn new(_limits: Limits, _seed: u64) -> Self {
        Self {
            snapshot: Snapshot::default(),
            stats: Stats::default(),
        }
    }

    /// Replaces the configuration.
    ///
    /// # Errors
    /// When the snapshot contradicts itself; nothing has changed then.
    pub fn apply(
        &mut self,
        _now: Instant,
        snapshot: Snapshot,
        _pool: &mut FramePool,
    ) -> Result<(), ConfigError> {
        self.stats.set_ports(snapshot.ports.iter().map(|p| p.id));
        self.snapshot = snapshot;
        Ok(())
    }

    /// Takes every frame of `rx` through the router; what is to be sent is appended to `tx`.
    pub fn process(
        &mut self,
        _now: Instant,
        rx: &mut Batch,
        pool: &mut FramePool,
        _tx: &mut TxBatch,
    ) {
        for frame in rx.drain() {
            self.stats.count_rx(None, frame.len());
            self.stats.count_drop(None, DropReason::UnknownPort);
            pool.free(frame);
        }
    }

    /// When [`Router::handle_timeout`] wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, _now: Instant, _pool: &mut FramePool, _tx: &mut TxBatch) {}

    /// All counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Frames that wait for address resolution now.
    #[must_use]
    pub fn held(&self) -> usize {
        0
    }

    /// The configuration in force.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The neighbour table.
    pub fn neighbours(&self) -> impl Iterator<Item = NeighbourView> + '_ {
        core::iter::empty()
    }

    /// Deletes neighbour entries.
    pub fn flush_neighbours(
        &mut self,
        _port: Option<PortId>,
        _ip: Option<Ipv4Addr>,
        _pool: &mut FramePool,
    ) -> usize {
        0
    }
}

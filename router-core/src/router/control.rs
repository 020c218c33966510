//! A router's outside but for its packets: how it is made and configured, what can be asked of it, and what time brings.
//!
//! Nothing here is on the way of a packet. A configuration is checked before anything changes, and replaces the tables that
//! it leads to as a whole (law 3).

use alloc::boxed::Box;
use core::net::Ipv4Addr;

use super::announce::Announcements;
use super::egress::Bin;
use super::tunnel::Tunnel;
use super::{Router, sessions};
use crate::bridge::{Bridges, FdbView};
use crate::config::{PortId, Snapshot};
use crate::fib::Fib;
use crate::frag::{Fragments, Reassembly};
use crate::frame::{FramePool, TxBatch};
use crate::icmp_error::Limiter;
use crate::nat::Nat;
use crate::neigh::{Due, NeighbourTable, NeighbourView};
use crate::originate::Originator;
use crate::policy::Policy;
use crate::ports::{ConfigError, PortIndex};
use crate::random::Rng;
use crate::stats::{DropReason, Stats};
use crate::time::Instant;
use crate::trace::Recorder;

/// Longest IPv4 packet, bytes.
const MAX_PACKET: usize = 65535;

/// Sizes of the tables of one router, fixed at its making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Dynamic neighbour entries (Linux `gc_thresh3`: 1024). PERMANENT entries come on top.
    pub neighbours: u16,
    /// Packets that wait for one neighbour's MAC (Linux's 212992 bytes are about 101), at least 3 (RFC 1122 2.3.2.2).
    pub held_per_neighbour: u16,
    /// Packets that wait for any neighbour's MAC: frames that the pool must be able to spare.
    pub held: u16,
    /// Fragments that wait for the rest of their datagram (Linux's 4 MiB are 2048 frames of 2 kB). However many these
    /// are, the oldest go before less than a quarter of the pool is left.
    pub fragments: u16,
    /// Stations that each bridge remembers. Its own addresses come on top.
    pub fdb: u16,
    /// Packets that wait at ports with a bandwidth limit. However many these are, none is kept when less than a quarter of
    /// the pool is left.
    pub shaped: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            neighbours: 1024,
            held_per_neighbour: 128,
            held: 256,
            fragments: 2048,
            fdb: 4096,
            shaped: 2048,
        }
    }
}

impl Router {
    /// A router without ports. The same seed and the same calls give the same bytes.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        Self {
            snapshot: Snapshot::default(),
            ports: PortIndex::default(),
            fib: Fib::default(),
            policy: Policy::default(),
            nat: None,
            journal: sessions::Journal::default(),
            neighbours: NeighbourTable::new(
                limits.neighbours,
                limits.held_per_neighbour.max(3),
                limits.held,
                rng.next(),
            ),
            limiter: Limiter::new(rng.next()),
            originator: Originator::new(rng.next()),
            stats: Stats::default(),
            trace: Recorder::default(),
            defragments: false,
            reassembly: Reassembly::new(limits.fragments, rng.next()),
            set: Fragments::new(limits.fragments),
            scratch: alloc::vec![0; MAX_PACKET].into_boxed_slice(),
            tunnel: Tunnel::new(rng.next()),
            announcements: Announcements::default(),
            shaper: None,
            shaped: limits.shaped,
            plain: Box::default(),
            flow_seed: rng.next(),
            bridges: Bridges::new(limits.fdb, rng.next()),
            share: None,
            leaves_all: false,
            funnels: false,
        }
    }

    /// Replaces the configuration. Neighbours and counters of ports that stay are kept; frames that wait at a port that
    /// is gone or down now are dropped without an error to their senders (FWD-58).
    ///
    /// # Errors
    /// When the snapshot contradicts itself; nothing has changed then.
    pub fn apply(
        &mut self,
        now: Instant,
        snapshot: Snapshot,
        pool: &mut FramePool,
    ) -> Result<(), ConfigError> {
        let ports = PortIndex::new(&snapshot)?;
        let fib = Fib::new(&snapshot).map_err(|_| ConfigError::TooManyRoutes)?;
        let policy = Policy::new(&snapshot);
        let tracks = snapshot.nat.tracks() || !policy.is_empty();
        let had_table = self.nat.is_some();
        self.nat = match self.nat.take().filter(|_| tracks) {
            None if tracks => Some(Box::new(Nat::new(
                &snapshot.nat,
                self.flow_seed,
                self.share.clone(),
            )?)),
            None => None,
            Some(mut nat) => {
                let configured = nat.configure(&snapshot);
                self.nat = Some(nat);
                configured?;
                self.nat.take()
            }
        };
        self.journal_table(had_table);
        self.fib = fib;
        self.policy = policy;
        self.stats.set_ports(snapshot.ports.iter().map(|p| p.id));
        self.ports = ports;
        let tunnel = self
            .ports
            .tunnel()
            .and_then(|slot| snapshot.ports.get(slot));
        self.tunnel.apply(&snapshot, tunnel.map(|port| port.id));
        self.defragments = snapshot.defragment || tracks;
        self.bridges.configure(&snapshot);
        self.announcements.apply(now, &self.snapshot, &snapshot);
        if !self.is_first() {
            self.announcements.forget();
        }
        let changed = self.snapshot.policy != snapshot.policy;
        self.snapshot = snapshot;
        self.decide_funnel();
        if changed && self.snapshot.policy.flush_on_change {
            self.flush_refused();
        }

        let Self {
            snapshot,
            ports,
            neighbours,
            stats,
            trace,
            ..
        } = self;
        trace.set_now(now);
        let mut bin = Bin {
            stats,
            ports,
            pool,
            trace,
        };
        let up = |id| {
            ports
                .slot(id)
                .and_then(|s| snapshot.ports.get(s))
                .is_some_and(|p| p.up)
        };
        neighbours.flush(|port, _| !up(port), true, DropReason::PortRemoved, &mut bin);
        neighbours.set_permanent(now, &snapshot.neighbours, &mut bin);
        self.reshape(now, pool);
        let Self {
            plain,
            snapshot,
            fib,
            shaper,
            ..
        } = self;
        plain.apply(snapshot, fib, tracks, shaper.as_deref());
        Ok(())
    }

    /// When [`Router::handle_timeout`] wants to be called next; none when nothing is pending. May be earlier than there
    /// is something to do, never later.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [
            self.neighbours.next_deadline(),
            self.reassembly.next_deadline(),
            self.announcements.deadline(),
            self.nat.as_ref().and_then(|nat| nat.next_deadline()),
            self.shaper.as_ref().and_then(|s| s.next_deadline()),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The steps of traced packets.
    #[must_use]
    pub fn trace(&self) -> &Recorder {
        &self.trace
    }

    /// The steps of traced packets, to begin and to end a trace.
    pub fn trace_mut(&mut self) -> &mut Recorder {
        &mut self.trace
    }

    /// All counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Frames that wait now, for address resolution, for the rest of their datagram, or for bandwidth.
    #[must_use]
    pub fn held(&self) -> usize {
        let shaped = self.shaper.as_ref().map_or(0, |shaper| shaper.held());
        self.neighbours.held() + self.reassembly.held() + shaped
    }

    /// The configuration in force.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The tables that the configuration led to.
    #[must_use]
    pub fn fib(&self) -> &Fib {
        &self.fib
    }

    /// The neighbour table, in no particular order.
    pub fn neighbours(&self) -> impl Iterator<Item = NeighbourView> + '_ {
        self.neighbours.iter()
    }

    /// The forwarding databases of the bridges, in no particular order.
    pub fn fdb(&self, now: Instant) -> impl Iterator<Item = FdbView> + '_ {
        self.bridges.iter(now)
    }

    /// Deletes neighbour entries of this port and address (of any where none is given), except for PERMANENT ones, and
    /// returns their number. Packets that waited there are dropped.
    pub fn flush_neighbours(
        &mut self,
        port: Option<PortId>,
        ip: Option<Ipv4Addr>,
        pool: &mut FramePool,
    ) -> usize {
        let Self {
            neighbours,
            stats,
            ports,
            trace,
            ..
        } = self;
        neighbours.flush(
            |p, i| port.is_none_or(|port| port == p) && ip.is_none_or(|ip| ip == i),
            false,
            DropReason::NeighbourFlushed,
            &mut Bin {
                stats,
                ports,
                pool,
                trace,
            },
        )
    }

    /// Does what is due at `now`: asks for neighbours again, gives up on them, ages what is known.
    pub fn handle_timeout(&mut self, now: Instant, pool: &mut FramePool, tx: &mut TxBatch) {
        if let Some(nat) = &mut self.nat {
            nat.expire(now);
        }
        self.with_io(now, pool, tx, |router, io| {
            let mut at = 0;
            while let Some(due) = router.neighbours.due(now, &mut at) {
                match due {
                    Due::Ask { id, last_known } => router.ask(id, last_known, io),
                    Due::GiveUp { id } => router.give_up(id, io),
                    Due::Send { id } => router.send_held(id, io),
                }
            }
            router.expire_fragments(io);
            router.announce_new(io);
            router.open_gates(io);
        });
    }
}

//! Bandwidth limits (CAL-34): which frames of a shaped port pass now, which wait, and which are dropped.
//!
//! As the CNI plugin `bandwidth` sets Linux up: a token bucket filter for what leaves toward a pod, on the node's end of
//! its link, and one for what the pod sends, before anything else is done with it. Each has a queue; a frame that finds
//! tokens and nobody before it passes at once, others wait in order until there are tokens, and what would make the queue
//! longer than its limit in bytes is dropped, as is a frame longer than the burst. Token buckets start full. A superframe
//! costs what its segments do, and is cut into them by the router when it is longer than the burst.
//!
//! Does not decide what happens to a frame that passes: the router takes it on where it stopped it (`router/shaping.rs`).
//! Source: containernetworking/plugins `meta/bandwidth`; Linux `net/sched/sch_tbf.c`. Unlike there, frames that wait
//! are also bounded in number, by [`Limits::shaped`](crate::router::Limits::shaped) for all ports together.
//!
//! Cost: for a frame of a shaped port a load, a multiplication and a store; finding the next deadline looks at each
//! direction of each shaped port. A node without limits has no [`Shaper`].

mod bucket;

use alloc::vec::Vec;

use crate::config::{PortConfig, PortId, Rate};
use crate::frame::Frame;
use crate::frame::hold::{HoldStore, Queue};
use crate::segment;
use crate::stats::{Discard, DropReason};
use crate::time::Instant;
use bucket::Bucket;

/// Direction, as the router sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// What a port receives.
    Rx,
    /// What leaves by a port.
    Tx,
}

/// One direction of one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GateId(u16);

const NO_GATE: u16 = u16::MAX;

#[derive(Debug)]
struct Gate {
    port: PortId,
    side: Side,
    /// None lets everything pass: the limit is gone, and frames that waited are about to leave.
    bucket: Option<Bucket>,
    /// Bytes that may wait.
    limit: u64,
    /// Bytes that wait.
    backlog: u64,
    queue: Queue,
}

impl Gate {
    fn passes(&mut self, now: Instant, len: usize) -> bool {
        self.bucket.as_mut().is_none_or(|b| b.take(now, len))
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Shaper {
    gates: Vec<Gate>,
    /// By place of the port in the snapshot, the gates of rx and tx.
    places: Vec<[u16; 2]>,
    store: HoldStore,
}

impl Shaper {
    /// No limits yet; at most `frames` wait at once.
    pub(crate) fn new(frames: u16) -> Self {
        Self {
            gates: Vec::new(),
            places: Vec::new(),
            store: HoldStore::new(frames),
        }
    }

    /// Limits as these ports have them. Buckets of limits that stay keep their level, and frames that wait keep waiting;
    /// those at a port that is gone or down are dropped.
    pub(crate) fn configure(&mut self, now: Instant, ports: &[PortConfig], bin: &mut impl Discard) {
        for gate in &mut self.gates {
            if !ports.iter().any(|port| port.id == gate.port && port.up) {
                while let Some(frame) = self.store.pop(&mut gate.queue) {
                    bin.discard(frame, DropReason::PortRemoved);
                }
                gate.backlog = 0;
            }
        }
        let old = core::mem::take(&mut self.gates);
        let find = |id, side| move |gate: &&Gate| gate.port == id && gate.side == side;
        for port in ports {
            for (side, rate) in [(Side::Rx, port.shape.rx), (Side::Tx, port.shape.tx)] {
                let before = old.iter().find(find(port.id, side));
                let waits = before.is_some_and(|gate| gate.queue.len() > 0);
                if rate.is_none() && !waits {
                    continue;
                }
                let bucket = rate.map(|rate| match before.and_then(|gate| gate.bucket) {
                    Some(bucket) => bucket.with(&rate, now),
                    None => Bucket::new(&rate, now),
                });
                self.gates.push(Gate {
                    port: port.id,
                    side,
                    bucket,
                    limit: rate.map_or(0, |rate: Rate| rate.limit),
                    backlog: before.map_or(0, |gate| gate.backlog),
                    queue: before.map_or(Queue::EMPTY, |gate| gate.queue),
                });
            }
        }
        self.places.clear();
        self.places.resize(ports.len(), [NO_GATE; 2]);
        for (place, port) in self.places.iter_mut().zip(ports) {
            for (at, side) in place.iter_mut().zip([Side::Rx, Side::Tx]) {
                let found = (0..).zip(&self.gates).find(|(_, g)| find(port.id, side)(g));
                *at = found.map_or(NO_GATE, |(n, _)| n);
            }
        }
    }

    /// True when no port has a limit, and nothing waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.gates.is_empty()
    }

    /// The gate of the port in place `slot`, if that direction has a limit.
    #[inline]
    pub(crate) fn gate(&self, slot: usize, side: Side) -> Option<GateId> {
        let gate = self.places.get(slot)?[side as usize];
        (gate != NO_GATE).then_some(GateId(gate))
    }

    /// Whose gate it is.
    pub(crate) fn whose(&self, id: GateId) -> Option<(PortId, Side)> {
        let gate = self.gates.get(usize::from(id.0))?;
        Some((gate.port, gate.side))
    }

    /// A frame comes to a gate: it is given back if it passes at once, kept if it has to wait. Where frames are `scarce`
    /// none is kept.
    ///
    /// # Errors
    /// Gives it back when it is to be dropped.
    pub(crate) fn offer(
        &mut self,
        now: Instant,
        id: GateId,
        frame: Frame,
        scarce: bool,
    ) -> Result<Option<Frame>, (Frame, DropReason)> {
        let Some(gate) = self.gates.get_mut(usize::from(id.0)) else {
            return Ok(Some(frame));
        };
        let len = segment::wire_len(&frame);
        if gate.bucket.is_some_and(|bucket| !bucket.holds(len)) {
            return Err((frame, DropReason::BurstExceeded));
        }
        if gate.queue.len() == 0 && gate.passes(now, len) {
            return Ok(Some(frame));
        }
        let backlog = gate.backlog + len as u64;
        if scarce || backlog > gate.limit && gate.bucket.is_some() {
            return Err((frame, DropReason::BandwidthExceeded));
        }
        match self.store.push(&mut gate.queue, frame) {
            Ok(()) => {
                gate.backlog = backlog;
                Ok(None)
            }
            Err(frame) => Err((frame, DropReason::BandwidthExceeded)),
        }
    }

    /// The next frame that has waited at this gate and passes now.
    pub(crate) fn release(&mut self, now: Instant, id: GateId) -> Option<Frame> {
        let gate = self.gates.get_mut(usize::from(id.0))?;
        let len = segment::wire_len(self.store.oldest(&gate.queue)?);
        if !gate.passes(now, len) {
            return None;
        }
        gate.backlog = gate.backlog.saturating_sub(len as u64);
        self.store.pop(&mut gate.queue)
    }

    /// The first gate from number `from` on where a frame has waited and passes at `now`.
    pub(crate) fn due(&self, now: Instant, from: &mut u16) -> Option<GateId> {
        while let Some(gate) = self.gates.get(usize::from(*from)) {
            let id = GateId(*from);
            *from += 1;
            if self.ready_at(gate).is_some_and(|at| at <= now) {
                return Some(id);
            }
        }
        None
    }

    /// When the next frame that waits may pass.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.gates.iter().filter_map(|g| self.ready_at(g)).min()
    }

    fn ready_at(&self, gate: &Gate) -> Option<Instant> {
        let len = segment::wire_len(self.store.oldest(&gate.queue)?);
        Some(
            gate.bucket
                .as_ref()
                .map_or(Instant::ZERO, |bucket| bucket.ready_at(len)),
        )
    }

    /// Frames that wait.
    pub(crate) const fn held(&self) -> usize {
        self.store.held()
    }
}

#[cfg(test)]
mod tests;

//! Frames at the gates of ports with a bandwidth limit: on their way in before all else, on their way out after all else.

use alloc::boxed::Box;

use super::egress::Bin;
use super::{Io, Router, tell};
use crate::config::{PortConfig, Shape};
use crate::frame::{Frame, FramePool};
use crate::segment;
use crate::shape::{GateId, Shaper, Side};
use crate::stats::DropReason;
use crate::time::Instant;
use crate::trace::Step;

impl Router {
    /// Puts the limits of a new configuration in force. Limits stand on few nodes, so there is nothing without any.
    pub(super) fn reshape(&mut self, now: Instant, pool: &mut FramePool) {
        let Self {
            shaper,
            snapshot,
            stats,
            ports,
            trace,
            ..
        } = self;
        let limited = |port: &PortConfig| port.shape != Shape::default();
        if shaper.is_none() && snapshot.ports.iter().any(limited) {
            *shaper = Some(Box::new(Shaper::new(self.shaped)));
        }
        if let Some(gates) = shaper {
            let mut bin = Bin {
                stats,
                ports,
                pool,
                trace,
            };
            gates.configure(now, &snapshot.ports, &mut bin);
            if gates.is_idle() {
                *shaper = None;
            }
        }
    }

    /// The gate that frames of the port in place `slot` go through in this direction; none on nearly every port.
    #[inline]
    pub(super) fn gate(&self, slot: usize, side: Side) -> Option<GateId> {
        self.shaper.as_ref()?.gate(slot, side)
    }

    /// A frame comes to a gate: it passes, with those that waited before it, or waits, or is dropped.
    pub(super) fn shape(&mut self, frame: Frame, id: GateId, io: &mut Io<'_>) {
        self.open(id, io);
        let Some(shaper) = &mut self.shaper else {
            return self.discard(frame, DropReason::UnknownPort, io);
        };
        let port = shaper.whose(id).map(|(port, _)| port);
        // Others need frames, too.
        let scarce = io.pool.available() < io.pool.capacity() / 4;
        let mark = frame.mark();
        match shaper.offer(io.now, id, frame, scarce) {
            Ok(Some(frame)) => self.pass(frame, id, io),
            Ok(None) => io
                .trace
                .step_if(mark, || port.map(|port| Step::Queued { port })),
            // Its segments may pass, as in `tbf_segment`.
            Err((frame, DropReason::BurstExceeded)) if frame.is_superframe() => {
                self.cut(frame, io, |router, segment, io| {
                    router.shape(segment, id, io);
                });
            }
            Err((frame, reason)) => self.discard(frame, reason, io),
        }
    }

    /// Lets pass what has waited long enough, at every gate.
    pub(super) fn open_gates(&mut self, io: &mut Io<'_>) {
        let mut from = 0;
        while let Some(id) = self
            .shaper
            .as_ref()
            .and_then(|shaper| shaper.due(io.now, &mut from))
        {
            self.open(id, io);
        }
    }

    /// Lets pass what has waited long enough at one gate.
    fn open(&mut self, id: GateId, io: &mut Io<'_>) {
        while let Some(frame) = self
            .shaper
            .as_mut()
            .and_then(|shaper| shaper.release(io.now, id))
        {
            self.pass(frame, id, io);
        }
    }

    /// A frame goes on behind its gate.
    fn pass(&mut self, frame: Frame, id: GateId, io: &mut Io<'_>) {
        let whose = self.shaper.as_ref().and_then(|shaper| shaper.whose(id));
        let Some((port, side)) = whose else {
            return self.discard(frame, DropReason::UnknownPort, io);
        };
        match (side, self.ports.slot(port)) {
            (Side::Rx, slot) => self.enter(frame, slot, io),
            (Side::Tx, Some(slot)) => self.leave(frame, slot, io),
            (Side::Tx, None) => self.discard(frame, DropReason::EgressDown, io),
        }
    }

    /// A frame leaves by the port in place `slot`.
    pub(super) fn leave(&mut self, mut frame: Frame, slot: usize, io: &mut Io<'_>) {
        let Some(port) = self.snapshot.ports.get(slot) else {
            return self.discard(frame, DropReason::EgressDown, io);
        };
        frame.forget_tunnels();
        let size = (frame.len(), segment::count(&frame));
        self.stats.count_tx(slot, size);
        io.trace.step(frame.mark(), || tell::tx(port.id, &frame));
        io.trace.step_if(frame.mark(), || tell::superframe(&frame));
        io.tx.push(port.id, frame);
    }
}

//! What the plain path counts of one batch: frames that follow each other by the same port are counted together.

use core::mem;

use super::look::Seen;
use crate::router::Io;
use crate::stats::{RouteKind, Stats};

/// Frames of one port that were not counted yet.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    slot: u16,
    /// Frames of the batch before it.
    before: u64,
    bytes: u64,
    /// Segments of superframes after the first.
    more: u64,
}

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::router) struct Counts {
    frames: u64,
    rx: Run,
    tx: Run,
}

impl Counts {
    /// The next frame came by the first of these ports, and leaves by the second: their places.
    #[inline(always)]
    pub(super) fn turn_to(&mut self, (from, to): (u16, u16), stats: &mut Stats) {
        if self.rx.slot != from {
            self.end_rx(from, stats);
        }
        if self.tx.slot != to {
            self.end_tx(to, stats);
        }
    }

    /// Counts a frame of `received` bytes, of which `sent` go on.
    #[inline(always)]
    pub(super) fn add(&mut self, received: usize, sent: usize) {
        self.frames += 1;
        self.rx.bytes += received as u64;
        self.tx.bytes += sent as u64;
    }

    /// Counts the segments of a superframe.
    #[inline(always)]
    pub(super) fn add_more(&mut self, seen: Seen) {
        self.rx.more += u64::from(seen.more());
        self.tx.more += u64::from(seen.more());
    }

    /// Ends a run; the next frames came by the port in `slot`.
    #[inline(never)]
    fn end_rx(&mut self, slot: u16, stats: &mut Stats) {
        let run = self.next(slot, |counts| &mut counts.rx);
        stats.count_rx_many(
            run.slot.into(),
            self.frames - run.before,
            run.bytes,
            run.more,
        );
    }

    /// Ends a run; the next frames leave by the port in `slot`.
    #[inline(never)]
    fn end_tx(&mut self, slot: u16, stats: &mut Stats) {
        let run = self.next(slot, |counts| &mut counts.tx);
        stats.count_tx_many(
            run.slot.into(),
            self.frames - run.before,
            run.bytes,
            run.more,
        );
    }

    /// Begins a run in place of another, which it gives.
    fn next(&mut self, slot: u16, which: impl FnOnce(&mut Self) -> &mut Run) -> Run {
        let next = Run {
            slot,
            before: self.frames,
            ..Run::default()
        };
        mem::replace(which(self), next)
    }

    /// Takes over what is left. Number of packets in all.
    pub(super) fn finish(mut self, stats: &mut Stats, io: &mut Io<'_>) -> u64 {
        self.end_rx(0, stats);
        self.end_tx(0, stats);
        io.routes.add(RouteKind::Unicast, self.frames);
        self.frames
    }
}

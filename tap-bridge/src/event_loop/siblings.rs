//! The loops of one node's workers, each in a thread of its own, and the frames that they hand over to each other.
//!
//! Between two loops are two bounded queues, one for each direction, into which one thread puts and from which one takes; a
//! full one loses the frame and counts it. Handles are exchanged, nothing is copied. Frames that are handed over are taken
//! before those of ports, as they came earlier, and keep the number of the port that they came by. See
//! [`router_core::share`] for who hands over what.
//!
//! A loop that sleeps is woken by the first frame: [`nap`].
//!
//! Cost: of a loop without siblings one comparison per breath.

mod nap;

use std::sync::Arc;

use nap::{Nap, Watch};
use router_core::{Frame, FramePool};

use super::{Engine, EventLoop, RX_BUDGET};
use crate::memory::MemoryPort;
use crate::port::{Port as _, Rx};
use crate::sys::epoll::Waker;

/// Frames that may wait between two workers in one direction.
const RING: usize = 256;

/// The way to another loop.
#[derive(Debug)]
pub(super) struct Sibling {
    index: u8,
    port: MemoryPort,
    watch: Watch,
    waker: Arc<Waker>,
    touched: bool,
}

/// All siblings of a loop.
#[derive(Debug, Default)]
pub(super) struct Siblings {
    others: Vec<Sibling>,
    /// This loop's.
    nap: Nap,
    /// For a worker that there is not.
    unknown: u64,
}

impl Siblings {
    pub(super) fn has_frames(&self) -> bool {
        self.others.iter().any(|other| other.port.pending() > 0)
    }

    /// Announces sleep. False when something has come by then.
    pub(super) fn prepare_sleep(&mut self) -> bool {
        if self.others.is_empty() {
            return true;
        }
        self.nap.announce();
        !self.has_frames()
    }

    pub(super) fn end_sleep(&mut self) {
        if !self.others.is_empty() {
            self.nap.end();
        }
    }

    /// Sends a frame to the worker that `to` names.
    pub(super) fn hand_over(&mut self, to: u8, frame: Frame, pool: &mut FramePool) {
        match self.others.iter_mut().find(|other| other.index == to) {
            // What a lane can't take it counts.
            Some(other) => {
                other.touched |= other.port.tx(pool, frame).is_ok();
            }
            None => {
                self.unknown += 1;
                pool.free(frame);
            }
        }
    }

    /// Wakes those that got something and sleep.
    pub(super) fn flush(&mut self) {
        if !self.others.iter().any(|other| other.touched) {
            return;
        }
        Watch::before_rousing();
        for other in &mut self.others {
            if std::mem::take(&mut other.touched) && other.watch.rouse() {
                // It fails for no reason that a caller could cause, and the next one is tried.
                let _ = other.waker.wake();
            }
        }
    }

    /// Frames that were lost because too many waited.
    pub(super) fn lost(&self) -> u64 {
        let dropped = self.others.iter().map(|o| o.port.counters().tx_dropped);
        dropped.sum::<u64>() + self.unknown
    }
}

impl<E: Engine> EventLoop<E> {
    /// Joins the loops of one node: the first is worker 0. To be called once, before they go to their threads.
    pub fn join(loops: &mut [&mut Self]) {
        for low in 0..loops.len() {
            for high in low + 1..loops.len() {
                // What passes is no device's, so no MTU limits it.
                let (a, b) = MemoryPort::pair(u16::MAX, RING);
                let [one, other] = loops
                    .get_disjoint_mut([low, high])
                    .expect("two different ones, both there");
                one.siblings.others.push(other.as_sibling(high, a));
                other.siblings.others.push(one.as_sibling(low, b));
            }
        }
    }

    fn as_sibling(&self, index: usize, port: MemoryPort) -> Sibling {
        Sibling {
            index: u8::try_from(index).unwrap_or(u8::MAX),
            port,
            watch: self.siblings.nap.watch(),
            waker: self.waker(),
            touched: false,
        }
    }

    /// Frames for other workers that were lost because too many waited.
    pub fn lost_between_workers(&self) -> u64 {
        self.siblings.lost()
    }

    /// Takes what other workers have handed over, each in its turn. Gives the bytes.
    pub(super) fn receive_handed(&mut self) -> usize {
        let before = self.rx.len();
        for other in &mut self.siblings.others {
            match other.port.rx(&mut self.pool, &mut self.rx, RX_BUDGET) {
                // Memory does not fail; what is left waits for the next breath.
                Ok(Rx::Drained | Rx::More) | Err(_) => {}
            }
        }
        let taken = &self.rx.as_slice()[before..];
        taken.iter().map(Frame::len).sum()
    }
}

#[cfg(test)]
mod tests;

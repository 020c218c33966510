//! Tails of one member that another one reads: who may use them, and when they are their owner's again.
//!
//! Decides how many tails a peer may hold ([`Lent::may_lend`]), and what happens to them when a link or its peer goes. Neither
//! copies payload: the receiver's device reads it from the sender's memory, which it has mapped to read.
//!
//! # Life of a tail, as its owner sees it
//!
//! ```text
//!            device reads a superframe           push, with the tail's number
//!   free ------------------------------> own ---------------------------------> lent
//!    ^                                    |                                      |
//!    +------- last user drops it ---------+                                      |
//!    +------- its bit of `returned` changed, `closed` is 1, or Down -------------+
//! ```
//!
//! | from | to   | when                                            | what becomes of the content                       |
//! |------|------|-------------------------------------------------|---------------------------------------------------|
//! | free | own  | the device is read; the lowest free one         | the kernel writes it                              |
//! | own  | lent | the frame is put into a ring                    | stays as it is                                    |
//! | own  | free | a device here took it, or it was dropped        | may be overwritten                                |
//! | lent | free | the peer changed its bit                        | may be overwritten: the peer reads it no more     |
//! | lent | free | the peer's region of a link that is gone says `closed` | the same, for all tails of that link       |
//! | lent | free | `Down`: the peer's process has ended            | the same                                          |
//!
//! Forbidden, and why:
//!
//! * lent to lent: a tail goes to one peer at a time. A frame for several is cut first.
//! * lent to free when a link is unlinked or replaced: its honest peer may be about to write such a tail to a pod, whose
//!   kernel would believe the checksum. The owner keeps the old link's memory until the peer says `closed`.
//! * lent to free by time: only the peer knows what it still needs; how many it may keep is bounded.
//!
//! # Bounds
//!
//! A peer may hold no more tails than are free at that moment. So one that never returns any gets half of them, a second one
//! a third, and there is always one left for the others; it starves itself alone.
//!
//! # Trust
//!
//! A receiver uses number and length only when they were checked, and nothing is ever decided on the content: its owner may
//! change it at any time and garble what the owner itself has sent. A peer that returns too early reads what comes next in
//! its place; one that returns what it never had changes nothing.
//!
//! Cost: one store of a cell per tail to return it, one load per breath and link with tails under way to see that.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use router_core::frame::{Tail, TailStore};

use super::ring::{Corrupt, Own, Region, TailRef, returned};
use crate::sys::shm::{ReadMapping, Stretch};
use crate::tails::{copy_out, place};

/// Own tails that a peer was given over one link.
#[derive(Debug, Default)]
pub(super) struct Lent {
    tails: Vec<Tail>,
    /// `returned` of the peer, as last seen.
    seen: u64,
}

impl Lent {
    /// Whether a peer that holds `held` tails may have another one while `free` are left.
    pub(super) fn may_lend(held: usize, free: u32) -> bool {
        u32::try_from(held).is_ok_and(|held| held < free)
    }

    /// Number of tails that the peer holds.
    pub(super) fn held(&self) -> usize {
        self.tails.len()
    }

    /// The peer has got this one.
    pub(super) fn lend(&mut self, tail: Tail) {
        self.tails.push(tail);
    }

    /// Frees what `peer` has returned.
    pub(super) fn take_back(&mut self, peer: &impl Region) {
        match returned(peer) {
            Some(now) => {
                let back = now ^ self.seen;
                self.seen = now;
                self.tails.retain(|tail| {
                    back.checked_shr(tail.index())
                        .is_none_or(|bit| bit & 1 == 0)
                });
            }
            None => self.tails.clear(),
        }
    }
}

/// A link that is gone, and the tails that were lent over it.
#[derive(Debug)]
pub(super) struct Retired {
    region: ReadMapping,
    lent: Lent,
}

impl Retired {
    pub(super) fn new(region: ReadMapping, lent: Lent) -> Self {
        Self { region, lent }
    }

    pub(super) fn held(&self) -> usize {
        self.lent.held()
    }

    pub(super) fn take_back(&mut self) {
        self.lent.take_back(&self.region);
    }
}

/// A peer's tails, as its receiver has them. Lives as long as a frame has one of them, whatever becomes of link and peer.
#[derive(Debug)]
pub(crate) struct Borrowed {
    memory: ReadMapping,
    own: Arc<Own>,
    /// Bit n: tail n is in use here.
    held: AtomicU64,
}

impl Borrowed {
    pub(super) fn new(memory: ReadMapping, own: Arc<Own>) -> Arc<Self> {
        Arc::new(Self {
            memory,
            own,
            held: AtomicU64::new(0),
        })
    }

    /// A tail that came through the ring.
    ///
    /// # Errors
    /// When it was given already, and not returned.
    pub(super) fn tail(self: &Arc<Self>, tail: TailRef) -> Result<Tail, Corrupt> {
        let bit = 1_u64.checked_shl(tail.index).ok_or(Corrupt::Tail)?;
        if self.held.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
            return Err(Corrupt::Tail);
        }
        Ok(Tail::new(Arc::<Self>::clone(self), tail.index, tail.len))
    }

    /// The first `len` bytes of a tail, for a system call to read.
    pub(crate) fn stretch(&self, index: u32, len: usize) -> Option<Stretch<'_>> {
        self.memory.stretch(place(index, len)?, len)
    }
}

impl TailStore for Borrowed {
    fn read(&self, index: u32, at: usize, out: &mut [u8]) {
        let cells = self.memory.cells();
        copy_out(|n| cells[n].load(), index, at, out);
    }

    fn release(&self, index: u32) {
        if let Some(bit) = 1_u64.checked_shl(index) {
            self.held.fetch_and(!bit, Ordering::Relaxed);
            self.own.give_back(index);
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_may_hold_as_many_tails_as_are_free() {
        assert!(Lent::may_lend(0, 1));
        assert!(!Lent::may_lend(0, 0));
        assert!(Lent::may_lend(31, 32));
        assert!(!Lent::may_lend(32, 32));
    }
}

//! One end of a link: two rings of frames in shared memory, one for each direction, and the sleep flags.
//!
//! Decides when a frame is visible, when a slot is free again, and when the other end has to be woken. Does no system
//! call: who pushes is told to ring ([`End::flush`]), who sleeps polls a doorbell.
//!
//! # Layout
//!
//! Each end writes one region, and only this one; it reads the other's. A region is cells of 64 bits:
//!
//! ```text
//!   cell   0   1..8  8         9..16  16        17..24  24     25..32  32 ..                      32 + SLOTS * SLOT_CELLS
//!        +-----+----+---------+------+---------+-------+------+-------+--------+--------+--   --+--------+
//!        |magic| -  |produced | -    |consumed | -     |sleep | -     | slot 0 | slot 1 |  ...  | last   |
//!        +-----+----+---------+------+---------+-------+------+-------+--------+--------+--   --+--------+
//!   slot: cell 0 what the frame is, then the frame
//!
//!     bit  0..31 length in bytes | 32..47 mark of a traced frame, 0 for all others | 48..63 zero
//! ```
//!
//! | cell     | written by | means                                                                           |
//! |----------|------------|---------------------------------------------------------------------------------|
//! | magic    | the hub    | layout and version, before anybody maps the region                              |
//! | produced | the owner  | frames ever put into the slots of **this** region                               |
//! | consumed | the owner  | frames ever taken out of the slots of the **peer's** region: the peer's credit  |
//! | sleep    | the owner  | odd: the owner sleeps or is about to; rises with every change                   |
//! | slots    | the owner  | frames for the peer; slot n belongs to the peer while produced - consumed covers it |
//!
//! Counters start at zero with the memory and rise for ever (2^64 frames is 500 years at a billion a second).
//!
//! # Why no frame is read before it is written, nor overwritten before it is read
//!
//! The producer writes the slot, then a release fence, then `produced`. The consumer reads `produced`, then an acquire
//! fence, then the slot: if it saw the new count, it sees the slot. Back the same way: the consumer reads the slot, release
//! fence, `consumed`; the producer reads `consumed`, acquire fence, writes the slot.
//!
//! # Why no frame is slept over
//!
//! ```text
//!   sender                              receiver
//!   S1  produced = n                    R1  sleep = odd
//!   S2  fence(SeqCst)                   R2  fence(SeqCst)
//!   S3  read sleep                      R3  read produced
//! ```
//!
//! The two fences stand in one total order. If S2 is first, R3 reads n or more, and the receiver doesn't sleep. If R2 is
//! first, S3 reads the odd value or a later one. Reading the odd value, the sender rings, unless it has rung for this very
//! value before; then the bell rang after R1, and a receiver that polls the bell for edges doesn't sleep through that ring
//! either. Reading a later value, the receiver has been awake since; it looks at `produced` again behind a new R1 before
//! it sleeps, with a later fence. In no case does the receiver sleep while a frame waits and the bell is silent.
//!
//! # The peer is not trusted
//!
//! Everything read from its region is copied once, then checked, then used: `produced` may be ahead of what was taken by no
//! more than the number of slots, `consumed` may only rise and not pass what was produced, a length must be a frame's,
//! a mark must be one that exists (which trace it names is the sender's word; a router records only traces that it was
//! told of).
//! A violation is [`Corrupt`]; the end must not be used afterwards. No value can lead out of the region, as slots are
//! addressed by this end's own counters. `sleep` can at worst cost a ring of the bell per change.
//!
//! Cost: per frame one copy and two plain stores; per flush one full fence.

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering, fence};

use router_core::Mark;
use router_core::frame::MAX_FRAME;

use crate::port::ETHERNET_HEADER;
use crate::sys::shm::{ReadCell, ReadMapping, WriteMapping};

/// Layout and version of a region: "podwire" and 2. Another layout takes another number.
pub(crate) const MAGIC: u64 = u64::from_be_bytes(*b"podwire\x02");

pub(crate) const MAGIC_CELL: usize = 0;
const PRODUCED: usize = 8;
const CONSUMED: usize = 16;
const SLEEP: usize = 24;
const FIRST_SLOT: usize = 32;

/// Frames that may be under way in one direction. Small enough that a busy ring stays in the cache (512 kB), large
/// enough for the bursts that TCP makes in the time a sleeping receiver needs to wake.
pub(crate) const SLOTS: usize = 256;
const SLOT_CELLS: usize = 256;

/// Cells of a region.
pub(crate) const REGION_CELLS: usize = region_cells(SLOTS, SLOT_CELLS);

const fn region_cells(slots: usize, slot_cells: usize) -> usize {
    FIRST_SLOT + slots * slot_cells
}

/// Place of the mark in a slot's first cell.
const MARK_SHIFT: u32 = 32;

const _: () = assert!((SLOT_CELLS - 1) * size_of::<u64>() >= MAX_FRAME);

/// The peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Corrupt {
    #[error("the region is not laid out as this version wants it")]
    Layout,
    #[error("more frames announced than there are slots")]
    Produced,
    #[error("frames acknowledged that were never sent, or acknowledgement taken back")]
    Consumed,
    #[error("a length that no frame has")]
    Length,
    #[error("a mark that no frame has")]
    Mark,
}

/// Why a frame was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PushError {
    /// No free slot: the peer is slow, or gone.
    Full,
    /// Shorter than an Ethernet header or longer than a slot.
    Size,
    /// As [`Corrupt`].
    Corrupt(Corrupt),
}

/// A cell that can be read. All orderings are relaxed; fences do the rest.
pub(crate) trait Load {
    fn load(&self) -> u64;
}

/// A cell that can be written too.
pub(crate) trait Store: Load {
    fn store(&self, value: u64);
}

/// A region as this process sees it. One trait for shared memory and for the model checker's memory.
pub(crate) trait Region {
    type Cell: Load;
    /// A power of two.
    const SLOTS: usize;
    const SLOT_CELLS: usize;

    fn cells(&self) -> &[Self::Cell];
    fn fence(order: Ordering);
}

impl Load for AtomicU64 {
    fn load(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }
}

impl Store for AtomicU64 {
    fn store(&self, value: u64) {
        self.store(value, Ordering::Relaxed);
    }
}

impl Load for ReadCell {
    fn load(&self) -> u64 {
        self.load()
    }
}

impl Region for WriteMapping {
    type Cell = AtomicU64;
    const SLOTS: usize = SLOTS;
    const SLOT_CELLS: usize = SLOT_CELLS;

    fn cells(&self) -> &[AtomicU64] {
        self.cells()
    }

    fn fence(order: Ordering) {
        fence(order);
    }
}

impl Region for ReadMapping {
    type Cell = ReadCell;
    const SLOTS: usize = SLOTS;
    const SLOT_CELLS: usize = SLOT_CELLS;

    fn cells(&self) -> &[ReadCell] {
        self.cells()
    }

    fn fence(order: Ordering) {
        fence(order);
    }
}

/// One end of a link.
#[derive(Debug)]
pub(crate) struct End<O, P> {
    /// Written by this end only.
    own: O,
    /// Written by the peer only.
    peer: P,
    /// Frames ever sent.
    produced: u64,
    /// Frames that the peer was last seen to have taken.
    credit: u64,
    /// Frames ever taken.
    consumed: u64,
    /// Frames that the peer was last seen to have sent.
    available: u64,
    /// `consumed` as last published.
    published: u64,
    /// `produced` at the last flush.
    flushed: u64,
    /// This end's sleep cell.
    sleep: u64,
    /// The peer's sleep cell when it was last rung for.
    rung: u64,
}

impl<O, P> End<O, P>
where
    O: Region<Cell: Store>,
    P: Region,
{
    /// An end on fresh memory.
    ///
    /// # Errors
    /// When either region has another layout.
    pub(crate) fn new(own: O, peer: P) -> Result<Self, Corrupt> {
        const { assert!(O::SLOTS == P::SLOTS && O::SLOTS.is_power_of_two()) };
        const { assert!(O::SLOT_CELLS == P::SLOT_CELLS && O::SLOT_CELLS > 1) };
        let cells = region_cells(O::SLOTS, O::SLOT_CELLS);
        let valid = own.cells().len() == cells
            && peer.cells().len() == cells
            && own.cells()[MAGIC_CELL].load() == MAGIC
            && peer.cells()[MAGIC_CELL].load() == MAGIC;
        if !valid {
            return Err(Corrupt::Layout);
        }
        Ok(Self {
            own,
            peer,
            produced: 0,
            credit: 0,
            consumed: 0,
            available: 0,
            published: 0,
            flushed: 0,
            sleep: 0,
            rung: 0,
        })
    }

    const LARGEST: usize = {
        let room = (O::SLOT_CELLS - 1) * size_of::<u64>();
        if room < MAX_FRAME { room } else { MAX_FRAME }
    };

    /// First cell of the slot of the frame with this number.
    fn slot(number: u64) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the mask leaves less than SLOTS"
        )]
        let index = (number & (O::SLOTS as u64 - 1)) as usize;
        FIRST_SLOT + index * O::SLOT_CELLS
    }

    /// Sends one frame. It is visible to a peer that is awake at once, to one that sleeps after [`End::flush`].
    pub(crate) fn push(&mut self, frame: &[u8], mark: Mark) -> Result<(), PushError> {
        let slots = O::SLOTS as u64;
        if !(ETHERNET_HEADER..=Self::LARGEST).contains(&frame.len()) {
            return Err(PushError::Size);
        }
        if self.produced.wrapping_sub(self.credit) >= slots {
            let credit = self.peer.cells()[CONSUMED].load();
            P::fence(Ordering::Acquire);
            if self.produced.wrapping_sub(credit) > slots {
                return Err(PushError::Corrupt(Corrupt::Consumed));
            }
            if credit == self.credit {
                return Err(PushError::Full);
            }
            self.credit = credit;
        }
        let slot = &self.own.cells()[Self::slot(self.produced)..][..O::SLOT_CELLS];
        slot[0].store(frame.len() as u64 | u64::from(mark.to_bits()) << MARK_SHIFT);
        for (cell, bytes) in slot[1..].iter().zip(frame.chunks(size_of::<u64>())) {
            let mut word = [0; size_of::<u64>()];
            word[..bytes.len()].copy_from_slice(bytes);
            cell.store(u64::from_ne_bytes(word));
        }
        self.produced = self.produced.wrapping_add(1);
        O::fence(Ordering::Release);
        self.own.cells()[PRODUCED].store(self.produced);
        Ok(())
    }

    /// To be called after the last push of a breath. True: the peer's bell has to be rung.
    #[must_use]
    pub(crate) fn flush(&mut self) -> bool {
        if self.flushed == self.produced {
            return false;
        }
        self.flushed = self.produced;
        O::fence(Ordering::SeqCst);
        let sleep = self.peer.cells()[SLEEP].load();
        if sleep & 1 == 0 || sleep == self.rung {
            return false;
        }
        self.rung = sleep;
        true
    }

    /// Takes one frame into `into` (at least [`MAX_FRAME`] bytes) and returns its length and mark, or none when there is
    /// none. The slot is the peer's again after [`End::release`].
    pub(crate) fn pop(&mut self, into: &mut [u8]) -> Result<Option<(usize, Mark)>, Corrupt> {
        if self.consumed == self.available {
            let produced = self.peer.cells()[PRODUCED].load();
            P::fence(Ordering::Acquire);
            if produced.wrapping_sub(self.consumed) > O::SLOTS as u64 {
                return Err(Corrupt::Produced);
            }
            self.available = produced;
            if self.consumed == self.available {
                return Ok(None);
            }
        }
        let slot = &self.peer.cells()[Self::slot(self.consumed)..][..O::SLOT_CELLS];
        let head = slot[0].load();
        let len = usize::try_from(head & u64::from(u32::MAX)).map_err(|_| Corrupt::Length)?;
        if !(ETHERNET_HEADER..=Self::LARGEST.min(into.len())).contains(&len) {
            return Err(Corrupt::Length);
        }
        let mark = u16::try_from(head >> MARK_SHIFT).ok();
        let mark = mark.and_then(Mark::from_bits).ok_or(Corrupt::Mark)?;
        for (bytes, cell) in into[..len].chunks_mut(size_of::<u64>()).zip(&slot[1..]) {
            let word = cell.load().to_ne_bytes();
            bytes.copy_from_slice(&word[..bytes.len()]);
        }
        self.consumed = self.consumed.wrapping_add(1);
        Ok(Some((len, mark)))
    }

    /// Gives the slots of all frames taken so far back to the peer.
    pub(crate) fn release(&mut self) {
        if self.published != self.consumed {
            self.published = self.consumed;
            O::fence(Ordering::Release);
            self.own.cells()[CONSUMED].store(self.consumed);
        }
    }

    /// True when [`End::pop`] would not say none.
    pub(crate) fn has_frames(&self) -> bool {
        self.consumed != self.available || self.peer.cells()[PRODUCED].load() != self.consumed
    }

    /// Frames that the peer has sent and nobody has taken; at most the number of slots, whatever the peer says.
    pub(crate) fn waiting(&self) -> u64 {
        let produced = self.peer.cells()[PRODUCED].load();
        produced.wrapping_sub(self.consumed).min(O::SLOTS as u64)
    }

    /// Announces frames that are not there.
    #[cfg(test)]
    pub(crate) fn scribble(&mut self) {
        self.own.cells()[PRODUCED].store(1 << 40);
    }

    /// R1 of the proof. A SeqCst fence and [`End::has_frames`] must follow before the caller sleeps.
    pub(crate) fn announce_sleep(&mut self) {
        if self.sleep & 1 == 0 {
            self.sleep = self.sleep.wrapping_add(1);
            self.own.cells()[SLEEP].store(self.sleep);
        }
    }

    /// The caller is awake: no bell is needed.
    pub(crate) fn end_sleep(&mut self) {
        if self.sleep & 1 == 1 {
            self.sleep = self.sleep.wrapping_add(1);
            self.own.cells()[SLEEP].store(self.sleep);
        }
    }
}

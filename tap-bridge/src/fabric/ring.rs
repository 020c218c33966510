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
//!   cell   0      8          16         24      32         40       48 ..         48 + SLOTS ..       .. + SLOTS * SLOT_CELLS
//!        +-------+----------+----------+-------+----------+--------+-------------+--------+--------+--   --+--------+
//!        | magic | produced | consumed | sleep | returned | closed | descriptors | slot 0 | slot 1 |  ...  | last   |
//!        +-------+----------+----------+-------+----------+--------+-------------+--------+--------+--   --+--------+
//!   descriptor: bit  0..15 length of the head in bytes | 16..31 slot | 32..47 mark of a traced frame, 0 for all others
//!               bit  48 something is left to do: the slot's first two cells say what | 49..63 zero
//!   slot: cell 0  bit 0..15 start and 16..31 offset of the checksum to complete | 32..47 size of segments
//!                 bit 48..49 kind of segments (0 none) | 50 ECN | 51 there is a checksum to complete | 52..63 zero
//!         cell 1  bit 0..31 length of the tail in bytes, 0 for none | 32..39 its number | 40..63 zero
//!         cell 2.. the head of the frame
//! ```
//!
//! | cell        | written by | means                                                                           |
//! |-------------|------------|---------------------------------------------------------------------------------|
//! | magic       | the hub    | layout and version, before anybody maps the region                              |
//! | produced    | the owner  | frames ever put into the slots of **this** region                               |
//! | consumed    | the owner  | frames ever taken out of the slots of the **peer's** region: the peer's credit  |
//! | sleep       | the owner  | odd: the owner sleeps or is about to; rises with every change                   |
//! | returned    | the owner  | bit n changes when the owner gives tail n of the **peer's** memory back          |
//! | closed      | the owner  | 1: the owner has no tail of the peer any more, and takes none                   |
//! | descriptors | the owner  | frames for the peer; number n is the peer's while produced - consumed covers it |
//! | slots       | the owner  | the frames of the descriptors; any slot that belongs to none is free            |
//!
//! Free slots are taken last-in-first-out, so that a link on which little is under way uses little memory: pages are
//! committed for as many frames as ever were under way at a time (decision 17), and the first few lie beside the counters.
//!
//! The tail of a superframe stays in the sender's own memory ([`tails`](crate::tails)), which the receiver has mapped; what
//! may become of it is in [`lend`](super::lend).
//!
//! Counters start at zero with the memory and rise for ever (2^64 frames is 500 years at a billion a second).
//!
//! # Why no frame is read before it is written, nor overwritten before it is read
//!
//! The producer writes the slot, then a release fence, then `produced`. The consumer reads `produced`, then an acquire
//! fence, then the slot: if it saw the new count, it sees the slot. Back the same way: the consumer reads the slot, release
//! fence, `consumed`; the producer reads `consumed`, acquire fence, writes the slot. A tail takes the same ways: it is written
//! before its slot; and when its reader is done, a release operation on `returned`, which the owner reads, acquire fence,
//! before it writes the tail again.
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
//! A violation is [`Corrupt`]; the end must not be used afterwards. No value can lead out of the region. `sleep` can at
//! worst cost a ring of the bell per change, `returned` and `closed` the sender of a tail its own payload.
//!
//! Cost: per frame one copy and two plain stores; per flush one full fence.

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use router_core::Mark;
use router_core::frame::{Gso, GsoKind, MAX_FRAME, Offload, Partial};

use crate::cells::{Cells, Load as _, Store};
use crate::offload::is_sound;
use crate::port::ETHERNET_HEADER;
use crate::sys::shm::{ReadMapping, WriteMapping};
use crate::tails::{TAIL_BYTES, TAILS};

/// Layout and version of a region: "podwire" and 3. Another layout takes another number.
pub(crate) const MAGIC: u64 = u64::from_be_bytes(*b"podwire\x03");

pub(crate) const MAGIC_CELL: usize = 0;
const PRODUCED: usize = 8;
const CONSUMED: usize = 16;
const SLEEP: usize = 24;
const RETURNED: usize = 32;
const CLOSED: usize = 40;
const DESCRIPTORS: usize = 48;

/// Frames that may be under way in one direction: enough for the bursts that TCP makes in the time a sleeping receiver needs
/// to wake.
pub(crate) const SLOTS: usize = 256;
const SLOT_CELLS: usize = 256;

/// Cells of a region.
pub(crate) const REGION_CELLS: usize = region_cells(SLOTS, SLOT_CELLS);

const fn first_slot(slots: usize) -> usize {
    (DESCRIPTORS + slots).next_multiple_of(8)
}

const fn region_cells(slots: usize, slot_cells: usize) -> usize {
    first_slot(slots) + slots * slot_cells
}

/// Cells of a slot in front of the frame.
const SLOT_HEADER: usize = 2;

const SLOT_SHIFT: u32 = 16;
/// Place of the mark in a descriptor.
const MARK_SHIFT: u32 = 32;
const OFFLOADED: u64 = 1 << 48;
const DESCRIPTOR_BITS: u64 = OFFLOADED << 1;

const OFFSET_SHIFT: u32 = 16;
const SIZE_SHIFT: u32 = 32;
const KIND_SHIFT: u32 = 48;
const ECN: u64 = 1 << 50;
const PARTIAL: u64 = 1 << 51;
const OFFLOAD_BITS: u64 = PARTIAL << 1;

const TAIL_SHIFT: u32 = 32;

const _: () = assert!((SLOT_CELLS - SLOT_HEADER) * size_of::<u64>() >= MAX_FRAME);
const _: () = assert!(TAILS <= u64::BITS as usize);

/// A tail that goes with a frame: where it lies in the sender's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TailRef {
    /// Its number.
    pub(crate) index: u32,
    /// Bytes, at least 1.
    pub(crate) len: u32,
}

/// What goes through a ring besides the bytes of a frame's head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// The mark of a traced frame.
    pub(crate) mark: Mark,
    /// What is left to do.
    pub(crate) offload: Offload,
    /// The bytes behind the head, of a superframe.
    pub(crate) tail: Option<TailRef>,
}

fn pack_offload(offload: Offload) -> u64 {
    let mut word = 0;
    if let Some(partial) = offload.partial {
        word |= PARTIAL | u64::from(partial.start) | u64::from(partial.offset) << OFFSET_SHIFT;
    }
    if let Some(gso) = offload.gso {
        let kind: u64 = match gso.kind {
            GsoKind::TcpV4 => 1,
            GsoKind::TcpV6 => 2,
            GsoKind::Udp => 3,
        };
        word |= kind << KIND_SHIFT | u64::from(gso.size) << SIZE_SHIFT;
        if gso.ecn {
            word |= ECN;
        }
    }
    word
}

/// The 16 bits of `word` from bit `shift` on.
fn half(word: u64, shift: u32) -> u16 {
    let [low, high, ..] = (word >> shift).to_le_bytes();
    u16::from_le_bytes([low, high])
}

fn unpack_offload(word: u64) -> Offload {
    let partial = (word & PARTIAL != 0).then(|| Partial {
        start: half(word, 0),
        offset: half(word, OFFSET_SHIFT),
    });
    let kind = match word >> KIND_SHIFT & 3 {
        1 => Some(GsoKind::TcpV4),
        2 => Some(GsoKind::TcpV6),
        3 => Some(GsoKind::Udp),
        _ => None,
    };
    let gso = kind.map(|kind| Gso {
        kind,
        size: half(word, SIZE_SHIFT),
        ecn: word & ECN != 0,
    });
    Offload { partial, gso }
}

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
    #[error("a slot that is not there")]
    Slot,
    #[error("a mark that no frame has")]
    Mark,
    #[error("something left to do that this frame can't have")]
    Offload,
    #[error("a tail that is not there, or not its sender's to give")]
    Tail,
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

/// A region as this process sees it.
pub(crate) trait Region: Cells {
    /// A power of two.
    const SLOTS: usize;
    const SLOT_CELLS: usize;
}

impl Region for WriteMapping {
    const SLOTS: usize = SLOTS;
    const SLOT_CELLS: usize = SLOT_CELLS;
}

impl Region for ReadMapping {
    const SLOTS: usize = SLOTS;
    const SLOT_CELLS: usize = SLOT_CELLS;
}

/// The region that an end writes, shared with the tails that it has of the peer: when the last of them is gone, and the end,
/// the peer learns that it can have its memory back.
#[derive(Debug)]
pub(crate) struct Own<M: Region<Cell: Store> = WriteMapping>(M);

impl<M: Region<Cell: Store>> Own<M> {
    pub(crate) fn new(region: M) -> Arc<Self> {
        Arc::new(Self(region))
    }

    /// Gives tail `index` back to the peer.
    pub(crate) fn give_back(&self, index: u32) {
        give_back(&self.0, index);
    }
}

impl<M: Region<Cell: Store>> Drop for Own<M> {
    fn drop(&mut self) {
        // As long as it is mapped it has all cells: `End::new` has checked it.
        if let Some(cell) = self.0.cells().get(CLOSED) {
            M::fence(Ordering::Release);
            cell.store(1);
        }
    }
}

impl Cells for Arc<Own> {
    type Cell = AtomicU64;

    fn cells(&self) -> &[AtomicU64] {
        self.0.cells()
    }
}

impl Region for Arc<Own> {
    const SLOTS: usize = SLOTS;
    const SLOT_CELLS: usize = SLOT_CELLS;
}

/// Tells the peer that tail `index` of its memory is no longer read. Each tail that came once.
fn give_back(own: &impl Region<Cell: Store>, index: u32) {
    if let Some(cell) = own.cells().get(RETURNED)
        && index < u64::BITS
    {
        cell.toggle(1 << index);
    }
}

/// What the owner of a region says of the tails that it was given: bits that change as they come back. None when it has
/// none any more.
pub(crate) fn returned<P: Region>(peer: &P) -> Option<u64> {
    let returned = peer.cells()[RETURNED].load();
    let closed = peer.cells()[CLOSED].load();
    P::fence(Ordering::Acquire);
    (closed != 1).then_some(returned)
}

/// The tail that a slot's second cell names, if it can be one.
fn checked_tail(word: u64, offload: Offload) -> Result<Option<TailRef>, Corrupt> {
    if word == 0 {
        return Ok(None);
    }
    let len = word & u64::from(u32::MAX);
    let index = word >> TAIL_SHIFT;
    if offload.gso.is_none() || !(1..=TAIL_BYTES as u64).contains(&len) || index >= TAILS as u64 {
        return Err(Corrupt::Tail);
    }
    let small = |value: u64| u32::try_from(value).map_err(|_| Corrupt::Tail);
    Ok(Some(TailRef {
        index: small(index)?,
        len: small(len)?,
    }))
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
    /// Slots of no descriptor, the next to be used last.
    free: Vec<u16>,
    /// Slot of each descriptor in use, by its place.
    slots: Box<[u16]>,
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
        const { assert!(O::SLOT_CELLS == P::SLOT_CELLS && O::SLOT_CELLS > SLOT_HEADER) };
        const { assert!(O::SLOTS <= 1 << 15) };
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
            free: (0..u16::try_from(O::SLOTS).unwrap_or(u16::MAX))
                .rev()
                .collect(),
            slots: vec![0; O::SLOTS].into(),
        })
    }

    const LARGEST: usize = {
        let room = (O::SLOT_CELLS - SLOT_HEADER) * size_of::<u64>();
        if room < MAX_FRAME { room } else { MAX_FRAME }
    };

    /// Place of the descriptor with this number.
    fn place(number: u64) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the mask leaves less than SLOTS"
        )]
        let place = (number & (O::SLOTS as u64 - 1)) as usize;
        place
    }

    /// The cells of a slot, which must exist.
    fn slot(slot: u16) -> std::ops::Range<usize> {
        let start = first_slot(O::SLOTS) + usize::from(slot) * O::SLOT_CELLS;
        start..start + O::SLOT_CELLS
    }

    /// Takes back the slots of the frames that the peer has taken.
    fn collect(&mut self) -> Result<(), Corrupt> {
        let credit = self.peer.cells()[CONSUMED].load();
        P::fence(Ordering::Acquire);
        let taken = credit.wrapping_sub(self.credit);
        if taken > self.produced.wrapping_sub(self.credit) {
            return Err(Corrupt::Consumed);
        }
        for _ in 0..taken {
            self.free.push(self.slots[Self::place(self.credit)]);
            self.credit = self.credit.wrapping_add(1);
        }
        Ok(())
    }

    /// Sends one frame. It is visible to a peer that is awake at once, to one that sleeps after [`End::flush`].
    pub(crate) fn push(&mut self, head: &[u8], meta: Meta) -> Result<(), PushError> {
        if !(ETHERNET_HEADER..=Self::LARGEST).contains(&head.len()) {
            return Err(PushError::Size);
        }
        // Once per breath, so that slots are used again soon; and when there are none.
        if self.flushed == self.produced || self.free.is_empty() {
            self.collect().map_err(PushError::Corrupt)?;
        }
        let slot = self.free.pop().ok_or(PushError::Full)?;
        let cells = &self.own.cells()[Self::slot(slot)];
        let mut descriptor = head.len() as u64
            | u64::from(slot) << SLOT_SHIFT
            | u64::from(meta.mark.to_bits()) << MARK_SHIFT;
        if meta.offload != Offload::NONE || meta.tail.is_some() {
            descriptor |= OFFLOADED;
            cells[0].fill(pack_offload(meta.offload));
            cells[1].fill(meta.tail.map_or(0, |tail| {
                u64::from(tail.len) | u64::from(tail.index) << TAIL_SHIFT
            }));
        }
        for (cell, bytes) in cells[SLOT_HEADER..]
            .iter()
            .zip(head.chunks(size_of::<u64>()))
        {
            let mut word = [0; size_of::<u64>()];
            word[..bytes.len()].copy_from_slice(bytes);
            cell.fill(u64::from_ne_bytes(word));
        }
        let place = Self::place(self.produced);
        self.slots[place] = slot;
        self.own.cells()[DESCRIPTORS + place].fill(descriptor);
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

    /// Takes one frame, its head into `into` (at least [`MAX_FRAME`] bytes), and returns the head's length and what goes with
    /// it, or none when there is none. The slot is the peer's again after [`End::release`]; a tail only when it was given
    /// back.
    pub(crate) fn pop(&mut self, into: &mut [u8]) -> Result<Option<(usize, Meta)>, Corrupt> {
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
        let descriptor = self.peer.cells()[DESCRIPTORS + Self::place(self.consumed)].load();
        let len = usize::from(half(descriptor, 0));
        let slot = half(descriptor, SLOT_SHIFT);
        if !(ETHERNET_HEADER..=Self::LARGEST.min(into.len())).contains(&len) {
            return Err(Corrupt::Length);
        }
        if usize::from(slot) >= O::SLOTS {
            return Err(Corrupt::Slot);
        }
        let mut meta = Meta {
            mark: Mark::from_bits(half(descriptor, MARK_SHIFT)).ok_or(Corrupt::Mark)?,
            ..Meta::default()
        };
        if descriptor >= DESCRIPTOR_BITS {
            return Err(Corrupt::Offload);
        }
        let cells = &self.peer.cells()[Self::slot(slot)];
        let head = &mut into[..len];
        for (bytes, cell) in head.chunks_mut(size_of::<u64>()).zip(&cells[SLOT_HEADER..]) {
            let word = cell.load().to_ne_bytes();
            bytes.copy_from_slice(&word[..bytes.len()]);
        }
        if descriptor & OFFLOADED != 0 {
            let (offload, tail) = (cells[0].load(), cells[1].load());
            meta.offload = unpack_offload(offload);
            if offload >= OFFLOAD_BITS || !is_sound(meta.offload, head) {
                return Err(Corrupt::Offload);
            }
            meta.tail = checked_tail(tail, meta.offload)?;
        }
        self.consumed = self.consumed.wrapping_add(1);
        Ok(Some((len, meta)))
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

    /// The peer's region, for [`returned`].
    pub(crate) fn peer(&self) -> &P {
        &self.peer
    }

    /// The peer's region, of which only [`returned`] still matters.
    pub(crate) fn into_peer(self) -> P {
        self.peer
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

//! One Ethernet frame in memory, and the fixed stock it comes from.
//!
//! A [`Frame`] is a handle to one slot of a [`FramePool`]: moving it moves a pointer. The bytes lie behind
//! [`HEADROOM`] free bytes, so that a tunnel header can be put in front without copying. A slot holds any frame with an
//! IPv4 MTU up to [`MAX_FRAME`] − 14.
//!
//! ```text
//!   slot    headroom | head: the first bytes, with all headers, at most MAX_FRAME        tail: the rest of a superframe,
//!           + what is left to do (Offload) + tail                                        in memory of the port it came by
//! ```
//!
//! A superframe of an offload device has a [`Tail`] behind its head. [`Frame::bytes`] is the head, which every stage
//! works on; [`Frame::len`] counts both.
//!
//! Ownership: a frame is taken with [`FramePool::alloc`] and must end in [`FramePool::free`]. Dropping one elsewhere
//! leaks a slot from the pool's stock; [`FramePool::missing`] tells how many are out, and tests check that it is zero.

mod batch;
pub(crate) mod hold;
mod label;
mod offload;
mod pool;
mod superframe;
mod tail;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use core::fmt;

pub use batch::{BATCH_MAX, Batch, TxBatch};
pub(crate) use label::Label;
pub use offload::{Gso, GsoKind, Offload, Partial};
pub use pool::FramePool;
pub use tail::{Tail, TailStore};

use crate::config::PortId;
use crate::trace::Mark;

/// Free bytes kept in front of a received frame: two IPv4 headers without options and the alignment of the third.
pub const HEADROOM: usize = 64;

/// Largest frame a slot takes, bytes, Ethernet header included, FCS not.
pub const MAX_FRAME: usize = 2048 - HEADROOM;

const SLOT: usize = HEADROOM + MAX_FRAME;
const HEADROOM_U8: u8 = 64;
const _: () = assert!(HEADROOM_U8 as usize == HEADROOM);

/// A tunnel header was put in front of the packet in this router.
const ENCAPSULATED: u8 = 1;
/// A tunnel header was taken off the packet in this router.
const DECAPSULATED: u8 = 2;
/// The device had more bytes than the slot could take.
const CUT: u8 = 4;
/// The slot says what is left to do, or has a tail.
const OFFLOADED: u8 = 8;
/// What is left to do is to cut it. With [`OFFLOADED`].
const SUPERFRAME: u8 = 16;
/// Another worker of the node has received it.
const HANDED: u8 = 32;
/// That worker answers it. With [`HANDED`].
const HEARD: u8 = 64;
/// That worker leaves all to this one, whose it need not be. With [`HANDED`].
const LEFT: u8 = 128;

/// What a handle points to. Headers begin a cache line, and what is behind the bytes makes the distance between two slots an
/// odd number of lines, so that the headers of many frames spread over the cache's sets.
#[repr(C, align(64))]
struct Slot {
    bytes: [u8; SLOT],
    /// With offsets from the beginning of `bytes`, so that headers may come and go in front. Valid with [`OFFLOADED`].
    offload: Offload,
    /// Valid with [`OFFLOADED`]; none without.
    tail: Option<Tail>,
}

impl Slot {
    const fn new() -> Self {
        Self {
            bytes: [0; SLOT],
            offload: Offload::NONE,
            tail: None,
        }
    }
}

/// Handle to one frame. See the module for who may keep it. All but the pointer is one word, which is compared at once.
#[must_use = "a frame must go back to its pool"]
#[repr(C)]
pub struct Frame {
    slot: Box<Slot>,
    len: u16,
    port: PortId,
    /// As bits: a role, which is one of few, would be where `Option<Frame>` keeps its none, and a handle would be moved in
    /// pieces around it.
    mark: u16,
    start: u8,
    flags: u8,
}

// A handle is as small as a slice: the mark takes what was padding.
const _: () = assert!(size_of::<Frame>() == 16 && Mark::NONE.to_bits() == 0);

impl Frame {
    fn new(slot: Box<Slot>) -> Self {
        let mut frame = Self {
            slot,
            len: 0,
            port: PortId(u16::MAX),
            mark: 0,
            start: 0,
            flags: 0,
        };
        frame.reset();
        frame
    }

    /// Empty again, headroom full.
    pub fn reset(&mut self) {
        self.forget_offload();
        self.start = HEADROOM_U8;
        self.flags = 0;
        self.len = 0;
        self.port = PortId(u16::MAX);
        self.mark = 0;
    }

    /// The frame's bytes, from the destination MAC on, FCS not included. Of a superframe the head.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.slot.bytes[usize::from(self.start)..][..usize::from(self.len)]
    }

    /// The frame's bytes, to change in place.
    #[inline]
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.slot.bytes[usize::from(self.start)..][..usize::from(self.len)]
    }

    /// What its handle says.
    #[inline(always)]
    pub(crate) fn label(&self) -> Label {
        Label::new(self.len, self.port, self.mark, self.start, self.flags)
    }

    /// Asks for the first line of the frame's bytes, which will be read soon, if they begin where they were received.
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        crate::arch::prefetch(&self.slot.bytes[HEADROOM]);
    }

    /// `N` bytes from where frames are received on; the first of the frame, if its [label](Label::received) says that it
    /// begins there and is as long. None where a slot has not as many.
    #[inline(always)]
    pub(crate) fn received<const N: usize>(&self) -> Option<&[u8; N]> {
        self.slot.bytes[HEADROOM..].first_chunk()
    }

    /// [`received`](Self::received), to change in place.
    #[inline(always)]
    pub(crate) fn received_mut<const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        self.slot.bytes[HEADROOM..].first_chunk_mut()
    }

    /// The first `N` bytes; none of a shorter frame.
    #[inline]
    pub(crate) fn first<const N: usize>(&self) -> Option<&[u8; N]> {
        if usize::from(self.len) < N {
            return None;
        }
        self.slot.bytes[usize::from(self.start)..].first_chunk()
    }

    /// [`first`](Self::first), to change in place.
    #[inline]
    pub(crate) fn first_mut<const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        if usize::from(self.len) < N {
            return None;
        }
        self.slot.bytes[usize::from(self.start)..].first_chunk_mut()
    }

    /// Length in bytes, the tail of a superframe included.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.len) + self.tail().map_or(0, Tail::len)
    }

    /// Length in bytes of what [`Frame::bytes`] gives.
    #[inline]
    #[must_use]
    pub fn head_len(&self) -> usize {
        usize::from(self.len)
    }

    /// True when it has no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Port it was received on; `PortId(u16::MAX)` for a frame that the router made itself.
    #[must_use]
    pub fn port(&self) -> PortId {
        self.port
    }

    /// Says which port it was received on.
    pub fn set_port(&mut self, port: PortId) {
        self.port = port;
    }

    /// The mark of a traced frame; it stays when the content is replaced.
    #[must_use]
    #[inline]
    pub fn mark(&self) -> Mark {
        // It came from a mark.
        Mark::from_bits(self.mark).unwrap_or(Mark::NONE)
    }

    /// Marks the frame.
    pub fn set_mark(&mut self, mark: Mark) {
        self.mark = mark.to_bits();
    }

    /// Says that these bytes are only the beginning of what the device received: the router counts such a frame and drops
    /// it, whoever it was for.
    pub fn set_cut(&mut self) {
        self.flags |= CUT;
    }

    /// True for the beginning of a frame that no slot can hold.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.flags & CUT != 0
    }

    /// Takes over from the frame that this one is a piece or a copy of: the port it came by, its mark, and what was done
    /// to it, but not what is left to do.
    pub fn inherit(&mut self, from: &Self) {
        self.forget_offload();
        self.port = from.port;
        self.mark = from.mark;
        self.flags = from.flags & !(OFFLOADED | SUPERFRAME);
    }

    /// True when this router put a tunnel header in front: the outer packet is the router's own, the inner is not.
    pub(crate) fn is_encapsulated(&self) -> bool {
        self.flags & ENCAPSULATED != 0
    }

    pub(crate) fn set_encapsulated(&mut self) {
        self.flags |= ENCAPSULATED;
    }

    /// True when this router took a tunnel header off.
    pub(crate) fn is_decapsulated(&self) -> bool {
        self.flags & DECAPSULATED != 0
    }

    pub(crate) fn set_decapsulated(&mut self) {
        self.flags |= DECAPSULATED;
    }

    /// True when another worker of the node has received it and handed it over.
    pub(crate) fn is_handed(&self) -> bool {
        self.flags & HANDED != 0
    }

    pub(crate) fn set_handed(&mut self) {
        self.flags = self.flags & !LEFT | HANDED;
    }

    /// True when it was handed over by a worker that knew whose it is.
    pub(crate) fn is_known(&self) -> bool {
        self.flags & (HANDED | LEFT) == HANDED
    }

    pub(crate) fn set_left(&mut self) {
        self.flags |= HANDED | LEFT;
    }

    /// True when it was handed over for what can be learned from it alone.
    pub(crate) fn is_heard(&self) -> bool {
        self.flags & HEARD != 0
    }

    pub(crate) fn set_heard(&mut self) {
        self.flags |= HEARD;
    }

    /// Forgets what tunnels did to it: it leaves.
    pub(crate) fn forget_tunnels(&mut self) {
        self.flags &= OFFLOADED | SUPERFRAME;
    }

    /// Everything from the present start to the slot's end: what a device may read into, before [`Frame::set_len`].
    #[must_use]
    pub fn room_mut(&mut self) -> &mut [u8] {
        &mut self.slot.bytes[usize::from(self.start)..]
    }

    /// Sets the length of the head after [`Frame::room_mut`] was filled, or cuts its end. Longer than the room is cut to the room.
    pub fn set_len(&mut self, len: usize) {
        // Both bounds are below 2048, so the cast keeps the value.
        #[expect(clippy::cast_possible_truncation, reason = "bounded by SLOT = 2048")]
        let len = len.min(SLOT - usize::from(self.start)) as u16;
        self.len = len;
    }

    /// Replaces the content. Returns false, and changes nothing, when `bytes` does not fit behind the headroom.
    pub fn fill(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() > MAX_FRAME {
            return false;
        }
        self.forget_offload();
        self.start = HEADROOM_U8;
        self.room_mut()[..bytes.len()].copy_from_slice(bytes);
        self.set_len(bytes.len());
        true
    }

    /// Replaces the content by `parts`, one after the other. Returns false, and leaves it undefined, when they do not fit
    /// behind the headroom.
    pub fn assemble(&mut self, parts: &[&[u8]]) -> bool {
        self.forget_offload();
        self.start = HEADROOM_U8;
        let mut room = self.room_mut();
        let mut len = 0;
        for part in parts {
            let Some((place, rest)) = room.split_at_mut_checked(part.len()) else {
                return false;
            };
            place.copy_from_slice(part);
            len += part.len();
            room = rest;
        }
        self.set_len(len);
        true
    }

    /// Makes this a copy of `other`: bytes, headroom, port of arrival and mark. Neither the tail of a superframe nor what is
    /// left to do goes with it: cut and complete a frame before it is copied.
    pub fn copy_from(&mut self, other: &Self) {
        self.start = other.start;
        self.len = other.len;
        self.inherit(other);
        let bytes = self.bytes_mut();
        bytes.copy_from_slice(other.bytes());
    }

    /// Puts `n` bytes of undefined content in front, taken from the headroom. False, and no change, when it is used up.
    pub fn push_front(&mut self, n: usize) -> bool {
        match u8::try_from(n) {
            Ok(n) if n <= self.start => {
                self.start -= n;
                self.len += u16::from(n);
                true
            }
            _ => false,
        }
    }

    /// Takes `n` bytes off the front. False, and no change, when there are fewer, or when the frame would begin more than
    /// 255 bytes behind the start of its slot, which leaves room for three longest headers.
    pub fn pull_front(&mut self, n: usize) -> bool {
        match u8::try_from(n).map(|n| (n, self.start.checked_add(n))) {
            Ok((n, Some(start))) if u16::from(n) <= self.len => {
                self.start = start;
                self.len -= u16::from(n);
                true
            }
            _ => false,
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes from {:?})", self.len, self.port)
    }
}

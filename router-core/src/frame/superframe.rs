//! What is left to do to a frame, and the bytes behind its head.
//!
//! Cost: a frame without either says so in its flags, and nobody looks into its slot.

use super::{Frame, OFFLOADED, Offload, SUPERFRAME, Tail};

impl Frame {
    /// True when something is left to do, or when it has a tail.
    #[inline]
    #[must_use]
    pub fn is_offloaded(&self) -> bool {
        self.flags & OFFLOADED != 0
    }

    /// True when it is to be cut.
    #[inline]
    #[must_use]
    pub fn is_superframe(&self) -> bool {
        self.flags & SUPERFRAME != 0
    }

    /// Leaves out what is behind the first `len` bytes, of head and tail.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        if self.is_offloaded() && self.slot.tail.is_some() {
            return self.truncate_tail(len);
        }
        if len < self.head_len() {
            self.set_len(len);
        }
    }

    /// [`truncate`](Self::truncate), which gives the length that it had.
    pub(crate) fn trim(&mut self, len: usize) -> usize {
        let had = self.len();
        self.truncate(len);
        had
    }

    /// [`trim`](Self::trim) of a frame with nothing left to do that has `len` bytes.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "no longer than it was")]
    pub(crate) fn shorten(&mut self, len: usize) -> usize {
        debug_assert!(!self.is_offloaded() && len <= self.head_len());
        let had = self.head_len();
        self.len = len as u16;
        had
    }

    fn truncate_tail(&mut self, len: usize) {
        match (len.checked_sub(self.head_len()), &mut self.slot.tail) {
            (Some(left), Some(tail)) if left > 0 => tail.truncate(left),
            (left, tail) => {
                *tail = None;
                if left.is_none() {
                    self.set_len(len);
                }
            }
        }
    }

    /// What is left to do to it; offsets are from the frame's first byte. Nothing, unless a device said so.
    #[inline]
    #[must_use]
    pub fn offload(&self) -> Offload {
        if self.flags & OFFLOADED == 0 {
            return Offload::NONE;
        }
        self.slot
            .offload
            .moved(|at| at.wrapping_sub(u16::from(self.start)))
    }

    /// Says what is left to do to it. Offsets are from the frame's first byte, and stay with the bytes that they point to
    /// when something is put in front or taken off.
    pub fn set_offload(&mut self, offload: Offload) {
        self.slot.offload = offload.moved(|at| at.wrapping_add(u16::from(self.start)));
        self.flags &= !SUPERFRAME;
        self.flags |= OFFLOADED;
        if offload.gso.is_some() {
            self.flags |= SUPERFRAME;
        }
    }

    /// The bytes behind the head, of a superframe.
    #[inline]
    #[must_use]
    pub fn tail(&self) -> Option<&Tail> {
        if self.flags & OFFLOADED == 0 {
            return None;
        }
        self.slot.tail.as_ref()
    }

    /// Puts bytes behind the head. A tail that it had is given back.
    pub fn set_tail(&mut self, tail: Tail) {
        if self.flags & OFFLOADED == 0 {
            self.set_offload(Offload::NONE);
        }
        self.slot.tail = Some(tail);
    }

    /// Takes the bytes behind the head off, for whoever sends them on.
    pub fn take_tail(&mut self) -> Option<Tail> {
        if self.flags & OFFLOADED == 0 {
            return None;
        }
        self.slot.tail.take()
    }

    /// Copies `out.len()` bytes from byte `at` on, from head and tail. Bytes that it doesn't have are zero.
    pub fn read(&self, at: usize, out: &mut [u8]) {
        let head = self.bytes().get(at..).unwrap_or_default();
        let n = head.len().min(out.len());
        let (front, back) = out.split_at_mut(n);
        front.copy_from_slice(&head[..n]);
        match self.tail() {
            Some(tail) => tail.read((at + n).saturating_sub(self.head_len()), back),
            None => back.fill(0),
        }
    }

    /// It is as a wire would carry it again: nothing is left to do, and there is no tail.
    pub fn forget_offload(&mut self) {
        if self.flags & OFFLOADED != 0 {
            self.flags &= !(OFFLOADED | SUPERFRAME);
            self.slot.offload = Offload::NONE;
            self.slot.tail = None;
        }
    }
}

//! The memory in which a node's devices put the tails of superframes.
//!
//! Decides which tail is used next: the lowest free one, so that the few that are under way stay in the cache (decision 17)
//! and memory is committed only for as many as were ever under way at a time. A tail is free again when its last user drops
//! it, on whatever thread. The memory is a file of its own, which other node processes may map to read: what they are
//! lent is the fabric's affair.
//!
//! Bounded: [`TAILS`] of [`TAIL_BYTES`]. When none is free, [`Tails::take`] says none and a port hands in no superframe.
//!
//! Cost: an atomic operation to take one and one to give it back; no system call after the mapping.

use std::any::Any;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use router_core::frame::{Tail, TailStore};

use crate::cells::Store as _;
use crate::fabric::Borrowed;
use crate::sys::shm::{self, Stretch, StretchMut, WriteMapping};

/// Tails of one node: one for each bit of the words that account for them.
pub const TAILS: usize = 64;

/// Bytes of a tail: the longest superframe less its head fits.
pub const TAIL_BYTES: usize = 1 << 16;

const TAIL_CELLS: usize = TAIL_BYTES / size_of::<u64>();

/// Cells of the whole memory.
pub(crate) const TAILS_CELLS: usize = TAILS * TAIL_CELLS;

/// All tails of one node process.
#[derive(Debug)]
pub struct Tails {
    memory: WriteMapping,
    /// Bit n: tail n is free.
    free: AtomicU64,
}

impl Tails {
    /// New memory, all of it free. Nothing is committed until it is used.
    ///
    /// # Errors
    /// Out of descriptors or address space.
    pub fn new() -> io::Result<Arc<Self>> {
        Self::map(create()?)
    }

    /// The memory behind `fd`, which must be as [`create`] makes it.
    ///
    /// # Errors
    /// When it can't be mapped to be written or is not as long as it should be.
    pub(crate) fn map(fd: impl AsFd) -> io::Result<Arc<Self>> {
        let memory = WriteMapping::new(fd, TAILS_CELLS)?;
        Ok(Arc::new(Self {
            memory,
            free: AtomicU64::new(u64::MAX),
        }))
    }

    /// Number of tails that nobody uses.
    #[must_use]
    pub fn free(&self) -> u32 {
        self.free.load(Ordering::Relaxed).count_ones()
    }

    /// The lowest free tail, to be filled; none when all are in use.
    #[must_use]
    pub fn take(self: &Arc<Self>) -> Option<Spare> {
        loop {
            let free = self.free.load(Ordering::Relaxed);
            if free == 0 {
                return None;
            }
            let index = free.trailing_zeros();
            // Acquire: what its last user read is read before it is written again.
            let before = self.free.fetch_and(!(1 << index), Ordering::Acquire);
            if before & (1 << index) != 0 {
                return Some(Spare(Tail::new(
                    Arc::<Self>::clone(self),
                    index,
                    u32::try_from(TAIL_BYTES).expect("64 kB is a small number"),
                )));
            }
        }
    }

    /// The first `len` bytes of a tail, for a system call to read.
    pub(crate) fn stretch(&self, index: u32, len: usize) -> Option<Stretch<'_>> {
        self.memory.stretch(place(index, len)?, len)
    }

    fn stretch_mut(&self, index: u32) -> Option<StretchMut<'_>> {
        let at = place(index, TAIL_BYTES)?;
        self.memory.stretch_mut(at, TAIL_BYTES)
    }
}

/// The memory for [`Tails::map`], and for a peer to read.
///
/// # Errors
/// Out of descriptors or memory.
pub(crate) fn create() -> io::Result<OwnedFd> {
    shm::create("podwire-tails", TAILS_CELLS)
}

/// The content of a tail for a system call to read, where it lies in shared memory.
pub(crate) fn stretch_of(tail: &Tail) -> Option<Stretch<'_>> {
    let store = tail.store().as_any();
    let (index, len) = (tail.index(), tail.len());
    if let Some(own) = store.downcast_ref::<Tails>() {
        return own.stretch(index, len);
    }
    store.downcast_ref::<Borrowed>()?.stretch(index, len)
}

/// Where `len` bytes of a tail begin, if it has so many.
pub(crate) fn place(index: u32, len: usize) -> Option<usize> {
    let index = usize::try_from(index).ok()?;
    (index < TAILS && len <= TAIL_BYTES).then_some(index * TAIL_BYTES)
}

/// Copies from cells of shared memory, each of which is loaded once; bytes behind the end of the tail are zero.
pub(crate) fn copy_out(load: impl Fn(usize) -> u64, index: u32, at: usize, out: &mut [u8]) {
    let there = TAIL_BYTES.saturating_sub(at).min(out.len());
    let (out, beyond) = out.split_at_mut(there);
    beyond.fill(0);
    let Some(start) = place(index, 0) else {
        out.fill(0);
        return;
    };
    let cell = (start + at) / size_of::<u64>();
    let skip = at % size_of::<u64>();
    let (first, rest) =
        out.split_at_mut(out.len().min((size_of::<u64>() - skip) % size_of::<u64>()));
    if !first.is_empty() {
        first.copy_from_slice(&load(cell).to_ne_bytes()[skip..][..first.len()]);
    }
    let cell = cell + usize::from(skip != 0);
    for (n, bytes) in rest.chunks_mut(size_of::<u64>()).enumerate() {
        bytes.copy_from_slice(&load(cell + n).to_ne_bytes()[..bytes.len()]);
    }
}

impl TailStore for Tails {
    fn read(&self, index: u32, at: usize, out: &mut [u8]) {
        let cells = self.memory.cells();
        copy_out(|n| cells[n].load(Ordering::Relaxed), index, at, out);
    }

    fn release(&self, index: u32) {
        if index < u64::BITS {
            // Release: what was read of it was read before it is free.
            self.free.fetch_or(1 << index, Ordering::Release);
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A tail without content. Given back when dropped.
#[derive(Debug)]
pub struct Spare(Tail);

impl Spare {
    /// All of it, for a system call to write.
    #[must_use]
    pub fn stretch_mut(&self) -> Option<StretchMut<'_>> {
        let tails: &Tails = self.0.store().as_any().downcast_ref()?;
        tails.stretch_mut(self.0.index())
    }

    /// Copies the whole of another tail into it.
    #[must_use]
    pub fn copied(mut self, from: &Tail) -> Tail {
        let tails: Option<&Tails> = self.0.store().as_any().downcast_ref();
        if let (Some(tails), Some(at)) = (tails, place(self.0.index(), 0)) {
            let cells = &tails.memory.cells()[at / size_of::<u64>()..][..TAIL_CELLS];
            let mut bytes = [0; 4096];
            for (n, cells) in cells.chunks(bytes.len() / size_of::<u64>()).enumerate() {
                let at = n * bytes.len();
                if at >= from.len() {
                    break;
                }
                from.read(at, &mut bytes);
                for (cell, word) in cells.iter().zip(bytes.as_chunks().0) {
                    cell.fill(u64::from_ne_bytes(*word));
                }
            }
        }
        self.0.truncate(from.len());
        self.0
    }

    /// The tail with its first `len` bytes as content.
    #[must_use]
    pub fn filled(mut self, len: usize) -> Tail {
        self.0.truncate(len);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::sys::vectored;

    fn fill(spare: Spare, bytes: &[u8]) -> Tail {
        let (near, far) = UnixDatagram::pair().unwrap();
        near.send(bytes).unwrap();
        let read = vectored::read(far.as_fd(), &mut [], &mut [], spare.stretch_mut(), &mut []);
        spare.filled(read.unwrap())
    }

    #[test]
    fn the_lowest_free_tail_is_taken_until_none_is_left() {
        let tails = Tails::new().unwrap();
        let mut taken: Vec<_> = (0..TAILS).map(|_| tails.take().unwrap()).collect();
        let indices: Vec<_> = taken.iter().map(|s| s.0.index()).collect();
        assert!(indices.iter().copied().eq(0..64));
        assert!(tails.take().is_none());
        assert_eq!(tails.free(), 0);
        drop(taken.remove(40));
        drop(taken.remove(7));
        assert_eq!(tails.take().unwrap().0.index(), 7, "and it is given back");
        assert_eq!(tails.free(), 2);
        drop(taken);
        assert_eq!(tails.free(), 64);
    }

    #[test]
    fn what_a_device_wrote_is_read_from_any_byte_and_zero_behind_its_end() {
        let tails = Tails::new().unwrap();
        let _first = tails.take().unwrap();
        let content: Vec<u8> = (0..=255).cycle().take(40_000).collect();
        let tail = fill(tails.take().unwrap(), &content);
        assert_eq!((tail.index(), tail.len()), (1, 40_000));
        for (at, len) in [(0, 40_000), (1, 7), (3, 2), (7, 9), (8, 64), (39_990, 10)] {
            let mut out = vec![0xa5; len];
            tail.read(at, &mut out);
            assert_eq!(out, content[at..at + len], "{len} bytes from {at} on");
        }
        let mut out = [0xa5; 12];
        tail.read(39_995, &mut out);
        assert_eq!(out[..5], content[39_995..]);
        assert_eq!(out[5..], [0; 7]);
        let stretch = tails.stretch(1, TAIL_BYTES + 1);
        assert!(stretch.is_none());
        assert!(tails.stretch(64, 1).is_none());
    }

    /// Frames wander between workers, and their tails with them.
    #[test]
    fn threads_never_have_the_same_tail() {
        let tails = Tails::new().unwrap();
        std::thread::scope(|scope| {
            for tag in 1..=3 {
                let tails = &tails;
                scope.spawn(move || {
                    let content = Tail::on_heap(&[tag; 700]);
                    let mut out = [0; 700];
                    for _ in 0..300 {
                        let tail = tails.take().expect("three of many").copied(&content);
                        tail.read(0, &mut out);
                        assert_eq!(out, [tag; 700]);
                    }
                });
            }
        });
        assert_eq!(tails.free(), 64);
    }

    #[test]
    fn a_copy_is_a_tail_of_its_own() {
        let tails = Tails::new().unwrap();
        let content: Vec<u8> = (1..=255).cycle().take(10_001).collect();
        let copy = tails.take().unwrap().copied(&Tail::on_heap(&content));
        let mut out = vec![0; 10_001];
        copy.read(0, &mut out);
        assert_eq!((copy.len(), out), (10_001, content));
        drop(copy);
        assert_eq!(tails.free(), 64);
    }
}

//! The bytes of a superframe behind its head, in memory that belongs to a port.
//!
//! Decides nothing: the router reads headers, and these are in the head. The payload stays where the device wrote it,
//! perhaps in another process's memory, until a port hands it to its own device. That memory may change under a reader's
//! eyes when its owner is hostile; so nobody gets a reference to it, only copies, and nothing is decided on them.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;
use core::fmt;

/// Memory for the tails of frames.
pub trait TailStore: fmt::Debug + Send + Sync {
    /// Copies `out.len()` bytes from byte `at` of tail `index` on. Bytes that the tail doesn't have are zero.
    fn read(&self, index: u32, at: usize, out: &mut [u8]);

    /// The last user of tail `index` is done.
    fn release(&self, index: u32);

    /// For a port that looks for memory of its own kind.
    fn as_any(&self) -> &dyn Any;
}

/// One tail in use. Given back to its store when dropped.
#[derive(Debug)]
pub struct Tail {
    store: Arc<dyn TailStore>,
    index: u32,
    len: u32,
}

impl Tail {
    /// The first `len` bytes of tail `index` of `store`, which the caller has taken out of it.
    #[must_use]
    pub fn new(store: Arc<dyn TailStore>, index: u32, len: u32) -> Self {
        Self { store, index, len }
    }

    /// A tail in memory of its own, for tests and for whoever has no store. Allocates.
    #[must_use]
    pub fn on_heap(bytes: &[u8]) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "cut to what a tail can be")]
        let len = bytes.len().min(u32::MAX as usize) as u32;
        Self::new(Arc::new(Heap(bytes.into())), 0, len)
    }

    /// Its store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn TailStore> {
        &self.store
    }

    /// Its number in the store.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Bytes in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// True without a byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Leaves out what is behind the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(u32::try_from(len).unwrap_or(u32::MAX));
    }

    /// Copies `out.len()` bytes from byte `at` on. Bytes that it doesn't have are zero.
    pub fn read(&self, at: usize, out: &mut [u8]) {
        let there = self.len().saturating_sub(at).min(out.len());
        let (out, beyond) = out.split_at_mut(there);
        self.store.read(self.index, at, out);
        beyond.fill(0);
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.store.release(self.index);
    }
}

#[derive(Debug)]
struct Heap(Box<[u8]>);

impl TailStore for Heap {
    fn read(&self, _: u32, at: usize, out: &mut [u8]) {
        let there = self.0.get(at..).unwrap_or_default();
        let n = there.len().min(out.len());
        out[..n].copy_from_slice(&there[..n]);
        out[n..].fill(0);
    }

    fn release(&self, _: u32) {}

    fn as_any(&self) -> &dyn Any {
        self
    }
}

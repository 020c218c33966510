//! Cells of memory that two ends share, as the protocols over them see it.
//!
//! Decides nothing. Lets the same protocol run on shared memory, on the heap (tests), and on the model checker's memory, whose
//! fences are its own. All loads and stores are relaxed; fences do the rest.
//!
//! Under the thread sanitizer (`--cfg tsan`, see `scripts/sanitize`) [`fill`](Store::fill) is a store that is not atomic: it
//! goes to cells that the other end has no business with yet, so whoever loads one without coming behind it is reported.
//!
//! Cost: none; all of it is compiled into the caller.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::sys::shm::{ReadCell, ReadMapping, WriteMapping};

/// A cell that can be read.
pub(crate) trait Load {
    fn load(&self) -> u64;
}

/// A cell that can be written too.
pub(crate) trait Store: Load {
    /// While the other end may look.
    fn store(&self, value: u64);

    /// While it may not: before the fence and the [`store`](Self::store) that hand the cell over.
    fn fill(&self, value: u64) {
        self.store(value);
    }

    /// Changes these bits, behind everything that was read before.
    fn toggle(&self, bits: u64);
}

/// Cells, the same for as long as the value lives.
pub(crate) trait Cells {
    type Cell: Load;

    fn cells(&self) -> &[Self::Cell];

    fn fence(order: Ordering) {
        fence(order);
    }
}

impl Load for AtomicU64 {
    #[inline]
    fn load(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }
}

impl Store for AtomicU64 {
    #[inline]
    fn store(&self, value: u64) {
        self.store(value, Ordering::Relaxed);
    }

    #[cfg(tsan)]
    fn fill(&self, value: u64) {
        crate::sys::shm::store_plainly(self, value);
    }

    #[inline]
    fn toggle(&self, bits: u64) {
        self.fetch_xor(bits, Ordering::Release);
    }
}

impl Load for ReadCell {
    #[inline]
    fn load(&self) -> u64 {
        self.load()
    }
}

impl Cells for WriteMapping {
    type Cell = AtomicU64;

    #[inline]
    fn cells(&self) -> &[AtomicU64] {
        self.cells()
    }
}

impl Cells for ReadMapping {
    type Cell = ReadCell;

    #[inline]
    fn cells(&self) -> &[ReadCell] {
        self.cells()
    }
}

#[cfg(test)]
pub(crate) mod heap;
#[cfg(all(test, loom))]
pub(crate) mod model;

//! Cells on the heap, at one address for both ends and for the test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Cells;

#[derive(Clone, Debug)]
pub(crate) struct Heap(pub(crate) Arc<[AtomicU64]>);

impl Heap {
    /// So many zeros.
    pub(crate) fn new(cells: usize) -> Self {
        Self((0..cells).map(|_| AtomicU64::new(0)).collect())
    }

    pub(crate) fn set(&self, cell: usize, value: u64) {
        self.0[cell].store(value, Ordering::Relaxed);
    }
}

impl Cells for Heap {
    type Cell = AtomicU64;

    fn cells(&self) -> &[AtomicU64] {
        &self.0
    }
}

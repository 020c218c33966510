//! The fixed stock of frames of one thread.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{Frame, Slot};

/// A fixed number of frame slots, handed out last-in-first-out so that the same few stay in the cache (decision 17).
///
/// Never grows: an empty pool is a normal event that the caller counts. `alloc` and `free` are a push and a pop.
#[derive(Debug)]
pub struct FramePool {
    free: Vec<Frame>,
    capacity: usize,
}

impl FramePool {
    /// A pool of `capacity` slots of 2 kB, all allocated now.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let free = (0..capacity)
            .map(|_| Frame::new(Box::new(Slot::new())))
            .collect();
        Self { free, capacity }
    }

    /// Number of slots in all.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Number of slots that [`FramePool::alloc`] can hand out now.
    #[must_use]
    pub fn available(&self) -> usize {
        self.free.len()
    }

    /// Number of slots that are out.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.capacity - self.free.len()
    }

    /// An empty frame, or none when all are out.
    pub fn alloc(&mut self) -> Option<Frame> {
        self.free.pop()
    }

    /// Takes a frame back. One that came from another pool is dropped rather than let this pool grow.
    pub fn free(&mut self, mut frame: Frame) {
        if self.free.len() < self.capacity {
            frame.reset();
            self.free.push(frame);
        }
    }
}

//! Bounded lists of frames: what a port hands in, and what a router hands out.

use alloc::vec::{self, Vec};

use super::{Frame, FramePool};
use crate::config::PortId;

/// Most frames that one [`Batch`] carries.
pub const BATCH_MAX: usize = 256;

/// Up to [`BATCH_MAX`] frames in order of arrival. Allocates once, at its making.
#[derive(Debug)]
pub struct Batch {
    frames: Vec<Frame>,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self {
            frames: Vec::with_capacity(BATCH_MAX),
        }
    }

    /// Number of frames in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// True without frames.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Room left.
    #[must_use]
    pub fn room(&self) -> usize {
        BATCH_MAX - self.frames.len()
    }

    /// Appends a frame.
    ///
    /// # Errors
    /// Gives the frame back when the batch is full.
    pub fn push(&mut self, frame: Frame) -> Result<(), Frame> {
        if self.frames.len() == BATCH_MAX {
            return Err(frame);
        }
        self.frames.push(frame);
        Ok(())
    }

    /// Appends frames until the batch is full, which takes no more from `frames` than there is room for.
    pub fn fill_from(&mut self, frames: &mut impl Iterator<Item = Frame>) {
        let room = self.room();
        self.frames.extend(frames.take(room));
    }

    /// The frames, first arrived first.
    pub fn as_slice(&self) -> &[Frame] {
        &self.frames
    }

    /// The frames, to change in place: whoever fills a batch says there by which port each came.
    pub fn as_mut_slice(&mut self) -> &mut [Frame] {
        &mut self.frames
    }

    /// Takes all frames out, first arrived first.
    pub fn drain(&mut self) -> vec::Drain<'_, Frame> {
        self.frames.drain(..)
    }

    /// Gives every frame back to `pool`.
    pub fn free_all(&mut self, pool: &mut FramePool) {
        for frame in self.frames.drain(..) {
            pool.free(frame);
        }
    }
}

/// Frames on their way out, each with its egress port, in the order in which the router finished them.
///
/// As every frame comes from one pool, a capacity of the pool's size can never be exceeded.
#[derive(Debug)]
pub struct TxBatch {
    /// As many as frames.
    ports: Vec<PortId>,
    frames: Vec<Frame>,
}

impl TxBatch {
    /// A list for frames of a pool of `capacity` slots.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            ports: Vec::with_capacity(capacity),
            frames: Vec::with_capacity(capacity),
        }
    }

    /// Appends a frame that leaves by `port`.
    #[inline]
    pub fn push(&mut self, port: PortId, frame: Frame) {
        self.ports.push(port);
        self.frames.push(frame);
    }

    /// Appends the first `n` frames of a batch, or all if there are fewer, which leave by these ports.
    pub(crate) fn append(&mut self, ports: &[PortId], batch: &mut Batch, n: usize) {
        let n = n.min(ports.len()).min(batch.len());
        self.ports.extend_from_slice(&ports[..n]);
        if n == batch.len() {
            // One copy of handles.
            self.frames.append(&mut batch.frames);
        } else {
            self.frames.extend(batch.frames.drain(..n));
        }
    }

    /// Number of frames in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// True without frames.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Egress port and frame, in order.
    pub fn iter(&self) -> impl Iterator<Item = (PortId, &Frame)> {
        self.ports.iter().copied().zip(&self.frames)
    }

    /// Takes all frames out, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = (PortId, Frame)> {
        self.ports.drain(..).zip(self.frames.drain(..))
    }

    /// Gives every frame back to `pool`.
    pub fn free_all(&mut self, pool: &mut FramePool) {
        self.ports.clear();
        for frame in self.frames.drain(..) {
            pool.free(frame);
        }
    }
}

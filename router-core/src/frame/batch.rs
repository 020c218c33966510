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
    /// As many as frames, but for those that were named ahead.
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

    /// Names the ports that the first frames of a batch leave by, before these are [taken](Self::take_named).
    pub(crate) fn name_ports(&mut self, ports: &[PortId]) {
        self.ports.extend_from_slice(ports);
    }

    /// Takes as many frames of a batch, from the first on, as ports were [named](Self::name_ports).
    pub(crate) fn take_named(&mut self, batch: &mut Batch) {
        let named = self.ports.len() - self.frames.len();
        move_first(named.min(batch.len()), &mut batch.frames, &mut self.frames);
        self.ports.truncate(self.frames.len());
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

    /// Puts the first frames into `batch`, as many as it has room for, whichever ports they leave by.
    pub fn hand_to(&mut self, batch: &mut Batch) {
        let n = batch.room().min(self.len());
        self.ports.drain(..n);
        move_first(n, &mut self.frames, &mut batch.frames);
    }

    /// Gives every frame back to `pool`.
    pub fn free_all(&mut self, pool: &mut FramePool) {
        self.ports.clear();
        for frame in self.frames.drain(..) {
            pool.free(frame);
        }
    }
}

/// Appends the first `n` frames of a list to another: in one copy of handles, if they are all.
fn move_first(n: usize, from: &mut Vec<Frame>, to: &mut Vec<Frame>) {
    if n == from.len() {
        to.append(from);
    } else {
        to.extend(from.drain(..n));
    }
}

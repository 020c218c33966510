//! Dropped frames, kept with their reason until somebody has looked at them: what a capture shows of drops.
//!
//! Decides how many are kept: [`KEPT_MAX`] at a time, and none when less than a quarter of the pool is left, lest keeping
//! them makes more drops. Doesn't decide anything else: every frame was counted before it comes here, and goes back to
//! its pool from here.
//!
//! Cost: one comparison per dropped frame while nobody wants them; nothing for all others. Memory is taken once, at the
//! beginning.

use alloc::vec::Vec;

use crate::frame::{Frame, FramePool};
use crate::stats::DropReason;

/// Frames that are kept at a time: as many as a batch has.
pub const KEPT_MAX: usize = 256;

/// Where dropped frames go. See the module.
#[derive(Debug, Default)]
pub(super) struct Kept {
    frames: Vec<(Frame, DropReason)>,
    /// Room is there exactly while somebody wants them.
    wanted: bool,
    lost: u64,
}

impl Kept {
    pub(super) fn set_wanted(&mut self, wanted: bool, pool: &mut FramePool) {
        if !wanted {
            self.frames
                .drain(..)
                .for_each(|(frame, _)| pool.free(frame));
            self.frames = Vec::new();
        } else if !self.wanted {
            self.frames = Vec::with_capacity(KEPT_MAX);
        }
        self.wanted = wanted;
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// The end of a frame that was counted as dropped.
    #[inline]
    pub(super) fn end(&mut self, frame: Frame, reason: DropReason, pool: &mut FramePool) {
        if self.wanted {
            self.keep(frame, reason, pool);
        } else {
            pool.free(frame);
        }
    }

    #[cold]
    #[inline(never)]
    fn keep(&mut self, frame: Frame, reason: DropReason, pool: &mut FramePool) {
        if self.frames.len() < KEPT_MAX && pool.available() > pool.capacity() / 4 {
            self.frames.push((frame, reason));
        } else {
            self.lost += 1;
            pool.free(frame);
        }
    }

    pub(super) fn look(
        &mut self,
        pool: &mut FramePool,
        mut look: impl FnMut(&Frame, DropReason),
    ) -> u64 {
        for (frame, reason) in self.frames.drain(..) {
            look(&frame, reason);
            pool.free(frame);
        }
        core::mem::take(&mut self.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Recorder;

    fn drop_one(recorder: &mut Recorder, pool: &mut FramePool, byte: u8) {
        let mut frame = pool.alloc().unwrap();
        assert!(frame.fill(&[byte; 60]));
        recorder.end(frame, DropReason::NoRoute, pool);
    }

    fn seen(recorder: &mut Recorder, pool: &mut FramePool) -> (Vec<u8>, u64) {
        let mut bytes = Vec::new();
        let lost = recorder.look_at_drops(pool, |frame, reason| {
            assert_eq!(reason, DropReason::NoRoute);
            bytes.push(frame.bytes()[0]);
        });
        (bytes, lost)
    }

    #[test]
    fn drops_are_kept_in_order_only_while_wanted_and_go_back_to_the_pool() {
        let mut recorder = Recorder::default();
        let mut pool = FramePool::new(8);
        drop_one(&mut recorder, &mut pool, 1);
        assert_eq!(pool.missing(), 0);
        recorder.want_drops(true, &mut pool);
        assert!(recorder.wants_drops());
        drop_one(&mut recorder, &mut pool, 2);
        drop_one(&mut recorder, &mut pool, 3);
        assert_eq!(pool.missing(), 2);
        assert_eq!(seen(&mut recorder, &mut pool), (alloc::vec![2, 3], 0));
        assert_eq!(pool.missing(), 0);
        drop_one(&mut recorder, &mut pool, 4);
        recorder.want_drops(false, &mut pool);
        assert_eq!(pool.missing(), 0);
        assert_eq!(seen(&mut recorder, &mut pool), (Vec::new(), 0));
    }

    #[test]
    fn a_quarter_of_the_pool_is_left_alone_and_the_rest_is_counted() {
        let mut recorder = Recorder::default();
        let mut pool = FramePool::new(8);
        recorder.want_drops(true, &mut pool);
        for byte in 0..10 {
            drop_one(&mut recorder, &mut pool, byte);
        }
        // The frame at hand is not in the pool when it is judged.
        assert_eq!(pool.available(), 3);
        assert_eq!(seen(&mut recorder, &mut pool), ((0..5).collect(), 5));

        let mut pool = FramePool::new(1024);
        for _ in 0..KEPT_MAX + 5 {
            drop_one(&mut recorder, &mut pool, 9);
        }
        let (frames, lost) = seen(&mut recorder, &mut pool);
        assert_eq!((frames.len(), lost), (KEPT_MAX, 5));
        assert_eq!(pool.missing(), 0);
    }
}

//! Where steps are kept until they are collected.

use alloc::vec::Vec;
use core::fmt;

use super::kept::Kept;
use super::{Mark, Step};
use crate::frame::{Frame, FramePool};
use crate::stats::DropReason;
use crate::time::Instant;

/// Traces that may be armed at a time.
pub const ARMED_MAX: usize = 16;

/// Steps that one trace keeps.
pub const STEPS_MAX: usize = 512;

/// One decision about a marked frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Record {
    /// Time of the batch.
    pub at: Instant,
    /// The frame's mark.
    pub mark: Mark,
    /// What was decided.
    pub step: Step,
}

/// What a router has recorded of one trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Trace {
    /// In the order in which it happened.
    pub records: Vec<Record>,
    /// Steps that were not kept because [`STEPS_MAX`] had come before.
    pub lost: u64,
}

/// Every trace number that may be used at once is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyTraces;

impl fmt::Display for TooManyTraces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ARMED_MAX} traces are under way already")
    }
}

impl core::error::Error for TooManyTraces {}

/// The steps of the armed traces. Memory is taken by [`Recorder::arm`] and given back by [`Recorder::disarm`].
#[derive(Debug, Default)]
pub struct Recorder {
    now: Instant,
    armed: Vec<(u8, Trace)>,
    dropped: Kept,
}

impl Recorder {
    /// Records frames with the number `trace` from now on. An armed one begins anew.
    ///
    /// # Errors
    /// When [`ARMED_MAX`] others are armed; nothing has changed then.
    pub fn arm(&mut self, trace: u8) -> Result<(), TooManyTraces> {
        self.disarm(trace);
        if self.armed.len() == ARMED_MAX {
            return Err(TooManyTraces);
        }
        let records = Vec::with_capacity(STEPS_MAX);
        self.armed.push((trace, Trace { records, lost: 0 }));
        Ok(())
    }

    /// True while any trace is.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        !self.armed.is_empty()
    }

    /// What has been recorded so far; none when the trace is not armed.
    #[must_use]
    pub fn get(&self, trace: u8) -> Option<&Trace> {
        self.armed.iter().find(|(t, _)| *t == trace).map(|(_, t)| t)
    }

    /// Ends a trace and returns what was recorded.
    pub fn disarm(&mut self, trace: u8) -> Option<Trace> {
        let at = self.armed.iter().position(|(t, _)| *t == trace)?;
        Some(self.armed.swap_remove(at).1)
    }

    /// Records what `step` says if the frame is marked.
    #[inline]
    pub fn step(&mut self, mark: Mark, step: impl FnOnce() -> Step) {
        if mark.is_set() {
            self.record(mark, step);
        }
    }

    /// As [`Recorder::step`], for a stage that may have had nothing to decide.
    #[inline]
    pub(crate) fn step_if(&mut self, mark: Mark, step: impl FnOnce() -> Option<Step>) {
        if mark.is_set()
            && let Some(step) = step()
        {
            self.record(mark, || step);
        }
    }

    #[cold]
    #[inline(never)]
    fn record(&mut self, mark: Mark, step: impl FnOnce() -> Step) {
        let at = self.now;
        let Some((_, trace)) = self.armed.iter_mut().find(|(t, _)| *t == mark.trace()) else {
            return;
        };
        if trace.records.len() < STEPS_MAX {
            let step = step();
            trace.records.push(Record { at, mark, step });
        } else {
            trace.lost += 1;
        }
    }

    /// Keeps dropped frames from now on, or no longer.
    pub fn want_drops(&mut self, wanted: bool, pool: &mut FramePool) {
        self.dropped.set_wanted(wanted, pool);
    }

    /// True while dropped frames are kept.
    #[must_use]
    pub fn wants_drops(&self) -> bool {
        self.dropped.is_wanted()
    }

    /// Shows every frame that was dropped since the last call, in order, and frees it. Returns how many others were
    /// dropped and not kept, for want of room.
    pub fn look_at_drops(
        &mut self,
        pool: &mut FramePool,
        look: impl FnMut(&Frame, DropReason),
    ) -> u64 {
        self.dropped.look(pool, look)
    }

    /// The end of a frame that was counted as dropped: the pool, now or when somebody has looked at it.
    #[inline]
    pub(crate) fn end(&mut self, frame: Frame, reason: DropReason, pool: &mut FramePool) {
        self.dropped.end(frame, reason, pool);
    }

    /// The time of the steps that follow.
    pub(crate) fn set_now(&mut self, now: Instant) {
        self.now = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_armed_marks_are_recorded_and_the_first_steps_are_kept() {
        let mut recorder = Recorder::default();
        recorder.step(Mark::new(1), || unreachable!("not armed"));
        recorder.arm(1).unwrap();
        recorder.step(Mark::NONE, || unreachable!("not marked"));
        recorder.step(Mark::new(2), || unreachable!("not armed"));
        for _ in 0..STEPS_MAX + 3 {
            recorder.step(Mark::new(1).error(), || Step::Consumed);
        }
        let trace = recorder.disarm(1).unwrap();
        assert_eq!((trace.records.len(), trace.lost), (STEPS_MAX, 3));
        assert!(recorder.get(1).is_none());
    }

    #[test]
    fn arming_again_begins_anew_and_the_number_of_traces_is_bounded() {
        let mut recorder = Recorder::default();
        for trace in 1..=16 {
            recorder.arm(trace).unwrap();
        }
        assert_eq!(recorder.arm(17), Err(TooManyTraces));
        recorder.step(Mark::new(3), || Step::Consumed);
        assert_eq!(recorder.get(3).unwrap().records.len(), 1);
        recorder.arm(3).unwrap();
        assert_eq!(recorder.get(3), Some(&Trace::default()));
    }
}

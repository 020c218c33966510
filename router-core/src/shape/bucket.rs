//! A token bucket in whole numbers.
//!
//! The level is kept in billionths of a byte, so that a nanosecond adds exactly the rate in bytes per second and nothing
//! is ever rounded away: over any time, what was let through is at most the burst and the rate times that time, and no
//! less than that when there was enough to send.
//!
//! Cost: a multiplication for each frame; a division when one has to wait.

use core::time::Duration;

use crate::config::Rate;
use crate::time::Instant;

/// Billionths in a byte.
const UNIT: u64 = 1_000_000_000;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// Bytes per second.
    rate: u64,
    /// When full.
    full: u64,
    /// At `at`.
    level: u64,
    at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(rate: &Rate, now: Instant) -> Self {
        let full = u64::from(rate.burst) * UNIT;
        Self {
            rate: rate.rate,
            full,
            level: full,
            at: now,
        }
    }

    /// With another rate and burst, and what is in it, as far as it holds that.
    pub(super) fn with(mut self, rate: &Rate, now: Instant) -> Self {
        self.fill(now);
        let new = Self::new(rate, now);
        Self {
            level: self.level.min(new.full),
            ..new
        }
    }

    /// Takes the bytes of a frame out, if there are so many.
    pub(super) fn take(&mut self, now: Instant, len: usize) -> bool {
        self.fill(now);
        let left = self.level.checked_sub(cost(len));
        self.level = left.unwrap_or(self.level);
        left.is_some()
    }

    /// True when a frame of this length ever passes.
    pub(super) fn holds(&self, len: usize) -> bool {
        cost(len) <= self.full
    }

    /// From when on there will be so many bytes, if none are taken meanwhile.
    pub(super) fn ready_at(&self, len: usize) -> Instant {
        let missing = cost(len).saturating_sub(self.level);
        self.at + Duration::from_nanos(missing.div_ceil(self.rate.max(1)))
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.as_nanos().saturating_sub(self.at.as_nanos());
        let missing = self.full - self.level;
        // No more than it takes: the product is at most `missing` and one nanosecond's worth.
        let useful = elapsed.min(missing.div_ceil(self.rate.max(1)));
        let added = useful.saturating_mul(self.rate);
        self.level += added.min(missing);
        self.at = self.at.max(now);
    }
}

/// A frame's bytes in billionths. Frames are shorter than 16 GB.
fn cost(len: usize) -> u64 {
    (len as u64).saturating_mul(UNIT)
}

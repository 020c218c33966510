//! Impairments of one direction of a port: delay, jitter, loss, rate, duplicates, reordering, corruption.
//!
//! Decides what becomes of each frame and when it goes on, by netem's rules and in netem's order: duplicate, lose, corrupt,
//! limit, then the time. Doesn't read a clock: time is an argument, and the same seed with the same calls gives the same
//! result. Doesn't know ports: [`Layered`](super::Layered) feeds it.
//!
//! ```text
//!   frame ─► twice? ─► lost? ─► corrupt? ─► room? ─► when? ──────────────────────► queue by time ─► frame
//!                        │                   │        out of turn (reorder): at once
//!                       lost              dropped
//! ```
//!
//! What waits lies in frames of this queue's own: a frame that comes in is exchanged for an empty one, so that a long delay
//! doesn't use up the node's pool. Every frame is in the books:
//! `received + duplicated + split = sent + lost + dropped + held` ([`Counters::check`]).
//!
//! Superframes of TCP are delayed whole; the rate counts the bytes of their segments. To be duplicated or corrupted they are
//! cut first, as by netem, because a checksum that is still open would cover up the damage. Those of UDP are always cut.
//!
//! Differs from netem: no correlations, loss models, slots or `gap`; a bit is flipped in the head of a frame; jitter that is
//! larger than the delay ends at a delay of zero.
//!
//! Source: tc-netem(8), Linux `net/sched/sch_netem.c`, iproute2 `netem/pareto.c`. Cost: without anything set one comparison;
//! else a few random numbers, and a heap's log n per frame. Bounded by [`Impairment::limit`].

mod queue;
mod random;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use queue::{Counters, Queue};

/// Frames that may wait unless said otherwise, as for netem.
pub const DEFAULT_LIMIT: u32 = 1000;

/// Most frames that may wait: 200 MB of them.
pub const MAX_LIMIT: u32 = 100_000;

/// How likely something is: parts of 2^32 - 1, as for netem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Probability(pub u32);

impl Probability {
    /// Never.
    pub const NEVER: Self = Self(0);
    /// Always.
    pub const ALWAYS: Self = Self(u32::MAX);

    /// From parts of one; what is outside 0 to 1 is the nearest.
    #[must_use]
    pub fn new(of_one: f64) -> Self {
        // The cast saturates, and a NaN is 0.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "casts of floats saturate"
        )]
        Self((of_one * f64::from(u32::MAX)).round() as u32)
    }

    /// In parts of one.
    #[must_use]
    pub fn of_one(self) -> f64 {
        f64::from(self.0) / f64::from(u32::MAX)
    }
}

/// How jitter is distributed around the delay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Distribution {
    /// Everything from delay - jitter to delay + jitter is as likely.
    #[default]
    Uniform,
    /// Jitter is the standard deviation; cut at four of them.
    Normal,
    /// Long delays are seldom, but far away.
    Pareto,
}

/// What is done to frames in one direction. The default: nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Impairment {
    /// How long each frame is on its way.
    pub delay: Duration,
    /// By how much that varies.
    pub jitter: Duration,
    /// How it varies.
    pub distribution: Distribution,
    /// Frames that vanish.
    pub loss: Probability,
    /// Frames that come twice.
    pub duplicate: Probability,
    /// Frames that have one bit wrong.
    pub corrupt: Probability,
    /// Frames that are not delayed and so overtake others.
    pub reorder: Probability,
    /// Bits per second, Ethernet header included; 0 is no limit.
    pub rate: u64,
    /// Frames that may wait; the next is dropped.
    pub limit: u32,
    /// Where the random numbers begin; the same one gives the same ones.
    pub seed: u64,
}

impl Default for Impairment {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            distribution: Distribution::default(),
            loss: Probability::NEVER,
            duplicate: Probability::NEVER,
            corrupt: Probability::NEVER,
            reorder: Probability::NEVER,
            rate: 0,
            limit: DEFAULT_LIMIT,
            seed: 0,
        }
    }
}

impl Impairment {
    /// True when frames pass as if there were nothing.
    #[must_use]
    pub fn is_none(&self) -> bool {
        let Self {
            delay,
            jitter,
            loss,
            duplicate,
            corrupt,
            rate,
            // Without a delay there is no turn to be out of; the rest are words about the others.
            reorder: _,
            distribution: _,
            limit: _,
            seed: _,
        } = *self;
        delay.is_zero()
            && jitter.is_zero()
            && rate == 0
            && [loss, duplicate, corrupt] == [Probability::NEVER; 3]
    }
}

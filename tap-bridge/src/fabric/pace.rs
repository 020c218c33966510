//! A token bucket: at most so many events per second, after a burst.
//!
//! Decides whether an event may happen now. Reads no clock. Cost: one multiplication.

use std::time::Duration;

use router_core::Instant;

/// Lets `burst` events pass at once and one more per `interval` afterwards.
///
/// Tokens at time t = min(burst, tokens + (t − last) / interval), kept as time: `full_at` is when the bucket is full again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    interval: Duration,
    burst: u32,
    full_at: Instant,
}

impl Pace {
    /// A full bucket.
    pub(super) const fn new(interval: Duration, burst: u32) -> Self {
        Self {
            interval,
            burst,
            full_at: Instant::ZERO,
        }
    }

    /// True, and a token less, when an event may happen at `now`.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + self.interval;
        if full_at.since(now) > self.interval * self.burst {
            return false;
        }
        self.full_at = full_at;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_per_interval() {
        let ms = |n: u64| Instant::from_nanos(n * 1_000_000);
        let mut pace = Pace::new(Duration::from_millis(10), 3);
        let taken = |pace: &mut Pace, at| (0..9).filter(|_| pace.take(at)).count();
        assert_eq!(taken(&mut pace, ms(1000)), 3);
        assert!(!pace.take(Instant::from_nanos(1_009_999_999)));
        assert_eq!(taken(&mut pace, ms(1010)), 1);
        assert_eq!(taken(&mut pace, ms(1030)), 2);
        assert_eq!(taken(&mut pace, ms(9000)), 3, "no more than the burst");
        assert_eq!(taken(&mut pace, ms(0)), 0, "a clock that went back");
    }
}

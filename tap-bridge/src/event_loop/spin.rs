//! How long to look for work before going to sleep.
//!
//! Sleeping and being woken costs some 10 us on each side; looking costs the processor, which the programs in the pods
//! share. So the loop looks only while that has been paying: a pause that was shorter than [`MAX`] says that looking would
//! have found its end, and a longer one that it was wasted. The rule is that of KVM's halt polling. Of an idle node, whose
//! pauses are long, nothing is left of it.
//!
//! | pause                          | budget         |
//! |--------------------------------|----------------|
//! | within the budget              | stays          |
//! | longer, but shorter than `MAX` | is doubled     |
//! | longer than `MAX`              | is halved      |
//!
//! In between others are let run. Where one of them then keeps the processor, there are more programs than processors: who
//! sleeps is put first when there is something for him, who yields is put last. So the loop sleeps at once for a while, and for
//! a longer one when that goes on.
//!
//! Source: Linux `Documentation/virt/kvm/halt-polling.rst`. Cost: two comparisons per pause.

use std::time::Duration;

/// Longest time that is spent looking.
pub(super) const MAX: Duration = Duration::from_micros(50);

/// Shortest that is worth it.
const LEAST: Duration = Duration::from_micros(5);

/// Pauses in which the loop does not look after somebody else kept the processor: so many the first time, as that happens on
/// any machine now and then, and up to so many when it goes on happening.
const SHUNNED: std::ops::RangeInclusive<u16> = 8..=256;

/// The present budget.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spin {
    budget: Duration,
    /// Pauses that are left to sleep through.
    shunned: u16,
    /// As many as it will be next time.
    penalty: u16,
}

impl Spin {
    /// Goes to sleep at once.
    pub(super) const fn new() -> Self {
        Self {
            budget: Duration::ZERO,
            shunned: 0,
            penalty: *SHUNNED.start(),
        }
    }

    /// Others were let run, and it took so long until they were done. True when that is too long to go on looking.
    pub(super) fn was_away(&mut self, away: Duration) -> bool {
        let too_long = away > MAX;
        if too_long {
            (self.budget, self.shunned) = (Duration::ZERO, self.penalty);
            self.penalty = (self.penalty * 4).min(*SHUNNED.end());
        }
        too_long
    }

    /// How long to look this time.
    pub(super) fn budget(self) -> Duration {
        self.budget
    }

    /// Between two events nothing was to be done for so long.
    pub(super) fn paused(&mut self, pause: Duration) {
        if self.shunned > 0 {
            self.shunned -= 1;
            return;
        }
        if pause > MAX {
            self.budget /= 2;
            if self.budget < LEAST {
                self.budget = Duration::ZERO;
            }
        } else if pause > self.budget {
            self.budget = (self.budget * 2).clamp(LEAST, MAX);
        } else {
            // Looking has paid.
            self.penalty = (self.penalty - 1).max(*SHUNNED.start());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(pauses: &[u64]) -> u128 {
        let mut spin = Spin::new();
        for &pause in pauses {
            spin.paused(Duration::from_micros(pause));
        }
        spin.budget().as_micros()
    }

    #[test]
    fn who_is_kept_from_the_processor_sleeps_for_a_while() {
        let mut spin = Spin::new();
        let pause = |spin: &mut Spin, times: u16| {
            for _ in 0..times {
                spin.paused(Duration::from_micros(20));
            }
            spin.budget().as_micros()
        };
        assert_eq!(pause(&mut spin, 4), 20);
        assert!(!spin.was_away(MAX));
        assert_eq!(
            spin.budget().as_micros(),
            20,
            "a program that was soon done"
        );
        assert!(spin.was_away(MAX + Duration::from_nanos(1)));
        assert_eq!(spin.budget().as_micros(), 0);
        assert_eq!(pause(&mut spin, 8), 0);
        assert_eq!(pause(&mut spin, 1), 5, "then it is tried again");
        for pauses in [32, 128, 256, 256] {
            assert!(spin.was_away(2 * MAX));
            assert_eq!(pause(&mut spin, pauses), 0);
            assert_eq!(pause(&mut spin, 1), 5, "a longer while each time");
        }
        // Short pauses are found by looking, and so forgive one each.
        assert_eq!(pause(&mut spin, 2 + 248), 20);
        assert!(spin.was_away(2 * MAX));
        assert_eq!(pause(&mut spin, 8), 0);
        assert_eq!(pause(&mut spin, 1), 5, "as at first");
    }

    #[test]
    fn looking_is_begun_by_short_pauses_and_ended_by_long_ones() {
        assert_eq!(after(&[]), 0);
        assert_eq!(after(&[1_000_000; 9]), 0, "an idle node never looks");
        assert_eq!(after(&[20]), 5);
        assert_eq!(after(&[20, 20]), 10);
        assert_eq!(after(&[20; 9]), 20, "long enough for what comes");
        assert_eq!(after(&[45; 9]), 50);
        assert_eq!(
            after(&[45, 45, 45, 45, 45, 3, 3]),
            50,
            "stays while it pays"
        );
        assert_eq!(after(&[45, 45, 45, 45, 45, 51]), 25);
        assert_eq!(after(&[45, 45, 45, 45, 45, 200, 200, 200, 200]), 0);
    }
}

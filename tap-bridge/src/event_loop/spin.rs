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
//! Source: Linux `Documentation/virt/kvm/halt-polling.rst`. Cost: two comparisons per pause.

use std::time::Duration;

/// Longest time that is spent looking.
pub(super) const MAX: Duration = Duration::from_micros(50);

/// Shortest that is worth it.
const LEAST: Duration = Duration::from_micros(5);

/// The present budget.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spin {
    budget: Duration,
}

impl Spin {
    /// Goes to sleep at once.
    pub(super) const fn new() -> Self {
        Self {
            budget: Duration::ZERO,
        }
    }

    /// How long to look this time.
    pub(super) fn budget(self) -> Duration {
        self.budget
    }

    /// Between two events nothing was to be done for so long.
    pub(super) fn paused(&mut self, pause: Duration) {
        if pause > MAX {
            self.budget /= 2;
            if self.budget < LEAST {
                self.budget = Duration::ZERO;
            }
        } else if pause > self.budget {
            self.budget = (self.budget * 2).clamp(LEAST, MAX);
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

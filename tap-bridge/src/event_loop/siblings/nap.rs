//! Who sleeps says so and looks once more; who has put something down looks whether the other says so.
//!
//! ```text
//!   who puts down                       who sleeps
//!   P1  put it down                     S1  sleep = odd
//!   P2  fence(SeqCst)                   S2  fence(SeqCst)
//!   P3  read sleep                      S3  look for something
//! ```
//!
//! The sleeper alone writes `sleep`, and each value once. All fences stand in one order. If P2 comes before the sleeper's
//! next S2, that S3 finds what was put down, and there is no sleep. Else let S2 be the last one before P2: P3 reads the value of
//! its S1 or a later one. An odd one: the waker is called, unless it was called for this very value before; that call came behind
//! the S1 of the value, so it ends that sleep as well. An even one: the sleeper is awake since, and its next S2 comes after P2.
//!
//! As the fabric's ring has it, and for the same reason: nothing is exchanged, so whoever puts down only reads the other's line,
//! and loom can judge it. Loom knows the order of such fences exactly, but not that nothing comes between what an exchange reads
//! and what it writes: where both ends wrote one flag, its models ended in sleeps that C11 (7.17.3) forbids.
//!
//! Cost: a store and a fence per sleep; a fence per breath in which something was put down, and a load for each sibling.

#[cfg(all(test, loom))]
mod loom_tests;

#[cfg(loom)]
use loom::sync::{
    Arc,
    atomic::{AtomicU64, Ordering, fence},
};
#[cfg(not(loom))]
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering, fence},
};

/// Whether a loop sleeps, or is about to: odd. Rises with every change. The loop's own.
#[derive(Debug)]
pub(super) struct Nap {
    sleep: Arc<AtomicU64>,
    /// What stands there.
    value: u64,
}

impl Default for Nap {
    fn default() -> Self {
        Self {
            sleep: Arc::new(AtomicU64::new(0)),
            value: 0,
        }
    }
}

impl Nap {
    /// For somebody else to look whether the loop sleeps.
    pub(super) fn watch(&self) -> Watch {
        Watch {
            sleep: Arc::clone(&self.sleep),
            called: 0,
        }
    }

    /// S1 and S2: after it the caller looks once more before it sleeps.
    pub(super) fn announce(&mut self) {
        self.change(1);
        fence(Ordering::SeqCst);
    }

    /// The caller is awake.
    pub(super) fn end(&mut self) {
        self.change(0);
    }

    /// The next value of this parity, unless it has it already.
    fn change(&mut self, parity: u64) {
        if self.value & 1 != parity {
            self.value = self.value.wrapping_add(1);
            self.sleep.store(self.value, Ordering::Relaxed);
        }
    }
}

/// What somebody else knows of a loop's sleep.
#[derive(Debug)]
pub(super) struct Watch {
    sleep: Arc<AtomicU64>,
    /// The value for which the waker was called last.
    called: u64,
}

impl Watch {
    /// P2, once for all whom the caller has put something down for.
    pub(super) fn before_rousing() {
        fence(Ordering::SeqCst);
    }

    /// P3. True: the sleeper's waker has to be called.
    pub(super) fn rouse(&mut self) -> bool {
        let sleep = self.sleep.load(Ordering::Relaxed);
        if sleep & 1 == 0 || sleep == self.called {
            return false;
        }
        self.called = sleep;
        true
    }
}

//! Who sleeps says so and looks once more; who has put something down looks whether the other says so.
//!
//! ```text
//!   who puts down                       who sleeps
//!   P1  put it down                     S1  asleep = true
//!   P2  fence(SeqCst)                   S2  fence(SeqCst)
//!   P3  read asleep, and clear it       S3  look for something
//! ```
//!
//! The fences stand in one order. If P2 is first, S3 finds it, and there is no sleep. If S2 is first, P3 reads true, and the
//! waker is called: once, as the first to read it clears it.
//!
//! Cost: a store and a fence per sleep, a fence and an exchange per breath in which something was put down.

use crate::sync::{Arc, AtomicBool, Ordering, fence};

/// Whether a loop sleeps, or is about to. All clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Nap(Arc<AtomicBool>);

impl Default for Nap {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }
}

impl Nap {
    /// S1 and S2: after it the caller looks once more before it sleeps.
    pub(super) fn announce(&self) {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The caller is awake.
    pub(super) fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// P2, once for all whom the caller has put something down for.
    pub(super) fn before_rousing() {
        fence(Ordering::SeqCst);
    }

    /// P3. True: the sleeper has to be woken.
    pub(super) fn rouse(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::thread;

    use super::*;
    use crate::cells::model::Bell;

    /// All that is put down is found, and nobody sleeps for ever (a lost wake-up is a deadlock, which loom reports).
    ///
    /// One thread puts down: between two, loom lets an exchange come before stores that its fence is behind.
    #[test]
    fn loom_nothing_that_was_put_down_is_slept_over() {
        loom::model(|| {
            let nap = Nap::default();
            let bell = Bell::new();
            let places: [_; 2] = std::array::from_fn(|_| Arc::new(AtomicBool::new(false)));
            let (to, ring, there) = (nap.clone(), bell.clone(), places.clone());
            let putting = thread::spawn(move || {
                for place in there {
                    place.store(true, Ordering::Relaxed);
                    Nap::before_rousing();
                    if to.rouse() {
                        ring.ring();
                    }
                }
            });
            let there = || places.iter().filter(|p| p.load(Ordering::Relaxed)).count();
            let mut found = there();
            while found < places.len() {
                nap.announce();
                if there() == found {
                    bell.wait();
                }
                nap.end();
                found = there();
            }
            putting.join().unwrap();
        });
    }
}

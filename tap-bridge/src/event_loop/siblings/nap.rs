//! Who sleeps says so and looks once more; who has put something down looks whether the other says so.
//!
//! ```text
//!   who puts down                       who sleeps
//!   P1  put it down                     S1  asleep = true
//!   P2  fence(SeqCst)                   S2  fence(SeqCst)
//!   P3  read asleep, and clear it       S3  look for something
//! ```
//!
//! The fences stand in one order. If P2 is first, S3 finds it, and there is no sleep. If S2 is first, P3 reads S1 or what came
//! after it: true, and the waker is called; or the false of somebody else who has called it; or that of a sleeper who is awake
//! again, whose next S2 then comes after P2. P3 is an exchange, so it reads the last value there is (C11 7.17.3).
//!
//! A model of this under loom ends in a sleep, with one who puts down as well. By the rules above that can't be, but whose fault
//! it is has not been settled. Two threads that wake each other 20,000 times come to no such end (`siblings/tests.rs`).
//!
//! Cost: a store and a fence per sleep, a fence and an exchange per breath in which something was put down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

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

//! Atomics whose order the thread sanitizer can judge (`--cfg tsan`, see `scripts/sanitize`).
//!
//! The sanitizer finds fault with plain memory only: where every cell is atomic, no missing order would ever show. So a
//! relaxed store is a plain one here. That is what relaxed stores are for in tables that readers share: cells that nobody can
//! reach yet, or no more. One that a reader gets to see without coming behind it is then reported, whatever the processor
//! makes of it: a link stored too weakly, a part used again too early.
//!
//! Loads stay atomic, so a reader beside a store that releases is no fault.

use core::sync::atomic::Ordering;

macro_rules! judged {
    ($($name:ident: $of:ty),*) => {$(
        /// See the module.
        #[derive(Debug)]
        #[repr(transparent)]
        pub(crate) struct $name(core::sync::atomic::$name);

        impl $name {
            pub(crate) const fn new(value: $of) -> Self {
                Self(core::sync::atomic::$name::new(value))
            }

            #[inline(always)]
            pub(crate) fn load(&self, order: Ordering) -> $of {
                self.0.load(order)
            }

            #[inline(always)]
            pub(crate) fn store(&self, value: $of, order: Ordering) {
                if order == Ordering::Relaxed {
                    // SAFETY: the pointer is that of a value that lives. If anybody looks at it meanwhile that is undefined,
                    // and what the sanitizer is there to report.
                    unsafe { self.0.as_ptr().write(value) }
                } else {
                    self.0.store(value, order);
                }
            }

            #[allow(dead_code, reason = "not all of them are exchanged")]
            #[inline(always)]
            pub(crate) fn compare_exchange(
                &self,
                current: $of,
                new: $of,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$of, $of> {
                self.0.compare_exchange(current, new, success, failure)
            }
        }
    )*};
}

judged!(AtomicU16: u16, AtomicU32: u32, AtomicU64: u64);

//! The atomics and locks of tables that a writer shares with readers: the language's own, or loom's in its models, or such
//! as the thread sanitizer can judge.

#[cfg(all(tsan, not(loom)))]
pub(crate) use crate::arch::judged::{AtomicU16, AtomicU32, AtomicU64};
#[cfg(not(any(loom, tsan)))]
pub(crate) use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};
#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{Ordering, fence};
#[cfg(all(not(loom), any(test, feature = "testing", feature = "std")))]
pub(crate) use std::sync::Mutex;

#[cfg(loom)]
pub(crate) use loom::sync::Mutex;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

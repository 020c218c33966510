//! The one place where this crate reads a clock.
//!
//! CLOCK_MONOTONIC, as nanoseconds since boot without suspend: it never goes backwards and all processes of one machine
//! share it. Source: clock_gettime(2). Cost: a vDSO call, some 20 ns.

use router_core::Instant;
use rustix::time::{ClockId, clock_gettime};

/// The time now.
#[must_use]
pub fn monotonic() -> Instant {
    let t = clock_gettime(ClockId::Monotonic);
    // Neither field is ever negative on CLOCK_MONOTONIC.
    let seconds = u64::try_from(t.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(t.tv_nsec).unwrap_or(0);
    Instant::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

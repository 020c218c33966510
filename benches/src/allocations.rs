//! Counts allocations and the memory that they take: that no packet causes one (law 2), and how much memory a table takes.
//!
//! For the program that names [`Counting`] its global allocator. Each thread counts its own.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static MADE: Cell<u64> = const { Cell::new(0) };
    static IN_USE: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counting.
#[derive(Clone, Copy, Debug)]
pub struct Counting;

fn count(allocations: u64, bytes: isize) {
    // While a thread ends there is nothing to count in.
    let _gone = MADE.try_with(|n| n.set(n.get() + allocations));
    let _gone = IN_USE.try_with(|n| n.set(n.get() + bytes));
}

fn signed(layout: Layout) -> isize {
    // A layout is never larger.
    layout.size().cast_signed()
}

// SAFETY: every call is passed on unchanged to `System`, which upholds the contract; counting touches thread-local integers
// that need neither initialisation nor destruction, so it cannot allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, signed(layout));
        // SAFETY: the caller's guarantees for `layout` are those that `System.alloc` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, signed(layout));
        // SAFETY: as for `alloc`. Passed on as it is, so that large tables stay lazily committed.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(0, -signed(layout));
        // SAFETY: `ptr` came from `System` with this layout, as all of this allocator's blocks do.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// Allocations that this thread makes while `run` runs.
pub fn of(run: impl FnOnce()) -> u64 {
    let before = MADE.get();
    run();
    MADE.get() - before
}

/// Bytes that `make` leaves allocated, and what it made.
pub fn kept<T>(make: impl FnOnce() -> T) -> (isize, T) {
    let before = IN_USE.get();
    let made = make();
    (IN_USE.get() - before, made)
}

//! Cache lines: memory that is there only once it is written to, and loads that are asked for before they are needed.

use alloc::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use alloc::boxed::Box;
use core::ptr;

/// One cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u64; 8]);

/// `n` lines of zeros. The allocator gets them from the system as they are, so that a line takes memory only once it is
/// written to.
pub(crate) fn zeroed_lines(n: usize) -> Box<[Line]> {
    if n == 0 {
        return Box::new([]);
    }
    let Ok(layout) = Layout::array::<Line>(n) else {
        panic!("a table is smaller than the address space");
    };
    // SAFETY: `n` is not zero and a line is 64 bytes, so the layout is not of size zero.
    let start = unsafe { alloc_zeroed(layout) }.cast::<Line>();
    if start.is_null() {
        handle_alloc_error(layout);
    }
    // SAFETY: `start` comes from the global allocator with the layout of `[Line; n]`, which is that of the box; the
    // memory is zeroed, and all bits zero is a value of `Line` (eight integers). Nobody else has the pointer.
    unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(start, n)) }
}

/// Asks for the line of `place`, which will be read soon. A hint: on processors without such an instruction nothing.
#[inline]
pub(crate) fn prefetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: SSE is part of x86_64; a prefetch reads nothing that the program can see and faults on no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(ptr::from_ref(place).cast::<i8>()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_zero_aligned_and_as_many_as_asked_for() {
        let mut lines = zeroed_lines(1000);
        assert_eq!(lines.len(), 1000);
        assert!(lines.iter().all(|line| *line == Line([0; 8])));
        assert_eq!(lines.as_ptr().addr() % 64, 0);
        lines[999].0[7] = 1;
        prefetch(&lines[999]);
        assert_eq!(lines[999].0[7], 1);
        assert_eq!(zeroed_lines(0).len(), 0);
    }
}

//! Memory for large tables: cache lines that are there only once they are written to, huge pages, and loads that are asked
//! for before they are needed.
//!
//! Huge pages: a look-up at random in a table of many megabytes misses the processor's list of pages as often as its
//! caches. The system is asked for pages of 2 MB where most of a table will be in use; what is small, or may stay nearly
//! empty, keeps small pages, of which untouched ones cost nothing. Without the `std` feature, or on another system than
//! Linux, nobody is asked.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut};
use core::ptr::{self, NonNull};

/// One cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u64; 8]);

/// Words in a line.
const WORDS: usize = 8;

/// Lines from so many bytes on, in all, are those of a table for some 350,000 connections and more: huge pages, the first
/// of which are there as soon as one line is. The table of a node that was told nothing about connections is smaller, and
/// there may be a thousand nodes.
const LINES_HUGE_FROM: usize = 8 << 20;

/// The same for room that is filled from its beginning: the lines of half a million connections.
const ROOM_HUGE_FROM: usize = 32 << 20;

/// From so many bytes on, memory that is written as a whole is in huge pages.
const HUGE_FROM: usize = 4 << 20;

/// Lines of zeros, that take memory only once they are written to.
pub(crate) struct Lines {
    start: NonNull<Line>,
    len: usize,
    /// What was allocated: a line more, as the allocator need not begin with a line.
    words: NonNull<[u64]>,
}

// SAFETY: the memory belongs to this value alone, as that of a box does, and a line is plain data.
unsafe impl Send for Lines {}
// SAFETY: through a shared reference it can only be read.
unsafe impl Sync for Lines {}

impl Lines {
    /// `n` lines.
    pub(crate) fn zeroed(n: usize) -> Self {
        // Of so little alignment that the allocator hands on zero pages of the system instead of writing zeros.
        let words = Box::leak(alloc::vec![0_u64; (n + 1) * WORDS].into_boxed_slice());
        if size_of_val(words) >= LINES_HUGE_FROM {
            ask_for_huge_pages(words.as_ptr().addr(), size_of_val(words));
        }
        let words = NonNull::from(words);
        let begins = words.cast::<u64>();
        let beyond = begins.addr().get() % align_of::<Line>() / size_of::<u64>();
        // SAFETY: fewer than a line's words are skipped, and a line more than `n` was allocated.
        let start = unsafe { begins.add((WORDS - beyond) % WORDS) };
        Self {
            start: start.cast(),
            len: n,
            words,
        }
    }
}

impl Deref for Lines {
    type Target = [Line];

    #[inline]
    fn deref(&self) -> &[Line] {
        // SAFETY: `len` lines from `start` on lie within `words`, are aligned, were zeroed, which is a value of `Line`, and
        // live and are borrowed as long as `self` is.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Lines {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Line] {
        // SAFETY: as in `deref`, and nobody else has a reference.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // SAFETY: `words` comes from a box that was leaked, and is given back once.
        drop(unsafe { Box::from_raw(self.words.as_ptr()) });
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lines({})", self.len)
    }
}

/// Room for so many values, in huge pages where they are likely to be many: see [`Lines`].
pub(crate) fn room_for<T>(n: usize) -> Vec<T> {
    let values: Vec<T> = Vec::with_capacity(n);
    let bytes = values.capacity() * size_of::<T>();
    if bytes >= ROOM_HUGE_FROM {
        ask_for_huge_pages(values.as_ptr().addr(), bytes);
    }
    values
}

/// So many values that threads share, in huge pages where they are many.
pub(crate) fn shared<T>(n: usize, mut value: impl FnMut(usize) -> T) -> Arc<[T]> {
    let mut values = Arc::<[T]>::new_uninit_slice(n);
    let bytes = size_of_val(&*values);
    if bytes >= HUGE_FROM {
        ask_for_huge_pages(values.as_ptr().addr(), bytes);
    }
    let places: &mut [MaybeUninit<T>] = Arc::get_mut(&mut values).unwrap_or_default();
    assert_eq!(places.len(), n, "nobody shares it yet");
    for (nth, place) in places.iter_mut().enumerate() {
        place.write(value(nth));
    }
    // SAFETY: each of the `n` values was written by the loop.
    unsafe { values.assume_init() }
}

/// Asks for huge pages in the middle of these bytes. A hint: nothing else depends on what the system makes of it.
#[cfg(all(feature = "std", target_os = "linux"))]
fn ask_for_huge_pages(address: usize, bytes: usize) {
    use rustix::mm::{Advice, madvise};

    const PAGE: usize = 2 << 20;
    let begin = address.next_multiple_of(PAGE);
    let end = (address + bytes) / PAGE * PAGE;
    if begin < end {
        let begin_at = ptr::with_exposed_provenance_mut(begin);
        // SAFETY: this advice changes neither what memory holds nor whether it is there, whoever owns it.
        let _refused = unsafe { madvise(begin_at, end - begin, Advice::LinuxHugepage) };
    }
}

#[cfg(not(all(feature = "std", target_os = "linux")))]
fn ask_for_huge_pages(_: usize, _: usize) {}

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
        for n in [0, 1, 2, 1000, (LINES_HUGE_FROM >> 6) + 1] {
            let mut lines = Lines::zeroed(n);
            assert_eq!(lines.len(), n);
            assert!(lines.iter().all(|line| *line == Line([0; 8])));
            assert_eq!(lines.as_ptr().addr() % 64, 0);
            if let Some(last) = lines.last_mut() {
                last.0[7] = 1;
                prefetch(last);
                assert_eq!(last.0[7], 1);
            }
        }
    }

    #[test]
    fn what_is_shared_is_written_in_its_places() {
        for n in [0, 1, 5, (HUGE_FROM >> 2) + 3] {
            let values = shared(n, |nth| u32::try_from(nth).unwrap());
            assert_eq!(values.len(), n);
            assert!((0..).zip(values.iter()).all(|(nth, &value)| nth == value));
        }
        // Values that are dropped are dropped once.
        let counted = Arc::new(());
        let held = shared(3, |_| Arc::clone(&counted));
        assert_eq!(Arc::strong_count(&counted), 4);
        drop(held);
        assert_eq!(Arc::strong_count(&counted), 1);
    }

    #[test]
    fn room_is_room() {
        let mut values = room_for::<[u64; 16]>((ROOM_HUGE_FROM >> 7) + 1);
        values.push([7; 16]);
        assert_eq!(values, [[7; 16]]);
    }

    /// Memory of untouched lines is not there.
    #[cfg(all(feature = "std", target_os = "linux"))]
    #[test]
    fn lines_take_no_memory_before_they_are_written_to() {
        let resident = || {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            let pages = statm.split(' ').nth(1).unwrap();
            pages.parse::<usize>().unwrap() * 4096
        };
        let before = resident();
        // Larger than what other tests of this process could allocate or give back meanwhile.
        let lines = Lines::zeroed((1 << 30) >> 6);
        assert!(resident() < before + (700 << 20));
        drop(lines);
    }
}

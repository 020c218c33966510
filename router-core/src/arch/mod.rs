//! The one place of the packet path that may be written for a processor.
//!
//! A [`Kernel`] names the best code this processor has; every kernel gives the same answers. What is chosen is asked
//! for once, not per packet. Without the `std` feature the processor can't be asked, and only what the compiler was
//! told to assume is used.

use crate::sync::{AtomicU16, Ordering};

#[expect(
    unsafe_code,
    reason = "lazily committed lines, huge pages, prefetch; see the module"
)]
mod memory;
// Loom's atomics are no plain memory.
#[cfg(all(target_arch = "x86_64", not(loom)))]
#[expect(unsafe_code, reason = "intrinsics; see the module")]
mod avx2;
#[cfg(all(target_arch = "x86_64", not(loom)))]
#[expect(unsafe_code, reason = "intrinsics and an instruction; see the module")]
mod avx512;
#[cfg(tsan)]
#[expect(unsafe_code, reason = "stores that are not atomic; see the module")]
pub(crate) mod judged;
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "intrinsics; see the module")]
mod sse2;

pub(crate) use memory::{Line, Lines, prefetch, room_for, shared};

/// Work whose code may differ by processor without being written for one: that counts bits, say. It is compiled for the
/// processor as far down as it is inlined: `#[inline(always)]` belongs on everything in it.
pub(crate) trait Operation {
    /// What comes out.
    type Output;

    /// Does the work. Inlined always.
    fn run(self) -> Self::Output;
}

/// Code for one kind of processor. There is no way to get one that this processor can't run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel(Isa);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Isa {
    Portable,
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    Avx2(avx2::Avx2),
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    Avx512(avx512::Avx512),
}

impl Kernel {
    /// Runs anywhere.
    pub const PORTABLE: Self = Self(Isa::Portable);

    /// The fastest that this processor runs. AVX-512 is not chosen: its kernel has run on an emulated processor only,
    /// which says nothing about speed.
    /// Tests and benchmarks take every kernel. The thread sanitizer sees no loads of vectors, so it gets the portable one.
    #[must_use]
    pub fn best() -> Self {
        Self::all()
            .filter(|kernel| kernel.name() != "avx512" && !cfg!(tsan))
            .last()
            .unwrap_or(Self::PORTABLE)
    }

    /// Every kernel that this processor runs, from the portable one to the fastest.
    pub fn all() -> impl Iterator<Item = Self> {
        #[cfg(all(target_arch = "x86_64", not(loom)))]
        let more = [
            avx2::Avx2::detect().map(Isa::Avx2),
            avx512::Avx512::detect().map(Isa::Avx512),
        ];
        #[cfg(not(all(target_arch = "x86_64", not(loom))))]
        let more = [None; 0];
        core::iter::once(Self::PORTABLE).chain(more.into_iter().flatten().map(Self))
    }

    /// Its name, for reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Isa::Portable => "portable",
            #[cfg(all(target_arch = "x86_64", not(loom)))]
            Isa::Avx2(_) => "avx2",
            #[cfg(all(target_arch = "x86_64", not(loom)))]
            Isa::Avx512(_) => "avx512",
        }
    }

    /// Runs `op`, compiled for this kind of processor.
    #[inline]
    pub(crate) fn run<O: Operation>(self, op: O) -> O::Output {
        match self.0 {
            Isa::Portable => op.run(),
            #[cfg(all(target_arch = "x86_64", not(loom)))]
            Isa::Avx2(avx2) => avx2.run(op),
            #[cfg(all(target_arch = "x86_64", not(loom)))]
            Isa::Avx512(avx512) => avx512.run(op),
        }
    }

    /// Writes, for each address, the cell with the number `(address >> shift) - low` of `cells`, or the cell with the
    /// number `last` (the last one if there is none with that number) when the former number is greater; gives a set of
    /// those (bit n for address n) whose most significant bit is set. Stops at the end of the shorter slice, or after 64
    /// addresses; without cells writes nothing. The loads are relaxed. `shift` is taken modulo 32. Fastest when `cells` is
    /// aligned to 32 bits and has an even number of cells.
    #[inline]
    pub(crate) fn load_cells(
        self,
        cells: &[AtomicU16],
        last: u32,
        shift: u32,
        low: u32,
        addresses: &[u32],
        out: &mut [u16],
    ) -> u64 {
        match self.0 {
            Isa::Portable => load_cells(cells, last, shift, low, addresses, out),
            #[cfg(all(target_arch = "x86_64", not(loom)))]
            Isa::Avx2(avx2) => avx2.load_cells(cells, last, shift, low, addresses, out),
            #[cfg(all(target_arch = "x86_64", not(loom)))]
            Isa::Avx512(avx512) => avx512.load_cells(cells, last, shift, low, addresses, out),
        }
    }
}

/// Which of sixteen bytes are not greater than `limit`: bit n for byte n, the least significant of the first word first.
#[inline(always)]
pub(crate) fn not_greater(bytes: [u32; 4], limit: u8) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        sse2::not_greater(bytes, limit)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let bytes = bytes.map(u32::to_le_bytes);
        let bytes = bytes.as_flattened().iter().enumerate();
        bytes.fold(0, |found, (n, &byte)| found | u32::from(byte <= limit) << n)
    }
}

/// Of a line that holds three keys of two words each and, in its last two words, four numbers of 32 bits, the number in
/// the place of the key that is `key`, or 0 when none is. The fourth number has no key; no two keys of a line are the same,
/// unless their numbers are 0. Without a branch on the keys: they are as good as random.
#[inline(always)]
pub(crate) fn word_beside(line: &Line, key: [u64; 2]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        sse2::word_beside(line, key)
    }
    #[cfg(not(target_arch = "x86_64"))]
    word_beside_portable(line, key)
}

/// [`word_beside`] for any processor.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn word_beside_portable(line: &Line, [k0, k1]: [u64; 2]) -> u32 {
    let [a0, a1, b0, b1, c0, c1, ab, c] = line.0;
    let mask = |x: u64, y: u64| u64::from(((x ^ k0) | (y ^ k1)) == 0).wrapping_neg();
    let word = (mask(a0, a1) & ab) | (mask(b0, b1) & (ab >> 32)) | (mask(c0, c1) & c);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the lower half of each word is the number"
    )]
    let word = word as u32;
    word
}

/// Which of the first ten 16-bit halves of a line's words (the least significant first) are `half`: bit n for half n.
#[inline(always)]
pub(crate) fn halves_like(line: &Line, half: u16) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        sse2::halves_like(line, half)
    }
    #[cfg(not(target_arch = "x86_64"))]
    halves_like_portable(line, half)
}

/// [`halves_like`] for any processor.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn halves_like_portable(line: &Line, half: u16) -> u32 {
    let halves = line
        .0
        .iter()
        .flat_map(|word| (0..4).map(move |n| word >> (16 * n) & 0xffff));
    let like = halves.take(10).enumerate();
    like.fold(0, |found, (n, other)| {
        found | u32::from(other == u64::from(half)) << n
    })
}

/// [`Kernel::load_cells`] for any processor.
#[inline]
fn load_cells(
    cells: &[AtomicU16],
    last: u32,
    shift: u32,
    low: u32,
    addresses: &[u32],
    out: &mut [u16],
) -> u64 {
    let Some(last) = within(cells, last) else {
        return 0;
    };
    let mut marked = 0;
    for (n, (address, out)) in addresses.iter().zip(out).take(64).enumerate() {
        let index = (address.wrapping_shr(shift)).wrapping_sub(low).min(last);
        if let Some(cell) = cells.get(index as usize) {
            *out = cell.load(Ordering::Relaxed);
            marked |= u64::from(*out >> 15) << n;
        }
    }
    marked
}

/// The number of a cell that there is: `last`, or that of the last one.
fn within(cells: &[AtomicU16], last: u32) -> Option<u32> {
    let end = cells.len().checked_sub(1)?;
    Some(u32::try_from(end).map_or(last, |end| end.min(last)))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Every kernel gives what a look at each cell gives, at every length and alignment.
        #[test]
        fn kernels_load_the_same_cells(
            len in 1_usize..600,
            beyond in 0_usize..4,
            shift in 0_u32..32,
            low in any::<u32>(),
            near in proptest::collection::vec((any::<bool>(), any::<u32>()), 0..69),
            skip in 0_usize..5,
        ) {
            let last = len.saturating_sub(1 + beyond);
            let values: Vec<u16> = (0..len).map(|i| u16::try_from(i * 9_973 % 65_536).unwrap()).collect();
            let cells: Vec<AtomicU16> = values.iter().map(|&v| AtomicU16::new(v)).collect();
            // Half of the addresses in and around the window, the others anywhere.
            let addresses: Vec<u32> = near
                .iter()
                .map(|&(near, x)| if near { low.wrapping_add(x % 700) << shift | x >> (31 - shift) >> 1 } else { x })
                .collect();
            // Cells that begin at an odd place, too.
            let (values, cells, last) = match skip % 2 {
                1 if len > 1 => (&values[1..], &cells[1..], last.min(len - 2)),
                _ => (&values[..], &cells[..], last),
            };
            let addresses = addresses.get(skip..).unwrap_or(&[]);
            let addresses = &addresses[..addresses.len().min(64)];
            let expected: Vec<u16> = addresses
                .iter()
                .map(|&a| {
                    let index = i64::from((a >> shift).wrapping_sub(low));
                    values[usize::try_from(index).unwrap().min(last)]
                })
                .collect();
            for kernel in Kernel::all() {
                let mut out = alloc::vec![0xa5a5; addresses.len()];
                let marked = kernel.load_cells(cells, u32::try_from(last).unwrap(), shift, low, addresses, &mut out);
                prop_assert_eq!(&out, &expected, "{}", kernel.name());
                let marks: u64 = (0..).zip(&expected).map(|(n, cell)| u64::from(cell >> 15) << n).sum();
                prop_assert_eq!(marked, marks);
            }
        }
    }

    proptest! {
        #[test]
        fn bytes_are_not_greater_than_a_limit_or_they_are(bytes in any::<[u8; 16]>(), limit in any::<u8>()) {
            let (words, _) = bytes.as_chunks();
            let words: [u32; 4] = core::array::from_fn(|n| u32::from_le_bytes(words[n]));
            let expected: u32 = (0..16).map(|n: usize| u32::from(bytes[n] <= limit) << n).sum();
            prop_assert_eq!(not_greater(words, limit), expected);
        }
    }

    proptest! {
        /// Keys of few different words, so that halves meet; the same key more than once only beside zeros.
        #[test]
        fn a_number_is_found_beside_its_key(
            words in proptest::array::uniform6(0_u64..3), numbers in any::<[u32; 4]>(), key in proptest::array::uniform2(0_u64..3),
            high: bool, apart: u64,
        ) {
            // What differs stands in any of a word's bits.
            let spread = |word: u64| if high { word << 62 } else { word } ^ apart;
            let keys: Vec<[u64; 2]> = words.chunks(2).map(|pair| [spread(pair[0]), spread(pair[1])]).collect();
            let key = key.map(spread);
            let mut numbers = numbers;
            for n in 1..3 {
                if keys[..n].contains(&keys[n]) {
                    numbers[n] = 0;
                }
            }
            let mut line = Line([0; 8]);
            line.0[..6].copy_from_slice(keys.as_flattened());
            line.0[6] = u64::from(numbers[1]) << 32 | u64::from(numbers[0]);
            line.0[7] = u64::from(numbers[3]) << 32 | u64::from(numbers[2]);
            let at = keys.iter().position(|k| *k == key);
            let expected = at.map_or(0, |n| numbers[n]);
            prop_assert_eq!(word_beside(&line, key), expected);
            prop_assert_eq!(word_beside_portable(&line, key), expected);
        }
    }

    proptest! {
        /// Few different halves, so that several are alike.
        #[test]
        fn halves_are_found_wherever_they_stand(halves in proptest::array::uniform32(0_u16..4), wanted in 0_u16..4, apart: u16) {
            let mut line = Line([0; 8]);
            for (n, half) in halves.iter().enumerate() {
                line.0[n / 4] |= u64::from(half ^ apart) << (16 * (n % 4));
            }
            let expected: u32 = (0..10).map(|n: usize| u32::from(halves[n] == wanted) << n).sum();
            prop_assert_eq!(halves_like(&line, wanted ^ apart), expected);
            prop_assert_eq!(halves_like_portable(&line, wanted ^ apart), expected);
        }
    }

    #[test]
    fn no_cells_and_unequal_slices_write_nothing_beyond() {
        let cells = [AtomicU16::new(7), AtomicU16::new(9)];
        for kernel in Kernel::all() {
            let mut out = [0xa5a5_u16; 40];
            assert_eq!(kernel.load_cells(&[], 9, 8, 0, &[1; 40], &mut out), 0);
            assert_eq!(out, [0xa5a5; 40]);
            assert_eq!(kernel.load_cells(&cells, 1, 0, 0, &[0; 17], &mut out), 0);
            assert_eq!(out[..17], [7; 17], "{}", kernel.name());
            assert_eq!(out[17..], [0xa5a5; 23], "{}", kernel.name());
            // There is no cell 99.
            assert_eq!(kernel.load_cells(&cells, 99, 0, 0, &[50; 40], &mut out), 0);
            assert_eq!(out, [9; 40], "{}", kernel.name());
        }
    }

    #[test]
    fn what_is_beyond_64_addresses_is_left() {
        let cells = [AtomicU16::new(0x8001), AtomicU16::new(0)];
        for kernel in Kernel::all() {
            let mut out = [0; 70];
            assert_eq!(
                kernel.load_cells(&cells, 1, 0, 0, &[0; 70], &mut out),
                u64::MAX
            );
            assert_eq!(out[..64], [0x8001; 64], "{}", kernel.name());
            assert_eq!(out[64..], [0; 6], "{}", kernel.name());
        }
    }
}

//! Kernel for x86-64 with AVX2.
//!
//! It computes eight cell numbers at once and then loads the cells one by one: cells of sixteen bits are loaded as
//! such (a gather reads 32, beyond the last cell), and each load is atomic. Measured on Zen 4: 1.2 times as fast as the
//! gather instruction, 1.9 times as fast as the portable loop.

use core::arch::x86_64::{
    __m128i, __m256i, _mm_cvtsi32_si128, _mm_insert_epi16, _mm_movemask_epi8, _mm_packs_epi16,
    _mm256_extract_epi64, _mm256_loadu_si256, _mm256_min_epu32, _mm256_set_m128i,
    _mm256_set1_epi32, _mm256_srl_epi32, _mm256_storeu_si256, _mm256_sub_epi32,
};

use super::Operation;
use crate::sync::{AtomicU16, Ordering};

/// Proof that the processor has AVX2 and what came with it: only [`Avx2::detect`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Avx2(());

/// Addresses per round.
const LANES: usize = 16;

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        #[cfg(any(test, feature = "testing", feature = "std"))]
        let has_all = std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("popcnt")
            && std::arch::is_x86_feature_detected!("bmi1")
            && std::arch::is_x86_feature_detected!("bmi2");
        #[cfg(not(any(test, feature = "testing", feature = "std")))]
        let has_all = cfg!(all(
            target_feature = "avx2",
            target_feature = "popcnt",
            target_feature = "bmi1",
            target_feature = "bmi2"
        ));
        has_all.then_some(Self(()))
    }

    /// See [`Kernel::run`](super::Kernel::run).
    #[inline]
    pub(super) fn run<O: Operation>(self, op: O) -> O::Output {
        // SAFETY: the processor has all of it, or there would be no `self`.
        unsafe { run(op) }
    }

    /// See [`Kernel::load_cells`](super::Kernel::load_cells).
    #[inline]
    pub(super) fn load_cells(
        self,
        cells: &[AtomicU16],
        last: u32,
        shift: u32,
        low: u32,
        addresses: &[u32],
        out: &mut [u16],
    ) -> u64 {
        // SAFETY: the processor has AVX2, or there would be no `self`.
        unsafe { load_cells(cells, last, shift, low, addresses, out) }
    }
}

#[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
fn run<O: Operation>(op: O) -> O::Output {
    op.run()
}

#[target_feature(enable = "avx2")]
fn load_cells(
    cells: &[AtomicU16],
    last: u32,
    shift: u32,
    low: u32,
    addresses: &[u32],
    out: &mut [u16],
) -> u64 {
    let Some(last) = super::within(cells, last) else {
        return 0;
    };
    let bound = _mm256_set1_epi32(last.cast_signed());
    let first = _mm256_set1_epi32(low.cast_signed());
    let count = _mm_cvtsi32_si128((shift % 32).cast_signed());
    let indices = |address: &[u32; LANES / 2]| {
        // SAFETY: the array is 32 bytes that may be read; the load wants no alignment.
        let address = unsafe { _mm256_loadu_si256(address.as_ptr().cast()) };
        let index = _mm256_sub_epi32(_mm256_srl_epi32(address, count), first);
        _mm256_min_epu32(index, bound)
    };

    let len = addresses.len().min(out.len()).min(64);
    let (rounds, addresses_left) = addresses[..len].as_chunks::<LANES>();
    let (out_rounds, out_left) = out[..len].as_chunks_mut::<LANES>();
    // All four rounds of 64 addresses leave nothing.
    let done = u32::try_from(rounds.len() * LANES).unwrap_or(64);
    let mut marked = 0;
    for (n, (addresses, out)) in rounds.iter().zip(out_rounds).enumerate() {
        let ([lower, upper], _) = addresses.as_chunks() else {
            continue;
        };
        let (lower, upper) = (indices(lower), indices(upper));
        // SAFETY: `indices` gives no number beyond that of the last cell.
        let lower = unsafe { load_eight(cells, lower) };
        // SAFETY: likewise.
        let upper = unsafe { load_eight(cells, upper) };
        let loaded = _mm256_set_m128i(upper, lower);
        // SAFETY: the array is 32 bytes that are ours alone to write; the store wants no alignment.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), loaded) };
        // Narrowing to signed bytes keeps the sign of each cell.
        let signs = _mm_movemask_epi8(_mm_packs_epi16(lower, upper)).cast_unsigned();
        marked |= u64::from(signs) << (n * LANES);
    }
    let rest = super::load_cells(cells, last, shift, low, addresses_left, out_left);
    marked | rest.checked_shl(done).unwrap_or(0)
}

/// The cells with these eight numbers, in order.
///
/// # Safety
/// Each of the eight unsigned 32-bit lanes is less than `cells.len()`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_eight(cells: &[AtomicU16], indices: __m256i) -> __m128i {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a lane has 32 bits, a usize 64 here"
    )]
    let load = |index: u64| {
        // SAFETY: `index` is one of the lanes, less than `cells.len()` by the caller's promise.
        let cell = unsafe { cells.get_unchecked(index as usize) };
        i32::from(cell.load(Ordering::Relaxed))
    };
    let lower = |pair: i64| load(pair.cast_unsigned() & 0xffff_ffff);
    let upper = |pair: i64| load(pair.cast_unsigned() >> 32);
    let pair = _mm256_extract_epi64::<0>(indices);
    let loaded = _mm_cvtsi32_si128(lower(pair));
    let loaded = _mm_insert_epi16::<1>(loaded, upper(pair));
    let pair = _mm256_extract_epi64::<1>(indices);
    let loaded = _mm_insert_epi16::<2>(loaded, lower(pair));
    let loaded = _mm_insert_epi16::<3>(loaded, upper(pair));
    let pair = _mm256_extract_epi64::<2>(indices);
    let loaded = _mm_insert_epi16::<4>(loaded, lower(pair));
    let loaded = _mm_insert_epi16::<5>(loaded, upper(pair));
    let pair = _mm256_extract_epi64::<3>(indices);
    let loaded = _mm_insert_epi16::<6>(loaded, lower(pair));
    _mm_insert_epi16::<7>(loaded, upper(pair))
}

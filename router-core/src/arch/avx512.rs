//! Kernel for x86-64 with AVX-512.
//!
//! The gather instruction loads sixteen words of 32 bits, of each of which one half is the cell that is wanted. Words are
//! aligned, so that none lies across two cache lines and each is loaded at once, as an atomic load would (Intel SDM 9.1.1).
//! The language has no such load: its intrinsic is an ordinary one, which must not race with the writer of the cells;
//! therefore the instruction stands here as it is. Cells that are not aligned, or an odd last one, go the portable way.

use core::arch::asm;
use core::arch::x86_64::{
    __m256i, __m512i, _mm_cvtsi32_si128, _mm256_movepi16_mask, _mm256_storeu_si256,
    _mm512_and_si512, _mm512_cvtepi32_epi16, _mm512_loadu_si512, _mm512_min_epu32,
    _mm512_set1_epi32, _mm512_setzero_si512, _mm512_slli_epi32, _mm512_srl_epi32,
    _mm512_srli_epi32, _mm512_srlv_epi32, _mm512_sub_epi32,
};

use super::Operation;
use crate::sync::AtomicU16;

/// Proof that the processor has AVX-512 F, BW and VL and the operating system keeps its registers: only
/// [`Avx512::detect`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Avx512(());

/// Addresses per round.
const LANES: usize = 16;

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        #[cfg(any(test, feature = "testing", feature = "std"))]
        let has_all = std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512vl")
            && std::arch::is_x86_feature_detected!("popcnt")
            && std::arch::is_x86_feature_detected!("bmi1")
            && std::arch::is_x86_feature_detected!("bmi2");
        #[cfg(not(any(test, feature = "testing", feature = "std")))]
        let has_all = cfg!(all(
            target_feature = "avx512f",
            target_feature = "avx512bw",
            target_feature = "avx512vl",
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
        let Some(last) = super::within(cells, last) else {
            return 0;
        };
        let whole_words = cells.as_ptr().addr().is_multiple_of(4) && (last | 1) < u32_len(cells);
        if !whole_words {
            return super::load_cells(cells, last, shift, low, addresses, out);
        }
        // SAFETY: the processor has AVX-512 F, BW and VL, or there would be no `self`. `cells` begins at a multiple of
        // four bytes and has both cells of the word that cell `last` is in.
        unsafe { load_cells(cells, last, shift, low, addresses, out) }
    }
}

fn u32_len(cells: &[AtomicU16]) -> u32 {
    u32::try_from(cells.len()).unwrap_or(u32::MAX)
}

// VPGATHER and the rest leave the stack alone; without vectors of 512 bits in `op` nothing slows the clock down.
#[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
fn run<O: Operation>(op: O) -> O::Output {
    op.run()
}

/// # Safety
/// `cells` is aligned to four bytes, and cell `last | 1` is one of them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn load_cells(
    cells: &[AtomicU16],
    last: u32,
    shift: u32,
    low: u32,
    addresses: &[u32],
    out: &mut [u16],
) -> u64 {
    let bound = _mm512_set1_epi32(last.cast_signed());
    let first = _mm512_set1_epi32(low.cast_signed());
    let one = _mm512_set1_epi32(1);
    let count = _mm_cvtsi32_si128((shift % 32).cast_signed());

    let len = addresses.len().min(out.len()).min(64);
    let (rounds, addresses_left) = addresses[..len].as_chunks::<LANES>();
    let (out_rounds, out_left) = out[..len].as_chunks_mut::<LANES>();
    // All four rounds of 64 addresses leave nothing.
    let done = u32::try_from(rounds.len() * LANES).unwrap_or(64);
    let mut marked = 0;
    for (n, (addresses, out)) in rounds.iter().zip(out_rounds).enumerate() {
        // SAFETY: the array is 64 bytes that may be read; the load wants no alignment.
        let address = unsafe { _mm512_loadu_si512(addresses.as_ptr().cast()) };
        let index = _mm512_sub_epi32(_mm512_srl_epi32(address, count), first);
        let index = _mm512_min_epu32(index, bound);
        let words = _mm512_srli_epi32::<1>(index);
        // SAFETY: no number is greater than `last`, so that both cells of each word are there, and `cells` is aligned.
        let words = unsafe { gather(cells, words) };
        let odd = _mm512_and_si512(index, one);
        let cell = _mm512_srlv_epi32(words, _mm512_slli_epi32::<4>(odd));
        let cell: __m256i = _mm512_cvtepi32_epi16(cell);
        // SAFETY: the array is 32 bytes that are ours alone to write; the store wants no alignment.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), cell) };
        marked |= u64::from(_mm256_movepi16_mask(cell)) << (n * LANES);
    }
    let rest = super::load_cells(cells, last, shift, low, addresses_left, out_left);
    marked | rest.checked_shl(done).unwrap_or(0)
}

/// The words, of two cells each, with these sixteen numbers: thirty-two relaxed loads.
///
/// # Safety
/// `cells` is aligned to four bytes. Each of the sixteen unsigned 32-bit lanes is less than half of `cells.len()`, and
/// less than 2^31.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn gather(cells: &[AtomicU16], words: __m512i) -> __m512i {
    let mut loaded = _mm512_setzero_si512();
    // SAFETY: the instruction loads the sixteen words at `cells` + 4 x lane, all of which lie within the slice by the
    // caller's promise, and writes to the two registers that are named as outputs. It changes no flag and no memory.
    // It is not said to only read, so that the compiler expects other threads' stores between two of them.
    unsafe {
        asm!(
            "vpgatherdd {loaded}{{{all}}}, [{cells} + 4*{words}]",
            loaded = inout(zmm_reg) loaded,
            all = inout(kreg) u16::MAX => _,
            cells = in(reg) cells.as_ptr(),
            words = in(zmm_reg) words,
            options(nostack, preserves_flags),
        );
    }
    loaded
}

//! What every x86_64 processor has.

use core::arch::x86_64::{
    _mm_and_si128, _mm_cmpeq_epi8, _mm_cmpeq_epi16, _mm_cmpeq_epi32, _mm_cvtsi128_si32,
    _mm_max_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_packs_epi16, _mm_packs_epi32, _mm_set_epi32,
    _mm_set_epi64x, _mm_set1_epi8, _mm_set1_epi16, _mm_setzero_si128, _mm_shuffle_epi32,
};

use super::Line;

/// See [`not_greater`](super::not_greater).
#[inline(always)]
pub(super) fn not_greater(bytes: [u32; 4], limit: u8) -> u32 {
    // SAFETY: SSE2 is part of x86_64.
    unsafe { compare(bytes, limit) }
}

#[inline]
#[target_feature(enable = "sse2")]
fn compare(bytes: [u32; 4], limit: u8) -> u32 {
    let [a, b, c, d] = bytes.map(u32::cast_signed);
    let limit = _mm_set1_epi8(limit.cast_signed());
    let greatest = _mm_max_epu8(_mm_set_epi32(d, c, b, a), limit);
    _mm_movemask_epi8(_mm_cmpeq_epi8(greatest, limit)).cast_unsigned()
}

/// See [`word_beside`](super::word_beside).
#[inline(always)]
pub(super) fn word_beside(line: &Line, key: [u64; 2]) -> u32 {
    // SAFETY: SSE2 is part of x86_64.
    unsafe { find(line, key) }
}

#[inline]
#[target_feature(enable = "sse2")]
fn find(line: &Line, key: [u64; 2]) -> u32 {
    let vector = |low: u64, high: u64| _mm_set_epi64x(high.cast_signed(), low.cast_signed());
    let [a, b, c, d, e, f, g, h] = line.0;
    let key = vector(key[0], key[1]);
    let same = [vector(a, b), vector(c, d), vector(e, f)].map(|other| _mm_cmpeq_epi32(other, key));
    let [first, second, third] = same;
    // Of each comparison's four words a byte each, and so one word of each comparison, and of none a fourth.
    let all = _mm_packs_epi16(
        _mm_packs_epi32(first, second),
        _mm_packs_epi32(third, _mm_setzero_si128()),
    );
    let ones = _mm_cmpeq_epi32(key, key);
    let found = _mm_and_si128(_mm_cmpeq_epi32(all, ones), vector(g, h));
    // One of the four words at most is not zero.
    let found = _mm_or_si128(found, _mm_shuffle_epi32::<0b01_00_11_10>(found));
    let found = _mm_or_si128(found, _mm_shuffle_epi32::<0b10_11_00_01>(found));
    _mm_cvtsi128_si32(found).cast_unsigned()
}

/// See [`halves_like`](super::halves_like).
#[inline(always)]
pub(super) fn halves_like(line: &Line, half: u16) -> u32 {
    // SAFETY: SSE2 is part of x86_64.
    unsafe { find_halves(line, half) }
}

#[inline]
#[target_feature(enable = "sse2")]
fn find_halves(line: &Line, half: u16) -> u32 {
    let vector = |low: u64, high: u64| _mm_set_epi64x(high.cast_signed(), low.cast_signed());
    let [a, b, c, ..] = line.0;
    let half = _mm_set1_epi16(half.cast_signed());
    // Halves 0 to 7, and 4 to 11.
    let first = _mm_cmpeq_epi16(vector(a, b), half);
    let second = _mm_cmpeq_epi16(vector(b, c), half);
    let both = _mm_movemask_epi8(_mm_packs_epi16(first, second)).cast_unsigned();
    (both & 0xff) | (both >> 4 & 0x300)
}

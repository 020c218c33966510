//! What every x86_64 processor has.

use core::arch::x86_64::{
    _mm_cmpeq_epi8, _mm_max_epu8, _mm_movemask_epi8, _mm_set_epi32, _mm_set1_epi8,
};

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

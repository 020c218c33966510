//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! Cost: [`Sum::add_bytes`] reads 32 bytes a step, and what is left over by 8; [`update`] is three additions.

use core::net::Ipv4Addr;

/// A sum of words of 16 bits, or of twice or four times that, in 16 bits; zero only of zero.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the carries went around")]
pub(crate) const fn fold(sum: u64) -> u16 {
    // The first can carry once more, the second can't.
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = ((sum & 0xffff_ffff) + (sum >> 32)) as u32;
    // Each half and its carry twice; the upper one has the lower one's.
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// Bytes that are added up at once.
const BLOCK: usize = 32;

/// The sum of a block's words; 2^29 of these fit into 64 bits, far beyond any packet.
#[inline]
fn sum_of_block(block: &[u8; BLOCK]) -> u64 {
    let (words, _) = block.as_chunks::<4>();
    let words = words
        .iter()
        .map(|word| u64::from(u32::from_ne_bytes(*word)));
    words.sum()
}

/// The sum of the words of these bytes, an odd last byte being the first half of one, in the byte order of the machine and
/// not folded: below 2^34.
#[inline]
fn sum_of(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    let mut sum = blocks.iter().map(sum_of_block).sum::<u64>();
    let (words, mut rest) = rest.as_chunks::<8>();
    for word in words {
        let (added, carry) = sum.overflowing_add(u64::from_ne_bytes(*word));
        // 2^64 = 1 in one's complement arithmetic; what has wrapped is less than the largest number.
        sum = added.wrapping_add(u64::from(carry));
    }
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    if let Some((word, more)) = rest.split_first_chunk() {
        sum += u64::from(u32::from_ne_bytes(*word));
        rest = more;
    }
    if let Some((half, more)) = rest.split_first_chunk() {
        sum += u64::from(u16::from_ne_bytes(*half));
        rest = more;
    }
    if let &[last] = rest {
        sum += u64::from(u16::from_ne_bytes([last, 0]));
    }
    sum
}

/// Whether bytes that have their checksum among them verify, with two more words that it covers.
#[inline]
pub(crate) fn verifies_beside(bytes: &[u8], beside: [u16; 2]) -> bool {
    // In the byte order of the machine: 0xffff is the same in any (RFC 1071 2 B).
    let [a, b] = beside.map(|word| u64::from(word.to_be()));
    fold(sum_of(bytes) + a + b) == 0xffff
}

/// A one's complement sum in the making.
///
/// Parts are added as if each began at an even offset; only the last may have an odd length.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Nothing summed yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(0)
    }

    /// Adds bytes; an odd last byte counts as the high half of a 16-bit word.
    #[inline]
    #[must_use]
    pub fn add_bytes(self, bytes: &[u8]) -> Self {
        // In the byte order of the machine, which the result is turned from (RFC 1071 2 B).
        Self(self.0 + u64::from(u16::from_be(fold(sum_of(bytes)))))
    }

    /// Adds another sum.
    #[must_use]
    pub const fn add_sum(self, other: Self) -> Self {
        // A sum of a packet is far below 2^63.
        Self(self.0 + other.0)
    }

    /// Adds one 16-bit number.
    #[must_use]
    pub const fn add_u16(mut self, word: u16) -> Self {
        self.0 += word as u64;
        self
    }

    /// Adds the pseudo header of UDP and TCP over IPv4. `len` is the length of the transport header and payload.
    #[must_use]
    pub fn add_pseudo_header(self, src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: u16) -> Self {
        self.add_bytes(&src.octets())
            .add_bytes(&dst.octets())
            .add_u16(u16::from(protocol))
            .add_u16(len)
    }

    /// The folded sum, not complemented: 0xffff over data that carry their own right checksum.
    #[must_use]
    pub const fn fold(self) -> u16 {
        fold(self.0)
    }

    /// The checksum to write: the complement of the folded sum.
    #[must_use]
    pub const fn finish(self) -> u16 {
        !self.fold()
    }

    /// True when data that include their checksum verify.
    #[must_use]
    pub const fn verifies(self) -> bool {
        self.fold() == 0xffff
    }
}

/// The checksum after one 16-bit word of the data changed from `old` to `new` (RFC 1624 equation 3).
///
/// Equals a full recomputation for every input that verified, 0x0000 and 0xffff included.
#[must_use]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    Sum::new()
        .add_u16(!checksum)
        .add_u16(!old)
        .add_u16(new)
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071 section 3.
    #[test]
    fn the_example_of_rfc_1071_sums_to_ddf2() {
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::new().add_bytes(&data).fold(), 0xddf2);
    }

    #[test]
    fn an_odd_byte_is_the_high_half_of_a_word() {
        assert_eq!(
            Sum::new().add_bytes(&[0x12, 0x34, 0x56]).fold(),
            0x1234 + 0x5600
        );
        assert_eq!(
            Sum::new().add_bytes(&[1, 2, 3, 4, 5]).fold(),
            0x0102 + 0x0304 + 0x0500
        );
    }

    /// RFC 1624 section 4.
    #[test]
    fn the_example_of_rfc_1624_gives_zero_and_not_minus_zero() {
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    proptest::proptest! {
        #[test]
        fn a_sum_is_folded_as_carry_by_carry(sum: u64, shift in 0_u32..64, times in 0_u64..4) {
            for sum in [sum >> shift, (0xffff * times) << (shift / 2), u64::MAX << shift] {
                let mut slowly = sum;
                while slowly > 0xffff {
                    slowly = (slowly & 0xffff) + (slowly >> 16);
                }
                proptest::prop_assert_eq!(u64::from(fold(sum)), slowly);
            }
        }

        #[test]
        fn bytes_add_up_as_their_words_do(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), fill: Option<u8>, from in 0_usize..9) {
            let mut bytes = bytes;
            if let Some(fill) = fill {
                bytes.fill(fill);
            }
            let bytes = bytes.get(from..).unwrap_or(&[]);
            let word = |pair: &[u8]| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
            let slowly = bytes.chunks(2).fold(Sum::new().add_u16(7), |sum, pair| sum.add_u16(word(pair)));
            proptest::prop_assert_eq!(Sum::new().add_u16(7).add_bytes(bytes).fold(), slowly.fold());
            let slowly = bytes.chunks(2).fold(Sum::new(), |sum, pair| sum.add_u16(word(pair)));
            proptest::prop_assert_eq!(Sum::new().add_bytes(bytes).fold(), slowly.fold());
        }

        /// FWD-63.
        #[test]
        fn an_update_equals_a_full_recomputation(mut words: [u16; 9], at in 0_usize..9, new: u16) {
            words[0] |= 0x4500; // as in a header, not all words are zero
            let full = |words: &[u16; 9]| words.iter().fold(Sum::new(), |s, &w| s.add_u16(w)).finish();
            let before = full(&words);
            let old = words[at];
            words[at] = if at == 0 { new | 0x4500 } else { new };
            proptest::prop_assert_eq!(update(before, old, words[at]), full(&words));
        }
    }
}

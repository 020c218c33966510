//! Seeded pseudo-random numbers and hashes: the same seed and packets give the same bytes everywhere.
//!
//! Not for secrets. The generator is SplitMix64 (Steele, Lea, Flood 2014); its output function also serves as the hash,
//! keyed by the seed so that nobody outside can aim at a bucket.

use core::net::Ipv4Addr;

/// The output function of SplitMix64: every bit of the input changes about half of the output.
#[must_use]
pub(crate) const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Hash of an address and a small number under a seed.
#[must_use]
pub(crate) fn hash(seed: u64, tag: u16, addr: Ipv4Addr) -> u64 {
    mix(seed
        ^ (u64::from(tag) << 32 | u64::from(addr.to_bits())).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// A stream of numbers.
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First outputs for seed 1234567, as published with the generator's reference implementation.
    #[test]
    fn the_stream_is_splitmix64() {
        let mut rng = Rng::new(1_234_567);
        assert_eq!(rng.next(), 6_457_827_717_110_365_317);
        assert_eq!(rng.next(), 3_203_168_211_198_807_973);
    }
}

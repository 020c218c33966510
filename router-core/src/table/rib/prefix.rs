//! Addresses and prefixes of either family as numbers, and the place of a prefix in the trie.

use core::ops::Range;

/// Octets of the longest kind of address.
pub(in crate::table) const LEVELS: usize = 16;

/// An IPv4 or IPv6 address as a number.
pub(in crate::table) trait Address: Copy + Eq + Ord + core::fmt::Debug {
    const ZERO: Self;
    /// Length in octets.
    const OCTETS: usize;

    /// The first `len` bits.
    fn first_bits(self, len: u8) -> Self;

    /// With ones behind the first `len` bits.
    fn last_of(self, len: u8) -> Self;

    /// Octet number `level`.
    fn octet(self, level: usize) -> usize;

    /// With an octet whose bits were zeros.
    fn with_octet(self, level: usize, octet: usize) -> Self;

    /// The next address, if there is one.
    fn next(self) -> Option<Self>;
}

macro_rules! impl_address {
    ($int:ty) => {
        impl Address for $int {
            const ZERO: Self = 0;
            const OCTETS: usize = size_of::<Self>();

            fn first_bits(self, len: u8) -> Self {
                self & Self::MAX
                    .checked_shl(Self::BITS - u32::from(len))
                    .unwrap_or(0)
            }

            fn last_of(self, len: u8) -> Self {
                self | Self::MAX.checked_shr(u32::from(len)).unwrap_or(0)
            }

            fn octet(self, level: usize) -> usize {
                usize::from(self.to_be_bytes()[level])
            }

            fn with_octet(self, level: usize, octet: usize) -> Self {
                let octet = u8::try_from(octet).unwrap_or(u8::MAX);
                self | Self::from(octet) << (8 * (Self::OCTETS - 1 - level))
            }

            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
        }
    };
}
impl_address!(u32);
impl_address!(u128);

/// A prefix: `address` has only zeros behind the first `len` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::table) struct Prefix<A> {
    pub(in crate::table) address: A,
    /// At most the length of the address in bits.
    pub(in crate::table) len: u8,
}

impl<A: Address> Prefix<A> {
    /// The first `len` bits of `address`.
    pub(in crate::table) fn new(address: A, len: u8) -> Self {
        Self {
            address: address.first_bits(len),
            len,
        }
    }

    /// Last address of the prefix.
    pub(in crate::table) fn last(self) -> A {
        self.address.last_of(self.len)
    }

    /// Depth of the node in which it ends.
    pub(in crate::table) fn level(self) -> usize {
        usize::from(self.len.saturating_sub(1) / 8)
    }

    /// The octets of that depth that it covers.
    pub(in crate::table) fn octets(self) -> Range<usize> {
        let first = self.address.octet(self.level());
        first..self.last().octet(self.level()) + 1
    }

    /// Its number in that node.
    pub(in crate::table) fn number(self) -> usize {
        let level = self.level();
        let depth = usize::from(self.len) - 8 * level;
        (0x100 | self.address.octet(level)) >> (8 - depth)
    }
}

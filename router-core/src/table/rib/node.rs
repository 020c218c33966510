//! A node of the trie: which prefixes end in it, numbered as in a binary heap, and below which octets it goes on.
//!
//! Cost: two sets of 64 and 32 bytes, and what is in them in their order.

use alloc::vec::Vec;

use crate::table::NextHop;

/// A set of small numbers that also says how many smaller ones it holds.
#[derive(Clone, Debug)]
pub(super) struct Bits<const WORDS: usize>(pub(super) [u64; WORDS]);

impl<const WORDS: usize> Bits<WORDS> {
    pub(super) fn has(&self, number: usize) -> bool {
        self.0[number / 64] >> (number % 64) & 1 == 1
    }

    pub(super) fn flip(&mut self, number: usize) {
        self.0[number / 64] ^= 1 << (number % 64);
    }

    pub(super) fn clear_below(&mut self, number: usize) {
        self.0[..number / 64].fill(0);
        self.0[number / 64] &= u64::MAX << (number % 64);
    }

    pub(super) fn first(&self) -> Option<usize> {
        let (n, word) = self.0.iter().enumerate().find(|&(_, &word)| word != 0)?;
        Some(n * 64 + word.trailing_zeros() as usize)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(n, &word)| {
            let rest = |&word: &u64| Some(word & word.wrapping_sub(1));
            core::iter::successors(Some(word), rest)
                .take_while(|&word| word != 0)
                .map(move |word| n * 64 + word.trailing_zeros() as usize)
        })
    }

    pub(super) fn rank(&self, number: usize) -> usize {
        let whole: u32 = self.0[..number / 64]
            .iter()
            .map(|word| word.count_ones())
            .sum();
        let part = self.0[number / 64] & ((1 << (number % 64)) - 1);
        (whole + part.count_ones()) as usize
    }
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Prefixes that end here.
    pub(super) ends: Bits<8>,
    /// Octets with a node below.
    pub(super) goes_on: Bits<4>,
    /// Next hops of `ends`, in its order.
    pub(super) hops: Vec<NextHop>,
    /// Nodes of `goes_on`, in its order.
    pub(super) nodes: Vec<u32>,
}

impl Node {
    pub(super) const fn empty() -> Self {
        Self {
            ends: Bits([0; 8]),
            goes_on: Bits([0; 4]),
            hops: Vec::new(),
            nodes: Vec::new(),
        }
    }

    /// Octets at which a prefix begins, or that have a node below.
    pub(super) fn octets(&self) -> Bits<4> {
        let mut octets = self.goes_on.clone();
        for number in self.ends.iter() {
            let octet = (number << (8 - number.ilog2())) & 0xff;
            octets.0[octet / 64] |= 1 << (octet % 64);
        }
        octets
    }

    pub(super) fn hop(&self, number: usize) -> Option<NextHop> {
        self.ends
            .has(number)
            .then(|| self.hops[self.ends.rank(number)])
    }

    pub(super) fn below(&self, octet: usize) -> Option<u32> {
        self.goes_on
            .has(octet)
            .then(|| self.nodes[self.goes_on.rank(octet)])
    }
}

/// Depth of the shortest prefix of a node whose first octet is `octet`.
pub(super) fn shallowest(octet: usize) -> usize {
    8 - (octet | 0x100).trailing_zeros() as usize
}

/// Depth and number of every prefix of a node whose first octet is `octet`, shorter ones first.
pub(super) fn begins_at(octet: usize) -> impl Iterator<Item = (usize, usize)> {
    (shallowest(octet)..=8).map(move |depth| (depth, (0x100 | octet) >> (8 - depth)))
}

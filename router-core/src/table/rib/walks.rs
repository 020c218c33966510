//! What forwarding tables ask of the trie: what of a prefix longer ones leave; nodes and what ends in them (IPv6); whether
//! anything longer begins somewhere (IPv4).

use core::ops::Range;

use super::node::begins_at;
use super::{Address, Prefix, Rib};
use crate::table::NextHop;

/// A node, its depth, and the first address it is about.
#[derive(Clone, Copy)]
struct Below<A> {
    at: u32,
    level: usize,
    base: A,
}

impl<A: Address> Rib<A> {
    /// Calls `paint` with the first and last address of every stretch of `prefix` that no longer prefix covers; those
    /// that end in nodes of depth `deepest` or deeper do not count.
    pub(in crate::table) fn gaps<E>(
        &self,
        prefix: Prefix<A>,
        deepest: usize,
        mut paint: impl FnMut(A, A) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut gap: Option<(A, A)> = None;
        let mut add = |first: A, last: A| {
            match &mut gap {
                Some((_, end)) if end.next() == Some(first) => *end = last,
                _ => {
                    if let Some((first, last)) = gap.replace((first, last)) {
                        paint(first, last)?;
                    }
                }
            }
            Ok(())
        };
        match self.path(prefix) {
            Some(path) => {
                let level = prefix.level();
                let below = Below {
                    at: path[level],
                    level,
                    base: prefix
                        .address
                        .first_bits(u8::try_from(8 * level).unwrap_or(0)),
                };
                self.gaps_below(below, (prefix.number(), deepest), true, &mut add)?;
            }
            None => add(prefix.address, prefix.last())?,
        }
        gap.map_or(Ok(()), |(first, last)| paint(first, last))
    }

    /// [`gaps`](Self::gaps) of the prefix with this number in a node, itself counted as one of the longer ones unless
    /// it `is_asked`.
    fn gaps_below<E>(
        &self,
        node: Below<A>,
        (number, deepest): (usize, usize),
        is_asked: bool,
        add: &mut impl FnMut(A, A) -> Result<(), E>,
    ) -> Result<(), E> {
        let Below { at, level, base } = node;
        if self.node(at).ends.has(number) && !is_asked {
            return Ok(());
        }
        if number < 0x100 {
            self.gaps_below(node, (2 * number, deepest), false, add)?;
            return self.gaps_below(node, (2 * number + 1, deepest), false, add);
        }
        let octet = number & 0xff;
        let first = base.with_octet(level, octet);
        let len = u8::try_from(8 * level + 8).unwrap_or(u8::MAX);
        match self.node(at).below(octet) {
            Some(at) if level + 1 < deepest => {
                let below = Below {
                    at,
                    level: level + 1,
                    base: first,
                };
                self.gaps_below(below, (1, deepest), true, add)
            }
            _ => add(first, first.last_of(len)),
        }
    }
}

/// What a table of nodes is made from: see [`lpm6`](crate::table::lpm6).
impl Rib<u128> {
    /// The nodes on the way to an address down to depth `level`, as far as there are any.
    pub(in crate::table) fn way(&self, address: u128, level: usize) -> impl Iterator<Item = u32> {
        let below = move |(at, level): &(u32, usize)| {
            Some((self.node(*at).below(address.octet(*level))?, level + 1))
        };
        core::iter::successors(Some((0, 0)), below)
            .take(level + 1)
            .map(|(at, _)| at)
    }

    /// First octet, number of octets and next hop of each prefix that ends in a node, shorter ones first.
    pub(in crate::table) fn ends(&self, at: u32) -> impl Iterator<Item = (usize, usize, NextHop)> {
        let node = self.node(at);
        node.ends.iter().zip(&node.hops).map(|(number, &hop)| {
            let count = 0x100 >> number.ilog2();
            ((number * count) & 0xff, count, hop)
        })
    }

    /// Octet and number of each node below a node.
    pub(in crate::table) fn below(&self, at: u32) -> impl Iterator<Item = (usize, u32)> {
        let node = self.node(at);
        node.goes_on.iter().zip(node.nodes.iter().copied())
    }

    /// Prefixes that end in a node, and nodes below it.
    pub(in crate::table) fn entries(&self, at: u32) -> usize {
        let node = self.node(at);
        node.hops.len() + node.nodes.len()
    }

    /// Next hop of the longest prefix that ends in a node and covers an octet.
    pub(in crate::table) fn best(&self, at: u32, octet: usize) -> Option<NextHop> {
        self.node(at).hop(self.best_number(at, octet)?)
    }

    /// The number of that prefix.
    pub(in crate::table) fn best_number(&self, at: u32, octet: usize) -> Option<usize> {
        let ends = &self.node(at).ends;
        // The shorter half of the lengths is one word, of which there is none in most nodes.
        let longer = [0, 1, 2].map(|up| (0x100 | octet) >> up);
        if let Some(number) = longer.into_iter().find(|&number| ends.has(number)) {
            return Some(number);
        }
        let mut number = if ends.0[0] == 0 {
            0
        } else {
            (0x100 | octet) >> 3
        };
        while number > 0 && !ends.has(number) {
            number /= 2;
        }
        (number > 0).then_some(number)
    }
}

impl Rib<u32> {
    /// Whether a prefix of more than `len` bits begins in `addresses`.
    pub(in crate::table) fn has_longer(&self, len: u32, addresses: Range<u64>) -> bool {
        addresses.start < addresses.end && self.has_longer_below(0, 0, 0, len, &addresses)
    }

    /// [`has_longer`](Self::has_longer) for what ends in the node `at` of addresses from `base` on, or below it.
    fn has_longer_below(
        &self,
        at: u32,
        level: usize,
        base: u64,
        len: u32,
        addresses: &Range<u64>,
    ) -> bool {
        let node = self.node(at);
        let shift = 24 - 8 * level;
        // Octets whose addresses are partly among those asked for.
        let first = addresses.start.saturating_sub(base) >> shift;
        let last = (addresses.end - 1).saturating_sub(base) >> shift;
        (first..=last.min(255)).any(|octet| {
            let from = base + (octet << shift);
            let octet = (octet & 0xff) as usize;
            let ends_here = addresses.contains(&from)
                && begins_at(octet).any(|(depth, number)| {
                    u32::try_from(8 * level + depth).is_ok_and(|l| l > len) && node.ends.has(number)
                });
            ends_here
                || node
                    .below(octet)
                    .is_some_and(|at| self.has_longer_below(at, level + 1, from, len, addresses))
        })
    }
}

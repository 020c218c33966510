//! The routing information base: every prefix with its next hop.
//!
//! Serves IPv4 and IPv6. It is what updates consult and look-ups never read: which prefix covers another one, and what of a prefix longer
//! ones leave. A trie of eight bits a step. The prefixes that end in a node are bits of a set, numbered as in a binary
//! heap: the prefix of `depth` bits below the node that begins with octet `o` has the number
//! `1 << depth | o >> (8 - depth)`, so that halving a number gives the next shorter prefix:
//!
//! ```text
//!   1          the node itself (depth 0; only the root holds it, for 0.0.0.0/0)
//!   2    3     0xxxxxxx  1xxxxxxx
//!   4 5  6 7   00xxxxxx  01xxxxxx  10xxxxxx  11xxxxxx
//! ```
//!
//! Cost: 144 bytes per node (the root, one for each /8, /16 and /24 with longer prefixes inside), two bytes per prefix,
//! a few more where vectors have grown: 14 kB for 5,110 routes of a cluster, 9 MB for the Internet's 902,000. Finding a
//! prefix visits a node per octet; finding the one that covers it looks at up to eight bits in each of them.

use alloc::vec::Vec;
use core::ops::Range;

use super::NextHop;

/// Octets of the longest kind of address.
pub(super) const LEVELS: usize = 16;

/// An IPv4 or IPv6 address as a number.
pub(super) trait Address: Copy + Eq + Ord + core::fmt::Debug {
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
pub(super) struct Prefix<A> {
    pub(super) address: A,
    /// At most the length of the address in bits.
    pub(super) len: u8,
}

impl<A: Address> Prefix<A> {
    /// The first `len` bits of `address`.
    pub(super) fn new(address: A, len: u8) -> Self {
        Self {
            address: address.first_bits(len),
            len,
        }
    }

    /// Last address of the prefix.
    pub(super) fn last(self) -> A {
        self.address.last_of(self.len)
    }

    /// Depth of the node in which it ends.
    pub(super) fn level(self) -> usize {
        usize::from(self.len.saturating_sub(1) / 8)
    }

    /// The octets of that depth that it covers.
    pub(super) fn octets(self) -> Range<usize> {
        let first = self.address.octet(self.level());
        first..self.last().octet(self.level()) + 1
    }

    /// Its number in that node.
    pub(super) fn number(self) -> usize {
        let level = self.level();
        let depth = usize::from(self.len) - 8 * level;
        (0x100 | self.address.octet(level)) >> (8 - depth)
    }
}

/// A set of small numbers that also says how many smaller ones it holds.
#[derive(Clone, Debug)]
struct Bits<const WORDS: usize>([u64; WORDS]);

impl<const WORDS: usize> Bits<WORDS> {
    fn has(&self, number: usize) -> bool {
        self.0[number / 64] >> (number % 64) & 1 == 1
    }

    fn flip(&mut self, number: usize) {
        self.0[number / 64] ^= 1 << (number % 64);
    }

    fn clear_below(&mut self, number: usize) {
        self.0[..number / 64].fill(0);
        self.0[number / 64] &= u64::MAX << (number % 64);
    }

    fn first(&self) -> Option<usize> {
        let (n, word) = self.0.iter().enumerate().find(|&(_, &word)| word != 0)?;
        Some(n * 64 + word.trailing_zeros() as usize)
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(n, &word)| {
            let rest = |&word: &u64| Some(word & word.wrapping_sub(1));
            core::iter::successors(Some(word), rest)
                .take_while(|&word| word != 0)
                .map(move |word| n * 64 + word.trailing_zeros() as usize)
        })
    }

    fn rank(&self, number: usize) -> usize {
        let whole: u32 = self.0[..number / 64]
            .iter()
            .map(|word| word.count_ones())
            .sum();
        let part = self.0[number / 64] & ((1 << (number % 64)) - 1);
        (whole + part.count_ones()) as usize
    }
}

#[derive(Clone, Debug)]
struct Node {
    /// Prefixes that end here.
    ends: Bits<8>,
    /// Octets with a node below.
    goes_on: Bits<4>,
    /// Next hops of `ends`, in its order.
    hops: Vec<NextHop>,
    /// Nodes of `goes_on`, in its order.
    nodes: Vec<u32>,
}

impl Node {
    const fn empty() -> Self {
        Self {
            ends: Bits([0; 8]),
            goes_on: Bits([0; 4]),
            hops: Vec::new(),
            nodes: Vec::new(),
        }
    }

    /// Octets at which a prefix begins, or that have a node below.
    fn octets(&self) -> Bits<4> {
        let mut octets = self.goes_on.clone();
        for number in self.ends.iter() {
            let octet = (number << (8 - number.ilog2())) & 0xff;
            octets.0[octet / 64] |= 1 << (octet % 64);
        }
        octets
    }

    fn hop(&self, number: usize) -> Option<NextHop> {
        self.ends
            .has(number)
            .then(|| self.hops[self.ends.rank(number)])
    }

    fn below(&self, octet: usize) -> Option<u32> {
        self.goes_on
            .has(octet)
            .then(|| self.nodes[self.goes_on.rank(octet)])
    }
}

#[derive(Clone, Debug)]
pub(super) struct Rib<A> {
    /// The first is the root.
    nodes: Vec<Node>,
    free: Vec<u32>,
    len: usize,
    address: core::marker::PhantomData<A>,
}

impl<A> Default for Rib<A> {
    fn default() -> Self {
        Self {
            nodes: alloc::vec![Node::empty()],
            free: Vec::new(),
            len: 0,
            address: core::marker::PhantomData,
        }
    }
}

impl<A: Address> Rib<A> {
    /// Number of prefixes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn bytes(&self) -> usize {
        let lists = |node: &Node| 2 * node.hops.capacity() + 4 * node.nodes.capacity();
        self.nodes.capacity() * size_of::<Node>()
            + self.free.capacity() * 4
            + self.nodes.iter().map(lists).sum::<usize>()
    }

    /// Sets the next hop of a prefix; gives the former one.
    pub(super) fn insert(&mut self, prefix: Prefix<A>, hop: NextHop) -> Option<NextHop> {
        let mut at = 0;
        for level in 0..prefix.level() {
            let octet = prefix.address.octet(level);
            at = match self.node(at).below(octet) {
                Some(below) => below,
                None => self.add_node(at, octet),
            };
        }
        let node = &mut self.nodes[at as usize];
        let number = prefix.number();
        let rank = node.ends.rank(number);
        if node.ends.has(number) {
            return Some(core::mem::replace(&mut node.hops[rank], hop));
        }
        node.ends.flip(number);
        node.hops.insert(rank, hop);
        self.len += 1;
        None
    }

    /// Removes a prefix; gives its next hop.
    pub(super) fn remove(&mut self, prefix: Prefix<A>) -> Option<NextHop> {
        let path = self.path(prefix)?;
        let node = &mut self.nodes[path[prefix.level()] as usize];
        let number = prefix.number();
        if !node.ends.has(number) {
            return None;
        }
        node.ends.flip(number);
        let hop = node.hops.remove(node.ends.rank(number));
        self.len -= 1;
        for level in (0..prefix.level()).rev() {
            let below = path[level + 1];
            let node = self.node(below);
            if !(node.hops.is_empty() && node.nodes.is_empty()) {
                break;
            }
            self.nodes[below as usize] = Node::empty();
            self.free.push(below);
            let octet = prefix.address.octet(level);
            let parent = &mut self.nodes[path[level] as usize];
            parent.goes_on.flip(octet);
            parent.nodes.remove(parent.goes_on.rank(octet));
        }
        Some(hop)
    }

    pub(super) fn get(&self, prefix: Prefix<A>) -> Option<NextHop> {
        let path = self.path(prefix)?;
        self.node(path[prefix.level()]).hop(prefix.number())
    }

    /// Next hop of the longest prefix that covers `prefix` and is shorter.
    pub(super) fn parent(&self, prefix: Prefix<A>) -> Option<NextHop> {
        let mut best = None;
        let mut at = Some(0);
        for level in 0..=prefix.level() {
            let Some(node) = at.map(|at| self.node(at)) else {
                break;
            };
            let octet = prefix.address.octet(level);
            let mut number = if level == prefix.level() {
                prefix.number() / 2
            } else {
                0x100 | octet
            };
            while number > 0 && !node.ends.has(number) {
                number /= 2;
            }
            best = node.hop(number).or(best);
            at = node.below(octet);
        }
        best
    }

    /// Every prefix by address, shorter ones first.
    pub(super) fn iter(&self) -> Iter<'_, A> {
        self.iter_after(None)
    }

    /// The same, from what comes after a prefix on, which need not be there any more.
    pub(super) fn iter_after(&self, last: Option<Prefix<A>>) -> Iter<'_, A> {
        let mut path = [const { None }; LEVELS];
        let Some(last) = last else {
            path[0] = Some(Step::new(self.node(0), A::ZERO));
            return Iter {
                rib: self,
                path,
                level: 0,
            };
        };
        let (mut at, mut base, mut level) = (0, A::ZERO, 0);
        loop {
            let node = self.node(at);
            let octet = last.address.octet(level);
            if level == last.level() {
                let depth = usize::from(last.len) - 8 * level;
                path[level] = Some(Step::after(node, base, (octet, depth)));
                break;
            }
            // What begins with this octet here came before what is below it.
            path[level] = Some(Step::after(node, base, (octet, 9)));
            let Some(below) = node.below(octet) else {
                break;
            };
            base = base.with_octet(level, octet);
            (at, level) = (below, level + 1);
        }
        Iter {
            rib: self,
            path,
            level,
        }
    }

    /// Gives back so many nodes of a trie that nobody asks any more, without regard to order. Whether nothing is left.
    pub(super) fn take_apart(&mut self, nodes: usize) -> bool {
        let left = self.nodes.len().saturating_sub(nodes);
        self.nodes.truncate(left);
        left == 0
    }

    /// Calls `paint` with the first and last address of every stretch of `prefix` that no longer prefix covers; those
    /// that end in nodes of depth `deepest` or deeper do not count.
    pub(super) fn gaps<E>(
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

    /// The nodes from the root to the one in which a prefix ends, if there is that one.
    fn path(&self, prefix: Prefix<A>) -> Option<[u32; LEVELS]> {
        let mut path = [0; LEVELS];
        for level in 0..prefix.level() {
            path[level + 1] = self.node(path[level]).below(prefix.address.octet(level))?;
        }
        Some(path)
    }

    fn node(&self, at: u32) -> &Node {
        &self.nodes[at as usize]
    }

    /// Adds a node below octet `octet` of the node `at`, which has none there.
    fn add_node(&mut self, at: u32, octet: usize) -> u32 {
        let new = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::empty());
            u32::try_from(self.nodes.len() - 1).expect("there are fewer than 2^25 nodes")
        });
        let parent = &mut self.nodes[at as usize];
        parent.nodes.insert(parent.goes_on.rank(octet), new);
        parent.goes_on.flip(octet);
        new
    }
}

/// What a table of nodes is made from: see [`lpm6`](super::lpm6).
impl Rib<u128> {
    /// The nodes on the way to an address down to depth `level`, as far as there are any.
    pub(super) fn way(&self, address: u128, level: usize) -> impl Iterator<Item = u32> {
        let below = move |(at, level): &(u32, usize)| {
            Some((self.node(*at).below(address.octet(*level))?, level + 1))
        };
        core::iter::successors(Some((0, 0)), below)
            .take(level + 1)
            .map(|(at, _)| at)
    }

    /// First octet, number of octets and next hop of each prefix that ends in a node, shorter ones first.
    pub(super) fn ends(&self, at: u32) -> impl Iterator<Item = (usize, usize, NextHop)> {
        let node = self.node(at);
        node.ends.iter().zip(&node.hops).map(|(number, &hop)| {
            let count = 0x100 >> number.ilog2();
            ((number * count) & 0xff, count, hop)
        })
    }

    /// Octet and number of each node below a node.
    pub(super) fn below(&self, at: u32) -> impl Iterator<Item = (usize, u32)> {
        let node = self.node(at);
        node.goes_on.iter().zip(node.nodes.iter().copied())
    }

    /// Prefixes that end in a node, and nodes below it.
    pub(super) fn entries(&self, at: u32) -> usize {
        let node = self.node(at);
        node.hops.len() + node.nodes.len()
    }

    /// Next hop of the longest prefix that ends in a node and covers an octet.
    pub(super) fn best(&self, at: u32, octet: usize) -> Option<NextHop> {
        self.node(at).hop(self.best_number(at, octet)?)
    }

    /// The number of that prefix.
    pub(super) fn best_number(&self, at: u32, octet: usize) -> Option<usize> {
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
    pub(super) fn has_longer(&self, len: u32, addresses: Range<u64>) -> bool {
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

/// A node, its depth, and the first address it is about.
#[derive(Clone, Copy)]
struct Below<A> {
    at: u32,
    level: usize,
    base: A,
}

/// Depth of the shortest prefix of a node whose first octet is `octet`.
fn shallowest(octet: usize) -> usize {
    8 - (octet | 0x100).trailing_zeros() as usize
}

/// Depth and number of every prefix of a node whose first octet is `octet`, shorter ones first.
fn begins_at(octet: usize) -> impl Iterator<Item = (usize, usize)> {
    (shallowest(octet)..=8).map(move |depth| (depth, (0x100 | octet) >> (8 - depth)))
}

#[derive(Debug)]
struct Step<'a, A> {
    node: &'a Node,
    base: A,
    /// What comes next: prefixes from the first of these octets and this depth on; the node below it when the depth is 9.
    octets: Bits<4>,
    depth: usize,
}

impl<'a, A> Step<'a, A> {
    fn new(node: &'a Node, base: A) -> Self {
        let octets = node.octets();
        Self {
            node,
            base,
            depth: octets.first().map_or(0, shallowest),
            octets,
        }
    }

    /// What comes after the prefix of this depth that begins with an octet; with depth 9 after the node below, too.
    fn after(node: &'a Node, base: A, (octet, depth): (usize, usize)) -> Self {
        let mut octets = node.octets();
        octets.clear_below(octet);
        if depth > 8 && octets.has(octet) {
            octets.flip(octet);
        }
        let depth = if octets.has(octet) {
            depth + 1
        } else {
            octets.first().map_or(0, shallowest)
        };
        Self {
            node,
            base,
            octets,
            depth,
        }
    }
}

/// See [`Rib::iter`].
#[derive(Debug)]
pub(super) struct Iter<'a, A> {
    rib: &'a Rib<A>,
    path: [Option<Step<'a, A>>; LEVELS],
    level: usize,
}

impl<A: Address> Iterator for Iter<'_, A> {
    type Item = (Prefix<A>, NextHop);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let level = self.level;
            let next = self.path[level]
                .as_mut()
                .and_then(|step| Some((step.octets.first()?, step)));
            let Some((octet, step)) = next else {
                self.level = level.checked_sub(1)?;
                continue;
            };
            let depth = step.depth;
            let first = step.base.with_octet(level, octet);
            if depth <= 8 {
                step.depth += 1;
                let number = (0x100 | octet) >> (8 - depth);
                if let Some(hop) = step.node.hop(number) {
                    super::work::prefix();
                    let len = u8::try_from(8 * level + depth).unwrap_or(u8::MAX);
                    return Some((
                        Prefix {
                            address: first,
                            len,
                        },
                        hop,
                    ));
                }
                continue;
            }
            step.octets.flip(octet);
            step.depth = step.octets.first().map_or(0, shallowest);
            if let Some(at) = step.node.below(octet) {
                self.level += 1;
                self.path[self.level] = Some(Step::new(self.rib.node(at), first));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix<u32> {
        let net: ipnet::Ipv4Net = text.parse().unwrap();
        Prefix::new(net.network().into(), net.prefix_len())
    }

    #[test]
    fn parent_is_the_longest_shorter_cover() {
        let mut rib = Rib::default();
        let nets = [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.2.0/24",
            "10.1.3.4/32",
        ];
        for (hop, net) in nets.iter().enumerate() {
            rib.insert(prefix(net), u16::try_from(hop).unwrap());
        }
        assert_eq!(rib.parent(prefix("10.1.2.128/25")), Some(3));
        assert_eq!(rib.parent(prefix("10.1.2.0/24")), Some(2));
        assert_eq!(rib.parent(prefix("10.1.4.0/24")), Some(2));
        assert_eq!(rib.parent(prefix("10.2.0.0/16")), Some(1));
        assert_eq!(rib.parent(prefix("11.0.0.0/8")), Some(0));
        assert_eq!(rib.parent(prefix("0.0.0.0/0")), None);
    }

    #[test]
    fn gaps_are_what_longer_prefixes_leave() {
        let mut rib = Rib::default();
        for net in [
            "0.0.0.0/0",
            "0.0.0.0/8",
            "0.0.0.0/16",
            "9.0.0.0/8",
            "255.255.255.255/32",
        ] {
            rib.insert(prefix(net), 0);
        }
        let mut seen = Vec::new();
        rib.gaps(prefix("0.0.0.0/0"), LEVELS, |from, to| {
            seen.push((from, to));
            Ok::<(), ()>(())
        })
        .unwrap();
        assert_eq!(
            seen,
            [(0x0100_0000, 0x08ff_ffff), (0x0a00_0000, 0xffff_fffe)]
        );
    }

    #[test]
    fn prefixes_come_by_address_then_length() {
        let mut rib = Rib::default();
        let sorted = [
            "0.0.0.0/0",
            "0.0.0.0/1",
            "0.0.0.0/32",
            "10.0.0.0/8",
            "10.0.0.0/9",
            "10.0.0.0/24",
            "10.0.0.4/30",
            "10.0.0.5/32",
            "10.64.0.0/10",
            "255.255.255.255/32",
        ];
        for net in sorted.iter().rev() {
            rib.insert(prefix(net), 3);
        }
        let seen: Vec<_> = rib.iter().map(|(prefix, _)| prefix).collect();
        assert_eq!(seen, sorted.map(prefix));
    }

    /// Whether the prefix is still there or not.
    #[test]
    fn what_comes_after_a_prefix_is_the_rest() {
        let sorted = [
            "0.0.0.0/0",
            "0.0.0.0/1",
            "0.0.0.0/32",
            "9.255.255.0/24",
            "10.0.0.0/8",
            "10.0.0.0/9",
            "10.0.0.0/24",
            "10.0.0.0/26",
            "10.0.0.4/30",
            "10.0.0.5/32",
            "10.64.0.0/10",
            "255.255.255.255/32",
        ]
        .map(prefix);
        let mut rib = Rib::default();
        for &prefix in &sorted {
            rib.insert(prefix, 3);
        }
        let after = |rib: &Rib<u32>, last| -> Vec<_> {
            rib.iter_after(Some(last)).map(|(p, _)| p).collect()
        };
        for (nth, &last) in sorted.iter().enumerate() {
            assert_eq!(after(&rib, last), sorted[nth + 1..]);
            rib.remove(last);
            assert_eq!(after(&rib, last), sorted[nth + 1..]);
            rib.insert(last, 3);
        }
        assert_eq!(after(&rib, prefix("10.0.0.0/25")), sorted[7..]);
        assert_eq!(after(&rib, prefix("11.2.3.4/32")), sorted[11..]);
    }

    #[test]
    fn a_removed_prefix_leaves_no_node() {
        let mut rib = Rib::default();
        rib.insert(prefix("10.1.2.3/32"), 3);
        assert_eq!(rib.free.len(), 0);
        assert_eq!(rib.remove(prefix("10.1.2.2/31")), None);
        assert_eq!(rib.remove(prefix("10.1.2.3/32")), Some(3));
        assert_eq!(rib.free.len(), 3);
        assert_eq!(rib.len(), 0);
    }
}

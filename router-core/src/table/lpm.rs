//! Longest-prefix match.
//!
//! [`Lpm`] maps prefixes to values and finds, for an address, the value of the longest prefix that covers it. It decides
//! nothing: metrics, tables and next hops are the [FIB](crate::fib)'s.
//!
//! The structure is a trie of 8 bits a step. A node has 256 slots; a slot holds the longest prefix that ends within the
//! node's 8 bits and covers the slot, and the node that goes on from there. Nothing is pushed across nodes, so a change
//! touches one node.
//!
//! Cost: a lookup reads at most one slot (8 bytes) a step, 4 steps for IPv4, 16 for IPv6, and the value once. A node is
//! 2 kB; a table of n prefixes has at most n nodes of each depth beyond the first. [`Lpm::insert`] and [`Lpm::remove`]
//! write up to 256 slots and one ordered-map entry. Only they allocate.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt::Debug;
use core::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// An address that can be looked up byte by byte.
pub trait Address: Copy + Ord + Debug {
    /// A prefix of such addresses.
    type Net: Copy + Debug;

    /// Octets of an address.
    const OCTETS: usize;

    /// Octet `index`, the most significant first; 0 beyond the last.
    fn octet(self, index: usize) -> u8;

    /// Network address with host bits zero, and length in bits.
    fn split(net: Self::Net) -> (Self, u8);

    /// The address with all but its first `len` bits zero.
    fn masked(self, len: u8) -> Self;
}

impl Address for Ipv4Addr {
    type Net = Ipv4Net;
    const OCTETS: usize = 4;

    #[inline]
    fn octet(self, index: usize) -> u8 {
        self.octets().get(index).copied().unwrap_or(0)
    }

    fn split(net: Ipv4Net) -> (Self, u8) {
        (net.network(), net.prefix_len())
    }

    fn masked(self, len: u8) -> Self {
        let host_bits = 32_u32.saturating_sub(u32::from(len));
        Self::from_bits(self.to_bits() & u32::MAX.checked_shl(host_bits).unwrap_or(0))
    }
}

impl Address for Ipv6Addr {
    type Net = Ipv6Net;
    const OCTETS: usize = 16;

    #[inline]
    fn octet(self, index: usize) -> u8 {
        self.octets().get(index).copied().unwrap_or(0)
    }

    fn split(net: Ipv6Net) -> (Self, u8) {
        (net.network(), net.prefix_len())
    }

    fn masked(self, len: u8) -> Self {
        let host_bits = 128_u32.saturating_sub(u32::from(len));
        Self::from_bits(self.to_bits() & u128::MAX.checked_shl(host_bits).unwrap_or(0))
    }
}

/// Index into `values` or `nodes`; `NONE` for neither. Index 0 of `nodes` is the root, which is nobody's child.
type Index = u32;
const NONE: Index = Index::MAX;

#[derive(Clone, Copy, Debug)]
struct Slot {
    value: Index,
    child: Index,
}

const EMPTY: Slot = Slot {
    value: NONE,
    child: NONE,
};

#[derive(Clone, Debug)]
struct Node {
    slots: [Slot; 256],
    /// Prefixes that end in this node and children it has: it is free for reuse at zero.
    used: u32,
}

#[derive(Clone, Debug)]
struct Entry<V> {
    /// Length of the prefix in bits.
    len: u8,
    value: Option<V>,
}

/// A map from prefixes to values with longest-prefix lookup. See the module for its structure and cost.
///
/// ```
/// use router_core::table::lpm::Lpm;
///
/// let mut lpm: Lpm<&str> = Lpm::from_routes([
///     ("0.0.0.0/0".parse().unwrap(), "default"),
///     ("10.244.1.0/24".parse().unwrap(), "node b"),
/// ]);
/// assert_eq!(lpm.lookup([10, 244, 1, 9]), Some(&"node b"));
/// assert_eq!(lpm.lookup([10, 244, 2, 9]), Some(&"default"));
/// assert_eq!(lpm.remove("0.0.0.0/0".parse().unwrap()), Some("default"));
/// assert_eq!(lpm.lookup([10, 244, 2, 9]), None);
/// ```
#[derive(Clone, Debug)]
pub struct Lpm<V, A: Address = Ipv4Addr> {
    /// Where each prefix's value is: what a lookup never reads.
    prefixes: BTreeMap<(A, u8), Index>,
    nodes: Vec<Node>,
    free_nodes: Vec<Index>,
    entries: Vec<Entry<V>>,
    free_entries: Vec<Index>,
    /// Value of the prefix of length zero.
    default: Index,
}

impl<V, A: Address> Default for Lpm<V, A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V, A: Address> Lpm<V, A> {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self {
            prefixes: BTreeMap::new(),
            nodes: alloc::vec![Node {
                slots: [EMPTY; 256],
                used: 1
            }],
            free_nodes: Vec::new(),
            entries: Vec::new(),
            free_entries: Vec::new(),
            default: NONE,
        }
    }

    /// A table of these prefixes; of equal prefixes the last counts.
    pub fn from_routes(routes: impl IntoIterator<Item = (A::Net, V)>) -> Self {
        let mut lpm = Self::new();
        for (net, value) in routes {
            lpm.insert(net, value);
        }
        lpm
    }

    /// Number of prefixes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.prefixes.len()
    }

    /// True without prefixes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// Sets the value of a prefix and returns the one it had.
    pub fn insert(&mut self, net: A::Net, value: V) -> Option<V> {
        let (addr, len) = A::split(net);
        if let Some(&index) = self.prefixes.get(&(addr, len)) {
            return self.entry_mut(index)?.value.replace(value);
        }
        let index = self.new_entry(len, value);
        self.prefixes.insert((addr, len), index);
        if len == 0 {
            self.default = index;
            return None;
        }
        let node = self.node_of(addr, len);
        let Self { nodes, entries, .. } = self;
        if let Some(node) = nodes.get_mut(node as usize) {
            node.used += 1;
            for slot in slots_of(node, addr, len) {
                let present = entries.get(slot.value as usize).map_or(0, |e| e.len);
                if present <= len {
                    slot.value = index;
                }
            }
        }
        None
    }

    /// Removes a prefix and returns its value.
    pub fn remove(&mut self, net: A::Net) -> Option<V> {
        let (addr, len) = A::split(net);
        let index = self.prefixes.remove(&(addr, len))?;
        if len == 0 {
            self.default = NONE;
        } else {
            self.clear(addr, len, index);
        }
        self.free_entries.push(index);
        self.entry_mut(index)?.value.take()
    }

    /// Value of the longest prefix that covers `addr`.
    #[inline]
    #[must_use]
    pub fn lookup(&self, addr: impl Into<A>) -> Option<&V> {
        let addr = addr.into();
        let mut best = self.default;
        let mut at = 0;
        for depth in 0..A::OCTETS {
            let Some(slot) = self
                .nodes
                .get(at as usize)
                .map(|n| n.slots[usize::from(addr.octet(depth))])
            else {
                break;
            };
            if slot.value != NONE {
                best = slot.value;
            }
            at = slot.child;
        }
        self.entries.get(best as usize)?.value.as_ref()
    }

    /// [`Lpm::lookup`] for many addresses at once: `out[i]` is the answer for `addrs[i]`, up to the shorter of the two.
    pub fn lookup_batch<'a>(&'a self, addrs: &[A], out: &mut [Option<&'a V>]) {
        for (addr, out) in addrs.iter().zip(out) {
            *out = self.lookup(*addr);
        }
    }

    /// Every prefix with its value, in order of address, then length.
    pub fn iter(&self) -> impl Iterator<Item = ((A, u8), &V)> + '_ {
        self.prefixes.iter().filter_map(|(&prefix, &index)| {
            Some((prefix, self.entries.get(index as usize)?.value.as_ref()?))
        })
    }

    fn entry_mut(&mut self, index: Index) -> Option<&mut Entry<V>> {
        self.entries.get_mut(index as usize)
    }

    fn new_entry(&mut self, len: u8, value: V) -> Index {
        let entry = Entry {
            len,
            value: Some(value),
        };
        match self.free_entries.pop() {
            Some(index) => {
                self.entries[index as usize] = entry;
                index
            }
            None => push(&mut self.entries, entry),
        }
    }

    /// The node in which a prefix of length 1 or more ends, made if need be.
    fn node_of(&mut self, addr: A, len: u8) -> Index {
        let mut at = 0;
        for depth in 0..depth_of(len) {
            let octet = usize::from(addr.octet(depth));
            let child = self.nodes[at as usize].slots[octet].child;
            at = if child == NONE {
                let new = self.new_node();
                let parent = &mut self.nodes[at as usize];
                parent.slots[octet].child = new;
                parent.used += 1;
                new
            } else {
                child
            };
        }
        at
    }

    fn new_node(&mut self) -> Index {
        // A freed node is empty already: it was freed because nothing was in it.
        self.free_nodes.pop().unwrap_or_else(|| {
            push(
                &mut self.nodes,
                Node {
                    slots: [EMPTY; 256],
                    used: 0,
                },
            )
        })
    }

    /// Takes the value `gone` of a removed prefix out of its slots, and nodes that are empty then off the trie.
    fn clear(&mut self, addr: A, len: u8, gone: Index) {
        let depth = depth_of(len);
        let mut path = [0; 16];
        for step in 0..depth {
            let octet = usize::from(addr.octet(step));
            path[step + 1] = self.nodes[path[step] as usize].slots[octet].child;
        }
        // The next shorter prefix that ends in the same node takes over.
        #[expect(clippy::cast_possible_truncation, reason = "depth is below 16")]
        let shortest = depth as u8 * 8 + 1;
        let heir = (shortest..len)
            .rev()
            .find_map(|shorter| self.prefixes.get(&(addr.masked(shorter), shorter)))
            .copied()
            .unwrap_or(NONE);
        let node = &mut self.nodes[path[depth] as usize];
        for slot in slots_of(node, addr, len) {
            if slot.value == gone {
                slot.value = heir;
            }
        }
        node.used -= 1;
        for step in (0..depth).rev() {
            let child = path[step + 1];
            if self.nodes[child as usize].used != 0 {
                break;
            }
            self.free_nodes.push(child);
            let parent = &mut self.nodes[path[step] as usize];
            parent.slots[usize::from(addr.octet(step))].child = NONE;
            parent.used -= 1;
        }
    }
}

/// Depth of the node in which a prefix of length `len` (1 or more) ends.
fn depth_of(len: u8) -> usize {
    usize::from(len.saturating_sub(1) / 8)
}

/// The slots of the node it ends in that a prefix of length 1 or more covers.
fn slots_of<A: Address>(node: &mut Node, addr: A, len: u8) -> &mut [Slot] {
    let depth = depth_of(len);
    let span = 256 >> (usize::from(len) - depth * 8);
    let first = usize::from(addr.octet(depth));
    // `addr` has its host bits zero, so that `first` is a multiple of `span`.
    &mut node.slots[first..first + span]
}

fn push<T>(list: &mut Vec<T>, item: T) -> Index {
    let index = Index::try_from(list.len()).expect("a table has fewer than 2^32 prefixes");
    list.push(item);
    index
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    /// FWD-40: a /32 inside a /26 wins, its neighbour keeps the /26.
    #[test]
    fn the_longest_prefix_wins() {
        let lpm: Lpm<&str> = Lpm::from_routes([
            (net("10.244.205.192/26"), "blackhole"),
            (net("10.244.205.193/32"), "cali"),
            (net("10.244.0.0/16"), "cluster"),
            (net("0.0.0.0/0"), "default"),
        ]);
        assert_eq!(lpm.lookup([10, 244, 205, 193]), Some(&"cali"));
        assert_eq!(lpm.lookup([10, 244, 205, 194]), Some(&"blackhole"));
        assert_eq!(lpm.lookup([10, 244, 205, 1]), Some(&"cluster"));
        assert_eq!(lpm.lookup([8, 8, 8, 8]), Some(&"default"));
        assert_eq!(lpm.len(), 4);
    }

    #[test]
    fn an_empty_table_matches_nothing() {
        assert_eq!(Lpm::<()>::new().lookup([1, 2, 3, 4]), None);
    }

    #[test]
    fn the_same_code_serves_ipv6() {
        let mut lpm: Lpm<u8, Ipv6Addr> = Lpm::new();
        lpm.insert("fd00::/8".parse().unwrap(), 1);
        lpm.insert("fd00::5/128".parse().unwrap(), 2);
        assert_eq!(lpm.lookup("fd00::5".parse::<Ipv6Addr>().unwrap()), Some(&2));
        assert_eq!(lpm.lookup("fd00::6".parse::<Ipv6Addr>().unwrap()), Some(&1));
        assert_eq!(lpm.lookup("fe00::5".parse::<Ipv6Addr>().unwrap()), None);
    }

    #[test]
    fn removing_everything_gives_every_node_back() {
        let mut lpm: Lpm<u16> =
            Lpm::from_routes((0..=255).map(|n| (net(&format!("10.{n}.0.1/32")), n)));
        let nodes = lpm.nodes.len();
        for n in 0..=255 {
            assert_eq!(lpm.remove(net(&format!("10.{n}.0.1/32"))), Some(n));
        }
        assert!(lpm.is_empty());
        assert_eq!(lpm.free_nodes.len(), nodes - 1);
        assert!(
            lpm.nodes
                .iter()
                .all(|n| n.slots.iter().all(|s| s.value == NONE && s.child == NONE))
        );
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert(Ipv4Net, u16),
        Remove(Ipv4Net),
    }

    /// Few distinct bits, so that prefixes nest, shadow and repeat.
    fn a_net() -> impl Strategy<Value = Ipv4Net> {
        (0_u8..=32, any::<u32>()).prop_map(|(len, bits)| {
            Ipv4Net::new(Ipv4Addr::from_bits(bits & 0xc181_8181), len)
                .unwrap()
                .trunc()
        })
    }

    proptest! {
        #[test]
        fn any_history_answers_as_a_scan_of_the_remaining_prefixes(
            ops in proptest::collection::vec(
                prop_oneof![3 => (a_net(), any::<u16>()).prop_map(|(n, v)| Op::Insert(n, v)), 1 => a_net().prop_map(Op::Remove)],
                0..120,
            ),
            probes in proptest::collection::vec(any::<u32>(), 32),
        ) {
            let mut lpm: Lpm<u16> = Lpm::new();
            let mut scan: Vec<(Ipv4Net, u16)> = Vec::new();
            for op in ops {
                match op {
                    Op::Insert(net, value) => {
                        let old = scan.iter().position(|(n, _)| *n == net).map(|i| scan.remove(i).1);
                        scan.push((net, value));
                        prop_assert_eq!(lpm.insert(net, value), old);
                    }
                    Op::Remove(net) => {
                        let old = scan.iter().position(|(n, _)| *n == net).map(|i| scan.remove(i).1);
                        prop_assert_eq!(lpm.remove(net), old);
                    }
                }
            }
            prop_assert_eq!(lpm.len(), scan.len());
            let addrs: Vec<Ipv4Addr> = probes
                .iter()
                .map(|bits| Ipv4Addr::from_bits(bits & 0xc181_8181))
                .chain(probes.iter().map(|&bits| Ipv4Addr::from_bits(bits)))
                .chain(scan.iter().flat_map(|(n, _)| [n.network(), n.broadcast()]))
                .collect();
            let mut batch = alloc::vec![None; addrs.len()];
            lpm.lookup_batch(&addrs, &mut batch);
            for (addr, batched) in addrs.iter().zip(batch) {
                let want = scan.iter().filter(|(n, _)| n.contains(addr)).max_by_key(|(n, _)| n.prefix_len());
                prop_assert_eq!(lpm.lookup(*addr), want.map(|(_, v)| v));
                prop_assert_eq!(batched, want.map(|(_, v)| v));
            }
        }
    }
}

//! The routing information base: every prefix with its next hop.
//!
//! Serves IPv4 and IPv6. It is what updates consult and look-ups never read: which prefix covers another one, and what of a
//! prefix longer ones leave. A trie of eight bits a step. The prefixes that end in a node are bits of a set, numbered as in a binary
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

mod iter;
mod node;
mod prefix;
mod walks;

use alloc::vec::Vec;

use self::node::Node;
pub(super) use self::prefix::{Address, LEVELS, Prefix};
use super::{NextHop, work};
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

    /// Gives back so many nodes of a trie that nobody asks any more, without regard to order. Whether nothing is left.
    pub(super) fn take_apart(&mut self, nodes: usize) -> bool {
        let left = self.nodes.len().saturating_sub(nodes);
        for _ in self.nodes.drain(left..) {
            work::prefix();
        }
        left == 0
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

#[cfg(test)]
mod tests;

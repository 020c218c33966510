//! All prefixes in order, from anywhere on.
//!
//! Cost: the nodes on the way are kept, with the octets at which something is left.

use super::node::{Bits, Node, shallowest};
use super::{Address, LEVELS, Prefix, Rib};
use crate::table::{NextHop, work};

impl<A: Address> Rib<A> {
    /// Every prefix by address, shorter ones first.
    pub(in crate::table) fn iter(&self) -> Iter<'_, A> {
        self.iter_after(None)
    }

    /// The same, from what comes after a prefix on, which need not be there any more.
    pub(in crate::table) fn iter_after(&self, last: Option<Prefix<A>>) -> Iter<'_, A> {
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
pub(in crate::table) struct Iter<'a, A> {
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
                    work::prefix();
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

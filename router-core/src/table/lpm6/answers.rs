//! What a node of the trie says of its octets: the step from the trie to a node of the table.
//!
//! Nine of ten nodes say little: a few prefixes end there, or the trie goes on below a few octets. Their answers are kept as
//! runs of octets from the start, which a prefix divides where it begins and where it ends. Shorter prefixes come first, and
//! a longer one lies within one of them or in none: so whatever is put in lies within one run.
//!
//! Cost: a few instructions for each entry of a small node; some thousand for one with many.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::nodes::{self, Form, INHERIT};
use super::{NextHop, Rib};

/// A node with so many entries is kept as runs. Each entry makes two more of them at most.
const FEW: usize = 15;
const RUNS: usize = 2 * FEW + 1;

pub(super) enum Answers {
    Few(Runs),
    Many(Box<[u32; 256]>),
}

impl Answers {
    /// Those of the prefixes that end in a node; those of nodes below it are to be [set](Self::set).
    pub(super) fn of(rib: &Rib, at: u32) -> Self {
        let mut answers = if rib.entries(at) <= FEW {
            Self::Few(Runs::new())
        } else {
            Self::Many(Box::new([INHERIT; 256]))
        };
        for (first, count, hop) in rib.ends(at) {
            answers.fill(first, count, hop.into());
        }
        answers
    }

    /// Gives an octet below which the trie goes on the slot that leads there.
    pub(super) fn set(&mut self, octet: usize, slot: u32) {
        self.fill(octet, 1, slot);
    }

    fn fill(&mut self, first: usize, count: usize, slot: u32) {
        match self {
            Self::Few(runs) => runs.fill(first, count, slot),
            Self::Many(slots) => slots[first..first + count].fill(slot),
        }
    }

    /// Whether an octet has no answer of its own.
    pub(super) fn inherits(&self, octet: usize) -> bool {
        let slot = match self {
            Self::Few(runs) => runs.slots[runs.of(octet)],
            Self::Many(slots) => slots[octet],
        };
        slot == INHERIT
    }

    /// The cells of a node, whole lines; gives its form.
    pub(super) fn encode(&self, inherited: NextHop, out: &mut Vec<u32>) -> Form {
        match self {
            Self::Few(runs) => nodes::encode(runs.iter(), inherited, out),
            Self::Many(slots) => {
                let octets = (0..=u8::MAX).zip(slots.iter().copied());
                nodes::encode(octets, inherited, out)
            }
        }
    }
}

/// Runs of octets with the same answer.
pub(super) struct Runs {
    count: usize,
    begins: [u8; RUNS],
    slots: [u32; RUNS],
}

impl Runs {
    fn new() -> Self {
        Self {
            count: 1,
            begins: [0; RUNS],
            slots: [INHERIT; RUNS],
        }
    }

    fn iter(&self) -> impl Iterator<Item = (u8, u32)> + Clone {
        let slots = self.slots.iter().copied();
        self.begins.iter().copied().zip(slots).take(self.count)
    }

    /// The run of an octet.
    fn of(&self, octet: usize) -> usize {
        let begins = self.begins.iter().take(self.count);
        begins.filter(|&&begin| usize::from(begin) <= octet).count() - 1
    }

    /// Gives octets that lie within one run another answer.
    fn fill(&mut self, first: usize, count: usize, slot: u32) {
        let run = self.of(first);
        let (begin, old) = (usize::from(self.begins[run]), self.slots[run]);
        if old == slot {
            return;
        }
        let next = if run + 1 < self.count {
            usize::from(self.begins[run + 1])
        } else {
            256
        };
        if first + count < next {
            self.insert(run + 1, first + count, old);
        }
        if first == begin {
            self.slots[run] = slot;
        } else {
            self.insert(run + 1, first, slot);
        }
    }

    fn insert(&mut self, run: usize, begin: usize, slot: u32) {
        self.begins.copy_within(run..self.count, run + 1);
        self.slots.copy_within(run..self.count, run + 1);
        self.begins[run] = u8::try_from(begin).unwrap_or(u8::MAX);
        self.slots[run] = slot;
        self.count += 1;
    }
}

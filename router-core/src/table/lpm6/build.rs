//! A whole table from all prefixes.

use alloc::vec::Vec;

use super::answers::Answers;
use super::nodes::{LINE, Table};
use super::window::Window;
use super::{NO_ROUTE, NextHop, Prefix, Rib};
use crate::table::rib::Address as _;

/// A table of all prefixes with some lines to spare, and the first one of these.
pub(super) fn build(rib: &Rib, window: Window, spare: usize) -> (Table, usize) {
    let mut builder = Builder {
        rib,
        window,
        cells: alloc::vec![u32::from(NO_ROUTE); window.lines() * LINE],
        node: Vec::new(),
    };
    let top = Place {
        at: 0,
        level: 0,
        base: 0,
    };
    builder.cells(top, NO_ROUTE);
    let outside = builder.node(top, NO_ROUTE);
    builder.cells[window.cells as usize] = outside;
    let fresh = builder.cells.len() / LINE;
    let spare = spare + (fresh - window.lines()) / 4;
    (Table::new(window, &builder.cells, spare), fresh)
}

struct Builder<'a> {
    rib: &'a Rib,
    window: Window,
    /// The root, then nodes.
    cells: Vec<u32>,
    /// Room to encode a node in.
    node: Vec<u32>,
}

/// A node of the trie, its depth, and the first address it is about.
#[derive(Clone, Copy)]
struct Place {
    at: u32,
    level: usize,
    base: u128,
}

impl Builder<'_> {
    /// Fills the cells of the window that stand below a node.
    fn cells(&mut self, place: Place, inherited: NextHop) {
        let Place { at, level, base } = place;
        if level >= self.window.level {
            return;
        }
        let len = |bits: usize| u8::try_from(bits).unwrap_or(u8::MAX);
        for (first, count, hop) in self.rib.ends(at) {
            let first = base.with_octet(level, first);
            let bits = 8 * level + 8 - count.ilog2() as usize;
            self.fill(Prefix::new(first, len(bits)), hop);
        }
        for (octet, below) in self.rib.below(at) {
            let inherited = self.rib.best(at, octet).unwrap_or(inherited);
            let below = Place {
                at: below,
                level: level + 1,
                base: base.with_octet(level, octet),
            };
            if level + 1 < self.window.level {
                self.cells(below, inherited);
            } else if self.window.contains(below.base) {
                let node = self.node(below, inherited);
                let cell = self.window.index(below.base);
                self.cells[cell] = node;
            }
        }
    }

    fn fill(&mut self, prefix: Prefix, hop: NextHop) {
        let shift = 128 - 8 * self.window.level;
        let low = u128::from(self.window.low);
        let end = low + u128::from(self.window.cells);
        let first = (prefix.address >> shift).max(low);
        let beyond = ((prefix.last() >> shift) + 1).min(end);
        if first < beyond {
            let index = |cell: u128| usize::try_from(cell - low).unwrap_or(0);
            self.cells[index(first)..index(beyond)].fill(hop.into());
        }
    }

    /// Writes a node and all below it; gives the slot that leads to it.
    fn node(&mut self, place: Place, inherited: NextHop) -> u32 {
        let Place { at, level, base } = place;
        let mut answers = Answers::of(self.rib, at);
        for (octet, below) in self.rib.below(at) {
            let below = Place {
                at: below,
                level: level + 1,
                base: base.with_octet(level, octet),
            };
            // The window's own are behind its cells.
            let is_inside = level < self.window.level
                && level + 1 == self.window.level
                && self.window.contains(below.base);
            if !is_inside {
                let inherited = self.rib.best(at, octet).unwrap_or(inherited);
                let node = self.node(below, inherited);
                answers.set(octet, node);
            }
        }
        let form = answers.encode(inherited, &mut self.node);
        let line = self.cells.len() / LINE;
        self.cells.extend_from_slice(&self.node);
        form.link(line)
            .expect("so many lines do not fit into memory")
    }
}

//! One prefix was added, changed or removed: what that means for the forwarding table.
//!
//! A prefix changes the node in which it ends: in place where that is wide, else by a new one in its place. Where a node
//! came or went with the prefix, the one above has to be changed as well, and so on up to one that was there before or the
//! root. Nodes below inherit from the prefix where no longer one is between. Readers find each new node by one store, when
//! all of it is there; what is replaced is given back after that.
//!
//! Cost: the way down, in the trie and in the table; the octets of the prefix, or a node of one line.

use super::answers::Answers;
use super::nodes::{Form, NODE};
use super::{Full, Lpm6, NO_ROUTE, NextHop, Prefix};
use crate::table::rib::{Address as _, LEVELS};

/// With so few prefixes and nodes below a node becomes narrow again: they begin and end at most eleven runs.
const FEW: usize = 5;

/// A node of the trie, and what its octets without a next hop inherit.
#[derive(Clone, Copy)]
struct Place {
    at: Option<u32>,
    inherited: NextHop,
}

impl Lpm6 {
    pub(super) fn update(&mut self, prefix: Prefix) -> Result<(), Full> {
        let window = self.table.window;
        let deepest = prefix.level();
        let outside = window.cells as usize;
        if deepest < window.level {
            self.paint(prefix);
            return self.renew(prefix, deepest, outside, 0);
        }
        let cell = window.index(prefix.address);
        if cell == outside {
            return self.renew(prefix, deepest, outside, 0);
        }
        self.renew(prefix, deepest, cell, window.level)?;
        // Outside of the window, too, there is a node for each one of the trie that is not behind a cell.
        let deepest = window.level - 1;
        if self.rib.way(prefix.address, deepest).count() == self.depth(prefix.address, deepest) {
            return Ok(());
        }
        self.renew(prefix, deepest, outside, 0)
    }

    /// Number of nodes outside of the window on the way to an address, down to depth `deepest`.
    fn depth(&self, address: u128, deepest: usize) -> usize {
        let mut slot = self.table.cell(self.table.window.cells as usize);
        for level in 0..=deepest {
            if slot & NODE == 0 {
                return level;
            }
            slot = self
                .table
                .slot(slot, usize::from(address.to_be_bytes()[level]));
        }
        deepest + 1
    }

    /// A prefix shorter than the window's: writes the cells it decides about, or what nodes behind them inherit.
    fn paint(&self, prefix: Prefix) {
        let Self { rib, table, .. } = self;
        let window = table.window;
        let hop = rib
            .get(prefix)
            .or_else(|| rib.parent(prefix))
            .unwrap_or(NO_ROUTE);
        let (first, last) = (window.address(0), window.address(window.cells as usize - 1));
        let painted = rib.gaps(prefix, window.level, |from, to| {
            let (from, to) = (
                from.max(first),
                to.min(last.last_of(8 * octets(window.level))),
            );
            if from <= to {
                for cell in window.index(from)..=window.index(to) {
                    match table.cell(cell) {
                        node if node & NODE == 0 => table.set_cell(cell, hop.into()),
                        node => {
                            let way = rib.way(window.address(cell), window.level);
                            if let Some(at) = way.last() {
                                self.inherit(node, at, hop);
                            }
                        }
                    }
                }
            }
            Ok::<(), core::convert::Infallible>(())
        });
        let Ok(()) = painted;
    }

    /// Lets a node, which stands for the node `at` of the trie, and those below it inherit a next hop.
    fn inherit(&self, node: u32, at: u32, hop: NextHop) {
        let Self { rib, table, .. } = self;
        if Form::of(node) == Form::Narrow {
            if table.inherited(node) == hop {
                return;
            }
            table.set_inherited(node, hop);
        } else {
            let answers = Answers::of(rib, at);
            for octet in (0..256).filter(|&octet| answers.inherits(octet)) {
                let slot = table.slot(node, octet);
                if slot & NODE == 0 && slot != u32::from(hop) {
                    table.set_slot(node, octet, hop.into());
                }
            }
        }
        for (octet, at_below) in rib.below(at) {
            let below = table.slot(node, octet);
            if below & NODE != 0 && rib.best(at, octet).is_none() {
                self.inherit(below, at_below, hop);
            }
        }
    }

    /// Brings the node of depth `deepest` on the way to a prefix, in which it ends or below which it begins, to what the trie
    /// says, and those above it as far up as needed. The way begins in cell `cell` of the root with a node of depth `top`.
    ///
    /// # Errors
    /// [`Full`] if lines are wanted and none are left: readers see nothing of the change then.
    fn renew(
        &mut self,
        prefix: Prefix,
        deepest: usize,
        cell: usize,
        top: usize,
    ) -> Result<(), Full> {
        let (address, octets) = (prefix.address, prefix.address.to_be_bytes());
        let octet = |level: usize| usize::from(octets[level]);
        // What the trie has on the way, and what each of its nodes inherits.
        let mut at = [None; LEVELS];
        let mut inherited = [NO_ROUTE; LEVELS + 1];
        for (at, node) in at.iter_mut().zip(self.rib.way(address, deepest)) {
            *at = Some(node);
        }
        for level in 0..deepest {
            let best = at[level].and_then(|node| self.rib.best(node, octet(level)));
            inherited[level + 1] = best.unwrap_or(inherited[level]);
        }
        // What the table has.
        let mut old = [None; LEVELS];
        let mut slot = self.table.cell(cell);
        for (level, old) in old.iter_mut().enumerate().take(deepest + 1).skip(top) {
            if slot & NODE == 0 {
                break;
            }
            *old = Some(slot);
            slot = self.table.slot(slot, octet(level));
        }

        let mut new: Option<u32> = None;
        let mut made = [None; LEVELS];
        let mut replaced = top;
        for level in (top..=deepest).rev() {
            let changed = (level < deepest).then_some((octet(level), new));
            let place = Place {
                at: at[level],
                inherited: inherited[level],
            };
            if let Some(node) = old[level]
                && self.change(node, place, prefix, changed)
            {
                replaced = level + 1;
                break;
            }
            new = match at[level] {
                Some(at) => match self.encode(at, inherited[level], old[level], changed) {
                    Ok(node) => Some(node),
                    Err(full) => {
                        let made = made.into_iter().flatten();
                        made.for_each(|node| self.lines.put_back(node));
                        return Err(full);
                    }
                },
                None => None,
            };
            made[level] = new;
            if level == top {
                self.table
                    .set_cell(cell, new.unwrap_or_else(|| inherited[top].into()));
            }
        }
        for node in old[replaced..].iter().flatten() {
            self.lines.give(*node);
        }
        if deepest == prefix.level()
            && let Some(at) = at[deepest]
        {
            self.pass_on(prefix, at, inherited[deepest], (cell, top));
        }
        Ok(())
    }

    /// Lets the nodes below that in which a prefix ends inherit from it, or from what comes after it, where no longer one is
    /// between. The way begins as that of [`renew`](Self::renew) does.
    fn pass_on(&self, prefix: Prefix, at: u32, inherited: NextHop, (cell, top): (usize, usize)) {
        let level = prefix.level();
        let octets = prefix.octets();
        let mut below = self
            .rib
            .below(at)
            .filter(|(octet, _)| octets.contains(octet));
        let Some(first) = below.next() else { return };
        let mut node = self.table.cell(cell);
        for level in top..level {
            if node & NODE != 0 {
                node = self.table.slot(node, prefix.address.octet(level));
            }
        }
        if node & NODE == 0 {
            return;
        }
        for (octet, at_below) in core::iter::once(first).chain(below) {
            let slot = self.table.slot(node, octet);
            // Longer prefixes have greater numbers.
            let best = self.rib.best_number(at, octet).unwrap_or(0);
            if slot & NODE != 0 && best <= prefix.number() {
                let hop = self.rib.best(at, octet).unwrap_or(inherited);
                self.inherit(slot, at_below, hop);
            }
        }
    }

    /// Changes a node in place if that is enough: below the octet `changed` there is another node, or none, now; or else
    /// `prefix`, which ends in the node, was changed.
    fn change(
        &self,
        node: u32,
        place: Place,
        prefix: Prefix,
        changed: Option<(usize, Option<u32>)>,
    ) -> bool {
        let Self { rib, table, .. } = self;
        if let Some((octet, Some(new))) = changed
            && table.slot(node, octet) & NODE != 0
        {
            table.set_slot(node, octet, new);
            return true;
        }
        let Some(at) = place.at else { return false };
        if Form::of(node) == Form::Narrow || rib.entries(at) <= FEW {
            return false;
        }
        let answer = |octet| rib.best(at, octet).unwrap_or(place.inherited).into();
        match changed {
            Some((octet, new)) => {
                table.set_slot(node, octet, new.unwrap_or_else(|| answer(octet)));
            }
            None => {
                for octet in prefix.octets() {
                    let old = table.slot(node, octet);
                    let new = answer(octet);
                    if old & NODE == 0 && old != new {
                        table.set_slot(node, octet, new);
                    }
                }
            }
        }
        true
    }

    /// Writes a node for the node `at` of the trie, with the nodes that the one it replaces has below it, except that
    /// below the octet `changed` there is another one, or none now.
    fn encode(
        &mut self,
        at: u32,
        inherited: NextHop,
        old: Option<u32>,
        changed: Option<(usize, Option<u32>)>,
    ) -> Result<u32, Full> {
        let mut answers = Answers::of(&self.rib, at);
        for (octet, _) in self.rib.below(at) {
            let below = match changed {
                Some((there, new)) if there == octet => new,
                _ => old
                    .map(|old| self.table.slot(old, octet))
                    .filter(|slot| slot & NODE != 0),
            };
            if let Some(below) = below {
                answers.set(octet, below);
            }
        }
        let form = answers.encode(inherited, &mut self.cells);
        let node = self.lines.take(form, &self.table)?;
        self.table.write(node, &self.cells);
        Ok(node)
    }
}

fn octets(level: usize) -> u8 {
    u8::try_from(level).unwrap_or(0)
}

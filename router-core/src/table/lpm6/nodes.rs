//! The forwarding table: a root of cells, and nodes of eight bits behind it, in one array of cells.
//!
//! The root is a window of the address space, a cell for each prefix of some octets, then one cell for everything outside.
//! A node resolves one octet, and whichever of two forms it has, that takes one cache line. Octets with the same answer
//! make a *run*. Up to twelve runs, which nine of ten nodes of the Internet's table have, fit into a line; a node with
//! more of them has a cell for each octet:
//!
//! ```text
//!   narrow   cell 0..=2    first octet of each run, a byte each; the first is 0, unused ones are 255
//!                 3        for updates alone: the next hop that octets without one of their own inherit from above, and
//!                          a bit for each slot that holds it for that reason
//!                 4..=15   the runs' slots; unused ones repeat the last
//!   wide          0..=255  a slot for each octet
//! ```
//!
//! A slot or cell holds a next hop, or [`NODE`], the form and the number of a line. An answer depends on nothing but the way
//! down to it, each step of which is one load; narrow nodes are not changed but replaced, and a slot of the parent is the
//! one place that makes a new node visible. Only slots of a narrow node change in place: one that leads to a node, and those
//! that hold what is inherited, so that a short prefix can change without new nodes below it. A wide node changes in
//! place, as each of its cells is one octet's.
//!
//! How a look-up goes down is [`lookup`](super::lookup)'s.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::window::Window;
use crate::arch;
use crate::sync::{AtomicU32, Ordering};
use crate::table::{NO_ROUTE, NextHop, work};

/// Set in a slot that leads to a node.
pub(super) const NODE: u32 = 1 << 31;
/// With [`NODE`]: a wide one.
const WIDE: u32 = 1 << 30;
/// While a node is made: the slot of octets that have the next hop that the whole node inherits.
pub(super) const INHERIT: u32 = 1 << 30;
/// Bits of a slot that are the number of the node's first line.
const NUMBER: u32 = (1 << 28) - 1;
/// A slot or cell without a route.
pub(super) const MISS: u32 = NO_ROUTE as u32;
/// Cells of a line.
pub(super) const LINE: usize = 16;
/// Runs that fit into a narrow node, the cell with what is inherited, and the one before the first slot.
pub(super) const RUNS: usize = 12;
const INHERITED: usize = 3;
const BEFORE: usize = 3;
/// First bit of that cell which says of a slot that it holds what is inherited.
const INHERITING: u32 = 16;

/// The form of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Narrow,
    Wide,
}

impl Form {
    /// That of the node a slot leads to.
    pub(super) const fn of(node: u32) -> Self {
        if node & WIDE == 0 {
            Self::Narrow
        } else {
            Self::Wide
        }
    }

    /// Lines of such a node.
    pub(super) const fn lines(self) -> usize {
        match self {
            Self::Narrow => 1,
            Self::Wide => 256 / LINE,
        }
    }

    /// A slot that leads to a node with this first line.
    pub(super) fn link(self, line: usize) -> Option<u32> {
        let line = u32::try_from(line)
            .ok()
            .filter(|line| line & !NUMBER == 0)?;
        Some(match self {
            Self::Narrow => NODE | line,
            Self::Wide => NODE | WIDE | line,
        })
    }
}

/// A handle to cells that readers and one writer share.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) window: Window,
    /// From `first` on, the root, then nodes.
    cells: Arc<[AtomicU32]>,
    /// The first cell that begins a cache line.
    first: usize,
}

impl Table {
    /// A table of these cells (the root, the outside cell last, filled up to whole lines; then nodes), with room for
    /// `spare` more lines.
    pub(super) fn new(window: Window, filled: &[u32], spare: usize) -> Self {
        Self::filled(window, filled.iter().copied(), filled.len() / LINE + spare)
    }

    fn filled(window: Window, filled: impl Iterator<Item = u32>, lines: usize) -> Self {
        // One line more than is used, as the memory may begin in the middle of one.
        let all = (lines + 1) * LINE;
        let mut cells: Arc<[AtomicU32]> = arch::shared(all, |_| AtomicU32::new(MISS));
        work::table(all);
        let first = if cfg!(loom) {
            // A model has to take the same way each time, wherever its memory is.
            0
        } else {
            let size = size_of::<AtomicU32>();
            let beyond = cells.as_ptr().addr() % (LINE * size) / size;
            (LINE - beyond) % LINE
        };
        if let Some(cells) = Arc::get_mut(&mut cells) {
            for (cell, value) in cells.iter_mut().skip(first).zip(filled) {
                *cell = AtomicU32::new(value);
            }
        }
        Self {
            window,
            cells,
            first,
        }
    }

    /// A copy of the first `used` lines with room for `spare` more.
    pub(super) fn grown(&self, used: usize, spare: usize) -> Self {
        let cells = self.aligned().iter().take(used * LINE);
        let values = cells.map(|cell| cell.load(Ordering::Relaxed));
        Self::filled(self.window, values, used + spare)
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.cells)
    }

    /// Lines there are, those of the root included: as many wherever the memory begins.
    pub(super) fn lines(&self) -> usize {
        self.cells.len() / LINE - 1
    }

    /// From the first line on.
    #[inline(always)]
    pub(super) fn aligned(&self) -> &[AtomicU32] {
        self.cells.get(self.first..).unwrap_or_default()
    }

    pub(super) fn cell(&self, index: usize) -> u32 {
        load(self.aligned(), index)
    }

    pub(super) fn set_cell(&self, index: usize, value: u32) {
        self.at(index).store(value, Ordering::Release);
    }

    /// What a node says of an octet.
    pub(super) fn slot(&self, node: u32, octet: usize) -> u32 {
        self.at(self.place(node, octet)).load(Ordering::Relaxed)
    }

    /// Changes a slot of a wide node, or one of a narrow node that leads to a node and does so afterwards.
    pub(super) fn set_slot(&self, node: u32, octet: usize, value: u32) {
        self.at(self.place(node, octet))
            .store(value, Ordering::Release);
    }

    /// What a narrow node inherits.
    pub(super) fn inherited(&self, node: u32) -> NextHop {
        hop(self
            .at(line(node) * LINE + INHERITED)
            .load(Ordering::Relaxed))
    }

    /// Changes that, and the slots that hold it.
    pub(super) fn set_inherited(&self, node: u32, hop: NextHop) {
        let cell = self.at(line(node) * LINE + INHERITED);
        let inheriting = cell.load(Ordering::Relaxed) >> INHERITING;
        cell.store(inheriting << INHERITING | u32::from(hop), Ordering::Relaxed);
        for nth in (0..RUNS).filter(|nth| inheriting >> nth & 1 != 0) {
            self.at(line(node) * LINE + INHERITED + 1 + nth)
                .store(hop.into(), Ordering::Release);
        }
    }

    /// Fills lines that no reader can be in.
    pub(super) fn write(&self, node: u32, cells: &[u32]) {
        for (nth, &cell) in cells.iter().enumerate() {
            self.at(line(node) * LINE + nth)
                .store(cell, Ordering::Relaxed);
        }
    }

    fn at(&self, index: usize) -> &AtomicU32 {
        &self.cells[self.first + index]
    }

    /// Number of the cell that holds the slot of an octet.
    fn place(&self, node: u32, octet: usize) -> usize {
        let start = line(part(node, octet)) * LINE;
        let keys = [0, 1, 2].map(|nth| self.at(start + nth).load(Ordering::Relaxed));
        start + within(node, octet, keys) % LINE
    }
}

/// Number of a node's first line.
#[inline(always)]
pub(super) const fn line(node: u32) -> usize {
    (node & NUMBER) as usize
}

/// All ones for a slot that leads to a wide node, zeros for other slots.
#[inline(always)]
fn wide(slot: u32) -> u32 {
    ((slot << 1).cast_signed() >> 31).cast_unsigned()
}

/// The slot that leads to that line of a node which says something of an octet; of a next hop itself.
#[inline(always)]
pub(super) fn part(slot: u32, octet: usize) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "at most 15")]
    let nth = (octet / LINE) as u32;
    slot + (nth & wide(slot))
}

#[inline(always)]
pub(super) fn load(cells: &[AtomicU32], index: usize) -> u32 {
    cells
        .get(index)
        .map_or(MISS, |cell| cell.load(Ordering::Acquire))
}

/// Which cell of its line holds the slot of an octet.
#[inline(always)]
pub(super) fn within(node: u32, octet: usize, [a, b, c]: [u32; 3]) -> usize {
    // The keys are sorted: those that are not greater come first.
    let keys = (1 << RUNS) - 1;
    let begun = (arch::not_greater([a, b, c, 0], octet.to_le_bytes()[0]) & keys).count_ones();
    let narrow = BEFORE + begun as usize;
    // As good as random: no branch.
    let wide = wide(node) as usize;
    narrow ^ (narrow ^ octet) & wide
}

/// The next hop in a slot that holds one.
#[inline(always)]
pub(super) fn hop(slot: u32) -> NextHop {
    #[expect(clippy::cast_possible_truncation, reason = "sixteen bits are wanted")]
    let hop = slot as NextHop;
    hop
}

/// The cells of a node, whole lines, from the runs of its octets, first octet and answer; gives its form.
pub(super) fn encode(
    runs: impl Iterator<Item = (u8, u32)> + Clone,
    inherited: NextHop,
    out: &mut Vec<u32>,
) -> Form {
    out.clear();
    let own = |slot| {
        if slot == INHERIT {
            inherited.into()
        } else {
            slot
        }
    };
    let (mut keys, mut slots) = ([u8::MAX; RUNS], [0; RUNS]);
    let (mut count, mut inheriting, mut last) = (0, 0_u32, INHERIT);
    for (begin, slot) in runs.clone() {
        if count > 0 && slot == last {
            continue;
        }
        let (Some(key), Some(place)) = (keys.get_mut(count), slots.get_mut(count)) else {
            last = INHERIT;
            for (begin, slot) in runs {
                out.resize(begin.into(), own(last));
                last = slot;
            }
            out.resize(256, own(last));
            return Form::Wide;
        };
        (*key, *place, last) = (begin, own(slot), slot);
        inheriting |= u32::from(slot == INHERIT) << count;
        count += 1;
    }
    slots[count..].fill(own(last));
    if last == INHERIT {
        inheriting |= ((1 << RUNS) - 1) & (u32::MAX << count);
    }
    for key in keys.as_chunks().0 {
        out.push(u32::from_le_bytes(*key));
    }
    out.push(inheriting << INHERITING | u32::from(inherited));
    out.extend(slots);
    Form::Narrow
}

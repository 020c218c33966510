//! The forwarding table: cells of 16 bits that hold either a next hop or a reference to 256 finer cells.
//!
//! The first cells are the root: a window of the address space in steps of 2^`shift` addresses, then one cell for
//! everything outside. With shift 8 and a window over everything this is DIR-24-8 (Gupta, Lin, McKeown, "Routing
//! lookups in hardware at memory access speeds", 1998); with a window over a cluster's pod range it has the same speed
//! in a few kilobytes. Behind the root come groups of 256 cells, each of which resolves eight more bits (fewer where
//! fewer are left).
//!
//! A cell refers to a group exactly as long as a prefix ends below it, whatever the next hops are: how many groups a
//! table takes depends on its prefixes alone, and removing one never takes a group. (Where the window begins and ends in
//! the middle of a cell below the outside cell, there may be one for that reason: [`BORDERS`] at most.)
//!
//! A look-up in the window reads one cell where the root resolves the address, and one more per eight bits otherwise;
//! outside it reads the outside cell and up to four more. Painting writes each cell of the root that the stretch
//! covers, and up to 256 cells per level at each end of it.
//!
//! Readers may be at work while the [`Editor`](super::editor::Editor) writes. Each address gets its new next hop by one store: a group is filled
//! before the cell that leads to it is written (release), and what it replaces stays as it is until no reader can be in it
//! ([`Limbo`](crate::table::limbo::Limbo)).

use alloc::sync::Arc;
use core::ops::Range;

use crate::arch::{self, Kernel};
use crate::sync::{AtomicU16, Ordering, fence};
use crate::table::{NO_ROUTE, NextHop, work};

/// Set in a cell that refers to a group; the other bits are the group's number.
pub(super) const MORE: u16 = 0x8000;
/// Bits that a group resolves; loom has to get by with few cells.
pub(super) const STEP: u32 = if cfg!(loom) { 1 } else { 8 };
/// Cells of a group.
pub(super) const GROUP: usize = 1 << STEP;
/// Groups that a cell can tell apart.
pub(super) const MAX_GROUPS: usize = 0x8000;
/// Groups along the two borders of a window: one per level on each side, the topmost shared.
pub(super) const BORDERS: usize = 2 * (32 / STEP as usize) - 1;
/// Addresses looked up in one go: large enough to hide the latency of the memory, small enough that the results stay
/// in the first-level cache for the second pass.
const CHUNK: usize = 64;

/// The part of the address space that the root resolves directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::table) struct Window {
    /// A cell of the root stands for 2^shift addresses (0..=24).
    pub(super) shift: u32,
    /// First address, shifted right by `shift`.
    pub(super) low: u32,
    /// Cells, the outside cell not counted; at most 2^24.
    pub(super) cells: u32,
}

impl Window {
    /// The whole space, /24 by /24.
    pub(super) const DIR_24: Self = Self {
        shift: 8,
        low: 0,
        cells: 1 << 24,
    };
    /// The whole space, /16 by /16.
    pub(super) const DIR_16: Self = Self {
        shift: 16,
        low: 0,
        cells: 1 << 16,
    };
    /// Nothing: every address is outside.
    pub(super) const NONE: Self = Self {
        shift: 8,
        low: 0,
        cells: 0,
    };

    /// First address.
    pub(super) fn first(self) -> u64 {
        u64::from(self.low) << self.shift
    }

    /// First address beyond the end.
    pub(super) fn end(self) -> u64 {
        (u64::from(self.low) + u64::from(self.cells)) << self.shift
    }

    pub(super) fn is_everything(self) -> bool {
        self.first() == 0 && self.end() == 1 << 32
    }
}

/// A handle to cells that readers and one writer share. Only an [`Editor`](super::editor::Editor) writes to them.
#[derive(Clone, Debug)]
pub(super) struct Table {
    window: Window,
    cells: Arc<[AtomicU16]>,
}

impl Table {
    /// A table without routes that has room for so many groups.
    pub(super) fn new(window: Window, groups: usize) -> Self {
        let root = window.cells as usize + 1;
        let len = root + groups.min(MAX_GROUPS) * GROUP;
        // A kernel may load cells in pairs.
        let len = len.next_multiple_of(2);
        work::table(len);
        Self {
            window,
            cells: arch::shared(len, |_| AtomicU16::new(NO_ROUTE)),
        }
    }

    /// A copy with room for so many groups, as many as there are at least.
    pub(super) fn grown(&self, groups: usize) -> Self {
        let len = self.root() + groups.max(self.groups()).min(MAX_GROUPS) * GROUP;
        work::table(len);
        Self {
            window: self.window,
            cells: arch::shared(len.next_multiple_of(2), |nth| {
                let cell = self.cells.get(nth);
                AtomicU16::new(cell.map_or(NO_ROUTE, |cell| cell.load(Ordering::Relaxed)))
            }),
        }
    }

    pub(super) fn window(&self) -> Window {
        self.window
    }

    /// Groups it has room for.
    pub(super) fn groups(&self) -> usize {
        (self.cells.len() - self.root()) / GROUP
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.cells)
    }

    /// Cells of the root, the outside cell included.
    fn root(&self) -> usize {
        self.window.cells as usize + 1
    }

    /// Number of the root cell that stands for an address.
    #[inline]
    fn root_index(&self, address: u32) -> u32 {
        (address >> self.window.shift)
            .wrapping_sub(self.window.low)
            .min(self.window.cells)
    }

    /// Next hop of an address, [`NO_ROUTE`] if there is none.
    #[inline]
    pub(super) fn lookup(&self, address: u32) -> NextHop {
        let index = self.root_index(address);
        let cell = self.load(index as usize);
        if cell & MORE == 0 {
            cell
        } else {
            self.descend(address, index, cell)
        }
    }

    /// [`lookup`](Self::lookup) of every address; stops at the end of the shorter slice.
    pub(super) fn lookup_batch(&self, kernel: Kernel, addresses: &[u32], hops: &mut [NextHop]) {
        let Window { shift, low, cells } = self.window;
        for (addresses, hops) in addresses.chunks(CHUNK).zip(hops.chunks_mut(CHUNK)) {
            let mut links = kernel.load_cells(&self.cells, cells, shift, low, addresses, hops);
            // The kernel's loads are relaxed: what a group holds was written before the cell that refers to it.
            fence(Ordering::Acquire);
            while links != 0 {
                let nth = links.trailing_zeros() as usize;
                links &= links - 1;
                if let (Some(&address), Some(hop)) = (addresses.get(nth), hops.get_mut(nth)) {
                    let index = self.root_index(address);
                    // One level more is what nearly all have that have any.
                    if index < cells && shift >= STEP {
                        let within = (address >> (shift - STEP)) as usize % GROUP;
                        let cell = self.load(self.group(*hop) + within);
                        if cell & MORE == 0 {
                            *hop = cell;
                            continue;
                        }
                    }
                    *hop = self.descend(address, index, *hop);
                }
            }
        }
    }

    /// Follows a reference from the root cell `index` down to a next hop.
    #[inline]
    fn descend(&self, address: u32, index: u32, mut cell: u16) -> NextHop {
        let mut bits = if index == self.window.cells {
            32
        } else {
            self.window.shift
        };
        while cell & MORE != 0 {
            let step = bits.min(STEP);
            if step == 0 {
                // A cell that stands for one address has nothing below it.
                return NO_ROUTE;
            }
            bits -= step;
            let within = (address >> bits) & ((1 << step) - 1);
            cell = self.load(self.group(cell) + within as usize);
        }
        cell
    }

    /// Index of the first cell of the group that `cell` refers to.
    #[inline]
    pub(super) fn group(&self, cell: u16) -> usize {
        self.root() + usize::from(cell & !MORE) * GROUP
    }

    #[inline]
    pub(super) fn load(&self, index: usize) -> u16 {
        self.cells
            .get(index)
            .map_or(NO_ROUTE, |cell| cell.load(Ordering::Acquire))
    }

    pub(super) fn store(&self, index: usize, cell: u16) {
        self.cells[index].store(cell, Ordering::Release);
    }

    /// Fills cells that no reader can be at.
    pub(super) fn fill(&self, cells: Range<usize>, with: u16) {
        for cell in &self.cells[cells] {
            cell.store(with, Ordering::Relaxed);
        }
    }
}

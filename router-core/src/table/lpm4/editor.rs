//! The one writer of a table: gives stretches of addresses a next hop.
//!
//! A cell has a group for as long as a prefix ends below it; when the last one of these goes, the group is given back. Readers
//! may be at work: see [`cells`](super::cells).
//!
//! Cost: each cell of the root that a stretch covers, and up to 256 cells per level at each end of it.

use super::Rib;
use super::cells::{MORE, STEP, Table};
use super::groups::Groups;
use crate::table::{Full, NextHop};

/// Cells of one group or of the root, and what addresses they stand for.
#[derive(Clone, Copy)]
struct Span {
    /// Index of the first cell.
    cells: usize,
    /// First address of the first cell.
    base: u64,
    /// A cell stands for 2^bits addresses.
    bits: u32,
    /// Below the outside cell: nobody looks here for the window's addresses.
    is_outside: bool,
}

/// The one writer of a table.
pub(super) struct Editor<'a> {
    pub(super) table: &'a Table,
    pub(super) groups: &'a mut Groups,
    /// The prefixes as they are after the change that is being painted.
    pub(super) rib: &'a Rib,
    /// Groups that are not to be taken.
    pub(super) reserve: usize,
}

impl Editor<'_> {
    /// Gives the addresses `from..=to` a next hop.
    ///
    /// # Errors
    /// [`Full`] if a group is wanted and none is left: a part of the stretch may have its new next hop then.
    pub(super) fn paint(&mut self, from: u32, to: u32, hop: NextHop) -> Result<(), Full> {
        let (from, end) = (u64::from(from), u64::from(to) + 1);
        let window = self.table.window();
        let (first, beyond) = (window.first(), window.end());
        let (inner_from, inner_end) = (from.max(first), end.min(beyond));
        if inner_from < inner_end {
            let root = Span {
                cells: 0,
                base: first,
                bits: window.shift,
                is_outside: false,
            };
            self.paint_span(root, inner_from, inner_end, hop)?;
        }
        if window.is_everything() {
            return Ok(());
        }
        let outside = Span {
            cells: window.cells as usize,
            base: 0,
            bits: 32,
            is_outside: true,
        };
        if end > beyond {
            // Below the outside cell nobody looks for the window's addresses: they get what comes behind the window,
            // so that one route on both sides of it needs no groups along its borders.
            let from = if from <= beyond {
                from.min(first)
            } else {
                from
            };
            self.paint_span(outside, from, end, hop)
        } else if from < first {
            self.paint_span(outside, from, end.min(first), hop)
        } else {
            Ok(())
        }
    }

    /// Paints the cells of `span` that the stretch touches; the stretch lies within what the span's cells stand for.
    fn paint_span(&mut self, span: Span, from: u64, end: u64, hop: NextHop) -> Result<(), Full> {
        let mut at = from;
        while at < end {
            let nth = (at - span.base) >> span.bits;
            let base = span.base + (nth << span.bits);
            let next = base + (1 << span.bits);
            let index = span.cells + usize::try_from(nth).map_err(|_| Full)?;
            let old = self.table.load(index);
            if at == base && next <= end {
                self.table.store(index, hop);
                if old & MORE != 0 {
                    self.release(old, span.bits);
                }
            } else {
                self.paint_part(
                    index,
                    old,
                    Span {
                        cells: 0,
                        base,
                        ..span
                    },
                    at,
                    end.min(next),
                    hop,
                )?;
            }
            at = next;
        }
        Ok(())
    }

    /// Paints a part of what the cell `index` stands for: addresses from `cell.base` on.
    fn paint_part(
        &mut self,
        index: usize,
        old: u16,
        cell: Span,
        from: u64,
        end: u64,
        hop: NextHop,
    ) -> Result<(), Full> {
        let step = cell.bits.min(STEP);
        let is_new = old & MORE == 0;
        if old == hop && !self.is_divided(cell) {
            return Ok(());
        }
        let link = if is_new {
            MORE | self.groups.take(self.table, self.reserve)?
        } else {
            old
        };
        let cells = self.table.group(link);
        if is_new {
            self.table.fill(cells..cells + (1 << step), old);
        }
        let span = Span {
            cells,
            bits: cell.bits - step,
            ..cell
        };
        let painted = self.paint_span(span, from, end, hop);
        let agreed = self.agreed(cells, 1 << step);
        if let Some(hop) = agreed
            && !self.is_divided(cell)
        {
            self.table.store(index, hop);
            self.groups.give(link & !MORE);
        } else if is_new {
            // Readers find the group from now on, with everything in it.
            self.table.store(index, link);
        }
        painted
    }

    /// Whether a prefix ends below the first cell of `span`, where anybody looks for it.
    fn is_divided(&self, span: Span) -> bool {
        let Span {
            base,
            bits,
            is_outside,
            ..
        } = span;
        let end = base + (1 << bits);
        if !is_outside {
            return self.rib.has_longer(32 - bits, base..end);
        }
        let window = self.table.window();
        self.rib
            .has_longer(32 - bits, base..end.min(window.first()))
            || self.rib.has_longer(32 - bits, base.max(window.end())..end)
    }

    /// The next hop that all these cells hold.
    fn agreed(&self, cells: usize, count: usize) -> Option<NextHop> {
        let first = self.table.load(cells);
        let same = first & MORE == 0
            && (cells + 1..cells + count).all(|index| self.table.load(index) == first);
        same.then_some(first)
    }

    /// Gives back the group that a cell of 2^bits addresses referred to, and those below.
    fn release(&mut self, link: u16, bits: u32) {
        let step = bits.min(STEP);
        let cells = self.table.group(link);
        if bits > step {
            for index in cells..cells + (1 << step) {
                let cell = self.table.load(index);
                if cell & MORE != 0 {
                    self.release(cell, bits - step);
                }
            }
        }
        self.groups.give(link & !MORE);
    }
}

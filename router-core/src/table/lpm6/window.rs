//! The part of the address space that the root of a table resolves directly, and addresses as the halves they are.

use super::nodes::LINE;

/// The part of the address space that the root resolves directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::table) struct Window {
    /// A cell stands for the addresses that share so many octets (0..=8).
    pub(super) level: usize,
    /// Those octets of the first cell, as a number.
    pub(super) low: u64,
    /// Cells, the outside cell not counted; none with level 0.
    pub(super) cells: u32,
}

impl Window {
    /// Nothing: every address is outside.
    pub(super) const NONE: Self = Self {
        level: 0,
        low: 0,
        cells: 0,
    };

    /// Number of the cell of an address, `cells` for those outside.
    #[inline(always)]
    pub(super) fn index(self, address: u128) -> usize {
        let top = upper(address) >> ((64 - 8 * self.level) & 63);
        // At most `cells`.
        let index = top.wrapping_sub(self.low).min(u64::from(self.cells));
        usize::try_from(index).unwrap_or(0)
    }

    pub(super) fn contains(self, address: u128) -> bool {
        self.index(address) != self.cells as usize
    }

    /// First address of a cell.
    pub(super) fn address(self, index: usize) -> u128 {
        let top = self.low.wrapping_add(index as u64);
        u128::from(top) << (128 - 8 * self.level)
    }

    /// Depth of the node that a cell may lead to.
    #[inline(always)]
    pub(super) fn level_below(self, index: usize) -> usize {
        if index == self.cells as usize {
            0
        } else {
            self.level
        }
    }

    /// What of an address comes after the octets that led to a cell, as far as 64 bits reach.
    #[inline(always)]
    pub(super) fn rest(self, index: usize, address: u128) -> u64 {
        upper(address << (8 * self.level_below(index)))
    }

    /// Lines that the root takes.
    pub(super) const fn lines(self) -> usize {
        (self.cells as usize + 1).div_ceil(LINE)
    }
}

#[inline(always)]
pub(super) fn upper(address: u128) -> u64 {
    (address >> 64) as u64
}

#[inline(always)]
pub(super) fn octet(address: u128, level: usize) -> usize {
    (upper(address << (8 * (level & 15))) >> 56) as usize
}

//! Which groups of a table are in use, which are free, and which wait for readers.

use alloc::vec::Vec;

use super::cells::Table;
use crate::table::Full;
use crate::table::limbo::Limbo;

/// Which groups of a table are in use.
#[derive(Debug, Default)]
pub(super) struct Groups {
    free: Vec<u16>,
    /// Groups from here on were never used.
    fresh: u16,
    limbo: Limbo<u16, Table>,
}

impl Groups {
    /// No group is in use; those given back wait in `limbo`.
    pub(super) fn new(limbo: Limbo<u16, Table>) -> Self {
        Self {
            limbo,
            ..Self::default()
        }
    }

    /// From now on, those given back wait in `limbo`. Nobody is in those that waited.
    pub(super) fn share(&mut self, limbo: Limbo<u16, Table>) {
        self.limbo.clear(|group| self.free.push(group));
        self.limbo = limbo;
    }

    /// Takes a group and leaves `reserve` of them.
    pub(super) fn take(&mut self, table: &Table, reserve: usize) -> Result<u16, Full> {
        if !self.has_more_than(reserve, table) {
            // What was taken out last may be out of use by now, too.
            self.limbo.turn(|group| self.free.push(group));
            self.limbo.turn(|group| self.free.push(group));
            if !self.has_more_than(reserve, table) {
                return Err(Full);
            }
        }
        if let Some(group) = self.free.pop() {
            return Ok(group);
        }
        let group = self.fresh;
        self.fresh += 1;
        Ok(group)
    }

    fn has_more_than(&self, reserve: usize, table: &Table) -> bool {
        self.free.len() + table.groups() - usize::from(self.fresh) > reserve
    }

    /// Takes back a group that no cell refers to any more.
    pub(super) fn give(&mut self, group: u16) {
        self.limbo.add(group, |group| self.free.push(group));
    }

    /// Groups in use.
    pub(super) fn used(&self) -> usize {
        usize::from(self.fresh) - self.free.len() - self.waiting()
    }

    /// Groups that are not in use and can't be taken yet.
    pub(super) fn waiting(&self) -> usize {
        self.limbo.len()
    }
}

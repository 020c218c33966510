//! A hash index: where in somebody else's array an entry with a given hash is.
//!
//! Open addressing with linear probing at a load of one half at most; removal shifts followers back, so that there are
//! no tombstones and a lookup's cost depends on what is in the table only.
//!
//! Cost: expected 1.5 probes of 8 bytes each for a hit, 2.5 for a miss; never allocates after its making.

use alloc::vec::Vec;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    /// Low half of the hash: spares most comparisons of keys, and gives the home cell without asking for the key.
    hash: u32,
    /// Index of the entry, or `FREE`.
    entry: u32,
}

const FREE: Cell = Cell {
    hash: 0,
    entry: u32::MAX,
};

/// See the module. Holds at most the number of entries it was made for.
#[derive(Debug)]
pub(crate) struct HashIndex {
    cells: Vec<Cell>,
}

impl HashIndex {
    /// An index for up to `capacity` entries.
    pub(crate) fn new(capacity: usize) -> Self {
        let cells = (capacity.max(1) * 2).next_power_of_two();
        Self {
            cells: alloc::vec![FREE; cells],
        }
    }

    /// The entry with this hash for which `is_it` is true.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        self.position(hash, is_it)
            .map(|at| self.cells[at].entry as usize)
    }

    /// Adds an entry that is not there yet.
    ///
    /// # Panics
    /// When the table has more entries than it was made for.
    pub(crate) fn insert(&mut self, hash: u64, entry: usize) {
        let hash = low(hash);
        let mask = self.cells.len() - 1;
        let mut at = hash as usize & mask;
        for _ in 0..=mask {
            if self.cells[at] == FREE {
                let entry = u32::try_from(entry).expect("an entry's index is below 2^32");
                self.cells[at] = Cell { hash, entry };
                return;
            }
            at = (at + 1) & mask;
        }
        panic!("a hash index holds no more entries than it was made for");
    }

    /// Removes the entry with this hash for which `is_it` is true; nothing happens when there is none.
    pub(crate) fn remove(&mut self, hash: u64, is_it: impl Fn(usize) -> bool) {
        let Some(mut hole) = self.position(hash, is_it) else {
            return;
        };
        let mask = self.cells.len() - 1;
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let cell = self.cells[at];
            if cell == FREE {
                break;
            }
            // A follower may move into the hole unless its home lies behind the hole.
            let home = cell.hash as usize & mask;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.cells[hole] = cell;
                hole = at;
            }
        }
        self.cells[hole] = FREE;
    }

    #[inline]
    fn position(&self, hash: u64, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        let hash = low(hash);
        let mask = self.cells.len() - 1;
        let mut at = hash as usize & mask;
        // Half of the cells are free, so the loop ends at one.
        loop {
            let cell = self.cells[at];
            if cell == FREE {
                return None;
            }
            if cell.hash == hash && is_it(cell.entry as usize) {
                return Some(at);
            }
            at = (at + 1) & mask;
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "half of the hash is enough"
)]
const fn low(hash: u64) -> u32 {
    hash as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Few distinct hashes, so that entries collide and runs wrap around the end.
        #[test]
        fn any_history_finds_what_a_list_finds(ops in proptest::collection::vec((any::<bool>(), 0..16_usize), 0..200)) {
            let hash = |entry: usize| (entry as u64 % 5) * 7;
            let mut index = HashIndex::new(16);
            let mut list: Vec<usize> = Vec::new();
            for (add, entry) in ops {
                if add && !list.contains(&entry) {
                    index.insert(hash(entry), entry);
                    list.push(entry);
                } else if !add {
                    index.remove(hash(entry), |e| e == entry);
                    list.retain(|&e| e != entry);
                }
                for e in 0..16 {
                    prop_assert_eq!(index.find(hash(e), |x| x == e), list.contains(&e).then_some(e));
                }
            }
            prop_assert_eq!(index.cells.iter().filter(|c| **c != FREE).count(), list.len());
        }
    }
}

//! What an update costs, counted instead of timed: for tests of the bounds. Elsewhere nothing is counted.

#[cfg(test)]
/// What is counted: prefixes that were gone through, or nodes of a trie taken apart; cells that were copied or filled because a table was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) prefixes: usize,
    pub(super) cells: usize,
}

#[cfg(test)]
std::thread_local! {
    static DONE: core::cell::Cell<Work> = const { core::cell::Cell::new(Work { prefixes: 0, cells: 0 }) };
}

/// A prefix was gone through, or a node taken apart.
#[inline(always)]
pub(super) fn prefix() {
    #[cfg(test)]
    add(1, 0);
}

/// A table of so many cells was made.
#[inline(always)]
pub(super) fn table(cells: usize) {
    #[cfg(test)]
    add(0, cells);
    #[cfg(not(test))]
    let _ = cells;
}

#[cfg(test)]
fn add(prefixes: usize, cells: usize) {
    let done = DONE.get();
    DONE.set(Work {
        prefixes: done.prefixes + prefixes,
        cells: done.cells + cells,
    });
}

/// What this thread did since it last asked.
#[cfg(test)]
fn done() -> Work {
    DONE.take()
}

/// The most that one of these updates did.
#[cfg(test)]
pub(super) fn most(updates: impl Iterator<Item = ()>) -> Work {
    done();
    updates.fold(Work::default(), |most, ()| {
        let done = done();
        Work {
            prefixes: most.prefixes.max(done.prefixes),
            cells: most.cells.max(done.cells),
        }
    })
}

/// What these updates did together.
#[cfg(test)]
pub(super) fn all(updates: impl Iterator<Item = ()>) -> Work {
    done();
    updates.for_each(drop);
    done()
}

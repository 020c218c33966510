//! Another form for a table whose prefixes have changed, a bit with each update.
//!
//! Which form suits a table, and so how fast its look-ups are and how much memory it takes, is a question about all its
//! prefixes. A small table answers it at once. A large one would keep an update waiting for milliseconds, so it is gone
//! through in stretches, one with every [`TURN`]th update: first to look at some of the prefixes, and, where another form
//! would be better, to fill a second table in that form. Updates go on meanwhile; one of a prefix that has been passed
//! is done in the second table too. When that is full it takes the first one's place, whose trie is taken apart in the
//! same way.
//!
//! ```text
//!   rest --many changes--> look --another form is better--> fill --all passed--> clear --> rest
//!                            '--this one is good-----------------------------------------> rest
//! ```
//!
//! Cost: eight prefixes for each update while it lasts, less than two thirds of a microsecond each on average; memory of
//! both tables while one is filled. It begins after half as many prefixes more than the last time, a third fewer, or twice as
//! many changes as there are prefixes: of a table that grows from nothing each prefix is filled in about three times.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::rib::{Address, Prefix, Rib};
use super::{Full, NextHop};

/// Up to so many prefixes are looked at in one go.
const AT_ONCE: usize = 4_096;
/// Updates from one stretch to the next, and prefixes of a stretch.
const TURN: usize = 32;
const STRETCH: usize = 256;
/// So many prefixes say what suits all of them; up to twice as many are kept.
const SOME: usize = 4_096;
/// Nodes of a trie that are taken apart at once.
const NODES: usize = 256;

/// A table that can take several forms.
pub(super) trait Forms: Sized {
    /// What its prefixes are about.
    type Address: Address;
    /// What can be chosen.
    type Form: Copy;

    /// A form that is better by much than the present one, where each of these prefixes (by address, shorter ones first)
    /// stands for `each` of the table's.
    fn better(&self, some: &[Prefix<Self::Address>], each: usize) -> Option<Self::Form>;

    /// A table without prefixes in a form, with about as much room as this one uses.
    fn empty(&self, form: Self::Form) -> Self;

    /// Adds a prefix, changes its next hop, or removes it.
    ///
    /// # Errors
    /// [`Full`] if it does not fit.
    fn set(&mut self, prefix: Prefix<Self::Address>, hop: Option<NextHop>) -> Result<(), Full>;

    /// All prefixes.
    fn rib(&self) -> &Rib<Self::Address>;
}

/// How far it is.
#[derive(Debug)]
pub(super) struct Refit<T: Forms> {
    /// Prefixes when the form was chosen, and updates since.
    chosen_for: usize,
    changes: usize,
    stage: Stage<T>,
}

#[derive(Debug)]
enum Stage<T: Forms> {
    Rest,
    Look {
        some: Vec<Prefix<T::Address>>,
        each: usize,
        passed: usize,
        after: Option<Prefix<T::Address>>,
    },
    Fill {
        next: Box<T>,
        after: Option<Prefix<T::Address>>,
    },
    Clear(Rib<T::Address>),
}

/// What is to be done.
pub(super) enum Turn<T> {
    Nothing,
    /// The table is small: choose at once.
    Choose,
    /// This is the table, in another form.
    Take(Box<T>),
}

impl<T: Forms> Default for Refit<T> {
    fn default() -> Self {
        Self::chosen(0)
    }
}

impl<T: Forms> Refit<T> {
    /// The form was chosen for so many prefixes.
    pub(super) fn chosen(count: usize) -> Self {
        Self {
            chosen_for: count,
            changes: 0,
            stage: Stage::Rest,
        }
    }

    /// The table came to another form; its former trie is left.
    pub(super) fn clear(&mut self, rib: Rib<T::Address>) {
        self.stage = Stage::Clear(rib);
    }

    /// A prefix of `table` was added, changed or removed.
    pub(super) fn turn(
        table: &mut T,
        refit: impl Fn(&mut T) -> &mut Self,
        prefix: Prefix<T::Address>,
    ) -> Turn<T> {
        if refit(table).has_passed(prefix) {
            let hop = table.rib().get(prefix);
            refit(table).follow(prefix, hop);
        }
        let count = table.rib().len();
        let own = refit(table);
        own.changes += 1;
        if let Stage::Rest = own.stage {
            if !own.is_stale(count) {
                return Turn::Nothing;
            }
            (own.changes, own.chosen_for) = (0, count);
            if count <= AT_ONCE {
                return Turn::Choose;
            }
            own.stage = Stage::Look {
                some: Vec::new(),
                each: (count / SOME).max(1),
                passed: 0,
                after: None,
            };
        }
        if !own.changes.is_multiple_of(TURN) {
            return Turn::Nothing;
        }
        let stage = core::mem::replace(&mut own.stage, Stage::Rest);
        let (stage, turn) = Self::go_on(table, stage);
        let own = refit(table);
        own.stage = stage;
        if let Turn::Take(_) = turn {
            // All that came meanwhile is in it.
            own.chosen_for = count;
        }
        turn
    }

    /// Whether a second table is being filled that has passed this prefix: it wants the same update.
    fn has_passed(&self, prefix: Prefix<T::Address>) -> bool {
        let place = |prefix: Prefix<T::Address>| (prefix.address, prefix.len);
        match &self.stage {
            Stage::Fill { after, .. } => after.is_some_and(|after| place(prefix) <= place(after)),
            _ => false,
        }
    }

    /// The update that it wants.
    fn follow(&mut self, prefix: Prefix<T::Address>, hop: Option<NextHop>) {
        if let Stage::Fill { next, .. } = &mut self.stage
            && next.set(prefix, hop).is_err()
        {
            // The present form has room for it.
            self.stage = Stage::Rest;
        }
    }

    /// Whether another form might suit so many prefixes better by now.
    fn is_stale(&self, count: usize) -> bool {
        let then = self.chosen_for;
        let many = 64 + then.min(count);
        self.changes > 2 * many || then.abs_diff(count) > many / 2 && self.changes > 64
    }

    /// A stretch.
    fn go_on(table: &T, stage: Stage<T>) -> (Stage<T>, Turn<T>) {
        let rib = table.rib();
        match stage {
            Stage::Rest => (Stage::Rest, Turn::Nothing),
            Stage::Look {
                mut some,
                each,
                mut passed,
                mut after,
            } => {
                let mut left = STRETCH;
                for (prefix, _) in rib.iter_after(after).take(STRETCH) {
                    if passed % each == 0 {
                        some.push(prefix);
                    }
                    passed += 1;
                    left -= 1;
                    after = Some(prefix);
                }
                if left == 0 && some.len() < 2 * SOME {
                    let stage = Stage::Look {
                        some,
                        each,
                        passed,
                        after,
                    };
                    return (stage, Turn::Nothing);
                }
                let stage = match table.better(&some, each) {
                    Some(form) => Stage::Fill {
                        next: Box::new(table.empty(form)),
                        after: None,
                    },
                    None => Stage::Rest,
                };
                (stage, Turn::Nothing)
            }
            Stage::Fill {
                mut next,
                mut after,
            } => {
                let mut left = STRETCH;
                for (prefix, hop) in rib.iter_after(after).take(STRETCH) {
                    if next.set(prefix, Some(hop)).is_err() {
                        // The present form has room for it.
                        return (Stage::Rest, Turn::Nothing);
                    }
                    left -= 1;
                    after = Some(prefix);
                }
                if left == 0 {
                    (Stage::Fill { next, after }, Turn::Nothing)
                } else {
                    (Stage::Rest, Turn::Take(next))
                }
            }
            Stage::Clear(mut rib) => {
                if rib.take_apart(NODES) {
                    (Stage::Rest, Turn::Nothing)
                } else {
                    (Stage::Clear(rib), Turn::Nothing)
                }
            }
        }
    }
}

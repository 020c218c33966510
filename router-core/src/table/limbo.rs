//! Parts of a table that wait until no reader can be in them any more: see [`shared`](super::shared).

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::shared::Shared;

/// So many parts are taken out between two questions to the readers; in a model there are few parts.
const TURN: usize = if cfg!(loom) { 1 } else { 64 };

/// Waiting parts of a table with handle `H`, each named by a `T`. Without readers nothing has to wait.
#[derive(Debug)]
pub(crate) struct Limbo<T, H> {
    shared: Option<Arc<Shared<H>>>,
    /// Taken out since the last epoch began.
    young: Vec<T>,
    /// Taken out before `epoch` began.
    old: Vec<T>,
    epoch: u64,
}

impl<T, H> Default for Limbo<T, H> {
    fn default() -> Self {
        Self {
            shared: None,
            young: Vec::new(),
            old: Vec::new(),
            epoch: 0,
        }
    }
}

impl<T, H: Clone> Limbo<T, H> {
    /// Parts of a table that readers of `shared` may be in.
    pub(crate) fn new(shared: Option<Arc<Shared<H>>>) -> Self {
        Self {
            shared,
            ..Self::default()
        }
    }

    /// A part was unlinked. `free` is called with the parts that nobody can be in, sooner or later with this one too.
    pub(crate) fn add(&mut self, part: T, mut free: impl FnMut(T)) {
        if self.shared.is_none() {
            return free(part);
        }
        self.young.push(part);
        if self.young.len().is_multiple_of(TURN) {
            self.turn(free);
        }
    }

    /// Calls `free` with every part that nobody can be in any more.
    pub(crate) fn turn(&mut self, free: impl FnMut(T)) {
        let Some(shared) = &self.shared else { return };
        if !self.old.is_empty() {
            if !shared.has_passed(self.epoch) {
                return;
            }
            self.old.drain(..).for_each(free);
        }
        if !self.young.is_empty() {
            core::mem::swap(&mut self.old, &mut self.young);
            self.epoch = shared.begin();
        }
    }

    /// Calls `free` with every part: the table was copied, and nobody is in the copy.
    pub(crate) fn clear(&mut self, free: impl FnMut(T)) {
        self.young
            .drain(..)
            .chain(self.old.drain(..))
            .for_each(free);
    }

    /// Parts that wait.
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

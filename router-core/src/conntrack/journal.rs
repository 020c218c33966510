//! Which connections have changed, for whoever keeps a copy of the table (decision 10).
//!
//! Decides what is worth a copy: what was answered, and what is translated; the rest begins anew unnoticed. A connection is
//! named by its place in the array. Places that changed stand in a list of fixed length, each once until somebody asks;
//! when it is full, the whole array is walked instead, a piece for each question.
//!
//! Cost: without a journal one branch per connection that begins, ends or changes its state. With one, a store in the
//! list; packets that change nothing cost nothing. Refreshed timers are no change: a copy tells how long its connection
//! would live from its last packet on. Nothing allocates after the journal was begun.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use super::view::Session;
use super::{CONFIRMED, ConnId, Connection, Conntrack, KEPT, QUEUED, SEEN_REPLY, TRANSLATED};
use crate::time::Instant;

/// Places that may wait to be asked for.
const LONGEST: usize = 16_384;

/// What happened to the place of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// All places are empty.
    Cleared,
    /// A connection is there now, in place of any before it.
    Set(u32, Session),
    /// None is there any more.
    Gone(u32),
}

#[derive(Debug)]
pub(super) struct Journal {
    changed: VecDeque<u32>,
    /// Next place of the walk.
    walk: Option<u32>,
    /// More changed during the walk than the list could take.
    again: bool,
    /// The table is new.
    cleared: bool,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self {
            changed: VecDeque::with_capacity(LONGEST),
            // What is there already.
            walk: Some(0),
            again: false,
            cleared: true,
        }
    }

    /// True when the place is in the list from now on.
    fn push(&mut self, place: u32) -> bool {
        if self.changed.len() < LONGEST {
            self.changed.push_back(place);
            return true;
        }
        match self.walk {
            None => self.walk = Some(0),
            Some(_) => self.again = true,
        }
        false
    }
}

impl Connection {
    /// Whether a copy of it is worth having.
    fn is_kept(&self) -> bool {
        self.status & CONFIRMED != 0 && self.status & (SEEN_REPLY | TRANSLATED) != 0
    }
}

impl Conntrack {
    /// From now on changes are noted.
    pub(crate) fn keep_journal(&mut self) {
        self.journal = Some(Box::new(Journal::new()));
    }

    /// True when [`Conntrack::changes`] has something to tell.
    pub(crate) fn has_changes(&self) -> bool {
        self.journal
            .as_ref()
            .is_some_and(|j| j.cleared || j.walk.is_some() || !j.changed.is_empty())
    }

    /// Notes that a connection has begun, ended or changed its state.
    #[inline]
    pub(super) fn note(&mut self, id: ConnId) {
        let Self { journal, conns, .. } = self;
        if let (Some(journal), Some(conn)) = (journal, conns.get_mut(id.0 as usize))
            && conn.status & QUEUED == 0
            && journal.push(id.0)
        {
            conn.status |= QUEUED;
        }
    }

    /// Tells at most `most` changes, oldest first.
    pub(crate) fn changes(&mut self, now: Instant, most: usize, mut tell: impl FnMut(Change)) {
        let Self {
            journal,
            conns,
            protos,
            asides,
            ..
        } = self;
        let Some(journal) = journal else { return };
        if core::mem::take(&mut journal.cleared) {
            tell(Change::Cleared);
        }
        for _ in 0..most {
            let place = match (journal.changed.pop_front(), journal.walk) {
                (Some(place), _) => place,
                (None, Some(place)) if (place as usize) < conns.len() => {
                    journal.walk = Some(place + 1);
                    place
                }
                (None, Some(_)) => {
                    journal.walk = core::mem::take(&mut journal.again).then_some(0);
                    continue;
                }
                (None, None) => return,
            };
            let at = place as usize;
            let beside = protos.get(at).zip(asides.get(at));
            let Some((conn, (proto, aside))) = conns.get_mut(at).zip(beside) else {
                continue;
            };
            conn.status &= !QUEUED;
            if conn.is_kept() {
                conn.status |= KEPT;
                tell(Change::Set(place, Session::of(conn, proto, aside, now)));
            } else if conn.status & KEPT != 0 {
                conn.status &= !KEPT;
                tell(Change::Gone(place));
            }
        }
    }
}

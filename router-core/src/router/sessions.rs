//! Connections and the nat table, for the control plane to look at and to change.

use super::Router;
use crate::conntrack::{Change, Filter, Session};
use crate::nat::ChainCounts;
use crate::stats::Event;
use crate::time::Instant;

/// Whether somebody keeps a copy of the table of connections.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Journal {
    kept: bool,
    /// The table is gone, and he does not know yet.
    stale: bool,
}

/// How full the table of connections is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Tracking {
    /// Connections, expired ones that nobody has looked at since included.
    pub connections: usize,
    /// Bytes of address space that table, timers and connections take; the system gives what is used.
    pub bytes: usize,
}

impl Router {
    /// How full the table of connections is; none when the node tracks none.
    #[must_use]
    pub fn tracking(&self) -> Option<Tracking> {
        let conntrack = self.nat.as_ref()?.conntrack();
        Some(Tracking {
            connections: conntrack.len(),
            bytes: conntrack.bytes(),
        })
    }

    /// The connections at `now`, in no particular order.
    pub fn sessions(&self, now: Instant) -> impl Iterator<Item = Session> + '_ {
        let nat = self.nat.as_ref().into_iter();
        nat.flat_map(move |nat| nat.conntrack().sessions(now))
    }

    /// Removes the connections that `filter` holds for; gives their number.
    pub fn flush_sessions(&mut self, filter: &Filter) -> usize {
        self.nat.as_mut().map_or(0, |nat| nat.flush(filter))
    }

    /// Puts a connection back that an earlier router had (decision 10), as [`Router::sessions`] or
    /// [`Router::take_changes`] gave it. False, and counted, when it can't be: the node tracks none, the table is full, or
    /// another connection has one of its tuples.
    pub fn import_session(&mut self, now: Instant, session: &Session) -> bool {
        let nat = self.nat.as_mut();
        let restored = nat.is_some_and(|nat| nat.import(now, session));
        self.stats.count(if restored {
            Event::ConnectionRestored
        } else {
            Event::ConnectionLost
        });
        restored
    }

    /// Counts a connection of an earlier router whose copy is damaged.
    pub fn lose_session(&mut self) {
        self.stats.count(Event::ConnectionLost);
    }

    /// From now on changes of connections are noted for [`Router::take_changes`], beginning with those that there are.
    pub fn keep_journal(&mut self) {
        self.journal.kept = true;
        if let Some(nat) = &mut self.nat {
            nat.keep_journal();
        }
    }

    /// True when [`Router::take_changes`] has something to tell.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        let nat = self.nat.as_ref();
        self.journal.stale || nat.is_some_and(|nat| nat.conntrack().has_changes())
    }

    /// Tells of at most `most` connections that have begun, ended or changed their state: those that were answered or are
    /// translated, by their place in the table.
    pub fn take_changes(&mut self, now: Instant, most: usize, mut tell: impl FnMut(Change)) {
        if core::mem::take(&mut self.journal.stale) {
            tell(Change::Cleared);
        }
        if let Some(nat) = &mut self.nat {
            nat.changes(now, most, tell);
        }
    }

    /// The table may be another one than before.
    pub(super) fn journal_table(&mut self, had: bool) {
        match &mut self.nat {
            Some(nat) if self.journal.kept && !had => nat.keep_journal(),
            None if self.journal.kept && had => self.journal.stale = true,
            _ => {}
        }
    }

    /// Counters of the nat table, chain by chain in the order of the snapshot.
    #[must_use]
    pub fn nat_counts(&self) -> &[ChainCounts] {
        self.nat.as_ref().map_or(&[], |nat| nat.counts())
    }

    /// Sets the counters of the nat table to zero, as `iptables -Z` does.
    pub fn zero_nat_counts(&mut self) {
        if let Some(nat) = &mut self.nat {
            nat.zero_counts();
        }
    }
}

//! Connections and the nat table, for the control plane to look at and to change.

use super::Router;
use crate::conntrack::{Filter, Session};
use crate::nat::ChainCounts;
use crate::time::Instant;

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

    /// Puts a connection back that [`Router::sessions`] gave in an earlier life (decision 10). False when it can't be: the
    /// node tracks none, the table is full, or another connection has one of its tuples.
    pub fn import_session(&mut self, now: Instant, session: &Session) -> bool {
        self.nat
            .as_mut()
            .is_some_and(|nat| nat.import(now, session))
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

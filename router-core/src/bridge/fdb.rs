//! The forwarding database of one bridge: behind which port a station was seen last.
//!
//! A fixed number of learned entries in a list by age, found by a seeded hash. An entry not heard of for [`AGEING`] is as good
//! as absent from that instant on; nothing scans for it: it goes when its place is wanted, and the place that is wanted is
//! always that of the station not heard of for longest (BR-11). The bridge's own addresses are permanent, come on top of the
//! limit and are never learned over (BR-10).
//!
//! Differs from Linux, whose table has no limit unless `fdb_max_learned` is set, and which refuses new stations then.
//!
//! Cost: a look-up is one hash look-up (about 1.5 probes of 8 bytes and one entry); learning adds the few stores of moving an
//! entry to the head of a list. No allocation after [`Fdb::configure`].

use alloc::vec::Vec;
use core::time::Duration;

use crate::addr::Mac;
use crate::config::PortId;
use crate::random;
use crate::table::index::HashIndex;
use crate::time::Instant;

/// Linux `ageing_time`, 30000 centiseconds; IEEE 802.1D 7.9.2 recommends the same.
pub(crate) const AGEING: Duration = Duration::from_secs(300);

const END: u32 = u32::MAX;

/// Where a station is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is the bridge itself, or the node's end of one of its ports.
    Own,
    /// Behind this port.
    Port(PortId),
}

/// What learning did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Learned {
    /// It is known there already.
    Refreshed,
    /// It was not known.
    New {
        /// Another, which was known still, is not any more.
        evicted: bool,
    },
    /// It was behind another port until now (BR-5).
    Moved,
    /// It is one of the bridge's own addresses.
    Own,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    mac: Mac,
    place: Place,
    /// When it was heard of last; meaningless for the bridge's own.
    seen: Instant,
    /// Neighbours in the list by age; a free place has the next free one in `older`.
    newer: u32,
    older: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Fdb {
    entries: Vec<Entry>,
    index: HashIndex,
    seed: u64,
    /// Learned entries at most.
    limit: usize,
    newest: u32,
    oldest: u32,
    free: u32,
    own: Vec<Mac>,
}

impl Fdb {
    /// An empty database for `limit` learned entries, at least one.
    pub(crate) fn new(limit: u16, seed: u64) -> Self {
        let mut fdb = Self {
            entries: Vec::new(),
            index: HashIndex::new(0),
            seed,
            limit: usize::from(limit.max(1)),
            newest: END,
            oldest: END,
            free: END,
            own: Vec::new(),
        };
        fdb.lay_out();
        fdb
    }

    /// Sets the bridge's own addresses, and forgets stations behind ports that are not kept.
    pub(crate) fn configure(&mut self, mut own: Vec<Mac>, keep: impl Fn(PortId) -> bool) {
        own.sort_unstable();
        own.dedup();
        let stays = |entry: &Entry| match entry.place {
            Place::Own => false,
            Place::Port(port) => keep(port) && own.binary_search(&entry.mac).is_err(),
        };
        let learned: Vec<Entry> = self.by_age().copied().collect();
        if own == self.own && learned.iter().all(stays) {
            return;
        }
        self.own = own;
        let own = &self.own;
        let stays = |entry: &Entry| match entry.place {
            Place::Own => false,
            Place::Port(port) => keep(port) && own.binary_search(&entry.mac).is_err(),
        };
        let learned: Vec<Entry> = learned.into_iter().filter(stays).collect();
        self.lay_out();
        for entry in learned.into_iter().rev() {
            self.insert(entry.mac, entry.place, entry.seen);
        }
    }

    /// Where `mac` is; none when that is not known, or was too long ago.
    #[inline]
    pub(crate) fn lookup(&self, now: Instant, mac: Mac) -> Option<Place> {
        let entry = self.entries.get(self.find(mac)?)?;
        match entry.place {
            Place::Port(_) if now.since(entry.seen) >= AGEING => None,
            place => Some(place),
        }
    }

    /// A frame from `mac` came by `port`.
    #[inline]
    pub(crate) fn learn(&mut self, now: Instant, mac: Mac, port: PortId) -> Learned {
        let Some(at) = self.find(mac) else {
            let evicted = self.make_room(now);
            self.insert(mac, Place::Port(port), now);
            return Learned::New { evicted };
        };
        let entry = &mut self.entries[at];
        if entry.place == Place::Own {
            return Learned::Own;
        }
        let aged = now.since(entry.seen) >= AGEING;
        let moved = core::mem::replace(&mut entry.place, Place::Port(port)) != Place::Port(port);
        entry.seen = now;
        self.renew(at);
        match (aged, moved) {
            (true, _) => Learned::New { evicted: false },
            (false, true) => Learned::Moved,
            (false, false) => Learned::Refreshed,
        }
    }

    /// Every entry that is known at `now`: the bridge's own, then the learned ones, newest first, with their age.
    pub(crate) fn iter(&self, now: Instant) -> impl Iterator<Item = (Mac, Place, Duration)> + '_ {
        let own = self
            .own
            .iter()
            .map(|&mac| (mac, Place::Own, Duration::ZERO));
        let learned = self
            .by_age()
            .map(move |entry| (entry.mac, entry.place, now.since(entry.seen)))
            .take_while(|&(_, _, age)| age < AGEING);
        own.chain(learned)
    }

    /// Everything empty but for the bridge's own addresses.
    fn lay_out(&mut self) {
        let places = self.limit + self.own.len();
        self.entries.clear();
        self.entries.reserve_exact(places);
        self.index = HashIndex::new(places);
        (self.newest, self.oldest) = (END, END);
        let blank = Entry {
            mac: Mac::ZERO,
            place: Place::Own,
            seen: Instant::ZERO,
            newer: END,
            older: END,
        };
        self.free = END;
        // The bridge's own take the first places, and never leave them.
        for at in 0..self.own.len() {
            let mac = self.own[at];
            self.entries.push(Entry { mac, ..blank });
            self.index.insert(self.hash(mac), at);
        }
        for at in self.own.len()..places {
            let older = core::mem::replace(&mut self.free, number(at));
            self.entries.push(Entry { older, ..blank });
        }
    }

    /// Frees the oldest entry when no place is free. True when it was known still.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.free != END {
            return false;
        }
        let at = self.oldest;
        let Some(&Entry { mac, seen, .. }) = self.entries.get(at as usize) else {
            return false;
        };
        self.unlink(at as usize);
        let Self { entries, index, .. } = self;
        index.remove(hash(self.seed, mac), |e| entries[e].mac == mac);
        self.entries[at as usize].older = self.free;
        self.free = at;
        now.since(seen) < AGEING
    }

    /// Adds an entry that is not there, as the newest. There is a free place.
    fn insert(&mut self, mac: Mac, place: Place, seen: Instant) {
        let at = self.free as usize;
        let Some(&Entry { older: free, .. }) = self.entries.get(at) else {
            return;
        };
        self.free = free;
        self.entries[at] = Entry {
            mac,
            place,
            seen,
            newer: END,
            older: END,
        };
        self.index.insert(self.hash(mac), at);
        self.link(at);
    }

    fn renew(&mut self, at: usize) {
        if self.newest != number(at) {
            self.unlink(at);
            self.link(at);
        }
    }

    fn link(&mut self, at: usize) {
        let older = core::mem::replace(&mut self.newest, number(at));
        self.entries[at].newer = END;
        self.entries[at].older = older;
        match self.entries.get_mut(older as usize) {
            Some(entry) => entry.newer = number(at),
            None => self.oldest = number(at),
        }
    }

    fn unlink(&mut self, at: usize) {
        let Entry { newer, older, .. } = self.entries[at];
        match self.entries.get_mut(newer as usize) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
        match self.entries.get_mut(older as usize) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
    }

    /// The learned entries, newest first.
    fn by_age(&self) -> impl Iterator<Item = &Entry> + '_ {
        let mut at = self.newest;
        core::iter::from_fn(move || {
            let entry = self.entries.get(at as usize)?;
            at = entry.older;
            Some(entry)
        })
    }

    #[inline]
    fn find(&self, mac: Mac) -> Option<usize> {
        self.index
            .find(self.hash(mac), |at| self.entries[at].mac == mac)
    }

    #[inline]
    fn hash(&self, mac: Mac) -> u64 {
        hash(self.seed, mac)
    }
}

fn hash(seed: u64, mac: Mac) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    random::mix(
        seed ^ u64::from_le_bytes([a, b, c, d, e, f, 0, 0]).wrapping_mul(0x9e37_79b9_7f4a_7c15),
    )
}

/// A place as a link. The limit is 16 bits and a router has fewer than 65536 ports, so that it is below `END`.
fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(END)
}

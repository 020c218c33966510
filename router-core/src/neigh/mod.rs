//! Neighbours: which MAC is behind an IPv4 address on a port, how long that is believed, and who waits for it.
//!
//! The state machine is Linux's (`net/core/neighbour.c`), which is RFC 4861 7.3 with ARP: INCOMPLETE asks by broadcast
//! at 0, 1 and 2 s and is FAILED at 3 s; REACHABLE lasts a random 15 to 45 s; STALE becomes DELAY at its first use, PROBE
//! 5 s later, and FAILED after three unanswered unicast probes. Packets wait in a bounded queue of their entry (NEI-3).
//! An entry is known by port and address, so that nothing learned on one port touches another (NEI-1, GARP-5).
//!
//! Decides on states and times only. What is believable in an ARP packet is the `arp` stage's; sending requests and
//! packets is the router's, which asks with `NeighbourTable::due` what the time has brought.
//!
//! Cost: an answer is one hash lookup. The table is full only under a scan; then each new entry costs one pass over it
//! to find what may go (NEI-10). Timers are a pass over the table at most once per deadline.

mod view;

use alloc::vec::Vec;
use core::net::Ipv4Addr;
use core::time::Duration;

pub use view::{NeighbourState, NeighbourView};

use crate::addr::Mac;
use crate::config::{PermanentNeighbour, PortId};
use crate::frame::Frame;
use crate::frame::hold::{self, HoldStore, Queue};
use crate::random::{self, Rng};
use crate::stats::{Discard, DropReason};
use crate::table::index::HashIndex;
use crate::time::Instant;

use NeighbourState::{Delay, Failed, Incomplete, Permanent, Probe, Reachable, Stale};

/// Linux `base_reachable_time`; the real one is drawn between half and one and a half of it (RFC 4861 6.3.2).
const BASE_REACHABLE: Duration = Duration::from_secs(30);
/// Linux `delay_first_probe_time`.
const DELAY_FIRST_PROBE: Duration = Duration::from_secs(5);
/// Linux `retrans_time`: between two requests for one address (NEI-9).
const RETRANSMIT: Duration = Duration::from_secs(1);
/// Linux `mcast_solicit` and `ucast_solicit`.
const SOLICITS: u8 = 3;
/// Linux `locktime`: how long the first answer stands (GARP-2).
const LOCKTIME: Duration = Duration::from_secs(1);
/// Linux `gc_stale_time`: an entry used within it makes room for another only if it has failed (NEI-10).
const IN_USE: Duration = Duration::from_secs(60);

/// Linux `gc_thresh1`: with no more dynamic entries than these nothing is collected.
const COLLECT_ABOVE: usize = 128;
/// Linux collects every half `base_reachable_time`.
const COLLECT_INTERVAL: Duration = Duration::from_secs(15);

/// What the table knows of a next hop.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Send there.
    Found(Mac),
    /// Not known yet: the packet may wait at this entry ([`NeighbourTable::hold`]); `ask` when a request is to go out now.
    Resolving { id: usize, ask: bool },
    /// No room for the entry.
    Full,
}

/// Something the time has brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Ask for the address: all stations, or the one that had it.
    Ask { id: usize, last_known: Option<Mac> },
    /// It did not answer: the packets that wait at the entry go no further.
    GiveUp { id: usize },
    /// Its MAC has become known: the packets that wait at the entry can go.
    Send { id: usize },
}

#[derive(Debug)]
struct Entry {
    port: PortId,
    ip: Ipv4Addr,
    /// Meaningless in INCOMPLETE and FAILED.
    mac: Mac,
    state: NeighbourState,
    /// Last change of MAC or state by ARP.
    updated: Instant,
    /// Last packet sent to it.
    used: Instant,
    /// When something is to happen.
    deadline: Option<Instant>,
    /// Requests sent in this state.
    asked: u8,
    queue: Queue,
}

impl Entry {
    const fn known_mac(&self) -> Option<Mac> {
        match self.state {
            Incomplete | Failed => None,
            Reachable | Stale | Delay | Probe | Permanent => Some(self.mac),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct NeighbourTable {
    /// Free places are none; they are reused last-in-first-out.
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    index: HashIndex,
    seed: u64,
    rng: Rng,
    /// Dynamic entries at most, and now.
    limit: usize,
    dynamic: usize,
    store: HoldStore,
    held_per_neighbour: u16,
    /// Not later than the earliest deadline.
    next: Option<Instant>,
    /// When entries that nobody uses are collected.
    collect_at: Option<Instant>,
    /// Counts changes of MACs.
    changes: u64,
}

impl NeighbourTable {
    pub(crate) fn new(limit: u16, held_per_neighbour: u16, held: u16, seed: u64) -> Self {
        let limit = usize::from(limit);
        let mut rng = Rng::new(seed);
        Self {
            entries: Vec::with_capacity(limit),
            free: Vec::with_capacity(limit),
            index: HashIndex::new(limit),
            seed: rng.next(),
            rng,
            limit,
            dynamic: 0,
            store: HoldStore::new(held),
            held_per_neighbour: held_per_neighbour.max(1),
            next: None,
            collect_at: None,
            changes: 0,
        }
    }

    /// Another number than before whenever a known MAC has become another one or unknown.
    #[inline]
    pub(crate) const fn changes(&self) -> u64 {
        self.changes
    }

    /// Frames that wait.
    pub(crate) const fn held(&self) -> usize {
        self.store.held()
    }

    /// When `NeighbourTable::due` may have something.
    pub(crate) const fn next_deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Everything in the table, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = NeighbourView> + '_ {
        self.entries.iter().flatten().map(|e| NeighbourView {
            port: e.port,
            ip: e.ip,
            mac: e.known_mac(),
            state: e.state,
        })
    }

    /// Port and address of an entry.
    pub(crate) fn key(&self, id: usize) -> Option<(PortId, Ipv4Addr)> {
        self.entry(id).map(|e| (e.port, e.ip))
    }

    /// The MAC to send to, or where to wait for it. Frames of an entry that must make room are given to `bin`.
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        port: PortId,
        ip: Ipv4Addr,
        bin: &mut impl Discard,
    ) -> Answer {
        let id = match self.find(port, ip) {
            Some(id) => id,
            None => match self.add(now, port, ip, bin) {
                Some(id) => id,
                None => return Answer::Full,
            },
        };
        self.answer_at(now, id)
    }

    fn answer_at(&mut self, now: Instant, id: usize) -> Answer {
        let Some(entry) = self.entry_mut(id) else {
            return Answer::Full;
        };
        entry.used = now;
        match entry.state {
            Reachable | Permanent | Delay | Probe => Answer::Found(entry.mac),
            Stale => {
                let mac = entry.mac;
                entry.state = Delay;
                self.schedule(id, Some(now + DELAY_FIRST_PROBE));
                Answer::Found(mac)
            }
            Incomplete => Answer::Resolving { id, ask: false },
            // A new cycle for every packet that comes after the old one ended (RT-5).
            Failed => {
                entry.state = Incomplete;
                entry.asked = 1;
                self.schedule(id, Some(now + RETRANSMIT));
                Answer::Resolving { id, ask: true }
            }
        }
    }

    /// The MAC to send to, if it is known: as [`answer`](Self::answer) gives it, and nothing else is done. True with one
    /// that need not be asked for again before the next [change](Self::changes): that of a PERMANENT entry, to which it is
    /// all the same who uses it.
    pub(crate) fn known(
        &mut self,
        now: Instant,
        port: PortId,
        ip: Ipv4Addr,
    ) -> Option<(Mac, bool)> {
        let id = self.find(port, ip)?;
        let entry = self.entry(id)?;
        entry.known_mac()?;
        let lasts = entry.state == Permanent;
        match self.answer_at(now, id) {
            Answer::Found(mac) => Some((mac, lasts)),
            Answer::Resolving { .. } | Answer::Full => None,
        }
    }

    /// Lets a frame wait at an entry. When its queue is full the oldest there are given to `bin`; when the store is, the
    /// oldest of the longest queue (so that one absent neighbour cannot take the room of all others).
    pub(crate) fn hold(&mut self, id: usize, mut frame: Frame, bin: &mut impl Discard) {
        let limit = self.held_per_neighbour;
        let wanted = hold::places(&frame);
        let Self { entries, store, .. } = self;
        let waits = |entry: &Option<Entry>| entry.as_ref().map_or(0, |e| e.queue.places());
        while let Some(own) = entries.get(id).map(waits)
            && own > 0
            && own.saturating_add(wanted) > limit
        {
            shorten(entries, store, id, bin);
        }
        loop {
            let refused = match entries.get_mut(id).and_then(Option::as_mut) {
                Some(entry) => store.push(&mut entry.queue, frame),
                None => Err(frame),
            };
            let Err(back) = refused else { return };
            frame = back;
            let longest = (0..entries.len()).max_by_key(|&i| waits(&entries[i]));
            match longest.filter(|&i| waits(&entries[i]) > 0) {
                Some(longest) => shorten(entries, store, longest, bin),
                None => return bin.discard(frame, DropReason::HoldQueueFull),
            }
        }
    }

    /// The youngest frame that waits at an entry.
    pub(crate) fn newest_held(&self, id: usize) -> Option<&Frame> {
        self.store.newest(&self.entry(id)?.queue)
    }

    /// Takes the oldest frame that waits at an entry.
    pub(crate) fn release(&mut self, id: usize) -> Option<Frame> {
        let entry = self.entries.get_mut(id)?.as_mut()?;
        self.store.pop(&mut entry.queue)
    }

    /// State of the entry of this port and address.
    pub(crate) fn state(&self, port: PortId, ip: Ipv4Addr) -> Option<NeighbourState> {
        self.entry(self.find(port, ip)?).map(|e| e.state)
    }

    /// The entry's MAC, if known.
    pub(crate) fn mac(&self, id: usize) -> Option<Mac> {
        self.entry(id)?.known_mac()
    }

    /// Believes that `ip` on `port` has `mac`: `confirmed` when that is an answer to the router's own question.
    ///
    /// Without an entry, one is made only if `create`. The MAC of a known entry changes only after [`LOCKTIME`].
    /// Returns the entry's id if there is one now; frames that wait there can go.
    pub(crate) fn learn(
        &mut self,
        now: Instant,
        (port, ip): (PortId, Ipv4Addr),
        mac: Mac,
        confirmed: bool,
        create: bool,
        bin: &mut impl Discard,
    ) -> Option<usize> {
        let reachable = self.reachable_time();
        let id = match self.find(port, ip) {
            Some(id) => id,
            None if create => self.add(now, port, ip, bin)?,
            None => return None,
        };
        let entry = self.entry_mut(id)?;
        let new = if confirmed { Reachable } else { Stale };
        if entry.state == Permanent {
            return Some(id);
        }
        if let Some(known) = entry.known_mac() {
            let stands = if known == mac {
                // A mere claim neither shortens nor lengthens what is known already.
                !confirmed
            } else {
                now.since(entry.updated) < LOCKTIME
            };
            if stands {
                return Some(id);
            }
        }
        if entry.state != new || entry.mac != mac {
            entry.updated = now;
        }
        entry.mac = mac;
        entry.state = new;
        entry.asked = 0;
        self.changes += 1;
        self.schedule(id, confirmed.then(|| now + reachable));
        Some(id)
    }

    /// The next thing that is due at `now` at or after place `*at`; moves `*at` on. After none, all deadlines lie ahead.
    pub(crate) fn due(&mut self, now: Instant, at: &mut usize) -> Option<Due> {
        if self.next.is_none_or(|next| next > now) {
            return None;
        }
        if self.collect_at.is_some_and(|collect_at| collect_at <= now) {
            self.collect(now);
        }
        while *at < self.entries.len() {
            let id = *at;
            *at += 1;
            if let Some(due) = self.step(now, id) {
                return Some(due);
            }
        }
        self.next = self
            .entries
            .iter()
            .flatten()
            .filter_map(|e| e.deadline)
            .chain(self.collect_at)
            .min();
        None
    }

    fn step(&mut self, now: Instant, id: usize) -> Option<Due> {
        let entry = self.entry_mut(id)?;
        if entry.deadline.is_none_or(|deadline| deadline > now) {
            return None;
        }
        let (deadline, due) = match entry.state {
            Incomplete | Probe if entry.asked < SOLICITS => {
                entry.asked += 1;
                let last_known = entry.known_mac();
                (Some(now + RETRANSMIT), Some(Due::Ask { id, last_known }))
            }
            Incomplete | Probe => {
                entry.state = Failed;
                (None, Some(Due::GiveUp { id }))
            }
            Reachable => {
                entry.state = Stale;
                (None, None)
            }
            Delay => {
                entry.state = Probe;
                entry.asked = 1;
                let last_known = Some(entry.mac);
                (Some(now + RETRANSMIT), Some(Due::Ask { id, last_known }))
            }
            Permanent => (None, Some(Due::Send { id })),
            Stale | Failed => (None, None),
        };
        entry.deadline = deadline;
        self.changes += u64::from(matches!(due, Some(Due::GiveUp { .. })));
        due
    }

    /// Makes exactly these entries PERMANENT. One that was and is no more is deleted.
    pub(crate) fn set_permanent(
        &mut self,
        now: Instant,
        wanted: &[PermanentNeighbour],
        bin: &mut impl Discard,
    ) {
        for id in 0..self.entries.len() {
            let gone = self.entry(id).is_some_and(|e| {
                e.state == Permanent && !wanted.iter().any(|w| (w.port, w.ip) == (e.port, e.ip))
            });
            if gone {
                self.delete(id, DropReason::NeighbourFlushed, bin);
            }
        }
        // Room for all of them beside the dynamic ones, made now so that no packet pays for it.
        let places = self.limit + wanted.len();
        self.index = HashIndex::new(places);
        self.entries
            .reserve(places.saturating_sub(self.entries.len()));
        self.free.reserve(places.saturating_sub(self.free.len()));
        for id in 0..self.entries.len() {
            if let Some((port, ip)) = self.key(id) {
                self.index.insert(self.hash(port, ip), id);
            }
        }
        for w in wanted {
            let id = match self.find(w.port, w.ip) {
                Some(id) => {
                    if self.entry(id).is_some_and(|e| e.state != Permanent) {
                        self.dynamic -= 1;
                    }
                    id
                }
                None => self.place(now, w.port, w.ip),
            };
            let Some(entry) = self.entry_mut(id) else {
                continue;
            };
            entry.mac = w.mac;
            entry.state = Permanent;
            let waiting = entry.queue.len() > 0;
            self.changes += 1;
            self.schedule(id, waiting.then_some(now));
        }
    }

    /// Deletes the entries that `which` names; PERMANENT ones only if `permanent`. Returns their number.
    pub(crate) fn flush(
        &mut self,
        which: impl Fn(PortId, Ipv4Addr) -> bool,
        permanent: bool,
        reason: DropReason,
        bin: &mut impl Discard,
    ) -> usize {
        let mut deleted = 0;
        for id in 0..self.entries.len() {
            let hit = self
                .entry(id)
                .is_some_and(|e| (permanent || e.state != Permanent) && which(e.port, e.ip));
            if hit {
                self.delete(id, reason, bin);
                deleted += 1;
            }
        }
        deleted
    }

    fn entry(&self, id: usize) -> Option<&Entry> {
        self.entries.get(id)?.as_ref()
    }

    fn entry_mut(&mut self, id: usize) -> Option<&mut Entry> {
        self.entries.get_mut(id)?.as_mut()
    }

    fn hash(&self, port: PortId, ip: Ipv4Addr) -> u64 {
        random::hash(self.seed, port.0, ip)
    }

    #[inline]
    fn find(&self, port: PortId, ip: Ipv4Addr) -> Option<usize> {
        self.index.find(self.hash(port, ip), |id| {
            self.entry(id).is_some_and(|e| (e.port, e.ip) == (port, ip))
        })
    }

    fn schedule(&mut self, id: usize, deadline: Option<Instant>) {
        if let Some(entry) = self.entry_mut(id) {
            entry.deadline = deadline;
        }
        if let Some(deadline) = deadline {
            self.next = Some(self.next.map_or(deadline, |next| next.min(deadline)));
        }
    }

    fn reachable_time(&mut self) -> Duration {
        let ms = u64::try_from(BASE_REACHABLE.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(ms / 2 + self.rng.next() % (ms + 1))
    }

    /// A new dynamic entry in state FAILED; none when nothing may make room for it.
    fn add(
        &mut self,
        now: Instant,
        port: PortId,
        ip: Ipv4Addr,
        bin: &mut impl Discard,
    ) -> Option<usize> {
        if self.dynamic >= self.limit {
            let victim = self.victim(now)?;
            self.delete(victim, DropReason::NeighbourTableFull, bin);
        }
        self.dynamic += 1;
        if self.dynamic > COLLECT_ABOVE && self.collect_at.is_none() {
            self.collect_later(now);
        }
        Some(self.place(now, port, ip))
    }

    fn collect_later(&mut self, now: Instant) {
        let at = now + COLLECT_INTERVAL;
        self.collect_at = Some(at);
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    /// Deletes what has failed, and what nobody has used for a minute (Linux `neigh_periodic_work`).
    fn collect(&mut self, now: Instant) {
        for id in 0..self.entries.len() {
            let gone = self.entry(id).is_some_and(|e| match e.state {
                Failed => true,
                Stale => now.since(e.used) >= IN_USE,
                Incomplete | Reachable | Delay | Probe | Permanent => false,
            });
            // Nothing waits at such an entry.
            if gone && self.entry(id).is_some_and(|e| e.queue.len() == 0) {
                self.unlink(id);
            }
        }
        self.collect_at = None;
        if self.dynamic > COLLECT_ABOVE {
            self.collect_later(now);
        }
    }

    fn place(&mut self, now: Instant, port: PortId, ip: Ipv4Addr) -> usize {
        let entry = Entry {
            port,
            ip,
            mac: Mac::ZERO,
            state: Failed,
            updated: now,
            used: now,
            deadline: None,
            asked: 0,
            queue: Queue::EMPTY,
        };
        let id = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() - 1
        });
        self.entries[id] = Some(entry);
        self.index.insert(self.hash(port, ip), id);
        id
    }

    fn delete(&mut self, id: usize, reason: DropReason, bin: &mut impl Discard) {
        while let Some(frame) = self.release(id) {
            bin.discard(frame, reason);
        }
        self.unlink(id);
    }

    /// Forgets an entry at which nothing waits.
    fn unlink(&mut self, id: usize) {
        let Some((port, ip)) = self.key(id) else {
            return;
        };
        self.index.remove(self.hash(port, ip), |other| other == id);
        if self.entries[id]
            .take()
            .is_some_and(|e| e.state != Permanent)
        {
            self.dynamic -= 1;
        }
        self.changes += 1;
        self.free.push(id);
    }

    /// What goes when the table is full (NEI-10): failed entries first, then those without use for a minute, then
    /// those that are being asked for; of each kind the longest unused. Never PERMANENT ones, nor any in use.
    fn victim(&self, now: Instant) -> Option<usize> {
        self.entries
            .iter()
            .enumerate()
            .filter_map(|(id, e)| {
                let e = e.as_ref()?;
                let rank = match e.state {
                    Permanent => return None,
                    Failed => 0,
                    Incomplete => 2,
                    _ if now.since(e.used) >= IN_USE => 1,
                    _ => return None,
                };
                Some((rank, e.used, id))
            })
            .min()
            .map(|(.., id)| id)
    }
}

/// Takes the oldest frame off a queue.
fn shorten(
    entries: &mut [Option<Entry>],
    store: &mut HoldStore,
    id: usize,
    bin: &mut impl Discard,
) {
    if let Some(entry) = entries.get_mut(id).and_then(Option::as_mut)
        && let Some(frame) = store.pop(&mut entry.queue)
    {
        bin.discard(frame, DropReason::HoldQueueFull);
    }
}

//! Reassembly: the fragments of a datagram wait, as the frames they came in, until all of them are there.
//!
//! Decides which fragments belong together (source, destination, protocol, identification and the user that collects
//! them), which contradict each other, what is thrown out when room runs short, and when to give up. Nothing is copied:
//! a complete datagram comes out as [`Fragments`], first fragment first, and its user does with it what it needs:
//!
//! - local delivery ([`User::LOCAL`]) copies it into one buffer ([`Fragments::linearize`]);
//! - nodes that track connections ([`User::TRACKED`]) decide about it as one datagram by its
//!   first fragment, which is sure to hold the whole transport header, and send every piece with the size it came with
//!   (NAT-FRAG). What a stage does to the IPv4 header of the first piece is copied to the others by
//!   [`Fragments::follow_first`], so that a translation edits the first frame only: addresses, ports, and the transport
//!   checksum incrementally. The sum over the payload of all pieces, where a checksum is to be verified, is
//!   [`Fragments::payload_sum`].
//!
//! Rules (FWD-52, NAT-FRAG, NAT-65): an exact copy of a fragment is ignored; any other overlap, or an end that
//! contradicts what is there, discards the datagram whole (RFC 5722 3, applied to IPv4 as Linux does; Linux also ignores
//! a fragment that lies within others, here that is an overlap). A datagram that would pass 65535 bytes never completes.
//! Given up after 30 s. When the store is full the oldest datagrams go until three quarters are in use (Linux
//! `ipfrag_high_thresh` 4 MiB and `ipfrag_low_thresh` 3 MiB at 2 kB a frame). ECN marks are joined as RFC 3168 5.3 says.
//!
//! Cost: a hash lookup for each fragment, and a walk over the datagram's fragments for one that comes neither last nor
//! first in order: at most as many steps as the store holds frames. Everything is allocated at its making.

mod set;

use alloc::vec::Vec;
use core::net::Ipv4Addr;
use core::time::Duration;

pub(crate) use set::Fragments;

use crate::frame::Frame;
use crate::random;
use crate::stats::{Discard, DropReason};
use crate::table::index::HashIndex;
use crate::time::Instant;
use crate::wire::ethernet;
use crate::wire::ipv4::Ipv4;

/// Linux `ipfrag_time`; RFC 1122 3.3.2 asks for a fixed time between 60 and 120 s, every kernel takes 30.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest datagram.
const MAX_DATAGRAM: usize = 65535;
const NONE: u16 = u16::MAX;

/// Who collects: the same fragments may be wanted by two, each of whom has a set of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User(pub(crate) u8);

impl User {
    /// Delivery to the node itself.
    pub(crate) const LOCAL: Self = Self(0);
    /// Connection tracking.
    pub(crate) const TRACKED: Self = Self(1);
}

/// What became of a fragment.
#[derive(Debug)]
pub(crate) enum Taken {
    /// It waits for others.
    Held,
    /// It was the last one missing: the datagram is in the set now.
    Complete,
    /// It was not kept.
    Refused(Frame, DropReason),
}

/// A datagram that was given up: what there was of it is in the set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expired {
    pub(crate) user: User,
    /// Its first fragment is there: the first frame of the set.
    pub(crate) has_first: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    src: Ipv4Addr,
    dst: Ipv4Addr,
    ident: u16,
    protocol: u8,
    user: User,
}

#[derive(Debug)]
struct Datagram {
    key: Key,
    deadline: Instant,
    /// Its pieces in order of offset.
    first: u16,
    last: u16,
    /// Payload bytes that are there, and how many there must be (known when the last fragment is there).
    have: usize,
    total: Option<usize>,
    /// Longest piece, and longest with DF: bytes of the whole packet.
    largest: u16,
    largest_df: u16,
    /// Bit n is set when a piece has ECN field n.
    ecn: u8,
    /// Its neighbours by age.
    older: u16,
    newer: u16,
}

#[derive(Debug)]
struct Piece {
    frame: Option<Frame>,
    /// Range of its payload in the datagram's.
    start: usize,
    end: usize,
    /// The next piece of its datagram, or the next free place.
    next: u16,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Reassembly {
    datagrams: Vec<Option<Datagram>>,
    free_datagrams: Vec<u16>,
    pieces: Vec<Piece>,
    free_piece: u16,
    index: HashIndex,
    seed: u64,
    /// Frames at most, and now.
    limit: usize,
    held: usize,
    /// Ends of the list by age, which is also the order of deadlines.
    oldest: u16,
    newest: u16,
}

impl Reassembly {
    /// A store for at most `limit` frames.
    pub(crate) fn new(limit: u16, seed: u64) -> Self {
        // One number is no place.
        let limit = usize::from(limit.min(NONE - 1));
        Self {
            datagrams: Vec::with_capacity(limit),
            free_datagrams: Vec::with_capacity(limit),
            pieces: Vec::with_capacity(limit),
            free_piece: NONE,
            index: HashIndex::new(limit),
            seed,
            limit,
            held: 0,
            oldest: NONE,
            newest: NONE,
        }
    }

    /// Frames that wait.
    pub(crate) const fn held(&self) -> usize {
        self.held
    }

    /// When the oldest datagram is given up.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.datagram(self.oldest).map(|d| d.deadline)
    }

    /// Takes a fragment that was validated. The frames of a datagram that it completes are put into `set`; those of
    /// datagrams that must make room, or that it contradicts, are given to `bin`.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        user: User,
        frame: Frame,
        set: &mut Fragments,
        bin: &mut impl Discard,
    ) -> Taken {
        let Some(ip) = Ipv4::peek(ethernet::payload(frame.bytes())) else {
            return Taken::Refused(frame, DropReason::FragmentInvalid);
        };
        let key = Key {
            src: ip.src(),
            dst: ip.dst(),
            ident: ip.ident(),
            protocol: ip.protocol(),
            user,
        };
        let start = usize::from(ip.fragment_offset()) * 8;
        let end = start + ip.payload().len();
        let more = ip.more_fragments();
        let (len, df, ecn) = (ip.total_len(), ip.dont_fragment(), 1 << (ip.tos() & 0b11));
        if start == end || (more && !end.is_multiple_of(8)) || ip.header_len() + end > MAX_DATAGRAM
        {
            return Taken::Refused(frame, DropReason::FragmentInvalid);
        }

        if self.held >= self.limit {
            let low = self.limit / 4 * 3;
            while self.held > low && self.evict_oldest(bin) {}
        }
        let Some(id) = self.find(&key).or_else(|| self.open(now, key)) else {
            return Taken::Refused(frame, DropReason::ReassemblyFull);
        };
        let before = match self.place(id, start, end, more) {
            Ok(before) => before,
            Err(reason) => {
                if reason != DropReason::FragmentDuplicate {
                    self.close(id, |frame| bin.discard(frame, reason));
                }
                return Taken::Refused(frame, reason);
            }
        };
        self.insert(id, before, frame, start, end);
        let Some(datagram) = self.datagram_mut(id) else {
            return Taken::Held;
        };
        datagram.have += end - start;
        datagram.largest = datagram.largest.max(len);
        if df {
            datagram.largest_df = datagram.largest_df.max(len);
        }
        datagram.ecn |= ecn;
        if !more {
            datagram.total = Some(end);
        }
        if datagram.total != Some(datagram.have) {
            return Taken::Held;
        }
        self.complete(id, set, bin)
    }

    /// Moves the pieces of a datagram that is all there into `set`.
    fn complete(&mut self, id: u16, set: &mut Fragments, bin: &mut impl Discard) -> Taken {
        let Some(datagram) = self.datagram(id) else {
            return Taken::Held;
        };
        set.begin(datagram.largest, datagram.largest_df, datagram.ecn);
        self.close(id, |frame| set.push(frame));
        match set.fault() {
            None => Taken::Complete,
            Some(reason) => {
                let last = set.pop();
                set.drain().for_each(|frame| bin.discard(frame, reason));
                last.map_or(Taken::Held, |frame| Taken::Refused(frame, reason))
            }
        }
    }

    /// Gives up the oldest datagram; false when there is none.
    pub(crate) fn evict_oldest(&mut self, bin: &mut impl Discard) -> bool {
        let oldest = self.oldest;
        if self.datagram(oldest).is_none() {
            return false;
        }
        self.close(oldest, |frame| {
            bin.discard(frame, DropReason::ReassemblyFull);
        });
        true
    }

    /// The next datagram whose time is up at `now`; none when all others have time left.
    pub(crate) fn expire(&mut self, now: Instant, set: &mut Fragments) -> Option<Expired> {
        let id = self.oldest;
        let datagram = self.datagram(id).filter(|d| d.deadline <= now)?;
        let expired = Expired {
            user: datagram.key.user,
            has_first: self.piece(datagram.first).is_some_and(|p| p.start == 0),
        };
        set.begin(datagram.largest, datagram.largest_df, datagram.ecn);
        self.close(id, |frame| set.push(frame));
        Some(expired)
    }

    /// Where a piece belongs: behind which other one, none for the front. An error when it must not be there.
    fn place(
        &self,
        id: u16,
        start: usize,
        end: usize,
        more: bool,
    ) -> Result<Option<u16>, DropReason> {
        let Some(datagram) = self.datagram(id) else {
            return Err(DropReason::FragmentInvalid);
        };
        // In order, as most come.
        let last = self.piece(datagram.last);
        let mut before = None;
        let mut next = datagram.first;
        if last.is_some_and(|last| last.start < start) {
            (before, next) = (Some(datagram.last), NONE);
        }
        while let Some(piece) = self.piece(next) {
            if piece.start >= start {
                break;
            }
            before = Some(next);
            next = piece.next;
        }
        if self
            .piece(next)
            .is_some_and(|p| (p.start, p.end) == (start, end))
        {
            return Err(DropReason::FragmentDuplicate);
        }
        if before
            .and_then(|at| self.piece(at))
            .is_some_and(|p| p.end > start)
            || self.piece(next).is_some_and(|p| p.start < end)
        {
            return Err(DropReason::FragmentOverlap);
        }
        let beyond = match datagram.total {
            Some(total) => end > total || (!more && end != total),
            None => !more && last.is_some_and(|last| last.end > end),
        };
        if beyond {
            return Err(DropReason::FragmentInvalid);
        }
        Ok(before)
    }

    /// Puts a piece into its datagram behind `before`. There is room: `take` saw to it.
    fn insert(&mut self, id: u16, before: Option<u16>, frame: Frame, start: usize, end: usize) {
        let next = match before {
            Some(at) => self.piece(at).map_or(NONE, |p| p.next),
            None => self.datagram(id).map_or(NONE, |d| d.first),
        };
        let piece = Piece {
            frame: Some(frame),
            start,
            end,
            next,
        };
        let at = match self.pieces.get_mut(usize::from(self.free_piece)) {
            Some(place) => {
                let at = self.free_piece;
                self.free_piece = place.next;
                *place = piece;
                at
            }
            None => {
                self.pieces.push(piece);
                number(self.pieces.len() - 1)
            }
        };
        self.held += 1;
        match before.and_then(|before| self.pieces.get_mut(usize::from(before))) {
            Some(before) => before.next = at,
            None => {
                if let Some(datagram) = self.datagram_mut(id) {
                    datagram.first = at;
                }
            }
        }
        if next == NONE
            && let Some(datagram) = self.datagram_mut(id)
        {
            datagram.last = at;
        }
    }

    /// A new datagram without pieces; none in a store without room.
    fn open(&mut self, now: Instant, key: Key) -> Option<u16> {
        if self.held >= self.limit {
            return None;
        }
        let datagram = Datagram {
            key,
            deadline: now + TIMEOUT,
            first: NONE,
            last: NONE,
            have: 0,
            total: None,
            largest: 0,
            largest_df: 0,
            ecn: 0,
            older: self.newest,
            newer: NONE,
        };
        let id = match self.free_datagrams.pop() {
            Some(id) => {
                self.datagrams[usize::from(id)] = Some(datagram);
                id
            }
            None => {
                self.datagrams.push(Some(datagram));
                number(self.datagrams.len() - 1)
            }
        };
        self.index.insert(self.hash(&key), usize::from(id));
        match self.datagram_mut(self.newest) {
            Some(newest) => newest.newer = id,
            None => self.oldest = id,
        }
        self.newest = id;
        Some(id)
    }

    /// Forgets a datagram and gives its frames to `sink`, in order of offset.
    fn close(&mut self, id: u16, mut sink: impl FnMut(Frame)) {
        let Some(datagram) = self
            .datagrams
            .get_mut(usize::from(id))
            .and_then(Option::take)
        else {
            return;
        };
        self.index
            .remove(self.hash(&datagram.key), |other| other == usize::from(id));
        self.free_datagrams.push(id);
        match self.datagram_mut(datagram.older) {
            Some(older) => older.newer = datagram.newer,
            None => self.oldest = datagram.newer,
        }
        match self.datagram_mut(datagram.newer) {
            Some(newer) => newer.older = datagram.older,
            None => self.newest = datagram.older,
        }
        let mut at = datagram.first;
        while let Some(piece) = self.pieces.get_mut(usize::from(at)) {
            let next = piece.next;
            piece.next = self.free_piece;
            self.free_piece = at;
            self.held -= 1;
            if let Some(frame) = piece.frame.take() {
                sink(frame);
            }
            at = next;
        }
    }

    fn find(&self, key: &Key) -> Option<u16> {
        self.index
            .find(self.hash(key), |id| {
                self.datagrams
                    .get(id)
                    .and_then(Option::as_ref)
                    .is_some_and(|d| d.key == *key)
            })
            .map(number)
    }

    fn hash(&self, key: &Key) -> u64 {
        let tag = u16::from(key.protocol) << 8 | u16::from(key.user.0);
        random::mix(
            random::hash(self.seed, tag, key.src)
                ^ (u64::from(key.ident) << 32 | u64::from(key.dst.to_bits())),
        )
    }

    fn datagram(&self, id: u16) -> Option<&Datagram> {
        self.datagrams.get(usize::from(id))?.as_ref()
    }

    fn datagram_mut(&mut self, id: u16) -> Option<&mut Datagram> {
        self.datagrams.get_mut(usize::from(id))?.as_mut()
    }

    fn piece(&self, at: u16) -> Option<&Piece> {
        self.pieces.get(usize::from(at))
    }
}

/// A place in one of the store's lists, which are shorter than `NONE`.
fn number(place: usize) -> u16 {
    u16::try_from(place).unwrap_or(NONE)
}

#[cfg(test)]
mod tests;

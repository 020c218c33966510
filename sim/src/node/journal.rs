//! The journal of connections: a copy of the node's table in memory that outlives its process (decision 10).
//!
//! The daemon makes the memory and keeps it; the process writes into it what its router says has changed, a slot for
//! each place of the table, and the process that is started in its stead reads it. So nothing is sent, nothing waits, and
//! the daemon does no work. A slot that was being written when the process died does not have the right sum, and is
//! counted as lost; so is one that makes no sense. What the old process wrote is not trusted: a slot is copied once and
//! checked, and the router takes from it what fits.
//!
//! Bounded: as many slots as the table has places. A change is written within [`INTERVAL`], at most [`BUDGET`] at a time.
//! A slot is six words of 64 bits; before the first stands how many were ever used, so that the rest need not be looked
//! at and costs no memory:
//!
//! ```text
//!   original source, destination | ports of both tuples | source, destination of the reply
//!   protocol, TCP state, flags, port of masquerade | milliseconds to live | sum of the words before
//! ```

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use router_core::{Change, Instant, PortId, Router, Session, TcpState, Tuple};
use tap_bridge::sys::shm::{self, ReadMapping, WriteMapping};

/// How old a change may get before it is written.
pub const INTERVAL: Duration = Duration::from_millis(100);

/// Changes that are written in one go.
pub const BUDGET: usize = 4096;

/// Pause between two goes when there is more.
const PAUSE: Duration = Duration::from_millis(2);

const WORDS: usize = 6;

/// Words before the first slot.
const HEAD: usize = 1;

/// In place of a sum: the slot is being filled.
const FILLING: u64 = u64::MAX;

/// What a sum begins with, so that an empty slot has none.
const SALT: u64 = 0x706f_6477_6972_6501;

const REPLIED: u64 = 1;
const ASSURED: u64 = 2;
const MASQUERADED: u64 = 4;
const HAS_STATE: u64 = 8;

const STATES: [TcpState; 10] = [
    TcpState::None,
    TcpState::SynSent,
    TcpState::SynRecv,
    TcpState::Established,
    TcpState::FinWait,
    TcpState::CloseWait,
    TcpState::LastAck,
    TcpState::TimeWait,
    TcpState::Close,
    TcpState::SynSent2,
];

/// Memory for a table of this many connections.
///
/// # Errors
/// Out of descriptors or memory.
pub fn create(slots: u32) -> io::Result<OwnedFd> {
    shm::create("podwire-journal", words(slots))
}

fn words(slots: u32) -> usize {
    (slots as usize).saturating_mul(WORDS).saturating_add(HEAD)
}

/// What a process left.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Its connections.
    pub sessions: Vec<Session>,
    /// Slots that can't be understood.
    pub broken: usize,
}

/// Reads what a process that is dead has left in memory that [`create`] made for as many slots.
///
/// # Errors
/// When it is of another length.
pub fn read(fd: impl AsFd, slots: u32) -> io::Result<Left> {
    let mapping = ReadMapping::new(fd, words(slots))?;
    let mut left = Left::default();
    let Some((used, cells)) = mapping.cells().split_first() else {
        return Ok(left);
    };
    let used = usize::try_from(used.load()).unwrap_or(usize::MAX);
    for slot in cells.chunks_exact(WORDS).take(used) {
        let copy: [u64; WORDS] = std::array::from_fn(|n| slot.get(n).map_or(0, |cell| cell.load()));
        if copy == [0; WORDS] {
            continue;
        }
        match decode(&copy) {
            Some(session) => left.sessions.push(session),
            // Emptied in part is emptied.
            None if copy[WORDS - 1] == 0 => {}
            None => left.broken += 1,
        }
    }
    Ok(left)
}

/// The journal that this process writes.
#[derive(Debug)]
pub struct Journal {
    memory: WriteMapping,
    due: Option<Instant>,
}

impl Journal {
    /// In memory that [`create`] made for as many slots.
    ///
    /// # Errors
    /// When it is of another length.
    pub fn new(fd: impl AsFd, slots: u32) -> io::Result<Self> {
        Ok(Self {
            memory: WriteMapping::new(fd, words(slots))?,
            due: None,
        })
    }

    /// When [`Journal::tick`] wants to be called.
    #[must_use]
    pub fn due(&self, router: &Router) -> Option<Instant> {
        // At once, to find out when.
        let unplanned = || router.has_changes().then_some(Instant::ZERO);
        self.due.or_else(unplanned)
    }

    /// Writes what is due.
    pub fn tick(&mut self, now: Instant, router: &mut Router) {
        match self.due {
            Some(due) if due > now => {}
            Some(_) => {
                self.write(now, router, BUDGET);
                self.due = router.has_changes().then_some(now + PAUSE);
            }
            None if router.has_changes() => self.due = Some(now + INTERVAL),
            None => {}
        }
    }

    /// Writes all that there is now.
    pub fn write_all(&mut self, now: Instant, router: &mut Router) {
        while router.has_changes() {
            self.write(now, router, BUDGET);
        }
    }

    fn write(&self, now: Instant, router: &mut Router, most: usize) {
        let Some((used, cells)) = self.memory.cells().split_first() else {
            return;
        };
        router.take_changes(now, most, |change| match change {
            Change::Cleared => used.store(0, Ordering::Release),
            Change::Set(place, session) => {
                put(cells, place, encode(&session));
                fill_up_to(used, cells, place);
            }
            Change::Gone(place) => put(cells, place, [0; WORDS]),
        });
    }
}

/// Counts slots up to this one as used. Those between may hold what was there before the table was cleared.
fn fill_up_to(used: &AtomicU64, cells: &[AtomicU64], place: u32) {
    let before = used.load(Ordering::Relaxed);
    let end = u64::from(place) + 1;
    if end <= before {
        return;
    }
    for between in before..u64::from(place) {
        put(
            cells,
            u32::try_from(between).unwrap_or(u32::MAX),
            [0; WORDS],
        );
    }
    used.store(end, Ordering::Release);
}

/// The sum goes first when a slot is emptied, and last when it is filled: half of a slot is never taken for a whole one.
fn put(cells: &[AtomicU64], place: u32, words: [u64; WORDS]) {
    let first = (place as usize).saturating_mul(WORDS);
    // A table that is larger than the memory has its last connections without a copy.
    let Some(slot) = cells.get(first..).and_then(|rest| rest.get(..WORDS)) else {
        return;
    };
    let Some((sum, rest)) = slot.split_last() else {
        return;
    };
    // Only the order of stores in this thread counts: the reader comes when we are dead.
    let filled = words[WORDS - 1] != 0;
    sum.store(if filled { FILLING } else { 0 }, Ordering::Release);
    for (cell, word) in rest.iter().zip(words) {
        cell.store(word, Ordering::Release);
    }
    sum.store(words[WORDS - 1], Ordering::Release);
}

fn pair(high: Ipv4Addr, low: Ipv4Addr) -> u64 {
    u64::from(high.to_bits()) << 32 | u64::from(low.to_bits())
}

fn encode(session: &Session) -> [u64; WORDS] {
    let (orig, reply) = (&session.original, &session.reply);
    let ports = [orig.sport, orig.dport, reply.sport, reply.dport];
    let state = session
        .tcp
        .and_then(|s| STATES.iter().position(|&t| t == s));
    let mut flags = 0;
    for (flag, set) in [
        (REPLIED, session.replied),
        (ASSURED, session.assured),
        (MASQUERADED, session.masquerade.is_some()),
        (HAS_STATE, state.is_some()),
    ] {
        flags |= if set { flag } else { 0 };
    }
    let mut words = [
        pair(orig.src, orig.dst),
        ports.iter().fold(0, |word, &p| word << 16 | u64::from(p)),
        pair(reply.src, reply.dst),
        u64::from(orig.protocol)
            | u64::try_from(state.unwrap_or_default()).unwrap_or_default() << 8
            | flags << 16
            | session.masquerade.map_or(0, |port| u64::from(port.0)) << 32,
        u64::try_from(session.expires_in.as_millis()).unwrap_or(u64::MAX),
        0,
    ];
    words[WORDS - 1] = sum(&words);
    words
}

/// What stands in a slot, if it is whole.
fn decode(words: &[u64; WORDS]) -> Option<Session> {
    if words[WORDS - 1] != sum(words) {
        return None;
    }
    let byte = |word: u64, shift: u32| u8::try_from(word >> shift & 0xff).ok();
    let half = |word: u64, shift: u32| u16::try_from(word >> shift & 0xffff).ok();
    let high = |word: u64| u32::try_from(word >> 32).ok().map(Ipv4Addr::from_bits);
    let low = |word: u64| {
        u32::try_from(word & 0xffff_ffff)
            .ok()
            .map(Ipv4Addr::from_bits)
    };
    let (ports, what) = (words[1], words[3]);
    let protocol = byte(what, 0)?;
    let flags = what >> 16;
    let tuple = |addresses: u64, sport: u32| {
        Some(Tuple {
            src: high(addresses)?,
            dst: low(addresses)?,
            sport: half(ports, sport)?,
            dport: half(ports, sport - 16)?,
            protocol,
        })
    };
    let state = STATES.get(usize::from(byte(what, 8)?));
    Some(Session {
        original: tuple(words[0], 48)?,
        reply: tuple(words[2], 16)?,
        expires_in: Duration::from_millis(words[4]),
        tcp: if flags & HAS_STATE == 0 {
            None
        } else {
            Some(*state?)
        },
        replied: flags & REPLIED != 0,
        assured: flags & ASSURED != 0,
        masquerade: if flags & MASQUERADED == 0 {
            None
        } else {
            Some(PortId(half(what, 32)?))
        },
    })
}

/// FNV-1a over words, which is enough to know half a slot from a whole one. Never 0.
fn sum(words: &[u64; WORDS]) -> u64 {
    let rest = words.iter().take(WORDS - 1);
    let sum = rest.fold(SALT, |sum, word| {
        (sum ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
    });
    sum | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        let tuple = |src: [u8; 4], dst: [u8; 4], sport, dport| Tuple {
            src: src.into(),
            dst: dst.into(),
            sport,
            dport,
            protocol: 6,
        };
        Session {
            original: tuple([10, 244, 0, 2], [10, 96, 0, 1], 4000, 443),
            reply: tuple([10, 244, 1, 3], [172, 16, 30, 3], 6443, 27_400),
            expires_in: Duration::from_millis(86_400_123),
            tcp: Some(TcpState::Established),
            replied: true,
            assured: true,
            masquerade: Some(PortId(3)),
        }
    }

    /// A slot says all that a session has, and half a slot says nothing.
    #[test]
    fn a_slot_is_whole_or_nothing() {
        let udp = Session {
            tcp: None,
            masquerade: None,
            replied: false,
            ..session()
        };
        for session in [session(), udp] {
            let words = encode(&session);
            assert_eq!(decode(&words), Some(session));
            for n in 0..WORDS * 64 {
                let mut damaged = words;
                damaged[n / 64] ^= 1 << (n % 64);
                // The lowest bit of the sum is always set.
                assert_eq!(decode(&damaged), None, "bit {n}");
            }
        }
    }

    /// What one process wrote another one reads; emptied slots are empty, damaged ones are counted.
    #[test]
    fn the_memory_outlives_its_writer() {
        let fd = create(8).unwrap();
        let journal = Journal::new(&fd, 8).unwrap();
        let (used, cells) = journal.memory.cells().split_first().unwrap();
        let set = |place, session: &Session| {
            put(cells, place, encode(session));
            fill_up_to(used, cells, place);
        };
        let left = |sessions: Vec<Session>, broken| Left { sessions, broken };
        assert_eq!(read(&fd, 8).unwrap(), left(vec![], 0));
        set(1, &session());
        set(2, &session());
        put(cells, 2, [0; WORDS]);
        set(7, &session());
        // Beyond the end.
        put(cells, 8, encode(&session()));
        // Killed in the middle of filling, and of emptying.
        cells[7 * WORDS + 1].store(1, Ordering::Relaxed);
        cells[3 * WORDS].store(1, Ordering::Relaxed);
        assert_eq!(read(&fd, 8).unwrap(), left(vec![session()], 1));
        // A new table in the same memory: nothing of the old one comes back.
        used.store(0, Ordering::Relaxed);
        set(3, &session());
        assert_eq!(read(&fd, 8).unwrap(), left(vec![session()], 0));
        assert!(read(&fd, 9).is_err());
        assert!(Journal::new(&fd, 7).is_err());
    }
}

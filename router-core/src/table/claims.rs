//! Which of a node's workers a connection belongs to: a set that all of them write and read, without locks.
//!
//! Decides that at most one worker has a key at a time, whoever asks for it when. Does not say what a key means, and keeps
//! no keys: 56 bits of a seeded hash stand for each. Two keys that share these count as one, once in 2^39 connections of a
//! full table; the younger connection is then refused, or its packets are handed to a worker that finds out that they are
//! nobody's, which makes them its own.
//!
//! A key's place is one of the 16 cells that begin at its line; all of them are looked at every time, so that cells
//! can be given back in any order and nothing is ever moved.
//!
//! # Why two never have the same key
//! Who claims a key looks for it in the window, puts it into a free cell, and looks through the window again: if it is there
//! a second time, he takes his own out and is refused. All of that is in one order that everybody sees (`SeqCst`). Of two
//! who claim at once the one whose store comes second in that order finds the first one's when he looks again, unless that
//! one has given up by then; so at most one keeps it. Both may give up: a lost packet, which its sender repeats. A reader may
//! see a claim that is about to be taken back; what he hands over then comes to somebody who has no such connection, and
//! treats it as his own.
//!
//! Source: the announce-and-check of Lamport's bakery (1974), with refusal in place of waiting; a loom model holds it.
//!
//! # Cost
//! Written when a connection begins and when it ends, read for packets of no connection of the reader's own: two lines each.
//! Never on the way of packets of known connections. 64 bytes for each connection that there may be, all allocated at once.

use alloc::sync::Arc;

use super::flow::FlowKey;
use crate::arch;
use crate::random::{Rng, mix};
use crate::sync::{AtomicU64, Ordering};

/// Workers that can be told apart.
pub const WORKERS_MAX: usize = 64;

/// Cells in a line.
const LINE: usize = 8;

/// Cells in which a key may be: two lines, of which a quarter is in use when as many connections exist as there may.
const WINDOW: usize = 2 * LINE;

/// Cells for each connection: it has two keys.
const CELLS: usize = 8;

/// The bits of a cell that name the worker, who is one less: a free cell is zero.
const OWNER: u64 = 0xff;

/// Why a key was not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Somebody has it, or wants it at this moment.
    Taken,
    /// No free cell in its window.
    Full,
}

/// See the module.
#[derive(Debug)]
pub struct Claims {
    cells: Arc<[AtomicU64]>,
    lines: usize,
    seed: [u64; 2],
}

impl Claims {
    /// For so many connections at a time, of all workers together.
    #[must_use]
    pub fn new(connections: u32, seed: u64) -> Self {
        let cells = (connections as usize).saturating_mul(CELLS);
        Self::with_lines((cells / LINE).next_power_of_two(), seed)
    }

    fn with_lines(lines: usize, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        Self {
            // The last line's window goes on behind it.
            cells: arch::shared(lines * LINE + LINE, |_| AtomicU64::new(0)),
            lines,
            seed: [rng.next(), rng.next()],
        }
    }

    /// Gives `key` to `worker`.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub fn claim(&self, key: FlowKey, worker: u8) -> Result<(), Refused> {
        let (window, name) = self.window(key);
        let is_it = |cell: &AtomicU64| cell.load(Ordering::SeqCst) & !OWNER == name;
        if window.iter().any(is_it) {
            return Err(Refused::Taken);
        }
        let mine = name | tag(worker);
        let put = |cell: &&AtomicU64| {
            cell.compare_exchange(0, mine, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
        };
        let place = window.iter().find(put).ok_or(Refused::Full)?;
        if window.iter().filter(|cell| is_it(cell)).count() > 1 {
            place.store(0, Ordering::SeqCst);
            return Err(Refused::Taken);
        }
        Ok(())
    }

    /// Who has `key`.
    #[must_use]
    pub fn owner(&self, key: FlowKey) -> Option<u8> {
        let (window, name) = self.window(key);
        window.iter().find_map(|cell| {
            let cell = cell.load(Ordering::SeqCst);
            let owner = u8::try_from(cell & OWNER).ok()?.checked_sub(1)?;
            (cell & !OWNER == name).then_some(owner)
        })
    }

    /// Takes `key` from `worker`, if he has it.
    pub fn release(&self, key: FlowKey, worker: u8) {
        let (window, name) = self.window(key);
        let mine = name | tag(worker);
        // Only he himself writes over it.
        if let Some(cell) = window.iter().find(|c| c.load(Ordering::SeqCst) == mine) {
            cell.store(0, Ordering::SeqCst);
        }
    }

    /// Keys that are given, counted one by one.
    #[must_use]
    pub fn len(&self) -> usize {
        let taken = |cell: &&AtomicU64| cell.load(Ordering::SeqCst) != 0;
        self.cells.iter().filter(taken).count()
    }

    /// True when nobody has any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where `key` may be, and the bits that stand for it.
    fn window(&self, key: FlowKey) -> (&[AtomicU64], u64) {
        let FlowKey([a, b]) = key;
        let [first, second] = self.seed;
        let hash = mix(mix(a ^ first).wrapping_add(b) ^ second);
        #[expect(clippy::cast_possible_truncation, reason = "the low half of a hash")]
        let at = (mix(hash) as u32 as usize & (self.lines - 1)) * LINE;
        (&self.cells[at..at + WINDOW], hash & !OWNER)
    }
}

fn tag(worker: u8) -> u64 {
    u64::from(worker) + 1
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::thread;

    const KEY: FlowKey = FlowKey([7, 9]);

    /// Whoever claims a key at the same time as others: at most one has it, and everybody finds that one.
    #[test]
    fn loom_a_key_is_given_to_one() {
        loom::model(|| {
            let claims = loom::sync::Arc::new(Claims::with_lines(1, 1));
            let other = loom::sync::Arc::clone(&claims);
            let there = thread::spawn(move || other.claim(KEY, 1).is_ok());
            let here = claims.claim(KEY, 0).is_ok();
            let there = there.join().unwrap();
            assert!(!(here && there));
            let owner = match (here, there) {
                (true, _) => Some(0),
                (_, true) => Some(1),
                _ => None,
            };
            assert_eq!(claims.owner(KEY), owner);
        });
    }

    /// A cell that is given back while another worker looks for one is his or nobody's.
    #[test]
    fn loom_a_key_that_is_released_can_be_claimed() {
        loom::model(|| {
            let claims = loom::sync::Arc::new(Claims::with_lines(1, 1));
            claims.claim(KEY, 0).unwrap();
            let other = loom::sync::Arc::clone(&claims);
            let there = thread::spawn(move || other.claim(KEY, 1).is_ok());
            claims.release(KEY, 0);
            let there = there.join().unwrap();
            assert_eq!(claims.owner(KEY), there.then_some(1));
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;

    use super::*;
    use proptest::prelude::*;

    const fn key(n: u64) -> FlowKey {
        FlowKey([n, !n])
    }

    #[test]
    fn a_full_window_refuses_and_takes_again_what_was_released() {
        let claims = Claims::with_lines(1, 3);
        for n in 0..WINDOW as u64 {
            assert_eq!(claims.claim(key(n), 5), Ok(()));
        }
        assert_eq!(claims.claim(key(99), 5), Err(Refused::Full));
        claims.release(key(3), 4);
        assert_eq!(claims.owner(key(3)), Some(5), "not his to give back");
        claims.release(key(3), 5);
        assert_eq!(claims.claim(key(99), 63), Ok(()));
        assert_eq!(claims.owner(key(99)), Some(63));
    }

    #[test]
    fn there_is_room_for_as_many_connections_as_were_asked_for() {
        let claims = Claims::new(65_536, 1);
        for n in 0..2 * 65_536 {
            assert_eq!(claims.claim(key(n), 0), Ok(()), "{n}");
        }
        assert_eq!(claims.len(), 2 * 65_536);
    }

    #[test]
    fn threads_that_claim_the_same_keys_never_share_one() {
        let claims = Arc::new(Claims::new(512, 1));
        let won: Vec<Vec<u64>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|worker| {
                    let claims = &claims;
                    scope.spawn(move || {
                        let wants = 0..512;
                        wants
                            .filter(|&n| claims.claim(key(n), worker).is_ok())
                            .collect()
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let mut all: Vec<u64> = won.iter().flatten().copied().collect();
        all.sort_unstable();
        let given = all.len();
        all.dedup();
        assert_eq!(all.len(), given);
        assert_eq!(claims.len(), given);
        for (worker, keys) in (0..).zip(&won) {
            assert!(keys.iter().all(|&n| claims.owner(key(n)) == Some(worker)));
        }
    }

    proptest! {
        #[test]
        fn one_thread_finds_what_a_map_would_say(ops in prop::collection::vec((0_u64..24, 0_u8..3, 0_u8..3), 0..200)) {
            let claims = Claims::with_lines(2, 11);
            let mut map = BTreeMap::new();
            for (n, worker, op) in ops {
                match op {
                    0 => {
                        let expected = match map.get(&n) {
                            Some(_) => Err(Refused::Taken),
                            None => Ok(()),
                        };
                        let given = claims.claim(key(n), worker);
                        // Where a window is full it may be refused.
                        if given != Err(Refused::Full) {
                            prop_assert_eq!(given, expected);
                            map.entry(n).or_insert(worker);
                        }
                    }
                    1 => {
                        claims.release(key(n), worker);
                        if map.get(&n) == Some(&worker) {
                            map.remove(&n);
                        }
                    }
                    _ => prop_assert_eq!(claims.owner(key(n)), map.get(&n).copied()),
                }
                prop_assert_eq!(claims.len(), map.len());
            }
        }
    }
}

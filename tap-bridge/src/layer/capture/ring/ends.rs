//! The two ends of a capture's ring, over any memory. See [`ring`](super), which says what is where and why it holds.
//!
//! Loom goes through them (`loom_tests`), the thread sanitizer judges the order of plain memory (`tests/threads.rs`).

#[cfg(all(test, loom))]
mod loom_tests;

use std::sync::atomic::Ordering;

use super::{Corrupt, FIRST, LOST, MAX_RECORD, SLEEP, TAKEN, WRITTEN};
use crate::cells::{Cells, Load as _, Store};

/// The cells of the records.
fn words<M: Cells>(memory: &M) -> &[M::Cell] {
    &memory.cells()[FIRST..]
}

/// The cell of the word with this number.
fn word<M: Cells>(memory: &M, number: u64) -> &M::Cell {
    let cells = words(memory);
    let index = number % cells.len() as u64;
    &cells[usize::try_from(index).unwrap_or(0)]
}

/// See [`Writer`](super::Writer).
#[derive(Debug)]
pub(super) struct WriteEnd<M> {
    memory: M,
    capacity: u64,
    written: u64,
    /// `taken` as last read.
    taken: u64,
    lost: u64,
    /// `written` at the last flush.
    flushed: u64,
    /// The reader's sleep cell when it was last rung for.
    rung: u64,
}

impl<M: Cells<Cell: Store>> WriteEnd<M> {
    /// On memory that has room for words behind its counters.
    pub(super) fn new(memory: M) -> Self {
        let [written, taken, lost] = [WRITTEN, TAKEN, LOST].map(|n| memory.cells()[n].load());
        // What was taken was read before it is written again, also when another writer has been here.
        M::fence(Ordering::Acquire);
        Self {
            capacity: words(&memory).len() as u64,
            written,
            taken,
            lost,
            flushed: written,
            rung: 0,
            memory,
        }
    }

    pub(super) fn push(&mut self, len: usize, words: impl Iterator<Item = u64>) -> bool {
        let len = len as u64;
        if self.room() < len && {
            self.taken = self.memory.cells()[TAKEN].load();
            M::fence(Ordering::Acquire);
            self.room() < len
        } {
            self.lost += 1;
            self.memory.cells()[LOST].store(self.lost);
            return false;
        }
        let mut at = self.written;
        for value in words {
            word(&self.memory, at).fill(value);
            at = at.wrapping_add(1);
        }
        debug_assert_eq!(
            at,
            self.written.wrapping_add(len),
            "as many words as were announced"
        );
        self.written = at;
        true
    }

    /// Words that may be written; none when the reader's word can't be true.
    fn room(&self) -> u64 {
        let waiting = self.written.wrapping_sub(self.taken);
        self.capacity.saturating_sub(waiting)
    }

    #[must_use]
    pub(super) fn flush(&mut self) -> bool {
        if self.flushed == self.written {
            return false;
        }
        self.flushed = self.written;
        M::fence(Ordering::Release);
        self.memory.cells()[WRITTEN].store(self.written);
        M::fence(Ordering::SeqCst);
        let sleep = self.memory.cells()[SLEEP].load();
        if sleep & 1 == 0 || sleep == self.rung {
            return false;
        }
        self.rung = sleep;
        true
    }
}

/// See [`Reader`](super::Reader).
#[derive(Debug)]
pub(super) struct ReadEnd<M> {
    memory: M,
    capacity: u64,
    taken: u64,
    sleep: u64,
}

impl<M: Cells<Cell: Store>> ReadEnd<M> {
    /// On memory that has room for words behind its counters.
    pub(super) fn new(memory: M) -> Self {
        Self {
            capacity: words(&memory).len() as u64,
            taken: memory.cells()[TAKEN].load(),
            sleep: memory.cells()[SLEEP].load(),
            memory,
        }
    }

    pub(super) fn pop(&mut self, into: &mut Vec<u64>) -> Result<bool, Corrupt> {
        into.clear();
        let written = self.memory.cells()[WRITTEN].load();
        let waiting = written.wrapping_sub(self.taken);
        M::fence(Ordering::Acquire);
        if waiting == 0 {
            return Ok(false);
        }
        if waiting > self.capacity {
            return Err(Corrupt);
        }
        let first = word(&self.memory, self.taken).load();
        let len = first & u64::from(u32::MAX);
        if len == 0 || len > waiting || len > MAX_RECORD as u64 {
            return Err(Corrupt);
        }
        into.push(first);
        let rest = (1..len).map(|n| word(&self.memory, self.taken.wrapping_add(n)));
        into.extend(rest.map(|cell| cell.load()));
        self.taken = self.taken.wrapping_add(len);
        M::fence(Ordering::Release);
        self.memory.cells()[TAKEN].store(self.taken);
        Ok(true)
    }

    pub(super) fn lost(&self) -> u64 {
        self.memory.cells()[LOST].load()
    }

    pub(super) fn has_records(&self) -> bool {
        self.memory.cells()[WRITTEN].load() != self.taken
    }

    pub(super) fn prepare_sleep(&mut self) -> bool {
        if self.sleep & 1 == 0 {
            self.sleep = self.sleep.wrapping_add(1);
            self.memory.cells()[SLEEP].store(self.sleep);
        }
        M::fence(Ordering::SeqCst);
        !self.has_records()
    }

    pub(super) fn end_sleep(&mut self) {
        if self.sleep & 1 == 1 {
            self.sleep = self.sleep.wrapping_add(1);
            self.memory.cells()[SLEEP].store(self.sleep);
        }
    }
}

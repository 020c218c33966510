//! What a node has captured, on its way to whoever writes the file: a ring in memory that both map.
//!
//! Decides that the writer never waits: a record for which there is no room is lost and counted. Doesn't decide what is
//! in a record; see [`record`](super::record).
//!
//! ```text
//!   cell   0       8         9      16      24      32 ..               32 + capacity
//!        +-------+---------+------+-------+-------+--------------------+
//!        | magic | written | lost | taken | sleep | words of records,  |
//!        |       |         |      |       |       | around and around  |
//!        +-------+---------+------+-------+-------+--------------------+
//! ```
//!
//! `written` and `taken` count words and rise for ever; the word with number n is in cell 32 + n modulo capacity. A record
//! begins with a word whose low half is its length in words, that word included. The writer stores `written`, `lost` and
//! records, the reader `taken` and `sleep`. A writer that is killed leaves whole records only, and the next one goes on
//! behind them.
//!
//! Neither side trusts the other (law 9): counters are read once and compared before they are used, and no value leads out
//! of the memory. A reader that lies about what it has taken gets rubbish or loses records; a writer that lies is
//! [`Corrupt`] to the reader, who stops listening to it.
//!
//! Sleep: as in the fabric's ring ([`crate::fabric`]): the reader stores an odd `sleep`, fence, looks at `written` once
//! more, and only then waits for the bell; the writer stores `written`, fence, looks at `sleep`. One of the two sees the
//! other.
//!
//! Cost: a store per 8 bytes, and per flush one full fence; a system call only when the reader sleeps.

mod ends;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use ends::{ReadEnd, WriteEnd};

use crate::sys::shm::{self, WriteMapping};

/// Layout and version.
const MAGIC: u64 = u64::from_be_bytes(*b"podcap\0\x01");

const WRITTEN: usize = 8;
const LOST: usize = 9;
const TAKEN: usize = 16;
const SLEEP: usize = 24;
const FIRST: usize = 32;

/// Fewest words that a ring can have: room for the longest record, and more.
pub const MIN_WORDS: usize = 1 << 14;

/// Longest record, words: a superframe's worth of bytes and its head.
pub const MAX_RECORD: usize = (1 << 13) + 16;

/// Memory for a ring of `words` words.
///
/// # Errors
/// Fewer than [`MIN_WORDS`]; or out of descriptors or memory.
pub fn create(words: usize) -> io::Result<OwnedFd> {
    if words < MIN_WORDS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let fd = shm::create("podwire-capture", FIRST + words)?;
    shm::set(fd.as_fd(), 0, MAGIC)?;
    Ok(fd)
}

fn map(fd: impl AsFd, words: usize) -> io::Result<WriteMapping> {
    if words < MIN_WORDS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let memory = WriteMapping::new(fd, FIRST + words)?;
    if memory.cells()[0].load(Ordering::Relaxed) != MAGIC {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(memory)
}

/// The node's end.
#[derive(Debug)]
pub struct Writer(WriteEnd<WriteMapping>);

impl Writer {
    /// The end on the memory that [`create`] has made with the same `words`. Goes on where another has ended.
    ///
    /// # Errors
    /// When it is no such memory.
    pub fn new(fd: impl AsFd, words: usize) -> io::Result<Self> {
        Ok(Self(WriteEnd::new(map(fd, words)?)))
    }

    /// Appends a record that `words` gives, one after the other; their number is in the low half of the first. False, and
    /// counted as lost, when there is no room.
    pub fn push(&mut self, len: usize, words: impl Iterator<Item = u64>) -> bool {
        self.0.push(len, words)
    }

    /// Makes what was pushed visible. True: the reader's bell has to be rung.
    #[must_use]
    pub fn flush(&mut self) -> bool {
        self.0.flush()
    }
}

/// The writer has broken the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what it has captured can't be read")]
pub struct Corrupt;

/// The other end.
#[derive(Debug)]
pub struct Reader(ReadEnd<WriteMapping>);

impl Reader {
    /// The end on the memory that [`create`] has made with the same `words`.
    ///
    /// # Errors
    /// When it is no such memory.
    pub fn new(fd: impl AsFd, words: usize) -> io::Result<Self> {
        Ok(Self(ReadEnd::new(map(fd, words)?)))
    }

    /// Takes one record out, in place of what was in `into`. False when there is none.
    ///
    /// # Errors
    /// [`Corrupt`]; the ring is of no use then.
    pub fn pop(&mut self, into: &mut Vec<u64>) -> Result<bool, Corrupt> {
        self.0.pop(into)
    }

    /// Records that the writer had no room for.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.lost()
    }

    /// True when [`Reader::pop`] would not say that there is none.
    #[must_use]
    pub fn has_records(&self) -> bool {
        self.0.has_records()
    }

    /// Announces sleep. False when there is something already, and the caller must not sleep.
    pub fn prepare_sleep(&mut self) -> bool {
        self.0.prepare_sleep()
    }

    /// Takes back what [`Reader::prepare_sleep`] announced.
    pub fn end_sleep(&mut self) {
        self.0.end_sleep();
    }
}

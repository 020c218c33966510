//! Keys to numbers, where the caller has the keys: a cuckoo table of one cache line per bucket, ten numbers in each.
//!
//! Beside a number stand 16 bits of its key's hash, the tag. Whether a number whose tag fits is that of the key says the
//! caller, who looks at the entry that it names, as whoever asked would have done next anyway. So a key takes 7.3 bytes
//! here in place of the 26.7 of a [`FlowTable`](super::flow::FlowTable), and what matters more: the memory that look-ups are
//! spread over is a quarter, for which the processor remembers addresses of pages so much longer. A number stands in the
//! table once.
//!
//! An entry is in one of two buckets; the other one follows from the bucket that it is in and its tag alone (Fan, Andersen,
//! Kaminsky, Mitzenmacher, "Cuckoo Filter: Practically Better Than Bloom", 2014; the sum of both numbers is the tag's, so
//! that any number of buckets will do). A bucket counts the entries that would have it as their first choice but are in
//! their second, so that a look-up mostly ends after one line.
//!
//! Keys are chosen by attackers: the hash is as secret as that of the flow table, see there.
//!
//! # Cost
//! A look-up: one line, for one key in eleven of a full table two, and in ninety of one that is two thirds full; the caller's
//! entry for nothing once in 6,500 look-ups. An insertion: see [`cuckoo`]. Nothing allocates after [`Places::new`].

use crate::arch::{Line, Lines, halves_like, prefetch};
use crate::random::Rng;
use crate::table::cuckoo::{self, Buckets, Place};
use crate::table::flow::{FlowKey, Hasher};

/// Entries in a bucket.
const WAYS: usize = 10;
/// Buckets on top of what the capacity asks for.
const SPARE: usize = 4;
/// Set in what stands for a number in a bucket: this is its entry's second choice.
const SECOND: u32 = 1 << 31;
/// The greatest number that the table takes.
pub(crate) const MOST: u32 = SECOND - 2;

/// There is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// See the module.
#[derive(Debug)]
pub(crate) struct Places {
    /// Halves 0 to 9 of a line: tags, zero where nothing is. Word 5 (of 32 bits): the count. Words 6 to 15: numbers plus one.
    lines: Lines,
    hasher: Hasher,
    /// Makes of a tag the sum of its two buckets.
    spread: u32,
    len: usize,
    capacity: usize,
}

/// Where a key may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choices {
    first: u32,
    tag: u16,
}

impl Choices {
    /// Of no key: no table has these.
    pub(crate) const NONE: Self = Self {
        first: u32::MAX,
        tag: 0,
    };
}

/// What the first bucket of a key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    /// Most likely this.
    Value(u32),
    /// The key is not in the table.
    Nothing,
    /// It may be in its other bucket.
    Other,
}

impl Places {
    /// An empty table for `capacity` numbers.
    pub(crate) fn new(capacity: usize, seed: u64) -> Self {
        let capacity = capacity.min(u32::MAX as usize / 2);
        // Seven entries for eight places.
        let lines = (capacity * 8).div_ceil(7 * WAYS) + SPARE;
        let mut rng = Rng::new(seed);
        Self {
            lines: Lines::zeroed(lines),
            hasher: Hasher::new(&mut rng),
            #[expect(clippy::cast_possible_truncation, reason = "half of a random number")]
            spread: rng.next() as u32 | 1,
            len: 0,
            capacity,
        }
    }

    /// Bytes of address space that the table takes.
    pub(crate) fn bytes(&self) -> usize {
        self.lines.len() * size_of::<Line>()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.len
    }

    /// Where a key may be.
    #[inline]
    pub(crate) fn choices_of(&self, key: FlowKey) -> Choices {
        let hash = self.hasher.hash(key);
        let first = ((hash >> 32) * self.lines.len() as u64) >> 32;
        // Fewer than 2^32 lines; a tag is never zero, which stands for nothing.
        #[expect(clippy::cast_possible_truncation, reason = "both fit")]
        let (first, tag) = (first as u32, (hash as u16).max(1));
        Choices { first, tag }
    }

    /// The other bucket of an entry with this tag. Seldom the same.
    #[inline]
    fn other(&self, line: usize, tag: u16) -> usize {
        let lines = self.lines.len();
        let sum = u64::from(u32::from(tag).wrapping_mul(self.spread)) * lines as u64;
        let sum = (sum >> 32) as usize;
        if sum >= line {
            sum - line
        } else {
            sum + lines - line
        }
    }

    fn second(&self, choices: Choices) -> usize {
        self.other(choices.first as usize, choices.tag)
    }

    /// Asks for the bucket in which a key most likely is.
    #[inline]
    pub(crate) fn prefetch(&self, choices: Choices) {
        if let Some(line) = self.lines.get(choices.first as usize) {
            prefetch(line);
        }
    }

    /// What the bucket of a key says that was [asked for](Self::prefetch). If that is the other bucket, it is asked for.
    #[inline]
    pub(crate) fn first_of(&self, choices: Choices) -> First {
        let Some(line) = self.lines.get(choices.first as usize) else {
            return First::Nothing;
        };
        let like = halves_like(line, choices.tag);
        if like != 0 {
            return First::Value(number(line, like.trailing_zeros() as usize));
        }
        if count(line) == 0 {
            return First::Nothing;
        }
        if let Some(line) = self.lines.get(self.second(choices)) {
            prefetch(line);
        }
        First::Other
    }

    /// What the other bucket says of a key, most likely.
    #[inline]
    pub(crate) fn second_of(&self, choices: Choices) -> Option<u32> {
        let line = self.lines.get(self.second(choices))?;
        let like = halves_like(line, choices.tag);
        (like != 0).then(|| number(line, like.trailing_zeros() as usize))
    }

    /// The number of a key: of those that may be its own the one for which `is_it` is true.
    #[inline]
    pub(crate) fn get(&self, key: FlowKey, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let choices = self.choices_of(key);
        let place = self.find(choices, is_it)?;
        Some(number(self.lines.get(place.line)?, place.way))
    }

    #[inline]
    fn find(&self, choices: Choices, is_it: impl Fn(u32) -> bool) -> Option<Place> {
        let in_line = |at: usize| {
            let line = self.lines.get(at)?;
            let mut like = halves_like(line, choices.tag);
            while like != 0 {
                let way = like.trailing_zeros() as usize;
                if is_it(number(line, way)) {
                    return Some(Place { line: at, way });
                }
                like &= like - 1;
            }
            None
        };
        let first = choices.first as usize;
        if let Some(place) = in_line(first) {
            return Some(place);
        }
        if count(self.lines.get(first)?) == 0 {
            return None;
        }
        in_line(self.second(choices))
    }

    /// Puts in the number of a key. Neither is there yet.
    ///
    /// # Errors
    /// When there is no room; nothing has changed then, but that other entries may have moved.
    pub(crate) fn insert(&mut self, key: FlowKey, val: u32) -> Result<(), Full> {
        if self.len >= self.capacity || val > MOST {
            return Err(Full);
        }
        let choices = self.choices_of(key);
        let (first, second) = (choices.first as usize, self.second(choices));
        let place = cuckoo::make_room(self, first, second).ok_or(Full)?;
        let is_second = place.line != first;
        self.put(place, choices.tag, val + 1, is_second.then_some(first));
        self.len += 1;
        Ok(())
    }

    /// Replaces the number `old` of a key; false, and no change, when that is not there.
    pub(crate) fn replace(&mut self, key: FlowKey, old: u32, new: u32) -> bool {
        let Some(place) = self.find(self.choices_of(key), |val| val == old) else {
            return false;
        };
        let Some(line) = self.lines.get_mut(place.line).filter(|_| new <= MOST) else {
            return false;
        };
        let second = raw(line, place.way) & SECOND;
        set_raw(line, place.way, second | (new + 1));
        true
    }

    /// Takes the number `val` of a key out; false when that is not there.
    pub(crate) fn remove(&mut self, key: FlowKey, val: u32) -> bool {
        let choices = self.choices_of(key);
        let Some(place) = self.find(choices, |other| other == val) else {
            return false;
        };
        self.clear(place);
        self.len -= 1;
        true
    }

    /// `first` is the entry's first choice if this place is in its second.
    fn put(&mut self, place: Place, tag: u16, val: u32, first: Option<usize>) {
        if let Some(line) = self.lines.get_mut(place.line) {
            let second = if first.is_some() { SECOND } else { 0 };
            set_raw(line, place.way, val | second);
            set_tag(line, place.way, tag);
        }
        if let Some(line) = first.and_then(|first| self.lines.get_mut(first)) {
            set_count(line, count(line) + 1);
        }
    }

    /// Frees a place; gives the tag and the number plus one that stood there, and its first choice if this was the second.
    fn clear(&mut self, place: Place) -> (u16, u32, Option<usize>) {
        let Some(line) = self.lines.get_mut(place.line) else {
            return (0, 0, None);
        };
        let (tag, val) = (tag(line, place.way), raw(line, place.way));
        set_tag(line, place.way, 0);
        set_raw(line, place.way, 0);
        let first = (val & SECOND != 0).then(|| self.other(place.line, tag));
        if let Some(line) = first.and_then(|first| self.lines.get_mut(first)) {
            set_count(line, count(line).saturating_sub(1));
        }
        (tag, val & !SECOND, first)
    }
}

impl Buckets for Places {
    const WAYS: usize = WAYS;

    fn free_way(&self, line: usize) -> Option<usize> {
        let line = self.lines.get(line)?;
        (0..WAYS).find(|&way| tag(line, way) == 0)
    }

    fn other_of(&self, place: Place) -> Option<usize> {
        let line = self.lines.get(place.line)?;
        Some(self.other(place.line, tag(line, place.way)))
    }

    fn shift(&mut self, from: Place, to: Place) {
        let (tag, val, first) = self.clear(from);
        // What was in its second bucket is in its first now, and the other way round.
        let was_first = first.is_none();
        self.put(to, tag, val, was_first.then_some(from.line));
    }
}

/// The 32-bit word of a line with this number.
#[inline]
fn word(line: &Line, nth: usize) -> u32 {
    let both = line.0.get(nth / 2).copied().unwrap_or(0);
    #[expect(clippy::cast_possible_truncation, reason = "half of a word")]
    let half = (both >> (32 * (nth % 2))) as u32;
    half
}

#[inline]
fn set_word(line: &mut Line, nth: usize, half: u32) {
    if let Some(both) = line.0.get_mut(nth / 2) {
        let shift = 32 * (nth % 2);
        *both = *both & !(0xffff_ffff << shift) | u64::from(half) << shift;
    }
}

const COUNT_AT: usize = 5;
const NUMBERS_AT: usize = 6;

#[inline]
fn count(line: &Line) -> u32 {
    word(line, COUNT_AT)
}

fn set_count(line: &mut Line, count: u32) {
    set_word(line, COUNT_AT, count);
}

/// A number plus one, and [`SECOND`]; zero where nothing is.
#[inline]
fn raw(line: &Line, way: usize) -> u32 {
    word(line, NUMBERS_AT + way)
}

fn set_raw(line: &mut Line, way: usize, raw: u32) {
    set_word(line, NUMBERS_AT + way, raw);
}

/// The number in a place that has a tag.
#[inline]
fn number(line: &Line, way: usize) -> u32 {
    (raw(line, way) & !SECOND).wrapping_sub(1)
}

fn tag(line: &Line, way: usize) -> u16 {
    let [a, b, c, d] = word(line, way / 2).to_le_bytes();
    if way.is_multiple_of(2) {
        u16::from_le_bytes([a, b])
    } else {
        u16::from_le_bytes([c, d])
    }
}

fn set_tag(line: &mut Line, way: usize, tag: u16) {
    let shift = 16 * (way % 2);
    let both = word(line, way / 2) & !(0xffff << shift);
    set_word(line, way / 2, both | u32::from(tag) << shift);
}

#[cfg(test)]
mod tests;

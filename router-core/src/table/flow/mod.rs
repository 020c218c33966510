//! Flow keys to numbers: a cuckoo hash table of one cache line per bucket.
//!
//! A key is 16 bytes, its value a number that names a place in a side array of the caller's. A bucket holds three keys
//! with their values and a count in 64 bytes; a key is in one of two buckets, its first choice or its second. The count
//! says how many keys would have this bucket as their first choice but are in their second, so that a look-up for a key
//! that is not there ends, mostly, after one line. An insertion into two full buckets moves other keys to their other
//! bucket: see `cuckoo`.
//!
//! Keys are chosen by attackers: the hash is two folded multiplications under a secret of 256 bits drawn from the
//! seed. Whoever does not know it can't aim at a bucket.
//!
//! # Cost
//! A hit: one or two cache lines; a miss: one, seldom two. Of a full table's keys a fifth are in their second bucket.
//! [`FlowTable::get_batch`] has `AHEAD` lines on their way at once. An insertion: the two lines, and at a load above 0.7 a
//! bounded search now and then. Nothing allocates after [`FlowTable::new`]; there is no scan and no rehash. Memory: 64 bytes
//! for every 2.4 keys of the capacity, 26.7 bytes per key, and 1 kB; the system has to give only what was ever written to.

use crate::arch::{Line, Lines, prefetch, word_beside};
use crate::random::Rng;
use crate::table::cuckoo::{self, Buckets, Place};

/// Keys in a bucket.
const WAYS: usize = 3;
const _: () = assert!(BATCH.is_multiple_of(AHEAD));
/// Buckets on top of what the capacity asks for.
const SPARE: usize = 16;
/// Look-ups whose first bucket is on its way.
const AHEAD: usize = 32;
/// Look-ups after which those are looked at again that have to be taken to their second bucket.
const BATCH: usize = 64;

/// What is looked up: 16 bytes that mean something to the caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey(pub [u64; 2]);

/// Why a key was not inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// It is there already.
    Occupied,
    /// As many keys as the table has capacity for, or no free place within reach.
    Full,
}

/// See the module.
#[derive(Debug)]
pub struct FlowTable {
    /// Words 0..6 of a line: keys. 6 and 7: three values (plus one, zero is a free place) and the count, 32 bits each.
    lines: Lines,
    hasher: Hasher,
    len: usize,
    capacity: usize,
}

/// Where a key may be: its first bucket, by number, and what the second one's follows from.
#[derive(Clone, Copy, Debug)]
struct Choices {
    first: u32,
    rest: u32,
}

impl Choices {
    /// Of no key: no table has these.
    const NONE: Self = Self {
        first: u32::MAX,
        rest: 0,
    };

    #[inline]
    fn first(self) -> usize {
        self.first as usize
    }
}

impl FlowTable {
    /// An empty table for `capacity` keys.
    #[must_use]
    pub fn new(capacity: usize, seed: u64) -> Self {
        let capacity = capacity.min(u32::MAX as usize / 2);
        // Four keys for five places. The buckets on top make it as good as impossible in a small table that seven keys
        // have the same two choices.
        let lines = (capacity * 5).div_ceil(4 * WAYS) + SPARE;
        let mut rng = Rng::new(seed);
        Self {
            lines: Lines::zeroed(lines),
            hasher: Hasher::new(&mut rng),
            len: 0,
            capacity,
        }
    }

    /// Keys that are there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keys that there may be.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes of address space that the table takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lines.len() * size_of::<Line>()
    }

    /// Where a key may be.
    #[inline]
    fn choices_of(&self, key: FlowKey) -> Choices {
        let hash = self.hasher.hash(key);
        let first = ((hash >> 32) * self.lines.len() as u64) >> 32;
        // Both are halves of the hash, or less: there are fewer than 2^32 lines, for less than 2^31 keys.
        #[expect(clippy::cast_possible_truncation, reason = "both fit")]
        let (first, rest) = (first as u32, hash as u32);
        Choices { first, rest }
    }

    /// The other bucket, which is never the first.
    #[inline]
    fn second(&self, choices: Choices) -> usize {
        let lines = self.lines.len();
        let second = ((u64::from(choices.rest) * lines as u64) >> 32) as usize;
        let next = if second + 1 < lines { second + 1 } else { 0 };
        if second == choices.first() {
            next
        } else {
            second
        }
    }

    /// The first and the second bucket of a key.
    #[inline]
    fn choices(&self, key: FlowKey) -> (usize, usize) {
        let choices = self.choices_of(key);
        (choices.first(), self.second(choices))
    }

    #[inline]
    fn find(&self, key: FlowKey) -> Option<Place> {
        let (first, second) = self.choices(key);
        self.find_in(key, first, second)
    }

    #[inline]
    fn find_in(&self, key: FlowKey, first: usize, second: usize) -> Option<Place> {
        let line = self.lines.get(first)?;
        if let Some(way) = way_of(line, key) {
            return Some(Place { line: first, way });
        }
        if overflow(line) == 0 {
            return None;
        }
        let way = way_of(self.lines.get(second)?, key)?;
        Some(Place { line: second, way })
    }

    /// The value of a key.
    #[inline]
    #[must_use]
    pub fn get(&self, key: FlowKey) -> Option<u32> {
        let choices = self.choices_of(key);
        let line = self.lines.get(choices.first())?;
        let raw = word_beside(line, key.0);
        if raw != 0 || overflow(line) == 0 {
            return raw.checked_sub(1);
        }
        self.second_of(key, choices)
    }

    /// Asks for the bucket in which a key most likely is.
    #[inline]
    fn prefetch(&self, choices: Choices) {
        if let Some(line) = self.lines.get(choices.first()) {
            prefetch(line);
        }
    }

    /// What the other bucket says of a key.
    #[inline]
    fn second_of(&self, key: FlowKey, choices: Choices) -> Option<u32> {
        let line = self.lines.get(self.second(choices))?;
        word_beside(line, key.0).checked_sub(1)
    }

    /// The values of many keys, each in the place of its key, up to the end of the shorter slice.
    pub fn get_batch(&self, keys: &[FlowKey], values: &mut [Option<u32>]) {
        let mut asked = [Choices::NONE; AHEAD];
        for (key, asked) in keys.iter().zip(&mut asked) {
            *asked = self.choices_of(*key);
            self.prefetch(*asked);
        }
        let mut later = keys.iter().skip(AHEAD);
        // Those that are to be looked for in their other bucket. Whether a key is one nobody can foretell: so each is
        // written down, and counted if it is.
        let mut others = [(0, Choices::NONE); BATCH];
        for (keys, values) in keys.chunks(BATCH).zip(values.chunks_mut(BATCH)) {
            let mut count = 0;
            for (nth, (key, value)) in keys.iter().zip(&mut *values).enumerate() {
                let Some(place) = asked.get_mut(nth % AHEAD) else {
                    continue;
                };
                let choices = *place;
                if let Some(later) = later.next() {
                    *place = self.choices_of(*later);
                    self.prefetch(*place);
                }
                let Some(line) = self.lines.get(choices.first()) else {
                    continue;
                };
                let raw = word_beside(line, key.0);
                *value = raw.checked_sub(1);
                let is_other = (raw == 0) & (overflow(line) != 0);
                let second = self.lines.get(self.second(choices)).unwrap_or(line);
                prefetch(if is_other { second } else { line });
                if let Some(other) = others.get_mut(count) {
                    *other = (nth, choices);
                }
                count += usize::from(is_other);
            }
            for &(nth, choices) in others.iter().take(count) {
                if let (Some(key), Some(value)) = (keys.get(nth), values.get_mut(nth)) {
                    *value = self.second_of(*key, choices);
                }
            }
        }
    }

    /// Puts a key in.
    ///
    /// # Errors
    /// When it can't be; nothing has changed then, but that other keys may have moved.
    pub fn insert(&mut self, key: FlowKey, val: u32) -> Result<(), InsertError> {
        let (first, second) = self.choices(key);
        if self.find_in(key, first, second).is_some() {
            return Err(InsertError::Occupied);
        }
        if self.len >= self.capacity || val == u32::MAX {
            return Err(InsertError::Full);
        }
        let place = cuckoo::make_room(self, first, second).ok_or(InsertError::Full)?;
        self.put(place, key, val + 1, first);
        self.len += 1;
        Ok(())
    }

    /// Replaces the value of a key; gives the old one. None, and no change, when it is not there.
    pub fn replace(&mut self, key: FlowKey, val: u32) -> Option<u32> {
        let place = self.find(key)?;
        let line = self.lines.get_mut(place.line)?;
        let old = value(line, place.way).checked_sub(1);
        set_value(line, place.way, val.saturating_add(1));
        old
    }

    /// Takes a key out; gives its value.
    pub fn remove(&mut self, key: FlowKey) -> Option<u32> {
        let (first, second) = self.choices(key);
        let place = self.find_in(key, first, second)?;
        let val = self.clear(place, first);
        self.len -= 1;
        val.checked_sub(1)
    }

    fn put(&mut self, place: Place, key: FlowKey, raw: u32, first: usize) {
        if let Some(line) = self.lines.get_mut(place.line) {
            set_key(line, place.way, key);
            set_value(line, place.way, raw);
        }
        if place.line != first
            && let Some(line) = self.lines.get_mut(first)
        {
            set_overflow(line, overflow(line) + 1);
        }
    }

    /// Frees a place that holds a key with this first choice; gives what stood there.
    fn clear(&mut self, place: Place, first: usize) -> u32 {
        let raw = self.lines.get_mut(place.line).map_or(0, |line| {
            let raw = value(line, place.way);
            set_value(line, place.way, 0);
            raw
        });
        if place.line != first
            && let Some(line) = self.lines.get_mut(first)
        {
            set_overflow(line, overflow(line).saturating_sub(1));
        }
        raw
    }
}

impl Buckets for FlowTable {
    const WAYS: usize = WAYS;

    fn free_way(&self, line: usize) -> Option<usize> {
        let line = self.lines.get(line)?;
        (0..WAYS).find(|&way| value(line, way) == 0)
    }

    fn other_of(&self, place: Place) -> Option<usize> {
        let (first, second) = self.choices(key_at(self.lines.get(place.line)?, place.way));
        Some(if first == place.line { second } else { first })
    }

    fn shift(&mut self, from: Place, to: Place) {
        let Some(line) = self.lines.get(from.line) else {
            return;
        };
        let key = key_at(line, from.way);
        let (first, _) = self.choices(key);
        let raw = self.clear(from, first);
        self.put(to, key, raw, first);
    }
}

/// A secret, and what it makes of keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hasher([u64; 4]);

impl Hasher {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        Self(core::array::from_fn(|_| rng.next()))
    }

    #[inline]
    pub(crate) fn hash(&self, key: FlowKey) -> u64 {
        let Self([s0, s1, s2, s3]) = *self;
        let [k0, k1] = key.0;
        fold(fold(k0 ^ s0, k1 ^ s1) ^ s2, s3 | 1)
    }
}

/// Both halves of a product, one over the other: every bit of it depends on every bit of both factors.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    let halves = (product as u64, (product >> 64) as u64);
    halves.0 ^ halves.1
}

#[inline]
fn key_at(line: &Line, way: usize) -> FlowKey {
    let word = |n: usize| line.0.get(2 * way + n).copied().unwrap_or(0);
    FlowKey([word(0), word(1)])
}

#[inline]
fn set_key(line: &mut Line, way: usize, key: FlowKey) {
    for (to, from) in line.0.iter_mut().skip(2 * way).zip(key.0) {
        *to = from;
    }
}

/// The value of a way plus one; zero when it is free, which may still have the key that stood there. Way 3 is the count.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "half of a word")]
fn value(line: &Line, way: usize) -> u32 {
    let word = line.0[6 + (way >> 1 & 1)];
    (word >> (32 * (way & 1))) as u32
}

#[inline]
fn set_value(line: &mut Line, way: usize, value: u32) {
    let shift = 32 * (way & 1);
    let word = &mut line.0[6 + (way >> 1 & 1)];
    *word = *word & !(0xffff_ffff << shift) | u64::from(value) << shift;
}

#[inline]
fn overflow(line: &Line) -> u32 {
    value(line, WAYS)
}

#[inline]
fn set_overflow(line: &mut Line, count: u32) {
    set_value(line, WAYS, count);
}

/// Where a key stands in a bucket. Without branches on the keys: they are as good as random.
#[inline]
fn way_of(line: &Line, key: FlowKey) -> Option<usize> {
    let mut found = 0_usize;
    for way in 0..WAYS {
        let same = key_at(line, way) == key && value(line, way) != 0;
        found |= usize::from(same) << way;
    }
    // At most one bit: a key stands in one place.
    (found != 0).then(|| found.trailing_zeros() as usize)
}

#[cfg(test)]
mod tests;

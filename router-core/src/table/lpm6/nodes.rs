//! The forwarding table: a root of cells, and nodes of eight bits behind it.
//!
//! The root is a window of the address space, a cell for each prefix of some octets, then one cell for everything outside.
//! A node resolves one octet. It lists the *runs* of octets with the same answer: a set of 256 bits says where runs begin,
//! and the number of bits up to an octet is the number of its slot (bitmap and rank, as in Asai and Ohara, "Poptrie",
//! 2015, with eight bits a step). A node is one cache line as long as it has at most six runs, which three of four nodes of
//! the Internet's table have:
//!
//! ```text
//!   word  0..=3   where runs begin
//!         4       for each of the words before: place of the slot of the last run that began earlier (a byte each), then
//!                 the next hop that the octets without one of their own inherit from above (16 bits)
//!         5..=7   up to six slots of 32 bits; with more runs all slots are in the lines that follow
//! ```
//!
//! A slot or cell holds a next hop, [`INHERIT`], or [`NODE`] and the number of a line. An answer depends on nothing but
//! the way down to it, each step of which is one load; nodes are not changed but replaced, and a slot of the parent is the
//! one place that makes a new node visible. Only two words of a node change in place: a slot that leads to a node, and
//! what is inherited, so that a short prefix can change without new nodes below it.
//!
//! Cost: one load of the root and, for each octet further down, one cache line where there are few runs, else two.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::arch::{self, Kernel, Operation};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::table::{NO_ROUTE, NextHop};

/// Set in a slot that leads to a node; the other bits are the number of its first line.
pub(super) const NODE: u32 = 1 << 31;
/// A slot of octets that have the next hop that the whole node inherits.
pub(super) const INHERIT: u32 = 1 << 30;
/// A slot or cell without a route.
const MISS: u32 = NO_ROUTE as u32;
/// Words of a line.
pub(super) const LINE: usize = 8;
/// Slots that fit into the first line, and the place of the first of them in halves of a word.
const INLINE: usize = 6;
const FIRST_INLINE: usize = 10;
const FIRST_BEHIND: usize = 16;
/// Sizes that nodes have, in lines: slots behind the first line come in powers of two.
pub(super) const SIZES: [usize; 6] = [1, 2, 3, 5, 9, 17];
/// Addresses looked up in one go.
const CHUNK: usize = 64;

/// The part of the address space that the root resolves directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// A cell stands for the addresses that share so many octets (0..=7).
    pub(super) level: usize,
    /// Those octets of the first cell, as a number.
    pub(super) low: u64,
    /// Cells, the outside cell not counted; none with level 0.
    pub(super) cells: u32,
}

impl Window {
    /// Nothing: every address is outside.
    pub(super) const NONE: Self = Self {
        level: 0,
        low: 0,
        cells: 0,
    };

    /// Number of the cell of an address, `cells` for those outside.
    #[inline(always)]
    pub(super) fn index(self, address: u128) -> usize {
        let top = upper(address) >> ((64 - 8 * self.level) & 63);
        // At most `cells`.
        let index = top.wrapping_sub(self.low).min(u64::from(self.cells));
        usize::try_from(index).unwrap_or(0)
    }

    pub(super) fn contains(self, address: u128) -> bool {
        self.index(address) != self.cells as usize
    }

    /// First address of a cell.
    pub(super) fn address(self, index: usize) -> u128 {
        let top = self.low.wrapping_add(index as u64);
        u128::from(top) << (128 - 8 * self.level)
    }
}

#[inline(always)]
fn upper(address: u128) -> u64 {
    (address >> 64) as u64
}

#[inline(always)]
fn octet(address: u128, level: usize) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
    let half = if level < 8 {
        upper(address)
    } else {
        address as u64
    };
    (half >> (56 - 8 * (level & 7)) & 0xff) as usize
}

/// A handle to cells and nodes that readers and one writer share.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) window: Window,
    root: Arc<[AtomicU32]>,
    words: Arc<[AtomicU64]>,
    /// The first word that begins a cache line.
    first: usize,
}

impl Table {
    /// A table of these cells (the outside cell last) and lines, with room for `spare` more lines.
    pub(super) fn new(window: Window, root: &[u32], lines: &[u64], spare: usize) -> Self {
        let all = lines.len() + (spare + 1) * LINE;
        let mut words: Arc<[AtomicU64]> = arch::shared(all, |_| AtomicU64::new(0));
        let size = size_of::<AtomicU64>();
        let beyond = words.as_ptr().addr() % (LINE * size) / size;
        let first = (LINE - beyond) % LINE;
        if let Some(words) = Arc::get_mut(&mut words) {
            for (word, &line) in words.iter_mut().skip(first).zip(lines) {
                *word = AtomicU64::new(line);
            }
        }
        Self {
            window,
            root: root.iter().map(|&cell| AtomicU32::new(cell)).collect(),
            words,
            first,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.root) + size_of_val(&*self.words)
    }

    /// Lines there are.
    pub(super) fn lines(&self) -> usize {
        (self.words.len() - self.first) / LINE
    }

    /// Next hop of an address, [`NO_ROUTE`] if there is none.
    #[inline]
    pub(super) fn lookup(&self, kernel: Kernel, address: u128) -> NextHop {
        kernel.run(One {
            table: self,
            address,
        })
    }

    /// [`lookup`](Self::lookup) of every address; stops at the end of the shorter slice.
    #[inline]
    pub(super) fn lookup_batch(&self, kernel: Kernel, addresses: &[u128], hops: &mut [NextHop]) {
        kernel.run(Many {
            table: self,
            addresses,
            hops,
        });
    }

    #[inline(always)]
    fn lookup_one(&self, address: u128) -> NextHop {
        let words = self.words.get(self.first..).unwrap_or_default();
        let index = self.window.index(address);
        let is_outside = index == self.window.cells as usize;
        let mut level = if is_outside { 0 } else { self.window.level };
        let mut slot = self.cell(index);
        while slot & NODE != 0 {
            slot = step(words, slot, octet(address, level));
            level += 1;
        }
        hop(slot)
    }

    /// Everybody takes a step before anybody takes the next one: while one waits for memory, the others go on.
    #[inline(always)]
    fn lookup_chunk(&self, addresses: &[u128], hops: &mut [NextHop]) {
        let words = self.words.get(self.first..).unwrap_or_default();
        // Those that are on the way: address, place in the batch, slot, level.
        let mut lanes = [Lane::default(); CHUNK];
        let mut count = 0;
        for (place, (&address, out)) in addresses.iter().zip(&mut *hops).enumerate() {
            let index = self.window.index(address);
            let slot = self.cell(index);
            *out = hop(slot);
            let is_outside = index == self.window.cells as usize;
            // Written in any case, kept if it leads on: no branch to guess.
            if let Some(lane) = lanes.get_mut(count) {
                *lane = Lane {
                    slot,
                    place: u8::try_from(place).unwrap_or(0),
                    level: if is_outside {
                        0
                    } else {
                        u8::try_from(self.window.level).unwrap_or(0)
                    },
                };
            }
            count += (slot >> 31) as usize;
        }
        while count > 0 {
            let mut left = 0;
            for nth in 0..count {
                let Some(&Lane { slot, place, level }) = lanes.get(nth) else {
                    break;
                };
                let place_in = usize::from(place);
                let (Some(&address), Some(out)) = (addresses.get(place_in), hops.get_mut(place_in))
                else {
                    continue;
                };
                let slot = step(words, slot, octet(address, usize::from(level)));
                *out = hop(slot);
                if let Some(lane) = lanes.get_mut(left) {
                    *lane = Lane {
                        slot,
                        place,
                        level: level + 1,
                    };
                }
                left += (slot >> 31) as usize;
            }
            count = left;
        }
    }

    #[inline(always)]
    pub(super) fn cell(&self, index: usize) -> u32 {
        self.root
            .get(index)
            .map_or(MISS, |cell| cell.load(Ordering::Acquire))
    }

    pub(super) fn set_cell(&self, index: usize, value: u32) {
        self.root[index].store(value, Ordering::Release);
    }

    /// What a node says of an octet, [`INHERIT`] as such.
    pub(super) fn slot(&self, node: u32, octet: usize) -> u32 {
        let (word, shift) = self.place(node, octet);
        low(self.word(word).load(Ordering::Relaxed) >> shift)
    }

    /// Lets a slot that leads to a node lead to another one.
    pub(super) fn set_slot(&self, node: u32, octet: usize, value: u32) {
        let (word, shift) = self.place(node, octet);
        let word = self.word(word);
        let others = word.load(Ordering::Relaxed) & !(u64::from(u32::MAX) << shift);
        word.store(others | u64::from(value) << shift, Ordering::Release);
    }

    pub(super) fn inherited(&self, node: u32) -> NextHop {
        inherited(self.word(start(node) + 4).load(Ordering::Relaxed))
    }

    pub(super) fn set_inherited(&self, node: u32, hop: NextHop) {
        let word = self.word(start(node) + 4);
        let others = word.load(Ordering::Relaxed) & u64::from(u32::MAX);
        word.store(others | u64::from(hop) << 32, Ordering::Release);
    }

    /// Size of a node: its place in [`SIZES`].
    pub(super) fn size(&self, node: u32) -> usize {
        let runs: u32 = (0..4)
            .map(|n| {
                self.word(start(node) + n)
                    .load(Ordering::Relaxed)
                    .count_ones()
            })
            .sum();
        size(runs as usize)
    }

    /// Fills lines that no reader can be in.
    pub(super) fn write(&self, node: u32, words: &[u64]) {
        for (nth, &word) in words.iter().enumerate() {
            self.word(start(node) + nth).store(word, Ordering::Relaxed);
        }
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        &self.words[self.first + at]
    }

    /// Word and shift of the slot of an octet.
    fn place(&self, node: u32, octet: usize) -> (usize, u32) {
        let begins = self.word(start(node) + octet / 64).load(Ordering::Relaxed);
        let info = self.word(start(node) + 4).load(Ordering::Relaxed);
        place(start(node), begins, info, octet)
    }
}

/// One look-up.
struct One<'a> {
    table: &'a Table,
    address: u128,
}

impl Operation for One<'_> {
    type Output = NextHop;

    #[inline(always)]
    fn run(self) -> NextHop {
        self.table.lookup_one(self.address)
    }
}

/// Look-ups side by side.
struct Many<'a> {
    table: &'a Table,
    addresses: &'a [u128],
    hops: &'a mut [NextHop],
}

impl Operation for Many<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let hops = self.hops.chunks_mut(CHUNK);
        for (addresses, hops) in self.addresses.chunks(CHUNK).zip(hops) {
            self.table.lookup_chunk(addresses, hops);
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Lane {
    slot: u32,
    place: u8,
    level: u8,
}

/// Number of the first word of a node.
#[inline(always)]
fn start(node: u32) -> usize {
    (node & !NODE) as usize * LINE
}

/// What the node that `slot` leads to says of an octet.
#[inline(always)]
fn step(words: &[AtomicU64], slot: u32, octet: usize) -> u32 {
    let start = start(slot);
    let Some(line) = words.get(start..start + LINE) else {
        return MISS;
    };
    let begins = line[octet / 64].load(Ordering::Relaxed);
    let info = line[4].load(Ordering::Relaxed);
    let (word, shift) = place(start, begins, info, octet);
    let Some(word) = words.get(word) else {
        return MISS;
    };
    let slot = low(word.load(Ordering::Acquire) >> shift);
    if slot == INHERIT {
        u32::from(inherited(info))
    } else {
        slot
    }
}

#[inline(always)]
fn place(start: usize, begins: u64, info: u64, octet: usize) -> (usize, u32) {
    let rank = (begins << (63 - octet % 64)).count_ones() as usize;
    let before = (info >> (8 * (octet / 64)) & 0xff) as usize;
    let half = before + rank;
    (
        start + half / 2,
        if half.is_multiple_of(2) { 0 } else { 32 },
    )
}

#[inline(always)]
fn low(word: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
    let low = word as u32;
    low
}

#[inline(always)]
fn inherited(info: u64) -> NextHop {
    #[expect(clippy::cast_possible_truncation, reason = "sixteen bits are wanted")]
    let hop = (info >> 32) as NextHop;
    hop
}

/// The next hop in a slot that holds one.
#[inline(always)]
fn hop(slot: u32) -> NextHop {
    #[expect(clippy::cast_possible_truncation, reason = "sixteen bits are wanted")]
    let hop = slot as NextHop;
    hop
}

/// Size of a node with so many runs: its place in [`SIZES`].
fn size(runs: usize) -> usize {
    if runs <= INLINE {
        return 0;
    }
    let behind = runs.div_ceil(2 * LINE).next_power_of_two();
    1 + behind.ilog2() as usize
}

/// The words of a node with these answers, whole lines of one of [`SIZES`]; gives the place of that size.
pub(super) fn encode(answers: &[u32; 256], inherited: NextHop, out: &mut Vec<u64>) -> usize {
    let mut begins = [0_u64; 4];
    begins[0] = 1;
    for (nth, pair) in answers.windows(2).enumerate() {
        let is_first = pair[0] != pair[1];
        begins[(nth + 1) / 64] |= u64::from(is_first) << ((nth + 1) % 64);
    }
    let runs: u32 = begins.iter().map(|word| word.count_ones()).sum();
    let size = size(runs as usize);
    let first = if size == 0 {
        FIRST_INLINE
    } else {
        FIRST_BEHIND
    };
    let mut info = u64::from(inherited) << 32;
    // Place of the slot before the first one that begins in this word.
    let mut before = first - 1;
    for (nth, word) in begins.iter().enumerate() {
        info |= (before as u64) << (8 * nth);
        before += word.count_ones() as usize;
    }
    out.clear();
    out.extend(begins);
    out.push(info);
    out.resize(SIZES[size] * LINE, 0);
    let mut half = first;
    for (nth, mut word) in begins.into_iter().enumerate() {
        while word != 0 {
            let slot = answers[nth * 64 + word.trailing_zeros() as usize];
            out[half / 2] |= u64::from(slot) << (32 * (half % 2));
            half += 1;
            word &= word - 1;
        }
    }
    size
}

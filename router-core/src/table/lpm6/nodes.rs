//! The forwarding table: a root of cells, and nodes of eight bits behind it, in one array of cells.
//!
//! The root is a window of the address space, a cell for each prefix of some octets, then one cell for everything outside.
//! A node resolves one octet, and whichever of two forms it has, that takes one cache line. Octets with the same answer
//! make a *run*. Up to twelve runs, which nine of ten nodes of the Internet's table have, fit into a line; a node with
//! more of them has a cell for each octet:
//!
//! ```text
//!   narrow   cell 0..=2    first octet of each run, a byte each; the first is 0, unused ones are 255
//!                 3        for updates alone: the next hop that octets without one of their own inherit from above, and
//!                          a bit for each slot that holds it for that reason
//!                 4..=15   the runs' slots; unused ones repeat the last
//!   wide          0..=255  a slot for each octet
//! ```
//!
//! A slot or cell holds a next hop, or [`NODE`], the form and the number of a line. An answer depends on nothing but the way
//! down to it, each step of which is one load; narrow nodes are not changed but replaced, and a slot of the parent is the
//! one place that makes a new node visible. Only slots of a narrow node change in place: one that leads to a node, and those
//! that hold what is inherited, so that a short prefix can change without new nodes below it. A wide node changes in
//! place, as each of its cells is one octet's.
//!
//! Cost: one load of the root and one line for each octet further down, asked for a stage ahead; those that the root answers
//! go through one loop. Addresses that have more
//! octets in common than the root's, as those of one flow or of one peer have, go down the common part together: once for
//! all of them.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::arch::{self, Kernel, Operation};
use crate::sync::{AtomicU32, Ordering};
use crate::table::{NO_ROUTE, NextHop, work};

/// Set in a slot that leads to a node.
pub(super) const NODE: u32 = 1 << 31;
/// With [`NODE`]: a wide one.
const WIDE: u32 = 1 << 30;
/// While a node is made: the slot of octets that have the next hop that the whole node inherits.
pub(super) const INHERIT: u32 = 1 << 30;
/// Bits of a slot that are the number of the node's first line.
const NUMBER: u32 = (1 << 28) - 1;
/// A slot or cell without a route.
const MISS: u32 = NO_ROUTE as u32;
/// Cells of a line.
pub(super) const LINE: usize = 16;
/// Runs that fit into a narrow node, the cell with what is inherited, and the one before the first slot.
pub(super) const RUNS: usize = 12;
const INHERITED: usize = 3;
const BEFORE: usize = 3;
/// First bit of that cell which says of a slot that it holds what is inherited.
const INHERITING: u32 = 16;
/// Addresses looked up in one go.
const CHUNK: usize = 64;

/// The form of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Narrow,
    Wide,
}

impl Form {
    /// That of the node a slot leads to.
    pub(super) const fn of(node: u32) -> Self {
        if node & WIDE == 0 {
            Self::Narrow
        } else {
            Self::Wide
        }
    }

    /// Lines of such a node.
    pub(super) const fn lines(self) -> usize {
        match self {
            Self::Narrow => 1,
            Self::Wide => 256 / LINE,
        }
    }

    /// A slot that leads to a node with this first line.
    pub(super) fn link(self, line: usize) -> Option<u32> {
        let line = u32::try_from(line)
            .ok()
            .filter(|line| line & !NUMBER == 0)?;
        Some(match self {
            Self::Narrow => NODE | line,
            Self::Wide => NODE | WIDE | line,
        })
    }
}

/// The part of the address space that the root resolves directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::table) struct Window {
    /// A cell stands for the addresses that share so many octets (0..=8).
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

    /// Depth of the node that a cell may lead to.
    #[inline(always)]
    fn level_below(self, index: usize) -> usize {
        if index == self.cells as usize {
            0
        } else {
            self.level
        }
    }

    /// What of an address comes after the octets that led to a cell, as far as 64 bits reach.
    #[inline(always)]
    fn rest(self, index: usize, address: u128) -> u64 {
        upper(address << (8 * self.level_below(index)))
    }

    /// Lines that the root takes.
    pub(super) const fn lines(self) -> usize {
        (self.cells as usize + 1).div_ceil(LINE)
    }
}

#[inline(always)]
fn upper(address: u128) -> u64 {
    (address >> 64) as u64
}

#[inline(always)]
fn octet(address: u128, level: usize) -> usize {
    (upper(address << (8 * (level & 15))) >> 56) as usize
}

/// A handle to cells that readers and one writer share.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) window: Window,
    /// From `first` on, the root, then nodes.
    cells: Arc<[AtomicU32]>,
    /// The first cell that begins a cache line.
    first: usize,
}

impl Table {
    /// A table of these cells (the root, the outside cell last, filled up to whole lines; then nodes), with room for
    /// `spare` more lines.
    pub(super) fn new(window: Window, filled: &[u32], spare: usize) -> Self {
        Self::filled(window, filled.iter().copied(), filled.len() / LINE + spare)
    }

    fn filled(window: Window, filled: impl Iterator<Item = u32>, lines: usize) -> Self {
        // One line more than is used, as the memory may begin in the middle of one.
        let all = (lines + 1) * LINE;
        let mut cells: Arc<[AtomicU32]> = arch::shared(all, |_| AtomicU32::new(MISS));
        work::table(all);
        let first = if cfg!(loom) {
            // A model has to take the same way each time, wherever its memory is.
            0
        } else {
            let size = size_of::<AtomicU32>();
            let beyond = cells.as_ptr().addr() % (LINE * size) / size;
            (LINE - beyond) % LINE
        };
        if let Some(cells) = Arc::get_mut(&mut cells) {
            for (cell, value) in cells.iter_mut().skip(first).zip(filled) {
                *cell = AtomicU32::new(value);
            }
        }
        Self {
            window,
            cells,
            first,
        }
    }

    /// A copy of the first `used` lines with room for `spare` more.
    pub(super) fn grown(&self, used: usize, spare: usize) -> Self {
        let cells = self.aligned().iter().take(used * LINE);
        let values = cells.map(|cell| cell.load(Ordering::Relaxed));
        Self::filled(self.window, values, used + spare)
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.cells)
    }

    /// Lines there are, those of the root included: as many wherever the memory begins.
    pub(super) fn lines(&self) -> usize {
        self.cells.len() / LINE - 1
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

    /// From the first line on.
    #[inline(always)]
    fn aligned(&self) -> &[AtomicU32] {
        self.cells.get(self.first..).unwrap_or_default()
    }

    #[inline(always)]
    fn lookup_one(&self, address: u128) -> NextHop {
        let index = self.window.index(address);
        let slot = load(self.aligned(), index);
        self.descend(address, slot, self.window.level_below(index))
    }

    /// Follows a slot, which may lead to a node of depth `level`, to a next hop.
    #[inline(always)]
    fn descend(&self, address: u128, mut slot: u32, mut level: usize) -> NextHop {
        let (lines, _) = self.aligned().as_chunks();
        while slot & NODE != 0 {
            let octet = octet(address, level);
            slot = step(lines, part(slot, octet), octet);
            level += 1;
        }
        hop(slot)
    }

    /// Everybody takes a step before anybody takes the next one: while one waits for memory, the others go on.
    #[inline(always)]
    fn lookup_chunk(&self, addresses: &[u128], hops: &mut [NextHop], lanes: &mut Lanes) {
        let (cells, window) = (self.aligned(), self.window);
        let (lines, _) = cells.as_chunks();
        // Those that are on the way, a bit each.
        let mut going = 0;
        let together = self.go_together(addresses);
        match together {
            Some((slot, _)) if slot & NODE == 0 => return hops.fill(hop(slot)),
            Some((slot, level)) => {
                for (nth, &address) in addresses.iter().take(CHUNK).enumerate() {
                    let rest = upper(address << (8 * (level & 15)));
                    lanes.rest[nth] = rest;
                    going |= lanes.go_on(nth, lines, slot, rest);
                }
            }
            None => {
                for (nth, &address) in addresses.iter().take(CHUNK).enumerate() {
                    let slot = load(cells, window.index(address));
                    lanes.slot[nth] = slot;
                    going |= u64::from(slot >> 31) << nth;
                }
                // A node of a cluster has its answer from the root, and most addresses of the Internet's table.
                let mut left = going;
                while left != 0 {
                    let nth = left.trailing_zeros() as usize % CHUNK;
                    left &= left - 1;
                    let Some(&address) = addresses.get(nth) else {
                        break;
                    };
                    let rest = window.rest(window.index(address), address);
                    lanes.rest[nth] = rest;
                    lanes.go_on(nth, lines, lanes.slot[nth], rest);
                }
            }
        }
        for _ in 0..8 {
            if going == 0 {
                break;
            }
            let mut left = core::mem::take(&mut going);
            while left != 0 {
                let nth = left.trailing_zeros() as usize % CHUNK;
                left &= left - 1;
                let rest = lanes.rest[nth];
                let slot = step(lines, lanes.slot[nth], first_octet(rest));
                // Zeros after eight octets.
                let rest = rest << 8;
                lanes.rest[nth] = rest;
                going |= lanes.go_on(nth, lines, slot, rest);
            }
        }
        // Eight octets behind the root, and there are more: hardly anybody comes here.
        while going != 0 {
            let nth = going.trailing_zeros() as usize % CHUNK;
            going &= going - 1;
            if let Some(&address) = addresses.get(nth) {
                let top = together.map_or_else(
                    || window.level_below(window.index(address)),
                    |(_, level)| level,
                );
                lanes.slot[nth] = self.descend(address, lanes.slot[nth], top + 8).into();
            }
        }
        for (out, &slot) in hops.iter_mut().zip(&lanes.slot) {
            *out = hop(slot);
        }
    }

    /// Takes the steps that are the same for all of these addresses, if there is one behind the root: the slot to which they
    /// come, and the depth of a node to which it leads.
    #[inline(always)]
    fn go_together(&self, addresses: &[u128]) -> Option<(u32, usize)> {
        let (&first, &last) = (addresses.first()?, addresses.last()?);
        let window = self.window;
        let index = window.index(first);
        let mut level = window.level_below(index);
        // Addresses at random stop here.
        if (first ^ last) >> (120 - 8 * level) != 0 {
            return None;
        }
        let differing = addresses.iter().fold(0, |bits, &a| bits | (a ^ first));
        let common = differing.leading_zeros() as usize / 8;
        if common <= level {
            return None;
        }
        // Those in the window share its octets; outside of it there may be neighbours of some that are in it.
        if common < window.level && !addresses.iter().all(|&a| window.index(a) == index) {
            return None;
        }
        let (lines, _) = self.aligned().as_chunks();
        let mut slot = load(self.aligned(), index);
        while slot & NODE != 0 && level < common {
            let octet = octet(first, level);
            slot = step(lines, part(slot, octet), octet);
            level += 1;
        }
        Some((slot, level))
    }

    pub(super) fn cell(&self, index: usize) -> u32 {
        load(self.aligned(), index)
    }

    pub(super) fn set_cell(&self, index: usize, value: u32) {
        self.at(index).store(value, Ordering::Release);
    }

    /// What a node says of an octet.
    pub(super) fn slot(&self, node: u32, octet: usize) -> u32 {
        self.at(self.place(node, octet)).load(Ordering::Relaxed)
    }

    /// Changes a slot of a wide node, or one of a narrow node that leads to a node and does so afterwards.
    pub(super) fn set_slot(&self, node: u32, octet: usize, value: u32) {
        self.at(self.place(node, octet))
            .store(value, Ordering::Release);
    }

    /// What a narrow node inherits.
    pub(super) fn inherited(&self, node: u32) -> NextHop {
        hop(self
            .at(line(node) * LINE + INHERITED)
            .load(Ordering::Relaxed))
    }

    /// Changes that, and the slots that hold it.
    pub(super) fn set_inherited(&self, node: u32, hop: NextHop) {
        let cell = self.at(line(node) * LINE + INHERITED);
        let inheriting = cell.load(Ordering::Relaxed) >> INHERITING;
        cell.store(inheriting << INHERITING | u32::from(hop), Ordering::Relaxed);
        for nth in (0..RUNS).filter(|nth| inheriting >> nth & 1 != 0) {
            self.at(line(node) * LINE + INHERITED + 1 + nth)
                .store(hop.into(), Ordering::Release);
        }
    }

    /// Fills lines that no reader can be in.
    pub(super) fn write(&self, node: u32, cells: &[u32]) {
        for (nth, &cell) in cells.iter().enumerate() {
            self.at(line(node) * LINE + nth)
                .store(cell, Ordering::Relaxed);
        }
    }

    fn at(&self, index: usize) -> &AtomicU32 {
        &self.cells[self.first + index]
    }

    /// Number of the cell that holds the slot of an octet.
    fn place(&self, node: u32, octet: usize) -> usize {
        let start = line(part(node, octet)) * LINE;
        let keys = [0, 1, 2].map(|nth| self.at(start + nth).load(Ordering::Relaxed));
        start + within(node, octet, keys) % LINE
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
        let mut lanes = Lanes::default();
        let hops = self.hops.chunks_mut(CHUNK);
        for (addresses, hops) in self.addresses.chunks(CHUNK).zip(hops) {
            let n = addresses.len().min(hops.len());
            if let (Some(addresses), Some(hops)) = (addresses.get(..n), hops.get_mut(..n)) {
                self.table.lookup_chunk(addresses, hops, &mut lanes);
            }
        }
    }
}

/// Look-ups side by side, each in its place of the batch.
struct Lanes {
    /// What of the address comes after the root's part, as far as 64 bits reach.
    rest: [u64; CHUNK],
    /// What was found last: a next hop, or [`part`] of a node.
    slot: [u32; CHUNK],
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            rest: [0; CHUNK],
            slot: [0; CHUNK],
        }
    }
}

impl Lanes {
    /// Takes down what look-up `nth` found. If that leads to a node, asks for its line that says something of the first octet
    /// of `rest`; gives the bit of this look-up then.
    #[inline(always)]
    fn go_on(&mut self, nth: usize, lines: &[[AtomicU32; LINE]], slot: u32, rest: u64) -> u64 {
        let slot = part(slot, first_octet(rest));
        self.slot[nth % CHUNK] = slot;
        let goes_on = slot >> 31;
        // For one that has arrived that is the table's first line: no branch to guess.
        if let Some(line) = lines.get(line(slot & goes_on.wrapping_neg())) {
            arch::prefetch(line);
        }
        u64::from(goes_on) << (nth % CHUNK)
    }
}

/// Number of a node's first line.
#[inline(always)]
pub(super) const fn line(node: u32) -> usize {
    (node & NUMBER) as usize
}

#[inline(always)]
fn first_octet(rest: u64) -> usize {
    usize::from(rest.to_be_bytes()[0])
}

/// All ones for a slot that leads to a wide node, zeros for other slots.
#[inline(always)]
fn wide(slot: u32) -> u32 {
    ((slot << 1).cast_signed() >> 31).cast_unsigned()
}

/// The slot that leads to that line of a node which says something of an octet; of a next hop itself.
#[inline(always)]
fn part(slot: u32, octet: usize) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "at most 15")]
    let nth = (octet / LINE) as u32;
    slot + (nth & wide(slot))
}

#[inline(always)]
fn load(cells: &[AtomicU32], index: usize) -> u32 {
    cells
        .get(index)
        .map_or(MISS, |cell| cell.load(Ordering::Acquire))
}

/// What a node says of an octet, given its [`part`].
#[inline(always)]
fn step(lines: &[[AtomicU32; LINE]], part: u32, octet: usize) -> u32 {
    let Some(line) = lines.get(line(part)) else {
        return MISS;
    };
    let keys = [0, 1, 2].map(|nth: usize| line[nth].load(Ordering::Relaxed));
    line[within(part, octet, keys) % LINE].load(Ordering::Acquire)
}

/// Which cell of its line holds the slot of an octet.
#[inline(always)]
fn within(node: u32, octet: usize, [a, b, c]: [u32; 3]) -> usize {
    // The keys are sorted: those that are not greater come first.
    let keys = (1 << RUNS) - 1;
    let begun = (arch::not_greater([a, b, c, 0], octet.to_le_bytes()[0]) & keys).count_ones();
    let narrow = BEFORE + begun as usize;
    // As good as random: no branch.
    let wide = wide(node) as usize;
    narrow ^ (narrow ^ octet) & wide
}

/// The next hop in a slot that holds one.
#[inline(always)]
fn hop(slot: u32) -> NextHop {
    #[expect(clippy::cast_possible_truncation, reason = "sixteen bits are wanted")]
    let hop = slot as NextHop;
    hop
}

/// The cells of a node, whole lines, from the runs of its octets, first octet and answer; gives its form.
pub(super) fn encode(
    runs: impl Iterator<Item = (u8, u32)> + Clone,
    inherited: NextHop,
    out: &mut Vec<u32>,
) -> Form {
    out.clear();
    let own = |slot| {
        if slot == INHERIT {
            inherited.into()
        } else {
            slot
        }
    };
    let (mut keys, mut slots) = ([u8::MAX; RUNS], [0; RUNS]);
    let (mut count, mut inheriting, mut last) = (0, 0_u32, INHERIT);
    for (begin, slot) in runs.clone() {
        if count > 0 && slot == last {
            continue;
        }
        let (Some(key), Some(place)) = (keys.get_mut(count), slots.get_mut(count)) else {
            last = INHERIT;
            for (begin, slot) in runs {
                out.resize(begin.into(), own(last));
                last = slot;
            }
            out.resize(256, own(last));
            return Form::Wide;
        };
        (*key, *place, last) = (begin, own(slot), slot);
        inheriting |= u32::from(slot == INHERIT) << count;
        count += 1;
    }
    slots[count..].fill(own(last));
    if last == INHERIT {
        inheriting |= ((1 << RUNS) - 1) & (u32::MAX << count);
    }
    for key in keys.as_chunks().0 {
        out.push(u32::from_le_bytes(*key));
    }
    out.push(inheriting << INHERITING | u32::from(inherited));
    out.extend(slots);
    Form::Narrow
}

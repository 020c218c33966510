//! Down the table, one address alone or many side by side.
//!
//! Cost: one load of the root and one line for each octet further down, asked for a stage ahead; those that the root answers
//! go through one loop. Addresses that have more octets in common than the root's, as those of one flow or of one peer have,
//! go down the common part together: once for all of them.

use super::nodes::{LINE, MISS, NODE, Table, hop, line, load, part, within};
use super::window::{octet, upper};
use crate::arch::{self, Kernel, Operation};
use crate::sync::{AtomicU32, Ordering};
use crate::table::NextHop;

/// Addresses looked up in one go.
const CHUNK: usize = 64;

impl Table {
    /// Next hop of an address, [`NO_ROUTE`](crate::table::NO_ROUTE) if there is none.
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

#[inline(always)]
fn first_octet(rest: u64) -> usize {
    usize::from(rest.to_be_bytes()[0])
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

//! Which window suits a set of prefixes.
//!
//! Decides how fast look-ups are and how much memory they take, never their answers. A node of a cluster routes to
//! prefixes that lie close together: the root is a window over them, as fine as a few kilobytes allow. A table of the
//! whole Internet has no such place: its root is the whole space.
//!
//! Cost: a few walks over the prefixes.

use alloc::vec::Vec;

use super::cells::{BORDERS, MAX_GROUPS, STEP, Window};
use super::{Prefix, Rib};

/// From so many prefixes on the root is the whole space by /24 (33.5 MB).
const DIR_24_FROM: usize = 65_536;
/// From so many prefixes on, of which a window would catch less than half, the root is the whole space by /16 (128 kB).
const DIR_16_FROM: usize = 2_048;
/// Steps of a window that are tried, as binary logarithms.
const SHIFTS: [u32; 9] = [0, 2, 4, 5, 6, 7, 8, 12, 16];
/// Sizes of a window that are tried, in cells.
const SIZES: [u32; 4] = [1 << 9, 1 << 11, 1 << 13, 1 << 15];
/// A window may have so many cells for each prefix that it resolves, and `FLOOR` in any case.
const CELLS_PER_PREFIX: usize = 8;
const FLOOR: usize = 1_024;
/// Prefixes shorter than this say nothing about where traffic goes.
const SHORTEST: u8 = 9;

/// A window and the room for groups that a table of these prefixes needs, some spare included.
pub(super) fn choose(rib: &Rib) -> (Window, usize) {
    let window = if rib.len() >= DIR_24_FROM {
        Window::DIR_24
    } else {
        small(rib)
    };
    let room = room(rib, window);
    if room < MAX_GROUPS {
        (window, room)
    } else {
        (Window::DIR_24, self::room(rib, Window::DIR_24))
    }
}

/// Room for the groups that these prefixes take below the root, and some spare.
pub(super) fn room(rib: &Rib, window: Window) -> usize {
    let needed = groups(rib, window) + BORDERS;
    // Building the large form anew takes tens of milliseconds: 4 MB of spare keep that rare.
    let spare = if window == Window::DIR_24 {
        8_192
    } else {
        4 + needed / 4
    };
    needed.saturating_add(spare).min(MAX_GROUPS)
}

/// Whether another window might suit by now better than one that was chosen for `then` prefixes.
pub(super) fn is_stale(then: usize, now: usize, changes: usize) -> bool {
    // Choosing costs a walk over what is there now.
    changes > 64 + then.min(now)
}

fn small(rib: &Rib) -> Window {
    let prefixes: Vec<Prefix> = rib
        .iter()
        .map(|(prefix, _)| prefix)
        .filter(|prefix| prefix.len >= SHORTEST)
        .collect();
    let mut cells = Vec::with_capacity(prefixes.len());
    let mut best = (0, Window::NONE);
    for shift in SHIFTS {
        cells.clear();
        cells.extend(
            prefixes
                .iter()
                .filter(|p| u32::from(p.len) + shift <= 32)
                .map(|p| Cells {
                    first: p.address >> shift,
                    last: p.last() >> shift,
                }),
        );
        for size in SIZES {
            let (caught, first, end) = densest(&cells, size);
            let is_dense = (end - first) as usize <= caught * CELLS_PER_PREFIX + FLOOR;
            if is_dense && (caught, best.1.cells) > (best.0, end - first) {
                best = (
                    caught,
                    Window {
                        shift,
                        low: first,
                        cells: end - first,
                    },
                );
            }
            if caught == cells.len() {
                // A larger one catches no more.
                break;
            }
        }
    }
    let (caught, window) = best;
    if rib.len() >= DIR_16_FROM && caught * 2 < rib.len() {
        Window::DIR_16
    } else {
        window
    }
}

/// The cells that a prefix fills.
#[derive(Clone, Copy)]
struct Cells {
    first: u32,
    last: u32,
}

/// Number of prefixes that the best window of at most `size` cells resolves, its first cell, and the one behind its last.
fn densest(prefixes: &[Cells], size: u32) -> (usize, u32, u32) {
    let fits = |cells: &&Cells| cells.last - cells.first < size;
    let mut best = (0, 0, 0);
    let mut tail = prefixes.iter().filter(fits).peekable();
    let mut caught = 0;
    for &Cells { last, .. } in prefixes.iter().filter(fits) {
        // A window that ends with this prefix: what begins before its first cell falls out at the other side.
        caught += 1;
        let low = last.saturating_sub(size - 1);
        while tail.next_if(|cells| cells.first < low).is_some() {
            caught -= 1;
        }
        if let Some(&&Cells { first, .. }) = tail.peek()
            && caught > best.0
        {
            best = (caught, first, last.saturating_add(1));
        }
    }
    best
}

/// Groups that a table of these prefixes takes, those along the window's borders excepted.
fn groups(rib: &Rib, window: Window) -> usize {
    let mut needed = 0;
    let mut last = [None; 33];
    for (prefix, _) in rib.iter() {
        let address = u64::from(prefix.address);
        let is_inside = window.first() <= address && address < window.end();
        let mut bits = if is_inside { window.shift } else { 32 };
        // A cell of 2^bits addresses that a longer prefix touches refers to a group.
        while bits > 0 && u32::from(prefix.len) + bits > 32 {
            let cell = Some(address >> bits);
            if core::mem::replace(&mut last[bits as usize], cell) != cell {
                needed += 1;
            }
            bits -= bits.min(STEP);
        }
    }
    needed
}

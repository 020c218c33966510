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
        let prefixes: Vec<Prefix> = rib.iter().map(|(prefix, _)| prefix).collect();
        small(&prefixes, 1).0
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
    with_spare(groups(rib, window), window)
}

/// Room for so many groups, and some spare.
pub(super) fn with_spare(groups: usize, window: Window) -> usize {
    let needed = groups + BORDERS;
    // Copying the large form takes milliseconds: 4 MB of spare keep that rare.
    let spare = if window == Window::DIR_24 {
        8_192
    } else {
        4 + needed / 4
    };
    needed.saturating_add(spare).min(MAX_GROUPS)
}

/// A window that is better than the present one, or one that is not too large. The prefixes come by address; where each
/// stands for others it is better by an eighth, and reaches as far beyond them at both ends as others are likely to.
pub(super) fn better(prefixes: &[Prefix], each: usize, present: Window) -> Option<Window> {
    let count = prefixes.len() * each;
    if count >= DIR_24_FROM {
        return (present != Window::DIR_24).then_some(Window::DIR_24);
    }
    let (window, caught) = small(prefixes, each);
    let now = prefixes.iter().filter(|prefix| resolves(present, prefix));
    let now = now.count() * each;
    let little = if each == 1 { 0 } else { now / 8 };
    let is_large = present.cells as usize > 2 * (count * CELLS_PER_PREFIX + FLOOR);
    if window == present || !is_large && caught <= now + little {
        return None;
    }
    if each == 1 || window.cells == 0 || window == Window::DIR_16 {
        return Some(window);
    }
    let apart = window.cells as usize / (caught / each).max(1);
    let beyond = u32::try_from(2 * apart).unwrap_or(0);
    let end = (1_u64 << (32 - window.shift)) - u64::from(window.low);
    let low = window.low.saturating_sub(beyond);
    let cells = u64::from(window.cells) + u64::from(beyond);
    Some(Window {
        low,
        cells: u32::try_from(cells.min(end)).unwrap_or(window.cells) + (window.low - low),
        ..window
    })
}

/// Whether a window's cells say all about a prefix.
fn resolves(window: Window, prefix: &Prefix) -> bool {
    let (first, last) = (prefix.address.into(), u64::from(prefix.last()));
    prefix.len >= SHORTEST
        && u32::from(prefix.len) + window.shift <= 32
        && window.first() <= first
        && last < window.end()
}

/// The best window for fewer prefixes than the whole Internet's, each of which stands for `each`, and how many it resolves.
fn small(prefixes: &[Prefix], each: usize) -> (Window, usize) {
    let mut cells = Vec::with_capacity(prefixes.len());
    let mut best = (0, Window::NONE);
    for shift in SHIFTS {
        cells.clear();
        cells.extend(
            prefixes
                .iter()
                .filter(|p| p.len >= SHORTEST && u32::from(p.len) + shift <= 32)
                .map(|p| Cells {
                    first: p.address >> shift,
                    last: p.last() >> shift,
                }),
        );
        for size in SIZES {
            let (some, first, end) = densest(&cells, size);
            let caught = some * each;
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
            if some == cells.len() {
                // A larger one catches no more.
                break;
            }
        }
    }
    let (caught, window) = best;
    let count = prefixes.len() * each;
    if count >= DIR_16_FROM && caught * 2 < count {
        // It is better than one that catches less.
        (Window::DIR_16, count / 2)
    } else {
        (window, caught)
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

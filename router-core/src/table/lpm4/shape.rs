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
/// A window may have so many cells for each prefix in it, and `FLOOR` (8 kB) in any case.
const CELLS_PER_PREFIX: usize = 8;
const FLOOR: usize = 4_096;
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
    let (window, gained) = small(prefixes, each);
    let now = gain(present, prefixes);
    let little = if each == 1 { 0 } else { now / 8 };
    let is_large = present.cells as usize > 2 * (count * CELLS_PER_PREFIX + FLOOR);
    if window == present || !is_large && gained <= now + little {
        return None;
    }
    if each == 1 || window.cells == 0 || window == Window::DIR_16 {
        return Some(window);
    }
    let caught = prefixes.iter().filter(|prefix| contains(window, prefix));
    let apart = window.cells as usize / caught.count().max(1);
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

/// The best window for fewer prefixes than the whole Internet's, each of which stands for `each`, and what these gain by it.
fn small(prefixes: &[Prefix], each: usize) -> (Window, usize) {
    let mut cells = Vec::with_capacity(prefixes.len());
    let mut best = (0, Window::NONE);
    let mut caught_best = 0;
    for shift in SHIFTS {
        cells.clear();
        cells.extend(prefixes.iter().map(|p| Cells {
            first: p.address >> shift,
            last: p.last() >> shift,
            gain: gain_of(p, shift),
        }));
        cells.retain(|cells| cells.gain > 0);
        for size in SIZES {
            let Caught {
                gain,
                count,
                first,
                end,
            } = densest(&cells, size);
            let caught = count * each;
            let is_dense = (end - first) as usize <= caught * CELLS_PER_PREFIX + FLOOR;
            if is_dense && (gain, best.1.cells) > (best.0, end - first) {
                let window = Window {
                    shift,
                    low: first,
                    cells: end - first,
                };
                best = (gain, window);
                caught_best = caught;
            }
            if count == cells.len() {
                // A larger one catches no more.
                break;
            }
        }
    }
    let (gained, window) = best;
    let count = prefixes.len() * each;
    if count >= DIR_16_FROM && caught_best * 2 < count {
        (Window::DIR_16, gain(Window::DIR_16, prefixes).max(gained))
    } else {
        (window, gained)
    }
}

/// What a prefix gains by lying in a window of cells of 2^shift addresses, in loads and in steps beside them: nearly all
/// where a cell answers, a little less where a group behind it does. One that covers more counts for more.
fn gain_of(prefix: &Prefix, shift: u32) -> usize {
    let bits = u32::from(prefix.len) + shift;
    let each = if bits <= 32 {
        7
    } else if bits <= 32 + STEP {
        5
    } else {
        0
    };
    if prefix.len < SHORTEST {
        0
    } else {
        each * usize::from(33 - prefix.len)
    }
}

/// What these prefixes gain by a window.
fn gain(window: Window, prefixes: &[Prefix]) -> usize {
    let caught = prefixes.iter().filter(|prefix| contains(window, prefix));
    caught.map(|prefix| gain_of(prefix, window.shift)).sum()
}

fn contains(window: Window, prefix: &Prefix) -> bool {
    window.first() <= prefix.address.into() && u64::from(prefix.last()) < window.end()
}

/// The cells that a prefix fills, or lies in, and what it gains by that.
#[derive(Clone, Copy)]
struct Cells {
    first: u32,
    last: u32,
    gain: usize,
}

/// What a window catches, its first cell, and the one behind its last.
#[derive(Clone, Copy, Default)]
struct Caught {
    gain: usize,
    count: usize,
    first: u32,
    end: u32,
}

/// The window of at most `size` cells by which most is gained.
fn densest(prefixes: &[Cells], size: u32) -> Caught {
    let fits = |cells: &&Cells| cells.last - cells.first < size;
    let mut best = Caught::default();
    let mut tail = prefixes.iter().filter(fits).peekable();
    let mut caught = Caught::default();
    for &Cells { last, gain, .. } in prefixes.iter().filter(fits) {
        // A window that ends with this prefix, or with one that holds it: what begins before its first cell falls out at
        // the other side.
        caught.count += 1;
        caught.gain += gain;
        caught.end = caught.end.max(last.saturating_add(1));
        let low = caught.end.saturating_sub(size);
        while let Some(gone) = tail.next_if(|cells| cells.first < low) {
            caught.count -= 1;
            caught.gain -= gone.gain;
        }
        if let Some(&&Cells { first, .. }) = tail.peek()
            && caught.gain > best.gain
        {
            best = Caught { first, ..caught };
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

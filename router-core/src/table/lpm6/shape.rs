//! Which window suits a set of prefixes.
//!
//! Decides how fast look-ups are and how much memory they take, never their answers.
//!
//! Cost: eight walks over the prefixes, or over some that stand for all.

use alloc::vec::Vec;

use super::Prefix;
use super::window::Window;

/// A window has at most so many cells (4 MB), and fewer for few prefixes.
const MAX_CELLS: u64 = 1 << 20;
const CELLS_PER_PREFIX: u64 = 8;
const MIN_CELLS: u64 = 256;
/// Prefixes shorter than this say nothing about where traffic goes.
const SHORTEST: u8 = 9;

/// The window that saves most steps, and how many: the deeper and the more prefixes it catches the better. Each of the
/// prefixes, which come by address, stands for `each`.
pub(super) fn choose(prefixes: &[Prefix], each: usize) -> (Window, usize) {
    let limit = limit(prefixes.len() * each);
    let mut best = (Window::NONE, 0);
    let mut cells: Vec<(u64, u64)> = Vec::with_capacity(prefixes.len());
    for level in 1..=8 {
        let cell = |address: u128| u64::try_from(address >> (128 - 8 * level)).unwrap_or(0);
        cells.clear();
        cells.extend(
            prefixes
                .iter()
                .filter(|prefix| prefix.len >= SHORTEST)
                .map(|prefix| (cell(prefix.address), cell(prefix.last())))
                .filter(|(first, last)| last - first < limit),
        );
        // A window that ends with this prefix, or with one that holds it: what begins before its first cell falls out at
        // the other side.
        let (mut tail, mut last) = (0, 0);
        for (nth, cell) in cells.iter().enumerate() {
            last = last.max(cell.1);
            while last - cells[tail].0 >= limit {
                tail += 1;
            }
            let low = cells[tail].0;
            let saved = (nth + 1 - tail) * level;
            let cells = u32::try_from(last - low + 1).unwrap_or(0);
            if saved > best.1 && cells > 0 {
                best = (Window { level, low, cells }, saved);
            }
        }
    }
    best
}

/// A window that is better than the present one, or one that is not too large. Where some prefixes stand for others it is
/// better by an eighth, and reaches as far beyond them at both ends as others are likely to.
pub(super) fn better(prefixes: &[Prefix], each: usize, present: Window) -> Option<Window> {
    let (window, saved) = choose(prefixes, each);
    let limit = limit(prefixes.len() * each);
    let now = saves(present, prefixes);
    let is_large = u64::from(present.cells) > 2 * limit;
    let little = if each == 1 { 0 } else { now / 8 };
    if window == present || !is_large && saved <= now + little {
        return None;
    }
    if each == 1 || window == Window::NONE {
        return Some(window);
    }
    let caught = u64::try_from(saved / window.level).unwrap_or(1);
    let beyond = 2 * u64::from(window.cells) / caught.max(1);
    let beyond = beyond.min(limit.saturating_sub(window.cells.into()) / 2);
    let last = u64::MAX >> (64 - 8 * window.level);
    let low = window.low.saturating_sub(beyond);
    let high = window.low + u64::from(window.cells - 1);
    let high = high.saturating_add(beyond).min(last);
    Some(Window {
        low,
        cells: u32::try_from(high - low + 1).unwrap_or(window.cells),
        ..window
    })
}

fn limit(prefixes: usize) -> u64 {
    (prefixes as u64 * CELLS_PER_PREFIX).clamp(MIN_CELLS, MAX_CELLS)
}

/// Steps that a window saves.
fn saves(window: Window, prefixes: &[Prefix]) -> usize {
    let is_caught = |prefix: &&Prefix| {
        prefix.len >= SHORTEST && window.contains(prefix.address) && window.contains(prefix.last())
    };
    prefixes.iter().filter(is_caught).count() * window.level
}

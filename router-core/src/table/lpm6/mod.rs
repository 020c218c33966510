//! Longest-prefix match for IPv6, made for the packet path.
//!
//! [`Lpm6`] is to IPv6 what [`Lpm4`](super::lpm4::Lpm4) is to IPv4: every prefix stands in a trie for updates and in a table for
//! look-ups, which other threads may read while one updates. Eight bits of IPv6 are sparse where eight bits of IPv4 are
//! full, so that nodes behind the root are bitmaps with ranks instead of 256 cells: 7 MB for the Internet's 160,000
//! prefixes.
//!
//! Metrics, ties and what a next hop does are the FIB's.
//!
//! Cost: a look-up loads one cell of the root and one or two cache lines for each octet between the root and the answer: for
//! the Internet three for a /48. An update encodes the nodes anew that it changes, mostly one (some hundred nanoseconds);
//! a prefix shorter than the root writes the cells it covers, and one that nodes below inherit writes a word in each. Now
//! and then the table is built anew: some milliseconds for the Internet.

mod build;
mod nodes;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::Ipv6Addr;

use ipnet::Ipv6Net;

use self::nodes::{NODE, SIZES, Table, Window};
use super::limbo::Limbo;
use super::rib::{Address as _, LEVELS};
use super::shared::Shared;
use super::{Full, NO_ROUTE, NextHop, checked};
use crate::arch::Kernel;

type Prefix = super::rib::Prefix<u128>;
type Rib = super::rib::Rib<u128>;

/// Lines of spare, besides a quarter of what is needed; more where readers hold some up.
const SPARE: usize = 32;
const SPARE_SHARED: usize = 1_024;

/// A map from IPv6 prefixes to next hops with longest-prefix look-up. See the module for its structure and cost.
///
/// ```
/// use router_core::table::NO_ROUTE;
/// use router_core::table::lpm6::Lpm6;
///
/// let mut lpm = Lpm6::new();
/// lpm.insert("fd00:10:244::/48".parse()?, 1)?;
/// lpm.insert("fd00:10:244:1::/64".parse()?, 2)?;
/// assert_eq!(lpm.lookup("fd00:10:244:1::9".parse()?), 2);
/// assert_eq!(lpm.lookup("fd00:10:244:2::9".parse()?), 1);
/// assert_eq!(lpm.lookup("2001:db8::1".parse()?), NO_ROUTE);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Lpm6 {
    rib: Rib,
    table: Table,
    lines: Lines,
    kernel: Kernel,
    /// Set as soon as other threads read.
    shared: Option<Arc<Shared<Table>>>,
    /// Prefixes when the window was chosen, and updates since.
    chosen_for: usize,
    changes: usize,
    /// A window that a test holds on to.
    pinned: Option<Window>,
    /// Room to encode a node in.
    words: Vec<u64>,
}

/// Which lines are in use.
#[derive(Debug, Default)]
struct Lines {
    /// First lines of unused nodes, by size.
    free: [Vec<u32>; SIZES.len()],
    /// Lines from here on were never used.
    fresh: usize,
    /// First line and size of nodes that readers may still be in.
    limbo: Limbo<(u32, usize), Table>,
}

impl Lines {
    /// The first of so many lines as `size` says.
    fn take(&mut self, size: usize, table: &Table) -> Result<u32, Full> {
        let Self { free, fresh, limbo } = self;
        if let Some(node) = free[size].pop() {
            return Ok(node);
        }
        let node = u32::try_from(*fresh).ok().filter(|node| node & NODE == 0);
        let end = *fresh + SIZES[size];
        if let Some(node) = node
            && end <= table.lines()
        {
            *fresh = end;
            return Ok(node);
        }
        for _ in 0..2 {
            limbo.turn(|(node, size)| free[size].push(node));
        }
        free[size].pop().ok_or(Full)
    }

    /// Takes back a node that nothing leads to any more.
    fn give(&mut self, node: u32, size: usize) {
        let Self { free, limbo, .. } = self;
        limbo.add((node & !NODE, size), |(node, size)| free[size].push(node));
    }
}

impl Default for Lpm6 {
    fn default() -> Self {
        Self::new()
    }
}

impl Lpm6 {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        let rib = Rib::default();
        let (table, fresh) = build::build(&rib, Window::NONE, SPARE);
        Self {
            rib,
            table,
            lines: Lines {
                fresh,
                ..Lines::default()
            },
            kernel: Kernel::best(),
            shared: None,
            chosen_for: 0,
            changes: 0,
            pinned: None,
            words: Vec::new(),
        }
    }

    /// A table of these prefixes; of equal prefixes the last counts.
    ///
    /// # Errors
    /// [`Full`] for a next hop that is too large.
    pub fn from_routes(routes: impl IntoIterator<Item = (Ipv6Net, NextHop)>) -> Result<Self, Full> {
        let mut lpm = Self::new();
        for (net, hop) in routes {
            lpm.rib.insert(prefix(net), checked(hop)?);
        }
        lpm.rebuild();
        Ok(lpm)
    }

    /// Number of prefixes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rib.len()
    }

    /// Whether there is no prefix.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Next hop of exactly this prefix.
    #[must_use]
    pub fn get(&self, net: Ipv6Net) -> Option<NextHop> {
        self.rib.get(prefix(net))
    }

    /// Every prefix with its next hop, by address, shorter ones first.
    pub fn iter(&self) -> impl Iterator<Item = (Ipv6Net, NextHop)> {
        self.rib.iter().filter_map(|(prefix, hop)| {
            Some((
                Ipv6Net::new(Ipv6Addr::from_bits(prefix.address), prefix.len).ok()?,
                hop,
            ))
        })
    }

    /// Adds a prefix or changes its next hop; gives the former next hop.
    ///
    /// # Errors
    /// [`Full`] if the next hop is too large: nothing is changed then.
    pub fn insert(&mut self, net: Ipv6Net, hop: NextHop) -> Result<Option<NextHop>, Full> {
        let prefix = prefix(net);
        let old = self.rib.insert(prefix, checked(hop)?);
        if old != Some(hop) {
            self.changed(prefix);
        }
        Ok(old)
    }

    /// Removes a prefix; gives its next hop, or `None` if it was not there.
    pub fn remove(&mut self, net: Ipv6Net) -> Option<NextHop> {
        let prefix = prefix(net);
        let old = self.rib.remove(prefix)?;
        self.changed(prefix);
        Some(old)
    }

    /// Next hop of the longest prefix that covers an address, [`NO_ROUTE`] if none does.
    #[inline]
    #[must_use]
    pub fn lookup(&self, address: Ipv6Addr) -> NextHop {
        self.table.lookup(self.kernel, address.to_bits())
    }

    /// [`lookup`](Self::lookup) of each address (as [`Ipv6Addr::to_bits`] gives it); stops at the end of the shorter
    /// slice.
    #[inline]
    pub fn lookup_batch(&self, addresses: &[u128], hops: &mut [NextHop]) {
        self.table.lookup_batch(self.kernel, addresses, hops);
    }

    /// [`lookup_batch`](Self::lookup_batch) with a kernel other than the best, to compare.
    #[cfg(any(test, feature = "testing"))]
    pub fn lookup_batch_by(&self, kernel: Kernel, addresses: &[u128], hops: &mut [NextHop]) {
        self.table.lookup_batch(kernel, addresses, hops);
    }

    /// A reader for another thread, as [`Lpm4::reader`](super::lpm4::Lpm4::reader).
    #[cfg(any(test, feature = "testing", feature = "std"))]
    pub fn reader(&mut self) -> Lpm6Reader {
        let shared = self.shared.get_or_insert_with(|| {
            let shared = Shared::new(self.table.clone());
            self.lines.limbo = Limbo::new(Some(Arc::clone(&shared)));
            shared
        });
        Lpm6Reader {
            reader: shared.reader(),
            kernel: self.kernel,
        }
    }

    /// Memory of what look-ups read, and of what only updates read, bytes.
    ///
    /// # Complexity
    /// A walk over all nodes that updates read.
    #[must_use]
    pub fn memory(&self) -> (usize, usize) {
        (self.table.bytes(), self.rib.bytes())
    }

    /// Brings the table to what the trie says since a prefix was added, changed or removed there.
    fn changed(&mut self, prefix: Prefix) {
        self.changes += 1;
        let is_stale = self.changes > 64 + self.chosen_for.min(self.len());
        if is_stale && self.pinned.is_none() {
            self.changes = 0;
            self.chosen_for = self.len();
            if build::choose(&self.rib) != self.table.window {
                return self.rebuild();
            }
        }
        if self.update(prefix).is_err() {
            self.rebuild();
        }
    }

    fn update(&mut self, prefix: Prefix) -> Result<(), Full> {
        let window = self.table.window;
        let (address, deepest) = (prefix.address, prefix.level());
        let outside = window.cells as usize;
        if deepest < window.level {
            self.paint(prefix);
            return self.renew(address, deepest, outside, 0);
        }
        let cell = window.index(address);
        if cell == outside {
            return self.renew(address, deepest, outside, 0);
        }
        self.renew(address, deepest, cell, window.level)?;
        // Outside of the window, too, there is a node for each one of the trie that is not behind a cell.
        let deepest = window.level - 1;
        if self.rib.way(address, deepest).count() == self.depth(address, deepest) {
            return Ok(());
        }
        self.renew(address, deepest, outside, 0)
    }

    /// Number of nodes outside of the window on the way to an address, down to depth `deepest`.
    fn depth(&self, address: u128, deepest: usize) -> usize {
        let mut slot = self.table.cell(self.table.window.cells as usize);
        for level in 0..=deepest {
            if slot & NODE == 0 {
                return level;
            }
            slot = self
                .table
                .slot(slot, usize::from(address.to_be_bytes()[level]));
        }
        deepest + 1
    }

    /// A prefix shorter than the window's: writes the cells it decides about, or what nodes behind them inherit.
    fn paint(&self, prefix: Prefix) {
        let Self { rib, table, .. } = self;
        let window = table.window;
        let hop = rib
            .get(prefix)
            .or_else(|| rib.parent(prefix))
            .unwrap_or(NO_ROUTE);
        let (first, last) = (window.address(0), window.address(window.cells as usize - 1));
        let painted = rib.gaps(prefix, window.level, |from, to| {
            let (from, to) = (
                from.max(first),
                to.min(last.last_of(8 * octets(window.level))),
            );
            if from <= to {
                for cell in window.index(from)..=window.index(to) {
                    match table.cell(cell) {
                        node if node & NODE == 0 => table.set_cell(cell, hop.into()),
                        node => {
                            let way = rib.way(window.address(cell), window.level);
                            if let Some(at) = way.last() {
                                self.inherit(node, at, hop);
                            }
                        }
                    }
                }
            }
            Ok::<(), core::convert::Infallible>(())
        });
        let Ok(()) = painted;
    }

    /// Lets a node, which stands for the node `at` of the trie, and those below it inherit a next hop.
    fn inherit(&self, node: u32, at: u32, hop: NextHop) {
        let Self { rib, table, .. } = self;
        if table.inherited(node) == hop {
            return;
        }
        table.set_inherited(node, hop);
        for (octet, at_below) in rib.below(at) {
            let below = table.slot(node, octet);
            if below & NODE != 0 && rib.best(at, octet).is_none() {
                self.inherit(below, at_below, hop);
            }
        }
    }

    /// Encodes the node of depth `deepest` on the way to an address anew, and those above it as far up as needed. The way
    /// begins in cell `cell` of the root with a node of depth `top`.
    ///
    /// # Errors
    /// [`Full`] if lines are wanted and none are left: readers see nothing of the change then.
    fn renew(
        &mut self,
        address: u128,
        deepest: usize,
        cell: usize,
        top: usize,
    ) -> Result<(), Full> {
        // What the trie has on the way, and what each of its nodes inherits.
        let mut at = [None; LEVELS];
        let mut inherited = [NO_ROUTE; LEVELS + 1];
        for (at, node) in at.iter_mut().zip(self.rib.way(address, deepest)) {
            *at = Some(node);
        }
        for level in 0..=deepest {
            let best = at[level].and_then(|node| self.rib.best(node, address.octet(level)));
            inherited[level + 1] = best.unwrap_or(inherited[level]);
        }
        // What the table has.
        let mut old = [None; LEVELS];
        let mut slot = self.table.cell(cell);
        for (level, old) in old.iter_mut().enumerate().take(deepest + 1).skip(top) {
            if slot & NODE == 0 {
                break;
            }
            *old = Some(slot);
            slot = self.table.slot(slot, address.octet(level));
        }

        let mut new: Option<u32> = None;
        let mut replaced = top;
        for level in (top..=deepest).rev() {
            let octet = address.octet(level);
            let changed = (level < deepest).then_some((octet, new));
            if let (Some(node), Some((_, Some(new)))) = (old[level], changed)
                && self.table.slot(node, octet) & NODE != 0
            {
                self.table.set_slot(node, octet, new);
                replaced = level + 1;
                break;
            }
            new = match at[level] {
                Some(at) => Some(self.encode(at, inherited[level], old[level], changed)?),
                None => None,
            };
            if level == top {
                self.table
                    .set_cell(cell, new.unwrap_or_else(|| inherited[top].into()));
            }
        }
        for node in old[replaced..].iter().flatten() {
            self.lines.give(*node, self.table.size(*node));
        }

        // What stands below inherits from the prefix, where no longer one is between.
        let mut slot = self.table.cell(cell);
        for level in top..deepest {
            slot = if slot & NODE == 0 {
                slot
            } else {
                self.table.slot(slot, address.octet(level))
            };
        }
        if let Some(at) = at[deepest]
            && slot & NODE != 0
        {
            for (octet, at_below) in self.rib.below(at) {
                let below = self.table.slot(slot, octet);
                if below & NODE != 0 {
                    let hop = self.rib.best(at, octet).unwrap_or(inherited[deepest]);
                    self.inherit(below, at_below, hop);
                }
            }
        }
        Ok(())
    }

    /// Writes a node for the node `at` of the trie, with the nodes that the one it replaces has below it, except that
    /// below the octet `changed` there is another one, or none now.
    fn encode(
        &mut self,
        at: u32,
        inherited: NextHop,
        old: Option<u32>,
        changed: Option<(usize, Option<u32>)>,
    ) -> Result<u32, Full> {
        let mut answers = build::answers(&self.rib, at);
        for (octet, _) in self.rib.below(at) {
            let below = match changed {
                Some((there, new)) if there == octet => new,
                _ => old
                    .map(|old| self.table.slot(old, octet))
                    .filter(|slot| slot & NODE != 0),
            };
            if let Some(below) = below {
                answers[octet] = below;
            }
        }
        let size = nodes::encode(&answers, inherited, &mut self.words);
        let node = self.lines.take(size, &self.table)?;
        self.table.write(node, &self.words);
        Ok(node | NODE)
    }

    /// Builds the table anew from all prefixes, in the window that suits them.
    fn rebuild(&mut self) {
        self.changes = 0;
        self.chosen_for = self.len();
        let window = self.pinned.unwrap_or_else(|| build::choose(&self.rib));
        let spare = if self.shared.is_some() {
            SPARE_SHARED
        } else {
            SPARE
        };
        let (table, fresh) = build::build(&self.rib, window, spare);
        if let Some(shared) = &self.shared {
            shared.publish(table.clone());
        }
        self.lines = Lines {
            fresh,
            limbo: Limbo::new(self.shared.clone()),
            ..Lines::default()
        };
        self.table = table;
    }
}

/// Looks up in an [`Lpm6`] that another thread updates, as an [`Lpm4Reader`](super::lpm4::Lpm4Reader) does.
#[cfg(any(test, feature = "testing", feature = "std"))]
#[derive(Debug)]
pub struct Lpm6Reader {
    reader: super::shared::Reader<Table>,
    kernel: Kernel,
}

#[cfg(any(test, feature = "testing", feature = "std"))]
impl Lpm6Reader {
    /// As [`Lpm6::lookup`].
    #[inline]
    pub fn lookup(&mut self, address: Ipv6Addr) -> NextHop {
        self.reader.table().lookup(self.kernel, address.to_bits())
    }

    /// As [`Lpm6::lookup_batch`].
    #[inline]
    pub fn lookup_batch(&mut self, addresses: &[u128], hops: &mut [NextHop]) {
        let table = self.reader.table();
        table.lookup_batch(self.kernel, addresses, hops);
    }

    /// Says that no look-up comes for a while.
    pub fn rest(&mut self) {
        self.reader.rest();
    }
}

fn octets(level: usize) -> u8 {
    u8::try_from(level).unwrap_or(0)
}

fn prefix(net: Ipv6Net) -> Prefix {
    Prefix::new(net.addr().to_bits(), net.prefix_len())
}

#[cfg(test)]
mod tests;

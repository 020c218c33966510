//! Longest-prefix match for IPv6, made for the packet path.
//!
//! [`Lpm6`] is to IPv6 what [`Lpm4`](super::lpm4::Lpm4) is to IPv4: every prefix stands in a trie for updates and in a table for
//! look-ups, which other threads may read while one updates. Eight bits of IPv6 are sparse where eight bits of IPv4 are
//! full, so that most nodes behind the root are one cache line instead of 256 cells: 10 MB for the Internet's 160,000
//! prefixes.
//!
//! Metrics, ties and what a next hop does are the FIB's.
//!
//! Cost: a look-up loads one cell of the root and one cache line for each octet between the root and the answer: for
//! the Internet three for a /48. An update writes the octets that it covers in one node, or encodes a small node anew (some
//! hundred nanoseconds); a prefix shorter than the root writes the cells it covers, and one that nodes below inherit writes
//! a cell in each. A small table comes to another window at once, a large one bit by bit (`table/refit`); where lines run
//! out the table is copied, which is memory's work alone.

mod answers;
mod build;
mod lines;
mod lookup;
mod nodes;
mod shape;
mod update;
mod window;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::Ipv6Addr;

use ipnet::Ipv6Net;

use self::lines::Lines;
use self::nodes::{Form, Table};
use self::window::Window;
use super::limbo::Limbo;
use super::refit::{Forms, Refit, Turn};
use super::shared::Shared;
use super::{Full, NO_ROUTE, NextHop, checked};
use crate::arch::Kernel;

type Prefix = super::rib::Prefix<u128>;
type Rib = super::rib::Rib<u128>;

/// Lines of spare, besides a quarter of what is needed; more where readers hold some up. Loom has to get by with few.
const SPARE: usize = if cfg!(loom) { 2 } else { 48 };
const SPARE_SHARED: usize = if cfg!(loom) { 2 } else { 1_024 };

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
    refit: Refit<Self>,
    /// A window that a test holds on to.
    pinned: Option<Window>,
    /// Room to encode a node in.
    cells: Vec<u32>,
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
            refit: Refit::default(),
            pinned: None,
            cells: Vec::new(),
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
        self.bring(prefix);
        if self.pinned.is_some() {
            return;
        }
        match Refit::turn(self, |lpm| &mut lpm.refit, prefix) {
            Turn::Nothing => {}
            Turn::Choose => {
                let prefixes: Vec<Prefix> = self.rib.iter().map(|(prefix, _)| prefix).collect();
                if self.better(&prefixes, 1).is_some() {
                    self.rebuild();
                }
            }
            Turn::Take(next) => self.adopt(*next),
        }
    }

    /// As [`changed`](Self::changed), in the window that there is.
    fn bring(&mut self, prefix: Prefix) {
        while self.update(prefix).is_err() {
            self.grow();
        }
    }

    /// Builds the table anew from all prefixes, in the window that suits them.
    fn rebuild(&mut self) {
        self.refit = Refit::chosen(self.len());
        let window = self.pinned.unwrap_or_else(|| {
            let prefixes: Vec<Prefix> = self.rib.iter().map(|(prefix, _)| prefix).collect();
            shape::choose(&prefixes, 1).0
        });
        let (table, fresh) = build::build(&self.rib, window, self.spare());
        let lines = Lines {
            fresh,
            ..Lines::default()
        };
        self.publish(table, lines);
    }

    /// Makes room for nodes: a copy of the table, as nodes are numbered and not pointed at.
    fn grow(&mut self) {
        let mut lines = core::mem::take(&mut self.lines);
        // In the copy nobody can be yet.
        lines.settle();
        let used = lines.fresh - self.table.window.lines() - lines.free();
        let wanted = self.spare() + used / 4;
        // Narrow ones don't make a wide one.
        let has_both =
            lines.free() >= wanted && lines.wide.len() * Form::Wide.lines() * 4 >= wanted;
        let room = self.table.lines() - lines.fresh + if has_both { 0 } else { wanted };
        let table = self.table.grown(lines.fresh, room);
        self.publish(table, lines);
    }

    /// Goes over to a table of the same prefixes in another window.
    fn adopt(&mut self, next: Self) {
        let rib = core::mem::replace(&mut self.rib, next.rib);
        self.refit.clear(rib);
        self.publish(next.table, next.lines);
    }

    /// Lets readers come to another table, in which nobody is yet.
    fn publish(&mut self, table: Table, lines: Lines) {
        if let Some(shared) = &self.shared {
            shared.publish(table.clone());
        }
        self.lines = Lines {
            limbo: Limbo::new(self.shared.clone()),
            ..lines
        };
        self.table = table;
    }

    fn spare(&self) -> usize {
        if self.shared.is_some() {
            SPARE_SHARED
        } else {
            SPARE
        }
    }
}

impl Forms for Lpm6 {
    type Address = u128;
    type Form = Window;

    fn better(&self, some: &[Prefix], each: usize) -> Option<Window> {
        let window = self.table.window;
        let nodes = self.lines.fresh - window.lines();
        let used = nodes - self.lines.free();
        let is_empty = nodes > 4 * used + 2 * self.spare();
        shape::better(some, each, window).or_else(|| is_empty.then_some(window))
    }

    fn empty(&self, form: Window) -> Self {
        let mut next = Self {
            pinned: Some(form),
            ..Self::new()
        };
        let used = self.lines.fresh - self.table.window.lines() - self.lines.free();
        let (table, fresh) = build::build(&next.rib, form, used + SPARE);
        next.lines.fresh = fresh;
        next.table = table;
        next
    }

    fn set(&mut self, prefix: Prefix, hop: Option<NextHop>) -> Result<(), Full> {
        match hop {
            Some(hop) => self.rib.insert(prefix, hop),
            None => self.rib.remove(prefix),
        };
        self.bring(prefix);
        Ok(())
    }

    fn rib(&self) -> &Rib {
        &self.rib
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

fn prefix(net: Ipv6Net) -> Prefix {
    Prefix::new(net.addr().to_bits(), net.prefix_len())
}

#[cfg(test)]
mod bounds;
#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(test)]
mod tests;

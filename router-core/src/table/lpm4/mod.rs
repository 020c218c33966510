//! Longest-prefix match for IPv4, made for the packet path.
//!
//! [`Lpm4`] maps prefixes to next hops that are small numbers; what a number means is the caller's. It keeps every
//! prefix twice: in a trie for updates and in a table of cells for look-ups. The table's form follows
//! the prefixes: a few kilobytes for a cluster's node, 34 MB for the Internet. Both forms answer a
//! look-up with one load wherever their root resolves the address, and are read by the same code.
//!
//! Metrics, ties and what a next hop does are the FIB's.
//!
//! Other threads may look up while one updates (`Lpm4::reader`, with the feature `std`).
//!
//! Cost: a look-up loads one cell, rarely two, at worst five; sixteen at a time in [`Lpm4::lookup_batch`]. An update of
//! a prefix writes the cells it covers (one for a /24 in the large form, 65,536 for a /8) after a walk down the trie. A small
//! table comes to another form at once, a large one bit by bit (`table/refit`); where groups run out the table is copied,
//! which is memory's work alone.

mod cells;
mod editor;
mod groups;
mod shape;

use alloc::sync::Arc;
use core::net::Ipv4Addr;

use ipnet::Ipv4Net;

use self::cells::{BORDERS, MAX_GROUPS, Table, Window};
use self::editor::Editor;
use self::groups::Groups;
use super::limbo::Limbo;
use super::refit::{Forms, Refit, Turn};
use super::rib::LEVELS;
use super::shared::Shared;
use super::{Full, NO_ROUTE, NextHop, checked};
use crate::arch::Kernel;

type Prefix = super::rib::Prefix<u32>;
type Rib = super::rib::Rib<u32>;

/// A map from IPv4 prefixes to next hops with longest-prefix look-up. See the module for its structure and cost.
///
/// ```
/// use router_core::table::NO_ROUTE;
/// use router_core::table::lpm4::Lpm4;
///
/// let mut lpm = Lpm4::new();
/// lpm.insert("10.244.0.0/16".parse()?, 1)?;
/// lpm.insert("10.244.1.0/24".parse()?, 2)?;
/// let mut hops = [0; 3];
/// let addresses = [[10, 244, 1, 9], [10, 244, 2, 9], [10, 245, 0, 1]].map(u32::from_be_bytes);
/// lpm.lookup_batch(&addresses, &mut hops);
/// assert_eq!(hops, [2, 1, NO_ROUTE]);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Lpm4 {
    rib: Rib,
    table: Table,
    groups: Groups,
    kernel: Kernel,
    /// Set as soon as other threads read.
    shared: Option<Arc<Shared<Table>>>,
    refit: Refit<Self>,
    /// A form that a test holds on to.
    pinned: Option<Window>,
}

impl Default for Lpm4 {
    fn default() -> Self {
        Self::new()
    }
}

impl Lpm4 {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self {
            rib: Rib::default(),
            table: Table::new(Window::NONE, 0),
            groups: Groups::default(),
            kernel: Kernel::best(),
            shared: None,
            refit: Refit::default(),
            pinned: None,
        }
    }

    /// A table of these prefixes; of equal prefixes the last counts.
    ///
    /// # Errors
    /// [`Full`] if they do not fit.
    pub fn from_routes(routes: impl IntoIterator<Item = (Ipv4Net, NextHop)>) -> Result<Self, Full> {
        let mut lpm = Self::new();
        for (net, hop) in routes {
            lpm.rib.insert(prefix(net), checked(hop)?);
        }
        lpm.rebuild()?;
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
    pub fn get(&self, net: Ipv4Net) -> Option<NextHop> {
        self.rib.get(prefix(net))
    }

    /// Every prefix with its next hop, by address, shorter ones first.
    pub fn iter(&self) -> impl Iterator<Item = (Ipv4Net, NextHop)> {
        self.rib.iter().filter_map(|(prefix, hop)| {
            Some((
                Ipv4Net::new(Ipv4Addr::from(prefix.address), prefix.len).ok()?,
                hop,
            ))
        })
    }

    /// Adds a prefix or changes its next hop; gives the former next hop.
    ///
    /// # Errors
    /// [`Full`] if it does not fit: nothing is changed then.
    pub fn insert(&mut self, net: Ipv4Net, hop: NextHop) -> Result<Option<NextHop>, Full> {
        let prefix = prefix(net);
        let old = self.rib.insert(prefix, checked(hop)?);
        if old == Some(hop) {
            return Ok(old);
        }
        if self.bring(prefix, hop).is_err() {
            let former = match old {
                Some(old) => self.rib.insert(prefix, old).and(Some(old)),
                None => self
                    .rib
                    .remove(prefix)
                    .and_then(|_| self.rib.parent(prefix)),
            };
            // What could not be painted has its former next hop still and wants no group for it.
            let restored = self.paint(prefix, former.unwrap_or(NO_ROUTE), 0);
            debug_assert!(restored.is_ok(), "the table was like this before");
            return Err(Full);
        }
        self.changed(prefix);
        Ok(old)
    }

    /// Removes a prefix; gives its next hop, or `None` if it was not there.
    pub fn remove(&mut self, net: Ipv4Net) -> Option<NextHop> {
        let prefix = prefix(net);
        let old = self.rib.remove(prefix)?;
        let parent = self.rib.parent(prefix).unwrap_or(NO_ROUTE);
        // Only a window's borders want groups here, and those are in reserve, unless readers hold that up.
        if self.paint(prefix, parent, 0).is_err() {
            self.copy(shape::with_spare(self.groups.used(), self.table.window()));
            let painted = self.paint(prefix, parent, 0);
            debug_assert!(painted.is_ok(), "a prefix more did fit");
        }
        self.changed(prefix);
        Some(old)
    }

    /// Next hop of the longest prefix that covers an address, [`NO_ROUTE`] if none does.
    #[inline]
    #[must_use]
    pub fn lookup(&self, address: Ipv4Addr) -> NextHop {
        self.table.lookup(address.to_bits())
    }

    /// [`lookup`](Self::lookup) of each address (as [`Ipv4Addr::to_bits`] gives it); stops at the end of the shorter
    /// slice.
    #[inline]
    pub fn lookup_batch(&self, addresses: &[u32], hops: &mut [NextHop]) {
        self.table.lookup_batch(self.kernel, addresses, hops);
    }

    /// [`lookup_batch`](Self::lookup_batch) with a kernel other than the best, to compare.
    #[cfg(any(test, feature = "testing"))]
    pub fn lookup_batch_by(&self, kernel: Kernel, addresses: &[u32], hops: &mut [NextHop]) {
        self.table.lookup_batch(kernel, addresses, hops);
    }

    /// A reader for another thread. It looks up while this table is updated, and gets for each address what was right
    /// at some moment between its last look at the table and the end of its own look-up.
    ///
    /// An update that is refused may be visible in parts for a moment.
    #[cfg(any(test, feature = "testing", feature = "std"))]
    pub fn reader(&mut self) -> Lpm4Reader {
        let shared = self.shared.get_or_insert_with(|| {
            let shared = Shared::new(self.table.clone());
            self.groups.share(Limbo::new(Some(Arc::clone(&shared))));
            shared
        });
        Lpm4Reader {
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

    /// Gives what of a prefix no longer prefix covers a next hop.
    fn paint(&mut self, prefix: Prefix, hop: NextHop, reserve: usize) -> Result<(), Full> {
        let Self {
            rib, table, groups, ..
        } = self;
        let mut editor = Editor {
            table,
            groups,
            rib,
            reserve,
        };
        rib.gaps(prefix, LEVELS, |from, to| editor.paint(from, to, hop))
    }

    /// [`paint`](Self::paint), with more room where that is wanted.
    fn bring(&mut self, prefix: Prefix, hop: NextHop) -> Result<(), Full> {
        while self.paint(prefix, hop, BORDERS).is_err() {
            self.grow()?;
        }
        Ok(())
    }

    /// Sees to it that the table's form suits its prefixes now that one was added, changed or removed.
    fn changed(&mut self, prefix: Prefix) {
        if self.pinned.is_some() {
            return;
        }
        match Refit::turn(self, |lpm| &mut lpm.refit, prefix) {
            Turn::Nothing => {}
            Turn::Choose => {
                let (window, groups) = shape::choose(&self.rib);
                if window != self.table.window() || self.table.groups() > 4 * groups {
                    // Without room for another form the present one stays: its answers are as good.
                    let _kept = self.build(window, groups);
                }
            }
            Turn::Take(next) => {
                let rib = core::mem::replace(&mut self.rib, next.rib);
                self.refit.clear(rib);
                self.publish(next.table, next.groups);
            }
        }
    }

    /// Makes room for groups.
    fn grow(&mut self) -> Result<(), Full> {
        let window = self.table.window();
        // What readers hold up is free in a copy.
        if self.table.groups() < MAX_GROUPS || self.groups.waiting() > 0 {
            self.copy(shape::with_spare(self.groups.used(), window));
            return Ok(());
        }
        if window == Window::DIR_24 || self.pinned.is_some() {
            return Err(Full);
        }
        self.build(Window::DIR_24, MAX_GROUPS)
    }

    /// Goes over to a copy of the table with room for so many groups, if that is more: groups are numbered and not pointed at.
    fn copy(&mut self, groups: usize) {
        let table = self.table.grown(groups);
        let used = core::mem::take(&mut self.groups);
        self.publish(table, used);
    }

    /// Builds the table anew from all prefixes, in the form that suits them.
    fn rebuild(&mut self) -> Result<(), Full> {
        self.refit = Refit::chosen(self.len());
        let (window, groups) = match self.pinned {
            Some(window) => (window, shape::room(&self.rib, window)),
            None => shape::choose(&self.rib),
        };
        self.build(window, groups)
    }

    fn build(&mut self, window: Window, groups: usize) -> Result<(), Full> {
        let table = Table::new(window, groups);
        let mut used = Groups::new(Limbo::new(self.shared.clone()));
        let mut editor = Editor {
            table: &table,
            groups: &mut used,
            rib: &self.rib,
            reserve: BORDERS,
        };
        // Each prefix paints over the shorter ones, which come first.
        for (prefix, hop) in self.rib.iter() {
            editor.paint(prefix.address, prefix.last(), hop)?;
        }
        self.publish(table, used);
        Ok(())
    }

    /// Lets readers come to another table, in which nobody is yet.
    fn publish(&mut self, table: Table, mut groups: Groups) {
        if let Some(shared) = &self.shared {
            shared.publish(table.clone());
        }
        groups.share(Limbo::new(self.shared.clone()));
        self.groups = groups;
        self.table = table;
    }
}

impl Forms for Lpm4 {
    type Address = u32;
    type Form = Window;

    fn better(&self, some: &[Prefix], each: usize) -> Option<Window> {
        let window = self.table.window();
        let is_empty = self.table.groups() > 4 * shape::with_spare(self.groups.used(), window);
        shape::better(some, each, window).or_else(|| is_empty.then_some(window))
    }

    fn empty(&self, form: Window) -> Self {
        Self {
            pinned: Some(form),
            table: Table::new(form, shape::with_spare(self.groups.used(), form)),
            ..Self::new()
        }
    }

    fn set(&mut self, prefix: Prefix, hop: Option<NextHop>) -> Result<(), Full> {
        match hop {
            Some(hop) => self.rib.insert(prefix, hop),
            None => self.rib.remove(prefix),
        };
        let hop = hop.or_else(|| self.rib.parent(prefix)).unwrap_or(NO_ROUTE);
        self.bring(prefix, hop)
    }

    fn rib(&self) -> &Rib {
        &self.rib
    }
}

/// Looks up in an [`Lpm4`] that another thread updates. See [`Lpm4::reader`].
///
/// For one thread; each thread has a reader of its own. It never waits, and nothing it does makes another reader or the
/// writer wait. A thread that goes to sleep calls [`rest`](Self::rest) first: the writer can use memory again then.
#[cfg(any(test, feature = "testing", feature = "std"))]
#[derive(Debug)]
pub struct Lpm4Reader {
    reader: super::shared::Reader<Table>,
    kernel: Kernel,
}

#[cfg(any(test, feature = "testing", feature = "std"))]
impl Lpm4Reader {
    /// As [`Lpm4::lookup`].
    #[inline]
    pub fn lookup(&mut self, address: Ipv4Addr) -> NextHop {
        self.reader.table().lookup(address.to_bits())
    }

    /// As [`Lpm4::lookup_batch`].
    #[inline]
    pub fn lookup_batch(&mut self, addresses: &[u32], hops: &mut [NextHop]) {
        let table = self.reader.table();
        table.lookup_batch(self.kernel, addresses, hops);
    }

    /// Says that no look-up comes for a while.
    pub fn rest(&mut self) {
        self.reader.rest();
    }
}

fn prefix(net: Ipv4Net) -> Prefix {
    Prefix::new(net.addr().to_bits(), net.prefix_len())
}

#[cfg(test)]
mod bounds;
#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(test)]
mod tests;

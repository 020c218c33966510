//! `podwire ip -n NODE ..`: a node's links, addresses, routes, neighbours and rules in iproute2's own text and JSON.
//!
//! [`parse`] reads the words after `ip` as iproute2 6.1 does (options, abbreviations, error texts, exit statuses) and
//! tells views from changes; [`print()`] renders a view of a [`Node`]. A change is only recognized here: the daemon
//! carries it out. What iproute2 knows and this does not (statistics, details, other objects) is answered with
//! iproute2's own error for an unknown word, never with an empty success.
//!
//! The reference for every text is the output of iproute2 6.1.0, trailing spaces included.

mod addr;
mod args;
mod json;
mod lookup;
mod neigh;
mod prefix;
mod route;
mod rule;
mod usage;

pub use addr::AddrFilter;
pub use args::{Action, Invocation, parse};
pub use lookup::{Found, LookupError, Query, lookup};
pub use neigh::NeighFilter;
pub use route::{RouteFilter, Table};

use crate::model::{NeighbourEntry, Node};

/// Address families that a view can be limited to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// Neither `-4` nor `-6`.
    #[default]
    Any,
    /// `-4`
    Inet,
    /// `-6`
    Inet6,
    /// `-0`: link-layer only.
    Link,
}

/// The options before the object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `-4`, `-6`, `-0`
    pub family: Family,
    /// `-br`
    pub brief: bool,
    /// `-o`
    pub oneline: bool,
    /// `-j`
    pub json: bool,
    /// `-p`
    pub pretty: bool,
}

impl Options {
    /// iproute2's `_SL_`: what stands between the lines of one entry.
    const fn separator(&self) -> &'static str {
        if self.oneline { "\\" } else { "\n" }
    }
}

/// Something to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// `ip addr`
    Addr(AddrFilter),
    /// `ip link`
    Link(AddrFilter),
    /// `ip route`
    Route(RouteFilter),
    /// `ip route get`
    RouteGet(Query),
    /// `ip neigh`
    Neigh(NeighFilter),
    /// `ip rule`
    Rule,
}

impl View {
    /// True when [`print()`] wants the node's live neighbour table.
    #[must_use]
    pub const fn wants_neighbours(&self) -> bool {
        matches!(self, Self::Neigh(_))
    }
}

/// What iproute2 writes to stderr, and its exit status (1, 2 or 255).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpError {
    /// Text without its last newline.
    pub message: String,
    /// Exit status.
    pub status: u8,
}

impl IpError {
    fn new(status: u8, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            status,
        }
    }

    /// `RTNETLINK answers: ..`, the kernel's refusal.
    fn kernel(why: &str) -> Self {
        Self::new(2, format!("RTNETLINK answers: {why}"))
    }

    /// iproute2's `invarg`; some of its callers end their text with a newline of their own.
    fn argument(word: &str, why: &str) -> Self {
        Self::new(255, format!("Error: argument \"{word}\" is wrong: {why}"))
    }

    fn incomplete() -> Self {
        Self::new(255, "Command line is not complete. Try option \"help\"")
    }
}

impl std::fmt::Display for IpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for IpError {}

/// Renders `view` of `node`. `neighbours` is looked at only where [`View::wants_neighbours`] says so.
///
/// # Errors
/// What iproute2 would answer: an interface that does not exist, a destination that can't be reached.
pub fn print(
    view: &View,
    options: &Options,
    node: &Node,
    neighbours: &[NeighbourEntry],
) -> Result<String, IpError> {
    match view {
        View::Addr(filter) => addr::print(filter, options, node, true),
        View::Link(filter) => addr::print(filter, options, node, false),
        View::Route(filter) => route::print(filter, options, node),
        View::RouteGet(query) => route::print_get(query, options, node),
        View::Neigh(filter) => neigh::print(filter, options, node, neighbours),
        View::Rule => Ok(rule::print(options)),
    }
}

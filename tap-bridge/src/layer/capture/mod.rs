//! Captures: copies of what goes through the ports of a node, for whoever asked.
//!
//! Decides what is copied (the ports and drops that a capture wants, what its filter lets through, as many bytes as it
//! wants of each) and that the data plane never waits for a reader: what the ring has no room for is lost and counted.
//! Doesn't decide what becomes of a packet, and changes none. Files are written elsewhere, with the blocks of [`pcapng`].
//!
//! ```text
//!   pod ── device ── probe ── router        rx is stamped behind the device's read, tx before its write, so that of two
//!                      │                    nodes the one that sends comes first in time
//!                 ring in memory (one per capture and node) ── reader: file, pipe, terminal
//! ```
//!
//! A probe stands at the device: it sees what the device gave and what is handed to it, behind (on the way out) or in front
//! (on the way in) of all other layers, as tcpdump sees packets behind netem's queue. A frame that the router drops
//! appears a second time, at [`Place::Drop`], as it was when it was dropped, with the reason.
//!
//! Bounded: [`MAX_CAPTURES`] per node, one ring each. Cost: a port without a capture has no probe, and pays nothing; with
//! one, a lock that nobody contends per batch, the filter, and one copy per packet that is wanted.

pub mod filter;
pub mod pcapng;
mod probe;
pub mod record;
pub mod ring;
#[cfg(test)]
mod tests;

pub use probe::{Begin, BeginError, Captures, Counts, MAX_CAPTURES, Probe, Wanted};
pub use record::Place;

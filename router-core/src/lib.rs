//! The packet path of podwire: a sans-IO IPv4 router with the behaviour of a Linux node under kindnet or Calico.
//!
//! Bytes in, bytes out: the crate does no I/O, reads no clock, takes no lock and, per packet, allocates nothing.
#![cfg_attr(not(any(test, feature = "testing", feature = "std")), no_std)]
#![deny(unsafe_code)]
#![warn(clippy::std_instead_of_core)]

extern crate alloc;

pub mod addr;
pub mod arch;
mod arp;
pub mod bridge;
pub mod config;
mod conntrack;
pub mod fib;
mod forward;
mod frag;
pub mod frame;
mod icmp_error;
mod ipip;
mod l2;
mod local;
mod martian;
mod nat;
pub mod neigh;
mod options;
mod originate;
pub mod policy;
mod ports;
mod random;
pub mod router;
pub mod segment;
mod shape;
pub mod share;
pub mod stats;
mod sync;
pub mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
pub mod trace;
pub mod wire;

pub use addr::Mac;
pub use bridge::FdbView;
pub use config::{PortId, Snapshot};
pub use conntrack::{CONNECTION_BYTES, Change, Filter, Session, TcpState, Tuple};
pub use frame::{Batch, Frame, FramePool, TxBatch};
pub use nat::{ChainCounts, Count};
pub use neigh::{NeighbourState, NeighbourView};
pub use ports::ConfigError;
pub use router::{Limits, Router, Tracking};
pub use share::{Share, Undivided};
pub use stats::{DropReason, Event, Stats};
pub use time::Instant;
pub use trace::Mark;

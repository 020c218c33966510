//! The fabric: the underlay segment between the routers of one lab, each a process of its own.
//!
//! To a router it is one Ethernet port. Decides how frames get from one process to another; never looks behind the
//! destination MAC. Correct, bounded and safe against a peer that dies or goes mad at any moment.
//!
//! ```text
//!                            daemon
//!                     +------------------+
//!                     |       Hub        |   who is there, broadcasts, link set-up
//!                     +--+------+-----+--+
//!   SOCK_SEQPACKET pairs |      |     |        one per member
//!              +---------+      |     +--------+
//!              |                |              |
//!        +-----+------+  +------+-----+  +-----+------+
//!        | FabricPort |  | FabricPort |  | FabricPort |      one per node process, in its event loop
//!        |     A      |  |     B      |  |     C      |
//!        +-----+------+  +--+------+--+  +-----+------+
//!              |            |      |           |
//!              +== link ====+      +== link ===+             made at the first unicast frame between the two
//!
//!   link A-B:   region A  [ring A->B | consumed of B->A | sleep flag of A | returned tails of B]  A maps it rw, B maps it ro
//!               region B  [ring B->A | consumed of A->B | sleep flag of B | returned tails of A]  B maps it rw, A maps it ro
//!               tails A, tails B      payload of superframes; one memory per member for all its links, which its peers map ro
//!               bell A, bell B                                           eventfds, one per receiver for all its links
//! ```
//!
//! # Roles
//!
//! | who       | may                                                              | must not                           |
//! |-----------|------------------------------------------------------------------|------------------------------------|
//! | hub       | admit and remove members; make regions; relay floods             | touch a region after making it     |
//! | sender    | write slots and `produced` of its own region, and tails of its own that are not lent; ring the peer's bell | wait for a ring: a full one is a counted drop; or for tails, longer than a moment |
//! | receiver  | write `consumed` and `sleep` of its own region; copy out of the peer's | use a value of the peer's region before checking a copy of it |
//!
//! `ring.rs` has the layout, the ordering argument and the checks, `lend.rs` the life of a tail.
//!
//! # Life of a peer, as one member sees it
//!
//! ```text
//!            Up                 first unicast frame            Link
//!   absent -----> unlinked ----------------------> connecting -----> linked
//!     ^              ^  ^                               |              |  |
//!     |              |  +-------------------------------+--------------+  |  Link (a newer one replaces it)
//!     |              |        peer corrupt, or Unlink                  +--+
//!     +--- Down -----+----- (from every state)
//! ```
//!
//! | from       | to         | when                              | what happens to frames                                |
//! |------------|------------|-----------------------------------|-------------------------------------------------------|
//! | absent     | unlinked   | `Up` from the hub                 | none: unknown MACs were flooded                       |
//! | unlinked   | connecting | a unicast frame, [`RETRY`] since the last `Connect` | it waits, with up to 63 more for this peer |
//! | connecting | connecting | another frame, [`RETRY`] later    | it waits; `Connect` is repeated (the answer was lost) |
//! | any        | linked     | `Link` from the hub               | waiting ones go first, in order                       |
//! | linked     | unlinked   | the peer broke the ring's rules   | unread ones are lost and counted; the hub is told     |
//! | any        | unlinked   | `Unlink` for the link in use      | unread ones are lost and counted                      |
//! | any        | absent     | `Down` for this generation        | waiting and unread ones are lost and counted          |
//!
//! Forbidden, and why:
//!
//! * absent to linked: a `Link` for an unknown member is ignored. Regions of a dead generation would come back.
//! * linked to linked on the same memory: a ring is never reset. Counters of a former life would be taken for new ones;
//!   every link has memory of its own.
//! * linked to connecting by own decision: a full ring is not a broken one. A slow peer starves only itself.
//! * connecting to absent by time: only the hub knows who is dead.
//!
//! # Several members of one address
//!
//! A node with several workers has a member for each, of consecutive numbers and one address. A member sends to the worker of
//! its own worker's number, counted round where the other node has fewer, so that a flow that stays with one worker here comes to
//! one worker there. The hub's floods reach the first. Members of one node never send to each other.
//!
//! # Bounds
//!
//! Per member: [`PENDING`] waiting frames in all, 64 per peer; one ring per peer and direction; per peer one mapping of
//! each region and one descriptor (its bell). In the hub: what a member was told and what is true, per pair of members,
//! instead of a queue of messages; a member that doesn't read loses floods and catches up on the rest later. Frames to
//! unknown MACs are flooded, but no more than [`UNKNOWN_PER_SECOND`].
//!
//! Memory per pair of members grows with what is under way between them: a page for the counters, the descriptors and the
//! first short frame, and a slot for each frame more that ever was under way at a time. Tails are one per member and frame
//! under way.
//!
//! Cost: per unicast frame two copies of its head and none of its tail, and one bell per sleep of the receiver; per flooded frame one system call of the
//! sender, one of the hub per member, one of each receiver.

mod hub;
mod lend;
mod link;
mod message;
mod pace;
mod port;
mod ring;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub(crate) use lend::Borrowed;

pub use hub::{Hub, HubCounters, HubHandle};
pub use port::{FabricCounters, FabricPort};

/// Number of a member of a segment: the node's, chosen by the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u32);

/// Frames that may wait for links in one member, all peers together.
pub const PENDING: usize = 128;

/// Time between two requests for the same link.
pub const RETRY: Duration = Duration::from_millis(100);

/// Frames to MACs that no member has, per second and member, that are flooded; the rest is dropped and counted. The burst
/// allowed is a tenth of it.
pub const UNKNOWN_PER_SECOND: u32 = 1000;

//! One node, several workers: each has a router of its own, and together they are the node.
//!
//! # Who does what
//! A worker is a thread with a whole [`Router`](crate::Router): its own frames, neighbours, connections, and its share of the
//! limits. It handles what arrives at its own queue of each device and sends by its own queue, so a flow stays with one worker
//! and in order as long as its packets arrive at one queue. Linux sees to that at TAP devices: the driver picks the queue by a
//! hash that both directions share, and learns from what is written to the device where answers are expected (`drivers/net/tun.c`:
//! `tun_automq_select_queue`, `tun_flow_update`). So the way of a flow's packets is free of memory that others write.
//!
//! Where nothing is tracked, that is all. What is about connections needs one owner for both directions:
//!
//! ```text
//!   frame -> connection of mine? --yes--> as ever
//!                  | no
//!                  v
//!            claims: whose is the tuple? --nobody's--> mine: claim both tuples, or the packet is dropped
//!                  | worker k's
//!                  v
//!            hand over to k ----> k: as if k had received it, and k never hands it over again
//! ```
//!
//! The drivers' learning is forgotten after seconds, and knows nothing of the underlay; so a packet may arrive at a worker that
//! does not own its connection. Such a packet is handed over, before anything was changed about it: a fragment when its
//! datagram is there, an ICMP error by the tuple that it quotes, one that came out of a tunnel as what came out. A claim is
//! visible before the first packet of its connection leaves, so an answer is never judged by somebody who doesn't know whose
//! it is; and no two workers give connections the same tuple.
//!
//! | what                       | with several workers                                                          |
//! |----------------------------|-------------------------------------------------------------------------------|
//! | connections                | each worker its own, `1/of` of the limit                                      |
//! | neighbours                 | each its own; every ARP packet is heard by all, answered by who received it    |
//! | gratuitous ARP             | the first worker                                                              |
//! | limits of ICMP errors      | each its own: a sender whose flows are spread may hear more                    |
//! | outer packets of tunnels   | no owner: nothing is translated about them                                     |
//! | bridges, bandwidth, affinity of services | can't be shared: see [`Share::undivided`]                        |
//!
//! A node whose configuration can't be divided is its first worker's: the others hand over all that arrives, and drivers soon
//! send everything there.
//!
//! A ring between workers that is full loses the frame, which whoever owns the ring counts: nobody waits for anybody.
//!
//! Cost: one comparison per batch; for a packet without a connection of one's own a look at two lines of the claims.

use alloc::sync::Arc;

use crate::config::nat::Target;
use crate::config::{PortId, PortKind, Shape, Snapshot};
use crate::table::claims::{Claims, WORKERS_MAX};

/// A router's place among those that make up a node. Without one a router is a node of its own.
#[derive(Clone, Debug)]
pub struct Share {
    index: u8,
    of: u8,
    claims: Arc<Claims>,
}

impl Share {
    /// The places of `of` routers that make up one node with at most so many connections.
    ///
    /// # Panics
    /// When `of` is not from 1 to 64.
    pub fn divide(of: usize, connections: u32, seed: u64) -> impl Iterator<Item = Self> {
        assert!((1..=WORKERS_MAX).contains(&of), "{of} workers");
        let of = u8::try_from(of).unwrap_or(1);
        let claims = Arc::new(Claims::new(connections, seed));
        (0..of).map(move |index| Self {
            index,
            of,
            claims: Arc::clone(&claims),
        })
    }

    /// Its number, from 0 on.
    #[must_use]
    pub const fn index(&self) -> u8 {
        self.index
    }

    /// Number of routers.
    #[must_use]
    pub const fn of(&self) -> u8 {
        self.of
    }

    /// Who has which tuple.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The numbers of the others.
    pub(crate) fn siblings(&self) -> impl Iterator<Item = u8> + use<> {
        let own = self.index;
        (0..self.of).filter(move |&index| index != own)
    }

    /// What of a limit is this router's.
    pub(crate) fn part(&self, limit: u32) -> u32 {
        limit.div_ceil(u32::from(self.of))
    }

    /// Why a node with this configuration can't be divided, if it can't.
    #[must_use]
    pub fn undivided(snapshot: &Snapshot) -> Option<Undivided> {
        let mut ports = snapshot.ports.iter();
        if ports.any(|p| p.bridge.is_some() || p.kind == PortKind::Bridge) {
            return Some(Undivided::Bridge);
        }
        if snapshot.ports.iter().any(|p| p.shape != Shape::default()) {
            return Some(Undivided::Bandwidth);
        }
        let remembers = |target: &Target| {
            matches!(
                target,
                Target::Dnat {
                    affinity: Some(_),
                    ..
                }
            )
        };
        let mut rules = snapshot.nat.chains.iter().flat_map(|chain| &chain.rules);
        rules
            .any(|rule| remembers(&rule.target))
            .then_some(Undivided::Affinity)
    }
}

/// What one worker alone must see all of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undivided {
    /// A bridge, with one forwarding database.
    Bridge,
    /// A port with a bandwidth limit.
    Bandwidth,
    /// A service that remembers which endpoint a client had.
    Affinity,
}

impl Undivided {
    /// Its name in messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "a bridge",
            Self::Bandwidth => "a bandwidth limit",
            Self::Affinity => "a service with session affinity",
        }
    }
}

impl PortId {
    /// Where a router sends what is to be handed over to worker `index` of its node. No port has such a number.
    #[must_use]
    pub const fn of_worker(index: u8) -> Self {
        Self(u16::MAX - 1 - index as u16)
    }

    /// The worker that [`of_worker`](Self::of_worker) names; none for the number of a port.
    #[must_use]
    pub fn worker(self) -> Option<u8> {
        let index = u8::try_from((u16::MAX - 1).checked_sub(self.0)?).ok()?;
        (usize::from(index) < WORKERS_MAX).then_some(index)
    }
}

//! One connection, laid out by who looks at it.
//!
//! What a packet of a known connection reads and writes besides its own bytes and what is the same for all packets:
//!
//! | where | read | written |
//! |---|---|---|
//! | table: the bucket of its key, seldom a second one | tag, place, direction | |
//! | [`Connection`] | tuples, status, ways, deadline; of UDP when it becomes a stream | deadline |
//! | [`Proto`], of TCP and SCTP alone | state | state |
//! | [`Aside`], timer wheel, journal, list by source | | when the connection begins, is answered, changes its state or ends |
//!
//! Each stands in an array of its own, so that connections without a state lie as densely as they can: what a look-up far
//! from the one before costs is, in good part, the address of its page.
//!
//! All of these lines are asked for a stage ahead (see [`ahead`](super::ahead)). A refresh that puts the deadline off is not
//! told to the wheel, which looks at the deadline when it comes up; to write it costs nothing more than the line, which
//! is there already.

use core::net::Ipv4Addr;

use super::list::Links;
use super::other::SctpState;
use super::tcp::TcpTrack;
use super::{CONFIRMED, Dir, TRANSLATED, Tuple};
use crate::config::PortId;
use crate::table::flow::FlowKey;
use crate::time::Instant;

/// What belongs to the protocol, of those that have more to say than how long a connection lives. One cache line, as what TCP
/// says is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proto {
    Tcp(TcpTrack),
    Sctp(SctpState),
    Other,
}

/// What to do with the packets of one direction, as long as the configuration is the one it was made under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Action {
    /// Of the configuration; never 0.
    pub(crate) generation: u32,
    /// Place of the ingress port.
    pub(crate) from: u16,
    /// Place of the egress port.
    pub(crate) to: u16,
    /// Next hop.
    pub(crate) next_hop: Ipv4Addr,
}

/// Place of no port.
const NOWHERE: u16 = u16::MAX;

/// A tuple as packets have it, but for the protocol, and the way that its packets take.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Direction {
    addresses: [u8; 8],
    ports: [u8; 4],
    /// [`NOWHERE`] when there is no way.
    from: u16,
    to: u16,
    next_hop: Ipv4Addr,
}

impl Direction {
    fn of(tuple: &Tuple) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (tuple.src.octets(), tuple.dst.octets());
        let ([p, q], [r, s]) = (tuple.sport.to_be_bytes(), tuple.dport.to_be_bytes());
        Self {
            addresses: [a, b, c, d, e, f, g, h],
            ports: [p, q, r, s],
            from: NOWHERE,
            to: NOWHERE,
            next_hop: Ipv4Addr::UNSPECIFIED,
        }
    }
}

/// A connection, as every packet sees it: one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Connection {
    pub(super) deadline: Instant,
    /// From when on it is a stream if there is traffic both ways, of UDP.
    pub(super) stream_at: Instant,
    /// By [`Dir`].
    directions: [Direction; 2],
    /// Of the configuration under which the ways were found.
    generation: u32,
    protocol: u8,
    pub(super) status: u8,
}

const _: () = assert!(size_of::<Connection>() == 64 && size_of::<Proto>() == 64);

/// The connection of the packet that is on its way, if it begins one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) conn: Connection,
    pub(super) proto: Proto,
    /// Port whose address it is masqueraded to.
    pub(super) masquerade: Option<PortId>,
}

impl Pending {
    /// Of nothing but tuples.
    pub(super) fn of(original: &Tuple, reply: &Tuple) -> Self {
        Self {
            conn: Connection::of(original, reply),
            proto: Proto::Other,
            masquerade: None,
        }
    }
}

/// What only the beginning and the end of a connection look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aside {
    /// Among connections that were never answered, oldest first; or among free places.
    pub(super) unassured: Links,
    /// Among translated connections from the same source.
    pub(super) siblings: Links,
    /// Port whose address it was masqueraded to.
    pub(super) masquerade: Option<PortId>,
}

impl Aside {
    pub(super) const NONE: Self = Self {
        unassured: Links::NONE,
        siblings: Links::NONE,
        masquerade: None,
    };
}

impl Connection {
    /// A connection of nothing but its tuples, that has no way and no time yet.
    pub(super) fn of(original: &Tuple, reply: &Tuple) -> Self {
        Self {
            deadline: Instant::ZERO,
            stream_at: Instant::ZERO,
            directions: [Direction::of(original), Direction::of(reply)],
            generation: 0,
            protocol: original.protocol,
            status: 0,
        }
    }

    /// One that is in the table.
    #[cfg(test)]
    pub(crate) fn made_of(original: &Tuple, reply: &Tuple) -> Self {
        let mut conn = Self::of(original, reply);
        conn.enter_table();
        conn
    }

    /// From now on it is in the table, and its tuples do not change any more.
    pub(super) fn enter_table(&mut self) {
        let [original, reply] = self.tuples();
        self.status |= CONFIRMED;
        if reply != original.invert() {
            self.status |= TRANSLATED;
        }
    }

    /// Original and reply.
    pub(super) fn tuples(&self) -> [Tuple; 2] {
        [self.tuple(Dir::Original), self.tuple(Dir::Reply)]
    }

    pub(super) fn set_reply(&mut self, reply: &Tuple) {
        self.directions[Dir::Reply.index()] = Direction::of(reply);
    }

    #[inline]
    pub(crate) fn tuple(&self, dir: Dir) -> Tuple {
        let Direction {
            addresses: [a, b, c, d, e, f, g, h],
            ports: [p, q, r, s],
            ..
        } = self.directions[dir.index()];
        Tuple {
            src: Ipv4Addr::new(a, b, c, d),
            dst: Ipv4Addr::new(e, f, g, h),
            sport: u16::from_be_bytes([p, q]),
            dport: u16::from_be_bytes([r, s]),
            protocol: self.protocol,
        }
    }

    /// The key of a direction's tuple.
    #[inline]
    pub(super) fn key(&self, dir: Dir) -> FlowKey {
        let Direction {
            addresses, ports, ..
        } = self.directions[dir.index()];
        Tuple::key_of(addresses, ports, self.protocol)
    }

    /// Whether it is in the table, and that direction's tuple has this key.
    #[inline]
    pub(super) fn is(&self, dir: Dir, key: FlowKey) -> bool {
        self.status & CONFIRMED != 0 && self.key(dir) == key
    }

    /// Whether it is in the table, and of the source with this [key](Tuple::source_key).
    pub(super) fn is_of_source(&self, key: FlowKey) -> bool {
        self.status & CONFIRMED != 0 && self.tuple(Dir::Original).source_key() == key
    }

    /// What packets of this direction are translated to: the answer to the other direction's tuple.
    pub(crate) fn target(&self, dir: Dir) -> Tuple {
        self.tuple(dir.other()).invert()
    }

    /// Whether packets are translated at all.
    #[inline]
    pub(crate) const fn is_translated(&self) -> bool {
        self.status & TRANSLATED != 0
    }

    /// The addresses and the ports of [`target`](Self::target), of a protocol with ports, as packets have them.
    #[inline]
    pub(crate) const fn target_ends(&self, dir: Dir) -> ([u8; 8], [u8; 4]) {
        let Direction {
            addresses: [a, b, c, d, e, f, g, h],
            ports: [p, q, r, s],
            ..
        } = self.directions[dir.other().index()];
        ([e, f, g, h, a, b, c, d], [r, s, p, q])
    }

    #[inline]
    pub(crate) const fn action(&self, dir: Dir) -> Action {
        let Direction {
            from, to, next_hop, ..
        } = self.directions[dir.index()];
        Action {
            generation: if from == NOWHERE { 0 } else { self.generation },
            from,
            to,
            next_hop,
        }
    }

    pub(super) fn set_action(&mut self, dir: Dir, action: Action) {
        if self.generation != action.generation {
            self.generation = action.generation;
            // The other direction's way is one of a former configuration.
            self.directions[dir.other().index()].from = NOWHERE;
        }
        let direction = &mut self.directions[dir.index()];
        direction.from = action.from;
        direction.to = action.to;
        direction.next_hop = action.next_hop;
    }
}

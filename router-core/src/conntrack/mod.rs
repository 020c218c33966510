//! Connection tracking as Linux models it (dataplane sections 4.1, 4.3, 4.5): which connection a packet belongs to, and
//! what state that is in.
//!
//! A connection is two tuples, the original one and that of its reply; both are keys of one [`Places`] table, whose values
//! name a place in an array of connections, where the tuples stand, and the direction. Translations only ever change the reply tuple of a
//! connection that is being made (`nat/`); so both directions are translated by looking at the other tuple.
//!
//! The first packet's connection is *pending* until the packet leaves or is delivered ([`Conntrack::confirm`]): if it is
//! dropped on the way, there never was one (NP-18). One packet is on its way at a time, so there is one pending place.
//!
//! Does not decide what happens to packets: it gives a [`Seen`], and the router and the nat table decide.
//!
//! # Cost
//! A packet of a known connection: one look-up in the flow table, one line of the connection, and of TCP and SCTP a second
//! one; what is where stands in `connection`. A refresh writes a timestamp; the timer wheel looks at it when the slot comes
//! up. Making and removing a connection is O(1), so is finding the oldest that never was answered when the table
//! is full. Nothing allocates after [`Conntrack::new`]. Memory for a connection: 3 keys of 7.3 bytes at most, 8 bytes of
//! timer links and [`CONNECTION_BYTES`]; only what was in use once is committed.

mod ahead;
mod connection;
mod journal;
mod list;
mod other;
mod shared;
mod tcp;
mod track;
mod tuple;
mod validate;
mod view;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use crate::arch;
use crate::config::PortId;
use crate::config::nat::ConntrackConfig;
use crate::share::Share;
use crate::table::flow::FlowKey;
use crate::table::places::{self, Places};
use crate::table::wheel::Wheel;
use crate::time::Instant;
use connection::{Aside, Pending, Proto};
use list::List;

pub(crate) use ahead::Guess;
pub(crate) use connection::{Action, Connection};
pub use journal::Change;
pub use tcp::TcpState;
pub(crate) use track::Seen;
pub use tuple::Tuple;
pub(crate) use tuple::has_ports;
pub use view::{Filter, Session};

/// Bytes of one connection in its arrays.
pub const CONNECTION_BYTES: usize =
    size_of::<Connection>() + size_of::<Proto>() + size_of::<Aside>();

/// Most connections that a table can be made for.
const MAX_LIMIT: u32 = 1 << 28;

/// Connections that one call of [`Conntrack::expire`] looks at, so that none takes long.
const EXPIRE_BUDGET: usize = 8192;

/// Direction of a packet within its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Dir {
    #[default]
    Original,
    Reply,
}

impl Dir {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// A connection's place in the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnId(u32);

/// There was an answer.
const SEEN_REPLY: u8 = 1;
/// It is a connection in earnest: not given up when the table is full.
const ASSURED: u8 = 2;
/// In the list of connections from its source.
const BY_SOURCE: u8 = 4;
/// In the table.
const CONFIRMED: u8 = 8;
/// In the journal's list of changes.
const QUEUED: u8 = 16;
/// Whoever keeps the journal has a copy.
const KEPT: u8 = 32;
/// Its reply is not the plain answer to its original.
const TRANSLATED: u8 = 64;

/// Why a connection was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConfirmError {
    /// The table is full, and every connection in it is in earnest.
    Full,
    /// One of its tuples is another connection's.
    Clash,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Conntrack {
    table: Places,
    conns: Vec<Connection>,
    /// As long as `conns`.
    protos: Vec<Proto>,
    /// As long as `conns`.
    asides: Vec<Aside>,
    /// Places that were used and are free, linked through `unassured`.
    free: List,
    unassured: List,
    wheel: Wheel,
    pending: Box<Pending>,
    /// The translation that the connection had which `pending` begins anew.
    hint: Option<Tuple>,
    len: usize,
    capacity: u32,
    limit: u32,
    config: ConntrackConfig,
    /// Where somebody keeps a copy of the table.
    journal: Option<Box<journal::Journal>>,
    /// Where other workers have connections of the same node.
    share: Option<Share>,
    /// Given up for new ones because the table was full.
    pub(crate) evicted: u64,
}

impl Conntrack {
    /// An empty table for as many connections as `config` says.
    pub(crate) fn new(config: &ConntrackConfig, seed: u64, share: Option<Share>) -> Self {
        let limit = share
            .as_ref()
            .map_or(config.limit, |s| s.part(config.limit));
        let capacity = limit.clamp(1, MAX_LIMIT);
        Self {
            table: Places::new(3 * capacity as usize, seed),
            conns: arch::room_for(capacity as usize),
            protos: arch::room_for(capacity as usize),
            asides: Vec::with_capacity(capacity as usize),
            free: List::EMPTY,
            unassured: List::EMPTY,
            wheel: Wheel::new(capacity as usize),
            pending: Box::new(Pending::of(&Tuple::NONE, &Tuple::NONE)),
            hint: None,
            len: 0,
            capacity,
            limit: capacity,
            config: config.clone(),
            journal: None,
            share,
            evicted: 0,
        }
    }

    /// New options. The table keeps the size it was made with; the limit may be lower.
    pub(crate) fn configure(&mut self, config: &ConntrackConfig) {
        let limit = self
            .share
            .as_ref()
            .map_or(config.limit, |s| s.part(config.limit));
        self.limit = limit.min(self.capacity);
        self.config = config.clone();
    }

    /// True when INVALID packets are dropped in any case.
    pub(crate) const fn drops_invalid(&self) -> bool {
        self.config.drop_invalid
    }

    /// Whether nobody but the node itself begins connections with 127/8.
    pub(crate) const fn keeps_localnet(&self) -> bool {
        self.config.localnet_local_only
    }

    /// Connections in the table.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes of address space of the table and everything beside it.
    pub(crate) fn bytes(&self) -> usize {
        self.table.bytes() + self.capacity as usize * (CONNECTION_BYTES + 8)
    }

    pub(crate) fn get(&self, id: ConnId) -> Option<&Connection> {
        self.conns.get(id.0 as usize)
    }

    fn get_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.conns.get_mut(id.0 as usize)
    }

    /// The connection that a packet with this tuple belongs to, and its direction there. One that has expired is
    /// removed and not found (NAT-67).
    #[inline]
    pub(crate) fn lookup(&mut self, now: Instant, tuple: &Tuple) -> Option<(ConnId, Dir)> {
        let found = self.find(tuple)?;
        if self.get(found.0)?.deadline <= now {
            self.kill(found.0);
            return None;
        }
        Some(found)
    }

    #[inline]
    fn find(&self, tuple: &Tuple) -> Option<(ConnId, Dir)> {
        let key = tuple.key();
        let is_it = |value| {
            let (id, dir) = entry(value);
            self.get(id).is_some_and(|conn| conn.is(dir, key))
        };
        Some(entry(self.table.get(key, is_it)?))
    }

    /// True when some connection's packets have this tuple, whichever worker's.
    pub(crate) fn taken(&mut self, now: Instant, tuple: &Tuple) -> bool {
        self.lookup(now, tuple).is_some() || self.owner(tuple).is_some()
    }

    /// The pending connection.
    pub(crate) const fn pending(&self) -> &Connection {
        &self.pending.conn
    }

    /// Says what the answer to the pending connection will look like.
    pub(crate) fn set_reply(&mut self, reply: Tuple, masquerade: Option<PortId>) {
        self.pending.conn.set_reply(&reply);
        if masquerade.is_some() {
            self.pending.masquerade = masquerade;
        }
    }

    /// The reply tuple that the connection had in whose place the pending one is.
    pub(crate) const fn hint(&self) -> Option<&Tuple> {
        self.hint.as_ref()
    }

    /// Puts the pending connection into the table.
    ///
    /// # Errors
    /// When it can't be; the table is as before, but that an unanswered connection may have been given up.
    pub(crate) fn confirm(&mut self, now: Instant) -> Result<ConnId, ConfirmError> {
        let [orig, reply] = self.pending.conn.tuples();
        if self.taken(now, &orig) || self.taken(now, &reply) {
            return Err(ConfirmError::Clash);
        }
        if self.len >= self.limit as usize {
            self.evict().ok_or(ConfirmError::Full)?;
        }
        let id = self.place().ok_or(ConfirmError::Full)?;
        if self.table.insert(orig.key(), id.0 << 1).is_err() {
            self.give_back(id);
            return Err(ConfirmError::Full);
        }
        // A packet to its own sender has one tuple for both directions.
        if reply != orig && self.table.insert(reply.key(), id.0 << 1 | 1).is_err() {
            self.table.remove(orig.key(), id.0 << 1);
            self.give_back(id);
            return Err(ConfirmError::Full);
        }
        if let Err(error) = self.claim(&orig, &reply) {
            self.leave_table(id, &orig, &reply);
            self.give_back(id);
            return Err(error);
        }
        let mut conn = self.pending.conn;
        // A copy of the connection that was here before may be left.
        let left = self.get(id).map_or(0, |before| before.status);
        conn.status |= left & (QUEUED | KEPT);
        conn.enter_table();
        let deadline = conn.deadline;
        if let Some(place) = self.conns.get_mut(id.0 as usize) {
            *place = conn;
        }
        if let Some(proto) = self.protos.get_mut(id.0 as usize) {
            *proto = self.pending.proto;
        }
        if let Some(aside) = self.asides.get_mut(id.0 as usize) {
            *aside = Aside {
                masquerade: self.pending.masquerade,
                ..Aside::NONE
            };
        }
        self.unassured
            .push_back(&mut self.asides, id.0, list::UNASSURED);
        self.join_siblings(id);
        self.wheel.arm(id.0, deadline);
        self.len += 1;
        self.note(id);
        Ok(id)
    }

    /// A place in the array that is free.
    fn place(&mut self) -> Option<ConnId> {
        if let Some(id) = self.free.pop_front(&mut self.asides, list::UNASSURED) {
            return Some(ConnId(id));
        }
        let id = u32::try_from(self.conns.len()).ok()?;
        if id >= self.capacity {
            return None;
        }
        self.conns.push(self.pending.conn);
        self.protos.push(self.pending.proto);
        self.asides.push(Aside::NONE);
        Some(ConnId(id))
    }

    fn give_back(&mut self, id: ConnId) {
        if let Some(conn) = self.get_mut(id) {
            conn.status &= QUEUED | KEPT;
        }
        self.free.push_back(&mut self.asides, id.0, list::UNASSURED);
    }

    /// Gives up the oldest connection that was never answered (NAT-66).
    fn evict(&mut self) -> Option<()> {
        let id = self.unassured.first()?;
        self.kill(ConnId(id));
        self.evicted += 1;
        Some(())
    }

    /// Removes a connection. Nothing happens when it is not in the table.
    pub(crate) fn kill(&mut self, id: ConnId) {
        let Some(conn) = self.get(id) else { return };
        if conn.status & CONFIRMED == 0 {
            return;
        }
        let ([orig, reply], status) = (conn.tuples(), conn.status);
        self.leave_table(id, &orig, &reply);
        self.release(&orig, &reply);
        if status & ASSURED == 0 {
            self.unassured
                .remove(&mut self.asides, id.0, list::UNASSURED);
        }
        if status & BY_SOURCE != 0 {
            self.leave_siblings(id);
        }
        self.wheel.disarm(id.0);
        self.give_back(id);
        self.len -= 1;
        if status & KEPT != 0 {
            self.note(id);
        }
    }

    fn leave_table(&mut self, id: ConnId, orig: &Tuple, reply: &Tuple) {
        self.table.remove(orig.key(), id.0 << 1);
        if reply != orig {
            self.table.remove(reply.key(), id.0 << 1 | 1);
        }
    }

    /// Lets a connection live for this long from now. The wheel is told only when that is sooner than before.
    #[inline]
    fn refresh(&mut self, id: ConnId, now: Instant, timeout: Duration) {
        let Some(conn) = self.get_mut(id) else { return };
        let deadline = now + timeout;
        let sooner = deadline < conn.deadline;
        conn.deadline = deadline;
        if sooner {
            self.wheel.arm(id.0, deadline);
        }
    }

    fn assure(&mut self, id: ConnId) {
        let Some(conn) = self.get_mut(id) else { return };
        if conn.status & ASSURED == 0 {
            conn.status |= ASSURED;
            self.unassured
                .remove(&mut self.asides, id.0, list::UNASSURED);
        }
    }

    pub(crate) fn set_action(&mut self, id: ConnId, dir: Dir, action: Action) {
        if let Some(conn) = self.get_mut(id) {
            conn.set_action(dir, action);
        }
    }

    /// Connections with a translated source stand in a list by that source (NAT-13).
    fn join_siblings(&mut self, id: ConnId) {
        let Some(conn) = self.get(id) else { return };
        let [orig, answer] = conn.tuples();
        if (answer.dst, answer.dport) == (orig.src, orig.sport) || !mapped_by_port(orig.protocol) {
            return;
        }
        let key = orig.source_key();
        let first = self.first_sibling(key);
        let mut list = List::of(first);
        list.push_front(&mut self.asides, id.0, list::SIBLINGS);
        let done = match first {
            Some(first) => self.table.replace(key, FIRST | first, FIRST | id.0),
            None => self.table.insert(key, FIRST | id.0).is_ok(),
        };
        if done && let Some(conn) = self.get_mut(id) {
            conn.status |= BY_SOURCE;
        }
    }

    fn leave_siblings(&mut self, id: ConnId) {
        let Some(conn) = self.get(id) else { return };
        let key = conn.tuple(Dir::Original).source_key();
        let before = self.first_sibling(key);
        let mut list = List::of(before);
        list.remove(&mut self.asides, id.0, list::SIBLINGS);
        match (before, list.first()) {
            (Some(before), Some(first)) => {
                self.table.replace(key, FIRST | before, FIRST | first);
            }
            (Some(before), None) => {
                self.table.remove(key, FIRST | before);
            }
            (None, _) => {}
        }
    }

    /// The first in the list of connections whose source has this key.
    fn first_sibling(&self, key: FlowKey) -> Option<u32> {
        let is_it = |value: u32| {
            value & FIRST != 0
                && self
                    .get(ConnId(value & !FIRST))
                    .is_some_and(|conn| conn.is_of_source(key))
        };
        Some(self.table.get(key, is_it)? & !FIRST)
    }

    /// The reply tuple of the youngest translated connection from the same source as `orig`.
    pub(crate) fn sibling(&self, orig: &Tuple) -> Option<Tuple> {
        let id = self.first_sibling(orig.source_key())?;
        Some(self.conns.get(id as usize)?.tuple(Dir::Reply))
    }

    /// When [`Conntrack::expire`] wants to be called.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.wheel.next_deadline()
    }

    /// Removes what has expired; gives the number. What is left over because there was much of it is due at once.
    pub(crate) fn expire(&mut self, now: Instant) -> usize {
        let mut removed = 0;
        for _ in 0..EXPIRE_BUDGET {
            let Some(id) = self.wheel.due(now) else { break };
            let Some(deadline) = self.conns.get(id as usize).map(|c| c.deadline) else {
                continue;
            };
            if deadline <= now {
                self.kill(ConnId(id));
                removed += 1;
            } else {
                self.wheel.arm(id, deadline);
            }
        }
        removed
    }
}

/// Set in a value of the table: it names the first connection of a source.
const FIRST: u32 = 1 << 30;
const _: () = assert!(MAX_LIMIT << 1 <= FIRST && FIRST | MAX_LIMIT <= places::MOST);

/// What a value of the table names.
#[inline]
const fn entry(value: u32) -> (ConnId, Dir) {
    let dir = if value & 1 == 0 {
        Dir::Original
    } else {
        Dir::Reply
    };
    (ConnId(value >> 1), dir)
}

/// True for protocols whose translations differ by a port or identifier.
pub(crate) const fn mapped_by_port(protocol: u8) -> bool {
    has_ports(protocol) || protocol == crate::wire::ipv4::PROTOCOL_ICMP
}

//! Connections as the control plane sees them: listed, removed by what they have in common, and put back after a node
//! process has died (decision 10).
//!
//! Cost: a walk over the array; none of this is on the way of packets.

use core::net::Ipv4Addr;
use core::time::Duration;

use super::other::{STREAM_AFTER, SctpState};
use super::tcp::{TcpState, TcpTrack};
use super::{
    ASSURED, Aside, CONFIRMED, ConnId, Connection, Conntrack, Dir, Pending, Proto, SEEN_REPLY,
    Tuple,
};
use crate::config::PortId;
use crate::time::Instant;
use crate::wire::ipv4::{PROTOCOL_SCTP, PROTOCOL_TCP};

/// A connection, with all that is needed to go on with it elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Session {
    /// As the one who began it sends.
    pub original: Tuple,
    /// As the other side answers: what the original was translated to, turned round.
    pub reply: Tuple,
    /// Until it is removed, if nothing comes.
    pub expires_in: Duration,
    /// State, of TCP alone.
    pub tcp: Option<TcpState>,
    /// There was an answer: printed as `[UNREPLIED]` when not.
    pub replied: bool,
    /// Not given up when the table is full: printed as `[ASSURED]`.
    pub assured: bool,
    /// The port whose address it was masqueraded to.
    pub masquerade: Option<PortId>,
}

impl Session {
    pub(super) fn of(conn: &Connection, proto: &Proto, aside: &Aside, now: Instant) -> Self {
        Self {
            original: conn.tuple(Dir::Original),
            reply: conn.tuple(Dir::Reply),
            expires_in: conn.deadline.since(now),
            tcp: match proto {
                Proto::Tcp(track) => Some(track.state),
                _ => None,
            },
            replied: conn.status & SEEN_REPLY != 0,
            assured: conn.status & ASSURED != 0,
            masquerade: aside.masquerade,
        }
    }

    /// True when its source is translated.
    #[must_use]
    pub fn source_translated(&self) -> bool {
        let plain = self.original.invert();
        (self.reply.dst, self.reply.dport) != (plain.dst, plain.dport)
    }

    /// True when its destination is translated.
    #[must_use]
    pub fn destination_translated(&self) -> bool {
        let plain = self.original.invert();
        (self.reply.src, self.reply.sport) != (plain.src, plain.sport)
    }
}

/// Which connections: all of these must hold, one that is not set holds always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Filter {
    /// Protocol number.
    pub protocol: Option<u8>,
    /// Original source.
    pub src: Option<Ipv4Addr>,
    /// Original destination.
    pub dst: Option<Ipv4Addr>,
    /// Original source port.
    pub sport: Option<u16>,
    /// Original destination port.
    pub dport: Option<u16>,
    /// Source of the reply.
    pub reply_src: Option<Ipv4Addr>,
    /// Destination of the reply.
    pub reply_dst: Option<Ipv4Addr>,
    /// Original source, original destination or source of the reply: a pod's address, whose connections must not pass to
    /// the next pod that has it (NAT-69).
    pub involves: Option<Ipv4Addr>,
}

impl Filter {
    /// True for this connection.
    #[must_use]
    pub fn holds(&self, original: &Tuple, reply: &Tuple) -> bool {
        let is = |wanted: Option<Ipv4Addr>, addr| wanted.is_none_or(|w| w == addr);
        self.protocol.is_none_or(|p| p == original.protocol)
            && is(self.src, original.src)
            && is(self.dst, original.dst)
            && self.sport.is_none_or(|p| p == original.sport)
            && self.dport.is_none_or(|p| p == original.dport)
            && is(self.reply_src, reply.src)
            && is(self.reply_dst, reply.dst)
            && self
                .involves
                .is_none_or(|a| [original.src, original.dst, reply.src].contains(&a))
    }
}

impl Conntrack {
    /// Every connection that has not expired, in no particular order.
    pub(crate) fn sessions(&self, now: Instant) -> impl Iterator<Item = Session> + '_ {
        self.conns
            .iter()
            .zip(self.protos.iter().zip(&self.asides))
            .filter(move |(conn, _)| conn.status & CONFIRMED != 0 && conn.deadline > now)
            .map(move |(conn, (proto, aside))| Session::of(conn, proto, aside, now))
    }

    /// Removes the connections that `which` is true for; gives their number.
    pub(crate) fn flush(
        &mut self,
        which: impl Fn(&Tuple, &Tuple, Option<PortId>) -> bool,
    ) -> usize {
        let mut removed = 0;
        for id in 0..u32::try_from(self.conns.len()).unwrap_or(u32::MAX) {
            let at = id as usize;
            let goes = self
                .conns
                .get(at)
                .zip(self.asides.get(at))
                .is_some_and(|(conn, aside)| {
                    let [original, reply] = conn.tuples();
                    conn.status & CONFIRMED != 0 && which(&original, &reply, aside.masquerade)
                });
            if goes {
                self.kill(ConnId(id));
                removed += 1;
            }
        }
        removed
    }

    /// Puts a connection in that another router's [`Conntrack::sessions`] gave. False when it does not fit any more: a
    /// tuple is taken, or the table is full.
    ///
    /// Of TCP only the state is known: windows are learned again, as of a connection that is picked up (NAT-33).
    pub(crate) fn import(&mut self, now: Instant, session: &Session) -> bool {
        if self.len >= self.limit as usize {
            return false;
        }
        let pending = &mut *self.pending;
        *pending = Pending::of(&session.original, &session.reply);
        pending.conn.deadline = now + session.expires_in;
        pending.proto = match session.original.protocol {
            PROTOCOL_TCP => Proto::Tcp(TcpTrack::restored(session.tcp.unwrap_or_default())),
            PROTOCOL_SCTP if session.assured => Proto::Sctp(SctpState::Established),
            PROTOCOL_SCTP => Proto::Sctp(SctpState::Opening),
            _ => Proto::Other,
        };
        // A stream stays one; the others have two seconds to become one, as new ones have.
        if !session.assured {
            pending.conn.stream_at = now + STREAM_AFTER;
        }
        pending.conn.status = if session.replied { SEEN_REPLY } else { 0 };
        pending.masquerade = session.masquerade;
        match self.confirm(now) {
            Ok(id) => {
                if session.assured {
                    self.assure(id);
                }
                true
            }
            Err(_) => false,
        }
    }
}

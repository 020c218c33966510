//! From a packet to its connection.

use super::other::{self, SctpState};
use super::tcp::{Outcome, TcpTrack};
use super::tuple::icmp_asks;
use super::validate;
use super::{ASSURED, ConnId, Conntrack, Dir, Pending, Proto, SEEN_REPLY, Tuple};
use crate::time::Instant;
use crate::wire::icmpv4;
use crate::wire::ipv4::{
    Ipv4, PROTOCOL_ICMP, PROTOCOL_IPIP, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP,
};
use crate::wire::sctp;
use crate::wire::tcp::Tcp;

/// What a packet is to the connections (NAT-6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nobody looked.
    #[default]
    Untracked,
    /// It belongs to no connection and begins none.
    Invalid,
    /// It begins one, which is pending.
    New,
    /// It belongs to this one.
    Known {
        /// Which.
        id: ConnId,
        /// In which direction.
        dir: Dir,
        /// There was an answer before, or this is one.
        established: bool,
    },
    /// It is an ICMP error about a packet of this one, and travels in this direction.
    Related {
        /// Which.
        id: ConnId,
        /// In which direction.
        dir: Dir,
    },
    /// It belongs to a connection of this worker of the node, or is an error about one.
    Elsewhere(u8),
}

impl Conntrack {
    /// Looks at a datagram whose IP header was validated. `check` says whether its checksums are to be looked at: not on
    /// what the node itself sends. What was `handed` over is this worker's, whoever has it.
    pub(crate) fn track(&mut self, now: Instant, ip: &Ipv4<'_>, check: bool, handed: bool) -> Seen {
        self.hint = None;
        if !validate::is_valid(ip, check && self.config.checksum) {
            return Seen::Invalid;
        }
        if ip.protocol() == PROTOCOL_ICMP
            && ip.payload().first().is_some_and(|&k| icmpv4::is_error(k))
        {
            return self.related(now, ip, handed);
        }
        // ICMP that is neither an error nor a query; routers' own business.
        let Some(tuple) = Tuple::of(ip) else {
            return Seen::Invalid;
        };
        match self.lookup(now, &tuple) {
            Some((id, dir)) => self.continued(now, ip, &tuple, id, dir),
            None => match self.elsewhere(&tuple, handed) {
                Some(worker) => Seen::Elsewhere(worker),
                None => self.begin(now, ip, &tuple),
            },
        }
    }

    /// A packet without a connection.
    fn begin(&mut self, now: Instant, ip: &Ipv4<'_>, tuple: &Tuple) -> Seen {
        let config = &self.config;
        let timers = &config.timers;
        let (proto, timeout) = match tuple.protocol {
            PROTOCOL_TCP => {
                let Some(tcp) = Tcp::of(ip) else {
                    return Seen::Invalid;
                };
                let Some(mut track) = TcpTrack::begin(&tcp, config.tcp_loose) else {
                    return Seen::Invalid;
                };
                match track.segment(&tcp, Dir::Original, false, false, config) {
                    Outcome::Valid { timeout, .. } => {
                        (Proto::Tcp(track), timeout.unwrap_or(timers.tcp_syn_sent))
                    }
                    _ => return Seen::Invalid,
                }
            }
            PROTOCOL_UDP => (Proto::Other, timers.udp),
            PROTOCOL_SCTP => {
                let first = sctp::first_chunk(ip.payload());
                let Some(state) = first.and_then(SctpState::begin) else {
                    return Seen::Invalid;
                };
                (Proto::Sctp(state), state.timeout(timers))
            }
            PROTOCOL_ICMP if !icmp_asks(tuple.icmp_kind()) => return Seen::Invalid,
            protocol => (Proto::Other, other::any(protocol, false, timers).0),
        };
        let pending = &mut *self.pending;
        *pending = Pending::of(tuple, &tuple.invert());
        pending.conn.deadline = now + timeout;
        pending.conn.stream_at = now + other::STREAM_AFTER;
        pending.proto = proto;
        Seen::New
    }

    /// A packet of a known connection.
    pub(super) fn continued(
        &mut self,
        now: Instant,
        ip: &Ipv4<'_>,
        tuple: &Tuple,
        id: ConnId,
        dir: Dir,
    ) -> Seen {
        let Self {
            conns,
            protos,
            config,
            ..
        } = self;
        let at = id.0 as usize;
        let (Some(conn), Some(proto)) = (conns.get_mut(at), protos.get_mut(at)) else {
            return Seen::Invalid;
        };
        let replied = conn.status & SEEN_REPLY != 0;
        let assured = conn.status & ASSURED != 0;
        let timers = &config.timers;
        let first_reply = !replied && dir == Dir::Reply;
        let refreshes = dir == Dir::Original || config.inbound_refresh;
        let mut changed = false;
        let (timeout, now_assured) = match proto {
            Proto::Tcp(track) => {
                let Some(tcp) = Tcp::of(ip) else {
                    return Seen::Invalid;
                };
                let before = track.state;
                let outcome = track.segment(&tcp, dir, replied, assured, config);
                changed = track.state != before;
                // For a SYN that opens again what is over, the translation stays (NAT-36).
                match outcome {
                    Outcome::Valid { timeout, assured } => (timeout, assured),
                    Outcome::Invalid => return Seen::Invalid,
                    Outcome::InvalidShrink(most) => {
                        if conn.deadline > now + most {
                            self.refresh(id, now, most);
                        }
                        return Seen::Invalid;
                    }
                    Outcome::Reopen => {
                        let reply = conn.tuple(Dir::Reply);
                        self.kill(id);
                        let seen = self.begin(now, ip, tuple);
                        if dir == Dir::Original {
                            self.hint = Some(reply);
                        }
                        return seen;
                    }
                    // Still there for this packet, and gone for the next.
                    Outcome::Kill => (Some(core::time::Duration::ZERO), false),
                }
            }
            Proto::Sctp(state) => {
                if let Some(chunk) = sctp::first_chunk(ip.payload()) {
                    *state = state.after(chunk, replied || dir == Dir::Reply);
                }
                let established = *state == SctpState::Established;
                (Some(state.timeout(timers)), established)
            }
            Proto::Other if tuple.protocol == PROTOCOL_UDP => {
                let (timeout, stream) = other::udp(now, conn.stream_at, replied, timers);
                (refreshes.then_some(timeout), stream)
            }
            Proto::Other => {
                let replied = replied || dir == Dir::Reply;
                let (timeout, stream) = other::any(tuple.protocol, replied, timers);
                (refreshes.then_some(timeout), stream)
            }
        };
        if dir == Dir::Reply {
            conn.status |= SEEN_REPLY;
        }
        if let Some(timeout) = timeout {
            self.refresh(id, now, timeout);
        }
        if now_assured {
            self.assure(id);
        }
        if changed || first_reply || (now_assured && !assured) {
            self.note(id);
        }
        Seen::Known {
            id,
            dir,
            established: replied || dir == Dir::Reply,
        }
    }

    /// An ICMP error: about which connection? What it quotes travelled the other way. It refreshes nothing (NAT-55).
    fn related(&mut self, now: Instant, ip: &Ipv4<'_>, handed: bool) -> Seen {
        let quoted = ip
            .payload()
            .get(icmpv4::HEADER_LEN..)
            .and_then(Ipv4::peek)
            .filter(|quoted| quoted.payload().len() >= 8)
            .and_then(|quoted| Tuple::of(&quoted));
        let Some(quoted) = quoted else {
            return Seen::Invalid;
        };
        let answer = quoted.invert();
        let found = self.lookup(now, &answer);
        if found.is_none()
            && let Some(worker) = self.elsewhere(&answer, handed)
        {
            return Seen::Elsewhere(worker);
        }
        match found {
            // Sent to whoever sent what it quotes, and nobody else.
            Some((id, dir)) if quoted.src == ip.dst() => Seen::Related { id, dir },
            // The tunnel's own outer packets are nobody's connection; the tunnel hears of them.
            None if quoted.protocol == PROTOCOL_IPIP => Seen::Untracked,
            _ => Seen::Invalid,
        }
    }
}

//! The plain path of a node that tracks connections.
//!
//! A packet whose connection and direction have been through the [packet path](super::super) under this configuration goes
//! the same way: rules, routes and policy have said of its first packets what they would say of it. What remains is to take
//! it into account, to translate it and to send it, in stages over groups of the batch:
//!
//! ```text
//!  a group ─> look (header) ─> buckets of all keys ─> connections of all packets ─> one after the other, in order:
//!                                                           known way ─> neigh ─> conntrack ─> translate, TTL, MACs ─> tx
//!                                                           else ──> conntrack, and on from there the long way
//!                                                           not plain ──> receive
//! ```
//!
//! The connections that were looked up ahead are guesses, as packets before may end them: see `conntrack::ahead`.
//!
//! Cost: for a packet of a known connection one bucket and one or two lines of the connection, all asked for while the
//! group before is at work.

use core::net::Ipv4Addr;
use core::ops::Range;
use core::slice;

use super::egress::Egress;
use super::look::{Look, Seen};
use super::{ABSENT, AHEAD, Counts, HEADERS, Plain};
use crate::addr::Mac;
use crate::config::PortConfig;
use crate::conntrack::{Guess, Tuple};
use crate::frame::{BATCH_MAX, Batch, Frame};
use crate::l2::{Link, Payload};
use crate::nat::{Context, Nat};
use crate::router::{Io, Router, form, packet};
use crate::segment;
use crate::shape::Shaper;
use crate::table::flow::FlowKey;
use crate::time::Instant;
use crate::wire::ethernet::HEADER_LEN;
use crate::wire::ipv4::{Ipv4, PROTOCOL_TCP, PROTOCOL_UDP};

/// Frames that are in the same stage.
const GROUP: usize = 32;

/// Next hops that are remembered: as many as six bits tell apart.
const RECENT: usize = 1 << 6;

/// What a node that tracks knows of the batch at hand, and of the one before.
#[derive(Debug)]
pub(super) struct Flows {
    guesses: [Guess; BATCH_MAX],
    recent: Recent,
}

/// Next hops that connections have lately been sent to.
#[derive(Debug)]
struct Recent([Egress; RECENT]);

impl Default for Flows {
    fn default() -> Self {
        Self {
            guesses: [Guess::NONE; BATCH_MAX],
            recent: Recent([Egress::NOT_PLAIN; RECENT]),
        }
    }
}

impl Flows {
    pub(super) fn forget_next_hops(&mut self) {
        self.recent = Recent([Egress::NOT_PLAIN; RECENT]);
    }
}

impl Recent {
    /// What is remembered of a next hop, or can be. None where packets to it are not plain.
    #[inline]
    fn egress(
        &mut self,
        (slot, next_hop): (usize, Ipv4Addr),
        ports: &[PortConfig],
        shaper: Option<&Shaper>,
    ) -> Option<&mut Egress> {
        // Fibonacci hashing, so that next hops that count up with their ports do not meet. A next hop of a port that is not
        // plain is never found there.
        let both = u64::from(next_hop.to_bits()) ^ (slot as u64) << 32;
        let hash = both.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let place = (hash >> 58) as usize;
        let egress = self.0.get_mut(place)?;
        if !egress.is_by(slot, next_hop) {
            *egress = Egress::by(slot, ports.get(slot)?, Some(next_hop), shaper)?;
        }
        Some(egress)
    }
}

/// The key of a packet that is plain, with the frame's first bytes; none where it has no tuple.
#[inline]
fn key(frame: &Frame) -> Option<FlowKey> {
    let h = frame.first::<{ HEADERS + 4 }>()?;
    let protocol = h[23];
    if matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP) {
        let addresses = h[26..].first_chunk()?;
        let ports = h[34..].first_chunk()?;
        return Some(Tuple::key_of(*addresses, *ports, protocol));
    }
    let tuple = Tuple::of(&Ipv4::peek(packet(frame))?)?;
    Some(tuple.key())
}

impl Plain {
    /// Looks at these frames of the batch, and asks for where the connections stand that they belong to. `rest` is what is
    /// left of the batch, from frame `done` on.
    fn look_and_ask(&mut self, rest: &[Frame], done: usize, group: Range<usize>, nat: &Nat) {
        let Self {
            seen,
            ingress,
            flows,
            ..
        } = self;
        let mut look = Look::new(ingress);
        let places = seen.iter_mut().zip(&mut flows.guesses);
        let places = places.take(group.end).skip(group.start);
        for (n, (seen, guess)) in (group.start.saturating_sub(done)..).zip(places) {
            let Some(frame) = rest.get(n) else { break };
            if let Some(later) = rest.get(n + AHEAD) {
                later.prefetch();
            }
            *guess = Guess::NONE;
            if look.at(frame, seen).is_none() {
                *seen = Seen::NOT_PLAIN;
            } else if let Some(key) = key(frame) {
                *guess = nat.look_for(key);
            }
        }
        nat.ask(flows.guesses.get(group).unwrap_or_default());
    }

    /// Looks up what was asked for.
    fn guess(&mut self, group: Range<usize>, nat: &Nat) {
        let guesses = self.flows.guesses.get_mut(group);
        nat.guess(guesses.unwrap_or_default());
    }
}

/// Why a frame does not go where its connection went before.
enum Stop {
    /// It is not plain.
    NotPlain,
    /// Its length as it came, and what it is to the connections if that was asked.
    Otherwise(usize, Context),
}

impl Router {
    /// Takes the frames of a batch through the stages, a group after the other: while one is sent, the connections of the
    /// next and the buckets of the one after that are on their way. As long as all go where their connections went before,
    /// they are changed where they are, and leave as one batch.
    pub(in crate::router) fn track(&mut self, rx: &mut Batch, io: &mut Io<'_>) {
        let mut counts = Counts::default();
        let all = rx.len();
        let group = |nth: usize| (nth * GROUP).min(all)..((nth + 1) * GROUP).min(all);
        // Frames that go where they went before, first of all the others.
        let mut done = 0;
        let mut stop = None;
        let mut nth = 0;
        self.prepare(0, group, rx.as_slice(), 0);
        self.prepare(1, group, rx.as_slice(), 0);
        while done < all && stop.is_none() {
            self.prepare(nth + 2, group, rx.as_slice(), 0);
            let frames = rx.as_mut_slice().get_mut(group(nth)).unwrap_or_default();
            let (plain, why) = self.pass_known(done, frames, &mut counts, io.now);
            (done, stop) = (done + plain, why);
            nth += 1;
        }
        let ways_out = &self.plain.ways_out;
        io.tx.name_ports(ways_out.get(..done).unwrap_or(ways_out));
        io.tx.take_named(rx);
        let mut frames = rx.drain();
        while done < all {
            for n in done..group(nth - 1).end {
                let Some(mut frame) = frames.next() else {
                    break;
                };
                let why = stop.take().or_else(|| {
                    let frames = slice::from_mut(&mut frame);
                    self.pass_known(n, frames, &mut counts, io.now).1
                });
                match (why, self.plain.ways_out.get(n)) {
                    (None, Some(&port)) => io.tx.push(port, frame),
                    (Some(why), _) => self.go_otherwise(n, frame, why, io),
                    (None, None) => self.receive(frame, io),
                }
            }
            done = group(nth - 1).end;
            self.prepare(nth + 2, group, frames.as_slice(), done);
            nth += 1;
        }
        self.count_plain(counts, io);
    }

    /// Looks at the frames of a group and asks for what the group before it looks up. `rest` is what is left of the batch,
    /// from frame `done` on.
    fn prepare(
        &mut self,
        nth: usize,
        group: impl Fn(usize) -> Range<usize>,
        rest: &[Frame],
        done: usize,
    ) {
        let (plain, Some(nat)) = (&mut self.plain, &self.nat) else {
            return;
        };
        if let Some(before) = nth.checked_sub(1) {
            plain.guess(group(before), nat);
        }
        plain.look_and_ask(rest, done, group(nth), nat);
    }

    /// Makes `frames`, the first of which is the one with number `first` in its batch, what they leave as where their
    /// connections went before, and counts them: up to the first that goes otherwise. Number of frames, whose ports are in
    /// `ways_out`, and what is known of that one.
    fn pass_known(
        &mut self,
        first: usize,
        frames: &mut [Frame],
        counts: &mut Counts,
        now: Instant,
    ) -> (usize, Option<Stop>) {
        let Self {
            plain,
            nat: Some(nat),
            snapshot,
            neighbours,
            shaper,
            stats,
            ..
        } = self
        else {
            return (0, Some(Stop::NotPlain));
        };
        let Plain {
            seen,
            flows,
            ways_out,
            clock,
            #[cfg(any(test, feature = "testing"))]
            forwarded,
            #[cfg(any(test, feature = "testing"))]
            passed,
            ..
        } = &mut **plain;
        let Flows { guesses, recent } = flows;
        let first = first.min(BATCH_MAX);
        let shown = seen[first..].iter().zip(&guesses[first..]);
        let all = frames.iter_mut().zip(shown).zip(&mut ways_out[first..]);
        let mut done = 0;
        for ((frame, (&seen, guess)), way_out) in all {
            if seen.slot() == ABSENT {
                return (done, Some(Stop::NotPlain));
            }
            #[cfg(any(test, feature = "testing"))]
            {
                *forwarded += 1;
            }
            let len = HEADER_LEN + usize::from(seen.total_len());
            let received = frame.trim(len);
            let way = nat.way(now, guess, seen.slot()).and_then(|way| {
                let (to, ports) = ((way.to, way.next_hop), &snapshot.ports);
                let egress = recent.egress(to, ports, shaper.as_deref())?;
                let dst = u32::from_ne_bytes(way.next_hop.octets());
                let moment = clock.moment(now, neighbours);
                let may = seen.longest() <= egress.mtu && egress.resolve(dst, &moment, neighbours);
                may.then_some((way, egress))
            });
            let Some((way, egress)) = way else {
                return (done, Some(Stop::Otherwise(received, Context::default())));
            };
            let form = form(frame);
            let Some((link, packet)) = frame.bytes_mut().split_first_chunk_mut() else {
                return (done, Some(Stop::NotPlain));
            };
            if let Err(context) = nat.pass(now, form, packet, &way) {
                return (done, Some(Stop::Otherwise(received, context)));
            }
            *link = egress.header;
            *way_out = egress.port;
            counts.turn_to((seen.slot(), egress.slot), stats);
            counts.add(received, len);
            counts.add_more(seen);
            done += 1;
            #[cfg(any(test, feature = "testing"))]
            {
                *passed += 1;
            }
        }
        (done, None)
    }

    /// Takes frame `n` of the batch, which does not go where its connection went before, on from where that was seen.
    #[inline(never)]
    fn go_otherwise(&mut self, n: usize, frame: Frame, why: Stop, io: &mut Io<'_>) {
        match (why, self.plain.seen.get(n)) {
            (Stop::Otherwise(received, context), Some(&seen)) => {
                self.go_on_from_conntrack(frame, (seen, received), context, io);
            }
            _ => self.receive(frame, io),
        }
    }

    /// Takes a plain packet on from conntrack, which may have been asked already.
    fn go_on_from_conntrack(
        &mut self,
        frame: Frame,
        (seen, received): (Seen, usize),
        context: Context,
        io: &mut Io<'_>,
    ) {
        let slot = usize::from(seen.slot());
        let port = self.snapshot.ports.get(slot);
        let link = Link {
            slot,
            from_host: false,
            // What a plain frame is for.
            dst: port.map_or(Mac::ZERO, |port| port.mac),
            payload: Payload::Ipv4,
        };
        let size = (received, 1 + usize::from(seen.more()));
        self.stats.count_rx(Some(slot), size);
        self.validated(frame, link, context, io);
    }

    /// [`transmit`](Self::transmit) of a packet that goes where its connection went before.
    #[inline]
    pub(in crate::router) fn transmit_again(
        &mut self,
        mut frame: Frame,
        slot: usize,
        next_hop: Ipv4Addr,
        io: &mut Io<'_>,
    ) {
        let (ports, shaper) = (&self.snapshot.ports, self.shaper.as_deref());
        let egress = self
            .plain
            .flows
            .recent
            .egress((slot, next_hop), ports, shaper)
            .filter(|_| !frame.mark().is_set());
        let Some(egress) = egress else {
            return self.transmit(frame, slot, next_hop, io);
        };
        let dst = u32::from_ne_bytes(next_hop.octets());
        let moment = self.plain.clock.moment(io.now, &self.neighbours);
        if !egress.resolve(dst, &moment, &mut self.neighbours) {
            return self.transmit(frame, slot, next_hop, io);
        }
        if let Some(link) = frame.first_mut() {
            *link = egress.header;
        }
        frame.forget_tunnels();
        let size = (frame.len(), segment::count(&frame));
        self.stats.count_tx(slot, size);
        io.tx.push(egress.port, frame);
    }
}

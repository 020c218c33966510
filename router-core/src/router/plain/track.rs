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

use super::egress::Egress;
use super::look::{Seen, look_at};
use super::{ABSENT, AHEAD, Counts, HEADERS, Plain};
use crate::addr::Mac;
use crate::config::PortConfig;
use crate::conntrack::{Guess, Tuple};
use crate::frame::{BATCH_MAX, Batch, Frame};
use crate::l2::{Link, Payload};
use crate::nat::{Context, Nat};
use crate::router::{Io, Router, form, packet, packet_mut};
use crate::segment;
use crate::shape::Shaper;
use crate::table::flow::FlowKey;
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
    /// Next hops that connections have lately been sent to.
    recent: [Egress; RECENT],
}

impl Default for Flows {
    fn default() -> Self {
        Self {
            guesses: [Guess::NONE; BATCH_MAX],
            recent: [Egress::NOT_PLAIN; RECENT],
        }
    }
}

impl Flows {
    pub(super) fn forget_next_hops(&mut self) {
        self.recent = [Egress::NOT_PLAIN; RECENT];
    }

    /// What is remembered of a next hop, or can be. None where packets to it are not plain.
    #[inline]
    fn egress(
        &mut self,
        slot: usize,
        next_hop: Ipv4Addr,
        ports: &[PortConfig],
        shaper: Option<&Shaper>,
    ) -> Option<&mut Egress> {
        // Fibonacci hashing, so that next hops that count up with their ports do not meet. A next hop of a port that is not
        // plain is never found there.
        let both = u64::from(next_hop.to_bits()) ^ (slot as u64) << 32;
        let hash = both.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let place = (hash >> 58) as usize;
        let egress = self.recent.get_mut(place)?;
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
        let places = seen.iter_mut().zip(&mut flows.guesses);
        let places = places.take(group.end).skip(group.start);
        for (n, (seen, guess)) in (group.start.saturating_sub(done)..).zip(places) {
            let Some(frame) = rest.get(n) else { break };
            if let Some(later) = rest.get(n + AHEAD) {
                later.prefetch();
            }
            if look_at(frame, ingress, seen).is_none() {
                *seen = Seen::NOT_PLAIN;
            }
            *guess = if seen.slot == ABSENT {
                Guess::NONE
            } else {
                key(frame).map_or(Guess::NONE, |key| nat.look_for(key))
            };
        }
        nat.ask(flows.guesses.get(group).unwrap_or_default());
    }

    /// Looks up what was asked for.
    fn guess(&mut self, group: Range<usize>, nat: &Nat) {
        let guesses = self.flows.guesses.get_mut(group);
        nat.guess(guesses.unwrap_or_default());
    }
}

impl Router {
    /// Takes the frames of a batch through the stages, a group after the other: while one is sent, the connections of the
    /// next and the buckets of the one after that are on their way.
    pub(in crate::router) fn track(&mut self, rx: &mut Batch, io: &mut Io<'_>) {
        let mut counts = Counts::default();
        let mut frames = rx.drain();
        let all = frames.len();
        let group = |nth: usize| (nth * GROUP).min(all)..((nth + 1) * GROUP).min(all);
        // Groups begun, and the stage that each is in.
        for begun in 0..all.div_ceil(GROUP) + 2 {
            let done = all - frames.len();
            if let (plain, Some(nat)) = (&mut self.plain, &self.nat) {
                if let Some(second) = begun.checked_sub(1) {
                    plain.guess(group(second), nat);
                }
                plain.look_and_ask(frames.as_slice(), done, group(begun), nat);
            }
            let Some(third) = begun.checked_sub(2) else {
                continue;
            };
            for (n, frame) in group(third).zip(&mut frames) {
                if let Err(frame) = self.track_plain(n, frame, &mut counts, io) {
                    self.receive(frame, io);
                }
            }
        }
        self.count_plain(counts, io);
    }

    /// Sends frame `n` of the batch that was looked at where its connection went before, if it is
    /// plain, or takes it past the first stages; gives it back when it is not plain.
    #[inline]
    fn track_plain(
        &mut self,
        n: usize,
        mut frame: Frame,
        counts: &mut Counts,
        io: &mut Io<'_>,
    ) -> Result<(), Frame> {
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
            return Err(frame);
        };
        let (Some(seen), Some(guess)) = (plain.seen.get(n), plain.flows.guesses.get(n)) else {
            return Err(frame);
        };
        let (seen, guess) = (*seen, *guess);
        if seen.slot == ABSENT {
            return Err(frame);
        }
        #[cfg(any(test, feature = "testing"))]
        {
            plain.forwarded += 1;
        }
        let received = frame.len();
        frame.truncate(HEADER_LEN + usize::from(seen.total_len));
        let way = nat.way(io.now, &guess, seen.slot).and_then(|way| {
            let (flows, ports) = (&mut plain.flows, &snapshot.ports);
            let egress = flows.egress(way.to, way.next_hop, ports, shaper.as_deref())?;
            let may = seen.longest <= egress.mtu
                && egress.resolve(way.next_hop.to_bits(), io.now, neighbours);
            may.then_some((way, egress))
        });
        let context = match way {
            Some((way, egress)) => {
                match nat.pass(io.now, form(&frame), packet_mut(&mut frame), &way) {
                    Ok(()) => {
                        if let Some(link) = frame.first_mut() {
                            *link = egress.header;
                        }
                        counts.add(&seen, (received, frame.len()), egress, stats);
                        io.tx.push(egress.port, frame);
                        #[cfg(any(test, feature = "testing"))]
                        {
                            self.plain.passed += 1;
                        }
                        return Ok(());
                    }
                    Err(context) => context,
                }
            }
            None => Context::default(),
        };
        self.go_on_from_conntrack(frame, (seen, received), context, io);
        Ok(())
    }

    /// Takes a plain packet on from conntrack, which may have been asked already.
    fn go_on_from_conntrack(
        &mut self,
        frame: Frame,
        (seen, received): (Seen, usize),
        context: Context,
        io: &mut Io<'_>,
    ) {
        let slot = usize::from(seen.slot);
        let port = self.snapshot.ports.get(slot);
        let link = Link {
            slot,
            from_host: false,
            // What a plain frame is for.
            dst: port.map_or(Mac::ZERO, |port| port.mac),
            payload: Payload::Ipv4,
        };
        let size = (received, 1 + usize::from(seen.more));
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
            .egress(slot, next_hop, ports, shaper)
            .filter(|_| !frame.mark().is_set());
        let Some(egress) = egress else {
            return self.transmit(frame, slot, next_hop, io);
        };
        if !egress.resolve(next_hop.to_bits(), io.now, &mut self.neighbours) {
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

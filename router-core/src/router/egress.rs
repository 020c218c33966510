//! The way out: fragmentation, next hop resolution, the Ethernet header, and where frames end.

use core::net::Ipv4Addr;

use super::{Io, Router, packet, tell};
use crate::addr::Mac;
use crate::config::PortKind;
use crate::fib::Hop;
use crate::forward::{Cut, Size};
use crate::frame::{Frame, FramePool};
use crate::icmp_error::Refusal;
use crate::ipip;
use crate::martian;
use crate::neigh::Answer;
use crate::ports::PortIndex;
use crate::segment;
use crate::shape::Side;
use crate::stats::{Discard, DropReason, Event, Stats};
use crate::trace::{Answered, Recorder, Step};
use crate::wire::ethernet::{self, ETHERTYPE_IPV4};
use crate::wire::ipv4::Ipv4;

impl Router {
    /// Sends a packet by `hop`, in pieces if it is longer than the port's MTU; DF was looked at before. A superframe whose
    /// segments are too long is cut into these first.
    pub(super) fn send(&mut self, mut frame: Frame, hop: Hop, dst: Ipv4Addr, io: &mut Io<'_>) {
        let next_hop = hop.via.unwrap_or(dst);
        let mtu = self.snapshot.ports.get(hop.slot).map_or(0, |p| p.mtu);
        let size = Ipv4::peek(packet(&frame)).map(|ip| Size::of_frame(&frame, &ip));
        if size.is_none_or(|size| size.total_len <= mtu) {
            return self.transmit(frame, hop.slot, next_hop, io);
        }
        if frame.is_superframe() {
            return self.cut(frame, io, |router, segment, io| {
                router.send(segment, hop, dst, io);
            });
        }
        // The pieces have one checksum, in the first.
        if let Err(error) = segment::complete(&mut frame) {
            return self.discard(frame, error.reason(), io);
        }
        let bytes = packet(&frame);
        let Some((ip, cut)) = Ipv4::peek(bytes).and_then(|ip| Some((ip, Cut::new(&ip, mtu)?)))
        else {
            return self.transmit(frame, hop.slot, next_hop, io);
        };
        // One more for the question that the first piece may have to ask.
        if io.pool.available() <= cut.pieces {
            return self.discard(frame, DropReason::PoolEmpty, io);
        }
        self.stats.count(Event::Fragmented);
        let pieces = cut.pieces;
        io.trace.step(frame.mark(), || Step::Fragmented { pieces });
        let mut made: u64 = 0;
        for n in 0..cut.pieces {
            if let Some(mut piece) = cut.piece(&ip, bytes, n, io.pool) {
                piece.inherit(&frame);
                io.trace.step(piece.mark(), || tell::piece(&piece));
                made += 1;
                self.transmit(piece, hop.slot, next_hop, io);
            }
        }
        match made.checked_sub(1) {
            // The pieces go on in the datagram's place.
            Some(gained) => {
                self.stats.split += gained;
                io.pool.free(frame);
            }
            None => self.discard(frame, DropReason::PoolEmpty, io),
        }
    }

    /// Sends a packet that fits to `next_hop` on the port in `slot`, or lets it wait for the next hop's MAC.
    pub(super) fn transmit(
        &mut self,
        frame: Frame,
        slot: usize,
        next_hop: Ipv4Addr,
        io: &mut Io<'_>,
    ) {
        let Some(port) = self.snapshot.ports.get(slot) else {
            return self.discard(frame, DropReason::EgressDown, io);
        };
        match port.kind {
            PortKind::Host { peer_mac } => {
                io.trace.step(frame.mark(), || {
                    tell::neighbour(port.id, next_hop, peer_mac, None)
                });
                return self.emit_ipv4(frame, slot, peer_mac, io);
            }
            PortKind::Ipip(device) => return self.encapsulate(frame, slot, device, next_hop, io),
            PortKind::Ethernet | PortKind::Bridge | PortKind::Dummy => {}
        }
        if !port.arp || !martian::is_host(next_hop) {
            return self.discard(frame, DropReason::NoLinkAddress, io);
        }
        let Self {
            neighbours,
            stats,
            ports,
            ..
        } = self;
        let mut bin = Bin {
            stats,
            ports,
            pool: io.pool,
            trace: io.trace,
        };
        let port = port.id;
        match neighbours.answer(io.now, port, next_hop, &mut bin) {
            Answer::Found(mac) => {
                let state = || neighbours.state(port, next_hop);
                io.trace.step(frame.mark(), || {
                    tell::neighbour(port, next_hop, mac, state())
                });
                self.emit_ipv4(frame, slot, mac, io);
            }
            Answer::Resolving { id, ask } => {
                bin.trace
                    .step(frame.mark(), || Step::Held { port, ip: next_hop });
                neighbours.hold(id, frame, &mut bin);
                if ask {
                    self.ask(id, None, io);
                }
            }
            Answer::Full => self.discard(frame, DropReason::NeighbourTableFull, io),
        }
    }

    /// Hands a packet for the node to its host namespace, TTL untouched.
    pub(super) fn deliver_to_host(&mut self, frame: Frame, io: &mut Io<'_>) {
        let host = self
            .ports
            .host()
            .and_then(|slot| Some((slot, self.snapshot.ports.get(slot)?.kind)));
        match host {
            Some((slot, PortKind::Host { peer_mac })) => {
                self.stats.count(Event::HostDelivered);
                let by = Answered::Host;
                io.trace.step(frame.mark(), || Step::Local { by });
                self.emit_ipv4(frame, slot, peer_mac, io);
            }
            _ => self.discard(frame, DropReason::NoListener, io),
        }
    }

    pub(super) fn emit_ipv4(&mut self, mut frame: Frame, slot: usize, dst: Mac, io: &mut Io<'_>) {
        let src = self.snapshot.ports.get(slot).map_or(Mac::ZERO, |p| p.mac);
        ethernet::Header {
            dst,
            src,
            ethertype: ETHERTYPE_IPV4,
        }
        .write(frame.bytes_mut());
        self.emit(frame, slot, io);
    }

    /// A finished frame leaves by a port, if that leads anywhere.
    pub(super) fn emit(&mut self, frame: Frame, slot: usize, io: &mut Io<'_>) {
        match self.snapshot.ports.get(slot) {
            Some(port) if port.up && port.carrier && port.kind == PortKind::Bridge => {
                self.send_by_bridge(frame, slot, io);
            }
            Some(port) if port.up && port.carrier && port.kind != PortKind::Dummy => {
                match self.gate(slot, Side::Tx) {
                    Some(gate) => self.shape(frame, gate, io),
                    None => self.leave(frame, slot, io),
                }
            }
            _ => self.discard(frame, DropReason::EgressDown, io),
        }
    }

    pub(super) fn refuse(&mut self, mut frame: Frame, refusal: Refusal, io: &mut Io<'_>) {
        // The sender is told of what a wire would have carried. (Linux quotes a superframe's header, and a checksum that is
        // partial.)
        if let Some(error) = refusal.error
            && segment::become_first(&mut frame).is_ok()
        {
            // What the router put into a tunnel is somebody's packet still, and that one hears of it (IPIP-16).
            let bytes = if frame.is_encapsulated() {
                ipip::inner(packet(&frame)).unwrap_or_default()
            } else {
                packet(&frame)
            };
            self.send_error(bytes, frame.port(), frame.mark(), error, io);
        }
        self.discard(frame, refusal.reason, io);
    }

    pub(super) fn discard(&mut self, frame: Frame, reason: DropReason, io: &mut Io<'_>) {
        self.stats.count_drop(self.ports.slot(frame.port()), reason);
        io.trace.step(frame.mark(), || Step::Dropped { reason });
        io.trace.end(frame, reason, io.pool);
    }

    pub(super) fn consume(&mut self, frame: Frame, io: &mut Io<'_>) {
        self.stats.consumed += 1;
        io.trace.step(frame.mark(), || Step::Consumed);
        io.pool.free(frame);
    }
}

/// The end of frames that the neighbour table gives up.
pub(super) struct Bin<'a> {
    pub(super) stats: &'a mut Stats,
    pub(super) ports: &'a PortIndex,
    pub(super) pool: &'a mut FramePool,
    pub(super) trace: &'a mut Recorder,
}

impl Discard for Bin<'_> {
    fn discard(&mut self, frame: Frame, reason: DropReason) {
        self.stats.count_drop(self.ports.slot(frame.port()), reason);
        self.trace.step(frame.mark(), || Step::Dropped { reason });
        self.trace.end(frame, reason, self.pool);
    }
}

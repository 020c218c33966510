//! Packets of the router's own: replies, ICMP errors, and the questions of address resolution.

use core::net::Ipv4Addr;

use super::{DUMMY_ADDRESS, Io, Router, form, packet, packet_mut, tell};
use crate::addr::Mac;
use crate::config::PortId;
use crate::fib::Lookup;
use crate::frame::Frame;
use crate::icmp_error::{self, IcmpError, MAX_QUOTE, Refusal};
use crate::nat;
use crate::originate::Fields;
use crate::stats::{DropReason, Event};
use crate::trace::{Mark, Step, Withheld};
use crate::wire::arp::{Arp, Operation};
use crate::wire::ethernet::{self, ETHERTYPE_ARP};
use crate::wire::icmpv4;
use crate::wire::ipv4::{Ipv4, PROTOCOL_ICMP};

impl Router {
    /// Makes an IPv4 packet and sends it on its way, in pieces if it is longer than its link carries. Nothing happens
    /// but a count when the pool is empty.
    pub(super) fn originate(
        &mut self,
        event: Event,
        mut fields: Fields,
        parts: [&[u8]; 2],
        io: &mut Io<'_>,
    ) {
        // An answer goes back the way the question came: translated, if that was.
        let [transport, _] = parts;
        let ends = (fields.src, fields.dst, fields.protocol);
        let translated = self
            .nat
            .as_mut()
            .and_then(|nat| nat.answer(io.now, ends, transport));
        let untranslated = fields;
        if let Some(target) = &translated {
            fields.dst = target.dst;
        }
        let flow = || u64::from(fields.dst.to_bits());
        let lookup = self.route(Mark::NONE, fields.dst, flow, io);
        let egress = match lookup {
            Lookup::Unicast(hop) => Some(hop.slot),
            _ => self.ports.host(),
        };
        let mtu = egress
            .and_then(|slot| self.snapshot.ports.get(slot))
            .map_or(u16::MAX, |port| port.mtu);
        let datagram = self.originator.datagram(untranslated, parts);
        let pieces = datagram.pieces(mtu);
        // All of them, or none; one more for the question that the first may have to ask.
        let affordable = pieces == 1 || io.pool.available() > pieces;
        let mut made = 0;
        for n in (0..pieces).take_while(|_| affordable) {
            let Some(mut frame) = io.pool.alloc() else {
                break;
            };
            if !datagram.piece(n, mtu, &mut frame) {
                io.pool.free(frame);
                break;
            }
            made += 1;
            if let Some(target) = &translated {
                nat::set_both(packet_mut(&mut frame), target);
            }
            frame.set_mark(fields.mark);
            io.trace.step_if(fields.mark, || tell::made(event, &frame));
            if n == 0 {
                io.trace
                    .step(fields.mark, || self.tell_route(fields.dst, &lookup));
            }
            match (n, pieces) {
                (0, 1) => {}
                (0, _) => self.stats.count(Event::Fragmented),
                _ => self.stats.split += 1,
            }
            if n == 0 {
                self.stats.generated += 1;
                self.stats.count(event);
            }
            match lookup {
                Lookup::Local => self.deliver_to_host(frame, io),
                Lookup::Unicast(hop) => self.send(frame, hop, fields.dst, io),
                Lookup::Broadcast => self.discard(frame, DropReason::Broadcast, io),
                Lookup::Blackhole => self.discard(frame, DropReason::Blackhole, io),
                Lookup::Unreachable => self.discard(frame, DropReason::Unreachable, io),
                Lookup::Prohibit => self.discard(frame, DropReason::Prohibit, io),
                Lookup::NoRoute => self.discard(frame, DropReason::NoRoute, io),
            }
        }
        if made == 0 {
            io.trace.step(fields.mark, || Step::NotMade { event });
            self.stats.count(Event::NoFrame);
        }
    }

    /// Tells the sender of a packet that came in by `ingress`, if that is allowed and within the limits.
    pub(super) fn send_error(
        &mut self,
        bytes: &[u8],
        ingress: PortId,
        mark: Mark,
        error: IcmpError,
        io: &mut Io<'_>,
    ) {
        let Some(ip) = Ipv4::peek(bytes) else { return };
        let (offender, target) = (ip.src(), ip.dst());
        let (kind, code, rest) = error.header();
        let withheld = |why| move || Step::Withheld { kind, code, why };
        let from_host =
            self.ports.host().is_some() && self.ports.host() == self.ports.slot(ingress);
        if !icmp_error::permitted(&ip)
            || self.fib.is_broadcast(offender)
            || self.fib.is_broadcast(target)
            || (self.fib.is_local(offender) && !from_host)
        {
            io.trace.step(mark, withheld(Withheld::Forbidden));
            return self.stats.count(Event::IcmpErrorForbidden);
        }
        if !self.limiter.admit(io.now, error, offender) {
            io.trace.step(mark, withheld(Withheld::Limited));
            return self.stats.count(Event::IcmpErrorLimited);
        }
        let src = if self.fib.is_local(target) {
            target
        } else {
            self.address_toward(offender)
        };
        let quote = bytes.get(..MAX_QUOTE).unwrap_or(bytes);
        let header = icmpv4::emit(kind, code, rest, quote);
        let fields = Fields {
            tos: icmp_error::tos(ip.tos()),
            protocol: PROTOCOL_ICMP,
            src,
            dst: offender,
            mark: mark.error(),
        };
        self.originate(Event::IcmpErrorSent, fields, [&header, quote], io);
    }

    /// The address that a packet of the node to `dst` has as source (ICMP-7).
    pub(super) fn address_toward(&self, dst: Ipv4Addr) -> Ipv4Addr {
        match self.fib.lookup(dst, || 0) {
            Lookup::Local => Some(dst),
            Lookup::Unicast(hop) => self.fib.source(&hop, dst),
            _ => None,
        }
        .unwrap_or(DUMMY_ADDRESS)
    }

    /// Asks all stations, or the one that had it last, for the address of a neighbour entry.
    pub(super) fn ask(&mut self, id: usize, last_known: Option<Mac>, io: &mut Io<'_>) {
        let Some((port_id, ip)) = self.neighbours.key(id) else {
            return;
        };
        let Some(slot) = self.ports.slot(port_id) else {
            return;
        };
        let Some(mac) = self.snapshot.ports.get(slot).map(|p| p.mac) else {
            return;
        };
        // The source of the packet that waits if it is the node's own, else the preferred one on the link (NEI-7).
        let spa = self
            .neighbours
            .newest_held(id)
            .and_then(|frame| Ipv4::peek(packet(frame)))
            .map(|ip| ip.src())
            .filter(|&src| self.fib.is_local(src))
            .or_else(|| self.fib.source_on(port_id, ip))
            .unwrap_or(Ipv4Addr::UNSPECIFIED);
        let Some(mut frame) = io.pool.alloc() else {
            return self.stats.count(Event::NoFrame);
        };
        let request = Arp {
            operation: Operation::Request,
            sha: mac,
            spa,
            tha: Mac::ZERO,
            tpa: ip,
        };
        let dst = last_known.unwrap_or(Mac::BROADCAST);
        let header = ethernet::Header {
            dst,
            src: mac,
            ethertype: ETHERTYPE_ARP,
        };
        frame.assemble(&[&header.emit(), &request.emit()]);
        let waiting = self.neighbours.newest_held(id).map(Frame::mark);
        io.trace.step(waiting.unwrap_or_default(), || Step::Asked {
            port: port_id,
            ip,
            to: last_known,
        });
        self.stats.generated += 1;
        self.stats.count(Event::ArpRequestSent);
        self.emit(frame, slot, io);
    }

    /// Sends what waited at an entry whose MAC is known now, in order (NEI-4).
    pub(super) fn send_held(&mut self, id: usize, io: &mut Io<'_>) {
        let Some((port, ip)) = self.neighbours.key(id) else {
            return;
        };
        let Some(slot) = self.ports.slot(port) else {
            return;
        };
        while self.neighbours.mac(id).is_some()
            && let Some(frame) = self.neighbours.release(id)
        {
            io.trace.step(frame.mark(), || Step::Released { port, ip });
            self.transmit(frame, slot, ip, io);
        }
    }

    /// The neighbour did not answer: everything that waited goes back as an error (RT-4).
    pub(super) fn give_up(&mut self, id: usize, io: &mut Io<'_>) {
        while let Some(mut frame) = self.neighbours.release(id) {
            if let Some(nat) = &mut self.nat {
                let form = form(&frame);
                nat.undo_sent(io.now, packet_mut(&mut frame), form);
            }
            self.refuse(
                frame,
                Refusal::with(DropReason::NeighbourFailed, IcmpError::HostUnreachable),
                io,
            );
        }
    }
}

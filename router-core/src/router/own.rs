//! Packets of the router's own: replies, ICMP errors, and the questions of address resolution.

use core::net::Ipv4Addr;

use super::{DUMMY_ADDRESS, Io, Router, packet, tell};
use crate::addr::Mac;
use crate::fib::Lookup;
use crate::frame::Frame;
use crate::icmp_error::{self, IcmpError, MAX_QUOTE, Refusal};
use crate::originate::Fields;
use crate::stats::{DropReason, Event};
use crate::trace::{Step, Withheld};
use crate::wire::arp::{Arp, Operation};
use crate::wire::ethernet::{self, ETHERTYPE_ARP};
use crate::wire::icmpv4;
use crate::wire::ipv4::{Ipv4, PROTOCOL_ICMP};

impl Router {
    /// Makes an IPv4 packet and sends it on its way. Nothing happens but a count when the pool is empty.
    pub(super) fn originate(
        &mut self,
        event: Event,
        fields: Fields,
        parts: [&[u8]; 2],
        io: &mut Io<'_>,
    ) {
        let Some(mut frame) = io.pool.alloc() else {
            io.trace.step(fields.mark, || Step::NotMade { event });
            return self.stats.count(Event::NoFrame);
        };
        frame.set_mark(fields.mark);
        self.stats.generated += 1;
        self.stats.count(event);
        if !self.originator.build(&mut frame, fields, parts) {
            return self.discard(frame, DropReason::PoolEmpty, io);
        }
        io.trace.step_if(fields.mark, || tell::made(event, &frame));
        let flow = || u64::from(fields.dst.to_bits());
        match self.route(fields.mark, fields.dst, flow, io) {
            Lookup::Local => self.deliver_to_host(frame, io),
            Lookup::Unicast(hop) => self.send(frame, hop, fields.dst, io),
            Lookup::Broadcast => self.discard(frame, DropReason::Broadcast, io),
            Lookup::Blackhole => self.discard(frame, DropReason::Blackhole, io),
            Lookup::Unreachable => self.discard(frame, DropReason::Unreachable, io),
            Lookup::Prohibit => self.discard(frame, DropReason::Prohibit, io),
            Lookup::NoRoute => self.discard(frame, DropReason::NoRoute, io),
        }
    }

    /// Tells the sender of the packet in `frame`, if that is allowed and within the limits.
    pub(super) fn send_error(&mut self, frame: &Frame, error: IcmpError, io: &mut Io<'_>) {
        let bytes = packet(frame);
        let Some(ip) = Ipv4::peek(bytes) else { return };
        let (offender, target) = (ip.src(), ip.dst());
        let (kind, code, rest) = error.header();
        let withheld = |why| move || Step::Withheld { kind, code, why };
        let from_host =
            self.ports.host().is_some() && self.ports.host() == self.ports.slot(frame.port());
        if !icmp_error::permitted(&ip)
            || self.fib.is_broadcast(offender)
            || self.fib.is_broadcast(target)
            || (self.fib.is_local(offender) && !from_host)
        {
            io.trace.step(frame.mark(), withheld(Withheld::Forbidden));
            return self.stats.count(Event::IcmpErrorForbidden);
        }
        if !self.limiter.admit(io.now, error, offender) {
            io.trace.step(frame.mark(), withheld(Withheld::Limited));
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
            mark: frame.mark().error(),
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
        while let Some(frame) = self.neighbours.release(id) {
            self.refuse(
                frame,
                Refusal::with(DropReason::NeighbourFailed, IcmpError::HostUnreachable),
                io,
            );
        }
    }
}

//! Step 7a: packets for the node, answered, handed to its host namespace, or taken out of a tunnel.

use super::{By, Io, Router, packet};
use crate::frag::User;
use crate::frame::Frame;
use crate::icmp_error::Refusal;
use crate::ipip::Report;
use crate::local::{self, Delivery};
use crate::nat::Context;
use crate::options;
use crate::originate::Fields;
use crate::segment;
use crate::stats::{DropReason, Event};
use crate::trace::{Answered, Mark, Step};
use crate::wire::ipv4::{Ipv4, PROTOCOL_ICMP, PROTOCOL_IPIP, PROTOCOL_TCP};

impl Router {
    /// Step 7a: a packet for the node. Fragments of what the router itself may have to answer are collected.
    pub(super) fn deliver(&mut self, mut frame: Frame, context: &Context, io: &mut Io<'_>) {
        let Some(ip) = Ipv4::peek(packet(&frame)) else {
            return self.discard(frame, DropReason::BadHeaderLength, io);
        };
        if ip.is_fragment() {
            let tunnelled = ip.protocol() == PROTOCOL_IPIP && self.ports.tunnel().is_some();
            if self.ports.host().is_some() && !tunnelled && !local::answers(ip.protocol()) {
                return self.deliver_to_host(frame, io);
            }
            return self.collect(frame, User::LOCAL, None, io);
        }
        if let Some(slot) = self.ports.tunnel()
            && ip.protocol() == PROTOCOL_IPIP
        {
            return self.decapsulate(frame, slot, io);
        }
        match self.answer_frame(&frame, io) {
            Ok(By::Router) => self.consume(frame, io),
            Ok(By::Host) => self.deliver_to_host(frame, io),
            Err(refusal) => {
                self.untranslate(&mut frame, context);
                self.refuse(frame, refusal, io);
            }
        }
    }

    /// Answers a whole datagram for the node, or says who will.
    pub(super) fn answer(
        &mut self,
        datagram: &[u8],
        mark: Mark,
        io: &mut Io<'_>,
    ) -> Result<By, Refusal> {
        let ip = Ipv4::peek(datagram).ok_or(DropReason::BadHeaderLength)?;
        if self.ports.tunnel().is_some()
            && let Some(report) = Report::parse(&ip)
        {
            return self.tunnel_report(&report, ip.dst(), io);
        }
        let reply = |tos, protocol| Fields {
            tos,
            protocol,
            src: ip.dst(),
            dst: ip.src(),
            mark: mark.answer(),
        };
        let local = |by| move || Step::Local { by };
        match local::decide(&ip, self.ports.host().is_some(), options::timestamp(io.now))? {
            Delivery::Echo { header, payload } => {
                io.trace.step(mark, local(Answered::Echo));
                let fields = reply(ip.tos(), PROTOCOL_ICMP);
                self.originate(Event::EchoReplySent, fields, [&header, payload], io);
                Ok(By::Router)
            }
            Delivery::Timestamp(message) => {
                io.trace.step(mark, local(Answered::Timestamp));
                let fields = reply(ip.tos(), PROTOCOL_ICMP);
                self.originate(Event::EchoReplySent, fields, [&message, &[]], io);
                Ok(By::Router)
            }
            Delivery::Reset(segment) => {
                io.trace.step(mark, local(Answered::Reset));
                // Without the ECN bits, as Linux.
                let fields = reply(ip.tos() & 0xfc, PROTOCOL_TCP);
                self.originate(Event::TcpResetSent, fields, [&segment, &[]], io);
                Err(DropReason::ConnectionRefused.into())
            }
            Delivery::Host => Ok(By::Host),
        }
    }

    /// Answers the packet in `frame`, which is for the node, or says who will.
    fn answer_frame(&mut self, frame: &Frame, io: &mut Io<'_>) -> Result<By, Refusal> {
        if !frame.is_offloaded() {
            return self.answer(packet(frame), frame.mark(), io);
        }
        // TCP and UDP, or a tunnel that the node doesn't have: the host's, as all but ICMP, which has no open checksums.
        if self.ports.host().is_some() {
            return Ok(By::Host);
        }
        let mut scratch = core::mem::take(&mut self.scratch);
        let answered = match segment::linearize(frame, &mut scratch) {
            Some(datagram) => self.answer(datagram, frame.mark(), io),
            None => Err(DropReason::BadTotalLength.into()),
        };
        self.scratch = scratch;
        answered
    }
}

//! Telling an answer from other traffic at the edge, where marks end: what a pod sends carries none.
//!
//! Decides which unmarked frame is the answer to a traced packet that was sent by the same port: of addresses and ports
//! the reverse, of an echo the reply, or an ICMP error that quotes it. Each packet has one answer; what a network stack
//! says after that is traffic of its own.
//!
//! Bounded: [`WAITING_MAX`] packets at a time. Cost: nothing while nothing is expected.

use alloc::vec::Vec;

use super::{Mark, Role, Summary, Transport};
use crate::config::PortId;
use crate::frame::Frame;
use crate::wire::ethernet::{self, ETHERTYPE_IPV4};
use crate::wire::icmpv4;
use crate::wire::ipv4::{Ipv4, PROTOCOL_ICMP};

/// Traced packets whose answers are waited for.
pub const WAITING_MAX: usize = 32;

/// Bytes of a packet that an ICMP error quotes at least (RFC 792).
const QUOTED: usize = 28;

/// Traced packets that went to where marks end.
#[derive(Debug, Default)]
pub struct Answers {
    waiting: Vec<(PortId, Mark, Summary)>,
}

impl Answers {
    /// True when nothing is expected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A frame was sent by `port`. The answer to it is expected there if it is a traced packet.
    pub fn sent(&mut self, port: PortId, frame: &Frame) {
        let mark = frame.mark();
        if !mark.is_set() || mark.role() != Role::Packet || self.waiting.len() == WAITING_MAX {
            return;
        }
        if let Some(packet) = ipv4(frame).and_then(Ipv4::peek)
            && packet.fragment_offset() == 0
        {
            self.waiting.push((port, mark, Summary::new(&packet)));
        }
    }

    /// Marks the frame if it is an answer that was expected by the port it came by. True when it was.
    pub fn mark(&mut self, frame: &mut Frame) -> bool {
        if frame.mark().is_set() {
            return false;
        }
        let Some(packet) = ipv4(frame).and_then(Ipv4::peek) else {
            return false;
        };
        let port = frame.port();
        let Some(at) = self
            .waiting
            .iter()
            .position(|(p, _, sent)| *p == port && answers(&packet, sent))
        else {
            return false;
        };
        let (_, mark, _) = self.waiting.swap_remove(at);
        frame.set_mark(mark.answer());
        true
    }

    /// Expects no more answers of a trace.
    pub fn forget(&mut self, trace: u8) {
        self.waiting.retain(|(_, mark, _)| mark.trace() != trace);
    }
}

/// The IPv4 packet in a frame.
fn ipv4(frame: &Frame) -> Option<&[u8]> {
    let (header, packet) = ethernet::parse(frame.bytes())?;
    (header.ethertype == ETHERTYPE_IPV4).then_some(packet)
}

fn answers(packet: &Ipv4<'_>, sent: &Summary) -> bool {
    let reply = Summary::new(packet);
    let reverse = (reply.src, reply.dst, reply.protocol) == (sent.dst, sent.src, sent.protocol);
    match (sent.transport, reply.transport) {
        (
            Transport::Ports { sport, dport, .. },
            Transport::Ports {
                sport: s, dport: d, ..
            },
        ) if reverse => (s, d) == (dport, sport),
        (
            Transport::Icmp {
                kind: icmpv4::ECHO_REQUEST,
                ident,
                seq,
                ..
            },
            Transport::Icmp {
                kind: icmpv4::ECHO_REPLY,
                ident: i,
                seq: s,
                ..
            },
        ) if reverse => (i, s) == (ident, seq),
        (_, Transport::Icmp { .. }) if packet.protocol() == PROTOCOL_ICMP => quotes(packet, sent),
        // Protocols without ports: any packet back.
        (Transport::Other, Transport::Other) => reverse,
        _ => false,
    }
}

/// True for an ICMP error about the packet.
fn quotes(error: &Ipv4<'_>, sent: &Summary) -> bool {
    let Some(quote) = error.payload().get(icmpv4::HEADER_LEN..) else {
        return false;
    };
    // The quote is cut short, so its own total length cannot be checked.
    let Some(quote) = quote.get(..QUOTED).and_then(Ipv4::peek) else {
        return false;
    };
    (quote.src(), quote.dst(), quote.protocol(), quote.ident())
        == (sent.src, sent.dst, sent.protocol, sent.id)
}

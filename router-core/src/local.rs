//! Local delivery: packets for the node's own addresses (dataplane section 1.5, FWD-45 to FWD-50).
//!
//! The router answers ICMP echo and timestamp requests itself, on every back end and whatever the TTL (FWD-46). All else
//! goes to the host namespace if the node has one, whose kernel answers; where there is none, the router says that nothing
//! listens (FWD-50). Fragments were put together before, except for those that the host's kernel will put together.
//!
//! Decides only; the router builds and sends.

use crate::icmp_error::{IcmpError, Refusal};
use crate::stats::DropReason;
use crate::wire::icmpv4::{self, Icmpv4};
use crate::wire::ipv4::{Ipv4, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP};
use crate::wire::tcp::{self, Tcp};
use crate::wire::udp::Udp;

/// What becomes of a packet for the node.
#[derive(Debug)]
pub(crate) enum Delivery<'a> {
    /// Answered with an ICMP message of this header and payload.
    Echo {
        /// Type, code, checksum and the four bytes after it.
        header: [u8; icmpv4::HEADER_LEN],
        /// What the request carried.
        payload: &'a [u8],
    },
    /// Answered with the node's time: header and three timestamps.
    Timestamp([u8; 20]),
    /// Refused with this segment, and counted as such.
    Reset([u8; tcp::HEADER_LEN]),
    /// Handed to the host namespace.
    Host,
}

/// True for protocols that the router looks at even where a host namespace could: their fragments it puts together.
pub(crate) const fn answers(protocol: u8) -> bool {
    protocol == PROTOCOL_ICMP
}

/// Decides about a whole, validated datagram for one of the node's addresses. `time` is the router's timestamp.
pub(crate) fn decide<'a>(
    ip: &Ipv4<'a>,
    has_host: bool,
    time: [u8; 4],
) -> Result<Delivery<'a>, Refusal> {
    if ip.protocol() == PROTOCOL_ICMP {
        return icmp(ip, has_host, time);
    }
    if has_host {
        return Ok(Delivery::Host);
    }
    match ip.protocol() {
        PROTOCOL_UDP => {
            Udp::parse(ip.payload())
                .filter(|udp| udp.checksum_verifies(ip.src(), ip.dst()))
                .ok_or(DropReason::TransportMalformed)?;
            Err(Refusal::with(
                DropReason::PortUnreachable,
                IcmpError::PortUnreachable,
            ))
        }
        PROTOCOL_TCP => {
            let tcp = Tcp::parse(ip.payload())
                .filter(|tcp| tcp.checksum_verifies(ip.src(), ip.dst()))
                .ok_or(DropReason::TransportMalformed)?;
            tcp.reset(ip.src(), ip.dst())
                .map(Delivery::Reset)
                .ok_or_else(|| DropReason::ConnectionRefused.into())
        }
        _ => Err(Refusal::with(
            DropReason::ProtocolUnreachable,
            IcmpError::ProtocolUnreachable,
        )),
    }
}

fn icmp<'a>(ip: &Ipv4<'a>, has_host: bool, time: [u8; 4]) -> Result<Delivery<'a>, Refusal> {
    let message = Icmpv4::parse(ip.payload()).ok_or(DropReason::IcmpMalformed)?;
    match message.kind() {
        icmpv4::ECHO_REQUEST => Ok(Delivery::Echo {
            header: icmpv4::emit(
                icmpv4::ECHO_REPLY,
                message.code(),
                message.rest_of_header(),
                message.payload(),
            ),
            payload: message.payload(),
        }),
        icmpv4::TIMESTAMP_REQUEST => {
            let originate = message
                .payload()
                .first_chunk::<4>()
                .filter(|_| message.payload().len() >= 12)
                .ok_or(DropReason::IcmpMalformed)?;
            let [a, b, c, d] = *originate;
            let [e, f, g, h] = time;
            let times = [a, b, c, d, e, f, g, h, e, f, g, h];
            let header = icmpv4::emit(icmpv4::TIMESTAMP_REPLY, 0, message.rest_of_header(), &times);
            let mut reply = [0; 20];
            for (to, from) in reply.iter_mut().zip(header.iter().chain(&times)) {
                *to = *from;
            }
            Ok(Delivery::Timestamp(reply))
        }
        // A forwarding node follows its routes, whatever others tell it (ICMP-13).
        icmpv4::REDIRECT | icmpv4::SOURCE_QUENCH => Err(DropReason::IcmpIgnored.into()),
        _ if has_host => Ok(Delivery::Host),
        // Replies nobody asked for, errors about nothing of ours, mask and information requests (FWD-49).
        _ => Err(DropReason::IcmpIgnored.into()),
    }
}

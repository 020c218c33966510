//! ICMP of a stack: which message is what, the echo reply, and packets that are longer than the link takes.

use core::net::Ipv4Addr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{Icmpv4Message, Icmpv4Packet, IpProtocol, Ipv4Packet};

use super::{IPV4_HEADER, ipv4_repr};

/// Kinds of ICMP messages that a stack tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// To be answered.
    EchoRequest,
    /// For whoever listens.
    Other,
}

/// None when it is no ICMP packet or its checksum is wrong.
pub(super) fn judge(packet: &[u8]) -> Option<Message> {
    let packet = Ipv4Packet::new_checked(packet).ok()?;
    if packet.next_header() != IpProtocol::Icmp {
        return None;
    }
    let icmp = Icmpv4Packet::new_checked(packet.payload()).ok()?;
    if !icmp.verify_checksum() {
        return None;
    }
    Some(match (icmp.msg_type(), icmp.msg_code()) {
        (Icmpv4Message::EchoRequest, 0) => Message::EchoRequest,
        _ => Message::Other,
    })
}

/// Writes the reply to an echo request into `out`: addresses swapped, TOS kept, DF clear, options left out (FWD-45).
///
/// # Panics
/// When `request` was not judged [`Message::EchoRequest`].
pub(super) fn echo_reply(request: &[u8], ttl: u8, id: u16, out: &mut Vec<u8>) {
    let request = Ipv4Packet::new_checked(request).expect("the request was judged");
    let payload = request.payload();
    out.clear();
    out.resize(IPV4_HEADER + payload.len(), 0);
    let mut reply = Ipv4Packet::new_unchecked(&mut out[..]);
    ipv4_repr(request.dst_addr(), request.src_addr(), ttl, payload.len())
        .emit(&mut reply, &ChecksumCapabilities::ignored());
    reply.set_dscp(request.dscp());
    reply.set_ecn(request.ecn());
    reply.set_ident(id);
    reply.set_dont_frag(false);
    reply.fill_checksum();
    reply.payload_mut().copy_from_slice(payload);
    let mut icmp = Icmpv4Packet::new_unchecked(reply.payload_mut());
    icmp.set_msg_type(Icmpv4Message::EchoReply);
    icmp.fill_checksum();
}

/// Cuts a packet of ours into fragments of at most `mtu` bytes (RFC 791 3.2). None, and nothing emitted, when it carries
/// options.
pub(super) fn fragment(bytes: &[u8], mtu: u16, mut emit: impl FnMut(&[u8])) -> Option<()> {
    let packet = Ipv4Packet::new_checked(bytes).ok()?;
    if usize::from(packet.header_len()) != IPV4_HEADER {
        return None;
    }
    // The MTU is at least 68.
    let chunk = (usize::from(mtu) - IPV4_HEADER) & !7;
    let payload = packet.payload();
    let mut part = Vec::with_capacity(IPV4_HEADER + chunk);
    for (n, data) in payload.chunks(chunk).enumerate() {
        let offset = n * chunk;
        part.clear();
        part.extend_from_slice(&bytes[..IPV4_HEADER]);
        part.extend_from_slice(data);
        let total = u16::try_from(part.len()).ok()?;
        let mut header = Ipv4Packet::new_unchecked(&mut part[..]);
        header.set_total_len(total);
        header.set_frag_offset(u16::try_from(offset).ok()?);
        header.set_more_frags(offset + data.len() < payload.len());
        header.fill_checksum();
        emit(&part);
    }
    Some(())
}

/// What a router would say about `bytes` on a link of `mtu`: the local form of EMSGSIZE on a raw channel (RFC 1191).
pub(super) fn fragmentation_needed(bytes: &[u8], source: Ipv4Addr, mtu: u16) -> Option<Vec<u8>> {
    const ICMP_HEADER: usize = 8;
    let packet = Ipv4Packet::new_checked(bytes).ok()?;
    let quote = &bytes[..bytes.len().min(usize::from(packet.header_len()) + 8)];
    let mut out = vec![0; IPV4_HEADER + ICMP_HEADER + quote.len()];
    let mut error = Ipv4Packet::new_unchecked(&mut out[..]);
    ipv4_repr(source, packet.src_addr(), 64, ICMP_HEADER + quote.len())
        .emit(&mut error, &ChecksumCapabilities::default());
    let body = error.payload_mut();
    body[0] = 3;
    body[1] = 4;
    body[6..8].copy_from_slice(&mtu.to_be_bytes());
    body[ICMP_HEADER..].copy_from_slice(quote);
    Icmpv4Packet::new_unchecked(body).fill_checksum();
    Some(out)
}

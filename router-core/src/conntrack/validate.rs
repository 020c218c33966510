//! Transport headers that no connection can be made of: such packets are INVALID (NAT-60, NAT-63).
//!
//! Cost: with checksums, one pass over the packet.

use crate::wire::checksum;
use crate::wire::icmpv4::{self, Icmpv4};
use crate::wire::ipv4::{
    ADDRESSES_AT, HEADER_LEN, Ipv4, PROTOCOL_ICMP, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP,
};
use crate::wire::sctp;
use crate::wire::tcp::{ACK, FIN, PSH, RST, SYN, Tcp, URG};
use crate::wire::udp::{self, Udp};

/// Highest ICMP type that is known (Linux `NR_ICMP_TYPES`).
const MAX_ICMP_TYPE: u8 = 18;

/// True when the transport header of a whole datagram is one that Linux tracks. `checksum` says whether checksums are
/// looked at. Where they are not, as of a superframe, only the beginning has to be there.
pub(super) fn is_valid(ip: &Ipv4<'_>, checksum: bool) -> bool {
    let payload = ip.payload();
    match ip.protocol() {
        PROTOCOL_UDP if checksum => {
            Udp::parse(payload).is_some_and(|udp| udp.checksum_verifies(ip.src(), ip.dst()))
        }
        PROTOCOL_UDP => Udp::is_sound(ip),
        PROTOCOL_TCP => Tcp::parse(payload).is_some_and(|tcp| {
            flags_make_sense(tcp.flags())
                && (!checksum || tcp.checksum_verifies(ip.src(), ip.dst()))
        }),
        PROTOCOL_ICMP if checksum => {
            Icmpv4::parse(payload).is_some_and(|icmp| icmp.kind() <= MAX_ICMP_TYPE)
        }
        PROTOCOL_ICMP => {
            payload.len() >= icmpv4::HEADER_LEN
                && payload.first().is_some_and(|&kind| kind <= MAX_ICMP_TYPE)
        }
        PROTOCOL_SCTP => payload.len() > sctp::HEADER_LEN && (!checksum || sctp::verifies(payload)),
        _ => true,
    }
}

/// [`is_valid`] of a UDP packet without IP options that ends where its header says, or, if it is a superframe's head and
/// its checksum is not looked at, before.
#[inline]
pub(super) fn is_valid_udp(packet: &[u8], checksum: bool) -> bool {
    let Some(headers) = packet.first_chunk::<{ HEADER_LEN + udp::HEADER_LEN }>() else {
        return false;
    };
    let total_len = u16::from_be_bytes([headers[2], headers[3]]);
    let len = u16::from_be_bytes([headers[24], headers[25]]);
    let end = HEADER_LEN + usize::from(len);
    if usize::from(len) < udp::HEADER_LEN || end > usize::from(total_len) {
        return false;
    }
    if !checksum || (headers[26], headers[27]) == (0, 0) {
        return true;
    }
    // The addresses stand right before the UDP header; protocol and length are what else the pseudo header has.
    packet
        .get(ADDRESSES_AT..end)
        .is_some_and(|covered| checksum::verifies_beside(covered, [PROTOCOL_UDP.into(), len]))
}

/// The combinations that a TCP sends. PSH, ECE and CWR go with all of them.
const fn flags_make_sense(flags: u8) -> bool {
    const SYN_URG: u8 = SYN | URG;
    const SYN_ACK: u8 = SYN | ACK;
    const RST_ACK: u8 = RST | ACK;
    const FIN_ACK: u8 = FIN | ACK;
    const FIN_ACK_URG: u8 = FIN | ACK | URG;
    const ACK_URG: u8 = ACK | URG;
    matches!(
        flags & (FIN | SYN | RST | ACK | URG) & !PSH,
        SYN | SYN_URG | SYN_ACK | RST | RST_ACK | FIN_ACK | FIN_ACK_URG | ACK | ACK_URG
    )
}

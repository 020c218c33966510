//! Echo requests, and what comes back, as bytes.
//!
//! Pure. What comes back was written by anybody: it is checked, and what doesn't belong to a ping is none. Source: RFC 792,
//! and the texts of iputils' ping.

use core::fmt;
use std::net::Ipv4Addr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{Icmpv4Message, Icmpv4Packet, IpProtocol, Ipv4Packet, Ipv4Repr};

/// Bytes of an IPv4 header without options.
pub const IPV4_HEADER: usize = 20;
/// Bytes of an ICMP echo header.
pub const ICMP_HEADER: usize = 8;
/// Most bytes of payload in an echo request.
pub const MAX_PAYLOAD: usize = 65_535 - IPV4_HEADER - ICMP_HEADER;

/// Which echo request: the two numbers that its reply repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EchoId {
    /// Chosen by the pinger.
    pub id: u16,
    /// Counted by the pinger.
    pub seq: u16,
}

/// The ICMP message of an echo request with `size` bytes of payload (0, 1, 2, ... as iputils fills them).
#[must_use]
pub fn echo_request(echo: EchoId, size: usize) -> Vec<u8> {
    let mut message = vec![0; ICMP_HEADER];
    message.extend((0..=u8::MAX).cycle().take(size.min(MAX_PAYLOAD)));
    let mut packet = Icmpv4Packet::new_unchecked(&mut message[..]);
    packet.set_msg_type(Icmpv4Message::EchoRequest);
    packet.set_msg_code(0);
    packet.set_echo_ident(echo.id);
    packet.set_echo_seq_no(echo.seq);
    packet.fill_checksum();
    message
}

/// An IPv4 packet around an ICMP message for a stack channel: the stack chooses source and identification.
#[must_use]
pub fn ipv4(dst: Ipv4Addr, ttl: u8, dont_fragment: bool, message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; IPV4_HEADER];
    bytes.extend_from_slice(&message[..message.len().min(MAX_PAYLOAD + ICMP_HEADER)]);
    let payload_len = bytes.len() - IPV4_HEADER;
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
    Ipv4Repr {
        src_addr: Ipv4Addr::UNSPECIFIED,
        dst_addr: dst,
        next_header: IpProtocol::Icmp,
        payload_len,
        hop_limit: ttl,
    }
    .emit(&mut packet, &ChecksumCapabilities::ignored());
    packet.set_dont_frag(dont_fragment);
    packet.fill_checksum();
    bytes
}

/// What a received packet says about an echo request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The reply.
    Reply {
        /// To which request.
        echo: EchoId,
        /// Who answered.
        from: Ipv4Addr,
        /// TTL that was left.
        ttl: u8,
        /// Bytes of the ICMP message.
        len: usize,
    },
    /// An error about it.
    Error {
        /// About which request.
        echo: EchoId,
        /// Where that request went.
        dst: Ipv4Addr,
        /// Who reports it.
        from: Ipv4Addr,
        /// What.
        error: IcmpError,
    },
}

/// Reads a whole IPv4 packet. None for what is no echo reply and no error about an echo request, or is broken.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Heard> {
    let packet = Ipv4Packet::new_checked(bytes).ok()?;
    if packet.version() != 4 || packet.next_header() != IpProtocol::Icmp {
        return None;
    }
    let message = packet.payload();
    let icmp = Icmpv4Packet::new_checked(message).ok()?;
    if !icmp.verify_checksum() {
        return None;
    }
    let (&[kind, code, ..], from) = (message, packet.src_addr()) else {
        return None;
    };
    let header = message.first_chunk::<ICMP_HEADER>()?;
    if kind == 0 && code == 0 {
        return Some(Heard::Reply {
            echo: echo_id(message)?,
            from,
            ttl: packet.hop_limit(),
            len: message.len(),
        });
    }
    if !matches!(kind, 3 | 4 | 5 | 11 | 12) {
        return None;
    }
    // The quoted header may name more bytes than were quoted, so it is read by hand.
    let quote = message.get(ICMP_HEADER..)?;
    let quoted = quote.first_chunk::<IPV4_HEADER>()?;
    let header_len = usize::from(quoted[0] & 0xf) * 4;
    let request = quote.get(header_len..)?;
    if quoted[0] >> 4 != 4
        || header_len < IPV4_HEADER
        || quoted[9] != 1
        || request.first() != Some(&8)
    {
        return None;
    }
    Some(Heard::Error {
        echo: echo_id(request)?,
        dst: Ipv4Addr::new(quoted[16], quoted[17], quoted[18], quoted[19]),
        from,
        error: IcmpError {
            kind,
            code,
            rest: [header[4], header[5], header[6], header[7]],
        },
    })
}

fn echo_id(message: &[u8]) -> Option<EchoId> {
    let &[_, _, _, _, i, j, s, t] = message.first_chunk::<ICMP_HEADER>()?;
    Some(EchoId {
        id: u16::from_be_bytes([i, j]),
        seq: u16::from_be_bytes([s, t]),
    })
}

/// Type and code of an ICMP error; displays as iputils' ping prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// Type: 3, 4, 5, 11 or 12.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The second word of the header: next-hop MTU, pointer or gateway.
    pub rest: [u8; 4],
}

impl IcmpError {
    /// The MTU of "fragmentation needed".
    #[must_use]
    pub fn mtu(&self) -> Option<u16> {
        (self.kind == 3 && self.code == 4).then(|| u16::from_be_bytes([self.rest[2], self.rest[3]]))
    }
}

impl fmt::Display for IcmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match (self.kind, self.code) {
            (3, 0) => "Destination Net Unreachable",
            (3, 1) => "Destination Host Unreachable",
            (3, 2) => "Destination Protocol Unreachable",
            (3, 3) => "Destination Port Unreachable",
            (3, 4) => {
                let mtu = self.mtu().unwrap_or(0);
                return write!(f, "Frag needed and DF set (mtu = {mtu})");
            }
            (3, 5) => "Source Route Failed",
            (3, 6) => "Destination Net Unknown",
            (3, 7) => "Destination Host Unknown",
            (3, 8) => "Source Host Isolated",
            (3, 9) => "Destination Net Prohibited",
            (3, 10) => "Destination Host Prohibited",
            (3, 11) => "Destination Net Unreachable for Type of Service",
            (3, 12) => "Destination Host Unreachable for Type of Service",
            (3, 13) => "Packet filtered",
            (3, 14) => "Precedence Violation",
            (3, 15) => "Precedence Cutoff",
            (3, code) => return write!(f, "Dest Unreachable, Bad Code: {code}"),
            (4, _) => "Source Quench",
            (5, code) => {
                let what = match code {
                    0 => "Redirect Network",
                    1 => "Redirect Host",
                    2 => "Redirect Type of Service and Network",
                    3 => "Redirect Type of Service and Host",
                    code => return write!(f, "Redirect, Bad Code: {code}"),
                };
                let [a, b, c, d] = self.rest;
                return write!(f, "{what}(New nexthop: {a}.{b}.{c}.{d})");
            }
            (11, 0) => "Time to live exceeded",
            (11, 1) => "Frag reassembly time exceeded",
            (11, code) => return write!(f, "Time exceeded, Bad Code: {code}"),
            (12, _) => {
                return write!(f, "Parameter problem: pointer = {}", self.rest[0]);
            }
            (kind, _) => return write!(f, "Bad ICMP type: {kind}"),
        };
        f.write_str(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
    const B: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
    const ECHO: EchoId = EchoId {
        id: 0x1234,
        seq: 0x5678,
    };

    fn from(src: Ipv4Addr, message: &[u8]) -> Vec<u8> {
        let mut bytes = ipv4(A, 62, false, message);
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
        packet.set_src_addr(src);
        packet.fill_checksum();
        bytes
    }

    fn message(kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Vec<u8> {
        let mut m = vec![kind, code, 0, 0];
        m.extend(rest);
        m.extend(body);
        Icmpv4Packet::new_unchecked(&mut m[..]).fill_checksum();
        m
    }

    /// RFC 792: the request as it stands on the wire.
    #[test]
    fn a_request_is_the_known_bytes() {
        let bytes = echo_request(EchoId { id: 1, seq: 2 }, 4);
        assert_eq!(bytes, [8, 0, 0xf5, 0xf8, 0, 1, 0, 2, 0, 1, 2, 3]);
        let bytes = ipv4(B, 7, true, &bytes);
        assert_eq!(bytes[..10], [0x45, 0, 0, 32, 0, 0, 0x40, 0, 7, 1]);
        assert_eq!(bytes[12..20], [0, 0, 0, 0, 10, 244, 1, 2]);
    }

    /// A reply is read with its numbers and what was left of its TTL.
    #[test]
    fn a_reply_is_read() {
        let reply = message(0, 0, [0x12, 0x34, 0x56, 0x78], b"hello");
        let expected = Heard::Reply {
            echo: ECHO,
            from: B,
            ttl: 62,
            len: 13,
        };
        assert_eq!(parse(&from(B, &reply)), Some(expected));
    }

    /// An error is read with the request that it quotes, also when the quote is cut after 8 bytes.
    #[test]
    fn an_error_names_its_request() {
        let request = ipv4(B, 1, false, &echo_request(ECHO, 56));
        let error = message(11, 0, [0; 4], &request[..28]);
        let Some(Heard::Error {
            echo,
            dst,
            from: reporter,
            error,
        }) = parse(&from(A, &error))
        else {
            panic!()
        };
        assert_eq!((echo, dst, reporter), (ECHO, B, A));
        assert_eq!(error.to_string(), "Time to live exceeded");
    }

    /// Errors about anything but an echo request, requests themselves, and broken packets say nothing to a pinger.
    #[test]
    fn strangers_are_ignored() {
        let mut udp = ipv4(B, 1, false, &[8, 0, 0, 0, 0, 0, 0, 0]);
        udp[9] = 17;
        let reply = ipv4(B, 1, false, &message(0, 0, [0; 4], &[]));
        let short = ipv4(B, 1, false, &echo_request(ECHO, 0));
        let mut broken = from(B, &message(0, 0, [0; 4], b"x"));
        broken[25] ^= 1;
        for packet in [
            from(A, &message(11, 0, [0; 4], &udp)),
            from(A, &message(11, 0, [0; 4], &reply)),
            from(A, &message(11, 0, [0; 4], &short[..27])),
            from(A, &echo_request(ECHO, 56)),
            from(A, &message(13, 0, [0; 4], &[0; 12])),
            broken,
        ] {
            assert_eq!(parse(&packet), None);
        }
    }

    /// iputils' words.
    #[test]
    fn errors_print_as_iputils_prints_them() {
        let text = |kind, code, rest| IcmpError { kind, code, rest }.to_string();
        assert_eq!(text(3, 1, [0; 4]), "Destination Host Unreachable");
        assert_eq!(text(3, 13, [0; 4]), "Packet filtered");
        assert_eq!(
            text(3, 4, [0, 0, 5, 0xdc]),
            "Frag needed and DF set (mtu = 1500)"
        );
        assert_eq!(text(3, 77, [0; 4]), "Dest Unreachable, Bad Code: 77");
        assert_eq!(
            text(5, 1, [10, 0, 0, 1]),
            "Redirect Host(New nexthop: 10.0.0.1)"
        );
        assert_eq!(text(12, 0, [9, 0, 0, 0]), "Parameter problem: pointer = 9");
    }

    proptest! {
        /// Nothing that arrives can do harm.
        #[test]
        fn garbage_is_no_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..100), kind: u8) {
            let _ = parse(&bytes);
            if bytes.len() >= 28 {
                bytes[0] = 0x45;
                let len = u16::try_from(bytes.len()).unwrap();
                bytes[2..4].copy_from_slice(&len.to_be_bytes());
                bytes[9] = 1;
                bytes[20] = kind;
                Icmpv4Packet::new_unchecked(&mut bytes[20..]).fill_checksum();
                let _ = parse(&bytes);
            }
        }
    }
}

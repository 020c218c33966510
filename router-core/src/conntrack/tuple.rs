//! What identifies one direction of a connection (NAT-1, NAT-3, NAT-4).

use core::net::Ipv4Addr;

use crate::table::flow::FlowKey;
use crate::wire::icmpv4;
use crate::wire::ipv4::{Ipv4, PROTOCOL_ICMP, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP};

/// One direction of a connection. Its reply is [`Tuple::invert`]ed, unless a translation changed that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Tuple {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Source port; identifier of an ICMP query; 0 where the protocol has no ports.
    pub sport: u16,
    /// Destination port; type and code of an ICMP query; 0 where the protocol has no ports.
    pub dport: u16,
    /// Protocol number.
    pub protocol: u8,
}

/// True when packets of this protocol begin with a source and a destination port.
pub(crate) const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_SCTP)
}

impl Tuple {
    pub(super) const NONE: Self = Self {
        src: Ipv4Addr::UNSPECIFIED,
        dst: Ipv4Addr::UNSPECIFIED,
        sport: 0,
        dport: 0,
        protocol: 0,
    };

    /// The tuple of a packet, whole or quoted. None for a later fragment, for what is too short to have one, and for
    /// ICMP that is no query or answer to one.
    #[inline]
    pub(crate) fn of(ip: &Ipv4<'_>) -> Option<Self> {
        if ip.fragment_offset() != 0 {
            return None;
        }
        Self::with(ip.src(), ip.dst(), ip.protocol(), ip.payload())
    }

    /// The tuple of a packet with these addresses and this transport header.
    #[inline]
    pub(crate) fn with(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload: &[u8]) -> Option<Self> {
        let (sport, dport) = if has_ports(protocol) {
            let [a, b, c, d, ..] = *payload.first_chunk::<8>()?;
            (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
        } else if protocol == PROTOCOL_ICMP {
            let [kind, code, _, _, id0, id1, ..] = *payload.first_chunk::<8>()?;
            inverse(kind)?;
            (
                u16::from_be_bytes([id0, id1]),
                u16::from_be_bytes([kind, code]),
            )
        } else {
            (0, 0)
        };
        Some(Self {
            src,
            dst,
            sport,
            dport,
            protocol,
        })
    }

    /// The tuple of the answer to a packet of this tuple. The ICMP identifier stays where it is.
    #[inline]
    #[must_use]
    pub fn invert(&self) -> Self {
        let (sport, dport) = if self.protocol == PROTOCOL_ICMP {
            let [kind, code] = self.dport.to_be_bytes();
            let kind = inverse(kind).unwrap_or(kind);
            (self.sport, u16::from_be_bytes([kind, code]))
        } else {
            (self.dport, self.sport)
        };
        Self {
            src: self.dst,
            dst: self.src,
            sport,
            dport,
            protocol: self.protocol,
        }
    }

    /// As a key of the flow table.
    #[inline]
    pub(crate) fn key(&self) -> FlowKey {
        let ([a, b, c, d], [e, f, g, h]) = (self.src.octets(), self.dst.octets());
        let ([p, q], [r, s]) = (self.sport.to_be_bytes(), self.dport.to_be_bytes());
        Self::key_of([a, b, c, d, e, f, g, h], [p, q, r, s], self.protocol)
    }

    /// The key of a packet with ports, from the addresses as they stand in its IPv4 header and the ports as they stand in
    /// its transport header.
    #[inline]
    pub(crate) const fn key_of(addresses: [u8; 8], ports: [u8; 4], protocol: u8) -> FlowKey {
        FlowKey([
            u64::from_ne_bytes(addresses),
            (u32::from_ne_bytes(ports) as u64) << 32 | protocol as u64,
        ])
    }

    /// The protocol of a tuple with this key.
    #[inline]
    pub(super) const fn protocol_of(key: FlowKey) -> u8 {
        key.0[1].to_le_bytes()[0]
    }

    /// The key under which connections from this source stand together. Bit 16 tells it from every tuple's.
    pub(crate) fn source_key(&self) -> FlowKey {
        let FlowKey([addresses, rest]) = Self {
            dst: Ipv4Addr::UNSPECIFIED,
            dport: 0,
            ..*self
        }
        .key();
        FlowKey([addresses, rest | 1 << 16])
    }

    /// Type of an ICMP query or answer.
    pub(crate) const fn icmp_kind(&self) -> u8 {
        self.dport.to_be_bytes()[0]
    }
}

/// The ICMP type that answers, or asked, one of this type (NAT-3).
const fn inverse(kind: u8) -> Option<u8> {
    Some(match kind {
        icmpv4::ECHO_REQUEST => icmpv4::ECHO_REPLY,
        icmpv4::ECHO_REPLY => icmpv4::ECHO_REQUEST,
        icmpv4::TIMESTAMP_REQUEST => icmpv4::TIMESTAMP_REPLY,
        icmpv4::TIMESTAMP_REPLY => icmpv4::TIMESTAMP_REQUEST,
        icmpv4::INFORMATION_REQUEST => icmpv4::INFORMATION_REPLY,
        icmpv4::INFORMATION_REPLY => icmpv4::INFORMATION_REQUEST,
        icmpv4::ADDRESS_MASK_REQUEST => icmpv4::ADDRESS_MASK_REPLY,
        icmpv4::ADDRESS_MASK_REPLY => icmpv4::ADDRESS_MASK_REQUEST,
        _ => return None,
    })
}

/// True for the ICMP types that may begin a connection.
pub(crate) const fn icmp_asks(kind: u8) -> bool {
    matches!(
        kind,
        icmpv4::ECHO_REQUEST
            | icmpv4::TIMESTAMP_REQUEST
            | icmpv4::INFORMATION_REQUEST
            | icmpv4::ADDRESS_MASK_REQUEST
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{echo_request, icmp, ipv4, udp};

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    fn of(packet: &crate::testing::Packet) -> Option<Tuple> {
        Tuple::of(&Ipv4::peek(&packet.bytes()).unwrap())
    }

    #[test]
    fn ports_change_places_and_identifiers_do_not() {
        let t = of(&(ipv4(A, B) / udp(1, 2))).unwrap();
        assert_eq!((t.sport, t.dport, t.protocol), (1, 2, 17));
        let r = t.invert();
        assert_eq!((r.src, r.dst, r.sport, r.dport), (B, A, 2, 1));
        assert_eq!(r.invert(), t);

        let t = of(&(ipv4(A, B) / echo_request(77, 1))).unwrap();
        assert_eq!((t.sport, t.dport), (77, 0x0800));
        assert_eq!((t.invert().sport, t.invert().dport), (77, 0));
        assert_eq!(t.invert().invert(), t);
        assert_ne!(t.key(), t.invert().key());
    }

    /// NAT-3: each query has one answer. Errors have no tuple of their own.
    #[test]
    fn queries_are_paired_with_their_answers() {
        for (asks, answers) in [(8, 0), (13, 14), (15, 16), (17, 18)] {
            let t = of(&(ipv4(A, B) / icmp(asks, 0, [0, 9, 0, 0]))).unwrap();
            let r = of(&(ipv4(B, A) / icmp(answers, 0, [0, 9, 0, 0]))).unwrap();
            assert_eq!(t.invert(), r);
            assert!(icmp_asks(asks) && !icmp_asks(answers));
        }
        for kind in [3, 4, 5, 11, 12, 9, 10, 42] {
            assert_eq!(of(&(ipv4(A, B) / icmp(kind, 0, [0; 4]))), None);
        }
    }

    #[test]
    fn protocols_without_ports_are_tracked_by_address_and_later_fragments_not_at_all() {
        let t = of(&(ipv4(A, B).protocol(99) / vec![1, 2, 3])).unwrap();
        assert_eq!((t.sport, t.dport, t.protocol), (0, 0, 99));
        assert_eq!(of(&(ipv4(A, B).offset(8) / udp(1, 2))), None);
        assert_eq!(of(&(ipv4(A, B).protocol(17) / vec![0; 7])), None);
    }
}

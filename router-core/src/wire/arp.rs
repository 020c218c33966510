//! ARP for IPv4 over Ethernet (RFC 826).

use core::net::Ipv4Addr;

use crate::addr::Mac;

/// Bytes of the packet.
pub const LEN: usize = 28;

/// What an ARP packet wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target address?
    Request,
    /// The sender address is at the sender MAC.
    Reply,
}

/// The packet's fields, under their names of RFC 5227.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Request or reply.
    pub operation: Operation,
    /// Sender hardware address.
    pub sha: Mac,
    /// Sender protocol address; 0.0.0.0 in a probe.
    pub spa: Ipv4Addr,
    /// Target hardware address; zero in a request.
    pub tha: Mac,
    /// Target protocol address.
    pub tpa: Ipv4Addr,
}

impl Arp {
    /// Parses the payload of an Ethernet frame; trailing padding is ignored.
    ///
    /// None when it is shorter than 28 bytes, or not IPv4 over Ethernet (hardware type 1 or, as Linux accepts too, IEEE
    /// 802's 6; lengths 6 and 4), or neither request nor reply (ARP-1).
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let p = bytes.first_chunk::<LEN>()?;
        let [0, 1 | 6, 0x08, 0x00, 6, 4, 0, op, ..] = *p else {
            return None;
        };
        Some(Self {
            operation: match op {
                1 => Operation::Request,
                2 => Operation::Reply,
                _ => return None,
            },
            sha: Mac([p[8], p[9], p[10], p[11], p[12], p[13]]),
            spa: Ipv4Addr::new(p[14], p[15], p[16], p[17]),
            tha: Mac([p[18], p[19], p[20], p[21], p[22], p[23]]),
            tpa: Ipv4Addr::new(p[24], p[25], p[26], p[27]),
        })
    }

    /// The packet as bytes, hardware type 1.
    #[must_use]
    pub fn emit(&self) -> [u8; LEN] {
        let op = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        let [a, b, c, d, e, f] = self.sha.0;
        let [g, h, i, j] = self.spa.octets();
        let [k, l, m, n, o, p] = self.tha.0;
        let [q, r, s, t] = self.tpa.octets();
        [
            0, 1, 0x08, 0x00, 6, 4, 0, op, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s,
            t,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: Arp = Arp {
        operation: Operation::Request,
        sha: Mac([2, 0, 0, 0, 0, 1]),
        spa: Ipv4Addr::new(10, 0, 0, 1),
        tha: Mac::ZERO,
        tpa: Ipv4Addr::new(10, 0, 0, 2),
    };

    #[test]
    fn what_is_emitted_parses_to_the_same_fields() {
        assert_eq!(Arp::parse(&REQUEST.emit()), Some(REQUEST));
        let reply = Arp {
            operation: Operation::Reply,
            tha: Mac([3; 6]),
            ..REQUEST
        };
        assert_eq!(Arp::parse(&reply.emit()), Some(reply));
    }

    #[test]
    fn other_hardware_protocols_lengths_and_operations_are_refused() {
        for (at, value) in [
            (0, 1),
            (1, 2),
            (2, 0x86),
            (4, 8),
            (5, 16),
            (6, 1),
            (7, 3),
            (7, 0),
        ] {
            let mut bytes = REQUEST.emit();
            bytes[at] = value;
            assert_eq!(Arp::parse(&bytes), None, "octet {at} = {value}");
        }
        assert_eq!(Arp::parse(&REQUEST.emit()[..27]), None);
    }

    #[test]
    fn hardware_type_6_and_padding_are_accepted() {
        let mut bytes = [0; 46];
        bytes[..LEN].copy_from_slice(&REQUEST.emit());
        bytes[1] = 6;
        assert_eq!(Arp::parse(&bytes), Some(REQUEST));
    }
}

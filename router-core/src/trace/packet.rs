//! What a trace shows of an IPv4 packet.

use core::net::Ipv4Addr;

use crate::wire::ipv4::{Ipv4, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP};

/// The fields of an IPv4 packet by which its reader knows it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Summary {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Protocol number.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// Type of service.
    pub tos: u8,
    /// Identification.
    pub id: u16,
    /// Total length, bytes.
    pub len: u16,
    /// Don't fragment.
    pub df: bool,
    /// More fragments.
    pub mf: bool,
    /// Fragment offset, bytes.
    pub offset: u16,
    /// What the beginning of the payload says.
    pub transport: Transport,
}

/// First fields of the transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Transport {
    /// UDP or TCP ports.
    Ports {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
        /// TCP flags; 0 for UDP.
        flags: u8,
    },
    /// ICMP.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// Identifier of an echo.
        ident: u16,
        /// Sequence number of an echo.
        seq: u16,
    },
    /// Another protocol, or a later fragment.
    Other,
}

impl Summary {
    /// The fields of `ip`.
    #[must_use]
    pub fn new(ip: &Ipv4<'_>) -> Self {
        Self {
            src: ip.src(),
            dst: ip.dst(),
            protocol: ip.protocol(),
            ttl: ip.ttl(),
            tos: ip.tos(),
            id: ip.ident(),
            len: ip.total_len(),
            df: ip.dont_fragment(),
            mf: ip.more_fragments(),
            offset: ip.fragment_offset() * 8,
            transport: Transport::new(ip),
        }
    }
}

impl Transport {
    fn new(ip: &Ipv4<'_>) -> Self {
        if ip.fragment_offset() != 0 {
            return Self::Other;
        }
        match (ip.protocol(), ip.payload()) {
            (PROTOCOL_UDP | PROTOCOL_TCP, payload @ [a, b, c, d, ..]) => Self::Ports {
                sport: u16::from_be_bytes([*a, *b]),
                dport: u16::from_be_bytes([*c, *d]),
                flags: match payload.get(13) {
                    Some(&flags) if ip.protocol() == PROTOCOL_TCP => flags,
                    _ => 0,
                },
            },
            (PROTOCOL_ICMP, [kind, code, _, _, a, b, c, d, ..]) => Self::Icmp {
                kind: *kind,
                code: *code,
                ident: u16::from_be_bytes([*a, *b]),
                seq: u16::from_be_bytes([*c, *d]),
            },
            _ => Self::Other,
        }
    }
}

//! Where the headers of a frame stand, down to TCP or UDP.

use crate::frame::{Frame, Partial};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN};
use crate::wire::ipv4::{self, PROTOCOL_IPIP, PROTOCOL_TCP, PROTOCOL_UDP};
use crate::wire::{tcp, udp};

/// Bytes of an IPv6 header.
pub(super) const IPV6_LEN: usize = 40;
/// Bytes of a VLAN tag.
const TAG_LEN: usize = 4;
/// A tag of a provider and one of a customer.
const MAX_TAGS: usize = 2;

/// Place of a checksum's field in its header.
const TCP_CHECKSUM: u16 = 16;
const UDP_CHECKSUM: u16 = 6;

/// The headers of a whole TCP or UDP packet, over IPv4, IPv4 in IPv4 or IPv6 without extension headers. All of them are
/// in the frame's head; offsets are from its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Outer IPv4 header of a tunnel; `network` where there is none.
    pub(super) outer: u16,
    /// IP header of the packet.
    pub(super) network: u16,
    /// TCP or UDP header.
    pub(super) transport: u16,
    /// First byte behind all headers.
    pub(super) payload: u16,
    /// End of the packet as the IP header has it.
    end: u32,
    v6: bool,
    tcp: bool,
}

/// What an IP header says.
struct Ip {
    protocol: u8,
    header_len: usize,
    total_len: usize,
}

impl Layout {
    /// None for what else `head` may be, fragments too, and for a header that reaches beyond it or beyond its packet.
    #[inline]
    #[must_use]
    pub fn of(head: &[u8]) -> Option<Self> {
        let (v6, outer) = link(head)?;
        let mut network = outer;
        let mut ip = if v6 {
            read_v6(head, network)?
        } else {
            read_v4(head, network)?
        };
        let mut end = network + ip.total_len;
        if ip.protocol == PROTOCOL_IPIP && !v6 {
            network += ip.header_len;
            ip = read_v4(head, network)?;
            end = end.min(network + ip.total_len);
        }
        let transport = network + ip.header_len;
        let is_tcp = ip.protocol == PROTOCOL_TCP;
        let header_len = if is_tcp {
            usize::from(*head.get(transport + 12)? >> 4) * 4
        } else {
            udp::HEADER_LEN
        };
        let payload = transport + header_len;
        let known = if is_tcp {
            header_len >= tcp::HEADER_LEN
        } else {
            ip.protocol == PROTOCOL_UDP
        };
        // A head is shorter than 2^11 bytes, so that all that is within it fits.
        (known && payload <= head.len().min(end)).then_some(Self {
            outer: u16::try_from(outer).ok()?,
            network: u16::try_from(network).ok()?,
            transport: u16::try_from(transport).ok()?,
            payload: u16::try_from(payload).ok()?,
            end: u32::try_from(end).ok()?,
            v6,
            tcp: is_tcp,
        })
    }

    /// The partial checksum that such a packet can have.
    #[must_use]
    pub const fn partial(&self) -> Partial {
        Partial {
            start: self.transport,
            offset: if self.tcp { TCP_CHECKSUM } else { UDP_CHECKSUM },
        }
    }

    /// TCP; else UDP.
    #[must_use]
    pub const fn is_tcp(&self) -> bool {
        self.tcp
    }

    /// Over IPv6; else over IPv4.
    #[must_use]
    pub const fn is_v6(&self) -> bool {
        self.v6
    }

    /// The packet is inside an IPv4 tunnel.
    #[must_use]
    pub const fn is_tunnelled(&self) -> bool {
        self.outer != self.network
    }

    /// True when all headers of `other` stand where they do here, and are of the same kinds.
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        let key = |l: &Self| (l.outer, l.network, l.transport, l.payload, l.v6, l.tcp);
        key(self) == key(other)
    }

    /// The sum of the pseudo header of a transport header and payload of `len` bytes; `headers` are the frame's.
    pub(super) fn pseudo_sum(&self, headers: &[u8], len: u16) -> Option<Sum> {
        let ip = headers.get(usize::from(self.network)..)?;
        let addresses = if self.v6 {
            ip.get(8..IPV6_LEN)?
        } else {
            ip.get(12..ipv4::HEADER_LEN)?
        };
        let protocol = if self.tcp { PROTOCOL_TCP } else { PROTOCOL_UDP };
        Some(
            Sum::new()
                .add_bytes(addresses)
                .add_u16(protocol.into())
                .add_u16(len),
        )
    }

    /// Bytes of all headers, Ethernet's included.
    #[must_use]
    pub fn headers_len(&self) -> usize {
        usize::from(self.payload)
    }

    /// Bytes behind all headers, of what `frame` has: padding doesn't count.
    #[must_use]
    pub fn payload_len(&self, frame: &Frame) -> usize {
        (self.end as usize)
            .min(frame.len())
            .saturating_sub(self.headers_len())
    }
}

/// Whether it is IPv6 or IPv4, and where its header stands, behind tags (which bridges let pass).
fn link(head: &[u8]) -> Option<(bool, usize)> {
    let mut at = ethernet::HEADER_LEN;
    for _ in 0..=MAX_TAGS {
        match word(head, at - 2)? {
            ETHERTYPE_IPV4 => return Some((false, at)),
            ETHERTYPE_IPV6 => return Some((true, at)),
            ETHERTYPE_VLAN | ETHERTYPE_QINQ => at += TAG_LEN,
            _ => return None,
        }
    }
    None
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let [a, b] = *bytes.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes([a, b]))
}

fn read_v4(head: &[u8], at: usize) -> Option<Ip> {
    let h = head.get(at..)?.first_chunk::<{ ipv4::HEADER_LEN }>()?;
    let header_len = usize::from(h[0] & 0xf) * 4;
    // A fragment has no checksum of its own.
    let whole = u16::from_be_bytes([h[6], h[7]]) & 0x3fff == 0;
    (h[0] >> 4 == 4 && header_len >= ipv4::HEADER_LEN && whole).then_some(Ip {
        protocol: h[9],
        header_len,
        total_len: usize::from(u16::from_be_bytes([h[2], h[3]])),
    })
}

fn read_v6(head: &[u8], at: usize) -> Option<Ip> {
    let h = head.get(at..)?.first_chunk::<IPV6_LEN>()?;
    (h[0] >> 4 == 6).then_some(Ip {
        protocol: h[6],
        header_len: IPV6_LEN,
        total_len: IPV6_LEN + usize::from(u16::from_be_bytes([h[4], h[5]])),
    })
}

//! Packets from layers: `eth(dst, src) / ipv4(a, b).ttl(1) / udp(1000, 53) / b"x"`.
//!
//! Lengths, protocol numbers, EtherTypes and checksums follow from what stands behind a layer unless they are set.

use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use core::ops::Div;

use crate::addr::Mac;

/// A frame, or the part of one, as layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    layers: Vec<Layer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Layer {
    Eth {
        dst: Mac,
        src: Mac,
        ethertype: Option<u16>,
    },
    Arp {
        operation: u16,
        sha: Mac,
        spa: Ipv4Addr,
        tha: Mac,
        tpa: Ipv4Addr,
    },
    Ipv4(Ipv4),
    Udp {
        src: u16,
        dst: u16,
        checksum: Option<u16>,
    },
    Tcp {
        src: u16,
        dst: u16,
        seq: u32,
        ack: u32,
        flags: u8,
        window: u16,
        options: Vec<u8>,
        checksum: Option<u16>,
    },
    Icmp {
        kind: u8,
        code: u8,
        rest: [u8; 4],
        checksum: Option<u16>,
    },
    Bytes(Vec<u8>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Ipv4 {
    version_ihl: Option<u8>,
    tos: u8,
    total_len: Option<u16>,
    ident: Option<u16>,
    flags_offset: u16,
    ttl: u8,
    protocol: Option<u8>,
    checksum: Option<u16>,
    src: Ipv4Addr,
    dst: Ipv4Addr,
    options: Vec<u8>,
}

/// Ethernet header.
#[must_use]
pub fn eth(dst: Mac, src: Mac) -> Packet {
    Layer::Eth {
        dst,
        src,
        ethertype: None,
    }
    .into()
}

/// IPv4 header: TTL 64, identification 0, no flags.
#[must_use]
pub fn ipv4(src: Ipv4Addr, dst: Ipv4Addr) -> Packet {
    Layer::Ipv4(Ipv4 {
        version_ihl: None,
        tos: 0,
        total_len: None,
        ident: Some(0),
        flags_offset: 0,
        ttl: 64,
        protocol: None,
        checksum: None,
        src,
        dst,
        options: Vec::new(),
    })
    .into()
}

/// ARP request of `spa` at `sha` for `tpa`.
#[must_use]
pub fn arp_request(sha: Mac, spa: Ipv4Addr, tpa: Ipv4Addr) -> Packet {
    Layer::Arp {
        operation: 1,
        sha,
        spa,
        tha: Mac::ZERO,
        tpa,
    }
    .into()
}

/// ARP reply: `spa` is at `sha`, said to `tpa` at `tha`.
#[must_use]
pub fn arp_reply(sha: Mac, spa: Ipv4Addr, tha: Mac, tpa: Ipv4Addr) -> Packet {
    Layer::Arp {
        operation: 2,
        sha,
        spa,
        tha,
        tpa,
    }
    .into()
}

/// UDP header.
#[must_use]
pub fn udp(src: u16, dst: u16) -> Packet {
    Layer::Udp {
        src,
        dst,
        checksum: None,
    }
    .into()
}

/// TCP header with these flags (octet 13).
#[must_use]
pub fn tcp(src: u16, dst: u16, flags: u8) -> Packet {
    Layer::Tcp {
        src,
        dst,
        seq: 0,
        ack: 0,
        flags,
        window: 0,
        options: Vec::new(),
        checksum: None,
    }
    .into()
}

/// ICMP header.
#[must_use]
pub fn icmp(kind: u8, code: u8, rest: [u8; 4]) -> Packet {
    Layer::Icmp {
        kind,
        code,
        rest,
        checksum: None,
    }
    .into()
}

/// ICMP echo request.
#[must_use]
pub fn echo_request(id: u16, seq: u16) -> Packet {
    icmp(8, 0, id_seq(id, seq))
}

/// ICMP echo reply.
#[must_use]
pub fn echo_reply(id: u16, seq: u16) -> Packet {
    icmp(0, 0, id_seq(id, seq))
}

fn id_seq(id: u16, seq: u16) -> [u8; 4] {
    [
        (id >> 8) as u8,
        (id & 0xff) as u8,
        (seq >> 8) as u8,
        (seq & 0xff) as u8,
    ]
}

/// ICMP 11/0.
#[must_use]
pub fn time_exceeded() -> Packet {
    icmp(11, 0, [0; 4])
}

/// ICMP 3/code.
#[must_use]
pub fn unreachable(code: u8) -> Packet {
    icmp(3, code, [0; 4])
}

/// ICMP 3/4 with this MTU.
#[must_use]
pub fn fragmentation_needed(mtu: u16) -> Packet {
    icmp(3, 4, [0, 0, (mtu >> 8) as u8, (mtu & 0xff) as u8])
}

/// ICMP 12/0 with this pointer.
#[must_use]
pub fn parameter_problem(pointer: u8) -> Packet {
    icmp(12, 0, [pointer, 0, 0, 0])
}

/// Bytes as they are.
#[must_use]
pub fn payload(bytes: impl Into<Vec<u8>>) -> Packet {
    Layer::Bytes(bytes.into()).into()
}

/// What an ICMP error quotes of a frame: its packet, up to 548 bytes.
#[must_use]
pub fn quote(frame: &Packet) -> Packet {
    let bytes = frame.bytes();
    payload(&bytes[14..bytes.len().min(14 + 548)])
}

/// The IPv4 packet of a frame as fragments that fit `mtu`, each in a frame of its own: first fragment first, all headers
/// alike but for length, offset, MF and checksum.
///
/// # Panics
/// When the frame is no IPv4 packet or `mtu` leaves no room for 8 bytes of payload.
#[must_use]
pub fn fragments(frame: &Packet, mtu: usize) -> Vec<Packet> {
    let bytes = frame.bytes();
    let (link, ip) = bytes.split_at(14);
    let (header, data) = ip.split_at(usize::from(ip[0] & 15) * 4);
    let step = (mtu - header.len()) / 8 * 8;
    let base = (u16::from(header[6]) << 8 | u16::from(header[7])) & 0x1fff;
    let more_follow = header[6] & 0x20 != 0;
    let pieces = data.chunks(step).enumerate();
    let cut = pieces.map(|(n, piece)| {
        let mut out = header.to_vec();
        let len = u16::try_from(header.len() + piece.len()).expect("a fragment is short");
        set16(&mut out, 2, len);
        let offset = base + u16::try_from(n * step / 8).expect("a packet is short");
        let more = more_follow || (n + 1) * step < data.len();
        let reserved_and_df = u16::from(header[6] & 0xc0) << 8;
        set16(
            &mut out,
            6,
            reserved_and_df | u16::from(more) << 13 | offset,
        );
        set16(&mut out, 10, 0);
        let sum = naive_checksum(&out);
        set16(&mut out, 10, sum);
        payload([link, &out, piece].concat())
    });
    cut.collect()
}

impl From<Layer> for Packet {
    fn from(layer: Layer) -> Self {
        Self {
            layers: vec![layer],
        }
    }
}

impl Div for Packet {
    type Output = Self;

    fn div(mut self, inner: Self) -> Self {
        self.layers.extend(inner.layers);
        self
    }
}

impl<const N: usize> Div<&[u8; N]> for Packet {
    type Output = Self;

    fn div(self, bytes: &[u8; N]) -> Self {
        self / payload(bytes.as_slice())
    }
}

impl Div<Vec<u8>> for Packet {
    type Output = Self;

    fn div(self, bytes: Vec<u8>) -> Self {
        self / payload(bytes)
    }
}

/// Changes the last layer; says what was asked of which layer when it has no such field.
macro_rules! field {
    ($(#[$doc:meta])* $name:ident($($arg:ident: $Ty:ty),*) $($pattern:pat => $set:expr),+) => {
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self $(, $arg: $Ty)*) -> Self {
            match self.layers.last_mut() {
                $(Some($pattern) => $set,)+
                other => panic!(concat!(stringify!($name), " is no field of {:?}"), other),
            }
            self
        }
    };
}

impl Packet {
    field!(/// EtherType.
        ethertype(value: u16) Layer::Eth { ethertype, .. } => *ethertype = Some(value));
    field!(/// First octet of the IPv4 header.
        version_ihl(value: u8) Layer::Ipv4(ip) => ip.version_ihl = Some(value));
    field!(/// Type of service.
        tos(value: u8) Layer::Ipv4(ip) => ip.tos = value);
    field!(/// Total length.
        total_len(value: u16) Layer::Ipv4(ip) => ip.total_len = Some(value));
    field!(/// Identification.
        id(value: u16) Layer::Ipv4(ip) => ip.ident = Some(value));
    field!(/// Whatever identification the frame that this is compared with has.
        any_id() Layer::Ipv4(ip) => ip.ident = None);
    field!(/// DF.
        df() Layer::Ipv4(ip) => ip.flags_offset |= 0x4000);
    field!(/// MF.
        mf() Layer::Ipv4(ip) => ip.flags_offset |= 0x2000);
    field!(/// The reserved flag.
        evil() Layer::Ipv4(ip) => ip.flags_offset |= 0x8000);
    field!(/// Fragment offset in bytes, a multiple of 8.
        offset(bytes: u16) Layer::Ipv4(ip) => ip.flags_offset |= bytes / 8);
    field!(/// Time to live.
        ttl(value: u8) Layer::Ipv4(ip) => ip.ttl = value);
    field!(/// Protocol number.
        protocol(value: u8) Layer::Ipv4(ip) => ip.protocol = Some(value));
    field!(/// IPv4 or TCP options, a multiple of 4 bytes.
        options(bytes: &[u8])
        Layer::Ipv4(ip) => ip.options = bytes.to_vec(),
        Layer::Tcp { options, .. } => *options = bytes.to_vec());
    field!(/// TCP window, not scaled.
        window(value: u16) Layer::Tcp { window, .. } => *window = value);
    field!(/// TCP sequence number.
        seq(value: u32) Layer::Tcp { seq, .. } => *seq = value);
    field!(/// TCP acknowledgement number.
        ack(value: u32) Layer::Tcp { ack, .. } => *ack = value);
    field!(/// A checksum that is not computed.
        checksum(value: u16)
        Layer::Ipv4(ip) => ip.checksum = Some(value),
        Layer::Udp { checksum, .. } | Layer::Tcp { checksum, .. } | Layer::Icmp { checksum, .. } => *checksum = Some(value));

    /// The bytes.
    ///
    /// # Panics
    /// When an identification is open ([`Packet::any_id`]).
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.build(None)
    }

    /// The bytes, with an open identification taken from `actual`.
    #[must_use]
    pub fn bytes_like(&self, actual: &[u8]) -> Vec<u8> {
        self.build(Some(actual))
    }

    fn build(&self, actual: Option<&[u8]>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (at, layer) in self.layers.iter().enumerate().rev() {
            bytes = layer.put_before(bytes, &self.layers[..at], self.layers.get(at + 1), actual);
        }
        bytes
    }
}

impl Layer {
    /// This layer in front of `rest`. `outer` are the layers before it, `inner` the next one.
    fn put_before(
        &self,
        rest: Vec<u8>,
        outer: &[Self],
        inner: Option<&Self>,
        actual: Option<&[u8]>,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Bytes(bytes) => out.extend(bytes),
            Self::Eth {
                dst,
                src,
                ethertype,
            } => {
                let of_inner = match inner {
                    Some(Self::Arp { .. }) => 0x0806,
                    _ => 0x0800,
                };
                out.extend(dst.0);
                out.extend(src.0);
                put16(&mut out, ethertype.unwrap_or(of_inner));
            }
            Self::Arp {
                operation,
                sha,
                spa,
                tha,
                tpa,
            } => {
                out.extend([0, 1, 8, 0, 6, 4]);
                put16(&mut out, *operation);
                out.extend(sha.0);
                out.extend(spa.octets());
                out.extend(tha.0);
                out.extend(tpa.octets());
            }
            Self::Ipv4(ip) => {
                let of_inner = match inner {
                    Some(Self::Icmp { .. }) => 1,
                    Some(Self::Tcp { .. }) => 6,
                    Some(Self::Ipv4(_)) => 4,
                    _ => 17,
                };
                let header = 20 + ip.options.len();
                let ident = ip.ident.unwrap_or_else(|| {
                    let frame =
                        actual.expect("an open identification needs a frame to compare with");
                    // Where this header stands if the frame is as long; else behind the Ethernet header.
                    let at = frame.len().checked_sub(header + rest.len()).unwrap_or(14) + 4;
                    match frame.get(at..at + 2) {
                        Some(&[high, low]) => u16::from(high) << 8 | u16::from(low),
                        _ => 0,
                    }
                });
                out.push(ip.version_ihl.unwrap_or_else(|| {
                    0x40 | u8::try_from(header / 4).expect("at most 40 bytes of options")
                }));
                out.push(ip.tos);
                let len = u16::try_from(header + rest.len())
                    .expect("an IPv4 packet is at most 65535 bytes long");
                put16(&mut out, ip.total_len.unwrap_or(len));
                put16(&mut out, ident);
                put16(&mut out, ip.flags_offset);
                out.push(ip.ttl);
                out.push(ip.protocol.unwrap_or(of_inner));
                put16(&mut out, 0);
                out.extend(ip.src.octets());
                out.extend(ip.dst.octets());
                out.extend(&ip.options);
                let sum = naive_checksum(&out);
                set16(&mut out, 10, ip.checksum.unwrap_or(sum));
            }
            Self::Udp { src, dst, checksum } => {
                put16(&mut out, *src);
                put16(&mut out, *dst);
                put16(
                    &mut out,
                    u16::try_from(8 + rest.len()).expect("a datagram is at most 65535 bytes long"),
                );
                put16(&mut out, 0);
                let sum = match transport_checksum(outer, 17, &out, &rest) {
                    0 => 0xffff,
                    sum => sum,
                };
                set16(&mut out, 6, checksum.unwrap_or(sum));
            }
            Self::Tcp {
                src,
                dst,
                seq,
                ack,
                flags,
                window,
                options,
                checksum,
            } => {
                put16(&mut out, *src);
                put16(&mut out, *dst);
                for word in [seq, ack] {
                    put16(&mut out, (word >> 16) as u16);
                    put16(&mut out, (word & 0xffff) as u16);
                }
                let words =
                    u8::try_from(5 + options.len() / 4).expect("at most 40 bytes of options");
                out.extend([words << 4, *flags]);
                put16(&mut out, *window);
                out.extend([0; 4]);
                out.extend(options);
                let sum = transport_checksum(outer, 6, &out, &rest);
                set16(&mut out, 16, checksum.unwrap_or(sum));
            }
            Self::Icmp {
                kind,
                code,
                rest: header,
                checksum,
            } => {
                out.extend([*kind, *code, 0, 0]);
                out.extend(header);
                let mut whole = out.clone();
                whole.extend(&rest);
                let sum = naive_checksum(&whole);
                set16(&mut out, 2, checksum.unwrap_or(sum));
            }
        }
        out.extend(rest);
        out
    }
}

fn put16(out: &mut Vec<u8>, value: u16) {
    out.push((value >> 8) as u8);
    out.push((value & 0xff) as u8);
}

fn set16(out: &mut [u8], at: usize, value: u16) {
    out[at] = (value >> 8) as u8;
    out[at + 1] = (value & 0xff) as u8;
}

fn transport_checksum(outer: &[Layer], protocol: u8, header: &[u8], rest: &[u8]) -> u16 {
    let mut all = Vec::new();
    if let Some(Layer::Ipv4(ip)) = outer.last() {
        all.extend(ip.src.octets());
        all.extend(ip.dst.octets());
        all.extend([0, protocol]);
        put16(
            &mut all,
            u16::try_from(header.len() + rest.len())
                .expect("a segment is at most 65535 bytes long"),
        );
    }
    all.extend(header);
    all.extend(rest);
    naive_checksum(&all)
}

/// The Internet checksum, one 16-bit word and one carry at a time.
#[must_use]
pub fn naive_checksum(bytes: &[u8]) -> u16 {
    let mut sum: u16 = 0;
    let mut at = 0;
    while at < bytes.len() {
        let low = if at + 1 < bytes.len() {
            bytes[at + 1]
        } else {
            0
        };
        let word = u16::from(bytes[at]) << 8 | u16::from(low);
        let (added, carry) = sum.overflowing_add(word);
        sum = if carry { added + 1 } else { added };
        at += 2;
    }
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An echo request, checksums summed on paper (identifier 0x1c21, sequence 1, 8 bytes of payload).
    #[test]
    fn a_packet_is_built_as_by_hand() {
        let built = (eth(Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]))
            / ipv4(Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 1))
                .id(0xbeef)
                .df()
            / echo_request(0x1c21, 1)
            / b"abcdefgh")
            .bytes();
        let by_hand = [
            0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0x00, // Ethernet
            0x45, 0, 0, 36, 0xbe, 0xef, 0x40, 0, 64, 1, 0x67, 0xe7, 10, 0, 0, 2, 10, 0, 0,
            1, // IPv4
            8, 0, 0x4a, 0x48, 0x1c, 0x21, 0, 1, b'a', b'b', b'c', b'd', b'e', b'f', b'g', b'h',
        ];
        assert_eq!(built, by_hand);
    }
}

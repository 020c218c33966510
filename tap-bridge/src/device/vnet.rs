//! The virtio-net header in front of every frame of a device with offloads, and the [`Offload`] that it means.
//!
//! Decides which headers can be true ([`Malformed`] is a counted error of the port) and what is written for a frame on its
//! way out. Any port with such a header uses it (TAP; packet sockets with PACKET_VNET_HDR). Pure functions.
//!
//! ```text
//!   0       1          2         4          6            8             10
//!   | flags | gso_type | hdr_len | gso_size | csum_start | csum_offset |      host byte order (legacy, tuntap's default)
//! ```
//!
//! hdr_len of what is read is a hint and not believed. Of what is written it must be right: the kernel puts so many bytes
//! into a buffer's linear part, and without it all 64 kB there.
//!
//! Source: virtio 1.3, 5.1.6; Linux `include/uapi/linux/virtio_net.h`, `include/linux/virtio_net.h`,
//! `drivers/net/tun.c`. Cost: a few nanoseconds.

use router_core::frame::{Gso, GsoKind, Offload, Partial};

use crate::offload::{header_len, is_sound};

/// Bytes of the header (TUNSETVNETHDRSZ): the one without num_buffers.
pub const HEADER: usize = 10;

const NEEDS_CSUM: u8 = 1;

const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// A header that no frame with this head has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// What `header` says of the frame that begins with `head`.
///
/// # Errors
/// [`Malformed`] for a kind that was not asked for (UFO), or one that [`is_sound`] doesn't believe.
pub fn parse(header: &[u8; HEADER], head: &[u8]) -> Result<Offload, Malformed> {
    let [flags, kind, ..] = *header;
    let word = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
    let partial = (flags & NEEDS_CSUM != 0).then(|| Partial {
        start: word(6),
        offset: word(8),
    });
    let gso = match kind & !GSO_ECN {
        GSO_NONE if kind == GSO_NONE => None,
        GSO_TCPV4 => Some(GsoKind::TcpV4),
        GSO_TCPV6 => Some(GsoKind::TcpV6),
        GSO_UDP_L4 if kind & GSO_ECN == 0 => Some(GsoKind::Udp),
        _ => return Err(Malformed),
    };
    let gso = gso.map(|kind_of| Gso {
        kind: kind_of,
        size: word(4),
        ecn: kind & GSO_ECN != 0,
    });
    let offload = Offload { partial, gso };
    if is_sound(offload, head) {
        Ok(offload)
    } else {
        Err(Malformed)
    }
}

/// The header for a frame that begins with `head` and has `offload` left to do.
#[must_use]
pub fn write(offload: Offload, head: &[u8]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let Some(partial) = offload.partial else {
        return header;
    };
    let mut put = |at: usize, word: u16| header[at..at + 2].copy_from_slice(&word.to_ne_bytes());
    put(6, partial.start);
    put(8, partial.offset);
    let mut kind = GSO_NONE;
    if let Some(gso) = offload.gso {
        let len = header_len(offload, head);
        put(2, u16::try_from(len).unwrap_or(u16::MAX));
        put(4, gso.size);
        kind = match gso.kind {
            GsoKind::TcpV4 => GSO_TCPV4,
            GsoKind::TcpV6 => GSO_TCPV6,
            GsoKind::Udp => GSO_UDP_L4,
        };
        if gso.ecn {
            kind |= GSO_ECN;
        }
    }
    header[0] = NEEDS_CSUM;
    header[1] = kind;
    header
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(flags: u8, kind: u8, words: [u16; 4]) -> [u8; HEADER] {
        let mut header = [flags, kind, 0, 0, 0, 0, 0, 0, 0, 0];
        for (place, word) in header[2..].chunks_exact_mut(2).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        header
    }

    fn head(ethertype: u16) -> Vec<u8> {
        let mut head = vec![0; 12];
        head.extend(ethertype.to_be_bytes());
        head.resize(94, 0);
        // The data offset of a TCP header behind 20 bytes of IPv4, and behind 40 of IPv6: 32 bytes.
        head[34 + 12] = 0x80;
        head[54 + 12] = 0x80;
        head
    }

    fn partial(start: u16, offset: u16) -> Option<Partial> {
        Some(Partial { start, offset })
    }

    fn gso(kind: GsoKind, size: u16, ecn: bool) -> Option<Gso> {
        Some(Gso { kind, size, ecn })
    }

    const V4: u16 = 0x0800;
    const V6: u16 = 0x86dd;

    /// FWD-78 as decision 15 supersedes it: what the kernel says of a frame, and what it is told of one.
    #[test]
    fn each_header_means_its_offload_and_is_written_for_it() {
        let none = Offload::NONE;
        let rows = [
            (V4, header(0, 0, [0; 4]), none),
            (
                V4,
                header(1, 0, [0, 0, 34, 16]),
                Offload {
                    partial: partial(34, 16),
                    gso: None,
                },
            ),
            (
                V4,
                header(1, 1, [66, 1448, 34, 16]),
                Offload {
                    partial: partial(34, 16),
                    gso: gso(GsoKind::TcpV4, 1448, false),
                },
            ),
            (
                V4,
                header(1, 0x81, [66, 1448, 34, 16]),
                Offload {
                    partial: partial(34, 16),
                    gso: gso(GsoKind::TcpV4, 1448, true),
                },
            ),
            (
                V6,
                header(1, 4, [86, 1428, 54, 16]),
                Offload {
                    partial: partial(54, 16),
                    gso: gso(GsoKind::TcpV6, 1428, false),
                },
            ),
            (
                V4,
                header(1, 5, [42, 1200, 34, 6]),
                Offload {
                    partial: partial(34, 6),
                    gso: gso(GsoKind::Udp, 1200, false),
                },
            ),
        ];
        for (ethertype, bytes, offload) in rows {
            assert_eq!(parse(&bytes, &head(ethertype)), Ok(offload), "{bytes:?}");
            assert_eq!(write(offload, &head(ethertype)), bytes);
        }
    }

    #[test]
    fn a_checksum_that_was_verified_leaves_nothing_to_do_and_the_header_length_is_not_believed() {
        let data_valid = header(2, 0, [0; 4]);
        assert_eq!(parse(&data_valid, &head(V4)), Ok(Offload::NONE));
        let lies = header(1, 1, [u16::MAX, 1448, 34, 16]);
        assert!(parse(&lies, &head(V4)).is_ok());
    }

    #[test]
    fn headers_that_cannot_be_true_are_malformed() {
        let rows = [
            ("UFO", header(1, 3, [42, 1200, 34, 6])),
            ("no such kind", header(1, 2, [66, 1448, 34, 16])),
            ("ECN of nothing", header(1, 0x80, [0, 0, 34, 16])),
            ("ECN of UDP", header(1, 0x85, [42, 1200, 34, 6])),
            ("cut without a checksum", header(0, 1, [66, 1448, 34, 16])),
            ("segments of nothing", header(1, 1, [66, 0, 34, 16])),
            ("checksum behind the end", header(1, 0, [0, 0, 93, 0])),
            ("checksum far away", header(1, 0, [0, 0, 34, u16::MAX])),
            ("start far away", header(1, 0, [0, 0, u16::MAX, u16::MAX])),
            ("in the Ethernet header", header(1, 0, [0, 0, 6, 0])),
            ("TCP checksum of UDP", header(1, 5, [42, 1200, 34, 16])),
            ("IPv6 in IPv4", header(1, 4, [74, 1448, 34, 16])),
        ];
        for (name, bytes) in rows {
            assert_eq!(parse(&bytes, &head(V4)), Err(Malformed), "{name}");
        }
    }

    proptest! {
        /// What is believed is written again as it was, but for the hint.
        #[test]
        fn any_header_is_malformed_or_comes_back(bytes: [u8; HEADER], len in 14_usize..94, v6: bool) {
            let head = &head(if v6 { V6 } else { V4 })[..len];
            if let Ok(offload) = parse(&bytes, head) {
                prop_assert_eq!(parse(&write(offload, head), head), Ok(offload));
                prop_assert!(header_len(offload, head) <= len);
            }
        }
    }
}

//! What may be believed of what a device or a peer says is left to do to a frame; and a frame as a wire would carry it.
//!
//! Decides which [`Offload`]s can be true of a frame with this head. Does not look at whether the packet itself is sound:
//! that is the router's. Sources: virtio 1.3, 5.1.6; Linux `include/linux/virtio_net.h` (`virtio_net_hdr_to_skb`).
//! Cost: a handful of comparisons, and none for a frame with nothing left to do.

use router_core::Frame;
use router_core::frame::{GsoKind, MAX_FRAME, Offload};
use router_core::segment::{self, Cutter};

use crate::port::ETHERNET_HEADER;

/// Largest superframe, bytes: a full IPv4 total length behind an Ethernet header.
pub const MAX_SUPERFRAME: usize = ETHERNET_HEADER + 65_535;

const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const TCP_CHECKSUM: u16 = 16;
const UDP_CHECKSUM: u16 = 6;

/// True when a frame that begins with `head` can have this left to do: the checksum lies in the head behind the Ethernet
/// header, and a superframe has the whole transport header there, a checksum to complete where its protocol has it, and the
/// EtherType of its kind.
#[must_use]
pub fn is_sound(offload: Offload, head: &[u8]) -> bool {
    let Some(partial) = offload.partial else {
        // What is cut gets new checksums, so there must be one to complete.
        return offload.gso.is_none();
    };
    let (start, offset) = (usize::from(partial.start), usize::from(partial.offset));
    if start < ETHERNET_HEADER || start + offset + 2 > head.len() {
        return false;
    }
    let Some(gso) = offload.gso else {
        return true;
    };
    let ethertype = head.get(12..14);
    let is_v4 = ethertype == Some(&[0x08, 0x00]);
    let is_v6 = ethertype == Some(&[0x86, 0xdd]);
    let (checksum, header, family) = match gso.kind {
        GsoKind::TcpV4 => (TCP_CHECKSUM, TCP_HEADER, is_v4),
        GsoKind::TcpV6 => (TCP_CHECKSUM, TCP_HEADER, is_v6),
        GsoKind::Udp => (UDP_CHECKSUM, UDP_HEADER, is_v4 || is_v6),
    };
    gso.size > 0 && partial.offset == checksum && start + header <= head.len() && family
}

/// Hands what a wire would carry for `frame` to `each`: the frame itself, with its checksum complete; or the segments of a
/// superframe, first to last, until `each` says that it takes no more. False when it can't be cut or completed.
pub fn on_the_wire(frame: &mut Frame, mut each: impl FnMut(&[u8]) -> bool) -> bool {
    if !frame.is_superframe() {
        if segment::complete(frame).is_err() {
            return false;
        }
        each(frame.bytes());
        return true;
    }
    let Ok(cutter) = Cutter::new(frame) else {
        return false;
    };
    let mut bytes = [0; MAX_FRAME];
    for n in 0..cutter.count() {
        match cutter.write(n, &mut bytes) {
            None => return false,
            Some(len) if each(&bytes[..len]) => {}
            Some(_) => break,
        }
    }
    true
}

/// Bytes of all headers of a superframe, as far as they lie in its head.
pub(crate) fn header_len(offload: Offload, head: &[u8]) -> usize {
    let (Some(partial), Some(gso)) = (offload.partial, offload.gso) else {
        return 0;
    };
    let start = usize::from(partial.start);
    let transport = match gso.kind {
        GsoKind::Udp => UDP_HEADER,
        GsoKind::TcpV4 | GsoKind::TcpV6 => {
            let words = head.get(start + 12).map_or(0, |b| usize::from(b >> 4));
            (words * 4).max(TCP_HEADER)
        }
    };
    (start + transport).min(head.len())
}

#[cfg(test)]
mod tests {
    use router_core::frame::{Gso, Partial};

    use super::*;

    fn head(ethertype: [u8; 2], len: usize) -> Vec<u8> {
        let mut head = vec![0; len];
        head[12..14].copy_from_slice(&ethertype);
        head
    }

    const V4: [u8; 2] = [8, 0];
    const V6: [u8; 2] = [0x86, 0xdd];

    #[test]
    fn what_cannot_be_true_of_a_frame_is_not_believed() {
        let partial = |start, offset| Some(Partial { start, offset });
        let gso = |kind, size| {
            Some(Gso {
                kind,
                size,
                ecn: false,
            })
        };
        let tcp = gso(GsoKind::TcpV4, 1448);
        let rows = [
            ("nothing", V4, 14, None, None, true),
            ("cut without a checksum", V4, 60, None, tcp, false),
            ("checksum", V4, 60, partial(34, 16), None, true),
            ("last bytes", V4, 52, partial(34, 16), None, true),
            ("one byte too few", V4, 51, partial(34, 16), None, false),
            (
                "in the Ethernet header",
                V4,
                60,
                partial(13, 16),
                None,
                false,
            ),
            (
                "far behind",
                V4,
                60,
                partial(u16::MAX, u16::MAX),
                None,
                false,
            ),
            ("TCP", V4, 54, partial(34, 16), tcp, true),
            ("TCP header cut", V4, 53, partial(34, 16), tcp, false),
            ("TCP elsewhere", V4, 60, partial(34, 6), tcp, false),
            (
                "TCP of the other family",
                V6,
                60,
                partial(34, 16),
                tcp,
                false,
            ),
            (
                "segments of nothing",
                V4,
                60,
                partial(34, 16),
                gso(GsoKind::TcpV4, 0),
                false,
            ),
            (
                "TCP6",
                V6,
                74,
                partial(54, 16),
                gso(GsoKind::TcpV6, 1),
                true,
            ),
            (
                "TCP6 as IPv4",
                V4,
                74,
                partial(54, 16),
                gso(GsoKind::TcpV6, 1),
                false,
            ),
            ("UDP", V4, 42, partial(34, 6), gso(GsoKind::Udp, 1), true),
            ("UDP6", V6, 62, partial(54, 6), gso(GsoKind::Udp, 1), true),
            (
                "UDP elsewhere",
                V4,
                60,
                partial(34, 16),
                gso(GsoKind::Udp, 1),
                false,
            ),
            (
                "UDP of ARP",
                [8, 6],
                60,
                partial(34, 6),
                gso(GsoKind::Udp, 1),
                false,
            ),
        ];
        for (name, ethertype, len, partial, gso, want) in rows {
            let offload = Offload { partial, gso };
            assert_eq!(is_sound(offload, &head(ethertype, len)), want, "{name}");
        }
    }

    #[test]
    fn the_headers_of_a_superframe_end_where_its_transport_header_says() {
        let mut tcp = head(V4, 100);
        let offload = |kind, offset| Offload {
            partial: Some(Partial { start: 34, offset }),
            gso: Some(Gso {
                kind,
                size: 1,
                ecn: false,
            }),
        };
        for (words, want) in [(8, 66), (5, 54), (0, 54), (15, 94)] {
            tcp[46] = words << 4;
            assert_eq!(header_len(offload(GsoKind::TcpV4, 16), &tcp), want);
        }
        assert_eq!(header_len(offload(GsoKind::Udp, 6), &tcp), 42);
        assert_eq!(header_len(offload(GsoKind::TcpV4, 16), &tcp[..60]), 60);
        assert_eq!(header_len(Offload::NONE, &tcp), 0);
    }
}

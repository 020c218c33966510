//! The header views on any frame.
//!
//! Holds: a view shows the bytes that are there and no others; what is emitted parses to the same fields; the checksum is
//! the naive one; and the libraries that others parse packets with are of the same opinion (`opinions`).

mod opinions;

use router_core::wire::checksum::Sum;
use router_core::wire::{arp, ethernet, icmpv4, ipv4, tcp, udp};

/// The input is the frame.
pub fn run(bytes: &[u8]) {
    assert_eq!(
        Sum::new().add_bytes(bytes).fold() % 0xffff,
        naive_sum(bytes) % 0xffff,
        "checksum"
    );
    let Some((header, payload)) = ethernet::parse(bytes) else {
        assert!(bytes.len() < 14);
        return;
    };
    assert_eq!(header.emit(), bytes[..14]);
    assert_eq!(payload, &bytes[14..]);
    // Whatever the EtherType says: the router never asks the wrong view, the fuzzer does.
    opinions::on_arp(payload);
    opinions::on_ipv4(payload);
    if let Some(arp) = arp::Arp::parse(payload) {
        assert_eq!(arp::Arp::parse(&arp.emit()), Some(arp));
        assert_eq!(
            arp.emit()[2..],
            payload[2..28],
            "all but the hardware type is the same again"
        );
    }
    if let Some(quoted) = ipv4::Ipv4::peek(payload) {
        assert!(quoted.header_len() + quoted.payload().len() == payload.len());
    }
    if let Ok(packet) = ipv4::Ipv4::parse(payload) {
        check_ipv4(payload, &packet);
        transport(packet.payload(), &packet);
    }
    if let Some(packet) = ipv4::Ipv4::peek(payload) {
        transport(packet.payload(), &packet);
    }
}

fn check_ipv4(bytes: &[u8], packet: &ipv4::Ipv4<'_>) {
    let header = usize::from(bytes[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
    assert_eq!(bytes[0] >> 4, 4);
    assert_eq!(packet.header_len(), header);
    assert_eq!(packet.options(), &bytes[20..header]);
    assert_eq!(
        packet.payload(),
        &bytes[header..total],
        "padding is cut off"
    );
    assert_eq!(packet.src().octets(), bytes[12..16]);
    assert_eq!(packet.dst().octets(), bytes[16..20]);
    assert_eq!(
        (packet.ttl(), packet.protocol(), packet.tos()),
        (bytes[8], bytes[9], bytes[1])
    );
    assert_eq!(
        naive_sum(&bytes[..header]) % 0xffff,
        0,
        "a wrong header checksum is refused"
    );
}

fn transport(bytes: &[u8], packet: &ipv4::Ipv4<'_>) {
    opinions::on_udp(bytes, packet.src(), packet.dst());
    opinions::on_tcp(bytes, packet.src(), packet.dst());
    opinions::on_icmp(bytes);
    if let Some(datagram) = udp::Udp::parse(bytes) {
        let length = usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
        assert_eq!(datagram.payload(), &bytes[8..length]);
        assert_eq!(datagram.src_port().to_be_bytes(), bytes[..2]);
        let _ = datagram.checksum_verifies(packet.src(), packet.dst());
    }
    if let Some(segment) = tcp::Tcp::parse(bytes) {
        let offset = usize::from(bytes[12] >> 4) * 4;
        assert_eq!(segment.payload(), &bytes[offset..]);
        let _ = segment.checksum_verifies(packet.src(), packet.dst());
        if let Some(reset) = segment.reset(packet.src(), packet.dst()) {
            let answer = tcp::Tcp::parse(&reset).expect("a reset is a segment");
            assert!(answer.checksum_verifies(packet.dst(), packet.src()));
            assert_eq!(answer.dst_port(), segment.src_port());
            assert!(
                answer.reset(packet.dst(), packet.src()).is_none(),
                "no reset about a reset"
            );
        }
    }
    if let Some(message) = icmpv4::Icmpv4::parse(bytes) {
        assert_eq!(
            naive_sum(bytes) % 0xffff,
            0,
            "a wrong ICMP checksum is refused"
        );
        let again = icmpv4::emit(
            message.kind(),
            message.code(),
            message.rest_of_header(),
            message.payload(),
        );
        assert_eq!(again[..2], bytes[..2]);
        assert_eq!(again[4..], bytes[4..8]);
        let sum = u16::from_be_bytes([again[2], again[3]]) % 0xffff;
        assert_eq!(sum, u16::from_be_bytes([bytes[2], bytes[3]]) % 0xffff);
    }
}

/// RFC 1071 word by word, folded after each.
fn naive_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        if sum > 0xffff {
            sum -= 0xffff;
        }
    }
    u16::try_from(sum).expect("folded after every step")
}

/// An ARP request, an echo request, a TCP SYN, a UDP datagram with options before it, a fragment.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let ethernet = |kind: [u8; 2]| {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        frame.extend(kind);
        frame
    };
    let ipv4 = |options: &[u8], protocol: u8, flags: u8, payload: &[u8]| {
        let header = 20 + options.len();
        let total = u16::try_from(header + payload.len())
            .expect("a short packet")
            .to_be_bytes();
        let mut packet = vec![
            0x40 | u8::try_from(header / 4).expect("at most 15"),
            0,
            total[0],
            total[1],
        ];
        packet.extend([
            0x12, 0x34, flags, 0, 64, protocol, 0, 0, 10, 244, 0, 2, 10, 244, 1, 2,
        ]);
        packet.extend(options);
        let sum = (!naive_sum(&packet)).to_be_bytes();
        packet[10..12].copy_from_slice(&sum);
        packet.extend(payload);
        let mut frame = ethernet([8, 0]);
        frame.extend(packet);
        frame
    };
    let mut arp = ethernet([8, 6]);
    arp.extend([
        0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 10, 244, 0, 2, 0, 0, 0, 0, 0, 0, 10, 244, 0, 1,
    ]);
    vec![
        arp,
        ipv4(&[], 1, 0x40, &[8, 0, 0xf7, 0xfd, 0, 1, 0, 1]),
        ipv4(
            &[],
            6,
            0x40,
            &[
                0, 99, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0,
            ],
        ),
        ipv4(
            &[7, 7, 4, 0, 0, 0, 0, 0],
            17,
            0,
            &[3, 232, 0, 53, 0, 9, 0, 0, b'x'],
        ),
        ipv4(&[], 17, 0x20, &[0; 16]),
    ]
}

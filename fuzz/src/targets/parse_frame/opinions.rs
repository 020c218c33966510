//! What smoltcp, etherparse and pnet say about the same bytes.
//!
//! For each header: the three accept exactly what the router's view accepts, but for the differences that are written out
//! here, each with its reason; and where they accept, the fields are the same. Under libFuzzer smoltcp takes every checksum
//! for right (its `cfg(fuzzing)`), so the opinion on checksums that counts is etherparse's; smoltcp's is asked for too in
//! the other runs.

use core::net::Ipv4Addr;

use etherparse::{
    Icmpv4Slice, Ipv4HeaderSlice, TcpHeaderSlice, TcpSlice, UdpHeader, UdpHeaderSlice,
};
use pnet::packet::Packet as _;
use pnet::packet::{arp as pnet_arp, icmp as pnet_icmp, ipv4 as pnet_ipv4};
use router_core::wire::{arp, icmpv4, ipv4, tcp, udp};
use smoltcp::wire;

/// Whether smoltcp looks at checksums in this build.
const SMOLTCP_SUMS: bool = !cfg!(fuzzing);

/// On the payload of an Ethernet frame as IPv4.
pub(super) fn on_ipv4(bytes: &[u8]) {
    let ours = ipv4::Ipv4::parse(bytes);

    let theirs = wire::Ipv4Packet::new_checked(bytes).is_ok_and(|p| p.version() == 4);
    let sound = match ours {
        Ok(_) => true,
        // The router asks for the checksum before the total length (RFC 1812 5.2.2): under a wrong one, nothing is said of it.
        Err(ipv4::Error::Checksum) => theirs,
        Err(_) => false,
    };
    assert_eq!(theirs, sound, "smoltcp on an IPv4 header");

    let theirs = Ipv4HeaderSlice::from_slice(bytes);
    // etherparse's header ends before the total length is compared with what is there, and before the checksum.
    let whole = !matches!(ours, Err(ipv4::Error::HeaderLength | ipv4::Error::Version));
    assert_eq!(theirs.is_ok(), whole, "etherparse on an IPv4 header");
    if let Ok(theirs) = &theirs {
        let right = same_sum(
            theirs.header_checksum(),
            theirs.to_header().calc_header_checksum(),
        );
        let wrong = matches!(ours, Err(ipv4::Error::Checksum));
        // etherparse forgets the reserved bit, and computes the sum without it.
        let reserved = bytes[6] & 0x80 != 0;
        assert!(
            reserved || right != wrong,
            "etherparse on the checksum of an IPv4 header"
        );
    }

    let Ok(ours) = ours else { return };
    let (fields, offset) = (
        (ours.src(), ours.dst(), ours.ttl(), ours.protocol()),
        ours.fragment_offset(),
    );
    let theirs = theirs.expect("accepted by both");
    assert_eq!(
        fields,
        (
            theirs.source_addr(),
            theirs.destination_addr(),
            theirs.ttl(),
            theirs.protocol().0
        )
    );
    assert_eq!(offset, theirs.fragments_offset().value());
    assert_eq!(ours.is_fragment(), theirs.is_fragmenting_payload());
    assert_eq!(ours.dont_fragment(), theirs.dont_fragment());
    assert_eq!(ours.options(), theirs.options());

    let theirs = wire::Ipv4Packet::new_checked(bytes).expect("accepted by both");
    assert!(!SMOLTCP_SUMS || theirs.verify_checksum());
    assert_eq!(
        fields,
        (
            theirs.src_addr(),
            theirs.dst_addr(),
            theirs.hop_limit(),
            theirs.next_header().into()
        )
    );
    // smoltcp counts bytes, the header units of eight.
    assert_eq!(offset * 8, theirs.frag_offset());
    assert_eq!(ours.payload(), theirs.payload());

    let theirs = pnet_ipv4::Ipv4Packet::new(bytes).expect("pnet asks for 20 bytes only");
    assert!(same_sum(
        theirs.get_checksum(),
        pnet_ipv4::checksum(&theirs)
    ));
    assert_eq!(
        fields,
        (
            theirs.get_source(),
            theirs.get_destination(),
            theirs.get_ttl(),
            theirs.get_next_level_protocol().0
        )
    );
    assert_eq!(offset, theirs.get_fragment_offset());
    assert_eq!(ours.payload(), theirs.payload());
}

/// On the payload of an Ethernet frame as ARP.
pub(super) fn on_arp(bytes: &[u8]) {
    let ours = arp::Arp::parse(bytes);
    // The router accepts IEEE 802's hardware type beside Ethernet's, as Linux does; smoltcp knows Ethernet's alone.
    let mut as_ethernet = bytes.to_vec();
    if let Some([0, kind @ 6]) = as_ethernet.first_chunk_mut() {
        *kind = 1;
    }
    let theirs = wire::ArpPacket::new_checked(&as_ethernet[..])
        .ok()
        .and_then(|p| wire::ArpRepr::parse(&p).ok());
    // smoltcp passes on operations that are neither question nor answer (RARP's, for one).
    let theirs = theirs.filter(|repr| {
        let wire::ArpRepr::EthernetIpv4 { operation, .. } = repr else {
            return false;
        };
        !matches!(operation, wire::ArpOperation::Unknown(_))
    });
    assert_eq!(ours.is_some(), theirs.is_some(), "smoltcp on ARP");
    let Some(ours) = ours else { return };

    if let Some(wire::ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr,
        target_hardware_addr,
        target_protocol_addr,
    }) = theirs
    {
        assert_eq!(
            ours.operation == arp::Operation::Request,
            operation == wire::ArpOperation::Request
        );
        assert_eq!(ours.sha.0, source_hardware_addr.0);
        assert_eq!(ours.tha.0, target_hardware_addr.0);
        assert_eq!(
            (ours.spa, ours.tpa),
            (source_protocol_addr, target_protocol_addr)
        );
    }
    let theirs = etherparse::ArpPacketSlice::from_slice(bytes).expect("28 bytes of 6 and 4");
    assert_eq!(ours.sha.0, theirs.sender_hw_addr());
    assert_eq!(ours.spa.octets(), theirs.sender_protocol_addr());
    assert_eq!(ours.tha.0, theirs.target_hw_addr());
    assert_eq!(ours.tpa.octets(), theirs.target_protocol_addr());
    let theirs = pnet_arp::ArpPacket::new(bytes).expect("28 bytes");
    assert_eq!(
        (ours.spa, ours.tpa),
        (
            theirs.get_sender_proto_addr(),
            theirs.get_target_proto_addr()
        )
    );
}

/// On the payload of a packet between these addresses as UDP.
pub(super) fn on_udp(bytes: &[u8], src: Ipv4Addr, dst: Ipv4Addr) {
    let ours = udp::Udp::parse(bytes);
    let theirs = wire::UdpPacket::new_checked(bytes);
    assert_eq!(ours.is_some(), theirs.is_ok(), "smoltcp on UDP");
    let (Some(ours), Ok(theirs)) = (ours, theirs) else {
        return;
    };
    let right = ours.checksum_verifies(src, dst);
    if SMOLTCP_SUMS {
        assert_eq!(right, theirs.verify_checksum(&src.into(), &dst.into()));
    }
    assert_eq!(
        (ours.src_port(), ours.dst_port(), ours.payload()),
        (theirs.src_port(), theirs.dst_port(), theirs.payload())
    );
    let theirs = UdpHeaderSlice::from_slice(bytes).expect("etherparse asks for 8 bytes only");
    assert_eq!(
        (ours.src_port(), ours.dst_port()),
        (theirs.source_port(), theirs.destination_port())
    );
    let computed = UdpHeader::calc_checksum_ipv4_raw(
        &theirs.to_header(),
        src.octets(),
        dst.octets(),
        ours.payload(),
    )
    .expect("a packet's payload is no longer than 65535 bytes");
    // Without a checksum there is nothing to be wrong.
    let none = theirs.checksum() == 0;
    assert_eq!(
        right,
        none || same_sum(theirs.checksum(), computed),
        "etherparse on the checksum of UDP"
    );
}

/// On the payload of a packet between these addresses as TCP.
pub(super) fn on_tcp(bytes: &[u8], src: Ipv4Addr, dst: Ipv4Addr) {
    let ours = tcp::Tcp::parse(bytes);
    assert_eq!(
        ours.is_some(),
        wire::TcpPacket::new_checked(bytes).is_ok(),
        "smoltcp on TCP"
    );
    assert_eq!(
        ours.is_some(),
        TcpHeaderSlice::from_slice(bytes).is_ok(),
        "etherparse on TCP"
    );
    let Some(ours) = ours else { return };
    let right = ours.checksum_verifies(src, dst);
    let theirs = wire::TcpPacket::new_checked(bytes).expect("accepted by both");
    if SMOLTCP_SUMS {
        assert_eq!(right, theirs.verify_checksum(&src.into(), &dst.into()));
    }
    assert_eq!(
        (ours.src_port(), ours.dst_port(), ours.payload()),
        (theirs.src_port(), theirs.dst_port(), theirs.payload())
    );
    assert_eq!(ours.options(), theirs.options());
    let theirs = TcpSlice::from_slice(bytes).expect("accepted by both");
    let computed = theirs
        .calc_checksum_ipv4(src.octets(), dst.octets())
        .expect("a packet's payload is no longer than 65535 bytes");
    assert_eq!(
        right,
        same_sum(theirs.checksum(), computed),
        "etherparse on the checksum of TCP"
    );
    assert_eq!(ours.payload(), theirs.payload());
}

/// On the payload of a packet as ICMP.
pub(super) fn on_icmp(bytes: &[u8]) {
    let ours = icmpv4::Icmpv4::parse(bytes);
    let right = pnet_icmp::IcmpPacket::new(bytes)
        .is_some_and(|p| same_sum(p.get_checksum(), pnet_icmp::checksum(&p)));
    // pnet's header is the four bytes that all messages have; the router wants the next four as well (FWD-83).
    assert_eq!(
        ours.is_some(),
        right && bytes.len() >= icmpv4::HEADER_LEN,
        "pnet on ICMP"
    );
    let Some(ours) = ours else { return };
    let theirs = wire::Icmpv4Packet::new_checked(bytes).expect("eight bytes are enough");
    assert!(!SMOLTCP_SUMS || theirs.verify_checksum());
    assert_eq!(
        (ours.kind(), ours.code()),
        (theirs.msg_type().into(), theirs.msg_code())
    );
    // etherparse wants a timestamp, which it takes apart, to be 20 bytes long.
    let timestamp = matches!(ours.kind(), 13 | 14) && ours.code() == 0;
    match Icmpv4Slice::from_slice(bytes) {
        Ok(theirs) => {
            assert_eq!(
                (ours.kind(), ours.code(), ours.rest_of_header()),
                (theirs.type_u8(), theirs.code_u8(), theirs.bytes5to8())
            );
        }
        Err(e) => assert!(timestamp && bytes.len() != 20, "etherparse on ICMP: {e}"),
    }
}

/// Whether a checksum that somebody computed lets the one that stands in a header verify: the same, or the other zero of
/// ones' complement, but not for a message of zeros, whose sum is no `0xffff` (RFC 1624 3).
fn same_sum(stands: u16, computed: u16) -> bool {
    stands == computed || (computed == 0 && stands == 0xffff)
}

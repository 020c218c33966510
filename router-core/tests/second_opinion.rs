//! What other people's parsers say about emitted frames: etherparse, smoltcp and pnet.

use core::net::Ipv4Addr;
use core::time::Duration;

use pnet::packet::Packet as _;
use pnet::packet::ethernet::EthernetPacket;
use pnet::packet::icmp::{self, IcmpPacket};
use pnet::packet::ipv4::{self as pnet_ipv4, Ipv4Packet};
use router_core::testing::topology::*;
use router_core::testing::*;
use router_core::{Mac, PortId};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire;

/// One of every kind of frame that the router makes, changes or cuts.
fn emitted() -> Vec<(PortId, Vec<u8>)> {
    let mut snapshot = resolved(node_a());
    snapshot.ports[0].mtu = 900;
    let mut h = Harness::new(snapshot);
    let from_a1 = || eth(POD1_MAC, A1_MAC);
    for packet in [
        from_a1() / ipv4(A1, A2).tos(0x2c).id(9) / udp(1, 2) / b"forwarded",
        from_a1() / ipv4(A1, B1) / tcp(1, 2, 0x10) / b"forwarded",
        from_a1() / ipv4(A1, B1).options(&[7, 7, 4, 0, 0, 0, 0, 0]) / udp(1, 2),
        from_a1() / ipv4(A1, B1) / udp(1, 2) / vec![7; 1400],
        from_a1() / ipv4(A1, B1).df() / udp(1, 2) / vec![7; 1400],
        from_a1() / ipv4(A1, GW_A) / echo_request(3, 4) / b"odd",
        from_a1() / ipv4(A1, B1).ttl(1) / udp(1, 2),
        from_a1() / ipv4(A1, NODE_A) / udp(1, 2),
        from_a1() / ipv4(A1, NODE_A) / tcp(1, 2, 2).seq(41),
        from_a1() / ipv4(A1, NODE_A) / icmp(13, 0, [0; 4]) / vec![0; 12],
        from_a1() / arp_request(A1_MAC, A1, GW_A),
        from_a1() / ipv4(A1, Ipv4Addr::new(172, 16, 30, 99)) / udp(1, 2),
    ] {
        h.rx(POD1, &packet);
    }
    h.advance(Duration::from_secs(9));
    let all = h.take_all();
    assert_eq!(
        all.len(),
        3 + 2 + 7 + 3 + 1,
        "one for each, two pieces, three questions, one error at last"
    );
    all
}

#[test]
fn etherparse_reads_every_emitted_frame_and_finds_its_checksums_right() {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};
    for (_, frame) in emitted() {
        let sliced =
            SlicedPacket::from_ethernet(&frame).unwrap_or_else(|e| panic!("{e}: {frame:02x?}"));
        let Some(NetSlice::Ipv4(ip)) = &sliced.net else {
            assert!(matches!(sliced.net, Some(NetSlice::Arp(_))));
            continue;
        };
        let header = ip.header().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        match &sliced.transport {
            Some(TransportSlice::Udp(udp)) if !ip.is_payload_fragmented() => {
                let sum = udp
                    .to_header()
                    .calc_checksum_ipv4(&header, udp.payload())
                    .unwrap();
                assert_eq!(udp.checksum(), sum);
            }
            Some(TransportSlice::Tcp(tcp)) => {
                let sum = tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination());
                assert_eq!(Ok(tcp.checksum()), sum);
            }
            _ => {}
        }
    }
}

#[test]
fn smoltcp_understands_every_reply_of_the_router() {
    let caps = ChecksumCapabilities::default();
    let mut kinds = Vec::new();
    for (port, frame) in emitted() {
        let eth = wire::EthernetFrame::new_checked(&frame[..]).unwrap();
        if eth.ethertype() == wire::EthernetProtocol::Arp {
            let arp = wire::ArpPacket::new_checked(eth.payload()).unwrap();
            wire::ArpRepr::parse(&arp).unwrap();
            continue;
        }
        let ip = wire::Ipv4Packet::new_checked(eth.payload()).unwrap();
        assert!(ip.verify_checksum());
        if ip.next_header() == wire::IpProtocol::Icmp && port == POD1 {
            let icmp = wire::Icmpv4Packet::new_checked(ip.payload()).unwrap();
            assert!(icmp.verify_checksum());
            kinds.push(u8::from(icmp.msg_type()));
            // smoltcp has no representation of timestamps, and wants quotations that are not cut.
            if u8::from(icmp.msg_type()) != 14 && frame.len() < 14 + 576 {
                wire::Icmpv4Repr::parse(&icmp, &caps).unwrap();
            }
        }
        if ip.next_header() == wire::IpProtocol::Tcp && port == POD1 {
            let tcp = wire::TcpPacket::new_checked(ip.payload()).unwrap();
            assert!(tcp.rst() && tcp.ack() && tcp.ack_number() == wire::TcpSeqNumber(42));
            assert!(tcp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
        }
    }
    kinds.sort_unstable();
    assert_eq!(kinds, [0, 3, 3, 3, 11, 14]);
}

#[test]
fn pnet_computes_the_same_checksums() {
    for (_, frame) in emitted() {
        let eth = EthernetPacket::new(&frame).unwrap();
        assert_ne!(
            Mac(eth.get_source().octets()),
            A1_MAC,
            "no received MAC leaks"
        );
        let Some(ip) = Ipv4Packet::new(eth.payload()).filter(|_| eth.get_ethertype().0 == 0x0800)
        else {
            continue;
        };
        assert_eq!(ip.get_checksum(), pnet_ipv4::checksum(&ip));
        if ip.get_next_level_protocol().0 == 1 {
            let message = IcmpPacket::new(ip.payload()).unwrap();
            assert_eq!(message.get_checksum(), icmp::checksum(&message));
        }
    }
}

/// The other way round: a packet that etherparse built is forwarded with only TTL and checksum changed.
#[test]
fn a_packet_built_by_etherparse_is_forwarded() {
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ethernet2(A1_MAC.0, POD1_MAC.0)
        .ipv4(A1.octets(), A2.octets(), 20)
        .udp(1000, 53)
        .write(&mut bytes, b"question")
        .unwrap();
    let mut h = Harness::new(resolved(node_a()));
    h.rx_bytes(&[(POD1, bytes.clone())]);
    let sent = h.take(POD2);
    assert_eq!(sent[34..], bytes[34..]);
    assert_eq!((sent[22], bytes[22]), (19, 20));
}

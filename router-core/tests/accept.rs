//! Link-layer acceptance and header validation (dataplane sections 1.1, 1.2).

use router_core::testing::topology::*;
use router_core::testing::*;
use router_core::{ConfigError, DropReason, FramePool, Instant, Limits, Mac, PortId, Router};

fn node() -> Harness {
    Harness::new(resolved(node_a()))
}

/// From a1 to its gateway's MAC.
fn from_a1() -> Packet {
    eth(POD1_MAC, A1_MAC)
}

/// From node A to node B.
fn to_b() -> Packet {
    eth(B_MAC, UPLINK_MAC)
}

const OTHER: Mac = Mac([2, 0, 0, 0, 0, 9]);

/// L2-1.
#[test]
fn a_frame_for_another_station_is_not_routed() {
    let packet = eth(OTHER, A1_MAC) / ipv4(A1, B1) / udp(1, 2);
    node().expect_silent_drop(POD1, &packet, DropReason::OtherHost);
}

/// L2-2.
#[test]
fn a_unicast_packet_in_a_group_frame_is_neither_forwarded_nor_answered() {
    for group in [Mac::BROADCAST, Mac([0x01, 0, 0x5e, 0, 0, 1])] {
        for ttl in [64, 1] {
            let packet = eth(group, A1_MAC) / ipv4(A1, B1).ttl(ttl) / udp(1, 2);
            node().expect_silent_drop(POD1, &packet, DropReason::UnicastInLinkBroadcast);
        }
        let packet = eth(group, A1_MAC) / ipv4(A1, GW_A) / echo_request(1, 1);
        node().expect_silent_drop(POD1, &packet, DropReason::UnicastInLinkBroadcast);
    }
}

/// L2-3.
#[test]
fn short_frames_tags_and_unknown_ethertypes_are_dropped_and_counted() {
    let mut h = node();
    for len in 0..14 {
        h.rx_bytes(&[(POD1, vec![0; len])]);
    }
    h.expect_counters(&[(DropReason::FrameTooShort.into(), 14)]);
    let tagged = from_a1().ethertype(0x8100) / b"\x00\x05\x08\x00" / ipv4(A1, B1) / udp(1, 2);
    h.expect_silent_drop(POD1, &tagged, DropReason::VlanTagged);
    let lldp = from_a1().ethertype(0x88cc) / b"\0\0";
    h.expect_silent_drop(POD1, &lldp, DropReason::UnknownEtherType);
}

/// Whoever it is for, and though what is left of it would be a packet; the slot forgets it.
#[test]
fn a_frame_that_the_device_cut_is_dropped_and_counted_at_its_port() {
    let mut h = node();
    let packet = from_a1() / ipv4(A1, A2) / udp(1, 2) / b"x";
    h.rx_cut(POD1, &packet.bytes());
    h.expect_silence();
    h.expect_counters(&[(DropReason::FrameTooLong.into(), 1)]);
    let port = h.router().stats().port(POD1).unwrap();
    assert_eq!(port.drops.get(DropReason::FrameTooLong), 1);
    h.rx(POD1, &packet);
    h.expect_tx(
        POD2,
        &(eth(A2_MAC, POD2_MAC) / ipv4(A1, A2).ttl(63) / udp(1, 2) / b"x"),
    );
}

/// L2-4.
#[test]
fn the_egress_mac_is_the_source_and_the_neighbours_the_destination() {
    let mut h = node();
    h.rx(POD1, &(from_a1() / ipv4(A1, A2) / udp(1, 2) / b"x"));
    h.expect_tx(
        POD2,
        &(eth(A2_MAC, POD2_MAC) / ipv4(A1, A2).ttl(63) / udp(1, 2) / b"x"),
    );
    h.expect_silence();
    h.expect_counters(&[]);
}

/// L2-5.
#[test]
fn the_source_mac_is_not_looked_at() {
    let mut h = node();
    h.rx(
        POD1,
        &(eth(POD1_MAC, Mac([1, 0, 0, 0, 0, 1])) / ipv4(A1, B1) / udp(1, 2)),
    );
    h.expect_tx(UPLINK, &(to_b() / ipv4(A1, B1).ttl(63) / udp(1, 2)));
}

/// L2-6, FWD-5.
#[test]
fn padding_is_cut_to_the_total_length() {
    let mut h = node();
    h.rx(
        POD1,
        &(from_a1() / ipv4(A1, B1).total_len(33) / udp(1, 2) / b"hello" / vec![0; 14]),
    );
    let mut sent = h.take(UPLINK);
    assert_eq!(sent.len(), 14 + 33);
    assert_eq!(sent.split_off(14 + 28), b"hello");
}

/// L2-7.
#[test]
fn ipv6_is_dropped_and_counted() {
    let solicitation =
        eth(Mac([0x33, 0x33, 0, 0, 0, 2]), A1_MAC).ethertype(0x86dd) / vec![0x60; 48];
    node().expect_silent_drop(POD1, &solicitation, DropReason::Ipv6);
}

#[test]
fn a_port_that_is_down_or_unknown_receives_nothing() {
    let packet = from_a1() / ipv4(A1, B1) / udp(1, 2);
    let mut h = Harness::new(with_port(resolved(node_a()), POD1, |p| p.up = false));
    h.expect_silent_drop(POD1, &packet, DropReason::PortDown);
    h.rx(PortId(77), &packet);
    h.rx(DOCKER, &packet);
    h.expect_silence();
    h.expect_counters(&[
        (DropReason::UnknownPort.into(), 1),
        (DropReason::PortDown.into(), 1),
    ]);
}

/// FWD-1, FWD-2, FWD-3, FWD-4.
#[test]
fn each_impossible_header_is_dropped_with_its_own_counter() {
    let mut h = node();
    let with = |ip: Packet| from_a1() / ip / udp(1, 2) / b"hello";
    let ip = || ipv4(A1, B1);
    h.expect_silent_drop(POD1, &with(ip().version_ihl(0x65)), DropReason::BadVersion);
    h.expect_silent_drop(
        POD1,
        &with(ip().version_ihl(0x44)),
        DropReason::BadHeaderLength,
    );
    h.expect_silent_drop(
        POD1,
        &with(ip().version_ihl(0x4f)),
        DropReason::BadHeaderLength,
    );
    h.expect_silent_drop(
        POD1,
        &with(ip().checksum(0x1111)),
        DropReason::BadHeaderChecksum,
    );
    h.expect_silent_drop(POD1, &with(ip().total_len(200)), DropReason::BadTotalLength);
    h.expect_silent_drop(POD1, &with(ip().total_len(19)), DropReason::BadTotalLength);
    h.expect_silent_drop(
        POD1,
        &(from_a1() / vec![0x45; 19]),
        DropReason::BadHeaderLength,
    );
}

/// FWD-3: the checksum covers the options too.
#[test]
fn a_wrong_checksum_over_options_is_noticed() {
    let mut bytes = (from_a1() / ipv4(A1, B1).options(&[1, 1, 1, 0]) / udp(1, 2)).bytes();
    bytes[14 + 21] = 0;
    let mut h = node();
    h.rx_bytes(&[(POD1, bytes)]);
    h.expect_silence();
    h.expect_counters(&[(DropReason::BadHeaderChecksum.into(), 1)]);
}

/// FWD-6.
#[test]
fn the_reserved_flag_is_ignored_and_kept() {
    let mut h = node();
    h.rx(POD1, &(from_a1() / ipv4(A1, B1).evil() / udp(1, 2)));
    h.expect_tx(UPLINK, &(to_b() / ipv4(A1, B1).evil().ttl(63) / udp(1, 2)));
}

/// FWD-7, FWD-9, FWD-11: only TTL and header checksum change; DF, identification, DSCP, ECN and a wrong UDP checksum stay.
#[test]
fn forwarding_changes_nothing_but_ttl_and_header_checksum() {
    let mut h = node();
    let packet = |ttl| {
        ipv4(A1, B1).tos(0x2f).id(0x1234).df().ttl(ttl) / udp(1, 2).checksum(0xbad0) / b"data"
    };
    h.rx(POD1, &(from_a1() / packet(64)));
    h.expect_tx(UPLINK, &(to_b() / packet(63)));
    let atomic = |ttl| ipv4(A1, B1).id(0).df().ttl(ttl) / udp(1, 2);
    h.rx(POD1, &(from_a1() / atomic(2)));
    h.expect_tx(UPLINK, &(to_b() / atomic(1)));
}

/// FWD-8.
#[test]
fn a_packet_without_payload_and_any_protocol_is_forwarded() {
    let mut h = node();
    for protocol in [17, 0, 99, 255] {
        h.rx(POD1, &(from_a1() / ipv4(A1, B1).protocol(protocol)));
        h.expect_tx(UPLINK, &(to_b() / ipv4(A1, B1).protocol(protocol).ttl(63)));
    }
}

/// FWD-63: every TTL and many checksums, against the naive recomputation.
#[test]
fn the_updated_checksum_is_the_recomputed_one() {
    let mut h = node();
    for id in (0..=u16::MAX).step_by(257) {
        for ttl in [2, 64, 128, 255] {
            h.rx(
                POD1,
                &(from_a1() / ipv4(A1, B1).id(id).ttl(ttl) / udp(1, 2)),
            );
            h.expect_tx(
                UPLINK,
                &(to_b() / ipv4(A1, B1).id(id).ttl(ttl - 1) / udp(1, 2)),
            );
        }
    }
}

/// BUG-50: MTUs are filled to the byte, the smallest too; one below that is no configuration; datagrams may be empty, padded
/// or not.
#[test]
fn every_mtu_is_filled_to_the_byte_and_datagrams_may_be_empty() {
    let sized = |total: usize, ttl| ipv4(A1, B1).ttl(ttl).df() / udp(1, 2) / vec![7; total - 28];
    for mtu in [68, 576, 1500, 1900] {
        let node = resolved(node_a());
        let mut h = Harness::new(with_port(node, UPLINK, |port| port.mtu = mtu));
        let len = usize::from(mtu);
        h.rx(POD1, &(from_a1() / sized(len, 64)));
        h.expect_tx(UPLINK, &(to_b() / sized(len, 63)));
        let long = from_a1() / sized(len + 1, 64);
        h.rx(POD1, &long);
        let error = ipv4(GW_A, A1).tos(0xc0).any_id() / fragmentation_needed(mtu) / quote(&long);
        h.expect_tx(POD1, &(eth(A1_MAC, POD1_MAC) / error));
        h.expect_silence();
    }
    let mut h = node();
    for padding in [0, 18] {
        let empty = |ttl| ipv4(A1, B1).ttl(ttl) / udp(1, 2);
        let mut frame = (from_a1() / empty(64)).bytes();
        frame.resize(frame.len() + padding, 0);
        h.rx_bytes(&[(POD1, frame)]);
        h.expect_tx(UPLINK, &(to_b() / empty(63)));
    }
    let mut pool = FramePool::new(8);
    let small = with_port(node_a(), UPLINK, |port| port.mtu = 67);
    let refused = Router::new(Limits::default(), 1).apply(Instant::ZERO, small, &mut pool);
    assert_eq!(refused.err(), Some(ConfigError::MtuTooSmall(UPLINK)));
}

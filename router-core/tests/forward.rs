//! Link-layer acceptance, header validation, martians, options, routes, TTL and MTU (dataplane sections 1.1 to 1.7, 1.9, 1.10).

use core::net::Ipv4Addr;
use core::time::Duration;

use router_core::config::{PortConfig, Route, RouteTarget, RpFilter, Snapshot};
use router_core::testing::topology::*;
use router_core::testing::*;
use router_core::{DropReason, Event, Mac, PortId};

const OTHER: Mac = Mac([2, 0, 0, 0, 0, 9]);

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

fn with_port(mut snapshot: Snapshot, id: PortId, change: impl Fn(&mut PortConfig)) -> Snapshot {
    for port in snapshot.ports.iter_mut().filter(|p| p.id == id) {
        change(port);
    }
    snapshot
}

/// Expects that a1's packet goes nowhere, for this reason, without a word.
#[track_caller]
fn silently_dropped(h: &mut Harness, packet: &Packet, reason: DropReason) {
    h.rx(POD1, packet);
    h.expect_silence();
    h.expect_counters(&[(reason.into(), 1)]);
}

// ── 1.1 Link layer ──────────────────────────────────────────────────────────────────────────────────────────────────────

/// L2-1.
#[test]
fn a_frame_for_another_station_is_not_routed() {
    let packet = eth(OTHER, A1_MAC) / ipv4(A1, B1) / udp(1, 2);
    silently_dropped(&mut node(), &packet, DropReason::OtherHost);
}

/// L2-2.
#[test]
fn a_unicast_packet_in_a_group_frame_is_neither_forwarded_nor_answered() {
    for group in [Mac::BROADCAST, Mac([0x01, 0, 0x5e, 0, 0, 1])] {
        for ttl in [64, 1] {
            let packet = eth(group, A1_MAC) / ipv4(A1, B1).ttl(ttl) / udp(1, 2);
            silently_dropped(&mut node(), &packet, DropReason::UnicastInLinkBroadcast);
        }
        let packet = eth(group, A1_MAC) / ipv4(A1, GW_A) / echo_request(1, 1);
        silently_dropped(&mut node(), &packet, DropReason::UnicastInLinkBroadcast);
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
    silently_dropped(&mut h, &tagged, DropReason::VlanTagged);
    let lldp = from_a1().ethertype(0x88cc) / b"\0\0";
    silently_dropped(&mut h, &lldp, DropReason::UnknownEtherType);
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
    silently_dropped(&mut node(), &solicitation, DropReason::Ipv6);
}

#[test]
fn a_port_that_is_down_or_unknown_receives_nothing() {
    let packet = from_a1() / ipv4(A1, B1) / udp(1, 2);
    let mut h = Harness::new(with_port(resolved(node_a()), POD1, |p| p.up = false));
    silently_dropped(&mut h, &packet, DropReason::PortDown);
    h.rx(PortId(77), &packet);
    h.rx(DOCKER, &packet);
    h.expect_silence();
    h.expect_counters(&[
        (DropReason::UnknownPort.into(), 1),
        (DropReason::PortDown.into(), 1),
    ]);
}

// ── 1.2 Header validation ───────────────────────────────────────────────────────────────────────────────────────────────

/// FWD-1, FWD-2, FWD-3, FWD-4.
#[test]
fn each_impossible_header_is_dropped_with_its_own_counter() {
    let mut h = node();
    let with = |ip: Packet| from_a1() / ip / udp(1, 2) / b"hello";
    let ip = || ipv4(A1, B1);
    silently_dropped(
        &mut h,
        &with(ip().version_ihl(0x65)),
        DropReason::BadVersion,
    );
    silently_dropped(
        &mut h,
        &with(ip().version_ihl(0x44)),
        DropReason::BadHeaderLength,
    );
    silently_dropped(
        &mut h,
        &with(ip().version_ihl(0x4f)),
        DropReason::BadHeaderLength,
    );
    silently_dropped(
        &mut h,
        &with(ip().checksum(0x1111)),
        DropReason::BadHeaderChecksum,
    );
    silently_dropped(
        &mut h,
        &with(ip().total_len(200)),
        DropReason::BadTotalLength,
    );
    silently_dropped(
        &mut h,
        &with(ip().total_len(19)),
        DropReason::BadTotalLength,
    );
    silently_dropped(
        &mut h,
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

// ── 1.3 Martians ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// FWD-10, FWD-20, FWD-23, FWD-27.
#[test]
fn sources_that_no_host_can_have_are_dropped_silently() {
    let mut h = node();
    for src in [
        "127.0.0.1",
        "224.0.0.5",
        "239.1.1.1",
        "255.255.255.255",
        "0.0.0.0",
        "0.1.2.3",
        "172.16.30.255",
    ] {
        let packet = from_a1() / ipv4(src.parse().unwrap(), B1).ttl(1) / udp(1, 2);
        silently_dropped(&mut h, &packet, DropReason::MartianSource);
    }
}

/// FWD-21.
#[test]
fn the_nodes_own_addresses_are_no_source_from_outside() {
    let mut h = node();
    for own in [GW_A, NODE_A, Ipv4Addr::new(172, 17, 0, 1)] {
        for dst in [B1, GW_A] {
            let packet = from_a1() / ipv4(own, dst) / echo_request(1, 1);
            silently_dropped(&mut h, &packet, DropReason::OwnSource);
        }
    }
}

/// FWD-22.
#[test]
fn zero_and_loopback_destinations_are_dropped() {
    let mut h = node();
    for dst in ["127.0.0.1", "0.0.0.0", "0.9.9.9"] {
        let packet = from_a1() / ipv4(A1, dst.parse().unwrap()) / echo_request(1, 1);
        silently_dropped(&mut h, &packet, DropReason::MartianDestination);
    }
}

/// FWD-22: with route_localnet on one port, loopback is local there and only there.
#[test]
fn route_localnet_delivers_loopback_locally_on_its_port_only() {
    let mut h = Harness::new(with_port(resolved(node_a()), POD1, |p| {
        p.route_localnet = true
    }));
    let lo = Ipv4Addr::LOCALHOST;
    h.rx(POD1, &(from_a1() / ipv4(A1, lo) / echo_request(1, 1)));
    h.expect_tx(
        POD1,
        &(eth(A1_MAC, POD1_MAC) / ipv4(lo, A1).any_id() / echo_reply(1, 1)),
    );
    h.rx(
        UPLINK,
        &(eth(UPLINK_MAC, B_MAC) / ipv4(B1, lo) / echo_request(1, 1)),
    );
    h.expect_silence();
    h.expect_counters(&[
        (DropReason::MartianDestination.into(), 1),
        (Event::EchoReplySent.into(), 1),
    ]);
}

/// FWD-24.
#[test]
fn class_e_is_ordinary_unicast() {
    let mut h = node();
    let e = Ipv4Addr::new(240, 0, 0, 1);
    h.rx(POD1, &(from_a1() / ipv4(A1, e) / udp(1, 2)));
    h.expect_tx(
        UPLINK,
        &(eth(R_MAC, UPLINK_MAC) / ipv4(A1, e).ttl(63) / udp(1, 2)),
    );
    h.rx(UPLINK, &(eth(UPLINK_MAC, R_MAC) / ipv4(e, A1) / udp(1, 2)));
    h.expect_tx(
        POD1,
        &(eth(A1_MAC, POD1_MAC) / ipv4(e, A1).ttl(63) / udp(1, 2)),
    );
}

/// FWD-25.
#[test]
fn network_addresses_are_ordinary_unicast() {
    let mut h = Harness::new(node_a());
    let dst = Ipv4Addr::new(172, 16, 30, 0);
    h.rx(POD1, &(from_a1() / ipv4(A1, dst) / udp(1, 2)));
    h.expect_tx(
        UPLINK,
        &(eth(Mac::BROADCAST, UPLINK_MAC) / arp_request(UPLINK_MAC, NODE_A, dst)),
    );
    h.advance(Duration::from_secs(9));
    h.take_all();
    // And may be the node's own (S4's bridge has 10.0.0.0).
    let mut snapshot = resolved(node_a());
    snapshot.addresses[2].addr = Ipv4Addr::new(10, 0, 0, 0);
    let mut h = Harness::new(snapshot);
    h.rx(
        POD1,
        &(from_a1() / ipv4(A1, Ipv4Addr::new(10, 0, 0, 0)) / echo_request(1, 1)),
    );
    h.expect_tx(
        POD1,
        &(eth(A1_MAC, POD1_MAC) / ipv4(Ipv4Addr::new(10, 0, 0, 0), A1).any_id() / echo_reply(1, 1)),
    );
}

/// FWD-26, FWD-27.
#[test]
fn a_strict_port_accepts_only_sources_that_are_routed_back_through_it() {
    let strict = with_port(resolved(node_a()), POD1, |p| p.rp_filter = RpFilter::Strict);
    let mut h = Harness::new(strict);
    for src in [A2, Ipv4Addr::new(9, 9, 9, 9)] {
        let packet = from_a1() / ipv4(src, B1).ttl(1) / udp(1, 2);
        silently_dropped(&mut h, &packet, DropReason::RpFilter);
    }
    h.rx(POD1, &(from_a1() / ipv4(A1, B1) / udp(1, 2)));
    h.expect_tx(UPLINK, &(to_b() / ipv4(A1, B1).ttl(63) / udp(1, 2)));
}

/// FWD-26.
#[test]
fn a_loose_port_accepts_sources_with_any_unicast_route() {
    let mut snapshot = with_port(resolved(node_a()), POD1, |p| p.rp_filter = RpFilter::Loose);
    snapshot.routes.retain(|r| r.dst.prefix_len() != 0);
    snapshot
        .routes
        .push(special("9.0.0.0/8", RouteTarget::Blackhole));
    let mut h = Harness::new(snapshot);
    for src in [Ipv4Addr::new(9, 9, 9, 9), Ipv4Addr::new(77, 1, 1, 1)] {
        silently_dropped(
            &mut h,
            &(from_a1() / ipv4(src, B1) / udp(1, 2)),
            DropReason::RpFilter,
        );
    }
    h.rx(POD1, &(from_a1() / ipv4(A2, B1) / udp(1, 2)));
    h.expect_tx(UPLINK, &(to_b() / ipv4(A2, B1).ttl(63) / udp(1, 2)));
}

/// FWD-26: kindnet's links do not filter.
#[test]
fn without_rp_filter_a_pod_may_use_anothers_address() {
    let mut h = node();
    h.rx(POD1, &(from_a1() / ipv4(A2, B1) / udp(1, 2)));
    h.expect_tx(UPLINK, &(to_b() / ipv4(A2, B1).ttl(63) / udp(1, 2)));
}

/// FWD-28.
#[test]
fn link_local_destinations_follow_the_default_route() {
    let mut h = node();
    let dst = Ipv4Addr::new(169, 254, 1, 1);
    h.rx(POD1, &(from_a1() / ipv4(A1, dst) / udp(1, 2)));
    h.expect_tx(
        UPLINK,
        &(eth(R_MAC, UPLINK_MAC) / ipv4(A1, dst).ttl(63) / udp(1, 2)),
    );
}

// ── 1.4 Options ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/// FWD-30: transit and local, also when the pointer is past the end.
#[test]
fn source_routed_packets_are_dropped_silently() {
    let mut h = node();
    for kind in [0x83, 0x89] {
        for pointer in [4, 8] {
            for dst in [B1, GW_A] {
                let options = [kind, 7, pointer, 10, 244, 1, 9, 0];
                let packet = from_a1() / ipv4(A1, dst).options(&options) / udp(1, 2);
                silently_dropped(&mut h, &packet, DropReason::SourceRouted);
            }
        }
    }
}

/// FWD-31, FWD-36.
#[test]
fn record_route_is_signed_with_the_address_of_the_egress_side() {
    let mut h = node();
    let before = [7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let after = [7, 11, 8, 172, 16, 30, 3, 0, 0, 0, 0, 0];
    h.rx(
        POD1,
        &(from_a1() / ipv4(A1, B1).options(&before) / udp(1, 2)),
    );
    h.expect_tx(
        UPLINK,
        &(to_b() / ipv4(A1, B1).ttl(63).options(&after) / udp(1, 2)),
    );
    // Full: unchanged.
    let full = [7, 7, 8, 9, 9, 9, 9, 0];
    h.rx(POD1, &(from_a1() / ipv4(A1, B1).options(&full) / udp(1, 2)));
    h.expect_tx(
        UPLINK,
        &(to_b() / ipv4(A1, B1).ttl(63).options(&full) / udp(1, 2)),
    );
}

/// FWD-32: milliseconds of the router's own time, marked as such; then the overflow count.
#[test]
fn timestamps_are_written_while_there_is_room_and_counted_then() {
    let mut h = node();
    h.advance(Duration::from_millis(0x0102));
    let before = [68, 12, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let after = [68, 12, 13, 1, 172, 16, 30, 3, 0x80, 0, 1, 2];
    let overflown = [68, 12, 13, 0x11, 172, 16, 30, 3, 0x80, 0, 1, 2];
    for (before, after) in [(before, after), (after, overflown)] {
        h.rx(
            POD1,
            &(from_a1() / ipv4(A1, B1).options(&before) / udp(1, 2)),
        );
        h.expect_tx(
            UPLINK,
            &(to_b() / ipv4(A1, B1).ttl(63).options(&after) / udp(1, 2)),
        );
    }
    let plain = [68, 8, 5, 0, 0, 0, 0, 0];
    let signed = [68, 8, 9, 0, 0x80, 0, 1, 2];
    h.rx(
        POD1,
        &(from_a1() / ipv4(A1, B1).options(&plain) / udp(1, 2)),
    );
    h.expect_tx(
        UPLINK,
        &(to_b() / ipv4(A1, B1).ttl(63).options(&signed) / udp(1, 2)),
    );
    // Prespecified addresses: only the one that is named next signs.
    let ours = [68, 12, 5, 3, 10, 244, 0, 1, 0, 0, 0, 0];
    let done = [68, 12, 13, 3, 10, 244, 0, 1, 0x80, 0, 1, 2];
    let others = [68, 12, 5, 3, 10, 244, 9, 9, 0, 0, 0, 0];
    for (before, after) in [(ours, done), (others, others)] {
        h.rx(
            POD1,
            &(from_a1() / ipv4(A1, B1).options(&before) / udp(1, 2)),
        );
        h.expect_tx(
            UPLINK,
            &(to_b() / ipv4(A1, B1).ttl(63).options(&after) / udp(1, 2)),
        );
    }
    // Fifteen could not sign already.
    let mut exhausted = overflown;
    exhausted[3] = 0xf1;
    h.rx(
        POD1,
        &(from_a1() / ipv4(A1, B1).options(&exhausted) / udp(1, 2)),
    );
    let quoted = from_a1() / ipv4(A1, B1).options(&exhausted) / udp(1, 2);
    let error = ipv4(GW_A, A1).tos(0xc0).any_id() / parameter_problem(23) / quote(&quoted);
    h.expect_tx(POD1, &(eth(A1_MAC, POD1_MAC) / error));
}

/// FWD-33.
#[test]
fn unknown_options_and_router_alert_pass_unchanged() {
    let mut h = node();
    for options in [[0x9e, 4, 0, 0], [148, 4, 0, 0], [1, 1, 1, 0], [0, 7, 0, 99]] {
        h.rx(
            POD1,
            &(from_a1() / ipv4(A1, B1).options(&options) / udp(1, 2)),
        );
        h.expect_tx(
            UPLINK,
            &(to_b() / ipv4(A1, B1).ttl(63).options(&options) / udp(1, 2)),
        );
    }
}

/// FWD-34.
#[test]
fn a_malformed_option_is_reported_with_its_place() {
    let cases = [
        ([7, 0, 0, 0], 20),  // length 0
        ([7, 1, 0, 0], 20),  // length 1
        ([1, 7, 9, 4], 21),  // beyond the header
        ([1, 1, 1, 7], 23),  // no length at all
        ([7, 3, 3, 0], 22),  // pointer into the option's own head
        ([7, 2, 0, 0], 21),  // no pointer
        ([68, 4, 4, 0], 22), // pointer into the option's own head
        ([68, 3, 5, 0], 21), // no flags
    ];
    for (options, pointer) in cases {
        let mut h = node();
        let packet = from_a1() / ipv4(A1, B1).options(&options) / udp(1, 2) / b"data";
        h.rx(POD1, &packet);
        let error = ipv4(GW_A, A1).tos(0xc0).any_id() / parameter_problem(pointer) / quote(&packet);
        h.expect_tx(POD1, &(eth(A1_MAC, POD1_MAC) / error));
        h.expect_silence();
        h.expect_counters(&[
            (DropReason::BadOption.into(), 1),
            (Event::IcmpErrorSent.into(), 1),
        ]);
    }
}

// ── 1.5, 1.9, 1.10 Routes ───────────────────────────────────────────────────────────────────────────────────────────────

/// FWD-40.
#[test]
fn the_longest_prefix_then_the_lowest_metric_then_the_first_route_wins() {
    let mut snapshot = resolved(node_a());
    let dst = |route: Route, metric| Route { metric, ..route };
    snapshot.routes.extend([
        dst(route("9.9.0.0/16", UPLINK, Some(R)), 100),
        dst(route("9.9.0.0/16", POD2, Some(A2)), 50),
        dst(route("9.9.0.0/16", POD1, Some(A1)), 50),
        special("10.244.205.192/26", RouteTarget::Blackhole),
        route("10.244.205.193/32", POD2, Some(A2)),
    ]);
    let mut h = Harness::new(snapshot);
    for dst in [Ipv4Addr::new(9, 9, 9, 9), Ipv4Addr::new(10, 244, 205, 193)] {
        h.rx(POD1, &(from_a1() / ipv4(A1, dst) / udp(1, 2)));
        h.expect_tx(
            POD2,
            &(eth(A2_MAC, POD2_MAC) / ipv4(A1, dst).ttl(63) / udp(1, 2)),
        );
    }
    let packet = from_a1() / ipv4(A1, Ipv4Addr::new(10, 244, 205, 194)) / udp(1, 2);
    silently_dropped(&mut h, &packet, DropReason::Blackhole);
}

/// FWD-40: the table agrees with a scan of the snapshot for every kind of destination.
#[test]
fn the_table_answers_as_a_scan_of_the_routes() {
    use router_core::fib::{Fib, Lookup};
    let mut snapshot = node_a();
    snapshot.routes.extend([
        special("10.244.205.192/26", RouteTarget::Blackhole),
        special("192.0.2.0/28", RouteTarget::Unreachable),
        special("192.0.2.16/28", RouteTarget::Prohibit),
        special("192.0.2.32/28", RouteTarget::Throw),
        Route {
            metric: 9,
            ..special("10.244.1.0/24", RouteTarget::Prohibit)
        },
    ]);
    let (fib, slow) = (Fib::new(&snapshot), SlowFib(&snapshot));
    let mut seen = std::collections::BTreeSet::new();
    let edges = snapshot
        .routes
        .iter()
        .flat_map(|r| [r.dst.network(), r.dst.broadcast()]);
    let own = snapshot
        .addresses
        .iter()
        .flat_map(|a| [Some(a.addr), a.broadcast])
        .flatten();
    let near = |a: Ipv4Addr| {
        [-1_i64, 0, 1].map(|d| Ipv4Addr::from(((i64::from(u32::from(a)) + d) & 0xffff_ffff) as u32))
    };
    for dst in edges.chain(own).flat_map(near) {
        let got = match fib.lookup(dst, || 0) {
            Lookup::Local => Answer::Local,
            Lookup::Broadcast => Answer::Broadcast,
            Lookup::Unicast(hop) => Answer::Unicast(hop.port, hop.via),
            Lookup::Blackhole => Answer::Blackhole,
            Lookup::Unreachable => Answer::Unreachable,
            Lookup::Prohibit => Answer::Prohibit,
            Lookup::NoRoute => Answer::NoRoute,
        };
        assert_eq!(got, slow.lookup(dst), "{dst}");
        seen.insert(format!("{got:?}").split('(').next().unwrap().to_string());
    }
    assert_eq!(seen.len(), 7, "every kind of answer was compared: {seen:?}");
}

/// FWD-44: without a pod the gateway address is not local.
#[test]
fn a_gateway_address_without_a_link_follows_the_routes() {
    let mut h = node();
    let gw_c = Ipv4Addr::new(10, 244, 2, 1);
    h.rx(POD1, &(from_a1() / ipv4(A1, gw_c) / echo_request(1, 1)));
    h.expect_tx(
        UPLINK,
        &(eth(Mac::BROADCAST, UPLINK_MAC)
            / arp_request(UPLINK_MAC, NODE_A, Ipv4Addr::new(172, 16, 30, 5))),
    );
    h.advance(Duration::from_secs(9));
    h.take_all();
}

fn without_default() -> Snapshot {
    let mut snapshot = resolved(node_a());
    snapshot.routes.retain(|r| r.dst.prefix_len() != 0);
    snapshot.routes.extend([
        special("192.0.2.0/28", RouteTarget::Unreachable),
        special("192.0.2.16/28", RouteTarget::Prohibit),
        special("192.0.2.32/28", RouteTarget::Throw),
        special("198.51.100.0/24", RouteTarget::Blackhole),
    ]);
    snapshot
}

/// FWD-53, RT-2; the error quotes the packet as received and beats the TTL.
#[test]
fn route_errors_are_reported_by_kind_even_at_ttl_1() {
    for (dst, code, reason) in [
        ("8.8.8.8", 0, DropReason::NoRoute),
        ("192.0.2.33", 0, DropReason::NoRoute),
        ("192.0.2.1", 1, DropReason::Unreachable),
        ("192.0.2.17", 13, DropReason::Prohibit),
    ] {
        for ttl in [64, 1] {
            let mut h = Harness::new(without_default());
            let packet = from_a1() / ipv4(A1, dst.parse().unwrap()).ttl(ttl) / udp(1, 2);
            h.rx(POD1, &packet);
            let error = ipv4(GW_A, A1).tos(0xc0).any_id() / unreachable(code) / quote(&packet);
            h.expect_tx(POD1, &(eth(A1_MAC, POD1_MAC) / error));
            h.expect_silence();
            h.expect_counters(&[(reason.into(), 1), (Event::IcmpErrorSent.into(), 1)]);
        }
    }
}

/// RT-1.
#[test]
fn a_blackhole_is_silent_even_at_ttl_1() {
    let mut h = Harness::new(without_default());
    for ttl in [64, 1, 0] {
        let packet = from_a1() / ipv4(A1, Ipv4Addr::new(198, 51, 100, 1)).ttl(ttl) / udp(1, 2);
        silently_dropped(&mut h, &packet, DropReason::Blackhole);
    }
}

/// FWD-54.
#[test]
fn a_packet_may_leave_by_the_port_it_came_in() {
    let mut h = node();
    h.rx(POD1, &(from_a1() / ipv4(A1, A1) / udp(1, 2)));
    h.expect_tx(
        POD1,
        &(eth(A1_MAC, POD1_MAC) / ipv4(A1, A1).ttl(63) / udp(1, 2)),
    );
    h.expect_silence();
}

/// FWD-55.
#[test]
fn an_onlink_next_hop_needs_no_covering_route() {
    let mut snapshot = node_a();
    let hop = Ipv4Addr::new(203, 0, 113, 8);
    snapshot
        .routes
        .push(route("10.9.0.0/16", UPLINK, Some(hop)));
    let mut h = Harness::new(snapshot);
    h.rx(
        POD1,
        &(from_a1() / ipv4(A1, Ipv4Addr::new(10, 9, 0, 1)) / udp(1, 2)),
    );
    h.expect_tx(
        UPLINK,
        &(eth(Mac::BROADCAST, UPLINK_MAC) / arp_request(UPLINK_MAC, NODE_A, hop)),
    );
    h.advance(Duration::from_secs(9));
    h.take_all();
}

/// FWD-57 in effect: a2 is reached through its scope-host route.
#[test]
fn a_host_route_without_gateway_forwards() {
    let mut h = node();
    h.rx(UPLINK, &(eth(UPLINK_MAC, B_MAC) / ipv4(B1, A2) / udp(1, 2)));
    h.expect_tx(
        POD2,
        &(eth(A2_MAC, POD2_MAC) / ipv4(B1, A2).ttl(63) / udp(1, 2)),
    );
}

/// RT-6: a kindnet node has no route for its own podCIDR.
#[test]
fn an_unassigned_address_of_the_nodes_own_pod_range_goes_to_the_default_gateway() {
    let mut h = node();
    let unassigned = Ipv4Addr::new(10, 244, 0, 77);
    h.rx(POD1, &(from_a1() / ipv4(A1, unassigned) / udp(1, 2)));
    h.expect_tx(
        UPLINK,
        &(eth(R_MAC, UPLINK_MAC) / ipv4(A1, unassigned).ttl(63) / udp(1, 2)),
    );
}

/// RT-8.
#[test]
fn a_multipath_route_keeps_each_flow_on_one_path_and_uses_all() {
    use router_core::config::NextHop;
    let mut snapshot = resolved(node_a());
    let hop = |port, via| NextHop {
        port,
        via: Some(via),
        weight: 1,
    };
    snapshot.routes.push(special(
        "9.0.0.0/8",
        RouteTarget::Unicast(vec![hop(UPLINK, NODE_B), hop(POD2, A2)]),
    ));
    let mut h = Harness::new(snapshot);
    let mut used = [0, 0];
    for host in 0..64 {
        let packet = from_a1() / ipv4(A1, Ipv4Addr::new(9, 0, 0, host)) / udp(1, 2);
        h.rx(POD1, &packet);
        h.rx(POD1, &packet);
        let sent = h.take_all();
        assert_eq!(sent[0], sent[1], "one flow, one path");
        used[usize::from(sent[0].0 == POD2)] += 1;
    }
    assert!(
        used.iter().all(|&n| n > 16),
        "both paths carry flows: {used:?}"
    );
}

/// FWD-90, FWD-91, FWD-47.
#[test]
fn broadcast_and_multicast_are_neither_forwarded_nor_answered() {
    let mut h = node();
    for (dst, reason) in [
        ("255.255.255.255", DropReason::Broadcast),
        ("172.16.30.255", DropReason::Broadcast),
        ("172.17.255.255", DropReason::Broadcast),
        ("224.0.0.251", DropReason::Multicast),
        ("239.255.255.250", DropReason::Multicast),
    ] {
        let dst = dst.parse().unwrap();
        for link in [POD1_MAC, Mac::BROADCAST] {
            for inner in [udp(5353, 5353), echo_request(1, 1)] {
                silently_dropped(
                    &mut h,
                    &(eth(link, A1_MAC) / ipv4(A1, dst).ttl(1) / inner),
                    reason,
                );
            }
        }
    }
}

/// FWD-92.
#[test]
fn the_broadcast_of_a_remote_subnet_is_ordinary_unicast() {
    let mut h = node();
    let dst = Ipv4Addr::new(10, 244, 1, 255);
    h.rx(POD1, &(from_a1() / ipv4(A1, dst) / udp(1, 2)));
    h.expect_tx(UPLINK, &(to_b() / ipv4(A1, dst).ttl(63) / udp(1, 2)));
}

/// FWD-93: off.
#[test]
fn no_redirects_are_sent() {
    let mut h = node();
    h.rx(
        UPLINK,
        &(eth(UPLINK_MAC, R_MAC) / ipv4(Ipv4Addr::new(172, 16, 30, 99), NODE_B) / udp(1, 2)),
    );
    h.expect_tx(
        UPLINK,
        &(to_b() / ipv4(Ipv4Addr::new(172, 16, 30, 99), NODE_B).ttl(63) / udp(1, 2)),
    );
    h.expect_silence();
}

/// FWD-94.
#[test]
fn every_port_counts_frames_bytes_and_drops() {
    let mut h = node();
    let packet = from_a1() / ipv4(A1, A2) / udp(1, 2) / b"x";
    h.rx(POD1, &packet);
    h.rx(POD1, &(eth(OTHER, A1_MAC) / ipv4(A1, A2)));
    h.take_all();
    let stats = h.router().stats();
    let (rx, tx) = (stats.port(POD1).unwrap(), stats.port(POD2).unwrap());
    assert_eq!((rx.rx_frames, rx.rx_bytes, rx.tx_frames), (2, 43 + 34, 0));
    assert_eq!(
        rx.drops.iter().collect::<Vec<_>>(),
        [(DropReason::OtherHost, 1)]
    );
    assert_eq!((tx.rx_frames, tx.tx_frames, tx.tx_bytes), (0, 1, 43));
    // Counters of ports that stay survive a new configuration.
    h.apply(node_a());
    assert_eq!(h.router().stats().port(POD2).unwrap().tx_frames, 1);
}

/// FWD-95.
#[test]
fn with_forwarding_off_only_local_delivery_remains() {
    let mut h = Harness::new(Snapshot {
        forwarding: false,
        ..resolved(node_a())
    });
    let packet = from_a1() / ipv4(A1, B1).ttl(1) / udp(1, 2);
    silently_dropped(&mut h, &packet, DropReason::ForwardingOff);
    h.rx(POD1, &(from_a1() / ipv4(A1, GW_A) / echo_request(1, 1)));
    h.expect_tx(
        POD1,
        &(eth(A1_MAC, POD1_MAC) / ipv4(GW_A, A1).any_id() / echo_reply(1, 1)),
    );
}

/// FWD-96: a route over a link without carrier gives way to another of the same prefix.
#[test]
fn a_linkdown_route_is_used_only_without_an_alternative() {
    let mut snapshot = resolved(node_a());
    snapshot.routes.push(Route {
        metric: 500,
        ..route("172.17.0.0/16", POD2, Some(A2))
    });
    let mut h = Harness::new(snapshot);
    let dst = Ipv4Addr::new(172, 17, 0, 9);
    h.rx(POD1, &(from_a1() / ipv4(A1, dst) / udp(1, 2)));
    h.expect_tx(
        POD2,
        &(eth(A2_MAC, POD2_MAC) / ipv4(A1, dst).ttl(63) / udp(1, 2)),
    );
}

/// A link that is down takes its address and its routes with it.
#[test]
fn a_port_that_is_down_has_neither_local_addresses_nor_routes() {
    let mut h = Harness::new(with_port(resolved(node_a()), DOCKER, |p| p.up = false));
    for dst in [Ipv4Addr::new(172, 17, 0, 1), Ipv4Addr::new(172, 17, 0, 9)] {
        h.rx(POD1, &(from_a1() / ipv4(A1, dst) / udp(1, 2)));
        h.expect_tx(
            UPLINK,
            &(eth(R_MAC, UPLINK_MAC) / ipv4(A1, dst).ttl(63) / udp(1, 2)),
        );
    }
}

// ── 1.6 TTL ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// FWD-61, FWD-62, FWD-64: quoted as received, for UDP, TCP and echo replies alike.
#[test]
fn an_expired_ttl_is_reported_and_not_forwarded() {
    for ttl in [0, 1] {
        for inner in [
            udp(1, 2),
            tcp(1, 2, 0x10),
            echo_reply(1, 1),
            echo_request(1, 1),
        ] {
            let mut h = node();
            let packet = from_a1() / ipv4(A1, B1).ttl(ttl) / inner / b"data";
            h.rx(POD1, &packet);
            let error = ipv4(GW_A, A1).tos(0xc0).any_id() / time_exceeded() / quote(&packet);
            h.expect_tx(POD1, &(eth(A1_MAC, POD1_MAC) / error));
            h.expect_silence();
            h.expect_counters(&[
                (DropReason::TtlExpired.into(), 1),
                (Event::IcmpErrorSent.into(), 1),
            ]);
        }
    }
}

/// FWD-64, ICMP-1.
#[test]
fn an_expired_icmp_error_dies_silently() {
    let mut h = node();
    let about = from_a1() / ipv4(B1, A1) / udp(1, 2);
    h.rx(
        POD1,
        &(from_a1() / ipv4(A1, B1).ttl(1) / unreachable(3) / quote(&about)),
    );
    h.expect_silence();
    h.expect_counters(&[
        (DropReason::TtlExpired.into(), 1),
        (Event::IcmpErrorForbidden.into(), 1),
    ]);
}

// ── 1.7 MTU ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

fn mtu_1400() -> Harness {
    Harness::new(with_port(resolved(node_a()), UPLINK, |p| p.mtu = 1400))
}

/// A UDP packet of this total length.
fn sized(total: usize, ttl: u8) -> Packet {
    ipv4(A1, B1).ttl(ttl).id(7)
        / udp(1, 2)
        / (0..total - 28)
            .map(|n| (n % 251) as u8)
            .collect::<Vec<u8>>()
}

/// FWD-70, FWD-71: equal passes; one byte more with DF is refused with the egress MTU.
#[test]
fn a_packet_as_long_as_the_mtu_passes_and_a_longer_one_with_df_is_reported() {
    let mut h = mtu_1400();
    h.rx(POD1, &(from_a1() / sized(1400, 64)));
    h.expect_tx(UPLINK, &(to_b() / sized(1400, 63)));
    let with_df = |total: usize, ttl| ipv4(A1, B1).ttl(ttl).df() / udp(1, 2) / vec![0; total - 28];
    h.rx(POD1, &(from_a1() / with_df(1400, 64)));
    h.expect_tx(UPLINK, &(to_b() / with_df(1400, 63)));
    let long = from_a1() / with_df(1401, 64);
    h.rx(POD1, &long);
    let error = ipv4(GW_A, A1).tos(0xc0).any_id() / fragmentation_needed(1400) / quote(&long);
    h.expect_tx(POD1, &(eth(A1_MAC, POD1_MAC) / error));
    h.expect_silence();
    h.expect_counters(&[
        (DropReason::FragmentationNeeded.into(), 1),
        (Event::IcmpErrorSent.into(), 1),
    ]);
}

/// The order of stages: an expired TTL beats the length.
#[test]
fn ttl_expiry_beats_fragmentation_needed() {
    let mut h = mtu_1400();
    h.rx(
        POD1,
        &(from_a1() / ipv4(A1, B1).ttl(1).df() / udp(1, 2) / vec![0; 1450]),
    );
    let error = h.take(POD1);
    assert_eq!(error[34..36], [11, 0]);
}

/// The payload of an IPv4 packet in a frame, for comparison of fragments.
fn ip_payload(frame: &[u8]) -> &[u8] {
    &frame[14 + usize::from(frame[14] & 15) * 4..]
}

/// FWD-72: 1500 over 1400 is 1396 at offset 0 and 124 at offset 1376.
#[test]
fn a_long_packet_without_df_is_cut_into_the_largest_pieces() {
    let mut h = mtu_1400();
    let whole = (from_a1() / sized(1500, 64)).bytes();
    h.rx_bytes(&[(POD1, whole.clone())]);
    let data = ip_payload(&whole);
    let head = || ipv4(A1, B1).id(7).ttl(63).protocol(17);
    h.expect_tx(UPLINK, &(to_b() / head().mf() / data[..1376].to_vec()));
    h.expect_tx(
        UPLINK,
        &(to_b() / head().offset(1376) / data[1376..].to_vec()),
    );
    h.expect_silence();
    h.expect_counters(&[(Event::Fragmented.into(), 1)]);
    assert_eq!(h.router().stats().split, 1);
}

/// FWD-73.
#[test]
fn a_fragment_is_cut_again_with_offsets_and_mf_going_on() {
    let mut h = Harness::new(with_port(resolved(node_a()), UPLINK, |p| p.mtu = 68));
    let data: Vec<u8> = (0..104).collect();
    let head = |ttl| ipv4(A1, B1).id(7).ttl(ttl).protocol(17);
    h.rx(
        POD1,
        &(from_a1() / head(64).mf().offset(1480) / data.clone()),
    );
    h.expect_tx(
        UPLINK,
        &(to_b() / head(63).mf().offset(1480) / data[..48].to_vec()),
    );
    h.expect_tx(
        UPLINK,
        &(to_b() / head(63).mf().offset(1528) / data[48..96].to_vec()),
    );
    h.expect_tx(
        UPLINK,
        &(to_b() / head(63).mf().offset(1576) / data[96..].to_vec()),
    );
    h.expect_silence();
}

/// FWD-35, FWD-36.
#[test]
fn options_without_the_copy_bit_stay_in_the_first_fragment() {
    let mut h = mtu_1400();
    // Full record route (not copied), router alert (copied), padding.
    let options = [7, 7, 8, 9, 9, 9, 9, 148, 4, 0, 0, 0];
    let later = [1, 1, 1, 1, 1, 1, 1, 148, 4, 0, 0, 0];
    let data = vec![0x5a; 1460];
    h.rx(
        POD1,
        &(from_a1() / ipv4(A1, B1).options(&options).protocol(17) / data.clone()),
    );
    let head = || ipv4(A1, B1).ttl(63).protocol(17);
    h.expect_tx(
        UPLINK,
        &(to_b() / head().mf().options(&options) / data[..1368].to_vec()),
    );
    h.expect_tx(
        UPLINK,
        &(to_b() / head().offset(1368).options(&later) / data[1368..].to_vec()),
    );
    h.expect_silence();
}

/// Without frames for the pieces the packet is dropped whole, never cut short.
#[test]
fn a_packet_that_cannot_be_cut_for_want_of_frames_is_dropped() {
    let mut h = mtu_1400();
    // One for the packet itself, and two.
    let kept = h.starve(3);
    h.rx(POD1, &(from_a1() / sized(1500, 64)));
    h.expect_silence();
    h.expect_counters(&[(DropReason::PoolEmpty.into(), 1)]);
    h.refill(kept);
}

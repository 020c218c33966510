//! ICMP errors: to whom, about what, how they look, how often (dataplane section 1.8).

use core::net::Ipv4Addr;
use core::time::Duration;

use router_core::config::RouteTarget;
use router_core::testing::topology::*;
use router_core::testing::*;
use router_core::{DropReason, Event, Mac, Snapshot};

fn node() -> Harness {
    Harness::new(resolved(node_a()))
}

fn from_a1() -> Packet {
    eth(POD1_MAC, A1_MAC)
}

fn to_a1() -> Packet {
    eth(A1_MAC, POD1_MAC)
}

/// A packet of a1's that expires here.
fn expiring() -> Packet {
    from_a1() / ipv4(A1, B1).ttl(1) / udp(1000, 53) / b"x"
}

/// ICMP-1.
#[test]
fn no_error_is_sent_about_errors_unknown_types_later_fragments_and_headless_icmp() {
    let about = from_a1() / ipv4(B1, A1) / udp(1, 2);
    let ip = || ipv4(A1, B1).ttl(1);
    let mut forbidden: Vec<Packet> = [3, 4, 5, 11, 12]
        .map(|kind| ip() / icmp(kind, 0, [0; 4]) / quote(&about))
        .into();
    forbidden.extend([19, 42, 255].map(|kind| ip() / icmp(kind, 0, [0; 4])));
    forbidden.push(ip().offset(8).protocol(17) / b"later fragment");
    forbidden.push(ip().protocol(1));
    for packet in forbidden {
        let mut h = node();
        h.rx(POD1, &(from_a1() / packet));
        h.expect_silence();
        h.expect_counters(&[
            (DropReason::TtlExpired.into(), 1),
            (Event::IcmpErrorForbidden.into(), 1),
        ]);
    }
}

/// ICMP-2, ICMP-3.
#[test]
fn errors_about_queries_and_first_fragments_are_sent() {
    let packets = [
        ipv4(A1, B1).ttl(1) / echo_request(1, 1),
        ipv4(A1, B1).ttl(1) / echo_reply(1, 1),
        ipv4(A1, B1).ttl(1) / icmp(13, 0, [0; 4]) / vec![0; 12],
        ipv4(A1, B1).ttl(1) / icmp(14, 0, [0; 4]) / vec![0; 12],
        ipv4(A1, B1).ttl(1).mf().protocol(17) / vec![1; 64],
    ];
    for packet in packets {
        let mut h = node();
        let packet = from_a1() / packet;
        h.rx(POD1, &packet);
        h.expect_tx(
            POD1,
            &(to_a1() / ipv4(GW_A, A1).tos(0xc0).any_id() / time_exceeded() / quote(&packet)),
        );
        h.expect_silence();
    }
}

/// ICMP-4: 1028 bytes give 576 with 548 quoted; short packets are quoted whole, options included.
#[test]
fn an_error_quotes_as_much_as_fits_576_bytes() {
    let mut h = node();
    let long = from_a1() / ipv4(A1, B1).ttl(1) / udp(1, 2) / vec![7; 1000];
    h.rx(POD1, &long);
    let error = h.take(POD1);
    assert_eq!(error.len(), 14 + 576);
    assert_eq!(error[42..], long.bytes()[14..14 + 548]);
    let short = from_a1() / ipv4(A1, B1).ttl(1).options(&[148, 4, 0, 0]) / udp(1, 2);
    h.rx(POD1, &short);
    h.expect_tx(
        POD1,
        &(to_a1() / ipv4(GW_A, A1).tos(0xc0).any_id() / time_exceeded() / quote(&short)),
    );
}

/// ICMP-5, ICMP-6.
#[test]
fn an_error_has_ttl_64_no_df_and_internetwork_control_precedence() {
    let mut h = node();
    for (tos, of_error) in [(0, 0xc0), (0x2c, 0xec), (0x03, 0xc0)] {
        let packet = from_a1() / ipv4(A1, B1).ttl(1).df().tos(tos) / udp(1, 2);
        h.rx(POD1, &packet);
        h.expect_tx(
            POD1,
            &(to_a1() / ipv4(GW_A, A1).tos(of_error).any_id() / time_exceeded() / quote(&packet)),
        );
    }
}

/// ICMP-7: traceroute sees the gateway of its link, the node's address from elsewhere, and on a link without an address
/// the node's.
#[test]
fn an_error_comes_from_the_address_that_faces_the_offender() {
    let mut h = node();
    h.rx(POD1, &expiring());
    h.expect_tx(
        POD1,
        &(to_a1() / ipv4(GW_A, A1).tos(0xc0).any_id() / time_exceeded() / quote(&expiring())),
    );
    let remote = eth(UPLINK_MAC, B_MAC) / ipv4(B1, A1).ttl(1) / udp(1, 2);
    h.rx(UPLINK, &remote);
    let error = ipv4(NODE_A, B1).tos(0xc0).any_id() / time_exceeded() / quote(&remote);
    h.expect_tx(UPLINK, &(eth(B_MAC, UPLINK_MAC) / error));

    let mut calico = resolved(node_a());
    calico.addresses.retain(|a| a.addr != GW_A);
    let mut h = Harness::new(calico);
    h.rx(POD1, &expiring());
    h.expect_tx(
        POD1,
        &(to_a1() / ipv4(NODE_A, A1).tos(0xc0).any_id() / time_exceeded() / quote(&expiring())),
    );
}

/// RFC 7600, as Linux: a node without any address says so with 192.0.0.8.
#[test]
fn a_node_without_addresses_reports_from_the_dummy_address() {
    let mut h = Harness::new(Snapshot {
        addresses: vec![],
        ..resolved(node_a())
    });
    // The routes' preferred source is none of its addresses either, so only a1's own host route counts.
    h.rx(POD1, &expiring());
    let dummy = Ipv4Addr::new(192, 0, 0, 8);
    h.expect_tx(
        POD1,
        &(to_a1() / ipv4(dummy, A1).tos(0xc0).any_id() / time_exceeded() / quote(&expiring())),
    );
}

/// ICMP-9: the burst of six, the seventh withheld, one more after a second; another pod has its own.
#[test]
fn errors_to_one_destination_come_six_at_once_and_then_one_a_second() {
    let mut h = node();
    let burst: Vec<_> = (0..20).map(|_| (POD1, expiring().bytes())).collect();
    h.rx_bytes(&burst);
    assert_eq!(h.take_all().len(), 6);
    h.expect_counters(&[
        (DropReason::TtlExpired.into(), 20),
        (Event::IcmpErrorSent.into(), 6),
        (Event::IcmpErrorLimited.into(), 14),
    ]);
    h.rx(
        POD2,
        &(eth(POD2_MAC, A2_MAC) / ipv4(A2, B1).ttl(1) / udp(1, 2)),
    );
    assert_eq!(h.take_all().len(), 1);
    h.advance(Duration::from_millis(1100));
    h.rx_bytes(&burst[..5]);
    assert_eq!(h.take_all().len(), 1);
}

/// ICMP-9: 3/4 is exempt.
#[test]
fn fragmentation_needed_is_not_limited() {
    let mut snapshot = resolved(node_a());
    snapshot.ports[0].mtu = 1400;
    let mut h = Harness::new(snapshot);
    for _ in 0..100 {
        h.rx(
            POD1,
            &(from_a1() / ipv4(A1, B1).df() / udp(1, 2) / vec![0; 1400]),
        );
    }
    assert_eq!(h.take_all().len(), 100);
}

/// RT-3.
#[test]
fn route_errors_come_five_at_once() {
    let mut snapshot = resolved(node_a());
    snapshot
        .routes
        .push(special("192.0.2.0/24", RouteTarget::Unreachable));
    let mut h = Harness::new(snapshot);
    for _ in 0..20 {
        h.rx(
            POD1,
            &(from_a1() / ipv4(A1, Ipv4Addr::new(192, 0, 2, 1)) / udp(1, 2)),
        );
    }
    assert_eq!(h.take_all().len(), 5);
}

/// ICMP-11: errors take their own route, here through a neighbour that must be found first.
#[test]
fn an_error_waits_for_its_neighbour_like_any_packet() {
    let mut h = Harness::new(node_a());
    h.rx(POD1, &expiring());
    h.expect_tx(
        POD1,
        &(eth(Mac::BROADCAST, POD1_MAC) / arp_request(POD1_MAC, GW_A, A1)),
    );
    h.expect_silence();
    h.rx(
        POD1,
        &(eth(POD1_MAC, A1_MAC) / arp_reply(A1_MAC, A1, POD1_MAC, GW_A)),
    );
    h.expect_tx(
        POD1,
        &(to_a1() / ipv4(GW_A, A1).tos(0xc0).any_id() / time_exceeded() / quote(&expiring())),
    );
}

/// ICMP-1 for the router's own packets: an error that cannot be delivered ends there.
#[test]
fn an_undeliverable_error_causes_no_other() {
    let mut h = Harness::new(node_a());
    h.rx(POD1, &expiring());
    h.advance(Duration::from_secs(3));
    h.advance(Duration::from_secs(30));
    let sent = h.take_all();
    assert_eq!(sent.len(), 3, "three questions and nothing else");
    h.expect_counters(&[
        (DropReason::TtlExpired.into(), 1),
        (DropReason::NeighbourFailed.into(), 1),
        (Event::ArpRequestSent.into(), 3),
        (Event::IcmpErrorSent.into(), 1),
        (Event::IcmpErrorForbidden.into(), 1),
    ]);
}

/// ICMP-12: options of the cause are quoted and not answered with, and a source route is not even quoted.
#[test]
fn an_error_has_no_options_of_its_own() {
    let mut h = Harness::new(resolved(node_a()));
    let recorded = from_a1() / ipv4(A1, B1).ttl(1).options(&[7, 7, 4, 0, 0, 0, 0, 0]) / udp(1, 2);
    h.rx(POD1, &recorded);
    h.expect_tx(
        POD1,
        &(to_a1() / ipv4(GW_A, A1).tos(0xc0).any_id() / time_exceeded() / quote(&recorded)),
    );
    let routed =
        from_a1() / ipv4(A1, B1).ttl(1).options(&[0x83, 7, 4, 10, 244, 1, 9, 0]) / udp(1, 2);
    h.rx(POD1, &routed);
    h.expect_silence();
}

/// An error to a sender that no route leads back to is dropped and counted.
#[test]
fn an_error_without_a_way_back_goes_nowhere() {
    let mut snapshot = resolved(node_a());
    snapshot.routes.retain(|r| r.dst.prefix_len() != 0);
    let mut h = Harness::new(snapshot);
    h.rx(
        POD1,
        &(from_a1() / ipv4(Ipv4Addr::new(9, 9, 9, 9), B1).ttl(1) / udp(1, 2)),
    );
    h.expect_silence();
    h.expect_counters(&[
        (DropReason::TtlExpired.into(), 1),
        (DropReason::NoRoute.into(), 1),
        (Event::IcmpErrorSent.into(), 1),
    ]);
}

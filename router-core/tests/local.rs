//! Packets for the node's own addresses, and packets of the node itself (dataplane section 1.5, decision 5).

use core::net::Ipv4Addr;
use core::time::Duration;

use router_core::testing::topology::*;
use router_core::testing::*;
use router_core::{DropReason, Event, Mac};

const DOCKER_IP: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);

fn node() -> Harness {
    Harness::new(resolved(node_a()))
}

fn host_node() -> Harness {
    Harness::new(resolved(with_host(node_a())))
}

fn from_a1() -> Packet {
    eth(POD1_MAC, A1_MAC)
}

fn to_a1() -> Packet {
    eth(A1_MAC, POD1_MAC)
}

fn from_host() -> Packet {
    eth(HOST_MAC, HOST_PEER_MAC)
}

fn to_host() -> Packet {
    eth(HOST_PEER_MAC, HOST_MAC)
}

/// FWD-41, FWD-43, FWD-45: the address pinged answers, whichever port it stands on.
#[test]
fn every_local_address_answers_echo_requests() {
    let mut h = node();
    for local in [GW_A, NODE_A, DOCKER_IP] {
        h.rx(
            POD1,
            &(from_a1() / ipv4(A1, local) / echo_request(7, 3) / b"payload"),
        );
        h.expect_tx(
            POD1,
            &(to_a1() / ipv4(local, A1).any_id() / echo_reply(7, 3) / b"payload"),
        );
    }
    h.rx(
        UPLINK,
        &(eth(UPLINK_MAC, B_MAC) / ipv4(B1, GW_A) / echo_request(7, 4)),
    );
    h.expect_tx(
        UPLINK,
        &(eth(B_MAC, UPLINK_MAC) / ipv4(GW_A, B1).any_id() / echo_reply(7, 4)),
    );
    h.expect_silence();
    h.expect_counters(&[(Event::EchoReplySent.into(), 4)]);
}

/// FWD-45: TOS copied, DF clear, TTL 64, code kept.
#[test]
fn a_reply_has_the_requests_tos_and_code_but_its_own_ttl_and_flags() {
    let mut h = node();
    h.rx(
        POD1,
        &(from_a1() / ipv4(A1, GW_A).tos(0xb8).df().ttl(9) / icmp(8, 5, [1, 2, 3, 4]) / b"x"),
    );
    h.expect_tx(
        POD1,
        &(to_a1() / ipv4(GW_A, A1).tos(0xb8).any_id() / icmp(0, 5, [1, 2, 3, 4]) / b"x"),
    );
}

/// FWD-45: not rate-limited; FWD-11: no identification twice.
#[test]
fn two_hundred_requests_at_once_get_two_hundred_replies_with_distinct_identifications() {
    let mut h = node();
    let requests: Vec<_> = (0..200)
        .map(|seq| {
            (
                POD1,
                (from_a1() / ipv4(A1, GW_A) / echo_request(1, seq)).bytes(),
            )
        })
        .collect();
    h.rx_bytes(&requests);
    let mut idents: Vec<_> = h.take_all().iter().map(|(_, f)| [f[18], f[19]]).collect();
    idents.sort_unstable();
    idents.dedup();
    assert_eq!(idents.len(), 200);
}

/// FWD-46.
#[test]
fn the_ttl_does_not_matter_for_local_delivery() {
    let mut h = node();
    for ttl in [0, 1] {
        h.rx(
            POD1,
            &(from_a1() / ipv4(A1, GW_A).ttl(ttl) / echo_request(1, 1)),
        );
        h.expect_tx(
            POD1,
            &(to_a1() / ipv4(GW_A, A1).any_id() / echo_reply(1, 1)),
        );
    }
}

/// FWD-48.
#[test]
fn a_bad_icmp_checksum_is_silently_ignored() {
    for mut h in [node(), host_node()] {
        h.rx(
            POD1,
            &(from_a1() / ipv4(A1, GW_A) / echo_request(1, 1).checksum(0x1234) / b"x"),
        );
        h.rx(
            POD1,
            &(from_a1() / ipv4(A1, GW_A).protocol(1) / b"\x08\x00\xf7"),
        );
        h.expect_silence();
        h.expect_counters(&[(DropReason::IcmpMalformed.into(), 2)]);
    }
}

/// FWD-49: with the router's own time, marked as no time of day.
#[test]
fn a_timestamp_request_is_answered() {
    let mut h = node();
    h.advance(Duration::from_millis(0x0102));
    let times = [9, 8, 7, 6, 0, 0, 0, 0, 0, 0, 0, 0];
    h.rx(
        POD1,
        &(from_a1() / ipv4(A1, GW_A) / icmp(13, 0, [0, 1, 0, 2]) / &times),
    );
    let answer = [9, 8, 7, 6, 0x80, 0, 1, 2, 0x80, 0, 1, 2];
    h.expect_tx(
        POD1,
        &(to_a1() / ipv4(GW_A, A1).any_id() / icmp(14, 0, [0, 1, 0, 2]) / &answer),
    );
    h.rx(
        POD1,
        &(from_a1() / ipv4(A1, GW_A) / icmp(13, 0, [0; 4]) / b"short"),
    );
    h.expect_silence();
}

/// FWD-49, ICMP-13.
#[test]
fn redirects_source_quench_and_obsolete_requests_are_ignored() {
    for kind in [5, 4, 15, 17, 0, 3, 42] {
        let mut h = node();
        h.rx(
            POD1,
            &(from_a1() / ipv4(A1, GW_A) / icmp(kind, 0, [10, 244, 0, 9]) / vec![0; 28]),
        );
        h.expect_silence();
        h.expect_counters(&[(DropReason::IcmpIgnored.into(), 1)]);
    }
    // ICMP-13 also where a kernel would listen.
    for kind in [5, 4] {
        let mut h = host_node();
        h.rx(
            UPLINK,
            &(eth(UPLINK_MAC, R_MAC) / ipv4(R, NODE_A) / icmp(kind, 0, [0; 4]) / vec![0; 28]),
        );
        h.expect_silence();
        h.expect_counters(&[(DropReason::IcmpIgnored.into(), 1)]);
    }
}

/// FWD-50, ICMP-8.
#[test]
fn without_a_host_namespace_udp_and_other_protocols_are_unreachable() {
    let mut h = node();
    let cases = [
        (udp(4000, 9) / b"x", 3, DropReason::PortUnreachable),
        (
            udp(4000, 9).checksum(0) / b"x",
            3,
            DropReason::PortUnreachable,
        ),
        (payload(b"?".as_slice()), 2, DropReason::ProtocolUnreachable),
    ];
    for (inner, code, reason) in cases {
        let protocol = if code == 2 { 99 } else { 17 };
        let packet = from_a1() / ipv4(A1, NODE_A).protocol(protocol) / inner;
        h.rx(POD1, &packet);
        let error = ipv4(NODE_A, A1).tos(0xc0).any_id() / unreachable(code) / quote(&packet);
        h.expect_tx(POD1, &(to_a1() / error));
        h.expect_silence();
        h.expect_counters(&[(reason.into(), 1), (Event::IcmpErrorSent.into(), 1)]);
    }
}

/// FWD-50: in the TOS of the segment and with DF, as Linux's.
#[test]
fn without_a_host_namespace_tcp_is_reset() {
    let mut h = node();
    h.rx(
        POD1,
        &(from_a1() / ipv4(A1, NODE_A).tos(0xbb) / tcp(4000, 9, 0x02).seq(0xffff_ffff)),
    );
    h.expect_tx(
        POD1,
        &(to_a1() / ipv4(NODE_A, A1).any_id().df().tos(0xb8) / tcp(9, 4000, 0x14).ack(0)),
    );
    h.rx(
        POD1,
        &(from_a1() / ipv4(A1, NODE_A) / tcp(4000, 9, 0x10).seq(5).ack(77) / b"data"),
    );
    h.expect_tx(
        POD1,
        &(to_a1() / ipv4(NODE_A, A1).any_id().df() / tcp(9, 4000, 0x04).seq(77)),
    );
    h.expect_counters(&[
        (DropReason::ConnectionRefused.into(), 2),
        (Event::TcpResetSent.into(), 2),
    ]);
    h.rx(POD1, &(from_a1() / ipv4(A1, NODE_A) / tcp(4000, 9, 0x04)));
    h.expect_silence();
    h.expect_counters(&[(DropReason::ConnectionRefused.into(), 1)]);
}

#[test]
fn broken_transport_headers_are_not_answered() {
    let mut h = node();
    for inner in [
        udp(1, 2).checksum(0xbad0) / b"x",
        tcp(1, 2, 0x02).checksum(0xbad0),
        payload(b"short".as_slice()),
    ] {
        h.rx(
            POD1,
            &(from_a1() / ipv4(A1, NODE_A).protocol(17) / inner.clone()),
        );
        h.rx(POD1, &(from_a1() / ipv4(A1, NODE_A).protocol(6) / inner));
    }
    h.expect_silence();
    h.expect_counters(&[(DropReason::TransportMalformed.into(), 6)]);
}

/// The host namespace gets what is for the node and no echo request, TTL and bytes untouched.
#[test]
fn with_a_host_namespace_everything_but_echo_requests_goes_there_unchanged() {
    let mut h = host_node();
    let inners = [
        udp(4000, 9) / b"x",
        tcp(4000, 80, 0x02),
        echo_reply(1, 1),
        unreachable(3) / vec![0; 28],
    ];
    for inner in inners {
        let packet = || ipv4(B1, NODE_A).ttl(1).id(77).df() / inner.clone();
        h.rx(UPLINK, &(eth(UPLINK_MAC, B_MAC) / packet()));
        h.expect_tx(HOST, &(to_host() / packet()));
    }
    // Fragments too: the host's kernel reassembles.
    let fragment = || ipv4(B1, NODE_A).mf().protocol(17) / vec![8; 64];
    h.rx(UPLINK, &(eth(UPLINK_MAC, B_MAC) / fragment()));
    h.expect_tx(HOST, &(to_host() / fragment()));
    h.expect_counters(&[(Event::HostDelivered.into(), 5)]);
    h.rx(POD1, &(from_a1() / ipv4(A1, NODE_A) / echo_request(1, 1)));
    h.expect_tx(
        POD1,
        &(to_a1() / ipv4(NODE_A, A1).any_id() / echo_reply(1, 1)),
    );
    h.expect_silence();
}

/// FWD-51, second half: a reply longer than the MTU of its link is fragmented.
#[test]
fn a_long_echo_reply_is_fragmented() {
    let mut snapshot = resolved(node_a());
    snapshot.ports[1].mtu = 600;
    let mut h = Harness::new(snapshot);
    h.rx(
        POD1,
        &(from_a1() / ipv4(A1, GW_A) / echo_request(1, 1) / vec![0x5a; 1000]),
    );
    let (first, second) = (h.take(POD1), h.take(POD1));
    assert_eq!(
        (first.len(), second.len()),
        (14 + 20 + 576, 14 + 20 + 1008 - 576)
    );
    assert_eq!(first[18..20], second[18..20], "one identification");
}

/// Decision 5: OUTPUT has no TTL decrement; a host packet with TTL 1 leaves with TTL 1.
#[test]
fn what_the_host_sends_keeps_its_ttl() {
    let mut h = host_node();
    for ttl in [64, 1] {
        h.rx(HOST, &(from_host() / ipv4(NODE_A, B1).ttl(ttl) / udp(1, 2)));
        h.expect_tx(
            UPLINK,
            &(eth(B_MAC, UPLINK_MAC) / ipv4(NODE_A, B1).ttl(ttl) / udp(1, 2)),
        );
    }
    h.rx(HOST, &(from_host() / ipv4(NODE_A, B1).ttl(0) / udp(1, 2)));
    h.expect_silence();
    h.expect_counters(&[(DropReason::TtlExpired.into(), 1)]);
}

/// Options of the node's own packets are the node's business.
#[test]
fn what_the_host_sends_keeps_its_options() {
    let mut h = host_node();
    let packet = || ipv4(NODE_A, B1).options(&[7, 7, 4, 0, 0, 0, 0, 0]) / udp(1, 2);
    h.rx(HOST, &(from_host() / packet()));
    h.expect_tx(UPLINK, &(eth(B_MAC, UPLINK_MAC) / packet()));
}

/// Host to one of the node's own addresses: local, answered by the router.
#[test]
fn the_host_can_ping_every_address_of_its_node() {
    let mut h = host_node();
    for local in [GW_A, DOCKER_IP] {
        h.rx(
            HOST,
            &(from_host() / ipv4(NODE_A, local) / echo_request(1, 1)),
        );
        h.expect_tx(
            HOST,
            &(to_host() / ipv4(local, NODE_A).any_id() / echo_reply(1, 1)),
        );
    }
    h.expect_counters(&[
        (Event::EchoReplySent.into(), 2),
        (Event::HostDelivered.into(), 2),
    ]);
}

/// With forwarding off the node still speaks for itself (FWD-95).
#[test]
fn the_host_sends_also_when_the_node_does_not_forward() {
    let mut snapshot = resolved(with_host(node_a()));
    snapshot.forwarding = false;
    let mut h = Harness::new(snapshot);
    h.rx(HOST, &(from_host() / ipv4(NODE_A, B1) / udp(1, 2)));
    h.expect_tx(
        UPLINK,
        &(eth(B_MAC, UPLINK_MAC) / ipv4(NODE_A, B1) / udp(1, 2)),
    );
}

/// The host hears that its packet went nowhere, from its own address as Linux says it.
#[test]
fn the_host_is_told_about_its_own_failures() {
    let mut h = host_node();
    let absent = Ipv4Addr::new(172, 16, 30, 98);
    let packet = from_host() / ipv4(NODE_A, absent).id(5) / udp(1, 2);
    h.rx(HOST, &packet);
    h.advance(Duration::from_secs(3));
    for _ in 0..3 {
        h.expect_tx(
            UPLINK,
            &(eth(Mac::BROADCAST, UPLINK_MAC) / arp_request(UPLINK_MAC, NODE_A, absent)),
        );
    }
    let error = ipv4(NODE_A, NODE_A).tos(0xc0).any_id() / unreachable(1) / quote(&packet);
    h.expect_tx(HOST, &(to_host() / error));
    h.expect_silence();
}

/// The host's own packets are bounded by the egress MTU like any other.
#[test]
fn a_long_packet_of_the_host_with_df_is_reported_to_it() {
    let mut snapshot = resolved(with_host(node_a()));
    snapshot.ports[0].mtu = 1400;
    let mut h = Harness::new(snapshot);
    let packet = from_host() / ipv4(NODE_A, B1).df() / udp(1, 2) / vec![0; 1400];
    h.rx(HOST, &packet);
    let error =
        ipv4(NODE_A, NODE_A).tos(0xc0).any_id() / fragmentation_needed(1400) / quote(&packet);
    h.expect_tx(HOST, &(to_host() / error));
}

/// With an empty pool a request is taken and not answered; nothing is lost unaccounted.
#[test]
fn an_empty_pool_costs_the_reply_only() {
    let mut h = node();
    let kept = h.starve(1);
    h.rx(POD1, &(from_a1() / ipv4(A1, GW_A) / echo_request(1, 1)));
    h.expect_silence();
    h.expect_counters(&[(Event::NoFrame.into(), 1)]);
    h.refill(kept);
}

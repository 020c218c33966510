//! IPIP tunnels (dataplane section 3), on node K3 of the acceptance tables.

use core::net::Ipv4Addr;
use core::time::Duration;

use router_core::config::{Ipip, PortConfig, PortKind, RouteTarget, RpFilter, Snapshot, TunnelEcn};
use router_core::testing::calico::*;
use router_core::testing::topology::{
    DOCKER, HOST, HOST_MAC, HOST_PEER_MAC, POD1, R, R_MAC, UPLINK, X, route, with_host, with_port,
};
use router_core::testing::*;
use router_core::{ConfigError, DropReason, Event, FramePool, Instant, Limits, Mac, Router};

fn node() -> Harness {
    Harness::new(node_k3())
}

/// From n3 to its gateway's MAC.
fn from_n3() -> Packet {
    eth(CALI_MAC, N3_MAC)
}

fn to_n3() -> Packet {
    eth(N3_MAC, CALI_MAC)
}

fn from_k2() -> Packet {
    eth(K3_MAC, K2_MAC)
}

fn to_k2() -> Packet {
    eth(K2_MAC, K3_MAC)
}

/// The outer header of what K3 sends to K2.
fn outer() -> Packet {
    ipv4(K3, K2).any_id()
}

/// The outer header of what K2 sends to K3.
fn outer_in() -> Packet {
    ipv4(K2, K3).id(500)
}

fn data(len: usize) -> Vec<u8> {
    (0..len)
        .map(|n| u8::try_from(n * 7 % 251).unwrap_or(0))
        .collect()
}

fn tunnel_with(change: impl Fn(&mut Ipip)) -> Snapshot {
    with_port(node_k3(), TUNL0, |port| {
        if let PortKind::Ipip(device) = &mut port.kind {
            change(device);
        }
    })
}

/// S1-16, IPIP-1 to IPIP-4, IPIP-8: to the next hop of the route, from eth0's address, 20 bytes in front of the
/// inner packet, whose lowered TTL the outer one has too.
#[test]
fn a_packet_to_a_remote_block_goes_in_a_packet_to_its_node() {
    let mut h = node();
    let inner = |ttl| ipv4(N3, N2).id(77).ttl(ttl) / echo_request(1, 1) / data(56);
    h.rx(POD1, &(from_n3() / inner(64)));
    let sent = h.take(UPLINK);
    let expected = to_k2() / outer().ttl(63) / inner(63);
    assert_eq!(expected.bytes_like(&sent), sent);
    assert_eq!(
        (sent[16], sent[17]),
        (0, 104),
        "84 bytes inside, 104 outside"
    );
    h.expect_silence();
    h.expect_counters(&[(Event::Encapsulated.into(), 1)]);
}

/// IPIP-1, IPIP-11: a route without next hop tunnels to the destination itself, which the same route leads into the
/// tunnel again.
#[test]
fn without_a_next_hop_the_tunnel_ends_at_the_destination() {
    let mut snapshot = node_k3();
    snapshot.routes.push(route("10.9.0.0/16", TUNL0, None));
    let mut h = Harness::new(snapshot);
    let packet = from_n3() / ipv4(N3, Ipv4Addr::new(10, 9, 0, 1)) / udp(1, 2);
    h.expect_silent_drop(POD1, &packet, DropReason::TunnelLoop);
}

/// IPIP-4: what the host sends keeps its TTL inside and outside.
#[test]
fn what_the_host_sends_keeps_its_ttl_in_both_headers() {
    let mut h = Harness::new(with_host(node_k3()));
    let inner = || ipv4(K3_TUNL0, N2) / udp(1, 2);
    h.rx(HOST, &(eth(HOST_MAC, HOST_PEER_MAC) / inner()));
    h.expect_tx(UPLINK, &(to_k2() / outer().ttl(64) / inner()));
}

/// IPIP-5: a fixed outer TTL.
#[test]
fn the_outer_ttl_can_be_fixed() {
    let mut h = Harness::new(tunnel_with(|device| device.outer_ttl = Some(64)));
    h.rx(POD1, &(from_n3() / ipv4(N3, N2).ttl(9) / udp(1, 2)));
    h.expect_tx(
        UPLINK,
        &(to_k2() / outer().ttl(64) / ipv4(N3, N2).ttl(8) / udp(1, 2)),
    );
}

/// IPIP-6, ECN-1, ECN-2, IPIP-7: DSCP is not inherited, ECN is but for CE, DF is as inside.
#[test]
fn the_outer_header_takes_over_df_and_ecn_but_no_dscp() {
    for (mode, of_ce) in [(TunnelEcn::Linux, 2), (TunnelEcn::Rfc6040, 3)] {
        let mut h = Harness::new(tunnel_with(|device| device.ecn = mode));
        for (inner, outside) in [(0xb8, 0), (0xb9, 1), (0x02, 2), (0x03, of_ce)] {
            let packet = |ttl| ipv4(N3, N2).tos(inner).ttl(ttl).df() / udp(1, 2);
            h.rx(POD1, &(from_n3() / packet(64)));
            let header = outer().ttl(63).tos(outside).df();
            h.expect_tx(UPLINK, &(to_k2() / header / packet(63)));
        }
    }
}

/// IPIP-9, FWD-74: 1480 bytes fill the outer packet to 1500; one more with DF is refused with tunl0's MTU.
#[test]
fn a_packet_with_df_that_is_longer_than_the_tunnels_mtu_is_refused() {
    let mut h = node();
    let inner = |total: usize, ttl| ipv4(N3, N2).ttl(ttl).df() / udp(1, 2) / data(total - 28);
    h.rx(POD1, &(from_n3() / inner(1480, 64)));
    let sent = h.take(UPLINK);
    assert_eq!(sent.len(), 14 + 1500);
    let long = from_n3() / inner(1481, 64);
    h.rx(POD1, &long);
    let error = ipv4(K3, N3).tos(0xc0).any_id() / fragmentation_needed(1480) / quote(&long);
    h.expect_tx(POD1, &(to_n3() / error));
    h.expect_silence();
}

/// IPIP-9: without DF the inner packet is cut, and the outer ones are whole.
#[test]
fn a_long_packet_without_df_is_cut_before_it_is_tunnelled() {
    let mut h = node();
    let inner = |ttl| ipv4(N3, N2).id(7).ttl(ttl) / udp(1, 2) / data(1472);
    h.rx(POD1, &(from_n3() / inner(64)));
    let link = eth(Mac::ZERO, Mac::ZERO);
    for piece in fragments(&(link / inner(63)), 1480) {
        let piece = payload(&piece.bytes()[14..]);
        h.expect_tx(UPLINK, &(to_k2() / outer().ttl(63).protocol(4) / piece));
    }
    h.expect_silence();
}

/// IPIP-10, calico#8953, felix#756: with a tunl0 that is wider than its way, DF is answered with what the way carries and
/// other packets arrive, in pieces of the outer packet.
#[test]
fn a_tunnel_wider_than_its_link_loses_nothing_silently() {
    let mut h = Harness::new(with_port(node_k3(), UPLINK, |p| p.mtu = 1460));
    let with_df = from_n3() / ipv4(N3, N2).df() / udp(1, 2) / data(1460 - 28);
    h.rx(POD1, &with_df);
    let error = ipv4(K3, N3).tos(0xc0).any_id() / fragmentation_needed(1440) / quote(&with_df);
    h.expect_tx(POD1, &(to_n3() / error));
    h.rx(
        POD1,
        &(from_n3() / ipv4(N3, N2).id(7) / udp(1, 2) / data(1452)),
    );
    let (first, second) = (h.take(UPLINK), h.take(UPLINK));
    h.expect_silence();
    assert!(first.len() <= 14 + 1460 && second.len() < first.len());
    let whole = to_k2() / outer().ttl(63) / ipv4(N3, N2).id(7).ttl(63) / udp(1, 2) / data(1452);
    let pieces = fragments(&payload(whole.bytes_like(&first)), 1460);
    assert_eq!(pieces[0].bytes(), first);
    assert_eq!(pieces[1].bytes(), second);
}

/// IPIP-11: the way to the tunnel's end leads into the tunnel.
#[test]
fn a_tunnel_whose_end_is_behind_itself_is_a_loop() {
    let mut snapshot = node_k3();
    snapshot.routes.push(route("172.16.30.7/32", TUNL0, None));
    let mut h = Harness::new(snapshot);
    let packet = from_n3() / ipv4(N3, N2) / udp(1, 2);
    h.expect_silent_drop(POD1, &packet, DropReason::TunnelLoop);
}

/// IPIP-12: an outer destination that is the node itself would go round and round.
#[test]
fn a_tunnel_to_the_node_itself_is_a_loop() {
    let mut snapshot = node_k3();
    snapshot.routes.push(route("10.9.0.0/16", TUNL0, Some(K3)));
    let mut h = Harness::new(snapshot);
    let packet = from_n3() / ipv4(N3, Ipv4Addr::new(10, 9, 0, 1)) / udp(1, 2);
    h.expect_silent_drop(POD1, &packet, DropReason::TunnelLoop);
}

/// RT-7: an unassigned address of the node's own block goes nowhere.
#[test]
fn an_unassigned_address_of_the_nodes_own_block_is_dropped() {
    let mut h = node();
    let packet = from_n3() / ipv4(N3, Ipv4Addr::new(10, 244, 151, 9)) / udp(1, 2);
    h.expect_silent_drop(POD1, &packet, DropReason::Blackhole);
}

/// IPIP-13.
#[test]
fn a_packet_from_elsewhere_with_the_tunnels_end_as_source_is_dropped() {
    let mut h = node();
    let packet = eth(K3_MAC, R_MAC) / ipv4(K2, N2) / udp(1, 2);
    h.expect_silent_drop(UPLINK, &packet, DropReason::TunnelSource);
}

/// IPIP-14: nothing but IPv4 finds the tunnel.
#[test]
fn other_protocols_are_not_tunnelled() {
    let mut h = node();
    h.expect_silent_drop(
        POD1,
        &(from_n3().ethertype(0x86dd) / data(60)),
        DropReason::Ipv6,
    );
    h.expect_silent_drop(
        TUNL0,
        &(from_n3() / ipv4(N3, N2) / udp(1, 2)),
        DropReason::PortDown,
    );
}

/// IPIP-15: the sender hears of it, too.
#[test]
fn without_a_route_to_the_tunnels_end_the_sender_is_told() {
    let mut snapshot = node_k3();
    snapshot
        .routes
        .retain(|r| r.dst.prefix_len() != 0 && r.dst.prefix_len() != 24);
    let mut h = Harness::new(snapshot);
    h.rx(POD1, &(from_n3() / ipv4(N3, N2) / udp(1, 2)));
    let as_sent = from_n3() / ipv4(N3, N2).ttl(63) / udp(1, 2);
    let error = ipv4(K3, N3).tos(0xc0).any_id() / unreachable(1) / quote(&as_sent);
    h.expect_tx(POD1, &(to_n3() / error));
    h.expect_silence();
    h.expect_counters(&[
        (DropReason::TunnelNoRoute.into(), 1),
        (Event::IcmpErrorSent.into(), 1),
    ]);
}

/// IPIP-16: a node that is down is asked for three times, then the sender of the inner packet is told.
#[test]
fn a_tunnel_end_that_does_not_answer_is_reported_to_the_inner_sender() {
    let mut snapshot = node_k3();
    snapshot.neighbours.retain(|n| n.ip != K2);
    let mut h = Harness::new(snapshot);
    h.rx(POD1, &(from_n3() / ipv4(N3, N2) / udp(1, 2)));
    h.advance(Duration::from_secs(3));
    for _ in 0..3 {
        h.expect_tx(
            UPLINK,
            &(eth(Mac::BROADCAST, K3_MAC) / arp_request(K3_MAC, K3, K2)),
        );
    }
    let as_sent = from_n3() / ipv4(N3, N2).ttl(63) / udp(1, 2);
    let error = ipv4(K3, N3).tos(0xc0).any_id() / unreachable(1) / quote(&as_sent);
    h.expect_tx(POD1, &(to_n3() / error));
    h.expect_silence();
}

/// FWD-11, INV-9: outer packets without DF have identifications that do not repeat.
#[test]
fn outer_packets_have_fresh_identifications() {
    let mut h = node();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..100 {
        h.rx(POD1, &(from_n3() / ipv4(N3, N2) / udp(1, 2)));
        assert!(seen.insert(h.take(UPLINK)[18..20].to_vec()));
    }
}

/// FWD-65, FWD-60, IPIP-26, IPIP-29: taking the outer header off costs no TTL, forwarding after it does.
#[test]
fn a_tunnelled_packet_for_a_pod_is_unpacked_and_forwarded() {
    let mut h = node();
    let inner = |ttl| ipv4(N2, N3).id(9).ttl(ttl).tos(0xb8) / echo_reply(1, 1) / data(56);
    h.rx(
        UPLINK,
        &(from_k2() / outer_in().ttl(1).tos(0xfc) / inner(63)),
    );
    h.expect_tx(POD1, &(to_n3() / inner(62)));
    h.expect_silence();
    h.expect_counters(&[(Event::Decapsulated.into(), 1)]);
    // Not for a pod here: by the table, even back into the tunnel and to the outside.
    let to_n1 = |ttl| ipv4(N2, Ipv4Addr::new(10, 244, 120, 65)).ttl(ttl) / udp(1, 2);
    h.rx(UPLINK, &(from_k2() / outer_in() / to_n1(64)));
    let via_k1 = eth(K1_MAC, K3_MAC) / ipv4(K3, K1).any_id().ttl(63);
    h.expect_tx(UPLINK, &(via_k1 / to_n1(63)));
    h.rx(UPLINK, &(from_k2() / outer_in() / ipv4(N2, X) / udp(1, 2)));
    h.expect_tx(
        UPLINK,
        &(eth(R_MAC, K3_MAC) / ipv4(N2, X).ttl(63) / udp(1, 2)),
    );
}

/// IPIP-20, calico#4412: IPIP and ESP for others pass unopened.
#[test]
fn ipip_for_another_node_is_forwarded_as_it_is() {
    let mut h = node();
    let packet = |ttl| ipv4(K1, K2).id(3).ttl(ttl) / ipv4(N3, N2) / udp(1, 2);
    h.rx(UPLINK, &(eth(K3_MAC, K1_MAC) / packet(64)));
    h.expect_tx(UPLINK, &(to_k2() / packet(63)));
    let esp = |ttl| ipv4(X, K2).ttl(ttl).protocol(50) / data(40);
    h.rx(UPLINK, &(eth(K3_MAC, R_MAC) / esp(64)));
    h.expect_tx(UPLINK, &(to_k2() / esp(63)));
    h.expect_silence();
}

/// IPIP-21: outer fragments in any order, with and without a host namespace, also on a node that collects fragments.
#[test]
fn outer_fragments_are_put_together_before_they_are_unpacked() {
    let inner = |ttl| ipv4(N2, N3).id(9).ttl(ttl) / udp(1, 2) / data(1400);
    let came = fragments(&(from_k2() / outer_in() / inner(64)), 600);
    let collecting = Snapshot {
        defragment: true,
        ..node_k3()
    };
    for snapshot in [node_k3(), with_host(node_k3()), collecting] {
        let mut h = Harness::new(snapshot);
        for n in [1, 2, 0] {
            h.expect_silence();
            h.rx(UPLINK, &came[n]);
        }
        h.expect_tx(POD1, &(to_n3() / inner(63)));
        h.expect_silence();
    }
}

/// IPIP-21, IPIP-26: what comes out of a tunnel may itself be a fragment that is collected.
#[test]
fn inner_fragments_are_collected_too() {
    let request = ipv4(N2, K3_TUNL0).id(9) / echo_request(1, 1) / data(3000);
    let link = eth(Mac::ZERO, Mac::ZERO);
    let mut h = node();
    for piece in fragments(&(link / request), 1480) {
        let piece = payload(&piece.bytes()[14..]);
        let packet = from_k2() / outer_in().protocol(4) / piece;
        for outer in fragments(&packet, 1000) {
            h.rx(UPLINK, &outer);
        }
    }
    assert_eq!(
        h.take_all().len(),
        3,
        "one reply in three pieces, each in the tunnel"
    );
    assert_eq!(h.router().stats().events.get(Event::EchoReplySent), 1);
}

/// IPIP-22, calico#4412: only protocol 4 to the node itself, only from stations that are no nodes.
#[test]
fn tunnelled_packets_from_strangers_are_dropped() {
    let mut h = node();
    let stranger = Ipv4Addr::new(172, 16, 30, 99);
    let packet = eth(K3_MAC, R_MAC) / ipv4(stranger, K3) / ipv4(N2, N3) / udp(1, 2);
    h.expect_silent_drop(UPLINK, &packet, DropReason::TunnelSource);
}

/// IPIP-23: a plain tunl0 takes from anybody; one that is down refuses the port, no tunl0 at all the protocol.
#[test]
fn without_a_filter_any_source_is_taken_and_a_tunnel_that_is_down_is_reported() {
    let stranger = Ipv4Addr::new(172, 16, 30, 99);
    let packet = eth(K3_MAC, R_MAC) / ipv4(stranger, K3) / ipv4(N2, N3) / udp(1, 2);
    let open = Snapshot {
        tunnel_sources: None,
        ..node_k3()
    };
    let mut h = Harness::new(open.clone());
    h.rx(UPLINK, &packet);
    h.expect_tx(POD1, &(to_n3() / ipv4(N2, N3).ttl(63) / udp(1, 2)));
    let mut none = open.clone();
    none.ports.retain(|p| p.id != TUNL0);
    none.addresses.retain(|a| a.port != TUNL0);
    none.routes
        .retain(|r| !matches!(&r.target, RouteTarget::Unicast(hops) if hops[0].port == TUNL0));
    let down = with_port(open, TUNL0, |p| p.up = false);
    for (snapshot, code) in [(down, 3), (none, 2)] {
        let mut h = Harness::new(snapshot);
        h.rx(UPLINK, &packet);
        h.advance(Duration::ZERO);
        h.expect_tx(
            UPLINK,
            &(eth(Mac::BROADCAST, K3_MAC) / arp_request(K3_MAC, K3, stranger)),
        );
        let stranger_mac = Mac([2, 0, 0, 0, 0, 99]);
        h.rx(
            UPLINK,
            &(eth(K3_MAC, stranger_mac) / arp_reply(stranger_mac, stranger, K3_MAC, K3)),
        );
        let error = ipv4(K3, stranger).tos(0xc0).any_id() / unreachable(code) / quote(&packet);
        h.expect_tx(UPLINK, &(eth(stranger_mac, K3_MAC) / error));
        h.expect_silence();
    }
}

/// IPIP-24: neither to other nodes nor to its own.
#[test]
fn a_pod_may_not_send_ipip() {
    let mut h = node();
    for node in [K2, K3, X] {
        let packet = from_n3() / ipv4(N3, node) / ipv4(N3, N2) / udp(1, 2);
        h.expect_silent_drop(POD1, &packet, DropReason::TunnelDenied);
    }
    // Other ports may.
    let mut h = Harness::new(with_port(node_k3(), POD1, |p| p.deny_ipip = false));
    let packet = |ttl| ipv4(N3, K2).ttl(ttl) / ipv4(N3, N2) / udp(1, 2);
    h.rx(POD1, &(from_n3() / packet(64)));
    h.expect_tx(UPLINK, &(to_k2() / packet(63)));
}

/// IPIP-25.
#[test]
fn an_inner_packet_that_is_none_is_dropped() {
    let inner = || ipv4(N2, N3);
    let mut h = node();
    for (inner, reason) in [
        (payload(data(10)), DropReason::BadHeaderLength),
        (
            inner().version_ihl(0x65) / udp(1, 2),
            DropReason::BadVersion,
        ),
        (
            inner().version_ihl(0x4f) / udp(1, 2),
            DropReason::BadHeaderLength,
        ),
        (
            inner().checksum(0x1111) / udp(1, 2),
            DropReason::BadHeaderChecksum,
        ),
        (
            inner().total_len(200) / data(12),
            DropReason::BadTotalLength,
        ),
    ] {
        let packet = from_k2() / outer_in().protocol(4) / inner;
        h.expect_silent_drop(UPLINK, &packet, reason);
    }
    // What follows the inner packet is cut off.
    h.rx(
        UPLINK,
        &(from_k2() / outer_in() / inner().total_len(28) / udp(1, 2) / data(9)),
    );
    let sent = h.take(POD1);
    assert_eq!(sent.len(), 14 + 28);
}

/// IPIP-26: all checks anew, as if it had come by tunl0.
#[test]
fn an_inner_packet_is_checked_like_any_other() {
    let mut h = node();
    for (inner, reason) in [
        (ipv4(Ipv4Addr::LOCALHOST, N3), DropReason::MartianSource),
        (ipv4(K3, N3), DropReason::OwnSource),
        (
            ipv4(N2, Ipv4Addr::LOCALHOST),
            DropReason::MartianDestination,
        ),
        (
            ipv4(N2, Ipv4Addr::new(224, 0, 0, 251)),
            DropReason::Multicast,
        ),
        (
            ipv4(N2, Ipv4Addr::new(10, 244, 151, 9)),
            DropReason::Blackhole,
        ),
        (
            ipv4(N2, N3).options(&[131, 3, 4, 0]),
            DropReason::SourceRouted,
        ),
    ] {
        h.rx(UPLINK, &(from_k2() / outer_in() / inner / udp(1, 2)));
        h.expect_silence();
        h.expect_counters(&[(Event::Decapsulated.into(), 1), (reason.into(), 1)]);
    }
    let drops = &h.router().stats().port(TUNL0).unwrap().drops;
    assert_eq!(drops.total(), 6, "they count for tunl0");
    let mut h = Harness::new(with_port(node_k3(), TUNL0, |p| {
        p.rp_filter = RpFilter::Strict;
    }));
    h.rx(UPLINK, &(from_k2() / outer_in() / ipv4(X, N3) / udp(1, 2)));
    h.expect_silence();
    h.expect_counters(&[
        (Event::Decapsulated.into(), 1),
        (DropReason::RpFilter.into(), 1),
    ]);
}

/// IPIP-27, ICMP-7: the error about an expired inner packet goes back through the tunnel, from tunl0's address.
#[test]
fn an_error_about_an_inner_packet_goes_back_through_the_tunnel() {
    let mut h = node();
    let packet = || ipv4(N2, N3).ttl(1) / udp(4000, 33434) / data(20);
    h.rx(UPLINK, &(from_k2() / outer_in() / packet()));
    let quoted = quote(&(eth(Mac::ZERO, Mac::ZERO) / packet()));
    let error = ipv4(K3_TUNL0, N2).tos(0xc0).any_id() / time_exceeded() / quoted;
    h.expect_tx(UPLINK, &(to_k2() / outer() / error));
    h.expect_silence();
}

/// IPIP-28, FWD-60: tunl0's address and the node's answer inside the tunnel.
#[test]
fn a_tunnelled_packet_for_the_node_is_delivered() {
    for local in [K3_TUNL0, K3] {
        let mut h = node();
        h.rx(
            UPLINK,
            &(from_k2() / outer_in() / ipv4(N2, local).ttl(63) / echo_request(1, 1)),
        );
        let reply = ipv4(local, N2).any_id() / echo_reply(1, 1);
        h.expect_tx(UPLINK, &(to_k2() / outer() / reply));
        h.expect_silence();
    }
}

/// IPIP-17: what the router itself says to a remote block has tunl0's address as source.
#[test]
fn the_node_speaks_to_a_remote_block_with_the_tunnels_address() {
    let mut h = node();
    h.rx(
        UPLINK,
        &(from_k2() / outer_in() / ipv4(N2, K3).id(1) / udp(1, 9)),
    );
    let sent = h.take(UPLINK);
    assert_eq!(
        sent[46..50],
        K3.octets(),
        "ICMP-8: the address that was asked"
    );
    h.rx(
        UPLINK,
        &(from_k2() / outer_in() / ipv4(N2, X).ttl(1) / udp(1, 9)),
    );
    let sent = h.take(UPLINK);
    assert_eq!(sent[46..50], K3_TUNL0.octets());
}

/// ECN-3, ECN-4, ECN-5: in a packet; the tables are in `ipip`.
#[test]
fn congestion_in_the_tunnel_reaches_the_inner_packet() {
    let inner = |tos, ttl| ipv4(N2, N3).id(9).tos(tos).ttl(ttl) / udp(1, 2);
    let mut h = node();
    for (outside, inside, leaves) in [
        (0xbb, 0x2e, 0x2f),
        (3, 1, 3),
        (1, 2, 2),
        (2, 0, 0),
        (0, 3, 3),
    ] {
        h.rx(
            UPLINK,
            &(from_k2() / outer_in().tos(outside) / inner(inside, 64)),
        );
        h.expect_tx(POD1, &(to_n3() / inner(leaves, 63)));
    }
    let packet = from_k2() / outer_in().tos(3) / inner(0xb8, 64);
    h.rx(UPLINK, &packet);
    h.expect_silence();
    assert_eq!(h.router().stats().drops.get(DropReason::TunnelCongested), 1);
    let mut h = Harness::new(tunnel_with(|device| device.ecn = TunnelEcn::Rfc6040));
    h.rx(UPLINK, &(from_k2() / outer_in().tos(1) / inner(2, 64)));
    h.expect_tx(POD1, &(to_n3() / inner(1, 63)));
}

/// A tunnel in a tunnel, both ending here.
#[test]
fn nested_tunnels_are_not_taken_apart() {
    let mut h = node();
    let packet = from_k2() / outer_in() / ipv4(K2, K3_TUNL0) / ipv4(N2, N3) / udp(1, 2);
    h.rx(UPLINK, &packet);
    h.expect_silence();
    assert_eq!(h.router().stats().drops.get(DropReason::TunnelNested), 1);
}

/// An ICMP error from R about the outer packet in front of `inner`, quoting `quoted` bytes of it.
fn report(message: Packet, outer: Packet, inner: Packet, quoted: usize) -> Packet {
    let bytes = (outer / inner).bytes();
    eth(K3_MAC, R_MAC) / ipv4(R, K3) / message / payload(&bytes[..bytes.len().min(20 + quoted)])
}

/// The packet of n3 that the reports are about, as it was in the tunnel.
fn reported(len: usize) -> Packet {
    ipv4(N3, N2).id(7).ttl(63).df() / udp(4000, 53) / data(len - 28)
}

fn outer_of_n3() -> Packet {
    ipv4(K3, K2).id(1).ttl(5).df()
}

/// IPIP-30, calico#7146: the MTU of the way less 20 is told from then on, and after 10 minutes the packet is tried again.
#[test]
fn the_mtu_of_the_way_is_remembered_for_ten_minutes() {
    let mut h = node();
    h.rx(
        UPLINK,
        &report(fragmentation_needed(1400), outer_of_n3(), reported(1480), 8),
    );
    h.expect_silence();
    h.expect_counters(&[(Event::TunnelMtuLearned.into(), 1)]);
    let long = |total: usize| from_n3() / ipv4(N3, N2).df() / udp(1, 2) / data(total - 28);
    h.rx(POD1, &long(1381));
    let error = ipv4(K3, N3).tos(0xc0).any_id() / fragmentation_needed(1380) / quote(&long(1381));
    h.expect_tx(POD1, &(to_n3() / error));
    h.expect_silence();
    h.rx(POD1, &long(1380));
    assert_eq!(h.take(UPLINK).len(), 14 + 1400);
    // Another end has a way of its own, and packets that may be cut are cut on theirs.
    let to_k1 = from_n3() / ipv4(N3, Ipv4Addr::new(10, 244, 120, 65)).df() / udp(1, 2) / data(1400);
    h.rx(POD1, &to_k1);
    assert_eq!(h.take(UPLINK).len(), 14 + 1448);
    h.rx(POD1, &(from_n3() / ipv4(N3, N2) / udp(1, 2) / data(1400)));
    assert_eq!(h.take(UPLINK).len(), 14 + 1448);
    h.advance(Duration::from_millis(599_999));
    h.rx(POD1, &long(1381));
    assert_eq!(h.take(POD1)[34..36], [3, 4]);
    h.advance(Duration::from_millis(1));
    h.rx(POD1, &long(1381));
    assert_eq!(h.take(UPLINK).len(), 14 + 1401);
}

/// IPIP-31: what routers in the tunnel say is passed on to the sender of the inner packet, translated.
#[test]
fn errors_about_the_outer_packet_are_relayed() {
    for (message, relayed) in [
        (time_exceeded(), Some(unreachable(1))),
        (unreachable(0), Some(unreachable(0))),
        (unreachable(1), Some(unreachable(1))),
        (unreachable(2), Some(unreachable(1))),
        (unreachable(3), Some(unreachable(1))),
        (fragmentation_needed(1400), Some(fragmentation_needed(1380))),
        (unreachable(5), None),
        (unreachable(13), None),
        (icmp(5, 1, [172, 16, 30, 1]), None),
        (icmp(4, 0, [0; 4]), None),
        (icmp(11, 1, [0; 4]), None),
        (parameter_problem(1), None),
    ] {
        let mut h = node();
        h.rx(UPLINK, &report(message, outer_of_n3(), reported(1480), 500));
        if let Some(relayed) = relayed {
            let quoted = payload(&reported(1480).bytes()[..500]);
            let error = ipv4(K3, N3).tos(0xc0).any_id() / relayed / quoted;
            h.expect_tx(POD1, &(to_n3() / error));
        }
        h.expect_silence();
    }
}

/// IPIP-31 for the node's own packets: the host hears of it.
#[test]
fn an_error_about_the_hosts_packet_reaches_the_host() {
    let mut h = Harness::new(with_host(node_k3()));
    let inner = ipv4(K3_TUNL0, N2).id(7) / udp(4000, 53) / data(100);
    h.rx(
        UPLINK,
        &report(unreachable(1), outer_of_n3(), inner.clone(), 500),
    );
    let error =
        ipv4(K3_TUNL0, K3_TUNL0).tos(0xc0).any_id() / unreachable(1) / payload(inner.bytes());
    h.expect_tx(HOST, &(eth(HOST_PEER_MAC, HOST_MAC) / error));
    h.expect_silence();
}

/// IPIP-32: with less than the inner header and 8 bytes nobody can be told.
#[test]
fn a_short_quotation_is_not_relayed() {
    for quoted in [0, 7, 8, 19, 20, 27] {
        let mut h = node();
        h.rx(
            UPLINK,
            &report(time_exceeded(), outer_of_n3(), reported(1480), quoted),
        );
        h.expect_silence();
        h.expect_counters(&[]);
    }
    let mut h = node();
    h.rx(
        UPLINK,
        &report(time_exceeded(), outer_of_n3(), reported(1480), 28),
    );
    h.take(POD1);
}

/// IPIP-33: not from this node, not to an end of the tunnel, not IPIP, broken.
#[test]
fn errors_about_packets_of_others_are_ignored() {
    for about in [
        ipv4(K1, K2).id(1).df(),
        ipv4(K3, R).id(1).df(),
        ipv4(K3_TUNL0, K2).id(1).df(),
        ipv4(K3, K2).id(1).df().protocol(17),
    ] {
        let mut h = node();
        let packet = report(fragmentation_needed(1400), about, reported(1480), 500);
        h.expect_silent_drop(UPLINK, &packet, DropReason::IcmpIgnored);
        h.rx(POD1, &(from_n3() / reported(1480)));
        assert_eq!(h.take(UPLINK).len(), 14 + 1500, "nothing was learned");
    }
    let mut h = node();
    let broken = report(
        fragmentation_needed(1400).checksum(0xbad0),
        outer_of_n3(),
        reported(1480),
        500,
    );
    h.expect_silent_drop(UPLINK, &broken, DropReason::IcmpMalformed);
}

/// FWD-77: an MTU below 68, or one that would have been enough, is no answer; 0 is an old router's, for which the next
/// plateau is tried. No error ever tells less than 68.
#[test]
fn impossible_mtus_are_not_believed() {
    let try_with = |told: u16| {
        let mut h = node();
        h.rx(
            UPLINK,
            &report(fragmentation_needed(told), outer_of_n3(), reported(1480), 8),
        );
        h.rx(POD1, &(from_n3() / reported(1480)));
        let (_, sent) = h.take_all().remove(0);
        (sent[23] == 1).then(|| u16::from_be_bytes([sent[40], sent[41]]))
    };
    assert_eq!(try_with(67), None);
    assert_eq!(try_with(1), None);
    assert_eq!(try_with(1500), None);
    assert_eq!(try_with(0), Some(1492 - 20));
    assert_eq!(try_with(1499), Some(1479));
    assert_eq!(try_with(68), Some(68));
}

#[test]
fn a_node_has_one_tunnel_device() {
    let mut snapshot = node_k3();
    snapshot
        .ports
        .push(PortConfig::ipip(DOCKER.0, "tunl1", 1480));
    let mut router = Router::new(Limits::default(), 1);
    let refused = router.apply(Instant::ZERO, snapshot, &mut FramePool::new(1));
    assert_eq!(refused, Err(ConfigError::SecondTunnel(DOCKER)));
}

//! Into the tunnel.

use core::net::Ipv4Addr;
use core::time::Duration;

use router_core::config::{PortConfig, TunnelEcn};
use router_core::testing::calico::*;
use router_core::testing::topology::{
    DOCKER, HOST, HOST_MAC, HOST_PEER_MAC, POD1, R_MAC, UPLINK, X, route, with_host, with_port,
};
use router_core::testing::*;
use router_core::{ConfigError, DropReason, Event, FramePool, Instant, Limits, Mac, Router};

use crate::common::*;

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

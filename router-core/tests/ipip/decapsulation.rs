//! Out of the tunnel.

use core::net::Ipv4Addr;
use core::time::Duration;

use router_core::config::{RouteTarget, RpFilter, Snapshot, TunnelEcn};
use router_core::testing::calico::*;
use router_core::testing::topology::{POD1, R_MAC, UPLINK, X, with_host, with_port};
use router_core::testing::*;
use router_core::{DropReason, Event, Mac};

use crate::common::*;

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

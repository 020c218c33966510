//! Source and destination sanity (dataplane section 1.3).

use core::net::Ipv4Addr;
use core::time::Duration;

use router_core::config::{RouteTarget, RpFilter};
use router_core::testing::topology::*;
use router_core::testing::*;
use router_core::{DropReason, Event, Mac};

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
        h.expect_silent_drop(POD1, &packet, DropReason::MartianSource);
    }
}

/// FWD-21.
#[test]
fn the_nodes_own_addresses_are_no_source_from_outside() {
    let mut h = node();
    for own in [GW_A, NODE_A, Ipv4Addr::new(172, 17, 0, 1)] {
        for dst in [B1, GW_A] {
            let packet = from_a1() / ipv4(own, dst) / echo_request(1, 1);
            h.expect_silent_drop(POD1, &packet, DropReason::OwnSource);
        }
    }
}

/// FWD-22.
#[test]
fn zero_and_loopback_destinations_are_dropped() {
    let mut h = node();
    for dst in ["127.0.0.1", "0.0.0.0", "0.9.9.9"] {
        let packet = from_a1() / ipv4(A1, dst.parse().unwrap()) / echo_request(1, 1);
        h.expect_silent_drop(POD1, &packet, DropReason::MartianDestination);
    }
}

/// FWD-22: with route_localnet on one port, loopback is local there and only there.
#[test]
fn route_localnet_delivers_loopback_locally_on_its_port_only() {
    let mut h = Harness::new(with_port(resolved(node_a()), POD1, |p| {
        p.route_localnet = true;
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
        h.expect_silent_drop(POD1, &packet, DropReason::RpFilter);
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
        h.expect_silent_drop(
            POD1,
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

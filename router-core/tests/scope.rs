//! Broadcast, multicast and switches of nodes and ports (dataplane sections 1.9, 1.10).

use core::net::Ipv4Addr;

use router_core::config::{Route, RouteTarget, Snapshot};
use router_core::testing::topology::*;
use router_core::testing::*;
use router_core::{DropReason, Mac, PortId};

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
                h.expect_silent_drop(
                    POD1,
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
    h.expect_silent_drop(POD1, &packet, DropReason::ForwardingOff);
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

/// FWD-42: a gateway's address stays local on the links that are left, and no longer than that.
#[test]
fn a_gateway_address_is_local_while_a_link_has_it() {
    let without = |ports: &[PortId]| {
        let mut snapshot = resolved(node_a());
        snapshot.ports.retain(|p| !ports.contains(&p.id));
        snapshot.addresses.retain(|a| !ports.contains(&a.port));
        snapshot.neighbours.retain(|n| !ports.contains(&n.port));
        let to_gone = |r: &Route| matches!(&r.target, RouteTarget::Unicast(hops) if ports.contains(&hops[0].port));
        snapshot.routes.retain(|r| !to_gone(r));
        snapshot
    };
    let mut h = Harness::new(resolved(node_a()));
    let from_b = |ttl| eth(UPLINK_MAC, B_MAC) / ipv4(B1, GW_A).ttl(ttl) / echo_request(1, 1);
    let answer = to_b() / ipv4(GW_A, B1).any_id() / echo_reply(1, 1);
    for gone in [&[][..], &[POD1][..]] {
        h.apply(without(gone));
        h.rx(UPLINK, &from_b(63));
        h.expect_tx(UPLINK, &answer);
    }
    h.apply(without(&[POD1, POD2]));
    h.rx(UPLINK, &from_b(63));
    // Like any other address of the podCIDR that nobody has: back by the default route.
    h.expect_tx(
        UPLINK,
        &(eth(R_MAC, UPLINK_MAC) / ipv4(B1, GW_A).ttl(62) / echo_request(1, 1)),
    );
    h.expect_silence();
}

//! Route lookup and special routes (dataplane sections 1.5, 1.9).

use core::net::Ipv4Addr;
use core::time::Duration;

use router_core::config::{Route, RouteTarget, Snapshot};
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
    h.expect_silent_drop(POD1, &packet, DropReason::Blackhole);
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
    let (fib, slow) = (Fib::new(&snapshot).unwrap(), SlowFib(&snapshot));
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
        let a = u32::from(a);
        [a.wrapping_sub(1), a, a.wrapping_add(1)].map(Ipv4Addr::from)
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

/// FWD-42: the gateway address stays local until its last link is gone.
#[test]
fn a_gateway_address_on_two_links_outlives_one_of_them() {
    let mut h = node();
    let ask_from_a2 = eth(POD2_MAC, A2_MAC) / ipv4(A2, GW_A) / echo_request(1, 1);
    let mut without_a1 = resolved(node_a());
    without_a1.ports.retain(|p| p.id != POD1);
    without_a1.addresses.retain(|a| a.port != POD1);
    without_a1.neighbours.retain(|n| n.port != POD1);
    without_a1.routes.retain(|r| r.dst.addr() != A1);
    h.apply(without_a1);
    h.rx(POD2, &ask_from_a2);
    h.expect_tx(
        POD2,
        &(eth(A2_MAC, POD2_MAC) / ipv4(GW_A, A2).any_id() / echo_reply(1, 1)),
    );
    h.expect_silence();
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
        h.expect_silent_drop(POD1, &packet, DropReason::Blackhole);
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

/// RT-8: an ICMP error goes the way of the packets that it is about, fragments that of their datagram.
#[test]
fn errors_and_fragments_follow_their_flow() {
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
    for host in 0..32 {
        let dst = Ipv4Addr::new(9, 0, 0, host);
        let packet = || ipv4(A1, dst) / udp(1, 2);
        let quoted = (ipv4(A1, dst) / udp(7, 8)).bytes();
        h.rx(POD1, &(from_a1() / packet()));
        h.rx(
            POD1,
            &(from_a1() / ipv4(A1, dst).mf().offset(80) / vec![0; 16]),
        );
        // Of another source, about the same flow.
        let error = ipv4(A2, Ipv4Addr::new(9, 9, 9, 9)) / unreachable(3) / quoted;
        h.rx(POD1, &(from_a1() / error));
        let ports: Vec<_> = h.take_all().into_iter().map(|(port, _)| port).collect();
        assert!(ports.iter().all(|p| *p == ports[0]), "{host}: {ports:?}");
    }
}

/// RT-8: only an ICMP error quotes a packet. What looks like one inside of other packets, or in a later fragment, does not
/// say which way they go.
#[test]
fn a_packet_within_a_packet_that_is_no_error_has_no_say() {
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
    for host in 0..32 {
        let dst = Ipv4Addr::new(9, 0, 0, host);
        h.rx(POD1, &(from_a1() / ipv4(A1, dst) / udp(1, 2)));
        let own = h.take_all()[0].0;
        for other in 0..8 {
            let inside = || (ipv4(A2, Ipv4Addr::new(9, 1, 0, other)) / udp(7, 8)).bytes();
            let error = ([&[3, 3, 0, 0, 0, 0, 0, 0][..], &inside()]).concat();
            for packet in [
                ipv4(A1, dst) / udp(3, 2) / inside(),
                ipv4(A1, dst) / echo_request(1, 1) / inside(),
                ipv4(A1, dst).protocol(17) / error.clone(),
                ipv4(A1, dst).protocol(1).offset(80) / error.clone(),
            ] {
                h.rx(POD1, &(from_a1() / packet));
            }
        }
        let ports: Vec<_> = h.take_all().into_iter().map(|(port, _)| port).collect();
        assert_eq!(ports, [own; 32], "{host}");
    }
}

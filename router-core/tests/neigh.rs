//! Address resolution and the neighbour state machine (dataplane sections 1.9, 2.3).

use core::net::Ipv4Addr;
use core::time::Duration;

use router_core::config::PermanentNeighbour;
use router_core::testing::topology::*;
use router_core::testing::*;
use router_core::{DropReason, Event, Limits, Mac, NeighbourState, PortId};

use NeighbourState::{Delay, Failed, Incomplete, Permanent, Probe, Reachable, Stale};

const ABSENT: Ipv4Addr = Ipv4Addr::new(172, 16, 30, 98);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn state(h: &Harness, port: PortId, ip: Ipv4Addr) -> Option<NeighbourState> {
    h.router()
        .neighbours()
        .find(|n| (n.port, n.ip) == (port, ip))
        .map(|n| n.state)
}

/// A packet of a1's to somewhere behind the uplink.
fn to_uplink(dst: Ipv4Addr, mark: u16) -> Packet {
    eth(POD1_MAC, A1_MAC) / ipv4(A1, dst).id(mark) / udp(1000, 53)
}

fn forwarded(dst_mac: Mac, dst: Ipv4Addr, mark: u16) -> Packet {
    eth(dst_mac, UPLINK_MAC) / ipv4(A1, dst).id(mark).ttl(63) / udp(1000, 53)
}

fn question(target: Ipv4Addr) -> Packet {
    eth(Mac::BROADCAST, UPLINK_MAC) / arp_request(UPLINK_MAC, NODE_A, target)
}

fn answer_of_b() -> Packet {
    eth(UPLINK_MAC, B_MAC) / arp_reply(B_MAC, NODE_B, UPLINK_MAC, NODE_A)
}

/// A router that has just resolved node B.
fn reachable() -> Harness {
    let mut h = Harness::new(node_a());
    h.rx(
        UPLINK,
        &(eth(Mac::BROADCAST, B_MAC) / arp_request(B_MAC, NODE_B, NODE_A)),
    );
    h.rx(UPLINK, &answer_of_b());
    assert_eq!(state(&h, UPLINK, NODE_B), Some(Reachable));
    h.take_all();
    h
}

/// NEI-1.
#[test]
fn one_address_resolves_differently_on_two_ports() {
    let mut h = Harness::new(node_a());
    h.rx(
        POD1,
        &(eth(Mac::BROADCAST, A1_MAC) / arp_request(A1_MAC, X, GW_A)),
    );
    h.rx(
        POD2,
        &(eth(Mac::BROADCAST, A2_MAC) / arp_request(A2_MAC, X, GW_A)),
    );
    let macs: Vec<_> = h.router().neighbours().map(|n| (n.port, n.mac)).collect();
    assert!(macs.contains(&(POD1, Some(A1_MAC))) && macs.contains(&(POD2, Some(A2_MAC))));
}

/// NEI-2, RT-4, FWD-62: questions at 0, 1 and 2 s, the error with the lowered TTL at 3 s.
#[test]
fn an_absent_neighbour_is_asked_three_times_and_then_reported() {
    let mut h = Harness::new(node_a());
    h.rx(POD1, &to_uplink(ABSENT, 1));
    h.expect_tx(UPLINK, &question(ABSENT));
    for _ in 0..2 {
        h.advance(ms(999));
        h.expect_silence();
        h.advance(ms(1));
        h.expect_tx(UPLINK, &question(ABSENT));
    }
    h.advance(ms(999));
    h.expect_silence();
    assert_eq!(state(&h, UPLINK, ABSENT), Some(Incomplete));
    h.advance(ms(1));
    assert_eq!(state(&h, UPLINK, ABSENT), Some(Failed));
    h.expect_counters(&[
        (DropReason::NeighbourFailed.into(), 1),
        (Event::ArpRequestSent.into(), 4),
        (Event::IcmpErrorSent.into(), 1),
    ]);
    // The pod is asked for first.
    h.expect_tx(
        POD1,
        &(eth(Mac::BROADCAST, POD1_MAC) / arp_request(POD1_MAC, GW_A, A1)),
    );
    h.rx(
        POD1,
        &(eth(POD1_MAC, A1_MAC) / arp_reply(A1_MAC, A1, POD1_MAC, GW_A)),
    );
    let quoted = eth(POD1_MAC, A1_MAC) / ipv4(A1, ABSENT).id(1).ttl(63) / udp(1000, 53);
    let error = ipv4(GW_A, A1).tos(0xc0).any_id() / unreachable(1) / quote(&quoted);
    h.expect_tx(POD1, &(eth(A1_MAC, POD1_MAC) / error));
    h.expect_silence();
}

/// NEI-3: the oldest goes.
#[test]
fn the_queue_of_an_entry_is_bounded_and_drops_its_oldest() {
    let limits = Limits {
        held_per_neighbour: 3,
        ..Limits::default()
    };
    let mut h = Harness::with_limits(node_a(), limits, 64);
    for mark in 1..=5 {
        h.rx(POD1, &to_uplink(NODE_B, mark));
    }
    assert_eq!(h.router().held(), 3);
    h.expect_tx(UPLINK, &question(NODE_B));
    h.expect_silence();
    h.rx(UPLINK, &answer_of_b());
    for mark in 3..=5 {
        h.expect_tx(UPLINK, &forwarded(B_MAC, NODE_B, mark));
    }
    h.expect_silence();
    h.expect_counters(&[
        (DropReason::HoldQueueFull.into(), 2),
        (Event::ArpRequestSent.into(), 1),
    ]);
}

/// NEI-3: one absent neighbour does not take the room of others.
#[test]
fn when_all_places_are_taken_the_longest_queue_gives_way() {
    let limits = Limits {
        held: 8,
        held_per_neighbour: 8,
        ..Limits::default()
    };
    let mut h = Harness::with_limits(node_a(), limits, 64);
    for mark in 0..8 {
        h.rx(POD1, &to_uplink(ABSENT, mark));
    }
    h.rx(POD1, &to_uplink(NODE_B, 9));
    h.rx(UPLINK, &answer_of_b());
    h.take(UPLINK);
    h.expect_tx(UPLINK, &question(NODE_B));
    h.expect_tx(UPLINK, &forwarded(B_MAC, NODE_B, 9));
    h.expect_counters(&[
        (DropReason::HoldQueueFull.into(), 1),
        (Event::ArpRequestSent.into(), 2),
    ]);
}

/// NEI-4: the first packet of a fresh pair is not lost, and order is kept (INV-10).
#[test]
fn on_resolution_everything_that_waited_is_sent_in_order() {
    let mut h = Harness::new(node_a());
    for mark in 0..100 {
        h.rx(POD1, &to_uplink(B1, mark));
    }
    h.expect_tx(UPLINK, &question(NODE_B));
    h.expect_silence();
    h.rx(UPLINK, &answer_of_b());
    for mark in 0..100 {
        h.expect_tx(UPLINK, &forwarded(B_MAC, B1, mark));
    }
    h.expect_silence();
}

/// NEI-5: REACHABLE for 15 to 45 s, then STALE.
#[test]
fn a_confirmed_neighbour_becomes_stale_after_15_to_45_seconds() {
    let mut times = Vec::new();
    for extra in 0..20 {
        let mut h = reachable();
        // Other numbers are drawn when the confirmation comes later in the router's life.
        for _ in 0..extra {
            h.rx(UPLINK, &answer_of_b());
        }
        let mut waited = 0;
        while state(&h, UPLINK, NODE_B) == Some(Reachable) {
            h.advance(ms(10));
            waited += 10;
        }
        assert_eq!(state(&h, UPLINK, NODE_B), Some(Stale));
        assert!((15_000..=45_010).contains(&waited), "{waited} ms");
        times.push(waited);
    }
    times.sort_unstable();
    times.dedup();
    assert!(
        times.len() > 10,
        "the time is drawn anew for each confirmation"
    );
}

/// NEI-5: first use, 5 s of DELAY, three unicast probes a second apart, FAILED.
#[test]
fn a_stale_neighbour_in_use_is_probed_by_unicast_and_fails_silently() {
    let mut h = reachable();
    h.advance(ms(46_000));
    assert_eq!(state(&h, UPLINK, NODE_B), Some(Stale));
    h.advance(ms(60_000));
    assert_eq!(
        state(&h, UPLINK, NODE_B),
        Some(Stale),
        "unused entries are left alone"
    );
    h.rx(POD1, &to_uplink(B1, 1));
    h.expect_tx(UPLINK, &forwarded(B_MAC, B1, 1));
    assert_eq!(state(&h, UPLINK, NODE_B), Some(Delay));
    h.advance(ms(4_999));
    h.expect_silence();
    let probe = eth(B_MAC, UPLINK_MAC) / arp_request(UPLINK_MAC, NODE_A, NODE_B);
    for wait in [1, 1000, 1000] {
        h.advance(ms(wait));
        h.expect_tx(UPLINK, &probe);
        assert_eq!(state(&h, UPLINK, NODE_B), Some(Probe));
    }
    // Packets still go to the last known MAC.
    h.rx(POD1, &to_uplink(B1, 2));
    h.expect_tx(UPLINK, &forwarded(B_MAC, B1, 2));
    h.advance(ms(999));
    assert_eq!(state(&h, UPLINK, NODE_B), Some(Probe));
    h.advance(ms(1));
    assert_eq!(state(&h, UPLINK, NODE_B), Some(Failed));
    h.expect_silence();
}

/// NEI-5, NEI-6.
#[test]
fn an_answered_probe_makes_the_neighbour_reachable_again() {
    let mut h = reachable();
    h.advance(ms(46_000));
    h.rx(POD1, &to_uplink(B1, 1));
    h.advance(ms(5_000));
    assert_eq!(state(&h, UPLINK, NODE_B), Some(Probe));
    h.rx(UPLINK, &answer_of_b());
    assert_eq!(state(&h, UPLINK, NODE_B), Some(Reachable));
}

/// NEI-6.
#[test]
fn only_a_unicast_reply_confirms() {
    let broadcast = eth(Mac::BROADCAST, B_MAC) / arp_reply(B_MAC, NODE_B, UPLINK_MAC, NODE_A);
    let request = eth(Mac::BROADCAST, B_MAC) / arp_request(B_MAC, NODE_B, NODE_A);
    for (packet, after) in [
        (answer_of_b(), Reachable),
        (broadcast, Delay),
        (request, Delay),
    ] {
        let mut h = Harness::new(node_a());
        h.rx(POD1, &to_uplink(B1, 1));
        h.rx(UPLINK, &packet);
        // What waited was sent: a use, which moves STALE on to DELAY.
        assert_eq!(state(&h, UPLINK, NODE_B), Some(after));
        assert_eq!(h.router().held(), 0);
    }
    // A request says nothing new about a confirmed neighbour.
    let mut h = reachable();
    h.rx(
        UPLINK,
        &(eth(Mac::BROADCAST, B_MAC) / arp_request(B_MAC, NODE_B, NODE_A)),
    );
    assert_eq!(state(&h, UPLINK, NODE_B), Some(Reachable));
}

/// NEI-7.
#[test]
fn a_question_is_asked_from_the_packets_own_source_or_the_address_on_the_link() {
    // Forwarded to a pod: the gateway address of its link.
    let mut h = Harness::new(with_host(node_a()));
    h.rx(UPLINK, &(eth(UPLINK_MAC, B_MAC) / ipv4(B1, A1) / udp(1, 2)));
    h.expect_tx(
        POD1,
        &(eth(Mac::BROADCAST, POD1_MAC) / arp_request(POD1_MAC, GW_A, A1)),
    );
    // From the node itself: the source of the packet.
    h.rx(
        HOST,
        &(eth(HOST_MAC, HOST_PEER_MAC) / ipv4(NODE_A, A2) / udp(1, 2)),
    );
    h.expect_tx(
        POD2,
        &(eth(Mac::BROADCAST, POD2_MAC) / arp_request(POD2_MAC, NODE_A, A2)),
    );
    // A link without an address (Calico): the node's first.
    let mut snapshot = node_a();
    snapshot.addresses.retain(|a| a.addr != GW_A);
    let mut h = Harness::new(snapshot);
    h.rx(UPLINK, &(eth(UPLINK_MAC, B_MAC) / ipv4(B1, A1) / udp(1, 2)));
    h.expect_tx(
        POD1,
        &(eth(Mac::BROADCAST, POD1_MAC) / arp_request(POD1_MAC, NODE_A, A1)),
    );
}

/// NEI-8.
#[test]
fn what_is_no_station_is_never_asked_for() {
    let mut snapshot = node_a();
    snapshot.routes.push(route(
        "9.0.0.0/8",
        UPLINK,
        Some(Ipv4Addr::new(224, 0, 0, 9)),
    ));
    let mut h = Harness::new(snapshot);
    h.rx(POD1, &to_uplink(Ipv4Addr::new(9, 9, 9, 9), 1));
    h.expect_silence();
    h.expect_counters(&[(DropReason::NoLinkAddress.into(), 1)]);

    let mut noarp = node_a();
    noarp.ports[0].arp = false;
    let mut h = Harness::new(noarp);
    h.rx(POD1, &to_uplink(NODE_B, 1));
    h.expect_silence();
    h.expect_counters(&[(DropReason::NoLinkAddress.into(), 1)]);
}

/// NEI-9.
#[test]
fn a_thousand_packets_to_an_absent_host_cause_three_questions() {
    let mut h = Harness::new(node_a());
    for mark in 0..1000 {
        h.rx(POD1, &to_uplink(ABSENT, mark));
        h.advance(ms(2));
    }
    h.advance(ms(999));
    let questions = h
        .take_all()
        .into_iter()
        .filter(|(_, f)| *f == question(ABSENT).bytes())
        .count();
    assert_eq!(questions, 3);
}

/// RT-5.
#[test]
fn a_failed_neighbour_is_asked_for_anew_by_the_next_packet() {
    let mut h = Harness::new(node_a());
    h.rx(POD1, &to_uplink(ABSENT, 1));
    h.advance(ms(3_000));
    assert_eq!(state(&h, UPLINK, ABSENT), Some(Failed));
    h.take_all();
    h.rx(POD1, &to_uplink(ABSENT, 2));
    h.expect_tx(UPLINK, &question(ABSENT));
    assert_eq!(
        (state(&h, UPLINK, ABSENT), h.router().held()),
        (Some(Incomplete), 2)
    );
}

/// NEI-10: a scan does not disrupt what is in use.
#[test]
fn a_scan_evicts_neither_permanent_entries_nor_those_in_use() {
    let limits = Limits {
        neighbours: 16,
        ..Limits::default()
    };
    let mut snapshot = node_a();
    snapshot.neighbours.push(PermanentNeighbour {
        port: UPLINK,
        ip: R,
        mac: R_MAC,
    });
    let mut h = Harness::with_limits(snapshot, limits, 512);
    h.rx(
        UPLINK,
        &(eth(Mac::BROADCAST, B_MAC) / arp_request(B_MAC, NODE_B, NODE_A)),
    );
    h.rx(POD1, &to_uplink(B1, 1));
    for last in 100..200 {
        h.rx(POD1, &to_uplink(Ipv4Addr::new(172, 16, 30, last), 1));
    }
    assert_eq!(state(&h, UPLINK, R), Some(Permanent));
    assert_eq!(state(&h, UPLINK, NODE_B), Some(Delay));
    assert_eq!(h.router().neighbours().count(), 17);
    assert_eq!(
        h.router().stats().drops.get(DropReason::NeighbourTableFull),
        85
    );
}

/// NEI-10: with a table full of live neighbours, a new one is refused and counted.
#[test]
fn a_table_full_of_live_entries_takes_no_new_one() {
    let limits = Limits {
        neighbours: 4,
        ..Limits::default()
    };
    let mut h = Harness::with_limits(node_a(), limits, 64);
    for last in 100..104 {
        let ip = Ipv4Addr::new(172, 16, 30, last);
        h.rx(
            UPLINK,
            &(eth(Mac::BROADCAST, B_MAC) / arp_request(B_MAC, ip, NODE_A)),
        );
    }
    h.take_all();
    h.rx(POD1, &to_uplink(ABSENT, 1));
    h.expect_silence();
    h.expect_counters(&[
        (DropReason::NeighbourTableFull.into(), 1),
        (Event::ArpReplySent.into(), 4),
    ]);
    // After a minute without use the oldest makes room.
    h.advance(Duration::from_secs(60));
    h.rx(POD1, &to_uplink(ABSENT, 1));
    h.expect_tx(UPLINK, &question(ABSENT));
}

/// NEI-11, FWD-58: what waits at a port that goes is dropped without errors.
#[test]
fn a_removed_port_takes_its_entries_and_what_waits_there_along() {
    let mut h = Harness::new(node_a());
    for mark in 0..3 {
        let packet = eth(UPLINK_MAC, B_MAC) / ipv4(B1, A1).id(mark) / udp(1, 2);
        h.rx(UPLINK, &packet);
    }
    h.take_all();
    let mut without = node_a();
    without.ports.retain(|p| p.id != POD1);
    without.addresses.retain(|a| a.port != POD1);
    without.routes.retain(|r| r.dst.addr() != A1);
    h.apply(without);
    h.expect_silence();
    assert_eq!(h.router().neighbours().count(), 0);
    h.expect_counters(&[
        (DropReason::PortRemoved.into(), 3),
        (Event::ArpRequestSent.into(), 1),
    ]);
    // FWD-42: the gateway address still stands on the other link.
    h.rx(
        POD2,
        &(eth(Mac::BROADCAST, A2_MAC) / arp_request(A2_MAC, A2, GW_A)),
    );
    h.expect_tx(
        POD2,
        &(eth(A2_MAC, POD2_MAC) / arp_reply(POD2_MAC, GW_A, A2_MAC, A2)),
    );
}

/// NEI-11: same address, new port, new MAC.
#[test]
fn a_pod_that_is_made_again_with_the_same_address_works_at_once() {
    let mut h = Harness::new(node_a());
    h.rx(
        POD1,
        &(eth(Mac::BROADCAST, A1_MAC) / arp_request(A1_MAC, A1, GW_A)),
    );
    h.take_all();
    let again = PortId(9);
    let new_mac = Mac([2, 0, 0, 0, 7, 7]);
    let mut snapshot = node_a();
    for port in snapshot.ports.iter_mut().filter(|p| p.id == POD1) {
        port.id = again;
    }
    for address in snapshot.addresses.iter_mut().filter(|a| a.port == POD1) {
        address.port = again;
    }
    snapshot.routes.retain(|r| r.dst.addr() != A1);
    snapshot.routes.push(route("10.244.0.2/32", again, None));
    h.apply(snapshot);
    h.rx(UPLINK, &(eth(UPLINK_MAC, B_MAC) / ipv4(B1, A1) / udp(1, 2)));
    h.expect_tx(
        again,
        &(eth(Mac::BROADCAST, POD1_MAC) / arp_request(POD1_MAC, GW_A, A1)),
    );
    h.rx(
        again,
        &(eth(POD1_MAC, new_mac) / arp_reply(new_mac, A1, POD1_MAC, GW_A)),
    );
    h.expect_tx(
        again,
        &(eth(new_mac, POD1_MAC) / ipv4(B1, A1).ttl(63) / udp(1, 2)),
    );
}

/// A snapshot that brings the MAC as PERMANENT releases what waits for it.
#[test]
fn packets_that_wait_go_when_the_entry_becomes_permanent() {
    let mut h = Harness::new(node_a());
    h.rx(POD1, &to_uplink(B1, 1));
    h.expect_tx(UPLINK, &question(NODE_B));
    let known = PermanentNeighbour {
        port: UPLINK,
        ip: NODE_B,
        mac: B_MAC,
    };
    h.apply(router_core::Snapshot {
        neighbours: vec![known],
        ..node_a()
    });
    h.advance(ms(0));
    h.expect_tx(UPLINK, &forwarded(B_MAC, B1, 1));
    h.expect_silence();
    // And nothing that is claimed changes it.
    let evil = Mac([2, 0, 0, 0, 6, 6]);
    h.advance(ms(5_000));
    h.rx(
        UPLINK,
        &(eth(UPLINK_MAC, evil) / arp_reply(evil, NODE_B, UPLINK_MAC, NODE_A)),
    );
    h.rx(POD1, &to_uplink(B1, 2));
    h.expect_tx(UPLINK, &forwarded(B_MAC, B1, 2));
    // No longer in the snapshot: deleted.
    h.apply(node_a());
    assert_eq!(h.router().neighbours().count(), 0);
}

/// `ip neigh flush` leaves PERMANENT entries.
#[test]
fn a_flush_deletes_all_but_permanent_entries() {
    let mut h = Harness::new(resolved(node_a()));
    h.rx(POD1, &to_uplink(ABSENT, 1));
    h.take_all();
    assert_eq!(h.flush_neighbours(Some(POD1)), 0);
    assert_eq!(h.flush_neighbours(None), 1);
    assert!(h.router().neighbours().all(|n| n.state == Permanent));
    h.expect_counters(&[
        (DropReason::NeighbourFlushed.into(), 1),
        (Event::ArpRequestSent.into(), 1),
    ]);
}

/// INV-8: after a long sleep entries are old at once, and nothing underflows.
#[test]
fn a_clock_that_jumps_ages_entries_at_once() {
    let mut h = reachable();
    h.advance(Duration::from_secs(1 << 40));
    assert_eq!(state(&h, UPLINK, NODE_B), Some(Stale));
}

/// GARP-2: the second in which the first answer stands begins with a change, also of the state alone; an answer that says
/// what is known already does not begin it anew.
#[test]
fn the_locktime_begins_with_what_changed_last() {
    let evil = Mac([2, 0, 0, 0, 6, 6]);
    let reply = |mac| eth(UPLINK_MAC, mac) / arp_reply(mac, NODE_B, UPLINK_MAC, NODE_A);
    let mac = |h: &Harness| h.router().neighbours().next().unwrap().mac;
    let request = eth(Mac::BROADCAST, B_MAC) / arp_request(B_MAC, NODE_B, NODE_A);
    // STALE for long, confirmed now.
    let mut h = Harness::new(node_a());
    h.rx(UPLINK, &request);
    h.advance(ms(5000));
    h.rx(UPLINK, &reply(B_MAC));
    h.advance(ms(999));
    h.rx(UPLINK, &reply(evil));
    assert_eq!(mac(&h), Some(B_MAC));
    // Confirmed a second time.
    let mut h = reachable();
    h.advance(ms(999));
    h.rx(UPLINK, &reply(B_MAC));
    h.advance(ms(1));
    h.rx(UPLINK, &reply(evil));
    assert_eq!(mac(&h), Some(evil));
    // Confirmed with another MAC, in the state that it had.
    h.advance(ms(999));
    h.rx(UPLINK, &reply(B_MAC));
    assert_eq!(mac(&h), Some(evil));
    h.take_all();
}

/// A router that was not called for long asks once when it is, and goes on from then.
#[test]
fn what_is_due_is_done_late_rather_than_never() {
    let mut h = Harness::new(node_a());
    h.rx(POD1, &to_uplink(ABSENT, 1));
    h.expect_tx(UPLINK, &question(ABSENT));
    h.oversleep(ms(1700));
    h.expect_tx(UPLINK, &question(ABSENT));
    h.advance(ms(999));
    h.expect_silence();
    h.advance(ms(1));
    h.expect_tx(UPLINK, &question(ABSENT));
    h.take_all();
}

/// An interface without carrier resolves nobody (docker0 of seed 000).
#[test]
fn behind_a_link_without_carrier_every_host_is_unreachable() {
    let mut h = Harness::new(resolved(node_a()));
    let dst = Ipv4Addr::new(172, 17, 0, 9);
    h.rx(POD1, &to_uplink(dst, 1));
    h.advance(ms(3_000));
    let quoted = eth(POD1_MAC, A1_MAC) / ipv4(A1, dst).id(1).ttl(63) / udp(1000, 53);
    let error = ipv4(GW_A, A1).tos(0xc0).any_id() / unreachable(1) / quote(&quoted);
    h.expect_tx(POD1, &(eth(A1_MAC, POD1_MAC) / error));
    h.expect_silence();
}

/// NEI-10: more than 128 entries are weeded every 15 s; what failed goes, what is known stays. Fewer are left alone.
#[test]
fn entries_that_failed_are_collected_in_a_large_table() {
    let scan = |h: &mut Harness, hosts: u8| {
        h.rx(
            UPLINK,
            &(eth(Mac::BROADCAST, R_MAC) / arp_request(R_MAC, R, NODE_A)),
        );
        for host in 100..100 + hosts {
            let dst = Ipv4Addr::new(172, 16, 30, host);
            h.rx(POD1, &(eth(POD1_MAC, A1_MAC) / ipv4(A1, dst) / udp(1, 2)));
        }
    };
    let mut h = Harness::new(node_a());
    scan(&mut h, 130);
    h.advance(Duration::from_millis(14_999));
    assert_eq!(h.router().neighbours().count(), 132);
    h.advance(Duration::from_millis(1));
    let left: Vec<_> = h.router().neighbours().map(|n| n.ip).collect();
    assert_eq!(left, [R]);
    h.take_all();
    let mut h = Harness::new(node_a());
    scan(&mut h, 100);
    h.advance(Duration::from_secs(60));
    assert_eq!(h.router().neighbours().count(), 102);
    h.take_all();
}

/// NEI-10: the border between a table that is left alone and one that is weeded, and weeding goes on while it is large.
#[test]
fn a_table_is_weeded_above_128_entries_for_as_long_as_it_is() {
    let host = |n: u8| Ipv4Addr::new(172, 16, 30, n);
    // Known hosts, by their requests; a1 is PERMANENT and does not count.
    let known = |h: &mut Harness, hosts: core::ops::Range<u8>| {
        for n in hosts {
            let mac = Mac([2, 0, 0, 0, 8, n]);
            let request = eth(Mac::BROADCAST, mac) / arp_request(mac, host(n), NODE_A);
            h.rx(UPLINK, &request);
        }
    };
    let absent = |h: &mut Harness| h.rx(POD1, &to_uplink(host(250), 1));
    let failed = |h: &Harness| state(h, UPLINK, host(250));
    for (hosts, left) in [(10..137, Some(Failed)), (10..138, None)] {
        let mut h = Harness::new(resolved(node_a()));
        known(&mut h, hosts);
        absent(&mut h);
        h.advance(Duration::from_secs(20));
        assert_eq!(failed(&h), left);
        h.take_all();
    }
    let mut h = Harness::new(resolved(node_a()));
    known(&mut h, 10..139);
    h.advance(Duration::from_secs(40));
    absent(&mut h);
    h.advance(Duration::from_millis(4_999));
    assert_eq!(failed(&h), Some(Failed));
    h.advance(Duration::from_millis(1));
    assert_eq!(
        failed(&h),
        None,
        "the third time, 45 s after the first entry too many"
    );
    // Nobody used the others for a minute: they go, and then there is nothing left to weed.
    h.advance(Duration::from_secs(15));
    assert!(h.router().neighbours().all(|n| n.state == Permanent));
    absent(&mut h);
    h.advance(Duration::from_secs(20));
    assert_eq!(failed(&h), Some(Failed));
    h.take_all();
}

//! Section 4.2.

use super::*;
use router_core::config::nat::{PortChoice, Target};
use router_core::{DropReason, Filter};

fn with_choice(choice: PortChoice) -> Snapshot {
    let mut snapshot = node();
    for rule in &mut snapshot.nat.chains[1].rules {
        if let Target::Masquerade(c) = &mut rule.target {
            *c = choice;
        }
    }
    snapshot
}

/// NAT-11: a free port is kept, and one port serves two pods toward different destinations.
#[test]
fn the_source_port_is_kept_where_it_is_free() {
    let mut h = harness();
    assert_eq!(udp_port(&mut h, (POD1, a1()), (A1, 4000), (X, 53)), 4000);
    assert_eq!(udp_port(&mut h, (POD2, a2()), (A2, 4000), (Y, 53)), 4000);
    h.rx(UPLINK, &(r() / ipv4(Y, NODE_A) / udp(53, 4000) / b"a"));
    h.expect_tx(
        POD2,
        &(to_a2() / ipv4(Y, A2).ttl(63) / udp(53, 4000) / b"a"),
    );
    h.rx(UPLINK, &(r() / ipv4(X, NODE_A) / udp(53, 4000) / b"a"));
    h.expect_tx(
        POD1,
        &(to_a1() / ipv4(X, A1).ttl(63) / udp(53, 4000) / b"a"),
    );
}

/// NAT-12, NAT-19: on a clash the new port is of the same class, and not the next one.
#[test]
fn a_port_that_is_taken_is_replaced_by_one_of_its_class() {
    for (port, class) in [
        (4000, 1024..=65535),
        (1024, 1024..=65535),
        (300, 1..=511),
        (511, 1..=511),
        (700, 600..=1023),
        (512, 600..=1023),
        (1023, 600..=1023),
    ] {
        let mut h = harness();
        assert_eq!(udp_port(&mut h, (POD1, a1()), (A1, port), (X, 53)), port);
        let other = udp_port(&mut h, (POD2, a2()), (A2, port), (X, 53));
        assert!(class.contains(&other) && other != port, "{port} -> {other}");
        h.rx(UPLINK, &(r() / ipv4(X, NODE_A) / udp(53, other) / b"a"));
        h.expect_tx(
            POD2,
            &(to_a2() / ipv4(X, A2).ttl(63) / udp(53, port) / b"a"),
        );
    }
    let mut h = harness();
    let mut ports: Vec<u16> = (0..20_u8)
        .map(|n| {
            let src = Ipv4Addr::new(10, 244, 0, 100 + n);
            udp_port(&mut h, (POD1, a1()), (src, 4000), (X, 53))
        })
        .collect();
    let in_order = ports.windows(2).filter(|w| w[0] + 1 == w[1]).count();
    assert!(in_order < 5, "{ports:?}");
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 20);
}

/// NAT-12, NAT-50: an identifier that is taken is replaced by any other; the sequence number stays.
#[test]
fn an_icmp_identifier_is_translated_on_a_clash() {
    let mut h = harness();
    h.rx(POD1, &(a1() / ipv4(A1, X) / echo_request(77, 5) / b"data"));
    h.expect_tx(
        UPLINK,
        &(to_r() / ipv4(NODE_A, X).ttl(63) / echo_request(77, 5) / b"data"),
    );
    h.rx(POD2, &(a2() / ipv4(A2, X) / echo_request(77, 9) / b"data"));
    let sent = h.take(UPLINK);
    let (addr, id) = source_of(&sent);
    assert!(addr == NODE_A && id != 77);
    let expected = to_r() / ipv4(NODE_A, X).ttl(63) / echo_request(id, 9) / b"data";
    assert_eq!(sent, expected.bytes());
    // NAT-50: several replies to one request.
    for _ in 0..2 {
        h.rx(
            UPLINK,
            &(r() / ipv4(X, NODE_A) / echo_reply(id, 9) / b"data"),
        );
        h.expect_tx(
            POD2,
            &(to_a2() / ipv4(X, A2).ttl(63) / echo_reply(77, 9) / b"data"),
        );
    }
}

/// NAT-13: a source that was moved keeps its new port toward other destinations.
#[test]
fn a_mapping_is_used_again_toward_other_destinations() {
    let mut h = harness();
    udp_port(&mut h, (POD1, a1()), (A1, 4000), (X, 53));
    let moved = udp_port(&mut h, (POD2, a2()), (A2, 4000), (X, 53));
    assert_ne!(moved, 4000);
    for dst in [(X, 54), (Y, 53), (Y, 4000)] {
        assert_eq!(udp_port(&mut h, (POD2, a2()), (A2, 4000), dst), moved);
    }
    // Also when the first of the connections is gone.
    let first = Filter {
        dst: Some(X),
        src: Some(A2),
        ..Filter::default()
    };
    assert_eq!(h.router_mut().flush_sessions(&first), 2);
    let third = (Ipv4Addr::new(8, 8, 4, 4), 53);
    assert_eq!(udp_port(&mut h, (POD2, a2()), (A2, 4000), third), moved);
    let all = Filter {
        src: Some(A2),
        ..Filter::default()
    };
    assert_eq!(h.router_mut().flush_sessions(&all), 3);
    assert_eq!(udp_port(&mut h, (POD2, a2()), (A2, 4000), third), 4000);
}

/// NAT-13: where the mapping is taken toward the new destination, another is made.
#[test]
fn a_mapping_that_is_taken_is_not_used_again() {
    let mut h = harness();
    udp_port(&mut h, (POD1, a1()), (A1, 4000), (X, 53));
    let moved = udp_port(&mut h, (POD2, a2()), (A2, 4000), (X, 53));
    assert_eq!(udp_port(&mut h, (POD1, a1()), (A1, moved), (Y, 53)), moved);
    let again = udp_port(&mut h, (POD2, a2()), (A2, 4000), (Y, 53));
    assert_ne!(again, moved);
}

/// NAT-14: what comes in has to be the answer to a connection in full; another port or peer is none.
#[test]
fn a_mapping_lets_in_only_its_own_peer() {
    let mut h = harness();
    udp_port(&mut h, (POD1, a1()), (A1, 4000), (X, 53));
    for (src, sport) in [(X, 99), (Y, 53)] {
        let stranger = ipv4(src, NODE_A) / udp(sport, 4000) / b"?";
        h.rx(UPLINK, &(r() / stranger.clone()));
        h.expect_tx(
            UPLINK,
            &(to_r()
                / ipv4(NODE_A, src).tos(0xc0).any_id()
                / unreachable(3)
                / quote(&(r() / stranger))),
        );
        h.expect_silence();
    }
}

/// NAT-15: what the node itself sends has its ports first.
#[test]
fn a_pod_does_not_get_a_port_that_the_node_uses() {
    let mut h = Harness::new(with_host(node()));
    let host = eth(HOST_MAC, HOST_PEER_MAC);
    h.rx(HOST, &(host / ipv4(NODE_A, X) / udp(4000, 53) / b"n"));
    h.expect_tx(UPLINK, &(to_r() / ipv4(NODE_A, X) / udp(4000, 53) / b"n"));
    let moved = udp_port(&mut h, (POD1, a1()), (A1, 4000), (X, 53));
    assert_ne!(moved, 4000);
    let answer = |port| ipv4(X, NODE_A) / udp(53, port) / b"a";
    h.rx(UPLINK, &(r() / answer(4000)));
    h.expect_tx(HOST, &(eth(HOST_PEER_MAC, HOST_MAC) / answer(4000)));
    h.rx(UPLINK, &(r() / answer(moved)));
    h.expect_tx(
        POD1,
        &(to_a1() / ipv4(X, A1).ttl(63) / udp(53, 4000) / b"a"),
    );
}

/// NAT-15: the other way round, the node makes way for a pod.
#[test]
fn the_node_makes_way_for_a_port_that_a_pod_got_first() {
    let mut h = Harness::new(with_host(node()));
    udp_port(&mut h, (POD1, a1()), (A1, 4000), (X, 53));
    h.rx(
        HOST,
        &(eth(HOST_MAC, HOST_PEER_MAC) / ipv4(NODE_A, X) / udp(4000, 53) / b"n"),
    );
    let (addr, moved) = source_of(&h.take(UPLINK));
    assert!(addr == NODE_A && moved != 4000);
    h.rx(UPLINK, &(r() / ipv4(X, NODE_A) / udp(53, moved) / b"a"));
    h.expect_tx(
        HOST,
        &(eth(HOST_PEER_MAC, HOST_MAC) / ipv4(X, NODE_A) / udp(53, 4000) / b"a"),
    );
}

/// NAT-17: zero is a port as any other.
#[test]
fn port_zero_is_translated() {
    let mut h = harness();
    for (sport, dport) in [(0, 53), (4000, 0), (0, 0)] {
        assert_eq!(
            udp_port(&mut h, (POD1, a1()), (A1, sport), (X, dport)),
            sport
        );
        let other = udp_port(&mut h, (POD2, a2()), (A2, sport), (X, dport));
        assert_ne!(other, sport);
        h.rx(UPLINK, &(r() / ipv4(X, NODE_A) / udp(dport, other) / b"a"));
        h.expect_tx(
            POD2,
            &(to_a2() / ipv4(X, A2).ttl(63) / udp(dport, sport) / b"a"),
        );
    }
}

/// NAT-18: a range of two ports carries two connections to a peer; the third is dropped and counted, those that are there
/// go on, and when one has expired there is room again.
#[test]
fn without_a_free_port_a_new_connection_is_dropped() {
    let mut h = Harness::new(with_choice(PortChoice {
        range: Some((5000, 5001)),
        random_fully: false,
    }));
    let first = udp_port(&mut h, (POD1, a1()), (A1, 4000), (X, 53));
    let second = udp_port(&mut h, (POD1, a1()), (A1, 4001), (X, 53));
    let mut both = [first, second];
    both.sort_unstable();
    assert_eq!(both, [5000, 5001]);
    let third = a1() / ipv4(A1, X) / udp(4002, 53) / b"x";
    h.expect_silent_drop(POD1, &third, DropReason::ConntrackInsertFailed);
    h.rx(UPLINK, &(r() / ipv4(X, NODE_A) / udp(53, second) / b"a"));
    h.expect_tx(
        POD1,
        &(to_a1() / ipv4(X, A1).ttl(63) / udp(53, 4001) / b"a"),
    );
    // Toward another peer both are free.
    udp_port(&mut h, (POD1, a1()), (A1, 4002), (Y, 53));
    h.advance(secs(20));
    h.rx(UPLINK, &(r() / ipv4(X, NODE_A) / udp(53, second) / b"a"));
    h.take(POD1);
    h.advance(secs(10));
    assert_eq!(udp_port(&mut h, (POD1, a1()), (A1, 4002), (X, 53)), first);
}

/// NAT-18: the whole class of 511 low ports can be used up, by a search that is bounded.
#[test]
fn nearly_all_of_a_class_is_found_and_then_the_search_ends() {
    let mut h = harness();
    let mut got = 0;
    for n in 0..700_u16 {
        let [_, last] = n.to_be_bytes();
        let src = Ipv4Addr::new(10, 244, 0, last);
        let sport = 1 + n / 256;
        h.rx(POD1, &(a1() / ipv4(src, X) / udp(sport, 53) / b"x"));
        got += h.take_all().len();
    }
    assert!((400..=511).contains(&got), "{got}");
}

/// NAT-20
#[test]
fn a_rule_may_ask_for_random_ports() {
    let mut h = Harness::new(with_choice(PortChoice {
        range: None,
        random_fully: true,
    }));
    let kept = (4000..4050)
        .filter(|&port| udp_port(&mut h, (POD1, a1()), (A1, port), (X, 53)) == port)
        .count();
    assert!(kept < 3, "{kept} of 50");
}

/// NAT-21: two first packets of one connection in one batch make one entry; two questions from one socket both pass.
#[test]
fn first_packets_in_one_batch_make_one_connection() {
    let mut h = harness();
    let question = |n: u8| (a1() / ipv4(A1, X) / udp(4000, 53) / vec![n]).bytes();
    h.rx_bytes(&[
        (POD1, question(1)),
        (POD1, question(28)),
        (POD2, (a2() / ipv4(A2, X) / udp(4000, 53) / b"x").bytes()),
    ]);
    let sent = h.take_all();
    let ports: Vec<u16> = sent.iter().map(|(_, frame)| source_of(frame).1).collect();
    assert_eq!(ports[..2], [4000, 4000]);
    assert_ne!(ports[2], 4000);
    assert_eq!(sessions(&h).len(), 2);
}

/// NAT-22: a port that is another connection's source on the outside leads to the node itself.
#[test]
fn there_is_no_hairpin_without_a_rule() {
    let mut h = harness();
    udp_port(&mut h, (POD2, a2()), (A2, 4000), (X, 53));
    let packet = a1() / ipv4(A1, NODE_A) / udp(1000, 4000) / b"?";
    h.rx(POD1, &packet);
    h.expect_tx(
        POD1,
        &(to_a1() / ipv4(NODE_A, A1).tos(0xc0).any_id() / unreachable(3) / quote(&packet)),
    );
    h.expect_silence();
}

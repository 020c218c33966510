//! How long connections live, and what ends them (sections 4.3 and 4.6).

use super::*;
use router_core::{DropReason, Event, Filter};

fn left(h: &Harness) -> Duration {
    sessions(h)[0].expires_in
}

fn ask(h: &mut Harness) {
    h.rx(POD1, &(a1() / ipv4(A1, X) / udp(4000, 53) / b"q"));
    h.take(UPLINK);
}

fn answer(h: &mut Harness) {
    h.rx(UPLINK, &(r() / ipv4(X, NODE_A) / udp(53, 4000) / b"a"));
    h.take(POD1);
}

/// NAT-31: 30 s without an answer and for the first two seconds, 120 s for what lasts longer; packets of either direction
/// refresh it.
#[test]
fn udp_lives_longer_once_it_is_a_stream() {
    let mut h = harness();
    ask(&mut h);
    assert_eq!(left(&h), secs(30));
    h.advance(secs(10));
    ask(&mut h);
    assert_eq!(left(&h), secs(30), "old, but never answered");

    let mut h = harness();
    ask(&mut h);
    answer(&mut h);
    h.advance(secs(2));
    ask(&mut h);
    answer(&mut h);
    assert_eq!(left(&h), secs(30), "two seconds are no stream");
    assert!(!sessions(&h)[0].assured);
    h.advance(Duration::from_millis(1));
    ask(&mut h);
    assert_eq!(left(&h), secs(120));
    assert!(sessions(&h)[0].assured);
    h.advance(secs(119));
    answer(&mut h);
    assert_eq!(left(&h), secs(120));
    h.advance(secs(120) - Duration::from_millis(1));
    assert_eq!(sessions(&h).len(), 1);
    h.advance(Duration::from_millis(1));
    assert_eq!(sessions(&h).len(), 0);
}

/// NAT-31, NAT-32: every timer is the configuration's.
#[test]
fn timers_can_be_set() {
    let mut snapshot = node();
    let timers = &mut snapshot.nat.conntrack.timers;
    timers.udp = secs(300);
    timers.icmp = secs(60);
    timers.generic = secs(7);
    let mut h = Harness::new(snapshot);
    ask(&mut h);
    assert_eq!(left(&h), secs(300));
    h.rx(POD2, &(a2() / ipv4(A2, X) / echo_request(1, 1) / b""));
    h.rx(POD2, &(a2() / ipv4(A2, X).protocol(99) / vec![1]));
    let mut all: Vec<Duration> = sessions(&h).iter().map(|s| s.expires_in).collect();
    all.sort_unstable();
    assert_eq!(all, [secs(7), secs(60), secs(300)]);
}

/// NAT-32: a ping once a second is one connection for as long as it goes on, and 30 s longer.
#[test]
fn a_ping_that_goes_on_is_one_connection() {
    let mut h = harness();
    for n in 0..100 {
        h.rx(POD1, &(a1() / ipv4(A1, X) / echo_request(7, n) / b"data"));
        h.take(UPLINK);
        h.rx(
            UPLINK,
            &(r() / ipv4(X, NODE_A) / echo_reply(7, n) / b"data"),
        );
        h.take(POD1);
        assert_eq!(sessions(&h).len(), 1);
        assert_eq!(left(&h), secs(30));
        h.advance(secs(1));
    }
    h.advance(secs(29));
    assert_eq!(sessions(&h).len(), 0);
}

/// NAT-32: protocols that nobody knows live ten minutes, answered or not.
#[test]
fn an_unknown_protocol_lives_ten_minutes() {
    let mut h = harness();
    h.rx(POD1, &(a1() / ipv4(A1, X).protocol(99) / vec![1, 2, 3]));
    h.expect_tx(
        UPLINK,
        &(to_r() / ipv4(NODE_A, X).ttl(63).protocol(99) / vec![1, 2, 3]),
    );
    assert_eq!(left(&h), secs(600));
    h.advance(secs(599));
    h.rx(UPLINK, &(r() / ipv4(X, NODE_A).protocol(99) / vec![4]));
    h.expect_tx(
        POD1,
        &(to_a1() / ipv4(X, A1).ttl(63).protocol(99) / vec![4]),
    );
    assert_eq!(left(&h), secs(600));
}

/// NAT-67: what has expired is gone from the table, and its port serves the next.
#[test]
fn what_has_expired_is_removed() {
    let mut h = harness();
    let count = |h: &Harness| h.router().tracking().map(|t| t.connections);
    for port in 4000..4100 {
        udp_port(&mut h, (POD1, a1()), (A1, port), (X, 53));
    }
    assert_eq!(count(&h), Some(100));
    assert_ne!(udp_port(&mut h, (POD2, a2()), (A2, 4000), (X, 53)), 4000);
    h.advance(secs(30));
    // At once for whoever asks; in the table a little later.
    assert_eq!(udp_port(&mut h, (POD2, a2()), (A2, 4000), (X, 53)), 4000);
    h.advance(secs(1));
    assert_eq!(count(&h), Some(1));
    // Nothing comes in any more by a mapping that has expired.
    h.rx(UPLINK, &(r() / ipv4(X, NODE_A) / udp(53, 4001) / b"late"));
    assert!(h.take_all().iter().all(|(port, _)| *port == UPLINK));
}

fn limited(limit: u32) -> Harness {
    let mut snapshot = node();
    snapshot.nat.conntrack.limit = limit;
    Harness::new(snapshot)
}

/// NAT-66: a full table gives up the oldest connection that was never answered.
#[test]
fn a_full_table_gives_up_what_was_never_answered() {
    let mut h = limited(3);
    for port in [4000, 4001, 4002, 4003] {
        udp_port(&mut h, (POD1, a1()), (A1, port), (X, 53));
    }
    h.expect_counters(&[(Event::ConnectionEvicted.into(), 1)]);
    let ports: Vec<u16> = sessions(&h).iter().map(|s| s.original.sport).collect();
    assert_eq!(ports, [4001, 4002, 4003]);
}

/// NAT-66: when all are in earnest a new one is dropped without a word, and those that are there go on.
#[test]
fn a_full_table_of_lasting_connections_drops_new_ones() {
    let mut h = limited(1);
    ask(&mut h);
    answer(&mut h);
    h.advance(secs(3));
    ask(&mut h);
    assert!(sessions(&h)[0].assured);
    let new = a2() / ipv4(A2, X) / udp(4000, 53) / b"q";
    for _ in 0..3 {
        h.expect_silent_drop(POD2, &new, DropReason::ConntrackFull);
    }
    ask(&mut h);
    answer(&mut h);
    h.advance(secs(120));
    udp_port(&mut h, (POD2, a2()), (A2, 4000), (X, 53));
}

/// NAT-66: a lower limit in a later configuration holds from then on.
#[test]
fn the_limit_can_be_lowered() {
    let mut h = limited(10);
    for port in 4000..4005 {
        udp_port(&mut h, (POD1, a1()), (A1, port), (X, 53));
    }
    let mut snapshot = node();
    snapshot.nat.conntrack.limit = 5;
    h.apply(snapshot);
    udp_port(&mut h, (POD1, a1()), (A1, 4009), (X, 53));
    assert_eq!(sessions(&h).len(), 5);
    h.expect_counters(&[(Event::ConnectionEvicted.into(), 1)]);
}

/// NAT-68: connections that were masqueraded to an address, or a port, that is gone are gone with it; others stay.
#[test]
fn losing_an_address_ends_what_was_masqueraded_to_it() {
    let start = || {
        let mut h = harness();
        ask(&mut h);
        h.rx(POD1, &(a1() / ipv4(A1, A2) / udp(1, 2) / b"pods"));
        h.take(POD2);
        assert_eq!(sessions(&h).len(), 2);
        h
    };
    let mut moved = node();
    for address in &mut moved.addresses {
        if address.addr == NODE_A {
            address.addr = Ipv4Addr::new(172, 16, 30, 33);
        }
    }
    let mut h = start();
    h.apply(moved);
    let remaining = sessions(&h);
    assert!(remaining.len() == 1 && remaining[0].original.dst == A2);

    let mut h = start();
    h.apply(with_port(node(), UPLINK, |port| port.up = false));
    let remaining = sessions(&h);
    assert!(remaining.len() == 1 && remaining[0].original.dst == A2);

    let mut h = start();
    h.apply(node());
    assert_eq!(sessions(&h).len(), 2);
}

/// NAT-69: what involves a pod as original source, original destination or backend is flushed, and nothing else.
#[test]
fn the_connections_of_a_pod_are_flushed_with_it() {
    let subnet = "10.244.0.3/24".parse().expect("a network");
    let mut h = Harness::new(host_port(node(), (17, 8080), (A2, 80), subnet));
    udp_port(&mut h, (POD2, a2()), (A2, 4001), (X, 53));
    h.rx(UPLINK, &(r() / ipv4(X, A2) / udp(1, 2) / b"in"));
    h.take(POD2);
    h.rx(UPLINK, &(r() / ipv4(X, NODE_A) / udp(9, 8080) / b"port"));
    h.take(POD2);
    ask(&mut h);
    assert_eq!(sessions(&h).len(), 4);
    let pod = Filter {
        involves: Some(A2),
        ..Filter::default()
    };
    assert_eq!(h.router_mut().flush_sessions(&pod), 3);
    assert_eq!(sessions(&h).len(), 1);
    // The next pod with this address does not inherit: an answer to the old one does not reach it.
    h.rx(UPLINK, &(r() / ipv4(X, NODE_A) / udp(53, 4001) / b"a"));
    assert!(h.take_all().iter().all(|(port, _)| *port != POD2));
    answer(&mut h);
}

/// NAT-23: an option, off by default, has only the inside keep a mapping alive.
#[test]
fn replies_need_not_keep_a_mapping() {
    let mut snapshot = node();
    snapshot.nat.conntrack.inbound_refresh = false;
    let mut h = Harness::new(snapshot);
    ask(&mut h);
    h.advance(secs(20));
    answer(&mut h);
    assert_eq!(left(&h), secs(10));
    ask(&mut h);
    assert_eq!(left(&h), secs(120));
    h.advance(secs(119));
    answer(&mut h);
    h.advance(secs(1));
    assert!(sessions(&h).is_empty());
}

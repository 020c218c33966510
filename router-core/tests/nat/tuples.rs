//! Section 4.1.

use super::*;
use router_core::config::nat::{Rule, Target};
use router_core::{DropReason, Tuple};

/// NAT-1: both tuples are listed, unreplied until there was a reply; only the reply's differs from what the pod sends.
#[test]
fn a_connection_is_two_tuples() {
    let mut h = harness();
    h.rx(POD1, &(a1() / ipv4(A1, X) / udp(4000, 53) / b"q"));
    h.take(UPLINK);
    let session = sessions(&h).remove(0);
    let original = Tuple {
        src: A1,
        dst: X,
        sport: 4000,
        dport: 53,
        protocol: 17,
    };
    assert_eq!(session.original, original);
    assert_eq!(
        session.reply,
        Tuple {
            dst: NODE_A,
            ..original.invert()
        }
    );
    assert!(!session.replied && !session.assured);
    assert!(session.source_translated() && !session.destination_translated());
    h.rx(UPLINK, &(r() / ipv4(X, NODE_A) / udp(53, 4000) / b"a"));
    h.expect_tx(
        POD1,
        &(to_a1() / ipv4(X, A1).ttl(63) / udp(53, 4000) / b"a"),
    );
    assert!(sessions(&h)[0].replied);
    assert_eq!(sessions(&h).len(), 1);
}

/// NAT-2, KM-8: rules are asked for the first packet of a connection, and count those alone.
#[test]
fn rules_see_the_first_packet_of_a_connection() {
    let mut h = harness();
    for _ in 0..5 {
        h.rx(POD1, &(a1() / ipv4(A1, X) / udp(4000, 53) / b"q"));
        h.rx(UPLINK, &(r() / ipv4(X, NODE_A) / udp(53, 4000) / b"a"));
    }
    h.rx(POD1, &(a1() / ipv4(A1, A2) / udp(1, 2) / vec![0; 72]));
    let counts = h.router().nat_counts().to_vec();
    let count = |chain: &str, rule: usize| {
        let chain = counts.iter().find(|c| c.name == chain).unwrap();
        (chain.rules[rule].packets, chain.rules[rule].bytes)
    };
    assert_eq!(count("POSTROUTING", 0), (2, 129));
    assert_eq!(count("KIND-MASQ-AGENT", 0), (1, 100));
    assert_eq!(count("KIND-MASQ-AGENT", 1), (1, 29));
}

/// NAT-2: a connection keeps its mapping when the rules change, a new one goes by the new rules; counters stay with rules
/// that stay.
#[test]
fn a_mapping_outlives_the_rule_that_made_it() {
    let mut h = harness();
    h.rx(POD1, &(a1() / ipv4(A1, X) / udp(4000, 53) / b"q"));
    h.expect_tx(
        UPLINK,
        &(to_r() / ipv4(NODE_A, X).ttl(63) / udp(4000, 53) / b"q"),
    );
    let mut snapshot = node();
    snapshot.nat.chains[1].rules.pop();
    snapshot
        .nat
        .append("KIND-MASQ-AGENT", Rule::new(Target::Accept));
    h.apply(snapshot);
    h.rx(POD1, &(a1() / ipv4(A1, X) / udp(4000, 53) / b"q"));
    h.expect_tx(
        UPLINK,
        &(to_r() / ipv4(NODE_A, X).ttl(63) / udp(4000, 53) / b"q"),
    );
    h.rx(POD1, &(a1() / ipv4(A1, X) / udp(4001, 53) / b"q"));
    h.expect_tx(
        UPLINK,
        &(to_r() / ipv4(A1, X).ttl(63) / udp(4001, 53) / b"q"),
    );
    let counts = h.router().nat_counts();
    assert_eq!(counts[0].rules[0].packets, 2, "the rule that stayed");
    assert_eq!(counts[1].rules[1].packets, 1, "the rule that is new");
}

/// NAT-3: an answer without a question is INVALID: dropped where it would have to be translated, forwarded elsewhere.
#[test]
fn an_icmp_answer_that_nobody_asked_for_is_invalid() {
    for (kind, data) in [(0, 0), (14, 12), (16, 0), (18, 4)] {
        let mut h = harness();
        let answer = icmp(kind, 0, [0, 1, 0, 1]) / vec![0; data];
        h.expect_silent_drop(
            POD1,
            &(a1() / ipv4(A1, X) / answer.clone()),
            DropReason::ConntrackInvalid,
        );
        h.rx(POD1, &(a1() / ipv4(A1, B1) / answer));
        h.take(UPLINK);
        assert!(sessions(&h).is_empty());
    }
}

/// NAT-3: the identifier plays the port's part for every query.
#[test]
fn icmp_queries_are_answered_to_who_asked() {
    for (asks, answers, data) in [(8, 0, 8), (13, 14, 12), (15, 16, 0), (17, 18, 4)] {
        let mut h = harness();
        let question = icmp(asks, 0, [0, 7, 0, 1]) / vec![0; data];
        let answer = icmp(answers, 0, [0, 7, 0, 1]) / vec![0; data];
        h.rx(POD1, &(a1() / ipv4(A1, X) / question.clone()));
        h.expect_tx(UPLINK, &(to_r() / ipv4(NODE_A, X).ttl(63) / question));
        h.rx(UPLINK, &(r() / ipv4(X, NODE_A) / answer.clone()));
        h.expect_tx(POD1, &(to_a1() / ipv4(X, A1).ttl(63) / answer));
    }
}

/// NAT-4: one inside host per protocol without ports and peer; the second is dropped while the first lives, a third
/// address is another matter.
#[test]
fn of_a_protocol_without_ports_one_host_speaks_with_a_peer() {
    let mut h = harness();
    let raw = |src, dst| ipv4(src, dst).protocol(99) / b"raw";
    h.rx(POD1, &(a1() / raw(A1, X)));
    h.expect_tx(
        UPLINK,
        &(to_r() / ipv4(NODE_A, X).ttl(63).protocol(99) / b"raw"),
    );
    h.rx(POD2, &(a2() / raw(A2, X)));
    h.expect_silence();
    h.expect_counters(&[(DropReason::ConntrackInsertFailed.into(), 1)]);
    h.rx(POD2, &(a2() / raw(A2, Y)));
    h.expect_tx(
        UPLINK,
        &(to_r() / ipv4(NODE_A, Y).ttl(63).protocol(99) / b"raw"),
    );
    h.rx(UPLINK, &(r() / raw(X, NODE_A)));
    h.expect_tx(POD1, &(to_a1() / ipv4(X, A1).ttl(63).protocol(99) / b"raw"));
    h.advance(secs(601));
    h.rx(POD2, &(a2() / raw(A2, X)));
    h.expect_tx(
        UPLINK,
        &(to_r() / ipv4(NODE_A, X).ttl(63).protocol(99) / b"raw"),
    );
}

/// What is INVALID, from a1 to `dst`: by the name of what is wrong with it.
fn invalid_packets(dst: Ipv4Addr) -> Vec<(&'static str, Packet)> {
    let ip = || a1() / ipv4(A1, dst);
    let bytes = |protocol, bytes: Vec<u8>| a1() / ipv4(A1, dst).protocol(protocol) / bytes;
    vec![
        ("SYN/ACK first", ip() / tcp(4000, 80, 0x12)),
        ("RST first", ip() / tcp(4000, 80, 0x04)),
        ("FIN/ACK first", ip() / tcp(4000, 80, 0x11)),
        ("no flags", ip() / tcp(4000, 80, 0)),
        ("SYN+FIN", ip() / tcp(4000, 80, 0x03)),
        (
            "bad TCP checksum",
            ip() / tcp(4000, 80, 0x02).checksum(0x1234),
        ),
        (
            "bad UDP checksum",
            ip() / udp(4000, 53).checksum(0x1234) / b"x",
        ),
        ("truncated UDP", bytes(17, vec![0, 1, 0, 2, 0, 8])),
        (
            "UDP length beyond the packet",
            bytes(17, vec![0, 1, 0, 2, 0, 20, 0, 0]),
        ),
        (
            "UDP length below 8",
            bytes(17, vec![0, 1, 0, 2, 0, 7, 0, 0]),
        ),
        (
            "TCP data offset below 5",
            bytes(6, [&[0; 12][..], &[0x40, 2], &[0; 6]].concat()),
        ),
        (
            "TCP data offset beyond the packet",
            bytes(6, [&[0; 12][..], &[0x60, 2], &[0; 6]].concat()),
        ),
        ("ICMP type 42", ip() / icmp(42, 0, [0; 4])),
        ("echo reply", ip() / echo_reply(1, 1)),
        ("bad ICMP checksum", ip() / echo_request(1, 1).checksum(1)),
    ]
}

/// NAT-7, NAT-60, NAT-63: none of what is INVALID leaves with an inside source.
#[test]
fn what_is_invalid_does_not_leak_an_inside_source() {
    for (name, packet) in invalid_packets(X) {
        let mut h = harness();
        h.rx(POD1, &packet);
        assert_eq!(h.take_all(), [], "{name}");
        h.expect_counters(&[(DropReason::ConntrackInvalid.into(), 1)]);
        assert!(sessions(&h).is_empty(), "{name}");
    }
}

/// NAT-8: where nothing is to be translated, INVALID packets pass, unless the node is told to drop them.
#[test]
fn what_is_invalid_passes_where_nothing_is_translated() {
    for (name, packet) in invalid_packets(B1) {
        let mut h = harness();
        h.rx(POD1, &packet);
        assert_eq!(h.take_all().len(), 1, "{name}");
        let mut strict = node();
        strict.nat.conntrack.drop_invalid = true;
        let mut h = Harness::new(strict);
        h.expect_silent_drop(POD1, &packet, DropReason::ConntrackInvalid);
    }
}

/// FWD-9: without connection tracking a wrong checksum is nobody's business.
#[test]
fn a_node_without_rules_tracks_nothing() {
    let mut h = Harness::new(resolved(node_a()));
    for (name, packet) in invalid_packets(X) {
        h.rx(POD1, &packet);
        assert_eq!(source_of(&h.take(UPLINK)).0, A1, "{name}");
    }
    assert!(h.router().tracking().is_none());
}

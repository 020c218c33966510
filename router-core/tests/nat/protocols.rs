//! Protocols beside TCP, UDP and ICMP (NAT-5), and connections that move to another router (decision 10).

use super::*;
use router_core::{DropReason, TcpState};

/// An SCTP packet with one chunk of this type, its checksum computed bit by bit.
fn sctp(sport: u16, dport: u16, chunk: u8) -> Vec<u8> {
    let mut bytes = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
    bytes.extend([1, 2, 3, 4, 0, 0, 0, 0, chunk, 0, 0, 4]);
    let mut crc = u32::MAX;
    for &byte in &bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    bytes[8..12].copy_from_slice(&(!crc).to_le_bytes());
    bytes
}

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const COOKIE_ECHO: u8 = 10;
const SHUTDOWN: u8 = 7;

fn sctp_out(h: &mut Harness, chunk: u8) {
    h.rx(
        POD1,
        &(a1() / ipv4(A1, X).protocol(132) / sctp(4000, 80, chunk)),
    );
    h.expect_tx(
        UPLINK,
        &(to_r() / ipv4(NODE_A, X).ttl(63).protocol(132) / sctp(4000, 80, chunk)),
    );
}

fn sctp_in(h: &mut Harness, chunk: u8) {
    h.rx(
        UPLINK,
        &(r() / ipv4(X, NODE_A).protocol(132) / sctp(80, 4000, chunk)),
    );
    h.expect_tx(
        POD1,
        &(to_a1() / ipv4(X, A1).ttl(63).protocol(132) / sctp(80, 4000, chunk)),
    );
}

/// NAT-5, NAT-32: an association is translated and lives 210 s while it is established, 30 s before and after.
#[test]
fn sctp_is_tracked_and_translated() {
    let mut h = harness();
    let left = |h: &Harness| sessions(h)[0].expires_in;
    sctp_out(&mut h, INIT);
    assert_eq!(left(&h), secs(30));
    sctp_in(&mut h, INIT_ACK);
    assert_eq!(left(&h), secs(30));
    sctp_out(&mut h, COOKIE_ECHO);
    assert_eq!(left(&h), secs(210));
    assert!(sessions(&h)[0].assured);
    sctp_in(&mut h, SHUTDOWN);
    assert_eq!(left(&h), secs(30));
    sctp_out(&mut h, 0);
    assert_eq!(left(&h), secs(30), "what is closing is not opened by data");
}

/// NAT-5: ports are moved like those of TCP, and the checksum is that of the packet that leaves.
#[test]
fn an_sctp_port_that_is_taken_is_moved() {
    let mut h = harness();
    sctp_out(&mut h, INIT);
    h.rx(
        POD2,
        &(a2() / ipv4(A2, X).protocol(132) / sctp(4000, 80, INIT)),
    );
    let sent = h.take(UPLINK);
    let (src, moved) = source_of(&sent);
    assert!(src == NODE_A && moved != 4000);
    assert_eq!(sent[34..], sctp(moved, 80, INIT)[..]);
    h.rx(
        UPLINK,
        &(r() / ipv4(X, NODE_A).protocol(132) / sctp(80, moved, INIT_ACK)),
    );
    h.expect_tx(
        POD2,
        &(to_a2() / ipv4(X, A2).ttl(63).protocol(132) / sctp(80, 4000, INIT_ACK)),
    );
}

/// NAT-5: a wrong CRC32c, no chunk, and chunks that begin no association are INVALID.
#[test]
fn sctp_that_begins_nothing_is_invalid() {
    let mut wrong = sctp(4000, 80, INIT);
    wrong[8] ^= 1;
    let begin_nothing = [0, INIT_ACK, COOKIE_ECHO, SHUTDOWN].map(|chunk| sctp(4000, 80, chunk));
    let short = sctp(4000, 80, INIT)[..12].to_vec();
    for bytes in [vec![wrong, short], begin_nothing.to_vec()].concat() {
        let mut h = harness();
        let packet = a1() / ipv4(A1, X).protocol(132) / bytes;
        h.expect_silent_drop(POD1, &packet, DropReason::ConntrackInvalid);
    }
}

/// NAT-5, NAT-32: GRE is tracked by its ends, 30 s, or 180 s once it was answered.
#[test]
fn gre_is_tracked_and_translated() {
    let mut h = harness();
    let gre = |src, dst| ipv4(src, dst).protocol(47) / b"\0\0\x08\0inner";
    h.rx(POD1, &(a1() / gre(A1, X)));
    h.expect_tx(
        UPLINK,
        &(to_r() / ipv4(NODE_A, X).protocol(47).ttl(63) / b"\0\0\x08\0inner"),
    );
    assert_eq!(sessions(&h)[0].expires_in, secs(30));
    h.rx(UPLINK, &(r() / gre(X, NODE_A)));
    h.expect_tx(
        POD1,
        &(to_a1() / ipv4(X, A1).protocol(47).ttl(63) / b"\0\0\x08\0inner"),
    );
    assert_eq!(sessions(&h)[0].expires_in, secs(180));
}

/// A node with one connection of each protocol, answered, and one of UDP that is not.
fn busy() -> Harness {
    let mut h = harness();
    h.rx(POD2, &(a2() / ipv4(A2, X) / udp(4000, 53) / b"q"));
    udp_port(&mut h, (POD1, a1()), (A1, 4000), (X, 53));
    h.rx(POD1, &(a1() / ipv4(A1, X) / tcp(4000, 80, 2).seq(9)));
    let answer = tcp(80, 4000, 0x12).seq(70).ack(10);
    h.rx(UPLINK, &(r() / ipv4(X, NODE_A) / answer));
    h.rx(
        POD1,
        &(a1() / ipv4(A1, X) / tcp(4000, 80, 0x10).seq(10).ack(71)),
    );
    h.rx(POD1, &(a1() / ipv4(A1, X) / echo_request(5, 1) / b""));
    h.take_all();
    sctp_out(&mut h, INIT);
    sctp_in(&mut h, INIT_ACK);
    sctp_out(&mut h, COOKIE_ECHO);
    h
}

/// Connections that one router gave go on in another: translated as before, with state and time that was left.
#[test]
fn connections_can_be_carried_over() {
    let mut old = busy();
    old.advance(secs(5));
    let carried = sessions(&old);
    assert_eq!(carried.len(), 5);
    let mut h = harness();
    for session in &carried {
        let now = h.now();
        assert!(h.router_mut().import_session(now, session));
        assert!(!h.router_mut().import_session(now, session), "it is there");
    }
    assert_eq!(sessions(&h), carried);
    let tcp_state = |h: &Harness| sessions(h).iter().find_map(|s| s.tcp);
    assert_eq!(tcp_state(&h), Some(TcpState::Established));
    sctp_out(&mut h, 0);
    let answer = |kind: Packet| ipv4(X, NODE_A) / kind;
    h.rx(UPLINK, &(r() / answer(tcp(80, 4000, 0x10).seq(71).ack(10))));
    h.expect_tx(
        POD1,
        &(to_a1() / ipv4(X, A1).ttl(63) / tcp(80, 4000, 0x10).seq(71).ack(10)),
    );
    h.rx(UPLINK, &(r() / answer(echo_reply(5, 1))));
    h.expect_tx(POD1, &(to_a1() / ipv4(X, A1).ttl(63) / echo_reply(5, 1)));
    h.rx(UPLINK, &(r() / answer(udp(53, 4000))));
    h.expect_tx(POD2, &(to_a2() / ipv4(X, A2).ttl(63) / udp(53, 4000)));
    // Where it does not fit any more, nothing changes.
    let mut none = Harness::new(resolved(node_a()));
    assert!(
        !none
            .router_mut()
            .import_session(router_core::Instant::ZERO, &carried[0])
    );
    let mut small = node();
    small.nat.conntrack.limit = 1;
    let mut small = Harness::new(small);
    let lasting = carried.iter().find(|s| s.assured).expect("SCTP");
    assert!(
        small
            .router_mut()
            .import_session(router_core::Instant::ZERO, lasting)
    );
    assert!(
        !small
            .router_mut()
            .import_session(router_core::Instant::ZERO, &carried[0])
    );
}

/// The filter's conditions hold together; what it does not name it leaves.
#[test]
fn a_filter_names_what_is_flushed() {
    let filters = [
        (router_core::Filter::default(), 5),
        (
            router_core::Filter {
                protocol: Some(17),
                ..Default::default()
            },
            2,
        ),
        (
            router_core::Filter {
                src: Some(A1),
                ..Default::default()
            },
            4,
        ),
        (
            router_core::Filter {
                dst: Some(X),
                sport: Some(4000),
                ..Default::default()
            },
            4,
        ),
        (
            router_core::Filter {
                dport: Some(53),
                src: Some(A2),
                ..Default::default()
            },
            1,
        ),
        (
            router_core::Filter {
                reply_src: Some(X),
                reply_dst: Some(NODE_A),
                ..Default::default()
            },
            5,
        ),
        (
            router_core::Filter {
                reply_dst: Some(A1),
                ..Default::default()
            },
            0,
        ),
        (
            router_core::Filter {
                reply_src: Some(Y),
                ..Default::default()
            },
            0,
        ),
    ];
    for (filter, expected) in filters {
        let mut h = busy();
        assert_eq!(
            h.router_mut().flush_sessions(&filter),
            expected,
            "{filter:?}"
        );
        assert_eq!(sessions(&h).len(), 5 - expected);
    }
}

/// `iptables -Z`.
#[test]
fn counters_can_be_zeroed() {
    let mut h = busy();
    let packets = |h: &Harness| {
        let counts = h.router().nat_counts().iter();
        counts
            .flat_map(|c| &c.rules)
            .map(|r| r.packets)
            .sum::<u64>()
    };
    assert_eq!(packets(&h), 10);
    h.router_mut().zero_nat_counts();
    assert_eq!(packets(&h), 0);
}

//! Section 4.5: ICMP errors about translated connections, in both directions.

use super::*;
use router_core::DropReason;

/// What a1's first datagram looks like at each side of the node.
fn inside() -> Packet {
    a1() / ipv4(A1, X).ttl(1) / udp(4000, 53) / b"question"
}

fn outside() -> Packet {
    r() / ipv4(NODE_A, X).ttl(1) / udp(4000, 53) / b"question"
}

/// A node where a1 has asked X.
fn asked() -> Harness {
    let mut h = harness();
    assert_eq!(udp_port(&mut h, (POD1, a1()), (A1, 4000), (X, 53)), 4000);
    h
}

/// The packet of a frame, cut behind `len` octets of its payload.
fn cut(frame: &Packet, len: usize) -> Packet {
    let bytes = frame.bytes();
    let header = usize::from(bytes[14] & 15) * 4;
    payload(&bytes[14..14 + header + len])
}

/// NAT-51, NAT-53, NAT-56: an error of each type reaches the pod from the router that sent it, about what the pod sent.
#[test]
fn an_error_from_outside_quotes_what_the_pod_sent() {
    let errors = [
        time_exceeded(),
        icmp(11, 1, [0; 4]),
        unreachable(1),
        unreachable(3),
        unreachable(13),
        fragmentation_needed(1400),
        parameter_problem(20),
        icmp(4, 0, [0; 4]),
    ];
    for error in errors {
        let mut h = asked();
        h.rx(
            UPLINK,
            &(r() / ipv4(R, NODE_A) / error.clone() / quote(&outside())),
        );
        h.expect_tx(
            POD1,
            &(to_a1() / ipv4(R, A1).ttl(63) / error / quote(&inside())),
        );
        h.expect_silence();
    }
}

/// NAT-51: a port that was moved is moved back in the quote, in TCP and UDP and for identifiers; the source of the error
/// stays the router's.
#[test]
fn an_error_about_a_moved_port_quotes_the_pods_own() {
    type Make = fn(Ipv4Addr, u16) -> Packet;
    let protocols: [Make; 3] = [
        |src, port| ipv4(src, X) / udp(port, 53) / b"x",
        |src, port| ipv4(src, X) / tcp(port, 80, 2) / payload([]),
        |src, id| ipv4(src, X) / echo_request(id, 3) / b"data",
    ];
    for make in protocols {
        let mut h = harness();
        h.rx(POD1, &(a1() / make(A1, 4000)));
        h.take(UPLINK);
        h.rx(POD2, &(a2() / make(A2, 4000)));
        let (addr, moved) = source_of(&h.take(UPLINK));
        assert!(addr == NODE_A && moved != 4000);
        let quoted = |port| quote(&(r() / make(NODE_A, port)));
        for (port, pod, sent, addr) in [(4000, POD1, to_a1(), A1), (moved, POD2, to_a2(), A2)] {
            h.rx(
                UPLINK,
                &(r() / ipv4(R, NODE_A) / time_exceeded() / quoted(port)),
            );
            h.expect_tx(
                pod,
                &(sent
                    / ipv4(R, addr).ttl(63)
                    / time_exceeded()
                    / quote(&(r() / make(addr, 4000)))),
            );
        }
        h.expect_silence();
    }
}

/// NAT-53: a quote may have IP options, or no more of its payload than eight octets, with the checksum or without.
#[test]
fn short_quotes_and_quotes_with_options_are_translated() {
    let mut h = asked();
    h.rx(POD1, &(a1() / ipv4(A1, X) / tcp(4000, 80, 2) / payload([])));
    h.take(UPLINK);
    let options = [0x94, 4, 0, 0];
    let quotes: [fn(Ipv4Addr, &[u8]) -> Packet; 2] = [
        |src, options| r() / ipv4(src, X).options(options) / udp(4000, 53) / b"question",
        |src, options| r() / ipv4(src, X).options(options) / tcp(4000, 80, 2) / payload([]),
    ];
    for packet in quotes {
        for (options, len) in [(&options[..], 8), (&options[..], 16), (&[], 8), (&[], 11)] {
            let quoted = |src| cut(&packet(src, options), len);
            h.rx(
                UPLINK,
                &(r() / ipv4(R, NODE_A) / unreachable(0) / quoted(NODE_A)),
            );
            h.expect_tx(
                POD1,
                &(to_a1() / ipv4(R, A1).ttl(63) / unreachable(0) / quoted(A1)),
            );
        }
    }
}

/// NAT-53: errors about GRE, IPIP and protocols that nobody knows come through as well.
#[test]
fn an_error_about_any_protocol_is_translated() {
    for protocol in [4, 47, 50, 99, 255] {
        let mut h = harness();
        let inner = ipv4(Y, Y) / udp(1, 2) / b"inside";
        let packet = |src| ipv4(src, X).protocol(protocol) / inner.clone();
        h.rx(POD1, &(a1() / packet(A1)));
        h.expect_tx(
            UPLINK,
            &(to_r() / ipv4(NODE_A, X).ttl(63).protocol(protocol) / inner.clone()),
        );
        h.rx(
            UPLINK,
            &(r() / ipv4(X, NODE_A) / unreachable(2) / quote(&(r() / packet(NODE_A)))),
        );
        h.expect_tx(
            POD1,
            &(to_a1() / ipv4(X, A1).ttl(63) / unreachable(2) / quote(&(a1() / packet(A1)))),
        );
        h.expect_silence();
    }
}

/// NAT-54: an error that cannot be believed is dropped: its checksum is wrong, it is about nothing that was sent, its
/// quote is too short or a later fragment, or it is not for the one who sent what it quotes.
#[test]
fn an_error_that_cannot_be_believed_is_dropped() {
    let mut h = asked();
    let other = r() / ipv4(NODE_A, X) / udp(4001, 53) / b"question";
    let later = r() / ipv4(NODE_A, X).offset(8) / udp(4000, 53) / b"question";
    let wrong = [
        ipv4(R, NODE_A) / time_exceeded().checksum(0x1234) / quote(&outside()),
        ipv4(R, NODE_A) / time_exceeded() / quote(&other),
        ipv4(R, NODE_A) / time_exceeded() / cut(&outside(), 7),
        ipv4(R, NODE_A) / time_exceeded() / payload([0x45; 12]),
        ipv4(R, NODE_A) / time_exceeded() / quote(&later),
        ipv4(R, GW_A) / time_exceeded() / quote(&outside()),
        ipv4(R, NODE_A) / icmp(5, 1, [172, 16, 30, 9]) / quote(&outside()),
    ];
    for error in wrong {
        h.expect_silent_drop(UPLINK, &(r() / error), DropReason::ConntrackInvalid);
    }
}

/// NAT-55, NAT-56: an error neither ends a connection nor lets it live longer, and 3/4 changes nothing for the next packet.
#[test]
fn an_error_leaves_its_connection_alone() {
    let mut h = asked();
    h.advance(secs(20));
    for error in [unreachable(3), fragmentation_needed(600)] {
        h.rx(UPLINK, &(r() / ipv4(R, NODE_A) / error / quote(&outside())));
        h.take(POD1);
    }
    assert_eq!(sessions(&h)[0].expires_in, secs(10));
    assert!(!sessions(&h)[0].replied);
    let long = |src| ipv4(src, X).df() / udp(4000, 53) / vec![7; 1400];
    h.rx(POD1, &(a1() / long(A1)));
    let expected = to_r() / ipv4(NODE_A, X).df().ttl(63) / udp(4000, 53) / vec![7; 1400];
    h.expect_tx(UPLINK, &expected);
}

/// NAT-52: a pod that refuses an answer is heard as the node, which quotes what came to the node.
#[test]
fn an_error_of_a_pod_about_an_answer_is_from_the_node() {
    let mut h = asked();
    let answer = |dst| ipv4(X, dst) / udp(53, 4000) / b"answer";
    h.rx(UPLINK, &(r() / answer(NODE_A)));
    h.take(POD1);
    let quoted = |dst| quote(&(r() / answer(dst)));
    h.rx(
        POD1,
        &(a1() / ipv4(A1, X).tos(0xc0) / unreachable(3) / quoted(A1)),
    );
    h.expect_tx(
        UPLINK,
        &(to_r() / ipv4(NODE_A, X).tos(0xc0).ttl(63) / unreachable(3) / quoted(NODE_A)),
    );
    // About nothing that came: it stays inside.
    let forged = quote(&(r() / ipv4(X, A1) / udp(53, 4001) / b"answer"));
    let forged = a1() / ipv4(A1, X) / unreachable(3) / forged;
    h.expect_silent_drop(POD1, &forged, DropReason::ConntrackInvalid);
}

/// NAT-52: the error about a datagram for a host port quotes address and port that the client used.
#[test]
fn an_error_of_a_pod_about_a_host_port_quotes_that() {
    let subnet = "10.244.0.3/24".parse().expect("a network");
    let mut h = Harness::new(host_port(node(), (17, 8080), (A2, 80), subnet));
    let request = |dst, port| ipv4(X, dst) / udp(5000, port) / b"hello";
    h.rx(UPLINK, &(r() / request(NODE_A, 8080)));
    h.expect_tx(
        POD2,
        &(to_a2() / ipv4(X, A2).ttl(63) / udp(5000, 80) / b"hello"),
    );
    let quoted = |dst, port| quote(&(r() / request(dst, port)));
    h.rx(
        POD2,
        &(a2() / ipv4(A2, X) / unreachable(3) / quoted(A2, 80)),
    );
    h.expect_tx(
        UPLINK,
        &(to_r() / ipv4(NODE_A, X).ttl(63) / unreachable(3) / quoted(NODE_A, 8080)),
    );
    h.expect_silence();
}

/// ICMP-10: whoever is told by the node that an answer could not be forwarded finds his own packet quoted.
#[test]
fn an_error_of_the_node_quotes_what_the_peer_sent() {
    let mut h = asked();
    let answer = r() / ipv4(X, NODE_A).ttl(1) / udp(53, 4000) / b"answer";
    h.rx(UPLINK, &answer);
    h.expect_tx(
        UPLINK,
        &(to_r() / ipv4(NODE_A, X).tos(0xc0).any_id() / time_exceeded() / quote(&answer)),
    );
    h.expect_silence();
}

/// FWD-79: a pod whose packet is too long finds its own address quoted, at the first packet of a connection and later.
#[test]
fn too_long_for_the_uplink_quotes_the_pod() {
    let mut h = Harness::new(with_port(node(), UPLINK, |port| port.mtu = 1400));
    let long = a1() / ipv4(A1, X).df() / udp(4000, 53) / vec![1; 1472];
    for _ in 0..2 {
        h.rx(POD1, &long);
        h.expect_tx(
            POD1,
            &(to_a1()
                / ipv4(GW_A, A1).tos(0xc0).any_id()
                / fragmentation_needed(1400)
                / quote(&long)),
        );
        h.expect_silence();
        udp_port(&mut h, (POD1, a1()), (A1, 4000), (X, 53));
    }
}

/// ICMP-10: also when the next hop did not answer, and the packet had been translated already.
#[test]
fn a_packet_that_waited_in_vain_is_quoted_as_it_came() {
    let mut snapshot = node();
    snapshot.neighbours.retain(|n| n.ip != R);
    let mut h = Harness::new(snapshot);
    let packet = a1() / ipv4(A1, X) / udp(4000, 53) / b"x";
    h.rx(POD1, &packet);
    h.advance(secs(5));
    let error = h.take(POD1);
    // The TTL was lowered by then.
    let quoted = quote(&(a1() / ipv4(A1, X).ttl(63) / udp(4000, 53) / b"x"));
    let expected = to_a1() / ipv4(GW_A, A1).tos(0xc0).any_id() / unreachable(1) / quoted;
    assert_eq!(error, expected.bytes_like(&error));
}

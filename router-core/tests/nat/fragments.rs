//! Datagrams in pieces through NAT (section 4.6).

use super::*;
use router_core::DropReason;

/// Bytes that differ from place to place.
fn data(len: usize) -> Vec<u8> {
    (0..len)
        .map(|n| u8::try_from(n % 251).expect("below 251"))
        .collect()
}

/// What left is one datagram in pieces of these sizes, first fragment first, equal to the whole `expected`.
fn expect_pieces(h: &mut Harness, port: PortId, expected: &Packet, mtu: usize) {
    for piece in fragments(expected, mtu) {
        h.expect_tx(port, &piece);
    }
    h.expect_silence();
}

fn rx_pieces(h: &mut Harness, port: PortId, whole: &Packet, mtu: usize, backwards: bool) {
    let mut pieces = fragments(whole, mtu);
    if backwards {
        pieces.reverse();
    }
    for piece in pieces {
        h.rx(port, &piece);
    }
}

/// NAT-FRAG, INV-10: the pieces of a datagram get the same translation, in whatever order they came, with their sizes and
/// their identification; so do those of the answer.
#[test]
fn pieces_are_translated_alike() {
    type Make = fn(u16, bool) -> Packet;
    let protocols: [Make; 2] = [
        |port, back| (if back { udp(53, port) } else { udp(port, 53) }) / data(3000),
        |id, back| {
            (if back {
                echo_reply(id, 1)
            } else {
                echo_request(id, 1)
            }) / data(3000)
        },
    ];
    for (make, backwards) in protocols.iter().flat_map(|m| [(m, false), (m, true)]) {
        let mut h = harness();
        // The identifier and port are taken, so that those are moved as well.
        rx_pieces(
            &mut h,
            POD2,
            &(a2() / ipv4(A2, X).id(1) / make(4000, false)),
            1500,
            false,
        );
        h.take_all();
        let whole = a1() / ipv4(A1, X).id(77) / make(4000, false);
        rx_pieces(&mut h, POD1, &whole, 1300, backwards);
        let (_, first) = h.take_all().remove(0);
        let (addr, moved) = source_of(&first);
        assert!(addr == NODE_A && moved != 4000);
        rx_pieces(&mut h, POD1, &whole, 1300, backwards);
        let expected = to_r() / ipv4(NODE_A, X).id(77).ttl(63) / make(moved, false);
        expect_pieces(&mut h, UPLINK, &expected, 1300);
        let answer = r() / ipv4(X, NODE_A).id(5) / make(moved, true);
        rx_pieces(&mut h, UPLINK, &answer, 1000, backwards);
        let expected = to_a1() / ipv4(X, A1).id(5).ttl(63) / make(4000, true);
        expect_pieces(&mut h, POD1, &expected, 1000);
    }
}

/// NAT-64: two pods that use one identification at once are not mixed: each datagram leaves in one piece of the stream.
#[test]
fn two_pods_with_one_identification_are_not_mixed() {
    let mut h = harness();
    let of_a1 = fragments(&(a1() / ipv4(A1, X).id(77) / udp(1, 9) / data(3000)), 1500);
    let of_a2 = fragments(&(a2() / ipv4(A2, X).id(77) / udp(2, 9) / data(3000)), 1500);
    for (one, two) in of_a1.iter().zip(&of_a2) {
        h.rx(POD1, one);
        h.rx(POD2, two);
    }
    for port in [1, 2] {
        let expected = to_r() / ipv4(NODE_A, X).id(77).ttl(63) / udp(port, 9) / data(3000);
        for piece in fragments(&expected, 1500) {
            h.expect_tx(UPLINK, &piece);
        }
    }
    h.expect_silence();
}

/// NAT-FRAG: nothing of an incomplete datagram leaves with an inside source, and no connection comes of it.
#[test]
fn an_incomplete_datagram_leaves_nothing_behind() {
    let pieces = fragments(&(a1() / ipv4(A1, X).id(7) / udp(1, 9) / data(3000)), 1500);
    for missing in 0..pieces.len() {
        let mut h = harness();
        for (n, piece) in pieces.iter().enumerate() {
            if n != missing {
                h.rx(POD1, piece);
            }
        }
        h.advance(secs(31));
        h.expect_silence();
        assert!(sessions(&h).is_empty());
        let lost = u64::try_from(pieces.len() - 1).expect("a few");
        h.expect_counters(&[(DropReason::ReassemblyTimeout.into(), lost)]);
    }
}

/// NAT-FRAG, NAT-60: the checksum of a datagram in pieces is verified over all of them.
#[test]
fn a_wrong_checksum_over_pieces_is_invalid() {
    let mut h = harness();
    let wrong = a1() / ipv4(A1, X).id(7) / udp(1, 9).checksum(0x1234) / data(3000);
    rx_pieces(&mut h, POD1, &wrong, 1500, false);
    h.expect_silence();
    assert!(sessions(&h).is_empty());
}

/// NAT-7, NAT-54: ICMP errors and SCTP in pieces are not translated, and do not leak.
#[test]
fn what_is_not_translated_in_pieces_does_not_leave() {
    let mut h = harness();
    udp_port(&mut h, (POD1, a1()), (A1, 4000), (X, 53));
    let quoted = payload(
        [
            &(r() / ipv4(NODE_A, X) / udp(4000, 53)).bytes()[14..],
            &data(2000),
        ]
        .concat(),
    );
    let error = r() / ipv4(R, NODE_A).id(7) / time_exceeded() / quoted;
    rx_pieces(&mut h, UPLINK, &error, 1500, false);
    h.expect_silence();
    rx_pieces(
        &mut h,
        POD1,
        &(a1() / ipv4(A1, X).id(8).protocol(132) / data(2000)),
        1500,
        true,
    );
    h.expect_silence();
}

/// NAT-FRAG, PM-2: a datagram in pieces for a host port reaches the pod in those pieces; an error quotes the original.
#[test]
fn pieces_for_a_host_port_reach_the_pod() {
    let subnet = "10.244.0.3/24".parse().expect("a network");
    let mut h = Harness::new(host_port(node(), (17, 8080), (A2, 80), subnet));
    let whole = |ttl| r() / ipv4(X, NODE_A).id(9).ttl(ttl) / udp(5000, 8080) / data(2500);
    rx_pieces(&mut h, UPLINK, &whole(64), 1200, true);
    let expected = to_a2() / ipv4(X, A2).id(9).ttl(63) / udp(5000, 80) / data(2500);
    expect_pieces(&mut h, POD2, &expected, 1200);
    rx_pieces(&mut h, UPLINK, &whole(1), 1200, false);
    let error = h.take(UPLINK);
    // The first fragment as it came, as far as an error quotes it.
    let first = &fragments(&whole(1), 1200)[0];
    assert_eq!(error[42..], quote(first).bytes()[..]);
    h.expect_silence();
}

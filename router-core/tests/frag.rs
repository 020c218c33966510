//! Reassembly (FWD-51, FWD-52) and fragments on nodes that collect them (FWD-75, FWD-76, NAT-FRAG, NAT-65).

use core::time::Duration;

use router_core::config::Snapshot;
use router_core::testing::topology::*;
use router_core::testing::*;
use router_core::{DropReason, Event, Limits};

fn node() -> Harness {
    Harness::new(resolved(node_a()))
}

/// A node that collects fragments before it decides, as nodes that track connections do.
fn collecting() -> Snapshot {
    Snapshot {
        defragment: true,
        ..resolved(node_a())
    }
}

fn from_a1() -> Packet {
    eth(POD1_MAC, A1_MAC)
}

fn to_a1() -> Packet {
    eth(A1_MAC, POD1_MAC)
}

fn to_b() -> Packet {
    eth(B_MAC, UPLINK_MAC)
}

/// Bytes that differ from place to place.
fn data(len: usize) -> Vec<u8> {
    (0..len)
        .map(|n| u8::try_from(n * 7 % 251).unwrap_or(0))
        .collect()
}

/// A UDP packet from a1 to b1 of this many payload bytes, TTL 64 and identification 7.
fn to_b1(len: usize) -> Packet {
    ipv4(A1, B1).id(7) / udp(4000, 53) / data(len)
}

/// The same as it leaves node A.
fn forwarded(len: usize) -> Packet {
    ipv4(A1, B1).id(7).ttl(63) / udp(4000, 53) / data(len)
}

fn rx_all(h: &mut Harness, packets: &[Packet]) {
    for packet in packets {
        h.rx(POD1, packet);
    }
}

/// The payload of the datagram that these frames are the fragments of, first fragment first.
fn joined(frames: &[Vec<u8>]) -> Vec<u8> {
    frames.iter().flat_map(|f| f[34..].to_vec()).collect()
}

/// FWD-51: 1608 bytes in two fragments are answered in 1500 and 148, in whatever order they came.
#[test]
fn a_fragmented_echo_request_is_answered_with_a_fragmented_reply() {
    let request = from_a1() / ipv4(A1, NODE_A).id(9).df() / echo_request(1, 1) / data(1600);
    for reverse in [false, true] {
        let mut h = node();
        let mut pieces = fragments(&request, 1500);
        assert_eq!(pieces.len(), 2);
        if reverse {
            pieces.reverse();
        }
        rx_all(&mut h, &pieces);
        let (first, second) = (h.take(POD1), h.take(POD1));
        h.expect_silence();
        assert_eq!((first.len(), second.len()), (14 + 1500, 14 + 148));
        let whole = to_a1() / ipv4(NODE_A, A1).any_id() / echo_reply(1, 1) / data(1600);
        let expected = fragments(&payload(whole.bytes_like(&first)), 1500);
        assert_eq!(first, expected[0].bytes());
        assert_eq!(second, expected[1].bytes());
        h.expect_counters(&[
            (Event::Reassembled.into(), 1),
            (Event::EchoReplySent.into(), 1),
            (Event::Fragmented.into(), 1),
        ]);
        assert_eq!((h.router().stats().merged, h.router().held()), (1, 0));
    }
}

/// FWD-51: the largest ping there is.
#[test]
fn an_echo_request_of_65535_bytes_is_answered_whole() {
    let mut h = node();
    let request = from_a1() / ipv4(A1, GW_A).id(9) / echo_request(1, 1) / data(65507);
    let mut pieces = fragments(&request, 1500);
    // Every second one first.
    pieces.sort_by_key(|p| p.bytes()[21] & 1);
    rx_all(&mut h, &pieces);
    let sent: Vec<Vec<u8>> = h.take_all().into_iter().map(|(_, f)| f).collect();
    assert!(sent.iter().all(|f| f.len() <= 14 + 1500));
    let whole = to_a1() / ipv4(GW_A, A1).any_id() / echo_reply(1, 1) / data(65507);
    assert_eq!(joined(&sent), whole.bytes_like(&sent[0])[34..]);
}

/// FWD-50 for a datagram in pieces; the error quotes it as one.
#[test]
fn a_fragmented_datagram_to_a_closed_port_is_answered_once() {
    let mut h = node();
    let packet = from_a1() / ipv4(A1, NODE_A).id(9) / udp(1, 9) / data(3000);
    rx_all(&mut h, &fragments(&packet, 1500));
    let error = ipv4(NODE_A, A1).tos(0xc0).any_id() / unreachable(3) / quote(&packet);
    h.expect_tx(POD1, &(to_a1() / error));
    h.expect_silence();
    h.expect_counters(&[
        (Event::Reassembled.into(), 1),
        (Event::IcmpErrorSent.into(), 1),
        (DropReason::PortUnreachable.into(), 1),
    ]);
}

/// With a host namespace, what the router does not answer goes there in the pieces it came in.
#[test]
fn fragments_of_an_echo_reply_for_the_host_reach_it_as_they_came() {
    let mut h = Harness::new(with_host(resolved(node_a())));
    let to_host = eth(HOST_PEER_MAC, HOST_MAC);
    let reply =
        |link: &Packet| link.clone() / ipv4(A1, NODE_A).id(9) / echo_reply(1, 1) / data(3000);
    let came = fragments(&reply(&from_a1()), 1500);
    for n in [2, 0, 1] {
        h.rx(POD1, &came[n]);
    }
    for piece in fragments(&reply(&to_host), 1500) {
        h.expect_tx(HOST, &piece);
    }
    h.expect_silence();
}

/// FWD-52: 30 s, and the sender is told if the first fragment was there.
#[test]
fn an_incomplete_datagram_is_given_up_after_30_seconds() {
    let request = from_a1() / ipv4(A1, NODE_A).id(9) / echo_request(1, 1) / data(3000);
    let pieces = fragments(&request, 1500);
    let mut h = node();
    rx_all(&mut h, &pieces[..2]);
    h.advance(Duration::from_millis(29_999));
    h.expect_silence();
    assert_eq!(h.router().held(), 2);
    h.advance(Duration::from_millis(1));
    let error = ipv4(NODE_A, A1).tos(0xc0).any_id() / icmp(11, 1, [0; 4]) / quote(&pieces[0]);
    h.expect_tx(POD1, &(to_a1() / error));
    h.expect_silence();
    h.expect_counters(&[
        (DropReason::ReassemblyTimeout.into(), 2),
        (Event::IcmpErrorSent.into(), 1),
    ]);
    // The rest comes too late, and waits for itself.
    h.rx(POD1, &pieces[2]);
    assert_eq!(h.router().held(), 1);
}

/// FWD-52.
#[test]
fn without_the_first_fragment_a_timeout_is_silent() {
    let request = from_a1() / ipv4(A1, NODE_A).id(9) / echo_request(1, 1) / data(3000);
    let mut h = node();
    rx_all(&mut h, &fragments(&request, 1500)[1..]);
    h.advance(Duration::from_secs(30));
    h.expect_silence();
    h.expect_counters(&[(DropReason::ReassemblyTimeout.into(), 2)]);
}

/// FWD-52.
#[test]
fn a_fragment_beyond_65535_bytes_is_dropped_alone() {
    let mut h = node();
    let beyond = ipv4(A1, NODE_A).offset(65528).protocol(1) / data(8);
    h.expect_silent_drop(POD1, &(from_a1() / beyond), DropReason::FragmentInvalid);
    let last = ipv4(A1, NODE_A).offset(65504).protocol(1) / data(11);
    h.rx(POD1, &(from_a1() / last));
    assert_eq!(h.router().held(), 1);
}

/// FWD-52, RFC 791: pieces before the last are multiples of 8 bytes, and none is empty.
#[test]
fn fragments_that_no_datagram_can_have_are_dropped() {
    let mut h = node();
    for inner in [
        ipv4(A1, NODE_A).mf().protocol(1) / data(12),
        ipv4(A1, NODE_A).mf().offset(8).protocol(1) / data(0),
        ipv4(A1, NODE_A).offset(8).protocol(1) / data(0),
    ] {
        h.expect_silent_drop(POD1, &(from_a1() / inner), DropReason::FragmentInvalid);
    }
}

/// FWD-52: one byte of overlap discards the whole datagram, before or behind, also a tiny one within.
#[test]
fn overlapping_fragments_discard_the_whole_datagram() {
    let head = || ipv4(A1, NODE_A).id(9).protocol(1);
    for overlapping in [
        head().mf().offset(72) / data(16),
        head().mf().offset(152) / data(16),
        head().mf().offset(88) / data(8),
        head().mf().offset(72) / data(200),
        head().mf().offset(80) / data(8),
    ] {
        let mut h = node();
        h.rx(POD1, &(from_a1() / head().mf() / data(40)));
        h.rx(POD1, &(from_a1() / head().mf().offset(80) / data(80)));
        h.rx(POD1, &(from_a1() / overlapping));
        h.expect_silence();
        h.expect_counters(&[(DropReason::FragmentOverlap.into(), 3)]);
        assert_eq!(h.router().held(), 0);
    }
}

/// Packets that the network has doubled harm nobody.
#[test]
fn an_exact_copy_of_a_fragment_is_ignored() {
    let mut h = node();
    let request = from_a1() / ipv4(A1, NODE_A).id(9) / echo_request(1, 1) / data(3000);
    let pieces = fragments(&request, 1500);
    rx_all(&mut h, &pieces[..2]);
    rx_all(&mut h, &pieces[..2]);
    h.expect_counters(&[(DropReason::FragmentDuplicate.into(), 2)]);
    h.rx(POD1, &pieces[2]);
    h.expect_counters(&[
        (Event::Reassembled.into(), 1),
        (Event::EchoReplySent.into(), 1),
        (Event::Fragmented.into(), 1),
    ]);
    h.take_all();
}

/// Ends that contradict each other.
#[test]
fn a_second_end_discards_the_datagram() {
    let head = || ipv4(A1, NODE_A).id(9).protocol(1);
    for second in [
        head().offset(160) / data(8),
        head().offset(40) / data(8),
        head().mf().offset(160) / data(8),
    ] {
        let mut h = node();
        h.rx(POD1, &(from_a1() / head().offset(80) / data(8)));
        h.rx(POD1, &(from_a1() / second));
        h.expect_silence();
        h.expect_counters(&[(DropReason::FragmentInvalid.into(), 2)]);
    }
}

/// Source, destination, protocol and identification make a datagram.
#[test]
fn fragments_of_different_datagrams_are_never_mixed() {
    let mut h = node();
    let first = || ipv4(A1, NODE_A).id(9).mf() / echo_request(1, 1) / data(8);
    h.rx(POD1, &(from_a1() / first()));
    for other in [
        ipv4(A2, NODE_A).id(9).protocol(1),
        ipv4(A1, GW_A).id(9).protocol(1),
        ipv4(A1, NODE_A).id(10).protocol(1),
        ipv4(A1, NODE_A).id(9).protocol(17),
    ] {
        h.rx(POD1, &(from_a1() / other.offset(16) / data(8)));
    }
    h.expect_silence();
    assert_eq!(h.router().held(), 5);
}

/// NAT-65, FWD-52: at the limit the oldest datagrams go until three quarters are in use; the newest can complete.
#[test]
fn a_full_store_gives_up_the_oldest_datagrams() {
    let limits = Limits {
        fragments: 16,
        ..Limits::default()
    };
    let mut h = Harness::with_limits(resolved(node_a()), limits, 256);
    let piece = |id: u16, last: bool| {
        let request = from_a1() / ipv4(A1, NODE_A).id(id) / echo_request(1, 1) / data(8);
        fragments(&request, 28)[usize::from(last)].clone()
    };
    for id in 0..17 {
        h.rx(POD1, &piece(id, false));
    }
    h.expect_counters(&[(DropReason::ReassemblyFull.into(), 4)]);
    assert_eq!(h.router().held(), 13);
    for id in 4..17 {
        h.rx(POD1, &piece(id, true));
    }
    assert_eq!(
        h.take_all().len(),
        13,
        "all but the oldest four are answered"
    );
    h.rx(POD1, &piece(3, true));
    h.expect_silence();
}

/// FWD-52, INV-6: fragments never take the last quarter of the frames.
#[test]
fn fragments_leave_a_quarter_of_the_pool_to_others() {
    let mut h = Harness::with_limits(resolved(node_a()), Limits::default(), 64);
    for id in 0..200 {
        h.rx(
            POD1,
            &(from_a1() / ipv4(A1, NODE_A).id(id).mf() / udp(1, 2) / data(8)),
        );
    }
    assert!(h.router().held() <= 48);
    assert!(h.router().held() >= 40);
    h.expect_silence();
}

/// A node that does not track connections forwards fragments one by one, as they come.
#[test]
fn without_defragmentation_fragments_pass_in_any_order() {
    let mut h = node();
    let came = fragments(&(from_a1() / to_b1(3000)), 1500);
    let leave = fragments(&(to_b() / forwarded(3000)), 1500);
    for n in [2, 0, 1] {
        h.rx(POD1, &came[n]);
        h.expect_tx(UPLINK, &leave[n]);
    }
    h.expect_silence();
}

/// NAT-FRAG, FWD-75, INV-10: nothing leaves before all are there; then the first leads, each as long as it came.
#[test]
fn collected_fragments_leave_in_order_with_their_sizes() {
    let mut h = Harness::new(collecting());
    let came = fragments(&(from_a1() / to_b1(1020)), 620);
    assert_eq!(came.len(), 2);
    h.rx(POD1, &came[1]);
    h.expect_silence();
    h.rx(POD1, &came[0]);
    for piece in fragments(&(to_b() / forwarded(1020)), 620) {
        h.expect_tx(UPLINK, &piece);
    }
    h.expect_silence();
    h.expect_counters(&[(Event::Reassembled.into(), 1)]);
}

/// FWD-75: no larger than the egress MTU either.
#[test]
fn collected_fragments_are_cut_again_where_the_link_is_narrow() {
    let mut h = Harness::new(with_port(collecting(), UPLINK, |p| p.mtu = 400));
    rx_all(&mut h, &fragments(&(from_a1() / to_b1(1020)), 620));
    let sent: Vec<Vec<u8>> = h.take_all().into_iter().map(|(_, f)| f).collect();
    assert!(sent.iter().all(|f| f.len() <= 14 + 400), "{}", sent.len());
    assert_eq!(joined(&sent), (to_b() / forwarded(1020)).bytes()[34..]);
}

/// NAT-FRAG: DF is cleared on fragments that leave.
#[test]
fn collected_fragments_leave_without_df() {
    let mut h = Harness::new(collecting());
    let with_df = from_a1() / ipv4(A1, B1).id(7).df() / udp(4000, 53) / data(1020);
    rx_all(&mut h, &fragments(&with_df, 620));
    for piece in fragments(&(to_b() / forwarded(1020)), 620) {
        h.expect_tx(UPLINK, &piece);
    }
    h.expect_silence();
}

/// FWD-76: with DF on its longest fragments the datagram is refused where those do not fit.
#[test]
fn collected_fragments_with_df_that_do_not_fit_are_reported() {
    let mut h = Harness::new(with_port(collecting(), UPLINK, |p| p.mtu = 600));
    let with_df = from_a1() / ipv4(A1, B1).id(7).df() / udp(4000, 53) / data(1020);
    let pieces = fragments(&with_df, 620);
    rx_all(&mut h, &pieces);
    let error = ipv4(GW_A, A1).tos(0xc0).any_id() / fragmentation_needed(600) / quote(&pieces[0]);
    h.expect_tx(POD1, &(to_a1() / error));
    h.expect_silence();
    h.expect_counters(&[
        (Event::Reassembled.into(), 1),
        (DropReason::FragmentationNeeded.into(), 1),
        (Event::IcmpErrorSent.into(), 1),
    ]);
}

/// NAT-FRAG: a lone later fragment never leaves, an incomplete datagram ends in silence; to the node itself FWD-52 holds.
#[test]
fn what_is_collected_for_others_times_out_silently() {
    let mut h = Harness::new(collecting());
    let pieces = fragments(&(from_a1() / to_b1(3000)), 1500);
    rx_all(&mut h, &pieces[..2]);
    let own = from_a1() / ipv4(A1, NODE_A).id(9) / echo_request(1, 1) / data(3000);
    let own = fragments(&own, 1500);
    h.rx(POD1, &own[0]);
    h.advance(Duration::from_secs(30));
    let error = ipv4(NODE_A, A1).tos(0xc0).any_id() / icmp(11, 1, [0; 4]) / quote(&own[0]);
    h.expect_tx(POD1, &(to_a1() / error));
    h.expect_silence();
}

/// NAT-FRAG: overlap, on the way to others.
#[test]
fn collected_fragments_that_overlap_do_not_leave() {
    let mut h = Harness::new(collecting());
    let pieces = fragments(&(from_a1() / to_b1(1020)), 620);
    h.rx(POD1, &pieces[0]);
    let evil = ipv4(A1, B1).id(7).offset(592).protocol(17) / data(456);
    h.rx(POD1, &(from_a1() / evil));
    h.rx(POD1, &pieces[1]);
    h.expect_silence();
    h.expect_counters(&[(DropReason::FragmentOverlap.into(), 2)]);
}

/// RFC 1858 3: a TCP header is not spread over fragments.
#[test]
fn collected_fragments_that_split_the_tcp_header_are_dropped() {
    let mut h = Harness::new(collecting());
    let packet = from_a1() / ipv4(A1, B1) / tcp(4000, 80, 0x02) / data(64);
    rx_all(&mut h, &fragments(&packet, 36));
    h.expect_silence();
    assert_eq!(h.router().stats().drops.get(DropReason::FragmentInvalid), 6);
}

/// One decision for the datagram: TTL, route and filters see the first fragment, and an error is sent once.
#[test]
fn an_expired_collected_datagram_is_reported_once() {
    let mut h = Harness::new(collecting());
    let packet = from_a1() / ipv4(A1, B1).id(7).ttl(1) / udp(4000, 53) / data(1020);
    let pieces = fragments(&packet, 620);
    rx_all(&mut h, &pieces);
    let error = ipv4(GW_A, A1).tos(0xc0).any_id() / time_exceeded() / quote(&pieces[0]);
    h.expect_tx(POD1, &(to_a1() / error));
    h.expect_silence();
    h.expect_counters(&[
        (Event::Reassembled.into(), 1),
        (DropReason::TtlExpired.into(), 1),
        (Event::IcmpErrorSent.into(), 1),
    ]);
}

/// RFC 3168 5.3: congestion that one fragment met is the datagram's, and marks that contradict each other discard it.
#[test]
fn ecn_marks_of_fragments_are_joined() {
    let piece = |tos: u8, last: bool| {
        let packet = from_a1() / ipv4(A1, B1).id(7).tos(tos) / udp(4000, 53) / data(1020);
        fragments(&packet, 620)[usize::from(last)].clone()
    };
    for (first, last, leaves) in [
        (2, 3, Some(3)),
        (3, 1, Some(3)),
        (2, 1, Some(2)),
        (0, 3, None),
        (0, 2, None),
    ] {
        let mut h = Harness::new(collecting());
        h.rx(POD1, &piece(first, false));
        h.rx(POD1, &piece(last, true));
        let marks: Vec<u8> = h.take_all().iter().map(|(_, f)| f[15]).collect();
        assert_eq!(
            marks,
            leaves.map_or(vec![], |mark| vec![mark; 2]),
            "{first} {last}"
        );
    }
}

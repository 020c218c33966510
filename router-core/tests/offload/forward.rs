//! Forwarding alone, on both ways through the router.

use router_core::testing::offload::superframe;
use router_core::trace::Step;
use router_core::{DropReason, Event};

use super::*;

fn to_b1(len: usize) -> Packet {
    a1() / ipv4(A1, B1).df() / tcp(4000, 80, PSH_ACK) / data(len)
}

/// FWD-78, BUG-43: what every pod sends takes the plain path, and a superframe does not pay for its segments.
#[test]
fn open_checksums_and_superframes_take_the_plain_path_as_they_are() {
    let frames = [
        open(POD1, &to_b1(100)),
        large(POD1, &to_b1(60_000), 1448),
        large(POD1, &(a1() / ipv4(A1, B1) / udp(1, 2) / data(9_000)), 1000),
    ];
    let (mut h, _) = both(&resolved(node_a()), &[frames.to_vec()]);
    assert_eq!(h.router().forwarded_plainly(), 3);
    let left = h.take_uncut();
    assert_eq!(left.len(), 3, "none was cut, none completed");
    for ((port, bytes, offload), (_, sent, undone)) in left.iter().zip(&frames) {
        assert_eq!((*port, offload), (UPLINK, undone));
        assert_eq!(
            bytes[34..],
            sent[34..],
            "nothing behind the IPv4 header is touched"
        );
    }
    let stats = h.router().stats();
    let port = stats.port(UPLINK).unwrap();
    assert_eq!((port.tx_frames, port.tx_segments), (3, 1 + 42 + 9));
    let port = stats.port(POD1).unwrap();
    assert_eq!((port.rx_frames, port.rx_segments), (3, 1 + 42 + 9));
    assert_eq!(
        port.rx_bytes,
        frames.iter().map(|(_, b, _)| b.len() as u64).sum::<u64>()
    );
}

/// The long way, which traced frames take, does the same and tells the size and number of segments.
#[test]
fn the_long_way_does_the_same_and_tells_of_segments() {
    let frame = large(POD1, &to_b1(14_481), 1448);
    let mut plain = Harness::new(resolved(node_a()));
    plain.rx_offload(std::slice::from_ref(&frame), MAX_FRAME);
    let mut h = Harness::new(resolved(node_a()));
    h.trace(1);
    h.rx_offload(&[frame], MAX_FRAME);
    assert_eq!(h.take_uncut(), plain.take_uncut());
    assert_eq!(h.router().stats(), plain.router().stats());
    assert_eq!(
        (
            h.router().forwarded_plainly(),
            plain.router().forwarded_plainly()
        ),
        (0, 1)
    );
    let steps: Vec<Step> = h.steps(1).into_iter().map(|(_, step)| step).collect();
    let told = Step::Superframe {
        segments: 11,
        size: 1448,
    };
    assert_eq!(
        steps.iter().filter(|&&step| step == told).count(),
        2,
        "in and out"
    );
    assert_eq!(
        told.to_string(),
        "superframe: 11 segments of 1448 bytes of payload"
    );
    let mtu = steps.iter().find_map(|step| match step {
        Step::Mtu { len, .. } => Some(*len),
        _ => None,
    });
    assert_eq!(mtu, Some(1488));
}

/// FWD-78: MTU and "fragmentation needed" go by the size of a segment, as Linux's `skb_gso_validate_network_len`.
#[test]
fn a_superframe_is_too_long_when_its_segments_are() {
    let mtu = |frame: &Uncut| {
        let mut h = Harness::new(resolved(node_a()));
        h.rx_offload(std::slice::from_ref(frame), MAX_FRAME);
        h
    };
    let mut h = mtu(&large(POD1, &to_b1(30_000), 1460));
    assert_eq!(h.take_all().len(), 21);
    h.expect_counters(&[]);

    let frame = large(POD1, &to_b1(30_000), 1461);
    let mut h = mtu(&frame);
    let first = &wire(&[frame])[0].1;
    let error = fragmentation_needed(1500);
    let quoted = payload(&first[14..14 + 548]);
    h.expect_tx(
        POD1,
        &(eth(A1_MAC, POD1_MAC) / ipv4(GW_A, A1).tos(0xc0).any_id() / error / quoted),
    );
    h.expect_silence();
    h.expect_counters(&[
        (DropReason::FragmentationNeeded.into(), 1),
        (Event::IcmpErrorSent.into(), 1),
    ]);
}

/// Without DF each segment is cut as it would have been.
#[test]
fn segments_that_are_too_long_and_may_be_cut_are() {
    let small = with_port(resolved(node_a()), UPLINK, |port| port.mtu = 576);
    let packet = a1() / ipv4(A1, B1).id(9) / tcp(1, 2, PSH_ACK) / data(5_000);
    let (mut h, _) = both(
        &small,
        &[vec![
            large(POD1, &packet, 1000),
            open(POD1, &packet_of(900)),
        ]],
    );
    assert_eq!(h.take_uncut(), []);
    let stats = h.router().stats();
    assert_eq!(stats.events.get(Event::Segmented), 1);
    assert_eq!(stats.events.get(Event::Fragmented), 6);
}

fn packet_of(len: usize) -> Packet {
    a1() / ipv4(A1, B1).id(9) / udp(1, 2) / data(len)
}

/// A pool too small for the segments: the superframe goes, and is counted once.
#[test]
fn what_there_are_no_frames_for_is_not_cut() {
    let small = with_port(resolved(node_a()), UPLINK, |port| port.mtu = 576);
    let mut h = Harness::new(small);
    let taken = h.starve(7);
    let packet = a1() / ipv4(A1, B1) / tcp(1, 2, PSH_ACK) / data(6_000);
    h.rx_offload(&[large(POD1, &packet, 1000)], MAX_FRAME);
    h.expect_silence();
    h.expect_counters(&[(DropReason::PoolEmpty.into(), 1)]);
    h.refill(taken);
}

/// Link-layer padding behind a superframe is none of its payload.
#[test]
fn padding_behind_a_superframe_goes() {
    let (mut bytes, offload) = superframe(&to_b1(3000).bytes(), 1448);
    bytes.extend([0xee; 100]);
    let mut h = Harness::new(resolved(node_a()));
    h.rx_offload(&[(POD1, bytes, offload)], MAX_FRAME);
    assert_eq!(h.take_uncut()[0].1.len(), 54 + 3000);
}

/// A total length beyond the bytes that there are, of head and tail.
#[test]
fn a_superframe_that_is_shorter_than_it_says_is_dropped() {
    let (mut bytes, offload) = superframe(&to_b1(3000).bytes(), 1448);
    bytes.pop();
    let mut h = Harness::new(resolved(node_a()));
    h.rx_offload(&[(POD1, bytes, offload)], MAX_FRAME);
    h.expect_counters(&[(DropReason::BadTotalLength.into(), 1)]);
}

/// Nothing of a hostile device's word is believed; each such frame is one counted drop.
#[test]
fn what_contradicts_itself_is_a_counted_drop() {
    let (bytes, right) = superframe(&to_b1(3000).bytes(), 1448);
    let mut h = Harness::new(resolved(node_a()));
    let zero = Offload {
        gso: right
            .gso
            .map(|gso| router_core::frame::Gso { size: 0, ..gso }),
        ..right
    };
    let bare = Offload {
        partial: None,
        ..right
    };
    h.rx_offload(
        &[(POD1, bytes.clone(), zero), (POD1, bytes.clone(), bare)],
        MAX_FRAME,
    );
    h.expect_counters(&[(DropReason::BadOffload.into(), 2)]);
    let no_gso = Offload { gso: None, ..right };
    h.rx_offload(&[(POD1, bytes, no_gso)], MAX_FRAME);
    h.expect_counters(&[(DropReason::FrameTooLong.into(), 1)]);
    h.expect_silence();
}

/// NEI-4: what waits for a MAC goes on as it came.
#[test]
fn a_superframe_waits_for_its_next_hop_in_one_piece() {
    let mut h = Harness::new(node_a());
    h.rx_offload(
        &[large(
            POD1,
            &(a1() / ipv4(A1, A2) / tcp(1, 2, ACK) / data(50_000)),
            1000,
        )],
        MAX_FRAME,
    );
    assert_eq!(h.router().held(), 1);
    h.take_all();
    h.rx(
        POD2,
        &(eth(POD2_MAC, A2_MAC) / arp_reply(A2_MAC, A2, POD2_MAC, GW_A)),
    );
    assert_eq!((h.take_uncut().len(), h.take_all().len()), (1, 50));
}

/// NEI-3: superframes wait in the room of the frames that would carry their bytes, and the oldest make way.
#[test]
fn superframes_that_wait_are_bounded_by_their_bytes() {
    let limits = router_core::Limits {
        held_per_neighbour: 40,
        held: 60,
        ..router_core::Limits::default()
    };
    let mut h = Harness::with_limits(node_a(), limits, 256);
    let to = |last: u8, len| {
        let nobody = core::net::Ipv4Addr::new(172, 16, 30, last);
        large(
            POD1,
            &(a1() / ipv4(A1, nobody) / udp(1, 2) / data(len)),
            1400,
        )
    };
    h.rx_offload(&[to(90, 60_000)], MAX_FRAME);
    assert_eq!(h.router().held(), 1);
    h.rx_offload(&[to(90, 20_000)], MAX_FRAME);
    assert_eq!(h.router().held(), 1, "31 and 11 places are more than 40");
    h.expect_counters(&[
        (DropReason::HoldQueueFull.into(), 1),
        (Event::ArpRequestSent.into(), 1),
    ]);
    h.rx_offload(&[to(91, 60_000), to(92, 50_000)], MAX_FRAME);
    assert_eq!(
        h.router().held(),
        2,
        "the longest queue made way for the last"
    );
    assert_eq!(h.router().stats().drops.get(DropReason::HoldQueueFull), 2);
    h.take_all();
}

/// RT-4: an error about one that waited in vain quotes what a wire would have carried.
#[test]
fn an_error_about_a_superframe_that_waited_quotes_a_segment() {
    let mut h = Harness::new(resolved(node_a()));
    let nobody = core::net::Ipv4Addr::new(172, 16, 30, 99);
    let frame = large(
        POD1,
        &(a1() / ipv4(A1, nobody).ttl(9) / tcp(1, 2, PSH_ACK) / data(3_000)),
        1000,
    );
    let sent = (a1() / ipv4(A1, nobody).ttl(8) / tcp(1, 2, ACK) / data(1_000)).bytes();
    h.rx_offload(&[frame], MAX_FRAME);
    h.advance(core::time::Duration::from_secs(4));
    let error = h.take(POD1);
    assert_eq!((error[34], error[35]), (3, 1));
    assert_eq!(error[42..], sent[14..14 + 548]);
}

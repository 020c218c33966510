//! TTL, MTU and fragmentation (dataplane sections 1.6, 1.7).

use router_core::testing::topology::*;
use router_core::testing::*;
use router_core::{ConfigError, DropReason, Event, FramePool, Instant, Limits, Router};

fn node() -> Harness {
    Harness::new(resolved(node_a()))
}

/// From a1 to its gateway's MAC.
fn from_a1() -> Packet {
    eth(POD1_MAC, A1_MAC)
}

/// From node A to node B.
fn to_b() -> Packet {
    eth(B_MAC, UPLINK_MAC)
}

/// FWD-61, FWD-62, FWD-64: quoted as received, for UDP, TCP and echo replies alike.
#[test]
fn an_expired_ttl_is_reported_and_not_forwarded() {
    for ttl in [0, 1] {
        for inner in [
            udp(1, 2),
            tcp(1, 2, 0x10),
            echo_reply(1, 1),
            echo_request(1, 1),
        ] {
            let mut h = node();
            let packet = from_a1() / ipv4(A1, B1).ttl(ttl) / inner / b"data";
            h.rx(POD1, &packet);
            let error = ipv4(GW_A, A1).tos(0xc0).any_id() / time_exceeded() / quote(&packet);
            h.expect_tx(POD1, &(eth(A1_MAC, POD1_MAC) / error));
            h.expect_silence();
            h.expect_counters(&[
                (DropReason::TtlExpired.into(), 1),
                (Event::IcmpErrorSent.into(), 1),
            ]);
        }
    }
}

/// FWD-64, ICMP-1.
#[test]
fn an_expired_icmp_error_dies_silently() {
    let mut h = node();
    let about = from_a1() / ipv4(B1, A1) / udp(1, 2);
    h.rx(
        POD1,
        &(from_a1() / ipv4(A1, B1).ttl(1) / unreachable(3) / quote(&about)),
    );
    h.expect_silence();
    h.expect_counters(&[
        (DropReason::TtlExpired.into(), 1),
        (Event::IcmpErrorForbidden.into(), 1),
    ]);
}

fn mtu_1400() -> Harness {
    Harness::new(with_port(resolved(node_a()), UPLINK, |p| p.mtu = 1400))
}

/// A UDP packet of this total length.
fn sized(total: usize, ttl: u8) -> Packet {
    ipv4(A1, B1).ttl(ttl).id(7)
        / udp(1, 2)
        / (0..total - 28)
            .map(|n| u8::try_from(n % 251).unwrap_or(0))
            .collect::<Vec<u8>>()
}

/// FWD-70, FWD-71: equal passes; one byte more with DF is refused with the egress MTU.
#[test]
fn a_packet_as_long_as_the_mtu_passes_and_a_longer_one_with_df_is_reported() {
    let mut h = mtu_1400();
    h.rx(POD1, &(from_a1() / sized(1400, 64)));
    h.expect_tx(UPLINK, &(to_b() / sized(1400, 63)));
    let with_df = |total: usize, ttl| ipv4(A1, B1).ttl(ttl).df() / udp(1, 2) / vec![0; total - 28];
    h.rx(POD1, &(from_a1() / with_df(1400, 64)));
    h.expect_tx(UPLINK, &(to_b() / with_df(1400, 63)));
    let long = from_a1() / with_df(1401, 64);
    h.rx(POD1, &long);
    let error = ipv4(GW_A, A1).tos(0xc0).any_id() / fragmentation_needed(1400) / quote(&long);
    h.expect_tx(POD1, &(eth(A1_MAC, POD1_MAC) / error));
    h.expect_silence();
    h.expect_counters(&[
        (DropReason::FragmentationNeeded.into(), 1),
        (Event::IcmpErrorSent.into(), 1),
    ]);
}

/// FWD-74: it is the MTU of the route's egress that counts, whatever the other ports have; FWD-77: which is never below 68.
#[test]
fn the_mtu_is_that_of_the_way_out() {
    let mut snapshot = with_port(resolved(node_a()), POD2, |p| p.mtu = 68);
    let mut h = Harness::new(with_port(snapshot.clone(), POD1, |p| p.mtu = 500));
    let long = from_a1() / ipv4(A1, B1).df() / udp(1, 2) / vec![0; 1472];
    h.rx(POD1, &long);
    h.expect_tx(
        UPLINK,
        &(to_b() / ipv4(A1, B1).df().ttl(63) / udp(1, 2) / vec![0; 1472]),
    );
    let refused = from_a1() / ipv4(A1, A2).df() / udp(1, 2) / vec![0; 41];
    h.rx(POD1, &refused);
    h.expect_tx(
        POD1,
        &(eth(A1_MAC, POD1_MAC)
            / ipv4(GW_A, A1).tos(0xc0).any_id()
            / fragmentation_needed(68)
            / quote(&refused)),
    );
    for port in &mut snapshot.ports {
        port.mtu = 67;
    }
    let refused =
        Router::new(Limits::default(), 1).apply(Instant::ZERO, snapshot, &mut FramePool::new(1));
    assert!(matches!(refused, Err(ConfigError::MtuTooSmall(_))));
}

/// The order of stages: an expired TTL beats the length.
#[test]
fn ttl_expiry_beats_fragmentation_needed() {
    let mut h = mtu_1400();
    h.rx(
        POD1,
        &(from_a1() / ipv4(A1, B1).ttl(1).df() / udp(1, 2) / vec![0; 1450]),
    );
    let error = h.take(POD1);
    assert_eq!(error[34..36], [11, 0]);
}

/// The payload of an IPv4 packet in a frame, for comparison of fragments.
fn ip_payload(frame: &[u8]) -> &[u8] {
    &frame[14 + usize::from(frame[14] & 15) * 4..]
}

/// FWD-72: 1500 over 1400 is 1396 at offset 0 and 124 at offset 1376.
#[test]
fn a_long_packet_without_df_is_cut_into_the_largest_pieces() {
    let mut h = mtu_1400();
    let whole = (from_a1() / sized(1500, 64)).bytes();
    h.rx_bytes(&[(POD1, whole.clone())]);
    let data = ip_payload(&whole);
    let head = || ipv4(A1, B1).id(7).ttl(63).protocol(17);
    h.expect_tx(UPLINK, &(to_b() / head().mf() / data[..1376].to_vec()));
    h.expect_tx(
        UPLINK,
        &(to_b() / head().offset(1376) / data[1376..].to_vec()),
    );
    h.expect_silence();
    h.expect_counters(&[(Event::Fragmented.into(), 1)]);
    assert_eq!(h.router().stats().split, 1);
}

/// FWD-72: where the last piece is as long as the others it is still the last one.
#[test]
fn a_packet_of_whole_pieces_ends_with_the_last() {
    let mut h = Harness::new(with_port(resolved(node_a()), UPLINK, |p| p.mtu = 700));
    let whole = (from_a1() / sized(20 + 2 * 680, 64)).bytes();
    h.rx_bytes(&[(POD1, whole.clone())]);
    let data = ip_payload(&whole);
    let head = || ipv4(A1, B1).id(7).ttl(63).protocol(17);
    h.expect_tx(UPLINK, &(to_b() / head().mf() / data[..680].to_vec()));
    h.expect_tx(
        UPLINK,
        &(to_b() / head().offset(680) / data[680..].to_vec()),
    );
    h.expect_silence();
}

/// FWD-73.
#[test]
fn a_fragment_is_cut_again_with_offsets_and_mf_going_on() {
    let mut h = Harness::new(with_port(resolved(node_a()), UPLINK, |p| p.mtu = 68));
    let data: Vec<u8> = (0..104).collect();
    let head = |ttl| ipv4(A1, B1).id(7).ttl(ttl).protocol(17);
    h.rx(
        POD1,
        &(from_a1() / head(64).mf().offset(1480) / data.clone()),
    );
    h.expect_tx(
        UPLINK,
        &(to_b() / head(63).mf().offset(1480) / data[..48].to_vec()),
    );
    h.expect_tx(
        UPLINK,
        &(to_b() / head(63).mf().offset(1528) / data[48..96].to_vec()),
    );
    h.expect_tx(
        UPLINK,
        &(to_b() / head(63).mf().offset(1576) / data[96..].to_vec()),
    );
    h.expect_silence();
}

/// FWD-35, FWD-36.
#[test]
fn options_without_the_copy_bit_stay_in_the_first_fragment() {
    let mut h = mtu_1400();
    // Full record route (not copied), router alert (copied), padding.
    let options = [7, 7, 8, 9, 9, 9, 9, 148, 4, 0, 0, 0];
    let later = [1, 1, 1, 1, 1, 1, 1, 148, 4, 0, 0, 0];
    let data = vec![0x5a; 1460];
    h.rx(
        POD1,
        &(from_a1() / ipv4(A1, B1).options(&options).protocol(17) / data.clone()),
    );
    let head = || ipv4(A1, B1).ttl(63).protocol(17);
    h.expect_tx(
        UPLINK,
        &(to_b() / head().mf().options(&options) / data[..1368].to_vec()),
    );
    h.expect_tx(
        UPLINK,
        &(to_b() / head().offset(1368).options(&later) / data[1368..].to_vec()),
    );
    h.expect_silence();
}

/// Without frames for the pieces the packet is dropped whole, never cut short.
#[test]
fn a_packet_that_cannot_be_cut_for_want_of_frames_is_dropped() {
    let mut h = mtu_1400();
    // One for the packet itself, and two.
    let kept = h.starve(3);
    h.rx(POD1, &(from_a1() / sized(1500, 64)));
    h.expect_silence();
    h.expect_counters(&[(DropReason::PoolEmpty.into(), 1)]);
    h.refill(kept);
}

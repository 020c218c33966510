//! IPv4 options (dataplane section 1.4).

use core::time::Duration;

use router_core::testing::topology::*;
use router_core::testing::*;
use router_core::{DropReason, Event};

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

/// FWD-30, ICMP-12: transit and local, also when the pointer is past the end; no error could reverse the route.
#[test]
fn source_routed_packets_are_dropped_silently() {
    let mut h = node();
    for kind in [0x83, 0x89] {
        for pointer in [4, 8] {
            for dst in [B1, GW_A] {
                let options = [kind, 7, pointer, 10, 244, 1, 9, 0];
                let packet = from_a1() / ipv4(A1, dst).options(&options) / udp(1, 2);
                h.expect_silent_drop(POD1, &packet, DropReason::SourceRouted);
            }
        }
    }
}

/// FWD-31, FWD-36.
#[test]
fn record_route_is_signed_with_the_address_of_the_egress_side() {
    let mut h = node();
    let before = [7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let after = [7, 11, 8, 172, 16, 30, 3, 0, 0, 0, 0, 0];
    h.rx(
        POD1,
        &(from_a1() / ipv4(A1, B1).options(&before) / udp(1, 2)),
    );
    h.expect_tx(
        UPLINK,
        &(to_b() / ipv4(A1, B1).ttl(63).options(&after) / udp(1, 2)),
    );
    // Full: unchanged.
    let full = [7, 7, 8, 9, 9, 9, 9, 0];
    h.rx(POD1, &(from_a1() / ipv4(A1, B1).options(&full) / udp(1, 2)));
    h.expect_tx(
        UPLINK,
        &(to_b() / ipv4(A1, B1).ttl(63).options(&full) / udp(1, 2)),
    );
}

/// FWD-32: milliseconds of the router's own time, marked as such; then the overflow count.
#[test]
fn timestamps_are_written_while_there_is_room_and_counted_then() {
    let mut h = node();
    h.advance(Duration::from_millis(0x0102));
    let before = [68, 12, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let after = [68, 12, 13, 1, 172, 16, 30, 3, 0x80, 0, 1, 2];
    let overflown = [68, 12, 13, 0x11, 172, 16, 30, 3, 0x80, 0, 1, 2];
    for (before, after) in [(before, after), (after, overflown)] {
        h.rx(
            POD1,
            &(from_a1() / ipv4(A1, B1).options(&before) / udp(1, 2)),
        );
        h.expect_tx(
            UPLINK,
            &(to_b() / ipv4(A1, B1).ttl(63).options(&after) / udp(1, 2)),
        );
    }
    let plain = [68, 8, 5, 0, 0, 0, 0, 0];
    let signed = [68, 8, 9, 0, 0x80, 0, 1, 2];
    h.rx(
        POD1,
        &(from_a1() / ipv4(A1, B1).options(&plain) / udp(1, 2)),
    );
    h.expect_tx(
        UPLINK,
        &(to_b() / ipv4(A1, B1).ttl(63).options(&signed) / udp(1, 2)),
    );
    // Prespecified addresses: only the one that is named next signs.
    let ours = [68, 12, 5, 3, 10, 244, 0, 1, 0, 0, 0, 0];
    let done = [68, 12, 13, 3, 10, 244, 0, 1, 0x80, 0, 1, 2];
    let others = [68, 12, 5, 3, 10, 244, 9, 9, 0, 0, 0, 0];
    for (before, after) in [(ours, done), (others, others)] {
        h.rx(
            POD1,
            &(from_a1() / ipv4(A1, B1).options(&before) / udp(1, 2)),
        );
        h.expect_tx(
            UPLINK,
            &(to_b() / ipv4(A1, B1).ttl(63).options(&after) / udp(1, 2)),
        );
    }
    // Fifteen could not sign already.
    let mut exhausted = overflown;
    exhausted[3] = 0xf1;
    h.rx(
        POD1,
        &(from_a1() / ipv4(A1, B1).options(&exhausted) / udp(1, 2)),
    );
    let quoted = from_a1() / ipv4(A1, B1).options(&exhausted) / udp(1, 2);
    let error = ipv4(GW_A, A1).tos(0xc0).any_id() / parameter_problem(23) / quote(&quoted);
    h.expect_tx(POD1, &(eth(A1_MAC, POD1_MAC) / error));
}

/// FWD-33.
#[test]
fn unknown_options_and_router_alert_pass_unchanged() {
    let mut h = node();
    for options in [[0x9e, 4, 0, 0], [148, 4, 0, 0], [1, 1, 1, 0]] {
        h.rx(
            POD1,
            &(from_a1() / ipv4(A1, B1).options(&options) / udp(1, 2)),
        );
        h.expect_tx(
            UPLINK,
            &(to_b() / ipv4(A1, B1).ttl(63).options(&options) / udp(1, 2)),
        );
    }
}

/// As Linux: what stands behind the end of options is no option, and leaves as zeros.
#[test]
fn bytes_behind_the_end_of_options_are_zeroed() {
    let mut h = node();
    h.rx(
        POD1,
        &(from_a1() / ipv4(A1, B1).options(&[1, 0, 7, 9]) / udp(1, 2)),
    );
    h.expect_tx(
        UPLINK,
        &(to_b() / ipv4(A1, B1).ttl(63).options(&[1, 0, 0, 0]) / udp(1, 2)),
    );
}

/// FWD-34.
#[test]
fn a_malformed_option_is_reported_with_its_place() {
    let cases = [
        ([7, 0, 0, 0], 20),  // length 0
        ([7, 1, 0, 0], 20),  // length 1
        ([1, 7, 9, 4], 21),  // beyond the header
        ([1, 1, 1, 7], 23),  // no length at all
        ([7, 3, 3, 0], 22),  // pointer into the option's own head
        ([7, 2, 0, 0], 21),  // no pointer
        ([68, 4, 4, 0], 22), // pointer into the option's own head
        ([68, 3, 5, 0], 21), // no flags
    ];
    let cases = cases.map(|(options, pointer)| (options.to_vec(), pointer));
    // A slot that has begun, with less room than an address, a timestamp, or both need.
    let short = [
        (vec![7, 6, 4, 9, 9, 9, 0, 0], 22),
        (vec![7, 9, 7, 9, 9, 9, 0, 0, 0, 0, 0, 0], 22),
        (vec![68, 7, 5, 0, 9, 9, 9, 0], 22),
        (vec![1, 68, 10, 9, 0, 9, 9, 9, 9, 9, 9, 0], 23),
        (vec![68, 8, 5, 1, 9, 9, 9, 9], 22),
        (vec![68, 11, 5, 3, 9, 9, 9, 9, 9, 9, 9, 0], 22),
    ];
    for (options, pointer) in cases.into_iter().chain(short) {
        let mut h = node();
        let packet = from_a1() / ipv4(A1, B1).options(&options) / udp(1, 2) / b"data";
        h.rx(POD1, &packet);
        let error = ipv4(GW_A, A1).tos(0xc0).any_id() / parameter_problem(pointer) / quote(&packet);
        h.expect_tx(POD1, &(eth(A1_MAC, POD1_MAC) / error));
        h.expect_silence();
        h.expect_counters(&[
            (DropReason::BadOption.into(), 1),
            (Event::IcmpErrorSent.into(), 1),
        ]);
    }
}

/// FWD-31, FWD-36: signed, and something zeroed behind the end: the header's checksum is that of the new header.
#[test]
fn a_route_is_recorded_in_front_of_bytes_that_are_zeroed() {
    let mut h = node();
    let before = [7, 7, 4, 0, 0, 0, 0, 0, 9, 9, 9, 9];
    let after = [7, 7, 8, 172, 16, 30, 3, 0, 0, 0, 0, 0];
    h.rx(
        POD1,
        &(from_a1() / ipv4(A1, B1).options(&before) / udp(1, 2)),
    );
    h.expect_tx(
        UPLINK,
        &(to_b() / ipv4(A1, B1).ttl(63).options(&after) / udp(1, 2)),
    );
}

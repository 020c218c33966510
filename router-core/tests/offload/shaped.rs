//! Bandwidth limits count what a wire would carry (CAL-34).

use core::time::Duration;

use router_core::config::{Rate, Shape};
use router_core::{DropReason, Event};

use super::*;

fn node(burst: u32) -> Harness {
    let rate = Rate {
        rate: 1_000_000,
        burst,
        limit: 100_000,
    };
    let shape = Shape {
        rx: None,
        tx: Some(rate),
    };
    Harness::new(with_port(resolved(node_a()), POD2, |port| {
        port.shape = shape;
    }))
}

fn to_a2(len: usize) -> Uncut {
    large(
        POD1,
        &(a1() / ipv4(A1, A2) / tcp(1, 2, PSH_ACK) / data(len)),
        946,
    )
}

/// 946 bytes of payload are a frame of 1000 bytes, 1 ms each.
#[test]
fn a_superframe_costs_what_its_segments_cost() {
    let mut h = node(20_000);
    h.rx_offload(&[to_a2(9_460), to_a2(9_460), to_a2(9_460)], MAX_FRAME);
    assert_eq!(h.take_uncut().len(), 2, "20,000 bytes at once");
    assert_eq!(h.router().held(), 1);
    h.advance(Duration::from_micros(9_999));
    assert_eq!(h.take_uncut().len(), 0);
    h.advance(Duration::from_micros(1));
    assert_eq!(h.take_uncut().len(), 1);
}

/// As Linux's `tbf_segment` does: what is longer than the burst is cut, and its segments wait for their turn.
#[test]
fn a_superframe_longer_than_the_burst_passes_in_segments() {
    let mut h = node(2_000);
    let frame = to_a2(9_460);
    h.rx_offload(std::slice::from_ref(&frame), MAX_FRAME);
    assert_eq!(h.take_all().len(), 2);
    assert_eq!(h.router().held(), 8);
    h.advance(Duration::from_millis(8));
    assert_eq!((h.take_all().len(), h.router().held()), (8, 0));
    h.expect_counters(&[(Event::Segmented.into(), 1)]);

    let mut h = node(999);
    h.rx_offload(&[frame], MAX_FRAME);
    h.expect_silence();
    h.expect_counters(&[
        (Event::Segmented.into(), 1),
        (DropReason::BurstExceeded.into(), 10),
    ]);
}

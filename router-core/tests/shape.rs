//! Bandwidth limits of ports, packet in, packet out (CAL-34).

use core::time::Duration;

use router_core::config::{Rate, Shape};
use router_core::testing::topology::*;
use router_core::testing::*;
use router_core::{DropReason, Limits, PortId, Snapshot};

/// One frame of [`FRAME`] bytes every 10 ms, two at once after a pause, three may wait.
const RATE: Rate = Rate {
    rate: FRAME as u64 * 100,
    burst: FRAME * 2,
    limit: FRAME as u64 * 3,
};

const FRAME: u32 = 142;

fn limited(port: PortId, shape: Shape) -> Snapshot {
    with_port(resolved(node_a()), port, |p| p.shape = shape)
}

/// What a1 sends to a2, with a number.
fn sent(n: u16) -> Packet {
    eth(POD1_MAC, A1_MAC) / ipv4(A1, A2).id(n) / udp(1, 2) / vec![0; 100]
}

/// The same as a2 receives it.
fn received(n: u16) -> Packet {
    eth(A2_MAC, POD2_MAC) / ipv4(A1, A2).id(n).ttl(63) / udp(1, 2) / vec![0; 100]
}

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Seven frames at once through a gate with room for two and three more to wait.
fn seven_through(h: &mut Harness) {
    assert_eq!(sent(0).bytes().len(), FRAME as usize);
    for n in 0..7 {
        h.rx(POD1, &sent(n));
    }
    for n in 0..2 {
        h.expect_tx(POD2, &received(n));
    }
    h.expect_silence();
    h.expect_counters(&[(DropReason::BandwidthExceeded.into(), 2)]);
    assert_eq!(h.router().held(), 3);
    h.check();
    for n in 2..5 {
        h.advance(ms(9));
        h.expect_silence();
        h.advance(ms(1));
        h.expect_tx(POD2, &received(n));
        h.expect_silence();
    }
    assert_eq!((h.router().held(), h.router().poll_timeout()), (0, None));
    h.expect_counters(&[]);
}

/// CAL-34: `ingress` of a pod is what the node sends it: the burst at once, the queue in its time, the rest dropped.
#[test]
fn frames_toward_a_pod_wait_for_their_turn() {
    let shape = Shape {
        rx: None,
        tx: Some(RATE),
    };
    seven_through(&mut Harness::new(limited(POD2, shape)));
}

/// CAL-34: `egress` of a pod is what it sends: the router does not see a frame before its turn.
#[test]
fn frames_from_a_pod_wait_for_their_turn() {
    let shape = Shape {
        rx: Some(RATE),
        tx: None,
    };
    let mut h = Harness::new(limited(POD1, shape));
    seven_through(&mut h);
    let stats = h.router().stats();
    assert_eq!((stats.rx, stats.tx), (7, 5));
}

/// CAL-34: neither the other direction nor another port is slowed down.
#[test]
fn a_limit_is_of_one_direction_of_one_port() {
    let shape = Shape {
        rx: Some(RATE),
        tx: None,
    };
    let mut h = Harness::new(limited(POD2, shape));
    for n in 0..50 {
        h.rx(POD1, &sent(n));
        h.expect_tx(POD2, &received(n));
    }
    h.expect_silence();
}

/// CAL-34: a frame that comes later does not overtake one that waits, though it were small enough for the tokens there are.
#[test]
fn order_is_kept() {
    let shape = Shape {
        rx: None,
        tx: Some(RATE),
    };
    let mut h = Harness::new(limited(POD2, shape));
    for n in 0..3 {
        h.rx(POD1, &sent(n));
    }
    let small = |mac, from, ttl| eth(mac, from) / ipv4(A1, A2).id(9).ttl(ttl) / udp(1, 2);
    h.advance(ms(9));
    h.take_all();
    h.rx(POD1, &small(POD1_MAC, A1_MAC, 64));
    h.expect_silence();
    h.advance(ms(1));
    h.expect_tx(POD2, &received(2));
    h.advance(ms(10));
    h.expect_tx(POD2, &small(A2_MAC, POD2_MAC, 63));
    h.expect_silence();
}

/// CAL-34: ARP and what the router itself says take their turn as everything else.
#[test]
fn the_routers_own_packets_are_limited_too() {
    let shape = Shape {
        rx: None,
        tx: Some(Rate { burst: 60, ..RATE }),
    };
    let mut h = Harness::new(limited(POD1, shape));
    let ask = eth(POD1_MAC, A1_MAC) / arp_request(A1_MAC, A1, GW_A);
    let answer = eth(A1_MAC, POD1_MAC) / arp_reply(POD1_MAC, GW_A, A1_MAC, A1);
    h.rx(POD1, &ask);
    h.rx(POD1, &ask);
    h.expect_tx(POD1, &answer);
    h.expect_silence();
    h.advance(ms(10));
    h.expect_tx(POD1, &answer);
}

/// CAL-34: what is longer than the burst could wait for ever, and is dropped at once.
#[test]
fn a_frame_longer_than_the_burst_never_passes() {
    let burst = FRAME - 1;
    let shape = Shape {
        rx: None,
        tx: Some(Rate { burst, ..RATE }),
    };
    let mut h = Harness::new(limited(POD2, shape));
    h.expect_silent_drop(POD1, &sent(0), DropReason::BurstExceeded);
}

/// CAL-34: a new rate is in force for frames that wait; without a limit they leave, and at a port that goes down they are
/// dropped.
#[test]
fn limits_change_while_frames_wait() {
    let shape = |rate| Shape { rx: None, tx: rate };
    let mut h = Harness::new(limited(POD2, shape(Some(RATE))));
    for n in 0..5 {
        h.rx(POD1, &sent(n));
    }
    h.take_all();
    let faster = Rate {
        rate: RATE.rate * 10,
        ..RATE
    };
    h.apply(limited(POD2, shape(Some(faster))));
    h.advance(ms(1));
    h.expect_tx(POD2, &received(2));
    h.expect_silence();
    h.apply(limited(POD2, shape(None)));
    h.advance(Duration::ZERO);
    h.expect_tx(POD2, &received(3));
    h.expect_tx(POD2, &received(4));
    h.expect_silence();

    h.apply(limited(POD2, shape(Some(RATE))));
    for n in 0..4 {
        h.rx(POD1, &sent(n));
    }
    h.take_all();
    let down = with_port(limited(POD2, shape(Some(RATE))), POD2, |p| p.up = false);
    h.apply(down);
    h.expect_counters(&[(DropReason::PortRemoved.into(), 2)]);
    assert_eq!(h.router().held(), 0);
}

/// CAL-34: what comes when the limit is gone goes behind what waits there still, however plain it is.
#[test]
fn nothing_overtakes_what_waited_for_a_limit_that_is_gone() {
    let rx = Shape {
        rx: Some(RATE),
        tx: None,
    };
    let tx = Shape {
        rx: None,
        tx: Some(RATE),
    };
    for (port, shape) in [(POD1, rx), (POD2, tx)] {
        for tracks in [false, true] {
            let node = |snapshot| {
                if tracks {
                    masquerading(snapshot)
                } else {
                    snapshot
                }
            };
            let mut h = Harness::new(node(limited(port, shape)));
            for n in 0..5 {
                h.rx(POD1, &sent(n));
            }
            assert_eq!(h.router().held(), 3);
            h.apply(node(resolved(node_a())));
            h.rx(POD1, &sent(5));
            for n in 0..6 {
                h.expect_tx(POD2, &received(n));
            }
            h.expect_silence();
            h.check();
        }
    }
}

/// CAL-34: however long the queue may be, a quarter of the pool is left for others.
#[test]
fn a_long_queue_leaves_frames_for_others() {
    let endless = Rate {
        limit: u64::MAX,
        ..RATE
    };
    let snapshot = with_port(resolved(node_a()), POD2, |p| p.shape.tx = Some(endless));
    let mut h = Harness::with_limits(snapshot, Limits::default(), 100);
    for n in 0..200 {
        h.rx(POD1, &sent(n));
    }
    let held = h.router().held();
    assert!((70..=76).contains(&held), "{held} of 100 frames wait");
    h.take_all();
    let unlimited = eth(POD1_MAC, A1_MAC) / ipv4(A1, B1) / udp(1, 2);
    h.rx(POD1, &unlimited);
    assert_eq!(h.take_all().len(), 1);
}

/// CAL-34: bits as the annotation and the plugin have them, bytes as the queue has them: 25 ms and the burst may wait.
#[test]
fn the_plugins_numbers_become_those_of_a_token_bucket() {
    let rate = Rate::of_bits(8_000_000, 160_000);
    assert_eq!(
        (rate.rate, rate.burst, rate.limit),
        (1_000_000, 20_000, 45_000)
    );
    let most = Rate::of_bits(1_000_000_000_000_000, u64::MAX);
    assert_eq!(most.burst, u32::MAX);
    assert_eq!(most.limit, 125_000_000_000_000 / 40 + u64::from(u32::MAX));
}

/// A limit that lets nothing pass is a mistake.
#[test]
fn a_limit_needs_a_rate_and_a_burst() {
    for rate in [Rate { rate: 0, ..RATE }, Rate { burst: 0, ..RATE }] {
        let snapshot = with_port(node_a(), POD1, |p| p.shape.rx = Some(rate));
        let mut pool = router_core::FramePool::new(1);
        let refused = router_core::Router::new(Limits::default(), 1)
            .apply(router_core::Instant::ZERO, snapshot, &mut pool)
            .expect_err("refused");
        assert_eq!(refused, router_core::ConfigError::BadRate(POD1));
    }
}

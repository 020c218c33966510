//! Gates against the definition of a token bucket: over any time, no more passes than the burst and what the rate allows.

use alloc::collections::VecDeque;
use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::addr::Mac;
use crate::config::Shape;
use crate::frame::FramePool;

/// What a bucket is by definition, with every frame that ever passed kept.
struct Oracle {
    rate: Rate,
    passed: Vec<(u64, u64)>,
    waiting: VecDeque<u64>,
}

impl Oracle {
    /// For each frame that passed: from it on to this one, at `at`, no more than the burst and what the rate gives.
    fn may_pass(&self, at: u64, len: u64) -> bool {
        const BILLION: u128 = 1_000_000_000;
        let fits = |bytes: u64, ns: u64| {
            let allowed =
                u128::from(self.rate.burst) * BILLION + u128::from(self.rate.rate) * u128::from(ns);
            u128::from(bytes) * BILLION <= allowed
        };
        let mut sum = len;
        fits(sum, 0)
            && self.passed.iter().rev().all(|&(then, bytes)| {
                sum += bytes;
                fits(sum, at - then)
            })
    }

    /// The first nanosecond from `from` to `end` at which the frame may pass, by halving: once it may, it always may.
    fn first(&self, from: u64, end: u64, len: u64) -> Option<u64> {
        if !self.may_pass(end, len) {
            return None;
        }
        let (mut low, mut high) = (from, end);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.may_pass(middle, len) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Some(low)
    }

    /// What passes until `end`, each with its time.
    fn advance(&mut self, mut now: u64, end: u64) -> Vec<(u64, u64)> {
        let before = self.passed.len();
        while let Some(&len) = self.waiting.front()
            && let Some(at) = self.first(now, end, len)
        {
            self.waiting.pop_front();
            self.passed.push((at, len));
            now = at;
        }
        self.passed[before..].to_vec()
    }

    fn offer(&mut self, now: u64, len: u64) -> Expected {
        if len > u64::from(self.rate.burst) {
            return Expected::Dropped(DropReason::BurstExceeded);
        }
        if self.waiting.is_empty() && self.may_pass(now, len) {
            self.passed.push((now, len));
            return Expected::Passes;
        }
        let backlog: u64 = self.waiting.iter().sum();
        if backlog + len > self.rate.limit {
            return Expected::Dropped(DropReason::BandwidthExceeded);
        }
        self.waiting.push_back(len);
        Expected::Waits
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Passes,
    Waits,
    Dropped(DropReason),
}

#[derive(Clone, Debug)]
enum Op {
    Offer(usize),
    Advance(u64),
}

/// From rates at which a frame takes hours to those at which it takes no time at all, up to the largest there is.
fn rates() -> impl Strategy<Value = Rate> {
    let rate = prop_oneof![
        1_u64..2000,
        100_000_u64..2_000_000,
        1_000_000_000_u64..100_000_000_000,
        Just(u64::MAX),
    ];
    let burst = prop_oneof![1_u32..200, 1_500_u32..20_000, Just(u32::MAX)];
    (rate, burst, 0_u64..20_000).prop_map(|(rate, burst, limit)| Rate { rate, burst, limit })
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let span = prop_oneof![
        0_u64..1000,
        0_u64..3_000_000,
        0_u64..5_000_000_000,
        0_u64..100_000_000_000_000,
    ];
    prop::collection::vec(
        prop_oneof![
            3 => (1_usize..1900).prop_map(Op::Offer),
            1 => span.prop_map(Op::Advance),
        ],
        0..80,
    )
}

fn port(rate: Option<Rate>) -> PortConfig {
    PortConfig {
        shape: Shape { rx: rate, tx: None },
        ..PortConfig::ethernet(7, "eth0", Mac::ZERO, 1500)
    }
}

/// Counts what is dropped at a change of configuration.
struct Bin<'a>(&'a mut FramePool, Vec<DropReason>);

impl Discard for Bin<'_> {
    fn discard(&mut self, frame: Frame, reason: DropReason) {
        self.0.free(frame);
        self.1.push(reason);
    }
}

fn gate(ports: &[PortConfig], pool: &mut FramePool) -> (Shaper, GateId) {
    let mut shaper = Shaper::new(64);
    shaper.configure(Instant::ZERO, ports, &mut Bin(pool, Vec::new()));
    let id = shaper.gate(0, Side::Rx).expect("it has a limit");
    (shaper, id)
}

fn frame(pool: &mut FramePool, len: usize) -> Frame {
    let mut frame = pool.alloc().expect("enough frames");
    frame.set_len(len);
    frame
}

proptest! {
    /// CAL-34: every frame passes at the very nanosecond at which the definition lets it, in order; what waits is limited
    /// in bytes, and neither rounding nor overflow adds up over the time.
    #[test]
    fn frames_pass_when_a_token_bucket_by_definition_lets_them(rate in rates(), ops in ops()) {
        let mut pool = FramePool::new(64);
        let (mut shaper, id) = gate(&[port(Some(rate))], &mut pool);
        let mut oracle = Oracle { rate, passed: Vec::new(), waiting: VecDeque::new() };
        let mut now = 0;
        for op in ops {
            match op {
                Op::Offer(len) => {
                    let frame = frame(&mut pool, len);
                    let got = match shaper.offer(Instant::from_nanos(now), id, frame, false) {
                        Ok(Some(frame)) => { pool.free(frame); Expected::Passes }
                        Ok(None) => Expected::Waits,
                        Err((frame, reason)) => { pool.free(frame); Expected::Dropped(reason) }
                    };
                    // 64 places are never all taken: fewer than 64 bytes would have to wait in each.
                    prop_assert_eq!(got, oracle.offer(now, len as u64));
                }
                Op::Advance(by) => {
                    let end = now + by;
                    let mut passed = Vec::new();
                    while let Some(at) = shaper.next_deadline().filter(|at| at.as_nanos() <= end) {
                        prop_assert_eq!(shaper.due(at, &mut 0), Some(id));
                        let frame = shaper.release(at, id).expect("it said so");
                        passed.push((at.as_nanos().max(now), frame.len() as u64));
                        pool.free(frame);
                    }
                    prop_assert_eq!(passed, oracle.advance(now, end));
                    now = end;
                }
            }
            prop_assert_eq!(shaper.held(), oracle.waiting.len());
            prop_assert_eq!(pool.missing(), shaper.held());
        }
        let mut bin = Bin(&mut pool, Vec::new());
        shaper.configure(Instant::from_nanos(now), &[], &mut bin);
        prop_assert_eq!(bin.1, vec![DropReason::PortRemoved; oracle.waiting.len()]);
        prop_assert!(shaper.is_idle() && pool.missing() == 0);
    }
}

const SLOW: Rate = Rate {
    rate: 1000,
    burst: 1000,
    limit: 5000,
};

/// CAL-34: a new limit takes over the tokens that there are and the frames that wait; without any limit they all pass.
#[test]
fn a_changed_limit_keeps_tokens_and_frames() {
    let mut pool = FramePool::new(8);
    let (mut shaper, id) = gate(&[port(Some(SLOW))], &mut pool);
    let at = |ms: u64| Instant::ZERO + Duration::from_millis(ms);
    let first = frame(&mut pool, 1000);
    let passed = shaper.offer(at(0), id, first, false).unwrap();
    pool.free(passed.expect("a full bucket"));
    for _ in 0..3 {
        let frame = frame(&mut pool, 1000);
        assert!(shaper.offer(at(0), id, frame, false).unwrap().is_none());
    }
    assert_eq!(shaper.next_deadline(), Some(at(1000)));

    // Half a frame is there; at ten times the rate the other half takes a tenth of the time.
    let fast = Rate {
        rate: 10_000,
        ..SLOW
    };
    let mut bin = Bin(&mut pool, Vec::new());
    shaper.configure(at(500), &[port(Some(fast))], &mut bin);
    assert_eq!(shaper.next_deadline(), Some(at(550)));
    let id = shaper.gate(0, Side::Rx).unwrap();
    assert!(shaper.release(at(549), id).is_none());
    pool.free(shaper.release(at(550), id).unwrap());

    let mut bin = Bin(&mut pool, Vec::new());
    shaper.configure(at(550), &[port(None)], &mut bin);
    let id = shaper.gate(0, Side::Rx).unwrap();
    for _ in 0..2 {
        assert!(shaper.next_deadline().is_some_and(|due| due <= at(550)));
        pool.free(shaper.release(at(550), id).unwrap());
    }
    assert!(shaper.release(at(550), id).is_none());
    let mut bin = Bin(&mut pool, Vec::new());
    shaper.configure(at(550), &[port(None)], &mut bin);
    assert!(shaper.is_idle() && bin.1.is_empty());
}

/// CAL-34: where the pool is nearly empty, or all places are taken, nothing more waits.
#[test]
fn what_waits_is_bounded_in_number() {
    let mut pool = FramePool::new(100);
    let rate = Rate {
        limit: u64::MAX,
        ..SLOW
    };
    let (mut shaper, id) = gate(&[port(Some(rate))], &mut pool);
    let first = frame(&mut pool, 1000);
    pool.free(
        shaper
            .offer(Instant::ZERO, id, first, true)
            .unwrap()
            .unwrap(),
    );
    let mut offer = |shaper: &mut Shaper, scarce| {
        let frame = frame(&mut pool, 100);
        shaper
            .offer(Instant::ZERO, id, frame, scarce)
            .map(|passed| assert!(passed.is_none()))
            .map_err(|(frame, reason)| {
                pool.free(frame);
                reason
            })
    };
    assert_eq!(offer(&mut shaper, true), Err(DropReason::BandwidthExceeded));
    for _ in 0..64 {
        assert_eq!(offer(&mut shaper, false), Ok(()));
    }
    assert_eq!(
        offer(&mut shaper, false),
        Err(DropReason::BandwidthExceeded)
    );
    let mut bin = Bin(&mut pool, Vec::new());
    shaper.configure(Instant::ZERO, &[], &mut bin);
    assert_eq!(bin.1.len(), 64);
}

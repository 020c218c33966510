//! Impairments against exact times, expected frequencies and a slow oracle.

mod changes;
mod schedule;

use std::time::Duration;

use proptest::prelude::*;
use router_core::testing::offload::{frame as offloaded, on_wire, superframe};
use router_core::testing::packet::{eth, ipv4, tcp};
use router_core::{Frame, FramePool, Instant, Mac};

use super::random::Random;
use super::*;

const MS: Duration = Duration::from_millis(1);

fn at(ms: f64) -> Instant {
    Instant::ZERO + Duration::from_secs_f64(ms / 1e3)
}

struct Bench {
    queue: Queue,
    pool: FramePool,
}

fn bench(how: Impairment) -> Bench {
    Bench {
        queue: Queue::new(how),
        pool: FramePool::new(64),
    }
}

impl Bench {
    fn frame(&mut self, tag: u32, len: usize) -> Frame {
        let mut frame = self.pool.alloc().unwrap();
        let mut bytes = vec![0; len.max(4)];
        bytes[..4].copy_from_slice(&tag.to_be_bytes());
        assert!(frame.fill(&bytes));
        frame
    }

    fn push(&mut self, now: Instant, tag: u32) {
        let frame = self.frame(tag, 100);
        self.queue.push(now, frame, &mut self.pool);
    }

    /// What has arrived by `now`, by tag.
    fn pop(&mut self, now: Instant) -> Vec<u32> {
        let mut tags = Vec::new();
        while let Some(frame) = self.queue.pop(now, &mut self.pool) {
            tags.push(u32::from_be_bytes(frame.bytes()[..4].try_into().unwrap()));
            self.pool.free(frame);
        }
        assert_eq!(self.pool.missing(), 0, "the pool is as it was");
        assert!(self.queue.counters().check(), "{:?}", self.queue.counters());
        tags
    }
}

#[test]
fn a_delayed_frame_arrives_at_its_time_and_not_before() {
    let mut b = bench(Impairment {
        delay: 20 * MS,
        ..Impairment::default()
    });
    assert!(!b.queue.is_idle());
    b.push(at(1.0), 1);
    b.push(at(5.0), 2);
    assert_eq!(b.queue.next_deadline(), Some(at(21.0)));
    assert_eq!(b.pop(at(20.999_999)), [0; 0]);
    assert_eq!(b.pop(at(21.0)), [1]);
    assert_eq!(b.queue.next_deadline(), Some(at(25.0)));
    assert_eq!(b.pop(at(30.0)), [2]);
    assert_eq!(b.queue.next_deadline(), None);
}

/// netem counts what a frame waits for the wire for its delay.
#[test]
fn a_rate_spaces_frames_and_takes_their_wait_for_their_delay() {
    // 100 bytes at 800 kbit/s are 1 ms.
    let mut b = bench(Impairment {
        rate: 800_000,
        ..Impairment::default()
    });
    for tag in 0..3 {
        b.push(at(0.0), tag);
    }
    assert_eq!(b.pop(at(0.999_999)), [0; 0]);
    assert_eq!(b.pop(at(1.0)), [0]);
    assert_eq!(b.pop(at(2.0)), [1]);
    assert_eq!(b.pop(at(3.0)), [2]);
    b.push(at(10.0), 3);
    assert_eq!(b.pop(at(10.9)), [0; 0], "an idle wire saves nothing up");
    assert_eq!(b.pop(at(11.0)), [3]);

    let mut b = bench(Impairment {
        rate: 800_000,
        delay: 2 * MS,
        ..Impairment::default()
    });
    for tag in 0..4 {
        b.push(at(0.0), tag);
    }
    let mut arrivals = Vec::new();
    while let Some(due) = b.queue.next_deadline() {
        arrivals.push(due);
        assert_eq!(b.pop(due).len(), 1);
    }
    assert_eq!(arrivals, [at(3.0), at(4.0), at(5.0), at(6.0)]);
}

#[test]
fn a_full_queue_drops_and_counts() {
    let mut b = bench(Impairment {
        delay: MS,
        limit: 3,
        ..Impairment::default()
    });
    for tag in 0..5 {
        b.push(at(0.0), tag);
    }
    assert_eq!(
        (b.queue.counters().dropped, b.queue.counters().held),
        (2, 3)
    );
    assert_eq!(b.pop(at(1.0)), [0, 1, 2]);
    b.push(at(1.0), 9);
    assert_eq!(b.pop(at(2.0)), [9]);
}

/// More may wait than the pool has frames.
#[test]
fn what_waits_uses_none_of_the_pools_frames() {
    let mut b = bench(Impairment {
        delay: 100 * MS,
        ..Impairment::default()
    });
    for tag in 0..1000 {
        b.push(at(0.0), tag);
        assert_eq!(b.pool.missing(), 0);
    }
    // An empty pool leaves them where they are.
    let all: Vec<Frame> = std::iter::from_fn(|| b.pool.alloc()).collect();
    assert!(b.queue.pop(at(100.0), &mut b.pool).is_none());
    all.into_iter().for_each(|frame| b.pool.free(frame));
    assert_eq!(b.pop(at(100.0)), (0..1000).collect::<Vec<u32>>());
}

/// How often something happened in 20,000 frames, one at a time.
fn counted(how: Impairment) -> (Counters, Vec<f64>) {
    let mut b = bench(how);
    let mut delays = Vec::new();
    for tag in 0..20_000_u32 {
        let now = at(f64::from(tag) * 1000.0);
        b.push(now, tag);
        while let Some(due) = b.queue.next_deadline() {
            delays.push(due.since(now).as_secs_f64() * 1e3);
            b.pop(due);
        }
    }
    (b.queue.counters(), delays)
}

fn near(n: u64, expected: f64) -> bool {
    (n as f64 - expected).abs() < 4.0 * expected.sqrt()
}

#[test]
fn losses_duplicates_damage_and_reordering_come_as_often_as_asked_for() {
    let percent = |n: f64| Probability::new(n / 100.0);
    let how = Impairment {
        loss: percent(1.0),
        duplicate: percent(2.0),
        corrupt: percent(3.0),
        reorder: percent(5.0),
        delay: MS,
        ..Impairment::default()
    };
    let (counters, _) = counted(how);
    let all = 20_000.0 * 1.02;
    assert!(near(counters.duplicated, 400.0), "{counters:?}");
    assert!(near(counters.lost, all * 0.01), "{counters:?}");
    assert!(near(counters.corrupted, all * 0.03), "{counters:?}");
    assert!(near(counters.reordered, all * 0.05), "{counters:?}");
    assert_eq!(counters, counted(how).0, "the same seed, the same fate");
    let other = Impairment { seed: 1, ..how };
    assert_ne!(counters, counted(other).0);
    let never = Impairment {
        delay: MS,
        ..Impairment::default()
    };
    let (counters, delays) = counted(never);
    assert_eq!((counters.sent, counters.received), (20_000, 20_000));
    assert!(delays.iter().all(|delay| *delay == 1.0));
    let always = Impairment {
        loss: Probability::ALWAYS,
        ..never
    };
    assert_eq!(counted(always).0.lost, 20_000);
}

#[test]
fn jitter_has_the_shape_that_was_asked_for() {
    let how = |distribution| Impairment {
        delay: 20 * MS,
        jitter: 2 * MS,
        distribution,
        ..Impairment::default()
    };
    let moments = |delays: &[f64]| {
        let n = delays.len() as f64;
        let mean = delays.iter().sum::<f64>() / n;
        let variance = delays.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / n;
        (mean, variance.sqrt())
    };
    let range = |delays: &[f64]| {
        let least = delays.iter().copied().fold(f64::MAX, f64::min);
        (least, delays.iter().copied().fold(0.0, f64::max))
    };
    let (_, uniform) = counted(how(Distribution::Uniform));
    let (least, most) = range(&uniform);
    assert!((18.0..18.01).contains(&least) && (21.99..=22.0).contains(&most));
    let (mean, deviation) = moments(&uniform);
    assert!((mean - 20.0).abs() < 0.05 && (deviation - 2.0 / 3.0_f64.sqrt()).abs() < 0.05);

    let (_, normal) = counted(how(Distribution::Normal));
    let (mean, deviation) = moments(&normal);
    assert!((mean - 20.0).abs() < 0.06 && (deviation - 2.0).abs() < 0.06);
    let (least, most) = range(&normal);
    assert!(least >= 12.0 && most <= 28.0);

    let (_, pareto) = counted(how(Distribution::Pareto));
    let (least, most) = range(&pareto);
    // 4/3 (1 - 1.5) of the jitter below the delay, four times above.
    assert!((least - (20.0 - 2.0 * 2.0 / 3.0)).abs() < 0.01 && (most - 28.0).abs() < 0.001);
    let below = pareto.iter().filter(|d| **d < 20.0).count();
    assert!(below > 13_000, "{below}");
}

#[test]
fn frames_overtake_each_other_by_jitter_and_by_reordering() {
    let mut b = bench(Impairment {
        delay: 10 * MS,
        reorder: Probability::ALWAYS,
        ..Impairment::default()
    });
    b.push(at(0.0), 1);
    b.queue.set(Impairment {
        reorder: Probability::NEVER,
        ..b.queue.impairment()
    });
    b.push(at(0.0), 2);
    assert_eq!(b.pop(at(0.0)), [1]);
    let mut b = bench(Impairment {
        delay: 10 * MS,
        jitter: 10 * MS,
        ..Impairment::default()
    });
    for tag in 0..50 {
        b.push(at(f64::from(tag)), tag);
    }
    assert!(!b.pop(at(1000.0)).is_sorted());
}

/// What waits keeps its time when something changes, and goes at once when nothing is left to be done.
#[test]
fn changes_are_live() {
    let mut b = bench(Impairment {
        delay: 10 * MS,
        ..Impairment::default()
    });
    b.push(at(0.0), 1);
    b.queue.set(Impairment {
        delay: MS,
        ..Impairment::default()
    });
    b.push(at(0.0), 2);
    b.push(at(0.0), 3);
    assert_eq!(b.pop(at(1.0)), [2, 3]);
    b.push(at(1.0), 4);
    b.queue.set(Impairment::default());
    assert!(!b.queue.is_idle(), "two wait");
    assert_eq!(b.queue.next_deadline(), Some(Instant::ZERO));
    assert_eq!(b.pop(at(1.0)), [4, 1], "in the order of their times");
    assert!(b.queue.is_idle());
}

fn long() -> Vec<u8> {
    let link = eth(Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
    let payload: Vec<u8> = (0..10_000_u32).map(|n| (n % 251) as u8).collect();
    (link / ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into()) / tcp(1, 2, 0x10) / payload).bytes()
}

/// A superframe takes as long as its segments, and its checksum does not cover up what was done to it.
#[test]
fn superframes_take_their_time_and_are_damaged_after_they_were_cut() {
    let (bytes, offload) = superframe(&long(), 1000);
    let wire = on_wire(&bytes, offload);
    let total: usize = wire.iter().map(Vec::len).sum();
    let mut b = bench(Impairment {
        rate: 8_000_000,
        ..Impairment::default()
    });
    let frame = offloaded(&mut b.pool, &bytes, offload, 200);
    b.queue.push(at(0.0), frame, &mut b.pool);
    assert_eq!(b.queue.next_deadline(), Some(at(total as f64 / 1000.0)));

    let mut b = bench(Impairment {
        corrupt: Probability::ALWAYS,
        ..Impairment::default()
    });
    let frame = offloaded(&mut b.pool, &bytes, offload, 200);
    b.queue.push(at(0.0), frame, &mut b.pool);
    let mut wrong = 0;
    for expected in &wire {
        let frame = b.queue.pop(at(0.0), &mut b.pool).unwrap();
        assert!(!frame.is_offloaded());
        let bits = frame
            .bytes()
            .iter()
            .zip(expected)
            .map(|(a, b)| (a ^ b).count_ones());
        wrong += bits.sum::<u32>();
        b.pool.free(frame);
    }
    assert_eq!(
        (wrong, b.queue.counters().split),
        (1, wire.len() as u64 - 1)
    );
    assert_eq!(b.pop(at(0.0)), [0; 0]);

    let mut b = bench(Impairment {
        duplicate: Probability::ALWAYS,
        ..Impairment::default()
    });
    let frame = offloaded(&mut b.pool, &bytes, offload, 200);
    b.queue.push(at(0.0), frame, &mut b.pool);
    let first = b.queue.pop(at(0.0), &mut b.pool).unwrap();
    assert!(first.is_superframe());
    b.pool.free(first);
    for expected in &wire {
        let frame = b.queue.pop(at(0.0), &mut b.pool).unwrap();
        assert_eq!(frame.bytes(), expected);
        b.pool.free(frame);
    }
    assert_eq!(b.queue.counters().duplicated, wire.len() as u64);
    assert_eq!(b.pop(at(0.0)), [0; 0]);
}

/// A frame of the oracle: when it arrives, and which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due(u64, u32);

proptest! {
    /// Delay, rate and limit against a list that is searched, whatever comes when.
    #[test]
    fn delay_rate_and_limit_are_those_of_a_slow_oracle(
        delay in 0..5_000_u64,
        rate in prop_oneof![Just(0), 1_u64..100],
        limit in 1..20_u32,
        steps in prop::collection::vec((0..2_000_u64, 4..1500_usize), 1..100),
    ) {
        // Microseconds; and bytes per microsecond, so that nothing is rounded but the wire's time.
        let mut b = bench(Impairment {
            delay: Duration::from_micros(delay),
            rate: rate * 8_000_000,
            limit,
            ..Impairment::default()
        });
        let mut waiting: Vec<Due> = Vec::new();
        let mut last = 0;
        let mut now = 0;
        for (tag, (pause, len)) in (0..).zip(steps) {
            now += pause * 1000;
            let frame = b.frame(tag, len);
            // What has arrived goes first.
            let mut arrived: Vec<Due> = waiting.iter().copied().filter(|d| d.0 <= now).collect();
            arrived.sort();
            waiting.retain(|d| d.0 > now);
            b.pool.free(frame);
            let expected: Vec<u32> = arrived.iter().map(|d| d.1).collect();
            prop_assert_eq!(b.pop(Instant::from_nanos(now)), expected);
            if waiting.len() < limit as usize {
                let wire = (len as u64 * 1000).checked_div(rate).unwrap_or(0);
                let due = if rate == 0 {
                    now + delay * 1000
                } else {
                    let begin = now.max(last);
                    begin + (delay * 1000).saturating_sub(begin - now) + wire
                };
                last = due;
                waiting.push(Due(due, tag));
            }
            let frame = b.frame(tag, len);
            b.queue.push(Instant::from_nanos(now), frame, &mut b.pool);
            prop_assert_eq!(b.queue.counters().held, waiting.len() as u64);
            let next = waiting.iter().map(|d| d.0).min();
            prop_assert_eq!(b.queue.next_deadline(), next.map(Instant::from_nanos));
        }
    }

    /// No frame is lost or invented, whatever is asked for and changed.
    #[test]
    fn frames_are_conserved(
        changes in prop::collection::vec((0..8_u32, 0..8_u32, 0..8_u32, 0..8_u32, 0..3_u64, 1..9_u32), 1..8),
        frames in 1..40_u32,
    ) {
        let mut b = bench(Impairment::default());
        let (bytes, offload) = superframe(&long(), 3000 / 2);
        let mut now = 0.0;
        for (loss, duplicate, corrupt, reorder, delay, limit) in changes {
            let eighths = |n: u32| Probability::new(f64::from(n) / 8.0);
            b.queue.set(Impairment {
                loss: eighths(loss),
                duplicate: eighths(duplicate),
                corrupt: eighths(corrupt),
                reorder: eighths(reorder),
                delay: Duration::from_millis(delay),
                jitter: MS,
                limit,
                ..Impairment::default()
            });
            for tag in 0..frames {
                now += 0.3;
                if tag % 5 == 0 {
                    let frame = offloaded(&mut b.pool, &bytes, offload, 100);
                    b.queue.push(at(now), frame, &mut b.pool);
                } else {
                    b.push(at(now), tag);
                }
                b.pop(at(now));
            }
        }
        b.queue.set(Impairment::default());
        b.pop(at(now));
        prop_assert_eq!(b.queue.counters().held, 0);
    }
}

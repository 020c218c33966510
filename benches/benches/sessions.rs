//! Connection tracking with masquerade under a million UDP sessions: sessions set up per second, packets of established
//! ones, memory for each; and what it stands on, flow table beside `hashbrown`, and timer wheel.
//!
//! Frames are 60 bytes long; copies into and out of the pool are included.

use std::hint::black_box;
use std::time::{Duration, Instant as Clock};

use benches::Random;
use benches::crowd::Crowd;
use benches::routes::measuring;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use router_core::testing::crowd::{Frame, Session};
use router_core::{Instant, PortId};

/// Frames of one measurement, so many that their connections do not stay in the caches by themselves.
const FRAMES: usize = 1 << 16;

/// What is measured, by name and number; one small size where only the code is to run.
fn sizes(all: &[(&'static str, u32)]) -> Vec<(&'static str, u32)> {
    if measuring() {
        all.to_vec()
    } else {
        vec![("1k", 1000)]
    }
}

/// Bytes of memory that this process has in use.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    Some(1024 * line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?)
}

/// Sessions in no order, each as often as any other.
fn drawn(sessions: u32) -> impl Iterator<Item = Session> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    std::iter::repeat_with(move || Session(random.next_u32() % sessions))
}

fn set_up(c: &mut Criterion) {
    let mut group = c.benchmark_group("sessions/set-up");
    group.sample_size(10);
    for (name, limit) in sizes(&[("64k", 65_536), ("1M", 1_000_000)]) {
        let mut crowd = Crowd::new(limit);
        let frames: Vec<Vec<(PortId, Frame)>> = (0..limit)
            .map(Session)
            .collect::<Vec<_>>()
            .chunks(256)
            .map(|chunk| chunk.iter().map(|s| (s.port(), s.request())).collect())
            .collect();
        group.throughput(Throughput::Elements(limit.into()));
        group.bench_function(format!("udp-masquerade/{name}"), |b| {
            b.iter_custom(|times| {
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    let begin = Clock::now();
                    let sent: usize = frames.iter().map(|batch| crowd.pass(batch)).sum();
                    spent += begin.elapsed();
                    assert_eq!(u32::try_from(sent), Ok(limit), "every session is set up");
                    crowd.clear();
                }
                spent
            });
        });
    }
    group.finish();
}

fn established(c: &mut Criterion) {
    let mut group = c.benchmark_group("sessions/established");
    group.throughput(Throughput::Elements(FRAMES as u64));
    let sizes = sizes(&[("1k", 1000), ("64k", 65_536), ("1M", 1_000_000)]);
    let most = sizes.iter().map(|&(_, n)| n).max().unwrap_or(0);
    let before = resident();
    let mut crowd = Crowd::new(most);
    for (name, sessions) in sizes {
        crowd.grow(sessions);
        let requests: Vec<_> = drawn(sessions)
            .take(FRAMES)
            .map(|s| crowd.request(s))
            .collect();
        let replies: Vec<_> = drawn(sessions)
            .take(FRAMES)
            .map(|s| crowd.reply(s))
            .collect();
        for (way, frames) in [("request", requests), ("reply", replies)] {
            for batch in [64, 256] {
                group.bench_function(format!("{way}/batch{batch}/{name}"), |b| {
                    b.iter(|| {
                        let sent: usize = frames.chunks(batch).map(|f| crowd.pass(f)).sum();
                        assert_eq!(sent, FRAMES, "nothing is lost");
                    });
                });
            }
        }
    }
    group.finish();
    let tracking = crowd.tracking();
    let each = |bytes: u64| bytes / tracking.connections as u64;
    eprintln!(
        "sessions/memory: {} sessions, {} bytes of address space each, {} bytes of one in the array",
        tracking.connections,
        each(tracking.bytes as u64),
        router_core::CONNECTION_BYTES,
    );
    if let Some((before, after)) = before.zip(resident()) {
        eprintln!(
            "sessions/memory: {} bytes resident each, frames and pool included",
            each(after.saturating_sub(before))
        );
    }
}

mod flow_table {
    use hashbrown::HashMap;
    use router_core::table::flow::{FlowKey, FlowTable};

    use super::*;

    /// Look-ups of one measurement.
    const LOOKUPS: usize = 1 << 16;

    fn key(random: &mut Random) -> FlowKey {
        let mut word = || u64::from(random.next_u32()) << 32 | u64::from(random.next_u32());
        FlowKey([word(), word()])
    }

    fn keys(seed: u64, count: usize) -> Vec<FlowKey> {
        let mut random = Random(seed);
        (0..count).map(|_| key(&mut random)).collect()
    }

    /// Look-ups of keys that are there and of others; a table that is filled from nothing.
    pub(super) fn flow_table(c: &mut Criterion) {
        for (name, count) in sizes(&[("1M", 1_000_000), ("10M", 10_000_000)]) {
            let there = keys(1, count as usize);
            let mut random = Random(3);
            let hits: Vec<FlowKey> = (0..LOOKUPS)
                .map(|_| there[random.next_u32() as usize % there.len()])
                .collect();
            let misses = keys(2, LOOKUPS);

            let mut ours = FlowTable::new(there.len(), 1);
            let mut theirs: HashMap<FlowKey, u32> = HashMap::with_capacity(there.len());
            for (n, key) in (0..).zip(&there) {
                ours.insert(*key, n).expect("within the capacity");
                theirs.insert(*key, n);
            }
            eprintln!(
                "flow-table/memory/{name}: router-core {:.1} bytes per key, hashbrown {:.1}",
                ours.bytes() as f64 / f64::from(count),
                theirs.allocation_size() as f64 / f64::from(count),
            );
            let mut group = c.benchmark_group("flow-table");
            group.throughput(Throughput::Elements(LOOKUPS as u64));
            for (what, keys) in [("hit", &hits), ("miss", &misses)] {
                let found = if what == "hit" { LOOKUPS } else { 0 };
                group.bench_function(format!("{what}/router-core/{name}"), |b| {
                    b.iter(|| {
                        let n = keys.iter().filter(|k| ours.get(**k).is_some()).count();
                        assert_eq!(n, found);
                    });
                });
                for batch in [64, 256] {
                    let mut values = vec![None; batch];
                    group.bench_function(format!("{what}/router-core-batch{batch}/{name}"), |b| {
                        b.iter(|| {
                            let mut n = 0;
                            for keys in keys.chunks(batch) {
                                ours.get_batch(keys, &mut values);
                                n += values.iter().flatten().count();
                            }
                            assert_eq!(n, found);
                        });
                    });
                }
                group.bench_function(format!("{what}/hashbrown/{name}"), |b| {
                    b.iter(|| {
                        let n = keys.iter().filter(|k| theirs.get(*k).is_some()).count();
                        assert_eq!(n, found);
                    });
                });
            }
            drop((ours, theirs));
            group.sample_size(10);
            group.throughput(Throughput::Elements(count.into()));
            group.bench_function(format!("insert/router-core/{name}"), |b| {
                b.iter_batched(
                    || FlowTable::new(there.len(), 1),
                    |mut table| {
                        for (n, key) in (0..).zip(&there) {
                            let _ = black_box(table.insert(*key, n));
                        }
                        table
                    },
                    BatchSize::PerIteration,
                );
            });
            group.bench_function(format!("insert/hashbrown/{name}"), |b| {
                b.iter_batched(
                    || HashMap::with_capacity(there.len()),
                    |mut table: HashMap<FlowKey, u32>| {
                        for (n, key) in (0..).zip(&there) {
                            table.insert(*key, n);
                        }
                        table
                    },
                    BatchSize::PerIteration,
                );
            });
            group.finish();
        }
    }
}

mod wheel {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use hierarchical_hash_wheel_timer::wheels::Skip;
    use hierarchical_hash_wheel_timer::wheels::quad_wheel::{QuadWheelWithOverflow, no_prune};
    use router_core::table::wheel::Wheel;

    use super::*;

    /// Deadlines within ten minutes, in no order.
    fn deadlines(count: u32) -> Vec<Instant> {
        let mut random = Random(5);
        let mut ms = || u64::from(1 + random.next_u32() % 600_000);
        (0..count)
            .map(|_| Instant::ZERO + Duration::from_millis(ms()))
            .collect()
    }

    pub(super) fn timer_wheel(c: &mut Criterion) {
        let mut group = c.benchmark_group("timer-wheel");
        group.sample_size(10);
        for (name, count) in sizes(&[("64k", 65_536), ("1M", 1_000_000)]) {
            let deadlines = deadlines(count);
            let armed = || {
                let mut wheel = Wheel::new(deadlines.len());
                for (id, at) in (0..).zip(&deadlines) {
                    wheel.arm(id, *at);
                }
                wheel
            };
            group.throughput(Throughput::Elements(count.into()));
            group.bench_function(format!("arm/{name}"), |b| {
                b.iter_batched(
                    || Wheel::new(deadlines.len()),
                    |mut wheel| {
                        for (id, at) in (0..).zip(&deadlines) {
                            wheel.arm(id, *at);
                        }
                        wheel
                    },
                    BatchSize::PerIteration,
                );
            });
            group.bench_function(format!("arm/binary-heap/{name}"), |b| {
                b.iter_batched(
                    || BinaryHeap::with_capacity(deadlines.len()),
                    |mut heap| {
                        for (id, at) in (0_u32..).zip(&deadlines) {
                            heap.push(Reverse((*at, id)));
                        }
                        heap
                    },
                    BatchSize::PerIteration,
                );
            });
            let delays: Vec<Duration> =
                deadlines.iter().map(|at| at.since(Instant::ZERO)).collect();
            let hashed = || {
                let mut wheel = QuadWheelWithOverflow::new(no_prune);
                for (id, delay) in (0_u32..).zip(&delays) {
                    wheel.insert_with_delay(id, *delay).expect("not yet due");
                }
                wheel
            };
            group.bench_function(format!("arm/hash-wheel/{name}"), |b| b.iter(hashed));
            group.bench_function(format!("expire/hash-wheel/{name}"), |b| {
                b.iter_batched(
                    hashed,
                    |mut wheel| {
                        let mut done = 0;
                        loop {
                            match wheel.can_skip() {
                                Skip::Empty => break,
                                Skip::Millis(ms) => wheel.skip(ms),
                                Skip::None => {}
                            }
                            done += wheel.tick().len();
                        }
                        assert_eq!(done, delays.len(), "each comes up once");
                        wheel
                    },
                    BatchSize::PerIteration,
                );
            });
            // A heap can't move what is in it: who arms again leaves the former entry there and skips it when it is due.
            group.bench_function(format!("expire/binary-heap/{name}"), |b| {
                b.iter_batched(
                    || {
                        let all = (0_u32..).zip(&deadlines).map(|(id, at)| Reverse((*at, id)));
                        all.collect::<BinaryHeap<_>>()
                    },
                    |mut heap| {
                        let mut done = 0;
                        while let Some(due) = heap.pop() {
                            black_box(due);
                            done += 1;
                        }
                        assert_eq!(done, count, "each comes up once");
                        heap
                    },
                    BatchSize::PerIteration,
                );
            });
            group.bench_function(format!("arm-again/{name}"), |b| {
                let mut wheel = armed();
                b.iter(|| {
                    for (id, at) in (0..).zip(&deadlines) {
                        wheel.arm(id, *at);
                    }
                });
            });
            // Tick by tick, what comes up early is armed again, as connections are.
            group.bench_function(format!("expire/{name}"), |b| {
                b.iter_batched(
                    armed,
                    |mut wheel| {
                        let mut done = 0;
                        while let Some(now) = wheel.next_deadline() {
                            while let Some(id) = wheel.due(now) {
                                let at = deadlines[id as usize];
                                if at <= now {
                                    done += 1;
                                } else {
                                    wheel.arm(id, at);
                                }
                            }
                        }
                        assert_eq!(done, count, "each comes up once");
                        wheel
                    },
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();
    }
}

criterion_group!(
    benches,
    set_up,
    established,
    flow_table::flow_table,
    wheel::timer_wheel
);
criterion_main!(benches);

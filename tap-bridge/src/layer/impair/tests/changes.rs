//! What stays and what begins anew when an impairment changes, and what each choice leaves to the next one.

use router_core::testing::offload::partial;
use router_core::testing::udp;

use super::*;

const LATE: Impairment = Impairment {
    delay: MS,
    jitter: Duration::ZERO,
    distribution: Distribution::Uniform,
    loss: Probability::NEVER,
    duplicate: Probability::NEVER,
    corrupt: Probability::NEVER,
    reorder: Probability::NEVER,
    rate: 0,
    limit: DEFAULT_LIMIT,
    seed: 0,
};

/// Which of 200 frames are lost.
fn lost(b: &mut Bench, how: Impairment) -> Vec<u32> {
    b.queue.set(how);
    for tag in 0..200 {
        b.push(at(0.0), tag);
    }
    let came = b.pop(at(100.0));
    (0..200).filter(|tag| !came.contains(tag)).collect()
}

#[test]
fn another_seed_begins_the_numbers_anew_and_the_same_one_does_not() {
    let how = Impairment {
        loss: Probability::new(0.3),
        ..LATE
    };
    let seeded = Impairment { seed: 7, ..how };
    let first = lost(&mut bench(how), how);
    let other = lost(&mut bench(seeded), seeded);
    let mut b = bench(how);
    assert_eq!(lost(&mut b, how), first);
    assert_ne!(lost(&mut b, how), first, "they go on");
    assert_eq!(lost(&mut b, seeded), other);
    assert_eq!(lost(&mut b, how), first);
}

/// What never happens draws no number: to switch it on or off leaves the fates by another one alone.
#[test]
fn one_impairment_leaves_the_numbers_of_another_alone() {
    let how = Impairment {
        loss: Probability::new(0.3),
        ..LATE
    };
    let mut random = Random::new(how.seed);
    let drawn: Vec<u32> = (0..200)
        .filter(|_| random.next() >> 32 <= u64::from(how.loss.0))
        .collect();
    assert_eq!(lost(&mut bench(how), how), drawn);
}

#[test]
fn what_waits_goes_in_the_order_of_its_times_when_nothing_is_done_any_more() {
    let mut b = bench(LATE);
    for (tag, delay) in [(0, 50), (1, 10), (2, 40), (3, 20), (4, 60), (5, 30)] {
        b.queue.set(Impairment {
            delay: delay * MS,
            ..LATE
        });
        b.push(at(0.0), tag);
    }
    b.queue.set(Impairment::default());
    assert_eq!(b.pop(at(0.0)), [1, 3, 5, 2, 0, 4]);
}

/// 100 bytes at 8 kbit/s are 100 ms, which nobody has to wait for who comes when there is no such wire any more.
#[test]
fn a_wire_that_is_taken_away_is_not_busy_when_there_is_one_again() {
    let slow = Impairment {
        rate: 8_000,
        ..LATE
    };
    let mut b = bench(slow);
    b.push(at(0.0), 0);
    assert_eq!(b.queue.next_deadline(), Some(at(101.0)));
    b.queue.set(LATE);
    b.queue.set(slow);
    b.pop(at(101.0));
    b.push(at(1.0), 1);
    assert_eq!(b.queue.next_deadline(), Some(at(102.0)));
}

#[test]
fn a_limit_that_is_lowered_counts_what_waits_already() {
    let mut b = bench(LATE);
    for tag in 0..5 {
        b.push(at(0.0), tag);
    }
    b.queue.set(Impairment { limit: 5, ..LATE });
    b.push(at(0.0), 5);
    assert_eq!(b.queue.counters().dropped, 1);
    assert_eq!(b.pop(at(1.0)), [0, 1, 2, 3, 4]);
    b.push(at(1.0), 6);
    assert_eq!(b.pop(at(2.0)), [6]);
}

/// A copy is lost, damaged and late for itself.
#[test]
fn a_copy_meets_everything_that_the_original_meets() {
    let twice = Impairment {
        duplicate: Probability::ALWAYS,
        ..LATE
    };
    let mut b = bench(Impairment {
        loss: Probability::ALWAYS,
        ..twice
    });
    b.push(at(0.0), 1);
    assert_eq!(b.queue.counters().lost, 2);
    let mut b = bench(Impairment {
        corrupt: Probability::ALWAYS,
        ..twice
    });
    b.push(at(0.0), 1);
    assert_eq!(b.queue.counters().corrupted, 2);
}

/// A checksum that a pod left open is closed before the damage, or whoever completes it would make it fit; in a copy it stays
/// open as it is in the original.
#[test]
fn an_open_checksum_is_closed_before_a_frame_is_damaged_and_copied_as_it_is() {
    let link = eth(Mac([2; 6]), Mac([4; 6])) / ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let wire = (link / udp(7, 7) / vec![9; 100]).bytes();
    let (bytes, open) = partial(&wire);
    let mut b = bench(Impairment {
        corrupt: Probability::ALWAYS,
        ..LATE
    });
    let frame = offloaded(&mut b.pool, &bytes, open, bytes.len());
    b.queue.push(at(0.0), frame, &mut b.pool);
    let frame = b.queue.pop(at(1.0), &mut b.pool).unwrap();
    assert!(!frame.is_offloaded());
    let wrong = frame.bytes().iter().zip(&wire).map(|(a, b)| a ^ b);
    assert_eq!(wrong.map(u8::count_ones).sum::<u32>(), 1);
    b.pool.free(frame);

    let mut b = bench(Impairment {
        duplicate: Probability::ALWAYS,
        ..LATE
    });
    let frame = offloaded(&mut b.pool, &bytes, open, bytes.len());
    b.queue.push(at(0.0), frame, &mut b.pool);
    for _ in 0..2 {
        let frame = b.queue.pop(at(1.0), &mut b.pool).unwrap();
        assert_eq!((frame.bytes(), frame.offload()), (&*bytes, open));
        b.pool.free(frame);
    }
}

#[test]
fn jitter_alone_is_something() {
    let jitter = Impairment {
        jitter: MS,
        ..Impairment::default()
    };
    assert!(!jitter.is_none() && Impairment::default().is_none());
}

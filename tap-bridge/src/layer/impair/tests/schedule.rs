//! When frames arrive at 10,000 a second, in virtual time.

use router_core::testing::udp;

use super::*;

const INTERVAL: Duration = Duration::from_micros(100);
const FRAMES: u32 = 10_000;

/// Sends a frame every 100 us, and looks for what has arrived whenever it is due, but `late` behind. By how much each frame
/// came behind its time.
fn lateness(how: Impairment, late: Duration, due: impl Fn(u32) -> Instant) -> Vec<Duration> {
    let mut b = bench(how);
    let mut sent = 0;
    let mut got = Vec::new();
    while got.len() < usize::try_from(FRAMES).unwrap() {
        let next = (sent < FRAMES).then(|| Instant::ZERO + INTERVAL * sent);
        let deadline = b.queue.next_deadline().map(|at| at + late);
        match (next, deadline) {
            (Some(next), deadline) if deadline.is_none_or(|at| next <= at) => {
                b.push(next, sent);
                sent += 1;
            }
            (_, deadline) => {
                let now = deadline.expect("frames are on their way");
                for tag in b.pop(now) {
                    assert_eq!(usize::try_from(tag).unwrap(), got.len(), "in order");
                    assert!(now >= due(tag), "none before its time");
                    got.push(now.since(due(tag)));
                }
            }
        }
    }
    got
}

/// Each frame has its own time, so that a loop that is late is late by no more than that, however long it goes on.
#[test]
fn a_delay_is_kept_at_ten_thousand_frames_a_second_and_lateness_does_not_add_up() {
    let how = Impairment {
        delay: 5 * MS,
        ..Impairment::default()
    };
    let due = |n| Instant::ZERO + INTERVAL * n + 5 * MS;
    for late in [0, 30, 99, 100, 1000] {
        let late = Duration::from_micros(late);
        let got = lateness(how, late, due);
        assert_eq!(got.iter().max(), Some(&late), "{late:?}");
    }
}

/// A wire that is just fast enough: 100 bytes in 100 us.
#[test]
fn a_rate_is_kept_however_late_the_loop_is() {
    let how = Impairment {
        rate: 8_000_000,
        limit: 2 * FRAMES,
        ..Impairment::default()
    };
    let due = |n| Instant::ZERO + INTERVAL * (n + 1);
    for late in [0, 60, 1000] {
        let late = Duration::from_micros(late);
        let got = lateness(how, late, due);
        assert_eq!(got.iter().max(), Some(&late), "{late:?}");
    }
}

/// Each datagram of a superframe is lost for itself.
#[test]
fn datagrams_that_came_as_one_have_fates_of_their_own() {
    let mut b = bench(Impairment {
        loss: Probability::new(0.5),
        limit: 10_000,
        ..Impairment::default()
    });
    let (src, dst) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let macs = (Mac([2; 6]), Mac([4; 6]));
    let whole = eth(macs.0, macs.1) / ipv4(src, dst) / udp(7, 7) / vec![9; 60 * 20];
    let (bytes, offload) = superframe(&whole.bytes(), 20);
    let mut sizes = Vec::new();
    for _ in 0..50 {
        let frame = offloaded(&mut b.pool, &bytes, offload, bytes.len());
        b.queue.push(at(0.0), frame, &mut b.pool);
        let mut got = 0;
        while let Some(frame) = b.queue.pop(at(0.0), &mut b.pool) {
            assert_eq!((frame.len(), frame.is_superframe()), (62, false));
            b.pool.free(frame);
            got += 1;
        }
        sizes.push(got);
    }
    let counters = b.queue.counters();
    assert_eq!((counters.received, counters.split), (50, 50 * 59));
    assert!(counters.check() && b.pool.missing() == 0);
    assert!(sizes.iter().all(|&n| (10..50).contains(&n)), "{sizes:?}");
}

use std::thread;
use std::time::Duration;

use router_core::{Batch, Instant, Mark, PortId, TxBatch};

use super::*;

/// By which port of its own a loop gets work.
const PORT: PortId = PortId(4);

/// Counts what comes, and hands over what came by the port.
#[derive(Debug)]
struct Relay {
    to: u8,
    seen: Vec<(PortId, u16, u8)>,
}

impl Engine for Relay {
    fn process(&mut self, _: Instant, rx: &mut Batch, pool: &mut FramePool, tx: &mut TxBatch) {
        for frame in rx.drain() {
            let mark = frame.mark().to_bits();
            self.seen.push((frame.port(), mark, frame.bytes()[0]));
            if frame.bytes()[1] == self.to {
                pool.free(frame);
            } else {
                tx.push(PortId::of_worker(self.to), frame);
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn handle_timeout(&mut self, _: Instant, _: &mut FramePool, _: &mut TxBatch) {}
}

/// Two loops that hand everything to each other but what is marked as theirs, and the far end of the first one's port.
fn two(frames: usize) -> (Vec<EventLoop<Relay>>, MemoryPort) {
    let mut loops: Vec<_> = [1, 0]
        .map(|to| {
            EventLoop::new(
                Relay {
                    to,
                    seen: Vec::new(),
                },
                frames,
            )
            .unwrap()
        })
        .into();
    EventLoop::join(&mut loops.iter_mut().collect::<Vec<_>>());
    let (near, far) = MemoryPort::pair(1500, 1024);
    loops[0].add_port(PORT, near).unwrap();
    (loops, far)
}

fn send(port: &mut MemoryPort, pool: &mut FramePool, bytes: [u8; 2]) {
    let mut frame = pool.alloc().unwrap();
    frame.fill(&[bytes[0], bytes[1], 0, 0]);
    frame.set_mark(Mark::new(3));
    port.tx(pool, frame).unwrap();
}

#[test]
fn a_frame_keeps_port_and_mark_when_it_is_handed_over() {
    let (mut loops, mut far) = two(8);
    let mut pool = FramePool::new(8);
    send(&mut far, &mut pool, [7, 0]);
    send(&mut far, &mut pool, [8, 0]);
    for event_loop in &mut loops {
        event_loop.turn(Some(Duration::ZERO)).unwrap();
    }
    let mark = Mark::new(3).to_bits();
    assert_eq!(loops[1].engine().seen, [(PORT, mark, 7), (PORT, mark, 8)]);
    assert_eq!(loops[1].counters().tx_unknown_port, 0);
    assert!(loops.iter().all(|l| l.pool().missing() == 0));
}

#[test]
fn a_full_ring_loses_frames_and_counts_them() {
    let (mut loops, mut far) = two(512);
    let mut pool = FramePool::new(1024);
    for _ in 0..RING + 10 {
        send(&mut far, &mut pool, [7, 0]);
    }
    while far.counters().tx_frames > loops[0].engine().seen.len() as u64 {
        loops[0].turn(Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(loops[0].lost_between_workers(), 10);
    while loops[1].engine().seen.len() < RING {
        loops[1].turn(Some(Duration::ZERO)).unwrap();
    }
    assert!(loops.iter().all(|l| l.pool().missing() == 0));
}

#[test]
fn a_frame_for_a_worker_that_there_is_not_is_counted() {
    let mut alone = EventLoop::new(
        Relay {
            to: 5,
            seen: Vec::new(),
        },
        4,
    )
    .unwrap();
    let (near, mut far) = MemoryPort::pair(1500, 4);
    alone.add_port(PORT, near).unwrap();
    send(&mut far, &mut FramePool::new(1), [7, 0]);
    alone.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(
        (alone.lost_between_workers(), alone.pool().missing()),
        (1, 0)
    );
}

/// Each of two threads answers what the other hands it, and sleeps without a limit in between: no wake-up may be lost.
#[test]
fn a_worker_that_sleeps_is_woken_by_what_is_handed_to_it() {
    const ROUNDS: usize = 20_000;
    let (mut loops, mut far) = two(64);
    let mut second = loops.pop().unwrap();
    let mut first = loops.pop().unwrap();
    // Neither takes a frame for its own, so that one goes to and fro.
    send(&mut far, &mut FramePool::new(1), [7, 9]);
    let there = thread::spawn(move || {
        while second.engine().seen.len() < ROUNDS {
            second.turn(None).unwrap();
        }
        second.engine().seen.len()
    });
    while first.engine().seen.len() < ROUNDS {
        first.turn(None).unwrap();
    }
    assert_eq!(there.join().unwrap(), ROUNDS);
}

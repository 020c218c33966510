//! Layers around a port in memory. Time is said by the test, an hour ahead of the clock, so that the clock never counts.

use std::os::fd::AsFd as _;

use router_core::PortId;

use super::super::capture::record::{Record, decode};
use super::super::capture::ring::{self, MIN_WORDS, Reader};
use super::super::capture::{Begin, Captures, Wanted};
use super::super::impair::Probability;
use super::*;
use crate::memory::MemoryPort;
use crate::sys::eventfd::Doorbell;

const MS: Duration = Duration::from_millis(1);

fn delayed(delay: Duration) -> Impairment {
    Impairment {
        delay,
        ..Impairment::default()
    }
}

struct Bench {
    port: Layered,
    far: MemoryPort,
    pool: FramePool,
    start: Instant,
}

fn bench(layers: Layers) -> Bench {
    let (near, far) = MemoryPort::pair(1500, 512);
    Bench {
        port: Layered::new(near.into(), layers),
        far,
        pool: FramePool::new(300),
        start: clock::monotonic() + Duration::from_secs(3600),
    }
}

fn impaired(rx: Impairment, tx: Impairment) -> Bench {
    bench(Layers {
        probe: None,
        impaired: Some(Box::new(Impaired::new(rx, tx))),
    })
}

impl Bench {
    /// So long after the start.
    fn at(&self, after: Duration) -> Instant {
        self.start + after
    }

    fn begin(&mut self, after: Duration) -> bool {
        let now = self.at(after);
        self.port.begin(now, &mut self.pool).unwrap()
    }

    fn frame(&mut self, tag: u8) -> Frame {
        let mut frame = self.pool.alloc().unwrap();
        assert!(frame.fill(&[tag; 60]));
        frame
    }

    /// What the device has to give.
    fn send(&mut self, tag: u8) {
        let frame = self.frame(tag);
        self.far.tx(&mut self.pool, frame).unwrap();
    }

    /// What the router sends.
    fn tx(&mut self, tag: u8) {
        let frame = self.frame(tag);
        self.port.tx(&mut self.pool, frame).unwrap();
    }

    /// What the router gets, and whether there is more.
    fn rx(&mut self, budget: usize) -> (Vec<u8>, Rx) {
        let mut batch = Batch::new();
        let got = self.port.rx(&mut self.pool, &mut batch, budget).unwrap();
        let tags = batch.as_slice().iter().map(|f| f.bytes()[0]).collect();
        batch.free_all(&mut self.pool);
        (tags, got)
    }

    /// What the device was given.
    fn sent(&mut self) -> Vec<u8> {
        let mut batch = Batch::new();
        while self.far.pending() > 0 {
            self.far.rx(&mut self.pool, &mut batch, 64).unwrap();
        }
        let tags = batch.as_slice().iter().map(|f| f.bytes()[0]).collect();
        batch.free_all(&mut self.pool);
        tags
    }

    fn queues(&self) -> &Impaired {
        self.port.layers().impaired.as_ref().unwrap()
    }
}

#[test]
fn with_nothing_to_be_done_frames_pass_at_once_and_are_counted() {
    let mut b = impaired(Impairment::default(), Impairment::default());
    b.begin(MS);
    b.send(1);
    b.send(2);
    assert_eq!(b.rx(64), (vec![1, 2], Rx::Drained));
    b.tx(3);
    assert_eq!(b.sent(), [3]);
    for (queue, frames) in [(&b.queues().rx, 2), (&b.queues().tx, 1)] {
        let counters = queue.counters();
        assert_eq!((counters.received, counters.sent), (frames, frames));
        assert!(counters.check());
    }
    assert_eq!(b.port.next_deadline(), None);
}

#[test]
fn frames_arrive_and_leave_when_it_is_time_and_not_before() {
    let mut b = impaired(delayed(20 * MS), delayed(10 * MS));
    assert!(!b.begin(Duration::ZERO));
    b.send(1);
    b.send(2);
    assert_eq!(b.rx(64), (vec![], Rx::Drained));
    assert_eq!(b.port.next_deadline(), Some(b.at(20 * MS)));
    b.tx(3);
    assert_eq!(b.sent(), []);
    // The sooner one of both directions.
    assert_eq!(b.port.next_deadline(), Some(b.at(10 * MS)));
    let early = 10 * MS - Duration::from_nanos(1);
    assert!(!b.begin(early), "nothing was sent");
    assert_eq!(b.sent(), []);
    assert!(b.begin(10 * MS), "it was sent");
    assert_eq!(b.sent(), [3]);
    assert!(!b.port.has_due());
    assert_eq!(b.port.next_deadline(), Some(b.at(20 * MS)));
    b.begin(20 * MS);
    assert!(b.port.has_due());
    assert_eq!(b.rx(64), (vec![1, 2], Rx::Drained));
    assert!(!b.port.has_due());
    assert_eq!(b.port.next_deadline(), None);
}

/// What is due beyond a turn's budget is not forgotten when the device itself has nothing more.
#[test]
fn more_than_a_turn_may_take_is_taken_in_the_next() {
    let mut b = impaired(delayed(MS), Impairment::default());
    b.begin(Duration::ZERO);
    for tag in 0..5 {
        b.send(tag);
    }
    assert_eq!(b.rx(64), (vec![], Rx::Drained));
    b.begin(MS);
    assert_eq!(b.rx(2), (vec![0, 1], Rx::More));
    assert_eq!(b.rx(2), (vec![2, 3], Rx::More));
    assert_eq!(b.rx(2), (vec![4], Rx::Drained));
}

/// An empty pool is looked at again after a moment, not at once and for ever.
#[test]
fn what_is_due_waits_a_moment_for_a_free_frame() {
    let take_all =
        |b: &mut Bench| -> Vec<Frame> { std::iter::from_fn(|| b.pool.alloc()).collect() };
    let give_back = |b: &mut Bench, all: Vec<Frame>| {
        all.into_iter().for_each(|frame| b.pool.free(frame));
    };
    let mut b = impaired(delayed(MS), Impairment::default());
    b.begin(Duration::ZERO);
    b.send(1);
    b.rx(64);
    b.begin(MS);
    let all = take_all(&mut b);
    // The device is asked first, which an empty pool answers for.
    assert_eq!(b.rx(64).0, []);
    assert_eq!(b.port.next_deadline(), Some(b.at(MS + STARVED_WAIT)));
    give_back(&mut b, all);
    b.begin(MS + STARVED_WAIT);
    assert_eq!(b.rx(64).0, [1]);

    let mut b = impaired(Impairment::default(), delayed(MS));
    b.begin(Duration::ZERO);
    b.tx(1);
    let all = take_all(&mut b);
    assert!(!b.begin(MS));
    assert_eq!(b.port.next_deadline(), Some(b.at(MS + STARVED_WAIT)));
    give_back(&mut b, all);
    assert!(b.begin(MS + STARVED_WAIT));
    assert_eq!(b.sent(), [1]);
}

/// A breath may have begun long before a frame comes: its way begins when it comes.
#[test]
fn the_way_of_a_frame_does_not_begin_before_it_came() {
    let delay = Duration::from_secs(3600);
    for receives in [true, false] {
        let mut b = impaired(delayed(delay), delayed(delay));
        b.port.begin(Instant::ZERO, &mut b.pool).unwrap();
        let before = clock::monotonic();
        if receives {
            b.send(1);
            b.rx(64);
        } else {
            b.tx(1);
        }
        assert!(b.port.next_deadline().unwrap() >= before + delay);
    }
}

/// A capture stands at the device, as tcpdump does: it shows what is lost on the way in, and not what is lost on the way out.
#[test]
fn a_capture_sees_what_the_device_gives_and_gets() {
    let memory = ring::create(MIN_WORDS).unwrap();
    let mut reader = Reader::new(&memory, MIN_WORDS).unwrap();
    let bell = Doorbell::new().unwrap();
    let captures = Captures::default();
    let wanted = Begin {
        ring: memory,
        words: MIN_WORDS,
        bell: bell.as_fd().try_clone_to_owned().unwrap(),
        ports: Wanted::All,
        drops: false,
        filter: String::new(),
        snaplen: 0,
    };
    captures.begin(1, wanted).unwrap();
    let lost = Impairment {
        loss: Probability::ALWAYS,
        ..Impairment::default()
    };
    let layers = |impaired| Layers {
        probe: captures.probe(PortId(0)),
        impaired: Some(Box::new(impaired)),
    };
    let mut all_lost = bench(layers(Impaired::new(lost, lost)));
    all_lost.begin(Duration::ZERO);
    all_lost.send(1);
    assert_eq!(all_lost.rx(64).0, []);
    all_lost.tx(2);
    let late = delayed(MS);
    let mut late = bench(layers(Impaired::new(late, late)));
    late.begin(Duration::ZERO);
    late.send(3);
    late.rx(64);
    late.tx(4);
    let mut none = bench(Layers {
        impaired: None,
        ..layers(Impaired::new(lost, lost))
    });
    none.send(5);
    assert_eq!(none.rx(64).0, [5]);
    none.tx(6);
    // Only now does it go to the device.
    assert!(late.begin(MS));
    captures.flush();
    let (mut words, mut bytes, mut shown) = (Vec::new(), Vec::new(), Vec::new());
    while reader.pop(&mut words).unwrap() {
        if let Some(Record::Packet { bytes, .. }) = decode(&words, &mut bytes) {
            shown.push(bytes[0]);
        }
    }
    assert_eq!(shown, [1, 3, 5, 6, 4]);
}

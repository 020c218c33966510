//! Frames with something left to do, and with a tail.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, Ordering};

use super::*;

const PARTIAL: Offload = Offload {
    partial: Some(Partial {
        start: 34,
        offset: 16,
    }),
    gso: Some(Gso {
        kind: GsoKind::TcpV4,
        size: 1448,
        ecn: false,
    }),
};

#[derive(Debug, Default)]
struct Counting(AtomicU32);

impl TailStore for Counting {
    fn read(&self, index: u32, at: usize, out: &mut [u8]) {
        for (n, byte) in out.iter_mut().enumerate() {
            *byte = u8::try_from(index as usize + at + n).unwrap();
        }
    }

    fn release(&self, _: u32) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn filled(pool: &mut FramePool) -> Frame {
    let mut frame = pool.alloc().unwrap();
    assert!(frame.fill(&[7; 100]));
    frame
}

#[test]
fn what_is_left_to_do_stays_with_its_bytes_when_headers_come_and_go() {
    let mut pool = FramePool::new(1);
    let mut frame = filled(&mut pool);
    assert_eq!(frame.offload(), Offload::NONE);
    frame.set_offload(PARTIAL);
    assert_eq!(frame.offload(), PARTIAL);
    assert!(frame.push_front(20));
    assert_eq!(frame.offload().partial.unwrap().start, 54);
    assert!(frame.pull_front(34));
    assert_eq!(frame.offload().partial.unwrap().start, 20);
    pool.free(frame);
    assert_eq!(pool.alloc().unwrap().offload(), Offload::NONE);
}

#[test]
fn a_tail_counts_and_is_read_behind_the_head() {
    let mut pool = FramePool::new(1);
    let mut frame = filled(&mut pool);
    frame.set_tail(Tail::on_heap(&[1, 2, 3]));
    assert_eq!(
        (frame.len(), frame.head_len(), frame.bytes().len()),
        (103, 100, 100)
    );
    let mut out = [9; 6];
    frame.read(98, &mut out);
    assert_eq!(out, [7, 7, 1, 2, 3, 0]);
    frame.read(101, &mut out[..2]);
    assert_eq!(out[..2], [2, 3]);
    frame.read(200, &mut out);
    assert_eq!(out, [0; 6]);
    pool.free(frame);
}

#[test]
fn a_tail_goes_back_to_its_store_once_whatever_becomes_of_the_frame() {
    let store = Arc::new(Counting::default());
    let released = || store.0.load(Ordering::Relaxed);
    let tail = || Tail::new(store.clone(), 3, 10);
    let mut pool = FramePool::new(2);

    let mut frame = filled(&mut pool);
    frame.set_tail(tail());
    frame.set_tail(tail());
    assert_eq!(released(), 1, "replaced");
    assert!(frame.fill(&[1]));
    assert_eq!((released(), frame.len()), (2, 1), "overwritten");
    frame.set_tail(tail());
    pool.free(frame);
    assert_eq!(released(), 3, "freed");

    let mut frame = filled(&mut pool);
    frame.set_tail(tail());
    let mut taken = frame.take_tail().unwrap();
    assert_eq!((frame.len(), taken.index()), (100, 3));
    taken.truncate(4);
    let mut out = [9; 6];
    taken.read(1, &mut out);
    assert_eq!(out, [4, 5, 6, 0, 0, 0]);
    drop(taken);
    assert_eq!(released(), 4, "taken");
    frame.set_tail(tail());
    let mut copy = filled(&mut pool);
    copy.copy_from(&frame);
    assert_eq!((copy.len(), copy.offload()), (100, Offload::NONE));
    for frame in [frame, copy] {
        pool.free(frame);
    }
    assert_eq!((released(), pool.missing()), (5, 0));
    let kept: Vec<Frame> = core::iter::from_fn(|| pool.alloc()).collect();
    assert!(kept.iter().all(|f| f.tail().is_none()));
}

#[test]
fn the_first_frames_of_a_batch_leave_by_their_ports_behind_what_left_before() {
    for (n, left) in [(0, 3), (2, 1), (3, 0), (9, 0)] {
        let mut pool = FramePool::new(4);
        let mut tx = TxBatch::new(4);
        let mut batch = Batch::new();
        let mut frames = (1..=3_u8).map(|byte| {
            let mut frame = pool.alloc().unwrap();
            assert!(frame.fill(&[byte]));
            frame
        });
        batch.fill_from(&mut frames);
        drop(frames);
        let mut before = pool.alloc().unwrap();
        assert!(before.fill(&[0]));
        tx.push(PortId(9), before);
        // In two parts, as they become known.
        let ports: Vec<PortId> = (1..=n).map(PortId).collect();
        let (first, more) = ports.split_at(ports.len() / 2);
        tx.name_ports(first);
        tx.name_ports(more);
        tx.take_named(&mut batch);
        let sent: Vec<_> = tx.iter().map(|(p, f)| (p.0, f.bytes()[0])).collect();
        let all = [(9, 0), (1, 1), (2, 2), (3, 3)];
        assert_eq!(sent, all[..4 - left]);
        let rest: Vec<_> = batch.as_slice().iter().map(|f| f.bytes()[0]).collect();
        assert_eq!(rest, (1..=3).collect::<Vec<u8>>()[3 - left..]);
        batch.free_all(&mut pool);
        tx.free_all(&mut pool);
        assert!(tx.is_empty() && pool.missing() == 0);
    }
}

#[test]
fn what_was_sent_is_handed_to_a_batch_as_far_as_it_has_room() {
    for (there, handed) in [
        (0, 5),
        (BATCH_MAX - 5, 5),
        (BATCH_MAX - 2, 2),
        (BATCH_MAX, 0),
    ] {
        let mut pool = FramePool::new(BATCH_MAX + 5);
        let mut batch = Batch::new();
        batch.fill_from(&mut core::iter::from_fn(|| pool.alloc()).take(there));
        let mut tx = TxBatch::new(5);
        for byte in 1..=5 {
            let mut frame = pool.alloc().unwrap();
            assert!(frame.fill(&[byte]));
            tx.push(PortId(byte.into()), frame);
        }
        tx.hand_to(&mut batch);
        let got: Vec<u8> = batch.as_slice()[there..]
            .iter()
            .map(|f| f.bytes()[0])
            .collect();
        let left: Vec<_> = tx.iter().map(|(p, f)| (p.0, f.bytes()[0])).collect();
        let all = [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)];
        assert_eq!(got, [1, 2, 3, 4, 5][..handed]);
        assert_eq!(left, all[handed..]);
        batch.free_all(&mut pool);
        tx.free_all(&mut pool);
    }
}

#[test]
fn a_batch_takes_no_more_frames_than_there_is_room_for() {
    let mut pool = FramePool::new(BATCH_MAX + 5);
    let all: Vec<Frame> = core::iter::from_fn(|| pool.alloc()).collect();
    let mut all = all.into_iter();
    let mut batch = Batch::new();
    batch.fill_from(&mut all.by_ref().take(3));
    batch.fill_from(&mut all);
    assert_eq!((batch.len(), all.len()), (BATCH_MAX, 5));
    all.for_each(|frame| pool.free(frame));
    batch.free_all(&mut pool);
    assert_eq!(pool.missing(), 0);
}

#[test]
fn a_frame_is_trimmed_as_it_is_truncated_and_tells_its_length() {
    let mut pool = FramePool::new(1);
    for (len, has_tail) in [
        (40, false),
        (100, false),
        (200, false),
        (40, true),
        (102, true),
        (200, true),
    ] {
        let mut frame = filled(&mut pool);
        if has_tail {
            frame.set_tail(Tail::on_heap(&[1, 2, 3]));
        }
        let had = frame.len();
        assert_eq!(frame.trim(len), had);
        assert_eq!(frame.len(), len.min(had));
        pool.free(frame);
    }
}

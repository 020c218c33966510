#[cfg(not(loom))]
mod threads;

use proptest::prelude::*;
use std::collections::VecDeque;

use super::*;
use crate::cells::heap::Heap;

impl Region for Heap {
    const SLOTS: usize = 4;
    const SLOT_CELLS: usize = 256;
}

/// A region that both ends can reach, and the test too.
fn region() -> Heap {
    let heap = Heap::new(region_cells(Heap::SLOTS, Heap::SLOT_CELLS));
    heap.set(MAGIC_CELL, MAGIC);
    heap
}

type HeapEnd = End<Heap, Heap>;

fn pair() -> (HeapEnd, HeapEnd, [Heap; 2]) {
    let (a, b) = (region(), region());
    let ends = (
        End::new(a.clone(), b.clone()).unwrap(),
        End::new(b.clone(), a.clone()).unwrap(),
    );
    (ends.0, ends.1, [a, b])
}

fn pop(end: &mut HeapEnd) -> Result<Option<Vec<u8>>, Corrupt> {
    let mut buffer = [0xa5; MAX_FRAME];
    let len = end.pop(&mut buffer)?.map(|(len, _)| len);
    if let Some(len) = len {
        assert!(
            buffer[len..].iter().all(|&b| b == 0xa5),
            "wrote past the frame"
        );
    }
    Ok(len.map(|len| buffer[..len].to_vec()))
}

#[test]
fn every_length_passes_unchanged() {
    let (mut a, mut b, _) = pair();
    for len in ETHERNET_HEADER..=MAX_FRAME {
        let frame: Vec<u8> = (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect();
        a.push(&frame, Meta::default()).unwrap();
        assert_eq!(pop(&mut b).unwrap(), Some(frame));
        b.release();
    }
    for len in [0, 13, MAX_FRAME + 1] {
        assert_eq!(a.push(&vec![0; len], Meta::default()), Err(PushError::Size));
    }
    assert_eq!(pop(&mut b).unwrap(), None);
}

#[test]
fn a_mark_goes_with_its_frame_and_one_that_no_frame_has_is_a_violation() {
    let (mut a, mut b, _) = pair();
    let mut buffer = [0; MAX_FRAME];
    for mark in [Mark::NONE, Mark::new(1), Mark::new(255).answer()] {
        let meta = Meta {
            mark,
            ..Meta::default()
        };
        a.push(&[0; 60], meta).unwrap();
        assert_eq!(b.pop(&mut buffer), Ok(Some((60, meta))));
        b.release();
    }
    for (descriptor, error) in [
        (60 | 0x0300 << MARK_SHIFT, Corrupt::Mark),
        (60 | 1 << 49, Corrupt::Offload),
        (60 | 1 << 63, Corrupt::Offload),
        (60 | 4 << SLOT_SHIFT, Corrupt::Slot),
        (60 | 0xffff << SLOT_SHIFT, Corrupt::Slot),
    ] {
        let (mut a, mut b, [region, _]) = pair();
        a.push(&[0; 60], Meta::default()).unwrap();
        region.set(DESCRIPTORS, descriptor);
        assert_eq!(b.pop(&mut buffer), Err(error));
    }
}

/// The head of an IPv4 frame of 60 bytes.
fn head() -> [u8; 60] {
    let mut head = [0; 60];
    head[12] = 8;
    head
}

fn superframe(index: u32, len: u32) -> Meta {
    Meta {
        mark: Mark::NONE,
        offload: Offload {
            partial: Some(Partial {
                start: 34,
                offset: 16,
            }),
            gso: Some(Gso {
                kind: GsoKind::TcpV4,
                size: 1448,
                ecn: true,
            }),
        },
        tail: Some(TailRef { index, len }),
    }
}

#[test]
fn what_is_left_to_do_and_the_tail_go_with_a_frame() {
    let (mut a, mut b, _) = pair();
    let mut buffer = [0; MAX_FRAME];
    let all = superframe(63, 65_536);
    let partial = Meta {
        offload: Offload {
            gso: None,
            ..all.offload
        },
        tail: None,
        ..all
    };
    for meta in [all, superframe(0, 1), partial, Meta::default()] {
        a.push(&head(), meta).unwrap();
        assert_eq!(b.pop(&mut buffer), Ok(Some((60, meta))));
        assert_eq!(buffer[..60], head());
        b.release();
    }
}

#[test]
fn what_cannot_be_left_to_do_or_lent_is_corrupt() {
    let good = pack_offload(superframe(0, 1).offload);
    let rows = [
        (good | 1 << 52, 0, Corrupt::Offload),
        (good & !PARTIAL, 0, Corrupt::Offload),
        (good | 0xffff, 0, Corrupt::Offload),
        (good & !(0xffff << SIZE_SHIFT), 0, Corrupt::Offload),
        (good | 3 << KIND_SHIFT, 0, Corrupt::Offload),
        (good & !(3 << KIND_SHIFT), 1, Corrupt::Tail),
        (0, 1, Corrupt::Tail),
        (good, 65_537, Corrupt::Tail),
        (good, 1 << TAIL_SHIFT, Corrupt::Tail),
        (good, 1 | 64 << TAIL_SHIFT, Corrupt::Tail),
        (good, u64::MAX, Corrupt::Tail),
    ];
    for (offload, tail, error) in rows {
        let (mut a, mut b, [region, _]) = pair();
        a.push(&head(), superframe(0, 1)).unwrap();
        let slot = HeapEnd::slot(0).start;
        region.set(slot, offload);
        region.set(slot + 1, tail);
        let got = b.pop(&mut [0; MAX_FRAME]);
        assert_eq!(got, Err(error), "{offload:x} {tail:x}");
    }
}

#[test]
fn returned_tails_are_told_until_the_region_is_closed() {
    let (a, b, [_, region]) = pair();
    assert_eq!(returned(a.peer()), Some(0));
    give_back(&b.own, 0);
    give_back(&b.own, 63);
    assert_eq!(returned(a.peer()), Some(1 | 1 << 63));
    give_back(&b.own, 0);
    give_back(&b.own, 64);
    assert_eq!(returned(a.peer()), Some(1 << 63));
    region.set(CLOSED, 1);
    assert_eq!(returned(a.peer()), None);
}

/// A link on which little is under way uses the same little memory for ever.
#[test]
fn slots_are_used_again_before_new_ones_are() {
    let (mut a, mut b, [region, _]) = pair();
    for _ in 0..20 {
        for _ in 0..2 {
            a.push(&[1; 60], Meta::default()).unwrap();
        }
        assert!(!a.flush());
        while pop(&mut b).unwrap().is_some() {}
        b.release();
    }
    let used = |slot: u16| {
        let cells = &region.0[HeapEnd::slot(slot)];
        cells.iter().any(|c| c.load(Ordering::Relaxed) != 0)
    };
    assert_eq!([0, 1, 2, 3].map(used), [true, true, false, false]);
}

#[test]
fn a_full_ring_takes_no_more_until_slots_are_released() {
    let (mut a, mut b, _) = pair();
    for tag in 0..4 {
        a.push(&[tag; 60], Meta::default()).unwrap();
    }
    assert_eq!(a.push(&[9; 60], Meta::default()), Err(PushError::Full));
    assert_eq!(pop(&mut b).unwrap(), Some(vec![0; 60]));
    assert_eq!(
        a.push(&[9; 60], Meta::default()),
        Err(PushError::Full),
        "taken but not released"
    );
    b.release();
    a.push(&[4; 60], Meta::default()).unwrap();
    assert_eq!(a.push(&[9; 60], Meta::default()), Err(PushError::Full));
    for tag in 1..=4 {
        assert_eq!(pop(&mut b).unwrap(), Some(vec![tag; 60]));
    }
    assert_eq!((b.waiting(), b.has_frames()), (0, false));
}

#[test]
fn the_bell_is_rung_once_per_sleep_and_never_for_one_awake() {
    let (mut a, mut b, _) = pair();
    a.push(&[0; 60], Meta::default()).unwrap();
    assert!(!a.flush(), "awake");
    b.announce_sleep();
    assert!(
        b.has_frames(),
        "what came before the announcement is seen after it"
    );
    assert!(!a.flush(), "nothing new since the last flush");
    pop(&mut b).unwrap();
    a.push(&[0; 60], Meta::default()).unwrap();
    assert!(a.flush());
    a.push(&[0; 60], Meta::default()).unwrap();
    assert!(!a.flush(), "this sleep has been rung for");
    b.end_sleep();
    b.announce_sleep();
    a.push(&[0; 60], Meta::default()).unwrap();
    assert!(a.flush(), "another sleep");
}

#[test]
fn a_region_of_another_layout_is_refused() {
    let (good, other) = (region(), region());
    other.set(MAGIC_CELL, MAGIC + 1);
    assert_eq!(
        HeapEnd::new(good.clone(), other.clone()).unwrap_err(),
        Corrupt::Layout
    );
    assert_eq!(
        HeapEnd::new(other, good.clone()).unwrap_err(),
        Corrupt::Layout
    );
    let short = Heap(
        good.0
            .iter()
            .take(60)
            .map(|_| AtomicU64::new(MAGIC))
            .collect(),
    );
    assert_eq!(HeapEnd::new(good, short).unwrap_err(), Corrupt::Layout);
}

#[test]
fn more_frames_than_slots_are_corrupt() {
    for produced in [5, 6, u64::MAX, 1 << 63] {
        let (_a, mut b, [ra, _]) = pair();
        ra.set(PRODUCED, produced);
        assert_eq!(pop(&mut b), Err(Corrupt::Produced), "{produced}");
        assert!(b.waiting() <= 4);
    }
}

#[test]
fn a_count_that_goes_back_is_corrupt() {
    let (mut a, mut b, [ra, _]) = pair();
    a.push(&[0; 60], Meta::default()).unwrap();
    pop(&mut b).unwrap();
    ra.set(PRODUCED, 0);
    assert_eq!(pop(&mut b), Err(Corrupt::Produced));
}

#[test]
fn an_impossible_length_is_corrupt() {
    for len in [0, 13, MAX_FRAME as u64 + 1, 0xffff, 1 << 16, u64::MAX] {
        let (mut a, mut b, [ra, _]) = pair();
        a.push(&[0; 60], Meta::default()).unwrap();
        ra.set(DESCRIPTORS, len);
        assert_eq!(pop(&mut b), Err(Corrupt::Length), "{len}");
    }
}

#[test]
fn acknowledging_what_was_never_sent_or_taking_it_back_is_corrupt() {
    for consumed in [5, u64::MAX, 1 << 63] {
        let (mut a, _b, [_, rb]) = pair();
        for _ in 0..4 {
            a.push(&[0; 60], Meta::default()).unwrap();
        }
        rb.set(CONSUMED, consumed);
        let want = Err(PushError::Corrupt(Corrupt::Consumed));
        assert_eq!(a.push(&[0; 60], Meta::default()), want, "{consumed}");
    }
    let (mut a, mut b, [_, rb]) = pair();
    for _ in 0..6 {
        a.push(&[0; 60], Meta::default()).unwrap();
        pop(&mut b).unwrap();
        b.release();
    }
    for _ in 0..2 {
        a.push(&[0; 60], Meta::default()).unwrap();
    }
    rb.set(CONSUMED, 3);
    let want = Err(PushError::Corrupt(Corrupt::Consumed));
    assert_eq!(a.push(&[0; 60], Meta::default()), want);
}

#[derive(Clone, Debug)]
enum Op {
    Push(usize),
    Pop,
    Release,
    Flush,
    Announce,
    Wake,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (ETHERNET_HEADER..200).prop_map(Op::Push),
        3 => Just(Op::Pop),
        2 => Just(Op::Release),
        1 => Just(Op::Flush),
        1 => Just(Op::Announce),
        1 => Just(Op::Wake),
    ]
}

proptest! {
    /// The ring behaves as a queue of four whose places become free when they are released.
    #[test]
    fn the_ring_is_a_bounded_queue(ops in proptest::collection::vec(op(), 1..200)) {
        let (mut a, mut b, _) = pair();
        let mut queue = VecDeque::new();
        let (mut unreleased, mut tag) = (0, 0_u8);
        let (mut asleep, mut rung, mut unflushed) = (false, false, false);
        for op in ops {
            match op {
                Op::Push(len) => {
                    tag = tag.wrapping_add(1);
                    let frame = vec![tag; len];
                    if queue.len() + unreleased < 4 {
                        prop_assert_eq!(a.push(&frame, Meta::default()), Ok(()));
                        queue.push_back(frame);
                        unflushed = true;
                    } else {
                        prop_assert_eq!(a.push(&frame, Meta::default()), Err(PushError::Full));
                    }
                }
                Op::Pop => {
                    let got = pop(&mut b).unwrap();
                    unreleased += usize::from(got.is_some());
                    prop_assert_eq!(got, queue.pop_front());
                }
                Op::Release => {
                    b.release();
                    unreleased = 0;
                }
                Op::Flush => {
                    let rings = unflushed && asleep && !rung;
                    prop_assert_eq!(a.flush(), rings);
                    rung |= rings;
                    unflushed = false;
                }
                Op::Announce => {
                    b.announce_sleep();
                    rung &= asleep;
                    asleep = true;
                }
                Op::Wake => {
                    b.end_sleep();
                    asleep = false;
                }
            }
            prop_assert_eq!(b.has_frames(), !queue.is_empty());
            prop_assert_eq!(b.waiting(), queue.len() as u64);
        }
    }

    /// Whatever a peer writes wherever, an end neither panics nor delivers what no frame can be.
    #[test]
    fn a_hostile_peer_gets_nowhere(
        scribbles in proptest::collection::vec((0_usize..40, hostile_value(), 0_u8..6), 1..100),
    ) {
        let (mut a, _b, [_, rb]) = pair();
        // The descriptors, and what is left to do to the first frames, are as good a target as the counters.
        let slot = |n| HeapEnd::slot(n).start;
        let targets = [MAGIC_CELL, PRODUCED, CONSUMED, SLEEP, RETURNED, CLOSED, DESCRIPTORS,
            DESCRIPTORS + 1, DESCRIPTORS + 2, slot(0), slot(0) + 1, slot(1), slot(1) + 1];
        for (cell, value, call) in scribbles {
            rb.set(*targets.get(cell).unwrap_or(&cell), value);
            match call {
                0 => match a.push(&[1; 60], Meta::default()) {
                    Ok(()) | Err(PushError::Full | PushError::Corrupt(_)) => {}
                    Err(PushError::Size) => prop_assert!(false, "60 bytes are a frame"),
                },
                1 | 2 => {
                    if let Ok(Some(frame)) = pop(&mut a) {
                        prop_assert!((ETHERNET_HEADER..=MAX_FRAME).contains(&frame.len()));
                    }
                }
                3 => a.release(),
                4 => { let _ = a.flush(); }
                _ => {
                    a.announce_sleep();
                    a.end_sleep();
                }
            }
            prop_assert!(a.waiting() <= 4);
        }
    }
}

fn hostile_value() -> impl Strategy<Value = u64> {
    prop_oneof![
        0_u64..10,
        Just(60),
        Just(MAX_FRAME as u64),
        (0_u64..5).prop_map(|slot| 60 | slot << SLOT_SHIFT | OFFLOADED),
        Just(pack_offload(superframe(0, 1).offload)),
        Just(u64::MAX),
        Just(1 << 63),
        any::<u64>(),
    ]
}

//! Frames, their pool and lists of them, at the borders of what they hold.

use router_core::frame::{BATCH_MAX, Batch, Frame, FramePool, HEADROOM, MAX_FRAME, TxBatch};
use router_core::{Mark, PortId};

fn pool() -> FramePool {
    FramePool::new(BATCH_MAX + 1)
}

fn frame(pool: &mut FramePool, bytes: &[u8]) -> Frame {
    let mut frame = pool.alloc().expect("a frame is left");
    assert!(frame.fill(bytes));
    frame
}

#[test]
fn a_frame_holds_up_to_its_largest_and_says_so() {
    let mut pool = pool();
    let mut f = frame(&mut pool, &[7; 3]);
    assert!(!f.is_empty() && f.len() == 3);
    assert!(!f.fill(&[1; MAX_FRAME + 1]), "one byte too many");
    assert_eq!(f.bytes(), [7; 3], "and nothing has changed");
    assert!(f.fill(&[1; MAX_FRAME]) && f.len() == MAX_FRAME);
    f.set_len(5000);
    assert_eq!(f.len(), MAX_FRAME, "cut to the room");
    assert_eq!(
        format!("{f:?}"),
        format!("Frame({MAX_FRAME} bytes from PortId(65535))")
    );
    pool.free(f);
    let f = pool.alloc().unwrap();
    assert!(f.is_empty() && f.bytes().is_empty());
    pool.free(f);
}

#[test]
fn headers_are_put_in_front_while_there_is_headroom() {
    let mut pool = pool();
    let mut f = frame(&mut pool, &[7; 3]);
    assert!(f.push_front(HEADROOM));
    assert_eq!(f.len(), HEADROOM + 3);
    assert_eq!(f.bytes()[HEADROOM..], [7; 3]);
    assert!(!f.push_front(1) && f.len() == HEADROOM + 3);
    f.set_len(5000);
    assert_eq!(
        f.len(),
        HEADROOM + MAX_FRAME,
        "the room begins with the frame"
    );
    pool.free(f);
    let mut f = frame(&mut pool, &[7; 3]);
    assert!(!f.push_front(300) && f.len() == 3);
    pool.free(f);
}

#[test]
fn headers_are_taken_off_while_there_are_bytes() {
    let mut pool = pool();
    let mut f = frame(&mut pool, &[1, 2, 3]);
    assert!(!f.pull_front(4), "more than there is");
    assert!(f.pull_front(2));
    assert_eq!(f.bytes(), [3]);
    assert!(f.pull_front(1) && f.is_empty());
    pool.free(f);
    let mut f = frame(&mut pool, &[9; 400]);
    assert!(
        f.pull_front(191),
        "to the last place that a frame may begin at"
    );
    assert!(!f.pull_front(1) && f.len() == 209);
    pool.free(f);
}

#[test]
fn a_batch_takes_its_most_in_order_and_gives_the_rest_back() {
    let mut pool = pool();
    let mut batch = Batch::new();
    assert!(batch.is_empty() && batch.room() == BATCH_MAX);
    for n in 0..BATCH_MAX {
        let f = frame(&mut pool, &n.to_be_bytes());
        assert!(batch.push(f).is_ok());
        assert_eq!((batch.len(), batch.room()), (n + 1, BATCH_MAX - n - 1));
    }
    assert!(!batch.is_empty());
    let one_more = frame(&mut pool, b"more");
    let back = batch.push(one_more).expect_err("it is full");
    assert_eq!(back.bytes(), b"more");
    pool.free(back);
    for f in batch.as_mut_slice() {
        f.set_port(PortId(3));
    }
    for (n, f) in batch.as_slice().iter().enumerate() {
        assert_eq!((f.bytes(), f.port()), (&n.to_be_bytes()[..], PortId(3)));
    }
    batch.free_all(&mut pool);
    assert!(batch.is_empty() && pool.missing() == 0);
}

#[test]
fn what_leaves_is_listed_with_its_port_in_order() {
    let mut pool = pool();
    let mut tx = TxBatch::new(8);
    assert!(tx.is_empty());
    for n in 0..3_u8 {
        let f = frame(&mut pool, &[n]);
        tx.push(PortId(u16::from(n)), f);
    }
    assert_eq!((tx.len(), tx.is_empty()), (3, false));
    let listed: Vec<_> = tx.iter().map(|(p, f)| (p.0, f.bytes()[0])).collect();
    assert_eq!(listed, [(0, 0), (1, 1), (2, 2)]);
    tx.free_all(&mut pool);
    assert!(tx.is_empty() && pool.missing() == 0);
}

/// A pool never grows, whoever gives it frames.
#[test]
fn a_pool_takes_back_no_more_than_it_gave() {
    let (mut small, mut other) = (FramePool::new(1), FramePool::new(1));
    let stranger = other.alloc().unwrap();
    small.free(stranger);
    assert_eq!((small.available(), small.missing()), (1, 0));
    let own = small.alloc().unwrap();
    assert!(small.alloc().is_none());
    small.free(own);
    assert_eq!(small.available(), 1);
}

/// A piece or a copy has what the frame had that it comes from; a slot that was used before has nothing of that.
#[test]
fn copies_inherit_and_slots_forget() {
    let mut pool = pool();
    let mut f = frame(&mut pool, b"original");
    f.set_port(PortId(5));
    f.set_mark(Mark::new(2));
    f.set_cut();
    let mut copy = pool.alloc().unwrap();
    copy.copy_from(&f);
    assert_eq!(copy.bytes(), b"original");
    assert_eq!(
        (copy.port(), copy.mark(), copy.is_cut()),
        (PortId(5), Mark::new(2), true)
    );
    pool.free(f);
    let f = pool.alloc().unwrap();
    assert_eq!(
        (f.port(), f.mark(), f.is_cut()),
        (PortId(u16::MAX), Mark::NONE, false)
    );
    pool.free(f);
    pool.free(copy);
}

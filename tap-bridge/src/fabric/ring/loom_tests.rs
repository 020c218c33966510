//! The ring's protocol under every interleaving and every value that the memory model allows.
//!
//! loom doesn't let a load see a store that comes later, so the fences between reading a slot and giving it back
//! (`release`, and the acquire fence in `push`) rest on the argument in [`super`] alone.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test --profile loom -p tap-bridge --lib --target-dir target/loom -- loom`.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, fence};
use loom::thread;

use super::*;
use crate::cells::model::{Bell, Model};

/// Two slots of 16 bytes: enough for a ring to be full and to wrap.
impl Region for Model {
    const SLOTS: usize = 2;
    const SLOT_CELLS: usize = SLOT_HEADER + 8;
}

fn region() -> Model {
    let model = Model::new(region_cells(Model::SLOTS, Model::SLOT_CELLS));
    model.cells()[MAGIC_CELL].store(MAGIC, Ordering::Relaxed);
    model
}

fn pair() -> (End<Model, Model>, End<Model, Model>) {
    let (a, b) = (region(), region());
    (
        End::new(a.clone(), b.clone()).unwrap(),
        End::new(b, a).unwrap(),
    )
}

/// Frames arrive whole and in order; a sleeper is always woken (a lost wake-up is a deadlock, which loom reports).
#[test]
fn loom_no_frame_is_torn_or_slept_over() {
    loom::model(|| {
        let (mut tx, mut rx) = pair();
        let bell = Bell::new();
        let ring = bell.clone();
        let sender = thread::spawn(move || {
            for tag in 1..=2 {
                tx.push(&[tag; 14], Meta::default()).unwrap();
                if tx.flush() {
                    ring.ring();
                }
            }
        });
        let mut buffer = [0; 16];
        for tag in 1..=2 {
            loop {
                if let Some((len, _)) = rx.pop(&mut buffer).unwrap() {
                    assert_eq!(buffer[..len], [tag; 14]);
                    rx.release();
                    break;
                }
                rx.announce_sleep();
                fence(Ordering::SeqCst);
                if !rx.has_frames() {
                    bell.wait();
                }
                rx.end_sleep();
            }
        }
        sender.join().unwrap();
    });
}

/// A slot is not overwritten before it was read: with two slots, the third and fourth frame need the credit of the first.
#[test]
fn loom_no_slot_is_reused_before_it_is_released() {
    loom::model(|| {
        let (mut tx, mut rx) = pair();
        for tag in 1..=2 {
            tx.push(&[tag; 14], Meta::default()).unwrap();
        }
        let sender = thread::spawn(move || {
            // Whether there is room depends on the receiver; a frame that is refused is simply not sent.
            (3..=4)
                .filter(|&tag| tx.push(&[tag; 14], Meta::default()).is_ok())
                .count()
        });
        let mut buffer = [0; 16];
        let mut got = 0;
        for _ in 0..3 {
            if let Some((len, _)) = rx.pop(&mut buffer).unwrap() {
                got += 1;
                assert_eq!(len, 14);
                let tag = buffer[0];
                assert_eq!(buffer[..14], [tag; 14], "torn");
                assert!(
                    got <= 2 && tag == got || tag > 2,
                    "frame {tag} as number {got}"
                );
                rx.release();
            }
        }
        let sent = sender.join().unwrap();
        while rx.pop(&mut buffer).unwrap().is_some() {
            got += 1;
        }
        assert_eq!(usize::from(got), 2 + sent);
    });
}

/// A tail that was lent is what it was until it is returned, and its owner learns of that: it may write it again then and
/// no earlier.
#[test]
fn loom_a_lent_tail_stays_as_it_is_until_it_is_returned() {
    loom::model(|| {
        let (mut tx, rx) = pair();
        let tail = Arc::new(AtomicU64::new(0));
        tail.store(7, Ordering::Relaxed);
        let mut head = [0; 60];
        head[12] = 8;
        let meta = Meta {
            mark: Mark::NONE,
            offload: Offload {
                partial: Some(Partial {
                    start: 34,
                    offset: 16,
                }),
                gso: Some(Gso {
                    kind: GsoKind::TcpV4,
                    size: 1,
                    ecn: false,
                }),
            },
            tail: Some(TailRef { index: 5, len: 1 }),
        };
        let memory = Arc::clone(&tail);
        let receiver = thread::spawn(move || {
            let mut rx = rx;
            let mut buffer = [0; 64];
            let Some((_, meta)) = rx.pop(&mut buffer).unwrap() else {
                return false;
            };
            assert_eq!(meta.tail, Some(TailRef { index: 5, len: 1 }));
            assert_eq!(memory.load(Ordering::Relaxed), 7, "overwritten too early");
            give_back(&rx.own, 5);
            true
        });
        tx.push(&head, meta).unwrap();
        let back = returned(tx.peer()) == Some(1 << 5);
        if back {
            tail.store(8, Ordering::Relaxed);
        }
        let read = receiver.join().unwrap();
        assert!(read || !back, "returned by nobody");
        assert_eq!(returned(tx.peer()), Some(u64::from(read) << 5));
    });
}

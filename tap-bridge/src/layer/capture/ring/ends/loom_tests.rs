//! The capture's ring under every interleaving and every value that the memory model allows.
//!
//! loom doesn't let a load see a store that comes later, so the fences between reading words and giving their room back (the
//! release fence in `pop`, the acquire fences in `push` and `new`) are the thread sanitizer's to judge
//! (`ring/tests/threads.rs`).

use loom::sync::atomic::fence;
use loom::thread;

use super::*;
use crate::cells::model::{Bell, Model};

/// Room for so many words.
fn pair(words: usize) -> (WriteEnd<Model>, ReadEnd<Model>, Model) {
    let memory = Model::new(FIRST + words);
    (
        WriteEnd::new(memory.clone()),
        ReadEnd::new(memory.clone()),
        memory,
    )
}

/// A record of `len` words that can be told from all others, and a torn one from a whole one.
fn record(len: u64, tag: u64) -> impl Iterator<Item = u64> {
    (0..len).map(move |n| if n == 0 { len | tag << 32 } else { tag })
}

fn push(writer: &mut WriteEnd<Model>, len: u64, tag: u64) -> bool {
    writer.push(usize::try_from(len).unwrap(), record(len, tag))
}

/// Records arrive whole and in order; a reader that sleeps is woken (a lost wake-up is a deadlock, which loom reports).
#[test]
fn loom_no_record_is_torn_or_slept_over() {
    loom::model(|| {
        let (mut writer, mut reader, _) = pair(4);
        let bell = Bell::new();
        let ring = bell.clone();
        let writing = thread::spawn(move || {
            for tag in 1..=2 {
                assert!(push(&mut writer, 2, tag));
                if writer.flush() {
                    ring.ring();
                }
            }
        });
        let mut got = Vec::new();
        for tag in 1..=2 {
            while !reader.pop(&mut got).unwrap() {
                if reader.prepare_sleep() {
                    bell.wait();
                }
                reader.end_sleep();
            }
            assert!(got.iter().copied().eq(record(2, tag)), "{got:?} for {tag}");
        }
        writing.join().unwrap();
    });
}

/// A record is refused and counted, or finds room that was taken out: none is written over one that waits.
#[test]
fn loom_a_record_is_lost_or_finds_room() {
    loom::model(|| {
        let (mut writer, mut reader, _) = pair(3);
        assert!(push(&mut writer, 2, 1));
        let _ = writer.flush();
        let writing = thread::spawn(move || {
            let kept: Vec<u64> = (2..=3).filter(|&tag| push(&mut writer, 2, tag)).collect();
            let _ = writer.flush();
            kept
        });
        let mut got = Vec::new();
        let mut seen = Vec::new();
        for _ in 0..2 {
            if reader.pop(&mut got).unwrap() {
                assert!(got.iter().copied().eq(record(2, got[1])), "torn: {got:?}");
                seen.push(got[1]);
            }
        }
        let kept = writing.join().unwrap();
        while reader.pop(&mut got).unwrap() {
            seen.push(got[1]);
        }
        assert_eq!(seen[0], 1);
        assert_eq!(seen[1..], kept);
        assert_eq!(reader.lost(), 2 - kept.len() as u64);
    });
}

/// A writer that dies with a record unflushed leaves whole ones, and the next one goes on behind them.
#[test]
fn loom_another_writer_goes_on_where_one_died() {
    loom::model(|| {
        let (mut writer, mut reader, memory) = pair(3);
        let writing = thread::spawn(move || {
            assert!(push(&mut writer, 1, 1));
            let _ = writer.flush();
            assert!(push(&mut writer, 2, 2), "never to be seen");
            drop(writer);
            let mut next = WriteEnd::new(memory);
            assert!(push(&mut next, 1, 3));
            let _ = next.flush();
        });
        let mut got = Vec::new();
        let mut seen = Vec::new();
        for _ in 0..2 {
            if reader.pop(&mut got).unwrap() {
                seen.push(got.clone());
            }
        }
        writing.join().unwrap();
        // What the writer did comes before this, as its thread was joined.
        fence(Ordering::Acquire);
        while reader.pop(&mut got).unwrap() {
            seen.push(got.clone());
        }
        assert_eq!(seen, [vec![1 | 1 << 32], vec![1 | 3 << 32]]);
    });
}

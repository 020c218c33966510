//! The ring against a queue, and against ends that lie.

#[cfg(not(loom))]
mod threads;

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

fn pair() -> (Writer, Reader, OwnedFd) {
    let fd = create(MIN_WORDS).unwrap();
    let writer = Writer::new(&fd, MIN_WORDS).unwrap();
    let reader = Reader::new(&fd, MIN_WORDS).unwrap();
    (writer, reader, fd)
}

fn record(len: usize, tag: u64) -> Vec<u64> {
    let first = len as u64 | tag << 32;
    let rest = (1..len as u64).map(|n| tag.wrapping_mul(31).wrapping_add(n));
    [first].into_iter().chain(rest).collect()
}

fn push(writer: &mut Writer, words: &[u64]) -> bool {
    writer.push(words.len(), words.iter().copied())
}

#[derive(Clone, Debug)]
enum Op {
    Push(usize),
    Flush,
    Pop,
    /// The writer dies, what it had not flushed with it, and another one goes on.
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (1..=MAX_RECORD).prop_map(Op::Push),
        3 => Just(Op::Flush),
        4 => Just(Op::Pop),
        1 => Just(Op::Restart),
    ]
}

proptest! {
    /// Records come out as they went in, those without room are counted, and a new writer goes on behind an old one.
    #[test]
    fn it_is_a_bounded_queue(ops in prop::collection::vec(op(), 1..200)) {
        let (mut writer, mut reader, fd) = pair();
        let mut visible: VecDeque<Vec<u64>> = VecDeque::new();
        let mut pending: VecDeque<Vec<u64>> = VecDeque::new();
        let mut used = 0;
        let mut lost = 0;
        let mut got = Vec::new();
        for (tag, op) in ops.into_iter().enumerate() {
            match op {
                Op::Push(len) => {
                    let words = record(len, tag as u64);
                    let fits = used + len <= MIN_WORDS;
                    prop_assert_eq!(push(&mut writer, &words), fits);
                    if fits {
                        used += len;
                        pending.push_back(words);
                    } else {
                        lost += 1;
                    }
                }
                Op::Flush => {
                    let _ = writer.flush();
                    visible.append(&mut pending);
                }
                Op::Pop => {
                    prop_assert_eq!(reader.has_records(), !visible.is_empty());
                    let there = reader.pop(&mut got).unwrap();
                    let expected = visible.pop_front();
                    used -= expected.as_ref().map_or(0, Vec::len);
                    prop_assert_eq!(there.then_some(&got), expected.as_ref());
                }
                Op::Restart => {
                    writer = Writer::new(&fd, MIN_WORDS).unwrap();
                    used -= pending.drain(..).map(|words| words.len()).sum::<usize>();
                }
            }
            prop_assert_eq!(reader.lost(), lost);
        }
    }

    /// Whatever stands in the memory, the reader says what is wrong or gives a record that fits, and the writer writes
    /// or loses: neither leaves the memory or panics.
    #[test]
    fn rubbish_in_the_memory_harms_neither_end(
        cells in prop::collection::vec((0..FIRST + 64, any::<u64>()), 1..20),
        small in any::<bool>(),
    ) {
        let (mut writer, mut reader, fd) = pair();
        assert!(push(&mut writer, &record(5, 1)));
        let _ = writer.flush();
        let hostile = WriteMapping::new(&fd, FIRST + MIN_WORDS).unwrap();
        for (cell, value) in cells {
            let value = if small { value % (MIN_WORDS as u64 + 2) } else { value };
            hostile.cells()[cell].store(value, Ordering::Relaxed);
            let mut got = Vec::new();
            if reader.pop(&mut got) == Ok(true) {
                prop_assert!(!got.is_empty() && got.len() <= MAX_RECORD);
            }
            push(&mut writer, &record(100, 2));
            let _ = writer.flush();
        }
    }
}

#[test]
fn the_bell_is_rung_once_for_a_sleeping_reader_and_never_for_one_that_is_awake() {
    let (mut writer, mut reader, _fd) = pair();
    assert!(push(&mut writer, &record(3, 1)));
    assert!(!writer.flush(), "awake");
    assert!(!reader.prepare_sleep(), "a record is there");
    reader.end_sleep();
    assert!(reader.pop(&mut Vec::new()).unwrap());
    assert!(reader.prepare_sleep());
    assert!(!writer.flush(), "nothing new");
    assert!(push(&mut writer, &record(3, 2)));
    assert!(writer.flush(), "asleep");
    assert!(push(&mut writer, &record(3, 3)));
    assert!(!writer.flush(), "it rings already");
    reader.end_sleep();
    assert!(push(&mut writer, &record(3, 4)));
    assert!(!writer.flush(), "awake again");
}

#[test]
fn other_memory_is_refused() {
    assert!(create(MIN_WORDS - 1).is_err());
    let fd = create(MIN_WORDS).unwrap();
    assert!(Writer::new(&fd, MIN_WORDS + 1).is_err());
    assert!(Reader::new(&fd, 0).is_err());
    let blank = shm::create("podwire-test", FIRST + MIN_WORDS).unwrap();
    assert!(Reader::new(&blank, MIN_WORDS).is_err());
}

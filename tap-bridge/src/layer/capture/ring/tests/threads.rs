//! The ring between two threads. Under the thread sanitizer the words of records are plain memory, and their order is judged.

use std::thread;

use super::super::ends::{ReadEnd, WriteEnd};
use super::*;
use crate::cells::heap::Heap;
use crate::cells::{Cells as _, Load};

/// Records that are written, and room for a few of them, so that it is used again and again.
const RECORDS: u64 = 4_000;
const WORDS: usize = 61;

/// Length in words of the record with this number.
fn length(number: u64) -> usize {
    1 + usize::try_from(number % 17).unwrap()
}

/// Writes the records `numbers`, each once there is room for it.
fn write(memory: Heap, numbers: impl Iterator<Item = u64>) {
    let mut writer = WriteEnd::new(memory);
    for number in numbers {
        let words = record(length(number), number);
        while !writer.push(words.len(), words.iter().copied()) {
            thread::yield_now();
        }
        let _ = writer.flush();
    }
}

/// Reads the records from `first` to the last, each as it was written.
fn read(memory: Heap) {
    let mut reader = ReadEnd::new(memory);
    let mut got = Vec::new();
    for number in 0..RECORDS {
        while !reader.pop(&mut got).unwrap() {
            thread::yield_now();
        }
        assert_eq!(got, record(length(number), number));
    }
}

#[test]
fn records_pass_between_threads_in_order_and_whole() {
    let memory = Heap::new(FIRST + WORDS);
    let there = memory.clone();
    let writing = thread::spawn(move || write(there, 0..RECORDS));
    read(memory);
    writing.join().unwrap();
}

#[test]
fn a_writer_goes_on_where_another_has_ended_while_the_reader_reads() {
    let memory = Heap::new(FIRST + WORDS);
    let there = memory.clone();
    let reading = thread::spawn(move || read(there));
    for first in (0..RECORDS).step_by(5) {
        write(memory.clone(), first..RECORDS.min(first + 5));
    }
    reading.join().unwrap();
}

/// The first word of a new writer stands where the reader has read last, which it learns from nobody but the ring: here all
/// room is used up, and all of it is taken out before the next writer begins.
#[test]
fn the_threads_of_a_new_writer_and_of_the_reader_do_not_meet_in_a_word() {
    const ROUNDS: u64 = 50;
    const LEN: usize = 16;
    let memory = Heap::new(FIRST + 4 * LEN);
    let there = memory.clone();
    let reading = thread::spawn(move || {
        let mut reader = ReadEnd::new(there);
        let mut got = Vec::new();
        for number in 0..4 * ROUNDS {
            while !reader.pop(&mut got).unwrap() {
                thread::yield_now();
            }
            assert_eq!(got, record(LEN, number));
        }
    });
    for round in 0..ROUNDS {
        let mut writer = WriteEnd::new(memory.clone());
        for number in 4 * round..4 * (round + 1) {
            assert!(writer.push(LEN, record(LEN, number).into_iter()));
        }
        let _ = writer.flush();
        let all = (round + 1) * 4 * LEN as u64;
        while Load::load(&memory.cells()[TAKEN]) < all {
            thread::yield_now();
        }
    }
    reading.join().unwrap();
}

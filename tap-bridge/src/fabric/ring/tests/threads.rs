//! A link between two threads. Under the thread sanitizer slots, descriptors and tails are plain memory, and their order is
//! judged.

use std::thread;

use super::*;
use crate::cells::Load;

/// Frames in each direction.
const FRAMES: u64 = 3_000;

/// The frame with this number.
fn frame(number: u64) -> Vec<u8> {
    let len = ETHERNET_HEADER + usize::try_from(number * 37 % 300).unwrap();
    let mut frame = vec![number.to_le_bytes()[0]; len];
    frame[12] = 0;
    frame[..8].copy_from_slice(&number.to_le_bytes());
    frame
}

/// Sends and takes until all frames have gone and come. `release_after` frames are taken before their slots are given back.
fn exchange(mut end: HeapEnd, release_after: u64) {
    let (mut sent, mut got) = (0, 0);
    let mut buffer = [0; MAX_FRAME];
    while sent < FRAMES || got < FRAMES {
        let before = (sent, got);
        while sent < FRAMES {
            match end.push(&frame(sent), Meta::default()) {
                Ok(()) => sent += 1,
                Err(error) => {
                    assert_eq!(error, PushError::Full);
                    break;
                }
            }
        }
        let _ = end.flush();
        while let Some((len, meta)) = end.pop(&mut buffer).unwrap() {
            assert_eq!((&buffer[..len], meta), (&*frame(got), Meta::default()));
            got += 1;
            if got % release_after == 0 {
                end.release();
            }
        }
        end.release();
        if before == (sent, got) {
            thread::yield_now();
        }
    }
}

#[test]
fn frames_pass_between_threads_in_order_and_whole() {
    let (a, b, _) = pair();
    let there = thread::spawn(move || exchange(b, 1));
    exchange(a, 3);
    there.join().unwrap();
}

/// A tail is written again once it was returned, and no earlier; when its receiver is gone, all of them are back.
#[test]
fn tails_go_to_another_thread_and_come_back() {
    const TAIL: usize = 32;
    let (mut a, mut b, _) = pair();
    let memory = Heap::new(2 * TAIL);
    let there = memory.clone();
    let receiving = thread::spawn(move || {
        let mut buffer = [0; MAX_FRAME];
        for number in 0..FRAMES {
            let (_, meta) = loop {
                if let Some(got) = b.pop(&mut buffer).unwrap() {
                    break got;
                }
                thread::yield_now();
            };
            b.release();
            let tail = meta.tail.unwrap();
            let index = usize::try_from(tail.index).unwrap();
            let cells = &there.cells()[index * TAIL..][..TAIL];
            assert!(cells.iter().all(|cell| Load::load(cell) == number));
            give_back(&b.own, tail.index);
        }
    });
    let mut is_out = [false; 2];
    let mut seen = 0;
    for number in 0..FRAMES {
        let index = loop {
            let now = returned(a.peer()).unwrap();
            for (n, is_out) in is_out.iter_mut().enumerate() {
                *is_out &= (now ^ seen) >> n & 1 == 0;
            }
            seen = now;
            if let Some(index) = is_out.iter().position(|is_out| !is_out) {
                break index;
            }
            thread::yield_now();
        };
        is_out[index] = true;
        for cell in &memory.cells()[index * TAIL..][..TAIL] {
            cell.fill(number);
        }
        let meta = superframe(u32::try_from(index).unwrap(), 8 * 32);
        while a.push(&head(), meta) == Err(PushError::Full) {
            thread::yield_now();
        }
        let _ = a.flush();
    }
    receiving.join().unwrap();
}

/// A receiver that has gone has read what it had, and says so once.
#[test]
fn the_memory_of_tails_is_back_when_a_thread_that_had_them_is_gone() {
    for _ in 0..20 {
        let heap = region();
        let own = Own::new(heap.clone());
        let memory = Heap::new(32);
        for cell in memory.cells() {
            cell.fill(1);
        }
        let there = memory.clone();
        let receiving = thread::spawn(move || {
            assert!(there.cells().iter().all(|cell| Load::load(cell) == 1));
            drop(own);
        });
        while returned(&heap).is_some() {
            thread::yield_now();
        }
        for cell in memory.cells() {
            cell.fill(2);
        }
        receiving.join().unwrap();
    }
}

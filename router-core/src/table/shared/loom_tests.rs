//! The protocol between the writer and a reader alone, on the smallest table there is: one link to one of two parts. What
//! both routing tables do with it is [`lpm4`](crate::table::lpm4)'s and [`lpm6`](crate::table::lpm6)'s own models' to show.

use super::*;
use crate::sync::AtomicU32;
use crate::table::limbo::Limbo;

/// A link says which part is linked and for the how manieth time something is; so does each part, when it is.
struct Tiny {
    link: AtomicU32,
    parts: [AtomicU32; 2],
}

type Handle = Arc<Tiny>;

struct Writer {
    tiny: Handle,
    shared: Arc<Shared<Handle>>,
    limbo: Limbo<usize, Handle>,
    free: Vec<usize>,
    linked: usize,
    time: u32,
}

fn tiny(time: u32) -> Handle {
    Arc::new(Tiny {
        link: AtomicU32::new(time << 1),
        parts: [AtomicU32::new(time), AtomicU32::new(0)],
    })
}

impl Writer {
    fn new() -> Self {
        let tiny = tiny(0);
        let shared = Shared::new(Arc::clone(&tiny));
        Self {
            tiny,
            limbo: Limbo::new(Some(Arc::clone(&shared))),
            shared,
            free: alloc::vec![1],
            linked: 0,
            time: 0,
        }
    }

    /// Links a part that nobody can be in, if there is one, in place of the one that is linked.
    fn change(&mut self) {
        let Self { limbo, free, .. } = self;
        if free.is_empty() {
            limbo.turn(|part| free.push(part));
            limbo.turn(|part| free.push(part));
        }
        let Some(part) = free.pop() else { return };
        self.time += 1;
        self.tiny.parts[part].store(self.time, Ordering::Relaxed);
        let link = self.time << 1 | u32::try_from(part).unwrap();
        self.tiny.link.store(link, Ordering::Release);
        let before = core::mem::replace(&mut self.linked, part);
        limbo.add(before, |part| free.push(part));
    }
}

/// Follows the link: when it was linked.
fn follow(reader: &mut Reader<Handle>) -> u32 {
    let table = reader.table();
    let link = table.link.load(Ordering::Acquire);
    let part = usize::from(link & 1 == 1);
    let time = table.parts[part].load(Ordering::Relaxed);
    assert_eq!(time, link >> 1, "a part that is used for something else");
    time
}

#[test]
fn loom_nobody_is_in_a_part_that_is_used_again() {
    loom::model(|| {
        let mut writer = Writer::new();
        let mut reader = writer.shared.reader();
        let reading = loom::thread::spawn(move || {
            let first = follow(&mut reader);
            assert!(follow(&mut reader) >= first);
        });
        for _ in 0..3 {
            writer.change();
        }
        reading.join().unwrap();
    });
}

#[test]
fn loom_a_reader_that_rested_is_waited_for_again() {
    loom::model(|| {
        let mut writer = Writer::new();
        let mut reader = writer.shared.reader();
        let reading = loom::thread::spawn(move || {
            reader.rest();
            follow(&mut reader);
        });
        for _ in 0..3 {
            writer.change();
        }
        reading.join().unwrap();
    });
}

#[test]
fn loom_a_published_table_is_whole() {
    loom::model(|| {
        let writer = Writer::new();
        let mut reader = writer.shared.reader();
        let reading = loom::thread::spawn(move || {
            let first = follow(&mut reader);
            let second = follow(&mut reader);
            assert!(first == 0 || second == 9, "{second} after {first}");
            reader
        });
        writer.shared.publish(tiny(9));
        assert_eq!(follow(&mut reading.join().unwrap()), 9);
    });
}

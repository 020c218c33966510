//! The wake-up between workers under every interleaving and every value that the memory model allows. A lost one is a deadlock,
//! which loom reports.

use loom::thread;

use super::*;
use crate::cells::model::Bell;

/// Somebody who puts things down, one after the other.
struct Giver {
    places: Vec<Arc<AtomicU64>>,
    watch: Watch,
    bell: Bell,
}

impl Giver {
    fn give(mut self) {
        for place in self.places {
            place.store(1, Ordering::Relaxed);
            Watch::before_rousing();
            if self.watch.rouse() {
                self.bell.ring();
            }
        }
    }
}

/// Sleeps until all of `givers` have put down so many things each, and then some more come.
fn sleep_until_all_is_there(givers: &[usize]) {
    let mut nap = Nap::default();
    let bell = Bell::new();
    let mut places = Vec::new();
    let mut threads = Vec::new();
    for &things in givers {
        let of_one: Vec<_> = (0..things).map(|_| Arc::new(AtomicU64::new(0))).collect();
        places.extend(of_one.iter().cloned());
        let giver = Giver {
            places: of_one,
            watch: nap.watch(),
            bell: bell.clone(),
        };
        threads.push(thread::spawn(move || giver.give()));
    }
    let there = || {
        places
            .iter()
            .filter(|p| p.load(Ordering::Relaxed) == 1)
            .count()
    };
    let mut found = there();
    while found < places.len() {
        nap.announce();
        if there() == found {
            bell.wait();
        }
        nap.end();
        found = there();
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn loom_what_one_sibling_puts_down_is_not_slept_over() {
    loom::model(|| sleep_until_all_is_there(&[2]));
}

/// Both see the same sleep, and each calls the waker for it.
#[test]
fn loom_what_two_siblings_put_down_is_not_slept_over() {
    loom::model(|| sleep_until_all_is_there(&[1, 1]));
}

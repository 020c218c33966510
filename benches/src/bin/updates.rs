//! Updates of routing tables one by one: how many a second, and how long the longest takes.
//!
//! `cargo run --release -p benches --bin updates -- [COUNT [TABLE]]` takes a prefix at random out of a table (`ipv4/cluster`
//! and so on; all of them) and puts it back, until COUNT updates (a million) are made, without readers and beside one that
//! looks up all the time. Then every prefix goes and comes, so that the table shrinks to nothing and grows again.
//!
//! Wall time: other work on the machine shows up in the longest.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use benches::Random;
use benches::family::{Lpm, Routes};
use benches::routes::Mix;
use router_core::table::NextHop;
use router_core::table::lpm4::Lpm4;
use router_core::table::lpm6::Lpm6;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let count = arguments.next().map_or(Ok(1_000_000), |n| n.parse())?;
    let wanted = arguments.next();
    let is_wanted = |name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
    println!(
        "{:<32} {:>10} {:>10} {:>10} {:>10}",
        "", "M/s", "99.9 %", "99.999 %", "longest"
    );
    family::<Lpm4>(is_wanted, count);
    family::<Lpm6>(is_wanted, count);
    Ok(())
}

fn family<T: Lpm>(is_wanted: impl Fn(&str) -> bool, count: usize) {
    for (table, routes) in T::tables() {
        let name = format!("{}/{table}", T::FAMILY);
        if is_wanted(&name) {
            all::<T>(&name, routes(), count);
        }
    }
}

fn all<T: Lpm>(name: &str, routes: Routes<T>, count: usize) {
    let routes = match routes {
        Ok(routes) => routes,
        Err(reason) => return println!("SKIPPED {name}: {reason}"),
    };
    let mut table = T::of(&routes);
    report(&format!("{name}/alone"), pairs(&mut table, &routes, count));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut reader = table.reader();
        let done = &done;
        let asked = T::destinations(Mix::Rand, &routes, 1 << 16);
        scope.spawn(move || {
            let mut hops = [0; 64];
            for asked in asked.chunks(hops.len()).cycle() {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                T::read(&mut reader, asked, &mut hops);
                std::hint::black_box(&hops);
            }
        });
        let times = pairs(&mut table, &routes, count);
        done.store(true, Ordering::Relaxed);
        report(&format!("{name}/beside a reader"), times);
    });
    report(
        &format!("{name}/gone"),
        times(&routes, |&(net, _)| {
            table.remove(net);
        }),
    );
    report(
        &format!("{name}/back"),
        times(&routes, |&(net, hop)| {
            table.insert(net, hop);
        }),
    );
}

/// How long each of so many updates takes: one prefix after the other goes and comes back.
fn pairs<T: Lpm>(table: &mut T, routes: &[(T::Net, NextHop)], count: usize) -> Vec<Duration> {
    let mut random = Random(7);
    let drawn: Vec<_> = (0..count / 2)
        .map(|_| routes[random.next_u32() as usize % routes.len()])
        .collect();
    let mut all = Vec::with_capacity(count);
    let mut last = Instant::now();
    let mut lap = || {
        let now = Instant::now();
        now.duration_since(core::mem::replace(&mut last, now))
    };
    for (net, hop) in drawn {
        table.remove(net);
        all.push(lap());
        table.insert(net, hop);
        all.push(lap());
    }
    all
}

fn times<T>(items: &[T], mut update: impl FnMut(&T)) -> Vec<Duration> {
    let mut last = Instant::now();
    let lap = |item| {
        update(item);
        let now = Instant::now();
        now.duration_since(core::mem::replace(&mut last, now))
    };
    items.iter().map(lap).collect()
}

fn report(name: &str, mut times: Vec<Duration>) {
    let all: Duration = times.iter().sum();
    times.sort_unstable();
    // All but one in so many.
    let but = |one_in: usize| times[times.len() - 1 - (times.len() - 1) / one_in];
    println!(
        "{name:<32} {:>10.2} {:>10.1?} {:>10.1?} {:>10.1?}",
        times.len() as f64 / all.as_secs_f64() / 1e6,
        but(1_000),
        but(100_000),
        but(usize::MAX),
    );
}

//! Longest prefix match on two tables of each family and eight mixes of destinations, beside the crates that do the same.
//!
//! Ids are `lpm/<mix>/<table>/<who>` for IPv4 and `lpm6/..` for IPv6; `batch` are 64 addresses at a time, `batch-portable` the
//! same without vector instructions, `reader` what another thread than the writer has, `scalar` one look-up after the other.
//! Hits and misses are mixes of their own ([`Mix`]); what is found is compared. `update` are removals and insertions, one by
//! one, and `build` a whole table at once. How much memory the tables take is printed.

#[path = "../common/mod.rs"]
mod common;
mod peers;

use std::hint::black_box;
use std::time::Duration;

use benches::allocations;
use benches::family::Lpm;
use benches::routes::{Mix, measuring};
use common::Stage;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use router_core::arch::Kernel;
use router_core::table::lpm4::Lpm4;
use router_core::table::lpm6::Lpm6;
use router_core::table::{NO_ROUTE, NextHop};

use peers::{Lookup, Peers, Updates};

const BATCH: usize = 64;

/// More than the caches of a core remember of the large table; few where nothing is measured.
fn destinations() -> usize {
    if measuring() { 1 << 18 } else { 1 << 11 }
}

fn family<T: Lpm + Peers>(c: &mut Criterion) {
    // The small table alone where nothing is measured: unoptimized, some peers take many minutes for the large one.
    let count = if measuring() { 2 } else { 1 };
    for (table, routes) in T::tables().into_iter().take(count) {
        // Where the file is not, there is nothing to measure.
        let Ok(routes) = routes() else { continue };
        let name = |what: &str| format!("{}/{what}/{table}", T::NAME);
        let mut ours = T::of(&routes);
        let (cells, trie) = ours.memory();
        println!("{}: ours {cells} + {trie} bytes", name("memory"));
        let mut all = all::<T>(&routes, &name("memory"));
        lookups(c, name, &routes, &mut ours, &all);
        // As it is without readers.
        let mut ours = T::of(&routes);
        updates(c, &name("update"), &routes, &mut ours, &mut all);
        builds::<T>(c, &name("build"), &routes);
    }
}

/// What each crate makes of the routes, and how much memory it takes.
struct All<T: Peers> {
    prefix_trie: T::PrefixTrie,
    treebitmap: T::Treebitmap,
    poptrie: T::Poptrie,
    iptrie: T::IpTrie,
    iptrie_radix: T::IpTrieRadix,
}

fn all<T: Lpm + Peers>(routes: &[(T::Net, NextHop)], name: &str) -> All<T> {
    fn made<T: Lpm, P: Lookup<T>>(routes: &[(T::Net, NextHop)], name: &str) -> P {
        let (bytes, peer) = allocations::kept(|| P::of(routes));
        println!("{name}: {} {bytes} bytes", P::NAME);
        peer
    }
    All {
        prefix_trie: made(routes, name),
        treebitmap: made(routes, name),
        poptrie: made(routes, name),
        iptrie: made(routes, name),
        iptrie_radix: made(routes, name),
    }
}

fn lookups<T: Lpm + Peers>(
    c: &mut Criterion,
    name: impl Fn(&str) -> String,
    routes: &[(T::Net, NextHop)],
    ours: &mut T,
    all: &All<T>,
) {
    fn peer<T: Lpm, P: Lookup<T>>(
        stage: &mut Stage<'_>,
        peer: &P,
        addresses: &[T::Addr],
        sum: u64,
    ) {
        let look_up = || -> u64 {
            let hops = addresses.iter().map(|&dst| peer.lookup(dst));
            hops.map(u64::from).sum()
        };
        assert_eq!(look_up(), sum, "{} finds the same", P::NAME);
        stage.measure(P::NAME, addresses.len(), look_up);
    }
    let mut reader = ours.reader();
    for mix in Mix::ALL {
        let bits = T::destinations(mix, routes, destinations());
        let addresses: Vec<T::Addr> = bits.iter().copied().map(T::addr).collect();
        let found = |hop: NextHop| if hop == NO_ROUTE { 0 } else { u64::from(hop) };
        let sum = bits.iter().map(|&dst| found(ours.lookup(dst))).sum();
        let mut stage = Stage::new(c, name(mix.name()));
        stage.ours("batch", bits.len(), || {
            batches::<T>(&bits, |bits, hops| ours.lookup_batch(bits, hops));
        });
        stage.ours("batch-portable", bits.len(), || {
            batches::<T>(&bits, |bits, hops| {
                ours.lookup_batch_by(Kernel::PORTABLE, bits, hops);
            });
        });
        stage.ours("reader", bits.len(), || {
            batches::<T>(&bits, |bits, hops| T::read(&mut reader, bits, hops));
        });
        stage.ours("scalar", bits.len(), || -> u64 {
            bits.iter().map(|&dst| u64::from(ours.lookup(dst))).sum()
        });
        peer(&mut stage, &all.prefix_trie, &addresses, sum);
        peer(&mut stage, &all.treebitmap, &addresses, sum);
        peer(&mut stage, &all.poptrie, &addresses, sum);
        peer(&mut stage, &all.iptrie, &addresses, sum);
        peer(&mut stage, &all.iptrie_radix, &addresses, sum);
    }
}

/// So many addresses at a time.
fn batches<T: Lpm>(bits: &[T::Bits], mut look_up: impl FnMut(&[T::Bits], &mut [NextHop])) {
    let mut hops = [0; BATCH];
    for bits in bits.chunks(BATCH) {
        look_up(bits, &mut hops);
        black_box(&mut hops);
    }
}

fn updates<T: Lpm + Peers>(
    c: &mut Criterion,
    name: &str,
    routes: &[(T::Net, NextHop)],
    ours: &mut T,
    all: &mut All<T>,
) {
    fn peer<T: Lpm, P: Lookup<T> + Updates<T>>(
        group: &mut BenchmarkGroup<'_, WallTime>,
        peer: &mut P,
        some: &[(T::Net, NextHop)],
    ) {
        group.bench_function(P::NAME, |b| {
            b.iter(|| some.iter().for_each(|&(net, hop)| peer.update(net, hop)));
        });
    }
    let count = if measuring() { 1_000 } else { 50 };
    let step = routes.len() / count;
    // Not in the order in which they were inserted.
    let some: Vec<_> = (0..count).map(|n| routes[n * 617 % count * step]).collect();
    let mut group = c.benchmark_group(name);
    // One removal and one insertion for each.
    group.throughput(Throughput::Elements(2 * count as u64));
    group.bench_function("ours", |b| {
        b.iter(|| {
            for &(net, hop) in &some {
                ours.remove(net);
                ours.insert(net, hop);
            }
        });
    });
    peer(&mut group, &mut all.prefix_trie, &some);
    peer(&mut group, &mut all.treebitmap, &some);
    peer(&mut group, &mut all.poptrie, &some);
    // Its compressed form takes none.
    peer(&mut group, &mut all.iptrie_radix, &some);
}

fn builds<T: Lpm + Peers>(c: &mut Criterion, name: &str, routes: &[(T::Net, NextHop)]) {
    fn peer<T: Lpm, P: Lookup<T>>(
        group: &mut BenchmarkGroup<'_, WallTime>,
        routes: &[(T::Net, NextHop)],
    ) {
        group.bench_function(P::NAME, |b| b.iter(|| P::of(routes)));
    }
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(routes.len() as u64));
    group.bench_function("ours", |b| b.iter(|| T::of(routes)));
    peer::<T, T::PrefixTrie>(&mut group, routes);
    peer::<T, T::Treebitmap>(&mut group, routes);
    peer::<T, T::Poptrie>(&mut group, routes);
    peer::<T, T::IpTrie>(&mut group, routes);
    peer::<T, T::IpTrieRadix>(&mut group, routes);
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300));
    targets = family::<Lpm4>, family::<Lpm6>
}
criterion_main!(benches);

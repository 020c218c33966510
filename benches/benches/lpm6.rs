//! Longest prefix match for IPv6 on two tables and eight mixes of destinations, beside the crates that do the same.
//!
//! Ids are `lpm6/<mix>/<table>/<who>`; `batch` is [`Lpm6::lookup_batch`] with 64 addresses, `batch-portable` the same without
//! vector instructions, `scalar` one look-up after the other. Hits and misses are mixes of their own
//! ([`Mix`](benches::routes::Mix)). Rates are look-ups (or updates) a second; how much memory the tables take is printed.

use core::net::Ipv6Addr;
use core::time::Duration;
use std::hint::black_box;

use benches::routes::{Mix, Table6};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ip_network_table_deps_treebitmap::IpLookupTable;
use ipnet::Ipv6Net;
use iptrie::map::{LCTrieMap, RTrieMap};
use poptrie::Poptrie;
use prefix_trie::PrefixMap;
use router_core::arch::Kernel;
use router_core::table::NextHop;
use router_core::table::lpm6::Lpm6;

/// More than the caches of a core remember of the large table.
const DESTINATIONS: usize = 1 << 18;
const BATCH: usize = 64;

struct Tables {
    ours: Lpm6,
    prefix_trie: PrefixMap<Ipv6Net, NextHop>,
    treebitmap: IpLookupTable<Ipv6Addr, NextHop>,
    iptrie: LCTrieMap<Ipv6Net, NextHop>,
    poptrie: Poptrie<(Ipv6Addr, u8), NextHop>,
}

impl Tables {
    fn new(routes: &[(Ipv6Net, NextHop)]) -> Self {
        let mut treebitmap = IpLookupTable::new();
        let mut poptrie = Poptrie::new();
        for (net, hop) in routes {
            treebitmap.insert(net.addr(), u32::from(net.prefix_len()), *hop);
            poptrie.insert((net.addr(), net.prefix_len()), *hop);
        }
        Self {
            ours: Lpm6::from_routes(routes.iter().copied()).expect("they fit"),
            prefix_trie: routes.iter().copied().collect(),
            treebitmap,
            iptrie: routes
                .iter()
                .copied()
                .collect::<RTrieMap<_, _>>()
                .compress(),
            poptrie,
        }
    }
}

/// Runs `lookup` over all destinations and gives the sum of its answers: what every table has to agree on.
fn sum(destinations: &[Ipv6Addr], lookup: impl Fn(Ipv6Addr) -> NextHop) -> u64 {
    destinations.iter().map(|&dst| u64::from(lookup(dst))).sum()
}

fn lpm6(c: &mut Criterion) {
    for table in Table6::of_this_run() {
        // Where the file is not, there is nothing to measure.
        let Ok(routes) = table.routes() else { continue };
        let mut tables = Tables::new(&routes);
        let (cells, trie) = tables.ours.memory();
        println!("lpm6/memory/{}: {cells} + {trie} bytes", table.name());
        lookups(c, table, &routes, &tables);
        updates(c, table, &routes, &mut tables);
        builds(c, table, &routes);
    }
}

fn lookups(c: &mut Criterion, table: Table6, routes: &[(Ipv6Net, NextHop)], tables: &Tables) {
    for mix in Mix::ALL {
        let bits = mix.destinations6(routes, DESTINATIONS);
        let addresses: Vec<Ipv6Addr> = bits.iter().copied().map(Ipv6Addr::from_bits).collect();
        let mut group = c.benchmark_group(format!("lpm6/{}/{}", mix.name(), table.name()));
        group.throughput(Throughput::Elements(DESTINATIONS.try_into().expect("fits")));
        group.bench_function("batch", |b| {
            let mut hops = [0; BATCH];
            b.iter(|| {
                for bits in bits.chunks(BATCH) {
                    tables.ours.lookup_batch(bits, &mut hops);
                    black_box(&mut hops);
                }
            });
        });
        group.bench_function("batch-portable", |b| {
            let mut hops = [0; BATCH];
            b.iter(|| {
                for bits in bits.chunks(BATCH) {
                    let ours = &tables.ours;
                    ours.lookup_batch_by(Kernel::PORTABLE, bits, &mut hops);
                    black_box(&mut hops);
                }
            });
        });
        group.bench_function("scalar", |b| {
            b.iter(|| sum(&addresses, |dst| tables.ours.lookup(dst)));
        });
        group.bench_function("prefix-trie", |b| {
            b.iter(|| {
                sum(&addresses, |dst| {
                    let hop = tables.prefix_trie.get_lpm(&Ipv6Net::from(dst));
                    hop.map_or(0, |(_, &hop)| hop)
                })
            });
        });
        group.bench_function("treebitmap", |b| {
            b.iter(|| {
                sum(&addresses, |dst| {
                    tables
                        .treebitmap
                        .longest_match(dst)
                        .map_or(0, |(_, _, &hop)| hop)
                })
            });
        });
        group.bench_function("poptrie", |b| {
            b.iter(|| {
                sum(&addresses, |dst| {
                    tables.poptrie.lookup(dst).map_or(0, |&hop| hop)
                })
            });
        });
        group.bench_function("iptrie", |b| {
            b.iter(|| sum(&addresses, |dst| *tables.iptrie.lookup(&dst).1));
        });
        group.finish();
    }
}

fn updates(c: &mut Criterion, table: Table6, routes: &[(Ipv6Net, NextHop)], tables: &mut Tables) {
    let step = routes.len() / 1_000;
    // Not in the order in which they were inserted.
    let some: Vec<_> = (0..1_000).map(|n| routes[n * 617 % 1_000 * step]).collect();
    let mut group = c.benchmark_group(format!("lpm6/update/{}", table.name()));
    // One removal and one insertion for each.
    group.throughput(Throughput::Elements(2_000));
    group.bench_function("ours", |b| {
        b.iter(|| {
            for &(net, hop) in &some {
                tables.ours.remove(net);
                tables.ours.insert(net, hop).expect("it was there");
            }
        });
    });
    group.bench_function("prefix-trie", |b| {
        b.iter(|| {
            for &(net, hop) in &some {
                tables.prefix_trie.remove(&net);
                tables.prefix_trie.insert(net, hop);
            }
        });
    });
    group.bench_function("treebitmap", |b| {
        b.iter(|| {
            for &(net, hop) in &some {
                let len = u32::from(net.prefix_len());
                tables.treebitmap.remove(net.addr(), len);
                tables.treebitmap.insert(net.addr(), len, hop);
            }
        });
    });
    group.finish();
}

fn builds(c: &mut Criterion, table: Table6, routes: &[(Ipv6Net, NextHop)]) {
    let mut group = c.benchmark_group(format!("lpm6/build/{}", table.name()));
    group.throughput(Throughput::Elements(routes.len().try_into().expect("fits")));
    group.bench_function("ours", |b| {
        b.iter(|| Lpm6::from_routes(routes.iter().copied()).expect("they fit"));
    });
    group.bench_function("prefix-trie", |b| {
        b.iter(|| routes.iter().copied().collect::<PrefixMap<_, _>>());
    });
    group.bench_function("treebitmap", |b| {
        b.iter(|| {
            let mut table = IpLookupTable::<Ipv6Addr, NextHop>::new();
            for &(net, hop) in routes {
                table.insert(net.addr(), net.prefix_len().into(), hop);
            }
            table
        });
    });
    group.bench_function("iptrie", |b| {
        b.iter(|| {
            let all = routes.iter().copied();
            all.collect::<RTrieMap<Ipv6Net, NextHop>>().compress()
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300));
    targets = lpm6
}
criterion_main!(benches);

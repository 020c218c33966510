//! Longest prefix match in the table of a node of a 5,000-node cluster: hits, misses, one at a time and in batches.

use std::hint::black_box;
use std::net::Ipv4Addr;

use benches::{Random, cluster_prefixes};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use router_core::table::lpm::Lpm;

const QUERIES: usize = 4096;

fn lpm(c: &mut Criterion) {
    let prefixes = cluster_prefixes();
    let table: Lpm<u32> = Lpm::from_routes((0_u32..).zip(&prefixes).map(|(i, net)| (*net, i)));
    let mut random = Random(1);
    let hits: Vec<Ipv4Addr> = (0..QUERIES)
        .map(|_| {
            let pick = usize::try_from(random.next_u32()).expect("32 bits fit") % prefixes.len();
            let net = prefixes[pick];
            let host = random.next_u32() & u32::from(net.hostmask());
            Ipv4Addr::from(u32::from(net.network()) | host)
        })
        .collect();
    // 192/3 holds nothing.
    let misses: Vec<Ipv4Addr> = (0..QUERIES)
        .map(|_| Ipv4Addr::from(0xc000_0000 | random.next_u32()))
        .collect();
    assert!(hits.iter().all(|a| table.lookup(*a).is_some()));
    assert!(misses.iter().all(|a| table.lookup(*a).is_none()));

    let mut group = c.benchmark_group("lpm");
    group.throughput(Throughput::Elements(QUERIES.try_into().expect("fits")));
    for (shape, queries) in [("hit", &hits), ("miss", &misses)] {
        group.bench_function(format!("{shape}/cluster-table"), |b| {
            b.iter(|| {
                for addr in queries {
                    black_box(table.lookup(*addr));
                }
            });
        });
        let mut out = vec![None; 64];
        group.bench_function(format!("{shape}-batch64/cluster-table"), |b| {
            b.iter(|| {
                for addrs in queries.chunks(64) {
                    table.lookup_batch(addrs, &mut out);
                    black_box(&out);
                }
            });
        });
    }
    group.bench_function("update/cluster-table", |b| {
        let mut table = table.clone();
        b.iter(|| {
            for net in &prefixes[..QUERIES] {
                let value = table.remove(*net).expect("it is there");
                table.insert(*net, value);
            }
        });
    });
    group.finish();
}

criterion_group!(benches, lpm);
criterion_main!(benches);

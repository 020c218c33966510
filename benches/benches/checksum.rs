//! The Internet checksum over a header and over whole packets, beside the usual crates, and the update of one word.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use router_core::wire::checksum::{self, Sum};

fn checksum(c: &mut Criterion) {
    let bytes: Vec<u8> = (0..=255).cycle().take(1500).collect();
    let mut group = c.benchmark_group("checksum");
    group.throughput(Throughput::Elements(1));
    for len in [20, 64, 1500] {
        let bytes = &bytes[..len];
        let ours = |bytes: &[u8]| Sum::new().add_bytes(bytes).finish();
        // No word is left out: there is none with this number.
        let pnet = |bytes: &[u8]| pnet::util::checksum(bytes, usize::MAX);
        let etherparse = |bytes: &[u8]| {
            let sum = etherparse::checksum::Sum16BitWords::new().add_slice(bytes);
            sum.ones_complement().to_be()
        };
        assert_eq!(ours(bytes), pnet(bytes), "the same sum");
        assert_eq!(ours(bytes), etherparse(bytes), "the same sum");
        group.bench_function(format!("sum/{len}B"), |b| b.iter(|| ours(black_box(bytes))));
        group.bench_function(format!("sum-pnet/{len}B"), |b| {
            b.iter(|| pnet(black_box(bytes)));
        });
        group.bench_function(format!("sum-etherparse/{len}B"), |b| {
            b.iter(|| etherparse(black_box(bytes)));
        });
    }
    group.bench_function("update/2B", |b| {
        b.iter(|| checksum::update(black_box(0x1234), black_box(0x4011), black_box(0x3f11)));
    });
    group.finish();
}

criterion_group!(benches, checksum);
criterion_main!(benches);

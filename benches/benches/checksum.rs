//! The Internet checksum over a header and over whole packets, and the update of one word.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use router_core::wire::checksum::{self, Sum};

fn checksum(c: &mut Criterion) {
    let bytes: Vec<u8> = (0..=255).cycle().take(1500).collect();
    let mut group = c.benchmark_group("checksum");
    group.throughput(Throughput::Elements(1));
    for len in [20, 64, 1500] {
        group.bench_function(format!("sum/{len}B"), |b| {
            b.iter(|| Sum::new().add_bytes(black_box(&bytes[..len])).finish());
        });
    }
    group.bench_function("update/2B", |b| {
        b.iter(|| checksum::update(black_box(0x1234), black_box(0x4011), black_box(0x3f11)));
    });
    group.finish();
}

criterion_group!(benches, checksum);
criterion_main!(benches);

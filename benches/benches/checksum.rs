//! The Internet checksum over a header and over whole packets, beside the usual crates, and the update of one word.

mod common;

use std::hint::black_box;

use common::Stage;
use criterion::{Criterion, criterion_group, criterion_main};
use router_core::wire::checksum::{self, Sum};

/// Sums of a round.
const SUMS: usize = 64;

fn sums(bytes: &[u8], sum: impl Fn(&[u8]) -> u16) {
    for _ in 0..SUMS {
        black_box(sum(black_box(bytes)));
    }
}

fn checksum(c: &mut Criterion) {
    let bytes: Vec<u8> = (0..=255).cycle().take(1500).collect();
    let mut stage = Stage::new(c, "checksum");
    for len in [20, 64, 1500] {
        let bytes = &bytes[..len];
        let ours = |bytes: &[u8]| Sum::new().add_bytes(bytes).finish();
        // No word is left out: there is none with this number.
        let pnet = |bytes: &[u8]| pnet::util::checksum(bytes, usize::MAX);
        let smoltcp = |bytes: &[u8]| !smoltcp::wire::checksum::data(bytes);
        let etherparse = |bytes: &[u8]| {
            let sum = etherparse::checksum::Sum16BitWords::new().add_slice(bytes);
            sum.ones_complement().to_be()
        };
        for theirs in [pnet(bytes), smoltcp(bytes), etherparse(bytes)] {
            assert_eq!(ours(bytes), theirs, "the same sum");
        }
        stage.ours(format!("sum/{len}B"), SUMS, || sums(bytes, ours));
        stage.measure(format!("sum-pnet/{len}B"), SUMS, || sums(bytes, pnet));
        stage.measure(format!("sum-smoltcp/{len}B"), SUMS, || sums(bytes, smoltcp));
        stage.measure(format!("sum-etherparse/{len}B"), SUMS, || {
            sums(bytes, etherparse);
        });
    }
    stage.ours("update/2B", SUMS, || {
        for _ in 0..SUMS {
            black_box(checksum::update(
                black_box(0x1234),
                black_box(0x4011),
                black_box(0x3f11),
            ));
        }
    });
}

criterion_group!(benches, checksum);
criterion_main!(benches);

//! How every loop is measured: nanoseconds of one packet (or look-up), packets a second, and allocations per packet.

use std::fmt::Display;
use std::hint::black_box;
use std::time::Instant;

use benches::allocations::{self, Counting};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A group of loops that do the same.
pub(crate) struct Stage<'a> {
    name: String,
    group: BenchmarkGroup<'a, WallTime>,
}

impl<'a> Stage<'a> {
    /// A group of this name.
    pub(crate) fn new(c: &'a mut Criterion, name: impl Into<String>) -> Self {
        let name = name.into();
        let mut group = c.benchmark_group(&name);
        group.throughput(Throughput::Elements(1));
        Self { name, group }
    }

    /// A loop of ours, a round of which takes so many packets.
    ///
    /// # Panics
    /// When a packet causes an allocation.
    pub(crate) fn ours<T>(&mut self, id: impl Display, packets: usize, round: impl FnMut() -> T) {
        let allocations = self.measure(&id, packets, round);
        assert_eq!(
            allocations, 0,
            "{}/{id}: a packet causes no allocation",
            self.name
        );
    }

    /// The same for anybody, who may allocate. Gives the allocations of a round that is not the first.
    pub(crate) fn measure<T>(
        &mut self,
        id: impl Display,
        packets: usize,
        mut round: impl FnMut() -> T,
    ) -> u64 {
        black_box(round());
        let allocations = allocations::of(|| {
            black_box(round());
        });
        println!(
            "{}/{id}: {} allocations per packet",
            self.name,
            allocations as f64 / packets as f64
        );
        // An iteration is one packet: whole rounds are run, and their time is divided.
        self.group.bench_function(id.to_string(), |b| {
            b.iter_custom(|wanted| {
                let rounds = wanted.div_ceil(packets as u64);
                let begin = Instant::now();
                for _ in 0..rounds {
                    black_box(round());
                }
                let part = wanted as f64 / (rounds * packets as u64) as f64;
                begin.elapsed().mul_f64(part)
            });
        });
        allocations
    }
}

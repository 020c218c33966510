//! The whole router, 256 frames in flight, copies into and out of the pool included: forwarding with one next hop and
//! with a thousand neighbours, ARP replies, echo replies.

use std::net::Ipv4Addr;

use benches::{Node, arp_request, udp_frame};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const IN_FLIGHT: u32 = 256;

/// Destinations in different podCIDRs.
fn spread(len: usize) -> Vec<Vec<u8>> {
    (0..IN_FLIGHT)
        .map(|i| udp_frame(Ipv4Addr::from(0x0a00_0007 + ((i * 19) << 8)), len))
        .collect()
}

fn router(c: &mut Criterion) {
    let mut group = c.benchmark_group("forward");
    group.throughput(Throughput::Elements(IN_FLIGHT.into()));
    for (shape, next_hops) in [("batch256", 1), ("neighbour1000", 1000)] {
        for len in [64, 1500] {
            let frames = spread(len);
            let mut node = Node::new(next_hops);
            assert_eq!(node.pass(&frames), frames.len(), "every frame is forwarded");
            group.bench_function(format!("{shape}/{len}B"), |b| b.iter(|| node.pass(&frames)));
        }
    }
    group.finish();

    let mut group = c.benchmark_group("arp");
    group.throughput(Throughput::Elements(IN_FLIGHT.into()));
    let frames: Vec<Vec<u8>> = (0..IN_FLIGHT).map(|_| arp_request()).collect();
    let mut node = Node::new(1);
    assert_eq!(
        node.pass(&frames),
        frames.len(),
        "every request is answered"
    );
    group.bench_function("reply/42B", |b| b.iter(|| node.pass(&frames)));
    group.finish();
}

criterion_group!(benches, router);
criterion_main!(benches);

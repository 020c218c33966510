//! The whole router, copies into and out of the pool included: forwarding by length of the frames, by how many are in flight
//! at once, by number of neighbours; masqueraded, under policies, into and out of a tunnel; ARP replies.

use std::net::Ipv4Addr;

use benches::flight::Flight;
use benches::{LEFT, Node, arp_request, shapes, udp_frame};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use router_core::{PortId, Snapshot};

const BATCH: u32 = 256;

/// Destinations in different podCIDRs.
fn spread(count: u32, len: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|i| udp_frame(Ipv4Addr::from(0x0a00_0007 + ((i * 19 % 5000) << 8)), len))
        .collect()
}

/// Forwarding frames of 64 to 1500 bytes and packet of each, with one next hop and with a thousand.
fn lengths(c: &mut Criterion) {
    let mut group = c.benchmark_group("forward");
    group.throughput(Throughput::Elements(BATCH.into()));
    for (shape, next_hops) in [("batch256", 1), ("neighbour1000", 1000)] {
        for len in [64, 512, 1500] {
            let frames = spread(BATCH, len);
            let mut node = Node::new(next_hops);
            assert_eq!(node.pass(&frames), frames.len(), "every frame is forwarded");
            group.bench_function(format!("{shape}/{len}B"), |b| b.iter(|| node.pass(&frames)));
        }
    }
    group.finish();
}

/// So many buffers in use at once, which go round without being copied: whether they stay in the caches.
fn in_flight(c: &mut Criterion) {
    let mut group = c.benchmark_group("forward/in-flight");
    for count in [256_u32, 4096, 16_384] {
        for len in [64, 1500] {
            let mut flight = Flight::cluster(count as usize, len);
            group.throughput(Throughput::Elements(count.into()));
            group.bench_function(format!("{count}/{len}B"), |b| b.iter(|| flight.pass()));
        }
    }
    for count in [16, 256] {
        let mut flight = Flight::superframes(count);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("{count}/superframe60000B"), |b| {
            b.iter(|| flight.pass());
        });
    }
    group.finish();
}

/// What a node does besides: NAT, policies in three numbers, a tunnel's two ends.
fn features(c: &mut Criterion) {
    let mut group = c.benchmark_group("forward/feature");
    group.throughput(Throughput::Elements(BATCH.into()));
    let mut shape = |name: String, snapshot: Snapshot, port: PortId, frames: &[Vec<u8>]| {
        let mut node = Node::of(snapshot);
        assert_eq!(
            node.pass_from(port, frames),
            frames.len(),
            "{name}: every frame is forwarded"
        );
        group.bench_function(name, |b| b.iter(|| node.pass_from(port, frames)));
    };
    let peers = spread(BATCH, 64);
    shape("plain/64B".into(), shapes::plain(), LEFT, &peers);
    shape(
        "masquerade/64B".into(),
        shapes::masquerading(),
        LEFT,
        &peers,
    );
    for policies in [1, 100, 10_000] {
        shape(
            format!("policy{policies}/64B"),
            shapes::isolated(policies),
            LEFT,
            &peers,
        );
    }
    for len in [64, 1480] {
        let (snapshot, [(pod, out), (uplink, back)]) = shapes::tunnel_end(len);
        let batch = |frame: Vec<u8>| vec![frame; BATCH as usize];
        shape(
            format!("ipip-encap/{len}B"),
            snapshot.clone(),
            pod,
            &batch(out),
        );
        shape(format!("ipip-decap/{len}B"), snapshot, uplink, &batch(back));
    }
    group.finish();
}

fn arp(c: &mut Criterion) {
    let mut group = c.benchmark_group("arp");
    group.throughput(Throughput::Elements(BATCH.into()));
    let frames: Vec<Vec<u8>> = (0..BATCH).map(|_| arp_request()).collect();
    let mut node = Node::new(1);
    assert_eq!(
        node.pass(&frames),
        frames.len(),
        "every request is answered"
    );
    group.bench_function("reply/42B", |b| b.iter(|| node.pass(&frames)));
    group.finish();
}

criterion_group!(benches, lengths, in_flight, features, arp);
criterion_main!(benches);

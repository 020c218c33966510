//! The whole router, copies into and out of the pool included: forwarding by length of the frames, by how many are in flight
//! at once, by number of neighbours; masqueraded, under policies, into and out of a tunnel.

mod common;

use std::net::Ipv4Addr;

use benches::flight::Flight;
use benches::routes::measuring;
use benches::{LEFT, Node, shapes, udp_frame};
use common::Stage;
use criterion::{Criterion, criterion_group, criterion_main};
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
    let mut stage = Stage::new(c, "forward");
    for (shape, next_hops) in [("batch256", 1), ("neighbour1000", 1000)] {
        for len in [64, 512, 1500] {
            let frames = spread(BATCH, len);
            let mut node = Node::new(next_hops);
            assert_eq!(node.pass(&frames), frames.len(), "every frame is forwarded");
            stage.ours(format!("{shape}/{len}B"), frames.len(), || {
                node.pass(&frames)
            });
        }
    }
}

/// So many buffers in use at once, which go round without being copied: whether they stay in the caches.
fn in_flight(c: &mut Criterion) {
    let mut stage = Stage::new(c, "forward/in-flight");
    for count in [256, 4096, 16_384] {
        for len in [64, 1500] {
            let mut flight = Flight::cluster(count, len);
            stage.ours(format!("{count}/{len}B"), count, || flight.pass());
        }
    }
    // 4,096 of them are 245 MB; a node's process has room for 1,024 frames of any kind.
    let counts: &[usize] = if measuring() { &[16, 256, 4096] } else { &[16] };
    for &count in counts {
        let mut flight = Flight::superframes(count);
        stage.ours(format!("{count}/superframe60000B"), count, || flight.pass());
    }
}

/// What a node does besides: NAT, policies in three numbers, a tunnel's two ends.
fn features(c: &mut Criterion) {
    let mut stage = Stage::new(c, "forward/feature");
    let mut shape = |name: String, snapshot: Snapshot, port: PortId, frames: &[Vec<u8>]| {
        let mut node = Node::of(snapshot);
        assert_eq!(
            node.pass_from(port, frames),
            frames.len(),
            "{name}: every frame is forwarded"
        );
        stage.ours(name, frames.len(), || node.pass_from(port, frames));
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
}

criterion_group!(benches, lengths, in_flight, features);
criterion_main!(benches);

//! The shared-memory link between two node processes, both ends driven from one thread: a burst sent, flushed, received.

use std::time::{Duration, Instant};

use benches::{STATION_MAC, udp_frame};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use router_core::{Batch, FramePool, Mac};
use std::net::Ipv4Addr;
use tap_bridge::fabric::{FabricPort, Hub, MemberId};
use tap_bridge::port::Port as _;

const FAR_MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);

struct Pair {
    near: FabricPort,
    far: FabricPort,
    /// Members whose hub is gone are cut off.
    hub: Hub,
    pool: FramePool,
    batch: Batch,
}

impl Pair {
    /// Two members of a segment with a link between them.
    fn new() -> Self {
        let mut hub = Hub::new().expect("an epoll descriptor");
        let mut join = |id, mac| {
            let socket = hub.add_member(MemberId(id), mac).expect("a new member");
            FabricPort::new(socket, MemberId(id), mac).expect("the hub's socket")
        };
        let (near, far) = (join(1, STATION_MAC), join(2, FAR_MAC));
        let mut pair = Self {
            near,
            far,
            hub,
            pool: FramePool::new(512),
            batch: Batch::new(),
        };
        let end = Instant::now() + Duration::from_secs(10);
        while !(pair.near.is_linked(MemberId(2)) && pair.far.is_linked(MemberId(1))) {
            assert!(Instant::now() < end, "no link after 10 s");
            pair.send(&to_far(64), 1);
            pair.hub
                .turn(Some(Duration::from_millis(1)))
                .expect("the hub turns");
            // The near end has messages of the hub to read as well.
            pair.near
                .rx(&mut pair.pool, &mut pair.batch, 256)
                .expect("the hub is there");
            pair.batch.free_all(&mut pair.pool);
            pair.receive();
        }
        // What waited for the link has gone first; what was sent before is read now.
        while pair.receive() > 0 {}
        pair.send(&to_far(64), 1);
        assert_eq!(pair.receive(), 1, "the link works");
        pair
    }

    fn send(&mut self, bytes: &[u8], count: usize) {
        for _ in 0..count {
            let mut frame = self.pool.alloc().expect("the pool is larger than a burst");
            frame.fill(bytes);
            self.near
                .tx(&mut self.pool, frame)
                .expect("the hub is there");
        }
        self.near.flush(&mut self.pool).expect("the hub is there");
    }

    fn receive(&mut self) -> usize {
        self.far
            .rx(&mut self.pool, &mut self.batch, 256)
            .expect("the hub is there");
        let received = self.batch.len();
        self.batch.free_all(&mut self.pool);
        received
    }
}

fn to_far(len: usize) -> Vec<u8> {
    let mut bytes = udp_frame(Ipv4Addr::new(10, 0, 0, 1), len);
    bytes[..6].copy_from_slice(&FAR_MAC.0);
    bytes
}

fn fabric(c: &mut Criterion) {
    let mut group = c.benchmark_group("fabric");
    let mut pair = Pair::new();
    for burst in [1, 64] {
        group.throughput(Throughput::Elements(burst));
        let burst = usize::try_from(burst).expect("a small number");
        for len in [64, 1500] {
            let bytes = to_far(len);
            group.bench_function(format!("burst{burst}/{len}B"), |b| {
                b.iter(|| {
                    pair.send(&bytes, burst);
                    assert_eq!(
                        pair.receive(),
                        burst,
                        "nothing is lost below the ring's size"
                    );
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, fabric);
criterion_main!(benches);

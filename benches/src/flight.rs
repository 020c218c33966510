//! Frames that go round: what a router sent is what it receives next, so that nothing is copied between two passes.
//!
//! All neighbours have the router's own MAC, and a TTL is set again after 200 passes: a pass is the router's work, and
//! the moving of handles that a port would do. With many frames in flight their buffers come from the cache they fit in.

use std::time::Duration;

use core::net::Ipv4Addr;
use router_core::frame::BATCH_MAX;
use router_core::{Batch, Frame, FramePool, Instant, Limits, Router, Snapshot, TxBatch};

use router_core::testing::offload;
use router_core::testing::{Packet, eth, ipv4, tcp};

use crate::{LEFT, ROUTER_MAC, STATION_MAC, cluster_node, udp_frame};

/// Passes before TTLs are set again.
const LIFE: u32 = 200;

/// A router and the frames that go round through it, in batches.
#[derive(Debug)]
pub struct Flight {
    router: Router,
    pool: FramePool,
    tx: TxBatch,
    waiting: Vec<Batch>,
    /// As their heads were at first.
    fresh: Vec<Vec<u8>>,
    now: Instant,
    passes: u32,
}

impl Flight {
    /// `frames` frames of `len` bytes to peers of a cluster node with 5,110 routes.
    ///
    /// # Panics
    /// Never with the tables of this crate.
    #[must_use]
    pub fn cluster(frames: usize, len: usize) -> Self {
        let fresh = (0..5_000.min(frames)).map(|i| plain(i, len)).collect();
        Self::of(cluster_node(1), frames, fresh, |pool, fresh| {
            let mut frame = pool.alloc().expect("as many as there are frames");
            frame.fill(fresh);
            frame
        })
    }

    /// `frames` TCP superframes with 60,000 bytes of payload in segments of 1448, to the same peers. What is behind their
    /// headers stands in tails, which nobody reads.
    ///
    /// # Panics
    /// Never with the tables of this crate.
    #[must_use]
    pub fn superframes(frames: usize) -> Self {
        const HEAD: usize = 128;
        let whole = |i: usize| {
            let i = u32::try_from(i).expect("few");
            let dst = Ipv4Addr::from(0x0a00_0007 + ((i * 19 % 5_000) << 8));
            let packet: Packet = eth(ROUTER_MAC, STATION_MAC)
                / ipv4(Ipv4Addr::new(10, 255, 0, 2), dst).ttl(250)
                / tcp(9, 9, 16)
                / vec![0; 60_000];
            offload::superframe(&packet.bytes(), 1448)
        };
        let (_, left) = whole(0);
        let fresh = (0..256.min(frames)).map(|i| whole(i).0).collect();
        let mut flight = Self::of(cluster_node(1), frames, fresh, |pool, bytes| {
            offload::frame(pool, bytes, left, HEAD)
        });
        flight
            .fresh
            .iter_mut()
            .for_each(|bytes| bytes.truncate(HEAD));
        flight
    }

    fn of(
        mut snapshot: Snapshot,
        frames: usize,
        fresh: Vec<Vec<u8>>,
        make: impl Fn(&mut FramePool, &[u8]) -> Frame,
    ) -> Self {
        for neighbour in &mut snapshot.neighbours {
            if neighbour.mac == STATION_MAC {
                neighbour.mac = ROUTER_MAC;
            }
        }
        let mut pool = FramePool::new(frames + BATCH_MAX);
        let mut router = Router::new(Limits::default(), 1);
        let now = Instant::from_nanos(1);
        router
            .apply(now, snapshot, &mut pool)
            .expect("the snapshot does not contradict itself");
        let mut made = (0..frames).map(|i| make(&mut pool, &fresh[i % fresh.len()]));
        let mut waiting = Vec::new();
        while made.len() > 0 {
            let mut batch = Batch::new();
            batch.fill_from(&mut made);
            waiting.push(batch);
        }
        drop(made);
        Self {
            router,
            tx: TxBatch::new(frames + BATCH_MAX),
            pool,
            waiting,
            fresh,
            now,
            passes: 0,
        }
    }

    /// Takes every frame through the router once. Number of frames.
    ///
    /// # Panics
    /// When a frame did not come out.
    pub fn pass(&mut self) -> usize {
        self.passes += 1;
        if self.passes.is_multiple_of(LIFE) {
            let frames = self.waiting.iter_mut().flat_map(Batch::as_mut_slice);
            for (frame, fresh) in frames.zip(self.fresh.iter().cycle()) {
                frame.bytes_mut().copy_from_slice(fresh);
            }
        }
        let mut passed = 0;
        for batch in &mut self.waiting {
            // As the event loop does it.
            for frame in batch.as_mut_slice() {
                frame.set_port(LEFT);
            }
            let frames = batch.len();
            self.now = self.now + Duration::from_micros(10);
            self.router
                .process(self.now, batch, &mut self.pool, &mut self.tx);
            self.tx.hand_to(batch);
            assert_eq!((batch.len(), self.tx.len()), (frames, 0), "all came out");
            passed += frames;
        }
        passed
    }
}

/// A UDP frame of `len` bytes to the peer with this number.
fn plain(i: usize, len: usize) -> Vec<u8> {
    let i = u32::try_from(i).expect("few");
    let mut bytes = udp_frame(Ipv4Addr::from(0x0a00_0007 + ((i * 19 % 5_000) << 8)), len);
    // TTL 250 instead of 64, and the checksum with it.
    bytes[22] = 250;
    let sum = u16::from_be_bytes([bytes[24], bytes[25]]);
    let sum = u32::from(!sum) + u32::from(250_u16 - 64) * 0x100;
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("folded");
    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    bytes
}

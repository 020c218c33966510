//! Frames that go round: what a router sent is what it receives next, so that nothing is copied between two passes.
//!
//! All neighbours have the router's own MAC, and a TTL is set again after 200 passes: a pass is the router's work, and
//! the moving of handles that a port would do. With many frames in flight their buffers come from the cache they fit in.

use std::collections::VecDeque;
use std::time::Duration;

use core::net::Ipv4Addr;
use router_core::frame::BATCH_MAX;
use router_core::{Batch, Frame, FramePool, Instant, Limits, Router, Snapshot, TxBatch};

use crate::{LEFT, ROUTER_MAC, STATION_MAC, cluster_node, udp_frame};

/// Passes before TTLs are set again.
const LIFE: u32 = 200;

/// A router and the frames that go round through it.
#[derive(Debug)]
pub struct Flight {
    router: Router,
    pool: FramePool,
    rx: Batch,
    tx: TxBatch,
    waiting: VecDeque<Frame>,
    /// As they were at first.
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
        Self::of(cluster_node(1), frames, len)
    }

    fn of(mut snapshot: Snapshot, frames: usize, len: usize) -> Self {
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
        let fresh: Vec<Vec<u8>> = (0..5_000.min(frames))
            .map(|i| {
                let i = u32::try_from(i).expect("few");
                let mut bytes =
                    udp_frame(Ipv4Addr::from(0x0a00_0007 + ((i * 19 % 5_000) << 8)), len);
                // TTL 250 instead of 64, and the checksum with it.
                bytes[22] = 250;
                let sum = u16::from_be_bytes([bytes[24], bytes[25]]);
                let sum = u32::from(!sum) + u32::from(250_u16 - 64) * 0x100;
                let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("folded");
                bytes[24..26].copy_from_slice(&sum.to_be_bytes());
                bytes
            })
            .collect();
        let waiting = (0..frames)
            .map(|i| {
                let mut frame = pool.alloc().expect("as many as there are frames");
                frame.fill(&fresh[i % fresh.len()]);
                frame
            })
            .collect();
        Self {
            router,
            rx: Batch::new(),
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
        let frames = self.waiting.len();
        self.passes += 1;
        let mut left = frames;
        while left > 0 {
            let n = left.min(BATCH_MAX);
            for (i, mut frame) in self.waiting.drain(..n).enumerate() {
                if self.passes.is_multiple_of(LIFE) {
                    frame.fill(&self.fresh[(left + i) % self.fresh.len()]);
                }
                self.rx.push(frame).expect("a batch");
            }
            // As the event loop does it.
            for frame in self.rx.as_mut_slice() {
                frame.set_port(LEFT);
            }
            self.now = self.now + Duration::from_micros(10);
            self.router
                .process(self.now, &mut self.rx, &mut self.pool, &mut self.tx);
            self.waiting.extend(self.tx.drain().map(|(_, frame)| frame));
            left -= n;
        }
        assert_eq!(self.waiting.len(), frames, "all came out");
        frames
    }
}

//! A pair of ports in one process: what goes into one comes out of the other.
//!
//! Decides how many frames may wait (a full queue drops and counts, as a full ring does). No privileges and no system
//! calls; an end may move to another thread, which then has to wake the sleeper itself (see
//! [`EventLoop::waker`](crate::event_loop::EventLoop::waker)).
//!
//! Nothing is copied: handles are exchanged. Each direction owns a stock of spare frames; to send, the frame goes into the
//! queue and a spare one into the sender's pool in its place; to receive, the receiver's pool gives an empty frame to the
//! stock for the full one it gets. So every pool keeps its number of frames although frames wander.
//!
//! Cost: a push and a pop on two bounded lock-free queues per frame.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use router_core::{Batch, Frame, FramePool};

use crate::port::{Caps, Port, PortCounters, PortError, Rx};

/// One direction. `full.len() + spare.len()` is the stock, less what an end is exchanging just now.
#[derive(Debug)]
struct Lane {
    full: ArrayQueue<Frame>,
    spare: ArrayQueue<Frame>,
}

impl Lane {
    fn new(capacity: usize) -> Arc<Self> {
        let lane = Self {
            full: ArrayQueue::new(capacity),
            spare: ArrayQueue::new(capacity),
        };
        let mut stock = FramePool::new(capacity);
        while let Some(frame) = stock.alloc() {
            if lane.spare.push(frame).is_err() {
                break;
            }
        }
        Arc::new(lane)
    }
}

/// One end of a pair.
#[derive(Debug)]
pub struct MemoryPort {
    rx: Arc<Lane>,
    tx: Arc<Lane>,
    caps: Caps,
    counters: PortCounters,
}

impl MemoryPort {
    /// Two ends joined by queues of `capacity` frames (at least 1) per direction, all memory allocated now.
    #[must_use]
    pub fn pair(mtu: u16, capacity: usize) -> (Self, Self) {
        let capacity = capacity.max(1);
        let (a, b) = (Lane::new(capacity), Lane::new(capacity));
        let end = |rx: &Arc<Lane>, tx: &Arc<Lane>| Self {
            rx: Arc::clone(rx),
            tx: Arc::clone(tx),
            caps: Caps {
                mtu,
                // Frames pass as they are, with all that belongs to them.
                offload: true,
            },
            counters: PortCounters::default(),
        };
        (end(&a, &b), end(&b, &a))
    }

    /// Number of frames that wait to be received here.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.rx.full.len()
    }

    /// True when the other end was dropped: nothing more will come, and what is sent is lost.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        Arc::strong_count(&self.rx) == 1
    }
}

impl Port for MemoryPort {
    fn caps(&self) -> Caps {
        self.caps
    }

    fn rx(
        &mut self,
        pool: &mut FramePool,
        batch: &mut Batch,
        budget: usize,
    ) -> Result<Rx, PortError> {
        for _ in 0..budget.min(batch.room()) {
            if self.rx.full.is_empty() {
                return Ok(Rx::Drained);
            }
            let Some(empty) = pool.alloc() else {
                return Ok(Rx::More);
            };
            let Some(frame) = self.rx.full.pop() else {
                pool.free(empty);
                return Ok(Rx::Drained);
            };
            self.rx
                .spare
                .push(empty)
                .expect("the stock of a lane is its capacity, and one frame just left it");
            self.counters.rx_frames += 1;
            self.counters.rx_bytes += frame.len() as u64;
            if let Err(frame) = batch.push(frame) {
                // Not reached: the loop is bounded by the batch's room.
                pool.free(frame);
            }
        }
        Ok(Rx::More)
    }

    fn tx(&mut self, pool: &mut FramePool, frame: Frame) -> Result<(), PortError> {
        let len = frame.len() as u64;
        let spare = if self.is_alone() {
            None
        } else {
            self.tx.spare.pop()
        };
        let Some(spare) = spare else {
            self.counters.tx_dropped += 1;
            pool.free(frame);
            return Ok(());
        };
        self.tx
            .full
            .push(frame)
            .expect("the stock of a lane is its capacity, and one spare was just taken");
        pool.free(spare);
        self.counters.tx_frames += 1;
        self.counters.tx_bytes += len;
        Ok(())
    }

    fn counters(&self) -> PortCounters {
        self.counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(pool: &mut FramePool, tag: u8) -> Frame {
        let mut frame = pool.alloc().unwrap();
        assert!(frame.fill(&[tag; 60]));
        frame
    }

    /// What waits at `port`, by first byte.
    fn receive(port: &mut MemoryPort, pool: &mut FramePool) -> Vec<u8> {
        let mut batch = Batch::new();
        assert_eq!(port.rx(pool, &mut batch, 64).unwrap(), Rx::Drained);
        let tags = batch.as_slice().iter().map(|f| f.bytes()[0]).collect();
        batch.free_all(pool);
        tags
    }

    #[test]
    fn frames_arrive_in_order_and_pools_stay_whole() {
        let (mut a, mut b) = MemoryPort::pair(1500, 4);
        let (mut pa, mut pb) = (FramePool::new(3), FramePool::new(2));
        for round in 0..50_u8 {
            for i in 0..2 {
                let f = frame(&mut pa, round * 2 + i);
                a.tx(&mut pa, f).unwrap();
            }
            assert_eq!(pa.missing(), 0);
            // The receiver's pool has two frames, so both pass and the queue is read to its end afterwards.
            let mut batch = Batch::new();
            assert_eq!(b.rx(&mut pb, &mut batch, 64).unwrap(), Rx::Drained);
            let tags: Vec<u8> = batch.as_slice().iter().map(|f| f.bytes()[0]).collect();
            assert_eq!(tags, [round * 2, round * 2 + 1]);
            batch.free_all(&mut pb);
            assert_eq!(pb.missing(), 0);
        }
        assert_eq!(a.counters().tx_frames, 100);
        assert_eq!(b.counters().rx_bytes, 6000);
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (mut a, mut b) = MemoryPort::pair(1500, 2);
        let mut pool = FramePool::new(8);
        for tag in 0..5 {
            let f = frame(&mut pool, tag);
            a.tx(&mut pool, f).unwrap();
        }
        assert_eq!((a.counters().tx_frames, a.counters().tx_dropped), (2, 3));
        assert_eq!(b.pending(), 2);
        assert_eq!(receive(&mut b, &mut pool), [0, 1]);
        let f = frame(&mut pool, 9);
        a.tx(&mut pool, f).unwrap();
        assert_eq!(receive(&mut b, &mut pool), [9]);
        assert_eq!(pool.missing(), 0);
    }

    #[test]
    fn an_empty_pool_leaves_frames_where_they_are() {
        let (mut a, mut b) = MemoryPort::pair(1500, 4);
        let mut pool = FramePool::new(1);
        for tag in 0..2 {
            let f = frame(&mut pool, tag);
            a.tx(&mut pool, f).unwrap();
        }
        let mut batch = Batch::new();
        assert_eq!(b.rx(&mut pool, &mut batch, 64).unwrap(), Rx::More);
        assert_eq!((batch.len(), b.pending()), (1, 1));
        batch.free_all(&mut pool);
        assert_eq!(receive(&mut b, &mut pool), [1]);
    }

    #[test]
    fn what_is_sent_to_a_dropped_end_is_counted() {
        let (mut a, b) = MemoryPort::pair(1500, 4);
        drop(b);
        let mut pool = FramePool::new(1);
        let f = frame(&mut pool, 0);
        a.tx(&mut pool, f).unwrap();
        assert!(a.is_alone());
        assert_eq!(a.counters().tx_dropped, 1);
        assert_eq!(pool.missing(), 0);
    }
}

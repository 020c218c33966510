//! Several routers on a bench that make up one node, with a slow stand-in for what is between them and the devices: the
//! choice of the queue, and the rings.
//!
//! Everything happens in an order that the test's numbers alone decide.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use super::decode;
use super::packet::Packet;
use crate::config::{PortId, Snapshot};
use crate::conntrack::Session;
use crate::frame::{Batch, Frame, FramePool, TxBatch};
use crate::random::mix;
use crate::router::{Limits, Router};
use crate::share::Share;
use crate::time::{Duration, Instant};

/// Connections of the node.
const CONNECTIONS: u32 = 4096;

/// Frames that may wait between two workers, unless the test says otherwise.
const RING: usize = 64;

/// By which queue a device hands in a frame.
#[derive(Clone, Copy, Debug)]
pub enum Steering {
    /// As Linux's TAP driver: by a hash that both directions share, unless something was written to the device by another
    /// queue in the other direction.
    Linux,
    /// By a number of the test's for each frame: drivers may forget what they learned at any time.
    Any(u64),
}

#[derive(Debug)]
struct Worker {
    router: Router,
    pool: FramePool,
    tx: TxBatch,
}

/// A frame on its way between two workers.
type Handed = (usize, usize, Frame);

/// The workers of a node.
#[derive(Debug)]
pub struct Crew {
    workers: Vec<Worker>,
    steering: Steering,
    learned: BTreeMap<(PortId, u64), usize>,
    ring: usize,
    on_the_way: VecDeque<Handed>,
    lost: u64,
    now: Instant,
    sent: VecDeque<(PortId, Vec<u8>)>,
    /// The worker that sent, one for each of `sent`.
    by: VecDeque<usize>,
}

impl Crew {
    /// `of` workers with this configuration at time zero.
    ///
    /// # Panics
    /// When a router refuses the snapshot.
    #[must_use]
    pub fn new(of: usize, snapshot: &Snapshot, steering: Steering) -> Self {
        let mut crew = Self {
            workers: Share::divide(of, CONNECTIONS, 7)
                .zip(1..)
                .map(|(share, seed)| Worker {
                    router: Router::new(Limits::default(), seed).with_share(share),
                    pool: FramePool::new(256),
                    tx: TxBatch::new(256),
                })
                .collect(),
            steering,
            learned: BTreeMap::new(),
            ring: RING,
            on_the_way: VecDeque::new(),
            lost: 0,
            now: Instant::ZERO,
            sent: VecDeque::new(),
            by: VecDeque::new(),
        };
        crew.apply(snapshot);
        crew
    }

    /// Replaces the configuration.
    ///
    /// # Panics
    /// When a router refuses it.
    pub fn apply(&mut self, snapshot: &Snapshot) {
        for worker in &mut self.workers {
            worker
                .router
                .apply(self.now, snapshot.clone(), &mut worker.pool)
                .expect("a test's snapshot is consistent");
        }
    }

    /// Lets no more than so many frames wait between workers from now on.
    pub fn limit_ring(&mut self, frames: usize) {
        self.ring = frames;
    }

    /// Frames that were lost because too many waited.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// One of the routers.
    #[must_use]
    pub fn router(&self, worker: usize) -> &Router {
        &self.workers[worker].router
    }

    /// One of the routers, for what the control plane does to it.
    pub fn router_mut(&mut self, worker: usize) -> &mut Router {
        &mut self.workers[worker].router
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Hands one frame in by whatever queue the device chooses.
    pub fn rx(&mut self, port: PortId, frame: &Packet) {
        self.rx_bytes(port, &frame.bytes());
    }

    /// As [`Crew::rx`].
    pub fn rx_bytes(&mut self, port: PortId, bytes: &[u8]) {
        let worker = self.queue(port, bytes);
        self.rx_by(worker, port, bytes);
    }

    /// Hands one frame in by this worker's queue.
    ///
    /// # Panics
    /// When the frame does not fit a slot, or the pool is empty.
    pub fn rx_by(&mut self, worker: usize, port: PortId, bytes: &[u8]) {
        let pool = &mut self.workers[worker].pool;
        let mut frame = pool.alloc().expect("a frame for the packet");
        assert!(frame.fill(bytes), "{} bytes fit a slot", bytes.len());
        frame.set_port(port);
        self.process(worker, frame);
        self.hand_over();
    }

    fn process(&mut self, worker: usize, frame: Frame) {
        let Worker { router, pool, tx } = &mut self.workers[worker];
        let mut batch = Batch::new();
        assert!(batch.push(frame).is_ok(), "the batch is empty");
        router.process(self.now, &mut batch, pool, tx);
        self.collect(worker);
    }

    fn collect(&mut self, from: usize) {
        let sent: Vec<_> = self.workers[from].tx.drain().collect();
        for (port, frame) in sent {
            if let Some(to) = port.worker() {
                let to = usize::from(to);
                assert!(to != from && to < self.workers.len(), "handed to {to}");
                if self.on_the_way.len() < self.ring {
                    self.on_the_way.push_back((from, to, frame));
                } else {
                    self.lost += 1;
                    self.workers[from].pool.free(frame);
                }
                continue;
            }
            let bytes = frame.bytes().to_vec();
            if let Err(rule) = decode::check_emitted(&bytes, 0) {
                panic!("emitted on port {}: {rule}", port.0);
            }
            self.learned.insert((port, flow(&bytes)), from);
            self.sent.push_back((port, bytes));
            self.by.push_back(from);
            self.workers[from].pool.free(frame);
        }
    }

    /// Frames change their pools for empty ones, as they do in rings.
    fn hand_over(&mut self) {
        while let Some((from, to, frame)) = self.on_the_way.pop_front() {
            let empty = self.workers[to].pool.alloc();
            self.workers[from]
                .pool
                .free(empty.expect("a frame in exchange"));
            self.process(to, frame);
        }
    }

    /// Lets time pass; what becomes due is done at its time.
    pub fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        loop {
            let due = |w: &Worker| w.router.poll_timeout();
            let next = self.workers.iter().filter_map(due).min();
            let Some(next) = next.filter(|&next| next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            for n in 0..self.workers.len() {
                let Worker { router, pool, tx } = &mut self.workers[n];
                router.handle_timeout(self.now, pool, tx);
                self.collect(n);
            }
            self.hand_over();
        }
        self.now = end;
    }

    /// Everything sent and not looked at yet, oldest first.
    pub fn take_all(&mut self) -> Vec<(PortId, Vec<u8>)> {
        self.by.clear();
        self.sent.drain(..).collect()
    }

    /// As [`Crew::take_all`], each with the worker that sent it.
    pub fn take_with_worker(&mut self) -> Vec<(usize, PortId, Vec<u8>)> {
        let by: Vec<_> = self.by.drain(..).collect();
        let sent = by.into_iter().zip(self.sent.drain(..));
        sent.map(|(worker, (port, bytes))| (worker, port, bytes))
            .collect()
    }

    /// The connections of all.
    pub fn sessions(&self) -> Box<dyn Iterator<Item = Session> + '_> {
        let now = self.now;
        let routers = self.workers.iter().map(|w| &w.router);
        Box::new(routers.flat_map(move |router| router.sessions(now)))
    }

    /// The queue by which a frame comes in.
    fn queue(&mut self, port: PortId, bytes: &[u8]) -> usize {
        let of = self.workers.len() as u64;
        let n = match &mut self.steering {
            Steering::Linux => {
                let flow = flow(bytes);
                if let Some(&known) = self.learned.get(&(port, flow)) {
                    return known;
                }
                flow
            }
            Steering::Any(state) => {
                *state = mix(state.wrapping_add(1));
                *state
            }
        };
        usize::try_from(n % of).unwrap_or(0)
    }

    /// Checks that no frame was lost or invented, by anybody or between them, and that nobody has a claim whose connection
    /// is no more.
    ///
    /// # Panics
    /// When one was.
    pub fn check(&self) {
        let (mut handed, mut taken) = (0, 0);
        for (n, Worker { router, pool, .. }) in self.workers.iter().enumerate() {
            let stats = router.stats();
            if let Err(error) = stats.check_conservation(router.held()) {
                panic!("worker {n}: {error}\n{stats:#?}");
            }
            assert_eq!(pool.missing(), router.held(), "worker {n}");
            handed += stats.handed;
            taken += stats.taken;
        }
        assert_eq!(handed, taken + self.lost);
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check();
        }
    }
}

/// A hash that both directions of a flow share, of addresses and ports; of a fragment or another protocol without ports.
fn flow(frame: &[u8]) -> u64 {
    let word = |at: usize| {
        let bytes = frame.get(at..at + 4).unwrap_or(&[0; 4]);
        u64::from(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    if frame.get(12..14) != Some(&[8, 0]) {
        return 0;
    }
    let fragment = frame.get(20).is_some_and(|b| b & 0x3f != 0) || frame.get(21) != Some(&0);
    let protocol = frame.get(23).copied().unwrap_or(0);
    let l4 = 14 + usize::from(frame[14] & 0xf) * 4;
    let ports = if fragment || !matches!(protocol, 6 | 17 | 132) {
        0
    } else {
        let word = word(l4);
        (word >> 16) + (word & 0xffff)
    };
    mix(word(26) + word(30)) ^ mix(ports << 8 | u64::from(protocol))
}

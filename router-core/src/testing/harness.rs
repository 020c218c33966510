//! One router on a bench: frames go in, frames are expected out, time moves only by hand.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use super::decode;
use super::offload;
use super::packet::Packet;
use crate::config::{PortId, PortKind, Snapshot};
use crate::frame::{BATCH_MAX, Batch, FramePool, Offload, TxBatch};
use crate::router::{Limits, Router};
use crate::stats::{DropReason, Event, Stats};
use crate::time::{Duration, Instant};
use crate::trace::{Mark, Role, Step};

/// A counter that a test can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Frames dropped for this reason.
    Drop(DropReason),
    /// Events of this kind.
    Event(Event),
}

impl From<DropReason> for Counter {
    fn from(reason: DropReason) -> Self {
        Self::Drop(reason)
    }
}

impl From<Event> for Counter {
    fn from(event: Event) -> Self {
        Self::Event(event)
    }
}

/// A frame that left with something to do: port, all its bytes, and what is left to do.
pub type Uncut = (PortId, Vec<u8>, Offload);

/// A router with its frame pool, its time, and what it has sent.
///
/// What leaves with something to do is recorded as the frames that a wire would carry, made the slow way.
/// Every emitted frame is checked as [`decode::check_emitted`] says. When the harness is dropped it checks that frames
/// were conserved and that the pool has back all that is not held.
#[derive(Debug)]
pub struct Harness {
    router: Router,
    pool: FramePool,
    tx: TxBatch,
    now: Instant,
    sent: VecDeque<(PortId, Vec<u8>)>,
    uncut: Vec<Uncut>,
    seen: Stats,
    mark: Mark,
}

impl Harness {
    /// A router with this configuration at time zero.
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Self {
        Self::with_limits(snapshot, Limits::default(), 1024)
    }

    /// As [`Harness::new`], with tables of these sizes and a pool of `frames`.
    ///
    /// # Panics
    /// When the router refuses the snapshot.
    #[must_use]
    pub fn with_limits(snapshot: Snapshot, limits: Limits, frames: usize) -> Self {
        let mut pool = FramePool::new(frames);
        let mut router = Router::new(limits, 1);
        router
            .apply(Instant::ZERO, snapshot, &mut pool)
            .expect("a test's snapshot is consistent");
        Self {
            router,
            pool,
            tx: TxBatch::new(frames),
            now: Instant::ZERO,
            sent: VecDeque::new(),
            uncut: Vec::new(),
            seen: Stats::default(),
            mark: Mark::NONE,
        }
    }

    /// The router.
    #[must_use]
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// The router, for what the control plane does to it.
    pub fn router_mut(&mut self) -> &mut Router {
        &mut self.router
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Hands one frame in.
    pub fn rx(&mut self, port: PortId, frame: &Packet) {
        self.rx_bytes(&[(port, frame.bytes())]);
    }

    /// Hands frames in, in batches as large as they come.
    ///
    /// # Panics
    /// When a frame does not fit a slot, or the pool is empty.
    pub fn rx_bytes(&mut self, frames: &[(PortId, Vec<u8>)]) {
        for chunk in frames.chunks(BATCH_MAX) {
            let mut batch = Batch::new();
            for (port, bytes) in chunk {
                let mut frame = self
                    .pool
                    .alloc()
                    .expect("a frame for the packet to be received");
                assert!(
                    frame.fill(bytes),
                    "a frame of {} bytes fits a slot",
                    bytes.len()
                );
                frame.set_port(*port);
                frame.set_mark(self.mark);
                assert!(
                    batch.push(frame).is_ok(),
                    "a chunk is no longer than a batch"
                );
            }
            self.router
                .process(self.now, &mut batch, &mut self.pool, &mut self.tx);
            self.collect();
        }
    }

    /// Hands in a batch of frames as an offload device does, each with what is left to do to it; heads have at most `head`
    /// bytes.
    ///
    /// # Panics
    /// As [`Harness::rx_bytes`].
    pub fn rx_offload(&mut self, frames: &[Uncut], head: usize) {
        for chunk in frames.chunks(BATCH_MAX) {
            let mut batch = Batch::new();
            for (port, bytes, offload) in chunk {
                let mut frame = offload::frame(&mut self.pool, bytes, *offload, head);
                frame.set_port(*port);
                frame.set_mark(self.mark);
                assert!(
                    batch.push(frame).is_ok(),
                    "a chunk is no longer than a batch"
                );
            }
            self.router
                .process(self.now, &mut batch, &mut self.pool, &mut self.tx);
            self.collect();
        }
    }

    /// Hands in the beginning of a frame that is longer than a slot, as a device does that cut it.
    ///
    /// # Panics
    /// As [`Harness::rx_bytes`].
    pub fn rx_cut(&mut self, port: PortId, bytes: &[u8]) {
        let mut frame = self.pool.alloc().expect("a frame for the packet");
        assert!(frame.fill(bytes), "{} bytes fit a slot", bytes.len());
        frame.set_port(port);
        frame.set_cut();
        let mut batch = Batch::new();
        assert!(batch.push(frame).is_ok(), "the batch is empty");
        self.router
            .process(self.now, &mut batch, &mut self.pool, &mut self.tx);
        self.collect();
    }

    /// Begins trace `trace`, to which all frames belong that are handed in from now on.
    ///
    /// # Panics
    /// When too many are under way.
    pub fn trace(&mut self, trace: u8) {
        let armed = self.router.trace_mut().arm(trace);
        armed.expect("a test has few traces");
        self.mark = Mark::new(trace);
    }

    /// Steps of trace `trace` so far, each with its frame's role.
    #[must_use]
    pub fn steps(&self, trace: u8) -> Vec<(Role, Step)> {
        let recorded = self.router.trace().get(trace);
        let records = recorded.map_or(&[][..], |t| &t.records);
        records.iter().map(|r| (r.mark.role(), r.step)).collect()
    }

    /// Lets time pass; what becomes due is done at its time.
    pub fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(due) = self.router.poll_timeout().filter(|&due| due <= end) {
            self.now = self.now.max(due);
            self.router
                .handle_timeout(self.now, &mut self.pool, &mut self.tx);
            self.collect();
        }
        self.now = end;
    }

    /// Lets time pass in which nobody calls the router, and calls it once at the end.
    pub fn oversleep(&mut self, by: Duration) {
        self.now = self.now + by;
        self.router
            .handle_timeout(self.now, &mut self.pool, &mut self.tx);
        self.collect();
    }

    /// Replaces the configuration.
    ///
    /// # Panics
    /// When the router refuses it.
    pub fn apply(&mut self, snapshot: Snapshot) {
        self.router
            .apply(self.now, snapshot, &mut self.pool)
            .expect("a test's snapshot is consistent");
    }

    /// As [`Router::flush_neighbours`].
    pub fn flush_neighbours(&mut self, port: Option<PortId>) -> usize {
        self.router.flush_neighbours(port, None, &mut self.pool)
    }

    /// Takes frames out of the pool, so that it has `left`; they come back with [`FramePool::free`] by [`Harness::refill`].
    #[must_use]
    pub fn starve(&mut self, left: usize) -> Vec<crate::frame::Frame> {
        let mut taken = Vec::new();
        while self.pool.available() > left
            && let Some(frame) = self.pool.alloc()
        {
            taken.push(frame);
        }
        taken
    }

    /// Gives frames of [`Harness::starve`] back.
    pub fn refill(&mut self, frames: Vec<crate::frame::Frame>) {
        for frame in frames {
            self.pool.free(frame);
        }
    }

    fn collect(&mut self) {
        for (port, frame) in self.tx.drain() {
            // What was delivered to the node itself has the TTL it came with, even 0 (FWD-46).
            let to_host = self
                .router
                .snapshot()
                .ports
                .iter()
                .any(|p| p.id == port && matches!(p.kind, PortKind::Host { .. }));
            let min_ttl = u8::from(!to_host);
            // What stations say to each other across a bridge is theirs (BR-7).
            let foreign = is_foreign(self.router.snapshot(), port, frame.bytes());
            let bytes = offload::bytes(&frame);
            for wire in offload::on_wire(&bytes, frame.offload()) {
                if !foreign && let Err(rule) = decode::check_emitted(&wire, min_ttl) {
                    panic!(
                        "emitted on port {}: {rule}\n{}",
                        port.0,
                        decode::decode(&wire).join("\n")
                    );
                }
                self.sent.push_back((port, wire));
            }
            if frame.is_offloaded() {
                self.uncut.push((port, bytes, frame.offload()));
            }
            self.pool.free(frame);
        }
    }

    /// Everything sent and not looked at yet, oldest first.
    pub fn take_all(&mut self) -> Vec<(PortId, Vec<u8>)> {
        self.sent.drain(..).collect()
    }

    /// The frames that left with something to do since this was asked last; their wire frames are among the others.
    pub fn take_uncut(&mut self) -> Vec<Uncut> {
        core::mem::take(&mut self.uncut)
    }

    /// The oldest frame sent by `port` and not looked at yet.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn take(&mut self, port: PortId) -> Vec<u8> {
        let Some(at) = self.sent.iter().position(|(p, _)| *p == port) else {
            panic!("nothing was sent by port {}\n{}", port.0, self.describe());
        };
        self.sent
            .remove(at)
            .map(|(_, bytes)| bytes)
            .unwrap_or_default()
    }

    /// Expects the oldest frame sent by `port` to be `expected`, byte for byte.
    ///
    /// # Panics
    /// When it is not, with both side by side.
    #[track_caller]
    pub fn expect_tx(&mut self, port: PortId, expected: &Packet) {
        let actual = self.take(port);
        let expected = expected.bytes_like(&actual);
        assert!(
            expected == actual,
            "port {} sent another frame:\n{}",
            port.0,
            decode::diff(&expected, &actual)
        );
    }

    /// Expects that nothing else was sent, by any port.
    ///
    /// # Panics
    /// When something was.
    #[track_caller]
    pub fn expect_silence(&mut self) {
        assert!(self.sent.is_empty(), "unexpected:\n{}", self.describe());
    }

    /// Expects that, since the last call, exactly these counters of drops and events moved, by these amounts.
    ///
    /// # Panics
    /// When others did, or by other amounts.
    #[track_caller]
    pub fn expect_counters(&mut self, expected: &[(Counter, u64)]) {
        let stats = self.router.stats();
        let drops = DropReason::ALL.iter().map(|&r| {
            (
                Counter::Drop(r),
                stats.drops.get(r) - self.seen.drops.get(r),
            )
        });
        let events = Event::ALL.iter().map(|&e| {
            (
                Counter::Event(e),
                stats.events.get(e) - self.seen.events.get(e),
            )
        });
        let moved: Vec<(Counter, u64)> = drops.chain(events).filter(|&(_, n)| n != 0).collect();
        let as_expected =
            moved.len() == expected.len() && expected.iter().all(|e| moved.contains(e));
        assert!(
            as_expected,
            "counters moved: {moved:?}, expected: {expected:?}"
        );
        self.seen = stats.clone();
    }

    /// Hands one frame in and expects that it is dropped for `reason`, without a word to anybody.
    ///
    /// # Panics
    /// When anything else happens.
    #[track_caller]
    pub fn expect_silent_drop(&mut self, port: PortId, frame: &Packet, reason: DropReason) {
        self.rx(port, frame);
        self.expect_silence();
        self.expect_counters(&[(reason.into(), 1)]);
    }

    /// Checks that no frame was lost or invented.
    ///
    /// # Panics
    /// When one was.
    #[track_caller]
    pub fn check(&self) {
        if let Err(error) = self.router.stats().check_conservation(self.router.held()) {
            panic!("{error}\n{:#?}", self.router.stats());
        }
    }

    fn describe(&self) -> String {
        self.sent
            .iter()
            .map(|(port, bytes)| {
                alloc::format!(
                    "sent by port {}:\n{}\n",
                    port.0,
                    decode::decode(bytes).join("\n")
                )
            })
            .collect()
    }
}

/// True for a frame that leaves by a port of a bridge and is not from the bridge itself.
fn is_foreign(snapshot: &Snapshot, port: PortId, frame: &[u8]) -> bool {
    let find = |id| snapshot.ports.iter().find(|p| p.id == id);
    find(port)
        .and_then(|p| find(p.bridge?.bridge))
        .is_some_and(|bridge| frame.get(6..12) != Some(&bridge.mac.0))
}

impl Drop for Harness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.check();
        assert_eq!(
            self.pool.missing(),
            self.router.held(),
            "every frame that is not held is back in the pool"
        );
    }
}

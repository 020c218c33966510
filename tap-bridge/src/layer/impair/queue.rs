//! The frames of one direction that are on their way.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

use router_core::frame::GsoKind;
use router_core::segment::{complete, segment, wire_len};
use router_core::{Frame, FramePool, Instant};

use super::Impairment;
use super::random::Random;

/// Frames that the stock grows by.
const GROWTH: usize = 64;

/// Where the frames of one direction have ended. Frames, not segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// That came.
    pub received: u64,
    /// Copies made.
    pub duplicated: u64,
    /// Segments that superframes were cut into, beyond one each.
    pub split: u64,
    /// That went on.
    pub sent: u64,
    /// Lost on purpose.
    pub lost: u64,
    /// Dropped because as many waited as may, or for want of memory.
    pub dropped: u64,
    /// That went on with one bit wrong. No place of its own.
    pub corrupted: u64,
    /// That overtook others on purpose. No place of its own.
    pub reordered: u64,
    /// That wait now.
    pub held: u64,
}

impl Counters {
    /// True when every frame is in exactly one place.
    #[must_use]
    pub fn check(&self) -> bool {
        self.received + self.duplicated + self.split
            == self.sent + self.lost + self.dropped + self.held
    }
}

#[derive(Debug)]
struct Waiting {
    at: Instant,
    /// Rises from frame to frame: those of one time go in the order in which they came.
    turn: u64,
    frame: Frame,
}

impl Waiting {
    fn key(&self) -> (Instant, u64) {
        (self.at, self.turn)
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// One direction of a port, with what waits in it.
#[derive(Debug)]
pub struct Queue {
    how: Impairment,
    random: Random,
    waiting: BinaryHeap<Reverse<Waiting>>,
    /// Empty frames of its own, of which one goes for each that comes in.
    stock: Vec<Frame>,
    /// Frames that are its own, in the stock or exchanged for what waits.
    own: usize,
    turn: u64,
    /// When the wire is free again, where there is a rate.
    busy_until: Instant,
    counters: Counters,
    /// What one frame has become.
    parts: Vec<Frame>,
    /// Datagrams of a superframe.
    pieces: Vec<Frame>,
}

/// Datagrams are put together on the way without their sender's doing ([`gather`](crate::gather)): each has a fate of its own.
fn is_udp_superframe(frame: &Frame) -> bool {
    let gso = frame.offload().gso;
    frame.is_superframe() && gso.is_some_and(|gso| gso.kind == GsoKind::Udp)
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new(how: Impairment) -> Self {
        Self {
            random: Random::new(how.seed),
            how,
            waiting: BinaryHeap::new(),
            stock: Vec::new(),
            own: 0,
            turn: 0,
            busy_until: Instant::ZERO,
            counters: Counters::default(),
            parts: Vec::new(),
            pieces: Vec::new(),
        }
    }

    /// What is done to frames.
    #[must_use]
    pub fn impairment(&self) -> Impairment {
        self.how
    }

    /// Does something else to frames from now on; those that wait stay as they are, unless nothing is done any more: then
    /// they go at once. Another seed begins the random numbers anew.
    pub fn set(&mut self, how: Impairment) {
        if how.seed != self.how.seed {
            self.random = Random::new(how.seed);
        }
        self.how = how;
        if how.rate == 0 {
            self.busy_until = Instant::ZERO;
        }
        if how.is_none() {
            let mut all: Vec<Waiting> = self.waiting.drain().map(|Reverse(w)| w).collect();
            all.sort();
            for mut waiting in all {
                waiting.at = Instant::ZERO;
                waiting.turn = self.turn;
                self.turn += 1;
                self.waiting.push(Reverse(waiting));
            }
        }
    }

    /// True when frames pass as if there were nothing, and none waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.how.is_none()
    }

    /// Where frames have ended.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            held: self.waiting.len() as u64,
            ..self.counters
        }
    }

    /// A frame that passes at once, for whoever has seen that the queue [is idle](Self::is_idle).
    pub fn pass(&mut self) {
        self.counters.received += 1;
        self.counters.sent += 1;
    }

    /// Takes a frame that begins its way at `now`.
    pub fn push(&mut self, now: Instant, frame: Frame, pool: &mut FramePool) {
        self.counters.received += 1;
        if !is_udp_superframe(&frame) {
            return self.meet(now, frame, pool);
        }
        let mut parts = std::mem::take(&mut self.pieces);
        match segment(&frame, pool, |part| parts.push(part)) {
            Ok(count) => {
                pool.free(frame);
                self.counters.split += count as u64 - 1;
                for part in parts.drain(..) {
                    self.meet(now, part, pool);
                }
            }
            // For want of frames it stays whole.
            Err(_) => self.meet(now, frame, pool),
        }
        self.pieces = parts;
    }

    /// What happens to a frame, from the first choice on.
    fn meet(&mut self, now: Instant, frame: Frame, pool: &mut FramePool) {
        let twice = self.random.happens(self.how.duplicate);
        if twice {
            self.copy(&frame, pool);
        }
        // The copies go through everything else like the original, behind it.
        let copies = std::mem::take(&mut self.parts);
        self.judge(now, frame, pool);
        for copy in copies {
            self.judge(now, copy, pool);
        }
    }

    /// The next frame whose way has ended at `now`; none as well when the pool has no empty frame to give for it.
    pub fn pop(&mut self, now: Instant, pool: &mut FramePool) -> Option<Frame> {
        let Reverse(first) = self.waiting.peek()?;
        if first.at > now {
            return None;
        }
        let empty = pool.alloc()?;
        let Reverse(first) = self.waiting.pop()?;
        self.stock.push(empty);
        self.counters.sent += 1;
        Some(first.frame)
    }

    /// When [`Queue::pop`] has something next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse(first)| first.at)
    }

    /// Puts copies of a frame into `parts`: of a superframe its segments.
    fn copy(&mut self, frame: &Frame, pool: &mut FramePool) {
        let Self {
            parts, counters, ..
        } = self;
        if frame.is_superframe() {
            if let Ok(count) = segment(frame, pool, |part| parts.push(part)) {
                counters.duplicated += count as u64;
            }
            return;
        }
        if let Some(mut copy) = pool.alloc() {
            copy.copy_from(frame);
            if frame.is_offloaded() {
                copy.set_offload(frame.offload());
            }
            counters.duplicated += 1;
            parts.push(copy);
        }
    }

    fn judge(&mut self, now: Instant, mut frame: Frame, pool: &mut FramePool) {
        if self.random.happens(self.how.loss) {
            self.counters.lost += 1;
            pool.free(frame);
            return;
        }
        if !self.random.happens(self.how.corrupt) {
            return self.place(now, frame, pool);
        }
        if !frame.is_superframe() {
            // An open checksum would be made to fit the damage.
            if complete(&mut frame).is_ok() {
                self.flip(&mut frame);
            }
            return self.place(now, frame, pool);
        }
        let mut parts = std::mem::take(&mut self.parts);
        match segment(&frame, pool, |part| parts.push(part)) {
            Ok(count) => {
                pool.free(frame);
                self.counters.split += count as u64 - 1;
                let which = self.random.below(parts.len());
                self.flip(&mut parts[which]);
                for part in parts.drain(..) {
                    self.place(now, part, pool);
                }
                self.parts = parts;
            }
            // For want of frames it stays whole, in both senses.
            Err(_) => self.place(now, frame, pool),
        }
    }

    /// Makes one bit wrong.
    fn flip(&mut self, frame: &mut Frame) {
        let bytes = frame.bytes_mut();
        if !bytes.is_empty() {
            let bit = self.random.below(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            self.counters.corrupted += 1;
        }
    }

    /// Lets a frame wait for its time.
    fn place(&mut self, now: Instant, frame: Frame, pool: &mut FramePool) {
        let limit = usize::try_from(self.how.limit).unwrap_or(usize::MAX);
        if self.waiting.len() >= limit || !self.grow(limit) {
            self.counters.dropped += 1;
            pool.free(frame);
            return;
        }
        let at = if self.random.happens(self.how.reorder) {
            self.counters.reordered += 1;
            now
        } else {
            self.time(now, wire_len(&frame))
        };
        let turn = self.turn;
        self.turn += 1;
        if let Some(empty) = self.stock.pop() {
            pool.free(empty);
        }
        self.waiting.push(Reverse(Waiting { at, turn, frame }));
    }

    /// When a frame of so many bytes arrives that begins its way now. With a rate it begins when the wire is free, and as
    /// for netem what it waits for that counts for its delay.
    fn time(&mut self, now: Instant, bytes: usize) -> Instant {
        let Impairment {
            delay,
            jitter,
            distribution,
            rate,
            ..
        } = self.how;
        let delay = self.random.delay(delay, jitter, distribution);
        if rate == 0 {
            return now + delay;
        }
        let waits = self.busy_until.since(now);
        let begin = now + waits;
        let arrives = begin + delay.saturating_sub(waits) + on_wire(bytes, rate);
        self.busy_until = arrives;
        arrives
    }

    /// Sees to it that an empty frame is in the stock. False when it may not grow.
    fn grow(&mut self, limit: usize) -> bool {
        if self.stock.is_empty() && self.own < limit {
            let n = GROWTH.min(limit - self.own);
            let mut fresh = FramePool::new(n);
            self.stock.extend(std::iter::from_fn(|| fresh.alloc()));
            self.own += n;
        }
        !self.stock.is_empty()
    }
}

/// How long a wire of that rate is busy with so many bytes.
fn on_wire(bytes: usize, rate: u64) -> Duration {
    let nanos = bytes as u128 * 8 * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

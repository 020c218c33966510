//! The breath of a node: clock once, receive from ready ports, process, send, flush, timers; then sleep.
//!
//! Decides who is served next and when the thread may sleep. Doesn't decide what becomes of a packet: that is the
//! [`Engine`]'s.
//!
//! Order of one [`EventLoop::turn`]:
//!
//! 1. Ports in memory are asked for frames. With work at hand the kernel is asked for events without waiting. Else the
//!    loop looks for some for a few microseconds, if that has been paying (`spin`), letting others run in between; then
//!    it announces sleep to these ports, asks them once more, and sleeps until the engine's next deadline, the caller's
//!    limit, or an event.
//! 2. The clock is read.
//! 3. Ready ports are read in turn, [`RX_BUDGET`] frames each (and of superframes as many bytes as the port itself allows),
//!    until a batch is full. An event is reported once only
//!    (edge), so a port stays on the ready list until it says that it is drained; where the batch ends the next breath
//!    goes on, and who had his turn goes to the back.
//! 4. The engine processes the batch and, when due, its timers.
//! 5. What it emitted is sent, and the ports that got something are flushed.
//!
//! Conservation: after a turn every frame is in the pool, held by the engine, or waiting inside a port that has a stock of
//! its own. A frame for a port that doesn't exist or is broken is counted and freed.
//!
//! Devices are read and written by one system call a frame, not by io_uring: a TAP has no `FMODE_NOWAIT` (`tun.c`), so that each
//! read in a ring asks poll first, and reads must be chained for their order. Of a bare wire between two TAPs, chains of 16,
//! medians of 3 rounds in turn: 41,000 small datagrams a second instead of 133,000, 49 us there and back instead of 44. What
//! pays for small datagrams is fewer writes: [`gather`](crate::gather).
//!
//! Cost per breath: one clock reading and one epoll_wait besides what ports and engine do; no allocation after start-up.

mod layers;
mod siblings;
mod spin;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use router_core::{Batch, FramePool, Instant, PortId, Router, TxBatch};

use self::siblings::Siblings;
use self::spin::Spin;
use crate::port::{Port as _, PortCounters, PortError, Rx};
use crate::sys::clock;
use crate::sys::epoll::{Epoll, Events, Waker};

pub use crate::any_port::AnyPort;
pub use mio::{Interest, Token};

/// Frames that one port may hand in per breath, so that a busy port delays others by 64 frames at most.
pub const RX_BUDGET: usize = 64;

/// Bytes in a batch from which on no further port is read: what is under way has to fit the cache (decision 17), and tails
/// have to be left for the ports whose turn is next.
const BATCH_BYTES: usize = 1 << 20;

/// How long the loop waits before it looks again when ports have frames but the pool is empty.
const STARVED_WAIT: Duration = Duration::from_millis(1);

const EVENTS: usize = 256;
/// Tokens from here on are the loop's own: one per [`PortId`], then the waker's.
const FIRST_OWN_TOKEN: usize = WAKER.0 - (1 << 16);
const WAKER: Token = Token(usize::MAX);

fn number(token: Token) -> u64 {
    token.0 as u64
}

/// What is in the middle of the loop.
pub trait Engine {
    /// Takes every frame of `rx`; what is to be sent is appended to `tx`.
    fn process(&mut self, now: Instant, rx: &mut Batch, pool: &mut FramePool, tx: &mut TxBatch);

    /// When [`Engine::handle_timeout`] wants to be called next.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Does what is due at `now`.
    fn handle_timeout(&mut self, now: Instant, pool: &mut FramePool, tx: &mut TxBatch);
}

impl Engine for Router {
    fn process(&mut self, now: Instant, rx: &mut Batch, pool: &mut FramePool, tx: &mut TxBatch) {
        Self::process(self, now, rx, pool, tx);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Self::poll_timeout(self)
    }

    fn handle_timeout(&mut self, now: Instant, pool: &mut FramePool, tx: &mut TxBatch) {
        Self::handle_timeout(self, now, pool, tx);
    }
}

/// Frames that ended in the loop itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopCounters {
    /// Sent by the engine to a port that doesn't exist.
    pub tx_unknown_port: u64,
    /// Left in the batch by the engine, against its contract.
    pub rx_unprocessed: u64,
}

#[derive(Debug)]
struct Entry {
    port: AnyPort,
    /// On the ready list.
    ready: bool,
    /// Broken: never polled, read or written again.
    failed: bool,
    /// Got a frame since the last flush.
    touched: bool,
    /// Frames for it that were freed because it had failed.
    lost: u64,
}

/// The loop of one thread: an engine, its frames and its ports.
#[derive(Debug)]
pub struct EventLoop<E> {
    engine: E,
    pool: FramePool,
    rx: Batch,
    tx: TxBatch,
    epoll: Epoll,
    waker: Arc<Waker>,
    events: Events,
    spin: Spin,
    /// By number. Numbers are small and rise, and the lookup is on the packet path.
    ports: Vec<Option<Box<Entry>>>,
    ready: VecDeque<PortId>,
    /// Ports that are asked for frames in every breath.
    polled: Vec<PortId>,
    touched: Vec<PortId>,
    /// Ports with a stock of frames that are on their way.
    layered: Vec<PortId>,
    /// The loops of the node's other workers.
    siblings: Siblings,
    tokens: Vec<Token>,
    failures: Vec<(PortId, PortError)>,
    counters: LoopCounters,
    /// The last breath got no frame although ports had some, for want of free slots.
    starved: bool,
}

impl<E: Engine> EventLoop<E> {
    /// A loop around `engine` with a stock of `pool_frames` frames and no ports.
    ///
    /// # Errors
    /// When the system gives no epoll or eventfd descriptor.
    pub fn new(engine: E, pool_frames: usize) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let waker = Arc::new(Waker::new(&epoll, number(WAKER))?);
        Ok(Self {
            engine,
            pool: FramePool::new(pool_frames),
            rx: Batch::new(),
            tx: TxBatch::new(pool_frames),
            epoll,
            waker,
            events: Events::with_capacity(EVENTS),
            spin: Spin::new(),
            ports: Vec::new(),
            ready: VecDeque::new(),
            polled: Vec::new(),
            touched: Vec::new(),
            layered: Vec::new(),
            siblings: Siblings::default(),
            tokens: Vec::new(),
            failures: Vec::new(),
            counters: LoopCounters::default(),
            starved: false,
        })
    }

    /// The engine.
    pub fn engine(&self) -> &E {
        &self.engine
    }

    /// The engine, to look at or to configure. To call what emits frames, use [`EventLoop::with`].
    pub fn engine_mut(&mut self) -> &mut E {
        &mut self.engine
    }

    /// The stock of frames.
    pub fn pool(&self) -> &FramePool {
        &self.pool
    }

    /// The stock of frames, to take from and give back.
    pub fn pool_mut(&mut self) -> &mut FramePool {
        &mut self.pool
    }

    /// Ends the sleep of this loop from another thread: `wake()` on it makes [`EventLoop::turn`] return.
    #[must_use]
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Adds a port; frames from it carry `id` from now on.
    ///
    /// # Errors
    /// `AlreadyExists` when the number is taken (a failed port keeps it until it is removed), or what epoll says. The
    /// port is closed then.
    pub fn add_port(&mut self, id: PortId, port: impl Into<AnyPort>) -> io::Result<()> {
        let index = usize::from(id.0);
        if self.ports.len() <= index {
            self.ports.resize_with(index + 1, || None);
        }
        if self.ports[index].is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let port = port.into();
        for (n, fd) in port.descriptors().into_iter().flatten().enumerate() {
            let token = number(Token(FIRST_OWN_TOKEN + index));
            // Writable matters for the first descriptor only (a doorbell always is).
            let writable = n == 0 && port.is_polled();
            if let Err(e) = self.epoll.add(fd, token, true, writable) {
                deregister_port(&self.epoll, &port);
                return Err(e);
            }
        }
        if port.is_polled() {
            self.polled.push(id);
        }
        self.ports[index] = Some(Box::new(Entry {
            port,
            ready: false,
            failed: false,
            touched: false,
            lost: 0,
        }));
        self.mark_ready(id);
        Ok(())
    }

    /// Takes a port out. None when there is none of this number.
    pub fn remove_port(&mut self, id: PortId) -> Option<AnyPort> {
        let entry = self.ports.get_mut(usize::from(id.0))?.take()?;
        if !entry.failed {
            deregister_port(&self.epoll, &entry.port);
        }
        self.ready.retain(|&p| p != id);
        self.polled.retain(|&p| p != id);
        self.touched.retain(|&p| p != id);
        self.layered.retain(|&p| p != id);
        Some(entry.port)
    }

    /// The port of this number.
    #[must_use]
    pub fn port(&self, id: PortId) -> Option<&AnyPort> {
        Some(&self.entry(id)?.port)
    }

    /// The port of this number, to configure it. None for one that has failed.
    pub fn port_mut(&mut self, id: PortId) -> Option<&mut AnyPort> {
        let entry = self.ports.get_mut(usize::from(id.0))?.as_mut()?;
        (!entry.failed).then_some(&mut entry.port)
    }

    /// Counters of every port, by rising number.
    pub fn port_counters(&self) -> impl Iterator<Item = (PortId, PortCounters)> + '_ {
        (0..=u16::MAX).zip(&self.ports).filter_map(|(id, entry)| {
            let entry = entry.as_ref()?;
            let mut counters = entry.port.counters();
            counters.tx_dropped += entry.lost;
            Some((PortId(id), counters))
        })
    }

    /// Counters of the loop itself.
    #[must_use]
    pub fn counters(&self) -> LoopCounters {
        self.counters
    }

    /// Takes the ports that failed since the last call, with the reason. They are no longer used, but keep number and
    /// counters until [`EventLoop::remove_port`].
    pub fn take_failures(&mut self) -> Vec<(PortId, PortError)> {
        std::mem::take(&mut self.failures)
    }

    /// Has [`EventLoop::turn`] report `token` when the caller's descriptor becomes readable or is closed by its peer.
    /// Reported once per event: read until it would block.
    ///
    /// # Errors
    /// `InvalidInput` for a token of the loop's own range (the last 65,537 values), or what epoll says.
    pub fn register(&self, fd: BorrowedFd<'_>, token: Token) -> io::Result<()> {
        self.register_for(fd, token, Interest::READABLE)
    }

    /// As [`EventLoop::register`], for the events that the caller names.
    ///
    /// # Errors
    /// As [`EventLoop::register`].
    pub fn register_for(
        &self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        if token.0 >= FIRST_OWN_TOKEN {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.epoll.add(
            fd,
            number(token),
            interest.is_readable(),
            interest.is_writable(),
        )
    }

    /// Ends what [`EventLoop::register`] began. To be called before the descriptor is closed.
    ///
    /// # Errors
    /// `NotFound` when it wasn't registered.
    pub fn deregister(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.epoll.delete(fd)
    }

    /// Calls the engine outside a breath (to apply a configuration, to flush neighbours) and sends what it emits.
    pub fn with<R>(
        &mut self,
        call: impl FnOnce(&mut E, Instant, &mut FramePool, &mut TxBatch) -> R,
    ) -> R {
        let now = clock::monotonic();
        self.begin_layers(now);
        let result = call(&mut self.engine, now, &mut self.pool, &mut self.tx);
        self.send();
        result
    }

    /// One breath. Returns at once when there is something to do; else sleeps until there is, the engine's next deadline,
    /// or `max_wait` (none: for ever). Returns the caller's tokens whose descriptors had events.
    ///
    /// # Errors
    /// When epoll fails, which no state of ports or peers can cause.
    pub fn turn(&mut self, max_wait: Option<Duration>) -> io::Result<&[Token]> {
        self.wait(max_wait)?;
        let now = clock::monotonic();
        self.begin_layers(now);
        self.receive();
        if !self.rx.is_empty() {
            self.engine
                .process(now, &mut self.rx, &mut self.pool, &mut self.tx);
            self.counters.rx_unprocessed += self.rx.len() as u64;
            self.rx.free_all(&mut self.pool);
        }
        if self.engine.poll_timeout().is_some_and(|due| due <= now) {
            self.engine
                .handle_timeout(now, &mut self.pool, &mut self.tx);
        }
        self.send();
        Ok(&self.tokens)
    }

    fn entry(&self, id: PortId) -> Option<&Entry> {
        self.ports.get(usize::from(id.0))?.as_deref()
    }

    fn mark_ready(&mut self, id: PortId) {
        if let Some(Some(entry)) = self.ports.get_mut(usize::from(id.0))
            && !entry.ready
            && !entry.failed
        {
            entry.ready = true;
            self.ready.push_back(id);
        }
    }

    /// Puts the ports in memory that have frames on the ready list.
    fn ask_polled(&mut self) {
        for i in 0..self.polled.len() {
            let id = self.polled[i];
            if self.entry(id).is_some_and(|e| e.port.has_frames()) {
                self.mark_ready(id);
            }
        }
    }

    /// Frames wait, at ports or handed over.
    fn has_work(&self) -> bool {
        !self.ready.is_empty() || self.siblings.has_frames()
    }

    fn wait(&mut self, max_wait: Option<Duration>) -> io::Result<()> {
        self.tokens.clear();
        self.ask_polled();
        if self.has_work() {
            let limit = if self.starved {
                let limit = self.sleep_limit(max_wait).unwrap_or(STARVED_WAIT);
                limit.min(STARVED_WAIT)
            } else {
                Duration::ZERO
            };
            return self.poll(Some(limit));
        }
        let limit = self.sleep_limit(max_wait);
        if limit == Some(Duration::ZERO) {
            return self.poll(limit);
        }
        let start = clock::monotonic();
        let slept = self.look(start, limit)?;
        if let Some(limit) = slept {
            self.sleep(limit)?;
        }
        // Only what came by itself says whether looking pays: a deadline was known before.
        if !self.events.is_empty() || self.has_work() {
            self.spin.paused(clock::monotonic().since(start));
        }
        Ok(())
    }

    /// Looks for work for as long as that has been paying, letting others run in between. None when there is some; else how
    /// long to sleep.
    fn look(
        &mut self,
        start: Instant,
        limit: Option<Duration>,
    ) -> io::Result<Option<Option<Duration>>> {
        let budget = self.spin.budget();
        if budget.is_zero() {
            return Ok(Some(limit));
        }
        let end = limit.map_or(budget, |limit| limit.min(budget));
        loop {
            self.poll(Some(Duration::ZERO))?;
            self.ask_polled();
            if self.has_work() || !self.events.is_empty() {
                return Ok(None);
            }
            let passed = clock::monotonic().since(start);
            if passed >= end {
                return Ok(Some(limit.map(|limit| limit.saturating_sub(passed))));
            }
            rustix::thread::sched_yield();
            let away = clock::monotonic().since(start).saturating_sub(passed);
            if self.spin.was_away(away) {
                return Ok(Some(limit.map(|l| l.saturating_sub(passed + away))));
            }
        }
    }

    fn sleep(&mut self, limit: Option<Duration>) -> io::Result<()> {
        let limit = if self.prepare_sleep() {
            limit
        } else {
            Some(Duration::ZERO)
        };
        let polled = self.poll(limit);
        self.end_sleep();
        polled?;
        self.ask_polled();
        Ok(())
    }

    /// Asks the kernel for events, and notes whom they concern.
    fn poll(&mut self, limit: Option<Duration>) -> io::Result<()> {
        self.epoll.wait(&mut self.events, limit)?;
        for n in 0..self.events.len() {
            let token = self.events.token(n).and_then(|t| usize::try_from(t).ok());
            let Some(token) = token.map(Token).filter(|&t| t != WAKER) else {
                continue;
            };
            match token.0.checked_sub(FIRST_OWN_TOKEN) {
                Some(port) => self.mark_ready(PortId(u16::try_from(port).unwrap_or(u16::MAX))),
                None if self.tokens.contains(&token) => {}
                None => self.tokens.push(token),
            }
        }
        Ok(())
    }

    /// How long the loop may sleep: none for ever.
    fn sleep_limit(&self, max_wait: Option<Duration>) -> Option<Duration> {
        let deadlines = [self.engine.poll_timeout(), self.layers_deadline()];
        let due = deadlines.into_iter().flatten().min();
        let due = due.map(|due| due.since(clock::monotonic()));
        match (due, max_wait) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn prepare_sleep(&mut self) -> bool {
        let mut asleep = self.siblings.prepare_sleep();
        for &id in &self.polled {
            if let Some(Some(entry)) = self.ports.get_mut(usize::from(id.0))
                && !entry.failed
            {
                asleep &= entry.port.prepare_sleep();
            }
        }
        asleep
    }

    fn end_sleep(&mut self) {
        self.siblings.end_sleep();
        for &id in &self.polled {
            if let Some(Some(entry)) = self.ports.get_mut(usize::from(id.0)) {
                entry.port.end_sleep();
            }
        }
    }

    /// Fills the batch from ready ports, each in its turn.
    fn receive(&mut self) {
        let had_ready = self.has_work();
        if had_ready {
            for &id in &self.polled {
                if let Some(Some(entry)) = self.ports.get_mut(usize::from(id.0)) {
                    entry.port.begin_breath();
                }
            }
        }
        let mut bytes = self.receive_handed();
        for _ in 0..self.ready.len() {
            if self.rx.room() == 0 || bytes >= BATCH_BYTES {
                break;
            }
            let Some(id) = self.ready.pop_front() else {
                break;
            };
            let Some(Some(entry)) = self.ports.get_mut(usize::from(id.0)) else {
                continue;
            };
            entry.ready = false;
            let before = self.rx.len();
            let got = entry.port.rx(&mut self.pool, &mut self.rx, RX_BUDGET);
            for frame in &mut self.rx.as_mut_slice()[before..] {
                frame.set_port(id);
                bytes += frame.len();
            }
            match got {
                Ok(Rx::Drained) => {}
                Ok(Rx::More) => self.mark_ready(id),
                Err(error) => self.fail(id, error),
            }
        }
        self.starved = had_ready && self.rx.is_empty() && self.pool.available() == 0;
    }

    /// Sends what the engine emitted, in order, and flushes the ports concerned.
    fn send(&mut self) {
        for (id, frame) in self.tx.drain() {
            let Some(Some(entry)) = self.ports.get_mut(usize::from(id.0)) else {
                match id.worker() {
                    Some(worker) => self.siblings.hand_over(worker, frame, &mut self.pool),
                    None => {
                        self.counters.tx_unknown_port += 1;
                        self.pool.free(frame);
                    }
                }
                continue;
            };
            if entry.failed {
                entry.lost += 1;
                self.pool.free(frame);
                continue;
            }
            if !entry.touched {
                entry.touched = true;
                self.touched.push(id);
            }
            if let Err(error) = entry.port.tx(&mut self.pool, frame) {
                fail_entry(&self.epoll, entry);
                self.failures.push((id, error));
            }
        }
        self.siblings.flush();
        for id in self.touched.drain(..) {
            let Some(Some(entry)) = self.ports.get_mut(usize::from(id.0)) else {
                continue;
            };
            entry.touched = false;
            if !entry.failed
                && let Err(error) = entry.port.flush(&mut self.pool)
            {
                fail_entry(&self.epoll, entry);
                self.failures.push((id, error));
            }
        }
    }

    fn fail(&mut self, id: PortId, error: PortError) {
        if let Some(Some(entry)) = self.ports.get_mut(usize::from(id.0)) {
            fail_entry(&self.epoll, entry);
            self.failures.push((id, error));
        }
    }
}

fn fail_entry(epoll: &Epoll, entry: &mut Entry) {
    if !entry.failed {
        entry.failed = true;
        deregister_port(epoll, &entry.port);
    }
}

/// Takes a port's descriptors off epoll. Closing would not do: a duplicate elsewhere keeps the registration alive.
fn deregister_port(epoll: &Epoll, port: &AnyPort) {
    for fd in port.descriptors().into_iter().flatten() {
        // It fails only for a descriptor that isn't registered, which is what is wanted.
        let _ = epoll.delete(fd);
    }
}

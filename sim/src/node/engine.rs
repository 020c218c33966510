//! The router of a node together with the network stacks that live in its process.
//!
//! Decides nothing about packets of ports that have a device. What the router sends to a port behind which a
//! [`Stack`] is, the stack takes at once, and what it answers goes back into the router in the same breath, until nobody
//! has anything to say; so a ping between two in-process pods of one node costs no system call but those of the pinger.
//! Each stack has the raw ICMP channels that were opened on it and lets them hear what arrives.
//!
//! Bounded: frames come from the router's pool, an exchange ends after 32 rounds, a full channel loses
//! the packet; all of it is counted. Without stacks the cost is one comparison per breath.

mod capture;
pub mod impair;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use ipnet::Ipv4Net;
use router_core::config::{PortKind, RouteTarget};
use router_core::trace::{Answers, TooManyTraces};
use router_core::{
    Batch, ConfigError, Frame, FramePool, Instant, Mac, PortId, Router, Snapshot, TxBatch,
};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tap_bridge::Engine;
use tap_bridge::layer::Impaired;
use tap_bridge::layer::capture::{Captures, Probe};
use tap_bridge::offload::on_the_wire;
use tap_bridge::port::PortCounters;

use super::journal::{Journal, Left};
use crate::pod::inproc::{Sink, Stack, StackConfig, clamp_mtu};

/// Rounds of router and stacks in one breath. A request and its answer are two, with address resolution four.
const MAX_ROUNDS: usize = 32;

/// Packets that one call of [`NodeEngine::read_channel`] takes from a channel.
pub const CHANNEL_BUDGET: usize = 64;

/// Largest packet on a channel, bytes.
const MAX_PACKET: usize = 1 << 16;

/// Names a raw ICMP channel of this process, each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub usize);

#[derive(Debug)]
struct Attached {
    stack: Stack,
    /// Takes MACs, addresses and sources from the snapshot.
    is_host: bool,
    /// When the stack wants to be called.
    due: Option<Instant>,
    channels: Vec<(ChannelId, OwnedFd)>,
    counters: PortCounters,
    /// Where captures look.
    probe: Option<Probe>,
    /// What is done to its frames on their way.
    impaired: Option<Box<Impaired>>,
}

/// The engine of a node process.
#[derive(Debug)]
pub struct NodeEngine {
    router: Router,
    stacks: BTreeMap<PortId, Attached>,
    /// From stacks to the router.
    inbox: VecDeque<Frame>,
    /// Frames of a round that are not for stacks, in order.
    keep: Vec<(PortId, Frame)>,
    batch: Batch,
    /// One packet of a channel.
    scratch: Box<[u8]>,
    drops: u64,
    /// Traced packets that left by ports behind which there are no marks.
    answers: Answers,
    journal: Option<Journal>,
    captures: Captures,
    /// There is a capture.
    capturing: bool,
    /// A port with a stack is or was impaired.
    is_impaired: bool,
}

impl NodeEngine {
    /// An engine around `router`, without stacks.
    #[must_use]
    pub fn new(router: Router) -> Self {
        Self {
            router,
            stacks: BTreeMap::new(),
            inbox: VecDeque::new(),
            keep: Vec::new(),
            batch: Batch::new(),
            scratch: vec![0; MAX_PACKET].into_boxed_slice(),
            drops: 0,
            answers: Answers::default(),
            journal: None,
            captures: Captures::default(),
            capturing: false,
            is_impaired: false,
        }
    }

    /// Takes over the connections that an earlier process left, and keeps a journal of all from now on. What there is then
    /// is written already.
    pub fn keep_journal(&mut self, now: Instant, mut journal: Journal, left: &Left) {
        for session in &left.sessions {
            self.router.import_session(now, session);
        }
        for _ in 0..left.broken {
            self.router.lose_session();
        }
        self.router.keep_journal();
        journal.write_all(now, &mut self.router);
        self.journal = Some(journal);
    }

    /// Begins a trace.
    ///
    /// # Errors
    /// When too many are under way.
    pub fn begin_trace(&mut self, trace: u8) -> Result<(), TooManyTraces> {
        self.answers.forget(trace);
        self.router.trace_mut().arm(trace)
    }

    /// Ends a trace.
    pub fn end_trace(&mut self, trace: u8) {
        self.answers.forget(trace);
        self.router.trace_mut().disarm(trace);
    }

    /// Takes one frame through the router and the stacks, as if it had come by the port that it names.
    pub fn inject(&mut self, frame: Frame, now: Instant, pool: &mut FramePool, tx: &mut TxBatch) {
        self.inbox.push_back(frame);
        self.exchange(now, pool, tx);
    }

    /// The router.
    #[must_use]
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// The router, for what touches no stack.
    pub fn router_mut(&mut self) -> &mut Router {
        &mut self.router
    }

    /// What stacks and channels lost because a queue or the pool was full, or because it was malformed.
    #[must_use]
    pub fn stack_drops(&self) -> u64 {
        self.drops + self.stacks.values().map(|a| a.stack.drops()).sum::<u64>()
    }

    /// Counters of the ports with stacks, by rising number.
    pub fn stack_counters(&self) -> impl Iterator<Item = (PortId, PortCounters)> + '_ {
        self.stacks.iter().map(|(&id, a)| (id, a.counters))
    }

    /// Replaces the router's configuration, and the addresses of the host side with it.
    ///
    /// # Errors
    /// As [`Router::apply`]; nothing has changed then.
    pub fn configure(
        &mut self,
        now: Instant,
        snapshot: Snapshot,
        pool: &mut FramePool,
    ) -> Result<(), ConfigError> {
        self.router.apply(now, snapshot, pool)?;
        let snapshot = self.router.snapshot();
        for (&id, attached) in self.stacks.iter_mut().filter(|(_, a)| a.is_host) {
            attached.stack.reconfigure(host_config(snapshot, id));
        }
        self.name_captures();
        Ok(())
    }

    /// Puts a stack behind a port. False, and nothing changed, when there is one already.
    pub fn attach(&mut self, id: PortId, stack: Stack) -> bool {
        self.insert(id, stack, false)
    }

    /// Puts the node's own host side behind a port. False when there is a stack already.
    pub fn attach_host(&mut self, id: PortId, seed: u64) -> bool {
        let config = host_config(self.router.snapshot(), id);
        self.insert(id, Stack::new(config, seed), true)
    }

    fn insert(&mut self, id: PortId, stack: Stack, is_host: bool) -> bool {
        if self.stacks.contains_key(&id) {
            return false;
        }
        let attached = Attached {
            stack,
            is_host,
            due: None,
            channels: Vec::new(),
            counters: PortCounters::default(),
            probe: self.captures.probe(id),
            impaired: None,
        };
        self.stacks.insert(id, attached);
        true
    }

    /// Takes the stack of a port away and gives back its channels, which are to be closed. None when there is none.
    pub fn detach(&mut self, id: PortId) -> Option<Vec<(ChannelId, OwnedFd)>> {
        let attached = self.stacks.remove(&id)?;
        self.drops += attached.stack.drops();
        Some(attached.channels)
    }

    /// True when a stack is behind this port.
    #[must_use]
    pub fn has_stack(&self, id: PortId) -> bool {
        self.stacks.contains_key(&id)
    }

    /// Opens a channel on a stack. Gives the descriptor back when there is no stack.
    ///
    /// # Errors
    /// The descriptor.
    pub fn open_channel(
        &mut self,
        port: PortId,
        id: ChannelId,
        fd: OwnedFd,
    ) -> Result<(), OwnedFd> {
        match self.stacks.get_mut(&port) {
            Some(attached) => {
                attached.channels.push((id, fd));
                Ok(())
            }
            None => Err(fd),
        }
    }

    /// Closes a channel and gives back its descriptor.
    pub fn close_channel(&mut self, id: ChannelId) -> Option<OwnedFd> {
        self.stacks.values_mut().find_map(|attached| {
            let at = attached.channels.iter().position(|(c, _)| *c == id)?;
            Some(attached.channels.swap_remove(at).1)
        })
    }

    /// Takes packets from a channel, [`CHANNEL_BUDGET`] at most, and sends them through its stack and the router. True
    /// when there may be more.
    ///
    /// # Errors
    /// When the channel was closed or is broken: it is to be closed here too.
    pub fn read_channel(
        &mut self,
        id: ChannelId,
        now: Instant,
        pool: &mut FramePool,
        tx: &mut TxBatch,
    ) -> io::Result<bool> {
        let mut buf = core::mem::take(&mut self.scratch);
        let result = self.read_channel_into(&mut buf, id, now, pool, tx);
        self.scratch = buf;
        result
    }

    fn read_channel_into(
        &mut self,
        buf: &mut [u8],
        id: ChannelId,
        now: Instant,
        pool: &mut FramePool,
        tx: &mut TxBatch,
    ) -> io::Result<bool> {
        for _ in 0..CHANNEL_BUDGET {
            let Some((&port, attached)) = self
                .stacks
                .iter_mut()
                .find(|(_, a)| a.channels.iter().any(|(c, _)| *c == id))
            else {
                return Ok(false);
            };
            let Attached {
                stack,
                channels,
                counters,
                probe,
                impaired,
                ..
            } = attached;
            let Some((_, fd)) = channels.iter().find(|(c, _)| *c == id) else {
                return Ok(false);
            };
            let len = match recv(fd, &mut *buf, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((len, _)) => len,
                Err(rustix::io::Errno::AGAIN) => return Ok(false),
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let mut sink = NodeSink {
                port,
                pool,
                inbox: &mut self.inbox,
                channels,
                counters,
                drops: &mut self.drops,
                probe: probe.as_ref(),
                impaired: impaired.as_deref_mut(),
                now,
            };
            stack.send_icmp(now, &buf[..len], &mut sink);
            self.exchange(now, pool, tx);
        }
        Ok(true)
    }

    /// Lets router and stacks talk until nobody has anything to say.
    fn exchange(&mut self, now: Instant, pool: &mut FramePool, tx: &mut TxBatch) {
        for round in 0.. {
            self.serve_stacks(now, pool, tx);
            if self.inbox.is_empty() {
                return;
            }
            if round == MAX_ROUNDS {
                break;
            }
            while !self.inbox.is_empty() {
                while let Some(frame) = self.inbox.pop_front() {
                    if let Err(frame) = self.batch.push(frame) {
                        self.inbox.push_front(frame);
                        break;
                    }
                }
                let Self {
                    router,
                    answers,
                    batch,
                    ..
                } = self;
                route(router, answers, now, batch, pool, tx);
                batch.free_all(pool);
            }
        }
        for frame in self.inbox.drain(..) {
            self.drops += 1;
            pool.free(frame);
        }
    }

    /// Hands the frames for stacks over, and leaves the others in `tx` in their order.
    fn serve_stacks(&mut self, now: Instant, pool: &mut FramePool, tx: &mut TxBatch) {
        for (port, frame) in tx.drain() {
            let Some(attached) = self.stacks.get_mut(&port) else {
                self.keep.push((port, frame));
                continue;
            };
            match &mut attached.impaired {
                Some(both) if !both.tx.is_idle() => both.tx.push(now, frame, pool),
                impaired => {
                    if let Some(both) = impaired {
                        both.tx.pass();
                    }
                    self.hand_to_stack(port, frame, now, pool);
                }
            }
        }
        for (port, frame) in self.keep.drain(..) {
            tx.push(port, frame);
        }
        if self.is_impaired {
            self.arrive(now, pool);
        }
    }

    /// A frame for a stack.
    fn hand_to_stack(
        &mut self,
        port: PortId,
        mut frame: Frame,
        now: Instant,
        pool: &mut FramePool,
    ) {
        let Some(attached) = self.stacks.get_mut(&port) else {
            return pool.free(frame);
        };
        let Attached {
            stack,
            channels,
            counters,
            probe,
            impaired,
            due,
            ..
        } = attached;
        counters.tx_frames += 1;
        counters.tx_bytes += frame.len() as u64;
        if let Some(probe) = probe {
            probe.tx(now, &frame);
        }
        let whole = if frame.is_offloaded() {
            // A stack takes what a wire carries; its answers need frames besides this one.
            let whole = on_the_wire(&mut frame, |bytes| {
                let mut sink = NodeSink {
                    port,
                    pool: &mut *pool,
                    inbox: &mut self.inbox,
                    channels,
                    counters: &mut *counters,
                    drops: &mut self.drops,
                    probe: probe.as_ref(),
                    impaired: impaired.as_deref_mut(),
                    now,
                };
                stack.receive(now, bytes, &mut sink);
                true
            });
            pool.free(frame);
            whole
        } else {
            // The answer needs a frame, and this one is empty from here on; so the last one of the pool will do.
            let mut bytes = [0; router_core::frame::MAX_FRAME];
            let len = frame.len().min(bytes.len());
            bytes[..len].copy_from_slice(&frame.bytes()[..len]);
            pool.free(frame);
            let mut sink = NodeSink {
                port,
                pool,
                inbox: &mut self.inbox,
                channels,
                counters,
                drops: &mut self.drops,
                probe: probe.as_ref(),
                impaired: impaired.as_deref_mut(),
                now,
            };
            stack.receive(now, &bytes[..len], &mut sink);
            true
        };
        self.drops += u64::from(!whole);
        *due = stack.poll_timeout(now);
    }
}

impl Engine for NodeEngine {
    fn process(&mut self, now: Instant, rx: &mut Batch, pool: &mut FramePool, tx: &mut TxBatch) {
        route(&mut self.router, &mut self.answers, now, rx, pool, tx);
        if !self.stacks.is_empty() {
            self.exchange(now, pool, tx);
        }
        self.capture_drops(now, pool);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let stacks = self.stacks.values().filter_map(|a| {
            let on_its_way = a.impaired.as_ref().and_then(|both| both.next_deadline());
            a.due.into_iter().chain(on_its_way).min()
        });
        let journal = self.journal.as_ref().and_then(|j| j.due(&self.router));
        stacks
            .chain(self.router.poll_timeout())
            .chain(journal)
            .min()
    }

    fn handle_timeout(&mut self, now: Instant, pool: &mut FramePool, tx: &mut TxBatch) {
        self.router.handle_timeout(now, pool, tx);
        if let Some(journal) = &mut self.journal {
            journal.tick(now, &mut self.router);
        }
        for (&port, attached) in &mut self.stacks {
            if attached.due.is_none_or(|due| due > now) {
                continue;
            }
            let mut sink = NodeSink {
                port,
                pool,
                inbox: &mut self.inbox,
                channels: &attached.channels,
                counters: &mut attached.counters,
                drops: &mut self.drops,
                probe: attached.probe.as_ref(),
                impaired: attached.impaired.as_deref_mut(),
                now,
            };
            attached.stack.handle_timeout(now, &mut sink);
            attached.due = attached.stack.poll_timeout(now);
        }
        if !self.stacks.is_empty() {
            self.exchange(now, pool, tx);
        }
        self.capture_drops(now, pool);
    }
}

/// [`Router::process`]; while packets are traced, answers to them are told from other traffic before, and what leaves for
/// where marks end is noted after.
fn route(
    router: &mut Router,
    answers: &mut Answers,
    now: Instant,
    rx: &mut Batch,
    pool: &mut FramePool,
    tx: &mut TxBatch,
) {
    if !answers.is_empty() {
        for frame in rx.as_mut_slice() {
            answers.mark(frame);
        }
    }
    let before = tx.len();
    router.process(now, rx, pool, tx);
    if router.trace().is_armed() {
        for (port, frame) in tx.iter().skip(before) {
            answers.sent(port, frame);
        }
    }
}

/// Where a stack's frames and ICMP packets go.
struct NodeSink<'a> {
    port: PortId,
    pool: &'a mut FramePool,
    inbox: &'a mut VecDeque<Frame>,
    channels: &'a [(ChannelId, OwnedFd)],
    counters: &'a mut PortCounters,
    drops: &'a mut u64,
    probe: Option<&'a Probe>,
    impaired: Option<&'a mut Impaired>,
    now: Instant,
}

impl Sink for NodeSink<'_> {
    fn frame(&mut self, bytes: &[u8]) {
        let Some(mut frame) = self.pool.alloc() else {
            *self.drops += 1;
            return;
        };
        if frame.fill(bytes) {
            frame.set_port(self.port);
            self.counters.rx_frames += 1;
            self.counters.rx_bytes += bytes.len() as u64;
            if let Some(probe) = self.probe {
                probe.rx(self.now, std::slice::from_ref(&frame));
            }
            match &mut self.impaired {
                Some(both) if !both.rx.is_idle() => both.rx.push(self.now, frame, self.pool),
                impaired => {
                    if let Some(both) = impaired {
                        both.rx.pass();
                    }
                    self.inbox.push_back(frame);
                }
            }
        } else {
            *self.drops += 1;
            self.pool.free(frame);
        }
    }

    fn icmp(&mut self, packet: &[u8]) {
        for (_, fd) in self.channels {
            if !hand_over(fd.as_fd(), packet) {
                *self.drops += 1;
            }
        }
    }
}

/// False when the channel is full or closed.
fn hand_over(channel: BorrowedFd<'_>, packet: &[u8]) -> bool {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::io::retry_on_intr(|| send(channel, packet, flags)).is_ok()
}

/// What the node's own stack must know, from the router's configuration: every address of the node is its own, and the
/// source of a packet is what the best route says, else the first address of its port (RFC 1122 3.3.4.3, Linux
/// `inet_select_addr`).
fn host_config(snapshot: &Snapshot, id: PortId) -> StackConfig {
    let port = snapshot.ports.iter().find(|p| p.id == id);
    let (mac, gateway_mac, mtu) = match port.map(|p| (p, p.kind)) {
        Some((port, PortKind::Host { peer_mac })) => (peer_mac, port.mac, port.mtu),
        // Not configured yet: it hears nothing and says nothing.
        _ => (Mac::ZERO, Mac::ZERO, 68),
    };
    let mut addresses: Vec<Ipv4Addr> = Vec::new();
    for local in &snapshot.addresses {
        if !local.addr.is_loopback() && !addresses.contains(&local.addr) {
            addresses.push(local.addr);
        }
    }
    let first_on = |port: PortId| {
        let mut on_port = snapshot.addresses.iter().filter(|a| a.port == port);
        on_port.next().map(|a| a.addr)
    };
    let mut routes: Vec<(Ipv4Net, u32, Ipv4Addr)> = snapshot
        .routes
        .iter()
        .filter_map(|route| {
            let RouteTarget::Unicast(hops) = &route.target else {
                return None;
            };
            let source = route.src.or_else(|| first_on(hops.first()?.port))?;
            Some((route.dst, route.metric, source))
        })
        .collect();
    routes.sort_by_key(|&(dst, metric, _)| (core::cmp::Reverse(dst.prefix_len()), metric));
    StackConfig {
        mac,
        gateway_mac,
        mtu: clamp_mtu(mtu),
        addresses,
        sources: routes.into_iter().map(|(dst, _, src)| (dst, src)).collect(),
        ttl: 64,
        on_link: None,
    }
}

#[cfg(test)]
mod tests;

//! A worker of a node: its event loop, and what the daemon can ask of it.
//!
//! Decides nothing. A node has one, in the thread of its control socket, or several, each in a thread of its own with a router of
//! its own (see [`router_core::share`]); then each gets the requests as if it were the node, with the descriptors of its own
//! queues, and [`crew`](super::crew) makes one answer of theirs.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use router_core::{Event, Limits, Mark, PortId, Router, Share};
use tap_bridge::event_loop::{AnyPort, EventLoop, Token};
use tap_bridge::fabric::{FabricPort, MemberId};
use tap_bridge::port::PortCounters;
use tap_bridge::tails::Tails;

use crate::control::node::{
    Attachment, NodeNeighbour, NodeReply, NodeRequest, NodeStats, PortStats, TracePort,
};
use crate::internet;
use crate::node::engine::{ChannelId, NodeEngine};
use crate::node::journal::{self, Journal, Left};
use crate::pod::inproc::{Stack, StackConfig, clamp_mtu};

/// Frames of a worker, 2 kB each: what a batch, the hold queues and the fabric's pending queue can need at a time.
const POOL_FRAMES: usize = 1024;

/// The first token of a channel; those below are the process's.
const FIRST_CHANNEL: usize = 1;

/// See the module.
#[derive(Debug)]
pub(super) struct Worker {
    /// Its number, from 0 on.
    index: usize,
    pub(super) event_loop: EventLoop<NodeEngine>,
    next_channel: usize,
    /// Channels that may have more than was read.
    ready: Vec<ChannelId>,
    tails: Option<Arc<Tails>>,
    seed: u64,
    /// Ports that are impaired.
    whole: BTreeSet<PortId>,
    tokens: Vec<Token>,
}

impl Worker {
    /// A worker without ports; of several, the one with this share.
    ///
    /// # Errors
    /// When the system gives no event loop.
    pub(super) fn new(seed: u64, share: Option<Share>) -> io::Result<Self> {
        let index = share.as_ref().map_or(0, |share| share.index().into());
        let mut router = Router::new(Limits::default(), seed);
        if let Some(share) = share {
            router = router.with_share(share);
        }
        Ok(Self {
            index,
            event_loop: EventLoop::new(NodeEngine::new(router), POOL_FRAMES)?,
            next_channel: 0,
            ready: Vec::new(),
            tails: None,
            seed,
            whole: BTreeSet::new(),
            tokens: Vec::new(),
        })
    }

    /// One breath, with what belongs to it. Gives the process's tokens that had events.
    ///
    /// # Errors
    /// When epoll fails.
    pub(super) fn breathe(&mut self) -> io::Result<bool> {
        if self.event_loop.engine().is_capturing() {
            self.flush_captures();
        }
        let wait = (!self.ready.is_empty()).then_some(Duration::ZERO);
        self.tokens.clear();
        self.tokens.extend_from_slice(self.event_loop.turn(wait)?);
        for (port, error) in self.event_loop.take_failures() {
            tracing::warn!(
                "port {}: {error}; it is out of use until it is added again",
                port.0
            );
        }
        let mut control = false;
        for &token in &self.tokens {
            match token.0.checked_sub(FIRST_CHANNEL).map(ChannelId) {
                None => control = true,
                Some(id) if !self.ready.contains(&id) => self.ready.push(id),
                Some(_) => {}
            }
        }
        self.serve_channels();
        Ok(control)
    }

    /// What is done to the frames of one port can't be divided: while any port is impaired, the first worker handles all that
    /// arrives.
    pub(super) fn impair_whole(&mut self, port: PortId, impaired: bool) {
        if impaired {
            self.whole.insert(port);
        } else {
            self.whole.remove(&port);
        }
        let leave = !self.whole.is_empty();
        self.event_loop
            .engine_mut()
            .router_mut()
            .leave_to_first(leave);
    }

    /// Does what the daemon asks, with the descriptors that are this worker's.
    ///
    /// # Errors
    /// Why it can't be done; nothing has changed then.
    pub(super) fn carry_out(
        &mut self,
        request: NodeRequest,
        fds: Vec<OwnedFd>,
    ) -> Result<NodeReply, String> {
        let mut fds = fds.into_iter();
        let fd = fds.next();
        match request {
            NodeRequest::Configure { snapshot } => self
                .event_loop
                .with(|engine, now, pool, _| engine.configure(now, *snapshot, pool))
                .map_err(|error| error.to_string())?,
            NodeRequest::AddPort {
                id,
                name,
                mtu,
                attachment,
            } => self.add_port(id, &name, mtu, attachment, fd)?,
            NodeRequest::RemovePort { id } => self.remove_port(id)?,
            NodeRequest::Neighbours => return Ok(self.neighbours()),
            NodeRequest::FlushNeighbours { port, ip } => {
                self.event_loop.with(|engine, _, pool, _| {
                    engine.router_mut().flush_neighbours(port, ip, pool);
                });
            }
            NodeRequest::Stats => return Ok(self.stats()),
            NodeRequest::NatCounts => {
                let router = self.event_loop.engine().router();
                let chains = router.nat_counts().to_vec();
                return Ok(NodeReply::NatCounts { chains });
            }
            NodeRequest::Sessions { filter } => {
                let sessions = self.event_loop.with(|engine, now, _, _| {
                    let all = engine.router().sessions(now);
                    all.filter(|s| filter.holds(&s.original, &s.reply))
                        .collect()
                });
                return Ok(NodeReply::Sessions { sessions });
            }
            NodeRequest::FlushSessions { filter } => {
                let router = self.event_loop.engine_mut().router_mut();
                let count = router.flush_sessions(&filter);
                return Ok(NodeReply::Flushed { count });
            }
            NodeRequest::KeepJournal { slots, left } => {
                return self.keep_journal(fd, slots, fds.next().zip(left));
            }
            NodeRequest::OpenIcmp { port } => self.open_icmp(port, fd)?,
            NodeRequest::TraceBegin { trace } => {
                let engine = self.event_loop.engine_mut();
                engine
                    .begin_trace(trace)
                    .map_err(|error| error.to_string())?;
            }
            NodeRequest::TraceInject { trace, port, frame } => self.inject(trace, port, &frame)?,
            NodeRequest::TraceSteps { trace, from } => return self.trace_steps(trace, from),
            NodeRequest::TraceEnd { trace } => self.event_loop.engine_mut().end_trace(trace),
            NodeRequest::Impair { port, impair } => self.impair(port, &impair)?,
            NodeRequest::CaptureBegin { capture, order } => {
                self.begin_capture(capture, order, fd, fds.next())?;
            }
            NodeRequest::CaptureEnd { capture } => return Ok(self.end_capture(capture)),
            // The process does.
            NodeRequest::Shutdown => {}
        }
        Ok(NodeReply::Done)
    }

    fn keep_journal(
        &mut self,
        fd: Option<OwnedFd>,
        slots: u32,
        left: Option<(OwnedFd, u32)>,
    ) -> Result<NodeReply, String> {
        let failed = |error: io::Error| format!("the journal of connections: {error}");
        let fd = fd.ok_or("a descriptor is missing")?;
        let journal = Journal::new(fd, slots).map_err(failed)?;
        let left = match left {
            Some((fd, slots)) => journal::read(fd, slots).map_err(failed)?,
            None => Left::default(),
        };
        let events = self.event_loop.with(|engine, now, _, _| {
            engine.keep_journal(now, journal, &left);
            engine.router().stats().events.clone()
        });
        Ok(NodeReply::Restored {
            restored: events.get(Event::ConnectionRestored),
            lost: events.get(Event::ConnectionLost),
        })
    }

    fn add_port(
        &mut self,
        id: PortId,
        name: &str,
        mtu: u16,
        attachment: Attachment,
        fd: Option<OwnedFd>,
    ) -> Result<(), String> {
        let taken = || format!("port {} ({name}) is there already", id.0);
        if self.event_loop.port(id).is_some() || self.event_loop.engine().has_stack(id) {
            return Err(taken());
        }
        let failed =
            |what: &str, error: io::Error| format!("port {} ({name}): {what}: {error}", id.0);
        let port: AnyPort = match (attachment, fd) {
            (Attachment::Tap, Some(fd)) => self
                .tap_port(fd, name, mtu)
                .map_err(|error| failed("TAP device", error))?,
            (Attachment::Packet { offload }, Some(fd)) => self
                .packet_port(fd, name, mtu, offload)
                .map_err(|error| failed("packet socket", error))?,
            (Attachment::Fabric { member, mac }, Some(fd)) => {
                let port = FabricPort::new(fd, MemberId(member), mac)
                    .map_err(|error| failed("join the fabric", error))?
                    .with_worker(self.index);
                self.tails = Some(Arc::clone(port.tails()));
                port.into()
            }
            (attachment, _) => {
                self.attach_stack(id, mtu, &attachment);
                return Ok(());
            }
        };
        self.event_loop
            .add_port(id, port)
            .map_err(|error| failed("poll", error))?;
        self.place_probe(id);
        Ok(())
    }

    /// Where devices put the tails of superframes: where the fabric can send them from, if there is one.
    pub(super) fn tails(&mut self) -> io::Result<Arc<Tails>> {
        let tails = match self.tails.take() {
            Some(tails) => tails,
            None => Tails::new()?,
        };
        self.tails = Some(Arc::clone(&tails));
        Ok(tails)
    }

    fn attach_stack(&mut self, id: PortId, mtu: u16, attachment: &Attachment) {
        let mtu = clamp_mtu(mtu);
        self.seed = self.seed.wrapping_add(1);
        let seed = self.seed;
        let engine = self.event_loop.engine_mut();
        let attached = match attachment {
            Attachment::Pod {
                mac,
                addr,
                gateway_mac,
                on_link,
            } => {
                let config = StackConfig::pod(*mac, *addr, *gateway_mac, mtu).on_link(*on_link);
                engine.attach(id, Stack::new(config, seed))
            }
            Attachment::Internet {
                mac,
                gateway_mac,
                addresses,
                ttl,
            } => {
                let config = StackConfig {
                    mac: *mac,
                    gateway_mac: *gateway_mac,
                    mtu,
                    addresses: addresses.clone(),
                    sources: Vec::new(),
                    ttl: *ttl,
                    on_link: None,
                };
                engine.attach(id, internet::stack(config, seed))
            }
            Attachment::Host => engine.attach_host(id, seed),
            // These have a descriptor, and came another way.
            Attachment::Tap | Attachment::Packet { .. } | Attachment::Fabric { .. } => false,
        };
        debug_assert!(attached, "the caller has checked that the number is free");
    }

    fn remove_port(&mut self, id: PortId) -> Result<(), String> {
        self.impair_whole(id, false);
        if let Some(channels) = self.event_loop.engine_mut().detach(id) {
            for (channel, fd) in channels {
                self.forget_channel(channel, fd.as_fd());
            }
            return Ok(());
        }
        match self.event_loop.remove_port(id) {
            Some(port) => {
                drop(port);
                Ok(())
            }
            None => Err(format!("there is no port {}", id.0)),
        }
    }

    fn neighbours(&self) -> NodeReply {
        let neighbours = self.event_loop.engine().router().neighbours();
        NodeReply::Neighbours {
            neighbours: neighbours
                .map(|n| NodeNeighbour {
                    port: n.port,
                    ip: n.ip,
                    mac: n.mac,
                    state: n.state.as_str().to_owned(),
                })
                .collect(),
        }
    }

    fn stats(&self) -> NodeReply {
        let engine = self.event_loop.engine();
        let devices = self.event_loop.port_counters();
        let mut ports: Vec<_> = devices
            .chain(engine.stack_counters())
            .map(|(port, c)| PortStats::new(port, c))
            .collect();
        ports.sort_by_key(|p| p.port);
        NodeReply::Stats {
            stats: Box::new(NodeStats {
                router: engine.router().stats().clone(),
                held: engine.router().held(),
                ports,
                stack_drops: engine.stack_drops(),
                tracking: engine.router().tracking(),
                impaired: self.impaired(),
                journal_behind: engine.router().has_changes(),
                lost_between_workers: self.event_loop.lost_between_workers(),
            }),
        }
    }

    fn inject(&mut self, trace: u8, port: PortId, bytes: &[u8]) -> Result<(), String> {
        self.event_loop.with(|engine, now, pool, tx| {
            let mut frame = pool.alloc().ok_or("the node has no free frame")?;
            if !frame.fill(bytes) {
                pool.free(frame);
                return Err("the frame is too long".to_owned());
            }
            frame.set_port(port);
            frame.set_mark(Mark::new(trace));
            engine.inject(frame, now, pool, tx);
            Ok(())
        })
    }

    fn trace_steps(&self, trace: u8, from: usize) -> Result<NodeReply, String> {
        let router = self.event_loop.engine().router();
        let recorded = router.trace().get(trace);
        let recorded = recorded.ok_or_else(|| format!("trace {trace} was not begun"))?;
        let ports = router.snapshot().ports.iter().map(|port| TracePort {
            id: port.id,
            name: port.name.clone(),
            fabric: matches!(
                self.event_loop.port(port.id).map(AnyPort::plain),
                Some(AnyPort::Fabric(_))
            ),
        });
        Ok(NodeReply::Trace {
            records: recorded.records.get(from..).unwrap_or_default().to_vec(),
            lost: recorded.lost,
            ports: ports.collect(),
        })
    }

    fn open_icmp(&mut self, port: PortId, fd: Option<OwnedFd>) -> Result<(), String> {
        let fd = fd.ok_or("a descriptor is missing")?;
        let id = ChannelId(self.next_channel);
        if !self.event_loop.engine().has_stack(port) {
            return Err(format!(
                "there is no in-process stack behind port {}",
                port.0
            ));
        }
        let token = Token(FIRST_CHANNEL + id.0);
        self.event_loop
            .register(fd.as_fd(), token)
            .map_err(|error| format!("open a channel: {error}"))?;
        self.next_channel += 1;
        let opened = self.event_loop.engine_mut().open_channel(port, id, fd);
        debug_assert!(opened.is_ok(), "the stack was there a moment ago");
        // Packets may have come before the registration.
        self.ready.push(id);
        Ok(())
    }

    /// Sends what the channels' owners gave us.
    fn serve_channels(&mut self) {
        for id in std::mem::take(&mut self.ready) {
            let read = self
                .event_loop
                .with(|engine, now, pool, tx| engine.read_channel(id, now, pool, tx));
            match read {
                Ok(true) => self.ready.push(id),
                Ok(false) => {}
                Err(_) => {
                    if let Some(fd) = self.event_loop.engine_mut().close_channel(id) {
                        self.forget_channel(id, fd.as_fd());
                    }
                }
            }
        }
    }

    fn forget_channel(&mut self, id: ChannelId, fd: BorrowedFd<'_>) {
        self.ready.retain(|&c| c != id);
        // It fails only for a descriptor that is not registered, which is what is wanted.
        let _ = self.event_loop.deregister(fd);
    }
}

impl PortStats {
    fn new(port: PortId, c: PortCounters) -> Self {
        Self {
            port,
            rx_frames: c.rx_frames,
            rx_bytes: c.rx_bytes,
            tx_frames: c.tx_frames,
            tx_bytes: c.tx_bytes,
            tx_dropped: c.tx_dropped,
            rx_errors: c.rx_errors,
            rx_missed: c.rx_missed,
        }
    }
}

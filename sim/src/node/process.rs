//! The body of a node process: one thread, one event loop, one control socket.
//!
//! Decides nothing: it carries out what the daemon says ([`control::node`](crate::control::node)) and moves frames. It
//! doesn't end for anything that arrives on a port, and refuses what it can't do; it ends when the daemon says so or
//! the control socket closes, with which everything that it owns goes. Logs to stderr.

mod capture;
mod device;
mod impair;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use router_core::{Event, Limits, Mark, PortId, Router};
use rustix::net::{SendFlags, send};
use tap_bridge::event_loop::{AnyPort, EventLoop, Interest, Token};
use tap_bridge::fabric::{FabricPort, MemberId};
use tap_bridge::port::PortCounters;
use tap_bridge::sys::spawn::{adopt, set_command_name};
use tap_bridge::tails::Tails;
use tracing_subscriber::EnvFilter;

use super::Role;
use super::engine::{ChannelId, NodeEngine};
use super::journal::{self, Journal, Left};
use crate::control::codec::{CodecError, Decoder, encode};
use crate::control::node::{
    Attachment, NodeNeighbour, NodeReply, NodeRequest, NodeStats, Numbered, PortStats, TracePort,
};
use crate::internet;
use crate::pod::inproc::{Stack, StackConfig, clamp_mtu};

/// Frames of a node, 2 kB each: what a batch, the hold queues and the fabric's pending queue can need at a time.
const POOL_FRAMES: usize = 1024;

/// Bytes of answers that may wait for the daemon before no more requests are read.
const MAX_UNSENT: usize = 1 << 20;

/// The hidden command.
pub const NODE_COMMAND: &str = "__node";

const CONTROL: Token = Token(0);
const FIRST_CHANNEL: usize = 1;

/// What the hidden command `__node` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeArgs {
    /// What it is.
    pub role: Role,
    /// Name of the node, for the log.
    pub name: String,
    /// Number of the inherited control socket.
    pub control_fd: i32,
}

impl NodeArgs {
    /// The words behind the program's name, from `__node` on.
    #[must_use]
    pub fn to_words(&self) -> Vec<OsString> {
        let fd = self.control_fd.to_string();
        let words = [NODE_COMMAND, self.role.as_str(), &self.name, &fd];
        words.map(OsString::from).to_vec()
    }

    /// The reverse of [`NodeArgs::to_words`]; none for anything else.
    #[must_use]
    pub fn from_words(words: &[OsString]) -> Option<Self> {
        let words: Vec<_> = words.iter().filter_map(|w| w.to_str()).collect();
        let [NODE_COMMAND, role, name, fd] = words[..] else {
            return None;
        };
        Some(Self {
            role: [Role::Node, Role::Internet]
                .into_iter()
                .find(|r| r.as_str() == role)?,
            name: name.to_owned(),
            control_fd: fd.parse().ok()?,
        })
    }
}

/// The hidden command: the rest of the words are [`NodeArgs::to_words`]. Logs to stderr, at the level that
/// `PODWIRE_LOG` names (`info` unless said otherwise). Exit status 0 when the daemon ended it, 2 for other words, 70 for a
/// system that gives no event loop.
#[must_use]
pub fn main(words: &[OsString]) -> ExitCode {
    let Some(args) = NodeArgs::from_words(words) else {
        return ExitCode::from(2);
    };
    let filter = EnvFilter::try_from_env("PODWIRE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // Fails only when there is a logger already.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false)
        .try_init();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{} {}: {error}", args.role.as_str(), args.name);
            ExitCode::from(70)
        }
    }
}

/// Runs a node process until the daemon ends it.
///
/// # Errors
/// When the control socket was not inherited or the system gives no event loop; or when epoll fails, which nothing that
/// arrives can cause.
pub fn run(args: &NodeArgs) -> io::Result<()> {
    set_command_name(&format!("podwire-{}", args.role.as_str()));
    // Deadlines are kept to the microsecond instead of the usual fifty, for links that delay frames.
    let slack = std::num::NonZeroU64::new(1000);
    if let Err(errno) = rustix::thread::set_current_timer_slack(slack) {
        tracing::debug!("the timers stay lax: {errno}");
    }
    let control = adopt(args.control_fd)?;
    let process = NodeProcess::new(control)?;
    tracing::info!("{} {} has started", args.role.as_str(), args.name);
    process.run()
}

/// A node around its control socket.
#[derive(Debug)]
pub struct NodeProcess {
    control: OwnedFd,
    decoder: Decoder,
    unsent: VecDeque<u8>,
    ending: bool,
    event_loop: EventLoop<NodeEngine>,
    next_channel: usize,
    /// Channels that may have more than was read.
    ready: Vec<ChannelId>,
    tails: Option<Arc<Tails>>,
    seed: u64,
}

/// Why the control loop goes no further.
enum End {
    /// The daemon closed, or said so.
    Orderly,
    /// It can't be understood.
    Broken(CodecError),
}

impl NodeProcess {
    /// A node without ports that listens on `control`.
    ///
    /// # Errors
    /// When the system gives no event loop or no random numbers.
    pub fn new(control: OwnedFd) -> io::Result<Self> {
        let mut seed = [0; 8];
        // Eight bytes are never cut short.
        rustix::rand::getrandom(&mut seed[..], rustix::rand::GetRandomFlags::empty())?;
        let seed = u64::from_ne_bytes(seed);
        let engine = NodeEngine::new(Router::new(Limits::default(), seed));
        let event_loop = EventLoop::new(engine, POOL_FRAMES)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        event_loop.register_for(control.as_fd(), CONTROL, both)?;
        Ok(Self {
            control,
            decoder: Decoder::new(),
            unsent: VecDeque::new(),
            ending: false,
            event_loop,
            next_channel: 0,
            ready: Vec::new(),
            tails: None,
            seed,
        })
    }

    /// Serves until the control socket closes.
    ///
    /// # Errors
    /// When epoll fails.
    pub fn run(mut self) -> io::Result<()> {
        let mut tokens = Vec::new();
        loop {
            if self.event_loop.engine().is_capturing() {
                self.flush_captures();
            }
            let wait = (!self.ready.is_empty()).then_some(Duration::ZERO);
            tokens.clear();
            tokens.extend_from_slice(self.event_loop.turn(wait)?);
            for (port, error) in self.event_loop.take_failures() {
                tracing::warn!(
                    "port {}: {error}; it is out of use until it is added again",
                    port.0
                );
            }
            for &token in &tokens {
                if token == CONTROL {
                    match self.serve_control() {
                        Ok(()) => {}
                        Err(End::Orderly) => return Ok(()),
                        Err(End::Broken(error)) => {
                            tracing::error!("control socket: {error}");
                            return Ok(());
                        }
                    }
                } else if let Some(id) = token.0.checked_sub(FIRST_CHANNEL)
                    && !self.ready.contains(&ChannelId(id))
                {
                    self.ready.push(ChannelId(id));
                }
            }
            self.serve_channels();
        }
    }

    /// Reads and carries out everything that has arrived.
    fn serve_control(&mut self) -> Result<(), End> {
        loop {
            self.flush()?;
            if self.ending && self.unsent.is_empty() {
                return Err(End::Orderly);
            }
            if self.ending || self.unsent.len() > MAX_UNSENT {
                // Goes on when the socket becomes writable.
                return Ok(());
            }
            match self.decoder.next_frame().map_err(End::Broken)? {
                Some(frame) => {
                    // A request that can't be understood has no number to answer to.
                    let (Numbered { id, body }, fds) = frame.parse().map_err(End::Broken)?;
                    let body = self.carry_out(body, fds);
                    let bytes = encode(&Numbered { id, body }, 0).map_err(End::Broken)?;
                    self.unsent.extend(bytes);
                }
                None => match self.decoder.read_from(self.control.as_fd()) {
                    Ok(()) => {}
                    Err(CodecError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                        return Ok(());
                    }
                    Err(CodecError::Closed) => return Err(End::Orderly),
                    Err(error) => return Err(End::Broken(error)),
                },
            }
        }
    }

    fn flush(&mut self) -> Result<(), End> {
        while !self.unsent.is_empty() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match send(&self.control, self.unsent.as_slices().0, flags) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(_) => return Err(End::Orderly),
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, request: NodeRequest, fds: Vec<OwnedFd>) -> NodeReply {
        match self.try_carry_out(request, fds) {
            Ok(reply) => reply,
            Err(message) => {
                tracing::warn!("refused: {message}");
                NodeReply::Failed { message }
            }
        }
    }

    fn try_carry_out(
        &mut self,
        request: NodeRequest,
        fds: Vec<OwnedFd>,
    ) -> Result<NodeReply, String> {
        let wanted = match &request {
            NodeRequest::AddPort { attachment, .. } => attachment.descriptors(),
            NodeRequest::OpenIcmp { .. } => 1,
            NodeRequest::CaptureBegin { .. } => 2,
            NodeRequest::KeepJournal { left, .. } => 1 + usize::from(left.is_some()),
            _ => 0,
        };
        if fds.len() != wanted {
            let got = fds.len();
            return Err(format!(
                "{got} descriptors came along where {wanted} belong"
            ));
        }
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
            NodeRequest::Shutdown => self.ending = true,
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
                    .map_err(|error| failed("join the fabric", error))?;
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
    fn tails(&mut self) -> io::Result<Arc<Tails>> {
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

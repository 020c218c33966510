//! The packet path, from port to port, in one place and in the order in which it happens.
//!
//! ```text
//!  rx -> l2 ──┬─ ARP ──> arp ──> neigh (learn, reply)
//!             └─ IPv4 ─> header ─> defrag ─> [conntrack, DNAT] ─> options ─> martian, fib
//!                           ┌───────────────────────────────────────────────────┤
//!                   local (7a): answer, host port                    forward (7b): TTL, length, decrement,
//!                                                                    [policy], [SNAT], fragments
//!                   decap ──> header ..                         │
//!                           └────────────────> neigh ─> tx <──────┴──> encap ──> fib for the outer header ..
//! ```
//!
//! A port with a bandwidth limit has a gate (`shape`) before `l2` and behind `tx`, where frames wait for their turn.
//!
//! What is nothing but forwarded takes a shorter way with the same end, in stages over the whole batch: `plain`.
//!
//! A frame from a port of a bridge goes to the `bridge` stage before `l2`, which sends it to other ports or hands it on as
//! received by the bridge's own interface; a frame that leaves by that interface goes to the bridge's ports after `neigh`.
//!
//! A superframe goes all of this way as one frame; where that can't be it is cut (`router/segments.rs`), and its segments
//! go on from there.
//!
//! [`Router`] owns the state and the order; what each step decides is in the module of its name. Stages in brackets are on
//! nodes that want them. Behind the last step of this file come, in `router/`: `answering` (7a), `resolving` (ARP),
//! `egress` (the way out), `tunnel`, and `own` for what the router says on its own account; `control` is what is not about
//! packets. Every frame ends in exactly one of `transmit` (sent or held), `discard` and `consume`, each of which counts it.
//! What a stage decided about a marked frame it reports with `io.trace.step`; see [`trace`](crate::trace).
//!
//! Cost: per forwarded packet two route lookups (source validation, destination) and one neighbour lookup; no allocation.

mod announce;
mod answering;
mod bridging;
mod control;
mod egress;
mod fragments;
mod own;
mod plain;
mod policing;
mod resolving;
mod segments;
mod sessions;
mod shaping;
mod sharing;
mod tell;
mod tunnel;

pub use control::Limits;
pub use sessions::Tracking;

use alloc::boxed::Box;
use core::mem;
use core::net::Ipv4Addr;

use crate::bridge::Bridges;
use crate::config::{PortConfig, PortKind, Snapshot};
use crate::fib::{Fib, Hop, Lookup};
use crate::forward::{self, Size};
use crate::frag::{Fragments, Reassembly, User};
use crate::frame::{Batch, Frame, FramePool, TxBatch};
use crate::icmp_error::{IcmpError, Limiter, Refusal};
use crate::l2::{self, Link, Payload};
use crate::martian;
use crate::nat::{self, Context, Form, Nat};
use crate::neigh::NeighbourTable;
use crate::options;
use crate::originate::Originator;
use crate::policy::Policy;
use crate::ports::PortIndex;
use crate::random;
use crate::segment;
use crate::shape::{Shaper, Side};
use crate::share::Share;
use crate::stats::{Counters, DropReason, Event, RouteKind, Stats};
use crate::time::Instant;
use crate::trace::{Mark, Recorder, Step};
use crate::wire::ethernet::{self, HEADER_LEN};
use crate::wire::ipv4::{self, Ipv4, PROTOCOL_IPIP};
use announce::Announcements;
use plain::{Mode, Plain};
use tunnel::Tunnel;

/// Source of an error when the node has no address at all (RFC 7600, as Linux).
const DUMMY_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// An IPv4 router: frames in, frames out. See the module for the packet path.
///
/// Whoever drives it calls [`Router::process`] with what has arrived, and [`Router::handle_timeout`] when the time that
/// [`Router::poll_timeout`] names has come. Time is the caller's and never goes backwards.
#[derive(Debug)]
pub struct Router {
    snapshot: Snapshot,
    ports: PortIndex,
    fib: Fib,
    policy: Policy,
    /// Connection tracking and NAT, where something needs it.
    nat: Option<Box<Nat>>,
    journal: sessions::Journal,
    neighbours: NeighbourTable,
    bridges: Bridges,
    limiter: Limiter,
    originator: Originator,
    stats: Stats,
    trace: Recorder,
    /// Fragments are collected before anything is decided about them.
    defragments: bool,
    reassembly: Reassembly,
    /// The complete datagram at hand; empty between two frames.
    set: Fragments,
    /// Where a datagram for the node is put together.
    scratch: Box<[u8]>,
    tunnel: Tunnel,
    announcements: Announcements,
    /// Where some port has a bandwidth limit.
    shaper: Option<Box<Shaper>>,
    /// Frames that may wait there.
    shaped: u16,
    plain: Box<Plain>,
    flow_seed: u64,
    /// Where it is one of several workers of a node.
    share: Option<Share>,
    /// All that arrives is the first worker's: it was told so; for that or any other reason.
    leaves_all: bool,
    funnels: bool,
}

/// What a packet may touch besides the router's tables.
struct Io<'a> {
    now: Instant,
    pool: &'a mut FramePool,
    tx: &'a mut TxBatch,
    trace: &'a mut Recorder,
    /// Look-ups of this batch by kind of route.
    routes: Counters<RouteKind>,
}

/// Where the stages of [`Router::ipv4_stages`] lead.
enum Verdict {
    /// To this node itself (`answering`), which may take a tunnel's packet out of it (`tunnel`).
    Local,
    /// By this way out (`egress`), or into a tunnel.
    Forward(Hop, Ipv4Addr),
    /// As the packets of this connection before it: place of the port, next hop.
    Again(usize, Ipv4Addr),
    /// To the worker that its connection belongs to.
    Elsewhere(u8),
}

/// A datagram that came in pieces.
#[derive(Clone, Copy)]
struct OfSet<'a> {
    /// Its longest piece.
    size: Size,
    /// All of it, where somebody wants to see that.
    datagram: Option<&'a [u8]>,
}

/// Who answers a datagram for the node.
enum By {
    /// The router did.
    Router,
    /// The host namespace will.
    Host,
}

impl Router {
    /// Takes every frame of `rx` through the router, in order; what is to be sent is appended to `tx`.
    ///
    /// Each frame names the port it was received on. `rx` is empty afterwards. Frames that are only forwarded are looked at
    /// together; all others take the long way, one after the other.
    pub fn process(
        &mut self,
        now: Instant,
        rx: &mut Batch,
        pool: &mut FramePool,
        tx: &mut TxBatch,
    ) {
        self.with_io(now, pool, tx, |router, io| {
            // Nothing that arrives is this worker's: to the one that handles it (`sharing`).
            if router.funnels {
                return rx.drain().for_each(|frame| router.funnel(frame, io));
            }
            match (router.plain.mode(), &router.nat) {
                // What most packets are is sent at once (`plain`); what is not plain goes on below, in its turn, as do the
                // plain ones behind it.
                (Mode::Forward, _) => {
                    let mut counts = plain::Counts::default();
                    router.forward_first(rx, &mut counts, io);
                    let mut rest = rx.drain();
                    while !rest.as_slice().is_empty() {
                        let group = router.plain.look_and_route(
                            rest.as_slice(),
                            &router.snapshot.ports,
                            &router.fib,
                        );
                        for (n, frame) in (0..group).zip(&mut rest) {
                            if let Err(frame) = router.forward_next(n, frame, &mut counts, io) {
                                router.receive(frame, io);
                            }
                        }
                    }
                    router.count_plain(counts, io);
                }
                // The same, by what is known of connections (`plain/track`); what is not known of them goes on below.
                (Mode::Track, Some(_)) => router.track(rx, io),
                _ => rx.drain().for_each(|frame| router.receive(frame, io)),
            }
        });
    }

    /// Calls `work` with what packets may touch, and takes over what it has counted.
    fn with_io(
        &mut self,
        now: Instant,
        pool: &mut FramePool,
        tx: &mut TxBatch,
        work: impl FnOnce(&mut Self, &mut Io<'_>),
    ) {
        let mut trace = mem::take(&mut self.trace);
        trace.set_now(now);
        let mut io = Io {
            now,
            pool,
            tx,
            trace: &mut trace,
            routes: Counters::default(),
        };
        work(self, &mut io);
        self.stats.count_routes(&io.routes);
        self.trace = trace;
    }

    /// Step 1: link layer.
    fn receive(&mut self, frame: Frame, io: &mut Io<'_>) {
        let slot = self.ports.slot(frame.port());
        if frame.is_handed() {
            return self.take_over(frame, slot, io);
        }
        self.count_received(&frame, io);
        self.admit_frame(frame, slot, io);
    }

    fn count_received(&mut self, frame: &Frame, io: &mut Io<'_>) {
        let size = (frame.len(), segment::count(frame));
        self.stats.count_rx(self.ports.slot(frame.port()), size);
        io.trace.step(frame.mark(), || tell::rx(frame));
        io.trace.step_if(frame.mark(), || tell::superframe(frame));
    }

    fn admit_frame(&mut self, mut frame: Frame, slot: Option<usize>, io: &mut Io<'_>) {
        if frame.is_cut() {
            return self.discard(frame, DropReason::FrameTooLong, io);
        }
        if let Err(reason) = segment::admit(&mut frame) {
            return self.discard(frame, reason, io);
        }
        if let Some(gate) = slot.and_then(|slot| self.gate(slot, Side::Rx)) {
            return self.shape(frame, gate, io);
        }
        self.enter(frame, slot, io);
    }

    /// Step 1 for a frame that no limit keeps back: to its bridge, or on.
    fn enter(&mut self, frame: Frame, slot: Option<usize>, io: &mut Io<'_>) {
        if let Some((slot, member)) =
            slot.and_then(|slot| Some((slot, self.snapshot.ports.get(slot)?.bridge?)))
        {
            return self.bridge(frame, slot, member, io);
        }
        self.accept(frame, slot, io);
    }

    /// Step 1 for a frame that is the router's own affair: of a routed port, or what a bridge hands up.
    fn accept(&mut self, frame: Frame, slot: Option<usize>, io: &mut Io<'_>) {
        let accepted = slot
            .and_then(|slot| Some((slot, self.snapshot.ports.get(slot)?)))
            .ok_or(DropReason::UnknownPort)
            .and_then(|(slot, port)| l2::accept(slot, port, frame.bytes()));
        match accepted {
            Ok(link) => match link.payload {
                Payload::Arp => self.arp(frame, link, io),
                Payload::Ipv4 => self.ipv4(frame, link, io),
            },
            Err(reason) => self.discard(frame, reason, io),
        }
    }

    fn ipv4(&mut self, mut frame: Frame, link: Link, io: &mut Io<'_>) {
        // 2. Header validation; link-layer padding goes.
        if let Err(reason) = self.validate(&mut frame, link, io) {
            return self.discard(frame, reason, io);
        }
        // 3. Defragmentation, on nodes that want it.
        if is_fragment(&frame) && self.defragments {
            return self.collect(frame, User::TRACKED, Some(link), io);
        }
        let context = Context::of(&frame);
        self.validated(frame, link, context, io);
    }

    /// A packet after the first stages, with what is known of it.
    fn validated(&mut self, mut frame: Frame, link: Link, mut context: Context, io: &mut Io<'_>) {
        match self.ipv4_stages(&mut frame, None, link, &mut context, io) {
            Ok(Verdict::Local) => self.deliver(frame, &context, io),
            Ok(Verdict::Forward(hop, dst)) => self.send(frame, hop, dst, io),
            Ok(Verdict::Elsewhere(worker)) => self.hand_over(frame, worker, io),
            Ok(Verdict::Again(slot, next_hop)) => {
                // A hit of the route that its connection took, though nobody looked it up (FWD-94).
                io.routes.add(RouteKind::Unicast, 1);
                self.transmit_again(frame, slot, next_hop, io);
            }
            Err(refusal) => {
                self.untranslate(&mut frame, &context);
                self.refuse(frame, refusal, io);
            }
        }
    }

    /// Step 2 (section 1.2).
    fn validate(&self, frame: &mut Frame, link: Link, io: &mut Io<'_>) -> Result<(), DropReason> {
        io.trace
            .step(frame.mark(), || tell::accepted(frame.port(), link));
        let available = frame.len().saturating_sub(HEADER_LEN);
        let ip = Ipv4::parse_head(packet(frame), available).map_err(fault)?;
        io.trace.step(frame.mark(), || tell::header(&ip));
        let dst = ip.dst();
        if link.dst.is_group() && !dst.is_multicast() && !self.fib.is_broadcast(dst) {
            return Err(DropReason::UnicastInLinkBroadcast);
        }
        let len = HEADER_LEN + usize::from(ip.total_len());
        frame.truncate(len);
        Ok(())
    }

    /// Steps 4 to 7 of the normative order, up to the point where the packet leaves or is delivered. `frame` is the
    /// packet, or the first piece of the datagram `of_set`: what is done to its header will be done to all.
    fn ipv4_stages(
        &mut self,
        frame: &mut Frame,
        of_set: Option<OfSet<'_>>,
        link: Link,
        context: &mut Context,
        io: &mut Io<'_>,
    ) -> Result<Verdict, Refusal> {
        let (mark, now) = (frame.mark(), io.now);
        let port = self
            .snapshot
            .ports
            .get(link.slot)
            .ok_or(DropReason::UnknownPort)?;
        // 4. Connection tracking and destination NAT.
        if let Some(nat) = &mut self.nat {
            let whole = of_set.and_then(|set| set.datagram);
            let origin = (port.id, link.from_host, form(frame));
            let before = tell::summary(frame);
            let entered = nat.enter(now, packet_mut(frame), whole, origin, &self.fib, context);
            io.trace.step(mark, || Step::Tracked {
                state: context.tracked(),
            });
            io.trace.step_if(mark, || context.take_rule());
            io.trace.step_if(mark, || tell::translated(before, frame));
            entered?;
            if let Some(worker) = context.elsewhere() {
                return Ok(Verdict::Elsewhere(worker));
            }
            if let Some(verdict) = self.go_as_before(frame, link, context) {
                return Ok(verdict);
            }
        }
        let ip = Ipv4::peek(packet(frame)).ok_or(DropReason::BadHeaderLength)?;
        let (dst, protocol) = (ip.dst(), ip.protocol());

        // 5. Options.
        options::check(ip.options())?;
        io.trace.step_if(mark, || tell::options(&ip));

        // 6. Source validation and route.
        match martian::check_source(port, ip.src(), &self.fib) {
            Err(why) if link.from_host && martian::may_send(why, port, ip.src()) => {}
            checked => {
                checked?;
                io.trace.step(mark, || tell::source(port, &ip));
            }
        }
        martian::check_destination(port, dst)?;
        let hop = match self.route(mark, dst, || self.flow(&ip), io) {
            Lookup::Local => {
                // 7a. Input policy.
                deny_ipip(port, protocol)?;
                self.check_policy(frame, link, None, context.seen, io)?;
                self.admit(frame, now, context)?;
                return Ok(Verdict::Local);
            }
            _ if dst.is_loopback() => {
                self.admit(frame, now, context)?;
                return Ok(Verdict::Local);
            }
            Lookup::Broadcast => return Err(DropReason::Broadcast.into()),
            _ if !self.snapshot.forwarding && !link.from_host => {
                return Err(DropReason::ForwardingOff.into());
            }
            Lookup::Unicast(hop) => hop,
            Lookup::Blackhole => return Err(DropReason::Blackhole.into()),
            Lookup::Unreachable => {
                return Err(Refusal::with(
                    DropReason::Unreachable,
                    IcmpError::RouteUnreachable,
                ));
            }
            Lookup::Prohibit => {
                return Err(Refusal::with(DropReason::Prohibit, IcmpError::Prohibited));
            }
            Lookup::NoRoute => {
                return Err(Refusal::with(
                    DropReason::NoRoute,
                    IcmpError::NetUnreachable,
                ));
            }
        };

        // 7b. Forward. What the node itself sends (OUTPUT) keeps its TTL.
        if link.from_host {
            forward::check_sent_ttl(&ip)?;
        } else {
            forward::check_ttl(&ip)?;
        }
        let size = of_set.map_or_else(|| Size::of_frame(frame, &ip), |set| set.size);
        let mtu = self.egress_mtu(&hop, dst, size, io);
        io.trace.step(mark, || tell::mtu(size, hop.port, mtu));
        forward::check_length(size, mtu)?;
        io.trace.step(mark, || tell::ttl(&ip, link));
        self.check_tunnelled(&hop, &ip, link.from_host)?;
        let has_options = !ip.options().is_empty();
        if !link.from_host {
            forward::decrement_ttl(frame);
            if has_options {
                self.record(frame, &hop, dst, io.now);
            }
        }
        deny_ipip(port, protocol)?;
        self.check_policy(frame, link, Some(hop.slot), context.seen, io)?;
        if let Some(nat) = &mut self.nat {
            let way = (link.slot, &hop);
            let before = tell::summary(frame);
            let leaves = nat.leave(now, packet_mut(frame), context, way, &self.fib);
            io.trace.step_if(mark, || context.take_rule());
            io.trace.step_if(mark, || tell::translated(before, frame));
            self.stats
                .events
                .add(Event::ConnectionEvicted, nat.take_evicted());
            leaves?;
        }
        if link.from_host {
            martian::check_sent(packet(frame))?;
        }
        Ok(Verdict::Forward(hop, dst))
    }

    /// The short way for a packet whose connection and direction has gone this way under this configuration, if the packet
    /// is one that goes through unharmed: no options, TTL left, no longer than the MTU. A traced packet goes the long way
    /// and tells of it.
    fn go_as_before(&self, frame: &mut Frame, link: Link, context: &Context) -> Option<Verdict> {
        let (action, target) = self.nat.as_ref()?.shortcut(context, link.slot)?;
        let slot = usize::from(action.to);
        let port = self.snapshot.ports.get(slot)?;
        let ip = Ipv4::peek(packet(frame))?;
        // What a tunnel carries changes from packet to packet; a traced packet goes the long way and tells of it.
        if matches!(port.kind, PortKind::Ipip(_))
            || frame.mark().is_set()
            || !ip.options().is_empty()
            || ip.is_fragment()
            || ip.ttl() <= 1
            || Size::of_frame(frame, &ip).total_len > port.mtu
        {
            return None;
        }
        if !link.from_host {
            forward::decrement_ttl(frame);
        }
        if let Some(target) = target {
            let form = form(frame);
            nat::set_source(packet_mut(frame), &target, form);
        }
        Some(Verdict::Again(slot, action.next_hop))
    }

    /// A packet for the node itself becomes part of its connection, or begins one.
    fn admit(&mut self, frame: &mut Frame, now: Instant, context: &Context) -> Result<(), Refusal> {
        let Some(nat) = &mut self.nat else {
            return Ok(());
        };
        let admitted = nat.deliver(now, packet_mut(frame), context);
        self.stats
            .events
            .add(Event::ConnectionEvicted, nat.take_evicted());
        admitted
    }

    /// Makes a packet that goes no further what its sender sent, so that an error can quote that.
    fn untranslate(&self, frame: &mut Frame, context: &Context) {
        if let Some(nat) = &self.nat {
            nat.undo(packet_mut(frame), context);
        }
    }

    /// Where `dst` leads, counted by kind of route.
    fn route(
        &self,
        mark: Mark,
        dst: Ipv4Addr,
        flow: impl FnOnce() -> u64,
        io: &mut Io<'_>,
    ) -> Lookup {
        let found = self.fib.lookup(dst, flow);
        io.routes.add(found.kind(), 1);
        io.trace.step(mark, || self.tell_route(dst, &found));
        found
    }

    /// Signs record route and timestamp options with the address of the egress side (FWD-31).
    fn record(&self, frame: &mut Frame, hop: &Hop, dst: Ipv4Addr, now: Instant) {
        let egress = self.fib.source(hop, dst).unwrap_or(DUMMY_ADDRESS);
        let header = header_mut(frame);
        if let Some((_, options)) = header.split_first_chunk_mut::<{ ipv4::HEADER_LEN }>()
            && options::record(options, egress, now, |a| self.fib.is_local(a))
        {
            ipv4::rewrite_checksum(header);
        }
    }

    /// A number that all packets of a flow share: of the addresses alone, as Linux by default
    /// (`fib_multipath_hash_policy` 0), so that fragments stay with their datagram and ICMP errors with what they are about.
    fn flow(&self, ip: &Ipv4<'_>) -> u64 {
        let (src, dst) = forward::flow(ip);
        random::mix(random::hash(self.flow_seed, 0, src) ^ u64::from(dst.to_bits()))
    }
}

/// Pods may not make tunnels of their own (IPIP-24).
fn deny_ipip(port: &PortConfig, protocol: u8) -> Result<(), DropReason> {
    if protocol == PROTOCOL_IPIP && port.deny_ipip {
        return Err(DropReason::TunnelDenied);
    }
    Ok(())
}

/// Why a packet whose header is broken is dropped.
const fn fault(error: ipv4::Error) -> DropReason {
    match error {
        ipv4::Error::HeaderLength => DropReason::BadHeaderLength,
        ipv4::Error::Version => DropReason::BadVersion,
        ipv4::Error::Checksum => DropReason::BadHeaderChecksum,
        ipv4::Error::TotalLength => DropReason::BadTotalLength,
    }
}

/// How the transport checksum of a packet stands.
fn form(frame: &Frame) -> Form {
    if frame.is_offloaded() {
        Form::Partial
    } else {
        Form::Complete
    }
}

/// What follows the Ethernet header, of a superframe as much as is in its head.
fn packet(frame: &Frame) -> &[u8] {
    ethernet::payload(frame.bytes())
}

/// What follows the Ethernet header, to change in place.
fn packet_mut(frame: &mut Frame) -> &mut [u8] {
    ethernet::payload_mut(frame.bytes_mut())
}

/// The IPv4 header with its options, to change in place. The frame was validated.
fn header_mut(frame: &mut Frame) -> &mut [u8] {
    ipv4::header_mut(packet_mut(frame))
}

fn is_fragment(frame: &Frame) -> bool {
    Ipv4::peek(packet(frame)).is_some_and(|ip| ip.is_fragment())
}

//! Into the tunnel and out of it: encapsulation is a second start at output routing, for the outer header; decapsulation
//! a second start at step 2, with the tunnel device as ingress port.
//!
//! A packet takes each of the two at most once in one router (IPIP-11, IPIP-12): an outer destination that leads into the
//! tunnel again, or to the node itself, is a loop; a tunnel inside a tunnel is not taken apart.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use super::{By, Io, Router, packet};
use crate::addr::Mac;
use crate::config::{Ipip, PortId, PortKind, RouteTarget, Snapshot};
use crate::fib::{Hop, Lookup};
use crate::forward::Size;
use crate::frame::Frame;
use crate::icmp_error::{IcmpError, Refusal};
use crate::ipip::{self, OVERHEAD, PathMtus, Report};
use crate::l2::{Link, Payload};
use crate::martian;
use crate::segment;
use crate::stats::{DropReason, Event};
use crate::trace::{Mark, Step};
use crate::wire::ethernet;
use crate::wire::ipv4::{self, Ipv4, PROTOCOL_IPIP};

/// RFC 791: every link carries 68 bytes.
const MIN_MTU: u16 = 68;

/// What the router remembers for its tunnel device.
#[derive(Debug)]
pub(super) struct Tunnel {
    /// Whose packets are taken out of the tunnel, sorted; none when anybody's are (IPIP-22, IPIP-23).
    sources: Option<Vec<Ipv4Addr>>,
    /// Other ends that routes name, sorted: whose ways the errors of routers may be about (IPIP-33).
    ends: Vec<Ipv4Addr>,
    path_mtus: PathMtus,
}

impl Tunnel {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            sources: None,
            ends: Vec::new(),
            path_mtus: PathMtus::new(seed),
        }
    }

    /// Takes over what a snapshot says; path MTUs are kept.
    pub(super) fn apply(&mut self, snapshot: &Snapshot, tunnel: Option<PortId>) {
        self.sources.clone_from(&snapshot.tunnel_sources);
        if let Some(sources) = &mut self.sources {
            sources.sort_unstable();
        }
        let hops = snapshot
            .routes
            .iter()
            .filter_map(|route| match &route.target {
                RouteTarget::Unicast(hops) => Some(hops),
                _ => None,
            });
        self.ends = hops
            .flatten()
            .filter(|hop| Some(hop.port) == tunnel)
            .filter_map(|hop| hop.via)
            .collect();
        self.ends.sort_unstable();
    }
}

impl Router {
    /// The longest packet that may leave by `hop`. For one that must not be cut and goes into a tunnel, that is what the
    /// whole way carries, as far as it is known (IPIP-10, IPIP-30); others are cut to the tunnel's MTU, and the outer packet
    /// again where it does not fit.
    #[inline]
    pub(super) fn egress_mtu(&self, hop: &Hop, dst: Ipv4Addr, size: Size, io: &Io<'_>) -> u16 {
        match self.snapshot.ports.get(hop.slot) {
            Some(port) if matches!(port.kind, PortKind::Ipip(_)) && size.dont_fragment => {
                self.tunnel_mtu(port.mtu, hop.via.unwrap_or(dst), io)
            }
            Some(port) => port.mtu,
            None => 0,
        }
    }

    fn tunnel_mtu(&self, device: u16, end: Ipv4Addr, io: &Io<'_>) -> u16 {
        let link = match self.fib.lookup(end, || 0) {
            Lookup::Unicast(hop) => self.snapshot.ports.get(hop.slot).map(|port| port.mtu),
            _ => None,
        };
        let link = link.map(|mtu| mtu.saturating_sub(OVERHEAD));
        let path = self.tunnel.path_mtus.get(io.now, end);
        [link, path]
            .into_iter()
            .flatten()
            .fold(device, u16::min)
            .max(MIN_MTU)
    }

    /// A packet that comes from elsewhere and goes into the tunnel must not have the tunnel's other end as source
    /// (IPIP-13); that it has none of the node's own was checked when it came in.
    pub(super) fn check_tunnelled(
        &self,
        hop: &Hop,
        ip: &Ipv4<'_>,
        from_host: bool,
    ) -> Result<(), DropReason> {
        if self.ports.tunnel() == Some(hop.slot)
            && !from_host
            && ip.src() == hop.via.unwrap_or_else(|| ip.dst())
        {
            return Err(DropReason::TunnelSource);
        }
        Ok(())
    }

    /// Puts a packet that leaves by the tunnel device in `slot` into one to `end`, and sends that on its own way.
    ///
    /// What leaves here has been through source NAT: that of the node's own packets to the device's address (IPIP-18)
    /// stands in POSTROUTING with all other.
    pub(super) fn encapsulate(
        &mut self,
        mut frame: Frame,
        slot: usize,
        device: Ipip,
        end: Ipv4Addr,
        io: &mut Io<'_>,
    ) {
        if frame.is_encapsulated() {
            return self.discard(frame, DropReason::TunnelNested, io);
        }
        if frame.is_superframe() && !has_room(packet(&frame)) {
            return self.cut(frame, io, |router, segment, io| {
                router.encapsulate(segment, slot, device, end, io);
            });
        }
        let Some((port, true)) = self.snapshot.ports.get(slot).map(|p| (p.id, p.carrier)) else {
            return self.discard(frame, DropReason::EgressDown, io);
        };
        if !martian::is_host(end) {
            return self.discard(frame, DropReason::NoLinkAddress, io);
        }
        let hop = match self.route(Mark::NONE, end, || u64::from(end.to_bits()), io) {
            Lookup::Unicast(hop) if hop.slot != slot => hop,
            Lookup::Unicast(_) | Lookup::Local => {
                return self.discard(frame, DropReason::TunnelLoop, io);
            }
            _ => {
                let error = IcmpError::HostUnreachable;
                return self.refuse(frame, Refusal::with(DropReason::TunnelNoRoute, error), io);
            }
        };
        let src = self.fib.source(&hop, end).unwrap_or(Ipv4Addr::UNSPECIFIED);
        let Some(ip) = Ipv4::peek(packet(&frame)) else {
            return self.discard(frame, DropReason::BadHeaderLength, io);
        };
        let (size, segments) = (Size::of_frame(&frame, &ip), segment::count(&frame));
        let ident = self.originator.idents(PROTOCOL_IPIP, end, segments);
        let header = ipip::outer_header(device, &ip, src, end, ident);
        let (ttl, df) = (header[8], ip.dont_fragment());
        let len = usize::from(ip.total_len()) + header.len();
        // The way may have become narrower since the packet was measured.
        let link = self.snapshot.ports.get(hop.slot).map_or(0, |p| p.mtu);
        if df && usize::from(size.total_len) + header.len() > usize::from(link) {
            let mtu = link.saturating_sub(OVERHEAD).max(MIN_MTU);
            let error = IcmpError::FragmentationNeeded { mtu };
            let refusal = Refusal::with(DropReason::FragmentationNeeded, error);
            return self.refuse(frame, refusal, io);
        }
        let size = (frame.len() - ethernet::HEADER_LEN, segments);
        self.stats.count_upper_tx(slot, size);
        if !frame.push_front(header.len()) {
            return self.discard(frame, DropReason::TunnelNested, io);
        }
        // The Ethernet header goes along: without its type a superframe is none.
        let link = header.len()..header.len() + ethernet::HEADER_LEN;
        frame.bytes_mut().copy_within(link, 0);
        if let Some(place) = ethernet::payload_mut(frame.bytes_mut()).first_chunk_mut() {
            *place = header;
        }
        frame.set_encapsulated();
        self.stats.count(Event::Encapsulated);
        io.trace.step(frame.mark(), || Step::Encap {
            port,
            src,
            dst: end,
            ttl,
            df,
            len,
        });
        io.trace
            .step(frame.mark(), || self.tell_route(end, &Lookup::Unicast(hop)));
        self.send(frame, hop, end, io);
    }

    /// Takes a packet out of the outer one in `frame`, which is whole and for one of the node's addresses, and starts with
    /// it anew as if it had come by the tunnel device in `slot`.
    pub(super) fn decapsulate(&mut self, mut frame: Frame, slot: usize, io: &mut Io<'_>) {
        let (Some(outer), Some(port)) = (Ipv4::peek(packet(&frame)), self.snapshot.ports.get(slot))
        else {
            return self.discard(frame, DropReason::BadHeaderLength, io);
        };
        let (src, dst, tos) = (outer.src(), outer.dst(), outer.tos());
        let (device, id) = (port.kind, port.id);
        // Input policy: the source filter comes before the device has a say.
        let known = |sources: &Vec<Ipv4Addr>| sources.binary_search(&src).is_ok();
        if !self.tunnel.sources.as_ref().is_none_or(known) {
            return self.discard(frame, DropReason::TunnelSource, io);
        }
        if !port.up {
            let refusal = Refusal::with(DropReason::TunnelDown, IcmpError::PortUnreachable);
            return self.refuse(frame, refusal, io);
        }
        if frame.is_decapsulated() {
            return self.discard(frame, DropReason::TunnelNested, io);
        }
        let available = frame.len() - ethernet::HEADER_LEN - outer.header_len();
        let inner = match Ipv4::parse_head(outer.payload(), available) {
            Ok(inner) => inner,
            Err(error) => return self.discard(frame, super::fault(error), io),
        };
        let mark = match device {
            PortKind::Ipip(tunnel) => ipip::decap_ecn(tunnel.ecn, tos, inner.tos()),
            _ => ipip::Mark::Keep,
        };
        let outer_len = outer.header_len();
        let len = usize::from(inner.total_len());
        frame
            .bytes_mut()
            .copy_within(..ethernet::HEADER_LEN, outer_len);
        frame.pull_front(outer_len);
        match mark {
            ipip::Mark::Keep => {}
            ipip::Mark::Odd => self.stats.count(Event::TunnelEcnOdd),
            ipip::Mark::Set(tos) => {
                ipv4::set_tos(ethernet::payload_mut(frame.bytes_mut()), tos);
            }
            ipip::Mark::Drop => return self.discard(frame, DropReason::TunnelCongested, io),
        }
        frame.set_decapsulated();
        frame.set_port(id);
        self.stats.count(Event::Decapsulated);
        self.stats
            .count_upper_rx(slot, (len, segment::count(&frame)));
        io.trace
            .step(frame.mark(), || Step::Decap { port: id, src, dst });
        let link = Link {
            slot,
            from_host: false,
            dst: Mac::ZERO,
            payload: Payload::Ipv4,
        };
        self.ipv4(frame, link, io);
    }

    /// A router inside the tunnel reports trouble with an outer packet of this node's (section 3.4).
    pub(super) fn tunnel_report(
        &mut self,
        report: &Report<'_>,
        to: Ipv4Addr,
        io: &mut Io<'_>,
    ) -> Result<By, Refusal> {
        let end = report.outer.dst();
        if report.outer.src() != to || self.tunnel.ends.binary_search(&end).is_err() {
            return Err(DropReason::IcmpIgnored.into());
        }
        if let Some(mtu) = report.inner_mtu() {
            self.tunnel.path_mtus.learn(io.now, end, mtu);
            self.stats.count(Event::TunnelMtuLearned);
        }
        if let (Some(error), Some(inner)) = (report.relayed(), report.inner()) {
            // The node's own packet came from its host side.
            let ours = Ipv4::peek(inner).is_some_and(|ip| self.fib.is_local(ip.src()));
            let host = self
                .ports
                .host()
                .and_then(|slot| self.snapshot.ports.get(slot));
            let ingress = host
                .filter(|_| ours)
                .map_or(PortId(u16::MAX), |port| port.id);
            self.stats.count(Event::TunnelErrorRelayed);
            self.send_error(inner, ingress, Mark::NONE, error, io);
        }
        Ok(By::Router)
    }
}

/// True when a total length has room for another header in front of this packet (decision 15), and the packet is none of a
/// tunnel already: a superframe has headers of one tunnel.
fn has_room(packet: &[u8]) -> bool {
    Ipv4::peek(packet)
        .is_some_and(|ip| ip.total_len() <= u16::MAX - OVERHEAD && ip.protocol() != PROTOCOL_IPIP)
}

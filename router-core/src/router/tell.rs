//! What the stages say of marked frames, in the words of [`Step`]. Run for marked frames only.

use core::net::Ipv4Addr;

use super::{Router, packet};
use crate::addr::Mac;
use crate::bridge::Outlet;
use crate::config::{PortConfig, PortId, Route, RouteTarget};
use crate::fib::{Hop, Lookup};
use crate::forward::{self, Size};
use crate::frame::Frame;
use crate::l2::Link;
use crate::neigh::NeighbourState;
use crate::segment::Cutter;
use crate::stats::{Event, RouteKind};
use crate::trace::{Step, Summary};
use crate::wire::ethernet;
use crate::wire::ipv4::Ipv4;

/// Source and destination MAC, zero for a frame too short to have them.
fn macs(frame: &Frame) -> (Mac, Mac) {
    ethernet::parse(frame.bytes()).map_or((Mac::ZERO, Mac::ZERO), |(h, _)| (h.src, h.dst))
}

pub(super) fn rx(frame: &Frame) -> Step {
    let (src, dst) = macs(frame);
    Step::Rx {
        port: frame.port(),
        len: frame.len(),
        src,
        dst,
    }
}

pub(super) fn tx(port: PortId, frame: &Frame) -> Step {
    let (src, dst) = macs(frame);
    Step::Tx {
        port,
        len: frame.len(),
        src,
        dst,
    }
}

/// What a frame stands for that is more than one.
pub(super) fn superframe(frame: &Frame) -> Option<Step> {
    let cutter = frame
        .is_superframe()
        .then(|| Cutter::new(frame).ok())
        .flatten()?;
    Some(Step::Superframe {
        segments: cutter.count(),
        size: cutter.size(),
    })
}

pub(super) fn segment(frame: &Frame) -> Step {
    Step::Segment { len: frame.len() }
}

pub(super) const fn accepted(port: PortId, link: Link) -> Step {
    Step::Accepted {
        port,
        group: link.dst.is_group(),
        from_host: link.from_host,
    }
}

pub(super) fn header(ip: &Ipv4<'_>) -> Step {
    Step::Header {
        packet: Summary::new(ip),
    }
}

pub(super) fn options(ip: &Ipv4<'_>) -> Option<Step> {
    let len = ip.options().len();
    (len != 0).then_some(Step::Options { len })
}

pub(super) const fn source(port: &PortConfig, ip: &Ipv4<'_>) -> Step {
    Step::Source {
        src: ip.src(),
        rp_filter: port.rp_filter,
    }
}

pub(super) const fn mtu(size: Size, port: PortId, mtu: u16) -> Step {
    Step::Mtu {
        port,
        mtu,
        len: size.total_len,
        fit: forward::fit(size, mtu),
    }
}

/// Of a packet whose TTL was found sufficient and is about to be lowered, unless the node itself sent it.
pub(super) const fn ttl(ip: &Ipv4<'_>, link: Link) -> Step {
    let before = ip.ttl();
    Step::Ttl {
        before,
        after: if link.from_host {
            before
        } else {
            before.saturating_sub(1)
        },
    }
}

pub(super) fn piece(frame: &Frame) -> Step {
    Ipv4::peek(packet(frame)).map_or_else(
        || rx(frame),
        |ip| Step::Piece {
            packet: Summary::new(&ip),
        },
    )
}

pub(super) fn copy(frame: &Frame) -> Step {
    Step::Copied { len: frame.len() }
}

pub(super) fn made(event: Event, frame: &Frame) -> Option<Step> {
    Some(Step::Made {
        event,
        packet: Summary::new(&Ipv4::peek(packet(frame))?),
    })
}

/// What the packet of a marked frame says.
pub(super) fn summary(frame: &Frame) -> Option<Summary> {
    let marked = frame.mark().is_set();
    let ip = marked.then(|| Ipv4::peek(packet(frame))).flatten()?;
    Some(Summary::new(&ip))
}

/// What NAT has made of a packet that said `before` what it said.
pub(super) fn translated(before: Option<Summary>, frame: &Frame) -> Option<Step> {
    let packet = summary(frame)?;
    (Some(packet) != before).then_some(Step::Translated { packet })
}

pub(super) const fn neighbour(
    port: PortId,
    ip: Ipv4Addr,
    mac: Mac,
    state: Option<NeighbourState>,
) -> Step {
    Step::Neighbour {
        port,
        ip,
        mac,
        state,
    }
}

impl Router {
    /// Where a bridge sends a frame. `E` is told by whoever drops the frame.
    pub(super) fn tell_outlet<T, E>(
        &self,
        bridge: PortId,
        outlet: &Result<(Outlet, T), E>,
        frame: &Frame,
    ) -> Option<Step> {
        let (_, dst) = macs(frame);
        Some(match outlet {
            Ok((Outlet::Own, _)) => Step::BridgedUp { bridge, dst },
            Ok((Outlet::Port(to), _)) => Step::Bridged {
                bridge,
                port: self.snapshot.ports.get(*to)?.id,
                dst,
            },
            Ok((Outlet::All { .. }, _)) => Step::Flooded { bridge, dst },
            Err(_) => return None,
        })
    }

    /// Which line of the table led to what was `found`.
    pub(super) fn tell_route(&self, dst: Ipv4Addr, found: &Lookup) -> Step {
        let hop = match found {
            Lookup::Unicast(hop) => Some(hop),
            _ => None,
        };
        let kind = found.kind();
        let prefix = self.fib.matched(dst);
        let line = self
            .snapshot
            .routes
            .iter()
            .filter(|route| Some(route.dst.trunc()) == prefix && gives(route, kind, hop))
            .min_by_key(|route| route.metric);
        Step::Route {
            dst,
            kind,
            prefix,
            via: hop.and_then(|h| h.via),
            port: hop.map(|h| h.port),
            metric: line.map(|route| route.metric),
            src: hop.and_then(|h| h.src),
        }
    }
}

/// True when a line of the main table can have led to this.
fn gives(route: &Route, kind: RouteKind, hop: Option<&Hop>) -> bool {
    match &route.target {
        RouteTarget::Unicast(hops) => hop.is_some_and(|hop| {
            route.src == hop.src && hops.iter().any(|h| (h.port, h.via) == (hop.port, hop.via))
        }),
        RouteTarget::Blackhole => kind == RouteKind::Blackhole,
        RouteTarget::Unreachable => kind == RouteKind::Unreachable,
        RouteTarget::Prohibit => kind == RouteKind::Prohibit,
        RouteTarget::Throw => kind == RouteKind::NoRoute,
    }
}

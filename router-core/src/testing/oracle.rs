//! Slow answers to compare fast ones with.

use core::net::Ipv4Addr;

use crate::config::{NextHop, PortId, RouteTarget, Snapshot};

/// What [`SlowFib`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An address of the node.
    Local,
    /// A broadcast of a connected subnet, or 255.255.255.255.
    Broadcast,
    /// By this port to this gateway.
    Unicast(PortId, Option<Ipv4Addr>),
    /// Blackhole route.
    Blackhole,
    /// Unreachable route.
    Unreachable,
    /// Prohibit route.
    Prohibit,
    /// Nothing, or throw.
    NoRoute,
}

/// Route lookup by scanning the snapshot: local addresses, broadcasts, then the best of all routes that contain the
/// address. For snapshots without multipath routes.
#[derive(Clone, Copy, Debug)]
pub struct SlowFib<'a>(pub &'a Snapshot);

impl SlowFib<'_> {
    /// Where `dst` leads.
    #[must_use]
    pub fn lookup(self, dst: Ipv4Addr) -> Answer {
        let up = |id: PortId| self.0.ports.iter().any(|p| p.id == id && p.up);
        let carrier = |id: PortId| self.0.ports.iter().any(|p| p.id == id && p.carrier);
        let mut addresses = self.0.addresses.iter().filter(|a| up(a.port));
        if addresses.clone().any(|a| a.addr == dst) {
            return Answer::Local;
        }
        if dst == Ipv4Addr::new(255, 255, 255, 255) || addresses.any(|a| a.broadcast == Some(dst)) {
            return Answer::Broadcast;
        }
        let mut best: Option<(u8, bool, u32, Answer)> = None;
        for route in &self.0.routes {
            let shift = 32 - u32::from(route.dst.prefix_len());
            let differs = (u64::from(u32::from(route.dst.addr()) ^ u32::from(dst)) >> shift) != 0;
            if differs {
                continue;
            }
            let (linkdown, answer) = match &route.target {
                RouteTarget::Unicast(hops) => match hops.as_slice() {
                    [NextHop { port, via, .. }] if up(*port) => {
                        (!carrier(*port), Answer::Unicast(*port, *via))
                    }
                    _ => continue,
                },
                RouteTarget::Blackhole => (false, Answer::Blackhole),
                RouteTarget::Unreachable => (false, Answer::Unreachable),
                RouteTarget::Prohibit => (false, Answer::Prohibit),
                RouteTarget::Throw => (false, Answer::NoRoute),
            };
            let better = best.is_none_or(|(len, down, metric, _)| {
                let new = (route.dst.prefix_len(), !linkdown, u32::MAX - route.metric);
                new > (len, !down, u32::MAX - metric)
            });
            if better {
                best = Some((route.dst.prefix_len(), linkdown, route.metric, answer));
            }
        }
        best.map_or(Answer::NoRoute, |(.., answer)| answer)
    }
}

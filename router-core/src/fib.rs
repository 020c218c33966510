//! The forwarding information base: where a destination leads, and which address the node speaks with.
//!
//! Built whole from a [`Snapshot`] and immutable after that. The local table stands before the main table (FWD-41): an
//! address of any port is local whichever port a packet came in by (weak host model), also when it stands on several
//! ports (FWD-42) or is its own broadcast address (FWD-43). Equal prefixes go to the usable route, then to the lowest
//! metric, then to the first (FWD-40, FWD-96). A route none of whose ports is up is not in the table.
//!
//! Does not decide about packets: martians, TTL and MTU are the stages'.
//!
//! Cost: a lookup is one [`Lpm4`] lookup and one load of what it found; multipath adds a hash and a scan of the next
//! hops. Source selection scans the node's addresses: only packets that the router itself makes pay for it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::config::{LocalAddress, PortConfig, PortId, Route, RouteTarget, Snapshot};
use crate::stats::RouteKind;
use crate::table::lpm4::Lpm4;
use crate::table::{Full, NO_ROUTE, NextHop};

/// A usable next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hop {
    /// Egress port.
    pub port: PortId,
    /// Its place in the snapshot's list of ports.
    pub(crate) slot: usize,
    /// Gateway; none when the destination itself is on the link.
    pub via: Option<Ipv4Addr>,
    /// Preferred source of the route.
    pub src: Option<Ipv4Addr>,
    weight: u8,
}

/// What the tables say about a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// An address of the node.
    Local,
    /// 255.255.255.255 or the directed broadcast of a connected subnet.
    Broadcast,
    /// Forward to this next hop.
    Unicast(Hop),
    /// A blackhole route.
    Blackhole,
    /// An unreachable route.
    Unreachable,
    /// A prohibit route.
    Prohibit,
    /// No route, or a throw route: there is no further table.
    NoRoute,
}

impl Lookup {
    /// What is counted.
    #[must_use]
    pub const fn kind(&self) -> RouteKind {
        match self {
            Self::Local => RouteKind::Local,
            Self::Broadcast => RouteKind::Broadcast,
            Self::Unicast(_) => RouteKind::Unicast,
            Self::Blackhole => RouteKind::Blackhole,
            Self::Unreachable => RouteKind::Unreachable,
            Self::Prohibit => RouteKind::Prohibit,
            Self::NoRoute => RouteKind::NoRoute,
        }
    }
}

/// What a route says. [`Fib::leaves`] has each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Leaf {
    Local,
    Broadcast,
    One(Hop),
    /// Part of `hops`.
    Many {
        first: usize,
        count: usize,
    },
    Blackhole,
    Unreachable,
    Prohibit,
    Throw,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Fib {
    /// Gives places in `leaves`.
    lpm: Lpm4,
    leaves: Vec<Leaf>,
    hops: Vec<Hop>,
    /// Addresses that a packet may have as source, in order of preference.
    sources: Vec<LocalAddress>,
}

impl Fib {
    /// The tables of a snapshot. What names a port that the snapshot does not have is left out.
    ///
    /// # Errors
    /// [`Full`] if the routes do not fit into an [`Lpm4`].
    pub fn new(snapshot: &Snapshot) -> Result<Self, Full> {
        let port = |id: PortId| {
            let slot = snapshot.ports.iter().position(|p| p.id == id)?;
            Some((slot, snapshot.ports.get(slot).filter(|p| p.up)?))
        };
        let mut fib = Self::default();
        // Of equal prefixes the last counts.
        let mut routes = fib.main_table(&snapshot.routes, port);
        routes.push((Ipv4Net::from(Ipv4Addr::BROADCAST), Leaf::Broadcast));
        let up: Vec<LocalAddress> = snapshot
            .addresses
            .iter()
            .filter(|a| port(a.port).is_some())
            .copied()
            .collect();
        let broadcasts = up.iter().filter_map(|a| a.broadcast);
        routes.extend(broadcasts.map(|a| (Ipv4Net::from(a), Leaf::Broadcast)));
        // After the broadcasts: an address that is its own broadcast is local.
        routes.extend(up.iter().map(|a| (Ipv4Net::from(a.addr), Leaf::Local)));
        fib.sources = up;
        fib.sources.retain(|a| !a.addr.is_loopback());

        let mut places: BTreeMap<Leaf, NextHop> = BTreeMap::new();
        let routes = routes.into_iter().map(|(dst, leaf)| {
            let place = *places.entry(leaf).or_insert_with(|| {
                fib.leaves.push(leaf);
                // Beyond the largest next hop the table refuses.
                NextHop::try_from(fib.leaves.len() - 1).unwrap_or(NO_ROUTE)
            });
            (dst, place)
        });
        fib.lpm = Lpm4::from_routes(routes)?;
        Ok(fib)
    }

    /// The best route to each prefix of the main table.
    fn main_table<'a>(
        &mut self,
        routes: &[Route],
        port: impl Fn(PortId) -> Option<(usize, &'a PortConfig)>,
    ) -> Vec<(Ipv4Net, Leaf)> {
        // By prefix, then best first; the sort is stable, so that the first of equals stays first.
        let mut ranked: Vec<(Ipv4Net, bool, u32, Leaf)> = Vec::with_capacity(routes.len());
        for route in routes {
            let (linkdown, leaf) = match &route.target {
                RouteTarget::Unicast(hops) => {
                    let mut usable: Vec<(bool, Hop)> = hops
                        .iter()
                        .filter_map(|hop| {
                            let (slot, config) = port(hop.port)?;
                            let weight = hop.weight.max(1);
                            let usable = Hop {
                                port: hop.port,
                                slot,
                                via: hop.via,
                                src: route.src,
                                weight,
                            };
                            Some((!config.carrier, usable))
                        })
                        .collect();
                    let linkdown = usable.iter().all(|&(linkdown, _)| linkdown);
                    usable.retain(|&(down, _)| down == linkdown);
                    let leaf = match *usable.as_slice() {
                        [] => continue,
                        [(_, hop)] => Leaf::One(hop),
                        _ => {
                            let first = self.hops.len();
                            self.hops.extend(usable.iter().map(|&(_, hop)| hop));
                            Leaf::Many {
                                first,
                                count: usable.len(),
                            }
                        }
                    };
                    (linkdown, leaf)
                }
                RouteTarget::Blackhole => (false, Leaf::Blackhole),
                RouteTarget::Unreachable => (false, Leaf::Unreachable),
                RouteTarget::Prohibit => (false, Leaf::Prohibit),
                RouteTarget::Throw => (false, Leaf::Throw),
            };
            ranked.push((route.dst.trunc(), linkdown, route.metric, leaf));
        }
        ranked.sort_by_key(|&(dst, linkdown, metric, _)| (dst, linkdown, metric));
        ranked.dedup_by_key(|&mut (dst, ..)| dst);
        ranked
            .into_iter()
            .map(|(dst, _, _, leaf)| (dst, leaf))
            .collect()
    }

    /// What the longest prefix that covers `dst` says.
    #[inline]
    pub(crate) fn leaf(&self, dst: Ipv4Addr) -> Option<&Leaf> {
        // No route is a place beyond the last.
        self.leaves.get(usize::from(self.lpm.lookup(dst)))
    }

    /// Where `dst` leads. `flow` gives a number that is the same for all packets of a flow; it is asked for multipath
    /// routes only (RT-8).
    #[inline]
    #[must_use]
    pub fn lookup(&self, dst: Ipv4Addr, flow: impl FnOnce() -> u64) -> Lookup {
        match self.leaf(dst) {
            None | Some(Leaf::Throw) => Lookup::NoRoute,
            Some(Leaf::Local) => Lookup::Local,
            Some(Leaf::Broadcast) => Lookup::Broadcast,
            Some(Leaf::One(hop)) => Lookup::Unicast(*hop),
            Some(&Leaf::Many { first, count }) => self
                .pick(first, count, flow())
                .map_or(Lookup::NoRoute, Lookup::Unicast),
            Some(Leaf::Blackhole) => Lookup::Blackhole,
            Some(Leaf::Unreachable) => Lookup::Unreachable,
            Some(Leaf::Prohibit) => Lookup::Prohibit,
        }
    }

    /// Everything that routes say, by place.
    pub(crate) fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// The place in [`Fib::leaves`] of what the longest prefix that covers each address says; beyond the last without one.
    #[inline]
    pub(crate) fn places(&self, addresses: &[u32], places: &mut [NextHop]) {
        self.lpm.lookup_batch(addresses, places);
    }

    fn pick(&self, first: usize, count: usize, flow: u64) -> Option<Hop> {
        let hops = self.hops.get(first..)?.get(..count)?;
        let total: u64 = hops.iter().map(|h| u64::from(h.weight)).sum();
        let mut at = flow.checked_rem(total)?;
        for hop in hops {
            match at.checked_sub(u64::from(hop.weight)) {
                Some(rest) => at = rest,
                None => return Some(*hop),
            }
        }
        None
    }

    /// The prefix by which [`Fib::lookup`] finds what it says about `dst`; none without a route. For explanations: a
    /// look at each length.
    #[must_use]
    pub fn matched(&self, dst: Ipv4Addr) -> Option<Ipv4Net> {
        (0..=32)
            .rev()
            .filter_map(|len| Ipv4Net::new(dst, len).ok())
            .map(|net| net.trunc())
            .find(|&net| self.lpm.get(net).is_some())
    }

    /// True for an address of the node.
    #[inline]
    #[must_use]
    pub fn is_local(&self, addr: Ipv4Addr) -> bool {
        self.leaf(addr) == Some(&Leaf::Local)
    }

    /// True for 255.255.255.255 and directed broadcasts of connected subnets.
    #[must_use]
    pub fn is_broadcast(&self, addr: Ipv4Addr) -> bool {
        self.leaf(addr) == Some(&Leaf::Broadcast)
    }

    /// True when what `leaf` says can leave by `port`, or by any port when none is given.
    pub(crate) fn leads_to(&self, leaf: Option<&Leaf>, port: Option<PortId>) -> bool {
        match leaf {
            Some(Leaf::One(hop)) => port.is_none_or(|p| hop.port == p),
            Some(&Leaf::Many { first, count }) => self
                .hops
                .get(first..)
                .and_then(|hops| hops.get(..count))
                .is_some_and(|hops| hops.iter().any(|h| port.is_none_or(|p| h.port == p))),
            _ => false,
        }
    }

    /// The source address of a packet that the node itself sends by `hop` to `dst`: the route's, else the preferred
    /// address on the egress port in whose subnet the next hop is, else the first of that port, else the first of the
    /// node (Linux `inet_select_addr`). None when the node has no address.
    #[must_use]
    pub fn source(&self, hop: &Hop, dst: Ipv4Addr) -> Option<Ipv4Addr> {
        hop.src
            .or_else(|| self.source_on(hop.port, hop.via.unwrap_or(dst)))
    }

    /// The node's preferred address toward `neighbour` on `port` (NEI-7).
    pub(crate) fn source_on(&self, port: PortId, neighbour: Ipv4Addr) -> Option<Ipv4Addr> {
        let on_port = || self.sources.iter().filter(|a| a.port == port);
        on_port()
            .find(|a| covers(a, neighbour))
            .or_else(|| on_port().next())
            .or_else(|| self.sources.first())
            .map(|a| a.addr)
    }
}

fn covers(address: &LocalAddress, addr: Ipv4Addr) -> bool {
    Ipv4Net::new(address.addr, address.prefix_len).is_ok_and(|net| net.contains(&addr))
}

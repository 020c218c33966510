//! Which route a node takes for a destination: the view's own lookup behind `ip route get`.
//!
//! A linear scan of the model, written to be obviously right; packets are forwarded by router-core's table, which is
//! built from the same model. Order as the kernel's: the local table (own addresses, broadcast addresses), then the
//! main table by longest prefix and lowest metric. Source selection follows `inet_select_addr`. Cost: O(routes).

use std::net::Ipv4Addr;

use super::addr::is_secondary;
use crate::model::{Iface, IfaceKind, Node, RouteEntry, RouteKind, Scope};

/// A question to the routing tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Destination.
    pub dst: Ipv4Addr,
    /// Source address that the packet has already.
    pub from: Option<Ipv4Addr>,
    /// Interface that it came in on; none for the node's own packets.
    pub iif: Option<String>,
    /// Interface that it must leave by.
    pub oif: Option<String>,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            dst: Ipv4Addr::UNSPECIFIED,
            from: None,
            iif: None,
            oif: None,
        }
    }
}

/// Where the packet goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// To the node itself.
    Local {
        /// Source address for a reply to oneself.
        src: Ipv4Addr,
    },
    /// To everybody on a link.
    Broadcast {
        /// The link.
        dev: String,
        /// Source address.
        src: Ipv4Addr,
    },
    /// Out of an interface.
    Unicast {
        /// Gateway, none on link.
        via: Option<Ipv4Addr>,
        /// Interface.
        dev: String,
        /// Source address that the node's own packets get.
        src: Ipv4Addr,
    },
}

/// Why there is no way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupError {
    /// No route, or one of type `throw` (ENETUNREACH).
    NetworkUnreachable,
    /// A route of type `unreachable`, or a source that can't have sent it (EHOSTUNREACH).
    HostUnreachable,
    /// A route of type `prohibit` (EACCES).
    Prohibited,
    /// A route of type `blackhole`, or an incoming packet without a source (EINVAL).
    Invalid,
}

impl LookupError {
    /// The kernel's word for it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::NetworkUnreachable => "Network is unreachable",
            Self::HostUnreachable => "No route to host",
            Self::Prohibited => "Permission denied",
            Self::Invalid => "Invalid argument",
        }
    }
}

/// Asks the tables of `node`. Interfaces named in `query` exist.
///
/// # Errors
/// The refusal that the kernel would give.
pub fn lookup(node: &Node, query: &Query) -> Result<Found, LookupError> {
    if query.iif.is_some() && query.from.is_none() {
        return Err(LookupError::Invalid);
    }
    if let Some(found) = local(node, query.dst) {
        return Ok(found);
    }
    let route = best(node, query).ok_or(LookupError::NetworkUnreachable);
    let out = query.oif.as_deref().and_then(|name| iface(node, name));
    let route = match (route, out) {
        (Ok(route), _) => route,
        // The caller insists on an interface that no route names: the kernel takes the destination to be on its link.
        (Err(_), Some(out)) if out.up => {
            let src = source(node, out, None, Scope::Link);
            return Ok(Found::Unicast {
                via: None,
                dev: out.name.clone(),
                src: src.ok_or(LookupError::NetworkUnreachable)?,
            });
        }
        (Err(error), _) => return Err(error),
    };
    match route.kind {
        RouteKind::Unicast => {}
        RouteKind::Blackhole => return Err(LookupError::Invalid),
        RouteKind::Unreachable => return Err(LookupError::HostUnreachable),
        RouteKind::Prohibit => return Err(LookupError::Prohibited),
        RouteKind::Throw => return Err(LookupError::NetworkUnreachable),
    }
    let hop = route
        .hops
        .iter()
        .find(|hop| query.oif.as_ref().is_none_or(|oif| *oif == hop.dev))
        .ok_or(LookupError::NetworkUnreachable)?;
    let out = iface(node, &hop.dev).ok_or(LookupError::NetworkUnreachable)?;
    let src = route
        .src
        .or_else(|| source(node, out, hop.via, route.scope));
    Ok(Found::Unicast {
        via: hop.via,
        dev: hop.dev.clone(),
        src: src.unwrap_or(Ipv4Addr::UNSPECIFIED),
    })
}

fn iface<'a>(node: &'a Node, name: &str) -> Option<&'a Iface> {
    node.ifaces.iter().find(|iface| iface.name == name)
}

/// The local table: whole 127/8 and every address of an interface, even of one that is down (weak host model).
fn local(node: &Node, dst: Ipv4Addr) -> Option<Found> {
    if dst.is_unspecified() || (dst.is_loopback() && dst != Ipv4Addr::new(127, 255, 255, 255)) {
        return Some(Found::Local {
            src: Ipv4Addr::LOCALHOST,
        });
    }
    for iface in &node.ifaces {
        if let Some(addr) = iface.addrs.iter().find(|addr| addr.net.addr() == dst) {
            let primary = iface
                .addrs
                .iter()
                .find(|p| p.net.trunc() == addr.net.trunc());
            let src = primary.map_or(dst, |primary| primary.net.addr());
            return Some(Found::Local { src });
        }
    }
    node.ifaces
        .iter()
        .filter(|iface| iface.up)
        .find_map(|iface| {
            let addr = iface.addrs.iter().find(|addr| {
                addr.broadcast == Some(dst)
                    || (addr.net.prefix_len() < 31 && addr.net.broadcast() == dst)
            })?;
            Some(Found::Broadcast {
                dev: iface.name.clone(),
                src: addr.net.addr(),
            })
        })
}

fn best<'a>(node: &'a Node, query: &Query) -> Option<&'a RouteEntry> {
    node.routes
        .iter()
        .filter(|route| route.dst.contains(&query.dst))
        .filter(|route| {
            let oif = query.oif.as_ref();
            oif.is_none_or(|oif| route.hops.iter().any(|hop| hop.dev == *oif))
        })
        .min_by_key(|route| (std::cmp::Reverse(route.dst.prefix_len()), route.metric))
}

/// `inet_select_addr`: the first primary address on `out` that reaches as far as `scope`, preferably in the gateway's
/// subnet; else one of another interface.
fn source(node: &Node, out: &Iface, via: Option<Ipv4Addr>, scope: Scope) -> Option<Ipv4Addr> {
    let fits = |iface: &Iface| {
        let far = iface
            .addrs
            .iter()
            .filter(|a| reach(a.scope) <= reach(scope) && !is_secondary(iface, a));
        far.map(|a| a.net).collect::<Vec<_>>()
    };
    let own = fits(out);
    let near = via.and_then(|via| own.iter().find(|net| net.contains(&via)));
    if let Some(net) = near.or_else(|| own.first()) {
        return Some(net.addr());
    }
    let others = node
        .ifaces
        .iter()
        .filter(|iface| iface.up && !matches!(iface.kind, IfaceKind::Sit));
    others
        .flat_map(|iface| iface.addrs.iter())
        .find(|a| a.scope != Scope::Link && reach(a.scope) <= reach(scope))
        .map(|a| a.net.addr())
}

/// rtnetlink's number: the higher, the nearer.
const fn reach(scope: Scope) -> u8 {
    match scope {
        Scope::Global => 0,
        Scope::Link => 253,
        Scope::Host => 254,
    }
}

//! ARP (dataplane sections 2.1, 2.2, 2.4): what to believe, and what to answer.
//!
//! Pure decisions about one packet: [`decide`] says whether to reply and what may be learned; the router sends and the
//! [neighbour table](crate::neigh) keeps. Only ARP teaches neighbours, never IP packets (GARP-7).
//!
//! Deviations from Linux: on a port whose one station is known, ARP that claims another address or MAC is dropped
//! (GARP-3); loopback addresses are never answered, whatever `route_localnet` says (PARP-6).

use crate::addr::Mac;
use crate::config::{PortConfig, PortKind};
use crate::fib::{Fib, Lookup};
use crate::martian;
use crate::stats::DropReason;
use crate::wire::arp::{Arp, Operation};

/// What a believable ARP packet leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Answer that the target address is at the port's MAC.
    pub(crate) reply: bool,
    /// Remember the sender.
    pub(crate) learn: Option<Learn>,
}

/// How the sender's entry changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Learn {
    /// It asked for us: make or refresh its entry (ARP-8).
    Requester,
    /// It answered us: an entry that exists is confirmed (NEI-6).
    Answer,
    /// It said so to everybody: an entry that exists may follow (GARP-1, GARP-2).
    Claim,
}

/// Decides about an ARP packet that came in by `port` in a frame to `link_dst`.
pub(crate) fn decide(
    port: &PortConfig,
    link_dst: Mac,
    arp: &Arp,
    fib: &Fib,
    forwarding: bool,
) -> Result<Decision, DropReason> {
    if !port.arp {
        return Err(DropReason::ArpIgnored);
    }
    if let PortKind::Host { .. } = port.kind {
        return for_host(arp, fib);
    }
    let probe = arp.spa.is_unspecified();
    if !arp.sha.is_unicast() || arp.tpa.is_multicast() || arp.tpa.is_loopback() {
        return Err(DropReason::ArpMartian);
    }
    if let Some(peer) = port.peer
        && !probe
        && (arp.spa, arp.sha) != (peer.ip, peer.mac)
    {
        return Err(DropReason::ArpPinned);
    }
    if !probe {
        check_sender(port, arp, fib)?;
    }
    match arp.operation {
        Operation::Request if fib.is_local(arp.tpa) => Ok(Decision {
            reply: true,
            learn: (!probe).then_some(Learn::Requester),
        }),
        _ if probe => Err(DropReason::ArpIgnored),
        Operation::Request if proxied(port, arp, fib, forwarding) => Ok(Decision {
            reply: true,
            learn: Some(Learn::Requester),
        }),
        Operation::Request => Ok(Decision {
            reply: false,
            learn: Some(Learn::Claim),
        }),
        Operation::Reply if link_dst == port.mac => Ok(Decision {
            reply: false,
            learn: Some(Learn::Answer),
        }),
        Operation::Reply => Ok(Decision {
            reply: false,
            learn: Some(Learn::Claim),
        }),
    }
}

/// The sender address must be one that a station on this port can have (ARP-7). Requests are held to the port's
/// reverse path filter as Linux does by routing them; answers are not: they were asked for.
fn check_sender(port: &PortConfig, arp: &Arp, fib: &Fib) -> Result<(), DropReason> {
    match martian::check_source(port, arp.spa, fib) {
        Ok(()) => Ok(()),
        Err(DropReason::RpFilter) if arp.operation == Operation::Reply => Ok(()),
        Err(_) => Err(DropReason::ArpMartian),
    }
}

/// True when the port answers for a target that the node forwards to through another port (PARP-1 to PARP-4).
fn proxied(port: &PortConfig, arp: &Arp, fib: &Fib, forwarding: bool) -> bool {
    port.proxy_arp
        && forwarding
        && arp.spa != arp.tpa
        && !arp.tpa.is_unspecified()
        && match fib.lookup(arp.tpa, || 0) {
            Lookup::Unicast(hop) => hop.port != port.id,
            Lookup::NoRoute => port.proxy_arp_unrouted,
            _ => false,
        }
}

/// The host side thinks that every address is on its link and finds the router behind each. Its own addresses are left
/// alone, so that its duplicate address detection finds nobody.
fn for_host(arp: &Arp, fib: &Fib) -> Result<Decision, DropReason> {
    let answer = arp.operation == Operation::Request
        && arp.spa != arp.tpa
        && !arp.spa.is_unspecified()
        && martian::is_host(arp.tpa)
        && !fib.is_local(arp.tpa)
        && !fib.is_broadcast(arp.tpa);
    if answer {
        Ok(Decision {
            reply: true,
            learn: None,
        })
    } else {
        Err(DropReason::ArpIgnored)
    }
}

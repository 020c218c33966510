//! Source and destination sanity (dataplane section 1.3): addresses that no packet may have, and source validation.
//!
//! Deviations from Linux, decided as RFC 1812 5.3.7 says: sources in 0/8 and directed broadcasts as source are dropped
//! (FWD-23). Class E is ordinary unicast, as in Linux (FWD-24). A failure is silent and teaches nothing (FWD-27).

use core::net::Ipv4Addr;

use crate::config::{PortConfig, RpFilter};
use crate::fib::{Fib, Leaf};
use crate::stats::DropReason;
use crate::wire::ipv4::Ipv4;

/// True for addresses that can be a unicast host's: not 0/8, loopback, multicast or 255.255.255.255.
pub(crate) const fn is_host(addr: Ipv4Addr) -> bool {
    !matches!(
        addr.octets(),
        [0 | 127 | 224..=239, ..] | [255, 255, 255, 255]
    )
}

/// Checks the source of a packet that another station sent in by `port`.
pub(crate) fn check_source(port: &PortConfig, src: Ipv4Addr, fib: &Fib) -> Result<(), DropReason> {
    if !is_host(src) {
        return Err(DropReason::MartianSource);
    }
    let leaf = fib.leaf(src);
    match leaf {
        Some(Leaf::Broadcast) => return Err(DropReason::MartianSource),
        Some(Leaf::Local) => return Err(DropReason::OwnSource),
        _ => {}
    }
    let believable = match port.rp_filter {
        RpFilter::Off => true,
        RpFilter::Strict => fib.leads_to(leaf, Some(port.id)),
        RpFilter::Loose => fib.leads_to(leaf, None),
    };
    if believable {
        Ok(())
    } else {
        Err(DropReason::RpFilter)
    }
}

/// Whether the node itself may send from `src`, which [`check_source`] refused with `reason`: it speaks with its own addresses,
/// and strict paths are not for it. From 127/8 it may where its port has `route_localnet`, on the way to an address of its own
/// or to a translation (PM-4); see [`check_sent`].
pub(crate) const fn may_send(reason: DropReason, port: &PortConfig, src: Ipv4Addr) -> bool {
    match reason {
        DropReason::OwnSource | DropReason::RpFilter => true,
        _ => src.is_loopback() && port.route_localnet,
    }
}

/// Checks what the node itself sends to others, after source NAT: nobody else may see 127/8 (FWD-10).
pub(crate) fn check_sent(packet: &[u8]) -> Result<(), DropReason> {
    match Ipv4::peek(packet) {
        Some(ip) if ip.src().is_loopback() => Err(DropReason::MartianSource),
        _ => Ok(()),
    }
}

/// Checks the destination. Loopback is let through where `route_localnet` is set (FWD-22).
pub(crate) fn check_destination(port: &PortConfig, dst: Ipv4Addr) -> Result<(), DropReason> {
    match dst.octets() {
        [0, ..] => Err(DropReason::MartianDestination),
        [127, ..] if !port.route_localnet => Err(DropReason::MartianDestination),
        [224..=239, ..] => Err(DropReason::Multicast),
        _ => Ok(()),
    }
}

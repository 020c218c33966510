//! Link-layer acceptance (dataplane section 1.1): is a received frame for this router at all, and what is in it?
//!
//! Decides on port state, destination MAC and EtherType. Does not look at the source MAC, as Linux does not on a routed
//! port (L2-5), and does not parse what follows.

use crate::addr::Mac;
use crate::config::{PortConfig, PortKind};
use crate::stats::DropReason;
use crate::wire::ethernet::{
    self, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN,
};

/// What an accepted frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    Arp,
    Ipv4,
}

/// What later stages need to know about the link a packet came in by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    /// Place of the ingress port in the snapshot.
    pub(crate) slot: usize,
    /// Sent by the node itself, through its host port.
    pub(crate) from_host: bool,
    /// Destination MAC: the port's own, or a group.
    pub(crate) dst: Mac,
    pub(crate) payload: Payload,
}

/// Accepts or refuses a frame that arrived on `port`.
pub(crate) fn accept(slot: usize, port: &PortConfig, frame: &[u8]) -> Result<Link, DropReason> {
    // Nothing arrives at a tunnel device but what the router itself takes out of a tunnel.
    if !port.up || matches!(port.kind, PortKind::Dummy | PortKind::Ipip(_)) {
        return Err(DropReason::PortDown);
    }
    let (header, _) = ethernet::parse(frame).ok_or(DropReason::FrameTooShort)?;
    if !header.dst.is_group() && header.dst != port.mac {
        return Err(DropReason::OtherHost);
    }
    let payload = match header.ethertype {
        ETHERTYPE_IPV4 => Payload::Ipv4,
        // ARP comes by unicast or broadcast; a multicast group is somebody else's (ARP-2).
        ETHERTYPE_ARP if header.dst.is_group() && header.dst != Mac::BROADCAST => {
            return Err(DropReason::OtherHost);
        }
        ETHERTYPE_ARP => Payload::Arp,
        ETHERTYPE_IPV6 => return Err(DropReason::Ipv6),
        ETHERTYPE_VLAN | ETHERTYPE_QINQ => return Err(DropReason::VlanTagged),
        _ => return Err(DropReason::UnknownEtherType),
    };
    Ok(Link {
        slot,
        from_host: matches!(port.kind, PortKind::Host { .. }),
        dst: header.dst,
        payload,
    })
}

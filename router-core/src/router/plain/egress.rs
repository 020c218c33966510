//! Where routes lead, with what goes before a packet there; and what they say about packets that come from there.

use core::net::Ipv4Addr;

use super::ABSENT;
use crate::config::{PortConfig, PortId, PortKind, RpFilter, Snapshot};
use crate::fib::Leaf;
use crate::martian;
use crate::neigh::NeighbourTable;
use crate::shape::{Shaper, Side};
use crate::time::Instant;
use crate::wire::ethernet::{self, ETHERTYPE_IPV4};

/// Where a route leads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Egress {
    /// What goes before a packet to `next_hop`.
    pub(super) header: [u8; ethernet::HEADER_LEN],
    /// Longest packet; 0 when packets on this route are not plain.
    pub(super) mtu: u16,
    /// The gateway, as bits; 0 when the destination itself is on the link.
    via: u32,
    next_hop: u32,
    /// Until when the MAC of `next_hop` need not be asked for again, if there are no more changes of MACs than these.
    until: Instant,
    changes: u64,
    /// Place of the port.
    pub(super) slot: u16,
    pub(super) port: PortId,
}

impl Egress {
    pub(super) const NOT_PLAIN: Self = Self {
        header: [0; ethernet::HEADER_LEN],
        mtu: 0,
        via: 0,
        next_hop: 0,
        until: Instant::ZERO,
        changes: u64::MAX,
        slot: ABSENT,
        port: PortId(ABSENT),
    };

    pub(super) fn of(leaf: &Leaf, snapshot: &Snapshot, shaper: Option<&Shaper>) -> Option<Self> {
        let Leaf::One(hop) = leaf else { return None };
        let port = snapshot.ports.get(hop.slot)?;
        Self::by(hop.slot, port, hop.via, shaper)
    }

    pub(super) fn by(
        slot: usize,
        port: &PortConfig,
        via: Option<Ipv4Addr>,
        shaper: Option<&Shaper>,
    ) -> Option<Self> {
        let plain = port.up
            && port.carrier
            && port.arp
            && port.kind == PortKind::Ethernet
            && shaper.is_none_or(|s| s.gate(slot, Side::Tx).is_none());
        let header = ethernet::Header {
            src: port.mac,
            dst: port.mac,
            ethertype: ETHERTYPE_IPV4,
        };
        (plain && via.is_none_or(martian::is_host)).then_some(Self {
            slot: u16::try_from(slot).ok()?,
            port: port.id,
            mtu: port.mtu,
            header: header.emit(),
            via: via.map_or(0, Ipv4Addr::to_bits),
            ..Self::NOT_PLAIN
        })
    }

    /// Whether it leads by the port in `slot` to this gateway.
    #[inline]
    pub(super) fn is_by(&self, slot: usize, via: Ipv4Addr) -> bool {
        (usize::from(self.slot), self.via) == (slot, via.to_bits())
    }

    /// Whether `header` is the one for packets to `dst`, an address as bits, now.
    #[inline]
    pub(super) fn resolve(
        &mut self,
        dst: u32,
        now: Instant,
        neighbours: &mut NeighbourTable,
    ) -> bool {
        let next_hop = if self.via == 0 { dst } else { self.via };
        let is_known =
            self.next_hop == next_hop && self.changes == neighbours.changes() && now <= self.until;
        is_known || self.ask(next_hop, now, neighbours)
    }

    #[inline(never)]
    fn ask(&mut self, next_hop: u32, now: Instant, neighbours: &mut NeighbourTable) -> bool {
        let address = Ipv4Addr::from_bits(next_hop);
        let Some((mac, lasts)) = neighbours.known(now, self.port, address) else {
            return false;
        };
        self.header[..6].copy_from_slice(&mac.0);
        self.next_hop = next_hop;
        self.changes = neighbours.changes();
        // The use of a neighbour that may go away is its table's concern, once for each moment.
        self.until = if lasts { Instant::MAX } else { now };
        true
    }
}

/// What a route says about packets that come from where it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// An address that is no other host's.
    Refused,
    /// Behind the port in this place.
    Behind(u16),
    /// Behind several ports.
    Several,
    /// Behind none.
    Nowhere,
}

impl Source {
    pub(super) fn of(leaf: &Leaf) -> Self {
        match leaf {
            Leaf::Local | Leaf::Broadcast => Self::Refused,
            Leaf::One(hop) => u16::try_from(hop.slot).map_or(Self::Several, Self::Behind),
            Leaf::Many { .. } => Self::Several,
            Leaf::Blackhole | Leaf::Unreachable | Leaf::Prohibit | Leaf::Throw => Self::Nowhere,
        }
    }

    /// Whether a packet that came by the port in this place is believed without a second look.
    #[inline]
    pub(super) fn is_believable(self, slot: u16, rp_filter: RpFilter) -> bool {
        match rp_filter {
            RpFilter::Off => self != Self::Refused,
            RpFilter::Strict => self == Self::Behind(slot),
            // One of several may be right; the long way looks.
            RpFilter::Loose => matches!(self, Self::Behind(_)),
        }
    }
}

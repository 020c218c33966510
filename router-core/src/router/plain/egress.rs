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

/// When something was asked of the neighbour table, in numbers that answers are marked with.
#[derive(Debug)]
pub(super) struct Moment {
    now: Instant,
    /// Of an answer that is good until a MAC changes: even.
    lasting: u64,
    /// Of one that is good now only: odd.
    momentary: u64,
}

/// Numbers moments.
#[derive(Debug, Default)]
pub(super) struct Clock {
    at: (Instant, u64),
    number: u64,
}

impl Clock {
    #[inline]
    pub(super) fn moment(&mut self, now: Instant, neighbours: &NeighbourTable) -> Moment {
        let at = (now, neighbours.changes());
        if self.at != at {
            self.at = at;
            self.number += 1;
        }
        Moment {
            now,
            lasting: at.1 << 1,
            momentary: self.number << 1 | 1,
        }
    }
}

/// Where a route leads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Egress {
    /// What goes before a packet to where was asked for.
    pub(super) header: [u8; ethernet::HEADER_LEN],
    /// Longest packet; 0 when packets on this route are not plain. None lets [`Seen::NOT_PLAIN`](super::look::Seen) pass.
    pub(super) mtu: u16,
    /// The number of the [`Moment`] when the neighbour table was asked.
    asked: u64,
    /// The gateway, as bits; 0 when the destination itself is on the link.
    via: u32,
    /// What of a destination, as it stands in a packet, says whose MAC is wanted: nothing where there is a gateway. And what it
    /// was when the neighbour table was asked.
    by: u32,
    was: u32,
    /// Place of the port.
    pub(super) slot: u16,
    pub(super) port: PortId,
}

impl Egress {
    pub(super) const NOT_PLAIN: Self = Self {
        header: [0; ethernet::HEADER_LEN],
        mtu: 0,
        asked: u64::MAX,
        via: 0,
        by: 0,
        was: 0,
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
            mtu: port.mtu.min(u16::MAX - 1),
            header: header.emit(),
            via: via.map_or(0, Ipv4Addr::to_bits),
            by: if via.is_none() { u32::MAX } else { 0 },
            ..Self::NOT_PLAIN
        })
    }

    /// Whether it leads by the port in `slot` to this gateway.
    #[inline]
    pub(super) fn is_by(&self, slot: usize, via: Ipv4Addr) -> bool {
        (usize::from(self.slot), self.via) == (slot, via.to_bits())
    }

    /// Whether `header` is the one for packets to `dst`, an address as it stands in a packet, now.
    #[inline(always)]
    pub(super) fn resolve(
        &mut self,
        dst: u32,
        moment: &Moment,
        neighbours: &mut NeighbourTable,
    ) -> bool {
        let is_known = dst & self.by == self.was
            && (self.asked == moment.lasting || self.asked == moment.momentary);
        is_known || self.ask(dst, moment, neighbours)
    }

    #[inline(never)]
    fn ask(&mut self, dst: u32, moment: &Moment, neighbours: &mut NeighbourTable) -> bool {
        let to = if self.via == 0 {
            Ipv4Addr::from(dst.to_ne_bytes())
        } else {
            Ipv4Addr::from_bits(self.via)
        };
        let Some((mac, lasts)) = neighbours.known(moment.now, self.port, to) else {
            return false;
        };
        self.header[..6].copy_from_slice(&mac.0);
        self.was = dst & self.by;
        // The use of a neighbour that may go away is its table's concern, once for each moment.
        self.asked = if lasts {
            moment.lasting
        } else {
            moment.momentary
        };
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

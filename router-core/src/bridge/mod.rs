//! Bridges (dataplane section 8): between ports that share a link layer, frames go by MAC and nothing of IP is looked at.
//!
//! A learning bridge without spanning tree and VLANs, as `ip link add type bridge` makes it: it remembers where each source
//! was seen (`fdb`), sends to the one port where the destination is or to all, and takes part itself with its own MAC, its
//! own interface being an ordinary port of the router ([`PortKind::Bridge`]). IEEE 802.1D 7.7 to 7.9; where Linux
//! (`net/bridge`) differs, as Linux does.
//!
//! Decides, for one frame, to whom it goes (`Bridge::decide`, `Bridge::decide_own`). Copies are made, counted and
//! sent in `router/bridging.rs`. TTL and checksums are not touched; a frame that is longer than the MTU of the port it
//! should leave by is dropped without a word (BR-8).
//!
//! Cost: one look-up and one update in the forwarding database per frame; a flood is a copy per further port.

mod fdb;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::time::Duration;

use crate::addr::Mac;
use crate::config::{PortConfig, PortId, PortKind, Snapshot};
use crate::random::Rng;
use crate::stats::{DropReason, Event};
use crate::time::Instant;
use crate::wire::ethernet::{self, ETHERTYPE_QINQ, ETHERTYPE_VLAN, HEADER_LEN};
pub(crate) use fdb::Learned;
use fdb::{Fdb, Place};

/// One line of `bridge fdb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FdbView {
    /// The bridge's own interface.
    pub bridge: PortId,
    /// The station.
    pub mac: Mac,
    /// The port it is behind; none for the bridge's own addresses, which are permanent.
    pub port: Option<PortId>,
    /// Time since it was heard of; zero for the bridge's own.
    pub age: Duration,
}

/// To whom a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlet {
    /// To the node alone.
    Own,
    /// To the port in this place of the snapshot.
    Port(usize),
    /// To all ports except for the one it came by, unless that has hairpin; and to the node, if so.
    All {
        /// A group address, which the node is always a member of.
        own: bool,
    },
}

/// A port of a bridge that frames can leave by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its place in the snapshot.
    pub(crate) slot: usize,
    id: PortId,
    hairpin: bool,
}

/// One bridge.
#[derive(Debug)]
pub(crate) struct Bridge {
    id: PortId,
    /// Place of its own interface in the snapshot.
    pub(crate) slot: usize,
    up: bool,
    /// Ports that are up and have carrier, in the order of the snapshot.
    members: Vec<Member>,
    fdb: Fdb,
}

/// All bridges of a router.
#[derive(Debug)]
pub(crate) struct Bridges {
    limit: u16,
    rng: Rng,
    bridges: Vec<Bridge>,
}

impl Bridges {
    /// None yet; each will remember `limit` stations.
    pub(crate) const fn new(limit: u16, seed: u64) -> Self {
        Self {
            limit,
            rng: Rng::new(seed),
            bridges: Vec::new(),
        }
    }

    /// Follows a new configuration. Bridges that stay remember the stations behind ports that stay, are up and have carrier.
    pub(crate) fn configure(&mut self, snapshot: &Snapshot) {
        let mut old = core::mem::take(&mut self.bridges);
        for (slot, port) in snapshot.ports.iter().enumerate() {
            if port.kind != PortKind::Bridge {
                continue;
            }
            let ports = || {
                snapshot
                    .ports
                    .iter()
                    .enumerate()
                    .filter_map(|(slot, p)| Some((slot, p, p.bridge?)))
                    .filter(|(_, _, member)| member.bridge == port.id)
            };
            if ports().next().is_none() {
                // docker0: nothing to remember, and no memory for it.
                continue;
            }
            let members: Vec<Member> = ports()
                .filter(|(_, p, _)| port.up && usable(p))
                .map(|(slot, p, member)| Member {
                    slot,
                    id: p.id,
                    hairpin: member.hairpin,
                })
                .collect();
            let mut own: Vec<Mac> = ports().map(|(_, p, _)| p.mac).collect();
            own.push(port.mac);
            let mut fdb = match old.iter().position(|b| b.id == port.id) {
                Some(at) => old.swap_remove(at).fdb,
                None => Fdb::new(self.limit, self.rng.next()),
            };
            fdb.configure(own, |id| members.iter().any(|m| m.id == id));
            self.bridges.push(Bridge {
                id: port.id,
                slot,
                up: port.up,
                members,
                fdb,
            });
        }
    }

    /// The bridge with this interface.
    pub(crate) fn find(&mut self, id: PortId) -> Option<&mut Bridge> {
        self.bridges.iter_mut().find(|bridge| bridge.id == id)
    }

    /// What every bridge knows.
    pub(crate) fn iter(&self, now: Instant) -> impl Iterator<Item = FdbView> + '_ {
        self.bridges.iter().flat_map(move |bridge| {
            bridge.fdb.iter(now).map(move |(mac, place, age)| FdbView {
                bridge: bridge.id,
                mac,
                port: match place {
                    Place::Own => None,
                    Place::Port(port) => Some(port),
                },
                age,
            })
        })
    }
}

impl Bridge {
    /// Learns from a frame that came by `port`, in place `slot`, and says to whom it goes.
    pub(crate) fn decide(
        &mut self,
        now: Instant,
        port: &PortConfig,
        slot: usize,
        frame: &[u8],
        count: &mut impl FnMut(Event),
    ) -> Result<Outlet, DropReason> {
        if !self.up || !usable(port) {
            return Err(DropReason::PortDown);
        }
        let (header, _) = ethernet::parse(frame).ok_or(DropReason::FrameTooShort)?;
        if !header.src.is_unicast() {
            return Err(DropReason::BridgeSource);
        }
        let reserved = reserved(header.dst);
        if reserved == Some(PAUSE) {
            return Err(DropReason::BridgeReserved);
        }
        match self.fdb.learn(now, header.src, port.id) {
            Learned::Refreshed => {}
            Learned::New { evicted } => {
                count(Event::FdbLearned);
                if evicted {
                    count(Event::FdbEvicted);
                }
            }
            Learned::Moved => count(Event::FdbMoved),
            Learned::Own => count(Event::BridgeOwnSource),
        }
        if reserved.is_some_and(|last| last != 0) {
            return Err(DropReason::BridgeReserved);
        }
        if header.dst.is_group() {
            return Ok(Outlet::All { own: true });
        }
        match self.fdb.lookup(now, header.dst) {
            Some(Place::Own) => Ok(Outlet::Own),
            Some(Place::Port(id)) => match self.members.iter().find(|m| m.id == id) {
                Some(m) if m.slot == slot && !m.hairpin => Err(DropReason::BridgeSamePort),
                Some(m) => Ok(Outlet::Port(m.slot)),
                None => Ok(Outlet::All { own: false }),
            },
            None => Ok(Outlet::All { own: false }),
        }
    }

    /// Says to whom a frame goes that the node itself sends to `dst` by the bridge's own interface.
    pub(crate) fn decide_own(&self, now: Instant, dst: Mac) -> Result<Outlet, DropReason> {
        let place = if dst.is_group() {
            None
        } else {
            self.fdb.lookup(now, dst)
        };
        match place {
            Some(Place::Own) => Err(DropReason::BridgeNoPort),
            Some(Place::Port(id)) => match self.members.iter().find(|m| m.id == id) {
                Some(m) => Ok(Outlet::Port(m.slot)),
                None => Ok(Outlet::All { own: false }),
            },
            None => Ok(Outlet::All { own: false }),
        }
    }

    /// The `n`th port of a flood of what came by the port in place `from`; the inner none is a port that is left out.
    pub(crate) fn flood_to(&self, n: usize, from: Option<usize>) -> Option<Option<usize>> {
        let member = self.members.get(n)?;
        Some((member.hairpin || Some(member.slot) != from).then_some(member.slot))
    }
}

/// Frames can come and go by it.
fn usable(port: &PortConfig) -> bool {
    port.up && port.carrier && port.kind != PortKind::Dummy
}

/// 01:80:c2:00:00:01: MAC control (PAUSE), which teaches nothing either.
const PAUSE: u8 = 1;

/// Last octet of a group address that bridges keep to themselves (IEEE 802.1D 7.12.6).
fn reserved(dst: Mac) -> Option<u8> {
    match dst.0 {
        [0x01, 0x80, 0xc2, 0, 0, last @ 0..=0x0f] => Some(last),
        _ => None,
    }
}

/// True when a frame of `len` bytes that begins like `frame` is within the MTU of a port it leaves by; a VLAN tag does not
/// count.
pub(crate) fn fits(port: &PortConfig, frame: &[u8], len: usize) -> bool {
    let tag = match ethernet::parse(frame) {
        Some((header, _)) if [ETHERTYPE_VLAN, ETHERTYPE_QINQ].contains(&header.ethertype) => 4,
        _ => 0,
    };
    len <= HEADER_LEN + usize::from(port.mtu) + tag
}

//! Announcements: the node tells a link unasked which addresses it has (gratuitous ARP).
//!
//! Once for each address that it has gained on a port with [`PortConfig::arp_notify`] (GARP-6), and, against another
//! station that claims one of its addresses, at most once in 10 s on each port (RFC 5227 2.4 b, GARP-4; Linux says
//! nothing then).

use alloc::vec::Vec;
use core::net::Ipv4Addr;
use core::time::Duration;

use super::{Io, Router};
use crate::addr::Mac;
use crate::config::{PortConfig, PortId, Snapshot};
use crate::stats::Event;
use crate::time::Instant;
use crate::wire::arp::{Arp, Operation};
use crate::wire::ethernet::{self, ETHERTYPE_ARP};

/// RFC 5227 1.1 DEFEND_INTERVAL.
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// What is to be said, and when that was last done.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    pending: Vec<(PortId, Ipv4Addr)>,
    /// When `pending` became so.
    since: Instant,
    defended: Vec<(PortId, Option<Instant>)>,
}

impl Announcements {
    /// Compares the addresses of two snapshots.
    pub(super) fn apply(&mut self, now: Instant, old: &Snapshot, new: &Snapshot) {
        let had = |address| said(old).any(|a| a == address);
        self.pending
            .retain(|&waiting| said(new).any(|a| a == waiting));
        self.pending
            .extend(said(new).filter(|&address| !had(address)));
        self.since = now;
        let before = core::mem::take(&mut self.defended);
        let last = |id| {
            before
                .iter()
                .find(|(p, _)| *p == id)
                .and_then(|(_, at)| *at)
        };
        self.defended
            .extend(new.ports.iter().map(|port| (port.id, last(port.id))));
    }

    /// Another worker says it.
    pub(super) fn forget(&mut self) {
        self.pending.clear();
    }

    /// When something is to be said.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (!self.pending.is_empty()).then_some(self.since)
    }

    /// True when an address may be defended on `port` now; remembers that it was.
    fn may_defend(&mut self, now: Instant, port: PortId) -> bool {
        match self.defended.iter_mut().find(|(p, _)| *p == port) {
            Some((_, last)) if last.is_none_or(|last| now.since(last) >= DEFEND_INTERVAL) => {
                *last = Some(now);
                true
            }
            _ => false,
        }
    }
}

/// The addresses that a node with this configuration announces.
fn said(snapshot: &Snapshot) -> impl Iterator<Item = (PortId, Ipv4Addr)> + '_ {
    let says = |p: &PortConfig| p.arp_notify && p.arp && p.up && p.carrier;
    let on = move |id| snapshot.ports.iter().any(|p| p.id == id && says(p));
    let addresses = snapshot.addresses.iter();
    addresses
        .filter(move |a| on(a.port))
        .map(|a| (a.port, a.addr))
}

impl Router {
    /// Says what is to be said.
    pub(super) fn announce_new(&mut self, io: &mut Io<'_>) {
        while let Some((port, ip)) = self.announcements.pending.pop() {
            self.announce(port, ip, io);
        }
    }

    /// Another station on `port` claims `ip`, which is the node's.
    pub(super) fn defend(&mut self, port: PortId, ip: Ipv4Addr, io: &mut Io<'_>) {
        self.stats.count(Event::ArpConflict);
        if self.announcements.may_defend(io.now, port) {
            self.announce(port, ip, io);
        }
    }

    fn announce(&mut self, port: PortId, ip: Ipv4Addr, io: &mut Io<'_>) {
        let Some((slot, mac)) = self
            .ports
            .slot(port)
            .and_then(|slot| Some((slot, self.snapshot.ports.get(slot)?.mac)))
        else {
            return;
        };
        let Some(mut frame) = io.pool.alloc() else {
            return self.stats.count(Event::NoFrame);
        };
        let claim = Arp {
            operation: Operation::Request,
            sha: mac,
            spa: ip,
            tha: Mac::ZERO,
            tpa: ip,
        };
        let header = ethernet::Header {
            dst: Mac::BROADCAST,
            src: mac,
            ethertype: ETHERTYPE_ARP,
        };
        frame.assemble(&[&header.emit(), &claim.emit()]);
        self.stats.generated += 1;
        self.stats.count(Event::ArpAnnounced);
        self.emit(frame, slot, io);
    }
}

//! The plain path: what most packets are, in stages over groups of the batch.
//!
//! Decides nothing of its own. A packet is plain when every stage of the [packet path](super) would let it pass in silence:
//! a whole frame for this port's MAC, an IPv4 header without options whose checksum and length are right, TTL left, a
//! believable source, a route to one next hop behind an Ethernet port, no longer than that port's MTU, and the next hop's
//! MAC is known; between ports without a bandwidth limit, on a node that only forwards. What devices left undone on it stays
//! so. Everything else, a traced packet too, goes the long way, untouched and in its turn: what is refused, answered, held,
//! cut or told of is decided there alone. So leaving this path out changes no byte and no counter, which tests hold against
//! each other.
//!
//! ```text
//!  a group ─> look (header, addresses) ─> places of its sources, of its destinations ─> one after the other, in order:
//!                                                                     plain ─> neigh ─> TTL, MACs ─> tx
//!                                                                     else ──> receive
//! ```
//!
//! On a node that tracks connections (for NAT or policies) a packet is looked at in the same way, but then its connection
//! is looked up in place of its addresses: see [`track`].
//!
//! What is looked at ahead of a packet's turn depends on its bytes and on the configuration, which no packet changes; the
//! neighbour table, which packets do change, is asked when it is the packet's turn.
//!
//! Packet before: as received. After: TTL lower by one, checksum updated (RFC 1624), MACs of the next link, no padding.
//!
//! Cost: one table look-up per packet, two where some port of the group wants sources to be validated, 64 at a time; and one
//! of a neighbour per next hop and batch. A batch that is plain from its first frame on is changed where it is, and leaves as
//! one. What frames have in common, as a rule, is compared once: of a handle all fields together ([`Label`]), of headers whole
//! words.
//!
//! [`Label`]: crate::frame::Label

mod counts;
mod egress;
mod forward;
mod look;
mod track;

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use super::{Io, Router};
use crate::config::{PortConfig, PortId, Snapshot};
use crate::fib::Fib;
use crate::frame::{BATCH_MAX, Frame};
use crate::shape::Shaper;
use crate::table::NextHop;
use crate::wire::ethernet;
use crate::wire::ipv4;
pub(super) use counts::Counts;
use egress::{Clock, Egress, Source};
use look::{Filter, Ingress, Look, Seen};
use track::Flows;

/// Bytes of the headers that are looked at.
const HEADERS: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN;

/// Frames that are in the same stage: what is known of them stays in the first-level cache, and so do their headers.
const GROUP: usize = 64;

/// How many frames ahead a frame's first line is asked for.
const AHEAD: usize = 8;

/// No port, no way.
const ABSENT: u16 = u16::MAX;

/// Tables of one configuration, and what was seen of the batch at hand.
#[derive(Debug)]
pub(super) struct Plain {
    mode: Mode,
    /// By number of the port.
    ingress: Vec<Ingress>,
    /// By place of what the FIB says.
    egress: Vec<Egress>,
    sources: Vec<Source>,
    /// Addresses that no packet from outside may come from are among these.
    own: Filter,
    /// Packets that went this way.
    #[cfg(any(test, feature = "testing"))]
    pub(super) forwarded: u64,
    /// Of these, packets that went where their connection had gone before.
    #[cfg(any(test, feature = "testing"))]
    passed: u64,
    /// Of a node that tracks, of the batch at hand; else of a group of it, as what follows.
    seen: [Seen; BATCH_MAX],
    /// Addresses that have to be looked up, and what the FIB says about them.
    dst: [u32; GROUP],
    dst_places: [NextHop; GROUP],
    src: [u32; GROUP],
    src_places: [NextHop; GROUP],
    /// Some source has to be looked up: all are then. What is not looked up is believed.
    validates: bool,
    /// Ports that frames leave by.
    ways_out: [PortId; BATCH_MAX],
    /// When the neighbour table was asked last.
    clock: Clock,
    /// Of a node that tracks: what connections the packets belong to, and where connections were sent to lately.
    flows: Flows,
}

/// What a node does with packets that are plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// There are none.
    Off,
    /// Forward them.
    Forward,
    /// See what connection they belong to.
    Track,
}

impl Default for Plain {
    fn default() -> Self {
        Self {
            mode: Mode::Off,
            ingress: Vec::new(),
            egress: Vec::new(),
            sources: Vec::new(),
            own: Filter::default(),
            #[cfg(any(test, feature = "testing"))]
            forwarded: 0,
            #[cfg(any(test, feature = "testing"))]
            passed: 0,
            seen: [Seen::NOT_PLAIN; BATCH_MAX],
            dst: [0; GROUP],
            dst_places: [0; GROUP],
            src: [0; GROUP],
            src_places: [0; GROUP],
            validates: false,
            ways_out: [PortId(ABSENT); BATCH_MAX],
            clock: Clock::default(),
            flows: Flows::default(),
        }
    }
}

impl Plain {
    /// Follows a configuration. `tracks` on a node that tracks connections.
    pub(super) fn apply(
        &mut self,
        snapshot: &Snapshot,
        fib: &Fib,
        tracks: bool,
        shaper: Option<&Shaper>,
    ) {
        self.ingress.clear();
        self.egress.clear();
        self.sources.clear();
        self.own = Filter::default();
        self.flows.forget_next_hops();
        self.mode = match (snapshot.forwarding, tracks) {
            (false, _) => return self.mode = Mode::Off,
            (true, true) => Mode::Track,
            (true, false) => Mode::Forward,
        };
        let whole = snapshot.defragment || tracks;
        Ingress::of_all(snapshot, whole, shaper, &mut self.ingress);
        self.own.insert(Ipv4Addr::BROADCAST);
        for address in &snapshot.addresses {
            self.own.insert(address.addr);
            address.broadcast.iter().for_each(|&a| self.own.insert(a));
        }
        for leaf in fib.leaves() {
            self.egress
                .push(Egress::of(leaf, snapshot, shaper).unwrap_or(Egress::NOT_PLAIN));
            self.sources.push(Source::of(leaf));
        }
    }

    pub(super) const fn mode(&self) -> Mode {
        self.mode
    }

    /// Looks at the first frames of these, and for where their packets come from and go. Number of frames.
    pub(super) fn look_and_route(
        &mut self,
        frames: &[Frame],
        ports: &[PortConfig],
        fib: &Fib,
    ) -> usize {
        let group = frames.len().min(GROUP);
        let (frames, later) = frames.split_at(group);
        ask_for(later);
        self.look(frames, fib);
        if self.validates {
            fib.places(&self.src[..group], &mut self.src_places[..group]);
            self.doubt(group, ports);
        }
        fib.places(&self.dst[..group], &mut self.dst_places[..group]);
        group
    }

    /// Takes back of the first packets what was seen of those whose sources are not believed.
    #[inline(never)]
    fn doubt(&mut self, group: usize, ports: &[PortConfig]) {
        let looked_up = self.src_places.iter().take(group);
        for (seen, &place) in self.seen.iter_mut().zip(looked_up) {
            // No route is a place beyond the last.
            let source = self.sources.get(usize::from(place));
            let source = source.copied().unwrap_or(Source::Nowhere);
            let port = ports.get(usize::from(seen.slot()));
            if !port.is_some_and(|port| source.is_believable(seen.slot(), port.rp_filter)) {
                *seen = Seen::NOT_PLAIN;
            }
        }
    }

    /// Looks at frames, of which there are no more than [`GROUP`].
    #[inline(never)]
    fn look(&mut self, frames: &[Frame], fib: &Fib) {
        let Self {
            ingress,
            own,
            seen,
            dst,
            src,
            validates,
            ..
        } = self;
        let mut look = Look::new(ingress);
        let places = seen.iter_mut().zip(src.iter_mut().zip(dst));
        for (frame, (seen, (from, to))) in frames.iter().zip(places) {
            match look.at(frame, seen) {
                Some(shown) if !(own.may_have(shown.src) && is_own(fib, shown.src)) => {
                    (*from, *to) = (shown.src, shown.dst);
                }
                _ => {
                    (*from, *to) = (0, 0);
                    *seen = Seen::NOT_PLAIN;
                }
            }
        }
        *validates = look.validates;
    }
}

/// Asks for the first lines of the first frames of these.
fn ask_for(frames: &[Frame]) {
    for frame in frames.iter().take(GROUP) {
        frame.prefetch();
    }
}

/// Whether a source, an address as bits, is one that no packet from outside may have.
#[inline(never)]
fn is_own(fib: &Fib, src: u32) -> bool {
    let leaf = fib.leaf(Ipv4Addr::from_bits(src));
    leaf.is_some_and(|leaf| Source::of(leaf) == Source::Refused)
}

impl Router {
    /// Takes over what was counted of a batch.
    pub(super) fn count_plain(&mut self, counts: Counts, io: &mut Io<'_>) {
        let _forwarded = counts.finish(&mut self.stats, io);
        #[cfg(any(test, feature = "testing"))]
        if self.plain.mode == Mode::Forward {
            self.plain.forwarded += _forwarded;
        }
    }

    /// Packets of known connections that took the plain path to its end.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn passed_again(&self) -> u64 {
        self.plain.passed
    }

    /// Packets that took the plain path, so that a test can tell that it tests it.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn forwarded_plainly(&self) -> u64 {
        self.plain.forwarded
    }
}

#[cfg(test)]
mod tests;

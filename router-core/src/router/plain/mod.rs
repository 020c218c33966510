//! The plain path: what most packets are, in stages over the whole batch.
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
//!  the batch ─> look (header, addresses) ─> places of all sources, of all destinations ─> one after the other, in order:
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
//! Cost: one table look-up per packet, two where some source of the batch has to be validated, 64 at a time; and one of a
//! neighbour per next hop and batch. A batch that is plain from its first frame on is changed where it is, and leaves as one.

mod counts;
mod egress;
mod look;
mod track;

use alloc::vec::Vec;
use core::net::Ipv4Addr;
use core::slice;

use super::{Io, Router};
use crate::config::{PortConfig, PortId, Snapshot};
use crate::fib::Fib;
use crate::frame::{BATCH_MAX, Batch, Frame};
use crate::shape::Shaper;
use crate::table::NextHop;
use crate::time::Instant;
use crate::wire::ethernet;
use crate::wire::ipv4;
pub(super) use counts::Counts;
use egress::{Egress, Source};
use look::{Filter, Ingress, Seen, look_at};
use track::Flows;

/// Bytes of the headers that are looked at.
const HEADERS: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN;

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
    seen: [Seen; BATCH_MAX],
    /// Addresses that have to be looked up, and what the FIB says about them.
    dst: [u32; BATCH_MAX],
    dst_places: [NextHop; BATCH_MAX],
    src: [u32; BATCH_MAX],
    src_places: [NextHop; BATCH_MAX],
    /// Some source of the batch has to be looked up: all are then. What is not looked up is believed.
    validates: bool,
    /// Ports that frames leave by.
    ways_out: [PortId; BATCH_MAX],
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
            dst: [0; BATCH_MAX],
            dst_places: [0; BATCH_MAX],
            src: [0; BATCH_MAX],
            src_places: [0; BATCH_MAX],
            validates: false,
            ways_out: [PortId(ABSENT); BATCH_MAX],
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

    /// Looks at the frames of a batch, and for where their packets come from and go.
    pub(super) fn look_and_route(&mut self, frames: &[Frame], fib: &Fib) {
        self.look(frames);
        let all = frames.len().min(BATCH_MAX);
        if self.validates {
            fib.places(&self.src[..all], &mut self.src_places[..all]);
        }
        fib.places(&self.dst[..all], &mut self.dst_places[..all]);
    }

    /// Looks at the frames of a batch.
    #[inline(never)]
    fn look(&mut self, frames: &[Frame]) {
        let Self {
            ingress,
            own,
            seen,
            dst,
            src,
            validates,
            ..
        } = self;
        let mut some_is_validated = false;
        let places = seen.iter_mut().zip(src.iter_mut().zip(dst));
        for (n, (frame, (seen, (from, to)))) in frames.iter().zip(places).enumerate() {
            if let Some(later) = frames.get(n + AHEAD) {
                later.prefetch();
            }
            if let Some(shown) = look_at(frame, ingress, seen) {
                (*from, *to) = (shown.src, shown.dst);
                some_is_validated |= shown.is_validated | own.may_have(shown.src);
            } else {
                (*from, *to) = (0, 0);
                seen.slot = ABSENT;
            }
        }
        *validates = some_is_validated;
    }
}

/// Whether the source of a packet is believed, about which the FIB says what is in `place`.
#[inline(never)]
fn is_believable(seen: &Seen, place: NextHop, sources: &[Source], ports: &[PortConfig]) -> bool {
    // No route is a place beyond the last.
    let source = sources.get(usize::from(place)).copied();
    let source = source.unwrap_or(Source::Nowhere);
    let port = ports.get(usize::from(seen.slot));
    port.is_some_and(|port| source.is_believable(seen.slot, port.rp_filter))
}

impl Router {
    /// Sends the frames of the batch that was [looked at](Plain::look_and_route), up to the first that is not plain: all of
    /// them, as a rule. Number of frames.
    pub(super) fn forward_first(
        &mut self,
        rx: &mut Batch,
        counts: &mut Counts,
        io: &mut Io<'_>,
    ) -> usize {
        let plain = self.rewrite_plain(0, rx.as_mut_slice(), counts, io.now);
        io.tx.append(&self.plain.ways_out, rx, plain);
        plain
    }

    /// Sends frame `n` of the batch, if it is plain; gives it back otherwise.
    pub(super) fn forward_next(
        &mut self,
        n: usize,
        mut frame: Frame,
        counts: &mut Counts,
        io: &mut Io<'_>,
    ) -> Result<(), Frame> {
        let plain = self.rewrite_plain(n, slice::from_mut(&mut frame), counts, io.now);
        match self.plain.ways_out.get(n) {
            Some(&port) if plain > 0 => io.tx.push(port, frame),
            _ => return Err(frame),
        }
        Ok(())
    }

    /// Makes `frames`, the first of which is the one with number `first` in its batch, what they leave as, and counts them:
    /// up to the first that is not plain. Number of frames; their ports are in `ways_out`.
    #[inline(never)]
    fn rewrite_plain(
        &mut self,
        first: usize,
        frames: &mut [Frame],
        counts: &mut Counts,
        now: Instant,
    ) -> usize {
        let Self {
            plain,
            snapshot,
            neighbours,
            stats,
            ..
        } = self;
        let Plain {
            egress,
            sources,
            seen,
            dst,
            dst_places,
            src_places,
            ways_out,
            validates,
            ..
        } = &mut **plain;
        let first = first.min(BATCH_MAX);
        let shown = seen[first..].iter().zip(&mut ways_out[first..]);
        let found = dst_places[first..].iter().zip(&src_places[first..]);
        let all = frames.iter_mut().zip(shown).zip(&dst[first..]).zip(found);
        let mut done = 0;
        for (((frame, (seen, way_out)), &dst), (&to, &from)) in all {
            // No route is a place beyond the last.
            let Some(egress) = egress.get_mut(usize::from(to)) else {
                break;
            };
            if seen.slot == ABSENT
                || seen.longest > egress.mtu
                || *validates && !is_believable(seen, from, sources, &snapshot.ports)
                || !egress.resolve(dst, now, neighbours)
            {
                break;
            }
            let Some(headers) = frame.first_mut::<HEADERS>() else {
                break;
            };
            let (link, ip) = headers.split_at_mut(ethernet::HEADER_LEN);
            link.copy_from_slice(&egress.header);
            if let Some(ip) = ip.first_chunk_mut() {
                ipv4::decrement_ttl(ip);
            }
            let len = ethernet::HEADER_LEN + usize::from(seen.total_len);
            let received = frame.trim(len);
            *way_out = egress.port;
            counts.add(seen, (received, len), egress, stats);
            done += 1;
        }
        done
    }

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

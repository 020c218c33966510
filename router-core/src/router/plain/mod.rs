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
//! Cost: one table look-up per packet, two where sources are validated by path, 64 at a time; and one of a neighbour per
//! next hop and batch.

mod track;

use alloc::vec::Vec;
use core::mem;
use core::net::Ipv4Addr;

use super::{Io, Router};
use crate::config::{PortConfig, PortId, PortKind, RpFilter, Snapshot};
use crate::fib::{Fib, Leaf};
use crate::frame::{BATCH_MAX, Frame};
use crate::martian;
use crate::neigh::NeighbourTable;
use crate::segment::{self, Cutter};
use crate::shape::{Shaper, Side};
use crate::stats::{RouteKind, Stats};
use crate::table::NextHop;
use crate::time::Instant;
use crate::wire::ethernet::{self, ETHERTYPE_IPV4};
use crate::wire::ipv4::{self, PROTOCOL_IPIP};
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
    /// By place of what the FIB says; the last for what it says nothing about.
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

/// What a frame showed.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Place of the port that it came by in the snapshot; [`ABSENT`] for a frame that is not plain.
    slot: u16,
    /// Bytes of the packet.
    total_len: u16,
    /// What has to fit the MTU: of a superframe, a segment.
    longest: u16,
    /// Segments of a superframe after the first.
    more: u16,
    /// Place of its source among those that are looked up: [`ABSENT`] when that is believed without.
    from: u16,
    rp_filter: RpFilter,
}

impl Seen {
    const NOT_PLAIN: Self = Self {
        slot: ABSENT,
        total_len: 0,
        longest: 0,
        more: 0,
        from: ABSENT,
        rp_filter: RpFilter::Off,
    };
}

/// A set of addresses that may hold more than was put in (Bloom, "Space/time trade-offs in hash coding", 1970), of one
/// hash: a node has a few addresses, and nearly all sources can be told from them without a look-up.
#[derive(Debug, Default)]
struct Filter([u64; 16]);

impl Filter {
    fn place(address: u32) -> (usize, u32) {
        // Fibonacci hashing: the top ten bits.
        let hash = address.wrapping_mul(0x9e37_79b1) >> 22;
        ((hash >> 6) as usize, hash & 63)
    }

    fn insert(&mut self, address: Ipv4Addr) {
        let (word, bit) = Self::place(address.to_bits());
        self.0[word] |= 1 << bit;
    }

    #[inline]
    fn may_have(&self, address: u32) -> bool {
        let (word, bit) = Self::place(address);
        self.0[word] >> bit & 1 != 0
    }
}

/// What frames of a port are to be.
#[derive(Clone, Copy, Debug)]
struct Ingress {
    /// Destination MAC as it stands in a frame; see [`MAC_MASK`].
    mac: u64,
    /// Bits of the word with flags and fragment offset that have to be zero.
    whole: u16,
    slot: u16,
    rp_filter: RpFilter,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug)]
struct Egress {
    /// Place of the port.
    slot: u16,
    port: PortId,
    /// Longest packet; 0 when packets on this route are not plain.
    mtu: u16,
    /// What goes before a packet to `next_hop`.
    header: [u8; ethernet::HEADER_LEN],
    /// The gateway; 0.0.0.0 when the destination itself is on the link.
    via: Ipv4Addr,
    next_hop: Ipv4Addr,
    /// When the MAC of `next_hop` was asked for, and after how many changes of MACs; and whether the time is all the same.
    asked: (Instant, u64),
    lasts: bool,
}

/// What a route says about packets that come from where it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// An address that is no other host's.
    Refused,
    /// Behind the port in this place.
    Behind(u16),
    /// Behind several ports.
    Several,
    /// Behind none.
    Nowhere,
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
            flows: Flows::default(),
        }
    }
}

impl Plain {
    /// Follows a configuration. `tracks` on a node that tracks connections. A port with a gate has no plain packets, also
    /// when its limit is gone and frames wait there still: none may overtake them.
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
        for (slot, port) in (0..).zip(&snapshot.ports) {
            let at = usize::from(port.id.0);
            if self.ingress.len() <= at {
                self.ingress.resize(at + 1, Ingress::NOT_PLAIN);
            }
            let gated = shaper.is_some_and(|s| s.gate(slot.into(), Side::Rx).is_some());
            if !gated {
                self.ingress[at] = Ingress::of(slot, port, snapshot.defragment || tracks);
            }
        }
        for address in &snapshot.addresses {
            self.own.insert(address.addr);
            address.broadcast.iter().for_each(|&a| self.own.insert(a));
        }
        for leaf in fib.leaves() {
            self.egress
                .push(Egress::of(leaf, snapshot, shaper).unwrap_or(Egress::NOT_PLAIN));
            self.sources.push(Source::of(leaf));
        }
        self.egress.push(Egress::NOT_PLAIN);
        self.sources.push(Source::Nowhere);
    }

    pub(super) const fn mode(&self) -> Mode {
        self.mode
    }

    /// Looks at the frames of a batch, and for where their packets come from and go.
    pub(super) fn look_and_route(&mut self, frames: &[Frame], fib: &Fib) {
        let sources = self.look(frames);
        let all = frames.len().min(BATCH_MAX);
        fib.places(&self.src[..sources], &mut self.src_places[..sources]);
        fib.places(&self.dst[..all], &mut self.dst_places[..all]);
    }

    /// Looks at the frames of a batch. Number of sources to look up; a destination has the place of its frame.
    fn look(&mut self, frames: &[Frame]) -> usize {
        let Self {
            ingress,
            own,
            seen,
            dst,
            src,
            ..
        } = self;
        let mut sources = 0;
        for (n, ((frame, seen), to)) in frames.iter().zip(seen).zip(dst).enumerate() {
            if let Some(later) = frames.get(n + AHEAD) {
                later.prefetch();
            }
            let from;
            (*seen, from, *to) = look_at(frame, ingress);
            // Written in any case, and counted if it is needed: that is no branch.
            if let Some(place) = src.get_mut(sources) {
                *place = from;
            }
            let wanted = (seen.rp_filter != RpFilter::Off) | own.may_have(from);
            let place = u16::try_from(sources).unwrap_or(ABSENT);
            seen.from = if wanted { place } else { ABSENT };
            sources += usize::from(wanted);
        }
        sources
    }

    /// Where the packet of frame `n` goes, if it is plain so far.
    #[inline]
    fn way(&mut self, n: usize) -> Option<(Seen, Ipv4Addr, &mut Egress)> {
        let seen = self.seen.get(n)?;
        let (to, dst) = (*self.dst_places.get(n)?, *self.dst.get(n)?);
        if seen.slot == ABSENT {
            return None;
        }
        let last = self.egress.len() - 1;
        // No route is a place beyond the last.
        let egress = self.egress.get_mut(usize::from(to).min(last))?;
        if seen.longest > egress.mtu {
            return None;
        }
        if seen.from != ABSENT {
            let place = *self.src_places.get(usize::from(seen.from))?;
            let source = *self.sources.get(usize::from(place).min(last))?;
            let believable = match seen.rp_filter {
                RpFilter::Off => source != Source::Refused,
                RpFilter::Strict => source == Source::Behind(seen.slot),
                // One of several may be right; the long way looks.
                RpFilter::Loose => matches!(source, Source::Behind(_)),
            };
            if !believable {
                return None;
            }
        }
        Some((*seen, Ipv4Addr::from_bits(dst), egress))
    }
}

/// A frame as far as it alone can tell, its source and its destination.
#[inline(always)]
fn look_at(frame: &Frame, ingress: &[Ingress]) -> (Seen, u32, u32) {
    const NOT_PLAIN: (Seen, u32, u32) = (Seen::NOT_PLAIN, 0, 0);
    let (Some(ingress), Some(h)) = (
        ingress.get(usize::from(frame.port().0)),
        frame.first::<HEADERS>(),
    ) else {
        return NOT_PLAIN;
    };
    let total_len = u16::from_be_bytes([h[16], h[17]]);
    let ttl = h[22];
    let src = u32::from_be_bytes([h[26], h[27], h[28], h[29]]);
    let dst = u32::from_be_bytes([h[30], h[31], h[32], h[33]]);
    // Every condition is worked out, as bits that are set where it fails: the processor need not guess which one does.
    let link = u64::from_ne_bytes([h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]]);
    let begin = u32::from_ne_bytes([h[12], h[13], h[14], h[15]]);
    let fragment = u16::from_ne_bytes([h[20], h[21]]);
    let wrong = (link ^ ingress.mac) & MAC_MASK
        | u64::from((begin ^ BEGIN) & BEGIN_MASK)
        | u64::from(fragment & ingress.whole)
        | u64::from(NO_HOST[(src >> 24) as usize] | NO_HOST[(dst >> 24) as usize])
        | u64::from(frame.is_marked() | !frame.is_as_it_came())
        | u64::from((src == u32::MAX) | (dst == u32::MAX))
        | u64::from((ttl <= 1) | (h[23] == PROTOCOL_IPIP))
        | u64::from(usize::from(total_len) < ipv4::HEADER_LEN)
        | u64::from(!verifies(h));
    if wrong != 0 {
        return NOT_PLAIN;
    }
    let (longest, more) = if frame.is_offloaded() {
        match left_to_do(frame, total_len) {
            Some(left) => left,
            None => return NOT_PLAIN,
        }
    } else if usize::from(total_len) + ethernet::HEADER_LEN > frame.head_len() {
        return NOT_PLAIN;
    } else {
        (total_len, 0)
    };
    let seen = Seen {
        slot: ingress.slot,
        total_len,
        longest,
        more,
        from: ABSENT,
        rp_filter: ingress.rp_filter,
    };
    (seen, src, dst)
}

/// Of a frame with something left to do: length of the longest packet on a wire, and how many there will be besides the
/// first; none when what is left to do is not as the long way lets it pass.
#[inline(never)]
fn left_to_do(frame: &Frame, total_len: u16) -> Option<(u16, u16)> {
    if usize::from(total_len) + ethernet::HEADER_LEN > frame.len() {
        return None;
    }
    if !frame.is_superframe() {
        return segment::is_sound(frame).map(|_| (total_len, 0));
    }
    let cutter = Cutter::new(frame).ok()?;
    let longest = cutter.segment_len(0) - ethernet::HEADER_LEN;
    let more = u16::try_from(cutter.count() - 1).ok()?;
    Some((u16::try_from(longest).ok()?.min(total_len), more))
}

/// The bytes of a word that are the destination MAC.
const MAC_MASK: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
/// EtherType, version and header length, as they stand in the frame.
const BEGIN: u32 = u32::from_ne_bytes([0x08, 0x00, 0x45, 0]);
const BEGIN_MASK: u32 = u32::from_ne_bytes([0xff, 0xff, 0xff, 0]);

/// By first octet: 1 where [`martian::is_host`] is false: 0/8, 127/8, 224/4.
static NO_HOST: [u8; 256] = {
    let mut table = [0; 256];
    table[0] = 1;
    table[127] = 1;
    let mut first = 224;
    while first < 240 {
        table[first] = 1;
        first += 1;
    }
    table
};

/// Whether the checksum of an IPv4 header without options is right, in the byte order of the machine (RFC 1071 2 B).
#[inline]
fn verifies(headers: &[u8; HEADERS]) -> bool {
    let h = headers;
    let first = u64::from_ne_bytes([h[14], h[15], h[16], h[17], h[18], h[19], h[20], h[21]]);
    let second = u64::from_ne_bytes([h[22], h[23], h[24], h[25], h[26], h[27], h[28], h[29]]);
    let third = u32::from_ne_bytes([h[30], h[31], h[32], h[33]]);
    // Each half twice as long as what it is folded to; carries go around.
    let (sum, carry) = first.overflowing_add(second);
    let (sum, more) = sum.overflowing_add(u64::from(third) + u64::from(carry));
    let sum = sum.wrapping_add(u64::from(more));
    let sum = sum.wrapping_add(sum.rotate_left(32)) >> 32;
    let sum = sum as u32;
    sum.wrapping_add(sum.rotate_left(16)) >> 16 == 0xffff
}

impl Ingress {
    const NOT_PLAIN: Self = Self {
        // What it stands for is seen by the slot.
        mac: u64::MAX,
        whole: u16::MAX,
        slot: ABSENT,
        rp_filter: RpFilter::Off,
    };

    fn of(slot: u16, port: &PortConfig, defragment: bool) -> Self {
        let plain = port.up
            && port.kind == PortKind::Ethernet
            && port.bridge.is_none()
            && !port.mac.is_group();
        if !plain {
            return Self::NOT_PLAIN;
        }
        let [a, b, c, d, e, f] = port.mac.0;
        Self {
            mac: u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]),
            whole: if defragment {
                u16::from_ne_bytes([0x3f, 0xff])
            } else {
                0
            },
            slot,
            rp_filter: port.rp_filter,
        }
    }
}

impl Egress {
    const NOT_PLAIN: Self = Self {
        slot: ABSENT,
        port: PortId(ABSENT),
        mtu: 0,
        header: [0; ethernet::HEADER_LEN],
        via: Ipv4Addr::UNSPECIFIED,
        next_hop: Ipv4Addr::UNSPECIFIED,
        asked: (Instant::ZERO, u64::MAX),
        lasts: false,
    };

    fn of(leaf: &Leaf, snapshot: &Snapshot, shaper: Option<&Shaper>) -> Option<Self> {
        let Leaf::One(hop) = leaf else { return None };
        let port = snapshot.ports.get(hop.slot)?;
        Self::by(hop.slot, port, hop.via, shaper)
    }

    fn by(
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
            via: via.unwrap_or(Ipv4Addr::UNSPECIFIED),
            ..Self::NOT_PLAIN
        })
    }

    /// Whether `header` is the one for packets to `dst` now.
    #[inline]
    fn resolve(&mut self, dst: Ipv4Addr, now: Instant, neighbours: &mut NeighbourTable) -> bool {
        let next_hop = if self.via.is_unspecified() {
            dst
        } else {
            self.via
        };
        let (asked, changes) = self.asked;
        if self.next_hop == next_hop
            && changes == neighbours.changes()
            && (self.lasts | (asked == now))
        {
            return true;
        }
        let Some((mac, lasts)) = neighbours.known(now, self.port, next_hop) else {
            return false;
        };
        self.header[..6].copy_from_slice(&mac.0);
        self.next_hop = next_hop;
        self.asked = (now, neighbours.changes());
        self.lasts = lasts;
        true
    }
}

impl Source {
    fn of(leaf: &Leaf) -> Self {
        match leaf {
            Leaf::Local | Leaf::Broadcast => Self::Refused,
            Leaf::One(hop) => u16::try_from(hop.slot).map_or(Self::Several, Self::Behind),
            Leaf::Many { .. } => Self::Several,
            Leaf::Blackhole | Leaf::Unreachable | Leaf::Prohibit | Leaf::Throw => Self::Nowhere,
        }
    }
}

/// Frames and bytes of the same port that were not counted yet.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    slot: u16,
    frames: u64,
    bytes: u64,
    more: u64,
}

impl Run {
    /// Adds a frame. What there is of another port is given back, to be counted.
    #[inline]
    fn add(&mut self, slot: u16, len: usize, more: u16) -> Option<Self> {
        let other = (self.slot != slot).then(|| {
            mem::replace(
                self,
                Self {
                    slot,
                    ..Self::default()
                },
            )
        });
        self.frames += 1;
        self.bytes += len as u64;
        self.more += u64::from(more);
        other
    }
}

/// What the plain path counts of one batch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    rx: Run,
    tx: Run,
    forwarded: u64,
}

impl Counts {
    #[inline]
    fn add(&mut self, seen: Seen, received: usize, egress: &Egress, stats: &mut Stats) {
        self.forwarded += 1;
        if let Some(run) = self.rx.add(seen.slot, received, seen.more) {
            stats.count_rx_many(run.slot.into(), run.frames, run.bytes, run.more);
        }
        let len = usize::from(seen.total_len) + ethernet::HEADER_LEN;
        if let Some(run) = self.tx.add(egress.slot, len, seen.more) {
            stats.count_tx_many(run.slot.into(), run.frames, run.bytes, run.more);
        }
    }

    /// Takes over what is left.
    pub(super) fn finish(self, stats: &mut Stats, io: &mut Io<'_>) {
        io.routes.add(RouteKind::Unicast, self.forwarded);
        let Self { rx, tx, .. } = self;
        stats.count_rx_many(rx.slot.into(), rx.frames, rx.bytes, rx.more);
        stats.count_tx_many(tx.slot.into(), tx.frames, tx.bytes, tx.more);
    }
}

impl Router {
    /// Forwards frame `n` of the batch that was [looked at](Plain::look_and_route), if it is plain; gives it back otherwise.
    #[inline]
    pub(super) fn forward_plain(
        &mut self,
        n: usize,
        mut frame: Frame,
        counts: &mut Counts,
        io: &mut Io<'_>,
    ) -> Result<(), Frame> {
        let Some((seen, dst, egress)) = self.plain.way(n) else {
            return Err(frame);
        };
        if !egress.resolve(dst, io.now, &mut self.neighbours) {
            return Err(frame);
        }
        let received = frame.len();
        if let Some(headers) = frame.first_mut::<HEADERS>() {
            let (link, ip) = headers.split_at_mut(ethernet::HEADER_LEN);
            link.copy_from_slice(&egress.header);
            if let Some(ip) = ip.first_chunk_mut() {
                ipv4::decrement_ttl(ip);
            }
        }
        frame.truncate(ethernet::HEADER_LEN + usize::from(seen.total_len));
        counts.add(seen, received, egress, &mut self.stats);
        io.tx.push(egress.port, frame);
        #[cfg(any(test, feature = "testing"))]
        {
            self.plain.forwarded += 1;
        }
        Ok(())
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

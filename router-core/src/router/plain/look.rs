//! What a frame shows before it is its turn: whether it is plain as far as it alone can tell, and where it is from and to.
//!
//! Decides nothing of its own: what the stages of the packet path would let pass in silence is plain. See [`super`].
//!
//! Cost: the frame's first line is read once, in whole words; each condition is one comparison that nearly no frame fails.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use super::{ABSENT, HEADERS};
use crate::config::{PortConfig, PortId, PortKind, RpFilter, Snapshot};
use crate::frame::{Frame, Label};
use crate::segment::{self, Cutter};
use crate::shape::{Shaper, Side};
use crate::wire::ethernet;
use crate::wire::ipv4::{self, PROTOCOL_IPIP};

/// Lengths of headers, as lengths of frames are kept.
const IPV4_LEN: u16 = 20;
const HEADERS_LEN: u16 = 34;
const _: () = assert!(IPV4_LEN as usize == ipv4::HEADER_LEN && HEADERS_LEN as usize == HEADERS);

/// What a frame showed, in one word, which is written at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen(u64);

#[expect(clippy::cast_possible_truncation, reason = "parts of the word")]
impl Seen {
    /// Longer than any way out lets pass.
    pub(super) const NOT_PLAIN: Self = Self::of(ABSENT, 0, (u16::MAX, 0));

    /// Of a packet of `total_len` bytes that came by the port in `slot`; of a superframe, `longest` is what has to fit an MTU,
    /// and there are so many segments after the first.
    const fn of(slot: u16, total_len: u16, (longest, more): (u16, u16)) -> Self {
        Self(total_len as u64 | (longest as u64) << 16 | (more as u64) << 32 | (slot as u64) << 48)
    }

    /// The same without a length, given one that is also the longest on a wire.
    #[inline(always)]
    const fn with_len(self, total_len: u16) -> Self {
        Self(self.0 | (total_len as u64 * 0x1_0001))
    }

    /// Bytes of the packet.
    #[inline(always)]
    pub(super) const fn total_len(self) -> u16 {
        self.0 as u16
    }

    /// What has to fit the MTU: of a superframe, a segment.
    #[inline(always)]
    pub(super) const fn longest(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Segments of a superframe after the first.
    #[inline(always)]
    pub(super) const fn more(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// Place of the port that it came by in the snapshot; [`ABSENT`] for a frame that is not plain.
    #[inline(always)]
    pub(super) const fn slot(self) -> u16 {
        (self.0 >> 48) as u16
    }
}

/// Addresses of a frame that is plain as far as it alone can tell.
pub(super) struct Shown {
    pub(super) src: u32,
    pub(super) dst: u32,
}

/// A set of addresses that may hold more than was put in (Bloom, "Space/time trade-offs in hash coding", 1970), of one
/// hash: a node has a few addresses, and nearly all sources can be told from them without a look-up.
#[derive(Debug)]
pub(super) struct Filter([bool; 1 << Self::BITS]);

impl Default for Filter {
    fn default() -> Self {
        Self([false; 1 << Self::BITS])
    }
}

impl Filter {
    const BITS: u32 = 10;

    const fn place(address: u32) -> usize {
        // Fibonacci hashing: the top bits.
        (address.wrapping_mul(0x9e37_79b1) >> (u32::BITS - Self::BITS)) as usize
    }

    pub(super) fn insert(&mut self, address: Ipv4Addr) {
        self.0[Self::place(address.to_bits())] = true;
    }

    #[inline(always)]
    pub(super) fn may_have(&self, address: u32) -> bool {
        self.0[Self::place(address)]
    }
}

/// What frames of a port are to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ingress {
    /// Destination MAC, as it stands in [`Words::link`].
    mac: u64,
    /// Bits of flags and fragment offset that have to be zero, as they stand in [`Words::first`].
    whole: u64,
    /// Of a frame from there, but for its length.
    seen: Seen,
    is_validated: bool,
}

impl Ingress {
    const NOT_PLAIN: Self = Self {
        // No MAC ends here.
        mac: 1,
        whole: 0,
        seen: Seen::NOT_PLAIN,
        is_validated: false,
    };

    /// By number of the port. `whole` where fragments are not plain. A port with a gate has no plain packets, also when its
    /// limit is gone and frames wait there still: none may overtake them.
    pub(super) fn of_all(
        snapshot: &Snapshot,
        whole: bool,
        shaper: Option<&Shaper>,
        all: &mut Vec<Self>,
    ) {
        all.clear();
        for (slot, port) in (0..).zip(&snapshot.ports) {
            let at = usize::from(port.id.0);
            if all.len() <= at {
                all.resize(at + 1, Self::NOT_PLAIN);
            }
            let gated = shaper.is_some_and(|s| s.gate(slot.into(), Side::Rx).is_some());
            if !gated {
                all[at] = Self::of(slot, port, whole);
            }
        }
    }

    fn of(slot: u16, port: &PortConfig, whole: bool) -> Self {
        let plain = port.up
            && port.kind == PortKind::Ethernet
            && port.bridge.is_none()
            && !port.mac.is_group();
        if !plain {
            return Self::NOT_PLAIN;
        }
        let [a, b, c, d, e, f] = port.mac.0;
        Self {
            mac: u64::from_le_bytes([0, 0, a, b, c, d, e, f]),
            whole: if whole { FRAGMENT } else { 0 },
            seen: Seen::of(slot, 0, (0, 0)),
            is_validated: port.rp_filter != RpFilter::Off,
        }
    }
}

/// EtherType, version and header length, as they stand in [`Words::kind`].
const KIND: u32 = u32::from_le_bytes([0, 0x08, 0x00, 0x45]);
/// More fragments, and the offset, in [`Words::first`].
const FRAGMENT: u64 = u64::from_le_bytes([0, 0, 0, 0, 0, 0, 0x3f, 0xff]);

/// By first octet: 1 where [`martian::is_host`](crate::martian::is_host) is false: 0/8, 127/8, 224/4. (What else is none,
/// 255.255.255.255, every table of routes says itself.)
pub(super) static NO_HOST: [u8; 256] = {
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

/// The headers of a frame, read once: words whose first byte is the least significant, whatever the machine.
pub(super) struct Words {
    /// Destination MAC, behind two zeros.
    link: u64,
    /// EtherType, version and header length, and before them a byte of the source MAC.
    kind: u32,
    /// Version and header length, type of service, total length, identification, flags and fragment offset.
    first: u64,
    /// TTL, protocol, checksum, source.
    second: u64,
    dst: u32,
}

impl Words {
    #[inline(always)]
    pub(super) fn of(headers: &[u8; HEADERS]) -> Self {
        let half = |at: usize| {
            headers[at..]
                .first_chunk()
                .map_or(0, |b| u32::from_le_bytes(*b))
        };
        let word = |at: usize| {
            headers[at..]
                .first_chunk()
                .map_or(0, |b| u64::from_le_bytes(*b))
        };
        Self {
            link: word(0) << 16,
            kind: half(11),
            first: word(14),
            second: word(22),
            dst: half(30),
        }
    }

    /// Whether the checksum of the IPv4 header, which has no options and is not all zeros, is right: whether its words of 16
    /// bits add up to 0xffff when carries go around. That is to be a multiple of 0xffff, and so is the number that longer words
    /// make, as 2^16 is 1 modulo that. It is the same in either byte order (RFC 1071 2 B).
    #[inline(always)]
    pub(super) const fn verify(&self) -> bool {
        // 2^64 is 1 as well; what has wrapped is less than the largest number.
        let (sum, carry) = self.first.overflowing_add(self.second);
        let (sum, again) = (sum + carry as u64).overflowing_add(self.dst as u64);
        (sum + again as u64).is_multiple_of(0xffff)
    }

    /// What a packet with these headers shows, and its length, about which nothing is decided here; none if it isn't plain.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "parts of words")]
    fn show(&self, from: &Ingress) -> Option<(Shown, u16)> {
        let [ttl, protocol, _, _, src @ ..] = self.second.to_le_bytes();
        let src = u32::from_le_bytes(src);
        let no_host = |address: u32| NO_HOST[usize::from(address as u8)];
        // Both at once.
        let unlike = (self.link ^ from.mac) | u64::from((self.kind ^ KIND) >> 8);
        let plain = unlike == 0
            && self.first & from.whole == 0
            && ttl > 1
            && protocol != PROTOCOL_IPIP
            && no_host(src) | no_host(self.dst) == 0
            && self.verify();
        let shown = Shown {
            src: src.swap_bytes(),
            dst: self.dst.swap_bytes(),
        };
        plain.then_some((shown, ((self.first >> 16) as u16).swap_bytes()))
    }
}

/// Looks at frames one after the other, most of which are like the one before but for their length.
pub(super) struct Look<'a> {
    all: &'a [Ingress],
    /// What the last frame came by.
    from: &'a Ingress,
    /// The last frame's, had it headers and nothing behind them.
    like: Label,
    is_offloaded: bool,
    /// Some frame came by a port that wants the way back to sources to be looked at.
    pub(super) validates: bool,
}

impl<'a> Look<'a> {
    pub(super) fn new(all: &'a [Ingress]) -> Self {
        Self {
            all,
            from: &Ingress::NOT_PLAIN,
            like: Label::received(HEADERS_LEN, PortId(ABSENT)),
            is_offloaded: false,
            validates: false,
        }
    }

    /// Addresses of a frame that is plain as far as it alone can tell, what else it showed in `seen`; none of any other.
    #[inline(always)]
    pub(super) fn at(&mut self, frame: &Frame, seen: &mut Seen) -> Option<Shown> {
        let behind = match frame.label().longer_than(self.like) {
            Some(behind) => behind,
            None => self.turn_to(frame)?,
        };
        let from = self.from;
        let (shown, total_len) = Words::of(frame.received()?).show(from)?;
        *seen = if self.is_offloaded {
            Seen::of(from.seen.slot(), total_len, left_to_do(frame, total_len)?)
        } else if total_len.wrapping_sub(IPV4_LEN) <= behind {
            // No shorter than a header, and no longer than what there is.
            from.seen.with_len(total_len)
        } else {
            return None;
        };
        Some(shown)
    }

    /// Turns to a frame that is unlike the one before. Bytes behind its headers; none of a frame that is not as it came, or
    /// has not all headers.
    #[inline(never)]
    fn turn_to(&mut self, frame: &Frame) -> Option<u16> {
        let (label, port) = (frame.label(), frame.port());
        let from = self.all.get(usize::from(port.0))?;
        let like = label.as_it_came(port, HEADERS_LEN)?;
        (self.from, self.like) = (from, like);
        self.is_offloaded = label.is_offloaded();
        self.validates |= from.is_validated;
        label.longer_than(like)
    }
}

/// Of a frame with something left to do: length of the longest packet on a wire, and how many there will be besides the
/// first; none when what is left to do is not as the long way lets it pass.
#[inline(never)]
fn left_to_do(frame: &Frame, total_len: u16) -> Option<(u16, u16)> {
    let packet = frame.len().checked_sub(ethernet::HEADER_LEN)?;
    if !(ipv4::HEADER_LEN..=packet).contains(&total_len.into()) {
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

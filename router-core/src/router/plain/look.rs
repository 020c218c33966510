//! What a frame shows before it is its turn: whether it is plain as far as it alone can tell, and where it is from and to.
//!
//! Decides nothing of its own: what the stages of the packet path would let pass in silence is plain. See [`super`].
//!
//! Cost: the frame's first line is read once, in whole words; each condition is one comparison that nearly no frame fails.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use super::{ABSENT, HEADERS};
use crate::config::{PortConfig, PortKind, RpFilter, Snapshot};
use crate::frame::Frame;
use crate::segment::{self, Cutter};
use crate::shape::{Shaper, Side};
use crate::wire::ethernet;
use crate::wire::ipv4::{self, PROTOCOL_IPIP};

/// What a frame showed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Place of the port that it came by in the snapshot; [`ABSENT`] for a frame that is not plain.
    pub(super) slot: u16,
    /// Bytes of the packet.
    pub(super) total_len: u16,
    /// What has to fit the MTU: of a superframe, a segment.
    pub(super) longest: u16,
    /// Segments of a superframe after the first.
    pub(super) more: u16,
}

impl Seen {
    pub(super) const NOT_PLAIN: Self = Self {
        slot: ABSENT,
        total_len: 0,
        longest: 0,
        more: 0,
    };
}

/// Addresses of a frame that is plain as far as it alone can tell.
pub(super) struct Shown {
    pub(super) src: u32,
    pub(super) dst: u32,
    /// Its port wants the way back to the source to be looked at.
    pub(super) is_validated: bool,
}

/// A set of addresses that may hold more than was put in (Bloom, "Space/time trade-offs in hash coding", 1970), of one
/// hash: a node has a few addresses, and nearly all sources can be told from them without a look-up.
#[derive(Debug, Default)]
pub(super) struct Filter([u64; 16]);

impl Filter {
    fn place(address: u32) -> (usize, u32) {
        // Fibonacci hashing: the top ten bits.
        let hash = address.wrapping_mul(0x9e37_79b1) >> 22;
        ((hash >> 6) as usize, hash & 63)
    }

    pub(super) fn insert(&mut self, address: Ipv4Addr) {
        let (word, bit) = Self::place(address.to_bits());
        self.0[word] |= 1 << bit;
    }

    #[inline]
    pub(super) fn may_have(&self, address: u32) -> bool {
        let (word, bit) = Self::place(address);
        self.0[word] >> bit & 1 != 0
    }
}

/// What frames of a port are to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ingress {
    /// Destination MAC as it stands in a frame; see [`MAC_MASK`].
    mac: u64,
    /// Bits of flags and fragment offset that have to be zero, as they stand in [`Words::life`].
    whole: u32,
    slot: u16,
    is_validated: bool,
}

impl Ingress {
    const NOT_PLAIN: Self = Self {
        // What it stands for is seen by the slot.
        mac: u64::MAX,
        whole: 0,
        slot: ABSENT,
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
            mac: u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
            whole: if whole { FRAGMENT } else { 0 },
            slot,
            is_validated: port.rp_filter != RpFilter::Off,
        }
    }
}

/// The bytes of the first word that are the destination MAC.
const MAC_MASK: u64 = u64::from_le_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
/// EtherType, version and header length, as they stand in [`Words::begin`].
const BEGIN: u32 = u32::from_le_bytes([0x08, 0x00, 0x45, 0]);
const BEGIN_MASK: u32 = u32::from_le_bytes([0xff, 0xff, 0xff, 0]);
/// More fragments, and the offset, in [`Words::life`].
const FRAGMENT: u32 = u32::from_le_bytes([0x3f, 0xff, 0, 0]);

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
    /// Destination MAC, and two bytes more.
    link: u64,
    /// EtherType, version and header length, type of service.
    begin: u32,
    /// Total length, identification.
    length: u32,
    /// Flags and fragment offset, TTL, protocol.
    life: u32,
    checksum: u16,
    src: u32,
    dst: u32,
}

impl Words {
    #[inline(always)]
    pub(super) fn of(headers: &[u8; HEADERS]) -> Self {
        let word = |at: usize| {
            let bytes = headers[at..].first_chunk();
            bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
        };
        let link = headers.first_chunk();
        Self {
            link: link.map_or(0, |bytes| u64::from_le_bytes(*bytes)),
            begin: word(12),
            length: word(16),
            life: word(20),
            checksum: u16::from_le_bytes([headers[24], headers[25]]),
            src: word(26),
            dst: word(30),
        }
    }

    /// Whether the checksum of the IPv4 header, which has no options, is right. A one's complement sum is the same in either
    /// byte order (RFC 1071 2 B).
    #[inline(always)]
    pub(super) fn verify(&self) -> bool {
        // The header begins with the second half of the word in which the Ethernet header ends.
        let sum = u64::from(self.begin >> 16)
            + u64::from(self.length)
            + u64::from(self.life)
            + u64::from(self.checksum)
            + u64::from(self.src)
            + u64::from(self.dst);
        // Folded to 32 bits, then to 16; carries go around.
        let sum = sum.wrapping_add(sum.rotate_left(32)) >> 32;
        let sum = sum as u32;
        sum.wrapping_add(sum.rotate_left(16)) >> 16 == 0xffff
    }
}

/// A frame as far as it alone can tell, what else it showed in `seen`; none that is not plain.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "parts of words")]
pub(super) fn look_at(frame: &Frame, ingress: &[Ingress], seen: &mut Seen) -> Option<Shown> {
    let ingress = ingress.get(usize::from(frame.port().0))?;
    let h = Words::of(frame.first::<HEADERS>()?);
    let total_len = (h.length as u16).swap_bytes();
    let [.., ttl, protocol] = h.life.to_le_bytes();
    let no_host = |address: u32| NO_HOST[usize::from(address as u8)];
    if (h.link ^ ingress.mac) & MAC_MASK != 0
        || (h.begin ^ BEGIN) & BEGIN_MASK != 0
        || h.life & ingress.whole != 0
        || ttl <= 1
        || protocol == PROTOCOL_IPIP
        || usize::from(total_len) < ipv4::HEADER_LEN
        || !h.verify()
        || no_host(h.src) | no_host(h.dst) != 0
        || frame.is_marked()
        || !frame.is_as_it_came()
    {
        return None;
    }
    let (longest, more) = if frame.is_offloaded() {
        left_to_do(frame, total_len)?
    } else if usize::from(total_len) + ethernet::HEADER_LEN > frame.head_len() {
        return None;
    } else {
        (total_len, 0)
    };
    *seen = Seen {
        slot: ingress.slot,
        total_len,
        longest,
        more,
    };
    Some(Shown {
        src: h.src.swap_bytes(),
        dst: h.dst.swap_bytes(),
        is_validated: ingress.is_validated,
    })
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

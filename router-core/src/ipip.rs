//! IPIP tunnels (RFC 2003, dataplane section 3): outer headers, congestion marks, and what routers inside a tunnel report.
//!
//! Decides how an outer header looks, what its ECN field does to the inner packet (RFC 6040, with Linux's choices),
//! which MTU is known on the way to another end ([`PathMtus`]), and what an ICMP error about an outer packet means for the
//! sender of the inner one. Routing, resolving and sending, and where packets re-enter, are `router/tunnel.rs`'s.
//!
//! Deviation from Linux, whose tunl0 does no path MTU discovery and never recovers (calico#7146): the MTU that a router on
//! the way reports is remembered for 10 minutes and told to the senders of packets that must not be cut (IPIP-30), and
//! other errors are passed on (IPIP-31).
//!
//! Cost: one header of 20 bytes written for each packet; the table of MTUs is asked for packets with DF only.

use alloc::boxed::Box;
use core::net::Ipv4Addr;
use core::time::Duration;

use crate::config::{Ipip, TunnelEcn};
use crate::icmp_error::IcmpError;
use crate::random;
use crate::time::Instant;
use crate::wire::icmpv4::{self, Icmpv4};
use crate::wire::ipv4::{HEADER_LEN, Ipv4, PROTOCOL_ICMP, PROTOCOL_IPIP, Repr};

/// Bytes that a tunnel takes from the MTU of its way.
pub(crate) const OVERHEAD: u16 = 20;
/// RFC 791: no smaller MTU is ever told to anybody (FWD-77).
const MIN_MTU: u16 = 68;
/// RFC 1191 6.3: how long a reduced MTU is believed.
const MTU_LIFETIME: Duration = Duration::from_secs(600);
/// MTUs to try when a router does not say its own (RFC 1191 7.1).
const PLATEAUS: [u16; 5] = [1492, 1006, 508, 296, 68];

const ECN: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

/// The header in front of `inner`: DSCP 0 (IPIP-6), DF and, unless it is fixed, TTL of the inner packet (IPIP-4, IPIP-7).
pub(crate) fn outer_header(
    tunnel: Ipip,
    inner: &Ipv4<'_>,
    src: Ipv4Addr,
    dst: Ipv4Addr,
    ident: u16,
) -> [u8; HEADER_LEN] {
    Repr {
        tos: encap_ecn(tunnel.ecn, inner.tos() & ECN),
        payload_len: inner.total_len(),
        ident,
        dont_fragment: inner.dont_fragment(),
        ttl: tunnel.outer_ttl.unwrap_or_else(|| inner.ttl()),
        protocol: PROTOCOL_IPIP,
        src,
        dst,
    }
    .emit()
}

/// ECN field of the outer header (ECN-1, ECN-2).
const fn encap_ecn(mode: TunnelEcn, inner: u8) -> u8 {
    match (mode, inner) {
        (TunnelEcn::Linux, CE) => ECT_0,
        (_, inner) => inner,
    }
}

/// What the outer header's ECN field does to the inner packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Nothing.
    Keep,
    /// Nothing, but it should not have been there.
    Odd,
    /// The inner type of service becomes this.
    Set(u8),
    /// Congestion that the inner packet cannot tell its receiver.
    Drop,
}

/// ECN at the end of a tunnel (ECN-3, ECN-4): DSCP of the inner packet stays (ECN-5).
pub(crate) const fn decap_ecn(mode: TunnelEcn, outer_tos: u8, inner_tos: u8) -> Mark {
    match (outer_tos & ECN, inner_tos & ECN) {
        (CE, NOT_ECT) => Mark::Drop,
        (ECT_0 | ECT_1, NOT_ECT) => Mark::Odd,
        (CE, ECT_0 | ECT_1) => Mark::Set(inner_tos | CE),
        (ECT_1, ECT_0) => match mode {
            TunnelEcn::Linux => Mark::Keep,
            TunnelEcn::Rfc6040 => Mark::Set(inner_tos & !ECN | ECT_1),
        },
        _ => Mark::Keep,
    }
}

/// The inner packet of an outer one, as far as it is there; none of a later fragment.
pub(crate) fn inner(outer: &[u8]) -> Option<&[u8]> {
    Ipv4::peek(outer)
        .filter(|ip| ip.protocol() == PROTOCOL_IPIP && ip.fragment_offset() == 0)
        .map(|ip| ip.payload())
}

/// An ICMP error about an outer packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report<'a> {
    kind: u8,
    code: u8,
    rest: [u8; 4],
    /// The header that is quoted.
    pub(crate) outer: Ipv4<'a>,
}

impl<'a> Report<'a> {
    /// Reads the packet `ip`; none when it is no ICMP error about an IPIP packet, or broken.
    pub(crate) fn parse(ip: &Ipv4<'a>) -> Option<Self> {
        if ip.protocol() != PROTOCOL_ICMP
            || !ip
                .payload()
                .first()
                .is_some_and(|&kind| icmpv4::may_be_error(kind))
        {
            return None;
        }
        let message = Icmpv4::parse(ip.payload())?;
        let outer = Ipv4::peek(message.payload()).filter(|o| o.protocol() == PROTOCOL_IPIP)?;
        Some(Self {
            kind: message.kind(),
            code: message.code(),
            rest: message.rest_of_header(),
            outer,
        })
    }

    /// The MTU that inner packets have on the way, if that is what the error tells (IPIP-30): 20 less than what the link
    /// carries. What is below 68 or would not have been too small is no honest answer; 0 is an old router's (FWD-77).
    pub(crate) fn inner_mtu(&self) -> Option<u16> {
        if (self.kind, self.code) != (icmpv4::DEST_UNREACHABLE, 4) {
            return None;
        }
        let len = self.outer.total_len();
        let [_, _, high, low] = self.rest;
        let link = match u16::from_be_bytes([high, low]) {
            0 => *PLATEAUS.iter().find(|&&plateau| plateau < len)?,
            mtu if mtu < MIN_MTU || mtu >= len => return None,
            mtu => mtu,
        };
        Some((link - OVERHEAD).max(MIN_MTU))
    }

    /// The inner packet, if its header and 8 bytes of what follows are quoted (IPIP-31, IPIP-32).
    pub(crate) fn inner(&self) -> Option<&'a [u8]> {
        let bytes = inner_of(&self.outer)?;
        let ip = Ipv4::peek(bytes)?;
        (bytes.first()? >> 4 == 4 && bytes.len() >= ip.header_len() + 8).then_some(bytes)
    }

    /// What the sender of the inner packet is told (RFC 2003 4); none when it is not its business.
    pub(crate) fn relayed(&self) -> Option<IcmpError> {
        match (self.kind, self.code) {
            (icmpv4::DEST_UNREACHABLE, 0) => Some(IcmpError::NetUnreachable),
            (icmpv4::DEST_UNREACHABLE, 1..=3) | (icmpv4::TIME_EXCEEDED, 0) => {
                Some(IcmpError::HostUnreachable)
            }
            (icmpv4::DEST_UNREACHABLE, 4) => self
                .inner_mtu()
                .map(|mtu| IcmpError::FragmentationNeeded { mtu }),
            _ => None,
        }
    }
}

fn inner_of<'a>(outer: &Ipv4<'a>) -> Option<&'a [u8]> {
    (outer.fragment_offset() == 0).then_some(outer.payload())
}

const SETS: usize = 64;
const WAYS: usize = 4;

/// MTUs of inner packets on the way to other ends of the tunnel, as routers told them: 256 ends at once, the one that
/// expires first makes room.
#[derive(Debug)]
pub(crate) struct PathMtus {
    seed: u64,
    known: Box<[[PathMtu; WAYS]; SETS]>,
}

#[derive(Clone, Copy, Debug)]
struct PathMtu {
    end: Ipv4Addr,
    mtu: u16,
    until: Instant,
}

impl PathMtus {
    pub(crate) fn new(seed: u64) -> Self {
        let nothing = PathMtu {
            end: Ipv4Addr::UNSPECIFIED,
            mtu: 0,
            until: Instant::ZERO,
        };
        Self {
            seed,
            known: Box::new([[nothing; WAYS]; SETS]),
        }
    }

    fn set(&self, end: Ipv4Addr) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the remainder is below SETS"
        )]
        let set = (random::hash(self.seed, 0, end) % SETS as u64) as usize;
        set
    }

    /// The MTU that is known toward `end`.
    pub(crate) fn get(&self, now: Instant, end: Ipv4Addr) -> Option<u16> {
        let set = &self.known[self.set(end)];
        set.iter()
            .find(|known| known.end == end && known.until > now)
            .map(|known| known.mtu)
    }

    /// Remembers an MTU for 10 minutes. One that is known and smaller stays as it is.
    pub(crate) fn learn(&mut self, now: Instant, end: Ipv4Addr, mtu: u16) {
        if self.get(now, end).is_some_and(|known| known < mtu) {
            return;
        }
        let set = self.set(end);
        let set = &mut self.known[set];
        let way = set.iter().position(|known| known.end == end).or_else(|| {
            let (way, _) = set
                .iter()
                .enumerate()
                .min_by_key(|(_, known)| known.until)?;
            Some(way)
        });
        if let Some(place) = way.and_then(|way| set.get_mut(way)) {
            *place = PathMtu {
                end,
                mtu,
                until: now + MTU_LIFETIME,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ECN-1, ECN-2, ECN-3, ECN-4, ECN-5: every pair of fields under every DSCP, against the tables of RFC 6040.
    #[test]
    fn congestion_marks_follow_the_tables() {
        // Outer down, inner across: Not-ECT, ECT(1), ECT(0), CE; 9 is a drop.
        const LINUX: [[u8; 4]; 4] = [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3], [9, 3, 3, 3]];
        const RFC6040: [[u8; 4]; 4] = [[0, 1, 2, 3], [0, 1, 1, 3], [0, 1, 2, 3], [9, 3, 3, 3]];
        for (mode, table, encap) in [
            (TunnelEcn::Linux, LINUX, [0, 1, 2, 2]),
            (TunnelEcn::Rfc6040, RFC6040, [0, 1, 2, 3]),
        ] {
            for outer in 0..=u8::MAX {
                for inner in 0..=u8::MAX {
                    let (o, i) = (usize::from(outer & 3), usize::from(inner & 3));
                    let got = match decap_ecn(mode, outer, inner) {
                        Mark::Keep | Mark::Odd => inner,
                        Mark::Set(tos) => tos,
                        Mark::Drop => inner & !3 | 9,
                    };
                    assert_eq!(got, inner & !3 | table[o][i], "{outer:02x} {inner:02x}");
                }
                assert_eq!(encap_ecn(mode, outer & 3), encap[usize::from(outer & 3)]);
            }
        }
    }

    /// IPIP-30: for 10 minutes, the smallest told; bounded.
    #[test]
    fn a_path_mtu_is_known_for_ten_minutes() {
        let (a, b) = (Ipv4Addr::new(172, 16, 30, 7), Ipv4Addr::new(172, 16, 30, 6));
        let at = |s| Instant::ZERO + Duration::from_secs(s);
        let mut known = PathMtus::new(1);
        assert_eq!(known.get(at(0), a), None);
        known.learn(at(0), a, 1380);
        known.learn(at(1), a, 1400);
        assert_eq!(
            (known.get(at(599), a), known.get(at(599), b)),
            (Some(1380), None)
        );
        assert_eq!(known.get(at(600), a), None);
        known.learn(at(700), a, 1400);
        known.learn(at(800), a, 1300);
        assert_eq!(known.get(at(1399), a), Some(1300));
        for n in 0..10_000 {
            known.learn(at(800), Ipv4Addr::from_bits(n), 1000);
        }
        let remembered =
            (0..10_000).filter(|&n| known.get(at(800), Ipv4Addr::from_bits(n)).is_some());
        assert!(remembered.count() <= SETS * WAYS);
    }
}

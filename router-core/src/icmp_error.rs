//! ICMP errors: which, about what, how often, and how they look (dataplane section 1.8).
//!
//! Decides whether an error may be sent about a packet at all ([`permitted`]) and whether now ([`Limiter`]), and builds
//! its ICMP part. From which address it comes and where it goes is the router's.
//!
//! Cost: nothing on the way of packets that are not refused. The limiter's tables are of fixed size.

use alloc::boxed::Box;
use core::net::Ipv4Addr;
use core::time::Duration;

use crate::martian;
use crate::random;
use crate::stats::DropReason;
use crate::time::Instant;
use crate::wire::icmpv4;
use crate::wire::ipv4::{Ipv4, PROTOCOL_ICMP};

/// Longest error, bytes of IP packet (RFC 1812 4.3.2.3).
const MAX_ERROR: usize = 576;
/// Most bytes quoted: what remains behind 20 bytes of IP and 8 of ICMP header.
pub(crate) const MAX_QUOTE: usize = MAX_ERROR - 20 - icmpv4::HEADER_LEN;

/// An error about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IcmpError {
    /// 3/0
    NetUnreachable,
    /// 3/1
    HostUnreachable,
    /// 3/1, because a route says so.
    RouteUnreachable,
    /// 3/2
    ProtocolUnreachable,
    /// 3/3
    PortUnreachable,
    /// 3/4
    FragmentationNeeded { mtu: u16 },
    /// 3/13
    Prohibited,
    /// 11/0
    TimeExceeded,
    /// 11/1
    ReassemblyTimeExceeded,
    /// 12/0; the pointer counts octets from the start of the IP header.
    ParameterProblem { pointer: u8 },
}

impl IcmpError {
    /// Type, code and bytes 4 to 7.
    pub(crate) const fn header(self) -> (u8, u8, [u8; 4]) {
        match self {
            Self::NetUnreachable => (icmpv4::DEST_UNREACHABLE, 0, [0; 4]),
            Self::HostUnreachable | Self::RouteUnreachable => (icmpv4::DEST_UNREACHABLE, 1, [0; 4]),
            Self::ProtocolUnreachable => (icmpv4::DEST_UNREACHABLE, 2, [0; 4]),
            Self::PortUnreachable => (icmpv4::DEST_UNREACHABLE, 3, [0; 4]),
            Self::FragmentationNeeded { mtu } => {
                let [a, b] = mtu.to_be_bytes();
                (icmpv4::DEST_UNREACHABLE, 4, [0, 0, a, b])
            }
            Self::Prohibited => (icmpv4::DEST_UNREACHABLE, 13, [0; 4]),
            Self::TimeExceeded => (icmpv4::TIME_EXCEEDED, 0, [0; 4]),
            Self::ReassemblyTimeExceeded => (icmpv4::TIME_EXCEEDED, 1, [0; 4]),
            Self::ParameterProblem { pointer } => {
                (icmpv4::PARAMETER_PROBLEM, 0, [pointer, 0, 0, 0])
            }
        }
    }
}

/// A packet that goes no further, and the error that tells its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: DropReason,
    pub(crate) error: Option<IcmpError>,
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Self {
        Self {
            reason,
            error: None,
        }
    }
}

impl Refusal {
    pub(crate) const fn with(reason: DropReason, error: IcmpError) -> Self {
        Self {
            reason,
            error: Some(error),
        }
    }
}

/// True when an error may be sent about `ip`, as far as the packet itself tells (ICMP-1): it is neither an ICMP error
/// nor of an unknown ICMP type, is a first fragment, has a unicast destination and a source that a host can have.
pub(crate) fn permitted(ip: &Ipv4<'_>) -> bool {
    let dst = ip.dst();
    ip.fragment_offset() == 0
        && martian::is_host(ip.src())
        && !dst.is_multicast()
        && !dst.is_broadcast()
        && (ip.protocol() != PROTOCOL_ICMP
            || ip
                .payload()
                .first()
                .is_some_and(|&kind| !icmpv4::may_be_error(kind)))
}

/// Type of service of an error about a packet with `tos`: its DSCP raised to internetwork control, no ECN (ICMP-6).
pub(crate) const fn tos(tos: u8) -> u8 {
    tos & !0b11 | 0xc0
}

/// Rate limits (ICMP-9, RT-3): per destination one error a second with a burst of 6, for route errors a burst of 5 on top,
/// and 1000 a second with a burst of 50 over all. Fragmentation needed is never limited: path MTU discovery hangs on it.
#[derive(Debug)]
pub(crate) struct Limiter {
    seed: u64,
    all: Bucket,
    errors: Box<[[Cell; WAYS]; SETS]>,
    route_errors: Box<[[Cell; WAYS]; SETS]>,
}

/// Destinations whose buckets are remembered at once: 512. The longest unused makes room, which at worst gives a
/// destination its burst anew; the limit over all holds in any case.
const SETS: usize = 128;
const WAYS: usize = 4;

const PER_DESTINATION: Duration = Duration::from_secs(1);
const PER_DESTINATION_BURST: u32 = 6;
const ROUTE_ERROR_BURST: u32 = 5;
const OVER_ALL: Duration = Duration::from_millis(1);
const OVER_ALL_BURST: u32 = 50;

#[derive(Clone, Copy, Debug)]
struct Cell {
    dst: Ipv4Addr,
    bucket: Bucket,
}

/// A token bucket as the time at which it will be full again (generic cell rate algorithm).
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    full_at: Instant,
}

impl Bucket {
    const fn has_token(self, now: Instant, interval: Duration, burst: u32) -> bool {
        // Missing tokens plus the one asked for fit the bucket.
        self.full_at.since(now).as_nanos() + interval.as_nanos()
            <= interval.as_nanos() * burst as u128
    }

    fn take(&mut self, now: Instant, interval: Duration) {
        self.full_at = self.full_at.max(now) + interval;
    }
}

const EMPTY: Cell = Cell {
    dst: Ipv4Addr::UNSPECIFIED,
    bucket: Bucket {
        full_at: Instant::ZERO,
    },
};

impl Limiter {
    pub(crate) fn new(seed: u64) -> Self {
        let table = || Box::new([[EMPTY; WAYS]; SETS]);
        Self {
            seed,
            all: Bucket::default(),
            errors: table(),
            route_errors: table(),
        }
    }

    /// True when `error` may be sent to `dst` now; takes the tokens for it then.
    pub(crate) fn admit(&mut self, now: Instant, error: IcmpError, dst: Ipv4Addr) -> bool {
        if matches!(error, IcmpError::FragmentationNeeded { .. }) {
            return true;
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the remainder is below SETS"
        )]
        let set = (random::hash(self.seed, 0, dst) % SETS as u64) as usize;
        let of_route = matches!(
            error,
            IcmpError::NetUnreachable | IcmpError::RouteUnreachable | IcmpError::Prohibited
        );
        let bucket = cell(&mut self.errors[set], dst);
        let route_bucket = of_route.then(|| cell(&mut self.route_errors[set], dst));
        if !self.all.has_token(now, OVER_ALL, OVER_ALL_BURST)
            || !bucket.has_token(now, PER_DESTINATION, PER_DESTINATION_BURST)
            || route_bucket
                .as_ref()
                .is_some_and(|b| !b.has_token(now, PER_DESTINATION, ROUTE_ERROR_BURST))
        {
            return false;
        }
        self.all.take(now, OVER_ALL);
        bucket.take(now, PER_DESTINATION);
        if let Some(bucket) = route_bucket {
            bucket.take(now, PER_DESTINATION);
        }
        true
    }
}

/// The bucket of `dst` in its set, a full one in place of the longest unused if it has none.
fn cell(set: &mut [Cell; WAYS], dst: Ipv4Addr) -> &mut Bucket {
    let way = set.iter().position(|c| c.dst == dst).unwrap_or_else(|| {
        let oldest = (0..WAYS)
            .min_by_key(|&way| set[way].bucket.full_at)
            .unwrap_or(0);
        set[oldest] = Cell { dst, ..EMPTY };
        oldest
    });
    &mut set[way].bucket
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
    const B: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 3);

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    fn admitted(limiter: &mut Limiter, now: Instant, error: IcmpError, dst: Ipv4Addr) -> usize {
        (0..100).filter(|_| limiter.admit(now, error, dst)).count()
    }

    /// ICMP-9.
    #[test]
    fn a_destination_gets_six_at_once_and_then_one_a_second() {
        let mut limiter = Limiter::new(1);
        let e = IcmpError::TimeExceeded;
        assert_eq!(admitted(&mut limiter, at(0), e, A), 6);
        assert_eq!(admitted(&mut limiter, at(999), e, A), 0);
        assert_eq!(admitted(&mut limiter, at(1000), e, A), 1);
        assert_eq!(admitted(&mut limiter, at(1000), e, B), 6);
        assert_eq!(admitted(&mut limiter, at(60_000), e, A), 6);
    }

    /// RT-3.
    #[test]
    fn route_errors_have_a_burst_of_five() {
        let mut limiter = Limiter::new(1);
        assert_eq!(
            admitted(&mut limiter, at(0), IcmpError::NetUnreachable, A),
            5
        );
        assert_eq!(admitted(&mut limiter, at(0), IcmpError::TimeExceeded, A), 1);
    }

    /// ICMP-9.
    #[test]
    fn all_destinations_share_fifty_at_once() {
        let mut limiter = Limiter::new(1);
        let mut spray = |now| {
            (0..200_u32)
                .filter(|&n| {
                    limiter.admit(now, IcmpError::TimeExceeded, Ipv4Addr::from_bits(n + 1))
                })
                .count()
        };
        assert_eq!(spray(at(0)), 50);
        assert_eq!(spray(at(10)), 10);
    }

    /// ICMP-9: each of many destinations, more than there are sets, has tokens of its own.
    #[test]
    fn destinations_do_not_take_each_others_tokens() {
        let mut limiter = Limiter::new(1);
        for n in 0..200_u32 {
            let (now, dst) = (at(u64::from(n) * 10), Ipv4Addr::from_bits(n + 1));
            let admitted = (0..7).filter(|_| limiter.admit(now, IcmpError::TimeExceeded, dst));
            assert_eq!(admitted.count(), 6, "{dst}");
        }
    }

    /// ICMP-9: 3/4 is exempt.
    #[test]
    fn fragmentation_needed_is_never_limited() {
        let mut limiter = Limiter::new(1);
        let e = IcmpError::FragmentationNeeded { mtu: 1400 };
        assert_eq!(admitted(&mut limiter, at(0), e, A), 100);
    }

    /// ICMP-6.
    #[test]
    fn errors_have_internetwork_control_precedence_and_no_ecn() {
        assert_eq!(tos(0), 0xc0);
        assert_eq!(tos(0x2f), 0xec);
        assert_eq!(tos(0xe3), 0xe0);
    }
}

//! Which source a translated connection gets (NAT-11 to NAT-13, NAT-15 to NAT-20).
//!
//! In this order, as Linux: the translation that other connections from the same source have, if it is free toward this
//! destination; the source port as it is; another one of its class. Free is what leads to a reply tuple that no
//! connection has, so that one port may serve many connections to different destinations.
//!
//! Cost: a look-up for each port that is tried. They are tried from a random one on, 128 in a row, then from another 64,
//! 32 and 16: a range that is all taken costs 240 look-ups and no more.

use core::net::Ipv4Addr;

use crate::config::nat::PortChoice;
use crate::conntrack::{Conntrack, Tuple, mapped_by_port};
use crate::random::Rng;
use crate::time::Instant;
use crate::wire::ipv4::PROTOCOL_ICMP;

/// Ports tried in a row at first.
const ATTEMPTS: u32 = 128;
/// Fewer in a row than this are not tried.
const LEAST_ATTEMPTS: u32 = 16;

/// The packets of `current` with a source at `addr` whose reply tuple is free; none when there is no such.
pub(super) fn source(
    conntrack: &mut Conntrack,
    rng: &mut Rng,
    now: Instant,
    current: &Tuple,
    addr: Ipv4Addr,
    choice: PortChoice,
) -> Option<Tuple> {
    let moved = Tuple {
        src: addr,
        ..*current
    };
    let mut free = |tuple: &Tuple| !conntrack.taken(now, &tuple.invert());
    if !choice.random_fully {
        let fits = |port: u16| {
            choice
                .range
                .is_none_or(|(first, last)| (first..=last).contains(&port))
        };
        if addr == current.src && fits(current.sport) && free(current) {
            return Some(*current);
        }
    }
    if !choice.random_fully && addr != current.src {
        let known = [conntrack.hint().copied(), conntrack.sibling(current)];
        let known = known.map(|reply| reply.filter(|r| r.dst == addr).map(|r| r.invert()));
        for mapped in known.into_iter().flatten() {
            let reused = Tuple {
                sport: mapped.sport,
                ..moved
            };
            if in_range(choice, reused.sport) && !conntrack.taken(now, &reused.invert()) {
                return Some(reused);
            }
        }
    }
    let mut free = |tuple: &Tuple| !conntrack.taken(now, &tuple.invert());
    if !choice.random_fully && in_range(choice, moved.sport) && free(&moved) {
        return Some(moved);
    }
    if !mapped_by_port(current.protocol) {
        return free(&moved).then_some(moved);
    }
    let (first, last) = choice
        .range
        .unwrap_or_else(|| class(current.protocol, current.sport));
    let size = u32::from(last.saturating_sub(first)) + 1;
    let mut attempts = size.min(ATTEMPTS);
    loop {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the low half of a random number"
        )]
        let offset = rng.next() as u32 % size;
        for n in 0..attempts {
            let step = u16::try_from((offset + n) % size).unwrap_or(0);
            let tried = Tuple {
                sport: first.saturating_add(step),
                ..moved
            };
            if free(&tried) {
                return Some(tried);
            }
        }
        if attempts >= size || attempts / 2 < LEAST_ATTEMPTS {
            return None;
        }
        attempts /= 2;
    }
}

fn in_range(choice: PortChoice, port: u16) -> bool {
    choice
        .range
        .is_none_or(|(first, last)| (first..=last).contains(&port))
}

/// The ports that may stand in for this one: a server that trusts low ports shall not be deceived (NAT-12).
const fn class(protocol: u8, port: u16) -> (u16, u16) {
    match port {
        _ if protocol == PROTOCOL_ICMP => (0, u16::MAX),
        0..512 => (1, 511),
        512..1024 => (600, 1023),
        _ => (1024, u16::MAX),
    }
}

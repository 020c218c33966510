//! IPv4 options (dataplane section 1.4).
//!
//! [`check`] decides, before routing, whether a packet may go on: source routing never may (FWD-30), and a malformed
//! option is answered with a parameter problem (FWD-34). [`record`] fills record route and timestamp options of a packet
//! that is forwarded (FWD-31, FWD-32). Everything else passes untouched (FWD-33), but for bytes behind the end of options,
//! which become zero.
//!
//! The router has no clock of the day: its timestamps are milliseconds of its own time with the high bit set, which
//! RFC 791 provides for that.
//!
//! Cost: nothing without options; a walk over at most 40 bytes with them.

use core::net::Ipv4Addr;

use crate::icmp_error::{IcmpError, Refusal};
use crate::stats::DropReason;
use crate::time::Instant;
use crate::wire::ipv4::HEADER_LEN;

const END: u8 = 0;
const NOP: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const TIMESTAMP: u8 = 68;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;
/// Bit of the kind: the option goes into every fragment.
const COPIED: u8 = 0x80;

/// Cuts the first option off `rest`: its range within `options`. Err holds the offset of one with an impossible length.
struct Walk {
    at: usize,
}

impl Walk {
    const fn new() -> Self {
        Self { at: 0 }
    }

    /// The next option other than padding as (offset, length), none at the end.
    fn next(&mut self, options: &[u8]) -> Option<Result<(usize, usize), usize>> {
        loop {
            let at = self.at;
            match *options.get(at..)? {
                [] | [END, ..] => return None,
                [NOP, ..] => self.at += 1,
                [_, len, ..] if len >= 2 && at + usize::from(len) <= options.len() => {
                    self.at += usize::from(len);
                    return Some(Ok((at, usize::from(len))));
                }
                _ => {
                    self.at = options.len();
                    return Some(Err(at));
                }
            }
        }
    }
}

/// Decides whether a packet with these option bytes may go on.
pub(crate) fn check(options: &[u8]) -> Result<(), Refusal> {
    let mut walk = Walk::new();
    while let Some(option) = walk.next(options) {
        let (at, len) = option.map_err(bad_at)?;
        let fault = match *options.get(at..at + len).unwrap_or_default() {
            [LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE, ..] => {
                return Err(DropReason::SourceRouted.into());
            }
            [RECORD_ROUTE, _] | [TIMESTAMP, _] | [TIMESTAMP, _, _] => Some(1),
            [RECORD_ROUTE, _, ptr, ..] if ptr < 4 => Some(2),
            // A slot that has begun but does not fit.
            [RECORD_ROUTE, _, ptr, ..] if begun_but_short(ptr, len, 4) => Some(2),
            [TIMESTAMP, _, ptr, ..] if ptr < 5 => Some(2),
            [TIMESTAMP, _, ptr, flags, ..] if begun_but_short(ptr, len, slot_len(flags)) => Some(2),
            [TIMESTAMP, _, ptr, flags, ..] if usize::from(ptr) > len && flags >> 4 == 15 => Some(3),
            _ => None,
        };
        if let Some(octet) = fault {
            return Err(bad_at(at + octet));
        }
    }
    Ok(())
}

/// True when `ptr` points into an option of `len` bytes, but a slot of `slot` bytes does not fit there.
fn begun_but_short(ptr: u8, len: usize, slot: usize) -> bool {
    let ptr = usize::from(ptr);
    ptr <= len && ptr - 1 + slot > len
}

/// Bytes of one slot of a timestamp option: timestamp alone, or address and timestamp.
const fn slot_len(flags: u8) -> usize {
    if flags & 0xf == 0 { 4 } else { 8 }
}

fn bad_at(offset: usize) -> Refusal {
    // Options end at octet 60 of the header.
    let pointer = u8::try_from(HEADER_LEN + offset).unwrap_or(u8::MAX);
    Refusal {
        reason: DropReason::BadOption,
        error: Some(IcmpError::ParameterProblem { pointer }),
    }
}

/// Writes the router into record route and timestamp options that [`check`] let pass. `options` are the option bytes
/// of the header; true when they changed, so that the header checksum must be renewed.
pub(crate) fn record(
    options: &mut [u8],
    egress: Ipv4Addr,
    now: Instant,
    is_local: impl Fn(Ipv4Addr) -> bool,
) -> bool {
    let mut changed = false;
    let mut walk = Walk::new();
    while let Some(Ok((at, len))) = walk.next(options) {
        let Some(option) = options.get_mut(at..at + len) else {
            break;
        };
        changed |= match option.first() {
            Some(&RECORD_ROUTE) => record_route(option, egress),
            Some(&TIMESTAMP) => record_time(option, egress, timestamp(now), &is_local),
            _ => false,
        };
    }
    changed | blank_after_end(options)
}

/// Zeroes what stands behind the end of options, as Linux does; true when something stood there.
fn blank_after_end(options: &mut [u8]) -> bool {
    let mut walk = Walk::new();
    while let Some(Ok(_)) = walk.next(options) {}
    let rest = options.get_mut(walk.at..).unwrap_or_default();
    let stood = rest.iter().any(|&b| b != END);
    rest.fill(END);
    stood
}

/// Milliseconds of the router's own time, marked as no time of day.
pub(crate) fn timestamp(now: Instant) -> [u8; 4] {
    let ms = (now.as_nanos() / 1_000_000) & 0x7fff_ffff;
    (u32::try_from(ms).unwrap_or(0) | 0x8000_0000).to_be_bytes()
}

fn record_route(option: &mut [u8], egress: Ipv4Addr) -> bool {
    let [_, _, ptr, ..] = *option else {
        return false;
    };
    match slot_mut::<4>(option, ptr) {
        Some(slot) => {
            *slot = egress.octets();
            option[2] = ptr + 4;
            true
        }
        None => false,
    }
}

fn record_time(
    option: &mut [u8],
    egress: Ipv4Addr,
    time: [u8; 4],
    is_local: impl Fn(Ipv4Addr) -> bool,
) -> bool {
    let [_, len, ptr, flags, ..] = *option else {
        return false;
    };
    if ptr > len {
        // No room: one more router that could not sign. `check` refused the overflow of this count.
        option[3] = flags.wrapping_add(0x10);
        return true;
    }
    let [t0, t1, t2, t3] = time;
    let signed = match flags & 0xf {
        0 => slot_mut::<4>(option, ptr).map(|slot| {
            *slot = time;
            4
        }),
        kind => slot_mut::<8>(option, ptr).and_then(|slot| {
            let [a, b, c, d, ..] = *slot;
            let [a, b, c, d] = match kind {
                1 => egress.octets(),
                // Addresses are given by the sender: only the one named next signs.
                3 if is_local(Ipv4Addr::new(a, b, c, d)) => [a, b, c, d],
                _ => return None,
            };
            *slot = [a, b, c, d, t0, t1, t2, t3];
            Some(8)
        }),
    };
    match signed {
        Some(n) => {
            option[2] = ptr + n;
            true
        }
        None => false,
    }
}

/// The `N` bytes to which a pointer (counted from 1) points, if they are within the option.
fn slot_mut<const N: usize>(option: &mut [u8], ptr: u8) -> Option<&mut [u8; N]> {
    option
        .get_mut(usize::from(ptr).checked_sub(1)?..)?
        .first_chunk_mut()
}

/// Turns options that belong into the first fragment only into padding (FWD-35).
pub(crate) fn blank_uncopied(options: &mut [u8]) {
    let mut walk = Walk::new();
    while let Some(Ok((at, len))) = walk.next(options) {
        if let Some(option) = options.get_mut(at..at + len)
            && option.first().is_some_and(|kind| kind & COPIED == 0)
        {
            option.fill(NOP);
        }
    }
}

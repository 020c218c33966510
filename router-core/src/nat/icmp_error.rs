//! ICMP errors about translated connections, in both directions (NAT-51 to NAT-56).
//!
//! An error travels against the packet that it quotes. Whoever gets it must find in the quote what it sent itself: so the
//! quoted packet becomes the other direction's tuple, and the error goes to that one's source. As any packet of the
//! connection it is done in two steps, the destination before the route is looked up and the source after that.
//!
//! Cost: the error's checksum is made anew.

use super::rewrite::{self, End, Form};
use crate::conntrack::{Connection, Dir, has_ports};
use crate::wire::checksum::Sum;
use crate::wire::icmpv4::{self, REDIRECT};

/// Translates one end of the error in `packet`, which belongs to `conn` and travels in direction `dir`; of what it quotes
/// the opposite end. False, and no change, when it must not pass: a redirect about a connection that is translated.
pub(super) fn translate(packet: &mut [u8], conn: &Connection, dir: Dir, end: End) -> bool {
    let seen = conn.tuple(dir);
    let target = conn.target(dir);
    let (moved, translated) = match end {
        End::Src => (seen.src != target.src, seen.sport != target.sport),
        End::Dst => (seen.dst != target.dst, seen.dport != target.dport),
    };
    // An identifier is of neither end: one of the two steps changes it.
    let translated = if has_ports(seen.protocol) {
        moved || translated
    } else {
        moved || (end == End::Dst && seen.sport != target.sport)
    };
    let header_len = packet.first().map_or(0, |b| usize::from(b & 0xf) * 4);
    let is_redirect = packet.get(header_len) == Some(&REDIRECT);
    if is_redirect && seen != target {
        return false;
    }
    if !translated {
        return true;
    }
    // Whatever router on the way sent it is still its source, unless this end is hidden.
    if moved {
        rewrite::set_end(packet, end, &target, Form::Complete);
    }
    let sent = conn.tuple(dir.other());
    let opposite = match end {
        End::Src => End::Dst,
        End::Dst => End::Src,
    };
    let Some(message) = packet.get_mut(header_len..) else {
        return true;
    };
    if let Some(quoted) = message.get_mut(icmpv4::HEADER_LEN..) {
        rewrite::set_end(quoted, opposite, &sent, Form::Complete);
    }
    if let Some(place) = message.get_mut(2..4) {
        place.fill(0);
        let sum = Sum::new().add_bytes(message).finish();
        if let Some(place) = message.get_mut(2..4) {
            place.copy_from_slice(&sum.to_be_bytes());
        }
    }
    true
}

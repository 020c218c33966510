//! Addresses and ports changed in place, with every checksum that covers them (NAT-50, NAT-60 to NAT-62).
//!
//! Checksums are updated incrementally (RFC 1624), so a wrong one stays wrong by the same amount. A UDP checksum of zero
//! is none and stays zero; one that comes out as zero is sent as 0xffff. SCTP's CRC is no sum and is made anew. The field of
//! a partial checksum holds the sum of the pseudo header, not complemented: addresses change it, ports do not.
//!
//! Cost: a few additions; for SCTP a pass over the packet.

use core::mem;
use core::net::Ipv4Addr;

use crate::conntrack::{Connection, Dir, Tuple, has_ports};
use crate::wire::checksum::{Sum, fold};
use crate::wire::ipv4::{
    ADDRESSES_AT, HEADER_LEN, PROTOCOL_AT, PROTOCOL_ICMP, PROTOCOL_SCTP, PROTOCOL_TCP,
    PROTOCOL_UDP, decrement_ttl,
};
use crate::wire::sctp;

/// One end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Src,
    Dst,
}

/// How the checksum of a packet's TCP or UDP header stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// It covers everything.
    #[default]
    Complete,
    /// It covers the pseudo header, and who completes it will add the rest.
    Partial,
}

/// Makes one end of the packet in `packet` (an IPv4 header and what follows, as much as there is) that of `target`, and
/// the identifier of an ICMP query with either end.
pub(crate) fn set_end(packet: &mut [u8], end: End, target: &Tuple, form: Form) {
    let (addr, port) = match end {
        End::Src => (target.src, target.sport),
        End::Dst => (target.dst, target.dport),
    };
    let Some((&mut ref mut header, _)) = packet.split_first_chunk_mut::<HEADER_LEN>() else {
        return;
    };
    let header_len = usize::from(header[0] & 0xf) * 4;
    let protocol = header[9];
    let later_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
    let mut delta = Delta::default();
    let at = match end {
        End::Src => 12,
        End::Dst => 16,
    };
    delta.replace_addr(header, at, addr);
    fix(header, 10, delta);
    if later_fragment {
        return;
    }
    let Some(payload) = packet.get_mut(header_len..) else {
        return;
    };
    if has_ports(protocol) {
        let at = match end {
            End::Src => 0,
            End::Dst => 2,
        };
        let addresses = delta;
        delta.replace(payload, at, port);
        match (protocol, form) {
            (PROTOCOL_TCP, Form::Complete) => fix(payload, 16, delta),
            (PROTOCOL_UDP, Form::Complete) => fix_udp(payload, delta),
            (PROTOCOL_TCP, Form::Partial) => fix_partial(payload, 16, addresses),
            (PROTOCOL_UDP, Form::Partial) => fix_partial(payload, 6, addresses),
            _ => {}
        }
        if protocol == PROTOCOL_SCTP
            && let Some(crc) = sctp::checksum(payload)
            && let Some(place) = payload.get_mut(8..12)
        {
            place.copy_from_slice(&crc);
        }
    } else if protocol == PROTOCOL_ICMP && !is_icmp_error(payload) {
        let mut delta = Delta::default();
        delta.replace(payload, 4, target.sport);
        fix(payload, 2, delta);
    }
}

/// Lowers the TTL by one and translates a whole packet of a connection in this direction. The header was validated and has
/// no options; the transport header was as well.
#[inline]
pub(crate) fn forward(packet: &mut [u8], conn: &Connection, dir: Dir, form: Form) {
    let Some(header) = packet.first_chunk_mut::<HEADER_LEN>() else {
        return;
    };
    if !conn.is_translated() {
        return decrement_ttl(header);
    }
    if matches!(header[PROTOCOL_AT], PROTOCOL_TCP | PROTOCOL_UDP) {
        let (addresses, ports) = conn.target_ends(dir);
        return at_once(packet, addresses, ports, form);
    }
    decrement_ttl(header);
    set_both(packet, &conn.target(dir), form);
}

/// Lowers the TTL of a TCP or UDP packet by one and gives it these addresses and ports.
///
/// As `decrement_ttl` and [`set_both`] do it, with one update of each checksum in place of six: a one's complement sum is
/// the same in whatever order, by whatever parts and in whatever byte order it is added up (RFC 1071 2).
#[inline]
fn at_once(packet: &mut [u8], addresses: [u8; 8], ports: [u8; 4], form: Form) {
    /// What the word with the TTL loses.
    const ONE_HOP: u16 = u16::from_ne_bytes([1, 0]);
    let Some((headers, beyond)) = packet.split_first_chunk_mut::<HEADERS>() else {
        return;
    };
    let [a, b, c, d, e, f, g, h] = addresses;
    // What each word takes from the sum and adds to it; 2^32 = 2^16 = 1 in one's complement arithmetic.
    let src = replace(headers, ADDRESSES_AT, [a, b, c, d]);
    let dst = replace(headers, ADDRESSES_AT + 4, [e, f, g, h]);
    let both_ports = replace(headers, HEADER_LEN, ports);

    headers[8] = headers[8].wrapping_sub(1);
    let of_header = u16::from_ne_bytes([headers[10], headers[11]]);
    let sum = u64::from(!of_header) + u64::from(!ONE_HOP) + src + dst;
    [headers[10], headers[11]] = (!fold(sum)).to_ne_bytes();

    let is_udp = headers[PROTOCOL_AT] == PROTOCOL_UDP;
    let place = if is_udp {
        headers.last_chunk_mut::<2>()
    } else {
        beyond
            .get_mut(TCP_CHECKSUM_AT - HEADERS..)
            .and_then(|rest| rest.first_chunk_mut())
    };
    let Some(place) = place else { return };
    let of_transport = u16::from_ne_bytes(*place);
    if form == Form::Partial {
        *place = fold(u64::from(of_transport) + src + dst).to_ne_bytes();
        return;
    }
    // NAT-61, NAT-62
    if is_udp && of_transport == 0 {
        return;
    }
    let sum = !fold(u64::from(!of_transport) + src + dst + both_ports);
    let sum = if is_udp && sum == 0 { 0xffff } else { sum };
    *place = sum.to_ne_bytes();
}

/// IPv4 and UDP, or as much of TCP.
const HEADERS: usize = HEADER_LEN + 8;
/// Of a packet without options.
const TCP_CHECKSUM_AT: usize = HEADER_LEN + 16;

/// Puts a word in; gives what a sum over it changes by.
#[inline(always)]
fn replace(headers: &mut [u8; HEADERS], at: usize, new: [u8; 4]) -> u64 {
    let Some(place) = headers
        .get_mut(at..)
        .and_then(|rest| rest.first_chunk_mut::<4>())
    else {
        return 0;
    };
    let old = u32::from_ne_bytes(mem::replace(place, new));
    u64::from(!old) + u64::from(u32::from_ne_bytes(new))
}

fn is_icmp_error(payload: &[u8]) -> bool {
    payload
        .first()
        .is_none_or(|&kind| crate::wire::icmpv4::is_error(kind))
}

/// Makes both ends of the packet those of `target`.
pub(crate) fn set_both(packet: &mut [u8], target: &Tuple, form: Form) {
    set_end(packet, End::Src, target, form);
    set_end(packet, End::Dst, target, form);
}

/// What was taken from a sum and added to it.
#[derive(Clone, Copy, Default)]
struct Delta(Sum);

impl Delta {
    /// Replaces a 16-bit word, if it is there.
    fn replace(&mut self, bytes: &mut [u8], at: usize, new: u16) {
        if let Some(word) = bytes.get_mut(at..at + 2) {
            let old = u16::from_be_bytes([word[0], word[1]]);
            word.copy_from_slice(&new.to_be_bytes());
            self.0 = self.0.add_u16(!old).add_u16(new);
        }
    }

    fn replace_addr(&mut self, bytes: &mut [u8], at: usize, new: Ipv4Addr) {
        let [a, b, c, d] = new.octets();
        self.replace(bytes, at, u16::from_be_bytes([a, b]));
        self.replace(bytes, at + 2, u16::from_be_bytes([c, d]));
    }

    fn apply_partial(self, sum: u16) -> u16 {
        self.0.add_u16(sum).fold()
    }

    fn apply(self, checksum: u16) -> u16 {
        self.0.add_u16(!checksum).finish()
    }
}

/// Updates the checksum at `at`, if it is there.
fn fix(bytes: &mut [u8], at: usize, delta: Delta) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        let old = u16::from_be_bytes([place[0], place[1]]);
        place.copy_from_slice(&delta.apply(old).to_be_bytes());
    }
}

/// [`fix`] of a partial checksum. The sum of a pseudo header is never zero, so that no rule is needed for zero.
fn fix_partial(bytes: &mut [u8], at: usize, delta: Delta) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        let old = u16::from_be_bytes([place[0], place[1]]);
        place.copy_from_slice(&delta.apply_partial(old).to_be_bytes());
    }
}

fn fix_udp(datagram: &mut [u8], delta: Delta) {
    if let Some(place) = datagram.get_mut(6..8) {
        let old = u16::from_be_bytes([place[0], place[1]]);
        if old != 0 {
            let new = match delta.apply(old) {
                0 => 0xffff,
                sum => sum,
            };
            place.copy_from_slice(&new.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::addr::Mac;
    use crate::testing::{Packet, echo_request, eth, ipv4, tcp, udp};

    fn tuple(src: u32, dst: u32, sport: u16, dport: u16, protocol: u8) -> Tuple {
        Tuple {
            src: Ipv4Addr::from_bits(src),
            dst: Ipv4Addr::from_bits(dst),
            sport,
            dport,
            protocol,
        }
    }

    fn build(t: &Tuple, data: &[u8]) -> Packet {
        let ip = ipv4(t.src, t.dst);
        match t.protocol {
            6 => ip / tcp(t.sport, t.dport, 0x10) / data.to_vec(),
            17 => ip / udp(t.sport, t.dport) / data.to_vec(),
            _ => ip / echo_request(t.sport, 7) / data.to_vec(),
        }
    }

    proptest! {
        /// NAT-50, NAT-60: a packet that is translated is the packet that its translation would have been built as.
        #[test]
        fn a_rewritten_packet_is_the_packet_built_anew(
            (a, b, c, d) in any::<(u32, u32, u32, u32)>(), (p, q, r, s) in any::<(u16, u16, u16, u16)>(),
            protocol in prop::sample::select(vec![1_u8, 6, 17]),
            data in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let old = tuple(a, b, p, q, protocol);
            let new = tuple(c, d, r, s, protocol);
            let mut bytes = build(&old, &data).bytes();
            set_both(&mut bytes, &new, Form::Complete);
            prop_assert_eq!(&bytes, &build(&new, &data).bytes());
            set_both(&mut bytes, &old, Form::Complete);
            prop_assert_eq!(bytes, build(&old, &data).bytes());
        }

        /// NAT-50: an open checksum is that of the packet's translation; its ports are for who completes it.
        #[test]
        fn an_open_checksum_stays_that_of_the_pseudo_header(
            (a, b, c, d) in any::<(u32, u32, u32, u32)>(), (p, q, r, s) in any::<(u16, u16, u16, u16)>(),
            protocol in prop::sample::select(vec![6_u8, 17]), data in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let old = tuple(a, b, p, q, protocol);
            let new = tuple(c, d, r, s, protocol);
            let open = |t: &Tuple| {
                let link = eth(Mac::ZERO, Mac::ZERO);
                let frame = (link / build(t, &data)).bytes();
                crate::testing::offload::partial(&frame).0
            };
            let mut frame = open(&old);
            set_both(&mut frame[14..], &new, Form::Partial);
            prop_assert_eq!(frame, open(&new));
        }

        /// NAT-60: a checksum that is wrong by some amount stays wrong by it.
        #[test]
        fn a_wrong_checksum_stays_wrong(sum in 1_u16..0xffff, port: u16) {
            let old = tuple(1, 2, 3, 4, 6);
            let new = tuple(5, 2, port, 4, 6);
            let right = build(&old, b"x").bytes();
            let right_sum = u16::from_be_bytes([right[36], right[37]]);
            prop_assume!(sum != right_sum && right_sum != !sum);
            let mut wrong = right.clone();
            wrong[36..38].copy_from_slice(&sum.to_be_bytes());
            set_end(&mut wrong, End::Src, &new, Form::Complete);
            prop_assert_ne!(wrong, build(&new, b"x").bytes());
        }
    }

    proptest! {
        /// What is done at once is what is done step by step, bit for bit, with checksums right and wrong.
        #[test]
        fn a_packet_passed_on_at_once_is_one_passed_on_step_by_step(
            (a, b, c, d) in any::<(u32, u32, u32, u32)>(), (p, q, r, s) in any::<(u16, u16, u16, u16)>(),
            protocol in prop::sample::select(vec![1_u8, 6, 17]),
            data in prop::collection::vec(any::<u8>(), 0..40),
            sums in prop_oneof![
                4 => Just(None),
                1 => any::<(u16, u16)>().prop_map(Some),
                1 => prop::sample::select(vec![(0, 0), (0xffff, 0xffff), (0, 0xffff)]).prop_map(Some),
            ],
            translated in prop::bool::weighted(0.9),
            form in prop::sample::select(vec![Form::Complete, Form::Partial]),
        ) {
            let target = tuple(c, d, r, s, protocol);
            let mut at_once = build(&tuple(a, b, p, q, protocol), &data).bytes();
            if let Some((header, transport)) = sums {
                at_once[10..12].copy_from_slice(&header.to_be_bytes());
                let at = match protocol { 6 => 36, 17 => 26, _ => 22 };
                if let Some(place) = at_once.get_mut(at..at + 2) {
                    place.copy_from_slice(&transport.to_be_bytes());
                }
            }
            let mut stepwise = at_once.clone();
            let was = tuple(a, b, p, q, protocol);
            let reply = if translated { target.invert() } else { was.invert() };
            forward(&mut at_once, &Connection::made_of(&was, &reply), Dir::Original, form);
            decrement_ttl(stepwise.first_chunk_mut().unwrap());
            if translated {
                set_end(&mut stepwise, End::Dst, &target, form);
                set_end(&mut stepwise, End::Src, &target, form);
            }
            prop_assert_eq!(at_once, stepwise);
        }
    }

    /// NAT-61
    #[test]
    fn no_udp_checksum_stays_none() {
        let old = tuple(1, 2, 3, 4, 17);
        let new = tuple(9, 9, 9, 9, 17);
        let mut bytes = (ipv4(old.src, old.dst) / udp(3, 4).checksum(0) / b"x").bytes();
        set_both(&mut bytes, &new, Form::Complete);
        assert_eq!(
            bytes,
            (ipv4(new.src, new.dst) / udp(9, 9).checksum(0) / b"x").bytes()
        );
    }

    /// NAT-62
    #[test]
    fn a_udp_checksum_that_comes_out_as_zero_is_sent_as_all_ones() {
        let old = tuple(1, 2, 3, 4, 17);
        let found = (0..=u16::MAX).any(|port| {
            let mut bytes = build(&old, b"x").bytes();
            set_end(
                &mut bytes,
                End::Src,
                &tuple(1, 2, port, 4, 17),
                Form::Complete,
            );
            assert_ne!(bytes[26..28], [0, 0]);
            bytes[26..28] == [0xff, 0xff]
        });
        assert!(found, "one of all ports leads there");
    }

    #[test]
    fn a_quote_of_eight_octets_is_rewritten_as_far_as_it_goes() {
        let old = tuple(1, 2, 3, 4, 6);
        let new = tuple(9, 9, 8, 7, 6);
        let mut bytes = build(&old, b"").bytes();
        bytes.truncate(28);
        set_both(&mut bytes, &new, Form::Complete);
        assert_eq!(bytes, build(&new, b"").bytes()[..28]);
    }
}

//! IPv4 packets that the router itself makes: header, identification, TTL, and how they are cut to fit their link.
//!
//! Every such packet has TTL 64, DF clear (but for a TCP reset, which is atomic as Linux sends it) and an identification
//! from a counter of its (destination, protocol), so that none is repeated before 65536 others went the same way
//! (FWD-11, RFC 6864 4.3).

use alloc::boxed::Box;
use core::net::Ipv4Addr;

use crate::frame::{Frame, MAX_FRAME};
use crate::random::{self, Rng};
use crate::trace::Mark;
use crate::wire::ethernet;
use crate::wire::ipv4::{self, HEADER_LEN, PROTOCOL_TCP, Repr};

/// Initial TTL (Linux `ip_default_ttl`, RFC 1700).
const TTL: u8 = 64;
/// Counters; destinations that share one only use it up faster.
const COUNTERS: usize = 256;

/// Most bytes behind a header without options.
const MAX_PAYLOAD: usize = 65535 - HEADER_LEN;

/// The fields of a packet that are not the same for all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields {
    pub(crate) tos: u8,
    pub(crate) protocol: u8,
    pub(crate) src: Ipv4Addr,
    pub(crate) dst: Ipv4Addr,
    /// The mark of what it is about.
    pub(crate) mark: Mark,
}

/// Builds packets. See the module.
#[derive(Debug)]
pub(crate) struct Originator {
    seed: u64,
    idents: Box<[u16; COUNTERS]>,
}

impl Originator {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut idents = Box::new([0; COUNTERS]);
        for ident in idents.iter_mut() {
            let [a, b, ..] = rng.next().to_le_bytes();
            *ident = u16::from_le_bytes([a, b]);
        }
        Self {
            seed: rng.next(),
            idents,
        }
    }

    /// A datagram with a fresh identification. Its payload is `parts`, one behind the other; what is beyond 65515 bytes
    /// is left out.
    pub(crate) fn datagram<'a>(&mut self, fields: Fields, parts: [&'a [u8]; 2]) -> Datagram<'a> {
        let header = Repr {
            tos: fields.tos,
            payload_len: 0,
            ident: self.ident(fields.protocol, fields.dst),
            dont_fragment: fields.protocol == PROTOCOL_TCP,
            ttl: TTL,
            protocol: fields.protocol,
            src: fields.src,
            dst: fields.dst,
        };
        let [first, second] = parts;
        let second = second
            .get(..MAX_PAYLOAD.saturating_sub(first.len()))
            .unwrap_or(second);
        Datagram {
            header,
            parts: [first, second],
        }
    }

    /// An identification that was not used lately toward `dst` for this protocol.
    pub(crate) fn ident(&mut self, protocol: u8, dst: Ipv4Addr) -> u16 {
        self.idents(protocol, dst, 1)
    }

    /// The first of `n` of them, one after the other: for a packet that will be cut into so many.
    pub(crate) fn idents(&mut self, protocol: u8, dst: Ipv4Addr, n: usize) -> u16 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the remainder is below COUNTERS"
        )]
        let at = (random::hash(self.seed, u16::from(protocol), dst) % COUNTERS as u64) as usize;
        let ident = &mut self.idents[at];
        let first = ident.wrapping_add(1);
        #[expect(clippy::cast_possible_truncation, reason = "they wrap")]
        let last = ident.wrapping_add(n as u16);
        *ident = last;
        first
    }
}

/// A packet of the router's own before it is cut to what its link carries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram<'a> {
    header: Repr,
    parts: [&'a [u8]; 2],
}

impl Datagram<'_> {
    fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }

    /// Payload bytes of each piece but the last, a multiple of 8; all when nothing has to be cut.
    fn step(&self, mtu: u16) -> usize {
        let room = usize::from(mtu).min(MAX_FRAME - ethernet::HEADER_LEN) - HEADER_LEN;
        if self.len() <= room { room } else { room & !7 }
    }

    /// The number of packets that it takes on a link with this MTU, which is at least 68.
    pub(crate) fn pieces(&self, mtu: u16) -> usize {
        self.len().div_ceil(self.step(mtu)).max(1)
    }

    /// Fills `frame` with piece `n`, behind room for an Ethernet header. False when there is no such piece.
    pub(crate) fn piece(&self, n: usize, mtu: u16, frame: &mut Frame) -> bool {
        let step = self.step(mtu);
        let (start, end) = (n * step, ((n + 1) * step).min(self.len()));
        let [first, second] = self.parts;
        let within = |part: &[u8], offset: usize| {
            let from = start.saturating_sub(offset).min(part.len());
            from..end.saturating_sub(offset).clamp(from, part.len())
        };
        let payload = [
            &first[within(first, 0)],
            &second[within(second, first.len())],
        ];
        let len = payload.iter().map(|part| part.len()).sum::<usize>();
        let (Ok(payload_len), Ok(offset)) = (u16::try_from(len), u16::try_from(start / 8)) else {
            return false;
        };
        let mut header = Repr {
            payload_len,
            ..self.header
        }
        .emit();
        if self.pieces(mtu) > 1 {
            let total_len = payload_len.saturating_add(20);
            ipv4::write_fragment_fields(&mut header, total_len, offset, end < self.len());
        }
        let [a, b] = payload;
        frame.assemble(&[&[0; ethernet::HEADER_LEN], &header, a, b])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FWD-11.
    #[test]
    fn identifications_toward_one_destination_do_not_repeat() {
        let mut originator = Originator::new(1);
        let mut seen = alloc::collections::BTreeSet::new();
        for _ in 0..65536 {
            assert!(seen.insert(originator.ident(1, Ipv4Addr::new(10, 0, 0, 1))));
        }
    }
}

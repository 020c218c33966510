//! IPv4 packets that the router itself makes: header, identification, TTL.
//!
//! Every such packet has TTL 64, DF clear (but for a TCP reset, which is atomic as Linux sends it) and an identification from a counter of its (destination, protocol), so that
//! none is repeated before 65536 others went the same way (FWD-11, RFC 6864 4.3).

use alloc::boxed::Box;
use core::net::Ipv4Addr;

use crate::frame::Frame;
use crate::random::{self, Rng};
use crate::trace::Mark;
use crate::wire::ethernet;
use crate::wire::ipv4::{PROTOCOL_TCP, Repr};

/// Initial TTL (Linux `ip_default_ttl`, RFC 1700).
const TTL: u8 = 64;
/// Counters; destinations that share one only use it up faster.
const COUNTERS: usize = 256;

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

    /// Fills `frame` with room for an Ethernet header, the IPv4 header and `parts`. False when they do not fit.
    pub(crate) fn build(&mut self, frame: &mut Frame, fields: Fields, parts: [&[u8]; 2]) -> bool {
        let [first, second] = parts;
        let Ok(payload_len) = u16::try_from(first.len() + second.len()) else {
            return false;
        };
        let header = Repr {
            tos: fields.tos,
            payload_len,
            ident: self.ident(fields.protocol, fields.dst),
            dont_fragment: fields.protocol == PROTOCOL_TCP,
            ttl: TTL,
            protocol: fields.protocol,
            src: fields.src,
            dst: fields.dst,
        }
        .emit();
        frame.assemble(&[&[0; ethernet::HEADER_LEN], &header, first, second])
    }

    fn ident(&mut self, protocol: u8, dst: Ipv4Addr) -> u16 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the remainder is below COUNTERS"
        )]
        let at = (random::hash(self.seed, u16::from(protocol), dst) % COUNTERS as u64) as usize;
        let ident = &mut self.idents[at];
        *ident = ident.wrapping_add(1);
        *ident
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

//! A datagram as the fragments that it came in.

use alloc::vec::{self, Vec};

use crate::forward::Size;
use crate::frame::Frame;
use crate::stats::DropReason;
use crate::wire::checksum::Sum;
use crate::wire::ethernet;
use crate::wire::ipv4::{self, Ipv4, PROTOCOL_TCP};
use crate::wire::tcp;

const ECT_MASK: u8 = 0b0110;
const NOT_ECT_BIT: u8 = 0b0001;
const CE_BIT: u8 = 0b1000;

/// Frames of one datagram in order of offset, without gap or overlap unless the datagram was given up.
///
/// One is made with room for the longest datagram and used again for each.
#[derive(Debug, Default)]
pub(crate) struct Fragments {
    frames: Vec<Frame>,
    largest: u16,
    largest_df: u16,
    ecn: u8,
}

impl Fragments {
    /// A set for up to `capacity` frames.
    pub(crate) fn new(capacity: u16) -> Self {
        Self {
            frames: Vec::with_capacity(usize::from(capacity)),
            ..Self::default()
        }
    }

    pub(super) fn begin(&mut self, largest: u16, largest_df: u16, ecn: u8) {
        self.frames.clear();
        self.largest = largest;
        self.largest_df = largest_df;
        self.ecn = ecn;
    }

    pub(super) fn push(&mut self, frame: Frame) {
        self.frames.push(frame);
    }

    pub(super) fn pop(&mut self) -> Option<Frame> {
        self.frames.pop()
    }

    /// The first piece, whose header stands for the datagram's while it goes through the stages.
    pub(crate) fn first_mut(&mut self) -> Option<&mut Frame> {
        self.frames.first_mut()
    }

    /// Takes the frames out, in order.
    pub(crate) fn drain(&mut self) -> vec::Drain<'_, Frame> {
        self.frames.drain(..)
    }

    /// The frames, in order.
    pub(crate) fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// The longest piece: none that leaves is longer (FWD-75), and it must not be cut any smaller if it had DF (FWD-76,
    /// as Linux decides it).
    pub(crate) const fn size(&self) -> Size {
        Size {
            total_len: self.largest,
            dont_fragment: self.largest_df == self.largest,
        }
    }

    /// Why a complete set is no datagram: longer than any can be, ECN marks that contradict each other, or a first
    /// fragment without its whole transport header (RFC 1858 3), which nobody makes who has nothing to hide.
    pub(super) fn fault(&self) -> Option<DropReason> {
        let first = self.frames.first().map(packet).and_then(Ipv4::peek)?;
        let transport = match first.protocol() {
            PROTOCOL_TCP => tcp::HEADER_LEN,
            _ => 0,
        };
        let payload: usize = self.views().map(|ip| ip.payload().len()).sum();
        let mixed = self.ecn & NOT_ECT_BIT != 0 && self.ecn != NOT_ECT_BIT;
        (first.header_len() + payload > 65535 || mixed || first.payload().len() < transport)
            .then_some(DropReason::FragmentInvalid)
    }

    /// Congestion that any piece met is the datagram's: the ECN field is CE if one of ECN-capable pieces has it
    /// (RFC 3168 5.3). Called once, before the first frame is looked at as the datagram's.
    pub(crate) fn join_ecn(&mut self) {
        if self.ecn & CE_BIT != 0
            && self.ecn & ECT_MASK != 0
            && let Some(first) = self.frames.first_mut()
        {
            let header = header_mut(first);
            if let Some(tos) = header.get_mut(1) {
                *tos |= 0b11;
            }
            ipv4::rewrite_checksum(header);
        }
    }

    /// Copies what stages have changed in the IPv4 header of the first piece to the others: type of service,
    /// identification, TTL and addresses. DF is cleared everywhere (NAT-FRAG).
    pub(crate) fn follow_first(&mut self) {
        let Some((first, rest)) = self.frames.split_first_mut() else {
            return;
        };
        let Some(model) = ethernet::payload(first.bytes()).first_chunk::<{ ipv4::HEADER_LEN }>()
        else {
            return;
        };
        for frame in rest {
            ipv4::copy_identity(model, header_mut(frame));
        }
        ipv4::clear_dont_fragment(header_mut(first));
    }

    /// The one's complement sum over the transport header and payload.
    #[cfg_attr(
        not(test),
        expect(
            dead_code,
            reason = "for connection tracking, which verifies checksums"
        )
    )]
    pub(crate) fn payload_sum(&self) -> Sum {
        // All pieces but the last are multiples of 8 bytes long.
        self.views()
            .fold(Sum::new(), |sum, ip| sum.add_bytes(ip.payload()))
    }

    /// Copies the datagram into `buffer`: the header of the first fragment, made that of the whole, and the payload.
    /// The whole packet; none when it does not fit.
    pub(crate) fn linearize<'a>(&self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        let first = self.frames.first()?;
        let header = packet(first).get(..Ipv4::peek(packet(first))?.header_len())?;
        let mut len = 0;
        let parts = core::iter::once(header).chain(self.views().map(|ip| ip.payload()));
        for part in parts {
            buffer
                .get_mut(len..)?
                .get_mut(..part.len())?
                .copy_from_slice(part);
            len += part.len();
        }
        let whole = buffer.get_mut(..len)?;
        let total = u16::try_from(len).ok()?;
        ipv4::write_fragment_fields(whole.get_mut(..header.len())?, total, 0, false);
        Some(whole)
    }

    fn views(&self) -> impl Iterator<Item = Ipv4<'_>> {
        self.frames.iter().map(packet).filter_map(Ipv4::peek)
    }
}

fn packet(frame: &Frame) -> &[u8] {
    ethernet::payload(frame.bytes())
}

fn header_mut(frame: &mut Frame) -> &mut [u8] {
    ipv4::header_mut(ethernet::payload_mut(frame.bytes_mut()))
}

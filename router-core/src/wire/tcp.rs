//! TCP header (RFC 9293).

use core::net::Ipv4Addr;

use super::checksum::Sum;
use super::ipv4::{Ipv4, PROTOCOL_TCP};

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

/// FIN
pub const FIN: u8 = 0x01;
/// SYN
pub const SYN: u8 = 0x02;
/// RST
pub const RST: u8 = 0x04;
/// PSH
pub const PSH: u8 = 0x08;
/// ACK
pub const ACK: u8 = 0x10;
/// URG
pub const URG: u8 = 0x20;
/// CWR (RFC 3168)
pub const CWR: u8 = 0x80;

/// A segment whose header is all there.
#[derive(Clone, Copy, Debug)]
pub struct Tcp<'a> {
    header: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
    segment: &'a [u8],
    payload_len: usize,
}

impl<'a> Tcp<'a> {
    /// None when there are fewer bytes than the data offset says, or than 20.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER_LEN>()?;
        let offset = usize::from(header[12] >> 4) * 4;
        if offset < HEADER_LEN {
            return None;
        }
        let payload = bytes.get(offset..)?;
        Some(Self {
            header,
            payload,
            segment: bytes,
            payload_len: payload.len(),
        })
    }

    /// The segment in a whole packet whose length was validated. Of a superframe only the head is there, and its payload is
    /// still as long as it says.
    #[must_use]
    pub fn of(ip: &Ipv4<'a>) -> Option<Self> {
        let mut tcp = Self::parse(ip.payload())?;
        let header_len = ip.payload().len() - tcp.payload.len();
        tcp.payload_len = ip.payload_len().saturating_sub(header_len);
        Some(tcp)
    }

    /// Source port.
    #[must_use]
    pub const fn src_port(&self) -> u16 {
        u16::from_be_bytes([self.header[0], self.header[1]])
    }

    /// Destination port.
    #[must_use]
    pub const fn dst_port(&self) -> u16 {
        u16::from_be_bytes([self.header[2], self.header[3]])
    }

    /// Sequence number.
    #[must_use]
    pub const fn seq(&self) -> u32 {
        let h = self.header;
        u32::from_be_bytes([h[4], h[5], h[6], h[7]])
    }

    /// Acknowledgement number; meaningful with [`ACK`].
    #[must_use]
    pub const fn ack(&self) -> u32 {
        let h = self.header;
        u32::from_be_bytes([h[8], h[9], h[10], h[11]])
    }

    /// Flags of octet 13.
    #[must_use]
    pub const fn flags(&self) -> u8 {
        self.header[13]
    }

    /// The window, not scaled.
    #[must_use]
    pub const fn window(&self) -> u16 {
        u16::from_be_bytes([self.header[14], self.header[15]])
    }

    /// The option bytes.
    #[must_use]
    pub fn options(&self) -> &'a [u8] {
        let end = self.segment.len() - self.payload.len();
        self.segment.get(HEADER_LEN..end).unwrap_or_default()
    }

    /// Bytes that follow header and options, those of a superframe that are not here included.
    #[must_use]
    pub const fn payload_len(&self) -> usize {
        self.payload_len
    }

    /// What follows header and options.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// True when the checksum verifies between these addresses.
    #[must_use]
    pub fn checksum_verifies(&self, src: Ipv4Addr, dst: Ipv4Addr) -> bool {
        u16::try_from(self.segment.len()).is_ok_and(|len| {
            Sum::new()
                .add_pseudo_header(src, dst, PROTOCOL_TCP, len)
                .add_bytes(self.segment)
                .verifies()
        })
    }

    /// The segment that a closed port answers with (RFC 9293 3.10.7.1), from `dst` to `src`; none about a RST.
    #[must_use]
    pub fn reset(&self, src: Ipv4Addr, dst: Ipv4Addr) -> Option<[u8; HEADER_LEN]> {
        if self.flags() & RST != 0 {
            return None;
        }
        let (seq, ack, flags) = if self.flags() & ACK != 0 {
            (self.ack(), 0, RST)
        } else {
            // A segment is 64 kB at most, so its length keeps its value; SYN and FIN count as one each.
            let len = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
            let ghosts = u32::from(self.flags() & SYN != 0) + u32::from(self.flags() & FIN != 0);
            (
                0,
                self.seq().wrapping_add(len).wrapping_add(ghosts),
                RST | ACK,
            )
        };
        let [s0, s1] = self.dst_port().to_be_bytes();
        let [d0, d1] = self.src_port().to_be_bytes();
        let [q0, q1, q2, q3] = u32::to_be_bytes(seq);
        let [a0, a1, a2, a3] = u32::to_be_bytes(ack);
        let mut h = [
            s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, 0x50, flags, 0, 0, 0, 0, 0, 0,
        ];
        [h[16], h[17]] = Sum::new()
            .add_pseudo_header(dst, src, PROTOCOL_TCP, 20)
            .add_bytes(&h)
            .finish()
            .to_be_bytes();
        Some(h)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    fn segment(flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = alloc::vec![
            4, 0, 0, 9, 0, 0, 1, 0, 0, 0, 2, 0, 0x50, flags, 0, 0, 0, 0, 0, 0
        ];
        bytes.extend_from_slice(payload);
        bytes
    }

    /// RFC 9293 3.10.7.1.
    #[test]
    fn a_reset_answers_a_syn_by_number_and_an_ack_by_its_number() {
        let bytes = segment(SYN, b"");
        let reset = Tcp::parse(&bytes).unwrap().reset(A, B).unwrap();
        let reset = Tcp::parse(&reset).unwrap();
        assert_eq!((reset.src_port(), reset.dst_port()), (9, 1024));
        assert_eq!(
            (reset.seq(), reset.ack(), reset.flags()),
            (0, 0x101, RST | ACK)
        );
        assert!(reset.checksum_verifies(B, A));

        let bytes = segment(ACK, b"data");
        let reset = Tcp::parse(&bytes).unwrap().reset(A, B).unwrap();
        let reset = Tcp::parse(&reset).unwrap();
        assert_eq!((reset.seq(), reset.ack(), reset.flags()), (0x200, 0, RST));

        let bytes = segment(FIN, b"data");
        let reset = Tcp::parse(&bytes).unwrap().reset(A, B).unwrap();
        assert_eq!(Tcp::parse(&reset).unwrap().ack(), 0x105);
        assert!(
            Tcp::parse(&segment(RST, b""))
                .unwrap()
                .reset(A, B)
                .is_none()
        );
    }

    #[test]
    fn a_data_offset_that_does_not_fit_is_refused() {
        let mut bytes = segment(SYN, b"");
        bytes[12] = 0x40;
        assert!(Tcp::parse(&bytes).is_none());
        bytes[12] = 0x60;
        assert!(Tcp::parse(&bytes).is_none());
        assert!(Tcp::parse(&bytes[..19]).is_none());
    }
}

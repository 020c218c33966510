//! UDP header (RFC 768).

use core::net::Ipv4Addr;

use super::checksum::Sum;
use super::ipv4::{Ipv4, PROTOCOL_UDP};

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;

/// A datagram whose length field fits the bytes present.
#[derive(Clone, Copy, Debug)]
pub struct Udp<'a> {
    header: &'a [u8; HEADER_LEN],
    datagram: &'a [u8],
}

impl<'a> Udp<'a> {
    /// None when there are fewer than 8 bytes, or the length field is below 8 or beyond the bytes present.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER_LEN>()?;
        let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
        if len < HEADER_LEN {
            return None;
        }
        Some(Self {
            header,
            datagram: bytes.get(..len)?,
        })
    }

    /// True when the datagram of a whole packet, whose length was validated, is one as far as its header tells. Of a
    /// superframe only the head is there.
    #[must_use]
    pub fn is_sound(ip: &Ipv4<'_>) -> bool {
        ip.payload()
            .first_chunk::<HEADER_LEN>()
            .is_some_and(|header| {
                let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
                (HEADER_LEN..=ip.payload_len()).contains(&len)
            })
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

    /// What follows the header.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.datagram.get(HEADER_LEN..).unwrap_or_default()
    }

    /// True when the checksum verifies between these addresses, or is zero, which means none.
    #[must_use]
    pub fn checksum_verifies(&self, src: Ipv4Addr, dst: Ipv4Addr) -> bool {
        let len = u16::from_be_bytes([self.header[4], self.header[5]]);
        matches!(self.header, [.., 0, 0])
            || Sum::new()
                .add_pseudo_header(src, dst, PROTOCOL_UDP, len)
                .add_bytes(self.datagram)
                .verifies()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    #[test]
    fn fields_and_checksum_are_read() {
        // 10.0.0.1:1000 > 10.0.0.2:53 "x", and a byte that is not part of it
        let mut bytes = [0x03, 0xe8, 0, 53, 0, 9, 0, 0, b'x', 0xee];
        let udp = Udp::parse(&bytes).unwrap();
        assert_eq!(
            (udp.src_port(), udp.dst_port(), udp.payload()),
            (1000, 53, &b"x"[..])
        );
        assert!(udp.checksum_verifies(A, B), "zero is no checksum");
        let by_hand: u32 = 0xa00 + 1 + 0xa00 + 2 + 17 + 9 + 1000 + 53 + 9 + 0x7800;
        let check = !u16::try_from(by_hand).unwrap();
        [bytes[6], bytes[7]] = check.to_be_bytes();
        assert!(Udp::parse(&bytes).unwrap().checksum_verifies(A, B));
        bytes[8] = b'y';
        assert!(!Udp::parse(&bytes).unwrap().checksum_verifies(A, B));
    }

    #[test]
    fn a_length_field_that_does_not_fit_is_refused() {
        assert!(Udp::parse(&[0, 1, 0, 2, 0, 7, 0, 0]).is_none());
        assert!(Udp::parse(&[0, 1, 0, 2, 0, 9, 0, 0]).is_none());
        assert!(Udp::parse(&[0; 7]).is_none());
    }
}

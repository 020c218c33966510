//! Ethernet II header: destination, source, EtherType.

use crate::addr::Mac;

/// Bytes of the header.
pub const HEADER_LEN: usize = 14;

/// IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// 802.1Q tag.
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// 802.1ad tag.
pub const ETHERTYPE_QINQ: u16 = 0x88a8;
/// IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// The header's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Destination station or group.
    pub dst: Mac,
    /// Sending station.
    pub src: Mac,
    /// What follows; below 0x0600 an 802.3 length.
    pub ethertype: u16,
}

/// Splits a frame into header and the rest; none when there are fewer than 14 bytes.
#[must_use]
pub fn parse(frame: &[u8]) -> Option<(Header, &[u8])> {
    let (h, rest) = frame.split_first_chunk::<HEADER_LEN>()?;
    let header = Header {
        dst: Mac([h[0], h[1], h[2], h[3], h[4], h[5]]),
        src: Mac([h[6], h[7], h[8], h[9], h[10], h[11]]),
        ethertype: u16::from_be_bytes([h[12], h[13]]),
    };
    Some((header, rest))
}

/// What follows the header; empty when there are fewer than 14 bytes.
#[must_use]
pub fn payload(frame: &[u8]) -> &[u8] {
    frame.get(HEADER_LEN..).unwrap_or_default()
}

/// The payload to change in place; empty when there are fewer than 14 bytes.
#[must_use]
pub fn payload_mut(frame: &mut [u8]) -> &mut [u8] {
    frame
        .split_first_chunk_mut::<HEADER_LEN>()
        .map_or(&mut [], |(_, rest)| rest)
}

impl Header {
    /// The header as bytes.
    #[must_use]
    pub const fn emit(&self) -> [u8; HEADER_LEN] {
        let [a, b, c, d, e, f] = self.dst.0;
        let [g, h, i, j, k, l] = self.src.0;
        let [m, n] = self.ethertype.to_be_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n]
    }

    /// Writes the header over the first 14 bytes of `frame`; false when there are fewer.
    pub fn write(&self, frame: &mut [u8]) -> bool {
        match frame.first_chunk_mut::<HEADER_LEN>() {
            Some(place) => {
                *place = self.emit();
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_emitted_parses_to_the_same_fields() {
        let header = Header {
            dst: Mac([1, 2, 3, 4, 5, 6]),
            src: Mac([7, 8, 9, 10, 11, 12]),
            ethertype: ETHERTYPE_ARP,
        };
        let mut frame = [0xa5; 20];
        assert!(header.write(&mut frame));
        assert_eq!(parse(&frame), Some((header, &[0xa5; 6][..])));
    }

    #[test]
    fn thirteen_bytes_are_no_header() {
        assert_eq!(parse(&[0; 13]), None);
        assert!(payload_mut(&mut [0; 13]).is_empty());
    }
}

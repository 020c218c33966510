//! IPv4 header (RFC 791).

use core::hint;
use core::net::Ipv4Addr;

use super::checksum::{self, Sum};

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;
/// Where in it the protocol stands.
pub const PROTOCOL_AT: usize = 9;
/// Where in it the source address stands, which the destination address follows.
pub const ADDRESSES_AT: usize = 12;

/// ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
/// IPv4 in IPv4 (RFC 2003).
pub const PROTOCOL_IPIP: u8 = 4;
/// TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// UDP.
pub const PROTOCOL_UDP: u8 = 17;
/// GRE.
pub const PROTOCOL_GRE: u8 = 47;
/// SCTP.
pub const PROTOCOL_SCTP: u8 = 132;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// Why bytes are no IPv4 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Fewer than 20 bytes, IHL below 5, or a header longer than the bytes present.
    HeaderLength,
    /// Version other than 4.
    Version,
    /// The header checksum does not verify.
    Checksum,
    /// Total length below the header length or beyond the bytes present.
    TotalLength,
}

/// A packet whose header is all there. Made by [`Ipv4::parse`] (validated) or [`Ipv4::peek`] (a quoted header).
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<'a> {
    fixed: &'a [u8; HEADER_LEN],
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Ipv4<'a> {
    /// Validates a packet in the order of RFC 1812 5.2.2; bytes beyond the total length are link-layer padding and
    /// not part of the view.
    ///
    /// # Errors
    /// The first check that failed.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        Self::parse_head(bytes, bytes.len())
    }

    /// [`parse`](Self::parse) of the beginning of a packet of `available` bytes: a superframe's head. The view has as much of
    /// the payload as is here.
    ///
    /// # Errors
    /// The first check that failed.
    pub fn parse_head(bytes: &'a [u8], available: usize) -> Result<Self, Error> {
        let (fixed, rest) = bytes.split_first_chunk().ok_or(Error::HeaderLength)?;
        if fixed[0] >> 4 != 4 {
            return Err(Error::Version);
        }
        let options_len = (usize::from(fixed[0] & 0xf) * 4)
            .checked_sub(HEADER_LEN)
            .ok_or(Error::HeaderLength)?;
        let (options, rest) = rest
            .split_at_checked(options_len)
            .ok_or(Error::HeaderLength)?;
        if !Sum::new().add_bytes(fixed).add_bytes(options).verifies() {
            return Err(Error::Checksum);
        }
        let header_len = HEADER_LEN + options_len;
        let payload = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]))
            .checked_sub(header_len)
            .filter(|len| header_len + len <= available)
            .and_then(|len| rest.get(..len.min(rest.len())))
            .ok_or(Error::TotalLength)?;
        Ok(Self {
            fixed,
            options,
            payload,
        })
    }

    /// A header that was validated before, or stands in a quotation that may be cut short: only its presence is checked.
    #[must_use]
    pub fn peek(bytes: &'a [u8]) -> Option<Self> {
        let (fixed, rest) = bytes.split_first_chunk()?;
        let options_len = (usize::from(fixed[0] & 0xf) * 4).checked_sub(HEADER_LEN)?;
        let (options, payload) = rest.split_at_checked(options_len)?;
        Some(Self {
            fixed,
            options,
            payload,
        })
    }

    /// Type of service: DSCP and ECN.
    #[must_use]
    pub const fn tos(&self) -> u8 {
        self.fixed[1]
    }

    /// Header and payload, bytes.
    #[must_use]
    pub const fn total_len(&self) -> u16 {
        u16::from_be_bytes([self.fixed[2], self.fixed[3]])
    }

    /// Header with options, bytes: 20..=60.
    #[must_use]
    pub const fn header_len(&self) -> usize {
        HEADER_LEN + self.options.len()
    }

    /// Bytes that follow the header according to it, those of a superframe that are not here included.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        usize::from(self.total_len()).saturating_sub(self.header_len())
    }

    /// Identification.
    #[must_use]
    pub const fn ident(&self) -> u16 {
        u16::from_be_bytes([self.fixed[4], self.fixed[5]])
    }

    const fn flags_and_offset(&self) -> u16 {
        u16::from_be_bytes([self.fixed[6], self.fixed[7]])
    }

    /// DF.
    #[must_use]
    pub const fn dont_fragment(&self) -> bool {
        self.flags_and_offset() & DONT_FRAGMENT != 0
    }

    /// MF.
    #[must_use]
    pub const fn more_fragments(&self) -> bool {
        self.flags_and_offset() & MORE_FRAGMENTS != 0
    }

    /// Place of this fragment's payload in the datagram's, in units of 8 bytes.
    #[must_use]
    pub const fn fragment_offset(&self) -> u16 {
        self.flags_and_offset() & OFFSET_MASK
    }

    /// True unless the packet is a whole datagram.
    #[must_use]
    pub const fn is_fragment(&self) -> bool {
        self.more_fragments() || self.fragment_offset() != 0
    }

    /// Time to live.
    #[must_use]
    pub const fn ttl(&self) -> u8 {
        self.fixed[8]
    }

    /// Protocol number of the payload.
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        self.fixed[9]
    }

    /// Source address.
    #[must_use]
    pub const fn src(&self) -> Ipv4Addr {
        let f = self.fixed;
        Ipv4Addr::new(f[12], f[13], f[14], f[15])
    }

    /// Destination address.
    #[must_use]
    pub const fn dst(&self) -> Ipv4Addr {
        let f = self.fixed;
        Ipv4Addr::new(f[16], f[17], f[18], f[19])
    }

    /// The option bytes, a multiple of 4 up to 40.
    #[must_use]
    pub const fn options(&self) -> &'a [u8] {
        self.options
    }

    /// What follows the header, without padding.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// The fields of a header without options that the router writes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Type of service.
    pub tos: u8,
    /// Bytes that follow the header.
    pub payload_len: u16,
    /// Identification.
    pub ident: u16,
    /// DF.
    pub dont_fragment: bool,
    /// Time to live.
    pub ttl: u8,
    /// Protocol number of the payload.
    pub protocol: u8,
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
}

impl Repr {
    /// The header as bytes, checksum included. A payload beyond 65515 bytes is given a total length of 65535.
    #[must_use]
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let [len0, len1] = self.payload_len.saturating_add(20).to_be_bytes();
        let [id0, id1] = self.ident.to_be_bytes();
        let flags = if self.dont_fragment { 0x40 } else { 0 };
        let [s0, s1, s2, s3] = self.src.octets();
        let [d0, d1, d2, d3] = self.dst.octets();
        let mut header = [
            0x45,
            self.tos,
            len0,
            len1,
            id0,
            id1,
            flags,
            0,
            self.ttl,
            self.protocol,
            0,
            0,
            s0,
            s1,
            s2,
            s3,
            d0,
            d1,
            d2,
            d3,
        ];
        [header[10], header[11]] = Sum::new().add_bytes(&header).finish().to_be_bytes();
        header
    }
}

/// Lowers the TTL by one and updates the checksum. The TTL must not be 0.
#[inline]
pub fn decrement_ttl(header: &mut [u8; HEADER_LEN]) {
    // RFC 1624 equation 3 for a word that loses 0x0100: the checksum gains that, with the carry added at the other end, and
    // is 0 rather than 0xffff. A one's complement sum is the same in either byte order (RFC 1071 2 B), 0x0100 is 1 in this:
    // TTL, protocol and checksum, the least significant byte first.
    if let Some(bytes) = header[8..].first_chunk_mut() {
        let mut word = u32::from_le_bytes(*bytes);
        if word >= 0xfffe_0000 {
            hint::cold_path();
            word = word.wrapping_add(1 << 16);
        }
        *bytes = word.wrapping_add((1 << 16) - 1).to_le_bytes();
    }
}

/// Writes length, flags and fragment offset (units of 8 bytes) of one fragment, and the checksum over the header.
///
/// `header` is the whole header with its options; DF is cleared, the reserved bit kept. Does nothing to fewer than 20 bytes.
pub fn write_fragment_fields(header: &mut [u8], total_len: u16, offset: u16, more: bool) {
    let Some((fixed, options)) = header.split_first_chunk_mut::<HEADER_LEN>() else {
        return;
    };
    let reserved = u16::from_be_bytes([fixed[6], fixed[7]]) & 0x8000;
    let flags = reserved | (offset & OFFSET_MASK) | if more { MORE_FRAGMENTS } else { 0 };
    [fixed[2], fixed[3]] = total_len.to_be_bytes();
    [fixed[6], fixed[7]] = flags.to_be_bytes();
    [fixed[10], fixed[11]] = [0, 0];
    [fixed[10], fixed[11]] = Sum::new()
        .add_bytes(fixed)
        .add_bytes(options)
        .finish()
        .to_be_bytes();
}

/// The header with its options, to change in place; empty when there are fewer bytes than its length field says.
#[must_use]
pub fn header_mut(packet: &mut [u8]) -> &mut [u8] {
    let len = packet.first().map_or(0, |b| usize::from(b & 0xf) * 4);
    packet.get_mut(..len).unwrap_or_default()
}

/// Clears DF and renews the checksum. Does nothing to fewer than 20 bytes.
pub fn clear_dont_fragment(header: &mut [u8]) {
    if let Some(flags) = header.get_mut(6) {
        *flags &= !0x40;
    }
    rewrite_checksum(header);
}

/// Gives a later fragment the fields that all fragments of a datagram share with the first, `model`: type of service,
/// identification, TTL, protocol and addresses; clears DF and renews the checksum. `header` is the whole header with
/// its options. Does nothing to fewer than 20 bytes.
pub fn copy_identity(model: &[u8; HEADER_LEN], header: &mut [u8]) {
    if let Some(fixed) = header.first_chunk_mut::<HEADER_LEN>() {
        fixed[1] = model[1];
        [fixed[4], fixed[5]] = [model[4], model[5]];
        [fixed[8], fixed[9]] = [model[8], model[9]];
        let (_, addresses) = model.split_at(12);
        fixed[12..].copy_from_slice(addresses);
    }
    clear_dont_fragment(header);
}

/// Writes the type of service and updates the checksum. Does nothing to fewer than 20 bytes.
pub fn set_tos(header: &mut [u8], tos: u8) {
    if let Some(fixed) = header.first_chunk_mut::<HEADER_LEN>() {
        let old = u16::from_be_bytes([fixed[0], fixed[1]]);
        fixed[1] = tos;
        let new = u16::from_be_bytes([fixed[0], fixed[1]]);
        let checksum = u16::from_be_bytes([fixed[10], fixed[11]]);
        [fixed[10], fixed[11]] = checksum::update(checksum, old, new).to_be_bytes();
    }
}

/// Recomputes the header checksum after options were changed. Does nothing to fewer than 20 bytes.
pub fn rewrite_checksum(header: &mut [u8]) {
    if let Some((fixed, options)) = header.split_first_chunk_mut::<HEADER_LEN>() {
        [fixed[10], fixed[11]] = [0, 0];
        [fixed[10], fixed[11]] = Sum::new()
            .add_bytes(fixed)
            .add_bytes(options)
            .finish()
            .to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPR: Repr = Repr {
        tos: 0x2c,
        payload_len: 4,
        ident: 0x1234,
        dont_fragment: true,
        ttl: 64,
        protocol: PROTOCOL_UDP,
        src: Ipv4Addr::new(10, 244, 0, 2),
        dst: Ipv4Addr::new(10, 244, 1, 2),
    };

    fn packet() -> [u8; 26] {
        let mut bytes = [0xa5; 26];
        bytes[..20].copy_from_slice(&REPR.emit());
        bytes
    }

    #[test]
    fn what_is_emitted_parses_to_the_same_fields_without_padding() {
        let bytes = packet();
        let ip = Ipv4::parse(&bytes).unwrap();
        assert_eq!((ip.tos(), ip.total_len(), ip.ident()), (0x2c, 24, 0x1234));
        assert!(ip.dont_fragment() && !ip.is_fragment());
        assert_eq!((ip.ttl(), ip.protocol()), (64, PROTOCOL_UDP));
        assert_eq!((ip.src(), ip.dst()), (REPR.src, REPR.dst));
        assert_eq!(ip.payload(), [0xa5; 4]);
    }

    #[test]
    fn each_impossible_header_is_named() {
        let broken = |at: usize, value: u8| {
            let mut bytes = packet();
            bytes[at] = value;
            Ipv4::parse(&bytes).unwrap_err()
        };
        assert_eq!(broken(0, 0x65), Error::Version);
        assert_eq!(broken(0, 0x44), Error::HeaderLength);
        assert_eq!(broken(0, 0x4f), Error::HeaderLength);
        assert_eq!(broken(10, 0x12), Error::Checksum);
        assert_eq!(
            Ipv4::parse(&packet()[..23]).unwrap_err(),
            Error::TotalLength
        );
        assert_eq!(
            Ipv4::parse(&packet()[..19]).unwrap_err(),
            Error::HeaderLength
        );
        let short = Repr {
            payload_len: 0,
            ..REPR
        }
        .emit();
        let mut below = short;
        below[3] = 19;
        rewrite_checksum(&mut below);
        assert_eq!(Ipv4::parse(&below).unwrap_err(), Error::TotalLength);
        assert!(Ipv4::parse(&short).is_ok());
    }

    /// FWD-63: a header with checksum 0xfeff and TTL 64 ends with checksum 0x0000.
    #[test]
    fn a_ttl_decrement_may_end_at_checksum_zero() {
        let mut header = REPR.emit();
        // The identification is free: choose it so that the checksum becomes 0xfeff.
        let without = Sum::new()
            .add_bytes(&header[..4])
            .add_bytes(&header[6..10])
            .add_bytes(&header[12..]);
        let ident = !without.add_u16(0xfeff).fold();
        [header[4], header[5]] = ident.to_be_bytes();
        rewrite_checksum(&mut header);
        assert_eq!(header[10..12], [0xfe, 0xff]);
        decrement_ttl(&mut header);
        assert_eq!(header[10..12], [0, 0]);
        assert!(Sum::new().add_bytes(&header).verifies());
    }

    /// RFC 1624 equation 3, for every checksum there is.
    #[test]
    fn a_lower_ttl_updates_the_checksum_as_any_other_word() {
        for checksum in 0..=u16::MAX {
            let mut header = [0; HEADER_LEN];
            [header[8], header[9]] = [64, 17];
            [header[10], header[11]] = checksum.to_be_bytes();
            decrement_ttl(&mut header);
            let expected = checksum::update(checksum, 64 << 8 | 17, 63 << 8 | 17);
            assert_eq!(header[10..12], expected.to_be_bytes(), "{checksum:#06x}");
            assert_eq!(header[8..10], [63, 17]);
        }
    }

    #[test]
    fn fragment_fields_are_written_over_the_whole_header() {
        let mut header = REPR.emit();
        write_fragment_fields(&mut header, 20, 0x1fff, true);
        let ip = Ipv4::parse(&header).unwrap();
        assert!(ip.more_fragments() && !ip.dont_fragment());
        assert_eq!((ip.fragment_offset(), ip.total_len()), (0x1fff, 20));
    }
}

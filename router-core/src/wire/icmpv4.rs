//! ICMP for IPv4 (RFC 792).

use super::checksum::Sum;

/// Bytes of the header that every message has.
pub const HEADER_LEN: usize = 8;

/// Echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Destination unreachable.
pub const DEST_UNREACHABLE: u8 = 3;
/// Source quench, deprecated by RFC 6633.
pub const SOURCE_QUENCH: u8 = 4;
/// Redirect.
pub const REDIRECT: u8 = 5;
/// Echo request.
pub const ECHO_REQUEST: u8 = 8;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 11;
/// Parameter problem.
pub const PARAMETER_PROBLEM: u8 = 12;
/// Timestamp request.
pub const TIMESTAMP_REQUEST: u8 = 13;
/// Timestamp reply.
pub const TIMESTAMP_REPLY: u8 = 14;
/// Information request.
pub const INFORMATION_REQUEST: u8 = 15;
/// Information reply.
pub const INFORMATION_REPLY: u8 = 16;
/// Address mask request.
pub const ADDRESS_MASK_REQUEST: u8 = 17;
/// Address mask reply.
pub const ADDRESS_MASK_REPLY: u8 = 18;

/// True for the errors that quote a packet (RFC 1122 3.2.2).
#[must_use]
pub const fn is_error(kind: u8) -> bool {
    matches!(
        kind,
        DEST_UNREACHABLE | SOURCE_QUENCH | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM
    )
}

/// True for messages that report an error, and for types beyond those that RFC 792 and 950 define, which might: no
/// error is ever sent about them (ICMP-1).
#[must_use]
pub const fn may_be_error(kind: u8) -> bool {
    matches!(
        kind,
        DEST_UNREACHABLE | SOURCE_QUENCH | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM
    ) || kind > 18
}

/// A message with a right checksum.
#[derive(Clone, Copy, Debug)]
pub struct Icmpv4<'a> {
    header: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Icmpv4<'a> {
    /// None with fewer than 8 bytes or when the checksum over all of `bytes` does not verify.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, payload) = bytes.split_first_chunk()?;
        Sum::new()
            .add_bytes(bytes)
            .verifies()
            .then_some(Self { header, payload })
    }

    /// Type.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        self.header[0]
    }

    /// Code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        self.header[1]
    }

    /// Bytes 4 to 7: identifier and sequence number, MTU, pointer or gateway.
    #[must_use]
    pub const fn rest_of_header(&self) -> [u8; 4] {
        let h = self.header;
        [h[4], h[5], h[6], h[7]]
    }

    /// What follows the 8 bytes.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// The 8 bytes of a header, with the checksum over it and `payload`.
#[must_use]
pub fn emit(kind: u8, code: u8, rest: [u8; 4], payload: &[u8]) -> [u8; HEADER_LEN] {
    let [a, b, c, d] = rest;
    let mut header = [kind, code, 0, 0, a, b, c, d];
    [header[2], header[3]] = Sum::new()
        .add_bytes(&header)
        .add_bytes(payload)
        .finish()
        .to_be_bytes();
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_emitted_parses_to_the_same_fields() {
        let mut bytes = [0xa5; 11];
        let header = emit(ECHO_REQUEST, 7, [1, 2, 3, 4], &[9, 8, 7]);
        bytes[..8].copy_from_slice(&header);
        bytes[8..].copy_from_slice(&[9, 8, 7]);
        let icmp = Icmpv4::parse(&bytes).unwrap();
        assert_eq!((icmp.kind(), icmp.code()), (ECHO_REQUEST, 7));
        assert_eq!(icmp.rest_of_header(), [1, 2, 3, 4]);
        assert_eq!(icmp.payload(), [9, 8, 7]);
        bytes[10] ^= 1;
        assert!(Icmpv4::parse(&bytes).is_none());
        assert!(Icmpv4::parse(&bytes[..7]).is_none());
    }

    #[test]
    fn queries_are_not_errors() {
        for kind in 0..=u8::MAX {
            let query = matches!(kind, 0..=2 | 6..=10 | 13..=18);
            assert_eq!(may_be_error(kind), !query, "type {kind}");
        }
    }
}

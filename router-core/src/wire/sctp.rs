//! SCTP common header (RFC 9260 3.1): ports and the CRC32c over the packet.

/// Bytes of the common header.
pub const HEADER_LEN: usize = 12;

/// CRC32c, reflected (RFC 3309, RFC 9260 appendix A).
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let mut crc = n as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ if crc & 1 == 0 { 0 } else { POLYNOMIAL };
            bit += 1;
        }
        table[n] = crc;
        n += 1;
    }
    table
};

/// The checksum of a packet as it stands in its header: over all bytes, its own place taken as zero. None when there is
/// no whole common header. A byte costs a load and three operations.
#[must_use]
pub fn checksum(packet: &[u8]) -> Option<[u8; 4]> {
    let (head, rest) = packet.split_at_checked(8)?;
    let rest = rest.get(4..)?;
    let bytes = head.iter().chain(&[0; 4]).chain(rest);
    let crc = bytes.fold(u32::MAX, |crc, &byte| {
        TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8)
    });
    Some((!crc).to_le_bytes())
}

/// True when the packet's checksum is right.
#[must_use]
pub fn verifies(packet: &[u8]) -> bool {
    checksum(packet).is_some_and(|crc| packet.get(8..12) == Some(&crc))
}

/// The type of the first chunk.
#[must_use]
pub fn first_chunk(packet: &[u8]) -> Option<u8> {
    packet.get(HEADER_LEN).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720 B.4: CRC32c of 32 bytes of zeros is aa 36 91 8a. The checksum's own bytes count as zeros.
    #[test]
    fn the_test_vector_of_rfc_3720_comes_out() {
        let mut packet = [0; 32];
        assert_eq!(checksum(&packet), Some([0xaa, 0x36, 0x91, 0x8a]));
        packet[8..12].copy_from_slice(&[0xaa, 0x36, 0x91, 0x8a]);
        assert!(verifies(&packet));
        packet[31] = 1;
        assert!(!verifies(&packet));
        assert_eq!(checksum(&packet[..11]), None);
    }
}

//! Names that Kubernetes makes of others.

use sha2::{Digest as _, Sha256};

/// Letters of RFC 4648 base 32.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Letters of the suffixes of generated names (k8s.io/apimachinery/pkg/util/rand).
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// kube-proxy's name of a chain: the prefix and 16 characters of base 32 of SHA-256 over the port's name and protocol.
pub(super) fn chain(prefix: &str, port: &str, protocol: &str) -> String {
    let digest = Sha256::digest(format!("{port}{}", protocol.to_lowercase()));
    // 16 characters of five bits are the first ten octets.
    let bits = digest
        .iter()
        .take(10)
        .fold(0_u128, |bits, byte| (bits << 8) | u128::from(*byte));
    let letters = (0..16).rev().map(|n| {
        let five = usize::try_from((bits >> (5 * n)) & 31).unwrap_or(0);
        char::from(BASE32[five])
    });
    std::iter::once(prefix.to_owned())
        .chain(letters.map(String::from))
        .collect()
}

/// Five characters that depend on `key` alone.
pub(super) fn suffix(key: &str) -> String {
    Sha256::digest(key)
        .iter()
        .take(5)
        .map(|byte| char::from(SAFE[usize::from(*byte) % SAFE.len()]))
        .collect()
}

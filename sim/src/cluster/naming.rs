//! Names, MACs and ids that a real cluster draws at random, drawn from the lab's seed.
//!
//! One lab file gives the same names at every start. FNV-1a over what is named, finished with the mixer of SplitMix64:
//! spread is all that is needed, nobody attacks it.

use router_core::Mac;

/// A 64-bit number for one thing of one lab.
#[must_use]
pub(crate) fn draw(seed: u64, what: &str, key: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ seed;
    for byte in what.bytes().chain([0]).chain(key.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// A locally administered unicast MAC.
#[must_use]
pub(crate) fn mac(seed: u64, what: &str, key: &str) -> Mac {
    let [a, b, c, d, e, f, _, _] = draw(seed, what, key).to_be_bytes();
    Mac([(a & 0xfc) | 0x02, b, c, d, e, f])
}

/// `veth` and eight hexadecimal digits, as the ptp plugin names the host side.
#[must_use]
pub(crate) fn veth(seed: u64, key: &str, attempt: u32) -> String {
    let number = draw(seed, "veth", &format!("{key}#{attempt}"));
    format!("veth{:08x}", number >> 32)
}

/// 64 hexadecimal digits, as container runtimes name a sandbox.
#[must_use]
pub(crate) fn container_id(seed: u64, key: &str, serial: u64) -> String {
    (0..4)
        .map(|part| {
            format!(
                "{:016x}",
                draw(seed, "container", &format!("{key}#{serial}#{part}"))
            )
        })
        .collect()
}

/// `n` characters of the alphabet that Kubernetes uses for name suffixes (no vowels, no digits that look like letters).
#[must_use]
pub fn suffix(seed: u64, key: &str, n: usize) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut number = draw(seed, "suffix", key);
    let mut text = String::with_capacity(n);
    for _ in 0..n {
        let at = usize::try_from(number % 27).unwrap_or_default();
        text.push(char::from(ALPHABET[at]));
        number /= 27;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same seed gives the same names, another seed others.
    #[test]
    fn names_follow_the_seed() {
        assert_eq!(veth(1, "default/a", 0), veth(1, "default/a", 0));
        assert_ne!(veth(1, "default/a", 0), veth(2, "default/a", 0));
        assert_ne!(veth(1, "default/a", 0), veth(1, "default/a", 1));
        assert_eq!(veth(1, "default/a", 0).len(), 12);
        assert_eq!(container_id(1, "default/a", 0).len(), 64);
    }

    /// Every MAC is a unicast address of local administration.
    #[test]
    fn macs_are_local_unicast() {
        for n in 0..1000 {
            let mac = mac(7, "eth0", &n.to_string());
            assert!(mac.is_unicast());
            assert_eq!(mac.0[0] & 2, 2);
        }
    }
}

//! IPv4 addresses and prefixes as iproute2 reads them: `default`, `any`, `10.1/16`, `10.0.0.0/255.0.0.0`.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::IpError;

/// An address; missing octets at the end are zero (`10.1` is 10.1.0.0, as iproute2 has it and `inet_aton` has not).
pub(super) fn address(word: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = word.split('.');
    for octet in &mut octets {
        match parts.next() {
            Some(part) if part.bytes().all(|b| b.is_ascii_digit()) => *octet = part.parse().ok()?,
            Some(_) => return None,
            None => break,
        }
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

/// A prefix; without a length it is a host, `default` is everything. Host bits are kept.
pub(super) fn prefix(word: &str) -> Result<Ipv4Net, IpError> {
    prefix_of(word, "any valid")
}

/// As [`prefix`], with the word that the error has for the family.
pub(super) fn prefix_of(word: &str, family: &str) -> Result<Ipv4Net, IpError> {
    let wrong = || {
        IpError::new(
            1,
            format!("Error: {family} prefix is expected rather than \"{word}\"."),
        )
    };
    if matches!(word, "default" | "any" | "all") {
        return Ok(Ipv4Net::default());
    }
    let (base, length) = word
        .split_once('/')
        .map_or((word, None), |(base, len)| (base, Some(len)));
    let addr = address(base).ok_or_else(wrong)?;
    let bits = match length {
        None => 32,
        Some(text) => match text.parse::<u8>() {
            Ok(bits) => bits,
            Err(_) => {
                let mask = address(text).ok_or_else(wrong)?;
                ipnet::ipv4_mask_to_prefix(mask).map_err(|_| wrong())?
            }
        },
    };
    Ipv4Net::new(addr, bits).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_read_as_iproute2_reads_them() {
        for (word, want) in [
            ("default", "0.0.0.0/0"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("10.1/16", "10.1.0.0/16"),
            ("10.1", "10.1.0.0/32"),
            ("10.0.0.0/255.255.0.0", "10.0.0.0/16"),
            ("172.16.30.3/24", "172.16.30.3/24"),
        ] {
            assert_eq!(prefix(word).unwrap().to_string(), want, "{word}");
        }
    }

    #[test]
    fn what_is_no_prefix_is_quoted_in_the_error() {
        for word in [
            "foo",
            "300.1.1.1",
            "1.2.3.4.5",
            "10.0.0.1/foo",
            "1.2.3.4/33",
            "1..2",
            "",
            "+1.2.3.4",
        ] {
            let error = prefix(word).unwrap_err();
            assert_eq!(
                error.message,
                format!("Error: any valid prefix is expected rather than \"{word}\".")
            );
            assert_eq!(error.status, 1);
        }
    }
}

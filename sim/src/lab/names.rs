//! What things may be called: Kubernetes' rules (RFC 1123).

use super::diagnostics::{At, Sink};
use super::read;
use super::tree::Value;

/// Longest name of any kind, bytes.
const MAX_NAME: usize = 253;

/// Longest DNS label, and longest name of a host, bytes.
const MAX_LABEL: usize = 63;

/// A DNS label: what namespaces and labs are called (RFC 1123).
pub(crate) fn label(value: &Value, what: &str, sink: &mut Sink<'_>) -> Option<At<String>> {
    let word = read::text(value, what, sink)?;
    if let Err(why) = check_label(&word.value) {
        sink.error(word.pos, format!("{what} {why}"));
        return None;
    }
    Some(word)
}

/// A DNS subdomain: what pods are called (RFC 1123).
pub(crate) fn subdomain(value: &Value, what: &str, sink: &mut Sink<'_>) -> Option<At<String>> {
    let word = read::text(value, what, sink)?;
    if let Err(why) = check_subdomain(&word.value) {
        sink.error(word.pos, format!("{what} {why}"));
        return None;
    }
    Some(word)
}

/// A node's name: a DNS subdomain that also is a host name.
pub(crate) fn node_name(value: &Value, sink: &mut Sink<'_>) -> Option<At<String>> {
    let word = subdomain(value, "the name of a node", sink)?;
    if word.value.len() > MAX_LABEL {
        sink.error(
            word.pos,
            format!("the name of a node may have {MAX_LABEL} characters at most"),
        );
        return None;
    }
    Some(word)
}

/// Whether `name` is a DNS label: lower-case letters, digits and '-', at most 63 bytes.
///
/// # Errors
/// What is wrong, to follow the thing's name: `must consist of ..`.
pub fn check_label(name: &str) -> Result<(), String> {
    if name.contains('.') {
        return Err(format!("must not contain '.': \"{}\"", shorten(name)));
    }
    if name.len() > MAX_LABEL {
        return Err(format!("may have {MAX_LABEL} characters at most"));
    }
    check_subdomain(name)
}

/// Whether `name` is a DNS subdomain: labels joined by '.', at most 253 bytes.
///
/// # Errors
/// What is wrong, to follow the thing's name: `must consist of ..`.
pub fn check_subdomain(name: &str) -> Result<(), String> {
    let good = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if name.len() > MAX_NAME {
        return Err(format!("may have {MAX_NAME} characters at most"));
    }
    if !name.split('.').all(good) {
        return Err(format!(
            "must consist of lower-case letters, digits, '-' and '.' and begin and end with a letter or digit, unlike \"{name}\""
        ));
    }
    Ok(())
}

fn shorten(name: &str) -> String {
    name.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Kubernetes takes and what it refuses.
    #[test]
    fn names_follow_rfc_1123() {
        for good in ["a", "0", "minikube-m02", &"x".repeat(63)] {
            assert_eq!(check_label(good), Ok(()));
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a_b",
            "a b",
            "a.b",
            "\u{e4}",
            &"x".repeat(64),
        ] {
            assert!(check_label(bad).is_err(), "{bad}");
        }
        for good in ["a.b", "node-1.example.com", &"x".repeat(253)] {
            assert_eq!(check_subdomain(good), Ok(()));
        }
        for bad in [".", "a..b", "a.", ".a", "a.-b", &"x".repeat(254)] {
            assert!(check_subdomain(bad).is_err(), "{bad}");
        }
    }
}

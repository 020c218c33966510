//! Kubernetes' quantities: `8M`, `1Gi`, `1.5k`, `2e6`.
//!
//! Source: apimachinery `resource.Quantity`; its `Value` rounds up to a whole number, and so does this.

/// The whole number that `text` stands for, rounded up; none when it is no quantity, is negative, or is beyond 2^64.
pub(super) fn parse(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // So many digits and such factors stay below 2^128.
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > 18 || fraction.contains('.') {
        return None;
    }
    let (factor, divisor) = scale(suffix)?;
    let divisor = divisor * 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let product = digits.parse::<u128>().ok()?.checked_mul(factor)?;
    u64::try_from(product.div_ceil(divisor)).ok()
}

/// What a suffix multiplies and divides by.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    // `E` and `Ei` are suffixes.
    if let Some(exponent) = suffix
        .strip_prefix(['e', 'E'])
        .filter(|e| !matches!(*e, "" | "i"))
    {
        let exponent: i32 = exponent.parse().ok()?;
        let power = 10_u128.checked_pow(exponent.unsigned_abs())?;
        return (exponent.abs() <= 18).then_some(if exponent < 0 {
            (1, power)
        } else {
            (power, 1)
        });
    }
    let decimal = |power| Some((10_u128.pow(power), 1));
    let binary = |power| Some((1_u128 << (10 * power), 1));
    match suffix {
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1000)),
        "" => Some((1, 1)),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_kubernetes() {
        for (text, value) in [
            ("1", 1),
            ("+10M", 10_000_000),
            ("1Gi", 1 << 30),
            ("1.5k", 1500),
            (".5Ki", 512),
            ("2e6", 2_000_000),
            ("1E3", 1000),
            ("25e-1", 3),
            ("1P", 1_000_000_000_000_000),
            ("7Ei", 7 << 60),
            ("1500m", 2),
            ("1n", 1),
            ("0", 0),
            ("5.", 5),
        ] {
            assert_eq!(parse(text), Some(value), "{text}");
        }
        for text in [
            "",
            ".",
            "M",
            "-1",
            "1 M",
            "1K",
            "1mi",
            "1.2.3",
            "1e",
            "e3",
            "1e99",
            "0x10",
            "1_000",
            "16Ei",
            "99999999999999999999",
            "1Mbit",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}

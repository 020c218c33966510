//! Ages and points in time as kubectl prints them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A duration in at most two units: `74s`, `6m54s`, `11m`, `5h3m`, `2d4h`, `400d`.
///
/// Source: `k8s.io/apimachinery/pkg/util/duration.HumanDuration`, whose limits these are.
#[must_use]
pub fn human(age: Duration) -> String {
    let seconds = age.as_secs();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let two = |big: u64, b: char, small: u64, s: char| match small {
        0 => format!("{big}{b}"),
        _ => format!("{big}{b}{small}{s}"),
    };
    if seconds < 120 {
        format!("{seconds}s")
    } else if minutes < 10 {
        two(minutes, 'm', seconds % 60, 's')
    } else if minutes < 180 {
        format!("{minutes}m")
    } else if hours < 8 {
        two(hours, 'h', minutes % 60, 'm')
    } else if hours < 48 {
        format!("{hours}h")
    } else if hours < 192 {
        two(hours / 24, 'd', hours % 24, 'h')
    } else if hours < 24 * 365 * 2 {
        format!("{}d", hours / 24)
    } else if hours < 24 * 365 * 8 {
        two(hours / (24 * 365), 'y', hours / 24 % 365, 'd')
    } else {
        format!("{}y", hours / (24 * 365))
    }
}

/// Age at `now_ms` of something made at `then_ms` (both since the Unix epoch); a time in the future is `0s`.
#[must_use]
pub fn since(then_ms: u64, now_ms: u64) -> String {
    human(Duration::from_millis(now_ms.saturating_sub(then_ms)))
}

/// RFC 3339 in UTC with whole seconds: `2022-03-19T05:25:04Z`.
#[must_use]
pub fn rfc3339(ms: u64) -> String {
    let time: SystemTime = UNIX_EPOCH + Duration::from_millis(ms);
    humantime::format_rfc3339_seconds(time).to_string()
}

/// As Go prints a time: `2022-03-19 05:25:04 +0000 UTC`.
#[must_use]
pub fn go_time(ms: u64) -> String {
    let text = rfc3339(ms);
    let text = text.trim_end_matches('Z').replacen('T', " ", 1);
    format!("{text} +0000 UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_those_of_kubectl_at_and_around_each_limit() {
        let day = 86_400;
        for (seconds, text) in [
            (0, "0s"),
            (74, "74s"),
            (119, "119s"),
            (120, "2m"),
            (122, "2m2s"),
            (414, "6m54s"),
            (599, "9m59s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (10_860, "3h1m"),
            (28_800, "8h"),
            (2 * day - 1, "47h"),
            (2 * day, "2d"),
            (2 * day + 3600, "2d1h"),
            (8 * day, "8d"),
            (365 * 2 * day, "2y"),
            (365 * 2 * day + day, "2y1d"),
            (365 * 8 * day + 5 * day, "8y"),
        ] {
            assert_eq!(human(Duration::from_secs(seconds)), text, "{seconds} s");
        }
    }

    #[test]
    fn a_clock_that_went_back_prints_zero() {
        assert_eq!(since(2000, 1000), "0s");
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(rfc3339(1_647_667_504_999), "2022-03-19T05:25:04Z");
    }
}

//! Round-trip times and losses, and their text as iputils prints it.

use core::fmt;
use std::time::Duration;

/// What a ping has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Echo requests sent, or tried to.
    pub transmitted: u64,
    /// Requests that were answered.
    pub received: u64,
    /// Further answers to answered requests.
    pub duplicates: u64,
    /// ICMP errors about our requests, and requests that could not be sent.
    pub errors: u64,
    /// From the first request to the last.
    pub elapsed: Duration,
    min: Option<Duration>,
    max: Duration,
    sum_us: u128,
    sum_us2: u128,
    answers: u128,
}

impl Statistics {
    /// Counts an answer's time (duplicates too, as iputils does).
    pub fn add_rtt(&mut self, rtt: Duration) {
        self.min = Some(self.min.map_or(rtt, |min| min.min(rtt)));
        self.max = self.max.max(rtt);
        let us = rtt.as_micros();
        self.sum_us += us;
        self.sum_us2 += us * us;
        self.answers += 1;
    }

    /// The shortest time, when there was an answer.
    #[must_use]
    pub fn min(&self) -> Option<Duration> {
        self.min
    }

    /// Share of requests that were not answered, percent.
    #[must_use]
    pub fn loss_percent(&self) -> f64 {
        let lost = self.transmitted.saturating_sub(self.received);
        #[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
        let share = lost as f64 * 100.0 / self.transmitted.max(1) as f64;
        share
    }
}

/// The block under `--- NAME ping statistics ---`, each line with its end.
impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} packets transmitted, {} received",
            self.transmitted, self.received
        )?;
        if self.duplicates > 0 {
            write!(f, ", +{} duplicates", self.duplicates)?;
        }
        if self.errors > 0 {
            write!(f, ", +{} errors", self.errors)?;
        }
        if self.transmitted > 0 {
            write!(f, ", {}% packet loss", General(self.loss_percent()))?;
            write!(f, ", time {}ms", (self.elapsed.as_micros() + 500) / 1000)?;
        }
        f.write_str("\n")?;
        if let Some(min) = self.min {
            let mean = self.sum_us / self.answers;
            let variance = (self.sum_us2 / self.answers).saturating_sub(mean * mean);
            write!(
                f,
                "rtt min/avg/max/mdev = {}/{}/{}/{} ms",
                Millis(min.as_micros()),
                Millis(mean),
                Millis(self.max.as_micros()),
                Millis(variance.isqrt())
            )?;
        }
        f.write_str("\n")
    }
}

/// Microseconds as milliseconds with three digits.
struct Millis(u128);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// C's `%g` for 0 to 100: six significant digits, no zeros at the end.
struct General(f64);

impl fmt::Display for General {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = match self.0 {
            v if v >= 100.0 => 3,
            v if v >= 10.0 => 4,
            v if v >= 1.0 => 5,
            _ => 6,
        };
        let text = format!("{:.digits$}", self.0);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// A round-trip time as it stands on a reply's line: more digits the shorter it is.
#[derive(Clone, Copy, Debug)]
pub struct Rtt(pub Duration);

impl fmt::Display for Rtt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.0.as_micros();
        if us >= 100_000 - 50 {
            write!(f, "{} ms", (us + 500) / 1000)
        } else if us >= 10_000 - 5 {
            write!(f, "{}.{:01} ms", (us + 50) / 1000, (us + 50) % 1000 / 100)
        } else if us >= 1000 {
            write!(f, "{}.{:02} ms", (us + 5) / 1000, (us + 5) % 1000 / 10)
        } else {
            write!(f, "{} ms", Millis(us))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    /// The shapes that iputils gives times of different length.
    #[test]
    fn times_have_as_many_digits_as_iputils_gives_them() {
        let text = |n| Rtt(us(n)).to_string();
        assert_eq!(text(0), "0.000 ms");
        assert_eq!(text(57), "0.057 ms");
        assert_eq!(text(999), "0.999 ms");
        assert_eq!(text(1234), "1.23 ms");
        assert_eq!(text(1235), "1.24 ms");
        assert_eq!(text(9_994), "9.99 ms");
        assert_eq!(text(9_995), "10.0 ms");
        assert_eq!(text(12_345), "12.3 ms");
        assert_eq!(text(99_949), "99.9 ms");
        assert_eq!(text(99_950), "100 ms");
        assert_eq!(text(1_234_567), "1235 ms");
    }

    /// A run without loss.
    #[test]
    fn a_good_run() {
        let mut s = Statistics {
            transmitted: 3,
            received: 3,
            elapsed: us(2_003_400),
            ..Statistics::default()
        };
        for n in [30, 45, 60] {
            s.add_rtt(us(n));
        }
        assert_eq!(
            s.to_string(),
            "3 packets transmitted, 3 received, 0% packet loss, time 2003ms\n\
             rtt min/avg/max/mdev = 0.030/0.045/0.060/0.012 ms\n"
        );
    }

    /// Nothing came back: an empty line stands for the times.
    #[test]
    fn a_lost_run() {
        let s = Statistics {
            transmitted: 2,
            errors: 2,
            elapsed: us(1_002_000),
            ..Statistics::default()
        };
        assert_eq!(
            s.to_string(),
            "2 packets transmitted, 0 received, +2 errors, 100% packet loss, time 1002ms\n\n"
        );
    }

    /// Fractions of a percent have six significant digits; duplicates don't make loss negative.
    #[test]
    fn a_third_is_lost() {
        let mut s = Statistics {
            transmitted: 3,
            received: 2,
            duplicates: 5,
            ..Statistics::default()
        };
        s.add_rtt(us(1000));
        let text = s.to_string();
        let first = text.lines().next().unwrap();
        assert_eq!(
            first,
            "3 packets transmitted, 2 received, +5 duplicates, 33.3333% packet loss, time 0ms"
        );
        assert_eq!(General(0.5).to_string(), "0.5");
        assert_eq!(General(6.25).to_string(), "6.25");
        assert_eq!(General(100.0).to_string(), "100");
    }
}

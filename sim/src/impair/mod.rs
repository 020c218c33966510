//! Impairments of links as users write and read them: `20ms`, `0.1%`, `100mbit`.
//!
//! Decides the units and what makes no sense together. What impairments do is [`tap_bridge::layer::impair`]'s. Units are
//! part of values; a bare number is refused, because for tc a bare time is microseconds and a bare rate is bytes.
//!
//! Source: tc-netem(8), tc(8) "UNITS". Rates are powers of ten, in bits.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tap_bridge::layer::impair::{
    Counters, DEFAULT_LIMIT, Distribution, Impairment, MAX_LIMIT, Probability,
};

#[cfg(test)]
mod tests;

/// Longest delay and jitter.
const LONGEST: Duration = Duration::from_secs(3600);

/// One direction's impairments, as they are handed from process to process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Impair {
    /// Nanoseconds.
    pub delay: u64,
    /// Nanoseconds.
    pub jitter: u64,
    /// Shape of the jitter.
    pub distribution: Shape,
    /// Parts of 2^32 - 1, as all that follow.
    pub loss: u32,
    /// Frames that come twice.
    pub duplicate: u32,
    /// Frames with a wrong bit.
    pub corrupt: u32,
    /// Frames that overtake.
    pub reorder: u32,
    /// Bits per second; 0 is no limit.
    pub rate: u64,
    /// Frames that may wait.
    pub limit: u32,
    /// Where random numbers begin.
    pub seed: u64,
}

impl Default for Impair {
    fn default() -> Self {
        Self {
            delay: 0,
            jitter: 0,
            distribution: Shape::Uniform,
            loss: 0,
            duplicate: 0,
            corrupt: 0,
            reorder: 0,
            rate: 0,
            limit: DEFAULT_LIMIT,
            seed: 0,
        }
    }
}

/// How jitter is distributed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Evenly.
    #[default]
    Uniform,
    /// Around the delay.
    Normal,
    /// Seldom, but far.
    Pareto,
}

impl Shape {
    /// All, with their names.
    pub const CHOICES: [(&str, Self); 3] = [
        ("uniform", Self::Uniform),
        ("normal", Self::Normal),
        ("pareto", Self::Pareto),
    ];
}

/// Both directions of a port, as its router sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkImpair {
    /// What the router receives.
    pub rx: Impair,
    /// What it sends.
    pub tx: Impair,
    /// Nothing passes, as if the cable were cut.
    #[serde(default)]
    pub down: bool,
}

impl LinkImpair {
    /// For the data plane: what the router receives, and what it sends.
    #[must_use]
    pub fn directions(&self) -> (Impairment, Impairment) {
        let one = |impair: &Impair| match self.down {
            true => Impairment {
                loss: Probability::ALWAYS,
                ..impair.impairment()
            },
            false => impair.impairment(),
        };
        (one(&self.rx), one(&self.tx))
    }
}

/// Where the frames of one direction ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImpairCounts {
    /// That came.
    pub received: u64,
    /// Copies and segments that were made.
    pub made: u64,
    /// That went on.
    pub sent: u64,
    /// Lost on purpose.
    pub lost: u64,
    /// Dropped because too many waited.
    pub dropped: u64,
    /// With a bit wrong.
    pub corrupted: u64,
    /// That overtook others.
    pub reordered: u64,
    /// Copies among those made.
    pub duplicated: u64,
    /// That wait now.
    pub held: u64,
}

impl ImpairCounts {
    /// True when every frame is in exactly one place.
    #[must_use]
    pub fn is_conserved(&self) -> bool {
        self.received + self.made == self.sent + self.lost + self.dropped + self.held
    }
}

impl From<Counters> for ImpairCounts {
    fn from(c: Counters) -> Self {
        Self {
            received: c.received,
            made: c.duplicated + c.split,
            sent: c.sent,
            lost: c.lost,
            dropped: c.dropped,
            corrupted: c.corrupted,
            reordered: c.reordered,
            duplicated: c.duplicated,
            held: c.held,
        }
    }
}

impl Impair {
    /// For the data plane.
    #[must_use]
    pub fn impairment(&self) -> Impairment {
        Impairment {
            delay: Duration::from_nanos(self.delay),
            jitter: Duration::from_nanos(self.jitter),
            distribution: match self.distribution {
                Shape::Uniform => Distribution::Uniform,
                Shape::Normal => Distribution::Normal,
                Shape::Pareto => Distribution::Pareto,
            },
            loss: Probability(self.loss),
            duplicate: Probability(self.duplicate),
            corrupt: Probability(self.corrupt),
            reorder: Probability(self.reorder),
            rate: self.rate,
            limit: self.limit.clamp(1, MAX_LIMIT),
            seed: self.seed,
        }
    }

    /// True when frames pass untouched.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.impairment().is_none()
    }

    /// What makes no sense in it; tc says the same of the same.
    ///
    /// # Errors
    /// A sentence.
    pub fn check(&self) -> Result<(), String> {
        if self.reorder != 0 && self.delay == 0 && self.jitter == 0 {
            return Err("reordering is not possible without a delay".to_owned());
        }
        if self.distribution != Shape::Uniform && self.jitter == 0 {
            return Err("a distribution wants a jitter to distribute".to_owned());
        }
        Ok(())
    }

    /// In tc's words; empty for none.
    #[must_use]
    pub fn words(&self) -> String {
        let mut words = Vec::new();
        if self.delay != 0 || self.jitter != 0 {
            let mut text = format!("delay {}", show_time(self.delay));
            if self.jitter != 0 {
                text += &format!(" jitter {}", show_time(self.jitter));
            }
            let shapes = Shape::CHOICES.iter();
            let shape = shapes
                .filter(|(_, shape)| *shape == self.distribution)
                .map(|(name, _)| *name);
            if self.distribution != Shape::Uniform {
                text += &format!(" distribution {}", shape.collect::<String>());
            }
            words.push(text);
        }
        for (name, value) in [
            ("loss", self.loss),
            ("duplicate", self.duplicate),
            ("corrupt", self.corrupt),
            ("reorder", self.reorder),
        ] {
            if value != 0 {
                words.push(format!("{name} {}", show_percent(value)));
            }
        }
        if self.rate != 0 {
            words.push(format!("rate {}", show_rate(self.rate)));
        }
        if !words.is_empty() && self.limit != DEFAULT_LIMIT {
            words.push(format!("limit {}", self.limit));
        }
        if !words.is_empty() && self.seed != 0 {
            words.push(format!("seed {}", self.seed));
        }
        words.join(" ")
    }
}

/// Number and unit of a value.
fn split(text: &str) -> Option<(f64, &str)> {
    let at = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number: f64 = text[..at].parse().ok()?;
    Some((number, &text[at..]))
}

fn whole(number: f64) -> u64 {
    // Bounded by the callers; the cast saturates.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "casts of floats saturate"
    )]
    let whole = number.round() as u64;
    whole
}

/// `20ms`, in nanoseconds.
///
/// # Errors
/// A sentence.
pub fn time(text: &str) -> Result<u64, String> {
    const WANTED: &str = "a time with a unit: ns, us, ms or s (20ms)";
    let (number, unit) = split(text).ok_or(WANTED)?;
    let factor = match unit {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return Err(WANTED.to_owned()),
    };
    let nanos = whole(number * factor);
    if Duration::from_nanos(nanos) > LONGEST {
        return Err("an hour at most".to_owned());
    }
    Ok(nanos)
}

/// `0.1%`, in parts of 2^32 - 1.
///
/// # Errors
/// A sentence.
pub fn percent(text: &str) -> Result<u32, String> {
    match split(text) {
        Some((number, "%")) if (0.0..=100.0).contains(&number) => {
            Ok(Probability::new(number / 100.0).0)
        }
        _ => Err("a percentage from 0% to 100% (0.1%)".to_owned()),
    }
}

/// `100mbit`, in bits per second.
///
/// # Errors
/// A sentence.
pub fn rate(text: &str) -> Result<u64, String> {
    const WANTED: &str = "a rate with a unit: bit, kbit, mbit, gbit or tbit (100mbit)";
    let (number, unit) = split(text).ok_or(WANTED)?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "bit" => 1.0,
        "kbit" => 1e3,
        "mbit" => 1e6,
        "gbit" => 1e9,
        "tbit" => 1e12,
        _ => return Err(WANTED.to_owned()),
    };
    let bits = whole(number * factor);
    if bits == 0 && number != 0.0 || bits > 1_000_000_000_000_000 {
        return Err("from 1bit to 1000tbit, or 0bit for none".to_owned());
    }
    Ok(bits)
}

/// In the largest unit that leaves no fraction longer than needed.
fn show(value: u64, units: &[(&str, u64)]) -> String {
    let fitting = units.iter().find(|(_, size)| value >= *size);
    let (unit, size) = fitting.or_else(|| units.last()).copied().unwrap_or(("", 1));
    let (whole, rest) = (value / size, value % size);
    if rest == 0 {
        return format!("{whole}{unit}");
    }
    let digits = size.ilog10() as usize;
    let fraction = format!("{rest:0digits$}");
    format!("{whole}.{}{unit}", fraction.trim_end_matches('0'))
}

fn show_time(nanos: u64) -> String {
    show(
        nanos,
        &[
            ("s", 1_000_000_000),
            ("ms", 1_000_000),
            ("us", 1000),
            ("ns", 1),
        ],
    )
}

fn show_rate(bits: u64) -> String {
    let units = [
        ("tbit", 1_000_000_000_000),
        ("gbit", 1_000_000_000),
        ("mbit", 1_000_000),
        ("kbit", 1000),
        ("bit", 1),
    ];
    show(bits, &units)
}

fn show_percent(parts: u32) -> String {
    let percent = Probability(parts).of_one() * 100.0;
    let text = format!("{percent:.5}");
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

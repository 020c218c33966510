//! Random numbers of an impairment: the same seed, the same numbers.
//!
//! SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014). Not for secrets.

use std::time::Duration;

use super::{Distribution, Probability};

/// How far from the mean a distribution reaches, in standard deviations: netem's tables hold 16-bit numbers of 1/8192.
const REACH: f64 = 4.0;

#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Whether something of this probability happens. Nothing is drawn for what never does, so that switching one
    /// impairment on leaves the numbers of the others alone.
    pub(super) fn happens(&mut self, probability: Probability) -> bool {
        probability != Probability::NEVER && {
            let drawn = self.next() >> 32;
            drawn <= u64::from(probability.0)
        }
    }

    /// A number below `n`, which is not 0.
    pub(super) fn below(&mut self, n: usize) -> usize {
        let product = u128::from(self.next()) * n as u128;
        usize::try_from(product >> 64).unwrap_or(0)
    }

    /// From 0 to 1, without both.
    fn fraction(&mut self) -> f64 {
        // 52 bits fit a float's mantissa, and the half keeps zero away.
        #[expect(clippy::cast_precision_loss, reason = "52 bits are exact")]
        let drawn = (self.next() >> 12) as f64;
        (drawn + 0.5) / (1_u64 << 52) as f64
    }

    /// A delay.
    pub(super) fn delay(
        &mut self,
        mean: Duration,
        jitter: Duration,
        distribution: Distribution,
    ) -> Duration {
        if jitter.is_zero() {
            return mean;
        }
        let deviation = match distribution {
            Distribution::Uniform => self.fraction() * 2.0 - 1.0,
            Distribution::Normal => {
                // Box and Muller.
                let radius = (-2.0 * self.fraction().ln()).sqrt();
                let angle = std::f64::consts::TAU * self.fraction();
                radius * angle.cos()
            }
            Distribution::Pareto => (self.fraction().powf(-1.0 / 3.0) - 1.5) * (4.0 / 3.0),
        };
        let seconds = mean.as_secs_f64() + jitter.as_secs_f64() * deviation.clamp(-REACH, REACH);
        Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
    }
}

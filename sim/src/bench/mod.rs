//! The main figures of the data plane, measured on the machine at hand: `podwire bench`.
//!
//! Decides what is measured and how a figure comes about: [`SAMPLES`] samples per figure, each long enough that a clock
//! tells it, in one thread; the median counts, and the distance between the quartiles says how much the machine did
//! besides. Doesn't print (`cli::bench`), and doesn't compare with others: that is criterion's, in `benches`.
//!
//! The node measured is one that a lab would have: the first of a kindnet cluster of [`NODES`] nodes, as the control plane
//! configures it, all neighbours known. So is its traffic: UDP from a pod to pods of the other nodes.
//!
//! Cost: about [`SAMPLES`] × [`SAMPLE`] per figure, some 100 MB for the large tables, no file that stays, no privilege.

mod node;
mod tables;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cluster::ClusterError;
use crate::lab::Diagnostics;

/// Samples per figure.
pub const SAMPLES: usize = 15;
/// Least length of a sample.
pub const SAMPLE: Duration = Duration::from_millis(12);
/// Nodes of the cluster: about as many as its subnet has addresses for.
pub const NODES: usize = 250;

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What was done, again and again.
    pub name: &'static str,
    /// To what.
    pub of: &'static str,
    /// Nanoseconds for each, the median sample.
    pub nanoseconds: f64,
    /// Distance of the quartiles of the samples, percent of the median.
    pub spread: f64,
}

impl Figure {
    /// How many of them a second has, millions.
    #[must_use]
    pub fn millions_per_second(&self) -> f64 {
        1e3 / self.nanoseconds
    }
}

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The lab that the node is of; a bug.
    #[error("the lab of the benchmark: {0}")]
    Lab(#[from] Diagnostics),
    /// Its control plane; a bug, or no room for temporary files.
    #[error("the cluster of the benchmark: {0}")]
    Cluster(#[from] ClusterError),
    /// The control plane gave the pod no link; a bug.
    #[error("the pod of the benchmark has no link")]
    NoLink,
    /// The router refuses what the control plane made; a bug.
    #[error("the node of the benchmark: {0}")]
    Config(#[from] router_core::ConfigError),
    /// What should have passed did not; a bug.
    #[error("{name}: {passed} of {sent} packets passed")]
    Lost {
        /// The figure.
        name: &'static str,
        /// Packets handed in.
        sent: usize,
        /// Packets that came out.
        passed: usize,
    },
}

/// A figure that is still to be measured.
type Job = Box<dyn FnOnce() -> Result<Figure, BenchError>>;

/// Every measurement in the order in which people read them.
///
/// # Errors
/// See [`BenchError`].
pub fn jobs() -> Result<Vec<Job>, BenchError> {
    let mut jobs = node::jobs()?;
    jobs.extend(tables::jobs());
    Ok(jobs)
}

/// Measures `work`, which does `per_call` of what is counted at each call.
fn measure(
    name: &'static str,
    of: &'static str,
    per_call: usize,
    mut work: impl FnMut(),
) -> Figure {
    // As many calls as a sample is long. The first ones warm caches up, too.
    let mut calls = 1_u32;
    loop {
        let took = time(calls, &mut work);
        if took >= SAMPLE / 2 || calls > 1 << 24 {
            let more = SAMPLE.as_nanos().div_ceil(took.as_nanos().max(1));
            calls = calls.saturating_mul(u32::try_from(more).unwrap_or(1));
            break;
        }
        calls *= 2;
    }
    let mut samples: Vec<f64> = (0..SAMPLES)
        .map(|_| {
            let counted = f64::from(calls) * as_f64(per_call);
            time(calls, &mut work).as_secs_f64() * 1e9 / counted
        })
        .collect();
    samples.sort_by(f64::total_cmp);
    let at = |quarters: usize| samples[quarters * (SAMPLES - 1) / 4];
    Figure {
        name,
        of,
        nanoseconds: at(2),
        spread: (at(3) - at(1)) / at(2) * 100.0,
    }
}

fn time(calls: u32, work: &mut impl FnMut()) -> Duration {
    let began = Instant::now();
    for _ in 0..calls {
        work();
    }
    began.elapsed()
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn as_f64(n: usize) -> f64 {
    n as f64
}

/// xorshift64*: the same addresses in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn next_u32(&mut self) -> u32 {
        let [a, b, c, d, ..] = self.next().to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }
}

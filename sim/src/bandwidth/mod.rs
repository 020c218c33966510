//! Bandwidth limits of pods (CAL-34): what annotations and a conflist's plugin `bandwidth` say.
//!
//! `ingress` is what the pod receives, `egress` what it sends. The annotations of Kubernetes are rates alone; Calico's have
//! the burst as well, and win where both stand. Limits that a conflist states are for all of its pods and leave the
//! annotations without effect. Everything is in bits.
//!
//! A rate without a burst has a burst of 25 ms at that rate, and of 16 KiB at least. A container runtime hands 2^31 - 1 bits
//! to the plugin, so that the first 256 MiB of a pod know no limit; whoever wants that writes it
//! (`qos.projectcalico.org/ingressBurst: "2147483647"`). Annotations work in every network, whether its conflist has the
//! plugin or not.
//!
//! Source: containernetworking/plugins `meta/bandwidth`; Kubernetes `pkg/util/bandwidth` for what is reasonable; Calico
//! `libcalico-go/lib/backend/k8s/conversion` for its annotations.

mod quantity;

use std::collections::BTreeMap;

use indexmap::IndexMap;
use router_core::config::{Rate, Shape};
use serde::{Deserialize, Serialize};

/// Annotations of Kubernetes, ingress and egress.
const KUBERNETES: [&str; 2] = [
    "kubernetes.io/ingress-bandwidth",
    "kubernetes.io/egress-bandwidth",
];
/// Prefix of Calico's annotations.
const CALICO: &str = "qos.projectcalico.org/";
/// Calico's names for rate and burst, ingress and egress.
const CALICO_NAMES: [(&str, &str); 2] = [
    ("ingressBandwidth", "ingressBurst"),
    ("egressBandwidth", "egressBurst"),
];
/// Smallest rate and burst, bits.
const LEAST: u64 = 1000;
/// Largest rate, bits per second.
const MOST: u64 = 1_000_000_000_000_000;
/// Smallest burst where none is stated, bits: ten full frames and a bit.
const LEAST_BURST: u64 = 8 * 16_384;

/// A rate and how far it may be exceeded for a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Bits per second.
    pub rate: u64,
    /// Bits.
    pub burst: u64,
}

impl Limit {
    /// A limit with the burst that goes with its rate.
    #[must_use]
    pub fn of_rate(rate: u64) -> Self {
        Self {
            rate,
            burst: (rate / 40).max(LEAST_BURST).min(most_burst()),
        }
    }

    fn shape(self) -> Rate {
        Rate::of_bits(self.rate, self.burst)
    }
}

/// The largest burst that the plugin takes: it counts bytes in 32 bits.
const fn most_burst() -> u64 {
    8 * (u32::MAX as u64) - 1
}

/// Limits of a pod; none is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// Of what it receives.
    pub ingress: Option<Limit>,
    /// Of what it sends.
    pub egress: Option<Limit>,
}

impl Bandwidth {
    /// True without any limit.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }

    /// As the port of the pod's link has them: the router sends what the pod receives.
    #[must_use]
    pub fn shape(&self) -> Shape {
        Shape {
            rx: self.egress.map(Limit::shape),
            tx: self.ingress.map(Limit::shape),
        }
    }

    /// What a pod's annotations ask for.
    ///
    /// # Errors
    /// By annotation, what is wrong with it.
    pub fn of_annotations(
        annotations: &IndexMap<String, String>,
    ) -> Result<Self, BTreeMap<String, String>> {
        let mut wrong = BTreeMap::new();
        let mut read = |key: String, least: u64, most: u64, unit: &str| {
            let text = annotations.get(&key)?;
            let found = match quantity::parse(text) {
                None => Err(format!(
                    "\"{text}\" is no quantity: a number such as 8M, 500k or 1Gi"
                )),
                Some(bits) if bits < least => {
                    Err(format!("\"{text}\" is unreasonably small (< 1k{unit})"))
                }
                Some(bits) if bits > most => Err(if unit == "bit/s" {
                    format!("\"{text}\" is unreasonably large (> 1P{unit})")
                } else {
                    format!("\"{text}\": a burst cannot be more than 4GB")
                }),
                Some(bits) => Ok(bits),
            };
            found.map_err(|why| wrong.insert(key, why)).ok()
        };
        let mut limits = [None; 2];
        for ((limit, kubernetes), (rate, burst)) in
            limits.iter_mut().zip(KUBERNETES).zip(CALICO_NAMES)
        {
            let of_kubernetes = read(kubernetes.to_owned(), LEAST, MOST, "bit/s");
            let of_calico = read(format!("{CALICO}{rate}"), LEAST, MOST, "bit/s");
            let burst = read(format!("{CALICO}{burst}"), LEAST, most_burst(), "bit");
            *limit = of_calico.or(of_kubernetes).map(|rate| Limit {
                burst: burst.unwrap_or_else(|| Limit::of_rate(rate).burst),
                rate,
            });
        }
        for ((rate, burst), kubernetes) in CALICO_NAMES.into_iter().zip(KUBERNETES) {
            let (rate, burst) = (format!("{CALICO}{rate}"), format!("{CALICO}{burst}"));
            let has = |key: &str| annotations.contains_key(key);
            if has(&burst) && !has(&rate) && !has(kubernetes) {
                let why = format!("a burst without a rate: {kubernetes} or {rate} is missing");
                wrong.insert(burst, why);
            }
        }
        let known = |name: &str| CALICO_NAMES.iter().any(|&(r, b)| r == name || b == name);
        for key in annotations.keys() {
            if key.strip_prefix(CALICO).is_some_and(|name| !known(name)) {
                wrong.insert(key.clone(), "is not in this version".to_owned());
            }
        }
        let [ingress, egress] = limits;
        if wrong.is_empty() {
            Ok(Self { ingress, egress })
        } else {
            Err(wrong)
        }
    }

    /// What the keys of the plugin say, in bits: `ingressRate`, `ingressBurst`, `egressRate`, `egressBurst`.
    ///
    /// # Errors
    /// In the plugin's words.
    pub fn of_plugin(
        [ingress, ingress_burst, egress, egress_burst]: [u64; 4],
    ) -> Result<Self, &'static str> {
        let limit = |rate, burst| match (rate, burst) {
            (0, 0) => Ok(None),
            (_, 0) => Err("if rate is set, burst must also be set"),
            (0, _) => Err("if burst is set, rate must also be set"),
            (1..8, _) | (_, 1..8) => Err("rate and burst are whole bytes at least, 8 bits"),
            (_, burst) if burst > most_burst() => Err("burst cannot be more than 4GB"),
            (rate, burst) => Ok(Some(Limit { rate, burst })),
        };
        Ok(Self {
            ingress: limit(ingress, ingress_burst)?,
            egress: limit(egress, egress_burst)?,
        })
    }
}

#[cfg(test)]
mod tests;

//! Bandwidth limits of a port, as the CNI plugin `bandwidth` sets them.

/// Bandwidth limits of a port, by direction; none passes everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Shape {
    /// Of what the port receives: `egress` of a pod, which Linux shapes on an ifb device.
    pub rx: Option<Rate>,
    /// Of what leaves by the port: `ingress` of a pod.
    pub tx: Option<Rate>,
}

/// A token bucket with a queue (`tc qdisc add .. tbf rate .. burst .. limit ..`). Bytes are those of whole frames, Ethernet
/// header included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Rate {
    /// Bytes per second, at least 1.
    pub rate: u64,
    /// Bytes that may pass at once after a pause, at least 1; a longer frame never passes.
    pub burst: u32,
    /// Bytes that may wait.
    pub limit: u64,
}

impl Rate {
    /// Milliseconds that the plugin lets a frame wait beyond the burst.
    const LATENCY_MS: u64 = 25;

    /// A limit as the CNI plugin `bandwidth` gives it to tbf: it has bits, tbf has bytes, and a queue for 25 ms and the
    /// burst.
    #[must_use]
    pub fn of_bits(rate: u64, burst: u64) -> Self {
        let (rate, burst) = (rate / 8, u32::try_from(burst / 8).unwrap_or(u32::MAX));
        let latency = u128::from(rate) * u128::from(Self::LATENCY_MS) / 1000;
        Self {
            rate,
            burst,
            limit: u64::try_from(latency)
                .unwrap_or(u64::MAX)
                .saturating_add(burst.into()),
        }
    }

    pub(crate) const fn is_sound(&self) -> bool {
        self.rate > 0 && self.burst > 0
    }
}

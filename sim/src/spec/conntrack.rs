//! What a lab file states of connection tracking.
//!
//! Only what is written stands here; the rest is Linux's defaults, or kube-proxy's on nodes with services (NAT-30).

use std::time::Duration;

use indexmap::IndexMap;
use router_core::config::nat::{ConntrackConfig, NatConfig, Target, Timers};
use serde::{Deserialize, Serialize};

/// Options that say something else than the node's programs do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConntrackSpec {
    /// `nf_conntrack_max`
    pub max: Option<u32>,
    /// `nf_conntrack_checksum`
    pub checksum: Option<bool>,
    /// `nf_conntrack_tcp_loose`
    pub tcp_loose: Option<bool>,
    /// `nf_conntrack_tcp_be_liberal`
    pub tcp_be_liberal: Option<bool>,
    /// `nf_conntrack_tcp_max_retrans`
    pub tcp_max_retrans: Option<u8>,
    /// Replies keep a connection alive (RFC 7857); Linux's always do.
    #[serde(default)]
    pub inbound_refresh: Option<bool>,
    /// `--random-fully` on every MASQUERADE.
    #[serde(default)]
    pub random_ports: bool,
    /// Timeouts by the names of [`Timers`].
    pub timeouts: IndexMap<String, Duration>,
}

impl ConntrackSpec {
    /// Sets what is stated.
    pub fn apply(&self, nat: &mut NatConfig) {
        if self.random_ports {
            for rule in nat.chains.iter_mut().flat_map(|chain| &mut chain.rules) {
                if let Target::Masquerade(choice) = &mut rule.target {
                    choice.random_fully = true;
                }
            }
        }
        let config = &mut nat.conntrack;
        config.inbound_refresh = self.inbound_refresh.unwrap_or(config.inbound_refresh);
        config.limit = self.max.unwrap_or(config.limit);
        config.checksum = self.checksum.unwrap_or(config.checksum);
        config.tcp_loose = self.tcp_loose.unwrap_or(config.tcp_loose);
        config.tcp_be_liberal = self.tcp_be_liberal.unwrap_or(config.tcp_be_liberal);
        config.tcp_max_retrans = self.tcp_max_retrans.unwrap_or(config.tcp_max_retrans);
        for (name, timeout) in &self.timeouts {
            if let Some(timer) = config.timers.named_mut(name) {
                *timer = *timeout;
            }
        }
    }

    /// Connections at once.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.max.unwrap_or_else(|| ConntrackConfig::default().limit)
    }
}

/// Timers as kube-proxy sets them on its node.
pub fn kube_proxy(timers: &mut Timers) {
    timers.tcp_established = Duration::from_secs(86_400);
    timers.tcp_close_wait = Duration::from_secs(3600);
}

//! Who masquerades what leaves a kindnet cluster.

use serde::{Deserialize, Serialize};

/// The daemon that masquerades, by its generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MasqAgent {
    /// None does.
    #[default]
    None,
    /// kindnetd's ip-masq-agent with iptables: everything outside the cluster's range (KM-1).
    Iptables,
    /// The newer kindnet with nftables: everything outside the podCIDRs that the nodes have (KM-11).
    Nftables,
}

impl MasqAgent {
    /// As lab files say it.
    pub const CHOICES: [(&'static str, Self); 3] = [
        ("true", Self::Iptables),
        ("false", Self::None),
        ("nftables", Self::Nftables),
    ];
}

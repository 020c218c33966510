//! NetworkPolicy of networking.k8s.io/v1, with defaults filled in.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{LabelSelector, Meta, Protocol};

/// Which way, seen from the pods that a policy selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// To the pods.
    Ingress,
    /// From the pods.
    Egress,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkPolicy {
    /// Name and so on.
    pub meta: Meta,
    /// The pods of its namespace that it isolates.
    pub pod_selector: LabelSelector,
    /// For which directions; defaulted where it was not written (NP-3).
    pub types: Vec<Direction>,
    /// What may reach the pods.
    pub ingress: Vec<PolicyRule>,
    /// What the pods may reach.
    pub egress: Vec<PolicyRule>,
}

impl NetworkPolicy {
    /// The rules of one direction; none where it does not isolate for it.
    #[must_use]
    pub fn rules(&self, direction: Direction) -> Option<&[PolicyRule]> {
        let rules = match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        };
        self.types.contains(&direction).then_some(rules)
    }
}

/// One rule: any of the peers, on any of the ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRule {
    /// `from` or `to`; empty means everybody.
    pub peers: Vec<Peer>,
    /// Empty means every port and protocol.
    pub ports: Vec<PolicyPort>,
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Peer {
    /// Addresses.
    IpBlock(IpBlock),
    /// Pods.
    Pods {
        /// Of these namespaces; none means the policy's own.
        namespaces: Option<LabelSelector>,
        /// With these labels; none means all of them.
        pods: Option<LabelSelector>,
    },
}

/// `ipBlock`
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IpBlock {
    /// Addresses that are meant. An IPv6 block is valid and matches nothing here.
    pub cidr: IpNet,
    /// But for these, which lie within.
    pub except: Vec<IpNet>,
}

/// One of `ports`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PolicyPort {
    /// TCP unless said otherwise.
    pub protocol: Protocol,
    /// None means all ports of the protocol.
    pub port: Option<PortRef>,
    /// End of a range that begins at a numbered `port`.
    pub end_port: Option<u16>,
}

/// A port by number or by the name that containers give it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PortRef {
    /// By number.
    Number(u16),
    /// By name.
    Name(String),
}

//! `podwire trace`: one packet through the lab, as the routers that it met tell it.
//!
//! [`origin`] makes the packet as the source's kernel would (from the model, and says so), [`story`] puts what the node
//! processes recorded in order and says how it ended. The daemon sends and collects; [`view`](crate::view::trace) prints.
//! No step is derived here from configuration: what a node did is what its stages reported.

pub mod origin;
pub mod story;

use std::net::Ipv4Addr;

use router_core::config::nat::Chain;
use router_core::policy::{Judgement, PolicyName};
use router_core::trace::{PortNames, Record, Step};
use router_core::{PortId, Snapshot};
use serde::{Deserialize, Serialize};

use crate::control::node::TracePort;
use crate::control::proto::Target;

/// Longest time that the daemon follows a packet: three neighbours that do not answer, one after the other.
pub const DEADLINE_MS: u64 = 10_000;

/// How long an answer is waited for that nothing announces (a UDP server need not give one).
pub const ANSWER_MS: u64 = 500;

/// The packet that a user wants to follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Who sends it.
    pub from: Target,
    /// Where to.
    pub to: Ipv4Addr,
    /// What it is.
    pub protocol: Protocol,
    /// Source port, of TCP and UDP.
    pub sport: u16,
    /// Destination port, of TCP and UDP.
    pub dport: u16,
    /// Bytes of the whole IPv4 packet.
    pub size: u16,
    /// Time to live.
    pub ttl: u8,
    /// Don't fragment.
    pub df: bool,
}

/// What kind of packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// An echo request.
    #[default]
    Icmp,
    /// A SYN.
    Tcp,
    /// A datagram.
    Udp,
}

/// Where the packet comes from and what the source's kernel does with it before a router sees it. From the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Name of the source as `namespace/pod` or `node/NODE`.
    pub name: String,
    /// Its node.
    pub node: String,
    /// The router's port that it is behind.
    pub port: PortId,
    /// Source address.
    pub src: Ipv4Addr,
    /// What the kernel does, one sentence each.
    pub steps: Vec<String>,
    /// Why the packet never leaves the source.
    pub refused: Option<String>,
}

/// What the numbers in a node's steps stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meanings {
    /// Chains of its nat table, by their number; those that steps name.
    pub chains: Vec<(u32, Chain)>,
    /// Network policies, likewise.
    pub policies: Vec<(u32, PolicyName)>,
}

impl Meanings {
    /// The chain of this number, if a step names it.
    #[must_use]
    pub fn chain(&self, number: u32) -> Option<&Chain> {
        let found = self.chains.iter().find(|(n, _)| *n == number);
        found.map(|(_, chain)| chain)
    }

    /// The policy of this number, if a step names it.
    #[must_use]
    pub fn policy(&self, number: u32) -> Option<&PolicyName> {
        let found = self.policies.iter().find(|(n, _)| *n == number);
        found.map(|(_, policy)| policy)
    }

    /// Learns what `records` name from the configuration that the node had.
    pub fn learn(&mut self, records: &[Record], snapshot: impl FnOnce() -> Option<Snapshot>) {
        let mut chains = Vec::new();
        let mut policies = Vec::new();
        for record in records {
            match record.step {
                Step::NatRule { chain, .. } => chains.push(chain),
                Step::Policy {
                    judgement:
                        Judgement::Allowed { policy, .. }
                        | Judgement::Denied {
                            policy: Some(policy),
                        },
                    ..
                } => policies.push(policy),
                _ => {}
            }
        }
        chains.retain(|number| self.chain(*number).is_none());
        policies.retain(|number| self.policy(*number).is_none());
        if chains.is_empty() && policies.is_empty() {
            return;
        }
        let Some(snapshot) = snapshot() else { return };
        for number in chains {
            if let (Some(chain), None) = (snapshot.nat_chain(number), self.chain(number)) {
                self.chains.push((number, chain.clone()));
            }
        }
        for number in policies {
            let found = PortNames::policy(&snapshot, number);
            if let (Some(policy), None) = (found, self.policy(number)) {
                self.policies.push((number, policy.clone()));
            }
        }
    }
}

/// What one node recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeTrace {
    /// Name of the node; none for what is behind the default gateway.
    pub node: Option<String>,
    /// Its ports.
    pub ports: Vec<TracePort>,
    /// Its rules and policies, as far as steps name them.
    #[serde(default)]
    pub meanings: Meanings,
    /// Its steps, in order.
    pub records: Vec<Record>,
    /// Steps that were not kept.
    pub lost: u64,
    /// It could not be asked to the end: why.
    pub failure: Option<String>,
}

/// Everything that the daemon found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// The source.
    pub origin: Origin,
    /// All nodes of the lab.
    pub nodes: Vec<NodeTrace>,
    /// The deadline passed before everything had ended.
    pub timed_out: bool,
}

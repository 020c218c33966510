//! What the control plane says about NetworkPolicy: part of the [`Snapshot`](crate::Snapshot).
//!
//! Decides nothing. Selectors, namespaces and names of ports are resolved by the control plane; what is left is addresses,
//! protocols and numbers. Sets of addresses are shared between rules, programs between pods, so that a snapshot grows with
//! what differs and not with pods times policies.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use crate::config::PortId;

/// The policies that concern the pods of one node. The default enforces nothing and costs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PolicyConfig {
    /// The node's own pods, isolated or not. Empty when nothing is enforced.
    pub endpoints: Vec<PolicyEndpoint>,
    /// What endpoints refer to by number.
    pub programs: Vec<PolicyProgram>,
    /// What rules refer to by number.
    pub sets: Vec<Vec<AddressRange>>,
    /// The policies that rules and programs refer to by number, for traces.
    pub policies: Vec<PolicyName>,
    /// When this policy set replaces another one, tracked connections that it does not allow end (NP-17). Off: they go on
    /// until they time out, as under Calico and kindnet (NP-16).
    pub flush_on_change: bool,
}

/// A pod of this node. Identity is the port together with the address (NP-26); where only one pod is behind a port, the
/// port alone says who it is, so that a forged source gains nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PolicyEndpoint {
    /// The port that leads to it.
    pub port: PortId,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Number of the program for what goes to it; none where no policy isolates it for ingress.
    pub ingress: Option<u32>,
    /// Number of the program for what comes from it; none where no policy isolates it for egress.
    pub egress: Option<u32>,
}

/// The union of what all policies that select a pod allow in one direction. Without rules nothing is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PolicyProgram {
    /// Numbers of the policies that isolate the pod.
    pub policies: Vec<u32>,
    /// What they allow, in the order of the policies.
    pub rules: Vec<PolicyRule>,
}

/// One `ingress` or `egress` rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PolicyRule {
    /// Number of its policy.
    pub policy: u32,
    /// Its place in that policy's list, from 0.
    pub number: u32,
    /// Who is at the other end.
    pub peers: PolicyPeers,
    /// Any of these; when empty any protocol and port, ICMP included (NP-4).
    pub ports: Vec<PolicyPorts>,
}

/// Who a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum PolicyPeers {
    /// Any address.
    Any,
    /// The addresses of this set.
    Set(u32),
}

/// Destination ports of one protocol. A rule with ports never matches ICMP (NP-8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PolicyPorts {
    /// IP protocol number: 6 TCP, 17 UDP, 132 SCTP.
    pub protocol: u8,
    /// First port, 0 together with `last` 65535 for all of them.
    pub first: u16,
    /// Last port, included.
    pub last: u16,
}

/// Addresses from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct AddressRange {
    /// First.
    pub first: Ipv4Addr,
    /// Last.
    pub last: Ipv4Addr,
}

/// What a policy is called and where it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PolicyName {
    /// `namespace/name`
    pub name: String,
    /// `file:line:column`, where it came from a file.
    pub place: Option<String>,
}

//! Services: from objects and pods to endpoints, and to the rules that kube-proxy's iptables mode would write.
//!
//! Decides which pods stand behind a service (`endpoints`) and what each node does with packets to its addresses and node ports
//! (`rules`). Pure. Doesn't translate packets (`router_core::nat`) nor answer names.
//!
//! Source: kubernetes/pkg/proxy/iptables/proxier.go, whose chains and comments these are. Two things differ: the endpoints of a
//! service are one rule with equal weights, not a chain of `statistic` matches with a chain KUBE-SEP-* for each; and a client
//! that is led to itself is recognized in KUBE-POSTROUTING by its address, as in kube-proxy's ipvs mode.

mod endpoints;
mod names;
mod rules;
mod stale;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

use indexmap::IndexMap;
use ipnet::Ipv4Net;

use crate::kube::{ContainerPort, EndpointSlice, Service};

pub use endpoints::slices;
pub use rules::{append, is_of, node_ports};
pub use stale::stale;

/// A pod as services see it.
#[derive(Clone, Copy, Debug)]
pub struct PodFacts<'a> {
    /// Kubernetes namespace.
    pub namespace: &'a str,
    /// Name.
    pub name: &'a str,
    /// Labels.
    pub labels: &'a IndexMap<String, String>,
    /// Address.
    pub ip: Ipv4Addr,
    /// Name of its node.
    pub node: &'a str,
    /// Its program runs.
    pub ready: bool,
    /// What its containers serve.
    pub ports: &'a [ContainerPort],
}

/// What the rules of one node are made of.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Name of the node.
    pub node: &'a str,
    /// Addresses of all pods: who is outside is masqueraded (SVC-2).
    pub cluster_cidr: Ipv4Net,
    /// All services.
    pub services: &'a [&'a Service],
    /// All slices, those of selectors among them.
    pub slices: &'a [EndpointSlice],
}

//! Host ports: the CNI plugin `portmap`.
//!
//! Decides how a port of a node and a pod's are written (`words`), when two want the same (`conflict`), and which chains of the
//! nat table lead from one to the other (`rules`). Pure. Doesn't translate packets (`router_core::nat`) and doesn't know who is
//! on a node (`cluster/host_ports.rs`).
//!
//! Source: containernetworking/plugins, plugins/meta/portmap, the iptables back end; for conflicts kubernetes/pkg/scheduler,
//! `HostPortInfo`. One thing differs: the chains that all pods of a node share go with the last of them, so that a node is as it
//! was before (INV-7).

mod rules;
#[cfg(test)]
mod tests;
mod words;

use std::net::Ipv4Addr;

use crate::kube::{ContainerPort, HostPort};
use crate::model::Pod;

pub use rules::{Mapped, append, udp_filters};
pub use words::parse;

/// The host port of `wanted` that `taken` has, or part of it: the same protocol and number, on one address or on all (PM-8).
#[must_use]
pub fn conflict<'p>(wanted: &'p ContainerPort, taken: &ContainerPort) -> Option<&'p HostPort> {
    let (ours, theirs) = (wanted.host.as_ref()?, taken.host.as_ref()?);
    let same = ours.port == theirs.port && wanted.protocol == taken.protocol;
    let meet = match (address(ours), address(theirs)) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    };
    (same && meet).then_some(ours)
}

/// Whether a node with these pods has all host ports of `wanted` free.
#[must_use]
pub fn free(wanted: &[ContainerPort], node: &str, pods: &[Pod]) -> bool {
    let here = pods.iter().filter(|pod| pod.node == node);
    let mut taken = here.flat_map(|pod| &pod.ports);
    !taken.any(|taken| wanted.iter().any(|it| conflict(it, taken).is_some()))
}

/// Whether these are the same ports, wherever they were written.
#[must_use]
pub fn same(a: &[ContainerPort], b: &[ContainerPort]) -> bool {
    let plain = |port: &ContainerPort| {
        let host = port.host.as_ref().map(|host| (host.ip, host.port));
        (port.name.clone(), port.port, port.protocol, host)
    };
    a.iter().map(plain).eq(b.iter().map(plain))
}

/// The only address of the node at which it is; none is all of them, which 0.0.0.0 stands for, too.
#[must_use]
pub fn address(host: &HostPort) -> Option<Ipv4Addr> {
    host.ip.filter(|ip| !ip.is_unspecified())
}

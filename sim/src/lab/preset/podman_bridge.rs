//! The preset `podman-bridge`: minikube's machine before a CNI was installed, whose only configuration is the one that podman
//! left there (seed 001). Its network is each node's own: with several nodes pods of different nodes have the same addresses
//! and don't reach each other (MIX-2, minikube#8703).

use super::{Defaults, MINIKUBE, System};
use crate::spec::PodSpec;

pub(super) const DEFAULTS: Defaults = Defaults {
    nodes: 1,
    first_node_host: 6,
    cni_extra_files: &[(".keep", ""), ("87-podman-bridge.conflist", PODMAN_BRIDGE)],
    pod_cidrs: false,
    ..MINIKUBE
};

/// What minikube's image has there, whatever the CNI.
const PODMAN_BRIDGE: &str = include_str!("87-podman-bridge.conflist");

/// coredns on the bridge, the others in the host network.
pub(super) fn system_pods(system: &System<'_>) -> Vec<PodSpec> {
    let mut pods = vec![system.coredns()];
    pods.extend(system.control_plane());
    pods.extend(system.nodes.iter().map(|node| system.kube_proxy(node)));
    pods.push(system.storage_provisioner());
    pods
}

//! The preset `kindnet`: the cluster of seed 000, minikube with kindnet.

use super::{Defaults, MINIKUBE, System};
use crate::spec::{MasqAgent, PodSpec};

pub(super) const DEFAULTS: Defaults = Defaults {
    cni_conf_dir: "/etc/cni/net.mk",
    conflist: crate::conflist::FILE_NAME,
    kind_masq_agent: Some(MasqAgent::Iptables),
    ..MINIKUBE
};

/// coredns with an address of its own, the others in the host network.
pub(super) fn system_pods(system: &System<'_>) -> Vec<PodSpec> {
    let mut pods = Vec::new();
    if system.first.pod_cidr.is_some() {
        pods.push(system.coredns());
    }
    pods.extend(system.control_plane());
    pods.extend(system.daemons("kindnet", &[("app", "kindnet"), ("k8s-app", "kindnet")]));
    pods.push(system.storage_provisioner());
    pods
}

//! The preset `calico`: the cluster of seed 001, minikube with Calico and IPIP.

use super::{Defaults, MINIKUBE, System, pod};
use crate::conflist;
use crate::spec::{CalicoSpec, IpipMode, PodSpec};

pub(super) const DEFAULTS: Defaults = Defaults {
    first_node_host: 6,
    conflist: conflist::CALICO_FILE_NAME,
    cni_extra_files: &[
        (".keep", ""),
        ("87-podman-bridge.conflist", PODMAN_BRIDGE),
        ("calico-kubeconfig", KUBECONFIG),
    ],
    calico: Some(CalicoSpec {
        block_size: 26,
        ipip_mode: IpipMode::Always,
        nat_outgoing: true,
        strict_affinity: false,
        max_blocks_per_host: 20,
        mtu: None,
    }),
    ..MINIKUBE
};

/// What minikube's image has there, whatever the CNI.
const PODMAN_BRIDGE: &str = include_str!("87-podman-bridge.conflist");

/// What Calico's install-cni writes for its plugin, without the token.
const KUBECONFIG: &str = "# Kubeconfig file for Calico CNI plugin.
apiVersion: v1
kind: Config
clusters:
- name: local
  cluster:
    server: https://10.96.0.1:443
users:
- name: calico
contexts:
- name: calico-context
  context:
    cluster: local
    user: calico
current-context: calico-context
";

/// coredns and calico-kube-controllers, which are older than Calico's configuration and so are on the podman bridge (MIX-1);
/// the others are in the host network.
pub(super) fn system_pods(system: &System<'_>) -> Vec<PodSpec> {
    let name = format!(
        "calico-kube-controllers-8594699699-{}",
        system.random("calico")
    );
    let labels = [("k8s-app", "calico-kube-controllers")];
    let controllers = pod(name, system.first, false, &labels);
    let mut pods: Vec<PodSpec> = [system.coredns(), controllers]
        .into_iter()
        .map(|pod| PodSpec {
            cni: Some("87-podman-bridge.conflist".to_owned()),
            ..pod
        })
        .collect();
    pods.extend(system.control_plane());
    pods.extend(system.daemons("calico-node", &[("k8s-app", "calico-node")]));
    pods.push(system.storage_provisioner());
    pods
}

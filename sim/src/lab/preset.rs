//! What the preset `kindnet` stands for: the cluster of seed 000, minikube with kindnet.
//!
//! Decides the values that a lab does not state, and the pods that every such cluster has in `kube-system`. Other layouts
//! (kind's, minikube with the docker driver) are lab files that state their differences.

use std::net::Ipv4Addr;

use indexmap::IndexMap;
use ipnet::Ipv4Net;

use crate::cluster::suffix;
use crate::spec::{NodeSpec, PodSpec, RestartPolicy};

pub(super) const NAME: &str = "kindnet";

/// Presets that are known by name and not made yet.
pub(super) const LATER: [&str; 3] = ["calico", "podman-bridge", "manual"];

pub(super) const NODES: usize = 3;
pub(super) const CLUSTER_CIDR: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 0, 0), 16);
pub(super) const NODE_MASK: u8 = 24;
pub(super) const NODE_SUBNET: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 30, 0), 24);
/// The gateway is the first address of the node subnet, the first node has the third.
pub(super) const GATEWAY_HOST: u32 = 1;
pub(super) const FIRST_NODE_HOST: u32 = 3;
pub(super) const DHCP_METRIC: u32 = 1024;
pub(super) const DHCP_LEASE_SECS: u32 = 86_400;
pub(super) const MTU: u16 = 1500;
pub(super) const POD_IFINDEX: u32 = 4;
pub(super) const CNI_CONF_DIR: &str = "/etc/cni/net.mk";
pub(super) const INTERNET: [Ipv4Addr; 2] = [Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(1, 1, 1, 1)];
/// A pod sees the seed's 115.
pub(super) const INTERNET_TTL: u8 = 116;

/// minikube's name of node number `n`, from 0.
pub(super) fn node_name(n: usize) -> String {
    if n == 0 {
        "minikube".to_owned()
    } else {
        format!("minikube-m{:02}", n + 1)
    }
}

/// The pods of `kube-system`: coredns with an address of its own, the others in the host network. The suffixes that
/// Kubernetes draws come from the lab's seed.
pub(super) fn system_pods(nodes: &[NodeSpec], seed: u64) -> Vec<PodSpec> {
    let mut pods = Vec::new();
    let Some(first) = nodes
        .iter()
        .find(|node| node.control_plane)
        .or_else(|| nodes.first())
    else {
        return pods;
    };
    let random = |key: &str| suffix(seed, key, 5);
    // The middle part is the hash of the deployment's template, the same for everybody with that version.
    let coredns = format!("coredns-64897985d-{}", random("coredns"));
    if first.pod_cidr.is_some() {
        pods.push(pod(coredns, first, false, &[("k8s-app", "kube-dns")]));
    }
    for node in nodes.iter().filter(|node| node.control_plane) {
        for component in [
            "etcd",
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
        ] {
            let name = format!("{component}-{}", node.name);
            let labels = [("component", component), ("tier", "control-plane")];
            pods.push(pod(name, node, true, &labels));
        }
    }
    for node in nodes {
        let key = |what: &str| random(&format!("{what}/{}", node.name));
        let name = format!("kindnet-{}", key("kindnet"));
        let labels = [("app", "kindnet"), ("k8s-app", "kindnet")];
        pods.push(pod(name, node, true, &labels));
        let name = format!("kube-proxy-{}", key("kube-proxy"));
        pods.push(pod(name, node, true, &[("k8s-app", "kube-proxy")]));
    }
    let labels = [("integration-test", "storage-provisioner")];
    pods.push(pod("storage-provisioner".to_owned(), first, true, &labels));
    pods
}

fn pod(name: String, node: &NodeSpec, host_network: bool, labels: &[(&str, &str)]) -> PodSpec {
    PodSpec {
        namespace: "kube-system".to_owned(),
        name,
        node: node.name.clone(),
        labels: labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        host_network,
        ip: None,
        mac: None,
        command: None,
        env: IndexMap::new(),
        restart: RestartPolicy::Always,
        declared_at: None,
    }
}

//! What a preset stands for: the values that a lab does not state, and the pods that every such cluster has.
//!
//! One file per preset, with its seed; here is what they have in common. Other layouts (kind's, minikube with the docker
//! driver) are lab files that state their differences.

mod calico;
mod kindnet;
mod manual;
mod podman_bridge;
mod services;

use std::net::Ipv4Addr;

pub(super) use services::system_services;

use indexmap::IndexMap;
use ipnet::Ipv4Net;

use crate::cluster::suffix;
use crate::spec::{CalicoSpec, MasqAgent, NodeSpec, PodSpec, Preset, RestartPolicy};

/// What a lab does not have to say.
#[derive(Clone, Debug)]
pub(super) struct Defaults {
    pub(super) nodes: usize,
    pub(super) cluster_cidr: Ipv4Net,
    /// Prefix length of the nodes' podCIDRs.
    pub(super) node_mask: u8,
    pub(super) node_subnet: Ipv4Net,
    /// Which address of the node subnet the gateway has.
    pub(super) gateway_host: u32,
    /// Which address of the node subnet the first node has.
    pub(super) first_node_host: u32,
    pub(super) dhcp_metric: u32,
    pub(super) dhcp_lease_secs: u32,
    pub(super) mtu: u16,
    pub(super) docker0: bool,
    pub(super) sit0: bool,
    /// Interface index of eth0 in pods.
    pub(super) pod_ifindex: u32,
    pub(super) cni_conf_dir: &'static str,
    /// Name of the file that the CNI itself writes there; empty when there is none.
    pub(super) conflist: &'static str,
    /// What lies there besides: name and content.
    pub(super) cni_extra_files: &'static [(&'static str, &'static str)],
    /// The nodes' eth0 has its address from a DHCP server.
    pub(super) dhcp: bool,
    /// Nodes have podCIDRs.
    pub(super) pod_cidrs: bool,
    pub(super) internet: [Ipv4Addr; 2],
    pub(super) internet_ttl: u8,
    /// Whether nodes have kindnetd's ip-masq-agent; none where they can't have it.
    pub(super) kind_masq_agent: Option<MasqAgent>,
    /// With the preset of that name.
    pub(super) calico: Option<CalicoSpec>,
}

/// What all of minikube's clusters have, whatever their CNI.
const MINIKUBE: Defaults = Defaults {
    nodes: 3,
    cluster_cidr: Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 0, 0), 16),
    node_mask: 24,
    node_subnet: Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 30, 0), 24),
    gateway_host: 1,
    first_node_host: 3,
    dhcp_metric: 1024,
    dhcp_lease_secs: 86_400,
    mtu: 1500,
    docker0: true,
    sit0: true,
    pod_ifindex: 4,
    cni_conf_dir: "/etc/cni/net.d",
    conflist: "",
    cni_extra_files: &[],
    dhcp: true,
    pod_cidrs: true,
    internet: [Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(1, 1, 1, 1)],
    // A pod sees the seeds' 115.
    internet_ttl: 116,
    kind_masq_agent: None,
    calico: None,
};

/// The values of a preset.
pub(super) const fn defaults(preset: Preset) -> Defaults {
    match preset {
        Preset::Kindnet => kindnet::DEFAULTS,
        Preset::PodmanBridge => podman_bridge::DEFAULTS,
        Preset::Calico => calico::DEFAULTS,
        Preset::Manual => manual::DEFAULTS,
    }
}

/// minikube's name of node number `n`, from 0.
pub(super) fn node_name(n: usize) -> String {
    if n == 0 {
        "minikube".to_owned()
    } else {
        format!("minikube-m{:02}", n + 1)
    }
}

/// The pods of `kube-system`. The suffixes that Kubernetes draws come from the lab's seed.
pub(super) fn system_pods(preset: Preset, nodes: &[NodeSpec], seed: u64) -> Vec<PodSpec> {
    let Some(first) = nodes
        .iter()
        .find(|node| node.control_plane)
        .or_else(|| nodes.first())
    else {
        return Vec::new();
    };
    let system = System { nodes, first, seed };
    match preset {
        Preset::Kindnet => kindnet::system_pods(&system),
        Preset::PodmanBridge => podman_bridge::system_pods(&system),
        Preset::Calico => calico::system_pods(&system),
        Preset::Manual => Vec::new(),
    }
}

/// The cluster that gets its `kube-system` pods.
struct System<'a> {
    nodes: &'a [NodeSpec],
    /// Where pods of deployments stand: the control plane's first node.
    first: &'a NodeSpec,
    seed: u64,
}

impl System<'_> {
    /// Five characters as Kubernetes draws them.
    fn random(&self, key: &str) -> String {
        suffix(self.seed, key, 5)
    }

    /// A pod of the coredns deployment. The middle part of its name is the hash of the deployment's template, the same for
    /// everybody with that version.
    fn coredns(&self) -> PodSpec {
        let name = format!("coredns-64897985d-{}", self.random("coredns"));
        pod(name, self.first, false, &[("k8s-app", "kube-dns")])
    }

    /// The static pods of the control plane's nodes, in the host network.
    fn control_plane(&self) -> Vec<PodSpec> {
        let mut pods = Vec::new();
        for node in self.nodes.iter().filter(|node| node.control_plane) {
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
        pods
    }

    /// On each node a pod of the CNI's daemon set, which is called and labelled `cni`, and kube-proxy.
    fn daemons(&self, cni: &str, labels: &[(&str, &str)]) -> Vec<PodSpec> {
        let mut pods = Vec::new();
        for node in self.nodes {
            let key = |what: &str| self.random(&format!("{what}/{}", node.name));
            let name = format!("{cni}-{}", key(cni));
            pods.push(pod(name, node, true, labels));
            pods.push(self.kube_proxy(node));
        }
        pods
    }

    fn kube_proxy(&self, node: &NodeSpec) -> PodSpec {
        let random = self.random(&format!("kube-proxy/{}", node.name));
        let name = format!("kube-proxy-{random}");
        pod(name, node, true, &[("k8s-app", "kube-proxy")])
    }

    fn storage_provisioner(&self) -> PodSpec {
        let labels = [("integration-test", "storage-provisioner")];
        pod("storage-provisioner".to_owned(), self.first, true, &labels)
    }
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
        cni: None,
        link: None,
        ip: None,
        mac: None,
        command: None,
        env: IndexMap::new(),
        restart: RestartPolicy::Always,
        ..PodSpec::default()
    }
}

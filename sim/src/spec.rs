//! The resolved lab: what the engine builds, with nothing left to guess (law 8).
//!
//! `lab/` turns what the user wrote (file, preset, flags, manifests) into these types or into errors with positions.
//! Everything here is checked: names are unique and valid, addresses lie in their subnets, podCIDRs don't overlap.

mod conntrack;
mod masq;
mod uplink;

use std::net::Ipv4Addr;

use indexmap::IndexMap;
use ipnet::Ipv4Net;
use router_core::Mac;
use router_core::config::RpFilter;
use serde::{Deserialize, Serialize};

use crate::bandwidth::Bandwidth;
use crate::impair::{Impair, LinkImpair};
use crate::kube::{self, ContainerPort};
use crate::model::PodRoute;

pub use conntrack::{ConntrackSpec, kube_proxy};
pub use masq::MasqAgent;
pub use uplink::UplinkSpec;

/// How pods are made and packets get in and out (decision 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Pods are network namespaces with a TAP eth0; programs run in them.
    Tap,
    /// Pods are network namespaces whose eth0 is a veth, with a packet socket at the router's end; programs run in them. For
    /// hosts without a tun device.
    Packet,
    /// Pods are smoltcp stacks inside the node processes; no privileges at all.
    Inproc,
}

impl Backend {
    /// Pods are network namespaces, so that programs run in them.
    #[must_use]
    pub const fn has_namespaces(self) -> bool {
        matches!(self, Self::Tap | Self::Packet)
    }
}

/// Which CNI the lab imitates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// ptp + host-local + static routes, as kindnetd sets them.
    Kindnet,
    /// bridge + host-local, as podman's conflist sets them.
    PodmanBridge,
    /// IPIP tunnels, blocks of addresses and BIRD's routes, as Calico sets them.
    Calico,
    /// None: interfaces, links and routes as the lab file says.
    Manual,
}

impl Preset {
    /// All of them, the default first.
    pub const ALL: [Self; 4] = [
        Self::Kindnet,
        Self::Calico,
        Self::PodmanBridge,
        Self::Manual,
    ];

    /// The word for it, as `--preset` takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kindnet => "kindnet",
            Self::PodmanBridge => "podman-bridge",
            Self::Calico => "calico",
            Self::Manual => "manual",
        }
    }

    /// The preset with that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.name() == name)
    }
}

/// A whole lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabSpec {
    /// Name, a DNS label.
    pub name: String,
    /// Which CNI.
    pub preset: Preset,
    /// Seeds every random choice (veth names, MACs), so that a lab can be repeated.
    pub seed: u64,
    /// What all nodes share.
    pub network: NetworkSpec,
    /// The nodes, in order.
    pub nodes: Vec<NodeSpec>,
    /// The pods, in order of creation.
    pub pods: Vec<PodSpec>,
    /// Whether network policies have an effect.
    pub policy: PolicyMode,
    /// Whether the kernels of pods may leave checksums and segmentation to the routers.
    #[serde(default = "offload_by_default")]
    pub offload: bool,
    /// Workers of each node, at least 1.
    #[serde(default = "workers_by_default")]
    pub workers: usize,
    /// Namespaces, network policies, services, endpoint slices, in the order in which they were written.
    pub objects: Vec<kube::Object>,
}

fn offload_by_default() -> bool {
    true
}

fn workers_by_default() -> usize {
    1
}

/// Whether network policies have an effect. kindnet of the seeds' time stores them and enforces nothing, Calico enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyMode {
    /// They are enforced.
    Enforce,
    /// They are stored and have no effect.
    Ignore,
}

impl PolicyMode {
    /// As lab files and flags say it.
    pub const CHOICES: [(&'static str, Self); 2] =
        [("enforce", Self::Enforce), ("ignore", Self::Ignore)];
}

impl Preset {
    /// Whether its CNI enforces network policies.
    #[must_use]
    pub fn network_policy(self) -> PolicyMode {
        if self.name() == "calico" {
            PolicyMode::Enforce
        } else {
            PolicyMode::Ignore
        }
    }
}

/// Parameters that all nodes share (decision 21).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Addresses of all pods.
    pub cluster_cidr: Ipv4Net,
    /// Addresses of services.
    #[serde(default = "default_service_cidr")]
    pub service_cidr: Ipv4Net,
    /// The underlay's subnet (172.16.30.0/24 in seed 000).
    pub node_subnet: Ipv4Net,
    /// The nodes' default route, if they have one.
    pub gateway: Option<GatewaySpec>,
    /// MTU of the nodes' eth0, bytes; kindnet gives it to the pods as well (PTP-3).
    pub mtu: u16,
    /// Whether nodes show a docker0 without ports.
    pub docker0: bool,
    /// Whether nodes show a sit0 that is down.
    pub sit0: bool,
    /// Interface index of eth0 in pods: 4 in seed 000, 3 in seed 002, 2 in seed 003.
    pub pod_ifindex: u32,
    /// Whether interfaces carry IPv6 link-local addresses (seed 003) or have IPv6 switched off (seed 000).
    pub ipv6_link_local: bool,
    /// Lease time that eth0's address shows as `valid_lft`, seconds from the lab's start; none prints `forever`.
    pub dhcp_lease_secs: Option<u32>,
    /// Directory of CNI configuration inside a node: `/etc/cni/net.d`, minikube's is `/etc/cni/net.mk`.
    pub cni_conf_dir: String,
    /// Other files that lie in that directory, empty or not: name and content (seed 003's disabled conflists).
    pub cni_extra_files: IndexMap<String, String>,
    /// Whether kindnetd's routes of vanished nodes stay for ever, as upstream leaves them (KND-3, D8).
    pub stale_routes_compat: bool,
    /// Whether nodes masquerade what leaves the cluster, and which kindnet's way (section 4.6).
    #[serde(default)]
    pub kind_masq_agent: MasqAgent,
    /// Whether the nodes' nat tables show the name server of Docker's networks, as the nodes of kind have it (seed 002).
    #[serde(default)]
    pub docker_dns: bool,
    /// Whether a changed policy ends connections that it does not allow (NP-17); else they end by themselves.
    #[serde(default)]
    pub flush_on_policy_change: bool,
    /// How nodes track connections, where that is stated.
    #[serde(default)]
    pub conntrack: ConntrackSpec,
    /// What answers behind the gateway.
    pub internet: Option<InternetSpec>,
    /// Calico's IPPool and what goes with it; with the preset of that name, and only with it.
    pub calico: Option<CalicoSpec>,
    /// Limits that the conflist has for every pod.
    #[serde(default)]
    pub bandwidth: Bandwidth,
    /// What is done to every frame between nodes.
    #[serde(default)]
    pub impairments: Impair,
}

/// Calico's IPPool, IPAMConfig and MTU. The pool's addresses are the cluster's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalicoSpec {
    /// Prefix length of the blocks that nodes claim.
    pub block_size: u8,
    /// When packets between nodes are tunnelled.
    pub ipip_mode: IpipMode,
    /// Packets from pods to addresses outside the pool get the node's address.
    pub nat_outgoing: bool,
    /// Nodes stay within their own blocks.
    pub strict_affinity: bool,
    /// How many blocks a node may have.
    pub max_blocks_per_host: u32,
    /// MTU of pods; none is the smallest of the hosts', less the tunnel's header (CAL-28).
    pub mtu: Option<u16>,
}

impl CalicoSpec {
    /// MTU of tunl0 where eth0 has `host`, bytes: less the outer header, if any pool uses it.
    #[must_use]
    pub const fn tunnel_mtu(&self, host: u16) -> u16 {
        match self.ipip_mode {
            IpipMode::Always | IpipMode::CrossSubnet => host.saturating_sub(20),
            IpipMode::Never => host,
        }
    }

    /// MTU of pods where eth0 has `host`, bytes.
    #[must_use]
    pub fn pod_mtu(&self, host: u16) -> u16 {
        self.mtu.unwrap_or_else(|| self.tunnel_mtu(host))
    }
}

/// Calico's ipipMode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpipMode {
    /// All peers by tunl0.
    Always,
    /// Peers in another subnet by tunl0, neighbours as they are.
    CrossSubnet,
    /// No tunnel at all.
    Never,
}

impl IpipMode {
    /// All of them, the default first.
    pub const ALL: [Self; 3] = [Self::Always, Self::CrossSubnet, Self::Never];

    /// As Calico writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::CrossSubnet => "CrossSubnet",
            Self::Never => "Never",
        }
    }
}

/// An interface of a node as a hand-made lab declares it: eth0, a bridge, or the node's end of a host's link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceSpec {
    /// Name.
    pub name: String,
    /// A bridge that comes with the node; the others are there.
    pub bridge: bool,
    /// MAC; none leaves the one drawn by the seed.
    pub mac: Option<Mac>,
    /// MTU, bytes.
    pub mtu: Option<u16>,
    /// Addresses, added to those that it has.
    pub addresses: Vec<Ipv4Net>,
    /// Administratively up.
    pub up: bool,
    /// `proxy_arp`
    pub proxy_arp: bool,
    /// `rp_filter`
    pub rp_filter: RpFilter,
    /// `hairpin` of a bridge's port.
    pub hairpin: bool,
}

/// The link of a host of a hand-made lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkSpec {
    /// Name in the host.
    pub name: String,
    /// Name on the node; none is drawn by the seed.
    pub peer: Option<String>,
    /// The bridge that it leads to; none is the node itself.
    pub bridge: Option<String>,
    /// Address in the host.
    pub address: Option<Ipv4Net>,
    /// MTU of both ends, bytes.
    pub mtu: Option<u16>,
    /// Routes in the host.
    pub routes: Vec<PodRoute>,
}

/// The CNI plugin `bridge` with host-local, as a conflist states them (BR-12 to BR-17).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeNetwork {
    /// Name of the network: host-local's directory.
    pub name: String,
    /// Name of the bridge.
    pub bridge: String,
    /// The bridge has the gateway's address.
    pub is_gateway: bool,
    /// And pods have their default route by it.
    pub is_default_gateway: bool,
    /// An address that the bridge has already is replaced rather than refused (BR-14).
    pub force_address: bool,
    /// What leaves the pods' subnet gets the node's address (KM-12).
    pub ip_masq: bool,
    /// `hairpin` of the bridge's ports.
    pub hairpin: bool,
    /// The bridge is PROMISC.
    pub promisc: bool,
    /// MTU of pods and bridge; none leaves the kernel's 1500.
    pub mtu: Option<u16>,
    /// Addresses of the pods.
    pub subnet: Ipv4Net,
    /// First address that host-local gives; none is the subnet's first.
    pub first: Option<Ipv4Addr>,
    /// Last address that host-local gives; none is the one before the broadcast address.
    pub last: Option<Ipv4Addr>,
    /// The gateway; none is the subnet's first address.
    pub gateway: Option<Ipv4Addr>,
    /// Routes in the pods, by the gateway where they name none.
    pub routes: Vec<(Ipv4Net, Option<Ipv4Addr>)>,
    /// Limits of every pod.
    #[serde(default)]
    pub bandwidth: Bandwidth,
    /// The plugin `portmap` stands in the list, with this `snat`; without it pods can't have host ports.
    #[serde(default)]
    pub port_map: Option<bool>,
}

/// Kubernetes' and minikube's range of service addresses.
#[must_use]
pub const fn default_service_cidr() -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 12)
}

/// The nodes' default gateway and how its route prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewaySpec {
    /// Its address in the node subnet.
    pub addr: Ipv4Addr,
    /// `proto dhcp src NODE metric 1024` and the extra host route to the gateway, as systemd-networkd sets them.
    pub dhcp_metric: Option<u32>,
}

/// The simulated internet behind the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InternetSpec {
    /// Addresses that answer (8.8.8.8 and 1.1.1.1 unless said otherwise).
    pub addresses: Vec<Ipv4Addr>,
    /// TTL of its packets when they reach a node's eth0: 116, so that a pod sees the seeds' 115.
    pub ttl_at_node: u8,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Name, a DNS subdomain, at most 63 bytes.
    pub name: String,
    /// The address that Kubernetes knows; peers route to it.
    pub internal_ip: Ipv4Addr,
    /// Addresses of eth0 with their prefix length, primary first. Contains `internal_ip`.
    pub addresses: Vec<Ipv4Net>,
    /// MAC of eth0; derived from the lab's seed when not given.
    pub mac: Option<Mac>,
    /// Addresses of its pods; none is allowed (KND-5).
    pub pod_cidr: Option<Ipv4Net>,
    /// Whether it shows as `control-plane,master`.
    pub control_plane: bool,
    /// Labels.
    pub labels: IndexMap<String, String>,
    /// With the preset `manual`: what is declared of its interfaces.
    #[serde(default)]
    pub interfaces: Vec<InterfaceSpec>,
    /// With the preset `manual`: routes in the words of `ip route add`.
    #[serde(default)]
    pub routes: Vec<String>,
    /// Its port on an interface of the host.
    #[serde(default)]
    pub uplink: Option<UplinkSpec>,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSpec {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Name, unique in its namespace.
    pub name: String,
    /// Name of its node.
    pub node: String,
    /// Labels.
    pub labels: IndexMap<String, String>,
    /// Shares the node's addresses and host namespace; has no link (PTP-8).
    pub host_network: bool,
    /// CNI configuration that was the first of its node's when the pod was made, a file name; else the one that is first
    /// now (MIX-1).
    #[serde(default)]
    pub cni: Option<String>,
    /// With the preset `manual`: its link; none is a namespace that is connected to nothing.
    #[serde(default)]
    pub link: Option<LinkSpec>,
    /// Wanted address, else IPAM's next (IPAM-7).
    pub ip: Option<Ipv4Addr>,
    /// MAC of eth0; derived from the lab's seed when not given.
    pub mac: Option<Mac>,
    /// Program to run in it; a pod without one just exists, as with the pause image.
    pub command: Option<Vec<String>>,
    /// Environment of the program, added to the daemon's.
    pub env: IndexMap<String, String>,
    /// What happens when the program ends.
    pub restart: RestartPolicy,
    /// What its containers serve, by name and number.
    #[serde(default)]
    pub ports: Vec<ContainerPort>,
    /// Annotations.
    #[serde(default)]
    pub annotations: IndexMap<String, String>,
    /// What is done to frames of its link from the beginning.
    #[serde(default)]
    pub impairments: LinkImpair,
    /// Where the pod was declared, `file:line:column`, for messages.
    pub declared_at: Option<String>,
}

/// Kubernetes' restartPolicy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Always start it again, with growing back-off.
    #[default]
    Always,
    /// Only after a non-zero status.
    OnFailure,
    /// Never.
    Never,
}

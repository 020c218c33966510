//! The lab file as it was written.
//!
//! Decides which keys exist and which syntax each value has; every key here has an effect (`resolve` says which). The JSON
//! schema in `sim/schema` lists the same keys; a test compares them.

use std::net::Ipv4Addr;

use indexmap::IndexMap;
use ipnet::Ipv4Net;
use router_core::Mac;

use super::conntrack;
use super::diagnostics::{At, Pos, Sink, hint};
use super::impairments;
use super::manual::{self, InterfaceFile, LinkFile};
use super::names::{label, node_name, subdomain};
use super::read::{self, Fields};
use super::tree::{Kind, Value};
use super::uplink::{self, UplinkFile};
use super::workers::{self, Workers};
use crate::impair::{Impair, LinkImpair};
use crate::kube::ContainerPort;
use crate::manifest::pod_annotations;
use crate::spec::{ConntrackSpec, IpipMode, MasqAgent, PolicyMode, RestartPolicy};

/// Largest MTU, bytes: what a frame of the routers holds behind its Ethernet header. Longer ones would be lost without a word.
pub(super) const MAX_MTU: u16 = 1970;

pub(super) const API_VERSION: &str = "podwire/v1";

pub(super) const LAB_KEYS: &[&str] = &[
    "apiVersion",
    "kind",
    "name",
    "preset",
    "seed",
    "network",
    "networkPolicy",
    "offload",
    "workers",
    "nodes",
    "systemPods",
    "pods",
];
pub(super) const NETWORK_KEYS: &[&str] = &[
    "clusterCIDR",
    "serviceCIDR",
    "nodeCIDRMaskSize",
    "nodeSubnet",
    "firstNodeAddress",
    "gateway",
    "dhcp",
    "mtu",
    "docker0",
    "sit0",
    "podIfindex",
    "ipv6LinkLocal",
    "cniConfDir",
    "cniExtraFiles",
    "conflist",
    "staleRoutesCompat",
    "kindMasqAgent",
    "dockerDNS",
    "flushOnPolicyChange",
    "conntrack",
    "impairments",
    "internet",
    "calico",
];
pub(super) const DHCP_KEYS: &[&str] = &["metric", "lease"];
pub(super) const INTERNET_KEYS: &[&str] = &["addresses", "ttl"];
pub(super) const CALICO_KEYS: &[&str] = &[
    "blockSize",
    "ipipMode",
    "natOutgoing",
    "strictAffinity",
    "maxBlocksPerHost",
    "mtu",
];
pub(super) const NODE_KEYS: &[&str] = &[
    "name",
    "internalIP",
    "addresses",
    "mac",
    "podCIDR",
    "controlPlane",
    "labels",
    "interfaces",
    "routes",
    "uplink",
];
pub(super) const NODE_INTERFACE_KEYS: &[&str] = &[
    "type",
    "mac",
    "mtu",
    "addresses",
    "up",
    "proxyArp",
    "rpFilter",
    "hairpin",
];
pub(super) const LINK_KEYS: &[&str] = &["name", "peer", "bridge", "address", "mtu"];
pub(super) const POD_KEYS: &[&str] = &[
    "name",
    "namespace",
    "node",
    "labels",
    "annotations",
    "impairments",
    "hostNetwork",
    "cni",
    "link",
    "routes",
    "ip",
    "mac",
    "command",
    "env",
    "ports",
    "restartPolicy",
];

/// What can be switched off with the word `none`.
#[derive(Clone, Debug)]
pub(super) enum Choice<T> {
    /// Not written: the preset decides.
    Preset,
    /// `none`
    None,
    /// Written out.
    Some(T),
}

impl<T> Choice<T> {
    /// What holds, when the preset says `default`.
    pub(super) fn or(self, default: Option<T>) -> Option<T> {
        match self {
            Self::Preset => default,
            Self::None => None,
            Self::Some(value) => Some(value),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct LabFile {
    pub(super) pos: Pos,
    pub(super) name: Option<At<String>>,
    pub(super) preset: Option<At<String>>,
    pub(super) seed: Option<At<u64>>,
    pub(super) network: NetworkFile,
    pub(super) nodes: Nodes,
    pub(super) system_pods: Option<At<bool>>,
    pub(super) pods: Vec<PodFile>,
    pub(super) network_policy: Option<PolicyMode>,
    pub(super) offload: Option<bool>,
    pub(super) workers: Option<At<Workers>>,
}

#[derive(Clone, Debug)]
pub(super) enum Nodes {
    Preset,
    Count(At<usize>),
    List(Vec<NodeFile>),
}

#[derive(Clone, Debug)]
pub(super) struct NetworkFile {
    pub(super) cluster_cidr: Option<At<Ipv4Net>>,
    pub(super) service_cidr: Option<At<Ipv4Net>>,
    pub(super) node_mask: Option<At<u8>>,
    pub(super) node_subnet: Option<At<Ipv4Net>>,
    pub(super) first_node_address: Option<At<Ipv4Addr>>,
    pub(super) gateway: Choice<At<Ipv4Addr>>,
    pub(super) dhcp: Choice<DhcpFile>,
    pub(super) mtu: Option<At<u16>>,
    pub(super) docker0: Option<At<bool>>,
    pub(super) sit0: Option<At<bool>>,
    pub(super) pod_ifindex: Option<At<u32>>,
    pub(super) ipv6_link_local: Option<At<bool>>,
    pub(super) cni_conf_dir: Option<At<String>>,
    pub(super) cni_extra_files: IndexMap<String, At<String>>,
    pub(super) stale_routes_compat: Option<At<bool>>,
    pub(super) kind_masq_agent: Option<At<MasqAgent>>,
    pub(super) docker_dns: Option<At<bool>>,
    pub(super) flush_on_policy_change: Option<At<bool>>,
    pub(super) conntrack: Option<ConntrackSpec>,
    pub(super) impairments: Option<Impair>,
    pub(super) internet: Choice<InternetFile>,
    pub(super) calico: Option<CalicoFile>,
}

/// What the preset `calico` takes besides.
#[derive(Clone, Debug)]
pub(super) struct CalicoFile {
    pub(super) pos: Pos,
    pub(super) block_size: Option<At<u8>>,
    pub(super) ipip_mode: Option<IpipMode>,
    pub(super) nat_outgoing: Option<bool>,
    pub(super) strict_affinity: Option<bool>,
    pub(super) max_blocks_per_host: Option<u32>,
    /// 0 is "auto", as in Calico's own configuration.
    pub(super) mtu: Option<At<u16>>,
}

#[derive(Clone, Debug)]
pub(super) struct DhcpFile {
    pub(super) metric: Option<At<u32>>,
    pub(super) lease: Option<At<u32>>,
}

#[derive(Clone, Debug)]
pub(super) struct InternetFile {
    pub(super) addresses: Option<Vec<At<Ipv4Addr>>>,
    pub(super) ttl: Option<At<u8>>,
}

/// A node, of a lab file or of a manifest.
#[derive(Clone, Debug)]
pub(crate) struct NodeFile {
    pub(crate) name: At<String>,
    pub(crate) internal_ip: Option<At<Ipv4Addr>>,
    pub(crate) addresses: Vec<At<Ipv4Net>>,
    pub(crate) mac: Option<At<Mac>>,
    pub(crate) pod_cidr: CidrChoice,
    pub(crate) control_plane: Option<bool>,
    pub(crate) labels: IndexMap<String, String>,
    pub(crate) interfaces: Vec<InterfaceFile>,
    pub(crate) routes: Vec<At<String>>,
    pub(crate) uplink: Option<UplinkFile>,
}

/// A podCIDR as written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CidrChoice {
    /// Not written: the next free one.
    Next,
    /// `none`: the node has none (KND-5).
    None,
    /// Written out.
    Net(At<Ipv4Net>),
}

/// A pod, of a lab file or of a manifest.
#[derive(Clone, Debug)]
pub(crate) struct PodFile {
    pub(crate) name: At<String>,
    pub(crate) namespace: Option<At<String>>,
    pub(crate) node: Option<At<String>>,
    pub(crate) labels: IndexMap<String, String>,
    pub(crate) host_network: bool,
    pub(crate) cni: Option<At<String>>,
    pub(crate) link: Option<LinkFile>,
    pub(crate) routes: Vec<At<String>>,
    pub(crate) ip: Option<At<Ipv4Addr>>,
    pub(crate) mac: Option<At<Mac>>,
    pub(crate) command: Option<Vec<String>>,
    pub(crate) env: IndexMap<String, String>,
    pub(crate) restart: RestartPolicy,
    pub(crate) ports: Vec<At<ContainerPort>>,
    pub(crate) annotations: IndexMap<String, String>,
    pub(crate) impairments: LinkImpair,
}

const ADDRESS: &str = "an IPv4 address";
const NETWORK: &str = "an IPv4 network (10.244.0.0/16)";
const MAC: &str = "a MAC address (six two-digit hexadecimal octets separated by ':')";

/// Reads a document of `kind: Lab`.
pub(super) fn lab(document: &Value, sink: &mut Sink<'_>) -> Option<LabFile> {
    let fields = Fields::open(document, "a lab", LAB_KEYS, sink)?;
    match fields.want("apiVersion", "a lab", sink) {
        Some(value) => {
            let version = read::text(value, "apiVersion", sink)?;
            if version.value != API_VERSION {
                let message = format!(
                    "apiVersion of a lab must be \"{API_VERSION}\", not \"{}\"",
                    version.value
                );
                sink.error(version.pos, message);
            }
        }
        None => return None,
    }
    let network = match fields.get("network") {
        Some(value) => network(value, sink)?,
        None => NetworkFile::default(),
    };
    let nodes = match fields.get("nodes") {
        None => Nodes::Preset,
        Some(value) if matches!(value.kind, Kind::List(_)) => Nodes::List(
            read::list(value, "nodes", sink)
                .iter()
                .filter_map(|item| node(item, sink))
                .collect(),
        ),
        Some(value) => match read::number(value, "the number of nodes", 1..=10_000, sink) {
            Some(count) => Nodes::Count(count),
            None => Nodes::Preset,
        },
    };
    let pods = fields.get("pods").map_or_else(Vec::new, |value| {
        read::list(value, "pods", sink)
            .iter()
            .filter_map(|item| pod(item, sink))
            .collect()
    });
    Some(LabFile {
        pos: fields.pos,
        name: fields
            .get("name")
            .and_then(|value| label(value, "the name of a lab", sink)),
        preset: fields
            .get("preset")
            .and_then(|value| read::text(value, "preset", sink)),
        seed: fields
            .get("seed")
            .and_then(|value| read::number(value, "seed", 0..=u64::MAX, sink)),
        network,
        nodes,
        system_pods: fields
            .get("systemPods")
            .and_then(|value| read::boolean(value, sink)),
        pods,
        network_policy: fields.get("networkPolicy").and_then(|value| {
            read::one_of(value, "networkPolicy", &PolicyMode::CHOICES, sink).map(|at| at.value)
        }),
        offload: fields
            .get("offload")
            .and_then(|value| read::boolean(value, sink))
            .map(|at| at.value),
        workers: fields
            .get("workers")
            .and_then(|value| workers::read(value, sink)),
    })
}

impl Default for NetworkFile {
    fn default() -> Self {
        Self {
            cluster_cidr: None,
            service_cidr: None,
            node_mask: None,
            node_subnet: None,
            first_node_address: None,
            gateway: Choice::Preset,
            dhcp: Choice::Preset,
            mtu: None,
            docker0: None,
            sit0: None,
            pod_ifindex: None,
            ipv6_link_local: None,
            cni_conf_dir: None,
            cni_extra_files: IndexMap::new(),
            stale_routes_compat: None,
            kind_masq_agent: None,
            docker_dns: None,
            flush_on_policy_change: None,
            conntrack: None,
            impairments: None,
            internet: Choice::Preset,
            calico: None,
        }
    }
}

fn network(value: &Value, sink: &mut Sink<'_>) -> Option<NetworkFile> {
    let fields = Fields::open(value, "the network", NETWORK_KEYS, sink)?;
    let flag = |key: &str, sink: &mut Sink<'_>| {
        fields.get(key).and_then(|value| read::boolean(value, sink))
    };
    // Its content has been read before; here only a value that is no path is reported.
    if let Some(value) = fields.get("conflist") {
        let _path = read::text(value, "conflist", sink);
    }
    Some(NetworkFile {
        cluster_cidr: fields.get("clusterCIDR").and_then(|value| net(value, sink)),
        service_cidr: fields.get("serviceCIDR").and_then(|value| net(value, sink)),
        node_mask: fields
            .get("nodeCIDRMaskSize")
            .and_then(|value| read::number(value, "nodeCIDRMaskSize", 8..=30, sink)),
        node_subnet: fields.get("nodeSubnet").and_then(|value| net(value, sink)),
        first_node_address: fields
            .get("firstNodeAddress")
            .and_then(|value| read::parse(value, ADDRESS, sink)),
        gateway: choice(fields.get("gateway"), sink, |value, sink| {
            read::parse(value, &format!("{ADDRESS} or \"none\""), sink)
        }),
        dhcp: choice(fields.get("dhcp"), sink, |value, sink| {
            let fields = Fields::open(value, "dhcp", DHCP_KEYS, sink)?;
            Some(DhcpFile {
                metric: fields
                    .get("metric")
                    .and_then(|value| read::number(value, "metric", 0..=u32::MAX, sink)),
                lease: fields
                    .get("lease")
                    .and_then(|value| read::seconds(value, "lease", sink)),
            })
        }),
        // 68: what every IPv4 link must carry (RFC 791).
        mtu: fields
            .get("mtu")
            .and_then(|value| read::number(value, "mtu", 68..=MAX_MTU, sink)),
        docker0: flag("docker0", sink),
        sit0: flag("sit0", sink),
        pod_ifindex: fields
            .get("podIfindex")
            .and_then(|value| read::number(value, "podIfindex", 2..=1_000_000, sink)),
        ipv6_link_local: flag("ipv6LinkLocal", sink),
        cni_conf_dir: fields
            .get("cniConfDir")
            .and_then(|value| read::text(value, "cniConfDir", sink)),
        cni_extra_files: fields
            .get("cniExtraFiles")
            .map_or_else(IndexMap::new, |value| {
                read::text_map(value, "cniExtraFiles", sink)
            }),
        stale_routes_compat: flag("staleRoutesCompat", sink),
        kind_masq_agent: fields
            .get("kindMasqAgent")
            .and_then(|value| read::one_of(value, "kindMasqAgent", &MasqAgent::CHOICES, sink)),
        docker_dns: flag("dockerDNS", sink),
        flush_on_policy_change: flag("flushOnPolicyChange", sink),
        conntrack: fields
            .get("conntrack")
            .and_then(|value| conntrack::read(value, sink)),
        impairments: fields
            .get("impairments")
            .and_then(|value| impairments::segment(value, sink)),
        internet: choice(fields.get("internet"), sink, |value, sink| {
            let fields = Fields::open(value, "the internet", INTERNET_KEYS, sink)?;
            Some(InternetFile {
                addresses: fields.get("addresses").map(|value| {
                    read::list(value, "addresses", sink)
                        .iter()
                        .filter_map(|item| read::parse(item, ADDRESS, sink))
                        .collect()
                }),
                ttl: fields
                    .get("ttl")
                    .and_then(|value| read::number(value, "ttl", 1..=255, sink)),
            })
        }),
        calico: fields.get("calico").and_then(|value| calico(value, sink)),
    })
}

fn calico(value: &Value, sink: &mut Sink<'_>) -> Option<CalicoFile> {
    let fields = Fields::open(value, "calico", CALICO_KEYS, sink)?;
    let flag = |key: &str, sink: &mut Sink<'_>| {
        let value = fields.get(key)?;
        read::boolean(value, sink).map(|flag| flag.value)
    };
    let modes = IpipMode::ALL.map(|mode| (mode.name(), mode));
    Some(CalicoFile {
        pos: fields.pos,
        // Calico's own bounds.
        block_size: fields
            .get("blockSize")
            .and_then(|value| read::number(value, "blockSize", 20..=32, sink)),
        ipip_mode: fields
            .get("ipipMode")
            .and_then(|value| read::one_of(value, "ipipMode", &modes, sink))
            .map(|mode| mode.value),
        nat_outgoing: flag("natOutgoing", sink),
        strict_affinity: flag("strictAffinity", sink),
        max_blocks_per_host: fields
            .get("maxBlocksPerHost")
            .and_then(|value| read::number(value, "maxBlocksPerHost", 1..=1_000_000, sink))
            .map(|number| number.value),
        mtu: fields.get("mtu").and_then(|value| calico_mtu(value, sink)),
    })
}

/// An MTU, or 0 for what follows from the hosts'.
pub(super) fn calico_mtu(value: &Value, sink: &mut Sink<'_>) -> Option<At<u16>> {
    let found: At<u16> = read::number(value, "mtu", 0..=MAX_MTU, sink)?;
    if (1..68).contains(&found.value) {
        sink.error(
            found.pos,
            "mtu must be 0, for what follows from the hosts', or from 68 to 1970",
        );
        return None;
    }
    Some(found)
}

/// A value or the word `none`.
fn choice<T>(
    value: Option<&Value>,
    sink: &mut Sink<'_>,
    read: impl FnOnce(&Value, &mut Sink<'_>) -> Option<T>,
) -> Choice<T> {
    match value {
        None => Choice::Preset,
        Some(value) if is_none(value) => Choice::None,
        Some(value) => read(value, sink).map_or(Choice::Preset, Choice::Some),
    }
}

fn is_none(value: &Value) -> bool {
    matches!(&value.kind, Kind::Scalar { text, .. } if text == "none")
}

/// A network without host bits (IPAM-11).
pub(crate) fn net(value: &Value, sink: &mut Sink<'_>) -> Option<At<Ipv4Net>> {
    let found: At<Ipv4Net> = read::parse(value, NETWORK, sink)?;
    if found.value.trunc() != found.value {
        let message = format!(
            "{} has host bits set; the network is {}",
            found.value,
            found.value.trunc()
        );
        sink.error(found.pos, message);
        return None;
    }
    Some(found)
}

/// An address.
pub(crate) fn address(value: &Value, sink: &mut Sink<'_>) -> Option<At<Ipv4Addr>> {
    read::parse(value, ADDRESS, sink)
}

pub(super) fn mac(value: &Value, sink: &mut Sink<'_>) -> Option<At<Mac>> {
    let found: At<Mac> = read::parse(value, MAC, sink)?;
    if !found.value.is_unicast() {
        let message = format!("{} is no address that a station may have", found.value);
        sink.error(found.pos, message);
        return None;
    }
    Some(found)
}

fn node(value: &Value, sink: &mut Sink<'_>) -> Option<NodeFile> {
    let fields = Fields::open(value, "a node", NODE_KEYS, sink)?;
    // Everything is read before anything is missed, so that all mistakes come out at once.
    let name = fields
        .want("name", "a node", sink)
        .and_then(|value| node_name(value, sink));
    let node = NodeFile {
        name: name.clone().unwrap_or(At {
            value: String::new(),
            pos: fields.pos,
        }),
        internal_ip: fields
            .get("internalIP")
            .and_then(|value| address(value, sink)),
        addresses: fields.get("addresses").map_or_else(Vec::new, |value| {
            read::list(value, "addresses", sink)
                .iter()
                .filter_map(|item| {
                    read::parse(
                        item,
                        "an address with its prefix length (172.18.0.11/16)",
                        sink,
                    )
                })
                .collect()
        }),
        mac: fields.get("mac").and_then(|value| mac(value, sink)),
        pod_cidr: match fields.get("podCIDR") {
            None => CidrChoice::Next,
            Some(value) if is_none(value) => CidrChoice::None,
            Some(value) => net(value, sink).map_or(CidrChoice::Next, CidrChoice::Net),
        },
        control_plane: fields
            .get("controlPlane")
            .and_then(|value| read::boolean(value, sink))
            .map(|flag| flag.value),
        labels: fields
            .get("labels")
            .map_or_else(IndexMap::new, |value| labels(value, sink)),
        interfaces: fields
            .get("interfaces")
            .map_or_else(Vec::new, |value| manual::interfaces(value, sink)),
        routes: fields
            .get("routes")
            .map_or_else(Vec::new, |value| manual::routes(value, sink)),
        uplink: fields
            .get("uplink")
            .and_then(|value| uplink::read(value, sink)),
    };
    name.map(|_| node)
}

fn pod(value: &Value, sink: &mut Sink<'_>) -> Option<PodFile> {
    let fields = Fields::open(value, "a pod", POD_KEYS, sink)?;
    let name = fields
        .want("name", "a pod", sink)
        .and_then(|value| subdomain(value, "the name of a pod", sink));
    let pod = PodFile {
        name: name.clone().unwrap_or(At {
            value: String::new(),
            pos: fields.pos,
        }),
        namespace: fields
            .get("namespace")
            .and_then(|value| label(value, "a namespace", sink)),
        node: fields
            .get("node")
            .and_then(|value| read::text(value, "node", sink)),
        labels: fields
            .get("labels")
            .map_or_else(IndexMap::new, |value| labels(value, sink)),
        host_network: fields
            .get("hostNetwork")
            .and_then(|value| read::boolean(value, sink))
            .is_some_and(|flag| flag.value),
        cni: fields
            .get("cni")
            .and_then(|value| read::text(value, "cni", sink)),
        link: fields
            .get("link")
            .and_then(|value| manual::link(value, sink)),
        routes: fields
            .get("routes")
            .map_or_else(Vec::new, |value| manual::routes(value, sink)),
        ip: fields.get("ip").and_then(|value| address(value, sink)),
        mac: fields.get("mac").and_then(|value| mac(value, sink)),
        command: fields.get("command").and_then(|value| {
            let words = read::texts(value, "command", sink);
            if words.is_empty() {
                sink.error(value.pos, "command needs at least the program's name");
                return None;
            }
            Some(words.into_iter().map(|word| word.value).collect())
        }),
        env: fields.get("env").map_or_else(IndexMap::new, |value| {
            plain(read::text_map(value, "env", sink))
        }),
        restart: fields
            .get("restartPolicy")
            .and_then(|value| restart_policy(value, sink))
            .unwrap_or_default(),
        annotations: fields
            .get("annotations")
            .map_or_else(IndexMap::new, |value| pod_annotations(value, sink)),
        impairments: fields
            .get("impairments")
            .and_then(|value| impairments::link(value, sink))
            .unwrap_or_default(),
        ports: fields
            .get("ports")
            .map_or_else(Vec::new, |value| super::ports::read(value, sink)),
    };
    name.map(|_| pod)
}

/// Kubernetes' restartPolicy.
pub(crate) fn restart_policy(value: &Value, sink: &mut Sink<'_>) -> Option<RestartPolicy> {
    let choices = [
        ("Always", RestartPolicy::Always),
        ("OnFailure", RestartPolicy::OnFailure),
        ("Never", RestartPolicy::Never),
    ];
    read::one_of(value, "restartPolicy", &choices, sink).map(|found| found.value)
}

/// A mapping of labels.
pub(crate) fn labels(value: &Value, sink: &mut Sink<'_>) -> IndexMap<String, String> {
    plain(read::text_map(value, "labels", sink))
}

fn plain(map: IndexMap<String, At<String>>) -> IndexMap<String, String> {
    map.into_iter()
        .map(|(key, word)| (key, word.value))
        .collect()
}

/// `kind` of a document, to tell labs from manifests.
pub(super) fn kind_of(document: &Value, sink: &mut Sink<'_>) -> Option<At<String>> {
    let fields = Fields::open_lenient(document, "a document", sink)?;
    match fields.get("kind") {
        Some(value) => read::text(value, "kind", sink),
        None => {
            let near = fields
                .entries()
                .iter()
                .map(|(key, _)| key)
                .find(|key| !hint(&key.value, ["kind"]).is_empty());
            match near {
                Some(key) => sink.error(
                    key.pos,
                    format!("unknown key \"{}\"; did you mean \"kind\"?", key.value),
                ),
                None => sink.error(
                    fields.pos,
                    format!("a document needs \"kind\": Lab (with apiVersion: {API_VERSION}), Pod, NetworkPolicy, Service or another kind of manifest"),
                ),
            }
            None
        }
    }
}

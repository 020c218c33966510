//! From what was written to the lab that is built: fills in, gives names and addresses, checks.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use router_core::Mac;

use super::cni::Cni;
use super::conflist::Conflist;
use super::diagnostics::{At, Pos, Sink, hint};
use super::names::check_label;
use super::nodes::{self, Node};
use super::ports::Taken;
use super::preset::Defaults;
use super::written::{LabFile, NetworkFile, NodeFile, Nodes, PodFile};
use super::{Overrides, manual, network, preset};
use crate::cluster::bridge;
use crate::kube;
use crate::manifest::Object;
use crate::spec::{BridgeNetwork, LabSpec, NetworkSpec, PodSpec, Preset};

pub(super) fn resolve(
    lab: Option<LabFile>,
    objects: Vec<Object>,
    conflist: &Conflist,
    overrides: &Overrides,
    sink: &mut Sink<'_>,
) -> Option<LabSpec> {
    let written_policy = lab.as_ref().and_then(|lab| lab.network_policy);
    let written_offload = lab.as_ref().and_then(|lab| lab.offload);
    let written_workers = lab
        .as_ref()
        .and_then(|lab| lab.workers.as_ref().map(|at| at.value));
    let (name, preset, seed, network_file, nodes_file, system, mut pods) = match lab {
        Some(lab) => (
            lab.name,
            lab.preset,
            lab.seed,
            lab.network,
            lab.nodes,
            lab.system_pods,
            lab.pods,
        ),
        None => (
            None,
            None,
            None,
            NetworkFile::default(),
            Nodes::Preset,
            None,
            Vec::new(),
        ),
    };
    let preset = chosen_preset(preset.as_ref(), conflist, overrides, sink);
    let defaults = preset::defaults(preset);
    let policy = overrides
        .network_policy
        .or(written_policy)
        .unwrap_or_else(|| preset.network_policy());
    if let Some(name) = &overrides.name
        && let Err(why) = check_label(name)
    {
        sink.error_at(None, format!("the name of a lab {why}"));
    }
    let name = overrides
        .name
        .clone()
        .or_else(|| name.map(|at| at.value))
        .unwrap_or_else(|| preset.name().to_owned());
    let seed = seed.map_or(0, |at| at.value);

    let network = network::resolve(network_file, conflist, &defaults, sink);
    let mut more_nodes = Vec::new();
    let mut kube = Vec::new();
    for object in objects {
        match object {
            Object::Pod(pod) => pods.push(*pod),
            Object::Node(node) => more_nodes.push(*node),
            Object::Kube(object, pos) => kube.push((*object, pos)),
        }
    }
    let files = node_files(nodes_file, more_nodes, &defaults, overrides, sink);
    manual::check(preset == Preset::Manual, &files, &pods, sink);
    let nodes = nodes::resolve(&files, &network, &defaults, conflist.subnet.as_ref(), sink);
    let specs: Vec<_> = nodes.iter().map(|node| node.spec.clone()).collect();
    let system = if system.is_none_or(|at| at.value) {
        preset::system_pods(preset, &specs, seed)
    } else {
        Vec::new()
    };
    let cni = Cni::new(&network.spec, &defaults, sink);
    let by_hand = preset == Preset::Manual;
    let links: Vec<_> = pods
        .iter()
        .map(|pod| {
            if by_hand {
                manual::link_of(pod, sink)
            } else {
                None
            }
        })
        .collect();
    let mut objects = resolve_objects(kube, sink);
    objects.extend(preset::system_services(
        &system,
        &objects,
        network.spec.service_cidr,
    ));
    let mut pods = resolve_pods(pods, system, &nodes, &network.spec, &cni, by_hand, sink);
    let system = pods.len().saturating_sub(links.len());
    for (pod, link) in pods.iter_mut().skip(system).zip(links) {
        pod.link = link;
    }
    let specs_len = specs.len();
    Some(LabSpec {
        name,
        preset,
        seed,
        network: network.spec,
        nodes: specs,
        pods,
        policy,
        offload: overrides.offload.or(written_offload).unwrap_or(true),
        workers: overrides
            .workers
            .or(written_workers)
            .unwrap_or_default()
            .resolve(specs_len),
        objects,
    })
}

/// The flag's preset, else the file's, else the conflist's, else the first. All are checked.
fn chosen_preset(
    written: Option<&At<String>>,
    conflist: &Conflist,
    overrides: &Overrides,
    sink: &mut Sink<'_>,
) -> Preset {
    let of_file = written.and_then(|at| preset_named(&at.value, Some(at.pos), sink));
    let of_flag = overrides
        .preset
        .as_ref()
        .and_then(|name| preset_named(name, None, sink));
    let [first, ..] = Preset::ALL;
    let stated = of_flag.or(of_file);
    if let (Some(preset), Some(taken)) = (stated, &conflist.preset)
        && preset != taken.value
    {
        let message = format!(
            "preset \"{}\" contradicts the conflist, which is {}'s",
            preset.name(),
            taken.value.name()
        );
        let written = written.filter(|_| overrides.preset.is_none());
        sink.conflict(
            written.map(|at| at.pos),
            message,
            Some(taken.pos),
            "the conflist's plugin is here",
        );
    }
    stated
        .or_else(|| conflist.preset.as_ref().map(|at| at.value))
        .unwrap_or(first)
}

fn preset_named(name: &str, pos: Option<Pos>, sink: &mut Sink<'_>) -> Option<Preset> {
    let found = Preset::by_name(name);
    if found.is_none() {
        let names = Preset::ALL.map(Preset::name);
        let quoted = names.map(|name| format!("\"{name}\""));
        let there = match quoted.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
            _ => quoted.concat(),
        };
        let are = if names.len() == 1 { "is" } else { "are" };
        let message = format!(
            "no preset \"{}\"{}; there {are} {there}",
            name.chars().take(80).collect::<String>(),
            hint(name, names),
        );
        sink.error_at(pos, message);
    }
    found
}

/// The nodes that are wanted: the lab file's and the manifests', the preset's where these name none.
fn node_files(
    written: Nodes,
    more: Vec<NodeFile>,
    preset: &Defaults,
    overrides: &Overrides,
    sink: &mut Sink<'_>,
) -> Vec<NodeFile> {
    let mut files = match (written, overrides.nodes) {
        (Nodes::List(list), None) => list,
        (Nodes::List(list), Some(count)) => {
            if list.len() != count {
                sink.error_at(
                    list.first().map(|node| node.name.pos),
                    format!(
                        "--nodes {count} contradicts the lab file, which names {} node(s)",
                        list.len()
                    ),
                );
            }
            list
        }
        (Nodes::Preset | Nodes::Count(_), Some(count)) => nodes::from_preset(bounded(count, sink)),
        (Nodes::Count(at), None) => nodes::from_preset(at.value),
        (Nodes::Preset, None) if more.is_empty() => nodes::from_preset(preset.nodes),
        (Nodes::Preset, None) => Vec::new(),
    };
    files.extend(more);
    files
}

/// Most nodes that are tried; address space ends long before.
const MAX_NODES: usize = 10_000;

fn bounded(count: usize, sink: &mut Sink<'_>) -> usize {
    if count == 0 || count > MAX_NODES {
        sink.error_at(
            None,
            format!("--nodes must be from 1 to {MAX_NODES}, not {count}"),
        );
    }
    count.min(MAX_NODES)
}

/// A pod's name in its namespace, as messages show it.
fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

fn resolve_pods(
    files: Vec<PodFile>,
    system: Vec<PodSpec>,
    nodes: &[Node],
    network: &NetworkSpec,
    cni: &Cni,
    by_hand: bool,
    sink: &mut Sink<'_>,
) -> Vec<PodSpec> {
    let by_name: HashMap<&str, usize> = nodes
        .iter()
        .enumerate()
        .map(|(n, node)| (node.spec.name.as_str(), n))
        .collect();
    let mut load = vec![0_usize; nodes.len()];
    let mut names: HashMap<String, Option<Pos>> = HashMap::new();
    // By node, where the network is a node's own; the rest is the cluster's.
    let mut addresses: HashMap<(Option<usize>, Ipv4Addr), (String, Option<Pos>)> = HashMap::new();
    for node in nodes {
        for net in &node.spec.addresses {
            let owner = format!("node \"{}\"", node.spec.name);
            addresses.insert((None, net.addr()), (owner, node.pos));
        }
    }
    let mut macs: HashMap<Mac, (String, Pos)> = HashMap::new();
    let mut host_ports = Taken::default();
    for pod in &system {
        names.insert(key(&pod.namespace, &pod.name), None);
        if let Some(at) = by_name.get(pod.node.as_str())
            && !pod.host_network
        {
            load[*at] += 1;
        }
    }
    // Pods with a node are counted before those without are dealt out.
    for file in &files {
        if let Some(node) = &file.node
            && let Some(at) = by_name.get(node.value.as_str())
            && !file.host_network
        {
            load[*at] += 1;
        }
    }
    let mut pods = system;
    for file in files {
        let namespace = file
            .namespace
            .as_ref()
            .map_or("default", |at| at.value.as_str());
        let name = key(namespace, &file.name.value);
        let pod_name = name.clone();
        let pos = file.name.pos;
        match names.get(&name) {
            Some(first) => sink.conflict(
                Some(pos),
                format!(
                    "a second pod \"{}\" in namespace \"{namespace}\"",
                    file.name.value
                ),
                *first,
                "the first is here",
            ),
            None => {
                names.insert(name.clone(), Some(pos));
            }
        }
        let node = match &file.node {
            Some(wanted) => {
                let found = by_name.get(wanted.value.as_str()).copied();
                if found.is_none() {
                    let hint = hint(
                        &wanted.value,
                        nodes.iter().map(|node| node.spec.name.as_str()),
                    );
                    sink.error(wanted.pos, format!("no node \"{}\"{hint}", wanted.value));
                }
                found
            }
            None => least_loaded(
                &load,
                nodes,
                by_hand
                    || file.host_network
                    || network.calico.is_some()
                    || file.cni.is_some()
                    || cni.of(&file).is_some(),
            )
            .inspect(|at| {
                if !file.host_network {
                    load[*at] += 1;
                }
            }),
        };
        let Some((at, node)) = node.and_then(|at| Some((at, nodes.get(at)?))) else {
            if file.node.is_none() {
                sink.error(pos, format!("no node can take pod \"{}\"", file.name.value));
            }
            continue;
        };
        if !by_hand {
            check_pod(&file, node, network, cni, sink);
        }
        if let Some(ip) = &file.ip {
            let owner = format!("pod \"{name}\"");
            let place = (cni.of(&file).is_some().then_some(at), ip.value);
            if let Some((other, there)) = addresses.get(&place) {
                sink.conflict(
                    Some(ip.pos),
                    format!("address {} of {owner} belongs to {other}", ip.value),
                    *there,
                    "which is here",
                );
            }
            addresses.entry(place).or_insert((owner, Some(ip.pos)));
        }
        if let Some(at) = &file.mac {
            if let Some((other, there)) = macs.get(&at.value) {
                sink.conflict(
                    Some(at.pos),
                    format!(
                        "MAC {} of pod \"{name}\" belongs to pod \"{other}\"",
                        at.value
                    ),
                    Some(*there),
                    "which is here",
                );
            }
            macs.entry(at.value).or_insert((name, at.pos));
        }
        host_ports.add((at, &node.spec.name), &pod_name, &file.ports, sink);
        let declared_at = sink.describe(pos);
        pods.push(spec(file, node.spec.name.clone(), Some(declared_at)));
    }
    pods
}

/// The node with the fewest pods, the first of equals. A pod with an address of its own needs a podCIDR, unless the CNI has
/// addresses from elsewhere (`anywhere`).
fn least_loaded(load: &[usize], nodes: &[Node], anywhere: bool) -> Option<usize> {
    nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| anywhere || node.spec.pod_cidr.is_some())
        .map(|(n, _)| n)
        .min_by_key(|n| load.get(*n).copied().unwrap_or_default())
}

fn check_pod(file: &PodFile, node: &Node, network: &NetworkSpec, cni: &Cni, sink: &mut Sink<'_>) {
    let name = &file.name.value;
    if file.cni.as_ref().is_some_and(|at| !cni.check(at, sink)) {
        return;
    }
    if file.host_network {
        for pos in [
            file.ip.as_ref().map(|at| at.pos),
            file.mac.as_ref().map(|at| at.pos),
            file.cni.as_ref().map(|at| at.pos),
        ]
        .into_iter()
        .flatten()
        {
            sink.error(
                pos,
                format!("pod \"{name}\" has hostNetwork: it shares the node's address and has no link of its own"),
            );
        }
        return;
    }
    if let Some(network) = cni.of(file) {
        return check_bridged(file, network, sink);
    }
    if network.calico.is_some() {
        let pool = network.cluster_cidr;
        if let Some(at) = file.ip.as_ref().filter(|at| !pool.contains(&at.value)) {
            let message = format!(
                "address {} of pod \"{name}\" is not in Calico's pool {pool}",
                at.value
            );
            sink.error(at.pos, message);
        }
        return;
    }
    let Some(cidr) = node.spec.pod_cidr else {
        sink.conflict(
            Some(file.name.pos),
            format!(
                "node \"{}\" has no podCIDR, so pod \"{name}\" can't get an address",
                node.spec.name
            ),
            node.pos,
            "the node is here",
        );
        return;
    };
    let Some(at) = &file.ip else { return };
    let gateway = Ipv4Addr::from(u32::from(cidr.network()).saturating_add(1));
    let why = if !cidr.contains(&at.value) {
        format!("lies outside podCIDR {cidr} of node \"{}\"", node.spec.name)
    } else if at.value == gateway {
        format!("is the gateway of podCIDR {cidr}")
    } else if at.value == cidr.network() || at.value == cidr.broadcast() {
        format!("is the network or broadcast address of podCIDR {cidr}")
    } else {
        return;
    };
    sink.error(
        at.pos,
        format!("address {} of pod \"{name}\" {why}", at.value),
    );
}

/// An address that a pod states must be one that host-local can give it (IPAM-7).
fn check_bridged(file: &PodFile, network: &BridgeNetwork, sink: &mut Sink<'_>) {
    let Some(at) = &file.ip else { return };
    let subnet = network.subnet;
    let why = if at.value == bridge::gateway(network) {
        format!("is the gateway of network \"{}\"", network.name)
    } else if !subnet.contains(&at.value)
        || at.value == subnet.network()
        || at.value == subnet.broadcast()
        || network.first.is_some_and(|first| at.value < first)
        || network.last.is_some_and(|last| at.value > last)
    {
        format!("is none that network \"{}\" ({subnet}) gives", network.name)
    } else {
        return;
    };
    let message = format!("address {} of pod \"{}\" {why}", at.value, file.name.value);
    sink.error(at.pos, message);
}

/// Each object with its place; no two of one kind and name.
fn resolve_objects(written: Vec<(kube::Object, Pos)>, sink: &mut Sink<'_>) -> Vec<kube::Object> {
    let mut seen: HashMap<(kube::ObjectKind, String), Pos> = HashMap::new();
    let mut objects = Vec::with_capacity(written.len());
    for (mut object, pos) in written {
        let (kind, key) = (object.kind(), object.meta().key());
        if let Some(first) = seen.insert((kind, key), pos) {
            let message = format!("a second {kind:?} \"{}\"", object.meta().name);
            sink.conflict(Some(pos), message, Some(first), "the first is here");
        }
        object.meta_mut().declared_at = Some(sink.describe(pos));
        objects.push(object);
    }
    objects
}

/// A pod with its node.
pub(crate) fn spec(file: PodFile, node: String, declared_at: Option<String>) -> PodSpec {
    let value = |at: At<String>| at.value;
    PodSpec {
        namespace: file.namespace.map_or_else(|| "default".to_owned(), value),
        name: file.name.value,
        node,
        labels: file.labels,
        host_network: file.host_network,
        cni: file.cni.map(value),
        link: None,
        ip: file.ip.map(|at| at.value),
        mac: file.mac.map(|at| at.value),
        command: file.command,
        env: file.env,
        restart: file.restart,
        ports: file.ports.into_iter().map(|at| at.value).collect(),
        annotations: file.annotations,
        impairments: file.impairments,
        declared_at,
    }
}

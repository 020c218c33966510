//! Resolves the nodes: names, addresses, podCIDRs.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use indexmap::IndexMap;
use ipnet::Ipv4Net;

use super::diagnostics::{At, Pos, Sink};
use super::network::Resolved;
use super::preset::{self, Defaults};
use super::uplink;
use super::written::{CidrChoice, NodeFile};
use crate::spec::NodeSpec;

/// A node and where it was declared; the preset's are declared nowhere.
pub(super) struct Node {
    pub(super) spec: NodeSpec,
    pub(super) pos: Option<Pos>,
    cidr_pos: Option<Pos>,
}

/// minikube's nodes, `count` of them.
pub(super) fn from_preset(count: usize) -> Vec<NodeFile> {
    (0..count)
        .map(|n| NodeFile {
            name: At {
                value: preset::node_name(n),
                pos: Pos::NOWHERE,
            },
            internal_ip: None,
            addresses: Vec::new(),
            mac: None,
            pod_cidr: CidrChoice::Next,
            control_plane: None,
            labels: IndexMap::new(),
            interfaces: Vec::new(),
            routes: Vec::new(),
            uplink: None,
        })
        .collect()
}

pub(super) fn resolve(
    files: &[NodeFile],
    network: &Resolved,
    preset: &Defaults,
    first_cidr: Option<&At<Ipv4Net>>,
    sink: &mut Sink<'_>,
) -> Vec<Node> {
    let mut cidrs = Cidrs::new(files, network, first_cidr);
    let mut addresses = Addresses::new(files, network);
    let somebody_leads = files.iter().any(|file| file.control_plane == Some(true));
    let mut nodes = Vec::with_capacity(files.len());
    for (n, file) in files.iter().enumerate() {
        let Some((internal_ip, list)) = addresses.of(file, network, sink) else {
            continue;
        };
        let cidr = match (&file.pod_cidr, first_cidr) {
            (CidrChoice::None, _) => None,
            (CidrChoice::Next, None) if !preset.pod_cidrs => None,
            (CidrChoice::Net(at), _) => Some(*at),
            (CidrChoice::Next, Some(at)) if n == 0 => Some(*at),
            (CidrChoice::Next, _) => {
                let Some(net) = cidrs.next() else {
                    sink.error_at(
                        place(file.name.pos),
                        format!(
                            "no /{} is left in clusterCIDR {} for node \"{}\"",
                            network.node_mask, network.spec.cluster_cidr, file.name.value
                        ),
                    );
                    break;
                };
                Some(At {
                    value: net,
                    pos: Pos::NOWHERE,
                })
            }
        };
        if let Some(at) = &cidr
            && at.value.prefix_len() > 30
        {
            sink.error_at(
                place(at.pos),
                format!(
                    "podCIDR {} is too small: a network, a gateway, a pod and a broadcast address are wanted",
                    at.value
                ),
            );
        }
        nodes.push(Node {
            pos: place(file.name.pos),
            cidr_pos: cidr.as_ref().and_then(|at| place(at.pos)),
            spec: NodeSpec {
                name: file.name.value.clone(),
                internal_ip,
                addresses: list,
                mac: file.mac.as_ref().map(|at| at.value),
                pod_cidr: cidr.map(|at| at.value),
                control_plane: file.control_plane.unwrap_or(n == 0 && !somebody_leads),
                labels: file.labels.clone(),
                interfaces: file.interfaces.iter().map(|it| it.spec.clone()).collect(),
                routes: file.routes.iter().map(|at| at.value.clone()).collect(),
                uplink: file.uplink.as_ref().map(|uplink| uplink.spec.clone()),
            },
        });
    }
    check(&nodes, files, network, sink);
    uplink::check(files, &network.spec, sink);
    nodes
}

pub(super) fn place(pos: Pos) -> Option<Pos> {
    (pos != Pos::NOWHERE).then_some(pos)
}

/// Gives podCIDRs in order, leaving out what nodes state themselves.
struct Cidrs {
    taken: Vec<Ipv4Net>,
    blocks: Option<ipnet::Ipv4Subnets>,
}

impl Cidrs {
    fn new(files: &[NodeFile], network: &Resolved, first: Option<&At<Ipv4Net>>) -> Self {
        let taken = files
            .iter()
            .filter_map(|file| match &file.pod_cidr {
                CidrChoice::Net(at) => Some(at.value),
                CidrChoice::None | CidrChoice::Next => None,
            })
            .chain(first.map(|at| at.value))
            .collect();
        let cluster = network.spec.cluster_cidr;
        let blocks = cluster.subnets(network.node_mask).ok();
        Self { taken, blocks }
    }

    fn next(&mut self) -> Option<Ipv4Net> {
        let taken = &self.taken;
        self.blocks
            .as_mut()?
            .find(|block| !taken.iter().any(|net| overlap(*net, *block)))
    }
}

/// Gives addresses in order, leaving out what nodes state themselves and the gateway's.
struct Addresses {
    taken: HashSet<Ipv4Addr>,
    next: u32,
}

impl Addresses {
    fn new(files: &[NodeFile], network: &Resolved) -> Self {
        let mut taken: HashSet<Ipv4Addr> = files
            .iter()
            .flat_map(|file| {
                let listed = file.addresses.iter().map(|at| at.value.addr());
                listed.chain(file.internal_ip.as_ref().map(|at| at.value))
            })
            .collect();
        taken.extend(network.spec.gateway.as_ref().map(|gateway| gateway.addr));
        Self {
            taken,
            next: u32::from(network.first_node),
        }
    }

    /// The internal address and all addresses of a node.
    fn of(
        &mut self,
        file: &NodeFile,
        network: &Resolved,
        sink: &mut Sink<'_>,
    ) -> Option<(Ipv4Addr, Vec<Ipv4Net>)> {
        let subnet = network.spec.node_subnet;
        let internal = match (&file.internal_ip, file.addresses.first()) {
            (Some(at), _) => At {
                value: at.value,
                pos: at.pos,
            },
            (None, Some(at)) => At {
                value: at.value.addr(),
                pos: at.pos,
            },
            (None, None) => At {
                value: self.free(subnet, file, sink)?,
                pos: Pos::NOWHERE,
            },
        };
        let usable = |addr: Ipv4Addr| {
            subnet.contains(&addr) && addr != subnet.network() && addr != subnet.broadcast()
        };
        if !usable(internal.value) {
            sink.error_at(
                place(internal.pos),
                format!(
                    "{} of node \"{}\" is no address in nodeSubnet {subnet}",
                    internal.value, file.name.value
                ),
            );
        }
        let mut list: Vec<Ipv4Net> = file.addresses.iter().map(|at| at.value).collect();
        if list.is_empty() {
            list.push(Ipv4Net::new_assert(internal.value, subnet.prefix_len()));
        } else if !list.iter().any(|net| net.addr() == internal.value) {
            sink.error_at(
                place(internal.pos),
                format!(
                    "internalIP {} of node \"{}\" is none of its addresses",
                    internal.value, file.name.value
                ),
            );
        }
        Some((internal.value, list))
    }

    fn free(&mut self, subnet: Ipv4Net, file: &NodeFile, sink: &mut Sink<'_>) -> Option<Ipv4Addr> {
        let last = u32::from(subnet.broadcast());
        while self.next < last {
            let addr = Ipv4Addr::from(self.next);
            self.next += 1;
            if subnet.contains(&addr) && self.taken.insert(addr) {
                return Some(addr);
            }
        }
        sink.error_at(
            place(file.name.pos),
            format!(
                "no address is left in nodeSubnet {subnet} for node \"{}\"",
                file.name.value
            ),
        );
        None
    }
}

fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b) || b.contains(&a)
}

/// Two nodes may share neither name, address, MAC nor podCIDR.
fn check(nodes: &[Node], files: &[NodeFile], network: &Resolved, sink: &mut Sink<'_>) {
    let mut names: HashMap<&str, Option<Pos>> = HashMap::new();
    for node in nodes {
        if let Some(first) = names.get(node.spec.name.as_str()) {
            sink.conflict(
                node.pos,
                format!("a second node \"{}\"", node.spec.name),
                *first,
                "the first is here",
            );
        }
        names.entry(&node.spec.name).or_insert(node.pos);
    }

    let mut owners: HashMap<Ipv4Addr, (String, Option<Pos>)> = HashMap::new();
    if let Some(gateway) = &network.spec.gateway {
        owners.insert(
            gateway.addr,
            ("the gateway".to_owned(), network.gateway_pos),
        );
    }
    for node in nodes {
        for net in &node.spec.addresses {
            let owner = format!("node \"{}\"", node.spec.name);
            if let Some((other, there)) = owners.get(&net.addr()) {
                sink.conflict(
                    node.pos,
                    format!("address {} of {owner} belongs to {other}", net.addr()),
                    *there,
                    "which is here",
                );
            }
            owners.entry(net.addr()).or_insert((owner, node.pos));
        }
    }

    let mut macs: HashMap<router_core::Mac, Pos> = HashMap::new();
    for at in files.iter().filter_map(|file| file.mac.as_ref()) {
        if let Some(first) = macs.get(&at.value) {
            sink.conflict(
                Some(at.pos),
                format!("a second node with MAC {}", at.value),
                Some(*first),
                "the first is here",
            );
        }
        macs.entry(at.value).or_insert(at.pos);
    }

    // Sorted by start, networks that overlap are neighbours: of two networks one contains the other or they are apart.
    let mut cidrs: Vec<(Ipv4Net, &Node)> = nodes
        .iter()
        .filter_map(|node| Some((node.spec.pod_cidr?, node)))
        .collect();
    cidrs.sort_by_key(|(net, _)| (net.network(), net.prefix_len()));
    let mut outer: Option<(Ipv4Net, &Node)> = None;
    for (net, node) in cidrs {
        match outer {
            Some((wide, other)) if wide.contains(&net) => {
                // Report at the one that was written later.
                let later_first = other.cidr_pos.map(order) > node.cidr_pos.map(order);
                let (here, there) = if later_first {
                    ((wide, other), (net, node))
                } else {
                    ((net, node), (wide, other))
                };
                sink.conflict(
                    here.1.cidr_pos.or(here.1.pos),
                    format!(
                        "podCIDR {} of node \"{}\" overlaps {} of node \"{}\"",
                        here.0, here.1.spec.name, there.0, there.1.spec.name
                    ),
                    there.1.cidr_pos.or(there.1.pos),
                    "the other is here",
                );
            }
            _ => outer = Some((net, node)),
        }
        if overlap(net, network.spec.node_subnet) {
            sink.error_at(
                node.cidr_pos.or(node.pos),
                format!(
                    "podCIDR {net} of node \"{}\" overlaps nodeSubnet {}",
                    node.spec.name, network.spec.node_subnet
                ),
            );
        }
    }
}

fn order(pos: Pos) -> (usize, usize, usize) {
    (pos.source, pos.line, pos.column)
}

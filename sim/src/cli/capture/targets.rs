//! What a user names of a lab, as ports of nodes.
//!
//! ```text
//!   POD, NS/POD, pod/POD     the node's port that leads to the pod (its host port, for a pod on the host network)
//!   NODE, node/NODE          all ports of the node
//!   NODE:IF                  one of them, by the name that `podwire ip -n NODE link` shows; a bridge is all its ports
//!   IF, link/IF              the port of that name, on whichever nodes have one
//!   gateway                  what is behind the nodes' default gateway
//! ```
//!
//! A word that names a pod and a node is the pod, as everywhere.

use std::collections::{BTreeMap, BTreeSet};

use router_core::PortId;

use crate::cli::Failure;
use crate::cli::failure::FAILED;
use crate::cli::target::{find_node, find_pod, near, parse};
use crate::cluster::HOST_PORT;
use crate::control::capture::CapturePlace;
use crate::control::proto::{NodeStatus, Target};
use crate::model::{IfaceKind, Node, Pod};

/// The port to a node's host namespace, which is no interface of the node.
const HOST_IF: &str = "host";

/// What is behind the nodes' default gateway.
const GATEWAY: &str = "gateway";

/// Ports by node; none for all ports of one.
#[derive(Debug, Default)]
pub(super) struct Selection {
    nodes: BTreeMap<Option<String>, Option<BTreeSet<PortId>>>,
}

impl Selection {
    /// Everything of the lab.
    pub(super) fn all(nodes: &[NodeStatus], gateway: bool) -> Self {
        let names = nodes.iter().map(|status| Some(status.node.name.clone()));
        let all = names.chain(gateway.then_some(None));
        Self {
            nodes: all.map(|name| (name, None)).collect(),
        }
    }

    /// Adds what a word names.
    pub(super) fn add(
        &mut self,
        word: &str,
        namespace: &str,
        nodes: &[NodeStatus],
        pods: &[Pod],
    ) -> Result<(), Failure> {
        if let Some((node, port)) = word.split_once(':') {
            let node = node.strip_prefix("node/").unwrap_or(node);
            let node = &find_node(nodes, node)?.node;
            for id in ports_of(node, port)? {
                self.port(&node.name, id);
            }
            return Ok(());
        }
        if let Some(name) = word.strip_prefix("link/") {
            return self.link(name, nodes);
        }
        match parse(word, namespace) {
            Target::Node { name } => {
                let node = find_node(nodes, &name)?;
                self.node(Some(node.node.name.clone()));
            }
            Target::Pod { namespace, name } => match find_pod(pods, &namespace, &name) {
                Ok(pod) => {
                    let port = pod.link.as_ref().map_or(HOST_PORT, |link| link.port);
                    self.port(&pod.node, port);
                }
                Err(_) if find_node(nodes, word).is_ok() => self.node(Some(word.to_owned())),
                Err(_) if word == GATEWAY => self.node(None),
                Err(failure) if self.link(word, nodes).is_err() => return Err(failure),
                Err(_) => {}
            },
        }
        Ok(())
    }

    fn node(&mut self, name: Option<String>) {
        self.nodes.insert(name, None);
    }

    fn port(&mut self, node: &str, port: PortId) {
        let ports = self.nodes.entry(Some(node.to_owned()));
        if let Some(ports) = ports.or_insert_with(|| Some(BTreeSet::new())) {
            ports.insert(port);
        }
    }

    fn link(&mut self, name: &str, nodes: &[NodeStatus]) -> Result<(), Failure> {
        let mut found = false;
        for status in nodes {
            let ifaces = &status.node.ifaces;
            if ifaces.iter().any(|iface| iface.name == name) {
                for id in ports_of(&status.node, name)? {
                    self.port(&status.node.name, id);
                }
                found = true;
            }
        }
        if found {
            return Ok(());
        }
        let all = nodes.iter().flat_map(|status| &status.node.ifaces);
        let near = near(name, all.map(|iface| iface.name.clone()).collect());
        Err(Failure::new(
            FAILED,
            format!("link \"{name}\" not found{near}"),
        ))
    }

    /// As the daemon wants it.
    pub(super) fn places(&self, drops: bool) -> Vec<CapturePlace> {
        let nodes = self.nodes.iter();
        nodes
            .map(|(node, ports)| CapturePlace {
                node: node.clone(),
                ports: ports.as_ref().map(|ports| ports.iter().copied().collect()),
                drops,
            })
            .collect()
    }

    /// For the user: what is looked at.
    pub(super) fn describe(&self, nodes: &[NodeStatus]) -> String {
        let words = self.nodes.iter().flat_map(|(name, ports)| {
            let Some(name) = name else {
                return vec![GATEWAY.to_owned()];
            };
            let Some(ports) = ports else {
                return vec![name.clone()];
            };
            let node = nodes.iter().find(|status| status.node.name == *name);
            let port_name = |id: &PortId| {
                let iface = node.and_then(|status| {
                    let mut ifaces = status.node.ifaces.iter();
                    ifaces.find(|iface| iface.port == Some(*id))
                });
                let port = iface.map_or(HOST_IF, |iface| &iface.name);
                format!("{name}/{port}")
            };
            ports.iter().map(port_name).collect()
        });
        words.collect::<Vec<_>>().join(", ")
    }
}

/// Ports with a device behind an interface's name: its own, or those of a bridge.
pub(in crate::cli) fn ports_of(node: &Node, name: &str) -> Result<Vec<PortId>, Failure> {
    if name == HOST_IF {
        return Ok(vec![HOST_PORT]);
    }
    let fail = |text: String| Err(Failure::new(FAILED, text));
    let Some(iface) = node.ifaces.iter().find(|iface| iface.name == name) else {
        let names = node.ifaces.iter().map(|iface| iface.name.clone());
        let near = near(name, names.chain([HOST_IF.to_owned()]).collect());
        return fail(format!(
            "node \"{}\" has no port \"{name}\"{near}",
            node.name
        ));
    };
    let ports: Vec<PortId> = match iface.kind {
        IfaceKind::Bridge => {
            let members = node.ifaces.iter();
            let members = members.filter(|member| member.master.as_deref() == Some(name));
            members.filter_map(|member| member.port).collect()
        }
        IfaceKind::Ethernet | IfaceKind::Veth { .. } => iface.port.into_iter().collect(),
        IfaceKind::Loopback | IfaceKind::Sit | IfaceKind::Ipip => Vec::new(),
    };
    if ports.is_empty() {
        return fail(format!(
            "nothing passes \"{name}\" of node \"{}\" that does not pass a port with a device: capture that one",
            node.name
        ));
    }
    Ok(ports)
}

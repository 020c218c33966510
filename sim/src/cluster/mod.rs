//! The control plane of a lab as a deterministic state machine.
//!
//! Decides the whole state of nodes and pods: who has which address, interface, index, name and route, and what kindnetd
//! and the CNI plugins do to them. Doesn't touch the kernel or any process: each change returns [`Effect`]s, which the daemon
//! carries out in their order. The only I/O is what the imitated programs keep in files (IPAM state, CNI configuration) below
//! one given directory. Time is passed in. Every change is all or nothing.

mod error;
mod ip_change;
mod kindnetd;
mod link;
mod naming;
mod node;
mod plan;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use indexmap::IndexMap;
use ipnet::Ipv4Net;
use router_core::{Mac, PortId, Snapshot};

use error::did_you_mean;
pub use error::{ClusterError, IpError};
pub use ip_change::Flush;
pub use naming::suffix;
pub use node::{ETH0_PORT, HOST_PORT};
pub use snapshot::{GatewayMacs, INTERNET_PORT};

use crate::conflist;
use crate::ipam::HostLocal;
use crate::model::{Node, Phase, Pod};
use crate::spec::{LabSpec, NetworkSpec, NodeSpec, PodSpec, Preset};

/// Something that the daemon must now do. Effects are in the order in which they have to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Start the node's process and make its host side.
    CreateNode {
        /// Name.
        node: String,
    },
    /// End the node's process and close its host side.
    RemoveNode {
        /// Name.
        node: String,
    },
    /// Make the pod's namespace or stack and attach it to its node.
    CreatePod {
        /// Kubernetes namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// Take the pod away. It is in the cluster no more, so it comes along.
    RemovePod {
        /// As it was.
        pod: Box<Pod>,
    },
    /// Give the node's process its new snapshot.
    Configure {
        /// Name.
        node: String,
    },
    /// Bring addresses and routes of the node's host namespace into line with the model.
    HostSide {
        /// Name.
        node: String,
    },
    /// Forget learned neighbours of a node.
    FlushNeighbours {
        /// Name.
        node: String,
        /// Only on this port.
        port: Option<PortId>,
        /// Only this address.
        ip: Option<Ipv4Addr>,
    },
}

/// What a change did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// For the user, kubectl's way: `pod/a created`.
    pub lines: Vec<String>,
    /// For the daemon.
    pub effects: Vec<Effect>,
}

impl Outcome {
    fn line(&mut self, line: String) {
        self.lines.push(line);
    }

    fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }
}

/// A lab's control plane.
#[derive(Debug)]
pub struct Cluster {
    root: PathBuf,
    state: State,
}

#[derive(Clone, Debug)]
struct State {
    name: String,
    preset: Preset,
    seed: u64,
    network: NetworkSpec,
    nodes: IndexMap<String, NodeState>,
    pods: IndexMap<String, PodState>,
    /// Makes container ids differ when a pod comes back under its old name.
    serial: u64,
}

#[derive(Clone, Debug)]
struct NodeState {
    spec: NodeSpec,
    node: Node,
    ipam: Option<HostLocal>,
    next_ifindex: u32,
    next_port: u16,
    epoch: u32,
    /// PERMANENT neighbours that were set by hand: interface, address, MAC.
    neighbours: Vec<(String, Ipv4Addr, Mac)>,
}

#[derive(Clone, Debug)]
struct PodState {
    spec: PodSpec,
    pod: Pod,
    /// Came with the lab file, and goes with it when the lab converges to a file without it.
    declared: bool,
}

impl Cluster {
    /// A cluster in the state that `spec` declares. Files go below `root`, which is the caller's to remove.
    ///
    /// # Errors
    /// When the declaration contradicts itself.
    pub fn new(
        spec: &LabSpec,
        root: PathBuf,
        now_ms: u64,
    ) -> Result<(Self, Vec<Effect>), ClusterError> {
        let mut cluster = Self {
            root,
            state: State {
                name: spec.name.clone(),
                preset: spec.preset,
                seed: spec.seed,
                network: spec.network.clone(),
                nodes: IndexMap::new(),
                pods: IndexMap::new(),
                serial: 0,
            },
        };
        let mut outcome = Outcome::default();
        for node in &spec.nodes {
            cluster.insert_node(node, now_ms, &mut outcome)?;
        }
        for pod in &spec.pods {
            cluster.insert_pod(pod, true, now_ms, &mut outcome)?;
        }
        cluster.run_kindnetd(&mut outcome);
        Ok((cluster, tidy(outcome.effects)))
    }

    /// The lab's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Which CNI it imitates.
    #[must_use]
    pub fn preset(&self) -> Preset {
        self.state.preset
    }

    /// What all nodes share.
    #[must_use]
    pub fn network(&self) -> &NetworkSpec {
        &self.state.network
    }

    /// All nodes in order of creation.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Node> {
        self.state.nodes.values().map(|state| &state.node)
    }

    /// All pods in order of creation.
    pub fn pods(&self) -> impl ExactSizeIterator<Item = &Pod> {
        self.state.pods.values().map(|state| &state.pod)
    }

    /// A node.
    ///
    /// # Errors
    /// [`ClusterError::NoSuchNode`], with a near name.
    pub fn node(&self, name: &str) -> Result<&Node, ClusterError> {
        self.node_state(name).map(|state| &state.node)
    }

    /// A pod.
    ///
    /// # Errors
    /// [`ClusterError::NoSuchPod`], with a near name.
    pub fn pod(&self, namespace: &str, name: &str) -> Result<&Pod, ClusterError> {
        self.state
            .pods
            .get(&key(namespace, name))
            .map(|state| &state.pod)
            .ok_or_else(|| self.no_such_pod(namespace, name))
    }

    /// How a pod was declared.
    #[must_use]
    pub fn pod_spec(&self, namespace: &str, name: &str) -> Option<&PodSpec> {
        self.state
            .pods
            .get(&key(namespace, name))
            .map(|state| &state.spec)
    }

    /// A pod, for what the daemon knows of it: phase, restarts, pid, netns.
    pub fn pod_mut(&mut self, namespace: &str, name: &str) -> Option<&mut Pod> {
        self.state
            .pods
            .get_mut(&key(namespace, name))
            .map(|state| &mut state.pod)
    }

    /// What the router of a node obeys now.
    ///
    /// # Errors
    /// [`ClusterError::NoSuchNode`].
    pub fn snapshot(&self, node: &str) -> Result<Snapshot, ClusterError> {
        let state = self.node_state(node)?;
        let pods: Vec<&Pod> = self.pods().filter(|pod| pod.node == node).collect();
        Ok(snapshot::of_node(
            &state.node,
            &pods,
            &state.neighbours,
            self.host_mac(node),
            state.epoch,
        ))
    }

    /// The router's MAC on its port towards a node's host namespace.
    #[must_use]
    pub fn host_mac(&self, node: &str) -> Mac {
        naming::mac(self.state.seed, "host", node)
    }

    /// What the default gateway's router obeys, where the lab has a simulated internet, and the MACs it was made with.
    #[must_use]
    pub fn internet_snapshot(&self) -> Option<(Snapshot, GatewayMacs)> {
        let network = &self.state.network;
        let gateway = network.gateway.as_ref()?;
        let internet = network.internet.as_ref()?;
        let mac = |what| naming::mac(self.state.seed, "internet", what);
        let macs = GatewayMacs {
            underlay: mac("underlay"),
            upstream: mac("upstream"),
            internet: mac("internet"),
        };
        Some((snapshot::of_gateway(network, gateway, internet, macs), macs))
    }

    /// Directory of the files that a node sees: `cni/` and `ipam/`.
    #[must_use]
    pub fn node_dir(&self, node: &str) -> PathBuf {
        self.root.join("nodes").join(node)
    }

    /// Creates a pod.
    ///
    /// # Errors
    /// When it can't be; nothing has changed then.
    pub fn add_pod(&mut self, spec: &PodSpec, now_ms: u64) -> Result<Outcome, ClusterError> {
        let mut outcome = Outcome::default();
        self.insert_pod(spec, false, now_ms, &mut outcome)?;
        outcome.effects = tidy(outcome.effects);
        Ok(outcome)
    }

    /// Deletes a pod.
    ///
    /// # Errors
    /// When there is none, or its address can't be given back.
    pub fn delete_pod(&mut self, namespace: &str, name: &str) -> Result<Outcome, ClusterError> {
        let mut outcome = Outcome::default();
        self.remove_pod(namespace, name, &mut outcome)?;
        outcome.effects = tidy(outcome.effects);
        Ok(outcome)
    }

    /// Undoes [`Cluster::add_pod`] after the daemon failed to make the pod (IPAM-9).
    pub fn rollback_pod(&mut self, namespace: &str, name: &str) -> Vec<Effect> {
        let mut outcome = Outcome::default();
        match self.remove_pod(namespace, name, &mut outcome) {
            Ok(()) => tidy(outcome.effects),
            Err(error) => {
                tracing::error!("roll back pod {namespace}/{name}: {error}");
                Vec::new()
            }
        }
    }

    /// Lets a node join. Address and podCIDR are the next free ones unless given.
    ///
    /// # Errors
    /// When it can't be; nothing has changed then.
    pub fn add_node(
        &mut self,
        name: &str,
        internal_ip: Option<Ipv4Addr>,
        spec: Option<NodeSpec>,
        now_ms: u64,
    ) -> Result<Outcome, ClusterError> {
        let spec = match spec {
            Some(spec) => spec,
            None => self.plain_node(name, internal_ip)?,
        };
        let mut outcome = Outcome::default();
        self.insert_node(&spec, now_ms, &mut outcome)?;
        self.run_kindnetd(&mut outcome);
        outcome.effects = tidy(outcome.effects);
        Ok(outcome)
    }

    /// Removes a node and its pods; its peers' kindnetd follow.
    ///
    /// # Errors
    /// When there is none.
    pub fn delete_node(&mut self, name: &str) -> Result<Outcome, ClusterError> {
        let mut outcome = Outcome::default();
        self.remove_node(name, &mut outcome)?;
        self.run_kindnetd(&mut outcome);
        outcome.effects = tidy(outcome.effects);
        Ok(outcome)
    }

    /// Brings the cluster to the state of `spec`: what is new is added, what the file declared before and declares no more
    /// is removed, what changed is made anew. Pods that were made by hand stay.
    ///
    /// # Errors
    /// When that contradicts itself or needs a restart; nothing has changed then.
    pub fn converge(&mut self, spec: &LabSpec, now_ms: u64) -> Result<Outcome, ClusterError> {
        let needs_restart = |what| Err(ClusterError::NeedsRestart { what });
        if spec.preset != self.state.preset {
            return needs_restart("the preset");
        }
        if spec.seed != self.state.seed {
            return needs_restart("the seed");
        }
        if spec.network != self.state.network {
            return needs_restart("the network's parameters");
        }
        let saved_state = self.state.clone();
        let mut saved_ipam = Vec::new();
        for (name, state) in &self.state.nodes {
            if let Some(ipam) = &state.ipam {
                let saved = ipam.save().map_err(|source| ClusterError::Range {
                    node: name.clone(),
                    source,
                })?;
                saved_ipam.push((ipam.clone(), saved));
            }
        }
        let result = self.try_converge(spec, now_ms);
        if result.is_err() {
            self.state = saved_state;
            for (ipam, saved) in saved_ipam {
                if let Err(error) = ipam.restore(&saved) {
                    tracing::error!("put IPAM state back: {error}");
                }
            }
        }
        result
    }

    /// kindnetd's tick, due every ten seconds on every node.
    pub fn reconcile(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        self.run_kindnetd(&mut outcome);
        outcome.effects = tidy(outcome.effects);
        outcome
    }

    /// Carries out a change in iproute2's syntax on a node: the words behind `ip`.
    ///
    /// # Errors
    /// iproute2's message and exit status; nothing has changed then.
    pub fn ip_change(&mut self, node: &str, args: &[String]) -> Result<Outcome, IpError> {
        let state = self
            .state
            .nodes
            .get_mut(node)
            .ok_or_else(|| IpError::usage(format!("node \"{node}\" not found")))?;
        let mut model = state.node.clone();
        let mut neighbours = state.neighbours.clone();
        let flushes = ip_change::apply(&mut model, &mut neighbours, args)?;
        state.node = model;
        state.neighbours = neighbours;
        state.epoch += 1;
        let mut outcome = Outcome::default();
        let node = node.to_owned();
        outcome.effect(Effect::Configure { node: node.clone() });
        for Flush { port, ip } in flushes {
            outcome.effect(Effect::FlushNeighbours {
                node: node.clone(),
                port,
                ip,
            });
        }
        outcome.effect(Effect::HostSide { node });
        Ok(outcome)
    }

    fn node_state(&self, name: &str) -> Result<&NodeState, ClusterError> {
        self.state
            .nodes
            .get(name)
            .ok_or_else(|| self.no_such_node(name))
    }

    fn no_such_node(&self, name: &str) -> ClusterError {
        ClusterError::NoSuchNode {
            name: name.to_owned(),
            hint: did_you_mean(name, self.state.nodes.keys().map(String::as_str)),
        }
    }

    fn no_such_pod(&self, namespace: &str, name: &str) -> ClusterError {
        let names = self
            .pods()
            .filter(|pod| pod.namespace == namespace)
            .map(|pod| pod.name.as_str());
        ClusterError::NoSuchPod {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            hint: did_you_mean(name, names),
        }
    }

    fn try_converge(&mut self, spec: &LabSpec, now_ms: u64) -> Result<Outcome, ClusterError> {
        let mut outcome = Outcome::default();
        let wanted_nodes: IndexMap<&str, &NodeSpec> = spec
            .nodes
            .iter()
            .map(|node| (node.name.as_str(), node))
            .collect();
        let wanted_pods: IndexMap<String, &PodSpec> = spec
            .pods
            .iter()
            .map(|pod| (key(&pod.namespace, &pod.name), pod))
            .collect();
        let mut evicted = Vec::new();
        for name in self.state.nodes.keys().cloned().collect::<Vec<_>>() {
            let Some(wanted) = wanted_nodes.get(name.as_str()) else {
                self.remove_node(&name, &mut outcome)?;
                continue;
            };
            let have = &self.state.nodes[&name].spec;
            if **wanted == *have {
                continue;
            }
            let only_cidr = NodeSpec {
                pod_cidr: wanted.pod_cidr,
                ..have.clone()
            };
            if **wanted == only_cidr {
                self.change_pod_cidr(&name, wanted.pod_cidr, &mut outcome)?;
            } else {
                // Pods made by hand come back on the changed node.
                evicted.extend(
                    self.state
                        .pods
                        .values()
                        .filter(|state| state.pod.node == name && !state.declared)
                        .map(|state| state.spec.clone()),
                );
                self.remove_node(&name, &mut outcome)?;
            }
        }
        let stale: Vec<(String, String)> = self
            .state
            .pods
            .iter()
            .filter(|(key, state)| match wanted_pods.get(*key) {
                Some(wanted) => !same_pod(wanted, &state.spec),
                None => state.declared,
            })
            .map(|(_, state)| (state.pod.namespace.clone(), state.pod.name.clone()))
            .collect();
        for (namespace, name) in stale {
            self.remove_pod(&namespace, &name, &mut outcome)?;
        }
        for node in &spec.nodes {
            if !self.state.nodes.contains_key(&node.name) {
                self.insert_node(node, now_ms, &mut outcome)?;
            }
        }
        for (key, pod) in &wanted_pods {
            match self.state.pods.get_mut(key) {
                Some(state) => state.declared = true,
                None => self.insert_pod(pod, true, now_ms, &mut outcome)?,
            }
        }
        for pod in &evicted {
            if !self
                .state
                .pods
                .contains_key(&key(&pod.namespace, &pod.name))
            {
                self.insert_pod(pod, false, now_ms, &mut outcome)?;
            }
        }
        self.run_kindnetd(&mut outcome);
        outcome.effects = tidy(outcome.effects);
        Ok(outcome)
    }

    fn plain_node(
        &self,
        name: &str,
        internal_ip: Option<Ipv4Addr>,
    ) -> Result<NodeSpec, ClusterError> {
        let network = &self.state.network;
        let subnet = network.node_subnet;
        let highest = self
            .state
            .nodes
            .values()
            .map(|state| u32::from(state.spec.internal_ip))
            .max()
            .unwrap_or_else(|| u32::from(subnet.network()) + 1);
        let last = u32::from(subnet.broadcast());
        let internal_ip = match internal_ip {
            Some(ip) => ip,
            None => (highest.saturating_add(1)..last)
                .chain(u32::from(subnet.network()) + 1..last)
                .map(Ipv4Addr::from)
                .find(|ip| self.owner_of(*ip).is_none())
                .ok_or(ClusterError::NodeSubnetFull(subnet))?,
        };
        let taken: Vec<Ipv4Net> = self
            .state
            .nodes
            .values()
            .filter_map(|state| state.spec.pod_cidr)
            .collect();
        let length = taken.first().map_or(24, Ipv4Net::prefix_len);
        let pod_cidr = network
            .cluster_cidr
            .subnets(length)
            .ok()
            .and_then(|mut all| all.find(|cidr| taken.iter().all(|other| !overlap(*cidr, *other))));
        Ok(NodeSpec {
            name: name.to_owned(),
            internal_ip,
            addresses: vec![
                Ipv4Net::new(internal_ip, subnet.prefix_len())
                    .unwrap_or_else(|_| internal_ip.into()),
            ],
            mac: None,
            pod_cidr,
            control_plane: false,
            labels: IndexMap::new(),
        })
    }

    /// Who has an address of the underlay.
    fn owner_of(&self, addr: Ipv4Addr) -> Option<String> {
        let network = &self.state.network;
        if network
            .gateway
            .as_ref()
            .is_some_and(|gateway| gateway.addr == addr)
        {
            return Some("the default gateway".into());
        }
        self.state
            .nodes
            .values()
            .find(|state| state.spec.addresses.iter().any(|net| net.addr() == addr))
            .map(|state| format!("node \"{}\"", state.spec.name))
    }

    fn insert_node(
        &mut self,
        spec: &NodeSpec,
        now_ms: u64,
        outcome: &mut Outcome,
    ) -> Result<(), ClusterError> {
        check_name("node", &spec.name)?;
        if self.state.nodes.contains_key(&spec.name) {
            return Err(ClusterError::NodeExists(spec.name.clone()));
        }
        let subnet = self.state.network.node_subnet;
        for addr in spec
            .addresses
            .iter()
            .map(Ipv4Net::addr)
            .chain([spec.internal_ip])
        {
            if !subnet.contains(&addr) {
                return Err(ClusterError::OutsideNodeSubnet {
                    addr,
                    node: spec.name.clone(),
                    subnet,
                });
            }
            if let Some(owner) = self.owner_of(addr) {
                return Err(ClusterError::AddressTaken {
                    addr,
                    what: format!("node \"{}\"", spec.name),
                    owner,
                });
            }
        }
        let ipam = self.range_of(&spec.name, spec.pod_cidr)?;
        let node = node::build(spec, &self.state.network, self.state.seed, now_ms);
        let next_ifindex = node
            .ifaces
            .iter()
            .map(|iface| iface.index)
            .max()
            .unwrap_or(0)
            + 1;
        self.write_cni_files(&spec.name, spec.pod_cidr)?;
        self.state.nodes.insert(
            spec.name.clone(),
            NodeState {
                spec: spec.clone(),
                node,
                ipam,
                next_ifindex,
                next_port: node::FIRST_POD_PORT,
                epoch: 1,
                neighbours: Vec::new(),
            },
        );
        outcome.line(format!("node/{} created", spec.name));
        outcome.effect(Effect::CreateNode {
            node: spec.name.clone(),
        });
        Ok(())
    }

    /// The allocator of a podCIDR, checked against the other nodes' (but not against `node`'s own).
    fn range_of(
        &self,
        node: &str,
        cidr: Option<Ipv4Net>,
    ) -> Result<Option<HostLocal>, ClusterError> {
        let Some(cidr) = cidr else { return Ok(None) };
        for other in self
            .state
            .nodes
            .values()
            .filter(|other| other.spec.name != node)
        {
            if let Some(other_cidr) = other.spec.pod_cidr.filter(|it| overlap(cidr, *it)) {
                return Err(ClusterError::PodCidrOverlap {
                    cidr,
                    node: node.to_owned(),
                    other_cidr,
                    other: other.spec.name.clone(),
                });
            }
        }
        HostLocal::new(&self.node_dir(node).join("ipam"), conflist::NETWORK, cidr)
            .map(Some)
            .map_err(|source| ClusterError::Range {
                node: node.to_owned(),
                source,
            })
    }

    fn write_cni_files(&self, node: &str, cidr: Option<Ipv4Net>) -> Result<(), ClusterError> {
        let dir = self.node_dir(node).join("cni");
        let network = &self.state.network;
        let write = |name: &str, content: &str| {
            conflist::write_if_changed(&dir, name, content)
                .map(drop)
                .map_err(|source| ClusterError::File {
                    path: dir.join(name),
                    source,
                })
        };
        if let Some(cidr) = cidr {
            write(
                conflist::FILE_NAME,
                &conflist::kindnet(cidr, Some(network.mtu)),
            )?;
        }
        for (name, content) in &network.cni_extra_files {
            write(name, content)?;
        }
        Ok(())
    }

    /// KND-9: pods keep their addresses, new ones come from the new range.
    fn change_pod_cidr(
        &mut self,
        name: &str,
        cidr: Option<Ipv4Net>,
        outcome: &mut Outcome,
    ) -> Result<(), ClusterError> {
        let ipam = self.range_of(name, cidr)?;
        self.write_cni_files(name, cidr)?;
        if let Some(state) = self.state.nodes.get_mut(name) {
            state.ipam = ipam;
            state.spec.pod_cidr = cidr;
            state.node.pod_cidr = cidr;
            outcome.line(format!("node/{name} configured"));
        }
        Ok(())
    }

    fn remove_node(&mut self, name: &str, outcome: &mut Outcome) -> Result<(), ClusterError> {
        self.node_state(name)?;
        let pods: Vec<(String, String)> = self
            .pods()
            .filter(|pod| pod.node == name)
            .map(|pod| (pod.namespace.clone(), pod.name.clone()))
            .collect();
        for (namespace, pod) in pods {
            self.remove_pod(&namespace, &pod, outcome)?;
        }
        self.state.nodes.shift_remove(name);
        let dir = self.node_dir(name);
        if let Err(error) = std::fs::remove_dir_all(&dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("{}: {error}", dir.display());
        }
        outcome.line(format!("node/{name} deleted"));
        outcome.effect(Effect::RemoveNode {
            node: name.to_owned(),
        });
        Ok(())
    }

    fn insert_pod(
        &mut self,
        spec: &PodSpec,
        declared: bool,
        now_ms: u64,
        outcome: &mut Outcome,
    ) -> Result<(), ClusterError> {
        check_name("pod", &spec.name)?;
        check_name("namespace", &spec.namespace)?;
        let key = key(&spec.namespace, &spec.name);
        if self.state.pods.contains_key(&key) {
            return Err(ClusterError::PodExists {
                namespace: spec.namespace.clone(),
                name: spec.name.clone(),
            });
        }
        if !self.state.nodes.contains_key(&spec.node) {
            return Err(self.no_such_node(&spec.node));
        }
        let container_id = naming::container_id(self.state.seed, &key, self.state.serial);
        let (ip, link) = if spec.host_network {
            (self.state.nodes[&spec.node].node.internal_ip, None)
        } else {
            let (ip, link) = self.cni_add(spec, &key, &container_id)?;
            (ip, Some(link))
        };
        self.state.serial += 1;
        let pod = Pod {
            namespace: spec.namespace.clone(),
            name: spec.name.clone(),
            node: spec.node.clone(),
            labels: spec.labels.clone(),
            ip,
            host_network: spec.host_network,
            link,
            created_ms: now_ms,
            command: spec.command.clone(),
            container_id,
            phase: Phase::Running,
            restarts: 0,
            pid: None,
            netns: None,
        };
        outcome.line(format!("pod/{} created", spec.name));
        outcome.effect(Effect::CreatePod {
            namespace: spec.namespace.clone(),
            name: spec.name.clone(),
        });
        if pod.link.is_some() {
            self.reconfigure(&spec.node, outcome);
        }
        self.state.pods.insert(
            key,
            PodState {
                spec: spec.clone(),
                pod,
                declared,
            },
        );
        Ok(())
    }

    fn cni_add(
        &mut self,
        spec: &PodSpec,
        key: &str,
        container_id: &str,
    ) -> Result<(Ipv4Addr, crate::model::PodLink), ClusterError> {
        let Some(state) = self.state.nodes.get_mut(&spec.node) else {
            return Err(self.no_such_node(&spec.node));
        };
        let (Some(ipam), Some(subnet)) = (&state.ipam, state.spec.pod_cidr) else {
            return Err(ClusterError::NoPodCidr {
                node: spec.node.clone(),
                pod: spec.name.clone(),
            });
        };
        let Some(next_port) = state.next_port.checked_add(1) else {
            return Err(ClusterError::PortsExhausted(spec.node.clone()));
        };
        let gateway = ipam.gateway();
        let ip = ipam
            .allocate(container_id, "eth0", spec.ip)
            .map_err(|source| ClusterError::Ipam {
                pod: spec.name.clone(),
                node: spec.node.clone(),
                source,
            })?;
        let add = link::Add {
            pod: spec,
            key,
            ip,
            subnet,
            gateway,
            port: PortId(state.next_port),
            ifindex: state.next_ifindex,
            seed: self.state.seed,
        };
        let link = link::add(&mut state.node, &self.state.network, &add);
        state.next_port = next_port;
        state.next_ifindex += 1;
        Ok((ip, link))
    }

    fn remove_pod(
        &mut self,
        namespace: &str,
        name: &str,
        outcome: &mut Outcome,
    ) -> Result<(), ClusterError> {
        let key = key(namespace, name);
        let Some(pod) = self.state.pods.get(&key).map(|state| state.pod.clone()) else {
            return Err(self.no_such_pod(namespace, name));
        };
        if let Some(link) = &pod.link {
            self.cni_delete(&pod, link)?;
            self.reconfigure(&pod.node, outcome);
        }
        self.state.pods.shift_remove(&key);
        outcome.line(format!("pod \"{name}\" deleted"));
        outcome.effect(Effect::RemovePod { pod: Box::new(pod) });
        Ok(())
    }

    fn cni_delete(&mut self, pod: &Pod, link: &crate::model::PodLink) -> Result<(), ClusterError> {
        let data_dir = self.node_dir(&pod.node).join("ipam");
        let Some(state) = self.state.nodes.get_mut(&pod.node) else {
            return Ok(());
        };
        // The range may have changed since (KND-9); the files of the old one are in the same directory.
        let ipam = match &state.ipam {
            Some(ipam) => Ok(ipam.clone()),
            None => HostLocal::new(&data_dir, conflist::NETWORK, link.addr.trunc()),
        };
        ipam.and_then(|ipam| ipam.release(&pod.container_id, &link.ifname))
            .map_err(|source| ClusterError::Ipam {
                pod: pod.name.clone(),
                node: pod.node.clone(),
                source,
            })?;
        link::delete(&mut state.node, link);
        Ok(())
    }

    /// The node's router and host side need a new configuration.
    fn reconfigure(&mut self, node: &str, outcome: &mut Outcome) {
        if let Some(state) = self.state.nodes.get_mut(node) {
            state.epoch += 1;
            outcome.effect(Effect::Configure {
                node: node.to_owned(),
            });
            outcome.effect(Effect::HostSide {
                node: node.to_owned(),
            });
        }
    }

    fn run_kindnetd(&mut self, outcome: &mut Outcome) {
        let peers: Vec<kindnetd::Peer> = self
            .state
            .nodes
            .values()
            .map(|state| kindnetd::Peer {
                name: state.spec.name.clone(),
                internal_ip: state.spec.internal_ip,
                pod_cidr: state.spec.pod_cidr,
            })
            .collect();
        let keep_stale = self.state.network.stale_routes_compat;
        let mut changed = Vec::new();
        for state in self.state.nodes.values_mut() {
            if kindnetd::reconcile(&mut state.node, &peers, keep_stale) {
                changed.push(state.spec.name.clone());
            }
        }
        for name in changed {
            self.reconfigure(&name, outcome);
        }
        for (name, cidr) in self
            .state
            .nodes
            .values()
            .map(|state| (state.spec.name.clone(), state.spec.pod_cidr))
            .collect::<Vec<_>>()
        {
            if let Err(error) = self.write_cni_files(&name, cidr) {
                tracing::error!("kindnetd on {name}: {error}");
            }
        }
    }
}

/// `namespace/name`
fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// Where it was declared doesn't matter.
fn same_pod(a: &PodSpec, b: &PodSpec) -> bool {
    let without = |spec: &PodSpec| PodSpec {
        declared_at: None,
        ..spec.clone()
    };
    without(a) == without(b)
}

/// RFC 1123 subdomain, as Kubernetes wants of node and pod names; 63 bytes so that it can be a host name.
fn check_name(what: &'static str, name: &str) -> Result<(), ClusterError> {
    let bad = |why| {
        Err(ClusterError::BadName {
            what,
            name: name.to_owned(),
            why,
        })
    };
    if name.is_empty() || name.len() > 63 {
        return bad("1 to 63 characters are wanted");
    }
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if !name
        .bytes()
        .all(|byte| is_word(byte) || byte == b'-' || byte == b'.')
    {
        return bad("only lower case letters, digits, '-' and '.' are allowed");
    }
    if name.split('.').any(|label| {
        !label.as_bytes().first().copied().is_some_and(is_word)
            || !label.as_bytes().last().copied().is_some_and(is_word)
    }) {
        return bad("each part must begin and end with a letter or a digit");
    }
    Ok(())
}

/// Of several `Configure` and `HostSide` for one node only the last of each is needed, and none for a node that goes.
/// Those for nodes that gain ports come behind the creation of all pods.
fn tidy(effects: Vec<Effect>) -> Vec<Effect> {
    let removed: BTreeSet<String> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::RemoveNode { node } => Some(node.clone()),
            _ => None,
        })
        .collect();
    let created: BTreeSet<String> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::CreateNode { node } => Some(node.clone()),
            _ => None,
        })
        .collect();
    let mut seen = BTreeSet::new();
    let mut kept: Vec<Effect> = effects
        .into_iter()
        .rev()
        .filter(|effect| match effect {
            Effect::Configure { node } | Effect::HostSide { node } => {
                (!removed.contains(node) || created.contains(node))
                    && seen.insert((matches!(effect, Effect::HostSide { .. }), node.clone()))
            }
            _ => true,
        })
        .collect();
    kept.reverse();
    kept
}

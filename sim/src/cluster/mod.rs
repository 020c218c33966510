//! The control plane of a lab as a deterministic state machine.
//!
//! Decides the whole state of nodes and pods: who has which address, interface, index, name and route, and what kindnetd
//! and the CNI plugins do to them. Doesn't touch the kernel or any process: each change returns [`Effect`]s, which the daemon
//! carries out in their order. The only I/O is what the imitated programs keep in files (IPAM state, CNI configuration) below
//! one given directory. Time is passed in. Every change is all or nothing.

mod bandwidth;
pub(crate) mod bridge;
pub(crate) mod calico;
pub(crate) mod cni;
mod converge;
mod docker;
mod error;
mod host_ports;
mod ip_change;
mod kindnetd;
mod link;
pub(crate) mod manual;
mod masq;
mod masq_set;
mod naming;
mod node;
mod nodes;
mod objects;
mod plan;
mod pods;
mod services;
mod snapshot;
#[cfg(test)]
mod tests;
pub mod uplink;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use indexmap::IndexMap;
use ipnet::Ipv4Net;
use router_core::config::nat::NatConfig;
use router_core::policy::PolicyConfig;
use router_core::{Filter, Mac, PortId, Snapshot};

use calico::Calico;
pub(crate) use calico::bird::AS_NUMBER;
use error::did_you_mean;
pub use error::{ClusterError, IpError};
pub use ip_change::Flush;
pub(crate) use ip_change::parse_route;
pub use naming::suffix;
pub use node::{ETH0_PORT, HOST_PORT};
use objects::Objects;

use crate::ipam::HostLocal;
use crate::model::{Node, Pod};
use crate::spec::{
    BridgeNetwork, LabSpec, MasqAgent, NetworkSpec, NodeSpec, PodSpec, PolicyMode, Preset,
};

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
    /// Forget connections of a node (NAT-69, PM-7).
    FlushSessions {
        /// Name.
        node: String,
        /// Which.
        filter: Filter,
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
    /// Whether network policies have an effect.
    policy: PolicyMode,
    objects: Objects,
    /// What policies mean for each node that has an isolated pod.
    compiled: BTreeMap<String, PolicyConfig>,
    /// The chains of services for each node.
    portals: BTreeMap<String, NatConfig>,
    /// When the lab began, milliseconds since the Unix epoch.
    created_ms: u64,
    /// The last time that was passed in, milliseconds since the Unix epoch.
    now_ms: u64,
    /// With the preset of that name.
    calico: Option<Calico>,
}

#[derive(Clone, Debug)]
struct NodeState {
    spec: NodeSpec,
    node: Node,
    ipam: Option<HostLocal>,
    next_ifindex: u32,
    next_port: u16,
    epoch: u32,
    /// The nat table, as the programs on the node keep it; services are joined to it in the snapshot.
    nat: NatConfig,
    /// When kindnetd looks at its rules in there again.
    masq_due_ms: u64,
    /// PERMANENT neighbours that were set by hand: interface, address, MAC.
    neighbours: Vec<(String, Ipv4Addr, Mac)>,
    /// Came with the lab file, and goes with it when the lab converges to a file without it.
    declared: bool,
}

#[derive(Clone, Debug)]
struct PodState {
    spec: PodSpec,
    pod: Pod,
    /// The network that it was added to, where that was the plugin `bridge`'s: DEL needs it, whatever the files say by then.
    network: Option<BridgeNetwork>,
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
        let calico = Calico::new(&spec.network, &root, now_ms)?;
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
                policy: spec.policy,
                objects: Objects::new(),
                compiled: BTreeMap::new(),
                portals: BTreeMap::new(),
                created_ms: now_ms,
                now_ms,
                calico,
            },
        };
        let mut outcome = Outcome::default();
        for node in &spec.nodes {
            cluster.insert_node(node, true, now_ms, &mut outcome)?;
        }
        let (old, new): (Vec<_>, Vec<_>) = spec
            .pods
            .iter()
            .partition(|pod| cluster.precedes_calico(pod));
        for pod in old {
            cluster.insert_pod(pod, true, now_ms, &mut outcome)?;
        }
        cluster.start_calico()?;
        for pod in new {
            cluster.insert_pod(pod, true, now_ms, &mut outcome)?;
        }
        cluster.run_controllers(&mut outcome);
        if let Some(failed) = cluster.declared_routes(&mut outcome).into_iter().next() {
            return Err(ClusterError::Route(failed));
        }
        for object in &spec.objects {
            cluster.put_object(object.clone(), true, now_ms, &mut outcome)?;
        }
        cluster.settle(&mut outcome);
        Ok((cluster, outcome.effects))
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
        let mut snapshot = snapshot::of_node(
            &state.node,
            &pods,
            &state.neighbours,
            self.host_mac(node),
            state.epoch,
        );
        snapshot.nat = state.nat.clone();
        for pod in self.state.pods.values().filter(|p| p.pod.node == node) {
            if let Some(network) = pod.network.as_ref().filter(|n| n.ip_masq) {
                masq::ip_masq(&mut snapshot.nat, network, &pod.pod);
            }
        }
        self.run_felix(&state.node, &mut snapshot);
        // Connections are tracked from the start, so that those that are there pass when a policy comes (NP-16).
        if self.state.policy == PolicyMode::Enforce {
            snapshot.nat.conntrack.enabled = true;
        }
        if let Some(policy) = self.state.compiled.get(node) {
            snapshot.policy = policy.clone();
        }
        if let Some(portals) = self.state.portals.get(node) {
            services::join(&mut snapshot.nat, portals);
        }
        if self.state.network.kind_masq_agent == MasqAgent::Nftables {
            masq_set::put_first(&mut snapshot.nat);
        }
        self.state.network.conntrack.apply(&mut snapshot.nat);
        self.map_ports(node, &mut snapshot);
        Ok(snapshot)
    }

    /// The router's MAC on its port towards a node's host namespace.
    #[must_use]
    pub fn host_mac(&self, node: &str) -> Mac {
        naming::mac(self.state.seed, "host", node)
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
        self.state.now_ms = now_ms;
        self.insert_pod(spec, false, now_ms, &mut outcome)?;
        self.run_bird(&mut outcome);
        self.settle(&mut outcome);
        Ok(outcome)
    }

    /// Deletes a pod.
    ///
    /// # Errors
    /// When there is none, or its address can't be given back.
    pub fn delete_pod(&mut self, namespace: &str, name: &str) -> Result<Outcome, ClusterError> {
        let mut outcome = Outcome::default();
        self.remove_pod(namespace, name, &mut outcome)?;
        self.run_bird(&mut outcome);
        self.settle(&mut outcome);
        Ok(outcome)
    }

    /// Undoes [`Cluster::add_pod`] after the daemon failed to make the pod (IPAM-9).
    pub fn rollback_pod(&mut self, namespace: &str, name: &str) -> Vec<Effect> {
        let mut outcome = Outcome::default();
        match self.remove_pod(namespace, name, &mut outcome) {
            Ok(()) => {
                self.run_bird(&mut outcome);
                self.settle(&mut outcome);
                outcome.effects
            }
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
        self.state.now_ms = now_ms;
        self.insert_node(&spec, false, now_ms, &mut outcome)?;
        if let Err(error) = self.start_calico() {
            self.remove_node(&spec.name, &mut Outcome::default())?;
            return Err(error);
        }
        self.run_controllers(&mut outcome);
        self.settle(&mut outcome);
        Ok(outcome)
    }

    /// Removes a node and its pods; its peers' kindnetd follow.
    ///
    /// # Errors
    /// When there is none.
    pub fn delete_node(&mut self, name: &str) -> Result<Outcome, ClusterError> {
        let mut outcome = Outcome::default();
        self.remove_node(name, &mut outcome)?;
        self.run_controllers(&mut outcome);
        self.settle(&mut outcome);
        Ok(outcome)
    }

    /// How long after one [`Cluster::reconcile`] the next is due: kindnetd looks every ten seconds, BIRD every two.
    #[must_use]
    pub const fn tick(&self) -> Duration {
        match self.state.preset {
            Preset::Kindnet | Preset::PodmanBridge | Preset::Manual => Duration::from_secs(10),
            Preset::Calico => Duration::from_secs(2),
        }
    }

    /// The tick of every node's controller.
    pub fn reconcile(&mut self, now_ms: u64) -> Outcome {
        let mut outcome = Outcome::default();
        self.state.now_ms = now_ms;
        self.run_controllers(&mut outcome);
        self.settle(&mut outcome);
        outcome
    }

    /// Carries out a change in iproute2's syntax on a node: the words behind `ip`.
    ///
    /// # Errors
    /// iproute2's message and exit status; nothing has changed then.
    pub fn ip_change(&mut self, node: &str, args: &[String]) -> Result<Outcome, IpError> {
        let seed = self.state.seed;
        let state = self
            .state
            .nodes
            .get_mut(node)
            .ok_or_else(|| IpError::usage(format!("node \"{node}\" not found")))?;
        let mut model = state.node.clone();
        let mut neighbours = state.neighbours.clone();
        let flushes = {
            let mut ids = ip_change::Ids {
                ifindex: state.next_ifindex,
                port: state.next_port,
                seed,
            };
            let flushes = ip_change::apply(&mut model, &mut neighbours, &mut ids, args)?;
            (state.next_ifindex, state.next_port) = (ids.ifindex, ids.port);
            flushes
        };
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

    fn run_controllers(&mut self, outcome: &mut Outcome) {
        match self.state.preset {
            Preset::Kindnet => self.run_kindnetd(outcome),
            Preset::Calico => self.run_bird(outcome),
            Preset::PodmanBridge | Preset::Manual => {}
        }
        match self.state.network.kind_masq_agent {
            MasqAgent::None => {}
            MasqAgent::Iptables => self.run_masq_agents(outcome),
            MasqAgent::Nftables => self.run_masq_sets(outcome),
        }
    }

    /// Makes sure of the rules of ip-masq-agent on each node whose minute is over (KM-9).
    fn run_masq_agents(&mut self, outcome: &mut Outcome) {
        let (now_ms, cluster) = (self.state.now_ms, self.state.network.cluster_cidr);
        let mut changed = Vec::new();
        for (name, state) in &mut self.state.nodes {
            if now_ms >= state.masq_due_ms {
                state.masq_due_ms = now_ms + masq::INTERVAL_MS;
                if masq::ensure(&mut state.nat, cluster) {
                    changed.push(name.clone());
                }
            }
        }
        for name in changed {
            self.reconfigure(&name, outcome);
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
            if let Err(error) = self.write_own_file(&name, cidr) {
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
    let without = |spec: &PodSpec| {
        let mut spec = PodSpec {
            declared_at: None,
            ..spec.clone()
        };
        for host in spec.ports.iter_mut().filter_map(|port| port.host.as_mut()) {
            host.declared_at = None;
        }
        spec
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

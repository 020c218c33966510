//! Carrying out what the cluster decided.
//!
//! Decides what is done side by side: sandboxes by a few threads while node processes start, requests to all node processes
//! before the first answer is waited for, devices closed together at the end. What several effects ask of one node
//! (a new configuration, a new host side) is done once, with the final state.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use router_core::Filter;
use router_core::Mac;
use tap_bridge::fabric::MemberId;

use super::host_side::HostSide;
use super::lab::{Lab, LabError, PodRuntime};
use super::nodes::{ANSWER_TIMEOUT, Extent, NodeRuntime, Port, Underlay};
use super::programs::{Program, ProgramSpec};
use crate::cluster::{Effect, HOST_PORT};
use crate::control::node::{Attachment, NodeRequest};
use crate::dns;
use crate::model::{IfaceKind, Node, Pod};
use crate::node::handle::{NodeError, Role, Ticket};
use crate::pod::netns::{FarEnd, NodeFiles, Plan, RouterEnd, Sandbox, close, over_file};
use crate::pod::network::Network;

/// Index of the router's end of a node's host side, above those of the node's interfaces, which have theirs by their model.
const HOST_FAR_IFINDEX: u32 = 1 << 20;

/// Requests that were posted and not yet answered, by node.
type Waiting = Vec<(String, Ticket)>;

/// The first failure of several steps that are all tried.
struct First(Result<(), LabError>);

impl First {
    fn note(&mut self, outcome: Result<(), LabError>) {
        match (&self.0, outcome) {
            (Ok(()), outcome) => self.0 = outcome,
            (Err(_), Err(later)) => tracing::error!("{later}"),
            (Err(_), Ok(())) => {}
        }
    }
}

/// Work that is done once, after all effects.
#[derive(Default)]
struct Later {
    configure: BTreeSet<String>,
    host_side: BTreeSet<String>,
    flush: Vec<(String, Filter)>,
    programs: Vec<(String, String)>,
    grave: Vec<Sandbox>,
    waiting: Waiting,
}

impl Lab {
    /// Directories and files that sandboxes see.
    pub(super) fn prepare_files(&mut self) -> Result<(), LabError> {
        let broken = |error: io::Error| LabError::internal(format!("the lab's files: {error}"));
        let root = &self.setting.root;
        fs::write(
            root.join("resolv.conf"),
            "# The cluster has no name server; /etc/hosts has the lab's names.\n",
        )
        .map_err(broken)?;
        let server = self
            .cluster
            .network()
            .internet
            .as_ref()
            .and_then(|internet| internet.addresses.first());
        let node_text = server.map_or_else(String::new, |server| format!("nameserver {server}\n"));
        fs::write(root.join("resolv-node.conf"), node_text).map_err(broken)?;
        fs::write(root.join("hosts"), "").map_err(broken)?;
        if self.backend.has_namespaces() {
            // In the daemon's own mount namespace, of which every sandbox's begins as a copy.
            for name in ["hosts", "resolv.conf"] {
                over_file(&root.join(name), &Path::new("/etc").join(name)).map_err(broken)?;
            }
        }
        Ok(())
    }

    /// Carries out `effects`.
    ///
    /// # Errors
    /// [`LabError`]. When a sandbox can't be made nothing was changed; when a node process fails it is started again
    /// with the cluster's state.
    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), LabError> {
        if effects.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let mut made = self.make(&effects)?;
        let made_after = started.elapsed();
        let mut later = Later::default();
        let mut result = First(Ok(()));
        for effect in effects {
            let outcome = self.one(effect, &mut made, &mut later);
            // The rest is carried out nevertheless: the cluster has decided it.
            result.note(outcome);
        }
        result.note(self.finish_requests(&mut later));
        result.note(self.publish_names());
        for (namespace, name) in std::mem::take(&mut later.programs) {
            result.note(self.start_program(&namespace, &name));
        }
        let answered_after = started.elapsed();
        later.grave.extend(made.into_values());
        close(later.grave);
        tracing::debug!(
            "made after {made_after:?}, answered after {answered_after:?}, closed after {:?}",
            started.elapsed()
        );
        if let Err(error) = self.write_hosts() {
            tracing::warn!("the hosts file can't be written: {error}");
        }
        result.0
    }

    /// Makes the sandboxes and starts the node processes that `effects` will want, side by side.
    fn make(&mut self, effects: &[Effect]) -> Result<HashMap<String, Sandbox>, LabError> {
        let (keys, plans) = self.plans(effects)?;
        let connections = self.cluster.network().conntrack.limit();
        let mut joining = Vec::new();
        for effect in effects {
            if let Effect::CreateNode { node } = effect {
                let extent = Extent {
                    workers: self.workers_of(node),
                    connections,
                };
                joining.push((node.as_str(), self.underlay(node)?, extent));
            }
        }
        let around = self.around.clone();
        let workshop = self.workshop.as_ref();
        let (nodes, sandboxes) = std::thread::scope(|scope| {
            let starter = scope.spawn(|| {
                joining
                    .iter()
                    .map(|(name, underlay, extent)| {
                        NodeRuntime::start(name, Role::Node, *underlay, *extent, &around)
                    })
                    .collect::<io::Result<Vec<_>>>()
            });
            let sandboxes = workshop.map_or(Ok(Vec::new()), |workshop| workshop.make(&plans));
            (
                starter.join().expect("starting processes doesn't panic"),
                sandboxes,
            )
        });
        let nodes = nodes.map_err(|error| {
            LabError::internal(format!("a node process can't be started: {error}"))
        });
        match (nodes, sandboxes) {
            (Ok(nodes), Ok(sandboxes)) => {
                self.nodes
                    .extend(nodes.into_iter().map(|node| (node.name().to_owned(), node)));
                Ok(keys.into_iter().zip(sandboxes).collect())
            }
            (nodes, Err(error)) => {
                for node in nodes.into_iter().flatten() {
                    node.stop(&self.setting.children);
                }
                Err(error.into())
            }
            (Err(error), Ok(sandboxes)) => {
                close(sandboxes);
                Err(error)
            }
        }
    }

    /// What sandboxes `effects` want, with their names in [`Later`].
    fn plans(&self, effects: &[Effect]) -> Result<(Vec<String>, Vec<Plan>), LabError> {
        let (mut keys, mut plans) = (Vec::new(), Vec::new());
        if !self.backend.has_namespaces() {
            return Ok((keys, plans));
        }
        for effect in effects {
            match effect {
                Effect::CreateNode { node } => {
                    keys.push(format!("node/{node}"));
                    plans.push(self.host_plan(node)?);
                }
                Effect::CreatePod { namespace, name } => {
                    if let Some(plan) = self
                        .cluster
                        .pod(namespace, name)
                        .ok()
                        .and_then(|pod| self.pod_plan(pod))
                    {
                        keys.push(format!("pod/{namespace}/{name}"));
                        plans.push(plan);
                    }
                }
                _ => {}
            }
        }
        Ok((keys, plans))
    }

    fn pod_plan(&self, pod: &Pod) -> Option<Plan> {
        if pod.host_network {
            return None;
        }
        let link = pod.link.as_ref();
        let files = self
            .setting
            .root
            .join("pods")
            .join(format!("{}_{}", pod.namespace, pod.name));
        Some(Plan {
            name: format!("pod {}", pod.key()),
            hostname: pod.name.clone(),
            files,
            resolv: self.cluster.resolv_conf(&pod.namespace),
            ifname: link.map_or_else(String::new, |link| link.ifname.clone()),
            ifindex: link.map_or(0, |link| link.ifindex),
            mac: link.map_or(Mac::ZERO, |link| link.mac),
            mtu: link.map_or(0, |link| link.mtu),
            far: FarEnd {
                node: pod.node.clone(),
                ifname: link.map_or_else(String::new, |link| link.host_ifname.clone()),
                ifindex: link.map(|link| link.host_ifindex),
            },
            queues: self.workers_of(&pod.node),
            ipv6_link_local: link.is_some_and(|link| link.ipv6_link_local),
            network: link.map_or_else(Network::default, Network::of_pod),
            node: None,
        })
    }

    fn host_plan(&self, name: &str) -> Result<Plan, LabError> {
        let node = self.cluster.node(name)?;
        let eth0 = ethernet(node)?;
        let router = self.cluster.host_mac(name);
        let root = self.cluster.node_dir(name);
        let (cni, ipam) = (root.join("cni"), root.join("ipam"));
        for dir in [&cni, &ipam] {
            fs::create_dir_all(dir)
                .map_err(|error| LabError::internal(format!("{}: {error}", dir.display())))?;
        }
        Ok(Plan {
            name: format!("node {name}"),
            hostname: name.to_owned(),
            files: root.join("host"),
            resolv: None,
            ifname: "eth0".to_owned(),
            ifindex: eth0.index,
            mac: eth0.mac,
            mtu: u16::try_from(eth0.mtu).unwrap_or(u16::MAX),
            far: FarEnd {
                node: name.to_owned(),
                ifname: "podwire-host".to_owned(),
                ifindex: Some(HOST_FAR_IFINDEX),
            },
            queues: self.workers_of(name),
            ipv6_link_local: eth0.link_local.is_some(),
            network: self.host_network(node, router),
            node: Some(NodeFiles {
                cni,
                cni_at: self.cluster.network().cni_conf_dir.clone().into(),
                ipam,
                hosts: self.setting.root.join("hosts"),
                resolv: self.setting.root.join("resolv-node.conf"),
            }),
        })
    }

    fn underlay(&mut self, name: &str) -> Result<Underlay, LabError> {
        let node = self.cluster.node(name)?;
        let eth0 = ethernet(node)?;
        let underlay = Underlay {
            port: eth0.port.ok_or_else(|| missing(name))?,
            member: MemberId(self.next_member),
            mac: eth0.mac,
            mtu: u16::try_from(eth0.mtu).unwrap_or(u16::MAX),
        };
        self.next_member += u32::try_from(self.workers_of(name)).unwrap_or(1);
        Ok(underlay)
    }

    fn one(
        &mut self,
        effect: Effect,
        made: &mut HashMap<String, Sandbox>,
        later: &mut Later,
    ) -> Result<(), LabError> {
        match effect {
            Effect::CreateNode { node } => {
                let sandbox = made.remove(&format!("node/{node}"));
                self.connect_node(&node, sandbox, later)?;
                later.configure.insert(node);
            }
            Effect::RemoveNode { node } => {
                if let Some(runtime) = self.nodes.remove(&node) {
                    for member in runtime.members() {
                        if let Err(error) = self.around.hub.remove_member(member) {
                            tracing::debug!("node {node}: {error}");
                        }
                    }
                    runtime.kill();
                    later.grave.extend(runtime.stop(&self.setting.children));
                }
                if let Some(workshop) = &self.workshop {
                    workshop.forget(&node);
                }
                self.around.logs.remove(&format!("node/{node}"));
                later.configure.remove(&node);
                later.host_side.remove(&node);
            }
            Effect::CreatePod { namespace, name } => {
                let sandbox = made.remove(&format!("pod/{namespace}/{name}"));
                self.connect_pod(&namespace, &name, sandbox, later)?;
                later.programs.push((namespace, name));
            }
            Effect::RemovePod { pod } => self.remove_pod(&pod, later),
            Effect::Configure { node } => {
                later.configure.insert(node);
            }
            Effect::HostSide { node } => {
                later.host_side.insert(node);
            }
            Effect::FlushSessions { node, filter } => {
                later.flush.push((node, filter));
            }
            Effect::FlushNeighbours { node, port, ip } => {
                let request = NodeRequest::FlushNeighbours { port, ip };
                if let Some(runtime) = self.nodes.get_mut(&node) {
                    let ticket = runtime.post(request, &[])?;
                    later.waiting.push((node, ticket));
                }
            }
        }
        Ok(())
    }

    fn connect_node(
        &mut self,
        name: &str,
        sandbox: Option<Sandbox>,
        later: &mut Later,
    ) -> Result<(), LabError> {
        let router = self.cluster.host_mac(name);
        let node = self.cluster.node(name)?;
        let mtu = u16::try_from(ethernet(node)?.mtu).unwrap_or(u16::MAX);
        let network = self.host_network(node, router);
        let slots = self.cluster.network().conntrack.limit();
        let uplink = self.uplink(name);
        let runtime = self.nodes.get_mut(name).ok_or_else(|| missing(name))?;
        let journal = runtime.keep_journal(slots)?;
        later.waiting.push((name.to_owned(), journal));
        let joined = runtime.join(&self.around)?;
        later.waiting.push((name.to_owned(), joined));
        let end = sandbox.as_ref().and_then(Sandbox::router_end);
        let port = Port {
            name: "host".to_owned(),
            mtu,
            attachment: end.map_or(Attachment::Host, RouterEnd::attachment),
            devices: end.map_or_else(Vec::new, |end| end.descriptors().to_vec()),
        };
        let segment = runtime.impair_segment(self.cluster.network().impairments);
        later
            .waiting
            .extend(segment?.map(|ticket| (name.to_owned(), ticket)));
        runtime.host = sandbox.map(|sandbox| HostSide::new(sandbox, network));
        let uplink = uplink.map(|(id, port)| runtime.add_port(id, port));
        let ticket = runtime.add_port(HOST_PORT, port)?;
        later.waiting.push((name.to_owned(), ticket));
        later
            .waiting
            .extend(uplink.transpose()?.map(|it| (name.to_owned(), it)));
        Ok(())
    }

    fn connect_pod(
        &mut self,
        namespace: &str,
        name: &str,
        sandbox: Option<Sandbox>,
        later: &mut Later,
    ) -> Result<(), LabError> {
        let Ok(pod) = self.cluster.pod(namespace, name) else {
            return Ok(());
        };
        let key = pod.key();
        let node = pod.node.clone();
        let port = pod.link.as_ref().map(|link| {
            let end = sandbox.as_ref().and_then(Sandbox::router_end);
            let attachment = match end {
                Some(end) => end.attachment(),
                None => Attachment::Pod {
                    mac: link.mac,
                    addr: link.addr.addr(),
                    gateway_mac: link.gateway_mac().unwrap_or(link.host_mac),
                    on_link: link.bridge.as_ref().map(|_| link.addr.trunc()),
                },
            };
            let port = Port {
                name: link.host_ifname.clone(),
                mtu: link.mtu,
                attachment,
                devices: end.map_or_else(Vec::new, |end| end.descriptors().to_vec()),
            };
            (link.port, port)
        });
        self.pods.insert(
            key,
            PodRuntime {
                sandbox,
                program: None,
            },
        );
        if let Some((id, port)) = port {
            let runtime = self.nodes.get_mut(&node).ok_or_else(|| missing(&node))?;
            let ticket = runtime.add_port(id, port)?;
            later.waiting.push((node.clone(), ticket));
            let spec = self.cluster.pod_spec(namespace, name);
            let wanted = spec.map_or_else(Default::default, |spec| spec.impairments);
            let impaired = runtime.impair_new(id, wanted)?;
            later
                .waiting
                .extend(impaired.map(|ticket| (node.clone(), ticket)));
            later.configure.insert(node);
        }
        Ok(())
    }

    fn remove_pod(&mut self, pod: &Pod, later: &mut Later) {
        let key = pod.key();
        if let Some(runtime) = self.pods.remove(&key) {
            if let Some(program) = runtime.program {
                program.join();
            }
            if let Some(sandbox) = runtime.sandbox {
                if self.setting.pid_namespace {
                    super::programs::kill_inside(sandbox.net());
                }
                later.grave.push(sandbox);
            }
        }
        self.around.logs.remove(&format!("pod/{key}"));
        let removed = pod
            .link
            .as_ref()
            .and_then(|link| self.nodes.get_mut(&pod.node)?.remove_port(link.port));
        match removed {
            Some(Ok(ticket)) => later.waiting.push((pod.node.clone(), ticket)),
            // It has no port any more in either case.
            Some(Err(error)) => tracing::debug!("{error}"),
            None => {}
        }
        if self.nodes.contains_key(&pod.node) {
            later.configure.insert(pod.node.clone());
        }
    }

    /// Sends configurations, changes host sides, then waits for all answers.
    fn finish_requests(&mut self, later: &mut Later) -> Result<(), LabError> {
        let mut result = First(Ok(()));
        for name in std::mem::take(&mut later.configure) {
            let (Ok(snapshot), Some(runtime)) =
                (self.cluster.snapshot(&name), self.nodes.get_mut(&name))
            else {
                continue;
            };
            let snapshot = Box::new(snapshot);
            match runtime.post(NodeRequest::Configure { snapshot }, &[]) {
                Ok(ticket) => later.waiting.push((name, ticket)),
                Err(error) => result.note(survivable(error)),
            }
        }
        // With the new rules in force, lest a packet in between makes a connection by the old ones.
        for (name, filter) in std::mem::take(&mut later.flush) {
            let Some(runtime) = self.nodes.get_mut(&name) else {
                continue;
            };
            match runtime.post(NodeRequest::FlushSessions { filter }, &[]) {
                Ok(ticket) => later.waiting.push((name, ticket)),
                Err(error) => result.note(survivable(error)),
            }
        }
        for name in std::mem::take(&mut later.host_side) {
            result.note(self.change_host_side(&name));
        }
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        for (name, ticket) in std::mem::take(&mut later.waiting) {
            if let Some(runtime) = self.nodes.get_mut(&name)
                && let Err(error) = runtime.wait(ticket, deadline)
            {
                result.note(survivable(error));
            }
        }
        result.0
    }

    fn change_host_side(&mut self, name: &str) -> Result<(), LabError> {
        let router = self.cluster.host_mac(name);
        let Ok(node) = self.cluster.node(name) else {
            return Ok(());
        };
        let wanted = self.host_network(node, router);
        let Some(host) = self.nodes.get_mut(name).and_then(|node| node.host.as_mut()) else {
            return Ok(());
        };
        host.become_network(wanted)
            .map_err(|error| LabError::internal(format!("node {name}: host namespace: {error}")))
    }

    fn start_program(&mut self, namespace: &str, name: &str) -> Result<(), LabError> {
        let key = format!("{namespace}/{name}");
        let (Ok(pod), Some(spec)) = (
            self.cluster.pod(namespace, name),
            self.cluster.pod_spec(namespace, name),
        ) else {
            return Ok(());
        };
        let own = || self.name_server(pod);
        let Some(command) = spec
            .command
            .clone()
            .filter(|command| !command.is_empty())
            .or_else(own)
        else {
            return Ok(());
        };
        let Some(sandbox) = self.sandbox_of(pod) else {
            tracing::warn!("pod {key}: its program does not run on the inproc back end");
            return Ok(());
        };
        let program = ProgramSpec {
            command,
            env: spec.env.clone(),
            restart: spec.restart,
            log: format!("pod/{key}"),
        };
        let started = Program::start(
            program,
            sandbox,
            self.setting.children.clone(),
            self.setting.logs.clone(),
            Arc::clone(&self.setting.phases),
            !self.setting.pid_namespace,
        )
        .map_err(|error| {
            LabError::internal(format!("pod {key}: its program can't be started: {error}"))
        })?;
        if let Some(runtime) = self.pods.get_mut(&key) {
            runtime.program = Some(started);
        }
        Ok(())
    }

    /// The name server's program, for a pod that is behind kube-dns and has no program of its own.
    fn name_server(&self, pod: &Pod) -> Option<Vec<String>> {
        if pod.namespace != "kube-system"
            || pod.host_network
            || pod.labels.get("k8s-app").map(String::as_str) != Some("kube-dns")
        {
            return None;
        }
        let program = std::env::current_exe().ok()?;
        Some(vec![
            program.to_str()?.to_owned(),
            dns::server::COMMAND.to_owned(),
            self.zone_file().to_str()?.to_owned(),
        ])
    }

    fn zone_file(&self) -> PathBuf {
        self.setting.root.join("dns").join("zone.json")
    }

    /// Gives the name server the names that there are now.
    pub(super) fn publish_names(&mut self) -> Result<(), LabError> {
        let zone = self.cluster.zone();
        if self.published.as_ref() == Some(&zone) {
            return Ok(());
        }
        let file = self.zone_file();
        let broken = |error: io::Error| LabError::internal(format!("{}: {error}", file.display()));
        if let Some(dir) = file.parent() {
            fs::create_dir_all(dir).map_err(broken)?;
        }
        dns::server::publish(&file, &zone).map_err(broken)?;
        self.published = Some(zone);
        Ok(())
    }

    /// The names of nodes and pods, in place, because it is mounted in every sandbox.
    fn write_hosts(&self) -> io::Result<()> {
        let mut text =
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
        for node in self.cluster.nodes() {
            let _ = writeln!(text, "{}\t{}", node.internal_ip, node.name);
        }
        let named = |pod: &&Pod| !pod.host_network && !pod.ip.is_unspecified();
        for pod in self.cluster.pods().filter(named) {
            let short = if pod.namespace == "default" {
                pod.name.as_str()
            } else {
                ""
            };
            let _ = writeln!(text, "{}\t{}.{} {short}", pod.ip, pod.name, pod.namespace);
        }
        fs::write(self.setting.root.join("hosts"), text)
    }
}

/// A process that has ended gets everything again when it is restarted, which is no failure of the change.
fn survivable(error: NodeError) -> Result<(), LabError> {
    if let NodeError::Gone { .. } = error {
        tracing::warn!("{error}");
        Ok(())
    } else {
        Err(error.into())
    }
}

fn ethernet(node: &Node) -> Result<&crate::model::Iface, LabError> {
    node.ifaces
        .iter()
        .find(|iface| iface.kind == IfaceKind::Ethernet)
        .ok_or_else(|| LabError::internal(format!("node {} has no underlay interface", node.name)))
}

fn missing(name: &str) -> LabError {
    LabError::internal(format!(
        "node {name} is missing a part that the cluster promised"
    ))
}

//! A running lab: what the cluster decides, and the namespaces, devices, processes and programs that carry it out.
//!
//! Decides the order of a change: the cluster first (pure, all or nothing), then what can fail without having changed anything
//! (sandboxes), then node processes, then programs; a failure undoes the cluster's part. One lock around the whole value
//! serialises changes, see [`server`](super::server).

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use router_core::config::NatConfig;
use router_core::{ChainCounts, Filter, PortId, Session, Snapshot};
use tap_bridge::fabric::Hub;
use tap_bridge::sys::netns::{self, Namespace};

use super::children::Children;
use super::logs::Logs;
use super::nodes::{NodeRuntime, Surroundings};
use super::outer::Outer;
use super::phases::Phases;
use super::programs::Program;
use super::trace::Numbers;
use crate::cluster::{Cluster, ClusterError, Effect, HOST_PORT, IpError, Outcome};
use crate::control::node::{NodeReply, NodeRequest};
use crate::control::proto::{
    ErrorKind, IcmpChannel, IpPool, NodeCounters, NodeStatus, Status, Target,
};
use crate::dns::Zone;
use crate::ipam::calico::Block;
use crate::kube::{Object, ObjectKind};
use crate::model::{NeighbourEntry, Pod};
use crate::node::handle::NodeError;
use crate::pod::netns::{Sandbox, SandboxError, Workshop, close};
use crate::spec::{Backend, LabSpec, NodeSpec, PodSpec};

/// What the daemon has when it begins with the lab.
#[derive(Debug)]
pub struct Setting {
    /// How the host sees us.
    pub outer: Outer,
    /// In a user namespace.
    pub rootless: bool,
    /// Init of a PID namespace.
    pub pid_namespace: bool,
    /// Directory for the lab's files.
    pub root: PathBuf,
    /// The tun device where it isn't `/dev/net/tun`.
    pub tun: Option<PathBuf>,
    /// All logs.
    pub logs: Arc<Logs>,
    /// All children.
    pub children: Arc<Children>,
    /// Raised when a program begins or ends.
    pub phases: Arc<Phases>,
    /// Set when the bring-up is to be given up.
    pub abort: Arc<AtomicBool>,
}

/// Something could not be done. Unless it says otherwise nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// This host doesn't allow what the back end needs.
    #[error("{0}")]
    Unavailable(String),
    /// Everything else.
    #[error("{message}")]
    Failed {
        /// Decides the exit code.
        kind: ErrorKind,
        /// For the user.
        message: String,
    },
}

impl LabError {
    /// A failure with its kind.
    pub fn new(kind: ErrorKind, message: impl std::fmt::Display) -> Self {
        Self::Failed {
            kind,
            message: format!("{message}"),
        }
    }

    /// A bug of ours, or of the system.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(ErrorKind::Internal, message)
    }
}

impl From<NodeError> for LabError {
    fn from(error: NodeError) -> Self {
        let kind = match error {
            NodeError::TimedOut { .. } => ErrorKind::Timeout,
            _ => ErrorKind::Internal,
        };
        Self::new(kind, error)
    }
}

impl From<SandboxError> for LabError {
    fn from(error: SandboxError) -> Self {
        if error.is_permission() {
            Self::Unavailable(error.to_string())
        } else {
            Self::internal(error)
        }
    }
}

impl From<ClusterError> for LabError {
    fn from(error: ClusterError) -> Self {
        Self::new(error.kind(), error)
    }
}

/// What exists of a pod besides its entry in the cluster.
#[derive(Debug, Default)]
pub(super) struct PodRuntime {
    /// None for pods on the host network and on the back end without namespaces.
    pub(super) sandbox: Option<Sandbox>,
    /// None for pods without a program.
    pub(super) program: Option<Program>,
}

/// A running lab.
#[derive(Debug)]
pub struct Lab {
    pub(super) name: String,
    pub(super) backend: Backend,
    pub(super) started_ms: u64,
    pub(super) setting: Setting,
    pub(super) cluster: Cluster,
    pub(super) around: Surroundings,
    pub(super) workshop: Option<Workshop>,
    /// As declared when it was brought up.
    offload: bool,
    pub(super) nodes: BTreeMap<String, NodeRuntime>,
    pub(super) internet: Option<NodeRuntime>,
    pub(super) pods: HashMap<String, PodRuntime>,
    pub(super) next_member: u32,
    /// What the name server was told last.
    pub(super) published: Option<Zone>,
    pub(super) traces: Numbers,
    pub(super) next_capture: u32,
}

/// Milliseconds since the Unix epoch.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Lab {
    /// Makes everything that `spec` asks for. `tell` hears what is being done.
    ///
    /// # Errors
    /// [`LabError`]; nothing is left then but processes that end with their sockets.
    pub fn bring_up(
        spec: &LabSpec,
        backend: Backend,
        setting: Setting,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Self, LabError> {
        let started_ms = now_ms();
        tell("planning the lab");
        let (cluster, effects) = Cluster::new(spec, setting.root.clone(), started_ms)?;
        let (hub, _) = Hub::spawn()
            .map_err(|error| LabError::internal(format!("the fabric's hub: {error}")))?;
        let around = Surroundings {
            lab: spec.name.clone(),
            hub,
            logs: Arc::clone(&setting.logs),
            children: Arc::clone(&setting.children),
        };
        let mut lab = Self {
            name: spec.name.clone(),
            backend,
            started_ms,
            setting,
            cluster,
            around,
            workshop: None,
            offload: spec.offload,
            nodes: BTreeMap::new(),
            internet: None,
            pods: HashMap::new(),
            next_member: 1,
            published: None,
            traces: Numbers::default(),
            next_capture: 0,
        };
        lab.prepare_files()?;
        if backend == Backend::Tap {
            let tun = lab.setting.tun.clone();
            let workshop = Workshop::open(tun, lab.offload, Arc::clone(&lab.setting.abort))
                .map_err(|error| LabError::internal(format!("the mount namespace: {error}")))?;
            lab.workshop = Some(workshop);
        }
        tell(&format!(
            "making {} nodes and {} pods",
            lab.cluster.nodes().count(),
            lab.cluster.pods().count()
        ));
        let outcome = lab.carry_out(effects).and_then(|()| {
            tell("waiting for the gateway");
            lab.start_internet()?;
            if lab.setting.abort.load(Ordering::Relaxed) {
                return Err(LabError::new(
                    ErrorKind::Timeout,
                    "the bring-up was given up",
                ));
            }
            Ok(())
        });
        match outcome {
            Ok(()) => Ok(lab),
            Err(error) => {
                lab.tear_down();
                Err(error)
            }
        }
    }

    /// Ends programs and processes and returns when the devices are gone.
    pub fn tear_down(mut self) {
        for program in self.pods.values().filter_map(|pod| pod.program.as_ref()) {
            program.stop();
        }
        let nodes: Vec<NodeRuntime> = std::mem::take(&mut self.nodes)
            .into_values()
            .chain(self.internet.take())
            .collect();
        for node in &nodes {
            node.kill();
        }
        let mut sandboxes = Vec::new();
        for pod in std::mem::take(&mut self.pods).into_values() {
            if let Some(program) = pod.program {
                program.join();
            }
            sandboxes.extend(pod.sandbox);
        }
        for node in nodes {
            sandboxes.extend(node.stop(&self.setting.children));
        }
        close(sandboxes);
    }

    /// A row of `podwire ps`.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            name: self.name.clone(),
            preset: self.cluster.preset(),
            backend: self.backend,
            nodes: self.cluster.nodes().len(),
            pods: self.cluster.pods().len(),
            started_ms: self.started_ms,
            ready: self
                .nodes
                .values()
                .chain(&self.internet)
                .all(|node| node.pid().is_some()),
            rootless: self.setting.rootless,
        }
    }

    /// All nodes with the state of their processes.
    #[must_use]
    pub fn node_statuses(&self) -> Vec<NodeStatus> {
        let ids = self.setting.outer.children();
        self.cluster
            .nodes()
            .map(|node| {
                let runtime = self.nodes.get(&node.name);
                NodeStatus {
                    node: node.clone(),
                    pid: runtime
                        .and_then(NodeRuntime::pid)
                        .and_then(|pid| ids.outer(pid)),
                    restarts: runtime.map_or(0, |runtime| runtime.restarts),
                    netns: runtime
                        .and_then(|runtime| runtime.host.as_ref())
                        .map(|host| self.setting.outer.path_of(host.sandbox.net())),
                }
            })
            .collect()
    }

    /// All pods with the state of their programs.
    #[must_use]
    pub fn pod_list(&self) -> Vec<Pod> {
        let ids = self.setting.outer.children();
        self.cluster
            .pods()
            .map(|pod| {
                let mut pod = pod.clone();
                if let Some(runtime) = self.pods.get(&pod.key())
                    && let Some(status) = runtime.program.as_ref().map(Program::status)
                {
                    pod.phase = status.phase;
                    pod.restarts = status.restarts;
                    pod.pid = status.pid.and_then(|pid| ids.outer(pid));
                }
                pod.netns = self
                    .sandbox_of(&pod)
                    .map(|sandbox| self.setting.outer.path_of(sandbox.net()));
                pod
            })
            .collect()
    }

    /// The sandbox that a pod's programs run in.
    pub(super) fn sandbox_of(&self, pod: &Pod) -> Option<&Sandbox> {
        if pod.host_network {
            let host = self.nodes.get(&pod.node)?.host.as_ref()?;
            return Some(&host.sandbox);
        }
        self.pods.get(&pod.key())?.sandbox.as_ref()
    }

    /// Becomes `spec`.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn converge(&mut self, spec: &LabSpec) -> Result<Vec<String>, LabError> {
        self.check_devices(spec)?;
        let outcome = self.cluster.converge(spec, now_ms())?;
        self.finish(outcome)
    }

    /// What converging would do.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn plan(&self, spec: &LabSpec) -> Result<Vec<String>, LabError> {
        self.check_devices(spec)?;
        Ok(self.cluster.plan(spec)?)
    }

    fn check_devices(&self, spec: &LabSpec) -> Result<(), LabError> {
        if spec.offload == self.offload {
            return Ok(());
        }
        let (runs, name) = (if self.offload { "with" } else { "without" }, &spec.name);
        Err(LabError::Failed {
            kind: ErrorKind::Invalid,
            message: format!(
                "lab {name} runs {runs} offload, which can't be changed while it runs; `podwire down {name}` first"
            ),
        })
    }

    /// Creates a pod.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn add_pod(&mut self, spec: &PodSpec) -> Result<Vec<String>, LabError> {
        let outcome = self.cluster.add_pod(spec, now_ms())?;
        self.finish(outcome)
    }

    /// Deletes a pod.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn delete_pod(&mut self, namespace: &str, name: &str) -> Result<Vec<String>, LabError> {
        let outcome = self.cluster.delete_pod(namespace, name)?;
        self.finish(outcome)
    }

    /// The control plane.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Creates an object or changes it.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn apply_object(&mut self, object: Object, create: bool) -> Result<Vec<String>, LabError> {
        let outcome = self.cluster.apply_object(object, create, now_ms())?;
        self.finish(outcome)
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn delete_object(
        &mut self,
        kind: ObjectKind,
        namespace: &str,
        name: &str,
    ) -> Result<Vec<String>, LabError> {
        let outcome = self.cluster.delete_object(kind, namespace, name)?;
        self.finish(outcome)
    }

    /// Lets a node join.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn add_node(
        &mut self,
        name: &str,
        internal_ip: Option<Ipv4Addr>,
        spec: Option<NodeSpec>,
    ) -> Result<Vec<String>, LabError> {
        let outcome = self.cluster.add_node(name, internal_ip, spec, now_ms())?;
        self.finish(outcome)
    }

    /// Removes a node and its pods.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn delete_node(&mut self, name: &str) -> Result<Vec<String>, LabError> {
        let outcome = self.cluster.delete_node(name)?;
        self.finish(outcome)
    }

    /// A command in iproute2's syntax. The inner error is iproute2's own.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn ip_change(
        &mut self,
        node: &str,
        args: &[String],
    ) -> Result<Result<(), IpError>, LabError> {
        self.cluster.node(node)?;
        match self.cluster.ip_change(node, args) {
            Ok(outcome) => self.finish(outcome).map(|_| Ok(())),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Calico's pool and blocks.
    #[must_use]
    pub fn ipam(&self) -> (Option<IpPool>, Vec<Block>) {
        let (Some((ipam, created_ms)), Some(spec)) =
            (self.cluster.calico(), self.cluster.network().calico)
        else {
            return (None, Vec::new());
        };
        let pool = IpPool {
            cidr: ipam.pool().cidr,
            spec,
            created_ms,
        };
        (Some(pool), ipam.blocks().cloned().collect())
    }

    /// The tick of the nodes' controllers.
    pub fn reconcile(&mut self) {
        let outcome = self.cluster.reconcile(now_ms());
        for line in &outcome.lines {
            tracing::info!("controllers: {line}");
        }
        if let Err(error) = self.carry_out(outcome.effects) {
            tracing::error!("controllers: {error}");
        }
    }

    /// Carries out what the cluster decided; undoes the creation of pods and nodes when that fails.
    pub(super) fn finish(&mut self, outcome: Outcome) -> Result<Vec<String>, LabError> {
        let created: Vec<Effect> = outcome
            .effects
            .iter()
            .filter(|effect| matches!(effect, Effect::CreatePod { .. } | Effect::CreateNode { .. }))
            .cloned()
            .collect();
        match self.carry_out(outcome.effects) {
            Ok(()) => Ok(outcome.lines),
            Err(error) => {
                self.undo(&created);
                Err(error)
            }
        }
    }

    fn undo(&mut self, created: &[Effect]) {
        let mut effects = Vec::new();
        for effect in created.iter().rev() {
            match effect {
                Effect::CreatePod { namespace, name } => {
                    effects.extend(self.cluster.rollback_pod(namespace, name));
                }
                Effect::CreateNode { node } => match self.cluster.delete_node(node) {
                    Ok(outcome) => effects.extend(outcome.effects),
                    Err(error) => tracing::error!("node {node} can't be undone: {error}"),
                },
                _ => {}
            }
        }
        if let Err(error) = self.carry_out(effects) {
            tracing::error!("a failed change can't be undone: {error}");
        }
    }

    /// Counters of every node, and of the gateway where there is one.
    ///
    /// # Errors
    /// [`LabError`]; a process that is being started again has no counters.
    pub fn stats(&mut self) -> Result<Vec<NodeCounters>, LabError> {
        let replies = self.ask_all(|_| Some(NodeRequest::Stats));
        let mut list = Vec::with_capacity(replies.len());
        for (node, reply) in replies {
            let NodeReply::Stats { stats } = reply? else {
                return Err(LabError::internal("a node gave an unexpected answer"));
            };
            let snapshot = match &node {
                Some(name) => Some(self.cluster.snapshot(name)?),
                None => self.internet_snapshot(),
            };
            let ports = snapshot.map_or_else(Vec::new, |snapshot| snapshot.ports);
            let impaired = self.impairments_of(node.as_deref());
            list.push(NodeCounters {
                node,
                stats,
                ports: ports.into_iter().map(|p| (p.id, p.name)).collect(),
                impaired,
            });
        }
        Ok(list)
    }

    /// A node's nat table and its counters.
    ///
    /// # Errors
    /// When there is no such node, or it does not answer.
    pub fn nat(&mut self, name: &str) -> Result<(NatConfig, Vec<ChainCounts>), LabError> {
        let table = self.cluster.snapshot(name)?.nat;
        match self.ask(name, NodeRequest::NatCounts)? {
            NodeReply::NatCounts { chains } => Ok((table, chains)),
            _ => Err(LabError::internal(format!(
                "node {name}: unexpected answer"
            ))),
        }
    }

    /// A node's connections.
    ///
    /// # Errors
    /// When there is no such node, or it does not answer.
    pub fn sessions(&mut self, name: &str, filter: Filter) -> Result<Vec<Session>, LabError> {
        match self.ask(name, NodeRequest::Sessions { filter })? {
            NodeReply::Sessions { sessions } => Ok(sessions),
            _ => Err(LabError::internal(format!(
                "node {name}: unexpected answer"
            ))),
        }
    }

    /// Has a node forget connections.
    ///
    /// # Errors
    /// When there is no such node, or it does not answer.
    pub fn flush_sessions(&mut self, name: &str, filter: Filter) -> Result<Vec<String>, LabError> {
        match self.ask(name, NodeRequest::FlushSessions { filter })? {
            NodeReply::Flushed { count } => {
                Ok(vec![format!("{count} flow entries have been deleted.")])
            }
            _ => Err(LabError::internal(format!(
                "node {name}: unexpected answer"
            ))),
        }
    }

    fn ask(&mut self, name: &str, request: NodeRequest) -> Result<NodeReply, LabError> {
        self.cluster.node(name)?;
        let runtime = self.nodes.get_mut(name).ok_or_else(|| restarting(name))?;
        Ok(runtime.request(request, &[])?)
    }

    /// Live neighbour table of a node.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn neighbours(&mut self, name: &str) -> Result<Vec<NeighbourEntry>, LabError> {
        self.cluster.node(name)?;
        let runtime = self.nodes.get_mut(name).ok_or_else(|| restarting(name))?;
        let NodeReply::Neighbours { neighbours } = runtime.request(NodeRequest::Neighbours, &[])?
        else {
            return Err(LabError::internal(format!(
                "node {name}: unexpected answer"
            )));
        };
        let node = self.cluster.node(name)?;
        let dev = |port: PortId| {
            let iface = node.ifaces.iter().find(|iface| iface.port == Some(port));
            iface.map(|iface| iface.name.clone())
        };
        Ok(neighbours
            .into_iter()
            .filter_map(|entry| {
                Some(NeighbourEntry {
                    ip: entry.ip,
                    // The port to the host namespace is no interface of the node.
                    dev: dev(entry.port)?,
                    mac: entry.mac,
                    state: entry.state,
                })
            })
            .collect())
    }

    /// Descriptors of the namespaces that a program in `target` runs in, in the order in which they are entered.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn namespaces(&self, target: &Target) -> Result<Vec<(&'static str, OwnedFd)>, LabError> {
        let sandbox = self.sandbox(target)?.ok_or_else(no_programs)?;
        let own = |kind: Namespace| netns::current(kind).map(|fd| (kind.name(), fd));
        let copy = |kind: Namespace, fd: &OwnedFd| fd.try_clone().map(|fd| (kind.name(), fd));
        let mut list = Vec::new();
        let mut collect = || -> io::Result<()> {
            if self.setting.rootless {
                list.push(own(Namespace::User)?);
            }
            list.push(copy(Namespace::Mount, sandbox.mount())?);
            list.push(copy(Namespace::Uts, sandbox.uts())?);
            list.push(copy(Namespace::Net, sandbox.net())?);
            if self.setting.pid_namespace {
                list.push(own(Namespace::Pid)?);
            }
            Ok(())
        };
        collect().map_err(|error| {
            LabError::internal(format!("a namespace can't be handed over: {error}"))
        })?;
        Ok(list)
    }

    /// A channel for ICMP as `target`, and the address that it sends from.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn icmp(&mut self, target: &Target) -> Result<(IcmpChannel, Ipv4Addr, OwnedFd), LabError> {
        let (source, node, port) = self.icmp_source(target)?;
        if let Some(sandbox) = self.sandbox(target)? {
            let socket =
                netns::with_namespaces(&[(sandbox.net().as_fd(), Namespace::Net)], raw_icmp)
                    .and_then(|socket| socket)
                    .map_err(|error| {
                        LabError::internal(format!("a raw socket can't be made: {error}"))
                    })?;
            return Ok((IcmpChannel::RawSocket, source, socket));
        }
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(|errno| LabError::internal(format!("a channel can't be made: {errno}")))?;
        let runtime = self.nodes.get_mut(&node).ok_or_else(|| restarting(&node))?;
        runtime.request(NodeRequest::OpenIcmp { port }, &[theirs.as_fd()])?;
        Ok((IcmpChannel::StackChannel, source, ours))
    }

    fn icmp_source(&self, target: &Target) -> Result<(Ipv4Addr, String, PortId), LabError> {
        match target {
            Target::Node { name } => {
                let node = self.cluster.node(name)?;
                Ok((node.internal_ip, name.clone(), HOST_PORT))
            }
            Target::Pod { namespace, name } => {
                let pod = self.cluster.pod(namespace, name)?;
                let port = match &pod.link {
                    Some(link) => link.port,
                    None => HOST_PORT,
                };
                Ok((pod.ip, pod.node.clone(), port))
            }
        }
    }

    fn sandbox(&self, target: &Target) -> Result<Option<&Sandbox>, LabError> {
        Ok(match target {
            Target::Node { name } => {
                self.cluster.node(name)?;
                let host = self.nodes.get(name).and_then(|node| node.host.as_ref());
                host.map(|host| &host.sandbox)
            }
            Target::Pod { namespace, name } => self.sandbox_of(self.cluster.pod(namespace, name)?),
        })
    }

    /// A child has ended: collects it if it is a node process and says when to start it again.
    pub fn child_ended(&mut self, pid: u32) -> Option<(String, Duration)> {
        let Self {
            nodes,
            internet,
            setting,
            around,
            ..
        } = self;
        let node = nodes
            .values_mut()
            .chain(internet)
            .find(|node| node.pid() == Some(pid))?;
        let delay = node.collect(&setting.children)?;
        if let Err(error) = around.hub.remove_member(node.member()) {
            tracing::debug!("node {}: {error}", node.name());
        }
        let name = node.name().to_owned();
        self.cluster.node_lost(&name, now_ms());
        Some((name, delay))
    }

    /// Starts a node process again, unless it runs or was deleted. Returns when to try again after a failure.
    pub fn restart_node(&mut self, name: &str) -> Option<Duration> {
        let snapshot = self.snapshot_of(name)?;
        let Self {
            nodes,
            internet,
            setting,
            around,
            ..
        } = self;
        let internet = internet.as_mut().filter(|node| node.name() == name);
        let node = nodes.get_mut(name).or(internet)?;
        if node.pid().is_some() {
            return None;
        }
        match node.restart(around, snapshot) {
            Ok(()) => {
                tracing::info!("node {name}: its process was started again");
                let outcome = self.cluster.node_found(name, now_ms());
                if let Err(error) = self.carry_out(outcome.effects) {
                    tracing::error!("controllers: {error}");
                }
                None
            }
            Err(error) => {
                tracing::error!("{error}");
                node.kill();
                // A process that did start is reported and collected as every other that ends.
                node.pid()
                    .is_none()
                    .then_some(Duration::from_secs(1))
                    .or_else(|| node.collect(&setting.children))
            }
        }
    }

    fn snapshot_of(&self, name: &str) -> Option<Snapshot> {
        if let Ok(snapshot) = self.cluster.snapshot(name) {
            return Some(snapshot);
        }
        self.internet.as_ref().filter(|node| node.name() == name)?;
        self.internet_snapshot()
    }
}

fn raw_icmp() -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(
        AddressFamily::INET,
        SocketType::RAW,
        flags,
        Some(ipproto::ICMP),
    )?)
}

fn no_programs() -> LabError {
    LabError::new(
        ErrorKind::Unsupported,
        "pods of the inproc back end are network stacks inside the node processes and run no programs: \
         bring the lab up with --backend tap (`podwire doctor` says what that needs)",
    )
}

fn restarting(node: &str) -> LabError {
    LabError::new(
        ErrorKind::Timeout,
        format!("node {node}: its process is being started again"),
    )
}

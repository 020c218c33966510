//! A running lab: what the cluster decides, and the namespaces, devices, processes and programs that carry it out.
//!
//! Decides the order of a change: the cluster first (pure, all or nothing), then what can fail without having changed anything
//! (sandboxes), then node processes, then programs; a failure undoes the cluster's part. One lock around the whole value
//! serialises changes, see [`server`](crate::daemon::server).

mod ask;
mod change;
mod error;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use router_core::Snapshot;
use tap_bridge::fabric::Hub;

use super::children::Children;
use super::logs::Logs;
use super::nodes::{NodeRuntime, Surroundings};
use super::outer::Outer;
use super::phases::Phases;
use super::programs::Program;
use super::trace::Numbers;
use super::uplink::Uplinks;
use crate::cluster::Cluster;
use crate::control::proto::{ErrorKind, IpPool, NodeStatus, Status};
use crate::dns::Zone;
use crate::ipam::calico::Block;
use crate::model::Pod;
use crate::pod::netns::{Kind, Sandbox, Workshop, close};
use crate::spec::{Backend, LabSpec};
pub use error::LabError;

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
    /// Sockets on interfaces of the host.
    pub uplinks: Uplinks,
    /// All logs.
    pub logs: Arc<Logs>,
    /// All children.
    pub children: Arc<Children>,
    /// Raised when a program begins or ends.
    pub phases: Arc<Phases>,
    /// Set when the bring-up is to be given up.
    pub abort: Arc<AtomicBool>,
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
    pub(super) offload: bool,
    /// Of each node, on this back end.
    pub(super) workers: usize,
    /// As declared.
    wanted_workers: usize,
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
            // Network stacks inside a process are one thread's, and a packet socket is one queue.
            workers: if backend == Backend::Tap {
                spec.workers
            } else {
                1
            },
            wanted_workers: spec.workers,
            nodes: BTreeMap::new(),
            internet: None,
            pods: HashMap::new(),
            next_member: 1,
            published: None,
            traces: Numbers::default(),
            next_capture: 0,
        };
        lab.prepare_files()?;
        let kind = match backend {
            Backend::Tap => Some(Kind::Tap {
                device: lab.setting.tun.clone(),
            }),
            Backend::Packet => Some(Kind::veth()),
            Backend::Inproc => None,
        };
        if let Some(kind) = kind {
            let workshop = Workshop::open(kind, lab.offload, Arc::clone(&lab.setting.abort))
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

    /// All nodes, without their routes, with the state of their processes.
    #[must_use]
    pub fn node_statuses(&self) -> Vec<NodeStatus> {
        let ids = self.setting.outer.children();
        self.cluster
            .nodes()
            .map(|node| {
                let runtime = self.nodes.get(&node.name);
                NodeStatus {
                    node: node.without_routes(),
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

    /// The control plane.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
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
        for member in node.members() {
            if let Err(error) = around.hub.remove_member(member) {
                tracing::debug!("node {}: {error}", node.name());
            }
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

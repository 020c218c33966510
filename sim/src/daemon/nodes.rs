//! Node processes: started, given their ports, started again when they die.
//!
//! Decides what a process gets back after its death (decision 10): the daemon's duplicates of its devices' descriptors, a new
//! membership in the fabric under the same number, its configuration; and how fast (at once, then with a growing
//! delay). Requests to many processes are posted first and waited for afterwards.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use router_core::{Mac, PortId, Snapshot};
use tap_bridge::fabric::{HubHandle, MemberId};

use super::capture::CaptureMemory;
use super::children::Children;
use super::host_side::HostSide;
use super::logs::Logs;
use crate::control::node::{Attachment, NodeReply, NodeRequest};
use crate::impair::LinkImpair;
use crate::node::handle::{NodeError, NodeHandle, NodeSpawn, Role, Ticket};
use crate::node::journal;
use crate::pod::netns::Sandbox;

/// How long a node process may take for an answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest delay before a process that dies again and again is started again.
const MAX_DELAY: Duration = Duration::from_secs(10);

/// A process that worked this long is started again at once.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// A port as it has to be given to the process, now and after its death.
#[derive(Clone, Debug)]
pub struct Port {
    /// Interface name, for messages.
    pub name: String,
    /// Bytes.
    pub mtu: u16,
    /// What it is.
    pub attachment: Attachment,
    /// The descriptors of its TAP device or packet socket, where there is one: one for each worker.
    pub devices: Vec<Arc<OwnedFd>>,
}

/// Where a node is on the underlay.
#[derive(Clone, Copy, Debug)]
pub struct Underlay {
    /// The router's port.
    pub port: PortId,
    /// Its number on the segment; those of further workers follow.
    pub member: MemberId,
    /// Its MAC there.
    pub mac: Mac,
    /// Bytes.
    pub mtu: u16,
}

/// Where a process keeps its journal of connections.
#[derive(Debug)]
struct JournalMemory {
    /// One for each worker.
    memory: Vec<OwnedFd>,
    /// Of each.
    slots: u32,
}

/// How large a process is.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Its workers.
    pub workers: usize,
    /// Connections that they may have together.
    pub connections: u32,
}

impl Extent {
    /// For what needs no more than one worker.
    #[must_use]
    pub const fn single(connections: u32) -> Self {
        Self {
            workers: 1,
            connections,
        }
    }
}

/// What node processes need of the daemon.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Name of the lab.
    pub lab: String,
    /// The underlay's hub.
    pub hub: HubHandle,
    /// All logs.
    pub logs: Arc<Logs>,
    /// All children.
    pub children: Arc<Children>,
}

/// A node of the lab: its process, if that is alive, and everything that the process has to be given.
#[derive(Debug)]
pub struct NodeRuntime {
    name: String,
    role: Role,
    handle: Option<NodeHandle>,
    started: Instant,
    deaths: u32,
    /// How often the process was started again.
    pub restarts: u32,
    underlay: Underlay,
    extent: Extent,
    ports: BTreeMap<PortId, Port>,
    journal: Option<JournalMemory>,
    /// Of its ports; those that are left alone are left out.
    pub(super) impairments: BTreeMap<PortId, LinkImpair>,
    /// By number.
    pub(super) captures: BTreeMap<u32, CaptureMemory>,
    /// The host namespace, on the back end that has one.
    pub host: Option<HostSide>,
}

impl NodeRuntime {
    /// Starts a process that knows nothing yet.
    ///
    /// # Errors
    /// What fork, exec or the hub says.
    pub fn start(
        name: &str,
        role: Role,
        underlay: Underlay,
        extent: Extent,
        around: &Surroundings,
    ) -> io::Result<Self> {
        let mut node = Self {
            name: name.to_owned(),
            role,
            handle: None,
            started: Instant::now(),
            deaths: 0,
            restarts: 0,
            underlay,
            extent,
            ports: BTreeMap::new(),
            journal: None,
            impairments: BTreeMap::new(),
            captures: BTreeMap::new(),
            host: None,
        };
        node.handle = Some(node.spawn(around)?);
        Ok(node)
    }

    fn spawn(&self, around: &Surroundings) -> io::Result<NodeHandle> {
        let log = around.logs.pipe(&format!("node/{}", self.name))?;
        around.children.start(|| {
            let handle = NodeHandle::spawn(&NodeSpawn {
                lab: &around.lab,
                node: &self.name,
                role: self.role,
                workers: self.extent.workers,
                connections: self.extent.connections,
                log: log.as_fd(),
                program: None,
                die_with_thread: false,
            })?;
            let pid = handle.pid();
            Ok((handle, pid))
        })
    }

    /// Name of the node.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Id of its process while that lives.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.handle.as_ref().map(NodeHandle::pid)
    }

    /// Its workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.extent.workers
    }

    /// Its members of the fabric.
    pub fn members(&self) -> impl Iterator<Item = MemberId> + use<> {
        let MemberId(first) = self.underlay.member;
        let workers = u32::try_from(self.extent.workers).unwrap_or(1);
        (first..first + workers).map(MemberId)
    }

    /// Joins the fabric: the first request to a new process.
    ///
    /// # Errors
    /// [`NodeError`].
    pub fn join(&mut self, around: &Surroundings) -> Result<Ticket, NodeError> {
        let Underlay {
            port,
            member,
            mac,
            mtu,
        } = self.underlay;
        let join = |id| {
            if id == member {
                around.hub.add_member(id, mac)
            } else {
                around.hub.add_worker(id, member)
            }
        };
        let sockets: io::Result<Vec<OwnedFd>> = self.members().map(join).collect();
        let sockets = sockets.map_err(|source| NodeError::Refused {
            node: self.name.clone(),
            message: format!("it can't join the fabric: {source}"),
        })?;
        let request = NodeRequest::AddPort {
            id: port,
            name: "eth0".to_owned(),
            mtu,
            attachment: Attachment::Fabric {
                member: member.0,
                mac,
            },
        };
        let sockets: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
        self.post(request, &sockets)
    }

    /// Has a new process keep a journal for a table of so many connections, now and after every restart.
    ///
    /// # Errors
    /// [`NodeError`]; the process keeps none then.
    pub fn keep_journal(&mut self, slots: u32) -> Result<Ticket, NodeError> {
        let workers = u32::try_from(self.extent.workers).unwrap_or(1);
        let slots = slots.div_ceil(workers);
        let memory = self.journal_memory(slots)?;
        let request = NodeRequest::KeepJournal { slots, left: None };
        let fds: Vec<_> = memory.memory.iter().map(|memory| memory.as_fd()).collect();
        let ticket = self.post(request, &fds)?;
        self.journal = Some(memory);
        Ok(ticket)
    }

    fn journal_memory(&self, slots: u32) -> Result<JournalMemory, NodeError> {
        let memory = (0..self.extent.workers).map(|_| journal::create(slots));
        let memory = memory.collect::<io::Result<_>>();
        let memory = memory.map_err(|source| NodeError::Refused {
            node: self.name.clone(),
            message: format!("no memory for the journal of connections: {source}"),
        })?;
        Ok(JournalMemory { memory, slots })
    }

    /// Has the process take over what the one before it left. That is kept until all of it stands in the new journal.
    fn hand_journal_over(&mut self) -> Result<(), NodeError> {
        let Some(old) = self.journal.take() else {
            return Ok(());
        };
        let handed = self.journal_memory(old.slots).and_then(|new| {
            let request = NodeRequest::KeepJournal {
                slots: new.slots,
                left: Some(old.slots),
            };
            let each = new.memory.iter().zip(&old.memory);
            let fds: Vec<_> = each
                .flat_map(|(new, old)| [new.as_fd(), old.as_fd()])
                .collect();
            let reply = self.request(request, &fds)?;
            Ok((new, reply))
        });
        match handed {
            Ok((new, reply)) => {
                if let NodeReply::Restored { restored, lost } = reply {
                    let name = &self.name;
                    tracing::info!("node {name}: {restored} connections go on, {lost} are lost");
                }
                self.journal = Some(new);
                Ok(())
            }
            Err(error) => {
                self.journal = Some(old);
                Err(error)
            }
        }
    }

    /// Attaches a port, now and after every restart.
    ///
    /// # Errors
    /// [`NodeError`]; it is remembered nevertheless.
    pub fn add_port(&mut self, id: PortId, port: Port) -> Result<Ticket, NodeError> {
        let request = NodeRequest::AddPort {
            id,
            name: port.name.clone(),
            mtu: port.mtu,
            attachment: port.attachment.clone(),
        };
        let devices = port.devices.clone();
        self.ports.insert(id, port);
        let fds: Vec<BorrowedFd<'_>> = devices.iter().map(|fd| fd.as_fd()).collect();
        self.post(request, &fds)
    }

    /// Its port on the underlay.
    pub(super) fn underlay_port(&self) -> PortId {
        self.underlay.port
    }

    /// True when something is attached there.
    #[must_use]
    pub fn has_port(&self, id: PortId) -> bool {
        id == self.underlay.port || self.ports.contains_key(&id)
    }

    /// Detaches a port for good. None when it was not attached.
    ///
    /// # Errors
    /// [`NodeError`].
    pub fn remove_port(&mut self, id: PortId) -> Option<Result<Ticket, NodeError>> {
        self.ports.remove(&id)?;
        self.impairments.remove(&id);
        Some(self.post(NodeRequest::RemovePort { id }, &[]))
    }

    /// Sends a request without waiting for its answer.
    ///
    /// # Errors
    /// [`NodeError`].
    pub fn post(
        &mut self,
        request: NodeRequest,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Ticket, NodeError> {
        match &mut self.handle {
            Some(handle) => handle.post(request, fds),
            None => Err(self.gone()),
        }
    }

    /// Waits for an answer.
    ///
    /// # Errors
    /// [`NodeError`].
    pub fn wait(&mut self, ticket: Ticket, deadline: Instant) -> Result<NodeReply, NodeError> {
        match &mut self.handle {
            Some(handle) => handle.wait(ticket, deadline),
            None => Err(self.gone()),
        }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// [`NodeError`].
    pub fn request(
        &mut self,
        request: NodeRequest,
        fds: &[BorrowedFd<'_>],
    ) -> Result<NodeReply, NodeError> {
        let ticket = self.post(request, fds)?;
        self.wait(ticket, Instant::now() + ANSWER_TIMEOUT)
    }

    fn gone(&self) -> NodeError {
        NodeError::Gone {
            node: self.name.clone(),
        }
    }

    /// Collects the process if it has ended. Returns how long to wait before it is started again.
    pub fn collect(&mut self, children: &Children) -> Option<Duration> {
        let handle = self.handle.as_mut()?;
        let pid = handle.pid();
        match handle.try_reap() {
            Ok(None) => return None,
            Ok(Some(status)) => {
                tracing::warn!("node {}: its process has ended: {status}", self.name);
            }
            Err(error) => tracing::warn!(
                "node {}: its process can't be collected: {error}",
                self.name
            ),
        }
        self.handle = None;
        children.collected(pid);
        if self.started.elapsed() >= FORGIVEN_AFTER {
            self.deaths = 0;
        }
        let delay = delay(self.deaths);
        self.deaths += 1;
        Some(delay)
    }

    /// Starts the process again and gives it everything back.
    ///
    /// # Errors
    /// [`NodeError`]; the process is gone then.
    pub fn restart(&mut self, around: &Surroundings, snapshot: Snapshot) -> Result<(), NodeError> {
        let spawned = self.spawn(around).map_err(|source| NodeError::Refused {
            node: self.name.clone(),
            message: format!("its process can't be started: {source}"),
        })?;
        self.handle = Some(spawned);
        self.started = Instant::now();
        self.restarts += 1;
        // Connections are back before the first packet, lest it begins another one in their place.
        let snapshot = Box::new(snapshot);
        let mut tickets = vec![self.post(NodeRequest::Configure { snapshot }, &[])?];
        self.hand_journal_over()?;
        tickets.extend(self.resume_captures()?);
        tickets.push(self.join(around)?);
        for (id, port) in self.ports.clone() {
            tickets.push(self.add_port(id, port)?);
        }
        tickets.extend(self.resume_impairments()?);
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        tickets
            .into_iter()
            .try_for_each(|ticket| self.wait(ticket, deadline).map(drop))
    }

    /// Ends the process, without waiting for it.
    pub fn kill(&self) {
        use rustix::process::{Pid, Signal, kill_process};
        // The handle hasn't collected it, so the id is still its own.
        if let Some(pid) = self
            .pid()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw)
        {
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Ends the process and gives back the host side.
    pub fn stop(mut self, children: &Children) -> Option<Sandbox> {
        if let Some(mut handle) = self.handle.take() {
            let pid = handle.pid();
            if let Err(error) = handle.kill() {
                tracing::debug!("node {}: {error}", self.name);
            }
            children.collected(pid);
        }
        self.host.take().map(|host| host.sandbox)
    }
}

/// Delay before a process is started again that died `deaths` times in a row.
fn delay(deaths: u32) -> Duration {
    match deaths.checked_sub(1) {
        None => Duration::ZERO,
        Some(n) => Duration::from_millis(100 << n.min(10)).min(MAX_DELAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first restart is immediate, a process that always dies doesn't eat the machine.
    #[test]
    fn the_delay_grows_and_is_bounded() {
        let millis: Vec<u128> = (0..5).map(|n| delay(n).as_millis()).collect();
        assert_eq!(millis, [0, 100, 200, 400, 800]);
        assert_eq!(delay(u32::MAX), MAX_DELAY);
    }
}

//! Questions to a running lab: what its node processes count and hold, and the ways into its namespaces.
//!
//! Changes nothing but what [`flush_sessions`](Lab::flush_sessions) is asked to forget.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, OwnedFd};

use router_core::config::NatConfig;
use router_core::{ChainCounts, Filter, PortId, Session};
use tap_bridge::sys::netns::{self, Namespace};

use super::{Lab, LabError};
use crate::cluster::HOST_PORT;
use crate::control::node::{NodeReply, NodeRequest};
use crate::control::proto::{ErrorKind, IcmpChannel, NodeCounters, Target};
use crate::model::{NeighbourEntry, RouteEntry};
use crate::pod::netns::Sandbox;

impl Lab {
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

    /// The main table of a node.
    ///
    /// # Errors
    /// There is no such node.
    pub fn routes(&self, name: &str) -> Result<Vec<RouteEntry>, LabError> {
        Ok(self.cluster.node(name)?.routes.clone())
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
         bring the lab up with --backend tap or packet (`podwire doctor` says what that needs)",
    )
}

fn restarting(node: &str) -> LabError {
    LabError::new(
        ErrorKind::Timeout,
        format!("node {node}: its process is being started again"),
    )
}

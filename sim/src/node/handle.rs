//! The daemon's side of a node process: start it, talk to it, notice its end.
//!
//! Decides nothing about what a node is configured to do and when it is started again. Synchronous; one request costs a
//! write, and a wait reads whatever has arrived. Many requests can be on their way to many nodes at once:
//! [`NodeHandle::post`] returns without waiting for the answer, [`NodeHandle::wait`] collects it later.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use tap_bridge::sys::spawn::{Spawn, spawn};

use super::process::NodeArgs;
use crate::control::codec::{CodecError, Connection};
use crate::control::node::{NodeReply, NodeRequest, Numbered};

/// How long a node process may leave its control socket unread before it counts as stuck.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// What a node process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A Kubernetes node.
    Node,
    /// The gateway with the simulated internet behind it.
    Internet,
}

impl Role {
    /// Its name on the command line and in `ps`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Internet => "internet",
        }
    }
}

/// What to start.
#[derive(Debug)]
pub struct NodeSpawn<'a> {
    /// Name of the lab, for `ps`.
    pub lab: &'a str,
    /// Name of the node, for `ps` and messages.
    pub node: &'a str,
    /// What it is.
    pub role: Role,
    /// Number of workers, at least 1.
    pub workers: usize,
    /// Connections that it may have at a time.
    pub connections: u32,
    /// Where its log goes (stderr; stdout as well).
    pub log: BorrowedFd<'a>,
    /// The program; none is the running one.
    pub program: Option<PathBuf>,
    /// SIGKILL for it when the calling *thread* ends: only from a thread that lives as long as the daemon.
    pub die_with_thread: bool,
}

/// Why a node process did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// It refused; nothing was changed.
    #[error("node {node}: {message}")]
    Refused {
        /// Its name.
        node: String,
        /// What it said.
        message: String,
    },
    /// It is gone.
    #[error("node {node}: its process has ended")]
    Gone {
        /// Its name.
        node: String,
    },
    /// It did not answer in time.
    #[error("node {node}: no answer in time")]
    TimedOut {
        /// Its name.
        node: String,
    },
    /// The connection failed.
    #[error("node {node}: {source}")]
    Protocol {
        /// Its name.
        node: String,
        /// How.
        source: CodecError,
    },
}

/// The number of a request whose answer was not collected yet.
#[derive(Debug, PartialEq, Eq, Hash)]
#[must_use = "the answer may be a refusal"]
pub struct Ticket(u64);

/// A running node process. Dropping the handle kills and collects it.
#[derive(Debug)]
pub struct NodeHandle {
    node: String,
    child: Child,
    exited: Option<ExitStatus>,
    connection: Option<Connection>,
    next_id: u64,
    arrived: HashMap<u64, NodeReply>,
}

impl NodeHandle {
    /// Starts the process. It is ready when it answers its first request.
    ///
    /// # Errors
    /// What socketpair, fork or exec says; nothing runs then.
    pub fn spawn(what: &NodeSpawn<'_>) -> io::Result<Self> {
        let (ours, theirs) = Connection::pair()?;
        let fd = theirs.as_fd();
        let role = what.role.as_str();
        let args = NodeArgs {
            role: what.role,
            name: what.node.to_owned(),
            control_fd: fd.as_raw_fd(),
            workers: what.workers,
            connections: what.connections,
        };
        let child = spawn(&Spawn {
            program: what.program.clone(),
            title: &format!("podwire: {role} {} (lab {})", what.node, what.lab),
            args: args.to_words(),
            env: &[],
            own_group: false,
            fds: &[fd],
            log: what.log,
            die_with_thread: what.die_with_thread,
        })?;
        Ok(Self {
            node: what.node.to_owned(),
            child,
            exited: None,
            connection: Some(ours),
            next_id: 0,
            arrived: HashMap::new(),
        })
    }

    /// Name of the node.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Process id, as this process's PID namespace knows it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The control socket, readable when an answer has arrived and at the end of the process.
    #[must_use]
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.connection
            .as_ref()
            .map(|connection| connection.as_fd())
    }

    /// Sends a request and does not wait for the answer. `fds` are duplicated into the process; the caller keeps its own.
    ///
    /// # Errors
    /// [`NodeError::Gone`], or [`NodeError::TimedOut`] when the process has not read its socket for 5 s; the handle
    /// is of no use then.
    pub fn post(&mut self, body: NodeRequest, fds: &[BorrowedFd<'_>]) -> Result<Ticket, NodeError> {
        let id = self.next_id;
        self.next_id += 1;
        let connection = self.connection.as_mut().ok_or_else(|| NodeError::Gone {
            node: self.node.clone(),
        })?;
        connection.set_deadline(Some(Instant::now() + SEND_TIMEOUT));
        match connection.send(&Numbered { id, body }, fds) {
            Ok(()) => Ok(Ticket(id)),
            Err(error) => {
                // A part of the message may be on its way: nothing can follow it.
                self.connection = None;
                Err(self.error(error))
            }
        }
    }

    /// Waits for the answer to a request; answers to others that arrive meanwhile are kept for their tickets.
    ///
    /// # Errors
    /// [`NodeError`]. After [`NodeError::TimedOut`] the answer, when it comes, is kept until the handle is dropped.
    #[expect(clippy::needless_pass_by_value, reason = "a ticket is good once")]
    pub fn wait(&mut self, ticket: Ticket, deadline: Instant) -> Result<NodeReply, NodeError> {
        let reply = loop {
            if let Some(reply) = self.arrived.remove(&ticket.0) {
                break reply;
            }
            let connection = self.connection.as_mut().ok_or_else(|| NodeError::Gone {
                node: self.node.clone(),
            })?;
            connection.set_deadline(Some(deadline));
            match connection.recv::<Numbered<NodeReply>>() {
                Ok((Numbered { id, body }, _)) => {
                    self.arrived.insert(id, body);
                }
                Err(CodecError::TimedOut) => return Err(self.error(CodecError::TimedOut)),
                Err(error) => {
                    self.connection = None;
                    return Err(self.error(error));
                }
            }
        };
        match reply {
            NodeReply::Failed { message } => Err(NodeError::Refused {
                node: self.node.clone(),
                message,
            }),
            reply => Ok(reply),
        }
    }

    /// [`NodeHandle::post`] and [`NodeHandle::wait`].
    ///
    /// # Errors
    /// As both.
    pub fn request(
        &mut self,
        body: NodeRequest,
        fds: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> Result<NodeReply, NodeError> {
        let ticket = self.post(body, fds)?;
        self.wait(ticket, deadline)
    }

    /// Whether the process has ended, and how; collects it when it has. Never waits.
    ///
    /// # Errors
    /// What waitpid(2) says, for example ECHILD when somebody else collected it.
    pub fn try_reap(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.exited.is_none() {
            self.exited = self.child.try_wait()?;
            if self.exited.is_some() {
                self.connection = None;
            }
        }
        Ok(self.exited)
    }

    /// SIGKILL, then collects it.
    ///
    /// # Errors
    /// As [`NodeHandle::try_reap`].
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.connection = None;
        if let Some(status) = self.exited {
            return Ok(status);
        }
        self.child.kill()?;
        let status = self.child.wait()?;
        self.exited = Some(status);
        Ok(status)
    }

    fn error(&self, source: CodecError) -> NodeError {
        let node = self.node.clone();
        match source {
            CodecError::Closed | CodecError::Truncated => NodeError::Gone { node },
            CodecError::TimedOut => NodeError::TimedOut { node },
            source => NodeError::Protocol { node, source },
        }
    }
}

impl Drop for NodeHandle {
    fn drop(&mut self) {
        // It would end at the end of its socket; killing it is the same, without waiting for one that is stuck. An
        // error means that somebody else collected it.
        let _ = self.kill();
    }
}

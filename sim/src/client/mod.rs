//! What commands need to find a lab and talk to its daemon.
//!
//! Decides which lab is meant ([`Client::find`]), what its absence or refusal means for the exit code, and how long is
//! waited. Doesn't print. [`launch`] starts a lab, [`enter`] runs programs in it, [`runtime`] knows the places.

pub mod capture;
pub mod enter;
pub mod forward;
pub mod launch;
pub mod runtime;
pub mod uplink;

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::control::codec::{CodecError, Connection};
use crate::control::proto::{ErrorKind, Request, Response, Status};
use runtime::{LabDir, RuntimeDir, RuntimeError};

/// How long a daemon may take for an answer unless the caller says otherwise: longer than its own deadlines.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long `down` waits for devices and processes to be gone.
pub const DOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// A command could not be carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No lab of that name runs.
    #[error("lab {name} does not run; running: {}", list(running))]
    NoSuchLab {
        /// The name.
        name: String,
        /// Those that do.
        running: Vec<String>,
    },
    /// No lab was named and none runs.
    #[error("no lab runs; `podwire up` starts one")]
    NoLab,
    /// No lab was named and several run.
    #[error("several labs run ({}): name one with --lab", list(running))]
    Ambiguous {
        /// Their names.
        running: Vec<String>,
    },
    /// The daemon said no; nothing was changed.
    #[error("{message}")]
    Refused {
        /// Decides the exit code.
        kind: ErrorKind,
        /// For the user.
        message: String,
    },
    /// The connection to the daemon failed.
    #[error("lab {name}: {source}")]
    Connection {
        /// The lab.
        name: String,
        /// How.
        source: CodecError,
    },
    /// The daemon answered something else than the protocol allows.
    #[error("lab {name}: unexpected answer to {what}")]
    Protocol {
        /// The lab.
        name: String,
        /// The request.
        what: &'static str,
    },
    /// A lab didn't go away in time.
    #[error("lab {name}: {what}, but waited {} s in vain", waited.as_secs())]
    Timeout {
        /// The lab.
        name: String,
        /// What was waited for.
        what: &'static str,
        /// How long.
        waited: Duration,
    },
    /// The runtime directory can't be used.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

impl ErrorKind {
    /// The documented exit code.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::NotFound => 1,
            Self::Invalid => 3,
            Self::Unsupported => 4,
            Self::Timeout => 5,
            Self::Internal => 70,
        }
    }
}

impl ClientError {
    /// The documented exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoSuchLab { .. } | Self::NoLab => 1,
            Self::Ambiguous { .. } => 2,
            Self::Refused { kind, .. } => kind.exit_code(),
            Self::Connection {
                source: CodecError::TimedOut,
                ..
            }
            | Self::Timeout { .. } => 5,
            Self::Connection {
                source: CodecError::Version { .. },
                ..
            } => 1,
            Self::Connection { .. } | Self::Protocol { .. } => 70,
            Self::Runtime(_) => 4,
        }
    }
}

/// A greeted connection to the daemon of a lab.
#[derive(Debug)]
pub struct Client {
    name: String,
    connection: Connection,
    timeout: Duration,
}

impl Client {
    /// Connects to the lab of that name, or to the only one that runs.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn find(name: Option<&str>) -> Result<Self, ClientError> {
        Self::find_in(&RuntimeDir::open()?, name)
    }

    /// As [`Client::find`], in a given runtime directory.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn find_in(dir: &RuntimeDir, name: Option<&str>) -> Result<Self, ClientError> {
        if let Some(name) = name {
            return match dir.lab(name).connect() {
                Ok(socket) => Self::greet(name, socket.into()),
                Err(_) => Err(ClientError::NoSuchLab {
                    name: name.to_owned(),
                    running: running(dir)?.into_iter().map(|(name, _)| name).collect(),
                }),
            };
        }
        let mut found = running(dir)?;
        match found.len() {
            0 => Err(ClientError::NoLab),
            1 => {
                let (name, socket) = found.remove(0);
                Self::greet(&name, socket)
            }
            _ => Err(ClientError::Ambiguous {
                running: found.into_iter().map(|(name, _)| name).collect(),
            }),
        }
    }

    fn greet(name: &str, socket: OwnedFd) -> Result<Self, ClientError> {
        let mut client = Self {
            name: name.to_owned(),
            connection: Connection::new(socket),
            timeout: ANSWER_TIMEOUT,
        };
        client
            .connection
            .set_deadline(Some(Instant::now() + ANSWER_TIMEOUT));
        match client.connection.greet() {
            Ok(_) => Ok(client),
            Err(source) => Err(client.lost(source)),
        }
    }

    /// Name of the lab.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets how long an answer may take.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// [`ClientError::Refused`] for [`Response::Error`], else what the connection says.
    pub fn request(&mut self, request: &Request) -> Result<Response, ClientError> {
        self.request_with_fds(request).map(|(response, _)| response)
    }

    /// As [`Client::request`] for answers with descriptors.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn request_with_fds(
        &mut self,
        request: &Request,
    ) -> Result<(Response, Vec<OwnedFd>), ClientError> {
        self.connection
            .set_deadline(Some(Instant::now() + self.timeout));
        let asked = Instant::now();
        self.connection
            .send(request, &[])
            .map_err(|source| self.lost(source))?;
        let answer = self.next_response();
        tracing::debug!(
            "lab {}: {} answered after {:?}",
            self.name,
            kind_of(request),
            asked.elapsed()
        );
        answer
    }

    /// The next answer to a request that has several (following a log); waits as long as it takes.
    ///
    /// # Errors
    /// As [`Client::request`]; `None` when the daemon has closed the connection.
    pub fn follow(&mut self) -> Result<Option<Response>, ClientError> {
        self.connection.set_deadline(None);
        match self.connection.recv::<Response>() {
            Ok((Response::Error { kind, message }, _)) => {
                Err(ClientError::Refused { kind, message })
            }
            Ok((response, _)) => Ok(Some(response)),
            Err(CodecError::Closed) => Ok(None),
            Err(source) => Err(self.lost(source)),
        }
    }

    /// The state of the lab at a glance.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn status(&mut self) -> Result<Status, ClientError> {
        match self.request(&Request::Status)? {
            Response::Status(status) => Ok(status),
            _ => Err(self.unexpected("status")),
        }
    }

    /// What to say when an answer is of the wrong kind.
    #[must_use]
    pub fn unexpected(&self, what: &'static str) -> ClientError {
        ClientError::Protocol {
            name: self.name.clone(),
            what,
        }
    }

    fn next_response(&mut self) -> Result<(Response, Vec<OwnedFd>), ClientError> {
        match self.connection.recv::<Response>() {
            Ok((Response::Error { kind, message }, _)) => {
                Err(ClientError::Refused { kind, message })
            }
            Ok(answer) => Ok(answer),
            Err(source) => Err(self.lost(source)),
        }
    }

    fn lost(&self, source: CodecError) -> ClientError {
        ClientError::Connection {
            name: self.name.clone(),
            source,
        }
    }

    /// Takes the lab down and returns when its daemon has ended.
    fn down(mut self) -> Result<(), ClientError> {
        self.set_timeout(DOWN_TIMEOUT);
        match self.request(&Request::Down) {
            Ok(Response::Done) => {}
            Ok(_) => return Err(self.unexpected("down")),
            // Another command may be taking it down at the same time: its end is what both wait for.
            Err(ClientError::Connection {
                source: CodecError::Closed,
                ..
            }) => return Ok(()),
            Err(error) => return Err(error),
        }
        // The connection closes with the process.
        let deadline = Instant::now() + DOWN_TIMEOUT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).unwrap_or_default();
            let mut fds = [PollFd::new(&self.connection, PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) => {
                    return Err(ClientError::Timeout {
                        name: self.name.clone(),
                        what: "the devices are gone and the daemon should end",
                        waited: DOWN_TIMEOUT,
                    });
                }
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(self.lost(errno.into())),
            }
        }
    }
}

/// The request's kind, without what it carries.
fn kind_of(request: &Request) -> String {
    let text = format!("{request:?}");
    text.split([' ', '(']).next().unwrap_or_default().to_owned()
}

/// Every lab whose daemon accepts connections, with a connection, sorted by name.
fn running(dir: &RuntimeDir) -> Result<Vec<(String, OwnedFd)>, RuntimeError> {
    Ok(dir
        .names()?
        .into_iter()
        .filter_map(|name| {
            let socket = dir.lab(&name).connect().ok()?;
            Some((name, socket.into()))
        })
        .collect())
}

/// A row of `podwire ps`: a lab, or why it can't be asked.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its state.
    pub status: Result<Status, ClientError>,
}

/// All labs that run.
///
/// # Errors
/// [`ClientError::Runtime`].
pub fn labs() -> Result<Vec<Listed>, ClientError> {
    let found = running(&RuntimeDir::open()?)?;
    Ok(found
        .into_iter()
        .map(|(name, socket)| {
            let status = Client::greet(&name, socket).and_then(|mut client| client.status());
            Listed { name, status }
        })
        .collect())
}

/// What [`down`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// It ran and is gone now.
    Stopped,
    /// It was dead; what it had left was removed.
    Cleaned,
    /// There was nothing.
    Absent,
}

/// Takes a lab down, or removes what a dead one left. Returns when nothing is left; idempotent.
///
/// # Errors
/// [`ClientError`].
pub fn down(name: &str) -> Result<Down, ClientError> {
    down_in(&RuntimeDir::open()?.lab(name), name)
}

fn down_in(dir: &LabDir, name: &str) -> Result<Down, ClientError> {
    if !dir.path().exists() {
        return Ok(Down::Absent);
    }
    let stopped = match dir.connect() {
        Ok(socket) => {
            Client::greet(name, socket.into())?.down()?;
            true
        }
        Err(_) => false,
    };
    if stopped && !dir.path().exists() {
        return Ok(Down::Stopped);
    }
    let deadline = Instant::now() + DOWN_TIMEOUT;
    loop {
        if let Some(lock) = dir.try_lock()? {
            let found = lock.clean()?;
            lock.remove()?;
            return Ok(match (stopped, found) {
                (true, _) => Down::Stopped,
                (false, true) => Down::Cleaned,
                (false, false) => Down::Absent,
            });
        }
        // Somebody is just starting or ending it: there is no descriptor to wait on.
        if Instant::now() >= deadline {
            return Err(ClientError::Timeout {
                name: name.to_owned(),
                what: "another command is starting or ending it",
                waited: DOWN_TIMEOUT,
            });
        }
        if dir.connect().is_ok() {
            return down_in(dir, name);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Names of all labs that have anything here, alive or dead: what `down --all` takes down.
///
/// # Errors
/// [`ClientError::Runtime`].
pub fn all_names() -> Result<Vec<String>, ClientError> {
    Ok(RuntimeDir::open()?.names()?)
}

/// True when the daemon of this connection has closed it. Never waits.
pub(crate) fn is_closed(connection: &Connection) -> io::Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(
        connection.as_fd(),
        PollFlags::RDHUP,
    )];
    let none = Timespec::default();
    poll(&mut fds, Some(&none))?;
    Ok(fds[0]
        .revents()
        .intersects(PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR))
}

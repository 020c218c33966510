//! Starting a lab: which back end, which daemon, and what to say when it can't be had.
//!
//! Decides the rung of the ladder by trying (decision 8): a daemon that isn't allowed something says so before it has made
//! anything, and the next rung is tried. All or nothing: unless [`start`] returns [`Started`], no process, namespace or
//! file of the lab is left. Cost: one process for the namespaces, one for the daemon, about 3 ms before its work begins.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{SigId, flag};
use tap_bridge::sys::spawn::{Spawn, spawn};

use super::runtime::{LabLock, RuntimeDir, RuntimeError};
use super::uplink::{self, UplinkError};
use crate::control::codec::{CodecError, Connection};
use crate::control::launch::{Event, Order};
use crate::control::proto::ErrorKind;
use crate::daemon::COMMAND;
use crate::spec::{Backend, LabSpec};

/// Environment variable that names the tun device when it isn't `/dev/net/tun`.
pub const TUN_VARIABLE: &str = "PODWIRE_TUN";

/// How often the starter looks whether it was interrupted.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long a daemon whose bring-up was given up may take to end.
const ABANDON_TIMEOUT: Duration = Duration::from_secs(10);

/// Which back end is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The best that this host allows.
    #[default]
    Auto,
    /// Network namespaces with TAP devices, or nothing.
    Tap,
    /// Network namespaces with veths and packet sockets, or nothing.
    Packet,
    /// Network namespaces with whatever interfaces, or nothing.
    Namespaces,
    /// In-process pods.
    Inproc,
}

impl Choice {
    /// What is tried, the best first.
    const fn rungs(self) -> &'static [Backend] {
        match self {
            Self::Auto => &[Backend::Tap, Backend::Packet, Backend::Inproc],
            Self::Tap => &[Backend::Tap],
            Self::Packet => &[Backend::Packet],
            Self::Namespaces => &[Backend::Tap, Backend::Packet],
            Self::Inproc => &[Backend::Inproc],
        }
    }
}

/// A lab that works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// The back end in use.
    pub backend: Backend,
    /// Why that one, for the user.
    pub reason: String,
    /// It runs in a user namespace of its own.
    pub rootless: bool,
}

/// A lab could not be started; nothing is left of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// One of that name runs.
    #[error("lab {name} runs already")]
    AlreadyRunning {
        /// Its name.
        name: String,
    },
    /// This host doesn't allow the back end that was asked for.
    #[error("{reason}\n`podwire doctor` says what would enable it; --backend inproc works without")]
    Unavailable {
        /// Which permission.
        reason: String,
    },
    /// The bring-up failed.
    #[error("{message}")]
    Failed {
        /// Decides the exit code.
        kind: ErrorKind,
        /// For the user.
        message: String,
    },
    /// It was not ready in time.
    #[error(
        "lab {name} was not ready after {}: {doing}\nif this just takes longer here: --wait {}",
        humantime::format_duration(*waited),
        humantime::format_duration(*waited * 6)
    )]
    Timeout {
        /// Its name.
        name: String,
        /// What the daemon did last.
        doing: String,
        /// How long.
        waited: Duration,
    },
    /// The daemon ended without a word.
    #[error("the daemon of lab {name} ended while {doing}")]
    Died {
        /// Its name.
        name: String,
        /// What it did last.
        doing: String,
    },
    /// The user interrupted it.
    #[error("interrupted")]
    Interrupted,
    /// The daemon could not be started or talked to.
    #[error("the daemon can't be started: {0}")]
    Daemon(#[from] CodecError),
    /// A node's port on an interface of the host can't be had.
    #[error(transparent)]
    Uplink(#[from] UplinkError),
    /// The runtime directory can't be used.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

impl LaunchError {
    /// The documented exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::AlreadyRunning { .. } => 1,
            Self::Unavailable { .. } | Self::Uplink(_) | Self::Runtime(_) => 4,
            Self::Failed { kind, .. } => kind.exit_code(),
            Self::Timeout { .. } => 5,
            // 128 + SIGINT, as a shell reports it.
            Self::Interrupted => 130,
            Self::Died { .. } | Self::Daemon(_) => 70,
        }
    }
}

/// Brings a lab up and returns when it works.
///
/// # Errors
/// [`LaunchError`]; nothing is left then.
pub fn start(lab: &LabSpec, choice: Choice, wait: Duration) -> Result<Started, LaunchError> {
    start_in(&RuntimeDir::open()?, lab, choice, wait)
}

/// As [`start`], in a given runtime directory.
///
/// # Errors
/// [`LaunchError`].
pub fn start_in(
    dir: &RuntimeDir,
    lab: &LabSpec,
    choice: Choice,
    wait: Duration,
) -> Result<Started, LaunchError> {
    let lock = dir
        .lab(&lab.name)
        .try_lock()?
        .ok_or_else(|| LaunchError::AlreadyRunning {
            name: lab.name.clone(),
        })?;
    let interrupt = Interrupt::watch().map_err(CodecError::Io)?;
    let patience = Patience {
        deadline: Instant::now() + wait,
        wait,
        interrupt: &interrupt,
    };
    let result = climb_down(lab, &lock, choice, &patience);
    if result.is_err() {
        // A daemon that still ends holds the lock with us; what it leaves goes with the next `up` or `down`.
        lock.remove()?;
    }
    result
}

/// Tries the rungs of the ladder from the top.
fn climb_down(
    lab: &LabSpec,
    lock: &LabLock,
    choice: Choice,
    patience: &Patience<'_>,
) -> Result<Started, LaunchError> {
    let uplinks = uplink::open(lab)?;
    let mut refusals: Vec<String> = Vec::new();
    for &backend in choice.rungs() {
        match attempt(lab, lock, &uplinks, backend, patience)? {
            Attempt::Ready { rootless } => {
                return Ok(Started {
                    backend,
                    reason: reason(backend, rootless, choice, &refusals),
                    rootless,
                });
            }
            // Namespaces that aren't allowed are refused on every rung in the same words.
            Attempt::Unavailable(why) if refusals.contains(&why) => {}
            Attempt::Unavailable(why) => refusals.push(why),
        }
    }
    Err(LaunchError::Unavailable {
        reason: refusals.join("; "),
    })
}

/// Why this rung, for the user.
fn reason(backend: Backend, rootless: bool, choice: Choice, refusals: &[String]) -> String {
    match backend {
        Backend::Tap if rootless => {
            "this user may make user namespaces and open the tun device".into()
        }
        Backend::Tap => "this user may make namespaces and TAP devices".into(),
        _ if choice.rungs().len() == 1 => "asked for".into(),
        _ => refusals.join("; "),
    }
}

enum Attempt {
    Ready { rootless: bool },
    Unavailable(String),
}

fn attempt(
    lab: &LabSpec,
    lock: &LabLock,
    uplinks: &[OwnedFd],
    backend: Backend,
    patience: &Patience<'_>,
) -> Result<Attempt, LaunchError> {
    lock.clean()?;
    let order = Order {
        lab: lab.clone(),
        backend,
        directory: lock.dir().path().to_owned(),
        tun: std::env::var_os(TUN_VARIABLE)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from),
    };
    let mut pid_namespace = backend.has_namespaces();
    loop {
        let mut daemon = Daemon::spawn(&order, lock, uplinks, pid_namespace)?;
        let event = daemon.wait_ready(&lab.name, patience);
        if let Ok(Event::Ready { rootless }) = event {
            return Ok(Attempt::Ready { rootless });
        }
        daemon.abandon();
        match event? {
            Event::Unavailable { reason } => return Ok(Attempt::Unavailable(reason)),
            Event::NoPidNamespace if pid_namespace => pid_namespace = false,
            Event::Failed { kind, message } => return Err(LaunchError::Failed { kind, message }),
            Event::Ready { .. }
            | Event::Progress { .. }
            | Event::Probed { .. }
            | Event::NoPidNamespace => {
                return Err(LaunchError::Daemon(CodecError::Closed));
            }
        }
    }
}

/// The process that we started (which ends as soon as it has started the daemon proper), and the socket to the daemon.
struct Daemon {
    child: Child,
    connection: Connection,
}

impl Daemon {
    fn spawn(
        order: &Order,
        lock: &LabLock,
        uplinks: &[OwnedFd],
        pid_namespace: bool,
    ) -> Result<Self, LaunchError> {
        let (mut ours, theirs) = Connection::pair().map_err(CodecError::Io)?;
        let stage = match (order.backend, pid_namespace) {
            (Backend::Inproc, _) => "plain",
            (Backend::Tap | Backend::Packet, true) => "isolate",
            (Backend::Tap | Backend::Packet, false) => "isolate-without-pid",
        };
        let stderr = std::io::stderr();
        let child = spawn(&Spawn {
            program: None,
            title: &format!("podwire: daemon (lab {})", order.lab.name),
            args: vec![
                COMMAND.into(),
                "--stage".into(),
                stage.into(),
                "--lab".into(),
                order.lab.name.clone().into(),
                "--launch-fd".into(),
                theirs.as_fd().as_raw_fd().to_string().into(),
            ],
            env: &[],
            own_group: false,
            fds: &[theirs.as_fd()],
            log: stderr.as_fd(),
            die_with_thread: false,
        })
        .map_err(CodecError::Io)?;
        drop(theirs);
        let mut fds = vec![lock.file().as_fd()];
        fds.extend(uplinks.iter().map(|socket| socket.as_fd()));
        match ours.send(order, &fds) {
            // It may have said already what this host can't do, and be gone: that is still to be read.
            Ok(()) | Err(CodecError::Closed) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Self {
            child,
            connection: ours,
        })
    }

    /// The first event that is not progress.
    fn wait_ready(&mut self, lab: &str, patience: &Patience<'_>) -> Result<Event, LaunchError> {
        let mut doing = "the daemon starts".to_owned();
        loop {
            let now = Instant::now();
            self.connection
                .set_deadline(Some(patience.deadline.min(now + LOOK_AGAIN)));
            match self.connection.recv::<Event>() {
                Ok((Event::Progress { text }, _)) => doing = text,
                Ok((event, _)) => return Ok(event),
                Err(CodecError::TimedOut) if patience.interrupt.came() => {
                    return Err(LaunchError::Interrupted);
                }
                Err(CodecError::TimedOut) if now < patience.deadline => {}
                Err(CodecError::TimedOut) => {
                    return Err(LaunchError::Timeout {
                        name: lab.to_owned(),
                        doing,
                        waited: patience.wait,
                    });
                }
                Err(CodecError::Closed | CodecError::Truncated) => {
                    return Err(LaunchError::Died {
                        name: lab.to_owned(),
                        doing,
                    });
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// How long the starter waits.
struct Patience<'a> {
    deadline: Instant,
    wait: Duration,
    interrupt: &'a Interrupt,
}

/// SIGINT and SIGTERM while a lab is being started: the lab is undone before we end. Afterwards they are the caller's, who
/// has a lab to think of; without actions of its own they do nothing.
struct Interrupt {
    came: Arc<AtomicBool>,
    actions: Vec<SigId>,
}

impl Interrupt {
    fn watch() -> std::io::Result<Self> {
        let mut interrupt = Self {
            came: Arc::default(),
            actions: Vec::new(),
        };
        for signal in [SIGINT, SIGTERM] {
            let action = flag::register(signal, Arc::clone(&interrupt.came))?;
            interrupt.actions.push(action);
        }
        Ok(interrupt)
    }

    fn came(&self) -> bool {
        self.came.load(Ordering::Relaxed)
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        for action in self.actions.drain(..) {
            signal_hook::low_level::unregister(action);
        }
    }
}

impl Daemon {
    /// Closes our half, which makes a daemon that isn't ready end, and waits until it has.
    fn abandon(&mut self) {
        // An error means that it has ended already.
        let _ = rustix::net::shutdown(&self.connection, rustix::net::Shutdown::Write);
        self.connection
            .set_deadline(Some(Instant::now() + ABANDON_TIMEOUT));
        while self.connection.recv::<Event>().is_ok() {}
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // This is the process that starts the daemon and ends; the daemon is never our child.
        let _ = self.child.wait();
    }
}

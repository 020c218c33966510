//! Running a program inside a pod or a node's host namespace, in the way of `docker exec`.
//!
//! Decides the order in which namespaces are entered, the working directory, who gets which signal, and the exit status: the
//! program's own, 128 + n when signal n ended it, 125 when podwire failed, 126 when the program can't be executed, 127 when
//! it isn't found. Terminal and standard streams are inherited, so that job control and Ctrl-C work as if the program had
//! been started directly: the terminal sends SIGINT and SIGQUIT to the program itself, and this process only outlives them.
//! Cost: five system calls and one fork.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::low_level::pipe;
use tap_bridge::sys::netns::{Namespace, enter};

use super::{Client, ClientError};
use crate::control::proto::{Request, Response, Target};

/// podwire itself failed.
pub const EXIT_FAILURE: u8 = 125;
/// The program exists but can't be executed.
pub const EXIT_NOT_EXECUTABLE: u8 = 126;
/// The program wasn't found.
pub const EXIT_NOT_FOUND: u8 = 127;

/// A program could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnterError {
    /// The daemon refused, or can't be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A namespace can't be entered.
    #[error("can't enter the {kind} namespace: {source}")]
    Namespace {
        /// Which kind.
        kind: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The program can't be executed.
    #[error("{program}: {source}")]
    Program {
        /// Its name.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// Something else.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl EnterError {
    /// The documented exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            // Decision 9: where pods can't run programs the code is that of a missing permission.
            Self::Client(error) if error.exit_code() == 4 => 4,
            Self::Client(_) | Self::Namespace { .. } | Self::Io(_) => EXIT_FAILURE,
            Self::Program { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                EXIT_NOT_FOUND
            }
            Self::Program { .. } => EXIT_NOT_EXECUTABLE,
        }
    }
}

/// Runs `argv` in `target` and waits for its end. Returns the exit status to pass on.
///
/// Moves the whole calling process into the namespaces, so the process must have one thread only and should do nothing
/// else afterwards.
///
/// # Errors
/// [`EnterError`]; the program has not run then.
///
/// # Panics
/// When `argv` is empty.
pub fn run(mut client: Client, target: Target, argv: &[String]) -> Result<u8, EnterError> {
    let (program, args) = argv.split_first().expect("a program was named");
    let (order, fallback, fds) = namespaces(&mut client, target)?;
    drop(client);
    let here = std::env::current_dir().ok();
    for (kind, fd) in order.iter().zip(&fds) {
        enter(fd.as_fd(), *kind).map_err(|source| EnterError::Namespace {
            kind: kind.name(),
            source,
        })?;
    }
    drop(fds);
    // The directory is looked up again, in the new mount tree.
    let back = here.is_some_and(|dir| std::env::set_current_dir(dir).is_ok())
        || std::env::set_current_dir(Path::new(&fallback)).is_ok();
    if !back {
        std::env::set_current_dir("/")?;
    }
    // Installed before the program starts, so that none is lost. Handlers, unlike "ignore", are not inherited.
    let signals = Forwarded::new()?;
    let mut child =
        Command::new(program)
            .args(args)
            .spawn()
            .map_err(|source| EnterError::Program {
                program: program.clone(),
                source,
            })?;
    // A failure only means that signals are not passed on; the program runs already.
    let _ = signals.forward_until_exit(&child);
    Ok(exit_code(child.wait()?))
}

/// Signals of this process that the program gets, or that must not end us before it has ended.
///
/// Without a thread: a process that has entered a PID namespace can't make any (clone(2), EINVAL).
struct Forwarded {
    term: UnixStream,
    hup: UnixStream,
    /// Never read: the terminal sends these to the program itself.
    _kept: UnixStream,
}

impl Forwarded {
    fn new() -> io::Result<Self> {
        let (term, on_term) = UnixStream::pair()?;
        let (hup, on_hup) = UnixStream::pair()?;
        let (kept, on_int) = UnixStream::pair()?;
        let on_quit = on_int.try_clone()?;
        pipe::register(SIGTERM, on_term)?;
        pipe::register(SIGHUP, on_hup)?;
        pipe::register(SIGINT, on_int)?;
        pipe::register(SIGQUIT, on_quit)?;
        Ok(Self {
            term,
            hup,
            _kept: kept,
        })
    }

    fn forward_until_exit(&self, child: &Child) -> io::Result<()> {
        let pid = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        loop {
            let mut fds = [
                PollFd::new(&process, PollFlags::IN),
                PollFd::new(&self.term, PollFlags::IN),
                PollFd::new(&self.hup, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            let [ended, term, hup] = fds.map(|fd| !fd.revents().is_empty());
            for (arrived, mut source, signal) in [
                (term, &self.term, Signal::TERM),
                (hup, &self.hup, Signal::HUP),
            ] {
                if arrived {
                    source.read_exact(&mut [0])?;
                    pidfd_send_signal(&process, signal)?;
                }
            }
            if ended {
                return Ok(());
            }
        }
    }
}

/// Asks the daemon for the namespaces.
pub(super) fn namespaces(
    client: &mut Client,
    target: Target,
) -> Result<(Vec<Namespace>, String, Vec<OwnedFd>), EnterError> {
    let (response, fds) = client.request_with_fds(&Request::Enter { target })?;
    let Response::Namespaces {
        order,
        fallback_dir,
    } = response
    else {
        return Err(client.unexpected("enter").into());
    };
    let kinds: Option<Vec<Namespace>> = order
        .iter()
        .map(|name| Namespace::from_name(name))
        .collect();
    match kinds {
        Some(kinds) if kinds.len() == fds.len() => Ok((kinds, fallback_dir, fds)),
        _ => Err(client.unexpected("enter").into()),
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code & 0xff).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shell's convention for programs that a signal ended.
    #[test]
    fn a_signal_becomes_128_plus_its_number() {
        assert_eq!(exit_code(ExitStatus::from_raw(0)), 0);
        assert_eq!(exit_code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
    }

    /// 126 and 127 are told apart by what the system said.
    #[test]
    fn missing_and_forbidden_programs_differ() {
        let error = |kind: io::ErrorKind| EnterError::Program {
            program: "x".into(),
            source: kind.into(),
        };
        assert_eq!(error(io::ErrorKind::NotFound).exit_code(), 127);
        assert_eq!(error(io::ErrorKind::PermissionDenied).exit_code(), 126);
    }
}

//! Running a program inside a pod or a node's host namespace, in the way of `docker exec`.
//!
//! Decides the order in which namespaces are entered, the working directory, who gets which signal, and the exit status: the
//! program's own, 128 + n when signal n ended it, 125 when podwire failed, 126 when the program can't be executed, 127 when
//! it isn't found. Terminal and standard streams are inherited, so that job control and Ctrl-C work as if the program had
//! been started directly: the terminal sends SIGINT and SIGQUIT to the program itself, and this process only outlives them.
//! Cost: five system calls and one fork.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
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
    let mut signals = Signals::new([SIGTERM, SIGHUP, SIGINT, SIGQUIT])?;
    let mut child =
        Command::new(program)
            .args(args)
            .spawn()
            .map_err(|source| EnterError::Program {
                program: program.clone(),
                source,
            })?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let closer = signals.handle();
    let forwarder = std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for number in signals.forever() {
                let signal = match number {
                    SIGTERM => Signal::TERM,
                    SIGHUP => Signal::HUP,
                    _ => continue,
                };
                if let Some(pid) = pid {
                    // It may have ended just now, which is no reason to fail.
                    let _ = kill_process(pid, signal);
                }
            }
        })?;
    let status = child.wait();
    closer.close();
    // It does nothing that could panic, and if it did the program's status would still be known.
    let _ = forwarder.join();
    Ok(exit_code(status?))
}

/// Asks the daemon for the namespaces.
fn namespaces(
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

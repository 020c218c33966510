//! The first process of a lab: takes namespaces, then starts the daemon in them and ends.
//!
//! Decides which namespaces (own mount, network and UTS namespaces; an own PID namespace, in which the daemon is init, so
//! that the kernel ends everything with it: decision 1; an own user namespace for those who aren't root) and what it means
//! when one is refused. It is a process of its own because a PID namespace holds only children and a user namespace wants a
//! process with one thread.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use tap_bridge::sys::netns::{self, Namespace};
use tap_bridge::sys::spawn::{Spawn, spawn};
use tap_bridge::sys::{mount, userns};

use super::{COMMAND, Stage};
use crate::control::codec::Connection;
use crate::control::launch::Event;
use crate::control::proto::ErrorKind;

/// Starts the daemon proper and returns; what goes wrong is told to the starter.
pub(super) fn start_daemon(
    mut launch: Connection,
    lab: &str,
    stage: Stage,
) -> Result<(), io::Error> {
    // Away from the terminal: Ctrl-C is for the command, and the lab outlives it. An error means that it is so already.
    let _ = rustix::process::setsid();
    let isolated = match stage {
        Stage::Isolate { pid_namespace } => isolate(pid_namespace).map(|rootless| Stage::Run {
            isolated: true,
            pid_namespace,
            rootless,
        }),
        _ => Ok(Stage::Run {
            isolated: false,
            pid_namespace: false,
            rootless: false,
        }),
    };
    let event = match isolated {
        Ok(next) => match exec(&launch, lab, next) {
            Ok(()) => return Ok(()),
            Err(source) => Event::Failed {
                kind: ErrorKind::Internal,
                message: format!("the daemon can't be started: {source}"),
            },
        },
        Err(reason) => Event::Unavailable { reason },
    };
    // The starter may be gone; then nobody wants to know.
    let _ = launch.send(&event, &[]);
    Ok(())
}

pub(super) fn exec(launch: &Connection, lab: &str, stage: Stage) -> io::Result<()> {
    let stderr = io::stderr();
    // It is collected by init, because this process ends now.
    spawn(&Spawn {
        program: None,
        title: &format!("podwire: daemon (lab {lab})"),
        args: vec![
            COMMAND.into(),
            "--stage".into(),
            stage.to_string().into(),
            "--lab".into(),
            lab.into(),
            "--launch-fd".into(),
            launch.as_fd().as_raw_fd().to_string().into(),
        ],
        env: &[],
        own_group: false,
        fds: &[launch.as_fd()],
        log: stderr.as_fd(),
        die_with_thread: false,
    })?;
    Ok(())
}

/// Takes the namespaces; true when a user namespace was needed. An error is a sentence for the user.
pub fn isolate(pid_namespace: bool) -> Result<bool, String> {
    let mut kinds = vec![Namespace::Mount, Namespace::Net, Namespace::Uts];
    if pid_namespace {
        kinds.push(Namespace::Pid);
    }
    let rootless = match netns::isolate(&kinds) {
        Ok(()) => false,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            userns::become_root()
                .map_err(|error| format!("a user namespace can't be made: {}", explain(&error)))?;
            netns::isolate(&kinds).map_err(|error| {
                format!(
                    "namespaces can't be made in a user namespace: {}",
                    explain(&error)
                )
            })?;
            true
        }
        Err(error) => return Err(format!("namespaces can't be made: {}", explain(&error))),
    };
    mount::make_private().map_err(|error| {
        format!(
            "mounts can't be changed in a user namespace: {}",
            explain(&error)
        )
    })?;
    Ok(rootless)
}

/// Whether the tun device can be opened. An error is a sentence for the user.
pub fn check_tun(device: &Path) -> Result<(), String> {
    use rustix::fs::{Mode, OFlags, open};
    match open(device, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(_) => Ok(()),
        Err(errno) => Err(format!(
            "{} can't be opened: {}",
            device.display(),
            explain(&errno.into())
        )),
    }
}

/// Whether packet sockets can be opened. An error is a sentence for the user.
pub fn check_packet() -> Result<(), String> {
    match tap_bridge::sys::packet::open() {
        Ok(_) => Ok(()),
        Err(error) => Err(format!(
            "packet sockets can't be opened: {}",
            explain(&error)
        )),
    }
}

/// What the system said, with what it means here.
pub(super) fn explain(error: &io::Error) -> String {
    use rustix::io::Errno;
    let meaning = match Errno::from_io_error(error) {
        Some(Errno::PERM) => {
            "not permitted (AppArmor, seccomp or a container keeps it from this user)"
        }
        Some(Errno::ACCESS) => "permission denied",
        Some(Errno::NOSPC) => "the limit in /proc/sys/user is reached",
        Some(Errno::NOENT) => "it does not exist",
        Some(Errno::AFNOSUPPORT | Errno::OPNOTSUPP) => "the kernel has none",
        Some(Errno::NODEV | Errno::NXIO) => "the kernel has no driver for it",
        _ => return error.to_string(),
    };
    meaning.to_owned()
}

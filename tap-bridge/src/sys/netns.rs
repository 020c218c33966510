//! Namespaces of the calling thread: leave them, enter others, keep them alive by descriptors.
//!
//! Decides nothing about what is in them. A namespace lives as long as a descriptor of it is open, so that pods need no
//! process of their own. Namespaces belong to threads: whoever calls [`isolate`] or [`enter`] should be a thread made for
//! that (see [`with_namespaces`]), because threads it starts later inherit what it has then.
//! Source: namespaces(7), setns(2), unshare(2). Cost: a network namespace about 0.4 ms and 0.2 MB of kernel memory.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Kinds of namespaces that podwire uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Namespace {
    /// Ids and capabilities.
    User,
    /// The mount tree.
    Mount,
    /// Host name.
    Uts,
    /// Interfaces, addresses, routes, sockets.
    Net,
    /// Process ids; takes effect for children, not for the caller.
    Pid,
}

impl Namespace {
    /// Every kind, in the order in which they have to be entered: the user namespace gives the right to enter the rest.
    pub const ALL: [Self; 5] = [Self::User, Self::Mount, Self::Uts, Self::Net, Self::Pid];

    /// Its name below `/proc/PID/ns`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Mount => "mnt",
            Self::Uts => "uts",
            Self::Net => "net",
            Self::Pid => "pid",
        }
    }

    /// The kind with that [`Namespace::name`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    const fn unshare_flag(self) -> UnshareFlags {
        match self {
            Self::User => UnshareFlags::NEWUSER,
            Self::Mount => UnshareFlags::NEWNS,
            Self::Uts => UnshareFlags::NEWUTS,
            Self::Net => UnshareFlags::NEWNET,
            Self::Pid => UnshareFlags::NEWPID,
        }
    }

    const fn link_type(self) -> LinkNameSpaceType {
        match self {
            Self::User => LinkNameSpaceType::User,
            Self::Mount => LinkNameSpaceType::Mount,
            Self::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
            Self::Net => LinkNameSpaceType::Network,
            Self::Pid => LinkNameSpaceType::ProcessID,
        }
    }
}

/// Gives the calling thread new namespaces of these kinds. A new mount namespace starts as a copy of the old one.
///
/// # Errors
/// `PermissionDenied` without CAP_SYS_ADMIN; `ENOSPC` at the limit of `/proc/sys/user/max_*_namespaces`; `EINVAL` for a
/// user namespace in a process with several threads.
pub fn isolate(kinds: &[Namespace]) -> io::Result<()> {
    let mut flags = UnshareFlags::empty();
    for kind in kinds {
        flags |= kind.unshare_flag();
    }
    unshare(flags)
}

/// Gives the calling thread its own current directory and root, which [`enter`] wants before a mount namespace as soon
/// as the process has more than one thread.
///
/// # Errors
/// What unshare(2) says.
pub fn isolate_directory() -> io::Result<()> {
    unshare(UnshareFlags::FS)
}

fn unshare(flags: UnshareFlags) -> io::Result<()> {
    debug_assert!(
        !flags.contains(UnshareFlags::FILES),
        "the descriptor table stays shared"
    );
    // SAFETY: the call is unsafe because of CLONE_FILES only, which would take descriptors of other threads away; both
    // callers build the flags from namespace kinds and CLONE_FS, never from CLONE_FILES.
    unsafe { unshare_unsafe(flags) }?;
    Ok(())
}

/// A descriptor that keeps the calling thread's namespace of this kind alive.
///
/// # Errors
/// What open(2) of `/proc/thread-self/ns` says.
pub fn current(kind: Namespace) -> io::Result<OwnedFd> {
    Ok(File::open(format!("/proc/thread-self/ns/{}", kind.name()))?.into())
}

/// The namespace that the calling thread's children will have as their PID namespace.
///
/// # Errors
/// What open(2) says; `NotFound` before the first child exists in it.
pub fn pid_for_children() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/pid_for_children")?.into())
}

/// Moves the calling thread into a namespace (a PID namespace: its future children).
///
/// # Errors
/// `PermissionDenied` without CAP_SYS_ADMIN there; `InvalidInput` when the descriptor is another kind of namespace, or
/// for a user or mount namespace while threads share what it changes.
pub fn enter(namespace: BorrowedFd<'_>, kind: Namespace) -> io::Result<()> {
    move_into_link_name_space(namespace, Some(kind.link_type()))?;
    Ok(())
}

/// Runs `work` on a new thread inside these namespaces and waits for it.
///
/// # Errors
/// What [`enter`] or the thread's creation says; `work` has not run then.
pub fn with_namespaces<T: Send>(
    namespaces: &[(BorrowedFd<'_>, Namespace)],
    work: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new()
            .name("namespace".into())
            .stack_size(256 << 10)
            .spawn_scoped(scope, || {
                isolate_directory()?;
                for &(fd, kind) in namespaces {
                    enter(fd, kind)?;
                }
                Ok(work())
            })?;
        worker
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every name leads back to its kind, and nothing else does.
    #[test]
    fn names_are_those_of_proc() {
        for kind in Namespace::ALL {
            assert_eq!(Namespace::from_name(kind.name()), Some(kind));
            assert!(
                std::path::Path::new("/proc/self/ns")
                    .join(kind.name())
                    .exists()
            );
        }
        assert_eq!(Namespace::from_name("time"), None);
    }

    /// A descriptor of one kind can't be entered as another.
    #[test]
    fn the_kind_is_checked() {
        let net = current(Namespace::Net).unwrap();
        let error = enter(std::os::fd::AsFd::as_fd(&net), Namespace::Uts).unwrap_err();
        assert!(
            matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied
            ),
            "{error}"
        );
    }
}

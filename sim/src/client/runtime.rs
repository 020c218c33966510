//! The runtime directory: where labs are found, and how a dead one is told from a running one.
//!
//! Decides the place (`PODWIRE_RUNTIME_DIR`, else `/run/podwire` for root, else `$XDG_RUNTIME_DIR/podwire`, else
//! `podwire-UID` in the temporary directory), owner and mode (0700, ours), and the names in it: `LAB/lock`, held by flock(2)
//! from before the daemon starts until it is gone; `LAB/control.sock`; `LAB/root`, its files. A lab whose lock can be taken
//! is dead, whatever else lies there; process ids are never trusted.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Longest path that fits into a `sockaddr_un` with its final zero (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// The runtime directory can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// A file system call failed.
    #[error("runtime directory {}: {action}: {source}; PODWIRE_RUNTIME_DIR names another one", path.display())]
    Io {
        /// Which path.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else could change what is in it.
    #[error(
        "runtime directory {} belongs to user {owner} with mode {mode:04o}: it must be yours with mode 0700; \
         PODWIRE_RUNTIME_DIR names another one", path.display()
    )]
    NotOurs {
        /// Which path.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
}

fn io_error(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> RuntimeError {
    let path = path.to_owned();
    move |source| RuntimeError::Io {
        path,
        action,
        source,
    }
}

/// The directory that holds the labs of this user.
#[derive(Clone, Debug)]
pub struct RuntimeDir {
    path: PathBuf,
}

impl RuntimeDir {
    /// Finds the directory, makes it when it isn't there, and checks whose it is.
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub fn open() -> Result<Self, RuntimeError> {
        let uid = rustix::process::geteuid().as_raw();
        Self::open_at(&Self::place(
            |name| std::env::var_os(name).map(PathBuf::from),
            uid,
        ))
    }

    /// As [`RuntimeDir::open`] with a given place.
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub fn open_at(path: &Path) -> Result<Self, RuntimeError> {
        let mut builder = DirBuilder::new();
        builder.mode(0o700).recursive(true);
        builder.create(path).map_err(io_error(path, "create"))?;
        // Not through a symbolic link: in a shared temporary directory it could be anybody's.
        let meta = fs::symlink_metadata(path).map_err(io_error(path, "look at"))?;
        let uid = rustix::process::geteuid().as_raw();
        if !meta.is_dir() || meta.uid() != uid || meta.mode() & 0o022 != 0 {
            return Err(RuntimeError::NotOurs {
                path: path.to_owned(),
                owner: meta.uid(),
                mode: meta.mode() & 0o7777,
            });
        }
        let path = path.canonicalize().map_err(io_error(path, "resolve"))?;
        Ok(Self { path })
    }

    fn place(var: impl Fn(&str) -> Option<PathBuf>, uid: u32) -> PathBuf {
        let set = |name| var(name).filter(|path| !path.as_os_str().is_empty());
        if let Some(path) = set("PODWIRE_RUNTIME_DIR") {
            path
        } else if uid == 0 {
            "/run/podwire".into()
        } else if let Some(path) = set("XDG_RUNTIME_DIR") {
            path.join("podwire")
        } else {
            std::env::temp_dir().join(format!("podwire-{uid}"))
        }
    }

    /// Where it is, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of a lab, which need not exist. `name` is a DNS label.
    #[must_use]
    pub fn lab(&self, name: &str) -> LabDir {
        LabDir {
            path: self.path.join(name),
        }
    }

    /// Names of all labs that have a directory, alive or not, sorted.
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub fn names(&self) -> Result<Vec<String>, RuntimeError> {
        let entries = fs::read_dir(&self.path).map_err(io_error(&self.path, "list"))?;
        let mut names: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| is_label(name))
            .collect();
        names.sort();
        Ok(names)
    }
}

/// RFC 1123 label: what a lab may be called.
fn is_label(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// The directory of one lab.
#[derive(Clone, Debug)]
pub struct LabDir {
    path: PathBuf,
}

impl LabDir {
    /// The directory at `path`.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the daemon keeps the lab's files.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.path.join("root")
    }

    /// Connects to the daemon.
    ///
    /// # Errors
    /// `NotFound` or `ConnectionRefused` when none listens.
    pub fn connect(&self) -> io::Result<UnixStream> {
        self.with_socket_path(|path| UnixStream::connect(path))
    }

    /// Listens for clients; only the owner (and root) can connect. The lock must be held.
    ///
    /// # Errors
    /// What bind(2) says.
    pub fn listen(&self) -> io::Result<UnixListener> {
        self.with_socket_path(|path| {
            // Until the mode is set the directory's mode keeps others out.
            let listener = UnixListener::bind(path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
            Ok(listener)
        })
    }

    /// Calls `work` with a path of the socket that fits into a socket address.
    fn with_socket_path<T>(&self, work: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
        let path = self.path.join("control.sock");
        if path.as_os_str().len() <= MAX_SOCKET_PATH {
            return work(&path);
        }
        let dir = File::open(&self.path)?;
        work(&PathBuf::from(format!(
            "/proc/self/fd/{}/control.sock",
            dir.as_raw_fd()
        )))
    }

    /// Takes the lock; none when a daemon holds it. The directory is made when it isn't there.
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub fn try_lock(&self) -> Result<Option<LabLock>, RuntimeError> {
        let path = self.path.join("lock");
        loop {
            let mut builder = DirBuilder::new();
            match builder.mode(0o700).create(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(io_error(&self.path, "create")(error));
                }
                _ => {}
            }
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(0o600);
            let file = match options.open(&path) {
                // Somebody removed the directory between the two calls.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(io_error(&path, "open"))?,
            };
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(errno) => return Err(io_error(&path, "lock")(errno.into())),
            }
            // A `down` may have removed the file after it was opened: then this lock protects nothing.
            let ours = file.metadata().map_err(io_error(&path, "look at"))?;
            if fs::metadata(&path)
                .is_ok_and(|now| now.ino() == ours.ino() && now.dev() == ours.dev())
            {
                return Ok(Some(LabLock {
                    dir: self.clone(),
                    file: file.into(),
                }));
            }
        }
    }
}

/// The held lock of a lab. It is held until every duplicate of its descriptor is closed.
#[derive(Debug)]
pub struct LabLock {
    dir: LabDir,
    file: OwnedFd,
}

impl LabLock {
    /// The lock whose descriptor came from another process.
    #[must_use]
    pub fn received(dir: LabDir, file: OwnedFd) -> Self {
        Self { dir, file }
    }

    /// The descriptor that holds it.
    #[must_use]
    pub fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// The directory that it protects.
    #[must_use]
    pub fn dir(&self) -> &LabDir {
        &self.dir
    }

    /// Removes what a dead daemon left, except the lock itself. True when something was there.
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub fn clean(&self) -> Result<bool, RuntimeError> {
        let mut found = false;
        let entries = match fs::read_dir(self.dir.path()) {
            // A daemon that ends at the same time has removed everything.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(io_error(self.dir.path(), "list"))?,
        };
        for entry in entries.flatten() {
            if entry.file_name() == "lock" {
                continue;
            }
            found = true;
            let path = entry.path();
            let removed = if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            match removed {
                // A daemon that ends at the same time was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other.map_err(io_error(&path, "remove"))?,
            }
        }
        Ok(found)
    }

    /// Removes the directory, the lock last.
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub fn remove(self) -> Result<(), RuntimeError> {
        self.clean()?;
        let lock = self.dir.path().join("lock");
        match fs::remove_file(&lock) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(io_error(&lock, "remove"))?,
        }
        match fs::remove_dir(self.dir.path()) {
            // Another program has made it its own again in the meantime.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound
                ) =>
            {
                Ok(())
            }
            other => other.map_err(io_error(self.dir.path(), "remove")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> Scratch {
        Scratch::new()
    }

    /// A directory of its own for one test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            use std::sync::atomic::{AtomicU32, Ordering};
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!(
                "podwire-runtime-test-{}-{number}",
                std::process::id()
            ));
            let mut builder = DirBuilder::new();
            builder.mode(0o700).create(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Decision 3: the order in which places are tried.
    #[test]
    fn the_place_follows_variables_then_user() {
        let none = |_: &str| None;
        let xdg = |name: &str| (name == "XDG_RUNTIME_DIR").then(|| PathBuf::from("/run/user/7"));
        let all = |name: &str| Some(PathBuf::from("/x").join(name));
        let empty = |_: &str| Some(PathBuf::new());
        assert_eq!(RuntimeDir::place(none, 0), Path::new("/run/podwire"));
        assert_eq!(RuntimeDir::place(xdg, 0), Path::new("/run/podwire"));
        assert_eq!(RuntimeDir::place(xdg, 7), Path::new("/run/user/7/podwire"));
        assert_eq!(
            RuntimeDir::place(all, 0),
            Path::new("/x/PODWIRE_RUNTIME_DIR")
        );
        assert_eq!(
            RuntimeDir::place(empty, 7),
            std::env::temp_dir().join("podwire-7")
        );
    }

    /// A directory that others may write to is refused.
    #[test]
    fn a_directory_of_everybody_is_refused() {
        let scratch = scratch();
        let dir = scratch.0.join("shared");
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(
            RuntimeDir::open_at(&dir),
            Err(RuntimeError::NotOurs { mode: 0o777, .. })
        ));
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        let link = scratch.0.join("link");
        std::os::unix::fs::symlink(&dir, &link).unwrap();
        assert!(matches!(
            RuntimeDir::open_at(&link),
            Err(RuntimeError::NotOurs { .. })
        ));
        RuntimeDir::open_at(&dir).unwrap();
    }

    /// The lock tells a running lab from a dead one, and goes away with the directory.
    #[test]
    fn only_one_holds_a_lab() {
        let scratch = scratch();
        let dir = RuntimeDir::open_at(&scratch.0).unwrap().lab("a");
        let lock = dir.try_lock().unwrap().unwrap();
        assert!(dir.try_lock().unwrap().is_none());
        fs::write(dir.path().join("control.sock"), "").unwrap();
        fs::create_dir_all(dir.root().join("nodes/n")).unwrap();
        assert!(lock.clean().unwrap());
        assert!(!lock.clean().unwrap());
        let duplicate = lock.file().try_clone().unwrap();
        drop(lock);
        assert!(
            dir.try_lock().unwrap().is_none(),
            "a duplicate still holds it"
        );
        drop(duplicate);
        dir.try_lock().unwrap().unwrap().remove().unwrap();
        assert!(!dir.path().exists());
    }

    /// A path longer than a socket address still works.
    #[test]
    fn a_long_path_can_be_listened_on() {
        let scratch = scratch();
        let deep = scratch.0.join("d".repeat(120));
        let dir = RuntimeDir::open_at(&deep).unwrap().lab("a");
        let _lock = dir.try_lock().unwrap().unwrap();
        let listener = dir.listen().unwrap();
        let mode = fs::metadata(dir.path().join("control.sock"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        dir.connect().unwrap();
        listener.accept().unwrap();
    }

    /// Only names that a lab can have are listed.
    #[test]
    fn foreign_entries_are_no_labs() {
        let scratch = scratch();
        let runtime = RuntimeDir::open_at(&scratch.0).unwrap();
        for name in ["b", "a-1", ".hidden", "Upper", "-x"] {
            fs::create_dir(scratch.0.join(name)).unwrap();
        }
        fs::write(scratch.0.join("file"), "").unwrap();
        assert_eq!(runtime.names().unwrap(), ["a-1", "b"]);
    }
}

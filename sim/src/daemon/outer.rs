//! How the host numbers the processes of a lab that lives in a PID namespace of its own.
//!
//! Decides nothing; keeps a descriptor of the host's `/proc`, opened before the lab's own was mounted over it. Translation
//! is for `get -o json` only (decision 4: a pid may be null), so it costs nothing until somebody asks: one small file
//! for each child of the daemon then.

use std::collections::HashMap;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use rustix::fs::{Dir, Mode, OFlags, open, openat};

/// The view from outside.
#[derive(Debug)]
pub struct Outer {
    pid: u32,
    proc: Option<OwnedFd>,
}

impl Outer {
    /// Looks at the present `/proc`. `nested` says that the caller's PID namespace is not the one that it shows.
    #[must_use]
    pub fn look(nested: bool) -> Self {
        let shown = std::fs::read_link("/proc/self")
            .ok()
            .and_then(|link| link.to_str()?.parse().ok());
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        Self {
            pid: shown.unwrap_or_else(std::process::id),
            proc: nested
                .then(|| open("/proc", flags, Mode::empty()).ok())
                .flatten(),
        }
    }

    /// The daemon's process id outside.
    #[must_use]
    pub fn daemon(&self) -> u32 {
        self.pid
    }

    /// A path outside that leads to a descriptor of the daemon: setns(2) and nsenter(1) take it.
    #[must_use]
    pub fn path_of(&self, fd: impl AsFd) -> String {
        format!("/proc/{}/fd/{}", self.pid, fd.as_fd().as_raw_fd())
    }

    /// The outer ids of the daemon's children, by their inner ids. Ids that can't be found out are missing.
    #[must_use]
    pub fn children(&self) -> Children {
        let Some(proc) = &self.proc else {
            return Children { map: None };
        };
        let mut map = HashMap::new();
        for outer in self.outer_children(proc) {
            let status = read(proc, &format!("{outer}/status"));
            let inner = status
                .lines()
                .find_map(|line| line.strip_prefix("NSpid:"))
                .and_then(|ids| ids.split_whitespace().last()?.parse().ok());
            if let Some(inner) = inner {
                map.insert(inner, outer);
            }
        }
        Children { map: Some(map) }
    }

    /// Each thread has a list of the children that it started.
    fn outer_children(&self, proc: &OwnedFd) -> Vec<u32> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let Ok(tasks) = openat(proc, format!("{}/task", self.pid), flags, Mode::empty()) else {
            return Vec::new();
        };
        let Ok(dir) = Dir::read_from(&tasks) else {
            return Vec::new();
        };
        dir.flatten()
            .filter_map(|entry| entry.file_name().to_str().ok()?.parse::<u32>().ok())
            .flat_map(|task| {
                read(&tasks, &format!("{task}/children"))
                    .split_whitespace()
                    .filter_map(|pid| pid.parse().ok())
                    .collect::<Vec<u32>>()
            })
            .collect()
    }
}

/// A translation made by [`Outer::children`].
#[derive(Debug)]
pub struct Children {
    map: Option<HashMap<u32, u32>>,
}

impl Children {
    /// The outer id of the child that the daemon knows as `inner`.
    #[must_use]
    pub fn outer(&self, inner: u32) -> Option<u32> {
        self.map
            .as_ref()
            .map_or(Some(inner), |map| map.get(&inner).copied())
    }
}

/// A small file below a directory; empty when it can't be read (the process may just have ended).
fn read(dir: &OwnedFd, path: &str) -> String {
    let mut text = String::new();
    if let Ok(fd) = openat(dir, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        let _ = std::fs::File::from(fd).read_to_string(&mut text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the lab has no PID namespace of its own, ids are the same on both sides.
    #[test]
    fn without_a_namespace_ids_are_the_same() {
        let outer = Outer::look(false);
        assert_eq!(outer.daemon(), std::process::id());
        assert_eq!(outer.children().outer(77), Some(77));
    }

    /// Children are found by way of `/proc/PID/task`.
    #[test]
    fn children_are_found() {
        let outer = Outer::look(true);
        let mut child = std::process::Command::new("/bin/sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let found = outer.children().outer(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        // The test's own namespace is the outer one, so that the last NSpid is the id itself.
        if std::path::Path::new("/proc/self/task")
            .join(std::process::id().to_string())
            .join("children")
            .exists()
        {
            assert_eq!(found, Some(child.id()));
        }
    }
}

//! What of the host a lab could leave something in: processes, namespaces, files.

use super::*;

/// What of the host a lab could leave something in.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) ifaces: BTreeSet<String>,
    pub(super) mounts: BTreeSet<String>,
    pub(super) sockets: BTreeSet<String>,
}

impl Host {
    pub(super) fn look() -> Self {
        let lines = |path: &str| -> BTreeSet<String> {
            fs::read_to_string(path)
                .unwrap_or_default()
                .lines()
                .map(str::to_owned)
                .collect()
        };
        Self {
            ifaces: lines("/proc/self/net/dev")
                .iter()
                .filter_map(|l| Some(l.split_once(':')?.0.trim().to_owned()))
                .collect(),
            mounts: lines("/proc/self/mountinfo"),
            // The last column is the path, behind numbers that change.
            sockets: lines("/proc/self/net/unix")
                .iter()
                .filter_map(|l| l.split_whitespace().nth(7).map(str::to_owned))
                .collect(),
        }
    }
}

fn all_processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .expect("/proc is there")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Processes whose command line or environment names `token`, except this one's own clients that it waits for.
pub(super) fn processes_of(token: &str) -> Vec<u32> {
    let own = std::process::id();
    let names = |path: String| {
        fs::read(path).is_ok_and(|bytes| bytes.windows(token.len()).any(|w| w == token.as_bytes()))
    };
    all_processes()
        .filter(|&pid| pid != own)
        .filter(|pid| {
            names(format!("/proc/{pid}/cmdline")) || names(format!("/proc/{pid}/environ"))
        })
        .collect()
}

pub(crate) fn command_line(pid: u32) -> String {
    fs::read(format!("/proc/{pid}/cmdline"))
        .map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "))
        .unwrap_or_default()
}

pub(crate) fn parent_of(pid: u32) -> Option<u32> {
    fs::read_to_string(format!("/proc/{pid}/status"))
        .ok()?
        .lines()
        .find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

/// Inode numbers of the network namespaces that these processes are in or hold open, the host's own left out.
pub(crate) fn namespaces_of(pids: &[u32]) -> HashSet<u64> {
    let own = fs::metadata("/proc/self/ns/net")
        .map(|m| m.ino())
        .unwrap_or_default();
    let mut found = HashSet::new();
    for pid in pids {
        found.extend(namespace_links(*pid));
    }
    found.remove(&own);
    found
}

fn namespace_links(pid: u32) -> Vec<u64> {
    let mut found = Vec::new();
    let inode = |link: PathBuf| -> Option<u64> {
        link.to_str()?
            .strip_prefix("net:[")?
            .strip_suffix(']')?
            .parse()
            .ok()
    };
    found.extend(
        fs::read_link(format!("/proc/{pid}/ns/net"))
            .ok()
            .and_then(inode),
    );
    if let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) {
        for fd in fds.flatten() {
            found.extend(fs::read_link(fd.path()).ok().and_then(inode));
        }
    }
    found
}

/// Processes that are in, or hold open, one of these network namespaces.
pub(super) fn holders_of(namespaces: &HashSet<u64>) -> Vec<(u32, u64)> {
    if namespaces.is_empty() {
        return Vec::new();
    }
    all_processes()
        .flat_map(|pid| namespace_links(pid).into_iter().map(move |ns| (pid, ns)))
        .filter(|(_, ns)| namespaces.contains(ns))
        .collect()
}

pub(super) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        found.push(entry.path());
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            found.extend(files_below(&entry.path()));
        }
    }
    found
}

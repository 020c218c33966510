//! What a sandbox's programs find in their file systems: `/sys`, `/etc` and `/run`.
//!
//! Works on the mount namespace of the calling thread.

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use tap_bridge::sys::mount;

use super::{NodeFiles, Plan, SandboxError};

/// Bytes that a node's own `/run` may hold.
const RUN_BYTES: u64 = 64 << 20;

/// Writes and mounts the files of the sandbox that the calling thread is in.
pub(super) fn establish(plan: &Plan) -> Result<(), SandboxError> {
    let context = |what| {
        move |source| SandboxError::Files {
            name: plan.name.clone(),
            what,
            source,
        }
    };
    fs::create_dir_all(&plan.files).map_err(context("make its directory"))?;
    let hostname = plan.files.join("hostname");
    fs::write(&hostname, format!("{}\n", plan.hostname))
        .map_err(context("write its hostname file"))?;
    if let Err(error) = mount::fresh_sysfs() {
        // Where parts of the present /sys are covered the kernel refuses; programs then see the host's interfaces there.
        tracing::debug!("{}: /sys stays the host's: {error}", plan.name);
    }
    if let Some(node) = &plan.node {
        node_etc(plan, node).map_err(context("give it an /etc of its own"))?;
        node_run(node).map_err(context("give it a /run of its own"))?;
    }
    if let Some(text) = &plan.resolv {
        let resolv = plan.files.join("resolv.conf");
        fs::write(&resolv, text).map_err(context("write its resolv.conf"))?;
        over_file(&resolv, Path::new("/etc/resolv.conf"))
            .map_err(context("mount its resolv.conf"))?;
    }
    over_file(&hostname, Path::new("/etc/hostname")).map_err(context("mount its hostname file"))
}

/// Mounts a file over another, if that exists.
pub fn over_file(file: &Path, target: &Path) -> io::Result<()> {
    match mount::bind(file, target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A node's `/etc`: the host's, with the CNI directory and files of its own.
fn node_etc(plan: &Plan, node: &NodeFiles) -> io::Result<()> {
    let etc = Path::new("/etc");
    let upper = plan.files.join("etc");
    let work = plan.files.join("etc-work");
    fs::create_dir_all(&upper)?;
    fs::create_dir_all(&work)?;
    // Plain files in place of links that may lead into the hidden /run.
    for name in ["hosts", "hostname", "resolv.conf"] {
        fs::write(upper.join(name), "")?;
    }
    let cni_below_etc = node.cni_at.strip_prefix(etc).ok();
    if let Some(below) = cni_below_etc {
        fs::create_dir_all(upper.join(below))?;
    }
    if mount::overlay(etc, &upper, &work, etc).is_err() {
        link_etc(plan, etc, &upper)?;
    }
    mount::bind(&node.hosts, &etc.join("hosts"))?;
    mount::bind(&node.resolv, &etc.join("resolv.conf"))?;
    if cni_below_etc.is_some() {
        mount::bind(&node.cni, &node.cni_at)?;
    }
    Ok(())
}

/// Where there is no overlay file system: our directory over `/etc`, with a link for every entry that it doesn't have.
fn link_etc(plan: &Plan, etc: &Path, upper: &Path) -> io::Result<()> {
    let original = plan.files.join("etc-host");
    fs::create_dir_all(&original)?;
    for entry in fs::read_dir(etc)?.flatten() {
        let name = entry.file_name();
        match std::os::unix::fs::symlink(original.join(&name), upper.join(&name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    mount::bind(etc, &original)?;
    mount::bind(upper, etc)
}

/// A node's `/run`: empty but for the IPAM state.
fn node_run(node: &NodeFiles) -> io::Result<()> {
    // The runtime directory may itself lie below /run: hold what is needed before it is covered.
    let cni = fs::File::open(&node.cni)?;
    let ipam = fs::File::open(&node.ipam)?;
    let run = Path::new("/run");
    mount::tmpfs(run, RUN_BYTES)?;
    let held =
        |file: &fs::File| PathBuf::from(format!("/proc/thread-self/fd/{}", file.as_raw_fd()));
    let state = run.join("cni-ipam-state");
    fs::create_dir(&state)?;
    mount::bind(&held(&ipam), &state)?;
    if node.cni_at.starts_with(run) {
        fs::create_dir_all(&node.cni_at)?;
        mount::bind(&held(&cni), &node.cni_at)?;
    }
    Ok(())
}

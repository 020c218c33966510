//! A user namespace for somebody without root: the caller's one id becomes 0 in it.
//!
//! Decides the id maps (one id each, which the kernel lets everybody write) and nothing else. Everything that the lab then
//! makes belongs to this namespace, so that no host permission is needed and nothing on the host can be touched.
//! Source: user_namespaces(7). Cost: three small writes.

use std::fs;
use std::io;

use super::netns::{Namespace, isolate};

/// Gives the calling process a user namespace of its own in which its user and group are 0.
///
/// # Errors
/// `PermissionDenied` where user namespaces are switched off (AppArmor, seccomp, sysctl), `ENOSPC` at the limit of
/// `user.max_user_namespaces`, `EINVAL` when the process has several threads. After an error of a later step the process
/// is inside a namespace without ids and should end.
pub fn become_root() -> io::Result<()> {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    isolate(&[Namespace::User])?;
    // Without it the kernel does not let an ordinary user write gid_map (a group could stand for *less* access).
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1\n"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1\n"))
}

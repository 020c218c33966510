//! Mounts inside a mount namespace of our own.
//!
//! Decides flags and options; the callers decide what is mounted where. Nothing here may be called in the host's mount
//! namespace: [`isolate`](super::netns::isolate) and [`make_private`] come first, then nothing leaks out.
//! Source: mount(2), mount_namespaces(7), overlayfs (kernel documentation). Cost: 10 to 50 us each.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, fsconfig_create,
    fsmount, fsopen, mount, mount_bind, mount_change,
};

/// Cuts every mount of this namespace off from other namespaces, in both directions.
///
/// # Errors
/// What mount(2) says.
pub fn make_private() -> io::Result<()> {
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    Ok(())
}

/// Mounts a `/proc` that shows the caller's PID namespace.
///
/// # Errors
/// `PermissionDenied` where parts of the present `/proc` are covered (as in most containers).
pub fn fresh_proc() -> io::Result<()> {
    mount(c"proc", c"/proc", c"proc", quiet_flags(), None::<&CStr>)?;
    Ok(())
}

/// Mounts a `/sys` that shows the caller's network namespace.
///
/// # Errors
/// As [`fresh_proc`].
pub fn fresh_sysfs() -> io::Result<()> {
    mount(c"sysfs", c"/sys", c"sysfs", quiet_flags(), None::<&CStr>)?;
    Ok(())
}

/// A `/proc` of the caller's PID namespace that is mounted nowhere: reached by its descriptor alone, gone with it.
///
/// # Errors
/// As [`fresh_proc`]; `Unsupported` before Linux 5.2.
pub fn detached_proc() -> io::Result<OwnedFd> {
    let context = fsopen(c"proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        attributes,
    )?)
}

fn quiet_flags() -> MountFlags {
    MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC
}

/// Mounts an empty tmpfs of at most `bytes`.
///
/// # Errors
/// What mount(2) says.
pub fn tmpfs(target: &Path, bytes: u64) -> io::Result<()> {
    let options = CString::new(format!("mode=0755,size={bytes}"))?;
    mount(
        c"podwire",
        target,
        c"tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        Some(options.as_c_str()),
    )?;
    Ok(())
}

/// Makes `target` show `source` (both files or both directories).
///
/// # Errors
/// What mount(2) says; `NotFound` when either is missing.
pub fn bind(source: &Path, target: &Path) -> io::Result<()> {
    mount_bind(source, target)?;
    Ok(())
}

/// Mounts an overlay: `target` shows `lower` with the changes in `upper`. `work` is an empty directory beside `upper`.
///
/// # Errors
/// `ENODEV` or `EPERM` where the kernel has no overlay file system or keeps it from user namespaces; `InvalidInput` for a
/// path that overlay options can't carry.
pub fn overlay(lower: &Path, upper: &Path, work: &Path, target: &Path) -> io::Result<()> {
    let mut options = Vec::new();
    for (key, path) in [("lowerdir", lower), ("upperdir", upper), ("workdir", work)] {
        let bytes = path.as_os_str().as_bytes();
        if bytes.iter().any(|b| matches!(b, b',' | b':' | b'\\')) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        if !options.is_empty() {
            options.push(b',');
        }
        options.extend_from_slice(key.as_bytes());
        options.push(b'=');
        options.extend_from_slice(bytes);
    }
    let options = CString::new(options)?;
    mount(
        c"podwire",
        target,
        c"overlay",
        MountFlags::NOSUID | MountFlags::NODEV,
        Some(options.as_c_str()),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Separators of mount options in a path are refused instead of being read as options.
    #[test]
    fn overlay_paths_with_separators_are_refused() {
        let dir = Path::new("/tmp");
        let error = overlay(Path::new("/a,b"), dir, dir, dir).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}

//! Which child has ended, without collecting it.
//!
//! Decides nothing. An init process inherits orphans that it must collect, while its own children are collected by whoever
//! started them; to tell the two apart the process id must be known before the status is taken. Source: waitid(2).

use std::io;
use std::mem::MaybeUninit;

/// Waits until some child has ended, leaves it uncollected, and returns its process id.
///
/// # Errors
/// `ECHILD` when there are no children; `Interrupted`.
pub fn wait_for_any() -> io::Result<u32> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `info` is a live, exclusively borrowed `siginfo_t` into which the kernel writes.
    let status = unsafe {
        libc::waitid(
            libc::P_ALL,
            0,
            info.as_mut_ptr(),
            libc::WEXITED | libc::WNOWAIT,
        )
    };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all bytes are initialised (zeroed above), and `siginfo_t` has no invalid bit patterns.
    let info = unsafe { info.assume_init() };
    // SAFETY: waitid filled in the members of SIGCHLD, of which `si_pid` is one.
    let pid = unsafe { info.si_pid() };
    u32::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ended child is still there to be collected.
    #[test]
    fn looking_does_not_collect() {
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        // Other tests of this process have children too; ours is reported until somebody collects it.
        wait_for_any().unwrap();
        assert!(child.wait().unwrap().success());
    }
}

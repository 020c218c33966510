//! Switches of a new network namespace.
//!
//! Decides by which `/proc` they are written. The kernel keeps what was looked up there once: below one `/proc`, each network
//! namespace leaves an entry of the same name in the same chain, so that the ten-thousandth pod's look-up goes by those of ten
//! thousand others (`proc_sys_compare`; a quarter of the time that 300 nodes with 3,000 pods took). A maker has a `/proc` of its
//! own, and a new one after some sandboxes. Where the kernel refuses that, the one that everybody has.
//!
//! Cost: 20 us per write; a `/proc` about as much.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use tap_bridge::sys::mount;

/// So many sandboxes have one `/proc`.
const SHARE: usize = 32;

/// A maker's way to the switches of the namespace that it is in.
#[derive(Debug, Default)]
pub(super) struct Sysctls {
    proc: Option<OwnedFd>,
    /// Sandboxes that `proc` has been for.
    used: usize,
    refused: bool,
}

impl Sysctls {
    /// Another sandbox begins.
    pub(super) fn begin(&mut self) {
        self.used += 1;
        if self.used < SHARE && self.proc.is_some() || self.refused {
            return;
        }
        self.used = 0;
        self.proc = mount::detached_proc()
            .inspect_err(|error| tracing::debug!("no /proc of a maker's own: {error}"))
            .ok();
        self.refused = self.proc.is_none();
    }

    /// Sets a switch of the calling thread's network namespace, named as below `/proc/sys`.
    ///
    /// # Errors
    /// What open(2) and write(2) say: it is read-only, or the kernel has none of that name.
    pub(super) fn set(&self, name: &str, value: &str) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let opened = match &self.proc {
            Some(proc) => openat(proc.as_fd(), format!("sys/{name}"), flags, Mode::empty()),
            None => rustix::fs::open(format!("/proc/sys/{name}"), flags, Mode::empty()),
        };
        File::from(opened?).write_all(value.as_bytes())
    }
}

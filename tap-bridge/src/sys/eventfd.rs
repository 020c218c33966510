//! The doorbell: an eventfd that wakes a sleeping receiver.
//!
//! Decides nothing about when to ring (that is the ring's protocol). Source: eventfd(2). Cost: one system call a ring.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

/// One end of a doorbell. All ends are alike: who holds the descriptor can ring, wait and silence it.
#[derive(Debug)]
pub struct Doorbell {
    fd: OwnedFd,
}

impl Doorbell {
    /// A new, silent doorbell; close-on-exec and nonblocking.
    ///
    /// # Errors
    /// When the process or the system is out of descriptors or memory.
    pub fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { fd })
    }

    /// An end that came over a socket. Must be an eventfd; any other descriptor makes [`Doorbell::ring`] fail or do
    /// something useless, but nothing unsafe.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Wakes whoever polls the doorbell. A bell that already rings keeps ringing, so a full counter is no error.
    ///
    /// # Errors
    /// When the descriptor is no eventfd.
    pub fn ring(&self) -> io::Result<()> {
        match rustix::io::retry_on_intr(|| rustix::io::write(&self.fd, &1_u64.to_ne_bytes())) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Silences the doorbell. Returns whether it rang.
    pub fn silence(&self) -> bool {
        let mut count = [0; 8];
        rustix::io::retry_on_intr(|| rustix::io::read(&self.fd, &mut count)).is_ok()
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rung_bell_rings_until_it_is_silenced() {
        let bell = Doorbell::new().unwrap();
        assert!(!bell.silence());
        bell.ring().unwrap();
        bell.ring().unwrap();
        assert!(bell.silence());
        assert!(!bell.silence());
    }
}

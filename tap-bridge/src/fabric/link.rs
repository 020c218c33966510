//! One end of a link in this process: the ring over mapped memory, and the peer's doorbell.
//!
//! Decides nothing; puts [`ring`](super::ring) on [`shm`]. Source of the parts: the hub's `Link` message.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use super::ring::{End, MAGIC, MAGIC_CELL, REGION_CELLS};
use crate::sys::eventfd::Doorbell;
use crate::sys::shm::{self, ReadMapping, WriteMapping};

/// The two descriptors of one region.
#[derive(Debug)]
pub(super) struct RegionFds {
    /// For the owner.
    pub(super) write: OwnedFd,
    /// For the peer.
    pub(super) read: OwnedFd,
}

impl RegionFds {
    /// Makes a region with an empty ring.
    ///
    /// # Errors
    /// Out of descriptors or memory, or no /proc.
    pub(super) fn new() -> io::Result<Self> {
        let write = shm::create("podwire-link", REGION_CELLS)?;
        shm::set(write.as_fd(), MAGIC_CELL, MAGIC)?;
        let read = shm::read_only(write.as_fd())?;
        Ok(Self { write, read })
    }
}

/// One end.
#[derive(Debug)]
pub(super) struct Link {
    /// As the hub numbers it.
    pub(super) number: u64,
    pub(super) end: End<WriteMapping, ReadMapping>,
    bell: Doorbell,
}

impl Link {
    /// Maps both regions; their descriptors are closed.
    ///
    /// # Errors
    /// When a region can't be mapped or is not laid out as this version wants it.
    pub(super) fn new(number: u64, own: OwnedFd, peer: OwnedFd, bell: OwnedFd) -> io::Result<Self> {
        let own = WriteMapping::new(own, REGION_CELLS)?;
        let peer = ReadMapping::new(peer, REGION_CELLS)?;
        let end = End::new(own, peer).map_err(io::Error::other)?;
        Ok(Self {
            number,
            end,
            bell: Doorbell::from_fd(bell),
        })
    }

    /// Wakes the peer if it sleeps on what was sent.
    pub(super) fn flush(&mut self) {
        if self.end.flush() {
            // It fails only for a descriptor that is no eventfd: a peer that handed out such a bell sleeps on.
            let _ = self.bell.ring();
        }
    }
}

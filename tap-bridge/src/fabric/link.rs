//! One end of a link in this process: the ring over mapped memory, the tails on both sides, and the peer's doorbell.
//!
//! Decides nothing; puts [`ring`](super::ring) on [`shm`]. Source of the parts: the hub's `Link` message.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use router_core::Frame;
use router_core::frame::Tail;

use super::lend::{Borrowed, Lent, Retired};
use super::ring::{Corrupt, End, MAGIC, MAGIC_CELL, Meta, Own, PushError, REGION_CELLS, TailRef};
use crate::sys::eventfd::Doorbell;
use crate::sys::shm::{self, ReadMapping, WriteMapping};
use crate::tails::TAILS_CELLS;

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
    pub(super) end: End<Arc<Own>, ReadMapping>,
    /// Own tails that the peer has.
    pub(super) lent: Lent,
    /// The peer's tails.
    borrowed: Arc<Borrowed>,
    bell: Doorbell,
}

/// The descriptors of a link, as they come with the hub's message.
#[derive(Debug)]
pub(super) struct LinkFds {
    /// Region to write.
    pub(super) own: OwnedFd,
    /// Region to read.
    pub(super) peer: OwnedFd,
    /// Doorbell of the peer.
    pub(super) bell: OwnedFd,
    /// Tails of the peer, to read.
    pub(super) tails: OwnedFd,
}

impl Link {
    /// Maps both regions and the peer's tails; their descriptors are closed.
    ///
    /// # Errors
    /// When one of them can't be mapped or is not laid out as this version wants it.
    pub(super) fn new(number: u64, fds: LinkFds) -> io::Result<Self> {
        let own = Own::new(WriteMapping::new(fds.own, REGION_CELLS)?);
        let peer = ReadMapping::new(fds.peer, REGION_CELLS)?;
        let tails = ReadMapping::new(fds.tails, TAILS_CELLS)?;
        let borrowed = Borrowed::new(tails, Arc::clone(&own));
        let end = End::new(own, peer).map_err(io::Error::other)?;
        Ok(Self {
            number,
            end,
            lent: Lent::default(),
            borrowed,
            bell: Doorbell::from_fd(fds.bell),
        })
    }

    /// Puts a frame into the ring, and `tail`, which lies in this member's own memory, behind it.
    pub(super) fn push(&mut self, frame: &Frame, tail: Option<Tail>) -> Result<(), PushError> {
        let meta = Meta {
            mark: frame.mark(),
            offload: frame.offload(),
            tail: tail.as_ref().map(|tail| TailRef {
                index: tail.index(),
                len: tail.len().try_into().unwrap_or(u32::MAX),
            }),
        };
        self.end.push(frame.bytes(), meta)?;
        if let Some(tail) = tail {
            self.lent.lend(tail);
        }
        Ok(())
    }

    /// Takes a frame from the ring into an empty one. False when there is none.
    pub(super) fn pop(&mut self, frame: &mut Frame) -> Result<bool, Corrupt> {
        let Some((len, meta)) = self.end.pop(frame.room_mut())? else {
            return Ok(false);
        };
        frame.set_len(len);
        frame.set_mark(meta.mark);
        if meta.offload.partial.is_some() {
            frame.set_offload(meta.offload);
        }
        if let Some(tail) = meta.tail {
            frame.set_tail(self.borrowed.tail(tail)?);
        }
        Ok(true)
    }

    /// Frees own tails that the peer has returned.
    pub(super) fn take_back(&mut self) {
        if self.lent.held() > 0 {
            self.lent.take_back(self.end.peer());
        }
    }

    /// Gives the link up. None when the peer has nothing of this member's.
    pub(super) fn retire(mut self) -> Option<Retired> {
        self.take_back();
        let held = self.lent.held() > 0;
        held.then(|| Retired::new(self.end.into_peer(), self.lent))
    }

    /// Wakes the peer if it sleeps on what was sent.
    pub(super) fn flush(&mut self) {
        if self.end.flush() {
            // It fails only for a descriptor that is no eventfd: a peer that handed out such a bell sleeps on.
            let _ = self.bell.ring();
        }
    }
}

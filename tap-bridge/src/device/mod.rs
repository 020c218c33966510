//! Devices of the kernel that give and take one frame per system call: what a TAP interface and a packet socket have in
//! common.
//!
//! [`DevicePort`] is the port on any of them; it decides where the bytes of a frame go (`superframes`), what the virtio-net
//! header in front of it means ([`vnet`]), and what is counted. A [`Device`] decides which system calls move a frame, and
//! which error of theirs means that the device is gone for good and which that one frame was lost.

mod port;
pub(crate) mod superframes;
mod vlan;
pub mod vnet;

use std::fmt::Debug;
use std::io::IoSlice;
use std::os::fd::AsFd;

use rustix::io::Errno;

use crate::sys::shm::{Stretch, StretchMut};
use crate::sys::vectored;

pub use port::DevicePort;

/// What came with one read: bytes in all places that were given, and what did not come among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Got {
    /// Bytes, the device's header included.
    pub len: usize,
    /// The 802.1Q or 802.1ad tag of the frame (protocol, then control information), where the kernel took it out: it stood
    /// behind the addresses.
    pub tag: Option<[u8; 4]>,
}

/// What an error of a read means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// There is no frame.
    Nothing,
    /// Something else was reported; there may be frames.
    Again,
    /// There was a frame that can't be told to us, and it is gone.
    Malformed,
    /// There never will be a frame again.
    Gone,
}

/// A descriptor from which frames are read and to which they are written. Nonblocking.
pub trait Device: Debug + AsFd {
    /// Reads one frame into `header`, then `head`, then `tail`, then `beyond`.
    ///
    /// # Errors
    /// To be judged by [`Device::read_error`].
    fn read(
        &self,
        header: &mut [u8],
        head: &mut [u8],
        tail: Option<StretchMut<'_>>,
        beyond: &mut [u8],
    ) -> Result<Got, Errno>;

    /// What an error of [`Device::read`] means. `vnet`: the device has a virtio-net header.
    fn read_error(&self, errno: Errno, vnet: bool) -> ReadError;

    /// Writes one frame from `header`, then `head`, then `tail`.
    ///
    /// # Errors
    /// A frame lost; [`Device::is_gone`] says whether all to come are.
    fn write(&self, header: &[u8], head: &[u8], tail: Option<Stretch<'_>>) -> Result<usize, Errno> {
        vectored::write(self.as_fd(), header, head, tail)
    }

    /// Writes one frame from more places.
    ///
    /// # Errors
    /// As [`Device::write`].
    fn write_parts(&self, parts: &[IoSlice<'_>]) -> Result<usize, Errno> {
        rustix::io::retry_on_intr(|| rustix::io::writev(self, parts))
    }

    /// After this error of [`Device::write`] no write will ever do.
    fn is_gone(&self, errno: Errno) -> bool;

    /// Frames that the kernel had no room for since this was asked last.
    fn take_missed(&self) -> u64 {
        0
    }
}

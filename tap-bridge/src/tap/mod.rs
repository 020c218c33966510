//! TAP devices: one frame per system call, of a superframe the whole.
//!
//! Decides what an interface may be called, which way of making it is taken, and which error of a device means "down"
//! (a counted drop: the pod's side will come up again) and which "gone" (the port is of no use any more). Doesn't decide
//! the interface's addresses, MTU or flags: these belong to whoever holds its network namespace.
//!
//! Two kinds of device. With offloads ([`TapConfig::offload`]) every frame has a virtio-net header
//! ([`vnet`]) in front: the
//! pod's kernel leaves checksums and segmentation to whoever needs them. What a device was asked for is a property of its
//! descriptor, so that it survives being handed to another process ([`has_offloads`]). The plain device comes from the
//! `tun-tap` crate; a fixed interface index or a device node in another place are not in its reach and go through
//! [`crate::sys::tun`].
//!
//! Source: Linux `Documentation/networking/tuntap.rst`, `drivers/net/tun.c`. Cost: one read or write per frame.

mod queues;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::device::{Device, DevicePort, Got, ReadError, vnet};
use crate::sys::shm::StretchMut;
use crate::sys::{tun, vectored};

pub use queues::create_queues;

/// The router's side of a TAP interface. What the pod sends is read, what is written the pod receives.
pub type TapPort = DevicePort<Tap>;

/// The descriptor of a TAP interface, as [`create`] makes it.
#[derive(Debug)]
pub struct Tap(OwnedFd);

impl TapPort {
    /// A port on the plain interface that `fd` is attached to; with [`DevicePort::with_offload`] on one that has a virtio-net
    /// header, as [`has_offloads`] tells. `fd` must be nonblocking; `name` is for messages, `mtu` what
    /// [`Port::caps`](crate::Port::caps) tells.
    #[must_use]
    pub fn new(fd: OwnedFd, name: &str, mtu: u16) -> Self {
        Self::on(Tap(fd), name, mtu)
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Device for Tap {
    fn read(
        &self,
        header: &mut [u8],
        head: &mut [u8],
        tail: Option<StretchMut<'_>>,
        beyond: &mut [u8],
    ) -> Result<Got, Errno> {
        let len = vectored::read(self.as_fd(), header, head, tail, beyond)?;
        Ok(Got { len, tag: None })
    }

    fn read_error(&self, errno: Errno, vnet: bool) -> ReadError {
        match errno {
            Errno::AGAIN => ReadError::Nothing,
            // The kernel had a frame that its own header has no word for, and has dropped it (virtio_net_hdr_from_skb).
            Errno::INVAL if vnet => ReadError::Malformed,
            // An interface that is merely down has nothing to read and says EAGAIN, so every other error means that it was
            // deleted: EBADFD when it is detached, EIO and EFAULT (shut-down queue) while it is on its way out.
            _ => ReadError::Gone,
        }
    }

    /// No interface behind the descriptor (tun_chr_write_iter). EIO: the interface is down (tun_get_user). EAGAIN, ENOBUFS,
    /// ENOMEM: full. EINVAL: shorter than an Ethernet header.
    fn is_gone(&self, errno: Errno) -> bool {
        matches!(errno, Errno::BADFD | Errno::BADF)
    }
}

/// Where the driver's device node is unless [`TapConfig::device`] says otherwise.
pub const DEVICE: &str = "/dev/net/tun";

/// What interface to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapConfig {
    /// Interface name: 1 to 15 bytes, without `/`, `:`, `%` and white space.
    pub name: String,
    /// Interface index it shall have in its namespace, if that matters; 1 is taken by `lo`, and 0 leaves
    /// the choice to the kernel.
    pub ifindex: Option<u32>,
    /// Device node to open instead of [`DEVICE`].
    pub device: Option<PathBuf>,
    /// With a virtio-net header and as many offloads as the kernel has; where it knows no such header, a plain device.
    pub offload: bool,
}

impl TapConfig {
    /// An interface called `name`, everything else as the kernel likes.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            ifindex: None,
            device: None,
            offload: false,
        }
    }
}

/// Why there is no interface. One variant per operation, so that the choice of a back end can tell them apart.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// The name can't be an interface's.
    #[error(
        "'{name}' is no interface name: 1 to 15 bytes without '/', ':', '%' or white space are wanted"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The device node could not be opened: [`TapError::is_closed`] and [`TapError::is_absent`] say more.
    #[error("{name}: open {}: {source}", device.display())]
    Open {
        /// Interface that was to be made.
        name: String,
        /// Device node.
        device: PathBuf,
        /// What open(2) said.
        source: io::Error,
    },
    /// The index could not be set: TUNSETIFINDEX.
    #[error("{name}: set index {ifindex}: {source}")]
    SetIndex {
        /// Interface that was to be made.
        name: String,
        /// Index that was wanted.
        ifindex: u32,
        /// What ioctl(2) said.
        source: io::Error,
    },
    /// The interface could not be made: TUNSETIFF. EPERM without CAP_NET_ADMIN over the network namespace, EBUSY when
    /// the name or the index is taken.
    #[error("{name}: create interface: {source}")]
    Attach {
        /// Interface that was to be made.
        name: String,
        /// What ioctl(2) said.
        source: io::Error,
    },
    /// The offloads could not be set up: TUNSETVNETHDRSZ, TUNSETOFFLOAD.
    #[error("{name}: set offloads: {source}")]
    Offload {
        /// Interface that was made.
        name: String,
        /// What ioctl(2) said.
        source: io::Error,
    },
    /// The carrier could not be switched: TUNSETCARRIER.
    #[error("descriptor {fd}: set carrier: {source}")]
    Carrier {
        /// Descriptor of the interface.
        fd: i32,
        /// What ioctl(2) said.
        source: io::Error,
    },
}

impl TapError {
    /// The device node is there but closed to this user (EACCES, EPERM at open).
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Open { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }

    /// There is no device node, or no driver behind it (ENOENT, ENODEV, ENXIO at open).
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Open { source, .. } if open_failed(source) && !self.is_closed())
    }
}

/// Makes a TAP interface in the network namespace of the calling thread. It lives as long as the descriptor, or a
/// duplicate of it, is open. The descriptor is nonblocking and close-on-exec.
///
/// # Errors
/// See [`TapError`]; no interface is left behind.
pub fn create(config: &TapConfig) -> Result<OwnedFd, TapError> {
    let name = checked_name(&config.name)?;
    if config.offload {
        match open_and_attach(name, config, true, false) {
            Err(TapError::Attach { source, .. }) if errno_is(&source, Errno::INVAL) => {}
            other => {
                let fd = other?;
                set_offloads(fd.as_fd()).map_err(|source| TapError::Offload {
                    name: name.into(),
                    source,
                })?;
                return Ok(fd);
            }
        }
    }
    if config.ifindex.is_some() || config.device.is_some() {
        return open_and_attach(name, config, false, false);
    }
    tun::create_plain(name).map_err(|source| {
        // The crate opens and attaches in one step. Only open(2) gives these three here: TUNSETIFF says EPERM where
        // a privilege is missing.
        if open_failed(&source) && !errno_is(&source, Errno::PERM) {
            open_error(name, Path::new(DEVICE), source)
        } else {
            TapError::Attach {
                name: name.into(),
                source,
            }
        }
    })
}

fn open_and_attach(
    name: &str,
    config: &TapConfig,
    vnet: bool,
    queues: bool,
) -> Result<OwnedFd, TapError> {
    let device = config
        .device
        .as_deref()
        .unwrap_or_else(|| Path::new(DEVICE));
    let fd = tun::open(device).map_err(|source| open_error(name, device, source))?;
    if let Some(ifindex) = config.ifindex {
        tun::set_ifindex(fd.as_fd(), ifindex).map_err(|source| TapError::SetIndex {
            name: name.into(),
            ifindex,
            source,
        })?;
    }
    tun::attach(fd.as_fd(), name, vnet, queues).map_err(|source| TapError::Attach {
        name: name.into(),
        source,
    })?;
    Ok(fd)
}

fn set_offloads(fd: BorrowedFd<'_>) -> io::Result<()> {
    let len = vnet::HEADER.try_into().expect("ten is a small number");
    tun::set_header_len(fd, len)?;
    tun::set_offloads(fd)
}

/// Whether the device behind a descriptor that [`create`] made has a virtio-net header in front of its frames. A descriptor
/// that is attached to no interface has none.
#[must_use]
pub fn has_offloads(fd: impl AsFd) -> bool {
    tun::has_header(fd.as_fd()).unwrap_or(false)
}

/// Switches the carrier of a TAP interface. Off and on again brings its operational state from UNKNOWN to UP.
///
/// # Errors
/// When `fd` is no TAP interface, or the interface is gone.
pub fn set_carrier(fd: impl AsFd, on: bool) -> Result<(), TapError> {
    let fd = fd.as_fd();
    tun::set_carrier(fd, on).map_err(|source| TapError::Carrier {
        fd: fd.as_raw_fd(),
        source,
    })
}

fn checked_name(name: &str) -> Result<&str, TapError> {
    // Linux dev_valid_name, and '%' because the kernel would take it for a pattern.
    let valid = !name.is_empty()
        && name.len() <= tun::NAME_MAX
        && name != "."
        && name != ".."
        && name
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b"/:%".contains(&b));
    if valid {
        Ok(name)
    } else {
        Err(TapError::Name { name: name.into() })
    }
}

fn open_error(name: &str, device: &Path, source: io::Error) -> TapError {
    TapError::Open {
        name: name.into(),
        device: device.into(),
        source,
    }
}

fn errno_is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

fn open_failed(error: &io::Error) -> bool {
    [
        Errno::ACCESS,
        Errno::PERM,
        Errno::NOENT,
        Errno::NODEV,
        Errno::NXIO,
    ]
    .into_iter()
    .any(|e| errno_is(error, e))
}

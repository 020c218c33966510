//! ioctls of the TUN/TAP driver.
//!
//! Decides nothing: names were checked by [`crate::tap`]. Source: Linux `Documentation/networking/tuntap.rst`,
//! `include/uapi/linux/if_tun.h`. Cost: one system call each.

use std::ffi::{c_int, c_uint};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags};
use rustix::ioctl::{IntegerSetter, Opcode, Setter, Updater, ioctl, opcode};

/// Longest interface name, bytes, without the terminating zero (Linux IFNAMSIZ − 1).
pub const NAME_MAX: usize = 15;

// The numbers encode the size of an int whatever the argument really points to (if_tun.h).
const TUNSETIFF: Opcode = opcode::write::<c_int>(b'T', 202);
const TUNSETOFFLOAD: Opcode = opcode::write::<c_uint>(b'T', 208);
const TUNGETIFF: Opcode = opcode::read::<c_uint>(b'T', 210);
const TUNSETVNETHDRSZ: Opcode = opcode::write::<c_int>(b'T', 216);
const TUNSETIFINDEX: Opcode = opcode::write::<c_uint>(b'T', 218);
const TUNSETCARRIER: Opcode = opcode::write::<c_int>(b'T', 226);

const IFF_TAP: u16 = 0x0002;
const IFF_MULTI_QUEUE: u16 = 0x0100;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;

/// What a device may leave to its reader (if_tun.h TUN_F_*), most first: checksums, TCP segmentation with ECN, and UDP
/// segmentation (Linux 6.2); without the last; checksums alone.
const OFFLOADS: [usize; 3] = [0x6f, 0x0f, 0x01];

/// `struct ifreq` as TUNSETIFF uses it: the name, then the flags, then the rest of a 24-byte union.
#[repr(C)]
#[derive(Debug)]
struct IfReq {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

const _: () = assert!(size_of::<IfReq>() == 40);

/// Opens the TUN device at `path`: nonblocking, close-on-exec, attached to no interface yet.
///
/// # Errors
/// What open(2) says: EACCES when the device is closed to this user, ENOENT when it isn't there.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::io::retry_on_intr(|| {
        rustix::fs::open(path, flags, Mode::empty())
    })?)
}

/// Fixes the interface index that the interface of `fd` will get; 0 leaves it to the kernel. Before
/// [`attach`].
///
/// # Errors
/// EINVAL after [`attach`].
pub fn set_ifindex(fd: BorrowedFd<'_>, ifindex: u32) -> io::Result<()> {
    // SAFETY: TUNSETIFINDEX reads one unsigned int through its argument (tun_chr_ioctl: copy_from_user of
    // sizeof(ifindex)), and a Setter of u32 points to exactly that.
    let request = unsafe { Setter::<TUNSETIFINDEX, u32>::new(ifindex) };
    // SAFETY: the request above is complete and `fd` is open for the length of the borrow; on a descriptor that is no
    // TUN device the kernel answers ENOTTY and touches nothing.
    unsafe { ioctl(fd, request) }?;
    Ok(())
}

/// Makes the TAP interface `name` in the network namespace of the calling thread and attaches `fd` to it, without packet
/// information in front of frames; with a virtio-net header in front of each one where `vnet`. With `queues` the interface
/// may have several descriptors attached, of which each is a queue; all of them have to say so.
///
/// # Errors
/// `InvalidInput` for a name longer than [`NAME_MAX`]; EPERM without CAP_NET_ADMIN; EBUSY when the name or the index is
/// in use; EINVAL where the kernel knows no such header or no queues; E2BIG for more of them than it knows.
pub fn attach(fd: BorrowedFd<'_>, name: &str, vnet: bool, queues: bool) -> io::Result<()> {
    let mut request = IfReq {
        name: [0; 16],
        flags: IFF_TAP
            | IFF_NO_PI
            | if vnet { IFF_VNET_HDR } else { 0 }
            | if queues { IFF_MULTI_QUEUE } else { 0 },
        rest: [0; 22],
    };
    if name.len() > NAME_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF reads and writes one struct ifreq (40 bytes: asserted above) through its argument, and the
    // Updater points to `request`, which outlives the call and any bit pattern of which is valid.
    let update = unsafe { Updater::<TUNSETIFF, IfReq>::new(&mut request) };
    // SAFETY: the request above is complete and `fd` is open for the length of the borrow.
    unsafe { ioctl(fd, update) }?;
    Ok(())
}

/// Sets the length of the virtio-net header of the interface of `fd`, bytes: 10 or 12.
///
/// # Errors
/// EINVAL for another length; EBADFD when `fd` is attached to no interface.
pub fn set_header_len(fd: BorrowedFd<'_>, len: c_int) -> io::Result<()> {
    // SAFETY: TUNSETVNETHDRSZ reads one int through its argument, and a Setter of c_int points to exactly that.
    let request = unsafe { Setter::<TUNSETVNETHDRSZ, c_int>::new(len) };
    // SAFETY: the request above is complete and `fd` is open for the length of the borrow.
    unsafe { ioctl(fd, request) }?;
    Ok(())
}

/// Lets the interface of `fd` leave to its reader as much as this kernel can: checksums, segmentation, and less where it
/// refuses. Nothing is not an error.
///
/// # Errors
/// EBADFD when `fd` is attached to no interface.
pub fn set_offloads(fd: BorrowedFd<'_>) -> io::Result<()> {
    for offloads in OFFLOADS {
        // SAFETY: TUNSETOFFLOAD takes a set of flags as its argument's value and follows no pointer.
        let request = unsafe { IntegerSetter::<TUNSETOFFLOAD>::new_usize(offloads) };
        // SAFETY: the request above is complete and `fd` is open for the length of the borrow.
        match unsafe { ioctl(fd, request) } {
            Err(Errno::INVAL) => {}
            other => return Ok(other?),
        }
    }
    Ok(())
}

/// Whether frames of the interface of `fd` have a virtio-net header, of which length it may be.
///
/// # Errors
/// EBADFD when `fd` is attached to no interface, ENOTTY when it is no TUN device.
pub fn has_header(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut request = IfReq {
        name: [0; 16],
        flags: 0,
        rest: [0; 22],
    };
    // SAFETY: TUNGETIFF writes one struct ifreq (40 bytes: asserted above) through its argument, and the Updater points to
    // `request`, which outlives the call and any bit pattern of which is valid.
    let update = unsafe { Updater::<TUNGETIFF, IfReq>::new(&mut request) };
    // SAFETY: the request above is complete and `fd` is open for the length of the borrow.
    unsafe { ioctl(fd, update) }?;
    Ok(request.flags & IFF_VNET_HDR != 0)
}

/// Switches the carrier of the interface of `fd` on or off.
///
/// # Errors
/// EBADFD when `fd` is attached to no interface.
pub fn set_carrier(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    // SAFETY: TUNSETCARRIER reads one int through its argument, and a Setter of c_int points to exactly that.
    let request = unsafe { Setter::<TUNSETCARRIER, c_int>::new(c_int::from(on)) };
    // SAFETY: the request above is complete and `fd` is open for the length of the borrow.
    unsafe { ioctl(fd, request) }?;
    Ok(())
}

/// Makes the TAP interface `name` by way of the tun-tap crate, which opens /dev/net/tun. The descriptor is made
/// nonblocking and close-on-exec.
///
/// # Errors
/// As [`open`] and [`attach`].
pub fn create_plain(name: &str) -> io::Result<OwnedFd> {
    let device = tun_tap::Iface::without_packet_info(name, tun_tap::Mode::Tap)?;
    // SAFETY: into_raw_fd gives up the device's only descriptor, so that nobody else owns or closes it.
    let fd = unsafe { OwnedFd::from_raw_fd(device.into_raw_fd()) };
    let flags = rustix::fs::fcntl_getfl(fd.as_fd())?;
    rustix::fs::fcntl_setfl(fd.as_fd(), flags | OFlags::NONBLOCK)?;
    rustix::io::fcntl_setfd(fd.as_fd(), FdFlags::CLOEXEC)?;
    Ok(fd)
}

#[cfg(test)]
pub(crate) mod testing {
    //! What tests need to use a TAP: a network namespace for the calling thread, and an address.

    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    use rustix::thread::UnshareFlags;

    const SIOCSIFFLAGS: Opcode = 0x8914;
    const SIOCSIFADDR: Opcode = 0x8916;

    /// Moves the calling thread into a network namespace of its own.
    pub(crate) fn new_netns() -> io::Result<()> {
        // SAFETY: CLONE_NEWNET changes nothing that memory or descriptors of other threads depend on (only CLONE_FILES
        // and CLONE_FS would).
        Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?)
    }

    fn socket() -> io::Result<OwnedFd> {
        Ok(rustix::net::socket_with(
            AddressFamily::INET,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            None,
        )?)
    }

    fn request(name: &str, flags: u16) -> IfReq {
        let mut request = IfReq {
            name: [0; 16],
            flags,
            rest: [0; 22],
        };
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        request
    }

    /// Has the kernel cut what a socket sends into datagrams of so many bytes (udp(7) UDP_SEGMENT).
    pub(crate) fn set_udp_segment(fd: std::os::fd::RawFd, size: c_int) -> io::Result<()> {
        const UDP_SEGMENT: c_int = 103;
        // SAFETY: UDP_SEGMENT reads one int, which `size` is and whose length is said.
        let status = unsafe {
            libc::setsockopt(fd, libc::SOL_UDP, UDP_SEGMENT, (&raw const size).cast(), 4)
        };
        if status == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Sets the interface up or down (netdevice(7) SIOCSIFFLAGS).
    pub(crate) fn set_up(name: &str, up: bool) -> io::Result<()> {
        // SAFETY: SIOCSIFFLAGS reads one struct ifreq, which a Setter of IfReq points to.
        let r = unsafe { Setter::<SIOCSIFFLAGS, IfReq>::new(request(name, u16::from(up))) };
        // SAFETY: the request above is complete and the socket is open during the call.
        Ok(unsafe { ioctl(socket()?, r) }?)
    }

    /// Gives the interface an address; the prefix follows from the address class (netdevice(7) SIOCSIFADDR).
    pub(crate) fn set_address(name: &str, ip: [u8; 4]) -> io::Result<()> {
        let mut r = request(name, 2); // sa_family AF_INET stands where the flags do
        r.rest[2..6].copy_from_slice(&ip);
        // SAFETY: SIOCSIFADDR reads one struct ifreq, which a Setter of IfReq points to.
        let r = unsafe { Setter::<SIOCSIFADDR, IfReq>::new(r) };
        // SAFETY: the request above is complete and the socket is open during the call.
        Ok(unsafe { ioctl(socket()?, r) }?)
    }
}

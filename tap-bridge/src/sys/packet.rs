//! AF_PACKET sockets on one interface.
//!
//! Decides nothing. Source: packet(7), Linux `include/uapi/linux/if_packet.h`, `net/packet/af_packet.c`. Cost: one system call
//! each; opening one about ten.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use libc::{c_int, c_void};
use router_core::Mac;
use rustix::io::Errno;

use super::shm::StretchMut;
use super::vectored::{entry, outcome};
use crate::device::Got;

/// ETH_P_ALL as sockets want it.
#[expect(clippy::cast_possible_truncation, reason = "ETH_P_ALL is 3")]
const ALL: u16 = (libc::ETH_P_ALL as u16).to_be();

/// Bytes of ancillary data that one PACKET_AUXDATA message takes, with room for a time stamp that somebody else may have
/// asked for.
const CONTROL: usize = 128;

/// Sets an option of a socket to a value that the kernel reads.
fn set<T: Copy>(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<T>()).expect("an option's value is small");
    let value: *const T = value;
    // SAFETY: setsockopt reads `len` bytes from `value`, which is a borrowed T of that size. The descriptor is open because it
    // is borrowed.
    let status = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.cast(), len) };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Reads an option of a socket.
fn get<T: Copy>(fd: BorrowedFd<'_>, level: c_int, name: c_int, mut value: T) -> io::Result<T> {
    let mut len = libc::socklen_t::try_from(size_of::<T>()).expect("an option's value is small");
    let start: *mut T = &raw mut value;
    // SAFETY: getsockopt writes at most `len` bytes to `start`, which is a T of that size of our own; the callers' types are
    // integers and structures of integers, of which any bit pattern is valid. The descriptor is open because it is borrowed.
    let status =
        unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, start.cast(), &raw mut len) };
    if status == 0 {
        Ok(value)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A raw packet socket in the calling thread's network namespace, nonblocking and close-on-exec, bound to nothing yet: it
/// receives no frame.
///
/// # Errors
/// EPERM without CAP_NET_RAW over the network namespace; EAFNOSUPPORT where the kernel has no packet sockets.
pub fn open() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: socket takes three integers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made, so nobody else owns or closes it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// From now on a virtio-net header stands in front of every frame, in both directions. Before [`bind`].
///
/// # Errors
/// ENOPROTOOPT where the kernel knows no such header.
pub fn set_header(fd: BorrowedFd<'_>) -> io::Result<()> {
    set(fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1_i32)
}

/// Whether frames of this socket have a virtio-net header.
///
/// # Errors
/// ENOTSOCK, or ENOPROTOOPT when it is no packet socket.
pub fn has_header(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(get(fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 0_i32)? != 0)
}

/// From now on [`receive`] tells of tags that the kernel took out.
///
/// # Errors
/// What setsockopt(2) says.
pub fn tell_tags(fd: BorrowedFd<'_>) -> io::Result<()> {
    set(fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1_i32)
}

/// Frames that this namespace itself sends by the interface are not received.
///
/// # Errors
/// ENOPROTOOPT before Linux 4.20.
pub fn ignore_outgoing(fd: BorrowedFd<'_>) -> io::Result<()> {
    set(fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1_i32)
}

/// Frames go to the driver without a queueing discipline in between.
///
/// # Errors
/// ENOPROTOOPT before Linux 3.14.
pub fn bypass_qdisc(fd: BorrowedFd<'_>) -> io::Result<()> {
    set(fd, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1_i32)
}

/// Lets so many bytes wait in each direction: as many as root says, or as many as the host's limits allow.
///
/// # Errors
/// What setsockopt(2) says, of the form that needs no privilege.
pub fn set_buffers(fd: BorrowedFd<'_>, bytes: c_int) -> io::Result<()> {
    for (forced, plain) in [
        (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
        (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
    ] {
        // Half of it, because the kernel doubles what is asked for.
        let half = bytes / 2;
        if set(fd, libc::SOL_SOCKET, forced, &half).is_err() {
            set(fd, libc::SOL_SOCKET, plain, &half)?;
        }
    }
    Ok(())
}

/// Binds the socket to an interface: it receives frames of every protocol from there, and sends there.
///
/// # Errors
/// ENODEV when there is none of this index. A socket on an interface that is down is no error; it receives when that comes up.
pub fn bind(fd: BorrowedFd<'_>, ifindex: u32) -> io::Result<()> {
    // SAFETY: sockaddr_ll is made of integers and arrays of them, for which zero is valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).expect("AF_PACKET is 17");
    address.sll_protocol = ALL;
    address.sll_ifindex =
        c_int::try_from(ifindex).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    let len = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).expect("it is 20");
    let start = &raw const address;
    // SAFETY: bind reads `len` bytes from `start`, a sockaddr_ll of that size. The descriptor is open because it is borrowed.
    let status = unsafe { libc::bind(fd.as_raw_fd(), start.cast(), len) };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// True when the interface that the socket was bound to does not exist any more.
#[must_use]
pub fn is_orphan(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: as in `bind`.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut len = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).expect("it is 20");
    let start = &raw mut address;
    // SAFETY: getsockname writes at most `len` bytes to `start`, a sockaddr_ll of that size of our own. The descriptor is open
    // because it is borrowed.
    let status = unsafe { libc::getsockname(fd.as_raw_fd(), start.cast(), &raw mut len) };
    // packet_notifier sets the index to -1 when the interface is unregistered.
    status == 0 && address.sll_ifindex <= 0
}

/// Has the interface take frames for this MAC too, for as long as the socket is open. What else it takes stays as it is.
///
/// # Errors
/// ENODEV when there is none of this index, EINVAL when its addresses aren't MACs.
pub fn listen_for(fd: BorrowedFd<'_>, ifindex: u32, mac: Mac) -> io::Result<()> {
    let Mac([a, b, c, d, e, f]) = mac;
    let request = libc::packet_mreq {
        mr_ifindex: c_int::try_from(ifindex)
            .map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?,
        mr_type: u16::try_from(libc::PACKET_MR_UNICAST).expect("it is 3"),
        mr_alen: 6,
        mr_address: [a, b, c, d, e, f, 0, 0],
    };
    set(fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
}

/// Frames that were lost because the socket's buffer was full, since this was asked last.
///
/// # Errors
/// What getsockopt(2) says.
pub fn take_drops(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let none = libc::tpacket_stats {
        tp_packets: 0,
        tp_drops: 0,
    };
    let stats = get(fd, libc::SOL_PACKET, libc::PACKET_STATISTICS, none)?;
    Ok(u64::from(stats.tp_drops))
}

/// Receives one frame into `header`, then `head`, then `tail`, then `beyond`, with the tag that the kernel took out of it.
///
/// # Errors
/// What recvmsg(2) says; never EINTR.
#[expect(
    clippy::needless_pass_by_value,
    reason = "who hands out a stretch to be written has no use for it meanwhile"
)]
pub fn receive(
    fd: BorrowedFd<'_>,
    header: &mut [u8],
    head: &mut [u8],
    tail: Option<StretchMut<'_>>,
    beyond: &mut [u8],
) -> Result<Got, Errno> {
    let mut parts = [
        entry(header.as_mut_ptr(), header.len()),
        entry(head.as_mut_ptr(), head.len()),
        entry(std::ptr::null(), 0),
        entry(beyond.as_mut_ptr(), beyond.len()),
    ];
    if let Some(tail) = &tail {
        parts[2] = entry(tail.start.as_ptr(), tail.len);
    }
    let mut control =
        MaybeUninit::<[libc::cmsghdr; CONTROL / size_of::<libc::cmsghdr>()]>::uninit();
    // SAFETY: msghdr is made of integers and pointers, for which zero is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = parts.as_mut_ptr();
    message.msg_iovlen = parts.len();
    loop {
        message.msg_control = control.as_mut_ptr().cast::<c_void>();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: the message names four entries and the control buffer with its length. All entries but the third are
        // exclusively borrowed slices with their lengths; the third is empty, or memory mapped to be written that stays mapped
        // for as long as `tail` borrows its mapping and that is only ever accessed by atomic operations and system calls. The
        // descriptor is open because it is borrowed.
        let returned = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, 0) };
        match outcome(returned) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
            Ok(len) => {
                let tag = tag_of(&message);
                return Ok(Got { len, tag });
            }
        }
    }
}

/// The tag that the ancillary data of a received message tells of.
fn tag_of(message: &libc::msghdr) -> Option<[u8; 4]> {
    let wanted = size_of::<libc::cmsghdr>() + size_of::<libc::tpacket_auxdata>();
    // SAFETY: the message was filled by recvmsg, so that its control pointer and length describe what the kernel wrote.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give null or a header that lies whole within the control data, aligned as the
    // buffer is.
    while let Some(cmsg) = unsafe { next.as_ref() } {
        if cmsg.cmsg_level == libc::SOL_PACKET
            && cmsg.cmsg_type == libc::PACKET_AUXDATA
            && cmsg.cmsg_len >= wanted
        {
            // SAFETY: the header is a valid one, see above.
            let data = unsafe { libc::CMSG_DATA(cmsg) };
            // SAFETY: behind the header there are at least as many bytes as the structure has (just compared), written by the
            // kernel; any bit pattern of it is valid, and the read asks for no alignment.
            let aux = unsafe { data.cast::<libc::tpacket_auxdata>().read_unaligned() };
            if aux.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
                return None;
            }
            // Kernels before 3.14 don't tell the protocol.
            let protocol = match aux.tp_vlan_tpid {
                told if aux.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0 => told,
                _ => 0x8100,
            };
            let ([a, b], [c, d]) = (protocol.to_be_bytes(), aux.tp_vlan_tci.to_be_bytes());
            return Some([a, b, c, d]);
        }
        // SAFETY: as for CMSG_FIRSTHDR, and `cmsg` came from there or from here.
        next = unsafe { libc::CMSG_NXTHDR(message, cmsg) };
    }
    None
}

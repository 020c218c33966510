//! Packet sockets: a router's port on an interface that exists already.
//!
//! Decides how the socket is set up and which of its errors mean what. Two uses: the router's end of a pod's veth on hosts
//! without a tun device, and a node's uplink on a real interface. Doesn't decide the interface's addresses, MTU or flags:
//! these belong to whoever holds its network namespace.
//!
//! ```text
//!   interface up      frames pass
//!   interface down    ENETDOWN once on reading, then nothing to read; what is sent is lost and counted
//!   interface gone    ENETDOWN once, and the socket names no interface any more: the port is of no use
//! ```
//!
//! With a virtio-net header (PACKET_VNET_HDR) superframes and open checksums pass as they do with a TAP. The kernel tells of
//! VLAN tags beside the frame; they are put back. What it could not queue it counts ([`PortCounters::rx_missed`]). Frames
//! that the interface's own namespace sends are not seen (PACKET_IGNORE_OUTGOING), so that nothing comes twice.
//!
//! The kernel goes on with a frame after the socket has it. So the interface should be in a namespace that does nothing with
//! it (a veth's far end: no address, no forwarding, IPv6 off, another MAC than the router's), or whose own affair it is (an
//! uplink).
//!
//! Not by way of pnet's datalink: that has no virtio-net header, no tags, no way to take a socket that another process opened,
//! and its own buffers in between.
//!
//! Source: packet(7), Linux `net/packet/af_packet.c`. Cost: one recvmsg or writev per frame, which copies it once.
//!
//! [`PortCounters::rx_missed`]: crate::PortCounters::rx_missed

mod features;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use router_core::Mac;
use rustix::io::Errno;

use crate::device::{Device, DevicePort, Got, ReadError};
use crate::sys::packet;
use crate::sys::shm::StretchMut;

pub use features::restrict;

/// Bytes that may wait to be read: 4 MB, some sixty superframes. Ordinary users get what `net.core.rmem_max` allows.
const BUFFER: i32 = 4 << 20;

/// What socket to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketConfig {
    /// Interface of the calling thread's network namespace.
    pub ifindex: u32,
    /// The interface takes frames for this MAC besides its own. A veth takes all by itself.
    pub mac: Option<Mac>,
    /// Frames go to the driver at once, past the queueing discipline. Only where the driver can do all that is asked for,
    /// as a veth can: nothing is cut for it then.
    pub direct: bool,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[error("packet socket: {operation}: {source}")]
pub struct PacketError {
    /// What was tried.
    pub operation: &'static str,
    /// What the system said.
    pub source: io::Error,
}

impl PacketError {
    /// This user may have no packet sockets here (no CAP_NET_RAW), or the kernel has none.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        let none = [Errno::AFNOSUPPORT, Errno::PERM, Errno::ACCESS];
        none.iter()
            .any(|errno| self.source.raw_os_error() == Some(errno.raw_os_error()))
    }
}

/// Opens a socket on an interface, with a virtio-net header where the kernel has one.
///
/// # Errors
/// [`PacketError`]; [`PacketError::is_permission`] tells a missing privilege from a missing interface.
pub fn open(config: &PacketConfig) -> Result<OwnedFd, PacketError> {
    let failed = |operation| move |source| PacketError { operation, source };
    let socket = packet::open().map_err(failed("open"))?;
    let fd = socket.as_fd();
    // Without it every frame is as a wire carries it, and the interface's own offloads have to be off.
    let _ = packet::set_header(fd);
    packet::tell_tags(fd).map_err(failed("PACKET_AUXDATA"))?;
    packet::ignore_outgoing(fd).map_err(failed("PACKET_IGNORE_OUTGOING"))?;
    if config.direct {
        // Costs only time where it isn't known.
        let _ = packet::bypass_qdisc(fd);
    }
    packet::set_buffers(fd, BUFFER).map_err(failed("SO_RCVBUF, SO_SNDBUF"))?;
    if let Some(mac) = config.mac {
        packet::listen_for(fd, config.ifindex, mac).map_err(failed("PACKET_ADD_MEMBERSHIP"))?;
    }
    // Last: from here on frames arrive.
    packet::bind(fd, config.ifindex).map_err(failed("bind"))?;
    Ok(socket)
}

/// Whether the frames of a socket that [`open`] made have a virtio-net header.
#[must_use]
pub fn has_offloads(fd: impl AsFd) -> bool {
    packet::has_header(fd.as_fd()).unwrap_or(false)
}

/// The router's side of an interface with a packet socket. What the interface receives is read, what is written it sends.
pub type PacketPort = DevicePort<PacketSocket>;

/// A socket as [`open`] makes it.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketPort {
    /// A port on the socket `fd`; with [`DevicePort::with_offload`] on one that [`has_offloads`]. `name` is for messages,
    /// `mtu` what [`Port::caps`](crate::Port::caps) tells.
    #[must_use]
    pub fn new(fd: OwnedFd, name: &str, mtu: u16) -> Self {
        Self::on(PacketSocket(fd), name, mtu)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Device for PacketSocket {
    fn read(
        &self,
        header: &mut [u8],
        head: &mut [u8],
        tail: Option<StretchMut<'_>>,
        beyond: &mut [u8],
    ) -> Result<Got, Errno> {
        packet::receive(self.as_fd(), header, head, tail, beyond)
    }

    fn read_error(&self, errno: Errno, vnet: bool) -> ReadError {
        match errno {
            Errno::AGAIN => ReadError::Nothing,
            // The kernel had a frame that its own header has no word for, and has dropped it (virtio_net_hdr_from_skb).
            Errno::INVAL if vnet => ReadError::Malformed,
            // Said once when the interface goes down, and frames from before are still there; or when it is removed.
            Errno::NETDOWN if !packet::is_orphan(self.as_fd()) => ReadError::Again,
            _ => ReadError::Gone,
        }
    }

    /// ENETDOWN: the interface is down. EAGAIN, ENOBUFS, ENOMEM: full. EMSGSIZE: longer than its MTU. EINVAL: shorter than an
    /// Ethernet header. A frame lost in each case. ENXIO: there is no interface any more (packet_snd).
    fn is_gone(&self, errno: Errno) -> bool {
        match errno {
            Errno::NXIO | Errno::BADF => true,
            Errno::NETDOWN => packet::is_orphan(self.as_fd()),
            _ => false,
        }
    }

    fn take_missed(&self) -> u64 {
        packet::take_drops(self.as_fd()).unwrap_or(0)
    }
}

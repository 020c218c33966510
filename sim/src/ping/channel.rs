//! The two ways in which ICMP gets in and out, behind one type.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, ip_mtu, set_ip_mtu_discover, set_ip_ttl};
use rustix::net::{RecvFlags, SendFlags, connect, connect_unspec, recv, send, sendto};

use super::PathMtu;
use super::packet::ipv4;
use crate::control::proto::IcmpChannel;

/// Largest packet that can arrive.
pub(super) const MAX_PACKET: usize = 1 << 16;

/// A descriptor that the daemon answered [`Request::Icmp`](crate::control::proto::Request::Icmp) with.
#[derive(Debug)]
pub struct Channel {
    fd: OwnedFd,
    kind: IcmpChannel,
    source: Ipv4Addr,
}

/// What became of a packet that was to be sent.
#[derive(Debug)]
pub(super) enum Sent {
    /// It went.
    Yes,
    /// The channel is full: try again when it is writable.
    Full,
    /// Longer than the MTU (if known) although it must not be fragmented.
    TooLong(Option<u32>),
    /// The kernel refused, for example without a route.
    Refused(io::Error),
}

impl Channel {
    /// Speaks over `fd`. `source` is the address that the far end sees.
    #[must_use]
    pub fn new(fd: OwnedFd, kind: IcmpChannel, source: Ipv4Addr) -> Self {
        Self { fd, kind, source }
    }

    /// The address that the far end sees.
    #[must_use]
    pub fn source(&self) -> Ipv4Addr {
        self.source
    }

    /// Sets TTL and fragmentation of everything that is sent from now on.
    pub(super) fn configure(&self, ttl: u8, path_mtu: PathMtu) -> io::Result<()> {
        if self.kind == IcmpChannel::RawSocket {
            set_ip_ttl(&self.fd, u32::from(ttl))?;
            let discovery = match path_mtu {
                PathMtu::Do => Ipv4PathMtuDiscovery::DO,
                PathMtu::Want => Ipv4PathMtuDiscovery::WANT,
                PathMtu::Dont => Ipv4PathMtuDiscovery::DONT,
            };
            set_ip_mtu_discover(&self.fd, discovery)?;
        }
        Ok(())
    }

    /// Sends an ICMP message without blocking.
    pub(super) fn send(&self, dst: Ipv4Addr, ttl: u8, path_mtu: PathMtu, message: &[u8]) -> Sent {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let result = match self.kind {
            IcmpChannel::RawSocket => rustix::io::retry_on_intr(|| {
                sendto(&self.fd, message, flags, &SocketAddrV4::new(dst, 0))
            }),
            IcmpChannel::StackChannel => {
                // Linux sets DF by default on what fits the first link. Here that link's MTU is not known, and the
                // stack may only cut what has DF clear.
                let packet = ipv4(dst, ttl, path_mtu == PathMtu::Do, message);
                rustix::io::retry_on_intr(|| send(&self.fd, &packet, flags))
            }
        };
        match result {
            Ok(_) => Sent::Yes,
            Err(Errno::AGAIN | Errno::NOBUFS) => Sent::Full,
            Err(Errno::MSGSIZE) => Sent::TooLong(self.path_mtu(dst)),
            Err(errno) => Sent::Refused(errno.into()),
        }
    }

    /// What the kernel knows about the path. Only a connected socket can be asked; the connection is undone at once,
    /// because a connected one would not hear routers on the way.
    fn path_mtu(&self, dst: Ipv4Addr) -> Option<u32> {
        connect(&self.fd, &SocketAddrV4::new(dst, 0)).ok()?;
        let mtu = ip_mtu(&self.fd).ok();
        // Fails only for a socket that is not connected.
        let _ = connect_unspec(&self.fd);
        mtu
    }

    /// Receives one whole IPv4 packet without blocking; none when there is none.
    pub(super) fn recv<'b>(&self, buf: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
        let got = rustix::io::retry_on_intr(|| recv(&self.fd, &mut *buf, RecvFlags::DONTWAIT));
        match got {
            Ok((0, _)) if self.kind == IcmpChannel::StackChannel => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the node process has closed the channel",
            )),
            Ok((len, _)) => Ok(buf.get(..len)),
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

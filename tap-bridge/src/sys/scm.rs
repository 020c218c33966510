//! Messages with descriptors over Unix sockets, and who is at the other end.
//!
//! Decides nothing about what the bytes mean (that is the caller's codec). Promises: no call blocks or raises SIGPIPE;
//! at most [`MAX_FDS`] descriptors ride on one message; every received descriptor is owned, close-on-exec, and closed
//! when nobody takes it. Source: unix(7), cmsg(3). Cost: one system call.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Most descriptors on one message (the kernel's SCM_MAX_FD is 253).
pub const MAX_FDS: usize = 32;

/// Sends `bytes` with `fds` attached to the first byte, and returns how many bytes the socket took.
///
/// On a stream socket fewer than all may go; the rest must follow without descriptors.
///
/// # Errors
/// `WouldBlock` when the socket is full (nothing was sent); `InvalidInput` for more than [`MAX_FDS`] descriptors or
/// descriptors without a byte to ride on; else what sendmsg(2) says.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if fds.len() > MAX_FDS || (bytes.is_empty() && !fds.is_empty()) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let sent = rustix::io::retry_on_intr(|| {
        sendmsg(
            socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        )
    })?;
    Ok(sent)
}

/// Receives into `buf`, appends arrived descriptors to `fds`, and returns the number of bytes (0: the peer closed).
///
/// # Errors
/// `WouldBlock` when nothing is there; `InvalidData` when descriptors were cut off (more than [`MAX_FDS`], or this
/// process may open no more), in which case those that did arrive are closed; else what recvmsg(2) says.
pub fn recv(socket: BorrowedFd<'_>, buf: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = rustix::io::retry_on_intr(|| {
        recvmsg(
            socket,
            &mut [IoSliceMut::new(buf)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
        )
    })?;
    let before = fds.len();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(arrived) = part {
            fds.extend(arrived);
        }
    }
    if message.flags.contains(ReturnFlags::CTRUNC) {
        fds.truncate(before);
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "descriptors were cut off",
        ));
    }
    Ok(message.bytes)
}

/// Who opened the other end of a connected Unix socket, as the kernel recorded it at connect(2) or socketpair(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCredentials {
    /// User id in this process's user namespace (65534 when it has no mapping there).
    pub uid: u32,
    /// Process id; none when the process is outside of this PID namespace.
    pub pid: Option<u32>,
}

/// SO_PEERCRED of a connected Unix socket.
///
/// rustix has this call too, but in a type in which a process id of 0 must not occur, and 0 is what the kernel answers
/// across PID namespaces.
///
/// # Errors
/// What getsockopt(2) says.
pub fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<PeerCredentials> {
    let mut cred = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let wanted = libc::socklen_t::try_from(size_of::<libc::ucred>())
        .expect("three integers are fewer than 4 GiB");
    let mut len = wanted;
    // SAFETY: `cred` is a live, exclusively borrowed `ucred` and `len` holds its size, so the kernel writes at most that
    // many bytes into it; any bit pattern is a valid `ucred`. The descriptor is open because it is borrowed.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut cred).cast(),
            &raw mut len,
        )
    };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    if len != wanted {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    Ok(PeerCredentials {
        uid: cred.uid,
        pid: u32::try_from(cred.pid).ok().filter(|&pid| pid != 0),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A descriptor that was sent works on the other side and is closed on exec.
    #[test]
    fn a_descriptor_crosses_and_is_close_on_exec() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut near, far) = UnixStream::pair().unwrap();
        assert_eq!(send(a.as_fd(), b"x", &[far.as_fd()]).unwrap(), 1);
        drop(far);
        let (mut buf, mut fds) = ([0; 8], Vec::new());
        assert_eq!(recv(b.as_fd(), &mut buf, &mut fds).unwrap(), 1);
        let fd = fds.pop().unwrap();
        assert!(fds.is_empty());
        let flags = rustix::io::fcntl_getfd(&fd).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        UnixStream::from(fd).write_all(b"hello").unwrap();
        let mut text = String::new();
        near.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    /// More descriptors than allowed are refused before anything is sent.
    #[test]
    fn too_many_descriptors_are_refused() {
        let (a, b) = UnixStream::pair().unwrap();
        let many = vec![a.as_fd(); MAX_FDS + 1];
        let error = send(a.as_fd(), b"x", &many).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let error = recv(b.as_fd(), &mut [0; 8], &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(send(a.as_fd(), b"x", &many[..MAX_FDS]).unwrap(), 1);
        let mut fds = Vec::new();
        recv(b.as_fd(), &mut [0; 8], &mut fds).unwrap();
        assert_eq!(fds.len(), MAX_FDS);
    }

    /// Sending to a closed peer is an error, not a signal.
    #[test]
    fn a_closed_peer_is_an_error() {
        let (a, b) = UnixStream::pair().unwrap();
        drop(b);
        let error = send(a.as_fd(), b"x", &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(recv(a.as_fd(), &mut [0; 8], &mut Vec::new()).unwrap(), 0);
    }

    /// The peer of a socket pair is this process.
    #[test]
    fn the_peer_of_a_pair_is_ourselves() {
        let (a, _b) = UnixStream::pair().unwrap();
        let peer = peer_credentials(a.as_fd()).unwrap();
        assert_eq!(peer.uid, rustix::process::getuid().as_raw());
        assert_eq!(peer.pid, Some(std::process::id()));
    }
}

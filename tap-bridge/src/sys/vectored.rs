//! Reads and writes of one frame that lies in three places: the device's header and the frame's head in private memory, its
//! tail in shared memory. What is read has a fourth, which tells that the frame was longer than all of them.
//!
//! Decides nothing. Source: readv(2), writev(2). Cost: one system call.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::io::Errno;

use super::shm::{Stretch, StretchMut};

pub(super) fn entry(start: *const u8, len: usize) -> libc::iovec {
    libc::iovec {
        iov_base: start.cast_mut().cast(),
        iov_len: len,
    }
}

/// What a call returned, or the error that it left in errno.
pub(super) fn outcome(returned: libc::ssize_t) -> Result<usize, Errno> {
    usize::try_from(returned).map_err(|_| {
        let error = std::io::Error::last_os_error();
        Errno::from_io_error(&error).unwrap_or(Errno::IO)
    })
}

/// Reads into `header`, then `head`, then `tail`, then `beyond`, and returns how many bytes came.
///
/// # Errors
/// What readv(2) says; never EINTR.
#[expect(
    clippy::needless_pass_by_value,
    reason = "who hands out a stretch to be written has no use for it meanwhile"
)]
pub fn read(
    fd: BorrowedFd<'_>,
    header: &mut [u8],
    head: &mut [u8],
    tail: Option<StretchMut<'_>>,
    beyond: &mut [u8],
) -> Result<usize, Errno> {
    let mut parts = [
        entry(header.as_mut_ptr(), header.len()),
        entry(head.as_mut_ptr(), head.len()),
        entry(std::ptr::null(), 0),
        entry(beyond.as_mut_ptr(), beyond.len()),
    ];
    if let Some(tail) = &tail {
        parts[2] = entry(tail.start.as_ptr(), tail.len);
    }
    loop {
        // SAFETY: the array has four entries. All but the third are exclusively borrowed slices with their lengths; the third
        // is empty, or memory mapped to be written that stays mapped for as long as `tail` borrows its mapping and that is
        // only ever accessed by atomic operations and system calls. The descriptor is open because it is borrowed.
        let returned = unsafe { libc::readv(fd.as_raw_fd(), parts.as_ptr(), 4) };
        match outcome(returned) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Writes `header`, then `head`, then `tail`, and returns how many bytes were taken.
///
/// # Errors
/// What writev(2) says; never EINTR.
pub fn write(
    fd: BorrowedFd<'_>,
    header: &[u8],
    head: &[u8],
    tail: Option<Stretch<'_>>,
) -> Result<usize, Errno> {
    let mut parts = [
        entry(header.as_ptr(), header.len()),
        entry(head.as_ptr(), head.len()),
        entry(std::ptr::null(), 0),
    ];
    if let Some(tail) = tail {
        parts[2] = entry(tail.start.as_ptr(), tail.len);
    }
    loop {
        // SAFETY: the array has three entries. The first two are borrowed slices with their lengths; the third is empty, or
        // mapped memory that stays mapped for as long as `tail` borrows its mapping. The kernel only reads. The descriptor
        // is open because it is borrowed.
        let returned = unsafe { libc::writev(fd.as_raw_fd(), parts.as_ptr(), 3) };
        match outcome(returned) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::sys::shm::{WriteMapping, create};

    #[test]
    fn a_frame_is_gathered_from_and_scattered_to_its_places() {
        let (near, far) = UnixDatagram::pair().unwrap();
        far.set_nonblocking(true).unwrap();
        let memory = WriteMapping::new(create("podwire-test", 512).unwrap(), 512).unwrap();
        let (mut header, mut head) = ([0; 2], [0; 3]);
        near.send(b"vvhhhtail").unwrap();
        let tail = memory.stretch_mut(8, 100);
        let mut beyond = [0];
        let read_all = read(far.as_fd(), &mut header, &mut head, tail, &mut beyond);
        assert_eq!((read_all, beyond), (Ok(9), [0]));
        assert_eq!((&header, &head), (b"vv", b"hhh"));
        let word = memory.cells()[1].load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(&word.to_ne_bytes()[..5], b"tail\0");
        near.send(b"vvhhhtail").unwrap();
        let cut = read(far.as_fd(), &mut header, &mut head, None, &mut beyond);
        assert_eq!((cut, &beyond), (Ok(6), b"t"));
        let nothing = read(far.as_fd(), &mut header, &mut head, None, &mut beyond);
        assert_eq!(nothing, Err(Errno::AGAIN));
        let sent = write(far.as_fd(), b"VV", b"HHH", memory.stretch(9, 3));
        assert_eq!(sent, Ok(8));
        let mut buffer = [0; 20];
        let len = near.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"VVHHHail");
        assert_eq!(write(far.as_fd(), b"", b"x", None), Ok(1));
    }
}

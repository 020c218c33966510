//! epoll with deadlines of less than a millisecond.
//!
//! Decides nothing about what an event means. Every descriptor is watched for edges: an event is told once, and the caller
//! reads until it would block. Why not the library that the hub uses: its waits are whole milliseconds, and a delayed
//! frame has to leave to 100 us.
//!
//! Source: epoll(7), epoll_pwait2 of epoll_wait(2) (Linux 5.11; older kernels wait whole milliseconds, rounded up).
//! Cost: one system call a wait.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::epoll;
use rustix::io::Errno;

use super::eventfd::Doorbell;

/// Set when the kernel turned out to have no epoll_pwait2.
static WHOLE_MILLISECONDS: AtomicBool = AtomicBool::new(false);

/// Ends the wait of an [`Epoll`] on which it was registered, from any thread.
#[derive(Debug)]
pub struct Waker {
    bell: Doorbell,
}

impl Waker {
    /// A waker for `epoll`, which reports it as `token`.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub fn new(epoll: &Epoll, token: u64) -> io::Result<Self> {
        let bell = Doorbell::new()?;
        epoll.add(bell.as_fd(), token, true, false)?;
        Ok(Self { bell })
    }

    /// Wakes whoever waits, or who waits next.
    ///
    /// # Errors
    /// None that a caller could cause.
    pub fn wake(&self) -> io::Result<()> {
        self.bell.ring()
    }
}

/// A set of watched descriptors.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
}

/// Where a wait puts its events: the tokens of descriptors that something happened to.
pub struct Events {
    buffer: Box<[libc::epoll_event]>,
    len: usize,
}

impl Events {
    /// Room for so many in one wait.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let none = libc::epoll_event { events: 0, u64: 0 };
        Self {
            buffer: vec![none; capacity].into(),
            len: 0,
        }
    }

    /// The token of event `n` of the last wait; none behind its last.
    #[must_use]
    pub fn token(&self, n: usize) -> Option<u64> {
        self.buffer.get(..self.len)?.get(n).map(|event| event.u64)
    }

    /// Number of events of the last wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when nothing has happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl Epoll {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub fn new() -> io::Result<Self> {
        let fd = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { fd })
    }

    /// Watches `fd` for becoming readable, writable, or both, and for its peer's close; reports `token`.
    ///
    /// # Errors
    /// EEXIST when it is watched already, EPERM when it can't be.
    pub fn add(
        &self,
        fd: BorrowedFd<'_>,
        token: u64,
        readable: bool,
        writable: bool,
    ) -> io::Result<()> {
        let mut flags = epoll::EventFlags::ET;
        if readable {
            flags |= epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
        }
        if writable {
            flags |= epoll::EventFlags::OUT;
        }
        let data = epoll::EventData::new_u64(token);
        Ok(epoll::add(&self.fd, fd, data, flags)?)
    }

    /// Ends what [`Epoll::add`] began. Needed before a descriptor is closed of which a duplicate lives on elsewhere.
    ///
    /// # Errors
    /// ENOENT when it isn't watched.
    pub fn delete(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::delete(&self.fd, fd)?)
    }

    /// Waits for an event, for `limit` at most (none: for ever). A signal ends it without any.
    ///
    /// # Errors
    /// None that a watched descriptor could cause.
    pub fn wait(&self, events: &mut Events, limit: Option<Duration>) -> io::Result<()> {
        events.len = 0;
        let returned = if WHOLE_MILLISECONDS.load(Ordering::Relaxed) {
            self.wait_milliseconds(events, limit)
        } else {
            match self.wait_exactly(events, limit) {
                Err(Errno::NOSYS) => {
                    WHOLE_MILLISECONDS.store(true, Ordering::Relaxed);
                    self.wait_milliseconds(events, limit)
                }
                other => other,
            }
        };
        match returned {
            Ok(len) => events.len = len.min(events.buffer.len()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    fn wait_exactly(&self, events: &mut Events, limit: Option<Duration>) -> Result<usize, Errno> {
        let limit = limit.map(|limit| libc::timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let timeout = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: epoll_pwait2 writes at most as many events as it is told there is room for behind the pointer, both of one
        // exclusively borrowed slice; any bit pattern is a valid epoll_event. `timeout` is null or points to a timespec
        // that outlives the call. A null signal mask leaves signals as they are, and its size is not looked at.
        let returned = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                events.buffer.as_mut_ptr(),
                events.room(),
                timeout,
                std::ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        usize::try_from(returned).map_err(|_| last_error())
    }

    fn wait_milliseconds(
        &self,
        events: &mut Events,
        limit: Option<Duration>,
    ) -> Result<usize, Errno> {
        let limit = limit.map_or(-1, |limit| {
            let whole = limit.as_nanos().div_ceil(1_000_000);
            whole.try_into().unwrap_or(libc::c_int::MAX)
        });
        // SAFETY: epoll_wait writes at most as many events as it is told there is room for behind the pointer, both of one
        // exclusively borrowed slice; any bit pattern is a valid epoll_event.
        let returned = unsafe {
            libc::epoll_wait(
                self.fd.as_raw_fd(),
                events.buffer.as_mut_ptr(),
                events.room(),
                limit,
            )
        };
        usize::try_from(returned).map_err(|_| last_error())
    }
}

impl Events {
    fn room(&self) -> libc::c_int {
        self.buffer.len().try_into().unwrap_or(libc::c_int::MAX)
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::sys::clock::monotonic;

    type Wait = fn(&Epoll, &mut Events, Option<Duration>) -> Result<usize, Errno>;

    #[test]
    fn an_event_is_told_once_whichever_call_waits() {
        for wait in [Epoll::wait_exactly as Wait, Epoll::wait_milliseconds] {
            let epoll = Epoll::new().unwrap();
            let mut events = Events::with_capacity(4);
            let (mut near, far) = UnixStream::pair().unwrap();
            epoll.add(far.as_fd(), 7, true, false).unwrap();
            let waker = Waker::new(&epoll, u64::MAX).unwrap();
            let now = Some(Duration::ZERO);
            assert_eq!(wait(&epoll, &mut events, now), Ok(0));
            near.write_all(b"x").unwrap();
            waker.wake().unwrap();
            events.len = wait(&epoll, &mut events, None).unwrap();
            let mut tokens: Vec<_> = (0..events.len()).map(|n| events.token(n)).collect();
            tokens.sort_unstable();
            assert_eq!(tokens, [Some(7), Some(u64::MAX)]);
            assert_eq!(events.token(2), None);
            assert_eq!(wait(&epoll, &mut events, now), Ok(0));
            waker.wake().unwrap();
            assert_eq!(wait(&epoll, &mut events, None), Ok(1));
            epoll.delete(far.as_fd()).unwrap();
            near.write_all(b"x").unwrap();
            assert_eq!(wait(&epoll, &mut events, now), Ok(0));
        }
    }

    #[test]
    fn a_wait_without_events_lasts_as_long_as_it_was_told() {
        let epoll = Epoll::new().unwrap();
        let mut events = Events::with_capacity(1);
        for limit in [Duration::from_micros(100), Duration::from_millis(2)] {
            let start = monotonic();
            epoll.wait(&mut events, Some(limit)).unwrap();
            assert!(monotonic().since(start) >= limit);
            assert!(events.is_empty());
        }
    }
}

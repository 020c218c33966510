//! TCP ports of this machine that lead into a pod, in the way of `kubectl port-forward`.
//!
//! Decides where the two ends are: listeners on the loopback of the machine, connections to 127.0.0.1 inside the pod, so that programs
//! that listen there only are reached, too. A socket stays in the network namespace that it was made in: the listeners are made first,
//! then the process moves into the pod's namespace, and what it makes from then on is the pod's. No packet of it is seen by the
//! routers. Cost: two threads a connection, and no copy in user space (the standard library splices).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use tap_bridge::sys::netns::{Namespace, enter};

use super::Client;
use super::enter::{EnterError, namespaces};
use crate::control::proto::Target;

/// Connections at once; more are closed with a word.
const MAX_CONNECTIONS: usize = 512;

/// How long a connection inside the pod may take. It is local: only a full backlog takes time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A port of this machine and one of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Here; 0 is any that is free.
    pub local: u16,
    /// In the pod.
    pub remote: u16,
}

/// A pair with its listeners.
#[derive(Debug)]
pub struct Listening {
    /// The port here is the one that was found.
    pub pair: Pair,
    listeners: Vec<TcpListener>,
}

impl Listening {
    /// Listens on 127.0.0.1, and on ::1 where there is one.
    ///
    /// # Errors
    /// Address and reason, when not even one of them can be had.
    pub fn open(pair: Pair) -> Result<Self, Vec<(SocketAddr, io::Error)>> {
        let mut pair = pair;
        let mut listeners = Vec::new();
        let mut errors = Vec::new();
        for address in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            let address = SocketAddr::new(address, pair.local);
            let opened = TcpListener::bind(address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                let port = listener.local_addr()?.port();
                Ok((listener, port))
            });
            match opened {
                Ok((listener, port)) => {
                    pair.local = port;
                    listeners.push(listener);
                }
                Err(error) => errors.push((address, error)),
            }
        }
        if listeners.is_empty() {
            return Err(errors);
        }
        Ok(Self { pair, listeners })
    }

    /// Where it listens.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let listeners = self.listeners.iter();
        listeners.filter_map(|listener| listener.local_addr().ok())
    }
}

/// How forwarding ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By a signal.
    Interrupted,
    /// The lab or the pod is gone.
    Lost,
}

/// Moves the whole calling process into the network namespace of `target`; it must have one thread only.
///
/// # Errors
/// [`EnterError`].
pub fn move_into(client: &mut Client, target: Target) -> Result<(), EnterError> {
    let (order, _, fds) = namespaces(client, target)?;
    // In the lab's user namespace, if it has one, this process may enter the other.
    let wanted = [Namespace::User, Namespace::Net];
    for (kind, fd) in order
        .iter()
        .zip(&fds)
        .filter(|(kind, _)| wanted.contains(kind))
    {
        enter(fd.as_fd(), *kind).map_err(|source| EnterError::Namespace {
            kind: kind.name(),
            source,
        })?;
    }
    Ok(())
}

/// Signals that end forwarding, from now on.
#[derive(Debug)]
pub struct Stop(UnixStream);

impl Stop {
    /// # Errors
    /// What pipe and sigaction say.
    pub fn on_signals() -> io::Result<Self> {
        let (stop, on_int) = UnixStream::pair()?;
        let on_term = on_int.try_clone()?;
        pipe::register(SIGINT, on_int)?;
        pipe::register(SIGTERM, on_term)?;
        Ok(Self(stop))
    }
}

impl AsFd for Stop {
    /// Readable when a signal has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What is said while it goes on.
pub trait Talk: Send + Sync + 'static {
    /// Somebody has connected to the pair's port.
    fn connected(&self, pair: Pair);
    /// And does not get to the pod.
    fn failed(&self, pair: Pair, error: &io::Error);
}

/// Forwards until a signal comes, the daemon goes, or a connection fails and `is_there` says that the pod has gone.
///
/// # Errors
/// What poll(2) says.
pub fn run(
    listening: &[Listening],
    client: &mut Client,
    stop: &Stop,
    talk: &Arc<impl Talk>,
    is_there: impl Fn(&mut Client) -> bool,
) -> io::Result<End> {
    let (failures, on_failure) = UnixStream::pair()?;
    failures.set_nonblocking(true)?;
    let on_failure = Arc::new(on_failure);
    let active = Arc::new(AtomicUsize::new(0));
    let all: Vec<(Pair, &TcpListener)> = listening
        .iter()
        .flat_map(|it| it.listeners.iter().map(|listener| (it.pair, listener)))
        .collect();
    loop {
        let sockets = all.iter().map(|(_, listener)| listener.as_fd());
        let first = [stop.0.as_fd(), client.connection.as_fd(), failures.as_fd()];
        let woken = wait(first.into_iter().chain(sockets))?;
        let [stopped, lost, failed, ready @ ..] = &woken[..] else {
            continue;
        };
        if *stopped {
            return Ok(End::Interrupted);
        }
        // Nobody has asked the daemon for anything: it has closed the connection.
        if *lost || (*failed && !is_there(client)) {
            return Ok(End::Lost);
        }
        if *failed {
            while matches!(io::Read::read(&mut &failures, &mut [0; 64]), Ok(n) if n > 0) {}
        }
        for ((pair, listener), _) in all.iter().zip(ready).filter(|it| *it.1) {
            // Whoever has gone again meanwhile is nobody's concern.
            let Ok((here, _)) = listener.accept() else {
                continue;
            };
            talk.connected(*pair);
            let place = Place::take(&active);
            let (talk, on_failure, pair) = (talk.clone(), on_failure.clone(), *pair);
            let served = thread::Builder::new().stack_size(128 << 10).spawn(move || {
                let served = place
                    .ok_or_else(|| io::Error::other("too many connections at once"))
                    .and_then(|place| serve(&here, pair.remote).map(|()| drop(place)));
                if let Err(error) = served {
                    talk.failed(pair, &error);
                    // A full socket has woken its reader before.
                    let _ = io::Write::write(&mut &*on_failure, &[0]);
                }
            });
            if let Err(error) = served {
                tracing::debug!("a connection can't be served: {error}");
            }
        }
    }
}

/// Which of these have something to read, or have been closed.
fn wait<'f>(fds: impl Iterator<Item = BorrowedFd<'f>>) -> io::Result<Vec<bool>> {
    let mut fds: Vec<PollFd<'_>> = fds
        .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
        .collect();
    match poll(&mut fds, None) {
        Ok(_) => Ok(fds.iter().map(|fd| !fd.revents().is_empty()).collect()),
        Err(Errno::INTR) => Ok(vec![false; fds.len()]),
        Err(errno) => Err(errno.into()),
    }
}

/// One of the connections that there may be.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(active: &Arc<AtomicUsize>) -> Option<Self> {
        let taken = active.fetch_add(1, Ordering::Relaxed);
        let place = Self(active.clone());
        (taken < MAX_CONNECTIONS).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Connects to the pod's port and carries bytes both ways until both have ended. How they end is the two programs' affair.
fn serve(here: &TcpStream, port: u16) -> io::Result<()> {
    // Accepted sockets do not inherit it on Linux; another kernel may see that differently.
    here.set_nonblocking(false)?;
    let there = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let there = TcpStream::connect_timeout(&there, CONNECT_TIMEOUT)?;
    thread::scope(|scope| {
        let other = thread::Builder::new()
            .stack_size(128 << 10)
            .spawn_scoped(scope, || carry(&there, here))?;
        carry(here, &there);
        let _ = other.join();
        Ok(())
    })
}

fn carry(mut from: &TcpStream, mut to: &TcpStream) {
    let reset = io::copy(&mut from, &mut to).is_err();
    let _ = to.shutdown(if reset {
        Shutdown::Both
    } else {
        Shutdown::Write
    });
    if reset {
        let _ = from.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    /// A port that somebody has is refused, with its address; any free one is found, and is the same for both families.
    #[test]
    fn a_taken_port_is_told_and_a_free_one_found() {
        let any = Pair {
            local: 0,
            remote: 80,
        };
        let first = Listening::open(any).unwrap();
        assert_ne!(first.pair.local, 0);
        assert!(first.addresses().all(|at| at.port() == first.pair.local));
        let errors = Listening::open(first.pair).unwrap_err();
        assert_eq!(errors[0].0.port(), first.pair.local);
        assert_eq!(errors[0].1.kind(), io::ErrorKind::AddrInUse);
    }

    /// Bytes go both ways, and the end of one direction is no end of the other.
    #[test]
    fn the_end_of_a_direction_is_passed_on() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        let front = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let front_at = front.local_addr().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let (here, _) = front.accept().unwrap();
                serve(&here, port).unwrap();
            });
            scope.spawn(|| {
                let (mut peer, _) = server.accept().unwrap();
                let mut question = String::new();
                peer.read_to_string(&mut question).unwrap();
                write!(peer, "{question} to you").unwrap();
            });
            let mut client = TcpStream::connect(front_at).unwrap();
            client.write_all(b"good day").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "good day to you");
        });
    }
}

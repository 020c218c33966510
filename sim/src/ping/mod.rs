//! Ping without any tool installed: one pair as iputils prints it, or every pair at once.
//!
//! Speaks over [`Channel`]s that the daemon hands out: a raw socket made inside a namespace, or a socket to the network
//! stack in a node process. Decides when to send and what an answer means; doesn't decide who pings whom. Each channel
//! has an ICMP identifier of its own, so that pingers that share a namespace don't take each other's answers.
//! Everything waits in one poll with a deadline. Source: RFC 792, iputils ping.

mod channel;
mod matrix;
pub mod packet;
mod session;
pub mod stats;

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub use channel::Channel;
pub use matrix::{MatrixOptions, Outcome, Probe, matrix, probe_all};
pub use stats::Statistics;

use channel::{MAX_PACKET, Sent};
use session::{Due, Line, Session};

/// What happens with requests longer than the path's MTU (`-M`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathMtu {
    /// `do`: never cut them; DF is set.
    Do,
    /// `want`: discover the path's MTU, cut locally.
    #[default]
    Want,
    /// `dont`: DF is clear.
    Dont,
}

/// Options of a ping, with iputils' defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `-c`: so many requests; none goes on until stopped.
    pub count: Option<u32>,
    /// `-i`: time between two requests, 1 ms at least.
    pub interval: Duration,
    /// `-s`: bytes of payload, at most [`packet::MAX_PAYLOAD`].
    pub size: usize,
    /// `-t`: TTL of the requests.
    pub ttl: u8,
    /// `-M`
    pub path_mtu: PathMtu,
    /// `-W`: patience after the last request when nothing has been answered at all.
    pub timeout: Duration,
    /// `-w`: end in any case after this time.
    pub deadline: Option<Duration>,
    /// `-q`: print first line and statistics only.
    pub quiet: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            count: None,
            interval: Duration::from_secs(1),
            size: 56,
            ttl: 64,
            path_mtu: PathMtu::Want,
            timeout: Duration::from_secs(10),
            deadline: None,
            quiet: false,
        }
    }
}

/// Pings `dst`, called `name` in the first and last lines, and prints as iputils does: to `out` what it prints on stdout,
/// to `err` local errors. Ends early, with statistics, when `stop` becomes readable.
///
/// # Errors
/// When the channel fails (the node or pod is gone) or `out` or `err` can't be written. That no answer comes is not an
/// error: see the statistics.
pub fn ping(
    channel: &Channel,
    name: &str,
    dst: Ipv4Addr,
    options: &Options,
    stop: Option<BorrowedFd<'_>>,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<Statistics> {
    channel.configure(options.ttl, options.path_mtu)?;
    let id = random_id()?;
    let source = channel.source();
    let mut session = Session::new(name, dst, source, options, id, Instant::now());
    let mut buf = vec![0; MAX_PACKET];
    writeln!(out, "{}", session.header())?;
    loop {
        let mut full = false;
        while let Some(packet) = channel.recv(&mut buf)? {
            let line = session.heard(Instant::now(), packet);
            print(line, options.quiet, out, err)?;
        }
        let until = match session.due(Instant::now()) {
            Due::Finished => break,
            Due::Listen(until) => until,
            Due::Send => {
                let message = session.request();
                let now = Instant::now();
                let line = match channel.send(dst, options.ttl, options.path_mtu, &message) {
                    Sent::Yes => {
                        session.sent(now);
                        None
                    }
                    Sent::Full => {
                        full = true;
                        None
                    }
                    Sent::TooLong(mtu) => Some(session.too_long(now, mtu)),
                    Sent::Refused(error) => Some(session.refused(now, &error.to_string())),
                };
                print(line, options.quiet, out, err)?;
                // When it is full: long enough for the far end to take something, and the deadline is looked at again.
                now + if full {
                    Duration::from_millis(10)
                } else {
                    Duration::ZERO
                }
            }
        };
        out.flush()?;
        if wait(channel, stop, full, until)? {
            break;
        }
    }
    write!(out, "{}", session.footer())?;
    out.flush()?;
    Ok(session.into_statistics())
}

fn print(
    line: Option<Line>,
    quiet: bool,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<()> {
    match line {
        Some(Line::Out(text)) if !quiet => writeln!(out, "{text}"),
        Some(Line::Err(text)) => writeln!(err, "{text}"),
        _ => Ok(()),
    }
}

/// Waits for something to happen. True when it was the wish to stop.
fn wait(
    channel: &Channel,
    stop: Option<BorrowedFd<'_>>,
    writable: bool,
    until: Instant,
) -> io::Result<bool> {
    let left = until.saturating_duration_since(Instant::now());
    let events = if writable {
        PollFlags::IN | PollFlags::OUT
    } else {
        PollFlags::IN
    };
    let mut fds = vec![PollFd::new(channel, events)];
    if let Some(stop) = &stop {
        fds.push(PollFd::new(stop, PollFlags::IN));
    }
    poll_fds(&mut fds, left)?;
    Ok(fds.get(1).is_some_and(|stop| !stop.revents().is_empty()))
}

/// poll(2); a signal counts as nothing having happened.
fn poll_fds(fds: &mut [PollFd<'_>], wait: Duration) -> io::Result<usize> {
    let wait = Timespec::try_from(wait).map_err(io::Error::other)?;
    match poll(fds, Some(&wait)) {
        Ok(n) => Ok(n),
        Err(rustix::io::Errno::INTR) => Ok(0),
        Err(errno) => Err(errno.into()),
    }
}

/// An ICMP identifier.
fn random_id() -> io::Result<u16> {
    let mut bytes = [0; 2];
    // Two bytes are never cut short.
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
    Ok(u16::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests;

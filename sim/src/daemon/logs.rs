//! The lab's logs: what the daemon, node processes and pods' programs write, in memory.
//!
//! Decides how much is kept ([`KEPT`] bytes of each source, the newest) and that nothing is written to disk. One thread reads
//! all pipes; a source that writes faster than that waits, as it would for any pipe. Cost: one descriptor for each running
//! writer.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::control::proto::LogSource;

/// Bytes that are kept of one source.
pub const KEPT: usize = 256 << 10;

/// What one source has written.
#[derive(Debug, Default)]
struct Ring {
    bytes: VecDeque<u8>,
    /// Bytes ever written.
    written: u64,
}

impl Ring {
    fn push(&mut self, bytes: &[u8]) {
        self.written += bytes.len() as u64;
        let bytes = &bytes[bytes.len().saturating_sub(KEPT)..];
        let surplus = (self.bytes.len() + bytes.len()).saturating_sub(KEPT);
        self.bytes.drain(..surplus);
        self.bytes.extend(bytes);
    }

    /// Everything since position `from` that is still kept.
    fn since(&self, from: u64) -> Vec<u8> {
        let wanted = usize::try_from(self.written.saturating_sub(from)).unwrap_or(usize::MAX);
        let skip = self.bytes.len().saturating_sub(wanted);
        self.bytes.iter().skip(skip).copied().collect()
    }
}

/// A writer's pipe.
#[derive(Debug)]
struct Source {
    key: String,
    pipe: File,
}

/// All logs of a lab.
#[derive(Debug)]
pub struct Logs {
    rings: Mutex<HashMap<String, Ring>>,
    grown: Condvar,
    sources: Mutex<(usize, HashMap<Token, Source>)>,
    registry: Registry,
}

/// Name of a source in the maps.
#[must_use]
pub fn key(source: &LogSource) -> String {
    match source {
        LogSource::Daemon => "daemon".to_owned(),
        LogSource::Node { name } => format!("node/{name}"),
        LogSource::Pod { namespace, name } => format!("pod/{namespace}/{name}"),
    }
}

impl Logs {
    /// Empty logs, and the thread that reads the pipes.
    ///
    /// # Errors
    /// What epoll or the thread's creation says.
    pub fn start() -> io::Result<Arc<Self>> {
        let poll = Poll::new()?;
        let logs = Arc::new(Self {
            rings: Mutex::default(),
            grown: Condvar::new(),
            sources: Mutex::default(),
            registry: poll.registry().try_clone()?,
        });
        let collector = Arc::clone(&logs);
        std::thread::Builder::new()
            .name("logs".into())
            .stack_size(256 << 10)
            .spawn(move || collector.collect(poll))?;
        Ok(logs)
    }

    fn rings(&self) -> MutexGuard<'_, HashMap<String, Ring>> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pipe whose reader appends to the log of `key`. It is dropped when every copy of the returned end is closed.
    ///
    /// # Errors
    /// What pipe2(2) or epoll says.
    pub fn pipe(&self, key: &str) -> io::Result<OwnedFd> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let token = Token(sources.0);
        sources.0 += 1;
        self.registry.register(
            &mut SourceFd(&reader.as_raw_fd()),
            token,
            Interest::READABLE,
        )?;
        let source = Source {
            key: key.to_owned(),
            pipe: reader.into(),
        };
        sources.1.insert(token, source);
        Ok(writer)
    }

    /// Appends to the log of `key`.
    pub fn append(&self, key: &str, bytes: &[u8]) {
        self.rings().entry(key.to_owned()).or_default().push(bytes);
        self.grown.notify_all();
    }

    /// Forgets the log of `key`.
    pub fn remove(&self, key: &str) {
        self.rings().remove(key);
    }

    /// The last `lines` lines (or all that is kept), and the position behind them.
    #[must_use]
    pub fn tail(&self, key: &str, lines: Option<usize>) -> (String, u64) {
        let rings = self.rings();
        let Some(ring) = rings.get(key) else {
            return (String::new(), 0);
        };
        let bytes = ring.since(0);
        let position = ring.written;
        drop(rings);
        let start = lines.map_or(0, |lines| start_of_last(&bytes, lines));
        (
            String::from_utf8_lossy(&bytes[start..]).into_owned(),
            position,
        )
    }

    /// What was written after `position`, waiting up to `timeout` for something, and the new position.
    #[must_use]
    pub fn more(&self, key: &str, position: u64, timeout: Duration) -> (String, u64) {
        let rings = self.rings();
        let unchanged = |rings: &mut HashMap<String, Ring>| {
            rings.get(key).is_none_or(|ring| ring.written == position)
        };
        let (rings, _) = self
            .grown
            .wait_timeout_while(rings, timeout, unchanged)
            .unwrap_or_else(PoisonError::into_inner);
        match rings.get(key) {
            // A pod of that name was deleted and made again.
            Some(ring) if ring.written < position => (
                String::from_utf8_lossy(&ring.since(0)).into_owned(),
                ring.written,
            ),
            Some(ring) => (
                String::from_utf8_lossy(&ring.since(position)).into_owned(),
                ring.written,
            ),
            None => (String::new(), position),
        }
    }

    /// Body of the reading thread.
    fn collect(&self, mut poll: Poll) {
        let mut events = Events::with_capacity(128);
        let mut buf = vec![0; 16 << 10];
        loop {
            if let Err(error) = poll.poll(&mut events, None) {
                if error.kind() != io::ErrorKind::Interrupted {
                    // Without epoll there is nothing left to do; writers then see a closed pipe.
                    return;
                }
                continue;
            }
            for event in &events {
                self.drain(event.token(), &mut buf);
            }
        }
    }

    /// Reads one pipe until it is empty; drops it at its end.
    fn drain(&self, token: Token, buf: &mut [u8]) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(source) = sources.1.get_mut(&token) else {
            return;
        };
        loop {
            match source.pipe.read(buf) {
                Ok(0) => break,
                Ok(n) => self.append(&source.key, &buf[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        sources.1.remove(&token);
    }
}

/// Where the last `lines` lines begin.
fn start_of_last(bytes: &[u8], lines: usize) -> usize {
    if lines == 0 {
        return bytes.len();
    }
    let end = bytes.len() - usize::from(bytes.last() == Some(&b'\n'));
    bytes[..end]
        .iter()
        .enumerate()
        .rev()
        .filter(|&(_, &b)| b == b'\n')
        .nth(lines - 1)
        .map_or(0, |(at, _)| at + 1)
}

/// Where the daemon's own tracing goes.
#[derive(Clone, Debug)]
pub struct DaemonLog(pub Arc<Logs>);

impl Write for DaemonLog {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.append("daemon", buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives a descriptor a second owner.
///
/// # Errors
/// At the limit of open files.
pub fn duplicate(fd: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(fcntl_dupfd_cloexec(fd, 3)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_for(logs: &Logs, key: &str, wanted: &str) {
        let (mut text, mut position) = logs.tail(key, None);
        while text != wanted {
            let (more, now) = logs.more(key, position, Duration::from_secs(10));
            assert!(!more.is_empty(), "{text:?} instead of {wanted:?}");
            text += &more;
            position = now;
        }
    }

    /// What goes into a pipe comes out of the log, and of no other.
    #[test]
    fn pipes_end_in_their_own_log() {
        let logs = Logs::start().unwrap();
        let mut a: File = logs.pipe("a").unwrap().into();
        let mut b: File = logs.pipe("b").unwrap().into();
        writeln!(a, "one").unwrap();
        writeln!(b, "two").unwrap();
        wait_for(&logs, "a", "one\n");
        wait_for(&logs, "b", "two\n");
        drop(a);
        let mut again: File = logs.pipe("a").unwrap().into();
        writeln!(again, "three").unwrap();
        wait_for(&logs, "a", "one\nthree\n");
        logs.remove("a");
        assert_eq!(logs.tail("a", None).0, "");
    }

    /// Only the newest bytes are kept, and a reader that fell behind goes on with the oldest of them.
    #[test]
    fn the_oldest_bytes_give_way() {
        let mut ring = Ring::default();
        ring.push(&vec![b'a'; KEPT]);
        ring.push(b"bcd");
        assert_eq!(ring.bytes.len(), KEPT);
        assert_eq!(ring.since(ring.written - 4), b"abcd");
        assert_eq!(ring.since(0).len(), KEPT);
        ring.push(&vec![b'x'; 2 * KEPT]);
        assert!(ring.since(0).iter().all(|&b| b == b'x'));
        assert_eq!(ring.written, 3 * KEPT as u64 + 3);
    }

    /// `--tail N` counts lines as tail(1) does.
    #[test]
    fn the_last_lines_are_whole() {
        let text = b"a\nb\nc\n";
        assert_eq!(&text[start_of_last(text, 1)..], b"c\n");
        assert_eq!(&text[start_of_last(text, 2)..], b"b\nc\n");
        assert_eq!(start_of_last(text, 9), 0);
        assert_eq!(start_of_last(text, 0), text.len());
        assert_eq!(&b"a\nbc"[start_of_last(b"a\nbc", 1)..], b"bc");
    }
}

//! The body of a node process: its workers and one control socket.
//!
//! Decides nothing: it carries out what the daemon says ([`control::node`](crate::control::node)) and moves frames. It
//! doesn't end for anything that arrives on a port, and refuses what it can't do; it ends when the daemon says so or
//! the control socket closes, with which everything that it owns goes. The thread of the control socket is the first worker's.
//! Logs to stderr.

mod capture;
mod crew;
mod device;
mod impair;
mod merge;
mod worker;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;

use rustix::net::{SendFlags, send};
use tap_bridge::event_loop::{Interest, Token};
use tap_bridge::sys::spawn::{adopt, set_command_name};
use tracing_subscriber::EnvFilter;

use self::crew::Crew;
use super::Role;
use crate::control::codec::{CodecError, Decoder, encode};
use crate::control::node::{NodeRequest, Numbered};

/// Bytes of answers that may wait for the daemon before no more requests are read.
const MAX_UNSENT: usize = 1 << 20;

/// The hidden command.
pub const NODE_COMMAND: &str = "__node";

const CONTROL: Token = Token(0);

/// What the hidden command `__node` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeArgs {
    /// What it is.
    pub role: Role,
    /// Name of the node, for the log.
    pub name: String,
    /// Number of the inherited control socket.
    pub control_fd: i32,
    /// Number of workers, at least 1.
    pub workers: usize,
    /// Connections that it may have at a time.
    pub connections: u32,
}

impl NodeArgs {
    /// The words behind the program's name, from `__node` on.
    #[must_use]
    pub fn to_words(&self) -> Vec<OsString> {
        let fd = self.control_fd.to_string();
        let (workers, most) = (self.workers.to_string(), self.connections.to_string());
        let role = self.role.as_str();
        let words = [NODE_COMMAND, role, &self.name, &fd, &workers, &most];
        words.map(OsString::from).to_vec()
    }

    /// The reverse of [`NodeArgs::to_words`]; none for anything else.
    #[must_use]
    pub fn from_words(words: &[OsString]) -> Option<Self> {
        let words: Vec<_> = words.iter().filter_map(|w| w.to_str()).collect();
        let [NODE_COMMAND, role, name, fd, workers, most] = words[..] else {
            return None;
        };
        Some(Self {
            role: [Role::Node, Role::Internet]
                .into_iter()
                .find(|r| r.as_str() == role)?,
            name: name.to_owned(),
            control_fd: fd.parse().ok()?,
            workers: workers.parse().ok().filter(|&n| n > 0)?,
            connections: most.parse().ok()?,
        })
    }
}

/// The hidden command: the rest of the words are [`NodeArgs::to_words`]. Logs to stderr, at the level that
/// `PODWIRE_LOG` names (`info` unless said otherwise). Exit status 0 when the daemon ended it, 2 for other words, 70 for a
/// system that gives no event loop.
#[must_use]
pub fn main(words: &[OsString]) -> ExitCode {
    let Some(args) = NodeArgs::from_words(words) else {
        return ExitCode::from(2);
    };
    let filter = EnvFilter::try_from_env("PODWIRE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // Fails only when there is a logger already.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false)
        .try_init();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{} {}: {error}", args.role.as_str(), args.name);
            ExitCode::from(70)
        }
    }
}

/// Runs a node process until the daemon ends it.
///
/// # Errors
/// When the control socket was not inherited or the system gives no event loop; or when epoll fails, which nothing that
/// arrives can cause.
pub fn run(args: &NodeArgs) -> io::Result<()> {
    set_command_name(&format!("podwire-{}", args.role.as_str()));
    crew::keep_time();
    let control = adopt(args.control_fd)?;
    let process = NodeProcess::new(control, args.workers, args.connections)?;
    tracing::info!("{} {} has started", args.role.as_str(), args.name);
    process.run()
}

/// A node around its control socket.
#[derive(Debug)]
pub struct NodeProcess {
    control: OwnedFd,
    decoder: Decoder,
    unsent: VecDeque<u8>,
    ending: bool,
    crew: Crew,
}

/// Why the control loop goes no further.
enum End {
    /// The daemon closed, or said so.
    Orderly,
    /// It can't be understood.
    Broken(CodecError),
}

impl NodeProcess {
    /// A node without ports that listens on `control`, with so many workers for at most so many connections.
    ///
    /// # Errors
    /// When the system gives no event loop, no thread or no random numbers.
    pub fn new(control: OwnedFd, workers: usize, connections: u32) -> io::Result<Self> {
        let crew = Crew::new(workers, connections)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        crew.first()
            .event_loop
            .register_for(control.as_fd(), CONTROL, both)?;
        Ok(Self {
            control,
            decoder: Decoder::new(),
            unsent: VecDeque::new(),
            ending: false,
            crew,
        })
    }

    /// Serves until the control socket closes.
    ///
    /// # Errors
    /// When epoll fails.
    pub fn run(mut self) -> io::Result<()> {
        loop {
            if !self.crew.first_mut().breathe()? {
                continue;
            }
            match self.serve_control() {
                Ok(()) => {}
                Err(End::Orderly) => return Ok(()),
                Err(End::Broken(error)) => {
                    tracing::error!("control socket: {error}");
                    return Ok(());
                }
            }
        }
    }

    /// Reads and carries out everything that has arrived.
    fn serve_control(&mut self) -> Result<(), End> {
        loop {
            self.flush()?;
            if self.ending && self.unsent.is_empty() {
                return Err(End::Orderly);
            }
            if self.ending || self.unsent.len() > MAX_UNSENT {
                // Goes on when the socket becomes writable.
                return Ok(());
            }
            match self.decoder.next_frame().map_err(End::Broken)? {
                Some(frame) => {
                    // A request that can't be understood has no number to answer to.
                    let (Numbered { id, body }, fds) = frame.parse().map_err(End::Broken)?;
                    self.ending |= matches!(body, NodeRequest::Shutdown);
                    let body = self.crew.carry_out(body, fds);
                    let bytes = encode(&Numbered { id, body }, 0).map_err(End::Broken)?;
                    self.unsent.extend(bytes);
                }
                None => match self.decoder.read_from(self.control.as_fd()) {
                    Ok(()) => {}
                    Err(CodecError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                        return Ok(());
                    }
                    Err(CodecError::Closed) => return Err(End::Orderly),
                    Err(error) => return Err(End::Broken(error)),
                },
            }
        }
    }

    fn flush(&mut self) -> Result<(), End> {
        while !self.unsent.is_empty() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match send(&self.control, self.unsent.as_slices().0, flags) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(_) => return Err(End::Orderly),
            }
        }
        Ok(())
    }
}

//! The hub in a thread of its own, and the handle that steers it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use mio::{Token, Waker};
use router_core::Mac;

use super::{Hub, HubCounters};
use crate::fabric::MemberId;

/// No [`MemberId`] has it.
const WAKER: Token = Token(usize::MAX);

#[derive(Debug)]
enum Command {
    Add(MemberId, Mac, Sender<io::Result<OwnedFd>>),
    AddWorker(MemberId, MemberId, Sender<io::Result<OwnedFd>>),
    Remove(MemberId, Sender<bool>),
    Counters(Sender<HubCounters>),
    Stop,
}

#[derive(Debug)]
struct Line {
    commands: Sender<Command>,
    waker: Arc<Waker>,
}

impl Drop for Line {
    fn drop(&mut self) {
        // Both fail only when the thread has ended already.
        let _ = self.commands.send(Command::Stop);
        let _ = self.waker.wake();
    }
}

/// Steers a running hub. Calls wait for its answer, which takes microseconds. The hub ends with its last handle.
#[derive(Clone, Debug)]
pub struct HubHandle {
    line: Arc<Line>,
}

impl Hub {
    /// Starts a hub in a thread of its own. It ends when the last handle is dropped, or with the error that ended it.
    ///
    /// # Errors
    /// When the system gives no thread or descriptor.
    pub fn spawn() -> io::Result<(HubHandle, JoinHandle<io::Result<()>>)> {
        let hub = Self::new()?;
        let waker = Arc::new(Waker::new(hub.poll.registry(), WAKER)?);
        // The thread keeps the waker open: a ring of the last handle would be lost with its descriptor.
        let kept = Arc::clone(&waker);
        let (commands, received) = unbounded();
        let thread = Builder::new().name("fabric-hub".into()).spawn(move || {
            let _kept = kept;
            hub.run(&received)
        })?;
        let line = Arc::new(Line { commands, waker });
        Ok((HubHandle { line }, thread))
    }

    fn run(mut self, commands: &Receiver<Command>) -> io::Result<()> {
        loop {
            self.turn(None)?;
            // Who asked may have gone away without waiting for the answer.
            for command in commands.try_iter() {
                match command {
                    Command::Add(id, mac, reply) => {
                        let _ = reply.send(self.add_member(id, mac));
                    }
                    Command::AddWorker(id, first, reply) => {
                        let _ = reply.send(self.add_worker(id, first));
                    }
                    Command::Remove(id, reply) => {
                        let _ = reply.send(self.remove_member(id));
                    }
                    Command::Counters(reply) => {
                        let _ = reply.send(self.counters());
                    }
                    Command::Stop => return Ok(()),
                }
            }
        }
    }
}

impl HubHandle {
    /// As [`Hub::add_member`].
    ///
    /// # Errors
    /// As [`Hub::add_member`]; `BrokenPipe` when the hub has ended.
    pub fn add_member(&self, id: MemberId, mac: Mac) -> io::Result<OwnedFd> {
        self.ask(|reply| Command::Add(id, mac, reply))?
    }

    /// As [`Hub::add_worker`].
    ///
    /// # Errors
    /// As [`Hub::add_worker`]; `BrokenPipe` when the hub has ended.
    pub fn add_worker(&self, id: MemberId, first: MemberId) -> io::Result<OwnedFd> {
        self.ask(|reply| Command::AddWorker(id, first, reply))?
    }

    /// As [`Hub::remove_member`].
    ///
    /// # Errors
    /// `BrokenPipe` when the hub has ended.
    pub fn remove_member(&self, id: MemberId) -> io::Result<bool> {
        self.ask(|reply| Command::Remove(id, reply))
    }

    /// As [`Hub::counters`].
    ///
    /// # Errors
    /// `BrokenPipe` when the hub has ended.
    pub fn counters(&self) -> io::Result<HubCounters> {
        self.ask(Command::Counters)
    }

    fn ask<T>(&self, command: impl FnOnce(Sender<T>) -> Command) -> io::Result<T> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let (reply, answer) = bounded(1);
        self.line
            .commands
            .send(command(reply))
            .map_err(|_| gone())?;
        self.line.waker.wake()?;
        answer.recv().map_err(|_| gone())
    }
}

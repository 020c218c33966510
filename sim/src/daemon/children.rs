//! Who collects which child process.
//!
//! Decides that a child is collected by the part of the daemon that started it, and everything else (orphans, which the
//! kernel gives to the init of a PID namespace) here. A child must therefore be known before it can end unnoticed: it is
//! started under this module's lock. Cost: one sleeping thread.

use std::collections::HashSet;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};
use tap_bridge::sys::child;

/// How often the daemon looks for orphans while it has no children of its own, and for an owner that is slow to collect.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The daemon's own children.
#[derive(Debug, Default)]
pub struct Children {
    owned: Mutex<HashSet<u32>>,
    changed: Condvar,
}

impl Children {
    fn owned(&self) -> MutexGuard<'_, HashSet<u32>> {
        // The set is whole after every step, so a panic elsewhere doesn't spoil it.
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a child with `start`, which returns it and its process id.
    ///
    /// # Errors
    /// What `start` says.
    pub fn start<T>(&self, start: impl FnOnce() -> io::Result<(T, u32)>) -> io::Result<T> {
        let mut owned = self.owned();
        let (child, pid) = start()?;
        owned.insert(pid);
        self.changed.notify_all();
        Ok(child)
    }

    /// Must be called when a child was collected by the one who started it.
    pub fn collected(&self, pid: u32) {
        self.owned().remove(&pid);
        self.changed.notify_all();
    }

    /// Collects orphans for ever, and tells of each own child that has ended.
    pub fn watch(&self, mut ended: impl FnMut(u32)) -> ! {
        loop {
            match child::wait_for_any() {
                Ok(pid) => self.handle(pid, &mut ended),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    // No children at all; the first one wakes this.
                    let owned = self.owned();
                    let _ = self
                        .changed
                        .wait_timeout_while(owned, LOOK_AGAIN, |owned| owned.is_empty());
                }
            }
        }
    }

    fn handle(&self, pid: u32, ended: &mut impl FnMut(u32)) {
        let owned = self.owned();
        if owned.contains(&pid) {
            drop(owned);
            ended(pid);
            let owned = self.owned();
            let _ = self
                .changed
                .wait_timeout_while(owned, LOOK_AGAIN, |owned| owned.contains(&pid));
            return;
        }
        // Still under the lock: a child that was just started is known by now.
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        match waitpid(pid, WaitOptions::NOHANG) {
            Ok(_) | Err(Errno::CHILD) => {}
            Err(errno) => tracing::debug!("an orphan could not be collected: {errno}"),
        }
        drop(owned);
    }
}

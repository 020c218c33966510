//! The program of a pod: started in the pod's namespaces, started again as the pod's restartPolicy says.
//!
//! Decides the back-off (kubelet's: the first restart at once, then 10 s doubling to 5 min, forgotten after 10 min of work)
//! and the phase that `get pods` shows. The sandbox stays through all restarts, so address and connections' peer do too
//! (PTP-7). One small thread per program waits for its end.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tap_bridge::sys::netns::{self, Namespace};
use tap_bridge::sys::spawn::{Spawn, spawn};

use super::children::Children;
use super::logs::{Logs, duplicate};
use super::phases::Phases;
use crate::model::Phase;
use crate::pod::netns::Sandbox;
use crate::spec::RestartPolicy;

/// First delay that is not zero (kubelet `backOffPeriod`).
const BACK_OFF: Duration = Duration::from_secs(10);

/// Longest delay (kubelet `MaxContainerBackOff`).
const MAX_BACK_OFF: Duration = Duration::from_secs(300);

/// A program that worked this long starts with a fresh back-off (kubelet: twice the longest delay).
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// What to run.
#[derive(Clone, Debug)]
pub struct ProgramSpec {
    /// Program and arguments, not empty.
    pub command: Vec<String>,
    /// Added to the daemon's environment.
    pub env: IndexMap<String, String>,
    /// What happens at its end.
    pub restart: RestartPolicy,
    /// Name of its log.
    pub log: String,
}

/// What `get pods` shows of a program.
#[derive(Clone, Debug)]
pub struct ProgramStatus {
    /// Its phase.
    pub phase: Phase,
    /// How often it was started again.
    pub restarts: u32,
    /// Process id in the daemon's PID namespace while it runs.
    pub pid: Option<u32>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    stopped: Condvar,
}

#[derive(Debug)]
struct State {
    status: ProgramStatus,
    stop: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A program under supervision. Dropping it leaves the program alone; [`Program::stop`] ends it.
#[derive(Debug)]
pub struct Program {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Program {
    /// Starts the supervision of `spec` in `sandbox`. With `die_with_daemon` the program is killed when the daemon ends
    /// without having stopped it, which a PID namespace does by itself.
    ///
    /// # Errors
    /// At the limit of open files or threads.
    pub fn start(
        spec: ProgramSpec,
        sandbox: &Sandbox,
        children: Arc<Children>,
        logs: Arc<Logs>,
        phases: Arc<Phases>,
        die_with_daemon: bool,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                status: ProgramStatus {
                    phase: Phase::Running,
                    restarts: 0,
                    pid: None,
                },
                stop: false,
            }),
            stopped: Condvar::new(),
        });
        let supervisor = Supervisor {
            spec,
            namespaces: [
                (duplicate(sandbox.mount())?, Namespace::Mount),
                (duplicate(sandbox.uts())?, Namespace::Uts),
                (duplicate(sandbox.net())?, Namespace::Net),
            ],
            children,
            logs,
            phases,
            die_with_daemon,
            shared: Arc::clone(&shared),
        };
        let thread = std::thread::Builder::new()
            .name("program".into())
            .stack_size(256 << 10)
            .spawn(move || supervisor.run())?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Its state now.
    #[must_use]
    pub fn status(&self) -> ProgramStatus {
        self.shared.state().status.clone()
    }

    /// Kills the program and everything in its process group, without waiting. [`Program::join`] waits.
    pub fn stop(&self) {
        let mut state = self.shared.state();
        state.stop = true;
        // The lock is held: the supervisor takes the pid away before it collects the process.
        kill_group(state.status.pid);
        self.shared.stopped.notify_all();
    }

    /// Stops it and waits until it is collected.
    pub fn join(mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // A supervisor that panicked has logged it; its program died with the group.
            let _ = thread.join();
        }
    }
}

fn kill_group(pid: Option<u32>) {
    if let Some(pid) = pid
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(Pid::from_raw)
    {
        // ESRCH: it has just ended.
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

/// Kills every process of the lab's PID namespace that is in the network namespace `net`: what `exec` has started there,
/// and what has left the program's process group.
pub(super) fn kill_inside(net: &OwnedFd) {
    let Ok(wanted) = rustix::fs::fstat(net) else {
        return;
    };
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return;
    };
    for entry in processes.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let inside = rustix::fs::stat(entry.path().join("ns/net"))
            .is_ok_and(|stat| stat.st_ino == wanted.st_ino && stat.st_dev == wanted.st_dev);
        // Never the daemon: it is init and in none of the pods' namespaces.
        if let (true, Some(pid)) = (inside && pid > 1, Pid::from_raw(pid)) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

struct Supervisor {
    spec: ProgramSpec,
    namespaces: [(OwnedFd, Namespace); 3],
    children: Arc<Children>,
    logs: Arc<Logs>,
    phases: Arc<Phases>,
    die_with_daemon: bool,
    shared: Arc<Shared>,
}

impl Supervisor {
    fn enter_phase(&self, state: &mut State, phase: Phase) {
        if state.status.phase != phase {
            state.status.phase = phase;
            self.phases.changed();
        }
    }

    fn run(self) {
        if let Err(error) = self.enter() {
            self.say(&format!("the pod's namespaces can't be entered: {error}"));
            let phase = Phase::Error { status: 125 };
            return self.enter_phase(&mut self.shared.state(), phase);
        }
        let mut failures = 0;
        loop {
            let started = Instant::now();
            let status = self.run_once();
            if started.elapsed() >= FORGIVEN_AFTER {
                failures = 0;
            }
            let again = match self.spec.restart {
                RestartPolicy::Always => true,
                RestartPolicy::OnFailure => status != 0,
                RestartPolicy::Never => false,
            };
            if !again {
                let phase = if status == 0 {
                    Phase::Completed
                } else {
                    Phase::Error { status }
                };
                return self.enter_phase(&mut self.shared.state(), phase);
            }
            if self.back_off(failures) {
                return;
            }
            failures += 1;
        }
    }

    /// Waits before restart number `failures`; true when the program is to stop.
    fn back_off(&self, failures: u32) -> bool {
        let delay = back_off(failures);
        let mut state = self.shared.state();
        if !delay.is_zero() {
            self.enter_phase(&mut state, Phase::CrashLoopBackOff);
            let (guard, _) = self
                .shared
                .stopped
                .wait_timeout_while(state, delay, |state| !state.stop)
                .unwrap_or_else(PoisonError::into_inner);
            state = guard;
        }
        self.enter_phase(&mut state, Phase::Running);
        state.status.restarts += u32::from(!state.stop);
        state.stop
    }

    fn enter(&self) -> io::Result<()> {
        netns::isolate_directory()?;
        self.namespaces
            .iter()
            .try_for_each(|(fd, kind)| netns::enter(fd.as_fd(), *kind))
    }

    /// Runs the program to its end and returns its exit status, 128 + n for signal n, 126 or 127 when it can't be started.
    fn run_once(&self) -> i32 {
        let mut child = match self.spawn() {
            Ok(Some(child)) => child,
            Ok(None) => return 0,
            Err(error) => {
                self.say(&format!("{}: {error}", self.spec.command[0]));
                return if error.kind() == io::ErrorKind::NotFound {
                    127
                } else {
                    126
                };
            }
        };
        // Not collected yet, so that its id stays its own until `stop` can't see it any more.
        let ended = wait_until_ended(&child);
        self.shared.state().status.pid = None;
        let status = ended.and_then(|()| child.wait());
        self.children.collected(child.id());
        match status {
            Ok(status) => exit_status(status),
            Err(error) => {
                self.say(&format!("the program can't be waited for: {error}"));
                125
            }
        }
    }

    /// Starts the program; none when it is to stop.
    fn spawn(&self) -> io::Result<Option<Child>> {
        let (program, args) = self
            .spec
            .command
            .split_first()
            .expect("a program has a name");
        let output = self.logs.pipe(&self.spec.log)?;
        let env: Vec<_> = self.spec.env.clone().into_iter().collect();
        let what = Spawn {
            program: Some(program.into()),
            title: program,
            args: args.iter().map(Into::into).collect(),
            env: &env,
            own_group: true,
            fds: &[],
            log: output.as_fd(),
            // This thread waits for the program. In a PID namespace the kernel ends it with the daemon anyway.
            die_with_thread: self.die_with_daemon,
        };
        let mut state = self.shared.state();
        if state.stop {
            return Ok(None);
        }
        let child = self.children.start(|| {
            let child = spawn(&what)?;
            let pid = child.id();
            Ok((child, pid))
        })?;
        state.status.pid = Some(child.id());
        Ok(Some(child))
    }

    fn say(&self, text: &str) {
        self.logs
            .append(&self.spec.log, format!("podwire: {text}\n").as_bytes());
    }
}

/// Waits for the end of a child without collecting it.
fn wait_until_ended(child: &Child) -> io::Result<()> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    loop {
        match waitid(
            WaitId::Pid(pid),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        ) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn exit_status(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Delay before restart number `failures`, counted from 0.
fn back_off(failures: u32) -> Duration {
    let Some(doublings) = failures.checked_sub(1) else {
        return Duration::ZERO;
    };
    BACK_OFF
        .saturating_mul(1 << doublings.min(8))
        .min(MAX_BACK_OFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// kubelet: at once, 10 s, 20 s, ... 5 min.
    #[test]
    fn the_back_off_doubles_up_to_five_minutes() {
        let seconds: Vec<u64> = (0..8).map(|n| back_off(n).as_secs()).collect();
        assert_eq!(seconds, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(back_off(u32::MAX), MAX_BACK_OFF);
    }
}

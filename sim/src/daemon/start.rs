//! From the first instruction of the daemon to a lab that works, and its end.
//!
//! Decides when the starter is told what, and that everything is undone when the starter goes away before the lab is
//! ready.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{UnmountFlags, unmount};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tap_bridge::sys::limits::raise_open_files;
use tap_bridge::sys::mount;
use tap_bridge::sys::spawn::set_command_name;

use super::children::Children;
use super::lab::{Lab, LabError, Setting};
use super::logs::{DaemonLog, Logs};
use super::outer::Outer;
use super::phases::Phases;
use super::uplink::{self, Uplinks};
use super::{Stage, isolate, server};
use crate::client::runtime::{LabDir, LabLock};
use crate::control::codec::Connection;
use crate::control::launch::{Event, Order};
use crate::control::proto::ErrorKind;
use crate::host::check_descriptors;
use crate::spec::Backend;

/// How long the starter may take to say what it wants.
const ORDER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a bring-up that was given up may take to close what it has made.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that the lab's files may take: IPAM files, CNI configuration and the changes that programs make in a node's `/etc`.
const FILES_BYTES: u64 = 256 << 20;

/// When the nodes' controllers look at them for the first time; then their own interval holds (KND-1).
const FIRST_TICK: Duration = Duration::from_secs(2);

/// What of the lab is outside of the process.
#[derive(Debug)]
pub(super) struct Traces {
    lock: Mutex<Option<LabLock>>,
    mounted: AtomicBool,
}

impl Traces {
    /// Removes them, the lock last; idempotent.
    pub(super) fn remove(&self) {
        let lock = self
            .lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(lock) = lock {
            self.unmount(&lock);
            if let Err(error) = lock.remove() {
                tracing::warn!("{error}");
            }
        }
    }

    /// Removes all but the lock, which the starter holds as well and wants for its next attempt.
    fn clean(&self) {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = lock.as_ref() {
            self.unmount(lock);
            if let Err(error) = lock.clean() {
                tracing::warn!("{error}");
            }
        }
    }

    fn unmount(&self, lock: &LabLock) {
        if self.mounted.swap(false, Ordering::Relaxed)
            && let Err(errno) = unmount(lock.dir().root(), UnmountFlags::DETACH)
        {
            tracing::warn!("the lab's files stay mounted until the daemon's end: {errno}");
        }
    }
}

/// How far the bring-up is; decides who ends the lab when the starter goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Starting,
    Ready,
}

/// Body of the daemon. Returns the exit code.
pub(super) fn run(mut launch: Connection, name: &str, stage: Stage) -> u8 {
    set_command_name("podwire-daemon");
    let (order, lock, uplinks) = match receive(&mut launch) {
        Ok(received) => received,
        Err(event) => return report(&mut launch, &event),
    };
    let traces = Arc::new(Traces {
        lock: Mutex::new(Some(LabLock::received(
            LabDir::new(order.directory.clone()),
            lock,
        ))),
        mounted: AtomicBool::new(false),
    });
    match bring_up(&mut launch, name, stage, order, uplinks, &traces) {
        Ok(server) => {
            drop(launch);
            server.run()
        }
        Err(event) => {
            traces.clean();
            let code = report(&mut launch, &event);
            if code != 0 {
                // The starter is gone, and with it the one who would remove the lab's directory.
                traces.remove();
            }
            1
        }
    }
}

/// Tells the starter; 0 when it still listens.
fn report(launch: &mut Connection, event: &Event) -> u8 {
    let gone = crate::client::is_closed(launch).unwrap_or(true);
    u8::from(gone || launch.send(event, &[]).is_err())
}

fn failed(kind: ErrorKind, message: impl std::fmt::Display) -> Event {
    Event::Failed {
        kind,
        message: format!("{message}"),
    }
}

/// The starter's order, and the lock and the sockets that came with it.
fn receive(launch: &mut Connection) -> Result<(Order, OwnedFd, Uplinks), Event> {
    launch.set_deadline(Some(Instant::now() + ORDER_TIMEOUT));
    let (order, fds): (Order, _) = launch
        .recv()
        .map_err(|error| failed(ErrorKind::Internal, format!("no order came: {error}")))?;
    launch.set_deadline(None);
    let mut fds = fds.into_iter();
    let lock = fds
        .next()
        .ok_or_else(|| failed(ErrorKind::Internal, "no lock came with the order"))?;
    let uplinks = uplink::match_up(&order.lab, fds.collect()).ok_or_else(|| {
        let text = "as many sockets as uplinks have to come with the order";
        failed(ErrorKind::Internal, text)
    })?;
    Ok((order, lock, uplinks))
}

fn bring_up(
    launch: &mut Connection,
    name: &str,
    stage: Stage,
    order: Order,
    uplinks: Uplinks,
    traces: &Arc<Traces>,
) -> Result<server::Server, Event> {
    let internal = |error: io::Error| {
        failed(
            ErrorKind::Internal,
            format!("the daemon can't start: {error}"),
        )
    };
    let Stage::Run {
        isolated,
        pid_namespace,
        rootless,
    } = stage
    else {
        return Err(failed(
            ErrorKind::Internal,
            "the daemon can't start: wrong stage",
        ));
    };
    if order.backend == Backend::Tap {
        let device = order
            .tun
            .as_deref()
            .unwrap_or_else(|| Path::new(tap_bridge::tap::DEVICE));
        isolate::check_tun(device).map_err(|reason| Event::Unavailable { reason })?;
    }
    if order.backend == Backend::Packet {
        isolate::check_packet().map_err(|reason| Event::Unavailable { reason })?;
    }
    let descriptors = raise_open_files();
    if order.backend != Backend::Inproc {
        check_descriptors(&order.lab, descriptors)
            .map_err(|text| failed(ErrorKind::Unsupported, text))?;
    }
    let outer = Outer::look(pid_namespace);
    if pid_namespace && mount::fresh_proc().is_err() {
        return Err(Event::NoPidNamespace);
    }
    let logs = Logs::start().map_err(internal)?;
    log_to(&logs);
    let dir = LabDir::new(order.directory.clone());
    std::fs::create_dir_all(dir.root()).map_err(internal)?;
    if isolated {
        mount::tmpfs(&dir.root(), FILES_BYTES).map_err(|error| Event::Unavailable {
            reason: format!("a tmpfs can't be mounted: {error}"),
        })?;
        traces.mounted.store(true, Ordering::Relaxed);
    }
    let progress = Arc::new(Mutex::new(Progress::Starting));
    let abort = Arc::new(AtomicBool::new(false));
    watch_starter(launch, &progress, &abort, traces).map_err(internal)?;
    let children = Arc::new(Children::default());
    let phases = Arc::new(Phases::default());
    let setting = Setting {
        outer,
        rootless,
        pid_namespace: pid_namespace && isolated,
        root: dir.root(),
        tun: order.tun,
        uplinks,
        logs: Arc::clone(&logs),
        children: Arc::clone(&children),
        phases: Arc::clone(&phases),
        abort,
    };
    let mut tell = |text: &str| {
        // Only for a message when the starter's deadline passes.
        let _ = launch.send(
            &Event::Progress {
                text: text.to_owned(),
            },
            &[],
        );
    };
    let lab =
        Lab::bring_up(&order.lab, order.backend, setting, &mut tell).map_err(
            |error| match error {
                LabError::Unavailable(reason) => Event::Unavailable { reason },
                LabError::Failed { kind, message } => failed(kind, message),
            },
        )?;
    let listener = match dir.listen() {
        Ok(listener) => listener,
        Err(error) => {
            lab.tear_down();
            return Err(failed(
                ErrorKind::Internal,
                format!("the control socket can't be made: {error}"),
            ));
        }
    };
    let server = server::Server::new(listener, lab, rootless, logs, Arc::clone(traces));
    if let Err(error) = start_threads(&server, children, phases) {
        server.take_down();
        return Err(internal(error));
    }
    let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
    if launch.send(&Event::Ready { rootless }, &[]).is_err() {
        // Nobody waits for the lab any more; the watching thread is about to find out, too.
        server.take_down();
        return Err(failed(ErrorKind::Timeout, "the starter is gone"));
    }
    *progress = Progress::Ready;
    drop(progress);
    tracing::info!("lab {name} is ready");
    leave_terminal(&server);
    Ok(server)
}

/// From now on the daemon's own errors go to its log; the starter's terminal or pipe is let go.
fn leave_terminal(server: &server::Server) {
    let Ok(log) = server.logs().pipe("daemon") else {
        return;
    };
    // Both can only fail for a number out of range.
    let _ = rustix::stdio::dup2_stdout(&log);
    let _ = rustix::stdio::dup2_stderr(&log);
}

fn log_to(logs: &Arc<Logs>) {
    let writer = DaemonLog(Arc::clone(logs));
    let filter = tracing_subscriber::EnvFilter::try_from_env("PODWIRE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // An error means that a subscriber is installed already.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_target(false)
        .with_writer(move || writer.clone())
        .try_init();
}

/// Gives the bring-up up when the starter goes away before the lab is ready, and ends the process if that takes too long.
fn watch_starter(
    launch: &Connection,
    progress: &Arc<Mutex<Progress>>,
    abort: &Arc<AtomicBool>,
    traces: &Arc<Traces>,
) -> io::Result<()> {
    let socket = launch.as_fd().try_clone_to_owned()?;
    let (progress, abort, traces) = (Arc::clone(progress), Arc::clone(abort), Arc::clone(traces));
    std::thread::Builder::new()
        .name("starter".into())
        .stack_size(128 << 10)
        .spawn(move || {
            let mut fds = [PollFd::new(&socket, PollFlags::RDHUP)];
            while poll(&mut fds, None).is_err() {}
            if *progress.lock().unwrap_or_else(PoisonError::into_inner) == Progress::Ready {
                return;
            }
            abort.store(true, Ordering::Relaxed);
            // The main thread ends the process as soon as it has closed what it has made.
            std::thread::sleep(ABORT_TIMEOUT);
            if *progress.lock().unwrap_or_else(PoisonError::into_inner) == Progress::Starting {
                traces.remove();
                // Everything else ends with the process: the PID namespace, or the node processes' sockets.
                std::process::exit(1);
            }
        })?;
    Ok(())
}

fn start_threads(
    server: &server::Server,
    children: Arc<Children>,
    phases: Arc<Phases>,
) -> io::Result<()> {
    let small = |name: &str| {
        std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(256 << 10)
    };
    let handle = server.clone();
    small("children").spawn(move || children.watch(|pid| handle.child_ended(pid)))?;
    let handle = server.clone();
    small("reconcile").spawn(move || {
        let mut tick = FIRST_TICK;
        loop {
            std::thread::sleep(tick);
            tick = handle.reconcile().unwrap_or(FIRST_TICK);
        }
    })?;
    let handle = server.clone();
    small("phases").spawn(move || {
        loop {
            phases.wait();
            handle.note_phases();
        }
    })?;
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let handle = server.clone();
    small("signals").spawn(move || {
        if signals.forever().next().is_some() {
            handle.take_down();
            std::process::exit(0);
        }
    })?;
    Ok(())
}

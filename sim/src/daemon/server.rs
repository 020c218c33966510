//! Requests of clients.
//!
//! Decides who may ask (the user that the lab belongs to, and root: decision 3), how many at once, and that changes are
//! made one after the other under one lock. A client that sends nonsense loses its connection, nobody else notices.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::lab::{Lab, LabError};
use super::logs::{self, Logs};
use super::start::Traces;
use crate::client::is_closed;
use crate::control::codec::{CodecError, Connection};
use crate::control::proto::{ErrorKind, LogSource, MAX_FRAME, Request, Response};

/// Clients that are served at the same time.
pub const MAX_CLIENTS: usize = 64;

/// How long a client may take to greet, and to take an answer.
pub(super) const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a followed log looks whether its reader is still there.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);

/// User id that stands for everybody who has no id in a user namespace (Linux `overflowuid`).
const OVERFLOW_UID: u32 = 65534;

/// The daemon's shared state: the lab, until it is taken down.
#[derive(Clone, Debug)]
pub struct Server {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    listener: UnixListener,
    lab: Mutex<Option<Lab>>,
    rootless: bool,
    logs: Arc<Logs>,
    traces: Arc<Traces>,
    clients: AtomicUsize,
}

impl Server {
    pub(super) fn new(
        listener: UnixListener,
        lab: Lab,
        rootless: bool,
        logs: Arc<Logs>,
        traces: Arc<Traces>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                listener,
                lab: Mutex::new(Some(lab)),
                rootless,
                logs,
                traces,
                clients: AtomicUsize::new(0),
            }),
        }
    }

    /// All logs.
    #[must_use]
    pub fn logs(&self) -> &Arc<Logs> {
        &self.shared.logs
    }

    fn lab(&self) -> MutexGuard<'_, Option<Lab>> {
        // A request that panicked has logged it; the lab goes on with what it had done.
        self.shared
            .lab
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts clients until the process ends.
    pub(super) fn run(self) -> ! {
        loop {
            match self.shared.listener.accept() {
                Ok((socket, _)) => self.admit(socket),
                Err(error) => {
                    // Out of descriptors: those that are served now give some back.
                    tracing::warn!("a client can't be accepted: {error}");
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }

    fn admit(&self, socket: UnixStream) {
        let shared = &self.shared;
        if shared.clients.fetch_add(1, Ordering::Relaxed) >= MAX_CLIENTS {
            shared.clients.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!("more than {MAX_CLIENTS} clients: one was sent away");
            return;
        }
        let server = self.clone();
        let thread = std::thread::Builder::new()
            .name("client".into())
            .stack_size(512 << 10);
        let served = thread.spawn(move || {
            match server.serve(Connection::new(socket.into())) {
                Ok(()) | Err(CodecError::Closed) => {}
                Err(error) => tracing::debug!("a client: {error}"),
            }
            server.shared.clients.fetch_sub(1, Ordering::Relaxed);
        });
        if let Err(error) = served {
            shared.clients.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!("a client can't be served: {error}");
        }
    }

    fn may_ask(&self, connection: &Connection) -> io::Result<bool> {
        let uid = connection.peer()?.uid;
        let ours = rustix::process::geteuid().as_raw();
        // Inside a user namespace root and strangers look the same; of these only root passes the directory's mode.
        Ok(uid == ours || uid == 0 || (self.shared.rootless && uid == OVERFLOW_UID))
    }

    fn serve(&self, mut connection: Connection) -> Result<(), CodecError> {
        if !self.may_ask(&connection)? {
            return Ok(());
        }
        connection.set_deadline(Some(Instant::now() + CLIENT_TIMEOUT));
        connection.welcome()?;
        loop {
            connection.set_deadline(None);
            let (request, _): (Request, _) = connection.recv()?;
            connection.set_deadline(Some(Instant::now() + CLIENT_TIMEOUT));
            match request {
                Request::Down => {
                    self.take_down();
                    connection.send(&Response::Done, &[])?;
                    std::process::exit(0);
                }
                Request::Logs {
                    source,
                    follow,
                    tail,
                } => self.send_log(&mut connection, &source, follow, tail)?,
                // Takes the lock for moments only.
                Request::Trace { wanted } => {
                    let response = self.trace(&wanted).map_or_else(refusal, |collected| {
                        let collected = Box::new(collected);
                        Response::Trace { collected }
                    });
                    connection.set_deadline(Some(Instant::now() + CLIENT_TIMEOUT));
                    connection.send(&response, &[])?;
                }
                // Lasts as long as the client wants.
                Request::Capture {
                    places,
                    filter,
                    snaplen,
                } => self.capture(&mut connection, places, &filter, snaplen)?,
                request => {
                    let (response, fds) = self.answer(request);
                    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(|fd| fd.as_fd()).collect();
                    match connection.send(&response, &fds) {
                        Err(CodecError::TooLong { length }) => {
                            let text = format!(
                                "the answer has {length} bytes, and {MAX_FRAME} are the most"
                            );
                            connection.send(&refusal(LabError::internal(text)), &[])?;
                        }
                        sent => sent?,
                    }
                }
            }
        }
    }

    fn answer(&self, request: Request) -> (Response, Vec<OwnedFd>) {
        self.with_lab(|lab| answer(lab, request))
            .unwrap_or_else(|error| (refusal(error), Vec::new()))
    }

    /// Calls `work` under the lock.
    ///
    /// # Errors
    /// What `work` says, or that the lab is being taken down.
    pub(super) fn with_lab<R>(
        &self,
        work: impl FnOnce(&mut Lab) -> Result<R, LabError>,
    ) -> Result<R, LabError> {
        match self.lab().as_mut() {
            Some(lab) => work(lab),
            None => Err(LabError::new(
                ErrorKind::NotFound,
                "the lab is being taken down",
            )),
        }
    }

    /// Ends the lab and returns when its devices and files are gone. The process should end then.
    pub(super) fn take_down(&self) {
        let mut lab = self.lab();
        if let Some(lab) = lab.take() {
            lab.tear_down();
        }
        // Still under the lock: a second `down` returns when everything is gone, too.
        self.shared.traces.remove();
        drop(lab);
    }

    /// A child has ended: when it was a node process it is started again.
    pub(super) fn child_ended(&self, pid: u32) {
        let died = self.lab().as_mut().and_then(|lab| lab.child_ended(pid));
        let Some((name, delay)) = died else {
            return;
        };
        let server = self.clone();
        let thread = std::thread::Builder::new()
            .name("restart".into())
            .stack_size(256 << 10);
        let restart = thread.spawn(move || {
            let mut delay = delay;
            loop {
                if !delay.is_zero() {
                    std::thread::sleep(delay);
                }
                match server
                    .lab()
                    .as_mut()
                    .and_then(|lab| lab.restart_node(&name))
                {
                    Some(next) => delay = next,
                    None => return,
                }
            }
        });
        if let Err(error) = restart {
            tracing::error!("a node process can't be started again: {error}");
        }
    }

    /// The tick of the nodes' controllers. Returns how long after it the next is due.
    pub(super) fn reconcile(&self) -> Option<Duration> {
        let mut lab = self.lab();
        let lab = lab.as_mut()?;
        lab.reconcile();
        Some(lab.cluster.tick())
    }

    fn send_log(
        &self,
        connection: &mut Connection,
        source: &LogSource,
        follow: bool,
        tail: Option<usize>,
    ) -> Result<(), CodecError> {
        if let Some(message) = self.missing_source(source) {
            let kind = ErrorKind::NotFound;
            return connection.send(&Response::Error { kind, message }, &[]);
        }
        let key = logs::key(source);
        let (text, mut position) = self.shared.logs.tail(&key, tail);
        connection.send(&Response::Log { text }, &[])?;
        while follow && !is_closed(connection)? {
            let (text, now) = self.shared.logs.more(&key, position, FOLLOW_INTERVAL);
            position = now;
            if !text.is_empty() {
                connection.set_deadline(Some(Instant::now() + CLIENT_TIMEOUT));
                connection.send(&Response::Log { text }, &[])?;
            }
        }
        Ok(())
    }

    fn missing_source(&self, source: &LogSource) -> Option<String> {
        let lab = self.lab();
        let cluster = &lab.as_ref()?.cluster;
        let known = match source {
            LogSource::Daemon => Ok(()),
            LogSource::Node { name } => cluster.node(name).map(drop),
            LogSource::Pod { namespace, name } => cluster.pod(namespace, name).map(drop),
        };
        known.err().map(|error| error.to_string())
    }
}

pub(super) fn refusal(error: LabError) -> Response {
    let (kind, message) = match error {
        LabError::Unavailable(message) => (ErrorKind::Unsupported, message),
        LabError::Failed { kind, message } => (kind, message),
    };
    Response::Error { kind, message }
}

/// Carries out one request. The descriptors go with the response.
fn answer(lab: &mut Lab, request: Request) -> Result<(Response, Vec<OwnedFd>), LabError> {
    let changes = |lines| Response::Changes { lines };
    let response = match request {
        Request::Status => Response::Status(lab.status()),
        Request::Nodes => Response::Nodes {
            nodes: lab.node_statuses(),
        },
        Request::Ipam => {
            let (pool, blocks) = lab.ipam();
            Response::Ipam { pool, blocks }
        }
        Request::Routes { node } => Response::Routes {
            routes: lab.routes(&node)?,
        },
        Request::Pods => Response::Pods {
            pods: lab.pod_list(),
        },
        Request::Neighbours { node } => Response::Neighbours {
            neighbours: lab.neighbours(&node)?,
        },
        Request::Nat { node } => {
            let (table, counts) = lab.nat(&node)?;
            Response::Nat {
                table: Box::new(table),
                counts,
            }
        }
        Request::Sessions { node, filter } => Response::Sessions {
            sessions: lab.sessions(&node, filter)?,
        },
        Request::FlushSessions { node, filter } => changes(lab.flush_sessions(&node, filter)?),
        Request::Converge { lab: spec } => changes(lab.converge(&spec)?),
        Request::Plan { lab: spec } => changes(lab.plan(&spec)?),
        Request::AddPod { pod } => changes(lab.add_pod(&pod)?),
        Request::AnnotatePod {
            namespace,
            name,
            annotations,
        } => changes(lab.annotate_pod(&namespace, &name, annotations)?),
        Request::DeletePod { namespace, name } => changes(lab.delete_pod(&namespace, &name)?),
        Request::Objects => Response::Objects {
            objects: lab.cluster().objects(),
            policy: lab.cluster().policy_mode(),
        },
        Request::ApplyObject { object, create } => changes(lab.apply_object(*object, create)?),
        Request::DeleteObject {
            kind,
            namespace,
            name,
        } => changes(lab.delete_object(kind, &namespace, &name)?),
        Request::AddNode {
            name,
            internal_ip,
            spec,
        } => changes(lab.add_node(&name, internal_ip, spec.map(|spec| *spec))?),
        Request::DeleteNode { name } => changes(lab.delete_node(&name)?),
        Request::IpChange { node, args } => match lab.ip_change(&node, &args)? {
            Ok(()) => Response::Done,
            Err(error) => Response::IpError {
                message: error.message,
                status: error.status,
            },
        },
        Request::Enter { target } => {
            let (order, fds) = lab
                .namespaces(&target)?
                .into_iter()
                .map(|(name, fd)| (name.to_owned(), fd))
                .unzip();
            let fallback_dir = "/".to_owned();
            return Ok((
                Response::Namespaces {
                    order,
                    fallback_dir,
                },
                fds,
            ));
        }
        Request::Icmp { target } => {
            let (channel, source, fd) = lab.icmp(&target)?;
            return Ok((Response::Icmp { channel, source }, vec![fd]));
        }
        Request::Impair { node, port, impair } => {
            lab.impair(&node, port, impair)?;
            Response::Done
        }
        Request::Stats => Response::Stats {
            nodes: lab.stats()?,
        },
        Request::CaptureEnd => {
            let message = "this connection has no capture";
            return Err(LabError::new(ErrorKind::Invalid, message));
        }
        Request::Logs { .. } | Request::Trace { .. } | Request::Capture { .. } | Request::Down => {
            return Err(LabError::internal("a request that is served elsewhere"));
        }
    };
    Ok((response, Vec::new()))
}

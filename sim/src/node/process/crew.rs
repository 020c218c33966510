//! The workers of a node process: their threads, and requests that go to all of them.
//!
//! Decides how the descriptors of a request are dealt out, and that a request is answered when every worker has answered;
//! [`merge`] makes one answer of theirs. The first worker is in the calling thread and carries out its own part meanwhile. A
//! worker that fails ends the process, which the daemon starts again: half a node is none.
//!
//! Cost: without siblings a comparison per request. With them each request waits for the longest breath of any.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded, unbounded};
use router_core::Share;
use router_core::trace::Record;
use tap_bridge::event_loop::EventLoop;
use tap_bridge::sys::epoll::Waker;

use super::merge;
use super::worker::Worker;
use crate::control::node::{Attachment, NodeReply, NodeRequest};

type Answer = Result<NodeReply, String>;

/// A request for one worker.
#[derive(Debug)]
struct Order {
    request: NodeRequest,
    fds: Vec<OwnedFd>,
    answer: Sender<Answer>,
}

/// A worker in a thread of its own.
#[derive(Debug)]
struct Sibling {
    orders: Sender<Order>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

/// What was said of a trace so far, in the order in which it was told to the daemon.
#[derive(Debug, Default)]
struct Told {
    records: Vec<Record>,
    /// How many of each worker's are among them.
    taken: Vec<usize>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Crew {
    first: Worker,
    siblings: Vec<Sibling>,
    traces: BTreeMap<u8, Told>,
}

impl Crew {
    /// So many workers for at most so many connections.
    ///
    /// # Errors
    /// When the system gives no event loop, no thread or no random numbers; `InvalidInput` for more than 64.
    pub(super) fn new(workers: usize, connections: u32) -> io::Result<Self> {
        let mut seed = [0; 8];
        // Eight bytes are never cut short.
        rustix::rand::getrandom(&mut seed[..], rustix::rand::GetRandomFlags::empty())?;
        let seed = u64::from_ne_bytes(seed);
        let mut all = if workers <= 1 {
            vec![Worker::new(seed, None)?]
        } else if workers <= router_core::table::claims::WORKERS_MAX {
            (1..)
                .zip(Share::divide(workers, connections, seed))
                .map(|(n, share)| Worker::new(seed.wrapping_add(n), Some(share)))
                .collect::<io::Result<Vec<_>>>()?
        } else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut loops: Vec<_> = all
            .iter_mut()
            .map(|worker| &mut worker.event_loop)
            .collect();
        EventLoop::join(&mut loops);
        let mut all = all.into_iter();
        let first = all.next().ok_or(io::ErrorKind::InvalidInput)?;
        let siblings = (1..)
            .zip(all)
            .map(|(index, worker)| Sibling::start(index, worker))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            first,
            siblings,
            traces: BTreeMap::new(),
        })
    }

    /// The worker in this thread.
    pub(super) fn first(&self) -> &Worker {
        &self.first
    }

    /// The worker in this thread.
    pub(super) fn first_mut(&mut self) -> &mut Worker {
        &mut self.first
    }

    /// Does what the daemon asks.
    pub(super) fn carry_out(&mut self, request: NodeRequest, fds: Vec<OwnedFd>) -> NodeReply {
        match self.try_carry_out(request, fds) {
            Ok(reply) => reply,
            Err(message) => {
                tracing::warn!("refused: {message}");
                NodeReply::Failed { message }
            }
        }
    }

    fn try_carry_out(&mut self, request: NodeRequest, fds: Vec<OwnedFd>) -> Answer {
        let of = 1 + self.siblings.len();
        let got = fds.len();
        let wanted = descriptors(&request) * of;
        if got != wanted {
            return Err(format!(
                "{got} descriptors came along where {wanted} belong"
            ));
        }
        if of == 1 {
            return self.first.carry_out(request, fds);
        }
        match request {
            NodeRequest::AddPort { ref attachment, .. } if attachment.descriptors() == 0 => {
                Err("a node with several workers has no network stacks inside it".to_owned())
            }
            // Made by one, and whoever it concerns tells of it.
            NodeRequest::TraceInject { .. } | NodeRequest::OpenIcmp { .. } => {
                self.first.carry_out(request, fds)
            }
            NodeRequest::TraceSteps { trace, from } => self.trace_steps(trace, from),
            NodeRequest::TraceBegin { trace } | NodeRequest::TraceEnd { trace } => {
                self.traces.remove(&trace);
                self.ask_all(&request, Vec::new()).and_then(merge::replies)
            }
            NodeRequest::AddPort { id, .. } => {
                let added = self.ask_all(&request, fds);
                if added.is_err() {
                    // Those that could take it, for there is no half a port; the others have none to remove.
                    let _ = self.ask_all(&NodeRequest::RemovePort { id }, Vec::new());
                }
                added.and_then(merge::replies)
            }
            request => self.ask_all(&request, fds).and_then(merge::replies),
        }
    }

    /// Asks every worker, each with its part of the descriptors. The answers are in their order.
    fn ask_all(
        &mut self,
        request: &NodeRequest,
        fds: Vec<OwnedFd>,
    ) -> Result<Vec<NodeReply>, String> {
        let requests = (0..=self.siblings.len()).map(|index| for_worker(request, index));
        let asked = requests.zip(deal(request, fds, 1 + self.siblings.len()));
        self.ask_each(asked.collect())
    }

    /// Asks every worker something of its own.
    fn ask_each(
        &mut self,
        asked: Vec<(NodeRequest, Vec<OwnedFd>)>,
    ) -> Result<Vec<NodeReply>, String> {
        let mut asked = asked.into_iter();
        let Some((request, fds)) = asked.next() else {
            return Ok(Vec::new());
        };
        let answers: Vec<_> = self
            .siblings
            .iter()
            .zip(asked)
            .map(|(sibling, (request, fds))| sibling.ask(request, fds))
            .collect();
        let own = self.first.carry_out(request, fds);
        let theirs = answers.into_iter().map(|answer| {
            let gone = || Err("a worker has ended".to_owned());
            answer.recv().unwrap_or_else(|_| gone())
        });
        // All of them, for whatever the first one that can't says the others have done.
        let all: Vec<Answer> = std::iter::once(own).chain(theirs).collect();
        all.into_iter().collect()
    }

    /// What all workers have recorded of a trace, in an order that grows only at its end.
    fn trace_steps(&mut self, trace: u8, from: usize) -> Answer {
        let of = 1 + self.siblings.len();
        let mut told = self.traces.remove(&trace).unwrap_or_default();
        told.taken.resize(of, 0);
        let asked = told.taken.iter().map(|&from| {
            let request = NodeRequest::TraceSteps { trace, from };
            (request, Vec::new())
        });
        let replies = self.ask_each(asked.collect())?;
        let (mut new, mut lost_of_all, mut names) = (Vec::new(), 0, Vec::new());
        for (taken, reply) in told.taken.iter_mut().zip(replies) {
            if let NodeReply::Trace {
                records,
                lost,
                ports,
            } = reply
            {
                *taken += records.len();
                new.extend(records);
                lost_of_all += lost;
                names = ports;
            }
        }
        new.sort_by_key(|record: &Record| record.at);
        told.records.extend(new);
        let records = told.records.get(from..).unwrap_or_default().to_vec();
        self.traces.insert(trace, told);
        Ok(NodeReply::Trace {
            records,
            lost: lost_of_all,
            ports: names,
        })
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for sibling in &mut self.siblings {
            // The thread ends when nobody can order anything any more.
            let (none, _) = bounded(0);
            sibling.orders = none;
            let _ = sibling.waker.wake();
        }
        for thread in self.siblings.iter_mut().filter_map(|s| s.thread.take()) {
            // It has said already why it ended.
            let _ = thread.join();
        }
    }
}

impl Sibling {
    fn start(index: usize, worker: Worker) -> io::Result<Self> {
        let (orders, received) = unbounded();
        let waker = worker.event_loop.waker();
        let thread = thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || serve(worker, &received))?;
        Ok(Self {
            orders,
            waker,
            thread: Some(thread),
        })
    }

    /// Asks, and gives where the answer will be.
    fn ask(&self, request: NodeRequest, fds: Vec<OwnedFd>) -> Receiver<Answer> {
        let (answer, received) = bounded(1);
        let order = Order {
            request,
            fds,
            answer,
        };
        // Both fail only when the thread has ended, which is seen where the answer is waited for.
        let _ = self.orders.send(order);
        let _ = self.waker.wake();
        received
    }
}

/// Ends the process when its thread panics.
struct Whole;

impl Drop for Whole {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

/// The body of a sibling's thread.
fn serve(mut worker: Worker, orders: &Receiver<Order>) {
    let _whole = Whole;
    keep_time();
    loop {
        if let Err(error) = worker.breathe() {
            tracing::error!("a worker: {error}");
            std::process::exit(70);
        }
        loop {
            match orders.try_recv() {
                Ok(order) => {
                    let answer = worker.carry_out(order.request, order.fds);
                    // Whoever asked waits.
                    let _ = order.answer.send(answer);
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }
}

/// Deadlines of the calling thread are kept to the microsecond instead of the usual fifty, for links that delay frames.
pub(super) fn keep_time() {
    let slack = std::num::NonZeroU64::new(1000);
    if let Err(errno) = rustix::thread::set_current_timer_slack(slack) {
        tracing::debug!("the timers stay lax: {errno}");
    }
}

/// Descriptors that a request has for each worker.
fn descriptors(request: &NodeRequest) -> usize {
    match request {
        NodeRequest::AddPort { attachment, .. } => attachment.descriptors(),
        NodeRequest::OpenIcmp { .. } => 1,
        NodeRequest::CaptureBegin { .. } => 2,
        NodeRequest::KeepJournal { left, .. } => 1 + usize::from(left.is_some()),
        _ => 0,
    }
}

/// Each worker's descriptors, which came one worker's after the other's.
fn deal(request: &NodeRequest, fds: Vec<OwnedFd>, of: usize) -> Vec<Vec<OwnedFd>> {
    let each = descriptors(request);
    let mut fds = fds.into_iter();
    (0..of).map(|_| fds.by_ref().take(each).collect()).collect()
}

/// The request as one worker gets it: on the fabric each is a member of its own.
fn for_worker(request: &NodeRequest, index: usize) -> NodeRequest {
    let mut request = request.clone();
    if let NodeRequest::AddPort {
        attachment: Attachment::Fabric { member, .. },
        ..
    } = &mut request
    {
        *member += u32::try_from(index).unwrap_or(u32::MAX);
    }
    request
}

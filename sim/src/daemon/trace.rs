//! Following a packet: begun on every node, fed in at its source, collected until it has ended everywhere.
//!
//! Decides when a trace is complete and how long it is waited for. The lab's lock is taken for each round of questions only,
//! so that a packet which waits for a neighbour holds nobody up.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use router_core::trace::ARMED_MAX;

use super::lab::{Lab, LabError};
use super::nodes::{ANSWER_TIMEOUT, NodeRuntime};
use super::server::Server;
use crate::control::node::{NodeReply, NodeRequest};
use crate::control::proto::{ErrorKind, Target};
use crate::node::handle::NodeError;
use crate::trace::origin::{self, Departure};
use crate::trace::story;
use crate::trace::{ANSWER_MS, Collected, DEADLINE_MS, Meanings, NodeTrace, Wanted};

/// Time between two rounds of questions, at first and at most.
const ROUND: Duration = Duration::from_millis(2);
const ROUND_MAX: Duration = Duration::from_millis(50);

/// Numbers of traces that are under way.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    used: BTreeSet<u8>,
    last: u8,
}

impl Numbers {
    /// A number that is not in use, and wasn't lately. None when as many are under way as a router records.
    fn take(&mut self) -> Option<u8> {
        if self.used.len() >= ARMED_MAX {
            return None;
        }
        loop {
            self.last = self.last.wrapping_add(1);
            if self.last != 0 && self.used.insert(self.last) {
                return Some(self.last);
            }
        }
    }
}

impl Server {
    /// Sends a packet and says what became of it.
    ///
    /// # Errors
    /// [`LabError`], when it could not be sent.
    pub(super) fn trace(&self, wanted: &Wanted) -> Result<Collected, LabError> {
        let (trace, mut collected) = self.with_lab(|lab| lab.begin_trace(wanted))?;
        let refused = collected.origin.refused.is_some();
        let followed = if refused {
            Ok(())
        } else {
            self.follow(trace, &mut collected)
        };
        self.with_lab(|lab| {
            lab.end_trace(trace);
            Ok(())
        })?;
        followed.map(|()| collected)
    }

    fn follow(&self, trace: u8, collected: &mut Collected) -> Result<(), LabError> {
        let deadline = Instant::now() + Duration::from_millis(DEADLINE_MS);
        let mut quiet_since = None;
        let mut pause = ROUND;
        loop {
            self.with_lab(|lab| {
                lab.collect_trace(trace, collected);
                Ok(())
            })?;
            if story::is_complete(collected) {
                // Nodes were not asked at one instant: of what led to this, some may have been recorded after its node answered.
                return self.with_lab(|lab| {
                    lab.collect_trace(trace, collected);
                    Ok(())
                });
            }
            let now = Instant::now();
            if story::is_settled(&collected.nodes) {
                let since = *quiet_since.get_or_insert(now);
                if now.duration_since(since) >= Duration::from_millis(ANSWER_MS) {
                    return Ok(());
                }
            } else {
                quiet_since = None;
            }
            if now >= deadline {
                collected.timed_out = true;
                return Ok(());
            }
            std::thread::sleep(pause);
            pause = (pause * 3 / 2).min(ROUND_MAX);
        }
    }
}

impl Lab {
    /// Begins a trace everywhere and sends the packet.
    fn begin_trace(&mut self, wanted: &Wanted) -> Result<(u8, Collected), LabError> {
        let Departure { origin, frames } = self.depart(wanted)?;
        let trace = self.traces.take().ok_or_else(|| {
            let text = format!("{ARMED_MAX} traces are under way already; try again");
            LabError::new(ErrorKind::Unsupported, text)
        })?;
        let mut collected = Collected {
            origin,
            nodes: Vec::new(),
            timed_out: false,
        };
        let begun = (|| {
            for (node, reply) in self.ask_all(|_| Some(NodeRequest::TraceBegin { trace })) {
                collected.nodes.push(NodeTrace {
                    node,
                    ports: Vec::new(),
                    meanings: Meanings::default(),
                    records: Vec::new(),
                    lost: 0,
                    failure: reply.err().map(|error| error.to_string()),
                });
            }
            let port = collected.origin.port;
            let node = &collected.origin.node;
            for frame in frames {
                let runtime = self
                    .nodes
                    .get_mut(node)
                    .ok_or_else(|| LabError::internal(format!("node {node} has no process")))?;
                runtime.request(NodeRequest::TraceInject { trace, port, frame }, &[])?;
            }
            Ok(())
        })();
        match begun {
            Ok(()) => Ok((trace, collected)),
            Err(error) => {
                self.end_trace(trace);
                Err(error)
            }
        }
    }

    fn end_trace(&mut self, trace: u8) {
        for (node, reply) in self.ask_all(|_| Some(NodeRequest::TraceEnd { trace })) {
            if let Err(error) = reply {
                // A process that is started again has forgotten it.
                tracing::debug!("trace {trace} on {node:?}: {error}");
            }
        }
        self.traces.used.remove(&trace);
    }

    /// Adds what the nodes have recorded since the last time.
    fn collect_trace(&mut self, trace: u8, collected: &mut Collected) {
        let known = &collected.nodes;
        let replies = self.ask_all(|name| {
            let node = known.iter().find(|node| node.node.as_deref() == name)?;
            let from = node.records.len();
            let open = node.failure.is_none();
            open.then_some(NodeRequest::TraceSteps { trace, from })
        });
        for (name, reply) in replies {
            let Some(known) = collected.nodes.iter_mut().find(|node| node.node == name) else {
                continue;
            };
            match reply {
                Ok(NodeReply::Trace {
                    records,
                    lost,
                    ports,
                }) => {
                    // The lock is ours: what the router obeyed is what the cluster says.
                    let node = known.node.as_deref();
                    let snapshot = || self.cluster.snapshot(node?).ok();
                    known.meanings.learn(&records, snapshot);
                    known.records.extend(records);
                    known.lost = lost;
                    known.ports = ports;
                }
                Ok(_) => known.failure = Some("unexpected answer".to_owned()),
                Err(error) => known.failure = Some(error.to_string()),
            }
        }
    }

    /// Asks node processes, and that of the gateway, whose name is none, at the same time. `request` gives what each is
    /// asked, if it is.
    pub(super) fn ask_all(
        &mut self,
        request: impl Fn(Option<&str>) -> Option<NodeRequest>,
    ) -> Vec<(Option<String>, Result<NodeReply, NodeError>)> {
        let Self {
            nodes, internet, ..
        } = self;
        let nodes = nodes.iter_mut().map(|(name, node)| (Some(name), node));
        let all = nodes.chain(internet.as_mut().map(|node| (None, node)));
        let posted: Vec<(Option<&String>, &mut NodeRuntime, _)> = all
            .filter_map(|(name, node)| {
                let request = request(name.map(String::as_str))?;
                let ticket = node.post(request, &[]);
                Some((name, node, ticket))
            })
            .collect();
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        posted
            .into_iter()
            .map(|(name, node, ticket)| {
                let reply = ticket.and_then(|ticket| node.wait(ticket, deadline));
                (name.cloned(), reply)
            })
            .collect()
    }

    fn depart(&self, wanted: &Wanted) -> Result<Departure, LabError> {
        let invalid = |error| LabError::new(ErrorKind::Invalid, error);
        let (name, node) = match &wanted.from {
            Target::Node { name } => (format!("node/{name}"), name),
            Target::Pod { namespace, name } => {
                let pod = self.cluster.pod(namespace, name)?;
                if let Some(link) = &pod.link {
                    let node = self.cluster.node(&pod.node)?;
                    let pods = self.cluster.pods().filter(|p| p.node == pod.node);
                    let pods: Vec<_> = pods.collect();
                    return origin::from_pod(wanted, pod, link, node, &pods).map_err(invalid);
                }
                (pod.key(), &pod.node)
            }
        };
        let snapshot = self.cluster.snapshot(node)?;
        let node = self.cluster.node(node)?;
        origin::from_node(wanted, name, node, &snapshot).map_err(invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number comes back only after all others, so that frames of an old trace do not stray into a new one.
    #[test]
    fn numbers_are_reused_late_and_bounded() {
        let mut numbers = Numbers::default();
        let first = numbers.take();
        assert_eq!(first, Some(1));
        numbers.used.remove(&1);
        for expected in 2..=255 {
            assert_eq!(numbers.take(), Some(expected));
            numbers.used.remove(&expected);
        }
        assert_eq!(numbers.take(), Some(1));
        for _ in 1..ARMED_MAX {
            assert!(numbers.take().is_some());
        }
        assert_eq!(numbers.take(), None);
    }
}

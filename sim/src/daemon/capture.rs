//! Captures: begun on the nodes concerned, and ended when the client says so or goes away.
//!
//! Decides how much memory the rings of a capture have, and that a node process which is started again goes on with
//! them. No packet passes here: nodes write into rings that the client reads.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use tap_bridge::layer::capture::filter::Filter;
use tap_bridge::layer::capture::ring::{self, MIN_WORDS};
use tap_bridge::sys::eventfd::Doorbell;

use super::lab::{Lab, LabError};
use super::nodes::{ANSWER_TIMEOUT, NodeRuntime};
use super::server::{CLIENT_TIMEOUT, Server, refusal};
use crate::control::capture::{CaptureCounts, CaptureOrder, CapturePlace};
use crate::control::codec::{CodecError, Connection};
use crate::control::node::{NodeReply, NodeRequest};
use crate::control::proto::{ErrorKind, Request, Response};
use crate::node::handle::{NodeError, Ticket};

/// Memory of all rings of one capture, words, where the nodes are many.
const ALL_WORDS: usize = 1 << 25;

/// Memory of one ring, words, where they are few: 8 MB, which at 10 Gbit/s are 6 ms.
const MAX_WORDS: usize = 1 << 20;

/// What a node process is given, now and after its death.
#[derive(Debug)]
pub(super) struct CaptureMemory {
    order: CaptureOrder,
    /// One for each worker.
    rings: Vec<OwnedFd>,
    bell: Arc<Doorbell>,
}

/// A capture that has begun.
struct Begun {
    number: u32,
    bell: Arc<Doorbell>,
    rings: Vec<(Option<String>, usize, OwnedFd)>,
}

/// What nodes have counted, by name.
type Counts = Vec<(Option<String>, Vec<CaptureCounts>)>;

impl Server {
    /// Serves a client that captures, until it says that it is enough or closes.
    pub(super) fn capture(
        &self,
        connection: &mut Connection,
        places: Vec<CapturePlace>,
        filter: &str,
        snaplen: u32,
    ) -> Result<(), CodecError> {
        let begun = Filter::parse(filter)
            .map_err(|error| LabError::new(ErrorKind::Invalid, error))
            .and_then(|_| self.with_lab(|lab| lab.begin_capture(places, filter, snaplen)));
        let begun = match begun {
            Ok(begun) => begun,
            Err(error) => return connection.send(&refusal(error), &[]),
        };
        let asked = hand_over(connection, &begun).and_then(|()| {
            connection.set_deadline(None);
            connection.recv::<Request>()
        });
        let ended = self.with_lab(|lab| Ok(lab.end_capture(begun.number)));
        connection.set_deadline(Some(Instant::now() + CLIENT_TIMEOUT));
        let response = match (asked?.0, ended) {
            (Request::CaptureEnd, Ok(nodes)) => Response::Captured { nodes },
            (Request::CaptureEnd, Err(error)) => refusal(error),
            _ => Response::Error {
                kind: ErrorKind::Invalid,
                message: "the capture of this connection has not ended".to_owned(),
            },
        };
        connection.send(&response, &[])
    }
}

fn hand_over(connection: &mut Connection, begun: &Begun) -> Result<(), CodecError> {
    let rings = begun.rings.len();
    connection.send(&Response::CaptureBegun { rings }, &[begun.bell.as_fd()])?;
    begun.rings.iter().try_for_each(|(node, words, ring)| {
        let response = Response::CaptureRing {
            node: node.clone(),
            words: *words,
        };
        connection.send(&response, &[ring.as_fd()])
    })
}

impl Lab {
    fn begin_capture(
        &mut self,
        places: Vec<CapturePlace>,
        filter: &str,
        snaplen: u32,
    ) -> Result<Begun, LabError> {
        let broken = |error| LabError::internal(format!("memory for the capture: {error}"));
        if places.is_empty() {
            return Err(LabError::new(
                ErrorKind::Invalid,
                "nothing is to be captured",
            ));
        }
        let number = self.next_capture;
        self.next_capture = number.wrapping_add(1);
        let words = (ALL_WORDS / places.len()).clamp(MIN_WORDS, MAX_WORDS);
        let bell = Arc::new(Doorbell::new().map_err(broken)?);
        let mut begun = Begun {
            number,
            bell,
            rings: Vec::new(),
        };
        let outcome = places.into_iter().try_for_each(|place| {
            let node = self.capturing_node(place.node.as_deref())?;
            let rings = (0..node.workers()).map(|_| ring::create(words));
            let rings = rings.collect::<io::Result<Vec<_>>>().map_err(broken)?;
            let copies = rings.iter().map(OwnedFd::try_clone);
            let copies = copies.collect::<io::Result<Vec<_>>>().map_err(broken)?;
            let memory = CaptureMemory {
                order: CaptureOrder {
                    ports: place.ports,
                    drops: place.drops,
                    filter: filter.to_owned(),
                    snaplen,
                    words,
                },
                rings,
                bell: Arc::clone(&begun.bell),
            };
            node.begin_capture(number, memory)?;
            for copy in copies {
                begun.rings.push((place.node.clone(), words, copy));
            }
            Ok(())
        });
        if let Err(error) = outcome {
            self.end_capture(number);
            return Err(error);
        }
        Ok(begun)
    }

    fn capturing_node(&mut self, name: Option<&str>) -> Result<&mut NodeRuntime, LabError> {
        let Some(name) = name else {
            let none = || {
                LabError::new(
                    ErrorKind::NotFound,
                    "this lab has nothing behind its gateway",
                )
            };
            return self.internet.as_mut().ok_or_else(none);
        };
        self.cluster.node(name)?;
        let gone = || LabError::internal(format!("node {name} has no process"));
        self.nodes.get_mut(name).ok_or_else(gone)
    }

    fn end_capture(&mut self, capture: u32) -> Counts {
        let Self {
            nodes, internet, ..
        } = self;
        let nodes = nodes.iter_mut().map(|(name, node)| (Some(name), node));
        let all = nodes.chain(internet.as_mut().map(|node| (None, node)));
        let posted: Vec<(Option<&String>, &mut NodeRuntime, _)> = all
            .filter_map(|(name, node)| {
                let ticket = node.end_capture(capture)?;
                Some((name, node, ticket))
            })
            .collect();
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let answers = posted.into_iter().filter_map(|(name, node, ticket)| {
            match ticket.and_then(|ticket| node.wait(ticket, deadline)) {
                Ok(NodeReply::Captured { counts }) => Some((name.cloned(), counts)),
                Ok(_) => None,
                Err(error) => {
                    // A process that is started again has forgotten what it had counted.
                    tracing::debug!("capture {capture} on {name:?}: {error}");
                    None
                }
            }
        });
        answers.collect()
    }
}

impl NodeRuntime {
    fn begin_capture(&mut self, number: u32, memory: CaptureMemory) -> Result<(), NodeError> {
        let ticket = self.post_capture(number, &memory)?;
        self.wait(ticket, Instant::now() + ANSWER_TIMEOUT)?;
        self.captures.insert(number, memory);
        Ok(())
    }

    fn post_capture(&mut self, capture: u32, memory: &CaptureMemory) -> Result<Ticket, NodeError> {
        let order = memory.order.clone();
        let request = NodeRequest::CaptureBegin { capture, order };
        let bell = memory.bell.as_fd();
        let rings = memory.rings.iter();
        let fds: Vec<_> = rings.flat_map(|ring| [ring.as_fd(), bell]).collect();
        self.post(request, &fds)
    }

    /// Has a new process go on with the captures of the one before it.
    pub(super) fn resume_captures(&mut self) -> Result<Vec<Ticket>, NodeError> {
        let captures = std::mem::take(&mut self.captures);
        let posted = captures
            .iter()
            .map(|(number, memory)| self.post_capture(*number, memory))
            .collect();
        self.captures = captures;
        posted
    }

    /// None when it takes no part in this one.
    fn end_capture(&mut self, capture: u32) -> Option<Result<Ticket, NodeError>> {
        self.captures.remove(&capture)?;
        Some(self.post(NodeRequest::CaptureEnd { capture }, &[]))
    }
}

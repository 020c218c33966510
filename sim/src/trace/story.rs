//! What happened, in order, and how it ended.
//!
//! The nodes read one clock (CLOCK_MONOTONIC of the machine), but each only once per batch, so that a frame can be received
//! "before" it was sent. Order is therefore by cause first: each node's steps stay in their order, and what comes over the
//! fabric follows its sending; among what is possible the earliest goes first.

use std::net::Ipv4Addr;

use router_core::trace::{Answered, Record, Role, Step, Transport};
use router_core::{DropReason, Instant, PortId};

use super::{Collected, NodeTrace};

/// One frame on one node: from its arrival, or its making, to its end there.
#[derive(Clone, Debug, PartialEq)]
pub struct Visit<'a> {
    /// Where.
    pub node: &'a NodeTrace,
    /// What the frame is to the packet.
    pub role: Role,
    /// The steps, with their times.
    pub records: Vec<&'a Record>,
}

impl Visit<'_> {
    /// True when the frame is gone from here.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.records.last().is_some_and(|r| r.step.is_end())
    }

    /// The port that it left by.
    #[must_use]
    pub fn left_by(&self) -> Option<PortId> {
        self.records.iter().find_map(|r| match r.step {
            Step::Tx { port, .. } => Some(port),
            _ => None,
        })
    }

    /// The reason for which it was dropped here.
    #[must_use]
    pub fn dropped(&self) -> Option<DropReason> {
        self.records.iter().find_map(|r| match r.step {
            Step::Dropped { reason } => Some(reason),
            _ => None,
        })
    }

    fn came_by_fabric(&self) -> bool {
        matches!(self.records.first().map(|r| r.step), Some(Step::Rx { port, .. }) if is_fabric(self.node, port))
    }

    fn left_by_fabric(&self) -> bool {
        self.left_by()
            .is_some_and(|port| is_fabric(self.node, port))
    }

    /// The router itself answers the packet here.
    fn answered_here(&self) -> bool {
        self.records
            .iter()
            .any(|r| matches!(r.step, Step::Local { by } if by != Answered::Host))
    }
}

fn is_fabric(node: &NodeTrace, port: PortId) -> bool {
    node.ports.iter().any(|p| p.id == port && p.fabric)
}

/// The visits of all frames, in order.
#[must_use]
pub fn visits(nodes: &[NodeTrace]) -> Vec<Visit<'_>> {
    let mut per_node: Vec<Vec<Visit<'_>>> = nodes.iter().map(of_node).collect();
    for list in &mut per_node {
        list.reverse();
    }
    let mut ordered: Vec<Visit<'_>> = Vec::new();
    loop {
        let under_way = |role| {
            let of_role = || ordered.iter().filter(|v| v.role == role);
            of_role().filter(|v| v.left_by_fabric()).count()
                > of_role().filter(|v| v.came_by_fabric()).count()
        };
        let at = |v: &Visit<'_>| v.records.first().map_or(Instant::ZERO, |r| r.at);
        let heads = per_node
            .iter()
            .enumerate()
            .filter_map(|(n, list)| Some((n, list.last()?)));
        // What has no cause yet comes last, but it does come: a sender's record may be missing.
        let next = heads.min_by_key(|(_, v)| (v.came_by_fabric() && !under_way(v.role), at(v)));
        let Some((n, _)) = next else { return ordered };
        ordered.extend(per_node[n].pop());
    }
}

/// The visits to one node, by the time of their beginning.
fn of_node(node: &NodeTrace) -> Vec<Visit<'_>> {
    let mut list: Vec<Visit<'_>> = Vec::new();
    for record in &node.records {
        let role = record.mark.role();
        if record.step.is_start() {
            list.push(Visit {
                node,
                role,
                records: vec![record],
            });
            continue;
        }
        let mut open = list.iter_mut().filter(|v| v.role == role && !v.is_over());
        let waits = |v: &Visit<'_>| {
            v.records
                .last()
                .is_some_and(|r| matches!(r.step, Step::Held { .. } | Step::Asked { .. }))
        };
        // Who waited longest is released first; everything else is about the frame that came last.
        let owner = match record.step {
            Step::Released { .. } => open.find(|v| waits(v)),
            _ => open.next_back(),
        };
        match owner {
            Some(visit) => visit.records.push(record),
            None => list.push(Visit {
                node,
                role,
                records: vec![record],
            }),
        }
    }
    list
}

/// True when nothing is under way any more.
#[must_use]
pub fn is_settled(nodes: &[NodeTrace]) -> bool {
    let visits = visits(nodes);
    [Role::Packet, Role::Answer, Role::Error]
        .iter()
        .all(|&role| {
            let of_role = || visits.iter().filter(|v| v.role == role);
            of_role().all(Visit::is_over)
                && of_role().filter(|v| v.left_by_fabric()).count()
                    <= of_role().filter(|v| v.came_by_fabric()).count()
        })
}

/// Where a packet went that left the routers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Name of the node; none behind the gateway.
    pub node: Option<String>,
    /// The port.
    pub port: PortId,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The source has the answer.
    Answered {
        /// Who answered; none: the router of the node.
        by: Option<Delivery>,
        /// That node, where the router answered.
        node: Option<String>,
        /// ICMP error, reset, or a real answer.
        with: Option<Transport>,
        /// Time from the first step to the answer's delivery.
        nanos: u64,
    },
    /// It arrived; there was no answer in time.
    Delivered {
        /// Where.
        at: Delivery,
    },
    /// It arrived, but the answer did not come back.
    AnswerDropped {
        /// Where the packet arrived; none where a router answered.
        at: Option<Delivery>,
        /// Node where the answer ended; none behind the gateway.
        node: Option<String>,
        /// Why.
        reason: DropReason,
    },
    /// It was dropped.
    Dropped {
        /// Node; none behind the gateway.
        node: Option<String>,
        /// Why.
        reason: DropReason,
        /// The ICMP error that reached the source, if one did.
        told: Option<Transport>,
    },
    /// It never left the source.
    Refused {
        /// Why.
        reason: String,
    },
    /// Nobody knows: a frame was sent and did not arrive, or still waits.
    Lost {
        /// Where it was seen last.
        node: Option<String>,
        /// It waits there for address resolution.
        held: bool,
    },
}

impl Verdict {
    /// True when the packet arrived and nothing is known to be wrong with its answer.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        matches!(self, Self::Answered { .. } | Self::Delivered { .. })
    }

    /// One word, for scripts.
    #[must_use]
    pub const fn outcome(&self) -> &'static str {
        match self {
            Self::Answered { .. } => "answered",
            Self::Delivered { .. } => "delivered",
            Self::AnswerDropped { .. } => "answer-dropped",
            Self::Dropped { .. } => "dropped",
            Self::Refused { .. } => "refused",
            Self::Lost { .. } => "lost",
        }
    }
}

/// What the packet in a visit says, of its transport header.
fn transport(visit: &Visit<'_>) -> Option<Transport> {
    visit.records.iter().find_map(|r| match r.step {
        Step::Header { packet } | Step::Made { packet, .. } | Step::Piece { packet } => {
            Some(packet.transport)
        }
        _ => None,
    })
}

/// Places where the packet left the routers for a pod, a host namespace or the internet.
pub fn deliveries<'a>(
    visits: &'a [Visit<'a>],
    role: Role,
) -> impl Iterator<Item = (Delivery, &'a Visit<'a>)> {
    visits
        .iter()
        .filter(move |v| v.role == role && !v.left_by_fabric())
        .filter_map(|v| {
            let port = v.left_by()?;
            let node = v.node.node.clone();
            Some((Delivery { node, port }, v))
        })
}

/// How it ended.
#[must_use]
pub fn verdict(collected: &Collected, visits: &[Visit<'_>]) -> Verdict {
    let origin = &collected.origin;
    if let Some(reason) = &origin.refused {
        let reason = reason.clone();
        return Verdict::Refused { reason };
    }
    let home = |d: &Delivery| d.node.as_deref() == Some(&origin.node) && d.port == origin.port;
    let began = visits.first().and_then(|v| v.records.first()).map(|r| r.at);
    let arrived = deliveries(visits, Role::Packet).next().map(|(d, _)| d);
    let router = visits
        .iter()
        .find(|v| v.role == Role::Packet && v.answered_here());
    if let Some((_, last)) = deliveries(visits, Role::Answer).find(|(d, _)| home(d)) {
        let ended = last.records.last().map(|r| r.at);
        let took = began.zip(ended).map(|(b, e)| e.since(b).as_nanos());
        return Verdict::Answered {
            by: arrived,
            node: router.and_then(|v| v.node.node.clone()),
            with: transport(last),
            nanos: took.and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
        };
    }
    let dropped = |role| {
        visits
            .iter()
            .filter(move |v| v.role == role)
            .find_map(|v| Some((v.node.node.clone(), v.dropped()?)))
    };
    if arrived.is_some() || router.is_some() {
        if let Some((node, reason)) = dropped(Role::Answer) {
            let at = arrived;
            return Verdict::AnswerDropped { at, node, reason };
        }
        if let Some(at) = arrived {
            return Verdict::Delivered { at };
        }
    }
    if let Some((node, reason)) = dropped(Role::Packet) {
        let told = deliveries(visits, Role::Error).find(|(d, _)| home(d));
        return Verdict::Dropped {
            node,
            reason,
            told: told.and_then(|(_, v)| transport(v)),
        };
    }
    let last = visits.iter().rev().find(|v| v.role != Role::Error);
    Verdict::Lost {
        node: last
            .and_then(|v| v.node.node.clone())
            .or_else(|| Some(origin.node.clone())),
        held: last.is_some_and(|v| !v.is_over()),
    }
}

/// True when the trace has all that is to be expected: an answer that came home, or a packet that went no further.
#[must_use]
pub fn is_complete(collected: &Collected) -> bool {
    if !is_settled(&collected.nodes) {
        return false;
    }
    let visits = visits(&collected.nodes);
    !matches!(
        verdict(collected, &visits),
        Verdict::Delivered { .. } | Verdict::Lost { .. }
    )
}

/// The address that a source is known by.
#[must_use]
pub fn source(collected: &Collected) -> Ipv4Addr {
    collected.origin.src
}

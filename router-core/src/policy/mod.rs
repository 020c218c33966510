//! NetworkPolicy at the pods of this node: step 7a for what a pod sends to the node, step 7b for what is forwarded.
//!
//! Decides whether a packet may pass: egress at the port that it came from, ingress at the port that it leaves by, so that
//! both ends apply also on one node (NP-9) and each end where its pod is (NP-20). Sees the packet behind destination NAT and
//! before source NAT (NP-6, NP-25), of a fragmented datagram the set (NP-21). A packet that is refused is dropped without an
//! answer (NP-11) under a reason that names the direction.
//!
//! Does not decide: selectors, namespaces and names of ports are resolved by the control plane into [`PolicyConfig`]. The
//! state of the connection comes from conntrack as [`CtState`].
//!
//! Semantics: Kubernetes' API reference of networking.k8s.io/v1; where it leaves room, Calico's (felix/rules/endpoints.go):
//! - what belongs to a tracked connection passes, also against a policy that came later (NP-10, NP-16);
//! - INVALID packets to or from an isolated pod are dropped, except for "fragmentation needed" about a packet of that
//!   pod's (NP-12);
//! - the node reaches its own pods always (NP-13); what a pod sends to its node is subject to its egress policy;
//! - a pod reaches itself always, through a service as well (NP-14).
//!
//! Cost: a packet of ports without isolated pods pays two loads; one at an isolated pod pays what `program` says, which does
//! not depend on the number of policies. Immutable; a new snapshot brings a new one (NP-19).

mod config;
mod program;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::net::Ipv4Addr;

pub use config::{
    AddressRange, PolicyConfig, PolicyEndpoint, PolicyName, PolicyPeers, PolicyPorts,
    PolicyProgram, PolicyRule,
};
use program::Program;

use crate::config::{PortId, Snapshot};
use crate::stats::DropReason;
use crate::wire::icmpv4::{self, DEST_UNREACHABLE};
use crate::wire::ipv4::{Ipv4, PROTOCOL_ICMP, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP};

/// Code of ICMP destination unreachable: fragmentation needed and DF set.
const FRAGMENTATION_NEEDED: u8 = 4;

/// Which way, as a NetworkPolicy says it: seen from the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Direction {
    /// To the pod.
    Ingress,
    /// From the pod.
    Egress,
}

impl Direction {
    /// `ingress` or `egress`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    const fn refusal(self) -> DropReason {
        match self {
            Self::Ingress => DropReason::PolicyIngress,
            Self::Egress => DropReason::PolicyEgress,
        }
    }
}

/// What conntrack says about a packet, with Linux's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtState {
    /// Begins a connection, or belongs to one that has not been answered yet.
    New,
    /// Belongs to a connection that has been answered.
    Established,
    /// An ICMP error about a tracked connection.
    Related,
    /// Belongs to nothing and can't begin anything.
    Invalid,
}

/// What policy looks at: addresses and port behind destination NAT, before source NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Source.
    pub src: Ipv4Addr,
    /// Destination.
    pub dst: Ipv4Addr,
    /// IP protocol.
    pub protocol: u8,
    /// Destination port of TCP, UDP, SCTP.
    pub dport: Option<u16>,
    /// State of its connection.
    pub state: CtState,
    /// Of an ICMP "fragmentation needed": the source of the packet that it quotes.
    pub too_big_from: Option<Ipv4Addr>,
}

impl Subject {
    /// Of a datagram, or of its first fragment. A later fragment alone has no port: only rules that are for all ports are
    /// for it (NP-21).
    #[must_use]
    pub fn of(ip: &Ipv4<'_>, state: CtState) -> Self {
        let begins = ip.fragment_offset() == 0;
        let payload = ip.payload();
        let dport = match (begins, ip.protocol(), payload) {
            (true, PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_SCTP, [_, _, high, low, ..]) => {
                Some(u16::from_be_bytes([*high, *low]))
            }
            _ => None,
        };
        let too_big_from = match (begins, ip.protocol(), payload) {
            (true, PROTOCOL_ICMP, [DEST_UNREACHABLE, FRAGMENTATION_NEEDED, ..]) => payload
                .get(icmpv4::HEADER_LEN..)
                .and_then(Ipv4::peek)
                .map(|quoted| quoted.src()),
            _ => None,
        };
        Self {
            src: ip.src(),
            dst: ip.dst(),
            protocol: ip.protocol(),
            dport,
            state,
            too_big_from,
        }
    }
}

/// Why a packet may pass one end, or may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Judgement {
    /// No policy isolates the pod in this direction, or there is no pod.
    NotIsolated,
    /// Belongs to a connection that was allowed.
    Tracked,
    /// From the node to its own pod, or from a pod to itself.
    Exempt,
    /// A rule allows it: numbers of its policy and of the rule within it.
    Allowed {
        /// See [`PolicyConfig::policies`](crate::config).
        policy: u32,
        /// Place in the policy's list of this direction, from 0.
        rule: u32,
    },
    /// No rule allows it; one of the policies that isolate the pod.
    Denied {
        /// See [`PolicyConfig::policies`](crate::config); none where the configuration names no policy.
        policy: Option<u32>,
    },
    /// INVALID at an isolated pod.
    Invalid,
}

impl Judgement {
    /// Why the packet is dropped, if it is.
    #[must_use]
    pub const fn refusal(self, direction: Direction) -> Option<DropReason> {
        match self {
            Self::Denied { .. } => Some(direction.refusal()),
            Self::Invalid => Some(DropReason::PolicyInvalid),
            _ => None,
        }
    }
}

/// The pods behind one port.
#[derive(Clone, Copy, Debug, Default)]
enum Behind {
    #[default]
    Nobody,
    One(usize),
    /// Part of `endpoints`, sorted by address.
    Several {
        first: usize,
        count: usize,
    },
}

#[derive(Debug)]
struct Endpoint {
    ip: Ipv4Addr,
    ingress: Option<usize>,
    egress: Option<usize>,
}

impl Endpoint {
    fn program(&self, direction: Direction) -> Option<usize> {
        match direction {
            Direction::Ingress => self.ingress,
            Direction::Egress => self.egress,
        }
    }
}

/// The policies of one snapshot, compiled. See the module.
#[derive(Debug, Default)]
pub struct Policy {
    /// By the port's place in the snapshot; empty when nothing is enforced.
    behind: Vec<Behind>,
    endpoints: Vec<Endpoint>,
    programs: Vec<Program>,
    /// Addresses of endpoints, sorted, with their places.
    by_address: Vec<(Ipv4Addr, usize)>,
}

impl Policy {
    /// The policies of a snapshot. Endpoints of ports that it does not have are left out; a program that it does not have
    /// allows nothing.
    #[must_use]
    pub fn new(snapshot: &Snapshot) -> Self {
        let config = &snapshot.policy;
        let isolated = |e: &PolicyEndpoint| e.ingress.is_some() || e.egress.is_some();
        if !config.endpoints.iter().any(isolated) {
            return Self::default();
        }
        let mut programs: Vec<Program> = config
            .programs
            .iter()
            .map(|program| Program::new(program, &config.sets))
            .collect();
        programs.push(Program::default());
        let place = |number: Option<u32>| {
            let known = |n: &usize| *n < config.programs.len();
            let number = number?;
            let number = usize::try_from(number).ok().filter(known);
            Some(number.unwrap_or(config.programs.len()))
        };
        let mut sorted: Vec<(usize, PolicyEndpoint)> = config
            .endpoints
            .iter()
            .filter_map(|&e| Some((slot_of(snapshot, e.port)?, e)))
            .collect();
        sorted.sort_by_key(|(slot, endpoint)| (*slot, endpoint.ip));
        let mut behind = alloc::vec![Behind::Nobody; snapshot.ports.len()];
        for (at, (slot, _)) in sorted.iter().enumerate() {
            if let Some(behind) = behind.get_mut(*slot) {
                *behind = match *behind {
                    Behind::Nobody => Behind::One(at),
                    Behind::One(first) => Behind::Several { first, count: 2 },
                    Behind::Several { first, count } => Behind::Several {
                        first,
                        count: count + 1,
                    },
                };
            }
        }
        let mut by_address: Vec<(Ipv4Addr, usize)> = (0..)
            .zip(&sorted)
            .map(|(at, (_, endpoint))| (endpoint.ip, at))
            .collect();
        by_address.sort_unstable();
        let endpoints = sorted
            .into_iter()
            .map(|(_, endpoint)| Endpoint {
                ip: endpoint.ip,
                ingress: place(endpoint.ingress),
                egress: place(endpoint.egress),
            })
            .collect();
        Self {
            behind,
            endpoints,
            programs,
            by_address,
        }
    }

    /// Whether a connection that is tracked could not begin now (NP-17). `src` began it, `dst` is who really answers;
    /// `from_node`: one of the node's own addresses began it.
    #[must_use]
    pub fn refuses(
        &self,
        src: Ipv4Addr,
        dst: Ipv4Addr,
        (protocol, dport): (u8, Option<u16>),
        from_node: bool,
    ) -> bool {
        let refused = |direction: Direction, own: Ipv4Addr, peer: Ipv4Addr| {
            let place = self.by_address.binary_search_by_key(&own, |(ip, _)| *ip);
            place
                .ok()
                .and_then(|at| self.by_address.get(at))
                .and_then(|(_, at)| self.endpoints.get(*at)?.program(direction))
                .and_then(|number| self.programs.get(number))
                .is_some_and(|program| program.find(peer, protocol, dport).is_none())
        };
        src != dst
            && (refused(Direction::Egress, src, dst)
                || (!from_node && refused(Direction::Ingress, dst, src)))
    }

    /// True when no pod of the node is isolated: nothing has to be asked.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.behind.is_empty()
    }

    /// Whether a packet from the port at place `from` (none: from the node itself) may be forwarded to the port at `to`
    /// (none: it is for the node).
    ///
    /// # Errors
    /// The reason to drop it, silently.
    #[inline]
    pub fn check(
        &self,
        from: Option<usize>,
        to: Option<usize>,
        subject: &Subject,
    ) -> Result<(), DropReason> {
        if self.is_empty() {
            return Ok(());
        }
        for direction in [Direction::Egress, Direction::Ingress] {
            let judgement = self.judge(None, direction, from, to, subject);
            if let Some(reason) = judgement.refusal(direction) {
                return Err(reason);
            }
        }
        Ok(())
    }

    /// What one end says about a packet, see [`Policy::check`]. With the configuration that this was made of, the answer
    /// names the policy.
    #[must_use]
    pub fn judge(
        &self,
        config: Option<&PolicyConfig>,
        direction: Direction,
        from: Option<usize>,
        to: Option<usize>,
        subject: &Subject,
    ) -> Judgement {
        let (here, own, peer) = match direction {
            Direction::Egress => (from, subject.src, subject.dst),
            Direction::Ingress => (to, subject.dst, subject.src),
        };
        let Some((at, endpoint)) = self.endpoint(here, own) else {
            return Judgement::NotIsolated;
        };
        let Some(number) = endpoint.program(direction) else {
            return Judgement::NotIsolated;
        };
        match subject.state {
            CtState::Established | CtState::Related => return Judgement::Tracked,
            CtState::Invalid if subject.too_big_from == Some(endpoint.ip) => {
                return Judgement::Tracked;
            }
            CtState::Invalid => return Judgement::Invalid,
            CtState::New => {}
        }
        let itself = || {
            let (there, other) = match direction {
                Direction::Egress => (to, subject.dst),
                Direction::Ingress => (from, subject.src),
            };
            self.endpoint(there, other).is_some_and(|(n, _)| n == at)
        };
        if (direction == Direction::Ingress && from.is_none()) || itself() {
            return Judgement::Exempt;
        }
        let found = self
            .programs
            .get(number)
            .and_then(|program| program.find(peer, subject.protocol, subject.dport));
        let written = config.and_then(|config| config.programs.get(number));
        match found {
            Some(rule) => {
                let rule = usize::try_from(rule)
                    .ok()
                    .and_then(|rule| written?.rules.get(rule));
                Judgement::Allowed {
                    policy: rule.map_or(u32::MAX, |rule| rule.policy),
                    rule: rule.map_or(u32::MAX, |rule| rule.number),
                }
            }
            None => Judgement::Denied {
                policy: written.and_then(|program| program.policies.first().copied()),
            },
        }
    }

    /// The pod that a packet at the port at place `slot` is from or to.
    #[inline]
    fn endpoint(&self, slot: Option<usize>, ip: Ipv4Addr) -> Option<(usize, &Endpoint)> {
        let at = match *self.behind.get(slot?)? {
            Behind::Nobody => return None,
            Behind::One(at) => at,
            Behind::Several { first, count } => {
                let here = self.endpoints.get(first..)?.get(..count)?;
                first + here.binary_search_by_key(&ip, |e| e.ip).ok()?
            }
        };
        Some((at, self.endpoints.get(at)?))
    }
}

fn slot_of(snapshot: &Snapshot, port: PortId) -> Option<usize> {
    snapshot.ports.iter().position(|p| p.id == port)
}

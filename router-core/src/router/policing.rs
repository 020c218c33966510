//! NetworkPolicy in the packet path: input policy of step 7a and forward policy of step 7b.

use super::{Io, Router, packet};
use crate::conntrack::Seen;
use crate::frame::Frame;
use crate::l2::Link;
use crate::policy::{CtState, Direction, Judgement, Subject};
use crate::stats::DropReason;
use crate::trace::Step;
use crate::wire::ipv4::{Ipv4, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP};

impl Router {
    /// The policies of the pods at both ends; `to` is the place of the egress port, none for a packet to the node.
    pub(super) fn check_policy(
        &self,
        frame: &Frame,
        link: Link,
        to: Option<usize>,
        seen: Seen,
        io: &mut Io<'_>,
    ) -> Result<(), DropReason> {
        if self.policy.is_empty() {
            return Ok(());
        }
        let ip = Ipv4::peek(packet(frame)).ok_or(DropReason::BadHeaderLength)?;
        let from = (!link.from_host).then_some(link.slot);
        let state = match seen {
            Seen::Known {
                established: true, ..
            } => CtState::Established,
            Seen::Untracked | Seen::Elsewhere(_) | Seen::New | Seen::Known { .. } => CtState::New,
            Seen::Related { .. } => CtState::Related,
            Seen::Invalid => CtState::Invalid,
        };
        let subject = Subject::of(&ip, state);
        let mark = frame.mark();
        if mark.is_set() {
            for direction in [Direction::Egress, Direction::Ingress] {
                let config = Some(&self.snapshot.policy);
                let judgement = self.policy.judge(config, direction, from, to, &subject);
                io.trace.step_if(mark, || {
                    (judgement != Judgement::NotIsolated).then_some(Step::Policy {
                        direction,
                        judgement,
                    })
                });
                if judgement.refusal(direction).is_some() {
                    break;
                }
            }
        }
        self.policy.check(from, to, &subject)
    }

    /// Ends the tracked connections that the policies do not allow (NP-17).
    pub(super) fn flush_refused(&mut self) {
        let Self {
            nat: Some(nat),
            policy,
            fib,
            ..
        } = self
        else {
            return;
        };
        nat.flush_where(|original, reply| {
            // The reply comes from whoever really answers.
            let ports = [PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_SCTP];
            let dport = ports.contains(&original.protocol).then_some(reply.sport);
            let to = (original.protocol, dport);
            policy.refuses(original.src, reply.src, to, fib.is_local(original.src))
        });
    }
}

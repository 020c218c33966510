//! Datagrams in pieces: collected, then decided upon as one.

use super::egress::Bin;
use super::{By, Io, OfSet, Router, Verdict, packet};
use crate::config::PortId;
use crate::frag::{Fragments, Taken, User};
use crate::frame::Frame;
use crate::icmp_error::{IcmpError, MAX_QUOTE, Refusal};
use crate::l2::Link;
use crate::nat::Context;
use crate::stats::{DropReason, Event};
use crate::trace::{Mark, Step};
use crate::wire::ethernet;
use crate::wire::ipv4::{Ipv4, PROTOCOL_IPIP};

impl Router {
    /// Lets a fragment wait for the others of its datagram, or goes on with the datagram that it completes: through the
    /// stages when it came in by `link`, else to the node itself.
    pub(super) fn collect(
        &mut self,
        frame: Frame,
        user: User,
        link: Option<Link>,
        io: &mut Io<'_>,
    ) {
        let mut set = core::mem::take(&mut self.set);
        let Self {
            reassembly,
            stats,
            ports,
            ..
        } = self;
        let mut bin = Bin {
            stats,
            ports,
            pool: io.pool,
            trace: io.trace,
        };
        bin.trace.step(frame.mark(), || Step::Collected);
        while bin.pool.available() < bin.pool.capacity() / 4 && reassembly.evict_oldest(&mut bin) {}
        let mut outer = None;
        match reassembly.take(io.now, user, frame, &mut set, &mut bin) {
            Taken::Held => {}
            Taken::Refused(frame, reason) => self.discard(frame, reason, io),
            Taken::Complete => {
                self.stats.count(Event::Reassembled);
                set.join_ecn();
                let pieces = set.frames().len();
                io.trace.step(mark(&set), || Step::Reassembled { pieces });
                outer = match link {
                    Some(link) => self.ipv4_set(&mut set, link, io),
                    None => self.deliver_set(&mut set, &Context::default(), io),
                };
            }
        }
        self.set = set;
        // Last, for what comes out may have to be collected itself.
        if let (Some(frame), Some(slot)) = (outer, self.ports.tunnel()) {
            self.decapsulate(frame, slot, io);
        }
    }

    /// As `Router::ipv4`, for a datagram that was collected. A packet that is to come out of a tunnel is returned.
    fn ipv4_set(&mut self, set: &mut Fragments, link: Link, io: &mut Io<'_>) -> Option<Frame> {
        let mut scratch = core::mem::take(&mut self.scratch);
        let size = set.size();
        let datagram = match self.nat {
            Some(_) => set.linearize(&mut scratch),
            None => None,
        };
        let of_set = OfSet { size, datagram };
        let mut context = set
            .frames()
            .first()
            .map_or_else(Context::default, Context::of);
        let verdict = set
            .first_mut()
            .map(|first| self.ipv4_stages(first, Some(of_set), link, &mut context, io));
        self.scratch = scratch;
        match verdict? {
            Ok(Verdict::Local) => {
                // Translated addresses are everybody's.
                if self.nat.is_some() {
                    set.follow_first();
                }
                return self.deliver_set(set, &context, io);
            }
            Ok(Verdict::Forward(hop, dst)) => {
                set.follow_first();
                for frame in set.drain() {
                    self.send(frame, hop, dst, io);
                }
            }
            Ok(Verdict::Elsewhere(worker)) => {
                for frame in set.drain() {
                    self.hand_over(frame, worker, io);
                }
            }
            Ok(Verdict::Again(slot, next_hop)) => {
                set.follow_first();
                for frame in set.drain() {
                    self.transmit(frame, slot, next_hop, io);
                }
            }
            Err(refusal) => {
                if let Some(first) = set.first_mut() {
                    self.untranslate(first, &context);
                }
                self.refuse_set(set, refusal, io);
            }
        }
        None
    }

    /// As `Router::deliver`, for a datagram that was collected. A packet that is to come out of a tunnel is returned.
    fn deliver_set(
        &mut self,
        set: &mut Fragments,
        context: &Context,
        io: &mut Io<'_>,
    ) -> Option<Frame> {
        let first = set.frames().first().map(packet).and_then(Ipv4::peek)?;
        if first.protocol() == PROTOCOL_IPIP && self.ports.tunnel().is_some() {
            return self.join_outer(set, io);
        }
        let mut scratch = core::mem::take(&mut self.scratch);
        let answered = match set.linearize(&mut scratch) {
            Some(datagram) => {
                let answered = self.answer(datagram, mark(set), io);
                // The error quotes the datagram as one, as Linux does.
                if let Err(Refusal {
                    error: Some(error), ..
                }) = answered
                {
                    let mut sent = [0; MAX_QUOTE];
                    let len = datagram.len().min(sent.len());
                    if let (Some(sent), Some(datagram)) = (sent.get_mut(..len), datagram.get(..len))
                    {
                        sent.copy_from_slice(datagram);
                        if let Some(nat) = &self.nat {
                            nat.undo(sent, context);
                        }
                        self.send_error(sent, ingress(set), mark(set), error, io);
                    }
                }
                answered
            }
            None => Err(DropReason::FragmentInvalid.into()),
        };
        self.scratch = scratch;
        match answered {
            Ok(By::Router) => {
                if let Some(first) = self.merge(set, io) {
                    self.consume(first, io);
                }
            }
            Ok(By::Host) => {
                for frame in set.drain() {
                    self.deliver_to_host(frame, io);
                }
            }
            Err(Refusal { reason, .. }) => {
                if let Some(first) = self.merge(set, io) {
                    self.discard(first, reason, io);
                }
            }
        }
        None
    }

    /// Makes one frame of an outer packet that came in pieces (IPIP-21).
    fn join_outer(&mut self, set: &mut Fragments, io: &mut Io<'_>) -> Option<Frame> {
        let len = set.linearize(&mut self.scratch).map(<[u8]>::len);
        let mut first = self.merge(set, io)?;
        let whole = len.and_then(|len| self.scratch.get(..len));
        if whole.is_some_and(|whole| first.assemble(&[&[0; ethernet::HEADER_LEN], whole])) {
            return Some(first);
        }
        self.discard(first, DropReason::TunnelTooLong, io);
        None
    }

    fn refuse_set(&mut self, set: &mut Fragments, refusal: Refusal, io: &mut Io<'_>) {
        if let Some(first) = self.merge(set, io) {
            self.refuse(first, refusal, io);
        }
    }

    /// Makes one frame of a set: the first, which ends for all.
    fn merge(&mut self, set: &mut Fragments, io: &mut Io<'_>) -> Option<Frame> {
        let mut frames = set.drain();
        let first = frames.next();
        for frame in frames {
            self.stats.merged += 1;
            io.trace.step(frame.mark(), || Step::Merged);
            io.pool.free(frame);
        }
        first
    }

    /// Gives up datagrams whose time is up. The sender is told if the first fragment came (FWD-52) and the datagram was
    /// for this node; about one that is collected for connection tracking alone nothing is said (NAT-FRAG).
    pub(super) fn expire_fragments(&mut self, io: &mut Io<'_>) {
        let mut set = core::mem::take(&mut self.set);
        while let Some(expired) = self.reassembly.expire(io.now, &mut set) {
            let for_node = || {
                let first = set.frames().first().map(packet).and_then(Ipv4::peek);
                first.is_some_and(|ip| self.fib.is_local(ip.dst()))
            };
            let tell = expired.has_first && (expired.user == User::LOCAL || for_node());
            for (n, frame) in set.drain().enumerate() {
                let refusal = Refusal {
                    reason: DropReason::ReassemblyTimeout,
                    error: (tell && n == 0).then_some(IcmpError::ReassemblyTimeExceeded),
                };
                self.refuse(frame, refusal, io);
            }
        }
        self.set = set;
    }
}

/// The port that a datagram came in by.
fn ingress(set: &Fragments) -> PortId {
    set.frames()
        .first()
        .map_or(PortId(u16::MAX), |frame| frame.port())
}

/// The mark of its first piece.
fn mark(set: &Fragments) -> Mark {
    set.frames()
        .first()
        .map_or(Mark::NONE, |frame| frame.mark())
}

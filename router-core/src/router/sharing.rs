//! Between the workers of one node: frames that are handed over, and what all of them have to hear.
//!
//! Whose a packet is `conntrack` says; what being one of several means stands in [`crate::share`]. A frame is handed over as it
//! was received, to the end of which it is in the books of the receiver: `handed` here, `taken` there.

use super::{Io, Router, packet};
use crate::addr::Mac;
use crate::arp;
use crate::config::PortId;
use crate::frame::Frame;
use crate::l2::{Link, Payload};
use crate::share::Share;
use crate::trace::{Mark, Step};
use crate::wire::arp::Arp;

impl Router {
    /// As [`Router::new`], as one of the workers of a node. What it sends to [`PortId::of_worker`] is to be handed to that
    /// worker's router as it is, and nothing else changed about it.
    #[must_use]
    pub fn with_share(mut self, share: Share) -> Self {
        self.share = Some(share);
        self
    }

    /// Its place among the workers of its node, if it is one of several.
    #[must_use]
    pub fn share(&self) -> Option<&Share> {
        self.share.as_ref()
    }

    /// Leaves all that arrives to the first worker from now on, or no longer: where something outside of the router can't be
    /// divided. What the configuration wants comes on top.
    pub fn leave_to_first(&mut self, leave: bool) {
        self.leaves_all = leave;
        self.decide_funnel();
    }

    /// Whether this worker handles what arrives.
    pub(super) fn decide_funnel(&mut self) {
        self.funnels = self.share.as_ref().is_some_and(|share| {
            share.index() != 0 && (self.leaves_all || Share::undivided(&self.snapshot).is_some())
        });
    }

    /// True for the router that speaks for its node unasked.
    pub(super) fn is_first(&self) -> bool {
        self.share.as_ref().is_none_or(|share| share.index() == 0)
    }

    /// What arrives at a worker of a node that can't be divided.
    pub(super) fn funnel(&mut self, frame: Frame, io: &mut Io<'_>) {
        if frame.is_handed() {
            return self.receive(frame, io);
        }
        self.count_received(&frame, io);
        self.pass_on(frame, 0, Frame::set_left, io);
    }

    /// A frame is another worker's.
    pub(super) fn hand_over(&mut self, frame: Frame, worker: u8, io: &mut Io<'_>) {
        self.pass_on(frame, worker, Frame::set_handed, io);
    }

    fn pass_on(&mut self, mut frame: Frame, to: u8, how: impl FnOnce(&mut Frame), io: &mut Io<'_>) {
        how(&mut frame);
        self.stats.handed += 1;
        io.trace.step(frame.mark(), || Step::Handed { worker: to });
        io.tx.push(PortId::of_worker(to), frame);
    }

    /// A frame that another worker has received. What came out of a tunnel there goes on behind that.
    pub(super) fn take_over(&mut self, frame: Frame, slot: Option<usize>, io: &mut Io<'_>) {
        self.stats.taken += 1;
        match slot {
            Some(slot) if frame.is_decapsulated() => {
                let link = Link {
                    slot,
                    from_host: false,
                    dst: Mac::ZERO,
                    payload: Payload::Ipv4,
                };
                self.ipv4(frame, link, io);
            }
            _ => self.admit_frame(frame, slot, io),
        }
    }

    /// Lets the other workers hear an ARP packet, as far as there are frames for that: what they don't hear they ask for.
    pub(super) fn let_hear(&mut self, frame: &Frame, io: &mut Io<'_>) {
        let Some(share) = &self.share else { return };
        for worker in share.siblings() {
            let Some(mut copy) = io.pool.alloc() else {
                return;
            };
            copy.copy_from(frame);
            copy.set_mark(Mark::NONE);
            copy.set_handed();
            copy.set_heard();
            self.stats.cloned += 1;
            self.stats.handed += 1;
            io.tx.push(PortId::of_worker(worker), copy);
        }
    }

    /// An ARP packet that another worker answers: what is learned from it, and nothing else.
    pub(super) fn hear(&mut self, frame: Frame, link: Link, io: &mut Io<'_>) {
        let learned = self.snapshot.ports.get(link.slot).and_then(|port| {
            let said = Arp::parse(packet(&frame))?;
            let forwarding = self.snapshot.forwarding;
            let decided = arp::decide(port, link.dst, &said, &self.fib, forwarding);
            Some((port.id, said, decided.ok()?.learn?))
        });
        if let Some((port, said, how)) = learned
            && let Some(id) = self.learn(port, &said, how, io)
        {
            self.send_held(id, io);
        }
        self.consume(frame, io);
    }
}

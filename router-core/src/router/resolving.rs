//! ARP: what is learned from a packet, who goes on because of it, and the reply.

use super::egress::Bin;
use super::{Io, Router, packet};
use crate::arp::{self, Learn};
use crate::config::PortId;
use crate::frame::Frame;
use crate::l2::Link;
use crate::stats::{DropReason, Event};
use crate::wire::arp::{Arp, Operation};
use crate::wire::ethernet::{self, ETHERTYPE_ARP};

impl Router {
    /// An ARP packet.
    pub(super) fn arp(&mut self, mut frame: Frame, link: Link, io: &mut Io<'_>) {
        if frame.is_heard() {
            return self.hear(frame, link, io);
        }
        self.let_hear(&frame, io);
        let Some(port) = self.snapshot.ports.get(link.slot) else {
            return self.discard(frame, DropReason::UnknownPort, io);
        };
        let Some(arp) = Arp::parse(packet(&frame)) else {
            return self.discard(frame, DropReason::ArpMalformed, io);
        };
        let decision = match arp::decide(port, link.dst, &arp, &self.fib, self.snapshot.forwarding)
        {
            Ok(decision) => decision,
            Err(reason) => {
                if !link.from_host && self.fib.is_local(arp.spa) && arp.sha != port.mac {
                    let port = port.id;
                    self.defend(port, arp.spa, io);
                }
                return self.discard(frame, reason, io);
            }
        };
        let (port_id, mac) = (port.id, port.mac);
        let learned = decision
            .learn
            .and_then(|how| self.learn(port_id, &arp, how, io));
        if let Some(id) = learned {
            self.send_held(id, io);
        }
        if decision.reply {
            // The reply is a frame of its own in the slot of the request.
            let reply = Arp {
                operation: Operation::Reply,
                sha: mac,
                spa: arp.tpa,
                tha: arp.sha,
                tpa: arp.spa,
            };
            let header = ethernet::Header {
                dst: arp.sha,
                src: mac,
                ethertype: ETHERTYPE_ARP,
            };
            frame.assemble(&[&header.emit(), &reply.emit()]);
            self.stats.consumed += 1;
            self.stats.generated += 1;
            self.stats.count(Event::ArpReplySent);
            self.emit(frame, link.slot, io);
        } else if learned.is_some() {
            self.consume(frame, io);
        } else {
            self.discard(frame, DropReason::ArpIgnored, io);
        }
    }

    pub(super) fn learn(
        &mut self,
        port: PortId,
        arp: &Arp,
        how: Learn,
        io: &mut Io<'_>,
    ) -> Option<usize> {
        let Self {
            neighbours,
            stats,
            ports,
            ..
        } = self;
        neighbours.learn(
            io.now,
            (port, arp.spa),
            arp.sha,
            how == Learn::Answer,
            how == Learn::Requester,
            &mut Bin {
                stats,
                ports,
                pool: io.pool,
                trace: io.trace,
            },
        )
    }
}

//! Frames between the ports of a bridge, and between them and the bridge's own interface: copies, counters, the way out.

use super::{Io, Router, tell};
use crate::bridge::{self, Outlet};
use crate::config::BridgePort;
use crate::frame::Frame;
use crate::segment;
use crate::stats::{DropReason, Event};
use crate::wire::ethernet;

impl Router {
    /// The bridge stage: a frame that came by a port of a bridge, in place `slot`.
    pub(super) fn bridge(
        &mut self,
        frame: Frame,
        slot: usize,
        member: BridgePort,
        io: &mut Io<'_>,
    ) {
        let Self {
            bridges,
            snapshot,
            stats,
            ..
        } = self;
        let outlet = match (bridges.find(member.bridge), snapshot.ports.get(slot)) {
            (Some(bridge), Some(port)) => bridge
                .decide(io.now, port, slot, frame.bytes(), &mut |event| {
                    stats.count(event);
                })
                .map(|outlet| (outlet, bridge.slot)),
            _ => Err(DropReason::UnknownPort),
        };
        io.trace.step_if(frame.mark(), || {
            self.tell_outlet(member.bridge, &outlet, &frame)
        });
        match outlet {
            Ok((Outlet::Own, own)) => self.hand_up(frame, slot, own, io),
            Ok((Outlet::Port(to), _)) => self.send_bridged(frame, to, io),
            Ok((Outlet::All { own }, up)) => {
                self.flood(frame, member, Some(slot), own.then_some(up), io);
            }
            Err(reason) => self.discard(frame, reason, io),
        }
    }

    /// A finished frame of the node's own leaves by a bridge's interface, in place `slot`.
    pub(super) fn send_by_bridge(&mut self, frame: Frame, slot: usize, io: &mut Io<'_>) {
        let size = (frame.len(), segment::count(&frame));
        self.stats.count_upper_tx(slot, size);
        let outlet = ethernet::parse(frame.bytes())
            .ok_or(DropReason::FrameTooShort)
            .and_then(|(header, _)| {
                let id = self.snapshot.ports.get(slot).map(|port| port.id);
                let bridge = id.and_then(|id| self.bridges.find(id));
                let bridge = bridge.ok_or(DropReason::EgressDown)?;
                Ok((bridge.decide_own(io.now, header.dst)?, id))
            });
        io.trace.step_if(frame.mark(), || {
            let bridge = self.snapshot.ports.get(slot)?.id;
            self.tell_outlet(bridge, &outlet, &frame)
        });
        match outlet {
            Ok((Outlet::Port(to), _)) => self.send_bridged(frame, to, io),
            Ok((_, Some(bridge))) => {
                let member = BridgePort {
                    bridge,
                    hairpin: false,
                };
                self.flood(frame, member, None, None, io);
            }
            Ok(_) => self.discard(frame, DropReason::EgressDown, io),
            Err(reason) => self.discard(frame, reason, io),
        }
    }

    /// Sends a frame to all ports of a bridge but for the one it came by, `from`, and to the bridge's own interface if
    /// `up` names its place. The frame itself goes to the last of them, copies to the others; what has something left to do
    /// is cut or completed first.
    fn flood(
        &mut self,
        mut frame: Frame,
        member: BridgePort,
        from: Option<usize>,
        up: Option<usize>,
        io: &mut Io<'_>,
    ) {
        if frame.is_superframe() {
            return self.cut(frame, io, |router, segment, io| {
                router.flood(segment, member, from, up, io);
            });
        }
        if let Err(error) = segment::complete(&mut frame) {
            return self.discard(frame, error.reason(), io);
        }
        self.stats.count(Event::BridgeFlooded);
        let mut last = None;
        let mut n = 0;
        while let Some(to) = self
            .bridges
            .find(member.bridge)
            .and_then(|bridge| bridge.flood_to(n, from))
        {
            n += 1;
            if let Some(to) = to
                && let Some(earlier) = last.replace(to)
            {
                self.send_copy(&frame, earlier, io);
            }
        }
        match (up, last) {
            (Some(own), last) => {
                if let Some(last) = last {
                    self.send_copy(&frame, last, io);
                }
                self.hand_up(frame, from.unwrap_or(own), own, io);
            }
            (None, Some(last)) => self.send_bridged(frame, last, io),
            (None, None) => self.discard(frame, DropReason::BridgeNoPort, io),
        }
    }

    fn send_copy(&mut self, frame: &Frame, slot: usize, io: &mut Io<'_>) {
        let Some(mut copy) = io.pool.alloc() else {
            return self.stats.count(Event::NoFrame);
        };
        copy.copy_from(frame);
        io.trace.step(copy.mark(), || tell::copy(&copy));
        self.stats.cloned += 1;
        self.send_bridged(copy, slot, io);
    }

    /// A frame leaves by a port of a bridge as it is.
    fn send_bridged(&mut self, frame: Frame, slot: usize, io: &mut Io<'_>) {
        let fits = self
            .snapshot
            .ports
            .get(slot)
            .is_some_and(|port| bridge::fits(port, frame.bytes(), segment::longest(&frame)));
        if fits {
            self.emit(frame, slot, io);
        } else {
            self.discard(frame, DropReason::BridgeMtu, io);
        }
    }

    /// A bridge hands a frame that came by the port in place `from` to its own interface, in place `own`: from here on it
    /// is a frame received there. What is addressed to the node's end of the port it came by is for the node as well.
    fn hand_up(&mut self, mut frame: Frame, from: usize, own: usize, io: &mut Io<'_>) {
        let size = (frame.len(), segment::count(&frame));
        self.stats.count_upper_rx(own, size);
        let mac = |slot: usize| self.snapshot.ports.get(slot).map(|port| port.mac);
        if let (Some(port), Some(bridge)) = (mac(from), mac(own))
            && let Some((header, _)) = ethernet::parse(frame.bytes())
            && header.dst == port
        {
            ethernet::Header {
                dst: bridge,
                ..header
            }
            .write(frame.bytes_mut());
        }
        if let Some(port) = self.snapshot.ports.get(own) {
            frame.set_port(port.id);
        }
        self.accept(frame, Some(own), io);
    }
}

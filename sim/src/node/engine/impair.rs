//! Impairments of ports behind which there are stacks: what lies on its way between a stack and the router.
//!
//! Decides nothing about what is done to frames; see [`tap_bridge::layer::impair`]. Ports with a device have theirs in
//! the event loop. Cost: one comparison per frame of a stack without impairments.

use router_core::{FramePool, Instant, PortId};
use tap_bridge::layer::Impaired;

use super::NodeEngine;
use crate::impair::LinkImpair;

/// Makes `place` do this to frames; what it holds and has counted stays.
pub fn set(place: &mut Option<Box<Impaired>>, wanted: &LinkImpair) {
    let (rx, tx) = wanted.directions();
    match place {
        Some(both) => {
            both.rx.set(rx);
            both.tx.set(tx);
        }
        None if rx.is_none() && tx.is_none() => {}
        None => *place = Some(Box::new(Impaired::new(rx, tx))),
    }
}

impl NodeEngine {
    /// Does this to the frames of a port with a stack from now on. False when there is no stack.
    pub fn impair(&mut self, port: PortId, wanted: &LinkImpair) -> bool {
        let Some(attached) = self.stacks.get_mut(&port) else {
            return false;
        };
        set(&mut attached.impaired, wanted);
        self.is_impaired |= attached.impaired.is_some();
        true
    }

    /// What is done to frames of ports with stacks.
    pub fn impaired(&self) -> impl Iterator<Item = (PortId, &Impaired)> + '_ {
        let stacks = self.stacks.iter();
        stacks.filter_map(|(&port, attached)| Some((port, attached.impaired.as_deref()?)))
    }

    /// Frames whose way from or to a stack has ended.
    pub(super) fn arrive(&mut self, now: Instant, pool: &mut FramePool) {
        let ports: Vec<PortId> = self.impaired().map(|(port, _)| port).collect();
        for port in ports {
            while let Some(frame) = self
                .on_its_way(port)
                .and_then(|both| both.rx.pop(now, pool))
            {
                self.inbox.push_back(frame);
            }
            while let Some(frame) = self
                .on_its_way(port)
                .and_then(|both| both.tx.pop(now, pool))
            {
                self.hand_to_stack(port, frame, now, pool);
            }
        }
    }

    fn on_its_way(&mut self, port: PortId) -> Option<&mut Impaired> {
        self.stacks.get_mut(&port)?.impaired.as_deref_mut()
    }
}

//! The daemon's requests about impairments.

use router_core::PortId;
use tap_bridge::layer::Impaired;

use super::worker::Worker;
use crate::control::node::ImpairedPort;
use crate::impair::{Impair, LinkImpair};
use crate::node::engine::impair::set;

impl Worker {
    pub(super) fn impair(&mut self, port: PortId, wanted: &LinkImpair) -> Result<(), String> {
        let engine = self.event_loop.engine_mut();
        let done = engine.impair(port, wanted)
            || self
                .event_loop
                .change_layers(port, |layers| set(&mut layers.impaired, wanted));
        if done {
            let idle = wanted.rx == Impair::default() && wanted.tx == Impair::default();
            self.impair_whole(port, !idle);
            Ok(())
        } else {
            Err(format!("there is no port {}", port.0))
        }
    }

    /// By rising number.
    pub(super) fn impaired(&self) -> Vec<ImpairedPort> {
        let counted = |(port, both): (PortId, &Impaired)| ImpairedPort {
            port,
            rx: both.rx.counters().into(),
            tx: both.tx.counters().into(),
        };
        let devices = self.event_loop.port_ids().filter_map(|port| {
            let layers = self.event_loop.layers(port)?;
            Some((port, layers.impaired.as_deref()?))
        });
        let stacks = self.event_loop.engine().impaired();
        let mut all: Vec<ImpairedPort> = devices.chain(stacks).map(counted).collect();
        all.sort_by_key(|counted| counted.port);
        all
    }
}

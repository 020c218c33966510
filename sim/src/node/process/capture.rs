//! The daemon's requests about captures.

use std::os::fd::OwnedFd;

use router_core::PortId;
use tap_bridge::layer::capture::{Begin, Wanted};

use super::worker::Worker;
use crate::control::capture::{CaptureCounts, CaptureOrder};
use crate::control::node::NodeReply;

impl Worker {
    pub(super) fn begin_capture(
        &mut self,
        capture: u32,
        order: CaptureOrder,
        ring: Option<OwnedFd>,
        bell: Option<OwnedFd>,
    ) -> Result<(), String> {
        let (ring, bell) = ring.zip(bell).ok_or("a descriptor is missing")?;
        let begin = Begin {
            ring,
            words: order.words,
            bell,
            ports: order.ports.map_or(Wanted::All, Wanted::Ports),
            drops: order.drops,
            filter: order.filter,
            snaplen: order.snaplen,
        };
        self.event_loop
            .with(|engine, _, pool, _| engine.begin_capture(capture, begin, pool))
            .map_err(|error| error.to_string())?;
        self.place_probes();
        Ok(())
    }

    pub(super) fn end_capture(&mut self, capture: u32) -> NodeReply {
        let counts = self
            .event_loop
            .with(|engine, _, pool, _| engine.end_capture(capture, pool));
        self.place_probes();
        NodeReply::Captured {
            counts: counts.into_iter().map(CaptureCounts::new).collect(),
        }
    }

    /// At the end of a breath, with everything that was done between two of them.
    pub(super) fn flush_captures(&mut self) {
        self.event_loop
            .with(|engine, now, pool, _| engine.flush_captures(now, pool));
    }

    /// Puts probes where captures look, and takes them away where none does any more.
    fn place_probes(&mut self) {
        let ports: Vec<PortId> = self.event_loop.port_ids().collect();
        for port in ports {
            self.place_probe(port);
        }
    }

    /// The probe of one port: a new one may be wanted by a capture of all ports.
    pub(super) fn place_probe(&mut self, port: PortId) {
        let probe = self.event_loop.engine().captures().probe(port);
        self.event_loop
            .change_layers(port, |layers| layers.probe = probe);
    }
}

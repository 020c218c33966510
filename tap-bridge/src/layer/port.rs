//! A port with layers around it.
//!
//! Decides their order, from the device to the router: capture. Doesn't decide what a layer does.
//!
//! Cost: a port without layers is not wrapped and pays nothing; one with layers pays one more match per call.

use router_core::{Batch, Frame, FramePool};

use super::capture::Probe;
use crate::any_port::AnyPort;
use crate::port::{Caps, Port, PortCounters, PortError, Rx};
use crate::sys::clock;

/// The layers around a port.
#[derive(Debug, Default)]
pub struct Layers {
    /// Where captures look.
    pub probe: Option<Probe>,
}

impl Layers {
    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.probe.is_none()
    }
}

/// A port, and what is around it.
#[derive(Debug)]
pub struct Layered {
    port: AnyPort,
    layers: Layers,
}

impl Layered {
    /// Lays layers around a port.
    pub(crate) fn new(port: AnyPort, layers: Layers) -> Self {
        Self { port, layers }
    }

    /// The port, and what was around it.
    pub(crate) fn into_parts(self) -> (AnyPort, Layers) {
        (self.port, self.layers)
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> &AnyPort {
        &self.port
    }

    /// The port, to configure it.
    pub fn port_mut(&mut self) -> &mut AnyPort {
        &mut self.port
    }
}

impl Port for Layered {
    fn caps(&self) -> Caps {
        self.port.caps()
    }

    fn rx(
        &mut self,
        pool: &mut FramePool,
        batch: &mut Batch,
        budget: usize,
    ) -> Result<Rx, PortError> {
        let before = batch.len();
        let got = self.port.rx(pool, batch, budget);
        let frames = batch.as_slice().get(before..).unwrap_or_default();
        if let Some(probe) = &self.layers.probe
            && !frames.is_empty()
        {
            probe.rx(clock::monotonic(), frames);
        }
        got
    }

    fn tx(&mut self, pool: &mut FramePool, frame: Frame) -> Result<(), PortError> {
        if let Some(probe) = &self.layers.probe {
            probe.tx(clock::monotonic(), &frame);
        }
        self.port.tx(pool, frame)
    }

    fn flush(&mut self) -> Result<(), PortError> {
        self.port.flush()
    }

    fn counters(&self) -> PortCounters {
        self.port.counters()
    }
}

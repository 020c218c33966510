//! A port with layers around it.
//!
//! Decides their order: device, capture, impairments, router. So a capture shows what the device gives and gets, as tcpdump
//! does beside netem. Doesn't decide what a layer does.
//!
//! Whoever drives the port says the time with [`Layered::begin`], which also sends what is due; [`Layered::next_deadline`]
//! says when that is to be called next.
//!
//! Cost: a port without layers is not wrapped and pays nothing; one with layers pays one more match per call.

use std::time::Duration;

use router_core::{Batch, Frame, FramePool, Instant};

use super::capture::Probe;
use super::impair::{Impairment, Queue};
use crate::any_port::AnyPort;
use crate::port::{Caps, Port, PortCounters, PortError, Rx};
use crate::sys::clock;

/// How long what is due waits for a free frame before it is looked at again.
const STARVED_WAIT: Duration = Duration::from_millis(1);

/// Both directions of a port's impairments.
#[derive(Debug)]
pub struct Impaired {
    /// From the device to the router.
    pub rx: Queue,
    /// From the router to the device.
    pub tx: Queue,
}

impl Impaired {
    /// Directions in which this is done to frames.
    #[must_use]
    pub fn new(rx: Impairment, tx: Impairment) -> Self {
        Self {
            rx: Queue::new(rx),
            tx: Queue::new(tx),
        }
    }

    /// When the next frame of either is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let both = [self.rx.next_deadline(), self.tx.next_deadline()];
        both.into_iter().flatten().min()
    }
}

/// The layers around a port.
#[derive(Debug, Default)]
pub struct Layers {
    /// Where captures look.
    pub probe: Option<Probe>,
    /// What is done to frames. Stays, with its counters, once it was there.
    pub impaired: Option<Box<Impaired>>,
}

impl Layers {
    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.probe.is_none() && self.impaired.is_none()
    }
}

/// A port, and what is around it.
#[derive(Debug)]
pub struct Layered {
    port: AnyPort,
    layers: Layers,
    now: Instant,
    /// What the device has given, on its way into the queue.
    inbox: Batch,
    /// Something was due and the pool was empty.
    starved: bool,
}

impl Layered {
    /// Lays layers around a port.
    pub(crate) fn new(port: AnyPort, layers: Layers) -> Self {
        Self {
            port,
            layers,
            now: clock::monotonic(),
            inbox: Batch::new(),
            starved: false,
        }
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

    /// What is around it.
    #[must_use]
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// It is `now` from here on. Sends what is due, and says whether it did.
    ///
    /// # Errors
    /// As [`Port::tx`].
    pub fn begin(&mut self, now: Instant, pool: &mut FramePool) -> Result<bool, PortError> {
        self.now = now;
        self.starved = false;
        self.send_due(pool)
    }

    /// When [`Layered::begin`] wants to be called next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let due = self.layers.impaired.as_ref()?.next_deadline()?;
        Some(if self.starved {
            due.max(self.now + STARVED_WAIT)
        } else {
            due
        })
    }

    /// True when [`Port::rx`] has frames that are due, whatever the device has.
    #[must_use]
    pub fn has_due(&self) -> bool {
        let queue = self.layers.impaired.as_ref().map(|both| &both.rx);
        queue
            .and_then(Queue::next_deadline)
            .is_some_and(|due| due <= self.now)
    }

    fn send_due(&mut self, pool: &mut FramePool) -> Result<bool, PortError> {
        let mut sent = false;
        while let Some(both) = &mut self.layers.impaired
            && let Some(frame) = both.tx.pop(self.now, pool)
        {
            sent = true;
            self.send(frame, pool)?;
        }
        let tx = self.layers.impaired.as_ref().map(|both| &both.tx);
        self.starved |= tx
            .and_then(Queue::next_deadline)
            .is_some_and(|due| due <= self.now);
        Ok(sent)
    }

    fn send(&mut self, frame: Frame, pool: &mut FramePool) -> Result<(), PortError> {
        if let Some(probe) = &self.layers.probe {
            probe.tx(clock::monotonic(), &frame);
        }
        self.port.tx(pool, frame)
    }
}

/// [`Port::rx`] of the device, shown to captures.
fn receive(
    port: &mut AnyPort,
    probe: Option<&Probe>,
    pool: &mut FramePool,
    batch: &mut Batch,
    budget: usize,
) -> Result<Rx, PortError> {
    let before = batch.len();
    let got = port.rx(pool, batch, budget);
    let frames = batch.as_slice().get(before..).unwrap_or_default();
    if let Some(probe) = probe
        && !frames.is_empty()
    {
        probe.rx(clock::monotonic(), frames);
    }
    got
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
        let Self {
            port,
            layers,
            now,
            inbox,
            starved,
        } = self;
        let probe = layers.probe.as_ref();
        let Some(both) = &mut layers.impaired else {
            return receive(port, probe, pool, batch, budget);
        };
        if both.rx.is_idle() {
            let before = batch.len();
            let got = receive(port, probe, pool, batch, budget);
            (before..batch.len()).for_each(|_| both.rx.pass());
            return got;
        }
        let got = receive(port, probe, pool, inbox, budget);
        if !inbox.is_empty() {
            // They may have come long after the breath began, if this thread was kept from the processor: none is to arrive
            // before its time.
            *now = clock::monotonic().max(*now);
        }
        for frame in inbox.drain() {
            both.rx.push(*now, frame, pool);
        }
        let mut left = budget.min(batch.room());
        while left > 0
            && let Some(frame) = both.rx.pop(*now, pool)
        {
            left -= 1;
            if let Err(frame) = batch.push(frame) {
                // Not reached: there was room.
                pool.free(frame);
            }
        }
        let due = both.rx.next_deadline().is_some_and(|due| due <= *now);
        *starved |= due && left > 0;
        match got? {
            Rx::Drained if due && left == 0 => Ok(Rx::More),
            got => Ok(got),
        }
    }

    fn tx(&mut self, pool: &mut FramePool, frame: Frame) -> Result<(), PortError> {
        match &mut self.layers.impaired {
            None => self.send(frame, pool),
            Some(both) if both.tx.is_idle() => {
                both.tx.pass();
                self.send(frame, pool)
            }
            Some(both) => {
                // As in `rx`.
                self.now = clock::monotonic().max(self.now);
                both.tx.push(self.now, frame, pool);
                self.send_due(pool).map(drop)
            }
        }
    }

    fn flush(&mut self, pool: &mut FramePool) -> Result<(), PortError> {
        self.port.flush(pool)
    }

    fn counters(&self) -> PortCounters {
        self.port.counters()
    }
}

#[cfg(test)]
mod tests;

//! Every kind of port behind one type, told apart by a match instead of a virtual call.
//!
//! Decides nothing. Besides [`Port`] it answers what the event loop must know of each kind: which descriptors tell that
//! there is something to read, and what has to be done before the loop may sleep on them.

use std::os::fd::{AsFd as _, BorrowedFd};

use router_core::{Batch, Frame, FramePool};

use crate::fabric::FabricPort;
use crate::layer::Layered;
use crate::memory::MemoryPort;
use crate::packet::PacketPort;
use crate::port::{Caps, Port, PortCounters, PortError, Rx};
use crate::tap::TapPort;

/// A port of any kind.
#[derive(Debug)]
#[non_exhaustive]
pub enum AnyPort {
    /// A TAP interface.
    Tap(TapPort),
    /// An interface with a packet socket.
    Packet(PacketPort),
    /// The underlay.
    Fabric(Box<FabricPort>),
    /// One end of an in-process pair.
    Memory(MemoryPort),
    /// Any of these with layers around it.
    Layered(Box<Layered>),
}

impl AnyPort {
    /// The port itself, without what is around it.
    #[must_use]
    pub fn plain(&self) -> &Self {
        match self {
            Self::Layered(layered) => layered.port(),
            port => port,
        }
    }

    /// Descriptors that become readable (or writable) when [`Port::rx`] has work. None for ports without system calls.
    pub(crate) fn descriptors(&self) -> [Option<BorrowedFd<'_>>; 2] {
        match self {
            Self::Tap(p) => [Some(p.as_fd()), None],
            Self::Packet(p) => [Some(p.as_fd()), None],
            Self::Fabric(p) => p.descriptors().map(Some),
            Self::Memory(_) => [None, None],
            Self::Layered(p) => p.port().descriptors(),
        }
    }

    /// True when frames may arrive without a descriptor telling so, while the loop is awake.
    pub(crate) fn is_polled(&self) -> bool {
        match self {
            Self::Tap(_) | Self::Packet(_) => false,
            Self::Fabric(_) | Self::Memory(_) => true,
            Self::Layered(p) => p.port().is_polled(),
        }
    }

    /// True when [`Port::rx`] would find frames in memory. Only for ports that [`AnyPort::is_polled`].
    pub(crate) fn has_frames(&self) -> bool {
        match self {
            Self::Tap(_) | Self::Packet(_) => false,
            Self::Fabric(p) => p.has_frames(),
            Self::Memory(p) => p.pending() > 0,
            Self::Layered(p) => p.port().has_frames(),
        }
    }

    /// Called once per breath before any port is read.
    pub(crate) fn begin_breath(&mut self) {
        match self {
            Self::Fabric(p) => p.take_back(),
            Self::Layered(p) => p.port_mut().begin_breath(),
            Self::Tap(_) | Self::Packet(_) | Self::Memory(_) => {}
        }
    }

    /// Announces sleep. False when frames are there already and the loop must not sleep.
    pub(crate) fn prepare_sleep(&mut self) -> bool {
        match self {
            Self::Fabric(p) => p.prepare_sleep(),
            Self::Layered(p) => p.port_mut().prepare_sleep(),
            Self::Tap(_) | Self::Packet(_) | Self::Memory(_) => !self.has_frames(),
        }
    }

    /// Takes back what [`AnyPort::prepare_sleep`] announced.
    pub(crate) fn end_sleep(&mut self) {
        match self {
            Self::Fabric(p) => p.end_sleep(),
            Self::Layered(p) => p.port_mut().end_sleep(),
            Self::Tap(_) | Self::Packet(_) | Self::Memory(_) => {}
        }
    }
}

macro_rules! each {
    ($any:expr, $port:ident => $call:expr) => {
        match $any {
            AnyPort::Tap($port) => $call,
            AnyPort::Packet($port) => $call,
            AnyPort::Fabric($port) => $call,
            AnyPort::Memory($port) => $call,
            AnyPort::Layered($port) => $call,
        }
    };
}

impl Port for AnyPort {
    fn caps(&self) -> Caps {
        each!(self, p => p.caps())
    }

    fn rx(
        &mut self,
        pool: &mut FramePool,
        batch: &mut Batch,
        budget: usize,
    ) -> Result<Rx, PortError> {
        each!(self, p => p.rx(pool, batch, budget))
    }

    fn tx(&mut self, pool: &mut FramePool, frame: Frame) -> Result<(), PortError> {
        each!(self, p => p.tx(pool, frame))
    }

    fn flush(&mut self, pool: &mut FramePool) -> Result<(), PortError> {
        each!(self, p => p.flush(pool))
    }

    fn counters(&self) -> PortCounters {
        each!(self, p => p.counters())
    }
}

impl From<TapPort> for AnyPort {
    fn from(port: TapPort) -> Self {
        Self::Tap(port)
    }
}

impl From<PacketPort> for AnyPort {
    fn from(port: PacketPort) -> Self {
        Self::Packet(port)
    }
}

impl From<FabricPort> for AnyPort {
    fn from(port: FabricPort) -> Self {
        Self::Fabric(Box::new(port))
    }
}

impl From<MemoryPort> for AnyPort {
    fn from(port: MemoryPort) -> Self {
        Self::Memory(port)
    }
}

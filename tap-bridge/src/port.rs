//! What every attachment of a router can do: hand in frames, take frames.
//!
//! Decides nothing about packets. A port moves whole Ethernet frames between its device and the [`FramePool`] of the
//! calling thread; it never blocks and never interprets IP.

use router_core::{Batch, Frame, FramePool};

/// Length of an Ethernet header without a VLAN tag, bytes: no shorter frame exists (IEEE 802.3 3.1).
pub const ETHERNET_HEADER: usize = 14;

/// What a device can do. Constant over the life of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Largest IPv4 total length, bytes, Ethernet header not counted.
    pub mtu: u16,
    /// The device may hand in and take superframes with a virtio-net header (never true for the plain device).
    pub offload: bool,
}

/// Counters of one port, from the router's view. Frames, not segments; bytes include the Ethernet header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounters {
    /// Frames handed in.
    pub rx_frames: u64,
    /// Bytes handed in.
    pub rx_bytes: u64,
    /// Frames the device took.
    pub tx_frames: u64,
    /// Bytes the device took.
    pub tx_bytes: u64,
    /// Frames lost because the device was full (TAP queue, ring without a free slot, peer gone).
    pub tx_dropped: u64,
    /// Frames the device handed in that never came to the router, because they were malformed at the device level.
    pub rx_errors: u64,
    /// Frames that never came to the router because the device's queue was full; only where the device tells (packet
    /// sockets).
    pub rx_missed: u64,
}

/// An attachment of a router.
pub trait Port: core::fmt::Debug {
    /// What the device can do.
    fn caps(&self) -> Caps;

    /// Reads frames until the batch is full (`budget` frames at most), the pool is empty or the device has no more.
    ///
    /// Returns [`Rx::Drained`] when the device said it has no more (an edge-triggered poller may now sleep on it),
    /// [`Rx::More`] when it may have.
    ///
    /// # Errors
    /// Only when the device is broken or gone; "nothing there" is not an error.
    fn rx(
        &mut self,
        pool: &mut FramePool,
        batch: &mut Batch,
        budget: usize,
    ) -> Result<Rx, PortError>;

    /// Sends one frame, or counts it as dropped when the device is full. The frame goes back to `pool` in either case, at
    /// [`Port::flush`] at the latest.
    ///
    /// # Errors
    /// Only when the device is broken or gone; all frames are back in the pool then too.
    fn tx(&mut self, pool: &mut FramePool, frame: Frame) -> Result<(), PortError>;

    /// Called once after the last [`Port::tx`] of a breath: send what waits for others to go with, ring doorbells.
    /// Afterwards the port has no frame of `pool`.
    ///
    /// # Errors
    /// As [`Port::tx`].
    fn flush(&mut self, pool: &mut FramePool) -> Result<(), PortError> {
        let _ = pool;
        Ok(())
    }

    /// What has gone through so far.
    fn counters(&self) -> PortCounters;
}

/// Whether a device has more to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rx {
    /// Read to the end.
    Drained,
    /// Stopped early (budget, full batch or empty pool).
    More,
}

/// A device that can no longer be used.
#[derive(Debug, thiserror::Error)]
#[error("{port}: {operation}: {source}")]
pub struct PortError {
    /// Interface or peer name.
    pub port: String,
    /// What was tried.
    pub operation: &'static str,
    /// What the system said.
    pub source: std::io::Error,
}

//! A device as a port.
//!
//! Decides what is counted as what, and how much one turn may take. Cost: one system call per frame.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use router_core::frame::MAX_FRAME;
use router_core::{Batch, Frame, FramePool};
use rustix::io::Errno;

use super::superframes::{Vnet, Written};
use super::{Device, Got, ReadError, vlan, vnet};
use crate::gather::Gather;
use crate::offload::{MAX_SUPERFRAME, on_the_wire};
use crate::port::{Caps, Port, PortCounters, PortError, Rx};
use crate::tails::Tails;

/// Bytes that a device may hand in per call of [`Port::rx`], so that one that sends superframes delays others no more than
/// one that sends small frames, and what is under way fits the cache (decision 17).
const RX_BYTES: u64 = 256 << 10;

/// The router's side of an interface. What the other side sends is read, what is written the other side receives.
#[derive(Debug)]
pub struct DevicePort<D> {
    device: D,
    name: String,
    caps: Caps,
    counters: PortCounters,
    /// Frames that the kernel had no room for.
    missed: Cell<u64>,
    /// None for a device without virtio-net header.
    vnet: Option<Vnet>,
    /// The device takes only what a wire would carry, header or not.
    on_the_wire: bool,
    /// Frames of this breath that may go as one; none for a device that takes no superframes.
    gather: Option<Gather>,
    /// Bytes per call of [`Port::rx`].
    pub(crate) turn: u64,
}

impl<D: Device> DevicePort<D> {
    /// A port on a plain device. `name` is for messages, `mtu` what [`Port::caps`] tells.
    #[must_use]
    pub fn on(device: D, name: &str, mtu: u16) -> Self {
        Self {
            device,
            name: name.into(),
            caps: Caps {
                mtu,
                offload: false,
            },
            counters: PortCounters::default(),
            missed: Cell::new(0),
            vnet: None,
            on_the_wire: false,
            gather: None,
            turn: RX_BYTES,
        }
    }

    /// The same port for a device with a virtio-net header. Tails of superframes are put into `tails`.
    #[must_use]
    pub fn with_offload(mut self, tails: Arc<Tails>) -> Self {
        self.caps.offload = true;
        self.vnet = Some(Vnet::new(tails));
        self.gather = Some(Gather::new(MAX_SUPERFRAME));
        self
    }

    /// The same port for a device that is to be given no superframe and no open checksum, although it has the header.
    #[must_use]
    pub fn sending_on_the_wire(mut self) -> Self {
        self.caps.offload = false;
        self.on_the_wire = true;
        self.gather = None;
        self
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Counts what became of one frame.
    fn sent(&mut self, written: Result<usize, Errno>) -> Result<(), PortError> {
        match written {
            Ok(len) => {
                self.counters.tx_frames += 1;
                self.counters.tx_bytes += len as u64;
                Ok(())
            }
            Err(errno) => {
                self.counters.tx_dropped += 1;
                if self.device.is_gone(errno) {
                    return Err(self.gone("write", errno));
                }
                // A frame lost, and the next may pass.
                Ok(())
            }
        }
    }

    /// Sends a frame.
    fn send(&mut self, pool: &mut FramePool, mut frame: Frame) -> Result<(), PortError> {
        let written = self.write(&mut frame);
        pool.free(frame);
        written
    }

    fn write(&mut self, frame: &mut Frame) -> Result<(), PortError> {
        match &mut self.vnet {
            Some(_) if self.on_the_wire && frame.is_offloaded() => {
                self.send_cut(frame, &[0; vnet::HEADER])
            }
            Some(vnet) => match vnet.write(&self.device, frame) {
                Ok(Written::Frame(len)) => self.sent(Ok(len)),
                Ok(Written::Refused) => self.send_cut(frame, &[0; vnet::HEADER]),
                Err(errno) => self.sent(Err(errno)),
            },
            None if frame.is_offloaded() => self.send_cut(frame, &[]),
            None => {
                let written = self.device.write(&[], frame.bytes(), None);
                self.sent(written)
            }
        }
    }

    /// Sends the frames that wait: as one if they are many enough, each for itself otherwise.
    fn send_gathered(&mut self, pool: &mut FramePool) -> Result<(), PortError> {
        let Some(mut gather) = self.gather.take() else {
            return Ok(());
        };
        let joined = match (&mut self.vnet, gather.joined()) {
            (Some(vnet), Some(joined)) => vnet.write_joined(&self.device, &joined),
            _ => Ok(Written::Refused),
        };
        let mut result = Ok(());
        for frame in gather.frames() {
            let sent = match joined {
                Ok(Written::Refused) if result.is_ok() => self.write(frame),
                Ok(Written::Refused) => {
                    self.counters.tx_dropped += 1;
                    Ok(())
                }
                Ok(Written::Frame(_)) => self.sent(Ok(frame.len())),
                Err(errno) => self.sent(Err(errno)),
            };
            result = result.and(sent);
        }
        gather.free_all(pool);
        self.gather = Some(gather);
        result
    }

    /// Sends what a wire would carry for a frame, to a device that can't take it as it is.
    fn send_cut(&mut self, frame: &mut Frame, header: &[u8]) -> Result<(), PortError> {
        let mut result = Ok(());
        let whole = on_the_wire(frame, |bytes| {
            let written = self.device.write(header, bytes, None);
            result = self.sent(written.map(|_| bytes.len()));
            result.is_ok()
        });
        if !whole {
            self.counters.tx_dropped += 1;
        }
        result
    }

    fn gone(&self, operation: &'static str, errno: Errno) -> PortError {
        PortError {
            port: self.name.clone(),
            operation,
            source: errno.into(),
        }
    }
}

/// What a device gave when it was asked for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// One, or its beginning.
    Frame,
    /// One whose virtio-net header can't be true.
    Malformed,
    /// None.
    Nothing,
    /// None, but there may be one.
    Again,
}

/// What an error of a read says of the next frame; the error itself when there will be none.
pub(super) fn judge<D: Device>(device: &D, errno: Errno, vnet: bool) -> Result<Read, Errno> {
    match device.read_error(errno, vnet) {
        ReadError::Nothing => Ok(Read::Nothing),
        ReadError::Again => Ok(Read::Again),
        ReadError::Malformed => Ok(Read::Malformed),
        ReadError::Gone => Err(errno),
    }
}

/// Says how much of the frame's room was filled; of a longer frame these bytes are the beginning. Whatever its length, the
/// router says what becomes of it, so that each frame is in its books.
pub(super) fn set_len(frame: &mut Frame, len: usize) {
    if len > MAX_FRAME {
        frame.set_cut();
    }
    frame.set_len(len.min(MAX_FRAME));
}

fn read_plain<D: Device>(device: &D, frame: &mut Frame) -> Result<Read, Errno> {
    // The driver cuts a frame that is longer than the buffer without saying so: the byte behind the slot tells.
    let mut beyond = [0];
    match device.read(&mut [], frame.room_mut(), None, &mut beyond) {
        // End of file: no interface says that, and there is no frame to hand in.
        Ok(Got { len: 0, .. }) => Ok(Read::Nothing),
        Ok(Got { len, tag }) => {
            set_len(frame, len);
            Ok(vlan::put_back(frame, tag))
        }
        Err(errno) => judge(device, errno, false),
    }
}

impl<D: Device> AsFd for DevicePort<D> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

impl<D: Device> Port for DevicePort<D> {
    fn caps(&self) -> Caps {
        self.caps
    }

    fn rx(
        &mut self,
        pool: &mut FramePool,
        batch: &mut Batch,
        budget: usize,
    ) -> Result<Rx, PortError> {
        let until = self.counters.rx_bytes + self.turn;
        for _ in 0..budget.min(batch.room()) {
            if self.counters.rx_bytes >= until {
                break;
            }
            let Some(mut frame) = pool.alloc() else {
                return Ok(Rx::More);
            };
            let read = match &mut self.vnet {
                Some(vnet) => vnet.read(&self.device, &mut frame),
                None => read_plain(&self.device, &mut frame),
            };
            match read {
                Ok(Read::Frame) => {
                    self.counters.rx_frames += 1;
                    self.counters.rx_bytes += frame.len() as u64;
                    if let Err(frame) = batch.push(frame) {
                        // Not reached: the loop is bounded by the batch's room.
                        pool.free(frame);
                    }
                }
                Ok(Read::Malformed) => {
                    self.counters.rx_errors += 1;
                    pool.free(frame);
                }
                Ok(Read::Again) => pool.free(frame),
                Ok(Read::Nothing) => {
                    pool.free(frame);
                    return Ok(Rx::Drained);
                }
                Err(errno) => {
                    pool.free(frame);
                    return Err(self.gone("read", errno));
                }
            }
        }
        Ok(Rx::More)
    }

    fn tx(&mut self, pool: &mut FramePool, frame: Frame) -> Result<(), PortError> {
        let Some(gather) = &mut self.gather else {
            return self.send(pool, frame);
        };
        let Err(frame) = gather.push(frame) else {
            return Ok(());
        };
        if let Err(error) = self.send_gathered(pool) {
            pool.free(frame);
            return Err(error);
        }
        let taken = match &mut self.gather {
            Some(gather) => gather.push(frame),
            None => Err(frame),
        };
        match taken {
            Ok(()) => Ok(()),
            Err(frame) => self.send(pool, frame),
        }
    }

    fn flush(&mut self, pool: &mut FramePool) -> Result<(), PortError> {
        self.send_gathered(pool)
    }

    fn counters(&self) -> PortCounters {
        let missed = self.missed.get() + self.device.take_missed();
        self.missed.set(missed);
        PortCounters {
            rx_missed: missed,
            ..self.counters
        }
    }
}

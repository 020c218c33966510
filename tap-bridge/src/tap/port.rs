//! A TAP interface as a port.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use router_core::frame::MAX_FRAME;
use router_core::{Batch, Frame, FramePool};
use rustix::io::Errno;

use super::offload::{Vnet, Written};
use super::vnet;
use crate::offload::on_the_wire;
use crate::port::{Caps, Port, PortCounters, PortError, Rx};
use crate::sys::vectored;
use crate::tails::Tails;

/// Bytes that a device may hand in per call of [`Port::rx`], so that one that sends superframes delays others no more than
/// one that sends small frames, and what is under way fits the cache (decision 17).
const RX_BYTES: u64 = 256 << 10;

/// The router's side of a TAP interface. What the pod sends is read, what is written the pod receives.
#[derive(Debug)]
pub struct TapPort {
    fd: OwnedFd,
    name: String,
    caps: Caps,
    counters: PortCounters,
    /// None for the plain device.
    vnet: Option<Vnet>,
    /// Bytes per call of [`Port::rx`].
    pub(super) turn: u64,
}

impl TapPort {
    /// A port on the plain interface that `fd` is attached to. `fd` must be nonblocking, as [`super::create`] makes it; `name`
    /// is for messages, `mtu` what [`Port::caps`] tells.
    #[must_use]
    pub fn new(fd: OwnedFd, name: &str, mtu: u16) -> Self {
        Self {
            fd,
            name: name.into(),
            caps: Caps {
                mtu,
                offload: false,
            },
            counters: PortCounters::default(),
            vnet: None,
            turn: RX_BYTES,
        }
    }

    /// The same port for a device with a virtio-net header, as [`super::has_offloads`] tells. Tails of superframes are put
    /// into `tails`.
    #[must_use]
    pub fn with_offload(mut self, tails: Arc<Tails>) -> Self {
        self.caps.offload = true;
        self.vnet = Some(Vnet::new(tails));
        self
    }

    /// Counts what became of one frame.
    fn sent(&mut self, written: Result<usize, Errno>) -> Result<(), PortError> {
        match written {
            Ok(len) => {
                self.counters.tx_frames += 1;
                self.counters.tx_bytes += len as u64;
                Ok(())
            }
            // Gone for good (tun_chr_write_iter: no interface behind the descriptor).
            Err(errno @ (Errno::BADFD | Errno::BADF)) => {
                self.counters.tx_dropped += 1;
                Err(self.gone("write", errno))
            }
            // EIO: the interface is down (tun_get_user). EAGAIN, ENOBUFS, ENOMEM: full. EINVAL: shorter than an Ethernet
            // header. A frame lost in each case, and the next may pass.
            Err(_) => {
                self.counters.tx_dropped += 1;
                Ok(())
            }
        }
    }

    /// Sends what a wire would carry for a frame, to a device that can't take it as it is.
    fn send_cut(&mut self, frame: &mut Frame, header: &[u8]) -> Result<(), PortError> {
        let mut result = Ok(());
        let whole = on_the_wire(frame, |bytes| {
            let written = vectored::write(self.fd.as_fd(), header, bytes, None);
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
}

/// Says how much of the frame's room was filled; of a longer frame these bytes are the beginning. Whatever its length, the
/// router says what becomes of it, so that each frame is in its books.
pub(super) fn set_len(frame: &mut Frame, len: usize) {
    if len > MAX_FRAME {
        frame.set_cut();
    }
    frame.set_len(len.min(MAX_FRAME));
}

fn read_plain(fd: BorrowedFd<'_>, frame: &mut Frame) -> Result<Read, Errno> {
    // The driver cuts a frame that is longer than the buffer without saying so: the byte behind the slot tells.
    let mut beyond = [0];
    match vectored::read(fd, &mut [], frame.room_mut(), None, &mut beyond) {
        // End of file: no interface says that, and there is no frame to hand in.
        Ok(0) | Err(Errno::AGAIN) => Ok(Read::Nothing),
        Ok(len) => {
            set_len(frame, len);
            Ok(Read::Frame)
        }
        Err(errno) => Err(errno),
    }
}

impl AsFd for TapPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Port for TapPort {
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
                Some(vnet) => vnet.read(self.fd.as_fd(), &mut frame),
                None => read_plain(self.fd.as_fd(), &mut frame),
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
                Ok(Read::Nothing) => {
                    pool.free(frame);
                    return Ok(Rx::Drained);
                }
                // An interface that is merely down has nothing to read and says EAGAIN, so every other error means that it
                // was deleted: EBADFD when it is detached, EIO and EFAULT (shut-down queue) while it is on its way out.
                Err(errno) => {
                    pool.free(frame);
                    return Err(self.gone("read", errno));
                }
            }
        }
        Ok(Rx::More)
    }

    fn tx(&mut self, pool: &mut FramePool, mut frame: Frame) -> Result<(), PortError> {
        let written = match &mut self.vnet {
            Some(vnet) => match vnet.write(self.fd.as_fd(), &mut frame) {
                Ok(Written::Frame(len)) => self.sent(Ok(len)),
                Ok(Written::Refused) => self.send_cut(&mut frame, &[0; vnet::HEADER]),
                Err(errno) => self.sent(Err(errno)),
            },
            None if frame.is_offloaded() => self.send_cut(&mut frame, &[]),
            None => self.sent(vectored::write(self.fd.as_fd(), &[], frame.bytes(), None)),
        };
        pool.free(frame);
        written
    }

    fn counters(&self) -> PortCounters {
        self.counters
    }
}

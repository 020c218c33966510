//! A TAP interface as a port.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use router_core::frame::MAX_FRAME;
use router_core::{Batch, Frame, FramePool};
use rustix::io::Errno;

use crate::port::{Caps, Port, PortCounters, PortError, Rx};

/// The router's side of a TAP interface. What the pod sends is read, what is written the pod receives.
#[derive(Debug)]
pub struct TapPort {
    fd: OwnedFd,
    name: String,
    caps: Caps,
    counters: PortCounters,
}

impl TapPort {
    /// A port on the interface that `fd` is attached to. `fd` must be nonblocking, as [`super::create`] makes it; `name`
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
        }
    }

    fn gone(&self, operation: &'static str, errno: Errno) -> PortError {
        PortError {
            port: self.name.clone(),
            operation,
            source: errno.into(),
        }
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
        for _ in 0..budget.min(batch.room()) {
            let Some(mut frame) = pool.alloc() else {
                return Ok(Rx::More);
            };
            // The driver cuts a frame that is longer than the buffer without saying so: the byte behind the slot tells.
            let mut beyond = [0];
            let read = rustix::io::retry_on_intr(|| {
                rustix::io::readv(
                    &self.fd,
                    &mut [
                        IoSliceMut::new(frame.room_mut()),
                        IoSliceMut::new(&mut beyond),
                    ],
                )
            });
            match read {
                // End of file: no interface says that, and there is no frame to hand in.
                Ok(0) => {
                    pool.free(frame);
                    return Ok(Rx::Drained);
                }
                // Whatever its length, the router says what becomes of it, so that each frame is in its books.
                Ok(len) => {
                    if len > MAX_FRAME {
                        frame.set_cut();
                    }
                    let len = len.min(MAX_FRAME);
                    frame.set_len(len);
                    self.counters.rx_frames += 1;
                    self.counters.rx_bytes += len as u64;
                    if let Err(frame) = batch.push(frame) {
                        // Not reached: the loop is bounded by the batch's room.
                        pool.free(frame);
                    }
                }
                Err(errno) => {
                    pool.free(frame);
                    return match errno {
                        Errno::AGAIN => Ok(Rx::Drained),
                        // An interface that is merely down has nothing to read and says EAGAIN, so every other error
                        // means that it was deleted: EBADFD when it is detached, EIO and EFAULT (shut-down queue) while
                        // it is on its way out.
                        errno => Err(self.gone("read", errno)),
                    };
                }
            }
        }
        Ok(Rx::More)
    }

    fn tx(&mut self, pool: &mut FramePool, frame: Frame) -> Result<(), PortError> {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&self.fd, frame.bytes()));
        let len = frame.len() as u64;
        pool.free(frame);
        match written {
            Ok(_) => {
                self.counters.tx_frames += 1;
                self.counters.tx_bytes += len;
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

    fn counters(&self) -> PortCounters {
        self.counters
    }
}

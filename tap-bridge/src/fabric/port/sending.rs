//! The way of a frame out of the port: to a peer's ring, or as a flood to the hub.

use std::io;
use std::os::fd::AsFd as _;

use router_core::{Frame, FramePool, Mac, Mark};

use super::FabricPort;
use super::peer::Peer;
use crate::fabric::message::{Flooded, ToHub};
use crate::offload::on_the_wire;
use crate::port::PortError;
use crate::sys::scm;

impl FabricPort {
    /// Hands a frame to the hub as a wire would carry it: a superframe cut, a checksum complete.
    pub(super) fn flood(&mut self, frame: &mut Frame) -> Result<(), PortError> {
        let mark = frame.mark();
        let mut result = Ok(());
        let whole = on_the_wire(frame, |bytes| {
            result = self.flood_bytes(mark, bytes);
            result.is_ok()
        });
        if !whole {
            self.counters.tx_dropped += 1;
        }
        result
    }

    fn flood_bytes(&mut self, mark: Mark, frame: &[u8]) -> Result<(), PortError> {
        let len = frame.len() as u64;
        ToHub::Flood(Flooded { mark, frame }).write(&mut self.message);
        match scm::send(self.hub.as_fd(), &self.message, &[]) {
            Ok(_) => {
                self.counters.tx_frames += 1;
                self.counters.tx_bytes += len;
                self.fabric.flooded += 1;
                Ok(())
            }
            Err(e) => {
                self.counters.tx_dropped += 1;
                // Full: the hub is behind. ENOBUFS, ENOMEM: the system is.
                match e.kind() {
                    io::ErrorKind::BrokenPipe
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::NotConnected => Err(self.error("write to the hub", e)),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Sends the frames that wait: as one, in the head of the first, if they are many enough.
    pub(super) fn send_gathered(&mut self, pool: &mut FramePool) -> Result<(), PortError> {
        let mut gather = std::mem::take(&mut self.gather);
        let joined = gather.join();
        let mut result = Ok(());
        let frames = gather.frames();
        let rest = frames.len() as u64 - u64::from(joined);
        let sent = if joined { 1 } else { frames.len() };
        let before = self.counters.tx_dropped;
        for frame in &mut frames[..sent] {
            result = result.and_then(|()| self.transmit(frame));
        }
        if joined {
            // The others went with it, wherever it went.
            if self.counters.tx_dropped == before {
                self.counters.tx_frames += rest;
            } else {
                self.counters.tx_dropped += rest;
            }
        }
        gather.free_all(pool);
        self.gather = gather;
        result
    }

    /// Rings where somebody sleeps on what was sent, and sends what the hub is to be asked.
    pub(super) fn wake(&mut self) -> Result<(), PortError> {
        for link in self.peers.iter_mut().filter_map(Peer::link_mut) {
            link.flush();
        }
        self.request()
    }

    pub(super) fn transmit(&mut self, frame: &mut Frame) -> Result<(), PortError> {
        let Some(destination) = frame.bytes().first_chunk().copied().map(Mac) else {
            self.counters.tx_dropped += 1;
            return Ok(());
        };
        if destination.is_group() {
            return self.flood(frame);
        }
        let found = self.by_mac.partition_point(|entry| entry.0 < destination);
        match self.by_mac.get(found) {
            Some(&(mac, index)) if mac == destination => {
                if self.peers[index].link().is_some() {
                    self.send(index, frame);
                } else {
                    self.queue(index, frame);
                }
                Ok(())
            }
            _ if self.unknown.take((self.clock)()) => self.flood(frame),
            _ => {
                self.counters.tx_dropped += 1;
                self.fabric.unknown_dropped += 1;
                Ok(())
            }
        }
    }
}

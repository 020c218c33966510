//! The receiving half of the port: messages of the hub, and the rings.
//!
//! Decides who is read first and how much. What a message means is the port's.

use std::io;
use std::os::fd::AsFd as _;

use router_core::{Batch, FramePool};

use super::super::message::{Flooded, ToMember};
use super::FabricPort;
use crate::port::PortError;
use crate::sys::scm;

/// Messages of the hub that are read per [`Port::rx`](crate::port::Port::rx) besides flooded frames, so that links are served too.
const MESSAGES_PER_RX: usize = 64;

impl FabricPort {
    /// Reads messages until the socket is empty, the batch is full or the pool empty.
    pub(super) fn serve_hub(
        &mut self,
        pool: &mut FramePool,
        batch: &mut Batch,
        budget: &mut usize,
    ) -> Result<(), PortError> {
        for _ in 0..MESSAGES_PER_RX {
            // Any message may turn out to be a frame.
            if *budget == 0 || batch.room() == 0 || pool.available() == 0 {
                return Ok(());
            }
            self.descriptors.clear();
            let len = match scm::recv(self.hub.as_fd(), &mut self.buffer, &mut self.descriptors) {
                Ok(0) => {
                    let closed = io::ErrorKind::ConnectionReset.into();
                    return Err(self.error("read from the hub", closed));
                }
                Ok(len) => len,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.hub_ready = false;
                    return Ok(());
                }
                // A message whose descriptors this process could not take. If it was a link, it is asked for again.
                Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                    self.fabric.bad_messages += 1;
                    continue;
                }
                Err(e) => return Err(self.error("read from the hub", e)),
            };
            let buffer = std::mem::take(&mut self.buffer);
            match ToMember::parse(&buffer[..len]) {
                Ok(ToMember::Flood(flooded)) => {
                    self.deliver(pool, batch, flooded);
                    *budget -= 1;
                }
                Ok(message) => self.handle(message),
                Err(_) => self.fabric.bad_messages += 1,
            }
            self.buffer = buffer;
        }
        Ok(())
    }

    fn deliver(&mut self, pool: &mut FramePool, batch: &mut Batch, flooded: Flooded<'_>) {
        let Flooded { mark, frame: bytes } = flooded;
        let Some(mut frame) = pool.alloc() else {
            self.counters.rx_errors += 1;
            return;
        };
        if !frame.fill(bytes) {
            self.counters.rx_errors += 1;
            pool.free(frame);
            return;
        }
        frame.set_mark(mark);
        self.counters.rx_frames += 1;
        self.counters.rx_bytes += bytes.len() as u64;
        if let Err(frame) = batch.push(frame) {
            // Not reached: callers check the batch's room.
            pool.free(frame);
        }
    }

    /// Reads the rings, each in its turn. False when some may have more.
    pub(super) fn serve_links(
        &mut self,
        pool: &mut FramePool,
        batch: &mut Batch,
        budget: usize,
    ) -> bool {
        let mut budget = budget;
        let count = self.peers.len();
        for step in 0..count {
            let index = (self.turn + step) % count;
            let mut failed = false;
            while let Some(link) = self.peers[index].link_mut() {
                if budget == 0 || batch.room() == 0 {
                    break;
                }
                let Some(mut frame) = pool.alloc() else {
                    break;
                };
                match link.pop(&mut frame) {
                    Ok(true) => {
                        self.counters.rx_frames += 1;
                        self.counters.rx_bytes += frame.len() as u64;
                        budget -= 1;
                        if let Err(frame) = batch.push(frame) {
                            // Not reached: the room was checked above.
                            pool.free(frame);
                        }
                    }
                    Ok(false) => {
                        pool.free(frame);
                        break;
                    }
                    Err(_) => {
                        pool.free(frame);
                        failed = true;
                        break;
                    }
                }
            }
            if failed {
                self.counters.rx_errors += 1;
                self.break_link(index);
            }
            if let Some(link) = self.peers[index].link_mut() {
                link.end.release();
            }
            if budget == 0 || batch.room() == 0 || pool.available() == 0 {
                // The next one first, so that nobody is always last.
                self.turn = (index + 1) % count;
                return !self.has_frames();
            }
        }
        true
    }
}

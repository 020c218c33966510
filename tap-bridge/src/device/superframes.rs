//! Frames of a device with a virtio-net header: whole superframes in and out.
//!
//! Decides where the bytes of a frame go: as many as a slot takes into its head, the rest of a superframe into a tail, and
//! from both straight to the next device. Before a read nobody knows what will come, so a tail stands ready for each; one
//! that was not needed is used for the next.
//!
//! Cost: one readv or writev per frame, which copies it once; nothing else touches its payload.

use std::io::IoSlice;
use std::iter;
use std::sync::Arc;

use router_core::Frame;
use router_core::frame::{GsoKind, HEADROOM, MAX_FRAME};
use router_core::segment::Layout;
use rustix::io::Errno;

use super::port::{Read, judge, set_len};
use super::{Device, Got, vlan, vnet};
use crate::gather::{Joined, MOST};
use crate::tails::{Spare, TAIL_BYTES, Tails, stretch_of};

/// Bytes that a superframe has in front of its tail: a slot's less what tunnels may put in front, as the next router has to
/// take the head in a slot of its own.
const HEAD: usize = MAX_FRAME - HEADROOM;

#[derive(Debug)]
pub(super) struct Vnet {
    tails: Arc<Tails>,
    /// For a tail that doesn't lie in shared memory. Made when one comes.
    scratch: Vec<u8>,
    /// The kernel takes no superframes of UDP.
    no_udp: bool,
}

impl Vnet {
    pub(super) fn new(tails: Arc<Tails>) -> Self {
        Self {
            tails,
            scratch: Vec::new(),
            no_udp: false,
        }
    }

    /// Reads one frame. Of a superframe for which there is no tail, and of a longer frame than a device with the MTU of a
    /// slot has, only the beginning comes, with a word about that.
    pub(super) fn read<D: Device>(&mut self, device: &D, frame: &mut Frame) -> Result<Read, Errno> {
        let mut header = [0; vnet::HEADER];
        let mut beyond = [0];
        let spare = self.tails.take();
        let tail = spare.as_ref().and_then(Spare::stretch_mut);
        let head = if tail.is_some() { HEAD } else { MAX_FRAME };
        let room = &mut frame.room_mut()[..head];
        let Got { len, tag } = match device.read(&mut header, room, tail, &mut beyond) {
            Ok(Got { len: 0, .. }) => return Ok(Read::Nothing),
            Err(errno) => return judge(device, errno, true),
            Ok(got) => got,
        };
        let Some(len) = len.checked_sub(vnet::HEADER) else {
            return Ok(Read::Malformed);
        };
        frame.set_len(len.min(head));
        let Ok(offload) = vnet::parse(&header, frame.bytes()) else {
            return Ok(Read::Malformed);
        };
        if let Some(spare) = spare
            && let Some(rest) = len.checked_sub(HEAD + 1)
        {
            let tail = spare.filled(rest + 1);
            if offload.gso.is_some() && rest < TAIL_BYTES && tag.is_none() {
                frame.set_offload(offload);
                frame.set_tail(tail);
                return Ok(Read::Frame);
            }
            // It belongs into the head, as far as that goes.
            tail.read(0, &mut frame.room_mut()[HEAD..MAX_FRAME]);
        }
        set_len(frame, len);
        if offload.partial.is_some() && !frame.is_cut() {
            frame.set_offload(offload);
        }
        Ok(vlan::put_back(frame, tag))
    }

    /// Writes one frame with its tail, from wherever that lies.
    pub(super) fn write<D: Device>(
        &mut self,
        device: &D,
        frame: &mut Frame,
    ) -> Result<Written, Errno> {
        if !frame.is_offloaded() {
            let written = device.write(&[0; vnet::HEADER], frame.bytes(), None);
            return written.map(|_| Written::Frame(frame.len()));
        }
        let offload = frame.offload();
        if let Some(gso) = offload.gso {
            // The header has no word for a packet in a tunnel.
            let tunnelled = Layout::of(frame.bytes()).is_some_and(|layout| layout.is_tunnelled());
            if tunnelled || (self.no_udp && gso.kind == GsoKind::Udp) {
                return Ok(Written::Refused);
            }
        }
        let header = vnet::write(offload, frame.bytes());
        let written = self.write_parts(device, &header, frame);
        match (written, offload.gso) {
            // Kernels before 6.2 don't know it.
            (Err(Errno::INVAL), Some(gso)) if gso.kind == GsoKind::Udp => {
                self.no_udp = true;
                Ok(Written::Refused)
            }
            (written, _) => written.map(|_| Written::Frame(frame.len())),
        }
    }

    /// Writes frames that go together as one.
    pub(super) fn write_joined<D: Device>(
        &mut self,
        device: &D,
        joined: &Joined<'_>,
    ) -> Result<Written, Errno> {
        let layout = Layout::of(joined.headers);
        let is_udp = layout.is_some_and(|layout| !layout.is_tcp());
        // As for a superframe that came as one.
        if (is_udp && self.no_udp) || layout.is_none_or(|layout| layout.is_tunnelled()) {
            return Ok(Written::Refused);
        }
        let header = vnet::write(joined.offload, joined.headers);
        let mut parts = [IoSlice::new(&[]); MOST + 2];
        let all = iter::once(&header[..]).chain(iter::once(joined.headers));
        let mut count = 0;
        for (place, part) in parts.iter_mut().zip(all.chain(joined.payloads())) {
            *place = IoSlice::new(part);
            count += 1;
        }
        match device.write_parts(&parts[..count]) {
            Err(Errno::INVAL) if is_udp => {
                self.no_udp = true;
                Ok(Written::Refused)
            }
            written => written.map(Written::Frame),
        }
    }

    fn write_parts<D: Device>(
        &mut self,
        device: &D,
        header: &[u8],
        frame: &Frame,
    ) -> Result<usize, Errno> {
        let Some(tail) = frame.tail() else {
            return device.write(header, frame.bytes(), None);
        };
        let stretch = stretch_of(tail);
        if stretch.is_some() {
            return device.write(header, frame.bytes(), stretch);
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(header);
        self.scratch.extend_from_slice(frame.bytes());
        let at = self.scratch.len();
        self.scratch.resize(at + tail.len(), 0);
        tail.read(0, &mut self.scratch[at..]);
        device.write(&[], &self.scratch, None)
    }
}

/// What became of a frame that was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// The device has so many bytes.
    Frame(usize),
    /// It can't be said to the device: to be cut.
    Refused,
}

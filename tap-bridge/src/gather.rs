//! Frames of one flow that leave by one port one behind the other in the same breath, sent as one superframe.
//!
//! A pod that sends small datagrams as fast as it can costs one system call per datagram at the receiver's device, and there
//! the way through the kernel's stack as well. Put together to a [`Train`], the
//! kernel takes up to 64 of them in one call and takes them apart where they end, in front of the socket.
//!
//! Decides when that is done: only with frames that are at hand anyway, so nothing waits for what may come; only adjacent
//! ones, so no frame overtakes another; only [`LEAST`] or more, so that a program that looks at single packets (a resolver's
//! two questions, a traced path) sees them as they were sent; never with traced frames. Doesn't decide which frames go
//! together: that is the router core's [`Train`].
//!
//! Differs from Linux: what forwards there puts UDP together only when told to (`ethtool -K .. rx-udp-gro-forwarding on`), so a
//! tcpdump in a pod that is flooded with datagrams of one flow shows up to 64 of them as one, as it shows TCP.
//!
//! Cost: a comparison of a few bytes per frame; of those that go together, of their headers, and a pass over payload whose
//! checksum is complete. No allocation after the first breath.

use std::iter;
use std::ops::Range;

use router_core::frame::{HEADROOM, MAX_FRAME, Offload};
use router_core::segment::Train;
use router_core::trace::Mark;
use router_core::{Frame, FramePool};

/// Fewest frames that are put together.
pub const LEAST: usize = 8;

/// Most frames that are put together, as many as UDP allows.
pub const MOST: usize = 64;

/// Bytes by which frames of one flow are told from others before their headers are looked at: addresses of the link and
/// the protocol; addresses and ports of IPv4, or most of IPv6's addresses. What is alike there may still differ.
const LINK: Range<usize> = 0..14;
const FLOW: Range<usize> = 26..38;

/// As much as the next router can take into a slot of its own.
const HEAD: usize = MAX_FRAME - HEADROOM;

/// Frames that wait for the end of the breath, or for one that doesn't go on with them.
#[derive(Debug)]
pub(crate) struct Gather {
    waiting: Vec<Frame>,
    /// From the second frame on.
    train: Option<Train>,
    /// Bytes that the superframe may have.
    limit: usize,
    /// Bytes that it has so far, and how many of these are headers.
    len: usize,
    headers: usize,
}

/// Frames put together: what is sent in front of the payloads, and what is then left to do.
pub(crate) struct Joined<'a> {
    pub(crate) headers: &'a [u8],
    pub(crate) offload: Offload,
    frames: &'a [Frame],
}

impl<'a> Joined<'a> {
    /// What follows the headers, in order.
    pub(crate) fn payloads(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let headers = self.headers.len();
        let frames = self.frames.iter();
        frames.map(move |frame| frame.bytes().get(headers..).unwrap_or_default())
    }
}

impl Default for Gather {
    /// For superframes that lie in a head, and leave room for what a tunnel puts in front.
    fn default() -> Self {
        Self::new(HEAD)
    }
}

impl Gather {
    /// Nothing waits yet. No superframe becomes longer than `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            waiting: Vec::with_capacity(MOST),
            train: None,
            limit,
            len: 0,
            headers: 0,
        }
    }

    /// Takes a frame that goes on with those that wait, or that others may go on with.
    ///
    /// # Errors
    /// The frame, when it doesn't: what waits has to be sent first.
    pub(crate) fn push(&mut self, frame: Frame) -> Result<(), Frame> {
        let is_plain = !frame.is_superframe() && frame.tail().is_none();
        if !is_plain || frame.mark() != Mark::NONE || !self.goes_on_with(&frame) {
            return Err(frame);
        }
        self.waiting.push(frame);
        Ok(())
    }

    fn goes_on_with(&mut self, frame: &Frame) -> bool {
        let Some(first) = self.waiting.first() else {
            self.len = frame.len();
            return true;
        };
        let same = |part: Range<usize>| {
            let of_first = first.bytes().get(part.clone());
            of_first.is_some() && of_first == frame.bytes().get(part)
        };
        if self.waiting.len() == MOST || !same(FLOW) || !same(LINK) {
            return false;
        }
        let train = match &mut self.train {
            Some(train) => train,
            None => match Train::begin(first) {
                Ok(train) => {
                    self.headers = first.len() - train.payload(first).len();
                    self.train.insert(train)
                }
                Err(_) => return false,
            },
        };
        let len = self.len + frame.len().saturating_sub(self.headers);
        if len > self.limit || train.push(frame).is_err() {
            return false;
        }
        self.len = len;
        true
    }

    /// Those that wait, put together; none when there are fewer than [`LEAST`].
    pub(crate) fn joined(&mut self) -> Option<Joined<'_>> {
        if self.waiting.len() < LEAST {
            return None;
        }
        let (headers, offload) = self.train.as_mut()?.finish();
        Some(Joined {
            headers,
            offload,
            frames: &self.waiting,
        })
    }

    /// Puts those that wait together in the first of them, for a limit that a head can hold. False, and nothing has changed,
    /// when there are fewer than [`LEAST`].
    pub(crate) fn join(&mut self) -> bool {
        let Some(joined) = self.joined() else {
            return false;
        };
        let (headers, offload) = (joined.headers.len(), joined.offload);
        let mut bytes = [0; MAX_FRAME];
        let mut len = 0;
        for part in iter::once(joined.headers).chain(joined.payloads()) {
            let Some(place) = bytes.get_mut(len..len + part.len()) else {
                return false;
            };
            place.copy_from_slice(part);
            len += part.len();
        }
        debug_assert!(len > headers && len == self.len, "all of them");
        let Some(first) = self.waiting.first_mut() else {
            return false;
        };
        let Some(place) = first.room_mut().get_mut(..len) else {
            return false;
        };
        place.copy_from_slice(&bytes[..len]);
        first.set_len(len);
        first.set_offload(offload);
        true
    }

    /// Frames that wait now.
    pub(crate) fn frames(&mut self) -> &mut [Frame] {
        &mut self.waiting
    }

    /// Gives everything back.
    pub(crate) fn free_all(&mut self, pool: &mut FramePool) {
        self.train = None;
        for frame in self.waiting.drain(..) {
            pool.free(frame);
        }
    }
}

#[cfg(test)]
mod tests;

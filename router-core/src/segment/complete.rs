//! Frames made what a wire would carry, in place: a checksum completed, a superframe reduced to its first segment, a packet
//! copied together.

use super::Error;
use super::cut::{Cutter, unless_none};
use crate::frame::Frame;
use crate::wire::checksum::Sum;
use crate::wire::ethernet;

/// Place of the checksum in UDP's header, and UDP-Lite's, where zero says that there is none.
const UDP_LIKE: u16 = 6;

/// More than all headers of a [`Layout`](super::Layout) have: Ethernet, two tags, twice IPv4 and TCP with all options.
const MAX_HEADERS: usize = 256;

/// Bytes of a tail that are looked at together; even.
const STEP: usize = 1024;

/// Completes the checksum that is open, if one is; nothing is left to do then. A superframe is to be cut instead.
///
/// # Errors
/// [`Error::Malformed`] when the checksum's place is not in the frame, or when it is a superframe.
pub fn complete(frame: &mut Frame) -> Result<(), Error> {
    let offload = frame.offload();
    if offload.gso.is_some() || frame.tail().is_some() {
        return Err(Error::Malformed);
    }
    if let Some(partial) = offload.partial {
        let rest = frame.bytes_mut().get_mut(usize::from(partial.start)..);
        let covered = rest.ok_or(Error::Malformed)?;
        write_sum(covered, partial.offset)?;
    }
    frame.forget_offload();
    Ok(())
}

/// Writes the checksum over `covered`, whose field at `offset` holds what the pseudo header sums to.
fn write_sum(covered: &mut [u8], offset: u16) -> Result<(), Error> {
    let checksum = Sum::new().add_bytes(covered).finish();
    let at = usize::from(offset);
    let field = covered.get_mut(at..at + 2).ok_or(Error::Malformed)?;
    field.copy_from_slice(&unless_none(checksum, offset != UDP_LIKE).to_be_bytes());
    Ok(())
}

/// Makes a frame what the first one looks like that a wire would carry for it: for who is told of it and sees the beginning
/// alone, as in an ICMP error. What doesn't fit the head of a superframe is left out, though the checksum covers it.
///
/// # Errors
/// [`Error::Malformed`], see [`admit`](super::admit); the frame is as it was.
pub fn become_first(frame: &mut Frame) -> Result<(), Error> {
    if !frame.is_superframe() {
        return complete(frame);
    }
    let cutter = Cutter::new(frame)?;
    let (len, headers_len) = (cutter.segment_len(0), cutter.layout.headers_len());
    let sum = sum(frame, headers_len, len);
    let mut headers = [0; MAX_HEADERS];
    let headers = headers.get_mut(..headers_len).ok_or(Error::Malformed)?;
    let of_frame = frame.bytes().get(..headers_len);
    headers.copy_from_slice(of_frame.ok_or(Error::Malformed)?);
    cutter
        .write_headers(0, headers, sum, len - headers_len)
        .ok_or(Error::Malformed)?;
    let place = frame.bytes_mut().get_mut(..headers_len);
    place.ok_or(Error::Malformed)?.copy_from_slice(headers);
    frame.forget_offload();
    frame.set_len(len.min(frame.head_len()));
    Ok(())
}

/// The sum over bytes `from` to `to`, of head and tail; `from` is in the head.
fn sum(frame: &Frame, from: usize, to: usize) -> Sum {
    let head = frame.bytes();
    let in_head = head.get(from..to.min(head.len())).unwrap_or_default();
    if to <= head.len() {
        return Sum::new().add_bytes(in_head);
    }
    let (even, _) = in_head.split_at(in_head.len() & !1);
    let mut sum = Sum::new().add_bytes(even);
    let mut at = from + even.len();
    let mut buffer = [0; STEP];
    while at < to {
        let n = (to - at).min(STEP);
        let Some(part) = buffer.get_mut(..n) else {
            break;
        };
        frame.read(at, part);
        sum = sum.add_bytes(part);
        at += n;
    }
    sum
}

/// Copies the packet of `frame`, without its Ethernet header, into `buffer`, checksum completed, a superframe as if it were
/// one packet. None when it doesn't fit.
pub fn linearize<'a>(frame: &Frame, buffer: &'a mut [u8]) -> Option<&'a mut [u8]> {
    let len = frame.len().checked_sub(ethernet::HEADER_LEN)?;
    let packet = buffer.get_mut(..len)?;
    frame.read(ethernet::HEADER_LEN, packet);
    if let Some(partial) = frame.offload().partial {
        let start = usize::from(partial.start).checked_sub(ethernet::HEADER_LEN)?;
        write_sum(packet.get_mut(start..)?, partial.offset).ok()?;
    }
    Some(packet)
}

//! A superframe in segments.

use super::Layout;
use super::{Error, is_sound};
use crate::frame::{Frame, FramePool, MAX_FRAME};
use crate::wire::checksum::Sum;
use crate::wire::ipv4;
use crate::wire::tcp::{CWR, FIN, PSH};

/// A superframe, and how it is cut.
#[derive(Clone, Copy, Debug)]
pub struct Cutter<'a> {
    frame: &'a Frame,
    pub(super) layout: Layout,
    size: usize,
    payload_len: usize,
}

impl<'a> Cutter<'a> {
    /// # Errors
    /// When `frame` is no superframe, or says of itself what can't be.
    pub fn new(frame: &'a Frame) -> Result<Self, Error> {
        let gso = frame.offload().gso.ok_or(Error::Malformed)?;
        let layout = is_sound(frame).ok_or(Error::Malformed)?;
        Ok(Self {
            frame,
            layout,
            size: gso.size.into(),
            payload_len: layout.payload_len(frame),
        })
    }

    /// Number of segments; at least 1.
    #[must_use]
    pub fn count(&self) -> usize {
        self.payload_len.div_ceil(self.size)
    }

    /// Bytes of payload of each segment but the last, which may have fewer.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Bytes of all segments together.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        self.payload_len + self.count() * self.layout.headers_len()
    }

    /// Bytes of segment `n`, its Ethernet header included; the first is the longest.
    #[must_use]
    pub fn segment_len(&self, n: usize) -> usize {
        self.layout.headers_len() + self.payload(n).1
    }

    /// Where the payload of segment `n` begins in that of the superframe, and how long it is.
    fn payload(&self, n: usize) -> (usize, usize) {
        let at = n.saturating_mul(self.size).min(self.payload_len);
        (at, (self.payload_len - at).min(self.size))
    }

    /// Writes segment `n` to the beginning of `out` and gives its length; none when there is no such segment, or when it
    /// is longer than `out`.
    pub fn write(&self, n: usize, out: &mut [u8]) -> Option<usize> {
        let (at, len) = self.payload(n);
        if len == 0 {
            return None;
        }
        let out = out.get_mut(..self.segment_len(n))?;
        let (headers, payload) = out.split_at_mut_checked(self.layout.headers_len())?;
        headers.copy_from_slice(self.frame.bytes().get(..headers.len())?);
        self.frame.read(self.layout.headers_len() + at, payload);
        self.write_headers(n, headers, Sum::new().add_bytes(payload), len)?;
        Some(out.len())
    }

    /// Makes `headers` those of segment `n`, whose payload is `len` bytes long with this `sum`.
    pub(super) fn write_headers(
        &self,
        n: usize,
        headers: &mut [u8],
        sum: Sum,
        len: usize,
    ) -> Option<()> {
        let at = self.layout;
        let (network, transport) = (usize::from(at.network), usize::from(at.transport));
        let after = |header: usize| u16::try_from(headers.len() - header + len).ok();
        let (network_len, transport_len) = (after(network)?, after(transport)?);
        if at.is_tunnelled() {
            let outer_len = after(at.outer.into())?;
            write_ipv4(headers.get_mut(at.outer.into()..network)?, outer_len, n);
        }
        let (front, transport_header) = headers.split_at_mut_checked(transport)?;
        let ip = front.get_mut(network..)?;
        if at.is_v6() {
            ip.get_mut(4..6)?
                .copy_from_slice(&transport_len.to_be_bytes());
        } else {
            write_ipv4(ip, network_len, n);
        }
        if at.is_tcp() {
            let last = n + 1 == self.count();
            let offset = u32::try_from(self.payload(n).0).ok()?;
            write_tcp(transport_header, offset, n == 0, last)?;
        } else {
            transport_header
                .get_mut(4..6)?
                .copy_from_slice(&transport_len.to_be_bytes());
        }
        let field = usize::from(at.partial().offset);
        transport_header.get_mut(field..field + 2)?.fill(0);
        // Headers are multiples of 4 bytes long, so that each part begins at an even offset.
        let checksum = at
            .pseudo_sum(front, transport_len)?
            .add_sum(sum)
            .add_bytes(transport_header)
            .finish();
        transport_header
            .get_mut(field..field + 2)?
            .copy_from_slice(&unless_none(checksum, at.is_tcp()).to_be_bytes());
        Some(())
    }
}

/// UDP's zero says that there is none (RFC 768).
pub(super) const fn unless_none(checksum: u16, tcp: bool) -> u16 {
    if checksum == 0 && !tcp {
        0xffff
    } else {
        checksum
    }
}

/// Length and identification of an IPv4 header with its options.
fn write_ipv4(header: &mut [u8], total_len: u16, n: usize) {
    if let Some(fixed) = header.first_chunk_mut::<{ ipv4::HEADER_LEN }>() {
        [fixed[2], fixed[3]] = total_len.to_be_bytes();
        #[expect(clippy::cast_possible_truncation, reason = "identifications wrap")]
        let ident = u16::from_be_bytes([fixed[4], fixed[5]]).wrapping_add(n as u16);
        [fixed[4], fixed[5]] = ident.to_be_bytes();
    }
    ipv4::rewrite_checksum(header);
}

/// Sequence number and flags of a segment whose payload begins `offset` bytes into that of all.
fn write_tcp(header: &mut [u8], offset: u32, first: bool, last: bool) -> Option<()> {
    let seq = header.get_mut(4..8)?.first_chunk_mut::<4>()?;
    *seq = u32::from_be_bytes(*seq).wrapping_add(offset).to_be_bytes();
    let flags = header.get_mut(13)?;
    if !last {
        *flags &= !(FIN | PSH);
    }
    if !first {
        *flags &= !CWR;
    }
    Some(())
}

/// Cuts a superframe: hands each of its segments to `each`, complete, first to last, and gives their number. All are made,
/// or none. The superframe stays as it is.
///
/// # Errors
/// See [`Error`].
pub fn segment(
    frame: &Frame,
    pool: &mut FramePool,
    mut each: impl FnMut(Frame),
) -> Result<usize, Error> {
    let cutter = Cutter::new(frame)?;
    let count = cutter.count();
    if pool.available() < count {
        return Err(Error::NoFrames);
    }
    if cutter.segment_len(0) > MAX_FRAME {
        return Err(Error::TooLong);
    }
    for n in 0..count {
        each(cutter.make(n, pool)?);
    }
    Ok(count)
}

impl Cutter<'_> {
    /// Segment `n` as a frame of its own.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn make(&self, n: usize, pool: &mut FramePool) -> Result<Frame, Error> {
        if self.segment_len(n) > MAX_FRAME {
            return Err(Error::TooLong);
        }
        let mut segment = pool.alloc().ok_or(Error::NoFrames)?;
        match self.write(n, segment.room_mut()) {
            Some(len) => {
                segment.set_len(len);
                segment.inherit(self.frame);
                Ok(segment)
            }
            None => {
                pool.free(segment);
                Err(Error::Malformed)
            }
        }
    }
}

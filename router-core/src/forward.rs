//! Forwarding checks and fragmentation (dataplane sections 1.6 and 1.7).
//!
//! The order is normative and visible in [`router`](crate::router): TTL, then length, then the decrement.

use core::net::Ipv4Addr;

use crate::frame::{Frame, FramePool};
use crate::icmp_error::{IcmpError, Refusal};
use crate::options;
use crate::segment;
use crate::stats::DropReason;
use crate::trace::Fit;
use crate::wire::ethernet;
use crate::wire::icmpv4;
use crate::wire::ipv4::{self, HEADER_LEN, Ipv4, PROTOCOL_ICMP};

/// A packet with TTL 0 or 1 is not forwarded (FWD-61).
pub(crate) const fn check_ttl(ip: &Ipv4<'_>) -> Result<(), Refusal> {
    if ip.ttl() <= 1 {
        return Err(Refusal::with(
            DropReason::TtlExpired,
            IcmpError::TimeExceeded,
        ));
    }
    Ok(())
}

/// The node's own packets leave with the TTL they were made with, which must not be 0 (RFC 1122 3.2.1.7).
pub(crate) fn check_sent_ttl(ip: &Ipv4<'_>) -> Result<(), Refusal> {
    if ip.ttl() == 0 {
        return Err(DropReason::TtlExpired.into());
    }
    Ok(())
}

/// How long a packet is, or the longest piece of a datagram, and whether it may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) total_len: u16,
    pub(crate) dont_fragment: bool,
}

impl Size {
    pub(crate) const fn of(ip: &Ipv4<'_>) -> Self {
        Self {
            total_len: ip.total_len(),
            dont_fragment: ip.dont_fragment(),
        }
    }

    /// Of the packet `ip` in `frame`: of a superframe, the size of its longest segment (Linux
    /// `skb_gso_validate_network_len`).
    #[inline]
    pub(crate) fn of_frame(frame: &Frame, ip: &Ipv4<'_>) -> Self {
        let mut size = Self::of(ip);
        if frame.is_superframe() {
            let longest = segment::longest(frame).saturating_sub(ethernet::HEADER_LEN);
            size.total_len =
                u16::try_from(longest).map_or(size.total_len, |l| l.min(size.total_len));
        }
        size
    }
}

/// A packet longer than the egress MTU must allow fragmentation (FWD-70, FWD-71).
pub(crate) const fn check_length(size: Size, mtu: u16) -> Result<(), Refusal> {
    match fit(size, mtu) {
        Fit::Fits | Fit::Fragment => Ok(()),
        Fit::TooBig => Err(Refusal::with(
            DropReason::FragmentationNeeded,
            IcmpError::FragmentationNeeded { mtu },
        )),
    }
}

/// A packet against the MTU of the port that it is to leave by.
pub(crate) const fn fit(size: Size, mtu: u16) -> Fit {
    if size.total_len <= mtu {
        Fit::Fits
    } else if size.dont_fragment {
        Fit::TooBig
    } else {
        Fit::Fragment
    }
}

/// Source and destination that tell flows apart: a packet's own, or for an ICMP error those of the packet it quotes.
pub(crate) fn flow(ip: &Ipv4<'_>) -> (Ipv4Addr, Ipv4Addr) {
    let quoted = match *ip.payload() {
        [kind, ..]
            if ip.protocol() == PROTOCOL_ICMP
                && ip.fragment_offset() == 0
                && icmpv4::may_be_error(kind) =>
        {
            ip.payload().get(icmpv4::HEADER_LEN..).and_then(Ipv4::peek)
        }
        _ => None,
    };
    let of = quoted.as_ref().unwrap_or(ip);
    (of.src(), of.dst())
}

/// Lowers the TTL of the packet in `frame` by one.
pub(crate) fn decrement_ttl(frame: &mut Frame) {
    if let Some(header) = ethernet::payload_mut(frame.bytes_mut()).first_chunk_mut::<HEADER_LEN>() {
        ipv4::decrement_ttl(header);
    }
}

/// How a packet is cut: payload bytes of every piece but the last, a multiple of 8, and the number of pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    step: usize,
    pub(crate) pieces: usize,
}

impl Cut {
    /// None when the packet fits `mtu` as it is. An MTU is at least 68, which leaves 8 bytes behind the longest header.
    pub(crate) fn new(ip: &Ipv4<'_>, mtu: u16) -> Option<Self> {
        if fit(Size::of(ip), mtu) == Fit::Fits {
            return None;
        }
        let step = (usize::from(mtu).saturating_sub(ip.header_len()) & !7).max(8);
        Some(Self {
            step,
            pieces: ip.payload().len().div_ceil(step),
        })
    }

    /// Piece `n` of the packet that `whole` begins with (its IPv4 header, then the payload), as a frame of its own with
    /// room for an Ethernet header: offset and MF go on from those of the packet (FWD-72, FWD-73). None when the pool
    /// is empty or there is no such piece.
    pub(crate) fn piece(
        self,
        ip: &Ipv4<'_>,
        whole: &[u8],
        n: usize,
        pool: &mut FramePool,
    ) -> Option<Frame> {
        let header = whole.get(..ip.header_len())?;
        let start = n * self.step;
        let rest = ip.payload().get(start..)?;
        let (payload, last) = match rest.get(..self.step) {
            Some(payload) if rest.len() > self.step => (payload, false),
            _ => (rest, true),
        };
        let total_len = u16::try_from(header.len() + payload.len()).ok()?;
        // A fragment near the end of the largest datagram cannot pass it: the packet's own end is at most 65535 + 8191.
        let offset = ip.fragment_offset() + u16::try_from(start / 8).ok()?;
        let mut frame = pool.alloc()?;
        if !frame.assemble(&[&[0; ethernet::HEADER_LEN], header, payload]) {
            pool.free(frame);
            return None;
        }
        if let Some(header) = ethernet::payload_mut(frame.bytes_mut()).get_mut(..header.len()) {
            if offset != 0
                && let Some((_, options)) = header.split_first_chunk_mut::<HEADER_LEN>()
                && n != 0
            {
                options::blank_uncopied(options);
            }
            ipv4::write_fragment_fields(header, total_len, offset, !last || ip.more_fragments());
        }
        Some(frame)
    }
}

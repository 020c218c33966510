//! What a device left undone on a frame, done: a superframe cut into the frames that a wire would have carried, a partial
//! checksum completed, and the way back ([`Train`]).
//!
//! ```text
//!   superframe   Ethernet | [IPv4] | IPv4/IPv6 | TCP/UDP | payload ..............   checksum partial
//!                └──────────── headers of all ─────────┘└ size ┘└ size ┘└ rest ┘
//!   segment n    the same headers, but for: lengths; IPv4 identification + n; TCP sequence number + n x size,
//!                FIN and PSH on the last alone, CWR on the first alone; all checksums, complete
//! ```
//!
//! Decides how segments look, and which frames say something believable about themselves ([`admit`]). Doesn't decide when
//! to cut: a superframe stays one frame through a router and on the link to the next one; whoever hands it to something
//! that can't take it (a device without offload, a bridge that needs copies, a header that has no room for the length)
//! calls [`segment`], and [`complete()`] for a frame that is no superframe.
//!
//! A tail's memory may belong to somebody hostile and change while it is read. Lengths and headers are taken from the head
//! alone, and a checksum is made of the copy that is sent.
//!
//! Source: virtio 1.3, 5.1.6.2; Linux `net/ipv4/tcp_offload.c`, `udp_offload.c`, `af_inet.c` (`inet_gso_segment`),
//! `net/core/dev.c` (`skb_checksum_help`). As there, identifications rise from segment to segment also where DF is set.
//!
//! Cost: the payload is copied once and summed once.

mod coalesce;
mod complete;
mod cut;
mod layout;
#[cfg(test)]
mod tests;

pub use coalesce::{Cant, Train};
pub use complete::{become_first, complete, linearize};
pub use cut::{Cutter, segment};
pub use layout::Layout;

use crate::frame::{Frame, GsoKind};
use crate::stats::DropReason;

/// Why a frame can't be cut or completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// What is said about it contradicts what it carries.
    Malformed,
    /// A segment is longer than any frame.
    TooLong,
    /// The pool has fewer frames than there are segments.
    NoFrames,
}

impl Error {
    /// As which a frame is counted that is dropped for it.
    #[must_use]
    pub const fn reason(self) -> DropReason {
        match self {
            Self::Malformed => DropReason::BadOffload,
            Self::TooLong => DropReason::FrameTooLong,
            Self::NoFrames => DropReason::PoolEmpty,
        }
    }
}

/// Looks at what a received frame says is left to do. Afterwards a partial checksum, if there is one, is that of the TCP or
/// UDP packet that [`Layout::of`] finds, and a superframe is one of that packet.
///
/// Others are known as well: a tunnel that a pod has of its own leaves the checksum of its inner packet open, and other
/// protocols have sums at other places. They are completed here, once; nothing has to know of them then.
///
/// # Errors
/// When it can't be so.
#[inline]
pub fn admit(frame: &mut Frame) -> Result<(), DropReason> {
    if !frame.is_offloaded() {
        return Ok(());
    }
    admit_offloaded(frame)
}

fn admit_offloaded(frame: &mut Frame) -> Result<(), DropReason> {
    if is_sound(frame).is_some() {
        return Ok(());
    }
    let offload = frame.offload();
    match (offload.partial, offload.gso) {
        (Some(_), None) if frame.tail().is_none() => complete(frame).map_err(Error::reason),
        (None, None) if frame.tail().is_none() => {
            frame.forget_offload();
            Ok(())
        }
        // Longer than a slot, but no superframe.
        (_, None) => Err(DropReason::FrameTooLong),
        (_, Some(_)) => Err(DropReason::BadOffload),
    }
}

/// Where the headers of a frame stand that has something left to do, if that is what [`admit`] lets pass unchanged.
#[inline]
pub(crate) fn is_sound(frame: &Frame) -> Option<Layout> {
    let offload = frame.offload();
    let layout = Layout::of(frame.bytes())?;
    let sound = match offload.gso {
        None => frame.tail().is_none(),
        Some(gso) => {
            let kind = match gso.kind {
                GsoKind::TcpV4 => layout.is_tcp() && !layout.is_v6(),
                GsoKind::TcpV6 => layout.is_tcp() && layout.is_v6(),
                GsoKind::Udp => !layout.is_tcp(),
            };
            kind && gso.size > 0 && layout.payload_len(frame) > 0
        }
    };
    (sound && offload.partial == Some(layout.partial())).then_some(layout)
}

/// Frames that a wire would carry in place of this one: 1, unless it is a superframe.
#[inline]
#[must_use]
pub fn count(frame: &Frame) -> usize {
    if frame.is_superframe() {
        Cutter::new(frame).map_or(1, |cutter| cutter.count())
    } else {
        1
    }
}

/// Bytes that a wire would carry for it: of a superframe, its headers count once for each segment.
#[inline]
#[must_use]
pub fn wire_len(frame: &Frame) -> usize {
    if frame.is_superframe() {
        Cutter::new(frame).map_or(frame.len(), |cutter| cutter.wire_len())
    } else {
        frame.len()
    }
}

/// Length of the longest frame that a wire would carry for it, Ethernet header included.
#[inline]
#[must_use]
pub fn longest(frame: &Frame) -> usize {
    if frame.is_superframe() {
        Cutter::new(frame).map_or(frame.len(), |cutter| cutter.segment_len(0))
    } else {
        frame.len()
    }
}

//! What a device has left undone on a frame: a checksum to complete, a superframe to cut.
//!
//! Decides the words; who writes them into a virtio-net header or into a ring's slot has a codec of its own. Doesn't
//! decide when the work is done: a frame is completed and cut by whoever hands it to something that can't
//! (`segment`).
//!
//! ```text
//!   superframe = Ethernet | IPv4 | TCP | payload of up to 64 kB        one frame in every table, counter of frames and trace
//!                                        └ size ┘└ size ┘..            the frames that a wire would have carried
//! ```
//!
//! Source: virtio 1.3, 5.1.6 (device operation); Linux `include/uapi/linux/virtio_net.h`,
//! `Documentation/networking/checksum-offloads.rst`, `segmentation-offloads.rst`.

/// A transport checksum that covers only the pseudo header so far: the sum of addresses, protocol and length, folded and
/// **not** complemented. Whoever completes it sums from `start` to the end of the packet and writes the complement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partial {
    /// First byte that the checksum covers, counted from the frame's first byte: the transport header.
    pub start: u16,
    /// The checksum's field, counted from `start`: 16 for TCP, 6 for UDP.
    pub offset: u16,
}

/// What kind of segments a superframe is cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GsoKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP datagrams of equal length, the last may be shorter (Linux `GSO_UDP_L4`). Over IPv4 or IPv6.
    Udp,
}

/// How a superframe is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gso {
    /// Kind of segments.
    pub kind: GsoKind,
    /// Payload bytes per segment, transport header not counted; the last segment may have fewer. Never 0.
    pub size: u16,
    /// TCP with CWR set: only the first segment keeps it.
    pub ecn: bool,
}

/// What is left to do to a frame. The default: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// The checksum to complete.
    pub partial: Option<Partial>,
    /// How to cut it. A frame that is cut has a partial checksum as well.
    pub gso: Option<Gso>,
}

impl Offload {
    /// Nothing is left to do.
    pub const NONE: Self = Self {
        partial: None,
        gso: None,
    };

    /// The same, counted from another byte.
    pub(crate) fn moved(mut self, from: impl Fn(u16) -> u16) -> Self {
        if let Some(partial) = &mut self.partial {
            partial.start = from(partial.start);
        }
        self
    }
}

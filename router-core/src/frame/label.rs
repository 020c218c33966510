//! What a handle says about its frame, in one word.
//!
//! Frames that came by one port have all of it in common but their length, as a rule: whoever looks at many of them compares
//! one word in place of five fields.

use super::{HEADROOM_U8, OFFLOADED, SLOT, SUPERFRAME};
use crate::config::PortId;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label(u64);

/// The most significant byte.
const FLAGS: u32 = 56;

impl Label {
    /// In the order in which a handle has them, so that one load reads them all.
    #[inline(always)]
    pub(super) const fn new(len: u16, port: PortId, mark: u16, start: u8, flags: u8) -> Self {
        Self(
            len as u64
                | (port.0 as u64) << 16
                | (mark as u64) << 32
                | (start as u64) << 48
                | (flags as u64) << FLAGS,
        )
    }

    /// Of a frame with `len` bytes in its head that came by `port`, begins where frames are received and is not traced, to
    /// which nothing was done and nothing is left to do.
    pub(crate) const fn received(len: u16, port: PortId) -> Self {
        Self::new(len, port, 0, HEADROOM_U8, 0)
    }

    /// True when something is left to do, or when there is a tail.
    pub(crate) const fn is_offloaded(self) -> bool {
        self.0 & (OFFLOADED as u64) << FLAGS != 0
    }

    /// The same, of a head of `len` bytes, if the frame is as it came by `port`: begins where frames are received, is not
    /// traced, and nothing was done to it. There may be something left to do.
    pub(crate) fn as_it_came(self, port: PortId, len: u16) -> Option<Self> {
        let left = self.0 & u64::from(OFFLOADED | SUPERFRAME) << FLAGS;
        let of_len = Self(Self::received(len, port).0 | left);
        (self.0 >> 16 == of_len.0 >> 16).then_some(of_len)
    }

    /// How much longer the head of this frame is than that of another; none if it is shorter, or if they differ in anything else.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "no longer than a slot")]
    pub(crate) const fn longer_than(self, other: Self) -> Option<u16> {
        // The length is what is least significant, and far below 2^16: any other difference is a greater one.
        let more = self.0.wrapping_sub(other.0);
        if more > SLOT as u64 {
            return None;
        }
        Some(more as u16)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn a_number() -> impl Strategy<Value = u16> {
        prop_oneof![0_u16..4, Just(u16::MAX), Just(u16::MAX - 1), any::<u16>()]
    }

    fn a_frame() -> impl Strategy<Value = (u16, u16, u16, u8, u8)> {
        let byte = || prop_oneof![Just(HEADROOM_U8), Just(0_u8), any::<u8>()];
        (
            prop_oneof![0..=2048_u16, Just(0), Just(2048)],
            a_number(),
            a_number(),
            byte(),
            byte(),
        )
    }

    proptest! {
        /// As a comparison of one field after the other says.
        #[test]
        fn labels_differ_by_length_alone_or_they_differ(a in a_frame(), mut b in a_frame(), like: [bool; 5]) {
            // Most have most in common.
            let [same_port, next_port, same_mark, begins, same_flags] = like;
            if same_port { b.1 = a.1.wrapping_add(u16::from(next_port)); }
            if same_mark { b.2 = a.2; }
            if begins { b.3 = a.3; }
            if same_flags { b.4 = a.4; }
            let label = |(len, port, mark, start, flags)| Label::new(len, PortId(port), mark, start, flags);
            let same = (a.1, a.2, a.3, a.4) == (b.1, b.2, b.3, b.4);
            let expected = a.0.checked_sub(b.0).filter(|_| same);
            prop_assert_eq!(label(a).longer_than(label(b)), expected);
            prop_assert_eq!(label(a).is_offloaded(), a.4 & OFFLOADED != 0);
        }

        #[test]
        fn a_frame_is_as_it_came_or_not(mut frame in a_frame(), port in a_number(), len: u16, like: [bool; 4]) {
            let [same_port, unmarked, begins, as_it_came] = like;
            if same_port { frame.1 = port; }
            if unmarked { frame.2 = 0; }
            if begins { frame.3 = HEADROOM_U8; }
            if as_it_came { frame.4 &= OFFLOADED | SUPERFRAME; }
            let label = Label::new(frame.0, PortId(frame.1), frame.2, frame.3, frame.4);
            let same = (frame.1, frame.2, frame.3, frame.4 & !(OFFLOADED | SUPERFRAME)) == (port, 0, HEADROOM_U8, 0);
            let expected = same.then(|| Label::new(len, PortId(port), 0, HEADROOM_U8, frame.4));
            prop_assert_eq!(label.as_it_came(PortId(port), len), expected);
        }
    }
}

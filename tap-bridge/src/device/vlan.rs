//! Tags that the kernel took out of a frame, put back.
//!
//! Linux takes an 802.1Q or 802.1ad tag out before it shows a frame to packet sockets, and tells of it beside. What becomes of
//! a tagged frame is for the router to say, so it has to see it: without its tag it would pass for an ordinary one.
//! Cost: a frame's head is moved by four bytes.

use router_core::Frame;
use router_core::frame::MAX_FRAME;

use super::port::Read;

/// Where the tag stands: behind both addresses.
const AT: usize = 12;

/// The frame with its tag, if it had one. A superframe can't have one: its header has no word for it.
#[inline]
pub(super) fn put_back(frame: &mut Frame, tag: Option<[u8; 4]>) -> Read {
    match tag {
        None => Read::Frame,
        Some(_) if frame.is_superframe() || frame.head_len() < AT => Read::Malformed,
        Some(tag) => {
            insert(frame, tag);
            Read::Frame
        }
    }
}

fn insert(frame: &mut Frame, tag: [u8; 4]) {
    let len = frame.head_len();
    let longer = len + tag.len();
    let kept = longer.min(MAX_FRAME);
    let room = frame.room_mut();
    room.copy_within(AT..kept - tag.len(), AT + tag.len());
    room[AT..AT + tag.len()].copy_from_slice(&tag);
    if longer > kept {
        frame.set_cut();
    }
    let mut offload = frame.offload();
    frame.set_len(kept);
    if let Some(partial) = &mut offload.partial {
        partial.start += 4;
        frame.set_offload(offload);
    }
}

#[cfg(test)]
mod tests {
    use router_core::FramePool;
    use router_core::frame::{Gso, GsoKind, Offload, Partial};

    use super::*;

    const TAG: [u8; 4] = [0x81, 0, 0x20, 7];

    /// What becomes of a frame of so many bytes, and the verdict.
    fn tagged(len: usize, offload: Option<Offload>) -> (Frame, Read, Vec<u8>) {
        let mut frame = FramePool::new(1).alloc().unwrap();
        let bytes: Vec<u8> = (0..=250).cycle().take(len).collect();
        assert!(frame.fill(&bytes));
        if let Some(offload) = offload {
            frame.set_offload(offload);
        }
        let read = put_back(&mut frame, Some(TAG));
        (frame, read, bytes)
    }

    const OPEN: Offload = Offload {
        partial: Some(Partial {
            start: 34,
            offset: 6,
        }),
        gso: None,
    };

    #[test]
    fn a_tag_moves_what_is_behind_it_and_the_place_of_an_open_checksum() {
        let (frame, read, bytes) = tagged(60, Some(OPEN));
        assert_eq!(read, Read::Frame);
        assert_eq!(frame.bytes(), [&bytes[..AT], &TAG, &bytes[AT..]].concat());
        let partial = frame.offload().partial.unwrap();
        assert_eq!((partial.start, partial.offset), (38, 6));
    }

    #[test]
    fn what_a_tag_pushes_out_of_a_slot_is_missing_and_that_is_said() {
        for (len, is_cut) in [(MAX_FRAME - 4, false), (MAX_FRAME - 3, true)] {
            let (frame, read, bytes) = tagged(len, None);
            assert_eq!((read, frame.len()), (Read::Frame, MAX_FRAME));
            assert_eq!(frame.is_cut(), is_cut, "{len}");
            assert_eq!(frame.bytes()[AT + 4..], bytes[AT..MAX_FRAME - 4]);
        }
    }

    #[test]
    fn a_superframe_and_what_has_no_addresses_can_have_no_tag() {
        let gso = Gso {
            kind: GsoKind::TcpV4,
            size: 20,
            ecn: false,
        };
        let superframe = Offload {
            gso: Some(gso),
            ..OPEN
        };
        assert_eq!(tagged(60, Some(superframe)).1, Read::Malformed);
        assert_eq!(tagged(AT - 1, None).1, Read::Malformed);
        assert_eq!(tagged(AT, None).1, Read::Frame);
    }
}

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

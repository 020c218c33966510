//! Superframes where a router can't go on with them as one.

use super::{Io, Router, tell};
use crate::frame::Frame;
use crate::segment::{self, Cutter};
use crate::stats::{DropReason, Event};
use crate::trace::Step;

impl Router {
    /// Cuts a superframe; its segments go on by `each`, in order.
    ///
    /// None goes when the pool has not enough frames for all. When what they meet on their way takes the last ones, those
    /// at the end are lost, which TCP mends, and counted as frames that were not made.
    pub(super) fn cut(
        &mut self,
        frame: Frame,
        io: &mut Io<'_>,
        mut each: impl FnMut(&mut Self, Frame, &mut Io<'_>),
    ) {
        let cutter = match Cutter::new(&frame) {
            Ok(cutter) => cutter,
            Err(error) => return self.discard(frame, error.reason(), io),
        };
        let segments = cutter.count();
        // One more for the question that the first may have to ask.
        if io.pool.available() <= segments {
            return self.discard(frame, DropReason::PoolEmpty, io);
        }
        io.trace.step(frame.mark(), || Step::Segmented { segments });
        let mut made: u64 = 0;
        let mut fault = segment::Error::NoFrames;
        for n in 0..segments {
            match cutter.make(n, io.pool) {
                Ok(segment) => {
                    io.trace.step(segment.mark(), || tell::segment(&segment));
                    made += 1;
                    each(self, segment, io);
                }
                Err(error) => {
                    fault = error;
                    break;
                }
            }
        }
        match made.checked_sub(1) {
            // The segments go on in the superframe's place.
            Some(gained) => {
                self.stats.count(Event::Segmented);
                self.stats.split += gained;
                if made < segments as u64 {
                    self.stats.count(Event::NoFrame);
                }
                io.pool.free(frame);
            }
            None => self.discard(frame, fault.reason(), io),
        }
    }
}

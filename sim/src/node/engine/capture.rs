//! Captures of a node: probes at the ports with stacks, and the router's dropped frames.
//!
//! Decides nothing about what is captured; see [`tap_bridge::layer::capture`]. Ports with a device get their probes from
//! the event loop. Cost: one comparison per breath while there is no capture.

use router_core::{FramePool, Instant};
use tap_bridge::layer::capture::{Begin, BeginError, Captures, Counts, Place};

use super::NodeEngine;

impl NodeEngine {
    /// Begins a capture of this node. Ports with a device are the caller's to look after.
    ///
    /// # Errors
    /// [`BeginError`]; nothing has changed then.
    pub fn begin_capture(
        &mut self,
        number: u32,
        begin: Begin,
        pool: &mut FramePool,
    ) -> Result<(), BeginError> {
        self.captures.begin(number, begin)?;
        self.name_captures();
        self.look_where_wanted(pool);
        Ok(())
    }

    /// Ends a capture, and says what it has seen; nothing for one that was not begun.
    pub fn end_capture(&mut self, number: u32, pool: &mut FramePool) -> Vec<(Place, Counts)> {
        let counts = self.captures.end(number).unwrap_or_default();
        self.look_where_wanted(pool);
        counts
    }

    /// The captures, for the probes of other ports.
    #[must_use]
    pub fn captures(&self) -> &Captures {
        &self.captures
    }

    /// True while there is any.
    #[must_use]
    pub fn is_capturing(&self) -> bool {
        self.capturing
    }

    /// Makes visible what was captured in this breath.
    pub fn flush_captures(&mut self, now: Instant, pool: &mut FramePool) {
        self.capture_drops(now, pool);
        self.captures.flush();
    }

    fn look_where_wanted(&mut self, pool: &mut FramePool) {
        self.capturing = self.captures.is_active();
        for (&port, attached) in &mut self.stacks {
            attached.probe = self.captures.probe(port);
        }
        let drops = self.captures.wants_drops();
        self.router.trace_mut().want_drops(drops, pool);
    }

    /// Says how the ports are called now.
    pub(super) fn name_captures(&self) {
        if self.captures.is_active() {
            let ports = self.router.snapshot().ports.iter();
            self.captures
                .set_names(ports.map(|port| (port.id, port.name.as_str())));
        }
    }

    /// Shows what the router has dropped.
    pub(super) fn capture_drops(&mut self, now: Instant, pool: &mut FramePool) {
        if self.capturing {
            let Self {
                router, captures, ..
            } = self;
            let lost = router
                .trace_mut()
                .look_at_drops(pool, |frame, reason| captures.dropped(now, frame, reason));
            captures.lose_dropped(lost);
        }
    }
}

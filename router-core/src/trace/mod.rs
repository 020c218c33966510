//! What became of one packet and why, told by the stages that decided it.
//!
//! A frame can carry a [`Mark`]. It stays with the frame through hold queues, fragments, tunnels and copies, crosses the
//! fabric with it, and passes on to what the router says about it; a stage that meets a marked frame reports its
//! decision as a [`Step`] to the router's [`Recorder`]:
//!
//! ```text
//!   io.trace.step(frame.mark(), || Step::Ttl { before, after: before - 1 });
//! ```
//!
//! Decides nothing, and tracing changes no byte, no counter and no order. A new kind of decision is a new variant of
//! [`Step`] with its sentence in `text.rs`; it carries numbers and addresses, no text (names of ports and rules are looked
//! up when the steps are collected).
//!
//! Cost: for a frame without a mark one branch per step, on a byte beside the frame's length; the closure is not run.
//! A mark that was not [armed](Recorder::arm) is not recorded, so a peer that marks frames gains nothing; an armed trace
//! keeps its first [`STEPS_MAX`] steps and counts the rest.

mod answers;
mod judged;
mod kept;
mod mark;
mod packet;
mod recorder;
mod step;
mod text;
mod translated;

pub use answers::{Answers, WAITING_MAX};
pub use kept::KEPT_MAX;
pub use mark::{Mark, Role};
pub use packet::{Summary, Transport};
pub use recorder::{ARMED_MAX, Record, Recorder, STEPS_MAX, TooManyTraces, Trace};
pub use step::{Answered, Fit, Step, Tracked, Withheld};
pub use text::{PortNames, Sentence, icmp};

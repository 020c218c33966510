//! Node processes: the daemon's handle on one, and the body of one.

pub mod handle;

pub use handle::{NodeError, NodeHandle, NodeSpawn, Role, Ticket};

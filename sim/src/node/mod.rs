//! Node processes: the daemon's handle on one, and the body of one.

pub mod engine;
pub mod handle;
pub mod journal;
pub mod process;

pub use handle::{NodeError, NodeHandle, NodeSpawn, Role, Ticket};
pub use process::{NodeArgs, NodeProcess};

//! How a command talks to the daemon of a lab, and the daemon to its node processes.

pub mod capture;
pub mod codec;
pub mod launch;
pub mod node;
pub mod proto;

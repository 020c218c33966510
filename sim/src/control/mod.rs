//! How a command talks to the daemon of a lab.

pub mod proto;

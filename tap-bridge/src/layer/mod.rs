//! What can be laid around any port without the port or the router knowing.

pub mod capture;
mod port;

pub use port::{Layered, Layers};

//! What can be laid around any port without the port or the router knowing.

pub mod capture;
pub mod impair;
mod port;

pub use port::{Impaired, Layered, Layers};

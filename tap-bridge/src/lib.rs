//! Ports of podwire.
#![deny(unsafe_code)]

pub mod port;

//! Ports of podwire.
#![deny(unsafe_code)]

pub mod port;
pub mod sys;

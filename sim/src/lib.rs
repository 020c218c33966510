//! podwire: a whole Kubernetes cluster's network on one machine.
#![forbid(unsafe_code)]

pub mod cli;
pub mod client;
pub mod control;
pub mod internet;
pub mod model;
pub mod node;
pub mod ping;
pub mod pod;
pub mod spec;
pub mod view;

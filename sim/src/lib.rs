//! podwire: a whole Kubernetes cluster's network on one machine.
#![forbid(unsafe_code)]

pub mod bandwidth;
pub mod bench;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod conflist;
pub mod control;
pub mod daemon;
pub mod dns;
pub mod host;
pub mod impair;
pub mod internet;
pub mod ipam;
pub mod kube;
pub mod lab;
pub mod manifest;
pub mod model;
pub mod node;
pub mod ping;
pub mod pod;
pub mod policy;
pub mod portmap;
pub mod service;
pub mod spec;
#[cfg(test)]
mod testing;
pub mod trace;
pub mod view;

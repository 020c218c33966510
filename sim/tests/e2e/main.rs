//! podwire as its users run it: the real binary, real namespaces and real tools, from outside.
//!
//! Each test has labs and a runtime directory of its own and leaves the host as it was ([`harness::World`]). A test that
//! cannot run here (no root, no tun device, a tool that is not installed) prints SKIPPED with the reason; with
//! `PODWIRE_REQUIRE_ALL=1` it fails.

#![expect(clippy::unwrap_used, reason = "the whole crate is a test")]

mod backends;
mod bandwidth;
mod bench;
mod calico;
mod capture;
mod descriptors;
mod divided;
mod errors;
mod harness;
mod hostport;
mod killed_node;
mod large;
mod lifecycle;
mod link;
mod natdiscovery;
mod offload;
mod outside;
mod packet;
mod pattern;
mod policy;
mod readme;
mod seed000;
mod seed001;
mod seed002;
mod seed003;
mod seed004;
mod services;
mod talk;
mod trace;
mod trace_rules;
mod tracking;
mod traffic;
mod uplink;
mod wire;
mod workers;

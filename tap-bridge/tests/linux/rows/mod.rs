//! The tables. A row is a sentence, a node and frames; more is rarely needed.

pub(crate) mod arp;
pub(crate) mod bridge;
pub(crate) mod header;
pub(crate) mod icmp_error;
pub(crate) mod local;
pub(crate) mod martian;
pub(crate) mod nat;
pub(crate) mod neigh;
pub(crate) mod options;
pub(crate) mod route;
pub(crate) mod ttl_mtu;

use router_core::testing::topology::*;
use router_core::testing::{Packet, eth};

use crate::side::Frames;

/// From a1 to its gateway.
fn from_a1() -> Packet {
    eth(POD1_MAC, A1_MAC)
}

/// What is left without ICMP redirects, which are off here (D3).
fn without_redirects(frames: &mut Frames) {
    frames.retain(|(_, frame)| frame.len() < 35 || frame[23] != 1 || frame[34] != 5);
}

/// From a2 to its gateway.
fn from_a2() -> Packet {
    eth(POD2_MAC, A2_MAC)
}

/// From node B.
fn from_b() -> Packet {
    eth(UPLINK_MAC, B_MAC)
}

//! Packets on both sides of K3 and its tunnel.

use router_core::config::{Ipip, PortKind, Snapshot};
use router_core::testing::calico::*;
use router_core::testing::topology::with_port;
use router_core::testing::*;

pub(crate) fn node() -> Harness {
    Harness::new(node_k3())
}

/// From n3 to its gateway's MAC.
pub(crate) fn from_n3() -> Packet {
    eth(CALI_MAC, N3_MAC)
}

pub(crate) fn to_n3() -> Packet {
    eth(N3_MAC, CALI_MAC)
}

pub(crate) fn from_k2() -> Packet {
    eth(K3_MAC, K2_MAC)
}

pub(crate) fn to_k2() -> Packet {
    eth(K2_MAC, K3_MAC)
}

/// The outer header of what K3 sends to K2.
pub(crate) fn outer() -> Packet {
    ipv4(K3, K2).any_id()
}

/// The outer header of what K2 sends to K3.
pub(crate) fn outer_in() -> Packet {
    ipv4(K2, K3).id(500)
}

pub(crate) fn data(len: usize) -> Vec<u8> {
    (0..len)
        .map(|n| u8::try_from(n * 7 % 251).unwrap_or(0))
        .collect()
}

pub(crate) fn tunnel_with(change: impl Fn(&mut Ipip)) -> Snapshot {
    with_port(node_k3(), TUNL0, |port| {
        if let PortKind::Ipip(device) = &mut port.kind {
            change(device);
        }
    })
}

//! Superframes and partial checksums through the router: what comes out, made wire frames, is what would have come out of it
//! had wire frames gone in.

mod bridged;
mod differential;
mod forward;
mod nat;
mod own;
mod shaped;
mod tunnel;

use router_core::frame::{MAX_FRAME, Offload};
use router_core::testing::offload::{on_wire, partial, superframe};
use router_core::testing::topology::*;
use router_core::testing::*;
use router_core::{PortId, Snapshot};

pub(crate) const ACK: u8 = 0x10;
pub(crate) const PSH_ACK: u8 = 0x18;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const SYN_ACK: u8 = 0x12;

pub(crate) fn data(len: usize) -> Vec<u8> {
    (0..len)
        .map(|n| u8::try_from(n * 7 % 251).unwrap_or(0))
        .collect()
}

/// A frame from a1's end of its link.
pub(crate) fn a1() -> Packet {
    eth(POD1_MAC, A1_MAC)
}

/// A frame from node B to the node.
pub(crate) fn b() -> Packet {
    eth(UPLINK_MAC, B_MAC)
}

/// `packet` with its checksum left open.
pub(crate) fn open(port: PortId, packet: &Packet) -> Uncut {
    let (bytes, offload) = partial(&packet.bytes());
    (port, bytes, offload)
}

/// `packet` as a superframe of segments with `size` bytes of payload.
pub(crate) fn large(port: PortId, packet: &Packet, size: u16) -> Uncut {
    let (bytes, offload) = superframe(&packet.bytes(), size);
    (port, bytes, offload)
}

/// The frames that a wire carries for these.
pub(crate) fn wire(frames: &[Uncut]) -> Vec<(PortId, Vec<u8>)> {
    let all = frames.iter().flat_map(|(port, bytes, offload)| {
        let cut = on_wire(bytes, *offload);
        cut.into_iter().map(|frame| (*port, frame))
    });
    all.collect()
}

/// Hands the same traffic to two routers, once as a device with offload does and once as a wire does, and expects the same
/// wire frames in the same order. Gives both routers.
pub(crate) fn both(snapshot: &Snapshot, steps: &[Vec<Uncut>]) -> (Harness, Harness) {
    let mut devices = Harness::new(snapshot.clone());
    let mut wires = Harness::new(snapshot.clone());
    for (n, frames) in steps.iter().enumerate() {
        devices.rx_offload(frames, MAX_FRAME);
        wires.rx_bytes(&wire(frames));
        let (got, expected) = (devices.take_all(), wires.take_all());
        assert_eq!(got.len(), expected.len(), "step {n}");
        for ((port, got), (at, expected)) in got.iter().zip(&expected) {
            assert_eq!(port, at, "step {n}");
            assert!(
                got == expected,
                "step {n}:\n{}",
                decode::diff(expected, got)
            );
        }
    }
    (devices, wires)
}

//! Bridges: superframes go through in one piece, and as copies of their segments.

use router_core::testing::bridged::*;
use router_core::{DropReason, Event, Mac};

use super::*;

fn introduce(h: &mut Harness) {
    for (port, mac) in PORTS.into_iter().zip(PODS) {
        let bytes = [&Mac::BROADCAST.0[..], &mac.0, &[0x88, 0xb5], b"hello"].concat();
        h.rx_bytes(&[(port, bytes)]);
    }
    h.take_all();
}

fn packet(dst: Mac, len: usize) -> Packet {
    eth(dst, PODS[0]) / ipv4(POD_IPS[0], POD_IPS[1]) / tcp(1, 2, PSH_ACK) / data(len)
}

/// BR-8 goes by what a wire would carry.
#[test]
fn between_ports_the_mtu_goes_by_segments() {
    let mut h = Harness::new(bridged_node());
    introduce(&mut h);
    let frame = large(PORTS[0], &packet(PODS[1], 30_000), 1460);
    h.rx_offload(std::slice::from_ref(&frame), MAX_FRAME);
    assert_eq!(
        h.take_uncut(),
        [(PORTS[1], frame.1, frame.2)],
        "TTL and all"
    );
    assert_eq!(h.router().stats().drops.get(DropReason::BridgeMtu), 0);
    h.take_all();
    h.rx_offload(
        &[large(PORTS[0], &packet(PODS[1], 30_000), 1461)],
        MAX_FRAME,
    );
    h.expect_silence();
    assert_eq!(h.router().stats().drops.get(DropReason::BridgeMtu), 1);
}

/// BR-4: a flood is of copies, and a copy is a whole frame.
#[test]
fn a_flooded_superframe_is_cut_and_completed_first() {
    let mut h = Harness::new(bridged_node());
    let frames = [
        large(PORTS[0], &packet(PODS[1], 3_500), 1000),
        open(PORTS[0], &packet(PODS[1], 100)),
    ];
    h.rx_offload(&frames, MAX_FRAME);
    let expected: Vec<_> = wire(&frames)
        .into_iter()
        .flat_map(|(_, bytes)| [(PORTS[1], bytes.clone()), (PORTS[2], bytes)])
        .collect();
    assert_eq!(h.take_all(), expected);
    assert_eq!(h.take_uncut(), []);
    let stats = h.router().stats();
    assert_eq!((stats.split, stats.cloned), (3, 5));
    assert_eq!(stats.events.get(Event::Segmented), 1);
}

/// What the bridge hands to its own interface is routed as it is.
#[test]
fn what_a_bridge_hands_up_stays_in_one_piece() {
    let mut h = Harness::new(with_known_pods(bridged_node()));
    introduce(&mut h);
    let out = eth(BRIDGE_MAC, PODS[0]) / ipv4(POD_IPS[0], X) / tcp(1, 2, PSH_ACK) / data(30_000);
    let back = eth(UPLINK_MAC, R_MAC) / ipv4(X, POD_IPS[0]) / tcp(2, 1, PSH_ACK) / data(30_000);
    h.rx_offload(
        &[large(PORTS[0], &out, 1448), large(UPLINK, &back, 1448)],
        MAX_FRAME,
    );
    let left: Vec<_> = h.take_uncut().into_iter().map(|(port, ..)| port).collect();
    assert_eq!(left, [UPLINK, PORTS[0]]);
    let bridge = h.router().stats().port(BRIDGE).unwrap().clone();
    assert_eq!((bridge.tx_frames, bridge.tx_segments), (1, 21));
}

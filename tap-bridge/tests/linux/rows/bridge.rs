//! Bridging, and the node behind its bridge.

use std::net::Ipv4Addr;

use router_core::testing::bridged::*;
use router_core::testing::topology::{R, R_MAC, UPLINK, UPLINK_MAC, X, with_port};
use router_core::testing::{Packet, arp_request, echo_request, eth, ipv4, payload, udp};
use router_core::{Mac, Snapshot};

use super::without_redirects;
use crate::nodes::bridged;
use crate::side::{Differs, Row, row};

const STRANGER: Mac = Mac([2, 0, 0, 0, 9, 9]);

/// A frame that means nothing to a router.
fn frame(dst: Mac, src: Mac) -> Packet {
    eth(dst, src).ethertype(0x88b5) / payload([7; 46])
}

/// The first pod has spoken, and so has the second.
fn introduced<const N: usize>(
    says: &'static str,
    node: Snapshot,
    frames: [(router_core::PortId, Packet); N],
) -> Row {
    crate::side::steps(says, node, move |bench| {
        for (port, mac) in PORTS.into_iter().zip(PODS).take(2) {
            bench.send(port, &frame(Mac::BROADCAST, mac));
        }
        for (port, frame) in &frames {
            bench.send(*port, frame);
        }
    })
}

pub(crate) fn rows() -> Vec<Row> {
    let [p0, p1, _] = PORTS;
    let [m0, m1, _] = PODS;
    let [a0, a1, _] = POD_IPS;
    let group = |last| Mac([1, 0x80, 0xc2, 0, 0, last]);
    let hairpin = || with_hairpin(bridged());
    let narrow = || with_port(bridged(), p1, |p| p.mtu = 1000);
    let long = |len: usize, dst| {
        eth(dst, m0) / ipv4(a0, a1).id(7).df() / udp(1, 2) / payload(vec![1; len - 28])
    };
    vec![
        row(
            "unknown unicast is flooded",
            bridged(),
            [(p0, frame(STRANGER, m0))],
        ),
        row(
            "broadcast is flooded",
            bridged(),
            [(p0, frame(Mac::BROADCAST, m0))],
        ),
        row(
            "multicast is flooded",
            bridged(),
            [(p0, frame(Mac([1, 0, 0x5e, 0, 0, 5]), m0))],
        ),
        introduced(
            "known unicast goes to its port",
            bridged(),
            [(p0, frame(m1, m0))],
        ),
        introduced(
            "nothing goes back by its port",
            bridged(),
            [(p0, frame(m0, STRANGER))],
        ),
        introduced(
            "hairpin sends back unicast",
            hairpin(),
            [(p0, frame(m0, m0))],
        ),
        row(
            "hairpin sends back broadcasts",
            hairpin(),
            [(p0, frame(Mac::BROADCAST, m0))],
        ),
        row(
            "hairpin sends back floods",
            hairpin(),
            [(p0, frame(STRANGER, m0))],
        ),
        introduced(
            "a station that moves is followed",
            bridged(),
            [(PORTS[2], frame(Mac::BROADCAST, m1)), (p0, frame(m1, m0))],
        ),
        row(
            "the group of spanning tree is flooded",
            bridged(),
            [(p0, frame(group(0), m0))],
        ),
        row(
            "the group of flow control stays on its link",
            bridged(),
            [(p0, frame(group(1), m0))],
        ),
        row(
            "the group of LLDP stays on its link",
            bridged(),
            [(p0, frame(group(14), m0))],
        ),
        row(
            "a multicast source is not bridged",
            bridged(),
            [(p0, frame(m1, Mac([1, 0, 0, 0, 0, 1])))],
        ),
        row(
            "a source of zeros is not bridged",
            bridged(),
            [(p0, frame(m1, Mac::ZERO))],
        ),
        introduced(
            "the bridge's own MAC as source is bridged",
            bridged(),
            [(p0, frame(m1, BRIDGE_MAC)), (p1, frame(BRIDGE_MAC, m1))],
        ),
        introduced(
            "a bridged packet keeps TTL 1",
            bridged(),
            [(p0, eth(m1, m0) / ipv4(a0, a1).id(7).ttl(1) / udp(1, 2))],
        ),
        introduced(
            "a bridged packet keeps a wrong checksum",
            bridged(),
            [(p0, eth(m1, m0) / ipv4(a0, a1).id(7).checksum(9) / udp(1, 2))],
        ),
        introduced(
            "a bridged frame as long as the egress MTU passes",
            narrow(),
            [(p0, long(1000, m1))],
        ),
        introduced(
            "a bridged frame much longer than the egress MTU vanishes",
            narrow(),
            [(p0, long(1005, m1))],
        ),
        introduced(
            "a bridged frame a byte longer than the egress MTU vanishes",
            narrow(),
            [(p0, long(1001, m1))],
        )
        .differs(Differs::But(
            |frames| frames.retain(|(_, frame)| frame.len() <= 14 + 1000),
            "Linux leaves four bytes of room for a VLAN tag, tagged or not",
        )),
        introduced(
            "a flood reaches the ports that it fits",
            narrow(),
            [(p0, long(1005, STRANGER))],
        ),
        row(
            "ARP for a pod is flooded",
            bridged(),
            [(p0, eth(Mac::BROADCAST, m0) / arp_request(m0, a0, a1))],
        ),
        row(
            "ARP for the gateway is flooded and answered",
            bridged(),
            [(p0, eth(Mac::BROADCAST, m0) / arp_request(m0, a0, GATEWAY))],
        ),
        introduced(
            "the gateway answers ping on the bridge",
            bridged(),
            [(
                p0,
                eth(BRIDGE_MAC, m0) / ipv4(a0, GATEWAY).id(7) / echo_request(1, 1),
            )],
        ),
        introduced(
            "the node's address answers ping on the bridge",
            bridged(),
            [(
                p0,
                eth(BRIDGE_MAC, m0) / ipv4(a0, NODE).id(7) / echo_request(1, 1),
            )],
        ),
        introduced(
            "the MAC of the ingress port is the node",
            bridged(),
            [(
                p0,
                eth(PORT_MACS[0], m0) / ipv4(a0, GATEWAY).id(7) / echo_request(1, 1),
            )],
        ),
        introduced(
            "the MAC of another port is not the node",
            bridged(),
            [(
                p0,
                eth(PORT_MACS[1], m0) / ipv4(a0, GATEWAY).id(7) / echo_request(1, 1),
            )],
        ),
        introduced(
            "a pod reaches the world through the bridge",
            bridged(),
            [(p0, eth(BRIDGE_MAC, m0) / ipv4(a0, X).id(7) / udp(1, 2))],
        ),
        introduced(
            "the world reaches a pod through the bridge",
            bridged(),
            [(
                UPLINK,
                eth(UPLINK_MAC, R_MAC) / ipv4(X, a0).id(7) / udp(1, 2),
            )],
        ),
        row(
            "the world reaches a pod that has not spoken by a flood",
            bridged(),
            [(
                UPLINK,
                eth(UPLINK_MAC, R_MAC) / ipv4(R, a0).id(7) / udp(1, 2),
            )],
        ),
        introduced(
            "an expired packet on the bridge is answered by the gateway",
            bridged(),
            [(
                p0,
                eth(BRIDGE_MAC, m0) / ipv4(a0, X).id(7).ttl(1) / udp(1, 2),
            )],
        ),
        introduced(
            "what a pod sends to the bridge for another pod is routed back",
            bridged(),
            [(p0, eth(BRIDGE_MAC, m0) / ipv4(a0, a1).id(7) / udp(1, 2))],
        )
        .differs(Differs::But(
            without_redirects,
            "D3: Linux sends a redirect as well",
        )),
        introduced(
            "a directed broadcast on the bridge is not routed",
            bridged(),
            [(
                p0,
                eth(Mac::BROADCAST, m0)
                    / ipv4(a0, Ipv4Addr::new(10, 88, 255, 255)).id(7)
                    / udp(1, 2),
            )],
        ),
    ]
}

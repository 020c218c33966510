//! Link layer and IPv4 header.

use router_core::Mac;
use router_core::testing::topology::*;
use router_core::testing::{echo_request, eth, ipv4, payload, udp};

use super::from_a1;
use crate::nodes::kindnet;
use crate::side::{Row, row};

pub(crate) fn rows() -> Vec<Row> {
    let elsewhere = Mac([2, 0, 0, 0, 0, 9]);
    let to_b1 = || ipv4(A1, B1).id(7);
    vec![
        row(
            "a datagram is forwarded to another node",
            kindnet(),
            [(POD1, from_a1() / to_b1() / udp(1000, 53) / b"hello")],
        ),
        row(
            "a frame for another station is not routed",
            kindnet(),
            [(POD1, eth(elsewhere, A1_MAC) / to_b1() / udp(1, 2))],
        ),
        row(
            "a unicast packet in a broadcast frame is not routed",
            kindnet(),
            [
                (POD1, eth(Mac::BROADCAST, A1_MAC) / to_b1() / udp(1, 2)),
                (
                    POD1,
                    eth(Mac::BROADCAST, A1_MAC) / to_b1().ttl(1) / udp(1, 2),
                ),
            ],
        ),
        row(
            "a unicast packet in a multicast frame is not routed",
            kindnet(),
            [(
                POD1,
                eth(Mac([1, 0, 0x5e, 0, 0, 1]), A1_MAC) / to_b1() / udp(1, 2),
            )],
        ),
        row(
            "a multicast source MAC is not judged by a router",
            kindnet(),
            [(
                POD1,
                eth(POD1_MAC, Mac([1, 0, 0, 0, 0, 1])) / to_b1() / udp(1, 2),
            )],
        ),
        row(
            "an unknown EtherType is dropped",
            kindnet(),
            [(
                POD1,
                eth(POD1_MAC, A1_MAC).ethertype(0x1234) / payload([0; 46]),
            )],
        ),
        row(
            "padding is cut before forwarding",
            kindnet(),
            [(
                POD1,
                from_a1() / to_b1().total_len(33) / udp(1, 2) / b"hello, and padding",
            )],
        ),
        row(
            "version 6 under EtherType 0800 is dropped",
            kindnet(),
            [(POD1, from_a1() / to_b1().version_ihl(0x65) / udp(1, 2))],
        ),
        row(
            "a header length of four words is dropped",
            kindnet(),
            [(POD1, from_a1() / to_b1().version_ihl(0x44) / udp(1, 2))],
        ),
        row(
            "a header length beyond the bytes there are is dropped",
            kindnet(),
            [(POD1, from_a1() / to_b1().version_ihl(0x4f) / udp(1, 2))],
        ),
        row(
            "a wrong header checksum is dropped",
            kindnet(),
            [(POD1, from_a1() / to_b1().checksum(0x1111) / udp(1, 2))],
        ),
        row(
            "a total length beyond the bytes there are is dropped",
            kindnet(),
            [(POD1, from_a1() / to_b1().total_len(200) / udp(1, 2))],
        ),
        row(
            "a total length below the header's is dropped",
            kindnet(),
            [(POD1, from_a1() / to_b1().total_len(19) / udp(1, 2))],
        ),
        row(
            "the reserved flag is ignored",
            kindnet(),
            [(POD1, from_a1() / to_b1().evil() / udp(1, 2))],
        ),
        row(
            "DSCP, ECN and identification are forwarded as they are",
            kindnet(),
            [(
                POD1,
                from_a1() / ipv4(A1, B1).tos(0x2d).id(0x1234) / udp(1, 2),
            )],
        ),
        row(
            "a packet without payload is forwarded",
            kindnet(),
            [(POD1, from_a1() / to_b1().protocol(17))],
        ),
        row(
            "any protocol is forwarded",
            kindnet(),
            [(POD1, from_a1() / to_b1().protocol(99) / payload([9; 7]))],
        ),
        row(
            "a wrong transport checksum is forwarded as it is",
            kindnet(),
            [(
                POD1,
                from_a1() / to_b1() / udp(1, 2).checksum(0x4242) / b"x",
            )],
        ),
        row(
            "an echo request with a wrong ICMP checksum is forwarded",
            kindnet(),
            [(
                POD1,
                from_a1() / to_b1() / echo_request(1, 1).checksum(1) / b"x",
            )],
        ),
        row(
            "DF and identification 0 are kept",
            kindnet(),
            [(POD1, from_a1() / ipv4(A1, B1).df() / udp(1, 2))],
        ),
        row(
            "the incremental checksum is right where it comes to zero",
            kindnet(),
            // Such identifications that the checksum before is 0xfeff and its neighbours.
            [
                (POD1, from_a1() / ipv4(A1, B1).id(0x5ac9) / udp(1, 2)),
                (POD1, from_a1() / ipv4(A1, B1).id(0x5aca) / udp(1, 2)),
                (POD1, from_a1() / ipv4(A1, B1).id(0x5acb) / udp(1, 2)),
            ],
        ),
    ]
}

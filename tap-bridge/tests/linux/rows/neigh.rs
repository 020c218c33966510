//! Neighbour resolution.

use router_core::Mac;
use router_core::testing::topology::*;
use router_core::testing::{arp_reply, arp_request, eth, ipv4, udp};

use super::{from_a1, from_b};
use crate::nodes::{ABSENT, calico, kindnet, unresolved};
use crate::side::{Row, row, steps};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row(
            "a next hop is asked for in the node's name",
            unresolved(),
            [(POD1, from_a1() / ipv4(A1, B1).id(7) / udp(1, 2))],
        ),
        row(
            "a pod is asked for in its gateway's name",
            unresolved(),
            [(UPLINK, from_b() / ipv4(B1, A1).id(7) / udp(1, 2))],
        ),
        row(
            "a Calico pod is asked for in the node's name",
            {
                let mut node = calico();
                node.neighbours.clear();
                node
            },
            [(
                UPLINK,
                from_b() / ipv4(B1, crate::nodes::N1).id(7) / udp(1, 2),
            )],
        ),
        row(
            "what waits for an answer is sent in order",
            unresolved(),
            [
                (POD1, from_a1() / ipv4(A1, B1).id(7) / udp(1, 1)),
                (POD1, from_a1() / ipv4(A1, B1).id(8) / udp(2, 2)),
                (POD1, from_a1() / ipv4(A1, B1).id(9) / udp(3, 3)),
                (
                    UPLINK,
                    eth(UPLINK_MAC, B_MAC) / arp_reply(B_MAC, NODE_B, UPLINK_MAC, NODE_A),
                ),
                (POD1, from_a1() / ipv4(A1, B1).id(10) / udp(4, 4)),
            ],
        ),
        row(
            "a request from the one who is waited for is an answer too",
            unresolved(),
            [
                (POD1, from_a1() / ipv4(A1, B1).id(7) / udp(1, 1)),
                (
                    UPLINK,
                    eth(Mac::BROADCAST, B_MAC) / arp_request(B_MAC, NODE_B, NODE_A),
                ),
            ],
        ),
        row(
            "a broadcast answer is an answer too",
            unresolved(),
            [
                (POD1, from_a1() / ipv4(A1, B1).id(7) / udp(1, 1)),
                (
                    UPLINK,
                    eth(Mac::BROADCAST, B_MAC) / arp_reply(B_MAC, NODE_B, UPLINK_MAC, NODE_A),
                ),
            ],
        ),
        row(
            "an answer by another port is none",
            unresolved(),
            [
                (POD1, from_a1() / ipv4(A1, B1).id(7) / udp(1, 1)),
                (
                    POD2,
                    eth(POD2_MAC, A2_MAC) / arp_reply(A2_MAC, NODE_B, POD2_MAC, NODE_A),
                ),
            ],
        ),
        row(
            "a second answer within a second does not count",
            unresolved(),
            [
                (POD1, from_a1() / ipv4(A1, B1).id(7) / udp(1, 1)),
                (
                    UPLINK,
                    eth(UPLINK_MAC, B_MAC) / arp_reply(B_MAC, NODE_B, UPLINK_MAC, NODE_A),
                ),
                (
                    UPLINK,
                    eth(UPLINK_MAC, R_MAC) / arp_reply(R_MAC, NODE_B, UPLINK_MAC, NODE_A),
                ),
                (POD1, from_a1() / ipv4(A1, B1).id(8) / udp(2, 2)),
            ],
        ),
        steps(
            "three requests, then the sender hears that the host is unreachable",
            kindnet(),
            |bench| {
                bench.send(
                    POD1,
                    &(from_a1() / ipv4(A1, ABSENT).id(7) / udp(1, 2) / b"x"),
                );
                // Two more requests and the error.
                bench.wait(3);
            },
        ),
        steps(
            "everything that waited is answered, in order",
            kindnet(),
            |bench| {
                for id in 7..10 {
                    bench.send(POD1, &(from_a1() / ipv4(A1, ABSENT).id(id) / udp(id, 2)));
                }
                bench.wait(5);
            },
        ),
        steps("a failed neighbour is asked for anew", kindnet(), |bench| {
            bench.send(POD1, &(from_a1() / ipv4(A1, ABSENT).id(7) / udp(1, 2)));
            bench.wait(3);
            bench.send(POD1, &(from_a1() / ipv4(A1, ABSENT).id(8) / udp(1, 2)));
        }),
    ]
}

//! What the node itself answers.

use std::net::Ipv4Addr;

use router_core::testing::topology::*;
use router_core::testing::{Packet, echo_request, eth, icmp, ipv4, payload, tcp, udp};

use super::{from_a1, from_b};
use crate::nodes::{CALI_MAC, N1, calico, kindnet};
use crate::side::{Row, row};

fn to_gateway(rest: Packet) -> Packet {
    from_a1() / ipv4(A1, GW_A).id(7) / rest
}

pub(crate) fn rows() -> Vec<Row> {
    let node = |rest: Packet| from_a1() / ipv4(A1, NODE_A).id(7) / rest;
    vec![
        row(
            "the gateway answers ping",
            kindnet(),
            [(POD1, to_gateway(echo_request(1, 1) / b"payload"))],
        ),
        row(
            "the node's address answers ping from a pod",
            kindnet(),
            [(POD1, node(echo_request(1, 1)))],
        ),
        row(
            "docker0's address answers ping from a pod",
            kindnet(),
            [(
                POD1,
                from_a1() / ipv4(A1, [172, 17, 0, 1].into()).id(7) / echo_request(1, 1),
            )],
        ),
        row(
            "the gateway answers ping from a remote pod",
            kindnet(),
            [(
                UPLINK,
                from_b() / ipv4(B1, GW_A).id(7).ttl(63) / echo_request(1, 1),
            )],
        ),
        row(
            "an echo reply has the request's TOS and no DF",
            kindnet(),
            [(
                POD1,
                from_a1() / ipv4(A1, GW_A).id(7).tos(0xb8).df() / echo_request(1, 1) / b"x",
            )],
        ),
        row(
            "an echo request with TTL 1 is answered",
            kindnet(),
            [(
                POD1,
                from_a1() / ipv4(A1, GW_A).id(7).ttl(1) / echo_request(1, 1),
            )],
        ),
        row(
            "an echo request with TTL 0 is answered",
            kindnet(),
            [(
                POD1,
                from_a1() / ipv4(A1, GW_A).id(7).ttl(0) / echo_request(1, 1),
            )],
        ),
        row(
            "echo replies are not limited",
            kindnet(),
            std::array::from_fn::<_, 20, _>(|n| {
                let seq = u16::try_from(n).expect("few");
                (POD1, to_gateway(echo_request(1, seq)))
            }),
        ),
        row(
            "an echo request of odd length is answered",
            kindnet(),
            [(POD1, to_gateway(echo_request(1, 1) / b"abc"))],
        ),
        row(
            "a long echo reply is fragmented for a narrow link",
            kindnet(),
            [(
                crate::nodes::NARROW,
                eth(crate::nodes::NARROW_MAC, crate::nodes::A3_MAC)
                    / ipv4(crate::nodes::A3, GW_A).id(7)
                    / echo_request(1, 1)
                    / payload(vec![7; 1450]),
            )],
        ),
        row(
            "an echo request with a wrong checksum is ignored",
            kindnet(),
            [(POD1, to_gateway(echo_request(1, 1).checksum(0x1234)))],
        ),
        row(
            "an echo request with code 1 is answered with its code",
            kindnet(),
            [(POD1, to_gateway(icmp(8, 1, [0, 1, 0, 1])))],
        ),
        row(
            "an unsolicited echo reply is ignored",
            kindnet(),
            [(POD1, to_gateway(icmp(0, 0, [0, 1, 0, 1])))],
        ),
        row(
            "an address mask request is ignored",
            kindnet(),
            [(
                POD1,
                to_gateway(icmp(17, 0, [0, 1, 0, 1]) / payload([0; 4])),
            )],
        ),
        row(
            "an information request is ignored",
            kindnet(),
            [(POD1, to_gateway(icmp(15, 0, [0, 1, 0, 1])))],
        ),
        row(
            "an unknown ICMP type is ignored",
            kindnet(),
            [(POD1, to_gateway(icmp(42, 0, [0, 1, 0, 1])))],
        ),
        row(
            "a redirect changes no route",
            kindnet(),
            [
                (
                    UPLINK,
                    eth(UPLINK_MAC, R_MAC)
                        / ipv4(R, NODE_A).id(7)
                        / icmp(5, 1, NODE_B.octets())
                        / ipv4(NODE_A, X)
                        / udp(1, 2),
                ),
                (POD1, from_a1() / ipv4(A1, X).id(8) / udp(1, 2)),
            ],
        ),
        row(
            "a closed UDP port is answered with port unreachable",
            kindnet(),
            [(POD1, node(udp(1000, 9) / b"anybody"))],
        ),
        row(
            "a closed UDP port of the gateway is answered from the gateway",
            kindnet(),
            [(POD1, to_gateway(udp(1000, 9) / b"anybody"))],
        ),
        row(
            "an unknown protocol is answered with protocol unreachable",
            kindnet(),
            [(
                POD1,
                from_a1() / ipv4(A1, NODE_A).id(7).protocol(99) / payload([1; 12]),
            )],
        ),
        row(
            "a SYN to a closed port is reset",
            kindnet(),
            [(POD1, node(tcp(1000, 9, 2).seq(77)))],
        ),
        row(
            "an ACK to a closed port is reset with its number",
            kindnet(),
            [(POD1, node(tcp(1000, 9, 0x10).seq(77).ack(4711)))],
        ),
        row(
            "data without ACK to a closed port is acknowledged with the reset",
            kindnet(),
            [(POD1, node(tcp(1000, 9, 0).seq(77) / b"data"))],
        ),
        row(
            "a FIN to a closed port counts in the reset",
            kindnet(),
            [(POD1, node(tcp(1000, 9, 1).seq(77)))],
        ),
        row(
            "a reset is not answered",
            kindnet(),
            [(POD1, node(tcp(1000, 9, 4).seq(77)))],
        ),
        row(
            "a SYN with a wrong checksum is ignored",
            kindnet(),
            [(POD1, node(tcp(1000, 9, 2).checksum(1)))],
        ),
        row(
            "a SYN in a TOS is reset",
            kindnet(),
            [(
                POD1,
                from_a1() / ipv4(A1, NODE_A).id(7).tos(0xb8) / tcp(1000, 9, 2),
            )],
        ),
        row(
            "a SYN with ECN bits is reset without them",
            kindnet(),
            [(
                POD1,
                from_a1() / ipv4(A1, NODE_A).id(7).tos(0xbb) / tcp(1000, 9, 2),
            )],
        ),
        row(
            "a UDP datagram with a wrong checksum is ignored",
            kindnet(),
            [(POD1, node(udp(1000, 9).checksum(1) / b"x"))],
        ),
        row(
            "a UDP datagram without a checksum is answered",
            kindnet(),
            [(POD1, node(udp(1000, 9).checksum(0) / b"x"))],
        ),
        row(
            "a Calico pod pings its node",
            calico(),
            [(
                POD1,
                eth(CALI_MAC, A1_MAC) / ipv4(N1, NODE_A).id(7) / echo_request(1, 1),
            )],
        ),
        row(
            "127.0.0.1 from outside is not reached without route_localnet",
            kindnet(),
            [(
                POD1,
                from_a1() / ipv4(A1, Ipv4Addr::LOCALHOST).id(7) / echo_request(1, 1),
            )],
        ),
    ]
}

//! Route lookup.

use router_core::PortId;
use router_core::testing::topology::*;
use router_core::testing::{Packet, echo_request, eth, ipv4, udp};

use super::{from_a1, from_a2, from_b, without_redirects};
use crate::nodes::{CALI_MAC, N1, calico, kindnet, without_default};
use crate::side::{Differs, Row, row};

/// From a1 to this destination.
fn to(dst: [u8; 4]) -> [(PortId, Packet); 1] {
    [(
        POD1,
        from_a1() / ipv4(A1, dst.into()).id(7) / udp(1, 2) / b"x",
    )]
}

pub(crate) fn rows() -> Vec<Row> {
    let dead = |dst: [u8; 4]| {
        [(
            POD1,
            from_a1() / ipv4(A1, dst.into()).id(7).ttl(1) / udp(1, 2),
        )]
    };
    let from_n1 = |dst: [u8; 4]| {
        [(
            POD1,
            eth(CALI_MAC, A1_MAC) / ipv4(N1, dst.into()).id(7) / udp(1, 2),
        )]
    };
    let mut off = kindnet();
    off.forwarding = false;
    vec![
        row(
            "a pod reaches a pod of its node",
            kindnet(),
            to([10, 244, 0, 3]),
        ),
        row(
            "a pod reaches itself through its gateway",
            kindnet(),
            to([10, 244, 0, 2]),
        )
        .differs(Differs::But(
            without_redirects,
            "D3: Linux sends a redirect as well",
        )),
        row(
            "a pod reaches another node",
            kindnet(),
            to([172, 16, 30, 4]),
        ),
        row(
            "a pod reaches the world by the default route",
            kindnet(),
            to([8, 8, 8, 8]),
        ),
        row(
            "an address of the own podCIDR that nobody has follows the default route",
            kindnet(),
            to([10, 244, 0, 77]),
        ),
        row(
            "an unreachable route is answered with host unreachable",
            kindnet(),
            to([192, 0, 2, 1]),
        ),
        row(
            "a prohibit route is answered with its code",
            kindnet(),
            to([192, 0, 2, 17]),
        ),
        row("a blackhole is silent", kindnet(), to([192, 0, 2, 33])),
        row(
            "a throw route leads to the default route's absence",
            without_default(),
            to([192, 0, 2, 49]),
        ),
        row(
            "no route is answered with net unreachable",
            without_default(),
            to([8, 8, 8, 8]),
        ),
        row(
            "an unreachable route beats TTL expiry",
            kindnet(),
            dead([192, 0, 2, 1]),
        ),
        row(
            "a blackhole beats TTL expiry",
            kindnet(),
            dead([192, 0, 2, 33]),
        ),
        row(
            "no route beats TTL expiry",
            without_default(),
            dead([8, 8, 8, 8]),
        ),
        row(
            "the longest prefix wins over a blackhole",
            kindnet(),
            to([192, 0, 2, 65]),
        ),
        row(
            "a blackhole wins where the longer prefix ends",
            kindnet(),
            to([192, 0, 2, 81]),
        ),
        row("the lower metric wins", kindnet(), to([198, 51, 100, 9])),
        row(
            "a route by a port without carrier sends nothing",
            kindnet(),
            to([172, 17, 0, 9]),
        ),
        row(
            "a remote pod reaches a pod",
            kindnet(),
            [(UPLINK, from_b() / ipv4(B1, A1).id(7).ttl(63) / udp(1, 2))],
        ),
        row(
            "a transit packet leaves by the port it came by",
            kindnet(),
            [(
                UPLINK,
                eth(UPLINK_MAC, R_MAC) / ipv4(X, B1).id(7) / udp(1, 2),
            )],
        ),
        row(
            "two pods talk both ways",
            kindnet(),
            [
                (POD1, from_a1() / ipv4(A1, A2).id(7) / echo_request(1, 1)),
                (POD2, from_a2() / ipv4(A2, A1).id(8) / echo_request(2, 1)),
            ],
        ),
        row(
            "without forwarding nothing is forwarded",
            off.clone(),
            to([10, 244, 0, 3]),
        ),
        row(
            "without forwarding no expiry is answered",
            off.clone(),
            dead([10, 244, 0, 3]),
        ),
        row(
            "without forwarding the node still answers",
            off,
            [(POD1, from_a1() / ipv4(A1, GW_A).id(7) / echo_request(1, 1))],
        ),
        row(
            "a Calico pod reaches a pod of its node",
            calico(),
            from_n1([10, 244, 205, 194]),
        ),
        row(
            "a Calico pod reaches a peer's block",
            calico(),
            from_n1([10, 244, 151, 1]),
        ),
        row(
            "an unassigned address of the own block is silent",
            calico(),
            from_n1([10, 244, 205, 200]),
        ),
        row(
            "a Calico pod's link-local gateway is not an address",
            calico(),
            from_n1([169, 254, 1, 1]),
        ),
    ]
}

//! IPv4 options.

use router_core::testing::topology::*;
use router_core::testing::{Packet, ipv4, payload, udp};

use super::from_a1;
use crate::nodes::{A3, NARROW, kindnet};
use crate::side::{Row, row};

/// From a1 to b1 with these options.
fn with(options: &[u8]) -> Packet {
    from_a1() / ipv4(A1, B1).id(7).options(options) / udp(1, 2) / b"x"
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row(
            "a loose source route is dropped",
            kindnet(),
            [(POD1, with(&[0x83, 7, 4, 10, 244, 1, 2, 0]))],
        ),
        row(
            "a strict source route is dropped",
            kindnet(),
            [(POD1, with(&[0x89, 7, 4, 10, 244, 1, 2, 0]))],
        ),
        row(
            "a source route past its end is dropped",
            kindnet(),
            [(POD1, with(&[0x83, 7, 8, 10, 244, 1, 2, 0]))],
        ),
        row(
            "record route with room is signed with the egress address",
            kindnet(),
            [(POD1, with(&[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]))],
        ),
        row(
            "a full record route is forwarded unchanged",
            kindnet(),
            [(POD1, with(&[7, 7, 8, 1, 2, 3, 4, 0]))],
        ),
        row(
            "record route towards a pod is signed with its gateway",
            kindnet(),
            [(
                POD1,
                from_a1() / ipv4(A1, A2).id(7).options(&[7, 7, 4, 0, 0, 0, 0, 0]) / udp(1, 2),
            )],
        ),
        row(
            "an unknown option is forwarded as it is",
            kindnet(),
            [(POD1, with(&[0x9e, 4, 0, 0]))],
        ),
        row(
            "router alert is forwarded as it is",
            kindnet(),
            [(POD1, with(&[0x94, 4, 0, 0]))],
        ),
        row(
            "an option of length 0 is answered with its place",
            kindnet(),
            [(POD1, with(&[7, 0, 0, 0]))],
        ),
        row(
            "an option beyond the header is answered with its place",
            kindnet(),
            [(POD1, with(&[1, 1, 0x9e, 9]))],
        ),
        row(
            "bytes behind the end of options do not matter",
            kindnet(),
            [(POD1, with(&[0, 7, 0, 0]))],
        ),
        row(
            "a full timestamp option counts its overflow",
            kindnet(),
            [(POD1, with(&[68, 8, 9, 0, 0, 0, 0, 1]))],
        ),
        row(
            "a timestamp option whose overflow is full is answered with its place",
            kindnet(),
            [(POD1, with(&[68, 8, 9, 0xf0, 0, 0, 0, 1]))],
        ),
        row(
            "a timestamp option without a whole entry is answered with its place",
            kindnet(),
            [(POD1, with(&[68, 6, 5, 0, 0, 0, 0, 0]))],
        ),
        row(
            "a record route pointer below 4 is answered with its place",
            kindnet(),
            [(POD1, with(&[7, 7, 3, 0, 0, 0, 0, 0]))],
        ),
        row(
            "a packet with options is fragmented with the copied ones only",
            kindnet(),
            [(
                POD1,
                from_a1()
                    / ipv4(A1, A3).id(7).options(&[7, 3, 4, 0x94, 4, 0, 0, 0])
                    / udp(1, 2)
                    / payload(vec![5; 1440]),
            )],
        ),
        row(
            "options of an error's cause are quoted",
            kindnet(),
            [(
                POD1,
                from_a1() / ipv4(A1, B1).id(7).ttl(1).options(&[0x94, 4, 0, 0]) / udp(1, 2),
            )],
        ),
        row(
            "a narrow link's pod sends options too",
            kindnet(),
            [(
                NARROW,
                router_core::testing::eth(crate::nodes::NARROW_MAC, crate::nodes::A3_MAC)
                    / ipv4(A3, A1).id(7).options(&[1, 1, 1, 0])
                    / udp(1, 2),
            )],
        ),
    ]
}

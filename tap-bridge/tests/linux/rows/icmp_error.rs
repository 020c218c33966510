//! ICMP errors: to whom, from whom, how many.

use router_core::testing::topology::*;
use router_core::testing::{echo_request, eth, icmp, ipv4, payload, udp};

use super::{from_a1, from_b};
use crate::nodes::{CALI_MAC, N1, calico, kindnet};
use crate::side::{Differs, Row, row};

pub(crate) fn rows() -> Vec<Row> {
    let expired = || ipv4(A1, B1).id(7).ttl(1);
    vec![
        row(
            "an error quotes up to 576 bytes in all",
            kindnet(),
            [(
                POD1,
                from_a1() / expired() / udp(1, 2) / payload(vec![3; 1000]),
            )],
        ),
        row(
            "an error quotes a short packet whole",
            kindnet(),
            [(POD1, from_a1() / expired().protocol(99))],
        ),
        row(
            "an error has precedence 6",
            kindnet(),
            [(POD1, from_a1() / expired().tos(0) / udp(1, 2))],
        ),
        row(
            "an error about a TOS keeps its low bits",
            kindnet(),
            [(POD1, from_a1() / expired().tos(0x10) / udp(1, 2))],
        ),
        row(
            "an unknown ICMP type is not answered with an error",
            kindnet(),
            [(POD1, from_a1() / expired() / icmp(42, 0, [0; 4]))],
        ),
        row(
            "a redirect is not answered with an error",
            kindnet(),
            [(
                POD1,
                from_a1() / expired() / icmp(5, 1, [0; 4]) / payload([0; 28]),
            )],
        ),
        row(
            "a timestamp request is answered with an error",
            kindnet(),
            [(
                POD1,
                from_a1() / expired() / icmp(13, 0, [0, 1, 0, 1]) / payload([0; 12]),
            )],
        ),
        row(
            "a first fragment is answered with an error",
            kindnet(),
            [(
                POD1,
                from_a1() / expired().mf() / udp(1, 2) / payload([0; 24]),
            )],
        ),
        row(
            "a later fragment is not answered with an error",
            kindnet(),
            [(POD1, from_a1() / expired().offset(600) / udp(1, 2))],
        ),
        row(
            "an ICMP message without a type is not answered with an error",
            kindnet(),
            [(POD1, from_a1() / expired().protocol(1))],
        ),
        row(
            "an error to a pod comes from its gateway",
            kindnet(),
            [(POD1, from_a1() / expired() / udp(1, 2))],
        ),
        row(
            "an error to a remote pod comes from the node",
            kindnet(),
            [(UPLINK, from_b() / ipv4(B1, A1).id(7).ttl(1) / udp(1, 2))],
        ),
        row(
            "an error to a Calico pod comes from the node's address",
            calico(),
            [(
                POD1,
                eth(CALI_MAC, A1_MAC) / ipv4(N1, X).id(7).ttl(1) / udp(1, 2),
            )],
        ),
        row(
            "an error about a packet from elsewhere goes where its source is",
            kindnet(),
            [(POD1, from_a1() / ipv4(B1, A2).id(7).ttl(1) / udp(1, 2))],
        ),
        row(
            "six errors come at once and no seventh",
            kindnet(),
            std::array::from_fn::<_, 10, _>(|_| (POD1, from_a1() / expired() / udp(1, 2))),
        ),
        row(
            "each destination has its own budget of errors",
            kindnet(),
            std::array::from_fn::<_, 16, _>(|n| {
                if n % 2 == 0 {
                    (POD1, from_a1() / expired() / udp(1, 2))
                } else {
                    (UPLINK, from_b() / ipv4(B1, A1).id(7).ttl(1) / udp(1, 2))
                }
            }),
        ),
        row(
            "errors of routes have a budget too",
            kindnet(),
            std::array::from_fn::<_, 10, _>(|_| {
                (
                    POD1,
                    from_a1() / ipv4(A1, [192, 0, 2, 1].into()).id(7) / udp(1, 2),
                )
            }),
        ).differs(Differs::RouterLonger(
            "RT-3: Linux charges such an error twice, to two limits that share a bucket; here one limit counts it once",
        )),
        row(
            "an expired echo request to the world is answered",
            kindnet(),
            [(
                POD1,
                from_a1() / ipv4(A1, X).id(7).ttl(1) / echo_request(9, 9) / payload([8; 56]),
            )],
        ),
    ]
}

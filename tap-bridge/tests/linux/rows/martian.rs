//! Source and destination sanity.

use std::net::Ipv4Addr;

use router_core::PortId;
use router_core::testing::topology::*;
use router_core::testing::{Packet, echo_request, ipv4, udp};

use super::{from_a1, from_b};
use crate::nodes::{N1, N2, calico, kindnet};
use crate::side::{Differs, Row, row};

/// From a1, with this source, to b1.
fn with_source(src: [u8; 4]) -> [(PortId, Packet); 1] {
    [(POD1, from_a1() / ipv4(src.into(), B1).id(7) / udp(1, 2))]
}

/// From a1 to this destination.
fn to(dst: [u8; 4]) -> [(PortId, Packet); 1] {
    [(POD1, from_a1() / ipv4(A1, dst.into()).id(7) / udp(1, 2))]
}

/// From a cali port, with this source.
fn from_cali(src: Ipv4Addr) -> [(PortId, Packet); 1] {
    let packet =
        router_core::testing::eth(crate::nodes::CALI_MAC, A1_MAC) / ipv4(src, N2).id(7) / udp(1, 2);
    [(POD1, packet)]
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row(
            "a loopback source is dropped",
            kindnet(),
            with_source([127, 0, 0, 1]),
        ),
        row(
            "a multicast source is dropped",
            kindnet(),
            with_source([224, 0, 0, 5]),
        ),
        row(
            "the limited broadcast as source is dropped",
            kindnet(),
            with_source([255; 4]),
        ),
        row("no source is dropped", kindnet(), with_source([0; 4])),
        row(
            "a source in 0/8 is dropped",
            kindnet(),
            with_source([0, 1, 2, 3]),
        )
        .differs(Differs::LinuxAlone(
            "D2: Linux forwards it where rp_filter is off",
        )),
        row(
            "a directed broadcast as source is dropped",
            kindnet(),
            with_source([172, 16, 30, 255]),
        )
        .differs(Differs::LinuxAlone(
            "D2: Linux forwards it where rp_filter is off",
        )),
        row(
            "the gateway's address as source is dropped",
            kindnet(),
            with_source([10, 244, 0, 1]),
        ),
        row(
            "the node's address as source is dropped",
            kindnet(),
            with_source([172, 16, 30, 3]),
        ),
        row(
            "a source in class E is forwarded",
            kindnet(),
            with_source([240, 0, 0, 1]),
        ),
        row(
            "another pod's source is forwarded without rp_filter",
            kindnet(),
            with_source([10, 244, 0, 3]),
        ),
        row(
            "an unreachable source is forwarded without rp_filter",
            kindnet(),
            with_source([192, 0, 2, 1]),
        ),
        row(
            "a loopback destination is dropped",
            kindnet(),
            to([127, 0, 0, 1]),
        ),
        row("no destination is dropped", kindnet(), to([0; 4])),
        row(
            "a destination in 0/8 is dropped",
            kindnet(),
            to([0, 9, 9, 9]),
        )
        .differs(Differs::LinuxAlone(
            "D2: Linux knows nothing of 0/8 but its first address",
        )),
        row(
            "a destination in class E follows the default route",
            kindnet(),
            to([240, 0, 0, 1]),
        ),
        row(
            "a link-local destination follows the default route",
            kindnet(),
            to([169, 254, 1, 1]),
        ),
        row(
            "the network address of a subnet is a host",
            kindnet(),
            to([10, 244, 1, 0]),
        ),
        row(
            "the limited broadcast is not forwarded",
            kindnet(),
            to([255; 4]),
        ),
        row(
            "a directed broadcast of a connected subnet is not forwarded",
            kindnet(),
            to([172, 16, 30, 255]),
        ),
        row(
            "a directed broadcast of a remote subnet is unicast",
            kindnet(),
            to([10, 244, 1, 255]),
        ),
        row(
            "multicast is not forwarded",
            kindnet(),
            to([224, 0, 0, 251]),
        ),
        row(
            "an echo request to a broadcast address is ignored",
            kindnet(),
            [(
                UPLINK,
                from_b() / ipv4(NODE_B, [172, 16, 30, 255].into()).id(7) / echo_request(1, 1),
            )],
        ),
        row(
            "strict source validation lets the pod's own address pass",
            calico(),
            from_cali(N1),
        ),
        row(
            "strict source validation drops another pod's address",
            calico(),
            from_cali(N2),
        ),
        row(
            "strict source validation drops an address from elsewhere",
            calico(),
            from_cali([9, 9, 9, 9].into()),
        ),
        row(
            "strict source validation drops an address of the own block's blackhole",
            calico(),
            from_cali([10, 244, 205, 200].into()),
        ),
        row(
            "a loopback source is dropped by strict validation too",
            calico(),
            from_cali(Ipv4Addr::LOCALHOST),
        ),
    ]
}

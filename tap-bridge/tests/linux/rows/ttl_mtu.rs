//! TTL, MTU and fragments.

use router_core::testing::topology::*;
use router_core::testing::{Packet, echo_reply, echo_request, icmp, ipv4, payload, tcp, udp};

use super::{from_a1, from_b};
use crate::nodes::{A3, kindnet};
use crate::side::{Row, row};

/// From a1 to the narrow link, `len` bytes of IP in all.
fn to_a3(len: usize, flags: impl Fn(Packet) -> Packet) -> Packet {
    from_a1() / flags(ipv4(A1, A3).id(7)) / udp(1, 2) / payload(pattern(len - 28))
}

/// Bytes that tell where they are.
fn pattern(len: usize) -> Vec<u8> {
    (0u8..251).cycle().take(len).collect()
}

pub(crate) fn rows() -> Vec<Row> {
    let plain = |p: Packet| p;
    let df = |p: Packet| p.df();
    vec![
        row(
            "TTL 2 is forwarded as 1",
            kindnet(),
            [(POD1, from_a1() / ipv4(A1, B1).id(7).ttl(2) / udp(1, 2))],
        ),
        row(
            "TTL 1 is answered and not forwarded",
            kindnet(),
            [(
                POD1,
                from_a1() / ipv4(A1, B1).id(7).ttl(1) / udp(1, 2) / b"some payload",
            )],
        ),
        row(
            "TTL 0 is answered and not forwarded",
            kindnet(),
            [(POD1, from_a1() / ipv4(A1, B1).id(7).ttl(0) / udp(1, 2))],
        ),
        row(
            "an expired echo reply is answered",
            kindnet(),
            [(
                POD1,
                from_a1() / ipv4(A1, B1).id(7).ttl(1) / echo_reply(1, 1),
            )],
        ),
        row(
            "an expired segment is answered",
            kindnet(),
            [(
                POD1,
                from_a1() / ipv4(A1, B1).id(7).ttl(1) / tcp(1, 2, 0x10),
            )],
        ),
        row(
            "an expired ICMP error is not answered",
            kindnet(),
            [(
                POD1,
                from_a1()
                    / ipv4(A1, B1).id(7).ttl(1)
                    / icmp(3, 3, [0; 4])
                    / ipv4(B1, A1)
                    / udp(1, 2),
            )],
        ),
        row(
            "an expired packet from a remote pod is answered by the node",
            kindnet(),
            [(UPLINK, from_b() / ipv4(B1, A1).id(7).ttl(1) / udp(1, 2))],
        ),
        row(
            "a packet as long as the MTU passes",
            kindnet(),
            [(POD1, to_a3(1400, df))],
        ),
        row(
            "a byte more with DF is answered with the MTU",
            kindnet(),
            [(POD1, to_a3(1401, df))],
        ),
        row(
            "a long packet without DF is fragmented",
            kindnet(),
            [(POD1, to_a3(1500, plain))],
        ),
        row(
            "a byte more without DF makes a small second fragment",
            kindnet(),
            [(POD1, to_a3(1401, plain))],
        ),
        row(
            "a fragment is fragmented again and keeps MF",
            kindnet(),
            [(POD1, to_a3(1500, |p| p.mf().offset(1480)))],
        ),
        row(
            "a last fragment is fragmented again",
            kindnet(),
            [(POD1, to_a3(1500, |p| p.offset(1480)))],
        ),
        row(
            "a fragment with DF that is too long is refused",
            kindnet(),
            [(POD1, to_a3(1500, |p| p.df().mf()))],
        ),
        row(
            "a later fragment that is too long with DF is refused in silence",
            kindnet(),
            [(POD1, to_a3(1500, |p| p.df().offset(1480)))],
        ),
        row(
            "fragments in are fragments out",
            kindnet(),
            [
                (
                    POD1,
                    from_a1() / ipv4(A1, B1).id(7).mf() / udp(1, 2) / payload(pattern(592)),
                ),
                (
                    POD1,
                    from_a1() / ipv4(A1, B1).id(7).offset(600).protocol(17) / payload(pattern(100)),
                ),
            ],
        ),
        row(
            "TTL expiry beats a refusal for length",
            kindnet(),
            [(POD1, to_a3(1500, |p| p.df().ttl(1)))],
        ),
        row(
            "TOS and reserved flag survive fragmentation",
            kindnet(),
            [(POD1, to_a3(1500, |p| p.tos(0x2c)))],
        ),
        row(
            "a long ping is fragmented",
            kindnet(),
            [(
                POD1,
                from_a1() / ipv4(A1, A3).id(7) / echo_request(1, 1) / payload(pattern(1472)),
            )],
        ),
        row(
            "many refusals for length are all sent",
            kindnet(),
            std::array::from_fn::<_, 12, _>(|_| (POD1, to_a3(1500, df))),
        ),
    ]
}

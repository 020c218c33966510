//! Ports of the node that lead to a pod's.

use super::*;

pub(super) fn host_ports() -> Vec<Row> {
    let client = |dst: Ipv4Addr, ttl| {
        (
            UPLINK,
            from_r() / ipv4(R, dst).id(7).ttl(ttl) / udp(7000, 8080) / b"hello",
        )
    };
    let a2_answers = |dst: Ipv4Addr, port| {
        (
            POD2,
            from_a2() / ipv4(A2, dst).id(8) / udp(80, port) / b"welcome",
        )
    };
    vec![
        row(
            "a client outside reaches a host port and is answered by it",
            ports(),
            [client(NODE_A, 64), a2_answers(R, 7000), client(NODE_A, 64)],
        ),
        row(
            "every address of the node has the host port",
            ports(),
            [client(GW_A, 64), a2_answers(R, 7000)],
        ),
        row(
            "a host port of TCP is reached and answers",
            ports(),
            [
                (
                    UPLINK,
                    from_r() / segment((R, 7000), (NODE_A, 8080), 1, 0, SYN, b""),
                ),
                (
                    POD2,
                    from_a2() / segment((A2, 80), (R, 7000), 50, 2, SYN | ACK, b""),
                ),
                (
                    UPLINK,
                    from_r() / segment((R, 7000), (NODE_A, 8080), 2, 51, ACK, b"GET"),
                ),
            ],
        ),
        row(
            "another port is closed",
            ports(),
            [(UPLINK, from_r() / ipv4(R, NODE_A).id(7) / udp(7000, 8081))],
        ),
        row(
            "a host port with TTL 1 is reported as the client sent it",
            ports(),
            [client(NODE_A, 1)],
        ),
        row(
            "a pod of the node reaches a host port as its gateway",
            ports(),
            [
                (POD1, from_a1() / ipv4(A1, NODE_A).id(7) / udp(7000, 8080)),
                (POD2, from_a2() / ipv4(A2, GW_A).id(8) / udp(80, 7000)),
            ],
        ),
        row(
            "a pod reaches itself by its host port",
            ports(),
            [
                (POD2, from_a2() / ipv4(A2, NODE_A).id(7) / udp(7000, 8080)),
                (POD2, from_a2() / ipv4(A2, GW_A).id(8) / udp(80, 7000)),
            ],
        ),
        row(
            "a remote pod reaches a host port as it came",
            ports(),
            [
                (
                    UPLINK,
                    from_b() / ipv4(NODE_B, NODE_A).id(7) / udp(7000, 8080),
                ),
                a2_answers(NODE_B, 7000),
            ],
        ),
        row(
            "an error of the pod about a host port comes from the host port",
            ports(),
            [
                client(NODE_A, 64),
                (
                    POD2,
                    from_a2()
                        / ipv4(A2, R).id(9)
                        / icmp(3, 3, [0; 4])
                        / ipv4(R, A2).id(7).ttl(63)
                        / udp(7000, 80)
                        / b"hello",
                ),
            ],
        ),
        row(
            "an echo request to the node is not for the host port",
            ports(),
            [(
                UPLINK,
                from_r() / ipv4(R, NODE_A).id(7) / echo_request(1, 1),
            )],
        ),
        row(
            "who goes to the pod directly meets no translation",
            ports(),
            [
                (UPLINK, from_r() / ipv4(R, A2).id(7) / udp(7000, 80)),
                a2_answers(R, 7000),
            ],
        ),
    ]
}

//! ICMP errors about translated packets, and packets that belong to no connection.

use super::*;

pub(super) fn errors() -> Vec<Row> {
    let about = |says, error: Packet| row(says, masq(), [(POD1, question()), (UPLINK, error)]);
    let whole = 2000;
    let mut bad_sum = report(3, 1, [0; 4], &left(), whole).bytes();
    bad_sum[36] ^= 0x55;
    vec![
        about(
            "host unreachable comes to the pod about its own packet",
            report(3, 1, [0; 4], &left(), whole),
        ),
        about("port unreachable from the peer comes to the pod", {
            from_r() / ipv4(X, NODE_A).id(9) / icmp(3, 3, [0; 4]) / left()
        }),
        about(
            "time exceeded comes to the pod from the router that says it",
            report(11, 0, [0; 4], &left(), whole),
        ),
        about(
            "fragmentation needed keeps its MTU",
            report(3, 4, [0, 0, 5, 0x78], &left(), whole),
        ),
        about(
            "a parameter problem keeps its pointer",
            report(12, 0, [20, 0, 0, 0], &left(), whole),
        ),
        about(
            "source quench is passed on",
            report(4, 0, [0; 4], &left(), whole),
        ),
        about(
            "a quotation of eight bytes is enough",
            report(11, 0, [0; 4], &left(), 28),
        ),
        about(
            "a quotation of seven bytes is not",
            report(11, 0, [0; 4], &left(), 27),
        ),
        about(
            "a redirect about a connection is not passed on",
            report(5, 1, [172, 16, 30, 4], &left(), whole),
        ),
        about("an error about nobody's packet is not passed on", {
            report(
                3,
                1,
                [0; 4],
                &(ipv4(NODE_A, X).id(7) / udp(4001, 53)),
                whole,
            )
        }),
        about("an error that quotes a later fragment is not passed on", {
            report(
                3,
                1,
                [0; 4],
                &(ipv4(NODE_A, X).id(7).offset(800) / udp(4000, 53)),
                whole,
            )
        }),
        about("an error that quotes options is passed on", {
            report(
                3,
                1,
                [0; 4],
                &(ipv4(NODE_A, X).id(7).options(&[0x94, 4, 0, 0]) / udp(4000, 53) / b"question"),
                whole,
            )
        }),
        steps(
            "an error with a wrong checksum is not passed on",
            masq(),
            move |b| {
                b.send(POD1, &question());
                b.send_bytes(UPLINK, &bad_sum);
            },
        ),
        row(
            "an error about an echo request comes to the pod",
            masq(),
            [
                (
                    POD1,
                    from_a1() / ipv4(A1, X).id(7) / echo_request(77, 1) / b"ping",
                ),
                (
                    UPLINK,
                    report(
                        11,
                        0,
                        [0; 4],
                        &(ipv4(NODE_A, X).id(7).ttl(1) / echo_request(77, 1) / b"ping"),
                        whole,
                    ),
                ),
            ],
        ),
        row(
            "an error about a segment comes to the pod",
            masq(),
            [
                (
                    POD1,
                    from_a1() / segment((A1, 4000), (X, 80), 100, 0, SYN, b""),
                ),
                (
                    UPLINK,
                    report(
                        11,
                        0,
                        [0; 4],
                        &segment((NODE_A, 4000), (X, 80), 100, 0, SYN, b""),
                        whole,
                    ),
                ),
            ],
        ),
        row(
            "an error about a protocol without ports comes to the pod",
            masq(),
            [
                (
                    POD1,
                    from_a1() / ipv4(A1, X).id(7).protocol(99) / payload([1; 20]),
                ),
                (
                    UPLINK,
                    report(
                        3,
                        2,
                        [0; 4],
                        &(ipv4(NODE_A, X).id(7).protocol(99) / payload([1; 20])),
                        whole,
                    ),
                ),
            ],
        ),
        row(
            "a pod's error about an answer leaves as the node's",
            masq(),
            [
                (POD1, question()),
                (UPLINK, answer()),
                (
                    POD1,
                    from_a1()
                        / ipv4(A1, X).id(9)
                        / icmp(3, 3, [0; 4])
                        / ipv4(X, A1).id(8).ttl(63)
                        / udp(53, 4000)
                        / b"answer",
                ),
            ],
        ),
    ]
}

pub(super) fn invalid() -> Vec<Row> {
    const D1: Differs = Differs::LinuxAlone("D1: Linux lets it out with the pod's address");
    let leaks = |says, frame: Packet| row(says, masq(), [(POD1, from_a1() / frame)]).differs(D1);
    let seg = |flags| segment((A1, 4000), (X, 80), 1, 2, flags, b"");
    vec![
        leaks(
            "a SYN/ACK without a connection stays inside",
            seg(SYN | ACK),
        ),
        leaks("a reset without a connection stays inside", seg(RST)),
        leaks("a FIN without a connection stays inside", seg(FIN | ACK)),
        leaks("a segment without flags stays inside", seg(0)),
        leaks("SYN with FIN stays inside", seg(SYN | FIN)),
        leaks(
            "an unsolicited echo reply stays inside",
            ipv4(A1, X).id(7) / echo_reply(1, 1),
        ),
        leaks(
            "an unknown ICMP type stays inside",
            ipv4(A1, X).id(7) / icmp(42, 0, [0; 4]),
        ),
        leaks(
            "a datagram with a wrong checksum stays inside",
            ipv4(A1, X).id(7) / udp(4000, 53).checksum(0x4242) / b"x",
        ),
        leaks(
            "a datagram shorter than its header stays inside",
            ipv4(A1, X).id(7).protocol(17) / payload([0; 5]),
        ),
        leaks("a segment with an impossible offset stays inside", {
            ipv4(A1, X).id(7).protocol(6)
                / payload([
                    0x0f, 0xa0, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 2, 0, 0, 0, 0, 0, 0,
                ])
        }),
    ]
}

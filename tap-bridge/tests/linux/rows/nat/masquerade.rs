//! Packets of pods that leave masqueraded, and their answers, whole and in pieces.

use super::*;

pub(super) fn masquerade() -> Vec<Row> {
    let ask: fn() -> (PortId, Packet) = || (POD1, question());
    let reply: fn() -> (PortId, Packet) = || (UPLINK, answer());
    vec![
        after(
            "a datagram to the world is masqueraded",
            masq(),
            &[|| (POD1, question())],
        ),
        steps("its answer comes back to the pod", masq(), move |b| {
            for (port, frame) in [ask(), reply(), ask(), reply()] {
                b.send(port, &frame);
            }
        }),
        row(
            "an answer to nobody is the node's",
            masq(),
            [(UPLINK, answer())],
        ),
        after(
            "an answer from another port is the node's",
            masq(),
            &[
                || (POD1, question()),
                || {
                    (
                        UPLINK,
                        from_r() / ipv4(X, NODE_A).id(8) / udp(99, 4000) / b"x",
                    )
                },
            ],
        ),
        row(
            "an echo request is masqueraded and its replies come back",
            masq(),
            [
                (
                    POD1,
                    from_a1() / ipv4(A1, X).id(7) / echo_request(77, 1) / b"ping",
                ),
                (
                    UPLINK,
                    from_r() / ipv4(X, NODE_A).id(8) / echo_reply(77, 1) / b"ping",
                ),
                (
                    UPLINK,
                    from_r() / ipv4(X, NODE_A).id(9) / echo_reply(77, 1) / b"ping",
                ),
                (
                    POD1,
                    from_a1() / ipv4(A1, X).id(10) / echo_request(77, 2) / b"ping",
                ),
            ],
        ),
        row(
            "an echo request with code 1 is masqueraded",
            masq(),
            [(
                POD1,
                from_a1() / ipv4(A1, X).id(7) / icmp(8, 1, [0, 5, 0, 1]),
            )],
        ),
        row(
            "a timestamp request is masqueraded",
            masq(),
            [(
                POD1,
                from_a1() / ipv4(A1, X).id(7) / icmp(13, 0, [0, 5, 0, 1]) / payload([0; 12]),
            )],
        ),
        row(
            "a remote pod sees the pod's address",
            masq(),
            [(POD1, from_a1() / ipv4(A1, B1).id(7) / udp(4000, 53))],
        ),
        row(
            "a pod of the node sees the pod's address",
            masq(),
            [(POD1, from_a1() / ipv4(A1, A2).id(7) / udp(4000, 53))],
        ),
        row(
            "another node sees the node's address",
            masq(),
            [(POD1, from_a1() / ipv4(A1, NODE_B).id(7) / udp(4000, 53))],
        ),
        row(
            "the pod's own node sees the pod",
            masq(),
            [(POD1, from_a1() / ipv4(A1, NODE_A).id(7) / udp(4000, 53))],
        ),
        row(
            "an address of the podCIDR that nobody has is not masqueraded",
            masq(),
            [(
                POD1,
                from_a1() / ipv4(A1, [10, 244, 0, 77].into()).id(7) / udp(4000, 53),
            )],
        ),
        row(
            "who speaks to a pod from outside is answered by the pod's address",
            masq(),
            [
                (UPLINK, from_r() / ipv4(X, A1).id(7) / udp(53, 4000)),
                (POD1, from_a1() / ipv4(A1, X).id(8) / udp(4000, 53)),
            ],
        ),
        row(
            "transit traffic is masqueraded too",
            masq(),
            [(UPLINK, from_b() / ipv4(NODE_B, X).id(7) / udp(4000, 53))],
        ),
        row(
            "two pods keep one port towards different peers",
            masq(),
            [
                (POD1, question()),
                (POD2, from_a2() / ipv4(A2, Y).id(7) / udp(4000, 53)),
            ],
        ),
        steps(
            "two pods with one port and one peer are told apart",
            masq(),
            |b| {
                b.send(POD1, &question());
                let port = chosen(&b.send(
                    POD2,
                    &(from_a2() / ipv4(A2, X).id(8) / udp(4000, 53) / b"2"),
                ));
                assert!(port > 1023 && port != 4000);
                b.send(
                    UPLINK,
                    &(from_r() / ipv4(X, NODE_A).id(9) / udp(53, port) / b"for a2"),
                );
                b.send(UPLINK, &answer());
            },
        )
        .differs(Differs::Random(any_port, "the port that was moved")),
        steps(
            "a port that was moved serves other peers too",
            masq(),
            |b| {
                b.send(POD1, &question());
                let first = chosen(&b.send(POD2, &(from_a2() / ipv4(A2, X).id(8) / udp(4000, 53))));
                let second =
                    chosen(&b.send(POD2, &(from_a2() / ipv4(A2, X).id(9) / udp(4000, 54))));
                let third =
                    chosen(&b.send(POD2, &(from_a2() / ipv4(A2, Y).id(10) / udp(4000, 53))));
                assert_eq!((second, third), (first, first));
            },
        )
        .differs(Differs::Random(any_port, "the port that was moved")),
        steps("identifiers of echo requests are told apart", masq(), |b| {
            b.send(
                POD1,
                &(from_a1() / ipv4(A1, X).id(7) / echo_request(4000, 1) / b"one"),
            );
            let id = chosen(&b.send(
                POD2,
                &(from_a2() / ipv4(A2, X).id(8) / echo_request(4000, 1) / b"two"),
            ));
            assert_ne!(id, 4000);
            b.send(
                UPLINK,
                &(from_r() / ipv4(X, NODE_A).id(9) / echo_reply(id, 1) / b"two"),
            );
        })
        .differs(Differs::Random(any_port, "the port that was moved")),
        row(
            "port 0 is a port",
            masq(),
            [
                (POD1, from_a1() / ipv4(A1, X).id(7) / udp(0, 0) / b"x"),
                (UPLINK, from_r() / ipv4(X, NODE_A).id(8) / udp(0, 0) / b"y"),
            ],
        ),
        row(
            "no checksum stays none, both ways",
            masq(),
            [
                (
                    POD1,
                    from_a1() / ipv4(A1, X).id(7) / udp(4000, 53).checksum(0) / b"x",
                ),
                (
                    UPLINK,
                    from_r() / ipv4(X, NODE_A).id(8) / udp(53, 4000).checksum(0) / b"y",
                ),
            ],
        ),
        row(
            "a SNAT port is no way to a pod from another",
            masq(),
            [
                (POD2, from_a2() / ipv4(A2, X).id(7) / udp(4000, 53)),
                (POD1, from_a1() / ipv4(A1, NODE_A).id(8) / udp(5000, 4000)),
            ],
        ),
        row(
            "a protocol without ports is masqueraded",
            masq(),
            [
                (
                    POD1,
                    from_a1() / ipv4(A1, X).id(7).protocol(99) / payload([1; 20]),
                ),
                (
                    UPLINK,
                    from_r() / ipv4(X, NODE_A).id(8).protocol(99) / payload([2; 20]),
                ),
            ],
        ),
        row(
            "a second pod with the same protocol and peer waits",
            masq(),
            [
                (
                    POD1,
                    from_a1() / ipv4(A1, X).id(7).protocol(99) / payload([1; 20]),
                ),
                (
                    POD2,
                    from_a2() / ipv4(A2, X).id(8).protocol(99) / payload([2; 20]),
                ),
            ],
        ),
        row(
            "DSCP, DF and options survive masquerading",
            masq(),
            [(
                POD1,
                from_a1()
                    / ipv4(A1, X).id(7).tos(0xb8).df().options(&[0x94, 4, 0, 0])
                    / udp(4000, 53),
            )],
        ),
        row(
            "a masqueraded packet with TTL 1 is reported to the pod as it sent it",
            masq(),
            [(POD1, from_a1() / ipv4(A1, X).id(7).ttl(1) / udp(4000, 53))],
        ),
        row(
            "an answer with TTL 1 is reported to the peer as it sent it",
            masq(),
            [
                (POD1, question()),
                (
                    UPLINK,
                    from_r() / ipv4(X, NODE_A).id(8).ttl(1) / udp(53, 4000) / b"answer",
                ),
            ],
        ),
        row(
            "a packet too long for the uplink is reported to the pod as it sent it",
            with_port(masq(), UPLINK, |p| p.mtu = 1400),
            [(
                POD1,
                from_a1() / ipv4(A1, X).id(7).df() / udp(4000, 53) / payload([0; 1400]),
            )],
        ),
        row(
            "a long packet is cut after it was masqueraded",
            with_port(masq(), UPLINK, |p| p.mtu = 1400),
            [(
                POD1,
                from_a1() / ipv4(A1, X).id(7) / udp(4000, 53) / payload([0; 1450]),
            )],
        ),
        row(
            "an unreachable route is reported before anything is masqueraded",
            masq(),
            [(
                POD1,
                from_a1() / ipv4(A1, [192, 0, 2, 1].into()).id(7) / udp(4000, 53),
            )],
        ),
    ]
}

pub(super) fn fragments() -> Vec<Row> {
    let data: Vec<u8> = (0..1000)
        .map(|i| u8::try_from(i % 251).expect("below 251"))
        .collect();
    let whole = (ipv4(A1, X) / udp(4000, 53) / data.clone()).bytes()[20..].to_vec();
    let piece = |dst: Ipv4Addr, from: usize, to: usize| {
        let offset = u16::try_from(from).expect("short");
        let ip = ipv4(A1, dst).id(77).protocol(17).offset(offset);
        let ip = if to < whole.len() { ip.mf() } else { ip };
        (POD1, from_a1() / ip / payload(&whole[from..to]))
    };
    let end = whole.len();
    vec![
        row(
            "fragments are masqueraded together and keep their sizes",
            masq(),
            [piece(X, 0, 600), piece(X, 600, end)],
        ),
        row(
            "fragments in reverse leave in order",
            masq(),
            [piece(X, 600, end), piece(X, 0, 600)],
        ),
        row(
            "three fragments in disorder leave in order",
            masq(),
            [piece(X, 800, end), piece(X, 0, 400), piece(X, 400, 800)],
        ),
        row(
            "a fragment that comes twice leaves once",
            masq(),
            [piece(X, 0, 600), piece(X, 0, 600), piece(X, 600, end)],
        ),
        row(
            "fragments that overlap do not leave",
            masq(),
            [piece(X, 0, 600), piece(X, 592, 800), piece(X, 600, end)],
        ),
        row(
            "a later fragment alone does not leave",
            masq(),
            [piece(X, 600, end)],
        ),
        row(
            "fragments between pods are collected too",
            masq(),
            [piece(B1, 600, end), piece(B1, 0, 600)],
        ),
    ]
}

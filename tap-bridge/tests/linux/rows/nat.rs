//! Masquerading, host ports and their errors: sequences in both directions.
//!
//! The chains are those that the presets make, in iptables on the kernel's side.

use std::net::Ipv4Addr;

use router_core::PortId;
use router_core::Snapshot;
use router_core::testing::packet::naive_checksum;
use router_core::testing::topology::*;
use router_core::testing::{Packet, echo_reply, echo_request, eth, icmp, ipv4, payload, udp};

use super::{from_a1, from_a2, from_b};
use crate::nodes::kindnet;
use crate::side::{Bench, Differs, Frames, Row, row, steps};

const Y: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 9);
const SYN: u8 = 2;
const ACK: u8 = 0x10;
const FIN: u8 = 1;
const RST: u8 = 4;

/// kindnetd's ip-masq-agent.
fn masq() -> Snapshot {
    masquerading(kindnet())
}

/// And host port 8080 for a2's port 80, in UDP and TCP.
fn ports() -> Snapshot {
    let subnet = "10.244.0.0/24".parse().expect("a network");
    [6, 17].into_iter().fold(masq(), |node, protocol| {
        host_port(node, (protocol, 8080), (A2, 80), subnet)
    })
}

/// From R to the node.
fn from_r() -> Packet {
    eth(UPLINK_MAC, R_MAC)
}

/// A TCP segment with a window of 64240 behind an IPv4 header.
fn segment(
    src: (Ipv4Addr, u16),
    dst: (Ipv4Addr, u16),
    seq: u32,
    ack: u32,
    flags: u8,
    data: &[u8],
) -> Packet {
    let mut tcp = Vec::new();
    tcp.extend(src.1.to_be_bytes());
    tcp.extend(dst.1.to_be_bytes());
    tcp.extend(seq.to_be_bytes());
    tcp.extend(ack.to_be_bytes());
    tcp.extend([0x50, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    tcp.extend(data);
    let mut summed = Vec::new();
    summed.extend(src.0.octets());
    summed.extend(dst.0.octets());
    summed.extend([0, 6]);
    summed.extend(u16::try_from(tcp.len()).expect("short").to_be_bytes());
    summed.extend(&tcp);
    let sum = naive_checksum(&summed).to_be_bytes();
    tcp[16..18].copy_from_slice(&sum);
    ipv4(src.0, dst.0).id(7).protocol(6) / payload(tcp)
}

/// a1's port 4000 to X's port 53.
fn question() -> Packet {
    from_a1() / ipv4(A1, X).id(7) / udp(4000, 53) / b"question"
}

/// X's answer to the node.
fn answer() -> Packet {
    from_r() / ipv4(X, NODE_A).id(8) / udp(53, 4000) / b"answer"
}

/// An ICMP error of R's to the node about a packet that left, the quotation cut to `len` bytes.
fn report(kind: u8, code: u8, rest: [u8; 4], cause: &Packet, len: usize) -> Packet {
    let mut quoted = cause.bytes();
    quoted.truncate(len);
    from_r() / ipv4(R, NODE_A).id(9) / icmp(kind, code, rest) / payload(quoted)
}

/// What left for [`question`], as R sees it.
fn left() -> Packet {
    ipv4(NODE_A, X).id(7).ttl(63) / udp(4000, 53) / b"question"
}

/// A handshake of a1's port 4000 with X's port 80, masqueraded.
fn handshake(bench: &mut Bench<'_>) {
    bench.send(
        POD1,
        &(from_a1() / segment((A1, 4000), (X, 80), 100, 0, SYN, b"")),
    );
    bench.send(
        UPLINK,
        &(from_r() / segment((X, 80), (NODE_A, 4000), 500, 101, SYN | ACK, b"")),
    );
    bench.send(
        POD1,
        &(from_a1() / segment((A1, 4000), (X, 80), 101, 501, ACK, b"")),
    );
}

/// The source port or identifier that a masqueraded packet of the node left with.
fn chosen(frames: &Frames) -> u16 {
    let (_, frame) = frames
        .iter()
        .find(|(port, _)| *port == UPLINK)
        .expect("it leaves");
    let at = if frame[23] == 1 { 38 } else { 34 };
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

/// Ports that are chosen at random, above 1023 and not a1's 4000, are the same everywhere.
fn any_port(frames: &mut Frames) {
    for (_, frame) in frames
        .iter_mut()
        .filter(|(port, f)| *port == UPLINK && f.len() >= 42)
    {
        let (at, sum) = match frame[23] {
            1 => (38, 36),
            6 => (34, 50),
            _ => (34, 40),
        };
        let port = u16::from_be_bytes([frame[at], frame[at + 1]]);
        if frame[26..30] == NODE_A.octets() && port != 4000 {
            frame[at..at + 2].fill(0);
            frame[sum..sum + 2].fill(0);
        }
    }
}

fn after(says: &'static str, node: Snapshot, first: &'static [fn() -> (PortId, Packet)]) -> Row {
    steps(says, node, move |bench| {
        for frame in first {
            let (port, frame) = frame();
            bench.send(port, &frame);
        }
    })
}

pub(crate) fn rows() -> Vec<Row> {
    [
        masquerade(),
        tcp(),
        errors(),
        invalid(),
        fragments(),
        host_ports(),
    ]
    .concat()
}

fn masquerade() -> Vec<Row> {
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

fn tcp() -> Vec<Row> {
    let from_x = |seq, ack, flags, data: &'static [u8]| {
        (
            UPLINK,
            from_r() / segment((X, 80), (NODE_A, 4000), seq, ack, flags, data),
        )
    };
    let a1_sends = |seq, ack, flags, data: &'static [u8]| {
        (
            POD1,
            from_a1() / segment((A1, 4000), (X, 80), seq, ack, flags, data),
        )
    };
    let connected = |says, frames: Vec<(PortId, Packet)>| {
        steps(says, masq(), move |b| {
            handshake(b);
            for (port, frame) in &frames {
                b.send(*port, frame);
            }
        })
    };
    vec![
        connected(
            "a connection opens, carries data both ways and closes",
            vec![
                a1_sends(101, 501, ACK | 8, b"GET /"),
                from_x(501, 106, ACK | 8, b"200 OK"),
                a1_sends(106, 507, ACK, b""),
                a1_sends(106, 507, FIN | ACK, b""),
                from_x(507, 107, FIN | ACK, b""),
                a1_sends(107, 508, ACK, b""),
            ],
        ),
        connected(
            "a reset ends a connection",
            vec![from_x(501, 101, RST, b""), from_x(501, 101, ACK, b"late")],
        ),
        connected(
            "a reset out of the window is not passed on",
            vec![from_x(90_000_000, 0, RST, b"")],
        ),
        connected(
            "data far out of the window is not passed on",
            vec![from_x(90_000_000, 101, ACK, b"blind")],
        )
        .differs(Differs::But(
            without_resets,
            "NAT-34: what is INVALID does not reach the node's own TCP",
        )),
        connected(
            "a retransmission passes",
            vec![
                a1_sends(101, 501, ACK | 8, b"GET /"),
                a1_sends(101, 501, ACK | 8, b"GET /"),
            ],
        ),
        row(
            "an ACK in the middle of nothing is picked up",
            masq(),
            [
                a1_sends(7000, 8000, ACK, b"data"),
                from_x(8000, 7004, ACK, b"more"),
            ],
        ),
        row(
            "a SYN that was not answered can be repeated",
            masq(),
            [a1_sends(100, 0, SYN, b""), a1_sends(100, 0, SYN, b"")],
        ),
        row(
            "both may open at once",
            masq(),
            [
                a1_sends(100, 0, SYN, b""),
                from_x(500, 0, SYN, b""),
                a1_sends(100, 501, SYN | ACK, b""),
                from_x(500, 101, SYN | ACK, b""),
            ],
        ),
        connected(
            "a new SYN follows a reset on the same ports",
            vec![
                a1_sends(101, 501, RST | ACK, b""),
                a1_sends(9000, 0, SYN, b""),
                from_x(70000, 9001, SYN | ACK, b""),
            ],
        ),
        row(
            "a SYN to a mapped port from somebody else is the node's",
            masq(),
            [
                a1_sends(100, 0, SYN, b""),
                (
                    UPLINK,
                    from_r() / segment((Y, 80), (NODE_A, 4000), 1, 0, SYN, b""),
                ),
            ],
        ),
        row(
            "a reset without a connection passes between pods",
            masq(),
            [(
                POD1,
                from_a1() / segment((A1, 4000), (B1, 80), 1, 0, RST, b""),
            )],
        ),
        row(
            "a SYN/ACK without a connection passes between pods",
            masq(),
            [(
                POD1,
                from_a1() / segment((A1, 4000), (B1, 80), 1, 2, SYN | ACK, b""),
            )],
        ),
    ]
}

fn without_resets(frames: &mut Frames) {
    frames.retain(|(_, f)| {
        f.len() < 54 || f[23] != 6 || f[47] & RST == 0 || f[26..30] != NODE_A.octets()
    });
}

fn errors() -> Vec<Row> {
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

fn invalid() -> Vec<Row> {
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

fn fragments() -> Vec<Row> {
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

fn host_ports() -> Vec<Row> {
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

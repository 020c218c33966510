//! Masqueraded TCP: what a segment does to its connection.

use super::*;

pub(super) fn tcp() -> Vec<Row> {
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

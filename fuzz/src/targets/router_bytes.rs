//! A router under any configuration and any frames.
//!
//! What must hold is in [`bench`](crate::bench), what configurations there are in [`node`](crate::node).

use core::time::Duration;

use router_core::frame::{Gso, GsoKind, MAX_FRAME, Offload, Partial};
use router_core::{Limits, PortId, Stats};

use crate::bench::{Bench, ones_complement_sum, repair};
use crate::input::Input;
use crate::node::{POD_MAC, ROUTER_MAC, snapshot};

/// Limits in a byte, configuration in three, then steps: a frame on a port as it is or repaired, time that passes, a new
/// configuration, neighbours flushed.
pub fn run(bytes: &[u8]) {
    let _ = play(bytes);
}

/// [`run`], and what the router counted.
#[must_use]
pub fn play(bytes: &[u8]) -> Stats {
    let mut input = Input::new(bytes);
    let tight = input.byte() & 1 != 0;
    let limits = if tight {
        Limits {
            neighbours: 4,
            held_per_neighbour: 3,
            held: 6,
            fragments: 8,
            fdb: 3,
            shaped: 4,
        }
    } else {
        Limits::default()
    };
    let first = snapshot(&mut input);
    let mut bench = Bench::new(limits, first, !tight);
    while !input.is_empty() {
        let op = input.byte();
        match op {
            0..=0xbf => {
                let length = usize::from(input.word()) % (MAX_FRAME + 1);
                let mut frame = input.bytes(length).to_vec();
                if op & 0x40 != 0 {
                    repair(&mut frame);
                }
                bench.receive(PortId(u16::from(op & 7)), &frame);
            }
            0xd8..=0xdf => left_undone(&mut bench, PortId(u16::from(op & 7)), &mut input),
            0xc0..=0xd7 => bench.advance(Duration::from_millis(u64::from(input.word()))),
            0xe0..=0xef => {
                let next = snapshot(&mut input);
                bench.reconfigure(next);
            }
            _ => {
                bench.flush_neighbours((op & 8 != 0).then_some(PortId(u16::from(op & 7))));
            }
        }
    }
    // Whatever waits is answered or given up in the end: no frame is held for ever.
    bench.advance(Duration::from_secs(60));
    bench.advance(Duration::from_secs(60));
    assert_eq!(
        bench.router().held(),
        0,
        "frames are still held two minutes later"
    );
    bench.router().stats().clone()
}

/// A frame that a device has left something undone on: what it says of it, right or wrong, and the frame.
fn left_undone(bench: &mut Bench, port: PortId, input: &mut Input<'_>) {
    let how = input.byte();
    let (start, offset, size) = (input.word(), input.word(), input.word());
    // Bytes of a tail are all alike: it is their number that matters.
    let tail = vec![
        how;
        if how & 0x10 != 0 {
            usize::from(input.word())
        } else {
            0
        }
    ];
    let length = usize::from(input.word()) % (MAX_FRAME + 1);
    let mut head = input.bytes(length).to_vec();
    if how & 0x40 != 0 {
        repair(&mut head);
        set_total_len(&mut head, tail.len());
    }
    let own = own_partial(&head).filter(|_| how & 1 != 0);
    let kind = [GsoKind::TcpV4, GsoKind::TcpV6, GsoKind::Udp][usize::from((how >> 2) & 3) % 3];
    let offload = Offload {
        partial: own.or_else(|| (how & 0x20 != 0).then_some(Partial { start, offset })),
        gso: (how & 2 != 0).then_some(Gso {
            kind,
            size,
            ecn: false,
        }),
    };
    bench.receive_offload(port, &head, &tail, Some(offload));
}

/// Makes the total length that of the head and `more` bytes.
fn set_total_len(frame: &mut [u8], more: usize) {
    if frame.len() < 34 {
        return;
    }
    let total = u16::try_from(frame.len() - 14 + more).unwrap_or(u16::MAX);
    let packet = &mut frame[14..];
    let header = usize::from(packet[0] & 15) * 4;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet[10..12].fill(0);
    let sum = !ones_complement_sum(&packet[..header]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// What a device says that leaves the checksum of this TCP or UDP packet to others.
fn own_partial(frame: &[u8]) -> Option<Partial> {
    let header = u16::from(frame.get(14)? & 15) * 4;
    let offset = match frame.get(23)? {
        6 => 16,
        17 => 6,
        _ => return None,
    };
    Some(Partial {
        start: 14 + header,
        offset,
    })
}

/// A step that receives `frame` on `port`.
fn step(port: u8, repaired: bool, frame: &[u8]) -> Vec<u8> {
    let mut bytes = vec![port | if repaired { 0x40 } else { 0 }];
    bytes.extend(
        u16::try_from(frame.len())
            .expect("a short frame")
            .to_be_bytes(),
    );
    bytes.extend(frame);
    bytes
}

/// UDP from 1000 to 53, with 12 bytes.
const DATAGRAM: [u8; 20] = [
    3, 232, 0, 53, 0, 20, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
];

/// TCP from 1000 to 80, PSH and ACK, with one byte.
const SEGMENT: [u8; 21] = [
    3, 232, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 1, 0, 0, 0, 0, 0, b'x',
];

/// A step that receives `frame` with something left to do: see [`left_undone`] for `how`.
fn undone(port: u8, how: u8, size: u16, tail: u16, frame: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xd8 | port, how, 0, 36, 0, 2];
    bytes.extend(size.to_be_bytes());
    if how & 0x10 != 0 {
        bytes.extend(tail.to_be_bytes());
    }
    let len = u16::try_from(frame.len()).expect("a short frame");
    bytes.extend(len.to_be_bytes());
    bytes.extend(frame);
    bytes
}

/// Ordinary traffic on an ordinary node.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let ipv4 = |src: [u8; 4], dst: [u8; 4], ttl: u8, protocol: u8, payload: &[u8]| {
        let mut frame = vec![0; 34];
        frame[6..12].copy_from_slice(&POD_MAC.0);
        frame[14] = 0x45;
        frame[22] = ttl;
        frame[23] = protocol;
        frame[26..30].copy_from_slice(&src);
        frame[30..34].copy_from_slice(&dst);
        frame.extend(payload);
        frame
    };
    let echo = [8, 0, 0xf7, 0xfe, 0, 1, 0, 0];
    let arp = |op: u8, sender: [u8; 4], target: [u8; 4]| {
        let mut frame = vec![0xff; 6];
        frame.extend(POD_MAC.0);
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, op]);
        frame.extend(POD_MAC.0);
        frame.extend(sender);
        frame.extend([0; 6]);
        frame.extend(target);
        frame
    };
    // What the peer tunnels to the first pod, and what a router says about what was tunnelled to the peer.
    let tunnelled = |inner: &[u8]| {
        let mut frame = ipv4([172, 16, 30, 4], [172, 16, 30, 3], 63, 4, inner);
        repair(&mut frame);
        frame
    };
    let (pod_a, pod_b, far, node) = (
        [10, 244, 0, 2],
        [10, 244, 0, 3],
        [10, 244, 1, 2],
        [172, 16, 30, 3],
    );
    let steps: Vec<Vec<u8>> = vec![
        step(1, false, &arp(1, pod_a, [10, 244, 0, 1])),
        step(1, true, &ipv4(pod_a, pod_b, 64, 1, &echo)),
        step(2, false, &arp(2, pod_b, [10, 244, 0, 1])),
        step(
            1,
            true,
            &ipv4(pod_a, far, 64, 17, &[3, 232, 0, 53, 0, 9, 0, 0, b'x']),
        ),
        vec![0xc0, 0x10, 0],
        step(0, false, &arp(2, [172, 16, 30, 4], node)),
        step(
            1,
            true,
            &ipv4(pod_a, far, 1, 17, &[3, 232, 0, 53, 0, 9, 0, 0, b'x']),
        ),
        step(1, true, &ipv4(pod_a, node, 64, 1, &echo)),
        step(
            1,
            true,
            &ipv4(
                pod_a,
                node,
                64,
                6,
                &[
                    0, 99, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0,
                ],
            ),
        ),
        step(1, true, &ipv4(pod_a, [192, 0, 2, 70], 64, 17, &[0; 8])),
        step(3, true, &ipv4(node, far, 64, 1, &echo)),
        step(1, true, &{
            let mut frame = ipv4(
                pod_a,
                far,
                64,
                1,
                &[7, 7, 4, 0, 0, 0, 0, 0, 8, 0, 0xf7, 0xfe, 0, 1, 0, 0],
            );
            frame[14] = 0x47;
            frame
        }),
        step(1, true, &ipv4(pod_a, pod_b, 64, 17, &[0; 900])),
        step(1, true, &ipv4(pod_a, [192, 0, 2, 1], 64, 17, &[0; 8])),
        step(1, true, &ipv4(pod_a, [192, 0, 2, 130], 64, 17, &[0; 8])),
        step(1, true, &ipv4([127, 0, 0, 1], pod_b, 64, 17, &[0; 8])),
        step(1, true, &ipv4(pod_a, [172, 16, 30, 255], 64, 17, &[0; 8])),
        step(1, true, &ipv4(pod_a, [224, 0, 0, 5], 64, 17, &[0; 8])),
        // Not repaired: somebody else's MAC, a wrong checksum, a tag, a few bytes.
        step(1, false, &ipv4(pod_a, pod_b, 64, 17, &[0; 8])),
        step(1, false, &{
            let mut frame = ipv4(pod_a, pod_b, 64, 17, &[0; 8]);
            frame[..6].copy_from_slice(&ROUTER_MAC.0);
            frame[12] = 8;
            frame
        }),
        step(
            1,
            false,
            &[
                0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 2, 0x81, 0, 0, 5,
            ],
        ),
        step(1, false, &[0x86, 0xdd]),
        // An option without a length, a source route, and DF on a link with a small MTU.
        step(1, true, &{
            let mut frame = ipv4(pod_a, far, 64, 1, &[7, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            frame[14] = 0x46;
            frame
        }),
        step(1, true, &{
            let mut frame = ipv4(pod_a, far, 64, 1, &[131, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            frame[14] = 0x46;
            frame
        }),
        step(1, true, &{
            let mut frame = ipv4(pod_a, pod_b, 64, 17, &[0; 900]);
            frame[20] = 0x40;
            frame
        }),
        step(0, true, &{
            let mut inner = ipv4(far, pod_a, 63, 1, &echo);
            repair(&mut inner);
            tunnelled(&inner[14..])
        }),
        step(0, true, &{
            let mut inner = ipv4(far, [10, 244, 0, 64], 63, 1, &echo);
            repair(&mut inner);
            tunnelled(&inner[14..])
        }),
        step(0, true, &{
            let mut inner = ipv4(pod_a, far, 63, 17, &[3, 232, 0, 53, 0, 9, 0, 0, b'x']);
            repair(&mut inner);
            let mut outer = ipv4(node, [172, 16, 30, 4], 63, 4, &inner[14..]);
            repair(&mut outer);
            let mut message = vec![3, 4, 0, 0, 0, 0, 5, 0x78];
            message.extend(&outer[14..]);
            let sum = !ones_complement_sum(&message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            ipv4([172, 16, 30, 1], node, 64, 1, &message)
        }),
        step(1, true, &ipv4(pod_a, [198, 51, 100, 1], 64, 17, &[0; 8])),
        // To the world and back, and to the host port.
        step(
            1,
            true,
            &ipv4(
                pod_a,
                [172, 16, 30, 4],
                64,
                17,
                &[3, 232, 0, 53, 0, 9, 0, 0, b'x'],
            ),
        ),
        step(
            0,
            true,
            &ipv4(
                [172, 16, 30, 4],
                node,
                64,
                17,
                &[0, 53, 3, 232, 0, 9, 0, 0, b'y'],
            ),
        ),
        step(
            0,
            true,
            &ipv4(
                [172, 16, 30, 4],
                node,
                64,
                17,
                &[3, 232, 0x1f, 0x90, 0, 9, 0, 0, b'z'],
            ),
        ),
        step(
            1,
            true,
            &ipv4(
                pod_a,
                [172, 16, 30, 4],
                64,
                17,
                &[0, 80, 3, 232, 0, 9, 0, 0, b'w'],
            ),
        ),
        // Two fragments of a datagram, the second first.
        step(1, true, &{
            let mut frame = ipv4(pod_a, far, 64, 17, &[0; 16]);
            frame[21] = 2;
            frame
        }),
        step(1, true, &{
            let mut frame = ipv4(pod_a, far, 64, 17, &[0; 16]);
            frame[20] = 0x20;
            frame
        }),
        // An open checksum, a superframe of two, one of TCP with a tail, to a pod, far away and to the node; and lies.
        undone(1, 0x41, 0, 0, &ipv4(pod_a, far, 64, 17, &DATAGRAM)),
        undone(1, 0x4b, 5, 0, &ipv4(pod_a, pod_b, 64, 17, &DATAGRAM)),
        undone(1, 0x53, 1000, 5000, &ipv4(pod_a, far, 64, 6, &SEGMENT)),
        undone(1, 0x53, 1000, 65_000, &ipv4(pod_a, far, 64, 6, &SEGMENT)),
        undone(1, 0x53, 700, 3000, &ipv4(pod_a, node, 64, 6, &SEGMENT)),
        undone(1, 0x53, 700, 3000, &ipv4(pod_a, far, 1, 6, &SEGMENT)),
        undone(1, 0x53, 1900, 3000, &ipv4(pod_a, far, 64, 6, &SEGMENT)),
        undone(1, 0x53, 0, 3000, &ipv4(pod_a, far, 64, 6, &SEGMENT)),
        undone(1, 0x62, 7, 0, &ipv4(pod_a, far, 64, 6, &SEGMENT)),
        undone(1, 0x60, 0, 0, &ipv4(pod_a, far, 64, 99, &SEGMENT)),
        vec![0xe0, 0x71, 0xff, 0x0f],
        vec![0xe0, 0x80, 0xff, 0x0f],
        vec![0xe0, 0, 0xff, 0x0f],
        vec![0xf0],
    ];
    let mut seeds = Vec::new();
    // Limits, kind of node, flags.
    for config in [
        [0, 0, 0b1100_0000, 0],
        [1, 0, 0b1101_0000, 8],
        [0, 0, 0b1000_0111, 1],
        [0, 0x01, 0b1100_0000, 8],
        [0, 0x71, 0b1100_0001, 8],
        [0, 0x80, 0b1100_0000, 8],
        [1, 0x82, 0b1100_0000, 8],
        [0, 2, 0b1100_0000, 8],
        [0, 6, 0b1100_0001, 0],
        [0, 8, 0b1100_0000, 0x68],
        [0, 0, 0b1100_0000, 0x88],
    ] {
        let mut all = config.to_vec();
        for step in &steps {
            let mut one = config.to_vec();
            one.extend(step);
            seeds.push(one);
            all.extend(step);
        }
        seeds.push(all);
    }
    seeds
}

//! Connections through a masquerading node, their answers, and ICMP errors about them; beside it a list of what was
//! translated to what.
//!
//! Holds: a pod's packet leaves with the node's address; no two connections to one peer have one port; an answer comes to
//! the pod that asked, with its own port (INV-4); an error from anywhere on the way comes to the pod that sent the packet
//! and quotes what the pod sent, with checksums that are right; no packet leaves with a pod's address unless a pod was
//! spoken to first (INV-5). And everything that [`bench`](crate::bench) checks.

use core::time::Duration;

use router_core::config::PermanentNeighbour;
use router_core::testing::offload::partial;
use router_core::{Limits, PortId};

use crate::bench::{Bench, ones_complement_sum};
use crate::input::Input;
use crate::node::{A, B, ETH0, NODE, PEER, PEER_MAC, POD_A, POD_B, POD_MAC, ROUTER_MAC, snapshot};

const UDP: u8 = 17;
const ICMP: u8 = 1;

/// Addresses that the pods speak to, all by way of the peer.
const OUTSIDE: [[u8; 4]; 3] = [[172, 16, 30, 4], [203, 0, 113, 1], [203, 0, 113, 2]];

/// What leaves, and what it was: protocol, port of the node, peer, its port; pod, its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mapping {
    protocol: u8,
    pod: (PortId, [u8; 4]),
    pod_port: u16,
    node_port: u16,
    peer: [u8; 4],
    peer_port: u16,
}

/// An IPv4 packet with a UDP datagram or an echo message in it, checksums right.
fn packet(
    protocol: u8,
    (src, src_port): ([u8; 4], u16),
    (dst, dst_port): ([u8; 4], u16),
    reply: bool,
    options: &[u8],
) -> Vec<u8> {
    let mut body = Vec::new();
    if protocol == UDP {
        body.extend(src_port.to_be_bytes());
        body.extend(dst_port.to_be_bytes());
        body.extend([0, 12, 0, 0]);
    } else {
        body.extend([if reply { 0 } else { 8 }, 0, 0, 0]);
        // The identification is the port of both.
        body.extend(if reply { dst_port } else { src_port }.to_be_bytes());
        body.extend([0, 1]);
    }
    body.extend(b"data");
    let mut summed = Vec::new();
    if protocol == UDP {
        summed.extend(src);
        summed.extend(dst);
        summed.extend([0, UDP, 0, 12]);
    }
    summed.extend(&body);
    let at = if protocol == UDP { 6 } else { 2 };
    let sum = match !ones_complement_sum(&summed) {
        0 if protocol == UDP => 0xffff,
        sum => sum,
    };
    body[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    ipv4(protocol, src, dst, options, &body)
}

fn ipv4(protocol: u8, src: [u8; 4], dst: [u8; 4], options: &[u8], body: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let total = u16::try_from(header + body.len()).expect("short");
    let mut packet = vec![0x40 | u8::try_from(header / 4).expect("at most 15"), 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 7, 0, 0, 64, protocol, 0, 0]);
    packet.extend(src);
    packet.extend(dst);
    packet.extend(options);
    let sum = !ones_complement_sum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(body);
    packet
}

fn frame(dst: [u8; 6], src: [u8; 6], packet: &[u8]) -> Vec<u8> {
    [&dst[..], &src, &[8, 0], packet].concat()
}

/// The port at `at` of what follows the IPv4 header.
fn port(packet: &[u8], at: usize) -> u16 {
    let header = usize::from(packet[0] & 15) * 4;
    u16::from_be_bytes([packet[header + at], packet[header + at + 1]])
}

/// Checks the checksum of the UDP datagram or ICMP message in a packet.
fn check_transport(packet: &[u8]) {
    let header = usize::from(packet[0] & 15) * 4;
    let body = &packet[header..];
    let mut summed = Vec::new();
    if packet[9] == UDP {
        let len = u16::try_from(body.len()).expect("short");
        summed.extend(&packet[12..20]);
        summed.extend([0, UDP]);
        summed.extend(len.to_be_bytes());
    }
    summed.extend(body);
    assert_eq!(ones_complement_sum(&summed), 0xffff, "{packet:02x?}");
}

struct World {
    bench: Bench,
    mappings: Vec<Mapping>,
}

impl World {
    fn new() -> Self {
        let mut node = snapshot(&mut Input::new(&[0x80, 0b0000_0000, 8]));
        // Everything outside is behind the peer, and all are known.
        for route in &mut node.routes {
            if let router_core::config::RouteTarget::Unicast(hops) = &mut route.target {
                for hop in hops
                    .iter_mut()
                    .filter(|h| h.port == ETH0 && h.via.is_some())
                {
                    hop.via = Some(PEER);
                }
            }
        }
        let mut default = node.routes[2].clone();
        default.dst = "0.0.0.0/0".parse().expect("a literal prefix");
        node.routes.push(default);
        node.neighbours.push(PermanentNeighbour {
            port: POD_B,
            ip: B,
            mac: POD_MAC,
        });
        Self {
            bench: Bench::new(Limits::default(), node, true),
            mappings: Vec::new(),
        }
    }

    /// A frame in, and the packets that came out.
    /// With `open` a transport checksum is left to whoever sends it on.
    fn exchange(&mut self, port: PortId, frame: &[u8], open: bool) -> Vec<(PortId, Vec<u8>)> {
        if open && frame[23] == UDP {
            let (frame, offload) = partial(frame);
            self.bench.receive_offload(port, &frame, &[], Some(offload));
        } else {
            self.bench.receive(port, frame);
        }
        let sent = self.bench.take_sent();
        for (port, frame) in &sent {
            // INV-5: nobody speaks to the pods first here, but for the host port, whose answers are the node's.
            let src = &frame[26..30];
            assert!(
                *port != ETH0 || frame[12..14] != [8, 0] || src[..2] != [10, 244],
                "left with a pod's address: {frame:02x?}"
            );
        }
        sent.into_iter()
            .filter(|(_, frame)| frame[12..14] == [8, 0])
            .map(|(port, frame)| (port, frame[14..].to_vec()))
            .collect()
    }

    fn outbound(
        &mut self,
        protocol: u8,
        pod: (PortId, [u8; 4]),
        pod_port: u16,
        peer: ([u8; 4], u16),
        open: bool,
    ) {
        let sent = self.exchange(
            pod.0,
            &frame(
                ROUTER_MAC.0,
                POD_MAC.0,
                &packet(protocol, (pod.1, pod_port), peer, false, &[]),
            ),
            open,
        );
        let [(ETH0, out)] = &sent[..] else {
            panic!("one packet leaves: {sent:02x?}");
        };
        assert_eq!(out[12..20], [&NODE.octets()[..], &peer.0].concat());
        check_transport(out);
        let node_port = port(out, if protocol == UDP { 0 } else { 4 });
        let mapping = Mapping {
            protocol,
            pod,
            pod_port,
            node_port,
            peer: peer.0,
            peer_port: if protocol == UDP { peer.1 } else { 0 },
        };
        let inside = |m: &Mapping| (m.protocol, m.pod, m.pod_port, m.peer, m.peer_port);
        let outside = |m: &Mapping| (m.protocol, m.node_port, m.peer, m.peer_port);
        for other in &self.mappings {
            assert_eq!(
                inside(other) == inside(&mapping),
                outside(other) == outside(&mapping),
                "one connection, one mapping: {other:?} and {mapping:?}"
            );
        }
        if !self.mappings.contains(&mapping) {
            self.mappings.push(mapping);
        }
    }

    fn answer(&mut self, m: Mapping, open: bool) {
        let reply = packet(
            m.protocol,
            (m.peer, m.peer_port),
            (NODE.octets(), m.node_port),
            true,
            &[],
        );
        let sent = self.exchange(ETH0, &frame(ROUTER_MAC.0, PEER_MAC.0, &reply), open);
        let [(to, inside)] = &sent[..] else {
            panic!("one packet arrives for {m:?}: {sent:02x?}");
        };
        assert_eq!(*to, m.pod.0);
        assert_eq!(inside[12..20], [m.peer, m.pod.1].concat());
        let at = if m.protocol == UDP { 2 } else { 4 };
        assert_eq!(port(inside, at), m.pod_port);
        check_transport(inside);
    }

    /// A router outside, or the peer itself, reports the packet of this mapping, quoting `quoted` bytes behind its header.
    fn report(&mut self, m: Mapping, op: u8, quoted: usize) {
        let options: &[u8] = if op & 4 != 0 { &[1, 1, 1, 0] } else { &[] };
        let cause = packet(
            m.protocol,
            (NODE.octets(), m.node_port),
            (m.peer, m.peer_port),
            false,
            options,
        );
        let mut message = match op & 3 {
            0 => vec![3, 1, 0, 0, 0, 0, 0, 0],
            1 => vec![11, 0, 0, 0, 0, 0, 0, 0],
            2 => vec![3, 4, 0, 0, 0, 0, 5, 0x78],
            _ => vec![12, 0, 0, 0, 20, 0, 0, 0],
        };
        message.extend(&cause[..(20 + options.len() + quoted).min(cause.len())]);
        let sum = !ones_complement_sum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let from = OUTSIDE[usize::from(op >> 3) % 3];
        let error = ipv4(ICMP, from, NODE.octets(), &[], &message);
        let sent = self.exchange(ETH0, &frame(ROUTER_MAC.0, PEER_MAC.0, &error), false);
        if quoted < 8 {
            assert!(
                !sent.iter().any(|(port, _)| *port != ETH0),
                "too short a quotation says nothing about anybody"
            );
            return;
        }
        let [(to, inside)] = &sent[..] else {
            panic!("the error about {m:?} arrives: {sent:02x?}");
        };
        assert_eq!(*to, m.pod.0);
        assert_eq!(inside[12..20], [from, m.pod.1].concat());
        check_transport(inside);
        assert_eq!(inside[20..22], message[..2]);
        assert_eq!(inside[24..28], message[4..8], "the MTU, or the pointer");
        let quote = &inside[28..];
        let header = 20 + options.len();
        assert_eq!(quote[12..20], [m.pod.1, m.peer].concat());
        assert_eq!(ones_complement_sum(&quote[..header]), 0xffff);
        let at = if m.protocol == UDP { 0 } else { 4 };
        assert_eq!(port(quote, at), m.pod_port);
        // What the pod sent had a right checksum: where the whole packet is quoted, so it has again.
        if quote.len() == cause.len() {
            check_transport(quote);
        }
    }
}

/// Steps: a pod speaks, is answered, is reported about; anything from anywhere; time.
pub fn run(bytes: &[u8]) {
    let _ = play(bytes);
}

/// [`run`], and how many mappings there were.
#[must_use]
pub fn play(bytes: &[u8]) -> usize {
    let mut world = World::new();
    let mut input = Input::new(bytes);
    for _ in 0..128 {
        if input.is_empty() {
            break;
        }
        let op = input.byte();
        let which = usize::from(input.byte());
        let known =
            (!world.mappings.is_empty()).then(|| world.mappings[which % world.mappings.len()]);
        match (op >> 5, known) {
            (0 | 1, _) => {
                let pod = if op & 1 != 0 {
                    (POD_A, A.octets())
                } else {
                    (POD_B, B.octets())
                };
                let protocol = if op & 2 != 0 { UDP } else { ICMP };
                // Few ports, so that they clash; all kinds, so that every class is met.
                let pod_port = [0, 53, 600, 4000, 4001, 65535][which % 6];
                let peer_port = if op & 4 != 0 { 53 } else { 8080 };
                let peer = OUTSIDE[usize::from(op >> 3 & 3) % 3];
                let open = which & 128 != 0;
                world.outbound(protocol, pod, pod_port, (peer, peer_port), open);
            }
            (2 | 3, Some(mapping)) => world.answer(mapping, which & 128 != 0),
            (4 | 5, Some(mapping)) => {
                let quoted = usize::from(input.byte() % 16);
                world.report(mapping, op & 31, quoted);
            }
            (6, _) => {
                // Whatever it is, it changes no mapping: an error does not, and nobody outside can.
                let body = input.counted();
                let hostile = ipv4(op & 31, OUTSIDE[which % 3], NODE.octets(), &[], body);
                let mut frame = frame(ROUTER_MAC.0, PEER_MAC.0, &hostile);
                if which & 64 != 0 && frame.len() >= 38 {
                    // With an ICMP checksum that is right.
                    frame[36..38].fill(0);
                    let sum = !ones_complement_sum(&frame[34..]);
                    frame[36..38].copy_from_slice(&sum.to_be_bytes());
                }
                world.exchange(ETH0, &frame, false);
            }
            (7, _) if op & 16 != 0 => {
                world
                    .bench
                    .advance(Duration::from_millis(u64::from(input.word())));
                // Connections may be gone, and their ports given away.
                world.mappings.clear();
            }
            _ => {}
        }
    }
    world.mappings.len()
}

/// Every kind of step, clashing ports, and time between.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for op in 0..64 {
        all.extend([op, op % 6]);
        all.extend([op, 0x80 | (op % 6)]);
    }
    for which in 0..8 {
        all.extend([0x40, which, 0x60, which, 0x40, 0x80 | which]);
        all.extend([0x80 | which, which, 8 + which, 0xa0 | which, which, which]);
    }
    let hostile = [0xc1, 0x40, 12, 3, 4, 0, 0, 0, 0, 5, 0x78, 0x45, 0, 0, 20];
    let mut short = vec![0x03, 3, 0x40, 0, 0x80, 0, 8];
    short.extend(hostile);
    short.extend([0xf0, 0, 0xff, 0xff, 0x03, 3]);
    vec![
        all,
        short,
        vec![0x02, 0, 0x03, 0, 0x43, 1],
        hostile.to_vec(),
    ]
}

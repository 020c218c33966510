//! Masquerading, host ports and their errors: sequences in both directions.
//!
//! The chains are those that the presets make, in iptables on the kernel's side.

mod errors;
mod host_ports;
mod masquerade;
mod tcp;

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
        masquerade::masquerade(),
        tcp::tcp(),
        errors::errors(),
        errors::invalid(),
        masquerade::fragments(),
        host_ports::host_ports(),
    ]
    .concat()
}

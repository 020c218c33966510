//! Packets into the tunnel and out of it, beside an encoder and a decoder of a few lines each.
//!
//! Holds: what fits goes into the tunnel in one packet whose outer header is what RFC 2003, RFC 6040 and Linux make of
//! the inner one, with nothing inside changed but the TTL; what does not fit or has no hop left does not; what comes out is
//! the inner packet with its TTL lowered and its congestion mark joined, or nothing. And everything that
//! [`bench`](crate::bench) checks.

use router_core::Limits;
use router_core::config::{Ipip, PortKind, TunnelEcn};

use crate::bench::{Bench, ones_complement_sum};
use crate::input::Input;
use crate::node::{A, ETH0, NODE, PEER, PEER_MAC, POD_A, POD_MAC, ROUTER_MAC, TUNL0, snapshot};

/// A pod of the peer's.
const FAR: [u8; 4] = [10, 244, 1, 2];
/// Who sends outer packets: the peer, and nobody that the node knows.
const SOURCES: [[u8; 4]; 2] = [[172, 16, 30, 4], [172, 16, 30, 99]];

/// What the input says about a packet.
#[derive(Clone, Copy, Debug)]
struct Fields {
    tos: u8,
    id: u16,
    df: bool,
    ttl: u8,
    protocol: u8,
    src: [u8; 4],
    dst: [u8; 4],
}

fn packet(fields: Fields, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + payload.len()).expect("short");
    let mut packet = vec![0x45, fields.tos];
    packet.extend(total.to_be_bytes());
    packet.extend(fields.id.to_be_bytes());
    packet.extend([
        if fields.df { 0x40 } else { 0 },
        0,
        fields.ttl,
        fields.protocol,
        0,
        0,
    ]);
    packet.extend(fields.src);
    packet.extend(fields.dst);
    let sum = !ones_complement_sum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

fn frame(dst: [u8; 6], src: [u8; 6], packet: &[u8]) -> Vec<u8> {
    [&dst[..], &src, &[8, 0], packet].concat()
}

/// A byte of settings, then packets: which way, header fields, length, and for those from outside an outer header.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let settings = input.byte();
    let rfc6040 = settings & 1 != 0;
    let filter = settings & 2 != 0;
    let outer_ttl = (settings & 4 != 0).then_some(64);
    let mtu = if settings & 8 != 0 { 576 } else { 1480 };
    let kind = if filter { 0x21 } else { 0x01 };
    let mut node = snapshot(&mut Input::new(&[kind, 0b1000_0000, 8]));
    for port in node.ports.iter_mut().filter(|p| p.id == TUNL0) {
        port.mtu = mtu;
        port.kind = PortKind::Ipip(Ipip {
            outer_ttl,
            ecn: if rfc6040 {
                TunnelEcn::Rfc6040
            } else {
                TunnelEcn::Linux
            },
        });
    }
    let mut bench = Bench::new(Limits::default(), node, true);
    for _ in 0..64 {
        if input.is_empty() {
            break;
        }
        let op = input.byte();
        let mut fields = Fields {
            tos: input.byte(),
            id: input.word(),
            df: op & 1 != 0,
            ttl: input.byte(),
            protocol: 17,
            src: A.octets(),
            dst: FAR,
        };
        let payload = vec![input.byte(); usize::from(input.word()) % 1461];
        if op & 2 == 0 {
            let inner = packet(fields, &payload);
            bench.receive(POD_A, &frame(ROUTER_MAC.0, POD_MAC.0, &inner));
            let sent: Vec<Vec<u8>> = bench
                .take_sent()
                .into_iter()
                .filter(|(port, frame)| *port == ETH0 && frame[23] == 4)
                .map(|(_, frame)| frame)
                .collect();
            encapsulated(&sent, fields, &payload, &inner, mtu, outer_ttl, rfc6040);
        } else {
            (fields.src, fields.dst) = (FAR, A.octets());
            let outer_tos = input.byte();
            let src = SOURCES[usize::from(op & 4 != 0)];
            let outer = Fields {
                tos: outer_tos,
                ttl: 9,
                protocol: 4,
                src,
                dst: NODE.octets(),
                ..fields
            };
            let inner = packet(fields, &payload);
            bench.receive(
                ETH0,
                &frame(ROUTER_MAC.0, PEER_MAC.0, &packet(outer, &inner)),
            );
            let refused = filter && src != SOURCES[0];
            let joined = joined(outer_tos & 3, fields.tos & 3, rfc6040);
            let expected = match joined {
                Some(mark) if !refused && fields.ttl > 1 => {
                    let lowered = Fields {
                        tos: fields.tos & 0xfc | mark,
                        ttl: fields.ttl - 1,
                        ..fields
                    };
                    vec![frame(POD_MAC.0, ROUTER_MAC.0, &packet(lowered, &payload))]
                }
                _ => Vec::new(),
            };
            let sent: Vec<Vec<u8>> = bench
                .take_sent()
                .into_iter()
                .filter(|(port, _)| *port == POD_A)
                .map(|(_, frame)| frame)
                .collect();
            assert_eq!(sent, expected, "{outer:?} around {fields:?}");
        }
    }
}

/// What a packet of the pod must have become.
fn encapsulated(
    sent: &[Vec<u8>],
    fields: Fields,
    payload: &[u8],
    inner: &[u8],
    mtu: u16,
    outer_ttl: Option<u8>,
    rfc6040: bool,
) {
    let fits = inner.len() <= usize::from(mtu);
    if fields.ttl <= 1 || (!fits && fields.df) {
        assert!(sent.is_empty(), "{fields:?} went into the tunnel");
        return;
    }
    if !fits {
        // Cut before it is tunnelled: each piece whole, none longer than the tunnel is wide.
        let mut data: Vec<u8> = Vec::new();
        for frame in sent {
            assert!(frame.len() <= 14 + 20 + usize::from(mtu));
            assert_eq!(frame[20..22], [0, 0], "the outer packet is not cut");
            data.extend(&frame[54..]);
        }
        assert!(
            sent.len() > 1 && data == payload,
            "the pieces are the packet"
        );
        return;
    }
    let lowered = Fields {
        ttl: fields.ttl - 1,
        ..fields
    };
    let [one] = sent else {
        panic!("{} packets for {fields:?}", sent.len());
    };
    let outer = Fields {
        tos: match fields.tos & 3 {
            3 if !rfc6040 => 2,
            mark => mark,
        },
        // Its own choice, but never that of the packet before (INV-9 is a test of the router's).
        id: u16::from_be_bytes([one[18], one[19]]),
        df: fields.df,
        ttl: outer_ttl.unwrap_or(lowered.ttl),
        protocol: 4,
        src: NODE.octets(),
        dst: PEER.octets(),
    };
    let expected = frame(
        PEER_MAC.0,
        ROUTER_MAC.0,
        &packet(outer, &packet(lowered, payload)),
    );
    assert_eq!(one, &expected);
}

/// The inner mark after the tunnel (RFC 6040 4.2), none for a drop. Linux leaves ECT(0) under ECT(1) alone.
fn joined(outer: u8, inner: u8, rfc6040: bool) -> Option<u8> {
    match (inner, outer) {
        (0, 3) => None,
        (0, _) => Some(0),
        (_, 3) => Some(3),
        (2, 1) if rfc6040 => Some(1),
        (inner, _) => Some(inner),
    }
}

/// Into the tunnel, out of it, with every mark, too long, and from a stranger.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let into = |op: u8, tos: u8, len: u16| {
        let [high, low] = len.to_be_bytes();
        vec![op, tos, 0x12, 0x34, 64, 7, high, low]
    };
    let out_of = |op: u8, tos: u8, outer: u8| [into(op | 2, tos, 64), vec![outer]].concat();
    let mut all = vec![0];
    for mark in 0..16 {
        all.extend(into(mark & 1, 0xb8 | mark & 3, 40));
        all.extend(out_of(0, mark & 3, mark >> 2));
    }
    let mut seeds = vec![all];
    for settings in 0..16 {
        let mut seed = vec![settings];
        seed.extend(into(1, 0, 1460));
        seed.extend(into(0, 0, 1460));
        seed.extend(into(1, 3, 500));
        seed.extend(out_of(4, 2, 3));
        seed.extend(out_of(0, 2, 1));
        seed.extend(out_of(0, 0, 3));
        seeds.push(seed);
    }
    seeds
}

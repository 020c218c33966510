//! Superframes and partial checksums, built and taken apart the slow way: on bytes in a vector, sums a word at a time, with
//! no help from the router's code.

use alloc::vec::Vec;

use super::packet::naive_checksum;
use crate::frame::{Frame, FramePool, Gso, GsoKind, MAX_FRAME, Offload, Partial, Tail};

const TCP: u8 = 6;
const UDP: u8 = 17;
const IPIP: u8 = 4;

/// Where headers stand in a frame.
struct Places {
    /// IP headers, outermost first.
    ips: Vec<usize>,
    transport: usize,
    payload: usize,
    protocol: u8,
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from(bytes[at]) << 8 | u16::from(bytes[at + 1])
}

fn set_word(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn places(frame: &[u8]) -> Places {
    let mut at = 14;
    while matches!(word(frame, at - 2), 0x8100 | 0x88a8) {
        at += 4;
    }
    let mut ips = Vec::new();
    let (transport, protocol) = loop {
        ips.push(at);
        let (header, protocol) = match frame[at] >> 4 {
            6 => (40, frame[at + 6]),
            _ => (usize::from(frame[at] & 15) * 4, frame[at + 9]),
        };
        at += header;
        if protocol != IPIP {
            break (at, protocol);
        }
    };
    let header = if protocol == TCP {
        usize::from(frame[transport + 12] >> 4) * 4
    } else {
        8
    };
    Places {
        ips,
        transport,
        payload: transport + header,
        protocol,
    }
}

/// The bytes that a transport checksum covers, the pseudo header first, of a packet whose transport header is at `transport`.
fn covered(frame: &[u8], p: &Places) -> Vec<u8> {
    let mut all = pseudo(frame, p);
    all.extend(&frame[p.transport..]);
    all
}

fn pseudo(frame: &[u8], p: &Places) -> Vec<u8> {
    let ip = p.ips[p.ips.len() - 1];
    let addresses = if frame[ip] >> 4 == 6 {
        ip + 8..ip + 40
    } else {
        ip + 12..ip + 20
    };
    let mut all = frame[addresses].to_vec();
    all.extend([0, p.protocol]);
    let len = u16::try_from(frame.len() - p.transport).expect("an IP packet");
    all.extend(len.to_be_bytes());
    all
}

fn field(p: &Places) -> usize {
    p.transport + if p.protocol == TCP { 16 } else { 6 }
}

/// What a device makes of a whole TCP or UDP frame that leaves the checksum to others: the frame, and what is left to do.
#[must_use]
pub fn partial(frame: &[u8]) -> (Vec<u8>, Offload) {
    let p = places(frame);
    let mut bytes = frame.to_vec();
    let sum = !naive_checksum(&pseudo(frame, &p));
    set_word(&mut bytes, field(&p), sum);
    let start = u16::try_from(p.transport).expect("headers are short");
    let offset = u16::try_from(field(&p) - p.transport).expect("a header is short");
    let offload = Offload {
        partial: Some(Partial { start, offset }),
        gso: None,
    };
    (bytes, offload)
}

/// [`partial`], of a frame that is to be cut into segments with `size` bytes of payload each.
#[must_use]
pub fn superframe(frame: &[u8], size: u16) -> (Vec<u8>, Offload) {
    let (bytes, mut offload) = partial(frame);
    let p = places(frame);
    let kind = match (p.protocol, frame[p.ips[p.ips.len() - 1]] >> 4) {
        (TCP, 6) => GsoKind::TcpV6,
        (TCP, _) => GsoKind::TcpV4,
        _ => GsoKind::Udp,
    };
    let ecn = p.protocol == TCP && frame[p.transport + 13] & 0x80 != 0;
    offload.gso = Some(Gso { kind, size, ecn });
    (bytes, offload)
}

/// The frames that a wire carries for `frame`: its segments, or itself with its checksum completed.
#[must_use]
pub fn on_wire(frame: &[u8], offload: Offload) -> Vec<Vec<u8>> {
    let Some(partial) = offload.partial else {
        return alloc::vec![frame.to_vec()];
    };
    let Some(gso) = offload.gso else {
        let mut bytes = frame.to_vec();
        let start = usize::from(partial.start);
        let sum = match naive_checksum(&bytes[start..]) {
            0 if partial.offset == 6 => 0xffff,
            sum => sum,
        };
        set_word(&mut bytes, start + usize::from(partial.offset), sum);
        return alloc::vec![bytes];
    };
    let p = places(frame);
    // What is behind the packet is padding.
    let ends = p.ips.iter().map(|&ip| match frame[ip] >> 4 {
        6 => ip + 40 + usize::from(word(frame, ip + 4)),
        _ => ip + usize::from(word(frame, ip + 2)),
    });
    let end = ends.fold(frame.len(), usize::min);
    let (headers, payload) = frame[..end].split_at(p.payload);
    let pieces: Vec<&[u8]> = payload.chunks(gso.size.into()).collect();
    let last = pieces.len() - 1;
    let mut out = Vec::new();
    let mut seq = u32::from(word(frame, p.transport + 4)) << 16
        | if p.protocol == TCP {
            u32::from(word(frame, p.transport + 6))
        } else {
            0
        };
    for (n, piece) in pieces.into_iter().enumerate() {
        let mut bytes = headers.to_vec();
        bytes.extend(piece);
        let len = bytes.len();
        for &ip in &p.ips {
            let ip_len = u16::try_from(len - ip).expect("a segment is short");
            if bytes[ip] >> 4 == 6 {
                set_word(&mut bytes, ip + 4, ip_len - 40);
                continue;
            }
            set_word(&mut bytes, ip + 2, ip_len);
            let n = u16::try_from(n).expect("few segments");
            let id = word(&bytes, ip + 4).wrapping_add(n);
            set_word(&mut bytes, ip + 4, id);
            let header = ip..ip + usize::from(bytes[ip] & 15) * 4;
            set_word(&mut bytes, ip + 10, 0);
            let sum = naive_checksum(&bytes[header]);
            set_word(&mut bytes, ip + 10, sum);
        }
        if p.protocol == TCP {
            bytes[p.transport + 4..p.transport + 8].copy_from_slice(&seq.to_be_bytes());
            seq = seq.wrapping_add(u32::try_from(piece.len()).expect("short"));
            if n != last {
                bytes[p.transport + 13] &= !0x09;
            }
            if n != 0 {
                bytes[p.transport + 13] &= !0x80;
            }
        } else {
            let udp_len = u16::try_from(len - p.transport).expect("a datagram is short");
            set_word(&mut bytes, p.transport + 4, udp_len);
        }
        set_word(&mut bytes, field(&p), 0);
        let sum = match naive_checksum(&covered(&bytes, &p)) {
            0 if p.protocol == UDP => 0xffff,
            sum => sum,
        };
        set_word(&mut bytes, field(&p), sum);
        out.push(bytes);
    }
    out
}

/// A frame as an offload device hands it in: as much as fits in the head, at most `head` bytes, the rest in a tail.
///
/// # Panics
/// When the pool is empty.
pub fn frame(pool: &mut FramePool, bytes: &[u8], offload: Offload, head: usize) -> Frame {
    let mut frame = pool.alloc().expect("a frame for the packet");
    let (first, rest) = bytes.split_at(bytes.len().min(head).min(MAX_FRAME));
    assert!(frame.fill(first), "a head fits a slot");
    if offload != Offload::NONE {
        frame.set_offload(offload);
    }
    if !rest.is_empty() {
        frame.set_tail(Tail::on_heap(rest));
    }
    frame
}

/// All bytes of a frame, of head and tail.
#[must_use]
pub fn bytes(frame: &Frame) -> Vec<u8> {
    let mut bytes = alloc::vec![0; frame.len()];
    frame.read(0, &mut bytes);
    bytes
}

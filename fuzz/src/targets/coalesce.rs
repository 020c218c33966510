//! Segments that nearly belong together.
//!
//! Holds: what goes together is cut, the slow way, into the frames that it was, byte for byte but for identifications of
//! packets with DF; what does not go together has changed nothing; no order makes it panic.

use router_core::frame::{Frame, FramePool, MAX_FRAME, Offload};
use router_core::segment::Train;
use router_core::testing::offload::{self, on_wire};
use router_core::testing::{Packet, eth, ipv4, tcp, udp};

use crate::input::Input;
use crate::node::{A, B, POD_MAC, ROUTER_MAC};

/// Frames of an input.
const FRAMES: usize = 80;

/// Kind of headers and size in two bytes, then a frame for each five: how it differs from the one that would follow, and
/// a byte of it that is another.
pub fn run(bytes: &[u8]) {
    let _ = play(bytes);
}

/// [`run`], and how many frames the longest train had.
#[must_use]
pub fn play(bytes: &[u8]) -> usize {
    let mut input = Input::new(bytes);
    let kind = input.byte();
    let size = usize::from(input.byte()) + 1;
    let mut pool = FramePool::new(FRAMES);
    let mut frames: Vec<Frame> = Vec::new();
    let mut wire = Vec::new();
    let (mut seq, mut ident) = (u32::MAX - 500, 0xfffe_u16);
    while !input.is_empty() && frames.len() < FRAMES {
        let (op, how, flags) = (input.byte(), input.byte(), input.byte());
        let (at, byte) = (input.byte(), input.byte());
        let len = match op & 7 {
            0 => 0,
            1 => size + 1,
            2 => size - 1,
            3 => usize::from(how),
            _ => size,
        };
        if op & 0x08 != 0 {
            seq = seq.wrapping_add(u32::from(how & 3));
        }
        ident = ident.wrapping_add(u16::from(op & 0x10 == 0));
        let packet = segment(kind, (seq, flags), ident, len);
        seq = seq.wrapping_add(u32::try_from(len).expect("short"));
        let mut bytes = packet.bytes();
        if op & 0x20 != 0 {
            let place = usize::from(at) % bytes.len();
            bytes[place] = byte;
        }
        let (bytes, offload) = if op & 0x40 != 0 && op & 0x20 == 0 {
            offload::partial(&bytes)
        } else {
            (bytes, Offload::NONE)
        };
        wire.push(on_wire(&bytes, offload).remove(0));
        frames.push(offload::frame(&mut pool, &bytes, offload, MAX_FRAME));
    }
    let (mut at, mut longest) = (0, 0);
    while at < frames.len() {
        let count = check(&frames[at..], &wire[at..]);
        longest = longest.max(count);
        at += count.max(1);
    }
    frames.into_iter().for_each(|frame| pool.free(frame));
    longest
}

/// A packet of the flow.
fn segment(kind: u8, (seq, flags): (u32, u8), ident: u16, len: usize) -> Packet {
    let ip = || {
        let ip = ipv4(A, B).id(ident);
        if kind & 1 != 0 { ip.df() } else { ip }
    };
    let link = eth(ROUTER_MAC, POD_MAC);
    let packet = if kind & 2 != 0 {
        link / ipv4(B, A).id(ident) / ip()
    } else {
        link / ip()
    };
    let data: Vec<u8> = (0..=255_u8).cycle().take(len).collect();
    if kind & 8 != 0 {
        packet / udp(1000, 53) / data
    } else {
        let options: &[u8] = if kind & 16 != 0 {
            &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]
        } else {
            &[]
        };
        packet / tcp(1000, 80, 0x10 ^ flags).seq(seq).options(options) / data
    }
}

/// Checks the train that `frames` begin with, and gives its length.
fn check(frames: &[Frame], wire: &[Vec<u8>]) -> usize {
    let Ok(mut train) = Train::begin(&frames[0]) else {
        return 0;
    };
    let _ = frames[1..].iter().try_for_each(|frame| train.push(frame));
    let count = train.count();
    if let Some(next) = frames.get(count) {
        let mut refused = train.clone();
        assert!(refused.push(next).is_err());
        assert_eq!(refused.finish(), train.clone().finish());
    }
    let payload: Vec<u8> = frames[..count]
        .iter()
        .flat_map(|frame| train.payload(frame).to_vec())
        .collect();
    let (headers, offload) = train.finish();
    let cut = on_wire(&[headers, &payload].concat(), offload);
    assert_eq!(cut.len(), count);
    for (was, is) in wire.iter().zip(cut) {
        assert_eq!(forget_idents(was.clone()), forget_idents(is));
    }
    count
}

/// Identifications of packets with DF mean nothing (RFC 6864 4.1).
fn forget_idents(mut frame: Vec<u8>) -> Vec<u8> {
    let mut at = 14;
    while frame.len() >= at + 20 {
        if frame[at + 6] & 0x40 != 0 {
            frame[at + 4..at + 6].fill(0);
            frame[at + 10..at + 12].fill(0);
        }
        if frame[at + 9] != 4 {
            break;
        }
        at += 20;
    }
    frame
}

/// A long train of each kind, one with everything that ends one, and one frame alone.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for kind in 0..32 {
        let mut all = vec![kind, 99];
        for op in [
            4, 0x44, 4, 0x14, 4, 2, 4, 0x0c, 4, 4, 0x24, 1, 4, 0, 4, 3, 4,
        ] {
            all.extend([op, 1, u8::from(op == 3), 47, 0x18]);
        }
        seeds.push(all);
        let mut long = vec![kind, 255];
        for _ in 0..70 {
            long.extend([4, 0, 0, 0, 0]);
        }
        seeds.push(long);
    }
    seeds
}

//! Any frame, with anything said of it that a device could leave undone.
//!
//! Holds: nothing that is said does harm; what is let in can be finished; segments, a completed checksum and the first
//! segment alone are what the slow way makes of the same bytes; none is longer than it may be, and all together are as long
//! as was said before.

use router_core::frame::{FramePool, Gso, GsoKind, MAX_FRAME, Offload, Partial};
use router_core::segment::{
    Cutter, Error, admit, become_first, complete, count, segment, wire_len,
};
use router_core::testing::offload::{self, on_wire, superframe};
use router_core::testing::{Packet, eth, ipv4, tcp, udp};

use crate::input::Input;
use crate::node::{A, B, POD_MAC, ROUTER_MAC};

/// Frames in the pool: superframes of more segments are not cut.
const POOL: usize = 128;

/// What is said of the frame, how much of it is in the head, and the frame.
pub fn run(bytes: &[u8]) {
    let _ = play(bytes);
}

/// [`run`], and how many frames a wire would carry; none for what is refused.
#[must_use]
pub fn play(bytes: &[u8]) -> Option<usize> {
    let mut input = Input::new(bytes);
    let how = input.byte();
    let (start, offset, size) = (input.word(), input.word(), input.word());
    let head = usize::from(input.word()) % (MAX_FRAME + 1);
    let more = usize::from(input.word());
    let mut bytes = input.rest().to_vec();
    if how & 0x10 != 0 {
        bytes.resize(bytes.len() + more, how);
    }
    let kind = [GsoKind::TcpV4, GsoKind::TcpV6, GsoKind::Udp][usize::from((how >> 2) & 3) % 3];
    let offload = Offload {
        partial: (how & 1 != 0).then_some(Partial { start, offset }),
        gso: (how & 2 != 0).then_some(Gso {
            kind,
            size,
            ecn: false,
        }),
    };
    let mut pool = FramePool::new(POOL);
    let mut frame = offload::frame(&mut pool, &bytes, offload, head);
    let result = if admit(&mut frame).is_err() {
        None
    } else if frame.is_superframe() {
        let wire = wire_len(&frame);
        let segments = count(&frame);
        let mut made = Vec::new();
        match segment(&frame, &mut pool, |segment| made.push(segment)) {
            Ok(n) => {
                assert_eq!((n, made.len()), (segments, segments));
                let expected = on_wire(&bytes, frame.offload());
                let cut: Vec<_> = made.iter().map(|s| s.bytes().to_vec()).collect();
                assert_eq!(cut, expected);
                assert_eq!(wire, cut.iter().map(Vec::len).sum::<usize>());
                become_first(&mut frame).expect("it was cut before");
                let first = &expected[0];
                let seen = frame.bytes();
                assert_eq!(seen, &first[..seen.len()]);
                assert!(seen.len() == first.len() || seen.len() == head.min(bytes.len()));
            }
            Err(Error::NoFrames) => assert!(segments >= POOL && made.is_empty()),
            Err(Error::TooLong) => {
                let first = Cutter::new(&frame).expect("it was let in").segment_len(0);
                assert!(first > MAX_FRAME && made.is_empty());
            }
            Err(Error::Malformed) => panic!("it was let in"),
        }
        for segment in made {
            pool.free(segment);
        }
        Some(segments)
    } else {
        let expected = on_wire(&offload::bytes(&frame), frame.offload());
        complete(&mut frame).expect("it was let in");
        assert_eq!(vec![frame.bytes().to_vec()], expected);
        Some(1)
    };
    pool.free(frame);
    assert_eq!(pool.missing(), 0);
    result
}

/// An input for a frame with this said of it.
fn input(bytes: &[u8], offload: Offload, head: u16, more: u16) -> Vec<u8> {
    let partial = offload.partial.unwrap_or(Partial {
        start: 0,
        offset: 0,
    });
    let kind = match offload.gso.map(|gso| gso.kind) {
        Some(GsoKind::TcpV6) => 4,
        Some(GsoKind::Udp) => 8,
        Some(GsoKind::TcpV4) | None => 0,
    };
    let flags = u8::from(offload.partial.is_some()) | u8::from(offload.gso.is_some()) << 1;
    let mut all = vec![flags | kind | if more > 0 { 0x10 } else { 0 }];
    let size = offload.gso.map_or(0, |gso| gso.size);
    for word in [partial.start, partial.offset, size, head, more] {
        all.extend(word.to_be_bytes());
    }
    all.extend(bytes);
    all
}

/// Superframes of every kind, open checksums, and a few lies.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let link = || eth(ROUTER_MAC, POD_MAC);
    let data = || vec![7; 300];
    let tcp = || tcp(1000, 80, 0x99).options(&[1; 12]) / data();
    let frames: [Packet; 4] = [
        link() / ipv4(A, B).df() / tcp(),
        link() / ipv4(A, B).options(&[1; 4]) / udp(1000, 53) / data(),
        link() / ipv4(B, A) / ipv4(A, B) / tcp(),
        link() / ipv4(B, A) / ipv4(A, B) / udp(1000, 53) / data(),
    ];
    let mut seeds = Vec::new();
    for frame in frames.map(|frame| frame.bytes()) {
        let (bytes, open) = offload::partial(&frame);
        seeds.push(input(&bytes, open, u16::MAX, 0));
        let (bytes, offload) = superframe(&frame, 100);
        let with = |gso| Offload { gso, ..offload };
        let sized = |size| with(offload.gso.map(|gso| Gso { size, ..gso }));
        let whole = u16::try_from(MAX_FRAME).expect("a frame is short");
        for offload in [
            offload,
            sized(1),
            sized(0),
            sized(2000),
            Offload {
                partial: None,
                ..offload
            },
        ] {
            seeds.push(input(&bytes, offload, whole, 0));
            seeds.push(input(&bytes, offload, 130, 0));
            seeds.push(input(&bytes, offload, whole, 3000));
        }
        // Lengths that go with a tail.
        let mut long = bytes.clone();
        long[16..18].copy_from_slice(&5000_u16.to_be_bytes());
        seeds.push(input(&long, sized(1400), whole, 5000));
    }
    seeds
}

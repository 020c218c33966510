//! Segments against frames built one by one, and what is refused.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::addr::Mac;
use crate::frame::{FramePool, Gso, MAX_FRAME, Offload, Partial};
use crate::testing::offload::{self, on_wire};
use crate::testing::{Packet, eth, ipv4, payload, tcp, udp};

pub(super) const A: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
pub(super) const B: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
pub(super) const END_A: Ipv4Addr = Ipv4Addr::new(172, 16, 30, 3);
pub(super) const END_B: Ipv4Addr = Ipv4Addr::new(172, 16, 30, 4);

pub(super) const PSH_ACK: u8 = 0x18;
pub(super) const FIN: u8 = 0x01;
pub(super) const CWR: u8 = 0x80;

pub(super) fn link() -> Packet {
    eth(Mac([2, 0, 0, 0, 0, 2]), Mac([2, 0, 0, 0, 0, 1]))
}

/// Headers in front of TCP and UDP, and how long they are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Net {
    V4,
    V4Options,
    Ipip,
    Vlan,
    V6,
}

pub(super) const NETS: [Net; 5] = [Net::V4, Net::V4Options, Net::Ipip, Net::Vlan, Net::V6];

/// A frame whose last headers are `transport`, built as if it were one packet.
pub(super) fn whole(net: Net, ident: u16, transport: Packet) -> Vec<u8> {
    let v4 = || ipv4(A, B).id(ident).df();
    match net {
        Net::V4 => (link() / v4() / transport).bytes(),
        Net::V4Options => (link() / v4().options(&[1; 8]) / transport).bytes(),
        Net::Ipip => {
            let outer = ipv4(END_A, END_B).id(ident ^ 0xffff).df();
            (link() / outer / v4() / transport).bytes()
        }
        Net::Vlan => {
            let mut bytes = (link() / v4() / transport).bytes();
            bytes.splice(12..12, [0x81, 0, 0, 7]);
            bytes
        }
        Net::V6 => v6(&(ipv4(A, B) / transport).bytes()),
    }
}

/// The same over IPv6; the transport checksum is whatever it was.
fn v6(packet: &[u8]) -> Vec<u8> {
    let transport = &packet[20..];
    let len = u16::try_from(transport.len()).unwrap().to_be_bytes();
    let mut ip = alloc::vec![0x60, 0, 0, 0, len[0], len[1], packet[9], 64];
    ip.extend([0xfd; 16]);
    ip.extend([0xfe; 16]);
    (link().ethertype(0x86dd) / payload([&ip, transport].concat())).bytes()
}

pub(super) fn data(len: usize) -> Vec<u8> {
    (0..len)
        .map(|n| u8::try_from(n * 7 % 251).unwrap())
        .collect()
}

/// All segments of a frame, by the code under test.
fn cut(bytes: &[u8], offload: Offload, head: usize) -> Result<Vec<Vec<u8>>, Error> {
    let mut pool = FramePool::new(100);
    let frame = offload::frame(&mut pool, bytes, offload, head);
    let mut segments = Vec::new();
    let made = segment(&frame, &mut pool, |segment| segments.push(segment));
    let out: Vec<_> = segments.iter().map(|s| s.bytes().to_vec()).collect();
    assert_eq!(made.unwrap_or(0), out.len());
    assert!(made.is_err() || count(&frame) == out.len());
    for frame in segments {
        assert!(!frame.is_offloaded());
        pool.free(frame);
    }
    assert_eq!(
        offload::bytes(&frame),
        bytes,
        "the superframe stays as it is"
    );
    pool.free(frame);
    assert_eq!(pool.missing(), 0);
    made.map(|_| out)
}

/// What a superframe of one more byte than two segments is cut into, as written by hand.
#[test]
fn a_tcp_superframe_is_cut_by_hand() {
    let segment = |n: u16, seq: u32, flags: u8, bytes: &[u8]| {
        let ip = ipv4(A, B).id(0xffff_u16.wrapping_add(n)).df();
        (link() / ip / tcp(4000, 80, flags).seq(seq).ack(7).window(500) / bytes.to_vec()).bytes()
    };
    let flags = PSH_ACK | FIN | CWR;
    let (bytes, offload) = offload::superframe(&segment(0, 0xffff_ffff, flags, b"abcdefghijk"), 5);
    assert!(offload.gso.unwrap().ecn);
    let expected = [
        segment(0, 0xffff_ffff, 0x10 | CWR, b"abcde"),
        segment(1, 4, 0x10, b"fghij"),
        segment(2, 9, PSH_ACK | FIN, b"k"),
    ];
    assert_eq!(cut(&bytes, offload, MAX_FRAME).unwrap(), expected);
}

#[test]
fn datagrams_of_a_superframe_have_lengths_of_their_own() {
    let datagram =
        |n: u16, bytes: &[u8]| (link() / ipv4(A, B).id(n) / udp(4000, 53) / bytes.to_vec()).bytes();
    let (bytes, offload) = offload::superframe(&datagram(0, b"abcdefgh"), 3);
    let expected = [datagram(0, b"abc"), datagram(1, b"def"), datagram(2, b"gh")];
    assert_eq!(cut(&bytes, offload, MAX_FRAME).unwrap(), expected);
}

#[test]
fn both_headers_of_a_tunnelled_superframe_are_those_of_the_segment() {
    let packet = |n: u16, flags: u8, bytes: &[u8]| {
        let outer = ipv4(END_A, END_B).id(90 + n).df().ttl(63);
        let inner = ipv4(A, B).id(5 + n).df();
        let tcp = tcp(1, 2, flags).seq(u32::from(n) * 4);
        (link() / outer / inner / tcp / bytes.to_vec()).bytes()
    };
    let (bytes, offload) = offload::superframe(&packet(0, PSH_ACK, b"aaaabbbbc"), 4);
    let expected = [
        packet(0, 0x10, b"aaaa"),
        packet(1, 0x10, b"bbbb"),
        packet(2, PSH_ACK, b"c"),
    ];
    assert_eq!(cut(&bytes, offload, MAX_FRAME).unwrap(), expected);
}

proptest! {
    /// Every kind of superframe, whatever its sizes and however much of it is in the head, is cut into what the slow way
    /// makes of it.
    #[test]
    fn segments_are_those_that_are_built_one_by_one(
        net in prop::sample::select(NETS.to_vec()),
        is_tcp: bool, flags: u8, seq: u32, ident: u16,
        options in 0_usize..11,
        size in 1_u16..1800,
        (full, rest) in (0_usize..40, 1_usize..1800),
        head in 120_usize..=MAX_FRAME,
    ) {
        let len = full * usize::from(size) + rest.min(size.into());
        let transport = if is_tcp {
            tcp(4000, 80, flags).seq(seq).options(&[1; 40][..options * 4])
        } else {
            udp(4000, 80)
        };
        prop_assume!(len < 65_000);
        let (bytes, offload) = offload::superframe(&whole(net, ident, transport / data(len)), size);
        let expected = on_wire(&bytes, offload);
        let got = cut(&bytes, offload, head).unwrap();
        prop_assert_eq!(expected.len(), got.len());
        for (expected, got) in expected.iter().zip(&got) {
            prop_assert_eq!(expected, got);
        }
    }

    /// The first segment in place is the first segment, as far as the head goes.
    #[test]
    fn the_first_segment_in_place_is_the_first_of_all(
        net in prop::sample::select(NETS.to_vec()), is_tcp: bool,
        size in 1_u16..4000, len in 1_usize..9000, head in 120_usize..=MAX_FRAME,
    ) {
        let transport = if is_tcp { tcp(1, 2, PSH_ACK) } else { udp(1, 2) };
        let (bytes, offload) = offload::superframe(&whole(net, 3, transport / data(len)), size);
        let mut pool = FramePool::new(1);
        let mut frame = offload::frame(&mut pool, &bytes, offload, head);
        become_first(&mut frame).unwrap();
        let first = &on_wire(&bytes, offload)[0];
        prop_assert_eq!(frame.bytes(), &first[..first.len().min(head)]);
        prop_assert!(!frame.is_offloaded());
        pool.free(frame);
    }

    /// A checksum that is completed is the one that the packet would have been built with.
    #[test]
    fn a_completed_checksum_is_the_one_of_the_packet(
        net in prop::sample::select(vec![Net::V4, Net::V4Options, Net::Ipip, Net::Vlan]),
        is_tcp: bool, len in 0_usize..1500,
    ) {
        let transport = if is_tcp { tcp(1, 2, PSH_ACK) } else { udp(1, 2) };
        let whole = whole(net, 3, transport / data(len));
        let (bytes, offload) = offload::partial(&whole);
        let mut pool = FramePool::new(1);
        let mut frame = offload::frame(&mut pool, &bytes, offload, MAX_FRAME);
        prop_assert_eq!(admit(&mut frame), Ok(()));
        prop_assert_eq!(frame.offload(), offload, "let pass as it is");
        complete(&mut frame).unwrap();
        prop_assert_eq!(frame.bytes(), &whole);
        prop_assert!(!frame.is_offloaded());
        pool.free(frame);
    }

    /// Nothing that a device says about any bytes does harm, and what is let in can be finished.
    #[test]
    fn whatever_is_let_in_can_be_finished(
        net in prop::sample::select(NETS.to_vec()), is_tcp: bool, len in 0_usize..3000,
        head in 0_usize..=MAX_FRAME,
        start in prop_oneof![any::<u16>(), 0_u16..120], offset in prop_oneof![any::<u16>(), 0_u16..20],
        own: bool, partial: bool,
        gso in prop::option::of((prop::sample::select(vec![GsoKind::TcpV4, GsoKind::TcpV6, GsoKind::Udp]), 0_u16..2000)),
        hits in prop::collection::vec((0_usize..100, any::<u8>()), 0..4),
    ) {
        let transport = if is_tcp { tcp(1, 2, PSH_ACK) } else { udp(1, 2) };
        let (mut bytes, mut offload) = offload::partial(&whole(net, 3, transport / data(len)));
        for (at, byte) in hits {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        if !own {
            offload.partial = partial.then_some(Partial { start, offset });
        }
        offload.gso = gso.map(|(kind, size)| Gso { kind, size, ecn: false });
        let mut pool = FramePool::new(4000);
        let mut frame = offload::frame(&mut pool, &bytes, offload, head);
        match admit(&mut frame) {
            Err(_) => {}
            Ok(()) if frame.is_superframe() => {
                let mut sum = 0;
                let result = segment(&frame, &mut pool, |s| { sum += s.len(); pool_keep(s); });
                match result {
                    Ok(n) => prop_assert!(n > 0 && sum == wire_len(&frame)),
                    Err(error) => prop_assert_eq!(error, Error::TooLong),
                }
            }
            Ok(()) => prop_assert_eq!(complete(&mut frame), Ok(())),
        }
    }
}

/// The pool of a test that ends here is not asked for its frames.
fn pool_keep(frame: Frame) {
    drop(frame);
}

fn admitted(bytes: &[u8], offload: Offload, head: usize) -> Result<(), DropReason> {
    let mut pool = FramePool::new(1);
    let mut frame = offload::frame(&mut pool, bytes, offload, head);
    let result = admit(&mut frame);
    pool.free(frame);
    result
}

/// Each is refused for what is wrong with it alone.
#[test]
fn what_contradicts_itself_is_not_let_in() {
    let tcp4 = whole(Net::V4, 1, tcp(1, 2, PSH_ACK) / data(3000));
    let (bytes, right) = offload::superframe(&tcp4, 1000);
    let (gso, partial) = (right.gso.unwrap(), right.partial.unwrap());
    let with = |gso: Option<Gso>, partial: Option<Partial>| Offload { partial, gso };
    let super_of = |gso: Gso| with(Some(gso), Some(partial));
    assert_eq!(admitted(&bytes, right, MAX_FRAME), Ok(()));
    for (why, offload) in [
        ("no size", super_of(Gso { size: 0, ..gso })),
        (
            "IPv6",
            super_of(Gso {
                kind: GsoKind::TcpV6,
                ..gso
            }),
        ),
        (
            "UDP",
            super_of(Gso {
                kind: GsoKind::Udp,
                ..gso
            }),
        ),
        ("no checksum to complete", with(Some(gso), None)),
        (
            "another start",
            with(
                Some(gso),
                Some(Partial {
                    start: 33,
                    ..partial
                }),
            ),
        ),
        (
            "another field",
            with(
                Some(gso),
                Some(Partial {
                    offset: 6,
                    ..partial
                }),
            ),
        ),
    ] {
        let refused = admitted(&bytes, offload, MAX_FRAME);
        assert_eq!(refused, Err(DropReason::BadOffload), "{why}");
    }
    assert_eq!(
        admitted(&bytes, right, 53),
        Err(DropReason::BadOffload),
        "header cut"
    );
    assert_eq!(
        admitted(&bytes, with(None, Some(partial)), MAX_FRAME),
        Err(DropReason::FrameTooLong),
        "a tail without segments"
    );
    let empty = whole(Net::V4, 1, tcp(1, 2, PSH_ACK));
    assert_eq!(
        admitted(&empty, right, MAX_FRAME),
        Err(DropReason::BadOffload),
        "no payload"
    );
    for (start, offset) in [(100, 6), (94, 5), (u16::MAX, 0), (34, u16::MAX)] {
        let outside = with(None, Some(Partial { start, offset }));
        let short = (link() / ipv4(A, B) / udp(1, 2) / data(58)).bytes();
        assert_eq!(short.len(), 100);
        assert_eq!(
            admitted(&short, outside, MAX_FRAME),
            Err(DropReason::BadOffload),
            "{start}"
        );
    }
    let nothing = with(None, None);
    assert_eq!(admitted(&empty, nothing, MAX_FRAME), Ok(()));
}

/// A pod's own tunnel, a protocol that the router doesn't know: the checksum is complete from here on.
#[test]
fn another_open_checksum_is_completed_on_the_way_in() {
    // UDP-Lite's header is UDP's, and its number is another.
    let mut lite = whole(Net::V4, 1, udp(1, 2) / data(9));
    lite[23] = 136;
    let header_sum = crate::testing::packet::naive_checksum;
    lite[24..26].fill(0);
    let sum = header_sum(&lite[14..34]);
    lite[24..26].copy_from_slice(&sum.to_be_bytes());
    lite[40..42].copy_from_slice(&[0x12, 0x34]);
    let partial = Partial {
        start: 34,
        offset: 6,
    };
    let offload = Offload {
        partial: Some(partial),
        gso: None,
    };
    let mut pool = FramePool::new(1);
    let mut frame = offload::frame(&mut pool, &lite, offload, MAX_FRAME);
    assert_eq!(admit(&mut frame), Ok(()));
    assert!(!frame.is_offloaded());
    assert_eq!(frame.bytes(), on_wire(&lite, offload)[0]);
    pool.free(frame);
}

#[test]
fn a_superframe_is_not_cut_by_halves() {
    let (bytes, offload) =
        offload::superframe(&whole(Net::V4, 1, tcp(1, 2, PSH_ACK) / data(30)), 10);
    let mut pool = FramePool::new(3);
    let frame = offload::frame(&mut pool, &bytes, offload, MAX_FRAME);
    let none = |_: Frame| panic!("there are 2 frames for 3 segments");
    assert_eq!(segment(&frame, &mut pool, none), Err(Error::NoFrames));
    let mut frame = frame;
    assert_eq!(
        complete(&mut frame),
        Err(Error::Malformed),
        "it is more than one"
    );
    pool.free(frame);
    let long = u16::try_from(MAX_FRAME - 54 + 1).unwrap();
    let (bytes, offload) =
        offload::superframe(&whole(Net::V4, 1, tcp(1, 2, PSH_ACK) / data(4000)), long);
    assert_eq!(cut(&bytes, offload, MAX_FRAME), Err(Error::TooLong));
}

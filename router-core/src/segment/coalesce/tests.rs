//! Trains: what a superframe is cut into goes together to it again, and everything else stays apart.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::super::tests::{A, B, CWR, FIN, NETS, PSH_ACK, data, link, whole};
use super::*;
use crate::frame::{FramePool, MAX_FRAME};
use crate::testing::offload::{self, on_wire, superframe};
use crate::testing::packet::naive_checksum;
use crate::testing::{Packet, icmp, ipv4, tcp, udp};

/// Frames of these bytes, with what is left to do to them.
fn frames(pool: &mut FramePool, all: &[(Vec<u8>, Offload)]) -> Vec<Frame> {
    all.iter()
        .map(|(bytes, offload)| offload::frame(pool, bytes, *offload, MAX_FRAME))
        .collect()
}

/// What the frames of the longest train at the front go together to, and how many they are.
fn together(all: &[(Vec<u8>, Offload)]) -> Option<(usize, Vec<u8>, Offload)> {
    let mut pool = FramePool::new(all.len());
    let frames = frames(&mut pool, all);
    let (first, rest) = frames.split_first()?;
    let mut train = Train::begin(first).ok()?;
    let _ = rest.iter().try_for_each(|frame| train.push(frame));
    let count = train.count();
    let payloads = frames[..count]
        .iter()
        .flat_map(|f| train.payload(f).to_vec());
    let payload: Vec<u8> = payloads.collect();
    let (headers, offload) = train.finish();
    let out = [headers, &payload].concat();
    frames.into_iter().for_each(|f| pool.free(f));
    Some((count, out, offload))
}

fn complete(frames: Vec<Vec<u8>>) -> Vec<(Vec<u8>, Offload)> {
    frames.into_iter().map(|f| (f, Offload::NONE)).collect()
}

proptest! {
    /// Cutting and putting together are each other's inverse, with checksums open or complete, for every kind of headers.
    #[test]
    fn what_a_superframe_is_cut_into_goes_together_to_it(
        net in prop::sample::select(NETS.to_vec()),
        is_tcp: bool, ends in prop::sample::select(alloc::vec![0_u8, 8, FIN, FIN | 8]), congested: bool, seq: u32, ident: u16,
        options in 0_usize..11, size in 1_u16..1400, full in 1_usize..40, rest in 1_usize..1400,
        open: bool,
    ) {
        let len = full * usize::from(size) + rest.min(size.into());
        let flags = 0x10 | ends | if congested { CWR } else { 0 };
        let transport = if is_tcp {
            tcp(4000, 80, flags).seq(seq).options(&[1; 40][..options * 4])
        } else {
            udp(4000, 80)
        };
        let (bytes, offload) = superframe(&whole(net, ident, transport / data(len)), size);
        let cut = on_wire(&bytes, offload);
        let cut: Vec<_> = if open {
            cut.iter().map(|frame| offload::partial(frame)).collect()
        } else {
            complete(cut)
        };
        let together = together(&cut);
        if matches!(net, super::super::tests::Net::V4Options) {
            prop_assert_eq!(together, None, "options are not for trains");
        } else {
            let (count, got, undone) = together.unwrap();
            prop_assert_eq!((count, undone), (cut.len(), offload));
            prop_assert_eq!(got, bytes);
        }
    }

    /// Whatever goes together is what it was once it is cut again.
    #[test]
    fn what_went_together_is_cut_into_what_it_was(
        choices in prop::collection::vec((0_u8..24, any::<u8>()), 1..12),
        is_tcp: bool, size in 1_usize..40, changed in prop::option::of((0_usize..12, 0_usize..60, any::<u8>())),
    ) {
        let mut seq = 1000_u32;
        let mut all = Vec::new();
        for (n, (choice, byte)) in (0..).zip(choices) {
            let len = match choice {
                0 => 0,
                1 => size + 1,
                2 | 3 => size.saturating_sub(usize::from(byte) % 3),
                _ => size,
            };
            let ident = if choice == 4 { 7 } else { 7 + n };
            let flags = match choice {
                5 => byte,
                6 => PSH_ACK,
                7 => 0x10 | FIN,
                _ => 0x10,
            };
            if choice == 8 {
                seq += 1;
            }
            let transport = if is_tcp { tcp(1, 2, flags).seq(seq) } else { udp(1, 2) };
            let ip = ipv4(A, B).id(ident).ttl(if choice == 9 { 9 } else { 64 });
            let ip = if byte & 1 == 0 || choice > 10 { ip.df() } else { ip };
            seq += u32::try_from(len).unwrap();
            all.push((link() / ip / transport / data(len)).bytes());
        }
        if let Some((frame, at, byte)) = changed
            && let Some(place) = all.get_mut(frame).and_then(|f| f.get_mut(at))
        {
            *place = byte;
        }
        if let Some((count, bytes, offload)) = together(&complete(all.clone())) {
            let cut = on_wire(&bytes, offload);
            prop_assert_eq!(cut.len(), count);
            for (was, is) in all.iter().zip(cut) {
                // Identifications of packets with DF may have stayed what they were.
                let forget = |mut frame: Vec<u8>| {
                    if frame[20] & 0x40 != 0 {
                        frame[18..20].fill(0);
                        frame[24..26].fill(0);
                    }
                    frame
                };
                prop_assert_eq!(forget(was.clone()), forget(is));
            }
        }
    }
}

fn segment(n: u16, len: usize) -> Packet {
    with(n, tcp_of(n), len)
}

fn tcp_of(n: u16) -> Packet {
    tcp(4000, 80, 0x10)
        .seq(u32::from(n) * 10)
        .ack(5)
        .window(9)
        .options(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2])
}

fn with(n: u16, transport: Packet, len: usize) -> Packet {
    link() / ipv4(A, B).id(50 + n) / transport / data(len)
}

fn datagram(n: u16, len: usize) -> Packet {
    with(n, udp(4000, 53), len)
}

/// What the second of two frames is refused for; none when they go together.
fn refused(first: &[u8], second: &[u8]) -> Option<Cant> {
    let mut pool = FramePool::new(2);
    let frames = frames(
        &mut pool,
        &complete(alloc::vec![first.to_vec(), second.to_vec()]),
    );
    let mut train = Train::begin(&frames[0]).expect("a first frame");
    let before = train.clone().finish().0.to_vec();
    let refused = train.push(&frames[1]).err();
    if refused.is_some() {
        assert_eq!(train.count(), 1);
        assert_eq!(train.finish().0, before, "nothing has changed");
    }
    frames.into_iter().for_each(|f| pool.free(f));
    refused
}

/// With another byte there, and the checksums made anew.
fn changed(packet: &Packet, at: usize, byte: u8) -> Vec<u8> {
    let mut bytes = packet.bytes();
    bytes[at] = byte;
    bytes[24..26].fill(0);
    let sum = naive_checksum(&bytes[14..34]);
    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    let (partial, offload) = offload::partial(&bytes);
    on_wire(&partial, offload).remove(0)
}

/// Two segments go together; with one thing changed in the second they don't, and the reason is that thing.
#[test]
fn segments_that_differ_stay_apart() {
    let (first, second) = (segment(0, 10).bytes(), segment(1, 10));
    assert_eq!(refused(&first, &second.bytes()), None);
    assert_eq!(
        refused(&first, &segment(1, 9).bytes()),
        None,
        "a shorter last one"
    );
    let link_byte = |at: usize| {
        let mut bytes = second.bytes();
        bytes[at] ^= 1;
        bytes
    };
    let tcp = tcp_of(1);
    for (why, bytes, cant) in [
        ("destination MAC", link_byte(0), Cant::Link),
        ("source MAC", link_byte(11), Cant::Link),
        ("type of service", changed(&second, 15, 1), Cant::Network),
        ("DF", changed(&second, 20, 0x40), Cant::Network),
        ("TTL", changed(&second, 22, 63), Cant::Network),
        ("source", changed(&second, 29, 9), Cant::Network),
        ("destination", changed(&second, 33, 9), Cant::Network),
        ("identification", changed(&second, 19, 52), Cant::Ident),
        (
            "the same identification without DF",
            changed(&second, 19, 50),
            Cant::Ident,
        ),
        ("source port", changed(&second, 35, 1), Cant::Flow),
        ("destination port", changed(&second, 37, 1), Cant::Flow),
        ("a gap", changed(&second, 41, 11), Cant::Sequence),
        ("a repetition", changed(&second, 41, 9), Cant::Sequence),
        (
            "acknowledgement",
            changed(&second, 45, 6),
            Cant::Acknowledgement,
        ),
        ("a reserved flag", changed(&second, 46, 0x81), Cant::Flags),
        ("ECE", changed(&second, 47, 0x50), Cant::Flags),
        ("CWR", changed(&second, 47, 0x90), Cant::Flags),
        ("window", changed(&second, 49, 8), Cant::Acknowledgement),
        (
            "urgent pointer",
            changed(&second, 53, 1),
            Cant::Acknowledgement,
        ),
        ("timestamp", changed(&second, 61, 2), Cant::Options),
        ("timestamp echo", changed(&second, 65, 3), Cant::Options),
        ("longer", segment(1, 11).bytes(), Cant::Longer),
        ("another kind", datagram(1, 10).bytes(), Cant::Link),
        ("no payload", segment(1, 0).bytes(), Cant::Empty),
        ("SYN", changed(&second, 47, 0x12), Cant::Flags),
        ("RST", changed(&second, 47, 0x14), Cant::Flags),
        ("URG", changed(&second, 47, 0x30), Cant::Flags),
        ("no ACK", changed(&second, 47, 0), Cant::Flags),
        (
            "a wrong checksum",
            (link() / ipv4(A, B).id(51) / tcp.clone().checksum(1) / data(10)).bytes(),
            Cant::Checksum,
        ),
        (
            "a wrong header checksum",
            (link() / ipv4(A, B).id(51).checksum(1) / tcp.clone() / data(10)).bytes(),
            Cant::Checksum,
        ),
        (
            "options of IPv4",
            (link() / ipv4(A, B).id(51).options(&[1; 4]) / tcp.clone() / data(10)).bytes(),
            Cant::Headers,
        ),
        (
            "a fragment",
            (link() / ipv4(A, B).id(51).mf() / tcp.clone() / data(16)).bytes(),
            Cant::Headers,
        ),
        (
            "ICMP",
            (link() / ipv4(A, B).id(51) / icmp(8, 0, [0; 4]) / data(10)).bytes(),
            Cant::Headers,
        ),
        (
            "padding",
            [second.bytes(), alloc::vec![0; 3]].concat(),
            Cant::Length,
        ),
    ] {
        assert_eq!(refused(&first, &bytes), Some(cant), "{why}");
    }
}

/// `tcp_gro_receive`: FIN and PSH of the last are the superframe's, and nothing comes behind them or behind a short one.
#[test]
fn a_train_ends_with_what_says_so() {
    let push = |n: u16, flags: u8| with(n, tcp(4000, 80, flags).seq(u32::from(n) * 10), 10).bytes();
    let plain = [push(0, 0x10), push(1, 0x10), push(2, 0x10)];
    assert_eq!(together(&complete(plain.to_vec())).unwrap().0, 3);
    for (flags, at) in [
        (PSH_ACK, 0_u16),
        (PSH_ACK, 1),
        (0x10 | FIN, 0),
        (0x10 | FIN, 1),
    ] {
        let mut frames = plain.clone();
        frames[usize::from(at)] = push(at, flags);
        let (count, bytes, offload) = together(&complete(frames.to_vec())).unwrap();
        assert_eq!((count, bytes[47]), (usize::from(at) + 1, flags));
        assert_eq!(offload.gso.is_some(), at == 1, "one alone is no superframe");
    }
    let short = [datagram(0, 10), datagram(1, 9), datagram(2, 10)];
    assert_eq!(refused_third(&short), Some(Cant::Closed));
    assert_eq!(
        refused(&datagram(0, 10).bytes(), &datagram(1, 11).bytes()),
        Some(Cant::Longer)
    );
}

fn refused_third(packets: &[Packet; 3]) -> Option<Cant> {
    let mut pool = FramePool::new(3);
    let frames = frames(
        &mut pool,
        &complete(packets.iter().map(Packet::bytes).collect()),
    );
    let mut train = Train::begin(&frames[0]).unwrap();
    assert_eq!(train.push(&frames[1]), Ok(()));
    let refused = train.push(&frames[2]).err();
    frames.into_iter().for_each(|f| pool.free(f));
    refused
}

/// RFC 6864 4.1: of packets with DF the identification may be the same throughout, but not at times.
#[test]
fn identifications_of_packets_with_df_may_stay() {
    let of =
        |n: u16, ident: u16| (link() / ipv4(A, B).df().id(ident) / tcp_of(n) / data(10)).bytes();
    assert_eq!(refused(&of(0, 7), &of(1, 7)), None);
    assert_eq!(refused(&of(0, 7), &of(1, 8)), None);
    assert_eq!(refused(&of(0, 7), &of(1, 9)), Some(Cant::Ident));
    let third = |second: u16, third: u16| {
        let frames = [of(0, 7), of(1, second), of(2, third)];
        together(&complete(frames.to_vec())).unwrap().0
    };
    assert_eq!((third(7, 7), third(8, 9)), (3, 3));
    assert_eq!((third(7, 9), third(8, 7)), (2, 2));
}

/// No packet is longer than 65,535 bytes, and no train of datagrams than 64.
#[test]
fn a_train_is_full_some_time() {
    let segments: Vec<_> = (0..50_u16)
        .map(|n| {
            let seq = u32::from(n) * 1448;
            with(n, tcp(1, 2, 0x10).seq(seq), 1448).bytes()
        })
        .collect();
    let (count, bytes, _) = together(&complete(segments)).unwrap();
    assert_eq!(count, 45);
    assert!(bytes.len() <= 14 + 65_535 && bytes.len() + 1448 > 14 + 65_535);
    let datagrams: Vec<_> = (0..70).map(|n| datagram(n, 10).bytes()).collect();
    assert_eq!(together(&complete(datagrams)).unwrap().0, 64);
}

/// UDP without a checksum would have one afterwards; an open one that is wrong would be right.
#[test]
fn what_is_wrong_or_open_stays_so() {
    let none = with(1, udp(4000, 53).checksum(0), 10).bytes();
    assert_eq!(
        refused(&datagram(0, 10).bytes(), &none),
        Some(Cant::Checksum)
    );
    let (mut bytes, offload) = offload::partial(&datagram(0, 10).bytes());
    let mut pool = FramePool::new(1);
    let mut begin = |bytes: &[u8], offload| {
        let frame = offload::frame(&mut pool, bytes, offload, MAX_FRAME);
        let train = Train::begin(&frame).map(|train| train.count());
        pool.free(frame);
        train
    };
    assert_eq!(begin(&bytes, offload), Ok(1));
    bytes[41] ^= 1;
    assert_eq!(begin(&bytes, offload), Err(Cant::Checksum));
    let (bytes, offload) = superframe(&datagram(0, 100).bytes(), 10);
    assert_eq!(begin(&bytes, offload), Err(Cant::Superframe));
}

use core::time::Duration;

use proptest::prelude::*;

use super::*;

const POD_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
const GW_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 9);
const GW: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);

#[derive(Debug, Default)]
struct Heard {
    frames: Vec<Vec<u8>>,
    icmp: Vec<Vec<u8>>,
}

impl Sink for Heard {
    fn frame(&mut self, frame: &[u8]) {
        self.frames.push(frame.to_vec());
    }
    fn icmp(&mut self, packet: &[u8]) {
        self.icmp.push(packet.to_vec());
    }
}

fn pod() -> Stack {
    Stack::new(StackConfig::pod(POD_MAC, POD, GW_MAC, 1500), 7)
}

/// RFC 1071 over 16-bit words, written for these tests alone.
fn sum(bytes: &[u8]) -> u16 {
    let mut acc: u32 = 0;
    for pair in bytes.chunks(2) {
        acc += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while acc > 0xffff {
        acc = (acc & 0xffff) + (acc >> 16);
    }
    !u16::try_from(acc).unwrap()
}

struct Ip {
    src: Ipv4Addr,
    dst: Ipv4Addr,
    ttl: u8,
    tos: u8,
    /// Flags and offset.
    frag: u16,
    proto: u8,
}

impl Ip {
    fn icmp(src: Ipv4Addr, dst: Ipv4Addr) -> Self {
        Self {
            src,
            dst,
            ttl: 64,
            tos: 0,
            frag: 0,
            proto: 1,
        }
    }

    fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let total = u16::try_from(20 + payload.len()).unwrap();
        let mut p = vec![0x45, self.tos];
        p.extend(total.to_be_bytes());
        p.extend([0x12, 0x34]);
        p.extend(self.frag.to_be_bytes());
        p.extend([self.ttl, self.proto, 0, 0]);
        p.extend(self.src.octets());
        p.extend(self.dst.octets());
        let check = sum(&p);
        p[10..12].copy_from_slice(&check.to_be_bytes());
        p.extend(payload);
        p
    }

    fn frame(&self, payload: &[u8]) -> Vec<u8> {
        eth(POD_MAC, GW_MAC, 0x0800, &self.packet(payload))
    }
}

fn eth(dst: Mac, src: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&dst.0, &src.0, &ethertype.to_be_bytes()[..], payload].concat()
}

fn echo(kind: u8, len: usize) -> Vec<u8> {
    let mut m = vec![kind, 0, 0, 0, 0xab, 0xcd, 0, 1];
    m.extend((0..len).map(|n| u8::try_from(n % 251).unwrap()));
    let check = sum(&m);
    m[2..4].copy_from_slice(&check.to_be_bytes());
    m
}

fn receive(stack: &mut Stack, frame: &[u8]) -> Heard {
    let mut heard = Heard::default();
    stack.receive(Instant::ZERO, frame, &mut heard);
    heard
}

/// The IPv4 packet in a frame that the pod sent to its gateway.
fn unwrap_frame(frame: &[u8]) -> &[u8] {
    assert_eq!(frame[..6], GW_MAC.0, "everything goes to the gateway");
    assert_eq!(frame[6..12], POD_MAC.0);
    assert_eq!(frame[12..14], [8, 0]);
    assert_eq!(sum(&frame[14..34]), 0, "header checksum");
    &frame[14..]
}

/// FWD-45: a ping is answered with TTL 64, its own TOS and payload, DF clear.
#[test]
fn a_ping_is_answered() {
    let mut stack = pod();
    let request = Ip {
        ttl: 62,
        tos: 0xb8,
        frag: 0x4000,
        ..Ip::icmp(PEER, POD)
    };
    let heard = receive(&mut stack, &request.frame(&echo(8, 56)));
    let [frame] = &heard.frames[..] else {
        panic!("{heard:?}")
    };
    let reply = unwrap_frame(frame);
    assert_eq!((reply[1], reply[8]), (0xb8, 64), "TOS and TTL");
    assert_eq!(reply[6..8], [0, 0], "DF is clear");
    assert_eq!(reply[12..16], POD.octets());
    assert_eq!(reply[16..20], PEER.octets());
    assert_eq!(reply[20..], echo(0, 56));
    assert!(heard.icmp.is_empty());
}

/// FWD-46: the TTL of a packet that has arrived does not matter.
#[test]
fn a_ping_with_ttl_0_is_answered() {
    let request = Ip {
        ttl: 0,
        ..Ip::icmp(PEER, POD)
    };
    assert_eq!(
        receive(&mut pod(), &request.frame(&echo(8, 0)))
            .frames
            .len(),
        1
    );
}

/// What is broken or not for the pod is counted and nothing else happens.
#[test]
fn what_is_not_for_the_pod_is_dropped() {
    let mut bad_icmp = echo(8, 56);
    bad_icmp[30] ^= 1;
    let mut bad_header = Ip::icmp(PEER, POD).frame(&echo(8, 56));
    bad_header[14 + 8] ^= 1;
    let good = Ip::icmp(PEER, POD).packet(&echo(8, 4));
    let unspecified = Ipv4Addr::UNSPECIFIED;
    let cases = [
        (
            "a wrong ICMP checksum",
            Ip::icmp(PEER, POD).frame(&bad_icmp),
        ),
        ("a wrong header checksum", bad_header),
        ("another address", Ip::icmp(PEER, PEER).frame(&echo(8, 4))),
        ("no source", Ip::icmp(unspecified, POD).frame(&echo(8, 4))),
        (
            "loopback",
            Ip::icmp(PEER, Ipv4Addr::LOCALHOST).frame(&echo(8, 4)),
        ),
        ("another MAC", eth(GW_MAC, GW_MAC, 0x0800, &good)),
        ("a broadcast", eth(Mac::BROADCAST, GW_MAC, 0x0800, &good)),
        ("IPv6", eth(POD_MAC, GW_MAC, 0x86dd, &[0x60; 40])),
        ("a cut packet", eth(POD_MAC, GW_MAC, 0x0800, &good[..30])),
        ("a cut header", eth(POD_MAC, GW_MAC, 0x0800, &good[..19])),
        ("nothing", Vec::new()),
    ];
    let mut stack = pod();
    for (n, (what, frame)) in cases.iter().enumerate() {
        let heard = receive(&mut stack, frame);
        assert!(heard.frames.is_empty() && heard.icmp.is_empty(), "{what}");
        assert_eq!(stack.drops(), n as u64 + 1, "{what}");
    }
}

/// Padding that Ethernet puts behind a short packet is not echoed.
#[test]
fn padding_is_not_answered() {
    let mut frame = Ip::icmp(PEER, POD).frame(&echo(8, 1));
    frame.resize(60, 0xee);
    let heard = receive(&mut pod(), &frame);
    assert_eq!(unwrap_frame(&heard.frames[0]).len(), 29);
}

/// ARP: the gateway's question is answered although the gateway is outside of the pod's /32; others are not.
#[test]
fn arp_is_answered_for_the_own_address_only() {
    let ask = |target: Ipv4Addr| {
        let mut p = vec![0, 1, 8, 0, 6, 4, 0, 1];
        p.extend(GW_MAC.0);
        p.extend(GW.octets());
        p.extend([0; 6]);
        p.extend(target.octets());
        eth(Mac::BROADCAST, GW_MAC, 0x0806, &p)
    };
    let heard = receive(&mut pod(), &ask(POD));
    let reply = &heard.frames[0];
    assert_eq!(reply[..14], eth(GW_MAC, POD_MAC, 0x0806, &[]));
    assert_eq!(reply[14..22], [0, 1, 8, 0, 6, 4, 0, 2]);
    assert_eq!(reply[22..28], POD_MAC.0);
    assert_eq!(reply[28..32], POD.octets());
    assert_eq!(reply[32..38], GW_MAC.0);
    assert_eq!(reply[38..42], GW.octets());
    assert!(receive(&mut pod(), &ask(PEER)).frames.is_empty());
}

/// FWD-50: TCP to a pod that listens nowhere is reset.
#[test]
fn tcp_is_refused() {
    let mut tcp = vec![0x30, 0x39, 0, 80, 0, 0, 0, 5, 0, 0, 0, 0, 0x50, 2, 0xff, 0];
    tcp.extend([0, 0, 0, 0]);
    let mut pseudo = [PEER.octets(), POD.octets()].concat();
    pseudo.extend([0, 6, 0, 20]);
    pseudo.extend(&tcp);
    let check = sum(&pseudo);
    tcp[16..18].copy_from_slice(&check.to_be_bytes());
    let request = Ip {
        proto: 6,
        ..Ip::icmp(PEER, POD)
    };
    let heard = receive(&mut pod(), &request.frame(&tcp));
    let reply = unwrap_frame(&heard.frames[0]);
    assert_eq!(reply[20..24], [0, 80, 0x30, 0x39], "ports swapped");
    assert_eq!(reply[28..32], [0, 0, 0, 6], "ack = seq + 1");
    assert_eq!(reply[33], 0x14, "RST and ACK");
}

/// FWD-50, ICMP-5, ICMP-6: UDP to a pod that listens nowhere is answered with port unreachable.
#[test]
fn udp_is_refused() {
    let udp = [0x30, 0x39, 0, 9, 0, 12, 0, 0, b'a', b'b', b'c', b'd'];
    let request = Ip {
        proto: 17,
        ..Ip::icmp(PEER, POD)
    };
    let heard = receive(&mut pod(), &request.frame(&udp));
    let reply = unwrap_frame(&heard.frames[0]);
    assert_eq!((reply[1], reply[8], reply[9]), (0xc0, 64, 1));
    assert_eq!(reply[6] & 0x40, 0, "DF is clear");
    assert_eq!(reply[20..22], [3, 3]);
    assert_eq!(sum(&reply[20..]), 0, "ICMP checksum");
    assert_eq!(reply[48 + 4..48 + 8 - 2], udp[4..6]);
}

/// A ping longer than the MTU is reassembled, and its reply goes in fragments that carry the same bytes.
#[test]
fn a_long_ping_is_reassembled_and_answered_in_fragments() {
    for len in [1473, 4000, 65_507] {
        let mut stack = pod();
        let message = echo(8, len);
        let mut heard = Heard::default();
        let parts: Vec<_> = message.chunks(1480).enumerate().collect();
        let last = parts.len() - 1;
        for (n, part) in parts {
            let offset = u16::try_from(n * 185).unwrap();
            let more = if n == last { 0 } else { 0x2000 };
            let request = Ip {
                frag: offset | more,
                ..Ip::icmp(PEER, POD)
            };
            stack.receive(Instant::ZERO, &request.frame(part), &mut heard);
        }
        let mut answer = vec![0; message.len()];
        let mut ends = 0;
        for frame in &heard.frames {
            let part = unwrap_frame(frame);
            assert!(part.len() <= 1500);
            let field = u16::from_be_bytes([part[6], part[7]]);
            let at = usize::from(field & 0x1fff) * 8;
            answer[at..at + part.len() - 20].copy_from_slice(&part[20..]);
            ends += usize::from(field & 0x2000 == 0);
        }
        assert_eq!(ends, 1, "{len}");
        assert!(answer == echo(0, len), "{len}");
        assert_eq!(stack.drops(), 0);
    }
}

/// Fragments whose end would lie beyond 65535 bytes are dropped (ping of death).
#[test]
fn a_datagram_beyond_the_limit_is_dropped() {
    let mut stack = pod();
    let request = Ip {
        frag: 0x1fff,
        ..Ip::icmp(PEER, POD)
    };
    let heard = receive(&mut stack, &request.frame(&[1; 400]));
    assert!(heard.frames.is_empty());
    assert_eq!(stack.drops(), 1);
}

/// A raw channel's packet gets source, identification and checksums, and keeps TTL, TOS and DF.
#[test]
fn a_raw_packet_is_completed() {
    let mut stack = pod();
    let mut heard = Heard::default();
    let mut packet = Ip {
        ttl: 3,
        tos: 0x10,
        frag: 0x4000,
        ..Ip::icmp(Ipv4Addr::UNSPECIFIED, PEER)
    }
    .packet(&echo(8, 56));
    packet[4..6].fill(0);
    packet[10..12].fill(0);
    stack.send_icmp(Instant::ZERO, &packet, &mut heard);
    let sent = unwrap_frame(&heard.frames[0]);
    assert_eq!((sent[1], sent[6], sent[8]), (0x10, 0x40, 3));
    assert_ne!(sent[4..6], [0, 0]);
    assert_eq!(sent[12..16], POD.octets());
    assert_eq!(sent[20..], echo(8, 56));
}

/// Replies and errors reach the raw channel as they arrived; requests don't.
#[test]
fn a_raw_channel_hears_replies() {
    let mut stack = pod();
    let reply = Ip {
        ttl: 62,
        ..Ip::icmp(PEER, POD)
    };
    let heard = receive(&mut stack, &reply.frame(&echo(0, 56)));
    assert_eq!(heard.icmp, [reply.packet(&echo(0, 56))]);
    assert!(heard.frames.is_empty());
}

/// A pod can't send with an address that is not its own, nor anything but whole ICMP packets.
#[test]
fn a_raw_channel_is_bounded_to_icmp_of_the_pod() {
    let mut stack = pod();
    let mut heard = Heard::default();
    let any = Ipv4Addr::UNSPECIFIED;
    let udp = Ip {
        proto: 17,
        ..Ip::icmp(any, PEER)
    };
    let fragment = Ip {
        frag: 0x2000,
        ..Ip::icmp(any, PEER)
    };
    for packet in [
        Ip::icmp(PEER, GW).packet(&echo(8, 1)),
        Ip::icmp(POD, any).packet(&echo(8, 1)),
        udp.packet(&[0; 8]),
        fragment.packet(&echo(8, 8)),
        vec![0x45; 10],
        Vec::new(),
    ] {
        stack.send_icmp(Instant::ZERO, &packet, &mut heard);
    }
    assert!(heard.frames.is_empty() && heard.icmp.is_empty());
    assert_eq!(stack.drops(), 6);
}

/// With DF a packet longer than the MTU comes back as "fragmentation needed" from the own address; without it goes in
/// fragments.
#[test]
fn a_raw_packet_longer_than_the_mtu() {
    let mut stack = pod();
    let mut heard = Heard::default();
    let mut request = Ip {
        frag: 0x4000,
        ..Ip::icmp(Ipv4Addr::UNSPECIFIED, PEER)
    };
    stack.send_icmp(Instant::ZERO, &request.packet(&echo(8, 1473)), &mut heard);
    assert!(heard.frames.is_empty());
    let error = heard.icmp.pop().unwrap();
    assert_eq!(error[12..16], POD.octets());
    assert_eq!(error[20..22], [3, 4]);
    assert_eq!(error[26..28], 1500_u16.to_be_bytes());
    assert_eq!(sum(&error[20..]), 0);
    request.frag = 0;
    stack.send_icmp(Instant::ZERO, &request.packet(&echo(8, 1473)), &mut heard);
    let lengths: Vec<_> = heard.frames.iter().map(Vec::len).collect();
    assert_eq!(lengths, [1514, 35]);
}

/// A pod that pings itself or loopback hears the reply.
#[test]
fn a_pod_can_ping_itself() {
    let mut stack = pod();
    for own in [POD, Ipv4Addr::LOCALHOST] {
        let mut heard = Heard::default();
        let request = Ip::icmp(Ipv4Addr::UNSPECIFIED, own);
        stack.send_icmp(Instant::ZERO, &request.packet(&echo(8, 56)), &mut heard);
        assert!(heard.frames.is_empty());
        let [reply] = &heard.icmp[..] else { panic!() };
        assert_eq!(reply[12..16], own.octets());
        assert_eq!((reply[8], &reply[20..]), (64, &echo(0, 56)[..]));
    }
}

/// A datagram that never becomes whole does not hold its place for ever.
#[test]
fn reassembly_times_out() {
    let mut stack = pod();
    let part = |id: u8| {
        let mut p = Ip {
            frag: 0x2000,
            ..Ip::icmp(PEER, POD)
        }
        .packet(&echo(8, 0));
        p[5] = id;
        p[10..12].fill(0);
        let check = sum(&p[..20]);
        p[10..12].copy_from_slice(&check.to_be_bytes());
        eth(POD_MAC, GW_MAC, 0x0800, &p)
    };
    for id in 0..8 {
        assert!(receive(&mut stack, &part(id)).frames.is_empty());
    }
    let later = Instant::ZERO + Duration::from_secs(31);
    let mut heard = Heard::default();
    stack.receive(later, &part(99), &mut heard);
    let mut tail = Ip {
        frag: 1,
        ..Ip::icmp(PEER, POD)
    }
    .packet(b"12345678");
    tail[5] = 99;
    tail[10..12].fill(0);
    let check = sum(&tail[..20]);
    tail[10..12].copy_from_slice(&check.to_be_bytes());
    // The checksum of the whole does not cover the tail, so it is dropped as a broken ICMP packet: it was put together.
    let before = stack.drops();
    stack.receive(later, &eth(POD_MAC, GW_MAC, 0x0800, &tail), &mut heard);
    assert_eq!(stack.drops(), before + 1);
}

proptest! {
    /// PTP-4, INV-6: whatever arrives, the stack neither panics nor sends to anybody but the gateway.
    #[test]
    fn hostile_frames_do_no_harm(
        proto in prop_oneof![Just(1_u8), Just(6), Just(17), any::<u8>()],
        frag in prop_oneof![Just(0_u16), Just(0x2000), any::<u16>()],
        ports in prop_oneof![Just([0_u8, 0, 0, 0]), any::<[u8; 4]>()],
        payload in prop::collection::vec(any::<u8>(), 0..120),
        cut in 0_usize..160,
    ) {
        let mut stack = pod();
        let payload = [&ports[..], &payload].concat();
        let ip = Ip { proto, frag, ..Ip::icmp(PEER, POD) };
        let mut frame = ip.frame(&payload);
        let mut heard = receive(&mut stack, &frame);
        frame.truncate(cut);
        stack.receive(Instant::ZERO, &frame, &mut heard);
        stack.send_icmp(Instant::ZERO, &frame, &mut heard);
        stack.send_icmp(Instant::ZERO, frame.get(14..).unwrap_or(&[]), &mut heard);
        for frame in &heard.frames {
            prop_assert_eq!(&frame[..6], &GW_MAC.0[..]);
        }
    }
}

/// BR-18: who is on the link is asked for and spoken to directly; the others by the gateway.
#[test]
fn on_a_bridge_neighbours_are_resolved() {
    let neighbour = Ipv4Addr::new(10, 244, 0, 9);
    let neighbour_mac = [2, 0, 0, 0, 0, 9];
    let net = "10.244.0.0/24".parse().unwrap();
    let config = StackConfig::pod(POD_MAC, POD, GW_MAC, 1500).on_link(Some(net));
    let mut stack = Stack::new(config, 7);
    let mut heard = Heard::default();
    let send = |stack: &mut Stack, at: u64, dst, heard: &mut Heard| {
        let packet = Ip::icmp(POD, dst).packet(&echo(8, 8));
        stack.send_icmp(Instant::from_nanos(at), &packet, heard);
    };
    send(&mut stack, 0, neighbour, &mut heard);
    send(&mut stack, 1, neighbour, &mut heard);
    // One question for both.
    assert_eq!(heard.frames.len(), 1);
    let question = heard.frames.remove(0);
    assert_eq!(question[..6], [0xff; 6]);
    assert_eq!(question[12..14], [8, 6]);
    assert_eq!(question[38..42], neighbour.octets());
    let mut answer = question.clone();
    answer[..6].copy_from_slice(&POD_MAC.0);
    answer[6..12].copy_from_slice(&neighbour_mac);
    answer[20..22].copy_from_slice(&[0, 2]);
    answer[22..28].copy_from_slice(&neighbour_mac);
    answer[28..32].copy_from_slice(&neighbour.octets());
    answer[32..38].copy_from_slice(&POD_MAC.0);
    answer[38..42].copy_from_slice(&POD.octets());
    stack.receive(Instant::from_nanos(2), &answer, &mut heard);
    assert_eq!(heard.frames.len(), 2);
    assert!(heard.frames.iter().all(|frame| frame[..6] == neighbour_mac));
    heard.frames.clear();
    send(&mut stack, 3, neighbour, &mut heard);
    send(&mut stack, 4, PEER, &mut heard);
    assert_eq!(heard.frames[0][..6], neighbour_mac);
    assert_eq!(heard.frames[1][..6], GW_MAC.0);
    heard.frames.clear();
    // After 30 s without a word it is asked for again.
    send(&mut stack, 30_000_000_002, neighbour, &mut heard);
    assert_eq!(heard.frames.len(), 1);
    assert_eq!(heard.frames[0][12..14], [8, 6]);
}

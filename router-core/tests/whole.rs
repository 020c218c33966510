//! What holds for whole routers of random make-up (dataplane section 14): a Calico node with its tunnel, with and without
//! collecting fragments, under random frames, reconfigurations and leaps of time.

use core::net::Ipv4Addr;
use core::time::Duration;

use proptest::prelude::*;
use router_core::config::{PortKind, Snapshot, TunnelEcn};
use router_core::testing::calico::*;
use router_core::testing::topology::{
    HOST, HOST_MAC, HOST_PEER_MAC, POD1, R, R_MAC, UPLINK, X, with_host,
};
use router_core::testing::*;
use router_core::{Event, Limits, PortId};

/// What is drawn of a node: MTUs, the host namespace, how fragments and tunnels are treated.
#[derive(Clone, Debug)]
struct Shape {
    link_mtu: u16,
    tunnel_mtu: u16,
    host: bool,
    defragment: bool,
    filter: bool,
    known: bool,
    tunnel_up: bool,
    rfc6040: bool,
}

fn a_shape() -> impl Strategy<Value = Shape> {
    let mtu = || prop::sample::select(vec![68_u16, 576, 600, 1460, 1480, 1500]);
    let flags = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    );
    (mtu(), mtu(), flags, prop::bool::weighted(0.9)).prop_map(
        |(link_mtu, tunnel_mtu, (host, defragment, filter, known, rfc6040), tunnel_up)| Shape {
            link_mtu,
            tunnel_mtu,
            host,
            defragment,
            filter,
            known,
            tunnel_up,
            rfc6040,
        },
    )
}

fn node(shape: &Shape) -> Snapshot {
    let mut snapshot = node_k3();
    snapshot.ports[0].mtu = shape.link_mtu;
    snapshot.ports[2].mtu = shape.tunnel_mtu;
    snapshot.ports[2].up = shape.tunnel_up;
    if let PortKind::Ipip(device) = &mut snapshot.ports[2].kind {
        device.ecn = if shape.rfc6040 {
            TunnelEcn::Rfc6040
        } else {
            TunnelEcn::Linux
        };
    }
    snapshot.defragment = shape.defragment;
    if !shape.filter {
        snapshot.tunnel_sources = None;
    }
    if !shape.known {
        snapshot.neighbours.clear();
    }
    if shape.host {
        with_host(snapshot)
    } else {
        snapshot
    }
}

fn link(port: PortId) -> Packet {
    match port {
        POD1 => eth(CALI_MAC, N3_MAC),
        HOST => eth(HOST_MAC, HOST_PEER_MAC),
        _ => eth(K3_MAC, K2_MAC),
    }
}

fn an_address() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![
        8 => prop::sample::select(vec![N2, N3, K1, K2, K3, K2_TUNL0, K3_TUNL0, X, R]),
        1 => any::<u32>().prop_map(Ipv4Addr::from_bits),
    ]
}

fn a_header() -> impl Strategy<Value = Packet> {
    let flags = (
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.2),
        0_u16..4,
    );
    let ttl = prop::sample::select(vec![0_u8, 1, 2, 64]);
    (
        an_address(),
        an_address(),
        ttl,
        any::<u8>(),
        0_u16..3,
        flags,
    )
        .prop_map(|(src, dst, ttl, tos, id, (df, mf, offset))| {
            let mut ip = ipv4(src, dst).ttl(ttl).tos(tos).id(id).offset(offset * 8);
            if df {
                ip = ip.df();
            }
            if mf {
                ip = ip.mf();
            }
            ip
        })
}

fn a_payload() -> impl Strategy<Value = Packet> {
    let len = prop_oneof![4 => 0_usize..4, 1 => 60_usize..180];
    let bytes = len.prop_map(|n| vec![0x5a; n * 8]);
    (0_u8..4, bytes).prop_map(|(kind, bytes)| match kind {
        0 => udp(4000, 53) / bytes,
        1 => echo_request(1, 1) / bytes,
        2 => tcp(4000, 80, 0x02) / bytes,
        _ => payload(bytes),
    })
}

/// Plain, in a tunnel, in two, or a report about a packet in a tunnel.
fn a_packet() -> impl Strategy<Value = Packet> {
    let plain = || (a_header(), a_payload()).prop_map(|(ip, inner)| ip / inner);
    let to_us = || {
        (a_header(), 0_u8..4).prop_map(|(any, kind)| match kind {
            0 => any,
            1 => ipv4(K1, K3).tos(3),
            _ => ipv4(K2, K3),
        })
    };
    let tunnelled = (to_us(), plain()).prop_map(|(outer, inner)| outer.protocol(4) / inner);
    let nested =
        (to_us(), to_us(), plain()).prop_map(|(a, b, inner)| a.protocol(4) / b.protocol(4) / inner);
    let errors = vec![
        time_exceeded(),
        unreachable(0),
        unreachable(1),
        fragmentation_needed(0),
        fragmentation_needed(70),
        fragmentation_needed(1300),
        icmp(5, 1, [172, 16, 30, 1]),
    ];
    let report =
        (prop::sample::select(errors), plain(), 0_usize..120).prop_map(|(error, inner, quoted)| {
            let mut about = (ipv4(K3, K2).protocol(4) / inner).bytes();
            about.truncate(quoted);
            ipv4(R, K3) / error / payload(about)
        });
    prop_oneof![3 => plain(), 3 => tunnelled, 1 => nested, 1 => report]
}

fn a_frame() -> impl Strategy<Value = (PortId, Vec<u8>)> {
    let port = prop::sample::select(vec![UPLINK, UPLINK, POD1, POD1, HOST, TUNL0]);
    let change = prop::option::weighted(0.1, (any::<prop::sample::Index>(), any::<u8>()));
    (port, a_packet(), change).prop_map(|(port, packet, change)| {
        let mut bytes = (link(port) / packet).bytes();
        if let Some((at, value)) = change {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(14 + 1500);
        (port, bytes)
    })
}

#[derive(Clone, Debug)]
enum Op {
    Frames(Vec<(PortId, Vec<u8>)>),
    Wait(u64),
    Reshape(Shape),
}

fn an_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => prop::collection::vec(a_frame(), 1..16).prop_map(Op::Frames),
        2 => prop_oneof![0_u64..6000, Just(31_000), Just(86_400_000)].prop_map(Op::Wait),
        1 => a_shape().prop_map(Op::Reshape),
    ]
}

fn small() -> Limits {
    Limits {
        neighbours: 6,
        held_per_neighbour: 3,
        held: 10,
        fragments: 12,
        ..Limits::default()
    }
}

/// The number at the end of a packet's payload.
fn numbered(frame: &[u8]) -> Option<u32> {
    let at = frame.len().checked_sub(4)?;
    Some(u32::from_be_bytes(frame.get(at..)?.try_into().ok()?))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// INV-1, INV-3, INV-6, INV-8: the harness checks every emitted frame; frames are conserved, what waits is bounded, and
    /// after a day of silence nothing waits.
    #[test]
    fn a_tunnelling_node_conserves_frames_whatever_happens(
        shape in a_shape(),
        ops in prop::collection::vec(an_op(), 1..20),
    ) {
        let mut h = Harness::with_limits(node(&shape), small(), 200);
        for op in ops {
            match op {
                Op::Frames(frames) => h.rx_bytes(&frames),
                Op::Wait(ms) => h.advance(Duration::from_millis(ms)),
                Op::Reshape(shape) => h.apply(node(&shape)),
            }
            h.check();
            prop_assert!(h.router().held() <= 10 + 12);
        }
        h.advance(Duration::from_secs(86_400));
        h.check();
        prop_assert_eq!(h.router().held(), 0);
    }

    /// INV-2: one frame leads to one packet or the pieces of one, one error, or one reply; never to two of these.
    #[test]
    fn a_tunnelling_node_does_one_thing_with_a_frame(shape in a_shape(), (port, frame) in a_frame()) {
        let shape = Shape { known: true, ..shape };
        let mut h = Harness::with_limits(node(&shape), small(), 200);
        h.rx_bytes(&[(port, frame)]);
        let stats = h.router().stats();
        let made = [Event::IcmpErrorSent, Event::EchoReplySent, Event::TcpResetSent];
        let said: u64 = made.iter().map(|&e| stats.events.get(e)).sum();
        let asked = stats.events.get(Event::ArpRequestSent);
        prop_assert!(said <= 1, "{stats:?}");
        prop_assert!(stats.tx - asked <= 1 + stats.split, "{stats:?}");
        // What was said was not forwarded as well: the received frame ended here.
        let ended = stats.consumed + stats.dropped();
        prop_assert!(said == 0 || ended >= 1, "{stats:?}");
    }

    /// INV-10: packets of one flow through the tunnel leave in the order in which they came, whether the other end was
    /// known, had to be asked for, or the packets came in pieces.
    #[test]
    fn a_flow_keeps_its_order_through_the_tunnel(
        known: bool,
        defragment: bool,
        cut in prop::collection::vec(any::<bool>(), 3),
    ) {
        let shape = Shape {
            link_mtu: 1500, tunnel_mtu: 1480, host: false, defragment, filter: true, known, tunnel_up: true, rfc6040: false,
        };
        let mut h = Harness::with_limits(node(&shape), small(), 200);
        for (n, cut) in (0_u32..).zip(&cut) {
            let id = u16::try_from(n).unwrap_or(0);
            let data = [vec![0; 60], n.to_be_bytes().to_vec()].concat();
            let packet = link(POD1) / ipv4(N3, N2).id(id) / udp(1, 2) / data;
            if *cut {
                for piece in fragments(&packet, 68) {
                    h.rx(POD1, &piece);
                }
            } else {
                h.rx(POD1, &packet);
            }
        }
        if !known {
            h.rx(UPLINK, &(eth(K3_MAC, K2_MAC) / arp_reply(K2_MAC, K2, K3_MAC, K3)));
        }
        let sent = h.take_all();
        let last_pieces = sent.iter().filter(|(_, f)| f.get(23) == Some(&4) && f.get(40..42).is_some_and(|x| x[0] & 0x20 == 0));
        let order: Vec<u32> = last_pieces.filter_map(|(_, f)| numbered(f)).collect();
        // Held packets are bounded, the oldest go; those that are left are in order.
        prop_assert!(order.is_sorted(), "{order:?}");
        prop_assert!(order.len() == 3 || !known, "{order:?}");
        prop_assert_eq!(order.last(), Some(&2));
    }
}

/// INV-9, FWD-11: two nodes cannot make the same (source, destination, identification), as they differ in source, and one
/// does not repeat itself within 65536 outer packets.
#[test]
fn outer_identifications_do_not_repeat() {
    let mut h = Harness::new(node_k3());
    let packet = (link(POD1) / ipv4(N3, N2) / udp(1, 2)).bytes();
    let mut seen = vec![false; 65536];
    for _ in 0..256 {
        h.rx_bytes(&vec![(POD1, packet.clone()); 256]);
        for (_, frame) in h.take_all() {
            assert_eq!(frame[26..30], K3.octets());
            let id = usize::from(frame[18]) << 8 | usize::from(frame[19]);
            assert!(!std::mem::replace(&mut seen[id], true), "{id:04x} twice");
        }
    }
    assert!(seen.iter().all(|&s| s));
}

/// INV-11: a pod that floods an absent neighbour, or the error budget, takes nothing from another.
#[test]
fn a_flooding_station_does_not_starve_others() {
    let mut snapshot = node_k3();
    snapshot.neighbours.retain(|n| n.ip != K2);
    let mut h = Harness::new(snapshot);
    let absent = Ipv4Addr::new(172, 16, 30, 99);
    for _ in 0..2000 {
        h.rx(POD1, &(link(POD1) / ipv4(N3, absent) / udp(1, 2)));
        h.rx(POD1, &(link(POD1) / ipv4(N3, X).ttl(1) / udp(1, 2)));
    }
    h.take_all();
    // Another one's packet finds a place to wait, and its own errors.
    h.rx(UPLINK, &(eth(K3_MAC, K1_MAC) / ipv4(X, N2) / udp(1, 2)));
    h.rx(
        UPLINK,
        &(eth(K3_MAC, R_MAC) / ipv4(X, N3).ttl(1) / udp(1, 2)),
    );
    let error = h
        .take_all()
        .into_iter()
        .filter(|(_, f)| f.get(34) == Some(&11))
        .count();
    assert_eq!(error, 1, "11/0 to X, whatever n3 has used up");
    h.rx(
        UPLINK,
        &(eth(K3_MAC, K2_MAC) / arp_reply(K2_MAC, K2, K3_MAC, K3)),
    );
    let tunnelled = h
        .take_all()
        .into_iter()
        .filter(|(_, f)| f.get(23) == Some(&4))
        .count();
    assert_eq!(tunnelled, 1);
}

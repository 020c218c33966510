//! What holds for all traffic (dataplane section 14, decision 14): no frame is lost or invented, nothing malformed leaves,
//! no input causes two answers, batching changes nothing.

use core::net::Ipv4Addr;
use core::time::Duration;

use proptest::prelude::*;
use router_core::config::{PinnedPeer, RouteTarget, RpFilter, Snapshot};
use router_core::testing::topology::*;
use router_core::testing::*;
use router_core::trace::Step;
use router_core::{DropReason, Limits, Mac, PortId};

/// A node with every kind of port and route.
fn everything() -> Snapshot {
    let mut snapshot = with_host(node_a());
    snapshot.ports[0].mtu = 600;
    snapshot.ports[1].rp_filter = RpFilter::Strict;
    snapshot.ports[2].proxy_arp = true;
    snapshot.ports[2].peer = Some(PinnedPeer {
        ip: A2,
        mac: A2_MAC,
    });
    snapshot.routes.extend([
        special("10.244.205.192/26", RouteTarget::Blackhole),
        special("192.0.2.0/28", RouteTarget::Unreachable),
        special("192.0.2.16/28", RouteTarget::Prohibit),
        special("192.0.2.32/28", RouteTarget::Throw),
    ]);
    snapshot
}

fn a_port() -> impl Strategy<Value = PortId> {
    prop_oneof![
        8 => prop::sample::select(vec![UPLINK, POD1, POD2, HOST]),
        1 => prop::sample::select(vec![DOCKER, PortId(99)]),
    ]
}

fn own_mac(port: PortId) -> Mac {
    match port {
        UPLINK => UPLINK_MAC,
        POD1 => POD1_MAC,
        POD2 => POD2_MAC,
        HOST => HOST_MAC,
        _ => Mac([2; 6]),
    }
}

fn an_address() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![
        6 => prop::sample::select(vec![A1, A2, B1, X, GW_A, NODE_A, NODE_B, R]),
        1 => prop::sample::select(vec![
            Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST, Ipv4Addr::new(172, 16, 30, 255),
            Ipv4Addr::new(224, 0, 0, 1), Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 17),
            Ipv4Addr::new(192, 0, 2, 33), Ipv4Addr::new(10, 244, 205, 200), Ipv4Addr::new(172, 17, 0, 9),
        ]),
        1 => any::<u32>().prop_map(Ipv4Addr::from_bits),
    ]
}

fn a_mac() -> impl Strategy<Value = Mac> {
    prop_oneof![
        prop::sample::select(vec![
            A1_MAC,
            A2_MAC,
            B_MAC,
            R_MAC,
            HOST_PEER_MAC,
            Mac::BROADCAST,
            Mac::ZERO
        ]),
        any::<[u8; 6]>().prop_map(Mac),
    ]
}

fn a_payload() -> impl Strategy<Value = Packet> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..64);
    prop_oneof![
        (any::<u16>(), any::<u16>(), bytes()).prop_map(|(a, b, p)| udp(a, b) / p),
        (any::<u8>(), bytes()).prop_map(|(flags, p)| tcp(1, 2, flags) / p),
        bytes().prop_map(|p| echo_request(1, 1) / p),
        (0_u8..20, 0_u8..16, bytes()).prop_map(|(kind, code, p)| icmp(kind, code, [0; 4]) / p),
        bytes().prop_map(payload),
        (600_usize..1500).prop_map(|n| udp(1, 2) / vec![0x5a; n]),
    ]
}

fn an_ip_packet() -> impl Strategy<Value = Packet> {
    let options = prop_oneof![
        6 => Just(vec![]),
        1 => prop::collection::vec(any::<u8>(), 4..=4),
        1 => prop::collection::vec(prop_oneof![Just(7_u8), Just(68), Just(1), Just(0), Just(131), 0_u8..12], 8..=8),
        1 => Just(vec![7, 7, 4, 0, 0, 0, 0, 0]),
    ];
    let ttl = prop_oneof![Just(0_u8), Just(1), Just(2), Just(64)];
    let flags = (
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
    );
    (an_address(), an_address(), ttl, options, flags, a_payload()).prop_map(
        |(src, dst, ttl, options, (df, mf, later), inner)| {
            let mut ip = ipv4(src, dst).ttl(ttl).options(&options);
            if df {
                ip = ip.df();
            }
            if mf {
                ip = ip.mf();
            }
            if later {
                ip = ip.offset(1480);
            }
            ip / inner
        },
    )
}

fn a_frame() -> impl Strategy<Value = (PortId, Vec<u8>)> {
    let link = |port: PortId, broadcast: bool, src: Mac| {
        eth(
            if broadcast {
                Mac::BROADCAST
            } else {
                own_mac(port)
            },
            src,
        )
    };
    let well_formed = || {
        (
            a_port(),
            prop::bool::weighted(0.05),
            a_mac(),
            an_ip_packet(),
        )
            .prop_map(move |(port, b, src, ip)| (port, (link(port, b, src) / ip).bytes()))
    };
    let arp = (
        a_port(),
        any::<bool>(),
        a_mac(),
        an_address(),
        an_address(),
        any::<bool>(),
    )
        .prop_map(move |(port, b, sha, spa, tpa, reply)| {
            let arp = if reply {
                arp_reply(sha, spa, own_mac(port), tpa)
            } else {
                arp_request(sha, spa, tpa)
            };
            (port, (link(port, b, sha) / arp).bytes())
        });
    let noise = (a_port(), prop::collection::vec(any::<u8>(), 0..100));
    let framed_noise = (
        a_port(),
        any::<bool>(),
        prop::collection::vec(any::<u8>(), 0..100),
    )
        .prop_map(move |(port, is_arp, bytes)| {
            let frame = link(port, false, A1_MAC).ethertype(if is_arp { 0x0806 } else { 0x0800 });
            (port, (frame / bytes).bytes())
        });
    let scratched = (
        well_formed(),
        any::<prop::sample::Index>(),
        any::<u8>(),
        any::<prop::sample::Index>(),
    )
        .prop_map(|((port, mut bytes), at, value, cut)| {
            let at = at.index(bytes.len());
            bytes[at] = value;
            bytes.truncate(bytes.len() - cut.index(bytes.len()) / 8);
            (port, bytes)
        });
    prop_oneof![6 => well_formed(), 3 => arp, 1 => noise, 1 => framed_noise, 2 => scratched]
}

#[derive(Clone, Debug)]
enum Op {
    Frames(Vec<(PortId, Vec<u8>)>),
    Wait(u64),
    Reconfigure(u8),
    Flush,
}

fn an_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => prop::collection::vec(a_frame(), 1..24).prop_map(Op::Frames),
        3 => (0_u64..6000).prop_map(Op::Wait),
        1 => any::<u8>().prop_map(Op::Reconfigure),
        1 => Just(Op::Flush),
    ]
}

/// What a pod sends to a pod: from one of few addresses to one of few, and now and then an ARP reply or something else.
fn a_plain_op() -> impl Strategy<Value = Op> {
    let packet = (
        prop::sample::select(vec![(POD1, A1), (POD2, A2), (UPLINK, B1), (UPLINK, A1)]),
        prop::sample::select(vec![A1, A2, B1, X]),
        prop_oneof![9 => Just(64_u8), 1 => 0_u8..3],
        prop_oneof![Just(0_usize), 0_usize..1500],
        0_usize..20,
    )
        .prop_map(|((port, src), dst, ttl, len, padding)| {
            let frame =
                eth(own_mac(port), A1_MAC) / ipv4(src, dst).ttl(ttl) / udp(1, 2) / vec![7; len];
            let mut bytes = frame.bytes();
            bytes.resize(bytes.len() + padding, 0);
            (port, bytes)
        });
    let reply = prop::sample::select(vec![
        (POD1, A1_MAC, A1),
        (POD2, A2_MAC, A2),
        (UPLINK, B_MAC, NODE_B),
        (UPLINK, R_MAC, R),
        // Somebody else's MAC.
        (POD2, A1_MAC, A2),
    ])
    .prop_map(|(port, mac, ip)| {
        let arp = arp_reply(mac, ip, own_mac(port), GW_A);
        (port, (eth(own_mac(port), mac) / arp).bytes())
    });
    let frame = prop_oneof![12 => packet, 2 => reply, 1 => a_frame()];
    prop_oneof![
        8 => prop::collection::vec(frame, 1..64).prop_map(Op::Frames),
        3 => (0_u64..40_000).prop_map(Op::Wait),
        1 => any::<u8>().prop_map(Op::Reconfigure),
        1 => Just(Op::Flush),
    ]
}

/// The node with some of its ports gone, down or known.
fn variant(bits: u8) -> Snapshot {
    let mut snapshot = everything();
    if bits & 1 != 0 {
        snapshot.ports.retain(|p| p.id != POD2);
        snapshot.addresses.retain(|a| a.port != POD2);
        snapshot.routes.retain(|r| r.dst.addr() != A2);
    }
    if bits & 2 != 0 {
        snapshot.ports[1].up = false;
    }
    if bits & 4 != 0 {
        snapshot.forwarding = false;
    }
    if bits & 9 == 8 {
        snapshot = resolved(snapshot);
    }
    if bits & 16 != 0 {
        snapshot.ports.retain(|p| p.id != HOST);
    }
    snapshot
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// INV-1, INV-3, INV-6, decision 14. The harness checks every emitted frame, and at its end the pool.
    #[test]
    fn frames_are_conserved_whatever_happens(ops in prop::collection::vec(an_op(), 1..24)) {
        let mut h = Harness::with_limits(everything(), small(), 80);
        for op in ops {
            match op {
                Op::Frames(frames) => h.rx_bytes(&frames),
                Op::Wait(ms) => h.advance(Duration::from_millis(ms)),
                Op::Reconfigure(bits) => h.apply(variant(bits)),
                Op::Flush => { h.flush_neighbours(None); }
            }
            h.check();
            prop_assert!(h.router().held() <= 10 + 12);
            prop_assert!(h.router().neighbours().count() <= 6 + 4);
        }
    }

    /// Metamorphic: a batch of n is n batches of one, byte for byte and counter for counter.
    #[test]
    fn batching_changes_nothing(frames in prop::collection::vec(a_frame(), 1..60)) {
        let mut together = Harness::with_limits(everything(), small(), 160);
        let mut one_by_one = Harness::with_limits(everything(), small(), 160);
        together.rx_bytes(&frames);
        for frame in &frames {
            one_by_one.rx_bytes(std::slice::from_ref(frame));
        }
        prop_assert_eq!(together.take_all(), one_by_one.take_all());
        prop_assert_eq!(together.router().stats(), one_by_one.router().stats());
        prop_assert_eq!(together.router().poll_timeout(), one_by_one.router().poll_timeout());
    }

    /// Tracing changes no byte, no counter and no deadline; and every traced frame has a beginning and an end.
    #[test]
    fn tracing_changes_nothing(ops in prop::collection::vec(an_op(), 1..12)) {
        let mut plain = Harness::with_limits(everything(), small(), 80);
        let mut traced = Harness::with_limits(everything(), small(), 80);
        for op in &ops {
            // What was begun with the last number may still be held.
            traced.trace(1);
            for h in [&mut plain, &mut traced] {
                match op {
                    Op::Frames(frames) => h.rx_bytes(frames),
                    Op::Wait(ms) => h.advance(Duration::from_millis(*ms)),
                    Op::Reconfigure(bits) => h.apply(variant(*bits)),
                    Op::Flush => { h.flush_neighbours(None); }
                }
            }
            prop_assert_eq!(plain.take_all(), traced.take_all());
            prop_assert_eq!(plain.router().stats(), traced.router().stats());
            prop_assert_eq!(plain.router().poll_timeout(), traced.router().poll_timeout());
        }
    }

    /// A traced frame goes the long way: with traffic nearly all of which is plain, it still changes nothing. Neighbours
    /// become known and unknown, routes and ports come and go, also between two frames of a batch.
    #[test]
    fn the_plain_path_changes_nothing(ops in prop::collection::vec(a_plain_op(), 1..12), strict in any::<bool>(), tracks in any::<bool>()) {
        let with = |change: &Snapshot| {
            let mut snapshot = change.clone();
            snapshot.ports[0].rp_filter = RpFilter::Loose;
            snapshot.ports[1].rp_filter = if strict { RpFilter::Strict } else { RpFilter::Off };
            if tracks {
                snapshot = masquerading(snapshot);
            }
            snapshot
        };
        let mut plain = Harness::with_limits(with(&node_a()), small(), 400);
        let mut traced = Harness::with_limits(with(&node_a()), small(), 400);
        for op in &ops {
            traced.trace(1);
            for h in [&mut plain, &mut traced] {
                match op {
                    Op::Frames(frames) => h.rx_bytes(frames),
                    Op::Wait(ms) => h.advance(Duration::from_millis(*ms)),
                    Op::Reconfigure(bits) if bits & 1 == 0 => h.apply(with(&node_a())),
                    Op::Reconfigure(_) => h.apply(with(&resolved(node_a()))),
                    Op::Flush => { h.flush_neighbours(None); }
                }
            }
            prop_assert_eq!(plain.take_all(), traced.take_all());
            prop_assert_eq!(plain.router().stats(), traced.router().stats());
            prop_assert_eq!(plain.router().poll_timeout(), traced.router().poll_timeout());
            let neighbours = |h: &Harness| {
                let mut all: Vec<_> = h.router().neighbours().collect();
                all.sort_by_key(|n| (n.port, n.ip));
                all
            };
            prop_assert_eq!(neighbours(&plain), neighbours(&traced));
        }
        prop_assert_eq!(traced.router().forwarded_plainly(), 0);
    }

    /// Decision 14, as a trace tells it: every frame that a stage reported has one end, or waits.
    #[test]
    fn every_traced_frame_has_one_end(frames in prop::collection::vec(a_frame(), 1..12)) {
        let mut h = Harness::with_limits(everything(), small(), 80);
        h.trace(9);
        h.rx_bytes(&frames);
        let steps = h.steps(9);
        let count = |is: fn(&Step) -> bool| steps.iter().filter(|(_, s)| is(s)).count();
        prop_assert_eq!(count(Step::is_start), count(Step::is_end) + h.router().held());
    }

    /// INV-2: with everything resolved, one input leads to at most one packet or the fragments of one.
    #[test]
    fn no_input_has_two_effects((port, frame) in a_frame()) {
        let mut h = Harness::with_limits(resolved(everything()), small(), 80);
        // Neighbours outside the topology are asked for, which is not an answer.
        h.rx_bytes(&[(port, frame)]);
        let sent = h.take_all();
        let stats = h.router().stats();
        prop_assert!(sent.len() as u64 <= 1 + stats.split, "{sent:?}");
        let first: Vec<_> = sent.first().map(|(p, f)| (*p, f[18..20].to_vec())).into_iter().collect();
        for (p, f) in &sent {
            prop_assert_eq!(&(*p, f[18..20].to_vec()), &first[0], "pieces of one datagram");
        }
    }
}

/// The plain path is taken by what is plain, or the tests that compare it with the long way compare nothing.
#[test]
fn plain_packets_take_the_plain_path() {
    let mut h = Harness::new(resolved(node_a()));
    let ordinary = eth(POD1_MAC, A1_MAC) / ipv4(A1, A2) / udp(1, 2) / b"ordinary";
    let expiring = eth(POD1_MAC, A1_MAC) / ipv4(A1, A2).ttl(1) / udp(1, 2);
    h.rx_bytes(&[
        (POD1, ordinary.bytes()),
        (POD1, expiring.bytes()),
        (POD1, ordinary.bytes()),
    ]);
    let ports: Vec<PortId> = h.take_all().into_iter().map(|(port, _)| port).collect();
    assert_eq!(ports, [POD2, POD1, POD2], "in order");
    assert_eq!(h.router().forwarded_plainly(), 2);

    let mut h = Harness::new(masquerading(resolved(node_a())));
    h.rx_bytes(&[
        (POD1, ordinary.bytes()),
        (POD1, expiring.bytes()),
        (POD1, ordinary.bytes()),
    ]);
    assert_eq!(h.take_all().len(), 3);
    assert_eq!(h.router().forwarded_plainly(), 2, "a node that tracks");
}

/// FWD-20, FWD-26: one source that has to be looked up has those of its batch looked up too; they are believed as before,
/// also where there is no way back, as kindnet's links do not filter. What is no plain packet keeps its place.
#[test]
fn a_doubtful_source_changes_nothing_for_the_others_of_its_batch() {
    let mut snapshot = resolved(node_a());
    snapshot.routes.retain(|route| route.dst.prefix_len() != 0);
    let mut h = Harness::new(snapshot);
    let nowhere = Ipv4Addr::new(9, 9, 9, 9);
    let from = |src| {
        let packet = eth(POD1_MAC, A1_MAC) / ipv4(src, A2) / udp(1, 2);
        (POD1, packet.bytes())
    };
    let sources = [A1, nowhere, GW_A, A1, Ipv4Addr::BROADCAST, nowhere, A1];
    h.rx_bytes(&sources.map(from));
    let sent = h.take_all();
    assert!(sent.iter().all(|(port, _)| *port == POD2));
    let sources: Vec<&[u8]> = sent.iter().map(|(_, frame)| &frame[26..30]).collect();
    let expected = [A1, nowhere, A1, nowhere, A1].map(|a| a.octets());
    assert_eq!(sources, expected);
    assert_eq!(h.router().forwarded_plainly(), 5);
    let stats = h.router().stats();
    assert_eq!(stats.drops.get(DropReason::OwnSource), 1);
    assert_eq!(stats.drops.get(DropReason::MartianSource), 1);
    let (pod1, pod2) = (stats.port(POD1).unwrap(), stats.port(POD2).unwrap());
    assert_eq!((pod1.rx_frames, pod2.tx_frames), (7, 5));
}

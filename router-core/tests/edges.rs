//! Rules of the router that only show at a border or beside another one.

use core::net::Ipv4Addr;
use core::time::Duration;

use router_core::config::nat::ConntrackConfig;
use router_core::config::{Route, RouteTarget};
use router_core::stats::RouteKind;
use router_core::testing::bridged::{self, bridged_node};
use router_core::testing::calico::*;
use router_core::testing::topology::*;
use router_core::testing::*;
use router_core::trace::{Answers, Mark, Role, Step};
use router_core::{Event, Frame, FramePool, Mac, PortId};

fn frame(pool: &mut FramePool, port: PortId, mark: Mark, packet: &Packet) -> Frame {
    let mut frame = pool.alloc().expect("the test frees its frames");
    assert!(frame.fill(&packet.bytes()));
    frame.set_port(port);
    frame.set_mark(mark);
    frame
}

/// FWD-51, INV-6: what the node itself says is cut to what a frame holds, however large the MTU is.
#[test]
fn the_nodes_own_packets_fit_frames_on_links_with_a_large_mtu() {
    let mut h = Harness::new(with_port(resolved(node_a()), UPLINK, |p| p.mtu = 9000));
    let message = (ipv4(B1, NODE_A) / echo_request(1, 1) / vec![0x5a; 3992]).bytes();
    let data = &message[20..];
    for (at, piece) in data.chunks(1600).enumerate() {
        let head = ipv4(B1, NODE_A).id(7).protocol(1);
        let offset = u16::try_from(at * 1600).unwrap();
        let head = if usize::from(offset) + piece.len() < data.len() {
            head.offset(offset).mf()
        } else {
            head.offset(offset)
        };
        h.rx(UPLINK, &(eth(UPLINK_MAC, B_MAC) / head / payload(piece)));
    }
    let sent = h.take_all();
    assert_eq!(sent.len(), 3, "4000 bytes in frames of 1984");
    let got: usize = sent.iter().map(|(_, bytes)| bytes.len() - 34).sum();
    assert_eq!(got, 4000);
    h.expect_counters(&[
        (Event::Reassembled.into(), 1),
        (Event::EchoReplySent.into(), 1),
        (Event::Fragmented.into(), 1),
    ]);
}

/// BR-9: a VLAN tag does not count as part of a frame's length at a bridge.
#[test]
fn a_tag_is_no_part_of_the_length_that_a_bridge_port_allows() {
    let mut h = Harness::new(bridged_node());
    let frame = |ethertype: u16, len: usize| {
        let mut bytes = [&Mac::BROADCAST.0[..], &bridged::PODS[0].0].concat();
        bytes.extend(ethertype.to_be_bytes());
        bytes.resize(len, 0);
        bytes
    };
    for (ethertype, len, passes) in [
        (0x88b5, 1514, true),
        (0x88b5, 1515, false),
        (0x8100, 1518, true),
        (0x8100, 1519, false),
        (0x88a8, 1518, true),
        (0x88a8, 1519, false),
    ] {
        h.rx_bytes(&[(bridged::PORTS[0], frame(ethertype, len))]);
        let ports = h.take_all().len();
        assert_eq!(ports, if passes { 2 } else { 0 }, "{ethertype:#x} {len}");
    }
}

/// GARP-4: each port defends its addresses, once in ten seconds, and goes on counting over a change of configuration.
#[test]
fn each_port_defends_its_addresses_by_a_clock_of_its_own() {
    let evil = Mac([2, 0, 0, 0, 6, 6]);
    let attack = |h: &mut Harness, port, ip| {
        h.rx(
            port,
            &(eth(Mac::BROADCAST, evil) / arp_request(evil, ip, ip)),
        );
        h.take_all().len()
    };
    let all = [(UPLINK, NODE_A), (POD1, GW_A), (POD2, GW_A)];
    let mut h = Harness::new(node_a());
    for (port, ip) in all {
        assert_eq!(attack(&mut h, port, ip), 1);
    }
    for (port, ip) in all {
        assert_eq!(attack(&mut h, port, ip), 0);
    }
    h.advance(Duration::from_millis(9_999));
    h.apply(resolved(node_a()));
    assert_eq!(attack(&mut h, UPLINK, NODE_A), 0);
    h.advance(Duration::from_millis(1));
    for (port, ip) in all {
        assert_eq!(attack(&mut h, port, ip), 1);
    }
}

/// GARP-6: an address that is gone again before it was announced is not announced; one that stays is.
#[test]
fn what_is_no_longer_there_is_not_announced() {
    let announcing = |addresses: &[Ipv4Addr]| {
        let mut snapshot = with_port(resolved(node_a()), UPLINK, |p| p.arp_notify = true);
        let like = snapshot.addresses[0];
        for &addr in addresses {
            let mut address = like;
            address.addr = addr;
            snapshot.addresses.push(address);
        }
        snapshot
    };
    let (stays, goes) = (
        Ipv4Addr::new(172, 16, 30, 77),
        Ipv4Addr::new(172, 16, 30, 78),
    );
    let mut h = Harness::new(announcing(&[]));
    h.advance(Duration::ZERO);
    assert_eq!(h.take_all().len(), 1, "the first address");
    h.apply(announcing(&[stays, goes]));
    h.apply(announcing(&[stays]));
    h.advance(Duration::ZERO);
    h.expect_tx(
        UPLINK,
        &(eth(Mac::BROADCAST, UPLINK_MAC) / arp_request(UPLINK_MAC, stays, stays)),
    );
    h.expect_silence();
}

/// IPIP-30 on a node that tracks connections: what a router says about the tunnel's own packets, which are nobody's
/// connection, still reaches the tunnel.
#[test]
fn a_tunnels_end_that_tracks_connections_learns_the_mtu_of_the_way() {
    let mut snapshot = node_k3();
    snapshot.nat.conntrack = ConntrackConfig {
        enabled: true,
        drop_invalid: true,
        ..ConntrackConfig::default()
    };
    let mut h = Harness::new(snapshot);
    let inner = ipv4(N3, N2).id(7).ttl(63).df() / udp(4000, 53) / vec![0; 1400];
    let outer = (ipv4(K3, K2).id(1).ttl(5).df() / inner).bytes();
    let report = ipv4(R, K3) / fragmentation_needed(1300) / payload(&outer[..28]);
    h.rx(UPLINK, &(eth(K3_MAC, R_MAC) / report));
    h.expect_silence();
    h.expect_counters(&[(Event::TunnelMtuLearned.into(), 1)]);
}

/// A trace tells of options, and the metric of the line of the table that led on: of the kind, hop and source it found.
#[test]
fn a_trace_tells_options_and_the_line_that_led_on() {
    let mut snapshot = resolved(node_a());
    let dst = "9.0.0.0/8";
    for (metric, target) in [
        (10, RouteTarget::Throw),
        (20, RouteTarget::Prohibit),
        (30, RouteTarget::Unreachable),
        (40, RouteTarget::Blackhole),
    ] {
        snapshot.routes.push(Route {
            metric,
            ..special(dst, target)
        });
    }
    let told = |kind: RouteKind, snapshot: &router_core::Snapshot| {
        let mut h = Harness::new(snapshot.clone());
        h.trace(1);
        let packet = ipv4(A1, Ipv4Addr::new(9, 1, 1, 1)).options(&[1, 1, 1, 0]) / udp(1, 2);
        h.rx(POD1, &(eth(POD1_MAC, A1_MAC) / packet));
        h.take_all();
        let steps = h.steps(1);
        let options = Step::Options { len: 4 };
        assert!(steps.contains(&(Role::Packet, options)), "{steps:?}");
        steps.into_iter().find_map(|(_, step)| match step {
            Step::Route {
                kind: k, metric, ..
            } if k == kind => Some(metric),
            _ => None,
        })
    };
    snapshot.routes.retain(|r| r.metric != 10);
    assert_eq!(told(RouteKind::Prohibit, &snapshot), Some(Some(20)));
    snapshot.routes.retain(|r| r.metric != 20);
    assert_eq!(told(RouteKind::Unreachable, &snapshot), Some(Some(30)));
    snapshot.routes.retain(|r| r.metric != 30);
    assert_eq!(told(RouteKind::Blackhole, &snapshot), Some(Some(40)));
    snapshot.routes.retain(|r| r.metric != 40);
    for (metric, via, src) in [(50, R, Some(NODE_A)), (60, NODE_B, None)] {
        snapshot.routes.push(Route {
            metric,
            src,
            ..route(dst, UPLINK, Some(via))
        });
    }
    assert_eq!(told(RouteKind::Unicast, &snapshot), Some(Some(50)));
}

/// A packet that only looks a little like the answer to a traced one is none.
#[test]
fn an_answer_is_exactly_the_reverse() {
    let mut pool = FramePool::new(16);
    let to = || eth(A1_MAC, POD1_MAC);
    let from = || eth(POD1_MAC, A1_MAC);
    let other = Ipv4Addr::new(9, 9, 9, 9);
    let about = |id: u16| (ipv4(B1, A1).id(id) / udp(9, 53)).bytes();
    let cases = [
        (ipv4(A1, B1) / udp(53, 9), true),
        (ipv4(A1, other) / udp(53, 9), false),
        (ipv4(other, B1) / udp(53, 9), false),
        (ipv4(A1, B1) / udp(9, 53), false),
        (ipv4(A1, B1) / tcp(53, 9, 0x12), false),
        (ipv4(other, B1) / unreachable(3) / payload(about(5)), true),
        (ipv4(A1, B1) / unreachable(3) / payload(about(6)), false),
        (ipv4(A1, B1) / echo_reply(9, 53), false),
    ];
    for (n, (packet, expected)) in cases.into_iter().enumerate() {
        let mut answers = Answers::default();
        let sent = to() / ipv4(B1, A1).id(5) / udp(9, 53);
        let sent = frame(&mut pool, POD1, Mark::new(3), &sent);
        answers.sent(POD1, &sent);
        let mut back = frame(&mut pool, POD1, Mark::NONE, &(from() / packet));
        assert_eq!(answers.mark(&mut back), expected, "case {n}");
        assert_eq!(answers.is_empty(), expected);
        for frame in [sent, back] {
            pool.free(frame);
        }
    }
    // Echoes by identifier and sequence number, and only packets that are marked as such.
    let ask = to() / ipv4(B1, A1) / echo_request(7, 2);
    for (ident, seq, expected) in [(7, 2, true), (7, 3, false), (8, 2, false)] {
        let mut answers = Answers::default();
        let sent = frame(&mut pool, POD1, Mark::new(3), &ask);
        answers.sent(POD1, &sent);
        let reply = from() / ipv4(A1, B1) / echo_reply(ident, seq);
        let mut back = frame(&mut pool, POD1, Mark::NONE, &reply);
        assert_eq!(answers.mark(&mut back), expected);
        for frame in [sent, back] {
            pool.free(frame);
        }
    }
    for mark in [Mark::NONE, Mark::new(3).answer(), Mark::new(3).error()] {
        let mut answers = Answers::default();
        let sent = frame(&mut pool, POD1, mark, &ask);
        answers.sent(POD1, &sent);
        assert!(answers.is_empty(), "{mark:?}");
        pool.free(sent);
    }
}

//! Traces: every kind of step is told by the stage that decides, in the order in which it happens.

use core::time::Duration;

use router_core::config::{RouteTarget, RpFilter};
use router_core::stats::RouteKind;
use router_core::testing::topology::*;
use router_core::testing::*;
use router_core::trace::{Answered, Answers, Fit, Mark, Role, Step, Transport, Withheld};
use router_core::{DropReason, Event, FramePool, NeighbourState};

fn traced(snapshot: router_core::Snapshot) -> Harness {
    let mut h = Harness::new(snapshot);
    h.trace(1);
    h
}

fn from_a1() -> Packet {
    eth(POD1_MAC, A1_MAC)
}

/// The steps of one role.
fn steps(h: &Harness, role: Role) -> Vec<Step> {
    let all = h.steps(1).into_iter();
    all.filter(|(r, _)| *r == role).map(|(_, s)| s).collect()
}

#[test]
fn a_forwarded_packet_tells_each_stage_in_order() {
    let mut h = traced(with_port(resolved(node_a()), POD1, |p| {
        p.rp_filter = RpFilter::Strict;
    }));
    h.rx(POD1, &(from_a1() / ipv4(A1, B1).ttl(9) / udp(7, 53) / b"x"));
    let told = steps(&h, Role::Packet);
    let [
        Step::Rx {
            port: POD1,
            len: 43,
            src: A1_MAC,
            dst: POD1_MAC,
        },
        Step::Accepted {
            port: POD1,
            group: false,
            from_host: false,
        },
        Step::Header { packet },
        Step::Source {
            src: A1,
            rp_filter: RpFilter::Strict,
        },
        Step::Route {
            dst: B1,
            kind: RouteKind::Unicast,
            prefix,
            via: Some(NODE_B),
            port: Some(UPLINK),
            metric: Some(0),
            src: None,
        },
        Step::Mtu {
            port: UPLINK,
            mtu: 1500,
            len: 29,
            fit: Fit::Fits,
        },
        Step::Ttl {
            before: 9,
            after: 8,
        },
        Step::Neighbour {
            port: UPLINK,
            ip: NODE_B,
            mac: B_MAC,
            state: Some(NeighbourState::Permanent),
        },
        Step::Tx {
            port: UPLINK,
            len: 43,
            src: UPLINK_MAC,
            dst: B_MAC,
        },
    ] = told[..]
    else {
        panic!("{told:#?}");
    };
    assert_eq!(prefix, "10.244.1.0/24".parse().ok());
    assert_eq!((packet.src, packet.dst, packet.ttl), (A1, B1, 9));
    let udp = Transport::Ports {
        sport: 7,
        dport: 53,
        flags: 0,
    };
    assert_eq!(packet.transport, udp);
}

/// The metric and preferred source of the line that was taken, not of another with the same prefix.
#[test]
fn a_route_is_told_with_the_line_it_came_from() {
    let mut snapshot = resolved(node_a());
    let mut worse = snapshot.routes[0].clone();
    worse.metric = 2000;
    snapshot.routes.insert(0, worse);
    let mut h = traced(snapshot);
    h.rx(POD1, &(from_a1() / ipv4(A1, X) / udp(1, 2)));
    assert!(steps(&h, Role::Packet).iter().any(|s| matches!(
        s,
        Step::Route { prefix: Some(p), metric: Some(1024), src: Some(NODE_A), via: Some(R), .. }
            if p.prefix_len() == 0
    )));
}

#[test]
fn every_refusal_ends_with_its_reason_and_tells_of_the_error() {
    let mut snapshot = resolved(node_a());
    snapshot.routes.retain(|r| r.dst.prefix_len() != 0);
    snapshot.routes.extend([
        special("192.0.2.0/28", RouteTarget::Blackhole),
        special("192.0.2.16/28", RouteTarget::Unreachable),
        special("192.0.2.32/28", RouteTarget::Prohibit),
    ]);
    let to = |n: u8| core::net::Ipv4Addr::new(192, 0, 2, n);
    let big = || vec![0; 1500];
    let cases = [
        (ipv4(A1, to(1)) / udp(1, 2), DropReason::Blackhole, None),
        (
            ipv4(A1, to(17)) / udp(1, 2),
            DropReason::Unreachable,
            Some((3, 1)),
        ),
        (
            ipv4(A1, to(33)) / udp(1, 2),
            DropReason::Prohibit,
            Some((3, 13)),
        ),
        (ipv4(A1, X) / udp(1, 2), DropReason::NoRoute, Some((3, 0))),
        (
            ipv4(A1, B1).ttl(1) / udp(1, 2),
            DropReason::TtlExpired,
            Some((11, 0)),
        ),
        (
            ipv4(A1, B1).df() / udp(1, 2) / big(),
            DropReason::FragmentationNeeded,
            Some((3, 4)),
        ),
    ];
    for (packet, reason, error) in cases {
        let mut h = traced(snapshot.clone());
        h.rx(POD1, &(from_a1() / packet));
        let told = steps(&h, Role::Packet);
        assert_eq!(told.last(), Some(&Step::Dropped { reason }), "{told:#?}");
        let made = steps(&h, Role::Error).into_iter().find_map(|s| match s {
            Step::Made {
                event: Event::IcmpErrorSent,
                packet,
            } => match packet.transport {
                Transport::Icmp { kind, code, .. } => Some((kind, code)),
                _ => None,
            },
            _ => None,
        });
        assert_eq!(made, error, "{reason}");
        let sent = steps(&h, Role::Error)
            .iter()
            .any(|s| matches!(s, Step::Tx { port: POD1, .. }));
        assert_eq!(sent, error.is_some(), "{reason}");
        if reason == DropReason::FragmentationNeeded {
            assert!(told.iter().any(|s| matches!(
                s,
                Step::Mtu {
                    fit: Fit::TooBig,
                    ..
                }
            )));
        }
    }
}

#[test]
fn a_withheld_error_tells_why() {
    let mut h = traced(resolved(node_a()));
    let about = from_a1() / ipv4(B1, A1) / udp(1, 2);
    h.rx(
        POD1,
        &(from_a1() / ipv4(A1, B1).ttl(1) / unreachable(3) / quote(&about)),
    );
    let forbidden = Step::Withheld {
        kind: 11,
        code: 0,
        why: Withheld::Forbidden,
    };
    assert!(steps(&h, Role::Packet).contains(&forbidden));
    let mut h = traced(resolved(node_a()));
    for _ in 0..20 {
        h.rx(POD1, &(from_a1() / ipv4(A1, B1).ttl(1) / udp(1, 2)));
    }
    let limited = Step::Withheld {
        kind: 11,
        code: 0,
        why: Withheld::Limited,
    };
    assert!(steps(&h, Role::Packet).contains(&limited));
}

#[test]
fn a_packet_that_waits_tells_of_every_question_and_of_its_end() {
    let mut h = traced(node_a());
    h.rx(POD1, &(from_a1() / ipv4(A1, B1) / udp(1, 2)));
    h.advance(Duration::from_secs(4));
    let asked = Step::Asked {
        port: UPLINK,
        ip: NODE_B,
        to: None,
    };
    let told = steps(&h, Role::Packet);
    let from = told.iter().position(|s| matches!(s, Step::Held { .. }));
    assert_eq!(
        told[from.expect("it was held")..],
        [
            Step::Held {
                port: UPLINK,
                ip: NODE_B
            },
            asked,
            asked,
            asked,
            Step::Dropped {
                reason: DropReason::NeighbourFailed
            },
        ]
    );
}

#[test]
fn a_packet_that_waited_goes_on_with_its_mark() {
    let mut h = traced(node_a());
    h.rx(POD1, &(from_a1() / ipv4(A1, B1) / udp(1, 2)));
    h.rx(
        UPLINK,
        &(eth(UPLINK_MAC, B_MAC) / arp_reply(B_MAC, NODE_B, UPLINK_MAC, NODE_A)),
    );
    let told = steps(&h, Role::Packet);
    let released = Step::Released {
        port: UPLINK,
        ip: NODE_B,
    };
    let at = told
        .iter()
        .position(|s| *s == released)
        .expect("it was released");
    assert!(matches!(
        told[at + 1],
        Step::Neighbour {
            mac: B_MAC,
            state: Some(NeighbourState::Reachable),
            ..
        }
    ));
    assert!(matches!(
        told[at + 2],
        Step::Tx {
            port: UPLINK,
            dst: B_MAC,
            ..
        }
    ));
}

#[test]
fn pieces_of_a_packet_carry_its_mark() {
    let mut h = traced(with_port(resolved(node_a()), UPLINK, |p| p.mtu = 600));
    h.rx(
        POD1,
        &(from_a1() / ipv4(A1, B1) / udp(1, 2) / vec![0; 1400]),
    );
    let told = steps(&h, Role::Packet);
    let count = |is: fn(&Step) -> bool| told.iter().filter(|s| is(s)).count();
    assert!(told.contains(&Step::Fragmented { pieces: 3 }));
    assert_eq!(count(|s| matches!(s, Step::Piece { .. })), 3);
    assert_eq!(count(|s| matches!(s, Step::Tx { port: UPLINK, .. })), 3);
}

#[test]
fn what_the_router_answers_is_told_as_the_answer() {
    let mut h = traced(resolved(node_a()));
    h.rx(POD1, &(from_a1() / ipv4(A1, GW_A) / echo_request(1, 1)));
    let told = steps(&h, Role::Packet);
    assert!(
        told.ends_with(&[Step::Local { by: Answered::Echo }, Step::Consumed]),
        "{told:#?}"
    );
    let answer = steps(&h, Role::Answer);
    assert!(matches!(
        answer[0],
        Step::Made {
            event: Event::EchoReplySent,
            ..
        }
    ));
    assert!(matches!(answer.last(), Some(Step::Tx { port: POD1, .. })));

    let mut h = traced(resolved(node_a()));
    h.rx(POD1, &(from_a1() / ipv4(A1, NODE_A) / tcp(1, 2, 2)));
    assert!(steps(&h, Role::Packet).contains(&Step::Local {
        by: Answered::Reset
    }));
}

#[test]
fn the_host_side_is_told_in_both_directions() {
    let mut h = traced(with_host(resolved(node_a())));
    h.rx(POD1, &(from_a1() / ipv4(A1, NODE_A) / udp(1, 2)));
    let told = steps(&h, Role::Packet);
    assert!(told.contains(&Step::Local { by: Answered::Host }));
    assert!(matches!(told.last(), Some(Step::Tx { port: HOST, .. })));

    let mut h = traced(with_host(resolved(node_a())));
    h.rx(
        HOST,
        &(eth(HOST_MAC, HOST_PEER_MAC) / ipv4(NODE_A, B1).ttl(5) / udp(1, 2)),
    );
    let told = steps(&h, Role::Packet);
    assert!(told.contains(&Step::Accepted {
        port: HOST,
        group: false,
        from_host: true
    }));
    assert!(told.contains(&Step::Ttl {
        before: 5,
        after: 5
    }));
}

/// FWD-94.
#[test]
fn look_ups_are_counted_by_kind_of_route() {
    let mut snapshot = resolved(node_a());
    snapshot
        .routes
        .push(special("192.0.2.0/28", RouteTarget::Blackhole));
    let mut h = Harness::new(snapshot);
    let hole = core::net::Ipv4Addr::new(192, 0, 2, 1);
    for dst in [A2, B1, hole, hole, NODE_A] {
        h.rx(POD1, &(from_a1() / ipv4(A1, dst) / udp(1, 2)));
    }
    let routes = &h.router().stats().routes;
    assert_eq!(routes.get(RouteKind::Blackhole), 2);
    assert_eq!(routes.get(RouteKind::Local), 1);
    // Two forwarded, and the port unreachable that NODE_A's router sent back.
    assert_eq!(routes.get(RouteKind::Unicast), 3);
}

/// What a pod sends carries no mark; its answer is known by what it answers, once, and by the port it comes by.
#[test]
fn an_answer_is_told_from_other_traffic() {
    let mut pool = FramePool::new(8);
    let mut frame = |port, mark, packet: Packet| {
        let mut frame = pool.alloc().expect("eight frames are enough");
        assert!(frame.fill(&packet.bytes()));
        frame.set_port(port);
        frame.set_mark(mark);
        frame
    };
    let link = || eth(A1_MAC, POD1_MAC);
    let mut answers = Answers::default();
    let sent = frame(POD1, Mark::new(3), link() / ipv4(B1, A1) / udp(9, 53));
    answers.sent(POD1, &sent);
    let mut other = frame(POD1, Mark::NONE, from_a1() / ipv4(A1, B1) / udp(53, 10));
    assert!(!answers.mark(&mut other));
    let mut elsewhere = frame(POD2, Mark::NONE, from_a1() / ipv4(A1, B1) / udp(53, 9));
    assert!(!answers.mark(&mut elsewhere));
    let mut answer = frame(POD1, Mark::NONE, from_a1() / ipv4(A1, B1) / udp(53, 9));
    assert!(answers.mark(&mut answer));
    assert_eq!(answer.mark(), Mark::new(3).answer());
    assert!(answers.is_empty());
    let about = link() / ipv4(B1, A1) / udp(9, 53);
    answers.sent(POD1, &sent);
    let error = from_a1() / ipv4(A1, B1) / unreachable(3) / quote(&about);
    let mut error = frame(POD1, Mark::NONE, error);
    assert!(answers.mark(&mut error));
    answers.sent(POD1, &sent);
    answers.forget(3);
    assert!(answers.is_empty());
}

/// FWD-94: packets of a known connection take its route without looking it up, which is a hit all the same; and a traced
/// one, which goes the long way to tell of it, leaves as the others do.
#[test]
fn a_known_connection_hits_its_route_with_every_packet() {
    let run = |trace: bool| {
        let mut h = Harness::new(masquerading(resolved(node_a())));
        if trace {
            h.trace(1);
        }
        for _ in 0..3 {
            h.rx(POD1, &(from_a1() / ipv4(A1, X) / udp(7, 53) / b"ask"));
            let back = eth(UPLINK_MAC, R_MAC) / ipv4(X, NODE_A) / udp(53, 7) / b"answer";
            h.rx(UPLINK, &back);
        }
        h
    };
    let (mut plain, mut traced) = (run(false), run(true));
    let sent = plain.take_all();
    assert_eq!(sent.len(), 6, "every packet went through");
    assert_eq!(sent, traced.take_all());
    assert_eq!(plain.router().stats(), traced.router().stats());
    assert_eq!(plain.router().stats().routes.get(RouteKind::Unicast), 6);
    let told = steps(&traced, Role::Packet);
    let routes = told.iter().filter(|s| matches!(s, Step::Route { .. }));
    assert_eq!(routes.count(), 6, "{told:#?}");
}

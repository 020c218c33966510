//! A node of several workers, each with a router: whose a packet is, and that the workers together are the node that one
//! would be.

use core::net::Ipv4Addr;
use core::time::Duration;

use proptest::prelude::*;
use router_core::config::nat::{Backend, Matches, NetMatch, PREROUTING, Rule, Target};
use router_core::config::{Rate, Shape};
use router_core::testing::calico::{self, node_k3};
use router_core::testing::topology::*;
use router_core::testing::*;
use router_core::{Event, Mac, PortId, Share, Snapshot, Undivided};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const SYN: u8 = 2;
const SYN_ACK: u8 = 0x12;
const ACK: u8 = 0x10;

fn a1() -> Packet {
    eth(POD1_MAC, A1_MAC)
}

fn a2() -> Packet {
    eth(POD2_MAC, A2_MAC)
}

fn r() -> Packet {
    eth(UPLINK_MAC, R_MAC)
}

fn crew(snapshot: &Snapshot) -> Crew {
    Crew::new(2, snapshot, Steering::Linux)
}

fn masqueraded() -> Snapshot {
    masquerading(resolved(node_a()))
}

fn tracked() -> Snapshot {
    let mut snapshot = resolved(node_a());
    snapshot.nat.conntrack.enabled = true;
    snapshot
}

fn handed(crew: &Crew) -> [u64; 2] {
    [0, 1].map(|worker| crew.router(worker).stats().handed)
}

/// Answers come to the wrong worker, who asks nobody but the claims.
#[test]
fn an_answer_that_comes_to_another_worker_is_handed_to_its_connections_own() {
    let mut crew = crew(&masqueraded());
    crew.rx_by(
        1,
        POD1,
        &(a1() / ipv4(A1, X) / udp(4000, 53) / b"q").bytes(),
    );
    let sent = crew.take_with_worker();
    assert_eq!((sent.len(), sent[0].0, sent[0].1), (1, 1, UPLINK));
    crew.rx_by(
        0,
        UPLINK,
        &(r() / ipv4(X, NODE_A) / udp(53, 4000) / b"a").bytes(),
    );
    let answer = eth(A1_MAC, POD1_MAC) / ipv4(X, A1).ttl(63) / udp(53, 4000) / b"a";
    assert_eq!(crew.take_with_worker(), [(1, POD1, answer.bytes())]);
    assert_eq!(handed(&crew), [1, 0]);
    let sessions: Vec<_> = crew.sessions().collect();
    assert_eq!(sessions.len(), 1);
    assert!(sessions[0].replied);
}

/// NAT-12: both pods want the same source toward the same peer; workers that don't talk would both give it.
#[test]
fn two_workers_never_give_the_same_source() {
    let mut crew = crew(&masqueraded());
    for (worker, port, frame, src) in [(0, POD1, a1(), A1), (1, POD2, a2(), A2)] {
        crew.rx_by(
            worker,
            port,
            &(frame / ipv4(src, X) / udp(4000, 53) / b"q").bytes(),
        );
    }
    let ports: Vec<_> = crew
        .take_all()
        .iter()
        .map(|(_, f)| u16::from_be_bytes([f[34], f[35]]))
        .collect();
    assert_eq!((ports.len(), ports[0]), (2, 4000));
    assert_ne!(ports[1], 4000);
}

/// A connection's end frees its tuples for all.
#[test]
fn what_ends_at_one_worker_can_begin_at_another() {
    let mut crew = crew(&masqueraded());
    let query = |frame: Packet, src| (frame / ipv4(src, X) / udp(4000, 53) / b"q").bytes();
    crew.rx_by(0, POD1, &query(a1(), A1));
    crew.advance(Duration::from_secs(40));
    crew.take_all();
    let claims = crew.router(0).share().unwrap().claims();
    assert!(claims.is_empty());
    crew.rx_by(1, POD2, &query(a2(), A2));
    let sent = crew.take_with_worker();
    assert_eq!(
        (sent[0].0, &sent[0].2[34..36]),
        (1, &4000_u16.to_be_bytes()[..])
    );
    crew.router_mut(1)
        .flush_sessions(&router_core::Filter::default());
    assert!(crew.router(0).share().unwrap().claims().is_empty());
}

/// NAT-51: an error is about a connection of another worker.
#[test]
fn an_icmp_error_follows_what_it_quotes() {
    let mut crew = crew(&masqueraded());
    let query = ipv4(A1, X) / udp(4000, 53) / b"q";
    crew.rx_by(1, POD1, &(a1() / query).bytes());
    let (_, sent) = crew.take_all().remove(0);
    let quoted = r() / payload(sent[14..].to_vec());
    let error = r() / ipv4(R, NODE_A) / time_exceeded() / payload(quoted.bytes()[14..].to_vec());
    crew.rx_by(0, UPLINK, &error.bytes());
    let heard = crew.take_with_worker();
    assert_eq!((heard.len(), heard[0].0, heard[0].1), (1, 1, POD1));
    assert_eq!(heard[0].2[30..34], A1.octets());
    assert_eq!(handed(&crew), [1, 0]);
}

/// NAT-FRAG: whose a datagram is in pieces is known when all of them are there.
#[test]
fn fragments_are_handed_over_when_their_datagram_is_complete() {
    let mut crew = crew(&masqueraded());
    let data = vec![7; 3000];
    crew.rx_by(
        1,
        POD1,
        &(a1() / ipv4(A1, X) / udp(4000, 53) / b"q").bytes(),
    );
    crew.take_all();
    let answer = r() / ipv4(X, NODE_A).id(9) / udp(53, 4000) / data.clone();
    for piece in fragments(&answer, 1500).iter().rev() {
        crew.rx_by(0, UPLINK, &piece.bytes());
    }
    let whole = eth(A1_MAC, POD1_MAC) / ipv4(X, A1).id(9).ttl(63) / udp(53, 4000) / data;
    let expected: Vec<_> = fragments(&whole, 1500)
        .iter()
        .map(|piece| (1, POD1, piece.bytes()))
        .collect();
    assert_eq!(crew.take_with_worker(), expected);
    assert_eq!(handed(&crew), [3, 0]);
    assert_eq!(crew.router(1).stats().events.get(Event::Reassembled), 1);
}

/// The choice of a service's endpoint is made once, wherever packets of the connection arrive.
#[test]
fn a_service_has_one_endpoint_for_a_connection() {
    let mut snapshot = tracked();
    let backends = [A2, B1].map(|addr| Backend {
        addr,
        port: Some(8080),
        weight: 1,
    });
    let rule = Rule::new(Target::Dnat {
        backends: backends.into(),
        affinity: None,
    });
    let matches = Matches {
        dst: Some(NetMatch::within(VIP.into())),
        ..Matches::default()
    };
    snapshot.nat.append(PREROUTING, rule.when(matches));
    let mut crew = Crew::new(4, &snapshot, Steering::Any(3));
    for n in 0..40_u16 {
        let sport = 5000 + n;
        let sent: Vec<_> = (0..4)
            .map(|seq| {
                let flags = if seq == 0 { SYN } else { ACK };
                let segment = tcp(sport, 80, flags).seq(u32::from(seq != 0)).ack(0);
                crew.rx(POD1, &(a1() / ipv4(A1, VIP) / segment));
                let (port, bytes) = crew.take_all().remove(0);
                if seq == 0 {
                    let (from, to) = if port == POD2 {
                        (A2, a2())
                    } else {
                        (B1, eth(UPLINK_MAC, B_MAC))
                    };
                    let answer = to / ipv4(from, A1) / tcp(8080, sport, SYN_ACK).seq(0).ack(1);
                    crew.rx(port, &answer);
                    let (_, answer) = crew.take_all().remove(0);
                    assert_eq!(answer[26..30], VIP.octets());
                }
                (port, bytes[30..34].to_vec())
            })
            .collect();
        assert!(sent.iter().all(|s| *s == sent[0]), "{sent:?}");
    }
    let used: Vec<_> = (0..4)
        .map(|w| crew.router(w).sessions(crew.now()).count())
        .collect();
    assert!(
        used.iter().all(|&n| n > 0) && used.iter().sum::<usize>() == 40,
        "{used:?}"
    );
}

/// IPIP-22: what came out of a tunnel goes on as such at its connection's worker.
#[test]
fn a_packet_out_of_a_tunnel_is_handed_over_as_what_came_out() {
    let mut snapshot = node_k3();
    snapshot.nat.conntrack.enabled = true;
    let mut crew = crew(&snapshot);
    let (n2, n3) = (calico::N2, calico::N3);
    let out = eth(calico::CALI_MAC, calico::N3_MAC) / ipv4(n3, n2) / udp(1, 2) / b"x";
    crew.rx_by(1, POD1, &out.bytes());
    assert_eq!(crew.take_with_worker().len(), 1);
    let inner = ipv4(n2, n3).ttl(63) / udp(2, 1) / b"y";
    let back = eth(calico::K3_MAC, calico::K2_MAC) / ipv4(calico::K2, calico::K3).ttl(63) / inner;
    crew.rx_by(0, UPLINK, &back.bytes());
    let sent = crew.take_with_worker();
    let expected = eth(calico::N3_MAC, calico::CALI_MAC) / ipv4(n2, n3).ttl(62) / udp(2, 1) / b"y";
    assert_eq!(sent, [(1, POD1, expected.bytes())]);
    let decapsulated = |w: usize| crew.router(w).stats().events.get(Event::Decapsulated);
    assert_eq!((decapsulated(0), decapsulated(1)), (1, 0));
}

/// ARP-4, NEI-4: who asked does not matter.
#[test]
fn every_worker_hears_of_a_neighbour_and_one_answers() {
    let mut crew = crew(&node_a());
    crew.rx_by(1, POD1, &(a1() / ipv4(A1, X) / udp(1, 2)).bytes());
    let asked = crew.take_with_worker();
    assert_eq!((asked.len(), asked[0].0, asked[0].1), (1, 1, UPLINK));
    crew.rx_by(
        0,
        UPLINK,
        &(r() / arp_reply(R_MAC, R, UPLINK_MAC, NODE_A)).bytes(),
    );
    let released = crew.take_with_worker();
    assert_eq!(
        (released.len(), released[0].0, released[0].1),
        (1, 1, UPLINK)
    );
    let ask = eth(Mac::BROADCAST, A1_MAC) / arp_request(A1_MAC, A1, GW_A);
    crew.rx_by(0, POD1, &ask.bytes());
    assert_eq!(crew.take_all().len(), 1, "one answer");
    for worker in 0..2 {
        let known = crew.router(worker).neighbours();
        assert!(
            known.into_iter().any(|n| (n.port, n.ip) == (POD1, A1)),
            "{worker}"
        );
    }
}

/// GARP-6.
#[test]
fn a_node_announces_an_address_once() {
    let mut crew = crew(&with_port(resolved(node_a()), UPLINK, |p| {
        p.arp_notify = true;
    }));
    crew.advance(Duration::from_secs(1));
    let said = crew.take_with_worker();
    assert_eq!((said.len(), said[0].0, said[0].1), (1, 0, UPLINK));
}

/// A frame that finds the ring full is lost, and counted by nobody twice.
#[test]
fn a_full_ring_loses_a_frame_and_nothing_else() {
    let mut crew = crew(&masqueraded());
    crew.rx_by(
        1,
        POD1,
        &(a1() / ipv4(A1, X) / udp(4000, 53) / b"q").bytes(),
    );
    crew.take_all();
    crew.limit_ring(0);
    let answer = (r() / ipv4(X, NODE_A) / udp(53, 4000) / b"a").bytes();
    crew.rx_by(0, UPLINK, &answer);
    assert_eq!((crew.take_all().len(), crew.lost()), (0, 1));
    crew.limit_ring(1);
    crew.rx_by(0, UPLINK, &answer);
    assert_eq!((crew.take_all().len(), crew.lost()), (1, 1));
}

/// NAT-66: the limit is the node's.
#[test]
fn each_worker_has_its_part_of_the_limit() {
    let mut snapshot = tracked();
    snapshot.nat.conntrack.limit = 6;
    let mut crew = Crew::new(3, &snapshot, Steering::Any(5));
    for n in 0..30 {
        crew.rx(POD1, &(a1() / ipv4(A1, X) / udp(1000 + n, 53)));
    }
    crew.take_all();
    assert_eq!(crew.sessions().count(), 6);
    let used = (0..3).map(|w| crew.router(w).sessions(crew.now()).count());
    assert!(used.into_iter().all(|n| n == 2));
}

/// What can't be divided is the first worker's, and what has begun elsewhere stays there.
#[test]
fn a_node_that_can_not_be_divided_is_the_first_workers() {
    let mut crew = crew(&masqueraded());
    let query = (a1() / ipv4(A1, X) / udp(4000, 53) / b"q").bytes();
    crew.rx_by(1, POD1, &query);
    crew.take_all();
    let rate = Rate {
        rate: 1_000_000,
        burst: 10_000,
        limit: 10_000,
    };
    let shape = Shape {
        rx: None,
        tx: Some(rate),
    };
    let limited = with_port(masqueraded(), POD2, |p| p.shape = shape);
    assert_eq!(Share::undivided(&limited), Some(Undivided::Bandwidth));
    crew.apply(&limited);
    let other = (a2() / ipv4(A2, X) / udp(4001, 53) / b"q").bytes();
    crew.rx_by(1, POD2, &other);
    crew.rx_by(1, POD1, &query);
    let by: Vec<_> = crew.take_with_worker().iter().map(|s| s.0).collect();
    assert_eq!(by, [0, 1]);
    let ask = eth(Mac::BROADCAST, A1_MAC) / arp_request(A1_MAC, A1, GW_A);
    crew.rx_by(1, POD1, &ask.bytes());
    let answered = crew.take_with_worker();
    assert_eq!((answered.len(), answered[0].0), (1, 0));
    crew.apply(&masqueraded());
    crew.rx_by(1, POD2, &(a2() / ipv4(A2, X) / udp(4002, 53)).bytes());
    assert_eq!(crew.take_with_worker()[0].0, 1);
    crew.router_mut(1).leave_to_first(true);
    crew.rx_by(1, POD2, &(a2() / ipv4(A2, X) / udp(4003, 53)).bytes());
    assert_eq!(crew.take_with_worker()[0].0, 0);
}

/// What every device's driver does keeps a flow with one worker, so that nothing has to be handed over.
#[test]
fn where_drivers_steer_nothing_is_handed_over() {
    let mut crew = Crew::new(4, &masqueraded(), Steering::Linux);
    for n in 0..50_u16 {
        for round in 0..3 {
            crew.rx(
                POD1,
                &(a1() / ipv4(A1, X) / udp(4000 + n, 53) / vec![round]),
            );
            let (_, sent) = crew.take_all().remove(0);
            let port = u16::from_be_bytes([sent[34], sent[35]]);
            crew.rx(UPLINK, &(r() / ipv4(X, NODE_A) / udp(53, port) / b"a"));
            assert_eq!(crew.take_all().len(), 1);
        }
    }
    let all: Vec<_> = (0..4).map(|w| crew.router(w).stats().clone()).collect();
    assert!(all.iter().all(|s| s.handed == 0 && s.rx > 0), "{all:?}");
}

/// A packet of the plain node that forwards, or of the one that tracks: port, flow, whether it is the way back.
type Sent = (u16, bool);

fn forth((sport, back): Sent) -> (PortId, Packet) {
    if back {
        (POD2, a2() / ipv4(A2, A1) / udp(53, sport) / b"back")
    } else {
        (POD1, a1() / ipv4(A1, A2) / udp(sport, 53) / b"forth")
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever queues packets come in by, workers send what one router sends, each flow's packets in order.
    #[test]
    fn several_workers_send_what_one_router_sends(
        sent in prop::collection::vec((4000_u16..4006, any::<bool>()), 1..80),
        of in 2_usize..6,
        queues in any::<u64>(),
        tracks in any::<bool>(),
        linux in any::<bool>(),
    ) {
        let snapshot = if tracks { tracked() } else { resolved(node_a()) };
        let steering = if linux { Steering::Linux } else { Steering::Any(queues) };
        let mut crew = Crew::new(of, &snapshot, steering);
        let mut one = Harness::new(snapshot);
        for (n, &packet) in sent.iter().enumerate() {
            let (port, frame) = forth(packet);
            let frame = frame / u16::try_from(n).unwrap().to_be_bytes().to_vec();
            one.rx(port, &frame);
            crew.rx(port, &frame);
        }
        prop_assert_eq!(one.take_all(), crew.take_all());
        let mut sessions: Vec<_> = crew.sessions().map(|s| (s.original, s.reply, s.replied)).collect();
        sessions.sort_unstable();
        let mut expected: Vec<_> = one.router().sessions(one.now()).map(|s| (s.original, s.reply, s.replied)).collect();
        expected.sort_unstable();
        prop_assert_eq!(sessions, expected);
    }
}

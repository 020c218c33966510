//! Destination NAT: host ports as the portmap plugin maps them (section 4.8), and services with several backends.

use super::*;
use router_core::config::nat::{Backend, Matches, NetMatch, PREROUTING, Rule, Target};
use router_core::{DropReason, Filter};

const UDP: u8 = 17;
const TCP: u8 = 6;
const SYN: u8 = 2;
const SYN_ACK: u8 = 0x12;

/// Host port 8080 of node A leads to a2:80.
fn mapped(protocol: u8) -> Snapshot {
    let subnet = "10.244.0.3/24".parse().expect("a network");
    host_port(with_host(node()), (protocol, 8080), (A2, 80), subnet)
}

fn host() -> Packet {
    eth(HOST_MAC, HOST_PEER_MAC)
}

fn to_host() -> Packet {
    eth(HOST_PEER_MAC, HOST_MAC)
}

/// PM-1, PM-2: any address of the node leads to the pod, which sees its client; the client hears from where it asked.
#[test]
fn a_host_port_leads_to_the_pod_and_back() {
    let mut h = Harness::new(mapped(TCP));
    for (n, addr) in [NODE_A, GW_A, Ipv4Addr::new(172, 17, 0, 1)]
        .into_iter()
        .enumerate()
    {
        let client = 5000 + u16::try_from(n).expect("three addresses");
        h.rx(
            UPLINK,
            &(r() / ipv4(X, addr) / tcp(client, 8080, SYN).seq(1)),
        );
        h.expect_tx(
            POD2,
            &(to_a2() / ipv4(X, A2).ttl(63) / tcp(client, 80, SYN).seq(1)),
        );
        h.rx(
            POD2,
            &(a2() / ipv4(A2, X) / tcp(80, client, SYN_ACK).seq(9).ack(2)),
        );
        h.expect_tx(
            UPLINK,
            &(to_r() / ipv4(addr, X).ttl(63) / tcp(8080, client, SYN_ACK).seq(9).ack(2)),
        );
    }
    // Another port, or protocol, is the node's own.
    h.rx(UPLINK, &(r() / ipv4(X, NODE_A) / tcp(1, 8081, SYN)));
    h.expect_tx(HOST, &(to_host() / ipv4(X, NODE_A) / tcp(1, 8081, SYN)));
    h.rx(UPLINK, &(r() / ipv4(X, NODE_A) / udp(1, 8080) / b"x"));
    h.expect_tx(HOST, &(to_host() / ipv4(X, NODE_A) / udp(1, 8080) / b"x"));
    // And an address elsewhere is no local one.
    h.rx(POD1, &(a1() / ipv4(A1, NODE_B) / tcp(1, 8080, SYN)));
    assert_eq!(source_of(&h.take(UPLINK)), (NODE_A, 1));
}

/// PM-1, PM-2: the node's own packets are mapped too, in OUTPUT.
#[test]
fn a_host_port_serves_the_node_itself() {
    let mut h = Harness::new(mapped(UDP));
    h.rx(
        HOST,
        &(host() / ipv4(NODE_A, NODE_A) / udp(5000, 8080) / b"q"),
    );
    let sent = h.take(POD2);
    let (src, sport) = source_of(&sent);
    assert_eq!(
        sent,
        (to_a2() / ipv4(src, A2) / udp(sport, 80) / b"q").bytes()
    );
    h.rx(POD2, &(a2() / ipv4(A2, src) / udp(80, sport) / b"a"));
    let back = h.take(HOST);
    assert_eq!(source_of(&back), (NODE_A, 8080));
    assert_eq!(back[30..34], NODE_A.octets());
    assert_eq!(back[36..38], 5000_u16.to_be_bytes());
    assert_eq!(back[42..], *b"a");
}

/// As [`mapped`], with route_localnet on the host port and on a2's, as the plugin sets it there.
fn mapped_with_localnet(protocol: u8) -> Snapshot {
    let mut snapshot = mapped(protocol);
    snapshot.nat.conntrack.localnet_local_only = true;
    for id in [HOST, POD1, POD2] {
        snapshot = with_port(snapshot, id, |port| port.route_localnet = true);
    }
    snapshot
}

const LO: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// PM-4: 127.0.0.1 of the node is an address of the host port, and the pod sees its gateway as the client.
#[test]
fn a_host_port_serves_the_nodes_loopback() {
    let mut h = Harness::new(mapped_with_localnet(TCP));
    h.rx(HOST, &(host() / ipv4(LO, LO) / tcp(5000, 8080, SYN).seq(1)));
    h.expect_tx(
        POD2,
        &(to_a2() / ipv4(GW_A, A2) / tcp(5000, 80, SYN).seq(1)),
    );
    h.rx(
        POD2,
        &(a2() / ipv4(A2, GW_A) / tcp(80, 5000, SYN_ACK).seq(9).ack(2)),
    );
    h.expect_tx(
        HOST,
        &(to_host() / ipv4(LO, LO) / tcp(8080, 5000, SYN_ACK).seq(9).ack(2)),
    );
    h.expect_silence();
    // What is not mapped stays on the node.
    h.rx(HOST, &(host() / ipv4(LO, LO) / tcp(5000, 8081, SYN)));
    h.expect_tx(HOST, &(to_host() / ipv4(LO, LO) / tcp(5000, 8081, SYN)));
}

/// PM-4, FWD-10: nobody else reaches 127.0.0.1, whatever route_localnet says, and nothing leaves with such a source.
#[test]
fn the_nodes_loopback_is_closed_to_others() {
    let mut h = Harness::new(mapped_with_localnet(TCP));
    for (port, from, src) in [(POD1, a1(), A1), (POD2, a2(), A2), (UPLINK, r(), X)] {
        for dport in [8080, 8081] {
            let packet = from.clone() / ipv4(src, LO) / tcp(5000, dport, SYN);
            h.expect_silent_drop(port, &packet, DropReason::MartianDestination);
        }
    }
    assert!(sessions(&h).is_empty());
    let forged = a1() / ipv4(LO, A2) / tcp(5000, 80, SYN);
    h.expect_silent_drop(POD1, &forged, DropReason::MartianSource);
    let leaking = host() / ipv4(LO, A1) / tcp(5000, 80, SYN);
    h.expect_silent_drop(HOST, &leaking, DropReason::MartianSource);
    // An answer to a connection that the node has is let through; one to a connection that it has not is not.
    let stray = a2() / ipv4(A2, LO) / tcp(80, 5000, SYN_ACK).seq(9).ack(2);
    h.rx(POD2, &stray);
    h.expect_silence();
}

/// PM-3: whoever shares the pod's subnet, the pod itself included, is seen as the gateway, so that answers come back the
/// way they went.
#[test]
fn a_hairpin_is_masqueraded() {
    let mut h = Harness::new(mapped(UDP));
    for (port, from, to, src) in [(POD1, a1(), to_a1(), A1), (POD2, a2(), to_a2(), A2)] {
        h.rx(port, &(from / ipv4(src, NODE_A) / udp(5000, 8080) / b"q"));
        let sent = h.take(POD2);
        let (gateway, sport) = source_of(&sent);
        assert_eq!(gateway, GW_A);
        assert_eq!(
            sent,
            (to_a2() / ipv4(GW_A, A2).ttl(63) / udp(sport, 80) / b"q").bytes()
        );
        h.rx(POD2, &(a2() / ipv4(A2, GW_A) / udp(80, sport) / b"a"));
        h.expect_tx(
            port,
            &(to / ipv4(NODE_A, src).ttl(63) / udp(8080, 5000) / b"a"),
        );
        h.expect_silence();
    }
}

/// PM-5: a pod of another node comes as its node, which had masqueraded it before.
#[test]
fn a_remote_pod_arrives_as_its_node() {
    let mut h = Harness::new(mapped(UDP));
    let from_b = eth(UPLINK_MAC, B_MAC);
    h.rx(
        UPLINK,
        &(from_b / ipv4(NODE_B, NODE_A) / udp(5000, 8080) / b"q"),
    );
    h.expect_tx(
        POD2,
        &(to_a2() / ipv4(NODE_B, A2).ttl(63) / udp(5000, 80) / b"q"),
    );
    // What its own node makes of a1's: KM-4.
    h.rx(POD1, &(a1() / ipv4(A1, NODE_B) / udp(5000, 8080) / b"q"));
    h.expect_tx(
        UPLINK,
        &(eth(B_MAC, UPLINK_MAC) / ipv4(NODE_A, NODE_B).ttl(63) / udp(5000, 8080) / b"q"),
    );
}

/// PM-6: time to live and routes are those of the translated packet, errors quote what the client sent.
#[test]
fn errors_about_a_host_port_quote_what_the_client_sent() {
    let mut h = Harness::new(mapped(UDP));
    let dead = r() / ipv4(X, NODE_A).ttl(1) / udp(5000, 8080) / b"q";
    h.rx(UPLINK, &dead);
    h.expect_tx(
        UPLINK,
        &(to_r() / ipv4(NODE_A, X).tos(0xc0).any_id() / time_exceeded() / quote(&dead)),
    );
    // For the node itself a time to live of one is enough.
    let alive = ipv4(X, NODE_A).ttl(1) / udp(5000, 8081) / b"q";
    h.rx(UPLINK, &(r() / alive.clone()));
    h.expect_tx(HOST, &(to_host() / alive));
    let mut gone = mapped(UDP);
    gone.routes
        .retain(|route| route.dst.to_string() != "10.244.0.3/32");
    gone.routes.push(special(
        "10.244.0.3/32",
        router_core::config::RouteTarget::Unreachable,
    ));
    let mut h = Harness::new(gone);
    let lost = r() / ipv4(X, NODE_A) / udp(5000, 8080) / b"q";
    h.rx(UPLINK, &lost);
    let error = h.take(UPLINK);
    assert_eq!(error[42..], quote(&lost).bytes()[..]);
    assert!(sessions(&h).is_empty());
}

/// PM-7: when the pod behind a UDP port is replaced, connections of that port are flushed and the client's next datagram
/// reaches the new one; without that it would go on to the old one.
#[test]
fn flushing_a_udp_port_frees_its_clients() {
    let ask = |h: &mut Harness| {
        h.rx(UPLINK, &(r() / ipv4(X, NODE_A) / udp(5000, 8080) / b"q"));
        h.take_all()[0].0
    };
    let mut h = Harness::new(mapped(UDP));
    assert_eq!(ask(&mut h), POD2);
    h.rx(
        UPLINK,
        &(r() / ipv4(X, NODE_A) / udp(5000, 9090) / b"other"),
    );
    h.take(HOST);
    let subnet = "10.244.0.2/24".parse().expect("a network");
    h.apply(host_port(with_host(node()), (UDP, 8080), (A1, 80), subnet));
    assert_eq!(ask(&mut h), POD2);
    let port = Filter {
        protocol: Some(UDP),
        dport: Some(8080),
        ..Filter::default()
    };
    assert_eq!(h.router_mut().flush_sessions(&port), 1);
    assert_eq!(ask(&mut h), POD1);
    assert_eq!(sessions(&h).len(), 2);
}

/// NAT-16: a connection without NAT of its own makes way for one whose answers would look the same.
#[test]
fn a_direct_connection_gives_way_to_a_mapped_one() {
    let mut h = Harness::new(mapped(UDP));
    h.rx(UPLINK, &(r() / ipv4(X, NODE_A) / udp(7000, 8080) / b"q"));
    h.expect_tx(
        POD2,
        &(to_a2() / ipv4(X, A2).ttl(63) / udp(7000, 80) / b"q"),
    );
    h.rx(UPLINK, &(r() / ipv4(X, A2) / udp(7000, 80) / b"d"));
    let (src, moved) = source_of(&h.take(POD2));
    assert!(src == X && moved != 7000);
    h.rx(POD2, &(a2() / ipv4(A2, X) / udp(80, moved) / b"d"));
    h.expect_tx(
        UPLINK,
        &(to_r() / ipv4(A2, X).ttl(63) / udp(80, 7000) / b"d"),
    );
    h.rx(POD2, &(a2() / ipv4(A2, X) / udp(80, 7000) / b"q"));
    h.expect_tx(
        UPLINK,
        &(to_r() / ipv4(NODE_A, X).ttl(63) / udp(8080, 7000) / b"q"),
    );
}

/// INV-10: packets of a connection leave in the order in which they came, translated or not, in one batch or several.
#[test]
fn translation_keeps_the_order() {
    let mut h = Harness::new(mapped(UDP));
    let datagram = |n: u8| (r() / ipv4(X, NODE_A) / udp(5000, 8080) / vec![n]).bytes();
    let frames: Vec<_> = (0..200).map(|n| (UPLINK, datagram(n))).collect();
    h.rx_bytes(&frames);
    let order: Vec<u8> = h.take_all().iter().map(|(_, frame)| frame[42]).collect();
    assert_eq!(order, (0..200).collect::<Vec<u8>>());
}

/// A service at 10.96.0.10:53 with these backends and, if given, affinity for that long.
fn service(backends: &[(Ipv4Addr, u16)], affinity: Option<Duration>) -> Snapshot {
    let mut snapshot = node();
    let backends = backends.iter().map(|&(addr, weight)| Backend {
        addr,
        port: None,
        weight,
    });
    snapshot.nat.append(
        PREROUTING,
        Rule::new(Target::Dnat {
            backends: backends.collect(),
            affinity,
        })
        .when(Matches {
            protocol: Some(UDP),
            dports: vec![(53, 53)],
            dst: Some(NetMatch::within(VIP.into())),
            ..Matches::default()
        }),
    );
    snapshot
}

const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// Which pod gets a datagram from `client`.
fn chosen(h: &mut Harness, client: Ipv4Addr, sport: u16) -> PortId {
    h.rx(UPLINK, &(r() / ipv4(client, VIP) / udp(sport, 53) / b"q"));
    let sent = h.take_all();
    assert_eq!(sent.len(), 1);
    sent[0].0
}

/// Backends share new connections by weight; a connection stays with its own.
#[test]
fn backends_share_by_weight() {
    let mut h = Harness::new(service(&[(A1, 3), (A2, 1)], None));
    let first = (0..400)
        .filter(|&port| chosen(&mut h, X, port) == POD1)
        .count();
    assert!((240..360).contains(&first), "{first} of 400");
    let again: Vec<PortId> = (0..40).map(|port| chosen(&mut h, X, port)).collect();
    let once_more: Vec<PortId> = (0..40).map(|port| chosen(&mut h, X, port)).collect();
    assert_eq!(again, once_more);
}

/// With affinity a client stays with its backend while it was seen within the time; it goes elsewhere when that backend is
/// no more.
#[test]
fn affinity_keeps_a_client_with_its_backend() {
    let both = [(A1, 1), (A2, 1)];
    let mut h = Harness::new(service(&both, Some(secs(100))));
    let mut found = [false; 2];
    for last in 1..=20 {
        let client = Ipv4Addr::new(9, 9, 9, last);
        let first = chosen(&mut h, client, 1);
        found[usize::from(first == POD1)] = true;
        for port in 2..6 {
            assert_eq!(chosen(&mut h, client, port), first);
        }
    }
    assert_eq!(found, [true, true], "not all clients have the same");
    // It is renewed by every new connection, however long that goes on.
    let client = Ipv4Addr::new(9, 9, 9, 1);
    let first = chosen(&mut h, client, 100);
    for port in 101..110 {
        h.advance(secs(90));
        assert_eq!(chosen(&mut h, client, port), first);
    }
    let other = if first == POD1 {
        (A2, POD2)
    } else {
        (A1, POD1)
    };
    h.apply(service(&[(other.0, 1)], Some(secs(100))));
    assert_eq!(chosen(&mut h, client, 200), other.1);
    h.apply(service(&both, Some(secs(100))));
    assert_eq!(chosen(&mut h, client, 201), other.1);
    // After the time any will do.
    let mut elsewhere = false;
    for port in 300..330 {
        h.advance(secs(101));
        elsewhere |= chosen(&mut h, client, port) != other.1;
    }
    assert!(elsewhere);
}

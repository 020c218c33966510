//! Who is masqueraded, and as whom (NAT-10, section 4.7).

use super::*;
use ipnet::Ipv4Net;
use router_core::config::nat::{Matches, NetMatch, POSTROUTING, PortChoice, Rule, Target};
use router_core::testing::calico::*;

fn net(text: &str) -> Ipv4Net {
    text.parse().expect("a network")
}

fn masquerade() -> Rule {
    Rule::new(Target::Masquerade(PortChoice::default()))
}

/// The source with which a datagram of a1 leaves by the uplink.
fn source_toward(h: &mut Harness, dst: Ipv4Addr) -> Ipv4Addr {
    h.rx(POD1, &(a1() / ipv4(A1, dst) / udp(4000, 53) / b"x"));
    source_of(&h.take(UPLINK)).0
}

/// KM-1, KM-3, KM-4, KM-7: sources are kept toward the cluster's range, whether the pod exists or not, and masqueraded
/// toward everything else, other nodes included.
#[test]
fn the_destination_decides() {
    let mut h = harness();
    let there = |text: &str| text.parse::<Ipv4Addr>().expect("an address");
    for dst in ["10.244.1.2", "10.244.1.99", "10.244.99.1"] {
        assert_eq!(source_toward(&mut h, there(dst)), A1, "{dst}");
    }
    for dst in [
        "172.16.30.4",
        "8.8.8.8",
        "10.88.0.2",
        "10.96.0.1",
        "10.245.0.1",
    ] {
        assert_eq!(source_toward(&mut h, there(dst)), NODE_A, "{dst}");
    }
    h.rx(POD1, &(a1() / ipv4(A1, A2) / udp(4000, 53) / b"x"));
    h.expect_tx(
        POD2,
        &(to_a2() / ipv4(A1, A2).ttl(63) / udp(4000, 53) / b"x"),
    );
    h.expect_silence();
}

/// KM-4: the node itself hears its pods under their own address.
#[test]
fn a_pod_is_itself_to_its_own_node() {
    let mut h = Harness::new(with_host(node()));
    let host = || eth(HOST_PEER_MAC, HOST_MAC);
    for dst in [NODE_A, GW_A, Ipv4Addr::new(172, 17, 0, 1)] {
        h.rx(POD1, &(a1() / ipv4(A1, dst) / udp(4000, 53) / b"x"));
        h.expect_tx(HOST, &(host() / ipv4(A1, dst) / udp(4000, 53) / b"x"));
        h.rx(POD1, &(a1() / ipv4(A1, dst) / echo_request(1, 1) / b"x"));
        h.expect_tx(
            POD1,
            &(to_a1() / ipv4(dst, A1).any_id() / echo_reply(1, 1) / b"x"),
        );
    }
    assert_eq!(h.router().nat_counts()[0].rules[0].packets, 0);
}

/// KM-2: there is no condition on the source: what others send through the node leaves as the node's.
#[test]
fn what_passes_through_is_masqueraded_too() {
    let mut h = harness();
    let dst = Ipv4Addr::new(192, 168, 9, 9);
    let packet = |src| ipv4(src, dst) / udp(4000, 53) / b"x";
    h.rx(UPLINK, &(eth(UPLINK_MAC, B_MAC) / packet(NODE_B)));
    let (src, _) = source_of(&h.take(UPLINK));
    assert_eq!(src, NODE_A);
    h.rx(UPLINK, &(r() / ipv4(dst, NODE_A) / udp(53, 4000) / b"a"));
    h.expect_tx(
        UPLINK,
        &(eth(B_MAC, UPLINK_MAC) / ipv4(dst, NODE_B).ttl(63) / udp(53, 4000) / b"a"),
    );
}

/// KM-1, KM-5: the rules are asked for the node's own packets too, which keep their source toward pods.
#[test]
fn the_node_keeps_its_source_toward_pods() {
    let mut h = Harness::new(with_host(node()));
    let host = eth(HOST_MAC, HOST_PEER_MAC);
    let cases = [
        (NODE_A, B1, UPLINK, eth(B_MAC, UPLINK_MAC)),
        (GW_A, A1, POD1, to_a1()),
        (NODE_A, X, UPLINK, to_r()),
    ];
    for (src, dst, port, sent) in cases {
        let packet = ipv4(src, dst) / udp(4000, 53) / b"x";
        h.rx(HOST, &(host.clone() / packet.clone()));
        h.expect_tx(port, &(sent / packet));
    }
    let counts = h.router().nat_counts();
    let packets = |n: usize| {
        counts[n]
            .rules
            .iter()
            .map(|r| r.packets)
            .collect::<Vec<_>>()
    };
    assert_eq!(packets(0), [3]);
    assert_eq!(packets(1), [2, 1]);
}

/// KM-6: who connects to a pod is seen by it, and the pod's answers are the pod's.
#[test]
fn connections_to_a_pod_are_not_masqueraded() {
    let mut h = harness();
    for src in [R, X] {
        h.rx(UPLINK, &(r() / ipv4(src, A1) / tcp(999, 80, 2).seq(1)));
        h.expect_tx(
            POD1,
            &(to_a1() / ipv4(src, A1).ttl(63) / tcp(999, 80, 2).seq(1)),
        );
        h.rx(
            POD1,
            &(a1() / ipv4(A1, src) / tcp(80, 999, 0x12).seq(7).ack(2)),
        );
        h.expect_tx(
            UPLINK,
            &(to_r() / ipv4(A1, src).ttl(63) / tcp(80, 999, 0x12).seq(7).ack(2)),
        );
    }
    // The pod's own connection to the same peer is another one.
    assert_eq!(source_toward(&mut h, R), NODE_A);
}

/// NAT-10: toward a pod's link the node has the gateway's address.
#[test]
fn masqueraded_toward_a_pod_is_the_gateway() {
    let mut snapshot = resolved(node_a());
    snapshot.nat.append(POSTROUTING, masquerade());
    let mut h = Harness::new(snapshot);
    h.rx(POD1, &(a1() / ipv4(A1, A2) / udp(4000, 53) / b"x"));
    h.expect_tx(
        POD2,
        &(to_a2() / ipv4(GW_A, A2).ttl(63) / udp(4000, 53) / b"x"),
    );
    h.rx(POD2, &(a2() / ipv4(A2, GW_A) / udp(53, 4000) / b"y"));
    h.expect_tx(
        POD1,
        &(to_a1() / ipv4(A2, A1).ttl(63) / udp(53, 4000) / b"y"),
    );
    h.rx(POD1, &(a1() / ipv4(A1, X) / udp(4000, 53) / b"x"));
    assert_eq!(source_of(&h.take(UPLINK)).0, NODE_A);
}

/// NAT-10: toward a cali port, which has no address, it is the node's; toward tunl0 that of tunl0.
#[test]
fn masqueraded_on_a_calico_node() {
    let mut snapshot = node_k3();
    snapshot.nat.append(POSTROUTING, masquerade());
    let mut h = Harness::new(snapshot);
    h.rx(
        UPLINK,
        &(eth(K3_MAC, R_MAC) / ipv4(X, N3) / udp(4000, 53) / b"x"),
    );
    h.expect_tx(
        POD1,
        &(eth(N3_MAC, CALI_MAC) / ipv4(K3, N3).ttl(63) / udp(4000, 53) / b"x"),
    );
    h.rx(
        POD1,
        &(eth(CALI_MAC, N3_MAC) / ipv4(N3, N2) / udp(4000, 53) / b"x"),
    );
    let sent = h.take(UPLINK);
    let inner = (ipv4(K3_TUNL0, N2).ttl(63) / udp(4000, 53) / b"x").bytes();
    assert_eq!(sent[34..], inner[..]);
}

/// KM-12: the rules that the ptp and bridge plugins make for a pod with ipMasq: its own subnet and multicast are spared.
#[test]
fn ip_masq_of_the_plugins_is_per_pod() {
    let mut snapshot = resolved(node_a());
    let within = |text| Matches {
        dst: Some(NetMatch::within(net(text))),
        ..Matches::default()
    };
    let from_pod = Matches {
        src: Some(NetMatch::within(net("10.244.0.2/32"))),
        ..Matches::default()
    };
    let outside = Matches {
        dst: Some(NetMatch::outside(net("224.0.0.0/4"))),
        ..Matches::default()
    };
    let nat = &mut snapshot.nat;
    nat.append(
        POSTROUTING,
        Rule::new(Target::Jump("CNI-a1".into())).when(from_pod),
    );
    nat.append(
        "CNI-a1",
        Rule::new(Target::Accept).when(within("10.244.0.0/24")),
    );
    nat.append("CNI-a1", masquerade().when(outside));
    let mut h = Harness::new(snapshot);
    assert_eq!(source_toward(&mut h, B1), NODE_A);
    assert_eq!(source_toward(&mut h, X), NODE_A);
    h.rx(POD1, &(a1() / ipv4(A1, A2) / udp(4000, 53) / b"x"));
    assert_eq!(source_of(&h.take(POD2)).0, A1);
    h.rx(POD2, &(a2() / ipv4(A2, X) / udp(4000, 53) / b"x"));
    assert_eq!(source_of(&h.take(UPLINK)).0, A2);
}

/// KM-13: natOutgoing: out of a pool to no pool, other nodes included; within the pools, nothing.
#[test]
fn nat_outgoing_is_from_a_pool_to_no_pool() {
    let mut snapshot = node_k3();
    let pool = net("10.244.0.0/16");
    snapshot.nat.append(
        POSTROUTING,
        masquerade().when(Matches {
            src: Some(NetMatch::within(pool)),
            dst: Some(NetMatch::outside(pool)),
            ..Matches::default()
        }),
    );
    let mut h = Harness::new(snapshot);
    let from_n3 = |dst| eth(CALI_MAC, N3_MAC) / ipv4(N3, dst) / udp(4000, 53) / b"x";
    for dst in [X, K2, Ipv4Addr::new(10, 88, 0, 2)] {
        h.rx(POD1, &from_n3(dst));
        assert_eq!(source_of(&h.take(UPLINK)), (K3, 4000), "{dst}");
    }
    h.rx(POD1, &from_n3(N2));
    let sent = h.take(UPLINK);
    let inner = (ipv4(N3, N2).ttl(63) / udp(4000, 53) / b"x").bytes();
    assert_eq!(sent[34..], inner[..]);
}

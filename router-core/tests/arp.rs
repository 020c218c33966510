//! ARP responder, proxy ARP and poisoning (dataplane sections 2.1, 2.2, 2.4).

use core::net::Ipv4Addr;
use core::time::Duration;

use router_core::config::{LocalAddress, PinnedPeer, RouteTarget, RpFilter, Snapshot};
use router_core::testing::topology::*;
use router_core::testing::*;
use router_core::{DropReason, Event, Mac, NeighbourState, PortId};

const UNKNOWN: Mac = Mac([2, 0, 0, 0, 9, 9]);
const ZERO: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

fn ask(spa: Ipv4Addr, tpa: Ipv4Addr) -> Packet {
    eth(Mac::BROADCAST, A1_MAC) / arp_request(A1_MAC, spa, tpa)
}

fn reply_to_a1(spa: Ipv4Addr, tpa: Ipv4Addr) -> Packet {
    eth(A1_MAC, POD1_MAC) / arp_reply(POD1_MAC, spa, A1_MAC, tpa)
}

fn entry(h: &Harness, port: PortId, ip: Ipv4Addr) -> Option<(Option<Mac>, NeighbourState)> {
    h.router()
        .neighbours()
        .find(|n| (n.port, n.ip) == (port, ip))
        .map(|n| (n.mac, n.state))
}

/// ARP-1.
#[test]
fn arp_of_other_kinds_is_dropped() {
    let mut h = Harness::new(node_a());
    let good = ask(A1, GW_A).bytes();
    for (at, value) in [(15, 2), (17, 0x06), (18, 8), (19, 16), (21, 3), (21, 0)] {
        let mut bad = good.clone();
        bad[at] = value;
        h.rx_bytes(&[(POD1, bad)]);
    }
    h.rx_bytes(&[(POD1, good[..41].to_vec())]);
    h.expect_silence();
    h.expect_counters(&[(DropReason::ArpMalformed.into(), 7)]);
}

/// ARP-1: hardware type 6 is accepted.
#[test]
fn hardware_type_ieee_802_is_answered() {
    let mut h = Harness::new(node_a());
    let mut request = ask(A1, GW_A).bytes();
    request[15] = 6;
    h.rx_bytes(&[(POD1, request)]);
    h.expect_tx(POD1, &reply_to_a1(GW_A, A1));
}

/// ARP-2.
#[test]
fn arp_to_another_station_is_ignored() {
    let mut h = Harness::new(node_a());
    h.rx(
        POD1,
        &(eth(UNKNOWN, A1_MAC) / arp_request(A1_MAC, A1, GW_A)),
    );
    let group = Mac([0x01, 0, 0x5e, 0, 0, 1]);
    h.rx(POD1, &(eth(group, A1_MAC) / arp_request(A1_MAC, A1, GW_A)));
    h.expect_silence();
    h.expect_counters(&[(DropReason::OtherHost.into(), 2)]);
}

/// ARP-3: any address of the node is answered on any port (weak host model), FWD-43 its own broadcast too.
#[test]
fn every_local_address_is_answered_with_the_mac_of_the_ingress_port() {
    let mut h = Harness::new(node_a());
    for local in [GW_A, NODE_A, Ipv4Addr::new(172, 17, 0, 1)] {
        h.rx(POD1, &ask(A1, local));
        h.expect_tx(POD1, &reply_to_a1(local, A1));
    }
    h.expect_silence();
    h.expect_counters(&[(Event::ArpReplySent.into(), 3)]);
}

/// ARP-4.
#[test]
fn other_addresses_are_not_answered_and_nothing_is_learned() {
    let mut h = Harness::new(node_a());
    for other in [A2, X, A1] {
        h.rx(POD1, &ask(A1, other));
    }
    h.expect_silence();
    assert_eq!(h.router().neighbours().count(), 0);
    h.expect_counters(&[(DropReason::ArpIgnored.into(), 3)]);
}

/// ARP-5.
#[test]
fn multicast_and_loopback_targets_are_dropped() {
    let mut h = Harness::new(node_a());
    h.rx(POD1, &ask(A1, Ipv4Addr::new(224, 0, 0, 1)));
    h.rx(POD1, &ask(A1, Ipv4Addr::LOCALHOST));
    h.expect_silence();
    h.expect_counters(&[(DropReason::ArpMartian.into(), 2)]);
}

/// ARP-6.
#[test]
fn a_probe_for_a_local_address_is_answered_without_learning() {
    let mut h = Harness::new(node_a());
    h.rx(POD1, &ask(ZERO, GW_A));
    h.expect_tx(POD1, &reply_to_a1(GW_A, ZERO));
    h.rx(POD1, &ask(ZERO, A2));
    h.expect_silence();
    assert_eq!(h.router().neighbours().count(), 0);
}

/// ARP-7, GARP-4.
#[test]
fn a_request_from_one_of_the_nodes_own_addresses_is_a_conflict_and_not_answered() {
    let mut h = Harness::new(node_a());
    h.rx(POD1, &ask(GW_A, NODE_A));
    h.rx(
        UPLINK,
        &(eth(Mac::BROADCAST, UNKNOWN) / arp_request(UNKNOWN, NODE_A, NODE_A)),
    );
    let defence = |mac, ip| eth(Mac::BROADCAST, mac) / arp_request(mac, ip, ip);
    h.expect_tx(POD1, &defence(POD1_MAC, GW_A));
    h.expect_tx(UPLINK, &defence(UPLINK_MAC, NODE_A));
    h.expect_silence();
    assert_eq!(h.router().neighbours().count(), 0);
    h.expect_counters(&[
        (DropReason::ArpMartian.into(), 2),
        (Event::ArpConflict.into(), 2),
        (Event::ArpAnnounced.into(), 2),
    ]);
    // Local delivery is as before.
    h.rx(POD1, &ask(A1, NODE_A));
    h.expect_tx(POD1, &reply_to_a1(NODE_A, A1));
}

/// ARP-7.
#[test]
fn a_request_that_fails_source_validation_is_not_answered() {
    let strict = with_port(node_a(), POD1, |p| p.rp_filter = RpFilter::Strict);
    let mut h = Harness::new(strict);
    for spoofed in [
        A2,
        X,
        Ipv4Addr::new(127, 0, 0, 1),
        Ipv4Addr::new(224, 0, 0, 5),
    ] {
        h.rx(POD1, &ask(spoofed, GW_A));
    }
    h.expect_silence();
    h.expect_counters(&[(DropReason::ArpMartian.into(), 4)]);
    h.rx(POD1, &ask(A1, GW_A));
    h.expect_tx(POD1, &reply_to_a1(GW_A, A1));
}

/// ARP-7: requests alone are held to the way back. An answer was asked for, wherever the way back leads by now.
#[test]
fn an_answer_is_believed_on_a_port_with_a_strict_filter() {
    let elsewhere = |mut snapshot: Snapshot| {
        snapshot.routes.push(route("172.16.30.4/32", POD2, None));
        with_port(snapshot, UPLINK, |p| p.rp_filter = RpFilter::Strict)
    };
    let mut h = Harness::new(with_port(node_a(), UPLINK, |p| {
        p.rp_filter = RpFilter::Strict;
    }));
    h.rx(POD1, &(eth(POD1_MAC, A1_MAC) / ipv4(A1, B1) / udp(1, 2)));
    h.take(UPLINK);
    h.apply(elsewhere(node_a()));
    let answer = arp_reply(B_MAC, NODE_B, UPLINK_MAC, NODE_A);
    h.rx(UPLINK, &(eth(UPLINK_MAC, B_MAC) / answer));
    h.expect_tx(
        UPLINK,
        &(eth(B_MAC, UPLINK_MAC) / ipv4(A1, B1).ttl(63) / udp(1, 2)),
    );
    h.rx(
        UPLINK,
        &(eth(Mac::BROADCAST, B_MAC) / arp_request(B_MAC, NODE_B, NODE_A)),
    );
    h.expect_silence();
    h.expect_counters(&[
        (Event::ArpRequestSent.into(), 1),
        (DropReason::ArpMartian.into(), 1),
    ]);
}

/// ARP-8.
#[test]
fn a_request_makes_the_requester_known_but_unconfirmed() {
    let mut h = Harness::new(node_a());
    h.rx(POD1, &ask(A1, GW_A));
    h.expect_tx(POD1, &reply_to_a1(GW_A, A1));
    assert_eq!(
        entry(&h, POD1, A1),
        Some((Some(A1_MAC), NeighbourState::Stale))
    );
    // The first packet to the pod needs no question.
    h.rx(UPLINK, &(eth(UPLINK_MAC, B_MAC) / ipv4(B1, A1) / udp(1, 2)));
    h.expect_tx(
        POD1,
        &(eth(A1_MAC, POD1_MAC) / ipv4(B1, A1).ttl(63) / udp(1, 2)),
    );
    h.expect_silence();
}

/// ARP-9.
#[test]
fn a_unicast_request_is_answered_the_same_way() {
    let mut h = Harness::new(node_a());
    h.rx(
        POD1,
        &(eth(POD1_MAC, A1_MAC) / arp_request(A1_MAC, A1, GW_A)),
    );
    h.expect_tx(POD1, &reply_to_a1(GW_A, A1));
}

/// ARP-10.
#[test]
fn the_sender_address_inside_the_packet_counts_not_the_ethernet_source() {
    let mut h = Harness::new(node_a());
    h.rx(
        POD1,
        &(eth(Mac::BROADCAST, UNKNOWN) / arp_request(A1_MAC, A1, GW_A)),
    );
    h.expect_tx(POD1, &reply_to_a1(GW_A, A1));
    assert_eq!(
        entry(&h, POD1, A1),
        Some((Some(A1_MAC), NeighbourState::Stale))
    );
}

/// RFC 1812 3.3.2: a group address is nobody's MAC.
#[test]
fn a_group_address_as_sender_mac_is_not_believed() {
    let mut h = Harness::new(node_a());
    h.rx(
        POD1,
        &(eth(Mac::BROADCAST, A1_MAC) / arp_request(Mac::BROADCAST, A1, GW_A)),
    );
    h.expect_silence();
    h.expect_counters(&[(DropReason::ArpMartian.into(), 1)]);
}

fn calico_port() -> Snapshot {
    let mut snapshot = with_port(node_a(), POD1, |p| {
        p.proxy_arp = true;
        p.rp_filter = RpFilter::Strict;
        p.route_localnet = true;
    });
    snapshot.addresses.retain(|a| a.addr != GW_A);
    snapshot
        .routes
        .push(special("10.244.205.192/26", RouteTarget::Blackhole));
    snapshot
}

/// PARP-1, PARP-2, PARP-5.
#[test]
fn a_proxying_port_answers_for_what_the_node_forwards_elsewhere() {
    let mut h = Harness::new(calico_port());
    for target in [Ipv4Addr::new(169, 254, 1, 1), A2, B1, X] {
        h.rx(POD1, &ask(A1, target));
        h.expect_tx(POD1, &reply_to_a1(target, A1));
    }
    h.expect_silence();
}

/// PARP-2.
#[test]
fn without_a_default_route_the_calico_gateway_is_not_answered() {
    let mut snapshot = calico_port();
    snapshot.routes.retain(|r| r.dst.prefix_len() != 0);
    let mut h = Harness::new(snapshot);
    h.rx(POD1, &ask(A1, Ipv4Addr::new(169, 254, 1, 1)));
    h.expect_silence();
}

/// PARP-2: the switch answers without a route, but never what a route blackholes or what the pod itself has.
#[test]
fn a_switch_answers_for_addresses_without_a_route() {
    let mut snapshot = with_port(calico_port(), POD1, |p| p.proxy_arp_unrouted = true);
    snapshot.routes.retain(|r| r.dst.prefix_len() != 0);
    let mut h = Harness::new(snapshot);
    let gateway = Ipv4Addr::new(169, 254, 1, 1);
    h.rx(POD1, &ask(A1, gateway));
    h.expect_tx(POD1, &reply_to_a1(gateway, A1));
    h.rx(POD1, &ask(A1, Ipv4Addr::new(10, 244, 205, 200)));
    h.rx(POD1, &ask(A1, A1));
    h.expect_silence();
}

/// GARP-4, RFC 5227 2.4: one defence in 10 s on each port, however often the address is claimed.
#[test]
fn an_address_is_defended_once_in_ten_seconds() {
    let mut h = Harness::new(node_a());
    let claim = eth(Mac::BROADCAST, UNKNOWN) / arp_request(UNKNOWN, NODE_A, NODE_A);
    let defence = eth(Mac::BROADCAST, UPLINK_MAC) / arp_request(UPLINK_MAC, NODE_A, NODE_A);
    for wait in [0, 5000, 4999, 1] {
        h.advance(Duration::from_millis(wait));
        h.rx(UPLINK, &claim);
        if wait < 2 {
            h.expect_tx(UPLINK, &defence);
        }
        h.expect_silence();
    }
    // The router's own words, reflected by a switch, are no claim of another's.
    h.advance(Duration::from_secs(20));
    h.rx(UPLINK, &defence);
    h.expect_silence();
    assert_eq!(h.router().stats().events.get(Event::ArpConflict), 4);
}

/// GARP-6: once, where the port says so, when the address or its carrier comes; not again with every configuration.
#[test]
fn a_new_address_is_announced_once() {
    let notify = |snapshot| with_port(snapshot, UPLINK, |p| p.arp_notify = true);
    let announcement = |ip| eth(Mac::BROADCAST, UPLINK_MAC) / arp_request(UPLINK_MAC, ip, ip);
    let mut h = Harness::new(notify(node_a()));
    h.advance(Duration::ZERO);
    h.expect_tx(UPLINK, &announcement(NODE_A));
    h.expect_silence();
    let second = Ipv4Addr::new(172, 16, 30, 33);
    let mut snapshot = notify(node_a());
    snapshot.addresses.push(LocalAddress {
        addr: second,
        prefix_len: 24,
        broadcast: None,
        port: UPLINK,
    });
    for _ in 0..2 {
        h.apply(snapshot.clone());
    }
    h.advance(Duration::from_secs(1));
    h.expect_tx(UPLINK, &announcement(second));
    h.apply(node_a());
    h.advance(Duration::from_secs(1));
    h.expect_silence();
}

/// PARP-1: only while forwarding.
#[test]
fn a_node_that_does_not_forward_does_not_proxy() {
    let mut h = Harness::new(Snapshot {
        forwarding: false,
        ..calico_port()
    });
    h.rx(POD1, &ask(A1, X));
    h.expect_silence();
}

/// PARP-3, PARP-4, PARP-6, ARP-6.
#[test]
fn a_proxying_port_leaves_the_pods_own_blackholed_broadcast_and_loopback_addresses_alone() {
    let mut h = Harness::new(calico_port());
    let node_broadcast = Ipv4Addr::new(172, 16, 30, 255);
    let blackholed = Ipv4Addr::new(10, 244, 205, 200);
    for target in [
        A1,
        blackholed,
        node_broadcast,
        ZERO,
        Ipv4Addr::BROADCAST,
        Ipv4Addr::LOCALHOST,
    ] {
        h.rx(POD1, &ask(A1, target));
    }
    h.rx(POD1, &ask(ZERO, X));
    h.expect_silence();
}

/// PARP-4: also for an address that the node would proxy, on a port that does not filter sources.
#[test]
fn an_announcement_is_never_answered_by_proxy() {
    let mut h = Harness::new(with_port(node_a(), POD1, |p| p.proxy_arp = true));
    h.rx(POD1, &ask(B1, B1));
    h.rx(POD1, &ask(A1, A1));
    h.expect_silence();
    h.expect_counters(&[(DropReason::ArpIgnored.into(), 2)]);
    h.rx(POD1, &ask(A1, B1));
    h.expect_tx(POD1, &reply_to_a1(B1, A1));
}

/// PARP-7.
#[test]
fn a_kindnet_port_does_not_proxy() {
    let mut h = Harness::new(node_a());
    h.rx(POD1, &ask(A1, B1));
    h.expect_silence();
}

/// GARP-1.
#[test]
fn unsolicited_claims_make_no_entry() {
    let mut h = Harness::new(node_a());
    let stranger = Ipv4Addr::new(172, 16, 30, 50);
    h.rx(
        UPLINK,
        &(eth(UPLINK_MAC, UNKNOWN) / arp_reply(UNKNOWN, stranger, UPLINK_MAC, NODE_A)),
    );
    h.rx(
        UPLINK,
        &(eth(Mac::BROADCAST, UNKNOWN) / arp_request(UNKNOWN, stranger, stranger)),
    );
    h.expect_silence();
    assert_eq!(h.router().neighbours().count(), 0);
    h.expect_counters(&[(DropReason::ArpIgnored.into(), 2)]);
}

/// GARP-2: the instant before, at, and after the lock time.
#[test]
fn the_first_answer_stands_for_a_second() {
    for (wait_ms, stands) in [(250, true), (999, true), (1000, false), (1001, false)] {
        let mut h = Harness::new(node_a());
        h.rx(
            UPLINK,
            &(eth(Mac::BROADCAST, B_MAC) / arp_request(B_MAC, NODE_B, NODE_A)),
        );
        h.take(UPLINK);
        h.advance(Duration::from_millis(wait_ms));
        h.rx(
            UPLINK,
            &(eth(UPLINK_MAC, UNKNOWN) / arp_reply(UNKNOWN, NODE_B, UPLINK_MAC, NODE_A)),
        );
        let mac = entry(&h, UPLINK, NODE_B).and_then(|(mac, _)| mac);
        assert_eq!(
            mac,
            Some(if stands { B_MAC } else { UNKNOWN }),
            "after {wait_ms} ms"
        );
    }
}

/// GARP-3.
#[test]
fn a_pinned_link_believes_only_its_own_pod() {
    let pinned = with_port(node_a(), POD1, |p| {
        p.peer = Some(PinnedPeer {
            ip: A1,
            mac: A1_MAC,
        });
    });
    let mut h = Harness::new(pinned);
    h.rx(POD1, &ask(A2, GW_A));
    h.rx(
        POD1,
        &(eth(Mac::BROADCAST, UNKNOWN) / arp_request(UNKNOWN, A1, GW_A)),
    );
    h.expect_silence();
    h.expect_counters(&[(DropReason::ArpPinned.into(), 2)]);
    h.rx(POD1, &ask(A1, GW_A));
    h.expect_tx(POD1, &reply_to_a1(GW_A, A1));
    h.rx(POD1, &ask(ZERO, GW_A));
    h.expect_tx(POD1, &reply_to_a1(GW_A, ZERO));
}

/// GARP-5.
#[test]
fn a_claim_on_one_port_does_not_touch_an_entry_of_another() {
    let mut h = Harness::new(node_a());
    h.rx(POD1, &ask(A1, GW_A));
    h.rx(
        POD2,
        &(eth(Mac::BROADCAST, A2_MAC) / arp_request(A2_MAC, A1, GW_A)),
    );
    assert_eq!(
        entry(&h, POD1, A1),
        Some((Some(A1_MAC), NeighbourState::Stale))
    );
    h.take_all();
    h.rx(UPLINK, &(eth(UPLINK_MAC, B_MAC) / ipv4(B1, A1) / udp(1, 2)));
    h.expect_tx(
        POD1,
        &(eth(A1_MAC, POD1_MAC) / ipv4(B1, A1).ttl(63) / udp(1, 2)),
    );
}

/// GARP-7.
#[test]
fn nothing_is_learned_from_ip_packets() {
    let mut h = Harness::new(node_a());
    h.rx(
        POD1,
        &(eth(POD1_MAC, A1_MAC) / ipv4(A1, GW_A) / echo_request(1, 1)),
    );
    assert_eq!(
        entry(&h, POD1, A1),
        Some((None, NeighbourState::Incomplete))
    );
    h.expect_tx(
        POD1,
        &(eth(Mac::BROADCAST, POD1_MAC) / arp_request(POD1_MAC, GW_A, A1)),
    );
}

/// Decision 5: the host side finds the router behind every address but its own.
#[test]
fn the_host_is_answered_for_every_address_but_its_own() {
    let mut h = Harness::new(with_host(node_a()));
    let ask = |spa, tpa| eth(Mac::BROADCAST, HOST_PEER_MAC) / arp_request(HOST_PEER_MAC, spa, tpa);
    for target in [A1, B1, X, NODE_B, R] {
        h.rx(HOST, &ask(NODE_A, target));
        let reply = arp_reply(HOST_MAC, target, HOST_PEER_MAC, NODE_A);
        h.expect_tx(HOST, &(eth(HOST_PEER_MAC, HOST_MAC) / reply));
    }
    h.expect_counters(&[(Event::ArpReplySent.into(), 5)]);
    for (spa, tpa) in [
        (NODE_A, NODE_A),
        (ZERO, NODE_A),
        (NODE_A, GW_A),
        (NODE_A, Ipv4Addr::new(172, 16, 30, 255)),
        // An announcement and a probe of what is not the node's; a group; an answer that nobody asked for.
        (B1, B1),
        (ZERO, B1),
        (NODE_A, Ipv4Addr::new(224, 0, 0, 5)),
    ] {
        h.rx(HOST, &ask(spa, tpa));
    }
    let unasked = arp_reply(HOST_PEER_MAC, NODE_A, HOST_MAC, B1);
    h.rx(HOST, &(eth(HOST_MAC, HOST_PEER_MAC) / unasked));
    h.expect_silence();
    assert_eq!(h.router().neighbours().count(), 0);
    h.expect_counters(&[(DropReason::ArpIgnored.into(), 8)]);
}

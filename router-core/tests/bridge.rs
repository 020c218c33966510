//! Bridges (dataplane section 8): who gets a frame, and what the bridge remembers.

use std::net::Ipv4Addr;
use std::time::Duration;

use router_core::config::{PortKind, RouteTarget, Snapshot};
use router_core::testing::bridged::*;
use router_core::testing::topology::{
    R, R_MAC, UPLINK, UPLINK_MAC, route, special, with_host, with_port,
};
use router_core::testing::*;
use router_core::{ConfigError, DropReason, Event, Instant, Limits, Mac, PortId};

const STRANGER: Mac = Mac([0x02, 0, 0, 0, 9, 9]);
const IPV6_ALL_NODES: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);

/// A frame that means nothing to a router.
fn frame(dst: Mac, src: Mac, text: &[u8]) -> Vec<u8> {
    let mut bytes = [&dst.0[..], &src.0, &[0x88, 0xb5]].concat();
    bytes.extend_from_slice(text);
    bytes
}

fn harness() -> Harness {
    Harness::new(bridged_node())
}

/// Everybody has spoken once, and what came of it is forgotten.
fn introduced(snapshot: Snapshot) -> Harness {
    let mut h = Harness::new(snapshot);
    for (port, mac) in PORTS.into_iter().zip(PODS) {
        h.rx_bytes(&[(port, frame(Mac::BROADCAST, mac, b"hello"))]);
    }
    h.take_all();
    let stats = h.router().stats();
    let floods = stats.events.get(Event::BridgeFlooded);
    let up = stats.drops.get(DropReason::UnknownEtherType);
    h.expect_counters(&[
        (Event::FdbLearned.into(), 3),
        (Event::BridgeFlooded.into(), floods),
        (DropReason::UnknownEtherType.into(), up),
    ]);
    h
}

/// Expects the frame at these ports, once each, and nowhere else.
#[track_caller]
fn expect_at(h: &mut Harness, ports: &[PortId], bytes: &[u8]) {
    for &port in ports {
        assert_eq!(h.take(port), bytes);
    }
    h.expect_silence();
}

fn place(h: &Harness, mac: Mac) -> Option<Option<PortId>> {
    h.router()
        .fdb(h.now())
        .find(|entry| entry.mac == mac)
        .map(|entry| entry.port)
}

/// BR-2: unknown unicast goes to all ports but the one it came by, and not to the node.
#[test]
fn unknown_unicast_goes_to_all_other_ports() {
    let mut h = harness();
    let unknown = frame(STRANGER, PODS[0], b"who");
    h.rx_bytes(&[(PORTS[0], unknown.clone())]);
    expect_at(&mut h, &[PORTS[1], PORTS[2]], &unknown);
    h.expect_counters(&[
        (Event::FdbLearned.into(), 1),
        (Event::BridgeFlooded.into(), 1),
    ]);
    assert_eq!(h.router().stats().cloned, 1);
}

/// BR-2: broadcast and multicast go to all other ports and to the node. BR-21: without snooping.
#[test]
fn groups_go_to_all_other_ports_and_to_the_node() {
    for group in [Mac::BROADCAST, IPV6_ALL_NODES, Mac([1, 0, 0x5e, 0, 0, 5])] {
        let mut h = harness();
        let bytes = frame(group, PODS[0], b"all");
        h.rx_bytes(&[(PORTS[0], bytes.clone())]);
        expect_at(&mut h, &[PORTS[1], PORTS[2]], &bytes);
        h.expect_counters(&[
            (Event::FdbLearned.into(), 1),
            (Event::BridgeFlooded.into(), 1),
            // The node got it and did not know what it is.
            (DropReason::UnknownEtherType.into(), 1),
        ]);
        assert_eq!(h.router().stats().cloned, 2);
        assert_eq!(
            h.router().stats().port(BRIDGE).unwrap().rx_frames,
            1,
            "the bridge's interface received it"
        );
    }
}

/// BR-1, BR-2: where a station was heard, and only there, it is sent what is for it.
#[test]
fn known_unicast_goes_to_its_port_alone() {
    let mut h = introduced(bridged_node());
    let bytes = frame(PODS[1], PODS[0], b"you");
    h.rx_bytes(&[(PORTS[0], bytes.clone())]);
    expect_at(&mut h, &[PORTS[1]], &bytes);
    h.expect_counters(&[]);
}

/// BR-1: an entry lives for 300 s after the last frame of its station, not longer.
#[test]
fn a_station_is_forgotten_300_seconds_after_its_last_frame() {
    let mut h = introduced(bridged_node());
    h.advance(Duration::from_secs(200));
    h.rx_bytes(&[(PORTS[1], frame(PODS[0], PODS[1], b"still here"))]);
    h.take_all();
    h.advance(Duration::from_nanos(299_999_999_999));
    let bytes = frame(PODS[1], PODS[0], b"you");
    h.rx_bytes(&[(PORTS[0], bytes.clone())]);
    expect_at(&mut h, &[PORTS[1]], &bytes);
    assert_eq!(place(&h, PODS[1]), Some(Some(PORTS[1])));
    h.advance(Duration::from_nanos(1));
    h.rx_bytes(&[(PORTS[0], bytes.clone())]);
    expect_at(&mut h, &[PORTS[1], PORTS[2]], &bytes);
    assert_eq!(place(&h, PODS[1]), None);
}

/// BR-1, INV-7: stations behind a port that is removed, or loses its carrier, are forgotten at once; the others are not.
#[test]
fn a_port_that_goes_takes_its_stations_along() {
    let gone = |mut snapshot: Snapshot| {
        snapshot.ports.retain(|p| p.id != PORTS[1]);
        snapshot
    };
    let unplugged = |snapshot| with_port(snapshot, PORTS[1], |p| p.carrier = false);
    let down = |snapshot| with_port(snapshot, PORTS[1], |p| p.up = false);
    let freed = |snapshot| with_port(snapshot, PORTS[1], |p| p.bridge = None);
    for change in [gone, unplugged, down, freed] {
        let mut h = introduced(bridged_node());
        h.apply(change(bridged_node()));
        assert_eq!(place(&h, PODS[1]), None);
        assert_eq!(place(&h, PODS[2]), Some(Some(PORTS[2])));
        h.apply(bridged_node());
        let bytes = frame(PODS[1], PODS[0], b"you");
        h.rx_bytes(&[(PORTS[0], bytes.clone())]);
        expect_at(&mut h, &[PORTS[1], PORTS[2]], &bytes);
    }
}

/// INV-7: a bridge that is deleted leaves nothing.
#[test]
fn a_bridge_that_goes_leaves_no_entry() {
    let mut h = introduced(bridged_node());
    let mut snapshot = bridged_node();
    snapshot.ports.retain(|p| p.id == UPLINK);
    snapshot.addresses.retain(|a| a.port == UPLINK);
    snapshot
        .routes
        .retain(|r| r.dst.addr() != Ipv4Addr::new(10, 88, 0, 0));
    h.apply(snapshot);
    assert_eq!(h.router().fdb(h.now()).count(), 0);
    h.apply(bridged_node());
    assert!(h.router().fdb(h.now()).all(|entry| entry.port.is_none()));
}

/// BR-3: what is for the bridge's MAC is the node's, and nobody else sees it.
#[test]
fn the_bridges_own_mac_leads_to_the_node_alone() {
    let mut h = introduced(bridged_node());
    let ping = eth(BRIDGE_MAC, PODS[0]) / ipv4(POD_IPS[0], GATEWAY) / echo_request(1, 1) / b"abc";
    h.rx(PORTS[0], &ping);
    // The answer waits for the pod's address: the node asks for it on all ports.
    let question = eth(Mac::BROADCAST, BRIDGE_MAC) / arp_request(BRIDGE_MAC, GATEWAY, POD_IPS[0]);
    for port in PORTS {
        h.expect_tx(port, &question);
    }
    h.rx(
        PORTS[0],
        &(eth(BRIDGE_MAC, PODS[0]) / arp_reply(PODS[0], POD_IPS[0], BRIDGE_MAC, GATEWAY)),
    );
    let pong =
        eth(PODS[0], BRIDGE_MAC) / ipv4(GATEWAY, POD_IPS[0]).any_id() / echo_reply(1, 1) / b"abc";
    h.expect_tx(PORTS[0], &pong);
    h.expect_silence();
}

/// BR-3: as in Linux, the node's end of the port that a frame comes by is the node as well; another port's end is not.
#[test]
fn the_macs_of_ports_belong_to_the_node() {
    let mut h = introduced(with_known_pods(bridged_node()));
    let ping = |dst| eth(dst, PODS[0]) / ipv4(POD_IPS[0], GATEWAY) / echo_request(1, 1);
    h.rx(PORTS[0], &ping(PORT_MACS[0]));
    h.expect_tx(
        PORTS[0],
        &(eth(PODS[0], BRIDGE_MAC) / ipv4(GATEWAY, POD_IPS[0]).any_id() / echo_reply(1, 1)),
    );
    h.expect_silence();
    h.expect_counters(&[(Event::EchoReplySent.into(), 1)]);
    h.expect_silent_drop(PORTS[0], &ping(PORT_MACS[1]), DropReason::OtherHost);
}

/// BR-4: never back out of the port it came by.
#[test]
fn a_frame_never_leaves_by_the_port_it_came_by() {
    let mut h = introduced(bridged_node());
    let neighbour = frame(Mac::BROADCAST, STRANGER, b"behind the same port");
    h.rx_bytes(&[(PORTS[0], neighbour)]);
    h.take_all();
    h.expect_counters(&[
        (Event::FdbLearned.into(), 1),
        (Event::BridgeFlooded.into(), 1),
        (DropReason::UnknownEtherType.into(), 1),
    ]);
    h.rx_bytes(&[(PORTS[0], frame(STRANGER, PODS[0], b"you"))]);
    h.expect_silence();
    h.expect_counters(&[(DropReason::BridgeSamePort.into(), 1)]);
}

/// BR-4: with hairpin on, it does: known unicast, floods and broadcasts.
#[test]
fn hairpin_reflects_unicast_floods_and_broadcasts() {
    let mut h = introduced(with_hairpin(bridged_node()));
    let to_itself = frame(PODS[0], PODS[0], b"me");
    h.rx_bytes(&[(PORTS[0], to_itself.clone())]);
    expect_at(&mut h, &[PORTS[0]], &to_itself);
    let all = frame(Mac::BROADCAST, PODS[0], b"all");
    h.rx_bytes(&[(PORTS[0], all.clone())]);
    expect_at(&mut h, &PORTS, &all);
    let unknown = frame(STRANGER, PODS[0], b"who");
    h.rx_bytes(&[(PORTS[0], unknown.clone())]);
    expect_at(&mut h, &PORTS, &unknown);
}

/// BR-4: hairpin is a matter of each port.
#[test]
fn hairpin_is_per_port() {
    let snapshot = with_port(bridged_node(), PORTS[1], |p| {
        if let Some(member) = &mut p.bridge {
            member.hairpin = true;
        }
    });
    let mut h = introduced(snapshot);
    let all = |from| frame(Mac::BROADCAST, PODS[from], b"all");
    h.rx_bytes(&[(PORTS[0], all(0))]);
    expect_at(&mut h, &[PORTS[1], PORTS[2]], &all(0));
    h.rx_bytes(&[(PORTS[1], all(1))]);
    expect_at(&mut h, &PORTS, &all(1));
}

/// BR-5: the first frame from elsewhere moves the entry.
#[test]
fn a_station_that_moves_is_followed_at_once() {
    let mut h = introduced(bridged_node());
    let from = frame(PODS[0], PODS[1], b"I moved");
    h.rx_bytes(&[(PORTS[2], from.clone())]);
    expect_at(&mut h, &[PORTS[0]], &from);
    h.expect_counters(&[(Event::FdbMoved.into(), 1)]);
    let to = frame(PODS[1], PODS[0], b"you");
    h.rx_bytes(&[(PORTS[0], to.clone())]);
    expect_at(&mut h, &[PORTS[2]], &to);
}

/// BR-6: 01:80:c2:00:00:01 to 0f stay on their link; 00 is a group like any other without spanning tree.
#[test]
fn reserved_groups_are_not_forwarded() {
    let reserved = |last| Mac([0x01, 0x80, 0xc2, 0, 0, last]);
    for last in 1..=15 {
        let mut h = introduced(bridged_node());
        h.rx_bytes(&[(PORTS[0], frame(reserved(last), PODS[0], b"link"))]);
        h.expect_silence();
        h.expect_counters(&[(DropReason::BridgeReserved.into(), 1)]);
    }
    for last in [0, 16] {
        let mut h = introduced(bridged_node());
        let bytes = frame(reserved(last), PODS[0], b"stp");
        h.rx_bytes(&[(PORTS[0], bytes.clone())]);
        expect_at(&mut h, &[PORTS[1], PORTS[2]], &bytes);
    }
}

/// BR-7: a bridged packet keeps its TTL, even 1 and 0, its broken checksum and its padding.
#[test]
fn bridged_packets_are_not_looked_at() {
    let mut h = introduced(bridged_node());
    let packet = |ttl| {
        eth(PODS[1], PODS[0]) / ipv4(POD_IPS[0], POD_IPS[1]).ttl(ttl).checksum(0x1111) / udp(1, 2)
    };
    for ttl in [0, 1, 64] {
        let mut bytes = packet(ttl).bytes();
        bytes.extend_from_slice(&[0xaa; 20]);
        h.rx_bytes(&[(PORTS[0], bytes.clone())]);
        expect_at(&mut h, &[PORTS[1]], &bytes);
    }
    h.expect_counters(&[]);
}

/// BR-7: VLAN tags and IPv6, which a router port drops, are bridged as they are.
#[test]
fn other_ethertypes_are_bridged() {
    let mut h = introduced(bridged_node());
    for ethertype in [[0x81, 0x00], [0x86, 0xdd], [0x00, 0x26]] {
        let mut bytes = frame(PODS[1], PODS[0], &[7; 60]);
        bytes[12..14].copy_from_slice(&ethertype);
        h.rx_bytes(&[(PORTS[0], bytes.clone())]);
        expect_at(&mut h, &[PORTS[1]], &bytes);
    }
}

/// BR-8: longer than the egress port's MTU is dropped in silence, with DF or without; the MTU of the others is theirs.
#[test]
fn frames_beyond_the_egress_mtu_vanish() {
    let narrow = with_port(bridged_node(), PORTS[1], |p| p.mtu = 1000);
    let mut h = introduced(narrow);
    let packet = |len: usize, dst| {
        eth(dst, PODS[0]) / ipv4(POD_IPS[0], POD_IPS[1]).df() / udp(1, 2) / vec![0; len - 28]
    };
    h.rx(PORTS[0], &packet(1000, PODS[1]));
    expect_at(&mut h, &[PORTS[1]], &packet(1000, PODS[1]).bytes());
    h.expect_silent_drop(PORTS[0], &packet(1001, PODS[1]), DropReason::BridgeMtu);
    // Of a flood the others get their copies.
    h.rx(PORTS[0], &packet(1001, STRANGER));
    expect_at(&mut h, &[PORTS[2]], &packet(1001, STRANGER).bytes());
    h.expect_counters(&[
        (Event::BridgeFlooded.into(), 1),
        (DropReason::BridgeMtu.into(), 1),
    ]);
}

/// BR-9: a group address or all zeros as source: dropped, not learned.
#[test]
fn impossible_sources_are_dropped_and_not_learned() {
    for source in [
        Mac::BROADCAST,
        Mac([0x01, 0, 0, 0, 0, 1]),
        IPV6_ALL_NODES,
        Mac::ZERO,
    ] {
        let mut h = introduced(bridged_node());
        h.rx_bytes(&[(PORTS[0], frame(PODS[1], source, b"x"))]);
        h.expect_silence();
        h.expect_counters(&[(DropReason::BridgeSource.into(), 1)]);
        assert_eq!(place(&h, source), None);
    }
}

/// BR-10: a frame with the bridge's own MAC as source goes on, but does not make the bridge look elsewhere for itself.
#[test]
fn the_bridges_own_address_cannot_be_taken() {
    let mut h = introduced(with_known_pods(bridged_node()));
    let forged = frame(PODS[1], BRIDGE_MAC, b"I am the bridge");
    h.rx_bytes(&[(PORTS[0], forged.clone())]);
    expect_at(&mut h, &[PORTS[1]], &forged);
    h.expect_counters(&[(Event::BridgeOwnSource.into(), 1)]);
    assert_eq!(place(&h, BRIDGE_MAC), Some(None));
    let ping = eth(BRIDGE_MAC, PODS[1]) / ipv4(POD_IPS[1], GATEWAY) / echo_request(1, 1);
    h.rx(PORTS[1], &ping);
    h.expect_tx(
        PORTS[1],
        &(eth(PODS[1], BRIDGE_MAC) / ipv4(GATEWAY, POD_IPS[1]).any_id() / echo_reply(1, 1)),
    );
    h.expect_silence();
}

/// BR-11: a million sources leave as many entries as the table holds, the newest of them, and the pool untouched.
#[test]
fn a_million_stations_do_not_grow_the_table() {
    let limits = Limits {
        fdb: 512,
        ..Limits::default()
    };
    let mut h = Harness::with_limits(bridged_node(), limits, 64);
    let mac = |n: u32| {
        let [a, b, c, d] = n.wrapping_mul(0x9e37_79b1).to_be_bytes();
        Mac([0x02, 0, a, b, c, d])
    };
    let mut batch = Vec::with_capacity(32);
    for n in 0..1_000_000 {
        batch.push((PORTS[0], frame(PODS[1], mac(n), b"")));
        if batch.len() == 32 {
            h.rx_bytes(&batch);
            h.take_all();
            batch.clear();
        }
    }
    let learned: Vec<Mac> = h
        .router()
        .fdb(h.now())
        .filter(|entry| entry.port.is_some())
        .map(|entry| entry.mac)
        .collect();
    let newest: Vec<Mac> = (1_000_000 - 512..1_000_000).rev().map(mac).collect();
    assert_eq!(learned, newest);
    assert_eq!(
        h.router().stats().events.get(Event::FdbEvicted),
        1_000_000 - 512
    );
}

/// BR-12, BR-18: the gateway answers on the bridge, and pods find each other through it by ARP.
#[test]
fn pods_ask_across_the_bridge_and_the_gateway_answers_for_itself() {
    let mut h = harness();
    let for_gateway = eth(Mac::BROADCAST, PODS[0]) / arp_request(PODS[0], POD_IPS[0], GATEWAY);
    h.rx(PORTS[0], &for_gateway);
    h.expect_tx(PORTS[1], &for_gateway);
    h.expect_tx(PORTS[2], &for_gateway);
    h.expect_tx(
        PORTS[0],
        &(eth(PODS[0], BRIDGE_MAC) / arp_reply(BRIDGE_MAC, GATEWAY, PODS[0], POD_IPS[0])),
    );
    h.expect_silence();
    let for_pod = eth(Mac::BROADCAST, PODS[0]) / arp_request(PODS[0], POD_IPS[0], POD_IPS[1]);
    h.rx(PORTS[0], &for_pod);
    h.expect_tx(PORTS[1], &for_pod);
    h.expect_tx(PORTS[2], &for_pod);
    h.expect_silence();
}

/// BR-12: from a pod through the gateway to the world and back, TTL-1 each way, with the bridge's MAC towards the pod.
#[test]
fn the_gateway_forwards_between_bridge_and_uplink() {
    let mut h = introduced(with_known_pods(bridged_node()));
    let world = Ipv4Addr::new(8, 8, 8, 8);
    h.rx(
        PORTS[0],
        &(eth(BRIDGE_MAC, PODS[0]) / ipv4(POD_IPS[0], world) / udp(1, 53) / b"q"),
    );
    h.expect_tx(
        UPLINK,
        &(eth(R_MAC, UPLINK_MAC) / ipv4(POD_IPS[0], world).ttl(63) / udp(1, 53) / b"q"),
    );
    h.rx(
        UPLINK,
        &(eth(UPLINK_MAC, R_MAC) / ipv4(world, POD_IPS[0]) / udp(53, 1) / b"a"),
    );
    h.expect_tx(
        PORTS[0],
        &(eth(PODS[0], BRIDGE_MAC) / ipv4(world, POD_IPS[0]).ttl(63) / udp(53, 1) / b"a"),
    );
    h.expect_silence();
    let stats = h.router().stats();
    assert_eq!(stats.port(BRIDGE).unwrap().tx_frames, 1);
}

/// What the node sends to a pod that the bridge has not heard of goes to all ports, and is sent once the pod has spoken.
#[test]
fn the_node_floods_what_it_cannot_place() {
    let mut h = Harness::new(with_known_pods(bridged_node()));
    let packet =
        |port: usize| eth(PODS[port], BRIDGE_MAC) / ipv4(R, POD_IPS[port]).ttl(63) / udp(1, 2);
    let from_r = |port: usize| eth(UPLINK_MAC, R_MAC) / ipv4(R, POD_IPS[port]) / udp(1, 2);
    h.rx(UPLINK, &from_r(1));
    expect_at(&mut h, &PORTS, &packet(1).bytes());
    h.rx_bytes(&[(PORTS[1], frame(STRANGER, PODS[1], b"here"))]);
    h.take_all();
    h.rx(UPLINK, &from_r(1));
    expect_at(&mut h, &[PORTS[1]], &packet(1).bytes());
}

/// BR-19: to the bridge's MAC but for a pod on the link: routed back, TTL-1, and no redirect.
#[test]
fn a_packet_to_the_bridge_for_a_pod_on_it_is_routed_back() {
    let mut h = introduced(with_known_pods(bridged_node()));
    h.rx(
        PORTS[0],
        &(eth(BRIDGE_MAC, PODS[0]) / ipv4(POD_IPS[0], POD_IPS[1]) / udp(1, 2)),
    );
    h.expect_tx(
        PORTS[1],
        &(eth(PODS[1], BRIDGE_MAC) / ipv4(POD_IPS[0], POD_IPS[1]).ttl(63) / udp(1, 2)),
    );
    h.expect_silence();
}

/// BR-20, FWD-25: the gateway may be the subnet's network address; 10.0.0.255 is its broadcast.
#[test]
fn a_network_address_can_be_the_gateway() {
    let gateway = Ipv4Addr::new(10, 0, 0, 0);
    let client = Ipv4Addr::new(10, 0, 0, 1);
    let mut snapshot = bridged_node();
    for address in snapshot.addresses.iter_mut().filter(|a| a.port == BRIDGE) {
        address.addr = gateway;
        address.prefix_len = 24;
        address.broadcast = Some(Ipv4Addr::new(10, 0, 0, 255));
    }
    snapshot.routes.push(route("10.0.0.0/24", BRIDGE, None));
    let mut h = introduced(snapshot);
    h.rx(
        PORTS[0],
        &(eth(Mac::BROADCAST, PODS[0]) / arp_request(PODS[0], client, gateway)),
    );
    h.expect_tx(
        PORTS[0],
        &(eth(PODS[0], BRIDGE_MAC) / arp_reply(BRIDGE_MAC, gateway, PODS[0], client)),
    );
    h.take_all();
    h.rx(
        PORTS[0],
        &(eth(BRIDGE_MAC, PODS[0]) / ipv4(client, gateway) / echo_request(1, 1)),
    );
    h.expect_tx(
        PORTS[0],
        &(eth(PODS[0], BRIDGE_MAC) / ipv4(gateway, client).any_id() / echo_reply(1, 1)),
    );
    h.rx(
        PORTS[0],
        &(eth(BRIDGE_MAC, PODS[0])
            / ipv4(client, Ipv4Addr::new(10, 0, 0, 255))
            / echo_request(1, 1)),
    );
    h.expect_silence();
    assert_eq!(h.router().stats().drops.get(DropReason::Broadcast), 1);
}

/// BR-24: a bridge without ports keeps its address, and what should leave by it is dropped.
#[test]
fn a_bridge_without_ports_answers_and_sends_nothing() {
    let mut snapshot = with_port(bridged_node(), BRIDGE, |p| p.carrier = false);
    snapshot.ports.retain(|p| p.bridge.is_none());
    let mut h = Harness::new(snapshot);
    h.rx(
        UPLINK,
        &(eth(UPLINK_MAC, R_MAC) / ipv4(R, GATEWAY) / echo_request(1, 1)),
    );
    h.expect_tx(
        UPLINK,
        &(eth(R_MAC, UPLINK_MAC) / ipv4(GATEWAY, R).any_id() / echo_reply(1, 1)),
    );
    h.rx(
        UPLINK,
        &(eth(UPLINK_MAC, R_MAC) / ipv4(R, POD_IPS[0]) / udp(1, 2)),
    );
    h.expect_silence();
    assert_eq!(h.router().stats().drops.get(DropReason::EgressDown), 1);
}

/// A bridge that is down forwards nothing, and neither does a port that is.
#[test]
fn what_is_down_forwards_nothing() {
    for down in [BRIDGE, PORTS[0]] {
        let mut h = introduced(bridged_node());
        h.apply(with_port(bridged_node(), down, |p| p.up = false));
        h.rx_bytes(&[(PORTS[0], frame(PODS[1], PODS[0], b"x"))]);
        h.expect_silence();
        h.expect_counters(&[(DropReason::PortDown.into(), 1)]);
    }
    let mut h = introduced(bridged_node());
    h.apply(with_port(bridged_node(), PORTS[1], |p| p.up = false));
    let all = frame(Mac::BROADCAST, PODS[0], b"all");
    h.rx_bytes(&[(PORTS[0], all.clone())]);
    expect_at(&mut h, &[PORTS[2]], &all);
}

/// L2-3: fewer than 14 bytes are no frame to a bridge either.
#[test]
fn short_frames_are_dropped() {
    let mut h = introduced(bridged_node());
    h.rx_bytes(&[(PORTS[0], frame(PODS[1], PODS[0], b"")[..13].to_vec())]);
    h.expect_silence();
    h.expect_counters(&[(DropReason::FrameTooShort.into(), 1)]);
}

/// A bridge neither passes on nor learns from what the device cut.
#[test]
fn a_frame_that_the_device_cut_is_dropped() {
    let mut h = Harness::new(bridged_node());
    h.rx_cut(PORTS[0], &frame(Mac::BROADCAST, PODS[0], b"x"));
    h.expect_silence();
    h.expect_counters(&[(DropReason::FrameTooLong.into(), 1)]);
    assert_eq!(place(&h, PODS[0]), None);
}

/// Where the only other port is gone there is nobody to send to.
#[test]
fn a_flood_to_nobody_is_counted() {
    let mut snapshot = bridged_node();
    snapshot
        .ports
        .retain(|p| ![PORTS[1], PORTS[2]].contains(&p.id));
    let mut h = Harness::new(snapshot);
    h.rx_bytes(&[(PORTS[0], frame(STRANGER, PODS[0], b"x"))]);
    h.expect_silence();
    h.expect_counters(&[
        (Event::FdbLearned.into(), 1),
        (Event::BridgeFlooded.into(), 1),
        (DropReason::BridgeNoPort.into(), 1),
    ]);
}

/// An empty pool costs copies, never the frame itself; what was not made is counted.
#[test]
fn a_flood_without_frames_reaches_the_last_port() {
    let mut h = introduced(bridged_node());
    let taken = h.starve(1);
    let bytes = frame(STRANGER, PODS[0], b"x");
    h.rx_bytes(&[(PORTS[0], bytes.clone())]);
    expect_at(&mut h, &[PORTS[2]], &bytes);
    h.expect_counters(&[(Event::BridgeFlooded.into(), 1), (Event::NoFrame.into(), 1)]);
    h.refill(taken);
}

/// PARP-7: who-has for an address that the node could route to is flooded and stays unanswered (seed 004, row 8).
#[test]
fn the_bridge_answers_for_nobody() {
    let mut snapshot = bridged_node();
    snapshot.routes.push(route("10.88.7.7/32", UPLINK, Some(R)));
    let mut h = introduced(snapshot);
    let question = eth(Mac::BROADCAST, PODS[0])
        / arp_request(PODS[0], POD_IPS[0], Ipv4Addr::new(10, 88, 7, 7));
    h.rx(PORTS[0], &question);
    expect_at(&mut h, &[PORTS[1], PORTS[2]], &question.bytes());
}

/// RFC 1812 4.3.2.7: errors about packets from a pod on a bridge go back by the bridge.
#[test]
fn errors_go_back_by_the_bridge() {
    let mut snapshot = with_known_pods(bridged_node());
    let nowhere = Ipv4Addr::new(192, 0, 2, 1);
    snapshot
        .routes
        .push(special("192.0.2.0/24", RouteTarget::Unreachable));
    let mut h = introduced(snapshot);
    let packet = eth(BRIDGE_MAC, PODS[0]) / ipv4(POD_IPS[0], nowhere) / udp(1, 2);
    h.rx(PORTS[0], &packet);
    h.expect_tx(
        PORTS[0],
        &(eth(PODS[0], BRIDGE_MAC)
            / ipv4(GATEWAY, POD_IPS[0]).tos(0xc0).any_id()
            / unreachable(1)
            / quote(&packet)),
    );
    h.expect_silence();
}

/// Decision 5: what the node's own programs send to a pod on the bridge, and the answer.
#[test]
fn the_host_namespace_reaches_pods_on_the_bridge() {
    use router_core::testing::topology::{HOST, HOST_MAC, HOST_PEER_MAC};
    let mut h = introduced(with_host(with_known_pods(bridged_node())));
    h.rx(
        HOST,
        &(eth(HOST_MAC, HOST_PEER_MAC) / ipv4(GATEWAY, POD_IPS[1]) / tcp(1, 80, 2)),
    );
    h.expect_tx(
        PORTS[1],
        &(eth(PODS[1], BRIDGE_MAC) / ipv4(GATEWAY, POD_IPS[1]) / tcp(1, 80, 2)),
    );
    let answer = |dst, src| eth(dst, src) / ipv4(POD_IPS[1], GATEWAY) / tcp(80, 1, 0x12);
    h.rx(PORTS[1], &answer(BRIDGE_MAC, PODS[1]));
    h.expect_tx(HOST, &answer(HOST_PEER_MAC, HOST_MAC));
    h.expect_silence();
}

/// A snapshot that contradicts itself is refused, and the old one stays.
#[test]
fn impossible_bridges_are_refused() {
    let refused = |snapshot: Snapshot| {
        let mut pool = router_core::FramePool::new(1);
        router_core::Router::new(Limits::default(), 1)
            .apply(Instant::ZERO, snapshot, &mut pool)
            .unwrap_err()
    };
    let member_of = |id| {
        move |p: &mut router_core::config::PortConfig| {
            p.bridge = Some(router_core::config::BridgePort {
                bridge: id,
                hairpin: false,
            });
        }
    };
    let a = with_port(bridged_node(), PORTS[0], member_of(UPLINK));
    assert_eq!(refused(a), ConfigError::NotABridge(UPLINK));
    let b = with_port(bridged_node(), PORTS[0], member_of(PortId(99)));
    assert_eq!(refused(b), ConfigError::UnknownPort(PortId(99)));
    let c = with_port(bridged_node(), BRIDGE, member_of(BRIDGE));
    assert_eq!(refused(c), ConfigError::NotABridgePort(BRIDGE));
    let d = with_port(bridged_node(), PORTS[0], |p| {
        p.kind = PortKind::Host { peer_mac: STRANGER };
    });
    assert_eq!(refused(d), ConfigError::NotABridgePort(PORTS[0]));
}

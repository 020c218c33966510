//! NetworkPolicy at the ports of a node (dataplane section 7): packets of new connections.
//!
//! What depends on the state of a connection is in `policy_tracked.rs`.

use core::net::Ipv4Addr;

use router_core::DropReason;
use router_core::config::Snapshot;
use router_core::policy::{
    AddressRange, PolicyConfig, PolicyEndpoint, PolicyName, PolicyPeers, PolicyPorts,
    PolicyProgram, PolicyRule,
};
use router_core::testing::topology::*;
use router_core::testing::*;

const TCP: u8 = 6;
const SYN: u8 = 2;

fn only(addr: Ipv4Addr) -> Vec<AddressRange> {
    vec![AddressRange {
        first: addr,
        last: addr,
    }]
}

fn rule(peers: PolicyPeers, ports: &[(u8, u16, u16)]) -> PolicyRule {
    let ports = ports.iter().map(|&(protocol, first, last)| PolicyPorts {
        protocol,
        first,
        last,
    });
    PolicyRule {
        policy: 0,
        number: 0,
        peers,
        ports: ports.collect(),
    }
}

/// Pods a1 and a2 with these programs for (ingress, egress).
fn pods(
    a1: (Option<u32>, Option<u32>),
    a2: (Option<u32>, Option<u32>),
    programs: Vec<Vec<PolicyRule>>,
) -> PolicyConfig {
    let endpoint = |port, ip, (ingress, egress)| PolicyEndpoint {
        port,
        ip,
        ingress,
        egress,
    };
    PolicyConfig {
        endpoints: vec![endpoint(POD1, A1, a1), endpoint(POD2, A2, a2)],
        programs: programs
            .into_iter()
            .map(|rules| PolicyProgram {
                policies: vec![0],
                rules,
            })
            .collect(),
        sets: vec![only(A1), only(B1)],
        policies: vec![PolicyName {
            name: "default/p".into(),
            place: None,
        }],
        flush_on_change: false,
    }
}

fn node(policy: PolicyConfig) -> Harness {
    Harness::new(Snapshot {
        policy,
        ..resolved(with_host(node_a()))
    })
}

fn from_a1(dst: Ipv4Addr) -> Packet {
    eth(POD1_MAC, A1_MAC) / ipv4(A1, dst)
}

fn from_b1(dst: Ipv4Addr) -> Packet {
    eth(UPLINK_MAC, B_MAC) / ipv4(B1, dst).ttl(63)
}

fn to_a1(src: Ipv4Addr, ttl: u8) -> Packet {
    eth(A1_MAC, POD1_MAC) / ipv4(src, A1).ttl(ttl)
}

fn to_a2(src: Ipv4Addr, ttl: u8) -> Packet {
    eth(A2_MAC, POD2_MAC) / ipv4(src, A2).ttl(ttl)
}

/// NP-4, NP-11: a pod that is isolated for ingress by a policy without rules gets nothing, and nobody is told.
#[test]
fn default_deny_ingress_drops_silently() {
    let mut h = node(pods((Some(0), None), (None, None), vec![vec![]]));
    for packet in [
        from_b1(A1) / echo_request(5, 1),
        from_b1(A1) / tcp(4000, 80, SYN),
        from_b1(A1) / udp(4000, 53),
    ] {
        h.expect_silent_drop(UPLINK, &packet, DropReason::PolicyIngress);
    }
}

/// NP-1, NP-3: what no policy selects is open, and isolation for ingress leaves egress open.
#[test]
fn what_is_not_isolated_is_open() {
    let mut h = node(pods((Some(0), None), (None, None), vec![vec![]]));
    h.rx(UPLINK, &(from_b1(A2) / tcp(4000, 80, SYN)));
    h.expect_tx(POD2, &(to_a2(B1, 62) / tcp(4000, 80, SYN)));
    h.rx(POD1, &(from_a1(A2) / tcp(4000, 80, SYN)));
    h.expect_tx(POD2, &(to_a2(A1, 63) / tcp(4000, 80, SYN)));
    h.expect_counters(&[]);
}

/// NP-4: `- {}` allows everything, any protocol included.
#[test]
fn a_rule_without_peers_and_ports_allows_everything() {
    let open = rule(PolicyPeers::Any, &[]);
    let mut h = node(pods((Some(0), None), (None, None), vec![vec![open]]));
    h.rx(UPLINK, &(from_b1(A1) / echo_request(5, 1)));
    h.expect_tx(POD1, &(to_a1(B1, 62) / echo_request(5, 1)));
    h.expect_counters(&[]);
}

/// NP-7: ports and their ranges count with both ends, per protocol.
#[test]
fn a_range_of_ports_includes_both_ends() {
    let range = rule(PolicyPeers::Any, &[(TCP, 32_000, 32_768)]);
    let mut h = node(pods((Some(0), None), (None, None), vec![vec![range]]));
    for port in [32_000, 32_768] {
        h.rx(UPLINK, &(from_b1(A1) / tcp(1, port, SYN)));
        h.expect_tx(POD1, &(to_a1(B1, 62) / tcp(1, port, SYN)));
    }
    h.expect_counters(&[]);
    for packet in [
        from_b1(A1) / tcp(1, 31_999, SYN),
        from_b1(A1) / tcp(1, 32_769, SYN),
        from_b1(A1) / udp(1, 32_000),
    ] {
        h.expect_silent_drop(UPLINK, &packet, DropReason::PolicyIngress);
    }
}

/// NP-8: a pod with port rules only does not answer ping.
#[test]
fn a_rule_with_ports_does_not_allow_icmp() {
    let web = rule(PolicyPeers::Any, &[(TCP, 80, 80)]);
    let mut h = node(pods((Some(0), None), (None, None), vec![vec![web]]));
    let ping = from_b1(A1) / echo_request(5, 1);
    h.expect_silent_drop(UPLINK, &ping, DropReason::PolicyIngress);
}

/// NP-9: on one node the source's egress and the destination's ingress both decide.
#[test]
fn both_ends_apply_on_one_node() {
    let from_pod_a1 = rule(PolicyPeers::Set(0), &[]);
    let programs = || vec![vec![], vec![from_pod_a1.clone()]];
    let packet = from_a1(A2) / udp(1, 2);

    let mut h = node(pods((None, None), (Some(1), None), programs()));
    h.rx(POD1, &packet);
    h.expect_tx(POD2, &(to_a2(A1, 63) / udp(1, 2)));

    let mut h = node(pods((None, Some(0)), (Some(1), None), programs()));
    h.expect_silent_drop(POD1, &packet, DropReason::PolicyEgress);

    let mut h = node(pods((None, None), (Some(0), None), programs()));
    h.expect_silent_drop(POD1, &packet, DropReason::PolicyIngress);
}

/// NP-13: the node reaches its own pods whatever their policy, other nodes do not.
#[test]
fn the_node_reaches_its_own_pods() {
    let mut h = node(pods((Some(0), Some(0)), (None, None), vec![vec![]]));
    let probe = eth(HOST_MAC, HOST_PEER_MAC) / ipv4(GW_A, A1) / echo_request(5, 1);
    h.rx(HOST, &probe);
    h.expect_tx(POD1, &(to_a1(GW_A, 64) / echo_request(5, 1)));
    h.expect_counters(&[]);
    let other = eth(UPLINK_MAC, B_MAC) / ipv4(NODE_B, A1) / echo_request(5, 1);
    h.expect_silent_drop(UPLINK, &other, DropReason::PolicyIngress);
}

/// Pipeline 7a: what a pod sends to its own node is subject to the pod's egress policy, as under Calico.
#[test]
fn egress_policy_holds_towards_the_own_node() {
    let mut h = node(pods((None, Some(0)), (None, None), vec![vec![]]));
    let ping = from_a1(NODE_A) / echo_request(5, 1);
    h.expect_silent_drop(POD1, &ping, DropReason::PolicyEgress);
}

/// NP-20: a node through which a packet only passes does not judge it.
#[test]
fn transit_is_not_judged() {
    let mut h = node(pods((Some(0), Some(0)), (Some(0), Some(0)), vec![vec![]]));
    let far = Ipv4Addr::new(10, 244, 1, 9);
    h.rx(UPLINK, &(eth(UPLINK_MAC, R_MAC) / ipv4(X, far) / udp(1, 2)));
    h.expect_tx(
        UPLINK,
        &(eth(B_MAC, UPLINK_MAC) / ipv4(X, far).ttl(63) / udp(1, 2)),
    );
    h.expect_counters(&[]);
}

/// NP-26: a pod that forges its source does not get rid of its own egress policy.
#[test]
fn a_forged_source_does_not_escape_the_ports_policy() {
    let mut h = node(pods((None, Some(0)), (None, None), vec![vec![]]));
    let forged = eth(POD1_MAC, A1_MAC) / ipv4(A2, B1) / udp(1, 2);
    h.expect_silent_drop(POD1, &forged, DropReason::PolicyEgress);
}

/// Pipeline: a time to live that runs out here is reported, although policy would drop the packet.
#[test]
fn ttl_expiry_beats_policy() {
    let mut h = node(pods((Some(0), None), (None, None), vec![vec![]]));
    let packet = eth(UPLINK_MAC, B_MAC) / ipv4(B1, A1).ttl(1) / udp(1, 2);
    h.rx(UPLINK, &packet);
    let error = eth(B_MAC, UPLINK_MAC) / ipv4(NODE_A, B1).tos(0xc0).any_id() / time_exceeded();
    h.expect_tx(UPLINK, &(error / quote(&packet)));
}

/// NP-23, NP-19: the next snapshot's policies hold from its first packet on, and without any the pod is open again.
#[test]
fn deleting_the_last_policy_opens_the_pod() {
    let mut h = node(pods((Some(0), None), (None, None), vec![vec![]]));
    let packet = from_b1(A1) / udp(1, 2);
    h.expect_silent_drop(UPLINK, &packet, DropReason::PolicyIngress);
    h.apply(resolved(with_host(node_a())));
    h.rx(UPLINK, &packet);
    h.expect_tx(POD1, &(to_a1(B1, 62) / udp(1, 2)));
    h.expect_counters(&[]);
}

//! NetworkPolicy and the state of connections (dataplane section 7): what a policy allowed once goes on.

use router_core::config::Snapshot;
use router_core::policy::{
    AddressRange, PolicyConfig, PolicyEndpoint, PolicyName, PolicyPeers, PolicyProgram, PolicyRule,
};
use router_core::testing::topology::*;
use router_core::testing::*;
use router_core::{DropReason, Event};

const SYN: u8 = 2;
const SYN_ACK: u8 = 0x12;
const RST: u8 = 4;

/// Pod a1 with these programs: none open, an empty list closed, else what comes from or goes to b1.
fn a1(ingress: Option<bool>, egress: Option<bool>) -> PolicyConfig {
    let program = |open: bool| PolicyProgram {
        policies: vec![0],
        rules: open
            .then_some(PolicyRule {
                policy: 0,
                number: 0,
                peers: PolicyPeers::Set(0),
                ports: Vec::new(),
            })
            .into_iter()
            .collect(),
    };
    PolicyConfig {
        endpoints: vec![PolicyEndpoint {
            port: POD1,
            ip: A1,
            ingress: ingress.map(u32::from),
            egress: egress.map(u32::from),
        }],
        programs: vec![program(false), program(true)],
        sets: vec![vec![AddressRange {
            first: B1,
            last: B1,
        }]],
        policies: vec![PolicyName::default()],
        flush_on_change: false,
    }
}

fn tracking(policy: PolicyConfig) -> Snapshot {
    let mut snapshot = resolved(node_a());
    snapshot.nat.conntrack.enabled = true;
    snapshot.policy = policy;
    snapshot
}

fn node(policy: PolicyConfig) -> Harness {
    Harness::new(tracking(policy))
}

fn from_a1() -> Packet {
    eth(POD1_MAC, A1_MAC) / ipv4(A1, B1)
}

fn from_b1() -> Packet {
    eth(UPLINK_MAC, B_MAC) / ipv4(B1, A1).ttl(63)
}

/// What a1 sends, as node A sends it on.
fn onward() -> Packet {
    eth(B_MAC, UPLINK_MAC) / ipv4(A1, B1).ttl(63)
}

/// What b1 sends, as a1 gets it.
fn inward() -> Packet {
    eth(A1_MAC, POD1_MAC) / ipv4(B1, A1).ttl(62)
}

/// NP-10: a pod that may send nothing of its own accord answers what it was asked.
#[test]
fn replies_pass_against_the_other_directions_policy() {
    let mut h = node(a1(Some(true), Some(false)));
    h.rx(UPLINK, &(from_b1() / tcp(4000, 80, SYN)));
    h.expect_tx(POD1, &(inward() / tcp(4000, 80, SYN)));
    h.rx(POD1, &(from_a1() / tcp(80, 4000, SYN_ACK).seq(9).ack(1)));
    h.expect_tx(UPLINK, &(onward() / tcp(80, 4000, SYN_ACK).seq(9).ack(1)));
    h.expect_counters(&[]);
    let own = from_a1() / tcp(5000, 80, SYN);
    h.expect_silent_drop(POD1, &own, DropReason::PolicyEgress);
}

/// NP-10: an ICMP error about an allowed connection passes a pod's ingress policy.
#[test]
fn errors_about_an_allowed_connection_pass() {
    let mut h = node(a1(Some(false), None));
    h.rx(POD1, &(from_a1() / udp(1000, 9)));
    h.expect_tx(UPLINK, &(onward() / udp(1000, 9)));
    let error = unreachable(3) / quote(&(onward() / udp(1000, 9)));
    h.rx(UPLINK, &(from_b1() / error.clone()));
    h.expect_tx(POD1, &(inward() / error));
    h.expect_counters(&[]);
}

/// NP-12: what belongs to no connection is dropped at an isolated pod, whatever its rules allow.
#[test]
fn invalid_packets_are_dropped_at_an_isolated_pod() {
    let mut h = node(a1(Some(true), None));
    let stray = from_b1() / tcp(4000, 80, RST);
    h.expect_silent_drop(UPLINK, &stray, DropReason::PolicyInvalid);
    let error = unreachable(1) / quote(&(onward() / udp(1000, 9)));
    let stray = from_b1() / error;
    h.expect_silent_drop(UPLINK, &stray, DropReason::PolicyInvalid);
}

/// NP-12: "fragmentation needed" about a packet of the pod's is let through although the connection is not known.
#[test]
fn fragmentation_needed_reaches_the_pod_that_sent_the_packet() {
    let mut h = node(a1(Some(false), None));
    let error = || fragmentation_needed(1400) / quote(&(onward() / udp(1000, 9)));
    h.rx(UPLINK, &(from_b1() / error()));
    h.expect_tx(POD1, &(inward() / error()));
    h.expect_counters(&[]);
    let other = eth(B_MAC, UPLINK_MAC) / ipv4(A2, B1) / udp(1000, 9);
    let foreign = from_b1() / fragmentation_needed(1400) / quote(&other);
    h.expect_silent_drop(UPLINK, &foreign, DropReason::PolicyInvalid);
}

/// NP-16: a running ping goes on under a stricter policy, a new one is judged anew.
#[test]
fn a_running_ping_outlives_a_stricter_policy() {
    let mut h = node(PolicyConfig::default());
    let round = |h: &mut Harness, id: u16, seq: u16| {
        h.rx(UPLINK, &(from_b1() / echo_request(id, seq)));
        h.expect_tx(POD1, &(inward() / echo_request(id, seq)));
        h.rx(POD1, &(from_a1() / echo_reply(id, seq)));
        h.expect_tx(UPLINK, &(onward() / echo_reply(id, seq)));
    };
    round(&mut h, 5, 1);
    h.apply(tracking(a1(Some(false), None)));
    round(&mut h, 5, 2);
    h.expect_counters(&[]);
    let new = from_b1() / echo_request(6, 1);
    h.expect_silent_drop(UPLINK, &new, DropReason::PolicyIngress);
}

/// NP-18: a SYN that was dropped leaves nothing behind, so that its retransmission is accepted once it is allowed.
#[test]
fn a_dropped_packet_leaves_no_connection() {
    let mut h = node(a1(Some(false), None));
    let syn = from_b1() / tcp(4000, 80, SYN);
    h.expect_silent_drop(UPLINK, &syn, DropReason::PolicyIngress);
    h.apply(tracking(a1(Some(true), None)));
    h.rx(UPLINK, &syn);
    h.expect_tx(POD1, &(inward() / tcp(4000, 80, SYN)));
    h.expect_counters(&[]);
}

/// NP-21: fragments are judged as the datagram that they are, in whatever order they come.
#[test]
fn fragments_are_judged_as_one_datagram() {
    let whole = from_b1() / udp(1000, 9) / payload([7; 1200]);
    let bytes = whole.bytes();
    let data = bytes.get(34..).unwrap_or_default();
    let piece = |from: usize, to: usize| {
        let ip = ipv4(B1, A1)
            .ttl(63)
            .id(77)
            .protocol(17)
            .offset(u16::try_from(from).expect("a small offset"));
        let ip = if to < data.len() { ip.mf() } else { ip };
        eth(UPLINK_MAC, B_MAC) / ip / payload(data.get(from..to).unwrap_or_default())
    };
    let (first, second) = (piece(0, 800), piece(800, data.len()));

    let mut h = node(a1(Some(false), None));
    h.rx(UPLINK, &second);
    h.expect_silence();
    h.rx(UPLINK, &first);
    h.expect_silence();
    let dropped = h.router().stats().drops.get(DropReason::PolicyIngress);
    assert!(dropped >= 1, "{:?}", h.router().stats().drops);

    let mut h = node(a1(Some(true), None));
    h.rx(UPLINK, &second);
    h.rx(UPLINK, &first);
    let sent = h.take_all();
    assert_eq!(sent.len(), 2, "{:?}", h.router().stats());
    assert!(sent.iter().all(|(port, _)| *port == POD1));
}

/// NP-13: what the node asked its own pod comes back to the node against the pod's egress policy.
#[test]
fn a_pods_answer_to_its_node_passes_its_egress_policy() {
    let mut snapshot = with_host(tracking(a1(Some(false), Some(false))));
    snapshot = resolved(snapshot);
    let mut h = Harness::new(snapshot);
    let probe = eth(HOST_MAC, HOST_PEER_MAC) / ipv4(GW_A, A1) / tcp(4000, 80, SYN);
    h.rx(HOST, &probe);
    let to_pod = eth(A1_MAC, POD1_MAC) / ipv4(GW_A, A1) / tcp(4000, 80, SYN);
    h.expect_tx(POD1, &to_pod);
    let answer = || ipv4(A1, GW_A) / tcp(80, 4000, SYN_ACK).seq(9).ack(1);
    h.rx(POD1, &(eth(POD1_MAC, A1_MAC) / answer()));
    h.expect_tx(HOST, &(eth(HOST_PEER_MAC, HOST_MAC) / answer()));
    h.expect_counters(&[(Event::HostDelivered.into(), 1)]);
    let own = eth(POD1_MAC, A1_MAC) / ipv4(A1, GW_A) / tcp(81, 4000, SYN);
    h.expect_silent_drop(POD1, &own, DropReason::PolicyEgress);
}

/// NP-17: without the option a UDP "connection" goes on under a stricter policy until it times out; with it, it ends at once.
#[test]
fn flushing_ends_what_a_new_policy_does_not_allow() {
    for flush in [false, true] {
        let mut h = node(PolicyConfig::default());
        h.rx(UPLINK, &(from_b1() / udp(4000, 53)));
        h.expect_tx(POD1, &(inward() / udp(4000, 53)));
        h.rx(POD1, &(from_a1() / udp(53, 4000)));
        h.expect_tx(UPLINK, &(onward() / udp(53, 4000)));
        let mut stricter = a1(Some(false), None);
        stricter.flush_on_change = flush;
        h.apply(tracking(stricter));
        h.rx(UPLINK, &(from_b1() / udp(4000, 53)));
        if flush {
            h.expect_silence();
            h.expect_counters(&[(DropReason::PolicyIngress.into(), 1)]);
        } else {
            h.expect_tx(POD1, &(inward() / udp(4000, 53)));
            h.expect_counters(&[]);
        }
    }
}

/// NP-17, NP-13: flushing spares what may begin again: what a rule allows in its direction, and what the node itself began.
#[test]
fn flushing_spares_what_a_new_policy_allows() {
    let left = |stricter: PolicyConfig| {
        let mut h = Harness::new(with_host(tracking(PolicyConfig::default())));
        h.rx(UPLINK, &(from_b1() / udp(4000, 53)));
        h.rx(POD1, &(from_a1() / udp(4001, 53)));
        h.rx(POD1, &(eth(POD1_MAC, A1_MAC) / ipv4(A1, X) / udp(4002, 53)));
        let own = ipv4(GW_A, A1) / udp(4003, 53);
        h.rx(HOST, &(eth(HOST_MAC, HOST_PEER_MAC) / own));
        assert_eq!(h.take_all().len(), 4);
        let mut snapshot = with_host(tracking(stricter));
        snapshot.policy.flush_on_change = true;
        h.apply(snapshot);
        let mut left: Vec<u16> = h
            .router()
            .sessions(h.now())
            .map(|session| session.original.sport)
            .collect();
        left.sort_unstable();
        left
    };
    assert_eq!(left(a1(Some(true), None)), [4000, 4001, 4002, 4003]);
    assert_eq!(left(a1(Some(false), None)), [4001, 4002, 4003]);
    assert_eq!(left(a1(None, Some(true))), [4000, 4001, 4003]);
    assert_eq!(left(a1(None, Some(false))), [4000, 4003]);
    assert_eq!(left(a1(Some(false), Some(false))), [4003]);
}

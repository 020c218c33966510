//! Connection tracking, translation and policy: the field of an open checksum is kept right, windows go by all the data.

use router_core::policy::{PolicyConfig, PolicyEndpoint, PolicyName, PolicyProgram};
use router_core::{DropReason, TcpState};

use super::*;

fn node() -> Snapshot {
    masquerading(resolved(node_a()))
}

fn r() -> Packet {
    eth(UPLINK_MAC, R_MAC)
}

fn out(flags: u8, seq: u32) -> Packet {
    a1() / ipv4(A1, X).id(7).df() / tcp(4000, 80, flags).seq(seq).ack(1).window(60_000)
}

fn back(flags: u8, seq: u32, ack: u32) -> Packet {
    r() / ipv4(X, NODE_A).id(3).df().ttl(60) / tcp(80, 4000, flags).seq(seq).ack(ack).window(60_000)
}

/// NAT-50, NAT-60 with what devices leave open: masqueraded out and back, first packet and later ones.
#[test]
fn a_masqueraded_connection_carries_superframes_both_ways() {
    let steps = [
        vec![open(POD1, &out(SYN, 0))],
        vec![open(UPLINK, &back(SYN_ACK, 0, 1))],
        vec![large(POD1, &(out(PSH_ACK, 1) / data(40_000)), 1448)],
        vec![
            large(POD1, &(out(ACK, 40_001) / data(14_480)), 1448),
            large(UPLINK, &(back(ACK, 1, 40_001) / data(30_000)), 1400),
        ],
        vec![large(POD1, &(out(PSH_ACK | 1, 54_481) / data(2_000)), 1448)],
    ];
    let (mut h, mut wires) = both(&node(), &steps);
    assert_eq!(h.take_uncut().len(), 6, "none was cut, none completed");
    h.expect_counters(&[]);
    wires.expect_counters(&[]);
    let state = |h: &Harness| h.router().sessions(h.now()).next().map(|s| s.tcp);
    assert_eq!(state(&h), state(&wires));
}

/// The last octet of a superframe is what its acknowledgement is compared with.
#[test]
fn windows_go_by_all_the_data_of_a_superframe() {
    let steps = [
        vec![open(POD1, &out(SYN, 0))],
        vec![open(UPLINK, &back(SYN_ACK, 0, 1))],
        vec![open(POD1, &out(ACK, 1))],
        vec![large(POD1, &(out(PSH_ACK, 1) / data(40_000)), 1448)],
        vec![open(UPLINK, &back(ACK, 1, 40_001))],
    ];
    let (mut h, _) = both(&node(), &steps);
    h.expect_counters(&[]);
    h.rx(UPLINK, &back(ACK, 1, 40_002));
    h.expect_silence();
    h.expect_counters(&[(DropReason::ConntrackInvalid.into(), 1)]);
    let session = h.router().sessions(h.now()).next().unwrap();
    assert_eq!(session.tcp, Some(TcpState::Established));
}

/// NAT-61 is about complete checksums: an open one of UDP is never taken for none.
#[test]
fn datagrams_are_translated_with_their_checksums_open() {
    let question = a1() / ipv4(A1, X) / udp(4000, 53) / data(33);
    let answer = r() / ipv4(X, NODE_A).ttl(60) / udp(53, 4000) / data(4_000);
    let steps = [
        vec![open(POD1, &question)],
        vec![large(UPLINK, &answer, 900)],
        vec![large(
            POD1,
            &(a1() / ipv4(A1, X) / udp(4000, 53) / data(60_000)),
            1472,
        )],
    ];
    let (mut h, _) = both(&node(), &steps);
    assert_eq!(h.take_uncut().len(), 3);
}

/// NAT-60: checksums are looked at where they are complete, and there alone.
#[test]
fn an_open_checksum_is_not_verified_and_a_complete_one_is() {
    let mut h = Harness::new(node());
    h.rx_offload(&[open(POD1, &out(SYN, 0))], MAX_FRAME);
    assert_eq!(h.take_all().len(), 1);
    let (_, bytes, _) = open(POD1, &(a1() / ipv4(A1, X) / udp(9, 9) / data(33)));
    h.rx_bytes(&[(POD1, bytes)]);
    h.expect_silence();
    h.expect_counters(&[(DropReason::ConntrackInvalid.into(), 1)]);
}

/// Host ports translate destinations of superframes, and errors about them quote what was sent.
#[test]
fn a_host_port_takes_superframes() {
    let mapped = host_port(
        resolved(node_a()),
        (6, 8080),
        (A2, 80),
        "10.244.0.0/24".parse().unwrap(),
    );
    let request = |flags, seq| {
        b() / ipv4(X, NODE_A).df().ttl(60) / tcp(5000, 8080, flags).seq(seq).ack(1).window(60_000)
    };
    let steps = [
        vec![open(UPLINK, &request(SYN, 0))],
        vec![open(
            POD2,
            &(eth(POD2_MAC, A2_MAC) / ipv4(A2, X) / tcp(80, 5000, SYN_ACK).ack(1).window(60_000)),
        )],
        vec![large(UPLINK, &(request(PSH_ACK, 1) / data(20_000)), 1000)],
    ];
    let (mut h, _) = both(&mapped, &steps);
    assert_eq!(h.take_uncut().len(), 3);
    // TTL 1: the error shows the segment as its sender sent it.
    let dying = b() / ipv4(X, NODE_A).df().ttl(1) / tcp(5000, 8080, PSH_ACK).seq(20_001).ack(1);
    let frame = large(UPLINK, &(dying / data(5_000)), 1000);
    let first = wire(std::slice::from_ref(&frame))[0].1.clone();
    h.rx_offload(&[frame], MAX_FRAME);
    let error = h.take(UPLINK);
    assert_eq!(error[42..], first[14..14 + 548]);
    h.expect_silence();
}

/// The ports of datagrams change both ways, and their checksums stay open.
#[test]
fn a_host_port_takes_datagrams_with_open_checksums() {
    let mapped = host_port(
        resolved(node_a()),
        (17, 8080),
        (A2, 80),
        "10.244.0.0/24".parse().unwrap(),
    );
    let request = |len| b() / ipv4(X, NODE_A).ttl(60) / udp(5000, 8080) / data(len);
    let answer = |len| eth(POD2_MAC, A2_MAC) / ipv4(A2, X) / udp(80, 5000) / data(len);
    let steps = [
        vec![open(UPLINK, &request(9))],
        vec![open(POD2, &answer(9))],
        vec![
            large(UPLINK, &request(9_000), 1000),
            large(POD2, &answer(9_001), 1000),
            open(UPLINK, &request(0)),
        ],
    ];
    let (mut h, _) = both(&mapped, &steps);
    assert_eq!(h.take_uncut().len(), 5);
}

/// NP-1: what a policy refuses is one drop, however many segments it stands for.
#[test]
fn a_policy_judges_a_superframe_once() {
    let mut snapshot = resolved(node_a());
    snapshot.policy = PolicyConfig {
        endpoints: vec![PolicyEndpoint {
            port: POD1,
            ip: A1,
            ingress: None,
            egress: Some(0),
        }],
        programs: vec![PolicyProgram {
            policies: vec![0],
            rules: Vec::new(),
        }],
        policies: vec![PolicyName::default()],
        ..PolicyConfig::default()
    };
    let mut h = Harness::new(snapshot);
    h.rx_offload(
        &[large(POD1, &(out(PSH_ACK, 1) / data(20_000)), 1000)],
        MAX_FRAME,
    );
    h.expect_silence();
    h.expect_counters(&[(DropReason::PolicyEgress.into(), 1)]);
}

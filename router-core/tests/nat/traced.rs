//! What traces tell of NAT, and that telling changes nothing.

use super::*;
use router_core::DropReason;
use router_core::trace::{Role, Step, Tracked};

/// What connection tracking and NAT told of the frames since `from`, in order, as sentences.
fn told(h: &Harness, from: usize) -> Vec<String> {
    let snapshot = h.router().snapshot();
    let steps = h.steps(1).into_iter().skip(from);
    steps
        .filter(|(role, step)| {
            *role == Role::Packet
                && matches!(
                    step,
                    Step::Tracked { .. } | Step::NatRule { .. } | Step::Translated { .. }
                )
        })
        .map(|(_, step)| step.sentence(snapshot).to_string())
        .collect()
}

/// A first packet tells its state, the rule that decided and what became of it; later ones and answers tell what their
/// connection makes of them.
#[test]
fn a_masqueraded_connection_tells_rule_and_translation() {
    let mut h = harness();
    h.trace(1);
    let ask = a1() / ipv4(A1, X) / udp(4000, 53) / b"q";
    h.rx(POD1, &ask);
    let first = told(&h, 0);
    assert_eq!(first[0], "NEW: begins a connection");
    assert_eq!(first[1], "nat KIND-MASQ-AGENT rule 2: MASQUERADE");
    assert!(first[2].starts_with("translated: ") && first[2].contains("172.16.30.3"));
    assert_eq!(first.len(), 3);
    let from = h.steps(1).len();
    h.rx(POD1, &ask);
    let second = told(&h, from);
    assert_eq!(second[0], "NEW: of a connection that was not answered yet");
    assert_eq!(second[1..], first[2..]);
    let from = h.steps(1).len();
    h.rx(UPLINK, &(r() / ipv4(X, NODE_A) / udp(53, 4000) / b"a"));
    let answer = told(&h, from);
    assert_eq!(answer[0], "ESTABLISHED, reply direction");
    assert!(answer[1].contains("10.244.0.2") && answer.len() == 2);
    let from = h.steps(1).len();
    let quoted = quote(&(r() / ipv4(NODE_A, X) / udp(4000, 53) / b"q"));
    h.rx(UPLINK, &(r() / ipv4(R, NODE_A) / time_exceeded() / quoted));
    assert_eq!(
        told(&h, from)[0],
        "RELATED: an ICMP error about a connection"
    );
}

/// Destination and source NAT of one packet are told one after the other; what is INVALID says so before it is dropped.
#[test]
fn a_hairpin_tells_both_translations_and_invalid_is_said() {
    let subnet = "10.244.0.3/24".parse().expect("a network");
    let mut h = Harness::new(host_port(node(), (17, 8080), (A2, 80), subnet));
    h.trace(1);
    h.rx(POD1, &(a1() / ipv4(A1, NODE_A) / udp(5000, 8080) / b"q"));
    let all = told(&h, 0);
    assert_eq!(all.len(), 5, "{all:?}");
    assert_eq!(all[1], "nat CNI-HOSTPORT-DNAT rule 3: DNAT");
    assert!(all[2].contains("10.244.0.3"));
    assert_eq!(all[3], "nat POSTROUTING rule 1: MASQUERADE");
    assert!(all[4].contains("10.244.0.1"));
    let from = h.steps(1).len();
    h.rx(POD1, &(a1() / ipv4(A1, X) / tcp(1, 2, 0)));
    let last: Vec<Step> = h.steps(1).into_iter().skip(from).map(|(_, s)| s).collect();
    assert!(last.contains(&Step::Tracked {
        state: Tracked::Invalid
    }));
    let reason = DropReason::ConntrackInvalid;
    assert_eq!(last.last(), Some(&Step::Dropped { reason }));
}

/// Traced or not, the same frames come out and the same is counted.
#[test]
fn tracing_changes_no_byte_and_no_counter() {
    let run = |traced: bool| {
        let subnet = "10.244.0.3/24".parse().expect("a network");
        let mut h = Harness::new(host_port(node(), (17, 8080), (A2, 80), subnet));
        if traced {
            h.trace(1);
        }
        for n in 0..3 {
            for port in [4000, 4001] {
                h.rx(POD1, &(a1() / ipv4(A1, X) / udp(port, 53) / vec![n]));
                h.rx(POD2, &(a2() / ipv4(A2, X) / udp(port, 53) / vec![n]));
                h.rx(UPLINK, &(r() / ipv4(X, NODE_A) / udp(53, port) / vec![n]));
            }
            h.rx(POD1, &(a1() / ipv4(A1, NODE_A) / udp(5000, 8080) / b"q"));
            h.rx(POD1, &(a1() / ipv4(A1, X) / tcp(1, 2, 0)));
            h.rx(UPLINK, &(r() / ipv4(X, NODE_A).ttl(1) / udp(53, 4000)));
        }
        let counts = h.router().nat_counts().to_vec();
        (
            h.take_all(),
            counts,
            sessions(&h),
            h.router().stats().clone(),
        )
    };
    assert_eq!(run(true), run(false));
}

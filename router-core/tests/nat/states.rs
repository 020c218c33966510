//! What connections mean to policy: the states it sees, and whom it judges when an address was translated.

use super::*;
use router_core::config::nat::{
    Backend, Mark, Matches, NetMatch, POSTROUTING, PREROUTING, PortChoice, Rule, Target,
};
use router_core::policy::{
    AddressRange, PolicyConfig, PolicyEndpoint, PolicyPeers, PolicyPorts, PolicyProgram, PolicyRule,
};
use router_core::trace::{Step, Tracked};
use router_core::{DropReason, Snapshot};

const TCP: u8 = 6;
const SYN: u8 = 2;
const SYN_ACK: u8 = 0x12;
const RST: u8 = 4;

/// A service's address, which no node has.
const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 7, 7);

/// The pod behind `port` may send and receive only what `rules` say.
fn isolate(snapshot: &mut Snapshot, port: PortId, ip: Ipv4Addr, rules: Vec<PolicyRule>) {
    snapshot.policy = PolicyConfig {
        endpoints: vec![PolicyEndpoint {
            port,
            ip,
            ingress: Some(0),
            egress: Some(0),
        }],
        programs: vec![PolicyProgram {
            policies: vec![0],
            rules,
        }],
        sets: vec![vec![AddressRange {
            first: A1,
            last: A1,
        }]],
        ..PolicyConfig::default()
    };
}

/// One port of TCP, from or to anybody.
fn port(number: u16) -> PolicyRule {
    PolicyRule {
        policy: 0,
        number: 0,
        peers: PolicyPeers::Any,
        ports: vec![PolicyPorts {
            protocol: TCP,
            first: number,
            last: number,
        }],
    }
}

/// Node A with a service: VIP:80 leads to `to`, and a pod that is led to itself is masqueraded, as kube-proxy does it.
fn with_service(to: (Ipv4Addr, u16)) -> Snapshot {
    let mut snapshot = resolved(node_a());
    let itself = Mark {
        value: 0x4000,
        mask: 0x4000,
    };
    let vip = |src| Matches {
        protocol: Some(TCP),
        src,
        dst: Some(NetMatch::within(VIP.into())),
        dports: vec![(80, 80)],
        ..Matches::default()
    };
    let nat = &mut snapshot.nat;
    let own = vip(Some(NetMatch::within(to.0.into())));
    nat.append(PREROUTING, Rule::new(Target::Mark(itself)).when(own));
    let dnat = Target::Dnat {
        backends: vec![Backend {
            addr: to.0,
            port: Some(to.1),
            weight: 1,
        }],
        affinity: None,
    };
    nat.append(PREROUTING, Rule::new(dnat).when(vip(None)));
    let marked = Matches {
        mark: Some(itself),
        ..Matches::default()
    };
    let masquerade = Target::Masquerade(PortChoice::default());
    nat.append(POSTROUTING, Rule::new(masquerade).when(marked));
    snapshot
}

/// What connection tracking says of each packet of trace 1, in order.
fn states(h: &Harness) -> Vec<Tracked> {
    let steps = h.steps(1).into_iter();
    steps
        .filter_map(|(_, step)| match step {
            Step::Tracked { state } => Some(state),
            _ => None,
        })
        .collect()
}

/// NAT-6: an isolated pod may begin only what its rules say (NEW), and is refused what belongs to nothing (INVALID); what
/// was answered (ESTABLISHED) and errors about it (RELATED) pass, whatever the rules say.
#[test]
fn policy_sees_new_established_related_and_invalid() {
    let mut snapshot = node();
    isolate(&mut snapshot, POD1, A1, vec![port(80)]);
    let mut h = Harness::new(snapshot);
    h.trace(1);
    let out = |dport, flags| a1() / ipv4(A1, X) / tcp(4000, dport, flags).seq(9).ack(70);
    h.expect_silent_drop(POD1, &out(81, SYN), DropReason::PolicyEgress);
    h.rx(POD1, &out(80, SYN));
    assert_eq!(source_of(&h.take(UPLINK)), (NODE_A, 4000));
    let answer = tcp(80, 4000, SYN_ACK).seq(69).ack(10);
    h.rx(UPLINK, &(r() / ipv4(X, NODE_A) / answer.clone()));
    h.expect_tx(POD1, &(to_a1() / ipv4(X, A1).ttl(63) / answer));
    let sent = to_r() / ipv4(NODE_A, X).ttl(63) / tcp(4000, 80, SYN).seq(9);
    let error = unreachable(1) / quote(&sent);
    h.rx(UPLINK, &(r() / ipv4(Y, NODE_A) / error));
    assert_eq!(source_of(&h.take(POD1)).0, Y);
    let stray = r() / ipv4(X, A1) / tcp(80, 9, RST);
    h.expect_silent_drop(UPLINK, &stray, DropReason::PolicyInvalid);
    let seen = states(&h);
    for state in [
        Tracked::New,
        Tracked::Established { reply: true },
        Tracked::Related,
        Tracked::Invalid,
    ] {
        assert!(seen.contains(&state), "{state:?} in {seen:?}");
    }
}

/// NAT-6: an error about the tunnel's outer packet is of no connection. It is UNTRACKED rather than INVALID: the node hears
/// of it, where it would have dropped the other.
#[test]
fn an_error_about_an_outer_packet_is_untracked() {
    let mut snapshot = with_host(node());
    snapshot.nat.conntrack.enabled = true;
    let mut h = Harness::new(resolved(snapshot));
    h.trace(1);
    let outer = to_r() / ipv4(NODE_A, NODE_B).protocol(4) / payload(vec![0x45; 40]);
    let unknown = to_r() / ipv4(NODE_A, NODE_B) / udp(1, 2) / b"never sent";
    for about in [outer, unknown] {
        h.rx(
            UPLINK,
            &(r() / ipv4(R, NODE_A) / unreachable(1) / quote(&about)),
        );
    }
    assert_eq!(states(&h), [Tracked::Untracked, Tracked::Invalid]);
    h.take_all();
    let drops = &h.router().stats().drops;
    assert_eq!(drops.get(DropReason::ConntrackInvalid), 1, "{drops:?}");
}

/// NP-25: a policy is asked about the endpoint and its port, not about the service's address and port.
#[test]
fn policy_judges_the_endpoint_of_a_service() {
    let ask = a1() / ipv4(A1, VIP) / tcp(4000, 80, SYN);
    for (allowed, passes) in [(8080, true), (80, false)] {
        let mut snapshot = with_service((A2, 8080));
        isolate(&mut snapshot, POD2, A2, vec![port(allowed)]);
        let mut h = Harness::new(snapshot);
        if passes {
            h.rx(POD1, &ask);
            h.expect_tx(
                POD2,
                &(to_a2() / ipv4(A1, A2).ttl(63) / tcp(4000, 8080, SYN)),
            );
        } else {
            h.expect_silent_drop(POD1, &ask, DropReason::PolicyIngress);
        }
    }
}

/// NP-14: a pod that may neither send nor receive reaches itself, by its own address and through a service.
#[test]
fn an_isolated_pod_reaches_itself() {
    let mut snapshot = with_service((A1, 8080));
    isolate(&mut snapshot, POD1, A1, Vec::new());
    let mut h = Harness::new(snapshot);
    h.rx(POD1, &(a1() / ipv4(A1, A1) / udp(1, 2) / b"self"));
    h.expect_tx(
        POD1,
        &(to_a1() / ipv4(A1, A1).ttl(63) / udp(1, 2) / b"self"),
    );
    h.rx(POD1, &(a1() / ipv4(A1, VIP) / tcp(4000, 80, SYN)));
    h.expect_tx(
        POD1,
        &(to_a1() / ipv4(GW_A, A1).ttl(63) / tcp(4000, 8080, SYN)),
    );
    h.rx(
        POD1,
        &(a1() / ipv4(A1, GW_A) / tcp(8080, 4000, SYN_ACK).ack(1)),
    );
    h.expect_tx(
        POD1,
        &(to_a1() / ipv4(VIP, A1).ttl(63) / tcp(80, 4000, SYN_ACK).ack(1)),
    );
    let other = a1() / ipv4(A1, A2) / udp(1, 2);
    h.expect_silent_drop(POD1, &other, DropReason::PolicyEgress);
}

/// NAT-70: addresses and ports inside a payload are nobody's business, whichever protocol they are of.
#[test]
fn a_payload_that_names_addresses_is_left_alone() {
    let mut h = harness();
    // FTP: a1's address and port 4001, as PORT writes them. SIP: a contact at a1.
    let port = b"PORT 10,244,0,2,15,161\r\n";
    let sip = b"INVITE sip:x@8.8.8.8 SIP/2.0\r\nContact: <sip:a@10.244.0.2:5060>\r\n\r\n";
    h.rx(
        POD1,
        &(a1() / ipv4(A1, X) / tcp(4000, 21, 0x18).seq(5).ack(9) / port),
    );
    h.expect_tx(
        UPLINK,
        &(to_r() / ipv4(NODE_A, X).ttl(63) / tcp(4000, 21, 0x18).seq(5).ack(9) / port),
    );
    h.rx(POD1, &(a1() / ipv4(A1, X) / udp(5060, 5060) / sip));
    h.expect_tx(
        UPLINK,
        &(to_r() / ipv4(NODE_A, X).ttl(63) / udp(5060, 5060) / sip),
    );
    // Nor does the connection that PORT asks for come in by itself: no helper expects it.
    h.rx(UPLINK, &(r() / ipv4(X, NODE_A) / tcp(20, 4001, SYN)));
    assert!(h.take_all().iter().all(|(port, _)| *port != POD1));
}

//! The compiled matcher against one that reads the configuration as it stands.

use alloc::vec;
use alloc::vec::Vec;

use proptest::collection::vec as many;
use proptest::prelude::*;

use super::*;
use crate::addr::Mac;
use crate::config::PortConfig;

const POD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 11);

/// Rule by rule, range by range, as the documentation says it.
fn allowed(config: &PolicyConfig, program: u32, peer: Ipv4Addr, subject: &Subject) -> bool {
    let program = &config.programs[program as usize];
    program.rules.iter().any(|rule| {
        let peer = match rule.peers {
            PolicyPeers::Any => true,
            PolicyPeers::Set(set) => config.sets[set as usize]
                .iter()
                .any(|range| range.first <= peer && peer <= range.last),
        };
        let port = rule.ports.is_empty()
            || rule.ports.iter().any(|ports| {
                ports.protocol == subject.protocol
                    && subject
                        .dport
                        .is_some_and(|port| ports.first <= port && port <= ports.last)
            });
        peer && port
    })
}

/// Few addresses and ports, so that borders meet.
fn address() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![
        (0..12_u8).prop_map(|last| Ipv4Addr::new(10, 0, 0, last)),
        Just(Ipv4Addr::UNSPECIFIED),
        Just(Ipv4Addr::BROADCAST),
        any::<u32>().prop_map(Ipv4Addr::from),
    ]
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![0..6_u16, Just(u16::MAX), any::<u16>()]
}

fn protocol() -> impl Strategy<Value = u8> {
    prop::sample::select(vec![1_u8, 6, 17, 132])
}

fn ports() -> impl Strategy<Value = PolicyPorts> {
    (protocol(), port(), port()).prop_map(|(protocol, a, b)| PolicyPorts {
        protocol,
        first: a.min(b),
        last: a.max(b),
    })
}

fn rule() -> impl Strategy<Value = PolicyRule> {
    let peers = prop_oneof![
        1 => Just(PolicyPeers::Any),
        4 => (0..3_u32).prop_map(PolicyPeers::Set),
    ];
    (peers, many(ports(), 0..4)).prop_map(|(peers, ports)| PolicyRule {
        policy: 0,
        number: 0,
        peers,
        ports,
    })
}

fn config() -> impl Strategy<Value = PolicyConfig> {
    let range = (address(), address()).prop_map(|(a, b)| AddressRange {
        first: a.min(b),
        last: a.max(b),
    });
    (
        many(many(range, 0..4), 3),
        many(many(rule(), 0..6), 2),
        prop::option::of(0..2_u32),
        prop::option::of(0..2_u32),
    )
        .prop_map(|(sets, programs, ingress, egress)| PolicyConfig {
            endpoints: vec![PolicyEndpoint {
                port: PortId(2),
                ip: POD,
                ingress,
                egress,
            }],
            programs: programs
                .into_iter()
                .map(|rules| PolicyProgram {
                    policies: vec![0],
                    rules,
                })
                .collect(),
            sets,
            policies: vec![PolicyName::default()],
            flush_on_change: false,
        })
}

/// eth0 at place 0, ports 2 and 3 at places 1 and 2.
fn snapshot(policy: PolicyConfig) -> Snapshot {
    Snapshot {
        ports: [1, 2, 3]
            .map(|id| PortConfig::ethernet(id, "", Mac::ZERO, 1500))
            .to_vec(),
        policy,
        ..Snapshot::default()
    }
}

fn subject(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, port: u16) -> Subject {
    Subject {
        src,
        dst,
        protocol,
        dport: (protocol != 1).then_some(port),
        state: CtState::New,
        too_big_from: None,
    }
}

proptest! {
    /// Whatever the rules, the compiled program allows what the rules allow, and the rule it names does so.
    #[test]
    fn any_program_says_what_its_rules_say(
        config in config(),
        probes in many((address(), protocol(), port()), 1..40),
    ) {
        let policy = Policy::new(&snapshot(config.clone()));
        for (peer, protocol, port) in probes {
            for (direction, number) in [
                (Direction::Ingress, config.endpoints[0].ingress),
                (Direction::Egress, config.endpoints[0].egress),
            ] {
                let (from, to, subject) = match direction {
                    Direction::Ingress => (Some(0), Some(1), subject(peer, POD, protocol, port)),
                    Direction::Egress => (Some(1), Some(0), subject(POD, peer, protocol, port)),
                };
                let judgement = policy.judge(Some(&config), direction, from, to, &subject);
                match number {
                    None => prop_assert_eq!(judgement, Judgement::NotIsolated),
                    Some(number) => prop_assert_eq!(
                        matches!(judgement, Judgement::Allowed { .. }),
                        allowed(&config, number, peer, &subject),
                        "{:?} {:?}", judgement, subject
                    ),
                }
            }
        }
    }
}

fn isolated_both_ways() -> PolicyConfig {
    PolicyConfig {
        endpoints: vec![PolicyEndpoint {
            port: PortId(2),
            ip: POD,
            ingress: Some(0),
            egress: Some(0),
        }],
        programs: vec![PolicyProgram {
            policies: vec![7],
            rules: Vec::new(),
        }],
        ..PolicyConfig::default()
    }
}

/// A program that does not exist allows nothing, rather than everything.
#[test]
fn a_program_that_is_missing_allows_nothing() {
    let mut config = isolated_both_ways();
    config.endpoints[0].ingress = Some(9);
    let policy = Policy::new(&snapshot(config));
    let refused = policy.check(Some(0), Some(1), &subject(OTHER, POD, 6, 80));
    assert_eq!(refused, Err(DropReason::PolicyIngress));
}

/// NP-26: behind a port of its own the pod is judged by the port, whatever source it writes.
#[test]
fn a_forged_source_behind_a_pods_port_gains_nothing() {
    let policy = Policy::new(&snapshot(isolated_both_ways()));
    let forged = subject(OTHER, Ipv4Addr::new(10, 0, 9, 9), 6, 80);
    assert_eq!(
        policy.check(Some(1), Some(0), &forged),
        Err(DropReason::PolicyEgress)
    );
}

/// Where several pods share a port (a bridge), the address tells them apart.
#[test]
fn pods_behind_one_port_are_told_apart_by_address() {
    let mut config = isolated_both_ways();
    config.endpoints.push(PolicyEndpoint {
        port: PortId(2),
        ip: OTHER,
        ingress: None,
        egress: None,
    });
    let policy = Policy::new(&snapshot(config));
    let far = Ipv4Addr::new(8, 8, 8, 8);
    assert_eq!(
        policy.check(Some(0), Some(1), &subject(far, OTHER, 6, 1)),
        Ok(())
    );
    assert_eq!(
        policy.check(Some(0), Some(1), &subject(far, POD, 6, 1)),
        Err(DropReason::PolicyIngress)
    );
}

/// The answer names the policy and the rule that decided.
#[test]
fn the_judgement_names_policy_and_rule() {
    let mut config = isolated_both_ways();
    let to = |config: &PolicyConfig, port| {
        let policy = Policy::new(&snapshot(config.clone()));
        let subject = subject(OTHER, POD, 6, port);
        policy.judge(Some(config), Direction::Ingress, Some(0), Some(1), &subject)
    };
    assert_eq!(to(&config, 80), Judgement::Denied { policy: Some(7) });
    config.programs[0].rules = vec![PolicyRule {
        policy: 3,
        number: 2,
        peers: PolicyPeers::Any,
        ports: vec![PolicyPorts {
            protocol: 6,
            first: 80,
            last: 81,
        }],
    }];
    assert_eq!(to(&config, 81), Judgement::Allowed { policy: 3, rule: 2 });
    assert_eq!(to(&config, 82), Judgement::Denied { policy: Some(7) });
}

/// NP-2: policies of other pods cost a pod nothing: its program holds its own rules only, and pods without policies ask none.
#[test]
fn ten_thousand_policies_of_other_pods_leave_a_program_as_it_is() {
    let mut config = isolated_both_ways();
    config.programs[0].rules.push(PolicyRule {
        policy: 0,
        number: 0,
        peers: PolicyPeers::Any,
        ports: Vec::new(),
    });
    let few = Policy::new(&snapshot(config.clone()));
    for number in 0..10_000_u32 {
        config.sets.push(vec![AddressRange {
            first: Ipv4Addr::from(number),
            last: Ipv4Addr::from(number + 7),
        }]);
        config.programs.push(PolicyProgram {
            policies: vec![number],
            rules: vec![PolicyRule {
                policy: number,
                number: 0,
                peers: PolicyPeers::Set(number),
                ports: Vec::new(),
            }],
        });
    }
    let many = Policy::new(&snapshot(config));
    assert_eq!(many.programs[0].steps(), few.programs[0].steps());
}

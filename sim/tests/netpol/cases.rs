//! Rules that the matrix has no case for.

use serde_json::{Value, json};

use crate::naive::{Pod, Probe, World, judge};
use crate::subject::Compiled;

/// Pods a and b in namespaces x and y; b serves port `web` under another number in each.
fn world(policies: &[Value]) -> World {
    let pod = |ns: &str, name: &str, n: u8, web: u16| Pod {
        ns: ns.into(),
        name: name.into(),
        ip: [10, 0, 0, n].into(),
        labels: [("pod".to_owned(), name.to_owned())].into(),
        ports: vec![("web".into(), web, "TCP".into())],
    };
    World {
        namespaces: ["x", "y"]
            .map(|ns| {
                let name = ("kubernetes.io/metadata.name".to_owned(), ns.to_owned());
                (ns.to_owned(), [name].into())
            })
            .into(),
        pods: vec![
            pod("x", "a", 1, 80),
            pod("x", "b", 2, 8080),
            pod("y", "a", 3, 80),
            pod("y", "b", 4, 9090),
        ],
        policies: policies.to_vec(),
    }
}

fn policy(spec: &Value) -> Value {
    json!({"metadata": {"name": "p", "namespace": "x"}, "spec": spec})
}

/// Asks both evaluators, which must agree.
#[track_caller]
fn ask(world: &World, from: usize, to: usize, protocol: &str, port: u16) -> (bool, bool) {
    let probe = Probe {
        from,
        to,
        protocol,
        port,
    };
    let compiled = Compiled::new(world, 2).judge(world, probe);
    assert_eq!(compiled, judge(world, probe), "{probe:?}");
    compiled
}

/// NP-7: a named port of an egress rule has each destination's own number.
#[test]
fn a_named_port_is_resolved_per_destination() {
    let world = world(&[policy(&json!({
        "podSelector": {"matchLabels": {"pod": "a"}},
        "policyTypes": ["Egress"],
        "egress": [{"to": [{"namespaceSelector": {}}], "ports": [{"port": "web"}]}],
    }))]);
    assert_eq!(ask(&world, 0, 1, "TCP", 8080), (true, true));
    assert_eq!(ask(&world, 0, 3, "TCP", 9090), (true, true));
    assert_eq!(ask(&world, 0, 3, "TCP", 8080), (true, false));
    assert_eq!(ask(&world, 0, 1, "UDP", 8080), (true, false));
}

/// NP-7: a name that no container has allows nothing, rather than every port.
#[test]
fn an_unknown_port_name_allows_nothing() {
    let world = world(&[policy(&json!({
        "podSelector": {},
        "ingress": [{"ports": [{"port": "metrics"}]}],
    }))]);
    assert_eq!(ask(&world, 2, 0, "TCP", 80), (false, true));
}

/// NP-8: port rules leave ping out on either side.
#[test]
fn port_rules_do_not_allow_ping() {
    let world = world(&[policy(&json!({
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": [{"port": 1, "endPort": 65535}]}],
        "egress": [{}],
    }))]);
    assert_eq!(ask(&world, 2, 0, "ICMP", 0), (false, true));
    assert_eq!(ask(&world, 0, 2, "ICMP", 0), (true, true));
    assert_eq!(ask(&world, 2, 0, "TCP", 65_535), (true, true));
}

/// NP-3: egress isolates by default only where there are egress rules.
#[test]
fn policy_types_are_defaulted_by_the_rules() {
    let ingress_only = world(&[policy(&json!({"podSelector": {}, "egress": []}))]);
    assert_eq!(ask(&ingress_only, 0, 2, "TCP", 80), (true, true));
    assert_eq!(ask(&ingress_only, 2, 0, "TCP", 80), (false, true));
    let both = world(&[policy(&json!({
        "podSelector": {},
        "egress": [{"ports": [{"protocol": "UDP", "port": 53}]}],
    }))]);
    assert_eq!(ask(&both, 0, 2, "TCP", 80), (true, false));
}

/// NP-6: an except at the edge of its block leaves the rest, and nothing wraps around.
#[test]
fn exceptions_are_cut_out_of_their_block() {
    let world = world(&[policy(&json!({
        "podSelector": {},
        "ingress": [{"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/30", "255.255.255.255/32"]}}]}],
    }))]);
    assert_eq!(ask(&world, 2, 0, "TCP", 80), (false, true));
    assert_eq!(ask(&world, 3, 0, "TCP", 80), (true, true));
}

/// NP-6: an IPv6 block matches nobody.
#[test]
fn a_block_of_ipv6_matches_nobody() {
    let world = world(&[policy(&json!({
        "podSelector": {},
        "ingress": [{"from": [{"ipBlock": {"cidr": "::/0"}}]}],
    }))]);
    assert_eq!(ask(&world, 2, 0, "TCP", 80), (false, true));
}

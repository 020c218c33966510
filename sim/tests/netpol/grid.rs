//! Every combination of what a policy can say, over 3 namespaces x 3 pods, against the naive evaluator.

use serde_json::{Map, Value, json};

use crate::naive::{Pod, Probe, World, judge};
use crate::subject::Compiled;

fn world() -> World {
    let pairs = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter();
        pairs
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    };
    let mut pods = Vec::new();
    for (n, ns) in ["x", "y", "z"].into_iter().enumerate() {
        for (p, name) in ["a", "b", "c"].into_iter().enumerate() {
            let (n, p) = (u8::try_from(n).unwrap(), u8::try_from(p).unwrap());
            let mut labels = vec![("pod", name)];
            // c has one label less, b one more.
            if name == "b" {
                labels.push(("tier", "db"));
            }
            if name == "c" {
                labels.clear();
            }
            pods.push(Pod {
                ns: ns.into(),
                name: name.into(),
                ip: [10, 244, n + 1, p + 2].into(),
                labels: pairs(&labels),
                ports: vec![
                    ("web".into(), 80 + u16::from(p), "TCP".into()),
                    ("dns".into(), 53, "UDP".into()),
                    ("sig".into(), 80, "SCTP".into()),
                ],
            });
        }
    }
    let namespace = |ns: &str, more: &[(&str, &str)]| {
        let mut labels = vec![("kubernetes.io/metadata.name", ns)];
        labels.extend(more);
        (ns.to_owned(), pairs(&labels))
    };
    World {
        namespaces: [
            namespace("x", &[("team", "red")]),
            namespace("y", &[("team", "blue")]),
            namespace("z", &[]),
        ]
        .into(),
        pods,
        policies: Vec::new(),
    }
}

/// Selectors of each kind; null stands for one that is not written.
fn selectors() -> Vec<Value> {
    let expression = |key: &str, operator: &str, values: Option<Value>| {
        let mut expression = Map::new();
        expression.insert("key".into(), json!(key));
        expression.insert("operator".into(), json!(operator));
        if let Some(values) = values {
            expression.insert("values".into(), values);
        }
        json!({"matchExpressions": [expression]})
    };
    vec![
        Value::Null,
        json!({}),
        json!({"matchLabels": {"pod": "a"}}),
        expression("pod", "In", Some(json!(["a", "b"]))),
        expression("pod", "NotIn", Some(json!(["a"]))),
        expression("tier", "Exists", None),
        expression("tier", "DoesNotExist", None),
        json!({"matchLabels": {"pod": "b"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["db"]}]}),
        json!({"matchLabels": {"pod": "nobody"}}),
    ]
}

fn namespace_selectors() -> Vec<Value> {
    vec![
        Value::Null,
        json!({}),
        json!({"matchLabels": {"kubernetes.io/metadata.name": "y"}}),
        json!({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["red"]}]}),
        json!({"matchExpressions": [{"key": "team", "operator": "Exists"}]}),
    ]
}

/// Lists of peers: none written, an empty list, one of each kind, and two.
fn peer_lists() -> Vec<Value> {
    let mut peers = Vec::new();
    for namespaces in namespace_selectors() {
        for pods in selectors() {
            let mut peer = Map::new();
            if !namespaces.is_null() {
                peer.insert("namespaceSelector".into(), namespaces.clone());
            }
            if !pods.is_null() {
                peer.insert("podSelector".into(), pods);
            }
            if !peer.is_empty() {
                peers.push(Value::Object(peer));
            }
        }
    }
    for (cidr, except) in [
        ("0.0.0.0/0", vec![]),
        ("0.0.0.0/0", vec!["10.244.2.0/24"]),
        ("10.244.1.0/24", vec!["10.244.1.2/32", "10.244.1.4/32"]),
        ("10.244.1.3/32", vec![]),
        ("10.244.0.0/16", vec!["10.244.0.0/17", "10.244.128.0/17"]),
    ] {
        peers.push(json!({"ipBlock": {"cidr": cidr, "except": except}}));
    }
    let mut lists = vec![Value::Null, json!([])];
    let first = peers[0].clone();
    let last = peers[peers.len() - 2].clone();
    lists.push(json!([first, last]));
    lists.extend(peers.into_iter().map(|peer| json!([peer])));
    lists
}

fn port_lists() -> Vec<Value> {
    let mut lists = vec![Value::Null, json!([])];
    for protocol in [Value::Null, json!("TCP"), json!("UDP"), json!("SCTP")] {
        for (port, end) in [
            (Value::Null, Value::Null),
            (json!(80), Value::Null),
            (json!(80), json!(81)),
            (json!(81), json!(65_535)),
            (json!("web"), Value::Null),
            (json!("dns"), Value::Null),
        ] {
            let mut entry = Map::new();
            for (key, value) in [("protocol", &protocol), ("port", &port), ("endPort", &end)] {
                if !value.is_null() {
                    entry.insert(key.into(), value.clone());
                }
            }
            lists.push(json!([entry]));
        }
    }
    lists.push(json!([{"port": 81}, {"port": "web"}, {"protocol": "UDP", "port": 53}]));
    lists
}

const PROBES: [(&str, u16); 8] = [
    ("TCP", 80),
    ("TCP", 81),
    ("TCP", 82),
    ("TCP", 65_535),
    ("UDP", 53),
    ("UDP", 80),
    ("SCTP", 80),
    ("ICMP", 0),
];

fn with_policy(world: &World, pods: &Value, way: &str, peers: &Value, ports: &Value) -> World {
    let mut rule = Map::new();
    let key = if way == "ingress" { "from" } else { "to" };
    for (key, value) in [(key, peers), ("ports", ports)] {
        if !value.is_null() {
            rule.insert(key.into(), value.clone());
        }
    }
    let mut spec = Map::new();
    let kind = if way == "ingress" {
        "Ingress"
    } else {
        "Egress"
    };
    spec.insert("policyTypes".into(), json!([kind]));
    spec.insert(way.into(), json!([rule]));
    if !pods.is_null() {
        spec.insert("podSelector".into(), pods.clone());
    }
    World {
        policies: vec![json!({"metadata": {"name": "p", "namespace": "x"}, "spec": spec})],
        ..world.clone()
    }
}

fn check(world: &World) -> (usize, usize) {
    let compiled = Compiled::new(world, 3);
    let (mut probes, mut refused) = (0, 0);
    for from in 0..world.pods.len() {
        for to in 0..world.pods.len() {
            for (protocol, port) in PROBES {
                let probe = Probe {
                    from,
                    to,
                    protocol,
                    port,
                };
                let expected = judge(world, probe);
                let found = if from == to {
                    // A pod's packets to itself stay in its own stack.
                    (true, true)
                } else {
                    compiled.judge(world, probe)
                };
                assert_eq!(found, expected, "{probe:?} {:?}", world.policies);
                probes += 1;
                refused += usize::from(expected != (true, true));
            }
        }
    }
    (probes, refused)
}

/// NP-2, NP-4, NP-5, NP-6, NP-7, NP-8: each peer with each kind of ports, both ways; each selector of pods.
#[test]
fn every_combination_is_judged_as_the_documentation_says() {
    let world = world();
    let (mut probes, mut refused, mut policies) = (0, 0, 0);
    let mut ask = |world: &World| {
        let (p, r) = check(world);
        probes += p;
        refused += r;
        policies += 1;
    };
    for way in ["ingress", "egress"] {
        let all = json!({});
        for peers in peer_lists() {
            for ports in port_lists() {
                ask(&with_policy(&world, &all, way, &peers, &ports));
            }
        }
        for pods in selectors() {
            let peers = json!([{"podSelector": {"matchLabels": {"pod": "a"}}}]);
            ask(&with_policy(&world, &pods, way, &peers, &Value::Null));
        }
    }
    assert!(
        policies > 2_500 && probes > 1_600_000,
        "{policies} {probes}"
    );
    // A grid that refuses nothing, or everything, proves nothing.
    assert!(
        refused > probes / 20 && refused < probes / 2,
        "{refused} of {probes}"
    );
}

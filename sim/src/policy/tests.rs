//! What the compiler shares and leaves out. What it means is compared with a naive evaluator in `tests/netpol`.

use std::net::Ipv4Addr;

use indexmap::IndexMap;
use router_core::PortId;

use super::*;
use crate::kube::{LabelSelector, Meta, Protocol};

fn labels(pairs: &[(&str, &str)]) -> IndexMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn app(value: &str) -> LabelSelector {
    LabelSelector {
        match_labels: vec![("app".to_owned(), value.to_owned())],
        match_expressions: Vec::new(),
    }
}

fn allow(name: &str, pods: LabelSelector, from: LabelSelector) -> NetworkPolicy {
    NetworkPolicy {
        meta: Meta {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            declared_at: Some("netpol.yaml:4:9".to_owned()),
            ..Meta::default()
        },
        pod_selector: pods,
        types: vec![Direction::Ingress],
        ingress: vec![PolicyRule {
            peers: vec![Peer::Pods {
                namespaces: None,
                pods: Some(from),
            }],
            ports: vec![PolicyPort {
                protocol: Protocol::Tcp,
                port: Some(PortRef::Number(80)),
                end_port: None,
            }],
        }],
        egress: Vec::new(),
    }
}

struct Pods(Vec<(IndexMap<String, String>, Ipv4Addr, u16, bool)>);

impl Pods {
    /// Pod n has label app=app(n); those of `host` have hostNetwork.
    fn new(count: u16, app: impl Fn(u16) -> String, host: &[u16]) -> Self {
        Self(
            (0..count)
                .map(|n| {
                    let ip = Ipv4Addr::from(0x0af4_0000 + u32::from(n));
                    (labels(&[("app", &app(n))]), ip, n, host.contains(&n))
                })
                .collect(),
        )
    }

    fn compile(&self, policies: &[NetworkPolicy]) -> PolicyConfig {
        let facts: Vec<PodFacts<'_>> = self
            .0
            .iter()
            .map(|(labels, ip, n, host)| PodFacts {
                namespace: "default",
                labels,
                ip: *ip,
                node: "minikube",
                port: (!host).then_some(PortId(*n)),
                ports: &[],
            })
            .collect();
        let mut nodes = compile(&Input {
            pods: &facts,
            namespaces: &IndexMap::new(),
            policies: &policies.iter().collect::<Vec<_>>(),
            flush_on_change: true,
        });
        nodes.remove("minikube").unwrap_or_default()
    }
}

/// NP-15: a pod on the host network is no endpoint, and no selector means it.
#[test]
fn host_network_pods_are_neither_isolated_nor_peers() {
    let pods = Pods::new(3, |_| "web".to_owned(), &[1]);
    let config = pods.compile(&[allow("p", LabelSelector::default(), app("web"))]);
    let ips: Vec<Ipv4Addr> = config.endpoints.iter().map(|e| e.ip).collect();
    assert_eq!(ips, [pods.0[0].1, pods.0[2].1]);
    let named: Vec<Ipv4Addr> = config.sets[0].iter().map(|range| range.first).collect();
    assert_eq!(named, ips);
}

/// Pods that the same policies select share a program, and equal peers a set.
#[test]
fn programs_and_sets_are_shared() {
    let pods = Pods::new(100, |n| (n % 2).to_string(), &[]);
    let config = pods.compile(&[
        allow("a", app("0"), app("1")),
        allow("b", app("0"), app("1")),
        allow("c", app("1"), app("0")),
    ]);
    assert_eq!(config.programs.len(), 2);
    assert_eq!(config.sets.len(), 2);
    assert_eq!(config.programs[0].policies.len(), 2);
    assert_eq!(config.policies[2].name, "default/c");
    assert_eq!(config.policies[2].place.as_deref(), Some("netpol.yaml:4:9"));
    assert!(config.flush_on_change);
}

/// Nodes without an isolated pod are told nothing, and pay nothing.
#[test]
fn policies_that_select_nobody_leave_no_configuration() {
    let pods = Pods::new(3, |_| "web".to_owned(), &[]);
    let config = pods.compile(&[allow("p", app("db"), app("web"))]);
    assert_eq!(config, PolicyConfig::default());
}

/// 10,000 policies for 1,000 pods: each pod has the ten that select it, and each rule the two pods that it names.
#[test]
fn ten_thousand_policies_for_a_thousand_pods_stay_apart() {
    let pods = Pods::new(1000, |n| n.to_string(), &[]);
    let policies: Vec<NetworkPolicy> = (0..10_000)
        .map(|n| {
            let name = format!("p{n}");
            allow(
                &name,
                app(&(n % 1000).to_string()),
                app(&(n / 10).to_string()),
            )
        })
        .collect();
    let config = pods.compile(&policies);
    assert_eq!(config.endpoints.len(), 1000);
    assert_eq!(config.programs.len(), 1000);
    assert!(
        config
            .programs
            .iter()
            .all(|program| program.rules.len() == 10)
    );
    assert_eq!(config.sets.len(), 1000);
    assert_eq!(config.policies.len(), 10_000);
}

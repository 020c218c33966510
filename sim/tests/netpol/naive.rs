//! What a policy in Kubernetes' JSON says about two pods, read word by word from the API's documentation.
//!
//! Shares no code with podwire's parser, compiler or matcher. Slow on purpose: each question reads every policy.
//!
//! Source: API reference of networking.k8s.io/v1 (NetworkPolicySpec, NetworkPolicyPeer, NetworkPolicyPort, IPBlock) and of
//! LabelSelector.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::Value;

pub(crate) type Labels = BTreeMap<String, String>;

#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) ns: String,
    pub(crate) name: String,
    pub(crate) ip: Ipv4Addr,
    pub(crate) labels: Labels,
    /// Name, number and protocol of what it serves.
    pub(crate) ports: Vec<(String, u16, String)>,
}

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) namespaces: BTreeMap<String, Labels>,
    pub(crate) pods: Vec<Pod>,
    pub(crate) policies: Vec<Value>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe<'a> {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// `TCP`, `UDP`, `SCTP` or `ICMP`.
    pub(crate) protocol: &'a str,
    pub(crate) port: u16,
}

/// Whether (ingress of the destination, egress of the source) let the first packet pass.
pub(crate) fn judge(world: &World, probe: Probe<'_>) -> (bool, bool) {
    if probe.from == probe.to {
        return (true, true);
    }
    (
        direction(world, "ingress", probe.to, probe.from, probe),
        direction(world, "egress", probe.from, probe.to, probe),
    )
}

fn direction(world: &World, way: &str, own: usize, other: usize, probe: Probe<'_>) -> bool {
    let pod = &world.pods[own];
    let isolating: Vec<&Value> = world
        .policies
        .iter()
        .filter(|policy| namespace_of(policy) == pod.ns)
        .filter(|policy| selects(&policy["spec"]["podSelector"], &pod.labels))
        .filter(|policy| isolates(&policy["spec"], way))
        .collect();
    if isolating.is_empty() {
        return true;
    }
    let peers = if way == "ingress" { "from" } else { "to" };
    isolating.iter().any(|policy| {
        list(&policy["spec"][way]).iter().any(|rule| {
            let (from, ports) = (list(&rule[peers]), list(&rule["ports"]));
            let peer = from.is_empty()
                || from
                    .iter()
                    .any(|peer| is_peer(world, namespace_of(policy), peer, &world.pods[other]));
            let port = ports.is_empty()
                || ports
                    .iter()
                    .any(|port| is_port(port, &world.pods[probe.to], probe));
            peer && port
        })
    })
}

fn namespace_of(policy: &Value) -> &str {
    policy["metadata"]["namespace"]
        .as_str()
        .unwrap_or("default")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn isolates(spec: &Value, way: &str) -> bool {
    let types = list(&spec["policyTypes"]);
    if types.is_empty() {
        return way == "ingress" || !list(&spec["egress"]).is_empty();
    }
    types.iter().any(|kind| {
        kind.as_str()
            .is_some_and(|kind| kind.eq_ignore_ascii_case(way))
    })
}

fn selects(selector: &Value, labels: &Labels) -> bool {
    let pairs = selector["matchLabels"].as_object();
    let equal = pairs.is_none_or(|pairs| {
        pairs
            .iter()
            .all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str())
    });
    equal
        && list(&selector["matchExpressions"])
            .iter()
            .all(|expression| {
                let value = labels.get(expression["key"].as_str().unwrap());
                let named = || {
                    list(&expression["values"])
                        .iter()
                        .any(|v| v.as_str() == value.map(String::as_str))
                };
                match expression["operator"].as_str().unwrap() {
                    "In" => value.is_some() && named(),
                    "NotIn" => value.is_none() || !named(),
                    "Exists" => value.is_some(),
                    "DoesNotExist" => value.is_none(),
                    other => panic!("operator {other}"),
                }
            })
}

fn is_peer(world: &World, policy_ns: &str, peer: &Value, pod: &Pod) -> bool {
    let block = &peer["ipBlock"];
    if block.is_object() {
        return in_cidr(block["cidr"].as_str().unwrap(), pod.ip)
            && !list(&block["except"])
                .iter()
                .any(|except| in_cidr(except.as_str().unwrap(), pod.ip));
    }
    let namespace = match &peer["namespaceSelector"] {
        Value::Null => pod.ns == policy_ns,
        selector => selects(selector, &world.namespaces[&pod.ns]),
    };
    let labels = match &peer["podSelector"] {
        Value::Null => true,
        selector => selects(selector, &pod.labels),
    };
    namespace && labels
}

/// By bits, as everybody learns it.
fn in_cidr(cidr: &str, ip: Ipv4Addr) -> bool {
    let (network, len) = cidr.split_once('/').unwrap();
    let Ok(network) = network.parse::<Ipv4Addr>() else {
        return false;
    };
    let bits = |ip: Ipv4Addr| format!("{:032b}", u32::from(ip));
    let len: usize = len.parse().unwrap();
    bits(network)[..len] == bits(ip)[..len]
}

fn is_port(port: &Value, destination: &Pod, probe: Probe<'_>) -> bool {
    if port["protocol"].as_str().unwrap_or("TCP") != probe.protocol {
        return false;
    }
    match &port["port"] {
        Value::Null => true,
        Value::Number(first) => {
            let first = first.as_u64().unwrap();
            let last = port["endPort"].as_u64().unwrap_or(first);
            (first..=last).contains(&u64::from(probe.port))
        }
        Value::String(name) => destination.ports.iter().any(|(own, number, protocol)| {
            own == name && *number == probe.port && protocol == probe.protocol
        }),
        other => panic!("port {other}"),
    }
}

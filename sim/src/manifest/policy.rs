//! NetworkPolicy: `networking.k8s.io/v1`.
//!
//! Source: pkg/apis/networking/validation and v1 defaults of Kubernetes 1.31. One thing is stricter than there: a CIDR with host
//! bits is refused, as everywhere in podwire; Kubernetes warns.

use ipnet::IpNet;

use super::keys;
use super::object::{Naming, Opened, open};
use super::words::{int, items, port_ref, protocol, selector};
use crate::kube::{
    Direction, IpBlock, LabelSelector, NetworkPolicy, Peer, PolicyPort, PolicyRule, PortRef,
};
use crate::lab::{self, At, Fields, Pos, Sink, Value};

/// What it is, and its `apiVersion`.
const KIND: (&str, &str) = ("a network policy", "networking.k8s.io/v1");

pub(super) fn read(document: &Value, sink: &mut Sink<'_>) -> Option<(NetworkPolicy, Pos)> {
    let Opened { fields, meta, pos } = open(document, KIND, keys::TOP, Naming::Subdomain, sink)?;
    let spec = fields.get("spec").and_then(|value| {
        Fields::open(
            value,
            "the spec of a network policy",
            keys::POLICY_SPEC,
            sink,
        )
    });
    let mut policy = NetworkPolicy {
        meta: meta?,
        pod_selector: LabelSelector::default(),
        types: Vec::new(),
        ingress: Vec::new(),
        egress: Vec::new(),
    };
    if let Some(spec) = spec {
        if let Some(value) = spec.get("podSelector") {
            policy.pod_selector = selector(value, "podSelector", sink).unwrap_or_default();
        }
        policy.ingress = rules(&spec, "ingress", "from", sink);
        policy.egress = rules(&spec, "egress", "to", sink);
        policy.types = types(&spec, sink);
    }
    if policy.types.is_empty() {
        policy.types.push(Direction::Ingress);
        if !policy.egress.is_empty() {
            policy.types.push(Direction::Egress);
        }
    }
    Some((policy, pos))
}

fn types(spec: &Fields<'_>, sink: &mut Sink<'_>) -> Vec<Direction> {
    let choices = [
        ("Ingress", Direction::Ingress),
        ("Egress", Direction::Egress),
    ];
    let Some(list) = items(spec, "policyTypes", sink) else {
        return Vec::new();
    };
    if list.len() > 2
        && let Some(third) = list.get(2)
    {
        sink.error(third.pos, "policyTypes may have two entries at most");
    }
    list.iter()
        .filter_map(|item| lab::one_of(item, "a policy type", &choices, sink))
        .map(|found| found.value)
        .collect()
}

fn rules(spec: &Fields<'_>, key: &str, peers: &str, sink: &mut Sink<'_>) -> Vec<PolicyRule> {
    let what = format!("a rule of {key}");
    items(spec, key, sink)
        .unwrap_or_default()
        .iter()
        .filter_map(|item| {
            let fields = Fields::open(item, &what, &["ports", peers], sink)?;
            Some(PolicyRule {
                peers: items(&fields, peers, sink)
                    .unwrap_or_default()
                    .iter()
                    .filter_map(|item| peer(item, sink))
                    .collect(),
                ports: items(&fields, "ports", sink)
                    .unwrap_or_default()
                    .iter()
                    .filter_map(|item| port(item, sink))
                    .collect(),
            })
        })
        .collect()
}

fn peer(value: &Value, sink: &mut Sink<'_>) -> Option<Peer> {
    let known = &["podSelector", "namespaceSelector", "ipBlock"];
    let fields = Fields::open(value, "a peer", known, sink)?;
    let pods = fields
        .get("podSelector")
        .and_then(|value| selector(value, "podSelector", sink));
    let namespaces = fields
        .get("namespaceSelector")
        .and_then(|value| selector(value, "namespaceSelector", sink));
    let selects = ["podSelector", "namespaceSelector"]
        .into_iter()
        .find(|key| fields.get(key).is_some());
    if let Some(value) = fields.get("ipBlock") {
        if let Some(other) = selects {
            sink.conflict(
                Some(value.pos),
                format!("ipBlock may not stand in one peer with {other}"),
                fields.key_pos(other),
                "which is here; begin another peer with '-' for it",
            );
        }
        return ip_block(value, sink).map(Peer::IpBlock);
    }
    if selects.is_none() {
        sink.error(
            fields.pos,
            "a peer needs podSelector, namespaceSelector or ipBlock",
        );
        return None;
    }
    Some(Peer::Pods { namespaces, pods })
}

fn ip_block(value: &Value, sink: &mut Sink<'_>) -> Option<IpBlock> {
    let fields = Fields::open(value, "ipBlock", &["cidr", "except"], sink)?;
    let cidr = fields
        .want("cidr", "ipBlock", sink)
        .and_then(|value| network(value, sink));
    let mut except = Vec::new();
    for item in items(&fields, "except", sink).unwrap_or_default() {
        let Some(net) = network(item, sink) else {
            continue;
        };
        if let Some(cidr) = &cidr
            && (!cidr.value.contains(&net.value) || cidr.value == net.value)
        {
            sink.conflict(
                Some(net.pos),
                format!(
                    "except {} must lie strictly within cidr {}",
                    net.value, cidr.value
                ),
                Some(cidr.pos),
                "which is here",
            );
        }
        except.push(net.value);
    }
    Some(IpBlock {
        cidr: cidr?.value,
        except,
    })
}

/// A network of either family, without host bits.
fn network(value: &Value, sink: &mut Sink<'_>) -> Option<At<IpNet>> {
    let found: At<IpNet> = lab::parse_as(value, "a network (10.244.0.0/16)", sink)?;
    if found.value.trunc() != found.value {
        sink.error(
            found.pos,
            format!(
                "{} has host bits set; the network is {}",
                found.value,
                found.value.trunc()
            ),
        );
        return None;
    }
    Some(found)
}

fn port(value: &Value, sink: &mut Sink<'_>) -> Option<PolicyPort> {
    let fields = Fields::open(value, "a port", &["protocol", "port", "endPort"], sink)?;
    let protocol = protocol(&fields, sink);
    let written = fields.get("port");
    let port = written.and_then(|value| port_ref(value, "port", sink));
    let end_port = fields
        .get("endPort")
        .and_then(|value| int(value, "endPort", 1..=u16::MAX, sink));
    if let Some(end) = &end_port {
        match &port {
            Some(At {
                value: PortRef::Number(first),
                pos,
            }) if end.value < *first => sink.conflict(
                Some(end.pos),
                format!("endPort {} is below port {first}", end.value),
                Some(*pos),
                "which is here",
            ),
            Some(At {
                value: PortRef::Name(name),
                pos,
            }) => sink.conflict(
                Some(end.pos),
                format!("endPort may not stand beside the named port \"{name}\""),
                Some(*pos),
                "which is here",
            ),
            // A port that is wrong has been reported.
            None if written.is_none() => {
                sink.error(end.pos, "endPort needs \"port\", where the range begins");
            }
            _ => {}
        }
    }
    if written.is_some() && port.is_none() {
        return None;
    }
    Some(PolicyPort {
        protocol,
        port: port.map(|at| at.value),
        end_port: end_port.map(|at| at.value),
    })
}

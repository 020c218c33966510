//! Namespaces, network policies, services and endpoint slices: tables, and objects in Kubernetes' shape.
//!
//! Source: `k8s.io/kubernetes/pkg/printers/internalversion` for the columns, the API reference for the shapes.

use serde_json::{Map, Value, json};

use super::selector::words;
use super::{Columns, NONE, labels_cell};
use crate::kube::{
    Affinity, EndpointSlice, LabelSelector, Meta, NetworkPolicy, Object, ObjectKind, Peer,
    PolicyRule, PortRef, Service, ServiceKind, Stored,
};
use crate::view::age;
use crate::view::table::Table;

/// Most endpoints that a row lists.
const SHOWN: usize = 3;

/// Rows of one kind, by namespace and name.
#[must_use]
pub fn table(objects: &[Stored], kind: ObjectKind, columns: Columns, now_ms: u64) -> String {
    if objects.is_empty() {
        return String::new();
    }
    let mut header: Vec<&str> = match kind {
        ObjectKind::Namespace => vec!["NAME", "STATUS", "AGE"],
        ObjectKind::NetworkPolicy => vec!["NAME", "POD-SELECTOR", "AGE"],
        ObjectKind::Service => {
            vec![
                "NAME",
                "TYPE",
                "CLUSTER-IP",
                "EXTERNAL-IP",
                "PORT(S)",
                "AGE",
            ]
        }
        ObjectKind::EndpointSlice => vec!["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"],
    };
    if columns.namespace && kind != ObjectKind::Namespace {
        header.insert(0, "NAMESPACE");
    }
    if columns.wide && kind == ObjectKind::Service {
        header.push("SELECTOR");
    }
    if columns.labels {
        header.push("LABELS");
    }
    let mut table = Table::new(header);
    let mut sorted: Vec<&Stored> = objects.iter().collect();
    sorted.sort_by_key(|stored| stored.object.meta().key());
    for stored in sorted {
        let meta = stored.object.meta();
        let mut row = Vec::new();
        if columns.namespace && kind != ObjectKind::Namespace {
            row.push(meta.namespace.clone());
        }
        row.push(meta.name.clone());
        row.extend(cells(&stored.object));
        row.push(age::since(stored.created_ms, now_ms));
        if let (true, Object::Service(service)) = (columns.wide, &stored.object) {
            row.push(selector_cell(service));
        }
        if columns.labels {
            row.push(labels_cell(&meta.labels));
        }
        table.row(row);
    }
    table.render(columns.no_header)
}

/// What stands between name and age.
fn cells(object: &Object) -> Vec<String> {
    match object {
        Object::Namespace(_) => vec!["Active".to_owned()],
        Object::NetworkPolicy(policy) => vec![words(&policy.pod_selector)],
        Object::Service(service) => {
            let cluster_ip = match (service.cluster_ip, service.headless) {
                (_, true) => "None".to_owned(),
                (Some(address), false) => address.to_string(),
                (None, false) => NONE.to_owned(),
            };
            vec![
                service.kind.name().to_owned(),
                cluster_ip,
                external_cell(service),
                ports_cell(service),
            ]
        }
        Object::EndpointSlice(slice) => {
            let ports: Vec<String> = slice
                .ports
                .iter()
                .map(|port| {
                    port.port
                        .map_or_else(|| "*".to_owned(), |port| port.to_string())
                })
                .collect();
            let addresses: Vec<String> = slice
                .endpoints
                .iter()
                .take(SHOWN)
                .map(|endpoint| endpoint.address.to_string())
                .collect();
            let more = slice.endpoints.len().saturating_sub(SHOWN);
            let mut endpoints = addresses.join(",");
            if more > 0 {
                endpoints += &format!(" + {more} more...");
            }
            let unset = |text: String| {
                if text.is_empty() {
                    "<unset>".to_owned()
                } else {
                    text
                }
            };
            vec!["IPv4".to_owned(), unset(ports.join(",")), unset(endpoints)]
        }
    }
}

fn external_cell(service: &Service) -> String {
    let mut addresses: Vec<String> = service
        .external_ips
        .iter()
        .map(ToString::to_string)
        .collect();
    match &service.kind {
        ServiceKind::ExternalName(name) => name.clone(),
        ServiceKind::LoadBalancer if addresses.is_empty() => "<pending>".to_owned(),
        _ if addresses.is_empty() => NONE.to_owned(),
        _ => {
            addresses.sort();
            addresses.join(",")
        }
    }
}

fn ports_cell(service: &Service) -> String {
    if service.ports.is_empty() {
        return NONE.to_owned();
    }
    let ports: Vec<String> = service
        .ports
        .iter()
        .map(|port| match port.node_port {
            Some(node) => format!("{}:{node}/{}", port.port, port.protocol.name()),
            None => format!("{}/{}", port.port, port.protocol.name()),
        })
        .collect();
    ports.join(",")
}

fn selector_cell(service: &Service) -> String {
    service
        .selector
        .as_ref()
        .map_or_else(|| NONE.to_owned(), labels_cell)
}

/// An object in Kubernetes' shape.
#[must_use]
pub fn object(stored: &Stored) -> Value {
    let (version, kind, body) = match &stored.object {
        Object::Namespace(_) => (
            "v1",
            "Namespace",
            json!({"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}),
        ),
        Object::NetworkPolicy(policy) => {
            let body = json!({"spec": policy_spec(policy)});
            ("networking.k8s.io/v1", "NetworkPolicy", body)
        }
        Object::Service(service) => {
            let body = json!({"spec": service_spec(service), "status": {"loadBalancer": {}}});
            ("v1", "Service", body)
        }
        Object::EndpointSlice(slice) => ("discovery.k8s.io/v1", "EndpointSlice", slice_body(slice)),
    };
    let mut whole = Map::new();
    whole.insert("apiVersion".into(), json!(version));
    whole.insert("kind".into(), json!(kind));
    whole.insert("metadata".into(), metadata(stored));
    if let Value::Object(body) = body {
        whole.extend(body);
    }
    Value::Object(whole)
}

fn metadata(stored: &Stored) -> Value {
    let Meta {
        namespace,
        name,
        labels,
        annotations,
        ..
    } = stored.object.meta();
    let mut metadata = Map::new();
    if !annotations.is_empty() {
        metadata.insert("annotations".into(), json!(annotations));
    }
    metadata.insert(
        "creationTimestamp".into(),
        json!(age::rfc3339(stored.created_ms)),
    );
    if !labels.is_empty() {
        metadata.insert("labels".into(), json!(labels));
    }
    metadata.insert("name".into(), json!(name));
    if !namespace.is_empty() {
        metadata.insert("namespace".into(), json!(namespace));
    }
    Value::Object(metadata)
}

fn selector(selector: &LabelSelector) -> Value {
    let mut value = Map::new();
    if !selector.match_expressions.is_empty() {
        value.insert("matchExpressions".into(), json!(selector.match_expressions));
    }
    if !selector.match_labels.is_empty() {
        let pairs = selector.match_labels.iter();
        let pairs: Map<String, Value> = pairs.map(|(k, v)| (k.clone(), json!(v))).collect();
        value.insert("matchLabels".into(), Value::Object(pairs));
    }
    Value::Object(value)
}

fn policy_spec(policy: &NetworkPolicy) -> Value {
    let mut spec = Map::new();
    for (key, peers, rules) in [
        ("egress", "to", &policy.egress),
        ("ingress", "from", &policy.ingress),
    ] {
        if !rules.is_empty() {
            let rules = rules.iter().map(|rule| policy_rule(rule, peers));
            spec.insert(key.into(), rules.collect());
        }
    }
    spec.insert("podSelector".into(), selector(&policy.pod_selector));
    spec.insert("policyTypes".into(), json!(policy.types));
    Value::Object(spec)
}

fn policy_rule(rule: &PolicyRule, key: &str) -> Value {
    let mut value = Map::new();
    if !rule.peers.is_empty() {
        let peers = rule.peers.iter().map(|peer| match peer {
            Peer::IpBlock(block) if block.except.is_empty() => {
                json!({"ipBlock": {"cidr": block.cidr}})
            }
            Peer::IpBlock(block) => {
                json!({"ipBlock": {"cidr": block.cidr, "except": block.except}})
            }
            Peer::Pods { namespaces, pods } => {
                let mut peer = Map::new();
                if let Some(namespaces) = namespaces {
                    peer.insert("namespaceSelector".into(), selector(namespaces));
                }
                if let Some(pods) = pods {
                    peer.insert("podSelector".into(), selector(pods));
                }
                Value::Object(peer)
            }
        });
        value.insert(key.into(), peers.collect());
    }
    if !rule.ports.is_empty() {
        let ports = rule.ports.iter().map(|port| {
            let mut value = Map::new();
            if let Some(end) = port.end_port {
                value.insert("endPort".into(), json!(end));
            }
            if let Some(port) = &port.port {
                value.insert("port".into(), json!(port));
            }
            value.insert("protocol".into(), json!(port.protocol));
            Value::Object(value)
        });
        value.insert("ports".into(), ports.collect());
    }
    Value::Object(value)
}

fn service_spec(service: &Service) -> Value {
    let mut spec = Map::new();
    let policy = |local: bool| if local { "Local" } else { "Cluster" };
    if service.headless {
        spec.insert("clusterIP".into(), json!("None"));
        spec.insert("clusterIPs".into(), json!(["None"]));
    } else if let Some(address) = service.cluster_ip {
        spec.insert("clusterIP".into(), json!(address));
        spec.insert("clusterIPs".into(), json!([address]));
    }
    if !service.external_ips.is_empty() {
        spec.insert("externalIPs".into(), json!(service.external_ips));
    }
    if let ServiceKind::ExternalName(name) = &service.kind {
        spec.insert("externalName".into(), json!(name));
    } else {
        spec.insert(
            "internalTrafficPolicy".into(),
            json!(policy(service.internal_local)),
        );
        spec.insert("ipFamilies".into(), json!(["IPv4"]));
        spec.insert("ipFamilyPolicy".into(), json!("SingleStack"));
    }
    if service.kind.has_node_ports() {
        spec.insert(
            "externalTrafficPolicy".into(),
            json!(policy(service.external_local)),
        );
    }
    let ports = service.ports.iter().map(|port| {
        let mut value = Map::new();
        if !port.name.is_empty() {
            value.insert("name".into(), json!(port.name));
        }
        if let Some(node) = port.node_port {
            value.insert("nodePort".into(), json!(node));
        }
        value.insert("port".into(), json!(port.port));
        value.insert("protocol".into(), json!(port.protocol));
        let target: &PortRef = &port.target;
        value.insert("targetPort".into(), json!(target));
        Value::Object(value)
    });
    if !service.ports.is_empty() {
        spec.insert("ports".into(), ports.collect());
    }
    if service.publish_not_ready {
        spec.insert("publishNotReadyAddresses".into(), json!(true));
    }
    if let Some(selector) = &service.selector {
        spec.insert("selector".into(), json!(selector));
    }
    match service.affinity {
        Affinity::None => spec.insert("sessionAffinity".into(), json!("None")),
        Affinity::ClientIp(seconds) => {
            spec.insert("sessionAffinity".into(), json!("ClientIP"));
            spec.insert(
                "sessionAffinityConfig".into(),
                json!({"clientIP": {"timeoutSeconds": seconds}}),
            )
        }
    };
    spec.insert("type".into(), json!(service.kind.name()));
    Value::Object(spec)
}

fn slice_body(slice: &EndpointSlice) -> Value {
    let endpoints = slice.endpoints.iter().map(|endpoint| {
        let mut value = Map::new();
        value.insert("addresses".into(), json!([endpoint.address]));
        value.insert(
            "conditions".into(),
            json!({"ready": endpoint.ready, "serving": endpoint.ready, "terminating": false}),
        );
        if let Some(hostname) = &endpoint.hostname {
            value.insert("hostname".into(), json!(hostname));
        }
        if let Some(node) = &endpoint.node {
            value.insert("nodeName".into(), json!(node));
        }
        if let Some(pod) = &endpoint.pod {
            let namespace = &slice.meta.namespace;
            let target = json!({"kind": "Pod", "name": pod, "namespace": namespace});
            value.insert("targetRef".into(), target);
        }
        Value::Object(value)
    });
    let ports = slice
        .ports
        .iter()
        .map(|port| json!({"name": port.name, "port": port.port, "protocol": port.protocol}));
    json!({
        "addressType": "IPv4",
        "endpoints": endpoints.collect::<Vec<_>>(),
        "ports": ports.collect::<Vec<_>>(),
    })
}

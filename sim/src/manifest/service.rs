//! Service and Endpoints of `v1`, EndpointSlice of `discovery.k8s.io/v1`.
//!
//! Source: pkg/apis/core/validation (ValidateService), pkg/apis/discovery/validation and the defaults of Kubernetes 1.31. What needs
//! the cluster (an address or a node port that is taken) is judged there.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use indexmap::IndexMap;

use super::keys;
use super::object::{Naming, Opened, open};
use super::words::{self, check_port_name, int, items, port_ref, protocol, string};
use crate::kube::{
    Affinity, EndpointSlice, Meta, PortRef, Protocol, Service, ServiceKind, ServicePort,
    SliceEndpoint, SlicePort,
};
use crate::lab::{self, At, Fields, Kind, Pos, Sink, Value};

/// The label of a slice that names its service.
pub(crate) const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Ports that nodes give to services.
const NODE_PORTS: core::ops::RangeInclusive<u16> = 30_000..=32_767;

/// Longest affinity, seconds: a day.
const MAX_AFFINITY: u32 = 86_400;

/// Affinity where none is said, seconds: three hours (SVC-6).
const DEFAULT_AFFINITY: u32 = 10_800;

pub(super) fn read(document: &Value, sink: &mut Sink<'_>) -> Option<(Service, Pos)> {
    let Opened { fields, meta, pos } = open(
        document,
        ("a service", "v1"),
        keys::TOP,
        Naming::Label,
        sink,
    )?;
    if let Some(meta) = &meta
        && !meta.name.starts_with(|c: char| c.is_ascii_lowercase())
    {
        sink.error(pos, "the name of a service must begin with a letter");
    }
    let spec = fields.want("spec", "a service", sink)?;
    let spec = Fields::open(spec, "the spec of a service", keys::SERVICE_SPEC, sink)?;
    let kind = kind(&spec, sink);
    let (cluster_ip, headless) = cluster_ip(&spec, sink);
    let external = matches!(kind, ServiceKind::ExternalName(_));
    if kind.has_node_ports() && headless {
        let pos = spec.key_pos("clusterIP").unwrap_or(spec.pos);
        sink.error(
            pos,
            format!(
                "a service of type {} needs an address of its own",
                kind.name()
            ),
        );
    }
    if external && cluster_ip.is_some() {
        let pos = spec.key_pos("clusterIP").unwrap_or(spec.pos);
        sink.error(pos, "a service of type ExternalName has no clusterIP");
    }
    let ports = ports(&spec, &kind, sink);
    if ports.is_empty() && !headless && !external {
        sink.error(spec.pos, "the spec of a service needs \"ports\"");
    }
    let selector = spec
        .get("selector")
        .map(|value| words::labels(value, "selector", sink))
        .filter(|labels| !labels.is_empty());
    let affinity = affinity(&spec, sink);
    let external_local = local(&spec, "externalTrafficPolicy", sink);
    if external_local
        && !kind.has_node_ports()
        && let Some(pos) = spec.key_pos("externalTrafficPolicy")
    {
        sink.error(
            pos,
            "externalTrafficPolicy is for services of type NodePort and LoadBalancer",
        );
    }
    let internal_local = local(&spec, "internalTrafficPolicy", sink);
    let external_ips = items(&spec, "externalIPs", sink)
        .unwrap_or_default()
        .iter()
        .filter_map(|item| lab::address(item, sink))
        .map(|at| at.value)
        .collect();
    let publish_not_ready = spec
        .get("publishNotReadyAddresses")
        .and_then(|value| lab::boolean(value, sink))
        .is_some_and(|flag| flag.value);
    let service = Service {
        meta: meta?,
        kind,
        cluster_ip,
        headless,
        selector,
        ports,
        affinity,
        external_local,
        internal_local,
        external_ips,
        publish_not_ready,
    };
    Some((service, pos))
}

fn kind(spec: &Fields<'_>, sink: &mut Sink<'_>) -> ServiceKind {
    let choices = [
        ("ClusterIP", 0),
        ("NodePort", 1),
        ("LoadBalancer", 2),
        ("ExternalName", 3),
    ];
    let written = spec
        .get("type")
        .and_then(|value| lab::one_of(value, "type", &choices, sink));
    match written.map_or(0, |found| found.value) {
        1 => ServiceKind::NodePort,
        2 => ServiceKind::LoadBalancer,
        3 => {
            let name = spec
                .want("externalName", "a service of type ExternalName", sink)
                .and_then(|value| lab::subdomain(value, "externalName", sink));
            ServiceKind::ExternalName(name.map_or_else(String::new, |at| at.value))
        }
        _ => ServiceKind::ClusterIp,
    }
}

fn cluster_ip(spec: &Fields<'_>, sink: &mut Sink<'_>) -> (Option<Ipv4Addr>, bool) {
    // clusterIPs repeats clusterIP as its first; a second one is of IPv6.
    let listed = items(spec, "clusterIPs", sink).and_then(<[Value]>::first);
    let Some(value) = spec.get("clusterIP").or(listed) else {
        return (None, false);
    };
    match &value.kind {
        Kind::Scalar { text, .. } if text == "None" => (None, true),
        Kind::Scalar { text, .. } if text.is_empty() => (None, false),
        _ => (lab::address(value, sink).map(|at| at.value), false),
    }
}

fn local(spec: &Fields<'_>, key: &str, sink: &mut Sink<'_>) -> bool {
    spec.get(key)
        .and_then(|value| lab::one_of(value, key, &[("Cluster", false), ("Local", true)], sink))
        .is_some_and(|found| found.value)
}

fn affinity(spec: &Fields<'_>, sink: &mut Sink<'_>) -> Affinity {
    let by_client = spec
        .get("sessionAffinity")
        .and_then(|value| {
            let choices = [("None", false), ("ClientIP", true)];
            lab::one_of(value, "sessionAffinity", &choices, sink)
        })
        .is_some_and(|found| found.value);
    let timeout = spec
        .get("sessionAffinityConfig")
        .and_then(|value| Fields::open(value, "sessionAffinityConfig", &["clientIP"], sink))
        .and_then(|config| {
            let value = config.get("clientIP")?;
            let config = Fields::open(value, "clientIP", &["timeoutSeconds"], sink)?;
            let value = config.get("timeoutSeconds")?;
            int(value, "timeoutSeconds", 1..=MAX_AFFINITY, sink)
        });
    match (by_client, timeout) {
        (true, timeout) => Affinity::ClientIp(timeout.map_or(DEFAULT_AFFINITY, |at| at.value)),
        (false, None) => Affinity::None,
        (false, Some(at)) => {
            sink.error(
                at.pos,
                "sessionAffinityConfig needs \"sessionAffinity: ClientIP\"",
            );
            Affinity::None
        }
    }
}

fn ports(spec: &Fields<'_>, kind: &ServiceKind, sink: &mut Sink<'_>) -> Vec<ServicePort> {
    let list = items(spec, "ports", sink).unwrap_or_default();
    let mut names: HashMap<String, Pos> = HashMap::new();
    let mut numbers: HashMap<(Protocol, u16), Pos> = HashMap::new();
    let mut ports = Vec::new();
    for item in list {
        let Some(fields) = Fields::open(item, "a port", keys::SERVICE_PORT, sink) else {
            continue;
        };
        let name = fields
            .get("name")
            .and_then(|value| lab::label(value, "the name of a port", sink));
        if let Some(name) = &name {
            unique(&mut names, name.value.clone(), name.pos, "name", sink);
        } else if list.len() > 1 && fields.get("name").is_none() {
            sink.error(
                fields.pos,
                "a port of a service with several ports needs \"name\"",
            );
        }
        let protocol = protocol(&fields, sink);
        let Some(port) = fields
            .want("port", "a port", sink)
            .and_then(|value| int(value, "port", 1..=u16::MAX, sink))
        else {
            continue;
        };
        let what = "port and protocol";
        unique(&mut numbers, (protocol, port.value), port.pos, what, sink);
        let target = fields
            .get("targetPort")
            .and_then(|value| port_ref(value, "targetPort", sink))
            .map_or(PortRef::Number(port.value), |at| at.value);
        let node_port = fields
            .get("nodePort")
            .and_then(|value| int(value, "nodePort", 0..=u16::MAX, sink))
            .filter(|at| at.value != 0);
        if let Some(at) = &node_port {
            if !kind.has_node_ports() {
                sink.error(
                    at.pos,
                    format!("a service of type {} has no node ports", kind.name()),
                );
            } else if !NODE_PORTS.contains(&at.value) {
                let (first, last) = (NODE_PORTS.start(), NODE_PORTS.end());
                sink.error(
                    at.pos,
                    format!("nodePort must be from {first} to {last}, not {}", at.value),
                );
            }
        }
        ports.push(ServicePort {
            name: name.map_or_else(String::new, |at| at.value),
            protocol,
            port: port.value,
            target,
            node_port: node_port.map(|at| at.value),
        });
    }
    ports
}

fn unique<K: core::hash::Hash + Eq>(
    seen: &mut HashMap<K, Pos>,
    key: K,
    pos: Pos,
    what: &str,
    sink: &mut Sink<'_>,
) {
    if let Some(first) = seen.insert(key, pos) {
        sink.conflict(
            Some(pos),
            format!("a second port of the same {what}"),
            Some(first),
            "the first is here",
        );
    }
}

pub(super) fn slice(document: &Value, sink: &mut Sink<'_>) -> Option<(EndpointSlice, Pos)> {
    let what = "an endpoint slice";
    let Opened { fields, meta, pos } = open(
        document,
        (what, "discovery.k8s.io/v1"),
        keys::SLICE,
        Naming::Subdomain,
        sink,
    )?;
    let families = [("IPv4", ()), ("IPv6", ()), ("FQDN", ())];
    let family = fields
        .want("addressType", what, sink)
        .and_then(|value| lab::one_of(value, "addressType", &families, sink));
    if family.is_some()
        && let Some(value) = fields.get("addressType")
        && !matches!(&value.kind, Kind::Scalar { text, .. } if text == "IPv4")
    {
        sink.error(
            value.pos,
            "only endpoint slices of addressType IPv4 have a meaning here",
        );
    }
    let mut endpoints = Vec::new();
    for item in items(&fields, "endpoints", sink).unwrap_or_default() {
        let Some(endpoint) = Fields::open(item, "an endpoint", keys::ENDPOINT, sink) else {
            continue;
        };
        let ready = endpoint
            .get("conditions")
            .and_then(|value| {
                let known = &["ready", "serving", "terminating"];
                Fields::open(value, "conditions", known, sink)
            })
            .and_then(|conditions| lab::boolean(conditions.get("ready")?, sink))
            .is_none_or(|flag| flag.value);
        let word = |key: &str, sink: &mut Sink<'_>| {
            endpoint
                .get(key)
                .and_then(|value| string(value, key, sink))
                .map(|at| at.value)
        };
        let (node, hostname) = (word("nodeName", sink), word("hostname", sink));
        let pod = pod_of(&endpoint, sink);
        let Some(addresses) = endpoint.want("addresses", "an endpoint", sink) else {
            continue;
        };
        for address in lab::list(addresses, "addresses", sink) {
            let Some(address) = endpoint_address(address, sink) else {
                continue;
            };
            endpoints.push(SliceEndpoint {
                address,
                ready,
                node: node.clone(),
                pod: pod.clone(),
                hostname: hostname.clone(),
            });
        }
    }
    let ports = slice_ports(&fields, sink);
    let slice = EndpointSlice {
        meta: meta?,
        endpoints,
        ports,
    };
    Some((slice, pos))
}

/// `targetRef` of an endpoint, where it is a pod.
fn pod_of(endpoint: &Fields<'_>, sink: &mut Sink<'_>) -> Option<String> {
    let target = Fields::open_lenient(endpoint.get("targetRef")?, "targetRef", sink)?;
    let kind = lab::text(target.get("kind")?, "kind", sink)?;
    let name = lab::text(target.get("name")?, "name", sink)?;
    (kind.value == "Pod").then_some(name.value)
}

fn slice_ports(fields: &Fields<'_>, sink: &mut Sink<'_>) -> Vec<SlicePort> {
    items(fields, "ports", sink)
        .unwrap_or_default()
        .iter()
        .filter_map(|item| {
            let known = &["name", "protocol", "port", "appProtocol"];
            let fields = Fields::open(item, "a port", known, sink)?;
            let name = fields
                .get("name")
                .and_then(|value| string(value, "the name of a port", sink))
                .map_or_else(String::new, |at| at.value);
            let protocol = protocol(&fields, sink);
            let port = fields
                .get("port")
                .and_then(|value| int(value, "port", 1..=u16::MAX, sink));
            Some(SlicePort {
                name,
                protocol,
                port: port.map(|at| at.value),
            })
        })
        .collect()
}

/// An address that a service may lead to: no loopback, link-local or multicast address.
fn endpoint_address(value: &Value, sink: &mut Sink<'_>) -> Option<Ipv4Addr> {
    let at: At<Ipv4Addr> = lab::address(value, sink)?;
    let address = at.value;
    if address.is_unspecified()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
    {
        sink.error(
            at.pos,
            format!("{address} may not be the address of an endpoint"),
        );
        return None;
    }
    Some(address)
}

/// Endpoints of the old kind, as one slice for each subset.
pub(super) fn endpoints(document: &Value, sink: &mut Sink<'_>) -> Vec<(EndpointSlice, Pos)> {
    let what = "endpoints";
    let Some(Opened { fields, meta, pos }) = open(
        document,
        (what, "v1"),
        keys::ENDPOINTS,
        Naming::Subdomain,
        sink,
    ) else {
        return Vec::new();
    };
    let mut slices = Vec::new();
    let subsets = items(&fields, "subsets", sink).unwrap_or_default();
    for (number, item) in subsets.iter().enumerate() {
        let known = &["addresses", "notReadyAddresses", "ports"];
        let Some(subset) = Fields::open(item, "a subset", known, sink) else {
            continue;
        };
        let mut endpoints = Vec::new();
        for (key, ready) in [("addresses", true), ("notReadyAddresses", false)] {
            for item in items(&subset, key, sink).unwrap_or_default() {
                let known = &["ip", "hostname", "nodeName", "targetRef"];
                let Some(fields) = Fields::open(item, "an address", known, sink) else {
                    continue;
                };
                let Some(address) = fields
                    .want("ip", "an address", sink)
                    .and_then(|value| endpoint_address(value, sink))
                else {
                    continue;
                };
                let word = |key: &str, sink: &mut Sink<'_>| {
                    fields
                        .get(key)
                        .and_then(|value| string(value, key, sink))
                        .map(|at| at.value)
                };
                endpoints.push(SliceEndpoint {
                    address,
                    ready,
                    node: word("nodeName", sink),
                    pod: pod_of(&fields, sink),
                    hostname: word("hostname", sink),
                });
            }
        }
        let ports = slice_ports(&subset, sink);
        let Some(meta) = &meta else { continue };
        let mut labels = IndexMap::new();
        labels.insert(SERVICE_NAME_LABEL.to_owned(), meta.name.clone());
        let name = match number {
            0 => meta.name.clone(),
            _ => format!("{}-{number}", meta.name),
        };
        slices.push((
            EndpointSlice {
                meta: Meta {
                    name,
                    labels,
                    ..meta.clone()
                },
                endpoints,
                ports,
            },
            pos,
        ));
    }
    slices
}

/// `ports` of a container: what it says it serves.
pub(super) fn container_port_name(fields: &Fields<'_>, sink: &mut Sink<'_>) -> Option<String> {
    let name = fields
        .get("name")
        .and_then(|value| string(value, "the name of a port", sink))?;
    if let Err(why) = check_port_name(&name.value) {
        sink.error(name.pos, format!("\"{}\" {why}", words::short(&name.value)));
        return None;
    }
    Some(name.value)
}

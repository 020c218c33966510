//! `describe service`, `describe endpointslice` and `describe namespace`.
//!
//! Source: k8s.io/kubectl/pkg/describe (`describeService`, `describeEndpointSliceV1`, `describeNamespace`).

use super::{NONE, annotation_lines, field, label_lines};
use crate::kube::{
    Affinity, EndpointSlice, Namespace, Object, PortRef, Service, ServiceKind, Stored,
};

/// The label of a slice that names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Most endpoints that a line lists.
const SHOWN: usize = 3;

/// A service with the endpoints that the cluster's slices give it.
#[must_use]
pub fn describe(service: &Service, all: &[Stored]) -> String {
    const WIDTH: usize = 26;
    let mut text = String::new();
    let meta = &service.meta;
    let mut line = |title: &str, values: &[String]| field(&mut text, WIDTH, title, values);
    let one = |value: &str| [value.to_owned()];
    line("Name", &one(&meta.name));
    line("Namespace", &one(&meta.namespace));
    line("Labels", &label_lines(&meta.labels));
    line("Annotations", &annotation_lines(&meta.annotations));
    let selector = service
        .selector
        .as_ref()
        .map(label_lines)
        .unwrap_or_default();
    line("Selector", &one(&none_when_empty(&selector.join(","))));
    line("Type", &one(service.kind.name()));
    if let ServiceKind::ExternalName(name) = &service.kind {
        line("External Name", &one(name));
    } else {
        line("IP Family Policy", &one("SingleStack"));
        line("IP Families", &one("IPv4"));
        let address = match service.cluster_ip {
            Some(address) if !service.headless => address.to_string(),
            _ => "None".to_owned(),
        };
        line("IP", &one(&address));
        line("IPs", &one(&address));
    }
    if !service.external_ips.is_empty() {
        let list: Vec<String> = service
            .external_ips
            .iter()
            .map(ToString::to_string)
            .collect();
        line("External IPs", &one(&list.join(",")));
    }
    for port in &service.ports {
        let name = if port.name.is_empty() {
            "<unset>"
        } else {
            &port.name
        };
        let protocol = port.protocol.name();
        line("Port", &one(&format!("{name}  {}/{protocol}", port.port)));
        let target = match &port.target {
            PortRef::Number(number) => number.to_string(),
            PortRef::Name(name) => name.clone(),
        };
        line("TargetPort", &one(&format!("{target}/{protocol}")));
        if let Some(node) = port.node_port {
            line("NodePort", &one(&format!("{name}  {node}/{protocol}")));
        }
        line("Endpoints", &one(&endpoints(service, &port.name, all)));
    }
    let affinity = match service.affinity {
        Affinity::None => "None",
        Affinity::ClientIp(_) => "ClientIP",
    };
    line("Session Affinity", &one(affinity));
    let policy = |local: bool| one(if local { "Local" } else { "Cluster" });
    if service.kind.has_node_ports() {
        line("External Traffic Policy", &policy(service.external_local));
    }
    if !matches!(service.kind, ServiceKind::ExternalName(_)) {
        line("Internal Traffic Policy", &policy(service.internal_local));
    }
    line("Events", &one(NONE));
    text
}

fn none_when_empty(text: &str) -> String {
    if text.is_empty() {
        NONE.to_owned()
    } else {
        text.to_owned()
    }
}

/// The ready endpoints of one port, as kubectl lists them.
fn endpoints(service: &Service, port: &str, all: &[Stored]) -> String {
    let mut found = Vec::new();
    for stored in all {
        let Object::EndpointSlice(slice) = &stored.object else {
            continue;
        };
        if slice.meta.namespace != service.meta.namespace
            || slice.meta.labels.get(SERVICE_NAME) != Some(&service.meta.name)
        {
            continue;
        }
        for own in slice.ports.iter().filter(|own| own.name == port) {
            let Some(number) = own.port else { continue };
            let ready = slice.endpoints.iter().filter(|endpoint| endpoint.ready);
            found.extend(ready.map(|endpoint| format!("{}:{number}", endpoint.address)));
        }
    }
    let more = found.len().saturating_sub(SHOWN);
    found.truncate(SHOWN);
    let mut text = none_when_empty(&found.join(","));
    if more > 0 {
        text += &format!(" + {more} more...");
    }
    text
}

/// An endpoint slice.
#[must_use]
pub fn describe_slice(slice: &EndpointSlice) -> String {
    const WIDTH: usize = 14;
    let mut text = String::new();
    let one = |value: &str| [value.to_owned()];
    field(&mut text, WIDTH, "Name", &one(&slice.meta.name));
    field(&mut text, WIDTH, "Namespace", &one(&slice.meta.namespace));
    field(&mut text, WIDTH, "Labels", &label_lines(&slice.meta.labels));
    field(
        &mut text,
        WIDTH,
        "Annotations",
        &annotation_lines(&slice.meta.annotations),
    );
    field(&mut text, WIDTH, "AddressType", &one("IPv4"));
    text += "Ports:\n  Name     Port  Protocol\n  ----     ----  --------\n";
    for port in &slice.ports {
        let name = if port.name.is_empty() {
            "<unset>"
        } else {
            &port.name
        };
        let number = port
            .port
            .map_or_else(|| "<unset>".to_owned(), |port| port.to_string());
        text += &format!("  {name:<7}  {number:<4}  {}\n", port.protocol.name());
    }
    text += "Endpoints:\n";
    for endpoint in &slice.endpoints {
        text += &format!("  - Addresses:  {}\n", endpoint.address);
        text += &format!("    Conditions:\n      Ready:    {}\n", endpoint.ready);
        let or_unset = |word: &Option<String>| word.clone().unwrap_or_else(|| "<unset>".to_owned());
        text += &format!("    Hostname:   {}\n", or_unset(&endpoint.hostname));
        if let Some(pod) = &endpoint.pod {
            text += &format!("    TargetRef:  Pod/{pod}\n");
        }
        text += &format!("    NodeName:   {}\n", or_unset(&endpoint.node));
    }
    text += "Events:         <none>\n";
    text
}

/// A namespace.
#[must_use]
pub fn describe_namespace(namespace: &Namespace) -> String {
    const WIDTH: usize = 14;
    let mut text = String::new();
    let meta = &namespace.meta;
    field(&mut text, WIDTH, "Name", std::slice::from_ref(&meta.name));
    field(&mut text, WIDTH, "Labels", &label_lines(&meta.labels));
    field(
        &mut text,
        WIDTH,
        "Annotations",
        &annotation_lines(&meta.annotations),
    );
    field(&mut text, WIDTH, "Status", &["Active".to_owned()]);
    text += "\nNo resource quota.\n\nNo LimitRange resource.\n";
    text
}

//! `ports` of a container, `hostPort` and `hostIP` among them.

use super::{keys, service, words};
use crate::kube::{ContainerPort, HostPort};
use crate::lab::{self, At, Fields, Sink};
use crate::portmap::conflict;

/// What a container says it serves, added to what the pod's earlier ones say. A name may stand once only (Kubernetes: per container;
/// per pod where it is referred to), and so may a host port (PM-8). With the host's network a port of the node is the container's.
pub(super) fn of_container(
    container: &Fields<'_>,
    host_network: bool,
    all: &mut Vec<At<ContainerPort>>,
    sink: &mut Sink<'_>,
) {
    let Some(ports) = container.get("ports") else {
        return;
    };
    for port in lab::list(ports, "ports", sink) {
        let Some(fields) = Fields::open(port, "a port", keys::PORT, sink) else {
            continue;
        };
        let name = service::container_port_name(&fields, sink);
        if let (Some(name), Some(value)) = (&name, fields.get("name"))
            && all.iter().any(|at| at.value.name.as_ref() == Some(name))
        {
            sink.error(value.pos, format!("a second port of name \"{name}\""));
        }
        let protocol = words::protocol(&fields, sink);
        let host = host_port(&fields, sink);
        let Some(port) = fields
            .want("containerPort", "a port", sink)
            .and_then(|value| words::int(value, "containerPort", 1..=u16::MAX, sink))
        else {
            continue;
        };
        if let Some(host) = host.as_ref().filter(|_| host_network)
            && host.value.port != port.value
        {
            let message = format!(
                "hostPort {} must be containerPort {} in a pod with hostNetwork",
                host.value.port, port.value
            );
            sink.error(host.pos, message);
        }
        let pos = host.as_ref().map_or(port.pos, |host| host.pos);
        let port = ContainerPort {
            name,
            port: port.value,
            protocol,
            host: host.map(|at| at.value),
        };
        let earlier = all.iter().find(|at| conflict(&port, &at.value).is_some());
        if let (Some(earlier), Some(host)) = (earlier, &port.host) {
            let message = format!("a second hostPort {}/{}", host.port, protocol.name());
            sink.conflict(Some(pos), message, Some(earlier.pos), "the first is here");
        }
        all.push(At { value: port, pos });
    }
}

/// `hostPort`, and `hostIP` where the former stands.
fn host_port(fields: &Fields<'_>, sink: &mut Sink<'_>) -> Option<At<HostPort>> {
    let ip = fields.get("hostIP").and_then(|value| {
        let word = lab::text(value, "hostIP", sink)?;
        if word.value.is_empty() {
            return None;
        }
        let ip = word.value.parse().ok();
        if ip.is_none() {
            let message = format!(
                "hostIP \"{}\" is no IPv4 address",
                words::short(&word.value)
            );
            sink.error(word.pos, message);
        }
        ip
    });
    let port = fields
        .get("hostPort")
        .and_then(|value| words::int(value, "hostPort", 1..=u16::MAX, sink))?;
    let host = HostPort {
        ip,
        port: port.value,
        declared_at: Some(sink.describe(port.pos)),
    };
    Some(At {
        value: host,
        pos: port.pos,
    })
}

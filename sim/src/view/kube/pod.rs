//! Pods.

use std::cmp::Reverse;

use serde_json::{Map, Value, json};

use super::{Columns, NONE, annotation_lines, field, label_lines, labels_cell};
use crate::bandwidth::Limit;
use crate::kube::ContainerPort;
use crate::model::{Node, Phase, Pod, PodLink, Scope};
use crate::portmap;
use crate::view::age;
use crate::view::table::Table;

const fn running(pod: &Pod) -> bool {
    matches!(pod.phase, Phase::Running)
}

const fn status(pod: &Pod) -> &'static str {
    match pod.phase {
        Phase::Running => "Running",
        Phase::Completed => "Completed",
        Phase::Error { .. } => "Error",
        Phase::CrashLoopBackOff => "CrashLoopBackOff",
    }
}

/// Kubernetes' own phase, which has fewer words than the STATUS column.
const fn phase(pod: &Pod) -> &'static str {
    match pod.phase {
        Phase::Running | Phase::CrashLoopBackOff => "Running",
        Phase::Completed => "Succeeded",
        Phase::Error { .. } => "Failed",
    }
}

fn sorted<'a>(pods: &[&'a Pod]) -> Vec<&'a Pod> {
    let mut pods = pods.to_vec();
    pods.sort_by_key(|pod| (&pod.namespace, &pod.name));
    pods
}

/// `get pods`. Empty text when there are none; the caller says so on stderr.
#[must_use]
pub fn table(pods: &[&Pod], columns: Columns, now_ms: u64) -> String {
    let mut header = Vec::new();
    if columns.namespace {
        header.push("NAMESPACE");
    }
    header.extend(["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    if columns.wide {
        header.extend(["IP", "NODE", "NOMINATED NODE", "READINESS GATES"]);
    }
    if columns.labels {
        header.push("LABELS");
    }
    let mut table = Table::new(header);
    for pod in sorted(pods) {
        let mut cells = Vec::new();
        if columns.namespace {
            cells.push(pod.namespace.clone());
        }
        cells.extend([
            pod.name.clone(),
            if running(pod) { "1/1" } else { "0/1" }.to_owned(),
            status(pod).to_owned(),
            pod.restarts.to_string(),
            age::since(pod.created_ms, now_ms),
        ]);
        if columns.wide {
            cells.extend([
                ip(pod).unwrap_or_else(|| NONE.to_owned()),
                pod.node.clone(),
                NONE.to_owned(),
                NONE.to_owned(),
            ]);
        }
        if columns.labels {
            cells.push(labels_cell(&pod.labels));
        }
        table.row(cells);
    }
    if table.is_empty() {
        return String::new();
    }
    table.render(columns.no_header)
}

/// `-o name`
#[must_use]
pub fn name(pod: &Pod) -> String {
    format!("pod/{}", pod.name)
}

fn host_ip(pod: &Pod, nodes: &[Node]) -> Option<String> {
    let node = nodes.iter().find(|node| node.name == pod.node)?;
    Some(node.internal_ip.to_string())
}

/// A Kubernetes Pod with `pid` of its program (or null) and `netns`, a path that `nsenter --net=` accepts (or null).
#[must_use]
pub fn object(pod: &Pod, nodes: &[Node]) -> Value {
    let created = age::rfc3339(pod.created_ms);
    let labels: Map<String, Value> = pod
        .labels
        .iter()
        .map(|(k, v)| (k.clone(), json!(v)))
        .collect();
    let mut container = Map::new();
    container.insert("name".to_owned(), json!(pod.name));
    if let Some(command) = &pod.command {
        container.insert("command".to_owned(), json!(command));
    }
    if !pod.ports.is_empty() {
        let ports: Vec<Value> = pod.ports.iter().map(port_object).collect();
        container.insert("ports".to_owned(), json!(ports));
    }
    let state = match pod.phase {
        Phase::Running => json!({"running": {"startedAt": created}}),
        Phase::Completed => json!({"terminated": {"exitCode": 0, "reason": "Completed"}}),
        Phase::Error { status } => json!({"terminated": {"exitCode": status, "reason": "Error"}}),
        Phase::CrashLoopBackOff => json!({"waiting": {"reason": "CrashLoopBackOff"}}),
    };
    let mut metadata = json!({
        "name": pod.name,
        "namespace": pod.namespace,
        "labels": labels,
        "creationTimestamp": created,
    });
    if !pod.annotations.is_empty() {
        metadata["annotations"] = json!(pod.annotations);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "nodeName": pod.node,
            "hostNetwork": pod.host_network,
            "containers": [container],
        },
        "status": {
            "phase": phase(pod),
            "hostIP": host_ip(pod, nodes),
            "podIP": ip(pod),
            "podIPs": ip(pod).map(|ip| json!({"ip": ip})).into_iter().collect::<Vec<_>>(),
            "startTime": created,
            "containerStatuses": [{
                "name": pod.name,
                "ready": running(pod),
                "restartCount": pod.restarts,
                "containerID": format!("podwire://{}", pod.container_id),
                "state": state,
            }],
        },
        "pid": pod.pid,
        "netns": pod.netns,
    })
}

fn port_object(port: &ContainerPort) -> Value {
    let mut object = json!({"containerPort": port.port, "protocol": port.protocol.name()});
    if let Some(name) = &port.name {
        object["name"] = json!(name);
    }
    if let Some(host) = &port.host {
        object["hostPort"] = json!(host.port);
        if let Some(ip) = host.ip {
            object["hostIP"] = json!(ip.to_string());
        }
    }
    object
}

/// `80/TCP, 53/UDP` of the pod, then of the node, where a port that has none there is 0: as kubectl describes a container.
fn port_lines(out: &mut String, width: usize, ports: &[ContainerPort]) {
    let container = |port: &ContainerPort| port.port.to_string();
    let node = |port: &ContainerPort| match &port.host {
        None => "0".to_owned(),
        Some(host) => match portmap::address(host) {
            None => host.port.to_string(),
            Some(ip) => format!("{ip}:{}", host.port),
        },
    };
    let several = if ports.len() > 1 { "s" } else { "" };
    let list = |number: &dyn Fn(&ContainerPort) -> String| {
        let words = ports.iter();
        let words = words.map(|port| format!("{}/{}", number(port), port.protocol.name()));
        let words = words.collect::<Vec<_>>().join(", ");
        Some(words)
            .filter(|words| !words.is_empty())
            .into_iter()
            .collect::<Vec<_>>()
    };
    field(out, width, &format!("Port{several}"), &list(&container));
    field(out, width, &format!("Host Port{several}"), &list(&node));
}

/// `describe pod`: kubectl's head, then how the pod is wired.
#[must_use]
pub fn describe(pod: &Pod, nodes: &[Node]) -> String {
    const WIDTH: usize = 20;
    let one = |value: String| vec![value];
    let host = host_ip(pod, nodes).unwrap_or_default();
    let mut text = String::new();
    let out = &mut text;
    field(out, WIDTH, "Name", &one(pod.name.clone()));
    field(out, WIDTH, "Namespace", &one(pod.namespace.clone()));
    field(out, WIDTH, "Node", &one(format!("{}/{host}", pod.node)));
    field(out, WIDTH, "Start Time", &one(age::rfc3339(pod.created_ms)));
    field(out, WIDTH, "Labels", &label_lines(&pod.labels));
    field(
        out,
        WIDTH,
        "Annotations",
        &annotation_lines(&pod.annotations),
    );
    field(out, WIDTH, "Status", &one(status(pod).to_owned()));
    field(out, WIDTH, "IP", &ip(pod).into_iter().collect::<Vec<_>>());
    field(
        out,
        WIDTH,
        "Host Network",
        &one(pod.host_network.to_string()),
    );
    field(
        out,
        WIDTH,
        "Container ID",
        &one(format!("podwire://{}", pod.container_id)),
    );
    let command: Vec<String> = pod.command.iter().map(|words| words.join(" ")).collect();
    field(out, WIDTH, "Command", &command);
    port_lines(out, WIDTH, &pod.ports);
    field(out, WIDTH, "Restart Count", &one(pod.restarts.to_string()));
    let pid: Vec<String> = pod.pid.iter().map(ToString::to_string).collect();
    field(out, WIDTH, "Process", &pid);
    field(
        out,
        WIDTH,
        "Network namespace",
        &pod.netns.iter().cloned().collect::<Vec<_>>(),
    );
    let Some(link) = &pod.link else {
        return text;
    };
    *out += "Link:\n";
    *out += &format!(
        "  Pod side:   {}: {} {} mtu {} {}\n",
        link.ifindex, link.ifname, link.mac, link.mtu, link.addr
    );
    *out += &format!(
        "  Node side:  {}: {} {} {}\n",
        link.host_ifindex,
        link.host_ifname,
        link.host_mac,
        far_side(link)
    );
    for (side, limit) in [
        ("Ingress:", pod.bandwidth.ingress),
        ("Egress:", pod.bandwidth.egress),
    ] {
        if let Some(Limit { rate, burst }) = limit {
            *out += &format!("  {side:<11} {rate} bit/s, burst {burst} bit\n");
        }
    }
    *out += "Routes:\n";
    let mut routes: Vec<_> = link.routes.iter().collect();
    routes.sort_by_key(|route| (route.dst.network(), Reverse(route.dst.prefix_len())));
    for route in routes {
        let mut line = match route.dst.prefix_len() {
            0 => "default".to_owned(),
            32 => route.dst.addr().to_string(),
            _ => route.dst.to_string(),
        };
        if let Some(via) = route.via {
            line += &format!(" via {via}");
        }
        line += &format!(" dev {}", link.ifname);
        if route.scope == Scope::Link {
            line += " scope link";
        }
        if let Some(src) = route.src {
            line += &format!(" src {src}");
        }
        *out += &format!("  {line}\n");
    }
    text
}

/// Its address; a host of a hand-made lab may have none.
fn ip(pod: &Pod) -> Option<String> {
    (!pod.ip.is_unspecified()).then(|| pod.ip.to_string())
}

/// What the node's end of a link is.
fn far_side(link: &PodLink) -> String {
    match &link.bridge {
        Some(bridge) => format!("port of {}", bridge.name),
        None if link.by_hand => "routed".to_owned(),
        None => format!("{}/32", link.gateway),
    }
}

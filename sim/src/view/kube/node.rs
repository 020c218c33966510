//! Nodes.

use serde_json::{Map, Value, json};

use super::{Columns, Machine, NONE, VERSION, field, label_lines, labels_cell};
use crate::control::proto::NodeStatus;
use crate::model::{Node, Pod};
use crate::view::age;
use crate::view::table::Table;

const fn ready(status: &NodeStatus) -> bool {
    status.pid.is_some()
}

fn roles(node: &Node) -> Option<&'static str> {
    node.control_plane.then_some("control-plane,master")
}

fn runtime() -> String {
    format!("podwire://{}", env!("CARGO_PKG_VERSION"))
}

fn sorted(nodes: &[NodeStatus]) -> Vec<&NodeStatus> {
    let mut nodes: Vec<&NodeStatus> = nodes.iter().collect();
    nodes.sort_by(|a, b| a.node.name.cmp(&b.node.name));
    nodes
}

/// `get nodes`. A node whose process is not up is NotReady.
#[must_use]
pub fn table(nodes: &[NodeStatus], columns: Columns, machine: &Machine, now_ms: u64) -> String {
    let mut header = vec!["NAME", "STATUS", "ROLES", "AGE", "VERSION"];
    if columns.wide {
        header.extend([
            "INTERNAL-IP",
            "EXTERNAL-IP",
            "OS-IMAGE",
            "KERNEL-VERSION",
            "CONTAINER-RUNTIME",
        ]);
    }
    if columns.labels {
        header.push("LABELS");
    }
    let mut table = Table::new(header);
    for status in sorted(nodes) {
        let node = &status.node;
        let mut cells = vec![
            node.name.clone(),
            if ready(status) { "Ready" } else { "NotReady" }.to_owned(),
            roles(node).unwrap_or(NONE).to_owned(),
            age::since(node.created_ms, now_ms),
            VERSION.to_owned(),
        ];
        if columns.wide {
            cells.extend([
                node.internal_ip.to_string(),
                NONE.to_owned(),
                machine.os_image.clone(),
                machine.kernel.clone(),
                runtime(),
            ]);
        }
        if columns.labels {
            cells.push(labels_cell(&node.labels));
        }
        table.row(cells);
    }
    table.render(columns.no_header)
}

/// `-o name`
#[must_use]
pub fn name(status: &NodeStatus) -> String {
    format!("node/{}", status.node.name)
}

/// A Kubernetes Node with `pid` of its process and `netns` of its host side.
#[must_use]
pub fn object(status: &NodeStatus, machine: &Machine) -> Value {
    let node = &status.node;
    let mut labels: Map<String, Value> = node
        .labels
        .iter()
        .map(|(k, v)| (k.clone(), json!(v)))
        .collect();
    labels
        .entry("kubernetes.io/hostname")
        .or_insert_with(|| json!(node.name));
    if node.control_plane {
        labels
            .entry("node-role.kubernetes.io/control-plane")
            .or_insert_with(|| json!(""));
    }
    let mut spec = Map::new();
    if let Some(cidr) = node.pod_cidr {
        spec.insert("podCIDR".to_owned(), json!(cidr.to_string()));
        spec.insert("podCIDRs".to_owned(), json!([cidr.to_string()]));
    }
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "labels": labels,
            "creationTimestamp": age::rfc3339(node.created_ms),
        },
        "spec": spec,
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": node.internal_ip.to_string()},
                {"type": "Hostname", "address": node.name},
            ],
            "conditions": [{"type": "Ready", "status": if ready(status) { "True" } else { "False" }}],
            "nodeInfo": {
                "containerRuntimeVersion": runtime(),
                "kernelVersion": machine.kernel,
                "kubeletVersion": VERSION,
                "operatingSystem": "linux",
                "osImage": machine.os_image,
            },
        },
        "pid": status.pid,
        "netns": status.netns,
        "restarts": status.restarts,
    })
}

/// `describe node`, with the pods that it has.
#[must_use]
pub fn describe(status: &NodeStatus, pods: &[Pod], machine: &Machine, now_ms: u64) -> String {
    const WIDTH: usize = 20;
    let node = &status.node;
    let one = |value: String| vec![value];
    let mut text = String::new();
    let pid = status.pid.map(|pid| pid.to_string());
    let out = &mut text;
    field(out, WIDTH, "Name", &one(node.name.clone()));
    field(
        out,
        WIDTH,
        "Roles",
        &one(roles(node).unwrap_or(NONE).to_owned()),
    );
    field(out, WIDTH, "Labels", &label_lines(&node.labels));
    field(
        out,
        WIDTH,
        "CreationTimestamp",
        &one(age::rfc3339(node.created_ms)),
    );
    field(
        out,
        WIDTH,
        "Ready",
        &one(if ready(status) { "True" } else { "False" }.to_owned()),
    );
    field(out, WIDTH, "Process", &pid.into_iter().collect::<Vec<_>>());
    field(out, WIDTH, "Restarts", &one(status.restarts.to_string()));
    field(
        out,
        WIDTH,
        "Network namespace",
        &status.netns.iter().cloned().collect::<Vec<_>>(),
    );
    *out += "Addresses:\n";
    *out += &format!("  InternalIP:  {}\n", node.internal_ip);
    *out += &format!("  Hostname:    {}\n", node.name);
    *out += "System Info:\n";
    *out += &format!("  Kernel Version:             {}\n", machine.kernel);
    *out += &format!("  OS Image:                   {}\n", machine.os_image);
    *out += &format!("  Container Runtime Version:  {}\n", runtime());
    *out += &format!("  Kubelet Version:            {VERSION}\n");
    let cidr: Vec<String> = node.pod_cidr.iter().map(ToString::to_string).collect();
    field(out, WIDTH, "PodCIDR", &cidr);
    field(out, WIDTH, "PodCIDRs", &cidr);
    let mut own: Vec<&Pod> = pods.iter().filter(|pod| pod.node == node.name).collect();
    own.sort_by_key(|pod| (&pod.namespace, &pod.name));
    field(
        out,
        WIDTH,
        "Pods",
        &one(format!("({} in total)", own.len())),
    );
    let mut table = Table::new(["  Namespace", "Name", "IP", "Age"]);
    for pod in own {
        table.row([
            format!("  {}", pod.namespace),
            pod.name.clone(),
            pod.ip.to_string(),
            age::since(pod.created_ms, now_ms),
        ]);
    }
    if !table.is_empty() {
        *out += &table.render(false);
    }
    text
}

//! `get` and `describe`: nodes, pods and Calico's resources as kubectl prints them.
//!
//! Rows come out by namespace and name whatever order they are given in, as the API server lists them. Objects (`-o
//! json|yaml`) have Kubernetes' shape with two keys more at the top: `pid` and `netns`.

mod calico;
mod custom;
mod node;
mod object;
mod pod;
mod policy;
mod select;
mod selector;
mod service;

pub use calico::{
    POOL, block_object, blocks, node_object as calico_node_object, nodes as calico_nodes,
    pool_object, pools,
};
pub use custom::describe as describe_object;
pub use node::{
    describe as describe_node, name as node_name, object as node_object, table as nodes,
};
pub use object::{object, table as objects};
pub use pod::{describe as describe_pod, name as pod_name, object as pod_object, table as pods};
pub use policy::describe as describe_policy;
pub use select::{ParseSelectorError, Selector};
pub use service::{describe as describe_service, describe_namespace, describe_slice};

use indexmap::IndexMap;
use serde_json::{Value, json};

/// Facts about this machine that node rows show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// `PRETTY_NAME` of /etc/os-release.
    pub os_image: String,
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
}

/// What VERSION and CONTAINER-RUNTIME show: this program's version, as nothing else runs here.
pub const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// Shown for what is absent.
const NONE: &str = "<none>";

/// Columns beyond the usual ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// `-o wide`
    pub wide: bool,
    /// `-A`: a namespace column.
    pub namespace: bool,
    /// `--show-labels`
    pub labels: bool,
    /// `--no-headers`
    pub no_header: bool,
}

/// A `v1` List as kubectl prints several objects.
#[must_use]
pub fn list(items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": items, "metadata": {"resourceVersion": ""}})
}

/// JSON with kubectl's four spaces and a final newline.
#[must_use]
pub fn to_json(value: &Value) -> String {
    let mut bytes = Vec::new();
    let layout = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut writer = serde_json::Serializer::with_formatter(&mut bytes, layout);
    serde::Serialize::serialize(value, &mut writer)
        .expect("a JSON value always serializes to memory");
    bytes.push(b'\n');
    String::from_utf8(bytes).expect("serde_json writes UTF-8")
}

/// The same as YAML.
#[must_use]
pub fn to_yaml(value: &Value) -> String {
    let text = serde_saphyr::to_string(value).expect("a JSON value always serializes to YAML");
    if text.ends_with('\n') {
        text
    } else {
        text + "\n"
    }
}

fn labels_cell(labels: &IndexMap<String, String>) -> String {
    if labels.is_empty() {
        return NONE.to_owned();
    }
    let mut pairs: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    pairs.sort();
    pairs.join(",")
}

/// `Title:` and value in describe's two columns; further values go below the first.
fn field(text: &mut String, width: usize, title: &str, values: &[String]) {
    let title = format!("{title}:");
    match values {
        [] => *text += &format!("{title:<width$}{NONE}\n"),
        [first, rest @ ..] => {
            *text += &format!("{title:<width$}{first}\n");
            for value in rest {
                *text += &format!("{:width$}{value}\n", "");
            }
        }
    }
}

/// Annotations as describe lists them.
fn annotation_lines(annotations: &IndexMap<String, String>) -> Vec<String> {
    let mut lines: Vec<String> = annotations
        .iter()
        .map(|(k, v)| format!("{k}: {v}"))
        .collect();
    lines.sort();
    lines
}

fn label_lines(labels: &IndexMap<String, String>) -> Vec<String> {
    let mut pairs: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    pairs.sort();
    pairs
}

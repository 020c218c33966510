//! `podwire ps`: the labs that run.

use serde_json::{Value, json};

use super::age;
use super::table::Table;
use crate::control::proto::Status;
use crate::spec::Backend;

/// The word for a back end, as `--backend` takes it.
#[must_use]
pub const fn backend(backend: Backend) -> &'static str {
    match backend {
        Backend::Tap => "tap",
        Backend::Packet => "packet",
        Backend::Inproc => "inproc",
    }
}

/// One line per lab, by name.
#[must_use]
pub fn table(labs: &[Status], now_ms: u64, wide: bool) -> String {
    let mut header = vec![
        "NAME", "PRESET", "BACKEND", "NODES", "PODS", "READY", "UPTIME",
    ];
    if wide {
        header.push("ROOTLESS");
    }
    let mut table = Table::new(header);
    for lab in sorted(labs) {
        let mut cells = vec![
            lab.name.clone(),
            lab.preset.name().to_owned(),
            backend(lab.backend).to_owned(),
            lab.nodes.to_string(),
            lab.pods.to_string(),
            lab.ready.to_string(),
            age::since(lab.started_ms, now_ms),
        ];
        if wide {
            cells.push(lab.rootless.to_string());
        }
        table.row(cells);
    }
    table.render(false)
}

/// The same as a list of objects.
#[must_use]
pub fn object(labs: &[Status]) -> Value {
    let items: Vec<Value> = sorted(labs)
        .into_iter()
        .map(|lab| {
            json!({
                "apiVersion": "podwire/v1",
                "kind": "LabStatus",
                "metadata": {"name": lab.name, "creationTimestamp": age::rfc3339(lab.started_ms)},
                "status": {
                    "preset": lab.preset.name(),
                    "backend": backend(lab.backend),
                    "nodes": lab.nodes,
                    "pods": lab.pods,
                    "ready": lab.ready,
                    "rootless": lab.rootless,
                },
            })
        })
        .collect();
    json!({"apiVersion": "podwire/v1", "kind": "LabStatusList", "items": items})
}

/// The labs by name.
#[must_use]
pub fn sorted(labs: &[Status]) -> Vec<&Status> {
    let mut labs: Vec<&Status> = labs.iter().collect();
    labs.sort_by(|a, b| a.name.cmp(&b.name));
    labs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Preset;

    fn lab(name: &str) -> Status {
        Status {
            name: name.to_owned(),
            preset: Preset::Kindnet,
            backend: Backend::Tap,
            nodes: 3,
            pods: 12,
            started_ms: 1_000,
            ready: true,
            rootless: false,
        }
    }

    #[test]
    fn labs_are_listed_by_name_with_their_uptime() {
        assert_eq!(
            table(&[lab("b"), lab("a")], 415_000, false),
            "NAME   PRESET    BACKEND   NODES   PODS   READY   UPTIME\n\
             a      kindnet   tap       3       12     true    6m54s\n\
             b      kindnet   tap       3       12     true    6m54s\n"
        );
    }

    #[test]
    fn the_object_carries_version_and_kind() {
        let list = object(&[lab("a")]);
        assert_eq!(list["kind"], "LabStatusList");
        assert_eq!(list["items"][0]["metadata"]["name"], "a");
        assert_eq!(list["items"][0]["status"]["backend"], "tap");
    }
}

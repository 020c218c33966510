//! `podwire apply`, `create` and `delete -f`

use clap::Args;

use super::failure::{FAILED, INVALID};
use super::node::change;
use super::target::{nodes, pods};
use super::ui::Ui;
use super::{Failure, Global};
use crate::client::Client;
use crate::control::proto::Request;
use crate::kube::{Object, ObjectKind};
use crate::lab::Source;
use crate::manifest::{self, Manifest, NodeManifest};
use crate::model::{Node, Pod};
use crate::portmap;
use crate::spec::PodSpec;

/// Creates what manifests declare.
#[derive(Args, Debug)]
pub(super) struct Apply {
    /// Kubernetes manifests: a file, a directory, or - for standard input; may be repeated
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    files: Vec<String>,
}

/// What to do with something that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existing {
    /// `apply`: fine when it is as declared.
    Accept,
    /// `create`: an error, which the daemon gives.
    Refuse,
}

fn load(files: &[String]) -> Result<Vec<Manifest>, Failure> {
    let mut sources = Vec::new();
    for file in files {
        sources.extend(Source::open(file)?);
    }
    Ok(manifest::load(&sources)?)
}

impl Apply {
    pub(super) fn run(&self, global: &Global, existing: Existing, ui: &Ui) -> Result<u8, Failure> {
        let mut manifests = load(&self.files)?;
        let mut client = Client::find(global.lab.as_deref())?;
        // Nodes first: pods may name them. Policies stand before the pods that they isolate. The order is else that of the files.
        manifests.sort_by_key(|manifest| match manifest {
            Manifest::Node(_) => 0,
            Manifest::Object(_) => 1,
            Manifest::Pod(_) => 2,
        });
        let mut first = None;
        for manifest in manifests {
            if let Err(failure) = one(&mut client, manifest, existing, ui) {
                // As with kubectl, what is wrong with one object doesn't keep the others.
                ui.error(&failure);
                first.get_or_insert(failure.code);
            }
        }
        Ok(first.unwrap_or(0))
    }
}

fn one(
    client: &mut Client,
    manifest: Manifest,
    existing: Existing,
    ui: &Ui,
) -> Result<(), Failure> {
    match manifest {
        Manifest::Object(object) => {
            let create = existing == Existing::Refuse;
            let is_policy = matches!(*object, Object::NetworkPolicy(_));
            change(client, &Request::ApplyObject { object, create }, ui)?;
            if is_policy {
                super::objects::say_when_ignored(client, ui)?;
            }
            Ok(())
        }
        Manifest::Node(node) => {
            let all = nodes(client)?;
            let there = all.iter().find(|status| status.node.name == node.name);
            if let Some(there) = there.filter(|_| existing == Existing::Accept) {
                return same(
                    &format!("node/{}", node.name),
                    differs_node(&node, &there.node),
                    ui,
                );
            }
            let all: Vec<Node> = all.into_iter().map(|status| status.node).collect();
            let spec = node
                .joining(&all)
                .map_err(|why| Failure::new(INVALID, why))?;
            let request = Request::AddNode {
                name: node.name,
                internal_ip: Some(spec.internal_ip),
                spec: Some(Box::new(spec)),
            };
            change(client, &request, ui)
        }
        Manifest::Pod(mut pod) => {
            let running = pods(client)?;
            let there = running
                .iter()
                .find(|p| p.namespace == pod.namespace && p.name == pod.name);
            if let Some(there) = there.filter(|_| existing == Existing::Accept) {
                let differs = differs_pod(&pod, there);
                if differs.is_none() && pod.annotations != there.annotations {
                    let request = Request::AnnotatePod {
                        namespace: pod.namespace,
                        name: pod.name,
                        annotations: pod.annotations,
                    };
                    return change(client, &request, ui);
                }
                return same(&format!("pod/{}", pod.name), differs, ui);
            }
            let nodes: Vec<Node> = nodes(client)?
                .into_iter()
                .map(|status| status.node)
                .collect();
            manifest::place([&mut *pod], &nodes, &running);
            if pod.node.is_empty() {
                return Err(Failure::new(
                    FAILED,
                    format!("no node can take pod {}", pod.name),
                ));
            }
            change(client, &Request::AddPod { pod }, ui)
        }
    }
}

fn same(name: &str, differs: Option<&str>, ui: &Ui) -> Result<(), Failure> {
    match differs {
        None => {
            ui.data(&format!("{name} unchanged\n"));
            Ok(())
        }
        Some(what) => {
            let text = format!(
                "{name} exists with another {what}, which can't be changed; delete it first"
            );
            Err(Failure::new(INVALID, text))
        }
    }
}

fn differs_node(wanted: &NodeManifest, node: &Node) -> Option<&'static str> {
    if wanted.internal_ip.is_some_and(|ip| ip != node.internal_ip) {
        return Some("address");
    }
    if wanted.pod_cidr.is_some() && wanted.pod_cidr != node.pod_cidr {
        return Some("podCIDR");
    }
    None
}

fn differs_pod(wanted: &PodSpec, pod: &Pod) -> Option<&'static str> {
    if !wanted.node.is_empty() && wanted.node != pod.node {
        return Some("node");
    }
    if wanted.ip.is_some_and(|ip| ip != pod.ip) {
        return Some("address");
    }
    if wanted.command != pod.command {
        return Some("program");
    }
    if wanted.host_network != pod.host_network {
        return Some("hostNetwork");
    }
    if !portmap::same(&wanted.ports, &pod.ports) {
        return Some("set of ports");
    }
    (wanted.labels != pod.labels).then_some("set of labels")
}

/// `delete -f`: pods first, then what is about them, then nodes.
pub(super) fn delete(files: &[String], global: &Global, ui: &Ui) -> Result<u8, Failure> {
    let mut manifests = load(files)?;
    let mut client = Client::find(global.lab.as_deref())?;
    manifests.sort_by_key(|manifest| match manifest {
        Manifest::Pod(_) => 0,
        Manifest::Object(object) if object.kind() != ObjectKind::Namespace => 1,
        Manifest::Object(_) => 2,
        Manifest::Node(_) => 3,
    });
    let mut first = None;
    for manifest in manifests {
        let request = match manifest {
            Manifest::Pod(pod) => Request::DeletePod {
                namespace: pod.namespace,
                name: pod.name,
            },
            Manifest::Node(node) => Request::DeleteNode { name: node.name },
            Manifest::Object(object) => Request::DeleteObject {
                kind: object.kind(),
                namespace: object.meta().namespace.clone(),
                name: object.meta().name.clone(),
            },
        };
        if let Err(failure) = change(&mut client, &request, ui) {
            ui.error(&failure);
            first.get_or_insert(failure.code);
        }
    }
    Ok(first.unwrap_or(0))
}

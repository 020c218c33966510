//! Namespaces, network policies, services and endpoint slices for `get` and `describe`.

use serde_json::Value;

use super::Failure;
use super::failure::{FAILED, USAGE};
use super::get::Scope;
use super::ui::Ui;
use crate::client::Client;
use crate::control::proto::{Request, Response};
use crate::kube::{Object, ObjectKind, Stored};
use crate::spec::{PolicyMode, Preset};
use crate::view::kube;

/// Objects of one kind that a command is about.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) objects: Vec<Stored>,
    /// All of the cluster: services are described with their endpoints.
    all: Vec<Stored>,
}

impl Chosen {
    /// `-o name`
    pub(super) fn names(&self) -> String {
        self.objects
            .iter()
            .map(|stored| {
                let kind = stored.object.kind().resource();
                format!("{kind}/{}\n", stored.object.meta().name)
            })
            .collect()
    }

    /// `-o json|yaml`
    pub(super) fn to_json(&self) -> Vec<Value> {
        self.objects.iter().map(kube::object).collect()
    }

    /// A block of text each.
    pub(super) fn describe(&self) -> Vec<String> {
        self.objects
            .iter()
            .map(|stored| match &stored.object {
                Object::NetworkPolicy(policy) => kube::describe_policy(policy, stored.created_ms),
                Object::Namespace(namespace) => kube::describe_namespace(namespace),
                Object::Service(service) => kube::describe_service(service, &self.all),
                Object::EndpointSlice(slice) => kube::describe_slice(slice),
            })
            .collect()
    }
}

/// All objects of the cluster.
fn all(client: &mut Client) -> Result<(Vec<Stored>, PolicyMode), Failure> {
    match client.request(&Request::Objects)? {
        Response::Objects { objects, policy } => Ok((objects, policy)),
        _ => Err(client.unexpected("objects").into()),
    }
}

/// The objects of this kind that names, namespace and labels mean. Says so when there is none, and when policies have no
/// effect.
pub(super) fn choose(
    client: &mut Client,
    kind: ObjectKind,
    names: &[String],
    scope: &Scope,
    ui: &Ui,
) -> Result<Chosen, Failure> {
    let (all, mode) = all(client)?;
    let has_namespace = kind != ObjectKind::Namespace;
    let here = |stored: &&Stored| {
        !has_namespace || scope.all_namespaces || stored.object.meta().namespace == scope.namespace
    };
    let of_kind = || all.iter().filter(|stored| stored.object.kind() == kind);
    let mut objects: Vec<Stored> = Vec::new();
    if names.is_empty() {
        let fits = |stored: &&Stored| scope.selector.fits(&stored.object.meta().labels);
        objects.extend(of_kind().filter(here).filter(fits).cloned());
    } else if scope.all_namespaces && has_namespace {
        let text = "an object cannot be named together with -A; use -n NAMESPACE";
        return Err(Failure::new(USAGE, text));
    }
    for name in names {
        let found = of_kind()
            .filter(here)
            .find(|stored| stored.object.meta().name == *name);
        let Some(found) = found else {
            let text = format!(
                "{} \"{name}\" not found{}",
                kind.plural(),
                super::target::near(
                    name,
                    of_kind()
                        .filter(here)
                        .map(|stored| stored.object.meta().name.clone())
                        .collect(),
                )
            );
            return Err(Failure::new(FAILED, text));
        };
        objects.push(found.clone());
    }
    objects.sort_by_key(|stored| stored.object.meta().key());
    if objects.is_empty() {
        ui.talk(if has_namespace && !scope.all_namespaces {
            format!("No resources found in {} namespace.", scope.namespace)
        } else {
            "No resources found".to_owned()
        });
    } else if kind == ObjectKind::NetworkPolicy && mode == PolicyMode::Ignore {
        ui.talk(ignored(preset(client)?));
    }
    Ok(Chosen { objects, all })
}

fn preset(client: &mut Client) -> Result<Preset, Failure> {
    match client.request(&Request::Status)? {
        Response::Status(status) => Ok(status.preset),
        _ => Err(client.unexpected("status").into()),
    }
}

/// What there is to say about policies that nothing enforces.
pub(super) fn ignored(preset: Preset) -> String {
    format!(
        "note: network policies are stored and have no effect, as with {} of the documents; `podwire up --network-policy enforce` changes that",
        preset.name()
    )
}

/// Says so when a policy that was just made has no effect.
pub(super) fn say_when_ignored(client: &mut Client, ui: &Ui) -> Result<(), Failure> {
    let (_, mode) = all(client)?;
    if mode == PolicyMode::Ignore {
        ui.talk(ignored(preset(client)?));
    }
    Ok(())
}

//! Namespaces, network policies, services and endpoint slices that come, change and go.
//!
//! Decides what an object may be called, what creating and changing one says, and what goes with a namespace. A policy has
//! its effect with the configuration that the same change sends to the nodes (NP-19): [`Cluster::settle`] compiles what holds
//! after every change and names the nodes for which it differs.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use router_core::PortId;
use router_core::config::nat::NatConfig;
use router_core::policy::PolicyConfig;

use super::error::did_you_mean;
use super::{Cluster, ClusterError, Effect, Outcome, tidy};
use crate::kube::{Namespace, NetworkPolicy, Object, ObjectKind, Stored};
use crate::model::{Pod, PodLink};
use crate::policy::{Input, PodFacts, compile};
use crate::service::stale;
use crate::spec::PolicyMode;

/// Namespaces that every cluster has, and that can't be deleted.
pub(super) const BUILT_IN: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Objects by kind and `namespace/name`, in the order of their creation.
pub(super) type Objects = IndexMap<(ObjectKind, String), Stored>;

/// The same but for its place.
fn same(a: &Object, b: &Object) -> bool {
    let without = |object: &Object| {
        let mut object = object.clone();
        object.meta_mut().declared_at = None;
        object
    };
    without(a) == without(b)
}

impl Cluster {
    /// Every object, namespaces that only pods name among them.
    #[must_use]
    pub fn objects(&self) -> Vec<Stored> {
        let mut objects: Vec<Stored> = self.state.objects.values().cloned().collect();
        objects.extend(self.generated_slices().into_iter().map(|slice| Stored {
            object: Object::EndpointSlice(slice),
            created_ms: self.state.created_ms,
            declared: false,
        }));
        for name in self.namespaces().keys() {
            if !self.has_namespace(name) {
                objects.push(Stored {
                    object: Object::Namespace(Namespace::plain(name)),
                    created_ms: self.state.created_ms,
                    declared: false,
                });
            }
        }
        objects
    }

    /// Whether network policies have an effect.
    #[must_use]
    pub fn policy_mode(&self) -> PolicyMode {
        self.state.policy
    }

    fn has_namespace(&self, name: &str) -> bool {
        self.state
            .objects
            .contains_key(&(ObjectKind::Namespace, format!("/{name}")))
    }

    /// Labels of every namespace: those with an object, the built-in ones, and those that pods or objects name.
    pub(super) fn namespaces(&self) -> IndexMap<String, IndexMap<String, String>> {
        let mut all: IndexMap<String, IndexMap<String, String>> = IndexMap::new();
        let written = self.state.objects.values();
        for stored in written.clone() {
            if let Object::Namespace(namespace) = &stored.object {
                all.insert(namespace.meta.name.clone(), namespace.meta.labels.clone());
            }
        }
        let named = written
            .map(|stored| stored.object.meta().namespace.as_str())
            .filter(|name| !name.is_empty())
            .chain(
                self.state
                    .pods
                    .values()
                    .map(|pod| pod.pod.namespace.as_str()),
            )
            .chain(BUILT_IN);
        for name in named {
            if !all.contains_key(name) {
                all.insert(name.to_owned(), Namespace::plain(name).meta.labels);
            }
        }
        all
    }

    /// Creates an object, or changes it. With `create` one that is there is an error.
    ///
    /// # Errors
    /// When it can't be; nothing has changed then.
    pub fn apply_object(
        &mut self,
        object: Object,
        create: bool,
        now_ms: u64,
    ) -> Result<Outcome, ClusterError> {
        let mut outcome = Outcome::default();
        let key = (object.kind(), object.meta().key());
        if create && self.state.objects.contains_key(&key) {
            return Err(ClusterError::ObjectExists {
                plural: object.kind().plural(),
                name: object.meta().name.clone(),
            });
        }
        self.put_object(object, false, now_ms, &mut outcome)?;
        self.settle(&mut outcome);
        Ok(outcome)
    }

    /// Deletes an object; with a namespace everything in it.
    ///
    /// # Errors
    /// When there is none, or it is needed.
    pub fn delete_object(
        &mut self,
        kind: ObjectKind,
        namespace: &str,
        name: &str,
    ) -> Result<Outcome, ClusterError> {
        let mut outcome = Outcome::default();
        self.remove_object(kind, namespace, name, &mut outcome)?;
        self.settle(&mut outcome);
        Ok(outcome)
    }

    pub(super) fn put_object(
        &mut self,
        object: Object,
        declared: bool,
        now_ms: u64,
        outcome: &mut Outcome,
    ) -> Result<(), ClusterError> {
        let object = self.with_addresses(object)?;
        let kind = object.kind();
        let name = object.meta().name.clone();
        let key = (kind, object.meta().key());
        let title = format!("{}/{name}", kind.resource());
        match self.state.objects.get_mut(&key) {
            Some(there) => {
                there.declared |= declared;
                if same(&there.object, &object) {
                    if !declared {
                        outcome.line(format!("{title} unchanged"));
                    }
                } else {
                    there.object = object;
                    outcome.line(format!("{title} configured"));
                }
            }
            None => {
                let stored = Stored {
                    object,
                    created_ms: now_ms,
                    declared,
                };
                self.state.objects.insert(key, stored);
                outcome.line(format!("{title} created"));
            }
        }
        Ok(())
    }

    pub(super) fn remove_object(
        &mut self,
        kind: ObjectKind,
        namespace: &str,
        name: &str,
        outcome: &mut Outcome,
    ) -> Result<(), ClusterError> {
        let namespace = if kind == ObjectKind::Namespace {
            ""
        } else {
            namespace
        };
        if kind == ObjectKind::Namespace {
            self.empty_namespace(name, outcome)?;
        }
        let key = (kind, format!("{namespace}/{name}"));
        if self.state.objects.shift_remove(&key).is_none() && kind != ObjectKind::Namespace {
            let names = self
                .state
                .objects
                .values()
                .filter(|stored| stored.object.kind() == kind)
                .map(|stored| stored.object.meta())
                .filter(|meta| meta.namespace == namespace)
                .map(|meta| meta.name.as_str());
            return Err(ClusterError::NoSuchObject {
                plural: kind.plural(),
                name: name.to_owned(),
                hint: did_you_mean(name, names),
            });
        }
        outcome.line(format!("{} \"{name}\" deleted", kind.resource()));
        Ok(())
    }

    /// Takes away what is in a namespace (NP-24).
    fn empty_namespace(&mut self, name: &str, outcome: &mut Outcome) -> Result<(), ClusterError> {
        if BUILT_IN.contains(&name) {
            return Err(ClusterError::Protected(name.to_owned()));
        }
        let all = self.namespaces();
        if !all.contains_key(name) {
            return Err(ClusterError::NoSuchObject {
                plural: ObjectKind::Namespace.plural(),
                name: name.to_owned(),
                hint: did_you_mean(name, all.keys().map(String::as_str)),
            });
        }
        let pods: Vec<String> = self
            .state
            .pods
            .values()
            .filter(|pod| pod.pod.namespace == name)
            .map(|pod| pod.pod.name.clone())
            .collect();
        for pod in pods {
            self.remove_pod(name, &pod, outcome)?;
        }
        self.state
            .objects
            .retain(|_, stored| stored.object.meta().namespace != name);
        Ok(())
    }

    /// Brings objects to what a lab file declares: see [`Cluster::converge`].
    pub(super) fn converge_objects(
        &mut self,
        wanted: &[Object],
        now_ms: u64,
        outcome: &mut Outcome,
    ) -> Result<(), ClusterError> {
        for (kind, namespace, name) in self.stale_objects(wanted) {
            if kind == ObjectKind::Namespace {
                // What is in it is declared by itself, or was made by hand and stays.
                self.state.objects.shift_remove(&(kind, format!("/{name}")));
                outcome.line(format!("namespace \"{name}\" deleted"));
            } else {
                self.remove_object(kind, &namespace, &name, outcome)?;
            }
        }
        for object in wanted {
            self.put_object(object.clone(), true, now_ms, outcome)?;
        }
        Ok(())
    }

    /// Objects that the file declared before and declares no more.
    fn stale_objects(&self, wanted: &[Object]) -> Vec<(ObjectKind, String, String)> {
        let wanted = |key: &(ObjectKind, String)| {
            wanted
                .iter()
                .any(|object| object.kind() == key.0 && object.meta().key() == key.1)
        };
        self.state
            .objects
            .iter()
            .filter(|(key, stored)| stored.declared && !wanted(key))
            .map(|(key, stored)| {
                let meta = stored.object.meta();
                (key.0, meta.namespace.clone(), meta.name.clone())
            })
            .collect()
    }

    /// What [`Cluster::converge_objects`] would do, a line each.
    pub(super) fn plan_objects(&self, wanted: &[Object]) -> Vec<String> {
        let mut lines: Vec<String> = self
            .stale_objects(wanted)
            .into_iter()
            .map(|(kind, _, name)| format!("{}/{name} would be deleted", kind.resource()))
            .collect();
        for object in wanted {
            let title = format!("{}/{}", object.kind().resource(), object.meta().name);
            match self
                .state
                .objects
                .get(&(object.kind(), object.meta().key()))
            {
                None => lines.push(format!("{title} would be created")),
                Some(there) if !same(&there.object, object) => {
                    lines.push(format!("{title} would be configured"));
                }
                Some(_) => {}
            }
        }
        lines
    }

    /// The last step of every change: compiles policies for the state that is now, and puts the effects in order.
    pub(super) fn settle(&mut self, outcome: &mut Outcome) {
        let compiled = self.compile_policies();
        let portals = self.compile_services();
        let mut changed: Vec<String> = Vec::new();
        for name in self.state.nodes.keys() {
            if compiled.get(name) != self.state.compiled.get(name)
                || portals.get(name) != self.state.portals.get(name)
            {
                changed.push(name.clone());
            }
        }
        let none = NatConfig::default();
        for (node, old) in &self.state.portals {
            for filter in stale(old, portals.get(node).unwrap_or(&none)) {
                let node = node.clone();
                outcome.effect(Effect::FlushSessions { node, filter });
            }
        }
        self.state.compiled = compiled;
        self.state.portals = portals;
        for name in changed {
            if let Some(node) = self.state.nodes.get_mut(&name) {
                node.epoch += 1;
                let node = name.clone();
                outcome.effect(Effect::Configure { node });
                outcome.effect(Effect::HostSide { node: name });
            }
        }
        outcome.effects = tidy(std::mem::take(&mut outcome.effects));
    }

    /// The port by which the node's router reaches a pod: that of its link, or of the bridge that the link is a port of. What
    /// pods of one bridge say to each other stays on it and is not judged.
    pub(super) fn attachment(&self, pod: &Pod, link: &PodLink) -> PortId {
        let ifaces = self
            .state
            .nodes
            .get(&pod.node)
            .map_or(&[][..], |node| node.node.ifaces.as_slice());
        let own = ifaces.iter().find(|iface| iface.port == Some(link.port));
        own.and_then(|iface| iface.master.as_ref())
            .and_then(|master| ifaces.iter().find(|iface| iface.name == *master))
            .and_then(|bridge| bridge.port)
            .unwrap_or(link.port)
    }

    fn compile_policies(&self) -> BTreeMap<String, PolicyConfig> {
        let policies: Vec<&NetworkPolicy> = self
            .state
            .objects
            .values()
            .filter_map(|stored| match &stored.object {
                Object::NetworkPolicy(policy) => Some(policy),
                _ => None,
            })
            .collect();
        if policies.is_empty() || self.state.policy == PolicyMode::Ignore {
            return BTreeMap::new();
        }
        let pods: Vec<PodFacts<'_>> = self
            .state
            .pods
            .values()
            .map(|state| PodFacts {
                namespace: &state.pod.namespace,
                labels: &state.pod.labels,
                ip: state.pod.ip,
                node: &state.pod.node,
                port: state
                    .pod
                    .link
                    .as_ref()
                    .map(|link| self.attachment(&state.pod, link)),
                ports: &state.spec.ports,
            })
            .collect();
        compile(&Input {
            pods: &pods,
            namespaces: &self.namespaces(),
            policies: &policies,
            flush_on_change: self.state.network.flush_on_policy_change,
        })
    }
}

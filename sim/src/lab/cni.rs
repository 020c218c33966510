//! Which CNI network pods will get, as far as the lab file can tell (MIX-1).
//!
//! Decides by name, as the cluster does when it makes a pod (`cluster/cni.rs`), so that a pod's address can be checked
//! where it was written. Files that somebody puts there later are not foreseen.

use std::collections::HashMap;

use super::conflist;
use super::diagnostics::{At, Sink, hint};
use super::preset::Defaults;
use super::written::PodFile;
use crate::cluster::cni;
use crate::spec::{BridgeNetwork, NetworkSpec};

/// The configurations of a node.
pub(super) struct Cni {
    /// The first of them.
    first: Option<String>,
    names: Vec<String>,
    bridges: HashMap<String, BridgeNetwork>,
}

impl Cni {
    /// Reads those that a pod can get: the first, and any that is good. What is wrong with the first is the lab's mistake.
    pub(super) fn new(network: &NetworkSpec, preset: &Defaults, sink: &mut Sink<'_>) -> Self {
        let mut names: Vec<String> = network
            .cni_extra_files
            .keys()
            .map(String::as_str)
            .chain([preset.conflist])
            .filter(|name| cni::is_configuration(name))
            .map(str::to_owned)
            .collect();
        names.sort();
        let first = names.first().cloned();
        let mut bridges = HashMap::new();
        for (name, text) in &network.cni_extra_files {
            if !names.contains(name) {
                continue;
            }
            match conflist::parse(name, text) {
                Ok(found) => bridges.extend(found.bridge.map(|bridge| (name.clone(), bridge))),
                Err(errors) if first.as_ref() == Some(name) => {
                    sink.error_at(None, format!("CNI configuration {name}: {errors}"));
                }
                // Nobody reads it.
                Err(_) => {}
            }
        }
        Self {
            first,
            names,
            bridges,
        }
    }

    /// The bridge network of a pod; none is the preset's own.
    pub(super) fn of(&self, pod: &PodFile) -> Option<&BridgeNetwork> {
        let name = pod.cni.as_ref().map(|at| &at.value);
        self.bridges.get(name.or(self.first.as_ref())?)
    }

    /// A pod can name only a configuration that is there. False when it is not.
    pub(super) fn check(&self, name: &At<String>, sink: &mut Sink<'_>) -> bool {
        let known = self.names.contains(&name.value);
        if !known {
            let hint = hint(&name.value, self.names.iter().map(String::as_str));
            let message = format!("no CNI configuration \"{}\" on the nodes{hint}", name.value);
            sink.error(name.pos, message);
        }
        known
    }
}

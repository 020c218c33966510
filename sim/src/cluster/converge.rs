//! From the state that is to the state that a lab file declares.
//!
//! Decides what is kept, added, made anew and removed: what the file declared before and declares no more goes, what was
//! made by hand stays. Either all of it happens or nothing: state and IPAM files are put back after an error.

use indexmap::IndexMap;

use super::{Cluster, ClusterError, Outcome, key, same_pod};
use crate::spec::{LabSpec, NetworkSpec, NodeSpec, PodSpec};

impl Cluster {
    /// Brings the cluster to the state of `spec`: what is new is added, what the file declared before and declares no more
    /// is removed, what changed is made anew. Pods that were made by hand stay.
    ///
    /// # Errors
    /// When that contradicts itself or needs a restart; nothing has changed then.
    pub fn converge(&mut self, spec: &LabSpec, now_ms: u64) -> Result<Outcome, ClusterError> {
        let needs_restart = |what| Err(ClusterError::NeedsRestart { what });
        if spec.preset != self.state.preset {
            return needs_restart("the preset");
        }
        if spec.seed != self.state.seed {
            return needs_restart("the seed");
        }
        // How connections are tracked can change while they are; but the table is made once.
        let with_new_tracking = NetworkSpec {
            conntrack: spec.network.conntrack.clone(),
            ..self.state.network.clone()
        };
        if spec.network != with_new_tracking {
            return needs_restart("the network's parameters");
        }
        if spec.network.conntrack.limit() > self.state.network.conntrack.limit() {
            return needs_restart("a larger conntrack.max");
        }
        let saved_state = self.state.clone();
        let mut saved_ipam = Vec::new();
        for (name, state) in &self.state.nodes {
            if let Some(ipam) = &state.ipam {
                let saved = ipam.save().map_err(|source| ClusterError::Range {
                    node: name.clone(),
                    source,
                })?;
                saved_ipam.push((ipam.clone(), saved));
            }
        }
        let result = self.try_converge(spec, now_ms);
        if result.is_err() {
            self.state = saved_state;
            for (ipam, saved) in saved_ipam {
                if let Err(error) = ipam.restore(&saved) {
                    tracing::error!("put IPAM state back: {error}");
                }
            }
            if let Some(Err(error)) = self.state.calico.as_ref().map(|it| it.ipam.rewrite()) {
                tracing::error!("put IPAM state back: {error}");
            }
        }
        result
    }

    pub(super) fn try_converge(
        &mut self,
        spec: &LabSpec,
        now_ms: u64,
    ) -> Result<Outcome, ClusterError> {
        let mut outcome = Outcome::default();
        self.state.now_ms = now_ms;
        let wanted_nodes: IndexMap<&str, &NodeSpec> = spec
            .nodes
            .iter()
            .map(|node| (node.name.as_str(), node))
            .collect();
        let wanted_pods: IndexMap<String, &PodSpec> = spec
            .pods
            .iter()
            .map(|pod| (key(&pod.namespace, &pod.name), pod))
            .collect();
        let mut evicted = Vec::new();
        for name in self.state.nodes.keys().cloned().collect::<Vec<_>>() {
            let state = &mut self.state.nodes[&name];
            let Some(wanted) = wanted_nodes.get(name.as_str()) else {
                if state.declared {
                    self.remove_node(&name, &mut outcome)?;
                }
                continue;
            };
            state.declared = true;
            let have = &state.spec;
            if **wanted == *have {
                continue;
            }
            let only_cidr = NodeSpec {
                pod_cidr: wanted.pod_cidr,
                ..have.clone()
            };
            if **wanted == only_cidr {
                self.change_pod_cidr(&name, wanted.pod_cidr, &mut outcome)?;
            } else {
                // Pods made by hand come back on the changed node.
                evicted.extend(
                    self.state
                        .pods
                        .values()
                        .filter(|state| state.pod.node == name && !state.declared)
                        .map(|state| state.spec.clone()),
                );
                self.remove_node(&name, &mut outcome)?;
            }
        }
        let stale: Vec<(String, String)> = self
            .state
            .pods
            .iter()
            .filter(|(key, state)| match wanted_pods.get(*key) {
                Some(wanted) => !same_pod(wanted, &state.spec),
                None => state.declared,
            })
            .map(|(_, state)| (state.pod.namespace.clone(), state.pod.name.clone()))
            .collect();
        for (namespace, name) in stale {
            self.remove_pod(&namespace, &name, &mut outcome)?;
        }
        for node in &spec.nodes {
            if !self.state.nodes.contains_key(&node.name) {
                self.insert_node(node, true, now_ms, &mut outcome)?;
            }
        }
        self.start_calico()?;
        for (key, pod) in &wanted_pods {
            match self.state.pods.get_mut(key) {
                Some(state) => state.declared = true,
                None => self.insert_pod(pod, true, now_ms, &mut outcome)?,
            }
        }
        for pod in &evicted {
            if !self
                .state
                .pods
                .contains_key(&key(&pod.namespace, &pod.name))
            {
                self.insert_pod(pod, false, now_ms, &mut outcome)?;
            }
        }
        self.converge_objects(&spec.objects, now_ms, &mut outcome)?;
        self.state.policy = spec.policy;
        if self.state.network.conntrack != spec.network.conntrack {
            self.state.network.conntrack = spec.network.conntrack.clone();
            for name in self.state.nodes.keys().cloned().collect::<Vec<_>>() {
                self.reconfigure(&name, &mut outcome);
            }
        }
        self.run_controllers(&mut outcome);
        if let Some(failed) = self.declared_routes(&mut outcome).into_iter().next() {
            return Err(ClusterError::Route(failed));
        }
        self.settle(&mut outcome);
        Ok(outcome)
    }
}

//! Limits of pods' links: from where they come, and how they change (CAL-34).
//!
//! The plugin sets them when a pod is made and never again. Felix follows a pod's annotations while it runs, so with the
//! preset `calico` they change at once; elsewhere a pod keeps the limits it was made with, and another set is refused.

use indexmap::IndexMap;

use super::{Cluster, ClusterError, Outcome, key};
use crate::bandwidth::Bandwidth;
use crate::spec::{BridgeNetwork, PodSpec, Preset};

impl Cluster {
    /// Limits of a pod in this network, none being the preset's own: the conflist's, else those of its annotations. A pod
    /// without a link has none.
    pub(super) fn bandwidth(
        &self,
        spec: &PodSpec,
        network: Option<&BridgeNetwork>,
    ) -> Result<Bandwidth, ClusterError> {
        let asked = Bandwidth::of_annotations(&spec.annotations).map_err(|wrong| {
            let why: Vec<String> = wrong
                .iter()
                .map(|(key, why)| format!("{key}: {why}"))
                .collect();
            ClusterError::Annotation {
                pod: spec.name.clone(),
                why: why.join("; "),
            }
        })?;
        if spec.host_network {
            return Ok(Bandwidth::default());
        }
        let stated = network.map_or(self.state.network.bandwidth, |network| network.bandwidth);
        Ok(if stated.is_unlimited() { asked } else { stated })
    }

    /// Gives a pod other annotations, as `apply` does with a manifest that has them.
    ///
    /// # Errors
    /// When there is no such pod, or its limits would have to change and can't; nothing has changed then.
    pub fn annotate_pod(
        &mut self,
        namespace: &str,
        name: &str,
        annotations: IndexMap<String, String>,
    ) -> Result<Outcome, ClusterError> {
        let key = key(namespace, name);
        let Some(state) = self.state.pods.get(&key) else {
            return Err(self.no_such_pod(namespace, name));
        };
        let spec = PodSpec {
            annotations: annotations.clone(),
            ..state.spec.clone()
        };
        let limits = self.bandwidth(&spec, state.network.as_ref())?;
        let changed = limits != state.pod.bandwidth;
        if changed && self.state.preset != Preset::Calico {
            return Err(ClusterError::FixedBandwidth {
                pod: name.to_owned(),
                preset: self.state.preset.name(),
            });
        }
        let mut outcome = Outcome::default();
        let node = spec.node.clone();
        if let Some(state) = self.state.pods.get_mut(&key) {
            state.spec = spec;
            state.pod.annotations = annotations;
            state.pod.bandwidth = limits;
        }
        if changed {
            self.reconfigure(&node, &mut outcome);
        }
        outcome.line(format!("pod/{name} configured"));
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use router_core::config::Shape;

    use super::*;
    use crate::bandwidth::Limit;
    use crate::cluster::Effect;
    use crate::lab::{self, Overrides};
    use crate::spec::LabSpec;
    use crate::testing::TempDir;

    fn lab(preset: &str) -> LabSpec {
        let overrides = Overrides {
            preset: Some(preset.to_owned()),
            nodes: None,
            name: Some("limits".to_owned()),
            network_policy: None,
            offload: None,
            workers: None,
        };
        lab::load(&[], &overrides).expect("the preset is valid")
    }

    fn annotations(ingress: &str) -> IndexMap<String, String> {
        let pair = |(k, v): (&str, &str)| (k.to_owned(), v.to_owned());
        [("kubernetes.io/ingress-bandwidth", ingress)]
            .map(pair)
            .into()
    }

    fn pod(node: &str, ingress: &str) -> PodSpec {
        PodSpec {
            namespace: "default".to_owned(),
            name: "slow".to_owned(),
            node: node.to_owned(),
            annotations: annotations(ingress),
            ..PodSpec::default()
        }
    }

    /// The limits of the port of this pod's link, and those of all other ports.
    fn shapes(cluster: &Cluster) -> (Shape, Vec<Shape>) {
        let pod = cluster.pod("default", "slow").unwrap();
        let port = pod.link.as_ref().unwrap().port;
        let ports = cluster.snapshot(&pod.node).unwrap().ports;
        let (its, others): (Vec<_>, Vec<_>) = ports.iter().partition(|p| p.id == port);
        let shape = |ports: Vec<&router_core::config::PortConfig>| {
            ports.iter().map(|port| port.shape).collect::<Vec<_>>()
        };
        (shape(its)[0], shape(others))
    }

    fn ingress(rate: u64) -> Shape {
        let ingress = Some(Limit::of_rate(rate));
        Bandwidth {
            ingress,
            egress: None,
        }
        .shape()
    }

    /// CAL-34: the annotation limits the port of the pod's link, with every preset, and no other port.
    #[test]
    fn an_annotation_limits_the_port_of_the_pod() {
        for preset in ["calico", "kindnet", "podman-bridge"] {
            let lab = lab(preset);
            let dir = TempDir::new();
            let (mut cluster, _) = Cluster::new(&lab, dir.path().to_owned(), 0).unwrap();
            cluster.add_pod(&pod(&lab.nodes[0].name, "8M"), 0).unwrap();
            let (its, others) = shapes(&cluster);
            assert_eq!(its, ingress(8_000_000), "{preset}");
            assert!(others.iter().all(|o| *o == Shape::default()), "{preset}");
            let mut bad = pod(&lab.nodes[0].name, "8X");
            bad.name = "bad".to_owned();
            let refused = cluster.add_pod(&bad, 0).unwrap_err().to_string();
            assert!(refused.contains("ingress-bandwidth: \"8X\""), "{refused}");
        }
    }

    /// CAL-34: Calico follows annotations of a pod that runs; elsewhere its limits are those it was made with, and what
    /// has nothing to do with them changes.
    #[test]
    fn only_calico_changes_limits_of_a_running_pod() {
        for (preset, live) in [("calico", true), ("kindnet", false)] {
            let lab = lab(preset);
            let dir = TempDir::new();
            let (mut cluster, _) = Cluster::new(&lab, dir.path().to_owned(), 0).unwrap();
            let node = &lab.nodes[0].name;
            cluster.add_pod(&pod(node, "8M"), 0).unwrap();
            let changed = cluster.annotate_pod("default", "slow", annotations("2M"));
            if live {
                let outcome = changed.unwrap();
                let configure = Effect::Configure { node: node.clone() };
                assert!(outcome.effects.contains(&configure), "{outcome:?}");
            } else {
                let why = changed.unwrap_err().to_string();
                assert!(why.contains("can't be changed with kindnet"), "{why}");
            }
            let rate = if live { 2_000_000 } else { 8_000_000 };
            assert_eq!(shapes(&cluster).0, ingress(rate), "{preset}");

            let now = if live { "2M" } else { "8M" };
            let mut more = annotations(now);
            more.insert("example.com/owner".to_owned(), "me".to_owned());
            let outcome = cluster.annotate_pod("default", "slow", more.clone());
            assert_eq!(outcome.unwrap().effects, []);
            assert_eq!(cluster.pod("default", "slow").unwrap().annotations, more);
        }
    }
}

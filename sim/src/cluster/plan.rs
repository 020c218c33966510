//! What converging would do, without doing it: `up --dry-run`.
//!
//! Compares as [`Cluster::converge`] does, by the specs that made the nodes and pods, and changes nothing. Doesn't ask IPAM,
//! so an address that is taken shows only when it is really wanted.

use super::{Cluster, ClusterError, key, same_pod};
use crate::spec::{LabSpec, NodeSpec, PolicyMode};

impl Cluster {
    /// One line for each node and pod that [`Cluster::converge`] would create, change or delete; none when all is as declared.
    ///
    /// # Errors
    /// When a restart would be needed.
    pub fn plan(&self, spec: &LabSpec) -> Result<Vec<String>, ClusterError> {
        let state = &self.state;
        for (same, what) in [
            (spec.preset == state.preset, "the preset"),
            (spec.seed == state.seed, "the seed"),
            (spec.network == state.network, "the network's parameters"),
        ] {
            if !same {
                return Err(ClusterError::NeedsRestart { what });
            }
        }
        let mut lines = Vec::new();
        // Nodes that go, for ever or to come back changed, take their pods with them.
        let mut gone = Vec::new();
        for (name, have) in &state.nodes {
            let line = match spec.nodes.iter().find(|node| node.name == *name) {
                None if !have.declared => continue,
                None => {
                    gone.push(name);
                    "deleted"
                }
                Some(wanted) if *wanted == have.spec => continue,
                Some(wanted) => {
                    let only_cidr = NodeSpec {
                        pod_cidr: wanted.pod_cidr,
                        ..have.spec.clone()
                    };
                    if *wanted == only_cidr {
                        "given another podCIDR"
                    } else {
                        gone.push(name);
                        "deleted and created anew"
                    }
                }
            };
            lines.push(format!("node/{name} would be {line}"));
        }
        for node in &spec.nodes {
            if !state.nodes.contains_key(&node.name) {
                lines.push(format!("node/{} would be created", node.name));
            }
        }
        let wanted_pod = |name: &str| {
            let mut pods = spec.pods.iter();
            pods.find(|pod| key(&pod.namespace, &pod.name) == name)
        };
        for (name, have) in &state.pods {
            let moved = gone.contains(&&have.pod.node);
            let line = match wanted_pod(name) {
                Some(wanted) if moved || !same_pod(wanted, &have.spec) => {
                    "deleted and created anew"
                }
                Some(_) => continue,
                None if have.declared => "deleted",
                // Made by hand: it stays, or comes back with its node.
                None if moved && spec.nodes.iter().any(|node| node.name == have.pod.node) => {
                    "deleted and created anew"
                }
                None if moved => "deleted",
                None => continue,
            };
            lines.push(format!("pod/{name} would be {line}"));
        }
        for pod in &spec.pods {
            let name = key(&pod.namespace, &pod.name);
            if !state.pods.contains_key(&name) {
                lines.push(format!("pod/{name} would be created"));
            }
        }
        lines.extend(self.plan_objects(&spec.objects));
        if spec.policy != state.policy {
            lines.push(match spec.policy {
                PolicyMode::Enforce => "network policies would be enforced".to_owned(),
                PolicyMode::Ignore => "network policies would be ignored".to_owned(),
            });
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{self, Overrides};
    use crate::spec::PodSpec;
    use crate::testing::TempDir;

    fn lab() -> LabSpec {
        let overrides = Overrides {
            preset: Some("kindnet".to_owned()),
            nodes: None,
            name: Some("plan".to_owned()),
            network_policy: None,
            offload: None,
            workers: None,
        };
        lab::load(&[], &overrides).expect("the preset is valid")
    }

    fn by_hand(name: &str, node: &str) -> PodSpec {
        PodSpec {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            node: node.to_owned(),
            ..lab().pods[0].clone()
        }
    }

    #[test]
    fn a_lab_as_declared_needs_nothing_and_pods_made_by_hand_stay() {
        let dir = TempDir::new();
        let (mut cluster, _) = Cluster::new(&lab(), dir.path().to_owned(), 0).unwrap();
        assert_eq!(cluster.plan(&lab()).unwrap(), [""; 0]);
        cluster.add_pod(&by_hand("a", "minikube-m02"), 0).unwrap();
        assert_eq!(cluster.plan(&lab()).unwrap(), [""; 0]);
    }

    /// Whatever the plan says for a file, converging to it does.
    #[test]
    fn the_plan_names_what_converging_creates_and_deletes() {
        let dir = TempDir::new();
        let (mut cluster, _) = Cluster::new(&lab(), dir.path().to_owned(), 0).unwrap();
        cluster.add_pod(&by_hand("a", "minikube-m03"), 0).unwrap();
        let mut wanted = lab();
        wanted.nodes.pop();
        wanted.pods.retain(|pod| pod.node != "minikube-m03");
        wanted.pods.push(by_hand("b", "minikube"));
        let plan = cluster.plan(&wanted).unwrap();
        assert!(
            plan.contains(&"node/minikube-m03 would be deleted".to_owned()),
            "{plan:?}"
        );
        assert!(
            plan.contains(&"pod/default/a would be deleted".to_owned()),
            "{plan:?}"
        );
        assert!(
            plan.contains(&"pod/default/b would be created".to_owned()),
            "{plan:?}"
        );
        cluster.converge(&wanted, 0).unwrap();
        assert!(cluster.node("minikube-m03").is_err());
        assert!(cluster.pod("default", "a").is_err());
        assert!(cluster.pod("default", "b").is_ok());
        assert_eq!(cluster.plan(&wanted).unwrap(), [""; 0]);
    }
}

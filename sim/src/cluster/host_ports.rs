//! Host ports of the pods: who may have which, and what a node's router and host namespace are told of them.
//!
//! The chains are made of the pods that are there, so that ADD, DEL and a second DEL (PM-9) leave nothing to be cleaned up. The
//! node's own programs reach its host ports and node ports by its addresses and by 127.0.0.1 (PM-4): see
//! [`Cluster::redirected`].

use router_core::Snapshot;

use super::node::HOST_PORT;
use super::{Cluster, ClusterError, Effect, Outcome, PodState};
use crate::conflist;
use crate::kube::ContainerPort;
use crate::pod::network::Redirected;
use crate::portmap::{self, Mapped, address, conflict};
use crate::service::node_ports;
use crate::spec::{BridgeNetwork, PodSpec, Preset};

/// Name of the network of a hand-made lab, which has no CNI.
const BY_HAND: &str = "manual";

impl Cluster {
    /// Refuses a host port that another pod of the node has (PM-8).
    pub(super) fn check_host_ports(&self, spec: &PodSpec) -> Result<(), ClusterError> {
        let here = self
            .state
            .pods
            .values()
            .filter(|state| state.pod.node == spec.node);
        for state in here {
            for wanted in &spec.ports {
                let taken = state.spec.ports.iter();
                if let Some(host) = taken.clone().find_map(|taken| conflict(wanted, taken)) {
                    return Err(ClusterError::HostPortTaken {
                        at: host.declared_at.clone(),
                        port: host.port,
                        protocol: wanted.protocol.name(),
                        pod: spec.name.clone(),
                        node: spec.node.clone(),
                        owner: state.pod.key(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Refuses host ports of a pod whose network has no plugin for them, or that has no address that they could lead to.
    pub(super) fn check_mappable(
        &self,
        spec: &PodSpec,
        network: Option<&BridgeNetwork>,
    ) -> Result<(), ClusterError> {
        let Some(host) = spec.ports.iter().find_map(|port| port.host.as_ref()) else {
            return Ok(());
        };
        let address = spec.link.as_ref().and_then(|link| link.address);
        let why = match network {
            Some(network) if network.port_map.is_none() => {
                format!("CNI network \"{}\" has no plugin portmap", network.name)
            }
            None if self.state.preset == Preset::Manual && address.is_none() => {
                "the lab file gives its link no address".to_owned()
            }
            _ => return Ok(()),
        };
        Err(ClusterError::HostPortNotMapped {
            at: host.declared_at.clone(),
            port: host.port,
            pod: spec.name.clone(),
            why,
        })
    }

    /// What goes with the coming or going of a pod with these ports (PM-7, deviation D11).
    pub(super) fn flush_host_ports(node: &str, ports: &[ContainerPort], outcome: &mut Outcome) {
        for filter in portmap::udp_filters(ports) {
            outcome.effect(Effect::FlushSessions {
                node: node.to_owned(),
                filter,
            });
        }
    }

    /// The pods of a node that have host ports, in order of creation.
    fn mapped(&self, node: &str) -> Vec<Mapped<'_>> {
        let here = self
            .state
            .pods
            .values()
            .filter(|state| state.pod.node == node);
        here.filter_map(|state| self.mapping(state)).collect()
    }

    fn mapping<'a>(&'a self, state: &'a PodState) -> Option<Mapped<'a>> {
        let link = state.pod.link.as_ref()?;
        state.pod.ports.iter().find(|port| port.host.is_some())?;
        let (network, snat) = match &state.network {
            Some(network) => (network.name.as_str(), network.port_map?),
            None if self.state.calico.is_some() => (conflist::CALICO_NETWORK, true),
            None if link.by_hand => (BY_HAND, true),
            None => (conflist::NETWORK, true),
        };
        Some(Mapped {
            pod: &state.pod,
            net: link.addr,
            network,
            snat,
            declared_at: state.spec.declared_at.as_deref(),
        })
    }

    /// Adds the plugin's chains to what the router of `node` obeys, and `route_localnet` where answers to 127.0.0.1 come from: on
    /// the links of pods with host ports, as the plugin sets it (where it masquerades), and with node ports everywhere, as kube-proxy
    /// does. Nobody else gets to 127.0.0.1 for that.
    pub(super) fn map_ports(&self, node: &str, snapshot: &mut Snapshot) {
        let mapped = self.mapped(node);
        portmap::append(&mut snapshot.nat, &mapped);
        snapshot.nat.conntrack.localnet_local_only = true;
        let everywhere = node_ports(&snapshot.nat).next().is_some();
        let links = mapped.iter().filter(|pod| pod.snat);
        let links: Vec<_> = links
            .filter_map(|pod| Some(self.attachment(pod.pod, pod.pod.link.as_ref()?)))
            .collect();
        for port in &mut snapshot.ports {
            let host = port.id == HOST_PORT && !links.is_empty();
            port.route_localnet |= everywhere || host || links.contains(&port.id);
        }
    }

    /// The ports of a node's own addresses that its host namespace leaves to the router, because rules of the nat table wait for
    /// them: there the kernel would take every address of the node for itself.
    #[must_use]
    pub fn redirected(&self, node: &str) -> Vec<Redirected> {
        let mut all: Vec<Redirected> = Vec::new();
        for pod in self.mapped(node) {
            let ports = pod.pod.ports.iter();
            all.extend(ports.filter_map(|port| {
                let host = port.host.as_ref()?;
                Some(Redirected {
                    protocol: port.protocol.number(),
                    port: host.port,
                    to: address(host),
                })
            }));
        }
        if let Some(portals) = self.state.portals.get(node) {
            all.extend(node_ports(portals).map(|(protocol, port)| Redirected {
                protocol,
                port,
                to: None,
            }));
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}

#[cfg(test)]
mod tests {
    use router_core::config::nat::NatConfig;

    use super::*;
    use crate::lab;
    use crate::portmap::parse;
    use crate::testing::TempDir;

    const NODE: &str = "minikube-m02";

    fn cluster(dir: &TempDir, preset: &str) -> Cluster {
        let overrides = lab::Overrides {
            preset: Some(preset.to_owned()),
            ..lab::Overrides::default()
        };
        let lab = lab::load(&[], &overrides).unwrap();
        let made = Cluster::new(&lab, dir.path().to_path_buf(), 0);
        made.unwrap().0
    }

    fn pod(name: &str, words: &[&str]) -> PodSpec {
        PodSpec {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            node: NODE.to_owned(),
            ports: words.iter().flat_map(|word| parse(word).unwrap()).collect(),
            ..PodSpec::default()
        }
    }

    fn nat(cluster: &Cluster) -> NatConfig {
        cluster.snapshot(NODE).unwrap().nat
    }

    /// PM-7, PM-9, INV-7: ADD writes the rules and has connections of UDP forgotten, DEL takes the one back and does the other again;
    /// what was undone after a failure, or deleted twice, leaves nothing.
    #[test]
    fn rules_come_and_go_with_the_pod() {
        for preset in ["kindnet", "calico"] {
            let dir = TempDir::new();
            let mut cluster = cluster(&dir, preset);
            let before = nat(&cluster);
            let ports_before = cluster.snapshot(NODE).unwrap().ports;
            let flushes = |effects: &[Effect]| {
                let flush = |effect: &&Effect| matches!(effect, Effect::FlushSessions { node, filter } if node == NODE && filter.dport == Some(8053) && filter.protocol == Some(17));
                effects.iter().filter(flush).count()
            };
            let web = pod("web", &["8080:80", "8053:53/udp"]);
            let added = cluster.add_pod(&web, 0).unwrap();
            assert_eq!(flushes(&added.effects), 1);
            let with = nat(&cluster);
            assert_ne!(with, before);
            assert_eq!(cluster.redirected(NODE).len(), 2);
            assert_eq!(cluster.redirected("minikube"), []);
            assert!(cluster.add_pod(&web, 0).is_err());
            assert_eq!(nat(&cluster), with);
            let deleted = cluster.delete_pod("default", "web").unwrap();
            assert_eq!(flushes(&deleted.effects), 1);
            assert_eq!(nat(&cluster), before);
            assert!(cluster.delete_pod("default", "web").is_err());
            cluster.add_pod(&web, 0).unwrap();
            cluster.rollback_pod("default", "web");
            assert_eq!(nat(&cluster), before);
            assert_eq!(cluster.snapshot(NODE).unwrap().ports, ports_before);
            assert_eq!(cluster.redirected(NODE), []);
        }
    }

    /// PM-4: route_localnet is on the link of the pod and towards the host namespace, on no other link, and nobody but the node
    /// itself gets to 127.0.0.1 by it.
    #[test]
    fn only_the_pods_link_carries_loopback() {
        let dir = TempDir::new();
        let mut cluster = cluster(&dir, "kindnet");
        cluster.add_pod(&pod("plain", &[]), 0).unwrap();
        cluster.add_pod(&pod("web", &["8080:80"]), 0).unwrap();
        let snapshot = cluster.snapshot(NODE).unwrap();
        let link = cluster
            .pod("default", "web")
            .unwrap()
            .link
            .as_ref()
            .unwrap()
            .port;
        let open: Vec<_> = snapshot
            .ports
            .iter()
            .filter(|port| port.route_localnet)
            .map(|port| port.id)
            .collect();
        assert_eq!(open.len(), 2, "{open:?}");
        assert!(open.contains(&link) && open.contains(&HOST_PORT));
        assert!(snapshot.nat.conntrack.localnet_local_only);
    }

    /// PM-8: taken is what another pod of the node has, on one of its addresses or on all, a pod with hostNetwork, too.
    #[test]
    fn a_taken_port_is_refused_with_its_owner() {
        let dir = TempDir::new();
        let mut cluster = cluster(&dir, "kindnet");
        cluster
            .add_pod(&pod("web", &["172.16.30.4:8080:80"]), 0)
            .unwrap();
        let before = nat(&cluster);
        for word in ["8080:81", "172.16.30.4:8080:80", "0.0.0.0:8080:80"] {
            let error = cluster.add_pod(&pod("late", &[word]), 0).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("hostPort 8080/TCP of pod \"late\""), "{text}");
            assert!(text.contains("belongs to pod \"default/web\""), "{text}");
        }
        assert_eq!(nat(&cluster), before);
        for (name, word) in [("udp", "8080:80/udp"), ("lo", "127.0.0.1:8080:80")] {
            cluster.add_pod(&pod(name, &[word]), 0).unwrap();
        }
        let mut of_host = pod("of-host", &["90:90"]);
        of_host.host_network = true;
        cluster.add_pod(&of_host, 0).unwrap();
        assert!(cluster.add_pod(&pod("late", &["90:80"]), 0).is_err());
        // What a pod of the host has is its own kernel's business.
        assert!(cluster.redirected(NODE).iter().all(|port| port.port != 90));
    }
}

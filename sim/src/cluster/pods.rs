//! Pods that come and go: CNI ADD and DEL.

use std::net::Ipv4Addr;

use router_core::{Filter, PortId};

use super::calico::{TUNNEL_PORT, check_route, link as calico_link};
use super::{Cluster, ClusterError, Effect, Outcome, PodState, check_name, key, link, naming};
use crate::conflist;
use crate::ipam::HostLocal;
use crate::model::{Phase, Pod, PodLink};
use crate::spec::{PodSpec, Preset};

impl Cluster {
    pub(super) fn insert_pod(
        &mut self,
        spec: &PodSpec,
        declared: bool,
        now_ms: u64,
        outcome: &mut Outcome,
    ) -> Result<(), ClusterError> {
        check_name("pod", &spec.name)?;
        check_name("namespace", &spec.namespace)?;
        let key = key(&spec.namespace, &spec.name);
        if self.state.pods.contains_key(&key) {
            return Err(ClusterError::PodExists {
                namespace: spec.namespace.clone(),
                name: spec.name.clone(),
            });
        }
        if !self.state.nodes.contains_key(&spec.node) {
            return Err(self.no_such_node(&spec.node));
        }
        self.check_host_ports(spec)?;
        let container_id = naming::container_id(self.state.seed, &key, self.state.serial);
        let mut network = None;
        let (ip, link) = if spec.host_network {
            (self.state.nodes[&spec.node].node.internal_ip, None)
        } else {
            if self.state.preset != Preset::Manual {
                network = self.cni_network(spec)?;
            }
            self.check_mappable(spec, network.as_ref())?;
            match &network {
                _ if self.state.preset == Preset::Manual => self.attach_host(spec, &key)?,
                Some(network) => {
                    let (ip, link) = self.bridge_add(spec, network, &key, &container_id)?;
                    (ip, Some(link))
                }
                None => {
                    let (ip, link) = self.cni_add(spec, &key, &container_id, now_ms)?;
                    (ip, Some(link))
                }
            }
        };
        self.state.serial += 1;
        let pod = Pod {
            namespace: spec.namespace.clone(),
            name: spec.name.clone(),
            node: spec.node.clone(),
            labels: spec.labels.clone(),
            annotations: spec.annotations.clone(),
            bandwidth: self.bandwidth(spec, network.as_ref())?,
            ip,
            host_network: spec.host_network,
            link,
            created_ms: now_ms,
            command: spec.command.clone(),
            ports: spec.ports.clone(),
            container_id,
            phase: Phase::Running,
            restarts: 0,
            pid: None,
            netns: None,
        };
        outcome.line(format!("pod/{} created", spec.name));
        outcome.effect(Effect::CreatePod {
            namespace: spec.namespace.clone(),
            name: spec.name.clone(),
        });
        if pod.link.is_some() {
            self.reconfigure(&spec.node, outcome);
            Self::flush_host_ports(&spec.node, &spec.ports, outcome);
        }
        self.declared_routes(outcome);
        self.state.pods.insert(
            key,
            PodState {
                spec: spec.clone(),
                pod,
                network,
                declared,
            },
        );
        Ok(())
    }

    pub(super) fn cni_add(
        &mut self,
        spec: &PodSpec,
        key: &str,
        container_id: &str,
        now_ms: u64,
    ) -> Result<(Ipv4Addr, PodLink), ClusterError> {
        if self.state.calico.is_some() {
            return self.calico_add(spec, key, container_id, now_ms);
        }
        let Some(state) = self.state.nodes.get_mut(&spec.node) else {
            return Err(self.no_such_node(&spec.node));
        };
        let (Some(ipam), Some(subnet)) = (&state.ipam, state.spec.pod_cidr) else {
            return Err(ClusterError::NoPodCidr {
                node: spec.node.clone(),
                pod: spec.name.clone(),
            });
        };
        let Some(next_port) = state.next_port.checked_add(1) else {
            return Err(ClusterError::PortsExhausted(spec.node.clone()));
        };
        let gateway = ipam.gateway();
        let ip = ipam
            .allocate(container_id, "eth0", spec.ip)
            .map_err(|source| ClusterError::Ipam {
                pod: spec.name.clone(),
                node: spec.node.clone(),
                source,
            })?;
        let add = link::Add {
            pod: spec,
            key,
            ip,
            subnet,
            gateway,
            port: PortId(state.next_port),
            ifindex: state.next_ifindex,
            seed: self.state.seed,
        };
        let link = link::add(&mut state.node, &self.state.network, &add);
        state.next_port = next_port;
        state.next_ifindex += 1;
        Ok((ip, link))
    }

    /// CNI ADD of the plugin `calico`.
    fn calico_add(
        &mut self,
        spec: &PodSpec,
        key: &str,
        container_id: &str,
        now_ms: u64,
    ) -> Result<(Ipv4Addr, PodLink), ClusterError> {
        let Some(state) = self.state.nodes.get_mut(&spec.node) else {
            return Err(self.no_such_node(&spec.node));
        };
        let network = &self.state.network;
        let (Some(calico), Some(calico_spec)) = (&mut self.state.calico, &network.calico) else {
            return Err(ClusterError::NoPodCidr {
                node: spec.node.clone(),
                pod: spec.name.clone(),
            });
        };
        // The last number is tunl0's.
        let next_port = state
            .next_port
            .checked_add(1)
            .filter(|next| *next < TUNNEL_PORT.0)
            .ok_or_else(|| ClusterError::PortsExhausted(spec.node.clone()))?;
        let ip = calico.assign(spec, container_id, now_ms)?;
        let dev = calico_link::host_ifname(&spec.namespace, &spec.name);
        if let Err(conflict) = check_route(&state.node, &spec.name, ip, &dev) {
            calico.release(&spec.name, container_id)?;
            return Err(conflict);
        }
        let add = link::Add {
            pod: spec,
            key,
            ip,
            subnet: ip.into(),
            gateway: calico_link::GATEWAY,
            port: PortId(state.next_port),
            ifindex: state.next_ifindex,
            seed: self.state.seed,
        };
        let link = calico_link::add(&mut state.node, network, calico_spec, &add);
        state.next_port = next_port;
        state.next_ifindex += 1;
        Ok((ip, link))
    }

    pub(super) fn remove_pod(
        &mut self,
        namespace: &str,
        name: &str,
        outcome: &mut Outcome,
    ) -> Result<(), ClusterError> {
        let key = key(namespace, name);
        let Some(state) = self.state.pods.get(&key) else {
            return Err(self.no_such_pod(namespace, name));
        };
        let (pod, network) = (state.pod.clone(), state.network.clone());
        if let Some(link) = &pod.link {
            match &network {
                _ if link.by_hand => self.detach_host(&pod, link),
                Some(network) => self.bridge_delete(&pod, link, network)?,
                None => self.cni_delete(&pod, link)?,
            }
            self.reconfigure(&pod.node, outcome);
            Self::flush_host_ports(&pod.node, &pod.ports, outcome);
            // Who gets the address next does not inherit its connections (NAT-69).
            let involves = Some(pod.ip);
            for node in self.state.nodes.keys() {
                outcome.effect(Effect::FlushSessions {
                    node: node.clone(),
                    filter: Filter {
                        involves,
                        ..Filter::default()
                    },
                });
            }
        }
        self.state.pods.shift_remove(&key);
        outcome.line(format!("pod \"{name}\" deleted"));
        outcome.effect(Effect::RemovePod { pod: Box::new(pod) });
        Ok(())
    }

    pub(super) fn cni_delete(&mut self, pod: &Pod, link: &PodLink) -> Result<(), ClusterError> {
        if let Some(calico) = &mut self.state.calico {
            calico.release(&pod.name, &pod.container_id)?;
            if let Some(state) = self.state.nodes.get_mut(&pod.node) {
                link::delete(&mut state.node, link);
            }
            return Ok(());
        }
        let data_dir = self.node_dir(&pod.node).join("ipam");
        let Some(state) = self.state.nodes.get_mut(&pod.node) else {
            return Ok(());
        };
        // The range may have changed since (KND-9); the files of the old one are in the same directory.
        let ipam = match &state.ipam {
            Some(ipam) => Ok(ipam.clone()),
            None => HostLocal::new(&data_dir, conflist::NETWORK, link.addr.trunc()),
        };
        ipam.and_then(|ipam| ipam.release(&pod.container_id, &link.ifname))
            .map_err(|source| ClusterError::Ipam {
                pod: pod.name.clone(),
                node: pod.node.clone(),
                source,
            })?;
        link::delete(&mut state.node, link);
        Ok(())
    }
}

//! Nodes that come, change and go: addresses, podCIDRs, CNI configuration.

use std::net::Ipv4Addr;

use indexmap::IndexMap;
use ipnet::Ipv4Net;
use router_core::config::NatConfig;

use super::{
    Cluster, ClusterError, Effect, NodeState, Outcome, check_name, docker, manual, masq, node,
    overlap, uplink,
};
use crate::conflist;
use crate::ipam::HostLocal;
use crate::spec::{MasqAgent, NodeSpec, Preset};

impl Cluster {
    pub(super) fn plain_node(
        &self,
        name: &str,
        internal_ip: Option<Ipv4Addr>,
    ) -> Result<NodeSpec, ClusterError> {
        let network = &self.state.network;
        let subnet = network.node_subnet;
        let highest = self
            .state
            .nodes
            .values()
            .map(|state| u32::from(state.spec.internal_ip))
            .max()
            .unwrap_or_else(|| u32::from(subnet.network()) + 1);
        let last = u32::from(subnet.broadcast());
        let internal_ip = match internal_ip {
            Some(ip) => ip,
            None => (highest.saturating_add(1)..last)
                .chain(u32::from(subnet.network()) + 1..last)
                .map(Ipv4Addr::from)
                .find(|ip| self.owner_of(*ip).is_none())
                .ok_or(ClusterError::NodeSubnetFull(subnet))?,
        };
        let taken: Vec<Ipv4Net> = self
            .state
            .nodes
            .values()
            .filter_map(|state| state.spec.pod_cidr)
            .collect();
        let length = taken.first().map_or(24, Ipv4Net::prefix_len);
        let pod_cidr = network
            .cluster_cidr
            .subnets(length)
            .ok()
            .and_then(|mut all| all.find(|cidr| taken.iter().all(|other| !overlap(*cidr, *other))));
        Ok(NodeSpec {
            name: name.to_owned(),
            internal_ip,
            addresses: vec![
                Ipv4Net::new(internal_ip, subnet.prefix_len())
                    .unwrap_or_else(|_| internal_ip.into()),
            ],
            mac: None,
            pod_cidr,
            control_plane: false,
            labels: IndexMap::new(),
            interfaces: Vec::new(),
            routes: Vec::new(),
            uplink: None,
        })
    }

    /// Who has an address of the underlay.
    pub(super) fn owner_of(&self, addr: Ipv4Addr) -> Option<String> {
        let network = &self.state.network;
        if network
            .gateway
            .as_ref()
            .is_some_and(|gateway| gateway.addr == addr)
        {
            return Some("the default gateway".into());
        }
        self.state
            .nodes
            .values()
            .find(|state| state.spec.addresses.iter().any(|net| net.addr() == addr))
            .map(|state| format!("node \"{}\"", state.spec.name))
    }

    pub(super) fn insert_node(
        &mut self,
        spec: &NodeSpec,
        declared: bool,
        now_ms: u64,
        outcome: &mut Outcome,
    ) -> Result<(), ClusterError> {
        check_name("node", &spec.name)?;
        if self.state.nodes.contains_key(&spec.name) {
            return Err(ClusterError::NodeExists(spec.name.clone()));
        }
        let subnet = self.state.network.node_subnet;
        for addr in spec
            .addresses
            .iter()
            .map(Ipv4Net::addr)
            .chain([spec.internal_ip])
        {
            if !subnet.contains(&addr) {
                return Err(ClusterError::OutsideNodeSubnet {
                    addr,
                    node: spec.name.clone(),
                    subnet,
                });
            }
            if let Some(owner) = self.owner_of(addr) {
                return Err(ClusterError::AddressTaken {
                    addr,
                    what: format!("node \"{}\"", spec.name),
                    owner,
                });
            }
        }
        let range = self.range_of(&spec.name, spec.pod_cidr)?;
        // Calico gives podCIDRs no meaning (CAL-1).
        let ipam = range.filter(|_| self.state.calico.is_none());
        let mut node = node::build(spec, &self.state.network, self.state.seed, now_ms);
        let mut nat = NatConfig::default();
        if let Some(gateway) = &self.state.network.gateway
            && self.state.network.docker_dns
        {
            docker::name_server(&mut nat, gateway.addr, self.state.seed, &spec.name);
        }
        if self.state.network.kind_masq_agent == MasqAgent::Iptables {
            masq::ensure(&mut nat, self.state.network.cluster_cidr);
        }
        let mut next_ifindex = node
            .ifaces
            .iter()
            .map(|iface| iface.index)
            .max()
            .unwrap_or(0)
            + 1;
        let mut next_port = node::FIRST_POD_PORT;
        if let Some(uplink) = &spec.uplink {
            let next = (next_ifindex, next_port);
            (next_ifindex, next_port) =
                uplink::declare(&mut node, uplink, self.state.seed, next)
                    .ok_or_else(|| ClusterError::PortsExhausted(spec.name.clone()))?;
        }
        if self.state.preset == Preset::Manual {
            let next = (next_ifindex, next_port);
            (next_ifindex, next_port) = manual::declare(&mut node, spec, self.state.seed, next)
                .ok_or_else(|| ClusterError::PortsExhausted(spec.name.clone()))?;
        }
        self.write_own_file(&spec.name, spec.pod_cidr)?;
        self.write_extra_files(&spec.name)?;
        self.state.nodes.insert(
            spec.name.clone(),
            NodeState {
                spec: spec.clone(),
                node,
                ipam,
                next_ifindex,
                next_port,
                epoch: 1,
                nat,
                masq_due_ms: now_ms + masq::INTERVAL_MS,
                neighbours: Vec::new(),
                declared,
            },
        );
        outcome.line(format!("node/{} created", spec.name));
        outcome.effect(Effect::CreateNode {
            node: spec.name.clone(),
        });
        Ok(())
    }

    /// The allocator of a podCIDR, checked against the other nodes' (but not against `node`'s own).
    pub(super) fn range_of(
        &self,
        node: &str,
        cidr: Option<Ipv4Net>,
    ) -> Result<Option<HostLocal>, ClusterError> {
        let Some(cidr) = cidr else { return Ok(None) };
        for other in self
            .state
            .nodes
            .values()
            .filter(|other| other.spec.name != node)
        {
            if let Some(other_cidr) = other.spec.pod_cidr.filter(|it| overlap(cidr, *it)) {
                return Err(ClusterError::PodCidrOverlap {
                    cidr,
                    node: node.to_owned(),
                    other_cidr,
                    other: other.spec.name.clone(),
                });
            }
        }
        HostLocal::new(&self.node_dir(node).join("ipam"), conflist::NETWORK, cidr)
            .map(Some)
            .map_err(|source| ClusterError::Range {
                node: node.to_owned(),
                source,
            })
    }

    /// kindnetd keeps its own file as it should be; Calico's install-cni writes its own once.
    pub(super) fn write_own_file(
        &self,
        node: &str,
        cidr: Option<Ipv4Net>,
    ) -> Result<(), ClusterError> {
        if let Some(calico) = &self.state.network.calico {
            let text = conflist::calico(node, calico.mtu);
            return self.write_cni_file(node, conflist::CALICO_FILE_NAME, &text);
        }
        let Some(cidr) = cidr.filter(|_| self.state.preset == Preset::Kindnet) else {
            return Ok(());
        };
        let text = conflist::kindnet(cidr, Some(self.state.network.mtu));
        self.write_cni_file(node, conflist::FILE_NAME, &text)
    }

    /// The others are there when the node is new; who changes or deletes them on it has his way.
    fn write_extra_files(&self, node: &str) -> Result<(), ClusterError> {
        let mut files = self.state.network.cni_extra_files.iter();
        files.try_for_each(|(name, content)| self.write_cni_file(node, name, content))
    }

    fn write_cni_file(&self, node: &str, name: &str, content: &str) -> Result<(), ClusterError> {
        let dir = self.node_dir(node).join("cni");
        conflist::write_if_changed(&dir, name, content)
            .map(drop)
            .map_err(|source| ClusterError::File {
                path: dir.join(name),
                source,
            })
    }

    /// KND-9: pods keep their addresses, new ones come from the new range.
    pub(super) fn change_pod_cidr(
        &mut self,
        name: &str,
        cidr: Option<Ipv4Net>,
        outcome: &mut Outcome,
    ) -> Result<(), ClusterError> {
        let range = self.range_of(name, cidr)?;
        let ipam = range.filter(|_| self.state.calico.is_none());
        self.write_own_file(name, cidr)?;
        if let Some(state) = self.state.nodes.get_mut(name) {
            state.ipam = ipam;
            state.spec.pod_cidr = cidr;
            state.node.pod_cidr = cidr;
            outcome.line(format!("node/{name} configured"));
        }
        Ok(())
    }

    pub(super) fn remove_node(
        &mut self,
        name: &str,
        outcome: &mut Outcome,
    ) -> Result<(), ClusterError> {
        self.node_state(name)?;
        let pods: Vec<(String, String)> = self
            .pods()
            .filter(|pod| pod.node == name)
            .map(|pod| (pod.namespace.clone(), pod.name.clone()))
            .collect();
        for (namespace, pod) in pods {
            self.remove_pod(&namespace, &pod, outcome)?;
        }
        if let Some(calico) = &mut self.state.calico {
            calico.leave(name)?;
        }
        self.state.nodes.shift_remove(name);
        let dir = self.node_dir(name);
        if let Err(error) = std::fs::remove_dir_all(&dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("{}: {error}", dir.display());
        }
        outcome.line(format!("node/{name} deleted"));
        outcome.effect(Effect::RemoveNode {
            node: name.to_owned(),
        });
        Ok(())
    }
}

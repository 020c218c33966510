//! The preset `calico` in the cluster: nodes get tunl0 and blocks, pods addresses of these, and BIRD's routes follow.

pub(crate) mod bird;
pub(crate) mod link;
mod nat;
#[cfg(test)]
mod packets;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::path::Path;

use indexmap::IndexMap;
use router_core::Snapshot;

use super::{Cluster, ClusterError, Outcome};
use crate::conflist;
use crate::ipam::CalicoIpam;
use crate::ipam::calico::{Allocation, Pool};
use crate::model::{IfaceKind, Node};
use crate::spec::{IpipMode, NetworkSpec, PodSpec};
use bird::{Mesh, Speaker};

/// Router port of tunl0. Pods' ports are counted from below.
pub(crate) const TUNNEL_PORT: router_core::PortId = router_core::PortId(u16::MAX - 1);

/// Interface indexes that Felix uses up for devices that it makes and removes while it starts: seed 001's first pod has tunl0's
/// index and three more.
const INDEXES_OF_FELIX: u32 = 2;

/// What the cluster keeps for Calico.
#[derive(Clone, Debug)]
pub(super) struct Calico {
    pub(super) ipam: CalicoIpam,
    pub(super) mesh: Mesh,
    /// The nodes' addresses, sorted: only these may send IPIP to a node (Felix's set `all-hosts-net`, IPIP-22).
    hosts: Vec<Ipv4Addr>,
    /// When the pool was made, milliseconds since the Unix epoch.
    pub(super) created_ms: u64,
}

impl Calico {
    /// With its files below `root`. None for a network without Calico.
    pub(super) fn new(
        network: &NetworkSpec,
        root: &Path,
        now_ms: u64,
    ) -> Result<Option<Self>, ClusterError> {
        let Some(spec) = &network.calico else {
            return Ok(None);
        };
        let pool = Pool {
            cidr: network.cluster_cidr,
            block_size: spec.block_size,
            strict_affinity: spec.strict_affinity,
            max_blocks_per_host: spec.max_blocks_per_host,
        };
        let ipam =
            CalicoIpam::open(pool, &root.join("calico")).map_err(|source| ClusterError::Pool {
                what: "the lab".into(),
                source,
            })?;
        Ok(Some(Self {
            ipam,
            mesh: Mesh::default(),
            hosts: Vec::new(),
            created_ms: now_ms,
        }))
    }

    /// Gives a node that has none its tunnel: an address of its first block (CAL-4). Returns the next free interface index.
    fn join(
        &mut self,
        node: &mut Node,
        network: &NetworkSpec,
        next_ifindex: u32,
        now_ms: u64,
    ) -> Result<u32, ClusterError> {
        let has = node
            .ifaces
            .iter()
            .any(|iface| iface.kind == IfaceKind::Ipip);
        let spec = network
            .calico
            .filter(|spec| spec.ipip_mode != IpipMode::Never && !has);
        let Some(spec) = spec else {
            return Ok(next_ifindex);
        };
        let attributes = IndexMap::from([
            ("node".to_owned(), node.name.clone()),
            ("type".to_owned(), "ipipTunnelAddress".to_owned()),
        ]);
        let allocation = Allocation {
            handle: tunnel_handle(&node.name),
            attributes,
        };
        let addr = self
            .ipam
            .assign(&node.name, &allocation, now_ms)
            .map_err(|source| ClusterError::Pool {
                what: format!("tunl0 of node \"{}\"", node.name),
                source,
            })?;
        let mtu = spec.tunnel_mtu(network.mtu);
        node.ifaces
            .push(link::tunnel(next_ifindex, TUNNEL_PORT, mtu, addr));
        Ok(next_ifindex + 1 + INDEXES_OF_FELIX)
    }

    /// Takes back everything of a node that leaves.
    pub(super) fn leave(&mut self, node: &str) -> Result<(), ClusterError> {
        self.mesh.found(node);
        self.ipam
            .release(&tunnel_handle(node))
            .and_then(|_| self.ipam.release_host(node))
            .map_err(|source| ClusterError::Pool {
                what: format!("node \"{node}\""),
                source,
            })
    }

    /// An address for a pod.
    pub(super) fn assign(
        &mut self,
        pod: &PodSpec,
        container_id: &str,
        now_ms: u64,
    ) -> Result<Ipv4Addr, ClusterError> {
        let attributes = IndexMap::from([
            ("namespace".to_owned(), pod.namespace.clone()),
            ("node".to_owned(), pod.node.clone()),
            ("pod".to_owned(), pod.name.clone()),
        ]);
        let allocation = Allocation {
            handle: pod_handle(container_id),
            attributes,
        };
        let assigned = match pod.ip {
            Some(ip) => {
                let this = self.ipam.assign_this(&pod.node, ip, &allocation, now_ms);
                this.map(|()| ip)
            }
            None => self.ipam.assign(&pod.node, &allocation, now_ms),
        };
        assigned.map_err(|source| ClusterError::Pool {
            what: format!("pod \"{}\" on node \"{}\"", pod.name, pod.node),
            source,
        })
    }

    /// Takes a pod's address back.
    pub(super) fn release(&mut self, pod: &str, container_id: &str) -> Result<(), ClusterError> {
        let released = self.ipam.release(&pod_handle(container_id));
        released.map(drop).map_err(|source| ClusterError::Pool {
            what: format!("pod \"{pod}\""),
            source,
        })
    }
}

fn tunnel_handle(node: &str) -> String {
    format!("ipip-tunnel-addr-{node}")
}

fn pod_handle(container_id: &str) -> String {
    format!("{}.{container_id}", conflist::CALICO_NETWORK)
}

/// CAL-22: a route to `ip` over another device than `dev` is in the way.
pub(super) fn check_route(
    node: &Node,
    pod: &str,
    ip: Ipv4Addr,
    dev: &str,
) -> Result<(), ClusterError> {
    let wanted = super::node::host_net(ip);
    let other = node
        .routes
        .iter()
        .find(|route| route.dst == wanted && route.metric == 0)
        .filter(|route| route.hops.iter().all(|hop| hop.dev != dev));
    match other {
        None => Ok(()),
        Some(route) => Err(ClusterError::RouteExists {
            pod: pod.to_owned(),
            dst: wanted,
            dev: dev.to_owned(),
            other: route
                .hops
                .first()
                .map_or_else(|| "no device".to_owned(), |hop| hop.dev.clone()),
        }),
    }
}

impl Cluster {
    /// The pool with its blocks, and since when it has been there. None without Calico.
    #[must_use]
    pub fn calico(&self) -> Option<(&CalicoIpam, u64)> {
        let calico = self.state.calico.as_ref()?;
        Some((&calico.ipam, calico.created_ms))
    }

    /// A node's process has died: its peers begin to wait.
    pub fn node_lost(&mut self, node: &str, now_ms: u64) {
        if let Some(calico) = &mut self.state.calico {
            calico.mesh.lost(node, now_ms);
        }
    }

    /// A node's process is there again: what was withdrawn is announced again.
    pub fn node_found(&mut self, node: &str, now_ms: u64) -> Outcome {
        if let Some(calico) = &mut self.state.calico {
            calico.mesh.found(node);
        }
        self.reconcile(now_ms)
    }

    /// What Felix adds to the snapshot of `node`.
    pub(super) fn run_felix(&self, node: &Node, snapshot: &mut Snapshot) {
        let network = &self.state.network;
        let (Some(calico), Some(spec)) = (&self.state.calico, &network.calico) else {
            return;
        };
        nat::add(&mut snapshot.nat, node, spec, network.cluster_cidr);
        snapshot.tunnel_sources = Some(calico.hosts.clone());
        for port in &mut snapshot.ports {
            port.deny_ipip = port.mac == link::HOST_MAC;
        }
    }

    /// Felix and calico-node start on the nodes that are new: these get their tunnels.
    pub(super) fn start_calico(&mut self) -> Result<(), ClusterError> {
        let Some(calico) = &mut self.state.calico else {
            return Ok(());
        };
        for state in self.state.nodes.values_mut() {
            state.next_ifindex = calico.join(
                &mut state.node,
                &self.state.network,
                state.next_ifindex,
                self.state.now_ms,
            )?;
        }
        Ok(())
    }

    /// True for a pod that was made before Calico's configuration was there (MIX-1).
    pub(super) fn precedes_calico(&self, pod: &PodSpec) -> bool {
        let named = pod.cni.as_ref();
        self.state.calico.is_some() && named.is_some_and(|name| name != conflist::CALICO_FILE_NAME)
    }

    /// Every BIRD learns what has changed.
    pub(super) fn run_bird(&mut self, outcome: &mut Outcome) {
        let mut hosts: Vec<Ipv4Addr> = self
            .state
            .nodes
            .values()
            .map(|state| state.spec.internal_ip)
            .collect();
        hosts.sort_unstable();
        let (Some(calico), Some(spec)) = (&mut self.state.calico, self.state.network.calico) else {
            return;
        };
        let other_hosts = calico.hosts != hosts;
        calico.hosts = hosts;
        let now_ms = self.state.now_ms;
        let pool = calico.ipam.pool().cidr;
        let all: Vec<(bool, Speaker)> = self
            .state
            .nodes
            .values()
            .map(|state| {
                let speaker = Speaker::new(&state.node, pool, calico.ipam.affinities());
                (calico.mesh.holds(&speaker.name, now_ms), speaker)
            })
            .collect();
        let mut changed = Vec::new();
        for state in self.state.nodes.values_mut() {
            // A node's own routes don't depend on what others think of it.
            let heard: Vec<Speaker> = all
                .iter()
                .filter(|(holds, speaker)| *holds || speaker.name == state.spec.name)
                .map(|(_, speaker)| speaker.clone())
                .collect();
            if bird::reconcile(&mut state.node, &heard, spec.ipip_mode) || other_hosts {
                changed.push(state.spec.name.clone());
            }
        }
        for name in changed {
            self.reconfigure(&name, outcome);
        }
    }
}

//! Which CNI network a pod is added to, and the plugin `bridge`'s ADD and DEL on the state.
//!
//! Decides as container runtimes do: of the files in the node's configuration directory the first by name counts, at the
//! moment at which the pod is made (MIX-1). The directory is read each time, so that a file that somebody puts there counts
//! from then on; pods that are there keep what they have. A network of the plugin `bridge` is a node's own affair: nobody
//! routes to it from elsewhere (MIX-2).

use std::fs;
use std::net::Ipv4Addr;

use router_core::PortId;

use super::{Cluster, ClusterError, bridge, link};
use crate::conflist;
use crate::ipam::HostLocal;
use crate::lab;
use crate::model::{Pod, PodLink};
use crate::spec::{BridgeNetwork, PodSpec};

/// True for a name that libcni takes for a configuration's.
pub(crate) fn is_configuration(name: &str) -> bool {
    let ends = [".conf", ".conflist", ".json"];
    ends.iter().any(|end| name.ends_with(end))
}

impl Cluster {
    /// The network of the plugin `bridge` that a pod is added to; none is the preset's own.
    pub(super) fn cni_network(
        &self,
        spec: &PodSpec,
    ) -> Result<Option<BridgeNetwork>, ClusterError> {
        let refused = |message: String| ClusterError::Cni {
            pod: spec.name.clone(),
            node: spec.node.clone(),
            message,
        };
        let dir = self.node_dir(&spec.node).join("cni");
        let name = match &spec.cni {
            Some(name) => name.clone(),
            None => {
                let mut names: Vec<String> = fs::read_dir(&dir)
                    .into_iter()
                    .flatten()
                    .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                    .filter(|name| is_configuration(name))
                    .collect();
                names.sort();
                match names.into_iter().next() {
                    Some(name) => name,
                    None => return Ok(None),
                }
            }
        };
        if name == conflist::FILE_NAME || name == conflist::CALICO_FILE_NAME {
            return Ok(None);
        }
        let path = dir.join(&name);
        let text = fs::read_to_string(&path).map_err(|error| {
            let at = self.state.network.cni_conf_dir.trim_end_matches('/');
            refused(format!("{at}/{name}: {error}"))
        })?;
        let found = lab::conflist(&name, &text)
            .map_err(|error| refused(error.to_string().trim().into()))?;
        Ok(found.bridge)
    }

    pub(super) fn bridge_add(
        &mut self,
        spec: &PodSpec,
        conf: &BridgeNetwork,
        key: &str,
        container_id: &str,
    ) -> Result<(Ipv4Addr, PodLink), ClusterError> {
        let ipam = self.bridge_range(&spec.name, &spec.node, conf)?;
        let seed = self.state.seed;
        let network = self.state.network.clone();
        let Some(state) = self.state.nodes.get_mut(&spec.node) else {
            return Err(self.no_such_node(&spec.node));
        };
        let exhausted = || ClusterError::PortsExhausted(spec.node.clone());
        let mut node = state.node.clone();
        let (mut ifindex, mut port) = (state.next_ifindex, state.next_port);
        let new = bridge::is_new(&node, conf).then_some((ifindex, PortId(port)));
        if new.is_some() {
            ifindex += 1;
            port = port.checked_add(1).ok_or_else(exhausted)?;
        }
        let next_port = port.checked_add(1).ok_or_else(exhausted)?;
        bridge::ensure(&mut node, &network, conf, new, seed).map_err(|error| {
            ClusterError::Cni {
                pod: spec.name.clone(),
                node: spec.node.clone(),
                message: error.to_string(),
            }
        })?;
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
            subnet: conf.subnet,
            gateway: bridge::gateway(conf),
            port: PortId(port),
            ifindex,
            seed,
        };
        let link = bridge::add(&mut node, &network, conf, &add);
        state.node = node;
        state.next_port = next_port;
        state.next_ifindex = ifindex + 1;
        Ok((ip, link))
    }

    pub(super) fn bridge_delete(
        &mut self,
        pod: &Pod,
        link: &PodLink,
        conf: &BridgeNetwork,
    ) -> Result<(), ClusterError> {
        let ipam = self.bridge_range(&pod.name, &pod.node, conf)?;
        ipam.release(&pod.container_id, &link.ifname)
            .map_err(|source| ClusterError::Ipam {
                pod: pod.name.clone(),
                node: pod.node.clone(),
                source,
            })?;
        if let Some(state) = self.state.nodes.get_mut(&pod.node) {
            link::delete(&mut state.node, link);
        }
        Ok(())
    }

    /// The allocator of a bridge's network on a node (BR-16).
    fn bridge_range(
        &self,
        pod: &str,
        node: &str,
        conf: &BridgeNetwork,
    ) -> Result<HostLocal, ClusterError> {
        let data_dir = self.node_dir(node).join("ipam");
        HostLocal::new(&data_dir, &conf.name, conf.subnet)
            .map(|range| range.with_range(conf.first, conf.last, conf.gateway))
            .map_err(|source| ClusterError::Ipam {
                pod: pod.to_owned(),
                node: node.to_owned(),
                source,
            })
    }
}

//! Nodes' ports on interfaces of the host.
//!
//! Decides that they can't be changed while the lab runs: only who brings it up may open sockets there. The daemon keeps the
//! sockets, so that a node that is started again, or made anew, has its own again.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use router_core::PortId;

use super::lab::{Lab, LabError};
use super::nodes::Port;
use crate::control::node::Attachment;
use crate::control::proto::ErrorKind;
use crate::spec::{LabSpec, UplinkSpec};

/// Uplinks with their sockets, by node.
pub type Uplinks = HashMap<String, (UplinkSpec, Arc<OwnedFd>)>;

/// Puts the sockets that came with a lab to its nodes. None when there are more or fewer than it has uplinks.
#[must_use]
pub fn match_up(lab: &LabSpec, sockets: Vec<OwnedFd>) -> Option<Uplinks> {
    let wanted = lab.nodes.iter();
    let wanted = wanted.filter_map(|node| Some((node.name.clone(), node.uplink.clone()?)));
    let wanted: Vec<_> = wanted.collect();
    (wanted.len() == sockets.len()).then(|| {
        let pairs = wanted.into_iter().zip(sockets);
        pairs
            .map(|((node, uplink), socket)| (node, (uplink, Arc::new(socket))))
            .collect()
    })
}

impl Lab {
    /// What to attach to a node besides what every node has.
    pub(super) fn uplink(&self, node: &str) -> Option<(PortId, Port)> {
        let (id, spec) = self.cluster.uplink(node)?;
        let (_, socket) = self.setting.uplinks.get(node)?;
        let port = Port {
            name: spec.name.clone(),
            mtu: spec.mtu,
            attachment: Attachment::Packet {
                offload: self.offload,
            },
            devices: vec![Arc::clone(socket)],
        };
        Some((id, port))
    }

    /// Workers of a node's process. A socket on an interface of the host is one queue.
    pub(super) fn workers_of(&self, node: &str) -> usize {
        if self.setting.uplinks.contains_key(node) {
            1
        } else {
            self.workers
        }
    }

    /// Every node of `spec` has the uplink that it has had.
    pub(super) fn check_uplinks(&self, spec: &LabSpec) -> Result<(), LabError> {
        let had = |node: &str| self.setting.uplinks.get(node).map(|(spec, _)| spec);
        let changed = spec.nodes.iter();
        let mut changed = changed.filter(|node| node.uplink.as_ref() != had(&node.name));
        let Some(node) = changed.next() else {
            return Ok(());
        };
        Err(LabError::new(
            ErrorKind::Invalid,
            format!(
                "node {}: uplinks can't be changed while lab {} runs; `podwire down {}` first",
                node.name, spec.name, spec.name
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Overrides, load};

    #[test]
    fn sockets_go_to_the_nodes_in_their_order() {
        let mut lab = load(&[], &Overrides::default()).unwrap();
        let uplink = |interface: &str| UplinkSpec {
            name: "uplink".into(),
            interface: interface.into(),
            address: "192.0.2.2/24".parse().unwrap(),
            gateway: None,
            mac: None,
            mtu: 1500,
        };
        lab.nodes[0].uplink = Some(uplink("a"));
        lab.nodes[2].uplink = Some(uplink("c"));
        let sockets = |n: usize| -> Vec<OwnedFd> {
            (0..n)
                .map(|_| rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).unwrap())
                .collect()
        };
        let matched = match_up(&lab, sockets(2)).unwrap();
        let of = |n: usize| {
            matched
                .get(&lab.nodes[n].name)
                .map(|(spec, _)| spec.interface.as_str())
        };
        assert_eq!((of(0), of(1), of(2)), (Some("a"), None, Some("c")));
        assert!(match_up(&lab, sockets(1)).is_none());
        assert!(match_up(&lab, sockets(3)).is_none());
    }
}

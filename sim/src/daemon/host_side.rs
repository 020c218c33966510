//! A node's host namespace: what is set up in it, and its changes.

use tap_bridge::sys::netlink::NetlinkError;

use super::lab::Lab;
use crate::model::Node;
use crate::pod::netns::Sandbox;
use crate::pod::network::Network;
use crate::pod::redirect::open_loopback;
use router_core::Mac;

/// A node's host namespace and what was set up in it.
#[derive(Debug)]
pub struct HostSide {
    /// The namespaces.
    pub sandbox: Sandbox,
    network: Network,
}

impl HostSide {
    /// A namespace that was made with `network`.
    #[must_use]
    pub fn new(sandbox: Sandbox, network: Network) -> Self {
        let host = Self { sandbox, network };
        if host.redirects() {
            host.open_loopback(true);
        }
        host
    }

    /// Brings addresses and routes into line with `wanted`.
    ///
    /// # Errors
    /// The first change that was refused.
    pub fn become_network(&mut self, wanted: Network) -> Result<(), NetlinkError> {
        let changes = self.network.changes_to(&wanted, self.sandbox.ifindex());
        let before = self.redirects();
        self.network = wanted;
        if self.redirects() != before {
            self.open_loopback(!before);
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.sandbox.change(changes)
    }

    /// Whether the node's own programs get to the router by the node's addresses.
    fn redirects(&self) -> bool {
        !self.network.redirects.ports.is_empty()
    }

    /// No reason to refuse a pod: everybody but the node's own programs reaches its host ports.
    fn open_loopback(&self, open: bool) {
        if let Err(error) = open_loopback(&self.sandbox, open) {
            tracing::warn!(
                "programs on the node itself don't reach its host ports and node ports: {error}"
            );
        }
    }
}

impl Lab {
    /// What the host namespace of `node` is to have. `router` is the router's MAC there.
    pub(super) fn host_network(&self, node: &Node, router: Mac) -> Network {
        let ports = self.cluster.redirected(&node.name);
        Network::of_node(node, router).with_redirected(ports, router)
    }
}

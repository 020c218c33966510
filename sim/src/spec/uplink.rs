//! A node's port on an interface of the host, resolved.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use router_core::Mac;
use serde::{Deserialize, Serialize};

/// Where and what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkSpec {
    /// Name on the node.
    pub name: String,
    /// Name of the interface in the network namespace in which the lab is brought up.
    pub interface: String,
    /// The node's address there.
    pub address: Ipv4Net,
    /// Where the node's default route leads instead of to the lab's gateway.
    pub gateway: Option<Ipv4Addr>,
    /// The node's MAC there; derived from the lab's seed when not given.
    pub mac: Option<Mac>,
    /// Bytes.
    pub mtu: u16,
}

//! Sockets on interfaces of the host, for nodes with an uplink.
//!
//! Opened by the command that brings the lab up, because the daemon leaves the host's network namespace, and before anything is
//! made: an interface that is not there, or a missing right, is told at once. Of an interface nothing is changed but that it
//! takes frames for one more MAC while the socket is open; no other interface is touched.

use std::os::fd::OwnedFd;

use tap_bridge::packet::{self, PacketConfig, PacketError};
use tap_bridge::sys::netdevice;

use crate::cluster::uplink::mac;
use crate::spec::{LabSpec, UplinkSpec};

/// A node's uplink can't be had.
#[derive(Debug, thiserror::Error)]
#[error("node {node}: uplink on {interface}: {why}")]
pub struct UplinkError {
    /// The node.
    pub node: String,
    /// The interface that it names.
    pub interface: String,
    /// What is wrong.
    pub why: String,
}

/// One socket for each uplink, in the order of the nodes.
///
/// # Errors
/// The first one that can't be had.
pub fn open(lab: &LabSpec) -> Result<Vec<OwnedFd>, UplinkError> {
    let uplinks = lab.nodes.iter();
    let uplinks = uplinks.filter_map(|node| Some((node.name.as_str(), node.uplink.as_ref()?)));
    uplinks
        .map(|(node, uplink)| {
            socket(uplink, lab.seed, node).map_err(|why| UplinkError {
                node: node.to_owned(),
                interface: uplink.interface.clone(),
                why,
            })
        })
        .collect()
}

fn socket(uplink: &UplinkSpec, seed: u64, node: &str) -> Result<OwnedFd, String> {
    let interface = netdevice::look(&uplink.interface).map_err(|error| {
        let there = netdevice::names().join(", ");
        format!("there is no such interface here ({error}); there are {there}")
    })?;
    if !interface.ethernet {
        return Err("it carries no Ethernet frames".to_owned());
    }
    if !interface.up {
        let name = &uplink.interface;
        return Err(format!("it is down: `ip link set {name} up` first"));
    }
    if interface.mtu < uplink.mtu.into() {
        let (here, wanted) = (interface.mtu, uplink.mtu);
        return Err(format!(
            "its MTU is {here}, the uplink's {wanted}: say `mtu: {here}`"
        ));
    }
    packet::open(&PacketConfig {
        ifindex: interface.index,
        mac: Some(mac(uplink, seed, node)),
        // A real driver may want superframes cut, which is done on the way to it.
        direct: false,
    })
    .map_err(|error| explain(&error))
}

fn explain(error: &PacketError) -> String {
    if error.is_permission() {
        return format!("{error}: it takes root (CAP_NET_RAW)");
    }
    error.to_string()
}

//! A node with podman's bridge, as seed 001 has it: cni-podman0 10.88.0.1/16 with three ports, eth0 172.16.30.6, upstream R.

use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use super::topology::{self, R, R_MAC, route};
use crate::addr::Mac;
use crate::config::{
    BridgePort, LocalAddress, PermanentNeighbour, PortConfig, PortId, PortKind, Snapshot,
};

/// cni-podman0.
pub const BRIDGE: PortId = PortId(10);
/// Its ports.
pub const PORTS: [PortId; 3] = [PortId(11), PortId(12), PortId(13)];
/// MAC of the bridge, which none of its ports has (BR-13).
pub const BRIDGE_MAC: Mac = Mac([0x36, 0x85, 0, 0, 0, 1]);
/// MACs of the node's end of the ports.
pub const PORT_MACS: [Mac; 3] = [
    Mac([0x36, 0x85, 0, 0, 1, 1]),
    Mac([0x36, 0x85, 0, 0, 1, 2]),
    Mac([0x36, 0x85, 0, 0, 1, 3]),
];
/// MACs of the pods, one behind each port.
pub const PODS: [Mac; 3] = [
    Mac([0x36, 0x85, 0, 0, 2, 1]),
    Mac([0x36, 0x85, 0, 0, 2, 2]),
    Mac([0x36, 0x85, 0, 0, 2, 3]),
];
/// The pods' gateway.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
/// The node.
pub const NODE: Ipv4Addr = Ipv4Addr::new(172, 16, 30, 6);
/// Addresses of the pods.
pub const POD_IPS: [Ipv4Addr; 3] = [
    Ipv4Addr::new(10, 88, 0, 2),
    Ipv4Addr::new(10, 88, 0, 3),
    Ipv4Addr::new(10, 88, 0, 4),
];

/// The node, hairpin off as the kernel makes ports.
#[must_use]
pub fn bridged_node() -> Snapshot {
    let mut ports = vec![
        PortConfig::ethernet(topology::UPLINK.0, "eth0", topology::UPLINK_MAC, 1500),
        PortConfig {
            kind: PortKind::Bridge,
            ..PortConfig::ethernet(BRIDGE.0, "cni-podman0", BRIDGE_MAC, 1500)
        },
    ];
    ports.extend(PORTS.iter().zip(PORT_MACS).map(|(&id, mac)| PortConfig {
        bridge: Some(BridgePort {
            bridge: BRIDGE,
            hairpin: false,
        }),
        ..PortConfig::ethernet(id.0, "veth", mac, 1500)
    }));
    let local = |addr, prefix_len, broadcast, port| LocalAddress {
        addr,
        prefix_len,
        broadcast: Some(broadcast),
        port,
    };
    Snapshot {
        epoch: 1,
        forwarding: true,
        ports,
        addresses: vec![
            local(NODE, 24, Ipv4Addr::new(172, 16, 30, 255), topology::UPLINK),
            local(GATEWAY, 16, Ipv4Addr::new(10, 88, 255, 255), BRIDGE),
        ],
        routes: vec![
            route("0.0.0.0/0", topology::UPLINK, Some(R)),
            route("172.16.30.0/24", topology::UPLINK, None),
            route("10.88.0.0/16", BRIDGE, None),
        ],
        neighbours: vec![PermanentNeighbour {
            port: topology::UPLINK,
            ip: R,
            mac: R_MAC,
        }],
        ..Snapshot::default()
    }
}

/// With hairpin on at every port, as podman's conflist wants it.
#[must_use]
pub fn with_hairpin(mut snapshot: Snapshot) -> Snapshot {
    for member in snapshot.ports.iter_mut().filter_map(|p| p.bridge.as_mut()) {
        member.hairpin = true;
    }
    snapshot
}

/// With PERMANENT entries for the pods, so that the node asks nobody.
#[must_use]
pub fn with_known_pods(mut snapshot: Snapshot) -> Snapshot {
    let known: Vec<_> = POD_IPS
        .into_iter()
        .zip(PODS)
        .map(|(ip, mac)| PermanentNeighbour {
            port: BRIDGE,
            ip,
            mac,
        })
        .collect();
    snapshot.neighbours.extend(known);
    snapshot
}

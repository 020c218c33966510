//! The shapes of nodes whose forwarding is measured: plain, with policies, and at both ends of a tunnel.

use core::net::Ipv4Addr;

use router_core::policy::{
    AddressRange, PolicyConfig, PolicyEndpoint, PolicyName, PolicyPeers, PolicyPorts,
    PolicyProgram, PolicyRule,
};
use router_core::testing::calico::{self, K2, K2_MAC, K3, K3_MAC, N2, N3, N3_MAC};
use router_core::testing::topology::{self, POD1, UPLINK};
use router_core::testing::{Packet, eth, ipv4, udp};
use router_core::{PortId, Snapshot};

use crate::{LEFT, cluster_node};

/// The cluster node of [`Node::new`](crate::Node::new) with one next hop.
#[must_use]
pub fn plain() -> Snapshot {
    cluster_node(1)
}

/// The same, and everything that leaves the cluster's pod is masqueraded.
#[must_use]
pub fn masquerading() -> Snapshot {
    topology::masquerading(cluster_node(1))
}

/// The same node as [`plain`], whose pod is isolated for egress by so many
/// policies: each allows one /24 of the cluster and one port, the last one everything that is sent here.
///
/// # Panics
/// With 2^32 policies or more.
#[must_use]
pub fn isolated(policies: u32) -> Snapshot {
    let range = |first: u32, last: u32| AddressRange {
        first: Ipv4Addr::from_bits(first),
        last: Ipv4Addr::from_bits(last),
    };
    let mut policy = PolicyConfig {
        endpoints: vec![PolicyEndpoint {
            port: LEFT,
            ip: Ipv4Addr::new(10, 255, 0, 2),
            ingress: None,
            egress: Some(0),
        }],
        ..PolicyConfig::default()
    };
    let mut program = PolicyProgram::default();
    for n in 0..policies {
        let is_last = n + 1 == policies;
        let low = 0x0b00_0000 + (n << 8);
        policy.sets.push(if is_last {
            vec![range(0x0a00_0000, 0x0aff_ffff)]
        } else {
            vec![range(low, low + 255)]
        });
        policy.policies.push(PolicyName {
            name: format!("default/p{n}"),
            place: None,
        });
        program.policies.push(n);
        program.rules.push(PolicyRule {
            policy: n,
            number: 0,
            peers: PolicyPeers::Set(n),
            ports: vec![PolicyPorts {
                protocol: 17,
                first: 0,
                last: u16::MAX,
            }],
        });
    }
    policy.programs.push(program);
    Snapshot {
        policy,
        ..cluster_node(1)
    }
}

/// A Calico node, a frame that it encapsulates, and one that it decapsulates, each of so many bytes on the shorter side.
#[must_use]
pub fn tunnel_end(len: usize) -> (Snapshot, [(PortId, Vec<u8>); 2]) {
    let inner = |src, dst| ipv4(src, dst) / udp(9, 9) / vec![0; len - 42];
    let out: Packet = eth(calico::CALI_MAC, N3_MAC) / inner(N3, N2);
    let back: Packet = eth(K3_MAC, K2_MAC) / ipv4(K2, K3) / inner(N2, N3);
    (
        calico::node_k3(),
        [(POD1, out.bytes()), (UPLINK, back.bytes())],
    )
}

//! The Calico node K3 of the acceptance tables: 172.16.30.8 with pod n3, tunl0, and nodes K1, K2 and router R on its
//! underlay. Shares the names of ports and R with [`topology`](super::topology).

use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use super::topology::{POD1, R, R_MAC, UPLINK, route, special};
use crate::addr::Mac;
use crate::config::{
    LocalAddress, PermanentNeighbour, PortConfig, PortId, Route, RouteTarget, RpFilter, Snapshot,
};

/// tunl0.
pub const TUNL0: PortId = PortId(7);

/// Node K1.
pub const K1: Ipv4Addr = Ipv4Addr::new(172, 16, 30, 6);
/// Node K2.
pub const K2: Ipv4Addr = Ipv4Addr::new(172, 16, 30, 7);
/// Node K3.
pub const K3: Ipv4Addr = Ipv4Addr::new(172, 16, 30, 8);
/// Address of K2's tunl0.
pub const K2_TUNL0: Ipv4Addr = Ipv4Addr::new(10, 244, 205, 192);
/// Address of K3's tunl0.
pub const K3_TUNL0: Ipv4Addr = Ipv4Addr::new(10, 244, 151, 0);
/// Pod on K2.
pub const N2: Ipv4Addr = Ipv4Addr::new(10, 244, 205, 193);
/// Pod on K3.
pub const N3: Ipv4Addr = Ipv4Addr::new(10, 244, 151, 1);

/// MAC of eth0 of K1.
pub const K1_MAC: Mac = Mac([2, 0, 0, 0, 0, 6]);
/// MAC of eth0 of K2.
pub const K2_MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);
/// MAC of eth0 of K3.
pub const K3_MAC: Mac = Mac([2, 0, 0, 0, 0, 8]);
/// MAC of every cali port.
pub const CALI_MAC: Mac = Mac([0xee; 6]);
/// MAC of n3's eth0.
pub const N3_MAC: Mac = Mac([2, 0, 0, 0, 2, 1]);

/// Node K3 as seed 001 shows it, with one pod, all its neighbours known.
#[must_use]
pub fn node_k3() -> Snapshot {
    let address = |addr, prefix_len, broadcast, port| LocalAddress {
        addr,
        prefix_len,
        broadcast,
        port,
    };
    let known = [
        (UPLINK, K1, K1_MAC),
        (UPLINK, K2, K2_MAC),
        (UPLINK, R, R_MAC),
        (POD1, N3, N3_MAC),
    ];
    let neighbours: Vec<_> = known
        .map(|(port, ip, mac)| PermanentNeighbour { port, ip, mac })
        .into();
    Snapshot {
        epoch: 1,
        forwarding: true,
        ports: vec![
            PortConfig::ethernet(UPLINK.0, "eth0", K3_MAC, 1500),
            PortConfig {
                proxy_arp: true,
                rp_filter: RpFilter::Strict,
                deny_ipip: true,
                ..PortConfig::ethernet(POD1.0, "cali4bf9f2c3a6f", CALI_MAC, 1480)
            },
            PortConfig::ipip(TUNL0.0, "tunl0", 1480),
        ],
        addresses: vec![
            address(K3, 24, Some(Ipv4Addr::new(172, 16, 30, 255)), UPLINK),
            address(K3_TUNL0, 32, None, TUNL0),
        ],
        routes: vec![
            Route {
                src: Some(K3),
                metric: 1024,
                ..route("0.0.0.0/0", UPLINK, Some(R))
            },
            route("10.244.120.64/26", TUNL0, Some(K1)),
            special("10.244.151.0/26", RouteTarget::Blackhole),
            route("10.244.151.1/32", POD1, None),
            route("10.244.205.192/26", TUNL0, Some(K2)),
            Route {
                src: Some(K3),
                ..route("172.16.30.0/24", UPLINK, None)
            },
        ],
        neighbours,
        tunnel_sources: Some(vec![K1, K2, K3]),
        ..Snapshot::default()
    }
}

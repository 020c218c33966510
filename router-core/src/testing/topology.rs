//! The kindnet node A of the acceptance tables: 172.16.30.3 with pods a1 and a2, node B and the upstream router R on its
//! underlay.

use alloc::vec;
use core::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::addr::Mac;
use crate::config::nat::{
    Backend, Mark, Matches, NetMatch, OUTPUT, POSTROUTING, PREROUTING, PortChoice, Rule, Target,
};
use crate::config::{
    LocalAddress, NextHop, PermanentNeighbour, PortConfig, PortId, PortKind, Route, RouteTarget,
    Snapshot,
};

/// eth0.
pub const UPLINK: PortId = PortId(1);
/// Link of pod a1.
pub const POD1: PortId = PortId(2);
/// Link of pod a2.
pub const POD2: PortId = PortId(3);
/// docker0: no carrier.
pub const DOCKER: PortId = PortId(4);
/// Host namespace, in [`with_host`] only.
pub const HOST: PortId = PortId(5);

/// Node A.
pub const NODE_A: Ipv4Addr = Ipv4Addr::new(172, 16, 30, 3);
/// Node B.
pub const NODE_B: Ipv4Addr = Ipv4Addr::new(172, 16, 30, 4);
/// Upstream router.
pub const R: Ipv4Addr = Ipv4Addr::new(172, 16, 30, 1);
/// Gateway of node A's pods.
pub const GW_A: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
/// First pod of node A.
pub const A1: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
/// Second pod of node A.
pub const A2: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 3);
/// First pod of node B.
pub const B1: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
/// An address behind R.
pub const X: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);

/// MAC of eth0 of node A.
pub const UPLINK_MAC: Mac = Mac([2, 0, 0, 0, 0, 3]);
/// MAC of node A's end of a1's link.
pub const POD1_MAC: Mac = Mac([2, 0, 0, 0, 1, 1]);
/// MAC of node A's end of a2's link.
pub const POD2_MAC: Mac = Mac([2, 0, 0, 0, 1, 2]);
/// MAC of the router's end of the host link.
pub const HOST_MAC: Mac = Mac([2, 0, 0, 0, 1, 3]);
/// MAC of a1's eth0.
pub const A1_MAC: Mac = Mac([2, 0, 0, 0, 2, 1]);
/// MAC of a2's eth0.
pub const A2_MAC: Mac = Mac([2, 0, 0, 0, 2, 2]);
/// MAC of eth0 in the host namespace.
pub const HOST_PEER_MAC: Mac = Mac([2, 0, 0, 0, 2, 3]);
/// MAC of node B.
pub const B_MAC: Mac = Mac([2, 0, 0, 0, 0, 4]);
/// MAC of R.
pub const R_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// A route by one next hop.
///
/// # Panics
/// When `dst` is no prefix.
#[must_use]
pub fn route(dst: &str, port: PortId, via: Option<Ipv4Addr>) -> Route {
    Route {
        dst: dst.parse().expect("a test's route has a prefix"),
        metric: 0,
        src: None,
        target: RouteTarget::Unicast(vec![NextHop {
            port,
            via,
            weight: 1,
        }]),
    }
}

/// A route that leads nowhere.
///
/// # Panics
/// When `dst` is no prefix.
#[must_use]
pub fn special(dst: &str, target: RouteTarget) -> Route {
    Route {
        dst: dst.parse().expect("a test's route has a prefix"),
        metric: 0,
        src: None,
        target,
    }
}

/// Node A as seed 000 shows it, with two pods and no neighbour known.
#[must_use]
pub fn node_a() -> Snapshot {
    let gateway = |port| LocalAddress {
        addr: GW_A,
        prefix_len: 32,
        broadcast: Some(GW_A),
        port,
    };
    Snapshot {
        epoch: 1,
        forwarding: true,
        ports: vec![
            PortConfig::ethernet(UPLINK.0, "eth0", UPLINK_MAC, 1500),
            PortConfig::ethernet(POD1.0, "veth2b322de6", POD1_MAC, 1500),
            PortConfig::ethernet(POD2.0, "veth07b7de9e", POD2_MAC, 1500),
            PortConfig {
                kind: PortKind::Dummy,
                carrier: false,
                ..PortConfig::ethernet(DOCKER.0, "docker0", Mac([2, 0x42, 0, 0, 0, 1]), 1500)
            },
        ],
        addresses: vec![
            LocalAddress {
                addr: NODE_A,
                prefix_len: 24,
                broadcast: Some(Ipv4Addr::new(172, 16, 30, 255)),
                port: UPLINK,
            },
            LocalAddress {
                addr: Ipv4Addr::new(172, 17, 0, 1),
                prefix_len: 16,
                broadcast: Some(Ipv4Addr::new(172, 17, 255, 255)),
                port: DOCKER,
            },
            gateway(POD1),
            gateway(POD2),
        ],
        routes: vec![
            Route {
                src: Some(NODE_A),
                metric: 1024,
                ..route("0.0.0.0/0", UPLINK, Some(R))
            },
            route("10.244.0.2/32", POD1, None),
            route("10.244.0.3/32", POD2, None),
            route("10.244.1.0/24", UPLINK, Some(NODE_B)),
            route("10.244.2.0/24", UPLINK, Some(Ipv4Addr::new(172, 16, 30, 5))),
            Route {
                src: Some(NODE_A),
                ..route("172.16.30.0/24", UPLINK, None)
            },
            Route {
                src: Some(NODE_A),
                metric: 1024,
                ..route("172.16.30.1/32", UPLINK, None)
            },
            Route {
                src: Some(Ipv4Addr::new(172, 17, 0, 1)),
                ..route("172.17.0.0/16", DOCKER, None)
            },
        ],
        ..Snapshot::default()
    }
}

/// With PERMANENT entries for a1, a2, node B and R, so that nothing has to be resolved.
#[must_use]
pub fn resolved(mut snapshot: Snapshot) -> Snapshot {
    let known = [
        (POD1, A1, A1_MAC),
        (POD2, A2, A2_MAC),
        (UPLINK, NODE_B, B_MAC),
        (UPLINK, R, R_MAC),
    ];
    snapshot
        .neighbours
        .extend(known.map(|(port, ip, mac)| PermanentNeighbour { port, ip, mac }));
    snapshot
}

/// With a host namespace.
#[must_use]
pub fn with_host(mut snapshot: Snapshot) -> Snapshot {
    snapshot.ports.push(PortConfig {
        kind: PortKind::Host {
            peer_mac: HOST_PEER_MAC,
        },
        ..PortConfig::ethernet(HOST.0, "host", HOST_MAC, 1500)
    });
    snapshot
}

/// With one port changed.
#[must_use]
pub fn with_port(mut snapshot: Snapshot, id: PortId, change: impl Fn(&mut PortConfig)) -> Snapshot {
    for port in snapshot.ports.iter_mut().filter(|p| p.id == id) {
        change(port);
    }
    snapshot
}

/// With the rules of kindnetd's ip-masq-agent for 10.244.0.0/16, as seed 002 lists them.
///
/// # Panics
/// Never: the networks are constants.
#[must_use]
pub fn masquerading(mut snapshot: Snapshot) -> Snapshot {
    let cluster = "10.244.0.0/16".parse().expect("a network");
    let nat = &mut snapshot.nat;
    nat.append(
        POSTROUTING,
        Rule::new(Target::Jump("KIND-MASQ-AGENT".into())).when(Matches {
            dst_local: Some(false),
            ..Matches::default()
        }),
    );
    nat.append(
        "KIND-MASQ-AGENT",
        Rule::new(Target::Return).when(Matches {
            dst: Some(NetMatch::within(cluster)),
            ..Matches::default()
        }),
    );
    nat.append(
        "KIND-MASQ-AGENT",
        Rule::new(Target::Masquerade(PortChoice::default())),
    );
    snapshot
}

/// With a host port as the portmap plugin maps it: `protocol` to any local address and `port`, from outside and from the
/// node, goes to `pod`; sources in `subnet` are masqueraded on the way there.
#[must_use]
pub fn host_port(
    mut snapshot: Snapshot,
    (protocol, port): (u8, u16),
    (pod, pod_port): (Ipv4Addr, u16),
    subnet: Ipv4Net,
) -> Snapshot {
    let mark = Mark {
        value: 0x2000,
        mask: 0x2000,
    };
    let to_port = || Matches {
        protocol: Some(protocol),
        dports: vec![(port, port)],
        ..Matches::default()
    };
    let nat = &mut snapshot.nat;
    for hook in [PREROUTING, OUTPUT] {
        nat.append(
            hook,
            Rule::new(Target::Jump("CNI-HOSTPORT-DNAT".into())).when(Matches {
                dst_local: Some(true),
                ..Matches::default()
            }),
        );
    }
    for src in [subnet, Ipv4Net::from(Ipv4Addr::LOCALHOST)] {
        nat.append(
            "CNI-HOSTPORT-DNAT",
            Rule::new(Target::Mark(mark)).when(Matches {
                src: Some(NetMatch::within(src)),
                ..to_port()
            }),
        );
    }
    let backend = Backend {
        addr: pod,
        port: Some(pod_port),
        weight: 1,
    };
    nat.append(
        "CNI-HOSTPORT-DNAT",
        Rule::new(Target::Dnat {
            backends: vec![backend],
            affinity: None,
        })
        .when(to_port()),
    );
    // Before the masquerading of whatever leaves the cluster, as the plugin puts it.
    let marked = Rule::new(Target::Masquerade(PortChoice::default())).when(Matches {
        mark: Some(mark),
        ..Matches::default()
    });
    match nat.chains.iter_mut().find(|c| c.name == POSTROUTING) {
        Some(chain) => chain.rules.insert(0, marked),
        None => nat.append(POSTROUTING, marked),
    }
    snapshot
}

//! Snapshots that contradict themselves: each is refused in words, and the router goes on with the one it had.

use core::net::Ipv4Addr;

use router_core::config::nat::{Backend, Chain, OUTPUT, PREROUTING, PortChoice, Rule, Target};
use router_core::config::{
    BridgePort, LocalAddress, NextHop, PermanentNeighbour, PortConfig, PortKind, RouteTarget,
    Snapshot,
};
use router_core::testing::topology::*;
use router_core::testing::*;
use router_core::{FramePool, Instant, Limits, PortId, Router};

const NOWHERE: PortId = PortId(99);

fn with_route(target: RouteTarget) -> Snapshot {
    let mut snapshot = resolved(node_a());
    snapshot.routes.push(special("10.9.0.0/16", target));
    snapshot
}

fn with_ports(ports: &[PortConfig]) -> Snapshot {
    let mut snapshot = resolved(node_a());
    snapshot.ports.extend_from_slice(ports);
    snapshot
}

fn with_chains(chains: &[(&str, Target)]) -> Snapshot {
    let mut snapshot = resolved(node_a());
    let chains = chains.iter().map(|(name, target)| Chain {
        name: (*name).into(),
        rules: vec![Rule::new(target.clone())],
    });
    snapshot.nat.chains = chains.collect();
    snapshot
}

fn hop(port: PortId) -> NextHop {
    NextHop {
        port,
        via: None,
        weight: 1,
    }
}

fn veth(id: u16) -> PortConfig {
    PortConfig::ethernet(id, "veth", B_MAC, 1500)
}

/// Every contradiction, with the words for it.
fn contradictions() -> Vec<(Snapshot, &'static str)> {
    let host = |id| PortConfig {
        kind: PortKind::Host { peer_mac: B_MAC },
        ..veth(id)
    };
    let of_bridge = |bridge| {
        let mut port = veth(20);
        port.bridge = Some(BridgePort {
            bridge,
            hairpin: false,
        });
        port
    };
    let bridge = |id| PortConfig {
        kind: PortKind::Bridge,
        ..veth(id)
    };
    let mut nested = of_bridge(PortId(21));
    nested.kind = PortKind::Bridge;
    let mut tunnel = of_bridge(PortId(21));
    tunnel.kind = PortConfig::ipip(20, "tunl0", 1480).kind;
    let mut address = resolved(node_a());
    address.addresses.push(LocalAddress {
        addr: NODE_B,
        prefix_len: 24,
        broadcast: None,
        port: NOWHERE,
    });
    let mut long = resolved(node_a());
    long.addresses[0].prefix_len = 33;
    let mut neighbour = resolved(node_a());
    neighbour.neighbours.push(PermanentNeighbour {
        port: NOWHERE,
        ip: NODE_B,
        mac: B_MAC,
    });
    let jump = |to: &str| Target::Jump(to.into());
    let dnat = |weight| Target::Dnat {
        backends: vec![Backend {
            addr: A1,
            port: None,
            weight,
        }],
        affinity: None,
    };
    vec![
        (
            with_ports(&[veth(u16::MAX)]),
            "port number 65535 is reserved",
        ),
        (with_ports(&[veth(2)]), "port 2 is given twice"),
        (
            with_ports(&[host(20), host(21)]),
            "port 21 is a second host port",
        ),
        (
            with_ports(&[
                PortConfig::ipip(20, "tunl0", 1480),
                PortConfig::ipip(21, "tunl1", 1480),
            ]),
            "port 21 is a second tunnel device",
        ),
        (with_ports(&[of_bridge(NOWHERE)]), "port 99 does not exist"),
        (
            with_ports(&[of_bridge(POD1)]),
            "port 2 is no bridge, but has ports",
        ),
        (
            with_ports(&[nested, bridge(21)]),
            "port 20 can't be a port of a bridge",
        ),
        (
            with_ports(&[tunnel, bridge(21)]),
            "port 20 can't be a port of a bridge",
        ),
        (
            with_port(resolved(node_a()), POD1, |p| p.mtu = 67),
            "port 2: an IPv4 MTU is at least 68",
        ),
        (address, "port 99 does not exist"),
        (long, "172.16.30.3/33: a prefix length is at most 32"),
        (neighbour, "port 99 does not exist"),
        (
            with_route(RouteTarget::Unicast(vec![])),
            "route to 10.9.0.0/16 has no next hop",
        ),
        (
            with_route(RouteTarget::Unicast(vec![hop(UPLINK), hop(NOWHERE)])),
            "port 99 does not exist",
        ),
        (
            with_chains(&[("a", Target::Return), ("a", Target::Return)]),
            "chain a is given twice",
        ),
        (
            with_chains(&[(OUTPUT, jump("nowhere"))]),
            "a rule jumps to chain nowhere, which does not exist",
        ),
        (
            with_chains(&[(OUTPUT, jump("a")), ("a", jump("a"))]),
            "chain a is reached in a circle or too deep",
        ),
        (
            with_chains(&[(PREROUTING, dnat(0))]),
            "chain PREROUTING: destination NAT without a backend",
        ),
        (
            with_chains(&[(PREROUTING, Target::Masquerade(PortChoice::default()))]),
            "chain PREROUTING: a target that is not allowed where PREROUTING leads",
        ),
    ]
}

#[test]
fn a_contradiction_is_refused_in_words_and_nothing_changes() {
    for (snapshot, words) in contradictions() {
        let before = masquerading(resolved(node_a()));
        let mut h = Harness::new(before.clone());
        let now = h.now();
        let mut pool = FramePool::new(1);
        let refused = h.router_mut().apply(now, snapshot, &mut pool);
        assert_eq!(refused.map_err(|e| e.to_string()), Err(words.into()));
        assert_eq!(*h.router().snapshot(), before, "{words}");
        h.rx(POD1, &(eth(POD1_MAC, A1_MAC) / ipv4(A1, X) / udp(4000, 53)));
        let out = eth(R_MAC, UPLINK_MAC) / ipv4(NODE_A, X).ttl(63) / udp(4000, 53);
        h.expect_tx(UPLINK, &out);
        h.expect_silence();
    }
}

/// What looks like a contradiction and is none.
#[test]
fn the_edges_of_what_is_allowed_are_allowed() {
    let host = PortConfig {
        kind: PortKind::Host { peer_mac: B_MAC },
        ..veth(u16::MAX - 1)
    };
    let mut snapshot = with_ports(&[host, PortConfig::ipip(21, "tunl0", 68)]);
    snapshot.addresses.push(LocalAddress {
        addr: Ipv4Addr::new(10, 9, 9, 9),
        prefix_len: 32,
        broadcast: None,
        port: PortId(21),
    });
    // A chain that nothing reaches may say what it likes.
    let masquerade = Target::Masquerade(PortChoice::default());
    snapshot.nat.chains = with_chains(&[("unused", masquerade)]).nat.chains;
    let mut pool = FramePool::new(1);
    let applied = Router::new(Limits::default(), 1).apply(Instant::ZERO, snapshot, &mut pool);
    assert_eq!(applied, Ok(()));
}

/// More /24 with longer prefixes inside than a table has groups for, and too far from each other for a window.
#[test]
fn more_routes_than_the_table_holds_are_refused() {
    let mut snapshot = node_a();
    for n in 0..33_000_u32 {
        let net = Ipv4Addr::from_bits(0x0b00_0000 + (n << 16));
        snapshot
            .routes
            .push(special(&format!("{net}/25"), RouteTarget::Blackhole));
    }
    let mut h = Harness::new(node_a());
    let now = h.now();
    let refused = h
        .router_mut()
        .apply(now, snapshot, &mut FramePool::new(1))
        .unwrap_err();
    assert_eq!(refused.to_string(), "the routes do not fit into the table");
    assert_eq!(*h.router().snapshot(), node_a());
}

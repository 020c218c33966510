//! Packets through routers that obey the cluster's own snapshots: what the rules of `nat` do, not how they are written.

use std::net::Ipv4Addr;

use router_core::config::PermanentNeighbour;
use router_core::testing::{Harness, Packet, echo_reply, echo_request, eth, ipv4, payload, udp};
use router_core::{Event, Mac, PortId};

use super::tests::{K2, K3, cluster, pod};
use crate::cluster::{Cluster, ETH0_PORT, HOST_PORT};
use crate::testing::TempDir;

const K2_IP: Ipv4Addr = Ipv4Addr::new(172, 16, 30, 7);
const K3_IP: Ipv4Addr = Ipv4Addr::new(172, 16, 30, 8);
const K3_TUNL0: Ipv4Addr = Ipv4Addr::new(10, 244, 151, 0);
const N2: Ipv4Addr = Ipv4Addr::new(10, 244, 205, 193);
const N3: Ipv4Addr = Ipv4Addr::new(10, 244, 151, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 244, 151, 2);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 16, 30, 1);
const X: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
const GATEWAY_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const CALI: Mac = Mac([0xee; 6]);

/// Nodes K2 and K3 with their pods, as the cluster wants them.
struct Pair {
    cluster: Cluster,
    k2: Harness,
    k3: Harness,
    _dir: TempDir,
}

impl Pair {
    fn new() -> Self {
        let dir = TempDir::new();
        let mut cluster = cluster("", &dir);
        for (name, node) in [("nginx", K2), ("nginx-manual", K3), ("other", K3)] {
            cluster.add_pod(&pod(name, node), 0).unwrap();
        }
        let router = |node: &str| {
            let mut snapshot = cluster.snapshot(node).unwrap();
            for (ip, mac) in [
                (K2_IP, eth0(&cluster, K2)),
                (K3_IP, eth0(&cluster, K3)),
                (GATEWAY, GATEWAY_MAC),
            ] {
                let port = ETH0_PORT;
                let known = PermanentNeighbour { port, ip, mac };
                snapshot.neighbours.push(known);
            }
            // No ARP in between: every station is known.
            let peers = cluster.pods().filter(|pod| pod.node == node);
            snapshot.neighbours.extend(peers.filter_map(|pod| {
                let link = pod.link.as_ref()?;
                Some(PermanentNeighbour {
                    port: link.port,
                    ip: pod.ip,
                    mac: link.mac,
                })
            }));
            Harness::new(snapshot)
        };
        Self {
            k2: router(K2),
            k3: router(K3),
            cluster,
            _dir: dir,
        }
    }

    /// Port and MAC of a pod.
    fn link(&self, name: &str) -> (PortId, Mac) {
        let pod = self.cluster.pod("default", name).unwrap();
        let link = pod.link.as_ref().unwrap();
        (link.port, link.mac)
    }

    fn between(&self, from: &str, to: &str) -> Packet {
        eth(eth0(&self.cluster, to), eth0(&self.cluster, from))
    }

    /// From K3's host namespace to its router, and back.
    fn host(&self) -> (Packet, Packet) {
        let (host, router) = (eth0(&self.cluster, K3), self.cluster.host_mac(K3));
        (eth(router, host), eth(host, router))
    }
}

fn eth0(cluster: &Cluster, node: &str) -> Mac {
    let node = cluster.node(node).unwrap();
    let eth0 = node.ifaces.iter().find(|iface| iface.name == "eth0");
    eth0.unwrap().mac
}

/// CAL-32, S1-16, IPIP-4: from node to node the pod's address stays, in both directions, and so it does within a node; that
/// of the same pod toward the outside does not.
#[test]
fn pods_see_each_others_addresses() {
    let mut pair = Pair::new();
    let (manual, manual_mac) = pair.link("nginx-manual");
    let (nginx, nginx_mac) = pair.link("nginx");
    let (other, other_mac) = pair.link("other");
    let from_manual = eth(CALI, manual_mac);
    let ask = |ttl| ipv4(N3, N2).ttl(ttl).df() / echo_request(7, 1) / payload(*b"hello");
    pair.k3.rx(manual, &(from_manual.clone() / ask(64)));
    let sent = pair.k3.take(ETH0_PORT);
    assert_eq!(sent[14 + 9], 4, "protocol");
    let outer = ipv4(K3_IP, K2_IP).ttl(63).df().any_id();
    let expected = pair.between(K3, K2) / outer / ask(63);
    assert_eq!(expected.bytes_like(&sent), sent);
    pair.k2.rx_bytes(&[(ETH0_PORT, sent)]);
    pair.k2.expect_tx(nginx, &(eth(nginx_mac, CALI) / ask(62)));

    let answer = |ttl| ipv4(N2, N3).ttl(ttl) / echo_reply(7, 1) / payload(*b"hello");
    pair.k2.rx(nginx, &(eth(CALI, nginx_mac) / answer(64)));
    let sent = pair.k2.take(ETH0_PORT);
    pair.k3.rx_bytes(&[(ETH0_PORT, sent)]);
    pair.k3
        .expect_tx(manual, &(eth(manual_mac, CALI) / answer(62)));

    let near = |ttl| ipv4(N3, OTHER).ttl(ttl) / udp(5, 6);
    pair.k3.rx(manual, &(from_manual.clone() / near(64)));
    pair.k3.expect_tx(other, &(eth(other_mac, CALI) / near(63)));

    let out = |from, ttl| ipv4(from, X).ttl(ttl) / udp(5, 53);
    pair.k3.rx(manual, &(from_manual / out(N3, 64)));
    let expected = eth(GATEWAY_MAC, eth0(&pair.cluster, K3)) / out(K3_IP, 63);
    pair.k3.expect_tx(ETH0_PORT, &expected);
    pair.k3.expect_silence();
    pair.k2.expect_silence();
}

/// IPIP-18: what the node itself sends into the tunnel from eth0's address has tunl0's inside, and what comes back is for
/// eth0's again; from tunl0's address nothing is changed.
#[test]
fn what_the_node_sends_into_the_tunnel_comes_from_tunl0() {
    let mut pair = Pair::new();
    let (nginx, nginx_mac) = pair.link("nginx");
    let (from_host, to_host) = pair.host();
    let ask = |from, ttl| ipv4(from, N2).ttl(ttl) / echo_request(7, 1);
    for from in [K3_IP, K3_TUNL0] {
        pair.k3.rx(HOST_PORT, &(from_host.clone() / ask(from, 64)));
        let sent = pair.k3.take(ETH0_PORT);
        let outer = ipv4(K3_IP, K2_IP).any_id();
        let expected = pair.between(K3, K2) / outer / ask(K3_TUNL0, 64);
        assert_eq!(expected.bytes_like(&sent), sent, "from {from}");
        pair.k2.rx_bytes(&[(ETH0_PORT, sent)]);
        let received = eth(nginx_mac, CALI) / ask(K3_TUNL0, 63);
        pair.k2.expect_tx(nginx, &received);

        let answer = |to, ttl| ipv4(N2, to).ttl(ttl) / echo_reply(7, 1);
        let replied = eth(CALI, nginx_mac) / answer(K3_TUNL0, 64);
        pair.k2.rx(nginx, &replied);
        let sent = pair.k2.take(ETH0_PORT);
        pair.k3.rx_bytes(&[(ETH0_PORT, sent)]);
        let delivered = to_host.clone() / answer(from, 63);
        pair.k3.expect_tx(HOST_PORT, &delivered);
        // Both flows would have the same reply tuple: the first one is over by then.
        pair.k3.advance(core::time::Duration::from_secs(60));
    }
    pair.k3.expect_counters(&[
        (Event::Encapsulated.into(), 2),
        (Event::Decapsulated.into(), 2),
        (Event::HostDelivered.into(), 2),
    ]);
}

//! The TTL matrix (dataplane section 10.6): two nodes, their pods and their host sides, real echo requests.

use core::net::Ipv4Addr;

use router_core::config::{LocalAddress, PortConfig, PortKind, Snapshot};
use router_core::testing::topology::*;
use router_core::testing::*;
use router_core::{Mac, PortId};

const GW_B: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 1);
const GW_B_MAC: Mac = Mac([2, 0, 0, 0, 3, 1]);
const HOST_B_MAC: Mac = Mac([2, 0, 0, 0, 3, 2]);
const B1_MAC: Mac = Mac([2, 0, 0, 0, 3, 3]);
const HOST_B_PEER_MAC: Mac = Mac([2, 0, 0, 0, 3, 4]);

/// Node B: 172.16.30.4 with pod b1 and a host side.
fn node_b() -> Snapshot {
    Snapshot {
        epoch: 1,
        forwarding: true,
        ports: vec![
            PortConfig::ethernet(UPLINK.0, "eth0", B_MAC, 1500),
            PortConfig::ethernet(POD1.0, "vethfa21a27c", GW_B_MAC, 1500),
            PortConfig {
                kind: PortKind::Host {
                    peer_mac: HOST_B_PEER_MAC,
                },
                ..PortConfig::ethernet(HOST.0, "host", HOST_B_MAC, 1500)
            },
        ],
        addresses: vec![
            LocalAddress {
                addr: NODE_B,
                prefix_len: 24,
                broadcast: Some(Ipv4Addr::new(172, 16, 30, 255)),
                port: UPLINK,
            },
            LocalAddress {
                addr: GW_B,
                prefix_len: 32,
                broadcast: Some(GW_B),
                port: POD1,
            },
        ],
        routes: vec![
            route("10.244.0.0/24", UPLINK, Some(NODE_A)),
            route("10.244.1.2/32", POD1, None),
            route("172.16.30.0/24", UPLINK, None),
        ],
        ..Snapshot::default()
    }
}

/// A station with a stack that answers ARP and echo requests, and resolves its gateway by asking.
struct Station {
    node: usize,
    port: PortId,
    ip: Ipv4Addr,
    mac: Mac,
    /// The address it sends through; the host side sends everything on-link and asks for each destination.
    gateway: Option<Ipv4Addr>,
}

struct Net {
    nodes: [Harness; 2],
    stations: Vec<Station>,
}

fn mac_at(b: &[u8], at: usize) -> Mac {
    Mac([b[at], b[at + 1], b[at + 2], b[at + 3], b[at + 4], b[at + 5]])
}

fn ip_at(b: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(b[at], b[at + 1], b[at + 2], b[at + 3])
}

impl Net {
    fn new() -> Self {
        let station = |node, port, ip, mac, gateway| Station {
            node,
            port,
            ip,
            mac,
            gateway,
        };
        Self {
            nodes: [Harness::new(with_host(node_a())), Harness::new(node_b())],
            stations: vec![
                station(0, POD1, A1, A1_MAC, Some(GW_A)),
                station(0, POD2, A2, A2_MAC, Some(GW_A)),
                station(0, HOST, NODE_A, HOST_PEER_MAC, None),
                station(1, POD1, B1, B1_MAC, Some(GW_B)),
                station(1, HOST, NODE_B, HOST_B_PEER_MAC, None),
            ],
        }
    }

    /// Carries frames until nobody has more to send; returns the TTL of the echo reply that `pinger` gets.
    fn ping(&mut self, pinger: usize, dst: Ipv4Addr) -> Option<u8> {
        let p = &self.stations[pinger];
        let (port, node, src, mac) = (p.port, p.node, p.ip, p.mac);
        let next_hop = p.gateway.unwrap_or(dst);
        self.nodes[node].rx(
            port,
            &(eth(Mac::BROADCAST, mac) / arp_request(mac, src, next_hop)),
        );
        let answer = self.nodes[node].take(port);
        let gateway_mac = mac_at(&answer, 6);
        self.nodes[node].rx(
            port,
            &(eth(gateway_mac, mac) / ipv4(src, dst) / echo_request(1, 1) / b"ping"),
        );
        let mut ttl = None;
        for _ in 0..20 {
            for node in 0..2 {
                for (port, frame) in self.nodes[node].take_all() {
                    if port == UPLINK {
                        self.nodes[1 - node].rx_bytes(&[(UPLINK, frame)]);
                    } else {
                        ttl = self.station_rx(node, port, &frame).or(ttl);
                    }
                }
            }
        }
        for node in &self.nodes {
            node.check();
        }
        ttl
    }

    /// What a station does with a frame; the TTL if it is an echo reply.
    fn station_rx(&mut self, node: usize, port: PortId, f: &[u8]) -> Option<u8> {
        let s = self
            .stations
            .iter()
            .find(|s| (s.node, s.port) == (node, port))?;
        let sender = mac_at(f, 6);
        if f[12..14] == [8, 6] && f[21] == 1 && ip_at(f, 38) == s.ip {
            let reply = eth(sender, s.mac) / arp_reply(s.mac, s.ip, sender, ip_at(f, 28));
            self.nodes[node].rx(port, &reply);
        } else if f[12..14] == [8, 0] && f[23] == 1 && f[34] == 8 && ip_at(f, 30) == s.ip {
            let reply = ipv4(s.ip, ip_at(f, 26)) / echo_reply(1, 1) / f[42..].to_vec();
            self.nodes[node].rx(port, &(eth(sender, s.mac) / reply));
        } else if f[12..14] == [8, 0] && f[23] == 1 && f[34] == 0 && ip_at(f, 30) == s.ip {
            return Some(f[22]);
        }
        None
    }
}

/// TM-1 to TM-3, TM-5 to TM-9, FWD-60. Nothing is resolved beforehand, so the first packet of every pair survives ARP on all links.
#[test]
fn every_pair_sees_the_ttl_of_the_matrix_on_the_first_packet() {
    const POD: usize = 0;
    const NODE: usize = 2;
    for (from, to, ttl, pair) in [
        (POD, GW_A, 64, "pod to its own gateway"),
        (POD, NODE_A, 64, "pod to its own node"),
        (POD, A2, 63, "pod to another pod of its node"),
        (POD, B1, 62, "pod to a pod on another node"),
        (POD, NODE_B, 63, "pod to another node"),
        (POD, GW_B, 63, "pod to another node's gateway"),
        (NODE, A1, 64, "node to its own pod"),
        (NODE, B1, 63, "node to a pod on another node"),
        (NODE, NODE_B, 64, "node to another node"),
    ] {
        let mut net = Net::new();
        assert_eq!(net.ping(from, to), Some(ttl), "{pair}");
        // And again with everything known.
        assert_eq!(net.ping(from, to), Some(ttl), "{pair}, again");
    }
}

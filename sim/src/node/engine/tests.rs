//! Two kindnet nodes and the gateway with the simulated internet, wired to each other in memory, in virtual time.

use core::time::Duration;

use router_core::Limits;
use router_core::config::{LocalAddress, NextHop, PinnedPeer, PortConfig, Route};
use router_core::frame::BATCH_MAX;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::*;
use crate::control::node::Attachment;
use crate::internet::{self, Gateway};
use crate::ping::packet::{EchoId, Heard, echo_request, ipv4, parse};
use crate::spec::InternetSpec;

const ETH0: PortId = PortId(1);
const HOST: PortId = PortId(0);
const POD_A: PortId = PortId(2);
const POD_B: PortId = PortId(3);
const INTERNET: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 16, 30, 1);

fn mac(node: u8, port: u8, side: u8) -> Mac {
    Mac([2, 0, 0, node, port, side])
}

fn node_ip(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 16, 30, 2 + node)
}

fn gw(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, node, 1)
}

fn pod_ip(node: u8, port: PortId) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, node, u8::try_from(port.0).unwrap())
}

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn route(dst: Ipv4Net, port: PortId, via: Option<Ipv4Addr>, src: Option<Ipv4Addr>) -> Route {
    Route {
        dst,
        metric: 0,
        src,
        target: RouteTarget::Unicast(vec![NextHop {
            port,
            via,
            weight: 1,
        }]),
    }
}

/// Node `n` of 1 and 2, as kindnet sets it up.
fn kindnet_node(n: u8) -> Snapshot {
    let peer = 3 - n;
    let mut host = PortConfig::ethernet(HOST.0, "host", mac(n, 0, 1), 1500);
    host.kind = PortKind::Host {
        peer_mac: mac(n, 0, 2),
    };
    let mut ports = vec![
        host,
        PortConfig::ethernet(ETH0.0, "eth0", mac(n, 1, 1), 1500),
    ];
    let mut addresses = vec![LocalAddress {
        addr: node_ip(n),
        prefix_len: 24,
        broadcast: Some(Ipv4Addr::new(172, 16, 30, 255)),
        port: ETH0,
    }];
    let mut routes = vec![
        route(net("0.0.0.0/0"), ETH0, Some(GATEWAY), Some(node_ip(n))),
        route(net("172.16.30.0/24"), ETH0, None, Some(node_ip(n))),
        route(
            Ipv4Net::new(Ipv4Addr::new(10, 244, peer, 0), 24).unwrap(),
            ETH0,
            Some(node_ip(peer)),
            None,
        ),
    ];
    for port in [POD_A, POD_B] {
        let number = u8::try_from(port.0).unwrap();
        let mut veth = PortConfig::ethernet(port.0, "veth", mac(n, number, 1), 1500);
        veth.peer = Some(PinnedPeer {
            ip: pod_ip(n, port),
            mac: mac(n, number, 2),
        });
        ports.push(veth);
        addresses.push(LocalAddress {
            addr: gw(n),
            prefix_len: 32,
            broadcast: None,
            port,
        });
        routes.push(route(
            Ipv4Net::from(pod_ip(n, port)),
            port,
            None,
            Some(gw(n)),
        ));
    }
    Snapshot {
        epoch: 1,
        forwarding: true,
        ports,
        addresses,
        routes,
        ..Snapshot::default()
    }
}

struct Node {
    engine: NodeEngine,
    pool: FramePool,
    tx: TxBatch,
    rx: VecDeque<Vec<u8>>,
    channels: Vec<(PortId, ChannelId, OwnedFd)>,
}

impl Node {
    fn new(snapshot: Snapshot) -> Self {
        let mut pool = FramePool::new(512);
        let mut engine = NodeEngine::new(Router::new(Limits::default(), 1));
        engine
            .configure(Instant::ZERO, snapshot, &mut pool)
            .unwrap();
        Self {
            engine,
            pool,
            tx: TxBatch::new(512),
            rx: VecDeque::new(),
            channels: Vec::new(),
        }
    }

    /// Opens a channel of its own on every stack.
    fn open(&mut self, port: PortId) {
        let (near, far) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let id = ChannelId(self.channels.len());
        self.engine.open_channel(port, id, far).unwrap();
        self.channels.push((port, id, near));
    }
}

struct Lab {
    now: Instant,
    nodes: Vec<Node>,
}

impl Lab {
    fn new() -> Self {
        let mut nodes: Vec<_> = [1, 2]
            .into_iter()
            .map(|n| {
                let mut node = Node::new(kindnet_node(n));
                for port in [POD_A, POD_B] {
                    let number = u8::try_from(port.0).unwrap();
                    let config = StackConfig::pod(
                        mac(n, number, 2),
                        pod_ip(n, port),
                        mac(n, number, 1),
                        1500,
                    );
                    assert!(node.engine.attach(port, Stack::new(config, 3)));
                }
                assert!(node.engine.attach_host(HOST, 4));
                for port in [HOST, POD_A, POD_B] {
                    node.open(port);
                }
                node
            })
            .collect();
        let spec = InternetSpec {
            addresses: vec![INTERNET, Ipv4Addr::new(1, 1, 1, 1)],
            ttl_at_node: 116,
        };
        let gateway = Gateway {
            addr: net("172.16.30.1/24"),
            mac: mac(9, 1, 1),
            mtu: 1500,
        };
        let mut node = Node::new(internet::snapshot(&gateway, &spec));
        let Attachment::Internet {
            mac,
            gateway_mac,
            addresses,
            ttl,
        } = internet::attachment(&spec)
        else {
            unreachable!()
        };
        let config = StackConfig {
            mac,
            gateway_mac,
            mtu: 1500,
            addresses,
            sources: Vec::new(),
            ttl,
            on_link: None,
        };
        assert!(
            node.engine
                .attach(internet::FAR_SIDE, internet::stack(config, 5))
        );
        nodes.push(node);
        Self {
            now: Instant::from_nanos(1_000_000_000),
            nodes,
        }
    }

    /// Lets everything that is under way arrive.
    fn settle(&mut self) {
        let mut idle = false;
        while !idle {
            idle = true;
            for i in 0..self.nodes.len() {
                let now = self.now;
                let node = &mut self.nodes[i];
                for (_, id, _) in &node.channels {
                    node.engine
                        .read_channel(*id, now, &mut node.pool, &mut node.tx)
                        .unwrap();
                }
                let mut batch = Batch::new();
                while let Some(bytes) = node.rx.pop_front() {
                    let mut frame = node.pool.alloc().unwrap();
                    assert!(frame.fill(&bytes));
                    frame.set_port(ETH0);
                    if batch.push(frame).is_err() {
                        panic!("more than {BATCH_MAX} frames at once");
                    }
                }
                node.engine
                    .process(now, &mut batch, &mut node.pool, &mut node.tx);
                if node.engine.poll_timeout().is_some_and(|due| due <= now) {
                    node.engine
                        .handle_timeout(now, &mut node.pool, &mut node.tx);
                }
                let mut sent = Vec::new();
                for (port, frame) in node.tx.drain() {
                    assert_eq!(port, ETH0, "only eth0 has a device");
                    sent.push(frame.bytes().to_vec());
                    node.pool.free(frame);
                }
                idle &= sent.is_empty();
                for (j, other) in self.nodes.iter_mut().enumerate() {
                    if i != j {
                        other.rx.extend(sent.iter().cloned());
                    }
                }
            }
        }
    }

    fn channel(&self, node: u8, port: PortId) -> &OwnedFd {
        let channels = &self.nodes[usize::from(node) - 1].channels;
        &channels.iter().find(|(p, ..)| *p == port).unwrap().2
    }

    fn send(&mut self, from: (u8, PortId), packet: &[u8]) {
        send(self.channel(from.0, from.1), packet, SendFlags::DONTWAIT).unwrap();
        self.settle();
    }

    /// What the channel has heard.
    fn hear(&self, from: (u8, PortId)) -> Vec<Heard> {
        let mut buf = vec![0; MAX_PACKET];
        let mut heard = Vec::new();
        while let Ok((len, _)) = recv(
            self.channel(from.0, from.1),
            &mut buf[..],
            RecvFlags::DONTWAIT,
        ) {
            heard.extend(parse(&buf[..len]));
        }
        heard
    }

    /// TTL of the answer to one ping.
    fn ping_with(&mut self, from: (u8, PortId), to: Ipv4Addr, size: usize) -> u8 {
        let echo = EchoId { id: 77, seq: 1 };
        let packet = ipv4(to, 64, false, &echo_request(echo, size));
        self.send(from, &packet);
        match &self.hear(from)[..] {
            &[
                Heard::Reply {
                    echo: answered,
                    from,
                    ttl,
                    len,
                },
            ] => {
                assert_eq!((answered, from, len), (echo, to, size + 8));
                ttl
            }
            other => panic!("{from:?} -> {to}: {other:?}"),
        }
    }

    fn ping(&mut self, from: (u8, PortId), to: Ipv4Addr) -> u8 {
        self.ping_with(from, to, 56)
    }

    /// No frame is anywhere, and none was lost.
    fn check(&self) {
        for node in &self.nodes {
            let router = node.engine.router();
            assert_eq!(node.pool.missing(), router.held());
            router.stats().check_conservation(router.held()).unwrap();
        }
    }
}

/// TM-1 to TM-3, TM-5 to TM-9; each pair's very first packet is answered (NEI-4).
#[test]
fn the_ttl_matrix_holds() {
    let (a, other_a) = ((1, POD_A), (2, POD_A));
    let rows = [
        ("pod to its gateway", a, gw(1), 64),
        ("pod to its node", a, node_ip(1), 64),
        ("pod to a pod of its node", a, pod_ip(1, POD_B), 63),
        ("pod to a pod of another node", a, pod_ip(2, POD_A), 62),
        ("the way back", other_a, pod_ip(1, POD_A), 62),
        ("pod to another node", a, node_ip(2), 63),
        ("pod to another node's gateway", a, gw(2), 63),
        ("node to its pod", (1, HOST), pod_ip(1, POD_A), 64),
        (
            "node to a pod of another node",
            (1, HOST),
            pod_ip(2, POD_B),
            63,
        ),
        ("node to another node", (1, HOST), node_ip(2), 64),
        ("node to itself", (1, HOST), node_ip(1), 64),
        ("pod to itself", a, pod_ip(1, POD_A), 64),
        ("node to the default gateway", (1, HOST), GATEWAY, 64),
        ("node to the internet", (1, HOST), INTERNET, 116),
    ];
    for (what, from, to, ttl) in rows {
        let mut lab = Lab::new();
        assert_eq!(lab.ping(from, to), ttl, "{what}, first packet");
        assert_eq!(lab.ping(from, to), ttl, "{what}, second packet");
        lab.check();
    }
}

/// A ping of four times the MTU crosses two nodes in fragments and comes back whole.
#[test]
fn a_long_ping_crosses_nodes() {
    let mut lab = Lab::new();
    assert_eq!(lab.ping_with((1, POD_A), pod_ip(2, POD_A), 6000), 62);
    lab.check();
}

/// traceroute: a TTL that runs out on the way is reported by the gateway of the pod, then by the peer's node.
#[test]
fn a_short_ttl_is_reported_by_the_routers() {
    let mut lab = Lab::new();
    let request = echo_request(EchoId { id: 7, seq: 9 }, 56);
    for (ttl, reporter) in [(1, gw(1)), (2, node_ip(2))] {
        let packet = ipv4(pod_ip(2, POD_A), ttl, false, &request);
        lab.send((1, POD_A), &packet);
        let heard = lab.hear((1, POD_A));
        let [Heard::Error { from, error, .. }] = &heard[..] else {
            panic!("{heard:?}")
        };
        assert_eq!(*from, reporter);
        assert_eq!(error.to_string(), "Time to live exceeded");
    }
    lab.check();
}

/// KM-5: a node speaks to its own pods as their gateway, and to everybody else as itself.
#[test]
fn a_node_chooses_its_source_by_route() {
    let snapshot = kindnet_node(1);
    let config = host_config(&snapshot, HOST);
    assert_eq!(
        (config.mac, config.gateway_mac),
        (mac(1, 0, 2), mac(1, 0, 1))
    );
    assert_eq!(config.addresses, [node_ip(1), gw(1)]);
    let source = |dst: Ipv4Addr| {
        let found = config.sources.iter().find(|(net, _)| net.contains(&dst));
        found.unwrap().1
    };
    assert_eq!(source(pod_ip(1, POD_A)), gw(1));
    assert_eq!(source(pod_ip(2, POD_A)), node_ip(1));
    assert_eq!(source(INTERNET), node_ip(1));
}

/// FWD-50 on the in-process back end: the node's host side refuses TCP with RST, and the RST finds its way back.
#[test]
fn the_host_side_refuses_tcp() {
    use router_core::stats::Event;
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{
        IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
    };
    let mut lab = Lab::new();
    // So that nothing but the segment and its answer is counted below.
    assert_eq!(lab.ping((2, HOST), node_ip(1)), 64);
    let delivered = |lab: &Lab, node: usize| {
        let stats = lab.nodes[node].engine.router().stats();
        stats.events.get(Event::HostDelivered)
    };
    let before = [delivered(&lab, 0), delivered(&lab, 1)];
    let segment = TcpRepr {
        src_port: 40_000,
        dst_port: 22,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(5),
        ack_number: None,
        window_len: 1000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let (src, dst) = (node_ip(2), node_ip(1));
    let header = Ipv4Repr {
        src_addr: src,
        dst_addr: dst,
        next_header: IpProtocol::Tcp,
        payload_len: segment.buffer_len(),
        hop_limit: 64,
    };
    let caps = ChecksumCapabilities::default();
    let mut packet = vec![0; 20 + segment.buffer_len()];
    header.emit(&mut Ipv4Packet::new_unchecked(&mut packet[..]), &caps);
    let mut tcp = TcpPacket::new_unchecked(&mut packet[20..]);
    segment.emit(&mut tcp, &src.into(), &dst.into(), &caps);
    let (to, from) = (mac(1, 1, 1), mac(2, 1, 1));
    let frame = [&to.0[..], &from.0, &[8, 0], &packet].concat();
    lab.nodes[0].rx.push_back(frame);
    lab.settle();
    // The SYN went to the first node's host side, the RST to the second's, and that one answers no RST.
    let after = [delivered(&lab, 0), delivered(&lab, 1)];
    assert_eq!(after, [before[0] + 1, before[1] + 1]);
    lab.check();
}

/// A pod that is taken away is silent, and its channels go with it.
#[test]
fn a_detached_pod_is_gone() {
    let mut lab = Lab::new();
    assert_eq!(lab.ping((1, POD_A), pod_ip(1, POD_B)), 63);
    let channels = lab.nodes[0].engine.detach(POD_B).unwrap();
    assert_eq!(channels.len(), 1);
    assert!(!lab.nodes[0].engine.has_stack(POD_B));
    assert!(lab.nodes[0].engine.detach(POD_B).is_none());
}

/// A pod that pings with nobody reading its answers loses them, and nothing else happens.
#[test]
fn a_full_channel_loses_packets_and_counts_them() {
    let mut lab = Lab::new();
    let packet = ipv4(
        gw(1),
        64,
        false,
        &echo_request(EchoId { id: 1, seq: 1 }, 1400),
    );
    for _ in 0..1000 {
        lab.send((1, POD_A), &packet);
    }
    let heard = lab.hear((1, POD_A)).len();
    let lost = lab.nodes[0].engine.stack_drops();
    assert!(heard > 0 && lost > 0, "{heard} {lost}");
    assert_eq!(heard as u64 + lost, 1000);
    lab.check();
}

/// Time passes without anybody sending: resolution of an absent neighbour ends with an error for the pinger.
#[test]
fn an_absent_node_is_unreachable() {
    let mut lab = Lab::new();
    let absent = node_ip(77);
    let packet = ipv4(
        absent,
        64,
        false,
        &echo_request(EchoId { id: 1, seq: 1 }, 56),
    );
    lab.send((1, POD_A), &packet);
    for _ in 0..50 {
        lab.now = lab.now + Duration::from_millis(100);
        lab.settle();
    }
    let heard = lab.hear((1, POD_A));
    let [Heard::Error { error, .. }] = &heard[..] else {
        panic!("{heard:?}")
    };
    assert_eq!(error.to_string(), "Destination Host Unreachable");
    lab.check();
}

//! Node processes as processes: started through the handle, told what to do, and gone when their daemon is.
#![expect(clippy::unwrap_used, reason = "the whole crate is a test")]

use std::io::Read as _;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use router_core::config::{LocalAddress, NextHop, PortConfig, PortKind, Route, RouteTarget};
use router_core::{Mac, PortId, Snapshot};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use sim::control::node::{Attachment, NodeReply, NodeRequest};
use sim::control::proto::IcmpChannel;
use sim::internet::{self, FAR_SIDE, Gateway, UPLINK};
use sim::node::{NodeError, NodeHandle, NodeSpawn, Role};
use sim::ping::{Channel, MatrixOptions, Outcome, matrix};
use sim::spec::InternetSpec;
use tap_bridge::fabric::{Hub, HubHandle, MemberId};

const HOST: PortId = PortId(0);
const POD: PortId = PortId(1);
const OTHER: PortId = PortId(2);
const GW: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn mac(port: PortId, side: u8) -> Mac {
    Mac([2, 0, 0, 0, port.0.to_le_bytes()[0], side])
}

fn addr(port: PortId) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, 0, 1 + port.0.to_le_bytes()[0])
}

/// A handle, and the process's log.
fn start(role: Role) -> (NodeHandle, UnixStream) {
    let (log, theirs) = UnixStream::pair().unwrap();
    let handle = NodeHandle::spawn(&NodeSpawn {
        lab: "test",
        node: "n1",
        role,
        workers: 1,
        connections: 65_536,
        log: theirs.as_fd(),
        program: Some(env!("CARGO_BIN_EXE_podwire").into()),
        die_with_thread: true,
    })
    .unwrap();
    log.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (handle, log)
}

/// One node with two pods and its host side, without an underlay.
fn snapshot() -> Snapshot {
    let mut host = PortConfig::ethernet(HOST.0, "host", mac(HOST, 1), 1500);
    host.kind = PortKind::Host {
        peer_mac: mac(HOST, 2),
    };
    let mut ports = vec![host];
    let (mut addresses, mut routes) = (Vec::new(), Vec::new());
    for port in [POD, OTHER] {
        ports.push(PortConfig::ethernet(port.0, "veth", mac(port, 1), 1500));
        addresses.push(LocalAddress {
            addr: GW,
            prefix_len: 32,
            broadcast: None,
            port,
        });
        routes.push(Route {
            dst: Ipv4Net::from(addr(port)),
            metric: 0,
            src: Some(GW),
            target: RouteTarget::Unicast(vec![NextHop {
                port,
                via: None,
                weight: 1,
            }]),
        });
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

fn add_pod(port: PortId) -> NodeRequest {
    NodeRequest::AddPort {
        id: port,
        name: "veth".into(),
        mtu: 1500,
        attachment: Attachment::Pod {
            mac: mac(port, 2),
            addr: addr(port),
            gateway_mac: mac(port, 1),
            on_link: None,
        },
    }
}

fn add_host() -> NodeRequest {
    NodeRequest::AddPort {
        id: HOST,
        name: "host".into(),
        mtu: 1500,
        attachment: Attachment::Host,
    }
}

fn channel_pair() -> (OwnedFd, OwnedFd) {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap()
}

/// Everything in one go: many requests are on their way before the first answer is awaited, and the node then routes
/// between its pods, its host side and its gateway.
#[test]
fn a_node_process_routes_between_its_pods() {
    let (mut node, _log) = start(Role::Node);
    let mut tickets = Vec::new();
    let mut channels = Vec::new();
    // The configuration may come after the ports.
    for request in [add_pod(POD), add_host(), add_pod(OTHER)] {
        tickets.push(node.post(request, &[]).unwrap());
    }
    let snapshot = Box::new(snapshot());
    tickets.push(node.post(NodeRequest::Configure { snapshot }, &[]).unwrap());
    for port in [POD, HOST, OTHER] {
        let (near, far) = channel_pair();
        let open = NodeRequest::OpenIcmp { port };
        tickets.push(node.post(open, &[far.as_fd()]).unwrap());
        channels.push(Channel::new(near, IcmpChannel::StackChannel, addr(port)));
    }
    // The answers are kept for their tickets, whatever the order.
    while let Some(ticket) = tickets.pop() {
        assert_eq!(node.wait(ticket, deadline()).unwrap(), NodeReply::Done);
    }
    let targets = [addr(POD), addr(OTHER), GW];
    let rows = matrix(&channels, &targets, &MatrixOptions::default()).unwrap();
    let ttls: Vec<Vec<u8>> = rows
        .iter()
        .map(|row| {
            row.iter()
                .map(|outcome| match outcome {
                    Outcome::Reply { ttl, .. } => *ttl,
                    other => panic!("{other:?}"),
                })
                .collect()
        })
        .collect();
    assert_eq!(ttls, [[64, 63, 64], [64, 64, 64], [63, 64, 64]]);
    let NodeReply::Stats { stats } = node.request(NodeRequest::Stats, &[], deadline()).unwrap()
    else {
        panic!()
    };
    stats.router.check_conservation(stats.held).unwrap();
    assert_eq!(stats.stack_drops, 0);
    assert_eq!(stats.ports.len(), 3);
    let NodeReply::Neighbours { neighbours } = node
        .request(NodeRequest::Neighbours, &[], deadline())
        .unwrap()
    else {
        panic!()
    };
    let mut known: Vec<_> = neighbours.iter().map(|n| (n.port, n.ip, n.mac)).collect();
    known.sort();
    assert_eq!(known, [POD, OTHER].map(|p| (p, addr(p), Some(mac(p, 2)))));
    node.request(
        NodeRequest::FlushNeighbours {
            port: Some(POD),
            ip: None,
        },
        &[],
        deadline(),
    )
    .unwrap();
    let NodeReply::Neighbours { neighbours } = node
        .request(NodeRequest::Neighbours, &[], deadline())
        .unwrap()
    else {
        panic!()
    };
    assert!(neighbours.iter().all(|n| n.port == OTHER));
}

/// What can't be done is refused with the reason, and the process goes on as before.
#[test]
fn a_request_that_cannot_be_done_is_refused() {
    let (mut node, _log) = start(Role::Node);
    node.request(add_pod(POD), &[], deadline()).unwrap();
    let mut contradictory = snapshot();
    contradictory.ports.remove(0);
    contradictory.ports.remove(0);
    let (near, far) = channel_pair();
    let cases = [
        (add_pod(POD), 0, "port 1 (veth) is there already"),
        (
            NodeRequest::RemovePort { id: OTHER },
            0,
            "there is no port 2",
        ),
        (
            NodeRequest::OpenIcmp { port: OTHER },
            1,
            "there is no in-process stack behind port 2",
        ),
        (
            NodeRequest::Stats,
            1,
            "1 descriptors came along where 0 belong",
        ),
        (
            NodeRequest::AddPort {
                id: OTHER,
                name: "veth".into(),
                mtu: 1500,
                attachment: Attachment::Tap,
            },
            0,
            "0 descriptors came along where 1 belong",
        ),
        (
            NodeRequest::Configure {
                snapshot: Box::new(contradictory),
            },
            0,
            "port 1",
        ),
    ];
    for (request, fds, expected) in cases {
        let fds = &[near.as_fd()][..fds];
        let error = node.request(request, fds, deadline()).unwrap_err();
        assert!(matches!(error, NodeError::Refused { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    drop(far);
    let remove = NodeRequest::RemovePort { id: POD };
    assert_eq!(
        node.request(remove, &[], deadline()).unwrap(),
        NodeReply::Done
    );
}

/// `ps` shows what it is; at the end of the daemon (its socket) it ends by itself, with status 0.
#[test]
fn a_node_process_has_a_name_and_ends_with_its_daemon() {
    for (role, name) in [(Role::Node, "node"), (Role::Internet, "internet")] {
        let (mut node, mut log) = start(role);
        // An answer means that it runs.
        node.request(NodeRequest::Stats, &[], deadline()).unwrap();
        let proc = format!("/proc/{}", node.pid());
        let title = std::fs::read_to_string(format!("{proc}/cmdline")).unwrap();
        let expected = format!("podwire: {name} n1 (lab test)\0");
        assert!(title.starts_with(&expected), "{title:?}");
        let comm = std::fs::read_to_string(format!("{proc}/comm")).unwrap();
        assert_eq!(comm.trim(), &format!("podwire-{name}")[..comm.trim().len()]);
        assert!(node.try_reap().unwrap().is_none());
        let reply = node.request(NodeRequest::Shutdown, &[], deadline());
        assert_eq!(reply.unwrap(), NodeReply::Done);
        // The log ends when the process does.
        let mut text = String::new();
        log.read_to_string(&mut text).unwrap();
        // It is ending or has ended by itself, so a kill comes too late to change its status.
        let status = node.kill().unwrap();
        assert!(status.success(), "{status}: {text}");
        let error = node
            .request(NodeRequest::Stats, &[], deadline())
            .unwrap_err();
        assert!(matches!(error, NodeError::Gone { .. }), "{error:?}");
    }
}

/// A process that was killed is told from one that does not answer.
#[test]
fn a_killed_node_process_is_gone() {
    let (mut node, _log) = start(Role::Node);
    let ticket = node.post(NodeRequest::Stats, &[]).unwrap();
    node.wait(ticket, deadline()).unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(node.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let error = node
        .request(NodeRequest::Stats, &[], deadline())
        .unwrap_err();
    assert!(matches!(error, NodeError::Gone { .. }), "{error:?}");
    assert!(!node.kill().unwrap().success());
}

/// Called by hand, the hidden command ends with an error: its words or its socket are missing.
#[test]
fn the_hidden_command_wants_its_socket() {
    use std::os::fd::AsRawFd as _;
    use std::process::Command;
    // A process that inherits nothing under that number refuses to start.
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let fd = ours.as_raw_fd().to_string();
    let status = Command::new(env!("CARGO_BIN_EXE_podwire"))
        .args(["__node", "node", "n1", &fd, "1", "8"])
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(70));
    let status = Command::new(env!("CARGO_BIN_EXE_podwire"))
        .args(["__node", "king", "n1", "3", "1", "8"])
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(2));
}

const ETH0: PortId = PortId(9);
const INTERNET: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 16, 30, 1);

fn eth0_mac(member: u8) -> Mac {
    Mac([2, 0, 0, 1, 0, member])
}

fn node_ip(member: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 16, 30, 2 + member)
}

fn pod_of(member: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, member, 2)
}

fn route(dst: &str, port: PortId, via: Option<Ipv4Addr>, src: Ipv4Addr) -> Route {
    Route {
        dst: dst.parse().unwrap(),
        metric: 0,
        src: Some(src),
        target: RouteTarget::Unicast(vec![NextHop {
            port,
            via,
            weight: 1,
        }]),
    }
}

/// A kindnet node with one pod, member 1 or 2 of the underlay.
fn kindnet_node(member: u8) -> Snapshot {
    let (peer, gw) = (3 - member, Ipv4Addr::new(10, 244, member, 1));
    let mut host = PortConfig::ethernet(HOST.0, "host", mac(HOST, 1), 1500);
    host.kind = PortKind::Host {
        peer_mac: mac(HOST, 2),
    };
    let own = node_ip(member);
    let local = |addr, prefix_len, port| LocalAddress {
        addr,
        prefix_len,
        broadcast: None,
        port,
    };
    Snapshot {
        epoch: 1,
        forwarding: true,
        ports: vec![
            host,
            PortConfig::ethernet(POD.0, "veth", mac(POD, 1), 1500),
            PortConfig::ethernet(ETH0.0, "eth0", eth0_mac(member), 1500),
        ],
        addresses: vec![local(own, 24, ETH0), local(gw, 32, POD)],
        routes: vec![
            route("0.0.0.0/0", ETH0, Some(GATEWAY), own),
            route("172.16.30.0/24", ETH0, None, own),
            route(
                &format!("10.244.{peer}.0/24"),
                ETH0,
                Some(node_ip(peer)),
                own,
            ),
            route(&format!("10.244.{member}.2/32"), POD, None, gw),
        ],
        ..Snapshot::default()
    }
}

/// Joins a process to the underlay.
fn join(hub: &HubHandle, node: &mut NodeHandle, member: u8, port: PortId, mac: Mac) {
    let id = u32::from(member);
    let fd = hub.add_member(MemberId(id), mac).unwrap();
    let request = NodeRequest::AddPort {
        id: port,
        name: "eth0".into(),
        mtu: 1500,
        attachment: Attachment::Fabric { member: id, mac },
    };
    node.request(request, &[fd.as_fd()], deadline()).unwrap();
}

fn open(node: &mut NodeHandle, port: PortId, source: Ipv4Addr) -> Channel {
    let (near, far) = channel_pair();
    let request = NodeRequest::OpenIcmp { port };
    node.request(request, &[far.as_fd()], deadline()).unwrap();
    Channel::new(near, IcmpChannel::StackChannel, source)
}

/// A whole node as a process, and channels as its host and as its pod.
fn start_node(hub: &HubHandle, member: u8) -> (NodeHandle, [Channel; 2]) {
    let (mut node, _log) = start(Role::Node);
    let snapshot = Box::new(kindnet_node(member));
    let pod = NodeRequest::AddPort {
        id: POD,
        name: "veth".into(),
        mtu: 1500,
        attachment: Attachment::Pod {
            mac: mac(POD, 2),
            addr: pod_of(member),
            gateway_mac: mac(POD, 1),
            on_link: None,
        },
    };
    for request in [NodeRequest::Configure { snapshot }, add_host(), pod] {
        node.request(request, &[], deadline()).unwrap();
    }
    join(hub, &mut node, member, ETH0, eth0_mac(member));
    let channels = [
        open(&mut node, HOST, node_ip(member)),
        open(&mut node, POD, pod_of(member)),
    ];
    (node, channels)
}

/// The TTL of each answer, row by row; 0 for none.
fn ttls(channels: &[Channel], targets: &[Ipv4Addr], options: &MatrixOptions) -> Vec<Vec<u8>> {
    let rows = matrix(channels, targets, options).unwrap();
    rows.iter()
        .map(|row| {
            row.iter()
                .map(|outcome| match outcome {
                    Outcome::Reply { ttl, .. } => *ttl,
                    _ => 0,
                })
                .collect()
        })
        .collect()
}

/// Dataplane 10.6 over three processes and the fabric, each pair's first packet included; and again after a node process
/// was killed and has come back.
#[test]
fn nodes_reach_each_other_and_the_internet_over_the_fabric() {
    let (hub, thread) = Hub::spawn().unwrap();
    let (mut internet, _log) = start(Role::Internet);
    let spec = InternetSpec {
        addresses: vec![INTERNET],
        ttl_at_node: 116,
    };
    let gateway = Gateway {
        addr: "172.16.30.1/24".parse().unwrap(),
        mac: eth0_mac(100),
        mtu: 1500,
    };
    let snapshot = Box::new(internet::snapshot(&gateway, &spec));
    let far_side = NodeRequest::AddPort {
        id: FAR_SIDE,
        name: "internet".into(),
        mtu: 1500,
        attachment: internet::attachment(&spec),
    };
    for request in [NodeRequest::Configure { snapshot }, far_side] {
        internet.request(request, &[], deadline()).unwrap();
    }
    join(&hub, &mut internet, 100, UPLINK, gateway.mac);

    let (mut first, mut channels_1) = start_node(&hub, 1);
    let (_second, channels_2) = start_node(&hub, 2);
    let targets = [node_ip(1), pod_of(1), node_ip(2), pod_of(2)];
    let expected_1 = [[64, 64, 64, 63], [64, 64, 63, 62]];
    let expected_2 = [[64, 63, 64, 64], [63, 62, 64, 64]];
    let options = MatrixOptions::default();
    for round in 0..2 {
        assert_eq!(ttls(&channels_1, &targets, &options), expected_1, "{round}");
        assert_eq!(ttls(&channels_2, &targets, &options), expected_2, "{round}");
    }
    assert_eq!(
        ttls(&channels_1[..1], &[GATEWAY, INTERNET], &options),
        [[64, 116]],
        "the node to the gateway and the internet"
    );

    // A new life of the first node: the hub gives it a new generation, and the other one finds it again.
    first.kill().unwrap();
    drop(first);
    let (_first, new) = start_node(&hub, 1);
    channels_1 = new;
    assert_eq!(ttls(&channels_1, &targets, &options), expected_1, "reborn");
    assert_eq!(ttls(&channels_2, &targets, &options), expected_2, "reborn");
    drop(hub);
    thread.join().unwrap().unwrap();
}

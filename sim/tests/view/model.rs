//! Model values for tests, with as few words as possible.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use router_core::Mac;
use sim::model::{
    Hop, IfAddr, Iface, IfaceKind, NeighbourEntry, Node, Phase, Pod, Proto, RouteEntry, RouteKind,
    RouteOwner, Scope, Sysctls,
};

pub(crate) fn ip(text: &str) -> Ipv4Addr {
    text.parse().expect("an address")
}

pub(crate) fn net(text: &str) -> Ipv4Net {
    if text == "default" {
        return Ipv4Net::default();
    }
    let text = if text.contains('/') {
        text.to_owned()
    } else {
        format!("{text}/32")
    };
    text.parse().expect("a prefix")
}

pub(crate) fn mac(text: &str) -> Mac {
    text.parse().expect("a MAC address")
}

/// An address; a broadcast address only where given.
pub(crate) fn addr(text: &str, broadcast: Option<&str>) -> IfAddr {
    IfAddr {
        net: net(text),
        broadcast: broadcast.map(ip),
        scope: Scope::Global,
        lease_secs: None,
        manual: false,
    }
}

pub(crate) fn iface(
    index: u32,
    name: &str,
    kind: IfaceKind,
    address: &str,
    addrs: Vec<IfAddr>,
) -> Iface {
    Iface {
        index,
        name: name.to_owned(),
        kind,
        mac: mac(address),
        mtu: 1500,
        qdisc: "noqueue".to_owned(),
        qlen: None,
        up: true,
        carrier: true,
        addrs,
        link_local: None,
        master: None,
        port: None,
        sysctls: Sysctls::default(),
    }
}

pub(crate) fn lo() -> Iface {
    Iface {
        mtu: 65536,
        qlen: Some(1000),
        ..iface(
            1,
            "lo",
            IfaceKind::Loopback,
            "00:00:00:00:00:00",
            vec![IfAddr {
                scope: Scope::Host,
                ..addr("127.0.0.1/8", None)
            }],
        )
    }
}

pub(crate) fn veth(peer_index: u32, netnsid: u32) -> IfaceKind {
    IfaceKind::Veth {
        peer_index,
        netnsid,
        pod: "default/x".to_owned(),
    }
}

pub(crate) fn hop(via: Option<&str>, dev: &str) -> Hop {
    Hop {
        via: via.map(ip),
        dev: dev.to_owned(),
        onlink: false,
        weight: 1,
    }
}

pub(crate) fn route(dst: &str, hops: Vec<Hop>) -> RouteEntry {
    RouteEntry {
        dst: net(dst),
        kind: RouteKind::Unicast,
        hops,
        proto: Proto::Boot,
        scope: Scope::Global,
        src: None,
        metric: 0,
        owner: RouteOwner::Manual,
    }
}

/// The route that an address brings.
pub(crate) fn connected(dst: &str, dev: &str, src: &str) -> RouteEntry {
    RouteEntry {
        proto: Proto::Kernel,
        scope: Scope::Link,
        src: Some(ip(src)),
        ..route(dst, vec![hop(None, dev)])
    }
}

pub(crate) fn node(name: &str, address: &str, ifaces: Vec<Iface>, routes: Vec<RouteEntry>) -> Node {
    Node {
        name: name.to_owned(),
        internal_ip: ip(address),
        pod_cidr: None,
        control_plane: false,
        labels: Default::default(),
        created_ms: 0,
        ifaces,
        routes,
    }
}

pub(crate) fn neighbour(
    address: &str,
    dev: &str,
    lladdr: Option<&str>,
    state: &str,
) -> NeighbourEntry {
    NeighbourEntry {
        ip: ip(address),
        dev: dev.to_owned(),
        mac: lladdr.map(mac),
        state: state.to_owned(),
    }
}

pub(crate) fn pod(namespace: &str, name: &str, node: &str, address: &str) -> Pod {
    Pod {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        node: node.to_owned(),
        labels: Default::default(),
        annotations: Default::default(),
        bandwidth: Default::default(),
        ip: ip(address),
        host_network: false,
        link: None,
        created_ms: 0,
        command: None,
        ports: Vec::new(),
        container_id: "0".repeat(64),
        phase: Phase::Running,
        restarts: 0,
        pid: None,
        netns: None,
    }
}

/// Runs `ip` with these words on the view's side: exit status, stdout, stderr.
pub(crate) fn podwire_ip(
    words: &str,
    node: &Node,
    neighbours: &[NeighbourEntry],
) -> (i32, String, String) {
    use sim::view::ip::{Action, parse, print};
    let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    let result = parse(&words).and_then(|invocation| match invocation.action {
        Action::View(view) => print(&view, &invocation.options, node, neighbours),
        other => panic!("{words:?} is no view but {other:?}"),
    });
    match result {
        Ok(text) => (0, text, String::new()),
        Err(error) => (i32::from(error.status), String::new(), error.message + "\n"),
    }
}

//! Texts and exit statuses are those that iproute2 6.1 printed on Linux 6.18 for the same words on a device with the same
//! address.

use super::*;
use crate::model::{IfAddr, IfaceKind, Scope};

/// A node with lo and eth0 172.16.30.3/24, as the comparison host had.
fn ids() -> Ids {
    Ids {
        ifindex: 20,
        port: 20,
        seed: 1,
    }
}

fn node() -> Node {
    let iface = |index, name: &str, kind, addr: &str, scope| Iface {
        index,
        name: name.into(),
        kind,
        mac: Mac([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        qdisc: "noqueue".into(),
        qlen: None,
        up: true,
        carrier: true,
        addrs: vec![IfAddr {
            net: addr.parse().unwrap(),
            broadcast: None,
            scope,
            lease_secs: None,
            manual: false,
        }],
        link_local: None,
        master: None,
        port: Some(PortId(0)),
        sysctls: crate::model::Sysctls::default(),
    };
    let ifaces = vec![
        iface(1, "lo", IfaceKind::Loopback, "127.0.0.1/8", Scope::Host),
        iface(
            2,
            "eth0",
            IfaceKind::Ethernet,
            "172.16.30.3/24",
            Scope::Global,
        ),
    ];
    let routes = crate::cluster::node::connected_routes(&ifaces[1]);
    Node {
        name: "n".into(),
        internal_ip: Ipv4Addr::new(172, 16, 30, 3),
        pod_cidr: None,
        control_plane: false,
        labels: indexmap::IndexMap::new(),
        created_ms: 0,
        ifaces,
        routes,
    }
}

struct Host {
    node: Node,
    neighbours: Permanent,
}

impl Host {
    fn new() -> Self {
        Self {
            node: node(),
            neighbours: Vec::new(),
        }
    }

    /// What iproute2 prints on stderr, and its exit status.
    fn ip(&mut self, line: &str) -> (String, u8) {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let (mut node, mut neighbours) = (self.node.clone(), self.neighbours.clone());
        match apply(&mut node, &mut neighbours, &mut ids(), &args) {
            Ok(_) => {
                self.node = node;
                self.neighbours = neighbours;
                (String::new(), 0)
            }
            Err(error) => (error.message, error.status),
        }
    }

    fn routes(&self) -> Vec<String> {
        self.node
            .routes
            .iter()
            .map(|route| {
                let via = route.hops.first().and_then(|hop| hop.via);
                let via = via.map_or_else(String::new, |via| format!(" via {via}"));
                format!("{}{via}", route.dst)
            })
            .collect()
    }
}

const OK: (&str, u8) = ("", 0);

/// FWD-56: one after the other on one host, as the transcript of iproute2 was taken.
#[test]
fn messages_and_exit_statuses_are_iproute2s() {
    let invalid_gateway = ("Error: Nexthop has invalid gateway.", 2);
    let exists = ("RTNETLINK answers: File exists", 2);
    let no_entry = ("RTNETLINK answers: No such file or directory", 2);
    let no_route = ("RTNETLINK answers: No such process", 2);
    let transcript: &[(&str, (&str, u8))] = &[
        ("route add 10.9.0.0/24 via 172.16.30.4", OK),
        ("route add 10.9.0.0/24 via 172.16.30.4", exists),
        ("route add 10.9.0.0/24 via 172.16.30.5", exists),
        ("route add 10.9.0.0/24 via 172.16.30.5 metric 5", OK),
        (
            "route add 10.9.1.5/24 via 172.16.30.4",
            ("Error: Invalid prefix for given prefix length.", 2),
        ),
        (
            "route add foo via 172.16.30.4",
            (
                "Error: any valid prefix is expected rather than \"foo\".",
                1,
            ),
        ),
        (
            "route add 10.9.1.0/33 via 172.16.30.4",
            (
                "Error: any valid prefix is expected rather than \"10.9.1.0/33\".",
                1,
            ),
        ),
        ("route add 10.9.2.0/24 via 192.0.2.9", invalid_gateway),
        (
            "route add 10.9.2.0/24 via 192.0.2.9 dev eth0",
            invalid_gateway,
        ),
        ("route add 10.9.2.0/24 via 192.0.2.9 dev eth0 onlink", OK),
        (
            "route add 10.9.3.0/24 via bar",
            ("Error: inet address is expected rather than \"bar\".", 1),
        ),
        (
            "route add 10.9.3.0/24 dev nosuch",
            ("Cannot find device \"nosuch\"", 1),
        ),
        (
            "route add 10.9.3.0/24",
            ("RTNETLINK answers: No such device", 2),
        ),
        (
            "route add 10.9.3.0/24 via",
            ("Command line is not complete. Try option \"help\"", 255),
        ),
        (
            "route add 10.9.3.0/24 dev eth0 src 1.2.3.4",
            ("Error: Invalid prefsrc address.", 2),
        ),
        (
            "route add 10.9.3.0/24 dev eth0 metric x",
            (
                "Error: argument \"x\" is wrong: \"metric\" value is invalid\n",
                255,
            ),
        ),
        (
            "route add 10.9.3.0/24 dev eth0 frob",
            (
                "Error: either \"to\" is duplicate, or \"frob\" is a garbage.",
                255,
            ),
        ),
        (
            "route add 10.9.3.0/24 dev eth0 scope frob",
            (
                "Error: argument \"frob\" is wrong: invalid \"scope\" value\n",
                255,
            ),
        ),
        ("route add 10.9.3.0/24 dev eth0 proto bird scope host", OK),
        ("route add blackhole 10.10.0.0/16", OK),
        ("route add default via 172.16.30.1", OK),
        ("r a 10.11/16 via 172.16.30.3", OK),
        ("route del 10.44.0.0/16", no_route),
        ("route del 10.9.0.0/24 via 172.16.30.99", no_route),
        ("route del 10.9.0.0/24 via 172.16.30.4", OK),
        ("route del 10.9.0.0/24", OK),
        ("route replace 10.9.0.0/24 via 172.16.30.7", OK),
        ("route change 10.99.0.0/24 via 172.16.30.7", no_entry),
        ("route append 10.9.0.0/24 via 172.16.30.8", OK),
        ("route flush 10.9.0.0/24", OK),
        ("route flush", ("\"ip route flush\" requires arguments.", 1)),
        ("route flush dev eth0 proto bird", OK),
        ("route del blackhole 10.10.0.0/16", OK),
        (
            "route frob",
            ("Command \"frob\" is unknown, try \"ip route help\".", 255),
        ),
        ("frob", ("Object \"frob\" is unknown, try \"ip help\".", 1)),
        ("addr add 10.0.0.1/24 dev eth0", OK),
        (
            "addr add 10.0.0.1/24 dev eth0",
            ("Error: ipv4: Address already assigned.", 2),
        ),
        (
            "addr add 10.0.0.1 dev nosuch",
            ("Cannot find device \"nosuch\"", 1),
        ),
        (
            "addr add 10.0.0.300 dev eth0",
            (
                "Error: any valid prefix is expected rather than \"10.0.0.300\".",
                1,
            ),
        ),
        (
            "addr add 10.0.0.1/24",
            ("Not enough information: \"dev\" argument is required.", 1),
        ),
        (
            "addr del 10.0.0.9/24 dev eth0",
            ("Error: ipv4: Address not found.", 2),
        ),
        ("addr del 10.0.0.1/24 dev eth0", OK),
        ("link set nosuch up", ("Cannot find device \"nosuch\"", 1)),
        (
            "link set eth0 mtu x",
            (
                "Error: argument \"x\" is wrong: Invalid \"mtu\" value\n",
                255,
            ),
        ),
        (
            "link set eth0 mtu 1971",
            ("Error: mtu greater than device maximum.", 2),
        ),
        (
            "link set eth0 mtu 65",
            ("Error: mtu less than device minimum.", 2),
        ),
        (
            "link set eth0 frob",
            (
                "Error: either \"dev\" is duplicate, or \"frob\" is a garbage.",
                255,
            ),
        ),
        ("link set dev eth0 mtu 1400", OK),
        ("link add d0 type dummy", ("Error: Unknown device type.", 2)),
        ("link del d0", ("Cannot find device \"d0\"", 1)),
        (
            "neigh add 172.16.30.9 lladdr 02:00:00:00:00:09 dev eth0",
            OK,
        ),
        (
            "neigh add 172.16.30.9 lladdr 02:00:00:00:00:09 dev eth0",
            exists,
        ),
        (
            "neigh add 172.16.30.9 lladdr 02:00:00:00:09 dev eth0",
            ("Error: Invalid link address.", 2),
        ),
        (
            "neigh add 172.16.30.10 lladdr 02:00:00:00:00:09",
            ("Device and destination are required arguments.", 255),
        ),
        (
            "neigh add 172.16.30.10 dev eth0",
            ("Error: No link layer address given.", 2),
        ),
        (
            "neigh add 172.16.30.11 lladdr 02:00:00:00:00:0a dev eth0 nud frob",
            ("Error: argument \"frob\" is wrong: nud state is bad", 255),
        ),
        (
            "neigh change 172.16.30.77 lladdr 02:00:00:00:00:0a dev eth0",
            no_entry,
        ),
        ("neigh flush", ("Flush requires arguments.", 1)),
        ("neigh flush all", OK),
    ];
    let mut host = Host::new();
    for (line, (message, status)) in transcript {
        let (got, code) = host.ip(line);
        assert_eq!((got.as_str(), code), (*message, *status), "ip {line}");
    }
}

/// FWD-58: a device that goes down takes its routes along; up again it has only its connected ones.
#[test]
fn a_device_that_goes_down_takes_its_routes_along() {
    let mut host = Host::new();
    host.ip("route add 10.9.0.0/24 via 172.16.30.4");
    host.ip("route add blackhole 10.10.0.0/16");
    assert_eq!(host.ip("link set eth0 down").1, 0);
    assert_eq!(host.routes(), ["10.10.0.0/16"]);
    assert_eq!(host.ip("route add 10.9.0.0/24 dev eth0").1, 2);
    assert_eq!(host.ip("link set eth0 up").1, 0);
    assert_eq!(host.routes(), ["10.10.0.0/16", "172.16.30.0/24"]);
}

/// With the first address of a subnet go its secondaries and the connected route; with the last address everything.
#[test]
fn addresses_take_their_routes_along() {
    let mut host = Host::new();
    host.ip("addr add 10.0.0.1/24 dev eth0");
    host.ip("addr add 10.0.0.5/24 brd + dev eth0");
    host.ip("route add 10.50.0.0/16 via 172.16.30.4 src 10.0.0.5");
    assert_eq!(host.ip("addr del 10.0.0.1/24 dev eth0").1, 0);
    let eth0 = &host.node.ifaces[1];
    assert_eq!(eth0.addrs.len(), 1);
    assert_eq!(host.routes(), ["172.16.30.0/24"]);
    host.ip("route add 10.9.0.0/24 via 172.16.30.4");
    assert_eq!(host.ip("addr flush dev eth0").1, 0);
    assert_eq!(host.routes(), Vec::<String>::new());
}

/// What it refuses leaves no trace, what it adds has the kernel's default scope.
#[test]
fn scopes_are_the_kernels_defaults() {
    let mut host = Host::new();
    host.ip("route add 10.1.0.0/16 dev eth0");
    host.ip("route add 10.2.0.0/16 via 172.16.30.4");
    host.ip(
        "route add 10.3.0.0/16 nexthop via 172.16.30.4 weight 1 nexthop via 172.16.30.5 weight 2",
    );
    let scope = |dst: &str| {
        let dst = dst.parse().unwrap();
        let route = host
            .node
            .routes
            .iter()
            .find(|route| route.dst == dst)
            .unwrap();
        (route.scope, route.hops.len())
    };
    assert_eq!(scope("10.1.0.0/16"), (Scope::Link, 1));
    assert_eq!(scope("10.2.0.0/16"), (Scope::Global, 1));
    assert_eq!(scope("10.3.0.0/16"), (Scope::Global, 2));
}

/// A deleted neighbour is forgotten by the router as well, on its port alone.
#[test]
fn neighbours_are_forgotten_by_port_and_address() {
    let mut neighbours = Vec::new();
    let words =
        |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    let mut run =
        |line: &str| apply(&mut node(), &mut neighbours, &mut ids(), &words(line)).unwrap();
    assert_eq!(
        run("neigh del 172.16.30.9 dev eth0"),
        [Flush {
            port: Some(PortId(0)),
            ip: Some(Ipv4Addr::new(172, 16, 30, 9))
        }]
    );
    assert_eq!(
        run("neigh flush all"),
        [Flush {
            port: None,
            ip: None
        }]
    );
}

//! Seed 000's node `minikube`, character by character (the document has lost iproute2's trailing blanks).

use sim::model::{IfAddr, Iface, IfaceKind, Node, Proto, RouteEntry, Scope};

use crate::model::{addr, connected, hop, iface, ip, lo, node, podwire_ip, route, veth};

fn minikube() -> Node {
    let eth0 = Iface {
        qdisc: "pfifo_fast".to_owned(),
        qlen: Some(1000),
        ..iface(
            2,
            "eth0",
            IfaceKind::Ethernet,
            "d6:df:bb:d6:c7:bc",
            vec![IfAddr {
                lease_secs: Some(85395),
                ..addr("172.16.30.3/24", Some("172.16.30.255"))
            }],
        )
    };
    let sit0 = Iface {
        mtu: 1480,
        qdisc: "noop".to_owned(),
        qlen: Some(1000),
        up: false,
        carrier: false,
        ..iface(3, "sit0", IfaceKind::Sit, "00:00:00:00:00:00", vec![])
    };
    let docker0 = Iface {
        carrier: false,
        ..iface(
            4,
            "docker0",
            IfaceKind::Bridge,
            "02:42:df:e0:80:59",
            vec![addr("172.17.0.1/16", Some("172.17.255.255"))],
        )
    };
    let pod = iface(
        5,
        "veth2b322de6",
        veth(4, 0),
        "8e:09:87:56:8c:50",
        vec![addr("10.244.0.1/32", Some("10.244.0.1"))],
    );
    let dhcp = |dst: &str, via: Option<&str>, scope| RouteEntry {
        proto: Proto::Dhcp,
        src: Some(ip("172.16.30.3")),
        metric: 1024,
        scope,
        ..route(dst, vec![hop(via, "eth0")])
    };
    // Not in the order of the dump.
    let routes = vec![
        connected("172.17.0.0/16", "docker0", "172.17.0.1"),
        dhcp("172.16.30.1", None, Scope::Link),
        connected("172.16.30.0/24", "eth0", "172.16.30.3"),
        route("10.244.2.0/24", vec![hop(Some("172.16.30.5"), "eth0")]),
        route("10.244.1.0/24", vec![hop(Some("172.16.30.4"), "eth0")]),
        RouteEntry {
            scope: Scope::Host,
            ..route("10.244.0.2", vec![hop(None, "veth2b322de6")])
        },
        dhcp("default", Some("172.16.30.1"), Scope::Global),
    ];
    node(
        "minikube",
        "172.16.30.3",
        vec![lo(), eth0, sit0, docker0, pod],
        routes,
    )
}

fn shown(words: &str) -> String {
    let (status, out, err) = podwire_ip(words, &minikube(), &[]);
    assert_eq!((status, err.as_str()), (0, ""), "{words}");
    let lines: Vec<&str> = out.lines().map(str::trim_end).collect();
    lines.join("\n")
}

#[test]
fn addresses_read_as_in_the_document() {
    let document = "\
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
    inet 127.0.0.1/8 scope host lo
       valid_lft forever preferred_lft forever
2: eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc pfifo_fast state UP group default qlen 1000
    link/ether d6:df:bb:d6:c7:bc brd ff:ff:ff:ff:ff:ff
    inet 172.16.30.3/24 brd 172.16.30.255 scope global dynamic eth0
       valid_lft 85395sec preferred_lft 85395sec
3: sit0@NONE: <NOARP> mtu 1480 qdisc noop state DOWN group default qlen 1000
    link/sit 0.0.0.0 brd 0.0.0.0
4: docker0: <NO-CARRIER,BROADCAST,MULTICAST,UP> mtu 1500 qdisc noqueue state DOWN group default
    link/ether 02:42:df:e0:80:59 brd ff:ff:ff:ff:ff:ff
    inet 172.17.0.1/16 brd 172.17.255.255 scope global docker0
       valid_lft forever preferred_lft forever
5: veth2b322de6@if4: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default
    link/ether 8e:09:87:56:8c:50 brd ff:ff:ff:ff:ff:ff link-netnsid 0
    inet 10.244.0.1/32 brd 10.244.0.1 scope global veth2b322de6
       valid_lft forever preferred_lft forever";
    for words in ["a", "addr", "address show", "ad l", "a s"] {
        assert_eq!(shown(words), document, "ip {words}");
    }
}

#[test]
fn routes_read_as_in_the_document() {
    let document = "\
default via 172.16.30.1 dev eth0 proto dhcp src 172.16.30.3 metric 1024
10.244.0.2 dev veth2b322de6 scope host
10.244.1.0/24 via 172.16.30.4 dev eth0
10.244.2.0/24 via 172.16.30.5 dev eth0
172.16.30.0/24 dev eth0 proto kernel scope link src 172.16.30.3
172.16.30.1 dev eth0 proto dhcp scope link src 172.16.30.3 metric 1024
172.17.0.0/16 dev docker0 proto kernel scope link src 172.17.0.1 linkdown";
    for words in ["r", "route", "ro list", "route show table main"] {
        assert_eq!(shown(words), document, "ip {words}");
    }
}

#[test]
fn brief_addresses_stand_in_columns() {
    assert_eq!(
        shown("-br -4 a"),
        "\
lo               UNKNOWN        127.0.0.1/8
eth0             UP             172.16.30.3/24
docker0          DOWN           172.17.0.1/16
veth2b322de6@if4 UP             10.244.0.1/32"
    );
}

/// Seed 002, "A day in the life of a packet": own pod, pod elsewhere, own address.
#[test]
fn route_get_answers_as_a_node_does() {
    for (dst, line) in [
        (
            "10.244.0.2",
            "10.244.0.2 dev veth2b322de6 src 10.244.0.1 uid 0",
        ),
        (
            "10.244.1.9",
            "10.244.1.9 via 172.16.30.4 dev eth0 src 172.16.30.3 uid 0",
        ),
        (
            "8.8.8.8",
            "8.8.8.8 via 172.16.30.1 dev eth0 src 172.16.30.3 uid 0",
        ),
    ] {
        assert_eq!(
            shown(&format!("route get {dst}")),
            format!("{line}\n    cache")
        );
    }
    assert_eq!(
        shown("route get 10.244.0.1"),
        "local 10.244.0.1 dev lo src 10.244.0.1 uid 0\n    cache <local>"
    );
}

/// iproute2 has `"link":null` for a tunnel without a device below it.
#[test]
fn json_shows_the_tunnel_without_a_link() {
    let value: serde_json::Value = serde_json::from_str(&shown("-j link show sit0")).unwrap();
    assert!(value[0]["link"].is_null() && value[0].get("link").is_some());
    assert_eq!(value[0]["link_type"], "sit");
    assert_eq!(value[0]["address"], "0.0.0.0");
}

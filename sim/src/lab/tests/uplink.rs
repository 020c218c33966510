//! `uplink` of a node.

use super::*;
use crate::spec::UplinkSpec;

fn with(uplink: &str) -> String {
    format!("nodes:\n- name: a\n  uplink: {uplink}\n- name: b\n")
}

#[test]
fn an_uplink_needs_an_interface_and_an_address_alone() {
    let short = lab(&with("{interface: enp3s0, address: 192.0.2.10/24}"));
    let plain = UplinkSpec {
        name: "uplink".into(),
        interface: "enp3s0".into(),
        address: "192.0.2.10/24".parse().unwrap(),
        gateway: None,
        mac: None,
        mtu: 1500,
    };
    assert_eq!(short.nodes[0].uplink, Some(plain.clone()));
    assert_eq!(short.nodes[1].uplink, None);
    let long = lab(&with(
        "{interface: enp3s0, name: eth1, address: 192.0.2.10/24, gateway: 192.0.2.1, mac: 02:00:00:00:00:07, mtu: 1400}",
    ));
    let all = UplinkSpec {
        name: "eth1".into(),
        gateway: Some(ip("192.0.2.1")),
        mac: Some("02:00:00:00:00:07".parse().unwrap()),
        mtu: 1400,
        ..plain
    };
    assert_eq!(long.nodes[0].uplink, Some(all));
}

#[test]
fn what_an_uplink_cannot_be_is_said_where_it_is_written() {
    let rows = [
        ("{address: 192.0.2.10/24}", "an uplink needs \"interface\""),
        ("{interface: e0}", "an uplink needs \"address\""),
        (
            "{interface: e0, adress: 192.0.2.10/24}",
            "did you mean \"address\"?",
        ),
        (
            "{interface: a/b, address: 192.0.2.10/24}",
            "\"a/b\" is no name of an interface",
        ),
        (
            "{interface: e0, address: 224.0.0.1/24}",
            "224.0.0.1 is no address of a host",
        ),
        (
            "{interface: e0, address: 192.0.2.10/24, gateway: 192.0.3.1}",
            "the gateway 192.0.3.1 is no neighbour of 192.0.2.10/24",
        ),
        (
            "{interface: e0, address: 192.0.2.10/24, gateway: 192.0.2.10}",
            "the gateway 192.0.2.10 is no neighbour",
        ),
        (
            "{interface: e0, name: eth0, address: 192.0.2.10/24}",
            "an uplink can't be called \"eth0\"",
        ),
        (
            "{interface: e0, address: 172.16.30.99/24}",
            "the uplink's network 172.16.30.0/24 overlaps nodeSubnet 172.16.30.0/24",
        ),
        (
            "{interface: e0, address: 10.244.9.9/30}",
            "the uplink's network 10.244.9.8/30 overlaps clusterCIDR 10.244.0.0/16",
        ),
        (
            "{interface: e0, address: 10.9.9.9/8}",
            "the uplink's network 10.0.0.0/8 overlaps clusterCIDR 10.244.0.0/16",
        ),
    ];
    for (uplink, wanted) in rows {
        says(&with(uplink), wanted);
    }
    let twice = "nodes:\n- {name: a, uplink: {interface: e0, address: 192.0.2.10/24}}\n- {name: b, uplink: {interface: e1, address: 192.0.2.10/24}}\n";
    says(twice, "a second uplink with address 192.0.2.10");
}

/// With a gateway the default route leads there; what the preset had is gone, and the network is connected.
#[test]
fn a_gateway_of_an_uplink_takes_the_default_route() {
    let spec = lab(&with(
        "{interface: enp3s0, address: 192.0.2.10/24, gateway: 192.0.2.1}",
    ));
    let directory = TempDir::new();
    let made = crate::cluster::Cluster::new(&spec, directory.path().to_owned(), 0);
    let (cluster, _) = made.unwrap();
    let routes = |node: &str| -> Vec<String> {
        let node = cluster.node(node).unwrap();
        let routes = node.routes.iter();
        let routes = routes.filter(|it| it.dst.prefix_len() == 0 || it.hops[0].dev == "uplink");
        routes
            .map(|it| format!("{} {:?} {}", it.dst, it.hops[0].via, it.hops[0].dev))
            .collect()
    };
    assert_eq!(
        routes("a"),
        [
            "192.0.2.0/24 None uplink",
            "0.0.0.0/0 Some(192.0.2.1) uplink"
        ]
    );
    assert_eq!(routes("b").len(), 1, "the lab's gateway");
    let (port, uplink) = cluster.uplink("a").unwrap();
    let snapshot = cluster.snapshot("a").unwrap();
    let ports = snapshot.ports.iter().filter(|it| it.id == port);
    let [config] = ports.collect::<Vec<_>>()[..] else {
        panic!("one port");
    };
    assert_eq!((config.name.as_str(), uplink.mtu), ("uplink", 1500));
    let hosts = snapshot.ports.iter().filter(|it| it.name == "host").count();
    assert_eq!(hosts, 1, "one host side");
    assert!(cluster.uplink("b").is_none());
}

/// Their sockets go to the daemon in one message.
#[test]
fn a_lab_has_so_many_uplinks_and_no_more() {
    let nodes = |count: usize| -> String {
        let node = |n: usize| {
            let one = format!("{{interface: e{n}, address: 192.0.2.{}/24}}", n + 1);
            format!("- {{name: n{n}, uplink: {one}}}\n")
        };
        let all: String = (0..count).map(node).collect();
        format!("nodes:\n{all}")
    };
    assert_eq!(lab(&nodes(31)).nodes.len(), 31);
    says(&nodes(32), "a lab has 31 uplinks at most");
}

/// What is written of an uplink is what its node shows and sends by; its MAC is one of its own unless it is written.
#[test]
fn a_node_has_its_uplink_as_it_is_written() {
    let spec = lab(&with(
        "{interface: e0, name: eth1, address: 192.0.2.10/24, mac: 02:00:00:00:00:07, mtu: 1400}",
    ));
    let directory = TempDir::new();
    let made = crate::cluster::Cluster::new(&spec, directory.path().to_owned(), 0);
    let (cluster, _) = made.unwrap();
    let mut ifaces = cluster.node("a").unwrap().ifaces.iter();
    let iface = ifaces.find(|iface| iface.name == "eth1").unwrap();
    assert_eq!(
        (
            iface.mac.to_string().as_str(),
            iface.mtu,
            iface.addrs[0].net
        ),
        ("02:00:00:00:00:07", 1400, "192.0.2.10/24".parse().unwrap())
    );
    let uplink = spec.nodes[0].uplink.clone().unwrap();
    let unsaid = UplinkSpec {
        mac: None,
        ..uplink.clone()
    };
    let mac = crate::cluster::uplink::mac;
    assert_eq!(mac(&uplink, 1, "a"), iface.mac);
    let own = mac(&unsaid, 1, "a");
    assert_ne!(own, iface.mac);
    assert_eq!(own, mac(&unsaid, 1, "a"));
    assert_ne!(own, mac(&unsaid, 1, "b"));
}

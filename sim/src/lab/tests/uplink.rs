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

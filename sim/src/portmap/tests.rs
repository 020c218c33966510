//! How host ports are written, when they meet, and the plugin's chains.

use router_core::config::nat::{Chain, NatConfig, POSTROUTING, PREROUTING, Rule, Target};

use super::*;
use crate::kube::Protocol;
use crate::model::{Phase, Pod};
use crate::view::nat;

fn pod(name: &str, ip: [u8; 4], words: &[&str]) -> Pod {
    Pod {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        node: "n".to_owned(),
        labels: indexmap::IndexMap::new(),
        annotations: indexmap::IndexMap::new(),
        bandwidth: crate::bandwidth::Bandwidth::default(),
        ip: ip.into(),
        host_network: false,
        link: None,
        created_ms: 0,
        command: None,
        ports: words.iter().flat_map(|word| parse(word).unwrap()).collect(),
        container_id: "0123456789abcdef".repeat(4),
        phase: Phase::Running,
        restarts: 0,
        pid: None,
        netns: None,
    }
}

fn mapped(pod: &Pod, len: u8) -> Mapped<'_> {
    Mapped {
        pod,
        net: ipnet::Ipv4Net::new(pod.ip, len).unwrap(),
        network: "kindnet",
        snat: true,
        declared_at: Some("web.yaml:3:5"),
    }
}

fn chain<'n>(nat: &'n NatConfig, name: &str) -> &'n Chain {
    nat.chain(name).unwrap_or_else(|| panic!("no chain {name}"))
}

/// PM-1, PM-3, PM-4: the listing of a real node with one pod, but for the name of the pod's chain, which is the plugin's own
/// hash of "kindnet" and the container's id.
#[test]
fn the_listing_is_that_of_the_plugin() {
    let web = pod("web", [10, 244, 0, 3], &["8080:80"]);
    let mut table = NatConfig::default();
    // What kindnetd has put there before.
    table.append(POSTROUTING, Rule::new(Target::Accept).comment("earlier"));
    append(&mut table, &[mapped(&web, 24)]);
    let expected = r#"Chain PREROUTING (policy ACCEPT 0 packets, 0 bytes)
 pkts bytes target     prot opt in     out     source               destination         
    0     0 CNI-HOSTPORT-DNAT  all  --  *      *       0.0.0.0/0            0.0.0.0/0            ADDRTYPE match dst-type LOCAL

Chain INPUT (policy ACCEPT 0 packets, 0 bytes)
 pkts bytes target     prot opt in     out     source               destination         

Chain OUTPUT (policy ACCEPT 0 packets, 0 bytes)
 pkts bytes target     prot opt in     out     source               destination         
    0     0 CNI-HOSTPORT-DNAT  all  --  *      *       0.0.0.0/0            0.0.0.0/0            ADDRTYPE match dst-type LOCAL

Chain POSTROUTING (policy ACCEPT 0 packets, 0 bytes)
 pkts bytes target     prot opt in     out     source               destination         
    0     0 CNI-HOSTPORT-MASQ  all  --  *      *       0.0.0.0/0            0.0.0.0/0            /* CNI portfwd requiring masquerade */
    0     0 ACCEPT     all  --  *      *       0.0.0.0/0            0.0.0.0/0            /* earlier */

Chain CNI-DN-7ca1632e56783a3208f57 (1 references)
 pkts bytes target     prot opt in     out     source               destination         
    0     0 CNI-HOSTPORT-SETMARK  tcp  --  *      *       10.244.0.0/24        0.0.0.0/0            tcp dpt:8080
    0     0 CNI-HOSTPORT-SETMARK  tcp  --  *      *       127.0.0.1            0.0.0.0/0            tcp dpt:8080
    0     0 DNAT       tcp  --  *      *       0.0.0.0/0            0.0.0.0/0            tcp dpt:8080 to:10.244.0.3:80

Chain CNI-HOSTPORT-DNAT (2 references)
 pkts bytes target     prot opt in     out     source               destination         
    0     0 CNI-DN-7ca1632e56783a3208f57  tcp  --  *      *       0.0.0.0/0            0.0.0.0/0            /* dnat name: "kindnet" id: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" */ multiport dports 8080

Chain CNI-HOSTPORT-MASQ (1 references)
 pkts bytes target     prot opt in     out     source               destination         
    0     0 MASQUERADE  all  --  *      *       0.0.0.0/0            0.0.0.0/0            mark match 0x2000/0x2000

Chain CNI-HOSTPORT-SETMARK (2 references)
 pkts bytes target     prot opt in     out     source               destination         
    0     0 MARK       all  --  *      *       0.0.0.0/0            0.0.0.0/0            /* CNI portfwd masquerade mark */ MARK or 0x2000
"#;
    let text = nat::rules(&table, &[], |port| port.0.to_string());
    assert_eq!(text, expected);
}

/// PM-1: an address of the node restricts where the port is; 0.0.0.0 doesn't.
#[test]
fn an_address_restricts_the_port() {
    let web = pod(
        "web",
        [10, 244, 0, 3],
        &["172.16.30.3:8080:80", "0.0.0.0:8081:81"],
    );
    let mut table = NatConfig::default();
    append(&mut table, &[mapped(&web, 24)]);
    let pod_chain = table
        .chains
        .iter()
        .find(|it| it.name.starts_with("CNI-DN-"))
        .unwrap();
    let to: Vec<Option<String>> = pod_chain
        .rules
        .iter()
        .filter(|rule| matches!(rule.target, Target::Dnat { .. }))
        .map(|rule| Some(rule.matches.dst.as_ref()?.nets.first()?.to_string()))
        .collect();
    assert_eq!(to, [Some("172.16.30.3/32".to_owned()), None]);
}

/// PM-3: without `snat` nobody is masqueraded, and the chains for that are not there.
#[test]
fn without_snat_nobody_is_masqueraded() {
    let web = pod("web", [10, 244, 0, 3], &["8080:80"]);
    let mut table = NatConfig::default();
    let plain = Mapped {
        snat: false,
        ..mapped(&web, 24)
    };
    append(&mut table, &[plain]);
    let names: Vec<&str> = table.chains.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(names.iter().all(|name| !name.contains("MA")), "{names:?}");
}

/// PM-10: the entry of a pod with 31 ports of TCP and one of UDP is four rules, none of them with more than fifteen ports, and all
/// ports have their translation.
#[test]
fn many_ports_are_split() {
    let web = pod("web", [10, 244, 0, 3], &["8000-8030:80-110", "53:53/udp"]);
    let mut table = NatConfig::default();
    append(&mut table, &[mapped(&web, 24)]);
    let entries: Vec<(u8, usize)> = chain(&table, "CNI-HOSTPORT-DNAT")
        .rules
        .iter()
        .map(|rule| (rule.matches.protocol.unwrap(), rule.matches.dports.len()))
        .collect();
    assert_eq!(entries, [(6, 15), (6, 15), (6, 1), (17, 1)]);
    let own = table
        .chains
        .iter()
        .find(|it| it.name.starts_with("CNI-DN-"));
    assert_eq!(own.unwrap().rules.len(), 3 * 32);
}

/// PM-9: nothing is written for nobody, and each pod has a chain of its own.
#[test]
fn pods_have_chains_of_their_own() {
    let mut table = NatConfig::default();
    append(&mut table, &[]);
    assert_eq!(table, NatConfig::default());
    let (a, mut b) = (
        pod("a", [10, 244, 0, 3], &["80:80"]),
        pod("b", [10, 244, 0, 4], &["81:80"]),
    );
    b.container_id = "f".repeat(64);
    append(&mut table, &[mapped(&a, 24), mapped(&b, 24)]);
    let own = table.chains.iter();
    assert_eq!(own.filter(|it| it.name.starts_with("CNI-DN-")).count(), 2);
    assert_eq!(chain(&table, PREROUTING).rules.len(), 1);
}

/// PM-8: the same number and protocol on one address, or on all, is the same port.
#[test]
fn ports_meet_on_one_address_or_on_all() {
    let port = |word: &str| parse(word).unwrap().remove(0);
    for (a, b, meet) in [
        ("80:1", "80:2", true),
        ("80:1", "81:1", false),
        ("80:1", "80:1/udp", false),
        ("10.0.0.1:80:1", "10.0.0.2:80:1", false),
        ("10.0.0.1:80:1", "10.0.0.1:80:2", true),
        ("10.0.0.1:80:1", "0.0.0.0:80:1", true),
        ("10.0.0.1:80:1", "80:1", true),
    ] {
        assert_eq!(conflict(&port(a), &port(b)).is_some(), meet, "{a} {b}");
        assert_eq!(conflict(&port(b), &port(a)).is_some(), meet, "{b} {a}");
    }
}

/// What `--port` and lab files take.
#[test]
fn words_are_understood() {
    let one = |word: &str| {
        let port = parse(word).unwrap().remove(0);
        let host = port.host.unwrap();
        (host.ip, host.port, port.port, port.protocol)
    };
    assert_eq!(one("8080:80"), (None, 8080, 80, Protocol::Tcp));
    assert_eq!(one("53:5353/UDP"), (None, 53, 5353, Protocol::Udp));
    assert_eq!(one("1:65535/sctp"), (None, 1, 65535, Protocol::Sctp));
    let lo = Some(Ipv4Addr::LOCALHOST);
    assert_eq!(one("127.0.0.1:8080:80"), (lo, 8080, 80, Protocol::Tcp));
    let range = parse("8080-8082:80-82").unwrap();
    let numbers: Vec<(u16, u16)> = range
        .iter()
        .map(|port| (port.host.as_ref().unwrap().port, port.port))
        .collect();
    assert_eq!(numbers, [(8080, 80), (8081, 81), (8082, 82)]);
}

/// PM-8: each slip of the pen has its own sentence.
#[test]
fn slips_of_the_pen_are_told_apart() {
    for (word, wanted) in [
        (
            "8080",
            "is no HOST:POD, a port of the node and one of the pod",
        ),
        ("", "is no HOST:POD"),
        ("1:2:3:4", "is no HOST:POD"),
        (
            "0:80",
            "\"0\" is no port of the node: a number from 1 to 65535",
        ),
        ("80:0", "\"0\" is no port of the pod"),
        ("65536:80", "\"65536\" is no port of the node"),
        ("-1:80", "\"\" is no port of the node"),
        ("+1:80", "\"+1\" is no port of the node"),
        ("http:80", "\"http\" is no port of the node"),
        ("80:", "\"\" is no port of the pod"),
        (
            "80:80/tpc",
            "no protocol \"tpc\" with ports; did you mean \"tcp\"?",
        ),
        ("80:80/icmp", "no protocol \"icmp\" with ports"),
        ("80:80/", "no protocol \"\" with ports"),
        (
            "8090-8080:80-90",
            "the range of ports 8090-8080 is reversed",
        ),
        ("8080-8081:80", "maps 2 port(s) of the node to 1 of the pod"),
        ("300.1.1.1:80:80", "\"300.1.1.1\" is no IPv4 address"),
        ("[::1]:80:80", "is no HOST:POD"),
    ] {
        let error = parse(word).unwrap_err();
        assert!(error.contains(wanted), "{word}: {error}");
    }
}

/// PM-7: connections are forgotten for host ports of UDP, by number.
#[test]
fn udp_ports_are_flushed() {
    let web = pod("web", [10, 244, 0, 3], &["8080:80", "8053:53/udp"]);
    let filters: Vec<_> = udp_filters(&web.ports).collect();
    assert_eq!(filters.len(), 1);
    assert_eq!(filters[0].protocol, Some(17));
    assert_eq!((filters[0].dport, filters[0].dst), (Some(8053), None));
}

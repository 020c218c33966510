//! Calico's controllers, without any process.

use std::collections::BTreeSet;

use ipnet::Ipv4Net;

use super::bird::{HOLD_MS, Mesh, Speaker, reconcile};
use crate::cluster::{Cluster, Effect};
use crate::ipam::calico::{Affinity, AffinityState};
use crate::lab::{self, Overrides, Source};
use crate::model::{Node, Pod, RouteOwner};
use crate::spec::{IpipMode, LabSpec, PodSpec};
use crate::testing::TempDir;
use crate::view::ip::{Action, Invocation, parse, print};

const HEADER: &str = "apiVersion: podwire/v1\nkind: Lab\npreset: calico\nsystemPods: false\n";

fn lab(body: &str) -> LabSpec {
    let source = Source::new("lab.yaml", format!("{HEADER}{body}"));
    lab::load(&[source], &Overrides::default()).unwrap_or_else(|errors| panic!("{errors}"))
}

pub(super) fn cluster(body: &str, dir: &TempDir) -> Cluster {
    Cluster::new(&lab(body), dir.path().to_owned(), 0)
        .unwrap()
        .0
}

pub(super) fn pod(name: &str, node: &str) -> PodSpec {
    let text = format!("pods:\n- {{name: {name}, node: {node}}}\n");
    lab(&text).pods.remove(0)
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// What `podwire ip` prints of a node, or why it doesn't.
fn view(node: &Node, what: &str) -> String {
    let Invocation {
        options,
        action: Action::View(view),
        ..
    } = parse(&words(what)).unwrap()
    else {
        panic!("{what} is a view")
    };
    print(&view, &options, node, &[]).unwrap()
}

fn show(cluster: &Cluster, node: &str, what: &str) -> String {
    view(cluster.node(node).unwrap(), what)
}

/// The lines about the pool.
fn routes(cluster: &Cluster, node: &str) -> Vec<String> {
    let text = show(cluster, node, "route");
    let lines = text.lines().map(|line| line.trim_end().to_owned());
    lines
        .filter(|line| line.contains("10.244.") || line.contains("nexthop"))
        .collect()
}

fn change(cluster: &mut Cluster, node: &str, command: &str) {
    cluster
        .ip_change(node, &words(command))
        .unwrap_or_else(|error| panic!("{command}: {error}"));
}

const K1: &str = "minikube";
pub(super) const K2: &str = "minikube-m02";
pub(super) const K3: &str = "minikube-m03";

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

/// CAL-25, CAL-4: seed 001's tables before any pod.
#[test]
fn nodes_have_a_blackhole_and_a_tunnel_route_to_each_peer() {
    let dir = TempDir::new();
    let cluster = cluster("", &dir);
    assert_eq!(
        routes(&cluster, K3),
        [
            "10.244.120.64/26 via 172.16.30.6 dev tunl0 proto bird onlink",
            "blackhole 10.244.151.0/26 proto bird",
            "10.244.205.192/26 via 172.16.30.7 dev tunl0 proto bird onlink",
        ]
    );
    assert_eq!(
        show(&cluster, K3, "addr show dev tunl0"),
        "\
5: tunl0@NONE: <NOARP,UP,LOWER_UP> mtu 1480 qdisc noqueue state UNKNOWN group default qlen 1000
    link/ipip 0.0.0.0 brd 0.0.0.0
    inet 10.244.151.0/32 scope global tunl0
       valid_lft forever preferred_lft forever
"
    );
}

/// CAL-1, CAL-5, CAL-21, CAL-22: a pod's address, its link's name, MAC and MTU, and its route.
#[test]
fn a_pod_has_a_host_route_over_its_cali_port() {
    let dir = TempDir::new();
    let mut cluster = cluster("", &dir);
    cluster.add_pod(&pod("nginx", K2), 0).unwrap();
    let made = cluster.pod("default", "nginx").unwrap().clone();
    assert_eq!(
        made.ip,
        "10.244.205.193".parse::<std::net::Ipv4Addr>().unwrap()
    );
    let link = made.link.unwrap();
    assert_eq!(
        (link.ifindex, link.mtu, link.addr),
        (5, 1480, net("10.244.205.193/32"))
    );
    assert_eq!(link.broadcast, Some(made.ip));
    assert_eq!(
        show(&cluster, K2, "addr show dev calic440f455693"),
        "\
8: calic440f455693@if5: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1480 qdisc noqueue state UP group default \n    \
link/ether ee:ee:ee:ee:ee:ee brd ff:ff:ff:ff:ff:ff link-netnsid 0\n"
    );
    assert_eq!(
        routes(&cluster, K2),
        [
            "10.244.120.64/26 via 172.16.30.6 dev tunl0 proto bird onlink",
            "10.244.151.0/26 via 172.16.30.8 dev tunl0 proto bird onlink",
            "blackhole 10.244.205.192/26 proto bird",
            "10.244.205.193 dev calic440f455693 scope link",
        ]
    );
    cluster.delete_pod("default", "nginx").unwrap();
    assert_eq!(routes(&cluster, K2).len(), 3);
}

/// CAL-23: what Felix sets on a pod's host side reaches the router.
#[test]
fn cali_ports_have_proxy_arp_strict_rp_filter_and_route_localnet() {
    let dir = TempDir::new();
    let mut cluster = cluster("", &dir);
    cluster.add_pod(&pod("nginx", K2), 0).unwrap();
    let snapshot = cluster.snapshot(K2).unwrap();
    assert!(snapshot.forwarding);
    let port = |name: &str| {
        snapshot
            .ports
            .iter()
            .find(|port| port.name == name)
            .unwrap()
    };
    let cali = port("calic440f455693");
    assert!(cali.proxy_arp && cali.route_localnet && cali.arp);
    assert_eq!(cali.rp_filter, router_core::config::RpFilter::Strict);
    assert_eq!(cali.mac.to_string(), "ee:ee:ee:ee:ee:ee");
    assert_eq!(
        (cali.mtu, port("tunl0").mtu, port("eth0").mtu),
        (1480, 1480, 1500)
    );
    assert!(!port("tunl0").arp && !port("eth0").proxy_arp);
}

/// CAL-28: tunl0 and pods have the hosts' MTU less 20, for CrossSubnet too; without IPIP they have the hosts'.
#[test]
fn the_mtu_follows_from_the_hosts() {
    for (mode, wanted) in [("Always", 1430), ("CrossSubnet", 1430), ("Never", 1450)] {
        let dir = TempDir::new();
        let body = format!("network: {{mtu: 1450, calico: {{ipipMode: {mode}}}}}\n");
        let mut cluster = cluster(&body, &dir);
        cluster.add_pod(&pod("a", K1), 0).unwrap();
        let link = cluster.pod("default", "a").unwrap().link.clone().unwrap();
        assert_eq!(link.mtu, wanted, "{mode}");
        let tunnel = cluster
            .node(K1)
            .unwrap()
            .ifaces
            .iter()
            .find(|it| it.name == "tunl0")
            .cloned();
        assert_eq!(
            tunnel.map(|it| it.mtu),
            (mode != "Never").then_some(u32::from(wanted)),
            "{mode}"
        );
    }
}

/// CAL-28: a pods' MTU that the configuration states stands.
#[test]
fn a_stated_mtu_stands() {
    let dir = TempDir::new();
    let mut cluster = cluster("network: {calico: {mtu: 1400}}\n", &dir);
    cluster.add_pod(&pod("a", K1), 0).unwrap();
    let link = cluster.pod("default", "a").unwrap().link.clone().unwrap();
    assert_eq!(link.mtu, 1400);
    let text = std::fs::read_to_string(cluster.node_dir(K1).join("cni/10-calico.conflist"));
    assert!(text.unwrap().contains("\"mtu\": 1400,"));
}

/// CAL-27: neighbours as they are, others by the tunnel; without IPIP there is no tunnel at all.
#[test]
fn the_ipip_mode_decides_who_is_tunnelled() {
    let subnets = "\
nodes:
- {name: a, addresses: [172.16.30.6/25]}
- {name: b, addresses: [172.16.30.7/25]}
- {name: c, addresses: [172.16.30.200/25]}
";
    let of = |mode: &str| {
        let dir = TempDir::new();
        let body = format!("network: {{calico: {{ipipMode: {mode}}}}}\n{subnets}");
        let mut cluster = cluster(&body, &dir);
        for node in ["a", "b", "c"] {
            cluster.add_pod(&pod_on(&cluster, node), 0).unwrap();
        }
        let lines = routes(&cluster, "a");
        let ways = lines
            .iter()
            .filter_map(|line| Some(line.split_once("via ")?.1.to_owned()));
        ways.collect::<BTreeSet<String>>()
    };
    let set = |lines: &[&str]| {
        lines
            .iter()
            .map(|line| (*line).to_owned())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(
        of("Always"),
        set(&[
            "172.16.30.7 dev tunl0 proto bird onlink",
            "172.16.30.200 dev tunl0 proto bird onlink",
        ])
    );
    assert_eq!(
        of("CrossSubnet"),
        set(&[
            "172.16.30.7 dev eth0 proto bird",
            "172.16.30.200 dev tunl0 proto bird onlink",
        ])
    );
    assert_eq!(of("Never"), set(&["172.16.30.7 dev eth0 proto bird"]));
}

/// A pod for a node that isn't one of the preset's.
fn pod_on(cluster: &Cluster, node: &str) -> PodSpec {
    assert!(cluster.node(node).is_ok());
    PodSpec {
        node: node.to_owned(),
        name: format!("pod-{node}"),
        ..pod("x", K1)
    }
}

/// CAL-6: the 64th pod of a node claims a second block, which has its blackhole and its tunnel routes.
#[test]
fn a_second_block_is_announced_too() {
    let dir = TempDir::new();
    let mut cluster = cluster("", &dir);
    for n in 0..64 {
        cluster.add_pod(&pod(&format!("p{n}"), K2), 0).unwrap();
    }
    assert_eq!(
        cluster.pod("default", "p63").unwrap().ip.to_string(),
        "10.244.206.0"
    );
    assert!(routes(&cluster, K2).contains(&"blackhole 10.244.206.0/26 proto bird".to_owned()));
    for other in [K1, K3] {
        let wanted = "10.244.206.0/26 via 172.16.30.7 dev tunl0 proto bird onlink";
        assert!(routes(&cluster, other).contains(&wanted.to_owned()));
    }
}

/// CAL-7, CAL-30: a borrowed address is announced by itself, and the block's owner learns it, where it wins over the blackhole.
#[test]
fn a_borrowed_address_is_announced_by_who_has_it() {
    let dir = TempDir::new();
    let small = "network: {clusterCIDR: 10.244.0.0/27, nodeCIDRMaskSize: 30, calico: {blockSize: 28}}\nnodes: 2\n";
    let mut cluster = cluster(small, &dir);
    for n in 0..15 {
        cluster.add_pod(&pod(&format!("p{n}"), K1), 0).unwrap();
    }
    cluster.add_pod(&pod("borrower", K1), 0).unwrap();
    let ip = cluster.pod("default", "borrower").unwrap().ip;
    let block = cluster
        .calico()
        .unwrap()
        .0
        .blocks()
        .find(|block| block.cidr.contains(&ip))
        .unwrap()
        .clone();
    assert_eq!(block.affinity.as_deref(), Some(K2));
    let lines = routes(&cluster, K2);
    assert!(lines.contains(&format!("{ip} via 172.16.30.6 dev tunl0 proto bird onlink")));
    assert!(lines.contains(&format!("blackhole {} proto bird", block.cidr)));
    // Nothing inside an own block is announced.
    assert_eq!(lines.iter().filter(|line| line.contains("via")).count(), 2);
    // The borrower has its pod's own route, and none of BIRD's for it.
    let own = routes(&cluster, K1);
    assert_eq!(
        own.iter()
            .filter(|line| line.starts_with(&format!("{ip} ")))
            .count(),
        1
    );
    cluster.delete_pod("default", "borrower").unwrap();
    assert!(
        !routes(&cluster, K2)
            .iter()
            .any(|line| line.starts_with(&format!("{ip} ")))
    );
}

/// CAL-26: a pending affinity is neither a blackhole nor announced.
#[test]
fn a_pending_affinity_is_not_routed() {
    let dir = TempDir::new();
    let cluster = cluster("", &dir);
    let mut affinity = Affinity {
        cidr: net("10.244.9.0/26"),
        host: K2.to_owned(),
        state: AffinityState::Pending,
    };
    let pool = net("10.244.0.0/16");
    let lines = |affinity: &Affinity, at: &str| {
        let mut node: Node = cluster.node(at).unwrap().clone();
        node.routes.retain(|route| route.owner != RouteOwner::Bird);
        let speaker = Speaker::new(cluster.node(K2).unwrap(), pool, [affinity].into_iter());
        reconcile(&mut node, &[speaker], IpipMode::Always);
        let bird = node
            .routes
            .into_iter()
            .filter(|route| route.owner == RouteOwner::Bird);
        bird.map(|route| route.dst).collect::<Vec<_>>()
    };
    // The tunnel's address is in no confirmed block then, so it is announced by itself.
    assert_eq!(lines(&affinity, K2), Vec::<Ipv4Net>::new());
    assert_eq!(lines(&affinity, K1), [net("10.244.205.192/32")]);
    affinity.state = AffinityState::Confirmed;
    assert_eq!(lines(&affinity, K2), [net("10.244.9.0/26")]);
    assert_eq!(
        lines(&affinity, K1),
        [net("10.244.9.0/26"), net("10.244.205.192/32")]
    );
}

/// CAL-30: two nodes that announce the same give one route with both next hops; an own block stays a blackhole.
#[test]
fn a_block_that_two_announce_has_two_next_hops() {
    let dir = TempDir::new();
    let cluster = cluster("", &dir);
    let block = net("10.244.9.0/26");
    let speaker = |name: &str, addr: &str| Speaker {
        name: name.to_owned(),
        addr: addr.parse().unwrap(),
        blocks: BTreeSet::from([block]),
        borrowed: BTreeSet::new(),
    };
    let speakers = [speaker(K2, "172.16.30.7"), speaker(K3, "172.16.30.8")];
    let mut node = cluster.node(K1).unwrap().clone();
    assert!(reconcile(&mut node, &speakers, IpipMode::Always));
    let text = view(&node, "route show 10.244.9.0/26");
    assert_eq!(
        text,
        "10.244.9.0/26 proto bird \n\tnexthop via 172.16.30.7 dev tunl0 weight 1 onlink \n\t\
         nexthop via 172.16.30.8 dev tunl0 weight 1 onlink \n"
    );
    let mut owner = cluster.node(K2).unwrap().clone();
    reconcile(&mut owner, &speakers, IpipMode::Always);
    let route = owner
        .routes
        .iter()
        .find(|route| route.dst == block)
        .unwrap();
    assert_eq!(route.kind, crate::model::RouteKind::Blackhole);
}

/// CAL-31: what a silent node announced holds until the hold time is over, not longer; coming back before, nothing happens, and
/// after, all is announced again.
#[test]
fn a_silent_nodes_block_is_withdrawn_after_the_hold_time() {
    let dir = TempDir::new();
    let mut cluster = cluster("", &dir);
    let tunnel = "10.244.205.192/26 via 172.16.30.7 dev tunl0 proto bird onlink".to_owned();
    cluster.node_lost(K2, 1_000);
    assert_eq!(cluster.reconcile(1_000 + HOLD_MS - 1).effects, []);
    assert!(routes(&cluster, K1).contains(&tunnel));
    assert_eq!(cluster.node_found(K2, 1_000 + HOLD_MS - 1).effects, []);
    assert_eq!(cluster.reconcile(1_000 + HOLD_MS).effects, []);

    cluster.node_lost(K2, 500_000);
    cluster.node_lost(K2, 600_000);
    let outcome = cluster.reconcile(500_000 + HOLD_MS);
    assert!(outcome.effects.contains(&Effect::Configure {
        node: K1.to_owned()
    }));
    for peer in [K1, K3] {
        assert!(!routes(&cluster, peer).contains(&tunnel));
    }
    // Its own kernel keeps what it has.
    assert_eq!(routes(&cluster, K2).len(), 3);
    cluster.node_found(K2, 900_000);
    assert!(routes(&cluster, K1).contains(&tunnel));
}

/// The mesh as such: told twice it counts from the first time.
#[test]
fn the_hold_time_counts_from_the_first_silence() {
    let mut mesh = Mesh::default();
    mesh.lost("a", 10);
    mesh.lost("a", 1_000_000);
    assert!(mesh.holds("a", 9 + HOLD_MS) && !mesh.holds("a", 10 + HOLD_MS));
    mesh.found("a");
    assert!(mesh.holds("a", u64::MAX));
}

/// CAL-30: a route that somebody else has set stays, and BIRD's comes when that goes; BIRD's own that was deleted comes back.
#[test]
fn a_route_of_somebody_elses_is_left_alone() {
    let dir = TempDir::new();
    let mut cluster = cluster("", &dir);
    let theirs = "10.244.151.0/26 via 172.16.30.1 dev eth0".to_owned();
    let birds = "10.244.151.0/26 via 172.16.30.8 dev tunl0 proto bird onlink".to_owned();
    change(
        &mut cluster,
        K1,
        "route replace 10.244.151.0/26 via 172.16.30.1",
    );
    cluster.reconcile(2_000);
    assert!(routes(&cluster, K1).contains(&theirs) && !routes(&cluster, K1).contains(&birds));
    change(&mut cluster, K1, "route del 10.244.151.0/26");
    change(&mut cluster, K1, "route del blackhole 10.244.120.64/26");
    assert_eq!(routes(&cluster, K1).len(), 1);
    let outcome = cluster.reconcile(4_000);
    assert!(outcome.effects.contains(&Effect::Configure {
        node: K1.to_owned()
    }));
    assert_eq!(routes(&cluster, K1).len(), 3);
    assert!(routes(&cluster, K1).contains(&birds));
}

/// Without its device BIRD's routes can't be set; when it is up again they are.
#[test]
fn routes_by_a_tunnel_that_is_down_come_back_with_it() {
    let dir = TempDir::new();
    let mut cluster = cluster("", &dir);
    change(&mut cluster, K1, "link set tunl0 down");
    cluster.reconcile(2_000);
    assert_eq!(
        routes(&cluster, K1),
        ["blackhole 10.244.120.64/26 proto bird"]
    );
    change(&mut cluster, K1, "link set tunl0 up");
    cluster.reconcile(4_000);
    assert_eq!(routes(&cluster, K1).len(), 3);
}

/// CAL-22: a route to the pod's address over another device is an error that names it, and the address is free again.
#[test]
fn a_route_in_the_way_of_a_pod_is_named() {
    let dir = TempDir::new();
    let mut cluster = cluster("", &dir);
    change(&mut cluster, K2, "route add 10.244.205.193/32 dev docker0");
    let error = cluster
        .add_pod(&pod("nginx", K2), 0)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "pod \"nginx\": route 10.244.205.193/32 already exists for an interface other than 'calic440f455693': \
         it leads to 'docker0'"
    );
    assert!(cluster.pod("default", "nginx").is_err());
    // The address has gone to the end of the queue.
    cluster.add_pod(&pod("nginx", K2), 0).unwrap();
    assert_eq!(
        cluster.pod("default", "nginx").unwrap().ip.to_string(),
        "10.244.205.194"
    );
}

/// CAL-30: a node that joins is routed to by all, one that leaves by none, and its block is free again.
#[test]
fn nodes_come_and_go() {
    let dir = TempDir::new();
    let mut cluster = cluster("", &dir);
    let before = routes(&cluster, K1);
    cluster.add_node("extra", None, None, 5).unwrap();
    let lines = routes(&cluster, K1);
    assert_eq!(lines.len(), 4);
    assert!(
        lines
            .iter()
            .any(|line| line.contains("via 172.16.30.9 dev tunl0"))
    );
    assert_eq!(routes(&cluster, "extra").len(), 4);
    cluster.add_pod(&pod_on(&cluster, "extra"), 5).unwrap();
    cluster.delete_node("extra").unwrap();
    assert_eq!(routes(&cluster, K1), before);
    let ipam = cluster.calico().unwrap().0;
    assert_eq!(ipam.blocks().len(), 3);
    assert_eq!(ipam.affinities().len(), 3);
}

/// CAL-8: a hundred times ADD and DEL never give the tunnel's address.
#[test]
fn the_tunnels_address_is_never_a_pods() {
    let dir = TempDir::new();
    let mut cluster = cluster("", &dir);
    let tunnel: std::net::Ipv4Addr = "10.244.205.192".parse().unwrap();
    for n in 0..100 {
        cluster.add_pod(&pod("a", K2), n).unwrap();
        assert_ne!(cluster.pod("default", "a").unwrap().ip, tunnel);
        cluster.delete_pod("default", "a").unwrap();
    }
}

/// A lab that can't be had leaves everything as it was, addresses too.
#[test]
fn converging_is_all_or_nothing() {
    let dir = TempDir::new();
    let mut cluster = cluster("", &dir);
    let before: Vec<Pod> = cluster.pods().cloned().collect();
    let ipam = cluster.calico().unwrap().0.clone();
    let mut wanted =
        lab("pods:\n- {name: a, node: minikube}\n- {name: b, node: minikube, ip: 10.244.1.1}\n");
    wanted.pods[1].ip = Some("10.245.0.1".parse().unwrap());
    let error = cluster.converge(&wanted, 9).unwrap_err().to_string();
    assert!(
        error.contains("address 10.245.0.1 is not in pool 10.244.0.0/16"),
        "{error}"
    );
    assert_eq!(cluster.pods().cloned().collect::<Vec<_>>(), before);
    assert_eq!(*cluster.calico().unwrap().0, ipam);
    wanted.pods[1].ip = Some("10.244.1.1".parse().unwrap());
    cluster.converge(&wanted, 9).unwrap();
    assert_eq!(
        cluster.pod("default", "a").unwrap().ip.to_string(),
        "10.244.120.65"
    );
    assert_eq!(
        cluster.pod("default", "b").unwrap().ip.to_string(),
        "10.244.1.1"
    );
}

/// CAL-29, CAL-32, KM-13: pods are masqueraded toward what is outside the pool, and to nobody else; with natOutgoing off not at
/// all. What the node sends into the tunnel from another address of its own has a rule besides (IPIP-18).
#[test]
fn nat_outgoing_masquerades_pods_toward_the_outside() {
    use router_core::config::nat::{POSTROUTING, Target};
    for (body, outgoing) in [
        ("", true),
        ("network: {calico: {natOutgoing: false}}\n", false),
    ] {
        let dir = TempDir::new();
        let nat = cluster(body, &dir).snapshot(K2).unwrap().nat;
        let jumps = |chain: &str| -> Vec<String> {
            let rules = nat.chain(chain).map_or(&[][..], |chain| &chain.rules);
            rules
                .iter()
                .filter_map(|rule| match &rule.target {
                    Target::Jump(to) => Some(to.clone()),
                    _ => None,
                })
                .collect()
        };
        assert_eq!(jumps(POSTROUTING), ["cali-POSTROUTING"]);
        assert_eq!(jumps("cali-POSTROUTING").len(), usize::from(outgoing));
        let rule = nat
            .chain("cali-nat-outgoing")
            .map(|chain| chain.rules[0].clone());
        assert_eq!(rule.is_some(), outgoing);
        if let Some(rule) = rule {
            assert!(matches!(rule.target, Target::Masquerade(_)));
            let (src, dst) = (rule.matches.src.unwrap(), rule.matches.dst.unwrap());
            let addr = |text: &str| text.parse().unwrap();
            assert!(src.holds(addr("10.244.205.193")) && !src.holds(addr("172.16.30.7")));
            assert!(dst.holds(addr("8.8.8.8")) && dst.holds(addr("172.16.30.6")));
            assert!(!dst.holds(addr("10.244.151.1")));
        }
        let tunnel = nat.chain("cali-POSTROUTING").unwrap().rules.last().unwrap();
        assert_eq!(tunnel.matches.src_local, Some(true));
        assert!(
            !tunnel
                .matches
                .src
                .as_ref()
                .unwrap()
                .holds("10.244.205.192".parse().unwrap())
        );
    }
}

/// IPIP-22, IPIP-24: a node takes IPIP from the cluster's nodes alone, also after one has come or gone, and pods may send none.
#[test]
fn only_nodes_may_use_the_tunnel() {
    let dir = TempDir::new();
    let mut cluster = cluster("", &dir);
    cluster.add_pod(&pod("nginx", K2), 0).unwrap();
    let sources = |cluster: &Cluster| {
        let list = cluster.snapshot(K2).unwrap().tunnel_sources.unwrap();
        list.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        sources(&cluster),
        ["172.16.30.6", "172.16.30.7", "172.16.30.8"]
    );
    let outcome = cluster.add_node("extra", None, None, 5).unwrap();
    assert!(outcome.effects.contains(&Effect::Configure {
        node: K2.to_owned()
    }));
    assert_eq!(sources(&cluster).len(), 4);
    cluster.delete_node("extra").unwrap();
    assert_eq!(sources(&cluster).len(), 3);
    for port in cluster.snapshot(K2).unwrap().ports {
        assert_eq!(
            port.deny_ipip,
            port.name.starts_with("cali"),
            "{}",
            port.name
        );
    }
}

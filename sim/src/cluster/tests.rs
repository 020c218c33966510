//! The seeds' nodes and pods, made without any privilege (dataplane 10.1, 10.3, 5.2, 5.3).

use super::*;
use crate::conflist;
use crate::model::{RouteKind, RouteOwner, Scope};
use crate::spec::{ConntrackSpec, GatewaySpec, InternetSpec, MasqAgent, RestartPolicy};
use crate::testing::TempDir;

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn pod(name: &str, node: &str) -> PodSpec {
    PodSpec {
        namespace: "default".into(),
        name: name.into(),
        node: node.into(),
        labels: IndexMap::new(),
        host_network: false,
        cni: None,
        link: None,
        ip: None,
        mac: None,
        command: None,
        env: IndexMap::new(),
        restart: RestartPolicy::Always,
        ..PodSpec::default()
    }
}

fn seed_000() -> LabSpec {
    let node = |name: &str, n: u8, control_plane| NodeSpec {
        name: name.into(),
        internal_ip: Ipv4Addr::new(172, 16, 30, 3 + n),
        addresses: vec![net(&format!("172.16.30.{}/24", 3 + n))],
        mac: None,
        pod_cidr: Some(net(&format!("10.244.{n}.0/24"))),
        control_plane,
        labels: IndexMap::new(),
        interfaces: Vec::new(),
        routes: Vec::new(),
        uplink: None,
    };
    LabSpec {
        name: "seed-000".into(),
        preset: Preset::Kindnet,
        seed: 1,
        network: NetworkSpec {
            calico: None,
            bandwidth: Default::default(),
            cluster_cidr: net("10.244.0.0/16"),
            service_cidr: net("10.96.0.0/12"),
            node_subnet: net("172.16.30.0/24"),
            gateway: Some(GatewaySpec {
                addr: ip("172.16.30.1"),
                dhcp_metric: Some(1024),
            }),
            mtu: 1500,
            docker0: true,
            sit0: true,
            pod_ifindex: 4,
            ipv6_link_local: false,
            dhcp_lease_secs: Some(86400),
            cni_conf_dir: "/etc/cni/net.mk".into(),
            cni_extra_files: IndexMap::new(),
            flush_on_policy_change: false,
            conntrack: ConntrackSpec::default(),
            impairments: Default::default(),
            stale_routes_compat: false,
            kind_masq_agent: MasqAgent::Iptables,
            docker_dns: false,
            internet: Some(InternetSpec {
                addresses: vec![ip("8.8.8.8"), ip("1.1.1.1")],
                ttl_at_node: 116,
            }),
        },
        nodes: vec![
            node("minikube", 0, true),
            node("minikube-m02", 1, false),
            node("minikube-m03", 2, false),
        ],
        pods: vec![pod("coredns", "minikube")],
        policy: PolicyMode::Ignore,
        offload: true,
        workers: 1,
        objects: Vec::new(),
    }
}

fn cluster(dir: &TempDir) -> Cluster {
    Cluster::new(&seed_000(), dir.path().to_path_buf(), 0)
        .unwrap()
        .0
}

/// `destination via gateway dev` of every unicast route, sorted.
fn routes(cluster: &Cluster, node: &str) -> Vec<String> {
    let mut lines: Vec<String> = cluster
        .node(node)
        .unwrap()
        .routes
        .iter()
        .filter(|route| route.kind == RouteKind::Unicast)
        .map(|route| {
            let hop = &route.hops[0];
            let via = hop
                .via
                .map_or_else(String::new, |via| format!(" via {via}"));
            let dev = if hop.dev.starts_with("veth") {
                "veth"
            } else {
                &hop.dev
            };
            format!("{}{via} dev {dev}", route.dst)
        })
        .collect();
    lines.sort();
    lines
}

/// S0-4, S0-6, S0-7, S4-12.
#[test]
fn nodes_have_the_routes_of_seed_000() {
    let dir = TempDir::new();
    let cluster = cluster(&dir);
    assert_eq!(
        routes(&cluster, "minikube"),
        [
            "0.0.0.0/0 via 172.16.30.1 dev eth0",
            "10.244.0.2/32 dev veth",
            "10.244.1.0/24 via 172.16.30.4 dev eth0",
            "10.244.2.0/24 via 172.16.30.5 dev eth0",
            "172.16.30.0/24 dev eth0",
            "172.16.30.1/32 dev eth0",
            "172.17.0.0/16 dev docker0",
        ]
    );
    assert_eq!(
        routes(&cluster, "minikube-m03"),
        [
            "0.0.0.0/0 via 172.16.30.1 dev eth0",
            "10.244.0.0/24 via 172.16.30.3 dev eth0",
            "10.244.1.0/24 via 172.16.30.4 dev eth0",
            "172.16.30.0/24 dev eth0",
            "172.16.30.1/32 dev eth0",
            "172.17.0.0/16 dev docker0",
        ]
    );
}

/// S0-10, S0-11, S0-13, S0-14; PTP-2, PTP-5, PTP-6; IPAM-2.
#[test]
fn a_second_pod_gets_the_next_address_and_a_fresh_index() {
    let dir = TempDir::new();
    let mut cluster = cluster(&dir);
    cluster.add_pod(&pod("busybox", "minikube-m03"), 1).unwrap();
    let busybox = cluster.pod("default", "busybox").unwrap().clone();
    assert_eq!(busybox.ip, ip("10.244.2.2"));
    let link = busybox.link.unwrap();
    assert_eq!((link.host_ifindex, link.ifindex), (5, 4));
    cluster.delete_pod("default", "busybox").unwrap();
    let node = cluster.node("minikube-m03").unwrap();
    assert!(
        node.ifaces
            .iter()
            .all(|iface| iface.name != link.host_ifname)
    );
    assert!(
        node.routes
            .iter()
            .all(|route| route.dst != net("10.244.2.2/32"))
    );
    cluster.add_pod(&pod("nginx", "minikube-m03"), 2).unwrap();
    let nginx = cluster.pod("default", "nginx").unwrap();
    assert_eq!(nginx.ip, ip("10.244.2.3"));
    assert_eq!(nginx.link.as_ref().unwrap().host_ifindex, 6);
    let node = cluster.node("minikube-m03").unwrap();
    let host = node.ifaces.iter().find(|iface| iface.index == 6).unwrap();
    assert_eq!(host.addrs[0].net, net("10.244.2.1/32"));
    assert_eq!(host.addrs[0].broadcast, Some(ip("10.244.2.1")));
    let route = node
        .routes
        .iter()
        .find(|route| route.dst == net("10.244.2.3/32"))
        .unwrap();
    assert_eq!(route.scope, Scope::Host);
}

/// KND-2, KND-10: a deleted and a wrong peer route are repaired, a route of somebody else stays.
#[test]
fn kindnetd_repairs_its_routes_and_leaves_others() {
    let dir = TempDir::new();
    let mut cluster = cluster(&dir);
    let before = routes(&cluster, "minikube");
    let node = &mut cluster.state.nodes["minikube"].node;
    node.routes
        .retain(|route| route.dst != net("10.244.1.0/24"));
    let wrong = node
        .routes
        .iter_mut()
        .find(|route| route.dst == net("10.244.2.0/24"))
        .unwrap();
    wrong.hops[0].via = Some(ip("172.16.30.99"));
    let mut manual = wrong.clone();
    manual.dst = net("10.9.0.0/24");
    manual.owner = RouteOwner::Manual;
    node.routes.push(manual);
    let outcome = cluster.reconcile(0);
    assert!(outcome.effects.contains(&Effect::Configure {
        node: "minikube".into()
    }));
    let mut expected = before;
    expected.push("10.9.0.0/24 via 172.16.30.99 dev eth0".into());
    expected.sort();
    assert_eq!(routes(&cluster, "minikube"), expected);
    assert_eq!(cluster.reconcile(0).effects, []);
}

/// KND-1, KND-3: peers follow a node that joins and one that leaves; the address and podCIDR are the next free ones.
#[test]
fn peers_follow_nodes_that_join_and_leave() {
    let dir = TempDir::new();
    let mut cluster = cluster(&dir);
    let before = routes(&cluster, "minikube");
    cluster.add_node("minikube-m04", None, None, 1).unwrap();
    let node = cluster.node("minikube-m04").unwrap();
    assert_eq!(node.internal_ip, ip("172.16.30.6"));
    assert_eq!(node.pod_cidr, Some(net("10.244.3.0/24")));
    assert!(
        routes(&cluster, "minikube").contains(&"10.244.3.0/24 via 172.16.30.6 dev eth0".into())
    );
    cluster.delete_node("minikube-m04").unwrap();
    assert_eq!(routes(&cluster, "minikube"), before);
}

/// IPAM-9: a pod that could not be made gives its address, link and route back.
#[test]
fn a_pod_that_could_not_be_made_leaves_nothing() {
    let dir = TempDir::new();
    let mut cluster = cluster(&dir);
    let before = routes(&cluster, "minikube-m03");
    cluster.add_pod(&pod("a", "minikube-m03"), 1).unwrap();
    let address = cluster.pod("default", "a").unwrap().ip;
    cluster.rollback_pod("default", "a");
    assert!(cluster.pod("default", "a").is_err());
    assert_eq!(routes(&cluster, "minikube-m03"), before);
    let mut wish = pod("b", "minikube-m03");
    wish.ip = Some(address);
    cluster.add_pod(&wish, 1).unwrap();
}

/// Every refusal leaves everything as it was.
#[test]
fn refusals_change_nothing() {
    let dir = TempDir::new();
    let mut cluster = cluster(&dir);
    let nodes: Vec<Node> = cluster.nodes().cloned().collect();
    let text = |result: Result<Outcome, ClusterError>| result.unwrap_err().to_string();
    assert_eq!(
        text(cluster.add_pod(&pod("a", "minikub"), 1)),
        "node \"minikub\" not found; did you mean \"minikube\"?"
    );
    assert_eq!(
        text(cluster.add_pod(&pod("coredns", "minikube"), 1)),
        "pod \"coredns\" already exists in namespace \"default\""
    );
    let mut wish = pod("a", "minikube");
    wish.ip = Some(ip("10.244.0.2"));
    assert!(text(cluster.add_pod(&wish, 1)).contains("10.244.0.2 is taken"));
    assert!(text(cluster.add_node("m", Some(ip("172.16.30.4")), None, 1)).contains("minikube-m02"));
    assert!(text(cluster.add_node("m", Some(ip("192.168.1.1")), None, 1)).contains("outside"));
    assert!(text(cluster.delete_pod("default", "coredn")).contains("coredns"));
    assert_eq!(cluster.nodes().cloned().collect::<Vec<_>>(), nodes);
    let mut other = seed_000();
    other.pods.push(pod("b", "nowhere"));
    other.pods.insert(0, pod("c", "minikube"));
    assert!(text(cluster.converge(&other, 1)).contains("nowhere"));
    assert_eq!(cluster.nodes().cloned().collect::<Vec<_>>(), nodes);
    cluster.add_pod(&pod("d", "minikube"), 1).unwrap();
    assert_eq!(cluster.pod("default", "d").unwrap().ip, ip("10.244.0.3"));
}

/// A lab file that declares less takes its own pods away and leaves those made by hand.
#[test]
fn converge_follows_the_file_and_leaves_what_was_made_by_hand() {
    let dir = TempDir::new();
    let mut cluster = cluster(&dir);
    cluster.add_pod(&pod("mine", "minikube"), 1).unwrap();
    cluster.add_node("by-hand", None, None, 1).unwrap();
    let mut spec = seed_000();
    spec.pods = vec![pod("web", "minikube-m02")];
    let outcome = cluster.converge(&spec, 2).unwrap();
    assert_eq!(
        outcome.lines,
        ["pod \"coredns\" deleted", "pod/web created"]
    );
    let names: Vec<&str> = cluster.pods().map(|pod| pod.name.as_str()).collect();
    assert_eq!(names, ["mine", "web"]);
    assert!(cluster.node("by-hand").is_ok());
    assert_eq!(cluster.converge(&spec, 3).unwrap(), Outcome::default());
}

/// KND-4, KND-9: a changed podCIDR moves the peers' route; pods keep their addresses, new ones get the new range.
#[test]
fn a_changed_pod_cidr_is_followed() {
    let dir = TempDir::new();
    let mut cluster = cluster(&dir);
    let mut spec = seed_000();
    spec.nodes[0].pod_cidr = Some(net("10.244.9.0/24"));
    cluster.converge(&spec, 1).unwrap();
    let there = routes(&cluster, "minikube-m02");
    assert!(there.contains(&"10.244.9.0/24 via 172.16.30.3 dev eth0".into()));
    assert!(!there.iter().any(|line| line.starts_with("10.244.0.0/24")));
    assert_eq!(
        cluster.pod("default", "coredns").unwrap().ip,
        ip("10.244.0.2")
    );
    cluster.add_pod(&pod("a", "minikube"), 1).unwrap();
    assert_eq!(cluster.pod("default", "a").unwrap().ip, ip("10.244.9.2"));
    let file = cluster
        .node_dir("minikube")
        .join("cni")
        .join(conflist::FILE_NAME);
    assert!(
        std::fs::read_to_string(file)
            .unwrap()
            .contains("10.244.9.0/24")
    );
    cluster.delete_pod("default", "coredns").unwrap();
}

/// KND-5, BUG-5: peers have no route to a node without a podCIDR, and get it as soon as it has one.
#[test]
fn a_node_without_pod_cidr_is_no_peer_yet() {
    let dir = TempDir::new();
    let mut spec = seed_000();
    spec.nodes[2].pod_cidr = None;
    let (mut cluster, _) = Cluster::new(&spec, dir.path().to_owned(), 0).unwrap();
    let to_it = |cluster: &Cluster| {
        routes(cluster, "minikube")
            .into_iter()
            .filter(|line| line.contains("via 172.16.30.5"))
            .collect::<Vec<_>>()
    };
    assert_eq!(to_it(&cluster), [""; 0]);
    spec.nodes[2].pod_cidr = Some(net("10.244.7.0/24"));
    cluster.converge(&spec, 1).unwrap();
    assert_eq!(to_it(&cluster), ["10.244.7.0/24 via 172.16.30.5 dev eth0"]);
}

/// IPAM-5, IPAM-9: addresses lie in the directory that the configuration names, one per node; a pod that can't be made
/// after its address was drawn gives it back.
#[test]
fn an_address_is_given_back_when_the_pod_cannot_be_made() {
    let dir = TempDir::new();
    let mut cluster = cluster(&dir);
    let files = |cluster: &Cluster| {
        let held = cluster.node_dir("minikube").join("ipam").join("kindnet");
        let mut names: Vec<String> = std::fs::read_dir(held)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("10."))
            .collect();
        names.sort();
        names
    };
    assert_eq!(files(&cluster), ["10.244.0.2"]);
    cluster.state.nodes["minikube"].next_port = u16::MAX;
    cluster.add_pod(&pod("a", "minikube"), 1).unwrap_err();
    assert_eq!(files(&cluster), ["10.244.0.2"]);
    cluster.state.nodes["minikube"].next_port = 9;
    cluster.add_pod(&pod("a", "minikube"), 1).unwrap();
    assert_eq!(files(&cluster), ["10.244.0.2", "10.244.0.3"]);
}

/// The snapshot carries ports, addresses and routes of the model, and the host port.
#[test]
fn the_snapshot_says_what_the_model_says() {
    let dir = TempDir::new();
    let cluster = cluster(&dir);
    let snapshot = cluster.snapshot("minikube").unwrap();
    let ids: Vec<u16> = snapshot.ports.iter().map(|port| port.id.0).collect();
    assert_eq!(ids, [0, 1, 2, 3]);
    assert_eq!(snapshot.ports[3].peer.unwrap().ip, ip("10.244.0.2"));
    assert!(
        snapshot
            .addresses
            .iter()
            .any(|addr| addr.addr == ip("10.244.0.1"))
    );
    assert_eq!(snapshot.routes.len(), 7);
}

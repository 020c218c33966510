//! The three documents about kindnet: their labs through the control plane, without any privilege, and whole outputs of the
//! views against their text. Random names, MAC addresses and lifetimes are masked on both sides.

use regex::Regex;
use sim::cluster::Cluster;
use sim::lab::{self, Overrides, Source};
use sim::spec::{PodSpec, RestartPolicy};

use crate::model::podwire_ip;

struct Lab {
    cluster: Cluster,
    _dir: tempfile::TempDir,
}

impl Lab {
    fn new(name: &str) -> Self {
        let sources = Source::open(name).expect("a built-in lab");
        let spec = lab::load(&sources, &Overrides::default()).expect("a valid lab");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (cluster, _) = Cluster::new(&spec, dir.path().to_owned(), 0).expect("a consistent lab");
        Self { cluster, _dir: dir }
    }

    fn run(&mut self, name: &str, node: &str) -> String {
        let pod = PodSpec {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            node: node.to_owned(),
            labels: Default::default(),
            host_network: false,
            cni: None,
            link: None,
            ip: None,
            mac: None,
            command: None,
            env: Default::default(),
            restart: RestartPolicy::Always,
            ..PodSpec::default()
        };
        self.cluster.add_pod(&pod, 0).expect("a pod");
        self.cluster
            .pod("default", name)
            .expect("the pod")
            .ip
            .to_string()
    }

    fn ip(&self, node: &str, words: &str) -> String {
        let node = self.cluster.node(node).expect("a node");
        let (status, out, err) = podwire_ip(words, node, &[]);
        assert_eq!((status, err.as_str()), (0, ""), "ip {words}");
        masked(&out)
    }
}

fn masked(text: &str) -> String {
    let mut text = text
        .lines()
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n");
    for (pattern, mask) in [
        (r"veth[0-9a-f]{8}", "VETH"),
        // Of brd ff:ff:.. and of lo nothing is random.
        (r"link/ether [0-9a-f:]{17}", "link/ether MAC"),
        (r"[0-9]+sec", "LFTsec"),
        (r"fe80::[0-9a-f:]+", "FE80"),
    ] {
        text = Regex::new(pattern)
            .expect("a pattern")
            .replace_all(&text, mask)
            .into_owned();
    }
    text
}

/// The lines that speak of these words.
fn about(text: &str, word: &str) -> String {
    text.lines()
        .filter(|line| line.contains(word))
        .collect::<Vec<_>>()
        .join("\n")
}

const LO: &str = "\
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
    inet 127.0.0.1/8 scope host lo
       valid_lft forever preferred_lft forever
";

fn seed_000_addresses(last: u8, veth: Option<(u32, u8)>) -> String {
    let mut text = format!(
        "{LO}\
2: eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc pfifo_fast state UP group default qlen 1000
    link/ether MAC brd ff:ff:ff:ff:ff:ff
    inet 172.16.30.{last}/24 brd 172.16.30.255 scope global dynamic eth0
       valid_lft LFTsec preferred_lft LFTsec
3: sit0@NONE: <NOARP> mtu 1480 qdisc noop state DOWN group default qlen 1000
    link/sit 0.0.0.0 brd 0.0.0.0
4: docker0: <NO-CARRIER,BROADCAST,MULTICAST,UP> mtu 1500 qdisc noqueue state DOWN group default
    link/ether MAC brd ff:ff:ff:ff:ff:ff
    inet 172.17.0.1/16 brd 172.17.255.255 scope global docker0
       valid_lft forever preferred_lft forever"
    );
    if let Some((index, n)) = veth {
        text += &format!(
            "
{index}: VETH@if4: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default
    link/ether MAC brd ff:ff:ff:ff:ff:ff link-netnsid 0
    inet 10.244.{n}.1/32 brd 10.244.{n}.1 scope global VETH
       valid_lft forever preferred_lft forever"
        );
    }
    text
}

/// S0-3, S0-8, S0-11, S0-14, S0-18: interfaces before and after pods come and go; an index is never used again.
#[test]
fn seed_000_addresses_before_and_after_pods() {
    let mut lab = Lab::new("seed-000");
    assert_eq!(lab.ip("minikube", "a"), seed_000_addresses(3, Some((5, 0))));
    assert_eq!(lab.ip("minikube-m02", "a"), seed_000_addresses(4, None));
    assert_eq!(lab.ip("minikube-m03", "a"), seed_000_addresses(5, None));

    assert_eq!(lab.run("busybox", "minikube-m03"), "10.244.2.2");
    assert_eq!(
        lab.ip("minikube-m03", "a"),
        seed_000_addresses(5, Some((5, 2)))
    );
    lab.cluster
        .delete_pod("default", "busybox")
        .expect("it was there");
    assert_eq!(lab.run("nginx", "minikube-m03"), "10.244.2.3");
    assert_eq!(
        lab.ip("minikube-m03", "a"),
        seed_000_addresses(5, Some((6, 2)))
    );

    assert_eq!(lab.run("nginx-manual", "minikube-m02"), "10.244.1.2");
    assert_eq!(
        lab.ip("minikube-m02", "a"),
        seed_000_addresses(4, Some((5, 1)))
    );
}

/// S0-4, S0-6, S0-7, S0-15.
#[test]
fn seed_000_routes_of_each_node() {
    let mut lab = Lab::new("seed-000");
    let routes = |last: u8, middle: &str| {
        format!(
            "\
default via 172.16.30.1 dev eth0 proto dhcp src 172.16.30.{last} metric 1024
{middle}
172.16.30.0/24 dev eth0 proto kernel scope link src 172.16.30.{last}
172.16.30.1 dev eth0 proto dhcp scope link src 172.16.30.{last} metric 1024
172.17.0.0/16 dev docker0 proto kernel scope link src 172.17.0.1 linkdown"
        )
    };
    let to = |n: u8| format!("10.244.{n}.0/24 via 172.16.30.{} dev eth0", n + 3);
    assert_eq!(
        lab.ip("minikube", "route"),
        routes(
            3,
            &format!("10.244.0.2 dev VETH scope host\n{}\n{}", to(1), to(2))
        )
    );
    assert_eq!(
        lab.ip("minikube-m02", "route"),
        routes(4, &format!("{}\n{}", to(0), to(2)))
    );
    assert_eq!(
        lab.ip("minikube-m03", "route"),
        routes(5, &format!("{}\n{}", to(0), to(1)))
    );
    lab.run("busybox", "minikube-m03");
    lab.cluster
        .delete_pod("default", "busybox")
        .expect("it was there");
    lab.run("nginx", "minikube-m03");
    assert_eq!(
        lab.ip("minikube-m03", "route"),
        routes(
            5,
            &format!("{}\n{}\n10.244.2.3 dev VETH scope host", to(0), to(1))
        )
    );
}

/// S2-3 to S2-7. The connected route is missing in the document; it must exist.
#[test]
fn seed_002_routes_and_look_ups() {
    let lab = Lab::new("seed-002");
    assert_eq!(
        lab.ip("k8s-guide-worker2", "route"),
        "\
default via 172.18.0.1 dev eth0
10.244.0.0/24 via 172.18.0.10 dev eth0
10.244.1.0/24 via 172.18.0.12 dev eth0
10.244.2.2 dev VETH scope host
10.244.2.3 dev VETH scope host
10.244.2.4 dev VETH scope host
10.244.2.5 dev VETH scope host
10.244.2.8 dev VETH scope host
172.18.0.0/16 dev eth0 proto kernel scope link src 172.18.0.13"
    );
    let veths = about(&lab.ip("k8s-guide-worker2", "-br -4 addr show"), "VETH");
    // The document's mask hides that names are as long as the column.
    assert_eq!(
        veths,
        ["VETH@if3 UP             10.244.2.1/32"; 5].join("\n")
    );
    let get = |node: &str| {
        lab.ip(node, "route get 10.244.0.5")
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(
        get("k8s-guide-worker"),
        "10.244.0.5 via 172.18.0.10 dev eth0 src 172.18.0.11 uid 0"
    );
    assert_eq!(
        get("k8s-guide-control-plane"),
        "10.244.0.5 dev VETH src 10.244.0.1 uid 0"
    );
}

/// S3-6, S3-7, S3-9.
#[test]
fn seed_003_pairs_and_routes() {
    let lab = Lab::new("seed-003");
    let brief = about(&lab.ip("minikube", "-br addr"), "VETH");
    assert_eq!(
        brief,
        ["VETH@if2 UP             10.244.0.1/32 FE80/64"; 2].join("\n")
    );
    let node = lab.cluster.node("minikube").expect("a node");
    let first = node
        .ifaces
        .iter()
        .find(|iface| iface.name.starts_with("veth"))
        .expect("a pod link");
    let line = about(
        &lab.ip("minikube", "-o link"),
        &format!("{}: VETH@if2:", first.index),
    );
    assert!(
        line.contains("state UP") && line.ends_with("link-netnsid 0"),
        "{line}"
    );
    let routes = lab.ip("minikube", "route");
    assert_eq!(
        about(&routes, "10.244.1."),
        "10.244.1.0/24 via 192.168.49.3 dev eth0"
    );
    assert!(
        routes.contains("10.244.0.2 dev VETH scope host"),
        "{routes}"
    );
}

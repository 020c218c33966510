//! The labs of the seeds through the cluster and the views: whole outputs of iproute2, without any privilege.

use std::fs;

use super::super::{Overrides, Source, load};
use crate::cluster::Cluster;
use crate::testing::TempDir;
use crate::view::ip::{Action, Invocation, parse, print};

fn cluster(lab: &str, dir: &TempDir) -> Cluster {
    let spec = load(&Source::open(lab).unwrap(), &Overrides::default())
        .unwrap_or_else(|errors| panic!("{errors}"));
    Cluster::new(&spec, dir.path().to_path_buf(), 0).unwrap().0
}

/// What `podwire ip -n NODE ..` prints, lines without trailing spaces, random names replaced.
fn ip(cluster: &Cluster, node: &str, args: &str) -> String {
    let words: Vec<String> = args.split(' ').map(str::to_owned).collect();
    let Invocation {
        options,
        action: Action::View(view),
        ..
    } = parse(&words).unwrap()
    else {
        panic!("{args} is a view")
    };
    let text = print(&view, &options, cluster.node(node).unwrap(), &[]).unwrap();
    text.lines()
        .map(|line| anonymous(line.trim_end()) + "\n")
        .collect()
}

/// Names of links become `vethX`, MACs and IPv6 addresses `M` and `fe80::X`.
fn anonymous(line: &str) -> String {
    let mut words = Vec::new();
    for word in line.split(' ') {
        let bare = word.trim_end_matches(':');
        let is_mac = bare.matches(':').count() == 5 && bare.len() == 17;
        words.push(
            if is_mac && !bare.starts_with("ff:") && !bare.starts_with("00:00:") {
                "M".to_owned()
            } else if let Some(rest) = word.strip_prefix("veth") {
                let (name, rest) = rest.split_at(8);
                assert!(name.bytes().all(|b| b.is_ascii_hexdigit()), "{line}");
                format!("vethX{rest}")
            } else if word.starts_with("fe80::") {
                let (_, length) = word.split_once('/').unwrap();
                format!("fe80::X/{length}")
            } else {
                word.to_owned()
            },
        );
    }
    words.join(" ")
}

/// S0-3, S0-4, S0-6, S0-7, S0-8.
#[test]
fn seed_000_shows_the_documents_nodes() {
    let dir = TempDir::new();
    let cluster = cluster("seed-000", &dir);
    let four = |addr: &str| {
        format!(
            "\
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
    inet 127.0.0.1/8 scope host lo
       valid_lft forever preferred_lft forever
2: eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc pfifo_fast state UP group default qlen 1000
    link/ether M brd ff:ff:ff:ff:ff:ff
    inet {addr}/24 brd 172.16.30.255 scope global dynamic eth0
       valid_lft 86400sec preferred_lft 86400sec
3: sit0@NONE: <NOARP> mtu 1480 qdisc noop state DOWN group default qlen 1000
    link/sit 0.0.0.0 brd 0.0.0.0
4: docker0: <NO-CARRIER,BROADCAST,MULTICAST,UP> mtu 1500 qdisc noqueue state DOWN group default
    link/ether M brd ff:ff:ff:ff:ff:ff
    inet 172.17.0.1/16 brd 172.17.255.255 scope global docker0
       valid_lft forever preferred_lft forever
"
        )
    };
    let fifth = "\
5: vethX@if4: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default
    link/ether M brd ff:ff:ff:ff:ff:ff link-netnsid 0
    inet 10.244.0.1/32 brd 10.244.0.1 scope global vethX
       valid_lft forever preferred_lft forever
";
    assert_eq!(ip(&cluster, "minikube", "a"), four("172.16.30.3") + fifth);
    assert_eq!(ip(&cluster, "minikube-m02", "a"), four("172.16.30.4"));
    assert_eq!(ip(&cluster, "minikube-m03", "a"), four("172.16.30.5"));
    for (node, addr, lines) in [
        (
            "minikube",
            "172.16.30.3",
            "10.244.0.2 dev vethX scope host\n10.244.1.0/24 via 172.16.30.4 dev eth0\n10.244.2.0/24 via 172.16.30.5 dev eth0\n",
        ),
        (
            "minikube-m02",
            "172.16.30.4",
            "10.244.0.0/24 via 172.16.30.3 dev eth0\n10.244.2.0/24 via 172.16.30.5 dev eth0\n",
        ),
        (
            "minikube-m03",
            "172.16.30.5",
            "10.244.0.0/24 via 172.16.30.3 dev eth0\n10.244.1.0/24 via 172.16.30.4 dev eth0\n",
        ),
    ] {
        assert_eq!(
            ip(&cluster, node, "route"),
            format!(
                "\
default via 172.16.30.1 dev eth0 proto dhcp src {addr} metric 1024
{lines}172.16.30.0/24 dev eth0 proto kernel scope link src {addr}
172.16.30.1 dev eth0 proto dhcp scope link src {addr} metric 1024
172.17.0.0/16 dev docker0 proto kernel scope link src 172.17.0.1 linkdown
"
            )
        );
    }
}

/// S0-2, S0-9: coredns has 10.244.0.2, all others their node's address.
#[test]
fn seed_000_has_the_documents_pods() {
    let dir = TempDir::new();
    let cluster = cluster("seed-000", &dir);
    assert_eq!(cluster.pods().len(), 12);
    for pod in cluster.pods() {
        let node = cluster.node(&pod.node).unwrap();
        let want = if pod.name.starts_with("coredns-") {
            "10.244.0.2".parse().unwrap()
        } else {
            node.internal_ip
        };
        assert_eq!(pod.ip, want, "{}", pod.name);
    }
}

/// S1-7, S1-12, S1-13, S1-14: the tables of the three nodes.
#[test]
fn seed_001_shows_the_documents_nodes() {
    let dir = TempDir::new();
    let mut cluster = cluster("seed-001", &dir);
    let with_gateway = |addr: &str, lines: &str| {
        format!(
            "\
default via 172.16.30.1 dev eth0 proto dhcp src {addr} metric 1024
{lines}172.16.30.0/24 dev eth0 proto kernel scope link src {addr}
172.16.30.1 dev eth0 proto dhcp scope link src {addr} metric 1024
172.17.0.0/16 dev docker0 proto kernel scope link src 172.17.0.1 linkdown
"
        )
    };
    let minikube = "\
10.88.0.0/16 dev cni-podman0 proto kernel scope link src 10.88.0.1
blackhole 10.244.120.64/26 proto bird
10.244.151.0/26 via 172.16.30.8 dev tunl0 proto bird onlink
10.244.205.192/26 via 172.16.30.7 dev tunl0 proto bird onlink
";
    assert_eq!(
        ip(&cluster, "minikube", "route"),
        with_gateway("172.16.30.6", minikube)
    );
    let m03 = "\
10.244.120.64/26 via 172.16.30.6 dev tunl0 proto bird onlink
blackhole 10.244.151.0/26 proto bird
10.244.205.192/26 via 172.16.30.7 dev tunl0 proto bird onlink
";
    assert_eq!(
        ip(&cluster, "minikube-m03", "route"),
        with_gateway("172.16.30.8", m03)
    );
    for (name, node) in [("nginx", "minikube-m02"), ("nginx-manual", "minikube-m03")] {
        let system = cluster.pods().next().unwrap();
        let mut pod = cluster
            .pod_spec(&system.namespace, &system.name)
            .unwrap()
            .clone();
        (pod.host_network, pod.cni) = (false, None);
        (pod.namespace, pod.name, pod.node) = ("default".into(), name.into(), node.into());
        cluster.add_pod(&pod, 0).unwrap();
    }
    let m02 = "\
10.244.120.64/26 via 172.16.30.6 dev tunl0 proto bird onlink
10.244.151.0/26 via 172.16.30.8 dev tunl0 proto bird onlink
blackhole 10.244.205.192/26 proto bird
10.244.205.193 dev calic440f455693 scope link
";
    assert_eq!(
        ip(&cluster, "minikube-m02", "route"),
        with_gateway("172.16.30.7", m02)
    );
    let m03 = "\
10.244.120.64/26 via 172.16.30.6 dev tunl0 proto bird onlink
blackhole 10.244.151.0/26 proto bird
10.244.151.1 dev califba6dd09590 scope link
10.244.205.192/26 via 172.16.30.7 dev tunl0 proto bird onlink
";
    assert_eq!(
        ip(&cluster, "minikube-m03", "route"),
        with_gateway("172.16.30.8", m03)
    );
}

/// S1-6: all of m02's interfaces, as the document prints them but for its random MACs and the time that is left of the
/// lease.
#[test]
fn seed_001_shows_the_documents_interfaces() {
    let dir = TempDir::new();
    let mut cluster = cluster("seed-001", &dir);
    let system = cluster.pods().next().unwrap();
    let mut pod = cluster
        .pod_spec(&system.namespace, &system.name)
        .unwrap()
        .clone();
    (pod.host_network, pod.cni) = (false, None);
    (pod.namespace, pod.name, pod.node) = ("default".into(), "nginx".into(), "minikube-m02".into());
    cluster.add_pod(&pod, 0).unwrap();
    assert_eq!(
        ip(&cluster, "minikube-m02", "a"),
        "\
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
    inet 127.0.0.1/8 scope host lo
       valid_lft forever preferred_lft forever
2: eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc pfifo_fast state UP group default qlen 1000
    link/ether M brd ff:ff:ff:ff:ff:ff
    inet 172.16.30.7/24 brd 172.16.30.255 scope global dynamic eth0
       valid_lft 86400sec preferred_lft 86400sec
3: sit0@NONE: <NOARP> mtu 1480 qdisc noop state DOWN group default qlen 1000
    link/sit 0.0.0.0 brd 0.0.0.0
4: docker0: <NO-CARRIER,BROADCAST,MULTICAST,UP> mtu 1500 qdisc noqueue state DOWN group default
    link/ether M brd ff:ff:ff:ff:ff:ff
    inet 172.17.0.1/16 brd 172.17.255.255 scope global docker0
       valid_lft forever preferred_lft forever
5: tunl0@NONE: <NOARP,UP,LOWER_UP> mtu 1480 qdisc noqueue state UNKNOWN group default qlen 1000
    link/ipip 0.0.0.0 brd 0.0.0.0
    inet 10.244.205.192/32 scope global tunl0
       valid_lft forever preferred_lft forever
8: calic440f455693@if5: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1480 qdisc noqueue state UP group default
    link/ether M brd ff:ff:ff:ff:ff:ff link-netnsid 0
"
    );
}

/// S1-2, S1-4, S1-11, MIX-1: coredns and calico-kube-controllers are older than Calico's configuration, and on the podman bridge;
/// tunl0 came after their links.
#[test]
fn seed_001_has_two_pods_on_the_podman_bridge() {
    let dir = TempDir::new();
    let cluster = cluster("seed-001", &dir);
    let minikube = ip(&cluster, "minikube", "a");
    let from = minikube.find("5: ").unwrap();
    assert_eq!(
        minikube[from..],
        *"\
5: cni-podman0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default qlen 1000
    link/ether M brd ff:ff:ff:ff:ff:ff
    inet 10.88.0.1/16 brd 10.88.255.255 scope global cni-podman0
       valid_lft forever preferred_lft forever
6: vethX@if4: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue master cni-podman0 state UP group default
    link/ether M brd ff:ff:ff:ff:ff:ff link-netnsid 0
7: vethX@if4: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue master cni-podman0 state UP group default
    link/ether M brd ff:ff:ff:ff:ff:ff link-netnsid 1
8: tunl0@NONE: <NOARP,UP,LOWER_UP> mtu 1480 qdisc noqueue state UNKNOWN group default qlen 1000
    link/ipip 0.0.0.0 brd 0.0.0.0
    inet 10.244.120.64/32 scope global tunl0
       valid_lft forever preferred_lft forever
"
    );
    for pod in cluster.pods() {
        let node = cluster.node(&pod.node).unwrap();
        let want = match pod.name.as_str() {
            name if name.starts_with("coredns-") => "10.88.0.2".parse().unwrap(),
            name if name.starts_with("calico-kube-controllers-") => "10.88.0.3".parse().unwrap(),
            _ => node.internal_ip,
        };
        assert_eq!(pod.ip, want, "{}", pod.name);
    }
    let mut files: Vec<String> = fs::read_dir(cluster.node_dir("minikube").join("cni"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(
        files,
        [
            ".keep",
            "10-calico.conflist",
            "87-podman-bridge.conflist",
            "calico-kubeconfig"
        ]
    );
}

/// S1-10, CAL-1: nodes have podCIDRs, and no pod has an address of one.
#[test]
fn seed_001_has_pod_cidrs_that_nobody_uses() {
    let dir = TempDir::new();
    let cluster = cluster("seed-001", &dir);
    for (node, cidr) in [
        ("minikube", "10.244.0.0/24"),
        ("minikube-m02", "10.244.1.0/24"),
        ("minikube-m03", "10.244.2.0/24"),
    ] {
        let cidr: ipnet::Ipv4Net = cidr.parse().unwrap();
        assert_eq!(cluster.node(node).unwrap().pod_cidr, Some(cidr));
        assert!(cluster.pods().all(|pod| !cidr.contains(&pod.ip)));
    }
}

/// S2-3, S2-4, S2-6, S2-7.
#[test]
fn seed_002_shows_the_documents_nodes() {
    let dir = TempDir::new();
    let cluster = cluster("seed-002", &dir);
    let worker2 = "k8s-guide-worker2";
    assert_eq!(
        ip(&cluster, worker2, "route"),
        "\
default via 172.18.0.1 dev eth0
10.244.0.0/24 via 172.18.0.10 dev eth0
10.244.1.0/24 via 172.18.0.12 dev eth0
10.244.2.2 dev vethX scope host
10.244.2.3 dev vethX scope host
10.244.2.4 dev vethX scope host
10.244.2.5 dev vethX scope host
10.244.2.8 dev vethX scope host
172.18.0.0/16 dev eth0 proto kernel scope link src 172.18.0.13
"
    );
    let brief = ip(&cluster, worker2, "-br -4 addr show");
    let veths: Vec<&str> = brief
        .lines()
        .filter(|line| line.starts_with("veth"))
        .collect();
    assert_eq!(
        veths, ["vethX@if3 UP             10.244.2.1/32"; 5],
        "{brief}"
    );
    let get = |node: &str| {
        let text = ip(&cluster, node, "route get 10.244.0.5");
        text.lines()
            .next()
            .unwrap()
            .trim_end_matches(" uid 0")
            .to_owned()
    };
    assert_eq!(
        get("k8s-guide-worker"),
        "10.244.0.5 via 172.18.0.10 dev eth0 src 172.18.0.11"
    );
    assert_eq!(
        get("k8s-guide-control-plane"),
        "10.244.0.5 dev vethX src 10.244.0.1"
    );
}

/// S3-1 to S3-3, S3-6, S3-7, S3-9.
#[test]
fn seed_003_shows_the_documents_nodes() {
    let dir = TempDir::new();
    let cluster = cluster("seed-003", &dir);
    let brief = ip(&cluster, "minikube", "-br addr");
    let veths: Vec<&str> = brief
        .lines()
        .filter(|line| line.starts_with("veth"))
        .collect();
    assert_eq!(
        veths, ["vethX@if2 UP             10.244.0.1/32 fe80::X/64"; 2],
        "{brief}"
    );
    let links = ip(&cluster, "minikube", "-o link");
    let third = links.lines().find(|line| line.starts_with("3: ")).unwrap();
    assert!(third.starts_with("3: vethX@if2: <BROADCAST,MULTICAST,UP,LOWER_UP>"));
    let routes = ip(&cluster, "minikube", "route");
    let pods: Vec<&str> = routes
        .lines()
        .filter(|line| line.starts_with("10.244"))
        .collect();
    assert_eq!(
        pods,
        [
            "10.244.0.2 dev vethX scope host",
            "10.244.0.3 dev vethX scope host",
            "10.244.1.0/24 via 192.168.49.3 dev eth0",
        ]
    );
    let mut addresses: Vec<String> = cluster
        .pods()
        .filter(|pod| pod.node == "minikube-m02")
        .map(|pod| pod.ip.to_string())
        .collect();
    addresses.sort();
    assert_eq!(addresses, ["10.244.1.2", "10.244.1.3"]);

    let cni = cluster.node_dir("minikube").join("cni");
    let mut files: Vec<String> = fs::read_dir(&cni)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(
        files,
        [
            "10-kindnet.conflist",
            "100-crio-bridge.conf.mk_disabled",
            "200-loopback.conf",
            "87-podman-bridge.conflist.mk_disabled"
        ]
    );
    let text = fs::read_to_string(cni.join("10-kindnet.conflist")).unwrap();
    assert_eq!(
        text,
        crate::conflist::kindnet("10.244.0.0/24".parse().unwrap(), Some(1500))
    );
    for file in files {
        let text = fs::read_to_string(cni.join(file)).unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }
}

/// A lab converges to itself without any change: nothing in it depends on chance or on the time.
#[test]
fn every_lab_converges_to_itself() {
    for (name, _) in super::super::BUILT_IN {
        let dir = TempDir::new();
        let mut cluster = cluster(name, &dir);
        let spec = load(&Source::open(name).unwrap(), &Overrides::default()).unwrap();
        let outcome = cluster.converge(&spec, 1).unwrap();
        assert_eq!(outcome.lines, Vec::<String>::new(), "{name}");
        assert!(outcome.effects.is_empty(), "{name}: {:?}", outcome.effects);
    }
}

//! "Inside a Pod's Birth: Veth Pairs, IPAM, and Routing with Kindnet CNI": table 10.4.

use crate::harness::{Lab, Need, World, runs_here};
use crate::pattern;
use crate::seed002::lab_file;

fn node_views(lab: &Lab<'_>) {
    // Row 6: two links with the same gateway address, peers with index 2, IPv6 link-local addresses.
    let brief = lab.out(&["ip", "-n", "minikube", "-br", "addr"]);
    let veths: Vec<&str> = brief.lines().filter(|l| l.starts_with("veth")).collect();
    assert_eq!(veths.len(), 2, "{brief}");
    for line in veths {
        pattern::matches("{veth}@if2 UP             10.244.0.1/32 {fe80}/64", line)
            .unwrap_or_else(|diff| panic!("{diff}"));
    }
    // Row 7: index 3 is the first of them.
    let links = lab.out(&["ip", "-n", "minikube", "-o", "link"]);
    let third = links
        .lines()
        .find(|l| l.starts_with("3: "))
        .expect("index 3 is taken");
    pattern::matches(
        "3: {veth}@if2: <BROADCAST,MULTICAST,UP,LOWER_UP> {any}link-netnsid {n}",
        third,
    )
    .unwrap_or_else(|diff| panic!("{diff}"));
    // Row 9.
    let routes = lab.out(&["ip", "-n", "minikube", "route"]);
    let cluster: Vec<&str> = routes.lines().filter(|l| l.starts_with("10.244")).collect();
    pattern::matches(
        "\
10.244.0.2 dev {veth#a} scope host
10.244.0.3 dev {veth#b} scope host
10.244.1.0/24 via 192.168.49.3 dev eth0",
        &cluster.join("\n"),
    )
    .unwrap_or_else(|diff| panic!("{diff}"));
    // Row 3.
    let pods = lab.out(&["get", "pods", "-A", "-o", "wide"]);
    for (ip, node) in [
        ("10.244.1.2", "minikube-m02"),
        ("10.244.1.3", "minikube-m02"),
        ("10.244.0.2", "minikube"),
    ] {
        let found = pods.lines().any(|l| {
            let words: Vec<&str> = l.split_whitespace().collect();
            words[6] == ip && words[7] == node
        });
        assert!(found, "{ip} on {node}:\n{pods}");
    }
}

/// S3-3, S3-6, S3-7, S3-9.
#[test]
fn the_pods_birth_document_holds_in_process() {
    let world = World::new();
    let lab = world.up(&["-f", &lab_file("seed-003.yaml"), "--backend", "inproc"]);
    node_views(&lab);
}

/// S3-1 to S3-9 with programs in pods and nodes.
#[test]
fn the_pods_birth_document_holds_on_tap() {
    if !runs_here(&[Need::Tap, Need::Tool("ip")]) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["-f", &lab_file("seed-003.yaml"), "--backend", "tap"]);
    node_views(&lab);

    // Rows 1 and 2.
    let mut files: Vec<String> = lab
        .out(&["exec", "node/minikube", "--", "ls", "-1", "/etc/cni/net.d"])
        .lines()
        .map(str::to_owned)
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
    let conflist = lab
        .cmd(&[
            "exec",
            "node/minikube",
            "--",
            "cat",
            "/etc/cni/net.d/10-kindnet.conflist",
        ])
        .ok()
        .json();
    assert_eq!(
        conflist["plugins"][0]["ipam"]["ranges"][0][0]["subnet"],
        "10.244.0.0/24"
    );
    assert_eq!(conflist["plugins"][0]["mtu"], 1500);

    // Rows 4, 5 and 8, in the pod that has 10.244.0.2.
    let pods = lab.out(&["get", "pods", "-A", "-o", "wide"]);
    let pod = pods
        .lines()
        .find_map(|l| {
            let words: Vec<&str> = l.split_whitespace().collect();
            (words[6] == "10.244.0.2").then(|| format!("{}/{}", words[0], words[1]))
        })
        .expect("a pod has 10.244.0.2");
    lab.shows(
        &["exec", &pod, "--", "ls", "-1", "/sys/class/net"],
        "eth0\nlo",
    );
    lab.shows(
        &["exec", &pod, "--", "cat", "/sys/class/net/eth0/ifindex"],
        "2",
    );
    lab.shows(
        &["exec", &pod, "--", "ip", "-br", "a"],
        "\
lo               UNKNOWN        127.0.0.1/8 ::1/128
eth0             UP             10.244.0.2/24 {fe80}/64",
    );
    lab.shows(
        &["exec", &pod, "--", "ip", "route"],
        "\
default via 10.244.0.1 dev eth0
10.244.0.0/24 via 10.244.0.1 dev eth0 src 10.244.0.2
10.244.0.1 dev eth0 scope link src 10.244.0.2",
    );
}

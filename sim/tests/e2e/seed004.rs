//! "Understanding Kubernetes' Cluster Networking": table 10.5, and podman's bridge with real programs.

use crate::harness::{DEADLINE, Lab, Need, World, eventually, runs_here};
use crate::seed002::lab_file;

const TOOLS: [Need; 5] = [
    Need::Tap,
    Need::Tool("curl"),
    Need::Tool("ip"),
    Need::Tool("ping"),
    Need::Tool("python3"),
];

/// Waits until the server of the document listens in its namespace.
fn server_listens(lab: &Lab<'_>) {
    eventually(DEADLINE, "the server to listen", || {
        let output = lab.cmd(&[
            "exec",
            "server",
            "--",
            "curl",
            "-s",
            "-m",
            "2",
            "127.0.0.1:8080",
        ]);
        output.stdout.contains("Directory listing").then_some(())
    });
}

fn curl(lab: &Lab<'_>, from: &str, url: &str) -> (i32, String) {
    let output = lab.cmd(&["exec", from, "--", "curl", "-sS", "-m", "2", url]);
    (output.status.code().unwrap_or(-1), output.stdout)
}

#[track_caller]
fn listing(lab: &Lab<'_>, from: &str, url: &str) {
    let (status, text) = curl(lab, from, url);
    assert_eq!(status, 0, "{from} {url}");
    assert!(text.contains("Directory listing for /"), "{text}");
}

/// Nobody answers: curl's 28 is its own time limit, 7 is the kernel's "no route to host" when ARP gave up before.
#[track_caller]
fn times_out(lab: &Lab<'_>, from: &str, url: &str) {
    lab.cmd(&["exec", from, "--", "ip", "neigh", "flush", "all"])
        .ok();
    let (status, text) = curl(lab, from, url);
    assert_eq!((status, text.as_str()), (28, ""), "{from} {url}");
}

/// S4-1, S4-2: localhost is each namespace's own, and is there only while lo is up.
#[test]
fn unconnected_namespaces_have_nothing_but_their_own_localhost() {
    if !runs_here(&TOOLS) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["-f", &lab_file("seed-004-namespaces.yaml")]);
    server_listens(&lab);
    let (status, _) = curl(&lab, "client", "127.0.0.1:8080");
    assert_eq!(status, 7, "connection refused");
    lab.cmd(&["exec", "server", "--", "ip", "link", "set", "lo", "down"])
        .ok();
    let (status, _) = curl(&lab, "server", "127.0.0.1:8080");
    assert_ne!(status, 0, "without lo there is no localhost");
    lab.cmd(&["exec", "server", "--", "ip", "link", "set", "lo", "up"])
        .ok();
    listing(&lab, "server", "127.0.0.1:8080");
    let links = lab.out(&["exec", "client", "--", "ip", "-br", "link"]);
    assert_eq!(links.lines().count(), 1, "{links}");
}

/// S4-3, S4-4, TM-4, BR-7: past eth0, ttl=64; BR-20, BR-23: the bridge is 10.0.0.0 and shows no brd.
#[test]
fn namespaces_on_one_bridge_talk_past_the_host() {
    if !runs_here(&TOOLS) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["-f", &lab_file("seed-004-bridge.yaml")]);
    server_listens(&lab);
    listing(&lab, "client", "10.0.0.2:8080");
    let ping = lab.out(&[
        "exec", "client", "--", "ping", "-c", "1", "-W", "2", "10.0.0.2",
    ]);
    assert!(ping.contains("ttl=64"), "{ping}");
    let gateway = lab.out(&[
        "exec", "client", "--", "ping", "-c", "1", "-W", "2", "10.0.0.0",
    ]);
    assert!(
        gateway.contains("64 bytes from 10.0.0.0: icmp_seq=1 ttl=64"),
        "{gateway}"
    );
    lab.shows(
        &["ip", "-n", "kind-control-plane", "addr", "show", "bridge"],
        "\
3: bridge: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default qlen 1000
    link/ether {mac} brd ff:ff:ff:ff:ff:ff
    inet 10.0.0.0/24 scope global bridge
       valid_lft forever preferred_lft forever",
    );
    lab.shows(
        &["ip", "-n", "kind-control-plane", "link", "show", "veth-clientbr"],
        "\
4: veth-clientbr@if2: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue master bridge state UP mode DEFAULT group default qlen 1000
    link/ether {mac} brd ff:ff:ff:ff:ff:ff link-netnsid 0",
    );
}

/// S4-13, and the document's own commands: the bridge made, filled and deleted by hand on the running node.
#[test]
fn the_bridge_can_be_made_and_deleted_by_hand() {
    if !runs_here(&TOOLS) {
        return;
    }
    let world = World::new();
    let text = "\
apiVersion: podwire/v1
kind: Lab
preset: manual
nodes: [{name: host}]
pods:
- {name: client, link: {name: veth-client, peer: veth-clientbr, address: 10.0.0.1/24}}
- {name: server, link: {name: veth-server, peer: veth-serverbr, address: 10.0.0.2/24}, command: [python3, -m, http.server, '8080']}
";
    let file = world.file("by-hand.yaml", text);
    let lab = world.up(&["-f", &file]);
    server_listens(&lab);
    let before = lab.out(&["ip", "-n", "host", "route"]);
    for step in [
        "link add bridge type bridge",
        "link set veth-clientbr master bridge",
        "link set veth-serverbr master bridge",
        "addr add 10.0.0.0/24 dev bridge",
        "link set bridge up",
    ] {
        let mut words = vec!["ip", "-n", "host"];
        words.extend(step.split(' '));
        lab.cmd(&words).ok();
    }
    listing(&lab, "client", "10.0.0.2:8080");
    lab.cmd(&["ip", "-n", "host", "link", "del", "bridge"]).ok();
    assert_eq!(lab.out(&["ip", "-n", "host", "route"]), before);
    times_out(&lab, "client", "10.0.0.2:8080");
    let links = lab.out(&["ip", "-n", "host", "-br", "link"]);
    assert!(!links.contains("bridge"), "{links}");
}

/// S4-5, S4-6, S4-8, S4-9, S4-10, and S4-7 and S4-11 with the masquerade of a kind node; KM-2.
#[test]
fn namespaces_on_two_hosts_need_routes_and_masquerade() {
    if !runs_here(&TOOLS) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["-f", &lab_file("seed-004.yaml")]);
    rows_5_to_11(&lab);
    // Row 7: the internet is reached in the name of the host, by HTTP as nobody here serves TLS.
    let (status, page) = curl(&lab, "client", "http://8.8.8.8/");
    assert_eq!(status, 0, "{page}");
    let (status, page) = curl(&lab, "client", "10.0.0.2:8080");
    assert_eq!(status, 0, "{page}");
    let sessions = lab.out(&["nat", "-n", "kind-control-plane", "sessions"]);
    assert!(
        sessions.contains("src=10.0.0.1 dst=10.0.0.2")
            && sessions.contains("src=10.0.0.2 dst=172.18.0.2"),
        "{sessions}"
    );
}

/// S4-11 as it is without masquerade: the server looks for the client on its own bridge.
#[test]
fn without_masquerade_the_answer_between_hosts_is_lost() {
    if !runs_here(&TOOLS) {
        return;
    }
    let world = World::new();
    let masquerading = std::fs::read_to_string(lab_file("seed-004.yaml")).expect("the lab ships");
    let plain = world.file(
        "plain.yaml",
        &masquerading.replace("kindMasqAgent: true", "kindMasqAgent: false"),
    );
    let lab = world.up(&["-f", &plain]);
    rows_5_to_11(&lab);
    let (status, _) = curl(&lab, "client", "10.0.0.2:8080");
    assert_eq!(status, 28, "without masquerade the answer is lost");
}

fn rows_5_to_11(lab: &Lab<'_>) {
    server_listens(lab);
    // Row 5.
    lab.cmd(&["exec", "client", "--", "ping", "-c", "1", "172.18.0.2"])
        .fails(2, &["ping: connect: Network is unreachable"]);
    lab.cmd(&["exec", "server", "--", "ping", "-c", "1", "172.18.0.4"])
        .fails(2, &["ping: connect: Network is unreachable"]);
    // Row 6.
    for (host, own) in [("client", "172.18.0.2"), ("server", "172.18.0.4")] {
        lab.cmd(&[
            "exec", host, "--", "ip", "route", "add", "default", "via", "10.0.0.0",
        ])
        .ok();
        let ping = lab.out(&["exec", host, "--", "ping", "-c", "2", "-i", "0.2", own]);
        for line in [
            "icmp_seq=1 ttl=64",
            "icmp_seq=2 ttl=64",
            "2 received, 0% packet loss",
        ] {
            assert!(ping.contains(line), "{ping}");
        }
    }
    // Row 8: the client asks on its bridge, and nobody answers for the other host's namespace.
    times_out(lab, "client", "10.0.0.2:8080");
    let neighbours = lab.out(&["exec", "client", "--", "ip", "neigh", "show", "10.0.0.2"]);
    assert!(!neighbours.contains("lladdr"), "{neighbours}");
    // Row 9: from the host it works, by the other host's address alone.
    lab.cmd(&[
        "ip",
        "-n",
        "kind-control-plane",
        "route",
        "add",
        "10.0.0.2",
        "via",
        "172.18.0.4",
    ])
    .ok();
    listing(lab, "node/kind-control-plane", "10.0.0.2:8080");
    let neighbours = lab.out(&["ip", "-n", "kind-control-plane", "neigh"]);
    assert!(
        neighbours.contains("172.18.0.4 dev eth0 lladdr"),
        "{neighbours}"
    );
    assert!(!neighbours.contains("10.0.0.2 "), "{neighbours}");
    // Row 10.
    times_out(lab, "client", "10.0.0.2:8080");
    // Row 11.
    lab.cmd(&[
        "exec", "client", "--", "ip", "route", "add", "10.0.0.2", "via", "10.0.0.0",
    ])
    .ok();
}

/// Which rows of 10.5 a back end cannot show is said, not tried.
#[test]
fn hand_made_labs_are_not_for_stacks_in_process() {
    let world = World::new();
    world
        .podwire(&[
            "up",
            "-f",
            &lab_file("seed-004.yaml"),
            "--backend",
            "inproc",
        ])
        .fails(
            4,
            &[
                "hosts of a hand-made lab are network namespaces",
                "tap and packet",
            ],
        );
}

fn podman_lab<'w>(world: &'w World, backend: &str) -> Lab<'w> {
    let lab = world.up(&[
        "--preset",
        "podman-bridge",
        "--nodes",
        "2",
        "--backend",
        backend,
    ]);
    lab.run_pod("a", "minikube");
    lab.run_pod("b", "minikube");
    lab.run_pod("c", "minikube-m02");
    lab
}

/// BR-7, BR-12, BR-16, BR-18: coredns has 10.88.0.2; pods of one node see each other with ttl=64. MIX-2: those of another
/// node don't see them, as they have the same addresses.
fn podman_bridge_holds(lab: &Lab<'_>) {
    assert_eq!(lab.ip_of("a"), "10.88.0.3");
    assert_eq!(lab.ip_of("b"), "10.88.0.4");
    assert_eq!(lab.ip_of("c"), "10.88.0.2");
    for (from, to) in [
        ("a", "b"),
        ("b", "a"),
        ("a", "10.88.0.1"),
        ("node/minikube", "a"),
        ("a", "node/minikube"),
    ] {
        let output = lab.cmd(&["ping", from, to, "-c", "1"]).ok();
        assert!(
            output.stdout.contains("icmp_seq=1 ttl=64 "),
            "{from} to {to}: {output}"
        );
    }
    let lost = lab.cmd(&["ping", "c", "a", "-c", "1", "-W", "1"]);
    assert!(!lost.status.success(), "{lost}");
}

/// BR-18, MIX-2, BUG-8: with real kernels in the pods.
#[test]
fn podmans_bridge_holds_on_tap() {
    if !runs_here(&TOOLS) {
        return;
    }
    let world = World::new();
    let lab = podman_lab(&world, "tap");
    podman_bridge_holds(&lab);
    // BR-18: pods find each other by ARP.
    let neighbours = lab.out(&["exec", "a", "--", "ip", "neigh", "show", "10.88.0.4"]);
    assert!(neighbours.contains("lladdr"), "{neighbours}");
    lab.shows(
        &["exec", "a", "--", "ip", "route"],
        "\
default via 10.88.0.1 dev eth0
10.88.0.0/16 dev eth0 proto kernel scope link src 10.88.0.3",
    );
    lab.shows(
        &["exec", "a", "--", "ip", "-4", "-o", "addr", "show", "eth0"],
        "4: eth0    inet 10.88.0.3/16 brd 10.88.255.255 scope global eth0{any}",
    );
}

/// BR-7, BR-12, BR-16, MIX-2.
#[test]
fn podmans_bridge_holds_in_process() {
    let world = World::new();
    podman_bridge_holds(&podman_lab(&world, "inproc"));
}

/// MIX-1: a configuration that somebody puts first on the node counts for pods made from then on.
#[test]
fn a_configuration_put_on_the_node_counts_from_then_on() {
    if !runs_here(&TOOLS) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["--preset", "podman-bridge"]);
    lab.run_pod("old", "minikube");
    let script = "sed -e s/10.88/10.77/g -e s/cni-podman0/cni-first0/ -e 's/\"podman\"/\"first\"/' /etc/cni/net.d/87-podman-bridge.conflist > /etc/cni/net.d/10-first.conflist";
    lab.cmd(&["exec", "node/minikube", "--", "sh", "-c", script])
        .ok();
    lab.run_pod("new", "minikube");
    assert_eq!(lab.ip_of("old"), "10.88.0.3");
    assert_eq!(lab.ip_of("new"), "10.77.0.2");
    // Both are the node's, so that it routes between them.
    let output = lab.cmd(&["ping", "old", "new", "-c", "1"]).ok();
    assert!(output.stdout.contains("icmp_seq=1 ttl=63 "), "{output}");
}

/// S4-12: the footnote's cluster has a route to each peer's pods, by the peer's address.
#[test]
fn a_cluster_has_the_routes_of_the_footnote() {
    let world = World::new();
    let text = "\
apiVersion: podwire/v1
kind: Lab
preset: kindnet
network: {nodeSubnet: 172.18.0.0/16, gateway: 172.18.0.1}
nodes:
- {name: kind-control-plane, internalIP: 172.18.0.2, podCIDR: 10.244.0.0/24}
- {name: kind-worker, internalIP: 172.18.0.4, podCIDR: 10.244.1.0/24}
- {name: kind-worker2, internalIP: 172.18.0.3, podCIDR: 10.244.2.0/24}
";
    let file = world.file("footnote.yaml", text);
    let lab = world.up(&["-f", &file, "--backend", "inproc"]);
    let routes = lab.out(&["ip", "-n", "kind-control-plane", "route", "list"]);
    let peers: Vec<&str> = routes
        .lines()
        .filter(|line| line.starts_with("10.244.") && line.contains(" via "))
        .map(str::trim_end)
        .collect();
    assert_eq!(
        peers,
        [
            "10.244.1.0/24 via 172.18.0.4 dev eth0",
            "10.244.2.0/24 via 172.18.0.3 dev eth0",
        ]
    );
}

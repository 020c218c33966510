//! "Kubernetes Networking with Calico CNI": the rows of the dataplane's table 10.2, in the order of the document, with whole
//! outputs; the TTL matrix (10.6) and MTUs on that cluster.

use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Lab, Need, World, eventually, kill, runs_here};

/// The document's pods.
pub(crate) fn document<'w>(world: &'w World, backend: &str) -> Lab<'w> {
    let lab = world.up(&["-f", "seed-001", "--backend", backend]);
    lab.run_pod("nginx", "minikube-m02");
    lab.run_pod("nginx-manual", "minikube-m03");
    lab
}

fn node_routes(addr: &str, lines: &str) -> String {
    format!(
        "\
default via 172.16.30.1 dev eth0 proto dhcp src {addr} metric 1024
{lines}172.16.30.0/24 dev eth0 proto kernel scope link src {addr}
172.16.30.1 dev eth0 proto dhcp scope link src {addr} metric 1024
172.17.0.0/16 dev docker0 proto kernel scope link src 172.17.0.1 linkdown
"
    )
}

fn node_interfaces(addr: &str, more: &str) -> String {
    format!(
        "\
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
    inet 127.0.0.1/8 scope host lo
       valid_lft forever preferred_lft forever
2: eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc pfifo_fast state UP group default qlen 1000
    link/ether {{mac}} brd ff:ff:ff:ff:ff:ff
    inet {addr}/24 brd 172.16.30.255 scope global dynamic eth0
       valid_lft {{lft}} preferred_lft {{lft}}
3: sit0@NONE: <NOARP> mtu 1480 qdisc noop state DOWN group default qlen 1000
    link/sit 0.0.0.0 brd 0.0.0.0
4: docker0: <NO-CARRIER,BROADCAST,MULTICAST,UP> mtu 1500 qdisc noqueue state DOWN group default
    link/ether {{mac}} brd ff:ff:ff:ff:ff:ff
    inet 172.17.0.1/16 brd 172.17.255.255 scope global docker0
       valid_lft forever preferred_lft forever
{more}"
    )
}

fn tunnel(index: u32, addr: &str) -> String {
    format!(
        "\
{index}: tunl0@NONE: <NOARP,UP,LOWER_UP> mtu 1480 qdisc noqueue state UNKNOWN group default qlen 1000
    link/ipip 0.0.0.0 brd 0.0.0.0
    inet {addr}/32 scope global tunl0
       valid_lft forever preferred_lft forever
"
    )
}

fn cali(name: &str) -> String {
    format!(
        "\
8: {name}@if5: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1480 qdisc noqueue state UP group default
    link/ether ee:ee:ee:ee:ee:ee brd ff:ff:ff:ff:ff:ff link-netnsid 0
"
    )
}

/// S1-1, S1-2, S1-5 to S1-7, S1-11 to S1-14, S1-18, S1-20, S1-21: what `get` and `ip` show of the document's cluster.
#[test]
fn the_cluster_shows_what_the_document_shows() {
    let world = World::new();
    let lab = world.up(&["-f", "seed-001", "--backend", "inproc"]);
    let m03 = "\
10.244.120.64/26 via 172.16.30.6 dev tunl0 proto bird onlink
blackhole 10.244.151.0/26 proto bird
10.244.205.192/26 via 172.16.30.7 dev tunl0 proto bird onlink
";
    let ip = |node: &str, what: &str, expected: &str| {
        lab.shows(&["ip", "-n", node, what], expected);
    };
    ip("minikube-m03", "route", &node_routes("172.16.30.8", m03));
    let interfaces = node_interfaces("172.16.30.8", &tunnel(5, "10.244.151.0"));
    ip("minikube-m03", "a", &interfaces);

    lab.run_pod("nginx", "minikube-m02");
    lab.run_pod("nginx-manual", "minikube-m03");
    lab.shows(
        &["get", "pods", "-o", "wide"],
        "\
NAME           READY   STATUS    RESTARTS   AGE   IP               NODE           NOMINATED NODE   READINESS GATES
nginx          1/1     Running   0          {age}    10.244.205.193   minikube-m02   <none>           <none>
nginx-manual   1/1     Running   0          {age}    10.244.151.1     minikube-m03   <none>           <none>
",
    );
    let more = tunnel(5, "10.244.205.192") + &cali("calic440f455693");
    ip("minikube-m02", "a", &node_interfaces("172.16.30.7", &more));
    let m02 = "\
10.244.120.64/26 via 172.16.30.6 dev tunl0 proto bird onlink
10.244.151.0/26 via 172.16.30.8 dev tunl0 proto bird onlink
blackhole 10.244.205.192/26 proto bird
10.244.205.193 dev calic440f455693 scope link
";
    ip("minikube-m02", "route", &node_routes("172.16.30.7", m02));
    let more = tunnel(5, "10.244.151.0") + &cali("califba6dd09590");
    ip("minikube-m03", "a", &node_interfaces("172.16.30.8", &more));
    let m03 = "\
10.244.120.64/26 via 172.16.30.6 dev tunl0 proto bird onlink
blackhole 10.244.151.0/26 proto bird
10.244.151.1 dev califba6dd09590 scope link
10.244.205.192/26 via 172.16.30.7 dev tunl0 proto bird onlink
";
    ip("minikube-m03", "route", &node_routes("172.16.30.8", m03));
    let podman = "\
5: cni-podman0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default qlen 1000
    link/ether {mac} brd ff:ff:ff:ff:ff:ff
    inet 10.88.0.1/16 brd 10.88.255.255 scope global cni-podman0
       valid_lft forever preferred_lft forever
6: {veth#a}@if4: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue master cni-podman0 state UP group default
    link/ether {mac} brd ff:ff:ff:ff:ff:ff link-netnsid 0
7: {veth#b}@if4: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue master cni-podman0 state UP group default
    link/ether {mac} brd ff:ff:ff:ff:ff:ff link-netnsid 1
";
    let more = podman.to_owned() + &tunnel(8, "10.244.120.64");
    ip("minikube", "a", &node_interfaces("172.16.30.6", &more));
    let minikube = "\
10.88.0.0/16 dev cni-podman0 proto kernel scope link src 10.88.0.1
blackhole 10.244.120.64/26 proto bird
10.244.151.0/26 via 172.16.30.8 dev tunl0 proto bird onlink
10.244.205.192/26 via 172.16.30.7 dev tunl0 proto bird onlink
";
    ip("minikube", "route", &node_routes("172.16.30.6", minikube));

    lab.shows(
        &["get", "caliconodes", "-o", "wide"],
        "\
NAME           ASN       IPV4             IPV6
minikube       (64512)   172.16.30.6/24
minikube-m02   (64512)   172.16.30.7/24
minikube-m03   (64512)   172.16.30.8/24
",
    );
    lab.shows(
        &["get", "ipamblocks"],
        "\
NAME                AGE
10-244-120-64-26    {age}
10-244-151-0-26     {age}
10-244-205-192-26   {age}
",
    );
    let peers = lab.cmd(&["get", "bgppeers", "-A"]).ok();
    assert_eq!(
        (peers.stdout.as_str(), peers.stderr.trim()),
        ("", "No resources found")
    );
    let wide = lab.out(&["get", "pods", "-n", "kube-system", "-o", "wide"]);
    for (pod, ip) in [
        ("coredns-64897985d-", "10.88.0.2"),
        ("calico-kube-controllers-8594699699-", "10.88.0.3"),
    ] {
        let row = wide.lines().find(|line| line.starts_with(pod)).unwrap();
        assert_eq!(row.split_whitespace().nth(5), Some(ip), "{row}");
    }
    lab.cmd(&["get", "ippool", "other"])
        .fails(1, &["ippool \"other\" not found"]);
}

/// S1-1, S1-10: the nodes, and the podCIDRs that Calico does not use.
#[test]
fn the_nodes_are_as_in_the_document() {
    let world = World::new();
    let lab = document(&world, "inproc");
    lab.shows(
        &["get", "nodes", "-o", "wide"],
        "\
NAME           STATUS   ROLES                  AGE   VERSION   INTERNAL-IP   EXTERNAL-IP   OS-IMAGE {any}
minikube       Ready    control-plane,master   {age}    {any}    172.16.30.6   <none>        {any}
minikube-m02   Ready    <none>                 {age}    {any}    172.16.30.7   <none>        {any}
minikube-m03   Ready    <none>                 {age}    {any}    172.16.30.8   <none>        {any}
",
    );
    let described = lab.out(&["describe", "nodes"]);
    let about: Vec<String> = described
        .lines()
        .filter(|line| line.starts_with("Name:") || line.starts_with("PodCIDR"))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let node = |name: &str, cidr: &str| {
        [
            format!("Name: {name}"),
            format!("PodCIDR: {cidr}"),
            format!("PodCIDRs: {cidr}"),
        ]
    };
    let expected = [
        node("minikube", "10.244.0.0/24"),
        node("minikube-m02", "10.244.1.0/24"),
        node("minikube-m03", "10.244.2.0/24"),
    ]
    .concat();
    assert_eq!(about, expected);
    for (pod, node) in [("nginx", "10.244.1."), ("nginx-manual", "10.244.2.")] {
        assert!(!lab.ip_of(pod).starts_with(node), "{pod}");
    }
}

/// S1-19: the pool, described.
#[test]
fn the_pool_is_described_as_in_the_document() {
    let world = World::new();
    let lab = world.up(&["--preset", "calico", "--nodes", "1", "--backend", "inproc"]);
    lab.shows(
        &["describe", "ippools"],
        "\
Name:         default-ipv4-ippool
Namespace:
Labels:       <none>
Annotations:  <none>
API Version:  crd.projectcalico.org/v1
Kind:         IPPool
Metadata:
  Creation Timestamp:  {any}
Spec:
  Block Size:     26
  Cidr:           10.244.0.0/16
  Ipip Mode:      Always
  Nat Outgoing:   true
  Node Selector:  all()
  Vxlan Mode:     Never
Events:           <none>
",
    );
}

/// Only Calico has a pool.
#[test]
fn a_lab_without_calico_says_so() {
    let world = World::new();
    let lab = world.up(&["--preset", "kindnet", "--nodes", "1", "--backend", "inproc"]);
    lab.cmd(&["get", "ippools"]).fails(1, &["no Calico"]);
}

/// S1-3, S1-4, S1-8, S1-9, S1-15 to S1-17: files, pods' interfaces and routes, and ping between nodes and to the outside. The
/// document's pod shows `eth0@if8`, `link-netnsid`, sit0 and tunl0 besides (CAL-24 lets us leave these out).
#[test]
fn pods_are_as_in_the_document() {
    if !runs_here(&[Need::Tap, Need::Tool("ping"), Need::Tool("ip")]) {
        return;
    }
    let world = World::new();
    let lab = document(&world, "tap");
    let conflist = lab.out(&[
        "exec",
        "node/minikube",
        "--",
        "cat",
        "/etc/cni/net.d/10-calico.conflist",
    ]);
    assert!(
        conflist.starts_with("{\n  \"name\": \"k8s-pod-network\","),
        "{conflist}"
    );
    assert!(
        conflist.contains("\"nodename\": \"minikube\",\n      \"mtu\": 0,"),
        "{conflist}"
    );
    let podman = lab.out(&[
        "exec",
        "node/minikube",
        "--",
        "cat",
        "/etc/cni/net.d/87-podman-bridge.conflist",
    ]);
    let podman: serde_json::Value = serde_json::from_str(&podman).unwrap();
    let expected = serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "podman",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni-podman0",
                "isGateway": true,
                "ipMasq": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "ranges": [[{"subnet": "10.88.0.0/16", "gateway": "10.88.0.1"}]],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
            {"type": "firewall"},
            {"type": "tuning"},
        ],
    });
    assert_eq!(podman, expected);
    for (pod, addr) in [
        ("nginx", "10.244.205.193"),
        ("nginx-manual", "10.244.151.1"),
    ] {
        lab.shows(
            &["exec", pod, "--", "ip", "a", "show", "dev", "eth0"],
            &format!(
                "\
5: eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1480 qdisc noqueue state UP group default qlen 1000
    link/ether {{mac}} brd ff:ff:ff:ff:ff:ff
    inet {addr}/32 brd {addr} scope global eth0
       valid_lft forever preferred_lft forever
"
            ),
        );
        lab.shows(
            &["exec", pod, "--", "ip", "route"],
            "default via 169.254.1.1 dev eth0\n169.254.1.1 dev eth0 scope link\n",
        );
    }
    for (target, ttl) in [("10.244.205.193", 62), ("8.8.8.8", 115)] {
        let text = lab.out(&[
            "exec",
            "nginx-manual",
            "--",
            "ping",
            "-c",
            "3",
            "-i",
            "0.2",
            target,
        ]);
        assert_eq!(text.matches(&format!(" ttl={ttl} ")).count(), 3, "{text}");
        assert!(text.contains(" 0% packet loss"), "{text}");
    }
    // MIX-2: the podman bridge is minikube's own.
    let lost = lab.cmd(&[
        "exec",
        "nginx-manual",
        "--",
        "ping",
        "-c",
        "1",
        "-W",
        "1",
        "10.88.0.2",
    ]);
    assert!(lost.stdout.contains("100% packet loss"), "{lost}");
}

/// Table 10.6 on Calico: the TTL that the first packet's answer has.
fn ttl_matrix_holds(lab: &Lab<'_>) {
    lab.run_pod("other", "minikube-m03");
    for (from, to, ttl) in [
        ("nginx-manual", "172.16.30.8", 64),
        ("nginx-manual", "other", 63),
        ("nginx-manual", "nginx", 62),
        ("nginx", "nginx-manual", 62),
        ("nginx-manual", "172.16.30.7", 63),
        ("nginx-manual", "10.244.205.192", 63),
        ("node/minikube-m03", "nginx-manual", 64),
        ("node/minikube-m03", "nginx", 63),
        ("node/minikube", "nginx", 63),
        ("node/minikube-m03", "node/minikube-m02", 64),
        ("nginx-manual", "8.8.8.8", 115),
    ] {
        let output = lab.cmd(&["ping", from, to, "-c", "1"]).ok();
        assert!(
            output.stdout.contains(&format!("icmp_seq=1 ttl={ttl} ")),
            "{from} to {to} should see ttl={ttl}: {output}"
        );
    }
}

/// TM-2, TM-3, TM-5 to TM-10, CAL-33, IPIP-17, IPIP-28.
#[test]
fn the_ttl_matrix_holds_through_the_tunnel_on_tap() {
    if runs_here(&[Need::Tap]) {
        let world = World::new();
        ttl_matrix_holds(&document(&world, "tap"));
    }
}

/// TM-2, TM-3, TM-5 to TM-10, CAL-33, IPIP-17, IPIP-28.
#[test]
fn the_ttl_matrix_holds_through_the_tunnel_in_process() {
    let world = World::new();
    ttl_matrix_holds(&document(&world, "inproc"));
}

/// CAL-28, IPIP-9: 1480 bytes go through, one more is refused by the pod's kernel, or, when somebody raised its MTU, by the
/// router; without DF it goes in pieces.
#[test]
fn the_tunnel_carries_1480_bytes_and_says_so() {
    if !runs_here(&[Need::Tap, Need::Tool("ping"), Need::Tool("ip")]) {
        return;
    }
    let world = World::new();
    let lab = document(&world, "tap");
    let ping = |args: &[&str]| {
        let mut words = vec!["exec", "nginx-manual", "--", "ping", "-c", "1", "-W", "5"];
        words.extend(args);
        words.push("10.244.205.193");
        lab.cmd(&words)
    };
    assert!(
        ping(&["-M", "do", "-s", "1452"])
            .ok()
            .stdout
            .contains(" ttl=62 ")
    );
    let refused = ping(&["-M", "do", "-s", "1453"]);
    assert!(
        refused.to_string().contains("message too long, mtu=1480"),
        "{refused}"
    );
    ping(&["-s", "64000"]).ok();
    lab.cmd(&[
        "exec",
        "nginx-manual",
        "--",
        "ip",
        "link",
        "set",
        "eth0",
        "mtu",
        "1500",
    ])
    .ok();
    let refused = ping(&["-M", "do", "-s", "1453"]);
    assert!(
        refused
            .stdout
            .contains("From 172.16.30.8 icmp_seq=1 Frag needed and DF set (mtu = 1480)"),
        "{refused}"
    );
    ping(&["-M", "dont", "-s", "1472"]).ok();
}

/// FWD-61, IPIP-27: the hops are the pod's node and the tunnel's far end, whatever the probes are.
#[test]
fn traceroute_names_the_node_and_the_tunnels_far_end() {
    if !runs_here(&[Need::Tap, Need::Tool("traceroute"), Need::Tool("tracepath")]) {
        return;
    }
    let world = World::new();
    let lab = document(&world, "tap");
    let exec = |words: &[&str]| {
        let mut all = vec!["exec", "nginx-manual", "--"];
        all.extend(words);
        lab.out(&all)
    };
    for method in ["-U", "-I", "-T"] {
        let text = exec(&[
            "traceroute",
            "-n",
            "-q",
            "1",
            "-w",
            "5",
            method,
            "10.244.205.193",
        ]);
        let hops: Vec<&str> = text
            .lines()
            .skip(1)
            .filter_map(|l| l.split_whitespace().nth(1))
            .collect();
        assert_eq!(
            hops,
            ["172.16.30.8", "10.244.205.192", "10.244.205.193"],
            "{method}: {text}"
        );
    }
    let text = exec(&["tracepath", "-n", "10.244.205.193"]);
    assert!(text.contains("pmtu 1480 hops 3 back 3"), "{text}");
}

/// CAL-30: nodes that join and leave are in everybody's table, and reached, in the running lab; a node process that dies and
/// comes back finds its routes as they were.
#[test]
fn nodes_come_and_go_and_die() {
    let world = World::new();
    let lab = document(&world, "inproc");
    lab.cmd(&["node", "add", "extra"]).ok();
    lab.run_pod("far", "extra");
    lab.cmd(&["ping", "nginx", "far", "-c", "1"])
        .ok()
        .says(" ttl=62 ");
    let routes = lab.out(&["ip", "-n", "minikube-m02", "route"]);
    kill(lab.node_pid("minikube-m03"), Signal::KILL);
    eventually(Duration::from_secs(20), "the node to be back", || {
        let output = lab.cmd(&["ping", "nginx", "nginx-manual", "-c", "1", "-W", "1"]);
        output.stdout.contains(" ttl=62 ").then_some(())
    });
    assert_eq!(lab.out(&["ip", "-n", "minikube-m02", "route"]), routes);
    lab.cmd(&["node", "delete", "extra"]).ok();
    let routes = lab.out(&["ip", "-n", "minikube-m02", "route"]);
    assert!(!routes.contains("172.16.30.9"), "{routes}");
}

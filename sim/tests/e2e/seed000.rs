//! "Kubernetes Networking with Minikube (Kindnet CNI)": the rows of the dataplane's table 10.1, in the order of the
//! document, with whole outputs.

use crate::harness::{Lab, Need, World, runs_here, string_at};
use crate::pattern;

const NODES: [&str; 3] = ["minikube", "minikube-m02", "minikube-m03"];

/// The four interfaces that every node of the document starts with.
fn node_interfaces(addr: &str) -> String {
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
"
    )
}

/// The host side of a pod link.
fn veth_interface(index: u32, gateway: &str) -> String {
    format!(
        "\
{index}: {{veth#a}}@if4: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default
    link/ether {{mac}} brd ff:ff:ff:ff:ff:ff link-netnsid 0
    inet {gateway}/32 brd {gateway} scope global {{veth#a}}
       valid_lft forever preferred_lft forever
"
    )
}

/// The table of a node: its pods' host routes and its peers' podCIDRs between the lines that all nodes have.
fn node_routes(addr: &str, cluster: &[&str]) -> String {
    let mut text = format!("default via 172.16.30.1 dev eth0 proto dhcp src {addr} metric 1024\n");
    for line in cluster {
        text.push_str(line);
        text.push('\n');
    }
    text.push_str(&format!(
        "\
172.16.30.0/24 dev eth0 proto kernel scope link src {addr}
172.16.30.1 dev eth0 proto dhcp scope link src {addr} metric 1024
172.17.0.0/16 dev docker0 proto kernel scope link src 172.17.0.1 linkdown
"
    ));
    text
}

fn conflist(subnet: &str) -> String {
    format!(
        r#"{{
	"cniVersion": "0.3.1",
	"name": "kindnet",
	"plugins": [
	{{
		"type": "ptp",
		"ipMasq": false,
		"ipam": {{
			"type": "host-local",
			"dataDir": "/run/cni-ipam-state",
			"routes": [


				{{ "dst": "0.0.0.0/0" }}
			],
			"ranges": [


				[ {{ "subnet": "{subnet}" }} ]
			]
		}}
		,
		"mtu": 1500

	}},
	{{
		"type": "portmap",
		"capabilities": {{
			"portMappings": true
		}}
	}}
	]
}}
"#
    )
}

/// S0-1, S0-2, S0-9: nodes at .3, .4 and .5, hostNetwork pods at their node's address, coredns at 10.244.0.2.
fn nodes_and_pods_of_a_fresh_cluster(lab: &Lab<'_>) {
    for (node, ip) in NODES
        .iter()
        .zip(["172.16.30.3", "172.16.30.4", "172.16.30.5"])
    {
        let json = lab.cmd(&["get", "nodes", node, "-o", "json"]).ok().json();
        assert!(
            json.to_string().contains(&format!("\"{ip}\"")),
            "{node} is {ip}: {json:#}"
        );
    }
    let wide = lab.out(&["get", "pods", "-A", "-o", "wide"]);
    let rows: Vec<Vec<&str>> = wide
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows[0][..8],
        [
            "NAMESPACE",
            "NAME",
            "READY",
            "STATUS",
            "RESTARTS",
            "AGE",
            "IP",
            "NODE"
        ],
        "{wide}"
    );
    let mut kindnet = 0;
    for row in &rows[1..] {
        assert_eq!(row[0], "kube-system", "{wide}");
        let (name, ip, node) = (row[1], row[6], row[7]);
        let want = if name.starts_with("coredns-") {
            assert_eq!(node, "minikube");
            "10.244.0.2"
        } else {
            match node {
                "minikube" => "172.16.30.3",
                "minikube-m02" => "172.16.30.4",
                _ => "172.16.30.5",
            }
        };
        assert_eq!(ip, want, "{name}: {wide}");
        kindnet += usize::from(name.starts_with("kindnet-"));
    }
    assert_eq!(kindnet, 3, "{wide}");
    assert_eq!(
        rows.iter().filter(|r| r[1].starts_with("coredns-")).count(),
        1,
        "{wide}"
    );
}

/// S0-3, S0-4, S0-6 to S0-8: `ip a` and `ip route` before any pod is created.
fn node_views_of_a_fresh_cluster(lab: &Lab<'_>) {
    let addr = lab.shows(
        &["ip", "-n", "minikube", "a"],
        &(node_interfaces("172.16.30.3") + &veth_interface(5, "10.244.0.1")),
    );
    let route = lab.shows(
        &["ip", "-n", "minikube", "route"],
        &node_routes(
            "172.16.30.3",
            &[
                "10.244.0.2 dev {veth#a} scope host",
                "10.244.1.0/24 via 172.16.30.4 dev eth0",
                "10.244.2.0/24 via 172.16.30.5 dev eth0",
            ],
        ),
    );
    assert_eq!(addr, route, "the pod's route leads to its own link");

    for (node, addr, peers) in [
        (
            "minikube-m02",
            "172.16.30.4",
            [
                "10.244.0.0/24 via 172.16.30.3 dev eth0",
                "10.244.2.0/24 via 172.16.30.5 dev eth0",
            ],
        ),
        (
            "minikube-m03",
            "172.16.30.5",
            [
                "10.244.0.0/24 via 172.16.30.3 dev eth0",
                "10.244.1.0/24 via 172.16.30.4 dev eth0",
            ],
        ),
    ] {
        lab.shows(&["ip", "-n", node, "a"], &node_interfaces(addr));
        lab.shows(&["ip", "-n", node, "route"], &node_routes(addr, &peers));
    }
}

/// S0-10 to S0-15: round robin, the old link gone, the new one under the next index.
fn pods_come_and_go_on_m03(lab: &Lab<'_>, programs: bool) {
    let m03 = "minikube-m03";
    if programs {
        // Ends at once, as busybox without a command does.
        lab.cmd(&["run", "busybox", "--node", m03, "--", "/bin/true"])
            .ok()
            .says("pod/busybox created");
    } else {
        lab.cmd(&["run", "busybox", "--node", m03])
            .ok()
            .says("pod/busybox created");
    }
    assert_eq!(lab.ip_of("busybox"), "10.244.2.2");
    lab.shows(
        &["ip", "-n", m03, "a"],
        &(node_interfaces("172.16.30.5") + &veth_interface(5, "10.244.2.1")),
    );
    lab.cmd(&["delete", "pod", "busybox"])
        .ok()
        .says("pod \"busybox\" deleted");
    lab.run_pod("nginx", m03);
    assert_eq!(
        lab.ip_of("nginx"),
        "10.244.2.3",
        "round robin: .2 is not used again at once"
    );
    let addr = lab.shows(
        &["ip", "-n", m03, "a"],
        &(node_interfaces("172.16.30.5") + &veth_interface(6, "10.244.2.1")),
    );
    let route = lab.shows(
        &["ip", "-n", m03, "route"],
        &node_routes(
            "172.16.30.5",
            &[
                "10.244.0.0/24 via 172.16.30.3 dev eth0",
                "10.244.1.0/24 via 172.16.30.4 dev eth0",
                "10.244.2.3 dev {veth#a} scope host",
            ],
        ),
    );
    assert_eq!(addr, route);
    let pods = lab.out(&["get", "pods", "-o", "wide"]);
    pattern::matches(
        "\
NAME    READY   STATUS    RESTARTS   AGE   IP           NODE           NOMINATED NODE   READINESS GATES
nginx   1/1     Running   0          {age}{any}10.244.2.3   minikube-m03   <none>           <none>",
        &pods,
    )
    .unwrap_or_else(|diff| panic!("get pods -o wide:\n{diff}"));
}

const MY_POD: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: nginx-manual
spec:
  nodeName: minikube-m02
  containers:
  - image: nginx
    name: nginx
";

/// S0-16, S0-18: the document's my-pod.yaml as it stands.
fn a_manifest_creates_a_pod_on_m02(lab: &Lab<'_>) {
    let file = lab.world.file("my-pod.yaml", MY_POD);
    lab.cmd(&["apply", "-f", &file])
        .ok()
        .says("pod/nginx-manual created");
    assert_eq!(lab.ip_of("nginx-manual"), "10.244.1.2");
    lab.shows(
        &["ip", "-n", "minikube-m02", "a"],
        &(node_interfaces("172.16.30.4") + &veth_interface(5, "10.244.1.1")),
    );
}

/// S0-5, from inside the node, and by `podwire exec` of `cat`.
fn the_conflist_lies_where_minikube_has_it(lab: &Lab<'_>) {
    for (node, subnet) in NODES
        .iter()
        .zip(["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24"])
    {
        let text = lab.out(&[
            "exec",
            &format!("node/{node}"),
            "--",
            "cat",
            "/etc/cni/net.mk/10-kindnet.conflist",
        ]);
        pattern::matches(&conflist(subnet), text.trim_start_matches('\n'))
            .unwrap_or_else(|diff| panic!("{node}:\n{diff}"));
    }
}

/// S0-17, S0-19: the real `ip` inside the pod. What may differ from the document (decision 6): no `@if5`, no
/// `link-netnsid 0` and no sit0, as a TAP has no peer; `qlen`, as a TAP's ring is as long as its transmit queue.
fn the_real_ip_inside_the_pod(lab: &Lab<'_>) {
    lab.shows(
        &["exec", "nginx-manual", "--", "ip", "a"],
        "\
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
    inet 127.0.0.1/8 scope host lo
       valid_lft forever preferred_lft forever
4: eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default qlen 1000
    link/ether {mac} brd ff:ff:ff:ff:ff:ff
    inet 10.244.1.2/24 brd 10.244.1.255 scope global eth0
       valid_lft forever preferred_lft forever",
    );
    lab.shows(
        &["exec", "nginx-manual", "--", "ip", "route"],
        "\
default via 10.244.1.1 dev eth0
10.244.1.0/24 via 10.244.1.1 dev eth0 src 10.244.1.2
10.244.1.1 dev eth0 scope link src 10.244.1.2",
    );
}

/// S0-20: the first packet survives ARP on three links. iputils counts from 1 (decision 18).
fn the_real_ping_between_nodes(lab: &Lab<'_>) {
    lab.shows(
        &[
            "exec",
            "nginx-manual",
            "--",
            "ping",
            "10.244.0.2",
            "-c",
            "3",
            "-i",
            "0.2",
        ],
        "\
PING 10.244.0.2 (10.244.0.2) 56(84) bytes of data.
64 bytes from 10.244.0.2: icmp_seq=1 ttl=62 time={ms} ms
64 bytes from 10.244.0.2: icmp_seq=2 ttl=62 time={ms} ms
64 bytes from 10.244.0.2: icmp_seq=3 ttl=62 time={ms} ms

--- 10.244.0.2 ping statistics ---
3 packets transmitted, 3 received, 0% packet loss, time {n}ms
rtt min/avg/max/mdev = {ms}/{ms}/{ms}/{ms} ms",
    );
}

/// S0-1 to S0-20, PTP-1, PTP-8 with programs in the pods.
#[test]
fn the_minikube_document_holds_on_tap() {
    if !runs_here(&[Need::Tap, Need::Tool("ip"), Need::Tool("ping")]) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["--preset", "kindnet", "--backend", "tap"]);
    nodes_and_pods_of_a_fresh_cluster(&lab);
    node_views_of_a_fresh_cluster(&lab);
    the_conflist_lies_where_minikube_has_it(&lab);
    pods_come_and_go_on_m03(&lab, true);
    a_manifest_creates_a_pod_on_m02(&lab);
    the_real_ip_inside_the_pod(&lab);
    the_real_ping_between_nodes(&lab);
}

/// The rows that need no program in a pod, on a machine that allows nothing.
#[test]
fn the_minikube_document_holds_in_process() {
    let world = World::new();
    let lab = world.up(&["--preset", "kindnet", "--backend", "inproc"]);
    nodes_and_pods_of_a_fresh_cluster(&lab);
    node_views_of_a_fresh_cluster(&lab);
    pods_come_and_go_on_m03(&lab, false);
    a_manifest_creates_a_pod_on_m02(&lab);
    let coredns = coredns(&lab);
    lab.shows(
        &["ping", "nginx-manual", &coredns, "-c", "3", "-i", "0.2"],
        "\
PING {any} (10.244.0.2) 56(84) bytes of data.
64 bytes from 10.244.0.2: icmp_seq=1 ttl=62 time={ms} ms
64 bytes from 10.244.0.2: icmp_seq=2 ttl=62 time={ms} ms
64 bytes from 10.244.0.2: icmp_seq=3 ttl=62 time={ms} ms

--- {any} ping statistics ---
3 packets transmitted, 3 received, 0% packet loss, time {n}ms
rtt min/avg/max/mdev = {ms}/{ms}/{ms}/{ms} ms",
    );
}

/// S0-12, PTP-7: a program that ends again and again leaves the address alone.
#[test]
fn a_restarting_program_keeps_its_address() {
    if !runs_here(&[Need::Tap]) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["--preset", "kindnet", "--backend", "tap"]);
    lab.cmd(&[
        "run",
        "busybox",
        "--node",
        "minikube-m03",
        "--",
        "/bin/false",
    ])
    .ok();
    crate::harness::eventually(crate::harness::DEADLINE, "a restart to be counted", || {
        let row = lab.out(&["get", "pods", "busybox"]);
        let words: Vec<&str> = row.lines().nth(1)?.split_whitespace().collect();
        (words[3] != "0" || words[2] == "CrashLoopBackOff").then_some(())
    });
    assert_eq!(lab.ip_of("busybox"), "10.244.2.2");
}

/// `-j` is iproute2's JSON: the same keys and values that the text shows.
#[test]
fn views_as_json_parse_as_iproute2s() {
    let world = World::new();
    let lab = world.up(&["--preset", "kindnet", "--backend", "inproc"]);
    let routes = lab
        .cmd(&["ip", "-n", "minikube", "-j", "route"])
        .ok()
        .json();
    let routes = routes.as_array().expect("a list");
    assert_eq!(routes.len(), 7);
    assert_eq!(routes[0]["dst"], "default");
    assert_eq!(routes[0]["gateway"], "172.16.30.1");
    assert_eq!(routes[0]["dev"], "eth0");
    assert_eq!(routes[0]["protocol"], "dhcp");
    assert_eq!(routes[0]["prefsrc"], "172.16.30.3");
    assert_eq!(routes[0]["metric"], 1024);
    assert_eq!(routes[1]["dst"], "10.244.0.2");
    assert_eq!(routes[1]["scope"], "host");
    assert!(routes[1]["flags"].is_array());
    assert_eq!(routes[6]["flags"][0], "linkdown");

    let links = lab.cmd(&["ip", "-n", "minikube", "-j", "addr"]).ok().json();
    let links = links.as_array().expect("a list");
    assert_eq!(links.len(), 5);
    assert_eq!(links[1]["ifname"], "eth0");
    assert_eq!(links[1]["ifindex"], 2);
    assert_eq!(links[1]["operstate"], "UP");
    assert_eq!(links[1]["addr_info"][0]["local"], "172.16.30.3");
    assert_eq!(links[1]["addr_info"][0]["prefixlen"], 24);
    assert_eq!(links[4]["link_index"], 4);
    for view in [&["link"][..], &["neigh"], &["route", "get", "10.244.1.2"]] {
        let words: Vec<&str> = ["ip", "-n", "minikube", "-j"]
            .iter()
            .chain(view)
            .copied()
            .collect();
        assert!(lab.cmd(&words).ok().json().is_array());
    }
}

/// `namespace/name` of the coredns pod.
fn coredns(lab: &Lab<'_>) -> String {
    lab.out(&["get", "pods", "-A", "-o", "wide"])
        .lines()
        .find_map(|l| {
            let words: Vec<&str> = l.split_whitespace().collect();
            words[1]
                .starts_with("coredns-")
                .then(|| format!("{}/{}", words[0], words[1]))
        })
        .expect("there is a coredns pod")
}

/// What `get pods -o json` says can be used: `netns` is a path that setns takes (decision 4).
#[test]
fn a_pods_netns_path_can_be_entered() {
    if !runs_here(&[
        Need::Tap,
        Need::Root,
        Need::Tool("nsenter"),
        Need::Tool("ip"),
    ]) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["--preset", "kindnet", "--backend", "tap"]);
    lab.run_pod("a", "minikube-m02");
    let json = lab.cmd(&["get", "pods", "a", "-o", "json"]).ok().json();
    let netns = string_at(&json, "netns");
    let mut nsenter = std::process::Command::new("nsenter");
    nsenter
        .arg(format!("--net={netns}"))
        .args(["ip", "-br", "-4", "addr", "show", "eth0"]);
    crate::harness::run(nsenter, crate::harness::DEADLINE)
        .ok()
        .says("10.244.1.2/24");
}

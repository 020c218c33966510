//! Packets: the TTL matrix (10.6), the first packet, and the real tools between pods.

use std::time::Duration;

use crate::harness::{DEADLINE, Lab, Need, World, find_tool, run, runs_here};

/// Two pods on one node and one on another.
pub(crate) fn three_pods<'w>(world: &'w World, backend: &str) -> Lab<'w> {
    let lab = world.up(&["--preset", "kindnet", "--backend", backend]);
    lab.run_pod("a", "minikube-m02");
    lab.run_pod("b", "minikube-m02");
    lab.run_pod("c", "minikube-m03");
    lab
}

/// Table 10.6: who pings what, and the TTL that it sees. The row of 8.8.8.8 from a pod needs NAT (decision 18).
const TTL_MATRIX: [(&str, &str, u8); 14] = [
    ("a", "10.244.1.1", 64),
    ("a", "172.16.30.4", 64),
    ("a", "b", 63),
    ("b", "a", 63),
    ("a", "c", 62),
    ("c", "a", 62),
    ("a", "172.16.30.5", 63),
    ("a", "10.244.2.1", 63),
    ("a", "node/minikube-m03", 63),
    ("node/minikube-m02", "a", 64),
    ("node/minikube-m02", "c", 63),
    ("node/minikube", "a", 63),
    ("node/minikube", "node/minikube-m02", 64),
    ("node/minikube-m02", "8.8.8.8", 116),
];

pub(crate) fn ttl_matrix_holds(lab: &Lab<'_>) {
    for (from, to, ttl) in TTL_MATRIX {
        // One packet only: it has to survive address resolution on every link (NEI-4).
        let output = lab.cmd(&["ping", from, to, "-c", "1"]).ok();
        assert!(
            output.stdout.contains(&format!("icmp_seq=1 ttl={ttl} ")),
            "{from} to {to} should see ttl={ttl}: {output}"
        );
    }
}

/// TM-1 to TM-3, TM-5 to TM-9.
#[test]
fn ttl_matrix_holds_on_tap() {
    if !runs_here(&[Need::Tap]) {
        return;
    }
    let world = World::new();
    ttl_matrix_holds(&three_pods(&world, "tap"));
}

/// TM-1 to TM-3, TM-5 to TM-9, S2-11.
#[test]
fn ttl_matrix_holds_in_process() {
    let world = World::new();
    ttl_matrix_holds(&three_pods(&world, "inproc"));
}

#[test]
fn ping_all_covers_every_pair_and_fails_when_one_is_lost() {
    let world = World::new();
    let lab = three_pods(&world, "inproc");
    lab.cmd(&["ping", "--all"]).ok();
    lab.cmd(&["ip", "-n", "minikube-m03", "route", "del", "10.244.1.0/24"])
        .ok();
    // kindnetd may repair it at any moment, so the loss is shown on a route of our own: a blackhole for pod a.
    lab.cmd(&[
        "ip",
        "-n",
        "minikube-m03",
        "route",
        "add",
        "blackhole",
        "10.244.1.2/32",
    ])
    .ok();
    let output = lab.cmd(&["ping", "--all"]);
    assert_eq!(output.status.code(), Some(1), "{output}");
}

/// The same matrix by iputils in the namespaces of pods and nodes.
#[test]
fn the_real_ping_sees_the_same_ttls() {
    if !runs_here(&[Need::Tap, Need::Tool("ping")]) {
        return;
    }
    let world = World::new();
    the_real_ping_sees_the_ttls_of(&three_pods(&world, "tap"));
}

pub(crate) fn the_real_ping_sees_the_ttls_of(lab: &Lab<'_>) {
    let address = |target: &str| match target {
        "a" => "10.244.1.2".to_owned(),
        "b" => "10.244.1.3".to_owned(),
        "c" => "10.244.2.2".to_owned(),
        "node/minikube-m02" => "172.16.30.4".to_owned(),
        "node/minikube-m03" => "172.16.30.5".to_owned(),
        ip => ip.to_owned(),
    };
    for (from, to, ttl) in TTL_MATRIX {
        lab.cmd(&[
            "exec",
            from,
            "--",
            "ping",
            "-n",
            "-c",
            "1",
            "-W",
            "5",
            &address(to),
        ])
        .ok()
        .says(&format!("icmp_seq=1 ttl={ttl} "))
        .says("1 packets transmitted, 1 received, 0% packet loss");
    }
}

/// 1472 bytes of payload fill the MTU of 1500; with DF one byte more is refused by the sender's own stack.
#[test]
fn full_size_packets_pass_and_larger_ones_are_refused() {
    if !runs_here(&[Need::Tap, Need::Tool("ping")]) {
        return;
    }
    let world = World::new();
    let lab = three_pods(&world, "tap");
    let ping = |size: &str| {
        lab.cmd(&[
            "exec",
            "a",
            "--",
            "ping",
            "-n",
            "-c",
            "1",
            "-W",
            "5",
            "-M",
            "do",
            "-s",
            size,
            "10.244.2.2",
        ])
    };
    ping("1472")
        .ok()
        .says("1480 bytes from 10.244.2.2: icmp_seq=1 ttl=62");
    let refused = ping("1473");
    assert_eq!(refused.status.code(), Some(1), "{refused}");
    // Without DF the pod's kernel cuts it, the router forwards the pieces, the far kernel puts them together.
    lab.cmd(&[
        "exec",
        "a",
        "--",
        "ping",
        "-n",
        "-c",
        "1",
        "-W",
        "5",
        "-s",
        "4000",
        "10.244.2.2",
    ])
    .ok()
    .says("4008 bytes from 10.244.2.2: icmp_seq=1 ttl=62");
}

#[test]
fn curl_fetches_from_an_http_server_on_another_node() {
    if !runs_here(&[Need::Tap, Need::Tool("curl"), Need::Tool("python3")]) {
        return;
    }
    let world = World::new();
    curl_fetches(&three_pods(&world, "tap"));
}

pub(crate) fn curl_fetches(lab: &Lab<'_>) {
    let body = "podwire ".repeat(100_000);
    lab.world.file("page", &body);
    let server = lab.spawn(&["exec", "c", "--", "python3", "-m", "http.server", "8000"]);
    let fetched = lab
        .cmd(&[
            "exec",
            "a",
            "--",
            "curl",
            "-sS",
            "--retry",
            "100",
            "--retry-connrefused",
            "--retry-delay",
            "1",
            "--retry-max-time",
            "30",
            "-m",
            "60",
            "http://10.244.2.2:8000/page",
        ])
        .ok();
    assert_eq!(fetched.stdout.len(), body.len());
    assert!(fetched.stdout == body, "the page arrives unchanged");
    // From the node's own host namespace too, and from a third node.
    for node in ["node/minikube-m03", "node/minikube"] {
        lab.cmd(&[
            "exec",
            node,
            "--",
            "curl",
            "-sS",
            "-m",
            "10",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "http://10.244.2.2:8000/page",
        ])
        .ok()
        .says("200");
    }
    // A port where nobody listens answers at once, from the pod's kernel.
    lab.cmd(&[
        "exec",
        "a",
        "--",
        "curl",
        "-sS",
        "-m",
        "10",
        "http://10.244.2.2:8001/",
    ])
    .fails(7, &["onnect"]);
    drop(server);
}

pub(crate) fn iperf3_runs(lab: &Lab<'_>) {
    let mut server = lab.spawn(&["exec", "c", "--", "iperf3", "-s", "-1", "--forceflush"]);
    server.wait_for_line("Server listening");
    let command = lab.world.command(&lab.words(&[
        "exec",
        "a",
        "--",
        "iperf3",
        "-c",
        "10.244.2.2",
        "-t",
        "5",
        "-J",
    ]));
    let report = run(command, DEADLINE).ok().json();
    assert!(report.get("error").is_none(), "{report:#}");
    let received = report["end"]["sum_received"]["bytes"]
        .as_u64()
        .expect("a count of bytes");
    assert!(received > 10_000_000, "only {received} bytes in 5 s");
    let (status, text) = server.finish(DEADLINE);
    assert!(status.success(), "{text}");
}

#[test]
fn iperf3_runs_for_five_seconds() {
    if !runs_here(&[Need::Tap, Need::Tool("iperf3")]) {
        return;
    }
    let world = World::new();
    iperf3_runs(&three_pods(&world, "tap"));
}

#[test]
fn iperf3_runs_without_root() {
    if !runs_here(&[Need::Tool("iperf3")]) {
        return;
    }
    let Some(world) = World::ordinary_user(true) else {
        return;
    };
    iperf3_runs(&three_pods(&world, "tap"));
}

/// PTP-4: a pod resolves its gateway and nobody else, pods of its own subnet included.
#[test]
fn a_pod_asks_for_its_gateway_only() {
    if !runs_here(&[Need::Tap, Need::Tool("ping"), Need::Tool("ip")]) {
        return;
    }
    let world = World::new();
    let lab = three_pods(&world, "tap");
    for to in ["b", "c"] {
        lab.cmd(&["ping", "a", to, "-c", "1"]).ok();
        lab.cmd(&["ping", to, "a", "-c", "1"]).ok();
    }
    let table = lab.out(&["exec", "a", "--", "ip", "-4", "neigh"]);
    let known: Vec<&str> = table
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(known, ["10.244.1.1"], "{table}");
}

/// FWD-61 through the real tool: each node on the way answers with the address that faces the sender.
#[test]
fn traceroute_shows_every_hop() {
    if !runs_here(&[Need::Tap, Need::Tool("traceroute"), Need::Tool("tracepath")]) {
        return;
    }
    let world = World::new();
    traceroute_shows_the_hops_of(&three_pods(&world, "tap"));
}

pub(crate) fn traceroute_shows_the_hops_of(lab: &Lab<'_>) {
    for method in ["-U", "-I", "-T"] {
        let text = lab.out(&[
            "exec",
            "a",
            "--",
            "traceroute",
            "-n",
            "-q",
            "1",
            "-w",
            "5",
            method,
            "10.244.2.2",
        ]);
        let hops: Vec<&str> = text
            .lines()
            .skip(1)
            .filter_map(|l| l.split_whitespace().nth(1))
            .collect();
        assert_eq!(
            hops,
            ["10.244.1.1", "172.16.30.5", "10.244.2.2"],
            "{method}: {text}"
        );
    }
    lab.cmd(&["exec", "a", "--", "tracepath", "-n", "10.244.2.2"])
        .ok()
        .says("pmtu 1500 hops 3 back 3");
}

/// A capture inside a pod sees its own traffic only, with the addresses that nobody translated (S0-22).
#[test]
fn tcpdump_in_the_far_pod_sees_the_pods_own_address() {
    if !runs_here(&[Need::Tap, Need::Tool("tcpdump"), Need::Tool("ping")]) {
        return;
    }
    let world = World::new();
    let lab = three_pods(&world, "tap");
    let mut tcpdump = lab.spawn(&[
        "exec", "c", "--", "tcpdump", "-Z", "root", "-lnn", "-c", "2", "-i", "eth0", "icmp",
    ]);
    tcpdump.wait_for_line("listening on eth0");
    lab.cmd(&[
        "exec",
        "a",
        "--",
        "ping",
        "-n",
        "-c",
        "1",
        "-W",
        "5",
        "10.244.2.2",
    ])
    .ok();
    let (status, text) = tcpdump.finish(Duration::from_secs(20));
    assert!(status.success(), "{text}");
    assert!(
        text.contains("10.244.1.2 > 10.244.2.2: ICMP echo request"),
        "{text}"
    );
    assert!(
        text.contains("10.244.2.2 > 10.244.1.2: ICMP echo reply"),
        "{text}"
    );
}

/// As far as 8.8.8.8 goes without NAT: nodes reach the simulated internet, and HTTP works there.
#[test]
fn nodes_reach_the_simulated_internet() {
    if !runs_here(&[Need::Tap, Need::Tool("curl")]) {
        return;
    }
    assert!(find_tool("curl").is_some());
    let world = World::new();
    let lab = world.up(&["--preset", "kindnet", "--backend", "tap"]);
    lab.cmd(&[
        "exec",
        "node/minikube",
        "--",
        "curl",
        "-sS",
        "-m",
        "10",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "http://1.1.1.1/",
    ])
    .ok()
    .says("200");
}

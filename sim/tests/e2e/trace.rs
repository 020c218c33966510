//! `podwire trace` and `podwire stats`.

use serde_json::Value;

use crate::harness::{Lab, Need, World, runs_here};

/// Two pods on one node and one on another.
fn three_pods<'w>(world: &'w World, backend: &str) -> Lab<'w> {
    let lab = world.up(&["--preset", "kindnet", "--backend", backend]);
    lab.run_pod("a", "minikube-m02");
    lab.run_pod("b", "minikube-m02");
    lab.run_pod("c", "minikube-m03");
    lab
}

/// The trace as data; `code` is the exit status that it must have.
fn traced(lab: &Lab<'_>, code: i32, args: &[&str]) -> Value {
    let words: Vec<&str> = ["trace", "-o", "json"]
        .iter()
        .chain(args)
        .copied()
        .collect();
    let output = lab.cmd(&words);
    let output = if code == 0 {
        output.ok()
    } else {
        output.fails(code, &[])
    };
    output.json()
}

/// Nodes of the hops of one role.
fn path<'v>(trace: &'v Value, role: &str) -> Vec<&'v str> {
    let hops = trace["hops"].as_array().expect("hops are a list");
    hops.iter()
        .filter(|hop| hop["role"] == role)
        .map(|hop| hop["node"].as_str().unwrap_or("(gateway)"))
        .collect()
}

/// All steps of one kind.
fn steps<'v>(trace: &'v Value, kind: &str) -> Vec<&'v Value> {
    let hops = trace["hops"].as_array().expect("hops are a list");
    let all = hops
        .iter()
        .filter_map(|hop| hop["steps"].as_array())
        .flatten();
    all.filter(|step| step["step"] == kind).collect()
}

fn a_ping_between_nodes_is_told_by_both(lab: &Lab<'_>) {
    let trace = traced(lab, 0, &["a", "c"]);
    assert_eq!(trace["schema"], "podwire.trace/1");
    assert_eq!(trace["verdict"]["outcome"], "answered", "{trace}");
    assert_eq!(path(&trace, "packet"), ["minikube-m02", "minikube-m03"]);
    assert_eq!(path(&trace, "answer"), ["minikube-m03", "minikube-m02"]);
    assert_eq!(trace["origin"]["derived"], true);
    let ttls: Vec<_> = steps(&trace, "ttl")
        .iter()
        .map(|s| s["after"].as_u64())
        .collect();
    assert_eq!(ttls, [Some(63), Some(62), Some(63), Some(62)]);
    let route = steps(&trace, "route")[0];
    assert_eq!(
        (&route["prefix"], &route["via"], &route["port"]),
        (
            &"10.244.2.0/24".into(),
            &"172.16.30.5".into(),
            &"eth0".into()
        )
    );
    // The first packet waits for every neighbour, the second finds them.
    assert_eq!(steps(&trace, "held").len(), 3, "{trace}");
    let again = traced(lab, 0, &["a", "c"]);
    assert!(steps(&again, "held").is_empty(), "{again}");
    assert_eq!(steps(&again, "neighbour").len(), 4, "{again}");
}

fn drops_are_named_where_they_happen(lab: &Lab<'_>) {
    let expired = traced(lab, 1, &["a", "c", "--ttl", "1"]);
    assert_eq!(expired["verdict"]["reason"], "ttl-expired");
    assert_eq!(expired["verdict"]["node"], "minikube-m02");
    assert_eq!(path(&expired, "error"), ["minikube-m02"]);
    let second = traced(lab, 1, &["a", "c", "--ttl", "2"]);
    assert_eq!(second["verdict"]["node"], "minikube-m03");
    assert_eq!(path(&second, "error"), ["minikube-m03", "minikube-m02"]);

    let route = [
        "ip",
        "-n",
        "minikube-m02",
        "route",
        "add",
        "blackhole",
        "192.0.2.0/24",
    ];
    lab.cmd(&route).ok();
    let hole = traced(lab, 1, &["a", "192.0.2.9"]);
    assert_eq!(hole["verdict"]["reason"], "blackhole");
    assert!(path(&hole, "error").is_empty(), "{hole}");
    assert_eq!(steps(&hole, "route")[0]["kind"], "blackhole");

    lab.cmd(&["ip", "-n", "minikube-m02", "route", "del", "default"])
        .ok();
    let nowhere = traced(lab, 1, &["a", "203.0.113.1"]);
    assert_eq!(nowhere["verdict"]["reason"], "no-route");
    assert_eq!(nowhere["verdict"]["node"], "minikube-m02");

    let absent = traced(lab, 1, &["b", "172.16.30.99"]);
    assert_eq!(absent["verdict"]["reason"], "neighbour-failed");
    // The error about it may have to ask for b as well.
    let asked = steps(&absent, "asked");
    let for_it = asked.iter().filter(|s| s["ip"] == "172.16.30.99");
    assert_eq!(for_it.count(), 3, "{absent}");

    let too_big = traced(lab, 1, &["a", "c", "--size", "1501", "--df"]);
    assert_eq!(too_big["verdict"]["outcome"], "refused");
    assert!(too_big["hops"].as_array().is_some_and(Vec::is_empty));
}

/// RT-1, RT-4, FWD-61: seen from outside.
#[test]
fn trace_tells_every_hop_and_every_drop_in_process() {
    let world = World::new();
    let lab = three_pods(&world, "inproc");
    a_ping_between_nodes_is_told_by_both(&lab);
    drops_are_named_where_they_happen(&lab);
}

#[test]
fn trace_tells_what_real_kernels_answer_on_tap() {
    if !runs_here(&[Need::Tap]) {
        return;
    }
    let world = World::new();
    let lab = three_pods(&world, "tap");
    a_ping_between_nodes_is_told_by_both(&lab);
    let closed = lab
        .cmd(&["trace", "a", "c", "--proto", "tcp", "--dport", "81"])
        .ok();
    closed.says("answered by pod default/c with TCP RST: the port is closed");
    let udp = traced(&lab, 0, &["a", "c", "--proto", "udp", "--size", "1800"]);
    assert_eq!(
        path(&udp, "packet").len(),
        4,
        "two fragments, two nodes: {udp}"
    );
    assert!(
        udp["verdict"]["text"]
            .as_str()
            .is_some_and(|t| t.contains("port unreachable"))
    );
    let node = traced(&lab, 0, &["node/minikube-m02", "c"]);
    assert_eq!(node["verdict"]["outcome"], "answered", "{node}");
    // Not lowered by the node that sends it.
    assert_eq!(steps(&node, "ttl")[0]["after"], 64);
}

/// Decision 18: until the node masquerades, the way back is missing, and the trace says where.
#[test]
fn trace_shows_both_ways_to_the_internet() {
    let world = World::new();
    let lab = three_pods(&world, "inproc");
    let node = traced(&lab, 0, &["node/minikube-m02", "8.8.8.8"]);
    assert_eq!(path(&node, "packet"), ["minikube-m02", "(gateway)"]);
    assert_eq!(path(&node, "answer"), ["(gateway)", "minikube-m02"]);
}

#[test]
fn trace_refuses_what_makes_no_sense() {
    let world = World::new();
    let lab = three_pods(&world, "inproc");
    lab.cmd(&["trace", "aa", "c"])
        .fails(1, &["pod \"aa\" not found", "did you mean \"a\"?"]);
    lab.cmd(&["trace", "a", "node/minikub"])
        .fails(1, &["did you mean \"minikube\""]);
    lab.cmd(&["trace", "10.244.1.2", "c"])
        .fails(2, &["a pod or a node can send"]);
    lab.cmd(&["trace", "a", "c", "--dport", "80"])
        .fails(2, &["--proto tcp"]);
    lab.cmd(&["trace", "a", "c", "--size", "20"])
        .fails(3, &["too short"]);
    lab.cmd(&["trace", "a", "c", "--ttl", "0"])
        .fails(2, &["--ttl"]);
}

/// FWD-94: counters by port, by reason and by kind of route, and none lost.
#[test]
fn stats_count_what_was_sent_and_add_up() {
    let world = World::new();
    let lab = three_pods(&world, "inproc");
    for _ in 0..3 {
        lab.cmd(&["ping", "a", "c", "-c", "1"]).ok();
    }
    lab.cmd(&["trace", "a", "c", "--ttl", "1"]).fails(1, &[]);
    let stats = lab.cmd(&["stats", "-o", "json"]).ok().json();
    let nodes = stats["nodes"].as_array().expect("a list of nodes");
    let node = nodes
        .iter()
        .find(|n| n["name"] == "minikube-m02")
        .expect("the node is there");
    assert_eq!(node["drops"]["ttl-expired"], 1, "{node}");
    assert_eq!(node["events"]["icmp-error-sent"], 1, "{node}");
    // Three requests, three replies, the packet that expired and the error about it.
    assert_eq!(node["routes"]["unicast"], 8, "{node}");
    assert!(
        nodes.iter().all(|n| n["conservation"]["holds"] == true),
        "{stats}"
    );
    let table = lab.cmd(&["stats", "minikube-m02"]).ok();
    let table = table
        .says("The time to live ran out here.")
        .says("every frame accounted for");
    assert!(
        !table.stdout.contains("blackhole"),
        "zeros are hidden: {table}"
    );
    lab.cmd(&["stats", "-v", "minikube-m02"])
        .ok()
        .says("A blackhole route.");
    lab.cmd(&["stats", "--port", "eth1"])
        .fails(1, &["did you mean \"eth0\"?"]);
    lab.cmd(&["stats", "--drops", "minikube-m03"])
        .ok()
        .says("Nothing was dropped.");
}

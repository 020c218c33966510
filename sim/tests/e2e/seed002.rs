//! "kindnet" of the Kubernetes Networking Guide, on a kind cluster: table 10.3.

use std::time::Duration;

use crate::harness::{Need, World, eventually, runs_here};
use crate::pattern;

/// Where the lab files lie.
pub(crate) fn lab_file(name: &str) -> String {
    format!("{}/labs/{name}", env!("CARGO_MANIFEST_DIR"))
}

const WORKER2_ROUTES: &str = "\
default via 172.18.0.1 dev eth0
10.244.0.0/24 via 172.18.0.10 dev eth0
10.244.1.0/24 via 172.18.0.12 dev eth0
10.244.2.2 dev {veth#a} scope host
10.244.2.3 dev {veth#b} scope host
10.244.2.4 dev {veth#c} scope host
10.244.2.5 dev {veth#d} scope host
10.244.2.8 dev {veth#e} scope host
172.18.0.0/16 dev eth0 proto kernel scope link src 172.18.0.{n}";

/// S2-3 to S2-7, by `podwire ip`, on whatever back end this machine has.
#[test]
fn the_guides_node_views_hold() {
    let world = World::new();
    let lab = world.up(&["-f", &lab_file("seed-002.yaml"), "--backend", "inproc"]);
    let (control_plane, worker, worker2) = nodes(&lab.out(&["get", "nodes", "-o", "name"]));
    lab.shows(&["ip", "-n", &worker2, "route"], WORKER2_ROUTES);

    let brief = lab.out(&["ip", "-n", &worker2, "-br", "-4", "addr", "show"]);
    let veths: Vec<&str> = brief.lines().filter(|l| l.starts_with("veth")).collect();
    assert_eq!(veths.len(), 5, "{brief}");
    for line in veths {
        pattern::matches("{veth}@if{n} UP             10.244.2.1/32", line)
            .unwrap_or_else(|diff| panic!("{diff}"));
    }

    // The document's iproute2 prints `uid 0` as it asks as root; both forms are iproute2's.
    let get = |node: &str| {
        let text = lab.out(&["ip", "-n", node, "route", "get", "10.244.0.5"]);
        let first = text.lines().next().expect("a line").trim_end().to_owned();
        first.trim_end_matches(" uid 0").to_owned()
    };
    assert_eq!(
        get(&worker),
        "10.244.0.5 via 172.18.0.10 dev eth0 src 172.18.0.11"
    );
    pattern::matches("10.244.0.5 dev {veth} src 10.244.0.1", &get(&control_plane))
        .unwrap_or_else(|diff| panic!("{diff}"));
}

/// S2-1, S2-2, S2-5, S2-8: the real `ip` in pods (no `@if5`: a TAP has no peer, decision 6).
#[test]
fn the_guides_pod_views_hold() {
    if !runs_here(&[Need::Tap, Need::Tool("ip")]) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["-f", &lab_file("seed-002.yaml"), "--backend", "tap"]);
    let pod = |ip: &str| {
        lab.out(&["get", "pods", "-A", "-o", "wide"])
            .lines()
            .find_map(|l| {
                let words: Vec<&str> = l.split_whitespace().collect();
                (words[6] == ip).then(|| format!("{}/{}", words[0], words[1]))
            })
            .unwrap_or_else(|| panic!("a pod has {ip}"))
    };
    let eight = pod("10.244.2.8");
    lab.shows(
        &[
            "exec", &eight, "--", "ip", "-br", "-4", "add", "show", "eth0",
        ],
        "eth0             UP             10.244.2.8/24",
    );
    lab.shows(
        &["exec", &eight, "--", "ip", "route"],
        "\
default via 10.244.2.1 dev eth0
10.244.2.0/24 via 10.244.2.1 dev eth0 src 10.244.2.8
10.244.2.1 dev eth0 scope link src 10.244.2.8",
    );
    lab.shows(
        &[
            "exec",
            &pod("10.244.1.3"),
            "--",
            "ip",
            "route",
            "get",
            "10.244.0.5",
        ],
        "10.244.0.5 via 10.244.1.1 dev eth0 src 10.244.1.3 uid 0\n    cache",
    );
    lab.shows(
        &[
            "exec",
            &pod("10.244.0.5"),
            "--",
            "ip",
            "route",
            "get",
            "10.244.0.5",
        ],
        "local 10.244.0.5 dev lo src 10.244.0.5 uid 0\n    cache <local>",
    );
}

/// S2-10: a peer route that was deleted by hand is back within kindnetd's 10 s; a manual route stays (KND-10).
#[test]
fn a_deleted_peer_route_comes_back_and_a_manual_one_stays() {
    let world = World::new();
    let lab = world.up(&["--preset", "kindnet", "--backend", "inproc"]);
    lab.run_pod("a", "minikube");
    lab.run_pod("b", "minikube-m02");
    let manual = "10.99.0.0/24 via 172.16.30.5 dev eth0";
    let words: Vec<&str> = ["ip", "-n", "minikube", "route", "add"]
        .into_iter()
        .chain(manual.split(' '))
        .collect();
    lab.cmd(&words).ok();
    let peer = "10.244.1.0/24 via 172.16.30.4 dev eth0";
    let routes = || lab.out(&["ip", "-n", "minikube", "route"]);
    let has = |text: &str, line: &str| text.lines().any(|l| l.trim_end() == line);
    assert!(has(&routes(), peer));
    lab.cmd(&["ip", "-n", "minikube", "route", "del", "10.244.1.0/24"])
        .ok();
    eventually(
        Duration::from_secs(15),
        "kindnetd to repair the route",
        || has(&routes(), peer).then_some(()),
    );
    assert!(has(&routes(), manual), "{}", routes());
    lab.cmd(&["ping", "a", "b", "-c", "1"]).ok();
}

fn nodes(names: &str) -> (String, String, String) {
    let find = |suffix: &str| {
        names
            .lines()
            .map(|l| l.trim_start_matches("node/"))
            .find(|l| l.ends_with(suffix))
            .unwrap_or_else(|| panic!("a node {suffix} in {names}"))
            .to_owned()
    };
    (find("control-plane"), find("worker"), find("worker2"))
}

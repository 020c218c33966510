//! The rung of the ladder without a tun device: pods on veths, routers on packet sockets (decision 8).
//!
//! What isn't about the devices themselves stands beside the tests of the tap back end, as its variant.

use crate::harness::{Lab, Need, World, runs_here};
use crate::traffic::{
    curl_fetches, iperf3_runs, the_real_ping_sees_the_ttls_of, three_pods,
    traceroute_shows_the_hops_of, ttl_matrix_holds,
};

const TOOLS: [Need; 6] = [
    Need::Tool("ping"),
    Need::Tool("curl"),
    Need::Tool("python3"),
    Need::Tool("iperf3"),
    Need::Tool("traceroute"),
    Need::Tool("tracepath"),
];

/// What the documents do between pods.
fn the_tools_work(lab: &Lab<'_>) {
    ttl_matrix_holds(lab);
    the_real_ping_sees_the_ttls_of(lab);
    traceroute_shows_the_hops_of(lab);
    curl_fetches(lab);
    iperf3_runs(lab);
}

#[test]
fn the_documents_tools_work_between_veths() {
    if !runs_here(&[Need::Packet]) || !runs_here(&TOOLS) {
        return;
    }
    let world = World::new();
    the_tools_work(&three_pods(&world, "packet"));
}

#[test]
fn the_documents_tools_work_without_root_and_without_a_tun_device() {
    if !runs_here(&TOOLS) {
        return;
    }
    let Some(world) = World::ordinary_user(false) else {
        return;
    };
    the_tools_work(&three_pods(&world, "packet"));
}

/// S0-17: a veth has a peer, so that a pod shows what the document does, but for sit0.
#[test]
fn a_pod_shows_the_pair_that_its_node_shows() {
    if !runs_here(&[Need::Packet, Need::Tool("ip")]) {
        return;
    }
    let world = World::new();
    let lab = three_pods(&world, "packet");
    lab.shows(
        &["exec", "a", "--", "ip", "a", "show", "dev", "eth0"],
        "\
4: eth0@if5: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default
    link/ether {mac} brd ff:ff:ff:ff:ff:ff link-netnsid 0
    inet 10.244.1.2/24 brd 10.244.1.255 scope global eth0
       valid_lft forever preferred_lft forever",
    );
    let node = lab.out(&["ip", "-n", "minikube-m02", "link"]);
    assert!(
        node.lines()
            .any(|line| line.starts_with("5: veth") && line.contains("@if4: ")),
        "{node}"
    );
}

/// The kernel at the router's end takes part in nothing: who asks hears the router alone, and each answer once.
#[test]
fn only_the_router_answers() {
    if !runs_here(&[Need::Packet, Need::Tool("ping"), Need::Tool("tcpdump")]) {
        return;
    }
    let world = World::new();
    let lab = three_pods(&world, "packet");
    let mut tcpdump = lab.spawn(&[
        "exec", "a", "--", "tcpdump", "-Z", "root", "-lnne", "-i", "eth0", "-Q", "in", "-c", "4",
        "not", "arp",
    ]);
    tcpdump.wait_for_line("listening on eth0");
    // To everybody on the link, to the router, and to an address that nobody has.
    let ping = |words: &[&str]| {
        let all = [
            &["exec", "a", "--", "ping", "-n", "-c", "1", "-W", "1"],
            words,
        ]
        .concat();
        lab.cmd(&all)
    };
    ping(&["-b", "10.244.1.255"]);
    ping(&["224.0.0.1"]);
    let third = ping(&["10.244.1.1"]).ok();
    third.says(" 1 received, ");
    for _ in 0..3 {
        ping(&["10.244.1.1"]).ok().says(" 1 received, ");
    }
    let (status, heard) = tcpdump.finish(crate::harness::DEADLINE);
    assert!(status.success(), "{heard}");
    let frames: Vec<&str> = heard.lines().filter(|line| line.contains(" > ")).collect();
    assert_eq!(frames.len(), 4, "{heard}");
    for frame in frames {
        assert!(
            frame.contains("10.244.1.1 > 10.244.1.2: ICMP echo reply"),
            "{heard}"
        );
    }
}

/// A pod that is replaced under its name has the new veth before the old one is gone.
#[test]
fn pods_come_and_go() {
    if !runs_here(&[Need::Packet, Need::Tool("ping")]) {
        return;
    }
    let world = World::new();
    let lab = three_pods(&world, "packet");
    for _ in 0..3 {
        lab.cmd(&["delete", "pod", "a"]).ok();
        lab.run_pod("a", "minikube-m02");
        lab.cmd(&["ping", "a", "c", "-c", "1"]).ok();
    }
    lab.cmd(&["node", "add", "minikube-m04"]).ok();
    lab.run_pod("d", "minikube-m04");
    lab.cmd(&["ping", "d", "a", "-c", "1"]).ok();
    lab.cmd(&["node", "delete", "minikube-m04"]).ok();
    lab.cmd(&["ping", "a", "c", "-c", "1"]).ok();
}

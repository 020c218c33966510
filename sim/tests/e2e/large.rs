//! Large packets: datagrams that need fragments, and frames that no router here holds.

use std::fs;

use crate::harness::{Lab, Need, World, runs_here};
use crate::seed002::lab_file;

/// 64000 bytes in a datagram: cut by the pod, carried in pieces, put together by the other end.
#[track_caller]
pub(crate) fn a_datagram_of_64000_bytes_arrives(lab: &Lab<'_>, from: &str, to: &str) {
    lab.cmd(&[
        "exec", from, "--", "ping", "-n", "-c", "1", "-W", "10", "-s", "64000", to,
    ])
    .ok()
    .says(&format!("64008 bytes from {to}: icmp_seq=1"));
}

/// A datagram of 64000 bytes through the bridge, past the node, and to the node by its bridge's address.
#[test]
fn a_large_datagram_survives_kindnet_and_the_podman_bridge() {
    if !runs_here(&[Need::Tap, Need::Tool("ping")]) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["--preset", "podman-bridge", "--backend", "tap"]);
    lab.run_pod("a", "minikube");
    lab.run_pod("b", "minikube");
    let other = lab.ip_of("b");
    for to in [other.as_str(), "10.88.0.1", "172.16.30.6"] {
        a_datagram_of_64000_bytes_arrives(&lab, "a", to);
    }
    lab.down().ok();
    let lab = world.up(&["--preset", "kindnet", "--backend", "tap"]);
    lab.run_pod("a", "minikube-m02");
    lab.run_pod("c", "minikube-m03");
    for to in ["10.244.2.2", "10.244.1.1", "172.16.30.5"] {
        a_datagram_of_64000_bytes_arrives(&lab, "a", to);
    }
}

/// The same in the hand-made labs: to oneself, through a bridge past the host, to the bridge's own address (the network's),
/// and from host to host, where the client's host masquerades the pieces as one datagram.
#[test]
fn a_large_datagram_survives_the_hand_made_labs() {
    if !runs_here(&[Need::Tap, Need::Tool("ping"), Need::Tool("ip")]) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["-f", &lab_file("seed-004-namespaces.yaml")]);
    a_datagram_of_64000_bytes_arrives(&lab, "client", "127.0.0.1");
    lab.down().ok();
    let lab = world.up(&["-f", &lab_file("seed-004-bridge.yaml")]);
    for to in ["10.0.0.2", "10.0.0.0"] {
        a_datagram_of_64000_bytes_arrives(&lab, "client", to);
    }
    lab.down().ok();
    let lab = world.up(&["-f", &lab_file("seed-004.yaml")]);
    let route = |words: &str| {
        let before = if words.starts_with("client") {
            vec!["exec"]
        } else {
            vec!["ip", "-n"]
        };
        lab.cmd(&[before, words.split(' ').collect()].concat()).ok();
    };
    route("client -- ip route add default via 10.0.0.0");
    for to in ["10.0.0.0", "172.18.0.2", "172.18.0.4", "8.8.8.8"] {
        a_datagram_of_64000_bytes_arrives(&lab, "client", to);
    }
    route("kind-control-plane route add 10.0.0.2 via 172.18.0.4");
    route("client -- ip route add 10.0.0.2 via 10.0.0.0");
    a_datagram_of_64000_bytes_arrives(&lab, "client", "10.0.0.2");
}

/// Sends frames to the gateway's MAC: one byte longer than a slot, a jumbo frame, and the longest that a slot holds.
const JUMBO: &str = r#"
import socket, struct
me = bytes.fromhex(open("/sys/class/net/eth0/address").read().strip().replace(":", ""))
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("eth0", 0))
for length in (1985, 9014, 1984):
    wire.send((b"\xff" * 6 + me + struct.pack("!H", 0x1234)).ljust(length, b"x"))
"#;

/// A frame that no slot holds, out of a pod that raised its MTU by hand, is dropped and counted by node, port and reason in
/// words; every frame is in the books.
#[test]
fn a_frame_longer_than_any_slot_is_counted_and_told_in_words() {
    if !runs_here(&[Need::Tap, Need::Tool("ip"), Need::Tool("python3")]) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["--preset", "kindnet", "--backend", "tap"]);
    let node = "minikube-m02";
    lab.run_pod("a", node);
    let script = world.path("jumbo.py");
    fs::write(&script, JUMBO).unwrap();
    lab.cmd(&[
        "exec", "a", "--", "ip", "link", "set", "eth0", "mtu", "9000",
    ])
    .ok();
    let quiet = lab.out(&["stats", "--drops", node]);
    assert!(!quiet.contains("frame-too-long"), "{quiet}");
    let path = script.to_str().unwrap();
    lab.cmd(&["exec", "a", "--", "python3", path]).ok();
    // Behind the frames on the same link: when this is answered they have been judged.
    lab.cmd(&["ping", "a", "10.244.1.1", "-c", "1"]).ok();
    let stats = lab.cmd(&["stats", "-o", "json", node]).ok().json();
    let counted = &stats["nodes"][0];
    assert_eq!(counted["conservation"]["holds"], true, "{stats:#}");
    assert_eq!(counted["drops"]["frame-too-long"], 2, "{stats:#}");
    assert_eq!(counted["drops"]["unknown-ethertype"], 1, "{stats:#}");
    let ports = counted["ports"].as_array().unwrap();
    let mut by = ports
        .iter()
        .filter(|port| port["drops"]["frame-too-long"] == 2);
    let port = by.next().expect("the pod's port counts them");
    let name = port["name"].as_str().unwrap();
    let words = "Longer than any frame that this router can hold; the device cut it.";
    for table in [
        lab.out(&["stats", "--drops", node]),
        lab.out(&["stats", "--drops", "--port", name, node]),
    ] {
        let line = table.lines().find(|line| line.contains(words));
        let line = line.unwrap_or_else(|| panic!("{words} is told: {table}"));
        assert!(
            line.contains("frame-too-long") && line.contains(" 2 "),
            "{line}"
        );
    }
}

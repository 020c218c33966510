//! Superframes between pods: what arrives is what was sent, and no kernel finds fault with a checksum.

use std::fs;

use rustix::process::Signal;

use crate::harness::{
    DEADLINE, Lab, Need, World, eventually, find_tool, kill, run, runs_here, string_at,
};

const NEEDS: [Need; 6] = [
    Need::Packet,
    Need::Tool("socat"),
    Need::Tool("sha256sum"),
    Need::Tool("nstat"),
    Need::Tool("tcpdump"),
    Need::Tool("tshark"),
];

/// Bytes of a transfer: many windows of TCP.
const BYTES: usize = 24 << 20;

/// A file that doesn't repeat within a segment or superframe.
fn content(world: &World) -> String {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(BYTES);
    while bytes.len() < BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    let path = world.path("content");
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

fn digest(path: &str) -> String {
    let mut command = std::process::Command::new("sha256sum");
    command.arg(path);
    let said = run(command, DEADLINE).ok().stdout;
    said.split_whitespace().next().unwrap().to_owned()
}

/// Sends the file from one pod to a listener in another, who is spoken to as `to`; what arrives has the same digest.
fn transfer(world: &World, lab: &Lab<'_>, file: &str, from: &str, at: &str, to: &str, port: u16) {
    let arrived = world.path(&format!("arrived-{port}"));
    let arrived = arrived.to_str().unwrap();
    let listen = format!("TCP-LISTEN:{port},reuseaddr");
    let create = format!("CREATE:{arrived}");
    let server = lab.spawn(&["exec", at, "--", "socat", "-u", &listen, &create]);
    let connect = format!("TCP:{to}:{port},retry=100,interval=0.1");
    let read = format!("OPEN:{file}");
    lab.cmd(&["exec", from, "--", "socat", "-u", &read, &connect])
        .ok();
    let (status, said) = server.finish(DEADLINE);
    assert!(status.success(), "{said}");
    assert_eq!(digest(arrived), digest(file), "{from} to {to}");
    fs::remove_file(arrived).unwrap();
}

/// A node's own address, which is outside of the cluster's.
fn address_of(lab: &Lab<'_>, node: &str) -> String {
    let json = lab.cmd(&["get", "nodes", node, "-o", "json"]).ok().json();
    string_at(&json, "address")
}

/// What the kernel of a pod or node has found wrong.
fn faults(lab: &Lab<'_>, place: &str) -> Vec<(String, u64)> {
    let names = [
        "TcpInCsumErrors",
        "UdpInCsumErrors",
        "IcmpInCsumErrors",
        "IpInHdrErrors",
        "IpExtInCsumErrors",
        "TcpInErrs",
    ];
    let mut words = vec!["exec", place, "--", "nstat", "-asz"];
    words.extend(names);
    let table = lab.out(&words);
    let rows = table.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let name = words.next().filter(|name| names.contains(name))?;
        Some((name.to_owned(), words.next()?.parse().ok()?))
    });
    let rows: Vec<(String, u64)> = rows.collect();
    assert!(rows.len() >= 4, "{table}");
    rows.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// Frames of a capture that match.
fn tshark(path: &str, filter: &str) -> usize {
    let mut command = std::process::Command::new(find_tool("tshark").unwrap());
    command.args([
        "-r",
        path,
        "-o",
        "ip.check_checksum:TRUE",
        "-o",
        "tcp.check_checksum:TRUE",
        "-Y",
        filter,
    ]);
    run(command, DEADLINE).ok().stdout.lines().count()
}

/// One and two nodes away, masqueraded to another node's address and by a service, with what the receiver captures.
fn everything_arrives(preset: &str, backend: &str) {
    if !runs_here(&NEEDS) || (backend == "tap" && !runs_here(&[Need::Tap])) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["--preset", preset, "--backend", backend]);
    lab.run_pod("a", "minikube-m02");
    lab.run_pod("b", "minikube-m02");
    lab.run_pod("c", "minikube-m03");
    let file = content(&world);
    let (near, far) = (lab.ip_of("b"), lab.ip_of("c"));
    let outside = address_of(&lab, "minikube-m03");
    let capture = world.path("c.pcap");
    let capture = capture.to_str().unwrap();
    let mut tcpdump = lab.spawn(&[
        "exec", "c", "--", "tcpdump", "-Z", "root", "-U", "-s", "256", "-i", "eth0", "-w", capture,
        "tcp",
    ]);
    tcpdump.wait_for_line("listening on eth0");
    transfer(&world, &lab, &file, "a", "b", &near, 7001);
    transfer(&world, &lab, &file, "a", "c", &far, 7002);
    // From a pod to another node's own address: masqueraded.
    transfer(
        &world,
        &lab,
        &file,
        "a",
        "node/minikube-m03",
        &outside,
        7003,
    );
    eventually(DEADLINE, "tcpdump to have written the end", || {
        (tshark(capture, "tcp.flags.fin == 1") >= 2).then_some(())
    });
    tcpdump.signal(Signal::TERM);
    let _ = tcpdump.finish(DEADLINE);
    assert!(
        tshark(capture, "tcp.dstport == 7002 && ip.len > 20000") > 20,
        "superframes come whole"
    );
    assert_eq!(tshark(capture, "ip.checksum.status == \"Bad\""), 0);
    for place in ["a", "b", "c", "node/minikube-m03"] {
        assert_eq!(faults(&lab, place), [], "{place}");
    }
}

/// FWD-78 as decision 15 supersedes it.
#[test]
fn superframes_arrive_whole_and_right_on_kindnet() {
    everything_arrives("kindnet", "tap");
}

/// The same between packet sockets.
#[test]
fn superframes_arrive_whole_and_right_between_veths() {
    everything_arrives("kindnet", "packet");
}

/// The same through a tunnel, whose header every segment has.
#[test]
fn superframes_arrive_whole_and_right_through_ipip() {
    everything_arrives("calico", "tap");
}

#[test]
fn superframes_arrive_whole_and_right_through_ipip_between_veths() {
    everything_arrives("calico", "packet");
}

/// Programs in a pod may switch offloads of its interface off and on while traffic goes on; and a lab may do without.
#[test]
fn offloads_are_a_choice_at_any_time() {
    if runs_here(&[Need::Tap]) {
        offloads_are_a_choice("tap");
    }
}

/// There the pod's own interface could leave more to the router than the router has words for.
#[test]
fn offloads_of_a_veth_are_a_choice_at_any_time() {
    offloads_are_a_choice("packet");
}

fn offloads_are_a_choice(backend: &str) {
    if !runs_here(&NEEDS) || !runs_here(&[Need::Tool("ethtool")]) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["--backend", backend]);
    lab.run_pod("a", "minikube-m02");
    lab.run_pod("c", "minikube-m03");
    let file = content(&world);
    let far = lab.ip_of("c");
    let set = |pod: &str, words: &[&str]| {
        let mut all = vec!["exec", pod, "--", "ethtool", "-K", "eth0"];
        all.extend(words);
        lab.cmd(&all).ok();
    };
    let rows: [(u16, &str, &[&str]); 4] = [
        (7101, "a", &["tso", "off"]),
        (7102, "a", &["tx", "off"]),
        (7103, "c", &["gro", "off"]),
        (7104, "a", &["tx", "on", "tso", "on"]),
    ];
    for (port, pod, words) in rows {
        set(pod, words);
        transfer(&world, &lab, &file, "a", "c", &far, port);
    }
    for pod in ["a", "c"] {
        assert_eq!(faults(&lab, pod), [], "{pod}");
    }
    let other = world.podwire(&[
        "--lab",
        &lab.name,
        "up",
        "--no-offload",
        "--backend",
        backend,
    ]);
    other.fails(3, &["runs with offload", "can't be changed while it runs"]);
    lab.down().ok();

    let lab = world.up(&["--backend", backend, "--no-offload"]);
    lab.run_pod("a", "minikube-m02");
    lab.run_pod("c", "minikube-m03");
    let features = lab.out(&["exec", "a", "--", "ethtool", "-k", "eth0"]);
    assert!(
        features.contains("tcp-segmentation-offload: off"),
        "{features}"
    );
    let far = lab.ip_of("c");
    transfer(&world, &lab, &file, "a", "c", &far, 7105);
    assert_eq!(faults(&lab, "c"), []);
    if backend == "packet" {
        // A veth has them to switch on: what comes then is cut for whoever wants none.
        let on = [
            "ethtool", "-K", "eth0", "tx", "on", "tso", "on", "gso", "on",
        ];
        lab.cmd(&[&["exec", "a", "--"], &on[..]].concat()).ok();
        transfer(&world, &lab, &file, "a", "c", &far, 7106);
        assert_eq!(faults(&lab, "c"), []);
    }
}

/// Decision 10: a node process that is killed comes back to the same devices and knows which kind they are.
#[test]
fn a_transfer_goes_on_when_its_node_is_killed() {
    if runs_here(&[Need::Tap]) {
        a_transfer_goes_on("tap");
    }
}

/// The same by packet sockets.
#[test]
fn a_transfer_between_veths_goes_on_when_its_node_is_killed() {
    a_transfer_goes_on("packet");
}

fn a_transfer_goes_on(backend: &str) {
    if !runs_here(&NEEDS) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["--backend", backend]);
    lab.run_pod("a", "minikube-m02");
    let file = content(&world);
    let outside = address_of(&lab, "minikube-m03");
    for (port, node) in [(7201, "minikube-m02"), (7202, "minikube-m03")] {
        let arrived = world.path(&format!("arrived-{port}"));
        let arrived = arrived.to_str().unwrap().to_owned();
        // To a node's own address: masqueraded on the way.
        let listen = format!("TCP-LISTEN:{port},reuseaddr");
        let create = format!("CREATE:{arrived}");
        let server = lab.spawn(&[
            "exec",
            "node/minikube-m03",
            "--",
            "socat",
            "-u",
            &listen,
            &create,
        ]);
        let connect = format!("TCP:{outside}:{port},retry=100,interval=0.1");
        let read = format!("OPEN:{file}");
        let client = lab.spawn(&["exec", "a", "--", "socat", "-u", &read, &connect]);
        eventually(DEADLINE, "the transfer to be under way", || {
            let len = fs::metadata(&arrived).map_or(0, |m| m.len());
            (len > 100_000).then_some(())
        });
        let pid = lab.node_pid(node);
        kill(pid, Signal::KILL);
        let (status, said) = client.finish(DEADLINE);
        assert!(status.success(), "{said}");
        let (status, said) = server.finish(DEADLINE);
        assert!(status.success(), "{said}");
        assert_eq!(digest(&arrived), digest(&file), "{node}");
        assert_ne!(lab.node_pid(node), pid);
    }
}

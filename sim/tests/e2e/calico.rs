//! Real programs, traces and bad frames on the cluster of seed 001: what its document does not show, and its users do.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{DEADLINE, Lab, Need, World, eventually, find_tool, run, runs_here};
use crate::large::a_datagram_of_64000_bytes_arrives;
use crate::seed001::document;

/// The pod of the document that serves here.
const NGINX: &str = "10.244.205.193";

/// Pages, bulk data and large datagrams cross the tunnel; what both pods capture of that is well formed, checksums included.
#[test]
fn real_programs_cross_the_tunnel_and_captures_are_clean() {
    let tools = ["curl", "python3", "tcpdump", "tshark", "iperf3", "ping"].map(Need::Tool);
    if !runs_here(&[Need::Tap]) || !runs_here(&tools) {
        return;
    }
    let world = World::new();
    let lab = document(&world, "tap");
    let body = "podwire ".repeat(50_000);
    world.file("page", &body);
    let server = lab.spawn(&["exec", "nginx", "--", "python3", "-m", "http.server", "80"]);
    let mut captures = Vec::new();
    for pod in ["nginx", "nginx-manual"] {
        let file = world.path(&format!("{pod}.pcap"));
        let path = file.to_str().unwrap().to_owned();
        let mut tcpdump = lab.spawn(&[
            "exec", pod, "--", "tcpdump", "-Z", "root", "-nn", "-U", "-i", "eth0", "-w", &path,
        ]);
        tcpdump.wait_for_line("listening on eth0");
        captures.push((tcpdump, path));
    }
    let page = lab
        .cmd(&[
            "exec",
            "nginx-manual",
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
            &format!("http://{NGINX}/page"),
        ])
        .ok();
    assert!(page.stdout == body, "the page arrives unchanged");
    a_datagram_of_64000_bytes_arrives(&lab, "nginx-manual", NGINX);
    for (tcpdump, path) in captures {
        let shows = |filter: &str| tshark(&path, filter);
        eventually(
            DEADLINE,
            "tcpdump to have written the large datagrams",
            || {
                let large = shows("ip.reassembled.length > 64000").lines().count();
                (large == 2).then_some(())
            },
        );
        tcpdump.signal(Signal::TERM);
        let (_, said) = tcpdump.finish(DEADLINE);
        assert!(said.contains("\n0 packets dropped by kernel"), "{said}");
        assert!(shows("tcp.port == 80").lines().count() > 20, "{said}");
        assert_eq!(
            shows("_ws.malformed || _ws.expert.severity == \"Error\""),
            ""
        );
        // A pod sees nothing of the tunnel. TCP may be in segments larger than any packet where the kernel leaves cutting to
        // the device.
        assert_eq!(
            shows("ip.proto == 4 || (ip.proto == 1 && ip.len > 1480)"),
            ""
        );
    }
    drop(server);

    let mut server = lab.spawn(&["exec", "nginx", "--", "iperf3", "-s", "-1", "--forceflush"]);
    server.wait_for_line("Server listening");
    let report = lab
        .cmd(&[
            "exec",
            "nginx-manual",
            "--",
            "iperf3",
            "-c",
            NGINX,
            "-t",
            "2",
            "-J",
        ])
        .ok()
        .json();
    assert!(report.get("error").is_none(), "{report:#}");
    let received = report["end"]["sum_received"]["bytes"].as_u64();
    assert!(
        received.is_some_and(|bytes| bytes > 1_000_000),
        "{report:#}"
    );
    let (status, text) = server.finish(DEADLINE);
    assert!(status.success(), "{text}");
}

/// The frames of a capture that a filter lets through, a line each; checksums of IP and ICMP are verified.
fn tshark(path: &str, filter: &str) -> String {
    let mut command = std::process::Command::new(find_tool("tshark").unwrap());
    command.args([
        "-n",
        "-r",
        path,
        "-o",
        "ip.check_checksum:TRUE",
        "-Y",
        filter,
    ]);
    run(command, DEADLINE).ok().stdout
}

/// NAT-51, FWD-61: pods are masqueraded toward the internet; errors about that find them all the same, so that the tools see
/// each hop, and the tunnel's MTU is the pod's own.
#[test]
fn traceroute_and_tracepath_go_to_the_internet_through_masquerade() {
    if !runs_here(&[Need::Tap, Need::Tool("traceroute"), Need::Tool("tracepath")]) {
        return;
    }
    let world = World::new();
    let lab = document(&world, "tap");
    for method in ["-U", "-I", "-T"] {
        let text = lab.out(&[
            "exec",
            "nginx-manual",
            "--",
            "traceroute",
            "-n",
            "-q",
            "1",
            "-w",
            "5",
            method,
            "8.8.8.8",
        ]);
        let hops: Vec<&str> = text
            .lines()
            .skip(1)
            .filter_map(|l| l.split_whitespace().nth(1))
            .collect();
        assert_eq!(
            hops,
            ["172.16.30.8", "172.16.30.1", "8.8.8.8"],
            "{method}: {text}"
        );
    }
    lab.cmd(&["exec", "nginx-manual", "--", "tracepath", "-n", "8.8.8.8"])
        .ok()
        .says("pmtu 1480 hops 3 ");
}

/// IPIP-17, IPIP-18, CAL-32: the node's own pings have tunl0's address in the pod, also those that are bound to eth0's; a pod's
/// have the pod's.
#[test]
fn pods_see_tunl0s_address_of_remote_nodes() {
    if !runs_here(&[Need::Tap, Need::Tool("ping"), Need::Tool("tcpdump")]) {
        return;
    }
    let world = World::new();
    let lab = document(&world, "tap");
    let seen = |ping: &[&str]| {
        let mut tcpdump = lab.spawn(&[
            "exec",
            "nginx",
            "--",
            "tcpdump",
            "-Z",
            "root",
            "-lnn",
            "-c",
            "1",
            "-i",
            "eth0",
            "icmp[icmptype] == icmp-echo",
        ]);
        tcpdump.wait_for_line("listening on eth0");
        lab.cmd(ping).ok().says(" ttl=6");
        let (status, text) = tcpdump.finish(DEADLINE);
        assert!(status.success(), "{text}");
        let line = text.lines().find(|line| line.contains("echo request"));
        let words: Vec<_> = line.unwrap_or_default().split_whitespace().collect();
        assert_eq!(words.get(4), Some(&"10.244.205.193:"), "{text}");
        words[2].to_owned()
    };
    let node = "node/minikube-m03";
    for (from, source, expected) in [
        (node, &[][..], "10.244.151.0"),
        (node, &["-I", "172.16.30.8"], "10.244.151.0"),
        ("nginx-manual", &[], "10.244.151.1"),
    ] {
        let mut words = vec!["exec", from, "--", "ping", "-n", "-c", "1", "-W", "5"];
        words.extend(source);
        words.push(NGINX);
        assert_eq!(seen(&words), expected, "{from} {source:?}");
    }
}

/// Steps of one kind, in the order of the packet's way.
fn steps<'v>(trace: &'v Value, kind: &str) -> Vec<&'v Value> {
    let hops = trace["hops"].as_array().expect("hops are a list");
    let all = hops
        .iter()
        .filter_map(|hop| hop["steps"].as_array())
        .flatten();
    all.filter(|step| step["step"] == kind).collect()
}

fn the_trace_shows_the_tunnel(lab: &Lab<'_>) {
    let trace = lab
        .cmd(&["trace", "nginx-manual", "nginx", "-o", "json"])
        .ok()
        .json();
    assert_eq!(trace["verdict"]["outcome"], "answered", "{trace:#}");
    let headers = |kind: &str| -> Vec<(String, String)> {
        let text = |step: &Value, key: &str| step[key].as_str().unwrap_or_default().to_owned();
        let steps = steps(&trace, kind);
        steps
            .iter()
            .map(|step| (text(step, "src"), text(step, "dst")))
            .collect()
    };
    let way = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let there_and_back = [
        way("172.16.30.8", "172.16.30.7"),
        way("172.16.30.7", "172.16.30.8"),
    ];
    assert_eq!(headers("encap"), there_and_back, "{trace:#}");
    assert_eq!(headers("decap"), there_and_back, "{trace:#}");
    for step in steps(&trace, "encap") {
        assert_eq!((&step["port"], &step["ttl"]), (&"tunl0".into(), &63.into()));
    }
    let ttls: Vec<_> = steps(&trace, "ttl")
        .iter()
        .map(|s| s["after"].as_u64())
        .collect();
    assert_eq!(ttls, [Some(63), Some(62), Some(63), Some(62)]);
}

/// S1-16, IPIP-4: the tunnel's header, as the trace of a ping between nodes has it, there and back.
#[test]
fn a_trace_shows_the_header_of_the_tunnel_in_process() {
    let world = World::new();
    the_trace_shows_the_tunnel(&document(&world, "inproc"));
}

/// S1-16, IPIP-4: the same of pods with kernels.
#[test]
fn a_trace_shows_the_header_of_the_tunnel_on_tap() {
    if runs_here(&[Need::Tap]) {
        let world = World::new();
        the_trace_shows_the_tunnel(&document(&world, "tap"));
    }
}

/// Sends one frame of each kind to the pod's node, as raw bytes: the names are those of the counters that must rise.
const NONSENSE: &str = r#"
import socket, struct
def checksum(header):
    total = sum(struct.unpack("!10H", header))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
def ip(first=0x45, total=28, wrong=0):
    header = struct.pack("!BBHHHBBH4s4s", first, 0, total, 1, 0, 64, 17, 0, socket.inet_aton("10.244.151.1"), socket.inet_aton("10.244.205.193"))
    return header[:10] + struct.pack("!H", checksum(header) ^ wrong) + header[12:] + struct.pack("!HHHH", 1, 2, 8, 0)
me = bytes.fromhex(open("/sys/class/net/eth0/address").read().strip().replace(":", ""))
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("eth0", 0))
def send(ethertype, rest):
    wire.send(b"\xee" * 6 + me + struct.pack("!H", ethertype) + rest)
send(0x1234, bytes(range(200)))
send(0x0800, bytes(range(46)))
send(0x0800, ip(first=0x75))
send(0x0800, ip(first=0x43))
send(0x0800, ip(first=0x4f)[:24])
send(0x0800, ip(total=19))
send(0x0800, ip(total=1000))
send(0x0800, ip(wrong=0x0100))
send(0x0806, b"\xff" * 28)
"#;

/// FWD-1 to FWD-4, L2-3: frames of nonsense out of a pod's own raw socket are dropped, counted by reason, and told in words; the
/// node goes on.
#[test]
fn nonsense_from_a_pod_is_dropped_counted_and_told_in_words() {
    if !runs_here(&[Need::Tap, Need::Tool("python3")]) {
        return;
    }
    let world = World::new();
    let lab = document(&world, "tap");
    let script = world.path("nonsense.py");
    fs::write(&script, NONSENSE).unwrap();
    let node = "minikube-m03";
    let wanted = [
        ("unknown-ethertype", 1, "Neither IPv4 nor ARP."),
        ("bad-version", 2, "The IP version is not 4."),
        (
            "bad-header-length",
            2,
            "The IPv4 header length is below 20 or beyond the bytes present.",
        ),
        (
            "bad-total-length",
            2,
            "The IPv4 total length is below the header length or beyond the bytes present.",
        ),
        (
            "bad-header-checksum",
            1,
            "The IPv4 header checksum does not verify.",
        ),
        (
            "arp-malformed",
            1,
            "Not an ARP packet for IPv4 over Ethernet.",
        ),
    ];
    let quiet = lab.out(&["stats", "--drops", node]);
    for (name, _, words) in wanted {
        assert!(!quiet.contains(words), "{name} before: {quiet}");
    }
    let path = script.to_str().unwrap();
    lab.cmd(&["exec", "nginx-manual", "--", "python3", path])
        .ok();
    // Behind the frames on the same link: when this is answered they have been judged.
    lab.cmd(&["ping", "nginx-manual", "nginx", "-c", "1"])
        .ok()
        .says(" ttl=62 ");
    let stats = lab.cmd(&["stats", "-o", "json", node]).ok().json();
    let counted = &stats["nodes"][0];
    assert_eq!(counted["conservation"]["holds"], true, "{stats:#}");
    let table = lab.out(&["stats", "--drops", node]);
    for (name, count, words) in wanted {
        assert_eq!(counted["drops"][name], count, "{name}: {stats:#}");
        let line = table.lines().find(|line| line.contains(words));
        let line = line.unwrap_or_else(|| panic!("{name} is told in words: {table}"));
        assert!(line.contains(&format!(" {count} ")), "{line}");
    }
    assert!(lab.world.processes().len() > 3, "all nodes are there");
}

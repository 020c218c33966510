//! What a wire would carry, as tcpdump in a pod and a capture of the lab show it to tshark, which checks every sum.
//!
//! tshark takes a checksum that a kernel left open for a wrong one. So either the sender leaves none open (`ethtool -K eth0 tx
//! off`) and tcpdump at the receiver shows what came through translation and tunnel; or offloads stay on, and the lab's own
//! capture shows the segments that a wire would carry for the superframes.

use crate::harness::{
    Background, DEADLINE, Lab, Need, World, eventually, find_tool, run, runs_here, string_at,
};
use rustix::process::Signal;

const NEEDS: [Need; 5] = [
    Need::Tap,
    Need::Tool("socat"),
    Need::Tool("ethtool"),
    Need::Tool("tcpdump"),
    Need::Tool("tshark"),
];

/// Bytes of a transfer.
const BYTES: &str = "2000000";

/// Packets of a capture that match, with sums checked.
fn matching(path: &str, filter: &str) -> usize {
    let mut command = std::process::Command::new(find_tool("tshark").unwrap());
    command.args(["-n", "-r", path]);
    for check in ["ip", "tcp", "udp"] {
        command
            .arg("-o")
            .arg(format!("{check}.check_checksum:TRUE"));
    }
    command.args(["-Y", filter]);
    run(command, DEADLINE).ok().stdout.lines().count()
}

/// Sends zeros from pod `a` to a listener at `at`, who is spoken to as `to`, and as many datagrams as make a burst.
fn send(lab: &Lab<'_>, at: &str, to: &str, port: u16) {
    let listen = format!("TCP-LISTEN:{port},reuseaddr");
    let server = lab.spawn(&["exec", at, "--", "socat", "-u", &listen, "OPEN:/dev/null"]);
    let connect = format!("TCP:{to}:{port},retry=100,interval=0.1");
    let script = format!(
        "head -c {BYTES} /dev/zero | socat -u - {connect}; \
         head -c 60000 /dev/zero | socat -u -b 60 - UDP-DATAGRAM:{to}:{port}"
    );
    lab.cmd(&["exec", "a", "--", "sh", "-c", &script]).ok();
    let (status, said) = server.finish(DEADLINE);
    assert!(status.success(), "{said}");
}

fn dump(lab: &Lab<'_>, at: &str, path: &str) -> Background {
    let words = ["tcpdump", "-Z", "root", "-U", "-i", "eth0", "-w", path];
    let mut dump = lab.spawn(&[&["exec", at, "--"], &words[..], &["tcp or udp"]].concat());
    dump.wait_for_line("listening on eth0");
    dump
}

/// A node's own address, which is outside of the pods'.
fn address_of(lab: &Lab<'_>, node: &str) -> String {
    let json = lab.cmd(&["get", "nodes", node, "-o", "json"]).ok().json();
    string_at(&json, "address")
}

/// Through a tunnel to a pod, and masqueraded to another node's own address.
fn places(lab: &Lab<'_>) -> [(&'static str, String, u16); 2] {
    [
        ("c", lab.ip_of("c"), 7301),
        ("node/minikube-m03", address_of(lab, "minikube-m03"), 7302),
    ]
}

fn lab(world: &World) -> Lab<'_> {
    let lab = world.up(&["--preset", "calico"]);
    lab.run_pod("a", "minikube-m02");
    lab.run_pod("c", "minikube-m03");
    lab
}

#[test]
fn sums_that_a_pod_completes_are_right_behind_translation_and_tunnel() {
    if !runs_here(&NEEDS) {
        return;
    }
    let world = World::new();
    let lab = lab(&world);
    let off = ["ethtool", "-K", "eth0", "tx", "off"];
    lab.cmd(&[&["exec", "a", "--"], &off[..]].concat()).ok();
    for (at, to, port) in places(&lab) {
        let path = world.path(&format!("{port}.pcap"));
        let path = path.to_str().unwrap();
        let dump = dump(&lab, at, path);
        send(&lab, at, &to, port);
        let arrived = format!("tcp.dstport == {port}");
        eventually(DEADLINE, "tcpdump to have written the end", || {
            let end = format!("{arrived} && tcp.flags.fin == 1");
            (matching(path, &end) >= 1).then_some(())
        });
        dump.signal(Signal::TERM);
        let _ = dump.finish(DEADLINE);
        // Segments that came in one go may be one again, whose sum the kernel is left to complete.
        let segments = format!("{arrived} && ip.len <= 1500");
        let good = matching(
            path,
            &format!("{segments} && tcp.checksum.status == \"Good\""),
        );
        let bad = matching(
            path,
            &format!("{segments} && tcp.checksum.status == \"Bad\""),
        );
        assert!(good > 20, "{at}: {good} good sums");
        assert_eq!(bad, 0, "{at}");
        assert_eq!(matching(path, "ip.checksum.status == \"Bad\""), 0, "{at}");
    }
}

#[test]
fn what_a_wire_would_carry_for_superframes_has_right_sums_and_fits_it() {
    if !runs_here(&NEEDS) {
        return;
    }
    let world = World::new();
    let lab = lab(&world);
    let path = world.path("lab.pcapng");
    let path = path.to_str().unwrap();
    let mut capture = lab.spawn(&["capture", "--all", "-w", path]);
    capture.wait_for_line("capturing ");
    for (at, to, port) in places(&lab) {
        send(&lab, at, &to, port);
    }
    capture.signal(Signal::INT);
    let (status, said) = capture.finish(DEADLINE);
    assert!(status.success(), "{said}");
    let near = address_of(&lab, "minikube-m02");
    let masqueraded = format!("ip.src == {near} && tcp.dstport == 7302 && tcp.len > 1000");
    for (what, filter) in [
        (
            "through the tunnel",
            "ip.proto == 4 && tcp.dstport == 7301 && tcp.len > 1000",
        ),
        ("masqueraded", masqueraded.as_str()),
        ("datagrams", "udp.dstport == 7301 && udp.length == 68"),
    ] {
        let n = matching(path, filter);
        assert!(n >= 100, "{what}: {n}");
    }
    for (what, filter) in [
        ("sums of IPv4", "ip.checksum.status == \"Bad\""),
        ("sums of TCP", "tcp.checksum.status == \"Bad\""),
        // What the pod's kernel quotes in an error is as it got it: with an open sum.
        ("sums of UDP", "udp.checksum.status == \"Bad\" && !icmp"),
        ("longer than the wire takes", "frame.len > 1514"),
        (
            "longer than the tunnel takes",
            "ip.proto == 4 && tcp.len > 1440",
        ),
    ] {
        assert_eq!(matching(path, filter), 0, "{what}");
    }
}

//! The views against the real thing: a network namespace is set up as the model says, and every command has to print the
//! same text, in every format, with the same exit status.
//!
//! Needs `ip` (iproute2) and `unshare`; says SKIPPED with the reason where they can't be used.

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use sim::model::{Iface, IfaceKind, NeighbourEntry, Node, Proto, RouteEntry, RouteKind, Scope};

use crate::model::{addr, connected, hop, iface, ip, lo, neighbour, node, podwire_ip, route, veth};

const MAC1: &str = "02:00:00:00:01:01";
const MAC2: &str = "02:00:00:00:01:02";
const MAC3: &str = "02:00:00:00:01:03";
const MAC4: &str = "02:00:00:00:01:04";

/// What [`script`] sets up.
fn reference() -> (Node, Vec<NeighbourEntry>) {
    let long = |iface: Iface| Iface {
        qlen: Some(1000),
        ..iface
    };
    let eth0 = long(iface(
        2,
        "eth0",
        veth(2, 0),
        MAC1,
        vec![
            addr("172.16.30.3/24", Some("172.16.30.255")),
            addr("172.16.30.9/24", Some("172.16.30.255")),
            addr("192.168.7.1/30", None),
        ],
    ));
    let docker0 = Iface {
        carrier: false,
        ..long(iface(
            4,
            "docker0",
            IfaceKind::Bridge,
            MAC2,
            vec![addr("172.17.0.1/16", Some("172.17.255.255"))],
        ))
    };
    let pod = Iface {
        mtu: 1400,
        ..iface(
            17,
            "veth2b322de6",
            veth(4, 0),
            MAC3,
            vec![addr("10.244.0.1/32", Some("10.244.0.1"))],
        )
    };
    let down = Iface {
        qdisc: "noop".to_owned(),
        up: false,
        carrier: false,
        ..long(iface(18, "vethdown", veth(5, 0), MAC4, vec![]))
    };
    let special = |dst: &str, kind, metric, proto| RouteEntry {
        kind,
        metric,
        proto,
        ..route(dst, vec![])
    };
    let mut onlink = hop(Some("9.9.9.9"), "eth0");
    onlink.onlink = true;
    let mut heavy = hop(Some("172.16.30.8"), "eth0");
    heavy.weight = 2;
    let dhcp = |dst: &str, via: Option<&str>, scope| RouteEntry {
        proto: Proto::Dhcp,
        src: Some(ip("172.16.30.3")),
        metric: 1024,
        scope,
        ..route(dst, vec![hop(via, "eth0")])
    };
    let routes = vec![
        connected("172.16.30.0/24", "eth0", "172.16.30.3"),
        connected("192.168.7.0/30", "eth0", "192.168.7.1"),
        connected("172.17.0.0/16", "docker0", "172.17.0.1"),
        dhcp("default", Some("172.16.30.1"), Scope::Global),
        dhcp("172.16.30.1", None, Scope::Link),
        RouteEntry {
            scope: Scope::Host,
            ..route("10.244.0.2", vec![hop(None, "veth2b322de6")])
        },
        route("10.244.1.0/24", vec![hop(Some("172.16.30.4"), "eth0")]),
        route("10.1.0.0/16", vec![hop(Some("172.16.30.6"), "eth0")]),
        route("10.1.0.0/24", vec![hop(Some("192.168.7.2"), "eth0")]),
        route("10.1.0.0", vec![hop(Some("172.16.30.7"), "eth0")]),
        route("10.6.0.0/16", vec![onlink]),
        route("10.7.0.0/16", vec![hop(Some("172.16.30.7"), "eth0"), heavy]),
        special("10.9.0.0/16", RouteKind::Blackhole, 0, Proto::Bird),
        special("10.8.0.0/16", RouteKind::Unreachable, 0, Proto::Boot),
        special("10.2.0.0/16", RouteKind::Prohibit, 5, Proto::Boot),
        special("10.3.0.0/16", RouteKind::Throw, 0, Proto::Static),
        route("10.4.0.0/16", vec![hop(Some("172.17.0.9"), "docker0")]),
    ];
    let neighbours = vec![
        neighbour(
            "172.16.30.4",
            "eth0",
            Some("02:00:00:00:00:01"),
            "PERMANENT",
        ),
        neighbour(
            "10.244.0.2",
            "veth2b322de6",
            Some("02:00:00:00:00:02"),
            "PERMANENT",
        ),
    ];
    let ifaces = vec![lo(), eth0, docker0, pod, down];
    (node("n", "172.16.30.3", ifaces, routes), neighbours)
}

/// The same by hand. 9.9.9.9 and the like are never sent to: the namespace leads nowhere.
const SCRIPT: &str = r#"
set -e
for what in all default; do echo 1 > /proc/sys/net/ipv6/conf/$what/disable_ipv6; done
ip link set lo up
mkfifo "$DIR/ready"
unshare -n sh -c 'echo up > "$0"; exec sleep 60' "$DIR/ready" & peer=$!
trap 'kill $peer' EXIT
read -r up < "$DIR/ready"
ip link add eth0 index 2 address 02:00:00:00:01:01 type veth peer name p0 index 2 netns $peer
ip link add docker0 index 4 address 02:00:00:00:01:02 type bridge
ip link add veth2b322de6 index 17 mtu 1400 address 02:00:00:00:01:03 txqueuelen 0 type veth peer name p1 index 4 netns $peer
ip link add vethdown index 18 address 02:00:00:00:01:04 type veth peer name p2 index 5 netns $peer
nsenter -t $peer -n sh -c 'ip link set p0 up; ip link set p1 up'
ip link set veth2b322de6 txqueuelen 0
ip link add port0 type veth peer name port1
ip link set port0 master docker0
for dev in eth0 docker0 veth2b322de6; do ip link set $dev up; done
ip link del port0
ip addr add 172.16.30.3/24 brd + dev eth0
ip addr add 172.16.30.9/24 brd + dev eth0
ip addr add 192.168.7.1/30 dev eth0
ip addr add 172.17.0.1/16 brd + dev docker0
ip addr add 10.244.0.1/32 brd 10.244.0.1 dev veth2b322de6
ip route add default via 172.16.30.1 dev eth0 proto dhcp src 172.16.30.3 metric 1024
ip route add 172.16.30.1 dev eth0 proto dhcp scope link src 172.16.30.3 metric 1024
ip route add 10.244.0.2 dev veth2b322de6 scope host
ip route add 10.244.1.0/24 via 172.16.30.4
ip route add 10.1.0.0/16 via 172.16.30.6
ip route add 10.1.0.0/24 via 192.168.7.2
ip route add 10.1.0.0/32 via 172.16.30.7
ip route add 10.6.0.0/16 via 9.9.9.9 dev eth0 onlink
ip route add 10.7.0.0/16 nexthop via 172.16.30.7 dev eth0 weight 1 nexthop via 172.16.30.8 dev eth0 weight 2
ip route add blackhole 10.9.0.0/16 proto bird
ip route add unreachable 10.8.0.0/16
ip route add prohibit 10.2.0.0/16 metric 5
ip route add throw 10.3.0.0/16 proto static
ip route add 10.4.0.0/16 via 172.17.0.9
ip neigh add 172.16.30.4 lladdr 02:00:00:00:00:01 dev eth0 nud permanent
ip neigh add 10.244.0.2 lladdr 02:00:00:00:00:02 dev veth2b322de6 nud permanent
set +e
"#;

const COMMANDS: &str = "
a
-4 a
-0 a
-6 a
-br a
-br -4 a
-o a
-4 -o a
-j a
-j -p a
-4 -j a
-j -br a
-j -br -4 a
-j -o a
a show dev eth0
a s veth2b322de6
a show up
a show scope global
a show scope host
a show to 10.0.0.0/8
a show secondary
a show primary
a show permanent
a show dynamic
a show type veth
a show master docker0
l
-o l
-br l
-j l
-j -p l
-j -br l
-4 l
l show vethdown
l show up
l show type bridge
r
-o r
-br r
-j r
-j -p r
-4 r
-6 r
-j -6 r
r show table main
r show table local
r show table 255
r show table all
-j r show table local
-j r show table all
r show table default
r show table 77
r show dev eth0
-j r show dev eth0
r show dev docker0
r show proto dhcp
r show proto static
r show scope link
-j r show scope link
r show scope host
r show type blackhole
r show type prohibit
r show via 172.16.30.4
r show src 172.16.30.3
r show metric 1024
r show metric 5
r show default
r show 10.1.0.0/16
r show 10.1/16
r show 10.1.0.0
r show exact 10.1.0.0/24
r show to 10.1.0.0/24
r show root 10.0.0.0/8
r show match 10.1.0.7
route get 10.244.0.2
route get 10.244.1.7
route get 8.8.8.8
route get 172.16.30.3
route get 172.16.30.9
route get 172.16.30.77
route get 172.16.30.255
route get 192.168.7.2
route get 192.168.7.3
route get 10.244.0.1
route get 127.0.0.1
route get 127.0.0.5
route get 127.255.255.255
route get 0.0.0.0
route get 10.1.0.0
route get 10.1.0.9
route get 10.1.9.9
route get 10.2.0.1
route get 10.3.0.1
route get 10.6.0.1
route get 10.8.0.1
route get 10.9.0.1
route get 10.1
route get to 10.244.1.7
route get 8.8.8.8 oif eth0
route get 8.8.8.8 oif docker0
route get 8.8.8.8 oif vethdown
route get 8.8.8.8 dev veth2b322de6
route get 8.8.8.8 from 172.16.30.3
route get 10.244.0.1 from 10.244.0.1
route get 8.8.8.8 iif eth0
-o route get 8.8.8.8
-j route get 8.8.8.8
-j -p route get 8.8.8.8
-j route get 172.16.30.3
-j route get 172.16.30.255
-j route get 8.8.8.8 from 172.16.30.3
-j route get 10.9.0.1
rule
-j rule
-j -p rule
-6 rule
rule list
neigh
n show dev eth0
n show 172.16.30.4
n show to 10.0.0.0/8
n show nud permanent
n show nud reachable
-br n
-br n show dev eth0
-j n
-j -br n
-j n show dev eth0
-6 n
a show nope
a show dev
a show eth0 docker0
a show scope foo
a show master nope
a show to foo
link show nope
r show dev nope
r show dev
r show proto foo
r show scope foo
r show type foo
r show table foo
r show metric foo
r show foo
r show via foo
route get
route get foo
route get 300.1.1.1
route get 8.8.8.8 oif nope
route get 8.8.8.8 foo
rule show foo
n show dev nope
n show nud foo
n show foo
foo
a foo
l foo
r foo
n foo
rule foo
-x a
-f foo a
";

/// Why the comparison can't be made here, if so.
fn missing() -> Option<String> {
    let works = |command: &mut Command| {
        let quiet = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        quiet.status().is_ok_and(|status| status.success())
    };
    let version = Command::new("ip").arg("-V").output();
    let Ok(version) = version else {
        return Some("ip (iproute2) is not installed".to_owned());
    };
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    if !version.contains("iproute2-6.1") {
        return Some(format!(
            "the texts are those of iproute2 6.1, this is {}",
            version.trim()
        ));
    }
    if !works(Command::new("unshare").args(["-rn", "true"])) {
        return Some("network namespaces can't be made here".to_owned());
    }
    None
}

/// Text from before the next marker, and what follows it.
fn cut<'a>(text: &'a str, marker: &str) -> (&'a str, &'a str) {
    text.split_once(marker)
        .unwrap_or_else(|| panic!("no {marker} in {text}"))
}

#[test]
fn every_view_prints_what_iproute2_prints() {
    if let Some(reason) = missing() {
        assert!(
            std::env::var_os("PODWIRE_REQUIRE_ALL").is_none_or(|v| v != "1"),
            "PODWIRE_REQUIRE_ALL=1 and this test cannot run: {reason}"
        );
        eprintln!("SKIPPED: {reason}");
        return;
    }
    let commands: Vec<&str> = COMMANDS.lines().filter(|line| !line.is_empty()).collect();
    let mut script = SCRIPT.to_owned();
    for (i, command) in commands.iter().enumerate() {
        let _ = writeln!(
            script,
            "ip {command}; echo \"@{i} $?@\"; echo \"@{i} err@\" >&2"
        );
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let output = Command::new("unshare")
        .args(["-rn", "sh", "-c", &script])
        .env("DIR", dir.path())
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .expect("unshare runs");
    let stdout = String::from_utf8(output.stdout).expect("text");
    let stderr = String::from_utf8(output.stderr).expect("text");
    let (node, neighbours) = reference();
    let (mut out_rest, mut err_rest) = (stdout.as_str(), stderr.as_str());
    let mut differences = String::new();
    for (i, command) in commands.iter().enumerate() {
        let (out, rest) = cut(out_rest, &format!("@{i} "));
        let (status, rest) = cut(rest, "@\n");
        out_rest = rest;
        let (err, rest) = cut(err_rest, &format!("@{i} err@\n"));
        err_rest = rest;
        let status: i32 = status.parse().expect("an exit status");
        let theirs = (status, out.to_owned(), err.to_owned());
        let ours = podwire_ip(command, &node, &neighbours);
        let theirs = (theirs.0, sorted(command, theirs.1), theirs.2);
        let ours = (ours.0, sorted(command, ours.1), ours.2);
        if theirs != ours {
            let _ = writeln!(
                differences,
                "=== ip {command}\n--- iproute2 (status {})\n{}{}--- podwire (status {})\n{}{}",
                theirs.0, theirs.1, theirs.2, ours.0, ours.1, ours.2
            );
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

/// The kernel lists neighbours in the order of its hash table; the views by interface and address.
fn sorted(command: &str, text: String) -> String {
    let is_neigh = command
        .split_whitespace()
        .any(|word| matches!(word, "n" | "neigh"));
    if !is_neigh {
        return text;
    }
    let text = text.replace("},{", "}\n{").replace(['[', ']'], "");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

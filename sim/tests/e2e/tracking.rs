//! Connection tracking as users set it up and look at it, with real TCP between real kernels.

use crate::harness::{DEADLINE, Lab, World, eventually, runs_here};
use crate::talk::{NEEDS, Talker};

/// A pod talks to another node's host, which is outside of the cluster's addresses: its node masquerades.
const PORT: u16 = 7000;
const OUTSIDE: &str = "172.16.30.4";

/// A lab with these options of connection tracking.
fn with_options(world: &World, name: &str, options: &str) -> String {
    let text = format!(
        "apiVersion: podwire/v1\nkind: Lab\nnetwork:\n  conntrack: {options}\nsystemPods: false\npods:\n- {{name: a, node: minikube}}\n"
    );
    world.file(name, &text)
}

/// Seconds that the masqueraded connection is kept for, as `conntrack -L` shows it; none when it is there no more.
fn kept_for(lab: &Lab<'_>) -> Option<u64> {
    let port = PORT.to_string();
    let words = [
        "nat", "-n", "minikube", "sessions", "-p", "tcp", "--dport", &port,
    ];
    let text = lab.out(&words);
    let line = text.lines().find(|line| line.contains("ESTABLISHED"))?;
    assert!(
        line.contains(&format!("src={OUTSIDE} dst=172.16.30.3 sport={PORT}")),
        "masqueraded: {line}"
    );
    line.split_whitespace().nth(2)?.parse().ok()
}

fn drops(lab: &Lab<'_>, reason: &str) -> u64 {
    let stats = lab.cmd(&["stats", "minikube", "-o", "json"]).ok().json();
    stats["nodes"][0]["drops"][reason].as_u64().unwrap_or(0)
}

/// NAT-30, NAT-33: ten idle minutes, in which a connection of five days does not age noticeably, shortened six hundred
/// times: a second of 720. Then idle beyond the timeout: the next segment picks the connection up, under its old port;
/// and with `tcpLoose: false`, set in the running lab, it does not.
#[test]
fn an_idle_tcp_connection_lives_as_long_as_the_lab_file_says() {
    if !runs_here(&NEEDS) {
        return;
    }
    let world = World::new();
    let scaled = with_options(&world, "scaled.yaml", "{timeouts: {tcpEstablished: 720s}}");
    let lab = world.up(&["--backend", "tap", "-f", &scaled]);
    let mut server = Talker::serve(&lab, "node/minikube-m02", "server", PORT);
    let mut client = Talker::connect(&lab, "a", "client", (OUTSIDE, PORT), 4000);
    client.say("first");
    server.hears("first");
    client.hears("first from 172.16.30.3 4000");
    let idle = |most: u64| {
        let condition = || kept_for(&lab).filter(|left| *left <= most);
        eventually(DEADLINE, "the connection to age", condition)
    };
    let aged = idle(716);
    assert!(aged > 0, "the connection is there still");
    client.say("second");
    client.hears("second from 172.16.30.3 4000");
    assert!(
        kept_for(&lab).is_some_and(|left| left > aged),
        "what it says makes it young again"
    );

    // The same lab, with a timeout that is over soon.
    let up = |file: &str| {
        let words = ["up", "--name", &lab.name, "--backend", "tap", "-f", file];
        world.podwire(&words).ok();
    };
    let gone = || {
        let gone = || kept_for(&lab).is_none().then_some(());
        eventually(DEADLINE, "the connection to be forgotten", gone);
    };
    up(&with_options(
        &world,
        "short.yaml",
        "{timeouts: {tcpEstablished: 1s}}",
    ));
    client.say("third");
    client.hears("third from 172.16.30.3 4000");
    gone();
    client.say("fourth");
    client.hears("fourth from 172.16.30.3 4000");
    up(&with_options(
        &world,
        "strict.yaml",
        "{tcpLoose: false, timeouts: {tcpEstablished: 1s}}",
    ));
    gone();
    let before = drops(&lab, "conntrack-invalid");
    client.say("fifth");
    eventually(DEADLINE, "the segment to be INVALID", || {
        (drops(&lab, "conntrack-invalid") > before).then_some(())
    });
    assert_eq!(kept_for(&lab), None);
    // Allowed again, the kernel's next try passes.
    up(&with_options(&world, "loose.yaml", "{tcpLoose: true}"));
    client.hears("fifth from 172.16.30.3 4000");
}

/// What is set is what is shown; a table can become smaller in a running lab, but not larger.
#[test]
fn options_of_tracking_are_shown_and_changed() {
    let world = World::new();
    let file = |name, options| with_options(&world, name, options);
    let first = file(
        "a.yaml",
        "{max: 100, tcpBeLiberal: true, timeouts: {udp: 1500ms}}",
    );
    let lab = world.up(&["--backend", "inproc", "-f", &first]);
    let shown = lab.out(&["nat", "-n", "minikube", "sysctl"]);
    for line in [
        "net.netfilter.nf_conntrack_max = 100",
        "net.netfilter.nf_conntrack_tcp_be_liberal = 1",
        "net.netfilter.nf_conntrack_udp_timeout = 1.5",
        "net.netfilter.nf_conntrack_udp_timeout_stream = 120",
    ] {
        assert!(shown.lines().any(|l| l == line), "{line} in\n{shown}");
    }
    let up = |file: &str| {
        let words = ["up", "--name", &lab.name, "--backend", "inproc", "-f", file];
        world.podwire(&words)
    };
    let rules = lab.out(&["nat", "-n", "minikube", "rules"]);
    assert!(!rules.contains("random-fully"), "{rules}");
    up(&file("b.yaml", "{max: 50, randomPorts: true}")).ok();
    let rules = lab.out(&["nat", "-n", "minikube", "rules"]);
    assert!(rules.contains(" random-fully\n"), "{rules}");
    let json = lab
        .cmd(&["nat", "-n", "minikube", "sysctl", "-o", "json"])
        .ok()
        .json();
    assert_eq!(json["net.netfilter.nf_conntrack_max"], "50");
    assert_eq!(json["net.netfilter.nf_conntrack_udp_timeout"], "30");
    up(&file("c.yaml", "{max: 51}")).fails(3, &["a larger conntrack.max"]);
}

/// NAT-66: the limit of the lab file is the table's: unanswered connections make room for new ones.
#[test]
fn the_limit_of_the_lab_file_holds() {
    let world = World::new();
    let lab = world.up(&[
        "--backend",
        "inproc",
        "-f",
        &with_options(&world, "small.yaml", "{max: 3, timeouts: {icmp: 1h}}"),
    ]);
    for _ in 0..5 {
        lab.cmd(&["ping", "a", "8.8.8.8", "-c", "1"]).ok();
    }
    let shown = lab.out(&["nat", "-n", "minikube", "sysctl"]);
    let count = "net.netfilter.nf_conntrack_count = 3";
    assert!(shown.lines().any(|line| line == count), "{shown}");
    let stats = lab.cmd(&["stats", "minikube", "-o", "json"]).ok().json();
    assert_eq!(
        stats["nodes"][0]["events"]["connection-evicted"], 2,
        "{stats}"
    );
}

/// Every mistake is told with its place.
#[test]
fn mistakes_in_options_of_tracking_have_their_place() {
    let world = World::new();
    let text = "\
apiVersion: podwire/v1
kind: Lab
network:
  conntrack:
    max: 0
    tcpLose: true
    checksum: sometimes
    timeouts:
      tcpEstablishd: 1h
      udp: 30
      icmp: 0s
";
    let file = world.file("bad.yaml", text);
    world.podwire(&["up", "-f", &file]).fails(
        3,
        &[
            "bad.yaml:5:10: max must be a whole number from 1 to 4194304, not \"0\"",
            "bad.yaml:6:5: unknown key \"tcpLose\" in conntrack; did you mean \"tcpLoose\"?",
            "bad.yaml:7:15: \"sometimes\" is neither true nor false",
            "bad.yaml:9:7: unknown key \"tcpEstablishd\" in timeouts; did you mean \"tcpEstablished\"?",
            "bad.yaml:10:12: udp must be a whole number with a unit (500ms, 90s, 5m, 24h, 7d), not \"30\"",
            "bad.yaml:11:13: icmp must be from 1ms to 365d, not \"0s\"",
        ],
    );
}

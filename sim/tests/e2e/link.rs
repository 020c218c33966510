//! `podwire link` and impairments in lab files: what pings see of them, and what is counted.

use serde_json::Value;

use crate::harness::{Lab, Need, World, eventually, kill, runs_here};

use std::time::Duration;

use rustix::process::Signal;

const LIMIT: Duration = Duration::from_secs(20);

fn two_pods<'w>(world: &'w World, backend: &str) -> Lab<'w> {
    let lab = world.up(&["--preset", "kindnet", "--nodes", "2", "--backend", backend]);
    lab.run_pod("a", "minikube");
    lab.run_pod("b", "minikube-m02");
    // Everybody knows everybody's MAC from here on.
    lab.cmd(&["ping", "a", "b", "-c", "1"]).ok();
    lab
}

/// The least round trip of some pings from pod a, milliseconds: what the machine's load adds is never negative.
pub(crate) fn least(lab: &Lab<'_>, to: &str, count: &str) -> f64 {
    let text = lab.out(&["ping", "a", to, "-c", count, "-i", "0.01"]);
    let line = text
        .lines()
        .find(|line| line.starts_with("rtt "))
        .expect("statistics");
    let values = line.split(" = ").nth(1).expect("values");
    values
        .split('/')
        .next()
        .and_then(|least| least.parse().ok())
        .expect("a number")
}

/// One direction of a link, of those that `link show` tells of.
pub(crate) fn shown(lab: &Lab<'_>, node: &str, direction: &str) -> Value {
    let all = lab.cmd(&["link", "show", "-o", "json"]).ok().json();
    let links = all["links"].as_array().expect("a list").iter();
    let mut found = links.filter(|link| link["node"] == node && link["direction"] == direction);
    let link = found.next().expect("it is impaired").clone();
    assert_eq!(link["conserved"], true, "{link}");
    link
}

fn a_link_is_impaired_while_it_is_used(backend: &str) {
    let world = World::new();
    let lab = two_pods(&world, backend);
    lab.cmd(&["link", "set", "a", "--delay", "20ms"]).ok();
    let both = least(&lab, "b", "5");
    assert!(both >= 40.0, "{both}");
    lab.cmd(&["link", "set", "a", "--delay", "0ms", "--direction", "in"])
        .ok();
    let one = least(&lab, "b", "20");
    assert!((20.0..both).contains(&one), "{one} of {both}");
    lab.cmd(&["link", "set", "a", "--clear"]).ok();
    assert!(lab.out(&["link", "show"]).contains("No link is impaired"));

    // The same seed loses the same ones.
    let losses = || {
        lab.cmd(&[
            "link",
            "set",
            "b",
            "--clear",
            "--loss",
            "50%",
            "--seed",
            "1",
            "--direction",
            "in",
        ])
        .ok();
        lab.cmd(&["link", "set", "b", "--seed", "7", "--direction", "in"])
            .ok();
        lab.cmd(&["ping", "a", "b", "-c", "20", "-i", "0.01", "-W", "0.3"])
            .fails(1, &[])
            .stdout
    };
    let heard = |text: &str| -> Vec<String> {
        let words = text
            .split_whitespace()
            .filter(|word| word.starts_with("icmp_seq="));
        words.map(str::to_owned).collect()
    };
    let (first, second) = (heard(&losses()), heard(&losses()));
    assert!(!first.is_empty() && first == second, "{first:?} {second:?}");
    let link = shown(&lab, "minikube-m02", "out");
    assert_eq!(link["impairments"], "loss 50% seed 7");
    assert!(link["counts"]["lost"].as_u64() >= Some(2), "{link}");

    lab.cmd(&[
        "link",
        "set",
        "b",
        "--clear",
        "--duplicate",
        "100%",
        "--direction",
        "out",
    ])
    .ok();
    // ping ends when it has as many answers as it asked for, copies among them: how it ends doesn't matter.
    let said = lab.cmd(&["ping", "a", "b", "-c", "3", "-i", "0.05"]).stdout;
    assert!(said.contains("(DUP!)"), "{said}");
    lab.cmd(&["stats"]).ok();

    lab.cmd(&["link", "set", "b", "--clear"]).ok();
    lab.cmd(&["link", "down", "b"]).ok();
    let said = lab
        .cmd(&["ping", "a", "b", "-c", "1", "-W", "0.3"])
        .fails(1, &[])
        .stdout;
    assert!(said.contains("100% packet loss"), "{said}");
    assert_eq!(shown(&lab, "minikube-m02", "in")["up"], false);
    lab.cmd(&["link", "up", "b"]).ok();
    lab.cmd(&["ping", "a", "b", "-c", "1"]).ok();
}

#[test]
fn a_link_is_impaired_while_it_is_used_in_process() {
    a_link_is_impaired_while_it_is_used("inproc");
}

#[test]
fn a_link_is_impaired_while_it_is_used_on_packet() {
    if runs_here(&[Need::Packet]) {
        a_link_is_impaired_while_it_is_used("packet");
    }
}

#[test]
fn a_link_is_impaired_while_it_is_used_on_tap() {
    if runs_here(&[Need::Tap]) {
        a_link_is_impaired_while_it_is_used("tap");
    }
}

#[test]
fn impairments_survive_the_death_of_a_node_process() {
    let world = World::new();
    let lab = two_pods(&world, "inproc");
    lab.cmd(&[
        "link",
        "set",
        "minikube:eth0",
        "--delay",
        "30ms",
        "--direction",
        "out",
    ])
    .ok();
    kill(lab.node_pid("minikube"), Signal::KILL);
    eventually(LIMIT, "the node is back", || {
        let ping = lab.cmd(&["ping", "a", "b", "-c", "1", "-W", "0.5"]);
        ping.status.success().then_some(())
    });
    let rtt = least(&lab, "b", "3");
    assert!(rtt >= 30.0, "{rtt}");
    assert_eq!(shown(&lab, "minikube", "out")["impairments"], "delay 30ms");
}

#[test]
fn a_lab_file_impairs_pods_and_the_segment() {
    let world = World::new();
    let text = "apiVersion: podwire/v1\nkind: Lab\nnodes: 2\nsystemPods: false\nnetwork: {impairments: {delay: 10ms}}\npods:\n- {name: a, node: minikube, impairments: {out: {delay: 15ms}}}\n- {name: b, node: minikube-m02}\n";
    let file = world.file("impaired.yaml", text);
    let lab = world.up(&["-f", &file, "--backend", "inproc"]);
    lab.cmd(&["ping", "a", "b", "-c", "1"]).ok();
    let rtt = least(&lab, "b", "5");
    assert!(rtt >= 35.0, "{rtt}");
    assert_eq!(
        shown(&lab, "minikube-m02", "out")["impairments"],
        "delay 10ms"
    );
}

#[test]
fn what_makes_no_sense_for_a_link_is_said_clearly() {
    let world = World::new();
    let file = world.file(
        "wrong.yaml",
        "apiVersion: podwire/v1\nkind: Lab\npods:\n- {name: a, impairments: {delai: 5ms, loss: 5, reorder: 1%}}\n",
    );
    world.podwire(&["up", "-f", &file, "--dry-run"]).fails(
        3,
        &[
            "wrong.yaml:4:",
            "delai",
            "did you mean",
            "loss \"5\" is not a percentage",
        ],
    );
    let lab = two_pods(&world, "inproc");
    lab.cmd(&["link", "set", "a", "--delay", "20"])
        .fails(2, &["a time with a unit"]);
    lab.cmd(&["link", "set", "a", "--reorder", "5%"])
        .fails(2, &["without a delay"]);
    lab.cmd(&["link", "set", "minikube", "--delay", "5ms"])
        .fails(2, &["minikube:IF"]);
    lab.cmd(&["link", "down", "aa"])
        .fails(1, &["pod \"aa\" not found"]);
}

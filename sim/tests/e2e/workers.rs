//! Nodes with several workers: programs don't notice, and what the node tells is of all of them.

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{DEADLINE, Lab, Need, World, eventually, kill, runs_here};
use crate::talk::{NEEDS, Talker};

const NODE: &str = "minikube";
const PORT: u16 = 7000;
/// Another node's own address: outside of the cluster's, so that nodes masquerade.
const OUTSIDE: &str = "172.16.30.4";
const SERVICE: &str = "10.96.7.7";

/// Connections of each kind: enough that each worker has some.
const EACH: u16 = 8;

const LAB: &str = "
apiVersion: podwire/v1
kind: Lab
workers: 2
systemPods: false
pods:
- {name: a, node: minikube}
- {name: b, node: minikube}
- {name: web, node: minikube-m03, labels: {app: web}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.96.7.7
  selector: {app: web}
  ports: [{port: 80, targetPort: 7000}]
";

pub(crate) fn stats(lab: &Lab<'_>, node: &str) -> Value {
    let stats = lab.cmd(&["stats", node, "-o", "json"]).ok().json();
    stats["nodes"][0].clone()
}

/// The reply tuples of the node's TCP connections, sorted.
pub(crate) fn replies(lab: &Lab<'_>) -> Vec<String> {
    let words = ["nat", "-n", NODE, "sessions", "-p", "tcp", "-o", "json"];
    let json = lab.cmd(&words).ok().json();
    let all = json.as_array().expect("a list").iter();
    let mut all: Vec<String> = all.map(|s| s["reply"].to_string()).collect();
    all.sort();
    all
}

/// Threads of a node's process that are workers.
pub(crate) fn workers(lab: &Lab<'_>, node: &str) -> usize {
    let dir = format!("/proc/{}/task", lab.node_pid(node));
    std::fs::read_dir(dir)
        .expect("a process has threads")
        .count()
}

/// Masqueraded, some with another port because the pods want the same, and to a service: all are listed once, work both ways,
/// and go on when the process is killed.
#[test]
fn connections_are_divided_among_workers_and_survive_their_process() {
    if !runs_here(&NEEDS) {
        return;
    }
    let world = World::new();
    let file = world.file("lab.yaml", LAB);
    let lab = world.up(&["--backend", "tap", "-f", &file]);
    assert_eq!(workers(&lab, NODE), 2);
    let mut outside = Talker::serve(&lab, "node/minikube-m02", "outside", PORT);
    let mut web = Talker::serve(&lab, "web", "web", PORT);
    let mut clients: Vec<Talker> = (0..EACH)
        .flat_map(|n| {
            let (kept, service) = (4000 + n, 5000 + n);
            [
                (format!("a{n}"), "a", (OUTSIDE, PORT), kept),
                (format!("b{n}"), "b", (OUTSIDE, PORT), kept),
                (format!("s{n}"), "a", (SERVICE, 80), service),
            ]
        })
        .map(|(name, pod, to, sport)| {
            let mut client = Talker::connect(&lab, pod, &name, to, sport);
            client.say("before");
            client.hears("before");
            client
        })
        .collect();
    let before = replies(&lab);
    assert_eq!(before.len(), clients.len(), "{before:?}");
    let mut distinct = before.clone();
    distinct.dedup();
    assert_eq!(distinct, before, "no two have one tuple");
    eventually(DEADLINE, "the journal to be written", || {
        (stats(&lab, NODE)["journal_behind"] == false).then_some(())
    });

    let pid = lab.node_pid(NODE);
    kill(pid, Signal::KILL);
    outside.say("pushed");
    web.say("pushed");
    for client in &mut clients {
        client.hears("pushed");
        client.say("after");
        client.hears("after from");
    }
    assert_ne!(lab.node_pid(NODE), pid);
    assert_eq!(replies(&lab), before, "every port is what it was");
    assert_eq!(workers(&lab, NODE), 2);
    let now = stats(&lab, NODE);
    let all = u64::try_from(clients.len()).unwrap();
    assert_eq!(now["events"]["connection-restored"], all, "{now}");
    assert_eq!(now["workers"]["lost"], 0, "{now}");
    assert_eq!(now["conservation"]["holds"], true, "{now}");
    lab.cmd(&["nat", "-n", NODE, "flush"]).ok();
    assert!(replies(&lab).is_empty());
}

/// Each hop answers, a packet's story is told as one, and a capture has each place once with its packets in order.
#[test]
fn what_a_node_tells_is_of_all_its_workers() {
    let tools = ["ping", "traceroute", "iperf3"].map(Need::Tool);
    if !runs_here(&[Need::Tap]) || !runs_here(&tools) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["--backend", "tap", "--workers", "2", "--nodes", "2"]);
    lab.run_pod("a", NODE);
    lab.run_pod("b", "minikube-m02");
    let b = lab.ip_of("b");

    let path = world.path("all.pcapng");
    let mut capture = lab.spawn(&["capture", "--all", "-w", path.to_str().unwrap()]);
    capture.wait_for_line("capturing ");
    lab.cmd(&["exec", "a", "--", "ping", "-c", "5", "-i", "0.1", &b])
        .ok()
        .says("5 received");
    let hops = lab.out(&["exec", "a", "--", "traceroute", "-n", "-q", "1", &b]);
    for hop in ["10.244.0.1", OUTSIDE, b.as_str()] {
        assert!(hops.contains(hop), "{hops}");
    }
    capture.signal(Signal::INT);
    let (status, said) = capture.finish(DEADLINE);
    assert!(
        status.success() && said.contains("0 packets lost"),
        "{said}"
    );
    let file = std::fs::read(&path).unwrap();
    let blocks = |kind: u32| blocks(&file).filter(|(k, _)| *k == kind).count();
    // Section, one for each port and the drops of each node and the gateway; packets at both ends of each way.
    let (interfaces, packets) = (blocks(1), blocks(6));
    assert!(packets >= 5 * 2 * 4, "{packets} packets");
    let json = lab.cmd(&["stats", "-o", "json"]).ok().json();
    let nodes = json["nodes"].as_array().unwrap();
    let ports: usize = nodes
        .iter()
        .map(|node| node["ports"].as_array().unwrap().len() + 1)
        .sum();
    assert!(interfaces <= ports, "{interfaces} of {ports}");

    let told = lab.out(&["trace", "a", "b"]);
    assert!(told.contains("minikube-m02"), "{told}");
    let server = lab.spawn(&["exec", "b", "--", "iperf3", "-s", "-1"]);
    eventually(DEADLINE, "iperf3 to listen", || {
        let words = ["exec", "a", "--", "iperf3", "-c", &b, "-P", "8", "-n", "2M"];
        lab.cmd(&words).status.success().then_some(())
    });
    drop(server);
    for node in [NODE, "minikube-m02"] {
        let stats = stats(&lab, node);
        assert_eq!(stats["conservation"]["holds"], true, "{stats}");
    }
}

/// The blocks of a pcapng file by kind.
fn blocks(file: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    let word = |at: usize| {
        let bytes = file.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes))
    };
    let mut at = 0;
    std::iter::from_fn(move || {
        let (kind, len) = (word(at)?, usize::try_from(word(at + 4)?).ok()?);
        let block = file.get(at..at + len)?;
        at += len.max(12);
        Some((kind, block))
    })
}

#[test]
fn workers_are_a_number_that_a_running_lab_keeps() {
    let world = World::new();
    let lab = |workers: &str| {
        format!(
            "apiVersion: podwire/v1\nkind: Lab\nnodes: 1\nsystemPods: false\nworkers: {workers}\n"
        )
    };
    for wrong in ["0", "17", "two", "[1]"] {
        let file = world.file("wrong.yaml", &lab(wrong));
        world
            .podwire(&["up", "-f", &file, "--dry-run"])
            .fails(3, &["wrong.yaml:5:10", "workers"]);
    }
    world
        .podwire(&["up", "--workers", "0"])
        .fails(2, &["a number from 1 to 16 or \"auto\" is wanted"]);
    let two = world.file("two.yaml", &lab("2"));
    let auto = world.file("auto.yaml", &lab("auto"));
    let up = world.lab("");
    let first = ["up", "--name", &up.name, "--backend", "inproc", "-f", &two];
    let told = world.podwire(&first).ok().stderr;
    assert!(
        told.contains("the back end inproc has one worker per node"),
        "{told}"
    );
    assert_eq!(workers(&up, NODE), 1, "network stacks are one thread's");
    let words = ["up", "--name", &up.name, "--backend", "inproc", "-f"];
    let again = |more: &[&str]| world.podwire(&[&words, more].concat());
    again(&[&two]).ok();
    again(&[&auto, "--workers", "2"]).ok();
    again(&[&two, "--workers", "3"]).fails(3, &["runs with 2 workers per node"]);
}

//! TCP between real kernels while the process of a node on its way is killed (decision 10).

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{DEADLINE, Lab, World, eventually, find_key, kill, runs_here};
use crate::talk::{NEEDS, Talker};

const NODE: &str = "minikube";
const PORT: u16 = 7000;
/// Another node's own address: outside of the cluster's, so that nodes masquerade.
const OUTSIDE: &str = "172.16.30.4";
const SERVICE: &str = "10.96.7.7";

const LAB: &str = "
apiVersion: podwire/v1
kind: Lab
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

fn stats(lab: &Lab<'_>) -> Value {
    let stats = lab.cmd(&["stats", NODE, "-o", "json"]).ok().json();
    stats["nodes"][0].clone()
}

/// The reply tuples of the node's TCP connections, sorted.
fn replies(lab: &Lab<'_>) -> Vec<String> {
    let words = ["nat", "-n", NODE, "sessions", "-p", "tcp", "-o", "json"];
    let json = lab.cmd(&words).ok().json();
    let all = json.as_array().expect("a list").iter();
    let mut all: Vec<String> = all.map(|s| s["reply"].to_string()).collect();
    all.sort();
    all
}

/// Masqueraded with its port and with another one, translated to a service's endpoint, and plain: all of them go on, and
/// the far side may be the first to speak.
#[test]
fn connections_of_every_kind_go_on_when_their_node_is_killed() {
    if !runs_here(&NEEDS) {
        return;
    }
    let world = World::new();
    let file = world.file("lab.yaml", LAB);
    let lab = world.up(&["--backend", "tap", "-f", &file]);
    let mut outside = Talker::serve(&lab, "node/minikube-m02", "outside", PORT);
    let mut web = Talker::serve(&lab, "web", "web", PORT);
    let address = lab.ip_of("web");
    let mut clients = [
        ("kept", "a", (OUTSIDE, PORT), 4000),
        ("remapped", "b", (OUTSIDE, PORT), 4000),
        ("service", "a", (SERVICE, 80), 4001),
        ("plain", "b", (address.as_str(), PORT), 4001),
    ]
    .map(|(name, pod, to, sport)| {
        let mut client = Talker::connect(&lab, pod, name, to, sport);
        client.say("before");
        client.hears("before");
        client
    });
    let before = replies(&lab);
    assert_eq!(before.len(), 4, "{before:?}");
    let kept_its_port = |reply: &&String| reply.contains("\"dport\":400");
    assert_eq!(before.iter().filter(kept_its_port).count(), 3, "{before:?}");
    eventually(DEADLINE, "the journal to be written", || {
        (stats(&lab)["journal_behind"] == false).then_some(())
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
    assert_eq!(replies(&lab), before, "every port is what it was");
    assert_ne!(lab.node_pid(NODE), pid);
    let events = &stats(&lab)["events"];
    assert_eq!(events["connection-restored"], 4, "{events}");
    assert!(events.get("connection-lost").is_none(), "{events}");
    let table = lab.out(&["stats", NODE]);
    let told = "A connection that an earlier process of the node had goes on.";
    assert!(table.contains(told), "{table}");

    // Once more: what was taken over stands in the journal as well.
    eventually(DEADLINE, "the journal to be written", || {
        (stats(&lab)["journal_behind"] == false).then_some(())
    });
    kill(lab.node_pid(NODE), Signal::KILL);
    web.say("again");
    outside.say("again");
    for client in &mut clients {
        client.hears("again");
    }
    let json = lab.cmd(&["get", "nodes", NODE, "-o", "json"]).ok().json();
    assert_eq!(find_key(&json, "restarts"), Some(&2.into()), "{json:#}");
    assert_eq!(replies(&lab), before);
}

/// What the table of the new process has no room for is lost, and counted as such.
#[test]
fn what_cannot_be_restored_is_counted() {
    let world = World::new();
    let text = |max: u32| {
        format!(
            "apiVersion: podwire/v1\nkind: Lab\nnodes: 1\nnetwork: {{conntrack: {{max: {max}, timeouts: {{icmp: 1h}}}}}}\nsystemPods: false\npods: [{{name: a}}]\n"
        )
    };
    let file = world.file("lab.yaml", &text(8));
    let lab = world.up(&["--backend", "inproc", "-f", &file]);
    for _ in 0..5 {
        lab.cmd(&["ping", "a", "8.8.8.8", "-c", "1"]).ok();
    }
    eventually(DEADLINE, "the journal to be written", || {
        (stats(&lab)["journal_behind"] == false).then_some(())
    });
    // A smaller table takes effect at once for new connections, and for all with the next process.
    let smaller = world.file("smaller.yaml", &text(2));
    let words = [
        "up",
        "--name",
        &lab.name,
        "--backend",
        "inproc",
        "-f",
        &smaller,
    ];
    world.podwire(&words).ok();
    kill(lab.node_pid(NODE), Signal::KILL);
    let events = eventually(DEADLINE, "the node to be back", || {
        let output = lab.cmd(&["stats", NODE, "-o", "json"]);
        if !output.status.success() {
            return None;
        }
        let events = output.json()["nodes"][0]["events"].clone();
        events
            .get("connection-restored")
            .is_some()
            .then_some(events)
    });
    assert_eq!(events["connection-restored"], 2, "{events}");
    assert_eq!(events["connection-lost"], 3, "{events}");
}

//! What a node is told holds with each of its workers: policies, tunnels, impaired links.

use rustix::process::Signal;

use crate::harness::{DEADLINE, Lab, Need, World, eventually, kill, runs_here};
use crate::link::{least, shown};
use crate::talk::{NEEDS, Talker};
use crate::workers::{replies, stats, workers};

const NODE: &str = "minikube";
const WEB_NODE: &str = "minikube-m03";
const PORT: u16 = 7000;
const SERVICE: &str = "10.96.7.7";

/// Connections of a kind: enough that each worker has some.
const EACH: u16 = 10;

/// A client on one node, servers on it and on another one, each behind a service.
fn lab_file(head: &str) -> String {
    format!(
        "
apiVersion: podwire/v1
kind: Lab
workers: 2
systemPods: false
{head}
pods:
- {{name: a, node: {NODE}, labels: {{app: a}}}}
- {{name: c, node: {NODE}}}
- {{name: near, node: {NODE}, labels: {{app: web}}}}
- {{name: web, node: {WEB_NODE}, labels: {{app: web}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  clusterIP: {SERVICE}
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: {PORT}}}]
"
    )
}

const ALLOW_A: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: only-a}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress:
  - from: [{podSelector: {matchLabels: {app: a}}}]
    ports: [{port: 7000}]
";

/// How many of some connections from `pod` come about.
fn connected(lab: &Lab<'_>, pod: &str, to: &str) -> String {
    let script = format!(
        "
import socket
def tries():
    s = socket.socket()
    s.settimeout(0.4)
    return s.connect_ex(('{to}', {PORT})) == 0
print(sum(tries() for _ in range({EACH})))"
    );
    let said = lab.out(&["exec", pod, "--", "python3", "-c", &script]);
    said.trim().to_owned()
}

/// Connections from pod a to each of these places, each of which has said and heard something.
fn clients(lab: &Lab<'_>, to: &[(&str, u16)]) -> Vec<Talker> {
    let mut clients = Vec::new();
    for (place, &to) in (0..).zip(to) {
        for n in 0..EACH {
            let sport = 4000 + 100 * place + n;
            let name = format!("client-{sport}");
            let mut client = Talker::connect(lab, "a", &name, to, sport);
            client.say("before");
            client.hears("before");
            clients.push(client);
        }
    }
    clients
}

fn each_says(clients: &mut [Talker], word: &str) {
    for client in clients {
        client.say(word);
        client.hears(word);
    }
}

#[track_caller]
fn nothing_is_missing(lab: &Lab<'_>) {
    for node in [NODE, WEB_NODE] {
        assert_eq!(workers(lab, node), 2);
        let stats = stats(lab, node);
        assert_eq!(stats["workers"]["lost"], 0, "{stats}");
        assert_eq!(stats["conservation"]["holds"], true, "{stats}");
    }
}

/// NP-1: whichever worker a connection falls to, on the pod's own node or from another one.
#[test]
fn a_policy_holds_with_each_worker() {
    if !runs_here(&NEEDS) {
        return;
    }
    let world = World::new();
    let file = world.file("lab.yaml", &lab_file("networkPolicy: enforce"));
    let lab = world.up(&["--backend", "tap", "-f", &file]);
    let (near, web) = (lab.ip_of("near"), lab.ip_of("web"));
    let _servers = ["near", "web"].map(|pod| Talker::serve(&lab, pod, pod, PORT));
    let all = EACH.to_string();
    for to in [&near, &web] {
        assert_eq!(connected(&lab, "c", to), all, "nobody is isolated");
    }
    let policy = world.file("policy.yaml", ALLOW_A);
    lab.cmd(&["apply", "-f", &policy]).ok();
    for to in [&near, &web] {
        assert_eq!(connected(&lab, "c", to), "0");
    }
    let mut clients = clients(&lab, &[(&near, PORT), (&web, PORT), (SERVICE, 80)]);
    for node in [NODE, WEB_NODE] {
        let drops = stats(&lab, node)["drops"]["policy-ingress"].as_u64();
        assert!(drops >= Some(u64::from(EACH)), "{drops:?} on {node}");
    }
    lab.cmd(&["delete", "-f", &policy]).ok();
    each_says(&mut clients, "without");
    for to in [&near, &web] {
        assert_eq!(connected(&lab, "c", to), all, "nobody is isolated any more");
    }
    nothing_is_missing(&lab);
}

/// Through the tunnel, to a service behind it, and masqueraded out of the cluster; all go on when the node's process is
/// killed.
#[test]
fn calico_s_tunnels_and_masquerade_work_with_each_worker() {
    if !runs_here(&NEEDS) || !runs_here(&[Need::Tool("iperf3")]) {
        return;
    }
    let world = World::new();
    let file = world.file("lab.yaml", &lab_file("preset: calico"));
    let lab = world.up(&["--backend", "tap", "-f", &file]);
    let web = lab.ip_of("web");
    let outside = "172.16.30.1";
    let _servers = ["near", "web"].map(|pod| Talker::serve(&lab, pod, pod, PORT));
    let mut clients = clients(&lab, &[(&web, PORT), (SERVICE, 80)]);
    lab.cmd(&["exec", "a", "--", "ping", "-c", "3", "-i", "0.05", outside])
        .ok()
        .says("3 received");

    let mut server = lab.spawn(&["exec", "web", "--", "iperf3", "-s", "-1", "--forceflush"]);
    server.wait_for_line("Server listening");
    let words = [
        "exec", "a", "--", "iperf3", "-c", &web, "-P", "8", "-t", "1", "-J",
    ];
    let report = lab.cmd(&words).ok().json();
    let received = report["end"]["sum_received"]["bytes"].as_u64();
    assert!(received >= Some(1 << 20), "{report:#}");
    let (status, text) = server.finish(DEADLINE);
    assert!(status.success(), "{text}");

    let before = replies(&lab);
    eventually(DEADLINE, "the journal to be written", || {
        (stats(&lab, NODE)["journal_behind"] == false).then_some(())
    });
    let pid = lab.node_pid(NODE);
    kill(pid, Signal::KILL);
    each_says(&mut clients, "after");
    assert_ne!(lab.node_pid(NODE), pid);
    let now = replies(&lab);
    assert!(before.iter().any(|reply| now.contains(reply)), "{now:?}");
    nothing_is_missing(&lab);
}

/// While a link is impaired one worker has all of it; connections that the others had go on, then and afterwards.
#[test]
fn an_impaired_link_is_one_however_many_workers_there_are() {
    if !runs_here(&NEEDS) || !runs_here(&[Need::Tool("ping")]) {
        return;
    }
    let world = World::new();
    let file = world.file("lab.yaml", &lab_file(""));
    let lab = world.up(&["--backend", "tap", "-f", &file]);
    let (near, web) = (lab.ip_of("near"), lab.ip_of("web"));
    let _servers = ["near", "web"].map(|pod| Talker::serve(&lab, pod, pod, PORT));
    let mut clients = clients(&lab, &[(&near, PORT), (&web, PORT), (SERVICE, 80)]);

    lab.cmd(&["link", "set", "a", "--delay", "20ms"]).ok();
    let both = least(&lab, "web", "5");
    assert!(both >= 40.0, "{both}");
    each_says(&mut clients, "delayed");
    assert!(shown(&lab, NODE, "out")["counts"]["received"].as_u64() > Some(0));
    lab.cmd(&["link", "set", "a", "--clear"]).ok();
    each_says(&mut clients, "cleared");
    nothing_is_missing(&lab);
}

//! Host ports and forwarded ports, with real clients and servers.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Background, DEADLINE, Lab, Need, World, eventually, run, runs_here};

/// Programs need a moment until they listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers with its host name and the client's address as it sees it: HTTP on port 80, and datagrams on port 53.
const SERVER: &str = "
import http.server as h, socket, threading
me = socket.gethostname()
class Handler(h.BaseHTTPRequestHandler):
  def do_GET(self):
    body = (me + ' ' + self.client_address[0]).encode()
    self.send_response(200)
    self.send_header('Content-Length', str(len(body)))
    self.end_headers()
    self.wfile.write(body)
def datagrams():
  s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
  s.bind(('', 53))
  while True:
    data, client = s.recvfrom(1000)
    s.sendto((me + ' ' + client[0]).encode(), client)
threading.Thread(target=datagrams, daemon=True).start()
h.ThreadingHTTPServer(('ADDRESS', 80), Handler).serve_forever()
";

/// Asks with a datagram from port 5555 to the address and port in its arguments, a few times.
const ASK: &str = "
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('', 5555))
s.settimeout(2)
s.connect((sys.argv[1], int(sys.argv[2])))
s.send(b'who')
print(s.recv(1000).decode())
";

fn needs() -> Vec<Need> {
    vec![Need::Tap, Need::Tool("curl"), Need::Tool("python3")]
}

fn serve(lab: &Lab<'_>, pod: &str, node: &str, options: &[&str]) {
    let program = SERVER.replace("ADDRESS", "");
    let mut words = vec!["run", pod, "--node", node];
    words.extend(options);
    words.extend(["--", "python3", "-c", &program]);
    lab.cmd(&words).ok();
    // By its own address, so that no host port is needed to see that it is there.
    let url = format!("http://{}/", lab.ip_of(pod));
    eventually(PATIENCE, pod, || curl(lab, pod, &url).ok());
    eventually(PATIENCE, pod, || ask(lab, pod, &lab.ip_of(pod), 53).ok());
}

/// Host name of the server and the client that it saw; else the client's exit status.
type Answer = Result<(String, String), Option<i32>>;

fn curl(lab: &Lab<'_>, from: &str, url: &str) -> Answer {
    let args = ["exec", from, "--", "curl", "-sS", "--max-time", "4", url];
    answer(lab, &args)
}

fn ask(lab: &Lab<'_>, from: &str, address: &str, port: u16) -> Answer {
    let port = port.to_string();
    let args = ["exec", from, "--", "python3", "-c", ASK, address, &port];
    answer(lab, &args)
}

fn answer(lab: &Lab<'_>, args: &[&str]) -> Answer {
    let output = lab.cmd(args);
    match output.stdout.trim().split_once(' ') {
        Some((pod, client)) if output.status.success() => Ok((pod.to_owned(), client.to_owned())),
        _ => Err(output.status.code()),
    }
}

fn node_address(lab: &Lab<'_>, node: &str) -> String {
    let json = lab.cmd(&["get", "nodes", node, "-o", "json"]).ok().json();
    let addresses = json["status"]["addresses"].as_array().unwrap().clone();
    let mut internal = addresses.iter().filter(|it| it["type"] == "InternalIP");
    internal.next().unwrap()["address"]
        .as_str()
        .unwrap()
        .to_owned()
}

const HERE: &str = "minikube-m02";

/// Who is seen as the client by the pod `web` behind a host port, by curl and by datagrams.
fn host_ports_lead_to_the_pod(preset: &str) {
    if !runs_here(&needs()) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["--backend", "tap", "--preset", preset]);
    let before = lab.out(&["nat", "-n", HERE, "rules"]);
    serve(&lab, "web", HERE, &["--port", "8080:80,8053:53/udp"]);
    lab.run_pod("beside", HERE);
    lab.run_pod("far", "minikube");
    let (here, there) = (node_address(&lab, HERE), node_address(&lab, "minikube"));
    let web = lab.ip_of("web");
    // Whoever the plugin masquerades is seen as what the node is towards its pods: the gateway on kindnet, the node on Calico.
    let gateway = if preset == "kindnet" {
        "10.244.1.1".to_owned()
    } else {
        here.clone()
    };
    let beside = match preset {
        "kindnet" => gateway.clone(),
        _ => lab.ip_of("beside"),
    };
    let of_node = format!("node/{HERE}");
    let others: Vec<(&str, &str, &str)> = vec![
        ("beside", &here, &beside),
        // Its own hairpin.
        ("web", &here, &gateway),
        ("far", &here, &there),
        ("node/minikube", &here, &there),
        ("node/minikube-m03", &here, ""),
        (&of_node, &here, &here),
        (&of_node, "127.0.0.1", &gateway),
    ];
    for (from, to, seen) in others {
        let asked = [
            curl(&lab, from, &format!("http://{to}:8080/")),
            ask(&lab, from, to, 8053),
        ];
        for answer in asked {
            let (pod, client) = answer.unwrap_or_else(|code| panic!("{from} to {to}: {code:?}"));
            assert_eq!(pod, "web", "{from} to {to}");
            if !seen.is_empty() {
                assert_eq!(client, seen, "{from} to {to}");
            }
        }
    }
    // Other ports are the node's own, where nobody listens; other nodes know nothing of these.
    for url in [
        format!("http://{here}:8081/"),
        format!("http://{there}:8080/"),
    ] {
        assert_eq!(curl(&lab, "far", &url), Err(Some(7)), "{url}");
    }
    let local = "http://127.0.0.1:8081/";
    assert_eq!(curl(&lab, &of_node, local), Err(Some(7)));

    let rules = lab.out(&["nat", "-n", HERE, "rules"]);
    for wanted in [
        "CNI-HOSTPORT-DNAT".to_owned(),
        "CNI-HOSTPORT-SETMARK".to_owned(),
        "CNI-HOSTPORT-MASQ".to_owned(),
        format!("tcp dpt:8080 to:{web}:80"),
        format!("udp dpt:8053 to:{web}:53"),
    ] {
        assert!(rules.contains(&wanted), "{wanted} in\n{rules}");
    }
    let described = lab.out(&["describe", "pod", "web"]);
    assert!(
        described.contains("Host Ports:         8080/TCP, 8053/UDP"),
        "{described}"
    );
    let json = lab.cmd(&["get", "pod", "web", "-o", "json"]).ok().json();
    let port = &json["spec"]["containers"][0]["ports"][1];
    assert_eq!(port["hostPort"], 8053);
    assert_eq!(port["protocol"], "UDP");

    // PM-7: the next datagram of a client that has a connection goes to the pod that has the port now.
    let asks = || ask(&lab, "node/minikube", &here, 8053).map(|(pod, _)| pod);
    assert_eq!(asks(), Ok("web".to_owned()));
    lab.cmd(&["delete", "pod", "web"]).ok();
    assert_eq!(
        asks(),
        Err(Some(1)),
        "nobody answers for a pod that is gone"
    );
    serve(&lab, "web2", HERE, &["--port", "8053:53/udp"]);
    assert_eq!(asks(), Ok("web2".to_owned()));

    // PM-9: nothing is left, and a second DEL finds nothing to do.
    lab.cmd(&["delete", "pod", "web2"]).ok();
    lab.cmd(&["delete", "pod", "web2"]).fails(1, &["not found"]);
    lab.cmd(&["delete", "pod", "beside"]).ok();
    let chains = |text: &str| -> Vec<String> {
        let heads = text.lines().filter(|line| line.starts_with("Chain "));
        heads
            .map(|line| line.split(" (").next().unwrap().to_owned())
            .collect()
    };
    let after = lab.out(&["nat", "-n", HERE, "rules"]);
    assert_eq!(chains(&after), chains(&before));
    let rules = lab.out(&["exec", &of_node, "--", "ip", "rule"]);
    assert!(rules.starts_with("0:\tfrom all lookup local"), "{rules}");
}

/// PM-1, PM-2, PM-3, PM-4, PM-5, PM-7, PM-9: on kindnet, where a whole podCIDR is the pod's subnet.
#[test]
fn host_ports_lead_to_the_pod_on_kindnet() {
    host_ports_lead_to_the_pod("kindnet");
}

/// PM-1, PM-2, PM-3, PM-4, PM-5, PM-7, PM-9: on Calico, where the pod alone is.
#[test]
fn host_ports_lead_to_the_pod_on_calico() {
    host_ports_lead_to_the_pod("calico");
}

/// PM-1, PM-3: on podman's bridge, whose plugin is in the conflist.
#[test]
fn host_ports_lead_to_the_pod_on_a_bridge() {
    if !runs_here(&needs()) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["--backend", "tap", "--preset", "podman-bridge"]);
    let nodes = lab.out(&["get", "nodes", "-o", "name"]);
    let node = nodes.lines().next().unwrap().trim_start_matches("node/");
    serve(&lab, "web", node, &["--port", "8080:80"]);
    lab.run_pod("beside", node);
    let address = node_address(&lab, node);
    let gateway = "10.88.0.1".to_owned();
    let of_node = format!("node/{node}");
    for (from, to, seen) in [
        ("beside", address.as_str(), &gateway),
        ("web", &address, &gateway),
        (&of_node, &address, &address),
        (&of_node, "127.0.0.1", &gateway),
    ] {
        let found = curl(&lab, from, &format!("http://{to}:8080/"));
        assert_eq!(
            found,
            Ok(("web".to_owned(), seen.clone())),
            "{from} to {to}"
        );
    }
}

/// PM-10: twenty ports of one pod, each of which leads to its own.
#[test]
fn more_ports_than_multiport_takes() {
    if !runs_here(&needs()) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["--backend", "tap", "--nodes", "2"]);
    let many = (0..20).map(|n| format!("{}:80", 8080 + n));
    let many = many.collect::<Vec<_>>().join(",");
    serve(&lab, "web", HERE, &["--port", &many]);
    let here = node_address(&lab, HERE);
    for port in [8080, 8094, 8095, 8099] {
        for from in ["node/minikube", "node/minikube-m02"] {
            let found = curl(&lab, from, &format!("http://{here}:{port}/"));
            assert_eq!(
                found.map(|(pod, _)| pod),
                Ok("web".to_owned()),
                "{from} {port}"
            );
        }
    }
}

const ONLY_BESIDE: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: only-beside}
spec:
  podSelector: {matchLabels: {run: web}}
  ingress:
  - from: [{podSelector: {matchLabels: {run: beside}}}]
    ports: [{port: 80}]
";

/// PM-11: behind a host port the policy sees the pod's own port, not the node's, and the client before it is masqueraded: of two
/// clients that the server would see as the same gateway one is let in.
#[test]
fn policies_judge_what_host_ports_lead_to() {
    if !runs_here(&needs()) {
        return;
    }
    let world = World::new();
    let lab = world.up(&[
        "--backend",
        "tap",
        "--nodes",
        "2",
        "--network-policy",
        "enforce",
    ]);
    serve(&lab, "web", HERE, &["--port", "8080:80"]);
    lab.run_pod("beside", HERE);
    lab.run_pod("other", HERE);
    let url = format!("http://{}:8080/", node_address(&lab, HERE));
    let gateway = Ok(("web".to_owned(), "10.244.1.1".to_owned()));
    assert_eq!(curl(&lab, "beside", &url), gateway);
    assert_eq!(curl(&lab, "other", &url), gateway);
    let file = world.file("policy.yaml", ONLY_BESIDE);
    lab.cmd(&["apply", "-f", &file]).ok();
    assert_eq!(curl(&lab, "beside", &url), gateway);
    assert_eq!(curl(&lab, "other", &url), Err(Some(28)));
    let by_host_port = ONLY_BESIDE.replace("port: 80}", "port: 8080}");
    let file = world.file("policy.yaml", &by_host_port);
    lab.cmd(&["apply", "-f", &file]).ok();
    assert_eq!(curl(&lab, "beside", &url), Err(Some(28)));
}

const TWO_PODS: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  nodeName: minikube
  containers:
  - name: c
    ports: [{containerPort: 80, hostPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: b}
spec:
  nodeName: minikube
  containers:
  - name: c
    ports:
    - {containerPort: 80, hostPort: 8080, hostIP: 172.16.30.3}
";

/// PM-8: bad host ports and those that somebody has are refused, at their place where there is one, on every back end.
#[test]
fn bad_and_taken_host_ports_are_refused() {
    let world = World::new();
    let file = world.file("two.yaml", TWO_PODS);
    world.podwire(&["up", "--backend", "inproc", "--name", "bad", "-f", &file]).fails(
        3,
        &["two.yaml:18:37: hostPort 8080/TCP of pod \"default/b\" belongs to pod \"default/a\" on node \"minikube\" already"],
    );
    let lab = world.up(&["--backend", "inproc"]);
    lab.cmd(&["apply", "-f", &file]).fails(
        3,
        &["two.yaml:18:37: hostPort 8080/TCP of pod \"b\" belongs to pod \"default/a\" on node \"minikube\" already"],
    );
    let run = |port: &str| lab.cmd(&["run", "x", "--node", "minikube", "--port", port]);
    run("8080:81").fails(3, &["belongs to pod \"default/a\""]);
    run("127.0.0.1:8080:81").fails(3, &["belongs to pod \"default/a\""]);
    for (port, says) in [
        ("8080", "is no HOST:POD"),
        ("0:80", "\"0\" is no port of the node"),
        ("80:65536", "\"65536\" is no port of the pod"),
        ("80:80/tpc", "did you mean \"tcp\"?"),
        ("8090-8080:80-90", "reversed"),
        ("81:80,81:82", "twice"),
    ] {
        run(port).fails(2, &[says]);
    }
    // Another node, protocol or address is another port.
    lab.cmd(&["run", "x", "--node", "minikube-m02", "--port", "8080:80"])
        .ok();
    lab.cmd(&[
        "run",
        "y",
        "--node",
        "minikube",
        "--port",
        "8080:80/udp,127.0.0.1:81:80,172.16.30.3:81:81",
    ])
    .ok();
    lab.cmd(&["delete", "pod", "a"]).ok();
    lab.cmd(&["run", "z", "--node", "minikube", "--port", "8080:81"])
        .ok();
}

fn port_of(line: &str) -> u16 {
    let address = line.trim_start_matches("Forwarding from ");
    let port = address.split(" -> ").next().unwrap().rsplit(':').next();
    port.unwrap().parse().unwrap()
}

fn curl_here(port: u16) -> (bool, String) {
    let mut command = Command::new("curl");
    let url = format!("http://127.0.0.1:{port}/");
    command.args(["-sS", "--max-time", "5", &url]);
    let output = run(command, DEADLINE);
    (output.status.success(), output.stdout)
}

fn forwarding(lab: &Lab<'_>, words: &[&str]) -> (Background, u16) {
    let mut args = vec!["port-forward"];
    args.extend(words);
    let mut forward = lab.spawn(&args);
    let port = port_of(&forward.wait_for_line("Forwarding from 127.0.0.1:"));
    (forward, port)
}

/// Decision 20: `port-forward` brings a program of this machine to one in the pod, also to one that listens on the pod's loopback
/// only; Ctrl-C ends it, and so does the end of the pod.
#[test]
fn forwarded_ports_lead_into_the_pod() {
    if !runs_here(&needs()) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["--backend", "tap", "--nodes", "1"]);
    let program = SERVER.replace("ADDRESS", "127.0.0.1");
    lab.cmd(&["run", "web", "--", "python3", "-c", &program])
        .ok();
    eventually(PATIENCE, "web", || {
        curl(&lab, "web", "http://127.0.0.1/").ok()
    });
    let (mut forward, port) = forwarding(&lab, &["web", ":80", ":81"]);
    let second = port_of(&forward.wait_for_line(" -> 81"));
    assert_eq!(curl_here(port), (true, "web 127.0.0.1".to_owned()));
    forward.wait_for_line(&format!("Handling connection for {port}"));
    assert_eq!(curl_here(port), (true, "web 127.0.0.1".to_owned()));
    // Nobody listens there: this connection fails, and forwarding goes on.
    assert!(!curl_here(second).0);
    forward.wait_for_line(&format!(
        "an error occurred forwarding {second} -> 81: Connection refused"
    ));
    assert!(curl_here(port).0);
    forward.signal(Signal::INT);
    let (status, text) = forward.finish(DEADLINE);
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(!curl_here(port).0, "nobody listens here any more");

    // kubectl's other ways to write it.
    let (forward, port) = forwarding(&lab, &["-n", "default", "pod/web", "0:80"]);
    assert!(curl_here(port).0);
    lab.cmd(&["delete", "pod", "web"]).ok();
    assert!(!curl_here(port).0);
    let (status, text) = forward.finish(DEADLINE);
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains("lost connection to pod"), "{text}");

    lab.run_pod("idle", "minikube");
    let (forward, _) = forwarding(&lab, &["idle", ":80"]);
    lab.down().ok();
    let (status, text) = forward.finish(DEADLINE);
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains("lost connection to pod"), "{text}");
}

/// What can't be forwarded is said as kubectl says it.
#[test]
fn what_can_not_be_forwarded_is_told() {
    let world = World::new();
    let lab = world.up(&["--backend", "inproc", "--nodes", "1"]);
    lab.run_pod("web", "minikube");
    let forward = |words: &[&str]| {
        let mut args = vec!["port-forward"];
        args.extend(words);
        lab.cmd(&args)
    };
    forward(&["wep", "80"]).fails(
        1,
        &["pod \"wep\" not found in namespace default; did you mean \"web\"?"],
    );
    forward(&["node/minikube", "80"]).fails(1, &["ports are forwarded to pods"]);
    forward(&["web"]).fails(2, &["[LOCAL]:PORT"]);
    for (word, says) in [
        ("80:0", "remote port must be > 0"),
        ("65536", "local port \"65536\" is no number up to 65535"),
        ("80:http", "remote port \"http\""),
    ] {
        forward(&["web", word]).fails(2, &[says]);
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    // ::1 of the same number may be free, and would be used.
    let _six = TcpListener::bind(format!("[::1]:{port}"));
    forward(&["web", &format!("{port}:80")]).fails(
        1,
        &[
            &format!("Unable to listen on port {port}: 127.0.0.1:{port}: Address already in use"),
            &format!("unable to listen on any of the requested ports: [{{{port} 80}}]"),
        ],
    );
    // Pods that are no namespaces have no programs.
    forward(&["web", ":80"]).fails(4, &[]);
}

/// Without privileges, too: host ports by all the node's addresses, and ports that are forwarded into the lab's user namespace.
#[test]
fn an_ordinary_user_has_host_ports_and_forwards() {
    if !runs_here(&[Need::Tool("curl"), Need::Tool("python3")]) {
        return;
    }
    let Some(world) = World::ordinary_user(true) else {
        return;
    };
    let lab = world.up(&["--preset", "kindnet", "--nodes", "2"]);
    serve(&lab, "web", HERE, &["--port", "8080:80"]);
    let here = node_address(&lab, HERE);
    let of_node = format!("node/{HERE}");
    for (from, to) in [
        ("web", here.as_str()),
        (&of_node, &here),
        (&of_node, "127.0.0.1"),
    ] {
        let found = curl(&lab, from, &format!("http://{to}:8080/"));
        assert_eq!(
            found.map(|(pod, _)| pod),
            Ok("web".to_owned()),
            "{from} to {to}"
        );
    }
    let (forward, port) = forwarding(&lab, &["web", ":80"]);
    assert_eq!(curl_here(port), (true, "web 127.0.0.1".to_owned()));
    forward.signal(Signal::TERM);
    let (status, text) = forward.finish(DEADLINE);
    assert_eq!(status.code(), Some(0), "{text}");
}

const OUTSIDE: &str = "
apiVersion: podwire/v1
kind: Lab
preset: PRESET
nodes:
- {name: minikube, controlPlane: true}
- {name: minikube-m02}
- {name: outside, podCIDR: none}
";

/// PM-1, PM-2: a machine on the underlay that is no part of the pods' network reaches the pod by its node, which hides nothing
/// from it and from which alone it hears.
#[test]
fn the_outside_reaches_host_ports() {
    if !runs_here(&needs()) {
        return;
    }
    let world = World::new();
    let file = world.file("outside.yaml", &OUTSIDE.replace("PRESET", "kindnet"));
    let lab = world.up(&["--backend", "tap", "-f", &file]);
    serve(&lab, "web", HERE, &["--port", "8080:80,8053:53/udp"]);
    let here = node_address(&lab, HERE);
    let out = node_address(&lab, "outside");
    let from = "node/outside";
    let seen = Ok(("web".to_owned(), out));
    assert_eq!(curl(&lab, from, &format!("http://{here}:8080/")), seen);
    assert_eq!(ask(&lab, from, &here, 8053), seen);
    let sessions = lab.out(&["nat", "-n", HERE, "sessions", "--dport", "8080"]);
    assert_eq!(sessions.lines().count(), 1, "{sessions}");
}

/// PM-1, PM-3, PM-8: without any privilege the rules are the same, and a trace names the one that decided and where it was written: from
/// another node, from a pod beside and from the node itself.
#[test]
fn host_ports_are_traced_on_every_back_end() {
    let world = World::new();
    for preset in ["kindnet", "calico"] {
        let lab = world.up(&["--backend", "inproc", "--preset", preset]);
        let file = world.file(
            "pod.yaml",
            &TWO_PODS
                .replace("nodeName: minikube\n", "nodeName: minikube-m02\n")
                .replace("172.16.30.3", "127.0.0.1")
                .replace("hostPort: 8080, ", "hostPort: 8081, "),
        );
        lab.cmd(&["apply", "-f", &file]).ok();
        lab.run_pod("beside", HERE);
        let here = node_address(&lab, HERE);
        let inside = format!("{}:80", lab.ip_of("a"));
        for from in ["beside", "node/minikube", "node/minikube-m02"] {
            let words = [
                "trace", from, &here, "--proto", "tcp", "--dport", "8080", "-o", "json",
            ];
            // Nobody listens in these pods: the answer is a reset, which the trace tells by its exit status.
            let json = lab.cmd(&words).json();
            let text = json.to_string();
            assert!(text.contains("hostPort of pod default/a"), "{from}: {text}");
            assert!(text.contains("pod.yaml:8:43"), "{from}: {text}");
            let text = lab.cmd(&words[..words.len() - 2]).stdout;
            assert!(text.contains(&inside), "{from}: {text}");
        }
        lab.down().ok();
    }
}

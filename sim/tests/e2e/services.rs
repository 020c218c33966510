//! Services and the cluster's names, with other people's resolvers and clients.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::harness::{Lab, Need, World, eventually, runs_here};

/// The pods answer with their name and with the client's address as they see it.
const WEB: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http, nodePort: 30080}]
---
apiVersion: v1
kind: Service
metadata: {name: near}
spec:
  type: NodePort
  externalTrafficPolicy: Local
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http, nodePort: 30081}]
---
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec:
  selector: {app: web}
  sessionAffinity: ClientIP
  ports: [{name: http, port: 80, targetPort: http}]
---
apiVersion: v1
kind: Service
metadata: {name: peers}
spec:
  clusterIP: None
  selector: {app: web}
  ports: [{name: http, port: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {type: ExternalName, externalName: example.com}
---
apiVersion: v1
kind: Service
metadata: {name: empty}
spec:
  selector: {app: nobody}
  ports: [{port: 80}]
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web}}
spec:
  nodeName: minikube-m02
  containers:
  - name: c
    ports: [{name: http, containerPort: 8080}]
    command: &server
    - python3
    - -c
    - |
      import http.server as h, socket
      class Handler(h.BaseHTTPRequestHandler):
        def do_GET(self):
          body = (socket.gethostname() + ' ' + self.client_address[0]).encode()
          self.send_response(200)
          self.send_header('Content-Length', str(len(body)))
          self.end_headers()
          self.wfile.write(body)
      h.ThreadingHTTPServer(('', 8080), Handler).serve_forever()
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, labels: {app: web}}
spec:
  nodeName: minikube-m03
  containers:
  - name: c
    ports: [{name: http, containerPort: 8080}]
    command: SERVER
"#;

/// Programs need a moment until they listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a draw between two pods is repeated until both were seen: a fair one fails once in 10^12 runs.
const DRAWS: usize = 40;

fn needs() -> Vec<Need> {
    let tools = ["curl", "python3", "getent", "ping"];
    let tools = tools.into_iter().map(Need::Tool);
    std::iter::once(Need::Tap).chain(tools).collect()
}

/// A lab with two web servers on different nodes, and a client on the third; all of them answer.
fn web<'w>(world: &'w World, preset: &str) -> Lab<'w> {
    let lab = world.up(&["--backend", "tap", "--preset", preset]);
    // Aliases do not reach from one document into the next.
    let command = WEB
        .split_once("command: &server\n")
        .and_then(|(_, rest)| rest.split_once("\n---"))
        .map(|(command, _)| format!("\n{command}"))
        .unwrap();
    let text = WEB.replace(" &server", "").replace(" SERVER", &command);
    let file = world.file("web.yaml", &text);
    lab.cmd(&["apply", "-f", &file]).ok();
    lab.run_pod("client", "minikube");
    lab.run_pod("beside", "minikube-m02");
    for pod in ["web-1", "web-2"] {
        let url = format!("http://{}:8080/", lab.ip_of(pod));
        eventually(PATIENCE, pod, || curl(&lab, "client", &url).ok());
    }
    lab
}

/// The pod that answered and the client that it saw; else curl's exit status.
fn curl(lab: &Lab<'_>, from: &str, url: &str) -> Result<(String, String), Option<i32>> {
    let args = ["exec", from, "--", "curl", "-sS", "--max-time", "3", url];
    let output = lab.cmd(&args);
    let words = output.stdout.trim().split_once(' ');
    match (output.status.success(), words) {
        (true, Some((pod, client))) => Ok((pod.to_owned(), client.to_owned())),
        _ => Err(output.status.code()),
    }
}

/// Asks until both pods have answered; what clients they saw.
#[track_caller]
fn both_answer(lab: &Lab<'_>, from: &str, url: &str) -> BTreeSet<(String, String)> {
    let mut seen = BTreeSet::new();
    for _ in 0..DRAWS {
        let answer = curl(lab, from, url);
        seen.insert(answer.unwrap_or_else(|code| panic!("{from} {url}: curl {code:?}")));
        let pods: BTreeSet<&str> = seen.iter().map(|(pod, _)| pod.as_str()).collect();
        if pods.len() == 2 {
            return seen;
        }
    }
    panic!("{from} {url}: always the same pod, {seen:?}");
}

fn address(lab: &Lab<'_>, service: &str) -> String {
    let listed = lab.out(&["get", "services"]);
    let columns = listed
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut found = columns.filter(|columns| columns[0] == service);
    found.next().unwrap()[2].to_owned()
}

fn node_address(lab: &Lab<'_>, node: &str) -> String {
    let listed = lab.out(&["get", "nodes", "-o", "wide"]);
    let mut lines = listed.lines().map(|line| line.split_whitespace());
    let mut of_node = lines.find_map(|mut line| (line.next() == Some(node)).then_some(line));
    of_node.as_mut().unwrap().nth(4).unwrap().to_owned()
}

fn services_carry(preset: &str) {
    if !runs_here(&needs()) {
        return;
    }
    let world = World::new();
    let lab = web(&world, preset);
    let cluster_ip = address(&lab, "web");
    let url = format!("http://{cluster_ip}/");
    for from in ["client", "beside"] {
        for (_, client) in both_answer(&lab, from, &url) {
            assert_eq!(client, lab.ip_of(from), "pods keep their address");
        }
    }
    both_answer(&lab, "node/minikube", &url);
    // Who is led to itself sees its node as the client.
    let own = lab.ip_of("web-1");
    for (pod, client) in both_answer(&lab, "web-1", &url) {
        assert_eq!(client == own, pod != "web-1", "{pod} sees {client}");
    }

    let (here, there) = (
        node_address(&lab, "minikube"),
        node_address(&lab, "minikube-m02"),
    );
    for from in ["node/minikube", "client"] {
        let url = format!("http://{there}:30080/");
        for (pod, client) in both_answer(&lab, from, &url) {
            assert_ne!(client, here, "{pod}: {there} masquerades");
            assert_ne!(client, lab.ip_of("client"), "{pod}: {there} masquerades");
        }
    }
    // From the node itself, by its address and by 127.0.0.1, as the node is seen towards the pods.
    for to in [here.as_str(), "127.0.0.1"] {
        both_answer(&lab, "node/minikube", &format!("http://{to}:30080/"));
        // The node has no endpoint of its own, and its own programs get to all of them nevertheless.
        both_answer(&lab, "node/minikube", &format!("http://{to}:30081/"));
    }
    // Of one node's pods only, with the client's address; silence where there is none.
    let near = format!("http://{there}:30081/");
    for _ in 0..5 {
        let answer = curl(&lab, "node/minikube", &near);
        assert_eq!(answer, Ok(("web-1".to_owned(), here.clone())));
    }
    let far = format!("http://{here}:30081/");
    assert_eq!(curl(&lab, "node/minikube-m02", &far), Err(Some(28)));

    let refused = format!("http://{}/", address(&lab, "empty"));
    for from in ["client", "node/minikube"] {
        assert_eq!(curl(&lab, from, &refused), Err(Some(7)), "{from}");
    }
    let ping = ["exec", "client", "--", "ping", "-c1", "-W1", &cluster_ip];
    assert!(!lab.cmd(&ping).status.success());

    let sticky = format!("http://{}/", address(&lab, "sticky"));
    let first = curl(&lab, "client", &sticky).unwrap();
    for _ in 0..10 {
        assert_eq!(curl(&lab, "client", &sticky), Ok(first.clone()));
    }
}

/// SVC-1, SVC-2, SVC-3, SVC-4, SVC-5, SVC-6: addresses and node ports of services on kindnet.
#[test]
fn services_carry_packets_on_kindnet() {
    services_carry("kindnet");
}

/// SVC-1, SVC-2, SVC-3, SVC-4, SVC-5, SVC-6: addresses and node ports of services on Calico.
#[test]
fn services_carry_packets_on_calico() {
    services_carry("calico");
}

/// SVC-11: the stub resolver of libc finds services by the search path, and two questions from one socket both get answers.
#[test]
fn pods_find_services_by_name() {
    if !runs_here(&needs()) {
        return;
    }
    let world = World::new();
    let lab = web(&world, "kindnet");
    let getent = |from: &str, name: &str| -> BTreeSet<String> {
        let output = lab.cmd(&["exec", from, "--", "getent", "ahostsv4", name]);
        let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
        output.stdout.lines().filter_map(first).collect()
    };
    let listed = lab.out(&["get", "services", "-n", "kube-system"]);
    assert!(listed.contains("10.96.0.10"), "{listed}");
    eventually(PATIENCE, "the name server", || {
        (!getent("client", "web").is_empty()).then_some(())
    });
    let web = BTreeSet::from([address(&lab, "web")]);
    for from in ["client", "beside"] {
        for name in ["web", "web.default", "web.default.svc.cluster.local"] {
            assert_eq!(getent(from, name), web, "{from} {name}");
        }
        let pods = BTreeSet::from([lab.ip_of("web-1"), lab.ip_of("web-2")]);
        assert_eq!(getent(from, "peers"), pods, "{from}");
        // With the dot at its end: other names are the simulated internet's, which has them all.
        assert!(getent(from, "nobody.default.svc.cluster.local.").is_empty());
    }
    // Two questions at once from one socket, for both families, over and over with sockets that are new.
    let script = "\
import socket
for _ in range(200):
    found = socket.getaddrinfo('web', 80, type=socket.SOCK_STREAM)
    print(found[0][4][0])";
    let found = lab.out(&["exec", "client", "--", "python3", "-c", script]);
    assert_eq!(found.lines().count(), 200);
    let found: BTreeSet<String> = found.lines().map(str::to_owned).collect();
    assert_eq!(found, web);
    assert!(curl(&lab, "client", "http://web/").is_ok());
    // The name server answers from its pod, and asks the simulated internet for others' names.
    let example = getent("client", "example.com.");
    assert!(!example.is_empty());
    assert_eq!(getent("client", "outside"), example);
}

/// Pods `udp-1` and `udp-2` answer datagrams with their names.
const UDP: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {app: udp, name: NAME}}
spec:
  nodeName: NODE
  containers:
  - name: c
    command:
    - python3
    - -c
    - |
      import socket
      s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
      s.bind(('', 9000))
      while True:
        s.sendto(socket.gethostname().encode(), s.recvfrom(100)[1])
"#;

/// SVC-7: a client that keeps its port is led to an endpoint that is left, though the one before still lives.
#[test]
fn udp_connections_end_with_their_endpoint() {
    if !runs_here(&[Need::Tap, Need::Tool("python3")]) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["--backend", "tap"]);
    let service = |selector: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: udp}}\nspec:\n  selector: {{{selector}}}\n  \
             ports: [{{protocol: UDP, port: 9000}}]\n"
        );
        lab.cmd(&["apply", "-f", &world.file("service.yaml", &text)])
            .ok();
    };
    for (name, node) in [("udp-1", "minikube-m02"), ("udp-2", "minikube-m03")] {
        let text = UDP.replace("NAME", name).replace("NODE", node);
        lab.cmd(&["apply", "-f", &world.file("pod.yaml", &text)])
            .ok();
    }
    service("app: udp");
    lab.run_pod("client", "minikube");
    let ask = |to: &str| {
        let script = format!(
            "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.bind(('', 5555))\ns.settimeout(3)\n\
             s.sendto(b'?', ('{to}', 9000))\nprint(s.recv(100).decode())"
        );
        let output = lab.cmd(&["exec", "client", "--", "python3", "-c", &script]);
        output
            .status
            .success()
            .then(|| output.stdout.trim().to_owned())
    };
    for pod in ["udp-1", "udp-2"] {
        eventually(PATIENCE, pod, || ask(&lab.ip_of(pod)));
    }
    let address = address(&lab, "udp");
    let first = ask(&address).unwrap();
    for _ in 0..5 {
        assert_eq!(ask(&address), Some(first.clone()), "one connection");
    }
    let other = if first == "udp-1" { "udp-2" } else { "udp-1" };
    service(&format!("name: {other}"));
    assert_eq!(ask(&address).as_deref(), Some(other));
}

/// A pod whose program has ended is no endpoint: connections go to the other one, and names to its address alone.
#[test]
fn a_pod_whose_program_has_ended_is_no_endpoint() {
    if !runs_here(&needs()) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["--backend", "tap", "--preset", "kindnet"]);
    let pod = |name: &str, node: &str, program: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: web}}}}\nspec:\n  nodeName: {node}\n  restartPolicy: Never\n  containers:\n  - name: c\n    command: {program}\n"
        )
    };
    let gate = world.path("gate");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        &gate,
        rustix::fs::Mode::from_raw_mode(0o666),
    )
    .unwrap();
    let until_told = format!("[sh, -c, 'read line < {}; exit 3']", gate.display());
    let text = [
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  clusterIP: 10.96.7.7\n  selector: {app: web}\n  ports: [{port: 80, targetPort: 8080}]\n".to_owned(),
        pod("stays", "minikube-m02", "[python3, -m, http.server, '8080']"),
        pod("ends", "minikube-m03", &until_told),
    ]
    .concat();
    let file = world.file("ends.yaml", &text);
    lab.cmd(&["apply", "-f", &file]).ok();
    let endpoints = || {
        let rules = lab.out(&["nat", "-n", "minikube", "rules"]);
        let (stays, ends) = (lab.ip_of("stays"), lab.ip_of("ends"));
        (rules.contains(&stays), rules.contains(&ends))
    };
    assert_eq!(endpoints(), (true, true));
    std::fs::write(&gate, "end\n").unwrap();
    eventually(PATIENCE, "the pod to be taken out", || {
        (endpoints() == (true, false)).then_some(())
    });
    lab.run_pod("client", "minikube");
    eventually(PATIENCE, "the other one to answer", || {
        curl(&lab, "client", "http://10.96.7.7/").ok()
    });
    for _ in 0..8 {
        curl(&lab, "client", "http://10.96.7.7/").unwrap();
    }
}

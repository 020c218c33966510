//! `podwire trace` where rules, policies and bridges decide: it names them and says where they were written.

use serde_json::Value;

use crate::harness::{Lab, World};

/// The steps of one kind, of all hops in order.
fn steps<'v>(trace: &'v Value, kind: &str) -> Vec<&'v Value> {
    let hops = trace["hops"].as_array().expect("hops are a list");
    let all = hops.iter().filter_map(|hop| hop["steps"].as_array());
    all.flatten().filter(|step| step["step"] == kind).collect()
}

/// A trace as text and as data.
fn traced(lab: &Lab<'_>, code: i32, args: &[&str]) -> (String, Value) {
    let run = |format: &str| {
        let words: Vec<&str> = ["trace", "-o", format]
            .iter()
            .chain(args)
            .copied()
            .collect();
        let output = lab.cmd(&words);
        assert_eq!(output.status.code(), Some(code), "{output}");
        output
    };
    // The data first: of the second packet of a connection no rule is asked.
    let json = run("json").json();
    (run("text").stdout, json)
}

/// The text has a line that ends so, blanks between words counted once.
#[track_caller]
fn says(text: &str, wanted: &str) {
    let found = text.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.join(" ").ends_with(wanted)
    });
    assert!(found, "\"{wanted}\" is wanted in\n{text}");
}

/// KM-1: masquerade by its chain and rule, and the packet as it is afterwards; the answer comes back translated.
#[test]
fn a_trace_shows_masquerade_by_its_chain_and_rule() {
    let world = World::new();
    let lab = world.up(&["--preset", "kindnet", "--backend", "inproc"]);
    lab.run_pod("a", "minikube-m02");
    let (_, json) = traced(&lab, 0, &["a", "8.8.8.8"]);
    let rule = steps(&json, "nat-rule")[0];
    assert_eq!(
        (&rule["chain"], &rule["rule"], &rule["target"]),
        (&"KIND-MASQ-AGENT".into(), &2.into(), &"MASQUERADE".into()),
        "{rule}"
    );
    let translated = steps(&json, "translated");
    assert_eq!(translated[0]["packet"]["src"], "172.16.30.4", "{json}");
    assert_eq!(translated[1]["packet"]["dst"], lab.ip_of("a"), "{json}");
    lab.cmd(&["nat", "-n", "minikube-m02", "flush"]).ok();
    let text = lab.out(&["trace", "a", "8.8.8.8"]);
    let by = "(kindnetd ip-masq-agent)";
    says(
        &text,
        &format!("nat KIND-MASQ-AGENT rule 2: MASQUERADE {by}"),
    );
    let wanted = "nat translated: ICMP 172.16.30.4 > 8.8.8.8, echo request";
    assert!(
        text.lines().any(|line| line
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .starts_with(wanted)),
        "{text}"
    );
}

const SERVICE: &str = "\
# The line of the service counts.
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.96.7.7
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
";

/// SVC-1: a service by its chain, with the file and line of its manifest.
#[test]
fn a_trace_shows_a_service_and_where_it_was_written() {
    let world = World::new();
    let lab = world.up(&["--preset", "kindnet", "--backend", "inproc"]);
    lab.run_pod("a", "minikube-m02");
    lab.cmd(&[
        "run",
        "web",
        "--node",
        "minikube-m03",
        "--labels",
        "app=web",
    ])
    .ok();
    let file = world.file("web.yaml", SERVICE);
    lab.cmd(&["apply", "-f", &file]).ok();
    let args = ["a", "10.96.7.7", "--proto", "tcp"];
    let (_, json) = traced(&lab, 0, &args);
    let rule = steps(&json, "nat-rule")[0];
    let at = rule["at"].as_str().unwrap_or_default();
    assert!(at.ends_with("web.yaml:4:18"), "{rule}");
    assert_eq!(
        (&rule["target"], &rule["by"]),
        (&"DNAT".into(), &"Service default/web".into())
    );
    let chain = rule["chain"].as_str().unwrap_or_default();
    assert!(chain.starts_with("KUBE-S"), "{rule}");
    assert_eq!(
        steps(&json, "translated")[0]["packet"]["dst"],
        lab.ip_of("web")
    );
    let dport = &steps(&json, "translated")[0]["packet"]["transport"];
    assert!(dport.to_string().contains("8080"), "{json}");
}

const POLICIES: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny}
spec: {podSelector: {}, policyTypes: [Ingress]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - ports: [{port: 443}]
  - ports: [{port: 80}]
";

/// NP-1: a policy by its namespace and name, the rule that allows, and the file and line where it was written.
#[test]
fn a_trace_names_the_policy_that_decided() {
    let world = World::new();
    let lab = world.up(&["--backend", "inproc", "--network-policy", "enforce"]);
    lab.run_pod("a", "minikube-m02");
    lab.cmd(&[
        "run",
        "web",
        "--node",
        "minikube-m03",
        "--labels",
        "app=web",
    ])
    .ok();
    let file = world.file("policies.yaml", POLICIES);
    lab.cmd(&["apply", "-f", &file]).ok();
    let place = |at: &Value, end: &str| at.as_str().is_some_and(|at| at.ends_with(end));

    let (_, allowed) = traced(&lab, 0, &["a", "web", "--proto", "tcp", "--dport", "80"]);
    let step = steps(&allowed, "policy")[0];
    assert_eq!(
        (
            &step["judgement"],
            &step["policy"],
            &step["rule"],
            &step["direction"]
        ),
        (
            &"allowed".into(),
            &"default/web".into(),
            &2.into(),
            &"ingress".into()
        ),
        "{step}"
    );
    assert!(place(&step["at"], "policies.yaml:8:18"), "{step}");

    let (text, denied) = traced(&lab, 1, &["web", "a", "--proto", "tcp", "--dport", "80"]);
    let step = steps(&denied, "policy")[0];
    assert_eq!(
        (&step["judgement"], &step["policy"], &step["rule"]),
        (&"denied".into(), &"default/deny".into(), &Value::Null),
        "{step}"
    );
    assert!(place(&step["at"], "policies.yaml:3:18"), "{step}");
    assert_eq!(denied["verdict"]["reason"], "policy-ingress");
    says(
        &text,
        &format!(
            "policy ingress policy: no rule allows it; the pod is isolated by default/deny ({file}:3:18)"
        ),
    );
}

/// BR-2, BR-18: pods of one bridge, flooded at first and then known; and up to the bridge's own interface.
#[test]
fn a_trace_tells_what_a_bridge_does() {
    let world = World::new();
    let lab = world.up(&[
        "--preset",
        "podman-bridge",
        "--nodes",
        "1",
        "--backend",
        "inproc",
    ]);
    let node = lab
        .out(&["get", "nodes", "-o", "name"])
        .replace("node/", "");
    let node = node.trim();
    lab.run_pod("a", node);
    lab.run_pod("b", node);
    lab.cmd(&["ping", "a", "b", "-c", "1"]).ok();
    let (text, beside) = traced(&lab, 0, &["a", "b"]);
    let bridged = steps(&beside, "bridged");
    assert_eq!(bridged.len(), 2, "there and back: {beside}");
    assert!(
        bridged.iter().all(|step| step["bridge"] == "cni-podman0"),
        "{beside}"
    );
    assert_ne!(bridged[0]["port"], bridged[1]["port"]);
    // No route, no TTL: a bridge is none of IP's business.
    assert!(steps(&beside, "route").is_empty() && steps(&beside, "ttl").is_empty());
    assert!(text.contains("cni-podman0: "), "{text}");

    let (_, up) = traced(&lab, 0, &["a", "8.8.8.8"]);
    let taken = steps(&up, "bridged-up");
    assert_eq!(taken[0]["bridge"], "cni-podman0", "{up}");
    assert_eq!(steps(&up, "ttl")[0]["after"], 63);
    // The answer goes down through the bridge.
    assert_eq!(steps(&up, "bridged").len(), 1, "{up}");
}

//! Network policies as seed 001 applies them, with enforcement switched on; and what users are told where it is off.

use crate::harness::{Lab, Need, World, runs_here};

const DENY: &str = "\
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: default-deny-ingress
spec:
  podSelector: {}
  policyTypes:
  - Ingress
";

const ALLOW: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: allow-all-ingress
spec:
  podSelector: {}
  ingress:
  - {}
  policyTypes:
  - Ingress
";

/// Table 10.2, rows 22 to 25.
fn deny_then_allow(lab: &Lab<'_>, world: &World) {
    lab.run_pod("nginx", "minikube-m02");
    lab.run_pod("nginx-manual", "minikube-m03");
    let ping =
        |from: &str, to: &str| lab.cmd(&["ping", from, to, "-c", "3", "-i", "0.05", "-W", "0.2"]);
    let answered = |from: &str, to: &str| {
        let output = ping(from, to).ok().says(" 0% packet loss");
        assert_eq!(output.stdout.matches(" ttl=62 ").count(), 3, "{output}");
    };
    // A policy drops without a word: what is lost has no line of its own.
    let lost = |from: &str, to: &str| {
        let output = ping(from, to)
            .fails(1, &[])
            .says("3 packets transmitted, 0 received, 100% packet loss");
        let silent = !output.stdout.contains("rom ") && !output.stdout.contains("nreachable");
        assert!(silent, "{output}");
    };
    answered("nginx", "nginx-manual");

    let deny = world.file("network-policy.yaml", DENY);
    lab.shows(
        &["create", "-f", &deny],
        "networkpolicy.networking.k8s.io/default-deny-ingress created",
    );
    lab.shows(
        &["get", "netpol"],
        "\
NAME                   POD-SELECTOR   AGE
default-deny-ingress   <none>         {any}",
    );
    lab.shows(
        &["describe", "netpol"],
        "\
Name:         default-deny-ingress
Namespace:    default
Created on:   {any}
Labels:       <none>
Annotations:  <none>
Spec:
  PodSelector:     <none> (Allowing the specific traffic to all pods in this namespace)
  Allowing ingress traffic:
    <none> (Selected pods are isolated for ingress connectivity)
  Not affecting egress traffic
  Policy Types: Ingress",
    );
    for (from, to) in [("nginx", "nginx-manual"), ("nginx-manual", "nginx")] {
        lost(from, to);
    }
    // NP-13: the node itself still reaches its pod.
    lab.cmd(&["ping", "node/minikube-m03", "nginx-manual", "-c", "1"])
        .ok();
    lab.cmd(&["create", "-f", &deny]).fails(
        1,
        &["networkpolicies.networking.k8s.io \"default-deny-ingress\" already exists"],
    );

    let allow = world.file("allow-ingress.yaml", ALLOW);
    lab.shows(
        &["create", "-f", &allow],
        "networkpolicy.networking.k8s.io/allow-all-ingress created",
    );
    lab.shows(
        &["get", "netpol"],
        "\
NAME                   POD-SELECTOR   AGE
allow-all-ingress      <none>         {any}
default-deny-ingress   <none>         {any}",
    );
    lab.shows(
        &["describe", "netpol", "allow-all-ingress"],
        "\
Name:         allow-all-ingress
Namespace:    default
Created on:   {any}
Labels:       <none>
Annotations:  <none>
Spec:
  PodSelector:     <none> (Allowing the specific traffic to all pods in this namespace)
  Allowing ingress traffic:
    To Port: <any> (traffic allowed to all ports)
    From: <any> (traffic not restricted by source)
  Not affecting egress traffic
  Policy Types: Ingress",
    );
    for (from, to) in [("nginx", "nginx-manual"), ("nginx-manual", "nginx")] {
        answered(from, to);
    }

    // NP-23.
    lab.shows(
        &["delete", "netpol", "allow-all-ingress"],
        "networkpolicy.networking.k8s.io \"allow-all-ingress\" deleted",
    );
    lost("nginx", "nginx-manual");
    lab.shows(
        &["delete", "-f", &deny],
        "networkpolicy.networking.k8s.io \"default-deny-ingress\" deleted",
    );
    ping("nginx", "nginx-manual").ok();
}

/// NP-1, NP-4, NP-13, NP-19, NP-23: seed 001's policies on smoltcp pods.
#[test]
fn deny_and_allow_of_seed_001_hold_in_process() {
    let world = World::new();
    let lab = world.up(&["--network-policy", "enforce", "--backend", "inproc"]);
    deny_then_allow(&lab, &world);
}

/// NP-1, NP-4, NP-11, NP-13, NP-19, NP-23: the same on network namespaces.
#[test]
fn deny_and_allow_of_seed_001_hold_on_tap() {
    if !runs_here(&[Need::Tap]) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["--network-policy", "enforce", "--backend", "tap"]);
    deny_then_allow(&lab, &world);
}

/// S1-22 to S1-25, NP-1, NP-4, NP-13, NP-19, NP-23: the document's own steps on Calico, which enforces by itself.
#[test]
fn deny_and_allow_of_seed_001_hold_on_calico_in_process() {
    let world = World::new();
    let lab = world.up(&["--preset", "calico", "--backend", "inproc"]);
    deny_then_allow(&lab, &world);
}

/// S1-22 to S1-25: the same on network namespaces, by the real ping too.
#[test]
fn deny_and_allow_of_seed_001_hold_on_calico_on_tap() {
    if !runs_here(&[Need::Tap, Need::Tool("ping")]) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["--preset", "calico", "--backend", "tap"]);
    deny_then_allow(&lab, &world);
    let pairs = [
        ("nginx", "10.244.151.1"),
        ("nginx-manual", "10.244.205.193"),
    ];
    let ping = |(from, to): (&str, &str)| {
        lab.cmd(&[
            "exec", from, "--", "ping", "-n", "-c", "3", "-i", "0.2", "-W", "1", to,
        ])
    };
    let deny = world.file("network-policy.yaml", DENY);
    lab.cmd(&["apply", "-f", &deny]).ok();
    for pair in pairs {
        let lost = ping(pair).fails(1, &[]);
        let lost = lost.says("3 packets transmitted, 0 received, 100% packet loss");
        assert!(!lost.to_string().contains("errors"), "{lost}");
        assert!(!lost.stdout.contains("From "), "{lost}");
    }
    let allow = world.file("allow-ingress.yaml", ALLOW);
    lab.cmd(&["apply", "-f", &allow]).ok();
    for pair in pairs {
        let answered = ping(pair).ok().says(" 0% packet loss");
        assert_eq!(answered.stdout.matches(" ttl=62 ").count(), 3, "{answered}");
    }
}

/// KND-14: kindnet of the documents stores policies and enforces none; whoever writes one is told, and can switch.
#[test]
fn policies_that_have_no_effect_say_so() {
    let world = World::new();
    let lab = world.up(&["--backend", "inproc"]);
    lab.run_pod("a", "minikube");
    lab.run_pod("b", "minikube-m02");
    let file = world.file("deny.yaml", DENY);
    for words in [&["apply", "-f", file.as_str()][..], &["get", "netpol"]] {
        let output = lab.cmd(words).ok();
        let note = "network policies are stored and have no effect";
        assert!(output.stderr.contains(note), "{output}");
    }
    let ping = || lab.cmd(&["ping", "a", "b", "-c", "1", "-W", "0.2"]);
    ping().ok();
    let switch = |mode: &str| {
        let name = lab.name.as_str();
        let words = [
            "up",
            "--name",
            name,
            "--backend",
            "inproc",
            "--network-policy",
            mode,
        ];
        let _ = world.podwire(&words).ok();
    };
    switch("enforce");
    let _ = ping().fails(1, &[]);
    switch("ignore");
    ping().ok();
}

/// Exit 3 with the place for what Kubernetes would refuse.
#[test]
fn a_policy_that_kubernetes_refuses_is_refused_with_its_place() {
    let world = World::new();
    let file = world.file(
        "bad.yaml",
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec:\n  ingress:\n  - ports: [{port: 90, endPort: 80}]\n    from: [{ipBlock: {cidr: 10.0.0.1/8}}]\n",
    );
    world.podwire(&["up", "-f", &file]).fails(
        3,
        &[
            "bad.yaml:6:33: endPort 80 is below port 90",
            "bad.yaml:7:29: 10.0.0.1/8 has host bits set",
        ],
    );
}

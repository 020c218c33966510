//! Bandwidth limits of pods, with real programs (CAL-34).

use std::time::Duration;

use crate::harness::{Lab, Need, World, run, runs_here};

const DEADLINE: Duration = Duration::from_secs(60);

/// Bits per second of the limit: so low that a busy machine has no part in it.
const RATE: f64 = 8e6;

fn pod(name: &str, node: &str, annotations: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  annotations: {{{annotations}}}\nspec:\n  nodeName: {node}\n  containers:\n  - name: c\n---\n"
    )
}

/// Bits per second of payload that TCP carries to `server` in three seconds, or from it.
fn goodput(lab: &Lab<'_>, client: &str, server: &str, reverse: bool) -> f64 {
    let mut background = lab.spawn(&["exec", server, "--", "iperf3", "-s", "-1", "--forceflush"]);
    background.wait_for_line("Server listening");
    let address = lab.ip_of(server);
    let mut words = vec![
        "exec", client, "--", "iperf3", "-c", &address, "-t", "3", "-J",
    ];
    if reverse {
        words.push("-R");
    }
    let command = lab.world.command(&lab.words(&words));
    let report = run(command, DEADLINE).ok().json();
    assert!(report.get("error").is_none(), "{report:#}");
    let (status, text) = background.finish(DEADLINE);
    assert!(status.success(), "{text}");
    let received = &report["end"]["sum_received"]["bits_per_second"];
    received.as_f64().expect("a rate")
}

/// Goodput is what is left of the rate when headers are taken off: 1448 of 1514 bytes.
#[track_caller]
fn expect_limited(goodput: f64, rate: f64) {
    let share = goodput / (rate * 1448.0 / 1514.0);
    assert!((0.85..1.15).contains(&share), "{goodput:.0} of {rate:.0}");
}

/// CAL-34: iperf3 finds the rates of the annotations, in each direction its own, and none where there is none. Calico
/// follows a change.
#[test]
fn iperf3_finds_the_limits_of_a_pod() {
    if !runs_here(&[Need::Tap, Need::Tool("iperf3")]) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["--preset", "calico"]);
    let limits = |ingress: &str, egress: &str| {
        format!(
            "kubernetes.io/ingress-bandwidth: {ingress}, kubernetes.io/egress-bandwidth: {egress}"
        )
    };
    let manifest = pod("slow", "minikube-m02", &limits("8M", "4M"))
        + &pod("free", "minikube-m03", "owner: me");
    let file = world.file("pods.yaml", &manifest);
    lab.cmd(&["apply", "-f", &file]).ok();

    expect_limited(goodput(&lab, "free", "slow", false), RATE);
    expect_limited(goodput(&lab, "free", "slow", true), RATE / 2.0);
    let drops = lab.out(&["stats", "minikube-m02", "--drops"]);
    assert!(drops.contains("bandwidth limit"), "{drops}");

    let described = lab.cmd(&["describe", "pod", "slow"]).ok();
    let _ = described
        .says("kubernetes.io/ingress-bandwidth: 8M")
        .says("Ingress:    8000000 bit/s, burst 200000 bit")
        .says("Egress:     4000000 bit/s, burst 131072 bit");
    let object = lab.cmd(&["get", "pod", "slow", "-o", "json"]).ok().json();
    let annotations = &object["metadata"]["annotations"];
    assert_eq!(annotations["kubernetes.io/egress-bandwidth"], "4M");

    lab.cmd(&["apply", "-f", &file])
        .ok()
        .says("pod/slow unchanged")
        .says("pod/free unchanged");
    let changed = pod("slow", "minikube-m02", &limits("2M", "1G"));
    let file = world.file("changed.yaml", &changed);
    lab.cmd(&["apply", "-f", &file])
        .ok()
        .says("pod/slow configured");
    expect_limited(goodput(&lab, "free", "slow", false), RATE / 4.0);
    let fast = goodput(&lab, "free", "slow", true);
    assert!(fast > 2.0 * RATE, "{fast}");
}

/// CAL-34: the words of mistakes, and kindnet's pods keep their limits.
#[test]
fn mistakes_about_bandwidth_are_named() {
    let world = World::new();
    let lab = world.up(&["--preset", "kindnet", "--backend", "inproc"]);
    let run = |ingress: &str| {
        let annotation = format!("kubernetes.io/ingress-bandwidth={ingress}");
        lab.cmd(&[
            "run",
            "a",
            "--node",
            "minikube",
            "--annotations",
            &annotation,
        ])
    };
    let _ = run("1").fails(3, &["ingress-bandwidth", "unreasonably small (< 1kbit/s)"]);
    let _ = run("10M").ok();
    lab.cmd(&["describe", "pod", "a"])
        .ok()
        .says("Ingress:    10000000 bit/s, burst 250000 bit");
    let file = world.file(
        "a.yaml",
        &pod("a", "minikube", "kubernetes.io/ingress-bandwidth: 5M")
            .replace("metadata:\n", "metadata:\n  labels: {run: a}\n"),
    );
    let _ = lab
        .cmd(&["apply", "-f", &file])
        .fails(3, &["another bandwidth", "kindnet", "delete it first"]);
}

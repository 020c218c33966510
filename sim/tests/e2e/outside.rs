//! The way out: masquerade as the documents describe it, and the counters of the nat table as seed 002 lists them.

use crate::harness::{Lab, Need, World, runs_here};
use crate::pattern;
use crate::seed002::lab_file;

/// What the simulated internet says of its client: it greets with the address that it sees.
fn seen_outside(lab: &Lab<'_>, pod: &str, address: &str) -> String {
    let url = format!("http://{address}/");
    let page = lab.out(&["exec", pod, "--", "curl", "-sS", "--max-time", "5", &url]);
    let client = page.lines().find_map(|line| line.strip_prefix("You are "));
    let client = client.unwrap_or_else(|| panic!("{page}"));
    client.split(':').next().unwrap().to_owned()
}

/// S0-21: a pod pings 8.8.8.8 and sees it 115 hops from the end; what is there sees the pod's node.
#[test]
fn a_pod_of_seed_000_reaches_the_outside_as_its_node() {
    let tools = [Need::Tap, Need::Tool("ping"), Need::Tool("curl")];
    if !runs_here(&tools) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["-f", &lab_file("seed-000.yaml"), "--backend", "tap"]);
    lab.run_pod("nginx-manual", "minikube-m02");
    let words = [
        "exec",
        "nginx-manual",
        "--",
        "ping",
        "-c",
        "3",
        "-i",
        "0.2",
        "8.8.8.8",
    ];
    let text = lab.out(&words);
    let replies = text.lines().filter(|line| line.contains("ttl=115"));
    assert_eq!(replies.count(), 3, "{text}");
    assert!(text.contains(" 0% packet loss"), "{text}");
    let sessions = lab.out(&["nat", "-n", "minikube-m02", "sessions", "-p", "icmp"]);
    let outside = "src=8.8.8.8 dst=172.16.30.4 type=0";
    assert!(sessions.contains(outside), "{sessions}");
    assert_eq!(seen_outside(&lab, "nginx-manual", "8.8.8.8"), "172.16.30.4");
}

/// S3-10: a pod of the document reaches 1.1.1.1 and 8.8.8.8 by its gateway and the node's default route, as the node.
#[test]
fn a_pod_of_seed_003_reaches_the_outside_by_masquerade() {
    if !runs_here(&[Need::Tap, Need::Tool("curl")]) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["-f", &lab_file("seed-003.yaml"), "--backend", "tap"]);
    let listed = lab.out(&["get", "pods", "-A", "-o", "wide"]);
    let pods = listed.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let node = match (words[6], words[7]) {
            ("10.244.0.2", "minikube") => "192.168.49.2",
            ("10.244.1.2", "minikube-m02") => "192.168.49.3",
            _ => return None,
        };
        Some((format!("{}/{}", words[0], words[1]), node))
    });
    let pods: Vec<(String, &str)> = pods.collect();
    assert_eq!(pods.len(), 2, "{listed}");
    for (pod, node) in pods {
        for address in ["1.1.1.1", "8.8.8.8"] {
            assert_eq!(seen_outside(&lab, &pod, address), node, "{pod} {address}");
        }
    }
}

const WORKER2: &str = "k8s-guide-worker2";

/// As the document shows it with `grep -B 4 -A 4 KIND-MASQ`, the counters being those of this lab.
const LISTING: &str = "\
Chain POSTROUTING (policy ACCEPT {n} packets, {n} bytes)
 pkts bytes target     prot opt in     out     source               destination
{any} KUBE-POSTROUTING  all  --  *      *       0.0.0.0/0            0.0.0.0/0            /* kubernetes postrouting rules */
    0     0 DOCKER_POSTROUTING  all  --  *      *       0.0.0.0/0            172.18.0.1
{any} KIND-MASQ-AGENT  all  --  *      *       0.0.0.0/0            0.0.0.0/0            ADDRTYPE match dst-type !LOCAL /* kind-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our custom KIND-MASQ-AGENT chain */

Chain KIND-MASQ-AGENT (1 references)
 pkts bytes target     prot opt in     out     source               destination
{any} RETURN     all  --  *      *       0.0.0.0/0            10.244.0.0/16        /* kind-masq-agent: local traffic is not subject to MASQUERADE */
{any} MASQUERADE  all  --  *      *       0.0.0.0/0            0.0.0.0/0            /* kind-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain) */";

/// Packets and bytes of the rule with this target.
fn count(rules: &str, target: &str) -> (u64, u64) {
    let mut lines = rules
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let found = lines.find(|words| words.get(2) == Some(&target));
    let words = found.unwrap_or_else(|| panic!("no rule {target} in\n{rules}"));
    (words[0].parse().unwrap(), words[1].parse().unwrap())
}

fn chain<'t>(text: &'t str, name: &str) -> &'t str {
    let head = format!("Chain {name} (");
    let at = text
        .find(&head)
        .unwrap_or_else(|| panic!("no chain {name} in\n{text}"));
    let rest = &text[at..];
    rest.split("\n\n").next().unwrap()
}

/// S2-9, KM-8, SVC-8: the nat table of the document's node, rule by rule; of what comes to kind's chain all is counted as it leaves
/// it, packets and bytes, each connection once.
fn the_nat_table_is_the_documents(lab: &Lab<'_>) {
    let rules = || {
        let text = lab.out(&["nat", "-n", WORKER2, "rules"]);
        let own = chain(&text, "KIND-MASQ-AGENT").to_owned();
        let post = chain(&text, "POSTROUTING").to_owned();
        (post, own)
    };
    let (post, own) = rules();
    let shown = format!("{}\n\n{}", post.trim_end(), own.trim_end());
    pattern::matches(LISTING, &shown).unwrap_or_else(|diff| panic!("{diff}"));
    let counts = || {
        let (post, own) = rules();
        let all = count(&post, "KIND-MASQ-AGENT");
        let (stays, leaves) = (count(&own, "RETURN"), count(&own, "MASQUERADE"));
        assert_eq!(
            all,
            (stays.0 + leaves.0, stays.1 + leaves.1),
            "{post}\n{own}"
        );
        assert_eq!(all, count(&post, "KUBE-POSTROUTING"), "{post}");
        (stays, leaves)
    };
    let before = counts();
    // Several packets of a connection are one in the counters: 84 bytes, the echo request's.
    for to in ["10.244.1.3", "8.8.8.8", "1.1.1.1"] {
        lab.cmd(&["ping", "net-tshoot-2b9fq", to, "-c", "3", "-i", "0.2"])
            .ok();
    }
    let after = counts();
    assert_eq!(after.0, (before.0.0 + 1, before.0.1 + 84));
    assert_eq!(after.1, (before.1.0 + 2, before.1.1 + 168));
}

/// S2-9 without privileges.
#[test]
fn the_nat_table_is_the_documents_in_process() {
    let world = World::new();
    let lab = world.up(&["-f", &lab_file("seed-002.yaml"), "--backend", "inproc"]);
    the_nat_table_is_the_documents(&lab);
}

/// S2-9 with namespaces.
#[test]
fn the_nat_table_is_the_documents_on_tap() {
    if !runs_here(&[Need::Tap]) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["-f", &lab_file("seed-002.yaml"), "--backend", "tap"]);
    the_nat_table_is_the_documents(&lab);
}

//! Lab files and Kubernetes manifests of any content.
//!
//! Holds: no text panics the reader; a refusal says at least one thing, with places inside the text; what is accepted is
//! resolved (names unique, addresses in their prefixes, podCIDRs apart), and reading it again gives the same.

use std::collections::BTreeSet;

use sim::lab::{self, Overrides, Source};
use sim::manifest;
use sim::spec::LabSpec;

/// The input is the file.
pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    // A carriage return alone ends a line, too (YAML 1.2.2, 5.4).
    let breaks = text.replace("\r\n", "\n");
    let lines = breaks.matches(['\n', '\r']).count() + 1;
    let source = Source::new("fuzz.yaml", text);
    let sources = [source];
    match lab::load(&sources, &Overrides::default()) {
        Ok(spec) => {
            check(&spec);
            let again = lab::load(&sources, &Overrides::default());
            assert_eq!(
                again.as_ref(),
                Ok(&spec),
                "the same text gives the same lab"
            );
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "refused without a word");
            assert!(!errors.to_string().trim().is_empty());
            for place in errors.iter().filter_map(lab::Diagnostic::place) {
                assert!(
                    (1..=lines).contains(&place.1) && place.2 >= 1,
                    "{place:?} is outside"
                );
            }
        }
    }
    if let Err(errors) = manifest::load(&sources) {
        assert!(!errors.to_string().trim().is_empty());
    }
}

fn check(spec: &LabSpec) {
    let mut names = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    for node in &spec.nodes {
        assert!(names.insert(&node.name), "node {} twice", node.name);
        assert!(
            node.addresses.iter().any(|a| a.addr() == node.internal_ip),
            "{} lacks its own address",
            node.name
        );
        for address in &node.addresses {
            assert!(addresses.insert(address.addr()), "{address} twice");
        }
    }
    let cidrs: Vec<_> = spec.nodes.iter().filter_map(|n| n.pod_cidr).collect();
    for (i, a) in cidrs.iter().enumerate() {
        for b in &cidrs[i + 1..] {
            assert!(!a.contains(b) && !b.contains(a), "{a} overlaps {b}");
        }
    }
    let mut pods = BTreeSet::new();
    for pod in &spec.pods {
        assert!(
            pods.insert((&pod.namespace, &pod.name)),
            "pod {}/{} twice",
            pod.namespace,
            pod.name
        );
        assert!(
            names.contains(&pod.node),
            "pod {} on {}, which is not there",
            pod.name,
            pod.node
        );
        if let (Some(ip), false) = (pod.ip, pod.host_network) {
            assert!(addresses.insert(ip), "{ip} twice");
        }
    }
}

/// The labs that ship, and manifests of every kind.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = lab::BUILT_IN
        .iter()
        .map(|(_, text)| text.as_bytes().to_vec())
        .collect();
    seeds.push(
        b"apiVersion: v1\nkind: Pod\nmetadata:\n  name: nginx-manual\nspec:\n  nodeName: minikube-m02\n  containers:\n  - image: nginx\n    name: nginx\n".to_vec(),
    );
    seeds.push(
        b"apiVersion: v1\nkind: Node\nmetadata:\n  name: n\nspec:\n  podCIDR: 10.244.77.0/30\nstatus:\n  addresses:\n  - type: InternalIP\n    address: 172.16.30.77\n".to_vec(),
    );
    // Everything that a policy can say, and what it must not say.
    for policy in [
        "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [], egress: [{}]}",
        "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{ipBlock: {cidr: 10.244.0.0/16, except: [10.244.1.0/24]}}], ports: [{protocol: UDP, port: 32000, endPort: 32768}]}]}",
        "{podSelector: {matchExpressions: [{key: a, operator: In, values: [b, c]}, {key: d, operator: DoesNotExist}]}, egress: [{to: [{podSelector: {}, namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: x}}}], ports: [{port: http}]}]}",
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.1/8}, podSelector: {}}], ports: [{port: 99999}, {port: 80, endPort: 1}]}]}",
    ] {
        seeds.push(
            format!("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: default}}\nspec: {policy}\n").into_bytes(),
        );
    }
    seeds.push(
        b"apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.96.0.10, selector: {app: web}, ports: [{port: 80, targetPort: http, nodePort: 30080}], sessionAffinity: ClientIP}\n".to_vec(),
    );
    seeds.push(b"apiVersion: podwire/v1\nkind: Lab\nnodes:\n- {name: a, podCIDR: 10.244.0.0/24}\n- {name: a}\n".to_vec());
    seeds
}

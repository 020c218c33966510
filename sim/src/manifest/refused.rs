//! What Kubernetes' API server refuses of policies and services is refused, at its place, all of it at once.

use super::*;

fn errors(text: &str) -> Vec<String> {
    match load(&[Source::new("m.yaml", text)]) {
        Ok(found) => panic!("accepted: {found:?}\n{text}"),
        Err(found) => found
            .iter()
            .map(|diagnostic| {
                let (_, line, column) = diagnostic.place().expect("a place");
                format!("{line}:{column}: {}", diagnostic.message())
            })
            .collect(),
    }
}

/// The policy whose spec begins at line 5 with these lines is refused with these messages, which may be cut.
#[track_caller]
fn policy_says(spec: &str, expected: &[&str]) {
    let text = format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p}}\nspec:\n{spec}"
    );
    compare(&errors(&text), expected);
}

#[track_caller]
fn service_says(spec: &str, expected: &[&str]) {
    let text = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: s}}\nspec:\n{spec}");
    compare(&errors(&text), expected);
}

#[track_caller]
fn compare(found: &[String], expected: &[&str]) {
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
}

/// NP-22: an endPort below its port, with a named port, or alone.
#[test]
fn ranges_of_ports_must_have_a_numbered_beginning_below_their_end() {
    policy_says(
        "  ingress:\n  - ports:\n    - {port: 90, endPort: 80}\n    - {port: web, endPort: 80}\n    - {endPort: 80}\n",
        &[
            "7:27: endPort 80 is below port 90",
            "8:28: endPort may not stand beside the named port \"web\"",
            "9:17: endPort needs \"port\"",
        ],
    );
}

/// NP-22: port numbers and names that cannot be.
#[test]
fn ports_must_be_numbers_or_names() {
    policy_says(
        "  egress:\n  - ports:\n    - {port: 0}\n    - {port: 65536}\n    - {port: \"80\"}\n    - {port: Web}\n    - {port: a-name-that-is-too-long}\n    - {protocol: ICMP, port: 1}\n    - {port: 80, endport: 81}\n",
        &[
            "7:14: port must be a whole number from 1 to 65535, not \"0\"",
            "8:14: port must be a whole number from 1 to 65535, not \"65536\"",
            "9:14: port \"80\" must contain a letter",
            "10:14: port \"Web\" must consist of lower-case letters",
            "11:14: port \"a-name-that-is-too-long\" must have 1 to 15 characters",
            "12:18: protocol must be TCP or UDP or SCTP, not \"ICMP\"",
            "13:18: unknown key \"endport\" in a port; did you mean \"endPort\"?",
        ],
    );
}

/// NP-6: blocks with host bits, exceptions outside, blocks beside selectors, peers that say nothing.
#[test]
fn peers_must_say_one_thing() {
    policy_says(
        "  ingress:\n  - from:\n    - ipBlock: {cidr: 10.0.0.1/8}\n    - ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16, 10.0.0.0/8]}\n    - ipBlock: {cidr: 10.0.0.0/8}\n      podSelector: {}\n    - {}\n    - ipBlock: {except: []}\n    - ipBlock: {cidr: 10.0.0.0/33}\n",
        &[
            "7:23: 10.0.0.1/8 has host bits set; the network is 10.0.0.0/8",
            "8:44: except 11.0.0.0/16 must lie strictly within cidr 10.0.0.0/8",
            "8:57: except 10.0.0.0/8 must lie strictly within cidr 10.0.0.0/8",
            "9:16: ipBlock may not stand in one peer with podSelector",
            "11:7: a peer needs podSelector, namespaceSelector or ipBlock",
            "12:16: ipBlock needs \"cidr\"",
            "13:23: \"10.0.0.0/33\" is not a network",
        ],
    );
}

/// Selectors: operators, their values, label syntax, values that are no text.
#[test]
fn selectors_must_be_selectors() {
    policy_says(
        "  podSelector:\n    matchLabels: {-a: b, c: _d, e: 5, f: true, \"g/h/i\": x}\n    matchExpressions:\n    - {key: a, operator: In}\n    - {key: a, operator: In, values: []}\n    - {key: a, operator: Exists, values: [b]}\n    - {key: a, operator: Equals, values: [b]}\n    - {operator: Exists}\n    - {key: a, operator: NotIn, values: [\"a b\"]}\n  policyTypes: [Ingres]\n",
        &[
            "6:19: label key \"-a\" must consist of letters",
            "6:29: label value \"_d\" must consist of letters",
            "6:36: the value of a label must be text, and 5 without quotes is a number; write \"5\"",
            "6:42: the value of a label must be text, and true without quotes is a boolean",
            "6:48: label key \"g/h/i\" may contain '/' once only",
            "8:26: operator In needs \"values\"",
            "9:26: operator In needs \"values\"",
            "10:34: \"values\" may not stand beside operator Exists",
            "11:26: operator must be In or NotIn or Exists or DoesNotExist, not \"Equals\"",
            "12:7: an expression of matchExpressions needs \"key\"",
            "13:42: label value \"a b\" must consist of letters",
            "14:17: a policy type must be Ingress or Egress, not \"Ingres\"",
        ],
    );
}

/// Keys at the wrong place, and a rule that is no mapping.
#[test]
fn unknown_keys_of_a_policy_are_reported() {
    policy_says(
        "  podSelektor: {}\n  ingress:\n  - to: []\n  - [a]\n",
        &[
            "5:3: unknown key \"podSelektor\" in the spec of a network policy; did you mean \"podSelector\"?",
            "7:5: unknown key \"to\" in a rule of ingress",
            "8:5: a rule of ingress must be a mapping, not a list",
        ],
    );
    let text = "apiVersion: networking/v1\nkind: NetworkPolicy\nmetadata: {name: A}\n";
    compare(
        &errors(text),
        &[
            "1:13: apiVersion of a network policy must be \"networking.k8s.io/v1\"",
            "3:18: the name of a network policy must consist of",
        ],
    );
}

/// Services: numbers, names, node ports, kinds.
#[test]
fn services_that_cannot_be_are_refused() {
    service_says(
        "  ports:\n  - {port: 80}\n  - {port: 80, name: b}\n  - {port: \"81\", name: c}\n  - {port: 82, name: b}\n  - {port: 83, name: d, nodePort: 30000}\n",
        &[
            "6:5: a port of a service with several ports needs \"name\"",
            "7:12: a second port of the same port and protocol",
            "8:12: port must be a number, not the text \"81\"",
            "9:22: a second port of the same name",
            "10:35: a service of type ClusterIP has no node ports",
        ],
    );
    service_says(
        "  type: NodePort\n  clusterIP: None\n  sessionAffinityConfig: {clientIP: {timeoutSeconds: 5}}\n  ports: [{port: 80, nodePort: 80}]\n",
        &[
            "6:3: a service of type NodePort needs an address of its own",
            "8:32: nodePort must be from 30000 to 32767, not 80",
            "7:54: sessionAffinityConfig needs \"sessionAffinity: ClientIP\"",
        ],
    );
    service_says(
        "  selector: {a: b}\n",
        &["5:3: the spec of a service needs \"ports\""],
    );
    service_says(
        "  type: ExternalName\n",
        &["5:3: a service of type ExternalName needs \"externalName\""],
    );
}

/// What Kubernetes takes is taken, with its defaults.
#[test]
fn a_policy_gets_the_api_servers_defaults() {
    let text = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec:\n  podSelector: {}\n  egress:\n  - ports: [{port: 53}]\n  ingress: null\n";
    let found = load(&[Source::new("m.yaml", text)]).unwrap();
    let [Manifest::Object(object)] = found.as_slice() else {
        panic!("{found:?}")
    };
    let kube::Object::NetworkPolicy(policy) = object.as_ref() else {
        panic!("{object:?}")
    };
    use kube::Direction::{Egress, Ingress};
    assert_eq!(policy.types, [Ingress, Egress]);
    assert_eq!(policy.egress[0].ports[0].protocol, kube::Protocol::Tcp);
    assert_eq!(policy.meta.key(), "default/p");
    assert_eq!(policy.meta.declared_at.as_deref(), Some("m.yaml:3:18"));
}

/// CAL-34: a bandwidth must be a reasonable quantity, as for kubelet.
#[test]
fn bandwidths_must_be_reasonable_quantities() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  annotations:\n    kubernetes.io/ingress-bandwidth: 10Mbit\n    kubernetes.io/egress-bandwidth: 2P\n    note: anything\nspec: {containers: [{name: c}]}\n";
    compare(
        &errors(text),
        &[
            "6:38: annotation kubernetes.io/ingress-bandwidth: \"10Mbit\" is no quantity",
            "7:37: annotation kubernetes.io/egress-bandwidth: \"2P\" is unreasonably large (> 1Pbit/s)",
        ],
    );
}

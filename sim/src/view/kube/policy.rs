//! `get netpol` and `describe netpol`.
//!
//! Source: `describeNetworkPolicy` of k8s.io/kubectl/pkg/describe, its indents included; seed 001 shows the result.

use super::selector::words;
use super::{NONE, field, label_lines};
use crate::kube::{Direction, NetworkPolicy, Peer, PolicyRule, PortRef};
use crate::view::age;

/// Width of describe's first column.
const WIDTH: usize = 14;

/// One policy as `kubectl describe netpol` prints it.
#[must_use]
pub fn describe(policy: &NetworkPolicy, created_ms: u64) -> String {
    let mut text = String::new();
    let meta = &policy.meta;
    field(&mut text, WIDTH, "Name", std::slice::from_ref(&meta.name));
    field(
        &mut text,
        WIDTH,
        "Namespace",
        std::slice::from_ref(&meta.namespace),
    );
    field(&mut text, WIDTH, "Created on", &[age::go_time(created_ms)]);
    field(&mut text, WIDTH, "Labels", &label_lines(&meta.labels));
    field(
        &mut text,
        WIDTH,
        "Annotations",
        &super::annotation_lines(&meta.annotations),
    );
    text += "Spec:\n";
    let selector = if policy.pod_selector.is_empty() {
        format!("{NONE} (Allowing the specific traffic to all pods in this namespace)")
    } else {
        words(&policy.pod_selector)
    };
    text += &format!("  PodSelector:     {selector}\n");
    for direction in [Direction::Ingress, Direction::Egress] {
        let way = way(direction);
        match policy.rules(direction) {
            Some(rules) => {
                text += &format!("  Allowing {way} traffic:\n");
                self::rules(&mut text, direction, rules);
            }
            None => text += &format!("  Not affecting {way} traffic\n"),
        }
    }
    let types: Vec<&str> = policy
        .types
        .iter()
        .map(|direction| match direction {
            Direction::Ingress => "Ingress",
            Direction::Egress => "Egress",
        })
        .collect();
    text += &format!("  Policy Types: {}\n", types.join(", "));
    text
}

const fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

fn rules(text: &mut String, direction: Direction, rules: &[PolicyRule]) {
    if rules.is_empty() {
        let way = way(direction);
        *text += &format!("    {NONE} (Selected pods are isolated for {way} connectivity)\n");
    }
    let (peer, end) = match direction {
        Direction::Ingress => ("From", "source"),
        Direction::Egress => ("To", "destination"),
    };
    for (number, rule) in rules.iter().enumerate() {
        if number > 0 {
            *text += "    ----------\n";
        }
        if rule.ports.is_empty() {
            *text += "    To Port: <any> (traffic allowed to all ports)\n";
        }
        for port in &rule.ports {
            let name = match &port.port {
                None => "<nil>".to_owned(),
                Some(PortRef::Number(number)) => number.to_string(),
                Some(PortRef::Name(name)) => name.clone(),
            };
            let end = port
                .end_port
                .map_or_else(String::new, |end| format!("-{end}"));
            *text += &format!("    To Port: {name}{end}/{}\n", port.protocol.name());
        }
        if rule.peers.is_empty() {
            *text += &format!("    {peer}: <any> (traffic not restricted by {end})\n");
        }
        for who in &rule.peers {
            *text += &format!("    {peer}:\n");
            match who {
                Peer::IpBlock(block) => {
                    let except: Vec<String> =
                        block.except.iter().map(ToString::to_string).collect();
                    *text += &format!(
                        "      IPBlock:\n        CIDR: {}\n        Except: {}\n",
                        block.cidr,
                        except.join(", ")
                    );
                }
                Peer::Pods { namespaces, pods } => {
                    if let Some(selector) = namespaces {
                        *text += &format!("      NamespaceSelector: {}\n", words(selector));
                    }
                    if let Some(selector) = pods {
                        *text += &format!("      PodSelector: {}\n", words(selector));
                    }
                }
            }
        }
    }
}

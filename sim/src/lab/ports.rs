//! Host ports of pods: as a lab file writes them, and whether two of a node want the same.

use std::collections::HashMap;

use super::diagnostics::{At, Pos, Sink};
use super::read;
use super::tree::Value;
use crate::kube::{ContainerPort, HostPort};
use crate::portmap::{conflict, parse};

/// A list of words as `podwire run --port` takes them.
pub(super) fn read(value: &Value, sink: &mut Sink<'_>) -> Vec<At<ContainerPort>> {
    let mut all = Vec::new();
    for word in read::texts(value, "ports", sink) {
        match parse(&word.value) {
            Err(why) => sink.error(word.pos, why),
            Ok(ports) => all.extend(ports.into_iter().map(|mut port| {
                if let Some(host) = &mut port.host {
                    host.declared_at = Some(sink.describe(word.pos));
                }
                At {
                    value: port,
                    pos: word.pos,
                }
            })),
        }
    }
    all
}

/// The host ports of all pods so far, by node.
#[derive(Debug, Default)]
pub(super) struct Taken {
    by_node: HashMap<usize, Vec<(String, Pos, ContainerPort)>>,
}

impl Taken {
    /// Adds those of a pod to its node's, and reports those that another pod there has (PM-8).
    pub(super) fn add(
        &mut self,
        (node, node_name): (usize, &str),
        pod: &str,
        ports: &[At<ContainerPort>],
        sink: &mut Sink<'_>,
    ) {
        let taken = self.by_node.entry(node).or_default();
        for port in ports.iter().filter(|port| port.value.host.is_some()) {
            let find = |(_, _, other): &&(String, Pos, ContainerPort)| {
                conflict(&port.value, other).is_some()
            };
            if let (Some((owner, there, _)), Some(HostPort { port: number, .. })) =
                (taken.iter().find(find), &port.value.host)
            {
                let protocol = port.value.protocol.name();
                let message = format!(
                    "hostPort {number}/{protocol} of pod \"{pod}\" belongs to pod \"{owner}\" on node \"{node_name}\" already"
                );
                sink.conflict(Some(port.pos), message, Some(*there), "which is here");
            }
            taken.push((pod.to_owned(), port.pos, port.value.clone()));
        }
    }
}

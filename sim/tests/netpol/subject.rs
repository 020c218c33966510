//! What is tested: manifests read, compiled and asked, node by node.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use router_core::Mac;
use router_core::config::{PortConfig, PortId, Snapshot};
use router_core::policy::{CtState, Direction, Policy, PolicyConfig, Subject};
use serde_json::{Value, json};
use sim::kube::{ContainerPort, NetworkPolicy, Object, Protocol};
use sim::lab::Source;
use sim::manifest::{self, Manifest};
use sim::policy::{Input, PodFacts, compile};

use crate::naive::{Pod, Probe, World};

/// eth0 of every node; pods have the ports behind it.
const ETH0: PortId = PortId(0);

/// A world, compiled for some nodes.
pub(crate) struct Compiled {
    /// Which node each pod is on.
    pub(crate) node_of: Vec<usize>,
    /// Router port of each pod.
    pub(crate) port_of: Vec<PortId>,
    /// What each node was told.
    pub(crate) configs: Vec<PolicyConfig>,
    policies: Vec<Policy>,
}

pub(crate) fn protocol(name: &str) -> u8 {
    match name {
        "TCP" => 6,
        "UDP" => 17,
        "SCTP" => 132,
        "ICMP" => 1,
        other => panic!("protocol {other}"),
    }
}

/// The policies as podwire reads them. The matrix leaves out `apiVersion` at places, which an API server wants.
pub(crate) fn read(policies: &[Value]) -> Vec<NetworkPolicy> {
    if policies.is_empty() {
        return Vec::new();
    }
    let items: Vec<Value> = policies
        .iter()
        .map(|policy| {
            let mut policy = policy.clone();
            policy["apiVersion"] = json!("networking.k8s.io/v1");
            policy["kind"] = json!("NetworkPolicy");
            policy
        })
        .collect();
    let text = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    let manifests = manifest::load(&[Source::new("policies.json", text)])
        .unwrap_or_else(|error| panic!("a policy that Kubernetes takes is refused: {error}"));
    manifests
        .into_iter()
        .map(|manifest| match manifest {
            Manifest::Object(object) => match *object {
                Object::NetworkPolicy(policy) => policy,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        })
        .collect()
}

impl Compiled {
    /// Pod number n is on node n modulo `nodes`.
    pub(crate) fn new(world: &World, nodes: usize) -> Self {
        let labels: Vec<IndexMap<String, String>> = world
            .pods
            .iter()
            .map(|pod| pod.labels.clone().into_iter().collect())
            .collect();
        let ports: Vec<Vec<ContainerPort>> = world.pods.iter().map(container_ports).collect();
        let names: Vec<String> = (0..nodes).map(|n| format!("node{n}")).collect();
        let node_of: Vec<usize> = (0..world.pods.len()).map(|n| n % nodes).collect();
        let port_of: Vec<PortId> = (0..world.pods.len())
            .map(|n| PortId(u16::try_from(n + 1).expect("few pods")))
            .collect();
        let facts: Vec<PodFacts<'_>> = world
            .pods
            .iter()
            .enumerate()
            .map(|(n, pod)| PodFacts {
                namespace: &pod.ns,
                labels: &labels[n],
                ip: pod.ip,
                node: &names[node_of[n]],
                port: Some(port_of[n]),
                ports: &ports[n],
            })
            .collect();
        let namespaces = world
            .namespaces
            .iter()
            .map(|(name, labels)| (name.clone(), labels.clone().into_iter().collect()))
            .collect();
        let policies = read(&world.policies);
        let mut compiled: BTreeMap<String, PolicyConfig> = compile(&Input {
            pods: &facts,
            namespaces: &namespaces,
            policies: &policies.iter().collect::<Vec<_>>(),
            flush_on_change: false,
        });
        let configs: Vec<PolicyConfig> = names
            .iter()
            .map(|name| compiled.remove(name).unwrap_or_default())
            .collect();
        let policies = (0..nodes)
            .map(|node| Policy::new(&snapshot(&configs[node], &node_of, &port_of, node)))
            .collect();
        Self {
            node_of,
            port_of,
            configs,
            policies,
        }
    }

    /// As [`crate::naive::judge`].
    pub(crate) fn judge(&self, world: &World, probe: Probe<'_>) -> (bool, bool) {
        let (from, to) = (probe.from, probe.to);
        let subject = Subject {
            src: world.pods[from].ip,
            dst: world.pods[to].ip,
            protocol: protocol(probe.protocol),
            dport: (probe.protocol != "ICMP").then_some(probe.port),
            state: CtState::New,
            too_big_from: None,
        };
        let ask = |node: usize, direction: Direction| {
            let place = |pod: usize| {
                if self.node_of[pod] == node {
                    usize::from(self.port_of[pod].0)
                } else {
                    0
                }
            };
            self.policies[node]
                .judge(
                    None,
                    direction,
                    Some(place(from)),
                    Some(place(to)),
                    &subject,
                )
                .refusal(direction)
                .is_none()
        };
        (
            ask(self.node_of[to], Direction::Ingress),
            ask(self.node_of[from], Direction::Egress),
        )
    }
}

/// Ports in the order of their numbers, so that place and number agree.
fn snapshot(config: &PolicyConfig, node_of: &[usize], port_of: &[PortId], node: usize) -> Snapshot {
    let mut ports = vec![PortConfig::ethernet(ETH0.0, "eth0", Mac::ZERO, 1500)];
    for (pod, port) in port_of.iter().enumerate() {
        let mut config = PortConfig::ethernet(port.0, "pod", Mac::ZERO, 1500);
        config.up = node_of[pod] == node;
        ports.push(config);
    }
    Snapshot {
        ports,
        policy: config.clone(),
        ..Snapshot::default()
    }
}

fn container_ports(pod: &Pod) -> Vec<ContainerPort> {
    pod.ports
        .iter()
        .map(|(name, port, protocol)| ContainerPort {
            name: Some(name.clone()),
            port: *port,
            protocol: match protocol.as_str() {
                "TCP" => Protocol::Tcp,
                "UDP" => Protocol::Udp,
                _ => Protocol::Sctp,
            },
            host: None,
        })
        .collect()
}

//! Compiles NetworkPolicies: from objects with selectors to what the router of each node obeys.
//!
//! Decides which pods a policy isolates, which addresses a peer stands for and which numbers a named port has. Pure: pods,
//! namespaces and policies in, a [`PolicyConfig`] per node out. Does not judge packets (`router_core::policy`).
//!
//! Semantics (Kubernetes API reference, networking.k8s.io/v1; requirement ids of section 7):
//! - pods with hostNetwork are neither isolated nor matched by selectors (NP-15); an ipBlock matches their node's address;
//! - a named port of an ingress rule is that of the isolated pod, one of an egress rule that of each destination pod; where no
//!   container has the name the rule allows nothing (NP-7);
//! - an ipBlock matches whoever has the address, pods included.
//!
//! Cost: pods are indexed by namespace and label, each selector is resolved once however many rules use it, and pods that the
//! same policies select share one program. 10,000 policies that select a few of 1,000 pods each take time in the order of
//! the pods that they select, not of the product.

mod index;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::rc::Rc;

use indexmap::IndexMap;
use ipnet::{IpNet, Ipv4Net};
use router_core::PortId;
use router_core::policy::{
    AddressRange, PolicyConfig, PolicyEndpoint, PolicyName, PolicyPeers, PolicyPorts,
    PolicyProgram, PolicyRule as CoreRule,
};

use crate::kube::{
    ContainerPort, Direction, IpBlock, NetworkPolicy, Peer, PolicyPort, PolicyRule, PortRef,
};
use index::Index;

/// A pod as policy sees it.
#[derive(Clone, Copy, Debug)]
pub struct PodFacts<'a> {
    /// Kubernetes namespace.
    pub namespace: &'a str,
    /// Labels.
    pub labels: &'a IndexMap<String, String>,
    /// Address.
    pub ip: Ipv4Addr,
    /// Name of its node.
    pub node: &'a str,
    /// The router's port; none with hostNetwork.
    pub port: Option<PortId>,
    /// What its containers serve.
    pub ports: &'a [ContainerPort],
}

/// What is compiled.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// All pods of the cluster.
    pub pods: &'a [PodFacts<'a>],
    /// Labels of every namespace that has an object; one without is known by its name only.
    pub namespaces: &'a IndexMap<String, IndexMap<String, String>>,
    /// All policies.
    pub policies: &'a [&'a NetworkPolicy],
    /// See [`PolicyConfig::flush_on_change`].
    pub flush_on_change: bool,
}

/// Addresses, sorted and joined; shared between the rules that mean the same.
type Set = Rc<Vec<AddressRange>>;

/// A rule with its peers resolved.
struct Resolved {
    number: u32,
    /// None: anybody.
    peers: Option<Set>,
    ports: Ports,
}

enum Ports {
    /// Every port and protocol.
    All,
    Numbers(Vec<PolicyPorts>),
    /// With names that the isolated pod's containers give to ports.
    Named(Vec<PolicyPort>),
}

/// The policies as programs of each node that has an isolated pod, by the node's name.
#[must_use]
pub fn compile(input: &Input<'_>) -> BTreeMap<String, PolicyConfig> {
    let index = Index::new(input.pods, input.namespaces);
    let mut compiler = Compiler {
        input,
        index,
        sets: HashMap::new(),
    };
    // Which policies isolate each pod, by rising number.
    let mut isolating: Vec<[Vec<usize>; 2]> = vec![[Vec::new(), Vec::new()]; input.pods.len()];
    for (number, policy) in input.policies.iter().enumerate() {
        let namespace = policy.meta.namespace.as_str();
        for pod in compiler.index.pods(namespace, &policy.pod_selector) {
            for direction in [Direction::Ingress, Direction::Egress] {
                if policy.types.contains(&direction) {
                    isolating[pod][direction as usize].push(number);
                }
            }
        }
    }
    let mut resolved: HashMap<(usize, Direction), Rc<Vec<Resolved>>> = HashMap::new();
    let mut nodes: BTreeMap<&str, NodeBuilder> = BTreeMap::new();
    for (pod, isolating) in input.pods.iter().zip(&isolating) {
        let Some(port) = pod.port else { continue };
        let node = nodes.entry(pod.node).or_default();
        let mut program = |direction: Direction| {
            let policies = &isolating[direction as usize];
            if policies.is_empty() {
                return None;
            }
            let rules: Vec<(usize, Rc<Vec<Resolved>>)> = policies
                .iter()
                .map(|&number| {
                    let rules = resolved
                        .entry((number, direction))
                        .or_insert_with(|| Rc::new(compiler.rules(number, direction)));
                    (number, Rc::clone(rules))
                })
                .collect();
            Some(node.program(direction, policies, &rules, pod.ports, input.policies))
        };
        let (ingress, egress) = (program(Direction::Ingress), program(Direction::Egress));
        node.config.endpoints.push(PolicyEndpoint {
            port,
            ip: pod.ip,
            ingress,
            egress,
        });
    }
    nodes
        .into_iter()
        .filter(|(_, node)| !node.config.programs.is_empty())
        .map(|(name, node)| {
            let mut config = node.config;
            config.flush_on_change = input.flush_on_change;
            (name.to_owned(), config)
        })
        .collect()
}

struct Compiler<'a> {
    input: &'a Input<'a>,
    index: Index<'a>,
    /// Peers that were resolved: by the policy's namespace, which matters to some, and what is written.
    sets: HashMap<(&'a str, &'a [Peer]), Set>,
}

impl<'a> Compiler<'a> {
    fn rules(&mut self, number: usize, direction: Direction) -> Vec<Resolved> {
        let policy: &'a NetworkPolicy = self.input.policies[number];
        let rules = policy.rules(direction).unwrap_or_default();
        (0..)
            .zip(rules)
            .flat_map(|(number, rule)| self.rule(policy, number, rule, direction))
            .collect()
    }

    /// One rule as one, or, with named ports of destination pods, as one for each number that a name stands for.
    fn rule(
        &mut self,
        policy: &'a NetworkPolicy,
        number: u32,
        rule: &'a PolicyRule,
        direction: Direction,
    ) -> Vec<Resolved> {
        let peers = (!rule.peers.is_empty()).then(|| self.peers(policy, &rule.peers));
        if rule.ports.is_empty() {
            return vec![Resolved {
                number,
                peers,
                ports: Ports::All,
            }];
        }
        let named = |port: &&PolicyPort| matches!(port.port, Some(PortRef::Name(_)));
        if direction == Direction::Ingress && rule.ports.iter().any(|port| named(&port)) {
            return vec![Resolved {
                number,
                peers,
                ports: Ports::Named(rule.ports.clone()),
            }];
        }
        let mut resolved = Vec::new();
        let numbers: Vec<PolicyPorts> = rule.ports.iter().filter_map(numbered).collect();
        for port in rule.ports.iter().filter(named) {
            for (number_of_port, pods) in self.destinations(port, peers.as_deref()) {
                resolved.push(Resolved {
                    number,
                    peers: Some(Rc::new(pods)),
                    ports: Ports::Numbers(vec![number_of_port]),
                });
            }
        }
        if !numbers.is_empty() {
            resolved.push(Resolved {
                number,
                peers,
                ports: Ports::Numbers(numbers),
            });
        }
        resolved
    }

    /// The pods among `peers` that name a port so, by the number that they give it.
    fn destinations(
        &self,
        port: &PolicyPort,
        peers: Option<&Vec<AddressRange>>,
    ) -> BTreeMap<PolicyPorts, Vec<AddressRange>> {
        let mut found: BTreeMap<PolicyPorts, Vec<(u32, u32)>> = BTreeMap::new();
        for pod in self.input.pods.iter().filter(|pod| pod.port.is_some()) {
            if peers.is_some_and(|peers| !contains(peers, pod.ip)) {
                continue;
            }
            for number in by_name(port, pod.ports) {
                let address = pod.ip.to_bits();
                found.entry(number).or_default().push((address, address));
            }
        }
        found
            .into_iter()
            .map(|(number, pods)| (number, joined(pods)))
            .collect()
    }

    fn peers(&mut self, policy: &'a NetworkPolicy, peers: &'a [Peer]) -> Set {
        let namespace = policy.meta.namespace.as_str();
        if let Some(set) = self.sets.get(&(namespace, peers)) {
            return Rc::clone(set);
        }
        let mut ranges = Vec::new();
        for peer in peers {
            match peer {
                Peer::IpBlock(block) => ranges.extend(block_ranges(block)),
                Peer::Pods { namespaces, pods } => {
                    let addresses = self
                        .index
                        .peers(namespace, namespaces.as_ref(), pods.as_ref());
                    ranges.extend(addresses.iter().map(|ip| (ip.to_bits(), ip.to_bits())));
                }
            }
        }
        let set = Rc::new(joined(ranges));
        self.sets.insert((namespace, peers), Rc::clone(&set));
        set
    }
}

/// What makes the program of a pod what it is.
#[derive(PartialEq, Eq, Hash)]
struct ProgramKey {
    direction: Direction,
    policies: Vec<usize>,
    /// The numbers of the pod's named ports, where a rule wants them.
    named: Vec<Vec<PolicyPorts>>,
}

/// The configuration of one node as it grows.
#[derive(Default)]
struct NodeBuilder {
    config: PolicyConfig,
    programs: HashMap<ProgramKey, u32>,
    sets: HashMap<Set, u32>,
    policies: HashMap<usize, u32>,
}

impl NodeBuilder {
    fn program(
        &mut self,
        direction: Direction,
        policies: &[usize],
        rules: &[(usize, Rc<Vec<Resolved>>)],
        ports: &[ContainerPort],
        all: &[&NetworkPolicy],
    ) -> u32 {
        let named = rules
            .iter()
            .flat_map(|(_, rules)| rules.iter())
            .filter_map(|rule| match &rule.ports {
                Ports::Named(written) => Some(own_ports(written, ports)),
                _ => None,
            })
            .collect();
        let key = ProgramKey {
            direction,
            policies: policies.to_vec(),
            named,
        };
        if let Some(&program) = self.programs.get(&key) {
            return program;
        }
        let mut program = PolicyProgram::default();
        for (number, rules) in rules {
            let policy = self.policy(*number, all);
            program.policies.push(policy);
            for rule in rules.iter() {
                let ports = match &rule.ports {
                    Ports::All => Vec::new(),
                    Ports::Numbers(numbers) => numbers.clone(),
                    Ports::Named(written) => match own_ports(written, ports) {
                        // Without a port it would be for all of them.
                        own if own.is_empty() => continue,
                        own => own,
                    },
                };
                program.rules.push(CoreRule {
                    policy,
                    number: rule.number,
                    peers: match &rule.peers {
                        None => PolicyPeers::Any,
                        Some(set) => PolicyPeers::Set(self.set(set)),
                    },
                    ports,
                });
            }
        }
        let number = count(self.config.programs.len());
        self.config.programs.push(program);
        self.programs.insert(key, number);
        number
    }

    fn set(&mut self, set: &Set) -> u32 {
        if let Some(&number) = self.sets.get(set) {
            return number;
        }
        let number = count(self.config.sets.len());
        self.config.sets.push(set.as_ref().clone());
        self.sets.insert(Rc::clone(set), number);
        number
    }

    fn policy(&mut self, number: usize, all: &[&NetworkPolicy]) -> u32 {
        let config = &mut self.config;
        *self.policies.entry(number).or_insert_with(|| {
            let meta = &all[number].meta;
            config.policies.push(PolicyName {
                name: meta.key(),
                place: meta.declared_at.clone(),
            });
            count(config.policies.len() - 1)
        })
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Ports by number; none for a port by name.
fn numbered(port: &PolicyPort) -> Option<PolicyPorts> {
    let (first, last) = match port.port {
        None => (0, u16::MAX),
        Some(PortRef::Number(number)) => (number, port.end_port.unwrap_or(number)),
        Some(PortRef::Name(_)) => return None,
    };
    Some(PolicyPorts {
        protocol: port.protocol.number(),
        first,
        last,
    })
}

/// The numbers that containers give to a port by name.
fn by_name(port: &PolicyPort, ports: &[ContainerPort]) -> Vec<PolicyPorts> {
    let Some(PortRef::Name(name)) = &port.port else {
        return Vec::new();
    };
    ports
        .iter()
        .filter(|own| own.protocol == port.protocol && own.name.as_ref() == Some(name))
        .map(|own| PolicyPorts {
            protocol: own.protocol.number(),
            first: own.port,
            last: own.port,
        })
        .collect()
}

/// All ports of a rule, names replaced by what the isolated pod's containers call so.
fn own_ports(written: &[PolicyPort], ports: &[ContainerPort]) -> Vec<PolicyPorts> {
    written
        .iter()
        .flat_map(|port| match numbered(port) {
            Some(number) => vec![number],
            None => by_name(port, ports),
        })
        .collect()
}

fn contains(set: &[AddressRange], ip: Ipv4Addr) -> bool {
    let at = set.partition_point(|range| range.first <= ip);
    at.checked_sub(1)
        .and_then(|at| set.get(at))
        .is_some_and(|range| ip <= range.last)
}

/// The addresses of a block without its exceptions. A block of IPv6 has none.
fn block_ranges(block: &IpBlock) -> Vec<(u32, u32)> {
    let ends = |net: &Ipv4Net| (net.network().to_bits(), net.broadcast().to_bits());
    let IpNet::V4(cidr) = &block.cidr else {
        return Vec::new();
    };
    let mut except: Vec<(u32, u32)> = block
        .except
        .iter()
        .filter_map(|net| match net {
            IpNet::V4(net) => Some(ends(net)),
            IpNet::V6(_) => None,
        })
        .collect();
    except.sort_unstable();
    let (first, end) = ends(cidr);
    let mut ranges = Vec::new();
    let mut next = Some(first);
    for (from, to) in except {
        let Some(start) = next else { break };
        if from > start {
            ranges.push((start, from - 1));
        }
        // Behind the last address of all there is nothing.
        next = to.checked_add(1).map(|after| after.max(start));
    }
    if let Some(start) = next.filter(|start| *start <= end) {
        ranges.push((start, end));
    }
    ranges
}

/// Sorted, with overlaps and neighbours joined.
fn joined(mut ranges: Vec<(u32, u32)>) -> Vec<AddressRange> {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let joins = next.0 <= kept.1.saturating_add(1);
        if joins {
            kept.1 = kept.1.max(next.1);
        }
        joins
    });
    ranges
        .into_iter()
        .map(|(first, last)| AddressRange {
            first: first.into(),
            last: last.into(),
        })
        .collect()
}

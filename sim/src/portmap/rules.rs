//! The plugin's chains in the nat table (PM-1, PM-3, PM-4, PM-10).

use ipnet::Ipv4Net;
use router_core::Filter;
use router_core::config::nat::{
    Backend, Mark, Matches, NatConfig, NetMatch, OUTPUT, Origin, POSTROUTING, PREROUTING,
    PortChoice, Rule, Target,
};
use sha2::{Digest as _, Sha512};

use super::address;
use crate::kube::{ContainerPort, HostPort, Protocol};
use crate::model::Pod;

/// Bit of the mark that asks for masquerade (`markMasqBit` 13).
const MASQUERADE: Mark = Mark {
    value: 0x2000,
    mask: 0x2000,
};

const DNAT: &str = "CNI-HOSTPORT-DNAT";
const SET_MARK: &str = "CNI-HOSTPORT-SETMARK";
const MASQ: &str = "CNI-HOSTPORT-MASQ";

/// Ports that the kernel takes in one `multiport`.
const MULTIPORT: usize = 15;

/// Longest name of a chain that iptables takes, bytes.
const CHAIN_LEN: usize = 28;

/// A pod with host ports as the plugin is called for it.
#[derive(Clone, Debug)]
pub struct Mapped<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Its address with the prefix length that it has inside: sources in there are masqueraded.
    pub net: Ipv4Net,
    /// `name` of the CNI network.
    pub network: &'a str,
    /// `snat` of the plugin.
    pub snat: bool,
    /// Where the pod was written, for traces.
    pub declared_at: Option<&'a str>,
}

impl Mapped<'_> {
    fn ports(&self) -> impl Iterator<Item = (&ContainerPort, &HostPort)> {
        let ports = self.pod.ports.iter();
        ports.filter_map(|port| Some((port, port.host.as_ref()?)))
    }

    /// As the plugin forms it of network and container.
    fn chain(&self) -> String {
        let hash = Sha512::digest(format!("{}{}", self.network, self.pod.container_id));
        let digits = hash.iter().map(|byte| format!("{byte:02x}"));
        let mut name: String = std::iter::once("CNI-DN-".to_owned())
            .chain(digits)
            .collect();
        name.truncate(CHAIN_LEN);
        name
    }

    /// A rule for one of its ports, or for the pod.
    fn rule(&self, target: Target, matches: Matches, port: Option<&HostPort>) -> Rule {
        let at = port.and_then(|port| port.declared_at.as_deref());
        let mut rule = Rule::new(target).when(matches);
        rule.origin = Some(Origin {
            name: format!("hostPort of pod {}", self.pod.key()),
            at: at.or(self.declared_at).map(str::to_owned),
        });
        rule
    }
}

/// Writes the chains for the pods of a node, in the order of their creation. They stand behind what PREROUTING and OUTPUT have, and
/// before everything of POSTROUTING: the plugin inserts there, lest what leaves the cluster be masqueraded first. Without pods
/// nothing is written.
pub fn append(nat: &mut NatConfig, pods: &[Mapped<'_>]) {
    if pods.is_empty() {
        return;
    }
    for hook in [PREROUTING, OUTPUT] {
        let to_node = Matches {
            dst_local: Some(true),
            ..Matches::default()
        };
        nat.append(hook, jump(DNAT).when(to_node));
    }
    if pods.iter().any(|pod| pod.snat) {
        let masquerade = jump(MASQ).comment("CNI portfwd requiring masquerade");
        match nat.chains.iter_mut().find(|it| it.name == POSTROUTING) {
            Some(chain) => chain.rules.insert(0, masquerade),
            None => nat.append(POSTROUTING, masquerade),
        }
        let mark = Rule::new(Target::Mark(MASQUERADE)).comment("CNI portfwd masquerade mark");
        nat.append(SET_MARK, mark);
        let marked = Matches {
            mark: Some(MASQUERADE),
            ..Matches::default()
        };
        let all = Target::Masquerade(PortChoice::default());
        nat.append(MASQ, Rule::new(all).when(marked));
    }
    for pod in pods {
        entries(nat, pod);
        translations(nat, pod);
    }
}

/// From the chain of all pods to that of one: a rule for each fifteen ports of a protocol (PM-10).
fn entries(nat: &mut NatConfig, pod: &Mapped<'_>) {
    let (network, id) = (pod.network, &pod.pod.container_id);
    let mut comment = format!("dnat name: \"{network}\" id: \"{id}\"");
    comment.truncate(255);
    // In the order of their names, as the plugin sorts them.
    for protocol in [Protocol::Sctp, Protocol::Tcp, Protocol::Udp] {
        let ports: Vec<(u16, u16)> = pod
            .ports()
            .filter(|(port, _)| port.protocol == protocol)
            .map(|(_, host)| (host.port, host.port))
            .collect();
        for some in ports.chunks(MULTIPORT) {
            let matches = Matches {
                protocol: Some(protocol.number()),
                dports: some.to_vec(),
                ..Matches::default()
            };
            let rule = pod.rule(Target::Jump(pod.chain()), matches, None);
            nat.append(DNAT, rule.comment(&comment));
        }
    }
}

/// For each port: who is to be masqueraded (the pod's own subnet, PM-3, and the node's loopback, PM-4), and where it leads.
fn translations(nat: &mut NatConfig, pod: &Mapped<'_>) {
    let chain = pod.chain();
    for (port, host) in pod.ports() {
        let to_port = Matches {
            protocol: Some(port.protocol.number()),
            dst: address(host).map(|ip| NetMatch::within(ip.into())),
            dports: vec![(host.port, host.port)],
            ..Matches::default()
        };
        let loopback = Ipv4Net::from(std::net::Ipv4Addr::LOCALHOST);
        for src in [pod.net.trunc(), loopback].iter().filter(|_| pod.snat) {
            let from = Matches {
                src: Some(NetMatch::within(*src)),
                ..to_port.clone()
            };
            let mark = Target::Jump(SET_MARK.to_owned());
            nat.append(&chain, pod.rule(mark, from, Some(host)));
        }
        let backend = Backend {
            addr: pod.pod.ip,
            port: Some(port.port),
            weight: 1,
        };
        let dnat = Target::Dnat {
            backends: vec![backend],
            affinity: None,
        };
        nat.append(&chain, pod.rule(dnat, to_port, Some(host)));
    }
}

fn jump(chain: &str) -> Rule {
    Rule::new(Target::Jump(chain.to_owned()))
}

/// Connections of a node to be forgotten when a pod with these ports comes or goes (PM-7): those of UDP to its host ports, whose
/// clients would go on to whoever had the port before. The plugin does so only when a pod comes (deviation D11).
pub fn udp_filters(ports: &[ContainerPort]) -> impl Iterator<Item = Filter> {
    ports
        .iter()
        .filter(|port| port.protocol == Protocol::Udp)
        .filter_map(|port| port.host.as_ref())
        .map(|host| Filter {
            protocol: Some(Protocol::Udp.number()),
            dport: Some(host.port),
            ..Filter::default()
        })
}

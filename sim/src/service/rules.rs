//! kube-proxy's chains in the nat table.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use router_core::config::nat::{
    Backend, Mark, Matches, NatConfig, NetMatch, OUTPUT, Origin, POSTROUTING, PREROUTING,
    PortChoice, Rule, Target,
};

use super::View;
use super::endpoints::SERVICE_NAME;
use super::names::chain;
use crate::kube::{Affinity, EndpointSlice, Service, ServiceKind, ServicePort};
use crate::spec::kube_proxy;

/// Bit of the mark that asks for masquerade (kube-proxy's `--iptables-masquerade-bit` 14).
const MASQUERADE: Mark = Mark {
    value: 0x4000,
    mask: 0x4000,
};

pub(super) const SERVICES: &str = "KUBE-SERVICES";
pub(super) const NODE_PORTS: &str = "KUBE-NODEPORTS";
const MARK_MASQ: &str = "KUBE-MARK-MASQ";
const POSTROUTING_CHAIN: &str = "KUBE-POSTROUTING";

/// Whether a slice is of this service.
#[must_use]
pub fn is_of(slice: &EndpointSlice, service: &Service) -> bool {
    slice.meta.namespace == service.meta.namespace
        && slice.meta.labels.get(SERVICE_NAME) == Some(&service.meta.name)
}

/// Writes the rules of all services into `nat`. KUBE-SERVICES comes before the host ports of PREROUTING and OUTPUT (`portmap`), and
/// KUBE-POSTROUTING before everything of POSTROUTING (SVC-8). Without services nothing is written.
pub fn append(nat: &mut NatConfig, view: &View<'_>) {
    let services: Vec<&Service> = view
        .services
        .iter()
        .copied()
        .filter(|service| {
            !service.headless && !matches!(service.kind, ServiceKind::ExternalName(_))
        })
        .collect();
    if services.is_empty() {
        return;
    }
    let portals = "kubernetes service portals";
    for hook in [PREROUTING, OUTPUT] {
        let rule = Rule::new(Target::Jump(SERVICES.to_owned())).comment(portals);
        nat.append(hook, rule);
    }
    let mut writer = Writer {
        nat,
        view,
        node_ports: Vec::new(),
        local: BTreeMap::new(),
    };
    for service in services {
        for port in &service.ports {
            writer.port(service, port);
        }
    }
    writer.finish();
    // Packets of no connection are dropped, lest they leave untranslated (SVC-9).
    nat.conntrack.drop_invalid = true;
    kube_proxy(&mut nat.conntrack.timers);
}

/// Protocol and number of the node ports that have rules in `nat`.
pub fn node_ports(nat: &NatConfig) -> impl Iterator<Item = (u8, u16)> {
    let rules = nat.chain(NODE_PORTS).map_or(&[][..], |it| &it.rules);
    rules.iter().filter_map(|rule| {
        let &(port, _) = rule.matches.dports.first()?;
        Some((rule.matches.protocol?, port))
    })
}

struct Writer<'a> {
    nat: &'a mut NatConfig,
    view: &'a View<'a>,
    node_ports: Vec<Rule>,
    /// Endpoints on this node: whoever of them is led to itself is masqueraded.
    local: BTreeMap<Ipv4Addr, ()>,
}

impl Writer<'_> {
    fn port(&mut self, service: &Service, port: &ServicePort) {
        let name = format!(
            "{}/{}{}",
            service.meta.namespace,
            service.meta.name,
            if port.name.is_empty() {
                String::new()
            } else {
                format!(":{}", port.name)
            }
        );
        let all = self.endpoints(service, port);
        let local: Vec<(Ipv4Addr, u16)> = all
            .iter()
            .filter(|(_, local)| *local)
            .map(|(endpoint, _)| *endpoint)
            .collect();
        let all: Vec<(Ipv4Addr, u16)> = all.into_iter().map(|(endpoint, _)| endpoint).collect();
        for (address, _) in &local {
            self.local.insert(*address, ());
        }
        let writing = Writing {
            name: &name,
            service,
            port,
        };
        let internal = if service.internal_local { &local } else { &all };
        if let Some(address) = service.cluster_ip {
            let to = writing.to(address);
            let target =
                self.backend_chain(&writing, internal, service.internal_local, Some(address));
            let rule = match target {
                Some(chain) => Target::Jump(chain),
                // Endpoints elsewhere, and none here: silence. None at all: refusal (SVC-3).
                None if !all.is_empty() => Target::Drop,
                None => Target::Reject,
            };
            let comment = match rule {
                Target::Jump(_) => format!("{name} cluster IP"),
                Target::Drop => format!("{name} has no local endpoints"),
                _ => format!("{name} has no endpoints"),
            };
            self.nat.append(SERVICES, writing.rule(rule, to, &comment));
        }
        let external = self.external_chain(&writing, &all, &local);
        for &address in &service.external_ips {
            let to = writing.to(address);
            let rule = writing.rule(external.clone(), to, &format!("{name} external IP"));
            self.nat.append(SERVICES, rule);
        }
        if let Some(node_port) = port.node_port {
            let to = Matches {
                protocol: Some(port.protocol.number()),
                dports: vec![(node_port, node_port)],
                ..Matches::default()
            };
            self.node_ports.push(writing.rule(external, to, &name));
        }
    }

    /// Ready endpoints with the number of the port, and whether they are on this node.
    fn endpoints(&self, service: &Service, port: &ServicePort) -> Vec<((Ipv4Addr, u16), bool)> {
        let mut found = Vec::new();
        for slice in self
            .view
            .slices
            .iter()
            .filter(|slice| is_of(slice, service))
        {
            let own = slice
                .ports
                .iter()
                .find(|own| own.name == port.name && own.protocol == port.protocol);
            let Some(number) = own.and_then(|own| own.port) else {
                continue;
            };
            for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.ready) {
                let local = endpoint.node.as_deref() == Some(self.view.node);
                found.push(((endpoint.address, number), local));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The chain that leads to one of `endpoints`, made when it is new: KUBE-SVC-* of all, KUBE-SVL-* of those on this node.
    fn backend_chain(
        &mut self,
        writing: &Writing<'_>,
        endpoints: &[(Ipv4Addr, u16)],
        local: bool,
        cluster_ip: Option<Ipv4Addr>,
    ) -> Option<String> {
        if endpoints.is_empty() {
            return None;
        }
        let prefix = if local { "KUBE-SVL-" } else { "KUBE-SVC-" };
        let chain = chain(prefix, writing.name, writing.port.protocol.name());
        if self.nat.chain(&chain).is_some() {
            return Some(chain);
        }
        if let Some(address) = cluster_ip {
            let outside = Matches {
                src: Some(NetMatch::outside(self.view.cluster_cidr)),
                ..writing.to(address)
            };
            let mark = Target::Jump(MARK_MASQ.to_owned());
            let comment = format!("{} cluster IP", writing.name);
            self.nat
                .append(&chain, writing.rule(mark, outside, &comment));
        }
        let affinity = match writing.service.affinity {
            Affinity::None => None,
            Affinity::ClientIp(seconds) => Some(Duration::from_secs(u64::from(seconds))),
        };
        let backends = endpoints.iter().map(|&(addr, port)| Backend {
            addr,
            port: Some(port),
            weight: 1,
        });
        let dnat = Target::Dnat {
            backends: backends.collect(),
            affinity,
        };
        let protocol = Matches {
            protocol: Some(writing.port.protocol.number()),
            ..Matches::default()
        };
        let list: Vec<String> = endpoints
            .iter()
            .map(|(ip, port)| format!("{ip}:{port}"))
            .collect();
        let comment = format!("{} -> {}", writing.name, list.join(" "));
        self.nat
            .append(&chain, writing.rule(dnat, protocol, &comment));
        Some(chain)
    }

    /// What happens to packets for the service's external addresses and node ports (SVC-5).
    fn external_chain(
        &mut self,
        writing: &Writing<'_>,
        all: &[(Ipv4Addr, u16)],
        local: &[(Ipv4Addr, u16)],
    ) -> Target {
        if !writing.service.kind.has_node_ports() && writing.service.external_ips.is_empty() {
            return Target::Return;
        }
        let Some(svc) = self.backend_chain(writing, all, false, writing.service.cluster_ip) else {
            return Target::Reject;
        };
        let ext = chain("KUBE-EXT-", writing.name, writing.port.protocol.name());
        let jump = |chain: &str| Target::Jump(chain.to_owned());
        let name = writing.name;
        if !writing.service.external_local {
            let comment = format!("masquerade traffic for {name} external destinations");
            let mark = writing.rule(jump(MARK_MASQ), Matches::default(), &comment);
            self.nat.append(&ext, mark);
            self.nat
                .append(&ext, writing.rule(jump(&svc), Matches::default(), name));
            return Target::Jump(ext);
        }
        // From pods as to the cluster address; the node itself masquerades; others reach endpoints of this node only.
        let from_pods = Matches {
            src: Some(NetMatch::within(self.view.cluster_cidr)),
            ..Matches::default()
        };
        let comment = format!("pod traffic for {name} external destinations");
        self.nat
            .append(&ext, writing.rule(jump(&svc), from_pods, &comment));
        let from_node = Matches {
            src_local: Some(true),
            ..Matches::default()
        };
        let comment = format!("masquerade LOCAL traffic for {name} external destinations");
        let mark = writing.rule(jump(MARK_MASQ), from_node.clone(), &comment);
        self.nat.append(&ext, mark);
        let comment = format!("route LOCAL traffic for {name} external destinations");
        self.nat
            .append(&ext, writing.rule(jump(&svc), from_node, &comment));
        match self.backend_chain(writing, local, true, None) {
            Some(svl) => self
                .nat
                .append(&ext, writing.rule(jump(&svl), Matches::default(), name)),
            None => {
                let comment = format!("{name} has no local endpoints");
                let drop = writing.rule(Target::Drop, Matches::default(), &comment);
                self.nat.append(&ext, drop);
            }
        }
        Target::Jump(ext)
    }

    fn finish(self) {
        let Self {
            nat,
            node_ports,
            local,
            ..
        } = self;
        if !node_ports.is_empty() {
            for rule in node_ports {
                nat.append(NODE_PORTS, rule);
            }
            let note =
                "kubernetes service nodeports; NOTE: this must be the last rule in this chain";
            let to_node = Matches {
                dst_local: Some(true),
                ..Matches::default()
            };
            let rule = Rule::new(Target::Jump(NODE_PORTS.to_owned())).when(to_node);
            nat.append(SERVICES, rule.comment(note));
        }
        nat.append(MARK_MASQ, Rule::new(Target::Mark(MASQUERADE)));
        let masquerade = || {
            Rule::new(Target::Masquerade(PortChoice {
                range: None,
                random_fully: true,
            }))
        };
        // A client that is led to itself would not believe an answer from its own address.
        for address in local.into_keys() {
            let itself = Matches {
                src: Some(NetMatch::within(Ipv4Net::from(address))),
                dst: Some(NetMatch::within(Ipv4Net::from(address))),
                ..Matches::default()
            };
            let note = "kubernetes endpoints dst ip, source ip for solving hairpin purpose";
            nat.append(POSTROUTING_CHAIN, masquerade().when(itself).comment(note));
        }
        let marked = Matches {
            mark: Some(MASQUERADE),
            ..Matches::default()
        };
        let note = "kubernetes service traffic requiring SNAT";
        nat.append(POSTROUTING_CHAIN, masquerade().when(marked).comment(note));
        let jump = Rule::new(Target::Jump(POSTROUTING_CHAIN.to_owned()))
            .comment("kubernetes postrouting rules");
        match nat
            .chains
            .iter_mut()
            .find(|chain| chain.name == POSTROUTING)
        {
            Some(chain) => chain.rules.insert(0, jump),
            None => nat.append(POSTROUTING, jump),
        }
    }
}

/// What a rule is about.
struct Writing<'a> {
    /// `namespace/name:port`
    name: &'a str,
    service: &'a Service,
    port: &'a ServicePort,
}

impl Writing<'_> {
    /// To this address and the service's port.
    fn to(&self, address: Ipv4Addr) -> Matches {
        Matches {
            protocol: Some(self.port.protocol.number()),
            dst: Some(NetMatch::within(Ipv4Net::from(address))),
            dports: vec![(self.port.port, self.port.port)],
            ..Matches::default()
        }
    }

    fn rule(&self, target: Target, matches: Matches, comment: &str) -> Rule {
        let mut rule = Rule::new(target).when(matches).comment(comment);
        rule.origin = Some(Origin {
            name: format!("Service {}", self.service.meta.key()),
            at: self.service.meta.declared_at.clone(),
        });
        rule
    }
}

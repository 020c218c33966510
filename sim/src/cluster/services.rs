//! Services: addresses and node ports that nobody asked for, and what nodes are told of them.

use std::collections::{BTreeMap, HashSet};
use std::net::Ipv4Addr;

use router_core::config::nat::{NatConfig, POSTROUTING};

use super::{Cluster, ClusterError, Outcome, naming};
use crate::dns::{DOMAIN, Kind, Zone, ZoneEndpoint, ZonePort, ZoneService};
use crate::kube::{EndpointSlice, Object, Service, ServiceKind};
use crate::model::Phase;
use crate::service::{PodFacts, View, append, is_of, slices};

/// First and last of the ports that nodes give to services.
const NODE_PORTS: (u16, u16) = (30_000, 32_767);

/// Appends the chains of `portals` to those that are there; its POSTROUTING comes first (SVC-8).
pub(super) fn join(nat: &mut NatConfig, portals: &NatConfig) {
    for chain in &portals.chains {
        match nat.chains.iter_mut().find(|own| own.name == chain.name) {
            Some(own) if chain.name == POSTROUTING => {
                own.rules.splice(0..0, chain.rules.iter().cloned());
            }
            Some(own) => own.rules.extend(chain.rules.iter().cloned()),
            None => nat.chains.push(chain.clone()),
        }
    }
    nat.conntrack.drop_invalid |= portals.conntrack.drop_invalid;
    nat.conntrack.timers = portals.conntrack.timers.clone();
}

impl Cluster {
    pub(super) fn services(&self) -> impl Iterator<Item = &Service> {
        self.state
            .objects
            .values()
            .filter_map(|stored| match &stored.object {
                Object::Service(service) => Some(service),
                _ => None,
            })
    }

    /// The slices of services with a selector, for the pods that are there.
    pub(super) fn generated_slices(&self) -> Vec<EndpointSlice> {
        let services: Vec<&Service> = self.services().collect();
        let pods: Vec<PodFacts<'_>> = self
            .state
            .pods
            .values()
            .map(|state| PodFacts {
                namespace: &state.pod.namespace,
                name: &state.pod.name,
                labels: &state.pod.labels,
                ip: state.pod.ip,
                node: &state.pod.node,
                ready: state.pod.phase == Phase::Running,
                ports: &state.spec.ports,
            })
            .collect();
        slices(&services, &pods)
    }

    /// Pods by `namespace/name` are in these phases now: a program that does not run is no endpoint of a service.
    pub fn set_phases(
        &mut self,
        phases: impl IntoIterator<Item = (String, Phase)>,
        now_ms: u64,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let mut changed = false;
        for (key, phase) in phases {
            if let Some(state) = self.state.pods.get_mut(&key)
                && state.pod.phase != phase
            {
                state.pod.phase = phase;
                changed = true;
            }
        }
        if changed {
            self.state.now_ms = now_ms;
            self.settle(&mut outcome);
        }
        outcome
    }

    /// Chains for each node; none without services.
    pub(super) fn compile_services(&self) -> BTreeMap<String, NatConfig> {
        let services: Vec<&Service> = self.services().collect();
        if services.is_empty() {
            return BTreeMap::new();
        }
        let mut slices = self.generated_slices();
        slices.extend(self.written_slices());
        self.state
            .nodes
            .keys()
            .map(|node| {
                let mut nat = NatConfig::default();
                let view = View {
                    node,
                    cluster_cidr: self.state.network.cluster_cidr,
                    services: &services,
                    slices: &slices,
                };
                append(&mut nat, &view);
                (node.clone(), nat)
            })
            .collect()
    }

    /// What the name server of the cluster knows.
    #[must_use]
    pub fn zone(&self) -> Zone {
        let mut slices = self.generated_slices();
        slices.extend(self.written_slices());
        let services = self.services().map(|service| {
            let mut endpoints: Vec<ZoneEndpoint> = slices
                .iter()
                .filter(|slice| is_of(slice, service))
                .flat_map(|slice| &slice.endpoints)
                .filter(|endpoint| endpoint.ready)
                .map(|endpoint| ZoneEndpoint {
                    address: endpoint.address,
                    hostname: endpoint.hostname.clone(),
                })
                .collect();
            endpoints.sort_by_key(|endpoint| endpoint.address);
            endpoints.dedup();
            ZoneService {
                namespace: service.meta.namespace.clone(),
                name: service.meta.name.clone(),
                kind: match (&service.kind, service.cluster_ip) {
                    (ServiceKind::ExternalName(name), _) => Kind::External(name.clone()),
                    (_, Some(address)) if !service.headless => Kind::Address(address),
                    _ => Kind::Headless,
                },
                ports: service
                    .ports
                    .iter()
                    .filter(|port| !port.name.is_empty())
                    .map(|port| ZonePort {
                        name: port.name.clone(),
                        protocol: port.protocol,
                        port: port.port,
                    })
                    .collect(),
                endpoints,
            }
        });
        let internet = self.state.network.internet.as_ref();
        Zone {
            namespaces: self.namespaces().into_keys().collect(),
            services: services.collect(),
            forward: internet.and_then(|internet| internet.addresses.first().copied()),
        }
    }

    /// `/etc/resolv.conf` of a pod, where the cluster has a name server.
    #[must_use]
    pub fn resolv_conf(&self, namespace: &str) -> Option<String> {
        let server = self
            .services()
            .find(|service| service.meta.key() == "kube-system/kube-dns")?
            .cluster_ip?;
        Some(format!(
            "nameserver {server}\nsearch {namespace}.svc.{DOMAIN} svc.{DOMAIN} {DOMAIN}\noptions ndots:5\n"
        ))
    }

    fn written_slices(&self) -> impl Iterator<Item = EndpointSlice> {
        self.state
            .objects
            .values()
            .filter_map(|stored| match &stored.object {
                Object::EndpointSlice(slice) => Some(slice.clone()),
                _ => None,
            })
    }

    /// A service with the address and the node ports that it gets, or keeps from the one of its name.
    pub(super) fn with_addresses(&self, object: Object) -> Result<Object, ClusterError> {
        let Object::Service(mut service) = object else {
            return Ok(object);
        };
        let bad = |why: String| ClusterError::BadService {
            name: service.meta.name.clone(),
            why,
        };
        let key = service.meta.key();
        let before = self.services().find(|other| other.meta.key() == key);
        let others = || self.services().filter(|other| other.meta.key() != key);
        let network = &self.state.network;
        let mut cluster_ip = service.cluster_ip;
        if !service.headless && !matches!(service.kind, ServiceKind::ExternalName(_)) {
            let kept = before.and_then(|before| before.cluster_ip);
            match (cluster_ip, kept) {
                (Some(wanted), Some(kept)) if wanted != kept => {
                    return Err(bad("spec.clusterIP: field is immutable".to_owned()));
                }
                (Some(wanted), _) => {
                    let net = network.service_cidr;
                    if !net.contains(&wanted)
                        || wanted == net.network()
                        || wanted == net.broadcast()
                    {
                        return Err(bad(format!(
                            "spec.clusterIP: {wanted} is no address of the range of services, {net}"
                        )));
                    }
                    if let Some(owner) = others().find(|other| other.cluster_ip == Some(wanted)) {
                        return Err(bad(format!(
                            "spec.clusterIP: {wanted} belongs to service {}",
                            owner.meta.key()
                        )));
                    }
                }
                (None, kept) => {
                    cluster_ip = kept.or_else(|| self.free_address(&key));
                    if cluster_ip.is_none() {
                        return Err(bad("no address is left in the range of services".to_owned()));
                    }
                }
            }
        }
        let mut taken: HashSet<(u8, u16)> = others()
            .flat_map(|other| &other.ports)
            .filter_map(|port| Some((port.protocol.number(), port.node_port?)))
            .collect();
        let mut ports = service.ports.clone();
        if service.kind.has_node_ports() {
            for port in ports.iter().filter(|port| port.node_port.is_some()) {
                let wanted = (port.protocol.number(), port.node_port.unwrap_or_default());
                if !taken.insert(wanted) {
                    return Err(bad(format!(
                        "spec.ports.nodePort: {} is allocated already",
                        wanted.1
                    )));
                }
            }
            for port in &mut ports {
                if port.node_port.is_some() {
                    continue;
                }
                let kept = before.and_then(|before| {
                    let mut of_name = before.ports.iter().filter(|own| own.name == port.name);
                    of_name.find_map(|own| own.node_port)
                });
                let protocol = port.protocol.number();
                let start = self.draw(&format!("{key}:{}", port.port), NODE_PORTS.1 - NODE_PORTS.0);
                let free = (NODE_PORTS.0 + start..=NODE_PORTS.1)
                    .chain(NODE_PORTS.0..NODE_PORTS.0 + start)
                    .find(|number| !taken.contains(&(protocol, *number)));
                let Some(number) = kept.or(free) else {
                    return Err(bad("no node port is left".to_owned()));
                };
                taken.insert((protocol, number));
                port.node_port = Some(number);
            }
        }
        service.cluster_ip = cluster_ip;
        service.ports = ports;
        Ok(Object::Service(service))
    }

    /// An address of the upper part of the range, as Kubernetes draws those that nobody asked for.
    fn free_address(&self, key: &str) -> Option<Ipv4Addr> {
        let net = self.state.network.service_cidr;
        let first = net.network().to_bits();
        let hosts = u16::try_from(net.broadcast().to_bits() - first).unwrap_or(u16::MAX);
        let start = self.draw(key, hosts.saturating_sub(256).max(1));
        let taken: HashSet<Ipv4Addr> = self.services().filter_map(|s| s.cluster_ip).collect();
        let low = hosts.min(256);
        (low + start.min(hosts - low)..hosts)
            .chain(1..hosts)
            .map(|host| Ipv4Addr::from_bits(first + u32::from(host)))
            .find(|address| !taken.contains(address))
    }

    /// A number below `bound` that depends on the lab's seed and `key`.
    fn draw(&self, key: &str, bound: u16) -> u16 {
        let mac = naming::mac(self.state.seed, "service", key);
        let [.., high, low] = mac.0;
        u16::from_be_bytes([high, low]) % bound.max(1)
    }
}

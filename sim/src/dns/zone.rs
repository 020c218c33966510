//! The names of a cluster, and what is behind them.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::DOMAIN;
use crate::kube::Protocol;

/// Everything that the name server knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// Namespaces that exist.
    pub namespaces: Vec<String>,
    /// Services.
    pub services: Vec<ZoneService>,
    /// Who is asked for other names.
    pub forward: Option<Ipv4Addr>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneService {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// What its name leads to.
    pub kind: Kind,
    /// Its named ports.
    pub ports: Vec<ZonePort>,
    /// Its ready endpoints.
    pub endpoints: Vec<ZoneEndpoint>,
}

/// What the name of a service leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Its own address.
    Address(Ipv4Addr),
    /// The addresses of its endpoints.
    Headless,
    /// Another name.
    External(String),
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZonePort {
    /// Name.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Number.
    pub port: u16,
}

/// An endpoint of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneEndpoint {
    /// Address.
    pub address: Ipv4Addr,
    /// Name below the service's; else its address with dashes.
    pub hostname: Option<String>,
}

impl ZoneEndpoint {
    /// First label of its name.
    pub(super) fn label(&self) -> String {
        self.hostname
            .clone()
            .unwrap_or_else(|| self.address.to_string().replace('.', "-"))
    }
}

impl ZoneService {
    /// `name.namespace.svc.cluster.local`
    pub(super) fn fqdn(&self) -> String {
        format!("{}.{}.svc.{DOMAIN}", self.name, self.namespace)
    }
}

/// What a name has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    A(Ipv4Addr),
    Srv {
        port: u16,
        target: String,
        address: Ipv4Addr,
    },
    Cname(String),
    Ptr(String),
}

/// The answer of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The name exists; it may have nothing of its own.
    Records(Vec<Data>),
    /// There is no such name in the cluster.
    NoName,
    /// The name is none of the cluster's.
    Elsewhere,
}

impl Zone {
    /// What `name`, in lower case and without a dot at its end, has.
    pub(super) fn find(&self, name: &str) -> Found {
        if let Some(address) = name.strip_suffix(".in-addr.arpa").and_then(reversed) {
            return self.reverse(address);
        }
        let inner = match name.strip_suffix(DOMAIN) {
            Some("") => return Found::Records(Vec::new()),
            Some(inner) if inner.ends_with('.') => inner.trim_end_matches('.'),
            _ => return Found::Elsewhere,
        };
        let labels: Vec<&str> = inner.split('.').collect();
        let known = |namespace: &str| self.namespaces.iter().any(|known| known == namespace);
        match labels.as_slice() {
            ["svc" | "pod"] => Found::Records(Vec::new()),
            [namespace, "svc" | "pod"] if known(namespace) => Found::Records(Vec::new()),
            // `pods insecure`: any address in a namespace that exists, as coredns is deployed.
            [pod, namespace, "pod"] if known(namespace) => match pod.replace('-', ".").parse() {
                Ok(address) => Found::Records(vec![Data::A(address)]),
                Err(_) => Found::NoName,
            },
            [service, namespace, "svc"] => self
                .service(service, namespace)
                .map_or(Found::NoName, |service| Found::Records(of_service(service))),
            [port, protocol, service, namespace, "svc"] => self
                .service(service, namespace)
                .map_or(Found::NoName, |service| of_port(service, port, protocol)),
            [endpoint, service, namespace, "svc"] => {
                let Some(service) = self.service(service, namespace) else {
                    return Found::NoName;
                };
                let found = service
                    .endpoints
                    .iter()
                    .find(|own| own.label() == *endpoint);
                match found {
                    Some(found) => Found::Records(vec![Data::A(found.address)]),
                    // `_tcp.web.default.svc`: above the names of ports.
                    None if endpoint.starts_with('_') => Found::Records(Vec::new()),
                    None => Found::NoName,
                }
            }
            _ => Found::NoName,
        }
    }

    fn service(&self, name: &str, namespace: &str) -> Option<&ZoneService> {
        self.services
            .iter()
            .find(|service| service.name == name && service.namespace == namespace)
    }

    fn reverse(&self, address: Ipv4Addr) -> Found {
        let mut names = Vec::new();
        for service in &self.services {
            if service.kind == Kind::Address(address) {
                names.push(Data::Ptr(service.fqdn()));
            }
            for endpoint in service
                .endpoints
                .iter()
                .filter(|own| own.address == address)
            {
                names.push(Data::Ptr(format!(
                    "{}.{}",
                    endpoint.label(),
                    service.fqdn()
                )));
            }
        }
        if names.is_empty() {
            Found::Elsewhere
        } else {
            Found::Records(names)
        }
    }
}

/// `4.3.2.1` of `4.3.2.1.in-addr.arpa` is 1.2.3.4.
fn reversed(labels: &str) -> Option<Ipv4Addr> {
    let backwards: Ipv4Addr = labels.parse().ok()?;
    let [a, b, c, d] = backwards.octets();
    Some(Ipv4Addr::new(d, c, b, a))
}

fn of_service(service: &ZoneService) -> Vec<Data> {
    match &service.kind {
        Kind::Address(address) => vec![Data::A(*address)],
        Kind::External(name) => vec![Data::Cname(name.clone())],
        Kind::Headless => service
            .endpoints
            .iter()
            .map(|endpoint| Data::A(endpoint.address))
            .collect(),
    }
}

/// SRV records of `_port._protocol`.
fn of_port(service: &ZoneService, port: &str, protocol: &str) -> Found {
    let (Some(port), Some(protocol)) = (port.strip_prefix('_'), protocol.strip_prefix('_')) else {
        return Found::NoName;
    };
    let found = service
        .ports
        .iter()
        .find(|own| own.name == port && own.protocol.name().eq_ignore_ascii_case(protocol));
    let Some(port) = found else {
        return Found::NoName;
    };
    let record = |target: String, address: Ipv4Addr| Data::Srv {
        port: port.port,
        target,
        address,
    };
    Found::Records(match &service.kind {
        Kind::Address(address) => vec![record(service.fqdn(), *address)],
        Kind::External(_) => Vec::new(),
        Kind::Headless => service
            .endpoints
            .iter()
            .map(|endpoint| {
                let target = format!("{}.{}", endpoint.label(), service.fqdn());
                record(target, endpoint.address)
            })
            .collect(),
    })
}

//! Service of core/v1 and EndpointSlice of discovery.k8s.io/v1, with defaults filled in.

use std::net::Ipv4Addr;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{Meta, PortRef, Protocol};

/// A service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Name and so on.
    pub meta: Meta,
    /// How it is reached. (`kind` is the tag of [`super::Object`].)
    #[serde(rename = "type")]
    pub kind: ServiceKind,
    /// Its address; none for a headless service and for an external name. The cluster gives one where none was asked for.
    pub cluster_ip: Option<Ipv4Addr>,
    /// `clusterIP: None`.
    pub headless: bool,
    /// Labels of the pods behind it; none means that endpoint slices are made by hand.
    pub selector: Option<IndexMap<String, String>>,
    /// Ports; empty for a headless service and an external name only.
    pub ports: Vec<ServicePort>,
    /// Clients stay with their endpoint.
    pub affinity: Affinity,
    /// `externalTrafficPolicy: Local`: node ports lead to endpoints of the same node only, and keep the client's address.
    pub external_local: bool,
    /// `internalTrafficPolicy: Local`: the cluster address leads to endpoints of the same node only.
    pub internal_local: bool,
    /// Further addresses that lead to it.
    pub external_ips: Vec<Ipv4Addr>,
    /// `publishNotReadyAddresses`
    pub publish_not_ready: bool,
}

/// `type`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceKind {
    /// By an address inside the cluster.
    #[default]
    ClusterIp,
    /// By a port of every node as well.
    NodePort,
    /// As `NodePort`; nothing here gives it an address of its own.
    LoadBalancer,
    /// A CNAME in DNS.
    ExternalName(String),
}

impl ServiceKind {
    /// As a manifest writes it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
            Self::ExternalName(_) => "ExternalName",
        }
    }

    /// Whether it has node ports.
    #[must_use]
    pub const fn has_node_ports(&self) -> bool {
        matches!(self, Self::NodePort | Self::LoadBalancer)
    }
}

/// `sessionAffinity`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Affinity {
    /// None.
    #[default]
    None,
    /// By the client's address, for this many seconds after its last connection.
    ClientIp(u32),
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// Name; empty only for a service's single port.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Port of the service.
    pub port: u16,
    /// Port of the endpoints.
    pub target: PortRef,
    /// Port of the nodes, where it has one. The cluster gives one where none was asked for.
    pub node_port: Option<u16>,
}

/// Endpoints that somebody else than the cluster keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSlice {
    /// Name and so on; the label `kubernetes.io/service-name` says whose they are.
    pub meta: Meta,
    /// Endpoints.
    pub endpoints: Vec<SliceEndpoint>,
    /// Ports, which all of them serve.
    pub ports: Vec<SlicePort>,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceEndpoint {
    /// Its address.
    pub address: Ipv4Addr,
    /// Takes connections.
    pub ready: bool,
    /// On this node.
    pub node: Option<String>,
    /// Name of the pod, in the slice's namespace.
    pub pod: Option<String>,
    /// Its name in DNS.
    pub hostname: Option<String>,
}

/// A port of endpoints.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SlicePort {
    /// Name, which the service's port has as well; empty for a single port.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Number; none means all ports.
    pub port: Option<u16>,
}

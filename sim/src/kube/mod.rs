//! Kubernetes objects beside nodes and pods, checked: namespaces, network policies, services, endpoint slices.
//!
//! `manifest/` makes them of YAML or refuses them, `cluster/` keeps them and compiles them into snapshots, `view/` prints them.
//! Everything here is valid as the API server of Kubernetes 1.31 sees it, with its defaults filled in.

mod policy;
mod selector;
mod service;

pub use policy::{Direction, IpBlock, NetworkPolicy, Peer, PolicyPort, PolicyRule, PortRef};
pub use selector::{LabelSelector, Operator, Requirement};
pub use service::{
    Affinity, EndpointSlice, Service, ServiceKind, ServicePort, SliceEndpoint, SlicePort,
};

use std::net::Ipv4Addr;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// The label that every namespace carries with its own name (NP-24).
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Name, labels and what else every object has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Kubernetes namespace; empty for what has none.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: IndexMap<String, String>,
    /// Annotations.
    pub annotations: IndexMap<String, String>,
    /// Where it was declared, `file:line:column`, for messages and traces.
    pub declared_at: Option<String>,
}

impl Meta {
    /// `namespace/name`
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Name and labels, [`NAME_LABEL`] among them.
    pub meta: Meta,
}

impl Namespace {
    /// A namespace without labels of its own.
    #[must_use]
    pub fn plain(name: &str) -> Self {
        Self::labelled(name, IndexMap::new())
    }

    /// A namespace with these labels and [`NAME_LABEL`], which nobody can change.
    #[must_use]
    pub fn labelled(name: &str, mut labels: IndexMap<String, String>) -> Self {
        labels.insert(NAME_LABEL.to_owned(), name.to_owned());
        Self {
            meta: Meta {
                name: name.to_owned(),
                labels,
                ..Meta::default()
            },
        }
    }
}

/// IP protocols that have ports, as Kubernetes writes them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// 6
    #[default]
    Tcp,
    /// 17
    Udp,
    /// 132
    Sctp,
}

impl Protocol {
    /// The words of a manifest.
    pub(crate) const CHOICES: &'static [(&'static str, Self)] =
        &[("TCP", Self::Tcp), ("UDP", Self::Udp), ("SCTP", Self::Sctp)];

    /// IP protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// `TCP`
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

/// A port that a container says it serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerPort {
    /// Name, by which policies and services may refer to it.
    pub name: Option<String>,
    /// Number.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// The port of the node that leads to it.
    #[serde(default)]
    pub host: Option<HostPort>,
}

/// `hostPort` of a container's port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// `hostIP`: at this address of the node alone; 0.0.0.0 is all, as none.
    pub ip: Option<Ipv4Addr>,
    /// Number.
    pub port: u16,
    /// Where it was written, `file:line:column`, for messages.
    pub declared_at: Option<String>,
}

/// An object to be created or changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum Object {
    /// A namespace.
    Namespace(Namespace),
    /// A network policy.
    NetworkPolicy(NetworkPolicy),
    /// A service.
    Service(Service),
    /// Endpoints of a service that has no selector.
    EndpointSlice(EndpointSlice),
}

impl Object {
    /// Name, labels and so on.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        match self {
            Self::Namespace(object) => &object.meta,
            Self::NetworkPolicy(object) => &object.meta,
            Self::Service(object) => &object.meta,
            Self::EndpointSlice(object) => &object.meta,
        }
    }

    /// As [`Object::meta`].
    pub fn meta_mut(&mut self) -> &mut Meta {
        match self {
            Self::Namespace(object) => &mut object.meta,
            Self::NetworkPolicy(object) => &mut object.meta,
            Self::Service(object) => &mut object.meta,
            Self::EndpointSlice(object) => &mut object.meta,
        }
    }

    /// Which kind it is.
    #[must_use]
    pub const fn kind(&self) -> ObjectKind {
        match self {
            Self::Namespace(_) => ObjectKind::Namespace,
            Self::NetworkPolicy(_) => ObjectKind::NetworkPolicy,
            Self::Service(_) => ObjectKind::Service,
            Self::EndpointSlice(_) => ObjectKind::EndpointSlice,
        }
    }
}

/// Kinds of [`Object`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ObjectKind {
    /// `Namespace`
    Namespace,
    /// `NetworkPolicy`
    NetworkPolicy,
    /// `Service`
    Service,
    /// `EndpointSlice`
    EndpointSlice,
}

impl ObjectKind {
    /// As kubectl begins its lines and `-o name`: `networkpolicy.networking.k8s.io`.
    #[must_use]
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::NetworkPolicy => "networkpolicy.networking.k8s.io",
            Self::Service => "service",
            Self::EndpointSlice => "endpointslice.discovery.k8s.io",
        }
    }

    /// As the API server names it when it is missing: `networkpolicies.networking.k8s.io`.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Namespace => "namespaces",
            Self::NetworkPolicy => "networkpolicies.networking.k8s.io",
            Self::Service => "services",
            Self::EndpointSlice => "endpointslices.discovery.k8s.io",
        }
    }
}

/// An object in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The object.
    pub object: Object,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Came with the lab file, and goes with it when the lab converges to a file without it.
    pub declared: bool,
}

//! What a cluster refuses, and why.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::control::proto::ErrorKind;
use crate::ipam::{CalicoIpamError, IpamError};

/// A change was refused; nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// No node of that name.
    #[error("node \"{name}\" not found{hint}")]
    NoSuchNode {
        /// The name.
        name: String,
        /// `; did you mean "x"?`, or nothing.
        hint: String,
    },
    /// No pod of that name.
    #[error("pod \"{name}\" not found in namespace \"{namespace}\"{hint}")]
    NoSuchPod {
        /// Kubernetes namespace.
        namespace: String,
        /// The name.
        name: String,
        /// `; did you mean "x"?`, or nothing.
        hint: String,
    },
    /// A node of that name exists.
    #[error("node \"{0}\" already exists")]
    NodeExists(String),
    /// A pod of that name exists.
    #[error("pod \"{name}\" already exists in namespace \"{namespace}\"")]
    PodExists {
        /// Kubernetes namespace.
        namespace: String,
        /// The name.
        name: String,
    },
    /// Annotations that say something impossible.
    #[error("pod \"{pod}\": annotation {why}")]
    Annotation {
        /// Name of the pod.
        pod: String,
        /// Which, and what is wrong with them.
        why: String,
    },
    /// The pod keeps the bandwidth limits that it was made with.
    #[error(
        "pod \"{pod}\" exists with another bandwidth, which can't be changed with {preset}; delete it first"
    )]
    FixedBandwidth {
        /// Name of the pod.
        pod: String,
        /// Which preset it is.
        preset: &'static str,
    },
    /// An object of that kind and name exists.
    #[error("{plural} \"{name}\" already exists")]
    ObjectExists {
        /// What the API server calls the kind.
        plural: &'static str,
        /// The name.
        name: String,
    },
    /// No object of that kind and name.
    #[error("{plural} \"{name}\" not found{hint}")]
    NoSuchObject {
        /// What the API server calls the kind.
        plural: &'static str,
        /// The name.
        name: String,
        /// `; did you mean "x"?`, or nothing.
        hint: String,
    },
    /// A namespace that every cluster has.
    #[error("namespaces \"{0}\" is forbidden: this namespace may not be deleted")]
    Protected(String),
    /// A service that the cluster can't have.
    #[error("Service \"{name}\" is invalid: {why}")]
    BadService {
        /// Its name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// Another pod of the node has the host port (PM-8).
    #[error("{}hostPort {port}/{protocol} of pod \"{pod}\" belongs to pod \"{owner}\" on node \"{node}\" already", place(at.as_deref()))]
    HostPortTaken {
        /// Where it was written.
        at: Option<String>,
        /// Number.
        port: u16,
        /// Its protocol.
        protocol: &'static str,
        /// Who wants it.
        pod: String,
        /// On which node.
        node: String,
        /// `namespace/name` of who has it.
        owner: String,
    },
    /// Nothing would lead from the host port to the pod.
    #[error("{}hostPort {port} of pod \"{pod}\" leads nowhere: {why}", place(at.as_deref()))]
    HostPortNotMapped {
        /// Where it was written.
        at: Option<String>,
        /// Number.
        port: u16,
        /// Whose.
        pod: String,
        /// What is missing.
        why: String,
    },
    /// Somebody else has that address.
    #[error("address {addr} of {what} belongs to {owner} already")]
    AddressTaken {
        /// The address.
        addr: Ipv4Addr,
        /// Who wants it.
        what: String,
        /// Who has it.
        owner: String,
    },
    /// A node's address outside the node subnet.
    #[error("address {addr} of node \"{node}\" lies outside the node subnet {subnet}")]
    OutsideNodeSubnet {
        /// The address.
        addr: Ipv4Addr,
        /// The node.
        node: String,
        /// The subnet.
        subnet: Ipv4Net,
    },
    /// No address left for a node.
    #[error("no address is free in the node subnet {0}")]
    NodeSubnetFull(Ipv4Net),
    /// Two podCIDRs share addresses.
    #[error("podCIDR {cidr} of node \"{node}\" overlaps {other_cidr} of node \"{other}\"")]
    PodCidrOverlap {
        /// The new one.
        cidr: Ipv4Net,
        /// Whose.
        node: String,
        /// The one that is there.
        other_cidr: Ipv4Net,
        /// Whose.
        other: String,
    },
    /// A pod on a node without podCIDR.
    #[error("node \"{node}\" has no podCIDR, so pod \"{pod}\" can't get an address")]
    NoPodCidr {
        /// The node.
        node: String,
        /// The pod.
        pod: String,
    },
    /// Something that can't change while the lab runs.
    #[error("{what} can't be changed while the lab runs; `podwire down` it first")]
    NeedsRestart {
        /// What.
        what: &'static str,
    },
    /// A name that Kubernetes would refuse.
    #[error("{what} name \"{name}\": {why}")]
    BadName {
        /// `node` or `pod`.
        what: &'static str,
        /// The name.
        name: String,
        /// The rule.
        why: &'static str,
    },
    /// The 65,000 port numbers of a node are used up.
    #[error("node \"{0}\" has used up its port numbers")]
    PortsExhausted(String),
    /// A route of a hand-made lab.
    #[error("{0}")]
    Route(String),
    /// A CNI configuration or plugin refuses.
    #[error("pod \"{pod}\" on node \"{node}\": CNI: {message}")]
    Cni {
        /// The pod.
        pod: String,
        /// The node.
        node: String,
        /// Why.
        message: String,
    },
    /// The pod's address.
    #[error("pod \"{pod}\" on node \"{node}\": {source}")]
    Ipam {
        /// The pod.
        pod: String,
        /// The node.
        node: String,
        /// The allocator's reason.
        source: IpamError,
    },
    /// A node's range.
    #[error("podCIDR of node \"{node}\": {source}")]
    Range {
        /// The node.
        node: String,
        /// The allocator's reason.
        source: IpamError,
    },
    /// An address of Calico's pool.
    #[error("{what}: {source}")]
    Pool {
        /// Who wants it.
        what: String,
        /// The allocator's reason.
        source: CalicoIpamError,
    },
    /// A pod's route is there, over another device (CAL-22).
    #[error(
        "pod \"{pod}\": route {dst} already exists for an interface other than '{dev}': it leads to '{other}'"
    )]
    RouteExists {
        /// The pod.
        pod: String,
        /// Destination.
        dst: Ipv4Net,
        /// The pod's own device.
        dev: String,
        /// Where the route leads.
        other: String,
    },
    /// A file that a node sees.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl ClusterError {
    /// Which exit code it leads to.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchNode { .. }
            | Self::NoSuchPod { .. }
            | Self::NodeExists(_)
            | Self::PodExists { .. }
            | Self::ObjectExists { .. }
            | Self::NoSuchObject { .. } => ErrorKind::NotFound,
            Self::File { .. } => ErrorKind::Internal,
            _ => ErrorKind::Invalid,
        }
    }
}

/// iproute2's answer to a change that it would refuse; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct IpError {
    /// What iproute2 prints on stderr, without the last line feed.
    pub message: String,
    /// Its exit status: 1 for usage and missing devices, 2 for what the kernel refuses.
    pub status: u8,
}

impl IpError {
    /// iproute2 itself refuses (exit status 1).
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            status: 1,
        }
    }

    /// The kernel refuses (exit status 2).
    pub(crate) fn kernel(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            status: 2,
        }
    }

    /// `RTNETLINK answers: ...`
    pub(crate) fn rtnetlink(errno: &str) -> Self {
        Self::kernel(format!("RTNETLINK answers: {errno}"))
    }
}

/// `FILE:LINE:COLUMN: `, where that is known.
fn place(at: Option<&str>) -> String {
    at.map_or_else(String::new, |at| format!("{at}: "))
}

/// `; did you mean "x"?` when one of `names` is near.
pub(crate) fn did_you_mean<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> String {
    names
        .map(|name| (strsim::jaro_winkler(wrong, name), name))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or_else(String::new, |(_, name)| {
            format!("; did you mean \"{name}\"?")
        })
}

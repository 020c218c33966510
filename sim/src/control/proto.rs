//! The control protocol between client and daemon: one request, one or more responses.
//!
//! On the wire (see [`codec`](super::codec)): a frame is a 4-byte little-endian header (26 bits of length, at most
//! [`MAX_FRAME`], and 6 bits of descriptor count) and the JSON; descriptors ride on the header's first byte (SCM_RIGHTS). The client opens with [`Hello`], the daemon answers
//! with its own; a different [`VERSION`] ends the connection with an error that names both. The daemon serves only its
//! own uid and root (SO_PEERCRED).

use std::net::Ipv4Addr;

use indexmap::IndexMap;
use ipnet::Ipv4Net;
use router_core::config::NatConfig;
use router_core::{ChainCounts, Filter, PortId, Session};
use serde::{Deserialize, Serialize};

use super::capture::{CaptureCounts, CapturePlace};
use super::node::NodeStats;
use crate::impair::LinkImpair;
use crate::ipam::calico::Block;
use crate::kube::{Object, ObjectKind, Stored};
use crate::model::{NeighbourEntry, Node, Pod, RouteEntry};
use crate::spec::{Backend, CalicoSpec, LabSpec, NodeSpec, PodSpec, PolicyMode, Preset};
use crate::trace::{Collected, Wanted};

/// Version of this protocol; rises with every incompatible change.
pub const VERSION: u32 = 2;

/// Largest frame either side accepts, bytes of JSON.
pub const MAX_FRAME: u32 = 16 << 20;

/// First frame of either side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`]
    pub version: u32,
    /// Version of the program, for the message.
    pub program: String,
}

/// What a client may ask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Name, preset, counts, uptime. Answer: [`Response::Status`].
    Status,
    /// Converge to this lab: adds, changes and removes nodes and pods. Answer: [`Response::Changes`].
    Converge {
        /// The wanted state.
        lab: Box<LabSpec>,
    },
    /// All nodes, without their routes, of which each has some for every other. Answer: [`Response::Nodes`].
    Nodes,
    /// The main table of a node. Answer: [`Response::Routes`].
    Routes {
        /// Node name.
        node: String,
    },
    /// All pods. Answer: [`Response::Pods`].
    Pods,
    /// Calico's pool and blocks. Answer: [`Response::Ipam`].
    Ipam,
    /// Live neighbour table of a node. Answer: [`Response::Neighbours`].
    Neighbours {
        /// Node name.
        node: String,
    },
    /// A node's nat table with its counters. Answer: [`Response::Nat`].
    Nat {
        /// Node name.
        node: String,
    },
    /// A node's connections. Answer: [`Response::Sessions`].
    Sessions {
        /// Node name.
        node: String,
        /// Which.
        filter: Filter,
    },
    /// Has a node forget connections. Answer: [`Response::Changes`].
    FlushSessions {
        /// Node name.
        node: String,
        /// Which.
        filter: Filter,
    },
    /// A command that changes a node's links, addresses, routes or neighbours, in iproute2's syntax without the leading
    /// `ip`. Answer: [`Response::Done`] or [`Response::IpError`].
    IpChange {
        /// Node name.
        node: String,
        /// Words of the command: `route add 10.9.0.0/24 via 172.16.30.4`.
        args: Vec<String>,
    },
    /// What [`Request::Converge`] would do. Answer: [`Response::Changes`].
    Plan {
        /// The wanted state.
        lab: Box<LabSpec>,
    },
    /// Creates a pod. Answer: [`Response::Changes`].
    AddPod {
        /// What to create.
        pod: Box<PodSpec>,
    },
    /// Gives a pod other annotations. Answer: [`Response::Changes`].
    AnnotatePod {
        /// Kubernetes namespace.
        namespace: String,
        /// Name.
        name: String,
        /// All of them.
        annotations: IndexMap<String, String>,
    },
    /// Deletes a pod. Answer: [`Response::Changes`].
    DeletePod {
        /// Kubernetes namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// Lets a node join. Fields that the user did not give are chosen by the daemon. Answer: [`Response::Changes`].
    AddNode {
        /// Name.
        name: String,
        /// Its address; the next free one of the node subnet when not given.
        internal_ip: Option<Ipv4Addr>,
        /// The whole node, when it came from a manifest.
        spec: Option<Box<NodeSpec>>,
    },
    /// Removes a node and its pods. Answer: [`Response::Changes`].
    DeleteNode {
        /// Name.
        name: String,
    },
    /// Namespaces, policies, services, endpoint slices. Answer: [`Response::Objects`].
    Objects,
    /// Creates an object or changes it. Answer: [`Response::Changes`].
    ApplyObject {
        /// The object.
        object: Box<Object>,
        /// One that is there is an error.
        create: bool,
    },
    /// Deletes an object. Answer: [`Response::Changes`].
    DeleteObject {
        /// Its kind.
        kind: ObjectKind,
        /// Kubernetes namespace; empty for a namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// Namespace descriptors to run a program in. Answer: [`Response::Namespaces`] with descriptors in the order that
    /// it names.
    Enter {
        /// Where.
        target: Target,
    },
    /// A channel that sends and receives ICMP as `target`. Answer: [`Response::Icmp`] with one descriptor.
    Icmp {
        /// Who pings.
        target: Target,
    },
    /// Log lines. Answer: [`Response::Log`] once, or again and again with `follow` until the client closes.
    Logs {
        /// Whose.
        source: LogSource,
        /// Go on with new lines.
        follow: bool,
        /// Only that many last lines.
        tail: Option<usize>,
    },
    /// Follow a packet. Answer: [`Response::Trace`].
    Trace {
        /// Which.
        wanted: Box<Wanted>,
    },
    /// Capture packets. Answers: [`Response::CaptureBegun`], then [`Response::CaptureRing`] for each node; then
    /// nothing until [`Request::CaptureEnd`], or the end of the connection, which ends it as well.
    Capture {
        /// Where.
        places: Vec<CapturePlace>,
        /// Which packets, as pcap-filter writes it.
        filter: String,
        /// Bytes of each; 0 is all.
        snaplen: u32,
    },
    /// Ends the capture of this connection. Answer: [`Response::Captured`].
    CaptureEnd,
    /// Does this to the frames of a port of a node, until told otherwise. Answer: [`Response::Done`].
    Impair {
        /// Node name.
        node: String,
        /// Its port.
        port: PortId,
        /// In both directions.
        impair: LinkImpair,
    },
    /// All counters. Answer: [`Response::Stats`].
    Stats,
    /// Remove the lab. Answer: [`Response::Done`] when every device is gone; the daemon then exits.
    Down,
}

/// A place where a program can run or a packet can start.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Target {
    /// A pod.
    Pod {
        /// Kubernetes namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// A node's host namespace.
    Node {
        /// Name.
        name: String,
    },
}

/// Whose log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum LogSource {
    /// The daemon.
    Daemon,
    /// A node process.
    Node {
        /// Name.
        name: String,
    },
    /// The program of a pod.
    Pod {
        /// Kubernetes namespace.
        namespace: String,
        /// Name.
        name: String,
    },
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "kebab-case")]
pub enum Response {
    /// It is done; nothing to tell.
    Done,
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Nodes`].
    Nodes {
        /// In order of creation.
        nodes: Vec<NodeStatus>,
    },
    /// To [`Request::Pods`].
    Pods {
        /// In order of creation.
        pods: Vec<Pod>,
    },
    /// To [`Request::Objects`].
    Objects {
        /// In order of creation.
        objects: Vec<Stored>,
        /// Whether network policies have an effect.
        policy: PolicyMode,
    },
    /// To [`Request::Ipam`].
    Ipam {
        /// The pool; none in a lab without Calico.
        pool: Option<IpPool>,
        /// Its blocks that are claimed, by address.
        blocks: Vec<Block>,
    },
    /// To [`Request::Routes`].
    Routes {
        /// In no particular order.
        routes: Vec<RouteEntry>,
    },
    /// To [`Request::Neighbours`].
    Neighbours {
        /// In no particular order.
        neighbours: Vec<NeighbourEntry>,
    },
    /// To [`Request::Nat`].
    Nat {
        /// The table.
        table: Box<NatConfig>,
        /// Its counters, chain by chain.
        counts: Vec<ChainCounts>,
    },
    /// To [`Request::Sessions`].
    Sessions {
        /// In no particular order.
        sessions: Vec<Session>,
    },
    /// What was changed, one line each, kubectl's way: `pod/a created`.
    Changes {
        /// The lines.
        lines: Vec<String>,
    },
    /// A namespace change that iproute2 would have refused, with its text and exit status (1 or 2).
    IpError {
        /// What iproute2 prints on stderr.
        message: String,
        /// iproute2's exit status.
        status: u8,
    },
    /// Descriptors follow in this order, each once.
    Namespaces {
        /// `user`, `mnt`, `uts`, `net`, `pid`
        order: Vec<String>,
        /// Where programs start when the client's directory does not exist there.
        fallback_dir: String,
    },
    /// One descriptor follows.
    Icmp {
        /// What kind of channel it is.
        channel: IcmpChannel,
        /// Address that packets will carry as source when the kernel or stack has only one.
        source: Ipv4Addr,
    },
    /// A piece of log.
    Log {
        /// Whole lines.
        text: String,
    },
    /// To [`Request::Trace`].
    Trace {
        /// What was found out.
        collected: Box<Collected>,
    },
    /// To [`Request::Capture`]: so many rings follow. One descriptor comes along: the bell that nodes ring.
    CaptureBegun {
        /// How many.
        rings: usize,
    },
    /// The ring of one node. One descriptor comes along: its memory.
    CaptureRing {
        /// The node; none for what is behind the gateway.
        node: Option<String>,
        /// Length of the ring.
        words: usize,
    },
    /// To [`Request::CaptureEnd`].
    Captured {
        /// By node; those that did not answer are left out.
        nodes: Vec<(Option<String>, Vec<CaptureCounts>)>,
    },
    /// To [`Request::Stats`].
    Stats {
        /// Nodes by name, then the gateway.
        nodes: Vec<NodeCounters>,
    },
    /// It could not be done; nothing was changed.
    Error {
        /// What kind of error: decides the exit code.
        kind: ErrorKind,
        /// For the user: a clear sentence with the name or position it is about.
        message: String,
    },
}

/// Calico's pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpPool {
    /// Its addresses.
    pub cidr: Ipv4Net,
    /// Everything else.
    pub spec: CalicoSpec,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
}

/// What the descriptor of [`Response::Icmp`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IcmpChannel {
    /// A SOCK_RAW IPPROTO_ICMP socket made inside the namespace.
    RawSocket,
    /// A SOCK_SEQPACKET socket to the node process; each message is one whole IPv4 packet, header included
    /// (source 0.0.0.0 = choose).
    StackChannel,
}

/// Kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// Exit 1: no such node or pod, or a name that is taken.
    NotFound,
    /// Exit 3: the wanted state contradicts itself or the lab (duplicate address, exhausted range).
    Invalid,
    /// Exit 4: this back end or host cannot do it.
    Unsupported,
    /// Exit 5: not ready in time.
    Timeout,
    /// Exit 70: a bug.
    Internal,
}

/// A lab at a glance: a row of `podwire ps`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Lab name.
    pub name: String,
    /// Preset.
    pub preset: Preset,
    /// Back end in use.
    pub backend: Backend,
    /// Number of nodes.
    pub nodes: usize,
    /// Number of pods, hostNetwork rows included.
    pub pods: usize,
    /// Milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// Every node process is up and has the newest configuration.
    pub ready: bool,
    /// Runs in a user namespace of its own.
    pub rootless: bool,
}

/// Counters of a node, with the names of its ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCounters {
    /// Its name; none for what is behind the nodes' default gateway.
    pub node: Option<String>,
    /// The counters.
    pub stats: Box<NodeStats>,
    /// Names of its ports.
    pub ports: Vec<(PortId, String)>,
    /// What is done to frames of its ports; ports that are left alone are left out.
    #[serde(default)]
    pub impaired: Vec<(PortId, LinkImpair)>,
}

/// A node with the state of its process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The model.
    #[serde(flatten)]
    pub node: Node,
    /// Process id inside the lab's PID namespace (the client translates), none while it restarts.
    pub pid: Option<u32>,
    /// How often the process was started again.
    pub restarts: u32,
    /// Path of the host namespace, where there is one.
    pub netns: Option<String>,
}

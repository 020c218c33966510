//! The state of nodes and pods as users see it: interfaces, routes, neighbours, pods.
//!
//! The cluster (`cluster/`) owns and changes these; `plan` turns a node into a router's snapshot; `view/` prints them
//! as iproute2 and kubectl do. Plain data that crosses the control socket as JSON.

use std::net::{Ipv4Addr, Ipv6Addr};

use indexmap::IndexMap;
use ipnet::Ipv4Net;
use router_core::config::RpFilter;
use router_core::{Mac, PortId};
use serde::{Deserialize, Serialize};

use crate::bandwidth::Bandwidth;
use crate::kube::ContainerPort;

/// A node with everything that `ip -n NODE` and `get nodes` can show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Name.
    pub name: String,
    /// The address that Kubernetes knows.
    pub internal_ip: Ipv4Addr,
    /// Addresses of its pods.
    pub pod_cidr: Option<Ipv4Net>,
    /// Shows as `control-plane,master`.
    pub control_plane: bool,
    /// Labels.
    pub labels: IndexMap<String, String>,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Interfaces by rising index.
    pub ifaces: Vec<Iface>,
    /// The main table, in no particular order (`view` sorts as the kernel's trie does).
    pub routes: Vec<RouteEntry>,
}

impl Node {
    /// A copy but for the routes, of which a node has some for every other.
    #[must_use]
    pub fn without_routes(&self) -> Self {
        Self {
            name: self.name.clone(),
            internal_ip: self.internal_ip,
            pod_cidr: self.pod_cidr,
            control_plane: self.control_plane,
            labels: self.labels.clone(),
            created_ms: self.created_ms,
            ifaces: self.ifaces.clone(),
            routes: Vec::new(),
        }
    }
}

/// A network interface of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Iface {
    /// ifindex, unique in its node, never used twice.
    pub index: u32,
    /// Name.
    pub name: String,
    /// What it is.
    pub kind: IfaceKind,
    /// Link-layer address (zero for lo and tunnels).
    pub mac: Mac,
    /// MTU, bytes, Ethernet header not counted.
    pub mtu: u32,
    /// Name of its qdisc: `pfifo_fast`, `noqueue`, `noop`.
    pub qdisc: String,
    /// Transmit queue length, where iproute2 prints one.
    pub qlen: Option<u32>,
    /// Administratively up.
    pub up: bool,
    /// Carrier present.
    pub carrier: bool,
    /// IPv4 addresses, primary first.
    pub addrs: Vec<IfAddr>,
    /// IPv6 link-local address, where the lab shows one.
    pub link_local: Option<Ipv6Addr>,
    /// Name of the bridge that it is a port of.
    pub master: Option<String>,
    /// The router port behind it; none for lo and declared-only interfaces such as sit0.
    pub port: Option<PortId>,
    /// What `net.ipv4.conf.NAME` says otherwise than by default.
    #[serde(default)]
    pub sysctls: Sysctls,
}

/// Settings of an interface that `ip` doesn't show. By default all are off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctls {
    /// `proxy_arp`, with a `proxy_delay` of 0.
    pub proxy_arp: bool,
    /// `rp_filter`
    pub rp_filter: RpFilter,
    /// `route_localnet`
    pub route_localnet: bool,
    /// `brport/hairpin_mode` of a port of a bridge.
    #[serde(default)]
    pub hairpin: bool,
    /// PROMISC, which `ip` shows among the flags.
    #[serde(default)]
    pub promisc: bool,
}

/// What kind of interface it is, with what belongs to that kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum IfaceKind {
    /// lo
    Loopback,
    /// eth0: the underlay.
    Ethernet,
    /// sit0: `link/sit`, shown as `sit0@NONE`.
    Sit,
    /// tunl0: `link/ipip`, shown as `tunl0@NONE`.
    Ipip,
    /// A bridge.
    Bridge,
    /// The host side of a pod link.
    Veth {
        /// Index of eth0 in the pod, printed as `@ifN`.
        peer_index: u32,
        /// `link-netnsid N`
        netnsid: u32,
        /// `namespace/name` of the pod.
        pod: String,
    },
}

/// An IPv4 address of an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IfAddr {
    /// Address with prefix length (host bits kept).
    pub net: Ipv4Net,
    /// Broadcast address, printed as `brd`, where one was set.
    pub broadcast: Option<Ipv4Addr>,
    /// Scope.
    pub scope: Scope,
    /// Seconds that are left of a lease, printed as `dynamic` with `valid_lft Nsec`; none is `forever`.
    pub lease_secs: Option<u32>,
    /// Came by `podwire ip addr add` rather than from the preset.
    pub manual: bool,
}

/// rtnetlink scope of an address or route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// 0
    #[default]
    Global,
    /// 253
    Link,
    /// 254
    Host,
}

/// One line of `ip route`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteEntry {
    /// Destination, host bits zero; 0.0.0.0/0 prints `default`.
    pub dst: Ipv4Net,
    /// unicast, blackhole, ...
    pub kind: RouteKind,
    /// Next hops; one for an ordinary route, none for blackhole and its like.
    pub hops: Vec<Hop>,
    /// Protocol: `kernel`, `boot` (not printed), `static`, `dhcp`, `bird`.
    pub proto: Proto,
    /// Scope.
    pub scope: Scope,
    /// Preferred source.
    pub src: Option<Ipv4Addr>,
    /// Priority; 0 is not printed.
    pub metric: u32,
    /// Who put it there, so that each controller touches only its own (KND-10).
    pub owner: RouteOwner,
}

/// A next hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// Gateway.
    pub via: Option<Ipv4Addr>,
    /// Interface name.
    pub dev: String,
    /// `onlink` flag.
    pub onlink: bool,
    /// Multipath weight, 1 unless multipath.
    pub weight: u8,
}

/// rtnetlink route type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteKind {
    /// Forward.
    #[default]
    Unicast,
    /// Drop silently.
    Blackhole,
    /// Drop with ICMP 3/1.
    Unreachable,
    /// Drop with ICMP 3/13.
    Prohibit,
    /// Go on with the next table.
    Throw,
}

/// rtnetlink route protocol, named as in `/etc/iproute2/rt_protos`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// 2, set by the kernel with an address.
    Kernel,
    /// 3, the default of `ip route add`; not printed.
    #[default]
    Boot,
    /// 4
    Static,
    /// 12
    Bird,
    /// 16
    Dhcp,
}

/// Who owns a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "lowercase")]
pub enum RouteOwner {
    /// The lab's base configuration (connected, default).
    Base,
    /// The CNI ADD of a pod, `namespace/name`.
    Cni {
        /// `namespace/name`
        pod: String,
    },
    /// kindnetd's reconcile loop.
    Kindnetd,
    /// Calico's BIRD.
    Bird,
    /// `podwire ip route add`.
    Manual,
}

/// A pod with everything that `get pods` can show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Name of its node.
    pub node: String,
    /// Labels.
    pub labels: IndexMap<String, String>,
    /// Annotations.
    #[serde(default)]
    pub annotations: IndexMap<String, String>,
    /// Limits of its link that are in force.
    #[serde(default)]
    pub bandwidth: Bandwidth,
    /// Its address (the node's, with `host_network`).
    pub ip: Ipv4Addr,
    /// Shares the node's host namespace.
    pub host_network: bool,
    /// Its link; none with `host_network`.
    pub link: Option<PodLink>,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Program, if it has one.
    pub command: Option<Vec<String>>,
    /// What its containers serve, and by which ports of the node.
    #[serde(default)]
    pub ports: Vec<ContainerPort>,
    /// Container id as IPAM recorded it, 64 hexadecimal digits.
    pub container_id: String,
    /// State of its program.
    pub phase: Phase,
    /// How often the program was started again.
    pub restarts: u32,
    /// Process id of the program as the host sees it; often null (decision 4).
    pub pid: Option<u32>,
    /// Path that setns accepts while the pod lives; null where pods are no namespaces.
    pub netns: Option<String>,
}

impl Pod {
    /// `namespace/name`
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// The pod's side of its link, and the name of the host side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodLink {
    /// Name inside the pod: eth0.
    pub ifname: String,
    /// Index inside the pod.
    pub ifindex: u32,
    /// MAC inside the pod.
    pub mac: Mac,
    /// MTU inside the pod, bytes.
    pub mtu: u16,
    /// Address with prefix length inside the pod.
    pub addr: Ipv4Net,
    /// Broadcast address, printed as `brd`, where one is set.
    pub broadcast: Option<Ipv4Addr>,
    /// Gateway: the host side's address, or one that it answers for.
    pub gateway: Ipv4Addr,
    /// Name of the host side.
    pub host_ifname: String,
    /// Index of the host side.
    pub host_ifindex: u32,
    /// MAC of the host side.
    pub host_mac: Mac,
    /// The router's port.
    pub port: PortId,
    /// The pod's routes in the order in which they are set.
    pub routes: Vec<PodRoute>,
    /// IPv6 link-local addresses are on.
    pub ipv6_link_local: bool,
    /// The bridge that the host side is a port of; none for a point-to-point link.
    #[serde(default)]
    pub bridge: Option<PodBridge>,
    /// Of a hand-made lab: nothing is known of the host but what its own kernel is told, and the gateway is no one.
    #[serde(default)]
    pub by_hand: bool,
}

/// What a pod's link knows of the bridge that it leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodBridge {
    /// Its name.
    pub name: String,
    /// Its MAC, where it is the pods' gateway.
    pub gateway_mac: Option<Mac>,
}

impl PodLink {
    /// MAC of the gateway, where the link itself tells.
    #[must_use]
    pub fn gateway_mac(&self) -> Option<Mac> {
        match &self.bridge {
            _ if self.by_hand => None,
            None => Some(self.host_mac),
            Some(bridge) => bridge.gateway_mac,
        }
    }
}

/// A route inside a pod (all on eth0).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRoute {
    /// Destination.
    pub dst: Ipv4Net,
    /// Gateway; none means on link.
    pub via: Option<Ipv4Addr>,
    /// Preferred source.
    pub src: Option<Ipv4Addr>,
    /// Scope.
    pub scope: Scope,
}

/// State of a pod's program, with kubectl's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase")]
pub enum Phase {
    /// The program (or the empty pod) is there.
    Running,
    /// It ended with status 0 and stays so.
    Completed,
    /// It ended with another status and stays so.
    Error {
        /// Exit status, 128 + signal when a signal ended it.
        status: i32,
    },
    /// It ended and will be started again after the back-off.
    CrashLoopBackOff,
}

/// One line of `ip neigh`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourEntry {
    /// Address.
    pub ip: Ipv4Addr,
    /// Interface name.
    pub dev: String,
    /// MAC, unknown while INCOMPLETE or FAILED.
    pub mac: Option<Mac>,
    /// NUD state, upper case as iproute2 prints it: REACHABLE, STALE, DELAY, PROBE, FAILED, INCOMPLETE, PERMANENT.
    pub state: String,
}

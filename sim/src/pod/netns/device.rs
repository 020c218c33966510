//! The interface of a sandbox and its other end, the router's: a TAP device, or a veth with a packet socket.
//!
//! Decides how each is made and where the router's end of a veth is: in a namespace of its node's, which holds nothing else
//! and does nothing with what arrives there (no address, no forwarding, no IPv6, no ARP, another MAC than the router's), so
//! that the router alone answers. There it has the name and the index that the node shows for it, so that a pod prints the
//! same `eth0@if5` as on a real node.
//!
//! Cost: a TAP device 0.1 ms, a veth 0.3 ms; a node's namespace 0.3 ms and 0.2 MB once. Removing any number of interfaces of
//! one node takes as long as removing one (decision 12).

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tap_bridge::packet::{self, PacketConfig};
use tap_bridge::sys::links::End;
use tap_bridge::sys::netlink::{Changes, NetlinkError, RouteSocket};
use tap_bridge::sys::netns::{self, Namespace};
use tap_bridge::tap::{self, TapConfig, TapError};

use super::sysctls::Sysctls;
use super::{Plan, SandboxError};
use crate::control::node::Attachment;

/// Index of the first interface of a new network namespace after `lo`.
const FIRST_IFINDEX: u32 = 2;

/// MTU of the router's end: the longest that there is, lest the kernel drops unseen what a pod with a raised MTU sends.
const FAR_MTU: u16 = u16::MAX;

/// Group of interfaces that are about to be removed.
const DOOMED: u32 = 1;

/// How interfaces are made.
#[derive(Debug)]
pub enum Kind {
    /// TAP devices.
    Tap {
        /// The tun device where it isn't `/dev/net/tun`.
        device: Option<PathBuf>,
    },
    /// Pairs of virtual Ethernet interfaces.
    Veth(Ends),
}

impl Kind {
    /// Veths, with no namespace for their ends yet.
    #[must_use]
    pub fn veth() -> Self {
        Self::Veth(Ends::default())
    }
}

/// What the router's end of an interface is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FarEnd {
    /// The node whose router it is.
    pub node: String,
    /// Its name there.
    pub ifname: String,
    /// Its index there; none leaves it to the kernel.
    pub ifindex: Option<u32>,
}

/// The router's end of a sandbox's interface.
#[derive(Clone, Debug)]
pub enum RouterEnd {
    /// A TAP device, a descriptor for each of its queues; gone with the last duplicate of them.
    Tap(Vec<Arc<OwnedFd>>),
    /// A veth's far end.
    Packet {
        /// The packet socket on it.
        socket: Arc<OwnedFd>,
        /// Superframes and open checksums pass.
        offload: bool,
        /// The namespace that it is in.
        namespace: Arc<OwnedFd>,
        /// Its index there.
        ifindex: u32,
    },
}

impl RouterEnd {
    /// What the node process reads and writes, one for each worker.
    #[must_use]
    pub fn descriptors(&self) -> &[Arc<OwnedFd>] {
        match self {
            Self::Tap(queues) => queues,
            Self::Packet { socket, .. } => std::slice::from_ref(socket),
        }
    }

    /// What it is, for the node process.
    #[must_use]
    pub fn attachment(&self) -> Attachment {
        match *self {
            Self::Tap(_) => Attachment::Tap,
            Self::Packet { offload, .. } => Attachment::Packet { offload },
        }
    }
}

/// Where a maker is.
#[derive(Debug)]
pub(super) struct Here<'a> {
    /// Its network namespace.
    pub(super) home: &'a OwnedFd,
    /// Its way to the switches there.
    pub(super) sysctls: &'a Sysctls,
}

/// The namespaces with the routers' ends, one for each node, made when its first interface is.
#[derive(Debug, Default)]
pub struct Ends {
    nodes: Mutex<HashMap<String, Arc<OwnedFd>>>,
    unnamed: AtomicU32,
}

impl Ends {
    /// The namespace of a node's ends. The calling thread is where it was again afterwards.
    fn of(&self, node: &str, here: &Here<'_>) -> io::Result<Arc<OwnedFd>> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(namespace) = nodes.get(node) {
            return Ok(Arc::clone(namespace));
        }
        netns::isolate(&[Namespace::Net])?;
        silence(here.sysctls);
        let namespace = Arc::new(netns::current(Namespace::Net)?);
        netns::enter(here.home.as_fd(), Namespace::Net)?;
        nodes.insert(node.to_owned(), Arc::clone(&namespace));
        Ok(namespace)
    }

    /// The node is no more.
    pub(super) fn forget(&self, node: &str) {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.remove(node);
    }
}

/// Keeps the kernel of the calling thread's namespace from doing anything with what arrives. Where `/proc/sys` is read-only it
/// still has no address, and frames are for another MAC.
fn silence(sysctls: &Sysctls) {
    super::disable_ipv6(sysctls);
    if let Err(error) = sysctls.set("net/ipv4/ip_forward", "0") {
        tracing::debug!("forwarding stays as it is: {error}");
    }
}

/// Makes the TAP device with the wanted index, or with any where the kernel's own tunnels have taken it.
pub(super) fn tap(
    plan: &Plan,
    device: Option<PathBuf>,
    offload: bool,
) -> Result<(RouterEnd, u32), SandboxError> {
    let mut config = TapConfig {
        name: plan.ifname.clone(),
        // What the kernel gives by itself needs no wish.
        ifindex: (plan.ifindex != FIRST_IFINDEX).then_some(plan.ifindex),
        device,
        offload,
    };
    let mut made = tap::create_queues(&config, plan.queues);
    if let Err(TapError::Attach { source, .. }) = &made
        && source.kind() == io::ErrorKind::ResourceBusy
    {
        config.ifindex = None;
        made = tap::create_queues(&config, plan.queues);
    }
    let queues = made.map_err(|source| SandboxError::Tap {
        name: plan.name.clone(),
        source,
    })?;
    let ifindex = match config.ifindex {
        Some(ifindex) => ifindex,
        None => index_of(plan, &plan.ifname)?,
    };
    let queues = queues.into_iter().map(Arc::new).collect();
    Ok((RouterEnd::Tap(queues), ifindex))
}

/// Makes a veth whose near end is in the calling thread's network namespace.
pub(super) fn veth(
    plan: &Plan,
    ends: &Ends,
    offload: bool,
    here: &Here<'_>,
) -> Result<(RouterEnd, u32), SandboxError> {
    let namespace_refused = |source| SandboxError::Namespace {
        name: plan.name.clone(),
        source,
    };
    let namespace = ends.of(&plan.far.node, here).map_err(namespace_refused)?;
    let far_name = pair(plan, ends, &namespace)?;
    let ifindex = index_of(plan, &plan.ifname)?;
    // What is left to the router is more than the header has words for, until this says otherwise.
    packet::restrict(&plan.ifname, offload).map_err(|source| SandboxError::Files {
        name: plan.name.clone(),
        what: "restrict its offloads",
        source,
    })?;
    netns::enter(namespace.as_fd(), Namespace::Net).map_err(namespace_refused)?;
    let far = index_of(plan, &far_name)?;
    let mut changes = Changes::new();
    changes.link_without_ipv6_address(far).link_up(far);
    apply(plan, changes)?;
    let socket = packet::open(&PacketConfig {
        ifindex: far,
        mac: None,
        // A pod may switch offloads off, which is its own end's affair; this one can do all.
        direct: true,
    })
    .map_err(|source| SandboxError::Packet {
        name: plan.name.clone(),
        source,
    })?;
    netns::enter(here.home.as_fd(), Namespace::Net).map_err(namespace_refused)?;
    let end = RouterEnd::Packet {
        socket: Arc::new(socket),
        offload,
        namespace,
        ifindex: far,
    };
    Ok((end, ifindex))
}

/// Makes the pair, with names and indices as wanted as far as these are free. Returns the far end's name.
fn pair(plan: &Plan, ends: &Ends, namespace: &OwnedFd) -> Result<String, SandboxError> {
    let unnamed = format!("podwire{}", ends.unnamed.fetch_add(1, Ordering::Relaxed));
    let end = |name, index, mtu| End { name, index, mtu };
    let near = [Some(plan.ifindex), None].map(|index| end(plan.ifname.as_str(), index, plan.mtu));
    let far = [
        end(plan.far.ifname.as_str(), plan.far.ifindex, FAR_MTU),
        // A pod that is replaced by one of the same name is still there.
        end(&unnamed, None, FAR_MTU),
    ];
    let mut refusal = None;
    // The near end's index is the kernel's own tunnels' at times, the far end's that of an interface that goes.
    for (near, far) in [
        (near[0], far[0]),
        (near[0], far[1]),
        (near[1], far[0]),
        (near[1], far[1]),
    ] {
        let mut changes = Changes::new();
        changes.veth_add(&near, &far, namespace.as_fd());
        match apply(plan, changes) {
            Ok(()) => return Ok(far.name.to_owned()),
            Err(error) if error.is_taken() => refusal = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(refusal.expect("four ways were tried"))
}

/// Makes changes in the namespace of the calling thread.
pub(super) fn apply(plan: &Plan, changes: Changes) -> Result<(), SandboxError> {
    let refused = |source| SandboxError::Network {
        name: plan.name.clone(),
        source,
    };
    let mut socket = RouteSocket::open().map_err(|source| {
        refused(NetlinkError {
            change: "open a routing socket".into(),
            source,
        })
    })?;
    socket.apply(changes).map_err(refused)
}

/// Index of an interface of the calling thread's namespace.
fn index_of(plan: &Plan, name: &str) -> Result<u32, SandboxError> {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    let found = socket(AddressFamily::INET, SocketType::DGRAM, None)
        .and_then(|socket| netdevice::name_to_index(socket, name));
    found.map_err(|errno| SandboxError::Files {
        name: plan.name.clone(),
        what: "find the index of its interface",
        source: errno.into(),
    })
}

/// Removes veths by their far ends, those of one node together, and returns when they are gone. What is left are descriptors to
/// close: of a TAP device, which goes with it, and of a packet socket, for each of which the kernel waits as well.
pub(super) fn remove(ends: Vec<RouterEnd>) -> Vec<Arc<OwnedFd>> {
    let mut descriptors = Vec::new();
    let mut nodes: Vec<(Arc<OwnedFd>, Vec<u32>)> = Vec::new();
    for end in ends {
        match end {
            RouterEnd::Tap(queues) => descriptors.extend(queues),
            RouterEnd::Packet {
                socket,
                namespace,
                ifindex,
                ..
            } => {
                descriptors.push(socket);
                let known = nodes.iter_mut().find(|(it, _)| Arc::ptr_eq(it, &namespace));
                match known {
                    Some((_, list)) => list.push(ifindex),
                    None => nodes.push((namespace, vec![ifindex])),
                }
            }
        }
    }
    std::thread::scope(|scope| {
        for (namespace, list) in nodes {
            let remover = std::thread::Builder::new().stack_size(128 << 10);
            let spawned = remover.spawn_scoped(scope, move || {
                let removed = netns::enter(namespace.as_fd(), Namespace::Net)
                    .map_err(|error| error.to_string())
                    .and_then(|()| {
                        let mut changes = Changes::new();
                        for ifindex in list {
                            changes.link_group(ifindex, DOOMED);
                        }
                        changes.group_delete(DOOMED);
                        let mut socket = RouteSocket::open().map_err(|error| error.to_string())?;
                        socket.apply(changes).map_err(|error| error.to_string())
                    });
                if let Err(error) = removed {
                    tracing::debug!("interfaces go with their namespaces: {error}");
                }
            });
            // Without a thread they go with their namespaces.
            drop(spawned);
        }
    });
    descriptors
}

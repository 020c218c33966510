//! Sandboxes: network, mount and UTS namespaces of a pod or of a node's host side, kept alive by descriptors.
//!
//! Decides how a sandbox is made and in which order (addresses before routes; IPv6 off before anything is up), and what is
//! mounted in it. Doesn't decide addresses and routes: they come in a [`Plan`]. No process lives in a sandbox until somebody
//! runs a program there. Nothing of it is visible on the host; it is gone with its descriptors, the TAP device with the last
//! duplicate of its own. How its interface gets to the router is decided in `device`.
//! Cost: about 1 ms and 0.3 MB of kernel memory each (decision 11); a few threads share the work.

mod device;
mod error;
mod files;
mod sysctls;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use router_core::Mac;
use tap_bridge::sys::netlink::{Changes, LOOPBACK, NetlinkError, RouteSocket};
use tap_bridge::sys::netns::{self, Namespace};

pub use device::{FarEnd, Kind, RouterEnd};
pub use error::SandboxError;
pub use files::over_file;

use sysctls::Sysctls;

use super::network::Network;

/// Threads that make sandboxes: the kernel does most of it under one lock, so that more don't help.
const MAKERS: usize = 4;

/// Threads that close TAP devices and packet sockets. Each close waits for a grace period of the kernel, which all that wait at
/// the same time share (decision 12).
const CLOSERS: usize = 256;

/// What to make.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Pod or node, for messages.
    pub name: String,
    /// Host name inside.
    pub hostname: String,
    /// Directory for the files of this sandbox alone; made and removed with it.
    pub files: PathBuf,
    /// Its own /etc/resolv.conf; else the lab's.
    pub resolv: Option<String>,
    /// Name of the interface; empty where it shall have none but `lo`.
    pub ifname: String,
    /// Its wanted index.
    pub ifindex: u32,
    /// Its MAC.
    pub mac: Mac,
    /// Its MTU, bytes, Ethernet header not counted.
    pub mtu: u16,
    /// Its other end.
    pub far: FarEnd,
    /// Queues of its interface, at least 1.
    pub queues: usize,
    /// IPv6 stays on, with link-local addresses.
    pub ipv6_link_local: bool,
    /// Addresses, routes, neighbours.
    pub network: Network,
    /// What only a node's host side has.
    pub node: Option<NodeFiles>,
}

/// Directories of a node that its programs see at the usual places.
#[derive(Clone, Debug)]
pub struct NodeFiles {
    /// Holds the CNI configuration.
    pub cni: PathBuf,
    /// Where it shall be seen: `/etc/cni/net.d`.
    pub cni_at: PathBuf,
    /// Holds the state of host-local IPAM, seen as `/run/cni-ipam-state`.
    pub ipam: PathBuf,
    /// The lab's hosts file.
    pub hosts: PathBuf,
    /// The lab's resolver configuration.
    pub resolv: PathBuf,
}

/// A sandbox, alive as long as this value.
#[derive(Debug)]
pub struct Sandbox {
    net: OwnedFd,
    mount: OwnedFd,
    uts: OwnedFd,
    end: Option<RouterEnd>,
    ifindex: u32,
    files: PathBuf,
}

impl Sandbox {
    /// Its network namespace.
    #[must_use]
    pub fn net(&self) -> &OwnedFd {
        &self.net
    }

    /// Its mount namespace.
    #[must_use]
    pub fn mount(&self) -> &OwnedFd {
        &self.mount
    }

    /// Its UTS namespace.
    #[must_use]
    pub fn uts(&self) -> &OwnedFd {
        &self.uts
    }

    /// The router's end of its interface, if it has one.
    #[must_use]
    pub fn router_end(&self) -> Option<&RouterEnd> {
        self.end.as_ref()
    }

    /// The index that its interface has.
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Makes changes to its links, addresses and routes.
    ///
    /// # Errors
    /// The first change that was refused.
    pub fn change(&self, changes: Changes) -> Result<(), NetlinkError> {
        let wrap = |source| NetlinkError {
            change: "enter the network namespace".into(),
            source,
        };
        netns::with_namespaces(&[(self.net.as_fd(), Namespace::Net)], || {
            let mut socket = RouteSocket::open().map_err(wrap)?;
            socket.apply(changes)
        })
        .map_err(wrap)?
    }
}

/// Makes sandboxes whose mount namespaces start as a copy of the one that the workshop was opened in.
#[derive(Debug)]
pub struct Workshop {
    mounts: OwnedFd,
    kind: Kind,
    offload: bool,
    abort: Arc<AtomicBool>,
}

impl Workshop {
    /// Remembers the calling thread's mount namespace. With `offload` interfaces leave checksums and segmentation to the
    /// router. No more sandboxes are made when `abort` is set.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open(kind: Kind, offload: bool, abort: Arc<AtomicBool>) -> io::Result<Self> {
        Ok(Self {
            mounts: netns::current(Namespace::Mount)?,
            kind,
            offload,
            abort,
        })
    }

    /// A node is no more, and all its sandboxes with it.
    pub fn forget(&self, node: &str) {
        if let Kind::Veth(ends) = &self.kind {
            ends.forget(node);
        }
    }

    /// Makes one sandbox for each plan, in the same order.
    ///
    /// # Errors
    /// The first one that can't be made; those that were are closed again.
    pub fn make(&self, plans: &[Plan]) -> Result<Vec<Sandbox>, SandboxError> {
        let next = AtomicUsize::new(0);
        let results = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..MAKERS.min(plans.len()))
                .map(|_| scope.spawn(|| self.work(plans, &next)))
                .collect();
            let mut results = Vec::with_capacity(plans.len());
            for worker in workers {
                results.extend(
                    worker
                        .join()
                        .expect("a maker reports errors and doesn't panic"),
                );
            }
            results
        });
        let mut made: Vec<Option<Sandbox>> = plans.iter().map(|_| None).collect();
        let mut failure = None;
        for (at, result) in results {
            match result {
                Ok(sandbox) => made[at] = Some(sandbox),
                Err(error) => failure = Some(error),
            }
        }
        if let Some(error) = failure {
            close(made.into_iter().flatten());
            return Err(error);
        }
        Ok(made.into_iter().flatten().collect())
    }

    /// Body of a maker: takes plans until none is left or one fails.
    fn work(
        &self,
        plans: &[Plan],
        next: &AtomicUsize,
    ) -> Vec<(usize, Result<Sandbox, SandboxError>)> {
        let mut done = Vec::new();
        let mut sysctls = Sysctls::default();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(plan) = plans.get(at) else {
                return done;
            };
            let result = if self.abort.load(Ordering::Relaxed) {
                let name = plan.name.clone();
                Err(SandboxError::GivenUp { name })
            } else {
                self.make_here(plan, &mut sysctls)
            };
            let failed = result.is_err();
            done.push((at, result));
            if failed {
                // Lets the others run out of plans.
                next.store(plans.len(), Ordering::Relaxed);
                return done;
            }
        }
    }

    /// Makes a sandbox on the calling thread and leaves the thread in it.
    fn make_here(&self, plan: &Plan, sysctls: &mut Sysctls) -> Result<Sandbox, SandboxError> {
        sysctls.begin();
        let refused = |source| SandboxError::Namespace {
            name: plan.name.clone(),
            source,
        };
        let (net, mount, uts) = self.namespaces().map_err(refused)?;
        // Linux takes 64 bytes; kubelet cuts a pod's name to 63, and not so that it ends in a dash or dot.
        let cut = plan.hostname.get(..63).unwrap_or(&plan.hostname);
        rustix::system::sethostname(cut.trim_end_matches(['-', '.']).as_bytes())
            .map_err(|errno| refused(errno.into()))?;
        if !plan.ipv6_link_local {
            disable_ipv6(sysctls);
        }
        if plan.node.is_some() {
            accept_local(sysctls);
        }
        let (end, ifindex) = if plan.ifname.is_empty() {
            (None, 0)
        } else {
            let (end, ifindex) = match &self.kind {
                Kind::Tap { device } => device::tap(plan, device.clone(), self.offload)?,
                Kind::Veth(ends) => {
                    let here = device::Here {
                        home: &net,
                        sysctls,
                    };
                    device::veth(plan, ends, self.offload, &here)?
                }
            };
            (Some(end), ifindex)
        };
        self.network(plan, ifindex)?;
        files::establish(plan)?;
        Ok(Sandbox {
            net,
            mount,
            uts,
            end,
            ifindex,
            files: plan.files.clone(),
        })
    }

    fn namespaces(&self) -> io::Result<(OwnedFd, OwnedFd, OwnedFd)> {
        netns::isolate_directory()?;
        // Not from the sandbox that this thread made before.
        netns::enter(self.mounts.as_fd(), Namespace::Mount)?;
        netns::isolate(&[Namespace::Net, Namespace::Mount, Namespace::Uts])?;
        Ok((
            netns::current(Namespace::Net)?,
            netns::current(Namespace::Mount)?,
            netns::current(Namespace::Uts)?,
        ))
    }

    fn network(&self, plan: &Plan, ifindex: u32) -> Result<(), SandboxError> {
        let mut changes = Changes::new();
        changes.link_up(LOOPBACK);
        if ifindex == 0 {
            return device::apply(plan, changes);
        }
        changes.link_identity(ifindex, plan.mac, plan.mtu);
        match self.kind {
            Kind::Tap { .. } => changes
                .qdisc_noqueue(ifindex)
                .link_up(ifindex)
                .link_operational(ifindex),
            // Both by itself.
            Kind::Veth(_) => changes.link_up(ifindex),
        };
        plan.network.establish(ifindex, &mut changes);
        device::apply(plan, changes)
    }
}

/// Switches IPv6 off for every interface to come and for `lo`. Where `/proc/sys` is read-only, or the kernel has no
/// IPv6, interfaces just show a link-local address more, or don't.
fn disable_ipv6(sysctls: &Sysctls) {
    if let Err(error) = sysctls.set("net/ipv6/conf/all/disable_ipv6", "1") {
        tracing::debug!("IPv6 can't be switched off: {error}");
    }
}

/// Lets a node's host side take ICMP errors that its own router sends it: their source is an address of the node, which
/// the kernel would drop as a martian.
fn accept_local(sysctls: &Sysctls) {
    if let Err(error) = sysctls.set("net/ipv4/conf/all/accept_local", "1") {
        tracing::debug!("the node's own ICMP errors won't reach its programs: {error}");
    }
}

/// Closes sandboxes and returns when their devices are gone, in about the time that one takes.
pub fn close(sandboxes: impl IntoIterator<Item = Sandbox>) {
    let (mut ends, mut namespaces) = (Vec::new(), Vec::new());
    for sandbox in sandboxes {
        let Sandbox {
            net, end, files, ..
        } = sandbox;
        ends.extend(end);
        namespaces.push(net);
        if let Err(error) = fs::remove_dir_all(&files) {
            tracing::debug!("{}: {error}", files.display());
        }
    }
    let mut descriptors: Vec<_> = device::remove(ends)
        .into_iter()
        .filter_map(Arc::into_inner)
        .collect();
    // Not before: the kernel takes veths of a namespace that ends one by one, under the same lock.
    drop(namespaces);
    let per_thread = descriptors.len().div_ceil(CLOSERS).max(1);
    std::thread::scope(|scope| {
        while !descriptors.is_empty() {
            let some = descriptors.split_off(descriptors.len().saturating_sub(per_thread));
            let closer = std::thread::Builder::new().stack_size(64 << 10);
            // Without a thread they are closed here, only more slowly.
            drop(closer.spawn_scoped(scope, move || drop(some)));
        }
    });
}

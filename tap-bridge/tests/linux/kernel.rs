//! The kernel as a node: a network namespace with a TAP device for each port.
//!
//! What is written to a TAP the kernel receives on that interface, what the kernel sends is read from it. The kernel does
//! all of its work for a frame within the write; so that nothing here depends on that, the frame is followed by a sentinel
//! on every port, an ARP probe for an address of the node, and what comes out before the sentinels' answers belongs to
//! the frame.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use router_core::config::{NextHop, PortConfig, PortKind, RouteTarget, RpFilter};
use router_core::testing::{Packet, arp_request, eth};
use router_core::{Mac, PortId, Snapshot};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tap_bridge::sys::netns::{self, Namespace};
use tap_bridge::tap::{self, TapConfig};

use crate::iptables;
use crate::side::{Frames, Side};

/// How long the kernel may take for anything, generous for a machine that does other things as well.
const DEADLINE: Duration = Duration::from_secs(10);

/// Every setting that a row depends on, at Linux's default: a new namespace inherits the host's.
const SETTINGS: &[(&str, &str)] = &[
    // First: it resets others.
    ("net/ipv4/ip_forward", "0"),
    ("net/ipv6/conf/all/disable_ipv6", "1"),
    ("net/ipv6/conf/default/disable_ipv6", "1"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/conf/all/accept_source_route", "0"),
    ("net/ipv4/conf/all/send_redirects", "1"),
    ("net/ipv4/conf/default/send_redirects", "1"),
    ("net/ipv4/conf/all/accept_local", "0"),
    ("net/ipv4/conf/all/proxy_arp", "0"),
    ("net/ipv4/conf/all/route_localnet", "0"),
    ("net/ipv4/conf/all/arp_ignore", "0"),
    ("net/ipv4/conf/all/arp_announce", "0"),
    ("net/ipv4/conf/all/arp_accept", "0"),
    ("net/ipv4/conf/all/arp_filter", "0"),
    ("net/ipv4/conf/all/bc_forwarding", "0"),
    ("net/ipv4/icmp_echo_ignore_broadcasts", "1"),
    ("net/ipv4/icmp_ratelimit", "1000"),
    ("net/ipv4/icmp_ratemask", "6168"),
    ("net/ipv4/ip_default_ttl", "64"),
];

/// Why the kernel cannot be used here.
pub(crate) fn probe() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("needs root, for a router in the kernel".into());
    }
    for tool in ["ip", "iptables-restore"] {
        if Command::new(tool)
            .arg("-V")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_err()
        {
            return Err(format!("{tool} is not installed"));
        }
    }
    in_namespace(|| tap::create(&TapConfig::named("probe")))
        .map_err(|e| format!("no network namespace: {e}"))?
        .map_err(|e| e.to_string())?;
    Ok(())
}

/// Runs `work` on a thread with a network namespace of its own, which lives as long as a descriptor from it.
fn in_namespace<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                netns::isolate(&[Namespace::Net])?;
                Ok(work())
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A node in the kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    taps: BTreeMap<PortId, Tap>,
    local: Ipv4Addr,
    /// Keeps the namespace.
    _namespace: OwnedFd,
}

#[derive(Debug)]
struct Tap {
    fd: OwnedFd,
    mac: Mac,
}

impl Kernel {
    /// The node that `snapshot` describes. Ports of kind `Host` are the kernel itself.
    ///
    /// # Panics
    /// When the kernel refuses something.
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        let node = in_namespace(|| Self::build(snapshot)).expect("the probe made a namespace");
        node.settle();
        node
    }

    fn build(snapshot: &Snapshot) -> Self {
        for (name, value) in SETTINGS {
            set(name, value);
        }
        set(
            "net/ipv4/ip_forward",
            &u8::from(snapshot.forwarding).to_string(),
        );
        // Resets what ip_forward reset.
        set("net/ipv4/conf/all/send_redirects", "1");

        let mut taps = BTreeMap::new();
        let mut script = String::from("link set lo up\n");
        for port in &snapshot.ports {
            let PortConfig { name, mac, mtu, .. } = port;
            match port.kind {
                PortKind::Ethernet => {
                    let fd = tap::create(&TapConfig::named(name)).expect("the probe made one");
                    taps.insert(port.id, Tap { fd, mac: *mac });
                }
                // Without snooping, as here; a bridge without ports has no carrier, as docker0.
                PortKind::Bridge | PortKind::Dummy => {
                    script.push_str(&format!("link add {name} type bridge mcast_snooping 0\n"));
                }
                // Its kernel has no ipip module.
                PortKind::Host { .. } | PortKind::Ipip(_) => continue,
            }
            script.push_str(&format!("link set {name} address {mac} mtu {mtu}\n"));
            if port.up {
                script.push_str(&format!("link set {name} up\n"));
            }
        }
        let mac_of = |id| snapshot.ports.iter().find(|p| p.id == id).map(|p| p.mac);
        for port in &snapshot.ports {
            if let Some(member) = port.bridge {
                let hairpin = if member.hairpin { "on" } else { "off" };
                script.push_str(&format!(
                    "link set {0} master {1}\nlink set {0} type bridge_slave hairpin {hairpin}\n",
                    port.name,
                    name_of(snapshot, member.bridge)
                ));
                // The bridge answers in its ports' place.
                if let (Some(tap), Some(mac)) = (taps.get_mut(&port.id), mac_of(member.bridge)) {
                    tap.mac = mac;
                }
            }
        }
        script.push_str(&addresses_and_routes(snapshot));
        batch(&script);
        if std::path::Path::new("/proc/sys/net/bridge").exists() {
            set("net/bridge/bridge-nf-call-iptables", "0");
        }
        for port in snapshot.ports.iter().filter(|p| taps.contains_key(&p.id)) {
            let conf = |key| format!("net/ipv4/conf/{}/{key}", port.name);
            set(&conf("proxy_arp"), &u8::from(port.proxy_arp).to_string());
            set(
                &conf("route_localnet"),
                &u8::from(port.route_localnet).to_string(),
            );
            let rp_filter = match port.rp_filter {
                RpFilter::Off => "0",
                RpFilter::Strict => "1",
                RpFilter::Loose => "2",
            };
            set(&conf("rp_filter"), rp_filter);
            let neigh = |key| format!("net/ipv4/neigh/{}/{key}", port.name);
            set(&neigh("proxy_delay"), "0");
            // A second attempt need not wait for a whole second here; the order of things is the same.
            set(&neigh("retrans_time_ms"), "100");
        }
        iptables::restore(snapshot);
        Self {
            taps,
            local: snapshot
                .addresses
                .first()
                .expect("a node has an address")
                .addr,
            _namespace: netns::current(Namespace::Net).expect("the namespace of this thread"),
        }
    }

    fn write(&self, port: PortId, bytes: &[u8]) {
        let tap = self
            .taps
            .get(&port)
            .expect("a row sends by a port of its node");
        match rustix::io::write(&tap.fd, bytes) {
            Ok(_) => {}
            // Shorter than a header: the driver itself refuses it.
            Err(Errno::INVAL) if bytes.len() < 14 => {}
            // The interface is down.
            Err(Errno::IO) => {}
            Err(errno) => panic!("write to port {}: {errno}", port.0),
        }
    }

    /// Reads from all ports until `done` says so, or nothing came for a while: false then.
    fn read(&self, patience: Duration, mut done: impl FnMut(PortId, &[u8]) -> bool) -> bool {
        let mut buffer = vec![0; 1 << 16];
        loop {
            for (&port, tap) in &self.taps {
                while let Ok(len) = rustix::io::read(&tap.fd, &mut buffer[..]) {
                    if done(port, &buffer[..len]) {
                        return true;
                    }
                }
            }
            let mut fds: Vec<PollFd<'_>> = self
                .taps
                .values()
                .map(|tap| PollFd::new(&tap.fd, PollFlags::IN))
                .collect();
            let patience = Timespec::try_from(patience).expect("a short time");
            if poll(&mut fds, Some(&patience)).expect("poll works") == 0 {
                return false;
            }
        }
    }

    /// Sends the sentinels and reads until each is answered; what else came out, and how many were not.
    fn sweep(&self, patience: Duration) -> (Frames, usize) {
        for (n, (&port, tap)) in self.taps.iter().enumerate() {
            self.write(port, &sentinel(n, tap.mac, self.local).bytes());
        }
        let mut frames = Frames::new();
        let mut waiting: Vec<Mac> = (0..self.taps.len()).map(sentinel_mac).collect();
        self.read(patience, |port, bytes| {
            let before = waiting.len();
            waiting.retain(|mac| !bytes.starts_with(&mac.0));
            if waiting.len() == before {
                frames.push((port, bytes.to_vec()));
            }
            waiting.is_empty()
        });
        (frames, waiting.len())
    }

    /// A bridge sends nothing before its carrier has been noticed, which the kernel does at its leisure.
    fn settle(&self) {
        let end = Instant::now() + DEADLINE;
        while self.sweep(Duration::from_millis(20)).1 > 0 {
            assert!(
                Instant::now() < end,
                "a port does not answer for {DEADLINE:?}"
            );
        }
        // Answers to sentinels that had been given up.
        self.sweep(DEADLINE);
    }
}

impl Side for Kernel {
    fn send(&mut self, port: PortId, frame: &[u8]) -> Frames {
        self.write(port, frame);
        let (frames, unanswered) = self.sweep(DEADLINE);
        assert_eq!(unanswered, 0, "ports do not answer for {DEADLINE:?}");
        frames
    }

    fn wait(&mut self, count: usize) -> Frames {
        let mut frames = Frames::new();
        if count > 0 {
            self.read(DEADLINE, |port, bytes| {
                frames.push((port, bytes.to_vec()));
                frames.len() == count
            });
        }
        frames
    }
}

/// Answered by any node to the sentinel's own MAC, without anything being learned.
fn sentinel(n: usize, port: Mac, local: Ipv4Addr) -> Packet {
    let mac = sentinel_mac(n);
    eth(port, mac) / arp_request(mac, Ipv4Addr::UNSPECIFIED, local)
}

fn sentinel_mac(n: usize) -> Mac {
    Mac([
        2,
        0x5e,
        0x47,
        0x1e,
        0x1e,
        u8::try_from(n).expect("few ports"),
    ])
}

fn name_of(snapshot: &Snapshot, id: PortId) -> &str {
    let port = snapshot.ports.iter().find(|p| p.id == id);
    &port.expect("ports of a snapshot exist").name
}

/// In the order in which the kernel wants them: what a next hop stands on before the next hop.
fn addresses_and_routes(snapshot: &Snapshot) -> String {
    let name = |id| name_of(snapshot, id);
    let mut script = String::new();
    for a in &snapshot.addresses {
        let brd = a
            .broadcast
            .map_or(String::new(), |b| format!("broadcast {b}"));
        script.push_str(&format!(
            "addr add {}/{} {brd} dev {} noprefixroute\n",
            a.addr,
            a.prefix_len,
            name(a.port)
        ));
    }
    let is_direct = |target: &RouteTarget| matches!(target, RouteTarget::Unicast(hops) if hops.iter().all(|h| h.via.is_none()));
    let (direct, others): (Vec<_>, Vec<_>) =
        snapshot.routes.iter().partition(|r| is_direct(&r.target));
    for route in direct.into_iter().chain(others) {
        let hop = |hop: &NextHop| {
            let via = hop
                .via
                .map_or(String::new(), |via| format!("via {via} onlink"));
            format!("{via} dev {}", name(hop.port))
        };
        let (kind, hops) = match &route.target {
            RouteTarget::Unicast(hops) => match &hops[..] {
                [one] => ("", hop(one)),
                several => (
                    "",
                    several
                        .iter()
                        .map(|h| format!(" nexthop {} weight {}", hop(h), h.weight))
                        .collect(),
                ),
            },
            RouteTarget::Blackhole => ("blackhole", String::new()),
            RouteTarget::Unreachable => ("unreachable", String::new()),
            RouteTarget::Prohibit => ("prohibit", String::new()),
            RouteTarget::Throw => ("throw", String::new()),
        };
        let src = route.src.map_or(String::new(), |src| format!("src {src}"));
        script.push_str(&format!(
            "route add {kind} {} metric {} {src} {hops}\n",
            route.dst, route.metric
        ));
    }
    for n in &snapshot.neighbours {
        script.push_str(&format!(
            "neigh add {} lladdr {} nud permanent dev {}\n",
            n.ip,
            n.mac,
            name(n.port)
        ));
    }
    script
}

/// Runs `ip -batch` in the namespace of the calling thread.
fn batch(script: &str) {
    run(Command::new("ip").args(["-batch", "-"]), script);
}

/// Runs a command that reads `input`, in the namespace of the calling thread.
///
/// # Panics
/// When it fails.
pub(crate) fn run(command: &mut Command, input: &str) {
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the probe found it");
    child
        .stdin
        .take()
        .expect("piped above")
        .write_all(input.as_bytes())
        .expect("it reads its input");
    let output = child.wait_with_output().expect("it ends");
    assert!(
        output.status.success(),
        "{command:?} of\n{input}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Writes a sysctl in the namespace of the calling thread.
fn set(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/{name}"), value)
        .unwrap_or_else(|e| panic!("{name} = {value}: {e}"));
}

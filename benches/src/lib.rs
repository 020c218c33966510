//! What the benches share: traffic, tables and a router between two ports.
//!
//! Bench ids are `stage/shape/size`. Figures of different machines, or of one machine at different times, do not compare:
//! run what is to be compared in one go (`cargo bench -p benches --bench parse`).

pub mod allocations;
pub mod crowd;
pub mod family;
pub mod flight;
pub mod routes;
pub mod shapes;

use core::net::Ipv4Addr;
use core::time::Duration;

use ipnet::Ipv4Net;
use router_core::config::{
    LocalAddress, NextHop, PermanentNeighbour, PortConfig, Route, RouteTarget,
};
use router_core::testing::topology::masquerading;
use router_core::{Batch, FramePool, Instant, Limits, Mac, PortId, Router, Snapshot, TxBatch};
use rustix::time::{ClockId, clock_gettime};

/// Port towards the senders.
pub const LEFT: PortId = PortId(1);
/// Port towards the receivers.
pub const RIGHT: PortId = PortId(0);
/// MAC of the router on both ports.
pub const ROUTER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// MAC of every station.
pub const STATION_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// CPU time of this process: what others take of the machine does not count.
///
/// # Panics
/// Never: the clock began at zero.
#[must_use]
pub fn cpu_time() -> Duration {
    let t = clock_gettime(ClockId::ProcessCPUTime);
    let part = |n: i64| u64::try_from(n).expect("a clock that began at zero");
    Duration::from_secs(part(t.tv_sec)) + Duration::from_nanos(part(t.tv_nsec))
}

/// xorshift64*: seeded, so that every run sees the same addresses.
#[derive(Clone, Copy, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next_u32(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let [a, b, c, d, ..] = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }
}

/// Destinations of a node in a large cluster: 5,000 podCIDRs of peers and 110 pods of its own.
#[must_use]
pub fn cluster_prefixes() -> Vec<Ipv4Net> {
    let peers = (0..5_000_u32).map(|i| net(0x0a00_0000 + (i << 8), 24));
    let pods = (0..110_u32).map(|i| net(0x0aff_0002 + i, 32));
    peers.chain(pods).collect()
}

fn net(addr: u32, len: u8) -> Ipv4Net {
    Ipv4Net::new(Ipv4Addr::from(addr), len).expect("a length up to 32")
}

/// An Ethernet frame with an IPv4 UDP datagram of `len` bytes in all, Ethernet header included, from a pod to `dst`.
///
/// # Panics
/// With `len` below 42.
#[must_use]
pub fn udp_frame(dst: Ipv4Addr, len: usize) -> Vec<u8> {
    let mut frame = vec![0; len];
    frame[..6].copy_from_slice(&ROUTER_MAC.0);
    frame[6..12].copy_from_slice(&STATION_MAC.0);
    frame[12..14].copy_from_slice(&[8, 0]);
    let total = u16::try_from(len - 14).expect("a frame is short");
    let ip = &mut frame[14..34];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    ip[6] = 0x40;
    ip[8] = 64;
    ip[9] = 17;
    ip[12..16].copy_from_slice(&[10, 255, 0, 2]);
    ip[16..20].copy_from_slice(&dst.octets());
    let mut sum = 0_u32;
    for pair in ip.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !u16::try_from(sum).expect("folded");
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    let udp = &mut frame[34..42];
    udp[1] = 9;
    udp[3] = 9;
    udp[4..6].copy_from_slice(&(total - 20).to_be_bytes());
    frame
}

/// An ARP request of a pod for its gateway.
#[must_use]
pub fn arp_request() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(STATION_MAC.0);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(STATION_MAC.0);
    frame.extend([10, 255, 0, 2]);
    frame.extend([0; 6]);
    frame.extend([10, 255, 0, 1]);
    frame
}

/// A router with a pod on [`LEFT`], the cluster behind [`RIGHT`], and everything resolved.
#[derive(Debug)]
pub struct Node {
    router: Router,
    pool: FramePool,
    rx: Batch,
    tx: TxBatch,
    now: Instant,
}

impl Node {
    /// The cluster table; peers' podCIDRs are spread over `next_hops` nodes on the underlay.
    ///
    /// # Panics
    /// Never with the tables of this crate.
    #[must_use]
    pub fn new(next_hops: u32) -> Self {
        Self::of(cluster_node(next_hops))
    }

    /// The same, and everything that leaves for [`RIGHT`] is masqueraded.
    ///
    /// # Panics
    /// Never with the tables of this crate.
    #[must_use]
    pub fn masquerading(next_hops: u32) -> Self {
        Self::of(masquerading(cluster_node(next_hops)))
    }

    /// A router of this configuration.
    ///
    /// # Panics
    /// When the configuration contradicts itself.
    #[must_use]
    pub fn of(snapshot: Snapshot) -> Self {
        let capacity = 1024;
        let mut pool = FramePool::new(capacity);
        let mut router = Router::new(Limits::default(), 1);
        let now = Instant::from_nanos(1);
        router
            .apply(now, snapshot, &mut pool)
            .expect("the snapshot does not contradict itself");
        Self {
            router,
            pool,
            rx: Batch::new(),
            tx: TxBatch::new(capacity),
            now,
        }
    }

    /// Takes frames from [`LEFT`] through the router in one batch. Number of frames that it sent.
    ///
    /// # Panics
    /// With more frames than a batch takes.
    pub fn pass(&mut self, frames: &[Vec<u8>]) -> usize {
        self.pass_from(LEFT, frames)
    }

    /// [`pass`](Self::pass) of frames that come in by another port.
    ///
    /// # Panics
    /// With more frames than a batch takes.
    pub fn pass_from(&mut self, port: PortId, frames: &[Vec<u8>]) -> usize {
        self.process(port, frames);
        let sent = self.tx.len();
        self.tx.free_all(&mut self.pool);
        sent
    }

    /// What the router sends, first of all, for a frame from [`LEFT`].
    #[must_use]
    pub fn answer(&mut self, frame: Vec<u8>) -> Option<Vec<u8>> {
        self.process(LEFT, &[frame]);
        let sent = self.tx.iter().next();
        let bytes = sent.map(|(_, frame)| frame.bytes().to_vec());
        self.tx.free_all(&mut self.pool);
        bytes
    }

    fn process(&mut self, port: PortId, frames: &[Vec<u8>]) {
        for bytes in frames {
            let mut frame = self.pool.alloc().expect("the pool is larger than a batch");
            frame.fill(bytes);
            frame.set_port(port);
            self.rx.push(frame).expect("at most a batch");
        }
        self.now = self.now + Duration::from_micros(10);
        self.router
            .process(self.now, &mut self.rx, &mut self.pool, &mut self.tx);
    }
}

/// A node with a pod on [`LEFT`] and the cluster behind [`RIGHT`].
pub(crate) fn cluster_node(next_hops: u32) -> Snapshot {
    let node = |i: u32| Ipv4Addr::from(0xac10_0000 + 2 + i % next_hops);
    let unicast = |port, via| {
        RouteTarget::Unicast(vec![NextHop {
            port,
            via,
            weight: 1,
        }])
    };
    let mut routes: Vec<Route> = (0_u32..)
        .zip(cluster_prefixes())
        .map(|(i, dst)| Route {
            dst,
            metric: 0,
            src: None,
            target: if dst.prefix_len() == 32 {
                unicast(LEFT, None)
            } else {
                unicast(RIGHT, Some(node(i)))
            },
        })
        .collect();
    routes.push(Route {
        dst: net(0xac10_0000, 16),
        metric: 0,
        src: None,
        target: unicast(RIGHT, None),
    });
    let address = |addr: Ipv4Addr, prefix_len, port| LocalAddress {
        addr,
        prefix_len,
        broadcast: None,
        port,
    };
    Snapshot {
        epoch: 1,
        forwarding: true,
        ports: vec![
            PortConfig::ethernet(RIGHT.0, "eth0", ROUTER_MAC, 1500),
            PortConfig::ethernet(LEFT.0, "veth0", ROUTER_MAC, 1500),
        ],
        addresses: vec![
            address(Ipv4Addr::new(172, 16, 0, 1), 16, RIGHT),
            address(Ipv4Addr::new(10, 255, 0, 1), 32, LEFT),
        ],
        routes,
        neighbours: (0..next_hops)
            .map(|i| PermanentNeighbour {
                port: RIGHT,
                ip: node(i),
                mac: STATION_MAC,
            })
            .collect(),
        ..Snapshot::default()
    }
}

//! A router under any configuration and any frames.
//!
//! Holds after every step: no frame is lost or invented (INV-3, decision 14), what is out of the pool is what the router
//! says it holds; every IPv4 packet that leaves is well formed (INV-1); one frame in gives at most one packet out, or its
//! fragments, or one answer (INV-2). The checks share no code with the router.

use core::net::Ipv4Addr;
use core::time::Duration;

use ipnet::Ipv4Net;
use router_core::config::{
    LocalAddress, NextHop, PermanentNeighbour, PinnedPeer, PortConfig, PortKind, Route,
    RouteTarget, RpFilter,
};
use router_core::frame::MAX_FRAME;
use router_core::{
    Batch, FramePool, Instant, Limits, Mac, PortId, Router, Snapshot, Stats, TxBatch,
};

use crate::input::Input;

const ETH0: PortId = PortId(0);
const POD_A: PortId = PortId(1);
const POD_B: PortId = PortId(2);
const HOST: PortId = PortId(3);
const DOCKER0: PortId = PortId(4);

const ROUTER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const POD_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// Frames in the pool: more than any input can make the router hold.
const POOL: usize = 320;

/// A node of a kindnet cluster as the preset makes it, changed by a few bits of the input.
fn snapshot(input: &mut Input<'_>) -> Snapshot {
    let flags = input.byte();
    let more = input.byte();
    let on = |bits: u8, n: u8| bits & (1 << n) != 0;
    let mtu = if on(flags, 0) { 576 } else { 1500 };
    let mut ports = vec![
        PortConfig::ethernet(ETH0.0, "eth0", ROUTER_MAC, mtu),
        PortConfig::ethernet(POD_A.0, "veth0000000a", ROUTER_MAC, mtu),
        PortConfig::ethernet(
            POD_B.0,
            "veth0000000b",
            ROUTER_MAC,
            if on(flags, 1) { 68 } else { mtu },
        ),
        PortConfig::ethernet(DOCKER0.0, "docker0", ROUTER_MAC, 1500),
    ];
    ports[0].proxy_arp = on(flags, 2);
    ports[0].rp_filter = match more & 3 {
        0 => RpFilter::Off,
        1 => RpFilter::Strict,
        _ => RpFilter::Loose,
    };
    ports[0].route_localnet = on(flags, 3);
    ports[1].peer = on(flags, 4).then_some(PinnedPeer {
        ip: Ipv4Addr::new(10, 244, 0, 2),
        mac: POD_MAC,
    });
    ports[1].arp = !on(more, 2);
    ports[2].up = !on(flags, 5);
    ports[3].kind = PortKind::Dummy;
    ports[3].carrier = false;
    if on(flags, 6) {
        let mut host = PortConfig::ethernet(HOST.0, "host", ROUTER_MAC, mtu);
        host.kind = PortKind::Host { peer_mac: POD_MAC };
        ports.push(host);
    }
    let gateway = Ipv4Addr::new(10, 244, 0, 1);
    let address = |addr: Ipv4Addr, prefix_len, broadcast, port| LocalAddress {
        addr,
        prefix_len,
        broadcast,
        port,
    };
    let route = |dst: &str, target| Route {
        dst: dst.parse::<Ipv4Net>().expect("a literal prefix"),
        metric: 0,
        src: None,
        target,
    };
    let via = |port, via: Option<[u8; 4]>| {
        RouteTarget::Unicast(vec![NextHop {
            port,
            via: via.map(Ipv4Addr::from),
            weight: 1,
        }])
    };
    let mut routes = vec![
        route("10.244.0.2/32", via(POD_A, None)),
        route("10.244.0.3/32", via(POD_B, None)),
        route("10.244.1.0/24", via(ETH0, Some([172, 16, 30, 4]))),
        route("10.244.2.0/24", via(ETH0, Some([172, 16, 30, 5]))),
        route("172.16.30.0/24", via(ETH0, None)),
        route("172.17.0.0/16", via(DOCKER0, None)),
        route("192.0.2.0/26", RouteTarget::Blackhole),
        route("192.0.2.64/26", RouteTarget::Unreachable),
        route("192.0.2.128/26", RouteTarget::Prohibit),
        route("192.0.2.192/26", RouteTarget::Throw),
    ];
    if on(flags, 7) {
        routes.push(route("0.0.0.0/0", via(ETH0, Some([172, 16, 30, 1]))));
    }
    let mut neighbours = Vec::new();
    if on(more, 3) {
        neighbours.push(PermanentNeighbour {
            port: POD_A,
            ip: Ipv4Addr::new(10, 244, 0, 2),
            mac: POD_MAC,
        });
        neighbours.push(PermanentNeighbour {
            port: ETH0,
            ip: Ipv4Addr::new(172, 16, 30, 4),
            mac: Mac([2, 0, 0, 0, 0, 4]),
        });
    }
    Snapshot {
        epoch: 0,
        forwarding: !on(more, 4),
        ports,
        addresses: vec![
            address(
                Ipv4Addr::new(172, 16, 30, 3),
                24,
                Some(Ipv4Addr::new(172, 16, 30, 255)),
                ETH0,
            ),
            address(gateway, 32, None, POD_A),
            address(gateway, 32, None, POD_B),
            address(
                Ipv4Addr::new(172, 17, 0, 1),
                16,
                Some(Ipv4Addr::new(172, 17, 255, 255)),
                DOCKER0,
            ),
        ],
        routes,
        neighbours,
        ..Snapshot::default()
    }
}

/// A router with everything that surrounds it.
#[derive(Debug)]
pub struct Bench {
    router: Router,
    pool: FramePool,
    now: Instant,
    tx: TxBatch,
    rx: Batch,
    /// Tables are large enough that nothing is ever evicted, so one frame cannot cause answers to older ones.
    roomy: bool,
}

impl Bench {
    /// A node with every flag off: as the preset makes it, without a default route.
    #[must_use]
    pub fn plain() -> Self {
        Self::new(
            Limits::default(),
            snapshot(&mut Input::new(&[0b1100_0000, 0])),
            true,
        )
    }

    fn new(limits: Limits, snapshot: Snapshot, roomy: bool) -> Self {
        let mut bench = Self {
            router: Router::new(limits, 7),
            pool: FramePool::new(POOL),
            now: Instant::from_nanos(1),
            tx: TxBatch::new(POOL),
            rx: Batch::new(),
            roomy,
        };
        bench
            .router
            .apply(bench.now, snapshot, &mut bench.pool)
            .expect("the snapshot does not contradict itself");
        bench
    }

    /// Receives one frame and checks what comes of it.
    pub fn receive(&mut self, port: PortId, bytes: &[u8]) {
        let Some(mut frame) = self.pool.alloc() else {
            panic!("the router holds more than it may");
        };
        if !frame.fill(bytes) {
            self.pool.free(frame);
            return;
        }
        frame.set_port(port);
        self.rx.push(frame).expect("an empty batch has room");
        self.router
            .process(self.now, &mut self.rx, &mut self.pool, &mut self.tx);
        assert!(self.rx.is_empty(), "process takes every frame");
        let is_arp = bytes.get(12..14) == Some(&[8, 6][..]);
        self.check(!is_arp && self.roomy);
    }

    /// Receives a frame after it was made to pass the first checks: addressed to the router, with a valid IPv4 header.
    pub fn receive_repaired(&mut self, port: PortId, bytes: &[u8]) {
        let mut frame = bytes.to_vec();
        repair(&mut frame);
        self.receive(port, &frame);
    }

    /// Lets time pass, and the router do what is due when it is due.
    pub fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        // Each neighbour has a few timers in that time, so this is far more than it takes.
        for _ in 0..1_000_000 {
            match self.router.poll_timeout() {
                Some(due) if due <= end => self.now = self.now.max(due),
                _ => {
                    self.now = end;
                    return;
                }
            }
            self.router
                .handle_timeout(self.now, &mut self.pool, &mut self.tx);
            self.check(false);
        }
        panic!(
            "handle_timeout does not settle: {:?} at {:?}",
            self.router.poll_timeout(),
            self.now
        );
    }

    fn reconfigure(&mut self, snapshot: Snapshot) {
        self.router
            .apply(self.now, snapshot, &mut self.pool)
            .expect("the snapshot does not contradict itself");
        self.check(false);
    }

    fn check(&mut self, one_in: bool) {
        let host: Vec<PortId> = self
            .router
            .snapshot()
            .ports
            .iter()
            .filter(|p| matches!(p.kind, PortKind::Host { .. }))
            .map(|p| p.id)
            .collect();
        let mut packets = Vec::new();
        for (port, frame) in self.tx.drain() {
            assert!(
                self.router
                    .snapshot()
                    .ports
                    .iter()
                    .any(|p| p.id == port && p.up),
                "sent on {port:?}, which is not there or down"
            );
            let bytes = frame.bytes();
            assert!(bytes.len() >= 14, "a frame has an Ethernet header");
            if bytes[12..14] == [8, 0] {
                // What goes to the host namespace is handed over as it came.
                check_ipv4(&bytes[14..], host.contains(&port));
                packets.push(bytes[14..34].to_vec());
            }
            self.pool.free(frame);
        }
        if one_in && packets.len() > 1 {
            let same = |p: &Vec<u8>| {
                p[4..6] == packets[0][4..6]
                    && p[9] == packets[0][9]
                    && p[12..20] == packets[0][12..20]
            };
            let piece = |p: &Vec<u8>| (u16::from_be_bytes([p[6], p[7]]) & 0x3fff) != 0;
            assert!(
                packets.iter().all(|p| same(p) && piece(p)),
                "one frame in, {} unrelated packets out (INV-2): {packets:02x?}",
                packets.len()
            );
        }
        if let Err(error) = self.router.stats().check_conservation(self.router.held()) {
            panic!("INV-3: {error}");
        }
        assert_eq!(
            self.pool.missing(),
            self.router.held(),
            "every frame is in the pool or held"
        );
    }
}

/// INV-1, by arithmetic of its own.
fn check_ipv4(packet: &[u8], to_host: bool) {
    assert!(packet.len() >= 20, "an IPv4 packet has a header");
    assert_eq!(packet[0] >> 4, 4, "version");
    let header = usize::from(packet[0] & 15) * 4;
    assert!(
        header >= 20 && header <= packet.len(),
        "IHL {header} of {} bytes",
        packet.len()
    );
    assert_eq!(
        usize::from(u16::from_be_bytes([packet[2], packet[3]])),
        packet.len(),
        "total length"
    );
    assert!(to_host || packet[8] >= 1, "TTL 0 on the wire");
    assert_eq!(
        ones_complement_sum(&packet[..header]),
        0xffff,
        "header checksum"
    );
}

fn ones_complement_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
        if sum > 0xffff {
            sum -= 0xffff;
        }
    }
    u16::try_from(sum).expect("folded after every step")
}

/// Makes a frame pass the first checks, so that the input reaches what lies behind them.
fn repair(frame: &mut [u8]) {
    if frame.len() < 34 {
        return;
    }
    frame[..6].copy_from_slice(&ROUTER_MAC.0);
    frame[12..14].copy_from_slice(&[8, 0]);
    let available = frame.len() - 14;
    let packet = &mut frame[14..];
    let header = (usize::from(packet[0] & 15) * 4).clamp(20, available.min(60) / 4 * 4);
    packet[0] = 0x40 | u8::try_from(header / 4).expect("at most 15");
    let total = u16::try_from(available)
        .expect("a frame is short")
        .to_be_bytes();
    packet[2..4].copy_from_slice(&total);
    packet[10..12].fill(0);
    let sum = !ones_complement_sum(&packet[..header]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Configuration in three bytes, then steps: a frame on a port as it is or repaired, time that passes, a new
/// configuration, neighbours flushed.
pub fn run(bytes: &[u8]) {
    let _ = play(bytes);
}

/// [`run`], and what the router counted.
#[must_use]
pub fn play(bytes: &[u8]) -> Stats {
    let mut input = Input::new(bytes);
    let tight = input.byte() & 1 != 0;
    let limits = if tight {
        Limits {
            neighbours: 4,
            held_per_neighbour: 3,
            held: 6,
            fragments: 8,
            fdb: 3,
        }
    } else {
        Limits::default()
    };
    let first = snapshot(&mut input);
    let mut bench = Bench::new(limits, first, !tight);
    while !input.is_empty() {
        let op = input.byte();
        match op {
            0..=0xbf => {
                let length = usize::from(input.word()) % (MAX_FRAME + 1);
                let mut frame = input.bytes(length).to_vec();
                if op & 0x40 != 0 {
                    repair(&mut frame);
                }
                bench.receive(PortId(u16::from(op & 7)), &frame);
            }
            0xc0..=0xdf => bench.advance(Duration::from_millis(u64::from(input.word()))),
            0xe0..=0xef => {
                let next = snapshot(&mut input);
                bench.reconfigure(next);
            }
            _ => {
                let port = (op & 8 != 0).then_some(PortId(u16::from(op & 7)));
                bench.router.flush_neighbours(port, None, &mut bench.pool);
                bench.check(false);
            }
        }
    }
    // Whatever waits is answered or given up in the end: no frame is held for ever.
    bench.advance(Duration::from_secs(60));
    bench.advance(Duration::from_secs(60));
    assert_eq!(
        bench.router.held(),
        0,
        "frames are still held two minutes later"
    );
    bench.router.stats().clone()
}

/// A step that receives `frame` on `port`.
fn step(port: u8, repaired: bool, frame: &[u8]) -> Vec<u8> {
    let mut bytes = vec![port | if repaired { 0x40 } else { 0 }];
    bytes.extend(
        u16::try_from(frame.len())
            .expect("a short frame")
            .to_be_bytes(),
    );
    bytes.extend(frame);
    bytes
}

/// Ordinary traffic on an ordinary node.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let ipv4 = |src: [u8; 4], dst: [u8; 4], ttl: u8, protocol: u8, payload: &[u8]| {
        let mut frame = vec![0; 34];
        frame[6..12].copy_from_slice(&POD_MAC.0);
        frame[14] = 0x45;
        frame[22] = ttl;
        frame[23] = protocol;
        frame[26..30].copy_from_slice(&src);
        frame[30..34].copy_from_slice(&dst);
        frame.extend(payload);
        frame
    };
    let echo = [8, 0, 0xf7, 0xfe, 0, 1, 0, 0];
    let arp = |op: u8, sender: [u8; 4], target: [u8; 4]| {
        let mut frame = vec![0xff; 6];
        frame.extend(POD_MAC.0);
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, op]);
        frame.extend(POD_MAC.0);
        frame.extend(sender);
        frame.extend([0; 6]);
        frame.extend(target);
        frame
    };
    let (pod_a, pod_b, far, node) = (
        [10, 244, 0, 2],
        [10, 244, 0, 3],
        [10, 244, 1, 2],
        [172, 16, 30, 3],
    );
    let steps: Vec<Vec<u8>> = vec![
        step(1, false, &arp(1, pod_a, [10, 244, 0, 1])),
        step(1, true, &ipv4(pod_a, pod_b, 64, 1, &echo)),
        step(2, false, &arp(2, pod_b, [10, 244, 0, 1])),
        step(
            1,
            true,
            &ipv4(pod_a, far, 64, 17, &[3, 232, 0, 53, 0, 9, 0, 0, b'x']),
        ),
        vec![0xc0, 0x10, 0],
        step(0, false, &arp(2, [172, 16, 30, 4], node)),
        step(
            1,
            true,
            &ipv4(pod_a, far, 1, 17, &[3, 232, 0, 53, 0, 9, 0, 0, b'x']),
        ),
        step(1, true, &ipv4(pod_a, node, 64, 1, &echo)),
        step(
            1,
            true,
            &ipv4(
                pod_a,
                node,
                64,
                6,
                &[
                    0, 99, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0,
                ],
            ),
        ),
        step(1, true, &ipv4(pod_a, [192, 0, 2, 70], 64, 17, &[0; 8])),
        step(3, true, &ipv4(node, far, 64, 1, &echo)),
        step(1, true, &{
            let mut frame = ipv4(
                pod_a,
                far,
                64,
                1,
                &[7, 7, 4, 0, 0, 0, 0, 0, 8, 0, 0xf7, 0xfe, 0, 1, 0, 0],
            );
            frame[14] = 0x47;
            frame
        }),
        step(1, true, &ipv4(pod_a, pod_b, 64, 17, &[0; 900])),
        step(1, true, &ipv4(pod_a, [192, 0, 2, 1], 64, 17, &[0; 8])),
        step(1, true, &ipv4(pod_a, [192, 0, 2, 130], 64, 17, &[0; 8])),
        step(1, true, &ipv4([127, 0, 0, 1], pod_b, 64, 17, &[0; 8])),
        step(1, true, &ipv4(pod_a, [172, 16, 30, 255], 64, 17, &[0; 8])),
        step(1, true, &ipv4(pod_a, [224, 0, 0, 5], 64, 17, &[0; 8])),
        // Not repaired: somebody else's MAC, a wrong checksum, a tag, a few bytes.
        step(1, false, &ipv4(pod_a, pod_b, 64, 17, &[0; 8])),
        step(1, false, &{
            let mut frame = ipv4(pod_a, pod_b, 64, 17, &[0; 8]);
            frame[..6].copy_from_slice(&ROUTER_MAC.0);
            frame[12] = 8;
            frame
        }),
        step(
            1,
            false,
            &[
                0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 2, 0x81, 0, 0, 5,
            ],
        ),
        step(1, false, &[0x86, 0xdd]),
        // An option without a length, a source route, and DF on a link with a small MTU.
        step(1, true, &{
            let mut frame = ipv4(pod_a, far, 64, 1, &[7, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            frame[14] = 0x46;
            frame
        }),
        step(1, true, &{
            let mut frame = ipv4(pod_a, far, 64, 1, &[131, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            frame[14] = 0x46;
            frame
        }),
        step(1, true, &{
            let mut frame = ipv4(pod_a, pod_b, 64, 17, &[0; 900]);
            frame[20] = 0x40;
            frame
        }),
        vec![0xe0, 0xff, 0x0f],
        vec![0xf0],
    ];
    let mut seeds = Vec::new();
    for config in [
        [0, 0b1100_0000, 0],
        [1, 0b1101_0000, 8],
        [0, 0b1000_0111, 1],
    ] {
        let mut all = config.to_vec();
        for step in &steps {
            let mut one = config.to_vec();
            one.extend(step);
            seeds.push(one);
            all.extend(step);
        }
        seeds.push(all);
    }
    seeds
}

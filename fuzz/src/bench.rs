//! A router with everything that surrounds it, and what must hold after every step.
//!
//! No frame is lost or invented (INV-3, decision 14), what is out of the pool is what the router says it holds; every IPv4
//! packet that leaves a router port is well formed (INV-1); one frame in gives at most one packet out, or its fragments, or
//! one answer, or one flood (INV-2); nothing is allocated (INV-6). The checks share no code with the router.

use core::time::Duration;
use std::cell::RefCell;

use router_core::config::{PortKind, Shape};
use router_core::frame::{Frame, Offload, Tail};
use router_core::testing::offload;
use router_core::{Batch, FramePool, Instant, Limits, PortId, Router, Snapshot, TxBatch};

use crate::allocations;
use crate::input::Input;
use crate::node::{ROUTER_MAC, snapshot};

/// Frames in the pool: fragments leave a quarter of it, which is more than what may wait for neighbours.
const POOL: usize = 1088;

thread_local! {
    /// The last bench's pool, whole: to make one takes longer than to play most inputs.
    static SPARE: RefCell<Option<FramePool>> = const { RefCell::new(None) };
}

/// A router with everything that surrounds it.
#[derive(Debug)]
pub struct Bench {
    router: Router,
    pool: FramePool,
    now: Instant,
    tx: TxBatch,
    rx: Batch,
    sent: Vec<(PortId, Vec<u8>)>,
    /// Tables are large enough that nothing is ever evicted, so one frame cannot cause answers to older ones.
    roomy: bool,
}

impl Bench {
    /// A node as [`snapshot`] makes it from `config`, its tables as large as they are.
    #[must_use]
    pub fn plain(config: [u8; 3]) -> Self {
        Self::new(Limits::default(), snapshot(&mut Input::new(&config)), true)
    }

    /// `roomy` says that tables of these sizes never overflow here.
    #[must_use]
    pub fn new(limits: Limits, snapshot: Snapshot, roomy: bool) -> Self {
        let mut bench = Self {
            router: Router::new(limits, 7),
            pool: SPARE.take().unwrap_or_else(|| FramePool::new(POOL)),
            now: Instant::from_nanos(1),
            tx: TxBatch::new(POOL),
            rx: Batch::new(),
            sent: Vec::new(),
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
        self.receive_offload(port, bytes, &[], None);
    }

    /// Receives one frame, as a device does that leaves something to do, with `tail` behind the head.
    pub fn receive_offload(
        &mut self,
        port: PortId,
        head: &[u8],
        tail: &[u8],
        offload: Option<Offload>,
    ) {
        let Some(mut frame) = self.pool.alloc() else {
            panic!("the router holds more than it may");
        };
        if !frame.fill(head) {
            self.pool.free(frame);
            return;
        }
        if let Some(offload) = offload {
            frame.set_offload(offload);
        }
        if !tail.is_empty() {
            frame.set_tail(Tail::on_heap(tail));
        }
        frame.set_port(port);
        let whole = !frame.is_superframe();
        self.rx.push(frame).expect("an empty batch has room");
        let before = allocations::count();
        self.router
            .process(self.now, &mut self.rx, &mut self.pool, &mut self.tx);
        assert_eq!(
            allocations::count(),
            before,
            "a frame caused an allocation (INV-6)"
        );
        assert!(self.rx.is_empty(), "process takes every frame");
        let is_arp = head.get(12..14) == Some(&[8, 6][..]);
        // What waited for bandwidth may go with what comes.
        let ports = &self.router.snapshot().ports;
        let shaped = ports.iter().any(|p| p.shape != Shape::default());
        self.check(whole && !is_arp && !shaped && self.roomy);
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
            let before = allocations::count();
            self.router
                .handle_timeout(self.now, &mut self.pool, &mut self.tx);
            assert_eq!(
                allocations::count(),
                before,
                "a timer caused an allocation (INV-6)"
            );
            self.check(false);
        }
        panic!(
            "handle_timeout does not settle: {:?} at {:?}",
            self.router.poll_timeout(),
            self.now
        );
    }

    /// Replaces the configuration.
    pub fn reconfigure(&mut self, snapshot: Snapshot) {
        self.router
            .apply(self.now, snapshot, &mut self.pool)
            .expect("the snapshot does not contradict itself");
        self.check(false);
    }

    /// Forgets neighbours of this port, or of all.
    pub fn flush_neighbours(&mut self, port: Option<PortId>) {
        self.router.flush_neighbours(port, None, &mut self.pool);
        self.check(false);
    }

    /// The router.
    #[must_use]
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// What was sent since this was asked last, oldest first.
    pub fn take_sent(&mut self) -> Vec<(PortId, Vec<u8>)> {
        core::mem::take(&mut self.sent)
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
        self.sent.clear();
        let mut packets: Vec<Vec<u8>> = Vec::new();
        for (port, frame) in self.tx.drain() {
            let ports = &self.router.snapshot().ports;
            assert!(
                ports.iter().any(|p| p.id == port && p.up),
                "sent on {port:?}, which is not there or down"
            );
            // What stations say to each other across a bridge is theirs (BR-7).
            let find = |id| ports.iter().find(|p| p.id == id);
            let bridge = find(port).and_then(|p| find(p.bridge?.bridge));
            let source = frame.bytes().get(6..12);
            let foreign = bridge.is_some_and(|bridge| source != Some(&bridge.mac.0));
            for bytes in wire_frames(&frame) {
                assert!(bytes.len() >= 14, "a frame has an Ethernet header");
                if bytes[12..14] == [8, 0] && !foreign {
                    // What goes to the host namespace is handed over as it came.
                    check_ipv4(&bytes[14..], host.contains(&port));
                    // A bridge sends a frame by several ports.
                    if !packets.iter().any(|p| p[..] == bytes[14..]) {
                        packets.push(bytes[14..].to_vec());
                    }
                }
                self.sent.push((port, bytes));
            }
            self.pool.free(frame);
        }
        // Pieces of one datagram that each went into the tunnel by themselves, or of the outer packets there.
        let tunnelled = |p: &Vec<u8>| p[9] == 4 && p[12..20] == packets[0][12..20];
        if one_in && packets.len() > 1 && !packets.iter().all(tunnelled) {
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

impl Drop for Bench {
    fn drop(&mut self) {
        // What a router still holds goes with it, and so does the pool that misses it.
        if self.pool.missing() == 0 && !std::thread::panicking() {
            SPARE.set(Some(core::mem::replace(&mut self.pool, FramePool::new(0))));
        }
    }
}

/// The frames that a wire carries for `frame`, made the slow way.
#[must_use]
pub fn wire_frames(frame: &Frame) -> Vec<Vec<u8>> {
    offload::on_wire(&offload::bytes(frame), frame.offload())
}

/// INV-1, by arithmetic of its own.
pub fn check_ipv4(packet: &[u8], to_host: bool) {
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

/// The sum of RFC 1071, folded after every word.
#[must_use]
pub fn ones_complement_sum(bytes: &[u8]) -> u16 {
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
pub fn repair(frame: &mut [u8]) {
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

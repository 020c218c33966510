//! A node's packet path: forwarding, masquerading, answering.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use router_core::config::{NextHop, PermanentNeighbour, RouteTarget};
use router_core::frame::BATCH_MAX;
use router_core::{Batch, FramePool, Instant, Limits, Mac, PortId, Router, Snapshot, TxBatch};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};

use super::{BenchError, Figure, Job, NODES, measure};
use crate::cluster::Cluster;
use crate::lab::{self, Overrides, Source};

const LAB: &str = "{apiVersion: podwire/v1, kind: Lab, name: bench, preset: kindnet, systemPods: false, nodes: 250, \
                   networkPolicy: ignore, pods: [{name: a, node: minikube}]}";

/// Everybody but the pod and the router.
const STATION: Mac = Mac([2, 0, 0, 0, 0xbe, 0xef]);

/// A router between a pod and its cluster.
struct Node {
    router: Router,
    pool: FramePool,
    rx: Batch,
    tx: TxBatch,
    now: Instant,
    pod: Pod,
}

/// The pod as its node knows it.
#[derive(Clone, Copy)]
struct Pod {
    port: PortId,
    /// The router's on that port.
    gateway_mac: Mac,
    mac: Mac,
    ip: Ipv4Addr,
    gateway: Ipv4Addr,
}

/// The configuration that a lab's first node gets, its neighbours known.
fn snapshot() -> Result<(Snapshot, Pod), BenchError> {
    let spec = lab::load(&[Source::new("bench", LAB)], &Overrides::default())?;
    let root = std::env::temp_dir().join(format!("podwire-bench-{}", std::process::id()));
    let made = Cluster::new(&spec, root.clone(), 0).and_then(|(cluster, _)| {
        let snapshot = cluster.snapshot("minikube")?;
        Ok((snapshot, cluster.pod("default", "a")?.clone()))
    });
    // Whether there was something to remove or not.
    let _ = std::fs::remove_dir_all(root);
    let (mut snapshot, pod) = made?;
    let mut known = Vec::new();
    for route in &snapshot.routes {
        if let RouteTarget::Unicast(hops) = &route.target {
            for NextHop { port, via, .. } in hops {
                let host = (route.dst.prefix_len() == 32).then(|| route.dst.addr());
                known.extend(via.or(host).map(|ip| (*port, ip)));
            }
        }
    }
    let link = pod.link.ok_or(BenchError::NoLink)?;
    let pod = Pod {
        port: link.port,
        gateway_mac: link.host_mac,
        mac: link.mac,
        ip: pod.ip,
        gateway: link.gateway,
    };
    snapshot
        .neighbours
        .retain(|n| !known.contains(&(n.port, n.ip)));
    snapshot
        .neighbours
        .extend(known.into_iter().map(|(port, ip)| PermanentNeighbour {
            port,
            ip,
            mac: if ip == pod.ip { pod.mac } else { STATION },
        }));
    Ok((snapshot, pod))
}

impl Node {
    fn new(snapshot: Snapshot, pod: Pod) -> Result<Self, BenchError> {
        let capacity = 4 * BATCH_MAX;
        let mut node = Self {
            router: Router::new(Limits::default(), 1),
            pool: FramePool::new(capacity),
            rx: Batch::new(),
            tx: TxBatch::new(capacity),
            now: Instant::from_nanos(1),
            pod,
        };
        node.router.apply(node.now, snapshot, &mut node.pool)?;
        Ok(node)
    }

    /// Takes one batch through, and says how many frames came out.
    fn pass(&mut self, frames: &[Vec<u8>]) -> usize {
        for bytes in frames.iter().take(BATCH_MAX) {
            let Some(mut frame) = self.pool.alloc() else {
                break;
            };
            frame.fill(bytes);
            frame.set_port(self.pod.port);
            if let Err(frame) = self.rx.push(frame) {
                self.pool.free(frame);
            }
        }
        self.now = self.now + Duration::from_micros(10);
        self.router
            .process(self.now, &mut self.rx, &mut self.pool, &mut self.tx);
        let sent = self.tx.len();
        self.tx.free_all(&mut self.pool);
        sent
    }
}

impl Pod {
    fn ethernet(self, ethertype: EthernetProtocol, dst: Mac, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; EthernetFrame::<&[u8]>::header_len() + len];
        let header = EthernetRepr {
            src_addr: EthernetAddress(self.mac.0),
            dst_addr: EthernetAddress(dst.0),
            ethertype,
        };
        header.emit(&mut EthernetFrame::new_unchecked(&mut bytes));
        bytes
    }

    /// A datagram whose frame is `len` bytes long.
    fn datagram(self, src_port: u16, dst: Ipv4Addr, len: usize) -> Vec<u8> {
        let checksums = ChecksumCapabilities::default();
        let mut bytes = self.ethernet(EthernetProtocol::Ipv4, self.gateway_mac, len - 14);
        let ip = Ipv4Repr {
            src_addr: self.ip,
            dst_addr: dst,
            next_header: IpProtocol::Udp,
            payload_len: len - 34,
            hop_limit: 64,
        };
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes[14..]);
        ip.emit(&mut packet, &checksums);
        let udp = UdpRepr {
            src_port,
            dst_port: 9,
        };
        udp.emit(
            &mut UdpPacket::new_unchecked(packet.payload_mut()),
            &self.ip.into(),
            &dst.into(),
            len - 42,
            |payload| payload.fill(0x5a),
            &checksums,
        );
        bytes
    }

    /// It asks for its gateway.
    fn request(self) -> Vec<u8> {
        let mut bytes = self.ethernet(EthernetProtocol::Arp, Mac([0xff; 6]), 28);
        let request = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: EthernetAddress(self.mac.0),
            source_protocol_addr: self.ip,
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: self.gateway,
        };
        request.emit(&mut ArpPacket::new_unchecked(&mut bytes[14..]));
        bytes
    }

    /// A batch of datagrams to pods of all other nodes in turn.
    fn to_peers(self, len: usize) -> Vec<Vec<u8>> {
        self.batch(|n| {
            (
                9,
                Ipv4Addr::new(10, 244, u8::try_from(1 + n % (NODES - 1)).unwrap_or(1), 7),
                len,
            )
        })
    }

    /// A batch of as many connections that leave the cluster.
    fn to_outside(self) -> Vec<Vec<u8>> {
        self.batch(|n| {
            (
                u16::try_from(20_000 + n).unwrap_or(9),
                Ipv4Addr::new(9, 9, 9, 9),
                64,
            )
        })
    }

    fn batch(self, of: impl Fn(usize) -> (u16, Ipv4Addr, usize)) -> Vec<Vec<u8>> {
        (0..BATCH_MAX)
            .map(|n| {
                let (port, dst, len) = of(n);
                self.datagram(port, dst, len)
            })
            .collect()
    }
}

fn job(
    (name, of): (&'static str, &'static str),
    node: &Rc<RefCell<Node>>,
    frames: impl FnOnce(Pod) -> Vec<Vec<u8>> + 'static,
) -> Job {
    let node = Rc::clone(node);
    Box::new(move || -> Result<Figure, BenchError> {
        let mut node = node.borrow_mut();
        let frames = frames(node.pod);
        let passed = node.pass(&frames);
        if passed != frames.len() {
            return Err(BenchError::Lost {
                name,
                sent: frames.len(),
                passed,
            });
        }
        Ok(measure(name, of, frames.len(), || {
            std::hint::black_box(node.pass(&frames));
        }))
    })
}

/// What a node does with packets.
pub(super) fn jobs() -> Result<Vec<Job>, BenchError> {
    let (tracking, pod) = snapshot()?;
    let mut plain = tracking.clone();
    plain.nat = router_core::config::NatConfig::default();
    let plain = Rc::new(RefCell::new(Node::new(plain, pod)?));
    let tracking = Rc::new(RefCell::new(Node::new(tracking, pod)?));
    Ok(vec![
        job(
            ("forward", "64-byte packet, nothing tracked"),
            &plain,
            |pod| pod.to_peers(64),
        ),
        job(
            ("forward", "1500-byte packet, nothing tracked"),
            &plain,
            |pod| pod.to_peers(1514),
        ),
        job(("forward", "64-byte packet, tracked"), &tracking, |pod| {
            pod.to_peers(64)
        }),
        job(
            ("masquerade", "64-byte packet of a known connection"),
            &tracking,
            Pod::to_outside,
        ),
        job(("answer", "ARP request"), &plain, |pod| {
            vec![pod.request(); BATCH_MAX]
        }),
    ])
}

//! A pod's ARP request for its gateway, answered: ours through the whole router, copies into and out of the pool included;
//! smoltcp's through its whole interface; pnet's views alone, which is what it has: nobody asks whether the sender may.

mod common;

use std::hint::black_box;
use std::net::Ipv4Addr;

use benches::{Node, ROUTER_MAC, arp_request};
use common::Stage;
use criterion::{Criterion, criterion_group, criterion_main};
use pnet::packet::arp::{ArpOperations, ArpPacket, MutableArpPacket};
use pnet::packet::ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket};
use pnet::packet::{MutablePacket as _, Packet as _};
use pnet::util::MacAddr;
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr};

const BATCH: usize = 256;
const FRAME: usize = 42;
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 1);

/// A device that has received one frame so many times, and keeps the last one that was sent.
struct Wire {
    frame: Vec<u8>,
    left: usize,
    sent: usize,
    last: [u8; FRAME],
}

struct Received<'a>(&'a [u8]);

impl phy::RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

struct Sent<'a> {
    count: &'a mut usize,
    last: &'a mut [u8; FRAME],
}

impl phy::TxToken for Sent<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        *self.count += 1;
        write(&mut self.last[..len])
    }
}

impl Device for Wire {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Sent<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Sent<'_>)> {
        self.left = self.left.checked_sub(1)?;
        let Self {
            frame, sent, last, ..
        } = self;
        Some((Received(frame), Sent { count: sent, last }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sent<'_>> {
        let Self { sent, last, .. } = self;
        Some(Sent { count: sent, last })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// smoltcp with the gateway's addresses.
struct Smoltcp {
    interface: Interface,
    sockets: SocketSet<'static>,
    wire: Wire,
}

impl Smoltcp {
    fn new() -> Self {
        let mut wire = Wire {
            frame: arp_request(),
            left: 0,
            sent: 0,
            last: [0; FRAME],
        };
        let config = Config::new(EthernetAddress(ROUTER_MAC.0).into());
        let mut interface = Interface::new(config, &mut wire, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            let subnet = IpCidr::new(GATEWAY.into(), 24);
            addresses.push(subnet).expect("the first one fits");
        });
        Self {
            interface,
            sockets: SocketSet::new(Vec::new()),
            wire,
        }
    }

    /// Number of replies.
    fn pass(&mut self) -> usize {
        self.wire.left = BATCH;
        self.wire.sent = 0;
        self.interface
            .poll(Instant::ZERO, &mut self.wire, &mut self.sockets);
        self.wire.sent
    }
}

/// The reply to a request for the gateway, written into `reply`.
fn pnet_views(frame: &[u8], reply: &mut [u8; FRAME]) -> Option<()> {
    let mac = |mac: router_core::Mac| MacAddr::from(mac.0);
    let ethernet = EthernetPacket::new(frame)?;
    let request = ArpPacket::new(ethernet.payload())?;
    if ethernet.get_ethertype() != EtherTypes::Arp
        || request.get_operation() != ArpOperations::Request
        || request.get_target_proto_addr() != GATEWAY
    {
        return None;
    }
    reply.copy_from_slice(frame);
    let mut ethernet = MutableEthernetPacket::new(reply)?;
    ethernet.set_destination(request.get_sender_hw_addr());
    ethernet.set_source(mac(ROUTER_MAC));
    let mut arp = MutableArpPacket::new(ethernet.payload_mut())?;
    arp.set_operation(ArpOperations::Reply);
    arp.set_sender_hw_addr(mac(ROUTER_MAC));
    arp.set_sender_proto_addr(GATEWAY);
    arp.set_target_hw_addr(request.get_sender_hw_addr());
    arp.set_target_proto_addr(request.get_sender_proto_addr());
    Some(())
}

fn arp(c: &mut Criterion) {
    let mut stage = Stage::new(c, "arp");
    let frames: Vec<Vec<u8>> = (0..BATCH).map(|_| arp_request()).collect();
    let mut node = Node::new(1);
    assert_eq!(node.pass(&frames), BATCH, "every request is answered");

    let mut smoltcp = Smoltcp::new();
    assert_eq!(smoltcp.pass(), BATCH, "every request is answered");
    let mut reply = [0; FRAME];
    pnet_views(&frames[0], &mut reply).expect("a request for the gateway");
    assert_eq!(smoltcp.wire.last, reply, "the same reply");
    assert_eq!(
        node.answer(arp_request()).as_deref(),
        Some(&reply[..]),
        "the same reply"
    );

    stage.ours("reply/42B", BATCH, || node.pass(&frames));
    stage.measure("reply-smoltcp/42B", BATCH, || smoltcp.pass());
    stage.measure("reply-pnet/42B", BATCH, || {
        for frame in &frames {
            black_box(pnet_views(black_box(frame), &mut reply));
        }
    });
}

criterion_group!(benches, arp);
criterion_main!(benches);

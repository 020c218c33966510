//! The stack's Ethernet: ARP answers, one permanent neighbour, and smoltcp's device without a link layer.

use router_core::frame::MAX_FRAME;
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, IpProtocol, Ipv4Packet,
};

use super::StackConfig;

/// Bytes of an Ethernet header.
pub const ETHERNET_HEADER: usize = 14;

/// Where a stack puts what it sends.
pub trait Sink {
    /// A whole frame for the link.
    fn frame(&mut self, frame: &[u8]);
    /// A whole IPv4 packet with ICMP that arrived for the stack, for its raw channels.
    fn icmp(&mut self, packet: &[u8]);
}

/// What a frame is to the stack.
#[derive(Debug)]
pub(super) enum Received<'a> {
    /// A question for one of its addresses, with the answer.
    ArpRequest(Vec<u8>),
    /// A packet, perhaps with padding behind it.
    Ipv4(&'a [u8]),
}

/// None for a frame that is not for the stack.
pub(super) fn classify<'a>(bytes: &'a [u8], config: &StackConfig) -> Option<Received<'a>> {
    let frame = EthernetFrame::new_checked(bytes).ok()?;
    let to_us = frame.dst_addr().0 == config.mac.0;
    match frame.ethertype() {
        EthernetProtocol::Ipv4 if to_us => Some(Received::Ipv4(frame.payload())),
        EthernetProtocol::Arp if to_us || frame.dst_addr().is_broadcast() => {
            answer_arp(frame.payload(), config).map(Received::ArpRequest)
        }
        _ => None,
    }
}

fn answer_arp(bytes: &[u8], config: &StackConfig) -> Option<Vec<u8>> {
    let packet = ArpPacket::new_checked(bytes).ok()?;
    let ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr,
        source_protocol_addr,
        target_protocol_addr,
        ..
    } = ArpRepr::parse(&packet).ok()?
    else {
        return None;
    };
    if !config.addresses.contains(&target_protocol_addr) || !source_hardware_addr.is_unicast() {
        return None;
    }
    let own = EthernetAddress(config.mac.0);
    let reply = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: own,
        source_protocol_addr: target_protocol_addr,
        target_hardware_addr: source_hardware_addr,
        target_protocol_addr: source_protocol_addr,
    };
    let mut out = vec![0; ETHERNET_HEADER + reply.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut out[..]);
    EthernetRepr {
        src_addr: own,
        dst_addr: source_hardware_addr,
        ethertype: EthernetProtocol::Arp,
    }
    .emit(&mut frame);
    reply.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    Some(out)
}

/// Sends a packet to the gateway. Longer than a frame slot (the configured MTU forbids it): nothing is sent.
pub(super) fn send_ipv4(packet: &[u8], config: &StackConfig, sink: &mut impl Sink) {
    let mut buffer = [0; MAX_FRAME];
    let len = ETHERNET_HEADER + packet.len();
    let Some(out) = buffer.get_mut(..len) else {
        return;
    };
    let mut frame = EthernetFrame::new_unchecked(out);
    EthernetRepr {
        src_addr: EthernetAddress(config.mac.0),
        dst_addr: EthernetAddress(config.gateway_mac.0),
        ethertype: EthernetProtocol::Ipv4,
    }
    .emit(&mut frame);
    frame.payload_mut().copy_from_slice(packet);
    sink.frame(&buffer[..len]);
}

/// smoltcp's view of the link: IPv4 packets.
pub(super) struct IpDevice<'a, S> {
    mtu: u16,
    rx: Option<&'a [u8]>,
    tx: Option<(&'a StackConfig, &'a mut S)>,
}

/// A sink that nothing is put into.
pub(super) struct Nowhere;

impl Sink for Nowhere {
    fn frame(&mut self, _: &[u8]) {}
    fn icmp(&mut self, _: &[u8]) {}
}

impl IpDevice<'_, Nowhere> {
    /// One that neither receives nor sends, for the making of an interface.
    pub(super) fn idle(mtu: u16) -> Self {
        Self {
            mtu,
            rx: None,
            tx: None,
        }
    }
}

impl<'a, S: Sink> IpDevice<'a, S> {
    /// One that hands in `rx`, if any, and sends to `sink`.
    pub(super) fn new(config: &'a StackConfig, rx: Option<&'a [u8]>, sink: &'a mut S) -> Self {
        Self {
            mtu: config.mtu,
            rx,
            tx: Some((config, sink)),
        }
    }
}

impl<S: Sink> Device for IpDevice<'_, S> {
    type RxToken<'b>
        = Rx<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Tx<'b, S>
    where
        Self: 'b;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Rx<'_>, Tx<'_, S>)> {
        let (config, sink) = self.tx.as_mut()?;
        Some((Rx(self.rx.take()?), Tx { config, sink }))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Tx<'_, S>> {
        let (config, sink) = self.tx.as_mut()?;
        Some(Tx { config, sink })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.max_transmission_unit = usize::from(self.mtu);
        caps
    }
}

pub(super) struct Rx<'a>(&'a [u8]);

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

pub(super) struct Tx<'a, S> {
    config: &'a StackConfig,
    sink: &'a mut S,
}

impl<S: Sink> TxToken for Tx<'_, S> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut bytes = vec![0; len];
        let result = f(&mut bytes);
        if let Ok(mut packet) = Ipv4Packet::new_checked(&mut bytes[..]) {
            packet.set_hop_limit(self.config.ttl);
            if packet.next_header() == IpProtocol::Icmp {
                // smoltcp sends its errors as ordinary packets; hosts send them so (ICMP-5, ICMP-6).
                packet.set_dont_frag(false);
                packet.set_dscp(0xc0 >> 2);
            }
            packet.fill_checksum();
            send_ipv4(&bytes, self.config, self.sink);
        }
        result
    }
}

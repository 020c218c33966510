//! Address resolution of a stack on a shared link: a pod on a bridge speaks to the others of its subnet directly (BR-18).
//!
//! Decides the destination MAC of what is for the subnet: known from ARP, or asked for while the packet waits. What is for
//! elsewhere goes to the gateway as it is. Stands between the stack and its link, as a [`Sink`].
//!
//! Simpler than a kernel's table: an entry is believed for [`FRESH`] since ARP last said it, then asked for again; what waits
//! is asked for once a second at most, whenever something is sent. Bounded: [`STATIONS`] entries, the oldest goes;
//! [`WAITING`] packets, the oldest goes. Cost: a scan of the entries per packet, allocation only for what waits.

use core::net::Ipv4Addr;
use core::time::Duration;

use ipnet::Ipv4Net;
use router_core::{Instant, Mac};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr,
};

use super::link::{ETHERNET_HEADER, Sink};

/// How long an entry is believed: `base_reachable_time`.
const FRESH: Duration = Duration::from_secs(30);
/// Between two questions for one address: `retrans_time`.
const RETRANSMIT: Duration = Duration::from_secs(1);
/// Entries at most.
const STATIONS: usize = 64;
/// Packets that wait at most.
const WAITING: usize = 16;

/// What the stack knows of its link.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    /// Oldest first.
    stations: Vec<(Ipv4Addr, Mac, Instant)>,
    asked: Vec<(Ipv4Addr, Instant)>,
    waiting: Vec<(Ipv4Addr, Vec<u8>)>,
}

/// The link, with addresses resolved.
pub(super) struct Resolver<'a, S> {
    pub(super) neighbours: &'a mut Neighbours,
    pub(super) now: Instant,
    pub(super) mac: Mac,
    pub(super) addr: Ipv4Addr,
    /// None: there is nobody but the gateway.
    pub(super) on_link: Option<Ipv4Net>,
    pub(super) sink: &'a mut S,
}

impl<S: Sink> Resolver<'_, S> {
    /// Learns from an ARP packet: from an answer to us, and from a question to us; others refresh what is known.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        let Some(net) = self.on_link else { return };
        let Some((operation, mac, ip, target)) = arp_of(bytes) else {
            return;
        };
        if !net.contains(&ip) || ip == self.addr || !mac.is_unicast() {
            return;
        }
        let known = self.neighbours.stations.iter().position(|s| s.0 == ip);
        let to_us = target == self.addr;
        let asked = operation == ArpOperation::Reply
            && self.neighbours.asked.iter().any(|(asked, _)| *asked == ip);
        if known.is_none() && !asked && !(to_us && operation == ArpOperation::Request) {
            return;
        }
        if let Some(at) = known {
            self.neighbours.stations.remove(at);
        } else if self.neighbours.stations.len() == STATIONS {
            self.neighbours.stations.remove(0);
        }
        self.neighbours.stations.push((ip, mac, self.now));
        self.neighbours.asked.retain(|(asked, _)| *asked != ip);
        let waiting = core::mem::take(&mut self.neighbours.waiting);
        for (for_ip, mut frame) in waiting {
            if for_ip == ip {
                frame[..6].copy_from_slice(&mac.0);
                self.sink.frame(&frame);
            } else {
                self.neighbours.waiting.push((for_ip, frame));
            }
        }
    }

    fn ask(&mut self, ip: Ipv4Addr) {
        let now = self.now;
        let asked = &mut self.neighbours.asked;
        asked.retain(|&(_, at)| now.since(at) < RETRANSMIT);
        if asked.iter().any(|(asked, _)| *asked == ip) {
            return;
        }
        if asked.len() == STATIONS {
            asked.remove(0);
        }
        asked.push((ip, now));
        let request = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: EthernetAddress(self.mac.0),
            source_protocol_addr: self.addr,
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: ip,
        };
        let mut out = vec![0; ETHERNET_HEADER + request.buffer_len()];
        let mut frame = EthernetFrame::new_unchecked(&mut out[..]);
        EthernetRepr {
            src_addr: EthernetAddress(self.mac.0),
            dst_addr: EthernetAddress::BROADCAST,
            ethertype: EthernetProtocol::Arp,
        }
        .emit(&mut frame);
        request.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
        self.sink.frame(&out);
    }
}

impl<S: Sink> Sink for Resolver<'_, S> {
    fn frame(&mut self, frame: &[u8]) {
        let neighbour = self
            .on_link
            .and_then(|net| destination(frame).filter(|ip| net.contains(ip)));
        let Some(ip) = neighbour else {
            return self.sink.frame(frame);
        };
        let known = self.neighbours.stations.iter().find(|s| s.0 == ip);
        if let Some(&(_, mac, seen)) = known
            && self.now.since(seen) < FRESH
        {
            let mut frame = frame.to_vec();
            frame[..6].copy_from_slice(&mac.0);
            return self.sink.frame(&frame);
        }
        if self.neighbours.waiting.len() == WAITING {
            self.neighbours.waiting.remove(0);
        }
        self.neighbours.waiting.push((ip, frame.to_vec()));
        self.ask(ip);
    }

    fn icmp(&mut self, packet: &[u8]) {
        self.sink.icmp(packet);
    }
}

/// Destination of an IPv4 frame of the stack's own.
fn destination(frame: &[u8]) -> Option<Ipv4Addr> {
    if frame.get(12..14)? != [8, 0] {
        return None;
    }
    let dst: [u8; 4] = frame.get(30..34)?.try_into().ok()?;
    Some(dst.into())
}

fn arp_of(bytes: &[u8]) -> Option<(ArpOperation, Mac, Ipv4Addr, Ipv4Addr)> {
    let frame = EthernetFrame::new_checked(bytes).ok()?;
    if frame.ethertype() != EthernetProtocol::Arp {
        return None;
    }
    let ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr,
        target_protocol_addr,
        ..
    } = ArpRepr::parse(&ArpPacket::new_checked(frame.payload()).ok()?).ok()?
    else {
        return None;
    };
    Some((
        operation,
        Mac(source_hardware_addr.0),
        source_protocol_addr,
        target_protocol_addr,
    ))
}

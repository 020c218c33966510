//! A host without a kernel: the network stack of a pod, of a node's host side or of the simulated internet, run inside a
//! node process where no namespaces can be had.
//!
//! Behaves like the Linux namespace that it stands for (decision 11: the gateway is a permanent neighbour, so nothing
//! but it is ever spoken to, PTP-4): answers ARP for its addresses and ping with its TTL, reassembles, refuses TCP with
//! RST and UDP with port unreachable (FWD-50), and lets a pinger send and hear ICMP through it as a raw
//! socket does. Link layer and ICMP are here, because TTL, TOS, DF and identification must be right; reassembly, TCP
//! and UDP are smoltcp's. Whatever is not for it is dropped and counted.
//!
//! Pure: frames and the time come in, frames and ICMP packets go out to a [`Sink`]. Bounded: one packet at a time, four
//! datagrams in reassembly, sockets of a fixed number. Cost: one copy per packet and no allocation on the way of
//! unfragmented ICMP.

mod icmp;
mod link;
mod resolve;

use core::net::Ipv4Addr;

use ipnet::Ipv4Net;
use router_core::frame::MAX_FRAME;
use router_core::{Instant, Mac};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::raw;
use smoltcp::time::Duration as SmolDuration;
use smoltcp::wire::{
    HardwareAddress, IpCidr, IpProtocol, IpVersion, Ipv4Cidr, Ipv4Packet, Ipv4Repr,
};

use link::IpDevice;
pub use link::{ETHERNET_HEADER, Sink};
use resolve::{Neighbours, Resolver};

/// Linux `net.ipv4.ipfrag_time`.
const REASSEMBLY_TIMEOUT: SmolDuration = SmolDuration::from_secs(30);

/// Largest IPv4 payload behind a header without options.
const MAX_PAYLOAD: usize = 65_535 - IPV4_HEADER;

/// Bytes of an IPv4 header without options.
const IPV4_HEADER: usize = 20;

/// What a stack is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackConfig {
    /// MAC of its interface.
    pub mac: Mac,
    /// MAC of the router's side: every packet goes there.
    pub gateway_mac: Mac,
    /// Largest IPv4 packet that it sends unfragmented, bytes.
    pub mtu: u16,
    /// Its addresses; the first is the source of what has no better one.
    pub addresses: Vec<Ipv4Addr>,
    /// Source address by destination, longest prefix first.
    pub sources: Vec<(Ipv4Net, Ipv4Addr)>,
    /// TTL of what it sends on its own account.
    pub ttl: u8,
    /// Subnet whose stations it speaks to directly; none where there is nobody but the gateway.
    pub on_link: Option<Ipv4Net>,
}

impl StackConfig {
    /// A pod: one address, TTL 64.
    #[must_use]
    pub fn pod(mac: Mac, addr: Ipv4Addr, gateway_mac: Mac, mtu: u16) -> Self {
        Self {
            mac,
            gateway_mac,
            mtu,
            addresses: vec![addr],
            sources: Vec::new(),
            ttl: 64,
            on_link: None,
        }
    }

    /// The same on a link that the stations of `net` share.
    #[must_use]
    pub fn on_link(mut self, net: Option<Ipv4Net>) -> Self {
        self.on_link = net;
        self
    }

    fn is_own(&self, addr: Ipv4Addr) -> bool {
        addr.is_loopback() || self.addresses.contains(&addr)
    }

    /// The source of a packet to `dst`, as the kernel's route lookup chooses it.
    fn source_for(&self, dst: Ipv4Addr) -> Option<Ipv4Addr> {
        if self.is_own(dst) {
            return Some(dst);
        }
        self.sources
            .iter()
            .find(|(prefix, _)| prefix.contains(&dst))
            .map(|&(_, source)| source)
            .or_else(|| self.addresses.first().copied())
    }
}

/// Programs on a stack: they own sockets in its set and are run after every packet.
pub trait Service: core::fmt::Debug + Send {
    /// Does what can be done now. Must not block, and must bound what it does.
    fn run(&mut self, sockets: &mut SocketSet<'static>);
}

/// The stack. See the module.
pub struct Stack {
    config: StackConfig,
    iface: Interface,
    sockets: SocketSet<'static>,
    reassembled: SocketHandle,
    services: Vec<Box<dyn Service>>,
    neighbours: Neighbours,
    next_id: u16,
    scratch: Vec<u8>,
    drops: u64,
}

impl core::fmt::Debug for Stack {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Stack")
            .field("config", &self.config)
            .field("services", &self.services)
            .field("drops", &self.drops)
            .finish_non_exhaustive()
    }
}

impl Stack {
    /// A stack without services. `seed` chooses its TCP sequence numbers and packet identifications.
    #[must_use]
    pub fn new(config: StackConfig, seed: u64) -> Self {
        let mut smol = Config::new(HardwareAddress::Ip);
        smol.random_seed = seed;
        let mut device = IpDevice::idle(config.mtu);
        let mut iface = Interface::new(smol, &mut device, smoltcp::time::Instant::ZERO);
        // Addresses are checked before a packet gets here.
        iface.set_any_ip(true);
        iface.set_reassembly_timeout(REASSEMBLY_TIMEOUT);
        let mut sockets = SocketSet::new(Vec::new());
        let buffer = |packets: usize, bytes: usize| {
            raw::PacketBuffer::new(vec![raw::PacketMetadata::EMPTY; packets], vec![0; bytes])
        };
        let reassembled = sockets.add(raw::Socket::new(
            Some(IpVersion::Ipv4),
            Some(IpProtocol::Icmp),
            buffer(2, 1 << 16),
            buffer(0, 0),
        ));
        let mut stack = Self {
            config: StackConfig {
                addresses: Vec::new(),
                ..config.clone()
            },
            iface,
            sockets,
            reassembled,
            services: Vec::new(),
            neighbours: Neighbours::default(),
            next_id: u16::from_le_bytes([seed.to_le_bytes()[0], seed.to_le_bytes()[1]]),
            scratch: Vec::new(),
            drops: 0,
        };
        stack.reconfigure(config);
        stack
    }

    /// Changes addresses and the rest; what is under way goes on.
    pub fn reconfigure(&mut self, config: StackConfig) {
        if config == self.config {
            return;
        }
        let first = config.addresses.first().copied();
        self.iface.update_ip_addrs(|addrs| {
            addrs.clear();
            // One is enough (any address is accepted): smoltcp wants it as the source of its own errors.
            if let Some(addr) = first.filter(|a| is_host(*a)) {
                // The list has room: it was just emptied.
                let _ = addrs.push(IpCidr::Ipv4(Ipv4Cidr::new(addr, 32)));
            }
        });
        self.config = config;
    }

    /// Adds programs that listen on sockets of this stack.
    pub fn add_service<S: Service + 'static>(
        &mut self,
        make: impl FnOnce(&mut SocketSet<'static>) -> S,
    ) {
        let service = make(&mut self.sockets);
        self.services.push(Box::new(service));
    }

    /// Packets that ended here because they were malformed, not for it, or too long.
    #[must_use]
    pub fn drops(&self) -> u64 {
        self.drops
    }

    /// Takes one frame from the link.
    pub fn receive(&mut self, now: Instant, frame: &[u8], sink: &mut impl Sink) {
        self.resolved(now, sink, |stack, sink| {
            sink.hear(frame);
            if stack.receive_frame(now, frame, sink).is_none() {
                stack.drops += 1;
            }
        });
    }

    /// Does something with the link's addresses resolved.
    fn resolved<S: Sink>(
        &mut self,
        now: Instant,
        sink: &mut S,
        act: impl FnOnce(&mut Self, &mut Resolver<'_, S>),
    ) {
        let mut neighbours = core::mem::take(&mut self.neighbours);
        let mut resolver = Resolver {
            neighbours: &mut neighbours,
            now,
            mac: self.config.mac,
            addr: self
                .config
                .addresses
                .first()
                .copied()
                .unwrap_or(Ipv4Addr::UNSPECIFIED),
            on_link: self.config.on_link,
            sink,
        };
        act(self, &mut resolver);
        self.neighbours = neighbours;
    }

    /// None when the frame ended here without having been of use.
    fn receive_frame(&mut self, now: Instant, frame: &[u8], sink: &mut impl Sink) -> Option<()> {
        match link::classify(frame, &self.config)? {
            link::Received::ArpRequest(reply) => {
                sink.frame(&reply);
                Some(())
            }
            link::Received::Ipv4(packet) => self.receive_ipv4(now, packet, sink),
        }
    }

    fn receive_ipv4(&mut self, now: Instant, bytes: &[u8], sink: &mut impl Sink) -> Option<()> {
        let packet = Ipv4Packet::new_checked(bytes).ok()?;
        let (src, dst) = (packet.src_addr(), packet.dst_addr());
        if packet.version() != 4 || !packet.verify_checksum() {
            return None;
        }
        if !is_host(src) || src.is_loopback() || dst.is_loopback() || !self.config.is_own(dst) {
            return None;
        }
        let bytes = &bytes[..usize::from(packet.total_len())];
        let fragment = packet.more_frags() || packet.frag_offset() != 0;
        if fragment {
            // A datagram that would end beyond 65535 bytes must not get near the reassembly (ping of death).
            if usize::from(packet.frag_offset()) + packet.payload().len() > MAX_PAYLOAD {
                return None;
            }
        } else if packet.next_header() == IpProtocol::Icmp {
            return self.receive_icmp(bytes, sink);
        }
        self.run_smoltcp(now, Some(bytes), sink);
        Some(())
    }

    /// A whole ICMP packet for one of our addresses: answers it when it is an echo request, else lets the raw channels
    /// hear it.
    fn receive_icmp(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Option<()> {
        match icmp::judge(bytes)? {
            icmp::Message::EchoRequest => {
                let id = self.take_id();
                let mut reply = core::mem::take(&mut self.scratch);
                icmp::echo_reply(bytes, self.config.ttl, id, &mut reply);
                let sent = self.send_packet(&mut reply, sink);
                self.scratch = reply;
                sent
            }
            icmp::Message::Other => {
                sink.icmp(bytes);
                Some(())
            }
        }
    }

    /// Sends an IPv4 packet that came from a raw ICMP channel. As with a raw socket that includes the header: a source
    /// of 0.0.0.0 is filled in, so are an identification of 0 and the checksum; TTL, TOS and DF are the caller's. Too
    /// long for the MTU: cut into fragments, or with DF answered with what a router would say, from our own address.
    pub fn send_icmp(&mut self, now: Instant, bytes: &[u8], sink: &mut impl Sink) {
        self.resolved(now, sink, |stack, sink| stack.send_icmp_by(bytes, sink));
    }

    fn send_icmp_by(&mut self, bytes: &[u8], sink: &mut impl Sink) {
        let mut packet = core::mem::take(&mut self.scratch);
        packet.clear();
        packet.extend_from_slice(bytes);
        let sent = self
            .prepare_icmp(&mut packet)
            .and_then(|()| self.send_packet(&mut packet, sink));
        if sent.is_none() {
            self.drops += 1;
        }
        self.scratch = packet;
    }

    /// Checks and completes a packet of a raw channel.
    fn prepare_icmp(&mut self, bytes: &mut Vec<u8>) -> Option<()> {
        let mut packet = Ipv4Packet::new_checked(&mut bytes[..]).ok()?;
        let (src, dst) = (packet.src_addr(), packet.dst_addr());
        if packet.version() != 4
            || packet.next_header() != IpProtocol::Icmp
            || packet.more_frags()
            || packet.frag_offset() != 0
            || dst.is_unspecified()
        {
            return None;
        }
        if src.is_unspecified() {
            packet.set_src_addr(self.config.source_for(dst)?);
        } else if !self.config.is_own(src) {
            return None;
        }
        if packet.ident() == 0 {
            packet.set_ident(self.take_id());
        }
        packet.fill_checksum();
        let total_len = packet.total_len();
        bytes.truncate(usize::from(total_len));
        Some(())
    }

    /// Puts a complete packet of our own on the link, or takes it back when it is for ourselves.
    fn send_packet(&mut self, bytes: &mut [u8], sink: &mut impl Sink) -> Option<()> {
        let packet = Ipv4Packet::new_checked(&*bytes).ok()?;
        let (dst, dont_frag) = (packet.dst_addr(), packet.dont_frag());
        if self.config.is_own(dst) {
            // A request that we sent ourselves is answered once: a reply is no request.
            return match icmp::judge(bytes)? {
                icmp::Message::Other => {
                    sink.icmp(bytes);
                    Some(())
                }
                icmp::Message::EchoRequest => {
                    let mut reply = Vec::new();
                    icmp::echo_reply(bytes, self.config.ttl, self.take_id(), &mut reply);
                    sink.icmp(&reply);
                    Some(())
                }
            };
        }
        let config = &self.config;
        if bytes.len() <= usize::from(config.mtu) {
            link::send_ipv4(bytes, config, sink);
            Some(())
        } else if dont_frag {
            let source = config.source_for(dst)?;
            sink.icmp(&icmp::fragmentation_needed(bytes, source, config.mtu)?);
            Some(())
        } else {
            icmp::fragment(bytes, config.mtu, |part| {
                link::send_ipv4(part, config, sink);
            })
        }
    }

    /// Lets smoltcp take a packet and do what is due, and the services with it.
    fn run_smoltcp(&mut self, now: Instant, mut packet: Option<&[u8]>, sink: &mut impl Sink) {
        let now = smol_time(now);
        // Services may fill sockets and sockets may have room again: a few rounds do, the rest waits for the next call.
        for _ in 0..4 {
            let mut device = IpDevice::new(&self.config, packet.take(), sink);
            let _ = self.iface.poll(now, &mut device, &mut self.sockets);
            for service in &mut self.services {
                service.run(&mut self.sockets);
            }
            if self.services.is_empty() {
                break;
            }
        }
        while let Some(bytes) = self.take_reassembled() {
            if self.receive_icmp(&bytes, sink).is_none() {
                self.drops += 1;
            }
        }
    }

    fn take_reassembled(&mut self) -> Option<Vec<u8>> {
        let socket = self.sockets.get_mut::<raw::Socket<'_>>(self.reassembled);
        socket.recv().ok().map(<[u8]>::to_vec)
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant, sink: &mut impl Sink) {
        self.resolved(now, sink, |stack, sink| stack.run_smoltcp(now, None, sink));
    }

    /// When [`Stack::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let at = self.iface.poll_at(smol_time(now), &self.sockets)?;
        let micros = u64::try_from(at.total_micros()).unwrap_or(0);
        Some(Instant::from_nanos(micros.saturating_mul(1000)))
    }

    fn take_id(&mut self) -> u16 {
        // Zero means "choose one" on a raw channel.
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        self.next_id
    }
}

/// True for an address that a single host can have.
fn is_host(addr: Ipv4Addr) -> bool {
    !addr.is_unspecified() && !addr.is_multicast() && !addr.is_broadcast()
}

fn smol_time(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros(i64::try_from(now.as_nanos() / 1000).unwrap_or(i64::MAX))
}

/// The largest MTU that a stack can have: what fits a frame slot.
#[must_use]
pub fn clamp_mtu(mtu: u16) -> u16 {
    let most = u16::try_from(MAX_FRAME - ETHERNET_HEADER).expect("a frame slot is below 64 kB");
    mtu.clamp(68, most)
}

/// A header for tests and for errors of our own.
fn ipv4_repr(src: Ipv4Addr, dst: Ipv4Addr, ttl: u8, payload_len: usize) -> Ipv4Repr {
    Ipv4Repr {
        src_addr: src,
        dst_addr: dst,
        next_header: IpProtocol::Icmp,
        payload_len,
        hop_limit: ttl,
    }
}

#[cfg(test)]
mod tests;

//! The packet as it leaves its source.
//!
//! Decides what the kernel of a pod, or of a node, does before the router sees the packet: route, next hop's MAC, source
//! address, cutting. All of it is derived from the model and said to be; the packet is then handed to the router as a frame
//! from the source's port.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use router_core::config::{PortKind, Snapshot};
use router_core::fib::{Fib, Lookup};
use router_core::frame::MAX_FRAME;
use router_core::wire::checksum::Sum;
use router_core::wire::ethernet::{self, ETHERTYPE_IPV4};
use router_core::wire::ipv4::{self, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, Repr};
use router_core::wire::{icmpv4, tcp, udp};
use router_core::{Mac, PortId};

use super::{Origin, Protocol, Wanted};
use crate::model::{IfaceKind, Node, Pod, PodLink};

/// Bytes of IPv4 packet that fit one frame of a node process.
const LARGEST: usize = MAX_FRAME - ethernet::HEADER_LEN;

/// A packet made ready.
#[derive(Debug)]
pub struct Departure {
    /// What the kernel did.
    pub origin: Origin,
    /// The frames that it sends; none when it refuses.
    pub frames: Vec<Vec<u8>>,
}

/// Why there is no such packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// Shorter than its headers.
    #[error("a packet of {size} bytes is too short: its headers are {least}")]
    TooShort {
        /// Wanted.
        size: u16,
        /// Least.
        least: usize,
    },
    /// The model has no such port.
    #[error("{0} has no port at its node's router")]
    NoPort(String),
}

/// Where a packet starts, and what is sent from there without asking.
struct Start {
    name: String,
    node: String,
    port: PortId,
    src: Ipv4Addr,
    mtu: u16,
    mac: Mac,
    next_hop_mac: Mac,
    steps: Vec<String>,
    refused: Option<String>,
}

/// A packet of a pod with a link of its own. `pods` are those of its node.
///
/// # Errors
/// [`OriginError`].
pub fn from_pod(
    wanted: &Wanted,
    pod: &Pod,
    link: &PodLink,
    node: &Node,
    pods: &[&Pod],
) -> Result<Departure, OriginError> {
    let route = link
        .routes
        .iter()
        .filter(|route| route.dst.contains(&wanted.to))
        .max_by_key(|route| route.dst.prefix_len());
    // A route for just the link's subnet stands in place of the kernel's own (kindnet's pods have one).
    let own = link.addr.prefix_len();
    let connected = own < 32
        && link.addr.contains(&wanted.to)
        && route.is_none_or(|route| route.dst.prefix_len() < own);
    let (next_hop, sentence, refused) = match route {
        _ if wanted.to == pod.ip => {
            let refused = format!(
                "{} is the pod's own address: its kernel delivers it",
                wanted.to
            );
            (wanted.to, None, Some(refused))
        }
        _ if connected => {
            let text = format!("route {} dev {}", link.addr.trunc(), link.ifname);
            (wanted.to, Some(text), None)
        }
        Some(route) => {
            let via = route
                .via
                .map_or_else(String::new, |via| format!(" via {via}"));
            let dst = prefix(route.dst);
            let text = format!("route {dst}{via} dev {}", link.ifname);
            (route.via.unwrap_or(wanted.to), Some(text), None)
        }
        None => {
            let refused = format!("the pod's kernel has no route to {}", wanted.to);
            (wanted.to, None, Some(refused))
        }
    };
    let next_hop_mac = mac_of(next_hop, link, node, pods);
    let mut steps: Vec<String> = sentence.into_iter().collect();
    if refused.is_none() {
        steps.push(format!("neighbour {next_hop} {next_hop_mac}"));
    }
    depart(
        wanted,
        Start {
            name: pod.key(),
            node: pod.node.clone(),
            port: link.port,
            src: pod.ip,
            mtu: link.mtu,
            mac: link.mac,
            next_hop_mac,
            steps,
            refused,
        },
    )
}

/// The MAC that a pod's neighbour table has for an address on its link: another pod's of the same bridge, the bridge's,
/// or that of the host side of its link.
fn mac_of(ip: Ipv4Addr, link: &PodLink, node: &Node, pods: &[&Pod]) -> Mac {
    let host_side = node
        .ifaces
        .iter()
        .find(|iface| iface.port == Some(link.port));
    let Some(bridge) = host_side.and_then(|iface| iface.master.as_deref()) else {
        return link.host_mac;
    };
    let own = node.ifaces.iter().find(|iface| {
        iface.name == bridge
            && iface.kind == IfaceKind::Bridge
            && iface.addrs.iter().any(|addr| addr.net.addr() == ip)
    });
    let neighbour = pods.iter().find(|pod| pod.ip == ip);
    let neighbour = neighbour
        .and_then(|pod| pod.link.as_ref())
        .map(|link| link.mac);
    own.map(|iface| iface.mac)
        .or(neighbour)
        .unwrap_or(link.host_mac)
}

/// A packet of a node's host side.
///
/// # Errors
/// [`OriginError`].
pub fn from_node(
    wanted: &Wanted,
    name: String,
    node: &Node,
    snapshot: &Snapshot,
) -> Result<Departure, OriginError> {
    let host = snapshot.ports.iter().find_map(|port| match port.kind {
        PortKind::Host { peer_mac } => Some((port, peer_mac)),
        _ => None,
    });
    let Some((port, mac)) = host else {
        return Err(OriginError::NoPort(name));
    };
    let found = Fib::new(snapshot).map(|fib| match fib.lookup(wanted.to, || 0) {
        Lookup::Unicast(hop) => fib.source(&hop, wanted.to),
        Lookup::Local => Some(wanted.to),
        _ => None,
    });
    let src = found.ok().flatten().unwrap_or(node.internal_ip);
    depart(
        wanted,
        Start {
            name,
            node: node.name.clone(),
            port: port.id,
            src,
            mtu: port.mtu,
            mac,
            next_hop_mac: port.mac,
            steps: vec![format!("source address {src}")],
            refused: None,
        },
    )
}

fn depart(wanted: &Wanted, start: Start) -> Result<Departure, OriginError> {
    let Start {
        name,
        node,
        port,
        src,
        mtu,
        mac,
        next_hop_mac,
        mut steps,
        mut refused,
    } = start;
    let message = message(wanted, src)?;
    let mut packets = Vec::new();
    let limit = usize::from(mtu).min(LARGEST);
    if refused.is_none() {
        let fits = usize::from(wanted.size) <= limit;
        if !fits && wanted.df {
            refused = Some(format!(
                "the source's kernel refuses it (Message too long): {} bytes, MTU {limit}, DF",
                wanted.size
            ));
        } else {
            packets = cut(wanted, src, &message, limit);
            if !fits {
                steps.push(format!(
                    "cut into {} fragments: {} bytes, MTU {limit}",
                    packets.len(),
                    wanted.size
                ));
            }
        }
    }
    let header = ethernet::Header {
        dst: next_hop_mac,
        src: mac,
        ethertype: ETHERTYPE_IPV4,
    };
    Ok(Departure {
        origin: Origin {
            name,
            node,
            port,
            src,
            steps,
            refused,
        },
        frames: packets
            .into_iter()
            .map(|packet| [&header.emit()[..], &packet].concat())
            .collect(),
    })
}

/// The ICMP, TCP or UDP message, checksum included, of the length that makes the wanted size.
fn message(wanted: &Wanted, src: Ipv4Addr) -> Result<Vec<u8>, OriginError> {
    let header = match wanted.protocol {
        Protocol::Icmp => icmpv4::HEADER_LEN,
        Protocol::Tcp => tcp::HEADER_LEN,
        Protocol::Udp => udp::HEADER_LEN,
    };
    let least = ipv4::HEADER_LEN + header;
    let too_short = OriginError::TooShort {
        size: wanted.size,
        least,
    };
    let len = usize::from(wanted.size)
        .checked_sub(ipv4::HEADER_LEN)
        .filter(|&len| len >= header)
        .ok_or(too_short)?;
    let payload: Vec<u8> = (0..=255_u8).cycle().take(len - header).collect();
    let len = wanted.size - 20;
    let (s, d) = (wanted.sport.to_be_bytes(), wanted.dport.to_be_bytes());
    let pseudo = |protocol| Sum::new().add_pseudo_header(src, wanted.to, protocol, len);
    Ok(match wanted.protocol {
        Protocol::Icmp => {
            let header = icmpv4::emit(icmpv4::ECHO_REQUEST, 0, [s[0], s[1], 0, 1], &payload);
            [&header[..], &payload].concat()
        }
        Protocol::Udp => {
            let [l0, l1] = len.to_be_bytes();
            let mut bytes = [&[s[0], s[1], d[0], d[1], l0, l1, 0, 0], &payload[..]].concat();
            let sum = pseudo(PROTOCOL_UDP).add_bytes(&bytes).finish();
            // A sum of 0 would say that there is none (RFC 768).
            let sum = if sum == 0 { u16::MAX } else { sum };
            bytes[6..8].copy_from_slice(&sum.to_be_bytes());
            bytes
        }
        Protocol::Tcp => {
            let header = [
                s[0],
                s[1],
                d[0],
                d[1],
                0,
                0,
                0,
                1,
                0,
                0,
                0,
                0,
                0x50,
                tcp::SYN,
                0xff,
                0xff,
                0,
                0,
                0,
                0,
            ];
            let mut bytes = [&header[..], &payload].concat();
            let sum = pseudo(PROTOCOL_TCP).add_bytes(&bytes).finish();
            bytes[16..18].copy_from_slice(&sum.to_be_bytes());
            bytes
        }
    })
}

/// The packets that carry `message`, as the source's kernel cuts it (RFC 791).
fn cut(wanted: &Wanted, src: Ipv4Addr, message: &[u8], mtu: usize) -> Vec<Vec<u8>> {
    let room = mtu.saturating_sub(ipv4::HEADER_LEN);
    let step = if message.len() <= room {
        message.len()
    } else {
        (room & !7).max(8)
    };
    let protocol = match wanted.protocol {
        Protocol::Icmp => PROTOCOL_ICMP,
        Protocol::Tcp => PROTOCOL_TCP,
        Protocol::Udp => PROTOCOL_UDP,
    };
    let count = message.len().div_ceil(step.max(1));
    message
        .chunks(step.max(1))
        .enumerate()
        .map(|(n, piece)| {
            let mut header = Repr {
                tos: 0,
                payload_len: u16::try_from(piece.len()).unwrap_or(u16::MAX),
                // The same for all pieces; the port tells traces apart.
                ident: wanted.sport,
                dont_fragment: wanted.df,
                ttl: wanted.ttl,
                protocol,
                src,
                dst: wanted.to,
            }
            .emit();
            if count > 1 {
                let offset = u16::try_from(n * step / 8).unwrap_or(0);
                let total = u16::try_from(piece.len() + ipv4::HEADER_LEN).unwrap_or(u16::MAX);
                ipv4::write_fragment_fields(&mut header, total, offset, n + 1 < count);
            }
            [&header[..], piece].concat()
        })
        .collect()
}

fn prefix(net: Ipv4Net) -> String {
    match net.prefix_len() {
        0 => "default".to_owned(),
        32 => net.addr().to_string(),
        _ => net.to_string(),
    }
}

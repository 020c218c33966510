//! A packet as a line, as `tcpdump -n` prints it.
//!
//! Decides nothing. Reads what is there of a packet that may be cut anywhere and broken in any way, with etherparse; what
//! it has no words for it names by number. Tunnelled packets are shown behind their outer addresses.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use etherparse::icmpv4::{DestUnreachableHeader, TimeExceededCode};
use etherparse::{
    ArpPacketSlice, Icmpv4Slice, Icmpv4Type, IpNumber, LaxIpv4Slice, LaxNetSlice, LaxSlicedPacket,
    TcpSlice, TransportSlice,
};
use router_core::Mac;

/// Tunnels in tunnels that are shown.
const MAX_NESTED: usize = 4;

/// One line about an Ethernet frame of `len` bytes that begins with `bytes`, without a line feed.
#[must_use]
pub fn line(bytes: &[u8], len: usize) -> String {
    let mut out = String::new();
    let Ok(packet) = LaxSlicedPacket::from_ethernet(bytes) else {
        return format!("[|ether], length {len}");
    };
    if !packet.link_exts.is_empty() {
        let ids = packet.vlan_ids();
        let ids: Vec<String> = ids.iter().map(|id| id.value().to_string()).collect();
        let _ = write!(out, "vlan {}, ", ids.join(","));
    }
    match &packet.net {
        Some(LaxNetSlice::Arp(arp)) => {
            self::arp(&mut out, arp);
            let _ = write!(out, ", length {}", len.saturating_sub(14));
        }
        Some(LaxNetSlice::Ipv4(ip)) => ipv4(&mut out, ip, packet.transport.as_ref(), 0),
        Some(LaxNetSlice::Ipv6(ip)) => {
            let header = ip.header();
            let (src, dst) = (header.source_addr(), header.destination_addr());
            let next = ip.payload().ip_number;
            let _ = write!(
                out,
                "IP6 {src} > {dst}: {}, length {}",
                protocol(next),
                header.payload_length()
            );
        }
        None => {
            let ethertype = bytes
                .get(12..14)
                .map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
            let known = matches!(ethertype, 0x0800 | 0x0806 | 0x86dd);
            let what = if known { " [truncated or broken]" } else { "" };
            let _ = write!(out, "ethertype 0x{ethertype:04x}{what}, length {len}");
        }
    }
    out
}

fn mac(bytes: &[u8]) -> String {
    match <[u8; 6]>::try_from(bytes) {
        Ok(bytes) => Mac(bytes).to_string(),
        Err(_) => "?".to_owned(),
    }
}

fn arp(out: &mut String, arp: &ArpPacketSlice<'_>) {
    let addr = |bytes: &[u8]| match <[u8; 4]>::try_from(bytes) {
        Ok(bytes) => Ipv4Addr::from(bytes).to_string(),
        Err(_) => "?".to_owned(),
    };
    let (spa, tpa) = (
        addr(arp.sender_protocol_addr()),
        addr(arp.target_protocol_addr()),
    );
    let _ = match arp.operation().0 {
        1 if spa == tpa => write!(out, "ARP, Announcement {spa}"),
        1 if spa == "0.0.0.0" => write!(out, "ARP, Probe {tpa}"),
        1 => write!(out, "ARP, Request who-has {tpa} tell {spa}"),
        2 => write!(out, "ARP, Reply {spa} is-at {}", mac(arp.sender_hw_addr())),
        other => write!(out, "ARP, operation {other}"),
    };
}

fn ipv4(
    out: &mut String,
    ip: &LaxIpv4Slice<'_>,
    transport: Option<&TransportSlice<'_>>,
    depth: usize,
) {
    let header = ip.header();
    let (src, dst) = (header.source_addr(), header.destination_addr());
    let len = usize::from(header.total_len()).saturating_sub(header.slice().len());
    let offset = header.fragments_offset().value();
    if offset != 0 {
        let at = usize::from(offset) * 8;
        let more = if header.more_fragments() { "+" } else { "" };
        let id = header.identification();
        let number = protocol(header.protocol());
        let _ = write!(
            out,
            "IP {src} > {dst}: {number} (frag {id}:{len}@{at}{more})"
        );
        return;
    }
    let ports = |a: u16, b: u16| format!("IP {src}.{a} > {dst}.{b}:");
    match transport {
        Some(TransportSlice::Tcp(tcp)) => {
            *out += &ports(tcp.source_port(), tcp.destination_port());
            self::tcp(
                out,
                tcp,
                len.saturating_sub(usize::from(tcp.data_offset()) * 4),
            );
        }
        Some(TransportSlice::Udp(udp)) => {
            *out += &ports(udp.source_port(), udp.destination_port());
            let _ = write!(
                out,
                " UDP, length {}",
                usize::from(udp.length()).saturating_sub(8)
            );
        }
        Some(TransportSlice::Icmpv4(message)) => {
            let _ = write!(out, "IP {src} > {dst}: ICMP ");
            icmp(out, message);
            let _ = write!(out, ", length {len}");
        }
        _ if ip.payload_ip_number() == IpNumber::IPV4 && depth < MAX_NESTED => {
            let _ = write!(out, "IP {src} > {dst}: ");
            match LaxSlicedPacket::from_ip(ip.payload().payload) {
                Ok(inner) => match &inner.net {
                    Some(LaxNetSlice::Ipv4(ip)) => {
                        ipv4(out, ip, inner.transport.as_ref(), depth + 1);
                    }
                    _ => *out += "[|ip]",
                },
                Err(_) => *out += "[|ip]",
            }
        }
        _ => {
            let number = protocol(header.protocol());
            let _ = write!(out, "IP {src} > {dst}: {number}, length {len}");
        }
    }
    if header.more_fragments() {
        let id = header.identification();
        let _ = write!(out, " (frag {id}:{len}@0+)");
    }
}

fn protocol(number: IpNumber) -> String {
    number
        .keyword_str()
        .map_or_else(|| format!("ip-proto-{}", number.0), str::to_owned)
}

fn tcp(out: &mut String, tcp: &TcpSlice<'_>, len: usize) {
    // tcpdump's letters and order.
    let flags = [
        (tcp.fin(), 'F'),
        (tcp.syn(), 'S'),
        (tcp.rst(), 'R'),
        (tcp.psh(), 'P'),
        (tcp.ack(), '.'),
        (tcp.urg(), 'U'),
        (tcp.ece(), 'E'),
        (tcp.cwr(), 'W'),
    ];
    let set: String = flags
        .iter()
        .filter(|(set, _)| *set)
        .map(|(_, c)| *c)
        .collect();
    let set = if set.is_empty() {
        "none".to_owned()
    } else {
        set
    };
    let _ = write!(out, " Flags [{set}]");
    let seq = tcp.sequence_number();
    if len > 0 {
        let end = seq.wrapping_add(u32::try_from(len).unwrap_or(0));
        let _ = write!(out, ", seq {seq}:{end}");
    } else if tcp.syn() || tcp.fin() || tcp.rst() {
        let _ = write!(out, ", seq {seq}");
    }
    if tcp.ack() {
        let _ = write!(out, ", ack {}", tcp.acknowledgment_number());
    }
    let _ = write!(out, ", win {}, length {len}", tcp.window_size());
}

fn icmp(out: &mut String, message: &Icmpv4Slice<'_>) {
    let quoted = LaxSlicedPacket::from_ip(message.payload()).ok();
    let to = match quoted.as_ref().and_then(|quoted| quoted.net.as_ref()) {
        Some(LaxNetSlice::Ipv4(ip)) => ip.header().destination_addr().to_string(),
        _ => "?".to_owned(),
    };
    let _ = match message.icmp_type() {
        Icmpv4Type::EchoRequest(echo) => {
            write!(out, "echo request, id {}, seq {}", echo.id, echo.seq)
        }
        Icmpv4Type::EchoReply(echo) => write!(out, "echo reply, id {}, seq {}", echo.id, echo.seq),
        Icmpv4Type::TimestampRequest(m) => {
            write!(out, "time stamp query id {} seq {}", m.id, m.seq)
        }
        Icmpv4Type::TimestampReply(m) => write!(out, "time stamp reply id {} seq {}", m.id, m.seq),
        Icmpv4Type::TimeExceeded(TimeExceededCode::TtlExceededInTransit) => {
            write!(out, "time exceeded in-transit")
        }
        Icmpv4Type::TimeExceeded(TimeExceededCode::FragmentReassemblyTimeExceeded) => {
            write!(out, "ip reassembly time exceeded")
        }
        Icmpv4Type::ParameterProblem(_) => write!(out, "parameter problem"),
        Icmpv4Type::Redirect(redirect) => {
            let gateway = Ipv4Addr::from(redirect.gateway_internet_address);
            write!(out, "redirect {to} to host {gateway}")
        }
        Icmpv4Type::DestinationUnreachable(why) => match why {
            DestUnreachableHeader::Network => write!(out, "net {to} unreachable"),
            DestUnreachableHeader::Host => write!(out, "host {to} unreachable"),
            DestUnreachableHeader::Port => match quoted.as_ref().and_then(|q| q.transport.as_ref())
            {
                Some(TransportSlice::Udp(udp)) => {
                    write!(out, "{to} udp port {} unreachable", udp.destination_port())
                }
                Some(TransportSlice::Tcp(tcp)) => {
                    write!(out, "{to} tcp port {} unreachable", tcp.destination_port())
                }
                _ => write!(out, "{to} port unreachable"),
            },
            DestUnreachableHeader::FragmentationNeeded { next_hop_mtu } => {
                write!(out, "{to} unreachable - need to frag (mtu {next_hop_mtu})")
            }
            DestUnreachableHeader::Protocol => write!(out, "{to} protocol unreachable"),
            DestUnreachableHeader::FilterProhibited => {
                write!(out, "host {to} unreachable - admin prohibited filter")
            }
            DestUnreachableHeader::HostProhibited => {
                write!(out, "host {to} unreachable - admin prohibited")
            }
            other => write!(out, "{to} unreachable - code {}", other.code_u8()),
        },
        Icmpv4Type::Unknown {
            type_u8, code_u8, ..
        } => write!(out, "type-#{type_u8} code {code_u8}"),
    };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use router_core::testing::Packet;
    use router_core::testing::packet::{
        arp_reply, arp_request, echo_request, eth, fragmentation_needed, fragments, icmp, ipv4,
        quote, tcp, time_exceeded, udp, unreachable,
    };

    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
    const B: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 3);
    const M: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn shown(packet: &Packet) -> String {
        let bytes = packet.bytes();
        line(&bytes, bytes.len())
    }

    /// The texts are those of tcpdump 4.99 with `-n`.
    #[test]
    fn lines_are_those_of_tcpdump() {
        let sent = eth(M, M) / ipv4(A, B) / udp(9, 53) / b"x";
        let table = [
            (
                eth(M, M) / ipv4(A, B) / echo_request(7, 1) / &[0; 56],
                "IP 10.244.0.2 > 10.244.1.3: ICMP echo request, id 7, seq 1, length 64",
            ),
            (
                sent.clone(),
                "IP 10.244.0.2.9 > 10.244.1.3.53: UDP, length 1",
            ),
            (
                eth(M, M) / ipv4(A, B) / tcp(40000, 80, 2),
                "IP 10.244.0.2.40000 > 10.244.1.3.80: Flags [S], seq ",
            ),
            (
                eth(Mac::BROADCAST, M) / arp_request(M, A, B),
                "ARP, Request who-has 10.244.1.3 tell 10.244.0.2, length 28",
            ),
            (
                eth(M, M) / arp_reply(M, B, M, A),
                "ARP, Reply 10.244.1.3 is-at 02:00:00:00:00:01, length 28",
            ),
            (
                eth(M, M) / ipv4(B, A) / ipv4(A, B) / udp(9, 53) / b"x",
                "IP 10.244.1.3 > 10.244.0.2: IP 10.244.0.2.9 > 10.244.1.3.53: UDP, length 1",
            ),
            (
                eth(M, M) / ipv4(B, A) / time_exceeded() / quote(&sent),
                "IP 10.244.1.3 > 10.244.0.2: ICMP time exceeded in-transit, length 37",
            ),
            (
                eth(M, M) / ipv4(B, A) / unreachable(3) / quote(&sent),
                "IP 10.244.1.3 > 10.244.0.2: ICMP 10.244.1.3 udp port 53 unreachable, length 37",
            ),
            (
                eth(M, M) / ipv4(B, A) / fragmentation_needed(1480) / quote(&sent),
                "IP 10.244.1.3 > 10.244.0.2: ICMP 10.244.1.3 unreachable - need to frag (mtu 1480), length 37",
            ),
            (
                eth(M, M) / ipv4(B, A) / icmp(99, 7, [0; 4]),
                "IP 10.244.1.3 > 10.244.0.2: ICMP type-#99 code 7, length 8",
            ),
        ];
        for (packet, text) in table {
            let line = shown(&packet);
            assert!(line.starts_with(text), "{line}\n{text}");
        }
        let long = eth(M, M) / ipv4(A, B).id(5) / udp(9, 53) / &[0; 2000];
        let pieces = fragments(&long, 1500);
        assert_eq!(
            shown(&pieces[1]),
            "IP 10.244.0.2 > 10.244.1.3: UDP (frag 5:528@1480)"
        );
        assert!(shown(&pieces[0]).ends_with("(frag 5:1480@0+)"));
        assert_eq!(line(&[0; 60], 60), "ethertype 0x0000, length 60");
        assert_eq!(line(&[1; 3], 90), "[|ether], length 90");
    }

    proptest! {
        /// Bytes of any kind, and packets cut anywhere, have a line.
        #[test]
        fn every_frame_has_a_line(mut frame: Vec<u8>, kind in 0..4_usize, cut in 0..80_usize) {
            if let Some(ethertype) = frame.get_mut(12..14) {
                let kinds = [[8, 0], [8, 6], [0x86, 0xdd], [0x81, 0]];
                ethertype.copy_from_slice(&kinds[kind]);
            }
            prop_assert!(!line(&frame, frame.len()).is_empty());
            let whole = (eth(M, M) / ipv4(B, A) / ipv4(A, B) / udp(9, 53) / b"x").bytes();
            let cut = &whole[..cut.min(whole.len())];
            prop_assert!(!line(cut, whole.len()).is_empty());
        }
    }
}

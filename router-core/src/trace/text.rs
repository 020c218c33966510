//! Steps as sentences.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::Ipv4Addr;

use super::{Answered, Fit, Step, Summary, Transport, Withheld, judged, translated};
use crate::config::nat::Chain;
use crate::config::{PortId, RpFilter, Snapshot};
use crate::policy::PolicyName;
use crate::stats::RouteKind;
use crate::wire::icmpv4;
use crate::wire::ipv4::{PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP};

/// What the ports of a router are called.
pub trait PortNames {
    /// The name of a port, if it is known.
    fn port_name(&self, port: PortId) -> Option<&str>;

    /// What a policy of the node's configuration is called and where it was written, if that is known.
    fn policy(&self, number: u32) -> Option<&PolicyName> {
        let _ = number;
        None
    }

    /// The chain of the nat table at this place of the node's configuration, if that is known.
    fn nat_chain(&self, number: u32) -> Option<&Chain> {
        let _ = number;
        None
    }
}

/// Of a snapshot, everything is known.
impl PortNames for Snapshot {
    fn port_name(&self, port: PortId) -> Option<&str> {
        self.ports.iter().find(|p| p.id == port).map(|p| &*p.name)
    }

    fn policy(&self, number: u32) -> Option<&PolicyName> {
        self.policy.policies.get(usize::try_from(number).ok()?)
    }

    fn nat_chain(&self, number: u32) -> Option<&Chain> {
        self.nat.chains.get(usize::try_from(number).ok()?)
    }
}

/// No port has a name.
impl PortNames for () {
    fn port_name(&self, _: PortId) -> Option<&str> {
        None
    }
}

impl PortNames for Vec<(PortId, String)> {
    fn port_name(&self, port: PortId) -> Option<&str> {
        self.iter().find(|(p, _)| *p == port).map(|(_, n)| &**n)
    }
}

/// A step as a sentence, with the names of ports in it.
#[derive(Clone, Copy)]
pub struct Sentence<'a> {
    step: &'a Step,
    names: &'a dyn PortNames,
}

impl fmt::Debug for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

struct Port<'a>(&'a dyn PortNames, PortId);

impl fmt::Display for Port<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.port_name(self.1) {
            Some(name) => f.write_str(name),
            None => write!(f, "port {}", self.1.0),
        }
    }
}

impl Step {
    /// The step as a sentence in which ports have these names.
    #[must_use]
    pub fn sentence<'a>(&'a self, names: &'a dyn PortNames) -> Sentence<'a> {
        Sentence { step: self, names }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sentence(&()).fmt(f)
    }
}

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = |p: PortId| Port(self.names, p);
        match *self.step {
            Step::Rx {
                port: p,
                len,
                src,
                dst,
            } => write!(f, "received by {}: {len} bytes, {src} > {dst}", port(p)),
            Step::Superframe { segments, size } => {
                write!(
                    f,
                    "superframe: {segments} segments of {size} bytes of payload"
                )
            }
            Step::Segmented { segments } => write!(f, "cut into {segments} segments"),
            Step::Segment { len } => write!(f, "segment of {len} bytes"),
            Step::Accepted {
                from_host: true, ..
            } => f.write_str("sent by the node itself"),
            Step::Accepted { group: true, .. } => f.write_str("sent to a group of stations"),
            Step::Accepted { port: p, .. } => write!(f, "sent to the MAC of {}", port(p)),
            Step::Header { packet } => write!(f, "{packet}"),
            Step::Options { len } => write!(f, "{len} bytes of options, none forbidden"),
            Step::Source { src, rp_filter } => match rp_filter {
                RpFilter::Off => write!(f, "source {src} is possible (rp_filter off)"),
                RpFilter::Loose => write!(f, "source {src} can be reached (rp_filter loose)"),
                RpFilter::Strict => write!(
                    f,
                    "source {src} is reached by the same port (rp_filter strict)"
                ),
            },
            Step::Route { .. } => self.route(f),
            Step::Local { by } => f.write_str(match by {
                Answered::Echo => "for this node: the router answers the echo request",
                Answered::Timestamp => "for this node: the router answers the timestamp request",
                Answered::Reset => "for this node: nothing listens, the router resets",
                Answered::Host => "for this node: its host namespace takes it",
            }),
            Step::Ttl { before, after } if before == after => {
                write!(f, "TTL {after}, not lowered for the node's own packets")
            }
            Step::Ttl { before, after } => write!(f, "TTL {before} -> {after}"),
            Step::Mtu {
                port: p,
                mtu,
                len,
                fit,
            } => {
                let result = match fit {
                    Fit::Fits => "fits",
                    Fit::Fragment => "must be cut: longer than",
                    Fit::TooBig => "DF forbids to cut it: longer than",
                };
                write!(f, "{len} bytes, {result} MTU {mtu} of {}", port(p))
            }
            Step::Tracked { state } => f.write_str(translated::state(state)),
            Step::NatRule { chain, rule } => translated::rule(f, chain, rule, self.names),
            Step::Translated { packet } => write!(f, "translated: {packet}"),
            Step::Policy {
                direction,
                judgement,
            } => judged::sentence(f, direction, judgement, self.names),
            Step::Fragmented { pieces } => write!(f, "cut into {pieces} fragments"),
            Step::Piece { packet } => write!(f, "fragment: {packet}"),
            Step::Collected => f.write_str("waits for the other fragments of its datagram"),
            Step::Reassembled { pieces } => write!(f, "all {pieces} fragments are there"),
            Step::Merged => f.write_str("goes on with the first fragment"),
            Step::Encap {
                port: p,
                src,
                dst,
                ttl,
                df,
                len,
            } => {
                write!(
                    f,
                    "encapsulated by {} (IPIP): {src} > {dst}, TTL {ttl}, {len} bytes",
                    port(p)
                )?;
                if df { f.write_str(", DF") } else { Ok(()) }
            }
            Step::Decap { port: p, src, dst } => {
                write!(f, "decapsulated by {} (IPIP {src} > {dst})", port(p))
            }
            Step::Bridged {
                bridge,
                port: p,
                dst,
            } => write!(f, "{}: {dst} is behind {}", port(bridge), port(p)),
            Step::BridgedUp { bridge, dst } => {
                write!(
                    f,
                    "{}: {dst} is for the bridge's own interface",
                    port(bridge)
                )
            }
            Step::Flooded { bridge, dst } => write!(f, "{}: {dst} to all ports", port(bridge)),
            Step::Copied { len } => write!(f, "copy of {len} bytes"),
            Step::Neighbour {
                port: p,
                ip,
                mac,
                state,
            } => {
                write!(f, "neighbour {ip} on {}: {mac}", port(p))?;
                match state {
                    Some(state) => write!(f, " {}", state.as_str()),
                    None => Ok(()),
                }
            }
            Step::Queued { port: p } => {
                write!(f, "bandwidth limit of {}: waits for its turn", port(p))
            }
            Step::Held { port: p, ip } => {
                write!(f, "neighbour {ip} on {} is not known yet: held", port(p))
            }
            Step::Asked { port: p, ip, to } => {
                write!(f, "asked on {}: who has {ip}?", port(p))?;
                match to {
                    Some(mac) => write!(f, " ({mac} only)"),
                    None => Ok(()),
                }
            }
            Step::Released { port: p, ip } => {
                write!(f, "neighbour {ip} on {} has answered: goes on", port(p))
            }
            Step::Made { event, packet } => write!(f, "made ({event}): {packet}"),
            Step::NotMade { event } => write!(f, "not made for want of a free frame ({event})"),
            Step::Withheld { kind, code, why } => {
                let why = match why {
                    Withheld::Forbidden => "RFC 1812 allows none about such a packet",
                    Withheld::Limited => "rate limit",
                };
                write!(f, "no ICMP {}: {why}", icmp(kind, code))
            }
            Step::Tx {
                port: p,
                len,
                src,
                dst,
            } => write!(f, "sent by {}: {len} bytes, {src} > {dst}", port(p)),
            Step::Handed { worker } => {
                write!(f, "goes on in worker {worker} of the node")
            }
            Step::Consumed => f.write_str("ends here, taken by the router"),
            Step::Dropped { reason } => write!(f, "dropped: {reason}: {}", reason.help()),
        }
    }
}

impl Sentence<'_> {
    fn route(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Step::Route {
            dst,
            kind,
            prefix,
            via,
            port,
            metric,
            src,
        } = *self.step
        else {
            return Ok(());
        };
        match kind {
            RouteKind::Local => write!(f, "{dst} is an address of this node"),
            RouteKind::NoRoute => write!(f, "no route to {dst}"),
            RouteKind::Broadcast => write!(f, "{dst} is a broadcast address"),
            RouteKind::Unicast => {
                f.write_str("route ")?;
                write_prefix(f, prefix.map(|p| (p.addr(), p.prefix_len())))?;
                if let Some(via) = via {
                    write!(f, " via {via}")?;
                }
                if let Some(port) = port {
                    write!(f, " dev {}", Port(self.names, port))?;
                }
                if let Some(src) = src {
                    write!(f, " src {src}")?;
                }
                match metric {
                    Some(metric) if metric != 0 => write!(f, " metric {metric}"),
                    _ => Ok(()),
                }
            }
            RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit => {
                write!(f, "route {kind} ")?;
                write_prefix(f, prefix.map(|p| (p.addr(), p.prefix_len())))
            }
        }
    }
}

/// As iproute2 prints a prefix.
fn write_prefix(f: &mut fmt::Formatter<'_>, prefix: Option<(Ipv4Addr, u8)>) -> fmt::Result {
    match prefix {
        None => f.write_str("?"),
        Some((_, 0)) => f.write_str("default"),
        Some((addr, 32)) => write!(f, "{addr}"),
        Some((addr, len)) => write!(f, "{addr}/{len}"),
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.transport {
            Transport::Ports {
                sport,
                dport,
                flags,
            } => {
                let name = if self.protocol == PROTOCOL_TCP {
                    "TCP"
                } else {
                    "UDP"
                };
                write!(f, "{name} {}:{sport} > {}:{dport}", self.src, self.dst)?;
                write_flags(f, flags)?;
            }
            Transport::Icmp { kind, code, .. } => {
                write!(f, "ICMP {} > {}, {}", self.src, self.dst, icmp(kind, code))?;
            }
            Transport::Other => {
                match self.protocol {
                    PROTOCOL_ICMP => f.write_str("ICMP")?,
                    PROTOCOL_TCP => f.write_str("TCP")?,
                    PROTOCOL_UDP => f.write_str("UDP")?,
                    n => write!(f, "protocol {n}")?,
                }
                write!(f, " {} > {}", self.src, self.dst)?;
            }
        }
        write!(f, ", TTL {}, {} bytes", self.ttl, self.len)?;
        if self.df {
            f.write_str(", DF")?;
        }
        if self.mf || self.offset != 0 {
            write!(f, ", fragment at {}", self.offset)?;
            if self.mf {
                f.write_str("+")?;
            }
        }
        Ok(())
    }
}

fn write_flags(f: &mut fmt::Formatter<'_>, flags: u8) -> fmt::Result {
    const NAMES: [(u8, &str); 6] = [
        (0x02, "SYN"),
        (0x01, "FIN"),
        (0x04, "RST"),
        (0x08, "PSH"),
        (0x20, "URG"),
        (0x10, "ACK"),
    ];
    for (bit, name) in NAMES {
        if flags & bit != 0 {
            write!(f, " {name}")?;
        }
    }
    Ok(())
}

/// An ICMP message in words.
pub fn icmp(kind: u8, code: u8) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        let words = match (kind, code) {
            (icmpv4::ECHO_REQUEST, _) => "echo request",
            (icmpv4::ECHO_REPLY, _) => "echo reply",
            (icmpv4::TIMESTAMP_REQUEST, _) => "timestamp request",
            (icmpv4::TIMESTAMP_REPLY, _) => "timestamp reply",
            (icmpv4::DEST_UNREACHABLE, 0) => "network unreachable",
            (icmpv4::DEST_UNREACHABLE, 1) => "host unreachable",
            (icmpv4::DEST_UNREACHABLE, 2) => "protocol unreachable",
            (icmpv4::DEST_UNREACHABLE, 3) => "port unreachable",
            (icmpv4::DEST_UNREACHABLE, 4) => "fragmentation needed",
            (icmpv4::DEST_UNREACHABLE, 13) => "administratively prohibited",
            (icmpv4::TIME_EXCEEDED, 0) => "time exceeded",
            (icmpv4::PARAMETER_PROBLEM, _) => "parameter problem",
            _ => return write!(f, "type {kind} code {code}"),
        };
        f.write_str(words)
    })
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;
    use crate::stats::{DropReason, Event};

    const PACKET: Summary = Summary {
        src: Ipv4Addr::new(10, 244, 0, 2),
        dst: Ipv4Addr::new(10, 244, 1, 3),
        protocol: PROTOCOL_TCP,
        ttl: 64,
        tos: 0,
        id: 1,
        len: 40,
        df: true,
        mf: false,
        offset: 0,
        transport: Transport::Ports {
            sport: 4000,
            dport: 80,
            flags: 0x12,
        },
    };

    #[test]
    fn a_packet_reads_as_what_it_is() {
        assert_eq!(
            PACKET.to_string(),
            "TCP 10.244.0.2:4000 > 10.244.1.3:80 SYN ACK, TTL 64, 40 bytes, DF"
        );
        let piece = Summary {
            protocol: PROTOCOL_ICMP,
            df: false,
            mf: true,
            offset: 1480,
            transport: Transport::Other,
            ..PACKET
        };
        assert_eq!(
            piece.to_string(),
            "ICMP 10.244.0.2 > 10.244.1.3, TTL 64, 40 bytes, fragment at 1480+"
        );
        let error = Summary {
            transport: Transport::Icmp {
                kind: 3,
                code: 4,
                ident: 0,
                seq: 0,
            },
            ..piece
        };
        assert!(error.to_string().contains("fragmentation needed"));
    }

    #[test]
    fn ports_have_their_names_where_they_are_known() {
        let step = Step::Route {
            dst: PACKET.dst,
            kind: RouteKind::Unicast,
            prefix: "10.244.1.0/24".parse().ok(),
            via: Some(Ipv4Addr::new(172, 18, 0, 3)),
            port: Some(PortId(1)),
            metric: Some(0),
            src: None,
        };
        assert_eq!(
            step.to_string(),
            "route 10.244.1.0/24 via 172.18.0.3 dev port 1"
        );
        let names = alloc::vec![(PortId(1), String::from("eth0"))];
        assert_eq!(
            step.sentence(&names).to_string(),
            "route 10.244.1.0/24 via 172.18.0.3 dev eth0"
        );
    }

    #[test]
    fn a_drop_says_its_reason_in_words() {
        let step = Step::Dropped {
            reason: DropReason::Blackhole,
        };
        assert_eq!(step.to_string(), "dropped: blackhole: A blackhole route.");
        let made = Step::Made {
            event: Event::IcmpErrorSent,
            packet: PACKET,
        };
        assert!(made.to_string().starts_with("made (icmp-error-sent): TCP"));
    }
}

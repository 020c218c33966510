//! Which packets a capture wants: a part of pcap-filter(7), with its words and its meaning.
//!
//! ```text
//!   icmp | tcp | udp | arp | ip | ip6 | icmp6                     what it is
//!   [ip|arp] [src|dst] host ADDR, [src|dst] net NET               addresses, those of ARP included
//!   [tcp|udp] [src|dst] port N, portrange N-M                     ports, of first fragments only
//!   ip proto N, ether [src|dst] host MAC, [ether] broadcast|multicast, less N, greater N
//!   and && or || not ! ( )                                        and, or: same rank, from the left
//! ```
//!
//! Decides nothing else: it looks at the outermost headers of one frame, as pcap-filter does (`ip proto 4` finds
//! tunnelled packets, not what is in them). VLAN tags are not looked behind. Differs from pcap-filter in that `src or dst`
//! can only be said by leaving both out, and in that names of hosts are not looked up.
//!
//! Bounded: an expression has at most [`MAX_LEN`] bytes and [`MAX_DEPTH`] parentheses at a time. Cost: the headers are
//! read once per frame, then one comparison per test that is reached.

mod parse;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use router_core::Mac;

/// Bytes of an expression.
pub const MAX_LEN: usize = 4096;
/// Parentheses and negations that may be open at a time.
pub const MAX_DEPTH: usize = 64;

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// pcap-filter's `port` finds SCTP, too.
const SCTP: u8 = 132;

/// A filter, ready to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// None lets everything through.
    expr: Option<Expr>,
}

/// What is wrong with an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// Byte of the expression that it is about.
    pub at: usize,
    /// What is wrong.
    pub message: String,
    expression: String,
}

impl fmt::Display for FilterError {
    /// The message, the expression, and a caret below the place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self.expression.get(..self.at).unwrap_or_default();
        writeln!(f, "{}", self.message)?;
        writeln!(f, "  {}", self.expression)?;
        write!(f, "  {:1$}^", "", before.chars().count())
    }
}

impl std::error::Error for FilterError {}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expr {
    Test(Test),
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
}

/// Which of two fields a test is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Side {
    #[default]
    Either,
    Src,
    Dst,
}

impl Side {
    fn any<T>(self, (src, dst): (T, T), holds: impl Fn(T) -> bool) -> bool {
        match self {
            Self::Src => holds(src),
            Self::Dst => holds(dst),
            Self::Either => holds(src) || holds(dst),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    EtherType(u16),
    /// Of IPv4, or of IPv4 and IPv6.
    Protocol(u8, Family),
    Net(Family, Side, Ipv4Net),
    /// Of these protocols.
    Ports(Ports, Side, u16, u16),
    Mac(Side, Mac),
    Broadcast,
    Multicast,
    /// At most that many bytes.
    Less(u32),
    /// At least that many.
    Greater(u32),
}

/// Network protocols that a test looks into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Ip,
    Ip6,
    Arp,
    /// All that have what is asked for.
    Any,
}

/// Transport protocols whose ports a test looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ports {
    Any,
    Of(u8),
}

impl Filter {
    /// Lets everything through.
    pub const ALL: Self = Self { expr: None };

    /// Reads an expression; an empty one lets everything through.
    ///
    /// # Errors
    /// [`FilterError`] for the first thing that can't be understood.
    pub fn parse(expression: &str) -> Result<Self, FilterError> {
        parse::expression(expression)
            .map(|expr| Self { expr })
            .map_err(|(at, message)| FilterError {
                at,
                message,
                expression: expression.to_owned(),
            })
    }

    /// True when a frame of `len` bytes that begins with `head` is wanted. `head` must hold the headers.
    #[must_use]
    pub fn matches(&self, head: &[u8], len: usize) -> bool {
        match &self.expr {
            None => true,
            Some(expr) => expr.holds(&View::new(head, len)),
        }
    }
}

/// What a frame's headers say. What is not there matches nothing.
struct View<'a> {
    head: &'a [u8],
    len: u32,
    ethertype: u16,
    protocol: Option<u8>,
    /// Of IPv4 or ARP.
    addrs: Option<(Ipv4Addr, Ipv4Addr)>,
    ports: Option<(u16, u16)>,
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([field[0], field[1]]))
}

fn addr(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    let field: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(Ipv4Addr::from(field))
}

impl<'a> View<'a> {
    fn new(head: &'a [u8], len: usize) -> Self {
        let mut view = View {
            head,
            len: u32::try_from(len).unwrap_or(u32::MAX),
            ethertype: be16(head, 12).unwrap_or(0),
            protocol: None,
            addrs: None,
            ports: None,
        };
        let packet = head.get(14..).unwrap_or_default();
        match view.ethertype {
            IPV4 => {
                view.protocol = packet.get(9).copied();
                view.addrs = addr(packet, 12).zip(addr(packet, 16));
                // As pcap-filter: behind the first fragment there is no transport header.
                if be16(packet, 6).is_some_and(|field| field & 0x1fff == 0)
                    && let Some(first) = packet.first()
                {
                    view.ports_at(packet, usize::from(first & 0xf) * 4);
                }
            }
            IPV6 => {
                view.protocol = packet.get(6).copied();
                view.ports_at(packet, 40);
            }
            ARP => view.addrs = addr(packet, 14).zip(addr(packet, 24)),
            _ => {}
        }
        view
    }

    fn ports_at(&mut self, packet: &[u8], at: usize) {
        if matches!(self.protocol, Some(TCP | UDP | SCTP)) {
            self.ports = be16(packet, at).zip(be16(packet, at + 2));
        }
    }

    fn macs(&self) -> Option<(Mac, Mac)> {
        let mac = |at: usize| {
            let field: [u8; 6] = self.head.get(at..at + 6)?.try_into().ok()?;
            Some(Mac(field))
        };
        mac(6).zip(mac(0))
    }

    fn is(&self, family: Family) -> bool {
        match family {
            Family::Ip => self.ethertype == IPV4,
            Family::Ip6 => self.ethertype == IPV6,
            Family::Arp => self.ethertype == ARP,
            Family::Any => true,
        }
    }
}

impl Expr {
    fn holds(&self, view: &View<'_>) -> bool {
        match self {
            Self::Test(test) => test.holds(view),
            Self::Not(a) => !a.holds(view),
            Self::And(a, b) => a.holds(view) && b.holds(view),
            Self::Or(a, b) => a.holds(view) || b.holds(view),
        }
    }
}

impl Test {
    fn holds(&self, view: &View<'_>) -> bool {
        match *self {
            Self::EtherType(ethertype) => view.ethertype == ethertype,
            Self::Protocol(protocol, family) => view.is(family) && view.protocol == Some(protocol),
            Self::Net(family, side, net) => {
                view.is(family)
                    && view
                        .addrs
                        .is_some_and(|addrs| side.any(addrs, |addr| net.contains(&addr)))
            }
            Self::Ports(of, side, low, high) => {
                let of_these = match of {
                    Ports::Any => true,
                    Ports::Of(protocol) => view.protocol == Some(protocol),
                };
                of_these
                    && view
                        .ports
                        .is_some_and(|ports| side.any(ports, |port| (low..=high).contains(&port)))
            }
            Self::Mac(side, mac) => view
                .macs()
                .is_some_and(|macs| side.any(macs, |found| found == mac)),
            Self::Broadcast => view.head.get(..6) == Some(&[0xff; 6]),
            Self::Multicast => view.head.first().is_some_and(|first| first & 1 == 1),
            Self::Less(len) => view.len <= len,
            Self::Greater(len) => view.len >= len,
        }
    }
}

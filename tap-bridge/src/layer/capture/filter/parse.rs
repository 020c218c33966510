//! Reads a filter expression.
//!
//! Decides the grammar, which is pcap-filter's: `and` and `or` have the same rank and associate to the left; a value
//! without qualifiers takes those of the value before it (`port 53 or 80`).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use router_core::Mac;

use super::{ARP, Expr, Family, IPV4, IPV6, MAX_DEPTH, MAX_LEN, Ports, SCTP, Side, TCP, Test, UDP};

type Failure = (usize, String);

/// What a value is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Host,
    Net,
    Port,
    PortRange,
    Proto,
}

/// The protocol in front of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proto {
    Ether,
    Network(Family),
    Transport(u8),
}

/// What stands in front of a value.
#[derive(Clone, Copy, Debug, Default)]
struct Qualifiers {
    proto: Option<Proto>,
    side: Side,
    kind: Option<Kind>,
}

struct Parser<'a> {
    words: Vec<(usize, &'a str)>,
    next: usize,
    end: usize,
    depth: usize,
    /// Those of the last value.
    last: Option<Qualifiers>,
}

pub(super) fn expression(text: &str) -> Result<Option<Expr>, Failure> {
    if text.len() > MAX_LEN {
        let message = format!("a filter has at most {MAX_LEN} bytes");
        return Err((MAX_LEN, message));
    }
    let mut parser = Parser {
        words: words(text),
        next: 0,
        end: text.trim_end().len(),
        depth: 0,
        last: None,
    };
    if parser.words.is_empty() {
        return Ok(None);
    }
    let expr = parser.expr()?;
    match parser.peek() {
        None => Ok(Some(expr)),
        Some(")") => Err(parser.fail("no parenthesis is open here")),
        Some(word) => Err(parser.fail(format!("\"and\" or \"or\" is missing before \"{word}\""))),
    }
}

/// Words and signs with their places.
fn words(text: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let at = text.len() - rest.len();
        let len = if first.is_whitespace() {
            rest = &rest[first.len_utf8()..];
            continue;
        } else if rest.starts_with("&&") || rest.starts_with("||") {
            2
        } else if "()!".contains(first) {
            1
        } else {
            let ends = |c: char| c.is_whitespace() || "()!&|".contains(c);
            rest.find(ends).filter(|&n| n > 0).unwrap_or_else(|| {
                if ends(first) {
                    first.len_utf8()
                } else {
                    rest.len()
                }
            })
        };
        words.push((at, &rest[..len]));
        rest = &rest[len..];
    }
    words
}

impl Parser<'_> {
    fn peek(&self) -> Option<&str> {
        self.words.get(self.next).map(|(_, word)| *word)
    }

    fn take(&mut self, wanted: &[&str]) -> bool {
        let found = self.peek().is_some_and(|word| wanted.contains(&word));
        self.next += usize::from(found);
        found
    }

    fn fail(&self, message: impl Into<String>) -> Failure {
        let at = self.words.get(self.next).map_or(self.end, |(at, _)| *at);
        (at, message.into())
    }

    fn expr(&mut self) -> Result<Expr, Failure> {
        let mut left = self.unary()?;
        loop {
            if self.take(&["and", "&&"]) {
                left = Expr::And(Box::new(left), Box::new(self.unary()?));
            } else if self.take(&["or", "||"]) {
                left = Expr::Or(Box::new(left), Box::new(self.unary()?));
            } else {
                return Ok(left);
            }
        }
    }

    fn unary(&mut self) -> Result<Expr, Failure> {
        if self.depth == MAX_DEPTH {
            return Err(self.fail(format!("more than {MAX_DEPTH} levels")));
        }
        self.depth += 1;
        let expr = if self.take(&["not", "!"]) {
            Expr::Not(Box::new(self.unary()?))
        } else if self.take(&["("]) {
            let inner = self.expr()?;
            if !self.take(&[")"]) {
                return Err(self.fail("a parenthesis is not closed"));
            }
            inner
        } else {
            Expr::Test(self.test()?)
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn test(&mut self) -> Result<Test, Failure> {
        let start = self.next;
        let mut of = Qualifiers::default();
        if let Some((_, proto)) = self.word_of(PROTOS) {
            of.proto = Some(proto);
        } else if let Some((_, test)) = self.word_of(ALONE) {
            return Ok(test);
        } else if self.take(&["less"]) {
            return self.number().map(Test::Less);
        } else if self.take(&["greater"]) {
            return self.number().map(Test::Greater);
        }
        if of.proto == Some(Proto::Ether)
            && let Some((_, test)) = self.word_of(ALONE)
        {
            return Ok(test);
        }
        if let Some((_, side)) = self.word_of(SIDES) {
            of.side = side;
        }
        let direction = of.side != Side::Either;
        if let Some((_, kind)) = self.word_of(KINDS) {
            of.kind = Some(kind);
        } else if !direction {
            if let Some(proto) = of.proto {
                return self.whole(proto);
            }
            if self.next == start {
                // A bare value.
                of = match (self.last, self.peek()) {
                    (_, None | Some(")")) => return Err(self.fail("a test is missing here")),
                    (_, Some("and" | "&&" | "or" | "||")) => {
                        return Err(self.fail("a test is missing before this"));
                    }
                    (Some(last), Some(word)) if word.starts_with(|c: char| c.is_ascii_digit()) => {
                        last
                    }
                    (None, Some(word)) if word.parse::<Ipv4Addr>().is_ok() => of,
                    (_, Some(word)) => return Err(self.fail(unknown(word))),
                };
            }
        }
        let test = self.value(of)?;
        self.last = Some(of);
        Ok(test)
    }

    fn word_of<T: Clone>(&mut self, table: &[(&'static str, T)]) -> Option<(&'static str, T)> {
        let word = self.peek()?;
        let found = table.iter().find(|(name, _)| *name == word).cloned()?;
        self.next += 1;
        Some(found)
    }

    /// A protocol that stands alone.
    fn whole(&self, proto: Proto) -> Result<Test, Failure> {
        Ok(match proto {
            Proto::Network(Family::Ip) => Test::EtherType(IPV4),
            Proto::Network(Family::Ip6) => Test::EtherType(IPV6),
            Proto::Network(Family::Arp) => Test::EtherType(ARP),
            Proto::Transport(number) => Test::Protocol(number, Family::Any),
            Proto::Ether | Proto::Network(Family::Any) => {
                let wanted = "\"ether\" wants src, dst, host, broadcast or multicast behind it";
                return Err(self.fail(wanted));
            }
        })
    }

    fn value(&mut self, of: Qualifiers) -> Result<Test, Failure> {
        match of.kind.unwrap_or(Kind::Host) {
            Kind::Host if of.proto == Some(Proto::Ether) => {
                let mac: Mac = self.parse("a MAC address (02:00:00:00:00:01)")?;
                Ok(Test::Mac(of.side, mac))
            }
            Kind::Host => {
                let family = self.family(of.proto)?;
                let addr: Ipv4Addr = self.parse("an IPv4 address")?;
                Ok(Test::Net(family, of.side, Ipv4Net::from(addr)))
            }
            Kind::Net => {
                let family = self.family(of.proto)?;
                self.net().map(|net| Test::Net(family, of.side, net))
            }
            kind @ (Kind::Port | Kind::PortRange) => {
                let ports = match of.proto {
                    None => Ports::Any,
                    Some(Proto::Transport(number @ (TCP | UDP | SCTP))) => Ports::Of(number),
                    Some(_) => return Err(self.fail("only tcp, udp and sctp have ports")),
                };
                let (low, high) = self.ports(kind)?;
                Ok(Test::Ports(ports, of.side, low, high))
            }
            Kind::Proto => {
                let family = match of.proto {
                    None | Some(Proto::Network(Family::Ip)) => Family::Ip,
                    Some(Proto::Network(Family::Ip6)) => Family::Ip6,
                    Some(_) => return Err(self.fail("\"proto\" stands behind ip or ip6")),
                };
                let number = self.protocol()?;
                Ok(Test::Protocol(number, family))
            }
        }
    }

    fn family(&self, proto: Option<Proto>) -> Result<Family, Failure> {
        match proto {
            None => Ok(Family::Any),
            Some(Proto::Network(family @ (Family::Ip | Family::Arp))) => Ok(family),
            Some(_) => Err(self.fail("addresses stand behind ip, arp or nothing")),
        }
    }

    fn ports(&mut self, kind: Kind) -> Result<(u16, u16), Failure> {
        let word = self.peek().unwrap_or_default();
        let port = |word: &str| {
            let service = SERVICES.iter().find(|(name, _)| *name == word);
            service.map(|(_, port)| *port).or_else(|| word.parse().ok())
        };
        let range = match kind {
            Kind::PortRange => word
                .split_once('-')
                .and_then(|(low, high)| port(low).zip(port(high)))
                .filter(|(low, high)| low <= high),
            _ => port(word).map(|port| (port, port)),
        };
        let wanted = match kind {
            Kind::PortRange => "two ports, the lower one first (8000-8080)",
            _ => "a port (0 to 65535)",
        };
        let range = range.ok_or_else(|| self.wanted(wanted))?;
        self.next += 1;
        Ok(range)
    }

    fn protocol(&mut self) -> Result<u8, Failure> {
        let word = self.peek().unwrap_or_default();
        // pcap-filter wants a backslash before names, which its shell users have learnt.
        let name = word.strip_prefix('\\').unwrap_or(word);
        let number = PROTOCOLS
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, number)| *number)
            .or_else(|| name.parse().ok());
        let number = number.ok_or_else(|| self.wanted("a protocol (icmp, ipip, 0 to 255)"))?;
        self.next += 1;
        Ok(number)
    }

    /// `10.244.0.0/16`, `10.244`, or `10.244.0.0 mask 255.255.0.0`.
    fn net(&mut self) -> Result<Ipv4Net, Failure> {
        const WANTED: &str = "an IPv4 network (10.244.0.0/16, 10.244)";
        let word = self.peek().unwrap_or_default();
        let (addr, len) = match word.split_once('/') {
            Some((addr, len)) => (addr, Some(len)),
            None => (word, None),
        };
        let octets: Result<Vec<u8>, _> = addr.split('.').map(str::parse).collect();
        let octets = octets.ok().filter(|octets| octets.len() <= 4);
        let octets = octets.ok_or_else(|| self.wanted(WANTED))?;
        let mut bytes = [0; 4];
        bytes[..octets.len()].copy_from_slice(&octets);
        let addr = Ipv4Addr::from(bytes);
        let written = match octets.len() {
            1 => 8,
            2 => 16,
            3 => 24,
            _ => 32,
        };
        let len = match len {
            Some(len) => len.parse().ok().filter(|len| *len <= 32_u8),
            None => Some(written),
        };
        let len = len.ok_or_else(|| self.wanted(WANTED))?;
        let at = self.next;
        self.next += 1;
        let len = if self.take(&["mask"]) {
            let mask: Ipv4Addr = self.parse("a mask (255.255.0.0)")?;
            match Ipv4Net::with_netmask(addr, mask) {
                Ok(net) => net.prefix_len(),
                Err(_) => {
                    self.next -= 1;
                    return Err(self.fail("a mask has its ones in front"));
                }
            }
        } else {
            len
        };
        let net = Ipv4Net::new(addr, len)
            .ok()
            .filter(|net| net.network() == addr);
        net.ok_or_else(|| {
            self.next = at;
            self.fail(format!(
                "{addr}/{len} has bits set behind its prefix length"
            ))
        })
    }

    fn number(&mut self) -> Result<u32, Failure> {
        self.parse("a number of bytes")
    }

    fn parse<T: std::str::FromStr>(&mut self, wanted: &str) -> Result<T, Failure> {
        let parsed = self.peek().and_then(|word| word.parse().ok());
        let parsed = parsed.ok_or_else(|| self.wanted(wanted))?;
        self.next += 1;
        Ok(parsed)
    }

    fn wanted(&self, wanted: &str) -> Failure {
        match self.peek() {
            Some(word) => self.fail(format!("\"{word}\" is not {wanted}")),
            None => self.fail(format!("{wanted} is missing here")),
        }
    }
}

fn unknown(word: &str) -> String {
    format!(
        "\"{word}\" is unknown; known are icmp, tcp, udp, arp, ip, host, net, port, portrange, src, dst, ether, proto, \
         broadcast, multicast, less, greater, and, or, not"
    )
}

const PROTOS: &[(&str, Proto)] = &[
    ("ip", Proto::Network(Family::Ip)),
    ("ip6", Proto::Network(Family::Ip6)),
    ("arp", Proto::Network(Family::Arp)),
    ("ether", Proto::Ether),
    ("tcp", Proto::Transport(TCP)),
    ("udp", Proto::Transport(UDP)),
    ("sctp", Proto::Transport(SCTP)),
];

const ALONE: &[(&str, Test)] = &[
    ("icmp", Test::Protocol(1, Family::Ip)),
    ("icmp6", Test::Protocol(58, Family::Ip6)),
    ("broadcast", Test::Broadcast),
    ("multicast", Test::Multicast),
];

const SIDES: &[(&str, Side)] = &[("src", Side::Src), ("dst", Side::Dst)];

const KINDS: &[(&str, Kind)] = &[
    ("host", Kind::Host),
    ("net", Kind::Net),
    ("port", Kind::Port),
    ("portrange", Kind::PortRange),
    ("proto", Kind::Proto),
];

const PROTOCOLS: &[(&str, u8)] = &[
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", TCP),
    ("udp", UDP),
    ("gre", 47),
    ("esp", 50),
    ("icmp6", 58),
    ("sctp", SCTP),
];

/// Names that tcpdump's users type; all others are numbers.
const SERVICES: &[(&str, u16)] = &[
    ("ftp", 21),
    ("ssh", 22),
    ("smtp", 25),
    ("domain", 53),
    ("bootps", 67),
    ("bootpc", 68),
    ("http", 80),
    ("ntp", 123),
    ("https", 443),
];

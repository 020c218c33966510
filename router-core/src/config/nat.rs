//! The nat table of a node and how it tracks connections, as the control plane states them.
//!
//! Decides nothing. The chains are those of iptables' nat table: rules in order, evaluated for the first packet of a
//! connection only (NAT-2). Three names are hooks ([`PREROUTING`], [`OUTPUT`], [`POSTROUTING`]); every other chain is
//! reached by [`Target::Jump`]. What a rule says about a connection is final when its target is; after
//! [`Target::Return`] the calling chain goes on.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use core::time::Duration;

use ipnet::Ipv4Net;

use super::PortId;

/// Chain for what comes in from a port, before the route is looked up: destination NAT.
pub const PREROUTING: &str = "PREROUTING";
/// Chain for what the node itself sends, before the route is looked up: destination NAT.
pub const OUTPUT: &str = "OUTPUT";
/// Chain for what leaves by a port, forwarded or of the node itself: source NAT.
pub const POSTROUTING: &str = "POSTROUTING";

/// The nat table with the options of connection tracking. By default there are no rules, and nothing is tracked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NatConfig {
    /// Connection tracking.
    pub conntrack: ConntrackConfig,
    /// Chains in the order in which they are listed; names are unique.
    pub chains: Vec<Chain>,
}

impl NatConfig {
    /// True when the node tracks connections: it is told to, or a rule wants it.
    #[must_use]
    pub fn tracks(&self) -> bool {
        self.conntrack.enabled || self.chains.iter().any(|c| !c.rules.is_empty())
    }

    /// The chain of this name.
    #[must_use]
    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|c| c.name == name)
    }

    /// Appends a rule to the chain of this name, which is made when there is none.
    pub fn append(&mut self, chain: &str, rule: Rule) {
        if let Some(chain) = self.chains.iter_mut().find(|c| c.name == chain) {
            return chain.rules.push(rule);
        }
        self.chains.push(Chain {
            name: chain.into(),
            rules: [rule].into(),
        });
    }
}

/// A list of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Chain {
    /// Name as `iptables -t nat -L` shows it.
    pub name: String,
    /// Rules in order.
    pub rules: Vec<Rule>,
}

/// A rule: what it applies to, and what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Rule {
    /// All of these must hold.
    pub matches: Matches,
    /// What happens.
    pub target: Target,
    /// `-m comment`: printed as `/* comment */`.
    pub comment: Option<String>,
    /// Who asked for it: for traces.
    pub origin: Option<Origin>,
}

impl Rule {
    /// A rule for every packet.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self {
            matches: Matches::default(),
            target,
            comment: None,
            origin: None,
        }
    }

    /// With these conditions.
    #[must_use]
    pub fn when(mut self, matches: Matches) -> Self {
        self.matches = matches;
        self
    }

    /// With a comment.
    #[must_use]
    pub fn comment(mut self, comment: &str) -> Self {
        self.comment = Some(comment.into());
        self
    }
}

/// What led to a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Origin {
    /// In the words of its author: `kindnetd ip-masq-agent`, `Service default/web`, `hostPort of pod default/a`.
    pub name: String,
    /// `FILE:LINE` where it was written, if it was written anywhere.
    pub at: Option<String>,
}

/// Conditions on the first packet of a connection; one that is not set holds always.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Matches {
    /// `-p`
    pub protocol: Option<u8>,
    /// `-s`
    pub src: Option<NetMatch>,
    /// `-d`; after destination NAT the new one.
    pub dst: Option<NetMatch>,
    /// `-m addrtype --src-type`: true LOCAL, false !LOCAL. A local address is one of the node's own or of 127/8.
    pub src_local: Option<bool>,
    /// `-m addrtype --dst-type`: true LOCAL, false !LOCAL.
    pub dst_local: Option<bool>,
    /// `-i`
    pub in_port: Option<PortMatch>,
    /// `-o`: in POSTROUTING alone.
    pub out_port: Option<PortMatch>,
    /// `--sport`, `-m multiport --sports`: first and last port of each range; none at all is any. Only with a protocol
    /// that has ports.
    pub sports: Vec<(u16, u16)>,
    /// `--dport`, `-m multiport --dports`.
    pub dports: Vec<(u16, u16)>,
    /// `-m mark`
    pub mark: Option<Mark>,
}

/// An address is in one of these networks, or, negated, in none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NetMatch {
    /// One as `-s` takes it, several as a set (`-m set`).
    pub nets: Vec<Ipv4Net>,
    /// `!`
    pub negate: bool,
}

impl NetMatch {
    /// In `net`.
    #[must_use]
    pub fn within(net: Ipv4Net) -> Self {
        Self {
            nets: [net].into(),
            negate: false,
        }
    }

    /// Not in `net`.
    #[must_use]
    pub fn outside(net: Ipv4Net) -> Self {
        Self {
            nets: [net].into(),
            negate: true,
        }
    }

    /// True when `address` satisfies it.
    #[must_use]
    pub fn holds(&self, address: Ipv4Addr) -> bool {
        self.nets.iter().any(|net| net.contains(&address)) != self.negate
    }
}

/// A port of the node, or, negated, any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PortMatch {
    /// The port.
    pub port: PortId,
    /// `!`
    pub negate: bool,
}

/// Bits of a packet's mark: to be compared, or to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Mark {
    /// What they are.
    pub value: u32,
    /// Which they are.
    pub mask: u32,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Target {
    /// Leave the connection as it is; the hook is done.
    Accept,
    /// Back to the calling chain; in a hook's chain the hook is done.
    Return,
    /// Go on in the chain of this name, and after its end with the next rule.
    Jump(String),
    /// `MARK --set-xmark value/mask`: bits of `mask` become those of `value`, and the next rule follows.
    Mark(Mark),
    /// Source NAT to the address that the node has toward the next hop (NAT-10). POSTROUTING only.
    Masquerade(PortChoice),
    /// Source NAT to this address. POSTROUTING only.
    Snat(Ipv4Addr, PortChoice),
    /// Destination NAT to one of these, by weight. PREROUTING and OUTPUT only; never empty.
    Dnat {
        /// Where it may go.
        backends: Vec<Backend>,
        /// Session affinity: a client address stays with its backend while it was seen within this time.
        affinity: Option<Duration>,
    },
    /// Silent drop.
    Drop,
    /// Drop with ICMP 3/3 (TCP: reset), as a service without endpoints does.
    Reject,
}

/// How the source port of a translated connection is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PortChoice {
    /// `--to-ports`, first and last: from this range, rather than the original's class (NAT-12).
    pub range: Option<(u16, u16)>,
    /// `--random-fully`: the original port is not kept (NAT-20).
    pub random_fully: bool,
}

/// A destination behind a translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Backend {
    /// Address.
    pub addr: Ipv4Addr,
    /// Port; none keeps the packet's.
    pub port: Option<u16>,
    /// Share of new connections, at least 1.
    pub weight: u16,
}

/// Options of connection tracking, with the names of Linux's `nf_conntrack` sysctls where there are such.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ConntrackConfig {
    /// Track connections even when no NAT rule asks for it (policy does).
    pub enabled: bool,
    /// `nf_conntrack_max`: connections at once (NAT-66). Read when the table is made, with the first snapshot that
    /// tracks; later snapshots may lower it.
    pub limit: u32,
    /// `nf_conntrack_checksum`: a wrong transport checksum makes a packet INVALID (NAT-60).
    pub checksum: bool,
    /// `nf_conntrack_tcp_loose`: an ACK without a connection starts one (NAT-33).
    pub tcp_loose: bool,
    /// `nf_conntrack_tcp_be_liberal`: of what is out of the window only a reset is INVALID (NAT-39).
    pub tcp_be_liberal: bool,
    /// `nf_conntrack_tcp_max_retrans`.
    pub tcp_max_retrans: u8,
    /// Drop INVALID packets even where nothing would be translated, as kube-proxy and Calico do in FORWARD (NAT-8).
    pub drop_invalid: bool,
    /// Drop what others begin with 127/8, whatever rules and `route_localnet` would let in: kubelet's KUBE-FIREWALL, and before
    /// destination NAT (PM-4, CVE-2020-8558).
    pub localnet_local_only: bool,
    /// A reply keeps its connection alive. Off, and only the one who began a connection of UDP or a query does (NAT-23,
    /// RFC 4787 REQ-6, RFC 7857 4); TCP has its own states. Always on in Linux.
    pub inbound_refresh: bool,
    /// Timers.
    pub timers: Timers,
}

impl Default for ConntrackConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            limit: 65_536,
            checksum: true,
            tcp_loose: true,
            tcp_be_liberal: false,
            tcp_max_retrans: 3,
            drop_invalid: false,
            inbound_refresh: true,
            localnet_local_only: false,
            timers: Timers::default(),
        }
    }
}

/// Declares the timers with their defaults in seconds.
macro_rules! timers {
    ($($(#[$doc:meta])* $name:ident = $seconds:literal;)*) => {
        /// How long a connection lives without a packet (NAT-30, NAT-31, NAT-32). Whole milliseconds.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        pub struct Timers {
            $($(#[$doc])* pub $name: Duration,)*
        }

        impl Default for Timers {
            fn default() -> Self {
                Self { $($name: Duration::from_secs($seconds),)* }
            }
        }

        impl Timers {
            /// Their names, as `nf_conntrack_NAME` would be spelled after its prefix, with the values.
            #[must_use]
            pub fn named(&self) -> [(&'static str, Duration); [$($seconds),*].len()] {
                [$((stringify!($name), self.$name)),*]
            }

            /// The timer of this name, to be set.
            pub fn named_mut(&mut self, name: &str) -> Option<&mut Duration> {
                $(if name == stringify!($name) { return Some(&mut self.$name); })*
                None
            }
        }
    };
}

timers! {
    /// SYN seen.
    tcp_syn_sent = 120;
    /// SYN and SYN/ACK seen.
    tcp_syn_recv = 60;
    /// Open.
    tcp_established = 432_000;
    /// FIN seen.
    tcp_fin_wait = 120;
    /// FIN acknowledged, the other side still open.
    tcp_close_wait = 60;
    /// FIN of both seen.
    tcp_last_ack = 30;
    /// Both acknowledged.
    tcp_time_wait = 120;
    /// Reset seen.
    tcp_close = 10;
    /// More than `tcp_max_retrans` retransmissions without an answer.
    tcp_max_retrans = 300;
    /// Data without an acknowledgement.
    tcp_unacknowledged = 300;
    /// UDP without an answer.
    udp = 30;
    /// UDP with traffic both ways for more than two seconds.
    udp_stream = 120;
    /// ICMP query.
    icmp = 30;
    /// GRE without an answer.
    gre = 30;
    /// GRE with an answer.
    gre_stream = 180;
    /// SCTP before it is established, and while it ends.
    sctp = 30;
    /// SCTP established.
    sctp_established = 210;
    /// Every other protocol.
    generic = 600;
}

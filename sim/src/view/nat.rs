//! A node's nat table as `iptables -t nat -nvL` prints it, and its connections as `conntrack -L` does.
//!
//! Sources: iptables 1.8 `iptables/iptables-shared.c`, `libxtables/xtables.c` (xtables_print_num); conntrack-tools 1.4,
//! libnetfilter_conntrack `snprintf_default.c`. Cost: linear in what is printed.

use std::fmt::Write as _;

use router_core::config::nat::{
    Chain, Mark, Matches, NatConfig, NetMatch, OUTPUT, POSTROUTING, PREROUTING, PortChoice,
    PortMatch, Rule, Target,
};
use router_core::{ChainCounts, Count, PortId, Session};

/// The hooks' chains, in the order in which iptables lists them.
const HOOKS: [&str; 4] = [PREROUTING, "INPUT", OUTPUT, POSTROUTING];

/// The whole table. `name` gives the names of ports.
#[must_use]
pub fn rules(nat: &NatConfig, counts: &[ChainCounts], name: impl Fn(PortId) -> String) -> String {
    let empty = |name: &str| Chain {
        name: name.to_owned(),
        rules: Vec::new(),
    };
    let hooks = HOOKS.map(|hook| nat.chain(hook).cloned().unwrap_or_else(|| empty(hook)));
    let mut others: Vec<&Chain> = nat.chains.iter().collect();
    others.retain(|chain| !HOOKS.contains(&chain.name.as_str()));
    others.sort_by(|a, b| a.name.cmp(&b.name));
    let mut text = String::new();
    for chain in hooks.iter().chain(others) {
        if !text.is_empty() {
            text.push('\n');
        }
        let counts = counts.iter().find(|c| c.name == chain.name);
        text.push_str(&head(nat, chain, counts));
        text.push_str(" pkts bytes target     prot opt in     out     source               destination         \n");
        for (n, rule) in chain.rules.iter().enumerate() {
            let count = counts.and_then(|c| c.rules.get(n)).copied();
            text.push_str(&line(rule, count.unwrap_or_default(), &name));
        }
    }
    text
}

fn head(nat: &NatConfig, chain: &Chain, counts: Option<&ChainCounts>) -> String {
    let name = &chain.name;
    if HOOKS.contains(&name.as_str()) {
        let policy = counts.map_or_else(Count::default, |c| c.policy);
        return format!(
            "Chain {name} (policy ACCEPT {} packets, {} bytes)\n",
            number(policy.packets),
            number(policy.bytes)
        );
    }
    let all = nat.chains.iter().flat_map(|c| &c.rules);
    let references = all
        .filter(|rule| matches!(&rule.target, Target::Jump(to) if to == name))
        .count();
    format!("Chain {name} ({references} references)\n")
}

/// As `xtables_print_num` without columns.
fn number(n: u64) -> String {
    if n <= 99_999 {
        return n.to_string();
    }
    let mut n = n;
    for unit in ["K", "M", "G"] {
        n = (n + 500) / 1000;
        if n <= 9999 {
            return format!("{n}{unit}");
        }
    }
    format!("{}T", (n + 500) / 1000)
}

fn line(rule: &Rule, count: Count, name: &impl Fn(PortId) -> String) -> String {
    let m = &rule.matches;
    let (target, rest) = target(&rule.target);
    let port = |wanted: Option<PortMatch>| match wanted {
        None => "*".to_owned(),
        Some(PortMatch { port, negate }) => {
            format!("{}{}", if negate { "!" } else { "" }, name(port))
        }
    };
    let net = |wanted: &Option<NetMatch>| match wanted {
        Some(NetMatch { nets, negate }) if nets.len() == 1 => {
            let net = nets[0];
            let text = if net.prefix_len() == 32 {
                net.addr().to_string()
            } else {
                net.to_string()
            };
            (if *negate { '!' } else { ' ' }, text)
        }
        _ => (' ', "0.0.0.0/0".to_owned()),
    };
    let (input, output) = (port(m.in_port), port(m.out_port));
    let ((src_not, src), (dst_not, dst)) = (net(&m.src), net(&m.dst));
    let mut text = format!(
        "{:>5} {:>5} {target:<9}  {:<4} --  {input:<6} {output:<6} {src_not}{src:<19} {dst_not}{dst:<19} ",
        number(count.packets),
        number(count.bytes),
        m.protocol.map_or_else(|| "all".to_owned(), protocol),
    );
    // The order in which the matches were written: the plugin portmap writes its comment first, and multiport for one port, too.
    let portmap = matches!(&rule.target, Target::Jump(chain) if chain.starts_with("CNI-DN-"));
    let comment = rule.comment.as_ref();
    let comment = comment.map_or_else(String::new, |comment| format!(" /* {comment} */"));
    if portmap {
        text.push_str(&comment);
    }
    text.push_str(&conditions(m, portmap));
    if !portmap {
        text.push_str(&comment);
    }
    text.push_str(&rest);
    text.push('\n');
    text
}

fn protocol(number: u8) -> String {
    protocol_name(number).map_or_else(|| number.to_string(), str::to_owned)
}

fn protocol_name(number: u8) -> Option<&'static str> {
    Some(match number {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        47 => "gre",
        132 => "sctp",
        _ => return None,
    })
}

/// What has no column. Several ports are `multiport`, and one where `multiport` is set.
fn conditions(m: &Matches, multiport: bool) -> String {
    let mut text = String::new();
    let local = |local: bool| if local { "LOCAL" } else { "!LOCAL" };
    if m.src_local.is_some() || m.dst_local.is_some() {
        text.push_str(" ADDRTYPE match");
        if let Some(src) = m.src_local {
            let _ = write!(text, " src-type {}", local(src));
        }
        if let Some(dst) = m.dst_local {
            let _ = write!(text, " dst-type {}", local(dst));
        }
    }
    let name = m.protocol.map_or_else(|| "all".to_owned(), protocol);
    for (ranges, short, long) in [(&m.sports, "spt", "sports"), (&m.dports, "dpt", "dports")] {
        let range = |&(first, last): &(u16, u16)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}:{last}")
            }
        };
        match ranges.as_slice() {
            [] => {}
            [one] if !multiport => {
                let plural = if one.0 == one.1 { "" } else { "s" };
                let _ = write!(text, " {name} {short}{plural}:{}", range(one));
            }
            several => {
                let list: Vec<String> = several.iter().map(range).collect();
                let _ = write!(text, " multiport {long} {}", list.join(","));
            }
        }
    }
    for (wanted, which) in [(&m.src, "src"), (&m.dst, "dst")] {
        if let Some(NetMatch { nets, negate }) = wanted
            && nets.len() > 1
        {
            let not = if *negate { "! " } else { "" };
            let list: Vec<String> = nets.iter().map(ToString::to_string).collect();
            let _ = write!(text, " {not}match-set {{{}}} {which}", list.join(","));
        }
    }
    if let Some(Mark { value, mask }) = m.mark {
        let _ = write!(text, " mark match {value:#x}/{mask:#x}");
    }
    text
}

/// The name of what a rule does, as iptables lists it.
pub(super) fn target_name(of: &Target) -> &str {
    target(of).0
}

/// Its name, and what stands at the end of the line.
fn target(target: &Target) -> (&str, String) {
    let ports = |choice: &PortChoice| {
        let mut text = String::new();
        if let Some((first, last)) = choice.range {
            let _ = write!(text, " masq ports: {first}-{last}");
        }
        if choice.random_fully {
            text.push_str(" random-fully");
        }
        text
    };
    match target {
        Target::Accept => ("ACCEPT", String::new()),
        Target::Return => ("RETURN", String::new()),
        Target::Drop => ("DROP", String::new()),
        Target::Reject => ("REJECT", " reject-with icmp-port-unreachable".to_owned()),
        Target::Jump(chain) => (chain, String::new()),
        Target::Mark(Mark { value, mask }) if value == mask => {
            ("MARK", format!(" MARK or {value:#x}"))
        }
        Target::Mark(Mark { value, mask }) => ("MARK", format!(" MARK xset {value:#x}/{mask:#x}")),
        Target::Masquerade(choice) => ("MASQUERADE", ports(choice)),
        Target::Snat(addr, choice) => {
            let mut text = format!(" to:{addr}");
            let _ = match choice.range {
                None => Ok(()),
                Some((first, last)) if first == last => write!(text, ":{first}"),
                Some((first, last)) => write!(text, ":{first}-{last}"),
            };
            if choice.random_fully {
                text.push_str(" random-fully");
            }
            ("SNAT", text)
        }
        Target::Dnat { backends, affinity } => {
            let backends: Vec<String> = backends
                .iter()
                .map(|b| match b.port {
                    Some(port) => format!("{}:{port}", b.addr),
                    None => b.addr.to_string(),
                })
                .collect();
            let mut text = format!(" to:{}", backends.join(","));
            if let Some(affinity) = affinity {
                let _ = write!(text, " affinity {}s", affinity.as_secs());
            }
            ("DNAT", text)
        }
    }
}

/// Connections, one a line.
#[must_use]
pub fn sessions(sessions: &[Session]) -> String {
    let mut sorted: Vec<&Session> = sessions.iter().collect();
    sorted.sort_by_key(|s| (s.original.protocol, s.original));
    sorted.into_iter().map(session).collect()
}

fn session(s: &Session) -> String {
    let number = s.original.protocol;
    let name = protocol_name(number).unwrap_or("unknown");
    let mut text = format!("{name:<8} {number} {} ", s.expires_in.as_secs());
    if let Some(state) = s.tcp {
        let _ = write!(text, "{} ", state.name());
    }
    for (tuple, is_reply) in [(&s.original, false), (&s.reply, true)] {
        let _ = write!(text, "src={} dst={} ", tuple.src, tuple.dst);
        match number {
            1 => {
                let [kind, code] = tuple.dport.to_be_bytes();
                let _ = write!(text, "type={kind} code={code} id={} ", tuple.sport);
            }
            6 | 17 | 132 => {
                let _ = write!(text, "sport={} dport={} ", tuple.sport, tuple.dport);
            }
            _ => {}
        }
        if !is_reply && !s.replied {
            text.push_str("[UNREPLIED] ");
        }
    }
    if s.assured {
        text.push_str("[ASSURED] ");
    }
    text.push_str("mark=0 use=1\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(target: Target, comment: &str) -> Rule {
        let rule = Rule::new(target);
        if comment.is_empty() {
            rule
        } else {
            rule.comment(comment)
        }
    }

    /// 10.3-9, KM-8: seed 002's listing, byte by byte.
    #[test]
    fn the_listing_is_that_of_seed_002() {
        let mut nat = NatConfig::default();
        nat.append(
            POSTROUTING,
            any(
                Target::Jump("KUBE-POSTROUTING".into()),
                "kubernetes postrouting rules",
            ),
        );
        nat.append(
            POSTROUTING,
            any(Target::Jump("DOCKER_POSTROUTING".into()), "").when(Matches {
                dst: Some(NetMatch::within("172.18.0.1/32".parse().unwrap())),
                ..Matches::default()
            }),
        );
        nat.append(
            POSTROUTING,
            any(Target::Jump("KIND-MASQ-AGENT".into()), "kind-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our custom KIND-MASQ-AGENT chain").when(Matches {
                dst_local: Some(false),
                ..Matches::default()
            }),
        );
        nat.append(
            "KIND-MASQ-AGENT",
            any(
                Target::Return,
                "kind-masq-agent: local traffic is not subject to MASQUERADE",
            )
            .when(Matches {
                dst: Some(NetMatch::within("10.244.0.0/16".parse().unwrap())),
                ..Matches::default()
            }),
        );
        nat.append(
            "KIND-MASQ-AGENT",
            any(Target::Masquerade(PortChoice::default()), "kind-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)"),
        );
        let count = |packets, bytes| Count { packets, bytes };
        let counts = [
            ChainCounts {
                name: POSTROUTING.into(),
                policy: count(3073, 233_000),
                rules: vec![
                    count(61_703, 4_686_000),
                    count(0, 0),
                    count(54_462, 4_060_000),
                ],
            },
            ChainCounts {
                name: "KIND-MASQ-AGENT".into(),
                policy: Count::default(),
                rules: vec![count(46_558, 3_587_000), count(7904, 473_000)],
            },
        ];
        let text = rules(&nat, &counts, |p| p.0.to_string());
        let expected = "\
Chain POSTROUTING (policy ACCEPT 3073 packets, 233K bytes)
 pkts bytes target     prot opt in     out     source               destination         \n\
61703 4686K KUBE-POSTROUTING  all  --  *      *       0.0.0.0/0            0.0.0.0/0            /* kubernetes postrouting rules */
    0     0 DOCKER_POSTROUTING  all  --  *      *       0.0.0.0/0            172.18.0.1          \n\
54462 4060K KIND-MASQ-AGENT  all  --  *      *       0.0.0.0/0            0.0.0.0/0            ADDRTYPE match dst-type !LOCAL /* kind-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our custom KIND-MASQ-AGENT chain */

Chain KIND-MASQ-AGENT (1 references)
 pkts bytes target     prot opt in     out     source               destination         \n\
46558 3587K RETURN     all  --  *      *       0.0.0.0/0            10.244.0.0/16        /* kind-masq-agent: local traffic is not subject to MASQUERADE */
 7904  473K MASQUERADE  all  --  *      *       0.0.0.0/0            0.0.0.0/0            /* kind-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain) */
";
        let at = text.find("Chain POSTROUTING").unwrap();
        assert_eq!(&text[at..], expected);
    }

    #[test]
    fn connections_look_as_conntrack_prints_them() {
        let tuple = |src: [u8; 4], dst: [u8; 4], sport, dport, protocol| router_core::Tuple {
            src: src.into(),
            dst: dst.into(),
            sport,
            dport,
            protocol,
        };
        let (a1, x, node) = ([10, 244, 0, 2], [8, 8, 8, 8], [172, 16, 30, 3]);
        let base = Session {
            original: tuple(a1, x, 4000, 53, 17),
            reply: tuple(x, node, 53, 4000, 17),
            expires_in: std::time::Duration::from_millis(29_500),
            tcp: None,
            replied: false,
            assured: false,
            masquerade: None,
        };
        let tcp = Session {
            original: tuple(a1, x, 4000, 80, 6),
            reply: tuple(x, node, 80, 4000, 6),
            tcp: Some(router_core::TcpState::Established),
            replied: true,
            assured: true,
            ..base.clone()
        };
        let icmp = Session {
            original: tuple(a1, x, 77, 0x0800, 1),
            reply: tuple(x, node, 77, 0, 1),
            replied: true,
            ..base.clone()
        };
        assert_eq!(
            sessions(&[base, tcp, icmp]),
            "\
icmp     1 29 src=10.244.0.2 dst=8.8.8.8 type=8 code=0 id=77 src=8.8.8.8 dst=172.16.30.3 type=0 code=0 id=77 mark=0 use=1
tcp      6 29 ESTABLISHED src=10.244.0.2 dst=8.8.8.8 sport=4000 dport=80 src=8.8.8.8 dst=172.16.30.3 sport=80 dport=4000 [ASSURED] mark=0 use=1
udp      17 29 src=10.244.0.2 dst=8.8.8.8 sport=4000 dport=53 [UNREPLIED] src=8.8.8.8 dst=172.16.30.3 sport=53 dport=4000 mark=0 use=1
"
        );
    }
}

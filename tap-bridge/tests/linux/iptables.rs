//! The nat table of a snapshot as `iptables-restore` reads it: chains and rules are the same there by design.

use std::fmt::Write as _;
use std::process::Command;

use router_core::config::nat::{Matches, NetMatch, PortChoice, PortMatch, Rule, Target};
use router_core::config::nat::{OUTPUT, POSTROUTING, PREROUTING};
use router_core::{PortId, Snapshot};

use crate::kernel;

/// Loads the nat table into the namespace of the calling thread. Without rules, nothing is tracked.
///
/// # Panics
/// For a rule that iptables has no single line for.
pub(crate) fn restore(snapshot: &Snapshot) {
    if !snapshot.nat.tracks() {
        return;
    }
    let mut table = String::from("*nat\n");
    for hook in [PREROUTING, "INPUT", OUTPUT, POSTROUTING] {
        let _ = writeln!(table, ":{hook} ACCEPT [0:0]");
    }
    for chain in &snapshot.nat.chains {
        if ![PREROUTING, OUTPUT, POSTROUTING].contains(&chain.name.as_str()) {
            let _ = writeln!(table, ":{} - [0:0]", chain.name);
        }
    }
    for chain in &snapshot.nat.chains {
        for rule in &chain.rules {
            let _ = writeln!(table, "-A {} {}", chain.name, line(rule, snapshot));
        }
    }
    table.push_str("COMMIT\n");
    if snapshot.nat.conntrack.drop_invalid {
        table.push_str(
            "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
             -A FORWARD -m conntrack --ctstate INVALID -j DROP\nCOMMIT\n",
        );
    }
    kernel::run(&mut Command::new("iptables-restore"), &table);
}

fn line(rule: &Rule, snapshot: &Snapshot) -> String {
    let mut line = matches(&rule.matches, snapshot);
    let choice = |choice: &PortChoice| {
        let range = choice.range.map(|(first, last)| format!("{first}-{last}"));
        let random = if choice.random_fully {
            " --random-fully"
        } else {
            ""
        };
        (range, random)
    };
    let target = match &rule.target {
        Target::Accept => "ACCEPT".to_owned(),
        Target::Return => "RETURN".to_owned(),
        Target::Jump(chain) => chain.clone(),
        Target::Mark(mark) => format!("MARK --set-xmark {:#x}/{:#x}", mark.value, mark.mask),
        Target::Masquerade(ports) => {
            let (range, random) = choice(ports);
            let range = range.map_or(String::new(), |r| format!(" --to-ports {r}"));
            format!("MASQUERADE{range}{random}")
        }
        Target::Snat(to, ports) => {
            let (range, random) = choice(ports);
            let range = range.map_or(String::new(), |r| format!(":{r}"));
            format!("SNAT --to-source {to}{range}{random}")
        }
        Target::Dnat { backends, affinity } => match (&backends[..], affinity) {
            ([one], None) => {
                let port = one.port.map_or(String::new(), |port| format!(":{port}"));
                format!("DNAT --to-destination {}{port}", one.addr)
            }
            _ => panic!("several backends or affinity are several rules in iptables"),
        },
        Target::Drop | Target::Reject => panic!("iptables' nat table does not filter"),
    };
    let _ = write!(line, " -j {target}");
    line
}

fn matches(m: &Matches, snapshot: &Snapshot) -> String {
    let mut line = String::new();
    if let Some(protocol) = m.protocol {
        let _ = write!(line, " -p {protocol}");
    }
    let mut net = |flag: &str, net: &Option<NetMatch>| {
        if let Some(net) = net {
            let [one] = net.nets[..] else {
                panic!("several networks are a set in iptables");
            };
            let not = if net.negate { " !" } else { "" };
            let _ = write!(line, "{not} {flag} {one}");
        }
    };
    net("-s", &m.src);
    net("-d", &m.dst);
    let name = |id: PortId| {
        let port = snapshot.ports.iter().find(|p| p.id == id);
        &port.expect("ports of a rule exist").name
    };
    let mut port = |flag: &str, port: &Option<PortMatch>| {
        if let Some(port) = port {
            let not = if port.negate { " !" } else { "" };
            let _ = write!(line, "{not} {flag} {}", name(port.port));
        }
    };
    port("-i", &m.in_port);
    port("-o", &m.out_port);
    for (flag, local) in [("--src-type", m.src_local), ("--dst-type", m.dst_local)] {
        if let Some(local) = local {
            let not = if local { "" } else { " !" };
            let _ = write!(line, " -m addrtype{not} {flag} LOCAL");
        }
    }
    for (flag, ranges) in [("--sports", &m.sports), ("--dports", &m.dports)] {
        if !ranges.is_empty() {
            let list: Vec<String> = ranges
                .iter()
                .map(|(first, last)| match first == last {
                    true => first.to_string(),
                    false => format!("{first}:{last}"),
                })
                .collect();
            let _ = write!(line, " -m multiport {flag} {}", list.join(","));
        }
    }
    if let Some(mark) = m.mark {
        let _ = write!(line, " -m mark --mark {:#x}/{:#x}", mark.value, mark.mask);
    }
    line
}

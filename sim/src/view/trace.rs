//! A trace as text and as JSON.
//!
//! Text: per frame and node one block; in short form the decisions that matter, with `-v` every step and its time. JSON
//! (`podwire.trace/1`), stable: `source`, `origin` (derived from the model: the source's kernel), `hops` in order, each with
//! `node`, `role`, `steps` (each with `at_us` since the first, `text`, and the fields of the step under their own names; a
//! rule of the nat table with its `chain`, `rule` counted from 1, `target`, `by` and `at`, a network policy with `policy`,
//! `rule` and `at`),
//! and `verdict` with `outcome` (answered, delivered, answer-dropped, dropped, refused, lost), `good`, `text`, and where it
//! has them `node` and `reason`.

use std::fmt::Write as _;

use anstyle::Style;
use router_core::config::nat::Chain;
use router_core::policy::{Judgement, PolicyName};
use router_core::trace::{PortNames, Record, Role, Step, Transport};
use router_core::{Instant, Mac, PortId};
use serde_json::{Map, Value, json};

use crate::model::{IfaceKind, Node, Pod};
use crate::trace::story::{Delivery, Verdict, Visit, verdict, visits};
use crate::trace::{Collected, NodeTrace, Wanted};

/// Colours.
#[derive(Clone, Copy, Debug, Default)]
pub struct Styles {
    /// Names of nodes.
    pub node: Style,
    /// Labels and what is less important.
    pub dim: Style,
    /// Good ends.
    pub good: Style,
    /// Bad ends.
    pub bad: Style,
}

/// A trace with the names that its reader knows.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// What was asked.
    pub wanted: &'a Wanted,
    /// What was found out.
    pub collected: &'a Collected,
    /// Nodes of the lab.
    pub nodes: &'a [Node],
    /// Pods of the lab.
    pub pods: &'a [Pod],
}

/// Shown for the router and stack behind the nodes' default gateway.
const GATEWAY: &str = "(gateway)";

struct Names<'a>(&'a NodeTrace);

impl PortNames for Names<'_> {
    fn port_name(&self, port: PortId) -> Option<&str> {
        let found = self.0.ports.iter().find(|p| p.id == port);
        found.map(|p| p.name.as_str())
    }

    fn policy(&self, number: u32) -> Option<&PolicyName> {
        self.0.meanings.policy(number)
    }

    fn nat_chain(&self, number: u32) -> Option<&Chain> {
        self.0.meanings.chain(number)
    }
}

/// Where a step stands: its label, and whether the short form has it.
const fn label(step: &Step) -> (&'static str, bool) {
    match step {
        Step::Rx { .. } => ("in", true),
        Step::Tx { .. } => ("out", true),
        Step::Accepted { .. } => ("link", false),
        Step::Header { .. } => ("packet", false),
        Step::Options { .. } => ("options", true),
        Step::Source { .. } => ("source", false),
        Step::Route { .. } => ("route", true),
        Step::Local { .. } => ("local", true),
        Step::Ttl { .. } => ("ttl", true),
        Step::Mtu { .. } => ("mtu", true),
        Step::Tracked { .. } => ("ct", false),
        Step::NatRule { .. } | Step::Translated { .. } => ("nat", true),
        Step::Policy { .. } => ("policy", true),
        Step::Collected | Step::Reassembled { .. } | Step::Merged => ("defrag", true),
        Step::Fragmented { .. } | Step::Piece { .. } => ("cut", true),
        Step::Encap { .. } => ("encap", true),
        Step::Decap { .. } => ("decap", true),
        Step::Bridged { .. } | Step::BridgedUp { .. } | Step::Flooded { .. } => ("bridge", true),
        Step::Copied { .. } => ("copy", true),
        Step::Queued { .. } => ("queue", true),
        Step::Neighbour { .. } => ("neigh", true),
        Step::Held { .. } | Step::Asked { .. } | Step::Released { .. } => ("arp", true),
        Step::Made { .. } | Step::NotMade { .. } => ("made", true),
        Step::Withheld { .. } => ("icmp", true),
        Step::Handed { .. } => ("worker", false),
        Step::Consumed => ("end", false),
        Step::Dropped { .. } => ("drop", true),
        // Steps of stages that this view has no word for.
        _ => ("step", true),
    }
}

const LABEL_WIDTH: usize = 8;

impl Report<'_> {
    /// How it ended.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        verdict(self.collected, &visits(&self.collected.nodes))
    }

    /// The text, with its final newline.
    #[must_use]
    pub fn text(&self, all: bool, styles: &Styles) -> String {
        let visits = visits(&self.collected.nodes);
        let began = began(&visits);
        let mut out = String::new();
        self.write_head(&mut out, styles);
        for (n, visit) in visits.iter().enumerate() {
            self.write_visit(&mut out, n + 1, visit, began, all, styles);
        }
        for node in &self.collected.nodes {
            if let Some(failure) = &node.failure {
                let name = node_name(node.node.as_deref());
                let _ = writeln!(out, "\n{name}: its steps are missing: {failure}");
            }
            if node.lost > 0 {
                let name = node_name(node.node.as_deref());
                let _ = writeln!(out, "\n{name}: {} more steps were not kept", node.lost);
            }
        }
        let verdict = verdict(self.collected, &visits);
        let style = if verdict.is_good() {
            styles.good
        } else {
            styles.bad
        };
        let _ = writeln!(out, "\n{style}{}{style:#}", self.verdict_text(&verdict));
        out
    }

    fn write_head(&self, out: &mut String, styles: &Styles) {
        let Styles { node, dim, .. } = styles;
        let origin = &self.collected.origin;
        let wanted = self.wanted;
        let what = match wanted.protocol {
            crate::trace::Protocol::Icmp => "ICMP echo request".to_owned(),
            crate::trace::Protocol::Tcp => {
                format!("TCP SYN {} > {}", wanted.sport, wanted.dport)
            }
            crate::trace::Protocol::Udp => format!("UDP {} > {}", wanted.sport, wanted.dport),
        };
        let df = if wanted.df { ", DF" } else { "" };
        let _ = writeln!(
            out,
            "{what}, {} bytes, TTL {}{df}\n  from {} ({})\n  to   {}",
            wanted.size,
            wanted.ttl,
            origin.name,
            origin.src,
            self.address_name(wanted.to)
        );
        let _ = writeln!(
            out,
            "\n {node}{}{node:#} {dim}(its kernel: from the model, not observed){dim:#}",
            origin.name
        );
        for step in &origin.steps {
            let _ = writeln!(out, "     {step}");
        }
        if let Some(refused) = &origin.refused {
            let _ = writeln!(out, "     {refused}");
        }
    }

    fn write_visit(
        &self,
        out: &mut String,
        number: usize,
        visit: &Visit<'_>,
        began: Instant,
        all: bool,
        styles: &Styles,
    ) {
        let Styles { node, dim, bad, .. } = styles;
        let role = match visit.role {
            Role::Packet => "",
            Role::Answer => "  <- the answer",
            Role::Error => "  <- the ICMP error",
        };
        let name = node_name(visit.node.node.as_deref());
        let at = visit.records.first().map_or(0, |r| micros(r.at, began));
        let _ = writeln!(
            out,
            "\n{number:2} {node}{name}{node:#}{role}  {dim}+{at} us{dim:#}"
        );
        for record in &visit.records {
            let (label, brief) = label(&record.step);
            if !all && !brief {
                continue;
            }
            let text = if all {
                self.sentence(visit.node, record)
            } else {
                self.short(visit.node, &record.step)
            };
            let style = match record.step {
                Step::Dropped { .. } => *bad,
                _ => Style::new(),
            };
            let time = if all {
                format!("{dim}+{:<6}{dim:#} ", micros(record.at, began))
            } else {
                String::new()
            };
            let _ = writeln!(
                out,
                "     {time}{dim}{label:<LABEL_WIDTH$}{dim:#}{style}{text}{style:#}"
            );
        }
    }

    /// The step in full.
    fn sentence(&self, node: &NodeTrace, record: &Record) -> String {
        let text = record.step.sentence(&Names(node)).to_string();
        match record.step {
            Step::Rx { port, .. } | Step::Tx { port, .. } => match self.behind(node, port) {
                Some(behind) => format!("{text}  ({behind})"),
                None => text,
            },
            _ => text,
        }
    }

    /// The step without what its label says.
    fn short(&self, node: &NodeTrace, step: &Step) -> String {
        let names = Names(node);
        let port = |p: PortId| names.port_name(p).unwrap_or("?").to_owned();
        match *step {
            Step::Rx { port: p, .. } | Step::Tx { port: p, .. } => match self.behind(node, p) {
                Some(behind) => format!("{}  ({behind})", port(p)),
                None => port(p),
            },
            Step::Ttl { before, after } if before == after => {
                format!("{after} (the node's own packets keep it)")
            }
            Step::Ttl { before, after } => format!("{before} -> {after}"),
            Step::Neighbour {
                ip,
                mac,
                state,
                port: p,
            } => {
                let state = state.map_or("", |state| state.as_str());
                format!("{ip} dev {} lladdr {mac} {state}", port(p))
                    .trim_end()
                    .to_owned()
            }
            Step::Dropped { reason } => format!("{reason}: {}", reason.help()),
            _ => {
                let text = step.sentence(&names).to_string();
                let (label, _) = label(step);
                match text.strip_prefix(label).and_then(|t| t.strip_prefix(' ')) {
                    Some(rest) => rest.to_owned(),
                    None => text,
                }
            }
        }
    }

    /// What is at the far end of a port.
    fn behind(&self, node: &NodeTrace, port: PortId) -> Option<String> {
        let found = node.ports.iter().find(|p| p.id == port)?;
        if found.fabric {
            return None;
        }
        let Some(name) = &node.node else {
            return Some("the simulated internet".to_owned());
        };
        let model = self.nodes.iter().find(|n| n.name == *name)?;
        let iface = model.ifaces.iter().find(|iface| iface.port == Some(port));
        match iface.map(|iface| &iface.kind) {
            Some(IfaceKind::Veth { pod, .. }) => Some(format!("pod {pod}")),
            Some(_) => None,
            None => Some(format!("host namespace of {name}")),
        }
    }

    fn place(&self, at: &Delivery) -> String {
        let node = self.collected.nodes.iter().find(|n| n.node == at.node);
        node.and_then(|node| self.behind(node, at.port))
            .unwrap_or_else(|| format!("port {} of {}", at.port.0, node_name(at.node.as_deref())))
    }

    fn address_name(&self, ip: std::net::Ipv4Addr) -> String {
        let pod = self
            .pods
            .iter()
            .find(|pod| pod.ip == ip && !pod.host_network);
        let node = self.nodes.iter().find(|node| node.internal_ip == ip);
        match (pod, node) {
            (Some(pod), _) => format!("{} ({ip})", pod.key()),
            (None, Some(node)) => format!("node/{} ({ip})", node.name),
            (None, None) => ip.to_string(),
        }
    }

    /// One line.
    #[must_use]
    pub fn verdict_text(&self, verdict: &Verdict) -> String {
        let name = |node: &Option<String>| node_name(node.as_deref()).to_owned();
        match verdict {
            Verdict::Answered {
                by,
                node,
                with,
                nanos,
            } => {
                let who = match (by, node) {
                    (Some(by), _) => self.place(by),
                    (None, Some(node)) => format!("the router of {node}"),
                    (None, None) => GATEWAY.to_owned(),
                };
                let what = with.map_or_else(String::new, |t| format!(" with {}", transport(t)));
                let (ms, us) = (nanos / 1_000_000, nanos / 1000 % 1000);
                format!("answered by {who}{what} after {ms}.{us:03} ms")
            }
            Verdict::Delivered { at } => {
                format!("delivered to {}; no answer came", self.place(at))
            }
            Verdict::AnswerDropped { at, node, reason } => {
                let arrived = at.as_ref().map_or_else(
                    || "answered".to_owned(),
                    |at| format!("delivered to {}", self.place(at)),
                );
                format!(
                    "{arrived}, but the answer was dropped at {}: {reason}: {}{}",
                    name(node),
                    reason.help(),
                    self.way_back(node)
                )
            }
            Verdict::Dropped { node, reason, told } => {
                let told = told.map_or_else(String::new, |t| {
                    format!(" The source was told: ICMP {}.", transport(t))
                });
                format!(
                    "dropped at {}: {reason}: {}{told}",
                    name(node),
                    reason.help()
                )
            }
            Verdict::Refused { reason } => format!("dropped at the source: {reason}"),
            Verdict::Lost { node, held: true } => {
                format!(
                    "lost: it still waits at {} for address resolution",
                    name(node)
                )
            }
            Verdict::Lost { node, held: false } => {
                format!("lost: last seen at {}, and nobody received it", name(node))
            }
        }
    }

    /// Why the world behind the gateway does not reach pods.
    fn way_back(&self, node: &Option<String>) -> &'static str {
        let from_pod = self
            .pods
            .iter()
            .any(|p| !p.host_network && p.ip == self.collected.origin.src);
        if node.is_none() && from_pod {
            " The source address is a pod's, and nothing behind the gateway knows a way back: the node does not masquerade."
        } else {
            ""
        }
    }

    /// The trace as data.
    #[must_use]
    pub fn json(&self) -> Value {
        let visits = visits(&self.collected.nodes);
        let began = began(&visits);
        let verdict = verdict(self.collected, &visits);
        let hops: Vec<Value> = visits.iter().map(|v| self.hop(v, began)).collect();
        let origin = &self.collected.origin;
        let (node, reason) = match &verdict {
            Verdict::Dropped { node, reason, .. } | Verdict::AnswerDropped { node, reason, .. } => {
                (node.clone(), Some(reason.name()))
            }
            Verdict::Lost { node, .. } => (node.clone(), None),
            Verdict::Delivered { at } | Verdict::Answered { by: Some(at), .. } => {
                (at.node.clone(), None)
            }
            Verdict::Answered { node, .. } => (node.clone(), None),
            Verdict::Refused { .. } => (Some(origin.node.clone()), None),
        };
        json!({
            "schema": "podwire.trace/1",
            "source": {
                "name": origin.name, "node": origin.node, "address": origin.src,
            },
            "destination": self.wanted.to,
            "packet": {
                "protocol": self.wanted.protocol, "size": self.wanted.size, "ttl": self.wanted.ttl,
                "df": self.wanted.df, "sport": self.wanted.sport, "dport": self.wanted.dport,
            },
            "origin": {"derived": true, "steps": origin.steps, "refused": origin.refused},
            "hops": hops,
            "timed_out": self.collected.timed_out,
            "verdict": {
                "outcome": verdict.outcome(), "good": verdict.is_good(),
                "text": self.verdict_text(&verdict), "node": node, "reason": reason,
            },
        })
    }

    fn hop(&self, visit: &Visit<'_>, began: Instant) -> Value {
        let names = Names(visit.node);
        let steps = visit.records.iter().map(|record| {
            let mut step = serde_json::to_value(record.step).unwrap_or_default();
            if let Value::Object(map) = &mut step {
                map.insert("at_us".into(), micros(record.at, began).into());
                map.insert("text".into(), self.sentence(visit.node, record).into());
                for value in map.values_mut() {
                    if let Ok(mac) = serde_json::from_value::<Mac>(value.clone()) {
                        *value = mac.to_string().into();
                    }
                }
                // Numbers of rules, policies and ports mean nothing to others.
                map.extend(decided_by(visit.node, &record.step));
                for key in ["port", "bridge"] {
                    let id = map.get(key).and_then(Value::as_u64);
                    if let Some(id) = id.and_then(|id| u16::try_from(id).ok()) {
                        map.insert(key.into(), names.port_name(PortId(id)).into());
                    }
                }
            }
            step
        });
        json!({
            "node": visit.node.node,
            "role": visit.role,
            "steps": steps.collect::<Vec<_>>(),
        })
    }
}

/// The rule or policy that decided, by its name, its number as users count, and where it was written.
fn decided_by(node: &NodeTrace, step: &Step) -> Map<String, Value> {
    let known = match *step {
        Step::NatRule { chain, rule } => {
            let chain = node.meanings.chain(chain);
            let written = chain.and_then(|c| c.rules.get(usize::try_from(rule).ok()?));
            let origin = written.and_then(|rule| rule.origin.as_ref());
            json!({
                "chain": chain.map(|chain| &chain.name),
                "rule": rule.saturating_add(1),
                "target": written.map(|rule| super::nat::target_name(&rule.target)),
                "by": origin.map(|origin| &origin.name),
                "at": origin.and_then(|origin| origin.at.as_ref()),
            })
        }
        Step::Policy { judgement, .. } => {
            let (word, policy, rule) = match judgement {
                Judgement::NotIsolated => ("not-isolated", None, None),
                Judgement::Tracked => ("tracked", None, None),
                Judgement::Exempt => ("exempt", None, None),
                Judgement::Invalid => ("invalid", None, None),
                Judgement::Denied { policy } => ("denied", policy, None),
                Judgement::Allowed { policy, rule } => {
                    ("allowed", Some(policy), Some(rule.saturating_add(1)))
                }
            };
            let policy = policy.and_then(|number| node.meanings.policy(number));
            json!({
                "judgement": word,
                "policy": policy.map(|policy| &policy.name),
                "rule": rule,
                "at": policy.and_then(|policy| policy.place.as_ref()),
            })
        }
        _ => Value::Null,
    };
    match known {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn node_name(node: Option<&str>) -> &str {
    node.unwrap_or(GATEWAY)
}

fn began(visits: &[Visit<'_>]) -> Instant {
    let first = visits.iter().filter_map(|v| v.records.first());
    first.map(|r| r.at).min().unwrap_or(Instant::ZERO)
}

fn micros(at: Instant, began: Instant) -> u64 {
    u64::try_from(at.since(began).as_micros()).unwrap_or(u64::MAX)
}

fn transport(transport: Transport) -> String {
    match transport {
        Transport::Icmp { kind, code, .. } => router_core::trace::icmp(kind, code).to_string(),
        Transport::Ports { flags, .. } if flags & 0x04 != 0 => {
            "TCP RST: the port is closed".to_owned()
        }
        Transport::Ports { flags, .. } if flags & 0x12 == 0x12 => "TCP SYN ACK".to_owned(),
        Transport::Ports { .. } => "a datagram".to_owned(),
        Transport::Other => "a packet".to_owned(),
    }
}

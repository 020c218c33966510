//! `podwire stats`: what the routers have counted.
//!
//! Table: ports, drops, events and routes, a block each; rows of zeros only with `-v`. Sums where there is more than one
//! node. The wide one also has what a wire would have carried for superframes, and what the devices lost by the place. The last
//! block adds up where frames came from and where they ended (decision 14).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use router_core::stats::{Countable, Counters, RouteKind, Stats};
use router_core::{DropReason, Event};
use serde_json::{Value, json};

use super::table::Table;
use crate::control::node::{ImpairedPort, PortStats as Device};
use crate::control::proto::NodeCounters;

/// Shown for the router behind the nodes' default gateway.
const GATEWAY: &str = "(gateway)";

/// Counters, and which of them are wanted.
#[derive(Debug)]
pub struct Report<'a> {
    nodes: &'a [NodeCounters],
    port: Option<&'a str>,
    drops_only: bool,
}

/// One port of one node.
struct Row<'a> {
    node: &'a str,
    port: &'a str,
    stats: &'a router_core::stats::PortStats,
    /// What the device says.
    device: Option<&'a Device>,
    /// What the link does to frames, if anything.
    impaired: Option<&'a ImpairedPort>,
}

impl Row<'_> {
    /// Frames that the device, not the router, lost: that it could not take, handed in broken, and had no room for.
    fn lost(&self) -> [u64; 3] {
        let lost = |d: &Device| [d.tx_dropped, d.rx_errors, d.rx_missed];
        self.device.map_or([0; 3], lost)
    }
}

impl<'a> Report<'a> {
    /// All counters of these nodes, or those of the ports of one name; or drops alone.
    #[must_use]
    pub const fn new(nodes: &'a [NodeCounters], port: Option<&'a str>, drops_only: bool) -> Self {
        Self {
            nodes,
            port,
            drops_only,
        }
    }

    fn rows(&self) -> impl Iterator<Item = Row<'a>> + '_ {
        self.nodes.iter().flat_map(move |node| {
            node.stats
                .router
                .ports()
                .iter()
                .filter_map(move |(id, stats)| {
                    let name = node.ports.iter().find(|(p, _)| p == id);
                    let port = name.map_or("?", |(_, name)| name.as_str());
                    self.port
                        .is_none_or(|wanted| wanted == port)
                        .then_some(Row {
                            node: name_of(node),
                            port,
                            stats,
                            device: node.stats.ports.iter().find(|p| p.port == *id),
                            impaired: node.stats.impaired.iter().find(|p| p.port == *id),
                        })
                })
        })
    }

    /// True when any port is among what is wanted.
    #[must_use]
    pub fn has_ports(&self) -> bool {
        self.rows().next().is_some()
    }

    /// Names of all ports, each once.
    #[must_use]
    pub fn port_names(&self) -> Vec<&'a str> {
        let all = self.nodes.iter().flat_map(|node| &node.ports);
        let mut names: Vec<&str> = all.map(|(_, name)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// True when no router has lost or invented a frame.
    #[must_use]
    pub fn is_conserved(&self) -> bool {
        self.nodes
            .iter()
            .all(|n| n.stats.router.check_conservation(n.stats.held).is_ok())
    }

    /// The tables; rows of zeros with `all`, more columns with `wide`.
    #[must_use]
    pub fn table(&self, all: bool, wide: bool) -> String {
        let mut out = String::new();
        if !self.drops_only {
            self.ports(&mut out, all, wide);
        }
        self.drops(&mut out, all);
        if self.port.is_none() && !self.drops_only {
            counters(
                &mut out,
                "EVENT",
                self.nodes,
                all,
                |s| &s.events,
                Event::help,
            );
            counters(
                &mut out,
                "ROUTE",
                self.nodes,
                all,
                |s| &s.routes,
                RouteKind::help,
            );
            self.conservation(&mut out);
        }
        out
    }

    fn ports(&self, out: &mut String, all: bool, wide: bool) {
        let names: &[&str] = if wide {
            &[
                "RX-FRAMES",
                "RX-SEGMENTS",
                "RX-BYTES",
                "TX-FRAMES",
                "TX-SEGMENTS",
                "TX-BYTES",
                "DROPPED",
                "NOT-TAKEN",
                "BROKEN",
                "MISSED",
            ]
        } else {
            &[
                "RX-FRAMES",
                "RX-BYTES",
                "TX-FRAMES",
                "TX-BYTES",
                "DROPPED",
                "DEVICE-LOST",
            ]
        };
        let mut table = Table::new(["NODE", "PORT"].iter().chain(names).copied());
        let mut sums = vec![0; names.len()];
        let mut count = 0;
        for row in self.rows() {
            let s = row.stats;
            let [not_taken, broken, missed] = row.lost();
            let (rx, tx) = ([s.rx_frames, s.rx_bytes], [s.tx_frames, s.tx_bytes]);
            let cells = if wide {
                vec![
                    rx[0],
                    s.rx_segments,
                    rx[1],
                    tx[0],
                    s.tx_segments,
                    tx[1],
                    s.drops.total(),
                    not_taken,
                    broken,
                    missed,
                ]
            } else {
                let lost = not_taken + broken + missed;
                vec![rx[0], rx[1], tx[0], tx[1], s.drops.total(), lost]
            };
            for (sum, cell) in sums.iter_mut().zip(&cells) {
                *sum += cell;
            }
            if all || cells.iter().any(|&n| n != 0) {
                count += 1;
                let names = [row.node.to_owned(), row.port.to_owned()];
                table.row(names.into_iter().chain(cells.iter().map(u64::to_string)));
            }
        }
        if count > 1 {
            let names = ["(all)".to_owned(), String::new()];
            table.row(names.into_iter().chain(sums.iter().map(u64::to_string)));
        }
        if table.is_empty() {
            *out += "No frames yet.\n";
        } else {
            *out += &table.render(false);
        }
    }

    /// By node and reason, or by port and reason when ports are asked for.
    fn drops(&self, out: &mut String, all: bool) {
        if self.port.is_none() {
            counters(
                out,
                "DROPPED",
                self.nodes,
                all,
                |s| &s.drops,
                DropReason::help,
            );
            if self.drops_only && self.nodes.iter().all(|n| n.stats.router.dropped() == 0) && !all {
                *out += "Nothing was dropped.\n";
            }
            return;
        }
        let mut table = Table::new(["NODE", "PORT", "DROPPED", "FRAMES", "MEANING"]);
        for row in self.rows() {
            for reason in wanted(&row.stats.drops, all) {
                let frames = row.stats.drops.get(reason).to_string();
                table.row([row.node, row.port, reason.name(), &frames, reason.help()]);
            }
        }
        block(out, &table);
    }

    fn conservation(&self, out: &mut String) {
        // Of nodes with several workers, whose frames may be on their way between two of them.
        let handed = |n: &NodeCounters| n.stats.router.handed + n.stats.router.taken > 0;
        let shared = self.nodes.iter().any(handed);
        let mut table = Table::new(if shared {
            [
                "NODE",
                "RX+MADE+COPIED+SPLIT+TAKEN-OVER",
                "TX+TAKEN+DROPPED+HELD+MERGED+HANDED-OVER",
                "",
            ]
        } else {
            [
                "NODE",
                "RX+MADE+COPIED+SPLIT",
                "TX+TAKEN+DROPPED+HELD+MERGED",
                "",
            ]
        });
        for node in self.nodes {
            let s = &node.stats.router;
            let held = u64::try_from(node.stats.held).unwrap_or(u64::MAX);
            let mut sources = vec![s.rx, s.generated, s.cloned, s.split];
            let mut sinks = vec![s.tx, s.consumed, s.dropped(), held, s.merged];
            if shared {
                sources.push(s.taken);
                sinks.push(s.handed);
            }
            let verdict = if s.check_conservation(node.stats.held).is_ok() {
                "every frame accounted for"
            } else {
                "FRAMES LOST OR INVENTED: a bug of podwire"
            };
            table.row([name_of(node), &sum(&sources), &sum(&sinks), verdict]);
        }
        block(out, &table);
    }

    /// The same as data.
    #[must_use]
    pub fn json(&self) -> Value {
        let nodes: Vec<Value> = self.nodes.iter().map(|node| self.node(node)).collect();
        let mut lab: BTreeMap<&str, u64> = BTreeMap::new();
        for node in self.nodes {
            for (name, n) in terms(node) {
                *lab.entry(name).or_default() += n;
            }
        }
        json!({"schema": "podwire.stats/1", "nodes": nodes, "lab": lab})
    }

    fn node(&self, node: &NodeCounters) -> Value {
        let s = &node.stats.router;
        let rows = self.rows().filter(|row| row.node == name_of(node));
        let ports: Vec<Value> = rows
            .map(|row| {
                let [not_taken, broken, missed] = row.lost();
                let mut port = json!({
                    "name": row.port, "rx_frames": row.stats.rx_frames, "rx_segments": row.stats.rx_segments,
                    "rx_bytes": row.stats.rx_bytes, "tx_frames": row.stats.tx_frames,
                    "tx_segments": row.stats.tx_segments, "tx_bytes": row.stats.tx_bytes,
                    "drops": row.stats.drops, "device_lost": not_taken + broken + missed,
                    "device": {"tx_dropped": not_taken, "rx_errors": broken, "rx_missed": missed},
                });
                if let Some(impaired) = row.impaired {
                    port["impaired"] = json!({"in": impaired.rx, "out": impaired.tx});
                }
                port
            })
            .collect();
        let mut conservation: serde_json::Map<String, Value> = terms(node)
            .into_iter()
            .map(|(name, n)| (name.to_owned(), n.into()))
            .collect();
        let holds = s.check_conservation(node.stats.held).is_ok();
        conservation.insert("holds".to_owned(), holds.into());
        json!({
            "name": node.node, "ports": ports, "drops": s.drops, "events": s.events, "routes": s.routes,
            "held": node.stats.held, "stack_drops": node.stats.stack_drops,
            "workers": {
                "handed": s.handed, "taken": s.taken, "lost": node.stats.lost_between_workers,
            },
            "tracking": node.stats.tracking, "journal_behind": node.stats.journal_behind,
            "conservation": conservation,
        })
    }
}

/// Where the frames of a node came from, and where they ended: both sides add up to the same.
fn terms(node: &NodeCounters) -> [(&'static str, u64); 11] {
    let s = &node.stats.router;
    [
        ("rx", s.rx),
        ("generated", s.generated),
        ("cloned", s.cloned),
        ("split", s.split),
        ("taken", s.taken),
        ("tx", s.tx),
        ("consumed", s.consumed),
        ("dropped", s.dropped()),
        ("held", u64::try_from(node.stats.held).unwrap_or(u64::MAX)),
        ("merged", s.merged),
        ("handed", s.handed),
    ]
}

fn name_of(node: &NodeCounters) -> &str {
    node.node.as_deref().unwrap_or(GATEWAY)
}

fn sum(terms: &[u64]) -> String {
    let total: u64 = terms.iter().sum();
    let terms: Vec<String> = terms.iter().map(u64::to_string).collect();
    format!("{} = {total}", terms.join("+"))
}

fn wanted<E: Countable>(counters: &Counters<E>, all: bool) -> Vec<E> {
    let every = E::VARIANTS.iter().copied();
    every.filter(|&e| all || counters.get(e) != 0).collect()
}

/// One line for each counter of each node, and the sum of several nodes.
fn counters<E: Countable>(
    out: &mut String,
    title: &str,
    nodes: &[NodeCounters],
    all: bool,
    of: impl Fn(&Stats) -> &Counters<E>,
    help: impl Fn(E) -> &'static str,
) {
    let mut table = Table::new(["NODE", title, "COUNT", "MEANING"]);
    for node in nodes {
        let counters = of(&node.stats.router);
        for which in wanted(counters, all) {
            let count = counters.get(which).to_string();
            table.row([name_of(node), which.title(), &count, help(which)]);
        }
    }
    if nodes.len() > 1 {
        for &which in E::VARIANTS {
            let counts = || nodes.iter().map(|node| of(&node.stats.router).get(which));
            if counts().filter(|&n| n != 0).count() > 1 {
                let total: u64 = counts().sum();
                table.row(["(all)", which.title(), &total.to_string(), help(which)]);
            }
        }
    }
    block(out, &table);
}

fn block(out: &mut String, table: &Table) {
    if !table.is_empty() {
        if !out.is_empty() {
            out.push('\n');
        }
        let _ = write!(out, "{}", table.render(false));
    }
}

#[cfg(test)]
mod tests;

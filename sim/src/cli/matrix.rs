//! Who reaches whom: every pair pinged once, as a table with the TTL of each answer.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::Failure;
use super::failure::BUG;
use super::target::Place;
use super::ui::{BOLD, DIM, GREEN, RED};
use crate::client::Client;
use crate::control::proto::{NodeStatus, Request, Response, Target};
use crate::model::Pod;
use crate::ping::{Channel, MatrixOptions, Outcome, Probe, probe_all};

/// The result of a round.
pub(super) struct Matrix {
    members: Vec<Member>,
    /// Row by pinger, column by target; none on the diagonal.
    cells: Vec<Vec<Option<Outcome>>>,
}

struct Member {
    kind: &'static str,
    name: String,
    place: Place,
}

/// All nodes and all pods with a link of their own, in the order in which they are listed.
pub(super) fn members(nodes: &[NodeStatus], pods: &[Pod]) -> Vec<Place> {
    let nodes = nodes.iter().map(|status| Place::Member {
        target: Target::Node {
            name: status.node.name.clone(),
        },
        ip: status.node.internal_ip,
        name: status.node.name.clone(),
    });
    // A hostNetwork pod is its node.
    let pods = pods
        .iter()
        .filter(|pod| !pod.host_network)
        .map(|pod| Place::Member {
            target: Target::Pod {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
            },
            ip: pod.ip,
            name: pod.name.clone(),
        });
    nodes.chain(pods).collect()
}

/// Asks the daemon for a way to send ICMP as `target`.
pub(super) fn channel(client: &mut Client, target: &Target) -> Result<Channel, Failure> {
    let request = Request::Icmp {
        target: target.clone(),
    };
    match client.request_with_fds(&request)? {
        (Response::Icmp { channel, source }, mut fds) if fds.len() == 1 => {
            Ok(Channel::new(fds.remove(0), channel, source))
        }
        _ => Err(client.unexpected("icmp").into()),
    }
}

impl Matrix {
    /// Pings every member from every other.
    pub(super) fn measure(
        client: &mut Client,
        places: Vec<Place>,
        options: &MatrixOptions,
    ) -> Result<Self, Failure> {
        let mut members = Vec::new();
        let mut channels = Vec::new();
        for place in places {
            let Place::Member { target, name, .. } = &place else {
                continue;
            };
            channels.push(channel(client, target)?);
            members.push(Member {
                kind: match target {
                    Target::Node { .. } => "node",
                    Target::Pod { .. } => "pod",
                },
                name: name.clone(),
                place,
            });
        }
        let pairs: Vec<(usize, usize)> = (0..members.len())
            .flat_map(|to| (0..members.len()).map(move |from| (from, to)))
            .filter(|(from, to)| from != to)
            .collect();
        let probe = |&(from, to): &(usize, usize)| Probe {
            from,
            to: members[to].place.ip(),
        };
        let probes: Vec<Probe> = pairs.iter().map(probe).collect();
        let outcomes = probe_all(&channels, &probes, options)
            .map_err(|error| Failure::new(BUG, format!("the pings failed: {error}")))?;
        let mut cells = vec![vec![None; members.len()]; members.len()];
        for ((from, to), outcome) in pairs.into_iter().zip(outcomes) {
            cells[from][to] = Some(outcome);
        }
        Ok(Self { members, cells })
    }

    fn outcomes(&self) -> impl Iterator<Item = &Outcome> {
        self.cells.iter().flatten().flatten()
    }

    /// Number of pings.
    pub(super) fn sent(&self) -> usize {
        self.outcomes().count()
    }

    /// Number of answers.
    pub(super) fn answered(&self) -> usize {
        self.outcomes().filter(|outcome| outcome.is_reply()).count()
    }

    /// The table: one row per pinger, columns by number.
    pub(super) fn table(&self) -> String {
        let number = self.members.len().to_string().len();
        let width = number.max(4);
        let name = self
            .members
            .iter()
            .map(|m| m.kind.len() + 1 + m.name.len())
            .max()
            .unwrap_or(0);
        let address = self
            .members
            .iter()
            .map(|m| m.place.ip().to_string().len())
            .max()
            .unwrap_or(0);
        let mut text = format!(
            "{BOLD}{:number$}  {:name$}  {:address$}",
            "", "FROM \\ TO", ""
        );
        for column in 1..=self.members.len() {
            let _ = write!(text, " {column:>width$}");
        }
        let _ = writeln!(text, "{BOLD:#}");
        for (row, member) in self.members.iter().enumerate() {
            let label = format!("{} {}", member.kind, member.name);
            let ip = member.place.ip().to_string();
            let _ = write!(
                text,
                "{:>number$}  {label:name$}  {DIM}{ip:address$}{DIM:#}",
                row + 1
            );
            for cell in &self.cells[row] {
                let (style, word) = match cell {
                    None => (DIM, "-".to_owned()),
                    Some(Outcome::Reply { ttl, .. }) => (GREEN, ttl.to_string()),
                    Some(Outcome::Error { .. }) => (RED, "err".to_owned()),
                    Some(Outcome::Lost) => (RED, "lost".to_owned()),
                    Some(Outcome::NotSent(_)) => (RED, "none".to_owned()),
                };
                let _ = write!(text, " {style}{word:>width$}{style:#}");
            }
            text.push('\n');
        }
        text
    }

    /// `30 of 30 pings answered; ttl 62, 63, 64; rtt min/avg/max 0.02/0.05/0.30 ms`
    pub(super) fn summary(&self) -> String {
        let mut ttls = Vec::new();
        let mut rtts = Vec::new();
        for outcome in self.outcomes() {
            if let Outcome::Reply { ttl, rtt } = outcome {
                ttls.push(*ttl);
                rtts.push(*rtt);
            }
        }
        ttls.sort_unstable();
        ttls.dedup();
        let ttls: Vec<String> = ttls.iter().map(ToString::to_string).collect();
        let style = if self.answered() == self.sent() {
            GREEN
        } else {
            RED
        };
        let mut text = format!(
            "{style}{} of {} pings answered{style:#}",
            self.answered(),
            self.sent()
        );
        if let (Some(min), Some(max)) = (rtts.iter().min(), rtts.iter().max()) {
            let sum: Duration = rtts.iter().sum();
            let count = u32::try_from(rtts.len()).unwrap_or(u32::MAX);
            let _ = write!(
                text,
                "; ttl {}; rtt min/avg/max {}/{}/{} ms",
                ttls.join(", "),
                ms(*min),
                ms(sum / count),
                ms(*max)
            );
        }
        text
    }

    /// One line for each ping that was not answered.
    pub(super) fn failures(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (from, row) in self.cells.iter().enumerate() {
            for (to, cell) in row.iter().enumerate() {
                let why = match cell {
                    None | Some(Outcome::Reply { .. }) => continue,
                    Some(Outcome::Error { from, error }) => format!("{error} (from {from})"),
                    Some(Outcome::Lost) => "no answer".to_owned(),
                    Some(Outcome::NotSent(why)) => format!("not sent: {why}"),
                };
                let (from, to) = (&self.members[from], &self.members[to]);
                let ip = to.place.ip();
                lines.push(format!(
                    "{} {} -> {} {} ({ip}): {why}",
                    from.kind, from.name, to.kind, to.name
                ));
            }
        }
        lines
    }

    /// The same for programs.
    pub(super) fn object(&self) -> Value {
        let mut pings = Vec::new();
        for (from, row) in self.cells.iter().enumerate() {
            for (to, cell) in row.iter().enumerate() {
                let Some(outcome) = cell else { continue };
                let (from, to) = (&self.members[from], &self.members[to]);
                let mut ping = json!({
                    "from": format!("{}/{}", from.kind, from.name),
                    "to": format!("{}/{}", to.kind, to.name),
                    "address": to.place.ip().to_string(),
                    "answered": outcome.is_reply(),
                });
                match outcome {
                    Outcome::Reply { ttl, rtt } => {
                        ping["ttl"] = json!(ttl);
                        ping["rttMicroseconds"] =
                            json!(u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX));
                    }
                    Outcome::Error { from, error } => {
                        ping["error"] = json!(error.to_string());
                        ping["reportedBy"] = json!(from.to_string());
                    }
                    Outcome::Lost => ping["error"] = json!("no answer"),
                    Outcome::NotSent(why) => ping["error"] = json!(why),
                }
                pings.push(ping);
            }
        }
        json!({
            "apiVersion": "podwire/v1",
            "kind": "PingMatrix",
            "sent": self.sent(),
            "answered": self.answered(),
            "items": pings,
        })
    }
}

/// Milliseconds with two decimals.
pub(super) fn ms(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1000.0)
}

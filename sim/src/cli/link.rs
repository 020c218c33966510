//! `podwire link`

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::capture::ports_of;
use super::failure::{FAILED, USAGE};
use super::target::{DEFAULT_NAMESPACE, find_node, find_pod, nodes, parse, pods};
use super::ui::Ui;
use super::{Failure, Global};
use crate::client::Client;
use crate::control::proto::{NodeCounters, NodeStatus, Request, Response, Target};
use crate::impair::{Impair, ImpairCounts, LinkImpair, Shape, percent, rate, time};
use crate::model::Pod;
use crate::view::kube::to_json;
use crate::view::table::Table;
use router_core::PortId;

const AFTER_HELP: &str = "\
A link is named by the pod at its end (POD, NS/POD) or by a node and an interface of it (NODE:IF, for example \
minikube:eth0). Directions are those of what is named: of a pod, `out` is what the pod sends; of NODE:IF, what the \
node sends by it. Without --direction both are meant, so that a delay of 20ms adds 40ms to a round trip.

Values have units: 20ms, 0.1%, 100mbit. They mean what they mean for netem (tc-netem(8)); what is not named stays as \
it was. The same --seed gives the same losses for the same frames. Impairments are in force at once, survive a node \
process that is killed, and go with the pod. `link show` tells of the node's side: `in` is what the node receives.";

/// Impairs links, cuts and mends them, and shows what is done to them.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Link {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Impair a link, or change how it is impaired
    Set(Box<Set>),
    /// Show what is done to links, and to how many frames
    Show(Show),
    /// Cut a link: nothing passes any more (routes stay, unlike with `podwire ip -n NODE link set IF down`)
    Down(Switch),
    /// Mend a link that was cut
    Up(Switch),
}

#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
struct Set {
    /// POD, NS/POD or NODE:IF
    #[arg(required = true)]
    target: Vec<String>,
    /// Kubernetes namespace of bare pod names
    #[arg(short, long, default_value = DEFAULT_NAMESPACE, env = "PODWIRE_NAMESPACE")]
    namespace: String,
    /// How long every frame is on its way
    #[arg(long, value_name = "TIME", value_parser = time)]
    delay: Option<u64>,
    /// By how much that varies
    #[arg(long, value_name = "TIME", value_parser = time)]
    jitter: Option<u64>,
    /// How it varies
    #[arg(long, value_enum)]
    distribution: Option<Shape>,
    /// Frames that are lost
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    loss: Option<u32>,
    /// Frames that come twice
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    duplicate: Option<u32>,
    /// Frames that have one bit wrong
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    corrupt: Option<u32>,
    /// Frames that are not delayed and so overtake others
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    reorder: Option<u32>,
    /// Bits per second
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<u64>,
    /// Frames that may wait; more are dropped and counted [default: 1000]
    #[arg(long, value_name = "FRAMES", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: Option<u32>,
    /// Where the random numbers begin [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Which way
    #[arg(long, value_enum, default_value_t)]
    direction: Direction,
    /// Leave the link alone, but for what else is named
    #[arg(long)]
    clear: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Direction {
    /// What it receives
    In,
    /// What it sends
    Out,
    /// Both
    #[default]
    Both,
}

#[derive(Args, Debug)]
struct Show {
    /// POD, NS/POD or NODE:IF [default: all that are impaired]
    target: Vec<String>,
    /// Kubernetes namespace of bare pod names
    #[arg(short, long, default_value = DEFAULT_NAMESPACE, env = "PODWIRE_NAMESPACE")]
    namespace: String,
    /// Output format
    #[arg(short, long, value_enum, default_value_t, env = "PODWIRE_OUTPUT")]
    output: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Table,
    Json,
}

#[derive(Args, Debug)]
struct Switch {
    /// POD, NS/POD or NODE:IF
    #[arg(required = true)]
    target: Vec<String>,
    /// Kubernetes namespace of bare pod names
    #[arg(short, long, default_value = DEFAULT_NAMESPACE, env = "PODWIRE_NAMESPACE")]
    namespace: String,
}

/// One end of a link, on a node.
struct End {
    node: String,
    port: PortId,
    /// Its user looks from the pod's side.
    of_pod: bool,
}

impl End {
    /// What is done to its frames now.
    fn present(&self, counted: &[NodeCounters]) -> LinkImpair {
        let node = counted
            .iter()
            .find(|c| c.node.as_deref() == Some(&self.node));
        let known = node.and_then(|c| c.impaired.iter().find(|(port, _)| *port == self.port));
        known.map_or_else(LinkImpair::default, |(_, wanted)| *wanted)
    }

    fn set(&self, client: &mut Client, impair: LinkImpair) -> Result<(), Failure> {
        let request = Request::Impair {
            node: self.node.clone(),
            port: self.port,
            impair,
        };
        match client.request(&request)? {
            Response::Done => Ok(()),
            _ => Err(client.unexpected("link").into()),
        }
    }
}

impl Link {
    pub(super) fn run(&self, global: &Global, ui: &Ui) -> Result<u8, Failure> {
        let mut client = Client::find(global.lab.as_deref())?;
        let statuses = nodes(&mut client)?;
        let pods = pods(&mut client)?;
        match &self.action {
            Action::Set(set) => {
                let ends = ends(&set.target, &set.namespace, &statuses, &pods)?;
                set.run(&mut client, &ends)
            }
            Action::Show(show) => {
                let ends = ends(&show.target, &show.namespace, &statuses, &pods)?;
                show.run(&mut client, &ends, ui)
            }
            Action::Down(switch) => switch.run(&mut client, true, &statuses, &pods),
            Action::Up(switch) => switch.run(&mut client, false, &statuses, &pods),
        }
    }
}

fn ends(
    words: &[String],
    namespace: &str,
    nodes: &[NodeStatus],
    pods: &[Pod],
) -> Result<Vec<End>, Failure> {
    let mut ends = Vec::new();
    for word in words {
        if let Some((name, iface)) = word.split_once(':') {
            let node = &find_node(nodes, name.strip_prefix("node/").unwrap_or(name))?.node;
            ends.extend(ports_of(node, iface)?.into_iter().map(|port| End {
                node: node.name.clone(),
                port,
                of_pod: false,
            }));
            continue;
        }
        let Target::Pod { namespace, name } = parse(word, namespace) else {
            let text = format!("{word} has many links: name one, NODE:IF");
            return Err(Failure::new(USAGE, text));
        };
        let pod = match find_pod(pods, &namespace, &name) {
            Err(_) if find_node(nodes, word).is_ok() => {
                let text = format!("{word} has many links: name one, {word}:IF");
                return Err(Failure::new(USAGE, text));
            }
            found => found?,
        };
        let Some(link) = &pod.link else {
            let text =
                format!("pod \"{word}\" is on its node's network and has no link of its own");
            return Err(Failure::new(FAILED, text));
        };
        ends.push(End {
            node: pod.node.clone(),
            port: link.port,
            of_pod: true,
        });
    }
    Ok(ends)
}

fn counters(client: &mut Client) -> Result<Vec<NodeCounters>, Failure> {
    match client.request(&Request::Stats)? {
        Response::Stats { nodes } => Ok(nodes),
        _ => Err(client.unexpected("stats").into()),
    }
}

impl Set {
    fn run(&self, client: &mut Client, ends: &[End]) -> Result<u8, Failure> {
        let counted = counters(client)?;
        for end in ends {
            let node = counted
                .iter()
                .find(|c| c.node.as_deref() == Some(&end.node));
            let known = node.and_then(|c| c.impaired.iter().find(|(port, _)| *port == end.port));
            let mut wanted = known.map_or_else(LinkImpair::default, |(_, wanted)| *wanted);
            // What a pod sends its node receives.
            let (sent, received) = if end.of_pod {
                (&mut wanted.rx, &mut wanted.tx)
            } else {
                (&mut wanted.tx, &mut wanted.rx)
            };
            if self.direction != Direction::In {
                self.change(sent)?;
            }
            if self.direction != Direction::Out {
                self.change(received)?;
            }
            end.set(client, wanted)?;
        }
        Ok(0)
    }

    fn change(&self, impair: &mut Impair) -> Result<(), Failure> {
        if self.clear {
            *impair = Impair::default();
        }
        let set32 = |place: &mut u32, value: Option<u32>| *place = value.unwrap_or(*place);
        let set64 = |place: &mut u64, value: Option<u64>| *place = value.unwrap_or(*place);
        set64(&mut impair.delay, self.delay);
        set64(&mut impair.jitter, self.jitter);
        set32(&mut impair.loss, self.loss);
        set32(&mut impair.duplicate, self.duplicate);
        set32(&mut impair.corrupt, self.corrupt);
        set32(&mut impair.reorder, self.reorder);
        set64(&mut impair.rate, self.rate);
        set32(&mut impair.limit, self.limit);
        set64(&mut impair.seed, self.seed);
        impair.distribution = self.distribution.unwrap_or(impair.distribution);
        impair.check().map_err(|text| Failure::new(USAGE, text))
    }
}

impl Switch {
    fn run(
        &self,
        client: &mut Client,
        down: bool,
        nodes: &[NodeStatus],
        pods: &[Pod],
    ) -> Result<u8, Failure> {
        let counted = counters(client)?;
        for end in ends(&self.target, &self.namespace, nodes, pods)? {
            let mut impair = end.present(&counted);
            impair.down = down;
            end.set(client, impair)?;
        }
        Ok(0)
    }
}

/// A direction of a link, for `link show`.
struct Row<'a> {
    node: &'a str,
    iface: &'a str,
    direction: &'static str,
    up: bool,
    impair: Impair,
    counts: ImpairCounts,
}

impl Show {
    fn run(&self, client: &mut Client, ends: &[End], ui: &Ui) -> Result<u8, Failure> {
        let counted = counters(client)?;
        let rows: Vec<Row<'_>> = counted.iter().flat_map(|node| rows(node, ends)).collect();
        match self.output {
            Format::Json => ui.data(&to_json(&json!({
                "schema": "podwire.links/1",
                "links": rows.iter().map(Row::json).collect::<Vec<Value>>(),
            }))),
            Format::Table if rows.is_empty() => ui.data("No link is impaired.\n"),
            Format::Table => {
                let mut table = Table::new([
                    "NODE",
                    "PORT",
                    "DIR",
                    "STATE",
                    "FRAMES",
                    "LOST",
                    "DROPPED",
                    "COPIES",
                    "DAMAGED",
                    "OVERTAKING",
                    "WAITING",
                    "IMPAIRMENTS",
                ]);
                for row in &rows {
                    let c = row.counts;
                    let numbers = [
                        c.received,
                        c.lost,
                        c.dropped,
                        c.duplicated,
                        c.corrupted,
                        c.reordered,
                        c.held,
                    ];
                    let state = if row.up { "up" } else { "down" };
                    let words = row.impair.words();
                    let words = if words.is_empty() {
                        "-".to_owned()
                    } else {
                        words
                    };
                    let names = [row.node, row.iface, row.direction, state].map(str::to_owned);
                    let cells = names.into_iter().chain(numbers.map(|n| n.to_string()));
                    table.row(cells.chain([words]));
                }
                ui.data(&table.render(false));
            }
        }
        Ok(0)
    }
}

fn rows<'a>(node: &'a NodeCounters, ends: &[End]) -> Vec<Row<'a>> {
    let Some(name) = node.node.as_deref() else {
        return Vec::new();
    };
    let mut rows = Vec::new();
    for (port, iface) in &node.ports {
        let wanted = node.impaired.iter().find(|(id, _)| id == port);
        let counts = node.stats.impaired.iter().find(|c| c.port == *port);
        let named = ends.iter().any(|end| end.node == name && end.port == *port);
        let shown = if ends.is_empty() {
            wanted.is_some()
        } else {
            named
        };
        if !shown {
            continue;
        }
        let wanted = wanted.map_or_else(LinkImpair::default, |(_, wanted)| *wanted);
        let up = !wanted.down;
        let both = [
            ("in", wanted.rx, counts.map(|c| c.rx)),
            ("out", wanted.tx, counts.map(|c| c.tx)),
        ];
        rows.extend(both.map(|(direction, impair, counts)| Row {
            node: name,
            iface,
            direction,
            up,
            impair,
            counts: counts.unwrap_or_default(),
        }));
    }
    rows
}

impl Row<'_> {
    fn json(&self) -> Value {
        json!({
            "node": self.node, "port": self.iface, "direction": self.direction, "up": self.up,
            "impairments": self.impair.words(), "counts": self.counts,
            "conserved": self.counts.is_conserved(),
        })
    }
}

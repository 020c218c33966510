//! `podwire trace`

use clap::{Args, ValueEnum};

use super::failure::{FAILED, USAGE};
use super::target::{DEFAULT_NAMESPACE, Place, nodes, place, pods};
use super::ui::{CYAN, DIM, GREEN, RED, Ui};
use super::{Failure, Global};
use crate::client::Client;
use crate::control::proto::{Request, Response};
use crate::trace::{Protocol, Wanted};
use crate::view::kube::to_json;
use crate::view::trace::{Report, Styles};

const AFTER_HELP: &str = "\
The packet is a real one: it is handed to the source's router as if the source had sent it, and every stage that it \
meets on every node reports what it decided. What the source's own kernel does before that is taken from the model, \
and marked so. With -v every step is shown, with its time.

The last line is the verdict. Exit status 0: answered, or delivered without an answer (a UDP server need not give \
one); 1: it, or the answer to it, was dropped or lost.

JSON (podwire.trace/1): source, destination, packet, origin (derived from the model), hops (node, role = packet | \
answer | error, steps with at_us, text, step and its fields), timed_out, verdict (outcome = answered | delivered | \
answer-dropped | dropped | refused | lost; good, text, node, reason).";

/// Follows one packet.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Trace {
    /// Who sends it: POD, NS/POD or node/NODE
    from: String,
    /// To whom: POD, NS/POD, node/NODE or an IPv4 address
    to: String,
    /// Kubernetes namespace of bare pod names
    #[arg(short, long, default_value = DEFAULT_NAMESPACE, env = "PODWIRE_NAMESPACE")]
    namespace: String,
    /// What is sent: an echo request, a SYN or a datagram
    #[arg(short, long, value_enum, default_value_t)]
    proto: Protocol,
    /// Destination port of TCP and UDP [default: 80 for TCP, 33434 for UDP]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    dport: Option<u16>,
    /// Source port of TCP and UDP; identifier of an echo request
    #[arg(long, default_value_t = 40_000, value_parser = clap::value_parser!(u16).range(1..))]
    sport: u16,
    /// Bytes of the whole IPv4 packet [default: 84 for ICMP, 40 for TCP, 60 for UDP]
    #[arg(short, long)]
    size: Option<u16>,
    /// TTL that it starts with
    #[arg(short, long, default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..))]
    ttl: u8,
    /// Set DF: it must not be cut
    #[arg(long)]
    df: bool,
    /// Output format
    #[arg(short, long, value_enum, default_value_t, env = "PODWIRE_OUTPUT")]
    output: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
}

impl Trace {
    pub(super) fn run(&self, global: &Global, ui: &Ui) -> Result<u8, Failure> {
        if self.proto == Protocol::Icmp && self.dport.is_some() {
            let text = "--dport belongs to TCP and UDP; say --proto tcp or --proto udp";
            return Err(Failure::new(USAGE, text));
        }
        let mut client = Client::find(global.lab.as_deref())?;
        let statuses = nodes(&mut client)?;
        let pods = pods(&mut client)?;
        let Place::Member { target, .. } = place(&self.from, &self.namespace, &statuses, &pods)?
        else {
            let text = format!("{} is an address; a pod or a node can send", self.from);
            return Err(Failure::new(USAGE, text));
        };
        let to = place(&self.to, &self.namespace, &statuses, &pods)?;
        let (size, dport) = match self.proto {
            Protocol::Icmp => (84, 0),
            Protocol::Tcp => (40, 80),
            Protocol::Udp => (60, 33_434),
        };
        let wanted = Wanted {
            from: target,
            to: to.ip(),
            protocol: self.proto,
            sport: self.sport,
            dport: self.dport.unwrap_or(dport),
            size: self.size.unwrap_or(size),
            ttl: self.ttl,
            df: self.df,
        };
        let request = Request::Trace {
            wanted: Box::new(wanted.clone()),
        };
        let Response::Trace { collected } = client.request(&request)? else {
            return Err(client.unexpected("trace").into());
        };
        let models: Vec<_> = statuses.into_iter().map(|status| status.node).collect();
        let report = Report {
            wanted: &wanted,
            collected: &collected,
            nodes: &models,
            pods: &pods,
        };
        match self.output {
            Format::Json => ui.data(&to_json(&report.json())),
            Format::Text => {
                let styles = Styles {
                    node: CYAN,
                    dim: DIM,
                    good: GREEN,
                    bad: RED,
                };
                ui.data(&report.text(global.verbose, &styles));
            }
        }
        Ok(if report.verdict().is_good() {
            0
        } else {
            FAILED
        })
    }
}

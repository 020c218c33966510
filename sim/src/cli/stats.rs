//! `podwire stats`

use clap::{Args, ValueEnum};

use super::failure::{BUG, FAILED};
use super::target::{find_node, nodes};
use super::ui::Ui;
use super::{Failure, Global};
use crate::client::Client;
use crate::control::proto::{Request, Response};
use crate::view::kube::to_json;
use crate::view::stats::Report;

const AFTER_HELP: &str = "\
Frames and bytes include the Ethernet header. Every frame that a router is given or makes ends in exactly one place; \
the last lines add up both sides and say whether they agree (exit status 70 if not, which would be a bug).

A superframe, which a pod hands over instead of up to 45 segments of TCP, is one frame. With -o wide, SEGMENTS are the \
frames that a wire would have carried; NOT-TAKEN are those the device of the port could not take, BROKEN those it \
handed in malformed, MISSED those it had no room for.

JSON: nodes (name, ports with what their devices and links did, drops, events, routes, held, workers, tracking, \
journal_behind, conservation), lab (sums). Reasons are the names that traces use.";

/// Shows counters.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Stats {
    /// Only this node
    node: Option<String>,
    /// Only this port, by its interface name
    #[arg(short, long, value_name = "IF")]
    port: Option<String>,
    /// Only what was dropped, and why
    #[arg(short, long)]
    drops: bool,
    /// Output format
    #[arg(short, long, value_enum, default_value_t, env = "PODWIRE_OUTPUT")]
    output: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Table,
    Wide,
    Json,
}

impl Stats {
    pub(super) fn run(&self, global: &Global, ui: &Ui) -> Result<u8, Failure> {
        let mut client = Client::find(global.lab.as_deref())?;
        let statuses = nodes(&mut client)?;
        if let Some(name) = &self.node {
            let name = name.strip_prefix("node/").unwrap_or(name);
            find_node(&statuses, name)?;
        }
        let Response::Stats { nodes: mut counted } = client.request(&Request::Stats)? else {
            return Err(client.unexpected("stats").into());
        };
        if let Some(name) = &self.node {
            let name = name.strip_prefix("node/").unwrap_or(name);
            counted.retain(|c| c.node.as_deref() == Some(name));
        }
        let report = Report::new(&counted, self.port.as_deref(), self.drops);
        if let Some(port) = &self.port
            && !report.has_ports()
        {
            let names = report.port_names();
            let best = names.iter().max_by(|a, b| {
                strsim::jaro_winkler(port, a).total_cmp(&strsim::jaro_winkler(port, b))
            });
            let hint = best.map_or_else(String::new, |best| format!("; did you mean \"{best}\"?"));
            return Err(Failure::new(
                FAILED,
                format!("no port is called \"{port}\"{hint}"),
            ));
        }
        match self.output {
            Format::Json => ui.data(&to_json(&report.json())),
            Format::Table | Format::Wide => {
                ui.data(&report.table(global.verbose, self.output == Format::Wide));
            }
        }
        Ok(if report.is_conserved() { 0 } else { BUG })
    }
}

//! `podwire nat`

use std::net::Ipv4Addr;

use clap::{Args, Subcommand, ValueEnum};
use router_core::Filter;

use super::failure::USAGE;
use super::target::{find_node, nodes};
use super::ui::Ui;
use super::{Failure, Global};
use crate::client::Client;
use crate::control::proto::{Request, Response};
use crate::view::{nat, sysctl};

/// Show a node's nat table and connections, or forget connections
#[derive(Args, Debug)]
pub(super) struct Nat {
    /// Whose [default: the only node]
    #[arg(short, long, value_name = "NODE", env = "PODWIRE_NODE")]
    node: Option<String>,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The rules with their counters, as iptables -t nat -nvL lists them
    Rules {
        /// Output format
        #[arg(short, long, value_enum)]
        output: Option<Format>,
    },
    /// The connections, as conntrack -L lists them
    Sessions {
        #[command(flatten)]
        which: Which,
        /// Output format
        #[arg(short, long, value_enum)]
        output: Option<Format>,
    },
    /// How connections are tracked, as sysctl -a -r nf_conntrack prints it
    Sysctl {
        /// Output format
        #[arg(short, long, value_enum)]
        output: Option<Format>,
    },
    /// Forget connections (all, unless something says which), as conntrack -D and -F do
    Flush {
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Json,
}

/// Which connections.
#[derive(Args, Debug)]
struct Which {
    /// Protocol: tcp, udp, icmp, sctp, gre or its number
    #[arg(short, long, value_parser = protocol)]
    protocol: Option<u8>,
    /// Original source
    #[arg(short, long)]
    src: Option<Ipv4Addr>,
    /// Original destination
    #[arg(short, long)]
    dst: Option<Ipv4Addr>,
    /// Original source port
    #[arg(long)]
    sport: Option<u16>,
    /// Original destination port
    #[arg(long)]
    dport: Option<u16>,
    /// Source of the reply
    #[arg(short, long)]
    reply_src: Option<Ipv4Addr>,
    /// Destination of the reply
    #[arg(long)]
    reply_dst: Option<Ipv4Addr>,
}

impl Which {
    fn filter(&self) -> Filter {
        Filter {
            protocol: self.protocol,
            src: self.src,
            dst: self.dst,
            sport: self.sport,
            dport: self.dport,
            reply_src: self.reply_src,
            reply_dst: self.reply_dst,
            involves: None,
        }
    }
}

fn protocol(word: &str) -> Result<u8, String> {
    Ok(match word {
        "tcp" => 6,
        "udp" => 17,
        "icmp" => 1,
        "sctp" => 132,
        "gre" => 47,
        number => number
            .parse()
            .map_err(|_| "neither tcp, udp, icmp, sctp, gre nor a number up to 255".to_owned())?,
    })
}

impl Nat {
    pub(super) fn run(&self, global: &Global, ui: &Ui) -> Result<u8, Failure> {
        let mut client = Client::find(global.lab.as_deref())?;
        let nodes = nodes(&mut client)?;
        let status = match (&self.node, nodes.as_slice()) {
            (Some(name), nodes) => find_node(nodes, name)?,
            (None, [only]) => only,
            (None, nodes) => {
                let names: Vec<&str> = nodes.iter().map(|s| s.node.name.as_str()).collect();
                let text = format!("whose? Say -n NODE: {}", names.join(", "));
                return Err(Failure::new(USAGE, text));
            }
        };
        let node = status.node.name.clone();
        match &self.what {
            What::Rules { output } => {
                let Response::Nat { table, counts } = client.request(&Request::Nat { node })?
                else {
                    return Err(client.unexpected("nat").into());
                };
                match output {
                    Some(Format::Json) => {
                        json(ui, &serde_json::json!({"table": *table, "counts": counts}));
                    }
                    None => {
                        let name = |port| {
                            let iface = status.node.ifaces.iter().find(|i| i.port == Some(port));
                            iface.map_or_else(|| format!("port{}", port.0), |i| i.name.clone())
                        };
                        ui.data(&nat::rules(&table, &counts, name));
                    }
                }
            }
            What::Sessions { which, output } => {
                let filter = which.filter();
                let request = Request::Sessions { node, filter };
                let Response::Sessions { sessions } = client.request(&request)? else {
                    return Err(client.unexpected("sessions").into());
                };
                match output {
                    Some(Format::Json) => json(ui, &serde_json::json!(sessions)),
                    None => ui.data(&nat::sessions(&sessions)),
                }
            }
            What::Sysctl { output } => {
                let request = Request::Nat { node: node.clone() };
                let Response::Nat { table, .. } = client.request(&request)? else {
                    return Err(client.unexpected("nat").into());
                };
                let Response::Stats { nodes } = client.request(&Request::Stats)? else {
                    return Err(client.unexpected("stats").into());
                };
                let counted = nodes.iter().find(|n| n.node.as_ref() == Some(&node));
                let tracking = counted.and_then(|n| n.stats.tracking);
                let count = tracking.map_or(0, |tracking| tracking.connections);
                let values = sysctl::conntrack(&table.conntrack, count);
                match output {
                    Some(Format::Json) => json(ui, &serde_json::json!(values)),
                    None => ui.data(&sysctl::text(&values)),
                }
            }
            What::Flush { which } => {
                let filter = which.filter();
                let request = Request::FlushSessions { node, filter };
                let Response::Changes { lines } = client.request(&request)? else {
                    return Err(client.unexpected("flush").into());
                };
                for line in lines {
                    ui.talk(line);
                }
            }
        }
        Ok(0)
    }
}

fn json(ui: &Ui, value: &serde_json::Value) {
    ui.data(&format!("{value:#}\n"));
}

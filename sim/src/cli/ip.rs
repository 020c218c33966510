//! `podwire ip`

use clap::Args;

use super::failure::{FAILED, USAGE};
use super::target::{find_node, nodes, with_routes};
use super::ui::Ui;
use super::{Failure, Global};
use crate::client::Client;
use crate::control::proto::{Request, Response};
use crate::view::ip::{Action, parse, print};

/// iproute2's command line; see `podwire ip -n NODE help`.
#[derive(Args, Debug)]
#[command(
    disable_help_flag = true,
    override_usage = "podwire ip -n NODE [OPTIONS] OBJECT { COMMAND | help }"
)]
pub(super) struct Ip {
    /// Everything after `ip`
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "WORDS"
    )]
    words: Vec<String>,
}

impl Ip {
    pub(super) fn run(&self, global: &Global, ui: &Ui) -> Result<u8, Failure> {
        let invocation =
            parse(&self.words).map_err(|error| Failure::verbatim(error.status, error.message))?;
        let action = match &invocation.action {
            Action::Say(text) => {
                ui.data(text);
                return Ok(0);
            }
            action => action,
        };
        let mut client = Client::find(global.lab.as_deref())?;
        let nodes = nodes(&mut client)?;
        let default = std::env::var("PODWIRE_NODE").ok();
        let name = invocation.node.as_ref().or(default.as_ref());
        let status = match (name, nodes.as_slice()) {
            (Some(name), nodes) => find_node(nodes, name)?,
            (None, [only]) => only,
            (None, nodes) => {
                let names: Vec<&str> = nodes.iter().map(|s| s.node.name.as_str()).collect();
                let text = format!("whose view? Say -n NODE: {}", names.join(", "));
                return Err(Failure::new(USAGE, text));
            }
        };
        let node = status.node.name.clone();
        match action {
            Action::Say(_) => Ok(0),
            Action::View(view) => {
                let neighbours = if view.wants_neighbours() {
                    match client.request(&Request::Neighbours { node })? {
                        Response::Neighbours { neighbours } => neighbours,
                        _ => return Err(client.unexpected("neighbours").into()),
                    }
                } else {
                    Vec::new()
                };
                let node = with_routes(&mut client, &status.node)?;
                let text = print(view, &invocation.options, &node, &neighbours)
                    .map_err(|error| Failure::verbatim(error.status, error.message))?;
                ui.data(&text);
                Ok(0)
            }
            Action::Change(words) => {
                let args = words.clone();
                match client.request(&Request::IpChange { node, args })? {
                    Response::Done | Response::Changes { .. } => Ok(0),
                    Response::IpError { message, status } => {
                        Err(Failure::verbatim(status.max(FAILED), message))
                    }
                    _ => Err(client.unexpected("ip").into()),
                }
            }
        }
    }
}

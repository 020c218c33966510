//! `podwire node`

use std::net::Ipv4Addr;

use clap::{Args, Subcommand};

use super::ui::Ui;
use super::{Failure, Global};
use crate::client::Client;
use crate::control::proto::{Request, Response};

/// Changes the set of nodes.
#[derive(Args, Debug)]
pub(super) struct Node {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Let a node join
    Add {
        /// Its name
        name: String,
        /// Its address [default: the next free one of the node subnet]
        #[arg(long, value_name = "ADDRESS")]
        ip: Option<Ipv4Addr>,
    },
    /// Remove nodes and their pods
    #[command(visible_alias = "del")]
    Delete {
        /// Their names
        #[arg(required = true)]
        names: Vec<String>,
    },
}

impl Node {
    pub(super) fn run(&self, global: &Global, ui: &Ui) -> Result<u8, Failure> {
        let mut client = Client::find(global.lab.as_deref())?;
        match &self.action {
            Action::Add { name, ip } => {
                let request = Request::AddNode {
                    name: name.clone(),
                    internal_ip: *ip,
                    spec: None,
                };
                change(&mut client, &request, ui)?;
            }
            Action::Delete { names } => {
                super::delete::nodes(&mut client, names, ui)?;
            }
        }
        Ok(0)
    }
}

/// Sends a change and prints what the daemon did.
pub(super) fn change(client: &mut Client, request: &Request, ui: &Ui) -> Result<(), Failure> {
    match client.request(request)? {
        Response::Changes { lines } => {
            let text: String = lines.into_iter().map(|line| line + "\n").collect();
            ui.data(&text);
            Ok(())
        }
        Response::Done => Ok(()),
        _ => Err(client.unexpected("change").into()),
    }
}

//! `podwire logs`

use clap::Args;

use super::target::{DEFAULT_NAMESPACE, find_node, nodes, parse, pods};
use super::ui::Ui;
use super::{Failure, Global};
use crate::client::Client;
use crate::control::proto::{LogSource, Request, Response, Target};

/// Prints a log.
#[derive(Args, Debug)]
pub(super) struct Logs {
    /// POD, NS/POD, node/NODE, NODE, or `daemon`
    source: String,
    /// Kubernetes namespace
    #[arg(short, long, default_value = DEFAULT_NAMESPACE, env = "PODWIRE_NAMESPACE")]
    namespace: String,
    /// Go on with new lines until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Only that many last lines
    #[arg(long, value_name = "N")]
    tail: Option<usize>,
}

impl Logs {
    pub(super) fn run(&self, global: &Global, ui: &Ui) -> Result<u8, Failure> {
        let mut client = Client::find(global.lab.as_deref())?;
        let source = self.source(&mut client)?;
        let request = Request::Logs {
            source,
            follow: self.follow,
            tail: self.tail,
        };
        let mut answer = Some(client.request(&request)?);
        while let Some(response) = answer {
            match response {
                Response::Log { text } => ui.data(&text),
                Response::Done => break,
                _ => return Err(client.unexpected("logs").into()),
            }
            if !self.follow {
                break;
            }
            answer = client.follow()?;
        }
        Ok(0)
    }

    fn source(&self, client: &mut Client) -> Result<LogSource, Failure> {
        let target = parse(&self.source, &self.namespace);
        let (namespace, name) = match target {
            Target::Node { name } => {
                find_node(&nodes(client)?, &name)?;
                return Ok(LogSource::Node { name });
            }
            Target::Pod { namespace, name } => (namespace, name),
        };
        let pods = pods(client)?;
        match super::target::find_pod(&pods, &namespace, &name) {
            Ok(_) => Ok(LogSource::Pod { namespace, name }),
            // A pod goes before anything else of its name.
            Err(_) if self.source == "daemon" => Ok(LogSource::Daemon),
            Err(failure) => match find_node(&nodes(client)?, &self.source) {
                Ok(_) => Ok(LogSource::Node {
                    name: self.source.clone(),
                }),
                Err(_) => Err(failure),
            },
        }
    }
}

//! `podwire exec` and `podwire shell`

use std::io::IsTerminal as _;

use clap::Args;

use super::target::{DEFAULT_NAMESPACE, find_node, find_pod, nodes, parse, pods};
use super::{Failure, Global};
use crate::client::Client;
use crate::client::enter;
use crate::control::proto::Target;

/// Runs a program.
#[derive(Args, Debug)]
pub(super) struct Exec {
    /// POD, NS/POD or node/NODE
    target: String,
    /// Kubernetes namespace
    #[arg(short, long, default_value = DEFAULT_NAMESPACE, env = "PODWIRE_NAMESPACE")]
    namespace: String,
    /// Keep standard input; it always is, the letter is for kubectl's -it
    #[arg(short = 'i', long = "stdin")]
    _stdin: bool,
    /// Insist on a terminal: fails when standard input is none
    #[arg(short, long)]
    tty: bool,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Starts a shell.
#[derive(Args, Debug)]
pub(super) struct Shell {
    /// POD, NS/POD or node/NODE
    target: String,
    /// Kubernetes namespace
    #[arg(short, long, default_value = DEFAULT_NAMESPACE, env = "PODWIRE_NAMESPACE")]
    namespace: String,
}

impl Exec {
    pub(super) fn run(&self, global: &Global) -> Result<u8, Failure> {
        if self.tty && !std::io::stdin().is_terminal() {
            return Err(Failure::new(
                1,
                "standard input is not a terminal (leave out -t)",
            ));
        }
        let (client, target) = find(&self.target, &self.namespace, global)?;
        Ok(enter::run(client, target, &self.command)?)
    }
}

impl Shell {
    pub(super) fn run(&self, global: &Global) -> Result<u8, Failure> {
        let (client, target) = find(&self.target, &self.namespace, global)?;
        // The pod sees the host's files, so the user's own shell is there.
        let shell = std::env::var("SHELL").unwrap_or_default();
        let shell = if shell.is_empty() {
            "/bin/sh".to_owned()
        } else {
            shell
        };
        Ok(enter::run(client, target, &[shell])?)
    }
}

/// Connects and checks the name, so that the answer to a typo is a hint.
fn find(word: &str, namespace: &str, global: &Global) -> Result<(Client, Target), Failure> {
    let failed = |failure: Failure| {
        // Everything that keeps the program from being started is 125, except what this back end can't do at all.
        let code = if failure.code == super::failure::UNSUPPORTED {
            failure.code
        } else {
            enter::EXIT_FAILURE
        };
        Failure { code, ..failure }
    };
    let mut client = Client::find(global.lab.as_deref()).map_err(|error| failed(error.into()))?;
    let target = parse(word, namespace);
    match &target {
        Target::Node { name } => {
            let nodes = nodes(&mut client).map_err(failed)?;
            find_node(&nodes, name).map_err(failed)?;
        }
        Target::Pod { namespace, name } => {
            let pods = pods(&mut client).map_err(failed)?;
            find_pod(&pods, namespace, name).map_err(failed)?;
        }
    }
    Ok((client, target))
}
